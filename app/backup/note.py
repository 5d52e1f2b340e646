"""What the program keeps of its backups, in ``backup.json``: their keys, and the sticks chosen.

In a file and not in the database: where that is damaged, this is needed.
"""

from __future__ import annotations

import base64
import json
import secrets
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from app.backup import keys
from app.cxr.durable import write_durably

NAME = "backup.json"
FORMAT = 1
WARN_AFTER = timedelta(days=7)
_writing = threading.Lock()


@dataclass(frozen=True)
class Stick:
    """A stick that an administrator has chosen. ``last``: of the last backup that was finished.
    ``trouble``: the code of what went wrong since.
    """

    label: str
    last: datetime | None = None
    trouble: str = ""


@dataclass(frozen=True)
class Note:
    """``clinic``: a random name, by which sticks of other clinics are told apart. ``public`` is
    empty until somebody has set backups up.
    """

    clinic: str = ""
    public: str = ""
    sealed: bytes = b""
    sticks: dict[str, Stick] = field(default_factory=dict)

    @property
    def is_set_up(self) -> bool:
        """Whether there is a key to encrypt to."""
        return bool(self.public)

    @property
    def last(self) -> datetime | None:
        """When the newest backup on any stick was finished."""
        return max((stick.last for stick in self.sticks.values() if stick.last), default=None)

    def is_overdue(self, now: datetime, since: datetime | None = None) -> bool:
        """Whether no stick has got a backup for a week; in a clinic that began only ``since``, not
        before it is as old.
        """
        last = self.last or since
        return last is None or now - last > WARN_AFTER


def read(data_directory: Path) -> Note:
    """What was noted; nothing where there is no note, or a damaged one."""
    try:
        return _from_json(json.loads((data_directory / NAME).read_bytes()))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return Note()


def change(data_directory: Path, how: Callable[[Note], Note]) -> Note:
    """Change what is noted, one change after another; raises OSError."""
    with _writing:
        changed = how(read(data_directory))
        write_durably(data_directory / NAME, _to_json(changed), private=True)
    return changed


def set_up(data_directory: Path, passphrase: str) -> str:
    """Make the keys, or new ones; the line to be written down. Raises OSError.

    Backups under the keys before stay readable with those: each stick carries its own.
    """
    public, sealed, line = keys.make(passphrase)

    def fresh(note: Note) -> Note:
        # New keys are new backups: what lies on a stick under other keys is begun anew there
        return replace(
            note, clinic=note.clinic or secrets.token_hex(8), public=public, sealed=sealed
        )

    change(data_directory, fresh)
    return line


def note_stick(data_directory: Path, name: str, **values: Any) -> Note:
    """Note something of a stick, which is a chosen one from then on."""

    def noted(note: Note) -> Note:
        known = note.sticks.get(name, Stick(label=""))
        return replace(note, sticks=note.sticks | {name: replace(known, **values)})

    return change(data_directory, noted)


def forget_stick(data_directory: Path, name: str) -> Note:
    """Let a stick be one that nothing is written to any more."""

    def without(note: Note) -> Note:
        return replace(note, sticks={k: v for k, v in note.sticks.items() if k != name})

    return change(data_directory, without)


def _to_json(note: Note) -> bytes:
    body = asdict(note) | {"format": FORMAT, "sealed": base64.b64encode(note.sealed).decode()}
    return json.dumps(body, default=lambda at: at.isoformat(), indent=1).encode()


def _from_json(body: dict[str, Any]) -> Note:
    sticks = {
        str(name): Stick(
            label=str(one["label"]),
            last=datetime.fromisoformat(one["last"]) if one["last"] else None,
            trouble=str(one["trouble"]),
        )
        for name, one in body["sticks"].items()
    }
    sealed = base64.b64decode(body["sealed"])
    return Note(str(body["clinic"]), str(body["public"]), sealed, sticks)
