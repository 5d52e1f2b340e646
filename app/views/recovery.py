"""The recovery code: made by an administrator, and used at this computer when all else fails."""

from __future__ import annotations

from django.contrib import messages as notes
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_POST

from app.access import Permission, is_from_here, open_to_all, requires, site_of, user_of
from app.account_forms import OwnPasswordForm, RecoverForm
from app.models import RecoveryCode
from app.views.account import SECRETS, get_or_post, show_code, status_of


@requires(Permission.ADMINISTER)
@sensitive_post_parameters(*SECRETS)
@never_cache
@get_or_post
def recovery_code(request: HttpRequest) -> HttpResponse:
    """Whether there is a code. With one's password: a new one, on this answer and nowhere else."""
    if user_of(request).is_this_computer:
        raise Http404
    form = OwnPasswordForm(request, request.POST or None)
    if form.is_valid():
        return show_code(request, RecoveryCode.make(user_of(request)))
    context = {"form": form, "current": RecoveryCode.current()}
    return render(request, "recovery_code.html", context, status=status_of(form))


@requires(Permission.ADMINISTER)
@require_POST
def kept(request: HttpRequest) -> HttpResponse:
    """Somebody has written the code down."""
    RecoveryCode.keep(user_of(request))
    notes.success(request, _("Lock the recovery code away, where you find it in a year."))
    return redirect("worklist")


@open_to_all
@sensitive_post_parameters(*SECRETS, "code")
@never_cache
@get_or_post
def recover(request: HttpRequest) -> HttpResponse:
    """A new password for an administrator, by the code: for who sits at this computer."""
    if not is_from_here(request):
        raise PermissionDenied
    if not site_of(request).is_set_up or site_of(request).single_user:
        return redirect("worklist")
    form = RecoverForm(request, request.POST or None)
    if form.is_valid() and form.recover():
        return show_code(request, form.next_code, recovered=True)
    return render(request, "recover.html", {"form": form}, status=status_of(form))
