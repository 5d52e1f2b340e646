"""The key that vouches for the end of the record, in a file beside the database, never in it.

Whoever writes into the database alone can compute digests, but no seal.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import secrets
from pathlib import Path

from django.conf import settings

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
            _make(path)
            found = path.read_text(encoding="ascii").strip()
            if len(found) == _DIGITS:
                _known[path] = found
    return _known.get(path, "")


def _make(path: Path) -> None:
    """A new key where there is no file yet: of two processes that start at once, one wins."""
    with contextlib.suppress(FileExistsError):
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(handle, secrets.token_hex(_DIGITS // 2).encode("ascii"))
            os.fsync(handle)
        finally:
            os.close(handle)
