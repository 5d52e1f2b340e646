"""``export-readings --out FILE``: what the clinic has learnt, for the publisher, on a stick."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from app import contributions, startup
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
            raise CannotStart(_refusal(error), code, error.code) from error
        self.stdout.write(_in_short(made))
        if options["summary"]:
            _write_summary(options["summary"], made)


def _refusal(error: NotExported) -> str:
    words = {
        "no_publisher": _("This program has no publisher to send to. Nothing leaves."),
        "publisher_damaged": _(
            "The publisher's key in this program is damaged. Install the program again."
        ),
        "key_damaged": _(
            "The clinic's own key, contributions.key in the data folder, is damaged. Put it back "
            "from a backup. Nothing leaves."
        ),
        "exists": _("There is a file of that name already. Choose another name."),
        "nothing_new": _(
            "There is nothing new to send: no film that was read and whose patient agreed."
        ),
        "cannot_write": _(
            "The file could not be written: the stick is full, gone or write-protected. Nothing "
            "left."
        ),
    }
    return " ".join(filter(None, [words[error.code], _held_back(error.held_back)]))


def _in_short(made: Contribution) -> str:
    films = len(made.records)
    words = ngettext(
        "%(films)s film, encrypted: only the publisher can open the file.",
        "%(films)s films, encrypted: only the publisher can open the file.",
        films,
    ) % {"films": films}
    return " ".join(filter(None, [words, _held_back(made.held_back)]))


def _held_back(films: int) -> str:
    if not films:
        return ""
    return ngettext(
        "%(films)s film stays here: text may be left in it.",
        "%(films)s films stay here: text may be left in them.",
        films,
    ) % {"films": films}


def _summary(made: Contribution) -> Iterator[str]:
    counts, reasons = made.counts(), made.by_reason()
    yield _("What leaves the clinic")
    yield _("Films: %(films)s, of %(studies)s studies and %(patients)s patients.") % counts
    yield _("Reader and computer disagree: %(number)s") % {"number": reasons["disagreement"]}
    yield _("The computer could not say: %(number)s") % {"number": reasons["cannot_say"]}
    yield _("Close to the threshold: %(number)s") % {"number": reasons["near_threshold"]}
    yield _("All others: %(number)s") % {"number": reasons["other"]}
    yield _("Films that stay because text may be left in them: %(number)s") % {
        "number": made.held_back
    }
    yield _("Films that could not be read: %(number)s") % {"number": made.unreadable}
    yield _(
        "No name, number, note, file name, day or original file leaves. A chest film itself can "
        "still be recognised by somebody who has another film of the same person."
    )
    yield _("One line for each film, exactly as it leaves beside its picture:")
    yield from (json.dumps(row) for row in made.records)


def _write_summary(path: Path, made: Contribution) -> None:
    try:
        write_durably(path.absolute(), ("\n".join(_summary(made)) + "\n").encode())
    except OSError as error:
        raise CannotStart(
            _("The contribution was written, but its summary was not: %(path)s cannot be written.")
            % {"path": path},
            REFUSED,
        ) from error
