"""One study: its films, what the computer found on them, and beside that what people found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, render
from django.template.loader import render_to_string
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from app import checks, clinical_words, messages
from app.access import Permission, requires, user_of
from app.clinical_forms import DiagnosisForm, ReadingForm, SignsForm, known_age
from app.cxr.release import Release
from app.cxr.signs import rule_for_age
from app.forms import AgeForm
from app.models import (
    UNFINISHED,
    AuditEvent,
    ClinicalSigns,
    Delivery,
    Instance,
    Reading,
    Study,
    User,
)
from app.models.readings import PLAIN_ANSWERS
from app.views.film import film_version, has_map, map_version
from app.views.study_delete import deleted

# While nobody knows the size of a film, it is shown inside a square of this many units.
UNKNOWN_SIDE = 1000
# How strongly the map lies over the film at first, of 100: a clear film is shown bare, so that no
# colour suggests a finding that the answer denies.
MAP_AT_FIRST = {"likely": 45, "cannot_say": 45}
#: Stands for an answer that the user may not see yet.
HIDDEN = "hidden"


@requires(Permission.VIEW)
@never_cache
@require_safe
def study(request: HttpRequest, number: str) -> HttpResponse:
    """The study's page."""
    found = Study.objects.newest_first().filter(number=number).first()
    if found is None:
        return deleted(request, number)
    record_view(found, user_of(request))
    return study_page(request, found)


def record_view(found: Study, user: User) -> None:
    """Write down that ``user`` looks at the study, and whether the computer's answer is shown."""
    answered = found.finding is not None and found.finding.probability is not None
    shown = answered and not found.answer_hidden_from(user)
    AuditEvent.record(user, "study_viewed", found, answer_shown=shown)


def study_page(request: HttpRequest, found: Study, status: int = 200, **forms: Any) -> HttpResponse:
    """The study's page with forms as they were sent: ``signs_form``, ``age_form``, ``reading_form``
    or ``diagnosis_form``. Without them each is empty.
    """
    user = user_of(request)
    hidden = found.answer_hidden_from(user)
    context = {
        **_films(found, hidden),
        **_signs(found, forms.get("signs_form"), forms.get("age_form")),
        **_readings(found, user, hidden, forms.get("reading_form"), forms.get("diagnosis_form")),
        "again": "again" in request.GET,
        "goes_out": not hidden and found.finding is not None and bool(Delivery.places()),
    }
    return render(request, "study.html", context, status=status)


@requires(Permission.VIEW)
@never_cache
@require_safe
def status(request: HttpRequest, number: str) -> JsonResponse:
    """Where the study stands, and once it is done the part of its page that shows it."""
    found = get_object_or_404(Study.objects.newest_first(), number=number)
    hidden = found.answer_hidden_from(user_of(request))
    finished = found.status not in UNFINISHED
    html = None
    if finished:
        html = render_to_string("study_films.html", _films(found, hidden), request)
    return JsonResponse(
        {
            "number": found.number,
            "status": HIDDEN if hidden and finished else found.status,
            "finished": finished,
            "asks_agreement": not hidden and found.answer in PLAIN_ANSWERS,
            "html": html,
        }
    )


def _films(found: Study, hidden: bool) -> dict[str, Any]:
    release = checks.model.release
    films = [_film(instance, release, hidden) for instance in found.instances.all()]
    return {
        "study": found,
        "films": films,
        "limits": messages.LIMITS,
        "danger_signs": messages.DANGER_SIGNS,
        "unfinished": found.status in UNFINISHED,
        "answer_hidden": hidden,
        "shown": HIDDEN if hidden else found.answer or found.status,
    }


def _film(instance: Instance, release: Release | None, hidden: bool) -> dict[str, Any]:
    """What the template needs of one film that is not a column of it."""
    finding = instance.finding
    answer = finding.answer if finding else instance.state
    if finding and finding.probability is not None and hidden:
        # Nothing of the finding goes to the template, so that nothing can slip out of it
        finding, answer = None, HIDDEN
    width, height = instance.width or UNKNOWN_SIDE, instance.height or UNKNOWN_SIDE
    marked = finding is not None and finding.peak_x is not None and answer in MAP_AT_FIRST
    return {
        "instance": instance,
        "finding": finding,
        "answer": answer,
        "width": width,
        "height": height,
        "film_version": film_version(instance),
        "map_version": map_version(instance) if finding and has_map(instance) else None,
        "map_strength": MAP_AT_FIRST.get(answer, 0),
        "map_opacity": f"{MAP_AT_FIRST.get(answer, 0) / 100:.2f}",
        "mark": max(width, height) // 45,
        "regions": [_labelled(region, width) for region in (finding.regions if finding else [])],
        "hit_rate": messages.hit_rate(finding.model, release) if finding and marked else "",
    }


def _labelled(region: dict[str, Any], width: int) -> dict[str, Any]:
    """A region with the place of its label: at its outer edge, to keep long words on the film."""
    outer_right = region["x"] + region["width"] / 2 > width / 2
    return region | {
        "label_x": region["x"] + region["width"] if outer_right else region["x"],
        "label_anchor": "end" if outer_right else "start",
    }


def _signs(found: Study, form: SignsForm | None, age_form: AgeForm | None) -> dict[str, Any]:
    """The block of the clinical signs, and what is urgent about them."""
    rows = list(found.clinical_signs.select_related("by"))
    age = known_age(found)
    return {
        "beside_the_picture": clinical_words.BESIDE_THE_PICTURE,
        "signs_words": {
            "title": clinical_words.TITLE,
            "introduction": clinical_words.INTRODUCTION,
            "no_rule": clinical_words.REASONS["no_rule_for_age"],
            "what_then": clinical_words.ACTIONS["follow_national_guideline"],
        },
        "signs_now": rows[-1] if rows else None,
        "signs_earlier": rows[-2::-1],
        "signs_age_known": age is not None,
        "signs_rule": rule_for_age(age),
        "signs_form": form or SignsForm(found),
        "age_form": age_form or AgeForm(),
        "urgent_signs": ClinicalSigns.urgent_signs(rows),
    }


def _readings(
    found: Study,
    user: User,
    hidden: bool,
    form: ReadingForm | None,
    diagnosis_form: DiagnosisForm | None,
) -> dict[str, Any]:
    """The block of readings. What others read waits too, while the answer is hidden."""
    rows = list(found.readings.select_related("by"))
    return {
        "readings": [] if hidden else rows,
        "readings_hidden": hidden and bool(rows),
        "reading_form": form or reading_form_of(found, user),
        "diagnosis_form": diagnosis_form or DiagnosisForm(found),
        "has_read": any(row.by_id == user.pk for row in rows),
    }


def reading_form_of(found: Study, user: User, data: Mapping[str, Any] | None = None) -> ReadingForm:
    """The form for ``user``'s next reading of the study."""
    hidden = found.answer_hidden_from(user)
    rows = found.readings.filter(by=user, kind=Reading.Kind.CONCLUSION)
    earlier = rows.last()
    asked_already = earlier is None or earlier.agrees is not None
    # A form that is sent twice is the same as the first time
    sent_again = earlier is not None and data is not None and data.get("token") == earlier.token
    if asked_already or sent_again or hidden or found.answer not in PLAIN_ANSWERS:
        earlier = None
    return ReadingForm(found, hidden, earlier, data)
