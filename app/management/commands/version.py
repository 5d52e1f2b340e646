"""``version``: what runs here, for the phone."""

from __future__ import annotations

import platform
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from app import checks


class Command(BaseCommand):
    help = "Say which version of the program and which model this is."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--data-dir", help="folder whose model is named")

    def handle(self, *args: Any, **options: Any) -> None:
        model = checks.model.label or "none usable"
        self.stdout.write(f"ClinicCXR {settings.VERSION}, model {model}")
        self.stdout.write(f"Python {platform.python_version()}, {platform.platform()}")
