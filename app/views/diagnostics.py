"""The file of diagnostics, for whoever is asked for help."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from app import diagnostics
from app.access import Permission, requires, user_of
from app.models import AuditEvent


@requires(Permission.VIEW)
@never_cache
@require_safe
def download(request: HttpRequest) -> HttpResponse:
    """The file, to be saved."""
    AuditEvent.record(user_of(request), "diagnostics_exported")
    response = HttpResponse(diagnostics.archive(), content_type="application/zip")
    response["Content-Disposition"] = f'attachment; filename="{diagnostics.file_name()}"'
    return response
