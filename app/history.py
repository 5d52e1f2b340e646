"""What happened to a study or a patient, from the record of who did what, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from django.db.models import Q, QuerySet
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from app.models import AuditEvent, Patient, Study
from app.models.patients import Sex
from app.templatetags.films import age_words

MOST_EVENTS = 100
#: What is recorded of a patient, whose row its details name. Looking is left out: most events are.
PATIENT_ACTIONS = ("patient_entered", "patient_changed", "patient_learnt", "patients_merged")
LABELS = {
    "patient": gettext_lazy("Patient"),
    "name": gettext_lazy("Name or code"),
    "number": gettext_lazy("Patient number"),
    "sex": gettext_lazy("Sex"),
    "birth_date": gettext_lazy("Date of birth"),
    "age_years": gettext_lazy("Age at the study"),
    "consent_for_learning": gettext_lazy("May be learnt from"),
    "note": gettext_lazy("Note"),
}


@dataclass(frozen=True)
class Change:
    """One value, before and after, in words."""

    label: str
    before: str
    after: str


@dataclass(frozen=True)
class Entry:
    """One event, with what it changed and what else there is to say of it."""

    event: AuditEvent
    changes: tuple[Change, ...]
    remarks: tuple[str, ...]


def of_study(study: Study) -> list[Entry]:
    """What happened to a study and to its patient, newest first."""
    own = Q(kind="study", subject=study.number)
    return _entries(own, *([_of_patient(study.patient)] if study.patient else []))


def of_patient(patient: Patient) -> list[Entry]:
    """What happened to a patient and to those who were merged into it, newest first."""
    return _entries(_of_patient(patient))


def last_change(of: Study | Patient, field: str) -> AuditEvent | None:
    """Who changed that value last."""
    subject = Q(action__in=PATIENT_ACTIONS, details__patient=of.pk)
    if isinstance(of, Study):
        subject = Q(kind="study", subject=of.number)
    changes = AuditEvent.objects.filter(subject, details__changed__has_key=field)
    return changes.select_related("user").first()


def deletion_of(number: str) -> AuditEvent | None:
    """The event of a deleted study."""
    events: QuerySet[AuditEvent] = AuditEvent.objects.filter(
        action="study_deleted", kind="study", subject=number
    )
    return events.select_related("user").first()


def value_words(field: str, value: Any) -> str:
    """A value as the audit keeps it, in words; unknown is said, never left out."""
    if field == "patient":
        return str(value["name"]) if isinstance(value, dict) else _("nobody yet")
    if field == "consent_for_learning":
        return {True: _("yes"), False: _("no")}.get(value, _("not asked"))
    if field == "age_years":
        return age_words(value)
    if not value:
        return _("empty") if field == "note" else _("unknown")
    if field == "sex":
        return str(dict(Sex.choices).get(value, value))
    if field == "birth_date":
        return date_format(date.fromisoformat(value), "DATE_FORMAT")
    return str(value)


def _of_patient(patient: Patient) -> Q:
    pks = {patient.pk}
    while more := set(_merged_into(pks)) - pks:
        pks |= more
    return Q(action__in=PATIENT_ACTIONS, details__patient__in=sorted(pks))


def _merged_into(pks: set[int]) -> QuerySet[AuditEvent, Any]:
    merges = AuditEvent.objects.filter(
        action="patients_merged", details__patient__in=sorted(pks)
    ).order_by()
    return merges.values_list("details__other", flat=True)


def _entries(*each: Q) -> list[Entry]:
    """The newest events of several questions, which are asked one by one: each has its index."""
    shown = AuditEvent.objects.exclude(action__endswith="_viewed").select_related("user")
    found = [event for events in each for event in shown.filter(events)[:MOST_EVENTS]]
    found.sort(key=lambda event: event.pk, reverse=True)
    return [
        Entry(event, tuple(_changes(event.details)), tuple(_remarks(event)))
        for event in found[:MOST_EVENTS]
    ]


def _changes(details: Mapping[str, Any]) -> Iterator[Change]:
    changed = details.get("changed")
    for field, values in changed.items() if isinstance(changed, dict) else ():
        if field in LABELS:
            before, after = (value_words(field, value) for value in values)
            yield Change(str(LABELS[field]), before, after)


def _remarks(event: AuditEvent) -> Iterator[str]:
    details = event.details
    if event.action == "patients_merged":
        moved = len(details.get("moved", ()))
        yield ngettext("%(number)d study came along", "%(number)d studies came along", moved) % {
            "number": moved
        }
        yield said_of(details.get("was", {}))
    if event.action == "patient_learnt" and "because" not in details:
        yield _("The film's header says so.")
    if event.action == "header_disagrees":
        yield said_of(details.get("header", {}))
    if details.get("because") == "worklist":
        yield _("The hospital's worklist says so.")
    if details.get("because") == "birth_date":
        yield _("It follows from the date of birth.")
    if event.action == "study_deleted":
        yield str(details.get("reason", ""))


def said_of(facts: Mapping[str, Any]) -> str:
    """The known facts of a patient, as the audit keeps them, in one line."""
    known = (f"{LABELS[n]}: {value_words(n, v)}" for n, v in facts.items() if v and n in LABELS)
    return ", ".join(known)
