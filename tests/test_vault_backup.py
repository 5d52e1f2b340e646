"""An encrypted clinic at work in one process: its tables, its backups, its repair."""

from __future__ import annotations

import io
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, connections, transaction
from django.db.models import Count

from app import database, films, vault
from app.backup import archive, local, repair, restore, sources, write
from app.backup import note as backup_note
from app.backup.keeper import clinic
from app.models import AuditEvent, Instance, Patient, Study
from app.vault import cipher, convert, hierarchy, note, seal, unlock
from app.vault.note import State
from tests.clinics import PASSPHRASE, as_it_is, flip_a_bit, of_its_own, set_up
from tests.studies import answered, film_bytes, take_in

pytestmark = pytest.mark.django_db(transaction=True)

NAME = "Wanjiru Mandazi"
SEEDS = (0, 1, 2)


@pytest.fixture
def plain(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A clinic with three films and a named patient, in the clear."""
    for field, value in (("MEMORY_KIB", 64), ("PASSES", 1), ("LANES", 1)):
        monkeypatch.setattr(hierarchy, field, value)
    study = answered("film-0.png", seed=0)
    for seed in SEEDS[1:]:
        take_in(film_bytes(seed), f"film-{seed}.png")
    study.patient = Patient.objects.create(name=NAME)
    study.save()
    with of_its_own(data_dir, Path(connection.settings_dict["NAME"])):
        yield data_dir


@pytest.fixture
def data(plain: Path) -> Iterator[Path]:
    """The same, encrypted."""
    encrypt(plain)
    yield plain
    vault.forget()


def encrypt(folder: Path) -> None:
    connections.close_all()
    kept, _line = note.make(PASSPHRASE)
    note.write(folder, replace(kept, state=State.ON))
    vault.hold(kept.opened(PASSPHRASE))
    convert.encrypt(folder, vault.keys())


def in_the_clear(folder: Path) -> list[str]:
    """Files in which a name, a film or a database is seen."""
    signs = [NAME.encode(), b"SQLite format 3", *(film_bytes(seed)[90:150] for seed in SEEDS)]
    found = as_it_is(folder).items()
    return [path for path, content in found if any(sign in content for sign in signs)]


def rows_of(file: Path, key: bytes | None) -> list[Any]:
    with cipher.opened(file, key) as opened:
        return opened.execute("SELECT name FROM clinic_patient").fetchall()


def back_up(folder: Path, stick: Path) -> None:
    there, known, _line = set_up(folder, stick)
    write.back_up(there, known, clinic())


def stage(path: Path, target: Path) -> restore.Staged:
    with sources.opened(path, PASSPHRASE, target / "tmp") as source:
        return restore.stage(source, target)


def put_in_place(target: Path) -> None:
    connections.close_all()
    restore.confirm(target)
    restore.apply(target)


class TestTheTables:
    def test_it_is_the_other_library_that_reads_them(self, data):
        assert Patient.objects.get().name == NAME
        assert not isinstance(connection.connection, sqlite3.Connection)
        assert in_the_clear(data) == []

    def test_queries_do_what_they_do_in_the_clear(self, data):
        first = Study.objects.order_by("pk").first()
        assert first is not None
        assert first.created_at.tzinfo is not None
        assert Patient.objects.filter(name__icontains="WANJIRU").exists()
        assert Patient.objects.filter(name__regex=r"^W\w+ M").exists()
        assert Study.objects.filter(created_at__date=first.created_at.date()).count() == 3
        assert dict(Instance.objects.values_list("state").annotate(Count("pk")))
        event = AuditEvent.record(None, "encryption_done", None, files=7)
        assert AuditEvent.objects.filter(details__files=7).exists() or event is None

    def test_what_fails_is_taken_back(self, data):
        with transaction.atomic():
            Patient.objects.create(name="nobody")
            transaction.set_rollback(True)

        assert Patient.objects.count() == 1

    def test_errors_are_those_of_django(self, data):
        from django.db import DatabaseError, IntegrityError

        with pytest.raises(IntegrityError), transaction.atomic():
            Study.objects.create(number=Study.objects.order_by("pk").first().number)
        with pytest.raises(DatabaseError), connection.cursor() as cursor:
            cursor.execute("SELECT * FROM nothing")

    def test_placeholders_of_every_kind_are_taken(self, data):
        with connection.cursor() as cursor:
            cursor.execute("SELECT %s, '100%%', %s", ["it's", None])
            assert cursor.fetchone() == ("it's", "100%", None)
            cursor.execute("SELECT %(a)s", {"a": 5})
            assert cursor.fetchone() == (5,)
            cursor.execute("CREATE TEMP TABLE t (a)")
            cursor.executemany("INSERT INTO t VALUES (%s)", [(1,), (2,)])
            cursor.execute("SELECT sum(a) FROM t")
            assert cursor.fetchone() == (3,)

    def test_a_day_of_work_leaves_nothing_in_the_clear(self, data):
        study = take_in(film_bytes(9), "akinyi odhiambo.png")
        study.patient = Patient.objects.create(name="Akinyi Odhiambo")
        study.save()
        contents = as_it_is(data)

        assert Study.objects.count() == 4
        assert not [path for path, content in contents.items() if b"kinyi" in content]
        assert {path for path in contents if path.startswith("clinic.sqlite3")} >= {
            "clinic.sqlite3",
            "clinic.sqlite3-wal",
        }

    def test_without_the_keys_nothing_is_read(self, data):
        connections.close_all()
        vault.forget()
        vault.ask_by(None)
        try:
            with pytest.raises(vault.Locked):
                Patient.objects.count()
            with pytest.raises(vault.Locked), films.local("ab" * 32):
                pass
        finally:
            vault.ask_by(unlock.ask)

    def test_closing_folds_the_log_back(self, data):
        take_in(film_bytes(9), "more.png")
        database.close_down()

        assert not (data / "clinic.sqlite3-wal").exists()
        assert database.is_whole(data / "clinic.sqlite3")


class TestDailyCopies:
    def test_they_are_encrypted(self, data):
        copy = local.make()

        assert copy is not None
        assert in_the_clear(data) == []
        assert rows_of(copy, vault.keys().database) == [(NAME,)]

    def test_a_changed_bit_is_found_and_repaired_from_one(self, data):
        local.make()
        connections.close_all()
        flip_a_bit(data / "clinic.sqlite3", at=(data / "clinic.sqlite3").stat().st_size // 2)
        assert database.is_damaged(data / "clinic.sqlite3")

        assert repair.repair()

        assert database.is_whole(data / "clinic.sqlite3")
        assert Patient.objects.get().name == NAME
        assert in_the_clear(data) == []
        assert list(data.glob("damaged-*"))

    def test_films_that_lost_their_rows_are_known_by_their_names(self, data):
        copy = local.make()
        assert copy is not None
        take_in(film_bytes(9), "later.png")
        later = Instance.objects.order_by("-pk").first()
        assert later is not None
        connections.close_all()
        (data / "clinic.sqlite3").write_bytes(copy.read_bytes())
        for end in ("-wal", "-shm"):
            (data / f"clinic.sqlite3{end}").unlink(missing_ok=True)

        assert repair.films_without_row() == [later.sha256]
        assert repair.enter_again([later.sha256], "entered again") == 1
        assert Instance.objects.filter(sha256=later.sha256).exists()
        assert in_the_clear(data) == []


class TestBackups:
    def test_on_a_stick_nothing_is_in_the_clear(self, data, tmp_path):
        back_up(data, tmp_path / "stick")

        assert in_the_clear(tmp_path / "stick") == []
        key = vault.keys().database
        assert not [p for p, c in as_it_is(tmp_path).items() if key in c or key.hex().encode() in c]
        assert in_the_clear(data) == []

    @pytest.mark.parametrize("here", [True, False], ids=["by this program", "elsewhere"])
    def test_another_computer_restores_it_with_the_passphrase_of_backups_alone(
        self, data, tmp_path, settings, here
    ):
        back_up(data, tmp_path / "stick")
        target = tmp_path / "new"
        target.mkdir()
        if not here:
            vault.forget()
            settings.DATA_DIR = target

        staged = stage(tmp_path / "stick", target)
        restore.confirm(target)
        restore.apply(target)

        assert staged.damaged == []
        assert rows_of(target / "clinic.sqlite3", None) == [(NAME,)]
        for seed in SEEDS:
            assert film_bytes(seed) in as_it_is(target / "films").values()
        assert not (target / "vault.json").exists()
        assert not (target / "database.key").exists()

    def test_here_it_is_restored_without_ever_lying_in_the_clear(self, data, tmp_path):
        back_up(data, tmp_path / "stick")
        for film in list((data / "films").rglob("*.age"))[:2]:
            film.unlink()

        staged = stage(tmp_path / "stick", data)

        assert staged.damaged == []
        assert in_the_clear(data) == []
        put_in_place(data)
        assert in_the_clear(data) == []
        assert convert.in_the_clear(data, vault.keys()) == []
        assert Patient.objects.get().name == NAME
        for instance in Instance.objects.all():
            with films.local(instance.sha256) as stored:
                assert isinstance(stored, bytes)
                assert stored in [film_bytes(seed) for seed in SEEDS]

    def test_what_would_be_lost_is_seen_before(self, data, tmp_path):
        back_up(data, tmp_path / "stick")
        take_in(film_bytes(9), "later.png")

        stage(tmp_path / "stick", data)

        assert restore.preview(data).study_count == 1

    def test_one_of_the_time_before_is_restored_encrypted(self, plain, tmp_path):
        back_up(plain, tmp_path / "stick")
        encrypt(plain)
        try:
            stage(tmp_path / "stick", plain)
            assert in_the_clear(plain) == []
            put_in_place(plain)
            assert Patient.objects.get().name == NAME
        finally:
            vault.forget()

    def test_one_of_another_encrypted_clinic_is_put_under_the_key_of_this_one(self, data, tmp_path):
        back_up(data, tmp_path / "stick")
        before = vault.keys().database
        connections.close_all()
        for file in (data / "clinic.sqlite3", *(data / "films").rglob("*.age")):
            file.unlink()
        kept, _line = note.make(PASSPHRASE)
        note.write(data, replace(kept, state=State.ON))
        vault.hold(kept.opened(PASSPHRASE))

        stage(tmp_path / "stick", data)
        put_in_place(data)

        assert vault.keys().database != before
        assert Patient.objects.get().name == NAME
        assert in_the_clear(data) == []

    def test_the_file_without_films_holds_all_it_needs(self, data, tmp_path):
        set_up(data, tmp_path / "stick")
        packed = archive.pack(backup_note.read(data), clinic())
        saved = tmp_path / "saved.clinicbackup"
        saved.write_bytes(packed.read_bytes())
        packed.unlink()
        target = tmp_path / "new"
        target.mkdir()

        stage(saved, target)
        restore.confirm(target)
        restore.apply(target)

        assert in_the_clear(data) == []
        assert rows_of(target / "clinic.sqlite3", None) == [(NAME,)]

    def test_a_film_that_has_decayed_is_named_and_not_passed_off_as_whole(self, data, tmp_path):
        instance = Instance.objects.order_by("pk").first()
        assert instance is not None
        name = seal.name_of(vault.keys(), instance.sha256)
        flip_a_bit(data / "films" / name[:2] / name)
        there, known, _line = set_up(data, tmp_path / "stick")

        made = write.back_up(there, known, clinic())

        assert made.missing == (instance.sha256,)

    def test_a_second_backup_brings_no_film_twice(self, data, tmp_path):
        there, known, _line = set_up(data, tmp_path / "stick")
        write.back_up(there, known, clinic())
        blobs = [there.blob(instance.sha256) for instance in Instance.objects.all()]
        before = [blob.stat().st_mtime_ns for blob in blobs]
        write.back_up(there, known, clinic())

        assert [blob.stat().st_mtime_ns for blob in blobs] == before


def test_what_is_sent_elsewhere_is_read_without_a_file(data):
    from app.outbox import results

    instance = Instance.objects.order_by("pk").first()
    assert instance is not None
    with films.local(instance.sha256) as stored:
        assert results._was_lossy(stored) is False
        assert films.opened(stored).read() == stored
    assert isinstance(films.opened(stored), io.BytesIO)
