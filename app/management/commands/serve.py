"""``serve``: the pages, the worker and all that belongs to them, in one process."""

from __future__ import annotations

import argparse
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from app import startup


def port_number(text: str) -> int:
    """A port from the command line."""
    if not (text.isascii() and text.isdecimal() and 0 < int(text) < 65536):
        raise argparse.ArgumentTypeError(f"“{text}” is no port: a number from 1 to 65535")
    return int(text)


class Command(BaseCommand):
    help = "Serve the pages on this computer and open the browser on them."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--host", default="127.0.0.1", help="address to serve on")
        parser.add_argument(
            "--port", type=port_number, help="port; default 8765 or the next free one"
        )
        parser.add_argument("--data-dir", help="folder of database, films, backups and logs")
        parser.add_argument("--no-browser", action="store_true", help="do not open the browser")
        # What a start without a command does: see ADR 0008
        parser.add_argument("--window", action="store_true", help=argparse.SUPPRESS)

    def handle(self, *args: Any, **options: Any) -> None:
        browser = not options["no_browser"]
        startup.serve(
            options["host"], options["port"], browser, with_window=browser and options["window"]
        )
