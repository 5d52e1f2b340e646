"""One patient: facts, all studies, who may be the same person, and the merging of the two."""

from __future__ import annotations

from django.contrib import messages as notes
from django.db.models import ProtectedError
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.template.loader import render_to_string
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from app import history, versions
from app.access import Permission, requires, user_of
from app.models import AuditEvent, Patient
from app.patient_forms import EditPatientForm, plain
from app.views.study_edit import found_patients


@requires(Permission.VIEW)
@never_cache
@require_safe
def patient(request: HttpRequest, pk: int) -> HttpResponse:
    """The patient's page; of one who was merged away, the page of the one who stayed."""
    found = Patient.objects.filter(pk=pk).first()
    if found is None:
        return _moved(pk)
    AuditEvent.record(user_of(request), "patient_viewed", found, patient=found.pk)
    text = request.GET.get("q", "").strip()
    context = {
        "patient": found,
        "studies": found.studies.newest_first(),
        "duplicates": found.likely_duplicates(),
        "history": history.of_patient(found),
        "text": text,
        "found": found_patients(text, apart_from=found),
    }
    return render(request, "patient.html", context)


@requires(Permission.EDIT)
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def edit(request: HttpRequest, pk: int) -> HttpResponse:
    """The patient's facts, for all studies."""
    found = Patient.objects.filter(pk=pk).first()
    if found is None:
        return _moved(pk)
    form, status = EditPatientForm(found, request.POST or None), 200
    if form.is_valid():
        again = form.keep(user_of(request))
        if again is None:
            notes.success(request, _("%(patient)s is saved.") % {"patient": found})
            return redirect("patient", found.pk)
        form, status = again, 409
    elif form.is_bound:
        status = 400
    return render(request, "patient_edit.html", {"form": form, "patient": found}, status=status)


@requires(Permission.DELETE)
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def merge(request: HttpRequest, pk: int, other: int) -> HttpResponse:
    """Two patients beside each other; which of them stays, and takes the other's studies."""
    both = list(Patient.objects.filter(pk__in={pk, other}).order_by("pk"))
    if len(both) < 2:
        return _moved(pk, other)
    problem, status = "", 200
    if request.method == "POST":
        stays = next((one for one in both if str(one.pk) == request.POST.get("stays")), None)
        if stays is None:
            problem, status = _("Choose which of the two stays."), 400
        elif request.POST.get("base") != _seen(both):
            problem, status = _("One of the two has changed meanwhile. Look at both again."), 409
        else:
            return _merge(request, stays, next(one for one in both if one != stays))
    context = {
        "patients": [(one, one.studies.newest_first()) for one in both],
        "base": _seen(both),
        "problem": problem,
        "back": pk,
    }
    return render(request, "patient_merge.html", context, status=status)


@requires(Permission.DELETE)
@require_POST
def remove(request: HttpRequest, pk: int) -> HttpResponse:
    """Delete a patient who has no study."""
    found = Patient.objects.filter(pk=pk).first()
    if found is None:
        return _moved(pk)
    try:
        found.remove(by=user_of(request))
    except ProtectedError:
        notes.error(request, _("A patient with studies cannot be deleted."))
        return redirect("patient", pk)
    notes.success(request, _("%(patient)s is deleted.") % {"patient": found})
    return redirect("worklist")


@requires(Permission.VIEW)
@never_cache
@require_safe
def find(request: HttpRequest) -> JsonResponse:
    """Patients while somebody types: ``?q=``, and of whom to compare them with, ``?with=``."""
    pk = request.GET.get("with", "")
    one = Patient.objects.filter(pk=int(pk)).first() if pk.isascii() and pk.isdecimal() else None
    text = request.GET.get("q", "").strip()
    context = {"found": found_patients(text, apart_from=one), "text": text, "compare_with": one}
    return JsonResponse({"html": render_to_string("patient_found.html", context, request)})


def _merge(request: HttpRequest, stays: Patient, goes: Patient) -> HttpResponse:
    try:
        stays.take_over(goes, by=user_of(request))
    except Patient.DoesNotExist:
        return _moved(stays.pk, goes.pk)
    notes.success(request, _("The two are one patient now: %(patient)s.") % {"patient": stays})
    return redirect("patient", stays.pk)


def _moved(*pks: int) -> HttpResponse:
    """To the one who took over a patient that is gone; raises Http404 where there is none."""
    for pk in pks:
        if stayed := Patient.merged_into(pk):
            return redirect("patient", stayed.pk)
    raise Http404


def _seen(both: list[Patient]) -> str:
    """What the page of a merge has shown: facts and studies of both."""
    shown = {
        str(one.pk): [plain(one), sorted(one.studies.values_list("number", flat=True))]
        for one in both
    }
    return versions.digest(shown)
