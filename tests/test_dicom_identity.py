"""What a DICOM file says it is, and which study its film joins."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless, generate_uid

from app.cxr.dicom_identity import Identity, identity_of, read_identity
from app.intake import Belonging, Receipt, receive
from app.models import Instance, Patient, Study
from tests import films

PIXELS = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)


def in_file(folder: Path, content: bytes) -> Path:
    path = folder / "film"
    path.write_bytes(content)
    return path


def took_in(content: bytes, **more: object) -> Receipt:
    return receive(io.BytesIO(content), "film.dcm", "dicom", Belonging(**more))  # type: ignore[arg-type]


def test_a_header_tells_what_the_film_is_and_belongs_to(tmp_path: Path) -> None:
    found = films.dataset(PIXELS, 12, AccessionNumber="A-77")
    identity = read_identity(in_file(tmp_path, films.written(found)))
    assert identity == Identity(
        sop_class_uid=found.SOPClassUID,
        sop_instance_uid=found.SOPInstanceUID,
        study_uid=found.StudyInstanceUID,
        series_uid=found.SeriesInstanceUID,
        accession_number="A-77",
    )


@pytest.mark.parametrize(
    "content",
    [b"", b"\0" * 128, b"\0" * 128 + b"DICM", b"\0" * 128 + b"DICM" + b"\xff" * 200, b"no film"],
    ids=["empty", "too short", "prefix alone", "nonsense", "text"],
)
def test_what_is_no_dicom_file_has_no_identity(tmp_path: Path, content: bytes) -> None:
    assert read_identity(in_file(tmp_path, content)) == Identity()


def test_a_file_that_is_not_there_has_no_identity(tmp_path: Path) -> None:
    assert read_identity(tmp_path / "gone") == Identity()


def test_a_deflated_file_is_not_inflated_to_look(tmp_path: Path) -> None:
    found = films.dataset(PIXELS, 12)
    found.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    assert read_identity(in_file(tmp_path, films.written(found))) == Identity()


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("SOPInstanceUID", "1.2." + "3" * 80),
        ("SOPInstanceUID", "1.2.x"),
        ("SOPInstanceUID", "../../etc/passwd"),
        ("SOPInstanceUID", "17"),
        ("AccessionNumber", "17 characters long"),
    ],
)
def test_an_impossible_value_counts_as_unsaid(keyword: str, value: str) -> None:
    found = films.dataset(PIXELS, 12)
    setattr(found, keyword, value)
    identity = identity_of(found)
    said = {
        "SOPInstanceUID": identity.sop_instance_uid,
        "AccessionNumber": identity.accession_number,
    }
    assert said[keyword] == ""
    assert identity.study_uid == found.StudyInstanceUID


@pytest.mark.django_db
class TestWhatJoinsWhat:
    def test_films_of_one_study_join_one_study(self) -> None:
        uid = generate_uid()
        first = took_in(films.dicom(PIXELS, 12, StudyInstanceUID=uid, ViewPosition="PA"))
        second = took_in(films.dicom(PIXELS, 12, StudyInstanceUID=uid, ViewPosition="LL"))
        assert first.instance.study == second.instance.study
        assert Study.objects.get().study_uid == uid

    def test_films_of_two_studies_stay_apart(self) -> None:
        took_in(films.dicom(PIXELS, 12, ViewPosition="PA"))
        took_in(films.dicom(PIXELS, 12, ViewPosition="AP"))
        assert Study.objects.count() == 2

    def test_a_study_that_somebody_named_outweighs_the_header(self) -> None:
        theirs = took_in(films.dicom(PIXELS, 12, ViewPosition="PA")).instance.study
        other = took_in(films.dicom(PIXELS, 12, ViewPosition="AP"), study=theirs).instance
        assert other.study == theirs

    def test_a_film_of_another_patient_does_not_join_the_study_in_its_header(self) -> None:
        uid = generate_uid()
        amina = Patient.enter({"name": "Amina", "number": "1"}, by=None)
        okello = Patient.enter({"name": "Okello", "number": "2"}, by=None)
        one = took_in(films.dicom(PIXELS, 12, StudyInstanceUID=uid), patient=amina)
        two = took_in(films.dicom(PIXELS + 1, 12, StudyInstanceUID=uid), patient=okello)
        assert one.instance.study != two.instance.study
        assert two.instance.study.patient == okello

    def test_the_accession_number_finds_the_study(self) -> None:
        film = took_in(films.dicom(PIXELS, 12, AccessionNumber="RX-2031")).instance
        assert list(Study.objects.search("rx-2031")) == [film.study]

    def test_the_same_object_in_another_transfer_syntax_is_stored_once(self) -> None:
        plain, packed = films.dataset(PIXELS, 12), films.dataset(PIXELS, 12)
        packed.compress(RLELossless)
        packed.SOPInstanceUID = plain.SOPInstanceUID
        first = took_in(films.written(plain))
        again = took_in(films.written(packed))
        assert again.duplicate
        assert again.instance == first.instance
        assert Instance.objects.count() == 1

    def test_an_instance_number_given_twice_by_careless_software_loses_no_film(self) -> None:
        same = generate_uid()
        took_in(films.dicom(PIXELS, 12, SOPInstanceUID=same, SeriesInstanceUID=generate_uid()))
        second = took_in(
            films.dicom(PIXELS + 1, 12, SOPInstanceUID=same, SeriesInstanceUID=generate_uid())
        )
        assert not second.duplicate
        assert Instance.objects.count() == 2

    def test_who_brought_it_is_kept(self) -> None:
        film = took_in(films.dicom(PIXELS, 12), sender="XRAY1").instance
        assert Instance.objects.get(pk=film.pk).sender == "XRAY1"
