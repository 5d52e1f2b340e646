"""Addresses of the program. The pages are app.views' own; here stands only what the server needs."""

from __future__ import annotations

from django.urls import include, path

from app.health import healthz

urlpatterns = [
    path("healthz", healthz, name="healthz"),
    path("", include("app.views")),
]
