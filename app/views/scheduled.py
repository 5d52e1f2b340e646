"""Who is waiting for a film: the hospital's own list, and the way from it to the film."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import messages as notes
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.http import urlencode
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from app import scheduled
from app.access import Permission, requires, user_of
from app.models import Study

if TYPE_CHECKING:
    from app.dicom.worklist import ScheduledStudy

LONGEST_TEXT = 200


@requires(Permission.TAKE_IN)
@never_cache
@require_safe
def waiting(request: HttpRequest) -> HttpResponse:
    """The entries of yesterday, today and tomorrow, or those that hold the words of ``q``."""
    whom = scheduled.peers()
    text = request.GET.get("q", "").strip()[:LONGEST_TEXT]
    if "again" in request.GET:
        scheduled.lookup.forget()
        return redirect(reverse("scheduled") + ("?" + urlencode({"q": text}) if text else ""))
    context: dict[str, Any] = {"peers": whom, "text": text}
    if whom:
        found = scheduled.lookup.waiting(whom)
        context["is_asked"] = found is None
        if found:
            context |= {
                "found": found,
                "faults": [scheduled.fault_words(*fault) for fault in found.faults],
                "rows": _rows(found.holding(text)),
            }
    return render(request, "scheduled.html", context)


def _rows(entries: list[ScheduledStudy]) -> list[dict[str, Any]]:
    uids = [one.study_uid for one in entries if one.study_uid]
    there = Study.objects.filter(study_uid__in=uids).order_by("-pk")
    numbers = dict(there.values_list("study_uid", "number"))
    today = timezone.localdate()
    return [
        {
            "entry": one,
            "token": scheduled.seal(one),
            "is_today": one.starts_at is not None and one.starts_at.date() == today,
            "study": numbers.get(one.study_uid),
        }
        for one in entries
    ]


@requires(Permission.TAKE_IN)
@require_POST
def take(request: HttpRequest) -> HttpResponse:
    """Go on to the film of one entry: its study if that is there, else its patient's next one."""
    entry = scheduled.unseal(request.POST.get("entry", ""))
    if entry is None:
        notes.warning(request, _("This list is too old. Choose the patient once more."))
        return redirect("scheduled")
    if study := scheduled.study_of(entry):
        return redirect(reverse("worklist") + "?" + urlencode({"to_study": study.number}))
    patient = scheduled.patient_of(entry, user_of(request))
    order = scheduled.Order(entry.study_uid, entry.accession_number)
    asked = {"to_patient": str(patient.pk)} | ({"order": order.sealed()} if order else {})
    return redirect(reverse("worklist") + "?" + urlencode(asked))
