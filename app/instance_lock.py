"""One program for each data directory: the lock, and where the one that holds it can be found.

The lock is the operating system's and ends with its process, however that ended; the file
``instance.json`` only says where to look.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import IO

LOCK = "clinic.lock"
INSTANCE = "instance.json"
HEALTH_KEYS = {"status", "version", "model"}


class AlreadyRunning(Exception):
    """Another process holds the lock."""


class InstanceLock:
    """Held from start to end by the one server of a data directory."""

    def __init__(self, data_directory: Path) -> None:
        self._directory = data_directory
        self._file: IO[bytes] | None = None

    def __enter__(self) -> InstanceLock:
        file = (self._directory / LOCK).open("ab")
        try:
            lock_file(file)
        except OSError as error:
            file.close()
            raise AlreadyRunning from error
        self._file = file
        # Whatever it says was said by a process that has ended
        (self._directory / INSTANCE).unlink(missing_ok=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        (self._directory / INSTANCE).unlink(missing_ok=True)
        if self._file:
            self._file.close()

    def announce(self, host: str, port: int) -> None:
        """Say where the pages are served."""
        write_atomically(
            self._directory / INSTANCE,
            json.dumps({"pid": os.getpid(), "host": host, "port": port}),
        )


def address_of_running(data_directory: Path, patience: float) -> str | None:
    """Where the program that holds the lock answers; None when it does not within ``patience``.

    It may be starting at this very moment: a double-click is often two.
    """
    deadline = time.monotonic() + patience
    while True:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            said = json.loads((data_directory / INSTANCE).read_text(encoding="utf-8"))
            address = page_address(str(said["host"]), int(said["port"]))
            if _is_healthy(address):
                return address
        if time.monotonic() > deadline:
            return None
        time.sleep(0.1)


def page_address(host: str, port: int) -> str:
    """The address of the first page."""
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def write_atomically(path: Path, text: str) -> None:
    """A reader sees the old text or the new, never half of it."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.new")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def _is_healthy(address: str) -> bool:
    # No proxy: a clinic's network may have one, and this is our own computer
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{address}healthz", timeout=2) as response:
            answer = json.load(response)
    except (OSError, ValueError, urllib.error.URLError):
        return False
    return isinstance(answer, dict) and answer.keys() >= HEALTH_KEYS


if sys.platform == "win32":
    import msvcrt

    def lock_file(file: IO[bytes]) -> None:
        """Lock an open file until it is closed; raises OSError where another process has it."""
        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def lock_file(file: IO[bytes]) -> None:
        """Lock an open file until it is closed; raises OSError where another process has it."""
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
