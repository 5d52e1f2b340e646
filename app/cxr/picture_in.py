"""Pictures that Pillow reads as films: their grey, at 8 bits and at full depth, turned upright.

A large picture is taken apart into strips: whatever is made of it, no second picture as large lies
beside it. What the decoders themselves take is known by format, and asked of the header first.
"""

from __future__ import annotations

import contextlib
import io
import struct
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from app.cxr.radiograph import (
    Radiograph,
    UnreadableFilm,
    blocks,
    check_memory,
    check_size,
    colourfulness,
    every_nth,
    grey_between,
    grey_ends,
    grey_range,
    percentiles,
    to_bytes,
    too_many_pixels,
)

T = TypeVar("T")
Made = Callable[[Image.Image], np.ndarray]

_ORIENTATION = 0x0112
_PHOTOMETRIC = 0x0106
_SAMPLE_FORMAT, _BITS_PER_SAMPLE = 339, 258
# Of an array of the film as displayed, the view in which it lies as the file stores it.
_AS_STORED: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: np.fliplr,
    3: lambda shown: np.rot90(shown, 2),
    4: np.flipud,
    5: np.transpose,
    6: np.rot90,
    7: lambda shown: np.rot90(shown, 2).T,
    8: lambda shown: np.rot90(shown, -1),
}
_SIDEWAYS = (5, 6, 7, 8)


def opened(content: bytes, kind: str, made: Callable[[Image.Image], T]) -> T:
    """What ``made`` makes of a file's picture, opened and not yet loaded; raises UnreadableFilm."""
    formats = ["JPEG", "MPO"] if kind == "JPEG" else [kind]
    try:
        with Image.open(io.BytesIO(content), formats=formats) as image:
            check_size(*image.size)
            check_memory(len(content) + image.width * image.height * _bytes_a_pixel(image, content))
            return made(image)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise too_many_pixels() from error
    except (UnreadableFilm, MemoryError):
        raise
    except Exception as error:
        # Pillow has no one family of errors: a broken file raises OSError, SyntaxError, ValueError,
        # struct.error, zlib.error ... and often the same one for "ends early" and "is nonsense".
        raise UnreadableFilm(_fault(content, kind, error), format=kind) from error


def radiograph_of(image: Image.Image) -> Radiograph:
    """The film that an opened picture shows, its first frame."""
    frames = _frames(image)
    image.load()
    return Radiograph(displayed(image), frames=frames, colourfulness=colourfulness(image))


def _frames(image: Image.Image) -> int:
    """Pages or frames of the file; a telephone's MPO holds previews of one picture, not pages."""
    if image.format == "MPO":
        return 1
    return int(getattr(image, "n_frames", 1))


# --- what a picture takes -------------------------------------------------------------------------


def _bytes_a_pixel(image: Image.Image, content: bytes) -> float:
    """What decoding takes at its peak, with what is made of it, measured for Pillow 12."""
    bands = len(image.getbands())
    if image.mode in ("1", "L", "P"):
        held = 1.0
    else:
        held = 2.0 if image.mode.startswith("I;16") else 4.0
    made = 2 if is_deep(image) else 1
    decoders = {"WEBP": 12.5, "AVIF": 5.5, "JPEG2000": 5.5 * bands}
    if image.format in ("JPEG", "MPO") and _is_kept_as_coefficients(image, content):
        return held + made + 2 * _samples_a_pixel(image)
    return held + made + decoders.get(image.format or "", 0)


def _is_kept_as_coefficients(image: Image.Image, content: bytes) -> bool:
    """Whether a JPEG can only be drawn once all of it is read: progressive, or a scan for each
    component (ITU-T T.81, B.2.3 Ns).
    """
    if image.info.get("progressive"):
        return True
    place = 2
    while place + 4 < len(content) and content[place] == 0xFF:
        if content[place + 1] == 0xDA:
            return content[place + 4] < len(image.getbands())
        if content[place + 1] == 0xFF:  # B.1.1.2: any number of fill bytes
            place += 1
        else:
            place += 2 + int.from_bytes(content[place + 2 : place + 4], "big")
    return True


def _samples_a_pixel(image: Image.Image) -> float:
    """How many samples a JPEG has for a pixel: 3 in colour, 1.5 where colour is halved each way."""
    layers: Any = getattr(image, "layer", ())
    parts = [across * down for _, across, down, *_ in layers]
    return sum(parts) / max(parts, default=1)


# --- grey -----------------------------------------------------------------------------------------


def displayed(image: Image.Image) -> np.ndarray:
    """The loaded picture as it is shown, 8-bit grey: uint8 ``(height, width)``, turned upright."""
    if is_deep(image):
        return _drawn(image, _grey_of_deep(image))
    if image.has_transparency_data:
        return _drawn(image, _over_black(image))
    return _drawn(image, _grey)


def _grey(strip: Image.Image) -> np.ndarray:
    if strip.mode == "LAB":
        return np.asarray(strip.getchannel(0))
    if strip.mode not in ("1", "L", "RGB"):
        strip = strip.convert("RGB")
    return np.asarray(strip.convert("L"))


def _strips(image: Image.Image) -> Iterator[tuple[slice, Image.Image]]:
    """The picture from top to bottom, in parts of which copies cost little, each with its rows."""
    for rows in blocks((image.height, image.width)):
        yield rows, image.crop((0, rows.start, image.width, rows.stop))


def _drawn(image: Image.Image, made: Made, dtype: Any = np.uint8) -> np.ndarray:
    """What ``made`` makes of each strip, ``(height, width)``, turned as EXIF says (once loaded:
    Pillow turns TIFF and AVIF by itself).
    """
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # noqa: BLE001  a broken EXIF block must not cost the film
        orientation = 1
    shape = image.height, image.width
    whole = np.empty(shape[::-1] if orientation in _SIDEWAYS else shape, dtype)
    turn = _AS_STORED.get(orientation)
    stored = turn(whole) if turn else whole
    for rows, strip in _strips(image):
        stored[rows] = made(strip)
    return whole


def _over_black(image: Image.Image) -> Made:
    """Transparency laid over black, as the unexposed rim of a film is shown."""
    # All transparent: an exporter that left the channel empty
    is_empty = not any(_opacity(strip).getextrema()[1] for _, strip in _strips(image))

    def grey(strip: Image.Image) -> np.ndarray:
        pixels = strip.convert("RGBA").convert("RGB").convert("L")
        if not is_empty:
            pixels = Image.composite(pixels, Image.new("L", pixels.size, 0), _opacity(strip))
        return np.asarray(pixels)

    return grey


def _opacity(image: Image.Image) -> Image.Image:
    return image.convert("RGBA").getchannel("A")


# --- more than 8 bits -----------------------------------------------------------------------------


def is_deep(image: Image.Image) -> bool:
    """Whether the picture holds more than 8 bits of grey, which Pillow would cut off at 255."""
    return image.mode.startswith("I") or image.mode == "F"


def deep_values(image: Image.Image) -> tuple[Made, int | None]:
    """How the stored values of a deep picture's strips are had, uint16, uint32, int32 or float32,
    and how many bits their type declares.
    """
    if image.mode.startswith("I;16"):
        return lambda strip: np.asarray(strip).astype(np.uint16, copy=False), None
    if image.mode == "I" and _is_unsigned(image):
        return lambda strip: np.asarray(strip).view(np.uint32), 32
    return np.asarray, 31  # the positive half of 32 bits


def value_strips(image: Image.Image) -> Iterator[np.ndarray]:
    """The stored values of a deep picture, strip by strip."""
    values, _ = deep_values(image)
    for _, strip in _strips(image):
        yield values(strip)


def at_full_depth(image: Image.Image, pack: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """What ``pack`` makes of a deep picture's stored values, turned upright."""
    values, _ = deep_values(image)
    dtype = pack(values(image.crop((0, 0, 1, 1)))).dtype
    return _drawn(image, lambda strip: pack(values(strip)), dtype)


def _grey_of_deep(image: Image.Image) -> Made:
    values, declared = deep_values(image)
    shown = _by_table(image) if declared is None else _by_depth(image, declared)
    if white_is_zero(image):
        return lambda strip: 255 - shown(values(strip))
    return lambda strip: shown(values(strip))


def _by_table(image: Image.Image) -> Callable[[np.ndarray], np.ndarray]:
    """`grey_from_depth` for 16 bits, once for each value there is, not for each pixel."""
    counts = sum(np.bincount(strip.ravel(), minlength=65536) for strip in value_strips(image))
    black, white = grey_range(*percentiles(np.asarray(counts)))
    table = to_bytes((np.arange(65536) - black) * (255 / (white - black)))
    return lambda values: table[values]


def _by_depth(image: Image.Image, declared: int) -> Callable[[np.ndarray], np.ndarray]:
    """`grey_from_depth`, its sample taken strip by strip."""
    samples, before = [], 0
    for strip in value_strips(image):
        samples.append(every_nth(strip, before, image.width * image.height))
        before += strip.size
    black, white = grey_ends(np.concatenate(samples), declared)
    return lambda values: grey_between(values, black, white)


def white_is_zero(image: Image.Image) -> bool:
    """Whether a deep picture is a negative: Pillow inverts such up to 8 bits only.

    TIFF 6.0, PhotometricInterpretation.
    """
    return bool(getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == 0)


def _is_unsigned(image: Image.Image) -> bool:
    tags = getattr(image, "tag_v2", {})
    sample_format, bits = tags.get(_SAMPLE_FORMAT, (1,)), tags.get(_BITS_PER_SAMPLE)
    return image.format == "TIFF" and sample_format in (1, (1,)) and bits in (32, (32,))


# --- what is wrong with a file --------------------------------------------------------------------


def _fault(content: bytes, kind: str, error: Exception) -> str:
    if _ends_early(content, kind) or "truncated" in str(error).lower():
        return "truncated"
    if isinstance(error, (OSError, ValueError)) and _unknown_coding(str(error)):
        return "format_not_supported"
    return "damaged"


def _unknown_coding(message: str) -> bool:
    """Pillow's words for a well-formed file in a coding this build has no decoder for."""
    return any(sign in message for sign in ("not available", "nsupported", "unknown"))


def _ends_early(content: bytes, kind: str) -> bool:
    """Does the file lack the end that its format prescribes, or the length that it announces?"""
    size = len(content)
    if kind == "JPEG":
        return b"\xff\xd9" not in content[-4096:]
    if kind == "PNG":
        return b"IEND" not in content[-4096:]
    if kind == "GIF":
        return not content.rstrip(b"\0").endswith(b";")
    if kind == "WEBP":
        return size < int.from_bytes(content[4:8], "little") + 8
    if kind == "BMP":
        return size < int.from_bytes(content[2:6], "little")
    if kind == "TIFF":
        return size < _tiff_reach(content)
    if kind == "AVIF":
        return size < _boxes_reach(content)
    return kind == "JPEG2000" and b"\xff\xd9" not in content[-64:]


def _boxes_reach(content: bytes) -> int:
    """Where the last box of an ISO base media file ends."""
    reach = 0
    while reach + 8 <= len(content):
        length = int.from_bytes(content[reach : reach + 4], "big")
        if length < 8:  # 0: to the end of the file; 1: a length of 64 bits, never of a picture
            break
        reach += length
    return reach


_TIFF_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}


def _tiff_reach(content: bytes) -> int:
    """How long a TIFF must be to hold its first directory, its values, and the strips it lists."""
    order = "<" if content.startswith(b"II") else ">"
    try:
        (start,) = struct.unpack_from(f"{order}I", content, 4)
        (count,) = struct.unpack_from(f"{order}H", content, start)
        entries = [
            struct.unpack_from(f"{order}HHII", content, start + 2 + 12 * n) for n in range(count)
        ]
    except struct.error:
        return len(content) + 1
    sizes = [(_TIFF_TYPE_BYTES.get(kind, 1) * number, place) for _, kind, number, place in entries]
    reach = max((place + size for size, place in sizes if size > 4), default=0)
    if reach > len(content):
        return reach
    with contextlib.suppress(Exception), Image.open(io.BytesIO(content), formats=["TIFF"]) as image:
        tags = image.tag_v2  # type: ignore[attr-defined]
        for offsets, lengths in ((273, 279), (324, 325)):
            ends = zip(tags.get(offsets, ()), tags.get(lengths, ()), strict=False)
            reach = max(reach, *(offset + length for offset, length in ends), 0)
    return reach
