"""Who may do what: the one place where it is decided.

Every view says with ``requires`` which permission it needs, or with ``open_to_all`` that it needs
none; one that says nothing is refused to everybody. ``AccessMiddleware`` holds them all to it.
"""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Callable
from enum import StrEnum
from functools import wraps
from typing import Any, TypeVar

from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.cache import add_never_cache_headers
from django.utils.functional import SimpleLazyObject
from django.utils.http import urlencode
from django.utils.translation import gettext as _

from app.models import Role, Site, User

View = TypeVar("View", bound=Callable[..., HttpResponseBase])


class Permission(StrEnum):
    """Something that a page lets people do."""

    VIEW = "view"  # worklist, studies, films, reports
    TAKE_IN = "take_in"  # put films in, cancel a batch, analyse again
    EDIT = "edit"  # patients, studies, consent, clinical signs
    READ = "read"  # record a reading or a diagnosis
    DELETE = "delete"  # delete studies, merge patients
    REVIEW = "review"  # "is it right here?"
    ADMINISTER = "administer"  # people, settings, operating points, audit, updates


_READ_ONLY = frozenset({Permission.VIEW})
_HEALTH_WORKER = _READ_ONLY | {Permission.TAKE_IN, Permission.EDIT}
_CLINICIAN = _HEALTH_WORKER | {Permission.READ, Permission.DELETE, Permission.REVIEW}
PERMISSIONS: dict[str, frozenset[Permission]] = {
    Role.READ_ONLY: _READ_ONLY,
    Role.HEALTH_WORKER: _HEALTH_WORKER,
    Role.CLINICIAN: _CLINICIAN,
    Role.ADMINISTRATOR: _CLINICIAN | {Permission.ADMINISTER},
}
OPEN = "open"
# Keys of request.META that no header can set: what a browser sends is there as HTTP_…
#: Set by a door that lets other computers in (``app.lan``): there is no single-user mode behind it.
FROM_LAN = "clinic.from_lan"
_SITE = "clinic.site"


def may(user: User | AnonymousUser | None, permission: Permission) -> bool:
    """Whether ``user`` may do that."""
    return (
        isinstance(user, User) and user.is_active and permission in PERMISSIONS.get(user.role, ())
    )


def requires(permission: Permission) -> Callable[[View], View]:
    """Declare the permission that a view needs."""

    def declare(view: View) -> View:
        view.permission = permission  # type: ignore[attr-defined]
        return view

    return declare


def open_to_all(view: View) -> View:
    """Declare that a view is for everybody who reaches this server, logged in or not."""
    view.permission = OPEN  # type: ignore[attr-defined]
    return view


def user_of(request: HttpRequest) -> User:
    """The user of a view that requires a permission."""
    assert isinstance(request.user, User)
    return request.user


def site_of(request: HttpRequest) -> Site:
    """The clinic's choices, looked up once for each request."""
    site = request.META.get(_SITE)
    if not isinstance(site, Site):
        site = request.META[_SITE] = Site.current()
    return site


def for_templates(request: HttpRequest) -> dict[str, Any]:
    """What pages show or leave out: ``may.view``, ``may.read`` … of the user, and the clinic."""
    user = getattr(request, "user", None)
    return {
        "may": {str(permission): may(user, permission) for permission in Permission},
        "site": SimpleLazyObject(lambda: site_of(request)),
    }


class AccessMiddleware:
    """Knows clinic and user of a request, and holds every view to the permission it declared."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Give the request its user, who is looked up when a view asks for them."""
        logged_in = request.user
        request.user = SimpleLazyObject(lambda: _user(request, logged_in))  # type: ignore[assignment]
        return self.get_response(request)

    def process_view(
        self, request: HttpRequest, view: Callable[..., Any], _args: Any, _kwargs: Any
    ) -> HttpResponse | None:
        """Let the request through to its view, or say why not."""
        permission = getattr(view, "permission", None)
        if permission is None:
            raise ImproperlyConfigured(f"{view.__module__}.{view.__qualname__} has no permission")
        if permission == OPEN:
            return None
        if not site_of(request).is_set_up:
            return _turned_back(request, reverse("set-up"), _("The program is not set up yet."))
        if not request.user.is_authenticated:
            log_in = reverse("log-in") + "?" + urlencode({"next": _way_back(request)})
            return _turned_back(request, log_in, _("You are logged out. Log in, then try again."))
        if not may(request.user, permission):
            raise PermissionDenied
        return None


def only_before_set_up(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """A view that is there until somebody has chosen how this clinic works, and on this computer
    alone: whoever comes first over the network must not become its administrator.
    """

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if site_of(request).is_set_up:
            return redirect("worklist")
        if not is_from_here(request):
            raise PermissionDenied
        return view(request, *args, **kwargs)

    return open_to_all(guarded)


def wants_json(request: HttpRequest) -> bool:
    """Whether a script asks, which shows what it gets in its own way."""
    return "application/json" in request.headers.get("Accept", "")


def _user(request: HttpRequest, logged_in: User | AnonymousUser) -> User | AnonymousUser:
    """In single-user mode whoever sits at this computer, else who logged in."""
    if site_of(request).single_user and is_from_here(request):
        return User.of_this_computer()
    return logged_in


def is_from_here(request: HttpRequest) -> bool:
    """Whether it comes from this very computer: by no other door, and from a loopback address.

    Behind a proxy nobody does: one that forgot to say for whom it asks would make everybody local.
    """
    if request.META.get(FROM_LAN) or settings.TRUSTED_PROXY:
        return False
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(request.META.get("REMOTE_ADDR", "")).is_loopback
    return False


def _way_back(request: HttpRequest) -> str:
    """The page to go on to after the log-in: never what only a script or a form asks for."""
    is_page = request.method in ("GET", "HEAD") and not wants_json(request)
    return request.get_full_path() if is_page else reverse("worklist")


def _turned_back(request: HttpRequest, address: str, sentence: str) -> HttpResponse:
    if wants_json(request):
        response: HttpResponse = JsonResponse({"error": sentence, "address": address}, status=401)
    else:
        response = redirect(address)
    add_never_cache_headers(response)
    return response
