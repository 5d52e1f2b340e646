"""Is it right here? The clinic's own readings against the answers, and what may follow from it."""

from __future__ import annotations

import csv
from typing import Any

from django.contrib import messages as notes
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from app import checks, review, review_charts
from app.access import Permission, requires, user_of
from app.cxr.release import BANDS, UnusableRelease
from app.models import AuditEvent, LocalOperatingPoint
from app.views.account import get_or_post

POINTS_SHOWN = 20
FLIPS_SHOWN = 100


@requires(Permission.REVIEW)
@never_cache
@require_safe
def look(request: HttpRequest) -> HttpResponse:
    """The page; ``release`` and ``band`` choose what it speaks of."""
    labels = review.releases()
    if not labels:
        return render(request, "review.html", {"review": None})
    label = request.GET.get("release", labels[0])
    if label not in labels:
        raise Http404
    band = request.GET.get("band", "")
    return render(request, "review.html", _context(review.look(label), labels, band))


def _context(found: review.Review, labels: list[str], band: str) -> dict[str, Any]:
    band = band if band in BANDS else ""
    months = found.months[band]
    card = next((one.card for one in found.bands if one.band == band), None)
    release = checks.model.release
    charts = [
        {"look": one, "chart": review_charts.scores(number, one.drift), "rows": _rows_of(one)}
        for number, one in enumerate(found.drifts)
    ]
    return {
        "review": found,
        "labels": labels,
        "band": band,
        "all_bands": BANDS,
        "months": months,
        "card": card,
        "by_month": review_charts.by_month(months, card),
        "unanswered": review_charts.unanswered(months, card),
        "calibration": review_charts.calibration(found),
        "drifts": charts,
        "few": review.FEW,
        "local": release.local if release and found.is_active else None,
        "points": LocalOperatingPoint.objects.select_related("applied_by", "withdrawn_by")[
            :POINTS_SHOWN
        ],
    }


def _rows_of(one: review.DriftLook) -> list[dict[str, float]]:
    parts = zip(one.drift.local.tolist(), one.drift.expected.tolist(), strict=True)
    return [
        {"low": index / 10, "high": (index + 1) / 10, "local": local, "expected": expected}
        for index, (local, expected) in enumerate(parts)
    ]


@requires(Permission.ADMINISTER)
@never_cache
@get_or_post
def change(request: HttpRequest, band: str) -> HttpResponse:
    """What the proposed threshold of an age band would change, and the button that applies it."""
    found = _proposed(band)
    if found is None:
        notes.warning(request, _("Nothing is proposed for this age any more."))
        return redirect("review")
    label, one = found
    if request.method == "POST":
        return _apply(request, label, band)
    assert one.point is not None
    flips = review.flips(label, band, one.point, one.proposal.point)
    context = {
        "label": label,
        "look": one,
        "proposal": one.proposal,
        "flips": flips[:FLIPS_SHOWN],
        "flip_count": len(flips),
        "kinds": review.kinds_of(flips),
    }
    return render(request, "review_change.html", context)


def _proposed(band: str) -> tuple[str, Any] | None:
    """The active release and its look at an age band, if there is something to propose for it."""
    label = checks.model.label
    if label is None or band not in BANDS:
        return None
    one = next(one for one in review.look(label).bands if one.band == band)
    return None if isinstance(one.proposal, str) else (label, one)


def _apply(request: HttpRequest, label: str, band: str) -> HttpResponse:
    try:
        review.apply_proposal(label, band, request.POST.get("threshold", ""), user_of(request))
    except review.ProposalChanged:
        notes.warning(request, _("There are new readings since. Look at the proposal again."))
        return redirect("review-change", band=band)
    except (OSError, UnusableRelease):
        notes.error(request, _("It could not be written to the disk. Nothing is changed."))
        return redirect("review")
    notes.success(request, _("Applied. From the next film on this clinic's own threshold counts."))
    return redirect("review")


@requires(Permission.ADMINISTER)
@require_POST
def undo(request: HttpRequest, band: str) -> HttpResponse:
    """Give an age band back to the model's own threshold."""
    label = checks.model.label
    if label is None or band not in BANDS:
        raise Http404
    try:
        LocalOperatingPoint.withdraw(label, band, user_of(request))
    except (OSError, UnusableRelease):
        notes.error(request, _("It could not be written to the disk. Nothing is changed."))
    else:
        notes.success(request, _("Undone. From the next film on the model's own threshold counts."))
    return redirect("review")


@requires(Permission.ADMINISTER)
@require_POST
def clear(request: HttpRequest) -> HttpResponse:
    """Remove thresholds that cannot be used."""
    label = checks.model.label
    if label is None:
        raise Http404
    try:
        LocalOperatingPoint.clear_unusable(label, user_of(request))
    except (OSError, UnusableRelease):
        notes.error(request, _("It could not be written to the disk. Nothing is changed."))
    else:
        notes.success(request, _("The unusable thresholds are removed."))
    return redirect("review")


@requires(Permission.REVIEW)
@never_cache
@require_safe
def table(request: HttpRequest) -> HttpResponse:
    """One line for each study, to be saved: numbers of studies, no names."""
    label = request.GET.get("release", "")
    if label not in review.releases():
        raise Http404
    response = HttpResponse(content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = 'attachment; filename="is-it-right-here.csv"'
    writer = csv.writer(response)
    writer.writerow(review.COLUMNS)
    rows = list(review.table(label, user_of(request)))
    writer.writerows(rows)
    AuditEvent.record(user_of(request), "review_exported", model=label, studies=len(rows))
    return response
