"""The one Django app."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.db import connections
from django.db.models.signals import post_migrate


class ClinicConfig(AppConfig):
    """Tables are named ``clinic_…``."""

    name = "app"
    label = "clinic"
    verbose_name = "Clinic"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Keep the record append-only in the database too, whatever a migration remade; notice
        every log-in; let commands ask for the passphrase of encrypted data.
        """
        from app import log_ins, vault  # noqa: F401
        from app.vault import unlock

        vault.ask_by(unlock.ask)
        post_migrate.connect(_put_up_triggers, sender=self)


def _put_up_triggers(using: str, **_more: Any) -> None:
    from app.audit import triggers

    connection = connections[using]
    if triggers.TABLE in connection.introspection.table_names():
        triggers.put_up(connection)
