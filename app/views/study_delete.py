"""Delete a study for good; and what stands at its address afterwards."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages as notes
from django.http import Http404, HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from app import history, versions
from app.access import Permission, requires, user_of
from app.models import Study
from app.patient_forms import NoteField


class DeleteForm(forms.Form):
    """Why, and the tick that it is meant."""

    reason = NoteField(
        label=gettext_lazy("Why is this study deleted?"),
        max_length=1000,
        widget=forms.Textarea({"rows": 2, "dir": "auto"}),
        error_messages={"required": gettext_lazy("Write down why.")},
        help_text=gettext_lazy("Kept in the record of who did what."),
    )
    sure = forms.BooleanField(
        label=gettext_lazy("I know that this cannot be undone."),
        error_messages={"required": gettext_lazy("Tick this if it is meant.")},
    )
    base = forms.CharField(required=False, widget=forms.HiddenInput)


@requires(Permission.DELETE)
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def delete(request: HttpRequest, number: str) -> HttpResponse:
    """What is lost with the study; deleted with a reason."""
    found = Study.objects.newest_first().filter(number=number).first()
    if found is None:
        return deleted(request, number)
    lost = _lost(found)
    form = DeleteForm(request.POST or None, initial={"base": versions.seal(lost)})
    if form.is_valid() and _still(form, request.POST, lost):
        return _delete(request, found, form.cleaned_data["reason"])
    status = 400 if form.is_bound else 200
    context = {"study": found, "form": form, "lost": lost}
    return render(request, "study_delete.html", context, status=status)


def deleted(request: HttpRequest, number: str) -> HttpResponse:
    """Who deleted the study of that number, and when; raises Http404 where nobody has."""
    event = history.deletion_of(number)
    if event is None:
        raise Http404
    context = {"event": event, "reason": event.details.get("reason", "")}
    return render(request, "study_deleted.html", context, status=410)


def _delete(request: HttpRequest, study: Study, reason: str) -> HttpResponse:
    try:
        study.delete_for(reason, by=user_of(request))
    except Study.DoesNotExist:
        return deleted(request, study.number)
    notes.success(request, _("Study %(number)s is deleted.") % {"number": study.number})
    return redirect("worklist")


def _lost(study: Study) -> dict[str, Any]:
    """How much goes with the study, the patient where it is the only one."""
    films = study.instances.all()
    patient = study.patient
    alone = patient is not None and not patient.studies.exclude(pk=study.pk).exists()
    return {
        "films": len(films),
        "findings": sum(len(film.findings.all()) for film in films),
        "readings": study.readings.count(),
        "signs": study.clinical_signs.count(),
        "patient": alone,
    }


def _still(form: DeleteForm, sent: QueryDict, lost: dict[str, Any]) -> bool:
    """Whether no more would be lost than the page has shown; else the form says so."""
    if versions.unseal(form.cleaned_data["base"]) == lost:
        return True
    form.data = {**sent.dict(), "base": versions.seal(lost)}
    form.add_error(
        None, _("Something was added to this study meanwhile. Look at what would be lost now.")
    )
    return False
