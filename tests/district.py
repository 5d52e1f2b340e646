"""Several machines on one PostgreSQL: real processes, each with a data directory of its own."""

from __future__ import annotations

import io
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
from PIL import Image

from model_export import phantom
from tests.running import ROOT, Visitor, serving

PROGRAM = [sys.executable, "run_clinic.py"]
KEYS = ("secret.key", "audit.key")
UNFINISHED = ("waiting", "analysing")


class District:
    """A database, a folder of films that machines share, and the machines."""

    def __init__(self, folder: Path, url: str, **settings: str) -> None:
        self.folder, self.url = folder, url
        self.share = folder / "share"
        self.share.mkdir()
        self._settings = {"CLINIC_FILM_STORAGE": str(self.share), **settings}
        self.first = folder / "first"

    def environment(self, home: Path, **more: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("CLINIC_")}
        ours = {
            "CLINIC_HOME": str(home),
            "CLINIC_DATABASE_URL": self.url,
            "CLINIC_MIN_FREE_MB": "0",
        }
        return {**kept, **ours, **self._settings, **more}

    def machine(self, name: str) -> Path:
        """The data directory of a further machine, with the keys of the first."""
        home = self.folder / name
        home.mkdir(exist_ok=True)
        for key in KEYS:
            shutil.copy(self.first / key, home / key)
        return home

    def run(
        self, *words: str, home: Path | None = None, **more: Any
    ) -> subprocess.CompletedProcess:
        environment = self.environment(home or self.first)
        return subprocess.run([*PROGRAM, *words], cwd=ROOT, env=environment, capture_output=True,
                              text=True, check=False, **more)  # fmt: skip

    @contextmanager
    def serving(self, home: Path | None = None, set_up: bool = True,
                **more: str) -> Iterator[Visitor]:  # fmt: skip
        environment = self.environment(home or self.first, **more)
        with serving(PROGRAM, environment, set_up=set_up) as (visitor, _):
            yield visitor

    def worker(self, name: str) -> subprocess.Popen[bytes]:
        environment = self.environment(self.machine(name))
        return subprocess.Popen([*PROGRAM, "worker"], cwd=ROOT, env=environment)

    def ask(self, question: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url) as connection:
            return connection.execute(question).fetchall()

    def states(self) -> Mapping[str, int]:
        return dict(self.ask("SELECT state, count(*) FROM clinic_instance GROUP BY state"))

    def unfinished(self) -> int:
        states = self.states()
        return sum(states.get(state, 0) for state in UNFINISHED)

    def findings_of_each_film(self) -> list[int]:
        counted = self.ask(
            "SELECT count(f.id) FROM clinic_instance i "
            "LEFT JOIN clinic_finding f ON f.instance_id = i.id GROUP BY i.id"
        )
        return [count for (count,) in counted]


def many_films(count: int) -> Iterator[bytes]:
    """Films of one chest that differ in their first pixels: drawing each would take longest."""
    drawn = phantom.chest_film(1, (512, 512))
    for number in range(count):
        film = np.array(drawn)
        film[0, 0], film[0, 1] = number % 256, number // 256
        file = io.BytesIO()
        Image.fromarray(film).save(file, "PNG", compress_level=1)
        yield file.getvalue()


def kill(process: subprocess.Popen[bytes]) -> None:
    """As a power cut ends it."""
    process.send_signal(signal.SIGKILL)
    process.wait()


def token_of(page: str) -> str:
    """The form token of a page."""
    found = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
    assert found
    return found[1]
