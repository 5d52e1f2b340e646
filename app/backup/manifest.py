"""The list of what a backup holds, written last: what has none is no backup.

Two lines of text, the second the digest of the first. It names digests, sizes and counts, and
nothing of any patient: it lies unencrypted on the stick, so that a stick can be looked through for
decay without its key.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from app.backup import DATABASE, DATABASE_KEY, FILES, FILMS, TREES
from app.backup.faults import BackupFault

FORMAT = 1
_DIGEST = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9_@+-][A-Za-z0-9._@+-]*")
MOST_DEEP = 8


@dataclass(frozen=True)
class Entry:
    """A file: its path below the data directory and its digest, and how it lies in the backup."""

    path: str
    sha256: str
    size: int
    stored_size: int
    stored_sha256: str


@dataclass(frozen=True)
class Manifest:
    """One backup. ``missing``: films that were not on the clinic's disk, or not whole."""

    clinic: str
    made_at: datetime
    program: str
    counts: dict[str, int]
    entries: tuple[Entry, ...]
    missing: tuple[str, ...] = ()
    by_path: dict[str, Entry] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_path", {entry.path: entry for entry in self.entries})

    @property
    def has_films(self) -> bool:
        """Whether it speaks of films at all: a file for the browser does not."""
        return self.counts.get("films", 0) == 0 or any(
            entry.path.startswith(f"{FILMS}/") for entry in self.entries
        )

    @property
    def size(self) -> int:
        """Bytes of everything in it, before encryption."""
        return sum(entry.size for entry in self.entries)

    def to_bytes(self) -> bytes:
        """As it is written."""
        body = {
            "format": FORMAT,
            "clinic": self.clinic,
            "made_at": self.made_at.astimezone(UTC).isoformat(),
            "program": self.program,
            "counts": self.counts,
            "missing": list(self.missing),
            "files": [
                [entry.path, entry.sha256, entry.size, entry.stored_size, entry.stored_sha256]
                for entry in self.entries
            ],
        }
        line = json.dumps(body, separators=(",", ":")).encode()
        return line + b"\n" + hashlib.sha256(line).hexdigest().encode() + b"\n"

    @staticmethod
    def from_bytes(content: bytes) -> Manifest:
        """Read one; raises BackupFault where it is damaged, newer, or names what is not ours."""
        line, _, digest = content.partition(b"\n")
        if hashlib.sha256(line).hexdigest().encode() != digest.strip():
            raise BackupFault("damaged")
        try:
            return _read(json.loads(line))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise BackupFault("damaged") from error


def _read(body: dict[str, Any]) -> Manifest:
    if body["format"] > FORMAT:
        raise BackupFault("newer")
    made_at = datetime.fromisoformat(body["made_at"])
    if made_at.tzinfo is None:
        raise ValueError("a time without its zone")
    return Manifest(
        clinic=str(body["clinic"]),
        made_at=made_at,
        program=str(body["program"]),
        counts={str(name): int(count) for name, count in body["counts"].items()},
        entries=tuple(_entry(*row) for row in body["files"]),
        missing=tuple(map(str, body["missing"])),
    )


def _entry(path: str, sha256: str, size: int, stored_size: int, stored_sha256: str) -> Entry:
    if not (is_ours(path) and _DIGEST.fullmatch(sha256) and _DIGEST.fullmatch(stored_sha256)):
        raise ValueError("no file of ours")
    if path.startswith(f"{FILMS}/") and path != film_path(sha256):
        raise ValueError("a film under another's name")
    return Entry(path, sha256, int(size), int(stored_size), stored_sha256)


def is_ours(path: str) -> bool:
    """Whether a path is one that backups write and may be restored to: a stick is a stranger's
    until it has shown otherwise, and must not write elsewhere.
    """
    parts = path.split("/")
    if not all(_NAME.fullmatch(part) for part in parts) or len(parts) > MOST_DEEP:
        return False
    if len(parts) == 1:
        return path in (DATABASE, DATABASE_KEY, *FILES)
    return parts[0] in (*TREES, FILMS)


def film_path(sha256: str) -> str:
    """Where a film is stored, seen from the data directory; as ``Instance.stored_as`` has it."""
    return f"{FILMS}/{sha256[:2]}/{sha256}"
