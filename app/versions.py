"""What a form was filled from, so that two people who change the same thing lose nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.core import signing

SALT = "clinic.version"
_MISSING = object()


def seal(values: Mapping[str, Any]) -> str:
    """Values as they were when a form was filled, for a hidden field of it: signed, not secret."""
    return signing.dumps(dict(values), salt=SALT, compress=True)


def unseal(token: str) -> dict[str, Any]:
    """What `seal` was given; nothing where the token is not ours: then everything has changed."""
    try:
        found = signing.loads(token, salt=SALT)
    except signing.BadSignature:
        return {}
    return found if isinstance(found, dict) else {}


@dataclass(frozen=True)
class Settled:
    """The values that stand once both sides were heard, and which somebody else changed.

    ``theirs``: changed by somebody else alone, and taken over. ``both``: changed by both, where
    what was typed here stands.
    """

    values: dict[str, Any]
    theirs: tuple[str, ...]
    both: tuple[str, ...]

    @property
    def undisturbed(self) -> bool:
        """Whether nobody else changed anything in a way that matters here."""
        return not (self.theirs or self.both)


def settle(base: Mapping[str, Any], typed: Mapping[str, Any], now: Mapping[str, Any]) -> Settled:
    """Three-way: ``base`` filled the form, ``typed`` came back, ``now`` is what is kept."""
    changed = [n for n in typed if now[n] != base.get(n, _MISSING) and typed[n] != now[n]]
    theirs = tuple(n for n in changed if typed[n] == base.get(n, _MISSING))
    values = {n: now[n] if n in theirs else value for n, value in typed.items()}
    return Settled(values, theirs, tuple(n for n in changed if n not in theirs))


def digest(values: Mapping[str, Any]) -> str:
    """A short name of values: two that differ have two names."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
