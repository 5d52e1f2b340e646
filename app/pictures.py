"""What a browser gets to see: pictures drawn from decoded films and maps.

The stored file keeps whatever came in, so it is never sent out under a type of its own choosing.
"""

from __future__ import annotations

import io
import json
import math
import struct
from collections.abc import Sequence

import numpy as np
from PIL import Image

from app.cxr.radiograph import Radiograph, blocks
from app.cxr.regions import enlarge
from app.cxr.stored import StoredValues

MAP_LONGEST_SIDE = 512
# zlib's fastest takes a seventh of the usual level's time for a sixth more bytes (a drawn film of
# 2048 x 2048: 0.13 s instead of 0.94 s of processor time on a busy 2-core machine).
FASTEST_PNG = 1

# Viridis (van der Walt and Smith 2015) in ten steps: even to the eye, also to one blind to red and
# green.
VIRIDIS = (
    (68, 1, 84),
    (72, 40, 120),
    (62, 73, 137),
    (49, 104, 142),
    (38, 130, 142),
    (31, 158, 137),
    (53, 183, 121),
    (110, 206, 88),
    (181, 222, 43),
    (253, 231, 37),
)
# Below the first the film shows through untouched, from the second on the colour is full. The
# network is lukewarm about most of a film: coloured from 0 on, the map would be a haze over it all.
TRANSPARENT_BELOW, OPAQUE_FROM = 0.25, 0.7


def film_png(film: Radiograph, longest_side: int) -> bytes:
    """The film in grey, no side longer than ``longest_side``."""
    image = Image.fromarray(film.pixels)
    image.thumbnail((longest_side, longest_side), Image.Resampling.BOX, reducing_gap=None)
    return _png(image)


def film_values(stored: StoredValues, longest_side: int | None = None) -> bytes:
    """The film's values for a viewer, no side longer than ``longest_side``, as one piece of binary.

    Four bytes: the length of a JSON object, which follows, padded with blanks to a multiple of
    four; then the values, row by row, 1 or 2 bytes each. All numbers little-endian. The object:
    ``width``, ``height`` of what is sent, ``film_width``, ``film_height`` of the film,
    ``bytes`` of a value, and the fields of StoredValues. Not compressed: the way is a cable's
    length of memory mostly, and deflating the noise of a film costs more time than it saves.
    """
    pixels = _reduced(stored.pixels, longest_side)
    height, width = pixels.shape
    film_height, film_width = stored.pixels.shape
    said = {
        "width": width,
        "height": height,
        "film_width": film_width,
        "film_height": film_height,
        "bytes": pixels.dtype.itemsize,
        "bits": stored.bits,
        "start": stored.start,
        "window": stored.window,
        "slope": stored.slope,
        "intercept": stored.intercept,
        "inverted": stored.inverted,
    }
    head = json.dumps(said, default=float, allow_nan=False).encode()
    head += b" " * (-len(head) % 4)
    little_endian = pixels.astype(pixels.dtype.newbyteorder("<"), copy=False)
    return struct.pack("<I", len(head)) + head + little_endian.tobytes()


def _reduced(pixels: np.ndarray, longest_side: int | None) -> np.ndarray:
    """The pixels, each the mean of those it stands for where the film is too large."""
    height, width = pixels.shape
    if longest_side is None or max(width, height) <= longest_side:
        return pixels
    scale = longest_side / max(width, height)
    across, down = max(1, round(width * scale)), max(1, round(height * scale))
    reduced = np.empty((down, across), pixels.dtype)
    step = height / down
    for rows in blocks((down, math.ceil(width * step))):
        top, bottom = rows.start * step, min(rows.stop * step, height)
        part = pixels[math.floor(top) : math.ceil(bottom)].astype(np.float32)
        box = 0, top - math.floor(top), width, bottom - math.floor(top)
        size = across, rows.stop - rows.start
        mean = Image.fromarray(part).resize(size, Image.Resampling.BOX, box)
        reduced[rows] = np.rint(np.asarray(mean))
    return reduced


def map_png(activation_map: Sequence[Sequence[float]], width: int, height: int) -> bytes:
    """The map in colour, in the shape of a ``width`` x ``height`` film, clear where it is cold."""
    scale = MAP_LONGEST_SIDE / max(width, height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    heat = enlarge(np.asarray(activation_map, dtype=np.float32), *size)
    return _png(Image.fromarray(coloured(heat)))


def coloured(heat: np.ndarray) -> np.ndarray:
    """Heat 0..1 as RGBA uint8."""
    steps = np.linspace(0.0, 1.0, len(VIRIDIS))
    table = np.asarray(VIRIDIS, dtype=np.float64)
    channels = [np.interp(heat, steps, table[:, channel]) for channel in range(3)]
    span = OPAQUE_FROM - TRANSPARENT_BELOW
    alpha = 255 * np.clip((heat - TRANSPARENT_BELOW) / span, 0.0, 1.0)
    return np.rint(np.stack([*channels, alpha], axis=-1)).astype(np.uint8)


def _png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG", compress_level=FASTEST_PNG)
    return out.getvalue()
