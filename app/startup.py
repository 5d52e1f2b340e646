"""From a double-click to the first page, in a fixed order, and back down again.

Log, lock, key, port, database (backup, migration), recovery, worker, checks, server. What stops a
start is a ``CannotStart`` with a sentence; nothing later runs.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import logging.handlers
import os
import signal
import socket
import sqlite3
import sys
import threading
import webbrowser
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

from django.conf import settings
from django.db import DatabaseError, connections
from django.utils.translation import gettext as _

from app import checks, database, server, worker
from app.instance_lock import (
    AlreadyRunning,
    InstanceLock,
    address_of_running,
    page_address,
    write_atomically,
)
from app.stop import CannotStart

logger = logging.getLogger(__name__)

LOG_BYTES, LOG_FILES = 1024 * 1024, 5
#: How long a second start waits for the first to answer.
SECOND_START_PATIENCE = 15.0
USAGE = 2


def serve(host: str, port: int | None, open_browser: bool) -> None:
    """Serve the pages until told to stop. ``port`` None: the usual one or the next free one."""
    refuse_other_computers(host)
    prepare_data_directory()
    start_log(settings.LOG_DIR)
    try:
        with InstanceLock(settings.DATA_DIR) as lock:
            _serve_under(lock, host, port, open_browser)
    except AlreadyRunning:
        show_running(open_browser)
    except CannotStart as fault:
        logger.warning("stopped at the start: %s", fault)
        raise


def _serve_under(lock: InstanceLock, host: str, port: int | None, open_browser: bool) -> None:
    logger.info("version %s starts", settings.VERSION)
    server.sweep_temporary(settings.TEMPORARY_DIR)
    keep_secret_key()
    # Before the database is touched: a port that is taken stops the start
    sock = take_port(host, port)
    prepare_database()
    worker.recover(dead_prefix="serve-")
    at_work = worker.WorkerThread("serve")
    with contextlib.closing(sock), _working(at_work), _looking_after():
        from app.wsgi import application

        pages = server.serve_on(sock, application)
        lock.announce(host, sock.getsockname()[1])
        _say_where(page_address(host, sock.getsockname()[1]), open_browser)
        with stop_on_signals():
            pages.run()
        pages.close()
    database.close_down()
    logger.info("stopped")


def work() -> None:
    """Work the queue in a process of its own, beside a server on the same data directory."""
    prepare_data_directory()
    start_log(settings.LOG_DIR, name="worker.log")
    prepare_database()
    worker.recover()
    stop = threading.Event()
    with (
        _working(worker.WorkerThread("worker")),
        stop_on_signals(),
        contextlib.suppress(SystemExit),
    ):
        while not stop.wait(3600):
            continue
    connections.close_all()


def refuse_other_computers(host: str) -> None:
    """Only this computer's own addresses: nobody has logged in, and nothing is encrypted."""
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(host).is_loopback:
            if host not in settings.ALLOWED_HOSTS:
                settings.ALLOWED_HOSTS.append(f"[{host}]" if ":" in host else host)
            return
    if host != "localhost":
        raise CannotStart(
            _(
                "The address %(host)s would let other computers in, which is not allowed. "
                "Use --host 127.0.0.1."
            )
            % {"host": host},
            USAGE,
        )


def prepare_data_directory() -> None:
    """Make the data directory, for this user alone, and try to write in it."""
    with contextlib.suppress(OSError):
        settings.DATA_DIR.mkdir(parents=True, exist_ok=True, mode=0o700)
    if problem := checks.cannot_write(settings.DATA_DIR):
        raise CannotStart(problem.sentence)


def start_log(folder: Path, name: str = "clinic.log") -> None:
    """Log to a file that cannot grow for ever; faults also to the screen. Without patient data."""
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    if problem := checks.cannot_write(folder):
        raise CannotStart(problem.sentence)
    to_file = logging.handlers.RotatingFileHandler(
        folder / name, maxBytes=LOG_BYTES, backupCount=LOG_FILES, encoding="utf-8", delay=True
    )
    to_screen = logging.StreamHandler(sys.stderr)
    to_screen.setLevel(logging.ERROR)
    for handler in (to_file, to_screen):
        handler.setFormatter(DiscreetFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(handlers=[to_file, to_screen], level=logging.WARNING, force=True)
    logging.getLogger("app").setLevel(logging.INFO)
    # Its warnings quote the values of the tags they complain of
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    # Addresses that do not exist are typed by people; what they type is nobody's business
    logging.getLogger("django.request").setLevel(logging.ERROR)
    logging.raiseExceptions = False  # a full disk must not fill the screen as well


class DiscreetFormatter(logging.Formatter):
    """Of an exception it says kind and place; its words may quote a patient's data."""

    def formatException(self, ei: object) -> str:  # noqa: N802 - logging's own name
        """One line instead of the traceback."""
        error = ei[1] if isinstance(ei, tuple) else None
        return worker.traceback_of(error) if error else ""


def keep_secret_key() -> None:
    """Write this process's key down where there is none yet: forms outlive a restart."""
    path = settings.DATA_DIR / "secret.key"
    with contextlib.suppress(FileExistsError):
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(handle, settings.SECRET_KEY.encode("ascii"))
            os.fsync(handle)
        finally:
            os.close(handle)


def take_port(host: str, port: int | None) -> socket.socket:
    """The port that was asked for, or the usual one; where that is taken another, remembered."""
    if port is not None:
        try:
            return server.listen(host, port)
        except server.PortTaken as error:
            raise CannotStart(
                _(
                    "Port %(port)s is in use by another program. Choose another with --port, "
                    "or leave --port out."
                )
                % {"port": port},
                USAGE,
            ) from error
    remembered = _remembered_port()
    sock = server.listen_on_free(host, [remembered] if remembered else [])
    taken = sock.getsockname()[1]
    if taken != (remembered or server.DEFAULT_PORT):
        with contextlib.suppress(OSError):  # remembered for bookmarks' sake; not worth a stop
            write_atomically(settings.DATA_DIR / "port", str(taken))
    return sock


def _remembered_port() -> int | None:
    try:
        port = int((settings.DATA_DIR / "port").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    return port if 0 < port < 65536 else None


def prepare_database() -> None:
    """Whole, backed up and migrated, or a sentence."""
    try:
        if database.bring_up_to_date():
            logger.info("database migrated")
    except database.NewerDatabase as error:
        raise CannotStart(
            _(
                "The data in %(folder)s was written by a newer version of this program. "
                "Start the newer version. Nothing was changed."
            )
            % {"folder": settings.DATA_DIR}
        ) from error
    except (DatabaseError, sqlite3.DatabaseError) as error:
        if "full" in str(error):
            raise CannotStart(_no_room()) from error
        raise CannotStart(checks.damaged_database().sentence) from error
    except database.DamagedDatabase as error:
        raise CannotStart(checks.damaged_database().sentence) from error
    except OSError as error:
        raise CannotStart(_no_room()) from error


def _no_room() -> str:
    return _(
        "The database could not be copied before its update: the disk is full. "
        "Make room on the disk and start again. Nothing was changed."
    )


def show_running(open_browser: bool) -> None:
    """A second start: open the pages of the first."""
    address = address_of_running(settings.DATA_DIR, SECOND_START_PATIENCE)
    if address is None:
        raise CannotStart(
            _(
                "The program is already running but does not answer. "
                "Restart the computer, then start the program again."
            )
        )
    _say_where(address, open_browser)


def _say_where(address: str, open_browser: bool) -> None:
    print(_("Open %(address)s in the browser.") % {"address": address}, flush=True)
    if open_browser:
        # In a thread: some browsers do not return until they are closed
        threading.Thread(target=_open_browser, args=[address], daemon=True).start()


def _open_browser(address: str) -> None:
    with contextlib.suppress(Exception):
        webbrowser.open(address)


@contextlib.contextmanager
def _working(at_work: worker.WorkerThread) -> Iterator[None]:
    at_work.start()
    try:
        yield
    finally:
        at_work.stop()


@contextlib.contextmanager
def _looking_after() -> Iterator[None]:
    """The thorough look at the database: beside the start, which must not wait for it."""
    look = threading.Thread(target=checks.look_at_database, name="checks", daemon=True)
    look.start()
    yield


@contextlib.contextmanager
def stop_on_signals() -> Iterator[None]:
    """Make every polite way of ending a process raise SystemExit in the main thread."""
    names = ("SIGTERM", "SIGINT", "SIGBREAK", "SIGHUP")
    before = {
        number: signal.signal(number, _stop)
        for number in (getattr(signal, name, None) for name in names)
        if number is not None
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(_number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(0)
