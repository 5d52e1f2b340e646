"""Say whose a study is and what is known of it; have it analysed again at another age."""

from __future__ import annotations

from django.contrib import messages as notes
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from app import worker
from app.access import Permission, requires, user_of
from app.models import Patient, Study
from app.patient_forms import StudyForm
from app.views.study_delete import deleted

MOST_FOUND = 12


@requires(Permission.EDIT)
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def edit(request: HttpRequest, number: str) -> HttpResponse:
    """The study's patient, age, consent and note. Searching and choosing save nothing yet."""
    found = Study.objects.newest_first().filter(number=number).first()
    if found is None:
        return deleted(request, number)
    sent = request.POST
    if not sent:
        return _page(request, StudyForm(found))
    form = StudyForm(found, sent)
    if "choose" in sent:
        return _page(request, form.choosing(sent["choose"]))
    if _only_looks(request):
        return _page(request, StudyForm(found, typed=sent.dict()))
    if not form.is_valid():
        return _page(request, form, 400)
    again = form.keep(user_of(request), surely_new="surely" in sent)
    if again is None:
        notes.success(request, _("Study %(number)s is saved.") % {"number": found.number})
        return redirect("study", found.number)
    return _page(request, again, 200 if again.candidates else 409)


@requires(Permission.TAKE_IN)
@require_POST
def analyse_again(request: HttpRequest, number: str) -> HttpResponse:
    """Queue the films whose answer was given for another age; sent twice, they are queued once."""
    study = get_object_or_404(Study, number=number)
    with transaction.atomic():
        for film in study.ask_again(user_of(request)):
            worker.enqueue(film)
    return redirect("study", number)


def found_patients(text: str, apart_from: Patient | None = None) -> list[Patient]:
    """The patients that hold every word, as many as a page can offer."""
    if not text.split():
        return []
    found = Patient.objects.search(text).order_by("name", "number", "pk")
    if apart_from:
        found = found.exclude(pk=apart_from.pk)
    return list(found.prefetch_related("studies")[:MOST_FOUND])


def _only_looks(request: HttpRequest) -> bool:
    """Whether the search was meant: its button, or the Enter key in its field."""
    return "find" in request.POST or (
        bool(request.POST.get("q", "").split()) and not {"save", "surely"} & set(request.POST)
    )


def _page(request: HttpRequest, form: StudyForm, status: int = 200) -> HttpResponse:
    # Once somebody is chosen the search has done its work
    text = "" if "choose" in request.POST else request.POST.get("q", "").strip()
    context = {
        "study": form.study,
        "form": form,
        "chosen": form.chosen,
        "text": text,
        "looked": bool(text),
        "found": found_patients(text),
    }
    return render(request, "study_edit.html", context, status=status)
