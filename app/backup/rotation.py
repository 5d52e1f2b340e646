"""Which backups stay: many of the last days, fewer the further back."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime

DAYS, WEEKS, MONTHS = 7, 4, 6

_AGES: tuple[tuple[int, Callable[[datetime], object]], ...] = (
    (DAYS, lambda at: at.date()),
    (WEEKS, lambda at: at.isocalendar()[:2]),
    (MONTHS, lambda at: (at.year, at.month)),
)


def kept(moments: Iterable[datetime]) -> set[datetime]:
    """The newest of each of the last 7 days, 4 weeks and 6 months in which there was any.

    Days without a backup do not count: a clinic that was closed for a month loses none by it.
    """
    newest_first = sorted(moments, reverse=True)
    stays: set[datetime] = set()
    for most, age_of in _AGES:
        newest: dict[object, datetime] = {}
        for at in newest_first:
            newest.setdefault(age_of(at), at)
        stays.update(list(newest.values())[:most])
    return stays
