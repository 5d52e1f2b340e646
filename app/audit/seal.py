"""The key that vouches for the end of the record, in a file beside the database, never in it.

Whoever writes into the database alone can compute digests, but no seal.
"""

from __future__ import annotations

import contextlib
import hmac
import secrets
from pathlib import Path

from django.conf import settings

from app.cxr.durable import write_once

KEY_FILE = "audit.key"
_DIGITS = 64
_known: dict[Path, str] = {}


def seal(*values: object) -> str:
    """The seal of these values; empty where there is no key and none can be written."""
    key = _key(settings.DATA_DIR / KEY_FILE)
    words = "\n".join(map(str, values)).encode("utf-8")
    return hmac.digest(key.encode("ascii"), words, "sha256").hex() if key else ""


def fits(sealed: str, *values: object) -> bool:
    """Whether ``sealed`` is the seal of these values."""
    return bool(sealed) and hmac.compare_digest(sealed, seal(*values))


def _key(path: Path) -> str:
    """The key, made where there is none; kept in memory: it is asked for with every event."""
    if path not in _known:
        with contextlib.suppress(OSError, UnicodeDecodeError):
            write_once(path, secrets.token_hex(_DIGITS // 2).encode("ascii"))
            found = path.read_text(encoding="ascii").strip()
            if len(found) == _DIGITS:
                _known[path] = found
    return _known.get(path, "")
