"""The record as a file that can be checked without the program: docs/audit.md describes it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from app.audit import chain
from app.models import AuditEvent, AuditHead

FORM = "clinic record 1"
SUFFIX = ".jsonl"
CHUNK = 1000


def file_name() -> str:
    """A name for the file that says what it is and of when."""
    return f"who-did-what-{datetime.now().astimezone():%Y%m%d-%H%M}{SUFFIX}"


def lines() -> Iterator[str]:
    """One JSON object a line, each with its line feed: the head, then the events in their order.

    The record may grow meanwhile: what comes after the head is left out.
    """
    head = AuditHead.current()
    yield _line(
        {
            "form": FORM,
            "events": head.count,
            "digest": head.digest,
            "written": datetime.now(UTC).isoformat(timespec="seconds"),
        }
    )
    events = AuditEvent.objects.filter(sequence__lte=head.count).order_by("sequence")
    last = 0
    while chunk := list(events.filter(sequence__gt=last).values(*chain.NAMES, "digest")[:CHUNK]):
        for values in chunk:
            yield _line({**chain.event(values), "digest": values["digest"]})
        last = chunk[-1]["sequence"]


def write(target: Path) -> int:
    """Write the file; how many events it holds. Raises OSError."""
    unfinished = target.with_name(f"{target.name}.new")
    try:
        with unfinished.open("w", encoding="ascii", newline="\n") as file:
            count = sum(file.write(line) and 1 for line in lines()) - 1
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)
    return count


def _line(values: dict[str, Any]) -> str:
    return f"{json.dumps(values, separators=(',', ':'))}\n"
