"""Results in an archive, beside the film they speak of: sent to DCMTK and Orthanc."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    Comprehensive3DSRStorage,
    ComputedRadiographyImageStorage,
    SecondaryCaptureImageStorage,
)

from app import outbox
from app.fhir import bundle_of
from app.models import Delivery, Instance, Patient, Peer, Reading, Site, Study
from app.outbox import dicom
from app.outbox.faults import NotSent
from app.outbox.results import objects_of
from tests import films
from tests.peers import orthanc, storescp
from tests.people import enter
from tests.running import free_port
from tests.studies import answer, answered, stored, take_in

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("site", "data_dir")]

PIXELS = np.linspace(0, 4000, 256 * 224).reshape(256, 224).astype(np.uint16)


def film_of_a_unit(**elements: object) -> Dataset:
    known = {"PatientName": "Okello^Jane", "PatientID": "C-17", "AccessionNumber": "RX-1"}
    return films.dataset(PIXELS, 12, **(known | elements))


def study_of(film: Dataset, **fields: object) -> Study:
    return answer(take_in(films.written(film), "film.dcm"), **fields)


def peer_at(port: int, title: str = "ARCHIVE", **more: object) -> Peer:
    given = {"name": title, "ae_title": title, "host": "127.0.0.1", "gets_results": True}
    return Peer.objects.create(**(given | {"port": port} | more))


def fault_of(study: Study, peer: Peer) -> NotSent:
    with pytest.raises(NotSent) as caught:
        dicom.send(study, peer)
    return caught.value


class TestWhatIsMade:
    def test_a_film_of_a_unit_gets_a_report_and_a_picture_in_its_own_study(self) -> None:
        film = film_of_a_unit()
        made = objects_of(study_of(film))
        assert [one.SOPClassUID for one in made] == [
            Comprehensive3DSRStorage,
            SecondaryCaptureImageStorage,
        ]
        for one in made:
            assert one.StudyInstanceUID == film.StudyInstanceUID
            assert one.SeriesInstanceUID != film.SeriesInstanceUID
            assert (one.PatientID, one.AccessionNumber) == ("C-17", "RX-1")
            assert film.SOPInstanceUID in str(one)

    def test_a_photograph_goes_along_as_a_film_that_they_point_at(self) -> None:
        patient = Patient.enter({"name": "Amina Diallo", "number": "P-3", "sex": "F"}, by=None)
        study = answered()
        study.change({"patient": patient, "age_years": 2.5}, by=None)
        film, report, picture = objects_of(Study.objects.get())
        assert film.SOPClassUID == SecondaryCaptureImageStorage
        assert (film.PatientID, film.PatientSex) == ("P-3", "F")
        assert {one.StudyInstanceUID for one in (film, report, picture)} == {film.StudyInstanceUID}
        for one in (report, picture):
            assert film.SOPInstanceUID in str(one)

    def test_dicom_and_fhir_call_a_photograph_the_same(self) -> None:
        study = answered()
        film = objects_of(study)[0]
        bundle = json.dumps(bundle_of(Study.objects.newest_first().get()))
        assert f"urn:oid:{film.StudyInstanceUID}" in bundle
        assert film.SOPInstanceUID in bundle

    def test_what_is_made_twice_is_the_same(self) -> None:
        study = study_of(film_of_a_unit())
        first, again = objects_of(study), objects_of(study)
        assert [one.SOPInstanceUID for one in first] == [one.SOPInstanceUID for one in again]

    def test_a_reading_makes_another_report_that_says_it(self) -> None:
        study = study_of(film_of_a_unit())
        before = objects_of(study)[0]
        clinician = enter("clinician", full_name="Achieng Odhiambo")
        Reading.record(study, clinician, conclusion="no_pneumonia", agrees=False)
        report = objects_of(study)[0]
        assert report.SOPInstanceUID != before.SOPInstanceUID
        assert "Odhiambo" in str(report)
        assert "Rejected" in str(report)

    def test_films_without_an_answer_are_left_out(self) -> None:
        study = study_of(film_of_a_unit())
        Instance.objects.create(
            study=study, file_name="b", source="upload", sha256="b" * 64, size_bytes=1, film="b"
        )
        assert len(objects_of(study)) == 2

    def test_a_study_without_any_answer_has_nothing_to_send(self) -> None:
        with pytest.raises(NotSent, match="film_missing"):
            objects_of(take_in())

    def test_a_film_that_is_gone_is_said_so(self) -> None:
        study = study_of(film_of_a_unit())
        stored(study.instances.get()).unlink()
        with pytest.raises(NotSent, match="film_missing"):
            objects_of(study)

    @pytest.mark.parametrize("language", ["fr", "hi", "ar", "sw"])
    def test_words_that_the_font_cannot_draw_are_english(self, language: str) -> None:
        Site.objects.update(language=language, clinic_name="مركز الصحة")
        study = study_of(film_of_a_unit(PatientName="अमीना^देवी", SpecificCharacterSet="ISO_IR 192"))
        Reading.record(study, enter("clinician", full_name="अमीना"), conclusion="pneumonia")
        report, picture = objects_of(study)
        assert str(report.PatientName) == "अमीना^देवी"
        assert picture.Rows > 256


ONLY = """[[TransferSyntaxes]]
[Uncompressed]
TransferSyntax1 = LittleEndianExplicit
[[PresentationContexts]]
[Kinds]
PresentationContext1 = {kind}\\Uncompressed
[[Profiles]]
[Default]
PresentationContexts = Kinds
"""


def taking_only(kind: str, folder: Path) -> list[str]:
    """Options of storescp: it takes objects of one kind."""
    path = folder / "only.cfg"
    path.write_text(ONLY.format(kind=kind), encoding="ascii")
    return ["-xf", str(path), "Default"]


def kept_in(folder: Path) -> list[Dataset]:
    return [pydicom.dcmread(path) for path in sorted(folder.iterdir())]


class TestAnArchive:
    def test_it_keeps_what_it_gets(self, tmp_path: Path) -> None:
        folder = tmp_path / "kept"
        with storescp(folder, "ARCHIVE") as port:
            peer_at(port)
            Delivery.ask(study_of(film_of_a_unit()))
            delivery = Delivery.claim("outbox-test")
            assert delivery is not None
            outbox.send(delivery)
        assert delivery.state == Delivery.State.SENT
        assert {one.SOPClassUID for one in kept_in(folder)} == {
            Comprehensive3DSRStorage,
            SecondaryCaptureImageStorage,
        }

    def test_orthanc_shows_them_once_in_the_study_of_the_film(self, tmp_path: Path) -> None:
        film = film_of_a_unit()
        study = study_of(film)
        with orthanc(tmp_path, clinic=free_port()) as archive:
            archive.post("/instances", films.written(film))
            peer = peer_at(archive.dicom, "ORTHANC")
            dicom.send(study, peer)
            dicom.send(study, peer)
            [found] = archive.get("/studies?expand")
            tags = [
                archive.get(f"/instances/{one['ID']}/simplified-tags")
                for one in archive.get("/instances?expand")
            ]
        assert found["MainDicomTags"]["StudyInstanceUID"] == film.StudyInstanceUID
        assert len(found["Series"]) == 3
        assert sorted(one["SOPClassUID"] for one in tags) == sorted(
            [
                ComputedRadiographyImageStorage,
                SecondaryCaptureImageStorage,
                Comprehensive3DSRStorage,
            ]
        )
        assert {one["PatientID"] for one in tags} == {"C-17"}

    def test_one_that_takes_no_reports_gets_the_picture(self, tmp_path: Path) -> None:
        folder = tmp_path / "kept"
        only = taking_only(SecondaryCaptureImageStorage, tmp_path)
        with storescp(folder, "ARCHIVE", *only) as port:
            dicom.send(study_of(film_of_a_unit()), peer_at(port))
        [kept] = kept_in(folder)
        assert kept.SOPClassUID == SecondaryCaptureImageStorage

    def test_one_that_takes_neither_is_given_up(self, tmp_path: Path) -> None:
        only = taking_only(ComputedRadiographyImageStorage, tmp_path)
        with storescp(tmp_path / "kept", "ARCHIVE", *only) as port:
            fault = fault_of(study_of(film_of_a_unit()), peer_at(port))
        assert (fault.code, fault.for_good) == ("kind_not_taken", True)

    def test_one_that_is_switched_off_is_tried_again(self) -> None:
        fault = fault_of(study_of(film_of_a_unit()), peer_at(free_port()))
        assert (fault.code, fault.nobody_there, fault.for_good) == ("refused", True, False)

    def test_one_that_refuses_us_is_tried_again(self, tmp_path: Path) -> None:
        with storescp(tmp_path / "kept", "ARCHIVE", "--refuse") as port:
            fault = fault_of(study_of(film_of_a_unit()), peer_at(port))
        assert (fault.code, fault.nobody_there, fault.for_good) == ("rejected", True, False)

    def test_one_that_breaks_off_is_tried_again(self, tmp_path: Path) -> None:
        with storescp(tmp_path / "kept", "ARCHIVE", "--abort-during") as port:
            fault = fault_of(study_of(film_of_a_unit()), peer_at(port))
        assert (fault.code, fault.nobody_there) == ("broken_off", True)


def test_what_orthanc_returns_is_no_film_to_analyse() -> None:
    """An archive that forwards all it gets sends our own picture back."""
    from app.worker import analyse

    picture = objects_of(study_of(film_of_a_unit()))[-1]
    out = io.BytesIO()
    pydicom.dcmwrite(out, picture, enforce_file_format=True)
    returned = take_in(out.getvalue(), "back.dcm")
    assert returned == Study.objects.get()
    assert analyse(stored(returned.instances.order_by("id")[1]), None).answer == "refused"
