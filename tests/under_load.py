"""A clinic under all its loads at once, and what must be true of it whenever it dies."""

from __future__ import annotations

import hashlib
import itertools
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset

from model_export import phantom
from tests import films
from tests.clinics import PASSPHRASE
from tests.peers import listens
from tests.running import ROOT, Visitor, free_port, wait_for
from tests.sending import Unit, open_node

DATABASE = "clinic.sqlite3"
FINISHED = {"answered", "refused"}
UNFINISHED = {"waiting", "analysing"}
#: What people and units wait before they try again.
PAUSE = 0.2
#: A unit whose receiver was killed does not notice: this is what it waits.
UNIT_PATIENCE = 3.0
#: Films on one association.
FILMS_AT_ONCE = 8


def lot() -> random.Random:
    """Chance, whose seed is printed where the test fails; CXR_TEST_SEED repeats it."""
    seed = int(os.environ.get("CXR_TEST_SEED", "0")) or random.randrange(1, 2**32)
    print(f"CXR_TEST_SEED={seed}")
    return random.Random(seed)


# --- films ---------------------------------------------------------------------------------------


@cache
def _shape(size: int) -> np.ndarray:
    return phantom.chest_film(seed=1, size=(size, size))


def pictures(size: int = 256) -> Iterator[bytes]:
    """Chest films as PNG, no two alike."""
    for number in itertools.count():
        pixels = np.roll(_shape(size), number)
        pixels[0, :4] = np.frombuffer(number.to_bytes(4, "big"), np.uint8)
        yield films.encode(pixels, "PNG")


def datasets(size: int = 256) -> Iterator[Dataset]:
    """Chest films of their own studies, 12 bits deep, no two alike."""
    for number in itertools.count():
        pixels = np.roll(_shape(size).astype(np.uint16) * 16, number)
        pixels[0, :2] = divmod(number, 4096)
        yield films.dataset(pixels, 12)


class Shared:
    """An iterator that several threads take from."""

    def __init__(self, of: Iterator[Any]) -> None:
        self._of, self._lock = of, threading.Lock()

    def next(self) -> Any:
        with self._lock:
            return next(self._of)


# --- the program ---------------------------------------------------------------------------------


def environment(home: Path, more: Mapping[str, str] | None = None) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CLINIC_")}
    return {**kept, "CLINIC_HOME": str(home), **(more or {})}


class Program:
    """The real program on the same two ports, start after start: each in a process group of its
    own, which is killed as a whole. ``before``: what its command is put behind. ``seen_as``: its
    data directory, where a test sees it elsewhere.
    """

    def __init__(
        self,
        home: Path,
        log: Path,
        before: Sequence[str] = (),
        seen_as: Path | None = None,
        **settings: str,
    ) -> None:
        self.home, self.before = seen_as or home, before
        self.port, self.dicom_port = free_port(), free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        #: What the last start took.
        self.seconds_to_open = 1.0
        self._environment, self._log = environment(home, settings), log
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        assert self.has_ended()
        port = str(self.port)
        self.process = self._open(
            [*self.before, *self._words("serve", "--no-browser", "--port", port)], process_group=0
        )

    def beside(self, *words: str, **more: Any) -> subprocess.Popen[bytes]:
        """Another command on the same data, which dies with the program; raises OSError."""
        assert self.process
        return self._open(self._words(*words), process_group=self.process.pid, **more)

    def is_open(self) -> bool:
        """Whether pages and node answer."""
        with suppress(OSError):
            return bool(Visitor(self.address).get("/healthz")) and listens(self.dicom_port)
        return False

    def wait_until_open(self) -> bool:
        """False where it stopped instead."""
        began = time.monotonic()
        wait_for(lambda: self.has_ended() or self.is_open(), pause=0.05)
        self.seconds_to_open = time.monotonic() - began
        return not self.has_ended()

    def has_ended(self) -> bool:
        return self.process is None or self.process.poll() is not None

    def wait_for_answers(self, seconds: float = 600) -> None:
        """Until no film waits any more."""
        visitor = Visitor(self.address)
        waits = re.compile(r'clinic_films\{state="(waiting|analysing)"\} [1-9]')

        def none_waits() -> bool:
            assert not self.has_ended(), "the program has stopped"
            return not waits.search(visitor.get("/metrics"))

        wait_for(none_waits, seconds)

    def kill(self) -> None:
        """As a power cut: no process of the group does anything more."""
        if self.process:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def stop(self) -> int:
        assert self.process
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)

    def set_up(self) -> None:
        """The first start of all: a clinic without log-in, whose X-ray unit is entered."""
        self.start()
        visitor = Visitor(self.address)
        wait_for(lambda: self.has_ended() or visitor.get("/healthz"), pause=0.05)
        visitor.set_up()
        open_node(visitor, self.dicom_port)
        assert self.wait_until_open()

    def migrate_back(self, to: str) -> None:
        """The database as an earlier version left it, for the next start to migrate."""
        words = [sys.executable, "-m", "django", "migrate", "clinic", to, "-v", "0"]
        more = {"DJANGO_SETTINGS_MODULE": "app.settings"}
        subprocess.run(words, cwd=ROOT, env={**self._environment, **more}, check=True)

    def _words(self, *words: str) -> list[str]:
        return [sys.executable, "run_clinic.py", *words]

    def _open(self, words: Sequence[str], **more: Any) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            given: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": log, **more}
            return subprocess.Popen(words, cwd=ROOT, env=self._environment, **given)


class SmallDisk:
    """A file system in memory, of so many megabytes, in a namespace that needs no rights (user
    namespaces), and is gone with the process that holds it. ``before`` puts a command into it.
    """

    def __init__(self, at: Path, megabytes: int) -> None:
        at.mkdir()
        mount = f"mount -t tmpfs -o size={megabytes}m none {at} && echo there && exec sleep 3600"
        words = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount]
        self._holder = subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, process_group=0
        )
        assert self._holder.stdout
        assert self._holder.stderr
        if self._holder.stdout.readline() != b"there\n":
            pytest.skip(f"no disk can be mounted here: {self._holder.stderr.read().decode()}")
        pid = self._holder.pid
        #: The same folder as the program inside and as a test outside knows it.
        self.inside, self.outside = at, Path(f"/proc/{pid}/root{at}")
        self.before = ["nsenter", "--preserve-credentials", f"--target={pid}"]
        self.before += ["--user", "--mount", f"--wd={ROOT}"]
        self._filler = self.outside / "a film of somebody's holidays"

    def fill(self, left: int = 0) -> None:
        """Leave so many bytes, or whatever is left if that is less."""
        with self._filler.open("ab", buffering=0) as filler, suppress(OSError):
            while (room := shutil.disk_usage(self.outside).free - left) > 0:
                filler.write(bytes(min(room, 1024**2)))

    def clear(self) -> None:
        self._filler.unlink(missing_ok=True)

    def close(self) -> None:
        self._holder.kill()
        self._holder.wait()


class FailingDisk:
    """Calls of the program that fail now and then, as on a disk that is breaking: strace answers
    instead of the kernel, which does nothing. ``before`` is drawn anew for each start.
    """

    #: By call: the error, and the ranges from which first and step are drawn. Counted in each
    #: thread: of its calls the first that fails, and then every so many. A start needs 7 fdatasync
    #: and 31 pwrite64.
    CALLS = {
        "fsync": ("EIO", (1, 12), (2, 8)),
        "fdatasync": ("EIO", (6, 20), (3, 20)),
        "pwrite64": ("ENOSPC", (25, 150), (5, 60)),
        "rename": ("EIO", (2, 8), (2, 8)),
        "ftruncate": ("EIO", (1, 5), (1, 5)),
    }

    def __init__(self, log: Path, chance: random.Random) -> None:
        if not shutil.which("strace"):
            (pytest.fail if os.environ.get("CI") else pytest.skip)("no strace on this machine")
        self._log, self._chance = log, chance

    def before(self) -> list[str]:
        """What a command is put behind."""
        words = ["strace", "-D", "-f", "-qq", "--seccomp-bpf", "-A", "-o", str(self._log)]
        for call, (error, *ranges) in self.CALLS.items():
            first, step = (self._chance.randint(*one) for one in ranges)
            words += ["-e", f"inject={call}:error={error}:when={first}+{step}"]
        return [*words, "-e", f"trace={','.join(self.CALLS)}"]

    def failed(self) -> Counter[str]:
        """How often each call has failed."""
        words = self._log.read_text("utf-8", "replace") if self._log.exists() else ""
        return Counter(re.findall(r"(\w+)\(.*\(INJECTED\)", words))


# --- those who send ------------------------------------------------------------------------------


class People:
    """At the page, sending film after film. ``acknowledged``: the digests of their films."""

    def __init__(self, address: str, of: Iterator[bytes], count: int = 2) -> None:
        self.acknowledged: set[str] = set()
        #: How often each answer came that was no acknowledgement: a status, or the page's words.
        self.refused: Counter[str] = Counter()
        self._address, self._films = address, Shared(of)
        self.enough, self.given_up = threading.Event(), threading.Event()
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(count)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def finish(self, seconds: float = 120) -> None:
        """Begin no other film, and wait until those begun are acknowledged."""
        self.enough.set()
        ended = all(not _joined(thread, seconds) for thread in self._threads)
        assert ended, f"a film is not taken in: {self.refused}"

    def _work(self) -> None:
        visitor = Visitor(self._address)
        while not self.enough.is_set():
            content = self._films.next()
            while not self._send(visitor, content):
                if self.given_up.wait(PAUSE):
                    return
            self.acknowledged.add(hashlib.sha256(content).hexdigest())

    def _send(self, visitor: Visitor, content: bytes) -> bool:
        try:
            told = visitor.send("film.png", content)
        except urllib.error.HTTPError as refusal:
            self.refused[str(refusal.code)] += 1
            return False
        except (OSError, HTTPException, ValueError, AssertionError):  # nobody there, or half a page
            return False
        if told["error"]:
            self.refused[str(told["error"])] += 1
        return not told["error"]


class BusyUnit(Unit):
    """An X-ray unit that always has another film."""

    def __init__(self, port: int, of: Iterator[Dataset], associations: int = 3) -> None:
        super().__init__(port, [], associations, patience=UNIT_PATIENCE)
        self._films = Shared(of)
        self.enough, self.given_up = threading.Event(), threading.Event()

    def finish(self, seconds: float = 120) -> None:
        """Begin no other film, and wait until those begun are acknowledged."""
        self.enough.set()
        ended = all(not _joined(thread, seconds) for thread in self._threads)
        assert ended, f"a film is not taken in: {[hex(one) for one in set(self.refused)]}"

    def _send(self, _films: Sequence[Dataset]) -> None:
        while not self.enough.is_set():
            waiting = [self._films.next() for _ in range(FILMS_AT_ONCE)]
            while waiting := self._send_what_waits(waiting):
                if self.given_up.wait(PAUSE):
                    return


def _joined(thread: threading.Thread, seconds: float) -> bool:
    """Whether it still runs after so long."""
    thread.join(seconds)
    return thread.is_alive()


@dataclass(frozen=True)
class Promised:
    """Films that somebody was told are safe."""

    digests: frozenset[str] = frozenset()
    uids: frozenset[str] = frozenset()

    def __len__(self) -> int:
        return len(self.digests) + len(self.uids)


class Load:
    """People and a unit, both busy."""

    def __init__(self, program: Program, size: int = 256) -> None:
        self.people = People(program.address, pictures(size))
        self.unit = BusyUnit(program.dicom_port, datasets(size))

    def start(self) -> None:
        self.people.start()
        self.unit.start()

    def finish(self) -> None:
        self.unit.enough.set()  # a small disk is full again before the people have finished
        self.people.finish()
        self.unit.finish()

    def give_up(self) -> None:
        """Leave what is not acknowledged unsent, where a test has failed."""
        for one in (self.people, self.unit):
            one.given_up.set()
            one.enough.set()

    @property
    def promised(self) -> Promised:
        # list() of a set is one step, which no other thread comes between
        return Promised(
            frozenset(list(self.people.acknowledged)), frozenset(list(self.unit.acknowledged))
        )


class Backups:
    """``backup`` again and again beside the program, into one folder; every third time the copy of
    every day alone.
    """

    def __init__(self, store: Path, promised: Callable[[], Promised]) -> None:
        self.store, self._promised = store, promised
        #: What had been promised when the last one began that was completed, and how many were.
        self.holds, self.completed = Promised(), 0
        self._line = ""
        self._count = itertools.count(1)
        self._thread = threading.Thread()

    def set_up(self, program: Program) -> None:
        """The first, undisturbed, which says the recovery line."""
        words = ("backup", "--to", str(self.store))
        told = program.beside(*words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        said, _ = told.communicate(PASSPHRASE.encode())
        assert told.returncode == 0
        self._line = next(line for line in said.decode().split() if line.startswith("AGE-SECRET"))

    def go_on(self, program: Program) -> None:
        """Until the program is no longer there."""
        self._thread = threading.Thread(target=self._work, args=[program], daemon=True)
        self._thread.start()

    def wait(self) -> None:
        self._thread.join()

    def once(self, program: Program) -> int:
        """A whole one; its exit status."""
        holds = self._promised()
        status = program.beside("backup", "--to", str(self.store)).wait()
        if status == 0:
            self.holds, self.completed = holds, self.completed + 1
        return status

    def restore(self, target: Path) -> None:
        words = [sys.executable, "run_clinic.py", "restore", str(self.store), "--to", str(target)]
        run = subprocess.run(
            words, cwd=ROOT, env=environment(target), input=self._line.encode(), check=False
        )
        assert run.returncode == 0, "the backup does not restore"

    def _work(self, program: Program) -> None:
        with suppress(OSError):  # its group is gone
            while not program.has_ended():
                if next(self._count) % 3:
                    self.once(program)
                else:
                    program.beside("backup").wait()


# --- what must be true ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """A film as the database has it."""

    sha256: str
    uid: str
    state: str
    findings: int


def faults(home: Path, promised: Promised) -> list[str]:
    """What is wrong with a clinic in which no program runs."""
    databases = [home / DATABASE, *(home / "backups").glob("*.sqlite3")]
    if found := [fault for database in databases for fault in _not_whole(database)]:
        return found
    rows = read(home)
    found = [fault for row in rows if (fault := _fault_of(home, row))]
    return [*found, *_broken(promised, rows)]


def unanswered(home: Path) -> list[Row]:
    """Films that have no answer, in a clinic in which no program runs."""
    return [row for row in read(home) if row.state not in FINISHED]


def strays(home: Path) -> set[str]:
    """What lies where films are, and is none that the database knows."""
    there = {path.name for path in (home / "films").rglob("*") if path.is_file()}
    return there - {row.sha256 for row in read(home)}


@contextmanager
def opened(database: Path) -> Iterator[sqlite3.Connection]:
    """A copy of a database, with its write-ahead log: that stays as it was left."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / database.name
        for name in (copy.name, f"{copy.name}-wal"):
            with suppress(FileNotFoundError):
                shutil.copyfile(database.with_name(name), copy.with_name(name))
        with closing(sqlite3.connect(copy)) as connected:
            yield connected


def read(home: Path) -> list[Row]:
    """All films."""
    question = (
        "SELECT i.sha256, i.sop_instance_uid, i.state, COUNT(f.id) FROM clinic_instance i "
        "LEFT JOIN clinic_finding f ON f.instance_id = i.id GROUP BY i.id"
    )
    with opened(home / DATABASE) as copy:
        return [Row(*row) for row in copy.execute(question)]


def _not_whole(database: Path) -> list[str]:
    try:
        with opened(database) as copy:
            said = [str(row[0]) for row in copy.execute("PRAGMA integrity_check")]
            loose = copy.execute("PRAGMA foreign_key_check").fetchall()
    except sqlite3.DatabaseError as error:
        said, loose = [str(error)], []
    found = [] if said == ["ok"] else said
    return [f"{database.name}: {fault}" for fault in [*found, *map(str, loose)]]


def _fault_of(home: Path, row: Row) -> str:
    file = home / "films" / row.sha256[:2] / row.sha256
    if not file.is_file():
        return f"{row}: has no file"
    if hashlib.sha256(file.read_bytes()).hexdigest() != row.sha256:
        return f"{row}: its file is not what came in"
    answered = row.state in FINISHED and row.findings == 1
    waits = row.state in UNFINISHED and not row.findings
    return "" if answered or waits else f"{row}: has no answer, nor waits for one"


def _broken(promised: Promised, rows: Sequence[Row]) -> list[str]:
    """Promises that were not kept: each film is there, once."""
    digests, uids = Counter(row.sha256 for row in rows), Counter(row.uid for row in rows)
    return [
        *(f"{one}: {digests[one]} times" for one in promised.digests if digests[one] != 1),
        *(f"{one}: {uids[one]} times" for one in promised.uids if uids[one] != 1),
    ]
