"""Readings and diagnoses are entered on the study's page."""

from __future__ import annotations

from django.contrib import messages as notes
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache

from app.access import Permission, requires, user_of
from app.clinical_forms import DiagnosisForm
from app.models import Study
from app.views.account import get_or_post
from app.views.study import reading_form_of, study_page


@requires(Permission.READ)
@never_cache
@get_or_post
def record_reading(request: HttpRequest, number: str) -> HttpResponse:
    """Add the user's own conclusion from the films."""
    study = get_object_or_404(Study.objects.newest_first(), number=number)
    if request.method != "POST":
        return redirect("study", number=number)
    user = user_of(request)
    form = reading_form_of(study, user, request.POST)
    if not form.is_valid():
        return study_page(request, study, status=400, reading_form=form)
    form.keep(by=user)
    notes.success(request, _("Your reading is saved."))
    return redirect(reverse("study", args=[number]) + "#readings")


@requires(Permission.READ)
@never_cache
@get_or_post
def record_diagnosis(request: HttpRequest, number: str) -> HttpResponse:
    """Add what the patient turned out to have; the film is read first, where it has to be."""
    study = get_object_or_404(Study.objects.newest_first(), number=number)
    user = user_of(request)
    if request.method != "POST":
        return redirect("study", number=number)
    if study.answer_hidden_from(user):
        notes.warning(request, _("Read the film first, then enter the diagnosis."))
        return redirect(reverse("study", args=[number]) + "#readings")
    form = DiagnosisForm(study, request.POST)
    if not form.is_valid():
        return study_page(request, study, status=400, diagnosis_form=form)
    form.keep(by=user)
    notes.success(request, _("The diagnosis is saved."))
    return redirect(reverse("study", args=[number]) + "#readings")
