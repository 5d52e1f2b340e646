"""What every page of an administrator says of model updates."""

from __future__ import annotations

from django import template

from app.updates import sticks

register = template.Library()


@register.simple_tag
def update_is_there() -> bool:
    """Whether an update lies on a stick that is plugged in; the page waits for no drive."""
    return sticks.lookout.has_seen()
