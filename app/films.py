"""Where the films are: the one place that stores, opens and removes their files.

A film is named by the SHA-256 of its bytes. It lies in a folder, the data directory's own or one
that several machines share (``CLINIC_FILM_STORAGE``), or in any storage Django knows, such as an
S3-compatible one. With encryption on (``app.vault``) those of the data directory are encrypted, and
so are their names. Rows come and go with transactions; a file is only removed once no row speaks of
it any more, and whoever removes or keeps one waits for its turn (``app.database.take_turns``).
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Protocol

from django.conf import settings
from django.core.files import File
from django.core.files.storage import Storage, storages
from django.core.files.storage.handler import StorageHandler

from app import options, vault
from app.cxr.durable import sync_folder
from app.options import Bucket

FOLDER = "films"
#: The name of the Django storage that ``CLINIC_FILM_STORAGE`` sets up.
STORAGE = "films"
CHUNK = 1024 * 1024


class Unreachable(OSError):
    """The place of the films cannot be had now; what is in it is not lost."""


class Place(Protocol):
    """Somewhere films are kept."""

    def prepare(self, is_new: bool, /) -> None:
        """Find it there, or make it where there is no film yet. Raises OSError."""

    def keep(self, temporary: Path, sha256: str, /) -> None:
        """Store a file of this machine; on return it outlives a power cut. Raises OSError."""

    def local(self, sha256: str, /) -> contextlib.AbstractContextManager[Path | bytes]:
        """A file of this machine to read the film from, or what is in it; of a film that is not
        there, no file is at that path. Raises OSError.
        """

    def stored_at(self, sha256: str, /) -> float | None:
        """When it was stored, in seconds since 1970; None where nobody knows. Raises OSError."""

    def is_kept(self, sha256: str, /) -> bool:
        """Whether it is there. Raises OSError."""

    def remove(self, sha256: str, /) -> None:
        """Remove it; one that is not there is removed. Raises OSError."""

    def digests(self) -> Iterator[str]:
        """All films that are there, in no order. Raises OSError."""


def name_of(sha256: str) -> str:
    """What the film of that digest is called in its place."""
    return f"{FOLDER}/{sha256[:2]}/{sha256}"


def place() -> Place:
    """The place that the settings name."""
    if STORAGE in settings.STORAGES:
        return StoragePlace(storages[STORAGE])
    shared: Path | None = settings.FILM_FOLDER
    return FolderPlace(shared, is_shared=True) if shared else here()


def place_at(storage: Path | Bucket) -> Place:
    """The place that a setting, or whoever moves films, names."""
    if isinstance(storage, Path):
        return FolderPlace(storage, is_shared=True)
    return StoragePlace(StorageHandler(options.storages(storage))[STORAGE])


def here() -> Place:
    """The place in the data directory, whatever the settings name."""
    if vault.is_on():
        from app.vault.place import SealedPlace

        return SealedPlace(settings.DATA_DIR)
    return FolderPlace(settings.DATA_DIR)


def prepare(is_new: bool) -> None:
    """Look whether the place can be had, and make it where there is no film yet (``is_new``).

    Raises OSError.
    """
    place().prepare(is_new)


def keep(temporary: Path, sha256: str) -> None:
    """Store a film; on return a power cut does not lose it. Raises OSError."""
    place().keep(temporary, sha256)


def local(sha256: str) -> contextlib.AbstractContextManager[Path | bytes]:
    """A file of this machine to read the film from, for as long as the context lasts, or what is in
    it where it is encrypted; where the film is not there, neither is the file. Never to be written
    to. Raises OSError.
    """
    return place().local(sha256)


def opened(film: Path | bytes) -> io.BytesIO | io.BufferedReader:
    """What ``local`` gave, as a file to read. Raises OSError."""
    return io.BytesIO(film) if isinstance(film, bytes) else film.open("rb")


def stored_at(sha256: str) -> datetime | None:
    """When a film was stored; None where nobody knows. Raises OSError."""
    seconds = place().stored_at(sha256)
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def receive(source: IO[bytes], temporary: Path) -> None:
    """Write a film that comes in to a file of this machine, to be kept from there: encrypted where
    films are, and on the disk itself. Raises what reading raises, and OSError.
    """
    with temporary.open("wb") as file:
        if vault.is_on():
            from app.vault import seal

            seal.encrypt(vault.keys(), source, file)
        else:
            shutil.copyfileobj(source, file, CHUNK)
        file.flush()
        os.fsync(file.fileno())


def received(temporary: Path) -> Path | bytes:
    """Such a film, to be read. Raises OSError."""
    if vault.is_on():
        from app.vault import seal

        return seal.opened(vault.keys(), temporary.read_bytes())
    return temporary


def is_kept(sha256: str) -> bool:
    """Whether the film is where films are. Raises OSError."""
    return place().is_kept(sha256)


def remove(sha256: str) -> None:
    """Remove a film that no row speaks of. Raises OSError."""
    place().remove(sha256)


def digests() -> Iterator[str]:
    """The digests of all films that are stored, in no order. Raises OSError."""
    return place().digests()


def is_digest(name: str) -> bool:
    """Whether a file's name is that of a film."""
    return len(name) == 64 and not set(name) - set("0123456789abcdef")


class FolderPlace:
    """A folder of this machine, or one that it shares with others."""

    def __init__(self, folder: Path, is_shared: bool = False) -> None:
        self._folder, self._is_shared = folder, is_shared

    def prepare(self, is_new: bool) -> None:
        """A share is only made a place of films while there are none."""
        if self._is_shared and is_new:
            (self._folder / FOLDER).mkdir(exist_ok=True)
        self._look()

    def keep(self, temporary: Path, sha256: str) -> None:
        """Into place in one step, the folder's entry on the disk as well."""
        self._look()
        final = self._file(sha256)
        fresh = not final.parent.is_dir()
        final.parent.mkdir(parents=True, exist_ok=True)
        if self._is_shared:
            _copy_beside(temporary, final)
        else:
            temporary.replace(final)
        sync_folder(final.parent)
        if fresh:
            sync_folder(final.parent.parent)
            sync_folder(final.parent.parent.parent)

    @contextlib.contextmanager
    def local(self, sha256: str) -> Iterator[Path | bytes]:
        """The file itself."""
        self._look()
        yield self._file(sha256)

    def stored_at(self, sha256: str) -> float | None:
        """What the file system says."""
        return self._file(sha256).stat().st_mtime

    def is_kept(self, sha256: str) -> bool:
        """Whether the file is there."""
        self._look()
        return self._file(sha256).is_file()

    def remove(self, sha256: str) -> None:
        """Remove the file."""
        self._look()
        self._file(sha256).unlink(missing_ok=True)

    def digests(self) -> Iterator[str]:
        """What the names say."""
        self._look()
        root = self._folder / FOLDER
        for folder in root.iterdir() if root.is_dir() else ():
            yield from (f.name for f in folder.glob(f"{folder.name}*") if is_digest(f.name))

    def _file(self, sha256: str) -> Path:
        return self._folder / name_of(sha256)

    def _look(self) -> None:
        """A share that is not mounted is an empty folder: it must neither be taken for one whose
        films are gone, nor be written to.
        """
        if self._is_shared and not (self._folder / FOLDER).is_dir():
            raise Unreachable(errno.ENOENT, "the folder of the films is not there")


class StoragePlace:
    """Any storage that Django knows. What it raises is an OSError here."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def prepare(self, _is_new: bool) -> None:
        """Ask it for something."""
        self.is_kept("0" * 64)

    def keep(self, temporary: Path, sha256: str) -> None:
        """Put, then read back: of what a storage does behind its name nobody here knows."""
        name = name_of(sha256)
        with _reaching():
            if self._holds(sha256):
                return
            # One that is there and is not the film would be given another name by some storages
            self._storage.delete(name)
            with temporary.open("rb") as file:
                stored = self._storage.save(name, File(file))
            if stored != name or not self._holds(sha256):
                self._storage.delete(stored)
                raise Unreachable(errno.EIO, "what was stored is not what was sent")

    def stored_at(self, _sha256: str) -> float | None:
        """Storages need not know."""
        return None

    @contextlib.contextmanager
    def local(self, sha256: str) -> Iterator[Path | bytes]:
        """A copy, for a while; one that did not come whole is not handed out."""
        settings.TEMPORARY_DIR.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=settings.TEMPORARY_DIR, prefix="film-") as folder:
            copy = Path(folder) / sha256
            with _reaching(), contextlib.suppress(FileNotFoundError):
                with self._storage.open(name_of(sha256)) as stored, copy.open("wb") as file:
                    digest = _copy(stored, file)
                if digest != sha256:
                    raise OSError(errno.EIO, "the film is not whole")
            yield copy

    def is_kept(self, sha256: str) -> bool:
        """Whether the storage says so."""
        with _reaching():
            return self._storage.exists(name_of(sha256))

    def remove(self, sha256: str) -> None:
        """Have it removed."""
        with _reaching():
            self._storage.delete(name_of(sha256))

    def digests(self) -> Iterator[str]:
        """What the storage lists."""
        with _reaching():
            folders, _files = self._storage.listdir(FOLDER)
        for folder in folders:
            with _reaching():
                _folders, files = self._storage.listdir(f"{FOLDER}/{folder}")
            yield from filter(is_digest, files)

    def _holds(self, sha256: str) -> bool:
        try:
            with self._storage.open(name_of(sha256)) as stored:
                return _copy(stored, None) == sha256
        except FileNotFoundError:
            return False


@contextlib.contextmanager
def _reaching() -> Iterator[None]:
    """A storage's own faults, of which every library has its own family, as Unreachable."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise Unreachable(errno.EIO, "the storage of the films cannot be reached") from error


def _copy(source: IO[bytes] | File[bytes], target: IO[bytes] | None) -> str:
    """Copy, or only read; the digest of what came."""
    digest = hashlib.sha256()
    while chunk := source.read(CHUNK):
        digest.update(chunk)
        if target:
            target.write(chunk)
    return digest.hexdigest()


def _copy_beside(temporary: Path, final: Path) -> None:
    """Copy to another disk, where nothing can be moved to, and into place when it is whole."""
    handle, name = tempfile.mkstemp(dir=final.parent, prefix=".")
    unfinished = Path(name)
    try:
        with os.fdopen(handle, "wb") as target, temporary.open("rb") as source:
            shutil.copyfileobj(source, target, CHUNK)
            target.flush()
            os.fsync(target.fileno())
        unfinished.replace(final)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
