"""The way back: a backup is verified beside the data, then put in their place, nothing deleted."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from app import startup
from app.backup import DATABASE, FILES, TREES, archive, note, outcome, restore, sources, write
from app.backup.faults import BackupFault
from app.backup.manifest import film_path
from app.backup.store import Store
from app.instance_lock import InstanceLock
from app.models import Instance
from app.stop import CannotStart
from tests.clinics import PASSPHRASE, as_it_is, clinic, flip_a_bit, pair, rows, set_up
from tests.running import serving
from tests.studies import answered, film_bytes, take_in

pytestmark = pytest.mark.django_db(transaction=True)

LINE_OF_ANOTHER = "AGE-SECRET-KEY-1G5PUXJR8XELEE36Q6P7WAC4W05JH8Q5RWNA4KVHGRNVP4MUMD2CSFX60R2"


@pytest.fixture
def data(data_dir) -> Path:
    from django.db import connection

    (data_dir / DATABASE).symlink_to(connection.settings_dict["NAME"])
    answered("film-0.png", seed=0)
    for seed in (1, 2):
        take_in(film_bytes(seed), f"film-{seed}.png")
    (data_dir / "active.json").write_text('{"release": "chest"}')
    (data_dir / "secret.key").write_text("sealing")
    (data_dir / "tuf").mkdir()
    (data_dir / "tuf" / "root.json").write_text("trusted")
    return data_dir


@pytest.fixture
def stick(data, tmp_path) -> Path:
    """A stick with a backup of the clinic."""
    there, known, _line = set_up(data, tmp_path / "stick")
    write.back_up(there, known, clinic(data))
    return tmp_path / "stick"


@pytest.fixture
def target(tmp_path) -> Path:
    folder = tmp_path / "restored"
    folder.mkdir()
    return folder


def stage(path: Path, target: Path, secret: str = "") -> restore.Staged:
    with sources.opened(path, secret or pair()[2], target / "tmp") as source:
        return restore.stage(source, target)


def bring_back(path: Path, target: Path, secret: str = "") -> restore.Staged:
    staged = stage(path, target, secret)
    restore.confirm(target)
    restore.apply(target)
    return staged


def fault_of(call, *args: object) -> str:
    with pytest.raises(BackupFault) as caught:
        call(*args)
    return caught.value.code


def blob_of(stick: Path, path: str) -> Path:
    there = Store.at(stick)
    return there.blob(there.newest().by_path[path].sha256)


def films_in(folder: Path) -> dict[str, bytes]:
    return {k: v for k, v in as_it_is(folder).items() if k.startswith("films/")}


class TestBringingBack:
    def test_everything_is_as_it_was(self, data, stick, target):
        staged = bring_back(stick, target)

        for table in (*write.TABLES.values(), "clinic_finding", "clinic_auditevent"):
            assert rows(target / DATABASE, table) == rows(data / DATABASE, table), table
        assert films_in(target) == films_in(data)
        assert len(films_in(target)) == 3
        for name in ("active.json", "secret.key", "audit.key", "backup.json", "tuf/root.json"):
            assert (target / name).read_bytes() == (data / name).read_bytes(), name
        assert staged.damaged == []

    def test_nothing_else_is_left(self, stick, target):
        bring_back(stick, target)

        left = {path.name for path in target.iterdir()} - {*FILES, *TREES, DATABASE, "films"}
        assert left == {outcome.NAME}

    def test_what_was_there_goes_aside_as_it_was(self, stick, target):
        (target / "films" / "aa").mkdir(parents=True)
        (target / "films" / "aa" / ("aa" * 32)).write_bytes(b"another clinic's film")
        (target / "contributions.key").write_bytes(b"another clinic's key")
        shutil.copy(blob_of(stick, "active.json"), target / "clinic.sqlite3-wal")
        (target / "port").write_text("8766")
        before = as_it_is(target)

        bring_back(stick, target)

        aside = target / outcome.read(target).aside
        here = as_it_is(target)
        assert as_it_is(aside) == {k: v for k, v in before.items() if k != "port"}
        assert here["port"] == b"8766"
        assert "contributions.key" not in here
        assert "clinic.sqlite3-wal" not in here

    def test_twice_keeps_both_that_were_there_before(self, stick, target):
        for turn in range(3):
            (target / "active.json").write_text(str(turn))
            bring_back(stick, target)

        asides = sorted(target.glob("before-restore-*"))
        assert [(aside / "active.json").read_text() for aside in asides] == ["0", "1", "2"]

    def test_films_that_are_here_and_whole_are_not_copied_a_second_time(
        self, data, stick, monkeypatch
    ):
        fetched = []
        real = sources.StoreSource.extract
        monkeypatch.setattr(
            sources.StoreSource,
            "extract",
            lambda s, entry, file: (fetched.append(entry.path), real(s, entry, file)),
        )
        one = film_path(Instance.objects.first().sha256)
        flip_a_bit(data / one)

        stage(stick, data)

        assert [path for path in fetched if path.startswith("films/")] == [one]

    def test_a_backup_before_the_newest(self, data, stick, target):
        earlier = Store.at(stick).sets()[0]
        named = earlier.with_name("20200101T000000Z.json")
        shutil.copy(earlier, named)

        assert bring_back(named, target).counts["films"] == 3

    def test_a_file_without_films_leaves_those_that_are_here(self, data, stick, target):
        file = archive.pack(note.read(data), clinic(data))
        film = target / "films" / "ab" / ("ab" * 32)
        film.parent.mkdir(parents=True)
        film.write_bytes(b"a film")

        staged = bring_back(file, target)

        assert not staged.has_films
        assert film.read_bytes() == b"a film"
        assert rows(target / DATABASE, "clinic_study") == rows(data / DATABASE, "clinic_study")

    def test_a_copy_of_the_database_replaces_nothing_else(self, data, target, tmp_path):
        (target / "active.json").write_text("mine")
        copy = tmp_path / "daily.sqlite3"
        write.database.copy(data / DATABASE, copy)

        bring_back(copy, target)

        assert (target / "active.json").read_text() == "mine"
        assert len(rows(target / DATABASE, "clinic_instance")) == 3

    def test_a_film_that_had_decayed_when_it_was_backed_up_is_told(self, data, tmp_path, target):
        one = Instance.objects.first().sha256
        flip_a_bit(data / film_path(one))
        there, known, _line = set_up(data, tmp_path / "stick")
        write.back_up(there, known, clinic(data))

        assert bring_back(tmp_path / "stick", target).damaged == [one]


class TestWhatIsNotWhole:
    @pytest.mark.parametrize("at", [5, 230, -1])
    def test_a_bit_of_a_film_loses_that_film_alone_and_is_told(self, data, stick, target, at):
        one = Instance.objects.first().sha256
        flip_a_bit(blob_of(stick, film_path(one)), at)

        staged = bring_back(stick, target)

        assert staged.damaged == [one]
        assert len(films_in(target)) == 2

    @pytest.mark.parametrize("name", [DATABASE, "active.json", "tuf/root.json"])
    @pytest.mark.parametrize("how", ["changed", "gone", "short"])
    def test_of_anything_else_changes_nothing(self, stick, target, name, how):
        (target / "active.json").write_text("mine")
        blob = blob_of(stick, name)
        if how == "changed":
            flip_a_bit(blob)
        elif how == "gone":
            blob.unlink()
        else:
            blob.write_bytes(blob.read_bytes()[:-9])

        assert fault_of(stage, stick, target) == "damaged"
        assert restore.waiting(target) is None
        assert as_it_is(target) == {"active.json": b"mine"}

    def test_a_film_under_the_name_of_another_is_none(self, data, stick, target):
        one, other = (film_path(film.sha256) for film in Instance.objects.all()[:2])
        shutil.copy(blob_of(stick, one), blob_of(stick, other))

        assert bring_back(stick, target).damaged == [other.rpartition("/")[2]]

    @pytest.mark.parametrize("secret", [LINE_OF_ANOTHER, "maize road lantern eight"])
    def test_a_wrong_key_opens_nothing(self, stick, target, secret):
        assert fault_of(stage, stick, target, secret) == "wrong_key"
        assert as_it_is(target) == {}

    def test_a_list_that_is_damaged_is_passed_over_for_the_one_before(self, stick, target):
        listed = Store.at(stick).sets()[0]
        shutil.copy(listed, listed.with_name("20990101T000000Z.json"))
        flip_a_bit(listed.with_name("20990101T000000Z.json"), 50)

        assert bring_back(stick, target).counts["films"] == 3

    def test_counts_that_do_not_fit_are_damage(self, stick, target):
        there = Store.at(stick)
        made = there.newest()
        assert made is not None
        there.finish(replace(made, counts=made.counts | {"studies": 99}))

        assert fault_of(stage, stick, target) == "damaged"

    def test_one_of_a_newer_version_is_refused(self, data, stick, target, tmp_path):
        copy = tmp_path / "newer.sqlite3"
        write.database.copy(data / DATABASE, copy)
        with write.database.opened(copy) as opened:
            opened.execute(
                "INSERT INTO django_migrations (app, name, applied) VALUES ('clinic', '9999', '')"
            )
            opened.commit()

        assert fault_of(stage, copy, target) == "newer"

    @pytest.mark.parametrize("name", ["nothing", "holiday.jpg", "empty"])
    def test_what_is_no_backup_is_refused(self, tmp_path, target, name):
        (tmp_path / "holiday.jpg").write_bytes(b"sea")
        (tmp_path / "empty").mkdir()

        assert fault_of(stage, tmp_path / name, target) in ("not_there", "not_a_backup")

    def test_a_stick_without_a_finished_backup(self, data, tmp_path, target):
        set_up(data, tmp_path / "fresh")

        assert fault_of(stage, tmp_path / "fresh", target) == "no_backup"

    def test_no_room_here(self, stick, target, monkeypatch):
        full = restore.shutil.disk_usage("/")._replace(free=1000)
        monkeypatch.setattr(restore.shutil, "disk_usage", lambda _at: full)

        assert fault_of(stage, stick, target) == "no_room_here"
        assert as_it_is(target) == {}


class TestLookingFirst:
    def test_it_says_what_is_newer_here(self, data, stick):
        take_in(film_bytes(9), "newer.png")
        newest = Instance.objects.last().study.number

        stage(stick, data)
        lost = restore.preview(data)

        assert (lost.studies, lost.study_count, lost.readings) == ([newest], 1, 0)

    def test_where_nothing_is_newer_nothing_is_lost(self, data, stick):
        stage(stick, data)

        assert restore.preview(data) == restore.Lost([], 0, 0)

    def test_nothing_happens_before_it_is_confirmed(self, data, stick):
        stage(stick, data)

        assert restore.apply(data) is None
        assert restore.waiting(data).state == restore.STAGED

    def test_discarded_it_leaves_no_trace(self, data, stick):
        before = as_it_is(data)
        stage(stick, data)
        restore.discard(data)

        assert as_it_is(data) == before

    def test_without_anything_staged_there_is_nothing_to_confirm(self, target):
        assert fault_of(restore.confirm, target) == "no_backup"


class TestAPowerCut:
    def test_at_any_step_of_putting_in_place_is_made_good_by_the_next_try(
        self, stick, target, monkeypatch
    ):
        """The computer dies before each move there is, one after the other."""
        (target / "films").mkdir()
        (target / "films" / "old").write_bytes(b"old")
        (target / DATABASE).write_bytes(b"old database")
        (target / "active.json").write_bytes(b"old")
        stage(stick, target)
        restore.confirm(target)
        ready = target.with_name("ready")
        shutil.copytree(target, ready)
        real, died = Path.rename, 0
        for step in range(1, 40):
            shutil.rmtree(target)
            shutil.copytree(ready, target)
            left = [step]

            def dying(self: Path, to: Path, left: list[int] = left) -> Path:
                left[0] -= 1
                if left[0] == 0:
                    raise KeyboardInterrupt
                return real(self, to)

            monkeypatch.setattr(Path, "rename", dying)
            try:
                restore.apply(target)
            except KeyboardInterrupt:
                died += 1
            monkeypatch.setattr(Path, "rename", real)
            if left[0] > 0:
                break
            restore.apply(target)

            aside = as_it_is(target / outcome.read(target).aside)
            assert aside[DATABASE] == b"old database"
            assert aside["films/old"] == b"old"
            assert aside["active.json"] == b"old"
            assert len(films_in(target)) == 3
            assert len(rows(target / DATABASE, "clinic_instance")) == 3
            assert not (target / restore.NEW).exists()
        assert died > 5

    def test_at_any_moment_of_a_whole_restoration_leaves_the_old_or_the_new(
        self, data, stick, target, soak
    ):
        (target / "active.json").write_text("old")
        begun = time.monotonic()
        bring_back(stick, target)
        whole = time.monotonic() - begun
        dice, died = random.Random(7), 0
        for _turn in range(12 * soak):
            shutil.rmtree(target)
            target.mkdir()
            (target / "active.json").write_text("old")
            child = os.fork()
            if not child:
                try:
                    bring_back(stick, target)
                finally:
                    os._exit(0)
            time.sleep(dice.uniform(0, whole))
            os.kill(child, signal.SIGKILL)
            died += os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
            restore.apply(target)  # as the next start does
            if (target / DATABASE).exists():
                assert len(rows(target / DATABASE, "clinic_instance")) == 3
                assert films_in(target) == films_in(data)
                assert (target / "active.json").read_text() != "old"
            else:
                assert (target / "active.json").read_text() == "old"
                assert not (target / "films").exists()
        assert died > 0


class TestTheStart:
    def test_puts_what_was_confirmed_in_place(self, data, stick, target, settings):
        stage(stick, target)
        restore.confirm(target)
        settings.DATA_DIR = target

        startup.put_restored_in_place()

        assert len(rows(target / DATABASE, "clinic_instance")) == 3

    def test_stops_with_a_sentence_where_it_cannot(
        self, data, stick, target, settings, monkeypatch
    ):
        stage(stick, target)
        restore.confirm(target)
        settings.DATA_DIR = target

        def fail(*_: object) -> None:
            raise PermissionError

        monkeypatch.setattr(Path, "rename", fail)
        with pytest.raises(CannotStart) as caught:
            startup.put_restored_in_place()
        assert caught.value.code == "data_dir_not_writable"

        monkeypatch.undo()
        settings.DATA_DIR = target
        startup.put_restored_in_place()
        assert len(rows(target / DATABASE, "clinic_instance")) == 3


def run(*words: str | Path, typed: str = "", root: Path) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("CLINIC_")}
    return subprocess.run(
        [sys.executable, "run_clinic.py", *map(str, words)],
        cwd=root,
        env=environment,
        input=typed,
        capture_output=True,
        text=True,
        check=False,
    )


class TestTheCommands:
    def test_from_a_clinic_to_a_stick_and_back(self, root, tmp_path):
        home, stick, back = tmp_path / "home", tmp_path / "stick", tmp_path / "back"
        stick.mkdir()
        created = run(
            *("create-user", "amina", "--role", "administrator", "--data-dir", home),
            typed="right-lower-lobe-47\n",
            root=root,
        )
        assert created.returncode == 0, created.stderr
        made = run("backup", "--to", stick, "--data-dir", home, typed=PASSPHRASE, root=root)
        assert made.returncode == 0, made.stderr
        line = next(word for word in made.stdout.split() if word.startswith("AGE-SECRET-KEY-1"))

        for typed, folder in ((PASSPHRASE, back), (line, tmp_path / "again")):
            restored = run("restore", stick, "--to", folder, typed=typed, root=root)
            assert restored.returncode == 0, restored.stderr
            assert rows(folder / DATABASE, "clinic_user") == rows(home / DATABASE, "clinic_user")

        again = run("restore", stick, "--to", back, typed=line, root=root)
        assert again.returncode == 2
        assert "--replace" in again.stderr
        replaced = run("restore", stick, "--to", back, "--replace", typed=line, root=root)
        assert replaced.returncode == 0, replaced.stderr
        assert (next(back.glob("before-restore-*")) / DATABASE).exists()

    @pytest.mark.parametrize(
        ("words", "code", "said"),
        [
            (["restore", "nowhere", "--to", "x"], 2, "Is the stick still plugged in"),
            (["restore", "README.md", "--to", "x"], 2, "no backup of this program"),
            (["restore", "README.md"], 2, "--to"),
            (["backup", "--data-dir", "{tmp}/fresh"], 2, "nothing to back up"),
        ],
    )
    def test_what_cannot_be_tried_is_said(self, root, tmp_path, words, code, said):
        words = [word.format(tmp=tmp_path) if "{" in word else word for word in words]
        words = [str(tmp_path / "x") if word == "x" else word for word in words]

        done = run(*words, typed=LINE_OF_ANOTHER, root=root)

        assert done.returncode == code
        assert said in done.stderr

    def test_a_program_that_runs_with_the_data_is_not_robbed_of_them(
        self, root, data, stick, target
    ):
        with InstanceLock(target):
            done = run("restore", stick, "--to", target, typed=pair()[2], root=root)

        assert done.returncode == 1
        assert "Quit it first" in done.stderr
        assert not (target / DATABASE).exists()

    def test_a_film_that_is_missing_is_told_by_words_and_exit_code(self, root, data, stick, target):
        flip_a_bit(blob_of(stick, film_path(Instance.objects.first().sha256)))

        done = run("restore", stick, "--to", target, typed=pair()[2], root=root)

        assert done.returncode == 1
        assert "1 film is damaged or missing" in done.stderr
        assert len(films_in(target)) == 2


def test_a_damaged_note_of_a_restoration_is_none(target):
    for content in ("", "{", "[]", json.dumps({"state": "confirmed"})):
        (target / restore.NOTE).write_text(content)
        assert restore.waiting(target) is None
        assert restore.apply(target) is None


#: Of the computer and not of the clinic, or written anew at the next start.
LEFT_BEHIND = {
    "audit-head.json",
    "backup.lock",
    "backups",
    "clinic.lock",
    "clinic.sqlite3-shm",
    "clinic.sqlite3-wal",
    "instance.json",
    "lan",
    "lan-port",
    "logs",
    "port",
    "tmp",
}


def test_whatever_a_running_program_keeps_is_backed_up_or_left_behind_on_purpose(root, tmp_path):
    """Whoever adds a file to the data directory decides here whether a stolen laptop loses it."""
    home, film = tmp_path / "home", tmp_path / "film.png"
    film.write_bytes(film_bytes(1))
    environment = {k: v for k, v in os.environ.items() if not k.startswith("CLINIC_")}
    environment |= {"CLINIC_HOME": str(home), "CLINIC_MIN_FREE_MB": "0"}
    with serving([sys.executable, "run_clinic.py"], environment) as (visitor, _server):
        visitor.upload(film)
        kept = {path.name for path in home.iterdir()}

    assert {"audit.key", "secret.key", DATABASE, "films"} <= kept
    assert kept - {*FILES, *TREES, DATABASE, "films"} <= LEFT_BEHIND
