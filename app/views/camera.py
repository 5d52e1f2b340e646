"""Photographs of films, taken with the device's camera in the page."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from app import checks, messages
from app.access import Permission, requires
from app.cxr.release import UnusableRelease
from app.forms import FilmsForm

# numpy and the decoders come with the first photograph, not with the page.

#: The copy that is judged is small; the photograph itself goes in by the usual door.
MOST_BYTES = 4 * 1024 * 1024


@requires(Permission.TAKE_IN)
@never_cache
@require_safe
def camera(request: HttpRequest) -> HttpResponse:
    """The page with the camera. Without scripts, or without a camera, a form for a photograph.

    ``to_study`` and ``to_patient`` of the address say whose it is, as they do in the worklist.
    """
    return render(request, "camera.html", {"films_form": FilmsForm.of_link(request.GET)})


@requires(Permission.TAKE_IN)
@never_cache
@require_POST
def verdict(request: HttpRequest) -> JsonResponse:
    """Whether a photograph can be used: ``{"usable": bool, "code": str, "sentence": str}``.

    Nothing is kept, and nothing is said of the film but whether it can be read.
    """
    photograph = request.FILES.get("photograph")
    if photograph is None:
        return _said("no_file", 400)
    if (photograph.size or 0) > MOST_BYTES:
        details = {"limit_mb": str(MOST_BYTES // 1024**2)}
        return _said("too_large", 413, details)
    reason, details = _fault_of(photograph.read())
    if reason:
        return _said(reason, 200, details)
    return JsonResponse({"usable": True, "code": "", "sentence": _("The film can be read.")})


def _fault_of(content: bytes) -> tuple[str, dict[str, str]]:
    """Why the worker would turn this picture down, a code and its details; empty where it would
    not.
    """
    from app.cxr import analysis, quality
    from app.cxr.radiograph import UnreadableFilm, read_radiograph

    try:
        found = analysis.analyse(content, checks.model.load())
    except UnusableRelease:  # without a model only the rules can judge
        try:
            refusals = quality.refusals(read_radiograph(content))
        except UnreadableFilm as error:
            return error.code, dict(error.details)
        return (refusals[0].code, dict(refusals[0].details)) if refusals else ("", {})
    turned_down = found.answer in (analysis.REFUSED, analysis.UNREADABLE)
    return (found.reason or "", dict(found.details)) if turned_down else ("", {})


def _said(code: str, status: int, details: dict[str, str] | None = None) -> JsonResponse:
    sentence = messages.sentence(code, details)
    return JsonResponse({"usable": False, "code": code, "sentence": sentence}, status=status)
