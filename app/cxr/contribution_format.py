"""The contribution, ``.clinicreadings``: the contract of ``export-readings`` and the workshop.

An age file (age-encryption.org/v1, X25519) around a plain ZIP::

    contribution.json     {"format": 1, "site": pseudonym, "program": version, "films": count}
    films.jsonl           one object a line for each film, as docs/contributions.md lists them
    films/<film>.png      the film, 8-bit grey, named by its pseudonym
"""

from __future__ import annotations

import re

FORMAT = 1
SUFFIX = ".clinicreadings"
ABOUT, RECORDS = "contribution.json", "films.jsonl"
LARGEST_TEXT = 64 * 1024**2
#: A film of 1024 x 1024 that does not compress at all, and its header.
LARGEST_FILM = 2 * 1024**2

WHY = ("disagreement", "cannot_say", "near_threshold", "other")
VIEWS = frozenset({"PA", "AP", "LL", "RL"})
SEXES = frozenset({"M", "F", "O"})
CONCLUSIONS = frozenset({"pneumonia", "no_pneumonia", "unsure", "other", "not_usable"})

_PSEUDONYM = re.compile(r"[0-9a-f]{20}")


def is_pseudonym(name: object) -> bool:
    """Whether it is of the form that ``deidentify.pseudonym`` gives."""
    return isinstance(name, str) and _PSEUDONYM.fullmatch(name) is not None


def film_member(film: str) -> str:
    """Where the film of that pseudonym lies in the ZIP."""
    return f"films/{film}.png"
