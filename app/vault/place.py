"""The films of the data directory, encrypted."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from app import vault
from app.films import FOLDER, FolderPlace
from app.vault import seal


class SealedPlace(FolderPlace):
    """A folder of this machine whose films are in age, under names that only the key explains."""

    @contextlib.contextmanager
    def local(self, sha256: str) -> Iterator[Path | bytes]:
        """What is in the file, which never lies anywhere in the clear; raises seal.Damaged."""
        file = self._file(sha256)
        yield seal.decrypt(vault.keys(), file, sha256) if file.is_file() else file

    def digests(self) -> Iterator[str]:
        """What the names say to whoever has the key."""
        keys, root = vault.keys(), self._folder / FOLDER
        for folder in root.iterdir() if root.is_dir() else ():
            found = (seal.digest_of(keys, file.name) for file in folder.glob(f"{folder.name}*"))
            yield from filter(None, found)

    def _file(self, sha256: str) -> Path:
        name = seal.name_of(vault.keys(), sha256)
        return self._folder / FOLDER / name[:2] / name
