"""``move-to``: bring all that a laptop holds to a database server."""

from __future__ import annotations

import sys
import time
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser
from django.db import DatabaseError
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from app import database, films, options, startup
from app.instance_lock import AlreadyRunning, InstanceLock
from app.move import CannotMove, Watch, move
from app.stop import CannotStart

FAILED, USAGE = 1, 2
SENTENCES: dict[str, Promise] = {
    "worker_runs": gettext_lazy(
        "A worker is at work. Stop it, wait a minute, then start the move again."
    ),
    "not_empty": gettext_lazy(
        "That database is not empty. Name a new one. Nothing was changed in it."
    ),
    "film_differs": gettext_lazy(
        "The film %(film)s did not arrive as it is. Nothing here was changed. Start the move again."
    ),
    "table_differs": gettext_lazy(
        "The table %(table)s did not arrive as it is. Nothing here was changed. Ask for help."
    ),
}


class Command(BaseCommand):
    help = (
        "Bring all to an empty PostgreSQL database, and the films to a folder or bucket that "
        "machines share. The program must not be running. What is here stays as it is. Where the "
        "move broke off, start it again."
    )
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("database", metavar="DATABASE_URL",
                            help="postgresql://USER:PASSWORD@HOST:PORT/DATABASE")  # fmt: skip
        parser.add_argument(
            "--films",
            metavar="STORAGE",
            help="a folder's whole path or s3://BUCKET/PREFIX; without it they stay where they are",
        )
        parser.add_argument("--data-dir", help="folder of database and films")

    def handle(self, *args: Any, **given: Any) -> None:
        target = options.database_at(given["database"], "DATABASE_URL")
        storage = options.storage_at(given["films"], "--films") if given["films"] else None
        if database.is_on_server() or not database.database_file().exists():
            raise CannotStart(_("There is nothing to move in this folder."), USAGE)
        startup.prepare_data_directory()
        try:
            with InstanceLock(settings.DATA_DIR):
                missing = move(target, films.place_at(storage) if storage else None, self._watch())
        except AlreadyRunning as error:
            raise CannotStart(
                _("The program is running. Quit it, then start the move again."), USAGE
            ) from error
        except CannotMove as fault:
            sentence = str(SENTENCES[fault.code]) % fault.details
            raise CannotStart(sentence, FAILED, fault.code) from fault
        except DatabaseError as error:
            raise CannotStart(
                _("The database cannot be written to: %(kind)s. Nothing here was changed.")
                % {"kind": type(error).__name__},
                FAILED,
            ) from error
        except films.Unreachable as error:
            raise CannotStart(
                _("The films' new place cannot be reached. Nothing here was changed."), FAILED
            ) from error
        self.stdout.write(_("Everything arrived as it is. Set CLINIC_DATABASE_URL to use it."))
        if missing:
            self.stdout.write(
                _("Films that are not here, and did not go along: %(number)s.")
                % {"number": len(missing)}
            )

    def _watch(self) -> Watch:
        last = {"": 0.0}

        def say(what: str, done: int, of: int) -> None:
            if done == of or time.monotonic() - last.get(what, 0.0) > 1.0:
                last[what] = time.monotonic()
                print(f"{what}: {done}/{of}", file=sys.stderr)

        return say
