"""Films at their full depth, for a viewer that lays its own window over them.

A Radiograph is what is displayed, 8 bits of it. Here are the values behind it: unsigned, of 8 or 16
bits, with all that is needed to show them and to tell what they stand for.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from app.cxr.radiograph import (
    TAILS,
    decoded,
    deep_values,
    grey_picture,
    grey_range,
    is_deep,
    upright,
    white_is_zero,
)

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


def packed(values: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Values of any kind as uint8 or uint16, with slope and intercept: ``pixel * slope +
    intercept`` is the value.

    Integers keep their steps wherever they span no more than 16 bits, and their very values where
    these need no sign. Values that are no number become the lowest.
    """
    if values.dtype.kind == "f":
        finite = values[np.isfinite(values)]
        low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
        values = np.clip(np.nan_to_num(values, nan=low, posinf=high, neginf=low), low, high)
    else:
        low, high = float(values.min()), float(values.max())
        if low >= 0 and high <= _LARGEST:
            return values.astype(np.uint8 if high <= 255 else np.uint16), 1.0, 0.0
        if high - low <= _LARGEST:
            return (values.astype(np.int64) - int(low)).astype(np.uint16), 1.0, low
    slope = (high - low) / _LARGEST or 1.0
    return np.rint((values.astype(np.float64) - low) / slope).astype(np.uint16), slope, low


def usual_ends(pixels: np.ndarray, slope: float, intercept: float, declared: int | None) -> Ends:
    """The pixel values to show black and white where no window is given (`grey_range`)."""
    sample = pixels.ravel()[:: max(1, pixels.size // 1_000_000)]
    low, high = sorted(np.percentile(sample, TAILS) * slope + intercept)
    ends = grey_range(low, high, declared, fractions=high <= 1 and abs(slope) < 1)
    black, white = sorted((end - intercept) / slope for end in ends)
    return black, white


def _of_picture(image: Image.Image) -> StoredValues:
    image.load()
    if not is_deep(image):
        return of_grey(upright(grey_picture(image), image))
    values, declared = deep_values(image)
    pixels, slope, intercept = packed(values)
    return StoredValues(
        upright(Image.fromarray(pixels), image),
        bits=8 * pixels.dtype.itemsize,
        start=usual_ends(pixels, slope, intercept, declared),
        slope=slope,
        intercept=intercept,
        inverted=white_is_zero(image),
    )


def _of_dicom(content: bytes) -> StoredValues:
    # pydicom takes long and much memory to import; most clinics' films are JPEG.
    from app.cxr import dicom_in

    return dicom_in.read_stored_values(content)
