"""Compressed DICOM pixels: one decoder for each transfer syntax, and what is asked of a frame.

Frames come from strangers and are decoded by C in the process that serves the clinic, so each
syntax has the library that held against damaged frames (docs/adr/0023), and no second one is tried
where that one gives up. What a frame's header announces is held against the data set before any
memory is asked for.
"""

from __future__ import annotations

import logging
import struct
from dataclasses import dataclass

import numpy as np

# From where they are, not by the package: it loads by name, which hides them from the bundle, and
# puts off the error of a missing one until a film needs it.
from imagecodecs._jpeg2k import jpeg2k_decode
from imagecodecs._jpeg8 import jpeg8_decode
from imagecodecs._jpegls import jpegls_decode
from pydicom import uid
from pydicom.pixels.decoders import pillow
from pydicom.pixels.decoders.base import DecodeRunner, get_decoder

from app.cxr.radiograph import UnreadableFilm, check_size

# pydicom's warnings and its tracebacks of decoders quote what is in the file.
logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)

_JPEG_LOSSY = (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit)
_JPEG_LOSSLESS = (uid.JPEGLossless, uid.JPEGLosslessSV1)
_JPEG_LS = (uid.JPEGLSLossless, uid.JPEGLSNearLossless)
_JPEG_2000 = (
    uid.JPEG2000Lossless,
    uid.JPEG2000,
    uid.HTJ2KLossless,
    uid.HTJ2KLosslessRPCL,
    uid.HTJ2K,
)
_OURS = "clinic"

# What pydicom asks of a module that brings decoders.
DECODER_DEPENDENCIES = dict.fromkeys(
    (*_JPEG_LOSSY, *_JPEG_LOSSLESS, *_JPEG_LS, *_JPEG_2000), ("imagecodecs", "pillow")
)


def is_available(syntax: str) -> bool:
    """Whether this module decodes the transfer syntax; what it needs is always installed."""
    return syntax in DECODER_DEPENDENCIES


def can_decode(syntax: str) -> bool:
    """Whether frames of a transfer syntax can be decoded, uncompressed ones among them."""
    try:
        return bool(get_decoder(uid.UID(syntax)).is_available)
    except (NotImplementedError, ValueError):
        return False


def plugin_for(syntax: str) -> str:
    """The name under which pydicom knows the one decoder of a transfer syntax; "" for its own."""
    return _OURS if is_available(syntax) else ""


def decoding_bytes(syntax: str, value: int) -> int:
    """What decoding a frame takes for each of its values of so many bytes, beside what comes of it
    (measured).
    """
    return 8 + value if syntax in _JPEG_2000 else 2 * value


def check_frame(frame: bytes, syntax: str, rows: int, columns: int) -> None:
    """Hold a compressed frame's own header and end against the data set, before it is decoded.

    Raises UnreadableFilm.
    """
    if not is_available(syntax):
        return
    header = jpeg_2000_header(frame) if syntax in _JPEG_2000 else jpeg_header(frame)
    check_size(header.columns, header.rows)
    if b"\xff\xd9" not in frame[-_ENDING:]:
        raise UnreadableFilm("truncated", format="DICOM")
    if (header.rows, header.columns) != (rows, columns):
        raise UnreadableFilm("damaged", format="DICOM")


def decode_frame(frame: bytes, runner: DecodeRunner) -> bytes | bytearray:
    """One frame's bytes; the signature is that of pydicom's decoders. Raises on a bad frame."""
    syntax = runner.transfer_syntax
    check_frame(frame, syntax, runner.rows, runner.columns)
    if syntax in _JPEG_2000:
        return _jpeg_2000(frame, runner)
    if syntax in _JPEG_LOSSY and jpeg_header(frame).bits == 8:
        return _jpeg_of_eight_bits(frame, runner)
    decode = jpegls_decode if syntax in _JPEG_LS else jpeg8_decode
    return _as_told(decode(frame), runner)


def _jpeg_2000(frame: bytes, runner: DecodeRunner) -> bytes:
    pixels = jpeg2k_decode(frame)
    if runner.photometric_interpretation in ("YBR_ICT", "YBR_RCT"):
        runner.set_option("photometric_interpretation", "RGB")  # the decoder has undone it
    return _as_told(pixels, runner)


def _jpeg_of_eight_bits(frame: bytes, runner: DecodeRunner) -> bytes:
    """Baseline, and Extended of 8 bits whatever depth the data set claims to have."""
    runner.set_option("bits_stored", 8)
    runner.set_option("bits_allocated", 8)
    return pillow._decode_frame(frame, runner)


def _as_told(pixels: np.ndarray, runner: DecodeRunner) -> bytes:
    """Decoded pixels as bytes, and to the runner how they lie in them."""
    samples = pixels.shape[2] if pixels.ndim == 3 else 1
    if pixels.shape[:2] != (runner.rows, runner.columns) or samples != runner.samples_per_pixel:
        raise UnreadableFilm("damaged", format="DICOM")
    if samples > 1:
        runner.set_option("planar_configuration", 0)
    runner.set_option("bits_allocated", 8 * pixels.dtype.itemsize)
    return pixels.tobytes()


# --- headers ------------------------------------------------------------------------------------

# A frame is filled up to an even length, by the standard with one byte; units add whole blocks.
_ENDING = 4096
# How far into a JP2 file its codestream may begin: colour profiles stand before it.
_JP2_HEADERS = 1 << 16
# ISO 10918-1 B.1.1.3 and ISO 14495-1 C.1.1: markers that begin a frame, those without a length
_FRAMES = frozenset({*range(0xC0, 0xD0), 0xF7}) - {0xC4, 0xC8, 0xCC}
_BARE = frozenset({0x01, *range(0xD0, 0xD9)})


@dataclass(frozen=True)
class JpegHeader:
    """What a stream says of its pixels: bits each (0 where left to others), rows and columns."""

    bits: int
    rows: int
    columns: int


def jpeg_header(stream: bytes) -> JpegHeader:
    """The first frame header of a JPEG or JPEG-LS stream; raises UnreadableFilm where none is."""
    place = 2
    while stream[:2] == b"\xff\xd8" and place + 9 <= len(stream) and stream[place] == 0xFF:
        marker = stream[place + 1]
        if marker in _FRAMES:
            bits, numbers = stream[place + 4], stream[place + 5 : place + 9]
            return JpegHeader(bits, *(int.from_bytes(numbers[n : n + 2], "big") for n in (0, 2)))
        if marker == 0xFF:  # B.1.1.2: any number of fill bytes
            place += 1
        elif marker in _BARE:
            place += 2
        else:
            place += 2 + int.from_bytes(stream[place + 2 : place + 4], "big")
    raise UnreadableFilm("damaged", format="DICOM")


def jpeg_2000_header(stream: bytes) -> JpegHeader:
    """Size by the SIZ marker of a JPEG 2000 codestream, bare or in a JP2 file; raises
    UnreadableFilm where there is none (ISO 15444-1 A.5.1).
    """
    place = stream[:_JP2_HEADERS].find(b"\xff\x4f\xff\x51")
    if place < 0 or len(stream) < place + 24:
        raise UnreadableFilm("damaged", format="DICOM")
    right, bottom, left, top = struct.unpack_from(">4I", stream, place + 8)
    if right <= left or bottom <= top:
        raise UnreadableFilm("damaged", format="DICOM")
    return JpegHeader(0, bottom - top, right - left)


for _syntax in DECODER_DEPENDENCIES:
    get_decoder(_syntax).add_plugin(_OURS, (__name__, "decode_frame"))
