"""What other programs talk to: JSON under ``/api/v1/``, for whoever holds a token (ADR 0027).

The library behind it costs a fifth of a second to import, a seventh of what a cold start may take:
it comes with the first request that needs it.
"""

from __future__ import annotations

from django.http import HttpRequest, HttpResponseBase, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

from app.access import open_to_all


@open_to_all  # lets nobody in by itself: every operation asks for a token first (app.api.bearer)
@csrf_exempt  # no cookie is looked at, so no other site can make a browser act for somebody
@never_cache
def door(request: HttpRequest, rest: str) -> HttpResponseBase:
    """Hand a request to its operation."""
    from app.api.operations import answer

    return answer(request, rest)


@open_to_all  # says how to ask, and nothing of this clinic
@require_safe
def document(_request: HttpRequest) -> JsonResponse:
    """The OpenAPI 3.1 description of all operations."""
    from app.api.operations import description

    return JsonResponse(description())
