"""Every sentence the program says about a film, by stable code.

The pure core and the intake return codes and details; people get sentences, marked for translation
here and nowhere else. Each says what happened and what to do next, in words that can be read out
on the phone.
"""

from __future__ import annotations

from collections.abc import Mapping

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

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
}

CANNOT_SAY: Sentences = {
    "near_the_threshold": _(
        "The probability lies too close to the threshold for an answer that can be relied on."
    ),
}

REFUSALS: Sentences = {
    "not_a_frontal_chest_film": _(
        "This does not look like a chest film taken from the front or the back. "
        "Put in a frontal chest film (PA or AP)."
    ),
    "too_small": _(
        "The picture is too small to be judged. Put in the film in its full size, "
        "not a preview or a cut-out."
    ),
    "not_a_radiograph": _(
        "This is not an X-ray film but a picture of another kind. Put in a chest X-ray film."
    ),
    "lateral_view": _(
        "This is a side view of the chest. The program reads frontal films only: put in the PA or AP film."
    ),
    "not_a_chest_film": _(
        "The file says that it shows another part of the body. Put in a frontal chest film."
    ),
    "constant_image": _(
        "The picture is one even grey: nothing can be seen on it. Export or photograph the film again."
    ),
    "unusable_exposure": _(
        "The film is too dark or too bright to be judged. Export or photograph it again, or repeat the film."
    ),
    "two_films": _(
        "There seem to be two films in one picture. Put them in one by one, each as a file of its own."
    ),
}

UNREADABLE: Sentences = {
    "not_an_image": _(
        "This file is not a picture. Choose a JPEG, PNG, TIFF, BMP, WebP or DICOM file of the film."
    ),
    "empty": _("The file is empty. Copy it again from where it came from."),
    "truncated": _(
        "The file is incomplete: it ends in the middle. Copy it again, and wait until copying has finished."
    ),
    "too_large": _("The file is too large. Export the film as one JPEG, PNG or DICOM file."),
    "too_many_pixels": _(
        "The picture has more pixels than any chest film. Export it in a smaller size."
    ),
    "missing": _("The file is not there any more. Is the stick still plugged in?"),
}

REJECTED: Sentences = {
    "disk_full": _(
        "The disk of this computer is full: the film could not be stored. "
        "Free some space, then send it again."
    ),
    "no_file": _("No file arrived. Choose a film and send it again."),
    "interrupted": _("The connection broke off before the whole film had arrived. Send it again."),
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
    _(
        "It is not a diagnosis. It says how much the film looks like films of patients with pneumonia."
    ),
    _("A clear film does not exclude pneumonia. Early disease and dehydration can leave it clear."),
    _(
        "It looks for nothing else: tuberculosis, heart failure, a tumour, fluid or air around the lung "
        "can be there whatever the answer is."
    ),
    _(
        "The map shows what the computer looked at. It is not the border of the disease, "
        "and it can point at the wrong place."
    ),
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


def answer_words(answer: str) -> str:
    """The answer, or the state of a film without one, in a word or two."""
    return str(ANSWERS.get(answer, answer))


def headline(answer: str) -> str:
    """The answer as a line of its own."""
    return str(HEADLINES.get(answer, answer))


def next_step(answer: str) -> str:
    """What to do with this answer."""
    return str(NEXT_STEPS.get(answer, ""))


def zone_words(zone: str) -> str:
    """A lung zone in words."""
    return str(ZONES.get(zone, zone))
