"""Secondary Captures: the film with its regions drawn, and films that were no DICOM."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.dataset import Dataset

from app.cxr.dicom_in import read_dicom
from app.cxr.dicom_out.capture import (
    age_string,
    film_as_secondary_capture,
    secondary_capture,
)
from app.cxr.dicom_out.picture import (
    AMBER,
    LONGEST_SIDE,
    SHORTEST_LONGEST_SIDE,
    can_draw,
    drawn,
)
from app.cxr.dicom_out.report import structured_report
from app.cxr.dicom_out.said import NotAddressable
from app.cxr.regions import Region
from tests.dicom_validators import dciodvfy, dicom_validator, run
from tests.films import written
from tests.results import (
    CANNOT_SAY,
    DESCRIPTION,
    EQUIPMENT,
    FILM,
    SOURCES,
    UNLIKELY,
    reading,
    result,
    source,
    subject,
)

CAPTION = ("Signs of pneumonia: likely (93%)", "Suggestion of a computer, not a diagnosis.")
LIKELY = result()
GREY = np.full((900, 700), 90, np.uint8)


def made(film: Dataset | None = None, said: Any = LIKELY, caption: Any = CAPTION) -> Dataset:
    return secondary_capture(film or source(), FILM, said, EQUIPMENT, caption, DESCRIPTION)


def film_made(pixels: np.ndarray = FILM, lossy: bool = True, **changes: Any) -> Dataset:
    return film_as_secondary_capture(pixels, subject(**changes), EQUIPMENT, "Film", lossy)


def amber(picture: np.ndarray) -> np.ndarray:
    return (picture == AMBER).all(axis=-1)


# --- the judges -----------------------------------------------------------------------------------


@pytest.mark.parametrize("film", SOURCES.values(), ids=list(SOURCES))
def test_it_is_valid_beside_every_film(film: Dataset) -> None:
    one = made(film)
    assert dciodvfy(one) == []
    assert dicom_validator(one) == []


@pytest.mark.parametrize(
    "said", [LIKELY, UNLIKELY, CANNOT_SAY], ids=["likely", "unlikely", "cannot say"]
)
def test_every_answer_is_valid(said: Any) -> None:
    one = made(said=said)
    assert dciodvfy(one) == []
    assert dicom_validator(one) == []


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"patient_name": "أمينة ديالو"},
        {"patient_name": "राम शर्मा"},
        {"patient_name": "", "patient_id": "", "birth_date": "", "sex": "", "study_id": ""},
        {"age_years": None},
        {"issuer_of_patient_id": "RIVER", "study_description": "Chest"},
    ],
    ids=["usual", "Arabic", "Hindi", "unknown", "age unknown", "issuer"],
)
def test_a_film_that_was_no_dicom_is_valid(changes: dict[str, Any]) -> None:
    one = film_made(**changes)
    assert dciodvfy(one) == []
    assert dicom_validator(one) == []


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "ConversionType", "SOPInstanceUID"])
def test_the_judges_do_find_what_is_missing(keyword: str) -> None:
    one = made()
    delattr(one, keyword)
    assert dciodvfy(one) != []
    assert dicom_validator(one) != []


def test_dcmtk_shows_the_picture_that_was_drawn(tmp_path: Path) -> None:
    run("dcm2pnm", "--version", made())  # skips where there is none
    (tmp_path / "made.dcm").write_bytes(written(made()))
    done = subprocess.run(
        ["dcm2pnm", "--write-raw-pnm", "made.dcm", "made.ppm"], cwd=tmp_path, timeout=60
    )
    assert done.returncode == 0
    shown = np.asarray(Image.open(tmp_path / "made.ppm"))
    assert np.array_equal(shown, drawn(FILM, LIKELY.regions, CAPTION))


# --- the picture ----------------------------------------------------------------------------------


def test_regions_are_outlined_and_the_rest_is_the_film() -> None:
    picture = drawn(GREY, [Region(100, 200, 300, 150, "right lower", 1.0)], [])
    rows, columns = np.nonzero(amber(picture))
    assert picture.shape == (900, 700, 3)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (200, 349, 100, 399)
    assert (picture[275, 250] == 90).all()
    assert (picture[:180] == 90).all()
    assert amber(picture).sum() < 0.2 * 300 * 150


def test_no_region_no_line() -> None:
    assert not amber(drawn(GREY, [], [])).any()
    assert (drawn(GREY, [], []) == 90).all()


def test_the_picture_is_never_mirrored() -> None:
    film = np.zeros((900, 700), np.uint8)
    film[:100, :100] = 200
    picture = drawn(film, [], CAPTION)
    assert picture[50, 50].tolist() == [200, 200, 200]
    assert picture[50, 650].tolist() == [0, 0, 0]


def test_words_stand_below_the_film_and_never_on_it() -> None:
    plain, worded = drawn(GREY, [], []), drawn(GREY, [], CAPTION)
    assert np.array_equal(worded[:900], plain)
    assert worded.shape[0] > 900
    assert worded[900:].max() > 200


def test_long_lines_are_broken_at_the_edge() -> None:
    short = drawn(GREY, [], ["word"])
    long = drawn(GREY, [], ["word " * 60])
    assert long.shape[0] > short.shape[0]
    assert long.shape[1] == short.shape[1] == 700
    assert long[900:, -4:].max() == 0


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        ((3072, 2048), (LONGEST_SIDE, 1024)),
        ((1000, 800), (1000, 800)),
        ((384, 192), (SHORTEST_LONGEST_SIDE, 384)),
        ((1, 4000), (1, LONGEST_SIDE)),
    ],
)
def test_films_are_brought_to_a_size_that_can_be_read(
    size: tuple[int, int], shown: tuple[int, int]
) -> None:
    assert drawn(np.zeros(size, np.uint8), [], []).shape == (*shown, 3)


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_every_region_of_a_film_is_outlined_where_it_is(data: st.DataObject) -> None:
    height, width = (data.draw(st.integers(40, 2000)) for _ in range(2))
    x, y = data.draw(st.integers(0, width - 20)), data.draw(st.integers(0, height - 20))
    region = Region(
        x,
        y,
        data.draw(st.integers(20, width - x)),
        data.draw(st.integers(20, height - y)),
        "left upper",
        0.5,
    )
    picture = drawn(np.zeros((height, width), np.uint8), [region], [])
    scale = max(picture.shape[:2]) / max(height, width)
    rows, columns = np.nonzero(amber(picture))
    found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    wanted = [x, y, x + region.width, y + region.height]
    assert np.allclose(found, np.array(wanted) * scale, atol=1)


def test_it_says_which_words_it_cannot_draw() -> None:
    for line in (*CAPTION, "Ishara za nimonia: zinawezekana (93 %)", ""):
        assert can_draw(line)
    for line in ("probabilité", "निमोनिया", "التهاب رئوي"):
        assert not can_draw(line)
        with pytest.raises(ValueError):
            drawn(GREY, [], [line])


# --- the object -----------------------------------------------------------------------------------


def test_it_is_a_derived_picture_that_points_back_to_its_film() -> None:
    film, one = source(), made()
    assert list(one.ImageType) == ["DERIVED", "SECONDARY"]
    assert one.DerivationDescription == DESCRIPTION
    assert one.StudyInstanceUID == film.StudyInstanceUID
    assert one.SeriesInstanceUID != film.SeriesInstanceUID
    item = one.SourceImageSequence[0]
    assert item.ReferencedSOPInstanceUID == film.SOPInstanceUID
    assert item.ReferencedSOPClassUID == film.SOPClassUID
    assert item.PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
    series = one.ReferencedSeriesSequence[0]
    assert series.SeriesInstanceUID == film.SeriesInstanceUID
    assert series.ReferencedInstanceSequence[0].ReferencedSOPInstanceUID == film.SOPInstanceUID


def test_of_several_frames_it_names_the_first() -> None:
    assert made(source("XC")).SourceImageSequence[0].ReferencedFrameNumber == 1
    assert "ReferencedFrameNumber" not in made().SourceImageSequence[0]


def test_it_takes_over_who_and_which_study_and_no_more() -> None:
    film = source(PatientComments="HIV positive", Occupation="miner", KVP=80)
    film.add_new(0x00091001, "LO", "maker's own")
    one = made(film)
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "AccessionNumber", "StudyTime"):
        assert one[keyword].value == film[keyword].value
    for keyword in ("PatientComments", "Occupation", "KVP"):
        assert keyword not in one
    assert not any(element.tag.is_private for element in one.iterall())


def test_it_is_told_from_the_film_by_modality_and_series() -> None:
    one = made()
    assert (one.Modality, one.SeriesNumber, one.SeriesDescription) == ("OT", 902, DESCRIPTION)
    assert one.BurnedInAnnotation == "YES"
    assert "PixelSpacing" not in one


def test_the_orientation_is_the_films() -> None:
    assert list(made(SOURCES["DX with spacing"]).PatientOrientation) == ["L", "F"]
    assert not made().PatientOrientation
    assert not made(SOURCES["rules broken"]).PatientOrientation


def test_a_film_that_lost_something_once_says_so_ever_after() -> None:
    assert made(SOURCES["lossy"]).LossyImageCompression == "01"
    assert "LossyImageCompression" not in made()


def test_its_pixels_are_plain_rgb() -> None:
    one = pydicom.dcmread(io.BytesIO(written(made())))
    assert one.PhotometricInterpretation == "RGB"
    assert not one.file_meta.TransferSyntaxUID.is_compressed
    assert np.array_equal(one.pixel_array, drawn(FILM, LIKELY.regions, CAPTION))


def test_names_of_every_script_are_in_utf_8() -> None:
    one = pydicom.dcmread(io.BytesIO(written(made(SOURCES["Hindi"]))))
    assert one.SpecificCharacterSet == "ISO_IR 192"
    assert str(one.PatientName) == "शर्मा^राम"


def test_times_are_on_the_clock_of_the_study() -> None:
    one = made(SOURCES["time zone"])
    assert (one.TimeOfSecondaryCapture, one.TimezoneOffsetFromUTC) == ("075003", "+0300")
    assert made().ContentTime == "102003"


def test_it_refuses_a_film_that_nothing_can_point_at() -> None:
    with pytest.raises(NotAddressable):
        made(source(SeriesInstanceUID=None))


# --- sent twice -----------------------------------------------------------------------------------


def test_what_is_sent_twice_is_one_object_to_the_last_byte() -> None:
    assert written(made()) == written(made())
    assert written(film_made()) == written(film_made())


def test_another_picture_is_another_object() -> None:
    uids = {
        made().SOPInstanceUID,
        made(caption=("Something else",)).SOPInstanceUID,
        made(said=UNLIKELY).SOPInstanceUID,
        made(source(SOPInstanceUID="1.2.3")).SOPInstanceUID,
    }
    assert len(uids) == 4


def test_a_film_is_called_what_the_clinic_calls_it() -> None:
    film = film_made(study_uid="1.2.3", series_uid="1.2.4", film_uid="1.2.5")
    assert (film.StudyInstanceUID, film.SeriesInstanceUID) == ("1.2.3", "1.2.4")
    assert film.SOPInstanceUID == film.file_meta.MediaStorageSOPInstanceUID == "1.2.5"


# --- films that were no DICOM ---------------------------------------------------------------------


def test_a_picture_becomes_a_film_of_the_same_pixels() -> None:
    one = pydicom.dcmread(io.BytesIO(written(film_made())))
    assert np.array_equal(one.pixel_array, FILM)
    assert np.array_equal(read_dicom(written(film_made())).pixels, FILM)


def test_an_odd_number_of_pixels_is_padded() -> None:
    one = film_made(np.ones((5, 5), np.uint8))
    assert len(one.PixelData) == 26
    assert dciodvfy(one) == []


def test_it_carries_what_is_known_of_the_patient() -> None:
    one = film_made()
    assert (str(one.PatientName), one.PatientID) == ("Amina Diallo^", "P-3")
    assert (one.PatientAge, one.PatientSex, one.PatientBirthDate) == ("002Y", "F", "20240501")
    assert (one.StudyID, one.StudyDate, one.StudyTime) == ("17", "20261101", "090000")
    assert one.StudyInstanceUID == subject().study_uid
    assert (one.Modality, one.ConversionType) == ("RG", "WSD")
    assert list(one.ImageType) == ["ORIGINAL", "SECONDARY"]


@pytest.mark.parametrize(("lossy", "said"), [(True, "01"), (False, "00")])
def test_it_says_whether_it_was_a_jpeg(lossy: bool, said: str) -> None:
    assert film_made(lossy=lossy).LossyImageCompression == said


def test_reports_point_at_it_as_at_any_film() -> None:
    film = film_made()
    report = structured_report(film, LIKELY, EQUIPMENT, DESCRIPTION, reading())
    picture = secondary_capture(film, FILM, LIKELY, EQUIPMENT, CAPTION, DESCRIPTION)
    for one in (report, picture):
        assert one.StudyInstanceUID == film.StudyInstanceUID
        assert one.PatientName == film.PatientName
        assert film.SOPInstanceUID in str(one)
        assert dciodvfy(one) == []
        assert dicom_validator(one) == []


@pytest.mark.parametrize(
    ("years", "said"),
    [
        (0.0, "000D"),
        (0.01, "003D"),
        (0.1, "005W"),
        (0.5, "006M"),
        (1.9, "022M"),
        (2.0, "002Y"),
        (46.9, "046Y"),
        (119.0, "119Y"),
    ],
)
def test_ages_are_told_in_the_unit_that_fits(years: float, said: str) -> None:
    assert age_string(years) == said


@given(st.floats(0, 120))
def test_every_age_is_a_value_of_its_kind_and_never_older(years: float) -> None:
    text = age_string(years)
    in_a_year = {"D": 365.25, "W": 52.18, "M": 12.0, "Y": 1.0}[text[3]]
    assert len(text) == 4
    assert int(text[:3]) / in_a_year <= years + 1e-9


def test_a_time_must_know_its_offset() -> None:
    with pytest.raises(ValueError):
        subject(taken_at=subject().taken_at.replace(tzinfo=None))
