"""Other programs: which may come in, with what rights, and how they ask."""

from __future__ import annotations

from typing import Any

from django.contrib import messages as notes
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from app import lan
from app.access import Permission, requires, user_of
from app.models import DeviceToken, Scope
from app.token_forms import TokenForm
from app.views.account import get_or_post


@requires(Permission.ADMINISTER)
@never_cache
@get_or_post
def tokens(request: HttpRequest) -> HttpResponse:
    """The programs that have a token. A new token is on the answer to its form and nowhere else:
    no address, no session and no table keeps it.
    """
    form = TokenForm(request.POST or None)
    context: dict[str, Any] = {"form": form}
    if form.is_valid():
        issued, secret = form.issue(by=user_of(request))
        context = {"form": TokenForm(), "issued": issued, "secret": secret}
    rows = DeviceToken.objects.select_related("made_by")
    context |= {
        "rows": [(row, _rights(row)) for row in rows],
        "places": _places(request),
    }
    return render(request, "tokens.html", context, status=400 if context["form"].errors else 200)


@requires(Permission.ADMINISTER)
@require_POST
def end(request: HttpRequest, pk: int) -> HttpResponse:
    """Let this program in no longer."""
    token = get_object_or_404(DeviceToken, pk=pk)
    token.revoke(by=user_of(request))
    notes.success(request, _("%(program)s is let in no longer.") % {"program": token})
    return redirect("tokens")


@requires(Permission.ADMINISTER)
@never_cache
@require_safe
def interface(request: HttpRequest) -> HttpResponse:
    """How programs ask, for whoever writes one: the OpenAPI description as a page."""
    from app.api.reference import chapters, parts

    context = {"chapters": chapters(), "parts": parts()}
    return render(request, "api_reference.html", context)


def _rights(token: DeviceToken) -> list[str]:
    return [str(Scope(scope).label) for scope in token.scopes if scope in Scope]


def _places(request: HttpRequest) -> list[str]:
    """Where programs find the interface: on this computer, and through the door for others."""
    path = reverse("api", args=["health"]).removesuffix("health")
    here = [] if lan.door.is_open and request.is_secure() else [request.build_absolute_uri(path)]
    return here + [f"{address.link(lan.door.port)}{path}" for address in lan.door.addresses]
