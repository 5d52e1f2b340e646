"""Several machines on one PostgreSQL, as Debian packages it: real processes, real deaths.

Half of it are tests of the tables that run on SQLite as well: ``CXR_TEST_DATABASE_URL`` names a
PostgreSQL for all tests that ask for the database.
"""

from __future__ import annotations

import http.client
import itertools
import json
import re
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.parse
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests import postgres
from tests.district import PROGRAM, District, kill, many_films, token_of
from tests.running import Visitor, free_port, serving, wait_for

pytestmark = pytest.mark.postgres

WORKERS = 4
SECONDS_BETWEEN_DEATHS = 3.0
PASSWORD = "Korrekt-Pferd-9"


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Server]:
    postgres.required()
    with postgres.serving() as running:
        yield running


@pytest.fixture
def url(server: postgres.Server, request: pytest.FixtureRequest) -> Iterator[str]:
    """A new empty database."""
    name = re.sub(r"\W", "_", request.node.name).lower()[:50]
    yield server.create(name)
    server.drop(name)


@pytest.fixture
def district(url: str, tmp_path: Path) -> District:
    return District(tmp_path, url)


def upload(visitor: Visitor, folder: Path, count: int) -> list[str]:
    """Put so many films in; the paths of their studies."""
    studies = []
    for number, film in enumerate(many_films(count)):
        path = folder / f"film-{number:04}.png"
        path.write_bytes(film)
        studies.append(visitor.upload(path))
        path.unlink()
    return studies


class TestWorkers:
    def test_each_film_is_answered_once_while_workers_die(self, district, tmp_path, soak):
        count = 60 if soak == 1 else 1000
        with district.serving(CLINIC_PAGES_ONLY="yes") as visitor:
            upload(visitor, tmp_path, count)
            assert district.states() == {"waiting": count}
            deaths = answer_while_workers_die(district)

        assert deaths
        assert district.findings_of_each_film() == [1] * count
        assert district.states() == {"answered": count}
        numbers = {number for (number,) in district.ask("SELECT number FROM clinic_study")}
        assert len(numbers) == count

    def test_one_that_is_stopped_gives_back_what_it_has(self, district, tmp_path):
        with district.serving(CLINIC_PAGES_ONLY="yes") as visitor:
            worker = district.worker("second")
            upload(visitor, tmp_path, 3)
            wait_for(lambda: district.unfinished() < 3)
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(timeout=60) == 0

        assert district.ask("SELECT count(*) FROM clinic_worker") == [(0,)]
        running = "SELECT count(*) FROM django_tasks_database_dbtaskresult WHERE status = 'RUNNING'"
        assert district.ask(running) == [(0,)]


def answer_while_workers_die(district: District) -> int:
    """Work until nothing waits, one of four killed every few seconds; how many were."""
    deaths = 0
    workers = {name: district.worker(name) for name in map(str, range(WORKERS))}
    try:
        wait_for(lambda: district.states().get("answered"))
        for name in itertools.cycle(workers):
            if not district.states().get("waiting"):
                break
            time.sleep(SECONDS_BETWEEN_DEATHS)
            kill(workers[name])
            deaths += 1
            workers[name] = district.worker(name)
        # What the last one killed had in hand is taken over when its lease has run out
        wait_for(lambda: not district.unfinished(), seconds=300, pause=1.0)
    finally:
        for worker in workers.values():
            worker.terminate()
        for worker in workers.values():
            worker.wait(timeout=60)
    return deaths


class TestStarts:
    def test_a_machine_without_the_keys_of_the_others_does_not_start(self, district, tmp_path):
        with district.serving():
            pass
        told = district.run("worker", home=tmp_path / "stranger", timeout=60)

        assert told.returncode != 0
        assert "audit.key" in told.stderr
        assert "Traceback" not in told.stderr

    def test_a_server_that_is_not_there_is_said_in_words(self, tmp_path):
        district = District(tmp_path, f"postgresql://clinic@127.0.0.1:{free_port()}/clinic")
        told = district.run("serve", "--no-browser", timeout=60)

        assert told.returncode != 0
        assert "Fault SERVER" in told.stderr
        assert "Traceback" not in told.stderr

    def test_a_share_that_is_not_mounted_stops_a_worker(self, district, tmp_path):
        with district.serving(CLINIC_PAGES_ONLY="yes") as visitor:
            upload(visitor, tmp_path, 1)
            (district.share / "films").rename(district.share / "away")
            told = district.run("worker", home=district.machine("second"), timeout=60)
            (district.share / "away").rename(district.share / "films")

        assert told.returncode != 0
        assert "Fault FILMS" in told.stderr
        assert district.states() == {"waiting": 1}

    def test_machines_that_start_at_once_make_the_tables_once(self, district):
        def start(name: str) -> subprocess.CompletedProcess[str]:
            return district.run("create-user", name, "--role", "administrator",
                                input=f"{PASSWORD}\n", timeout=120)  # fmt: skip

        with ThreadPoolExecutor() as pool:
            told = list(pool.map(start, ["amina", "grace", "moses"]))
        assert [one.returncode for one in told] == [0, 0, 0], [one.stderr for one in told]
        assert district.ask("SELECT count(*) FROM clinic_user") == [(3,)]


class TestIntake:
    def test_films_that_come_by_several_processes_at_once_get_numbers_of_their_own(
        self, district, tmp_path
    ):
        with district.serving(CLINIC_PAGES_ONLY="yes") as first:
            second_home = district.machine("second")
            with district.serving(second_home, CLINIC_PAGES_ONLY="yes") as second:
                doors = [first, second]
                folders = [tmp_path / "a", tmp_path / "b"]
                for folder in folders:
                    folder.mkdir()
                with ThreadPoolExecutor() as pool:
                    # Each film comes by both doors
                    list(pool.map(upload, doors, folders, [15, 15]))

        assert district.states() == {"waiting": 15}
        numbers = [number for (number,) in district.ask("SELECT number FROM clinic_study")]
        assert sorted(int(number[-4:]) for number in numbers) == list(range(1, 16))
        assert len([f for f in district.share.rglob("*") if f.is_file()]) == 15


class TestTheMove:
    @pytest.fixture
    def laptop(self, tmp_path: Path) -> tuple[dict[str, str], str]:
        """A laptop's data directory with answered films, and how one of its pages reads."""
        home = tmp_path / "first"
        environment = District(tmp_path, "").environment(home)
        for name in ("CLINIC_DATABASE_URL", "CLINIC_FILM_STORAGE"):
            del environment[name]
        with serving(PROGRAM, environment) as (visitor, _):
            studies = upload(visitor, tmp_path, 3)
            for study in studies:
                visitor.wait_for_answer(study)
            page = visitor.wait_for_answer(studies[0])
        return environment, page

    def move(self, environment: dict[str, str], url: str, *more: str) -> Any:
        words = [*PROGRAM, "move-to", url, *more]
        return subprocess.run(words, env=environment, capture_output=True, text=True,
                              timeout=300, check=False)  # fmt: skip

    def test_everything_arrives_and_the_program_goes_on_there(self, laptop, url, tmp_path):
        environment, page = laptop
        share = tmp_path / "share"
        told = self.move(environment, url, "--films", str(share))
        assert told.returncode == 0, told.stderr
        assert "Everything arrived" in told.stdout

        district = District.__new__(District)
        district.folder, district.url, district.share = tmp_path, url, share
        district._settings, district.first = {"CLINIC_FILM_STORAGE": str(share)}, tmp_path / "first"
        assert district.findings_of_each_film() == [1, 1, 1]
        with district.serving(set_up=False) as visitor:
            (number,) = district.ask("SELECT number FROM clinic_study ORDER BY id LIMIT 1")[0]
            status = visitor.status(f"/studies/{number}/")
            assert status["finished"]
            assert shown(str(status["html"])) == shown(page)
            with visitor.opener.open(f"{visitor.address}/films/1.png") as picture:
                assert picture.read(4) == b"\x89PNG"
            # Sequences go on after what came along, and the record's chain does too
            added = upload(visitor, tmp_path, 5)
            assert visitor.wait_for_answer(added[4])
        assert district.states() == {"answered": 5}
        assert district.run("check", timeout=120).returncode == 0

    def test_it_refuses_a_database_that_is_not_empty(self, laptop, url):
        with psycopg.connect(url) as connection:
            connection.execute("CREATE TABLE theirs (a int)")
        told = self.move(laptop[0], url)

        assert told.returncode == 1
        assert "not empty" in told.stderr
        with psycopg.connect(url) as connection:
            tables = connection.execute(
                "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
            ).fetchall()
        assert tables == [("theirs",)]

    def test_it_refuses_while_the_program_runs(self, laptop, url):
        with serving(PROGRAM, laptop[0]):
            told = self.move(laptop[0], url)
        assert told.returncode == 2
        assert "The program is running" in told.stderr

    def test_one_that_broke_off_is_started_again(self, laptop, url):
        environment, _ = laptop
        moving = subprocess.Popen([*PROGRAM, "move-to", url], env=environment)
        wait_for(lambda: _has_table(url, "clinic_move"), pause=0.01)
        kill(moving)
        if _has_table(url, "clinic_move"):
            refused = subprocess.run(
                [*PROGRAM, "worker"], env={**environment, "CLINIC_DATABASE_URL": url},
                capture_output=True, text=True, timeout=60, check=False,
            )  # fmt: skip
            assert refused.returncode != 0
            assert "move to this database has not ended" in refused.stderr
            assert self.move(environment, url).returncode == 0
        assert not _has_table(url, "clinic_move")
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT count(*) FROM clinic_finding").fetchone() == (3,)

    def test_a_value_that_the_server_cannot_hold_stops_it_in_words(self, laptop, url, tmp_path):
        import sqlite3

        with sqlite3.connect(tmp_path / "first" / "clinic.sqlite3") as opened:
            opened.execute("UPDATE clinic_study SET note = 'a' || char(0) || 'b'")
        told = self.move(laptop[0], url)

        assert told.returncode == 1
        assert "Traceback" not in told.stderr
        assert "Nothing here was changed" in told.stderr


def shown(html: str) -> str:
    """What a page says, without the addresses of this very second."""
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def _has_table(url: str, name: str) -> bool:
    with suppress(psycopg.OperationalError), psycopg.connect(url) as connection:
        return bool(connection.execute("SELECT to_regclass(%s)", [name]).fetchone()[0])
    return False


class Proxy:
    """A web server in front of several of ours, which it asks in turn, over HTTPS on its outside
    as it says; and a browser in front of it.
    """

    NAME = "clinic.district.example"

    def __init__(self, address: tuple[str, int]) -> None:
        self.address = address
        self.cookies: dict[str, str] = {}

    def ask(self, method: str, path: str, form: dict[str, str] | None = None,
            **headers: str) -> tuple[int, str, str]:  # fmt: skip
        """Status, body and where it leads to."""
        connection = http.client.HTTPConnection(*self.address, timeout=60)
        body = urllib.parse.urlencode(form) if form is not None else None
        ours = {"Host": self.NAME, "Cookie": "; ".join(f"{k}={v}" for k, v in self.cookies.items())}
        if body is not None:
            ours |= {"Content-Type": "application/x-www-form-urlencoded",
                     "Referer": f"https://{self.NAME}/",
                     "Origin": f"https://{self.NAME}"}  # fmt: skip
        connection.request(method, path, body, {**ours, **headers})
        answer = connection.getresponse()
        for name, value in answer.getheaders():
            if name.lower() == "set-cookie":
                assert "secure" in value.lower()
                cookie, _, kept = value.partition(";")[0].partition("=")
                self.cookies[cookie] = kept
        return answer.status, answer.read().decode(), answer.getheader("Location", "")


@contextmanager
def proxied(ports: list[int]) -> Iterator[Proxy]:
    turn = itertools.cycle(ports)

    class Handler(BaseHTTPRequestHandler):
        def _pass_on(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length) if length else None
            kept = {k: v for k, v in self.headers.items() if not k.lower().startswith("x-forw")}
            kept |= {
                "X-Forwarded-For": "192.0.2.7",
                "X-Forwarded-Proto": "https",
                "X-Forwarded-Host": self.headers["Host"],
            }
            behind = http.client.HTTPConnection("127.0.0.1", next(turn), timeout=60)
            behind.request(self.command, self.path, body, kept)
            answer = behind.getresponse()
            content = answer.read()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("transfer-encoding", "content-length", "connection"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_GET(self) -> None:
            self._pass_on()

        def do_POST(self) -> None:
            self._pass_on()

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield Proxy(("127.0.0.1", server.server_address[1]))
    finally:
        server.shutdown()


class TestBehindAProxy:
    @pytest.fixture
    def front(self, district: District) -> Iterator[tuple[Proxy, list[Visitor]]]:
        """Two that serve pages, and the proxy; an administrator may log in."""
        made = district.run("create-user", "amina", "--role", "administrator", timeout=120,
                            input=f"{PASSWORD}\n")  # fmt: skip
        assert made.returncode == 0, made.stderr
        # What a start of the first writes: the keys that the second gets
        with district.serving(set_up=False):
            pass
        behind = {
            "CLINIC_TRUSTED_PROXY": "127.0.0.1",
            "CLINIC_HOST_NAMES": Proxy.NAME,
            "CLINIC_METRICS_TOKEN": "0123456789abcdefghij",
        }
        second = district.machine("second")
        with (
            district.serving(set_up=False, **behind) as one,
            district.serving(second, set_up=False, CLINIC_PAGES_ONLY="yes", **behind) as other,
        ):
            doors = [one, other]
            with proxied([urllib.parse.urlsplit(door.address).port for door in doors]) as proxy:
                yield proxy, doors

    def test_a_person_stays_logged_in_whichever_process_answers(self, front):
        proxy, _ = front
        status, page, _ = proxy.ask("GET", "/log-in")
        assert status == 200
        form = {"csrfmiddlewaretoken": token_of(page), "username": "amina", "password": PASSWORD}
        status, _, _ = proxy.ask("POST", "/log-in", form)
        assert status == 302

        assert [proxy.ask("GET", "/people")[0] for _ in range(4)] == [200] * 4
        assert proxy.ask("GET", "/static/clinic/clinic.css")[0] == 200

    def test_nobody_is_at_home_behind_it(self, front):
        proxy, doors = front
        assert proxy.ask("GET", "/")[0] == 302
        # A proxy that forgets to say for whom it asks makes nobody local
        with pytest.raises(urllib.error.HTTPError) as refused:
            doors[0].opener.open(f"{doors[0].address}/metrics")
        assert refused.value.code == 404

    def test_figures_are_for_who_has_the_token(self, front):
        proxy, _ = front
        assert proxy.ask("GET", "/metrics")[0] == 404
        wrong = {"Authorization": "Bearer 0123456789abcdefghiX"}
        assert proxy.ask("GET", "/metrics", **wrong)[0] == 404
        right = {"Authorization": "Bearer 0123456789abcdefghij"}
        status, figures, _ = proxy.ask("GET", "/metrics", **right)
        assert status == 200
        assert "clinic_workers 1.0" in figures

    def test_another_name_than_the_named_is_refused(self, front):
        proxy, _ = front
        assert proxy.ask("GET", "/healthz", Host="evil.example")[0] == 400
        assert json.loads(proxy.ask("GET", "/healthz")[1])["status"]
