"""The one Django app."""

from __future__ import annotations

from django.apps import AppConfig


class ClinicConfig(AppConfig):
    """Tables are named ``clinic_…``."""

    name = "app"
    label = "clinic"
    verbose_name = "Clinic"
    default_auto_field = "django.db.models.BigAutoField"
