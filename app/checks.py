"""Start-up checks. What goes wrong is a code; the sentence for it can be read out on the phone."""

from __future__ import annotations


def current_problems() -> list[str]:
    """Codes of what is wrong right now."""
    return []


def usable_model() -> str | None:
    """``name@version`` of the model that answers; None when none is usable."""
    return None
