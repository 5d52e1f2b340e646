"""Tags of the pages that show whose a study is."""

from __future__ import annotations

from typing import Any

from django import template
from django.http import HttpRequest

from app import history
from app.access import user_of
from app.models import UNFINISHED, AuditEvent, State, Study

register = template.Library()

#: Of a patient with a long history the page of the patient shows all.
MOST_EARLIER = 12


@register.inclusion_tag("study_patient.html", takes_context=True)
def study_patient(context: dict[str, Any], study: Study) -> dict[str, Any]:
    """Whose the study is, what else there is of the patient, and what was changed."""
    patient = study.patient
    others = patient.studies.exclude(pk=study.pk) if patient else Study.objects.none()
    return {
        "request": context["request"],
        "may": context["may"],
        "study": study,
        "patient": patient,
        "others": others.newest_first()[:MOST_EARLIER],
        "at_another_age": study.films_at_another_age,
        "unfinished": study.status in UNFINISHED,
        "stranger": _said_by_a_stranger(study),
        "history": history.of_study(study),
    }


@register.inclusion_tag("patient_film.html", takes_context=True)
def patient_film(
    context: dict[str, Any], study: Study, beside: Study | None = None
) -> dict[str, Any]:
    """One study of a patient as a stamp: film, day, and the answer unless it is hidden still.

    ``beside``: the study to look at it side by side with.
    """
    request: HttpRequest = context["request"]
    shown = (film for film in study.instances.all() if film.state in _WITH_PICTURE)
    return {
        "study": study,
        "film": next(shown, None),
        "hidden": study.answer_hidden_from(user_of(request)),
        "beside": beside,
    }


# A film that waits may turn out to be none
_WITH_PICTURE = (State.ANSWERED, State.REFUSED, State.FAILED, State.CANCELLED)


def _said_by_a_stranger(study: Study) -> str:
    """What the header of a film says of somebody who cannot be the study's patient; else empty."""
    events = AuditEvent.objects.filter(
        kind="study", subject=study.number, action="header_disagrees"
    )
    event = events.first()
    if event is None or study.patient is None:
        return ""
    header = event.details["header"]
    number, name, sex = (header.get(said, "") for said in ("number", "name", "sex"))
    return history.said_of(header) if study.patient.contradicts(number, name, sex) else ""
