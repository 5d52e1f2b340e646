"""Films as arrays: reading a file into a Radiograph, and a Radiograph into the network's input.

The content decides what a file is, never its name. Whatever the bytes are, `read_radiograph`
returns a Radiograph or raises UnreadableFilm; pictures (`picture_in`) and DICOM (`dicom_in`) have
rooms of their own.
"""

from __future__ import annotations

import stat
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

# 120 million pixels: a 35 x 43 cm film scanned at 50 micrometres has 60.
MAX_PIXELS = 120_000_000
# A clinic's laptop may have 4 GB for all it does. The file, the picture it holds and the grey made
# of it may together take so much, by what its header announces: with the program itself, 600 MB.
MAX_MEMORY_BYTES = 490_000_000
# Read as DICOM, a file is there twice.
MAX_FILE_BYTES = MAX_MEMORY_BYTES // 2

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
        "too_much_memory",
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
    return decoded(source, _picture_radiograph, _dicom_radiograph)


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


def check_memory(needed: float) -> None:
    """Refuse a film that would take more bytes than a film may, before anything is decoded."""
    if needed > MAX_MEMORY_BYTES:
        raise UnreadableFilm("too_much_memory")


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
    black, white = grey_ends(every_nth(values), declared)
    grey = np.empty(values.shape, np.uint8)
    for rows in blocks(values.shape):
        grey[rows] = grey_between(values[rows], black, white)
    return grey


def grey_ends(sample: np.ndarray, declared: int | None = None) -> tuple[float, float]:
    """The values that `grey_from_depth` shows black and white, by a sample of a film's."""
    finite = sample[np.isfinite(sample)]
    low, high = np.percentile(finite, TAILS) if finite.size else (0.0, 1.0)
    return grey_range(low, high, declared, fractions=sample.dtype.kind == "f")


def grey_between(values: np.ndarray, black: float, white: float) -> np.ndarray:
    """Values of any kind as uint8, where ``black`` is 0 and ``white`` 255."""
    with np.errstate(invalid="ignore", over="ignore"):
        grey = (values.astype(np.float32) - np.float32(black)) * np.float32(255 / (white - black))
    return to_bytes(np.nan_to_num(grey, copy=False, nan=0.0, posinf=255.0, neginf=0.0))


def every_nth(values: np.ndarray, before: int = 0, of: int = 0) -> np.ndarray:
    """A million values or two, evenly spread over a film; ``values`` may be a part of the film's
    ``of``, with so many ``before`` it.
    """
    step = max(1, (of or values.size) // 1_000_000)
    return values.ravel()[-before % step :: step]


# What is computed of a film is computed of so much of it at once: each step between would else be
# as large as the film, or eight times that.
BLOCK_PIXELS = 1_000_000


def blocks(shape: tuple[int, ...]) -> Iterator[slice]:
    """The rows of a film of this shape ``(height, width, ...)`` from top to bottom, in blocks."""
    height, width = shape[:2]
    rows = max(1, BLOCK_PIXELS // max(1, width))
    for top in range(0, height, rows):
        yield slice(top, min(top + rows, height))


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
        from app.cxr import picture_in  # which itself builds on this module

        return picture_in.opened(content, kind, picture)
    if not _looks_like_dicom(content):
        raise UnreadableFilm("not_an_image")
    return dicom(content)


def _picture_radiograph(image: Image.Image) -> Radiograph:
    from app.cxr import picture_in

    return picture_in.radiograph_of(image)


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
