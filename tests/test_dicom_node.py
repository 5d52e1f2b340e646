"""Films by DICOM: from DCMTK's senders and from Orthanc, over loopback, into the real intake."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pydicom
import pytest
from django.utils import timezone
from pydicom.dataset import Dataset
from pydicom.pixels import get_decoder
from pydicom.uid import (
    CTImageStorage,
    EncapsulatedPDFStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MammographyCADSRStorage,
    RLELossless,
)
from pynetdicom import AE, evt
from pynetdicom.sop_class import (
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
    Verification,
)

from app.dicom import acceptor, callers, commitment, echo, node, storage
from app.dicom.association import CODES
from app.dicom.callers import Callers
from app.intake import Rejected
from app.models import AuditEvent, Commitment, Instance, Peer, Site, Study
from tests import peers
from tests.dicom_clinic import UNIT, associated, film, listening, send, settled, unit, written
from tests.people import browser
from tests.running import free_port
from tests.studies import stored as file_of

pytestmark = pytest.mark.django_db(transaction=True)
SUCCESS = 0x0000


@pytest.fixture(autouse=True)
def nobody_turned_away(monkeypatch) -> Callers:
    """Each test begins with an empty list."""
    fresh = Callers()
    monkeypatch.setattr(acceptor, "callers", fresh)
    monkeypatch.setattr("app.views.dicom.callers", fresh)
    monkeypatch.setattr("app.dicom.forms.callers", fresh)
    callers._addresses.clear()
    return fresh


@pytest.fixture
def port(data_dir: Path) -> Iterator[int]:
    """Where the node listens, for a unit that is entered."""
    unit()
    with listening() as found:
        yield found


@pytest.fixture
def one(tmp_path: Path) -> Path:
    return written(tmp_path, film())


def stored() -> list[Instance]:
    return list(Instance.objects.order_by("pk"))


class TestEcho:
    def test_dcmtk_gets_an_answer(self, port):
        assert "rc=0" in peers.dcmtk("echoscu", port, calling=UNIT)

    def test_orthanc_gets_an_answer(self, port, tmp_path):
        unit("ORTHANC")
        with peers.orthanc(tmp_path, clinic=port) as archive:
            assert archive.post("/modalities/clinic/echo", {}) == {}

    def test_a_machine_that_sends_no_films_gets_one_too(self, port):
        unit("ARCHIVE", sends_films=False)
        assert "rc=0" in peers.dcmtk("echoscu", port, calling="ARCHIVE")


class TestStorage:
    @pytest.mark.parametrize("program", ["storescu", "dcmsend"])
    def test_a_film_of_dcmtk_is_stored_and_queued(self, port, one, program):
        assert "rc=0" in peers.dcmtk(program, port, str(one), calling=UNIT)
        found = stored()[0]
        sent = pydicom.dcmread(one)
        assert (found.source, found.sender) == ("dicom", UNIT)
        assert found.sop_instance_uid == sent.SOPInstanceUID
        assert found.study.study_uid == sent.StudyInstanceUID
        assert found.file_name == f"{sent.SOPInstanceUID}.dcm"
        assert pydicom.dcmread(file_of(found)).PixelData == sent.PixelData

    def test_a_film_of_orthanc_is_stored_and_queued(self, port, one, tmp_path):
        unit("ORTHANC")
        with peers.orthanc(tmp_path, clinic=port) as archive:
            known = archive.post("/instances", one.read_bytes())["ID"]
            archive.post("/modalities/clinic/store", [known])
        assert [film.sender for film in stored()] == ["ORTHANC"]

    @pytest.mark.parametrize("program", ["storescu", "dcmsend"])
    def test_the_same_film_again_is_answered_and_stored_once(self, port, one, program):
        for _ in range(2):
            assert "rc=0" in peers.dcmtk(program, port, str(one), calling=UNIT)
        assert len(stored()) == 1

    def test_the_same_film_in_another_encoding_is_stored_once(self, port, one):
        other = peers.transcoded(one, "dcmcrle")
        for path in (one, other):
            assert "rc=0" in peers.dcmtk(
                "dcmsend", port, "--decompress-never", str(path), calling=UNIT
            )
        assert len(stored()) == 1

    def test_two_films_of_a_study_are_one_study(self, port):
        first = film(1)
        second = film(2, StudyInstanceUID=first.StudyInstanceUID)
        assert [send(port, one).Status for one in (first, second)] == [SUCCESS, SUCCESS]
        assert (len(stored()), Study.objects.count()) == (2, 1)

    @pytest.mark.parametrize("sop_class", storage.SOP_CLASSES, ids=lambda uid: uid.name)
    def test_it_takes_every_class_of_film(self, port, sop_class):
        found = film(SOPClassUID=sop_class)
        found.file_meta.MediaStorageSOPClassUID = sop_class
        assert send(port, found).Status == SUCCESS
        assert stored()[0].sop_class_uid == sop_class

    @pytest.mark.parametrize(
        ("program", "option", "sender", "proposal"),
        [
            ("dcmconv", "+ti", "storescu", "-xi"),
            ("dcmcjpeg", "+e1", "storescu", "-xs"),
            ("dcmcjpeg", "+el", "dcmsend", "--decompress-never"),
            ("dcmcjpeg", "+ee", "storescu", "-xx"),
            ("dcmcjpls", "+el", "storescu", "-xt"),
            ("dcmcjpls", "+en", "storescu", "-xu"),
            ("dcmcrle", "", "storescu", "-xr"),
        ],
    )
    def test_it_takes_every_transfer_syntax(self, port, one, program, option, sender, proposal):
        sent = peers.transcoded(one, program, *([option] if option else []))
        assert "rc=0" in peers.dcmtk(sender, port, proposal, str(sent), calling=UNIT)
        kept = pydicom.dcmread(file_of(stored()[0]))
        before = pydicom.dcmread(sent)
        assert kept.file_meta.TransferSyntaxUID == before.file_meta.TransferSyntaxUID
        assert kept.PixelData == before.PixelData

    def test_it_takes_big_endian_where_nothing_else_is_offered(self, port, one):
        sent = pydicom.dcmread(peers.transcoded(one, "dcmconv", "+tb"))
        assert send(port, sent).Status == SUCCESS
        kept = pydicom.dcmread(file_of(stored()[0]))
        assert kept.file_meta.TransferSyntaxUID == ExplicitVRBigEndian
        assert kept.PixelData == sent.PixelData

    def test_what_it_takes_it_can_decode(self):
        for syntax in storage.TRANSFER_SYNTAXES:
            assert not syntax.is_encapsulated or get_decoder(syntax).is_available, syntax.name

    def test_it_prefers_a_film_as_it_was_taken(self, port):
        wanted = [str(RLELossless), str(ImplicitVRLittleEndian), str(ExplicitVRLittleEndian)]
        with associated(port, (str(storage.SOP_CLASSES[0]), wanted)) as association:
            chosen = association.accepted_contexts[0].transfer_syntax
        assert chosen == [ExplicitVRLittleEndian]

    @pytest.mark.parametrize(
        "sop_class", [CTImageStorage, EncapsulatedPDFStorage, MammographyCADSRStorage]
    )
    def test_it_refuses_what_is_no_film(self, port, sop_class):
        contexts = [(str(Verification), str(ImplicitVRLittleEndian))]
        with associated(port, *contexts, (str(sop_class), str(ExplicitVRLittleEndian))) as asked:
            rejected = asked.rejected_contexts
        assert [(one.abstract_syntax, one.result) for one in rejected] == [(sop_class, 3)]

    def test_many_associations_at_once_lose_nothing(self, port):
        sent = [film(seed) for seed in range(24)]
        answers: list[int] = []

        def push(some: list[Dataset]) -> None:
            syntax = (str(storage.SOP_CLASSES[0]), str(ExplicitVRLittleEndian))
            with associated(port, syntax) as association:
                answers.extend(association.send_c_store(one).Status for one in some)

        threads = [threading.Thread(target=push, args=[sent[at::6]]) for at in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == [SUCCESS] * 24
        assert {one.sop_instance_uid for one in stored()} == {one.SOPInstanceUID for one in sent}

    def test_a_large_film_goes_through_a_file(self, port, monkeypatch):
        monkeypatch.setattr("app.dicom.upper_layer.IN_MEMORY", 1000)
        sent = film(size=(300, 200))
        assert send(port, sent).Status == SUCCESS
        assert pydicom.dcmread(file_of(stored()[0])).PixelData == sent.PixelData

    def test_nothing_of_a_film_is_left_in_the_temporary_folder(self, port, settings):
        send(port, film())
        assert list(settings.TEMPORARY_DIR.iterdir()) == []


class TestStatuses:
    def test_a_full_disk_is_out_of_resources(self, port, settings):
        settings.MIN_FREE_BYTES = 1 << 60
        answer = send(port, film())
        assert (answer.Status, stored()) == (0xA700, [])
        assert answer.ErrorComment == "the disk is full"

    def test_a_disk_that_fills_while_a_large_film_comes_in(self, port, settings, monkeypatch):
        monkeypatch.setattr("app.dicom.upper_layer.IN_MEMORY", 1000)
        settings.MIN_FREE_BYTES = 1 << 60
        assert send(port, film()).Status == 0xA700

    def test_a_film_that_is_too_large_is_said_to_be(self, port, settings):
        settings.MAX_FILM_BYTES = 4000
        assert send(port, film()).Status == 0xC001
        assert stored() == []

    def test_the_association_goes_on_after_a_refused_film(self, port, settings):
        settings.MAX_FILM_BYTES = 10_000
        small, large = film(1), film(2, size=(90, 80))
        syntax = (str(small.SOPClassUID), str(ExplicitVRLittleEndian))
        with associated(port, syntax) as association:
            answers = [association.send_c_store(one).Status for one in (large, small)]
        assert answers == [0xC001, SUCCESS]

    @pytest.mark.parametrize(
        ("code", "status"),
        [("disk_full", 0xA700), ("cannot_store", 0xA701), ("too_large", 0xC001), ("new", 0x0110)],
    )
    def test_what_the_intake_says_becomes_a_status(self, port, monkeypatch, code, status):
        def refuse(*_words: Any, **_more: Any) -> None:
            raise Rejected(code)

        monkeypatch.setattr("app.intake.receive", refuse)
        assert send(port, film()).Status == status

    def test_a_fault_of_the_program_leaves_the_film_with_its_sender(self, port, monkeypatch):
        monkeypatch.setattr("app.intake.receive", lambda *_words, **_more: 1 / 0)
        assert send(port, film()).Status == 0x0110

    def test_every_comment_fits_its_element(self):
        assert all(len(comment) <= 64 for _status, comment in storage.STATUSES.values())

    def test_a_machine_that_may_not_send_films_hears_so(self, port):
        unit("ARCHIVE", sends_films=False)
        assert send(port, film(), calling="ARCHIVE").Status == 0x0124
        assert stored() == []

    def test_a_peer_that_was_removed_meanwhile_sends_no_more(self, port):
        found = film()
        with associated(port, (str(found.SOPClassUID), str(ExplicitVRLittleEndian))) as asked:
            Peer.objects.all().delete()
            assert asked.send_c_store(found).Status == 0x0124


class TestWhoIsLetIn:
    def test_a_stranger_hears_that_its_name_is_not_known(self, port, nobody_turned_away):
        said = peers.dcmtk("echoscu", port, calling="XRAY2")
        assert "Calling AE Title Not Recognized" in said
        found = nobody_turned_away.turned_away()[0]
        assert (found.ae_title, found.address, found.reason) == (
            "XRAY2",
            "127.0.0.1",
            callers.UNKNOWN_TITLE,
        )

    def test_a_known_name_from_another_address_is_a_stranger(self, port, nobody_turned_away):
        Peer.objects.update(host="192.0.2.9")
        assert "Calling AE Title Not Recognized" in peers.dcmtk("echoscu", port, calling=UNIT)
        assert nobody_turned_away.turned_away()[0].reason == callers.UNKNOWN_ADDRESS

    def test_who_calls_us_by_another_name_hears_so(self, port, nobody_turned_away):
        said = peers.dcmtk("echoscu", port, calling=UNIT, called="CLINC")
        assert "Called AE Title Not Recognized" in said
        found = nobody_turned_away.turned_away()[0]
        assert (found.called, found.reason) == ("CLINC", callers.WRONG_NAME)

    def test_a_peer_may_be_entered_by_its_name_in_the_network(self, port):
        Peer.objects.update(host="localhost")
        assert "rc=0" in peers.dcmtk("echoscu", port, calling=UNIT)

    def test_a_name_that_nobody_knows_lets_nobody_in(self, port):
        Peer.objects.update(host="no-such-host.invalid")
        assert "rc=0" not in peers.dcmtk("echoscu", port, calling=UNIT)

    def test_of_two_machines_with_one_name_the_address_decides(self, db):
        here, there = unit(), unit(name="other", host="192.0.2.9", sends_films=False)
        assert callers.peer_of(UNIT, "127.0.0.1") == here
        assert callers.peer_of(UNIT, "192.0.2.9") == there
        assert callers.peer_of(UNIT, "192.0.2.10") is None

    def test_one_association_too_many_is_told_to_try_again(self, port, monkeypatch):
        monkeypatch.setattr(acceptor, "MOST_ASSOCIATIONS", 1)
        syntax = (str(Verification), str(ImplicitVRLittleEndian))
        with associated(port, syntax) as first, associated(port, syntax) as second:
            assert first.is_established
            assert second.is_rejected
            answer = second.acceptor.primitive
        assert (answer.result, answer.result_source, answer.diagnostic) == (2, 3, 2)

    def test_strangers_are_counted_and_the_oldest_forgotten(self):
        found = Callers()
        for number in range(callers.MOST_TURNED_AWAY + 5):
            found.note(f"X{number}", "192.0.2.1", "CLINIC", callers.UNKNOWN_TITLE)
        found.note("X24", "192.0.2.1", "CLINIC", callers.UNKNOWN_TITLE)
        listed = found.turned_away()
        assert len(listed) == callers.MOST_TURNED_AWAY
        assert (listed[0].ae_title, listed[0].times) == ("X24", 2)

    def test_the_same_stranger_is_logged_once(self, caplog):
        found = Callers()
        for _ in range(5):
            found.note("XRAY9", "192.0.2.1", "CLINIC", callers.UNKNOWN_TITLE)
        assert len(caplog.records) == 1

    def test_a_made_up_name_is_fit_to_be_shown(self):
        assert callers.printable("X\n\x1b[31m\u202eY" * 9) == "X??[31m?YX??[31m"


class TestTestOfAPeer:
    def peer(self, port: int, **values: Any) -> Peer:
        return Peer(name="Archive", ae_title="ARCH", host="127.0.0.1", port=port, **values)

    def said(self, peer: Peer) -> tuple[str, str]:
        outcome = echo.echo(peer)
        return outcome.code, echo.sentence(outcome.code, peer, outcome)

    def test_a_machine_that_answers(self, site, tmp_path):
        with peers.storescp(tmp_path / "in", "ARCH") as port:
            code, words = self.said(self.peer(port))
        assert code == "ok"
        assert re.search(r"\d ms", words)

    def test_orthanc_answers(self, site, tmp_path):
        with peers.orthanc(tmp_path, DicomAlwaysAllowEcho=True) as archive:
            assert self.said(self.peer(archive.dicom))[0] == "ok"

    def test_a_machine_that_does_not_know_us(self, site, data_dir):
        with listening() as port:
            code, words = self.said(self.peer(port))
        assert code == "calling_unknown"
        assert "reached the machine, but it refused our name CLINIC" in words

    def test_an_orthanc_that_does_not_know_us(self, site, tmp_path):
        strict = {"DicomAlwaysAllowEcho": False, "DicomModalities": {}}
        with peers.orthanc(tmp_path, **strict) as archive:
            code, words = self.said(self.peer(archive.dicom))
        assert code == "aborted"
        assert "may not know our name CLINIC" in words

    def test_an_orthanc_of_another_name(self, site, tmp_path):
        with peers.orthanc(tmp_path, DicomCheckCalledAet=True) as archive:
            code, words = self.said(self.peer(archive.dicom))
        assert code == "called_unknown"
        assert "is not called ARCH" in words

    def test_a_machine_that_refuses_everybody(self, site, tmp_path):
        with peers.storescp(tmp_path / "in", "ARCH", "--refuse") as port:
            assert self.said(self.peer(port))[0] == "rejected"

    def test_nobody_listens(self, site):
        code, words = self.said(self.peer(free_port()))
        assert code == "refused"
        assert "nothing listens on its port" in words

    def test_a_name_that_nobody_has(self, site):
        code, words = self.said(
            Peer(name="Archive", ae_title="ARCH", host="no-such-host.invalid", port=104)
        )
        assert code == "no_name"
        assert "no-such-host.invalid" in words

    def test_something_that_says_nothing(self, site, monkeypatch):
        monkeypatch.setattr("app.dicom.association.ACSE_SECONDS", 0.5)
        with socket.create_server(("127.0.0.1", 0)) as silent:
            assert self.said(self.peer(silent.getsockname()[1]))[0] == "not_dicom"

    def test_something_that_stops_in_the_middle_of_its_answer(self, site, monkeypatch):
        monkeypatch.setattr("app.dicom.association.ACSE_SECONDS", 0.5)

        def answer_by_halves(asked: socket.socket) -> None:
            connection, _address = asked.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"\x02\0\0\0")
                connection.recv(4096)

        with socket.create_server(("127.0.0.1", 0)) as server:
            thread = threading.Thread(target=answer_by_halves, args=[server])
            thread.start()
            assert self.said(self.peer(server.getsockname()[1]))[0] == "not_dicom"
            thread.join()

    def test_a_machine_that_does_not_answer_at_all(self, site, monkeypatch):
        def in_vain(*_words: Any) -> None:
            raise TimeoutError

        monkeypatch.setattr("app.dicom.association.socket.create_connection", in_vain)
        assert self.said(self.peer(free_port()))[0] == "no_answer"

    def test_a_machine_in_a_network_to_which_there_is_no_way(self, site, monkeypatch):
        def in_vain(*_words: Any) -> None:
            raise OSError(101, "Network is unreachable")

        monkeypatch.setattr("app.dicom.association.socket.create_connection", in_vain)
        assert self.said(self.peer(free_port()))[0] == "unreachable"

    def scp(self, *contexts: str, **handlers: Any) -> Any:
        entity = AE(ae_title="ARCH")
        for one in contexts:
            entity.add_supported_context(one)
        bound = [(getattr(evt, name), handler) for name, handler in handlers.items()]
        return entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=bound)

    def test_a_machine_that_offers_no_echo(self, site):
        server = self.scp(str(CTImageStorage))
        code, _words = self.said(self.peer(server.server_address[1]))
        server.shutdown()
        assert code == "not_supported"

    def test_a_machine_that_answers_with_a_fault(self, site):
        server = self.scp(str(Verification), EVT_C_ECHO=lambda _event: 0x0110)
        code, words = self.said(self.peer(server.server_address[1]))
        server.shutdown()
        assert code == "failed"
        assert "0110" in words

    def test_a_machine_that_breaks_off(self, site):
        def break_off(asked: socket.socket) -> None:
            connection, _address = asked.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"\x07\0\0\0\0\x04\0\0\2\0")  # PS3.8, 9.3.8
                connection.recv(4096)

        with socket.create_server(("127.0.0.1", 0)) as server:
            thread = threading.Thread(target=break_off, args=[server])
            thread.start()
            assert self.said(self.peer(server.getsockname()[1]))[0] == "aborted"
            thread.join()

    def test_a_machine_that_is_busy(self, site):
        def reject(event: Any) -> None:
            event.assoc.acse.send_reject(2, 3, 1)
            event.assoc.kill()

        server = self.scp(str(Verification), EVT_REQUESTED=reject)
        code, _words = self.said(self.peer(server.server_address[1]))
        server.shutdown()
        assert code == "busy"

    def test_there_is_a_sentence_for_every_code(self, site):
        for code in {*CODES, "ok", "failed"}:
            assert echo.sentence(code, self.peer(104)).startswith("Archive")


class TestCommitment:
    def asked(self, *films: Dataset, uid: str = "1.2.3") -> Dataset:
        found = Dataset()
        found.TransactionUID = uid
        found.ReferencedSOPSequence = []
        for one in films:
            item = Dataset()
            item.ReferencedSOPClassUID = one.SOPClassUID
            item.ReferencedSOPInstanceUID = one.SOPInstanceUID
            found.ReferencedSOPSequence.append(item)
        return found

    def ask(self, port: int, question: Dataset, action: int = 1) -> int:
        context = (str(StorageCommitmentPushModel), str(ImplicitVRLittleEndian))
        with associated(port, context) as association:
            status, _reply = association.send_n_action(
                question, action, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
            )
        return int(status.Status)

    @pytest.fixture
    def listener(self) -> Iterator[SimpleNamespace]:
        """The unit's own ear, for answers on an association of ours."""
        heard: list[tuple[int, Dataset]] = []
        answers = SimpleNamespace(heard=heard, status=0x0000, port=0)

        def hear(event: Any) -> tuple[int, None]:
            heard.append((event.event_type, event.event_information))
            return answers.status, None

        entity = AE(ae_title=UNIT)
        entity.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
        server = entity.start_server(
            ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, hear)]
        )
        answers.port = server.server_address[1]
        yield answers
        server.shutdown()

    def answer(self) -> None:
        Commitment.objects.update(next_try_at=timezone.now())
        commitment.answer_due()

    def test_what_is_kept_is_promised(self, port, listener):
        Peer.objects.update(port=listener.port)
        kept = film()
        send(port, kept)
        assert self.ask(port, self.asked(kept)) == SUCCESS
        self.answer()
        event, report = listener.heard[0]
        assert (event, report.TransactionUID) == (1, "1.2.3")
        assert report.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == kept.SOPInstanceUID
        assert "FailedSOPSequence" not in report
        assert Commitment.objects.get().state == "reported"

    def test_what_is_not_kept_is_named_with_its_reason(self, port, listener):
        Peer.objects.update(port=listener.port)
        kept, missing, lost, other = film(1), film(2), film(3), film(4)
        for one in (kept, lost, other):
            send(port, one)
        file_of(Instance.objects.get(sop_instance_uid=lost.SOPInstanceUID)).unlink()
        other.SOPClassUID = CTImageStorage
        self.ask(port, self.asked(kept, missing, lost, other))
        self.answer()
        event, report = listener.heard[0]
        assert event == 2
        assert len(report.ReferencedSOPSequence) == 1
        assert [item.FailureReason for item in report.FailedSOPSequence] == [
            commitment.NO_SUCH_INSTANCE,
            commitment.CANNOT_BE_READ,
            commitment.OTHER_CLASS,
        ]

    def test_a_peer_that_waits_is_answered_where_it_waits(self, port):
        heard: list[int] = []

        def hear(event: Any) -> tuple[int, None]:
            heard.append(event.event_type)
            return 0x0000, None

        context = (str(StorageCommitmentPushModel), str(ImplicitVRLittleEndian))
        handlers = [(evt.EVT_N_EVENT_REPORT, hear)]
        with associated(port, context, evt_handlers=handlers) as association:
            association.send_n_action(
                self.asked(film()),
                1,
                StorageCommitmentPushModel,
                StorageCommitmentPushModelInstance,
            )
            self.answer()
            assert association.is_established
        assert heard == [2]
        assert Commitment.objects.get().state == "reported"

    def test_who_cannot_be_reached_is_tried_again_later_and_given_up_in_the_end(self, port):
        Peer.objects.update(port=free_port())
        self.ask(port, self.asked(film()))
        self.answer()
        found = Commitment.objects.get()
        assert (found.state, found.attempts, found.problem) == ("waiting", 1, "refused")
        assert found.next_try_at > timezone.now()
        for _ in commitment.PAUSES:
            self.answer()
        assert Commitment.objects.get().state == "given_up"

    def test_films_that_cannot_be_looked_at_now_are_asked_for_again(self, port, monkeypatch):
        def away(_sha256: str) -> bool:
            raise OSError

        kept = film()
        send(port, kept)
        monkeypatch.setattr("app.films.is_kept", away)
        self.ask(port, self.asked(kept))
        self.answer()
        found = Commitment.objects.get()
        assert (found.state, found.attempts) == ("waiting", 1)

    def test_what_is_not_due_waits(self, port, listener):
        Peer.objects.update(port=listener.port)
        self.ask(port, self.asked(film()))
        Commitment.objects.update(next_try_at=timezone.now() + timedelta(hours=1))
        commitment.answer_due()
        assert listener.heard == []

    def test_an_answer_that_is_refused_is_given_again(self, port, listener):
        Peer.objects.update(port=listener.port)
        listener.status = 0x0110
        self.ask(port, self.asked(film()))
        self.answer()
        assert Commitment.objects.get().problem == "failed"
        listener.status = SUCCESS
        self.answer()
        assert Commitment.objects.get().state == "reported"

    def test_the_same_question_again_is_answered_again(self, port, listener):
        Peer.objects.update(port=listener.port)
        for _ in range(2):
            self.ask(port, self.asked(film()))
            self.answer()
        assert len(listener.heard) == 2
        assert Commitment.objects.count() == 1

    def test_old_answers_are_forgotten(self, port):
        long_ago = timezone.now() - commitment.KEEP - timedelta(days=1)
        peer = Peer.objects.get()
        for uid, state in (("1.1", "reported"), ("1.2", "given_up")):
            Commitment.objects.create(
                peer=peer, transaction_uid=uid, state=state, created_at=long_ago
            )
        commitment.answer_due()
        assert not Commitment.objects.exists()

    def test_another_action_is_not_known(self, port):
        assert self.ask(port, self.asked(film()), action=2) == commitment.NO_SUCH_ACTION

    @pytest.mark.parametrize("fault", ["empty", "no_uid", "no_sequence", "path"])
    def test_what_is_no_question_is_refused(self, port, fault):
        question = self.asked(film())
        if fault == "empty":
            question.ReferencedSOPSequence = []
        elif fault == "no_sequence":
            del question.ReferencedSOPSequence
        else:
            question.TransactionUID = "" if fault == "no_uid" else "../../1"
        assert self.ask(port, question) == commitment.INVALID_ARGUMENT
        assert not Commitment.objects.exists()

    def test_who_may_not_send_films_may_not_ask(self, port):
        Peer.objects.update(sends_films=False)
        assert self.ask(port, self.asked(film())) == commitment.NOT_ALLOWED

    def test_orthanc_asks_and_is_told(self, port, one, tmp_path):
        asker = unit("ORTHANC")
        with peers.orthanc(tmp_path, clinic=port) as archive:
            Peer.objects.filter(pk=asker.pk).update(port=archive.dicom)
            known = archive.post("/instances", one.read_bytes())["ID"]
            archive.post("/modalities/clinic/store", [known])
            job = archive.post("/modalities/clinic/storage-commitment", {"Resources": [known]})
            settled(lambda: Commitment.objects.exists())
            self.answer()
            report = archive.get(f"/storage-commitment/{job['ID']}")
        assert report["Status"] == "Success"
        assert len(report["Success"]) == 1


class TestNode:
    @pytest.fixture
    def running(self, site, data_dir) -> Iterator[node.Node]:
        """The node of a program that runs."""
        with node.node.kept():
            yield node.node

    def switch(self, **values: Any) -> None:
        site = Site.current()
        for name, value in values.items():
            setattr(site, name, value)
        site.save()

    def test_it_is_off_until_it_is_switched_on(self, running):
        assert not running.listens

    def test_it_follows_the_choice_while_it_runs(self, running):
        port = free_port()
        self.switch(dicom=True, dicom_port=port)
        assert running.listens
        assert peers.listens(port)
        self.switch(dicom=False)
        assert not running.listens
        assert not peers.listens(port)

    def test_another_port_is_taken_at_once(self, running):
        first, second = free_port(), free_port()
        self.switch(dicom=True, dicom_port=first)
        self.switch(dicom_port=second)
        assert peers.listens(second)
        assert not peers.listens(first)

    def test_another_name_holds_at_once(self, running):
        port = free_port()
        unit()
        self.switch(dicom=True, dicom_port=port)
        self.switch(ae_title="HOSPITAL")
        assert "rc=0" in peers.dcmtk("echoscu", port, calling=UNIT, called="HOSPITAL")

    def test_names_with_spaces_inside_are_names(self, running, tmp_path):
        port = free_port()
        unit("X RAY 1")
        self.switch(dicom=True, dicom_port=port, ae_title="OUR CLINIC")
        sent = str(written(tmp_path, film()))
        names = {"calling": "X RAY 1", "called": "OUR CLINIC"}
        assert "rc=0" in peers.dcmtk("echoscu", port, **names)
        assert "rc=0" in peers.dcmtk("storescu", port, sent, **names)
        assert stored()[0].study.instances.count() == 1

    def test_a_port_that_is_taken_stops_nothing_and_is_said(self, running):
        with socket.create_server(("127.0.0.1", 0)) as other:
            self.switch(dicom=True, dicom_port=other.getsockname()[1])
            assert (running.listens, running.problem) == (False, "port_taken")

    def test_it_takes_the_port_once_it_is_free(self, running):
        with socket.create_server(("127.0.0.1", 0)) as other:
            self.switch(dicom=True, dicom_port=other.getsockname()[1])
        running.follow(Site.current())
        assert running.listens
        assert running.problem == ""

    def test_a_port_of_the_system_is_said_to_be_one(self, running, monkeypatch):
        def forbidden(*_words: Any) -> None:
            raise node.server.PortTaken("104") from PermissionError(13, "Permission denied")

        monkeypatch.setattr(node.server, "listen", forbidden)
        self.switch(dicom=True, dicom_port=104)
        assert running.problem == "port_not_allowed"

    def test_whatever_goes_wrong_the_program_goes_on(self, running, monkeypatch):
        monkeypatch.setattr(acceptor.Acceptor, "__init__", lambda *_words: 1 / 0)
        self.switch(dicom=True, dicom_port=free_port())
        assert running.problem == "cannot_open"

    def test_it_is_closed_when_the_program_ends(self, site, data_dir):
        port = free_port()
        with node.node.kept():
            self.switch(dicom=True, dicom_port=port)
            assert peers.listens(port)
        assert not peers.listens(port)

    def test_a_choice_without_a_program_opens_nothing(self, site):
        port = free_port()
        self.switch(dicom=True, dicom_port=port)
        assert not peers.listens(port)

    def test_it_answers_for_films_by_itself(self, running, tmp_path):
        port, asker = free_port(), unit("ORTHANC")
        self.switch(dicom=True, dicom_port=port)
        path = written(tmp_path, film())
        with peers.orthanc(tmp_path, clinic=port) as archive:
            Peer.objects.filter(pk=asker.pk).update(port=archive.dicom)
            known = archive.post("/instances", path.read_bytes())["ID"]
            archive.post("/modalities/clinic/store", [known])
            archive.post("/modalities/clinic/storage-commitment", {"Resources": [known]})
            settled(lambda: Commitment.objects.filter(state="reported").exists())
        assert Commitment.objects.get().state == "reported"

    def test_who_does_not_use_it_does_not_pay_for_it(self, root):
        words = (
            "import django; django.setup(); import app.urls, app.startup, sys; "
            "sys.exit('pynetdicom' in sys.modules)"
        )
        assert subprocess.run([sys.executable, "-c", words], cwd=root, check=False).returncode == 0


class TestPage:
    def page(self, client) -> str:
        return str(client.get("/settings/dicom").content.decode())

    def enter(self, client, **values: str) -> Any:
        fields = {"name": "Room 1", "ae_title": UNIT, "host": "127.0.0.1", "port": "104"}
        return client.post("/settings/dicom/new", fields | values, follow=True)

    def test_it_says_what_to_enter_into_the_unit(self, client, monkeypatch):
        found = SimpleNamespace(ip="192.168.1.5", adapter="eth0")
        monkeypatch.setattr("app.lan.addresses.current", lambda: [found])
        page = self.page(client)
        assert all(words in page for words in ("192.168.1.5", "11112", "CLINIC"))

    def test_it_is_switched_on_and_the_choice_is_audited(self, client):
        client.post("/settings/dicom", {"dicom": "on", "ae_title": "HC4", "dicom_port": "11113"})
        site = Site.current()
        assert (site.dicom, site.ae_title, site.dicom_port) == (True, "HC4", 11113)
        assert AuditEvent.objects.get(action="dicom_changed").details["changed"] == {
            "dicom": [False, True],
            "ae_title": ["CLINIC", "HC4"],
            "dicom_port": [11112, 11113],
        }

    def test_it_leaves_the_other_settings_alone(self, client, site):
        Site.objects.update(clinic_name="Kisoro")
        client.post("/settings/dicom", {"ae_title": "CLINIC", "dicom_port": "11112"})
        assert Site.current().clinic_name == "Kisoro"

    @pytest.mark.parametrize("values", [{"ae_title": "TWO\\WORDS"}, {"dicom_port": "70000"}])
    def test_it_refuses_what_cannot_be(self, client, values):
        answer = client.post("/settings/dicom", {"ae_title": "A", "dicom_port": "1"} | values)
        assert answer.status_code == 400
        assert Site.current().ae_title == "CLINIC"

    @pytest.mark.parametrize(
        ("problem", "words"),
        [
            ("port_taken", "Another program of this computer uses port 11112"),
            ("port_not_allowed", "keeps port 11112 for its administrators"),
            ("cannot_open", "Start the program again"),
        ],
    )
    def test_it_says_why_nothing_listens(self, client, monkeypatch, problem, words):
        Site.objects.update(dicom=True)
        monkeypatch.setattr(node.node, "problem", problem)
        assert words in self.page(client)

    def test_a_machine_is_entered_changed_and_removed(self, client):
        self.enter(client, sends_films="on")
        peer = Peer.objects.get()
        assert peer.sends_films
        assert not peer.gets_results
        client.post(
            f"/settings/dicom/{peer.pk}",
            {"name": "Room 2", "ae_title": UNIT, "host": "192.168.1.9", "port": "104"},
        )
        peer.refresh_from_db()
        assert (peer.name, peer.host, peer.sends_films) == ("Room 2", "192.168.1.9", False)
        client.post(f"/settings/dicom/{peer.pk}/remove")
        assert not Peer.objects.exists()
        actions = [event.action for event in AuditEvent.objects.filter(kind="peer")]
        assert actions == ["peer_removed", "peer_changed", "peer_entered"]

    @pytest.mark.parametrize("host", ["two words", "http://x/", "a;b", ""])
    def test_an_address_is_an_address(self, client, host):
        assert self.enter(client, host=host).status_code == 400
        assert not Peer.objects.exists()

    @pytest.mark.parametrize("title", ["X RAY 1", "x", "A-very_long.name", " ROOM 2 ", "+[]^~"])
    def test_a_name_is_what_the_standard_lets_it_be(self, client, title):
        self.enter(client, ae_title=title)
        assert Peer.objects.get().ae_title == title.strip()

    @pytest.mark.parametrize("title", ["a\\b", "seventeen letters", "a\tb", "Röntgen", "", " "])
    def test_other_names_are_refused(self, client, title):
        assert self.enter(client, ae_title=title).status_code == 400
        assert not Peer.objects.exists()

    def test_a_machine_that_was_turned_away_can_be_entered(self, client, nobody_turned_away):
        nobody_turned_away.note("XRAY2", "192.168.1.7", "CLINIC", callers.UNKNOWN_TITLE)
        page = self.page(client)
        assert "calls itself XRAY2 came from 192.168.1.7" in page
        link = re.search(r'href="(/settings/dicom/new\?[^"]+)"', page)
        form = client.get(link[1].replace("&amp;", "&")).content.decode()
        assert 'value="XRAY2"' in form
        assert 'value="192.168.1.7"' in form
        self.enter(client, ae_title="XRAY2", host="192.168.1.7")
        assert "calls itself XRAY2" not in self.page(client)

    def test_a_made_up_name_cannot_put_anything_into_the_page(self, client, nobody_turned_away):
        nobody_turned_away.note("<script>x", "192.168.1.7", "<b>", callers.WRONG_NAME)
        assert "<script>x" not in self.page(client)
        assert "<b>" not in self.page(client)

    def test_the_test_says_what_is_wrong_in_words(self, client, data_dir):
        with listening() as other:
            self.enter(client, name="Archive", ae_title="CLINIC", port=str(other))
            peer = Peer.objects.get()
            Peer.objects.update(host="localhost", ae_title="ARCH")
            answer = client.post(f"/settings/dicom/{peer.pk}/test", follow=True)
        assert "reached the machine, but it refused our name CLINIC" in answer.content.decode()

    def test_who_could_not_be_told_about_its_films_is_named(self, client):
        self.enter(client)
        Commitment.objects.create(
            peer=Peer.objects.get(), transaction_uid="1.2", state="given_up", problem="refused"
        )
        assert "could not be told" in self.page(client)

    @pytest.mark.parametrize("role", ["read_only", "health_worker", "clinician"])
    def test_it_is_for_administrators(self, site, role):
        assert browser(role).get("/settings/dicom").status_code == 403


class TestStructure:
    """The tools of dicom3tools say the same of a stored film as they said of the sent one."""

    def test_a_stored_film_is_as_valid_as_it_was(self, port, one):
        peers.needs("dciodvfy")
        peers.dcmtk("storescu", port, str(one), calling=UNIT)
        said = [self.verify(path) for path in (one, file_of(stored()[0]))]
        assert said[0] == said[1] != ""

    def verify(self, path: Path) -> str:
        run = subprocess.run(
            [str(shutil.which("dciodvfy")), str(path)],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        lines = run.stderr.splitlines()
        return "\n".join(sorted(line for line in lines if "ImplementationVersion" not in line))
