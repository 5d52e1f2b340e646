"""The report: one page of paper for the patient's file, in the patient's language."""

from __future__ import annotations

from typing import Any

import segno
from django.conf import settings
from django.contrib import messages as notes
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.template.loader import render_to_string
from django.utils import timezone, translation
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from app import clinical_words, language, messages
from app.access import Permission, requires, user_of
from app.models import UNFINISHED, AuditEvent, Finding, Reading, Study
from app.views.film import film_version

PAPERS = {"a4": gettext_lazy("A4"), "a5": gettext_lazy("A5")}


@requires(Permission.VIEW)
@never_cache
@require_safe
def report(request: HttpRequest, number: str) -> HttpResponse:
    """The report of a study, and beside it what is not printed: language, paper, the button."""
    study = get_object_or_404(Study.objects.newest_first(), number=number)
    user = user_of(request)
    if study.status in UNFINISHED or study.answer_hidden_from(user):
        words = _("The report is there once the film is answered and you have read it.")
        notes.info(request, words)
        return redirect("study", number=number)
    chosen = request.GET.get("language", "")
    chosen = chosen if chosen in dict(settings.LANGUAGES) else translation.get_language()
    paper = request.GET.get("paper", "")
    paper = paper if paper in PAPERS else "a4"
    AuditEvent.record(user, "report_made", study, language=chosen)
    with translation.override(chosen):
        sheet = render_to_string("report_sheet.html", _content(study, chosen), request)
    context = {"study": study, "sheet": sheet, "chosen": chosen, "paper": paper, "papers": PAPERS}
    return render(request, "report.html", context)


def _content(study: Study, chosen: str) -> dict[str, Any]:
    """What the sheet says. Of several films, the one that the study's answer rests on is shown."""
    finding = study.finding
    readings = list(study.readings.select_related("by").order_by("id"))
    return {
        "study": study,
        "patient": study.patient,
        "finding": finding,
        "film": _film(finding) if finding and finding.answer != "unreadable" else None,
        "films": len(study.instances.all()),
        "signs_title": clinical_words.TITLE,
        "signs": study.clinical_signs.select_related("by").last(),
        "conclusion": _last(readings, Reading.Kind.CONCLUSION),
        "diagnosis": _last(readings, Reading.Kind.DIAGNOSIS),
        "limits": messages.LIMITS,
        "qr": qr_code(study.number),
        "printed_at": timezone.now(),
        "version": settings.VERSION,
        "notice": language.NOTICE if chosen in language.AWAITING_READER else "",
        "right_to_left": translation.get_language_bidi(),
        "chosen": chosen,
    }


def _film(finding: Finding) -> dict[str, Any]:
    """The picture, and the marks on it where the answer rests on a place."""
    instance = finding.instance
    width, height = instance.width or 1, instance.height or 1
    marked = finding.answer in ("likely", "cannot_say")
    return {
        "pk": instance.pk,
        "version": film_version(instance),
        "width": width,
        "height": height,
        "mark": max(width, height) // 40,
        "regions": finding.regions if marked else [],
        "peak": (finding.peak_x, finding.peak_y) if marked and finding.peak_x is not None else None,
    }


def _last(readings: list[Reading], kind: Reading.Kind) -> Reading | None:
    return next((reading for reading in reversed(readings) if reading.kind == kind), None)


def qr_code(text: str) -> SafeString:
    """``text`` as a QR code (ISO/IEC 18004, error correction M) in SVG, to be put into a page."""
    code = segno.make(text, error="m", micro=False)
    # Drawn by segno: no text of anybody is in it
    svg = code.svg_inline(omitsize=True, svgclass="qr", lineclass=None, border=2)
    return mark_safe(svg)  # nosec B308 B703
