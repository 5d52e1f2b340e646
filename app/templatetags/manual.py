"""From a page to what the manual says of it."""

from __future__ import annotations

from django import template
from django.urls import reverse

from app import messages, what_now

register = template.Library()

register.filter("what_now", what_now.steps)


@register.filter
def manual_address(code: str) -> str:
    """Where the manual speaks of a code for a film without an answer."""
    page = "cannot-say" if code in messages.CANNOT_SAY else "refusals"
    return f"{reverse('help-page', args=[page])}#{code}"
