"""Write a backup into a store: what is there already stays, the list comes last.

Wherever it breaks off (power, stick pulled out, program ended), the backups before are as they
were, and what was brought over whole is not brought again.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING

import pyrage

from app import database, films, vault
from app.backup import DATABASE, DATABASE_KEY, FILES, TREES, keys, rotation
from app.backup.faults import BackupFault, over_here, over_there
from app.backup.manifest import Entry, Manifest, film_path, is_ours
from app.backup.note import Note
from app.backup.store import CHUNK, PART, Store, digest_of, flushed, moment_of, sweep
from app.vault import cipher

if TYPE_CHECKING:
    from typing_extensions import Buffer

logger = logging.getLogger(__name__)

TABLES = {
    "studies": "clinic_study",
    "films": "clinic_instance",
    "readings": "clinic_reading",
    "patients": "clinic_patient",
}
#: Each encrypted file is read through again once in so many days, a part of them a day.
DAYS_OF_A_ROUND = 14
#: Never filled to the brim: a stick that is full cannot even be tidied.
RESERVE_BYTES = 16 * 1024**2
_LEFT_OUT = (".new", ".damaged", ".part", ".lock")

#: Called before each file with how many are done, and of how many; may raise BackupFault.
Watch = Callable[[int, int], None]


def unwatched(_done: int, _of: int) -> None:
    """Nobody looks on."""


@dataclass(frozen=True)
class Piece:
    """A file that belongs into the backup: its path below the data directory, and where it is, or
    what is in it; None of a film, which may be kept elsewhere.
    """

    path: str
    file: Path | bytes | None
    sha256: str
    size: int


@dataclass(frozen=True)
class Clinic:
    """What is backed up: the data directory, a folder for passing files, and the version."""

    data_directory: Path
    temporary: Path
    program: str
    #: A film's file on this machine, for a while.
    film: Callable[[str], contextlib.AbstractContextManager[Path | bytes]]


def back_up(store: Store, note: Note, clinic: Clinic, watch: Watch = unwatched) -> Manifest:
    """Bring everything into the store, or what is new; raises BackupFault.

    A film whose bytes are no longer those it came with is left out, and named in the list: the
    copy of it in an earlier backup, if there is one, stays.
    """
    recipient = keys.recipient(note.public)
    with copied_database(clinic) as copy:
        counts, digests = counts_and_films(copy)
        pieces = [*database_pieces(copy), *small_files(clinic.data_directory)]
        pictures = [Piece(film_path(sha), None, sha, size) for sha, size in digests]
        before = store.newest()
        bringer = _Bringer(store, recipient, clinic, before.by_path if before else {})
        bringer.check_room([*pieces, *pictures])
        entries, missing = [], []
        for done, piece in enumerate([*pieces, *pictures]):
            watch(done, len(pieces) + len(pictures))
            if entry := bringer.bring(piece):
                entries.append(entry)
            elif piece.file is None:
                missing.append(piece.sha256)
            else:
                raise BackupFault("failed")
        made_at = datetime.now(UTC).replace(microsecond=0)
        made = Manifest(
            note.clinic, made_at, clinic.program, counts, tuple(entries), tuple(missing)
        )
    store.finish(made)
    tidy(store)
    return made


def tidy(store: Store) -> None:
    """Remove the backups that need not stay, and then what no backup speaks of."""
    listed = {at: path for path in store.sets() if (at := moment_of(path))}
    stays = rotation.kept(listed)
    referred: set[str] = set()
    for at, path in listed.items():
        with contextlib.suppress(OSError):
            if at not in stays:
                path.unlink()
                continue
        try:
            referred |= {entry.sha256 for entry in store.read(path).entries}
        except BackupFault:  # what it spoke of is not known: nothing may be removed
            return
    sweep(store, referred)


@contextlib.contextmanager
def copied_database(clinic: Clinic) -> Iterator[Path]:
    """A whole copy of the database, for a while; raises BackupFault."""
    source = clinic.data_directory / DATABASE
    with over_here():
        clinic.temporary.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(clinic.temporary).free < 2 * source.stat().st_size + RESERVE_BYTES:
            raise BackupFault("no_room_here")
        with tempfile.TemporaryDirectory(dir=clinic.temporary, prefix="backup-") as folder:
            copy = Path(folder) / DATABASE
            try:
                database.copy(source, copy)
            except database.Error as error:
                raise BackupFault("cannot_copy_database") from error
            if not database.is_whole(copy):
                raise BackupFault("cannot_copy_database")
            yield copy


def counts_and_films(copy: Path) -> tuple[dict[str, int], list[tuple[str, int]]]:
    """How many rows there are, and digest and size of every film, as one copy has it."""
    with database.opened(copy) as read:
        counts = {
            # The names are those above
            name: int(read.execute(f'SELECT count(*) FROM "{table}"').fetchone()[0])  # nosec B608
            for name, table in TABLES.items()
        }
        films = read.execute("SELECT sha256, size_bytes FROM clinic_instance ORDER BY id")
        return counts, [(str(sha), int(size)) for sha, size in films]


def database_pieces(copy: Path) -> list[Piece]:
    """A copy of the database and, where it is encrypted, its key: the copy stays as it is on this
    disk, and the key is only in what is encrypted anew. Raises OSError.
    """
    piece = _piece(DATABASE, copy)
    if cipher.is_plain(copy):
        return [piece]
    key = vault.keys().database
    return [piece, Piece(DATABASE_KEY, key, hashlib.sha256(key).hexdigest(), len(key))]


def small_files(data_directory: Path) -> Iterator[Piece]:
    """Models, keys and choices: all but database and films. Raises OSError."""
    for name in FILES:
        if (data_directory / name).is_file():
            yield _piece(name, data_directory / name)
    for tree in TREES:
        for file in sorted((data_directory / tree).rglob("*")):
            path = file.relative_to(data_directory).as_posix()
            passing = any(part.endswith(_LEFT_OUT) for part in path.split("/"))
            if file.is_file() and not passing and is_ours(path):
                yield _piece(path, file)


def _piece(path: str, file: Path) -> Piece:
    size, sha256 = digest_of(file)
    return Piece(path, file, sha256, size)


class _Bringer:
    """Brings files into a store, each once."""

    def __init__(
        self,
        store: Store,
        recipient: pyrage.x25519.Recipient,
        clinic: Clinic,
        known: dict[str, Entry],
    ) -> None:
        self._store, self._recipient, self._clinic = store, recipient, clinic
        self._known = {entry.sha256: entry for entry in known.values()}
        self._today = datetime.now(UTC).toordinal()

    def check_room(self, pieces: list[Piece]) -> None:
        """Refuse at once what would not fit, before hours are spent on it."""
        need = sum(p.size for p in pieces if not self._store.blob(p.sha256).exists())
        with over_there():
            if shutil.disk_usage(self._store.folder).free < need + RESERVE_BYTES:
                raise BackupFault("no_room_there")

    def bring(self, piece: Piece) -> Entry | None:
        """The entry of a file that lies in the store now; None where it is not what it was."""
        known = self._known.get(piece.sha256)
        if known and self._is_there(known):
            return Entry(piece.path, known.sha256, known.size, *stored(known))
        target = self._store.blob(piece.sha256)
        # Under its name only what was written whole: an earlier try has brought it. Where a list
        # knows it and it is not whole, it has decayed since.
        if not known and (entry := self._left_by_earlier_try(piece, target)):
            return entry
        return self._write(piece, target)

    def _is_there(self, known: Entry) -> bool:
        due = (int(known.sha256[:4], 16) + self._today) % DAYS_OF_A_ROUND == 0
        return self._store.is_whole(known) if due else self._store.looks_whole(known)

    def _left_by_earlier_try(self, piece: Piece, target: Path) -> Entry | None:
        try:
            return Entry(piece.path, piece.sha256, piece.size, *digest_of(target))
        except OSError:
            return None

    def _write(self, piece: Piece, target: Path) -> Entry | None:
        with contextlib.ExitStack() as held:
            try:
                file = piece.file or held.enter_context(self._clinic.film(piece.sha256))
                source = held.enter_context(films.opened(file))
            except OSError:
                return None
            return self._encrypt(piece, source, target)

    def _encrypt(
        self, piece: Piece, source: IO[bytes] | io.BufferedIOBase, target: Path
    ) -> Entry | None:
        part = target.with_name(target.name + PART)
        with over_there():
            self._store.look()
            target.parent.mkdir(exist_ok=True)
            with part.open("wb") as file:
                reading, writing = Digested(source), Digested(file)
                with contextlib.suppress(pyrage.EncryptError):  # which has eaten what went wrong
                    pyrage.encrypt_io(reading, writing, [self._recipient])
                if writing.fault:
                    raise writing.fault
                flushed(file)
            if reading.fault or reading.sha256 != piece.sha256:
                part.unlink()
                return None
            part.replace(target)
        return Entry(piece.path, piece.sha256, reading.size, writing.size, writing.sha256)


def stored(entry: Entry) -> tuple[int, str]:
    """How a file lies in the store: size and digest."""
    return entry.stored_size, entry.stored_sha256


class Digested(io.BufferedIOBase):
    """An open file, with size and digest of what has gone through it, and what went wrong."""

    def __init__(self, file: IO[bytes] | io.BufferedIOBase) -> None:
        super().__init__()
        self._file, self._digest = file, hashlib.sha256()
        self.size = 0
        self.fault: OSError | None = None

    def read(self, size: int | None = CHUNK, /) -> bytes:
        """The next bytes; raises OSError."""
        try:
            return self._through(self._file.read(CHUNK if size is None else size))
        except OSError as error:
            self.fault = error
            raise

    def write(self, content: Buffer, /) -> int:
        """Write all of it; raises OSError."""
        content = bytes(content)
        try:
            self._file.write(self._through(content))
        except OSError as error:
            self.fault = error
            raise
        return len(content)

    @property
    def sha256(self) -> str:
        """The digest of all so far."""
        return self._digest.hexdigest()

    def _through(self, content: bytes) -> bytes:
        self.size += len(content)
        self._digest.update(content)
        return content
