"""Filters of the templates: the codes of the clinical signs in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from django import template
from django.utils.formats import number_format
from django.utils.functional import Promise
from django.utils.translation import gettext as _

from app import clinical_words as words
from app.clinical_forms import known_age
from app.cxr.signs import RANGES, SOURCES, fast_breathing_from, rule_for_age
from app.models import ClinicalSigns, Study
from app.templatetags.films import age_words

register = template.Library()


def _from(table: Mapping[str, Promise | str]) -> Callable[[str], str]:
    """A code of an older version that has no words any more is shown as it is."""
    return lambda code: str(table.get(code, code))


register.filter("rule_words", _from(words.RULES))
register.filter("classification_words", _from(words.CLASSIFICATIONS))
register.filter("urgency_words", _from(words.URGENCIES))
register.filter("action_to_take", _from(words.ACTIONS))
register.filter("sign_words", _from(words.REASONS))
register.filter("sign_field_words", _from(words.FIELDS))
register.filter("source_words", _from(words.SOURCES))
register.filter("citation", _from(SOURCES))


@register.filter
def entered(row: ClinicalSigns) -> list[tuple[str, str]]:
    """What was entered, in words: each field's name and value; what was not asked is left out."""
    found = ((name, row.signs.get(name)) for name in words.FIELDS)
    return [
        (str(words.FIELDS[name]), _value(name, value))
        for name, value in found
        if value is not None and not (name == "without_oximeter" and value is False)
    ]


@register.filter
def made_for_another_age(row: ClinicalSigns, study: Study) -> bool:
    """Whether the assessment may be another one at the age that the study has now.

    A birthday that is entered later moves an age by days: that alone is no other age.
    """
    return _age_group(row.assessment.get("age_years")) != _age_group(known_age(study))


def _age_group(years: float | None) -> tuple[Any, ...]:
    return rule_for_age(years), fast_breathing_from(years), age_words(years)


def _value(name: str, value: Any) -> str:
    if name in RANGES:
        return number_format(value, decimal_pos=None if value % 1 else 0)
    if name == "danger_signs":
        codes = [str(words.DANGER_SIGNS.get(code, code)) for code in value]
        return " · ".join(codes) or _("None of these")
    if isinstance(value, bool):
        return _("Yes") if value else _("No")
    tables = words.HIV_STATUSES | words.BRONCHODILATOR_TRIALS
    return str(tables.get(value, value))
