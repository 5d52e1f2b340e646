"""What to do now, step by step, by the code of why a film got no answer.

``app.messages`` says in one sentence what is wrong; here are the steps that a person who has never
seen it before can follow. A test holds that there are some for every code.
"""

from __future__ import annotations

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

Steps = tuple[Promise, ...]

_SIGNS = _("Meanwhile decide by the clinical signs; they do not need a film.")
_ASK = _("If it happens again, tell whoever looks after this computer.")
_RETAKE = _("If the film itself is so, it has to be taken again. Decide whether that is worth it.")
_RIGHT_FILM = _("Look at the picture: was the right film chosen?")
_PHOTOGRAPH = _(
    "To photograph a film: hold it before a white window or lamp, switch the flash off, and let "
    "the film fill the picture."
)
_EXPORT = _("On the X-ray computer, export the film again, in full size, as DICOM, PNG or JPEG.")
_COPY = _("Copy the file again from where it came, and wait until copying has finished.")
_SMALLER = _("Export the film in a smaller size: 3000 pixels on the longer side are plenty.")
_PUT_IN = _("Put the new file in. The one that did not work may stay where it is.")
_FRONTAL = _("Put in the film taken from the front or the back (PA or AP).")
_ONLY_SIDE = _("If there is no other film, the program cannot help with this one.")

STEPS: dict[str, Steps] = {
    # The computer read the film and holds its answer back
    "near_the_threshold": (
        _("Go by the clinical signs: breathing rate, chest indrawing, oxygen, danger signs."),
        _("Have a person read the film, here or by a colleague elsewhere, if you can."),
        _("A second film makes sense only if this one is poor, or the patient gets worse."),
    ),
    # Pixels, but no usable chest film
    "not_a_frontal_chest_film": (_RIGHT_FILM, _FRONTAL, _PHOTOGRAPH, _SIGNS),
    "cut_off": (
        _("Photograph or export the whole film: from above the collar bones to below the ribs."),
        _RETAKE,
        _SIGNS,
    ),
    "not_a_radiograph": (
        _("Look in the same folder for the X-ray film: CT, ultrasound and others are not read."),
        _FRONTAL,
        _SIGNS,
    ),
    "not_a_chest_film": (
        _("Look whether this is the right patient's folder, and choose the chest film in it."),
        _(
            "If it is a chest film after all, the X-ray unit has written a wrong body part: "
            "export it as PNG or JPEG, and put that in."
        ),
        _SIGNS,
    ),
    "too_small": (
        _("Do not use a preview, a picture from a chat, or a cut-out: they are too small."),
        _EXPORT,
        _SIGNS,
    ),
    "odd_shape": (
        _("Cut nothing, and put nothing beside the film: one film, whole, in one picture."),
        _EXPORT,
        _SIGNS,
    ),
    "lateral_view": (_RIGHT_FILM, _FRONTAL, _ONLY_SIDE, _SIGNS),
    "for_processing": (
        _("On the X-ray unit, finish the film as usual, then send it again."),
        _("If it always comes so, ask whoever looks after the unit to send finished images."),
        _SIGNS,
    ),
    "constant_image": (_EXPORT, _PHOTOGRAPH, _SIGNS),
    "unusable_exposure": (_EXPORT, _PHOTOGRAPH, _RETAKE, _SIGNS),
    "too_dark": (
        _("Hold the film before a brighter light: a window by day, a white screen, a light box."),
        _("Touch the film on the phone's screen before you press, so that it measures the light."),
        _RETAKE,
        _SIGNS,
    ),
    "too_bright": (
        _("Take less light, or step back from the window, and keep the flash off."),
        _("Touch the film on the phone's screen before you press, so that it measures the light."),
        _RETAKE,
        _SIGNS,
    ),
    "too_blurred": (
        _("Lean your arms on something, touch the film on the phone's screen, then press."),
        _("Wipe the lens of the phone."),
        _("If the film itself is blurred, take it again while the patient holds the breath."),
        _SIGNS,
    ),
    "almost_empty": (_RIGHT_FILM, _EXPORT, _SIGNS),
    "colour_photograph": (_RIGHT_FILM, _PHOTOGRAPH, _SIGNS),
    "page_of_text": (
        _("Put in the film itself, not the report or the request form."),
        _RIGHT_FILM,
        _SIGNS,
    ),
    "two_films": (
        _("Photograph or export each film by itself, and put both in."),
        _("Put in together, they stay together as one study."),
        _SIGNS,
    ),
    # No pixels at all
    "missing": (_("Plug the stick in again, or find the file where it is now."), _PUT_IN, _SIGNS),
    "not_allowed": (
        _("Copy the file to the desktop of this computer."),
        _("Put in the copy."),
        _ASK,
    ),
    "not_a_file": (_("Open the folder, mark the films in it, and put these in."), _SIGNS),
    "read_failed": (
        _("Take the stick out, plug it in again, and try once more."),
        _("Copy the film from where it came onto another stick."),
        _ASK,
    ),
    "empty": (_COPY, _PUT_IN, _SIGNS),
    "too_large": (_EXPORT, _PUT_IN, _ASK),
    "too_many_pixels": (_SMALLER, _PUT_IN, _SIGNS),
    "too_much_memory": (_SMALLER, _PUT_IN, _SIGNS),
    "out_of_memory": (
        _("Close other programs, above all other windows of the browser, and try again."),
        _("If that does not help, export the film in a smaller size."),
        _ASK,
    ),
    "not_an_image": (
        _("Look for the file of the film itself: its name often ends in .dcm, .jpg or .png."),
        _PUT_IN,
        _SIGNS,
    ),
    "truncated": (_COPY, _PUT_IN, _SIGNS),
    "damaged": (_COPY, _EXPORT, _SIGNS),
    "format_not_supported": (_EXPORT, _PUT_IN, _SIGNS),
    "heic_not_supported": (
        _(
            "On an iPhone: Settings, Camera, Formats, “Most Compatible”. "
            "Then photograph the film again."
        ),
        _("Or send the photograph by cable or mail: many phones turn it into JPEG then."),
        _PUT_IN,
        _SIGNS,
    ),
    "pdf_not_supported": (
        _("Ask where the PDF came from for the film itself, as DICOM, PNG or JPEG."),
        _("Or show it on the screen in full size, save a picture of the screen, and put that in."),
        _SIGNS,
    ),
    "transfer_syntax_not_supported": (
        _("On the X-ray computer, choose “uncompressed” or “JPEG” when you export."),
        _PUT_IN,
        _ASK,
    ),
    "no_pixels": (
        _("In the same folder there are usually more files: put in the largest ones."),
        _PUT_IN,
        _SIGNS,
    ),
}

FOR_ANYTHING_ELSE: Steps = (_EXPORT, _SIGNS, _ASK)


def steps(code: str) -> Steps:
    """What to do now, in order; for a code that nobody foresaw what is never wrong."""
    return STEPS.get(code, FOR_ANYTHING_ELSE)
