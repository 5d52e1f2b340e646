"""A damaged database is made whole at the start, nothing is deleted, and everybody is told."""

from __future__ import annotations

import itertools
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.db import connection, connections

from app import checks, database, films, startup
from app.backup import DATABASE, local, outcome, repair, restore, rotation
from app.models import AuditEvent, Instance, Study
from app.stop import CannotStart
from tests.clinics import of_its_own, rows
from tests.running import Visitor, serving
from tests.studies import film_bytes, take_in

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def data(data_dir) -> Iterator[Path]:
    """A clinic with a database of its own: two films, then a copy of it, then a third."""
    with of_its_own(data_dir, Path(connection.settings_dict["NAME"])):
        for seed in (1, 2):
            take_in(film_bytes(seed), f"{seed}.png")
        local.make()
        take_in(film_bytes(3), "3.png")
        connections.close_all()
        yield data_dir


def tear(file: Path) -> None:
    """Overwrite the middle of the database, as a dying disk does."""
    content = bytearray(file.read_bytes())
    content[8192 : len(content) // 2] = os.urandom(len(content) // 2 - 8192)
    file.write_bytes(content)


def damage(file: Path, how: str) -> None:
    content = bytearray(file.read_bytes())
    if how == "header":
        content[:100] = bytes(100)
    elif how == "torn":
        content[8192 : len(content) // 2] = os.urandom(len(content) // 2 - 8192)
    else:
        del content[len(content) // 3 :]
    file.write_bytes(content)


def spoil_an_index(file: Path) -> None:
    """Take an entry out of an index, so that it no longer fits to its table."""
    with database.opened(file) as opened:
        root = opened.execute(
            "SELECT rootpage FROM sqlite_master WHERE type='index' AND tbl_name='clinic_instance' "
            "AND name LIKE '%state%'"
        ).fetchone()[0]
        size = opened.execute("PRAGMA page_size").fetchone()[0]
    content = bytearray(file.read_bytes())
    page = (root - 1) * size
    count = int.from_bytes(content[page + 3 : page + 5], "big")
    assert count > 1
    content[page + 3 : page + 5] = (count - 1).to_bytes(2, "big")
    file.write_bytes(content)


class TestRepairing:
    @pytest.mark.parametrize("how", ["header", "torn", "short"])
    def test_the_newest_whole_copy_takes_its_place(self, data, how):
        damage(data / DATABASE, how)
        torn = (data / DATABASE).read_bytes()

        startup.mend_database()

        assert database.is_whole(data / DATABASE)
        assert Instance.objects.count() == 2
        done = outcome.read(data)
        assert done.kind == outcome.COPY
        assert (data / done.aside / DATABASE).read_bytes() == torn

    def test_where_only_an_index_is_damaged_nothing_is_lost(self, data):
        before = rows(data / DATABASE, "clinic_instance")
        spoil_an_index(data / DATABASE)
        assert not database.is_whole(data / DATABASE)
        repair.suspect()

        startup.mend_database()

        assert database.is_whole(data / DATABASE)
        assert rows(data / DATABASE, "clinic_instance") == before
        assert outcome.read(data).kind == outcome.REINDEX
        assert checks.repaired().code == "database_reindexed"

    def test_a_copy_that_is_damaged_too_is_passed_over(self, data, settings):
        good = local.copies()[0]
        bad = good.with_name("daily-20990101-000000.sqlite3")
        shutil.copy(good, bad)
        tear(bad)
        damage(data / DATABASE, "header")

        startup.mend_database()

        assert Instance.objects.count() == 2

    def test_without_a_whole_copy_the_start_stops_and_nothing_is_touched(self, data):
        shutil.rmtree(django_settings.BACKUP_DIR)
        damage(data / DATABASE, "header")
        torn = (data / DATABASE).read_bytes()

        with pytest.raises(CannotStart) as caught:
            startup.mend_database()

        assert caught.value.code == "database_damaged"
        assert "no whole copy" in str(caught.value)
        assert (data / DATABASE).read_bytes() == torn

    def test_a_whole_database_is_left_alone(self, data):
        before = (data / DATABASE).read_bytes()

        startup.mend_database()

        assert (data / DATABASE).read_bytes() == before
        assert outcome.read(data) is None

    def test_one_that_somebody_else_holds_is_not_damaged(self, data):
        with database.opened(data / DATABASE) as held:
            held.execute("PRAGMA locking_mode=EXCLUSIVE")
            held.execute("BEGIN EXCLUSIVE")
            assert not _is_damaged_at_once(data / DATABASE)

    @pytest.mark.parametrize(
        "fault", [sqlite3.OperationalError("disk I/O error"), "unable to get the page. error 266"]
    )
    def test_one_whose_disk_fails_once_is_not_damaged(self, data, monkeypatch, fault):
        looks = itertools.count()

        @contextmanager
        def failing_once(file: Path) -> Iterator[Any]:
            if next(looks):
                with opened(file) as connected:
                    yield connected
            elif isinstance(fault, Exception):
                raise fault
            else:
                yield SimpleNamespace(
                    execute=lambda _sql: sqlite3.connect(":memory:").execute("SELECT ?", [fault])
                )

        opened = database.opened
        monkeypatch.setattr(database, "opened", failing_once)
        repair.suspect()

        assert not repair.is_needed()
        assert outcome.read(data) is None

    def test_a_write_ahead_log_of_the_damaged_one_never_joins_the_copy(self, data):
        log = data / f"{DATABASE}-wal"
        with database.opened(data / DATABASE) as held:
            held.execute("UPDATE clinic_study SET note = 'after the copy'")
            held.commit()
            frames = log.read_bytes()
            damage(data / DATABASE, "header")
        log.write_bytes(frames)

        startup.mend_database()

        assert not Study.objects.filter(note="after the copy").exists()
        assert Instance.objects.count() == 2


def _is_damaged_at_once(file: Path) -> bool:
    def impatient(path: Path, timeout: float = 0) -> sqlite3.Connection:
        return real(path, timeout=0)

    real = sqlite3.connect
    database.sqlite3.connect = impatient
    try:
        return database.is_damaged(file)
    finally:
        database.sqlite3.connect = real


class TestLookingClosely:
    def test_is_done_after_an_end_that_was_not_tidy(self, data, monkeypatch):
        looked = []
        monkeypatch.setattr(database, "is_damaged", lambda _f: bool(looked.append(1)))
        repair.is_needed()
        assert looked == []

        (data / f"{DATABASE}-wal").write_bytes(b"frames")
        repair.is_needed()
        assert looked == [1]

    def test_damage_that_is_found_at_work_is_repaired_by_the_next_start(self, data):
        damage(data / DATABASE, "torn")

        checks.look_at_database()
        said = [problem.code for problem in checks.current_problems()]
        assert "damage_found" in said
        connections.close_all()
        startup.mend_database()
        checks.look_at_database()

        assert Instance.objects.count() == 2
        assert "damage_found" not in [problem.code for problem in checks.current_problems()]
        assert not (data / repair.SUSPICION).exists()

    def test_a_suspicion_that_was_wrong_is_dropped(self, data):
        repair.suspect()

        assert not repair.is_needed()
        assert not (data / repair.SUSPICION).exists()


class TestFilmsWithoutRow:
    def test_come_in_again_as_studies_that_say_so(self, data):
        digest = Instance.objects.last().sha256
        stored = data / films.name_of(digest)
        os.utime(stored, (1_700_000_000, 1_700_000_000))
        connections.close_all()
        damage(data / DATABASE, "header")
        startup.mend_database()
        repair.note()

        assert repair.films_without_row() == [digest]
        assert repair.enter_again(repair.films_without_row(), "entered again") == 1

        again = Instance.objects.get(sha256=digest)
        assert again.sender == repair.SENDER
        assert again.study.note == "entered again"
        assert again.study.created_at == datetime.fromtimestamp(1_700_000_000, UTC)
        assert again.state == "waiting"
        assert repair.films_without_row() == []

    def test_those_that_somebody_deleted_stay_deleted(self, data):
        digest = Instance.objects.last().sha256
        kept = (data / films.name_of(digest)).read_bytes()
        Study.objects.get(instances__sha256=digest).delete_for("a wrong patient", None)
        (data / films.name_of(digest)).write_bytes(kept)  # another program held it open

        assert repair.films_without_row() == []

    def test_what_is_no_film_is_not_taken_for_one(self, data):
        (data / "films" / "ab").mkdir(exist_ok=True)
        (data / "films" / "ab" / "Thumbs.db").write_bytes(b"x")

        assert repair.films_without_row() == []


class TestTelling:
    def test_every_page_says_it_until_an_administrator_has_read_it(self, data):
        damage(data / DATABASE, "header")
        startup.mend_database()
        repair.note()

        (said,) = (p for p in checks.current_problems() if p.code.startswith("database_"))
        assert "Its copy of" in said.sentence
        assert "worklist again: 1" in said.sentence
        outcome.change(data, seen=True)
        assert not [p for p in checks.current_problems() if p.code.startswith("database_")]

    def test_it_is_on_record_once(self, data):
        damage(data / DATABASE, "header")
        startup.mend_database()
        repair.note()
        repair.note()

        (event,) = AuditEvent.objects.filter(action="database_repaired")
        assert event.details["kind"] == outcome.COPY
        assert event.details["films"] == 1


class TestCopiesOfEveryDay:
    def test_one_a_day_is_due(self, data):
        assert not local.is_due()
        for copy in local.copies():
            copy.unlink()
        assert local.is_due()

    def test_a_damaged_database_displaces_no_good_copy(self, data):
        damage(data / DATABASE, "torn")
        before = local.copies()

        with pytest.raises((database.DamagedDatabase, database.Error)):
            local.make()

        assert local.copies() == before
        assert all(database.is_whole(copy) for copy in before)

    def test_what_a_power_cut_left_of_one_goes_on_another_day(self, data, settings):
        folder = settings.BACKUP_DIR
        names = ("daily-20260101-000000.sqlite3.new", "clinic-20260101-1-1.sqlite3.new-journal")
        for name in names:
            (folder / name).write_bytes(b"half")
        local.make()
        assert {path.name for path in folder.iterdir()} >= set(names)  # somebody may be writing it

        for name in names:
            os.utime(folder / name, (0, 0))
        local.make()
        assert not set(names) & {path.name for path in folder.iterdir()}

    def test_the_old_ones_go_as_the_rotation_has_it(self, data, settings):
        settings.MIN_FREE_BYTES = 0
        good = local.copies()[0]
        for day in range(1, 28):
            shutil.copy(good, good.with_name(f"daily-202601{day:02d}-120000.sqlite3"))

        local.make()

        names = {path.name for path in local.copies()}
        assert "daily-20260127-120000.sqlite3" in names
        assert "daily-20260102-120000.sqlite3" not in names
        assert len(names) <= rotation.DAYS + rotation.WEEKS + rotation.MONTHS

    def test_on_a_disk_with_little_room_only_the_newest_stay(self, data, settings):
        settings.MIN_FREE_BYTES = 2**60
        good = local.copies()[0]
        for day in range(1, 9):
            shutil.copy(good, good.with_name(f"daily-202601{day:02d}-120000.sqlite3"))

        local.make()

        assert len(local.copies()) == local.FEWEST


def test_a_program_that_dies_with_a_torn_database_serves_again(root, tmp_path):
    """The whole way, in processes: copy, damage, start, page."""
    home = tmp_path / "home"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("CLINIC_")}
    environment |= {"CLINIC_HOME": str(home), "CLINIC_MIN_FREE_MB": "0"}
    command = [sys.executable, "run_clinic.py"]
    film, lost = tmp_path / "film.png", tmp_path / "lost.png"
    film.write_bytes(film_bytes(1))
    lost.write_bytes(film_bytes(2))
    with serving(command, environment) as (visitor, _server):
        visitor.upload(film)
        copied = subprocess.run(
            [*command, "backup"], cwd=root, env=environment, capture_output=True, check=False
        )
        assert copied.returncode == 0, copied.stderr
        visitor.upload(lost)
    tear(home / DATABASE)
    repair_noted = tmp_path / "home" / repair.SUSPICION
    repair_noted.write_bytes(b"")

    with serving(command, environment, set_up=False) as (visitor, _server):
        page = visitor.get("/")
        assert "Fault REPAIRED" in page
        _wait_for_studies(visitor, 2)

    assert next(home.glob("damaged-*")).joinpath(DATABASE).exists()
    assert restore.waiting(home) is None


def _wait_for_studies(visitor: Visitor, count: int) -> None:
    from tests.running import wait_for

    wait_for(lambda: visitor.get("/").count('data-number="') >= count or None, seconds=30)
