"""One film in every form that X-ray units send: the factory release gives it one answer.

The encoders are not the decoders: DCMTK makes JPEG, lossless JPEG and JPEG-LS, OpenJPH makes
high-throughput JPEG 2000; only for JPEG 2000 proper does one library do both. What is lossy is
tried on a film as large as units make them: the network sees the grain of a film, and on a small
one, where no pixels are averaged on the way to it, one grey level of 255 moves the second decimal.
"""

from __future__ import annotations

import functools
import io
import shutil
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame

from app.cxr.analysis import analyse
from app.cxr.dicom_codecs import can_decode
from app.cxr.dicom_in import first_frame, read_dataset
from app.cxr.model import Model
from app.cxr.radiograph import CODES, UnreadableFilm, read_radiograph
from app.cxr.release import FACTORY_DIRECTORY, Release
from model_export import phantom
from tests import films

FILM = phantom.chest_film(2, (512, 448))

needs_dcmtk = pytest.mark.skipif(not shutil.which("dcmcjpeg"), reason="dcmtk is not installed")


# --- the film in every depth ----------------------------------------------------------------------


@dataclass(frozen=True)
class Depth:
    """How a film is stored: bits, bits allocated, and the value that stands for black."""

    bits: int
    allocated: int
    black: int = 0

    def store(self, film: np.ndarray, photometric: str) -> Dataset:
        grey = 255 - film if photometric == "MONOCHROME1" else film
        values = np.rint(grey * ((2**self.bits - 1) / 255.0)) + self.black
        kind = "i" if self.black < 0 else "u"
        pixels = values.astype(f"{kind}{self.allocated // 8}")
        window = {
            "WindowCenter": self.black + 2 ** (self.bits - 1),
            "WindowWidth": 2**self.bits,
        }
        return films.dataset(pixels, self.bits, PhotometricInterpretation=photometric, **window)


DEPTHS = {
    "8 bits": Depth(8, 8),
    "8 bits of 16": Depth(8, 16),
    "10 bits": Depth(10, 16),
    "12 bits": Depth(12, 16),
    "14 bits": Depth(14, 16),
    "16 bits": Depth(16, 16),
    "12 bits signed": Depth(12, 16, black=-2048),
    "16 bits signed": Depth(16, 16, black=-32768),
}


# --- and in every transfer syntax -----------------------------------------------------------------


def written(found: Dataset) -> bytes:
    syntax = found.file_meta.TransferSyntaxUID
    file = io.BytesIO()
    pydicom.dcmwrite(
        file,
        found,
        implicit_vr=syntax.is_implicit_VR,
        little_endian=syntax.is_little_endian,
        enforce_file_format=True,
    )
    return file.getvalue()


def uncompressed(found: Dataset, syntax: uid.UID, folder: Path) -> bytes:
    found.file_meta.TransferSyntaxUID = syntax
    if not syntax.is_little_endian:
        width = found.BitsAllocated // 8
        found.PixelData = np.frombuffer(found.PixelData, f"u{width}").byteswap().tobytes()
    found["PixelData"].VR = "OW" if found.BitsAllocated > 8 or syntax.is_implicit_VR else "OB"
    return written(found)


def dcmtk(found: Dataset, syntax: uid.UID, folder: Path) -> bytes:
    options: dict[str, tuple[str, ...]] = {
        uid.RLELossless: ("dcmcrle",),
        uid.JPEGBaseline8Bit: ("dcmcjpeg", "+eb", "+q", "98"),
        uid.JPEGExtended12Bit: ("dcmcjpeg", "+ee", "+q", "98"),
        uid.JPEGLossless: ("dcmcjpeg", "+el", "+sv", "6"),
        uid.JPEGLosslessSV1: ("dcmcjpeg", "+e1"),
        uid.JPEGLSLossless: ("dcmcjpls", "+el"),
        uid.JPEGLSNearLossless: ("dcmcjpls", "+en", "+md", "1"),
    }
    before, after = folder / "before.dcm", folder / "after.dcm"
    before.write_bytes(films.written(found))
    subprocess.run([*options[syntax], str(before), str(after)], check=True, capture_output=True)
    return after.read_bytes()


def jpeg_2000(found: Dataset, syntax: uid.UID, folder: Path) -> bytes:
    reversible = syntax not in (uid.JPEG2000, uid.HTJ2K)
    pixels = found.pixel_array
    if syntax in (uid.JPEG2000Lossless, uid.JPEG2000):
        frame = imagecodecs.jpeg2k_encode(
            pixels,
            level=None if reversible else 70,
            codecformat="J2K",
            bitspersample=found.BitsStored,
            reversible=reversible,
        )
    else:
        frame = imagecodecs.htj2k_encode(pixels, reversible=reversible)
    return films.with_frame(found, frame, syntax)


LOSSLESS = {
    uid.ImplicitVRLittleEndian: uncompressed,
    uid.ExplicitVRLittleEndian: uncompressed,
    uid.DeflatedExplicitVRLittleEndian: uncompressed,
    uid.ExplicitVRBigEndian: uncompressed,
    uid.RLELossless: dcmtk,
    uid.JPEGLossless: dcmtk,
    uid.JPEGLosslessSV1: dcmtk,
    uid.JPEGLSLossless: dcmtk,
    uid.JPEG2000Lossless: jpeg_2000,
    uid.HTJ2KLossless: jpeg_2000,
    uid.HTJ2KLosslessRPCL: jpeg_2000,
}
LOSSY = {
    uid.JPEGBaseline8Bit: (dcmtk, ["8 bits"]),
    uid.JPEGExtended12Bit: (dcmtk, ["8 bits", "12 bits"]),
    uid.JPEGLSNearLossless: (dcmtk, ["8 bits", "10 bits", "12 bits", "16 bits"]),
    uid.JPEG2000: (jpeg_2000, ["8 bits", "12 bits", "16 bits"]),
    uid.HTJ2K: (jpeg_2000, ["8 bits", "16 bits"]),
}
PHOTOMETRIC = ("MONOCHROME1", "MONOCHROME2")


@functools.cache
def large_film() -> np.ndarray:
    return phantom.chest_film(2, (2048, 1792))


@functools.lru_cache(maxsize=1)
def factory() -> Model:
    return Model.load(Release.load(FACTORY_DIRECTORY))


def probability(content: bytes) -> float:
    found = analyse(content, factory())
    assert found.probability is not None, found.reason
    return found.probability


@functools.cache
def plainly(depth: str, large: bool = False) -> float:
    film = large_film() if large else FILM
    return probability(films.written(DEPTHS[depth].store(film, "MONOCHROME2")))


@needs_dcmtk
@pytest.mark.parametrize("syntax", LOSSLESS, ids=lambda syntax: syntax.keyword)
@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("photometric", PHOTOMETRIC)
def test_without_loss_the_probability_is_the_same(syntax, depth, photometric, tmp_path):
    stored = DEPTHS[depth].store(FILM, photometric)
    values = stored.pixel_array

    content = LOSSLESS[syntax](stored, syntax, tmp_path)

    assert read_dataset(content).file_meta.TransferSyntaxUID == syntax
    assert np.array_equal(first_frame(read_dataset(content))[0], values)
    found = probability(content)
    assert found == pytest.approx(plainly(depth), abs=1e-6)
    assert found == pytest.approx(plainly("8 bits"), abs=0.005)


@needs_dcmtk
@pytest.mark.parametrize(
    ("syntax", "depth"),
    [(syntax, depth) for syntax, (_, depths) in LOSSY.items() for depth in depths],
    ids=lambda one: getattr(one, "keyword", one),
)
@pytest.mark.parametrize("photometric", PHOTOMETRIC)
def test_with_a_little_loss_it_is_the_same_to_two_decimals(syntax, depth, photometric, tmp_path):
    stored = DEPTHS[depth].store(large_film(), photometric)

    content = LOSSY[syntax][0](stored, syntax, tmp_path)

    assert read_dataset(content).file_meta.TransferSyntaxUID == syntax
    assert probability(content) == pytest.approx(plainly("8 bits", large=True), abs=0.005)


def test_every_compressed_syntax_that_can_be_decoded_is_in_the_tables():
    decoded = {one for one in uid.AllTransferSyntaxes if can_decode(one)}

    assert decoded == {*LOSSLESS, *LOSSY}


# --- a frame is held against its data set before it is decoded -----------------------------------

COMPRESSED = {
    uid.JPEGBaseline8Bit: (dcmtk, "8 bits"),
    uid.JPEGExtended12Bit: (dcmtk, "12 bits"),
    uid.JPEGLossless: (dcmtk, "8 bits"),
    uid.JPEGLosslessSV1: (dcmtk, "12 bits"),
    uid.JPEGLSLossless: (dcmtk, "12 bits"),
    uid.JPEGLSNearLossless: (dcmtk, "8 bits"),
    uid.JPEG2000Lossless: (jpeg_2000, "12 bits"),
    uid.JPEG2000: (jpeg_2000, "8 bits"),
    uid.HTJ2KLossless: (jpeg_2000, "16 bits"),
    uid.RLELossless: (dcmtk, "12 bits"),
}
each_compressed = pytest.mark.parametrize("syntax", COMPRESSED, ids=lambda syntax: syntax.keyword)
JPEGS = [syntax for syntax in COMPRESSED if syntax != uid.RLELossless]


def compressed(syntax: uid.UID, folder: Path, film: np.ndarray = FILM[::4, ::4]) -> Dataset:
    encode, depth = COMPRESSED[syntax]
    content = encode(DEPTHS[depth].store(film, "MONOCHROME2"), syntax, folder)
    return pydicom.dcmread(io.BytesIO(content))


def fault(content: bytes) -> str:
    with pytest.raises(UnreadableFilm) as caught:
        read_radiograph(content)
    assert caught.value.code in CODES
    return caught.value.code


@needs_dcmtk
@pytest.mark.parametrize("syntax", JPEGS, ids=lambda syntax: syntax.keyword)
@pytest.mark.parametrize("part", [0.3, 0.6, 0.95])
def test_a_frame_cut_short_is_called_so(syntax, part, tmp_path):
    found = compressed(syntax, tmp_path)
    frame = get_frame(found.PixelData, 0, number_of_frames=1).rstrip(b"\0")

    assert fault(films.with_frame(found, frame[: int(len(frame) * part)])) == "truncated"


@needs_dcmtk
@pytest.mark.parametrize("syntax", JPEGS, ids=lambda syntax: syntax.keyword)
@pytest.mark.parametrize("filling", [b"\0", b"\xff\xff", bytes(512)])
def test_filling_behind_a_frame_is_no_damage(syntax, filling, tmp_path):
    found = compressed(syntax, tmp_path)
    before = read_radiograph(written(found)).pixels
    frame = get_frame(found.PixelData, 0, number_of_frames=1)

    assert np.array_equal(read_radiograph(films.with_frame(found, frame + filling)).pixels, before)


@needs_dcmtk
@pytest.mark.parametrize("syntax", JPEGS, ids=lambda syntax: syntax.keyword)
@pytest.mark.parametrize("keyword", ["Rows", "Columns"])
def test_a_frame_of_another_size_than_its_tags_say_is_damaged(syntax, keyword, tmp_path):
    found = compressed(syntax, tmp_path)
    found[keyword].value += 1

    assert fault(written(found)) == "damaged"


@needs_dcmtk
@each_compressed
def test_a_frame_that_is_none_is_damaged(syntax, tmp_path):
    found = compressed(syntax, tmp_path)

    for frame in (bytes(200), b"\xff" * 200, b"\xff\xd8" + bytes(200), b"\xff\xd8\xff\xd9"):
        assert fault(films.with_frame(found, frame)) in ("damaged", "truncated")


def test_an_announced_bomb_is_refused_by_its_header():
    found = films.dataset(FILM, Rows=60_000, Columns=60_000)
    found.file_meta.TransferSyntaxUID = uid.JPEGLosslessSV1
    header = b"\xff\xd8\xff\xc3\x00\x0b\x08\xea\x60\xea\x60\x01\x01\x11\x00\xff\xd9"

    assert fault(films.with_frame(found, header)) == "too_many_pixels"
    found.Rows = found.Columns = 400
    assert fault(films.with_frame(found, header)) == "too_many_pixels"


# --- damaged frames ------------------------------------------------------------------------------

DAMAGE = """
    import random, sys
    from tests import films
    from tests.test_dicom_transfer_syntaxes import COMPRESSED, compressed
    from pathlib import Path
    from pydicom.encaps import get_frame
    from app.cxr.radiograph import CODES, UnreadableFilm, read_radiograph

    def damaged(frame, dice):
        changed = bytearray(frame)
        kind, place = dice.random(), dice.randrange(len(frame))
        if kind < 0.1:
            return bytes(changed[:place])
        if kind < 0.25:
            del changed[place : place + dice.randint(1, 50)]
        elif kind < 0.4:
            changed[place:place] = dice.randbytes(dice.randint(1, 20))
        else:
            reach = 80 if kind < 0.75 else len(frame)
            for _ in range(dice.choice([1, 1, 2, 4, 8])):
                changed[dice.randrange(2, min(reach, len(frame)))] = dice.choice(
                    [dice.randrange(256), 0, 1, 127, 128, 255]
                )
        return bytes(changed)

    syntax = next(one for one in COMPRESSED if one == sys.argv[1])
    found = compressed(syntax, Path(sys.argv[2]))
    frame = get_frame(found.PixelData, 0, number_of_frames=1)
    for number in range(int(sys.argv[3])):
        content = films.with_frame(found, damaged(frame, random.Random(f"{syntax}{number}")))
        try:
            assert read_radiograph(content).pixels.ndim == 2
        except UnreadableFilm as error:
            assert error.code in CODES
"""


@needs_dcmtk
@each_compressed
def test_damaged_frames_do_not_end_the_process(syntax, root, tmp_path, soak):
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(DAMAGE), syntax, str(tmp_path), str(150 * soak)],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )

    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""


def test_what_decoders_say_of_a_frame_stays_out_of_the_logs(tmp_path, caplog, capfd):
    found = films.dataset(FILM, PatientName="Doe^Secret", InstanceNumber=1)
    found.file_meta.TransferSyntaxUID = uid.JPEG2000Lossless
    with_bad_frame = films.with_frame(
        found, imagecodecs.jpeg2k_encode(FILM, codecformat="J2K")[:-900]
    )

    fault(with_bad_frame)
    fault(films.with_frame(found, b"Doe^Secret" * 50))
    assert caplog.text == ""
    assert capfd.readouterr() == ("", "")
