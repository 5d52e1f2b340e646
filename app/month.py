"""What happened in a month, counted for the health office: numbers alone, nobody's name.

Counted where the rows are, in SQL: a month is read off the index of the days of the studies.
"""

from __future__ import annotations

import calendar
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta

from django.db.models import (
    Case,
    CharField,
    Count,
    F,
    FloatField,
    Func,
    OuterRef,
    Q,
    QuerySet,
    Subquery,
    TextField,
    Value,
    When,
)
from django.db.models.functions import Coalesce
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from app import messages
from app.cxr.release import AGE_BANDS, BANDS, UNKNOWN_AGE
from app.models import UNFINISHED, Finding, Instance, Reading, State, Study
from app.worklist import FIRST_YEAR, LAST_YEAR

ANSWERS = ("likely", "unlikely", "cannot_say")
SEXES = ("F", "M", "O", "")
#: The columns of the table: the answers, and the studies that have none.
NO_ANSWER = "no_answer"
KINDS = (*ANSWERS, NO_ANSWER)

#: Why films got no answer, in few words; a file that cannot be read is one reason here.
REASONS: dict[str, Promise] = {
    "not_a_frontal_chest_film": _("Not a chest film from the front or the back"),
    "cut_off": _("Part of the chest is missing"),
    "not_a_radiograph": _("Another kind of picture, not an X-ray film"),
    "not_a_chest_film": _("Another part of the body"),
    "too_small": _("Picture too small"),
    "odd_shape": _("Picture far too long"),
    "lateral_view": _("Side view"),
    "constant_image": _("One even grey"),
    "unusable_exposure": _("Hardly any contrast"),
    "too_dark": _("Too dark"),
    "too_bright": _("Too bright"),
    "too_blurred": _("Too blurred"),
    "almost_empty": _("Almost nothing on the picture"),
    "colour_photograph": _("A colour photograph"),
    "page_of_text": _("A page of text"),
    "for_processing": _("Raw picture, not made for looking at"),
    "two_films": _("Two films in one picture"),
    "unreadable": _("File cannot be read"),
    "failed": _("The analysis failed"),
    "cancelled": _("Cancelled by somebody"),
    "unknown": _("Reason unknown"),
}


@dataclass(frozen=True)
class BandRow:
    """One age band: how many studies of each sex got which answer, ``counts[sex][kind]``."""

    band: str
    counts: dict[str, dict[str, int]]

    def of(self, kind: str) -> int:
        """Of both sexes and of the unknown one."""
        return sum(of_kind.get(kind, 0) for of_kind in self.counts.values())

    def of_sex(self, sex: str) -> list[int]:
        """Of one sex, kind by kind."""
        return [self.counts.get(sex, {}).get(kind, 0) for kind in KINDS]

    @property
    def studies(self) -> int:
        """All of the band."""
        return sum(self.of(kind) for kind in KINDS)


@dataclass(frozen=True)
class MonthSheet:
    """A month's counts. ``seconds_to_answer``: the median, None where no film was answered."""

    month: date
    studies: int
    films: int
    answered: int
    unfinished: int
    turned_down: dict[str, int]
    bands: tuple[BandRow, ...]
    readings: int
    studies_read: int
    diagnoses: int
    agreed: int
    disagreed: int
    seconds_to_answer: float | None
    days_without_films: int
    days_so_far: int

    def of(self, kind: str) -> int:
        """How many studies of all ages."""
        return sum(band.of(kind) for band in self.bands)

    @property
    def reasons(self) -> dict[str, int]:
        """``turned_down`` as the sheet says it, the commonest first: by codes of ``REASONS``."""
        found: dict[str, int] = {}
        for code, count in self.turned_down.items():
            known = "unreadable" if code in messages.UNREADABLE else code
            known = known if known in REASONS else "unknown"
            found[known] = found.get(known, 0) + count
        return dict(sorted(found.items(), key=lambda one: (-one[1], one[0])))

    @property
    def not_answered(self) -> int:
        """Films that got none for good, whatever the reason."""
        return sum(self.turned_down.values())


def sheet(month: date) -> MonthSheet:
    """The counts of the month that ``month`` is the first day of."""
    begin, end = _begin_of(month), _begin_of(next_month(month))
    studies = Study.objects.filter(created_at__gte=begin, created_at__lt=end).order_by()
    films = Instance.objects.filter(study__created_at__gte=begin, study__created_at__lt=end)
    films = films.order_by()
    states = dict(films.values_list("state").annotate(Count("pk")))
    bands = _bands(studies)
    days_so_far = _days_so_far(month)
    return MonthSheet(
        month=month,
        studies=sum(band.studies for band in bands),
        films=sum(states.values()),
        answered=states.get(State.ANSWERED, 0),
        unfinished=sum(states.get(state, 0) for state in UNFINISHED),
        turned_down=_turned_down(films, states),
        bands=bands,
        studies_read=studies.filter(is_read=True).count(),
        seconds_to_answer=_median_seconds(films),
        days_without_films=days_so_far - _days_with_films(studies),
        days_so_far=days_so_far,
        **_readings(begin, end),
    )


def first_day(text: str) -> date | None:
    """The first day of a month written as 2026-07; None for what is none, or none of any film."""
    try:
        found = datetime.strptime(text, "%Y-%m").date()  # noqa: DTZ007 - a month has no time zone
    except ValueError:
        return None
    return found if FIRST_YEAR <= found.year <= LAST_YEAR else None


def this_month() -> date:
    """The first day of the month that it is."""
    return timezone.localdate().replace(day=1)


def next_month(month: date) -> date:
    """The first day of the month after."""
    return (month + timedelta(days=31)).replace(day=1)


def month_before(month: date) -> date:
    """The first day of the month before."""
    return (month - timedelta(days=1)).replace(day=1)


def _begin_of(day: date) -> datetime:
    return timezone.make_aware(datetime.combine(day, time.min))


def _days_so_far(month: date) -> int:
    """Days of the month that have begun."""
    today = timezone.localdate()
    whole = calendar.monthrange(month.year, month.month)[1]
    return max(0, min(whole, (today - month).days + 1))


def _bands(studies: QuerySet[Study]) -> tuple[BandRow, ...]:
    limits = [When(age_years__lt=upper, then=Value(band)) for band, upper in AGE_BANDS[:-1]]
    oldest = When(age_years__gte=AGE_BANDS[-2][1], then=Value(AGE_BANDS[-1][0]))
    band = Case(*limits, oldest, default=Value(UNKNOWN_AGE), output_field=CharField())
    sex = Coalesce("patient__sex", Value(""))
    rows = studies.annotate(band=band, known_sex=sex).values_list("band", "known_sex", "answer")
    counts: dict[str, dict[str, dict[str, int]]] = {band: {} for band in BANDS}
    for one, of_sex, answer, count in rows.annotate(Count("pk")):
        kinds = counts[one].setdefault(of_sex if of_sex in SEXES else "", {})
        kind = answer if answer in ANSWERS else NO_ANSWER
        kinds[kind] = kinds.get(kind, 0) + count
    return tuple(BandRow(band, found) for band, found in counts.items())


def _turned_down(films: QuerySet[Instance], states: dict[str, int]) -> dict[str, int]:
    """How many films got no answer, by the reason's code, the commonest first.

    Those that failed or were cancelled have no finding: their state is the reason.
    """
    newest = Finding.objects.filter(instance=OuterRef("pk")).order_by("-created_at", "-pk")
    refused = films.filter(state__in=(State.REFUSED, State.UNREADABLE))
    reasons = refused.annotate(reason=Subquery(newest.values("reason")[:1])).values_list("reason")
    counts = {reason or "unknown": count for reason, count in reasons.annotate(Count("pk"))}
    counts |= {
        str(state): states[state] for state in (State.FAILED, State.CANCELLED) if state in states
    }
    return dict(sorted(counts.items(), key=lambda one: (-one[1], one[0])))


def _readings(begin: datetime, end: datetime) -> dict[str, int]:
    """What people wrote down of the month's studies, whenever they did."""
    made = Reading.objects.filter(study__created_at__gte=begin, study__created_at__lt=end)
    concluded = Q(kind=Reading.Kind.CONCLUSION)
    return made.order_by().aggregate(
        readings=Count("pk", filter=concluded),
        diagnoses=Count("pk", filter=Q(kind=Reading.Kind.DIAGNOSIS)),
        agreed=Count("pk", filter=concluded & Q(agrees=True)),
        disagreed=Count("pk", filter=concluded & Q(agrees=False)),
    )


def _median_seconds(films: QuerySet[Instance]) -> float | None:
    """From a film's arrival to its first answer; the middle one, or the mean of the middle two."""
    # Asked film by film: a join would group all films there are before it looks at the month
    answers = Finding.objects.filter(instance=OuterRef("pk"), probability__isnull=False)
    first = Subquery(answers.order_by("created_at").values("created_at")[:1])
    answered = films.annotate(first=first).filter(first__isnull=False)
    count = answered.count()
    if not count:
        return None
    waited = _Seconds(F("first")) - _Seconds(F("received_at"))
    seconds = answered.annotate(seconds=waited).order_by("seconds")
    middle = seconds.values_list("seconds", flat=True)[(count - 1) // 2 : count // 2 + 1]
    found = list(middle)
    # A clock that was set back between the two leaves a time below nothing
    return max(0.0, sum(found) / len(found))


def _days_with_films(studies: QuerySet[Study]) -> int:
    return studies.annotate(local_day=_LocalDay("created_at")).aggregate(
        days=Count("local_day", distinct=True)
    )["days"]


class _Seconds(Func):
    """A moment in seconds, to the thousandth."""

    template = "(julianday(%(expressions)s) * 86400.0)"
    output_field = FloatField()


class _LocalDay(Func):
    """The day of a moment, by the offset that the clinic's clocks have today."""

    function = "strftime"
    output_field = TextField()

    def __init__(self, moment: str) -> None:
        offset = timezone.localtime().utcoffset()
        minutes = round(offset.total_seconds() / 60) if offset else 0
        super().__init__(Value("%Y-%m-%d"), F(moment), Value(f"{minutes:+d} minutes"))


# --- as a table -------------------------------------------------------------------------------

COLUMNS = ("month", "count", "age_band", "sex", "reason", "value")
Row = Sequence[object]


def rows(found: MonthSheet) -> Iterator[Row]:
    """One row for each count, with codes, as aggregate data are imported elsewhere."""
    month = f"{found.month:%Y-%m}"
    for name in (
        "studies", "films", "answered", "unfinished", "not_answered", "readings", "studies_read",
        "diagnoses", "agreed", "disagreed", "days_without_films", "seconds_to_answer",
    ):  # fmt: skip
        yield (month, name, "", "", "", _rounded(getattr(found, name)))
    for reason, count in found.turned_down.items():
        yield (month, "not_answered", "", "", reason, count)
    for band in found.bands:
        for sex in SEXES:
            for kind, count in zip(KINDS, band.of_sex(sex), strict=True):
                yield (month, kind, band.band, sex or "unknown", "", count)


def _rounded(value: float | None) -> float | None:
    return round(value, 1) if isinstance(value, float) else value
