"""A long shift at the clinic, small by default and as long as `make soak` says."""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
from contextlib import closing, suppress
from pathlib import Path

import pytest
from PIL import Image

from model_export import phantom
from tests.running import serving

CLINIC = [sys.executable, "run_clinic.py"]
BATCH = 4


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "data"


def environment(home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CLINIC_")}
    return {**kept, "CLINIC_HOME": str(home)}


def batch(folder: Path, shift: int) -> list[Path]:
    """Films that no other shift brought, and one file that is none."""
    paths = []
    for number in range(BATCH):
        path = folder / f"film-{shift}-{number}.png"
        film = phantom.chest_film(seed=shift * BATCH + number, size=(256, 256))
        Image.fromarray(film).save(path)
        paths.append(path)
    broken = folder / f"broken-{shift}.jpg"
    broken.write_bytes(f"no film at all, {shift}".encode())
    return [*paths, broken]


def findings(home: Path) -> dict[str, int]:
    """How many findings each stored film has."""
    question = (
        "SELECT i.sha256, COUNT(f.id) FROM clinic_instance i "
        "LEFT JOIN clinic_finding f ON f.instance_id = i.id GROUP BY i.sha256"
    )
    with closing(sqlite3.connect(home / "clinic.sqlite3")) as database:
        return dict(database.execute(question))


def test_films_survive_kill_after_kill_and_are_each_answered_once(
    home: Path, tmp_path: Path, soak: int
) -> None:
    studies: list[str] = []
    for shift in range(2 * soak):
        films = batch(tmp_path, shift)
        with serving(CLINIC, environment(home)) as (visitor, server):
            studies += [visitor.upload(film) for film in films]
            with suppress(ProcessLookupError):
                os.kill(server.pid, signal.SIGKILL)
            server.wait()
    with serving(CLINIC, environment(home)) as (visitor, _server):
        for study in studies:
            visitor.wait_for_answer(study)
    found = findings(home)
    assert len(found) == len(studies) == 2 * soak * (BATCH + 1)
    assert set(found.values()) == {1}


def test_the_same_films_again_and_again_stay_the_same_studies(
    home: Path, tmp_path: Path, soak: int
) -> None:
    films = batch(tmp_path, shift=0)
    with serving(CLINIC, environment(home)) as (visitor, _server):
        rounds = [[visitor.upload(film) for film in films] for _ in range(3 * soak)]
        for study in rounds[0]:
            visitor.wait_for_answer(study)
    studies = [[study.partition("?")[0] for study in one] for one in rounds]
    assert all(one == studies[0] for one in studies)
    assert len(findings(home)) == len(films)
