"""Every DICOM file that pydicom carries for its own tests: read as pydicom reads it, or refused.

The comparison is made at three points, each with no difference at all: the stored values, the
values behind the modality LUT, and those behind the VOI LUT or window. What is displayed is the
last of these in 8 bits, and differs from pydicom's by design where pydicom shows nothing: it makes
no grey of a film that states no window (`test_dicom_pixels` holds our rule), keeps a window that
shows one even grey, leaves MONOCHROME1 as it is stored, and does not blacken padding.
"""

from __future__ import annotations

import contextlib
import functools
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut
from pydicom.pixels.utils import pixel_array

from app.cxr import dicom_grey
from app.cxr.dicom_in import first_frame, read_dataset, read_dicom
from app.cxr.radiograph import CODES, Radiograph, UnreadableFilm, read_radiograph

CARRIED = Path(pydicom.__file__).parent / "data"
# pydicom's larger files are a package of their own: https://pypi.org/project/pydicom-data
LARGER = Path(find_spec("data_store").origin).parent / "data"


def files() -> list[Path]:
    """All of them, whatever they are called: charsets, directories, texts and damaged ones too."""
    found = [path for folder in (CARRIED, LARGER) for path in folder.rglob("*") if path.is_file()]
    return sorted(path for path in found if path.suffix not in (".py", ".pyc"))


@functools.lru_cache(maxsize=4)
def pydicoms(path: Path) -> tuple[Dataset, np.ndarray] | None:
    """The data set and the first frame as pydicom decodes it without us; None where it cannot."""
    with contextlib.suppress(Exception):
        found = pydicom.dcmread(path, force=True)
        if not found.file_meta.TransferSyntaxUID.is_encapsulated:
            return found, pixel_array(found, index=0)
        for plugin in ("pydicom", "pillow", "pyjpegls"):
            with contextlib.suppress(Exception):
                return found, pixel_array(found, index=0, decoding_plugin=plugin)
    return None


def comparable(kind: str) -> list[Path]:
    """Files with a first frame that pydicom decodes: the grey ones, or those in colour."""
    found = []
    for path in files():
        theirs = pydicoms(path)
        if theirs is not None and (theirs[1].ndim == 2) == (kind == "grey"):
            found.append(path)
    return found


GREY, COLOUR = comparable("grey"), comparable("colour")


def name(path: Path) -> str:
    return "/".join(path.parts[-2:])


def test_there_are_enough_to_mean_something():
    assert len(files()) > 200
    assert len(GREY) > 90
    assert len(COLOUR) > 40


@pytest.mark.parametrize("path", files(), ids=name)
def test_each_is_read_or_refused_with_its_reason(path):
    found = outcome(path)

    if isinstance(found, UnreadableFilm):
        assert found.code in CODES
    else:
        assert found.pixels.dtype == np.uint8
        assert found.pixels.ndim == 2


def outcome(path: Path) -> Radiograph | UnreadableFilm:
    try:
        return read_radiograph(path)
    except UnreadableFilm as error:
        return error


@pytest.mark.parametrize("path", GREY, ids=name)
def test_stored_values_are_pydicoms(path):
    found, theirs = pydicoms(path)

    ours, photometric = first_frame(read_dataset(path.read_bytes()))

    if photometric == "PALETTE COLOR":
        pytest.skip("a palette is looked up before anything is grey")
    assert np.array_equal(ours, theirs)
    assert found.PhotometricInterpretation == photometric


@pytest.mark.parametrize("path", GREY, ids=name)
def test_values_behind_the_modality_lut_are_pydicoms(path):
    found, stored = pydicoms(path)

    assert np.array_equal(dicom_grey.modality(stored, found), apply_modality_lut(stored, found))


@pytest.mark.parametrize("path", GREY, ids=name)
def test_values_behind_the_voi_lut_are_pydicoms(path):
    found, stored = pydicoms(path)
    values = apply_modality_lut(stored, found)
    try:
        theirs = apply_voi_lut(values, found, index=0, prefer_lut=True)
    except (ValueError, AttributeError) as error:
        pytest.skip(f"pydicom lays no window over it: {error}")

    shown = dicom_grey.voi(values, found)

    if shown is None:
        assert np.array_equal(values, theirs)
    else:
        black, white = theirs_black_and_white(found)
        assert np.array_equal(shown * (white - black) + black, theirs)


def theirs_black_and_white(found: Dataset) -> tuple[float, float]:
    """The values that pydicom gives to black and white: PS3.3 C.11.2.1.2's ymin and ymax."""
    if "VOILUTSequence" in found:
        return 0, 2 ** found.VOILUTSequence[0].LUTDescriptor[2] - 1
    bits, signed = found.BitsStored, found.PixelRepresentation
    if "ModalityLUTSequence" in found:
        bits, signed = found.ModalityLUTSequence[0].LUTDescriptor[2], 0
    ends = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    if found.get("RescaleSlope") is not None and "ModalityLUTSequence" not in found:
        return tuple(end * found.RescaleSlope + found.RescaleIntercept for end in ends)
    return ends


@pytest.mark.parametrize("path", GREY, ids=name)
def test_what_is_displayed_is_that_in_eight_bits(path):
    found, stored = pydicoms(path)
    values = apply_modality_lut(stored, found)
    shown = dicom_grey.voi(values, found)
    padded = found.get("PixelPaddingValue") is not None
    if shown is None or padded or np.ptp(shown) <= 1 / 255:
        pytest.skip("no window, a wrong one, or padding: shown by our own rule")

    grey = np.clip(np.rint(shown * 255), 0, 255).astype(np.uint8)
    if found.PhotometricInterpretation == "MONOCHROME1":
        grey = 255 - grey
    assert np.array_equal(read_dicom(path.read_bytes()).pixels, grey)


@pytest.mark.parametrize("path", COLOUR, ids=name)
def test_colour_is_pydicoms_rgb_made_grey(path):
    _, theirs = pydicoms(path)

    if theirs.dtype == np.uint8:
        expected = np.asarray(Image.fromarray(theirs).convert("L"))
        assert np.array_equal(read_radiograph(path).pixels, expected)
    else:
        assert np.array_equal(first_frame(read_dataset(path.read_bytes()))[0], theirs)
