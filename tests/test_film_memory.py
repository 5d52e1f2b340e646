"""A film takes no more memory than was reckoned from its header, and one that would is refused."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from PIL import Image
from pydicom import uid

from app.cxr.radiograph import UnreadableFilm, read_radiograph
from app.cxr.stored import read_stored
from tests import films
from tests.running import ROOT

SIDE = 3000
#: What is worked on at a time, and what the allocator keeps for the next.
BESIDE = 48_000_000
ROW = np.linspace(0, 250, SIDE).astype(np.uint8)
EIGHT = np.add.outer(ROW // 2, ROW // 2)
SIXTEEN = EIGHT.astype(np.uint16) * 16
GREY, COLOUR = Image.fromarray(EIGHT), Image.fromarray(np.dstack([EIGHT, EIGHT // 2, EIGHT]))
PROGRESSIVE = {"progressive": True, "subsampling": 0}
PICTURES: dict[str, tuple[Any, str, dict[str, Any]]] = {
    "grey.png": (GREY, "PNG", {}),
    "grey.jpg": (GREY, "JPEG", {}),
    "grey-progressive.jpg": (GREY, "JPEG", PROGRESSIVE),
    "grey.jp2": (GREY, "JPEG2000", {}),
    "grey.avif": (GREY, "AVIF", {"speed": 10}),
    "palette.gif": (GREY.convert("P"), "GIF", {}),
    "bits.tif": (GREY.convert("1"), "TIFF", {"compression": "group4"}),
    "deep.png": (SIXTEEN, "PNG", {}),
    "deep.tif": (SIXTEEN, "TIFF", {}),
    "deep.jp2": (SIXTEEN, "JPEG2000", {}),
    "deeper.tif": (SIXTEEN.astype(np.int32), "TIFF", {}),
    "fractions.tif": (SIXTEEN.astype(np.float32), "TIFF", {}),
    "colour.png": (COLOUR, "PNG", {}),
    "colour.jpg": (COLOUR, "JPEG", {}),
    "colour-progressive.jpg": (COLOUR, "JPEG", PROGRESSIVE),
    "colour-halved.jpg": (COLOUR, "JPEG", {"progressive": True}),
    "colour.bmp": (COLOUR, "BMP", {}),
    "colour.webp": (COLOUR, "WEBP", {"method": 0}),
    "colour.avif": (COLOUR, "AVIF", {"speed": 10}),
    "colour.jp2": (COLOUR, "JPEG2000", {}),
    "clear.png": (COLOUR.convert("RGBA"), "PNG", {}),
    "ink.jpg": (COLOUR.convert("CMYK"), "JPEG", {}),
}
WINDOW = {"WindowCenter": 2000, "WindowWidth": 3000}
SIGNED = {
    "PixelRepresentation": 1,
    "PixelPaddingValue": 0,
    "RescaleIntercept": -1,
    "RescaleSlope": 1,
}


def in_colour() -> bytes:
    found = films.dataset(EIGHT, 8)
    found.PhotometricInterpretation, found.SamplesPerPixel = "RGB", 3
    found.PlanarConfiguration = 0
    found.PixelData = np.asarray(COLOUR).tobytes()
    return films.written(found)


def written(folder: Path) -> list[Path]:
    """A film of each kind, with nine million pixels."""
    contents = {name: films.encode(*film[:2], **film[2]) for name, film in PICTURES.items()}
    wavelets = imagecodecs.jpeg2k_encode(SIXTEEN, level=0, codecformat="J2K", bitspersample=12)
    contents |= {
        "eight.dcm": films.dicom(EIGHT),
        "twelve.dcm": films.dicom(SIXTEEN, 12, **WINDOW),
        "signed.dcm": films.dicom(SIXTEEN, 12, **SIGNED),
        "colour.dcm": in_colour(),
        "jpeg-ls.dcm": films.in_frames(
            SIXTEEN, 12, uid.JPEGLSLossless, imagecodecs.jpegls_encode(SIXTEEN)
        ),
        "jpeg-2000.dcm": films.in_frames(SIXTEEN, 12, uid.JPEG2000Lossless, wavelets),
        "lossless.dcm": films.in_frames(
            SIXTEEN,
            16,
            uid.JPEGLosslessSV1,
            imagecodecs.ljpeg_encode(SIXTEEN, bitspersample=16),
        ),
    }
    for name, content in contents.items():
        folder.joinpath(name).write_bytes(content)
    return [folder / name for name in contents]


#: For each film named: what it was said to need, and what its reading took, both ways.
TELL = """
import json, sys
from app.cxr import dicom_in, picture_in
from app.cxr.radiograph import read_radiograph
from app.cxr.stored import read_stored
from tests.fuzz.watch import forget_peak, peak_megabytes

reckoned = []
dicom_in.check_memory = picture_in.check_memory = reckoned.append
for path in sys.argv[1:]:
    for read in (read_radiograph, read_stored):
        forget_peak()
        before = peak_megabytes()
        with open(path, "rb") as file:
            read(file.read())
        print(json.dumps([path, read.__name__, reckoned[-1], (peak_megabytes() - before) * 2**20]))
"""


def test_no_film_takes_more_than_was_reckoned(tmp_path: Path) -> None:
    told = subprocess.run(
        [sys.executable, "-c", TELL, *written(tmp_path)], cwd=ROOT, capture_output=True, check=True
    )
    taken = [json.loads(line) for line in told.stdout.splitlines()]

    assert len(taken) == 2 * len(list(tmp_path.iterdir()))
    over = [one for one in taken if one[3] > one[2] + BESIDE]
    assert over == []


LARGE = 11_000, 10_900  # within what a film may have in pixels


def announced(mode: str, size: tuple[int, int]) -> bytes:
    """A TIFF whose header says that it is so large."""
    content = bytearray(films.encode(Image.new(mode, (16, 16)), "TIFF"))
    (start,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, start)
    for place in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind = struct.unpack_from("<HH", content, place)
        if tag in (256, 257):  # ImageWidth, ImageLength
            struct.pack_into("<H" if kind == 3 else "<I", content, place + 8, size[tag - 256])
    return bytes(content)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "CMYK", "F", "I"])
def test_a_picture_that_would_take_more_is_refused_by_its_header(mode: str) -> None:
    for read in (read_radiograph, read_stored):
        with pytest.raises(UnreadableFilm) as caught:
            read(announced(mode, LARGE))
        assert caught.value.code == "too_much_memory"


@pytest.mark.parametrize("mode", ["1", "L", "I;16"])
def test_one_as_large_in_grey_is_not(mode: str) -> None:
    with pytest.raises(UnreadableFilm) as caught:
        read_radiograph(announced(mode, LARGE))
    assert caught.value.code in ("truncated", "damaged")


def test_a_jpeg_of_one_scan_may_be_larger_than_one_kept_as_coefficients() -> None:
    """By its header alone: the first says that it ends early, the other is not begun."""

    def fault(frame: int) -> str:
        content = io.BytesIO()
        Image.new("RGB", (16, 16)).save(content, "JPEG", progressive=frame == 0xC2, subsampling=0)
        head = bytearray(content.getvalue()[:-8])
        place = head.index(bytes([0xFF, frame]))
        head[place + 5 : place + 9] = (8000).to_bytes(2, "big") * 2
        with pytest.raises(UnreadableFilm) as caught:
            read_radiograph(bytes(head))
        return caught.value.code

    assert (fault(0xC0), fault(0xC2)) == ("truncated", "too_much_memory")


def test_a_film_scanned_at_fifty_micrometres_is_read() -> None:
    """35 x 43 cm, at 12 bits."""
    film = read_radiograph(films.dicom(np.zeros((8600, 7000), np.uint16), 12))

    assert (film.width, film.height) == (7000, 8600)
