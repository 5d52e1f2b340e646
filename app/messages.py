"""Every sentence the program says about a film, by stable code.

The pure core and the intake return codes and details; people get sentences, marked for translation
here and nowhere else. Each says what happened and what to do next, in words that can be read out
on the phone.
"""

from __future__ import annotations

from collections.abc import Mapping

from django.utils.formats import number_format
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from app.cxr.release import Release

Sentences = dict[str, Promise]

ANSWERS: Sentences = {
    "likely": _("Likely"),
    "unlikely": _("Unlikely"),
    "cannot_say": _("Cannot say"),
    "refused": _("Not usable"),
    "unreadable": _("Not readable"),
    "waiting": _("Waiting"),
    "analysing": _("Being read"),
    "failed": _("Not analysed"),
    "cancelled": _("Cancelled"),
    "hidden": _("Read it first"),
}

HEADLINES: Sentences = {
    "likely": _("Signs of pneumonia: likely"),
    "unlikely": _("Signs of pneumonia: unlikely"),
    "cannot_say": _("Signs of pneumonia: cannot say"),
    "refused": _("This picture cannot be used"),
    "unreadable": _("This file cannot be read"),
    "waiting": _("Waiting for its turn"),
    "analysing": _("The film is being read"),
    "failed": _("This film was not analysed"),
    "cancelled": _("The analysis was cancelled"),
    "hidden": _("Read the film yourself first"),
}

NEXT_STEPS: Sentences = {
    "likely": _("Examine the patient now and follow your treatment guideline for pneumonia."),
    "unlikely": _(
        "The computer finds no clear signs. That does not exclude pneumonia: "
        "decide by what you find in the patient."
    ),
    "cannot_say": _("Decide by the clinical signs, and have a person read the film if you can."),
    "refused": _("Until there is a usable film, decide by the clinical signs."),
    "unreadable": _(
        "The file is kept as it came. Until it can be read, decide by the clinical signs."
    ),
    "waiting": _("The film is stored safely. The answer appears here by itself."),
    "analysing": _("The film is stored safely. The answer appears here by itself."),
    "failed": _("The film is stored and nothing is lost. Decide by the clinical signs."),
    "cancelled": _("The film is stored. It can be analysed whenever somebody asks for it."),
    "hidden": _("The computer's answer is shown once you have written down your own reading."),
}

#: What the record of who did what says, by the code of the action.
ACTIONS: Sentences = {
    "set_up": _("set the program up"),
    "logged_in": _("logged in"),
    "logged_out": _("logged out"),
    "log_in_failed": _("a log-in failed"),
    "password_changed": _("changed a password"),
    "password_recovered": _("an administrator's password was set anew with the recovery code"),
    "recovery_code_made": _("made a recovery code"),
    "recovery_code_kept": _("said that the recovery code is written down"),
    "recovery_failed": _("a recovery code was wrong"),
    "pin_set": _("set a PIN"),
    "pin_removed": _("removed a PIN"),
    "unlock_failed": _("a locked page was not unlocked"),
    "log_ins_ended": _("ended log-ins"),
    "user_entered": _("entered a person"),
    "user_changed": _("changed a person"),
    "settings_changed": _("changed the settings"),
    "study_viewed": _("looked at a study"),
    "film_viewed": _("looked at a film"),
    "film_received": _("put a film in"),
    "study_changed": _("changed a study"),
    "study_deleted": _("deleted a study"),
    "header_disagrees": _("a film's header speaks of somebody else"),
    "patient_entered": _("entered a patient"),
    "patient_learnt": _("learnt more of a patient"),
    "patient_deleted": _("deleted a patient"),
    "signs_recorded": _("entered clinical signs"),
    "reading_recorded": _("wrote down a reading"),
    "patient_viewed": _("looked at a patient"),
    "patient_changed": _("changed a patient"),
    "patients_merged": _("merged two patients"),
    "report_made": _("made a report"),
    "analysis_cancelled": _("cancelled an analysis"),
    "analysis_asked_for": _("asked for an analysis"),
    "answer_fetched": _("another program fetched an answer"),
    "token_issued": _("let another program in"),
    "token_revoked": _("ended another program's token"),
    "diagnostics_exported": _("copied the diagnostics"),
    "audit_exported": _("saved the whole record of who did what"),
    "record_anchored": _("began anew to note where the record ends"),
    "lan_opened": _("opened the door for other devices"),
    "lan_closed": _("closed the door for other devices"),
    "dicom_changed": _("changed how X-ray units send films"),
    "peer_entered": _("entered a machine"),
    "peer_changed": _("changed a machine"),
    "peer_removed": _("removed a machine"),
    "phone_invited": _("made a code for a phone"),
    "phone_joined": _("joined with a phone"),
    "join_failed": _("a code for a phone did not work"),
    "operating_point_applied": _("let a threshold of the clinic's own answer"),
    "operating_point_withdrawn": _("gave a threshold back to the model"),
    "operating_points_cleared": _("removed unusable thresholds"),
    "review_exported": _("copied the table of “Is it right here?”"),
    "results_queued": _("sent results to other systems"),
    "results_sent": _("results arrived at another system"),
    "results_dropped": _("kept results from being sent"),
    "fhir_exported": _("downloaded a study as FHIR"),
    "films_exported": _("downloaded the table of films"),
    "month_exported": _("downloaded the counts of a month"),
    "readings_exported": _("wrote readings to a file for the publisher"),
    "backups_set_up": _("chose a passphrase for backups"),
    "backup_stick_chosen": _("chose a stick for backups"),
    "backup_stick_ended": _("ended the use of a stick for backups"),
    "backup_downloaded": _("saved a backup without films"),
    "restore_prepared": _("had a backup fetched and verified"),
    "restore_confirmed": _("let a backup be restored at the next start"),
    "restore_discarded": _("kept a backup from being restored"),
    "data_restored": _("a backup was restored"),
    "database_repaired": _("the damaged database was repaired"),
    "encryption_prepared": _("chose a passphrase for encryption"),
    "encryption_withdrawn": _("did not have the data encrypted after all"),
    "encryption_done": _("the data were encrypted"),
    "encryption_passphrase_changed": _("changed the passphrase of the data"),
    "encryption_recovery_made": _("made a new recovery key of the data"),
    "retention_applied": _("deleted studies that were old enough"),
    "repair_read": _("read what was repaired or restored"),
    "update_verified": _("had a model update verified"),
    "update_refused": _("a model update was refused"),
    "update_override": _("took a model update in spite of the clock"),
    "update_installed": _("installed a model update"),
    "update_gone_back": _("went back to the model before"),
    "update_tried": _("tried a model update on this clinic's films"),
    "update_decided": _("decided to install a model update"),
    "update_discarded": _("discarded a model update"),
}

CANNOT_SAY: Sentences = {
    "near_the_threshold": _(
        "On films that it scored like this one the computer was wrong too often to give an answer."
    ),
}

REFUSALS: Sentences = {
    "not_a_frontal_chest_film": _(
        "This does not look like a chest film taken from the front or the back. "
        "Put in a frontal chest film (PA or AP)."
    ),
    "cut_off": _(
        "Part of the chest is missing on this picture. Put in the whole film, from above the "
        "collar bones to below the ribs; if the film itself is cut off, it has to be taken again."
    ),
    "not_a_radiograph": _(
        "This is not an X-ray film but a picture of another kind (%(modality)s). "
        "Put in a chest X-ray film."
    ),
    "not_a_chest_film": _(
        "The file says that it shows another part of the body (%(body_part)s). "
        "Put in a frontal chest film."
    ),
    "too_small": _(
        "The picture is too small to be judged: %(width)s × %(height)s pixels, where each side "
        "needs %(minimum)s. Put in the film in its full size, not a preview or a cut-out."
    ),
    "odd_shape": _(
        "The picture is far longer than a chest film is. Put in the whole film by itself, "
        "without anything beside it."
    ),
    "lateral_view": _(
        "This is a side view of the chest. The program reads frontal films only: "
        "put in the PA or AP film."
    ),
    "for_processing": _(
        "This is the raw image of the X-ray unit, not yet made ready to be read. "
        "On the unit, choose the finished image (“for presentation”) and send that one."
    ),
    "constant_image": _(
        "The picture is one even grey: nothing can be seen on it. "
        "Export or photograph the film again."
    ),
    "unusable_exposure": _(
        "The picture has hardly any contrast and cannot be judged. Export or photograph "
        "the film again; if the film itself is so, it has to be taken again."
    ),
    "too_dark": _(
        "The picture is much too dark to be judged. Export or photograph the film again before "
        "a brighter light; if the film itself is so, take it again with less exposure."
    ),
    "too_bright": _(
        "The picture is much too bright to be judged. Export or photograph the film again with "
        "less light; if the film itself is so, take it again with more exposure."
    ),
    "too_blurred": _(
        "The picture is too blurred to be judged. Export the film again, or photograph it with a "
        "steady hand and in focus; if the film itself is blurred, take it again while the patient "
        "holds the breath."
    ),
    "almost_empty": _(
        "There is almost nothing on the picture. Look whether the right film was chosen, "
        "and put in the whole film."
    ),
    "colour_photograph": _(
        "This is a colour photograph, not a film. To photograph a film, hold it before a bright "
        "white light and let it fill the picture."
    ),
    "page_of_text": _("This looks like a page of text, not a film. Put in the film itself."),
    "two_films": _(
        "There seem to be two films in one picture. Put in each of them as a file of its own."
    ),
}

UNREADABLE: Sentences = {
    "missing": _("The file is not there any more. Is the stick still plugged in?"),
    "not_allowed": _(
        "The computer does not let the program read this file. Copy it to the desktop, "
        "then put in the copy."
    ),
    "not_a_file": _("This is not a file. Open the folder and choose the films in it."),
    "read_failed": _(
        "The disk or stick gave up while the file was being read. Copy the film again "
        "from where it came from."
    ),
    "empty": _("The file is empty. Copy it again from where it came from."),
    "too_large": _(
        "The file is too large for this program. Export the film as one JPEG, PNG or DICOM file."
    ),
    "too_many_pixels": _(
        "The picture has more pixels than any chest film has. Export it in a smaller size."
    ),
    "too_much_memory": _(
        "Opening this picture would take more memory than the program allows itself. "
        "Export it as a grey JPEG, or in a smaller size."
    ),
    "out_of_memory": _(
        "This computer has too little free memory for this picture. Close other programs "
        "and put it in again, or export it in a smaller size."
    ),
    "not_an_image": _(
        "This file is not a picture. Choose a JPEG, PNG, TIFF, BMP, WebP or DICOM file of the film."
    ),
    "truncated": _(
        "The file is incomplete: it ends in the middle. Copy it again, "
        "and wait until copying has finished."
    ),
    "damaged": _(
        "The file is damaged and cannot be opened. Copy or export the film again "
        "from where it came from."
    ),
    "format_not_supported": _(
        "The program does not read pictures of the kind %(format)s. "
        "Export the film as JPEG, PNG or DICOM."
    ),
    "heic_not_supported": _(
        "The program does not read HEIC pictures, which some phones make. Set the phone's camera "
        "to JPEG (“most compatible”), or export this photograph as JPEG."
    ),
    "pdf_not_supported": _(
        "The program does not read PDF documents. Export the film itself as JPEG, PNG or DICOM."
    ),
    "transfer_syntax_not_supported": _(
        "The pixels of this DICOM file are packed in a way the program does not read "
        "(%(transfer_syntax)s). Export the film uncompressed, or as JPEG or PNG."
    ),
    "no_pixels": _(
        "This DICOM file holds no picture: perhaps a report, or a list of contents. "
        "Choose the file of the film itself."
    ),
}

REJECTED: Sentences = {
    "disk_full": _(
        "The disk of this computer is full: the film could not be stored. "
        "Free some space, then send it again."
    ),
    "cannot_store": _(
        "The film could not be stored: the program cannot write to its disk. Send it again; "
        "if that does not help, tell whoever looks after this computer."
    ),
    "still_being_written": _(
        "The file is still being written. Wait until copying has finished, then send it again."
    ),
    "source_vanished": _(
        "The file could not be read to its end. Is the stick still plugged in? Then send it again."
    ),
    "no_file": _("No file arrived. Choose a film and send it again."),
}

MODEL: Sentences = {
    "release_missing": _("There is no model on this computer. Install a model release."),
    "release_manifest_damaged": _(
        "The description of the model is damaged. Install the model again."
    ),
    "release_format_unknown": _(
        "The model is made for another version of this program (format %(format)s). "
        "Install the program's newest version."
    ),
    "release_file_missing": _(
        "A file of the model is missing (%(file)s). Install the model again."
    ),
    "release_file_changed": _(
        "A file of the model is not as it was delivered (%(file)s). Install the model again."
    ),
    "active_release_damaged": _(
        "The note of which model is in use is damaged. Choose the model again, or install it again."
    ),
    "model_not_loadable": _(
        "The model cannot be started on this computer. Install the model again."
    ),
    "self_test_failed": _(
        "The model does not give the answers it should on this computer, so it is not used. "
        "Install the model again, and tell whoever looks after this computer."
    ),
}

SENTENCES: Sentences = CANNOT_SAY | REFUSALS | UNREADABLE | REJECTED | MODEL

UNKNOWN_CODE = _("Something went wrong that this program has no words for (code “%(code)s”).")

ZONES: Sentences = {
    "right upper": _("right upper"),
    "right middle": _("right middle"),
    "right lower": _("right lower"),
    "left upper": _("left upper"),
    "left middle": _("left middle"),
    "left lower": _("left lower"),
}

LIMITS: tuple[Promise, ...] = (
    _("It is not a diagnosis. It says how much the film looks like those of pneumonia patients."),
    _("A clear film does not exclude pneumonia. Early disease and dehydration can leave it clear."),
    _(
        "It looks for nothing else: tuberculosis, heart failure, a tumour, fluid or air around "
        "the lung can be there whatever the answer is."
    ),
    _(
        "The map shows what the computer looked at. It is not the border of the disease, "
        "and it can point at the wrong place."
    ),
)

HIT_RATE = _(
    "On %(films)s films called likely, on which radiologists had marked an opacity, the strongest "
    "point lay in it in %(share)s. Allowing for chance, that is %(low)s to %(high)s %%."
)
ABOUT = _("about %(part)s of %(whole)s (%(hits)s of %(films)s)")
COUNTED = _("%(hits)s of %(films)s")
HIT_RATE_NOT_MEASURED = _(
    "How often the strongest point lies in an opacity was not measured for this model."
)
HIT_RATE_OF_ANOTHER_MODEL = _(
    "Another model than today's gave this answer: how often its strongest point lies in an opacity "
    "is not known here."
)

DANGER_SIGNS = _("Treat danger signs first, whatever the film says.")


class _Details(dict[str, str]):
    """A detail that was not given leaves a mark, not an error: the sentence matters more."""

    def __missing__(self, key: str) -> str:
        return "?"


def sentence(code: str, details: Mapping[str, str] | None = None) -> str:
    """What a code means and what to do next; an unknown code is owned up to, never hidden."""
    known = SENTENCES.get(code, UNKNOWN_CODE)
    return str(known) % _Details({"code": code, **(details or {})})


def hit_rate(model: str, release: Release | None) -> str:
    """How far the ring on a film that ``model`` read can be trusted; ``release`` is in use now."""
    if release is None or release.label != model:
        return str(HIT_RATE_OF_ANOTHER_MODEL)
    found = release.localisation
    if found is None:
        return str(HIT_RATE_NOT_MEASURED)
    return str(HIT_RATE) % {
        "films": number_format(found.films),
        "share": _plain_share(found.hits, found.films),
        "low": number_format(round(100 * found.low)),
        "high": number_format(round(100 * found.high)),
    }


def _plain_share(hits: int, films: int) -> str:
    """27 of 40 as “about 2 of 3 (27 of 40)”, if a share as simple comes within 3 of 100."""
    words = {"hits": number_format(hits), "films": number_format(films)}
    for whole in range(2, min(films, 11)):
        part = round(whole * hits / films)
        if 0 < part < whole and abs(part / whole - hits / films) <= 0.03:
            return str(ABOUT) % (words | {"part": str(part), "whole": str(whole)})
    return str(COUNTED) % words


def answer_words(answer: str) -> str:
    """The answer, or the state of a film without one, in a word or two."""
    return str(ANSWERS.get(answer, answer))


def headline(answer: str) -> str:
    """The answer as a line of its own."""
    return str(HEADLINES.get(answer, answer))


def next_step(answer: str) -> str:
    """What to do with this answer."""
    return str(NEXT_STEPS.get(answer, ""))


def action_words(action: str) -> str:
    """What somebody did, in words; an action without words by its code."""
    return str(ACTIONS.get(action, action))


def zone_words(zone: str) -> str:
    """A lung zone in words."""
    return str(ZONES.get(zone, zone))
