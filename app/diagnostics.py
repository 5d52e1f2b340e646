"""One file to send to whoever helps: how program, computer and data stand, without any patient.

It holds counts, versions and the logs, which never name a patient. Paths are shortened, since
folders are often named after people. The database is read directly and read-only: this must work
where Django does not come up.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import platform
import re
import shutil
import sqlite3
import sys
import zipfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from django.conf import settings

from app import checks, database, machine, options, vault
from app.cxr.release import MANIFEST

LOGS = re.compile(r"(clinic|worker)\.log(\.\d+)?")
#: Shorter ones are found in too many other words.
SHORTEST_USER_NAME = 3


def file_name() -> str:
    """A name for the file that says what it is and of when."""
    return f"clinic-diagnostics-{datetime.now().astimezone():%Y%m%d-%H%M}.zip"


def write(target: Path, problems: list[checks.Problem] | None = None) -> None:
    """Write the file; raises OSError. See ``archive``."""
    target.write_bytes(archive(problems))


def archive(problems: list[checks.Problem] | None = None, fault: str = "") -> bytes:
    """The file's bytes, a ZIP.

    ``problems``: what a thorough check found, where there was one. ``fault``: what stopped a start.
    """
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("diagnostics.txt", report(problems, fault))
        for log in _logs():
            with contextlib.suppress(OSError):
                words = log.read_text(encoding="utf-8", errors="replace")
                packed.writestr(f"logs/{log.name}", _without_places(words))
    return whole.getvalue()


def report(problems: list[checks.Problem] | None = None, fault: str = "") -> str:
    """Everything but the logs, as text that a person can read before it is sent."""
    if problems is None:
        problems = [*checks.current_problems(), *filter(None, [checks.database()])]
    sentences = [fault, *dict.fromkeys(problem.sentence for problem in problems)]
    parts = {
        "Program": _program(),
        "Computer": _computer(),
        "Faults": [sentence for sentence in sentences if sentence] or ["none was found"],
        "Notes": checks.notes() or ["none"],
        "Model": _model(),
        "Settings": _settings(),
        "Data": _data(),
        "Database": list(_database()),
    }
    text = "\n\n".join("\n  ".join([name, *lines]) for name, lines in parts.items())
    return _without_places(f"{text}\n")


def _program() -> list[str]:
    frozen = "bundle" if getattr(sys, "frozen", False) else "source"
    return [
        f"ClinicCXR {settings.VERSION}, {frozen}",
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}",
        f"written {datetime.now().astimezone():%Y-%m-%d %H:%M %z}",
    ]


def _computer() -> list[str]:
    features, memory = machine.processor_features(), machine.memory()
    known = "not known" if features is None else " ".join(n for n in machine.SEEN if n in features)
    room = "not known" if memory is None else f"{memory[0]} MB, {memory[1]} MB free"
    return [
        f"system: {platform.platform()}",
        f"processor: {machine.processor_name() or platform.machine()}, {os.cpu_count()} cores",
        f"processor features: {known}",
        f"memory: {room}",
    ]


def _model() -> list[str]:
    release, problem = checks.model.release, checks.model.problem
    if release is None:
        return [f"none usable: {problem.code if problem else 'not known'}"]
    manifest = (release.directory / MANIFEST).read_bytes()
    return [release.label, f"manifest SHA-256: {hashlib.sha256(manifest).hexdigest()}"]


def _settings() -> list[str]:
    return [
        f"largest film: {settings.MAX_FILM_BYTES // 1024**2} MB",
        f"room kept free: {settings.MIN_FREE_BYTES // 1024**2} MB",
        f"language: {settings.LANGUAGE_CODE}, time zone: {settings.TIME_ZONE}",
        f"debug: {settings.DEBUG}",
    ]


def _data() -> list[str]:
    folder = settings.DATA_DIR
    lines = [f"place: {_place(folder)}"]
    with contextlib.suppress(OSError):
        disk = shutil.disk_usage(folder)
        lines.append(f"disk: {disk.total // 1024**2} MB, {disk.free // 1024**2} MB free")
    for name in ("films", "backups", "logs", "tmp"):
        files = [path for path in (folder / name).rglob("*") if path.is_file()]
        size = 0
        for path in files:
            with contextlib.suppress(OSError):  # gone since it was listed
                size += path.stat().st_size
        lines.append(f"{name}: {len(files)} files, {size // 1024} KB")
    return lines


def _place(folder: Path) -> str:
    """Where a folder is, without its name: what can be wrong with a path shows all the same."""
    if folder == options.usual_data_directory():
        return "the usual one"
    inside = "in the home folder" if folder.is_relative_to(Path.home()) else "elsewhere"
    letters = "ASCII" if str(folder).isascii() else "with letters beyond ASCII"
    spaces = ", with spaces" if " " in str(folder) else ""
    return f"{inside}, {len(str(folder))} characters, {letters}{spaces}"


def _database() -> Iterator[str]:
    file = settings.DATABASE_FILE
    if not file.exists():
        yield "none yet"
        return
    yield f"size: {file.stat().st_size // 1024} KB"
    try:
        with _read(file) as opened:
            yield f"migrations: {', '.join(_migrations(opened))}"
            for (table,) in opened.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name"
            ).fetchall():
                # A name that the database itself has just given
                asked = f'SELECT count(*) FROM "{table}"'  # nosec B608
                count = opened.execute(asked).fetchone()[0]
                yield f"{table}: {count} rows"
    except vault.Locked:
        yield "encrypted, and not opened"
    except sqlite3.Error as error:  # its words may quote what it choked on
        yield f"cannot be read: {type(error).__name__}"


@contextlib.contextmanager
def _read(file: Path) -> Iterator[sqlite3.Connection]:
    if vault.is_on():
        with database.opened(file) as opened:
            yield opened
        return
    with contextlib.closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as opened:
        yield opened


def _migrations(opened: sqlite3.Connection) -> list[str]:
    rows = opened.execute("SELECT app, name FROM django_migrations ORDER BY id").fetchall()
    return [f"{app}.{name}" for app, name in rows]


def _logs() -> list[Path]:
    with contextlib.suppress(OSError):
        return sorted(path for path in settings.LOG_DIR.iterdir() if LOGS.fullmatch(path.name))
    return []


def _without_places(text: str) -> str:
    """Without the folders and the name of whoever uses this computer."""
    home = Path.home()
    text = text.replace(str(settings.DATA_DIR), "<data>").replace(str(home), "~")
    if len(home.name) < SHORTEST_USER_NAME:
        return text
    # /media/NAME/STICK and its like
    return re.sub(rf"(?<=[/\\]){re.escape(home.name)}(?=[/\\\s]|$)", "<user>", text)
