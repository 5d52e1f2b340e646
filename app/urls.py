"""Addresses of the program. The pages bring their own, from app.views."""

from __future__ import annotations

from django.urls import include, path

from app.health import healthz

urlpatterns = [
    path("healthz", healthz, name="healthz"),
    path("", include("app.views")),
]
