"""How good are answers: every figure against another way to compute it, or a known value."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from app.cxr.metrics import (
    Confusion,
    auc,
    by_patient,
    confusion,
    expected_calibration_error,
    fit_platt,
    roc_curve,
    threshold_for_sensitivity,
    wilson,
    youden_threshold,
)

sklearn_metrics = pytest.importorskip("sklearn.metrics")


@st.composite
def scored_films(draw: st.DrawFn, both_classes: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Labels and scores; few distinct scores, so that ties are common."""
    count = draw(st.integers(2, 40))
    labels = draw(hnp.arrays(np.int64, count, elements=st.integers(0, 1)))
    values = st.one_of(st.integers(-3, 3).map(float), st.floats(-30, 30, allow_nan=False, width=32))
    scores = draw(hnp.arrays(np.float64, count, elements=values))
    if both_classes:
        assume(0 < labels.sum() < count)
    return labels, scores


def auc_by_pairs(labels: np.ndarray, scores: np.ndarray) -> float:
    gaps = scores[labels == 1][:, np.newaxis] - scores[labels == 0][np.newaxis]
    return float(((gaps > 0) + 0.5 * (gaps == 0)).mean())


@given(scored_films())
def test_auc_is_the_share_of_pairs_in_the_right_order(films):
    assert auc(*films) == pytest.approx(auc_by_pairs(*films), abs=1e-12)


@given(scored_films())
def test_auc_agrees_with_scikit_learn(films):
    assert auc(*films) == pytest.approx(sklearn_metrics.roc_auc_score(*films), abs=1e-12)


@given(scored_films())
def test_auc_of_the_opposite_scores_is_the_rest(films):
    labels, scores = films
    assert auc(labels, -scores) == pytest.approx(1 - auc(labels, scores), abs=1e-12)


@given(scored_films(), st.floats(0.01, 100), st.floats(-100, 100))
def test_auc_knows_only_the_order(films, slope, shift):
    labels, scores = films
    stretched = slope * scores + shift
    # rounding may merge scores that differ in their last digits: that is another order
    assume(np.unique(stretched).size == np.unique(scores).size)
    assert auc(labels, stretched) == pytest.approx(auc(labels, scores), abs=1e-12)


@pytest.mark.parametrize(
    ("labels", "scores", "expected"),
    [
        ([0, 1], [0.1, 0.9], 1.0),
        ([0, 1], [0.9, 0.1], 0.0),
        ([0, 1], [0.5, 0.5], 0.5),
        ([0, 0, 1, 1], [0.1, 0.4, 0.4, 0.8], 0.875),
        ([0, 1, 1], [0.3, 0.3, 0.3], 0.5),
    ],
)
def test_auc_counts_ties_half(labels, scores, expected):
    assert auc(np.array(labels), np.array(scores)) == pytest.approx(expected)


@pytest.mark.parametrize("labels", [[0, 0, 0], [1, 1], []])
def test_auc_of_one_class_is_unknown(labels):
    assert math.isnan(auc(np.array(labels, int), np.arange(len(labels), dtype=float)))


@pytest.mark.parametrize(
    ("part", "whole", "low", "high"),
    [
        # Newcombe 1998, Statistics in Medicine 17:857, table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (29, 29, 0.8830, 1.0),
    ],
)
def test_wilson_gives_the_published_intervals(part, whole, low, high):
    interval = wilson(part, whole)
    assert interval.value == part / whole
    assert interval.low == pytest.approx(low, abs=1e-4)
    assert interval.high == pytest.approx(high, abs=1e-4)


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_its_value_and_stays_a_proportion(counts):
    interval = wilson(*counts)
    assert 0 <= interval.low <= interval.value + 1e-12
    assert interval.value - 1e-12 <= interval.high <= 1


def test_wilson_of_nothing_is_unknown():
    assert all(math.isnan(v) for v in vars(wilson(0, 0)).values())


def test_an_interval_is_written_with_three_digits():
    assert str(wilson(81, 263)) == "0.308 (0.255-0.366)"


def test_a_score_at_the_threshold_is_called_positive():
    counts = confusion(np.array([1, 0, 1, 0]), np.array([0.5, 0.5, 0.4, 0.4]), 0.5)
    assert counts == Confusion(true_positive=1, false_positive=1, true_negative=1, false_negative=1)


@given(scored_films(both_classes=False), st.floats(-30, 30))
def test_every_film_is_counted_once(films, threshold):
    labels, scores = films
    counts = confusion(labels, scores, threshold)
    assert sum(vars(counts).values()) == labels.size
    assert counts.true_positive + counts.false_negative == labels.sum()


@given(scored_films(), st.floats(-30, 30))
def test_shares_of_a_confusion_agree_with_scikit_learn(films, threshold):
    labels, scores = films
    called = (scores >= threshold).astype(int)
    counts = confusion(labels, scores, threshold)
    assert counts.sensitivity == pytest.approx(sklearn_metrics.recall_score(labels, called))
    assert counts.specificity == pytest.approx(
        sklearn_metrics.recall_score(labels, called, pos_label=0)
    )
    assert counts.accuracy == pytest.approx(sklearn_metrics.accuracy_score(labels, called))
    assert counts.f1 == pytest.approx(sklearn_metrics.f1_score(labels, called))
    if called.any():
        assert counts.precision == pytest.approx(sklearn_metrics.precision_score(labels, called))


@pytest.mark.parametrize(
    ("counts", "unknown"),
    [
        (Confusion(0, 1, 1, 0), "sensitivity"),
        (Confusion(1, 0, 0, 1), "specificity"),
        (Confusion(0, 0, 1, 1), "precision"),
        (Confusion(0, 0, 0, 0), "accuracy"),
        (Confusion(0, 0, 1, 0), "f1"),
    ],
)
def test_a_share_of_nothing_is_unknown_and_not_nought(counts, unknown):
    assert math.isnan(getattr(counts, unknown))


@given(scored_films())
def test_the_roc_curve_rises_from_nothing_called_to_everything_called(films):
    false_rate, true_rate, thresholds = roc_curve(*films)
    assert (false_rate[0], true_rate[0], thresholds[0]) == (0, 0, math.inf)
    assert (false_rate[-1], true_rate[-1]) == (1, 1)
    assert (np.diff(false_rate) >= 0).all()
    assert (np.diff(true_rate) >= 0).all()
    assert (np.diff(thresholds) < 0).all()


@given(scored_films())
def test_the_area_under_the_roc_curve_is_the_auc(films):
    false_rate, true_rate, _ = roc_curve(*films)
    area = np.sum(np.diff(false_rate) * (true_rate[1:] + true_rate[:-1]) / 2)
    assert area == pytest.approx(auc(*films), abs=1e-12)


@given(scored_films())
def test_every_point_of_the_roc_curve_is_the_confusion_at_its_threshold(films):
    labels, scores = films
    for false_rate, true_rate, threshold in zip(*roc_curve(labels, scores), strict=True):
        counts = confusion(labels, scores, threshold)
        assert true_rate == pytest.approx(counts.sensitivity)
        assert false_rate == pytest.approx(1 - counts.specificity)


def test_an_interval_by_patient_holds_the_figure_and_repeats_with_its_seed():
    dice = np.random.default_rng(3)
    labels = np.repeat(dice.integers(0, 2, 40), 3)
    scores = labels + dice.normal(0, 1, labels.size)
    patients = np.repeat(np.arange(40), 3)
    interval = by_patient(auc, labels, scores, patients, seed=5)
    assert interval.low < interval.value == auc(labels, scores) < interval.high
    assert interval == by_patient(auc, labels, scores, patients, seed=5)
    assert interval != by_patient(auc, labels, scores, patients, seed=6)


def test_films_of_one_patient_do_not_count_as_independent():
    """Thirty copies of a film say nothing new: the interval must stay as wide as for one."""
    dice = np.random.default_rng(3)
    labels = dice.integers(0, 2, 30)
    scores = labels + dice.normal(0, 1, 30)
    once = by_patient(auc, labels, scores, np.arange(30))
    repeated = [np.repeat(values, 30) for values in (labels, scores, np.arange(30))]
    copies = by_patient(auc, *repeated)
    assert (copies.low, copies.high) == pytest.approx((once.low, once.high), abs=1e-9)


def test_an_interval_of_what_cannot_be_computed_is_unknown():
    interval = by_patient(auc, np.ones(4, int), np.arange(4.0), np.arange(4))
    assert all(math.isnan(value) for value in vars(interval).values())


def test_patients_may_be_named_in_words():
    labels, scores = np.array([0, 1, 0, 1]), np.array([0.1, 0.2, 0.3, 0.4])
    named = by_patient(auc, labels, scores, np.array(["p9", "p9", "p1", "p2"]))
    assert 0 <= named.low <= named.value <= named.high <= 1


@pytest.mark.parametrize(
    ("labels", "probabilities", "expected"),
    [
        ([0, 1], [0.0, 1.0], 0.0),
        ([1, 0], [0.0, 1.0], 1.0),
        ([0, 1, 0, 1], [0.5, 0.5, 0.5, 0.5], 0.0),
        ([1, 1, 1, 1], [0.75, 0.75, 0.75, 0.75], 0.25),
        # one bin off by 0.1 with 3 of 4 films, the other right
        ([0, 0, 0, 1], [0.1, 0.1, 0.1, 1.0], 0.075),
    ],
)
def test_calibration_error_of_cases_done_by_hand(labels, probabilities, expected):
    error = expected_calibration_error(np.array(labels), np.array(probabilities))
    assert error == pytest.approx(expected)


@given(
    hnp.arrays(np.float64, 30, elements=st.floats(0, 1)),
    hnp.arrays(np.int64, 30, elements=st.integers(0, 1)),
)
def test_calibration_error_is_a_share(probabilities, labels):
    assert 0 <= expected_calibration_error(labels, probabilities) <= 1


@pytest.mark.parametrize(("slope", "intercept"), [(1.0, 0.0), (0.4, 1.5), (2.5, -3.0)])
def test_the_fit_finds_the_calibration_that_made_the_labels(slope, intercept):
    dice = np.random.default_rng(1)
    logits = dice.normal(0.5, 2, 60_000)
    labels = (dice.random(logits.size) < 1 / (1 + np.exp(-(slope * logits + intercept)))) * 1
    assert fit_platt(labels, logits) == pytest.approx((slope, intercept), abs=0.07)


@pytest.mark.parametrize(
    ("labels", "logits"),
    [
        ([0, 0, 1, 1], [-9.0, -8.0, 8.0, 9.0]),  # apart: without smoothing the slope is infinite
        ([1, 1, 0, 0], [-9.0, -8.0, 8.0, 9.0]),  # upside down
        ([1, 1, 1, 1], [0.0, 1.0, 2.0, 3.0]),  # one class
        ([0, 1, 0, 1], [2.0, 2.0, 2.0, 2.0]),  # one score
        ([0, 1] * 50, [1e4, -1e4] * 50),  # far outside anything a network says
    ],
)
def test_the_fit_always_gives_a_rising_finite_calibration(labels, logits):
    slope, intercept = fit_platt(np.array(labels), np.array(logits))
    assert slope >= 1e-3
    assert math.isfinite(slope)
    assert math.isfinite(intercept)


@given(scored_films(both_classes=False))
def test_the_fit_rises_whatever_the_data(films):
    slope, intercept = fit_platt(*films)
    assert 1e-3 <= slope < math.inf
    assert math.isfinite(intercept)


@given(scored_films(), st.floats(0.01, 1.0))
def test_the_threshold_calls_at_least_the_sensitivity_asked_for(films, sensitivity):
    labels, scores = films
    threshold = threshold_for_sensitivity(labels, scores, sensitivity)
    assert confusion(labels, scores, threshold).sensitivity >= sensitivity - 1e-9


@given(scored_films(), st.floats(0.01, 1.0))
def test_no_higher_threshold_calls_as_much(films, sensitivity):
    labels, scores = films
    threshold = threshold_for_sensitivity(labels, scores, sensitivity)
    higher = confusion(labels, scores, float(np.nextafter(threshold, math.inf)))
    assert higher.sensitivity < sensitivity + 1e-9


def test_without_a_positive_film_no_threshold_can_be_chosen():
    with pytest.raises(ValueError, match="no positive films"):
        threshold_for_sensitivity(np.zeros(3, int), np.arange(3.0), 0.95)


def test_youdens_threshold_lies_half_way_between_classes_that_part():
    labels = np.array([0, 0, 1, 1])
    assert youden_threshold(labels, np.array([-4.0, -2.0, 0.0, 3.0])) == -1


@given(scored_films())
def test_no_other_threshold_has_a_higher_sum_of_sensitivity_and_specificity(films):
    labels, scores = films
    assume(np.unique(scores).size > 1)

    def both(threshold: float) -> float:
        count = confusion(labels, scores, threshold)
        return count.sensitivity + count.specificity

    known = np.unique(scores)
    others = [both(float(place)) for place in known[1:]]
    assert both(youden_threshold(labels, scores)) >= max(others) - 1e-9
