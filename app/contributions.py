"""What the clinic has learnt, for the publisher of the model: gathered, de-identified, encrypted.

Only films of studies whose patients agreed (``consent_for_learning``), that have an answer and that
somebody has read. The record of a film is made of values of closed lists; no text that anybody
typed, and nothing of the stored file but its pixels, gets into it.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from io import BufferedIOBase
from pathlib import Path
from typing import IO, Any, cast

import pyrage
from django.conf import settings
from django.db import transaction
from django.db.models import Prefetch

from app import films
from app.cxr.contribution_format import (
    ABOUT,
    FORMAT,
    RECORDS,
    SEXES,
    SUFFIX,
    VIEWS,
    WHY,
    film_member,
)
from app.cxr.deidentify import Cleaned, pseudonym, shifted_month, without_text
from app.cxr.durable import sync_folder, write_durably
from app.cxr.radiograph import UnreadableFilm, read_radiograph
from app.cxr.release import age_band
from app.models import AuditEvent, Finding, Instance, Reading, State, Study, User
from app.vault import spool

#: The publisher's public key, put there before the bundle is built (docs/contributions.md).
PUBLISHER_KEY = Path(__file__).resolve().parents[1] / "assets" / "publisher" / "readings.pub"
SITE_KEY, SENT = "contributions.key", "contributions.json"
KEY_BYTES = 32
#: A probability this near to the threshold is one that the model was unsure of.
NEAR = 0.1

CODES = frozenset(
    {
        "no_publisher",
        "publisher_damaged",
        "key_damaged",
        "exists",
        "nothing_new",
        "cannot_prepare",
        "consent_withdrawn",
        "cancelled",
        "cannot_write",
        "failed",
    }
)
#: Called before each film with how many were looked at, and of how many; may raise NotExported.
Watch = Callable[[int, int], None]


class NotExported(Exception):
    """Nothing leaves; ``code`` is one of CODES, ``held_back`` how many films text kept here."""

    def __init__(self, code: str, held_back: int = 0) -> None:
        super().__init__(code)
        self.code, self.held_back = code, held_back


@dataclass(frozen=True, eq=False)
class Candidate:
    """A film that may leave, ``why``, and the ``distance`` of its answer from the threshold."""

    film: Instance
    finding: Finding
    readings: list[Reading]
    why: str
    distance: float

    @property
    def last_reading(self) -> int:
        """What says whether anything is new since the film left the last time."""
        return max(reading.pk for reading in self.readings)


@dataclass
class Contribution:
    """What one file holds. ``held_back``: films in which text may be left, ``unreadable``: films
    that are no longer there or no longer whole; neither leaves.
    """

    records: list[dict[str, Any]] = field(default_factory=list)
    sent: dict[str, int] = field(default_factory=dict)
    held_back: int = 0
    unreadable: int = 0
    size: int = 0

    def counts(self) -> dict[str, int]:
        """How many films, studies and patients."""
        return {
            f"{one}s" if one != "study" else "studies": len({row[one] for row in self.records})
            for one in ("film", "study", "patient")
        }

    def by_reason(self) -> dict[str, int]:
        """How many films for each code of WHY."""
        counted = Counter(row["why"] for row in self.records)
        return {why: counted[why] for why in WHY}


@dataclass(frozen=True)
class Prepared:
    """A whole encrypted file on this computer, and what is in it. Nothing of it has left."""

    file: Path
    contribution: Contribution

    def discard(self) -> None:
        """Remove the file."""
        with contextlib.suppress(OSError):  # the next start sweeps its folder
            self.file.unlink()


def export(
    path: Path, by: User | None = None, limit: int | None = None, everything: bool = False
) -> Contribution:
    """Write what is new, or ``everything``, to one encrypted file; raises NotExported. Recorded.

    No more than ``limit`` films, the most instructive first. The file is whole or not there.
    """
    if path.exists():
        raise NotExported("exists")
    prepared = prepare(limit, everything)
    try:
        write(prepared, path, by)
    finally:
        prepared.discard()
    return prepared.contribution


def prepare(
    limit: int | None = None, everything: bool = False, watch: Watch = lambda _done, _of: None
) -> Prepared:
    """Make the encrypted file on this computer, where it can be looked at; raises NotExported."""
    recipient, key = publisher(), site_key()
    candidates = gather(set() if everything else set(sent().items()))
    try:
        settings.TEMPORARY_DIR.mkdir(parents=True, exist_ok=True)
        # What is not encrypted yet has no name in any folder
        with spool.temporary() as packed:
            contribution = _pack(packed, candidates, key, limit, watch)
            if not contribution.records:
                raise NotExported("nothing_new", contribution.held_back)
            packed.seek(0)
            return Prepared(_encrypted(packed, recipient, contribution), contribution)
    except (OSError, pyrage.EncryptError) as error:
        raise NotExported("cannot_prepare") from error


def write(prepared: Prepared, path: Path, by: User | None) -> None:
    """Let what was prepared leave to ``path``, whole or not at all. Recorded.

    Raises NotExported.
    """
    if path.exists():
        raise NotExported("exists")
    try:
        with _beside(path) as new:
            with prepared.file.open("rb") as packed, new.open("wb") as file:
                shutil.copyfileobj(packed, file)
                file.flush()
                os.fsync(file.fileno())
            with _leaving(prepared, path.name, by):
                # Last, so that a stick that is gone undoes the row
                new.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise NotExported("cannot_write") from error


def hand_over(prepared: Prepared, name: str, by: User | None) -> IO[bytes]:
    """Let what was prepared leave under ``name`` by the browser; raises NotExported. Recorded."""
    try:
        with _leaving(prepared, name, by):
            return prepared.file.open("rb")
    except OSError as error:
        raise NotExported("cannot_prepare") from error


def gather(sent: Collection[tuple[str, int]] = ()) -> list[Candidate]:
    """The films that may leave, the most instructive first; without those of ``sent``."""
    findings = Finding.objects.defer("activation_map", "regions", "details")
    films = Instance.objects.filter(state=State.ANSWERED)
    studies = Study.objects.filter(consent_for_learning=True, is_read=True).order_by("pk")
    studies = studies.select_related("patient").prefetch_related(
        "readings",
        "clinical_signs",
        Prefetch("instances", films.prefetch_related(Prefetch("findings", findings))),
    )
    found = [one for study in studies for one in _candidates(study)]
    new = [one for one in found if (str(one.film.pk), one.last_reading) not in sent]
    return sorted(new, key=lambda one: (WHY.index(one.why), one.distance, one.film.pk))


def site_key() -> bytes:
    """The secret that pseudonyms are made with: it is made here, and never leaves.

    Raises NotExported.
    """
    path = settings.DATA_DIR / SITE_KEY
    try:
        if not path.exists():
            write_durably(path, secrets.token_bytes(KEY_BYTES), private=True)
        key = bytes(path.read_bytes())
    except OSError as error:
        raise NotExported("cannot_prepare") from error
    if len(key) != KEY_BYTES:
        raise NotExported("key_damaged")
    return key


def describe(one: Candidate, cleaned: Cleaned, key: bytes) -> dict[str, Any]:
    """The record of a film: all that is said of it outside the clinic."""
    study, patient = one.film.study, one.film.study.patient
    # Whose films nobody knows are one patient for each study
    person = f"patient {patient.pk}" if patient else f"study {study.pk}"
    height, width = cleaned.pixels.shape
    return {
        "film": pseudonym(key, "film", one.film.sha256),
        "study": pseudonym(key, "study", str(study.pk)),
        "patient": pseudonym(key, "patient", person),
        "month": shifted_month(key, person, study.day),
        "age_band": age_band(study.age_years),
        "sex": _one_of(SEXES, patient.sex if patient else None),
        "view": _one_of(VIEWS, one.film.view_position),
        "readings": [
            {
                "conclusion": str(reading.conclusion),
                "kind": str(reading.kind),
                "before_answer": reading.before_answer,
                "agrees": reading.agrees,
            }
            for reading in one.readings
        ],
        "finding": {
            "answer": one.finding.answer,
            "probability": one.finding.probability,
            "threshold": one.finding.threshold,
            "model": one.finding.model,
        },
        "signs": _class_of_signs(study),
        "why": one.why,
        "width": width,
        "height": height,
        "text_removed": round(cleaned.removed, 3),
    }


def _candidates(study: Study) -> Iterator[Candidate]:
    readings = list(study.readings.all())
    for film in study.instances.all():
        finding = film.finding
        if finding is None or finding.probability is None or finding.threshold is None:
            continue
        film.study = study
        distance = abs(finding.probability - finding.threshold)
        yield Candidate(film, finding, readings, _why(finding, readings, distance), distance)


def _why(finding: Finding, readings: list[Reading], distance: float) -> str:
    diagnoses = [one for one in readings if one.kind == Reading.Kind.DIAGNOSIS]
    last = (diagnoses or readings)[-1].conclusion
    opposed = {("pneumonia", "unlikely"), ("no_pneumonia", "likely")}
    if (str(last), finding.answer) in opposed or any(one.agrees is False for one in readings):
        return "disagreement"
    if finding.answer == "cannot_say":
        return "cannot_say"
    return "near_threshold" if distance < NEAR else "other"


def _class_of_signs(study: Study) -> str | None:
    entries = list(study.clinical_signs.all())
    classification = entries[-1].assessment.get("classification") if entries else None
    return str(classification) if classification else None


def _one_of(known: frozenset[str], value: str | None) -> str | None:
    return value if value in known else None


def _pack(
    file: IO[bytes], candidates: list[Candidate], key: bytes, limit: int | None, watch: Watch
) -> Contribution:
    made = Contribution()
    most = len(candidates) if limit is None else min(limit, len(candidates))
    with zipfile.ZipFile(spool.WriteOnly(file), "w") as archive:
        for one in candidates:
            watch(len(made.records), most)
            if len(made.records) >= most:
                break
            _pack_film(archive, one, key, made)
        about = {
            "format": FORMAT,
            "site": pseudonym(key, "site", ""),
            "program": settings.VERSION,
            "films": len(made.records),
        }
        lines = "".join(json.dumps(row, allow_nan=False) + "\n" for row in made.records)
        # A ZipInfo of a name alone bears no time
        archive.writestr(zipfile.ZipInfo(ABOUT), json.dumps(about))
        archive.writestr(zipfile.ZipInfo(RECORDS), lines, zipfile.ZIP_DEFLATED)
    return made


def _pack_film(archive: zipfile.ZipFile, one: Candidate, key: bytes, made: Contribution) -> None:
    try:
        with films.local(one.film.sha256) as path:
            cleaned = without_text(read_radiograph(path).pixels)
    except (UnreadableFilm, OSError):
        made.unreadable += 1
        return
    if cleaned.is_doubtful:
        made.held_back += 1
        return
    record = describe(one, cleaned, key)
    archive.writestr(zipfile.ZipInfo(film_member(record["film"])), cleaned.to_png())
    made.records.append(record)
    made.sent[str(one.film.pk)] = one.last_reading


def _encrypted(packed: IO[bytes], recipient: pyrage.x25519.Recipient, made: Contribution) -> Path:
    handle, name = tempfile.mkstemp(dir=settings.TEMPORARY_DIR, suffix=SUFFIX)
    try:
        with os.fdopen(handle, "wb") as file:
            pyrage.encrypt_io(cast(BufferedIOBase, packed), file, [recipient])
            made.size = file.tell()
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return Path(name)


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A file on the same stick that is gone afterwards, unless it was renamed."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    os.close(handle)
    try:
        yield Path(name)
    finally:
        with contextlib.suppress(OSError):  # the stick may be gone
            Path(name).unlink(missing_ok=True)


@contextlib.contextmanager
def _leaving(prepared: Prepared, name: str, by: User | None) -> Iterator[None]:
    """Put on record that a file leaves and note its films, unless what is done here fails."""
    made = prepared.contribution
    with transaction.atomic():
        _refuse_if_withdrawn(made)
        details: dict[str, Any] = {**made.counts(), "held_back": made.held_back}
        AuditEvent.record(by, "readings_exported", None, file=name, **details)
        yield
    with contextlib.suppress(OSError):  # at worst the same films leave again
        write_durably(settings.DATA_DIR / SENT, json.dumps(sent() | made.sent).encode())


def _refuse_if_withdrawn(made: Contribution) -> None:
    """Between preparing and leaving a patient may have changed their mind, or be deleted."""
    agreed = Instance.objects.filter(study__consent_for_learning=True).values_list("pk", flat=True)
    # All of them: so many numbers fit in no query
    if not set(made.sent) <= {str(pk) for pk in agreed}:
        raise NotExported("consent_withdrawn")


def sent() -> dict[str, int]:
    """What left before: the last reading of each film; nothing where the note is lost, since a
    film that leaves twice is known again by its pseudonym.
    """
    with contextlib.suppress(OSError, ValueError):
        noted = json.loads((settings.DATA_DIR / SENT).read_bytes())
        if isinstance(noted, dict):
            return noted
    return {}


def publisher() -> pyrage.x25519.Recipient:
    """Whom everything is encrypted to; raises NotExported where the program has nobody."""
    try:
        return pyrage.x25519.Recipient.from_str(PUBLISHER_KEY.read_text("ascii").strip())
    except FileNotFoundError as error:
        raise NotExported("no_publisher") from error
    except (OSError, ValueError, pyrage.RecipientError) as error:
        raise NotExported("publisher_damaged") from error
