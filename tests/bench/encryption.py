"""What encryption costs: ``python -m tests.bench.encryption``.

Two copies of a clinic of N studies (``tests.bench.many``), one of them encrypted by the program
itself. Both serve at once; pages are asked for in turns, so that whatever else goes on hits both.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.running import ROOT, Visitor, free_port, wait_for

PASSPHRASE = "violet harbour nine lanterns"
PAGES = {
    "worklist": "/",
    "worklist, searched, many found": "/?q=Wanjiru",
    "worklist, searched, none found": "/?q=xylophone",
    "counts of the month": "/month",
}
KINDS = ("in the clear", "encrypted")
FILM_BYTES = (1_000_000, 10_000_000, 30_000_000)


def environment(home: Path, passphrase: Path) -> dict[str, str]:
    kept = {n: v for n, v in os.environ.items() if not n.startswith(("CLINIC_", "DJANGO_"))}
    return {**kept, "CLINIC_HOME": str(home), "CLINIC_PASSPHRASE_FILE": str(passphrase)}


@contextmanager
def serving(home: Path, passphrase: Path) -> Iterator[tuple[Visitor, float]]:
    """The server, and the seconds from its start to its first answer."""
    port = free_port()
    words = [sys.executable, "run_clinic.py", "serve", "--no-browser", "--port", str(port)]
    begun = time.monotonic()
    server = subprocess.Popen(
        words, cwd=ROOT, env=environment(home, passphrase), stdout=subprocess.DEVNULL
    )
    visitor = Visitor(f"http://127.0.0.1:{port}")
    try:
        wait_for(lambda: '"ok"' in visitor.get("/healthz") or is_served(visitor), pause=0.02)
        yield visitor, time.monotonic() - begun
    finally:
        server.terminate()
        server.wait(60)


def is_served(visitor: Visitor) -> bool:
    """The page of a start that goes on is answered with 503, which is no answer here."""
    return "Chest films" in visitor.get("/")


def told(name: str, values: dict[str, float], unit: str) -> None:
    figures = "".join(f"{values[kind]:>12.3f} {unit}" for kind in KINDS)
    print(f"{name:<44}{figures}", flush=True)


def p95(values: list[float]) -> float:
    return statistics.quantiles(values, n=20)[-1]


def timed(work: Callable[[], object]) -> float:
    begun = time.monotonic()
    work()
    return time.monotonic() - begun


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=10_000)
    parser.add_argument("--count", type=int, default=200, help="requests for each page")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="bench-encryption-") as folder:
        homes = {kind: Path(folder) / kind.replace(" ", "-") for kind in KINDS}
        passphrase = Path(folder) / "passphrase"
        passphrase.write_text(PASSPHRASE)
        clear, encrypted = homes.values()
        words = ["-m", "tests.bench.many", "--studies", str(options.studies)]
        subprocess.run(
            [sys.executable, *words], cwd=ROOT, check=True, env=environment(clear, passphrase)
        )
        shutil.copytree(clear, encrypted)
        films(Path(folder))
        with serving(clear, passphrase) as (visitor, _):
            visitor.set_up()
        prepare(encrypted)
        with serving(encrypted, passphrase) as (visitor, seconds):
            print(f"first start, which encrypts the database: {seconds:.1f} s")
            visitor.set_up()
        size = {
            kind: (home / "clinic.sqlite3").stat().st_size / 1e6 for kind, home in homes.items()
        }
        told("database", size, "MB")
        starts(homes, passphrase)
        pages(homes, passphrase, options.count)


def prepare(home: Path) -> None:
    """As the page of the settings leaves it."""
    from app.vault import note

    seconds = []
    for _ in range(5):
        kept, _line = note.make(PASSPHRASE)
        seconds.append(timed(lambda kept=kept: kept.opened(PASSPHRASE)))  # type: ignore[misc]
    print(f"from passphrase to keys (Argon2id): {statistics.median(seconds):.2f} s")
    note.write(home, kept)


def starts(homes: dict[str, Path], passphrase: Path) -> None:
    """Five of each, in turns."""
    found: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for _ in range(5):
        for kind, home in homes.items():
            with serving(home, passphrase) as (_visitor, seconds):
                found[kind].append(seconds)
    told("start to first answer, median", {k: statistics.median(v) for k, v in found.items()}, "s")


def pages(homes: dict[str, Path], passphrase: Path, count: int) -> None:
    """Each page so many times, in turns."""
    with ExitStack() as held:
        visitors = {
            kind: held.enter_context(serving(home, passphrase))[0] for kind, home in homes.items()
        }
        for name, path in PAGES.items():
            found: dict[str, list[float]] = {kind: [] for kind in KINDS}
            for turn in range(count + 5):
                for kind, visitor in visitors.items():
                    seconds = timed(lambda v=visitor, p=path: v.get(p))  # type: ignore[misc]
                    if turn >= 5:
                        found[kind].append(seconds * 1000)
            told(f"{name}, median", {k: statistics.median(v) for k, v in found.items()}, "ms")
            told(f"{name}, p95", {k: p95(v) for k, v in found.items()}, "ms")


def films(folder: Path) -> None:
    """Stored as they come in, onto the disk, and read again, from the system's memory."""
    os.environ["CLINIC_HOME"] = str(folder / "films")
    os.environ["DJANGO_SETTINGS_MODULE"] = "app.settings"
    import django

    django.setup()
    from django.conf import settings

    from app import vault
    from app.vault import note

    settings.TEMPORARY_DIR.mkdir(parents=True)
    for size in FILM_BYTES:
        store, read = {}, {}
        for kind in KINDS:
            if kind == KINDS[1]:
                kept, _line = note.make(PASSPHRASE)
                note.write(settings.DATA_DIR, kept.turned_on())
                vault.hold(kept.opened(PASSPHRASE))
            store[kind], read[kind] = stored_and_read(os.urandom(size))
            note.remove(settings.DATA_DIR)
        told(f"a film of {size // 1_000_000} MB stored, median of 15", store, "ms")
        told(f"a film of {size // 1_000_000} MB read, median of 15", read, "ms")


def stored_and_read(content: bytes) -> tuple[float, float]:
    import hashlib
    import io

    from django.conf import settings

    from app import films as kept

    storing, reading = [], []
    for number in range(15):
        film = content + number.to_bytes(4, "big")
        sha256, temporary = hashlib.sha256(film).hexdigest(), settings.TEMPORARY_DIR / "film"
        storing.append(
            timed(lambda: (kept.receive(io.BytesIO(film), temporary), kept.keep(temporary, sha256)))  # noqa: B023
        )
        with kept.local(sha256) as _:
            pass

        def read(sha256: str = sha256) -> None:
            with kept.local(sha256) as stored:
                assert len(stored if isinstance(stored, bytes) else stored.read_bytes())

        reading.append(timed(read))
    return statistics.median(storing) * 1000, statistics.median(reading) * 1000


if __name__ == "__main__":
    main(sys.argv[1:])
