"""The viewer: a study's films at their full depth, beside an earlier film of the same patient."""

from __future__ import annotations

import json
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from app import checks, films, messages
from app.access import Permission, requires, user_of
from app.cxr.release import Release
from app.models import AuditEvent, Instance, State, Study
from app.views.film import film_version, has_map, kept, map_version
from app.views.study import MAP_AT_FIRST, record_view

# What is sent at first: a larger film is averaged down to it, and its full size is there on demand.
# 2560 pixels are twice what a laptop's screen shows of a whole film, and a fifth of the memory that
# a film of 4000 x 5000 takes in the browser (10 bytes a pixel: values, colours and canvas).
LONGEST_SIDE = 2560
# Of a patient with a long history the newest films are offered for comparison.
MOST_OTHER_STUDIES = 20


@requires(Permission.VIEW)
@never_cache
@require_safe
def viewer(request: HttpRequest, number: str) -> HttpResponse:
    """The page of one study's films: ``?film=`` names the one to begin with, ``?earlier=`` the
    study of the same patient whose film lies beside it.
    """
    found = get_object_or_404(Study.objects.newest_first(), number=number)
    record_view(found, user_of(request))
    release = checks.model.release
    films = _films(found, request, release)
    others = [film for study in _other_studies(found) for film in _films(study, request, release)]
    context = {
        "study": found,
        "films": films,
        "others": others,
        "begin_with": _chosen(request, films),
        "beside": next((f["id"] for f in others if f["study"] == request.GET.get("earlier")), None),
        "described": json.dumps(films + others),
        "answer_hidden": found.answer_hidden_from(user_of(request)),
    }
    return render(request, "viewer.html", context)


@requires(Permission.VIEW)
@require_safe
def pixels(request: HttpRequest, pk: int) -> HttpResponse:
    """The film's stored values, without a window: `app.pictures.film_values` says how.

    ``?full`` sends each pixel of a film that is otherwise sent smaller.
    """
    instance = get_object_or_404(Instance.objects.select_related("study"), pk=pk)
    AuditEvent.record(user_of(request), "film_viewed", instance.study, film=pk)
    side = None if "full" in request.GET else LONGEST_SIDE
    return kept(
        request,
        film_version(instance),
        lambda: _read_values(instance, side),
        "application/octet-stream",
    )


def _read_values(instance: Instance, longest_side: int | None) -> bytes:
    from app.cxr.radiograph import UnreadableFilm
    from app.cxr.stored import read_stored
    from app.pictures import film_values

    try:
        with films.local(instance.sha256) as path:
            return film_values(read_stored(path), longest_side)
    except (UnreadableFilm, OSError) as error:
        raise Http404 from error


def _other_studies(study: Study) -> list[Study]:
    """The other studies of the same patient, newest first; none while nobody knows whose it is."""
    if study.patient is None:
        return []
    return list(study.patient.studies.exclude(pk=study.pk).newest_first()[:MOST_OTHER_STUDIES])


def _films(study: Study, request: HttpRequest, release: Release | None) -> list[dict[str, Any]]:
    """What the page's script knows of each film of a study that has a picture."""
    hidden = study.answer_hidden_from(user_of(request))
    return [
        _film(study, instance) | ({} if hidden else _findings(instance, release))
        for instance in study.instances.all()
        if instance.state != State.UNREADABLE
    ]


def _film(study: Study, instance: Instance) -> dict[str, Any]:
    version = film_version(instance)
    address = f"{reverse('pixels', args=[instance.pk])}?v={version}"
    day = date_format(timezone.localtime(study.created_at), "j F Y")
    return {
        "id": instance.pk,
        "name": instance.file_name,
        "study": study.number,
        "day": day,
        "title": f"{day} · {instance.file_name}",
        "pixels": address,
        "full": f"{address}&full",
        "map": None,
        "map_strength": 0,
        "regions": [],
        "peak": None,
        "hit_rate": "",
    }


def _findings(instance: Instance, release: Release | None) -> dict[str, Any]:
    """What the computer marked on the film: coordinates are pixels of the whole film."""
    finding = instance.finding
    if finding is None or finding.peak_x is None:
        return {}
    drawn = has_map(instance)
    version = map_version(instance)
    return {
        "map": f"{reverse('map', args=[instance.pk])}?v={version}" if drawn else None,
        "map_strength": MAP_AT_FIRST.get(finding.answer, 0),
        "regions": [
            region | {"words": messages.zone_words(region["zone"])} for region in finding.regions
        ],
        "peak": [finding.peak_x, finding.peak_y],
        "hit_rate": messages.hit_rate(finding.model, release)
        if finding.answer in MAP_AT_FIRST
        else "",
    }


def _chosen(request: HttpRequest, films: list[dict[str, Any]]) -> int | None:
    """The film that was asked for, else the first there is."""
    numbers = [film["id"] for film in films]
    asked = request.GET.get("film", "")
    if asked.isdecimal() and int(asked) in numbers:
        return int(asked)
    return numbers[0] if numbers else None
