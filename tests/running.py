"""The real program as a process of its own, and a visitor who uses its pages: tests and bench."""

from __future__ import annotations

import http.cookiejar
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).resolve().parent.parent
T = TypeVar("T")


class NothingCame(AssertionError):
    """What was waited for did not happen."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(what: Callable[[], T | None], seconds: float = 120, pause: float = 0.1) -> T:
    """Ask until there is an answer. The limit only ends what would otherwise hang."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with suppress(urllib.error.URLError, ConnectionError):
            if answer := what():
                return answer
        time.sleep(pause)
    raise NothingCame(f"nothing came in {seconds:g} s")


class Visitor:
    """A browser's part of the conversation: cookies kept, forms sent."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}),
            urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()),
        )

    def get(self, path: str) -> str:
        with self.opener.open(self.address + path, timeout=30) as response:
            return str(response.read().decode("utf-8", errors="replace"))

    def post(self, page: str, **fields: str) -> str:
        """Send the form of a page; the page that it leads to."""
        words = urllib.parse.urlencode({"csrfmiddlewaretoken": self.token(page), **fields})
        with self.opener.open(self.address + page, words.encode(), timeout=30) as response:
            return str(response.read().decode("utf-8", errors="replace"))

    def token(self, page: str) -> str:
        found = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', self.get(page))
        assert found, f"the page {page} carries no form token"
        return found[1]

    def set_up(self) -> None:
        """Choose to work without log-in, where nobody has chosen yet."""
        if 'name="mode"' in self.get("/"):
            self.post("/set-up", understood="on", mode="single_user")

    def upload(self, film: Path) -> str:
        """Send one film as the page's script does; the path of its study.

        A program that nobody has set up yet is, as a clinic without log-in.
        """
        return str(self.send(film.name, film.read_bytes())["url"])

    def send(self, name: str, content: bytes) -> dict[str, Any]:
        """The same with what is no file: all that the page's script is told of the film."""
        self.set_up()
        edge = uuid.uuid4().hex
        head = (
            f"--{edge}\r\nContent-Type: application/octet-stream\r\n"
            f'Content-Disposition: form-data; name="films"; filename="{name}"\r\n\r\n'
        )
        request = urllib.request.Request(
            self.address + "/upload",
            data=head.encode() + content + f"\r\n--{edge}--\r\n".encode(),
            headers={
                "Content-Type": f"multipart/form-data; boundary={edge}",
                "X-CSRFToken": self.token("/"),
                "Accept": "application/json",
            },
        )
        with self.opener.open(request, timeout=30) as response:
            return dict(json.load(response)["films"][0])

    def status(self, study: str) -> dict[str, Any]:
        return dict(json.loads(self.get(study.partition("?")[0] + "status")))

    def wait_for_answer(self, study: str) -> str:
        """The part of the study's page that shows its films, once all are answered."""

        def finished() -> str | None:
            status = self.status(study)
            return str(status["html"]) if status["finished"] else None

        return wait_for(finished)


@contextmanager
def serving(
    command: Sequence[str],
    environment: Mapping[str, str],
    pause: float = 0.1,
    set_up: bool = True,
) -> Iterator[tuple[Visitor, subprocess.Popen[bytes]]]:
    """The server, answering; `command` is how `run_clinic.py` is called. Stopped politely.

    `set_up`: as a clinic without log-in, so that pages are there at once.
    """
    port = free_port()
    words = [*command, "serve", "--no-browser", "--port", str(port)]
    server = subprocess.Popen(words, cwd=ROOT, env=dict(environment), stdout=subprocess.DEVNULL)
    visitor = Visitor(f"http://127.0.0.1:{port}")
    try:
        wait_for(lambda: server.poll() is not None or visitor.get("/healthz"), pause=pause)
        assert server.poll() is None, f"the server stopped at its start ({server.returncode})"
        if set_up:
            visitor.set_up()
        yield visitor, server
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(timeout=60)


@contextmanager
def screen() -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """An X server that shows nothing to anybody: its DISPLAY, and its process."""
    reader, writer = os.pipe()
    words = ["Xvfb", "-displayfd", str(writer), "-screen", "0", "1366x768x24", "-nolisten", "tcp"]
    server = subprocess.Popen(words, pass_fds=[writer], stderr=subprocess.DEVNULL)
    os.close(writer)
    try:
        with open(reader, encoding="ascii") as told:  # noqa: PTH123 - a descriptor, no path
            yield f":{told.readline().strip()}", server
    finally:
        server.terminate()
        server.wait(timeout=60)


def needs_screen() -> str:
    """Why there can be no window here, empty where there can."""
    missing = [name for name in ("Xvfb", "xdotool") if not shutil.which(name)]
    return f"not on this machine: {', '.join(missing)}" if missing else ""
