"""For pages about accounts and log-ins."""

from __future__ import annotations

from django import template

from app import user_agents
from app.models import RecoveryCode, Site

register = template.Library()


@register.filter
def browser(agent: str) -> str:
    """What a browser calls itself, in words."""
    return user_agents.in_words(agent)


@register.simple_tag
def recovery_code_is_missing(site: Site) -> bool:
    """Whether people log in here, and nobody has a recovery code on paper."""
    return not site.single_user and not RecoveryCode.is_kept()
