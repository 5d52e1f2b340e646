"""Why a film is chosen to leave, in words."""

from __future__ import annotations

from django import template
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

register = template.Library()

WHYS: dict[str, Promise] = {
    "disagreement": _("Reader and computer disagree"),
    "cannot_say": _("The computer could not say"),
    "near_threshold": _("Close to the threshold"),
    "other": _("All others"),
}


@register.filter
def why_words(code: str) -> Promise:
    """Why films of that code are learnt from."""
    return WHYS[code]
