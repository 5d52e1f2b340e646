"""Who may log in, and what they may do: for administrators."""

from __future__ import annotations

from django.contrib import messages as notes
from django.contrib.auth import update_session_auth_hash
from django.core.paginator import Paginator
from django.db import transaction
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_safe

from app.access import Permission, requires, user_of
from app.audit import export
from app.forms import AuditFilterForm, UserForm
from app.models import AuditEvent, User
from app.views.account import SECRETS, get_or_post

EVENTS_ON_A_PAGE = 100


@requires(Permission.ADMINISTER)
@never_cache
@require_safe
def people(request: HttpRequest) -> HttpResponse:
    """Everybody with a user name."""
    everybody = User.people().order_by("-is_active", "username")
    return render(request, "people.html", {"people": everybody})


@requires(Permission.ADMINISTER)
@sensitive_post_parameters(*SECRETS)
@never_cache
@get_or_post
def new_person(request: HttpRequest) -> HttpResponse:
    """Enter a new user."""
    return _edit(request, User())


@requires(Permission.ADMINISTER)
@sensitive_post_parameters(*SECRETS)
@never_cache
@get_or_post
def person(request: HttpRequest, pk: int) -> HttpResponse:
    """Change a user's name, role or password, or switch the log-in off."""
    return _edit(request, get_object_or_404(User.people(), pk=pk))


@transaction.atomic
def _edit(request: HttpRequest, user: User) -> HttpResponse:
    form = UserForm(request.POST or None, instance=user)
    if form.is_valid():
        kept = form.keep(by=user_of(request))
        if kept == request.user:
            update_session_auth_hash(request, kept)  # one's own new password is no reason to leave
        notes.success(request, _("%(user)s is saved.") % {"user": form.instance})
        return redirect("people")
    status = 400 if form.is_bound else 200
    return render(request, "person.html", {"form": form, "person": user}, status=status)


@requires(Permission.ADMINISTER)
@never_cache
@require_safe
def audit(request: HttpRequest) -> HttpResponse:
    """Who did what, newest first."""
    form = AuditFilterForm(request.GET)
    events = form.filtered(AuditEvent.objects.select_related("user"))
    page = Paginator(events, EVENTS_ON_A_PAGE).get_page(request.GET.get("page"))
    return render(request, "audit.html", {"form": form, "page": page})


@requires(Permission.ADMINISTER)
@never_cache
@require_safe
def audit_export(request: HttpRequest) -> StreamingHttpResponse:
    """The whole record as a file that can be checked without the program."""
    AuditEvent.record(user_of(request), "audit_exported")
    response = StreamingHttpResponse(export.lines(), content_type="application/jsonl")
    response["Content-Disposition"] = f'attachment; filename="{export.file_name()}"'
    return response
