"""Files that are the old or the new after a power cut, and never half of either."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

# What a file system says that cannot sync a folder, some network disks among them
_CANNOT = {errno.EINVAL, errno.ENOTSUP}


def write_durably(path: Path, content: bytes, private: bool = False) -> None:
    """Put a file in place of the old one, whole or not at all, and on the disk; raises OSError.

    ``private``: for this user's eyes alone, from the first byte on.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _written(path, content, private) as new:
        new.replace(path)
    sync_folder(path.parent)


def write_once(path: Path, content: bytes) -> None:
    """Put a file where there is none yet, for this user's eyes alone, as above; the one that is
    there stays. Of several who do it at once, one wins. Raises OSError.

    An empty one is none: a power cut, or a full disk, once left it.
    """
    if path.exists() and path.stat().st_size:
        return
    path.unlink(missing_ok=True)
    with _written(path, content, private=True) as new:
        try:
            os.link(new, path)
        except FileExistsError:
            return
        except OSError:  # a file system without links, as sticks have
            if not path.exists():
                new.replace(path)
    sync_folder(path.parent)


@contextlib.contextmanager
def _written(path: Path, content: bytes, private: bool) -> Iterator[Path]:
    """The file beside its place, on the disk, for a while."""
    new = path.with_name(f"{path.name}.{secrets.token_hex(4)}.new")
    try:
        rights = 0o600 if private else 0o666
        handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY, rights)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        yield new
    finally:
        new.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk, where the system can be asked to; raises OSError."""
    if os.name == "nt":  # Windows gives no handle to a folder; NTFS keeps a journal of its own
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
    finally:
        os.close(handle)


# Windows would else write a carriage return before every line feed
_BINARY = getattr(os, "O_BINARY", 0)
