"""Addresses of the program. The pages bring their own, from app.views."""

from __future__ import annotations

from django.urls import include, path, re_path

from app import api
from app.health import healthz
from app.monitoring import metrics

urlpatterns = [
    path("healthz", healthz, name="healthz"),
    path("metrics", metrics, name="metrics"),
    path("api/v1/openapi.json", api.document, name="api-document"),
    # Not <path:rest>, to which an address with a line end (%0A) is none: who asks here gets JSON
    re_path(r"^api/v1/(?P<rest>[\s\S]+)\Z", api.door, name="api"),
    path("", include("app.views")),
]

# A request that is too large is a 400 to Django; the page says what it was.
handler400 = "app.views.errors.bad_request"
handler403 = "app.views.errors.forbidden"
