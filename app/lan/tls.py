"""cheroot with TLS, for devices that nobody has vouched for: slow, silent, greedy or confused ones
cost each other little.

cheroot itself shakes hands in the thread that accepts connections, so that one silent device holds
up all others; here a worker does, and only once the device has sent something. No request may take
longer than its size allows. docs/adr/0015-tls-door-with-cheroot.md says why cheroot at all.
"""

from __future__ import annotations

import collections
import logging
import os
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from cheroot import wsgi
from cheroot.makefile import MakeFile
from cheroot.server import HeaderReader, HTTPConnection, HTTPRequest

from app import worker
from app.lan.addresses import is_local

logger = logging.getLogger(__name__)

THREADS = 16
#: Browsers open up to six connections to a server. One device alone cannot take all the threads.
MOST_OF_ONE_DEVICE = 12
MOST_CONNECTIONS = 200
MOST_HEADER_BYTES = 64 * 1024
#: A connection without a request is closed after this.
IDLE_SECONDS = 15
HANDSHAKE_SECONDS = 10.0
#: A request, and its answer, may each take this, and a second more for so many bytes that moved: a
#: photograph of 4 MB gets two and a half minutes, a header that drips in one byte at a time half.
GRACE_SECONDS = 30.0
SLOWEST_BYTES_A_SECOND = 32 * 1024
SECONDS_TO_CLOSE = 2
TLS_RECORD_OF_A_HANDSHAKE = b"\x16"
MOST_PLAIN_BYTES = 4096

StartResponse = Callable[..., Any]
Application = Callable[[dict[str, Any], StartResponse], Iterable[bytes]]


class PacedSocket(ssl.SSLSocket):
    """A TLS connection on which a request has to keep a pace."""

    _begun = 0.0
    _moved = 0

    def begin(self) -> None:
        """From here on a new request, or the answer to one, is counted."""
        self._begun, self._moved = time.monotonic(), 0

    def recv_into(self, *where: Any, **more: Any) -> int:
        """Receive; raises TimeoutError where the request has taken too long as a whole."""
        self._wait_no_longer()
        count = super().recv_into(*where, **more)
        self._moved += count
        return count

    def send(self, *what: Any, **more: Any) -> int:
        """Send; raises TimeoutError where the answer has taken too long as a whole."""
        self._wait_no_longer()
        count = super().send(*what, **more)
        self._moved += count
        return count

    def _wait_no_longer(self) -> None:
        allowed = GRACE_SECONDS + self._moved / SLOWEST_BYTES_A_SECOND
        left = self._begun + allowed - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self.settimeout(left)


def context_of(certificate_and_key: str) -> ssl.SSLContext:
    """What connections are encrypted with; of the last ten years, which every phone can do."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate_and_key)
    context.set_alpn_protocols(["http/1.1"])
    context.sslsocket_class = PacedSocket
    return context


class StrictHeaders(HeaderReader):
    """Headers that mean one thing: a plain length, and no second spelling of a header's name."""

    def __call__(self, rfile: Any, hdict: dict[bytes, bytes] | None = None) -> Any:
        """The headers; raises ValueError, which becomes a 400."""
        found = super().__call__(rfile, hdict)
        if b"Transfer-Encoding" in found:
            raise ValueError("A request needs a Content-Length.")
        length = found.get(b"Content-Length", b"0")
        if not (length.isdigit() and len(length) < 20):
            raise ValueError("Malformed Content-Length Header.")
        return found

    def _allow_header(self, key_name: bytes) -> bool:
        # To WSGI X-Y and X_Y are the same
        return b"_" not in key_name


class Request(HTTPRequest):
    """One request on a paced connection."""

    header_reader = StrictHeaders()

    def send_headers(self) -> None:
        """Begin the answer, which has a time of its own."""
        self.conn.socket.begin()
        super().send_headers()


class Connection(HTTPConnection):
    """A connection that shakes hands when it is first worked on, and explains itself to a browser
    that came without TLS.
    """

    RequestHandlerClass = Request
    admitted = False
    _secured = False

    def communicate(self) -> bool:
        """One step: the handshake, or a request. Whether the connection stays open."""
        if not self._secured:
            try:
                return self._shake_hands()
            except OSError:  # ssl's own errors are among them
                return False
        self.socket.begin()
        return bool(super().communicate())

    def close(self) -> None:
        """Close, and make room for another connection of the same device."""
        self.server.let_go(self)
        super().close()

    def _shake_hands(self) -> bool:
        # Head and body of an answer go out apart: the second must not wait for an acknowledgement
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.settimeout(HANDSHAKE_SECONDS)
        if self.socket.recv(1, socket.MSG_PEEK) != TLS_RECORD_OF_A_HANDSHAKE:
            self._send_to_https()
            return False
        self.socket = self.server.tls.wrap_socket(
            self.socket, server_side=True, do_handshake_on_connect=False
        )
        self.socket.do_handshake()
        self.rfile = MakeFile(self.socket, "rb", self.rbufsize)
        self.wfile = MakeFile(self.socket, "wb", self.wbufsize)
        self._secured = True
        return True

    def _send_to_https(self) -> None:
        """Whoever typed http:// is led on, if to an address of ours; else told what to type."""
        head = self.socket.recv(MOST_PLAIN_BYTES).decode("latin-1")
        self.socket.sendall(self.server.answer_to_plain(head))


class Server(wsgi.Server):
    """cheroot on a socket that listens already. ``tls`` may be replaced while it runs."""

    def __init__(
        self,
        sock: socket.socket,
        application: Application,
        tls: ssl.SSLContext,
        answer_to_plain: Callable[[str], bytes],
    ) -> None:
        super().__init__(
            sock.getsockname()[:2],
            application,
            numthreads=THREADS,
            max=THREADS,
            server_name="clinic",
            timeout=IDLE_SECONDS,
            shutdown_timeout=SECONDS_TO_CLOSE,
        )
        self.tls = tls
        self.answer_to_plain = answer_to_plain
        self.request_queue_size = 64
        self.max_request_header_size = MOST_HEADER_BYTES
        self.keep_alive_conn_limit = MOST_CONNECTIONS
        self.ConnectionClass = Connection
        self._listening = sock
        self._open: collections.Counter[str] = collections.Counter()
        self._counting = threading.Lock()

    def prepare(self) -> None:
        """Get ready. cheroot would take over a socket that systemd meant for another program."""
        os.environ.pop("LISTEN_PID", None)
        super().prepare()

    def bind(self, *_family: Any) -> socket.socket:
        """Take the socket that listens already."""
        self.socket = self._listening
        return self.socket

    def process_conn(self, conn: Connection) -> None:
        """A new connection waits, at no cost, until its device says something."""
        if conn.admitted:
            super().process_conn(conn)
        elif self._admit(conn):
            self.put_conn(conn)
        else:
            conn.close()

    def let_go(self, conn: Connection) -> None:
        """A connection has ended."""
        with self._counting:
            if conn.admitted:
                conn.admitted = False
                self._open[conn.remote_addr] -= 1
                self._open += collections.Counter()  # forgets the zeros

    def error_log(self, _msg: str = "", level: int = logging.INFO, traceback: bool = False) -> None:
        """Into the program's log: what kind of fault and where, without what the device sent."""
        error = sys.exc_info()[1]
        if traceback and error and not isinstance(error, OSError):
            logger.log(level, "on the TLS door: %s", worker.traceback_of(error))

    def _admit(self, conn: Connection) -> bool:
        device = conn.remote_addr
        with self._counting:
            room = self._open[device] < MOST_OF_ONE_DEVICE
            room = room and self._open.total() < MOST_CONNECTIONS
            conn.admitted = room and is_local(device)
            self._open[device] += conn.admitted
        return conn.admitted
