"""Every sentence about a model update, by stable code: what happened, and what to do next."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping

from django.utils.formats import date_format
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from app.updates.refused import UpdateRefused
from app.updates.verify import Doubt

Sentences = dict[str, Promise]

_COPY_AGAIN = _(
    "The file is damaged (%(member)s). Copy it to the stick again, and take the stick out only "
    "when the computer says so."
)
_NOT_OURS = _(
    "This file has something in it that no update has (%(member)s). It may be meant to do harm. "
    "Do not use it, and tell whoever gave you the stick."
)

REFUSALS: Sentences = {
    # of the file and the stick
    "file_missing": _("The file is not there any more. Is the stick still plugged in?"),
    "not_a_file": _("This is a folder. Choose the update file itself: it ends in .clinicupdate."),
    "not_allowed": _(
        "The computer does not let the program read this file. Copy it to the desktop, "
        "then take the copy."
    ),
    "stick_gone": _(
        "The stick gave up or was pulled out while it was being read. Plug it in and try again: "
        "the program goes on where it stopped."
    ),
    "not_an_update": _(
        "This is not an update for this program. Choose the file that ends in .clinicupdate."
    ),
    "cut_short": _(
        "The file is not whole: its end is missing. Copy it to the stick again, and take the stick "
        "out only when the computer says so."
    ),
    "damaged": _COPY_AGAIN,
    "too_large": _("The file is far larger than an update ever is. It was not opened."),
    "bomb": _(
        "The file would unpack to far more than an update holds. It may be meant to do harm. "
        "Do not use it, and tell whoever gave you the stick."
    ),
    "odd_name": _NOT_OURS,
    "duplicate_name": _NOT_OURS,
    "link": _NOT_OURS,
    "encrypted": _NOT_OURS,
    "odd_compression": _NOT_OURS,
    "stowaway": _NOT_OURS,
    "not_data": _NOT_OURS,
    "incomplete": _(
        "A part of the update is missing (%(member)s). Ask for the file again where it came from."
    ),
    # of whose it is
    "no_publisher": _(
        "This program takes no updates: it was built without the key of a publisher. "
        "Ask whoever gave you the program for one that does."
    ),
    "publisher_damaged": _(
        "The publisher's key that came with this program is damaged, so no update can be checked. "
        "Install the program again; films and answers stay."
    ),
    "unknown_key": _(
        "This update was not signed by the publisher of this program. It is not taken, "
        "and nobody can overrule that. Tell whoever gave you the stick."
    ),
    "withdrawn_key": _(
        "This update was signed with a key that its publisher has withdrawn, perhaps because it "
        "was stolen. It is not taken. Ask the publisher for a newer update."
    ),
    "too_few_signatures": _(
        "This update carries %(signed)s of the %(needed)s signatures that it needs. It is not "
        "taken. Ask the publisher for a complete one."
    ),
    "changed_after_signing": _(
        "This update was changed after its publisher had signed it (%(member)s). It is not taken, "
        "and nobody can overrule that. Ask for the file again where it came from."
    ),
    "root_not_signed": _(
        "This update brings new keys that the publisher's old keys do not vouch for. It is not "
        "taken, and nobody can overrule that. Tell whoever gave you the stick."
    ),
    "root_out_of_order": _(
        "The publisher's keys in this update are not in their order. It is not taken. "
        "Ask for the file again where it came from."
    ),
    "older_than_known": _(
        "This update is older than one that was installed here. It is not taken. "
        "To use the model before, go back to it on this computer instead."
    ),
    "mixed": _(
        "Parts of this update do not belong together (%(member)s). It is not taken. "
        "Ask for the file again where it came from."
    ),
    "content_changed": _(
        "A part of this update is not the one its publisher signed (%(member)s). It is not taken. "
        "Ask for the file again where it came from."
    ),
    "endless": _(
        "A part of this update is larger than its publisher signed it for (%(member)s). "
        "It is not taken. Ask for the file again where it came from."
    ),
    "metadata_damaged": _(
        "A part of this update cannot be understood (%(member)s). It is not taken. "
        "Ask for the file again where it came from."
    ),
    "info_damaged": _(
        "The update does not say properly what it is. It is not taken. Tell its publisher."
    ),
    "info_format_unknown": _(
        "This update is made for a newer version of this program. Install that first."
    ),
    "program_too_old": _(
        "This update needs version %(needed)s of this program or a later one; this is version "
        "%(program)s. Install the newer program first."
    ),
    # of putting it in place
    "busy": _("An update is being installed at this moment. Wait until it is done."),
    "disk_full": _(
        "There is not enough room on the disk for the update. Delete what is not needed from the "
        "computer, then try again. The model keeps working."
    ),
    "cannot_write": _(
        "The update cannot be written to the disk. Check that the disk is not write-protected, "
        "then try again. The model keeps working."
    ),
    "release_unusable": _(
        "The model in this update cannot be used by this program (%(reason)s). It is not taken. "
        "Tell its publisher."
    ),
    "release_differs": _(
        "The model in this update is not the one that the update says it is. It is not taken. "
        "Tell its publisher."
    ),
    "self_test_failed": _(
        "The new model does not give the right answers on this computer (%(films)s). "
        "It is not taken, and the old one keeps working. Tell its publisher."
    ),
    "version_reused": _(
        "Another model with the very same name and version (%(label)s) is on this computer. "
        "The update is not taken: findings could no longer tell the two apart. Tell its publisher."
    ),
    "nothing_to_go_back_to": _("There is no model before this one to go back to."),
    "cannot_go_back": _(
        "The model before this one cannot be used any more (%(reason)s). "
        "The present one keeps working."
    ),
}

DOUBTS: Sentences = {
    "expired": _(
        "This update was meant to be installed before %(until)s, and this computer's clock says "
        "%(today)s. Either the clock is wrong: then set it right and try again. Or the update is "
        "old: then ask whether there is a newer one. An administrator may install it all the "
        "same; who did is written down."
    ),
    "clock_before_build": _(
        "This computer's clock says %(today)s, but this program was made on %(built)s: the clock "
        "is wrong. Set it right and try again. An administrator may install the update all the "
        "same; who did is written down."
    ),
}


def refusal_words(error: UpdateRefused) -> str:
    """Why an update is not taken, and what to do."""
    if error.code == "doubts_open":
        doubts = error.details["doubts"]
        assert isinstance(doubts, tuple)
        return " ".join(doubt_words(doubt) for doubt in doubts)
    return str(REFUSALS[error.code]) % _shown(error.details)


def doubt_words(doubt: Doubt) -> str:
    """What makes an update doubtful, and what to do."""
    return str(DOUBTS[doubt.code]) % _shown(doubt.details)


def _shown(details: Mapping[str, object]) -> dict[str, str]:
    shown = {"member": ""}
    for name, value in details.items():
        if isinstance(value, dt.date):
            shown[name] = date_format(value, "DATE_FORMAT")
        else:
            shown[name] = str(value)
    return shown
