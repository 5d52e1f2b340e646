"""``vault.json``: the wrapped keys, and how far encryption has come. Nothing in it is secret.

Twice, the second time beside the daily copies: without it nothing can be opened by anybody.
"""

from __future__ import annotations

import base64
import json
import secrets
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from app.cxr.durable import write_durably
from app.vault import hierarchy
from app.vault.hierarchy import Cost, Keys, Wrapped, WrongKey

NAME = "vault.json"
SECOND = f"backups/{NAME}"
FORMAT = 1


class State(StrEnum):
    """``PREPARED``: everything is still in the clear, until the next start."""

    PREPARED = "prepared"
    ON = "on"


@dataclass(frozen=True)
class Vault:
    """What the file says. ``name``: a random one."""

    name: str
    state: State
    cost: Cost
    by_passphrase: Wrapped
    by_recovery: Wrapped
    films: Wrapped

    def opened(self, passphrase: str) -> Keys:
        """The keys, by the passphrase; takes its time, right or wrong. Raises WrongKey."""
        if not self.cost.is_bearable:
            raise WrongKey
        return hierarchy.by_passphrase(
            self.name, self.by_passphrase, self.cost, passphrase, self.films
        )

    def recovered(self, line: str) -> Keys:
        """The keys, by the recovery key. Raises WrongKey."""
        return hierarchy.by_recovery(self.name, self.by_recovery, line, self.films)

    def turned_on(self) -> Vault:
        """The same, and what is stored is encrypted from now on."""
        return replace(self, state=State.ON)

    def with_passphrase(self, opened: Keys, passphrase: str) -> Vault:
        """The same under another passphrase: only the master key is wrapped anew."""
        cost = _new_cost()
        wrapped = opened.wrapped_by_passphrase(passphrase, cost)
        return replace(self, cost=cost, by_passphrase=wrapped)


def make(passphrase: str) -> tuple[Vault, str]:
    """A new vault, prepared, and its recovery key, which is kept nowhere."""
    made, cost = hierarchy.make(), _new_cost()
    line = hierarchy.new_recovery()
    vault = Vault(
        made.vault,
        State.PREPARED,
        cost,
        made.wrapped_by_passphrase(passphrase, cost),
        made.wrapped_by_recovery(line),
        made.wrapped_films,
    )
    return vault, line


def read(data_directory: Path) -> Vault | None:
    """The vault of a data directory; None where there is none."""
    for name in (NAME, SECOND):
        try:
            return _read(json.loads((data_directory / name).read_bytes()))
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            continue
    return None


def write(data_directory: Path, vault: Vault) -> None:
    """Keep it, both times; raises OSError."""
    content = json.dumps(_written(vault), indent=1).encode()
    for name in (SECOND, NAME):
        write_durably(data_directory / name, content, private=True)


def remove(data_directory: Path) -> None:
    """Forget a vault under which nothing is encrypted; raises OSError."""
    for name in (NAME, SECOND):
        (data_directory / name).unlink(missing_ok=True)


def _new_cost() -> Cost:
    return Cost(secrets.token_bytes(16), hierarchy.MEMORY_KIB, hierarchy.PASSES, hierarchy.LANES)


def _written(vault: Vault) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "name": vault.name,
        "state": vault.state,
        "argon2id": {
            "salt": _text(vault.cost.salt),
            "memory_kib": vault.cost.memory_kib,
            "passes": vault.cost.passes,
            "lanes": vault.cost.lanes,
        },
        "by_passphrase": _pair(vault.by_passphrase),
        "by_recovery": _pair(vault.by_recovery),
        "films": _pair(vault.films),
    }


def _read(body: dict[str, Any]) -> Vault:
    if body["format"] != FORMAT:
        raise ValueError("of another version")
    cost = body["argon2id"]
    return Vault(
        str(body["name"]),
        State(body["state"]),
        Cost(_bytes(cost["salt"]), *(int(cost[n]) for n in ("memory_kib", "passes", "lanes"))),
        *(Wrapped(*map(_bytes, body[n])) for n in ("by_passphrase", "by_recovery", "films")),
    )


def _pair(wrapped: Wrapped) -> list[str]:
    return [_text(wrapped.nonce), _text(wrapped.sealed)]


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
