"""A PostgreSQL server of the tests' own, as Debian packages it: for a while, on a socket alone."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

PACKAGED = Path("/usr/lib/postgresql")
USER = "clinic"
# Nothing here has to outlive a power cut
QUICK = "-c fsync=off -c synchronous_commit=off -c full_page_writes=off -c max_connections=60"


def program(name: str) -> str | None:
    """The newest one that Debian has installed."""
    newest = sorted(PACKAGED.glob(f"*/bin/{name}"), key=lambda path: float(path.parts[-3]))
    return str(newest[-1]) if newest else shutil.which(name)


def required() -> None:
    """Skip where there is no PostgreSQL; CI must have it."""
    if not program("initdb"):
        if os.environ.get("CI"):
            pytest.fail("no PostgreSQL on this machine: .ci/run installs it")
        pytest.skip("no PostgreSQL on this machine (Debian: apt-get install postgresql)")


class Server:
    """A running server, to make databases on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def url(self, database: str) -> str:
        return f"postgresql://{USER}@/{database}?host={quote(str(self.folder), safe='')}"

    def create(self, database: str) -> str:
        """A new empty database; its address."""
        self._run("createdb", "-h", str(self.folder), "-U", USER, database)
        return self.url(database)

    def drop(self, database: str) -> None:
        self._run("dropdb", "-h", str(self.folder), "-U", USER, "--force", database)

    def start(self) -> None:
        options = f"-c listen_addresses= -c unix_socket_directories={self.folder} {QUICK}"
        log = str(self.folder / "log")
        self._run("pg_ctl", "-D", self._data, "-l", log, "-w", "-o", options, "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-D", self._data, "-m", "immediate", "-w", "stop")

    def make(self) -> None:
        self._run("initdb", "-D", self._data, "-U", USER, "-A", "trust", "-E", "UTF8",
                  "--locale=C.UTF-8", "--no-sync")  # fmt: skip

    @property
    def _data(self) -> str:
        return str(self.folder / "data")

    def _run(self, name: str, *arguments: str) -> None:
        # The server refuses to be run by root
        as_user: dict[str, Any] = (
            {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}
        )
        found = program(name)
        assert found, name
        subprocess.run([found, *arguments], check=True, stdout=subprocess.DEVNULL,
                       cwd=self.folder, **as_user)  # fmt: skip


@contextmanager
def serving() -> Iterator[Server]:
    """A server in a folder of its own, gone at the end."""
    folder = Path(tempfile.mkdtemp(prefix="clinic-pg-"))
    try:
        if os.geteuid() == 0:
            owner = pwd.getpwnam("postgres")
            os.chown(folder, owner.pw_uid, owner.pw_gid)
        folder.chmod(0o755)
        server = Server(folder)
        server.make()
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
