"""A publisher made by the documented commands, in a folder."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PASSPHRASE = "seven films before breakfast"


def stage(*words: object, passphrases: Sequence[str] = (PASSPHRASE,) * 9) -> tuple[int, str]:
    """Run ``python -m model_export …``; its exit status, and what it said."""
    run = subprocess.run(
        [sys.executable, "-m", "model_export", *map(str, words)],
        cwd=ROOT,
        input="".join(f"{line}\n" for line in passphrases),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    return run.returncode, run.stdout + run.stderr


def keys(step: str, *words: object, folders: Sequence[Path], **more: Sequence[str]) -> str:
    """A step of the ceremony that has to succeed."""
    code, said = stage("keys", step, *words, "--keys", *folders, **more)
    assert code == 0, said
    return said


def publish(
    release: Path,
    out: Path,
    *folders: Path,
    notes: str = "Better.",
    compared: Sequence[object] = (),
) -> tuple[int, str]:
    """The stage ``publish``; ``compared``: its words about the comparison."""
    written = out.with_suffix(".txt")
    written.write_text(notes, encoding="utf-8")
    words = ["--release", release, "--notes", written, "--minimum-program", "0.1.0", "--out", out]
    words += compared
    return stage("publish", *words, "--keys", *folders)
