"""``worker``: works the queue in a process of its own, beside the server."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from app import startup


class Command(BaseCommand):
    help = "Work the queue of films, beside a server on the same data directory, until stopped."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--data-dir", help="folder of database and films")

    def handle(self, *args: Any, **options: Any) -> None:
        startup.work()
