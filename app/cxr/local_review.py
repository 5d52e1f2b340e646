"""Is it right here? What a clinic's own readings say of the answers it was given.

One entry for each study: the finding that is shown of it, of one release, beside what people
concluded. The computer's forced answer is judged, as in the model card: where it said "cannot say",
the side of the threshold that it leant to counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from app.cxr.analysis import CANNOT_SAY, LIKELY, REFUSED, UNLIKELY, UNREADABLE
from app.cxr.metrics import Interval, confusion, expected_calibration_error, wilson
from app.cxr.release import BANDS, OperatingPoint

# What people conclude; another disease is neither: the answer is about pneumonia alone.
PNEUMONIA, NO_PNEUMONIA = "pneumonia", "no_pneumonia"
OTHER, UNSURE, NOT_USABLE = "other", "unsure", "not_usable"
NOBODY = ""

#: Of fewer studies than these nothing is said as a rate.
FEWEST = 10
#: Of fewer, no calibration error: it grows by itself where films are few.
FEWEST_FOR_ECE = 100
BINS = 10
ROUNDS = 100

SENSITIVITY, SPECIFICITY = "sensitivity", "specificity"
#: What every operating point is meant to reach, and what counts where the card has no figure.
FLOOR = {SENSITIVITY: 0.90, SPECIFICITY: 0.70}
#: In a clinic where all is as the card says, the chance of ever seeing a false warning.
WARNING_LEVEL = 0.05


@dataclass(frozen=True)
class Rate:
    """``part`` of ``whole`` studies."""

    part: int
    whole: int

    @property
    def is_enough(self) -> bool:
        """Whether there are studies enough to say a rate."""
        return self.whole >= FEWEST

    @property
    def interval(self) -> Interval | None:
        """The share with Wilson's 95 % interval; None where the studies are too few to say."""
        return wilson(self.part, self.whole) if self.is_enough else None


@dataclass(frozen=True)
class Shown:
    """Arrays of one length, one entry for each study.

    ``studies`` int, ``months`` "YYYY-MM", ``bands`` of age, ``answers``; ``probabilities`` and
    ``thresholds`` NaN unless the film was scored; ``blind``: the last conclusion that was made
    before its reader saw the answer; ``known``: the last final diagnosis, else the last conclusion.
    Both are empty where nobody concluded.
    """

    studies: np.ndarray
    months: np.ndarray
    bands: np.ndarray
    answers: np.ndarray
    probabilities: np.ndarray
    thresholds: np.ndarray
    blind: np.ndarray
    known: np.ndarray

    def where(self, chosen: np.ndarray) -> Shown:
        """The entries of a mask."""
        return Shown(*(getattr(self, field.name)[chosen] for field in fields(self)))

    def of_band(self, band: str) -> Shown:
        """The entries of an age band."""
        return self.where(self.bands == band)

    def held_against(self, thresholds: Mapping[str, float]) -> Shown:
        """The same films under other thresholds, one for each age band."""
        held = np.array([thresholds[str(band)] for band in self.bands], float)
        return replace(self, thresholds=np.where(self.is_scored, held, math.nan))

    @property
    def is_scored(self) -> np.ndarray:
        """Which films have a probability."""
        return ~np.isnan(self.probabilities)

    @property
    def is_called(self) -> np.ndarray:
        """Which films the forced answer calls likely."""
        return self.is_scored & (self.probabilities >= self.thresholds)


@dataclass(frozen=True)
class Accuracy:
    """The forced answers against what people concluded.

    ``other``: how many of those with another disease were called; ``with_other``: specificity if
    they are counted among those without pneumonia. ``unsure`` and ``not_usable`` are conclusions,
    ``withheld`` ("cannot say") and ``unscored`` (refused, unreadable) answers of the studies that
    were read as pneumonia or none.
    """

    sensitivity: Rate
    specificity: Rate
    other: Rate
    with_other: Rate
    unsure: int
    not_usable: int
    withheld: int
    unscored: int

    @property
    def judged(self) -> int:
        """How many studies sensitivity and specificity rest on."""
        return self.sensitivity.whole + self.specificity.whole

    @property
    def read(self) -> int:
        """How many studies somebody concluded on."""
        left_out = self.unsure + self.not_usable + self.unscored
        return self.judged + self.other.whole + left_out


def accuracy(shown: Shown, concluded: np.ndarray) -> Accuracy:
    """``concluded``: ``shown.blind`` or ``shown.known``."""
    scored, called = shown.is_scored, shown.is_called
    sick, clear = concluded == PNEUMONIA, concluded == NO_PNEUMONIA
    other = (concluded == OTHER) & scored
    counts = confusion(sick[scored & (sick | clear)], called[scored & (sick | clear)], 0.5)
    cleared = Rate(counts.true_negative, counts.true_negative + counts.false_positive)
    missed_other = _count(other & ~called)
    return Accuracy(
        sensitivity=Rate(counts.true_positive, counts.true_positive + counts.false_negative),
        specificity=cleared,
        other=Rate(_count(other & called), _count(other)),
        with_other=Rate(cleared.part + missed_other, cleared.whole + _count(other)),
        unsure=_count(concluded == UNSURE),
        not_usable=_count(concluded == NOT_USABLE),
        withheld=_count((sick | clear) & (shown.answers == CANNOT_SAY)),
        unscored=_count((sick | clear | (concluded == OTHER)) & ~scored),
    )


def _count(chosen: np.ndarray) -> int:
    return int(np.count_nonzero(chosen))


def read_of_answer(shown: Shown) -> dict[str, Rate]:
    """How many studies of each answer somebody concluded on."""
    read = shown.known != NOBODY
    return {
        answer: Rate(_count(read & (shown.answers == answer)), _count(shown.answers == answer))
        for answer in (LIKELY, CANNOT_SAY, UNLIKELY)
    }


def shares(shown: Shown) -> dict[str, Rate]:
    """Films without a plain answer, of all films, by the kind of it."""
    films = shown.answers.size
    return {
        answer: Rate(_count(shown.answers == answer), films)
        for answer in (CANNOT_SAY, REFUSED, UNREADABLE)
    }


# --- what the card says -----------------------------------------------------------------------


@dataclass(frozen=True)
class CardFigures:
    """What the card's report says of an age band.

    Shares in 0..1, None where it does not say. ``scores``: films ``(bins, 2)`` in ten equal bins
    of the probability, without and with pneumonia; of the whole report, whatever the age.
    """

    title: str
    sensitivity: float
    specificity: float
    cannot_say: float | None
    refused: float | None
    scores: np.ndarray

    def figure(self, name: str) -> float:
        """``sensitivity`` or ``specificity``."""
        return self.sensitivity if name == SENSITIVITY else self.specificity


def card_figures(report: Mapping[str, Any]) -> dict[str, CardFigures]:
    """Age band to the first report that measured it on at least ten films of either kind.

    The reports stand in the card's order: first those of what the release is for.
    """
    found: dict[str, CardFigures] = {}
    reports = report.get("reports")
    for one in reports if isinstance(reports, list) else ():
        for band in BANDS:
            try:
                figures = _of_band(one, band)
            except (AttributeError, KeyError, TypeError, ValueError, IndexError):
                continue  # of an older or a stranger's workshop: not measured
            if figures and band not in found:
                found[band] = figures
    return found


def _of_band(report: Mapping[str, Any], band: str) -> CardFigures | None:
    group = report["subgroups"]["age_band"][band]
    if min(group["positives"], group["films"] - group["positives"]) < FEWEST:
        return None
    return CardFigures(
        title=str(report["title"]),
        sensitivity=_share(group[SENSITIVITY]["value"]),
        specificity=_share(group[SPECIFICITY]["value"]),
        cannot_say=_share(group[CANNOT_SAY]["value"]),
        refused=_share(group[REFUSED]["value"]),
        scores=_score_counts(report["calibration"]),
    )


def _share(value: Any) -> float:
    number = float(value)
    if not 0 <= number <= 1:
        raise ValueError("no share")
    return number


def _score_counts(bins: Sequence[Mapping[str, Any]]) -> np.ndarray:
    counts = np.zeros((BINS, 2))
    for one in bins:
        place, films = round(float(one["from"]) * BINS), int(one["films"])
        sick = round(_share(one["share_positive"]["value"]) * films)
        counts[place] = films - sick, sick
    return counts


# --- when to warn -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Shortfall:
    """A figure that is surely under what it should be.

    ``since``: the first month that was counted, empty where all were. ``bound``: the figure is
    under it, however often one has looked. ``from_card``: else the floor.
    """

    band: str
    figure: str
    rate: Rate
    expected: float
    bound: float
    from_card: bool
    since: str = ""


def lasting_upper(part: int, whole: int, level: float) -> float:
    """Upper end of a confidence sequence for a share: the chance that it is ever below the truth,
    at whatever number of studies one looks, is at most ``level``.

    Ville's inequality for the likelihood ratio of a uniform mixture (Robbins 1970): its value at
    a share is below 1 / ``level`` for every share that is still believable.
    """
    if part == whole:
        return 1.0
    mixture = math.lgamma(part + 1) + math.lgamma(whole - part + 1) - math.lgamma(whole + 2)

    def is_believable(share: float) -> bool:
        likelihood = (part * math.log(share) if part else 0.0) + (whole - part) * math.log1p(-share)
        return mixture - likelihood < -math.log(level)

    low, high = part / whole, 1.0 - 1e-12
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if is_believable(middle) else (low, middle)
    return high


def shortfalls(shown: Shown, card: Mapping[str, CardFigures], month: str) -> list[Shortfall]:
    """Figures of blind readings that fall under the card's; ``month``: this one, "YYYY-MM".

    Every age band and figure is looked at twice: over all studies, and over those of this half
    year, so that a good past does not hide a bad present. The level is shared out among all these
    looks, and among the half-years that have been and will be (1 / (j (j + 1)) sums to 1).
    """
    level = WARNING_LEVEL / (len(BANDS) * len(FLOOR)) / 2
    read = shown.where(shown.blind != NOBODY)
    if not read.studies.size:
        return []
    half = _half_year(month)
    halves = {str(one): _half_year(str(one)) for one in np.unique(read.months)}
    ordinal = max(1, half - min(halves.values()) + 1)
    present = read.where(np.isin(read.months, [one for one in halves if halves[one] == half]))
    since = f"{month[:4]}-{'07' if half % 2 else '01'}"
    looks = ((read, level, ""), (present, level / (ordinal * (ordinal + 1)), since))
    found: dict[tuple[str, str], Shortfall] = {}
    for studies, share_of_level, first in looks:
        for one in _looked_at(studies, card, share_of_level, first):
            found.setdefault((one.band, one.figure), one)
    return list(found.values())


def _half_year(month: str) -> int:
    return int(month[:4]) * 2 + (int(month[5:7]) > 6)


def _looked_at(
    studies: Shown, card: Mapping[str, CardFigures], level: float, since: str
) -> Iterator[Shortfall]:
    for band in BANDS:
        inside = studies.of_band(band)
        found = accuracy(inside, inside.blind)
        for name, rate in ((SENSITIVITY, found.sensitivity), (SPECIFICITY, found.specificity)):
            expected = card[band].figure(name) if band in card else FLOOR[name]
            bound = lasting_upper(rate.part, rate.whole, level) if rate.is_enough else 1.0
            if bound < expected:
                yield Shortfall(band, name, rate, expected, bound, band in card, since)


# --- calibration ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bin:
    """Films whose probability lay in ``low`` to ``high``: on average ``mean``, and ``rate`` of
    them with pneumonia.
    """

    low: float
    high: float
    mean: float
    rate: Rate


def judged(shown: Shown, concluded: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels (1 pneumonia, 0 none) and probabilities of the scored studies read as either."""
    chosen = shown.is_scored & np.isin(concluded, (PNEUMONIA, NO_PNEUMONIA))
    return (concluded[chosen] == PNEUMONIA).astype(int), shown.probabilities[chosen]


def reliability(labels: np.ndarray, probabilities: np.ndarray) -> list[Bin]:
    """The reliability diagram in ten equal bins; empty ones are left out."""
    places = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    return [
        Bin(
            low=place / BINS,
            high=(place + 1) / BINS,
            mean=float(probabilities[places == place].mean()),
            rate=Rate(int(labels[places == place].sum()), _count(places == place)),
        )
        for place in range(BINS)
        if (places == place).any()
    ]


def calibration_error(labels: np.ndarray, probabilities: np.ndarray) -> Interval | None:
    """Expected calibration error with a percentile bootstrap; None where films are too few."""
    if labels.size < FEWEST_FOR_ECE:
        return None
    places = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    gaps = labels - probabilities
    generator = np.random.default_rng(0)
    draws = []
    for _ in range(ROUNDS):
        chosen = generator.integers(0, labels.size, labels.size)
        # The same as expected_calibration_error, many times faster for many films
        draws.append(np.abs(np.bincount(places[chosen], gaps[chosen])).sum() / labels.size)
    low, high = np.percentile(draws, (2.5, 97.5))
    return Interval(expected_calibration_error(labels, probabilities), float(low), float(high))


# --- drift ------------------------------------------------------------------------------------

#: Scores of fewer films are not compared.
FEWEST_FOR_DRIFT = 50
#: A difference smaller than this is no news, however sure it is.
NOTICEABLE = 0.1
DRIFT_LEVEL = 0.005
DRIFT_ROUNDS = 1000


@dataclass(frozen=True)
class Drift:
    """The scores here against the card's films, in ten equal bins of the probability.

    ``local`` and ``expected``: shares ``(bins,)``, the latter of the mixture of films with and
    without pneumonia that comes closest (``sick``: the share of the former in it). ``distance``:
    Kolmogorov-Smirnov over the bins; ``limit``: what chance alone hardly ever exceeds.
    """

    films: int
    local: np.ndarray
    expected: np.ndarray
    sick: float
    distance: float
    limit: float

    @property
    def differs(self) -> bool:
        """Whether the scores differ by more than chance, and by enough to matter."""
        return self.distance > max(self.limit, NOTICEABLE)


def drift(probabilities: np.ndarray, scores: np.ndarray) -> Drift | None:
    """Do films here score like those that the card was made of, however many of them are sick?

    ``scores``: ``CardFigures.scores``. The share of sick patients is the clinic's own affair, so
    the distance is the smallest over all mixtures of the card's two classes (label shift alone is
    no drift). The limit redraws the clinic's films and the card's from that mixture. None where
    either are too few to compare.
    """
    if probabilities.size < FEWEST_FOR_DRIFT or scores.sum(axis=0).min() < FEWEST:
        return None
    places = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    local = np.bincount(places, minlength=BINS) / probabilities.size
    sizes = scores.sum(axis=0).astype(int)
    clear, sick = (scores / sizes).T
    distance, weight = _closest(local[np.newaxis], clear[np.newaxis], sick[np.newaxis])
    expected = weight[0] * sick + (1 - weight[0]) * clear
    generator = np.random.default_rng(0)
    by_chance, _ = _closest(
        generator.multinomial(probabilities.size, expected, DRIFT_ROUNDS) / probabilities.size,
        generator.multinomial(sizes[0], clear, DRIFT_ROUNDS) / sizes[0],
        generator.multinomial(sizes[1], sick, DRIFT_ROUNDS) / sizes[1],
    )
    return Drift(
        films=probabilities.size,
        local=local,
        expected=expected,
        sick=float(weight[0]),
        distance=float(distance[0]),
        limit=float(np.quantile(by_chance, 1 - DRIFT_LEVEL)),
    )


def _closest(
    local: np.ndarray, clear: np.ndarray, sick: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Smallest distance over all mixtures, and the share of the sick in it; one for each row."""
    weights = np.linspace(0, 1, 101)[np.newaxis, :, np.newaxis]
    below, clear, sick = (np.cumsum(part, axis=1)[:, np.newaxis] for part in (local, clear, sick))
    distances = np.abs(below - weights * sick - (1 - weights) * clear).max(axis=2)
    return distances.min(axis=1), weights[0, distances.argmin(axis=1), 0]


# --- a clinic's own operating point -----------------------------------------------------------

#: Studies with, and without pneumonia, read before the answer was seen, in the age band.
FEWEST_FOR_PROPOSAL = 50
#: How far the lower end of the sensitivity's interval may lie under the floor.
LOWEST_SENSITIVITY = 0.80
#: A gain in specificity smaller than this is not worth a change.
WORTHWHILE = 0.02

TOO_FEW, GOOD_AS_IT_IS, OUT_OF_REACH = "too_few", "good_as_it_is", "out_of_reach"


@dataclass(frozen=True)
class Proposal:
    """An operating point that would have done better on the clinic's own blind readings.

    ``sensitivity`` and ``specificity``: at ``point``, as counted on the very readings that chose
    it; ``now_…``: at the point in use. ``corrected_…``: 0..1, less what choosing and judging on
    the same readings flatters (optimism bootstrap, Efron & Gong 1983).
    """

    point: OperatingPoint
    sensitivity: Rate
    specificity: Rate
    now_sensitivity: Rate
    now_specificity: Rate
    corrected_sensitivity: float
    corrected_specificity: float

    @property
    def reaches_floor(self) -> bool:
        """Whether the specificity, too, is what it is meant to be."""
        return self.corrected_specificity >= FLOOR[SPECIFICITY]


def propose(labels: np.ndarray, probabilities: np.ndarray, now: OperatingPoint) -> Proposal | str:
    """The highest threshold that keeps the sensitivity's floor, or a code that says why none.

    Of blind readings of one age band. The corrected sensitivity must reach the floor, and the
    lower end of its 95 % interval ``LOWEST_SENSITIVITY``: among such thresholds the highest has the
    best specificity. The range of withheld answers moves along.
    """
    sick, clear = (np.sort(probabilities[labels == label]) for label in (1, 0))
    if min(sick.size, clear.size) < FEWEST_FOR_PROPOSAL:
        return TOO_FEW
    most = math.floor((1 - FLOOR[SENSITIVITY]) * sick.size + 1e-9)
    for missed in range(most, -1, -1):
        threshold = _threshold(sick, clear, missed)
        if not 0 < threshold < 1:  # it would call every film, or hardly any
            continue
        optimism = _optimism(sick, clear, missed)
        found, cleared = _rates(sick, clear, threshold)
        lowest = wilson(found.part, found.whole).low - optimism[0]
        corrected = found.part / found.whole - optimism[0]
        if corrected >= FLOOR[SENSITIVITY] and lowest >= LOWEST_SENSITIVITY:
            break
    else:
        return OUT_OF_REACH
    now_found, now_cleared = _rates(sick, clear, now.threshold)
    gain = (cleared.part - now_cleared.part) / cleared.whole
    if now_found.part / now_found.whole >= FLOOR[SENSITIVITY] and gain < WORTHWHILE:
        return GOOD_AS_IT_IS
    specificity = cleared.part / cleared.whole - optimism[1]
    return Proposal(
        point=now.moved_to(threshold),
        sensitivity=found,
        specificity=cleared,
        now_sensitivity=now_found,
        now_specificity=now_cleared,
        corrected_sensitivity=float(corrected),
        corrected_specificity=float(np.clip(specificity, 0, 1)),
    )


def _threshold(sick: np.ndarray, clear: np.ndarray, missed: int) -> float:
    """Half-way between the lowest score to call and the next below it; both arrays sorted."""
    lowest = float(sick[missed])
    below = [part[np.searchsorted(part, lowest) - 1] for part in (sick, clear) if part[0] < lowest]
    middle = (lowest + float(max(below))) / 2 if below else lowest
    return middle if middle > max(below, default=0.0) else lowest


def _rates(sick: np.ndarray, clear: np.ndarray, threshold: float) -> tuple[Rate, Rate]:
    found = sick.size - int(np.searchsorted(sick, threshold))
    return Rate(found, sick.size), Rate(int(np.searchsorted(clear, threshold)), clear.size)


def _optimism(sick: np.ndarray, clear: np.ndarray, missed: int) -> np.ndarray:
    """By how much sensitivity and specificity look better on the films that chose the threshold
    than on others, on average over redrawn films.
    """
    generator = np.random.default_rng(0)
    flattered = []
    for _ in range(ROUNDS):
        drawn = [np.sort(generator.choice(part, part.size)) for part in (sick, clear)]
        threshold = _threshold(drawn[0], drawn[1], missed)
        here, there = _rates(drawn[0], drawn[1], threshold), _rates(sick, clear, threshold)
        flattered.append([(h.part - t.part) / h.whole for h, t in zip(here, there, strict=True)])
    return np.maximum(np.mean(flattered, axis=0), 0.0)


def answers_at(point: OperatingPoint, probabilities: np.ndarray) -> np.ndarray:
    """``OperatingPoint.decide`` for many probabilities."""
    forced = np.where(probabilities >= point.threshold, LIKELY, UNLIKELY)
    withheld = (point.lower <= probabilities) & (probabilities < point.upper)
    return np.where(withheld, CANNOT_SAY, forced)
