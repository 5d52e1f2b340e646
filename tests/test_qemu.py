"""The int8 graph on an old processor: AVX2 without VNNI, as in most clinics, or not even AVX.

Emulated by qemu, which stops a program at an instruction that its processor lacks. Eight-bit
products saturate silently there unless the weights leave one bit free; this machine's own
processor, if it has VNNI, would never show it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from app.cxr.release import FACTORY_DIRECTORY

SCORES = """
import json, sys
from pathlib import Path
from numpy._core._multiarray_umath import __cpu_features__ as processor
from app.cxr.model import Model
from app.cxr.radiograph import read_radiograph, to_model_input
from app.cxr.release import Release
release = Release.load(Path(sys.argv[1]))
model = Model.load(release)
film = read_radiograph(release.directory / release.self_test_cases[-1].file)
found = model.predict(to_model_input(film, release.input_size))
outputs = [found.logit, found.film_score, *map(float, found.activation_map.ravel())]
print(json.dumps({"outputs": outputs, "has": [name for name in processor if processor[name]]}))
"""


def scores(*before: str) -> tuple[list[float], set[str]]:
    """Every output for one self-test film from a Python of its own behind ``before``, and what its
    processor can do.
    """
    command = [*before, sys.executable, "-c", SCORES, str(FACTORY_DIRECTORY)]
    done = subprocess.run(
        command,
        cwd=Path(__file__).resolve().parent.parent,
        # behind qemu, Python may not find the environment that it was started from
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=False,
        timeout=550,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    return found["outputs"], set(found["has"])


@pytest.mark.parametrize(
    ("processor", "has", "lacks", "apart"),
    [
        ("Haswell", {"AVX2"}, "AVX512", 1e-3),  # Intel of 2013: no VNNI
        # Of 2008: its floats are added in another order, so that one or the other 8-bit step falls
        # on the other side; the self-test allows as much.
        ("Nehalem", {"SSE42"}, "AVX", 0.05),
    ],
)
def test_an_old_processor_gives_the_same_answers(processor, has, lacks, apart):
    if not FACTORY_DIRECTORY.is_dir():
        pytest.skip("no factory release in assets/release")
    qemu = shutil.which("qemu-x86_64")
    if qemu is None:
        pytest.skip("qemu-x86_64 is not installed (Debian: apt-get install qemu-user)")
    (old, features), (here, _) = scores(qemu, "-cpu", processor), scores()
    assert has <= features
    assert not any(name.startswith(lacks) for name in features)
    assert old == pytest.approx(here, abs=apart)
