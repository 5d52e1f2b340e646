"""What the clinic has learnt leaves for the publisher: prepared here, looked at, then sent.

What prepares it takes its time to import, and few requests need it: it is imported in these.
"""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path
from typing import Any

from django.contrib import messages as notes
from django.http import FileResponse, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from app.access import Permission, requires, user_of
from app.cxr.contribution_format import SUFFIX, WHY
from app.models import AuditEvent, Study
from app.updates import sticks

FILMS, MOST_FILMS = 100, 100_000
EVENTS_SHOWN = 10


@requires(Permission.ADMINISTER)
@never_cache
@require_safe
def page(request: HttpRequest) -> HttpResponse:
    """What would leave and why, what is prepared, and what left before."""
    from app.contribution_run import run
    from app.contribution_words import refusal_words

    is_running, prepared = run.is_running, run.prepared
    context: dict[str, Any] = {
        "run": run,
        "is_running": is_running,
        "refused": refusal_words(run.refused) if run.refused else "",
        "closed": _why_closed(),
    }
    if not is_running:
        context |= _of_prepared(prepared) if prepared else _what_would_leave()
        events = AuditEvent.objects.filter(action="readings_exported").select_related("user")
        context["before"] = events.order_by("-pk")[:EVENTS_SHOWN]
    return render(request, "contributions.html", context)


def _why_closed() -> str:
    """Why this program can send nothing to anybody; empty where it can."""
    from app import contribution_words, contributions

    try:
        contributions.publisher()
    except contributions.NotExported as error:
        return contribution_words.refusal_words(error)
    return ""


def _what_would_leave() -> dict[str, Any]:
    """How many films and why, and how many wait for somebody to read them."""
    from app import contributions

    agreed = Study.objects.filter(consent_for_learning=True)
    left = contributions.sent()
    whys = Counter(one.why for one in contributions.gather(set(left.items())))
    return {
        "agreed": agreed.count(),
        "unread": agreed.filter(is_read=False).count(),
        "left_before": len(left),
        "whys": [(why, whys[why]) for why in WHY],
        "films": whys.total(),
        "limit": FILMS,
        "most_films": MOST_FILMS,
    }


def _of_prepared(prepared: Any) -> dict[str, Any]:
    from app import contribution_words

    made = prepared.contribution
    return {
        "made": made,
        "in_short": contribution_words.in_short(made),
        "summary": "\n".join(contribution_words.summary(made)),
        "sticks": sticks.with_room(made.size),
    }


# --- what is done -------------------------------------------------------------------------------


@requires(Permission.ADMINISTER)
@require_POST
def prepare(request: HttpRequest) -> HttpResponse:
    """Start making the file on this computer; nothing leaves."""
    from app.contribution_run import run

    asked = request.POST.get("limit", "")
    is_number = asked.isascii() and asked.isdecimal() and len(asked) < 9
    limit = min(max(int(asked), 1), MOST_FILMS) if is_number else FILMS
    run.prepare(limit, everything="everything" in request.POST)
    return redirect("contributions")


@requires(Permission.ADMINISTER)
@require_POST
def write(request: HttpRequest) -> HttpResponse:
    """Start writing the prepared file to a stick (``stick``: its path)."""
    from app.contribution_run import run

    if run.prepared is None:
        return redirect("contributions")
    drives = [drive for drive, _free in sticks.with_room(run.prepared.contribution.size)]
    drive = next((one for one in drives if str(one) == request.POST.get("stick")), None)
    if drive:
        run.write(drive, _free_name(drive), user_of(request))
    else:
        notes.error(request, _("The stick is not there any more. Plug it in and try again."))
    return redirect("contributions")


def _free_name(drive: Path) -> str:
    day = f"{timezone.localdate():readings-%Y-%m-%d}"
    names = itertools.chain([day], (f"{day}-{count}" for count in itertools.count(2)))
    return next(name + SUFFIX for name in names if not (drive / (name + SUFFIX)).exists())


@requires(Permission.ADMINISTER)
@require_POST
def save(request: HttpRequest) -> HttpResponseBase:
    """The prepared file, to be saved by the browser."""
    from app import contribution_words, contributions
    from app.contribution_run import run

    prepared = run.prepared
    if prepared is None or run.is_running:
        return redirect("contributions")
    name = f"{timezone.localdate():readings-%Y-%m-%d}{SUFFIX}"
    try:
        file = contributions.hand_over(prepared, name, user_of(request))
    except contributions.NotExported as error:
        notes.error(request, contribution_words.refusal_words(error))
        return redirect("contributions")
    run.left_as.append(name)
    kind = "application/octet-stream"
    return FileResponse(file, as_attachment=True, filename=name, content_type=kind)


@requires(Permission.ADMINISTER)
@require_POST
def discard(_request: HttpRequest) -> HttpResponse:
    """Stop what is being prepared, or remove what was."""
    from app.contribution_run import run

    run.discard()
    return redirect("contributions")
