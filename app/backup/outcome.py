"""What a restoration or a repair has done, kept until an administrator has read it.

Apart from what does it: every page asks for this, and few need the rest.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from app.cxr.durable import write_durably

NAME = "restored.json"
RESTORE, REINDEX, COPY = "restore", "reindex", "copy"


@dataclass(frozen=True)
class Outcome:
    """``kind``: an administrator's restoration, a database whose indexes were made anew (nothing
    is lost), or one that was replaced by a copy of ``made_at``. ``aside``: the folder, below the
    data directory, of what was there before. ``films``: those that were on the disk without a row,
    and were entered again.
    """

    kind: str
    at: str
    made_at: str
    aside: str
    by: str = ""
    damaged: int = 0
    films: int = 0
    noted: bool = False
    seen: bool = False

    @property
    def day(self) -> datetime:
        """When what stands now was copied."""
        return datetime.fromisoformat(self.made_at)


def read(data_directory: Path) -> Outcome | None:
    """The last one; None where there was none."""
    try:
        return Outcome(**json.loads((data_directory / NAME).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def write(data_directory: Path, outcome: Outcome) -> None:
    """Keep it; raises OSError."""
    write_durably(data_directory / NAME, json.dumps(asdict(outcome)).encode())


def change(data_directory: Path, **values: int | bool) -> None:
    """Note something more of it; raises OSError."""
    if outcome := read(data_directory):
        write(data_directory, replace(outcome, **values))  # type: ignore[arg-type]


def now() -> str:
    """This moment, as outcomes keep it."""
    return datetime.now(UTC).isoformat()
