"""Filters of the count sheet."""

from __future__ import annotations

from django import template
from django.utils.formats import number_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from app.models.patients import Sex
from app.month import SEXES, BandRow

register = template.Library()
#: Said for every age, also where there is nobody of it; the others where there is somebody.
_ALWAYS = ("F", "M")


@register.filter
def grouped(count: int) -> str:
    """A count as the reader's language writes large numbers."""
    return number_format(count, use_l10n=True, force_grouping=True)


@register.filter
def of_kind(band: BandRow, kind: str) -> int:
    """How many of the band got that answer."""
    return band.of(kind)


@register.filter
def by_sex(band: BandRow) -> list[tuple[str, list[int], int]]:
    """The band sex by sex: its word, the counts kind by kind, their sum."""
    words = dict(Sex.choices)
    found = [(sex, band.of_sex(sex)) for sex in SEXES]
    return [
        (str(words.get(sex) or _("sex unknown")), counts, sum(counts))
        for sex, counts in found
        if sex in _ALWAYS or any(counts)
    ]


@register.filter
def waited(seconds: float | None) -> str:
    """A time that people waited: seconds, minutes or hours; a dash where nobody did."""
    if seconds is None:
        return "–"
    if seconds < 100:
        count = max(1, round(seconds))
        return ngettext("%(number)d second", "%(number)d seconds", count) % {"number": count}
    if seconds < 100 * 60:
        count = round(seconds / 60)
        return ngettext("%(number)d minute", "%(number)d minutes", count) % {"number": count}
    count = round(seconds / 3600)
    return ngettext("%(number)d hour", "%(number)d hours", count) % {"number": count}
