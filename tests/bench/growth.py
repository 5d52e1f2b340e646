"""How cost grows with the years: ``python -m tests.bench.growth --studies 1000 10000 …``.

For each number of studies a database is filled (``tests.bench.many``), and a start of the real
server, its pages and the daily copy are timed on it: a table for docs/scaling.md. With
``--postgresql`` on a server of its own (Debian: postgresql), whose copies are its keeper's.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import psycopg

from tests import postgres
from tests.bench.bench import percentile_95, worked, worklist_addresses
from tests.bench.figures import MEGABYTE, environment
from tests.district import PROGRAM
from tests.running import ROOT, Visitor, serving

STUDIES = (1_000, 10_000, 100_000, 1_000_000)
REQUESTS = 40
#: What a clinic looks at all day, and the searches that cost most.
PAGES = {
    "first page": "first page",
    "last page": "last page",
    "search, common": "search, common word",
    "search, nobody": "search, absent word",
    "open page asks": "what an open page asks for",
    "a study": "a study",
}


def seconds_of(work: Callable[[], object]) -> float:
    """How long it takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(studies: int, home: Path, surroundings: dict[str, str]) -> dict[str, str]:
    """One row of the table."""
    words = [sys.executable, "-m", "tests.bench.many", "--studies", str(studies)]
    subprocess.run(words, cwd=ROOT, env=surroundings, check=True)
    row = {"studies": f"{studies:,}"}
    url = surroundings.get("CLINIC_DATABASE_URL", "")
    row |= _server_size(url) if url else _file_costs(home / "clinic.sqlite3")
    start = time.perf_counter()
    with serving(PROGRAM, surroundings) as (visitor, server):
        row["start"] = f"{time.perf_counter() - start:.1f} s"
        known = worklist_addresses(studies, visitor)
        for heading, name in PAGES.items():
            row[heading] = _page(visitor, server, known[name])
    return row


def _page(visitor: Visitor, server: subprocess.Popen[bytes], address: str) -> str:
    before = worked(server)
    taken = [seconds_of(lambda: visitor.get(address)) for _ in range(REQUESTS)]
    each = (worked(server) - before) / REQUESTS
    return f"{percentile_95(taken) * 1000:.0f} ({each * 1000:.0f})"


def _file_costs(file: Path) -> dict[str, str]:
    copy = file.with_name("copy.sqlite3")
    with (
        contextlib.closing(sqlite3.connect(file)) as database,
        contextlib.closing(sqlite3.connect(copy)) as target,
    ):
        check = seconds_of(lambda: database.execute("PRAGMA quick_check").fetchone())
        copied = seconds_of(lambda: database.backup(target))
    copy.unlink()
    return {
        "database": f"{file.stat().st_size / MEGABYTE:,.0f} MB",
        "checked at a start": f"{check:.1f} s",
        "daily copy": f"{copied:.1f} s",
    }


def _server_size(url: str) -> dict[str, str]:
    with psycopg.connect(url) as connection:
        found = connection.execute("SELECT pg_database_size(current_database())").fetchone()
    assert found
    return {"database": f"{found[0] / MEGABYTE:,.0f} MB"}


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.bench.growth", description=__doc__)
    parser.add_argument("--studies", type=int, nargs="+", default=STUDIES)
    parser.add_argument("--postgresql", action="store_true", help="instead of SQLite")
    options = parser.parse_args()
    with contextlib.ExitStack() as open_until_the_end:
        server = (
            open_until_the_end.enter_context(postgres.serving()) if options.postgresql else None
        )
        for number, studies in enumerate(options.studies):
            with tempfile.TemporaryDirectory(prefix="clinic-growth-") as folder:
                surroundings = environment(Path(folder))
                if server:
                    surroundings["CLINIC_DATABASE_URL"] = server.create(f"growth{number}")
                row = measure(studies, Path(folder), surroundings)
            if not number:
                print("| " + " | ".join(row) + " |", "|---" * len(row) + "|", sep="\n")
            print("| " + " | ".join(row.values()) + " |", flush=True)
    print(f"load {os.getloadavg()[0]:.1f} on {psutil.cpu_count()} cores", file=sys.stderr)


if __name__ == "__main__":
    main()
