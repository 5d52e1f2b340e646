"""The structured report: valid to three judges, and read back as it was meant."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from highdicom import sr
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import Comprehensive3DSRStorage, CTImageStorage

from app.cxr.dicom_out import report
from app.cxr.dicom_out.identity import uid_from
from app.cxr.dicom_out.report import structured_report
from app.cxr.dicom_out.said import CONCLUSIONS, NotAddressable
from app.cxr.regions import Region, zone
from tests.dicom_validators import dciodvfy, dicom_validator, dsrdump
from tests.films import written
from tests.results import (
    CANNOT_SAY,
    DESCRIPTION,
    EQUIPMENT,
    FILM,
    LOWER,
    MIDDLE,
    SOURCES,
    UNLIKELY,
    reading,
    result,
    source,
)

LIKELY = result()
ALL_ZONES = [zone(x, y) for x in (0.2, 0.8) for y in (0.2, 0.5, 0.8)]
RESULTS = {
    "likely": LIKELY,
    "likely nowhere": result(regions=()),
    "unlikely": UNLIKELY,
    "cannot say": CANNOT_SAY,
    "age unknown": result(age_band="unknown"),
    "certain": result(probability=1.0, threshold=0.123456789012345),
}
READINGS = {
    "accepted": reading(),
    "rejected": reading(conclusion="no_pneumonia", agrees=False),
    "no word on it": reading(conclusion="unsure", agrees=None),
    "another disease": reading(conclusion="other", agrees=False),
    "not usable": reading(conclusion="not_usable", agrees=False),
    "no organization": reading(organization=""),
    "Hindi": reading(reader="डॉ आशा राव"),
}


def made(film: Dataset | None = None, said: Any = LIKELY, read: Any = None, **more: Any) -> Dataset:
    return structured_report(film or source(), said, EQUIPMENT, DESCRIPTION, read, **more)


def read_back(one: Dataset) -> Any:
    return sr.srread(io.BytesIO(written(one)))


def finding(one: Dataset) -> Any:
    """The group that says what the model found."""
    return read_back(one).content.get_image_measurement_groups(
        tracking_uid=uid_from("tracking", one.SOPInstanceUID, "finding")
    )[0]


def places(one: Dataset) -> Any:
    return read_back(one).content.get_planar_roi_measurement_groups()


def of_reader(one: Dataset) -> Any:
    return read_back(one).content.get_image_measurement_groups(
        tracking_uid=uid_from("tracking", one.SOPInstanceUID, "reading")
    )[0]


def evaluations(group: Any) -> dict[str, str]:
    """What is said in codes, by name; who says it is none of it."""
    return {
        one.name.meaning: one.value.meaning
        for one in group.get_qualitative_evaluations()
        if "Observer" not in one.name.meaning
    }


def measurements(group: Any) -> dict[str, float]:
    return {one.name.meaning: one.value for one in group.get_measurements()}


# --- the judges -----------------------------------------------------------------------------------


@pytest.mark.parametrize("read", [None, reading()], ids=["unread", "accepted"])
@pytest.mark.parametrize("said", RESULTS.values(), ids=list(RESULTS))
def test_every_answer_is_valid(said: Any, read: Any) -> None:
    one = made(said=said, read=read)
    assert dciodvfy(one) == []
    assert dicom_validator(one) == []


@pytest.mark.parametrize("read", READINGS.values(), ids=list(READINGS))
def test_every_reading_is_valid(read: Any) -> None:
    one = made(said=UNLIKELY, read=read)
    assert dciodvfy(one) == []
    assert dicom_validator(one) == []


@pytest.mark.parametrize("film", SOURCES.values(), ids=list(SOURCES))
def test_it_is_valid_beside_every_film(film: Dataset) -> None:
    one = made(film, read=reading())
    assert dciodvfy(one) == []
    assert dicom_validator(one) == []
    assert "Measurement Group" in dsrdump(one)


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "Modality", "InstanceNumber"])
def test_the_judges_do_find_what_is_missing(keyword: str) -> None:
    one = made()
    delattr(one, keyword)
    assert dciodvfy(one) != []
    assert dicom_validator(one) != []


def test_the_judge_in_python_finds_what_has_no_place_and_no_value() -> None:
    one = made()
    one.KVP = 80
    one.ContentSequence[0].ValueType = ""
    assert dicom_validator(one) == [
        "sr-document-content: (0040,A730) / (0040,A040) TagEmpty",
        "General: (0018,0060) TagUnexpected",
    ]


def test_dcmtk_reads_finding_places_and_reader() -> None:
    text = dsrdump(made(read=reading()))
    for words in (
        'CODE:(,,"Finding")=(233604007,SCT,"Pneumonia")',
        'NUM:(,,"Probability")="0.9312" (1,UCUM,"no units")',
        'NUM:(,,"Threshold of the answer")="0.41" (1,UCUM,"no units")',
        '(410592001,SCT,"Probably present")',
        "(POLYLINE,60/150,150/150,150/230,60/230,60/150)",
        "(POINT,100.5/190.5)",
        '(281394001,SCT,"Lower zone of lung")',
        'TEXT:(,,"Algorithm Name")="pneumonia-lite"',
        'TEXT:(,,"Algorithm Version")="1.2.0"',
        'PNAME:(,,"Person Observer Name")="Dr Asha Rao^"',
        "(accepted,99CLINIC,",
        "Verification Flag   : VERIFIED",
    ):
        assert words in text


# --- what is read back ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "code"),
    [(LIKELY, "410592001"), (UNLIKELY, "410593006"), (CANNOT_SAY, "82334004")],
    ids=["likely", "unlikely", "cannot say"],
)
def test_the_answer_is_a_shade_of_pneumonia(said: Any, code: str) -> None:
    group = finding(made(said=said))
    assert group.finding_type.value == "233604007"
    (context,) = group.get_qualitative_evaluations(name=report.FINDING_CONTEXT)
    assert context.value.value == code
    assert measurements(group) == {
        "Probability": said.probability,
        "Threshold of the answer": said.threshold,
    }


def test_it_says_why_there_is_no_answer() -> None:
    said = evaluations(finding(made(said=CANNOT_SAY)))
    assert said["Reason why there is no answer"] == "Near the threshold"
    assert "Reason why there is no answer" not in evaluations(finding(made()))


def test_it_names_the_model_its_version_and_the_age_band() -> None:
    lines = dsrdump(made(said=result(age_band="under_5")))
    assert 'TEXT:(,,"Algorithm Parameters")="age band: under_5"' in lines
    group = finding(made())
    named = {
        item.name.meaning: item.value
        for item in group[0].ContentSequence
        if "Algorithm" in item.name.meaning
    }
    assert named["Algorithm Name"] == "pneumonia-lite"
    assert named["Algorithm Version"] == "1.2.0"


def test_the_observer_is_a_device() -> None:
    (observer,) = read_back(made(read=reading())).content.get_observer_contexts()
    assert observer.observer_type.meaning == "Device"
    assert observer.observer_identifying_attributes.uid == EQUIPMENT.uid
    assert observer.observer_identifying_attributes.name == "LAPTOP"


def test_each_region_has_its_outline_its_zone_and_its_side() -> None:
    lower, middle, _ = places(made())
    sides = [[site.laterality.meaning for site in one.finding_sites] for one in (lower, middle)]
    thirds = [[site.value.meaning for site in one.finding_sites] for one in (lower, middle)]
    assert sides == [["Right"], ["Left"]]
    assert thirds == [["Lower zone of lung"], ["Middle zone of lung"]]
    assert lower.roi.graphic_type.value == "POLYLINE"


def test_a_region_is_as_doubtful_as_the_answer() -> None:
    one, _ = places(made(said=CANNOT_SAY))
    assert evaluations(one) == {"Finding context": "Indeterminate"}


def test_every_zone_has_a_code() -> None:
    every = tuple(Region(1, 2, 3, 4, zone, 0.5) for zone in ALL_ZONES)
    found = [place.finding_sites[0] for place in places(made(said=result(regions=every)))[:-1]]
    assert [f"{site.laterality.meaning} {site.value.meaning}" for site in found] == [
        f"{side} {third} zone of lung"
        for side in ("Right", "Left")
        for third in ("Upper", "Middle", "Lower")
    ]


def test_an_unlikely_finding_is_nowhere() -> None:
    assert places(made(said=UNLIKELY)) == []


def test_the_hottest_point_is_no_pneumonia() -> None:
    *_, peak = places(made())
    assert peak.roi.graphic_type.value == "POINT"
    assert peak.roi.value.tolist() == [[100.5, 190.5]]
    assert peak.finding_type.scheme_designator == "99CLINIC"
    assert len(places(made(said=result(peak=None)))) == 2


@st.composite
def regions(draw: st.DrawFn) -> Region:
    x, y = draw(st.integers(0, 9_999)), draw(st.integers(0, 9_999))
    width, height = draw(st.integers(1, 10_000 - x)), draw(st.integers(1, 10_000 - y))
    return Region(x, y, width, height, draw(st.sampled_from(ALL_ZONES)), 0.3)


@settings(max_examples=12, deadline=None)
@given(st.lists(regions(), max_size=4), st.floats(0, 1), st.floats(0, 1))
def test_places_and_numbers_come_back_as_they_went_in(
    marked: list[Region], probability: float, threshold: float
) -> None:
    said = result(regions=tuple(marked), peak=None, probability=probability, threshold=threshold)
    one = made(said=said)
    assert [box_of(place) for place in places(one)] == marked
    assert measurements(finding(one)) == {
        "Probability": probability,
        "Threshold of the answer": threshold,
    }


def box_of(place: Any) -> Region:
    corners = place.roi.value
    left, top = corners.min(axis=0)
    right, bottom = corners.max(axis=0)
    assert np.array_equal(corners[0], corners[-1])
    (site,) = place.finding_sites
    name = f"{site.laterality.meaning} {site.value.meaning.split()[0]}".lower()
    return Region(left, top, right - left, bottom - top, name, 0.3)


# --- the reader -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("conclusion", "said"),
    [
        ("pneumonia", {"Finding context": "Known present"}),
        ("no_pneumonia", {"Finding context": "Known absent"}),
        ("unsure", {"Finding context": "Indeterminate"}),
        ("other", {"Diagnosis": "Another disease"}),
        ("not_usable", {"Quality Assessment": "Non-diagnostic quality"}),
    ],
)
def test_every_conclusion_has_a_code(conclusion: str, said: dict[str, str]) -> None:
    assert evaluations(of_reader(made(read=reading(conclusion=conclusion, agrees=None)))) == said


def test_all_conclusions_are_in_the_table() -> None:
    assert set(report.CONCLUSIONS) == set(CONCLUSIONS)


@pytest.mark.parametrize(("agrees", "word"), [(True, "Accepted"), (False, "Rejected")])
def test_it_says_whether_the_answer_was_accepted(agrees: bool, word: str) -> None:
    said = evaluations(of_reader(made(read=reading(agrees=agrees))))
    assert said["Assessment of the computer's answer"] == word


def test_the_reader_is_the_observer_of_the_reading_alone() -> None:
    group = of_reader(made(read=reading()))
    observer = {item.name.meaning: item for item in group[0].ContentSequence[:4]}
    assert observer["Observer Type"].value.meaning == "Person"
    assert observer["Person Observer Name"].value == "Dr Asha Rao^"
    assert observer["Person Observer's Organization Name"].value == "Clinic at the river"
    assert observer["Person Observer's Role in the Organization"].value.meaning == "Clinician"
    assert group[0].ObservationDateTime == "20261101110000+0530"


def test_without_a_reading_nobody_is_named() -> None:
    assert "Person" not in dsrdump(made())


@pytest.mark.parametrize(
    ("read", "verified"),
    [
        (None, False),
        (reading(), True),
        (reading(agrees=False), False),
        (reading(agrees=None), False),
        (reading(organization=""), False),
    ],
    ids=["unread", "accepted", "rejected", "no word on it", "no organization"],
)
def test_only_an_accepted_answer_is_verified(read: Any, verified: bool) -> None:
    one = made(read=read)
    assert one.VerificationFlag == ("VERIFIED" if verified else "UNVERIFIED")
    assert one.PreliminaryFlag == ("FINAL" if verified else "PRELIMINARY")
    assert one.CompletionFlag == "COMPLETE"
    if verified:
        assert one.VerifyingObserverSequence[0].VerificationDateTime == "20261101110000+0530"
    else:
        assert "VerifyingObserverSequence" not in one


def test_a_report_can_take_the_place_of_another() -> None:
    first = made()
    second = made(read=reading(), earlier=[first])
    item = second.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0]
    assert item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == first.SOPInstanceUID
    assert item.SeriesInstanceUID == first.SeriesInstanceUID
    assert dciodvfy(second) == []


# --- the film it points back to -------------------------------------------------------------------


def test_it_lies_in_the_study_of_the_film_and_points_back_to_it() -> None:
    film, one = source(), made()
    assert one.StudyInstanceUID == film.StudyInstanceUID
    assert one.SeriesInstanceUID != film.SeriesInstanceUID
    assert one.SOPInstanceUID != film.SOPInstanceUID
    evidence = read_back(one).get_evidence()
    wanted = (
        film.StudyInstanceUID,
        film.SeriesInstanceUID,
        film.SOPInstanceUID,
        film.SOPClassUID,
    )
    assert evidence == [wanted]
    assert places(one)[0].roi.ContentSequence[0].referenced_sop_instance_uid == film.SOPInstanceUID


def test_of_several_frames_it_points_at_the_first() -> None:
    region = places(made(source("XC")))[0].roi
    assert region.ContentSequence[0].referenced_frame_numbers == [1]
    assert places(made())[0].roi.ContentSequence[0].referenced_frame_numbers is None


def test_the_library_knows_the_size_of_the_film() -> None:
    text = dsrdump(made())
    assert f'NUM:(,,"Pixel Data Rows")="{FILM.shape[0]}.0"' in text
    assert "Patient Orientation" not in text
    assert "Patient Orientation Row" in dsrdump(made(SOURCES["DX with spacing"]))


def test_identity_is_taken_over() -> None:
    film, one = source(), made()
    for keyword in (
        "PatientName",
        "PatientID",
        "IssuerOfPatientID",
        "PatientBirthDate",
        "PatientSex",
        "PatientAge",
        "StudyInstanceUID",
        "StudyDate",
        "StudyTime",
        "StudyID",
        "StudyDescription",
        "AccessionNumber",
        "ReferringPhysicianName",
    ):
        assert one[keyword].value == film[keyword].value, keyword


def test_names_of_every_script_are_in_utf_8() -> None:
    for name in ("शर्मा^राम", "ديالو^أمينة", "Gonçalves^José"):
        film = source(PatientName=name, SpecificCharacterSet="ISO_IR 192")
        again = pydicom.dcmread(io.BytesIO(written(made(film))))
        assert again.SpecificCharacterSet == "ISO_IR 192"
        assert str(again.PatientName) == name


def test_nothing_else_of_the_patient_travels() -> None:
    film = source(
        PatientComments="HIV positive",
        AdditionalPatientHistory="fever",
        PatientAddress="Mill Road",
        OtherPatientIDs="OLD-1",
        Occupation="miner",
        PatientWeight=61,
        ImageComments="seen by nobody",
    )
    film.add_new(0x00091001, "LO", "maker's own")
    one = made(film, read=reading())
    text = str(one)
    for word in ("HIV", "fever", "Mill Road", "OLD-1", "miner", "nobody", "maker's own"):
        assert word in str(film)
        assert word not in text
    assert "PatientWeight" not in one


def test_there_is_no_private_element() -> None:
    for element in made(read=reading()).iterall():
        assert not element.tag.is_private


def test_values_that_break_their_rules_are_left_out() -> None:
    one = made(SOURCES["rules broken"])
    assert (one.PatientBirthDate, one.PatientSex, one.StudyTime) == ("", "", "")
    assert one.StudyDate == "20261101"
    assert "PatientAge" not in one
    assert "TimezoneOffsetFromUTC" not in one


def test_all_times_are_on_the_clock_of_the_study() -> None:
    one = made(source(TimezoneOffsetFromUTC="+0300"))
    assert (one.ContentDate, one.ContentTime) == ("20261101", "075003")
    assert one.TimezoneOffsetFromUTC == "+0300"
    assert made().ContentTime == "102003"
    assert "TimezoneOffsetFromUTC" not in made()


def test_the_program_is_the_equipment() -> None:
    one = made()
    assert one.Manufacturer == "Chest film reader"
    assert one.SoftwareVersions == "0.1.0"
    assert one.InstitutionName == "Clinic at the river"
    assert one.StationName == "LAPTOP"
    assert one.SeriesDescription == DESCRIPTION
    assert (one.Modality, one.SeriesNumber) == ("SR", 901)


@pytest.mark.parametrize(
    "keyword", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"]
)
def test_it_refuses_a_film_that_nothing_can_point_at(keyword: str) -> None:
    with pytest.raises(NotAddressable) as refused:
        made(source(**{keyword: None}))
    assert refused.value.code == "no_identity"


def test_it_refuses_a_class_that_is_no_image() -> None:
    for uid in ("1.2.3.4.5", Comprehensive3DSRStorage):
        for said in (LIKELY, UNLIKELY):
            with pytest.raises(NotAddressable) as refused:
                made(source(SOPClassUID=uid), said)
            assert refused.value.code == "no_image_class"
    assert made(source(SOPClassUID=CTImageStorage)) is not None


# --- sent twice -----------------------------------------------------------------------------------


def test_what_is_sent_twice_is_one_object_to_the_last_byte() -> None:
    assert written(made(read=reading())) == written(made(read=reading()))


@pytest.mark.parametrize(
    "other",
    [
        {"said": result(probability=0.9313)},
        {"said": result(model_version="1.2.1")},
        {"said": result(regions=(MIDDLE, LOWER))},
        {"film": source(SOPInstanceUID="1.2.3")},
        {"read": reading()},
        {"read": reading(agrees=False)},
        {"earlier": [source(SOPInstanceUID="1.2.4")]},
    ],
    ids=["probability", "model", "regions", "film", "accepted", "rejected", "earlier"],
)
def test_what_says_anything_else_is_another_object(other: dict[str, Any]) -> None:
    uids = {
        made().SOPInstanceUID,
        made(**other).SOPInstanceUID,
        made(read=reading(reader="X")).SOPInstanceUID,
    }
    assert len(uids) == 3


def test_a_corrected_name_does_not_make_another_object() -> None:
    assert made(source(PatientName="Doe^Janet")).SOPInstanceUID == made().SOPInstanceUID


@given(st.lists(st.text(max_size=40), max_size=4), st.lists(st.text(max_size=40), max_size=4))
def test_uids_are_valid_and_of_other_words_others(one: list[str], other: list[str]) -> None:
    uid = uid_from(*one)
    assert uid.is_valid
    assert uid.startswith("2.25.")
    assert (uid == uid_from(*other)) == ("\0".join(one) == "\0".join(other))


# --- what goes in ---------------------------------------------------------------------------------


def test_it_refuses_to_say_what_is_no_answer() -> None:
    for change in (
        {"answer": "refused"},
        {"analysed_at": result().analysed_at.replace(tzinfo=None)},
    ):
        with pytest.raises(ValueError):
            result(**change)
    for change in (
        {"conclusion": "tired"},
        {"reader": " "},
        {"read_at": reading().read_at.replace(tzinfo=None)},
    ):
        with pytest.raises(ValueError):
            reading(**change)


def test_a_reader_cannot_write_a_name_into_other_parts() -> None:
    one = made(read=reading(reader="Rao^Asha=\\x\n "))
    assert one.VerifyingObserverSequence[0].VerifyingObserverName == "Rao Asha x^"


def test_the_picture_needs_no_highdicom(root: Path) -> None:
    program = "import sys, app.cxr.dicom_out.capture; sys.exit('highdicom' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=root, timeout=60).returncode == 0
