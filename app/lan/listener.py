"""The open door: a socket, a certificate, and the rules that a request has to keep to come in."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterable, Sequence
from typing import Any

from django.conf import settings
from django.urls import reverse
from django.utils.translation import gettext as _

from app import server
from app.access import FROM_LAN
from app.lan import addresses, certificate, tls
from app.lan.addresses import Address
from app.lan.tls import Application, StartResponse
from app.lan.tries import wrong_passwords

logger = logging.getLogger(__name__)

CHUNK = 64 * 1024
#: This computer may try its own door.
OWN_NAMES = ("localhost",)
OWN_ADDRESSES = ("127.0.0.1",)
TEXT = ("Content-Type", "text/plain; charset=utf-8")
KEEP_NOT = ("Cache-Control", "no-store")


class Listener:
    """Listens from the moment it is made until it is closed; raises OSError."""

    def __init__(self, application: Application, sock: socket.socket) -> None:
        self.port = int(sock.getsockname()[1])
        self.addresses: list[Address] = []
        self._application = application
        self._names: frozenset[str] = frozenset()
        self._added: frozenset[str] = frozenset()
        try:
            self._know(addresses.current())
            self._server = tls.Server(sock, self.let_in, self._context(), self.answer_to_plain)
            self._server.prepare()
        except BaseException:
            self._allow(())
            sock.close()
            raise
        self._thread = threading.Thread(target=self._server.serve, name="lan-pages", daemon=True)
        self._thread.start()

    def look_around(self) -> None:
        """Notice that the computer has other addresses now, or its certificate comes to an end."""
        before = self.certificate
        self._know(addresses.current())
        if self.certificate.der != before.der:
            self._server.tls = self._context()
            logger.info("the door for other devices has a new certificate")

    def close(self) -> None:
        """Answer what is being asked, listen no longer, and be known by no other name than before
        it was opened.
        """
        self._allow(())
        self._server.stop()
        self._thread.join(tls.SECONDS_TO_CLOSE)

    def let_in(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """WSGI: the program's pages, for a request that keeps the rules."""
        environ[FROM_LAN] = True
        environ["wsgi.url_scheme"] = "https"
        answer = self._refuse(environ, start_response)
        if answer is None:
            answer = self._application(environ, _only_over_tls(start_response))
        try:
            # Else cheroot would, into memory, before the answer goes out
            _read_to_the_end(environ)
        except OSError:
            getattr(answer, "close", lambda: None)()
            raise
        return answer

    def answer_to_plain(self, head: str) -> bytes:
        """The answer to the head of a request that came without TLS."""
        path, host = _path_and_host(head)
        sentence = _("This address is only served encrypted. Type https:// in front of it.")
        body = f"{sentence}\n".encode()
        onward = ""
        if self.is_ours(host) and path.startswith("/") and path.isprintable():
            onward = f"Location: https://{host}{path}\r\n"
        status = "307 Temporary Redirect" if onward else "400 Bad Request"
        return (
            f"HTTP/1.1 {status}\r\n{onward}{TEXT[0]}: {TEXT[1]}\r\n{KEEP_NOT[0]}: {KEEP_NOT[1]}\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        ).encode("latin-1", "replace") + body

    def is_ours(self, host: str) -> bool:
        """Whether a Host header names this computer and this port, and nothing else.

        A page on another site may have its own name point here (DNS rebinding): its browser then
        takes it for one of ours, but still says the name.
        """
        name, _colon, port = host.rpartition(":")
        return port == str(self.port) and name.lower() in self._names

    def _know(self, found: list[Address]) -> None:
        """Take these for the computer's addresses: names, certificate and hosts follow."""
        ips = [address.ip for address in found]
        hosts = [*addresses.names(), *OWN_NAMES]
        folder = settings.DATA_DIR / certificate.FOLDER
        self.authority = certificate.authority(folder, hosts[0])
        self.certificate = certificate.for_names(
            folder, self.authority, hosts, [*ips, *OWN_ADDRESSES]
        )
        self.addresses = found
        self._allow([*hosts, *ips, *OWN_ADDRESSES])

    def _allow(self, names: Sequence[str]) -> None:
        """Let Django, too, know these names, and those of earlier no longer."""
        others = [host for host in settings.ALLOWED_HOSTS if host not in self._added]
        self._added = frozenset(names) - frozenset(others)
        settings.ALLOWED_HOSTS = [*others, *sorted(self._added)]
        self._names = frozenset(names)

    def _context(self) -> Any:
        return tls.context_of(str(settings.DATA_DIR / certificate.FOLDER / certificate.DOOR))

    def _refuse(
        self, environ: dict[str, Any], start_response: StartResponse
    ) -> Iterable[bytes] | None:
        """The answer to a request that breaks a rule, None for any other."""
        problem = server.refusal(int(environ.get("CONTENT_LENGTH") or 0))
        if problem:
            status, body = f"{problem.code} {problem.reason}", str(problem.body)
        elif not self.is_ours(environ.get("HTTP_HOST", "")):
            status, body = "421 Misdirected Request", _("Nobody here goes by this name.")
        elif _guesses_passwords(environ):
            status = "429 Too Many Requests"
            body = _("Too many wrong passwords came from this device. Wait ten minutes.")
        else:
            return None
        start_response(status, [TEXT, KEEP_NOT])
        return [f"{body}\n".encode()]


def _guesses_passwords(environ: dict[str, Any]) -> bool:
    logs_in = environ["REQUEST_METHOD"] == "POST" and environ["PATH_INFO"] == reverse("log-in")
    return logs_in and wrong_passwords.are_used_up(environ["REMOTE_ADDR"])


def _path_and_host(head: str) -> tuple[str, str]:
    """What a request asks for, and of whom; empty where its head does not say."""
    line, _end, rest = head.partition("\r\n")
    words = line.split(" ")
    headers = (header.partition(":") for header in rest.split("\r\n"))
    hosts = [value.strip() for name, _colon, value in headers if name.strip().lower() == "host"]
    return words[1] if len(words) > 1 else "", hosts[0] if hosts else ""


def _only_over_tls(start_response: StartResponse) -> StartResponse:
    """Mark every cookie as one that is never sent without TLS."""

    def secured(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
        marked = [
            (name, f"{value}; Secure" if _is_bare_cookie(name, value) else value)
            for name, value in headers
        ]
        return start_response(status, marked, *more)

    return secured


def _is_bare_cookie(name: str, value: str) -> bool:
    attributes = {part.strip().lower() for part in value.split(";")[1:]}
    return name.lower() == "set-cookie" and "secure" not in attributes


def _read_to_the_end(environ: dict[str, Any]) -> None:
    """Throw away what is left of the body: a browser that still sends reads no answer."""
    if int(environ.get("CONTENT_LENGTH") or 0) > server.MOST_TO_SWALLOW:
        return
    while environ["wsgi.input"].read(CHUNK):
        continue
