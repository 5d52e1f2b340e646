"""Filters and tags of the templates: values of a finding in words and figures."""

from __future__ import annotations

from typing import Any

from django import template
from django.conf import settings
from django.utils.formats import number_format
from django.utils.translation import get_language_bidi, ngettext
from django.utils.translation import gettext as _

from app import checks, messages
from app.models import UNFINISHED, Finding, Study

register = template.Library()

register.filter("answer_words", messages.answer_words)
register.filter("headline", messages.headline)
register.filter("next_step", messages.next_step)
register.filter("action_words", messages.action_words)
register.filter("zone_words", messages.zone_words)


@register.filter
def reason_words(finding: Finding) -> str:
    """Why there is no plain answer, empty where there is one."""
    return messages.sentence(finding.reason, finding.details) if finding.reason else ""


@register.filter
def shown_answer(study: Study) -> str:
    """The answer of the study's finding while one is there, else where the study stands."""
    return study.answer or study.status


@register.filter
def row_answer(study: Study) -> str:
    """As ``shown_answer``, but for the user whom ``as_rows_for`` fetched the study for: hidden
    where the films are to be read first, and where nobody asked.
    """
    if getattr(study, "answer_is_hidden", True) and study.status not in UNFINISHED:
        return "hidden"
    return shown_answer(study)


@register.filter
def row_finding(study: Study) -> Finding | None:
    """The finding a row may show: none where the answer is hidden, or an earlier one's."""
    if getattr(study, "answer_is_hidden", True) or study.status in UNFINISHED:
        return None
    return study.finding


@register.filter
def percent(share: float | None) -> str:
    """0.934 as “93 %”. Never 0 % or 100 %: the computer is not that sure of anything."""
    if share is None:
        return ""
    if share < 0.01:
        return _("under 1 %")
    if share > 0.99:
        return _("over 99 %")
    return _("%(number)s %%") % {"number": number_format(round(share * 100))}


@register.filter
def probability_words(finding: Finding) -> str:
    """The probability, finer where it would read the same as the threshold it is held against."""
    return _beside(finding.probability, finding.threshold)


@register.filter
def threshold_words(finding: Finding) -> str:
    """The threshold, as fine as the probability beside it."""
    return _beside(finding.threshold, finding.probability)


def _beside(share: float | None, other: float | None) -> str:
    if share is None or other is None or percent(share) != percent(other):
        return percent(share)
    return _("%(number)s %%") % {"number": number_format(share * 100, decimal_pos=1)}


@register.filter
def bar(share: float | None) -> str:
    """A share as a length for SVG, whatever the decimal comma of the reader."""
    return f"{100 * (share or 0.0):.2f}%"


@register.filter
def apart(text: str) -> str:
    """A number inside a sentence that reads from the right: isolated, it keeps its own order.

    Unicode Bidirectional Algorithm (UAX 9), LRI and PDI; other languages get it as it is.
    """
    return f"\u2066{text}\u2069" if get_language_bidi() else text


@register.filter
def age_words(years: float | None) -> str:
    """An age in years, under two years in months; unknown is said, not guessed."""
    if years is None:
        return _("age unknown")
    if years < 2:
        months = int(years * 12 + 0.01)
        return ngettext("%(number)d month", "%(number)d months", months) % {"number": months}
    return ngettext("%(number)d year", "%(number)d years", int(years)) % {"number": int(years)}


@register.filter
def duration(milliseconds: float | None) -> str:
    """Milliseconds as a person says them."""
    if milliseconds is None:
        return ""
    if milliseconds < 1000:
        return _("%(number)s ms") % {"number": number_format(round(milliseconds))}
    return _("%(number)s s") % {"number": number_format(milliseconds / 1000, decimal_pos=1)}


@register.simple_tag
def program_state() -> dict[str, Any]:
    """What every page says of the program itself: version, model, and what is wrong with it."""
    return {
        "version": settings.VERSION,
        "model": checks.model.label,
        "problems": [problem.sentence for problem in checks.current_problems()],
    }
