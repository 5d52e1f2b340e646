"""Nothing malformed ends in an error page, a hang, or a computer without memory.

Three hundred examples in the tests, a hundred thousand by `make soak`; how they are made, and what
is held against them, is in tests/fuzz.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import struct
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz import dicoms, subjects, whole
from tests.fuzz.exploring import Subject, explore
from tests.fuzz.mutations import chunks_of, mutated, png_of, png_with_true_sums
from tests.fuzz.watch import LONGEST_SECONDS, LONGEST_WAIT, MOST_MEGABYTES, Watch

ROOT = Path(__file__).resolve().parent.parent
#: A folder that is no disk, for which most examples would wait.
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
#: Of a hundred examples; what is fuzzed by one process stands together.
SHARES = [
    {"films": 45, "updates": 7, "contributions": 5},
    {"pages": 30, "interface": 8},
    {"program": 2, "sockets": 3},
]
SUBJECTS = [(group, subject) for group, shares in enumerate(SHARES) for subject in shares]
#: What at least comes of so few examples as the tests try; else they are all turned down alike.
COMES = {
    "films": {"cannot_say", "unreadable: damaged", "unreadable: truncated"},
    "updates": {"refused: damaged", "refused: not_an_update"},
    "contributions": {"opened", "refused: what is encrypted in it is damaged"},
    "pages": {"GET 200", "POST 302", "POST 400", "POST 403"},
    "interface": {"POST /api/v1/films 202", "POST /api/v1/films 422"},
    "program": {"200"},
    "sockets": {"400"},
}


def count(share: int, soak: int) -> int:
    """300 together where nobody asks for more, 100,000 with CLINIC_SOAK=10."""
    return share * (3 if soak == 1 else 100 * soak)


@pytest.fixture(scope="module")
def reports(tmp_path_factory, soak):
    """What a process found out about its subjects, by their names; it must have come to its end."""

    @functools.cache
    def found(group: int) -> dict[str, Any]:
        wanted = [f"{subject}={count(share, soak)}" for subject, share in SHARES[group].items()]
        command = [sys.executable, "-m", "tests.fuzz", str(soak), *wanted]
        ended, said, errors = run(command, tmp_path_factory.mktemp("fuzz"))
        assert ended == 0, said[-500:] + errors[-5000:]
        return {one["subject"]: one for one in map(json.loads, said.splitlines())}

    return found


def run(command: list[str], folder: Path) -> tuple[int, str, str]:
    """How a process ended and what it said; whatever it has started ends with it."""
    with (
        tempfile.TemporaryDirectory(dir=MEMORY, ignore_cleanup_errors=True) as here,
        (folder / "errors").open("w") as errors,
    ):
        process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, "TMPDIR": here}, text=True, process_group=0,
            stdout=subprocess.PIPE, stderr=errors,
        )  # fmt: skip
        try:
            said, _ = process.communicate()
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, said, (folder / "errors").read_text(errors="replace")


@pytest.mark.parametrize(("group", "subject"), SUBJECTS, ids=lambda one: str(one))
def test_it_ends_in_time_within_memory_and_with_an_answer(group, subject, reports, soak):
    found = reports(group)[subject]
    assert found["examples"] >= count(SHARES[group][subject], soak)
    assert found["slowest_work_seconds"] < LONGEST_SECONDS
    assert found["slowest_seconds"] < LONGEST_WAIT
    assert found["peak_megabytes"] < MOST_MEGABYTES
    assert found["outcomes"].keys() >= COMES[subject]


def test_the_shares_are_a_whole():
    assert sum(share for shares in SHARES for share in shares.values()) == 100


# --- the fuzzing itself -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ("while True: pass", -signal.SIGPROF, "in <module>"),
        ("import time; time.sleep(99)", -signal.SIGALRM, "in <module>"),
        ("raise ValueError('found')", 1, "found"),
        ("import os; os.abort()", -signal.SIGABRT, "Abort"),
    ],
    ids=["works for ever", "waits for ever", "raises", "crashes"],
)
def test_what_hangs_raises_or_crashes_is_found(body, status, said, tmp_path):
    program = (
        "import faulthandler\n"
        "from pathlib import Path\n"
        "from tests.fuzz import watch\n"
        "watch.LONGEST_SECONDS, watch.LONGEST_WAIT = 0.2, 0.4\n"
        "faulthandler.enable()\n"
        f"with watch.Watch(Path({str(tmp_path / 'last')!r})).over(b'example'):\n"
        f"    {body}\n"
    )
    ended, _, errors = run([sys.executable, "-c", program], tmp_path)
    # On a machine so busy that it cannot work for 0.2 s in 0.4 s, waiting comes to its end first
    assert ended in {status, -signal.SIGALRM if status == -signal.SIGPROF else status}
    assert said in errors
    assert (tmp_path / "last").read_bytes() == b"example"


def test_memory_is_counted_at_its_peak(tmp_path):
    watch = Watch(tmp_path / "last")
    with watch.over(b""):
        held = bytearray(b"x" * 200_000_000)
        del held
    assert watch.report()["peak_megabytes"] > 200


def test_the_same_example_counts_once(tmp_path):
    watch = Watch(tmp_path / "last")
    few = Subject(st.integers(0, 39).map(lambda one: b"%d" % one), lambda one: one[:1].decode())

    explore(few, watch, 40, first_seed=1)

    assert watch.report()["examples"] == 40
    assert watch.outcomes["3"] == 11


def believes_the_width(file: Path) -> None:
    """A fault put in: a picture's rows reserved as its header says, where 2 GiB is too many."""
    content = file.read_bytes()
    if content.startswith(b"\x89PNG") and content[12:16] == b"IHDR":
        (width,) = struct.unpack_from(">I", content.ljust(24, b"\0"), 16)
        struct.pack("<i", width)


def test_a_fault_put_into_the_reading_of_films_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(subjects, "read_identity", believes_the_width)

    with pytest.raises(struct.error):
        explore(subjects.films(tmp_path), Watch(tmp_path / "last"), 2000, 1, shrink=False)

    found = (tmp_path / "last").read_bytes()
    assert struct.unpack_from(">I", found, 16)[0] >= 2**31


def test_a_fault_put_into_a_page_is_found(tmp_path):
    program = (
        "import functools\n"
        "from django.forms import CharField\n"
        "from tests.fuzz import __main__ as fuzz\n"
        "fuzz.explore = functools.partial(fuzz.explore, shrink=False)  # which takes its time\n"
        "CharField.to_python = lambda self, words: str((words or '').encode('ascii'), 'ascii')\n"
        "fuzz.main('1', 'pages=3000')\n"
    )
    ended, _, errors = run([sys.executable, "-c", program], tmp_path)
    assert ended == 1
    assert "UnicodeEncodeError" in errors
    (example,) = [line for line in errors.splitlines() if line.startswith("found in pages")]
    assert "POST" in example


@given(st.data())
@settings(suppress_health_check=list(HealthCheck))
def test_a_png_taken_apart_and_put_together_is_the_same(data):
    content = data.draw(st.sampled_from(whole.pngs()))
    assert png_of(chunks_of(content)) == content
    assert data.draw(png_with_true_sums([content])) != content


def test_a_dicom_taken_apart_and_put_together_is_the_same(tmp_path):
    content = dicoms.dicoms(tmp_path)[0]
    assert dicoms.joined(*dicoms.elements(content)) == content


@given(mutated([b"0123456789" * 20]))
def test_a_change_is_a_change(content):
    assert content != b"0123456789" * 20
