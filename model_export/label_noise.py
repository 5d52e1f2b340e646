"""Whose labels can be believed: confident learning (Northcutt, Jiang & Chuang 2021), site by site.

All arrays are of one length. ``labels`` 0 or 1, ``probabilities`` of pneumonia as the release in
use says, which has not seen these films: out of sample, as the method asks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from app.cxr.metrics import Interval, auc, by_patient

#: Films of either class from which on a site is judged by itself: with fewer not even labels that
#: all agree with a good release can be told from chance. Smaller sites are judged together.
FEWEST_OF_A_CLASS = 10
#: A label is suspected where the release gives it less than this, besides being confident of the
#: other: if the calibration held, at most one in twenty such labels were right. A second reader can
#: say which.
LEAST_PROBABILITY = 0.05
#: From so many films on, a site must bring both classes: with one alone a network learns to know
#: the site. The rarer one at least in this share.
FLOOD, RARER_SHARE = 20, 0.05


@dataclass(frozen=True)
class Judgement:
    """``auc`` of the release against the site's labels (NaN where they are too few), ``noise``: the
    share of confidently placed films that lie in the other class, and the ``reason`` for which the
    site is held back: ``one_class``, ``no_better_than_chance`` or None.
    """

    auc: Interval
    noise: float
    reason: str | None


def confident_classes(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """The class that the release is confident of, -1 where of none: int ``(films,)``.

    Confident is what is said at least as surely as it is said on the average of the films that are
    labelled so: a release that is cautious with one class is not held to a fixed bound.
    """
    surely = np.stack([1 - probabilities, probabilities], axis=1)
    bounds = [surely[labels == one, one].mean() if (labels == one).any() else 2.0 for one in (0, 1)]
    reached = np.where(surely >= bounds, surely, -1.0)
    return np.where(reached.max(axis=1) < 0, -1, reached.argmax(axis=1))


def suspected(labels: np.ndarray, probabilities: np.ndarray, confident: np.ndarray) -> np.ndarray:
    """Which labels a second reader has to look at: bool ``(films,)``."""
    of_label = np.where(labels == 1, probabilities, 1 - probabilities)
    return np.asarray((confident >= 0) & (confident != labels) & (of_label < LEAST_PROBABILITY))


def judge(
    labels: np.ndarray, probabilities: np.ndarray, confident: np.ndarray, patients: np.ndarray
) -> Judgement:
    """Judge a site, or several small ones together, by its films."""
    placed = confident >= 0
    noise = float((confident != labels)[placed].mean()) if placed.any() else math.nan
    rarer = int(min((labels == 0).sum(), (labels == 1).sum()))
    if is_one_class(labels):
        return Judgement(Interval(math.nan, math.nan, math.nan), noise, "one_class")
    if rarer < FEWEST_OF_A_CLASS:
        return Judgement(Interval(math.nan, math.nan, math.nan), noise, None)
    area = by_patient(auc, labels, probabilities, patients)
    return Judgement(area, noise, "no_better_than_chance" if area.low <= 0.5 else None)


def is_one_class(labels: np.ndarray) -> bool:
    """Whether so many films are nearly all of one class."""
    rarer = min(int((labels == 0).sum()), int((labels == 1).sum()))
    return labels.size >= FLOOD and rarer < RARER_SHARE * labels.size


def judged_together(sites: Sequence[str], labels: np.ndarray) -> list[list[str]]:
    """Sites in the groups that they are judged in: by itself, or with all that are too small."""
    of_site = np.array(sites)
    alone, small = [], []
    for site in sorted(set(sites)):
        own = labels[of_site == site]
        enough = min((own == 0).sum(), (own == 1).sum()) >= FEWEST_OF_A_CLASS
        if enough or is_one_class(own):
            alone.append([site])
        else:
            small.append(site)
    return [*alone, *([small] if small else [])]
