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

from app import held
from app.models import LogIn, Role, Site, User

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


class InTheWay(StrEnum):
    """What stands between somebody who is logged in and all pages but those that end it."""

    LOCKED = "locked"  # nobody was there for a while
    OLD_PASSWORD = "old password"  # an administrator knows it


# Keys of request.META that no header can set: what a browser sends is there as HTTP_…
#: Set by a door that lets other computers in (``app.lan``): there is no single-user mode behind it.
FROM_LAN = "clinic.from_lan"
#: What a session keeps of its log-in.
LOG_IN = "log_in"
_SITE = "clinic.site"
LOG_IN_OF_REQUEST = "clinic.log_in"


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


def in_spite_of(*states: InTheWay) -> Callable[[View], View]:
    """Declare that a view is there although this is in the way of all others."""

    def declare(view: View) -> View:
        view.in_spite_of = frozenset(states)  # type: ignore[attr-defined]
        return view

    return declare


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
    log_in = log_in_of(request)
    minutes = site_of(request).lock_after if log_in else 0
    locked = log_in is not None and log_in.is_locked(minutes)
    return {
        "may": {str(right): not locked and may(user, right) for right in Permission},
        "site": SimpleLazyObject(lambda: site_of(request)),
        "log_in": log_in,
        "lock_seconds": 0 if locked else minutes * 60,
    }


def log_in_of(request: HttpRequest) -> LogIn | None:
    """The log-in that the request belongs to; None for nobody, and in single-user mode."""
    if LOG_IN_OF_REQUEST not in request.META:
        user = getattr(request, "user", None)
        if isinstance(user, User) and not user.is_this_computer:
            return _log_in(request, user)
        request.META[LOG_IN_OF_REQUEST] = None
    found = request.META[LOG_IN_OF_REQUEST]
    return found if isinstance(found, LogIn) else None


def device_of(request: HttpRequest) -> str:
    """The address that it comes from; empty for this computer."""
    return "" if is_from_here(request) else str(request.META.get("REMOTE_ADDR", ""))[:64]


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
        if refusal := _in_the_way(request, getattr(view, "in_spite_of", frozenset())):
            return refusal
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
    if isinstance(logged_in, User) and _log_in(request, logged_in) is None:
        return AnonymousUser()
    return logged_in


def _log_in(request: HttpRequest, user: User) -> LogIn | None:
    """The log-in of the session, looked up once; None where it has ended, or never was."""
    if LOG_IN_OF_REQUEST not in request.META:
        pk = request.session.get(LOG_IN) or 0
        found = LogIn.open().filter(pk=pk, user=user).first()
        if found:
            found.user = user
        request.META[LOG_IN_OF_REQUEST] = found
    kept: LogIn | None = request.META[LOG_IN_OF_REQUEST]
    return kept


def _in_the_way(request: HttpRequest, passed: frozenset[InTheWay]) -> HttpResponse | None:
    """Where to go first. A request that a person has not sent keeps no log-in from locking."""
    log_in = log_in_of(request)
    if log_in is None:
        return None
    if log_in.is_locked(site_of(request).lock_after):
        return None if InTheWay.LOCKED in passed else _locked(request, log_in)
    if is_from_person(request):
        log_in.saw_somebody()
    if log_in.user.must_change_password and InTheWay.OLD_PASSWORD not in passed:
        words = _("Choose a password of your own first.")
        return _turned_back(request, reverse("password"), words)
    return None


def is_from_person(request: HttpRequest) -> bool:
    """Whether a person follows a link or sends a form, as far as the browser says.

    Browsers name HTML as what they want for a page alone, not for pictures and what scripts fetch
    (fetch.spec.whatwg.org#fetching). Of a page that loads itself again they do not say that a user
    has asked for it (Sec-Fetch-User); scripts of the pages tell of hands on the keyboard.
    """
    if "text/html" not in request.headers.get("Accept", ""):
        return False
    by_itself = "Sec-Fetch-Mode" in request.headers and "Sec-Fetch-User" not in request.headers
    return request.method == "POST" or not by_itself


def _locked(request: HttpRequest, log_in: LogIn) -> HttpResponse:
    """To the page that unlocks. A form is not acted on, but kept, so that nobody types it again."""
    if request.method == "POST" and not wants_json(request):
        log_in.hold(held.form_of(request))
    address = reverse("lock") + "?" + urlencode({"next": _way_back(request)})
    return _turned_back(request, address, _("The page is locked. Unlock it, then try again."))


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
