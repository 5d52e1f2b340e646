"""What is said of backups: what came of one, and why it came to nothing."""

from __future__ import annotations

from datetime import datetime

from django.utils import timezone
from django.utils.formats import date_format
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from app.backup.faults import BackupFault

FAULTS: dict[str, Promise] = {
    "not_set_up": gettext_lazy("Backups are not set up yet: they have no passphrase."),
    "on_server": gettext_lazy(
        "The database is on a server, and not on this computer. Whoever runs the server backs it "
        "up."
    ),
    "busy": gettext_lazy("A backup is being made just now. Wait until it is finished."),
    "no_room_here": gettext_lazy(
        "There is too little room on the disk of this computer. Delete what is not needed, then "
        "try again."
    ),
    "no_room_there": gettext_lazy(
        "The stick is full. Use a larger one, or delete what else is on it. Backups that are on it "
        "are not touched."
    ),
    "not_there": gettext_lazy("The backup is not there. Is the stick still plugged in?"),
    "cannot_write": gettext_lazy(
        "The stick was pulled out or cannot be written to. Backups that are on it are not touched. "
        "Plug it in again: what is missing is made up."
    ),
    "cannot_copy_database": gettext_lazy(
        "The database could not be copied. Quit the program and start it again; if that does not "
        "help, tell whoever looks after this computer."
    ),
    "no_backup": gettext_lazy("There is no finished backup here."),
    "not_a_backup": gettext_lazy("This is no backup of this program."),
    "newer": gettext_lazy(
        "This backup was made by a newer version of the program. Install that version first."
    ),
    "wrong_key": gettext_lazy(
        "This passphrase does not open the backup. Try again, or type the recovery line that was "
        "written down."
    ),
    "damaged": gettext_lazy("This backup is damaged and cannot be used. Choose an earlier one."),
    "not_empty": gettext_lazy(
        "The folder is not empty. With --replace, what is in it is moved aside first; nothing is "
        "deleted."
    ),
    "running": gettext_lazy("The program is running with these data. Quit it first."),
    "cancelled": gettext_lazy("It was stopped. Nothing was changed."),
    "failed": gettext_lazy(
        "The program itself failed at this. Try again, or tell whoever looks after the program."
    ),
}


def fault_words(fault: BackupFault | str) -> str:
    """Why it came to nothing, and what to do."""
    return str(FAULTS[fault.code if isinstance(fault, BackupFault) else fault])


def readme() -> str:
    """What a stick says to whoever finds it, without naming the clinic."""
    return _(
        "On this stick are encrypted backups of a clinic. Nobody can read them without its key. "
        "If you have found the stick, please give it to the nearest health centre. "
        "To restore: install the program, plug the stick in, and open the page “Backups”."
    )


def moment_words(at: datetime) -> str:
    """A day and time as the clinic's calendar has it."""
    return date_format(timezone.localtime(at), "DATETIME_FORMAT")


def counts_words(counts: dict[str, int]) -> str:
    """How much is in a backup."""
    studies = ngettext("%(number)s study", "%(number)s studies", counts["studies"])
    films = ngettext("%(number)s film", "%(number)s films", counts["films"])
    return ", ".join(
        words % {"number": counts[name]} for words, name in ((studies, "studies"), (films, "films"))
    )


def missing_words(films: int) -> str:
    """How many films a backup lacks; empty where it lacks none."""
    if not films:
        return ""
    return ngettext(
        "%(films)s film is not in it: its file on this computer is damaged or gone.",
        "%(films)s films are not in it: their files on this computer are damaged or gone.",
        films,
    ) % {"films": films}


def damaged_words(films: int) -> str:
    """How many films could not be restored; empty where all could."""
    if not films:
        return ""
    return ngettext(
        "%(films)s film is damaged or missing in the backup: its study comes back without it.",
        "%(films)s films are damaged or missing in the backup: their studies come back without "
        "them.",
        films,
    ) % {"films": films}


def decay_words(files: int) -> str:
    """How much of a stick has decayed."""
    return ngettext(
        "%(files)s file on this stick has decayed. It is written again with the next backup. "
        "Use another stick soon: this one is wearing out.",
        "%(files)s files on this stick have decayed. They are written again with the next backup. "
        "Use another stick soon: this one is wearing out.",
        files,
    ) % {"files": files}
