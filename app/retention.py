"""How long studies are kept: a rule, what it would delete today, and the deletion itself.

Nothing is deleted by itself: an administrator sees the studies and confirms, and each is deleted as
if by hand, with a reason, on record. Whoever may have been a child is kept until the age of 18, and
the years of the rule on top.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import date, datetime, time
from typing import Any

from django.db.models import Count, Q, QuerySet, Sum
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from app.models import UNFINISHED, AuditEvent, Study, User

FEWEST_YEARS, MOST_YEARS, USUAL_YEARS = 1, 100, 10
ADULT = 18
ANY, UNLIKELY = "any", "unlikely"
#: As many as one confirmation deletes, the oldest first: a page must not wait for minutes.
MOST_AT_ONCE = 500
ACTION = "retention_applied"


@dataclass(frozen=True)
class Rule:
    """Studies older than ``years``, of that ``answer``. ``only_read``: none that nobody has read.
    ``children_longer``: whose patient was under 18, or of unknown age, stays until it would be 18
    and ``years`` older.
    """

    years: int = USUAL_YEARS
    answer: str = ANY
    only_read: bool = True
    children_longer: bool = True

    @staticmethod
    def last() -> Rule:
        """The rule that was confirmed last; the usual one where none was."""
        event = AuditEvent.objects.filter(action=ACTION).order_by("-pk").first()
        try:
            return Rule(**event.details["rule"]) if event else Rule()
        except (KeyError, TypeError):  # of another version
            return Rule()

    @property
    def values(self) -> dict[str, Any]:
        """As forms and the record keep it."""
        return asdict(self)

    def studies(self, today: date | None = None) -> QuerySet[Study, Study]:
        """What it would delete today, the oldest first. A film that waits keeps its study."""
        today = today or timezone.localdate()
        old = _before(_years_back(today, self.years))
        found = Study.objects.filter(old).exclude(instances__state__in=UNFINISHED)
        if self.answer == UNLIKELY:
            found = found.filter(answer="unlikely")
        if self.only_read:
            found = found.filter(is_read=True)
        if self.children_longer:
            found = found.filter(self._is_past_childhood(today))
        return found.order_by("created_at", "pk")

    def kept_for_unknown_age(self, today: date | None = None) -> int:
        """How many it keeps only since nobody knows whether the patient was a child."""
        if not self.children_longer:
            return 0
        without = Rule(**{**self.values, "children_longer": False}).studies(today)
        unknown = without.filter(age_years__isnull=True).exclude(self._is_past_childhood(today))
        return unknown.count()

    def _is_past_childhood(self, today: date | None) -> Q:
        """Was 18 at the study, or is 18 and ``years`` older by now."""
        today = today or timezone.localdate()
        past = Q(age_years__gte=ADULT)
        # In whole years of the age, so that one question does for all: a child is kept up to a
        # year longer by it, never shorter. Unknown ages are those of the newborn.
        for age in range(ADULT):
            since = _before(_years_back(today, ADULT - age + self.years))
            past |= Q(age_years__gte=age, age_years__lt=age + 1) & since
        newborn = Q(age_years__isnull=True) & _before(_years_back(today, ADULT + self.years))
        return past | newborn

    def words(self) -> str:
        """The rule in a sentence: the reason that each deletion is recorded with."""
        parts = [
            ngettext(
                "Kept for %(years)s year, as the clinic's rule has it.",
                "Kept for %(years)s years, as the clinic's rule has it.",
                self.years,
            )
            % {"years": self.years}
        ]
        if self.children_longer:
            parts.append(_("Children are kept until 18 and as long again."))
        return " ".join(parts)


@dataclass(frozen=True)
class Preview:
    """What a rule would delete: how much, and which studies of it one confirmation deletes."""

    studies: int
    films: int
    size: int
    unread: int
    unknown_age: int
    first: list[Study]

    @property
    def sealed(self) -> dict[str, Any]:
        """What is deleted upon confirmation, and nothing else."""
        return {"studies": [study.pk for study in self.first]}


def preview(rule: Rule) -> Preview:
    """What the rule would delete now."""
    found = rule.studies()
    films = Study.objects.filter(pk__in=found.values("pk")).aggregate(
        films=Count("instances"), size=Sum("instances__size_bytes")
    )
    first = found.select_related("patient").annotate(films=Count("instances"))[:MOST_AT_ONCE]
    return Preview(
        studies=found.count(),
        films=films["films"],
        size=films["size"] or 0,
        unread=found.filter(is_read=False).count(),
        unknown_age=rule.kept_for_unknown_age(),
        first=list(first),
    )


def apply(rule: Rule, studies: list[int], by: User) -> int:
    """Delete those of ``studies`` that the rule still speaks of; how many. Recorded.

    Somebody may have read, merged or dated one of them since the page was shown.
    """
    deleted = 0
    AuditEvent.record(by, ACTION, None, rule=rule.values, studies=len(studies))
    for study in _still(rule, studies):
        try:
            study.delete_for(rule.words(), by)
        except Study.DoesNotExist:
            continue
        deleted += 1
    return deleted


def _still(rule: Rule, studies: list[int]) -> Iterator[Study]:
    for pk in studies[:MOST_AT_ONCE]:
        if study := rule.studies().filter(pk=pk).first():
            yield study


def _years_back(today: date, years: int) -> date:
    try:
        return today.replace(year=today.year - years)
    except ValueError:  # the 29th of February
        return today.replace(year=today.year - years, day=28)


def _before(day: date) -> Q:
    begin = timezone.make_aware(datetime.combine(day, time.min))
    return Q(created_at__lt=begin)
