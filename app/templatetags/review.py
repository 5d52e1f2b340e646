"""Filters and tags of "Is it right here?": counts, intervals and ages in words."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import TYPE_CHECKING, Any

from django import template
from django.utils.formats import date_format, number_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from app import review
from app.models import Finding, LocalOperatingPoint, Reading

if TYPE_CHECKING:
    from app.cxr.local_review import Rate
    from app.cxr.metrics import Interval

register = template.Library()

BANDS = {
    "under_5": gettext_lazy("under 5 years"),
    "5_14": gettext_lazy("5 to 14 years"),
    "15_64": gettext_lazy("15 to 64 years"),
    "65_and_over": gettext_lazy("65 years and over"),
    "unknown": gettext_lazy("age unknown"),
}


@register.filter
def is_local_threshold(finding: Finding | None) -> bool:
    """Whether the clinic's own threshold judged this finding."""
    return finding is not None and LocalOperatingPoint.has_judged(finding)


@register.filter
def band_words(band: str) -> str:
    """An age band in words."""
    return str(BANDS.get(band, band))


@register.filter
def bands_words(bands: Iterable[str]) -> str:
    """Several age bands in words."""
    return ", ".join(map(band_words, bands))


@register.filter
def month_words(month: str) -> str:
    """The code of a month, 2026-07, as “July 2026”."""
    return date_format(first_day(month), "F Y")


def first_day(month: str) -> date:
    """The first day of "YYYY-MM"."""
    return date(int(month[:4]), int(month[5:7]), 1)


@register.filter
def conclusion_words(conclusion: str) -> str:
    """What somebody concluded."""
    words = dict(Reading.Conclusion.choices)
    return str(words.get(conclusion, _("not read")))


@register.filter
def counted(rate: Rate) -> str:
    """A rate as its counts: “9 of 10”."""
    numbers = {"part": number_format(rate.part), "whole": number_format(rate.whole)}
    return _("%(part)s of %(whole)s") % numbers


@register.filter
def hundredths(share: float | str | None) -> str:
    """A share as a whole percentage; a dash where there is none."""
    if not isinstance(share, float | int):  # a template says "" for what is not there
        return "–"
    return _("%(number)s %%") % {"number": number_format(round(share * 100))}


@register.filter
def within(rate: Rate) -> str:
    """A rate with its interval, or that the studies are too few to say one."""
    if not rate.whole:
        return "–"
    return interval_words(rate.interval) if rate.is_enough else _("too few to say")


@register.filter
def interval_words(interval: Interval | None) -> str:
    """A share with its interval: “94 % (91 to 96 %)”."""
    if interval is None:
        return _("too few to say")
    ends = [round(100 * end) for end in (interval.value, interval.low, interval.high)]
    value, low, high = map(number_format, ends)
    return _("%(value)s %% (%(low)s to %(high)s %%)") % {"value": value, "low": low, "high": high}


@register.filter
def as_length(share: float | None) -> str:
    """A share as a length for SVG, whatever the decimal comma of the reader."""
    return f"{100 * (share or 0.0):.2f}%"


@register.filter
def exactly(number: float) -> str:
    """A number as it is written in a form, to come back unchanged."""
    return repr(float(number))


@register.simple_tag
def review_warnings() -> list[Any]:
    """Where the active release falls short of its card."""
    return review.warnings()
