"""The door: what is taken in is on the disk and in the queue, what is not leaves nothing behind."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import threading
from pathlib import Path

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import OperationalError, connection, connections
from django_tasks_db.models import DBTaskResult

from app import intake, messages, worker
from app.audit.seal import KEY_FILE
from app.intake import Belonging, Rejected, clean_name, receive
from app.models import Instance, State, Study
from tests.studies import stored

pytestmark = pytest.mark.django_db

FILM = b"the bytes of a film"


def take_in(content: bytes = FILM, name: str = "film.png", **more: object) -> intake.Receipt:
    return receive(io.BytesIO(content), name, "upload", Belonging(**more))


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def code_of(call, *args: object) -> str:
    with pytest.raises(Rejected) as caught:
        call(*args)
    return caught.value.code


def no_trace_of_it(data_dir: Path) -> bool:
    rows = Instance.objects.exists() or Study.objects.exists() or DBTaskResult.objects.exists()
    kept = {data_dir / KEY_FILE}  # of the record, which is no film's
    return not rows and not set(files_in(data_dir)) - kept


class TestTakingIn:
    def test_it_stores_the_very_bytes_under_their_digest(self, data_dir):
        instance = take_in().instance

        digest = hashlib.sha256(FILM).hexdigest()
        assert stored(instance) == data_dir / "films" / digest[:2] / digest
        assert stored(instance).read_bytes() == FILM
        assert instance.sha256 == digest
        assert instance.size_bytes == len(FILM)

    def test_it_leaves_nothing_in_the_temporary_folder(self, data_dir):
        take_in()

        assert files_in(data_dir / "tmp") == []

    def test_it_queues_exactly_one_analysis(self, data_dir):
        instance = take_in().instance

        task = DBTaskResult.objects.get()
        assert task.task_path == "app.worker.analyse_instance"
        assert task.args_kwargs == {"args": [instance.pk], "kwargs": {}}
        assert instance.state == State.WAITING

    def test_it_gives_every_film_a_study_with_the_next_number_of_the_day(self, data_dir):
        numbers = [take_in(bytes([n])).instance.study.number for n in range(3)]

        day = numbers[0].partition("-")[0]
        assert numbers == [f"{day}-0001", f"{day}-0002", f"{day}-0003"]
        assert len(day) == 8

    def test_it_goes_on_counting_after_the_ten_thousandth_film_of_a_day(self, data_dir):
        first = take_in(b"1").instance.study
        first.number = first.number[:9] + "9999"
        first.save()

        assert take_in(b"2").instance.study.number.endswith("-10000")
        assert take_in(b"3").instance.study.number.endswith("-10001")

    def test_it_keeps_the_age_that_was_given(self, data_dir):
        assert take_in(age_years=0.5).instance.study.age_years == 0.5

    def test_an_age_not_given_is_unknown_and_not_zero(self, data_dir):
        assert take_in().instance.study.age_years is None

    def test_it_takes_a_django_upload(self, data_dir):
        upload = SimpleUploadedFile("a.png", FILM)

        assert stored(receive(upload, upload.name, "upload").instance).read_bytes() == FILM

    def test_it_takes_a_path(self, data_dir, tmp_path):
        path = tmp_path / "stick.dcm"
        path.write_bytes(FILM)

        assert stored(receive(path, path.name, "folder").instance).read_bytes() == FILM
        assert path.read_bytes() == FILM

    def test_it_takes_a_file_that_is_no_film(self, data_dir):
        assert take_in(b"MZ this is a program", "setup.exe").instance.state == State.WAITING

    def test_it_finds_the_study_by_the_name_of_its_file(self, data_dir):
        take_in(name="Chest of Ana.png")

        assert Study.objects.search("chest ANA").count() == 1

    def test_it_takes_a_film_as_large_as_allowed(self, data_dir, settings):
        settings.MAX_FILM_BYTES = 3 * intake.CHUNK

        assert take_in(bytes(3 * intake.CHUNK)).instance.size_bytes == 3 * intake.CHUNK

    def test_stored_films_are_for_this_user_alone(self, data_dir):
        if os.name == "nt":
            pytest.skip("Windows has rights of another kind")

        assert stored(take_in().instance).stat().st_mode & 0o077 == 0

    def test_the_film_is_synced_before_it_is_moved_and_its_folder_afterwards(
        self, data_dir, monkeypatch
    ):
        if os.name == "nt":
            pytest.skip("no folder can be synced on Windows")
        steps = []
        real_sync, real_replace = os.fsync, Path.replace
        monkeypatch.setattr(
            os, "fsync", lambda handle: (steps.append("sync"), real_sync(handle))[1]
        )
        monkeypatch.setattr(
            Path, "replace", lambda self, to: (steps.append("move"), real_replace(self, to))[1]
        )

        take_in()

        assert steps[:3] == ["sync", "move", "sync"]


class TestTheSameBytesAgain:
    def test_they_are_the_same_film(self, data_dir):
        first, again = take_in(name="a.png"), take_in(name="b.png")

        assert again.duplicate
        assert not first.duplicate
        assert again.instance == first.instance

    def test_they_are_not_queued_again(self, data_dir):
        take_in()
        take_in()

        assert DBTaskResult.objects.count() == 1
        assert Study.objects.count() == 1

    def test_they_mend_a_film_that_was_lost_from_the_disk(self, data_dir):
        instance = take_in().instance
        stored(instance).unlink()

        take_in()

        assert stored(instance).read_bytes() == FILM

    @pytest.mark.parametrize("state", [State.FAILED, State.CANCELLED])
    def test_they_give_a_film_without_an_answer_another_try(self, data_dir, state):
        instance = take_in().instance
        Instance.objects.update(state=state, attempts=3)

        take_in()

        instance.refresh_from_db()
        assert (instance.state, instance.attempts) == (State.WAITING, 0)
        assert DBTaskResult.objects.count() == 2

    def test_they_do_not_disturb_a_film_that_was_answered(self, data_dir):
        take_in()
        Instance.objects.update(state=State.ANSWERED)

        take_in()

        assert Instance.objects.get().state == State.ANSWERED
        assert DBTaskResult.objects.count() == 1


class TestTurningAway:
    def test_nothing_at_all(self, data_dir):
        assert code_of(take_in, b"") == "empty"
        assert no_trace_of_it(data_dir)

    def test_an_empty_file(self, data_dir, tmp_path):
        path = tmp_path / "empty"
        path.touch()

        assert code_of(receive, path, "empty", "folder") == "empty"

    def test_one_byte_too_many(self, data_dir, settings):
        settings.MAX_FILM_BYTES = intake.CHUNK

        assert code_of(take_in, bytes(intake.CHUNK + 1)) == "too_large"
        assert no_trace_of_it(data_dir)

    def test_a_stream_without_end_is_left_at_the_limit(self, data_dir, settings):
        settings.MAX_FILM_BYTES = 2 * intake.CHUNK

        class Endless:
            given = 0

            def read(self, size: int) -> bytes:
                self.given += size
                return bytes(size)

        stream = Endless()
        assert code_of(receive, stream, "endless", "upload") == "too_large"
        assert stream.given == 3 * intake.CHUNK
        assert no_trace_of_it(data_dir)

    def test_a_large_file_is_turned_away_before_it_is_read(self, data_dir, tmp_path, settings):
        path = tmp_path / "huge.dcm"
        with path.open("wb") as file:
            file.truncate(2 * 1024**3)  # sparse: takes no room

        assert code_of(receive, path, "huge.dcm", "folder") == "too_large"

    def test_a_film_that_would_eat_the_last_of_the_disk(self, data_dir, settings):
        settings.MIN_FREE_BYTES = 2**62

        assert code_of(take_in) == "disk_full"
        assert no_trace_of_it(data_dir)

    def test_a_disk_that_is_full_in_the_middle(self, data_dir, monkeypatch):
        class Full(io.BytesIO):
            def write(self, data: bytes) -> int:
                raise OSError(errno.ENOSPC, "No space left on device")

            def fileno(self) -> int:
                return 0

        real_open = Path.open
        monkeypatch.setattr(
            Path, "open", lambda p, m="r", **k: Full() if m == "wb" else real_open(p, m, **k)
        )

        assert code_of(take_in) == "disk_full"
        assert no_trace_of_it(data_dir)

    def test_a_real_full_device(self, data_dir):
        if not Path("/dev/full").exists():
            pytest.skip("this system has no /dev/full")

        with pytest.raises(intake._CannotWrite) as caught:
            intake._copy(io.BytesIO(bytes(100_000)), Path("/dev/full"))
        assert intake._rejection_of(caught.value.cause).code == "disk_full"

    def test_a_folder_that_cannot_be_written(self, data_dir, settings):
        settings.TEMPORARY_DIR = data_dir / "file" / "tmp"
        (data_dir / "file").write_text("in the way")

        assert code_of(take_in) == "cannot_store"

    def test_a_database_that_is_full(self, data_dir, monkeypatch):
        def full(*_: object) -> None:
            raise OperationalError("database or disk is full")

        monkeypatch.setattr(worker, "enqueue", full)

        assert code_of(take_in) == "disk_full"
        assert no_trace_of_it(data_dir)

    def test_a_database_fault_does_not_take_away_a_film_that_is_entered(self, data_dir):
        instance = take_in().instance
        intake._take_back(instance.sha256)

        assert stored(instance).exists()

    def test_a_file_that_is_not_there(self, data_dir, tmp_path):
        assert code_of(receive, tmp_path / "gone.png", "gone.png", "folder") == "source_vanished"

    def test_a_stick_pulled_out_in_the_middle(self, data_dir):
        class Stick:
            reads = 0

            def read(self, size: int) -> bytes:
                self.reads += 1
                if self.reads == 3:
                    raise OSError(errno.EIO, "Input/output error")
                return bytes(size)

        assert code_of(receive, Stick(), "film.dcm", "folder") == "source_vanished"
        assert no_trace_of_it(data_dir)

    def test_a_file_that_is_deleted_while_it_is_read(self, data_dir, tmp_path, monkeypatch):
        path = tmp_path / "film.dcm"
        path.write_bytes(FILM)
        real_read = intake._read

        def read_and_delete(source):
            path.unlink(missing_ok=True)
            return real_read(source)

        monkeypatch.setattr(intake, "_read", read_and_delete)

        assert code_of(receive, path, "film.dcm", "folder") == "source_vanished"
        assert no_trace_of_it(data_dir)

    def test_a_file_that_grows_while_it_is_read(self, data_dir, tmp_path, monkeypatch):
        path = tmp_path / "film.dcm"
        path.write_bytes(FILM)
        real_read = intake._read

        def read_and_grow(source):
            chunk = real_read(source)
            if not chunk:
                with path.open("ab") as file:
                    file.write(b"more")
            return chunk

        monkeypatch.setattr(intake, "_read", read_and_grow)

        assert code_of(receive, path, "film.dcm", "folder") == "still_being_written"
        assert no_trace_of_it(data_dir)

    def test_a_file_rewritten_in_place_while_it_is_read(self, data_dir, tmp_path, monkeypatch):
        path = tmp_path / "film.dcm"
        path.write_bytes(FILM)
        real_read = intake._read

        def read_and_touch(source):
            os.utime(path, ns=(1, 1))
            return real_read(source)

        monkeypatch.setattr(intake, "_read", read_and_touch)

        assert code_of(receive, path, "film.dcm", "folder") == "still_being_written"

    def test_a_folder_in_place_of_a_file(self, data_dir, tmp_path):
        assert code_of(receive, tmp_path, "folder", "folder") == "source_vanished"

    @pytest.mark.parametrize("code", sorted(intake.CODES))
    def test_every_reason_has_words(self, code):
        words = messages.sentence(code, {"limit_mb": "512"})

        assert words != messages.sentence("no such code")
        assert "?)" not in words
        assert "%" not in words


class TestNames:
    @pytest.mark.parametrize(
        ("given", "shown"),
        [
            ("film.png", "film.png"),
            ("/media/stick/film.png", "film.png"),
            ("C:\\Films\\Ana.dcm", "Ana.dcm"),
            ("two\nlines\r\n.png", "two lines .png"),
            ("tab\there\x00\x1b[31m.png", "tab here [31m.png"),
            ("  spaces   around .png ", "spaces around .png"),
            ("\u202egnp.exe", "gnp.exe"),
            ("Ołówek – плёнка 胸部.png", "Ołówek – плёнка 胸部.png"),
            ("e\u0301.png", "é.png"),
            ("", "film"),
            ("\n", "film"),
            ("///", "film"),
            ("<script>.png", "<script>.png"),
        ],
    )
    def test_they_are_shown_without_surprises(self, given, shown):
        assert clean_name(given) == shown

    def test_a_name_that_is_not_utf8_is_still_a_name(self):
        raw = os.fsdecode(b"R\xf6ntgen.png") if os.name != "nt" else "R\udcf6ntgen.png"

        shown = clean_name(raw)

        assert shown == "R�ntgen.png"
        assert shown.encode("utf-8")

    def test_a_name_too_long_keeps_its_ending(self):
        shown = clean_name("a" * 400 + ".dcm")

        assert len(shown) == 255
        assert shown.endswith("a….dcm")

    def test_a_name_that_is_not_utf8_can_be_stored(self, data_dir):
        assert take_in(name="R\udcf6ntgen\n.png").instance.file_name == "R�ntgen .png"


@pytest.mark.django_db(transaction=True)
def test_the_same_film_from_many_at_once_is_one_film(data_dir):
    receipts: list[intake.Receipt] = []
    together = threading.Barrier(6)

    def send() -> None:
        together.wait()
        receipts.append(take_in())
        connections.close_all()

    threads = [threading.Thread(target=send) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len({receipt.instance.pk for receipt in receipts}) == 1
    assert [receipt.duplicate for receipt in receipts].count(False) == 1
    assert Instance.objects.count() == Study.objects.count() == DBTaskResult.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_films_from_many_at_once_get_numbers_of_their_own(data_dir):
    def send(content: bytes) -> None:
        take_in(content)
        connections.close_all()

    threads = [threading.Thread(target=send, args=[bytes([n])]) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert Study.objects.values("number").distinct().count() == 8


def test_the_database_keeps_what_it_has_acknowledged(db):
    with connection.cursor() as cursor:
        journal = cursor.execute("PRAGMA journal_mode").fetchone()[0]
        synchronous = cursor.execute("PRAGMA synchronous").fetchone()[0]

    assert (journal, synchronous) == ("wal", 2)  # 2 is FULL
