"""Pages for what went wrong with a request, where Django's own choice of page is not enough."""

from __future__ import annotations

from django.core.exceptions import RequestDataTooBig, TooManyFilesSent
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.utils.translation import gettext as _

from app.access import wants_json


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """400, or 413 where it was the sheer size of the request."""
    if isinstance(exception, RequestDataTooBig | TooManyFilesSent):
        return render(request, "413.html", status=413)
    return render(request, "400.html", status=400)


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:  # noqa: ARG001 - Django's signature
    """403: logged in, and not allowed to do this."""
    if wants_json(request):
        return JsonResponse(
            {"error": _("You are not allowed to do this. Ask an administrator.")}, status=403
        )
    return render(request, "403.html", status=403)


def page_too_old(request: HttpRequest, reason: str = "") -> HttpResponse:  # noqa: ARG001 - Django's signature
    """403: the form does not come from a page of ours, or from one of an earlier log-in (CSRF)."""
    if wants_json(request):
        sentence = _("This page is too old. Reload it, then try again.")
        return JsonResponse({"error": sentence}, status=403)
    return render(request, "403_csrf.html", status=403)
