"""The grey scale pipeline of DICOM: from stored values to what is displayed.

PS3.3 C.11 and PS3.4 N.2: stored values, modality LUT or rescale, VOI LUT or window, and last the
inversion that MONOCHROME1 asks for. All of these treat each pixel by itself, so they are computed
once for each stored value that can occur and looked up for the pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from app.cxr.dicom_tags import code, number, real
from app.cxr.radiograph import blocks, grey_from_depth, grey_range, percentiles, to_bytes
from app.cxr.stored import Ends, StoredValues, packed, usual_ends

Through = Callable[[np.ndarray], np.ndarray]
# So far apart may values lie for a table of all that can occur; 17 bits hold any sign of 16.
_WIDEST = 1 << 17


def at_full_depth(stored: np.ndarray, dataset: Dataset, inverted: bool) -> StoredValues:
    """Stored values before any window; ``inverted``: they are MONOCHROME1."""
    slope, intercept = 1.0, 0.0
    through = _padding_filled(stored, dataset, inverted)
    if dataset.get("ModalityLUTSequence") and stored.dtype.kind in "iu":
        through = _looked_up_after(through, stored, dataset)
    else:
        slope, intercept = _rescale(dataset) or (1.0, 0.0)
    pixels, step, lowest = packed(stored, through)
    slope, intercept = slope * step, slope * lowest + intercept
    window = _ends_of(_window_ends(dataset), pixels, slope, intercept)
    depth = number(dataset, "BitsStored")
    return StoredValues(
        pixels,
        bits=depth or 8 * pixels.dtype.itemsize,
        start=window
        or _ends_of(_table_ends(pixels, slope, intercept, dataset), pixels, slope, intercept)
        or usual_ends(pixels, slope, intercept, depth),
        window=window,
        slope=slope,
        intercept=intercept,
        inverted=inverted != (slope < 0),
    )


def displayed(stored: np.ndarray, dataset: Dataset, inverted: bool) -> np.ndarray:
    """Stored values as displayed, uint8; ``inverted``: they are MONOCHROME1."""
    if stored.dtype.kind == "f":
        return _inverted(grey_from_depth(stored, number(dataset, "BitsStored")), inverted)
    found = _occurring(stored)
    padding = _padding(dataset, stored.dtype)
    is_padding = np.zeros(found.ramp.shape, bool)
    if padding is not None:
        is_padding = (found.ramp >= padding[0]) & (found.ramp <= padding[1])
    found.counts[is_padding] = 0
    grey = _inverted(_shown(found.ramp, found.counts, dataset), inverted)
    grey[is_padding] = 0  # PS3.3 C.7.5.1.1.2: no part of the picture, so shown as its black rim
    return found.through(grey, stored)


@dataclass(frozen=True)
class Occurring:
    """The values of a film in ascending order, all between the lowest and the highest unless these
    lie too far apart, and how often each occurs.
    """

    ramp: np.ndarray
    counts: np.ndarray

    def places(self, stored: np.ndarray) -> np.ndarray:
        """Of each pixel its place among the values."""
        if len(self.ramp) == self.ramp[-1] - self.ramp[0] + 1:
            return stored.astype(np.int64) - self.ramp[0] if self.ramp[0] else stored
        return np.searchsorted(self.ramp, stored)

    def through(self, table: np.ndarray, stored: np.ndarray) -> np.ndarray:
        """Each pixel as the table, of one entry for each value, has it."""
        shown = np.empty(stored.shape, table.dtype)
        for rows in blocks(stored.shape):
            shown[rows] = table[self.places(stored[rows])]
        return shown


def _occurring(stored: np.ndarray) -> Occurring:
    lowest, highest = int(stored.min()), int(stored.max())
    if highest - lowest > _WIDEST:
        ramp, counts = np.unique(stored, return_counts=True)
        return Occurring(ramp.astype(np.int64), counts)
    ramp = np.arange(lowest, highest + 1)
    found = Occurring(ramp, np.zeros(ramp.shape, np.int64))
    for rows in blocks(stored.shape):
        places = found.places(stored[rows])
        found.counts[:] += np.bincount(places.ravel(), minlength=ramp.size)
    return found


def _inverted(grey: np.ndarray, inverted: bool) -> np.ndarray:
    return 255 - grey if inverted else grey


def _shown(ramp: np.ndarray, counts: np.ndarray, dataset: Dataset) -> np.ndarray:
    """Grey 0..255 of each value of the ramp; ``counts`` tells how often each occurs."""
    values = modality(ramp, dataset)
    for transform in (_voi_table, _window):
        shown = transform(values, dataset)
        # A window that shows one even grey is a wrong window: units do write such.
        if shown is not None and (np.ptp(shown[counts > 0]) if counts.any() else 0) > 1 / 255:
            return to_bytes(shown * 255)
    if values is ramp and (number(dataset, "BitsStored") or 16) == 8 and ramp[0] >= 0:
        return to_bytes(ramp)
    return _by_depth(values, counts, dataset)


def _by_depth(values: np.ndarray, counts: np.ndarray, dataset: Dataset) -> np.ndarray:
    """No window at all: the rule for other deep pictures (`radiograph.grey_from_depth`)."""
    if not counts.any():
        return np.zeros(values.shape, np.uint8)
    order = np.argsort(values, kind="stable")
    low, high = (values[order][end] for end in percentiles(counts[order]))
    black, white = grey_range(float(low), float(high), number(dataset, "BitsStored"))
    return to_bytes((values - black) * (255 / (white - black)))


def modality(ramp: np.ndarray, dataset: Dataset) -> np.ndarray:
    """Stored values through the modality LUT, or rescale slope and intercept (PS3.3 C.11.1)."""
    if dataset.get("ModalityLUTSequence"):
        return _looked_up(ramp, dataset.ModalityLUTSequence[0], dataset)[0]
    rescale = _rescale(dataset)
    return ramp if rescale is None else ramp * rescale[0] + rescale[1]


def _rescale(dataset: Dataset) -> tuple[float, float] | None:
    """Slope and intercept, None where they are absent or change nothing."""
    slope, intercept = real(dataset, "RescaleSlope"), real(dataset, "RescaleIntercept")
    if slope is None or intercept is None or (slope, intercept) == (1, 0) or slope == 0:
        return None
    return slope, intercept


def voi(values: np.ndarray, dataset: Dataset) -> np.ndarray | None:
    """Values behind the modality LUT through the VOI LUT, else the first window: float64, 0 black
    and 1 white before MONOCHROME1 turns them over (PS3.3 C.11.2). None where the file states none.
    """
    shown = _voi_table(values, dataset)
    return _window(values, dataset) if shown is None else shown


def _voi_table(values: np.ndarray, dataset: Dataset) -> np.ndarray | None:
    """PS3.3 C.11.2.1.1: a VOI LUT goes before a window where both are given."""
    if not dataset.get("VOILUTSequence"):
        return None
    table, bits = _looked_up(values, dataset.VOILUTSequence[0], dataset)
    return table / (2**bits - 1)


def _looked_up(values: np.ndarray, item: Dataset, dataset: Dataset) -> tuple[np.ndarray, int]:
    """Values through a LUT (PS3.3 C.11.1.1), and the bits of its entries."""
    entries, first, bits = (int(number) for number in item.LUTDescriptor)
    entries = entries or 1 << 16
    if isinstance(item.LUTData, bytes):
        order = "<" if dataset.original_encoding[1] is not False else ">"
        packed = len(item.LUTData) < 2 * entries  # 8 bits an entry, two to a word
        table = np.frombuffer(item.LUTData, np.uint8 if packed else f"{order}u2")
    else:
        table = np.atleast_1d(np.asarray(item.LUTData, dtype=np.int64))
    if first > 32767 and values.min() < 0:
        first -= 1 << 16  # signed, but written under the other of the descriptor's two VRs
    place = np.clip(np.rint(values).astype(np.int64) - first, 0, min(entries, table.size) - 1)
    return table[place].astype(np.float64), bits


def _window(values: np.ndarray, dataset: Dataset) -> np.ndarray | None:
    """PS3.3 C.11.2.1.2 and .3: the first window as LINEAR, LINEAR_EXACT or SIGMOID."""
    window = _stated_window(dataset)
    if window is None:
        return None
    center, width = window
    if code(dataset, "VOILUTFunction") == "SIGMOID":
        return 1 / (1 + np.exp(np.clip(-4 * (values - center) / width, -80, 80)))
    if width == 0:
        return np.where(values > center, 1.0, 0.0)
    return np.clip((values - center) / width + 0.5, 0, 1)


def _stated_window(dataset: Dataset) -> tuple[float, float] | None:
    """Centre and width of the first window; those of LINEAR as its formula uses them."""
    center, width = real(dataset, "WindowCenter"), real(dataset, "WindowWidth")
    linear = (code(dataset, "VOILUTFunction") or "LINEAR") == "LINEAR"
    if center is None or width is None or width <= 0 or (linear and width < 1):
        return None
    return (center - 0.5, width - 1) if linear else (center, width)


def _window_ends(dataset: Dataset) -> Ends | None:
    """The values that the window shows black and white; of a SIGMOID, where its slope would end."""
    window = _stated_window(dataset)
    return window and (window[0] - window[1] / 2, window[0] + window[1] / 2)


def _table_ends(
    pixels: np.ndarray, slope: float, intercept: float, dataset: Dataset
) -> Ends | None:
    """The window nearest to a VOI LUT: the line through a tenth and nine tenths of its grey."""
    ramp = np.arange(int(pixels.min()), int(pixels.max()) + 1) * slope + intercept
    shown = _voi_table(ramp, dataset)
    if shown is None:
        return None
    within = ramp[(shown >= 0.1) & (shown <= 0.9)]
    if within.size < 2 or np.ptp(within) == 0:
        return None
    margin = np.ptp(within) / 8
    return float(within.min() - margin), float(within.max() + margin)


def _ends_of(ends: Ends | None, pixels: np.ndarray, slope: float, intercept: float) -> Ends | None:
    """Values as pixel values, None where they would show the film as one even grey."""
    if ends is None:
        return None
    black, white = sorted((end - intercept) / slope for end in ends)
    shown = np.clip((pixels.min(), pixels.max()), black, white)
    # A window that shows one even grey is a wrong window: units do write such.
    return (black, white) if np.ptp(shown) * 255 > white - black else None


def _padding_filled(stored: np.ndarray, dataset: Dataset, inverted: bool) -> Through:
    """Padding as the blackest value of the picture, which is how it is shown."""
    padding = _padding(dataset, stored.dtype)
    ends = [] if padding is None else _ends_without(stored, padding)
    if padding is None or not ends:
        return lambda block: block
    low, high, fill = *padding, max(ends) if inverted else min(ends)
    return lambda block: np.where((block >= low) & (block <= high), fill, block)


def _ends_without(stored: np.ndarray, padding: tuple[int, int]) -> list[Any]:
    """The lowest and highest values of each block of the picture that are no padding."""
    ends = []
    for rows in blocks(stored.shape):
        block = stored[rows]
        picture = block[(block < padding[0]) | (block > padding[1])]
        ends += [picture.min(), picture.max()] if picture.size else []
    return ends


def _looked_up_after(before: Through, stored: np.ndarray, dataset: Dataset) -> Through:
    """Stored values through ``before``, and then through the modality LUT."""
    found = _occurring(stored)
    entries = _looked_up(before(found.ramp), dataset.ModalityLUTSequence[0], dataset)[0]
    integers = entries.astype(np.int64)
    return lambda block: integers[found.places(block)]


def _padding(dataset: Dataset, stored: np.dtype) -> tuple[int, int] | None:
    """The range of stored values that are no part of the picture."""
    value, limit = (number(dataset, f"PixelPadding{name}") for name in ("Value", "RangeLimit"))
    if value is None:
        return None
    ends = [value, value if limit is None else limit]
    if stored.kind in "iu":
        # US or SS as the pixels are (PS3.5, annex A.2), but units write the one for the other
        ends = [int(np.int64(end).astype(stored)) for end in ends]
    return min(ends), max(ends)
