"""waitress on an address of this computer, polite to a request that it cannot take in."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from django.conf import settings
from waitress import wasyncore
from waitress.buffers import TempfileBasedBuffer
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser
from waitress.proxy_headers import proxy_headers_middleware
from waitress.server import create_server
from waitress.utilities import Error

from app.vault import spool

DEFAULT_PORT = 8765
PORTS_TO_TRY = 100
#: What a form adds to the film it carries.
FORM_BYTES = 1024 * 1024
#: A refused body up to this size is read and thrown away: a browser whose connection is cut while
#: it still sends shows its own error page, not our sentence.
MOST_TO_SWALLOW = 8 * 1024**3
#: An upload is spooled by waitress, then by Django, then stored: its bytes are there three times.
COPIES_OF_AN_UPLOAD = 3
THREADS = 4
SECONDS_TO_CLOSE = 5.0


class PortTaken(Exception):
    """Nothing can be served on the port that was asked for."""


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; raises PortTaken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if hasattr(socket, "SO_EXCLUSIVEADDRUSE"):
            # On Windows the default lets two programs share a port, and take it in turns
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(128)
    except (OSError, OverflowError) as error:
        sock.close()
        raise PortTaken(str(port)) from error
    return sock


def listen_on_free(host: str, first_choices: Iterable[int]) -> socket.socket:
    """The first of the ports that is free, else the next free one after the default."""
    for port in [*first_choices, *range(DEFAULT_PORT, DEFAULT_PORT + PORTS_TO_TRY)]:
        try:
            return listen(host, port)
        except PortTaken:
            continue
    return listen(host, 0)  # whatever the system has left


@contextlib.contextmanager
def serving(sock: socket.socket, application: Callable[..., Any]) -> Iterator[threading.Thread]:
    """Serve on a listening socket from a thread of its own, which the main one may wait for.

    At the end what is being answered is answered; the socket itself stays open.
    """
    # Bodies are spooled where the films are kept, not in a /tmp that others look into
    settings.TEMPORARY_DIR.mkdir(parents=True, exist_ok=True)
    tempfile.tempdir = str(settings.TEMPORARY_DIR)
    TempfileBasedBuffer.newfile = _spool  # waitress has no setting for it
    connections: dict[int, Any] = {}
    pages = create_server(
        _behind_proxy(application) if settings.TRUSTED_PROXY else application,
        map=connections,
        sockets=[sock.dup()],
        threads=THREADS,
        ident="clinic",
        max_request_body_size=settings.MAX_FILM_BYTES + FORM_BYTES,
        channel_timeout=120,
        clear_untrusted_proxy_headers=not settings.TRUSTED_PROXY,
    )
    pages.channel_class = PoliteChannel
    thread = threading.Thread(target=pages.run, name="pages", daemon=True)
    thread.start()
    try:
        yield thread
    finally:
        pages.task_dispatcher.shutdown()
        # waitress ends when nothing is left to listen to; only its own thread may close that
        pages.trigger.pull_trigger(lambda: wasyncore.close_all(connections, ignore_all=True))
        thread.join(SECONDS_TO_CLOSE)


def _spool(_buffer: TempfileBasedBuffer) -> IO[bytes]:
    return spool.temporary()


def _behind_proxy(application: Callable[..., Any]) -> Callable[..., Any]:
    """Answers the trusted proxy, for whoever it says, and this computer; nobody else, since nothing
    is encrypted on the way from there.
    """
    forwarded = proxy_headers_middleware(
        application,
        trusted_proxy=settings.TRUSTED_PROXY,
        trusted_proxy_count=1,
        trusted_proxy_headers={"x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"},
        clear_untrusted=True,
    )

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        asks = environ.get("REMOTE_ADDR", "")
        if asks == settings.TRUSTED_PROXY or ipaddress.ip_address(asks).is_loopback:
            answered: Iterable[bytes] = forwarded(environ, start_response)
            return answered
        start_response("403 Forbidden", [("Content-Type", "text/plain; charset=utf-8")])
        return [b"Ask by the web server in front.\n"]

    return answer


def sweep_temporary(folder: Path) -> None:
    """Remove what a crash left half received. Only under the lock: nobody else is receiving."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)


class TooLarge(Error):
    """The request holds more than one film may have."""

    code, reason = 413, "Content Too Large"

    def to_response(self, _ident: str | None = None) -> tuple[str, list[tuple[str, str]], bytes]:
        """The sentence alone: pages show it as it is."""
        return _plain(self)


class NoRoom(TooLarge):
    """The disk cannot take the request."""

    code, reason = 507, "Insufficient Storage"


def refusal(length: int) -> TooLarge | None:
    """Why a request with a body of ``length`` bytes is not taken in; None where it is."""
    if length >= settings.MAX_FILM_BYTES + FORM_BYTES:
        return TooLarge(_sentence("too_large"))
    return None if _has_room(length) else NoRoom(_sentence("disk_full"))


class PoliteParser(HTTPRequestParser):
    """Refuses by the announced length, before a byte is kept, and lets the sender finish."""

    _to_swallow = 0
    expect_continue = False

    def received(self, data: bytes) -> int:
        """Take in the next bytes; how many belonged to this request."""
        if self._to_swallow:
            taken = min(len(data), self._to_swallow)
            self._to_swallow -= taken
            self.completed = not self._to_swallow
            return taken
        in_header = not self.headers_finished
        try:
            consumed = int(super().received(data))
        except OSError as error:  # the spool: waitress would cut the connection without a word
            if error.errno != errno.ENOSPC:
                raise
            self._refuse(NoRoom(_sentence("disk_full")), swallow=0)
            return len(data)
        if in_header and self.headers_finished and self.content_length > 0:
            self._look_at_length()
        elif self.error is not None and self.error.code == TooLarge.code:
            self._refuse(TooLarge(_sentence("too_large")), swallow=0)
        return consumed

    def _look_at_length(self) -> None:
        length = self.content_length
        problem = refusal(length)
        if problem and (not self.error or problem.code == TooLarge.code):
            self._refuse(problem, swallow=length)

    def _refuse(self, error: TooLarge, swallow: int) -> None:
        self.error = error
        # A sender that asks first (Expect: 100-continue) is told at once and sends nothing
        asked, self.expect_continue = self.expect_continue, False
        self._to_swallow = 0 if asked or swallow > MOST_TO_SWALLOW else swallow
        self.completed = not self._to_swallow


class PoliteChannel(HTTPChannel):
    """A connection whose requests are read by PoliteParser."""

    parser_class = PoliteParser


def _has_room(length: int) -> bool:
    if length <= FORM_BYTES:
        return True
    free = shutil.disk_usage(settings.TEMPORARY_DIR).free
    return free >= COPIES_OF_AN_UPLOAD * length + settings.MIN_FREE_BYTES


def _sentence(code: str) -> str:
    from app import messages

    return str(messages.sentence(code, {"limit_mb": str(settings.MAX_FILM_BYTES // 1024**2)}))


def _plain(error: Error) -> tuple[str, list[tuple[str, str]], bytes]:
    headers = [("Content-Type", "text/plain; charset=utf-8"), ("Cache-Control", "no-store")]
    return f"{error.code} {error.reason}", headers, f"{error.body}\n".encode()
