"""From the coarse activation map to regions and a peak in film pixels, named in words."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

# The map is enlarged to this many cells a side before regions are cut out of it: fine enough for a
# smooth outline, coarse enough to be honest about a map that the network made on a grid of a few
# cells.
FINE_CELLS = 64
REGION_SHARE_OF_PEAK = 0.75
REGION_FLOOR = 0.2
SMALLEST_REGION_CELLS = 12
MOST_REGIONS = 4
# A border line is no body where all of it but a tenth (a marker, a label) is one grey, within 3
# levels. Air is blacker than any lung that still shows a vessel.
EVEN_LEVELS, EVEN_SHARE = 3.0, 0.9
AIR_LEVEL = 6.0
RIM_CELLS = math.ceil(0.04 * FINE_CELLS)
LEAST_BODY = 0.3
WHOLE_FILM = np.ones((FINE_CELLS, FINE_CELLS), np.bool_)
WHOLE_FILM.flags.writeable = False
# The lungs of a frontal film lie between these shares of its height.
LUNG_TOP, LUNG_BOTTOM = 0.10, 0.85


@dataclass(frozen=True)
class Region:
    """A box in pixels of the displayed film; ``zone`` on the patient's side; ``score`` 0..1."""

    x: int
    y: int
    width: int
    height: int
    zone: str
    score: float


def strength(activation_map: np.ndarray, low: float, high: float) -> np.ndarray:
    """The map on the release's own scale, float32 0..1: ``low`` is cold, ``high`` is hottest.

    One scale for all films keeps the map of a clear film dark; a map stretched to its own maximum
    would point at something on every film.
    """
    return np.clip((activation_map - low) / (high - low), 0.0, 1.0).astype(np.float32)


def enlarge(heat: np.ndarray, width: int, height: int) -> np.ndarray:
    """Bicubic enlargement of a coarse map over ``width`` x ``height`` cells, clipped to 0..1."""
    image = Image.fromarray(np.ascontiguousarray(heat, dtype=np.float32))
    fine = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))
    return np.clip(fine, 0.0, 1.0)


def body_mask(pixels: np.ndarray) -> np.ndarray:
    """Where a body can be on a film: uint8 ``(height, width)`` to bool ``(64, 64)`` over all of it.

    Outside are borders of one even grey (padding, the collimator's shadow), air that is black all
    the way to such a border or an edge, and the outer 4 %. Where that would leave less than 30 %,
    something else was met than it looks for, and the whole film counts as body.
    """
    cells = _cells(pixels)
    inner = _without_even_borders(cells)
    body = np.zeros(cells.shape, np.bool_)
    body[inner] = ~_air(cells[inner])
    body[:RIM_CELLS] = body[-RIM_CELLS:] = body[:, :RIM_CELLS] = body[:, -RIM_CELLS:] = False
    return body if body.mean() >= LEAST_BODY else WHOLE_FILM


def _cells(pixels: np.ndarray) -> np.ndarray:
    """Mean greys on the fine grid, float32 ``(64, 64)``, of a few pixels a cell: all take long."""
    step_y, step_x = (max(1, side // (4 * FINE_CELLS)) for side in pixels.shape)
    image = Image.fromarray(np.ascontiguousarray(pixels[::step_y, ::step_x]))
    small = image.resize((FINE_CELLS, FINE_CELLS), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32)


def _without_even_borders(cells: np.ndarray) -> tuple[slice, slice]:
    """The rows and columns that are left once even lines are taken off from all four sides."""
    top, left = 0, 0
    bottom, right = cells.shape
    for _ in range(3):  # a border within a border shows once the outer one is gone
        above, below = _even_ends(cells[top:bottom, left:right])
        top, bottom = top + above, bottom - below
        before, behind = _even_ends(cells[top:bottom, left:right].T)
        left, right = left + before, right - behind
    return slice(top, bottom), slice(left, right)


def _even_ends(lines: np.ndarray) -> tuple[int, int]:
    """How many of the first and of the last rows are even; none where all are."""
    far = np.abs(lines - np.median(lines, axis=1, keepdims=True)) > EVEN_LEVELS
    uneven = far.mean(axis=1) > 1 - EVEN_SHARE
    return (int(uneven.argmax()), int(uneven[::-1].argmax())) if uneven.any() else (0, 0)


def _air(cells: np.ndarray) -> np.ndarray:
    """Cells from which a straight line to an edge meets nothing but black, bool."""
    black = cells <= AIR_LEVEL
    reached = np.zeros_like(black)
    for axis in (0, 1):
        reached |= np.logical_and.accumulate(black, axis=axis)
        reached |= np.flip(np.logical_and.accumulate(np.flip(black, axis), axis=axis), axis)
    return reached


def peak(
    activation_map: np.ndarray, width: int, height: int, body: np.ndarray = WHOLE_FILM
) -> tuple[int, int]:
    """The hottest point of the map in the ``body`` (of ``body_mask``), x and y in pixels of a
    ``width`` x ``height`` film.

    Found on the raw map, not on ``strength``, which is flat where it saturates.
    """
    image = Image.fromarray(np.ascontiguousarray(activation_map, dtype=np.float32))
    fine = np.asarray(image.resize((FINE_CELLS, FINE_CELLS), Image.Resampling.BICUBIC))
    row, column = np.unravel_index(int(np.argmax(np.where(body, fine, -np.inf))), fine.shape)
    x, y = (column + 0.5) / FINE_CELLS * width, (row + 0.5) / FINE_CELLS * height
    return min(int(x), width - 1), min(int(y), height - 1)


def point_turned_back(
    point: tuple[int, int], width: int, height: int, turns: int
) -> tuple[int, int]:
    """A pixel of a ``width`` x ``height`` film where it was before ``turns`` quarters of a circle,
    counterclockwise.
    """
    x, y = point
    return ((x, y), (height - 1 - y, x), (width - 1 - x, height - 1 - y), (y, width - 1 - x))[
        turns % 4
    ]


def box_turned_back(region: Region, width: int, height: int, turns: int) -> Region:
    """As ``point_turned_back``, of a region; its zone is the patient's and stays."""
    corners = (region.x, region.y), (region.x + region.width - 1, region.y + region.height - 1)
    before = [point_turned_back(corner, width, height, turns) for corner in corners]
    (left, right), (top, bottom) = (sorted(values) for values in zip(*before, strict=True))
    return replace(region, x=left, y=top, width=right - left + 1, height=bottom - top + 1)


def regions(
    heat: np.ndarray, width: int, height: int, body: np.ndarray = WHOLE_FILM
) -> tuple[Region, ...]:
    """Boxes around the warm parts of a map of ``strength`` in the ``body`` (of ``body_mask``),
    hottest first, in film pixels.
    """
    fine = np.where(body, enlarge(heat, FINE_CELLS, FINE_CELLS), 0.0)
    level = max(REGION_FLOOR, REGION_SHARE_OF_PEAK * float(fine.max()))
    found = [
        _region(fine, cells, width, height)
        for cells in connected(fine >= level)
        if len(cells) >= SMALLEST_REGION_CELLS
    ]
    found.sort(key=lambda region: -region.score)
    return tuple(found[:MOST_REGIONS])


def connected(mask: np.ndarray) -> list[list[tuple[int, int]]]:
    """The 4-connected parts of a small boolean grid, each as its (row, column) cells."""
    rest = {(int(row), int(column)) for row, column in np.argwhere(mask)}
    parts = []
    while rest:
        part, edge = [], [rest.pop()]
        while edge:
            row, column = edge.pop()
            part.append((row, column))
            for cell in (
                (row - 1, column),
                (row + 1, column),
                (row, column - 1),
                (row, column + 1),
            ):
                if cell in rest:
                    rest.remove(cell)
                    edge.append(cell)
        parts.append(part)
    return parts


def _region(fine: np.ndarray, cells: list[tuple[int, int]], width: int, height: int) -> Region:
    rows, columns = np.array(cells).T
    scale_x, scale_y = width / FINE_CELLS, height / FINE_CELLS
    x, y = math.floor(columns.min() * scale_x), math.floor(rows.min() * scale_y)
    right = min(width, math.ceil((columns.max() + 1) * scale_x))
    bottom = min(height, math.ceil((rows.max() + 1) * scale_y))
    weights = fine[rows, columns]
    centre_x = float((columns * weights).sum() / weights.sum() + 0.5) / FINE_CELLS
    centre_y = float((rows * weights).sum() / weights.sum() + 0.5) / FINE_CELLS
    return Region(x, y, right - x, bottom - y, zone(centre_x, centre_y), float(weights.max()))


def zone(x: float, y: float) -> str:
    """The lung zone at a place given as shares (0..1) of a frontal film's width and height.

    Sides are the patient's: on a film as it is hung, the patient's right is the picture's left.
    Zones are thirds of the lung's height, as in the British Thoracic Society's readings.
    """
    side = "right" if x < 0.5 else "left"
    third = (y - LUNG_TOP) / (LUNG_BOTTOM - LUNG_TOP) * 3
    return f"{side} {'upper' if third < 1 else 'middle' if third < 2 else 'lower'}"
