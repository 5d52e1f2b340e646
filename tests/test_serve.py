"""The real program as a process of its own: started, stopped, killed, started twice."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from PIL import Image

from model_export import phantom
from tests.running import ROOT, Visitor, free_port, wait_for

posix_only = pytest.mark.skipif(os.name == "nt", reason="signals and rights of POSIX")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "clinic home ä"


def environment(**more: str) -> dict[str, str]:
    kept = {n: v for n, v in os.environ.items() if not n.startswith(("CLINIC_", "DJANGO_"))}
    return {**kept, "PYTHONUTF8": "1", **more}


def start(home: Path, *words: str, **settings: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "run_clinic.py", "serve", "--no-browser", "--data-dir", str(home), *words],
        cwd=ROOT,
        env=environment(**settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run(*words: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "run_clinic.py", *words],
        cwd=ROOT,
        env=environment(**settings),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def address(home: Path, process: subprocess.Popen[str]) -> str:
    """Where the process serves, once it answers."""

    def announced() -> dict[str, object] | None:
        assert process.poll() is None, process.stdout and process.stdout.read()
        try:
            said = json.loads((home / "instance.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return said if said["pid"] == process.pid else None

    said = wait_for(announced, pause=0.05)
    found = f"http://127.0.0.1:{said['port']}"
    wait_for(lambda: health(found), pause=0.05)
    return found


def health(at: str) -> dict[str, object]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{at}/healthz", timeout=30) as response:
        assert response.status == 200
        return dict(json.load(response))


@contextmanager
def serving(home: Path, *words: str, **settings: str) -> Iterator[tuple[str, subprocess.Popen]]:
    process = start(home, *(words or ["--port", str(free_port())]), **settings)
    try:
        yield address(home, process), process
    finally:
        process.kill()
        process.wait(60)
        process.stdout.close()


def end_politely(process: subprocess.Popen[str], how: int = signal.SIGTERM) -> int:
    process.send_signal(how)
    return process.wait(60)


def rows(home: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(home / "clinic.sqlite3", timeout=20)) as database:
        return database.execute(query).fetchall()


def no_film(folder: Path, number: int = 1) -> Path:
    path = folder / f"no film {number}.txt"
    path.write_text(f"this is not a film, {number}")
    return path


class TestOneStart:
    def test_it_answers_makes_what_it_needs_and_leaves_nothing_open(self, home):
        with serving(home) as (at, process):
            answer = health(at)
            assert answer.keys() == {"status", "version", "model"}
            assert answer["status"] in {"ok", "degraded"}
            assert (answer["model"] is None) <= (answer["status"] == "degraded")
            assert end_politely(process) == 0

        left = {path.name for path in home.iterdir()}
        assert left >= {"clinic.sqlite3", "logs", "secret.key"}
        assert not left & {"instance.json", "clinic.sqlite3-wal", "clinic.sqlite3-shm"}
        assert rows(home, "PRAGMA integrity_check") == [("ok",)]

    @posix_only
    def test_it_ends_tidily_with_ctrl_c_too(self, home):
        with serving(home) as (_, process):
            assert end_politely(process, signal.SIGINT) == 0

        assert not (home / "instance.json").exists()
        assert "stopped" in (home / "logs" / "clinic.log").read_text(encoding="utf-8")

    @posix_only
    def test_its_data_is_for_this_user_alone(self, home):
        with serving(home):
            assert home.stat().st_mode & 0o077 == 0
            assert (home / "secret.key").stat().st_mode & 0o077 == 0

    def test_it_prints_where_it_is_and_nothing_else(self, home):
        with serving(home) as (at, process):
            end_politely(process)
            assert process.stdout.read().splitlines() == [f"Open {at}/ in the browser."]

    def test_it_listens_on_this_computer_only(self, home):
        with serving(home) as (at, _):
            port = int(at.rpartition(":")[2])
            others = {
                info[4][0]
                for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)
                if not info[4][0].startswith("127.")
            }
            for other in others:
                with pytest.raises(OSError), socket.create_connection((other, port), timeout=2):
                    pass

    def test_it_does_not_answer_to_a_name_that_another_site_may_have_chosen(self, home):
        with serving(home) as (at, _):
            connection = http.client.HTTPConnection(at.removeprefix("http://"), timeout=30)
            connection.request("GET", "/", headers={"Host": "evil.example"})
            assert connection.getresponse().status == 400

    def test_it_imports_neither_numpy_nor_onnxruntime_before_the_first_film(self, home):
        if not Path("/proc").exists():
            pytest.skip("this system does not show what a process has loaded")
        with serving(home) as (at, process):
            Visitor(at).get("/")
            loaded = Path(f"/proc/{process.pid}/maps").read_text()

        assert "_multiarray_umath" not in loaded
        assert "onnxruntime" not in loaded

    def test_it_idles_in_less_than_100_mb(self, home):
        status = Path("/proc/self/status")
        if not status.exists():
            pytest.skip("this system does not show the memory of a process")
        with serving(home) as (at, process):
            Visitor(at).get("/")
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()

        resident = next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
        assert resident < 100 * 1024


class TestTwoStarts:
    def test_the_second_finds_the_first_and_ends_well(self, home):
        with serving(home) as (at, _):
            second = run("serve", "--no-browser", "--data-dir", str(home))

            assert second.returncode == 0
            assert second.stdout.strip() == f"Open {at}/ in the browser."
            assert health(at)

    def test_at_the_same_moment_one_serves_and_the_other_finds_it(self, home):
        port = str(free_port())
        both = [start(home, "--port", port), start(home, "--port", port)]

        done = wait_for(lambda: [p for p in both if p.poll() is not None], pause=0.05)
        serves = next(process for process in both if process not in done)
        try:
            assert [process.returncode for process in done] == [0]
            assert health(address(home, serves))
        finally:
            assert end_politely(serves) == 0
            for process in both:
                process.stdout.close()

    def test_on_two_data_directories_both_serve(self, tmp_path):
        with serving(tmp_path / "one") as (first, _), serving(tmp_path / "two") as (second, _):
            assert first != second
            assert health(first)
            assert health(second)

    def test_the_next_start_works_after_a_kill(self, home):
        with serving(home) as (_, process):
            process.kill()
            process.wait(60)
            assert (home / "instance.json").exists()

            with serving(home) as (at, _):
                assert health(at)


class TestPorts:
    def test_an_explicit_port_that_is_taken_stops_with_a_sentence(self, home):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            result = run("serve", "--no-browser", "--port", str(port), "--data-dir", str(home))

        assert result.returncode == 2
        assert f"Port {port} is in use" in result.stderr
        assert "Traceback" not in result.stderr

    def test_the_usual_port_when_taken_gives_way_to_the_next_which_is_remembered(self, home):
        with serving(home, "--host", "127.0.0.1") as (at, process):
            first = int(at.rpartition(":")[2])
            end_politely(process)
        with (
            socket.create_server(("127.0.0.1", first)),
            serving(home, "--host", "127.0.0.1") as (at, process),
        ):
            second = int(at.rpartition(":")[2])
            assert second > first
            end_politely(process)
        with serving(home, "--host", "127.0.0.1") as (at, _):
            assert int(at.rpartition(":")[2]) == second

    @pytest.mark.parametrize("port", ["0", "65536", "-1", "http", "8765.0", "٣"])
    def test_what_is_no_port_is_a_usage_error(self, home, port):
        result = run("serve", "--no-browser", f"--port={port}", "--data-dir", str(home))

        assert result.returncode == 2
        assert "Traceback" not in result.stderr
        assert not home.exists()


class TestWhatStopsAStart:
    @pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org"])
    def test_an_address_that_lets_others_in(self, home, host):
        result = run("serve", "--no-browser", "--host", host, "--data-dir", str(home))

        assert result.returncode == 2
        assert f"The address {host} would let other computers in" in result.stderr
        assert not home.exists()

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("CLINIC_MAX_FILM_MB", "lots"),
            ("CLINIC_MAX_FILM_MB", "0"),
            ("CLINIC_MIN_FREE_MB", "-5"),
            ("CLINIC_TIME_ZONE", "Mars/Olympus"),
            ("CLINIC_LANGUAGE", "klingon"),
            ("CLINIC_DEBUG", "perhaps"),
        ],
    )
    def test_a_setting_that_makes_no_sense(self, home, name, value):
        result = run("serve", "--no-browser", "--data-dir", str(home), **{name: value})

        assert result.returncode == 2
        assert name in result.stderr
        assert value in result.stderr
        assert len(result.stderr.splitlines()) == 1

    def test_a_data_directory_that_is_a_file(self, tmp_path):
        path = tmp_path / "file"
        path.write_text("in the way")

        result = run("serve", "--no-browser", "--data-dir", str(path))

        assert result.returncode == 1
        assert result.stderr.startswith("Fault DATA:")
        assert path.read_text() == "in the way"

    def test_a_data_directory_that_cannot_be_written(self):
        if not Path("/proc").exists():
            pytest.skip("needs a folder that even root cannot write in")

        result = run("serve", "--no-browser", "--data-dir", "/proc/clinic")

        assert result.returncode == 1
        assert result.stderr.startswith("Fault DATA:")
        assert "Traceback" not in result.stderr

    def test_a_database_that_is_none(self, home):
        home.mkdir()
        (home / "clinic.sqlite3").write_bytes(b"no database at all" * 1000)

        result = run("serve", "--no-browser", "--data-dir", str(home))

        assert result.returncode == 1
        assert result.stderr.strip().startswith("Fault DATABASE:")
        assert (home / "clinic.sqlite3").read_bytes().startswith(b"no database at all")

    def test_a_database_of_a_newer_program(self, home):
        with serving(home) as (_, process):
            end_politely(process)
        with closing(sqlite3.connect(home / "clinic.sqlite3")) as database:
            database.execute(
                "INSERT INTO django_migrations(app, name, applied) "
                "VALUES ('clinic', '9999_from_the_future', '2030-01-01')"
            )
            database.commit()

        result = run("serve", "--no-browser", "--data-dir", str(home))

        assert result.returncode == 1
        assert "newer version" in result.stderr

    def test_an_unknown_command(self):
        result = run("dance")

        assert result.returncode == 2
        assert "There is no command “dance”." in result.stderr


class TestAFilmOnItsWay:
    def test_what_was_acknowledged_survives_a_kill_and_is_answered_afterwards(self, home, tmp_path):
        broken = home / "active.json"
        home.mkdir()
        broken.write_text("no model while the first one runs")
        with serving(home) as (at, process):
            visitor = Visitor(at)
            studies = [visitor.upload(no_film(tmp_path, n)) for n in range(3)]
            assert health(at) | {"version": ""} == {
                "status": "degraded",
                "version": "",
                "model": None,
            }
            process.kill()
            process.wait(60)

        assert rows(home, "SELECT state FROM clinic_instance") == [("waiting",)] * 3
        broken.unlink()
        with serving(home) as (at, _):
            if health(at)["model"] is None:
                pytest.skip("no factory release in this tree")
            visitor = Visitor(at)
            for study in studies:
                assert 'data-answer="unreadable"' in visitor.wait_for_answer(study)

        assert rows(home, "SELECT count(*) FROM clinic_finding") == [(3,)]

    def test_a_film_that_was_being_analysed_at_the_kill_is_taken_over_at_once(self, home, tmp_path):
        home.mkdir()
        (home / "active.json").write_text("no model while the first one runs")
        with serving(home) as (at, process):
            study = Visitor(at).upload(no_film(tmp_path))
            process.kill()
            process.wait(60)
        # What a kill in the middle of an analysis leaves: a lease that still runs
        with closing(sqlite3.connect(home / "clinic.sqlite3")) as database:
            (owner,) = database.execute("SELECT id FROM clinic_worker").fetchone()
            database.execute(
                "UPDATE django_tasks_database_dbtaskresult SET status='RUNNING', worker_ids=?",
                [json.dumps([owner])],
            )
            database.execute("UPDATE clinic_instance SET state='analysing', attempts=1")
            database.commit()

        (home / "active.json").unlink()
        with serving(home) as (at, _):
            if health(at)["model"] is None:
                pytest.skip("no factory release in this tree")
            assert 'data-answer="unreadable"' in Visitor(at).wait_for_answer(study)

    @pytest.mark.soak
    def test_killed_again_and_again_it_answers_every_film_once(self, home, tmp_path, soak):
        films = 6 * soak
        for n in range(films):
            pixels = phantom.chest_film(seed=n, size=(400, 400))
            Image.fromarray(pixels).save(tmp_path / f"{n}.png")
        with serving(home) as (at, process):
            if health(at)["model"] is None:
                pytest.skip("no factory release in this tree")
            visitor = Visitor(at)
            for n in range(films):
                visitor.upload(tmp_path / f"{n}.png")
            process.kill()
            process.wait(60)
        count = "SELECT count(*) FROM clinic_finding"
        for _ in range(2 * soak):
            before = rows(home, count)[0][0]
            if before == films:
                break
            with serving(home) as (_, process):
                wait_for(lambda seen=before: rows(home, count)[0][0] > seen, pause=0.01)
                process.kill()
                process.wait(60)
        with serving(home):
            wait_for(lambda: rows(home, count)[0][0] >= films)

        assert rows(home, "SELECT count(DISTINCT instance_id) FROM clinic_finding") == [(films,)]
        assert rows(home, count) == [(films,)]
        assert not rows(home, "SELECT 1 FROM clinic_instance WHERE state IN ('waiting', 'failed')")
        assert rows(home, "PRAGMA integrity_check") == [("ok",)]

    def test_a_worker_process_beside_the_server_answers_too(self, home, tmp_path):
        with serving(home) as (at, _):
            if health(at)["model"] is None:
                pytest.skip("no factory release in this tree")
            beside = subprocess.Popen(
                [sys.executable, "run_clinic.py", "worker", "--data-dir", str(home)],
                cwd=ROOT,
                env=environment(),
            )
            try:
                wait_for(lambda: rows(home, "SELECT 1 FROM clinic_worker WHERE id LIKE 'worker-%'"))
                visitor = Visitor(at)
                studies = [visitor.upload(no_film(tmp_path, n)) for n in range(4)]
                for study in studies:
                    visitor.wait_for_answer(study)
            finally:
                beside.send_signal(signal.SIGTERM)
                assert beside.wait(60) == 0

            assert rows(home, "SELECT count(*) FROM clinic_finding") == [(4,)]
            assert not rows(home, "SELECT 1 FROM clinic_worker WHERE id LIKE 'worker-%'")


class TestUploadsTooLarge:
    def refused(self, at: str, length: int, send: int, **headers: str) -> tuple[int, str]:
        """Announce ``length`` bytes, send ``send`` of them, read the answer."""
        connection = http.client.HTTPConnection(at.removeprefix("http://"), timeout=60)
        with closing(connection):
            connection.putrequest("POST", "/upload")
            connection.putheader("Content-Type", "multipart/form-data; boundary=x")
            connection.putheader("Content-Length", str(length))
            for name, value in headers.items():
                connection.putheader(name, value)
            connection.endheaders()
            block = bytes(1024 * 1024)
            for _ in range(send // len(block)):
                connection.send(block)
            response = connection.getresponse()
            return response.status, response.read().decode()

    def test_a_large_one_is_read_to_its_end_kept_nowhere_and_answered_with_a_sentence(self, home):
        with serving(home, CLINIC_MAX_FILM_MB="5") as (at, _):
            size = 64 * 1024**2

            status, words = self.refused(at, length=size, send=size)

            assert status == 413
            assert "too large" in words
            assert not [
                p for p in home.rglob("*") if p.is_file() and p.stat().st_size > 5 * 1024**2
            ]
            assert health(at)

    def test_one_of_2_gb_is_refused_before_it_is_sent_when_the_sender_asks(self, home):
        with serving(home) as (at, _):
            status, words = self.refused(at, 2 * 1024**3, send=0, Expect="100-continue")

            assert status == 413
            assert "too large" in words

    def test_one_beyond_all_measure_is_cut_off(self, home):
        with serving(home) as (at, _):
            assert self.refused(at, 10**15, send=0)[0] == 413
            assert health(at)

    def test_one_that_the_disk_cannot_take_is_refused_before_it_is_kept(self, home):
        with serving(home, CLINIC_MIN_FREE_MB="100000", CLINIC_MAX_FILM_MB="4096") as (at, _):
            free = os.statvfs(home).f_bavail * os.statvfs(home).f_frsize if os.name != "nt" else 0
            if free > 100_000 * 1024**2:
                pytest.skip("this disk has more room than the test can ask for")
            status, words = self.refused(at, 8 * 1024**2, send=8 * 1024**2)

            assert status == 507
            assert "full" in words

    def test_pages_are_served_while_a_large_one_comes_in(self, home):
        with serving(home, CLINIC_MAX_FILM_MB="5") as (at, _):
            slow = socket.create_connection(("127.0.0.1", int(at.rpartition(":")[2])), timeout=60)
            with closing(slow):
                slow.sendall(b"POST /upload HTTP/1.1\r\nHost: 127.0.0.1\r\n")
                slow.sendall(b"Content-Length: 999999999\r\n\r\n")
                for _ in range(3):
                    slow.sendall(bytes(100_000))
                    assert health(at)


class TestOtherCommands:
    def test_version_says_program_and_model(self, home):
        result = run("version", "--data-dir", str(home))

        assert result.returncode == 0
        assert result.stdout.startswith("ClinicCXR ")
        assert ", model " in result.stdout
        assert not home.exists()

    def test_check_says_what_is_wrong(self, home):
        home.mkdir()
        (home / "active.json").write_text("{}")

        result = run("check", "--data-dir", str(home))

        assert result.returncode == 1
        assert "Fault MODEL: no usable model (active_release_damaged)." in result.stderr

    def test_check_of_a_sound_installation_finds_nothing(self, home):
        with serving(home) as (at, process):
            if health(at)["model"] is None:
                pytest.skip("no factory release in this tree")
            end_politely(process)

        result = run("check", "--data-dir", str(home))

        assert result.returncode == 0, result.stderr
        assert result.stdout.startswith("No fault was found.")

    @pytest.mark.parametrize("command", ["serve", "analyze", "worker", "check", "version"])
    def test_every_command_explains_itself(self, command):
        result = run(command, "--help")

        assert result.returncode == 0
        assert "--data-dir" in result.stdout

    def test_without_a_command_help_lists_them(self):
        assert "analyze" in run("--help").stdout


def test_it_is_up_within_two_seconds_of_an_idle_computer(home):
    """A generous bound: the figure itself is measured by ``make bench``."""
    began = time.monotonic()
    with serving(home):
        assert time.monotonic() - began < 20


def test_a_new_start_of_an_old_database_keeps_a_copy_first(home):
    with serving(home) as (_, process):
        end_politely(process)
    with closing(sqlite3.connect(home / "clinic.sqlite3")) as database:
        # As the first version of the program left it: no people, patients and readings yet
        for (table,) in database.execute(
            "SELECT name FROM sqlite_master WHERE type='table' AND name LIKE 'clinic_%'"
        ).fetchall():
            database.execute(f"DROP TABLE {table}")
        database.execute("CREATE TABLE of_the_old_version (x)")
        database.execute("DELETE FROM django_migrations WHERE app='clinic'")
        database.commit()

    with serving(home) as (at, process):
        assert health(at)
        end_politely(process)

    (copy,) = (home / "backups").glob("clinic-*.sqlite3")
    with closing(sqlite3.connect(copy)) as database:
        assert database.execute("SELECT count(*) FROM of_the_old_version").fetchone() == (0,)
    assert rows(home, "SELECT count(*) FROM clinic_study") == [(0,)]
