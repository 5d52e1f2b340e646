"""The films that wait for an answer: how far they are, cancelling them, asking for one again."""

from __future__ import annotations

import math
from typing import Any

from django.contrib import messages as notes
from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_POST

from app import worker
from app.access import Permission, requires, user_of, wants_json
from app.models import Batch, Instance


@requires(Permission.TAKE_IN)
@require_POST
def cancel(request: HttpRequest) -> HttpResponse:
    """Leave the films that wait without an answer; scripts get what runs on."""
    cancelled = Batch.cancel(user_of(request))
    words = ngettext(
        "%(number)d film was cancelled. It stays stored, and can be analysed later.",
        "%(number)d films were cancelled. They stay stored, and can be analysed later.",
        cancelled,
    ) % {"number": cancelled}
    if wants_json(request):
        return JsonResponse({"batch": progress(), "words": words})
    notes.info(request, words)
    return redirect("worklist")


@requires(Permission.TAKE_IN)
@require_POST
def analyse_again(request: HttpRequest, pk: int) -> HttpResponse:
    """Queue a film that was cancelled or failed; one that waits already is left alone."""
    film = get_object_or_404(Instance.objects.select_related("study"), pk=pk)
    with transaction.atomic():
        if film.ask_again(user_of(request)):
            worker.enqueue(film)
    return redirect("study", number=film.study.number)


def progress() -> dict[str, Any] | None:
    """The batch that runs, in figures and words; None where nothing waits."""
    batch = Batch.current()
    if batch is None:
        return None
    return {
        "films": batch.films,
        "done": batch.done,
        "waiting": batch.waiting,
        "words": _("%(done)d of %(all)d films analysed") % {"done": batch.done, "all": batch.films},
        "left": _left(batch.seconds_left),
        "question": ngettext(
            "Cancel the analysis of %(number)d film that waits?",
            "Cancel the analysis of %(number)d films that wait?",
            batch.waiting,
        )
        % {"number": batch.waiting},
    }


def _left(seconds: float | None) -> str:
    """A time as coarse as it is sure; empty where nobody can say."""
    if seconds is None:
        return ""
    if seconds < 60:
        return _("less than a minute left")
    minutes = math.ceil(seconds / 60)
    if minutes < 90:
        return ngettext(
            "about %(number)d minute left", "about %(number)d minutes left", minutes
        ) % {"number": minutes}
    hours = math.ceil(minutes / 60)
    return ngettext("about %(number)d hour left", "about %(number)d hours left", hours) % {
        "number": hours
    }
