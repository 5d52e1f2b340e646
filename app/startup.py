"""From a double-click to the first page, in a fixed order, and back down again.

Log, lock, restoration, key, port, vault, database (repair, backup, migration), recovery, worker,
backups, checks, server. What stops a start is a ``CannotStart`` with a sentence; nothing later
runs.
"""

from __future__ import annotations

import contextlib
import gc
import ipaddress
import logging
import logging.handlers
import signal
import socket
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

from django.conf import settings
from django.db import DatabaseError, connections
from django.utils.translation import gettext as _

from app import (
    checks,
    database,
    failed_start,
    films,
    lan,
    outbox,
    outside,
    server,
    vault,
    watched_folder,
    window,
    worker,
)
from app.audit import check as record
from app.audit.seal import KEY_FILE
from app.backup import RESTORATION, outcome, repair
from app.backup.faults import BackupFault
from app.cxr.durable import write_once
from app.dicom.node import node
from app.instance_lock import (
    AlreadyRunning,
    InstanceLock,
    address_of_running,
    page_address,
    write_atomically,
)
from app.models import AuditEvent, AuditHead, Instance, Study
from app.stop import CannotStart
from app.unlock_page import EncryptingPage, UnlockPage
from app.vault import convert, note, unlock
from app.vault.note import State
from app.window import Wish

logger = logging.getLogger(__name__)

SECRET_FILE = "secret.key"
LOG_BYTES, LOG_FILES = 1024 * 1024, 5
#: How long a second start waits for the first to answer.
SECOND_START_PATIENCE = 15.0
#: A second start ends when the browser has been called, or after this.
SECONDS_TO_OPEN = 5.0
#: The main thread, while it waits, is woken so often for signals (Windows would not wake it).
LOOK_AROUND = 0.5
USAGE = 2
UNFORESEEN = "unforeseen"


def serve(host: str, port: int | None, open_browser: bool, with_window: bool = False) -> None:
    """Serve the pages until told to stop. ``port`` None: the usual one or the next free one.

    With a browser to show it in, what stops the start is explained there, and can be tried again.
    """
    refuse_other_computers(host)
    vault.ask_by(None)  # a page does
    with contextlib.ExitStack() as kept:
        start = Start(host, port, open_browser, with_window, kept)
        while start.once() is Wish.TRY_AGAIN:
            continue


class Start:
    """One start of the server, and the next where its page or window is told to try again.

    The socket outlives a try: the browser that asked for the next one finds it answering there.
    """

    def __init__(
        self,
        host: str,
        port: int | None,
        open_browser: bool,
        with_window: bool,
        kept: contextlib.ExitStack,
    ) -> None:
        self._host, self._port = host, port
        self._open_browser, self._with_window = open_browser, with_window
        self._kept = kept
        self._sock: socket.socket | None = None
        self._browser_waits = False

    def once(self) -> Wish:
        """From the data directory to the end of the pages, or to the page of what went wrong."""
        # What an earlier try's window left behind goes in this thread, before there are others:
        # Tcl ends the whole program where another thread collects it
        gc.collect()
        with contextlib.ExitStack() as held:
            lock: InstanceLock | None = None
            try:
                prepare_data_directory()
                start_log(settings.LOG_DIR)
                lock = held.enter_context(InstanceLock(settings.DATA_DIR))
                pages = self._begin(lock, held)
            except AlreadyRunning:
                return self._show_running()
            except CannotStart as fault:
                return self._explain(fault, lock)
            except Exception as error:
                found = _cannot_start(error)
                if found.code == UNFORESEEN and not self._open_browser:
                    raise
                return self._explain(found, lock)
            self._attend(pages, held)
        logger.info("stopped")
        return Wish.QUIT

    @property
    def _address(self) -> str:
        return page_address(self._host, self._sock.getsockname()[1]) if self._sock else ""

    def _begin(self, lock: InstanceLock, held: contextlib.ExitStack) -> threading.Thread:
        """Everything that runs, put on ``held`` when all of it does; the thread of the pages."""
        logger.info("version %s starts", settings.VERSION)
        for line in checks.notes():
            logger.info(line)
        server.sweep_temporary(settings.TEMPORARY_DIR)
        put_restored_in_place()
        keep_secret_key()
        # Before the database is touched: a port that is taken stops the start
        sock = self._take_port(remember=True)
        encrypted = self._open_vault(sock)
        mend_database()
        prepare_database()
        if encrypted:
            AuditEvent.record(None, "encryption_done", None, files=encrypted)
        prepare_films()
        Study.sweep_deleted()
        repair.note()
        # On a server the workers of other machines are in the same table
        worker.recover(dead_prefix=None if database.is_on_server() else "serve-")
        with contextlib.ExitStack() as begun:
            begun.callback(_close_database)
            if not settings.PAGES_ONLY:
                begun.enter_context(_working(worker.WorkerThread("serve")))
                begun.enter_context(outbox.Sender().kept())
                begun.enter_context(watched_folder.watch.kept())
            begun.enter_context(record.watch.kept())
            if not database.is_on_server():
                begun.enter_context(_backing_up())
            begun.enter_context(_looking_after())
            from app.wsgi import application

            pages = begun.enter_context(server.serving(sock, application))
            if not settings.PAGES_ONLY:
                begun.enter_context(lan.door.kept_for(application))
                begun.enter_context(node.kept())
            lock.announce(self._host, sock.getsockname()[1])
            held.enter_context(begun.pop_all())
        return pages

    def _open_vault(self, sock: socket.socket) -> int:
        """Get the keys where there is a vault, and encrypt what lies in the clear: how many."""
        if not vault.waits() and not vault.is_on():
            return 0
        if vault.waits():
            mend_database()  # while that can be done without a key
        if not vault.is_open() and not unlock.from_file():
            raise vault.Locked
        with contextlib.ExitStack() as shown:
            page = EncryptingPage()

            def watch(done: int, total: int) -> None:
                if not done:
                    shown.enter_context(failed_start.serving(sock, page))
                page.watch(done, total)

            return encrypt_all(watch)

    def _take_port(self, remember: bool) -> socket.socket:
        if self._sock is None:
            self._sock = take_port(self._host, self._port, remember)
            self._kept.callback(self._sock.close)
        return self._sock

    def _attend(self, pages: threading.Thread, held: contextlib.ExitStack) -> None:
        """Say where the pages are, and wait for the end."""
        _say_where(self._address, self._open_browser and not self._browser_waits)
        with stop_on_signals(), contextlib.suppress(SystemExit):
            shown = self._window(window.running(self._address), _count_unfinished)
            if shown:
                with stop_on_signals(shown.end):
                    shown.run(gone=lambda: not pages.is_alive(), at_end=held.close)
            while shown is None and pages.is_alive():
                pages.join(LOOK_AROUND)

    def _window(self, words: window.Words, unfinished: Callable[[], int]) -> window.Window | None:
        return window.open_window(words, unfinished) if self._with_window else None

    def _show_running(self) -> Wish:
        try:
            address = show_running(self._open_browser and not self._browser_waits)
        except CannotStart as fault:
            return self._explain(fault, None)
        if self._browser_waits and self._sock:
            failed_start.send_on(self._sock, address)
        return Wish.QUIT

    def _explain(self, fault: CannotStart, lock: InstanceLock | None) -> Wish:
        """Show what went wrong until the person wants something else; without a browser, raise."""
        connections.close_all()
        if logging.getLogger().hasHandlers():
            logger.warning("stopped at the start: %s", fault)
        asks = fault.code == vault.LOCKED
        if fault.exit_code == USAGE or not (self._open_browser or asks):
            raise fault
        wish = Wish.QUIT
        with contextlib.ExitStack() as shown:
            page = None
            with contextlib.suppress(CannotStart):
                sock = self._take_port(remember=False)
                kind = UnlockPage if asks else failed_start.Page
                page = shown.enter_context(failed_start.page(sock, fault, kind))
                if lock:
                    _announce(lock, self._host, sock)
                if not self._browser_waits:
                    _say_where(self._address, self._open_browser)
            with stop_on_signals(), contextlib.suppress(SystemExit):
                wish = self._wait_for_wish(fault, page)
        if wish is Wish.QUIT:
            raise fault
        return wish

    def _wait_for_wish(self, fault: CannotStart, page: failed_start.Page | None) -> Wish:
        words = window.stopped(str(fault), self._address or None)
        if page and fault.code == vault.LOCKED:
            words = window.locked(self._address)
        shown = self._window(words, lambda: 0)
        if shown:
            with stop_on_signals(shown.end):
                wish = shown.run(gone=lambda: bool(page and page.wish), at_end=lambda: None)
        elif page:
            wish = page.wait(for_ever=not self._open_browser)
        else:
            raise fault
        asked = page.wish if page else None
        self._browser_waits = asked is Wish.TRY_AGAIN
        return asked or wish


def _cannot_start(error: Exception) -> CannotStart:
    """The sentence for what no step of the start foresaw."""
    logger.error("the start failed: %s", worker.traceback_of(error))
    if problem := checks.problem_of(error):
        return fault_of(problem)
    return CannotStart(
        _("Something went wrong in the program while it started. Nothing was changed."),
        code=UNFORESEEN,
    )


def fault_of(problem: checks.Problem) -> CannotStart:
    """What stops the start because of a problem that a check has found."""
    return CannotStart(problem.sentence, code=problem.code)


def _announce(lock: InstanceLock, host: str, sock: socket.socket) -> None:
    with contextlib.suppress(OSError):  # a second start then says that the first does not answer
        lock.announce(host, sock.getsockname()[1])


def _count_unfinished() -> int:
    try:
        return Instance.count_unfinished()
    except DatabaseError:  # whatever is wrong with it, the program can be quit
        return 0


def _close_database() -> None:
    try:
        database.close_down()
    except DatabaseError as error:
        logger.error("the database was not closed tidily: %s", worker.traceback_of(error))


def work() -> None:
    """Work the queue in a process of its own, beside a server on the same data directory or, with a
    database that machines share, anywhere.
    """
    prepare_data_directory()
    start_log(settings.LOG_DIR, name="worker.log")
    prepare_database()
    prepare_films()
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


def encrypt_all(watch: convert.Watch) -> int:
    """Encrypt what lies in the clear, from the first time on; how many files there were."""
    keys, kept = vault.keys(), note.read(settings.DATA_DIR)
    try:
        if kept and kept.state is not State.ON:
            note.write(settings.DATA_DIR, kept.turned_on())
        return convert.encrypt(settings.DATA_DIR, keys, watch)
    except convert.InUse as error:
        raise fault_of(checks.Problem("database_in_use")) from error
    except convert.NoRoom as error:
        folder = {"folder": str(settings.DATA_DIR)}
        raise fault_of(checks.Problem("disk_full", folder)) from error
    except sqlite3.DatabaseError as error:
        raise fault_of(checks.problem_of(error) or checks.damaged_database()) from error


def refuse_other_computers(host: str) -> None:
    """Only this computer's own addresses: nobody has logged in, and nothing is encrypted. Where a
    proxy is trusted, its requests alone are answered (app.server).
    """
    if settings.TRUSTED_PROXY:
        return
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
    """Make the data directory, or stop."""
    if problem := make_data_directory():
        raise fault_of(problem)


def make_data_directory() -> checks.Problem | None:
    """Make the data directory, for this user alone, and try to write in it."""
    with contextlib.suppress(OSError):
        settings.DATA_DIR.mkdir(parents=True, exist_ok=True, mode=0o700)
    return checks.cannot_write(settings.DATA_DIR)


def start_log(folder: Path, name: str = "clinic.log") -> None:
    """Log to a file that cannot grow for ever; faults also to the screen. Without patient data."""
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    if problem := checks.cannot_write(folder):
        raise fault_of(problem)
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
    write_once(settings.DATA_DIR / SECRET_FILE, settings.SECRET_KEY.encode("ascii"))


def take_port(host: str, port: int | None, remember: bool = True) -> socket.socket:
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
    try:
        sock = server.listen_on_free(host, [remembered] if remembered else [])
    except server.PortTaken as error:
        raise fault_of(checks.Problem("no_port")) from error
    taken = sock.getsockname()[1]
    if remember and taken != (remembered or server.DEFAULT_PORT):
        with contextlib.suppress(OSError):  # remembered for bookmarks' sake; not worth a stop
            write_atomically(settings.DATA_DIR / "port", str(taken))
    return sock


def _remembered_port() -> int | None:
    try:
        port = int((settings.DATA_DIR / "port").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    return port if 0 < port < 65536 else None


def put_restored_in_place() -> None:
    """Let a backup that an administrator has looked at and confirmed take the place of the data."""
    if not (settings.DATA_DIR / RESTORATION).exists():
        return
    from app.backup import restore

    try:
        if aside := restore.apply(settings.DATA_DIR):
            logger.warning("a backup was put in place, what was there is in %s", aside.name)
    except BackupFault as error:
        raise fault_of(
            checks.Problem(
                "disk_full" if error.code == "no_room_here" else checks.NOT_WRITABLE,
                {"folder": str(settings.DATA_DIR)},
            )
        ) from error


def mend_database() -> None:
    """Repair the database where it is damaged and a whole copy is there; else the start stops."""
    if database.is_on_server():
        return
    try:
        damaged = repair.is_needed() or _cannot_be_read()
        if damaged and not repair.repair():
            raise fault_of(checks.damaged_database())
    except BackupFault as error:
        if error.code == "no_room_here":
            folder = {"folder": str(settings.DATA_DIR)}
            raise fault_of(checks.Problem("disk_full", folder)) from error
        raise fault_of(checks.damaged_database()) from error


def _cannot_be_read() -> bool:
    """A first look at the tables; the file of none is not yet damaged."""
    file = database.database_file()
    if not file.exists() or not file.stat().st_size:
        return False
    try:
        with database.opened(file) as opened:
            opened.execute("SELECT count(*) FROM django_migrations").fetchone()
    except database.Error:
        return database.is_damaged(file)
    return False


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
            % {"folder": settings.DATA_DIR},
            code="newer_database",
        ) from error
    except database.DamagedDatabase as error:
        raise fault_of(checks.damaged_database()) from error
    except database.UnfinishedMove as error:
        raise CannotStart(
            _("The move to this database has not ended. Start “move-to” again where it began."),
            code="unfinished_move",
        ) from error
    except (DatabaseError, sqlite3.DatabaseError, OSError) as error:
        problem = checks.problem_of(error)
        if problem is None and database.is_on_server():
            raise  # a server's data are not damaged because a question to them failed
        raise fault_of(problem or checks.damaged_database()) from error
    _refuse_without_keys()


def _refuse_without_keys() -> None:
    """Machines that share a database share the keys as well: that of the record, without whose seal
    all it writes would be doubted, and that of the log-ins.
    """
    if not database.is_on_server() or not AuditHead.current().count:
        return
    missing = [name for name in (KEY_FILE, SECRET_FILE) if not (settings.DATA_DIR / name).exists()]
    if missing:
        raise CannotStart(
            _(
                "Other machines use this database already. Copy the files %(files)s from the "
                "folder of one of them into %(folder)s, then start again."
            )
            % {"files": " and ".join((KEY_FILE, SECRET_FILE)), "folder": settings.DATA_DIR},
            code="keys_missing",
        )


def prepare_films() -> None:
    """Can the place of the films be had? An empty one is made a place of films."""
    try:
        films.prepare(is_new=not Instance.objects.exists())
    except OSError as error:
        raise fault_of(checks.Problem("films_unreachable")) from error


def show_running(open_browser: bool) -> str:
    """A second start: open the pages of the first; where they are."""
    address = address_of_running(settings.DATA_DIR, SECOND_START_PATIENCE)
    if address is None:
        raise CannotStart(
            _(
                "The program is already running but does not answer. "
                "Restart the computer, then start the program again."
            ),
            code="does_not_answer",
        )
    if opening := _say_where(address, open_browser):
        opening.join(SECONDS_TO_OPEN)
    return address


def _say_where(address: str, open_browser: bool) -> threading.Thread | None:
    print(_("Open %(address)s in the browser.") % {"address": address}, flush=True)
    return outside.open_page(address) if open_browser else None


@contextlib.contextmanager
def _working(at_work: worker.WorkerThread) -> Iterator[None]:
    at_work.start()
    try:
        yield
    finally:
        at_work.stop()


@contextlib.contextmanager
def _looking_after() -> Iterator[None]:
    """The thorough look at the database, and films that a repair left without a row: beside the
    start, which must not wait for them.
    """
    look = threading.Thread(target=_look_after, name="checks", daemon=True)
    look.start()
    yield


def _look_after() -> None:
    checks.look_at_database()
    done = outcome.read(settings.DATA_DIR)
    if done and not done.seen and (left := repair.films_without_row()):
        words = _("Entered again by the program itself: the film was stored, its data were lost.")
        repair.enter_again(left, words)
    connections.close_all()


@contextlib.contextmanager
def _backing_up() -> Iterator[None]:
    from app.backup.keeper import keeper  # with pyrage, 3 MB that a start must not wait for

    with keeper.kept():
        yield


def _stop(_number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(0)


@contextlib.contextmanager
def stop_on_signals(handler: Callable[[int, FrameType | None], None] = _stop) -> Iterator[None]:
    """Make every polite way of ending a process call ``handler``: raise SystemExit, by default."""
    names = ("SIGTERM", "SIGINT", "SIGBREAK", "SIGHUP")
    before = {
        number: signal.signal(number, handler)
        for number in (getattr(signal, name, None) for name in names)
        if number is not None
    }
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
