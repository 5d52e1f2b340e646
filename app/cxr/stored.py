"""Films at their full depth, for a viewer that lays its own window over them.

A Radiograph is what is displayed, 8 bits of it. Here are the values behind it: unsigned, of 8 or 16
bits, with all that is needed to show them and to tell what they stand for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from app.cxr import picture_in
from app.cxr.radiograph import TAILS, blocks, decoded, every_nth, grey_range

Ends = tuple[float, float]
_LARGEST = 65535


@dataclass(frozen=True, eq=False)
class StoredValues:
    """The pixels of a film before any window, in the shape in which a Radiograph shows them.

    ``pixels``: uint8 or uint16 ``(height, width)``. A pixel stands for ``pixel * slope +
    intercept``, its value after the modality LUT (PS3.3 C.11.1). ``bits``: how deep the film was
    stored. ``inverted``: high values are dark (MONOCHROME1). ``start``: the pixel values to show
    black and white at first (white and black where ``inverted``); ``window``: those that the file
    itself asks for, None where it does not.
    """

    pixels: np.ndarray
    bits: int
    start: Ends
    window: Ends | None = None
    slope: float = 1.0
    intercept: float = 0.0
    inverted: bool = False


def read_stored(source: bytes | Path) -> StoredValues:
    """Decode a film from a path or a file's bytes; raises UnreadableFilm and nothing else."""
    return decoded(source, _of_picture, _of_dicom)


def of_grey(grey: np.ndarray) -> StoredValues:
    """A film that has no more than its 8 bits of displayed grey, uint8 ``(height, width)``."""
    return StoredValues(grey, bits=8, start=(0, 255))


@dataclass(frozen=True)
class Packing:
    """How values of any kind become uint8 or uint16: ``pixel * slope + intercept`` is the value.

    Integers keep their steps wherever they span no more than 16 bits, and their very values where
    these need no sign. Values that are no number become the lowest.
    """

    dtype: type[np.uint8 | np.uint16]
    slope: float = 1.0
    intercept: float = 0.0

    @classmethod
    def for_parts(cls, parts: Iterable[np.ndarray]) -> Packing:
        """The one that all the values of a film go into, given part by part."""
        ends, is_fraction = [], False
        for part in parts:
            is_fraction = part.dtype.kind == "f"
            finite = part[np.isfinite(part)] if is_fraction else part
            if finite.size:
                ends += [float(finite.min()), float(finite.max())]
        low, high = (min(ends), max(ends)) if ends else (0.0, 0.0)
        if not is_fraction and low >= 0 and high <= _LARGEST:
            return cls(np.uint8 if high <= 255 else np.uint16)
        if not is_fraction and high - low <= _LARGEST:
            return cls(np.uint16, 1.0, low)
        return cls(np.uint16, (high - low) / _LARGEST or 1.0, low)

    def pack(self, values: np.ndarray) -> np.ndarray:
        """Values as pixels, of the same shape."""
        if values.dtype.kind == "f":
            low, high = self.intercept, self.intercept + self.slope * _LARGEST
            values = np.clip(np.nan_to_num(values, nan=low, posinf=high, neginf=low), low, high)
        elif self.slope == 1:
            return (values - int(self.intercept) if self.intercept else values).astype(self.dtype)
        return np.rint((values.astype(np.float64) - self.intercept) / self.slope).astype(self.dtype)


def packed(
    values: np.ndarray, through: Callable[[np.ndarray], np.ndarray] = lambda block: block
) -> tuple[np.ndarray, float, float]:
    """A film's values as pixels with slope and intercept (`Packing`), each block of them first sent
    ``through`` a function.
    """
    packing = Packing.for_parts(through(values[rows]) for rows in blocks(values.shape))
    pixels = np.empty(values.shape, packing.dtype)
    for rows in blocks(values.shape):
        pixels[rows] = packing.pack(through(values[rows]))
    return pixels, packing.slope, packing.intercept


def usual_ends(pixels: np.ndarray, slope: float, intercept: float, declared: int | None) -> Ends:
    """The pixel values to show black and white where no window is given (`grey_range`)."""
    low, high = sorted(np.percentile(every_nth(pixels), TAILS) * slope + intercept)
    ends = grey_range(low, high, declared, fractions=high <= 1 and abs(slope) < 1)
    black, white = sorted((end - intercept) / slope for end in ends)
    return black, white


def _of_picture(image: Image.Image) -> StoredValues:
    image.load()
    if not picture_in.is_deep(image):
        return of_grey(picture_in.displayed(image))
    packing = Packing.for_parts(picture_in.value_strips(image))
    pixels = picture_in.at_full_depth(image, packing.pack)
    _, declared = picture_in.deep_values(image)
    return StoredValues(
        pixels,
        bits=8 * pixels.dtype.itemsize,
        start=usual_ends(pixels, packing.slope, packing.intercept, declared),
        slope=packing.slope,
        intercept=packing.intercept,
        inverted=picture_in.white_is_zero(image),
    )


def _of_dicom(content: bytes) -> StoredValues:
    # pydicom takes long and much memory to import; most clinics' films are JPEG.
    from app.cxr import dicom_in

    return dicom_in.read_stored_values(content)
