"""The real program with all its work at once, killed at random moments, on a disk that fills up,
and on one that fails: no film that was acknowledged is lost, and none is there twice.

100 kills by `CLINIC_SOAK=25 make soak`, four in the tests.
"""

from __future__ import annotations

import hashlib
import sqlite3
import time
import urllib.error
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from random import Random

import pytest

from tests.running import Visitor, wait_for
from tests.under_load import (
    Backups,
    FailingDisk,
    Load,
    Program,
    Promised,
    SmallDisk,
    faults,
    lot,
    strays,
    unanswered,
)

MEGABYTE = 1024**2
OUT_OF_RESOURCES = 0xA700
ROUNDS = 4
#: Every so many rounds the start that is killed has to migrate, from one of these.
MIGRATES, EARLIER = 4, ("0007", "0009")
#: So many times is the backup restored in a run.
RESTORATIONS = 10


@pytest.fixture
def kept() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def at_work(kept: ExitStack, program: Program, size: int = 256) -> Load:
    """The load of a program; both end with the test, however that ends."""
    load = Load(program, size)
    kept.callback(program.kill)
    kept.callback(load.give_up)
    return load


def kill_under_load(program: Program, backups: Backups, chance: Random) -> None:
    program.start()
    backups.go_on(program)
    assert program.wait_until_open()
    time.sleep(chance.uniform(0, 1.5))
    program.kill()
    backups.wait()


def kill_while_it_starts(program: Program, chance: Random) -> None:
    """The moment is drawn from the whole of a start, of which a migration is a part."""
    program.migrate_back(chance.choice(EARLIER))
    program.start()
    time.sleep(chance.uniform(0.2, 1.2) * program.seconds_to_open)
    program.kill()


def test_no_film_is_lost_whenever_the_program_dies(
    tmp_path: Path, kept: ExitStack, soak: int
) -> None:
    chance, rounds = lot(), ROUNDS * soak
    program = Program(tmp_path / "data", tmp_path / "program.log")
    load = at_work(kept, program)
    backups = Backups(tmp_path / "stick", lambda: load.promised)
    program.set_up()
    backups.set_up(program)
    assert program.stop() == 0
    load.start()
    for number in range(1, rounds + 1):
        if number % MIGRATES == MIGRATES // 2:
            kill_while_it_starts(program, chance)
        else:
            kill_under_load(program, backups, chance)
        promised = load.promised
        assert faults(program.home, promised) == [], f"after kill {number}"
        if number % max(rounds // RESTORATIONS, ROUNDS + 1) == 0 and backups.completed:
            backups.restore(tmp_path / f"restored-{number}")
            assert faults(tmp_path / f"restored-{number}", backups.holds) == []

    program.start()
    assert program.wait_until_open()
    assert backups.once(program) == 0
    load.finish()
    program.wait_for_answers()
    assert program.stop() == 0

    assert faults(program.home, load.promised) == []
    # Each was sent until it was acknowledged: of those that broke off nothing is left
    assert strays(program.home) == set()
    assert unanswered(program.home) == []
    assert (load.unit.refused, load.people.refused) == ([], {})
    backups.restore(tmp_path / "restored")
    assert faults(tmp_path / "restored", backups.holds) == []
    print(f"{rounds} kills, {len(load.promised)} films, {backups.completed} backups")


# --- a disk that is full -------------------------------------------------------------------------


@pytest.fixture
def disk(tmp_path: Path, soak: int) -> Iterator[SmallDisk]:
    found = SmallDisk(tmp_path / "disk", megabytes=48 + 24 * soak)
    yield found
    found.close()


def on(disk: SmallDisk, log: Path, reserve: int) -> Program:
    home = disk.inside / "data", disk.outside / "data"
    return Program(home[0], log, disk.before, home[1], CLINIC_MIN_FREE_MB=str(reserve))


def test_a_disk_with_its_reserve_left_takes_no_film_and_loses_none(
    disk: SmallDisk, tmp_path: Path, kept: ExitStack
) -> None:
    program = on(disk, tmp_path / "program.log", reserve=16)
    load = at_work(kept, program, size=512)
    program.set_up()
    disk.fill(left=22 * MEGABYTE)
    load.start()

    # Both doors say it, and the pages go on
    wait_for(lambda: load.people.refused and load.unit.refused)
    assert set(load.unit.refused) == {OUT_OF_RESOURCES}
    assert all("Free some space" in words for words in load.people.refused)
    visitor = Visitor(program.address)
    with pytest.raises(urllib.error.HTTPError, match="507"):
        visitor.send("large.png", bytes(3 * MEGABYTE))
    disk.fill(left=15 * MEGABYTE)  # what did not fit may have left a little more than the reserve
    assert "films_turned_away" in visitor.get("/metrics")
    program.wait_for_answers()
    program.kill()
    assert faults(program.home, load.promised) == []
    assert strays(program.home) == set()

    # It starts all the same, and takes films again once there is room
    program.start()
    assert program.wait_until_open()
    before = load.promised
    disk.clear()
    load.finish()
    program.wait_for_answers()
    assert program.stop() == 0
    assert len(load.promised) > len(before) > 0
    assert faults(program.home, load.promised) == []
    assert (strays(program.home), unanswered(program.home)) == (set(), [])


def test_a_disk_that_is_suddenly_full_to_the_last_byte_breaks_nothing(
    disk: SmallDisk, tmp_path: Path, kept: ExitStack, soak: int
) -> None:
    chance = lot()
    program = on(disk, tmp_path / "program.log", reserve=0)
    load = at_work(kept, program)
    program.set_up()
    load.start()
    for number in range(1, ROUNDS * soak + 1):
        time.sleep(chance.uniform(0, 1.5))
        disk.fill()
        time.sleep(chance.uniform(0.5, 1.5))
        if chance.random() < 0.5:
            program.kill()
            assert faults(program.home, load.promised) == [], f"when full for time {number}"
        disk.clear()
        if program.has_ended():
            program.start()
            assert program.wait_until_open()
    load.finish()
    program.wait_for_answers()
    assert program.stop() == 0
    assert faults(program.home, load.promised) == []
    assert (strays(program.home), unanswered(program.home)) == (set(), [])
    assert load.unit.refused or load.people.refused
    refused = Counter(map(hex, load.unit.refused)), load.people.refused
    print(f"{len(load.promised)} films, refused: {refused}")


# --- a disk that breaks --------------------------------------------------------------------------


def test_a_disk_that_fails_now_and_then_loses_nothing(
    tmp_path: Path, kept: ExitStack, soak: int
) -> None:
    chance = lot()
    disk = FailingDisk(tmp_path / "strace.log", chance)
    program = Program(tmp_path / "data", tmp_path / "program.log")
    load = at_work(kept, program)
    program.set_up()
    assert program.stop() == 0
    load.start()
    for number in range(1, ROUNDS * soak + 1):
        program.before = disk.before()
        program.start()
        if program.wait_until_open():  # or it has stopped, with a sentence
            time.sleep(chance.uniform(0.5, 2))
        program.kill()
        assert faults(program.home, load.promised) == [], f"{program.before}, time {number}"

    program.before = []
    program.start()
    assert program.wait_until_open()
    load.finish()
    program.wait_for_answers()
    assert program.stop() == 0
    assert faults(program.home, load.promised) == []
    assert (strays(program.home), unanswered(program.home)) == (set(), [])
    assert disk.failed(), "nothing failed"
    print(f"{len(load.promised)} films, failed: {disk.failed()}")


# --- what the checks above would notice ----------------------------------------------------------

FILM = b"a film"
DIGEST = hashlib.sha256(FILM).hexdigest()
PROMISED = Promised(frozenset({DIGEST}), frozenset({"1.2.3"}))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """As much of a clinic as is looked at: one film, answered."""
    with closing(sqlite3.connect(tmp_path / "clinic.sqlite3")) as database:
        database.executescript(
            "CREATE TABLE clinic_instance (id, sha256, sop_instance_uid, state);"
            "CREATE TABLE clinic_finding (id, instance_id);"
            f"INSERT INTO clinic_instance VALUES (1, '{DIGEST}', '1.2.3', 'answered');"
            "INSERT INTO clinic_finding VALUES (1, 1);"
        )
    film(tmp_path).parent.mkdir(parents=True)
    film(tmp_path).write_bytes(FILM)
    return tmp_path


def film(home: Path) -> Path:
    return home / "films" / DIGEST[:2] / DIGEST


def change(sql: str) -> Callable[[Path], None]:
    def changed(home: Path) -> None:
        with closing(sqlite3.connect(home / "clinic.sqlite3")) as database:
            database.executescript(sql)

    return changed


def tear(home: Path) -> None:
    file = home / "clinic.sqlite3"
    content = file.read_bytes()
    file.write_bytes(content[:4096] + bytes(len(content) - 4096))


def test_a_clinic_that_kept_its_promises_has_no_fault(home: Path) -> None:
    assert (faults(home, PROMISED), strays(home), unanswered(home)) == ([], set(), [])


@pytest.mark.parametrize(
    "break_it",
    [
        tear,
        change("DELETE FROM clinic_instance"),
        change("INSERT INTO clinic_instance SELECT 2, sha256, '', state FROM clinic_instance"),
        change("UPDATE clinic_instance SET sop_instance_uid = ''"),
        change("UPDATE clinic_instance SET state = 'failed'"),
        change("UPDATE clinic_instance SET state = 'waiting'"),
        change("DELETE FROM clinic_finding"),
        change("INSERT INTO clinic_finding VALUES (2, 1)"),
        lambda home: film(home).unlink(),
        lambda home: film(home).write_bytes(FILM[:-1]),
    ],
)
def test_a_broken_promise_is_noticed(home: Path, break_it: Callable[[Path], None]) -> None:
    break_it(home)

    assert faults(home, PROMISED)


def test_what_is_left_over_and_what_still_waits_is_noticed(home: Path) -> None:
    film(home).with_name("half").write_bytes(b"")
    change("UPDATE clinic_instance SET state = 'waiting'; DELETE FROM clinic_finding")(home)

    assert faults(home, PROMISED) == []
    assert strays(home) == {"half"}
    assert len(unanswered(home)) == 1
