"""Two answers to the same films: is the one really worse, or was it luck?

Labels are 0 or 1, scores any real number (higher is more likely), groups name patients; arrays of
one length, in one order. DeLong's and McNemar's tests take films for independent; where patients
have several, the interval that draws patients is the one to go by.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest, norm, rankdata

from app.cxr.metrics import Interval, auc, by_patient


@dataclass(frozen=True)
class DeLong:
    """AUC of both, the standard error of their difference, and the two-sided p of no difference."""

    old: float
    new: float
    standard_error: float
    p_value: float


def delong(labels: np.ndarray, old: np.ndarray, new: np.ndarray) -> DeLong:
    """Compare two correlated AUCs (DeLong, DeLong & Clarke-Pearson 1988) by the ranks of Sun & Xu
    2014.

    All NaN with fewer than two films of a class; p is 1 where neither differs on any pair.
    """
    sick, clear = labels == 1, labels == 0
    if min(sick.sum(), clear.sum()) < 2:
        return DeLong(math.nan, math.nan, math.nan, math.nan)
    of_sick, of_clear = zip(
        *(_placements(one[sick], one[clear]) for one in (old, new)), strict=True
    )
    before, after = (float(one.mean()) for one in of_sick)
    spread = np.cov(of_sick) / sick.sum() + np.cov(of_clear) / clear.sum()
    variance = float(spread[0, 0] + spread[1, 1] - 2 * spread[0, 1])
    error = math.sqrt(max(variance, 0.0))
    gap = after - before
    if error <= 1e-12:
        return DeLong(before, after, 0.0, 1.0 if abs(gap) < 1e-12 else 0.0)
    return DeLong(before, after, error, float(2 * norm.sf(abs(gap) / error)))


def _placements(sick: np.ndarray, clear: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of every film the share of the other class that it is rightly above or below, ties half."""
    among_all = rankdata(np.concatenate([sick, clear]))
    above = (among_all[: sick.size] - rankdata(sick)) / clear.size
    below = 1 - (among_all[sick.size :] - rankdata(clear)) / sick.size
    return above, below


@dataclass(frozen=True)
class McNemar:
    """Films that only the old or only the new called rightly, and the exact two-sided p of no
    difference.
    """

    only_old: int
    only_new: int
    p_value: float


def mcnemar(old_right: np.ndarray, new_right: np.ndarray) -> McNemar:
    """McNemar's test of paired shares, exact (McNemar 1947); bool ``(films,)``."""
    only_old = int((old_right & ~new_right).sum())
    only_new = int((new_right & ~old_right).sum())
    differing = only_old + only_new
    p_value = float(binomtest(only_old, differing, 0.5).pvalue) if differing else 1.0
    return McNemar(only_old, only_new, p_value)


def share_difference(old: np.ndarray, new: np.ndarray, patients: np.ndarray) -> Interval:
    """Share of True in the new less that in the old, with an interval that draws patients."""
    gains = new.astype(float) - old.astype(float)
    return by_patient(lambda _, drawn: float(drawn.mean()), gains, gains, patients)


def auc_difference(
    labels: np.ndarray, old: np.ndarray, new: np.ndarray, patients: np.ndarray
) -> Interval:
    """AUC of the new less that of the old, with an interval that draws patients."""

    # The bootstrap draws one array of scores: here these are places in two arrays
    def gain(drawn: np.ndarray, at: np.ndarray) -> float:
        return auc(drawn, new[at]) - auc(drawn, old[at])

    return by_patient(gain, labels, np.arange(labels.size), patients)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values held against each other (Holm 1979), in their order; NaN stays and counts for
    nothing.
    """
    known = sorted((p, index) for index, p in enumerate(p_values) if not math.isnan(p))
    adjusted, highest = [math.nan] * len(p_values), 0.0
    for rank, (p, index) in enumerate(known):
        highest = max(highest, min(1.0, (len(known) - rank) * p))
        adjusted[index] = highest
    return adjusted
