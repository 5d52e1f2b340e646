"""The only door by which a film enters, whatever brought it: stored first, analysed afterwards."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import shutil
import tempfile
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol, cast

from django.conf import settings
from django.db import DatabaseError, transaction

from app import database, films, worker
from app.models import AuditEvent, Instance, Patient, State, Study, User

if TYPE_CHECKING:
    from app.cxr.dicom_identity import Identity

logger = logging.getLogger(__name__)

CHUNK = 1024 * 1024
LONGEST_NAME = 255
#: Codes of what is turned away at the door. A file that is no film is not: it is kept and answered.
CODES = frozenset(
    {
        "too_large",
        "empty",
        "disk_full",
        "cannot_store",
        "still_being_written",
        "source_vanished",
    }
)


class Rejected(Exception):
    """Nothing was stored. ``code`` is stable; ``details`` fills the sentence."""

    def __init__(self, code: str, **details: str) -> None:
        super().__init__(code)
        self.code = code
        self.details = details


@dataclass(frozen=True)
class Receipt:
    """The film is on the disk and in the queue, or was there before (``duplicate``)."""

    instance: Instance
    duplicate: bool


class Readable(Protocol):
    """An open file, or a Django upload."""

    def read(self, size: int = ..., /) -> bytes:
        """The next bytes, empty at the end."""


@dataclass(frozen=True)
class Belonging:
    """What is known of a film besides its pixels: whose it is, and who brought it.

    ``study``: the film joins it; else that of its header's study; else it begins a study of
    ``patient`` at ``age_years``. ``by`` None: a machine or a command, which ``sender`` names.
    ``said``: what that machine says of the patient, as a header would: number, name and sex. A new
    study is then the patient's who is known so, else of one who is entered. ``study_uid`` and
    ``accession_number``: what the hospital calls the study; the header's own come first.
    """

    age_years: float | None = None
    study: Study | None = None
    patient: Patient | None = None
    by: User | None = None
    sender: str = ""
    said: Mapping[str, str] | None = None
    study_uid: str = ""
    accession_number: str = ""


def receive(
    file: BinaryIO | Readable | Path,
    name: str,
    source: str,
    belonging: Belonging = Belonging(),
) -> Receipt:
    """Take a film in: store it safely, give it a study and queue its analysis; raises Rejected.

    When this returns, a power cut loses neither the film nor its place in the queue.
    """
    with _temporary_file() as temporary:
        try:
            if isinstance(file, Path):
                sha256, size = _copy_path(file, temporary)
            else:
                sha256, size = _copy(file, temporary)
        except _CannotWrite as error:
            raise _rejection_of(error.cause) from error
        return _keep(temporary, sha256, size, clean_name(name), source, belonging)


def clean_name(name: str) -> str:
    """A file's name for display: no folders, no control or direction marks, nothing undecodable."""
    base = name.replace("\\", "/").rstrip("/").rpartition("/")[2]
    # Names that are not UTF-8 reach us as surrogates (PEP 383): shown as what they may have been
    base = base.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    shown = "".join(" " if unicodedata.category(c) in _UNSHOWN else c for c in base)
    shown = unicodedata.normalize("NFC", " ".join(shown.split()))
    if len(shown) > LONGEST_NAME:
        stem, dot, suffix = shown.rpartition(".")
        end = f"…{dot}{suffix}" if dot and len(suffix) <= 10 else "…"
        shown = (stem or shown)[: LONGEST_NAME - len(end)] + end
    return shown or "film"


# Controls, formats (which turn the reading direction), surrogates, private use, separators
_UNSHOWN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


class _CannotWrite(Exception):
    """Our side of the copy failed, not the source's."""

    def __init__(self, cause: OSError) -> None:
        super().__init__(str(cause.errno))
        self.cause = cause


@contextmanager
def _temporary_file() -> Iterator[Path]:
    try:
        settings.TEMPORARY_DIR.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=settings.TEMPORARY_DIR, prefix="film-")
    except OSError as error:
        raise _rejection_of(error) from error
    os.close(handle)
    try:
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


def _copy_path(path: Path, target: Path) -> tuple[str, int]:
    """Copy a file that somebody else may still be writing, or take away with the stick."""
    try:
        with path.open("rb") as source:
            before = os.fstat(source.fileno())
            if before.st_size > settings.MAX_FILM_BYTES:
                raise _too_large()
            sha256, size = _copy(source, target)
            after = path.stat()
    except OSError as error:
        raise Rejected("source_vanished") from error
    if size != before.st_size or (before.st_size, before.st_mtime_ns) != (
        after.st_size,
        after.st_mtime_ns,
    ):
        raise Rejected("still_being_written")
    return sha256, size


def _copy(source: BinaryIO | Readable, target: Path) -> tuple[str, int]:
    """Copy within the limits and onto the disk itself; digest and size of what was copied."""
    coming = _Coming(source, target.parent)
    with _our_side():
        films.receive(cast("BinaryIO", coming), target)
    if coming.size == 0:
        raise Rejected("empty")
    return coming.sha256, coming.size


def _read(source: BinaryIO | Readable) -> bytes:
    try:
        return source.read(CHUNK)
    except OSError as error:
        raise Rejected("source_vanished") from error


class _Coming:
    """A film on its way in: how large it is by now, its digest, and whether there is room."""

    def __init__(self, source: BinaryIO | Readable, folder: Path) -> None:
        self._source, self._folder = source, folder
        self._digest = hashlib.sha256()
        self.size = 0

    def read(self, _size: int = CHUNK, /) -> bytes:
        """The next bytes; raises Rejected."""
        chunk = _read(self._source)
        self.size += len(chunk)
        if self.size > settings.MAX_FILM_BYTES:
            raise _too_large()
        with _our_side():
            free = shutil.disk_usage(self._folder).free
        if free < settings.MIN_FREE_BYTES + len(chunk):
            raise Rejected("disk_full")
        self._digest.update(chunk)
        return chunk

    @property
    def sha256(self) -> str:
        """The digest of all so far."""
        return self._digest.hexdigest()


@contextmanager
def _our_side() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _CannotWrite(error) from error


def _too_large() -> Rejected:
    return Rejected("too_large", limit_mb=str(settings.MAX_FILM_BYTES // 1024**2))


def _rejection_of(error: OSError) -> Rejected:
    logger.error("a film could not be stored: %s", errno.errorcode.get(error.errno or 0, "?"))
    full = error.errno in {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
    return Rejected("disk_full" if full else "cannot_store")


def _keep(
    temporary: Path, sha256: str, size: int, name: str, source: str, belonging: Belonging
) -> Receipt:
    from app.cxr.dicom_identity import read_identity  # pydicom comes with the first film

    identity = read_identity(films.received(temporary))
    try:
        # Inside the transaction: the same film may just be deleted, and its file with it
        with transaction.atomic():
            database.take_turns()
            if known := _same_object(identity):
                return _received_before(known)
            films.keep(temporary, sha256)
            if known := Instance.objects.filter(sha256=sha256).first():
                return _received_before(known)
            study = _study_of(belonging, identity)
            instance = Instance.objects.create(
                study=study,
                file_name=name,
                source=source,
                sha256=sha256,
                size_bytes=size,
                film=films.name_of(sha256),
                sender=belonging.sender,
                sop_class_uid=identity.sop_class_uid,
                sop_instance_uid=identity.sop_instance_uid,
                series_uid=identity.series_uid,
            )
            study.save()  # the file's name joins what the search looks through
            study.refresh_standing()
            AuditEvent.record(belonging.by, "film_received", study, film=instance.pk, source=source)
            worker.enqueue(instance)
            return Receipt(instance, duplicate=False)
    except OSError as error:
        raise _rejection_of(error) from error
    except DatabaseError as error:
        _take_back(sha256)
        logger.error("a film could not be entered: %s", type(error).__name__)
        # SQLite tells a full disk by its words alone
        raise Rejected("disk_full" if "full" in str(error) else "cannot_store") from error


def _same_object(identity: Identity) -> Instance | None:
    """The film that is the same DICOM object, whatever its bytes: senders compress and correct.

    An instance UID alone is not enough: careless software gives one twice, and a film is not lost.
    """
    if not (identity.sop_instance_uid and identity.series_uid):
        return None
    known = Instance.objects.filter(sop_instance_uid=identity.sop_instance_uid)
    return known.filter(series_uid=identity.series_uid).first()


def _study_of(belonging: Belonging, identity: Identity) -> Study:
    """The study to join, as it is by now; a new one where none is named or it has been deleted.

    It is called from now on what the film's header calls it, where nobody has called it anything.
    """
    joined = Study.objects.filter(pk=belonging.study.pk).first() if belonging.study else None
    joined = joined or _study_called(identity.study_uid, belonging)
    joined = joined or _study_called(belonging.study_uid, belonging)
    if joined and joined.patient is None:
        joined.patient = _patient_said(belonging)
    study = joined or Study.begin(
        belonging.age_years, belonging.patient or _patient_said(belonging)
    )
    study.study_uid = study.study_uid or identity.study_uid or belonging.study_uid
    accession_number = identity.accession_number or belonging.accession_number
    study.accession_number = study.accession_number or accession_number
    return study


def _patient_said(belonging: Belonging) -> Patient | None:
    """The patient of whom a machine speaks; None where it says nothing."""
    said = belonging.said or {}
    if not any(said.values()):
        return None
    known = Patient.known_as(**said, age_years=belonging.age_years)
    return known or Patient.enter(said, by=belonging.by)


def _study_called(study_uid: str, belonging: Belonging) -> Study | None:
    """The study of that UID, unless somebody says that the film is another patient's."""
    if not study_uid:
        return None
    known = Study.objects.filter(study_uid=study_uid).order_by("pk").first()
    patient, said = belonging.patient, belonging.said
    if known and patient and known.patient_id not in (None, patient.pk):
        return None
    if known and known.patient and said:
        contradicts = known.patient.contradicts(said["number"], said["name"], said["sex"])
        return None if contradicts else known
    return known


def _received_before(known: Instance) -> Receipt:
    """The same bytes again. A film without an answer, given up or cancelled, gets another try."""
    if known.state in (State.FAILED, State.CANCELLED):
        known.try_again()
        worker.enqueue(known)
    return Receipt(known, duplicate=True)


def _take_back(sha256: str) -> None:
    """Leave no film behind that no row speaks of, unless another upload of it got through."""
    try:
        with transaction.atomic():
            database.take_turns()
            if not Instance.objects.filter(sha256=sha256).exists():
                films.remove(sha256)
    except (DatabaseError, OSError):
        logger.error("a film that was turned away is left on the disk")
