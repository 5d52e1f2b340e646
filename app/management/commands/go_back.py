"""``go-back``: let the model before answer again, where no page can be had."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser
from django.utils.translation import gettext as _

from app import checks, startup, update_words
from app.management.commands.import_update import REFUSED, administrator, ask
from app.stop import CannotStart
from app.updates import clinic
from app.updates.install import release_before
from app.updates.refused import UpdateRefused


class Command(BaseCommand):
    help = (
        "Let the model answer again that did before the last switch. Exits 0 when it does, 1 when "
        "there is none or it was declined, 2 when nothing could be tried."
    )
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--yes", action="store_true", help="go back without asking")
        parser.add_argument("--by", metavar="NAME", help="the administrator who decides")
        parser.add_argument("--data-dir", help="folder of database, films, backups and logs")

    def handle(self, *args: Any, **options: Any) -> None:
        startup.prepare_data_directory()
        startup.prepare_database()
        by = administrator(options["by"])
        before = release_before(settings.DATA_DIR)
        if before and not options["yes"]:
            words = {"now": checks.model.label or "–", "before": before.label}
            self.stdout.write(_("%(now)s answers now, %(before)s did before.") % words)
            ask(_("Go back to it? Type “yes”: "))
        try:
            release = clinic.go_back(by)
        except UpdateRefused as error:
            raise CannotStart(update_words.refusal_words(error), REFUSED, error.code) from error
        self.stdout.write(
            _("The model %(model)s answers from the next film on. The one before stays.")
            % {"model": release.label}
        )
