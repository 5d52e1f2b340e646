"""The manual inside the program: short pages with pictures, and the model card."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_safe

from app import checks, messages, model_card, what_now
from app.access import PERMISSIONS, Permission, requires
from app.models import Role


class Topic(NamedTuple):
    """One page of the manual: its address, its name, what it is about, its pictogram."""

    slug: str
    title: Promise
    about: Promise
    icon: str


TOPICS = (
    Topic("films", _("Putting a film in"), _("From a file, a stick, or a photograph"), "film-in"),
    Topic("answer", _("Reading the answer"), _("What each part of the page means"), "likely"),
    Topic("cannot-say", _("“Cannot say”"), _("Why it says so, and what to do then"), "cannot_say"),
    Topic("refusals", _("Films that cannot be used"), _("What should I do now?"), "refused"),
    Topic("signs", _("Clinical signs"), _("The bedside, beside the picture"), "heart"),
    Topic("readings", _("Readings by people"), _("Writing down your own conclusion"), "read"),
    Topic("viewer", _("The viewer"), _("Looking closely, and comparing"), "viewer"),
    Topic("roles", _("Who may do what"), _("Roles, log-in, and the record"), "lock"),
    Topic("encryption", _("Encryption"), _("If the computer is stolen"), "lock"),
    Topic("backups", _("Backups"), _("Not losing anything"), "folder-in"),
    Topic("updates", _("Updates"), _("A newer program, a newer model"), "waiting"),
    Topic(
        "contributions",
        _("Readings for the publisher"),
        _("What leaves, what never does"),
        "folder-in",
    ),
    Topic("model", _("The model card"), _("What the model was measured to do"), "lungs"),
)

MAY: dict[Permission, Promise] = {
    Permission.VIEW: _("See the worklist, studies, films and reports"),
    Permission.TAKE_IN: _("Put films in, and have them analysed again"),
    Permission.EDIT: _("Enter patients, consent and clinical signs"),
    Permission.READ: _("Record readings and diagnoses"),
    Permission.DELETE: _("Delete studies, and merge patients"),
    Permission.REVIEW: _("See whether the answers are right here"),
    Permission.ADMINISTER: _("Enter people, change settings, see who did what"),
}

#: Details that fill a sentence where there is no film of which to speak.
EXAMPLES = {
    "modality": "CT",
    "body_part": "HAND",
    "width": "90",
    "height": "110",
    "minimum": "128",
    "format": "…",
    "transfer_syntax": "…",
}

#: What is written on the sheet that stands for a file without a picture.
ON_THE_SHEET = {
    "missing": "?",
    "not_allowed": "⛔",
    "not_a_file": "📁",
    "read_failed": "…",
    "empty": "0",
    "too_large": "GB",
    "too_many_pixels": "▦",
    "too_much_memory": "RAM",
    "out_of_memory": "RAM",
    "not_an_image": "TXT",
    "truncated": "½",
    "damaged": "✗",
    "format_not_supported": "?",
    "heic_not_supported": "HEIC",
    "pdf_not_supported": "PDF",
    "transfer_syntax_not_supported": "DICOM",
    "no_pixels": "SR",
}


@requires(Permission.VIEW)
@require_safe
def contents(request: HttpRequest) -> HttpResponse:
    """What the manual has."""
    return render(request, "help/contents.html", {"topics": TOPICS})


@requires(Permission.VIEW)
@require_safe
def page(request: HttpRequest, slug: str) -> HttpResponse:
    """One page of the manual."""
    topic = next((topic for topic in TOPICS if topic.slug == slug), None)
    if topic is None:
        raise Http404
    context = {"topics": TOPICS, "topic": topic} | _of(slug)
    return render(request, f"help/{slug}.html", context)


def _of(slug: str) -> dict[str, Any]:
    """What a page needs beside its own words."""
    if slug == "refusals":
        return {
            "refusals": list(_cases(messages.REFUSALS)),
            "unreadable": list(_cases(messages.UNREADABLE)),
        }
    if slug == "cannot-say":
        return {"cases": list(_cases(messages.CANNOT_SAY))}
    if slug == "answer":
        return {"limits": messages.LIMITS, "danger_signs": messages.DANGER_SIGNS}
    if slug == "roles":
        return {"roles": Role, "lines": list(_may())}
    if slug == "model":
        release = checks.model.release
        card = model_card.card_of(release)
        return {"release": release, "card": model_card.as_html(card) if card else ""}
    return {}


def _cases(sentences: messages.Sentences) -> Iterator[dict[str, Any]]:
    for code in sentences:
        yield {
            "code": code,
            "sentence": messages.sentence(code, EXAMPLES),
            "steps": what_now.steps(code),
            "sheet": ON_THE_SHEET.get(code, ""),
        }


def _may() -> Iterator[tuple[Promise, list[bool]]]:
    for permission, words in MAY.items():
        yield words, [permission in PERMISSIONS[role] for role in Role]
