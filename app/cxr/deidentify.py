"""What may leave the clinic of a film and of a patient: pixels without words, and coarse facts.

Nothing is taken out of a file here: a picture is made anew from the pixels alone, so that no DICOM
element (PS3.15 Annex E lists hundreds, and every maker adds private ones), no EXIF block and no
file name can travel. What is left to remove is text that is burnt into the pixels themselves
(PS3.15 E.3.1, Clean Pixel Data Option).
"""

from __future__ import annotations

import hashlib
import hmac
import io
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

import numpy as np
from PIL import Image

#: No film leaves larger: finer print than can be read at this size leaves with nobody.
LONGEST_SIDE = 1024
#: Months by which all dates of a patient are moved, one way or the other; never by none.
MOST_MONTHS = 24

# Measured in docs/contributions.md. Letters are thin: narrower than so much of the longest side …
_THIN, _THINNEST = 0.02, 11
# … and stand out from what is around them by so many of 255 grey levels: in the frame, where there
# is little of the patient, and inside, where the edges of ribs stand out by up to 50.
_IN_FRAME, _INSIDE = 30, 50
_FRAME = 1 / 6
# Looked for in squares of so many pixels; so many of them make a square suspicious.
_CELL, _FEW = 16, 4
# Edges of ribs all run one way within a square and its neighbours (1), those of letters do not (0).
_ONE_WAY = 0.6
# So many squares in line are a line of text that could not be told from the patient for certain.
_LINE = 4
_MOST_REMOVED = 0.25

Grid = np.ndarray


@dataclass(frozen=True, eq=False)
class Cleaned:
    """A film with what looks like text blacked out.

    ``pixels``: uint8 ``(height, width)``, no side longer than LONGEST_SIDE. ``removed``: share of
    them that was blacked out. ``is_doubtful``: text may be left, or so much was removed that little
    is left to learn from; such a film stays in the clinic.
    """

    pixels: np.ndarray
    removed: float
    is_doubtful: bool

    def to_png(self) -> bytes:
        """The film as a PNG of header, pixels and end: no text, no time, no profile."""
        out = io.BytesIO()
        Image.fromarray(self.pixels).save(out, "PNG")
        return out.getvalue()


def without_text(pixels: np.ndarray) -> Cleaned:
    """Black out what looks like text in a displayed film, uint8 ``(height, width)``."""
    small = _reduced(pixels)
    standing_out, edges = _standing_out(small), _spread(small, 3)

    def marked(level: int) -> Grid:
        return _counted((standing_out >= level) & (edges >= level)) >= _FEW

    faint = marked(_IN_FRAME)
    found = _with_neighbours(np.where(_frame(faint.shape), faint, marked(_INSIDE)))
    black = _as_pixels(found, small.shape)
    removed = float(black.mean())
    left = faint & ~found & (_one_way(small) < _ONE_WAY)
    doubtful = removed > _MOST_REMOVED or _has_line(left) or _has_line(left.T)
    return Cleaned(np.where(black, 0, small).astype(np.uint8), removed, doubtful)


def pseudonym(key: bytes, kind: str, name: str) -> str:
    """A name that says nothing: 20 hexadecimal digits of HMAC-SHA256 under the clinic's key.

    ``kind`` keeps apart a patient and a study that share a number. Without the key nobody can try
    out the few numbers there are.
    """
    return hmac.new(key, f"{kind}/{name}".encode(), hashlib.sha256).hexdigest()[:20]


def shifted_month(key: bytes, patient: str, day: date) -> str:
    """The month of a day, "YYYY-MM", moved by 1 to MOST_MONTHS months either way.

    By as much for all days of a patient, so that what lies between two films stays what it was
    (PS3.15 E.3.6, Retain Longitudinal Temporal Information with Modified Dates).
    """
    digest = hmac.new(key, f"shift/{patient}".encode(), hashlib.sha256).digest()
    shift = 1 + int.from_bytes(digest[:8], "big") % MOST_MONTHS
    months = day.year * 12 + day.month - 1 + (shift if digest[8] % 2 else -shift)
    return f"{months // 12:04d}-{months % 12 + 1:02d}"


def _reduced(pixels: np.ndarray) -> np.ndarray:
    image = Image.fromarray(pixels)
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.BOX, reducing_gap=None)
    return np.asarray(image).astype(np.int16)


def _standing_out(film: np.ndarray) -> np.ndarray:
    """By how much each pixel is brighter or darker than what is around a thin thing (top-hat)."""
    width = max(_THINNEST, int(max(film.shape) * _THIN) // 2 * 2 + 1)
    lowest, highest = (_running(film, width, side) for side in (np.minimum, np.maximum))
    bright = film - _running(lowest, width, np.maximum)
    dark = _running(highest, width, np.minimum) - film
    return np.maximum(bright, dark)


def _spread(film: np.ndarray, width: int) -> np.ndarray:
    return _running(film, width, np.maximum) - _running(film, width, np.minimum)


def _running(film: np.ndarray, width: int, extreme: Callable[..., np.ndarray]) -> np.ndarray:
    """The extreme of the square of ``width`` (odd) pixels around each pixel."""
    for _ in range(2):
        film = _running_down(film, width, extreme).T
    return film


def _running_down(film: np.ndarray, width: int, extreme: Callable[..., np.ndarray]) -> np.ndarray:
    rows = film.shape[0]
    film = np.pad(film, ((width // 2, width // 2), (0, 0)), mode="edge")
    reach = 1
    while reach * 2 <= width:
        film = extreme(film[:-reach], film[reach:])
        reach *= 2
    rest = width - reach
    return extreme(film[:rows], film[rest : rest + rows])


def _counted(values: np.ndarray) -> np.ndarray:
    """The sum of the values in each cell."""
    height, width = values.shape
    padded = np.pad(values, ((0, -height % _CELL), (0, -width % _CELL)))
    rows, columns = padded.shape[0] // _CELL, padded.shape[1] // _CELL
    return np.asarray(padded.reshape(rows, _CELL, columns, _CELL).sum(axis=(1, 3)))


def _around(grid: np.ndarray) -> list[np.ndarray]:
    """The grid itself and its eight neighbours."""
    rows, columns = grid.shape
    padded = np.pad(grid, 1)
    return [padded[y : y + rows, x : x + columns] for y in range(3) for x in range(3)]


def _with_neighbours(grid: Grid) -> Grid:
    return np.asarray(np.logical_or.reduce(_around(grid)))


def _one_way(film: np.ndarray) -> np.ndarray:
    """How much the edges in and around each cell run one way, 0..1 (coherence of the structure
    tensor, Bigün and Granlund 1987).
    """
    padded = np.pad(film.astype(np.float32), 1, mode="edge")
    down = (padded[2:, 1:-1] - padded[:-2, 1:-1]) / 2
    across = (padded[1:-1, 2:] - padded[1:-1, :-2]) / 2
    xx, yy, xy = (
        np.sum(_around(_counted(product)), axis=0)
        for product in (across * across, down * down, across * down)
    )
    return np.asarray(np.sqrt((xx - yy) ** 2 + 4 * xy**2) / (xx + yy + 1e-3))


def _frame(shape: tuple[int, ...]) -> Grid:
    frame = np.ones(shape, bool)
    top, side = (max(1, round(length * _FRAME)) for length in shape)
    frame[top:-top, side:-side] = False
    return frame


def _has_line(grid: Grid) -> bool:
    """Whether so many cells of a row are in line."""
    columns = grid.shape[1] - _LINE + 1
    if columns < 1:
        return False
    in_line = np.logical_and.reduce([grid[:, start : start + columns] for start in range(_LINE)])
    return bool(in_line.any())


def _as_pixels(grid: Grid, shape: tuple[int, ...]) -> np.ndarray:
    enlarged = np.repeat(np.repeat(grid, _CELL, axis=0), _CELL, axis=1)
    return enlarged[: shape[0], : shape[1]]
