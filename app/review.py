"""Is it right here? The rows behind the page: findings shown, beside what people concluded.

numpy comes with the first look: a program that waits need not hold it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from django.db.models import F, Func, Max, TextField, Value
from django.utils import timezone

from app import checks
from app.cxr.release import BANDS, OperatingPoint, Release, age_band
from app.models import Finding, LocalOperatingPoint, Reading, Role, Site, Study, User

if TYPE_CHECKING:
    from app.cxr.local_review import (
        Accuracy,
        Bin,
        CardFigures,
        Drift,
        Proposal,
        Rate,
        Shortfall,
        Shown,
    )
    from app.cxr.metrics import Interval

#: Fewer studies than these are counted, and never said as a rate.
FEW = 10
#: The latest months that are shown one by one.
MONTHS_SHOWN = 12
#: Warnings are looked for this often: with many thousand readings it takes a second.
WARNING_SECONDS = 600.0
#: The latest months whose scores are held against the card's.
MONTHS_OF_DRIFT = 3


@dataclass(frozen=True)
class BandLook:
    """One age band. ``proposal``: a better point, or the code that says why there is none."""

    band: str
    blind: Accuracy
    card: CardFigures | None
    shares: dict[str, Rate]
    proposal: Proposal | str
    point: OperatingPoint | None
    local: LocalNote | None


@dataclass(frozen=True)
class LocalNote:
    """A clinic's own operating point that answers now; ``record`` None: nobody here applied it."""

    point: OperatingPoint
    record: LocalOperatingPoint | None


@dataclass(frozen=True)
class MonthLook:
    """One month, "YYYY-MM"."""

    month: str
    films: int
    blind: Accuracy
    shares: dict[str, Rate]


@dataclass(frozen=True)
class DriftLook:
    """The latest scores against one report of the card."""

    title: str
    bands: tuple[str, ...]
    drift: Drift


@dataclass(frozen=True)
class Review:
    """Everything that the page says of one release. ``months``: by age band, "" for all ages."""

    release: str
    is_active: bool
    studies: int
    blind: Accuracy
    known: Accuracy
    read_of_answer: dict[str, Rate]
    bands: list[BandLook]
    months: dict[str, list[MonthLook]]
    bins: list[Bin]
    calibration_error: Interval | None
    mean_probability: float | None
    with_pneumonia: Rate
    drifts: list[DriftLook]
    shortfalls: list[Shortfall]


def releases() -> list[str]:
    """Labels of all releases with findings, the active one first, then the latest used."""
    used = Finding.objects.values("model").annotate(last=Max("pk")).order_by("-last")
    labels = list(used.values_list("model", flat=True))
    active = checks.model.label
    return sorted(labels, key=lambda label: label != active)


def look(label: str) -> Review:
    """The review of one release; kept until a film, a reading or an operating point is added."""
    return _look(label, _state_of_things())


def warnings() -> list[Shortfall]:
    """Where the active release falls short of its card; for every page of an administrator.

    Looked for anew every ``WARNING_SECONDS``, and when an operating point changes.
    """
    release = checks.model.release
    if release is None:
        return []
    return _warnings(release.label, repr(release.local), int(time.monotonic() / WARNING_SECONDS))


@lru_cache(maxsize=1)
def _warnings(label: str, _local: str, _while: int) -> list[Shortfall]:
    release = checks.model.release
    if release is None or not Reading.objects.filter(before_answer=True).exists():
        return []
    return _shortfalls(gather(label, only_read=True), release)


def forget() -> None:
    """Look afresh the next time."""
    _look.cache_clear()
    _warnings.cache_clear()


def _state_of_things() -> tuple[object, ...]:
    """Changes with whatever is added to the review or deleted from it."""
    reading = Reading.objects.order_by("-pk").values_list("pk", "at").first()
    finding = Finding.objects.order_by("-pk").values_list("pk", "created_at").first()
    counts = Study.objects.count(), Reading.objects.count()
    release = checks.model.release
    return reading, finding, counts, repr(release.local) if release else "", _this_month()


def _this_month() -> str:
    return f"{timezone.localdate():%Y-%m}"


def _shortfalls(shown: Shown, release: Release) -> list[Shortfall]:
    """Of all blind readings, at the thresholds that answer now."""
    from app.cxr import local_review as lr

    read = shown.where(shown.blind != lr.NOBODY)
    present = read.held_against({band: _point(release, band).threshold for band in BANDS})
    return lr.shortfalls(present, lr.card_figures(release.report()), _this_month())


def _point(release: Release, band: str) -> OperatingPoint:
    return release.local.in_force.get(band) or release.own_operating_point(band)


# --- the rows ---------------------------------------------------------------------------------


class _Month(Func):
    """The month of a moment in the clinic's time zone, "YYYY-MM".

    With the offset of today: SQLite's own arithmetic is many times faster than asking Python for
    each row, and where clocks change it is wrong for the films of one night hour.
    """

    function = "strftime"
    output_field = TextField()

    def __init__(self, moment: str) -> None:
        offset = timezone.localtime().utcoffset()
        minutes = round(offset.total_seconds() / 60) if offset else 0
        super().__init__(Value("%Y-%m"), F(moment), Value(f"{minutes:+d} minutes"))


def gather(label: str, only_read: bool = False) -> Shown:
    """The finding shown of each study by one release, and what people concluded on it.

    Of several films or analyses: the newest answered one, as on the study's page.
    """
    import numpy as np

    from app.cxr.local_review import Shown

    rows = list(_shown_rows(label, only_read))
    blind, known = _conclusions()
    columns: list[list[Any]] = [list(column) for column in zip(*rows, strict=True)]
    studies, months, answers, probabilities, thresholds, ages = columns or [[] for _ in range(6)]
    return Shown(
        studies=np.array(studies, np.int64),
        months=np.array(months, "U7"),
        bands=np.array([age_band(age) for age in ages], "U12"),
        answers=np.array(answers, "U12"),
        probabilities=np.array(probabilities, float),
        thresholds=np.array(thresholds, float),
        blind=np.array([blind.get(study, "") for study in studies], "U16"),
        known=np.array([known.get(study, "") for study in studies], "U16"),
    )


def _shown_rows(label: str, only_read: bool) -> Iterator[tuple[Any, ...]]:
    """Study, month, answer, probability, threshold and age of the finding shown of each study."""
    findings = Finding.objects.filter(model=label)
    if only_read:
        findings = findings.filter(instance__study__is_read=True)
    rows = findings.order_by("created_at", "pk").values_list(
        "instance_id",
        "instance__study_id",
        _Month("instance__study__created_at"),
        "answer",
        "probability",
        "threshold",
        "age_years",
        "instance__study__age_years",
    )
    of_film = {row[0]: row for row in rows.iterator(chunk_size=10_000)}
    of_study: dict[int, tuple[Any, ...]] = {}
    for row in of_film.values():
        before = of_study.get(row[1])
        # An answered film goes before one that was not, a later one before an earlier
        if before is None or row[4] is not None or before[4] is None:
            of_study[row[1]] = row
    for _film, *row, age, age_of_study in of_study.values():
        yield (*row, age_of_study if age is None else age)


def _conclusions() -> tuple[dict[int, str], dict[int, str]]:
    """Of each study the last conclusion made blind, and the reference: diagnosis before reading."""
    readings = Reading.objects.order_by("pk").values_list("study_id", "conclusion")
    # Of several, a dictionary keeps the last
    concluded = dict(readings.filter(kind=Reading.Kind.CONCLUSION))
    diagnosed = dict(readings.filter(kind=Reading.Kind.DIAGNOSIS))
    return dict(readings.filter(before_answer=True)), concluded | diagnosed


# --- the look ---------------------------------------------------------------------------------


@lru_cache(maxsize=2)
def _look(label: str, _state: tuple[object, ...]) -> Review:
    from app.cxr import local_review as lr

    shown = gather(label)
    release = checks.model.release
    if release is not None and release.label != label:
        release = None
    card = lr.card_figures(release.report()) if release else {}
    labels, probabilities = lr.judged(shown, shown.blind)
    return Review(
        release=label,
        is_active=release is not None,
        studies=int(shown.studies.size),
        blind=lr.accuracy(shown, shown.blind),
        known=lr.accuracy(shown, shown.known),
        read_of_answer=lr.read_of_answer(shown),
        bands=[_band_look(shown, band, card.get(band), release) for band in BANDS],
        months={band: _month_looks(shown, band) for band in ("", *BANDS)},
        bins=lr.reliability(labels, probabilities),
        calibration_error=lr.calibration_error(labels, probabilities),
        mean_probability=float(probabilities.mean()) if labels.size >= lr.FEWEST else None,
        with_pneumonia=lr.Rate(int(labels.sum()), int(labels.size)),
        drifts=_drift_looks(shown, card),
        shortfalls=_shortfalls(shown, release) if release else [],
    )


def _band_look(
    shown: Shown, band: str, card: CardFigures | None, release: Release | None
) -> BandLook:
    from app.cxr import local_review as lr

    inside = shown.of_band(band)
    point = local = None
    proposal: Proposal | str = lr.TOO_FEW
    if release:
        local = _local_note(release, band)
        point = _point(release, band)
        proposal = lr.propose(*lr.judged(inside, inside.blind), point)
    return BandLook(
        band=band,
        blind=lr.accuracy(inside, inside.blind),
        card=card,
        shares=lr.shares(inside),
        proposal=proposal,
        point=point,
        local=local,
    )


def _local_note(release: Release, band: str) -> LocalNote | None:
    point = release.local.in_force.get(band)
    if point is None:
        return None
    records = LocalOperatingPoint.objects.filter(
        model=release.label, age_band=band, threshold=point.threshold, withdrawn_at=None
    )
    return LocalNote(point, records.select_related("applied_by").first())


def _month_looks(shown: Shown, band: str) -> list[MonthLook]:
    import numpy as np

    from app.cxr import local_review as lr

    months = np.unique(shown.months)[-MONTHS_SHOWN:]
    recent = shown.where(np.isin(shown.months, months))
    inside = recent.of_band(band) if band else recent
    return [
        MonthLook(
            month=str(month),
            films=int(part.studies.size),
            blind=lr.accuracy(part, part.blind),
            shares=lr.shares(part),
        )
        for month in months
        for part in [inside.where(inside.months == month)]
    ]


def _drift_looks(shown: Shown, card: dict[str, CardFigures]) -> list[DriftLook]:
    import numpy as np

    from app.cxr import local_review as lr

    months = np.unique(shown.months)[-MONTHS_OF_DRIFT:]
    recent = shown.where(np.isin(shown.months, months) & shown.is_scored)
    found = []
    for title in dict.fromkeys(figures.title for figures in card.values()):
        bands = tuple(band for band, figures in card.items() if figures.title == title)
        scores = recent.probabilities[np.isin(recent.bands, bands)]
        if drift := lr.drift(scores, card[bands[0]].scores):
            found.append(DriftLook(title, bands, drift))
    return found


# --- a clinic's own operating point -----------------------------------------------------------


class ProposalChanged(Exception):
    """What somebody agreed to is no longer what the readings propose."""


@dataclass(frozen=True)
class Flip:
    """A study whose answer another operating point would change."""

    number: str
    before: str
    after: str
    concluded: str


def flips(label: str, band: str, now: OperatingPoint, then: OperatingPoint) -> list[Flip]:
    """The studies of an age band that would be answered otherwise, newest first."""
    from app.cxr import local_review as lr

    inside = gather(label).of_band(band)
    scored = inside.where(inside.is_scored)
    before, after = (lr.answers_at(point, scored.probabilities) for point in (now, then))
    changed: dict[int, tuple[str, str, str]] = {
        int(study): (str(old), str(new), str(known))
        for study, old, new, known in zip(scored.studies, before, after, scored.known, strict=True)
        if old != new
    }
    numbers = Study.objects.in_bulk(list(changed))
    newest = sorted(changed, reverse=True)
    return [Flip(numbers[study].number, *changed[study]) for study in newest if study in numbers]


def kinds_of(flips: Sequence[Flip]) -> list[tuple[str, str, int]]:
    """How many answers change from what to what, the commonest first."""
    counts = Counter((flip.before, flip.after) for flip in flips)
    return [(before, after, count) for (before, after), count in counts.most_common()]


def apply_proposal(label: str, band: str, threshold: str, by: User) -> None:
    """Let the operating point that is proposed for an age band answer from now on.

    ``threshold``: the one that was shown, as it was written. Raises ProposalChanged where it is
    no longer the proposal, OSError or UnusableRelease where it cannot be written down.
    """
    from app.cxr.local_review import Proposal

    release = checks.model.release
    if release is None or release.label != label or band not in BANDS:
        raise ProposalChanged
    found = next(one for one in look(label).bands if one.band == band)
    proposal = found.proposal
    if not isinstance(proposal, Proposal) or repr(proposal.point.threshold) != threshold:
        raise ProposalChanged
    LocalOperatingPoint.apply(label, band, proposal.point, _evidence(proposal), by)
    forget()


def _evidence(proposal: Proposal) -> dict[str, Any]:
    def counts(rate: Rate) -> list[int]:
        return [rate.part, rate.whole]

    return {
        "lower": proposal.point.lower,
        "upper": proposal.point.upper,
        "sensitivity": counts(proposal.sensitivity),
        "specificity": counts(proposal.specificity),
        "sensitivity_before": counts(proposal.now_sensitivity),
        "specificity_before": counts(proposal.now_specificity),
        "sensitivity_corrected": round(proposal.corrected_sensitivity, 4),
        "specificity_corrected": round(proposal.corrected_specificity, 4),
    }


# --- what is taken out ------------------------------------------------------------------------

COLUMNS = (
    "study", "month", "model", "age_band", "answer", "probability", "threshold",
    "conclusion_before_answer", "conclusion_or_diagnosis",
)  # fmt: skip


def table(label: str, user: User) -> Iterator[tuple[object, ...]]:
    """One row for each study, without names. Where a clinic reads blind, a clinician gets the
    studies that this very person has read.
    """
    shown = gather(label)
    numbers = dict(Study.objects.values_list("pk", "number"))
    allowed = _seen_by(user)
    scored = shown.is_scored
    for row in range(shown.studies.size):
        study, is_scored = int(shown.studies[row]), bool(scored[row])
        if study not in numbers or (allowed is not None and study not in allowed):
            continue
        yield (
            numbers[study],
            str(shown.months[row]),
            label,
            str(shown.bands[row]),
            str(shown.answers[row]),
            float(shown.probabilities[row]) if is_scored else "",
            float(shown.thresholds[row]) if is_scored else "",
            str(shown.blind[row]),
            str(shown.known[row]),
        )


def _seen_by(user: User) -> set[int] | None:
    """The studies whose answers ``user`` may see; None: all."""
    if user.role != Role.CLINICIAN or not Site.current().blind_first_read:
        return None
    return set(Reading.objects.filter(by=user).values_list("study_id", flat=True))
