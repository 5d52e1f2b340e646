"""The real program on a socket: malformed films from a browser, and bytes that are hardly HTTP."""

from __future__ import annotations

import atexit
import os
import re
import socket
import sqlite3
import sys
import urllib.error
import urllib.request
from contextlib import ExitStack, closing
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from tests.fuzz.exploring import Subject
from tests.fuzz.mutations import edits
from tests.fuzz.watch import LONGEST_WAIT, MOST_MEGABYTES, peak_megabytes
from tests.running import Visitor, serving, wait_for

CLINIC = [sys.executable, "run_clinic.py"]
UNFINISHED = {"waiting", "analysing"}
FINISHED = {"answered", "refused", "unreadable"}
#: What a server may say of a request that it does not know how to read.
MAY_SAY = {501, 505, 507}


class Program:
    """A server that runs until the fuzzing is over, and its memory, which is what counts."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "running"
        environment = {**os.environ, "CLINIC_HOME": str(self.home)}
        opened = ExitStack()
        self.visitor, self._server = opened.enter_context(serving(CLINIC, environment))
        atexit.register(opened.close)
        self.port = int(self.visitor.address.rpartition(":")[2])
        self.token = self.visitor.token("/")

    def end(self) -> dict[str, Any]:
        """Everything taken in is answered, and none of it ended in a failure of the program."""
        wait_for(lambda: not self.states().keys() & UNFINISHED, 600)
        states, peak = self.states(), peak_megabytes(self._server.pid)
        assert states.keys() <= FINISHED, states
        assert peak < MOST_MEGABYTES, peak
        return {"program_megabytes": round(peak, 1), "films": states}

    def states(self) -> dict[str, int]:
        """How many films there are in each state."""
        with closing(sqlite3.connect(self.home / "clinic.sqlite3", timeout=30)) as database:
            return dict(
                database.execute("SELECT state, count(*) FROM clinic_instance GROUP BY state")
            )

    def upload(self, content: bytes) -> int:
        """Send a film as a page does; the status."""
        head = (
            b'--edge\r\nContent-Disposition: form-data; name="films"; filename="film"\r\n'
            b"Content-Type: application/octet-stream\r\n\r\n"
        )
        request = urllib.request.Request(
            f"{self.visitor.address}/upload",
            data=head + content + b"\r\n--edge--\r\n",
            headers={
                "Content-Type": "multipart/form-data; boundary=edge",
                "X-CSRFToken": self.token,
                "Accept": "application/json",
            },
        )
        return _status(self.visitor, request)


@cache
def at_work(folder: Path) -> Program:
    """The program in this folder, started once and stopped with this process."""
    return Program(folder)


def _status(visitor: Visitor, request: urllib.request.Request) -> int:
    try:
        with visitor.opener.open(request, timeout=LONGEST_WAIT) as response:
            response.read()
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


def program(folder: Path) -> Subject:
    """Malformed films through door, queue, worker and the model that is shipped."""
    from tests.fuzz.subjects import malformed_films

    running = at_work(folder)

    def look(content: bytes) -> str:
        status = running.upload(content)
        assert status < 500 or status in MAY_SAY, status
        return str(status)

    return Subject(malformed_films(folder), look, end=running.end)


REQUESTS = [
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    b"GET /rows?page=2 HTTP/1.1\r\nHost: 127.0.0.1\r\nRange: bytes=0-\r\nConnection: close\r\n\r\n",
    b"POST /log-in HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 7\r\n"
    b"Content-Type: application/x-www-form-urlencoded\r\n\r\nusername",
    b"POST /upload HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5\r\nfilms\r\n0\r\n\r\n",
    b"POST /api/v1/films HTTP/1.1\r\nHost: 127.0.0.1\r\nExpect: 100-continue\r\n"
    b"Content-Length: 9999999999\r\n\r\n",
    b"GET /healthz HTTP/1.0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
]
LINES = st.one_of(
    st.sampled_from([
        b"Content-Length: -1", b"Content-Length: 5, 6", b"Content-Length: \xc2\xb2", b"Host:",
        b"Transfer-Encoding: gzip, chunked", b"Host: a\r\nHost: b", b"X" * 70_000 + b": y", b":",
        b"Cookie: " + b"a=b; " * 9000, b" folded", b"Upgrade: websocket", b"\0: \0",
    ]),
    st.binary(max_size=60),
)  # fmt: skip


@st.composite
def nearly_http(draw: Any) -> bytes:
    """A request with changed bytes or another line among its headers."""
    content = bytearray(draw(st.sampled_from(REQUESTS)))
    if draw(st.booleans()):
        at = content.index(b"\r\n") + 2
        content[at:at] = draw(LINES) + b"\r\n"
    for edit in draw(st.lists(edits, max_size=4)):
        content = edit(content)
    return bytes(content)


def sockets(folder: Path) -> Subject:
    """Bytes on the port of the pages."""
    running = at_work(folder)

    def look(content: bytes) -> str:
        said = _conversation(running.port, content)
        first = re.match(rb"HTTP/1\.[01] (\d{3}) ", said)
        assert first or not said, said[:99]
        status = int(first[1]) if first else 0
        assert status < 500 or status in MAY_SAY, said[:99]
        assert running.visitor.get("/healthz")
        return str(status) if status else "closed without a word"

    return Subject(nearly_http(), look, end=running.end)


def _conversation(port: int, content: bytes) -> bytes:
    """What is answered to bytes after which nothing comes."""
    said = b""
    with socket.create_connection(("127.0.0.1", port), timeout=LONGEST_WAIT) as connection:
        try:
            connection.sendall(content)
            connection.shutdown(socket.SHUT_WR)
            while part := connection.recv(65536):
                said += part
        except ConnectionError:
            pass
    return said
