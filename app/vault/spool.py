"""Files for what passes: uploads on their way in, long answers on their way out.

With encryption on they are encrypted too, under a key that is never written anywhere and is gone
with the file: on a disk that loses nothing by deletion, this is what keeps a film off it. AES-CTR,
because they are written from their beginning to their end, once, and read from anywhere. Nobody but
this process ever reads them, so nothing is authenticated.
"""

from __future__ import annotations

import io
import secrets
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR
from django.conf import settings

from app import vault

if TYPE_CHECKING:
    from typing_extensions import Buffer

BLOCK = 16


def temporary(folder: Path | None = None) -> IO[bytes]:
    """A file without a name, encrypted where what is stored is. Raises OSError."""
    file = tempfile.TemporaryFile(dir=folder or settings.TEMPORARY_DIR)  # noqa: SIM115
    return cast("IO[bytes]", Spool(file)) if vault.is_on() else cast("IO[bytes]", file)


class WriteOnly:
    """A file that can neither be asked where it is nor go elsewhere: a zip is then written from its
    beginning to its end.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write(self, content: bytes, /) -> int:
        """Write all of it."""
        return self._file.write(content)

    def flush(self) -> None:
        """Hand on what is buffered."""
        self._file.flush()

    def close(self) -> None:
        """Nothing: it is whose it was."""


class Spool(io.RawIOBase):
    """A file under a key of its own. Written only at its end, read anywhere."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__()
        self._file, self._key = file, secrets.token_bytes(32)
        self._at = self._end = 0

    def readable(self) -> bool:
        """Yes."""
        return True

    def writable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go there."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._end}[whence]
        self._at = max(0, start + offset)
        return self._at

    def tell(self) -> int:
        """Where it is."""
        return self._at

    def read(self, size: int = -1, /) -> bytes:
        """So many bytes from here, or all."""
        left = max(0, self._end - self._at)
        size = left if size is None or size < 0 else min(size, left)
        self._file.seek(self._at)
        content = self._file.read(size)
        plain = self._crypt(content, self._at)
        self._at += len(plain)
        return plain

    def readinto(self, buffer: Any, /) -> int:
        """The same, into a buffer."""
        content = self.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)

    def write(self, content: Buffer, /) -> int:
        """Write at the end, where alone it may: no place is ever encrypted twice under one key."""
        if self._at != self._end:
            raise io.UnsupportedOperation("only at the end")
        content = bytes(content)
        self._file.seek(self._at)
        self._file.write(self._crypt(content, self._at))
        self._at = self._end = self._end + len(content)
        return len(content)

    def truncate(self, size: int | None = None, /) -> int:
        """Begin anew, under another key; nothing else."""
        if size not in (0, None) or (size is None and self._at):
            raise io.UnsupportedOperation("only to nothing")
        self._key, self._at, self._end = secrets.token_bytes(32), 0, 0
        return self._file.truncate(0)

    def flush(self) -> None:
        """Hand on what is buffered."""
        if not self.closed:
            self._file.flush()

    def close(self) -> None:
        """Close it, and with it goes its key."""
        if not self.closed:
            super().close()
            self._file.close()

    def _crypt(self, content: bytes, at: int) -> bytes:
        block, inside = divmod(at, BLOCK)
        stream = Cipher(AES256(self._key), CTR(block.to_bytes(BLOCK, "big"))).encryptor()
        stream.update(b"\0" * inside)
        return stream.update(content)
