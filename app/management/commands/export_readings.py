"""``export-readings --out FILE``: what the clinic has learnt, for the publisher, on a stick."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.utils.translation import gettext as _

from app import contribution_words, contributions, startup
from app.contributions import Contribution, NotExported
from app.cxr.durable import write_durably
from app.stop import CannotStart

REFUSED, USAGE = 1, 2


class Command(BaseCommand):
    help = (
        "Write films that people have read, without identity and encrypted to the publisher of "
        "the model, to one file. Only studies whose patients agreed. Exits 0 when the file is "
        "there, 1 when it is not, 2 when nothing could be tried."
    )
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--out", type=Path, required=True, help="the file, ….clinicreadings")
        parser.add_argument("--limit", type=int, metavar="N", help="no more than N films")
        parser.add_argument("--all", action="store_true", help="also what left before")
        parser.add_argument("--summary", type=Path, metavar="FILE", help="write what leaves here")
        parser.add_argument("--data-dir", help="folder of database, films, backups and logs")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["limit"] is not None and options["limit"] < 1:
            raise CannotStart(_("--limit needs a number of 1 or more."), USAGE)
        startup.prepare_data_directory()
        startup.prepare_database()
        try:
            made = contributions.export(
                options["out"], limit=options["limit"], everything=options["all"]
            )
        except NotExported as error:
            code = USAGE if error.code in ("no_publisher", "publisher_damaged") else REFUSED
            raise CannotStart(contribution_words.refusal_words(error), code, error.code) from error
        self.stdout.write(contribution_words.in_short(made))
        if options["summary"]:
            _write_summary(options["summary"], made)


def _write_summary(path: Path, made: Contribution) -> None:
    try:
        write_durably(
            path.absolute(), ("\n".join(contribution_words.summary(made)) + "\n").encode()
        )
    except OSError as error:
        raise CannotStart(
            _("The contribution was written, but its summary was not: %(path)s cannot be written.")
            % {"path": path},
            REFUSED,
        ) from error
