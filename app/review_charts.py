"""The charts of "Is it right here?": its figures as shapes with words."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from django.utils.formats import date_format, number_format
from django.utils.translation import gettext as _

from app import charts
from app.charts import Chart, GridLine, Line, Tick, Value
from app.templatetags.review import first_day

if TYPE_CHECKING:
    from app.cxr.local_review import CardFigures, Drift, Rate
    from app.review import MonthLook, Review


def by_month(months: list[MonthLook], card: CardFigures | None) -> Chart:
    """Sensitivity and specificity of the blind readings, month by month."""
    found, cleared = _("with pneumonia: found"), _("without: cleared")
    said = _("the card: found"), _("the card: cleared")
    return Chart(
        code="months",
        title=_("Found and cleared, month by month"),
        description=_(
            "For each month the share of films with pneumonia that the computer found, and of "
            "films without that it cleared. Months with too few films are left out. "
            "The table below has the figures."
        ),
        grid=_shares(),
        ticks=_months(months),
        series=[
            charts.series(
                found,
                1,
                _values([month.blind.sensitivity for month in months], -0.1),
                card.sensitivity if card else None,
                said[0],
            ),
            charts.series(
                cleared,
                2,
                _values([month.blind.specificity for month in months], 0.1),
                card.specificity if card else None,
                said[1],
            ),
        ],
    )


def unanswered(months: list[MonthLook], card: CardFigures | None) -> Chart:
    """Films without a plain answer, month by month."""
    kinds = (
        (
            "cannot_say",
            _("cannot say"),
            card.cannot_say if card else None,
            _("the card: cannot say"),
        ),
        ("refused", _("not usable"), card.refused if card else None, _("the card: not usable")),
        ("unreadable", _("not readable"), None, ""),
    )
    return Chart(
        code="unanswered",
        title=_("Films without a plain answer, month by month"),
        description=_(
            "For each month the share of all films on which the computer could not say, that it "
            "could not use, or could not read. The table below has the figures."
        ),
        grid=_shares(),
        ticks=_months(months),
        series=[
            charts.series(
                words, style, _values([month.shares[kind] for month in months]), level, of_level
            )
            for style, (kind, words, level, of_level) in enumerate(kinds, 1)
        ],
    )


def calibration(review: Review) -> Chart:
    """What was said against what was true."""
    bottom, top = charts.down(0.0), charts.down(1.0)
    values: list[Value | None] = []
    for one in review.bins:
        interval = one.rate.interval
        known = interval and Value(one.mean, interval.value, interval.low, interval.high)
        values.append(known or None)
    return Chart(
        code="calibration",
        title=_("Probability said, and films with pneumonia"),
        description=_(
            "Across: the probability that the computer said. Up: how many of those films had "
            "pneumonia by the reading. On the dashed line both agree. The table below has the "
            "figures."
        ),
        grid=_shares(),
        ticks=[Tick(charts.across(share), _percent(share)) for share in (0.1, 0.3, 0.5, 0.7, 0.9)],
        series=[charts.series(_("films read here"), 1, values)],
        diagonal=Line("0%", bottom, "100%", top),
        diagonal_name=_("said and true agree"),
    )


def scores(number: int, drift: Drift) -> Chart:
    """Probabilities here against those of the card's films."""
    local, expected = drift.local.tolist(), drift.expected.tolist()
    most = math.ceil(max(local + expected) * 10) / 10
    count = len(local)
    return Chart(
        code=f"scores-{number}",
        title=_("How the computer scores films here"),
        description=_(
            "Across: the probability, in ten parts. Up: the share of films in each. Bars: films "
            "here. Marks: films like those of the model card. The table below has the figures."
        ),
        grid=charts.grid([(most * part, _percent(most * part)) for part in (0, 0.5, 1)], most),
        ticks=[
            Tick(charts.across(i / count), _percent(i / count), is_minor=i % 2 == 1)
            for i in range(1, count)
        ],
        bars=charts.bars(local, most),
        bars_name=_("films here"),
        series=[charts.steps(_("films like the card's"), 2, expected, most)],
    )


def _values(rates: list[Rate], aside: float = 0.0) -> list[Value | None]:
    """The rates that can be said; ``aside``: in parts of a month, so that whiskers stand clear."""
    count, values = len(rates), []
    for index, rate in enumerate(rates):
        interval = rate.interval
        place = charts.middle(index, count) + aside / count
        values.append(
            Value(place, interval.value, interval.low, interval.high) if interval else None
        )
    return values


def _shares() -> list[GridLine]:
    return charts.grid([(share, _percent(share)) for share in (0.0, 0.25, 0.5, 0.75, 1.0)])


def _months(months: list[MonthLook]) -> list[Tick]:
    ticks = []
    for index, one in enumerate(months):
        day = first_day(one.month)
        # The year of a December that comes first would run into that of January
        starts = index == 0 and (day.month < 12 or len(months) == 1)
        year = date_format(day, "Y") if starts or day.month == 1 else ""
        ticks.append(
            Tick(
                charts.across(charts.middle(index, len(months))),
                date_format(day, "M"),
                year,
                is_minor=len(months) > 6 and (len(months) - 1 - index) % 3 != 0,
            )
        )
    return ticks


def _percent(share: float) -> str:
    return _("%(number)s %%") % {"number": number_format(round(share * 100))}
