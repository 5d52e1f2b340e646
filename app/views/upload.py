"""Films come in through the browser: dropped, chosen, or sent by a plain form without scripts."""

from __future__ import annotations

from typing import Any

from django.core.files.uploadedfile import UploadedFile
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, JsonResponse
from django.middleware.csrf import get_token
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache

from app import intake, messages
from app.access import Permission, requires, user_of, wants_json
from app.forms import FilmsForm
from app.scheduled import Order


@requires(Permission.TAKE_IN)
@never_cache
def upload(request: HttpRequest) -> HttpResponse:
    """Take in every film of the request; one that is turned away does not stop the others.

    Scripts (``Accept: application/json``) get ``{"films": [{"file", "study", "url", "error",
    "duplicate"}]}``; a plain form gets the study, the worklist, or a page of what went wrong. By
    GET a script gets a fresh token for its forms, because a log-in in another tab changes it.
    """
    if request.method in ("GET", "HEAD"):
        return JsonResponse({"token": get_token(request)}) if wants_json(request) else _go_back()
    if request.method != "POST":
        return HttpResponseNotAllowed(["GET", "HEAD", "POST"])
    form = FilmsForm(request.POST)
    if not form.is_valid():
        return _turned_away(request, form.complaint)
    files = request.FILES.getlist("films")
    if not files:
        return _turned_away(request, messages.sentence("no_file"))
    order = Order.of(form.cleaned_data["order"])
    belonging = intake.Belonging(
        form.age_years,
        *form.whose,
        by=user_of(request),
        study_uid=order.study_uid,
        accession_number=order.accession_number,
    )
    films = [_take_in(file, belonging) for file in files]
    if wants_json(request):
        return JsonResponse({"films": films})
    if any(film["error"] for film in films) or (
        len(films) > 1 and any(film["duplicate"] for film in films)
    ):
        return render(request, "upload.html", {"films": films})
    return redirect(films[0]["url"]) if len(films) == 1 else _go_back()


def _take_in(file: UploadedFile, belonging: intake.Belonging) -> dict[str, Any]:
    name = file.name or ""
    try:
        receipt = intake.receive(file, name, "upload", belonging)
    except intake.Rejected as rejected:
        error = messages.sentence(rejected.code, rejected.details)
        return {"file": name, "study": None, "url": None, "error": error, "duplicate": False}
    number = receipt.instance.study.number
    url = reverse("study", args=[number]) + ("?again" if receipt.duplicate else "")
    return {
        "file": name,
        "study": number,
        "url": url,
        "error": None,
        "duplicate": receipt.duplicate,
    }


def _turned_away(request: HttpRequest, error: str) -> HttpResponse:
    """Nothing of the request was taken in."""
    if wants_json(request):
        return JsonResponse({"films": [], "error": error}, status=400)
    return render(request, "upload.html", {"films": [], "error": error}, status=400)


def _go_back() -> HttpResponse:
    return redirect("worklist")
