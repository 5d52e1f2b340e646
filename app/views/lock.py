"""The lock that falls when nobody is there, and the PIN or password that opens it."""

from __future__ import annotations

from typing import Any

from django.contrib import messages as notes
from django.core.exceptions import ValidationError
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_POST

from app.access import (
    InTheWay,
    Permission,
    in_spite_of,
    log_in_of,
    requires,
    site_of,
    user_of,
    wants_json,
)
from app.account_forms import plain_pin
from app.log_ins import check_own_password
from app.models import AuditEvent, LogIn
from app.views.account import SECRETS, get_or_post, onward

ALWAYS = in_spite_of(InTheWay.LOCKED, InTheWay.OLD_PASSWORD)


@requires(Permission.VIEW)
@ALWAYS
@never_cache
@get_or_post
def lock(request: HttpRequest) -> HttpResponse:
    """The locked page. Sent as a form, it locks."""
    log_in = _log_in(request)
    if request.method == "POST":
        log_in.lock()
        return redirect(request.path)
    if not log_in.is_locked(site_of(request).lock_after):
        return redirect(onward(request))
    return _page(request, log_in)


@requires(Permission.VIEW)
@ALWAYS
@sensitive_post_parameters(*SECRETS)
@never_cache
@require_POST
def unlock(request: HttpRequest) -> HttpResponse:
    """Open it again, with the PIN or the password, and go on to where one was."""
    log_in = _log_in(request)
    if not log_in.is_locked(0):
        return _opened(request, log_in)
    wrong_before = log_in.wrong_pins
    try:
        _prove(request, log_in)
    except ValidationError as error:
        AuditEvent.record(log_in.user, "unlock_failed")
        status = 429 if error.code == "wait" else 400
        return _page(request, log_in, " ".join(error.messages), status)
    if wrong_before:
        words = ngettext(
            "Before that, a wrong PIN was tried here.",
            "Before that, wrong PINs were tried here %(count)s times.",
            wrong_before,
        )
        notes.warning(request, words % {"count": wrong_before})
    return _opened(request, log_in)


@requires(Permission.VIEW)
@ALWAYS
@never_cache
@get_or_post
def state(request: HttpRequest) -> HttpResponse:
    """For the script of the pages: whether and when it locks. Sent: somebody is at work here."""
    log_in = _log_in(request)
    minutes = site_of(request).lock_after
    if not log_in.is_locked(minutes) and request.method == "POST":
        log_in.saw_somebody()
    seconds = log_in.seconds_left(minutes)
    return JsonResponse(
        {"locked": log_in.is_locked(minutes), "seconds": seconds, "log_in": log_in.pk}
    )


@requires(Permission.VIEW)
@never_cache
@get_or_post
def held(request: HttpRequest) -> HttpResponse:
    """The form that came while it was locked: to be sent now, or thrown away."""
    log_in = _log_in(request)
    if request.method == "POST" or log_in.held is None:
        log_in.hold(None)
        return redirect(onward(request))
    return render(request, "lock_held.html", {"held": log_in.held})


def _log_in(request: HttpRequest) -> LogIn:
    found = log_in_of(request)
    if found is None:
        raise Http404  # nobody logs in here
    return found


def _prove(request: HttpRequest, log_in: LogIn) -> None:
    """Raises ValidationError where it is not the user."""
    if password := request.POST.get("password", ""):
        check_own_password(request, password)
        log_in.unlock()
    elif not log_in.takes_pin:
        raise ValidationError(_("Type your password."), code="password")
    elif not log_in.unlocks_by_pin(plain_pin(request.POST.get("pin", "").strip())):
        raise ValidationError(_wrong_pin(log_in), code="wrong")


def _wrong_pin(log_in: LogIn) -> str:
    left = log_in.MOST_WRONG_PINS - log_in.wrong_pins
    if left <= 0:
        return _("This is not your PIN. It was wrong too often: type your password.")
    words = ngettext(
        "This is not your PIN. You can try once more.",
        "This is not your PIN. You can try %(count)s times more.",
        left,
    )
    return words % {"count": left}


def _opened(request: HttpRequest, log_in: LogIn) -> HttpResponse:
    if wants_json(request):
        return JsonResponse({"seconds": log_in.seconds_left(site_of(request).lock_after)})
    return redirect("held") if log_in.held else redirect(onward(request))


def _page(request: HttpRequest, log_in: LogIn, wrong: str = "", status: int = 200) -> HttpResponse:
    if wants_json(request):
        told = {"error": wrong, "pin": log_in.takes_pin}
        return JsonResponse(told, status=status)
    context: dict[str, Any] = {
        "locked": log_in,
        "who": user_of(request),
        "next": onward(request),
        "wrong": wrong,
        "messages": [],  # they may speak of patients
    }
    return render(request, "locked.html", context, status=status)
