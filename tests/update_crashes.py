"""A computer that dies in the middle of an installation, again and again: ``python -m
tests.update_crashes FOLDER``.

In a process of its own, because it forks: a child installs an update and is killed (SIGKILL) at
its n-th step, for every n there is; then, for good measure, at moments drawn by lot. After each,
another child looks whether the old or the new model answers, whole, and finishes the installation.
Prints one JSON object.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from app.cxr import release as released
from app.cxr.model import Model
from app.cxr.release import load_active
from app.updates import archive, install
from app.updates.verify import Trust
from tests.tiny_release import make_release
from tests.tuf_publisher import BUILT, NOW, Publisher, release_files

OLD, NEW = "tiny@1.1.0", "tiny@1.2.3"
CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.rmtree"}
WRITING = os.O_WRONLY | os.O_RDWR
MOMENTS = 50


class Scene:
    """A clinic with version 1.1.0 installed, and a stick with 1.2.3."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.data = folder, folder / "data"
        released.FACTORY_DIRECTORY = make_release(folder / "factory", _versioned("1.0.0"))
        publisher = Publisher(release_files(make_release(folder / "old", _versioned("1.1.0"))))
        publisher.info["version"] = "1.1.0"
        self.trust = Trust(publisher.first_root, self.data / "tuf", folder / "tmp", "0.1.0", BUILT)
        (folder / "tmp").mkdir()
        self.data.mkdir()
        self.take(publisher.publish().write(folder / "old.clinicupdate"))
        self.data.rename(folder / "before")
        publisher.files = release_files(make_release(folder / "new"))
        publisher.info["version"] = "1.2.3"
        publisher.rotate("targets")
        self.stick = publisher.publish().write(folder / "new.clinicupdate")

    def take(self, path: Path) -> None:
        staged = install.stage(path, self.trust, self.data)
        install.install(staged, self.trust, self.data, NOW)

    def begin(self) -> None:
        shutil.rmtree(self.data, ignore_errors=True)
        shutil.copytree(self.folder / "before", self.data)

    def label_that_answers(self) -> str:
        model = Model.load(load_active(self.data))
        assert model.self_test() == []
        return model.release.label

    def look(self) -> None:
        """Old or new, whole; and whatever was left lying about, the next try succeeds."""
        answering = self.label_that_answers()
        assert answering in (OLD, NEW), answering
        self.take(self.stick)
        assert self.label_that_answers() == NEW
        assert install.go_back(self.data).label == OLD
        assert self.label_that_answers() == OLD
        (self.folder / "seen").write_text(answering)


def _versioned(version: str) -> Callable[[dict[str, Any]], None]:
    return lambda manifest: manifest.update(version=version)


def in_a_child(work: Callable[[], None]) -> int:
    """Run it in a forked process; the process, to be waited for."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        work()
        code = 0
    except BaseException:  # noqa: BLE001  it is printed, and the process ends
        traceback.print_exc()
    finally:
        os._exit(code)


def ended(child: int) -> int:
    """The exit code of a process; minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def die_at(step: int, within: Path) -> None:
    """From now on count every change of the disk below a folder, and die just before one."""
    steps = itertools.count(1)

    def tick() -> None:
        if next(steps) == step:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(event: str, args: tuple[Any, ...]) -> None:
        opens = event == "open" and isinstance(args[2], int) and args[2] & WRITING
        if (opens or event in CHANGES) and str(within) in str(args[0]):
            tick()

    def watched(function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any) -> Any:
            tick()
            result = function(*args)
            tick()
            return result

        return run

    real = archive.Archive.chunks

    def chunks(self: archive.Archive, name: str, limit: int) -> Iterator[bytes]:
        for chunk in real(self, name, limit):
            tick()
            yield chunk

    os.fsync = watched(os.fsync)
    os.replace = watched(os.replace)
    setattr(archive.Archive, "chunks", chunks)  # noqa: B010  mypy forbids the plain form
    sys.addaudithook(watch)


def main(folder: Path) -> None:
    scene = Scene(folder)
    seen: list[str] = []

    def judged() -> None:
        if code := ended(in_a_child(scene.look)):
            sys.exit(f"after step {len(seen) + 1}: {code}")
        seen.append((folder / "seen").read_text())

    for step in itertools.count(1):
        scene.begin()

        def dying(step: int = step) -> None:
            die_at(step, scene.data)
            scene.take(scene.stick)

        code = ended(in_a_child(dying))
        if code == 0:
            break
        if code != -signal.SIGKILL:
            sys.exit(f"step {step} ended with {code}")
        judged()
    steps = len(seen)
    dice = random.Random(steps)
    begun = time.monotonic()
    scene.begin()
    ended(in_a_child(lambda: scene.take(scene.stick)))
    whole = time.monotonic() - begun
    while len(seen) < steps + MOMENTS:
        scene.begin()
        child = in_a_child(lambda: scene.take(scene.stick))
        time.sleep(dice.uniform(0, whole))
        os.kill(child, signal.SIGKILL)
        if ended(child) == -signal.SIGKILL:  # and not done before the signal came
            judged()
    print(json.dumps({"steps": steps, "seen": seen}))


if __name__ == "__main__":
    archive.CHUNK = 2000
    main(Path(sys.argv[1]))
