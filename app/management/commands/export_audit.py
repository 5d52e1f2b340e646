"""``export-audit --out FILE``: the record of who did what, as a file that an auditor can check."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.utils.translation import gettext as _

from app import startup
from app.audit import export
from app.models import AuditEvent
from app.stop import CannotStart


class Command(BaseCommand):
    help = (
        "Write the record of who did what to one file, a line for each event, chained so that a "
        "change shows. It holds patients' names where a change of one was recorded."
    )
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--out", type=Path, required=True, help="the file, ….jsonl")
        parser.add_argument("--data-dir", help="folder of database, films, backups and logs")

    def handle(self, *args: Any, **options: Any) -> None:
        startup.prepare_data_directory()
        startup.prepare_database()
        target = options["out"].absolute()
        AuditEvent.record(None, "audit_exported")
        try:
            count = export.write(target)
        except OSError as error:
            words = _("The file %(file)s cannot be written: %(fault)s.")
            raise CannotStart(words % {"file": target, "fault": error.strerror}, 1) from error
        words = _("Written: %(file)s, %(count)s events. It may hold patients' names.")
        self.stdout.write(words % {"file": target, "count": count})
