"""What is said of the watched folder, and of films on a disc or stick."""

from __future__ import annotations

from collections.abc import Mapping

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from app import messages

#: Why a folder cannot be chosen.
CHOICE: dict[str, Promise] = {
    "not_whole": _("Write the whole path of the folder, from its drive on."),
    "no_folder": _("This is not a folder."),
    "unavailable": _(
        "This folder cannot be reached. Is the path written correctly? If the folder is on another "
        "computer: is that computer switched on?"
    ),
    "own_folder": _(
        "The program keeps its own data in this folder or in one inside it. Choose another folder."
    ),
    "cannot_move": _(
        "The program may not move files in this folder. Whoever looks after this computer can give "
        "it the right to change files there."
    ),
}

#: Why nothing of the folder comes in now.
PROBLEMS: dict[str, Promise] = {
    "unavailable": _(
        "The folder cannot be reached now. The program tries again by itself. If the folder is on "
        "another computer: is that computer switched on, and is the network there?"
    ),
    "cannot_move": _(
        "The program may not move files in this folder, so it takes no film from it. Whoever looks "
        "after this computer can give it the right to change files there."
    ),
    "disk_full": _(
        "The disk of this computer is full. The films stay in the folder and come in as soon as "
        "there is room."
    ),
    "cannot_store": _(
        "The program cannot write to its own disk. The films stay in the folder. Tell whoever "
        "looks after this computer."
    ),
}

#: Why a file stays in the folder.
TROUBLES: dict[str, Promise] = {
    "cannot_be_read": _("The program may not read this file, or its disk does not give it."),
    "cannot_be_moved": _("The program may not move this file."),
    "folder_closed": _("The program may not look into this folder."),
    "out_of_memory": _("This computer has too little free memory for this file now."),
}

ENDS_THE_PROGRAM = _(
    "The program has ended several times while it looked at this file. Export the film again, as "
    "JPEG or PNG if that can be chosen."
)


def why_failed(code: str, details: Mapping[str, str]) -> str:
    """Why a file was put into the folder of what failed."""
    return str(ENDS_THE_PROGRAM) if code == "ends_the_program" else messages.sentence(code, details)


#: How a taking-in from a disc or stick has ended.
TAKING: dict[str, Promise] = {
    "done": _("All of it was looked at. The disc or stick can be taken out."),
    "stopped": _("It was stopped. What was taken in until then stays."),
    "gone": _(
        "The disc or stick is not there any more. What was taken in until then is safe. Put it in "
        "again and take in the rest: films that are here already are not taken twice."
    ),
    "full": _(
        "The disk of this computer is full. What was taken in until then is safe. Free some space, "
        "then take in the rest."
    ),
    "failed": _(
        "The program could not go on. What was taken in until then is safe. Try again; if that "
        "does not help, tell whoever looks after this computer."
    ),
}
