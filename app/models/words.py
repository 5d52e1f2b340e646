"""Text as the search compares it."""

from __future__ import annotations

import unicodedata


def searchable(text: str) -> str:
    """Text as the search compares it: case and accents set aside, in every script.

    SQLite's own LIKE ignores case for ASCII letters only.
    """
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(c for c in decomposed if not unicodedata.combining(c))
