"""The load of a busy day: ``python -m tests.bench.load``, also as ``bench --only load``.

So many people browse the worklist, a study and its film, with a pause to look, while two films
arrive in a second; workers analyse them beside it. On ``--database`` (an empty
PostgreSQL) films are analysed by ``--workers`` processes, else by the server's own thread. What is
timed is from the request to the last byte, by a visitor on the same computer.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.bench.figures import MEGABYTE, Figure, environment, resident, under
from tests.district import PROGRAM, many_films
from tests.running import ROOT, Visitor, serving, wait_for

USERS, FILMS = 20, 500
#: A film so many seconds after the one before, or when that is acknowledged: 7,200 an hour.
EVERY = 0.5
#: Seconds that a person looks at a page, at least and at most.
LOOKS = (1.0, 4.0)


@dataclass
class Day:
    """What happened: seconds of each kind of page, and what went wrong."""

    seconds: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    errors: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def visit(self, visitor: Visitor, kind: str, path: str) -> str:
        """Ask for a page and note how long it took."""
        start = time.perf_counter()
        try:
            page = visitor.get(path)
        except (urllib.error.URLError, OSError) as error:
            self.errors.append(f"{kind}: {error}")
            return ""
        self.seconds[kind].append(time.perf_counter() - start)
        return page


def browse(day: Day, visitor: Visitor, seed: int) -> None:
    """One person's day."""
    chance = random.Random(seed)
    day.over.wait(chance.uniform(0, LOOKS[1]))
    while not day.over.is_set():
        page = day.visit(visitor, "worklist", chance.choice(["/", "/?tab=unread", "/?q=film-0"]))
        day.over.wait(chance.uniform(*LOOKS))
        studies = re.findall(r'href="(/studies/[\d-]+/?)"', page)
        if studies and not day.over.is_set():
            study = day.visit(visitor, "study", chance.choice(studies))
            for picture in re.findall(r'"(/films/\d+\.png[^"]*)"', study)[:1]:
                day.visit(visitor, "film", picture.replace("&amp;", "&"))
            day.over.wait(chance.uniform(*LOOKS))


class Sender(Visitor):
    """Whoever puts films in: the page with the form is open all day."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self._token = super().token("/")

    def set_up(self) -> None:
        """Somebody has."""

    def token(self, _page: str) -> str:
        """That of the open page."""
        return self._token


def bring(sender: Sender, films: int, folder: Path) -> None:
    """Put the films in, each when its time has come and the one before is acknowledged."""
    start = time.perf_counter()
    for number, content in enumerate(many_films(films)):
        path = folder / f"film-{number:04}.png"
        path.write_bytes(content)
        time.sleep(max(start + number * EVERY - time.perf_counter(), 0))
        sender.upload(path)
        path.unlink()


def measure(users: int, films: int, database: str, workers: int) -> list[Figure]:
    """The figures of one day."""
    with tempfile.TemporaryDirectory(prefix="clinic-load-") as folder:
        home = Path(folder) / "data"
        surroundings = environment(home)
        if database:
            surroundings |= {"CLINIC_DATABASE_URL": database}
            surroundings |= {"CLINIC_PAGES_ONLY": "yes"} if workers else {}
        with serving(PROGRAM, surroundings) as (visitor, server):
            at_work = [
                subprocess.Popen([*PROGRAM, "worker"], cwd=ROOT, env=surroundings)
                for _ in range(workers if database else 0)
            ]
            try:
                return _one_day(visitor, server, users, films, Path(folder))
            finally:
                for process in at_work:
                    process.terminate()
                    process.wait(timeout=60)


def _one_day(
    visitor: Visitor, server: subprocess.Popen[bytes], users: int, films: int, folder: Path
) -> list[Figure]:
    day = Day()
    people = [
        threading.Thread(target=browse, args=[day, Visitor(visitor.address), seed])
        for seed in range(users)
    ]
    for person in people:
        person.start()
    start = time.perf_counter()
    bring(Sender(visitor.address), films, folder)
    brought = time.perf_counter() - start
    wait_for(lambda: _all_done(visitor), 1800, 1.0)
    seconds = time.perf_counter() - start
    day.over.set()
    for person in people:
        person.join()
    if day.errors:
        log = (folder / "data" / "logs" / "clinic.log").read_text(encoding="utf-8").splitlines()
        said = [line for line in log if " ERROR " in line or line.startswith("Traceback")]
        print(*day.errors[:5], *said[-5:], sep="\n", file=sys.stderr)
    pages = sorted(day.seconds["worklist"] + day.seconds["study"])
    name = f"{users} users, {films} films"
    pictures = len(day.seconds["film"]) if "film" in day.seconds else 0
    print(f"{name}: {len(pages)} pages, {pictures} pictures; films in after "
          f"{brought:.0f} s, answered after {seconds:.0f} s; load {os.getloadavg()[0]:.1f} on "
          f"{psutil.cpu_count()} cores")  # fmt: skip
    return [
        *(
            under(f"{name}: {kind}, 95th percentile", at(sorted(found), 0.95) * 1000, "ms", 300)
            for kind, found in sorted(day.seconds.items())
        ),
        under(f"{name}: pages, 95th percentile", at(pages, 0.95) * 1000, "ms", 300),
        under(f"{name}: pages, median", statistics.median(pages) * 1000, "ms", 300),
        under(f"{name}: errors", len(day.errors), "", 1),
        under(f"{name}: memory of the server", resident(server) / MEGABYTE, "MB", 400),
    ]


def _all_done(visitor: Visitor) -> bool:
    figures = visitor.get("/metrics")
    counts = re.findall(r'^clinic_films\{state="(?:waiting|analysing)"\} (\S+)', figures, re.M)
    return not sum(map(float, counts))


def at(ordered: list[float], share: float) -> float:
    """The value below which that share of them lies."""
    return ordered[int(len(ordered) * share)]


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.bench.load", description=__doc__)
    parser.add_argument("--users", type=int, default=USERS)
    parser.add_argument("--films", type=int, default=FILMS)
    parser.add_argument("--database", default="", help="an empty PostgreSQL; else SQLite")
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    print(*measure(options.users, options.films, options.database, options.workers), sep="\n")


if __name__ == "__main__":
    main()
