"""``backup``: copy the database, and everything to the chosen sticks or to a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser
from django.utils.translation import gettext as _

from app import backup_words, database, startup
from app.backup import keeper, local, note
from app.backup.faults import BackupFault
from app.backup.keys import SHORTEST_PASSPHRASE
from app.backup.store import Store
from app.backup.write import unwatched
from app.management.commands.create_user import read_password
from app.stop import CannotStart

FAILED, USAGE = 1, 2


class Command(BaseCommand):
    help = (
        "Copy the database beside itself, and everything (database, films, models, keys) encrypted "
        "to the chosen sticks that are plugged in, or to a folder. The server may be running. "
        "Exits 0 when all was written, 1 when something was not, 2 when nothing could be tried."
    )
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--to",
            type=Path,
            metavar="DIR",
            help="write everything there; where backups were never set up, their passphrase is "
            "asked for, or read from the first line of standard input",
        )
        parser.add_argument("--data-dir", help="folder of database, films, backups and logs")

    def handle(self, *args: Any, **options: Any) -> None:
        startup.prepare_data_directory()
        if not database.database_file().exists():
            raise CannotStart(_("There is nothing to back up yet."), USAGE)
        try:
            if options["to"]:
                self._to_folder(options["to"])
            else:
                self._as_every_day()
        except BackupFault as fault:
            raise CannotStart(backup_words.fault_words(fault), FAILED, fault.code) from fault

    def _as_every_day(self) -> None:
        try:
            local.make()
        except (database.DamagedDatabase, database.Error, OSError) as error:
            raise BackupFault("cannot_copy_database") from error
        self.stdout.write(_("The database was copied beside itself."))
        known = note.read(settings.DATA_DIR)
        here = keeper.plugged_in(known) if known.is_set_up else []
        for drive, store in here:
            self._write(store, drive)
        if not here:
            self.stdout.write(_("No stick for backups is plugged in."))

    def _to_folder(self, folder: Path) -> None:
        if not note.read(settings.DATA_DIR).is_set_up:
            passphrase = read_password()
            if len(passphrase.strip()) < SHORTEST_PASSPHRASE:
                raise CannotStart(
                    _("The passphrase needs at least %(number)s characters.")
                    % {"number": SHORTEST_PASSPHRASE},
                    USAGE,
                )
            self.stdout.write(_("Write this recovery line down. It opens every backup:"))
            self.stdout.write(note.set_up(settings.DATA_DIR, passphrase))
        known = note.read(settings.DATA_DIR)
        self._write(Store.begin(folder, known, backup_words.readme()), folder)

    def _write(self, store: Store, place: Path) -> None:
        made = keeper.back_up_to(store, unwatched)
        self.stdout.write(
            _("Backed up to %(place)s: %(counts)s.")
            % {"place": place, "counts": backup_words.counts_words(made.counts)}
        )
        if made.missing:
            raise CannotStart(backup_words.missing_words(len(made.missing)), FAILED)
