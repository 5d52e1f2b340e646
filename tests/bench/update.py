"""From an update on a stick to what an administrator decides by, on a clinic's last films.

``python -m tests.bench.update DIR`` takes films from a folder into the empty data directory that
``CLINIC_HOME`` names and has the factory's model answer them. It prints as JSON how long it took,
in seconds and in seconds of processor time, to take the update in with its self-test, to try it,
and to try it where both models have to answer.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import random
import shutil
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

VERSION, PADDING = "9999.0.0", "padding.txt"


def heavy_release(factory: Path, folder: Path, size: int) -> Path:
    """The factory's release under another version, with a file that makes it ``size`` bytes."""
    shutil.copytree(factory, folder)
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    packed = sum(len(zlib.compress(path.read_bytes())) for path in files_of(folder))
    # As text, a byte drawn by lot takes about a byte once it is packed again
    text = base64.b64encode(random.Random(1).randbytes(max(0, size - packed)))
    (folder / PADDING).write_bytes(text)
    manifest["files"][PADDING] = hashlib.sha256(text).hexdigest()
    manifest["version"] = VERSION
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return folder


def files_of(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def on_a_stick(folder: Path, size: int) -> Path:
    """An update of so many bytes, honestly signed; this program trusts its keys from now on."""
    from app.cxr.release import FACTORY_DIRECTORY
    from app.updates import clinic
    from tests.tuf_publisher import Publisher, release_files

    release = heavy_release(FACTORY_DIRECTORY, folder / "release", size)
    publisher = Publisher(release_files(release))
    name = json.loads((release / "manifest.json").read_text(encoding="utf-8"))["name"]
    publisher.info |= {"name": name, "version": VERSION}
    clinic.PUBLISHER_ROOT = folder / "root.json"
    clinic.PUBLISHER_ROOT.write_bytes(publisher.first_root)
    return publisher.publish().write(folder / "heavy.clinicupdate")


def answer(films: list[Path]) -> None:
    """Take films in, one study each, and have the model in use answer them."""
    from app import intake, worker
    from tests.studies import stored

    for film in films:
        with film.open("rb") as file:
            instance = intake.receive(file, film.name, "upload", intake.Belonging()).instance
        instance.record(worker.analyse(stored(instance), None))


def timed(work: Callable[[], Any]) -> tuple[Any, tuple[float, float]]:
    """What comes of it; seconds, and seconds of processor time."""
    started, worked = time.perf_counter(), time.process_time()
    made = work()
    return made, (time.perf_counter() - started, time.process_time() - worked)


def shadow_run(release: Any, films: int) -> None:
    """The trial of a release on the last films."""
    from app.updates import shadow

    last = shadow.last_films(films)
    assert len(last) == films
    assert shadow.run.start(release, last)
    shadow.run.wait()
    trial = shadow.run.trial
    assert trial is not None
    assert (trial.state, len(trial.rows)) == (shadow.DONE, films)
    # The same model under another version answers the same
    assert trial.flips == []


def measure(films: list[Path], size: int) -> dict[str, Any]:
    from app.models import Finding
    from app.updates import clinic

    with tempfile.TemporaryDirectory() as name:
        update = on_a_stick(Path(name), size)
        answer(films)
        staged, taken = timed(lambda: clinic.prepare(update, None))
        bytes_on_the_stick = update.stat().st_size
    _, tried = timed(lambda: shadow_run(staged.release, len(films)))
    Finding.objects.update(model="earlier@1.0.0")
    _, both = timed(lambda: shadow_run(staged.release, len(films)))
    return {"size": bytes_on_the_stick, "taken": taken, "tried": tried, "both": both}


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.bench.update", description=__doc__)
    parser.add_argument("films", type=Path)
    parser.add_argument("--size", type=int, default=12_000_000, help="of the update, in bytes")
    options = parser.parse_args()
    os.environ["DJANGO_SETTINGS_MODULE"] = "app.settings"
    import django

    django.setup()
    from django.conf import settings

    from app import database

    settings.TEMPORARY_DIR.mkdir(parents=True, exist_ok=True)
    database.bring_up_to_date()
    print(json.dumps(measure(sorted(options.films.iterdir()), options.size)))
    database.close_down()


if __name__ == "__main__":
    main()
