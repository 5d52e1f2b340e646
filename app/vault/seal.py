"""Films encrypted one by one, in age (age-encryption.org/v1): each under a key of its own, which is
wrapped for the vault's key pair; in chunks of 64 KiB, each authenticated with its place.

Their names give nothing away either: a digest in the clear would tell whoever has a film that the
clinic has it too. AES-SIV (RFC 5297) makes of a digest always the same name, and of the name the
digest again for whoever has the key, as a repair of the database needs it.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
from pathlib import Path
from typing import IO, TYPE_CHECKING

import pyrage
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from app.vault.hierarchy import Keys

if TYPE_CHECKING:
    from typing_extensions import Buffer

SUFFIX = ".age"
CHUNK = 1024 * 1024


class Damaged(OSError):
    """What is stored is not what was stored: a bit has turned, or somebody has changed it."""

    def __init__(self) -> None:
        super().__init__(errno.EIO, "an encrypted film is damaged")


def name_of(keys: Keys, sha256: str) -> str:
    """What the film of that digest is called."""
    return AESSIV(keys.names).encrypt(bytes.fromhex(sha256), None).hex() + SUFFIX


def digest_of(keys: Keys, name: str) -> str | None:
    """The digest that a name stands for; None of one that this vault has not made."""
    stem = name.removesuffix(SUFFIX)
    if stem == name or len(stem) != 96:
        return None
    try:
        return AESSIV(keys.names).decrypt(bytes.fromhex(stem), None).hex()
    except (InvalidTag, ValueError):
        return None


def encrypt(keys: Keys, source: IO[bytes], target: IO[bytes]) -> None:
    """Encrypt a film. Raises what reading and writing raise."""
    reading, writing = _Through(source), _Through(target)
    try:
        pyrage.encrypt_io(reading, writing, [keys.films.to_public()])
    except pyrage.EncryptError as error:
        raise reading.fault or writing.fault or OSError(errno.EIO, str(error)) from error


def decrypt(keys: Keys, file: Path, sha256: str) -> bytes:
    """A film, whole and the very one, or Damaged; raises OSError where it cannot be read."""
    content = opened(keys, file.read_bytes())
    if hashlib.sha256(content).hexdigest() != sha256:
        raise Damaged
    return content


def opened(keys: Keys, sealed: bytes) -> bytes:
    """What is in an encrypted file; raises Damaged."""
    try:
        return bytes(pyrage.decrypt(sealed, [keys.films]))
    except pyrage.DecryptError as error:
        raise Damaged from error


def put(keys: Keys, source: IO[bytes], target: Path) -> None:
    """Encrypt into a file that is there whole or not at all; raises OSError."""
    part = target.with_name(f"{target.name}.part")
    try:
        with part.open("wb") as file:
            encrypt(keys, source, file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


class _Through(io.BufferedIOBase):
    """A file that remembers what went wrong: pyrage's own errors do not say."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__()
        self._file = file
        self._rest = memoryview(b"")
        self.fault: Exception | None = None

    def read(self, size: int | None = CHUNK, /) -> bytes:
        """The next bytes, read from the file in large pieces: pyrage asks for small ones."""
        if not self._rest:
            try:
                self._rest = memoryview(self._file.read(CHUNK))
            except Exception as error:
                self.fault = error
                raise
        size = CHUNK if size is None or size < 0 else size
        asked, self._rest = self._rest[:size], self._rest[size:]
        return bytes(asked)

    def write(self, content: Buffer, /) -> int:
        """Write all of it."""
        try:
            return self._file.write(bytes(content))
        except Exception as error:
            self.fault = error
            raise
