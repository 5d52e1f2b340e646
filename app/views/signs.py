"""Clinical signs are entered on the study's page; so is the age, without which no rule applies."""

from __future__ import annotations

from django.contrib import messages as notes
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache

from app.access import Permission, requires, user_of
from app.clinical_forms import SignsForm
from app.forms import AgeForm
from app.models import ClinicalSigns, Study
from app.views.account import get_or_post
from app.views.study import study_page


@requires(Permission.EDIT)
@never_cache
@get_or_post
def record_signs(request: HttpRequest, number: str) -> HttpResponse:
    """Add what was found in the patient."""
    study = get_object_or_404(Study.objects.newest_first(), number=number)
    if request.method != "POST":
        return redirect("study", number=number)
    form = SignsForm(study, request.POST)
    if not form.is_valid():
        return study_page(request, study, status=400, signs_form=form)
    form.keep(by=user_of(request))
    notes.success(request, _("The signs are saved."))
    # To the top, where the danger stands, if there is one
    place = "" if ClinicalSigns.urgent_signs(list(study.clinical_signs.all())) else "#signs"
    return redirect(reverse("study", args=[number]) + place)


@requires(Permission.EDIT)
@never_cache
@get_or_post
def record_age(request: HttpRequest, number: str) -> HttpResponse:
    """Take over the patient's age, so that the signs for it can be asked for."""
    study = get_object_or_404(Study.objects.newest_first(), number=number)
    if request.method != "POST":
        return redirect("study", number=number)
    form = AgeForm(request.POST)
    if form.is_valid() and form.age_years is None:
        form.add_error("age", _("Enter the age."))
    if not form.is_valid():
        return study_page(request, study, status=400, age_form=form)
    study.change({"age_years": form.age_years}, by=user_of(request))
    return redirect(reverse("study", args=[number]) + "#signs")
