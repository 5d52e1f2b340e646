"""One study: its films, what the computer found on them, and what that does not mean."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, render
from django.template.loader import render_to_string
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from app import checks, messages
from app.access import Permission, requires, user_of
from app.cxr.release import Release
from app.models import UNFINISHED, AuditEvent, Instance, Study
from app.views.film import film_version, has_map, map_version

# While nobody knows the size of a film, it is shown inside a square of this many units.
UNKNOWN_SIDE = 1000
# How strongly the map lies over the film at first, of 100: a clear film is shown bare, so that no
# colour suggests a finding that the answer denies.
MAP_AT_FIRST = {"likely": 45, "cannot_say": 45}


@requires(Permission.VIEW)
@never_cache
@require_safe
def study(request: HttpRequest, number: str) -> HttpResponse:
    """The study's page."""
    found = get_object_or_404(Study.objects.newest_first(), number=number)
    AuditEvent.record(user_of(request), "study_viewed", found)
    context = _context(found) | {"again": "again" in request.GET}
    return render(request, "study.html", context)


@requires(Permission.VIEW)
@never_cache
@require_safe
def status(request: HttpRequest, number: str) -> JsonResponse:
    """Where the study stands, and once it is done the part of its page that shows it."""
    found = get_object_or_404(Study.objects.newest_first(), number=number)
    finished = found.status not in UNFINISHED
    html = render_to_string("study_films.html", _context(found), request) if finished else None
    return JsonResponse(
        {"number": found.number, "status": found.status, "finished": finished, "html": html}
    )


def _context(found: Study) -> dict[str, Any]:
    release = checks.model.release
    return {
        "study": found,
        "films": [_film(instance, release) for instance in found.instances.all()],
        "limits": messages.LIMITS,
        "danger_signs": messages.DANGER_SIGNS,
        "unfinished": found.status in UNFINISHED,
    }


def _film(instance: Instance, release: Release | None) -> dict[str, Any]:
    """What the template needs of one film that is not a column of it."""
    finding = instance.finding
    width, height = instance.width or UNKNOWN_SIDE, instance.height or UNKNOWN_SIDE
    answer = finding.answer if finding else instance.state
    marked = finding is not None and finding.peak_x is not None and answer in MAP_AT_FIRST
    return {
        "instance": instance,
        "finding": finding,
        "answer": answer,
        "width": width,
        "height": height,
        "film_version": film_version(instance),
        "map_version": map_version(instance) if has_map(instance) else None,
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
