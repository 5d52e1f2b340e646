"""What the page of the record says of an event beside who, what and when."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from django import template
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from app.audit import check

register = template.Library()


@register.simple_tag
def record_problem() -> str:
    """What is wrong with the record itself, a sentence; empty where it is whole."""
    broken = check.watch.broken
    return broken.sentence if broken else ""


#: Names of details in words; one without words shows its code.
NAMES: dict[str, Promise] = {
    "age_years": gettext_lazy("age"),
    "birth_date": gettext_lazy("date of birth"),
    "blind_first_read": gettext_lazy("read before the answer"),
    "clinic_name": gettext_lazy("name of the clinic"),
    "film": gettext_lazy("film"),
    "full_name": gettext_lazy("full name"),
    "is_active": gettext_lazy("may log in"),
    "language": gettext_lazy("language"),
    "machine": gettext_lazy("program"),
    "name": gettext_lazy("name"),
    "new_password": gettext_lazy("new password"),
    "number": gettext_lazy("number"),
    "reason": gettext_lazy("reason"),
    "role": gettext_lazy("role"),
    "scopes": gettext_lazy("rights"),
    "sex": gettext_lazy("sex"),
    "single_user": gettext_lazy("without log-in"),
    "username": gettext_lazy("user name"),
    "watched_folder": gettext_lazy("watched folder"),
}


@register.filter
def detail_words(details: Mapping[str, Any]) -> Iterator[str]:
    """Each detail as “name: value”, a change as “name: before → after”."""
    for name, value in details.items():
        if name == "changed" and isinstance(value, dict):
            yield from detail_words(value)
        else:
            yield f"{NAMES.get(name, name)}: {_words(value)}"


def _words(value: Any) -> str:
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    if isinstance(value, list):
        change = len(value) == 2
        return (" → " if change else ", ").join(_words(one) for one in value)
    if isinstance(value, dict) and "name" in value:  # a row, as the audit keeps it
        return str(value["name"])
    return "–" if value in (None, "") else str(value)
