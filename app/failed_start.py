"""The page of a start that came to nothing: what is wrong, what to do, and a button to try again.

Served by Python's own small server on the socket that the program itself would use, without
database and data directory: those may be what is wrong. When a new try begins, the socket goes on
listening, so that the browser's next request waits there for whatever serves it next.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar
from urllib.parse import parse_qs

from django.conf import settings
from django.template.loader import render_to_string
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from app import diagnostics, doors
from app.stop import CannotStart
from app.window import Wish

#: Without a window to quit from, the program ends when its page has not been open for so long. A
#: page in a hidden tab calls once a minute.
PATIENCE_SECONDS = 600.0
#: For a browser that is to be sent on to the program that runs already.
SEND_ON_SECONDS = 5.0
LOOK_AROUND = 0.25
HTML = "text/html; charset=utf-8"
SCRIPT = "/failed-start.js"

STEPS: dict[str, tuple[Promise, ...]] = {
    "disk_full": (
        _("Empty the recycle bin. Move videos and other large files to a stick."),
        _("Then press “Try again”. What was stored before is safe."),
    ),
    "data_dir_not_writable": (
        _("Is the folder on a stick or on another disk? Look whether it is plugged in."),
        _("Are you logged in as the user who works with the program every day?"),
        _("Then press “Try again”."),
    ),
    "database_damaged": (
        _("Do not delete anything and do not install the program again. The films are safe."),
        _("Copy the whole folder named below to a stick."),
        _("Fetch the stick with the backups and ask for help: everything can be restored from it."),
    ),
    "newer_database": (
        _("Look on the desktop and in the menu for the newer version, and start that one."),
        _("If it is not there any more, install it again. This older version changed nothing."),
    ),
    "does_not_answer": (
        _("Wait a minute: perhaps it is just starting or ending. Then press “Try again”."),
        _("If that does not help, restart the computer and start the program again."),
    ),
}
USUAL_STEPS = (
    _("Press “Try again”."),
    _("If that does not help, restart the computer and start the program again."),
)


P = TypeVar("P", bound="Page")


class Page:
    """The page while it is served: what it says, and what the person wants."""

    #: Addresses of its own forms, see ``take``.
    forms: tuple[str, ...] = ()

    def __init__(self, fault: CannotStart) -> None:
        self.fault = fault
        self.wish: Wish | None = None
        self.asked = threading.Event()
        self.last_seen = time.monotonic()

    def ask(self, wish: Wish) -> None:
        """Note what the person wants, and wake whoever waits for it."""
        self.wish = wish
        self.asked.set()

    def wait(self, for_ever: bool = False) -> Wish:
        """What the person wants; to quit, where nobody has looked at the page for long."""
        while not self.asked.wait(LOOK_AROUND):
            if not for_ever and time.monotonic() - self.last_seen > PATIENCE_SECONDS:
                return Wish.QUIT
        return self.wish or Wish.QUIT

    def html(self) -> bytes:
        """The page itself."""
        context = {
            "sentence": str(self.fault),
            "steps": STEPS.get(self.fault.code, USUAL_STEPS),
            "folder": settings.DATA_DIR,
        }
        return render("failed_start.html", context)

    def take(self, _path: str, _fields: dict[str, str]) -> bytes | None:
        """What was sent by a form of its own; the page to show, or None to go on with the start."""
        return None


@contextlib.contextmanager
def page(
    sock: socket.socket, fault: CannotStart, kind: Callable[[CannotStart], Page] = Page
) -> Iterator[Page]:
    """Serve the page of a fault on a listening socket, which stays open afterwards."""
    with serving(sock, kind(fault)) as shown:
        yield shown


@contextlib.contextmanager
def serving(sock: socket.socket, shown: P) -> Iterator[P]:
    """Serve a page on a listening socket, which stays open afterwards."""
    server = _Server(sock, shown)
    thread = threading.Thread(target=server.serve_forever, args=[0.05], daemon=True)
    thread.start()
    try:
        yield shown
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def send_on(sock: socket.socket, address: str) -> None:
    """Answer a browser that waits on the socket: the program runs at another address."""
    sock.settimeout(SEND_ON_SECONDS)
    with contextlib.suppress(OSError), sock.accept()[0] as browser:
        browser.settimeout(SEND_ON_SECONDS)
        browser.recv(65536)
        browser.sendall(f"HTTP/1.0 303 See Other\r\nLocation: {address}\r\n\r\n".encode())


class _Server(ThreadingHTTPServer):
    def __init__(self, sock: socket.socket, shown: Page) -> None:
        self.address_family = sock.family
        super().__init__(sock.getsockname()[:2], _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = sock.dup()
        self.shown = shown

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that went away is nothing to tell."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = 10  # a connection that says nothing

    def do_GET(self) -> None:
        """The page at every address, as the program's own pages are not there."""
        shown = self.server.shown
        if not self._is_ours():
            self._answer(400, HTML, b"")
        elif self.path == SCRIPT:
            script = settings.CODE_DIR / "static" / "clinic" / "failed_start.js"
            self._answer(200, "text/javascript; charset=utf-8", script.read_bytes())
        elif self.path == "/healthz":
            shown.last_seen = time.monotonic()
            health = {"status": "degraded", "version": settings.VERSION, "model": None}
            self._answer(200, "application/json", json.dumps(health).encode())
        elif self.path == "/diagnostics":
            disposition = f'attachment; filename="{diagnostics.file_name()}"'
            file = diagnostics.archive(fault=str(shown.fault))
            self._answer(200, "application/zip", file, ("Content-Disposition", disposition))
        else:
            shown.last_seen = time.monotonic()
            self._answer(503, HTML, shown.html())

    def do_POST(self) -> None:
        """The two buttons, and what the page asks for."""
        shown = self.server.shown
        sent = self.rfile.read(min(int(self.headers.get("Content-Length") or 0), 65536))
        if not self._is_ours() or self.path not in ("/try-again", "/quit", *shown.forms):
            self._answer(400, HTML, b"")
        elif self.path == "/quit":
            self._answer(200, HTML, render("ended.html", {}))
            shown.ask(Wish.QUIT)
        elif self.path in shown.forms and (again := shown.take(self.path, _fields(sent))):
            shown.last_seen = time.monotonic()
            self._answer(403, HTML, again)
        else:
            # First stop taking in requests: the browser's next one is for the next try to answer
            self.server.shutdown()
            self._answer(303, HTML, b"", ("Location", "/"))
            shown.ask(Wish.TRY_AGAIN)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: addresses that people type are nobody's business."""

    def _is_ours(self) -> bool:
        """Asked by our own name (see settings.ALLOWED_HOSTS), and by no page of another site."""
        asked = self.headers.get("Host", "")
        # Nobody's business but that of who sits here: not that of whom a proxy brings
        if "Forwarded" in self.headers or "X-Forwarded-For" in self.headers:
            return False
        name = asked.rpartition(":")[0] if asked.rpartition(":")[2].isdecimal() else asked
        own = f"http://{asked}"
        said = dict(self.headers.items())
        if name not in settings.ALLOWED_HOSTS or said.get("Origin", own) != own:
            return False
        return not doors.comes_from_elsewhere(said, own, self.command)

    def _answer(self, status: int, kind: str, body: bytes, *more: tuple[str, str]) -> None:
        self.send_response(status)
        headers = [
            ("Content-Type", kind),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
            *{**doors.HEADERS, "Content-Security-Policy": _policy()}.items(),
            *more,
        ]
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def _fields(sent: bytes) -> dict[str, str]:
    """The fields of a form, each as it came first."""
    with contextlib.suppress(ValueError):
        found = parse_qs(sent.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=20)
        return {name: values[0] for name, values in found.items()}
    return {}


def render(template: str, context: dict[str, Any]) -> bytes:
    """A page that stands alone, with sheet and picture in it."""
    # The page of the end is shown when nobody serves a sheet or a picture any more
    return render_to_string(
        template, {**context, "style": _static("clinic.css"), "mark": _static("icon.svg")}
    ).encode()


def _static(name: str) -> str:
    return (settings.CODE_DIR / "static" / "clinic" / name).read_text(encoding="utf-8")


def _policy() -> str:
    """That of all pages, and for these the one sheet and the one picture that stand in them.

    Their forms may end at another port: where the program runs already, the browser is sent on.
    """
    sheet = base64.b64encode(hashlib.sha256(_static("clinic.css").encode()).digest()).decode()
    policy = doors.POLICY
    for ours, here in {
        "style-src 'self'": f"style-src 'sha256-{sheet}'",
        "img-src 'self'": "img-src data:",
        "form-action 'self'": "form-action 'self' http://127.0.0.1:* http://localhost:*",
    }.items():
        policy = policy.replace(ours, here)
    return policy
