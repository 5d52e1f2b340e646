"""C-FIND of the modality worklist: whose film is to be taken, as the hospital's system says
(PS3.4, K).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from datetime import time as time_of_day
from typing import TYPE_CHECKING, Any

from pydicom.dataset import Dataset
from pydicom.valuerep import DA, TM
from pynetdicom import build_context
from pynetdicom.sop_class import ModalityWorklistInformationFind  # type: ignore[attr-defined]

from app.cxr.dicom_identity import is_uid
from app.dicom.association import NoAssociation, associated
from app.models import Peer
from app.models.patients import Sex
from app.models.words import one_line

if TYPE_CHECKING:
    from pynetdicom.association import Association

logger = logging.getLogger(__name__)

#: Films of the chest are ordered for these (PS3.3, C.7.3.1.1.1); one at a time, as a key of this
#: kind has one value (PS3.4, C.2.2.2.1).
MODALITIES = ("CR", "DX")
#: More than these are not wanted of one peer; the rest is cancelled.
MOST_ENTRIES = 200
#: For the next entry, and for all of them.
SECONDS_FOR_ONE, SECONDS_FOR_ALL = 8.0, 12.0
#: A peer that goes on after it was told to stop is heard so long.
MOST_AFTER_CANCEL = 2000
_PENDING = {0xFF00, 0xFF01}  # PS3.4, K.4.1.1.4
_CANCELLED = 0xFE00
_MESSAGE_ID = 1


@dataclass(frozen=True)
class ScheduledStudy:
    """One film that is to be taken, and of whom. Unknown is empty, or None.

    ``name`` as people write it; ``sex`` as in ``models.patients.Sex``; ``starts_at`` without a time
    zone, as the worklist says it.
    """

    name: str = ""
    number: str = ""
    sex: str = ""
    birth_date: date | None = None
    accession_number: str = ""
    study_uid: str = ""
    starts_at: datetime | None = None
    description: str = ""


@dataclass(frozen=True)
class Question:
    """What is asked for: the entries of some days, of one order, or of one patient."""

    first_day: date | None = None
    last_day: date | None = None
    accession_number: str = ""
    number: str = ""


@dataclass(frozen=True)
class Answer:
    """What a peer has told; ``is_cut``: it has more than were asked for."""

    studies: tuple[ScheduledStudy, ...]
    is_cut: bool = False


class NoWorklist(Exception):
    """The peer gave no list; ``code`` is one of ``association.CODES``, ``failed`` (with the DIMSE
    ``status``) or ``too_slow``.
    """

    def __init__(self, code: str, status: int | None = None) -> None:
        super().__init__(code)
        self.code, self.status = code, status


def ask(peer: Peer, question: Question, most: int = MOST_ENTRIES) -> Answer:
    """What ``peer`` has on its worklist, by the time of the start; raises NoWorklist."""
    context = build_context(ModalityWorklistInformationFind)
    found: dict[ScheduledStudy, None] = {}
    is_cut = False
    try:
        with associated(peer, [context]) as association:
            association.dimse_timeout = SECONDS_FOR_ONE
            ends_at = time.monotonic() + SECONDS_FOR_ALL
            for modality in MODALITIES:
                asking = _Asking(association, ends_at)
                found |= dict.fromkeys(asking.entries(_keys(question, modality), most))
                is_cut = is_cut or asking.is_cut
                if asking.is_deaf:
                    break
    except NoAssociation as error:
        logger.info("worklist of peer %s: %s", peer.pk, error.code)
        raise NoWorklist(error.code) from error
    return Answer(tuple(sorted(found, key=by_start)), is_cut)


class _Asking:
    """One C-FIND of an association, within bounds of number and time."""

    def __init__(self, association: Association, ends_at: float) -> None:
        self._association, self._ends_at = association, ends_at
        self.is_cut = False
        #: Goes on after it was told to stop; the association is ended.
        self.is_deaf = False

    def entries(self, keys: Dataset, most: int) -> Iterator[ScheduledStudy]:
        """At most so many entries; raises NoWorklist."""
        for count, (status, identifier) in enumerate(self._answers(keys), 1):
            if status not in _PENDING:
                if status not in {0, _CANCELLED}:
                    raise self._broken_off("failed", status)
                return
            if time.monotonic() > self._ends_at:
                raise self._broken_off("too_slow")
            if count == most + 1:
                self._cancel()
            elif count > most + MOST_AFTER_CANCEL:
                self.is_deaf = True
                self._association.abort()
                return
            elif count <= most and (entry := entry_of(identifier)):
                yield entry

    def _answers(self, keys: Dataset) -> Iterator[tuple[int, Dataset | None]]:
        asked = self._association.send_c_find(
            keys, ModalityWorklistInformationFind, msg_id=_MESSAGE_ID
        )
        try:
            for told, identifier in asked:
                if not told:  # nothing came, or nothing that could be understood
                    raise self._broken_off("too_slow")
                yield told.Status, identifier
        except ValueError as error:  # the context was not accepted
            raise self._broken_off("not_supported") from error
        except RuntimeError as error:  # the association has ended
            raise self._broken_off("aborted") from error

    def _cancel(self) -> None:
        self.is_cut = True
        self._association.send_c_cancel(_MESSAGE_ID, query_model=ModalityWorklistInformationFind)

    def _broken_off(self, code: str, status: int | None = None) -> NoWorklist:
        if code != "failed":
            self._association.abort()
        return NoWorklist(code, status)


def _keys(question: Question, modality: str) -> Dataset:
    """The identifier of the request: keys to match and attributes to return (PS3.4, K.6.1.2.2)."""
    keys, step = Dataset(), Dataset()
    if not (question.accession_number + question.number).isascii():
        keys.SpecificCharacterSet = "ISO_IR 192"
    for keyword in (
        "PatientName",
        "PatientBirthDate",
        "PatientSex",
        "StudyInstanceUID",
        "RequestedProcedureID",
        "RequestedProcedureDescription",
        "RequestedProcedureCodeSequence",
    ):
        setattr(keys, keyword, [] if keyword.endswith("Sequence") else "")
    keys.AccessionNumber = question.accession_number
    keys.PatientID = question.number
    step.Modality = modality
    step.ScheduledStationAETitle = ""
    step.ScheduledProcedureStepStartDate = _range(question)
    step.ScheduledProcedureStepStartTime = ""
    step.ScheduledProcedureStepDescription = ""
    keys.ScheduledProcedureStepSequence = [step]
    return keys


def _range(question: Question) -> str:
    """Days as PS3.4, C.2.2.2.5 writes them; nothing asks for all of them."""
    if not (question.first_day and question.last_day):
        return ""
    return f"{question.first_day:%Y%m%d}-{question.last_day:%Y%m%d}"


def entry_of(identifier: Dataset | None) -> ScheduledStudy | None:
    """An entry as it was sent; None where it names nobody that could be told apart."""
    if identifier is None:
        return None
    steps = _value(identifier, "ScheduledProcedureStepSequence") or [Dataset()]
    study_uid = _text(identifier, "StudyInstanceUID", 64)
    entry = ScheduledStudy(
        name=_name(identifier),
        number=_text(identifier, "PatientID", 64),
        sex=sex if (sex := _text(identifier, "PatientSex", 16)) in Sex.values else "",
        birth_date=_day(identifier, "PatientBirthDate"),
        accession_number=_text(identifier, "AccessionNumber", 16),
        study_uid=study_uid if is_uid(study_uid) else "",
        starts_at=_start(steps[0]),
        description=_text(identifier, "RequestedProcedureDescription", 64)
        or _text(steps[0], "ScheduledProcedureStepDescription", 64),
    )
    return entry if entry.name or entry.number else None


def by_start(entry: ScheduledStudy) -> tuple[bool, str, str]:
    """To sort entries by: the earliest first, those without a time last."""
    start = entry.starts_at
    return start is None, start.isoformat() if start else "", entry.name


def _value(data: Dataset, keyword: str) -> Any:
    try:
        return data.get(keyword)
    except Exception:  # noqa: BLE001 - one value that cannot be understood is one that is unknown
        return None


def _text(data: Dataset, keyword: str, longest: int) -> str:
    return one_line(str(_value(data, keyword) or ""))[:longest].strip()


def _name(data: Dataset) -> str:
    """The first group of a name that is filled, without the carets (PS3.5, 6.2.1)."""
    groups = str(_value(data, "PatientName") or "").split("=")
    words = (one_line(group.replace("^", " ")) for group in groups)
    return next(filter(None, words), "")[:200].strip()


def _day(data: Dataset, keyword: str) -> date | None:
    try:
        day = DA(_text(data, keyword, 10))
    except ValueError:
        return None
    return date(day.year, day.month, day.day) if day else None


def _start(step: Dataset) -> datetime | None:
    day = _day(step, "ScheduledProcedureStepStartDate")
    if day is None:
        return None
    try:
        moment = TM(_text(step, "ScheduledProcedureStepStartTime", 16))
    except ValueError:
        moment = None
    hour, minute = (moment.hour, moment.minute) if moment else (0, 0)
    return datetime.combine(day, time_of_day(hour, minute))
