"""``check``: look for faults of the installation."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from app import checks, startup
from app.stop import CannotStart


class Command(BaseCommand):
    help = "Look for faults of the installation; each is said in a sentence to read out."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--data-dir", help="folder to look at")

    def handle(self, *args: Any, **options: Any) -> None:
        startup.prepare_data_directory()
        problems = [problem for check in checks.THOROUGH if (problem := check())]
        if problems:
            raise CannotStart("\n".join(problem.sentence for problem in problems))
        self.stdout.write(f"No fault was found. Model {checks.model.label}.")
