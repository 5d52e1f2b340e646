"""Text as it is kept, and as the search compares it."""

from __future__ import annotations

import unicodedata

# Without these two, Persian and Sinhala names are misspelt and an emoji falls into its parts
_JOINERS = "\u200c\u200d"


def one_line(text: str) -> str:
    """A name or number as it is kept: one line, NFC, no controls and nothing that turns the reading
    direction (formats); the joiners that some scripts are written with stay inside a word.
    """
    kept = "".join(_kept(c) for c in text)
    words = (word.strip(_JOINERS) for word in kept.split())
    return unicodedata.normalize("NFC", " ".join(word for word in words if word))


def _kept(character: str) -> str:
    category = unicodedata.category(character)
    if category in {"Cc", "Zl", "Zp"}:
        return " "
    return "" if category in {"Cf", "Cs", "Co"} and character not in _JOINERS else character


def searchable(text: str) -> str:
    """Text as the search compares it: case and accents set aside, in every script.

    SQLite's own LIKE ignores case for ASCII letters only.
    """
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(
        c for c in decomposed if not unicodedata.combining(c) and unicodedata.category(c) != "Cf"
    )


def same_words(one: str, other: str) -> bool:
    """Whether two names are the same words, in whatever order: some write the family name first."""
    return sorted(searchable(one).split()) == sorted(searchable(other).split())
