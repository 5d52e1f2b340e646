"""``restore SOURCE --to DATA_DIR``: the way back, where there is no page to be had."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.utils.translation import gettext as _

from app import backup_words
from app.backup import restore, sources
from app.backup.faults import BackupFault
from app.backup.restore import Staged
from app.instance_lock import LOCK, AlreadyRunning, InstanceLock
from app.management.commands.create_user import read_password
from app.stop import CannotStart

FAILED, USAGE = 1, 2


#: What a try that came to nothing leaves.
OURS = {LOCK, "tmp"}


def _is_empty(target: Path) -> bool:
    return not target.exists() or all(path.name in OURS for path in target.iterdir())


class Command(BaseCommand):
    help = (
        "Restore a data folder from a backup: the folder or stick it is on (then its newest), one "
        "list of its “sets”, a .clinicbackup file, or a copy of the database. Everything is "
        "verified before anything is put in place. The passphrase or the recovery line is asked "
        "for, or read from the first line of standard input. Exits 0 when all is restored, 1 when "
        "nothing is or a film is missing, 2 when nothing could be tried."
    )
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("source", type=Path, help="the backup")
        parser.add_argument(
            "--to", type=Path, required=True, metavar="DATA_DIR", help="the folder to restore"
        )
        parser.add_argument(
            "--replace",
            action="store_true",
            help="where the folder is not empty, move what is in it aside; nothing is deleted",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        target: Path = options["to"].expanduser().absolute()
        try:
            staged = self._restore(options["source"], target, options["replace"])
        except BackupFault as fault:
            code = USAGE if fault.code in ("not_there", "not_a_backup", "not_empty") else FAILED
            raise CannotStart(backup_words.fault_words(fault), code, fault.code) from fault
        self._tell(staged, target)

    def _restore(self, source: Path, target: Path, may_replace: bool) -> Staged:
        if not source.exists():
            raise BackupFault("not_there")
        if not may_replace and not _is_empty(target):
            raise BackupFault("not_empty")
        # A copy of the database is not encrypted apart from the database itself
        secret = "" if source.suffix == ".sqlite3" else read_password(_("Passphrase"))
        target.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            with InstanceLock(target), sources.opened(source, secret, target / "tmp") as opened:
                restore.apply(target)  # what a power cut left half done
                staged = restore.stage(opened, target)
                restore.confirm(target)
                restore.apply(target)
        except AlreadyRunning as error:
            raise BackupFault("running") from error
        return staged

    def _tell(self, staged: Staged, target: Path) -> None:
        self.stdout.write(
            _("Restored and verified, as of %(moment)s: %(counts)s.")
            % {
                "moment": backup_words.moment_words(staged.moment),
                "counts": backup_words.counts_words(staged.counts),
            }
        )
        if aside := sorted(target.glob(restore.ASIDE[staged.kind].format("*"))):
            self.stdout.write(_("What was there before is in %(folder)s.") % {"folder": aside[-1]})
        if not staged.has_films:
            self.stdout.write(_("Films are not in this backup: those that are here stay."))
        if staged.damaged:
            raise CannotStart(backup_words.damaged_words(len(staged.damaged)), FAILED)
