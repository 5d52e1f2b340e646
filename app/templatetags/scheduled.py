"""What the menu says of the hospital's worklist."""

from __future__ import annotations

from django import template

from app.models import Peer

register = template.Library()


@register.simple_tag
def somebody_tells_who_waits() -> bool:
    """Whether there is a machine to be asked who waits for a film."""
    return Peer.objects.filter(gives_worklist=True).exists()
