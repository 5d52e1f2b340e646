"""A program that watches a folder in a hurry, to be killed: ``python -m tests.folder_crashes
FOLDER``, with CLINIC_HOME set. Says that it begins, and ends when nothing is left.
"""

from __future__ import annotations

import sys
from pathlib import Path

import django

django.setup()

from django.conf import settings  # noqa: E402

from app import database, watched_folder  # noqa: E402


def main(path: Path) -> None:
    settings.TEMPORARY_DIR.mkdir(parents=True, exist_ok=True)
    database.bring_up_to_date()
    watched_folder.SECONDS_STILL = 0.0
    folder = watched_folder.Folder(path)
    folder.sweep()
    print("begins", flush=True)
    while folder.standing.waiting:
        folder.sweep()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
