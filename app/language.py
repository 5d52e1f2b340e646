"""In which language a page speaks: the user's, else the one chosen in this browser, else the
clinic's, else the browser's own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponseBase
from django.utils import translation
from django.utils.translation import gettext_lazy as _

from app.access import site_of
from app.health import healthz

#: Translated by a machine: pages in these languages say so until a native reader has been through.
AWAITING_READER = frozenset({"fr", "pt", "es", "sw", "hi", "ar"})
NOTICE = _("This translation was made by a machine and awaits a native reader.")


class LanguageMiddleware:
    """Settles the language once the user is known; Django's LocaleMiddleware made a first guess."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Pass the request on; the response says in which language it is."""
        response = self.get_response(request)
        response.headers["Content-Language"] = translation.get_language() or settings.LANGUAGE_CODE
        return response

    def process_view(self, request: HttpRequest, view: Callable[..., Any], *_: Any) -> None:
        """Switch to the language that somebody chose."""
        # Whether the program is up is asked every few seconds, and answered without the database
        if view is not healthz and (chosen := _chosen(request)):
            translation.activate(chosen)
            request.LANGUAGE_CODE = chosen


def _chosen(request: HttpRequest) -> str | None:
    known = dict(settings.LANGUAGES)
    try:
        choices = (
            getattr(request.user, "language", ""),
            request.COOKIES.get(settings.LANGUAGE_COOKIE_NAME, ""),
            site_of(request).language,
        )
    except DatabaseError:  # pages that say what is wrong with the database are shown all the same
        return None
    return next((language for language in choices if language in known), None)


def for_templates(_request: HttpRequest) -> dict[str, Any]:
    """The languages to choose from, and whether this one is still a machine's."""
    language = translation.get_language() or settings.LANGUAGE_CODE
    return {
        "languages": settings.LANGUAGES,
        "language_notice": NOTICE if language in AWAITING_READER else "",
    }
