"""A backup without films as one encrypted file, to be kept anywhere.

A zip of two: the sealed key, and the encrypted rest, which is itself a zip.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import pyrage

from app import films
from app.backup import SUFFIX, keys
from app.backup.faults import BackupFault, over_here
from app.backup.manifest import Entry, Manifest
from app.backup.note import Note
from app.backup.store import KEY
from app.backup.write import (
    Clinic,
    Digested,
    copied_database,
    counts_and_films,
    database_pieces,
    small_files,
)
from app.vault import spool

CONTENT, MANIFEST = "backup.age", "manifest.json"


def pack(note: Note, clinic: Clinic) -> Path:
    """Make the file, in the clinic's folder of passing files; raises BackupFault."""
    recipient = keys.recipient(note.public)
    with copied_database(clinic) as copy, over_here():
        counts, _digests = counts_and_films(copy)
        pieces = [*database_pieces(copy), *small_files(clinic.data_directory)]
        entries = tuple(Entry(p.path, p.sha256, p.size, p.size, p.sha256) for p in pieces)
        made = Manifest(note.clinic, datetime.now(UTC), clinic.program, counts, entries)
        # What is not encrypted yet has no name in any folder
        with spool.temporary(clinic.temporary) as packed:
            with zipfile.ZipFile(spool.WriteOnly(packed), "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr(MANIFEST, made.to_bytes())
                for piece in pieces:
                    assert piece.file is not None  # only films have none
                    with films.opened(piece.file) as file, archive.open(piece.path, "w") as member:
                        shutil.copyfileobj(file, member)
            packed.seek(0)
            return _encrypted(packed, recipient, clinic, note.sealed)


def _encrypted(
    packed: IO[bytes], recipient: pyrage.x25519.Recipient, clinic: Clinic, sealed: bytes
) -> Path:
    handle, name = tempfile.mkstemp(dir=clinic.temporary, suffix=SUFFIX)
    try:
        with os.fdopen(handle, "wb") as file, zipfile.ZipFile(file, "w") as outer:
            # A ZipInfo of a name alone bears no time
            outer.writestr(zipfile.ZipInfo(KEY), sealed)
            with outer.open(zipfile.ZipInfo(CONTENT), "w", force_zip64=True) as member:
                pyrage.encrypt_io(Digested(packed), Digested(member), [recipient])
    except pyrage.EncryptError as error:
        Path(name).unlink(missing_ok=True)
        raise BackupFault("no_room_here") from error
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return Path(name)
