"""One's own account: the PIN, and where one is logged in; and for administrators, where all are."""

from __future__ import annotations

from django.contrib import messages as notes
from django.db import transaction
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_POST, require_safe

from app.access import Permission, log_in_of, may, requires, user_of
from app.account_forms import PinForm
from app.models import AuditEvent, LogIn, User
from app.views.account import SECRETS, get_or_post, onward, status_of


@requires(Permission.VIEW)
@sensitive_post_parameters(*SECRETS)
@never_cache
@get_or_post
def account(request: HttpRequest) -> HttpResponse:
    """Password, PIN and log-ins of one's own. Sent, it sets the PIN."""
    user = _one_who_logs_in(request)
    form = PinForm(request, request.POST or None)
    if form.is_valid():
        form.keep()
        notes.success(request, _("Your PIN is set. It unlocks the pages where you are logged in."))
        return redirect("account")
    context = {"form": form, "rows": _rows(user.log_ins.all()), "here": log_in_of(request)}
    return render(request, "account.html", context, status=status_of(form))


@requires(Permission.VIEW)
@require_POST
def remove_pin(request: HttpRequest) -> HttpResponse:
    """From now on the password alone unlocks."""
    user = _one_who_logs_in(request)
    with transaction.atomic():
        User.objects.filter(pk=user.pk).update(pin="")
        AuditEvent.record(user, "pin_removed", user)
    notes.success(request, _("Your PIN is removed."))
    return redirect("account")


@requires(Permission.ADMINISTER)
@never_cache
@require_safe
def log_ins(request: HttpRequest) -> HttpResponse:
    """Where everybody is logged in."""
    context = {"rows": _rows(LogIn.objects.all()), "here": log_in_of(request), "everybody": True}
    return render(request, "log_ins.html", context)


@requires(Permission.VIEW)
@require_POST
def end(request: HttpRequest, pk: int) -> HttpResponse:
    """End one log-in: one's own, or as an administrator anybody's."""
    mine = LogIn.objects.all() if may(user_of(request), Permission.ADMINISTER) else _own(request)
    log_in = get_object_or_404(mine, pk=pk)
    _end(request, LogIn.objects.filter(pk=log_in.pk), log_in.user)
    return redirect(onward(request))


@requires(Permission.VIEW)
@require_POST
def end_others(request: HttpRequest) -> HttpResponse:
    """End all one's own log-ins but this one."""
    here = log_in_of(request)
    _end(request, _own(request).exclude(pk=here.pk if here else 0), user_of(request))
    return redirect(onward(request))


def _end(request: HttpRequest, which: QuerySet[LogIn], whose: User) -> None:
    with transaction.atomic():
        if ended := LogIn.end(which):
            AuditEvent.record(user_of(request), "log_ins_ended", whose, count=ended)
    notes.success(request, _("Logged out there."))


def _own(request: HttpRequest) -> QuerySet[LogIn]:
    return _one_who_logs_in(request).log_ins.all()


def _rows(of: QuerySet[LogIn]) -> QuerySet[LogIn]:
    return of.filter(pk__in=LogIn.open().values("pk")).select_related("user")


def _one_who_logs_in(request: HttpRequest) -> User:
    user = user_of(request)
    if user.is_this_computer:
        raise Http404
    return user
