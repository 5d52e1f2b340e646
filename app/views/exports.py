"""What leaves as a file or on paper: a study as FHIR, the table of films, the counts of a month."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

from django.contrib import messages as notes
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from app import exports, fhir, month
from app.access import Permission, requires, user_of
from app.models import UNFINISHED, AuditEvent, Instance, Study
from app.worklist import WorklistForm


@requires(Permission.VIEW)
@never_cache
@require_safe
def study_fhir(request: HttpRequest, number: str) -> HttpResponse:
    """The study as a FHIR R4 Bundle, to be saved; under the same conditions as its report."""
    study = get_object_or_404(Study.objects.newest_first(), number=number)
    user = user_of(request)
    if study.status in UNFINISHED or study.answer_hidden_from(user):
        words = _("The file is there once the film is answered and you have read it.")
        notes.info(request, words)
        return redirect("study", number=number)
    content = json.dumps(fhir.bundle_of(study), ensure_ascii=False, indent=1, allow_nan=False)
    AuditEvent.record(user, "fhir_exported", study)
    response = HttpResponse(content, content_type="application/fhir+json; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="study-{study.number}.fhir.json"'
    return response


@requires(Permission.REVIEW)
@never_cache
@require_safe
def films_table(request: HttpRequest) -> HttpResponseBase:
    """One line for each film of the days asked for; names and numbers where these are asked for."""
    user, form = user_of(request), WorklistForm(request.GET)
    chosen = form.chosen
    if form.errors:
        return _month_page(request, month.this_month(), form, status=400)
    studies = form.filtered(Study.objects.all(), user)
    with_names = "names" in request.GET
    AuditEvent.record(
        user,
        "films_exported",
        None,
        films=Instance.objects.filter(study__in=studies).count(),
        names=with_names,
        **{name: str(value) for name, value in chosen.items()},
    )
    rows = exports.as_csv(exports.COLUMNS, exports.table(studies, user, with_names))
    return _csv(rows, "films.csv")


@requires(Permission.REVIEW)
@never_cache
@require_safe
def month_sheet(request: HttpRequest) -> HttpResponse:
    """The counts of one month, to be printed or saved."""
    return _month_page(request, _month_of(request))


@requires(Permission.REVIEW)
@never_cache
@require_safe
def month_table(request: HttpRequest) -> HttpResponseBase:
    """The counts of one month, one a line."""
    chosen = _month_of(request)
    name = f"{chosen:%Y-%m}"
    AuditEvent.record(user_of(request), "month_exported", month=name)
    rows = exports.as_csv(month.COLUMNS, month.rows(month.sheet(chosen)))
    return _csv(rows, f"month-{name}.csv")


def _month_of(request: HttpRequest) -> date:
    """The month of the address, this one where it names none; raises Http404 for what is none."""
    text = request.GET.get("month", "").strip()
    found = month.first_day(text) if text else month.this_month()
    if found is None:
        raise Http404
    return found


def _month_page(
    request: HttpRequest, chosen: date, form: WorklistForm | None = None, status: int = 200
) -> HttpResponse:
    found = month.sheet(chosen)
    last = month.next_month(chosen) - timedelta(days=1)
    days = {"since": chosen.isoformat(), "until": last.isoformat()}
    context: dict[str, Any] = {
        "sheet": found,
        "reasons": [(month.REASONS[code], count) for code, count in found.reasons.items()],
        "before": month.month_before(chosen),
        "after": month.next_month(chosen) if chosen < month.this_month() else None,
        "form": form or WorklistForm(days),
        "names": "names" in request.GET,
    }
    return render(request, "month.html", context, status=status)


def _csv(lines: Iterator[str], name: str) -> StreamingHttpResponse:
    response = StreamingHttpResponse(lines, content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    return response
