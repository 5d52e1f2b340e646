"""Filters and tags of "Is it right here?"."""

from __future__ import annotations

from django import template

from app.models import Finding, LocalOperatingPoint

register = template.Library()


@register.filter
def is_local_threshold(finding: Finding | None) -> bool:
    """Whether the clinic's own threshold judged this finding."""
    return finding is not None and LocalOperatingPoint.has_judged(finding)
