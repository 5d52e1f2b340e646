"""Films as arrays: reading a file into a Radiograph, and a Radiograph into the network's input.

The content decides what a file is, never its name. Whatever the bytes are, `read_radiograph`
returns a Radiograph or raises UnreadableFilm; DICOM has its own room (`dicom_in`), loaded on need.
"""

from __future__ import annotations

import contextlib
import io
import stat
import struct
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

# 120 million pixels: a 35 x 43 cm film scanned at 50 micrometres has 60, the largest telephone
# cameras in use make 108. Decoded, that is half a gigabyte at the very most (4 bytes each), and a
# file cannot reasonably be larger than its pixels.
MAX_PIXELS = 120_000_000
MAX_FILE_BYTES = 4 * MAX_PIXELS

# Pillow stops at twice this by an exception of its own while it reads a header, and warns from here
# on; the exact limit is ours, before anything is decoded.
Image.MAX_IMAGE_PIXELS = MAX_PIXELS
# What the decoders think of a file goes into its code, not beside the program's own lines.
warnings.filterwarnings("ignore", module=r"(PIL|pydicom)\.")

T = TypeVar("T")

TAILS = (0.5, 99.5)
_USUAL_DEPTHS = (8, 10, 12, 14, 16)

CODES = frozenset(
    {
        "missing",  # no such file
        "not_allowed",  # the file system refuses
        "not_a_file",  # a folder, a device
        "read_failed",  # the medium fails
        "empty",
        "too_large",
        "too_many_pixels",
        "out_of_memory",
        "not_an_image",
        "truncated",
        "damaged",
        "format_not_supported",  # details: format
        "heic_not_supported",
        "pdf_not_supported",
        "transfer_syntax_not_supported",  # details: transfer_syntax
        "no_pixels",  # a DICOM object without a picture
    }
)


class UnreadableFilm(Exception):
    """No pixels could be had from a file.

    ``code`` is a stable word of CODES; ``details`` fills the sentence a person reads.
    """

    def __init__(self, code: str, **details: str) -> None:
        super().__init__(code)
        self.code = code
        self.details = details


@dataclass(frozen=True, eq=False)
class Radiograph:
    """One film as it is displayed: EXIF orientation applied, bone white, air black.

    ``pixels``: uint8 ``(height, width)``. ``frames``: how many pages or frames the file holds; the
    first is read. Everything a file may leave unsaid is None then. ``colourfulness``: how much of
    the picture's colour is no mere tint, in grey levels; a film, toned or not, is near 0.
    ``is_raw``: what a unit measured, with no word of how to show it.
    """

    pixels: np.ndarray
    frames: int = 1
    view_position: str | None = None
    age_years: float | None = None
    sex: str | None = None
    colourfulness: float = 0.0
    modality: str | None = None
    sop_class_uid: str | None = None
    body_part: str | None = None
    patient_name: str | None = None
    patient_id: str | None = None
    study_uid: str | None = None
    sop_instance_uid: str | None = None
    is_raw: bool = False

    @property
    def width(self) -> int:
        """Columns of the displayed film."""
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        """Rows of the displayed film."""
        return int(self.pixels.shape[0])


def read_radiograph(source: bytes | Path) -> Radiograph:
    """Decode a film from a path or a file's bytes; raises UnreadableFilm and nothing else."""
    return decoded(source, _radiograph, _dicom_radiograph)


def decoded(
    source: bytes | Path, picture: Callable[[Image.Image], T], dicom: Callable[[bytes], T]
) -> T:
    """What the function for its kind makes of a film: ``picture`` gets an opened image, not yet
    loaded and of a size within bounds, ``dicom`` a file's bytes.

    Raises UnreadableFilm and nothing else, whatever the two raise.
    """
    try:
        content = source if isinstance(source, bytes) else _content(source)
        return _decode(content, picture, dicom)
    except UnreadableFilm:
        raise
    except MemoryError as error:
        raise UnreadableFilm("out_of_memory") from error
    except Exception as error:
        # Decoders raise anything from struct.error to RecursionError on hostile bytes: a bad film
        # must never stop the batch it came in.
        raise UnreadableFilm("damaged") from error


def to_model_input(film: Radiograph, size: int) -> np.ndarray:
    """The film squashed to the network's square: float32 ``(1, size, size, 1)``, 0..255.

    Squashed, not cropped or padded: the training films were published that way, and a border
    that depends on the film's shape would be a feature to learn.
    """
    image = Image.fromarray(film.pixels).resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(image, dtype=np.float32)[np.newaxis, :, :, np.newaxis]


def check_size(width: int, height: int) -> None:
    """Refuse a picture by its header, before anything is decoded."""
    if width * height > MAX_PIXELS:
        raise too_many_pixels()


def too_many_pixels() -> UnreadableFilm:
    """The fault, with the limit in millions of pixels."""
    return UnreadableFilm("too_many_pixels", limit=str(MAX_PIXELS // 1_000_000))


def too_large() -> UnreadableFilm:
    """The fault, with the limit in megabytes."""
    return UnreadableFilm("too_large", limit=str(MAX_FILE_BYTES // 1_000_000))


def grey_from_depth(values: np.ndarray, declared: int | None = None) -> np.ndarray:
    """Pixels uint8 of stored values that come without a window.

    The film's depth is the smallest usual one, or the ``declared`` one, that holds nearly all its
    values (0..1 for fractions), and 0 to that depth's maximum become 0 to 255: one film stored in
    8, 12 or 16 bits gives the same grey. Only where the values fill less than an eighth of it, or
    are negative, does their own range (percentiles 0.5 to 99.5) become black and white. Values that
    are no number are black.
    """
    sample = values.ravel()[:: max(1, values.size // 1_000_000)]
    sample = sample[np.isfinite(sample)]
    low, high = np.percentile(sample, TAILS) if sample.size else (0.0, 1.0)
    black, white = grey_range(low, high, declared, fractions=values.dtype.kind == "f")
    with np.errstate(invalid="ignore", over="ignore"):
        grey = (values.astype(np.float32) - np.float32(black)) * np.float32(255 / (white - black))
    return to_bytes(np.nan_to_num(grey, copy=False, nan=0.0, posinf=255.0, neginf=0.0))


def grey_range(
    low: float, high: float, declared: int | None = None, fractions: bool = False
) -> tuple[float, float]:
    """The values to show black and white, for a film with these percentiles (`grey_from_depth`)."""
    depths = sorted({*_USUAL_DEPTHS, declared or 8})
    white = next((2.0**depth - 1 for depth in depths if high < 2**depth), None)
    if fractions and high <= 1:
        white = 1.0
    if white is not None and low >= 0 and (high - low >= white / 8 or high == low):
        return 0.0, white
    return (low, high) if high > low else (low - 1, low + 1)


def percentiles(counts: np.ndarray) -> tuple[int, int]:
    """Where in a histogram the darkest and the brightest half percent end (its TAILS)."""
    reached = np.cumsum(counts)
    low, high = np.searchsorted(reached, np.multiply(TAILS, reached[-1] / 100))
    return int(low), int(high)


def to_bytes(grey: np.ndarray) -> np.ndarray:
    """Grey as floats, rounded and held within 0..255."""
    return np.clip(np.rint(grey), 0, 255).astype(np.uint8)


def colourfulness(image: Image.Image) -> float:
    """Colour that brightness does not explain, in grey levels, on a 64 x 64 sample.

    A photograph of a film on a bluish light box is tinted: its red-green and yellow-blue
    differences follow its brightness. What is left when that line is taken out is true colour.
    """
    if image.mode in ("1", "L", "LA", "F") or image.mode.startswith("I"):
        return 0.0
    # First made small: as large in colour it would be a second picture
    sample = image.resize((64, 64), Image.Resampling.NEAREST).convert("RGB")
    red, green, blue = np.asarray(sample, dtype=np.float64).reshape(-1, 3).T
    brightness = np.stack([np.ones_like(red), (red + green + blue) / 3], axis=1)
    differences = np.stack([red - green, (red + green) / 2 - blue], axis=1)
    if not differences.any():
        return 0.0
    line = np.linalg.lstsq(brightness, differences, rcond=None)[0]
    return float(np.sqrt(((differences - brightness @ line) ** 2).mean(axis=0).sum()))


# --- the bytes ----------------------------------------------------------------------------------


def _content(path: Path) -> bytes:
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise UnreadableFilm("not_a_file")
        if found.st_size > MAX_FILE_BYTES:
            raise too_large()
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        # ValueError: a name with a NUL in it, which no file can have
        raise UnreadableFilm("missing") from error
    except PermissionError as error:
        raise UnreadableFilm("not_allowed") from error
    except OSError as error:
        raise UnreadableFilm("read_failed") from error


def _decode(content: bytes, picture: Callable[[Image.Image], T], dicom: Callable[[bytes], T]) -> T:
    if not content:
        raise UnreadableFilm("empty")
    if len(content) > MAX_FILE_BYTES:
        raise too_large()
    kind = _kind(content)
    if kind in ("HEIC", "PDF"):
        raise UnreadableFilm(f"{kind.lower()}_not_supported")
    if kind is not None:
        return _picture(content, kind, picture)
    if not _looks_like_dicom(content):
        raise UnreadableFilm("not_an_image")
    return dicom(content)


def _dicom_radiograph(content: bytes) -> Radiograph:
    # pydicom takes long and much memory to import; most clinics' films are JPEG.
    from app.cxr import dicom_in

    return dicom_in.read_dicom(content)


_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"II+\x00", "TIFF"),
    (b"MM\x00+", "TIFF"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "JPEG2000"),
    (b"\xff\x4f\xff\x51", "JPEG2000"),
)
# ISO/IEC 23008-12: the brands under which telephones and cameras write HEIF still pictures
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)


def _kind(content: bytes) -> str | None:
    """What the first bytes say the file is; None for DICOM and for what is no picture."""
    if content[128:132] == b"DICM":
        return None  # a DICOM preamble may hold a TIFF header (PS3.10, 7.1)
    for magic, kind in _MAGIC:
        if content.startswith(magic):
            return kind
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        return "WEBP"
    if content.startswith(b"BM") and int.from_bytes(content[14:18], "little") in _BMP_HEADERS:
        return "BMP"
    if content[4:8] == b"ftyp":
        brands = content[8 : int.from_bytes(content[:4], "big")][:256]
        if b"avif" in brands or b"avis" in brands:
            return "AVIF"
        return "HEIC" if content[8:12] in _HEIC_BRANDS else None
    return "PDF" if b"%PDF-" in content[:1024] else None


def _looks_like_dicom(content: bytes) -> bool:
    """The prefix DICM, or, without a preamble, a first element of group 2 or 8 as they begin."""
    if content[128:132] == b"DICM":
        return True
    little = content[:2] in (b"\x02\x00", b"\x08\x00") and content[3:4] == b"\x00"
    big = content[:4] in (b"\x00\x02\x00\x00", b"\x00\x08\x00\x05", b"\x00\x08\x00\x08")
    return little or big


# --- pictures that Pillow reads -------------------------------------------------------------------

_ORIENTATION = 0x0112
_PHOTOMETRIC = 0x0106
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _picture(content: bytes, kind: str, made: Callable[[Image.Image], T]) -> T:
    formats = ["JPEG", "MPO"] if kind == "JPEG" else [kind]
    try:
        with Image.open(io.BytesIO(content), formats=formats) as image:
            check_size(*image.size)
            return made(image)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise too_many_pixels() from error
    except (UnreadableFilm, MemoryError):
        raise
    except Exception as error:
        # Pillow has no one family of errors: a broken file raises OSError, SyntaxError, ValueError,
        # struct.error, zlib.error ... and often the same one for "ends early" and "is nonsense".
        raise UnreadableFilm(_fault(content, kind, error), format=kind) from error


def _radiograph(image: Image.Image) -> Radiograph:
    frames = _frames(image)
    image.load()
    pixels = upright(grey_picture(image), image)
    return Radiograph(pixels, frames=frames, colourfulness=colourfulness(image))


def _frames(image: Image.Image) -> int:
    """Pages or frames of the file; a telephone's MPO holds previews of one picture, not pages."""
    if image.format == "MPO":
        return 1
    return int(getattr(image, "n_frames", 1))


def grey_picture(image: Image.Image) -> Image.Image:
    """The loaded picture as 8-bit grey ("L")."""
    if is_deep(image):
        return Image.fromarray(_grey_of_deep(image))
    if image.has_transparency_data:
        return _over_black(image)
    if image.mode == "LAB":
        return image.getchannel(0)
    if image.mode in ("1", "L", "RGB"):
        return image.convert("L")
    return _in_strips(image, lambda strip: strip.convert("RGB").convert("L"))


# Of a picture so large that a second one as large would be missed
_STRIP_PIXELS = 16_000_000


def _strips(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """The picture from top to bottom, in parts of which copies cost little, each with its top."""
    width, height = image.size
    rows = max(1, _STRIP_PIXELS // width)
    if height <= rows:
        yield 0, image
        return
    for top in range(0, height, rows):
        yield top, image.crop((0, top, width, min(top + rows, height)))


def _in_strips(image: Image.Image, grey: Callable[[Image.Image], Image.Image]) -> Image.Image:
    whole = Image.new("L", image.size)
    for top, strip in _strips(image):
        whole.paste(grey(strip), (0, top))
    return whole


def is_deep(image: Image.Image) -> bool:
    """Whether the picture holds more than 8 bits of grey."""
    return image.mode.startswith("I") or image.mode == "F"


def _grey_of_deep(image: Image.Image) -> np.ndarray:
    """16- and 32-bit integers and floats, which Pillow itself would cut off at 255."""
    values, declared = deep_values(image)
    if values.dtype == np.uint16:
        pixels = _by_table(values)
    else:
        pixels = grey_from_depth(values, declared)
    return 255 - pixels if white_is_zero(image) else pixels


def deep_values(image: Image.Image) -> tuple[np.ndarray, int | None]:
    """The stored values of a deep picture, and how many bits its type declares."""
    values = np.asarray(image)
    if values.dtype.kind == "u" and values.dtype.itemsize == 2:
        return values.astype(np.uint16, copy=False), None
    if values.dtype == np.int32 and _is_unsigned(image):
        return values.view(np.uint32), 32
    return values, 31  # the positive half of 32 bits


def white_is_zero(image: Image.Image) -> bool:
    """Whether a deep picture is a negative: Pillow inverts such up to 8 bits only.

    TIFF 6.0, PhotometricInterpretation.
    """
    return bool(getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == 0)


def _is_unsigned(image: Image.Image) -> bool:
    tags = getattr(image, "tag_v2", {})
    sample_format = tags.get(339, (1,))
    return image.format == "TIFF" and sample_format in (1, (1,)) and tags.get(258) in (32, (32,))


def _by_table(values: np.ndarray) -> np.ndarray:
    """`grey_from_depth` for 16 bits, once for each value there is, not for each pixel."""
    low, high = percentiles(np.bincount(values.ravel(), minlength=65536))
    black, white = grey_range(low, high)
    return to_bytes((np.arange(65536) - black) * (255 / (white - black)))[values]


def _over_black(image: Image.Image) -> Image.Image:
    """Transparency laid over black, as the unexposed rim of a film is shown."""
    # All transparent: an exporter that left the channel empty
    is_empty = not any(_opacity(strip).getextrema()[1] for _, strip in _strips(image))

    def grey(strip: Image.Image) -> Image.Image:
        pixels = strip.convert("RGBA").convert("RGB").convert("L")
        if is_empty:
            return pixels
        return Image.composite(pixels, Image.new("L", pixels.size, 0), _opacity(strip))

    return _in_strips(image, grey)


def _opacity(image: Image.Image) -> Image.Image:
    return image.convert("RGBA").getchannel("A")


def upright(grey: Image.Image, image: Image.Image) -> np.ndarray:
    """The grey picture turned as EXIF says (once loaded: Pillow turns TIFF and AVIF by itself)."""
    try:
        turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # noqa: BLE001  a broken EXIF block must not cost the film
        turn = None
    return np.asarray(grey.transpose(turn) if turn is not None else grey)


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
