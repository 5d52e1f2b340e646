"""A folder of encrypted backups, on a stick or a share: what lies where, and whether it is whole.

::

    clinic-backup/
      store.json                 whose it is, and under which key
      key.age                    the secret half of the key, sealed with the passphrase
      blobs/ab/<SHA-256>.age     each file once, encrypted, named by the digest of what is in it
      sets/20261125T040208Z.json the list of one backup, written last
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyrage

from app.backup import FOLDER, keys
from app.backup.faults import BackupFault, over_there
from app.backup.manifest import Entry, Manifest
from app.backup.note import Note
from app.cxr.durable import write_durably

FORMAT = 1
ABOUT, KEY, BLOBS, SETS = "store.json", "key.age", "blobs", "sets"
README = "READ ME.txt"
PART = ".part"
CHUNK = 1024 * 1024
_STAMP = "%Y%m%dT%H%M%SZ"
_BLOB = re.compile(r"[0-9a-f]{64}\.age")


@dataclass(frozen=True)
class Store:
    """One such folder. ``name`` is its own, ``key`` the digest of the public half it is under."""

    folder: Path
    name: str
    clinic: str
    key: str

    @staticmethod
    def at(place: Path) -> Store | None:
        """The store in a folder, or the folder itself where it is one; None where there is none."""
        for folder in (place / FOLDER, place):
            with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
                about = json.loads((folder / ABOUT).read_bytes())
                if about["format"] == FORMAT:
                    return Store(folder, str(about["name"]), str(about["clinic"]), about["key"])
        return None

    @staticmethod
    def begin(place: Path, note: Note, words: str) -> Store:
        """The clinic's store there, made where there is none; raises BackupFault.

        One under other keys, or another clinic's, is set aside under a name of its own and stays.
        ``words``: for whoever finds the stick.
        """
        known = Store.at(place)
        if known and known.folder != place / FOLDER:
            place = known.folder.parent  # a store was named, not the folder around it
        if known and (known.clinic, known.key) == (note.clinic, key_name(note.public)):
            return known
        folder = place / FOLDER
        about = {
            "format": FORMAT,
            "name": secrets.token_hex(8),
            "clinic": note.clinic,
            "key": key_name(note.public),
        }
        with over_there():
            if folder.exists():
                folder.rename(_free_name(folder))
            for name in (BLOBS, SETS):
                (folder / name).mkdir(parents=True)
            write_durably(folder / README, words.encode())
            write_durably(folder / KEY, note.sealed)
            write_durably(folder / ABOUT, json.dumps(about).encode())
        return Store(folder, about["name"], note.clinic, about["key"])  # type: ignore[arg-type]

    # --- what is in it ---------------------------------------------------------------------------

    def sets(self) -> list[Path]:
        """The lists of its backups, newest first; none where the stick is gone."""
        with contextlib.suppress(OSError):
            found = [path for path in (self.folder / SETS).iterdir() if moment_of(path)]
            return sorted(found, reverse=True)
        return []

    def read(self, listed: Path) -> Manifest:
        """One list; raises BackupFault."""
        try:
            return Manifest.from_bytes(listed.read_bytes())
        except OSError as error:
            raise BackupFault("not_there") from error

    def newest(self) -> Manifest | None:
        """The newest backup whose list is whole."""
        for listed in self.sets():
            with contextlib.suppress(BackupFault):
                return self.read(listed)
        return None

    def blob(self, sha256: str) -> Path:
        """Where a file of that digest lies."""
        return self.folder / BLOBS / sha256[:2] / f"{sha256}.age"

    def blobs(self) -> Iterator[Path]:
        """All encrypted files, and what a crash left of some."""
        with contextlib.suppress(OSError):
            for folder in sorted((self.folder / BLOBS).iterdir()):
                with contextlib.suppress(OSError):
                    yield from sorted(folder.iterdir())

    def unlock(self, secret: str) -> pyrage.x25519.Identity:
        """The key, by passphrase or by the line that was written down; raises BackupFault."""
        sealed = b""
        with contextlib.suppress(OSError):
            sealed = (self.folder / KEY).read_bytes()
        identity = keys.unlock(sealed, secret)
        if key_name(str(identity.to_public())) != self.key:
            raise BackupFault("wrong_key")
        return identity

    # --- what is done with it --------------------------------------------------------------------

    def finish(self, manifest: Manifest) -> Path:
        """Write the list of a backup, whereby it is one; raises BackupFault."""
        listed = self.folder / SETS / f"{manifest.made_at.astimezone(UTC):{_STAMP}}.json"
        with over_there():
            self.look()
            write_durably(listed, manifest.to_bytes())
        return listed

    def look(self) -> None:
        """Where a stick was is an empty folder when it is gone, and must not be written to: raises
        OSError.
        """
        if not (self.folder / SETS).is_dir():
            raise OSError(errno.ENODEV, "the stick is gone")

    def is_whole(self, entry: Entry) -> bool:
        """Whether the encrypted file is to the byte what was written; reads all of it."""
        try:
            return digest_of(self.blob(entry.sha256)) == (entry.stored_size, entry.stored_sha256)
        except OSError:
            return False

    def give_up(self, entry: Entry) -> None:
        """Remove an encrypted file that has decayed, so that the next backup brings it again: one
        changed bit of it, and nothing after that can be decrypted.
        """
        with contextlib.suppress(OSError):
            self.blob(entry.sha256).unlink()

    def looks_whole(self, entry: Entry) -> bool:
        """The same at a glance: by its size."""
        try:
            return self.blob(entry.sha256).stat().st_size == entry.stored_size
        except OSError:
            return False


def key_name(public: str) -> str:
    """A name for a public half that does not give it away: who has it could add to a backup."""
    return hashlib.sha256(b"clinic-backup " + public.encode()).hexdigest()[:16]


def moment_of(listed: Path) -> datetime | None:
    """When the backup of a list was made; None where a file is no list."""
    try:
        return datetime.strptime(listed.name, f"{_STAMP}.json").replace(tzinfo=UTC)
    except ValueError:
        return None


def digest_of(path: Path) -> tuple[int, str]:
    """Size and SHA-256 of a file; raises OSError."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            size += len(chunk)
            digest.update(chunk)
    return size, digest.hexdigest()


def sweep(store: Store, referred: set[str]) -> int:
    """Remove the encrypted files that no backup speaks of; how many. Strange files are let be."""
    count = 0
    for path in store.blobs():
        stray = _BLOB.fullmatch(path.name) and path.stem not in referred
        if stray or path.name.endswith(f".age{PART}"):
            with contextlib.suppress(OSError):
                path.unlink()
                count += 1
    return count


def flushed(file: object) -> None:
    """Have a file that was written on the disk itself."""
    file.flush()  # type: ignore[attr-defined]
    os.fsync(file.fileno())  # type: ignore[attr-defined]


def _free_name(folder: Path) -> Path:
    names = (folder.with_name(f"{folder.name}-before-{count}") for count in range(1, 1000))
    return next(name for name in names if not name.exists())
