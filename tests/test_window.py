"""The window of a double-clicked program, on a screen that nobody sees."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from django.db import OperationalError

from app import machine, outside, startup, window
from app.window import Wish
from tests.running import ROOT, free_port, screen, wait_for
from tests.test_serve import environment, health

AT = "http://127.0.0.1:8765/"
BROWSER = """#!/bin/sh
echo "$@" >> "$OPENED"
"""


@pytest.fixture
def opened(monkeypatch) -> list[object]:
    """What was to be opened outside of the program."""
    seen: list[object] = []
    monkeypatch.setattr(outside, "open_page", seen.append)
    monkeypatch.setattr(outside, "open_folder", lambda folder: bool(seen.append(folder)) or True)
    return seen


@contextmanager
def showing(words: window.Words, unfinished: int = 0) -> Iterator[window.Window]:
    shown = window.open_window(words, lambda: unfinished)
    assert shown
    shown.root.update()
    try:
        yield shown
    finally:
        shown.root.destroy()


@pytest.fixture
def on_screen(display, monkeypatch) -> None:
    monkeypatch.setenv("DISPLAY", display)


def texts(shown: window.Window) -> str:
    """All that can be read in the window now."""
    found, open_ones = [], [shown.root]
    while open_ones:
        widget = open_ones.pop(0)
        open_ones += widget.winfo_children()
        if widget.winfo_ismapped() and "text" in widget.keys():  # noqa: SIM118 - no dictionary
            found.append(str(widget.cget("text")))
    return "\n".join(found)


def press(shown: window.Window, text: str) -> None:
    """Press the visible button that says so."""
    shown.root.update()
    for row in (shown.buttons, shown.question):
        for button in row.winfo_children():
            if button.winfo_ismapped() and button.cget("text") == text:
                button.invoke()
                shown.root.update()
                return
    pytest.fail(f"there is no button “{text}” in:\n{texts(shown)}")


@pytest.mark.usefixtures("on_screen")
class TestTheWindow:
    def test_it_says_that_the_program_runs_where_and_how_to_end_it(self):
        with showing(window.running(AT)) as shown:
            words = texts(shown)

        assert "The program is running" in words
        assert AT in words
        assert "Closing this window ends the program." in words
        assert "Try again" not in words

    def test_what_is_worth_knowing_of_the_computer_is_said(self, monkeypatch):
        monkeypatch.setattr(machine, "is_old_processor", lambda: True)
        with showing(window.running(AT)) as shown:
            assert "Note PROCESSOR" in texts(shown)

    def test_open_opens_the_pages(self, opened):
        with showing(window.running(AT)) as shown:
            press(shown, "Open")

        assert opened == [AT]

    def test_the_data_folder_is_opened(self, opened, data_dir):
        with showing(window.running(AT)) as shown:
            press(shown, "Open data folder")

        assert opened == [data_dir]

    def test_without_a_file_manager_it_says_where_the_folder_is(self, monkeypatch, data_dir):
        monkeypatch.setattr(outside, "open_folder", lambda _: False)
        with showing(window.running(AT)) as shown:
            press(shown, "Open data folder")

            assert str(data_dir) in shown.said.get()

    def test_quit_asks_nothing_when_nothing_is_going_on(self):
        with showing(window.running(AT)) as shown:
            shown.root.after(50, lambda: press(shown, "Quit"))

            shown.root.mainloop()

            assert shown.wish is Wish.QUIT

    def test_quit_asks_when_films_wait_and_can_be_taken_back(self):
        with showing(window.running(AT), unfinished=2) as shown:
            press(shown, "Quit")
            asked = texts(shown)
            press(shown, "Keep running")
            afterwards = texts(shown)

        assert "2 films still wait" in asked
        assert "Quit now" in asked
        assert "Copy diagnostics" not in asked
        assert "Copy diagnostics" in afterwards
        assert "still wait" not in afterwards

    def test_quit_now_is_not_asked_again(self):
        with showing(window.running(AT), unfinished=1) as shown:
            shown.root.after(50, lambda: (press(shown, "Quit"), press(shown, "Quit now")))

            shown.root.mainloop()

            assert shown.wish is Wish.QUIT

    def test_closing_it_is_quitting_and_so_is_the_end_of_the_session(self):
        with showing(window.running(AT)) as shown:
            for message in ("WM_DELETE_WINDOW", "WM_SAVE_YOURSELF"):
                assert shown.root.protocol(message), message

    def test_diagnostics_are_put_where_they_are_found(
        self, opened, data_dir, tmp_path, monkeypatch
    ):
        monkeypatch.setenv("HOME", str(tmp_path))
        (tmp_path / "Desktop").mkdir()
        with showing(window.running(AT)) as shown:
            press(shown, "Copy diagnostics")
            said = shown.said.get()

        (written,) = (tmp_path / "Desktop").iterdir()
        assert str(written) in said
        assert opened == [written.parent]
        assert "diagnostics.txt" in zipfile.ZipFile(written).namelist()

    def test_where_no_place_can_be_written_it_says_so(self, data_dir, monkeypatch):
        monkeypatch.setattr(window, "_easily_found", lambda: [Path("/proc")])
        with showing(window.running(AT)) as shown:
            press(shown, "Copy diagnostics")

            assert "could not be written" in shown.said.get()

    def test_a_button_that_fails_owns_up_to_it(self, monkeypatch, caplog):
        def fail(_folder: Path) -> None:
            raise ValueError("Ana")

        monkeypatch.setattr(outside, "open_folder", fail)
        with showing(window.running(AT)) as shown:
            shown.root.after(10, lambda: press(shown, "Open data folder"))
            shown.root.after(300, shown.root.quit)
            shown.root.mainloop()

            assert "Something went wrong" in shown.said.get()
        assert "the window failed" in caplog.text

    def test_of_a_failed_start_it_says_why_and_tries_again(self):
        with showing(window.stopped("Fault DATA: it is so.", AT)) as shown:
            words = texts(shown)
            shown.root.after(50, lambda: press(shown, "Try again"))
            shown.root.mainloop()

            assert shown.wish is Wish.TRY_AGAIN
        assert "The program could not start" in words
        assert "Fault DATA: it is so." in words
        assert "is running" not in words

    def test_without_a_page_there_is_nothing_to_open(self):
        with showing(window.stopped("Fault PORT: it is so.", None)) as shown:
            assert "\nOpen\n" not in texts(shown)

    def test_it_goes_when_the_pages_have_gone(self):
        shown = window.open_window(window.running(AT))

        assert shown.run(gone=lambda: True, at_end=lambda: None) is Wish.QUIT

    def test_a_signal_ends_it(self):
        shown = window.open_window(window.running(AT))
        with startup.stop_on_signals(shown.end):
            shown.root.after(50, lambda: os.kill(os.getpid(), signal.SIGTERM))

            assert shown.run(gone=lambda: False, at_end=lambda: None) is Wish.QUIT

    def test_python_without_tkinter_has_none(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "tkinter", None)

        assert window.open_window(window.running(AT)) is None


def test_with_a_database_that_fails_it_can_be_quit_all_the_same(monkeypatch):
    def fail() -> int:
        raise OperationalError("disk I/O error")

    monkeypatch.setattr(startup.Instance, "count_unfinished", fail)

    assert startup._count_unfinished() == 0


def test_without_a_screen_there_is_none(monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)

    assert window.open_window(window.running(AT)) is None


def test_a_screen_that_does_not_answer_is_none(monkeypatch):
    pytest.importorskip("tkinter")
    monkeypatch.setenv("DISPLAY", ":987")

    assert window.open_window(window.running(AT)) is None


class Clicked:
    """The real program as a double-click starts it, and what it had its browser open."""

    def __init__(
        self,
        home: Path,
        display: str,
        folder: Path,
        program: Sequence[str] = (sys.executable, "run_clinic.py"),
        surroundings: Mapping[str, str] | None = None,
    ) -> None:
        self.home, self.program = home, program
        self.told, browser = folder / "opened", folder / "browser"
        browser.write_text(BROWSER)
        browser.chmod(0o755)
        self.port = free_port()
        self.environment = {
            **(environment(HOME=str(folder)) if surroundings is None else surroundings),
            "DISPLAY": display,
            "BROWSER": str(browser),
            "OPENED": str(self.told),
        }

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        words = words or ("--port", str(self.port))
        command = [*self.program, *words, "--data-dir", str(self.home)]
        return subprocess.Popen(command, cwd=ROOT, env=self.environment, stdout=subprocess.DEVNULL)

    @contextmanager
    def running(self, *words: str) -> Iterator[subprocess.Popen[bytes]]:
        process = self.start(*words)
        try:
            yield process
        finally:
            process.kill()
            process.wait(60)

    def address(self) -> str:
        def announced() -> str | None:
            try:
                said = json.loads((self.home / "instance.json").read_text(encoding="utf-8"))
            except (OSError, ValueError):
                return None
            return f"http://127.0.0.1:{said['port']}"

        at = wait_for(announced)
        wait_for(lambda: health(at))
        return at

    def opened(self) -> list[str]:
        return wait_for(lambda: self.told.read_text().split() if self.told.exists() else None)

    def windows(self) -> list[str]:
        asked = ["xdotool", "search", "--onlyvisible", "--name", "^Chest films$"]
        return subprocess.run(
            asked, env=self.environment, capture_output=True, text=True
        ).stdout.split()

    def press_keys(self, window_id: str, *keys: str) -> None:
        for words in (["windowfocus", "--sync", window_id], ["key", "--delay", "80", *keys]):
            subprocess.run(["xdotool", *words], env=self.environment, check=True)

    def log(self) -> str:
        return (self.home / "logs" / "clinic.log").read_text(encoding="utf-8")


@pytest.fixture
def clicked(display, tmp_path) -> Clicked:
    return Clicked(tmp_path / "clinic ä", display, tmp_path)


class TestADoubleClick:
    def test_it_opens_the_browser_once_and_shows_a_window(self, clicked):
        with clicked.running():
            at = clicked.address()

            assert clicked.opened() == [f"{at}/"]
            assert len(wait_for(clicked.windows)) == 1

    def test_quit_ends_it_tidily_by_keyboard(self, clicked):
        with clicked.running() as process:
            (shown,) = wait_for(clicked.windows)
            clicked.press_keys(shown, "Tab", "Tab", "Tab", "Return")

            assert process.wait(60) == 0
        assert "stopped" in clicked.log()
        assert not (clicked.home / "instance.json").exists()
        assert not (clicked.home / "clinic.sqlite3-wal").exists()

    @pytest.mark.parametrize("how", ["SIGTERM", "SIGINT", "SIGHUP"])
    def test_a_signal_ends_it_tidily(self, clicked, how):
        with clicked.running() as process:
            wait_for(clicked.windows)
            process.send_signal(getattr(signal, how))

            assert process.wait(60) == 0
        assert "stopped" in clicked.log()

    def test_when_the_session_ends_so_does_it(self, tmp_path, display):
        with screen() as (own, server):
            clicked = Clicked(tmp_path / "clinic", own, tmp_path)
            with clicked.running() as process:
                wait_for(clicked.windows)
                server.kill()

                assert process.wait(60) == 0
        assert "the screen is gone" in clicked.log()
        assert not (clicked.home / "instance.json").exists()
        assert not (clicked.home / "clinic.sqlite3-wal").exists()

    def test_a_second_one_shows_the_first_and_no_window_of_its_own(self, clicked):
        with clicked.running():
            at = clicked.address()
            (first,) = wait_for(clicked.windows)
            second = clicked.start()

            assert second.wait(60) == 0
            assert wait_for(lambda: clicked.opened()[1:]) == [f"{at}/"]
            assert clicked.windows() == [first]

    @pytest.mark.parametrize("words", [["serve"], ["serve", "--no-browser"], ["--no-browser"]])
    def test_the_command_and_no_browser_have_no_window_and_no_tkinter(self, clicked, words):
        with clicked.running(*words, "--port", str(clicked.port)) as process:
            clicked.address()
            loaded = Path(f"/proc/{process.pid}/maps").read_text()

            assert clicked.windows() == []
            assert "_tkinter" not in loaded
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0

    def test_without_a_screen_it_serves_all_the_same(self, clicked):
        del clicked.environment["DISPLAY"]
        with clicked.running() as process:
            assert clicked.address()
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
