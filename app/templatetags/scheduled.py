"""Where films come from, for the menu and the worklist: the hospital's list, discs and sticks."""

from __future__ import annotations

from django import template

from app import disc
from app.models import Peer

register = template.Library()


@register.simple_tag
def somebody_tells_who_waits() -> bool:
    """Whether there is a machine to be asked who waits for a film."""
    return Peer.objects.filter(gives_worklist=True).exists()


@register.simple_tag
def disc_is_there() -> bool:
    """Whether a disc or stick with films is plugged in; the page waits for no drive."""
    return disc.lookout.has_seen()
