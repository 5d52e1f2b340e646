"""A Windows to try the bundle on: Wine's on Linux; on Windows itself, the real one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.running import ROOT, Visitor, free_port, wait_for

REAL = sys.platform == "win32"
# A name as people have them: it becomes part of every path of this user
USER = "Сара ክሊኒክ Ö"
# Built beside the bundle where this CPU has AMX (packaging/windows/tiles.c says what for)
TILES = ROOT / "build" / "windows" / "tiles.so"
# What Windows has and Wine 8 has not (packaging/windows/bcryptprimitives.c)
RANDOM = ROOT / "build" / "windows" / "bcryptprimitives.dll"


@dataclass(frozen=True)
class Told:
    """How a program ended, and what it said."""

    returncode: int
    stdout: str


class Started:
    """A program that runs, and what it says.

    Through a pipe, for under Wine no Python starts with a file for its output; and read beside it
    instead of to the end, which does not come: Wine's own services, whoever starts first starts
    them, keep the pipe open.
    """

    def __init__(self, words: list[str], environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            words,
            env=environment,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._said = bytearray()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def wait(self, seconds: float) -> Told:
        """Its end."""
        code = self.process.wait(timeout=seconds)
        self._listener.join(timeout=1)
        return Told(code, self._said.decode("utf-8", errors="replace"))

    def _listen(self) -> None:
        assert self.process.stdout
        while part := self.process.stdout.read1():  # type: ignore[attr-defined]
            self._said += part


class Windows:
    """One user of one Windows: what it runs, and where it keeps things."""

    def __init__(self, world: Path, display: str) -> None:
        self.world = world
        self.prefix = world / "prefix"
        self.environment = {**os.environ} if REAL else self._of_wine(display)
        if REAL:
            return
        (world / "home").mkdir(parents=True)
        self._tool("wineboot", "-i")
        self._tool("wine", "winecfg", "-v", "win10")
        self._tool("wineserver", "-w")
        shutil.copy2(RANDOM, self.prefix / "drive_c" / "windows" / "system32")
        self._tool("wineserver", "-p")  # stays until told to go, which makes all starts alike

    def close(self) -> None:
        """End everything that still runs in there."""
        if REAL:
            for process in self.programs():
                process.kill()
        else:
            subprocess.run(["wineserver", "-k"], env=self.environment, check=False)

    @property
    def profile(self) -> Path:
        """The user's own folder, as this system finds it."""
        return Path.home() if REAL else self.prefix / "drive_c" / "users" / USER

    @property
    def local(self) -> Path:
        """%LOCALAPPDATA%."""
        return self.profile / "AppData" / "Local"

    def unpacked(self) -> list[Path]:
        """What portable programs have unpacked."""
        folders = (self.local / "Temp", self.profile / "Temp")
        return sorted(found for folder in folders for found in folder.glob("_MEI*"))

    @staticmethod
    def path(path: Path) -> str:
        """A path as Windows names it: Wine shows the root of Linux as Z:."""
        return str(path) if REAL else "Z:" + str(path).replace("/", "\\")

    def run(self, *words: object, **environment: str) -> Told:
        """A program from start to end, whatever its exit code."""
        return self._start(words, environment).wait(seconds=300)

    @contextmanager
    def serving(
        self, program: Path, home: Path | None, *words: str
    ) -> Iterator[tuple[Visitor, subprocess.Popen[bytes]]]:
        """The program double-clicked, and quit by closing its window."""
        port = free_port()
        settings = {"CLINIC_HOME": self.path(home)} if home else {}
        started = self._start([program, *words, "--port", port], settings)
        server = started.process
        visitor = Visitor(f"http://127.0.0.1:{port}")
        try:
            wait_for(lambda: server.poll() is not None or visitor.get("/healthz"))
            assert server.poll() is None, f"stopped at its start: {started.wait(1).stdout}"
            yield visitor, server
            self.close_windows(program)
            server.wait(timeout=60)
        finally:
            for process in self.programs():
                with suppress(psutil.Error):
                    process.kill()
            server.wait(timeout=60)

    def close_windows(self, program: Path) -> None:
        """What a click on the cross of a program's window does."""

        def closed() -> bool:
            self.run("taskkill", "/IM", program.name)
            _gone, alive = psutil.wait_procs(self.programs(), timeout=5)
            return not alive

        wait_for(closed, seconds=60)

    def programs(self) -> list[psutil.Process]:
        """The clinic's programs that run in this Windows."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                words = process.cmdline()
                if words and Path(words[0].replace("\\", "/")).name.startswith("Clinic"):
                    found.append(process)
        return [process for process in found if REAL or self._is_ours(process)]

    def _start(self, words: Sequence[object], environment: Mapping[str, str]) -> Started:
        command = [*([] if REAL else ["wine"]), *(str(word) for word in words)]
        return Started(command, {**self.environment, **environment})

    def _is_ours(self, process: psutil.Process) -> bool:
        with suppress(psutil.Error):
            return process.environ().get("WINEPREFIX") == str(self.prefix)
        return False

    def _of_wine(self, display: str) -> dict[str, str]:
        """Nothing of this system's own settings or folders is seen in there."""
        return {
            "PATH": "/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "HOME": str(self.world / "home"),
            "USER": USER,
            "LOGNAME": USER,
            "DISPLAY": display,
            "WINEPREFIX": str(self.prefix),
            "WINEARCH": "win64",
            "WINEDEBUG": "-all",
            # No offer to download a browser engine or .NET, no browser opened on this system and
            # no entries in its menu
            "WINEDLLOVERRIDES": "mscoree,mshtml,winebrowser.exe,winemenubuilder.exe=",
            **({"LD_PRELOAD": str(TILES)} if TILES.is_file() else {}),
        }

    def _tool(self, *words: str) -> None:
        # Not into a pipe: Wine's server, which they start, would hold it open
        subprocess.run(
            words,
            env=self.environment,
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
