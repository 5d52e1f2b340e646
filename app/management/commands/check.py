"""``check``: look for faults of the installation."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from app import checks, diagnostics, startup, vault
from app.audit import check as record
from app.stop import CannotStart


def _found(look: Iterable[Callable[[], checks.Problem | None]]) -> list[checks.Problem]:
    """What is wrong; where the data are encrypted and nobody gives the passphrase, that."""
    found = []
    for check in look:
        try:
            problem = check()
        except vault.Locked:
            problem = checks.Problem("locked")
        if problem and problem not in found:
            found.append(problem)
    return found


class Command(BaseCommand):
    help = "Look for faults of the installation; each is said in a sentence to read out."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--data-dir", help="folder to look at")
        parser.add_argument(
            "--diagnostics",
            type=Path,
            metavar="FILE",
            help="write one ZIP file to send to whoever helps: no patient's name, no film",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        # Not if the folder cannot be made or written in: then that is what there is to tell
        unusable = startup.make_data_directory()
        look = (*checks.THOROUGH, record.of_installation)
        found = [unusable] if unusable else _found(look)
        if options["diagnostics"]:
            self._write(options["diagnostics"], found)
        if not found:
            self.stdout.write(f"No fault was found. Model {checks.model.label}.")
        for note in checks.notes():
            self.stdout.write(note)
        if found:
            raise CannotStart("\n".join(problem.sentence for problem in found))

    def _write(self, target: Path, found: list[checks.Problem]) -> None:
        try:
            diagnostics.write(target, found)
        except OSError as error:
            raise CannotStart(f"The file {target} cannot be written: {error.strerror}.") from error
        self.stdout.write(f"Written: {target}. It holds no patient's name and no film.")
