"""``GET /healthz``: is the program up, and does it have a model to answer with."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from app import checks
from app.access import open_to_all


@open_to_all
@never_cache
@require_safe
def healthz(_request: HttpRequest) -> JsonResponse:
    """Always 200 once pages are served: ``degraded`` says that somebody should look."""
    return JsonResponse(state_of_the_program())


def state_of_the_program() -> dict[str, str | None]:
    """``status``, ``version`` and ``model``, which is None when there is none to answer with."""
    problems = checks.current_problems()
    return {
        "status": "degraded" if problems else "ok",
        "version": settings.VERSION,
        "model": checks.model.label,
    }
