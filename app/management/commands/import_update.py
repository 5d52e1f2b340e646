"""``import-update FILE``: take a model from a stick, without a browser."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _

from app import checks, startup, update_words
from app.models import User
from app.stop import CannotStart
from app.updates import clinic
from app.updates.refused import UpdateRefused
from app.updates.verify import DOUBTS, Update

REFUSED, USAGE = 1, 2


class Command(BaseCommand):
    help = (
        "Verify a .clinicupdate file, try its model on this computer and let it answer. Exits 0 "
        "when it does, 1 when the update was refused or declined, 2 when nothing could be tried."
    )
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path, help="the update, on the stick or copied from it")
        parser.add_argument("--yes", action="store_true", help="install without asking")
        parser.add_argument(
            "--despite",
            action="append",
            default=[],
            choices=sorted(DOUBTS),
            help="override what a wrong clock can be blamed for; needs --by",
        )
        parser.add_argument("--by", metavar="NAME", help="the administrator who decides")
        parser.add_argument("--data-dir", help="folder of database, films, backups and logs")

    def handle(self, *args: Any, **options: Any) -> None:
        startup.prepare_data_directory()
        startup.prepare_database()
        by = administrator(options["by"])
        if options["despite"] and not by:
            raise CannotStart(_("--despite needs --by: who decides it is written down."), USAGE)
        try:
            self._take(options["file"], by, options["despite"], options["yes"])
        except UpdateRefused as error:
            code = USAGE if error.code == "no_publisher" else REFUSED
            raise CannotStart(update_words.refusal_words(error), code, error.code) from error

    def _take(self, path: Path, by: User | None, despite: list[str], yes: bool) -> None:
        update = clinic.look_into(path, by)
        self._tell(update)
        if update.info.label == checks.model.label:
            self.stdout.write(_("This model answers here already. Nothing was changed."))
            return
        doubts = tuple(one for one in update.doubts(timezone.now()) if one.code not in despite)
        if doubts:
            raise UpdateRefused("doubts_open", doubts=doubts)
        if not yes:
            ask(_("Install it? Type “yes”: "))
        release = clinic.switch(clinic.prepare(path, by), by, despite)
        self.stdout.write(
            _("The model %(model)s answers from the next film on. The one before stays.")
            % {"model": release.label}
        )

    def _tell(self, update: Update) -> None:
        words = {
            "new": update.info.label,
            "date": date_format(update.info.published, "DATE_FORMAT"),
            "size": f"{update.size / 1024**2:.1f}",
            "old": checks.model.label or "–",
        }
        self.stdout.write(_("Model %(new)s of %(date)s, %(size)s MB; %(old)s answers now.") % words)
        self.stdout.write(update.info.notes)


def administrator(name: str | None) -> User | None:
    """The administrator of that name, None without one; raises CannotStart for anybody else."""
    found = User.objects.filter(username=name, is_active=True).first() if name else None
    if name and not (found and found.is_administrator):
        raise CannotStart(_("There is no administrator called “%(name)s”.") % {"name": name}, USAGE)
    return found


def ask(question: str) -> None:
    """Go on only after a “yes” at the terminal; raises CannotStart."""
    if not (sys.stdin and sys.stdin.isatty()):
        raise CannotStart(_("Nothing was changed. To do it without a question, add --yes."), USAGE)
    if input(question).strip().lower() not in {"yes", str(_("yes"))}:
        raise CannotStart(_("Nothing was changed."), REFUSED)
