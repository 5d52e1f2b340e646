"""Films on a disc or stick that is plugged in here: shown, chosen, taken in."""

from __future__ import annotations

from typing import Any

from django.contrib import messages as notes
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from app import disc, messages
from app.access import Permission, requires, user_of
from app.folder_words import TAKING


@requires(Permission.TAKE_IN)
@never_cache
@require_safe
def page(request: HttpRequest) -> HttpResponse:
    """What is on the discs and sticks; while films are taken in, how far that is."""
    if "again" in request.GET:
        disc.finder.forget()
        return redirect("disc")
    progress = disc.run.progress
    context: dict[str, Any] = {"progress": progress}
    if progress:
        context["ended"] = TAKING.get(progress.state, "")
        context["faults"] = [
            (name, messages.sentence(code, dict(details)))
            for name, code, details in progress.faults
        ]
    if not (progress and progress.is_running):
        found = disc.finder.drives()
        context |= {"drives": found, "is_looking": found is None}
    return render(request, "disc.html", context)


@requires(Permission.TAKE_IN)
@require_POST
def take(request: HttpRequest) -> HttpResponse:
    """Begin to take in what was chosen: ``group``, each by its key."""
    chosen = disc.finder.chosen(request.POST.getlist("group"))
    if chosen:
        disc.run.start(chosen, user_of(request))
    elif request.POST.getlist("group"):
        notes.warning(request, _("The disc or stick was looked at anew. Choose once more."))
    else:
        notes.warning(request, _("Choose what is to be taken in first."))
    return redirect("disc")


@requires(Permission.TAKE_IN)
@require_POST
def stop(_request: HttpRequest) -> HttpResponse:
    """Take no more in; what came in stays."""
    disc.run.stop()
    return redirect("disc")
