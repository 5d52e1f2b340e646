"""Who waits for a film, as the hospital's worklist says it; and whose a film without a name is."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from django.core import signing
from django.db import DatabaseError, connections, transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from app.models import Instance, Patient, Peer, Study, User
from app.models.patients import DAYS_IN_A_YEAR
from app.worker import traceback_of

if TYPE_CHECKING:
    from app.dicom.worklist import Answer, Question, ScheduledStudy

# pynetdicom comes with the first question, not before

logger = logging.getLogger(__name__)

#: So old a list may be that is shown once more; so long a page waits for a new one.
SECONDS_KEPT, SECONDS_TO_WAIT = 30.0, 2.5
#: What a page was filled with may be sent back for so long.
SECONDS_VALID = 24 * 3600
#: A patient of one order; more entries than these speak of several.
MOST_OF_ONE_PATIENT = 20
MOST_REMEMBERED = 1000
SALT, ORDER_SALT = "clinic.scheduled", "clinic.order"
TOO_SLOW = _(
    "%(name)s did not give its list in time, or broke off. Try again; if that does not help, look "
    "into its own log."
)


@dataclass(frozen=True)
class Waiting:
    """The entries of all peers, the ones of today first. ``faults``: what is wrong, in words."""

    entries: tuple[ScheduledStudy, ...]
    is_cut: bool = False
    faults: tuple[tuple[Peer, str, int | None], ...] = ()

    def holding(self, text: str) -> list[ScheduledStudy]:
        """The entries that hold every word in name, number or order."""
        from app.models.words import searchable

        words = searchable(text).split()
        return [one for one in self.entries if all(word in _searched(one) for word in words)]


def _searched(entry: ScheduledStudy) -> str:
    from app.models.words import searchable

    return searchable(f"{entry.name} {entry.number} {entry.accession_number}")


def peers() -> list[Peer]:
    """The machines that tell who waits."""
    return list(Peer.objects.filter(gives_worklist=True))


class Lookup:
    """Asks beside the pages, so that none waits for a machine that sleeps."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._found: Waiting | None = None
        self._about: object = None
        self._at = 0.0

    def waiting(self, whom: list[Peer], patience: float = SECONDS_TO_WAIT) -> Waiting | None:
        """Who waits according to ``whom``; None while that is still being asked."""
        about = [(one.pk, one.ae_title, one.host, one.port) for one in whom]
        with self._lock:
            old = time.monotonic() - self._at > SECONDS_KEPT or about != self._about
            if old and not (self._thread and self._thread.is_alive()):
                self._found, self._about = None, about
                self._thread = threading.Thread(
                    target=self._ask, args=[whom], name="scheduled", daemon=True
                )
                self._thread.start()
            thread = self._thread
        if thread:
            thread.join(patience)
        return self._found if about == self._about else None

    def forget(self) -> None:
        """Ask anew at the next time."""
        self._at = 0.0

    def wait(self) -> None:
        """Until nothing is being asked."""
        if self._thread:
            self._thread.join()

    def _ask(self, whom: list[Peer]) -> None:
        try:
            self._found, self._at = ask_about_days(whom, timezone.localdate()), time.monotonic()
        except Exception as error:  # noqa: BLE001 - the page asks again
            logger.error("worklist: %s", traceback_of(error))
        finally:
            connections.close_all()


#: The one of this process.
lookup = Lookup()


def ask_about_days(whom: list[Peer], today: date) -> Waiting:
    """What every peer says of yesterday, today and tomorrow: clocks and midnights differ."""
    from app.dicom.worklist import NoWorklist, Question, ask, by_start

    question = Question(today - timedelta(days=1), today + timedelta(days=1))
    entries: dict[ScheduledStudy, None] = {}
    is_cut, faults = False, []
    for peer in whom:
        try:
            answer = ask(peer, question)
        except NoWorklist as fault:
            faults.append((peer, fault.code, fault.status))
            continue
        entries |= dict.fromkeys(answer.studies)
        is_cut = is_cut or answer.is_cut
    in_order = sorted(entries, key=lambda one: (not _is_of(one, today), by_start(one)))
    return Waiting(tuple(in_order), is_cut, tuple(faults))


def _is_of(entry: ScheduledStudy, day: date) -> bool:
    return entry.starts_at is not None and entry.starts_at.date() == day


def fault_words(peer: Peer, code: str, status: int | None) -> str:
    """Why a peer gave no list, and what to do."""
    from app.dicom import echo

    if code == "too_slow":
        return str(TOO_SLOW) % {"name": peer.name}
    return echo.sentence(code, peer, echo.Outcome(code, status=status))


# --- taking a film for somebody -----------------------------------------------------------------


def seal(entry: ScheduledStudy) -> str:
    """An entry for a hidden field: signed, not secret."""
    born, start = entry.birth_date, entry.starts_at
    values = dataclasses.asdict(entry) | {
        "birth_date": born.isoformat() if born else None,
        "starts_at": start.isoformat() if start else None,
    }
    return signing.dumps(values, salt=SALT, compress=True)


def unseal(token: str) -> ScheduledStudy | None:
    """The entry that a page was filled with; None where it is not ours, or of another day."""
    from datetime import datetime

    from app.dicom.worklist import ScheduledStudy

    try:
        values: dict[str, Any] = signing.loads(token, salt=SALT, max_age=SECONDS_VALID)
    except signing.BadSignature:
        return None
    born, start = values["birth_date"], values["starts_at"]
    values["birth_date"] = date.fromisoformat(born) if born else None
    values["starts_at"] = datetime.fromisoformat(start) if start else None
    return ScheduledStudy(**values)


def study_of(entry: ScheduledStudy) -> Study | None:
    """The study that holds films of this order already."""
    if not entry.study_uid:
        return None
    return Study.objects.filter(study_uid=entry.study_uid).order_by("pk").first()


def patient_of(entry: ScheduledStudy, by: User | None) -> Patient:
    """The patient whom an entry means, with what it knows more of them; else a new one. Audited."""
    facts = _facts(entry)
    with transaction.atomic():
        known = Patient.known_as(entry.number, entry.name, entry.sex, _age_of(entry))
        known = known or _namesake_of(entry)
        if known is None:
            return Patient.enter(facts, by)
        known.change({n: v for n, v in facts.items() if v and not getattr(known, n)}, by)
    return known


def _namesake_of(entry: ScheduledStudy) -> Patient | None:
    """Who was entered from an order without a number: the same in all that it says."""
    if entry.number or not (entry.name and entry.birth_date):
        return None
    same = Patient.objects.filter(**_facts(entry)).order_by("pk")
    return same.first()


def _facts(entry: ScheduledStudy) -> dict[str, Any]:
    return {
        "name": entry.name,
        "number": entry.number,
        "sex": entry.sex,
        "birth_date": entry.birth_date,
    }


def _age_of(entry: ScheduledStudy) -> float | None:
    born = entry.birth_date
    return (timezone.localdate() - born).days / DAYS_IN_A_YEAR if born else None


# --- what a film without a name learns ----------------------------------------------------------


class Learner:
    """Asks the worklist whose a film is that came without a name, after its answer is written down.

    In a thread of its own that ends when nothing is left to ask: no film waits for it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked: OrderedDict[int, None] = OrderedDict()
        self._studies: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def ask_about(self, film: Instance) -> bool:
        """Ask, once for a study, where a machine sent its film without a name; whether it will."""
        try:
            if not _lacks_a_name(film):
                return False
        except DatabaseError:
            return False
        with self._lock:
            if film.study_id in self._asked:
                return False
            self._asked[film.study_id] = None
            if len(self._asked) > MOST_REMEMBERED:
                self._asked.popitem(last=False)
            self._studies.put(film.study_id)
            if not (self._thread and self._thread.is_alive()):
                self._thread = threading.Thread(target=self._work, name="learner", daemon=True)
                self._thread.start()
        return True

    def wait(self) -> None:
        """Until nothing is being asked."""
        if self._thread:
            self._thread.join()

    def _work(self) -> None:
        while True:
            with self._lock:
                try:
                    study = self._studies.get_nowait()
                except queue.Empty:
                    # Under the lock: who puts the next one in starts another thread
                    self._thread = None
                    break
            try:
                learn_patient(study)
            except Exception as error:  # noqa: BLE001 - the next study is asked about all the same
                logger.error("study %s: the worklist: %s", study, traceback_of(error))
        connections.close_all()


#: The one of this process.
learner = Learner()


def _lacks_a_name(film: Instance) -> bool:
    if film.source not in (Instance.Source.DICOM, Instance.Source.FOLDER):
        return False
    study = Study.objects.select_related("patient").filter(pk=film.study_id).first()
    if study is None or (study.patient and study.patient.name):
        return False
    number = study.patient.number if study.patient else ""
    return bool(study.accession_number or number) and bool(peers())


def learn_patient(pk: int) -> Patient | None:
    """Ask the worklist for the patient of a study, and write down what it says; None: nothing."""
    study = Study.objects.select_related("patient").filter(pk=pk).first()
    if study is None:
        return None
    number = study.patient.number if study.patient else ""
    for peer in peers():
        for question in _questions(study.accession_number, number):
            if entry := _one_patient_of(peer, question):
                return _teach(pk, entry)
    return None


def _questions(accession_number: str, number: str) -> list[Question]:
    from app.dicom.worklist import Question

    by_order = [Question(accession_number=accession_number)] if accession_number else []
    return by_order + ([Question(number=number)] if number else [])


def _one_patient_of(peer: Peer, question: Question) -> ScheduledStudy | None:
    """The entry of the one patient who is asked for; None where there are two, or none."""
    from app.dicom.worklist import NoWorklist, ask

    try:
        answer = ask(peer, question, MOST_OF_ONE_PATIENT)
    except NoWorklist:
        return None
    fits = _fitting(answer, question)
    people = {(one.name, one.number, one.sex, one.birth_date) for one in fits}
    return fits[0] if len(people) == 1 and not answer.is_cut else None


def _fitting(answer: Answer, question: Question) -> list[ScheduledStudy]:
    """The entries that are what was asked for: not every machine heeds what it is asked."""
    asked: list[Callable[[ScheduledStudy], bool]] = []
    if question.accession_number:
        asked.append(lambda one: one.accession_number == question.accession_number)
    if question.number:
        asked.append(lambda one: one.number == question.number)
    return [one for one in answer.studies if all(fits(one) for fits in asked)]


def _teach(pk: int, entry: ScheduledStudy) -> Patient | None:
    """Let a study and its patient know what the worklist says, where nobody has said it yet."""
    age = _age_of(entry)
    with transaction.atomic():
        study = Study.objects.select_for_update().get(pk=pk)
        patient = study.patient
        told = {"number": entry.number, "name": entry.name, "sex": entry.sex}
        if Patient(birth_date=entry.birth_date).contradicts("", "", "", study.age_years, study.day):
            return None
        if patient is None:
            patient = Patient.known_as(**told, age_years=age) or Patient.enter(_facts(entry), None)
            study.change({"patient": patient}, None)
        elif patient.contradicts(entry.number, entry.name, entry.sex):
            return None
        patient.learn(because="worklist", **told, birth_date=entry.birth_date)
        study.follow_patient()
    return patient


# --- an order on its way from the list to a film ------------------------------------------------


@dataclass(frozen=True)
class Order:
    """What the hospital calls the study that is to come."""

    study_uid: str = ""
    accession_number: str = ""

    def __bool__(self) -> bool:
        return bool(self.study_uid or self.accession_number)

    def sealed(self) -> str:
        """For an address or a hidden field; it names nobody."""
        return signing.dumps([self.study_uid, self.accession_number], salt=ORDER_SALT)

    @classmethod
    def of(cls, token: str) -> Order:
        """As it was sealed; an empty one for anything else."""
        with contextlib.suppress(signing.BadSignature, TypeError, ValueError):
            return cls(*signing.loads(token, salt=ORDER_SALT, max_age=SECONDS_VALID))
        return cls()
