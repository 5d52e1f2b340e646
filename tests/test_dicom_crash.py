"""Films pushed over four associations while the program is killed, and started again.

500 of them by `make soak`, fewer in the tests.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

from model_export import phantom
from tests import films
from tests.peers import listens
from tests.running import free_port, serving, wait_for
from tests.sending import Unit, open_node, stored

CLINIC = [sys.executable, "run_clinic.py"]
FILMS = 50
FINISHED = {"answered", "refused"}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "data"


def environment(home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CLINIC_")}
    return {**kept, "CLINIC_HOME": str(home)}


def drawn(count: int) -> list[Dataset]:
    """Chest films of their own studies, 12 bits deep."""
    shape = phantom.chest_film(seed=1, size=(512, 512)).astype(np.uint16) * 16
    return [films.dataset(np.roll(shape, seed) + seed % 16, 12) for seed in range(count)]


def test_every_film_is_stored_once_and_answered_whatever_happens_to_the_receiver(
    home: Path, soak: int
) -> None:
    port, sent = free_port(), drawn(FILMS * soak)
    with serving(CLINIC, environment(home)) as (visitor, _server):
        open_node(visitor, port)
    unit = Unit(port, sent)
    for part in range(1, 4):
        with serving(CLINIC, environment(home)) as (_visitor, server):
            wait_for(lambda: listens(port))
            if part == 1:
                unit.start()
            goal = part * len(sent) // 4
            wait_for(lambda goal=goal: len(unit.acknowledged) >= goal)
            with suppress(ProcessLookupError):
                os.kill(server.pid, signal.SIGKILL)
            server.wait()
    with serving(CLINIC, environment(home)):
        unit.wait()
        # What was told is there, once, and gets its answer
        assert unit.acknowledged == {str(one.SOPInstanceUID) for one in sent}
        wait_for(lambda: {state for _uid, state, _count in stored(home)} <= FINISHED, 600)
    found = stored(home)
    assert sorted(uid for uid, _state, _count in found) == sorted(unit.acknowledged)
    assert {count for _uid, _state, count in found} == {1}
    assert unit.refused == []


def test_a_power_cut_leaves_no_half_film(home: Path) -> None:
    port, sent = free_port(), drawn(8)
    with serving(CLINIC, environment(home)) as (visitor, server):
        open_node(visitor, port)
        unit = Unit(port, sent)
        unit.start()
        wait_for(lambda: len(unit.acknowledged) >= 2)
        with suppress(ProcessLookupError):
            os.kill(server.pid, signal.SIGKILL)
        server.wait()
    kept = [path for path in (home / "films").rglob("*") if path.is_file()]
    assert len(kept) >= 2
    known = {str(one.SOPInstanceUID) for one in sent}
    assert {uid for uid, _state, _count in stored(home)} <= known
    with serving(CLINIC, environment(home)):
        unit.wait()
    assert unit.acknowledged == known
