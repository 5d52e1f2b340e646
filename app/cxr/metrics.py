"""How good are answers: the same functions in the workshop and in the clinic's "is it right here?".

Labels are 0 or 1, scores any real number (higher is more likely), groups name patients.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np

BOOTSTRAP_ROUNDS = 1000
Z_95 = 1.959963984540054


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f}-{self.high:.3f})"


@dataclass(frozen=True)
class Confusion:
    """Counts at one threshold."""

    true_positive: int
    false_positive: int
    true_negative: int
    false_negative: int

    @property
    def sensitivity(self) -> float:
        """Recall of the positive class; NaN without positives."""
        return _ratio(self.true_positive, self.true_positive + self.false_negative)

    @property
    def specificity(self) -> float:
        """Share of negatives called negative; NaN without negatives."""
        return _ratio(self.true_negative, self.true_negative + self.false_positive)

    @property
    def precision(self) -> float:
        """Positive predictive value in this sample; NaN where nothing was called positive."""
        return _ratio(self.true_positive, self.true_positive + self.false_positive)

    @property
    def accuracy(self) -> float:
        """Share of right calls."""
        total = sum(asdict(self).values())
        return _ratio(self.true_positive + self.true_negative, total)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and sensitivity."""
        wrong = self.false_positive + self.false_negative
        return _ratio(2 * self.true_positive, 2 * self.true_positive + wrong)


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


def confusion(labels: np.ndarray, scores: np.ndarray, threshold: float) -> Confusion:
    """Counts with ``score >= threshold`` called positive."""
    called, positive = scores >= threshold, labels == 1
    return Confusion(
        true_positive=int((called & positive).sum()),
        false_positive=int((called & ~positive).sum()),
        true_negative=int((~called & ~positive).sum()),
        false_negative=int((~called & positive).sum()),
    )


def wilson(part: int, whole: int) -> Interval:
    """A proportion with Wilson's score interval (Wilson 1927); NaN where ``whole`` is 0."""
    if whole == 0:
        return Interval(math.nan, math.nan, math.nan)
    share, z2 = part / whole, Z_95**2
    centre = (share + z2 / (2 * whole)) / (1 + z2 / whole)
    spread = Z_95 / (1 + z2 / whole) * math.sqrt(share * (1 - share) / whole + z2 / (4 * whole**2))
    return Interval(share, max(0.0, centre - spread), min(1.0, centre + spread))


def auc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Area under the ROC curve by ranks, ties counted half (Hanley & McNeil 1982); NaN for one
    class.
    """
    positives = int((labels == 1).sum())
    negatives = labels.size - positives
    if not positives or not negatives:
        return math.nan
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks = (last - (counts - 1) / 2)[inverse.ravel()]
    rank_sum = float(ranks[labels == 1].sum())
    return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives)


def by_patient(
    statistic: Callable[[np.ndarray, np.ndarray], float],
    labels: np.ndarray,
    scores: np.ndarray,
    patients: np.ndarray,
    seed: int = 0,
) -> Interval:
    """``statistic(labels, scores)`` with a percentile bootstrap that draws patients, not films."""
    _, group = np.unique(patients, return_inverse=True)
    members = [np.flatnonzero(group == index) for index in range(int(group.max()) + 1)]
    generator = np.random.default_rng(seed)
    draws = []
    for _ in range(BOOTSTRAP_ROUNDS):
        chosen = generator.integers(0, len(members), len(members))
        films = np.concatenate([members[index] for index in chosen])
        draws.append(statistic(labels[films], scores[films]))
    value, known = statistic(labels, scores), np.array(draws)[~np.isnan(draws)]
    if not known.size:
        return Interval(value, math.nan, math.nan)
    low, high = np.percentile(known, (2.5, 97.5))
    return Interval(value, float(low), float(high))


def roc_curve(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """False positive rate, true positive rate and threshold, one point for each distinct score."""
    order = np.argsort(-scores, kind="stable")
    labels, scores = labels[order], scores[order]
    ends = np.append(np.flatnonzero(np.diff(scores)), labels.size - 1)
    positives, negatives = np.cumsum(labels == 1)[ends], np.cumsum(labels != 1)[ends]
    true_rate = np.append(0.0, positives / max(positives[-1], 1))
    false_rate = np.append(0.0, negatives / max(negatives[-1], 1))
    return false_rate, true_rate, np.append(np.inf, scores[ends])


def expected_calibration_error(
    labels: np.ndarray, probabilities: np.ndarray, bins: int = 10
) -> float:
    """ECE over equal-width bins of the probability of pneumonia (Naeini et al. 2015)."""
    place = np.minimum((probabilities * bins).astype(int), bins - 1)
    total = 0.0
    for index in range(bins):
        inside = place == index
        if inside.any():
            gap = abs(float(labels[inside].mean()) - float(probabilities[inside].mean()))
            total += gap * float(inside.mean())
    return total


def fit_platt(labels: np.ndarray, logits: np.ndarray, rounds: int = 100) -> tuple[float, float]:
    """Slope and intercept of a logistic calibration by Newton's method on Platt's smoothed targets.

    Platt 1999 with the numerics of Lin, Lin & Weng 2007. The slope is at least 1e-3, so that the
    probability stays strictly increasing in the score whatever the data.
    """
    positives = float((labels == 1).sum())
    negatives = labels.size - positives
    target = np.where(labels == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    design = np.stack([logits.astype(np.float64), np.ones(labels.size)], axis=1)
    weights = np.array([1.0, 0.0])
    for _ in range(rounds):
        probability = 1 / (1 + np.exp(-np.clip(design @ weights, -60, 60)))
        gradient = design.T @ (probability - target)
        curvature = (design * (probability * (1 - probability))[:, None]).T @ design
        step = np.linalg.solve(curvature + 1e-9 * np.eye(2), gradient)
        weights -= np.clip(step, -1.0, 1.0)
        if np.abs(step).max() < 1e-10:
            break
    return max(float(weights[0]), 1e-3), float(weights[1])


def threshold_for_sensitivity(labels: np.ndarray, scores: np.ndarray, sensitivity: float) -> float:
    """The highest threshold at which at least ``sensitivity`` of the positives are called."""
    positives = np.sort(scores[labels == 1])
    if positives.size == 0:
        raise ValueError("no positive films to choose a threshold on")
    missed = math.floor((1 - sensitivity) * positives.size + 1e-9)
    return float(positives[missed])


def youden_threshold(labels: np.ndarray, scores: np.ndarray) -> float:
    """Half-way between the two scores where sensitivity and specificity sum highest (Youden 1950).

    At least two scores differ.
    """
    known = np.unique(scores)
    between = (known[:-1] + known[1:]) / 2
    counts = [confusion(labels, scores, float(place)) for place in between]
    return float(between[np.argmax([count.sensitivity + count.specificity for count in counts])])
