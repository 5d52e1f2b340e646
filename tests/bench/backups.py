"""What a backup of many films takes, and the way back: ``python -m tests.bench.backups``.

Films are drawn by code (1024x1024 JPEG), each made another file by some bytes at its end. The stick
is a folder of the same disk, so the times are those of reading, encrypting and fsync, not of USB.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
ROWS_AT_ONCE = 1000


def measured(name: str, work: Callable[[], T], films: int) -> T:
    begun = time.monotonic()
    result = work()
    seconds = time.monotonic() - begun
    print(f"{name:<44}{seconds:>9.1f} s{films / seconds:>10.0f} films/s", flush=True)
    return result


def enter(count: int, data: Path) -> None:
    """Rows and files as the intake leaves them, without what an analysis costs."""
    from app import films
    from app.models import Instance, Study
    from model_export.phantom import chest_film
    from tests.films import encode

    drawn = [encode(chest_film(seed, (1024, 1024)), "JPEG") for seed in range(8)]
    studies, rows = [], []
    for number in range(count):
        content = drawn[number % len(drawn)] + number.to_bytes(4, "big")
        sha256 = hashlib.sha256(content).hexdigest()
        path = data / films.name_of(sha256)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        studies.append(Study(number=f"20260101-{number:05d}", status="answered"))
        rows.append((sha256, len(content)))
    Study.objects.bulk_create(studies, batch_size=ROWS_AT_ONCE)
    Instance.objects.bulk_create(
        [
            Instance(
                study=study,
                file_name="film.jpg",
                source="folder",
                sha256=sha256,
                size_bytes=size,
                film=films.name_of(sha256),
                state="answered",
                batch_at=study.created_at,
            )
            for study, (sha256, size) in zip(studies, rows, strict=True)
        ],
        batch_size=ROWS_AT_ONCE,
    )


def size_of(folder: Path) -> float:
    """Megabytes."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--films", type=int, default=10_000)
    count = parser.parse_args(arguments).films
    with tempfile.TemporaryDirectory(prefix="bench-backups-") as folder:
        home, stick = Path(folder) / "home", Path(folder) / "stick"
        os.environ["CLINIC_HOME"] = str(home)
        os.environ["DJANGO_SETTINGS_MODULE"] = "app.settings"
        import django

        django.setup()
        measure(count, home, stick, Path(folder) / "restored")


def measure(count: int, home: Path, stick: Path, target: Path) -> None:
    from app import startup
    from app.backup import keeper, local, note, restore, sources
    from app.backup.store import Store
    from app.backup.write import unwatched

    startup.prepare_data_directory()
    startup.prepare_database()
    enter(count, home)
    line = note.set_up(home, "maize road lantern seven")
    for place in (stick, target):
        place.mkdir()
    store = Store.begin(stick, note.read(home), "bench")
    print(f"{count} films, {size_of(home / 'films'):.0f} MB")
    measured("copy of the database", local.make, count)
    measured("first backup", lambda: keeper.back_up_to(store, unwatched), count)
    print(f"on the stick: {size_of(stick):.0f} MB")
    measured("backup of the next day", lambda: keeper.back_up_to(store, unwatched), count)
    print(f"on the stick: {size_of(stick):.0f} MB")
    newest = store.newest()
    assert newest is not None
    entries = newest.entries
    whole = measured("reading it through", lambda: all(map(store.is_whole, entries)), count)
    assert whole

    def back() -> None:
        with sources.opened(stick, line, target / "tmp") as source:
            assert restore.stage(source, target).damaged == []
        restore.confirm(target)
        restore.apply(target)

    measured("restoring into an empty folder, verified", back, count)


if __name__ == "__main__":
    main(sys.argv[1:])
