"""What goes out of the clinic by itself: what waits and why, and when and where to it goes."""

from __future__ import annotations

from typing import Any

from django.contrib import messages as notes
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST

from app.access import Permission, requires, user_of
from app.forms import ResultsForm
from app.models import Delivery, Peer, Site, Study
from app.outbox.faults import NotSent
from app.outbox_words import problem_words
from app.views.account import get_or_post

MOST_SHOWN = 200


@requires(Permission.ADMINISTER)
@never_cache
@get_or_post
def outbox(request: HttpRequest) -> HttpResponse:
    """The choices, the places, and what is on its way."""
    form = ResultsForm(request.POST or None, instance=Site.current())
    if form.is_valid():
        form.keep(by=user_of(request))
        notes.success(request, _("The settings are saved."))
        return redirect("outbox")
    return render(
        request,
        "outbox.html",
        {"form": form, "peers": Peer.objects.filter(gets_results=True), **_on_its_way()},
        status=400 if form.is_bound else 200,
    )


def _on_its_way() -> dict[str, Any]:
    states = Delivery.State
    rows = Delivery.objects.select_related("study", "peer")
    waiting = rows.filter(state__in=[states.WAITING, states.SENDING]).order_by("created_at")
    stuck = rows.filter(state=states.GIVEN_UP)
    return {
        "waiting": _with_words(waiting[:MOST_SHOWN]),
        "stuck": _with_words(stuck[:MOST_SHOWN]),
        "sent": rows.filter(state=states.SENT).order_by("-sent_at")[:20],
        "waiting_count": waiting.count(),
        "stuck_count": stuck.count(),
    }


def _with_words(rows: Any) -> list[tuple[Delivery, str]]:
    return [(row, problem_words(row.problem, row.details, row.peer)) for row in rows]


@requires(Permission.ADMINISTER)
@require_POST
def try_now(request: HttpRequest) -> HttpResponse:
    """Try everything that waits or was given up again, at once."""
    states = Delivery.State
    rows = Delivery.objects.filter(state__in=[states.WAITING, states.GIVEN_UP])
    for row in rows.select_related("study"):
        row.try_now()
    notes.success(request, _("Everything that waits is tried now. Look again in a minute."))
    return redirect("outbox")


@requires(Permission.ADMINISTER)
@require_POST
def drop(request: HttpRequest, pk: int) -> HttpResponse:
    """Send one no more."""
    get_object_or_404(Delivery, pk=pk).drop(user_of(request))
    notes.success(request, _("It is not sent any more. The study itself stays as it is."))
    return redirect("outbox")


@requires(Permission.ADMINISTER)
@require_POST
def test_server(request: HttpRequest) -> HttpResponse:
    """Ask the FHIR server whether it is there and lets us in; nothing is sent."""
    from app.outbox import fhir

    site = Site.current()
    try:
        fhir.look(site.fhir_server, site.fhir_authorization)
    except NotSent as fault:
        notes.error(request, problem_words(fault.code, fault.details))
    else:
        notes.success(request, _("The server answered and lets us in."))
    return redirect("outbox")


@requires(Permission.READ)
@require_POST
def send_study(request: HttpRequest, number: str) -> HttpResponse:
    """Let the results of one study go to every place that gets them."""
    study = get_object_or_404(Study, number=number)
    if study.answer_hidden_from(user_of(request)):
        notes.warning(request, _("Write down your own reading first."))
        return redirect("study", number)
    asked = Delivery.ask(study, user_of(request))
    if asked:
        count = len(asked)
        words = ngettext("On its way to %(count)d place.", "On its way to %(count)d places.", count)
        notes.success(request, words % {"count": count})
    else:
        notes.warning(request, _("No place is named that gets results. An administrator can."))
    return redirect("study", number)
