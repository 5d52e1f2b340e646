"""What every door refuses, whichever page is asked for, and what every answer tells the browser.

A browser on this computer also shows pages of others. Such a page may know our address, or let a
name of its own point to it (DNS rebinding), and send requests with our cookies: other ports of one
computer are the same site to cookies. What comes from there reaches no view, but for a person who
follows a link to a page. Browsers say where a request comes from (Fetch Metadata, a W3C draft;
Origin, RFC 6454); for those that are too old to, there are CSRF tokens and SameSite.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from typing import Any

from django.core.exceptions import DisallowedHost
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.utils.translation import gettext as _

from app.access import wants_json
from app.api.limits import Bucket

logger = logging.getLogger(__name__)

#: Everything from this server, nothing written into the page; and no page shows one of ours.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_NEVER_USED = "display-capture geolocation hid microphone midi payment serial usb"
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": ", ".join(
        ["camera=(self)", *(f"{feature}=()" for feature in _NEVER_USED.split())]
    ),
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
#: Answers that are files or pictures and are written down: another page must not cause that either.
FILES = {
    "audit-export",
    "diagnostics",
    "film",
    "films-table",
    "month-table",
    "pixels",
    "review-table",
    "study-fhir",
}
#: What costs the computer seconds when there is much to tell.
COSTLY = {"audit-export", "diagnostics", "films-table", "month-table", "review-table"}
#: Of those each person may ask for so many at once, and one more every two seconds.
costly = Bucket(rate=0.5, burst=20)
_OURS = {"same-origin", "none"}
_FOREIGN = "clinic.foreign"
_REDIRECTS = {301, 302, 303, 307, 308}
#: A page that keeps trying must not push everything else out of the log.
_noted = Bucket(rate=1 / 60, burst=5)


class DoorMiddleware:
    """Before all others: who is asked, who asks, and the headers of every answer."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Answer, or refuse; with the headers either way."""
        response = self._answer(request)
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    def process_view(
        self, request: HttpRequest, _view: Callable[..., Any], _args: Any, _kwargs: Any
    ) -> HttpResponse | None:
        """Refuse a file to a link of another page, and what is costly to who asks too often."""
        match = request.resolver_match
        name = match.url_name if match else None
        if name in FILES and request.META.get(_FOREIGN):
            return _refused("another page's link to a file")
        asked_by = request.user.pk if name in COSTLY else None
        if asked_by and (wait := costly.take(asked_by)):
            return _too_often(request, math.ceil(wait))
        return None

    def _answer(self, request: HttpRequest) -> HttpResponseBase:
        try:
            own = f"{request.scheme}://{request.get_host()}"
        except DisallowedHost:
            return _refused("a name that is not this computer's", status=400)
        if comes_from_elsewhere(request.headers, own, request.method or ""):
            return _refused("another page's request")
        request.META[_FOREIGN] = not is_from_our_page(request.headers)
        response = self.get_response(request)
        if request.META[_FOREIGN] and not _is_page(response):
            return _refused("another page's link to a file")
        return response


def is_from_our_page(headers: Mapping[str, str]) -> bool:
    """Whether a page of ours or the person asks, as far as the browser says."""
    return headers.get("Sec-Fetch-Site", "none") in _OURS


def comes_from_elsewhere(headers: Mapping[str, str], own: str, method: str) -> bool:
    """Whether another page asks for what only ours may: all but a link that somebody follows.

    ``own``: scheme, name and port of this door. A form of another origin is left to the check of
    its token, which has a page that explains it.
    """
    reads = method in ("GET", "HEAD")
    if reads and headers.get("Origin", own).lower() != own.lower():
        return True
    if is_from_our_page(headers):
        return False
    how = headers.get("Sec-Fetch-Mode"), headers.get("Sec-Fetch-Dest")
    return not (reads and how == ("navigate", "document"))


def _is_page(response: HttpResponseBase) -> bool:
    """Or nothing: a redirection and an error hold no data."""
    kind = response.headers.get("Content-Type", "").partition(";")[0]
    return kind == "text/html" or response.status_code in _REDIRECTS or response.status_code >= 400


def _refused(what: str, status: int = 403) -> HttpResponse:
    """Without a page: whoever gets it is a script, or a person whom another page led here."""
    if not _noted.take(0):
        logger.warning("refused at the door: %s", what)
    words = _("This was asked by a page that is not part of the program. Nothing was done.")
    return HttpResponse(
        f"{words}\n", "text/plain; charset=utf-8", status, headers={"Cache-Control": "no-store"}
    )


def _too_often(request: HttpRequest, seconds: int) -> HttpResponse:
    if wants_json(request):
        response = HttpResponse(status=429)
    else:
        response = render(request, "429.html", status=429)
    response.headers["Retry-After"] = str(seconds)
    return response
