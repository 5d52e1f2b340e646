"""Form 1 of an event's digest. It never changes: what was written under it must always check.

The digest of an event is SHA-256 over the digest of the event before, a line feed, and the event
as JSON: keys in order, no spaces, ASCII alone. docs/audit.md says it to whoever checks a file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

#: What comes before the first event.
START = "0" * 64
#: The names of an event's values, all of them under its digest.
NAMES = ("sequence", "at", "user", "username", "action", "kind", "subject", "details")
#: Beyond this a float and the whole number of the same digits are two (IEEE 754 binary64).
_EXACT = 2.0**53


def event(values: Mapping[str, Any]) -> dict[str, Any]:
    """The event as it is digested and taken out. ``values`` holds all of NAMES, ``at`` aware."""
    return {name: _plain(values[name]) for name in NAMES}


def digest(before: str, event: Mapping[str, Any]) -> str:
    """The digest of an event that follows one with the digest ``before``; 64 hex digits."""
    return hashlib.sha256(f"{before}\n{text(event)}".encode("ascii")).hexdigest()


def text(event: Mapping[str, Any]) -> str:
    """The one way to write it down."""
    return json.dumps(event, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _plain(value: Any) -> Any:
    """A value that reads the same from every database: jsonb keeps 1.0 and 1e3 as it likes."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds")
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT:
        return int(value)
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value
