"""A start that comes to nothing: the page that says why, what to do, and tries again."""

from __future__ import annotations

import errno
import http.client
import io
import json
import shutil
import signal
import socket
import sqlite3
import threading
import zipfile
from collections import namedtuple
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path

import pytest
from django.db import OperationalError
from PIL import Image
from playwright.sync_api import expect

from app import checks, database, failed_start, lan, outbox, server, startup, worker
from app.failed_start import STEPS, page, send_on
from app.instance_lock import InstanceLock
from app.models import Study
from app.stop import CannotStart
from app.window import Wish
from model_export.phantom import chest_film
from tests.running import Visitor, wait_for
from tests.test_release import put
from tests.test_serve import end_politely, health, serving
from tests.test_window import Clicked
from tests.tiny_release import make_release

FAULT = CannotStart("Fault DATA: it is <so>.", code="data_dir_not_writable")


@pytest.fixture
def sock() -> Iterator[socket.socket]:
    with server.listen("127.0.0.1", 0) as listening:
        yield listening


def ask(
    sock: socket.socket, method: str, path: str, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    host = f"127.0.0.1:{sock.getsockname()[1]}"
    with closing(http.client.HTTPConnection(host, timeout=30)) as connection:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return response.status, dict(response.headers), response.read()


class TestThePage:
    def test_it_says_what_is_wrong_what_to_do_and_where_the_data_is(self, sock, data_dir):
        with page(sock, FAULT):
            status, headers, body = ask(sock, "GET", "/")

        words = body.decode()
        assert status == 503
        assert "Fault DATA: it is &lt;so&gt;." in words
        assert "Is the folder on a stick or on another disk?" in words
        assert str(data_dir) in words
        assert "http://" not in words.replace("http://www.w3.org/2000/svg", "")
        assert headers["Cache-Control"] == "no-store"

    def test_it_is_at_every_address(self, sock, data_dir):
        with page(sock, FAULT):
            assert b"Fault DATA" in ask(sock, "GET", "/studies/20260101-0001/")[2]

    @pytest.mark.parametrize("code", ["", "unheard of", *STEPS])
    def test_every_fault_has_steps(self, sock, code, data_dir):
        with page(sock, CannotStart("It is so.", code=code)):
            words = ask(sock, "GET", "/")[2].decode()

        assert words.count("<li>") >= 3
        assert "%(" not in words

    def test_its_health_is_degraded_and_it_has_no_model(self, sock, settings, data_dir):
        with page(sock, FAULT):
            status, _, body = ask(sock, "GET", "/healthz")

        assert status == 200
        expected = {"status": "degraded", "version": settings.VERSION, "model": None}
        assert json.loads(body) == expected

    def test_the_diagnostics_name_the_fault(self, sock, data_dir):
        with page(sock, FAULT):
            status, headers, body = ask(sock, "GET", "/diagnostics")

        report = zipfile.ZipFile(io.BytesIO(body)).read("diagnostics.txt").decode()
        assert status == 200
        assert headers["Content-Disposition"].startswith("attachment")
        assert str(FAULT) in report

    @pytest.mark.parametrize(
        "headers",
        [{"Host": "evil.example"}, {"Host": ""}, {"Origin": "http://evil.example"}],
    )
    def test_other_sites_get_and_do_nothing(self, sock, headers, data_dir):
        with page(sock, FAULT) as shown:
            assert ask(sock, "GET", "/", **headers)[0] == 400
            assert ask(sock, "POST", "/quit", **headers)[0] == 400
            assert ask(sock, "POST", "/try-again", **headers)[0] == 400

        assert shown.wish is None

    def test_quit_is_a_wish(self, sock, data_dir):
        with page(sock, FAULT) as shown:
            status, _, body = ask(sock, "POST", "/quit")

            assert shown.wait() is Wish.QUIT
        assert status == 200
        assert b"The program has ended" in body

    def test_after_try_again_the_next_request_waits_for_what_serves_next(self, sock, data_dir):
        answers: list[bytes] = []
        with page(sock, FAULT) as shown:
            status, headers, _ = ask(sock, "POST", "/try-again")
            assert shown.wait() is Wish.TRY_AGAIN
            browser = threading.Thread(target=lambda: answers.append(ask(sock, "GET", "/")[2]))
            browser.start()
        with page(sock, CannotStart("Another fault.")):
            browser.join(30)

        assert (status, headers["Location"]) == (303, "/")
        assert b"Another fault." in answers[0]

    def test_one_that_nobody_looks_at_is_given_up(self, sock, monkeypatch, data_dir):
        monkeypatch.setattr(failed_start, "PATIENCE_SECONDS", 0.0)
        with page(sock, FAULT) as shown:
            assert shown.wait() is Wish.QUIT

    def test_a_browser_that_waits_can_be_sent_on(self, sock):
        answers: list[tuple[int, dict[str, str], bytes]] = []
        browser = threading.Thread(target=lambda: answers.append(ask(sock, "GET", "/")))
        browser.start()

        send_on(sock, "http://127.0.0.1:9/")

        browser.join(30)
        assert answers[0][0] == 303
        assert answers[0][1]["Location"] == "http://127.0.0.1:9/"


class TestWhatStopsAStart:
    """Whatever goes wrong is one of the faults that have a sentence."""

    @pytest.mark.parametrize(
        ("error", "code"),
        [
            (OSError(errno.ENOSPC, "No space left on device"), "disk_full"),
            (OSError(errno.EROFS, "Read-only file system"), "data_dir_not_writable"),
            (PermissionError(errno.EACCES, "Permission denied"), "data_dir_not_writable"),
            (sqlite3.OperationalError("database or disk is full"), "disk_full"),
            (sqlite3.OperationalError("attempt to write a readonly database"), checks.NOT_WRITABLE),
            (sqlite3.OperationalError("unable to open database file"), checks.NOT_WRITABLE),
            (sqlite3.OperationalError("database is locked"), "database_in_use"),
            (sqlite3.DatabaseError("database disk image is malformed"), "database_damaged"),
        ],
    )
    def test_an_error_of_disk_or_database_is_a_fault(self, data_dir, error, code):
        assert checks.problem_of(error).code == code
        assert startup._cannot_start(error).code == code

    @pytest.mark.parametrize(("free", "code"), [(1000, "disk_full"), (10**10, "database_damaged")])
    def test_a_disk_that_fails_sqlite_is_full_or_broken(self, data_dir, monkeypatch, free, code):
        usage = namedtuple("usage", "free")(free)
        monkeypatch.setattr("shutil.disk_usage", lambda _: usage)

        error = sqlite3.OperationalError("disk I/O error")

        assert checks.problem_of(error).code == code

    @pytest.mark.parametrize("kind", ["WRITE", "FSYNC", "TRUNCATE"])
    def test_a_disk_that_takes_no_write_has_not_damaged_the_database(self, data_dir, kind):
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorname = f"SQLITE_IOERR_{kind}"
        as_django_says_it = OperationalError("disk I/O error")
        as_django_says_it.__cause__ = error

        assert checks.problem_of(error).code == checks.NOT_WRITABLE
        assert checks.problem_of(as_django_says_it).code == checks.NOT_WRITABLE

    def test_any_other_is_owned_up_to(self, data_dir):
        assert checks.problem_of(ValueError("Ana")) is None
        assert "Ana" not in str(startup._cannot_start(ValueError("Ana")))

    def test_a_full_disk_is_not_called_write_protected(self, data_dir, monkeypatch):
        def full(**_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("tempfile.TemporaryFile", full)

        assert "the disk is full" in checks.cannot_write(data_dir).sentence

    def test_where_no_port_is_left_it_says_so(self, data_dir, monkeypatch):
        def taken(host: str, port: int) -> None:
            raise server.PortTaken(port)

        monkeypatch.setattr(server, "listen", taken)

        with pytest.raises(CannotStart, match="Fault PORT"):
            startup.take_port("127.0.0.1", None)

    @pytest.mark.parametrize(
        ("broken", "name"),
        [
            ("keep_secret_key", "app.startup"),
            ("sweep_temporary", "app.server"),
            ("recover", "app.worker"),
            ("announce", "app.instance_lock.InstanceLock"),
        ],
    )
    def test_a_disk_that_fills_up_on_the_way_is_told_and_everything_let_go(
        self, data_dir, monkeypatch, broken, name
    ):
        def full(*_: object, **__: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        before = threading.active_count()
        monkeypatch.setattr(startup, "start_log", lambda _: None)
        monkeypatch.setattr(startup, "prepare_database", lambda: None)
        monkeypatch.setattr(startup, "prepare_films", lambda: None)
        monkeypatch.setattr(outbox.Sender, "kept", lambda _: nullcontext())
        monkeypatch.setattr(Study, "sweep_deleted", lambda: None)
        monkeypatch.setattr(lan.door, "kept_for", lambda _: nullcontext())
        monkeypatch.setattr(worker, "recover", lambda **_: None)
        monkeypatch.setattr(worker.WorkerThread, "start", lambda _: None)
        monkeypatch.setattr(worker.WorkerThread, "stop", lambda _: None)
        monkeypatch.setattr(checks, "look_at_database", lambda: None)
        monkeypatch.setattr(database, "close_down", lambda: None)
        monkeypatch.setattr(f"{name}.{broken}", full)

        with pytest.raises(CannotStart, match="the disk is full"):
            startup.serve("127.0.0.1", None, open_browser=False)

        with InstanceLock(data_dir):
            pass
        wait_for(lambda: threading.active_count() <= before, seconds=20)


@contextmanager
def stopped(clicked: Clicked) -> Iterator[str]:
    """A double-click that came to nothing: the address of its page."""
    with clicked.running("--window") as process:
        (at,) = clicked.opened()
        wait_for(lambda: health(at.rstrip("/")))
        yield at
        end_politely(process)


@pytest.fixture
def clicked(tmp_path) -> Clicked:
    """A double-click where there is no screen for a window."""
    clicked = Clicked(tmp_path / "clinic ä", "", tmp_path)
    del clicked.environment["DISPLAY"]
    return clicked


def newer(home: Path) -> None:
    with serving(home) as (_, process):
        end_politely(process)
    with closing(sqlite3.connect(home / "clinic.sqlite3")) as opened:
        opened.execute(
            "INSERT INTO django_migrations(app, name, applied) "
            "VALUES ('clinic', '9999_from_the_future', '2030-01-01')"
        )
        opened.commit()


@pytest.mark.browser
class TestADoubleClickThatFails:
    def test_a_folder_that_cannot_be_written_is_mended_and_tried_again(self, clicked, browser):
        clicked.home.write_text("a file in the way")
        with stopped(clicked) as at:
            tab = browser.new_page()
            tab.goto(at)
            expect(tab.get_by_role("alert")).to_contain_text("Fault DATA")
            tab.get_by_role("button", name="Try again").click()
            expect(tab.get_by_role("alert")).to_contain_text("Fault DATA")

            clicked.home.unlink()
            tab.get_by_role("button", name="Try again").click()

            expect(tab.get_by_role("heading", name="Set up the program")).to_be_visible()
            assert tab.url == f"{at}set-up"
            assert clicked.opened() == [at], "the browser has its page already"
            tab.context.close()

    def test_a_damaged_database_is_put_back_and_tried_again(self, clicked, browser):
        clicked.home.mkdir()
        (clicked.home / "clinic.sqlite3").write_bytes(b"no database at all" * 1000)
        with stopped(clicked) as at:
            tab = browser.new_page()
            tab.goto(at)
            expect(tab.get_by_role("alert")).to_contain_text("Fault DATABASE")
            expect(tab.get_by_role("main")).to_contain_text("Do not delete anything")

            (clicked.home / "clinic.sqlite3").unlink()
            tab.get_by_role("button", name="Try again").click()

            expect(tab.get_by_role("heading", name="Set up the program")).to_be_visible()
            tab.context.close()

    def test_a_newer_database_is_left_alone(self, clicked, browser):
        newer(clicked.home)
        before = (clicked.home / "clinic.sqlite3").read_bytes()
        with stopped(clicked) as at:
            tab = browser.new_page()
            tab.goto(at)
            expect(tab.get_by_role("alert")).to_contain_text("newer version")
            tab.get_by_role("button", name="Quit").click()
            expect(tab.get_by_role("heading", name="The program has ended")).to_be_visible()
            tab.context.close()
        assert (clicked.home / "clinic.sqlite3").read_bytes() == before

    def test_diagnostics_are_downloaded_from_it(self, clicked, browser):
        clicked.home.write_text("a file in the way")
        with stopped(clicked) as at:
            tab = browser.new_page()
            tab.goto(at)
            with tab.expect_download() as download:
                tab.get_by_role("link", name="Copy diagnostics").click()

            assert download.value.suggested_filename.startswith("clinic-diagnostics-")
            assert (
                "Fault DATA"
                in zipfile.ZipFile(download.value.path()).read("diagnostics.txt").decode()
            )
            tab.context.close()

    def test_it_fits_on_a_phone(self, clicked, browser):
        clicked.home.write_text("a file in the way")
        with stopped(clicked) as at:
            assert len(str(clicked.home)) > 40, "a long path is part of the trial"
            phone = browser.new_context(viewport={"width": 360, "height": 740}).new_page()
            phone.goto(at)

            assert phone.evaluate("document.documentElement.scrollWidth") <= 360
            phone.context.close()

    def test_a_second_double_click_shows_the_page_of_the_first(self, clicked):
        clicked.home.mkdir()
        (clicked.home / "clinic.sqlite3").write_bytes(b"no database at all" * 1000)
        with stopped(clicked) as at:
            assert clicked.start("--window").wait(60) == 0

            assert wait_for(lambda: clicked.opened()[1:]) == [at]

    def test_a_first_one_that_hangs_is_told_of_and_found_when_it_answers(
        self, clicked, browser, monkeypatch
    ):
        with serving(clicked.home) as (first, process):
            process.send_signal(signal.SIGSTOP)
            with stopped(clicked) as at:
                tab = browser.new_page()
                tab.goto(at)
                expect(tab.get_by_role("alert")).to_contain_text("does not answer")
                process.send_signal(signal.SIGCONT)
                tab.get_by_role("button", name="Try again").click()

                expect(tab.get_by_role("heading", name="Set up the program")).to_be_visible()
                assert tab.url == f"{first}/set-up"
                tab.context.close()


def test_without_a_browser_there_is_no_page_and_the_sentence_is_said(clicked):
    clicked.home.write_text("a file in the way")

    assert clicked.start("serve", "--no-browser").wait(60) == 1
    assert not clicked.told.exists()


def test_an_explicit_port_that_is_taken_stops_even_a_double_click(clicked):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        process = clicked.start("--port", str(taken.getsockname()[1]))

        assert process.wait(60) == 2
    assert not clicked.told.exists()


class TestWithAWindow:
    def test_the_window_says_it_too_and_tries_again(self, display, tmp_path):
        clicked = Clicked(tmp_path / "clinic", display, tmp_path)
        clicked.home.write_text("a file in the way")
        with clicked.running("--port", str(clicked.port)) as process:
            (shown,) = wait_for(clicked.windows)
            clicked.home.unlink()
            clicked.press_keys(shown, "Return")  # on “Try again”

            at = clicked.address()
            assert wait_for(lambda: clicked.opened()[1:]) == [f"{at}/"]
            assert wait_for(lambda: [w for w in clicked.windows() if w != shown])
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0

    def test_the_window_of_the_fault_goes_when_the_page_was_told_to_quit(self, display, tmp_path):
        clicked = Clicked(tmp_path / "clinic", display, tmp_path)
        clicked.home.write_text("a file in the way")
        with clicked.running("--port", str(clicked.port)) as process:
            wait_for(clicked.windows)
            host = f"127.0.0.1:{clicked.port}"
            with closing(http.client.HTTPConnection(host, timeout=30)) as connection:
                connection.request("POST", "/quit")
                assert connection.getresponse().status == 200

            assert process.wait(60) == 1


def test_with_a_model_that_fails_its_self_test_it_opens_and_films_wait_until_it_passes(
    tmp_path, browser
):
    """The one fault that is no failed start: films are taken in, and answered later."""
    home = tmp_path / "clinic"
    make_release(home / "mine", put("self_test", 0, "logit")(99.0))
    (home / "active.json").write_text('{"release": "mine"}')
    with serving(home) as (at, process):
        visitor, tab = Visitor(at), browser.new_page()
        film = tmp_path / "film.png"
        Image.fromarray(chest_film(3, (400, 400))).save(film)
        study = visitor.upload(film)
        wait_for(lambda: health(at)["status"] == "degraded")
        tab.goto(f"{at}{study}")
        expect(tab.get_by_role("alert")).to_contain_text("Fault MODEL")
        expect(tab.get_by_role("alert")).to_contain_text("self_test_failed")
        expect(tab.locator(".reading")).to_have_attribute("data-answer", "waiting")

        shutil.rmtree(home / "mine")
        make_release(home / "mine")

        expect(tab.locator(".reading")).not_to_have_attribute(
            "data-answer", "waiting", timeout=60_000
        )
        assert visitor.wait_for_answer(study)
        assert health(at)["model"]
        tab.reload()
        expect(tab.get_by_role("alert")).to_have_count(0)
        tab.close()
        assert end_politely(process) == 0
