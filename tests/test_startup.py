"""What happens between a double-click and the first page, piece by piece."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import sqlite3
import threading
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from django.test import Client

from app import checks, database, instance_lock, options, server, startup
from app.active_model import ActiveModel
from app.cxr.release import UnusableRelease
from app.instance_lock import AlreadyRunning, InstanceLock, address_of_running
from app.options import BadSetting
from app.stop import CannotStart


@pytest.fixture
def quiet_log():
    """The log as it was, whatever a test set up."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    for handler in set(root.handlers) - set(handlers):
        handler.close()
    root.handlers, logging.raiseExceptions = handlers, True
    root.setLevel(level)


class TestSettings:
    def test_a_number_within_its_limits_is_taken(self, monkeypatch):
        monkeypatch.setenv("CLINIC_X", " 7 ")

        assert options.whole_number("CLINIC_X", 1, 0, 10) == 7

    @pytest.mark.parametrize("empty", ["", "  "])
    def test_an_empty_setting_is_none(self, monkeypatch, empty):
        monkeypatch.setenv("CLINIC_X", empty)

        assert options.whole_number("CLINIC_X", 3, 0, 10) == 3
        assert options.yes_or_no("CLINIC_X", default=True) is True

    @pytest.mark.parametrize("value", ["11", "-1", "1e3", "1_0", "+5", "٣", "5 MB", "0x5", "²"])
    def test_a_number_that_is_none_is_named_with_its_limits(self, monkeypatch, value):
        monkeypatch.setenv("CLINIC_X", value)

        with pytest.raises(BadSetting, match=r"CLINIC_X is set to .* from 0 to 10"):
            options.whole_number("CLINIC_X", 1, 0, 10)

    @pytest.mark.parametrize(
        ("value", "meant"),
        [("1", True), ("Yes", True), ("on", True), ("0", False), ("NO", False), ("off", False)],
    )
    def test_yes_and_no_have_many_spellings(self, monkeypatch, value, meant):
        monkeypatch.setenv("CLINIC_X", value)

        assert options.yes_or_no("CLINIC_X", default=not meant) is meant

    def test_the_data_directory_follows_the_environment(self, monkeypatch, tmp_path):
        monkeypatch.setenv("CLINIC_HOME", str(tmp_path))

        assert options.data_directory() == tmp_path

    def test_without_one_it_is_the_users_own(self, monkeypatch):
        monkeypatch.delenv("CLINIC_HOME", raising=False)

        assert options.data_directory().name == "ClinicCXR"
        assert options.data_directory().is_absolute()

    @pytest.mark.parametrize("words", [["--data-dir", "{}"], ["--data-dir={}"]])
    def test_the_command_line_goes_before_the_environment(self, monkeypatch, tmp_path, words):
        monkeypatch.setenv("CLINIC_HOME", "/elsewhere")

        options.take_data_directory(["a.png", *(w.format(tmp_path) for w in words), "--json"])

        assert options.data_directory() == tmp_path

    def test_a_path_left_out_is_left_to_the_command_to_complain_of(self, monkeypatch):
        monkeypatch.setenv("CLINIC_HOME", "/elsewhere")

        options.take_data_directory(["--data-dir"])

        assert os.environ["CLINIC_HOME"] == "/elsewhere"

    def test_a_time_zone_must_exist(self, monkeypatch):
        monkeypatch.setenv("CLINIC_X", "Africa/Kampala")
        assert options.time_zone("CLINIC_X", "UTC") == "Africa/Kampala"

        monkeypatch.setenv("CLINIC_X", "../../etc/passwd")
        with pytest.raises(BadSetting):
            options.time_zone("CLINIC_X", "UTC")

    @pytest.mark.parametrize(
        ("hours", "name"),
        [(0, "UTC"), (3, "Etc/GMT-3"), (-5, "Etc/GMT+5"), (5.5, "Asia/Kolkata"), (0.25, "UTC")],
    )
    def test_a_computer_that_names_no_zone_is_taken_at_its_clock(self, monkeypatch, hours, name):
        zone = timezone(timedelta(hours=hours))

        class Clock(datetime):
            @classmethod
            def now(cls, tz=None):
                return cls(2026, 1, 1, tzinfo=zone)

            def astimezone(self, tz=None):
                return self

        monkeypatch.setattr(options, "datetime", Clock)

        assert options._zone_of_offset() == name


class TestAddresses:
    @pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.0.0.2"])
    def test_this_computers_own_are_served(self, host, settings):
        settings.ALLOWED_HOSTS = ["127.0.0.1", "localhost", "[::1]"]

        startup.refuse_other_computers(host)

        bracketed = f"[{host}]" if ":" in host else host
        assert bracketed in settings.ALLOWED_HOSTS

    @pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "fe80::1", "evil.example", ""])
    def test_others_are_refused(self, host):
        with pytest.raises(CannotStart) as caught:
            startup.refuse_other_computers(host)
        assert caught.value.exit_code == 2

    @pytest.mark.parametrize(
        ("host", "address"),
        [("127.0.0.1", "http://127.0.0.1:8765/"), ("::1", "http://[::1]:8765/")],
    )
    def test_they_are_written_as_browsers_read_them(self, host, address):
        assert instance_lock.page_address(host, 8765) == address


class TestPorts:
    def test_a_free_one_is_taken_and_then_it_is_not_free(self):
        with server.listen("127.0.0.1", 0) as first:
            port = first.getsockname()[1]
            with pytest.raises(server.PortTaken):
                server.listen("127.0.0.1", port)

    def test_the_remembered_one_comes_first(self, data_dir):
        with server.listen("127.0.0.1", 0) as probe:
            free = probe.getsockname()[1]
        (data_dir / "port").write_text(str(free))

        with startup.take_port("127.0.0.1", None) as sock:
            assert sock.getsockname()[1] == free

    def test_a_free_one_is_found_where_the_first_choices_are_taken(self, data_dir):
        with server.listen("127.0.0.1", 0) as taken:
            choice = taken.getsockname()[1]
            with server.listen_on_free("127.0.0.1", [choice]) as sock:
                assert sock.getsockname()[1] != choice

    def test_one_that_is_no_longer_free_gives_way_and_the_new_one_is_remembered(self, data_dir):
        with server.listen("127.0.0.1", 0) as taken:
            (data_dir / "port").write_text(str(taken.getsockname()[1]))
            with startup.take_port("127.0.0.1", None) as sock:
                assert (data_dir / "port").read_text() == str(sock.getsockname()[1])

    @pytest.mark.parametrize("rubbish", ["", "x", "0", "99999999", "-1", "8765\n9"])
    def test_a_memory_that_makes_no_sense_is_forgotten(self, data_dir, rubbish):
        (data_dir / "port").write_text(rubbish)

        with startup.take_port("127.0.0.1", None) as sock:
            assert sock.getsockname()[1] > 0

    def test_an_explicit_one_is_not_remembered(self, data_dir):
        with server.listen("127.0.0.1", 0) as probe:
            free = probe.getsockname()[1]
        with startup.take_port("127.0.0.1", free):
            assert not (data_dir / "port").exists()


class TestLock:
    def test_it_is_held_once(self, data_dir):
        with InstanceLock(data_dir), pytest.raises(AlreadyRunning), InstanceLock(data_dir):
            pass

    def test_it_is_free_afterwards(self, data_dir):
        with InstanceLock(data_dir):
            pass
        again = InstanceLock(data_dir)
        assert again.__enter__() is again
        again.__exit__(None, None, None)

    def test_the_holder_says_where_it_is(self, data_dir):
        with InstanceLock(data_dir) as lock:
            lock.announce("127.0.0.1", 1234)
            assert f'"pid": {os.getpid()}' in (data_dir / "instance.json").read_text()
        assert not (data_dir / "instance.json").exists()

    def test_what_a_killed_one_said_is_forgotten(self, data_dir):
        (data_dir / "instance.json").write_text('{"pid": 1, "host": "127.0.0.1", "port": 1}')

        with InstanceLock(data_dir):
            assert not (data_dir / "instance.json").exists()

    @pytest.mark.parametrize("said", ["", "{", "[]", "{}", '{"host": "127.0.0.1", "port": "x"}'])
    def test_nonsense_is_not_an_address(self, data_dir, said):
        (data_dir / "instance.json").write_text(said)

        assert address_of_running(data_dir, patience=0) is None

    def test_another_program_on_the_port_is_not_ours(self, data_dir):
        with socket.create_server(("127.0.0.1", 0)) as other:

            def answer() -> None:
                with other.accept()[0] as caller:
                    caller.recv(1000)
                    caller.sendall(b'HTTP/1.0 200 OK\r\n\r\n{"hello": "world"}')

            thread = threading.Thread(target=answer)
            thread.start()
            port = other.getsockname()[1]
            (data_dir / "instance.json").write_text(
                f'{{"pid": 1, "host": "127.0.0.1", "port": {port}}}'
            )
            assert address_of_running(data_dir, patience=0) is None
            thread.join()

    def test_a_first_one_that_never_answers_is_told_of(self, data_dir, monkeypatch):
        monkeypatch.setattr(startup, "SECOND_START_PATIENCE", 0.0)

        with pytest.raises(CannotStart, match="already running but does not answer"):
            startup.show_running(open_browser=False)

    def test_the_browser_is_opened_on_the_first_one(self, data_dir, monkeypatch, capsys):
        opened = threading.Event()
        addresses = []
        monkeypatch.setattr(startup, "address_of_running", lambda *_: "http://127.0.0.1:9/")
        monkeypatch.setattr("webbrowser.open", lambda to: (addresses.append(to), opened.set()))

        startup.show_running(open_browser=True)

        assert opened.wait(30)
        assert addresses == ["http://127.0.0.1:9/"]
        assert "http://127.0.0.1:9/" in capsys.readouterr().out


class TestTheKey:
    def test_it_is_written_down_once(self, data_dir, settings):
        settings.SECRET_KEY = "first"
        startup.keep_secret_key()
        settings.SECRET_KEY = "second"
        startup.keep_secret_key()

        assert (data_dir / "secret.key").read_text() == "first"

    def test_nobody_else_may_read_it(self, data_dir):
        if os.name == "nt":
            pytest.skip("Windows has rights of another kind")
        startup.keep_secret_key()

        assert (data_dir / "secret.key").stat().st_mode & 0o777 == 0o600


class TestTheLog:
    def test_it_cannot_grow_for_ever(self, data_dir, settings, monkeypatch, quiet_log):
        monkeypatch.setattr(startup, "LOG_BYTES", 2000)
        startup.start_log(settings.LOG_DIR)
        for _ in range(1000):
            logging.getLogger("app.test").info("a line of a log that goes on and on")

        sizes = [path.stat().st_size for path in settings.LOG_DIR.iterdir()]
        assert len(sizes) == startup.LOG_FILES + 1
        assert sum(sizes) <= 2000 * len(sizes)

    def test_it_keeps_the_words_of_an_error_to_itself(self, data_dir, settings, quiet_log):
        startup.start_log(settings.LOG_DIR)
        try:
            raise ValueError("Ana Maria Lopez")
        except ValueError:
            logging.getLogger("app.test").exception("a film failed")

        words = (settings.LOG_DIR / "clinic.log").read_text()
        assert "ValueError at test_startup.py" in words
        assert "Ana" not in words

    def test_it_takes_nothing_from_the_dicom_reader(self, data_dir, settings, quiet_log):
        startup.start_log(settings.LOG_DIR)

        logging.getLogger("pydicom").warning("Invalid value for VR PN: 'Lopez^Ana'")

        log = settings.LOG_DIR / "clinic.log"
        assert not log.exists() or "Ana" not in log.read_text()

    def test_a_folder_that_cannot_be_written_stops_the_start(self, data_dir, settings):
        settings.LOG_DIR.write_text("in the way")

        with pytest.raises(CannotStart, match="Fault DATA"):
            startup.start_log(settings.LOG_DIR)


class TestBackups:
    @pytest.fixture
    def file(self, data_dir, settings, monkeypatch) -> Path:
        path = data_dir / "clinic.sqlite3"
        monkeypatch.setattr(database, "database_file", lambda: path)
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("CREATE TABLE t (x)")
            connection.execute("INSERT INTO t VALUES (1)")
            connection.commit()
        return path

    def rows(self, path: Path) -> list[tuple[int]]:
        with closing(sqlite3.connect(path)) as connection:
            return connection.execute("SELECT x FROM t").fetchall()

    def test_a_copy_is_whole_while_the_database_is_in_use(self, file):
        with closing(sqlite3.connect(file)) as user:
            user.execute("INSERT INTO t VALUES (2)")
            user.commit()  # still in the write-ahead log, not in the file
            user.execute("BEGIN IMMEDIATE")
            user.execute("INSERT INTO t VALUES (3)")  # not committed

            copy = database.back_up()

        assert self.rows(copy) == [(1,), (2,)]
        assert database.is_whole(copy)

    def test_a_copy_is_a_single_file(self, file, settings):
        copy = database.back_up()

        assert list(settings.BACKUP_DIR.iterdir()) == [copy]

    def test_only_the_last_few_are_kept(self, file, settings):
        copies = [database.back_up() for _ in range(database.KEEP_BACKUPS + 3)]

        assert sorted(settings.BACKUP_DIR.iterdir()) == copies[-database.KEEP_BACKUPS :]

    def test_of_nothing_there_is_no_copy(self, file, settings):
        file.unlink()

        assert database.back_up() is None
        assert not settings.BACKUP_DIR.exists()

    def test_one_that_fails_leaves_nothing_half_written(self, file, settings, monkeypatch):
        def full(_source: Path, target: Path) -> None:
            target.write_bytes(b"half")
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(database, "copy", full)

        with pytest.raises(OSError):
            database.back_up()
        assert list(settings.BACKUP_DIR.iterdir()) == []


class TestPreparingTheDatabase:
    @pytest.mark.parametrize(
        ("fault", "words"),
        [
            (database.NewerDatabase(), "newer version"),
            (database.DamagedDatabase(), "Fault DATABASE"),
            (sqlite3.DatabaseError("file is not a database"), "Fault DATABASE"),
            (sqlite3.OperationalError("database or disk is full"), "disk is full"),
            (OSError(28, "No space left on device"), "disk is full"),
        ],
    )
    def test_every_obstacle_is_a_sentence(self, data_dir, monkeypatch, fault, words):
        def obstacle() -> bool:
            raise fault

        monkeypatch.setattr(database, "bring_up_to_date", obstacle)

        with pytest.raises(CannotStart, match=words):
            startup.prepare_database()

    @pytest.mark.django_db
    def test_a_database_up_to_date_is_left_alone(self, data_dir, settings):
        assert database.bring_up_to_date() is False
        assert not settings.BACKUP_DIR.exists()

    @pytest.mark.django_db
    def test_migrations_and_models_agree(self):
        from django.apps import apps
        from django.db import connection
        from django.db.migrations.autodetector import MigrationAutodetector
        from django.db.migrations.loader import MigrationLoader
        from django.db.migrations.state import ProjectState

        loader = MigrationLoader(connection)
        changes = MigrationAutodetector(
            loader.project_state(), ProjectState.from_apps(apps)
        ).changes(graph=loader.graph)

        assert "clinic" not in changes

    def test_a_torn_file_is_not_whole(self, tmp_path):
        path = tmp_path / "torn.sqlite3"
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE t (x)")
            connection.executemany("INSERT INTO t VALUES (?)", [["x" * 500]] * 500)
            connection.commit()
        assert database.is_whole(path)

        content = bytearray(path.read_bytes())
        content[8192:20000] = os.urandom(20000 - 8192)
        path.write_bytes(content)

        assert not database.is_whole(path)


class TestSweeping:
    def test_what_a_crash_left_half_received_is_removed(self, data_dir, settings):
        (settings.TEMPORARY_DIR / "film-abc").write_bytes(b"half")

        server.sweep_temporary(settings.TEMPORARY_DIR)

        assert list(settings.TEMPORARY_DIR.iterdir()) == []


class NoModel:
    """An ActiveModel's part towards the checks, with a release that cannot be used."""

    label = release = None
    problem = UnusableRelease("release_missing")

    def load(self) -> None:
        raise self.problem


class SomeModel:
    label, problem, release = "double@1", None, None

    def load(self) -> None:
        """Nothing to load."""


class TestChecks:
    @pytest.mark.parametrize("code", sorted(checks.SENTENCES))
    def test_every_fault_can_be_read_out(self, code):
        details = {"folder": "F", "free": "5", "file": "f", "code": "c", "bands": "b"}
        details |= {"reserve": "r", "day": "d", "films": "n"}

        words = checks.Problem(code, details).sentence

        assert words.startswith("Fault ")
        assert "%(" not in words

    def test_a_sound_installation_has_no_problems(self, data_dir, monkeypatch, settings):
        settings.MIN_FREE_BYTES = 0
        monkeypatch.setattr(checks, "model", SomeModel())

        assert checks.current_problems() == []

    def test_without_a_model_it_says_so(self, data_dir, monkeypatch):
        monkeypatch.setattr(checks, "model", NoModel())

        assert checks.usable_model().code == "model_not_usable"
        assert "release_missing" in checks.working_model().sentence

    @pytest.mark.parametrize(
        ("free", "code"),
        [
            (2000, None),
            (1999, "disk_nearly_full"),
            (500, "disk_nearly_full"),
            (499, "films_turned_away"),
            (0, "films_turned_away"),
        ],
    )
    def test_little_room_is_told_before_films_are_turned_away(
        self, data_dir, settings, monkeypatch, free, code
    ):
        settings.MIN_FREE_BYTES = 500 * 1024**2
        usage = shutil._ntuple_diskusage(10**12, 10**12, free * 1024**2)
        monkeypatch.setattr(checks.shutil, "disk_usage", lambda _folder: usage)
        problem = checks.free_disk()

        assert (problem.code if problem else None) == code
        assert problem is None or f"{free} MB" in problem.sentence

    def test_a_folder_that_went_away_is_a_problem_and_no_traceback(self, data_dir, settings):
        settings.DATA_DIR = data_dir / "gone"

        assert checks.data_directory().code == "data_dir_not_writable"
        assert checks.free_disk() is None

    def test_a_damaged_database_is_remembered(self, data_dir, monkeypatch, settings):
        settings.MIN_FREE_BYTES = 0
        monkeypatch.setattr(checks, "model", SomeModel())
        monkeypatch.setattr(checks, "is_damaged", lambda _: True)
        checks.look_at_database()
        assert [problem.code for problem in checks.current_problems()] == ["damage_found"]

        monkeypatch.setattr(checks, "is_damaged", lambda _: False)
        checks.look_at_database()
        assert checks.current_problems() == []


class TestHealth:
    def ask(self) -> dict[str, object]:
        response = Client(HTTP_HOST="127.0.0.1").get("/healthz")
        assert response.status_code == 200
        return dict(response.json())

    def test_it_is_ok_with_a_model(self, data_dir, monkeypatch, settings):
        settings.MIN_FREE_BYTES = 0
        monkeypatch.setattr(checks, "model", SomeModel())

        assert self.ask() == {"status": "ok", "version": settings.VERSION, "model": "double@1"}

    def test_it_is_degraded_without_one(self, data_dir, monkeypatch, settings):
        monkeypatch.setattr(checks, "model", NoModel())

        assert self.ask() == {"status": "degraded", "version": settings.VERSION, "model": None}

    def test_nothing_keeps_a_copy_of_it(self, data_dir):
        response = Client(HTTP_HOST="127.0.0.1").get("/healthz")

        assert "no-store" in response["Cache-Control"]

    def test_it_is_for_asking_only(self, data_dir):
        assert Client(HTTP_HOST="127.0.0.1").post("/healthz").status_code == 405


class TestTheActiveModel:
    def test_a_choice_that_is_damaged_is_a_problem(self, data_dir):
        (data_dir / "active.json").write_text("{")
        model = ActiveModel(data_dir)

        assert model.label is None
        assert model.problem.code == "active_release_damaged"
        with pytest.raises(UnusableRelease):
            model.load()

    def test_a_choice_that_is_mended_is_seen_at_once(self, data_dir, monkeypatch):
        monkeypatch.setattr("app.active_model.load_active", self.choose)
        model = ActiveModel(data_dir)
        seen = [model.label]
        for choice in ("first", "other"):
            (data_dir / "active.json").write_text(choice)
            seen.append(model.label)

        assert seen == [None, "first@1", "other@1"]

    def test_the_graph_is_loaded_once_and_again_when_the_choice_changes(
        self, data_dir, monkeypatch
    ):
        opened = []
        monkeypatch.setattr("app.active_model.load_active", self.choose)
        monkeypatch.setattr("app.active_model._open", lambda r: opened.append(r.label) or object())
        (data_dir / "active.json").write_text("first")
        model = ActiveModel(data_dir)

        assert model.load() is model.load()
        (data_dir / "active.json").write_text("other")
        model.load()

        assert opened == ["first@1", "other@1"]

    def test_a_graph_that_fails_is_not_tried_at_every_film(self, data_dir, monkeypatch):
        tried = []

        def fail(_release: object) -> None:
            tried.append(1)
            raise UnusableRelease("self_test_failed")

        monkeypatch.setattr("app.active_model.load_active", self.choose)
        monkeypatch.setattr("app.active_model._open", fail)
        (data_dir / "active.json").write_text("first")
        model = ActiveModel(data_dir)
        for _ in range(3):
            with pytest.raises(UnusableRelease):
                model.load()

        assert len(tried) == 1
        assert model.label is None
        assert model.problem.code == "self_test_failed"

    def test_it_stays_a_problem_until_a_later_try_succeeds(self, data_dir, monkeypatch):
        faults = [UnusableRelease("self_test_failed")] * 2

        def at_third_try(_release: object) -> object:
            if faults:
                raise faults.pop()
            return object()

        monkeypatch.setattr("app.active_model.RETRY_SECONDS", 0.0)
        monkeypatch.setattr("app.active_model.load_active", self.choose)
        monkeypatch.setattr("app.active_model._open", at_third_try)
        (data_dir / "active.json").write_text("first")
        model = ActiveModel(data_dir)
        for _ in range(2):
            with pytest.raises(UnusableRelease):
                model.load()
            assert [model.problem.code for _ in range(3)] == ["self_test_failed"] * 3

        assert model.load()
        assert model.problem is None

    def test_but_after_a_while_it_is(self, data_dir, monkeypatch):
        monkeypatch.setattr("app.active_model.RETRY_SECONDS", 0.0)
        faults = [UnusableRelease("release_file_missing")]

        def at_second_try(folder: Path) -> object:
            if faults:
                raise faults.pop()
            return self.choose(folder)

        monkeypatch.setattr("app.active_model.load_active", at_second_try)
        (data_dir / "active.json").write_text("first")
        model = ActiveModel(data_dir)

        assert model.label is None
        assert model.label == "first@1"

    def test_a_release_that_nobody_thought_of_is_a_problem_and_no_traceback(
        self, data_dir, monkeypatch
    ):
        def surprise(_folder: Path) -> None:
            raise RecursionError

        monkeypatch.setattr("app.active_model.load_active", surprise)

        assert ActiveModel(data_dir).problem.code == "release_manifest_damaged"

    @staticmethod
    def choose(folder: Path) -> object:
        from types import SimpleNamespace

        try:
            name = (folder / "active.json").read_text()
        except FileNotFoundError:
            raise UnusableRelease("release_missing") from None
        return SimpleNamespace(label=f"{name}@1", directory=folder)
