"""What is said of a contribution: why nothing leaves, and what does."""

from __future__ import annotations

import json
from collections.abc import Iterator

from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from app.contributions import Contribution, NotExported

REFUSALS: dict[str, Promise] = {
    "no_publisher": gettext_lazy("This program has no publisher to send to. Nothing leaves."),
    "publisher_damaged": gettext_lazy(
        "The publisher's key in this program is damaged. Install the program again."
    ),
    "key_damaged": gettext_lazy(
        "The clinic's own key, contributions.key in the data folder, is damaged. Put it back "
        "from a backup. Nothing leaves."
    ),
    "exists": gettext_lazy("There is a file of that name already. Choose another name."),
    "nothing_new": gettext_lazy(
        "There is nothing new to send: no film that was read and whose patient agreed."
    ),
    "cannot_prepare": gettext_lazy(
        "The file could not be made: the disk of this computer is full or write-protected. "
        "Nothing left."
    ),
    "consent_withdrawn": gettext_lazy(
        "A patient in this file does not agree any more, or was deleted. Nothing left. "
        "Prepare the file again."
    ),
    "cancelled": gettext_lazy("It was stopped. Nothing left."),
    "cannot_write": gettext_lazy(
        "The file could not be written: the stick is full, gone or write-protected. Nothing left."
    ),
    "failed": gettext_lazy(
        "The program itself failed at this. Try again, or tell whoever looks after the program."
    ),
}


def refusal_words(error: NotExported) -> str:
    """Why nothing leaves, and what to do."""
    return " ".join(filter(None, [str(REFUSALS[error.code]), held_back_words(error.held_back)]))


def in_short(made: Contribution) -> str:
    """How many films a file holds, and how many stay."""
    films = len(made.records)
    words = ngettext(
        "%(films)s film, encrypted: only the publisher can open the file.",
        "%(films)s films, encrypted: only the publisher can open the file.",
        films,
    ) % {"films": films}
    return " ".join(filter(None, [words, held_back_words(made.held_back)]))


def held_back_words(films: int) -> str:
    """How many films stay since text may be left in them; empty where there are none."""
    if not films:
        return ""
    return ngettext(
        "%(films)s film stays here: text may be left in it.",
        "%(films)s films stay here: text may be left in them.",
        films,
    ) % {"films": films}


def summary(made: Contribution) -> Iterator[str]:
    """What leaves, line by line: counts, then the record of every film as it leaves."""
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
