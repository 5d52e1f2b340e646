"""The way in and out: set-up at the first start, log-in, and one's own password."""

from __future__ import annotations

from django.contrib import messages as notes
from django.contrib.auth import login, logout, update_session_auth_hash
from django.db import transaction
from django.forms import BaseForm
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import get_language
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST

from app.access import (
    InTheWay,
    Permission,
    in_spite_of,
    is_from_here,
    log_in_of,
    only_before_set_up,
    open_to_all,
    requires,
    site_of,
    user_of,
)
from app.forms import LogInForm, PasswordForm, SetUpForm
from app.lan.tries import wrong_passwords_here
from app.models import AuditEvent, LogIn, RecoveryCode, User
from app.models.people import plain_username
from app.models.site import AlreadySetUp

get_or_post = require_http_methods(["GET", "HEAD", "POST"])
SECRETS = ("pin", "pin_again", "password", "password1", "password2", "old_password",
           "new_password1", "new_password2")  # fmt: skip


@only_before_set_up
@sensitive_post_parameters(*SECRETS)
@never_cache
@get_or_post
def set_up(request: HttpRequest) -> HttpResponse:
    """The first choices: the clinic's name, and who looks after the program."""
    language = get_language() or ""
    form = SetUpForm(request.POST or None, language=language)
    if not form.is_valid():
        status = 400 if form.is_bound else 200
        return render(request, "set_up.html", {"form": form, "here": language}, status=status)
    try:
        user = form.set_up()
    except AlreadySetUp:
        notes.warning(request, _("Somebody else has just set the program up."))
    else:
        if user:
            login(request, user)
            return show_code(request, RecoveryCode.make(user))
    return redirect("worklist")


@open_to_all
@sensitive_post_parameters(*SECRETS)
@never_cache
@get_or_post
def log_in(request: HttpRequest) -> HttpResponse:
    """Log in, and go on to where one was going."""
    if not site_of(request).is_set_up:
        return redirect("set-up")
    going = onward(request)
    if request.user.is_authenticated:
        return redirect(going)
    form = LogInForm(request, request.POST or None)
    if form.is_bound and wrong_passwords_here.are_used_up(request.META.get("REMOTE_ADDR", "")):
        return _turned_away(request, going)
    if form.is_valid():
        with transaction.atomic():
            login(request, form.get_user())
            AuditEvent.record(form.get_user(), "logged_in")
        return redirect(going)
    if form.is_bound and not form.waits:
        AuditEvent.record(None, "log_in_failed", _named(form))
    context = {"form": form, "next": going, "here": is_from_here(request)}
    return render(request, "log_in.html", context, status=status_of(form))


@open_to_all
@require_POST
def log_out(request: HttpRequest) -> HttpResponse:
    """Log out; the next person logs in."""
    if request.user.is_authenticated:
        AuditEvent.record(user_of(request), "logged_out")
    logout(request)
    return redirect("log-in")


@requires(Permission.VIEW)
@in_spite_of(InTheWay.OLD_PASSWORD)
@sensitive_post_parameters(*SECRETS)
@never_cache
@get_or_post
def password(request: HttpRequest) -> HttpResponse:
    """One's own password."""
    user = user_of(request)
    if user.is_this_computer:
        raise Http404
    form = PasswordForm(request, request.POST or None)
    if form.is_valid():
        form.keep()
        update_session_auth_hash(request, user)
        here = log_in_of(request)
        LogIn.end(user.log_ins.exclude(pk=here.pk if here else 0))
        notes.success(request, _("Your password is changed."))
        return redirect("worklist")
    return render(request, "password.html", {"form": form}, status=status_of(form))


def show_code(request: HttpRequest, code: str, recovered: bool = False) -> HttpResponse:
    """A recovery code, on this answer and nowhere else: no address and no session keeps it."""
    context = {"groups": code.split("-"), "recovered": recovered}
    return render(request, "recovery_shown.html", context)


def status_of(form: BaseForm) -> int:
    """How a page with this form answers: 429 where somebody has to wait before the next try."""
    codes = {error.code for errors in form.errors.as_data().values() for error in errors}
    return 429 if "wait" in codes else 400 if form.is_bound else 200


def _turned_away(request: HttpRequest, onward: str) -> HttpResponse:
    """Too many wrong passwords: this one is not looked at, whether it is right or wrong."""
    words = _("Too many wrong passwords came from this device. Wait ten minutes.")
    notes.error(request, words)
    context = {"form": LogInForm(request), "next": onward}
    return render(request, "log_in.html", context, status=429)


def onward(request: HttpRequest) -> str:
    """Where somebody was going, on this server and nowhere else."""
    wanted = request.POST.get("next") or request.GET.get("next") or "/"
    here = {request.get_host()}
    # A word without a slash is no address to ``redirect``, but the name of one
    is_ours = url_has_allowed_host_and_scheme(wanted, here, request.is_secure())
    return wanted if is_ours and wanted.startswith("/") else "/"


def _named(form: LogInForm) -> User | None:
    """Whose log-in it would have been. A name that nobody has may be a password: it is not kept."""
    name = plain_username(form.data.get("username", ""))
    return User.people().filter(username=name).first()
