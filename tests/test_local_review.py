"""Is it right here? The figures themselves: laws, and values known beforehand."""

from __future__ import annotations

import json
import math
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from app.cxr import local_review as lr
from app.cxr.local_review import Accuracy, CardFigures, Proposal, Rate, Shown
from app.cxr.metrics import wilson
from app.cxr.release import BANDS, FACTORY_DIRECTORY, OperatingPoint

CONCLUSIONS = ["", lr.PNEUMONIA, lr.NO_PNEUMONIA, lr.OTHER, lr.UNSURE, lr.NOT_USABLE]
SEVENTH = "2026-07"


def shown(
    rows: list[tuple[str, str, float, str]], month: str = SEVENTH, threshold: float = 0.5
) -> Shown:
    """Studies of (band, answer, probability, blind conclusion); known is what blind says."""
    bands, answers, probabilities, blind = zip(*rows, strict=True) if rows else ((), (), (), ())
    scored = ~np.isnan(np.array(probabilities, float))
    return Shown(
        studies=np.arange(len(rows)),
        months=np.full(len(rows), month, "U7"),
        bands=np.array(bands, "U12"),
        answers=np.array(answers, "U12"),
        probabilities=np.array(probabilities, float),
        thresholds=np.where(scored, threshold, math.nan),
        blind=np.array(blind, "U16"),
        known=np.array(blind, "U16"),
    )


def read_as(conclusion: str, called: int, of: int, band: str = "under_5") -> list[Any]:
    """``of`` studies of one conclusion, ``called`` of them likely."""
    likely = [(band, "likely", 0.9, conclusion)] * called
    return likely + [(band, "unlikely", 0.1, conclusion)] * (of - called)


def joined(*parts: Shown) -> Shown:
    return Shown(
        *(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Shown))
    )


one_study = st.tuples(
    st.sampled_from(BANDS),
    st.sampled_from(["likely", "unlikely", "cannot_say", "refused"]),
    st.floats(0, 1) | st.just(math.nan),
    st.sampled_from(CONCLUSIONS),
)
some_studies = st.lists(one_study, max_size=60).map(shown)


# --- counts -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("whole", "said"), [(0, False), (9, False), (10, True), (500, True)])
def test_a_rate_of_few_studies_is_not_said(whole, said):
    assert (Rate(0, whole).interval is not None) == said


@given(st.integers(10, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_a_rate_is_said_with_wilsons_interval(counts):
    assert Rate(*counts).interval == wilson(*counts)


@given(some_studies)
def test_every_study_that_was_read_is_counted_once(studies):
    found = lr.accuracy(studies, studies.blind)
    assert found.read == np.count_nonzero(studies.blind != "")


@given(some_studies)
def test_age_bands_and_months_add_up_to_the_whole(studies):
    whole = lr.accuracy(studies, studies.blind)
    parts = [lr.accuracy(part, part.blind) for part in map(studies.of_band, BANDS)]
    for name in ("sensitivity", "specificity", "other", "with_other"):
        assert sum(getattr(part, name).part for part in parts) == getattr(whole, name).part
        assert sum(getattr(part, name).whole for part in parts) == getattr(whole, name).whole
    for name in ("unsure", "not_usable", "withheld", "unscored"):
        assert sum(getattr(part, name) for part in parts) == getattr(whole, name)


@given(some_studies, st.randoms(use_true_random=False))
def test_the_order_of_the_studies_changes_nothing(studies, random):
    order = list(range(studies.studies.size))
    random.shuffle(order)
    mixed = studies.where(np.array(order, int))
    assert lr.accuracy(mixed, mixed.blind) == lr.accuracy(studies, studies.blind)


def test_the_forced_answer_is_judged_also_where_the_answer_was_withheld():
    rows = [
        ("under_5", "cannot_say", 0.6, "pneumonia"),
        ("under_5", "cannot_say", 0.4, "pneumonia"),
    ]
    found = lr.accuracy(shown(rows), shown(rows).blind)
    assert (found.sensitivity, found.withheld) == (Rate(1, 2), 2)


def test_a_film_at_its_threshold_is_called():
    rows = [("under_5", "likely", 0.5, "pneumonia")]
    assert lr.accuracy(shown(rows), shown(rows).blind).sensitivity == Rate(1, 1)


def test_each_film_is_held_against_its_own_threshold():
    low, high = (shown([("5_14", "likely", 0.4, "pneumonia")], threshold=t) for t in (0.3, 0.5))
    both = joined(low, high)
    assert lr.accuracy(both, both.blind).sensitivity == Rate(1, 2)


def test_films_are_held_against_the_thresholds_of_their_ages():
    rows = [
        ("5_14", "likely", 0.6, "pneumonia"),
        ("15_64", "likely", 0.6, "pneumonia"),
        ("15_64", "refused", math.nan, "pneumonia"),
    ]
    held = shown(rows).held_against({"5_14": 0.7, "15_64": 0.6})
    assert held.is_called.tolist() == [False, True, False]
    assert np.isnan(held.thresholds[2])


def test_another_disease_counts_for_neither_figure_and_is_told_apart():
    studies = shown(
        read_as("pneumonia", 9, 10) + read_as("no_pneumonia", 2, 12) + read_as("other", 3, 5)
    )
    assert lr.accuracy(studies, studies.blind) == Accuracy(
        sensitivity=Rate(9, 10),
        specificity=Rate(10, 12),
        other=Rate(3, 5),
        with_other=Rate(12, 17),
        unsure=0,
        not_usable=0,
        withheld=0,
        unscored=0,
    )


@pytest.mark.parametrize("conclusion", ["unsure", "not_usable", ""])
def test_what_says_nothing_about_pneumonia_changes_no_figure(conclusion):
    told = read_as("pneumonia", 9, 10) + read_as("no_pneumonia", 2, 12)
    more = shown(told + read_as(conclusion, 4, 7))
    found, before = lr.accuracy(more, more.blind), lr.accuracy(shown(told), shown(told).blind)
    assert (found.sensitivity, found.specificity) == (before.sensitivity, before.specificity)
    assert found.unsure + found.not_usable == (7 if conclusion else 0)


def test_a_refused_film_is_counted_and_judged_by_no_figure():
    rows = [("under_5", "refused", math.nan, "pneumonia")]
    found = lr.accuracy(shown(rows), shown(rows).blind)
    assert (found.sensitivity, found.unscored, found.read) == (Rate(0, 0), 1, 1)


def test_it_says_how_many_of_each_answer_were_read():
    studies = shown(read_as("pneumonia", 8, 8) + read_as("", 2, 22))
    assert lr.read_of_answer(studies) == {
        "likely": Rate(8, 10), "cannot_say": Rate(0, 0), "unlikely": Rate(0, 20)
    }  # fmt: skip


def test_shares_are_of_all_films_read_or_not():
    neither = [("under_5", "refused", math.nan, ""), ("5_14", "cannot_say", 0.5, "")]
    rows = read_as("", 5, 8) + neither
    assert lr.shares(shown(rows)) == {
        "cannot_say": Rate(1, 10), "refused": Rate(1, 10), "unreadable": Rate(0, 10)
    }  # fmt: skip


# --- the card -----------------------------------------------------------------------------------


def group(films: int = 100, positives: int = 50, sensitivity: float = 0.94) -> dict[str, Any]:
    return {
        "films": films,
        "positives": positives,
        "sensitivity": {"value": sensitivity},
        "specificity": {"value": 0.9},
        "cannot_say": {"value": 0.08},
        "refused": {"value": 0.01},
    }


def report(title: str = "held out", **bands: Any) -> dict[str, Any]:
    bins = [{"from": i / 10, "films": 20, "share_positive": {"value": i / 10}} for i in range(10)]
    return {
        "title": title,
        "subgroups": {"age_band": {band: bands.get(band, group(0, 0)) for band in BANDS}},
        "calibration": bins,
    }


def card(sensitivity: float = 0.94, specificity: float = 0.9) -> CardFigures:
    return CardFigures("card", sensitivity, specificity, 0.08, 0.01, np.full((10, 2), 10.0))


def test_each_age_takes_the_first_report_that_measured_it():
    reports = [
        report("children", under_5=group()),
        report("adults", under_5=group(), **{"15_64": group(sensitivity=0.8)}),
    ]
    found = lr.card_figures({"reports": reports})
    assert {band: one.title for band, one in found.items()} == {
        "under_5": "children", "15_64": "adults"
    }  # fmt: skip
    assert found["15_64"].sensitivity == 0.8
    assert found["under_5"].scores[3].tolist() == [14, 6]


@pytest.mark.parametrize(("films", "positives"), [(100, 9), (100, 91), (19, 9), (0, 0)])
def test_an_age_measured_on_too_few_films_counts_as_not_measured(films, positives):
    assert lr.card_figures({"reports": [report(under_5=group(films, positives))]}) == {}


STRANGE: dict[str, Any] = {
    "nothing": {},
    "reports is null": {"reports": None},
    "reports is text": {"reports": "all"},
    "a report is null": {"reports": [None]},
    "a report of another form": {"reports": [{"title": "x"}]},
    "no calibration": {"reports": [{k: v for k, v in report(under_5=group()).items()
                                    if k != "calibration"}]},
    "a figure is null": {"reports": [report(under_5=group() | {"sensitivity": {"value": None}})]},
    "a figure above 1": {"reports": [report(under_5=group(sensitivity=1.2))]},
    "a figure is NaN": {"reports": [report(under_5=group(sensitivity=math.nan))]},
    "films in words": {"reports": [report(under_5=group() | {"films": "many"})]},
}  # fmt: skip


@pytest.mark.parametrize("strange", STRANGE.values(), ids=STRANGE)
def test_a_strange_report_says_nothing(strange):
    assert lr.card_figures(strange) == {}


def test_the_factory_release_says_what_it_promises_for_children_and_adults():
    factory = json.loads((FACTORY_DIRECTORY / "report.json").read_text(encoding="utf-8"))
    found = lr.card_figures(factory)
    assert {"under_5", "15_64"} <= set(found)
    assert all(one.scores.sum() > 50 for one in found.values())


# --- warnings -----------------------------------------------------------------------------------

levels = st.floats(0.0001, 0.3)
counts = st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(counts, levels)
def test_the_lasting_bound_lies_above_the_share(found, level):
    part, whole = found
    assert part / whole <= lr.lasting_upper(part, whole, level) <= 1


@given(counts, levels, levels)
def test_a_stricter_level_gives_a_wider_bound(found, one, other):
    part, whole = found
    strict, mild = (lr.lasting_upper(part, whole, level) for level in sorted((one, other)))
    assert strict >= mild - 1e-9


@given(counts)
def test_the_lasting_bound_is_wider_than_one_that_looks_once(found):
    part, whole = found
    assert lr.lasting_upper(part, whole, 0.025) >= wilson(part, whole).high - 0.02


def test_the_lasting_bound_is_broken_no_oftener_than_its_level_however_often_one_looks():
    generator, truth, level = np.random.default_rng(1), 0.9, 0.2
    draws = np.cumsum(generator.random((150, 120)) < truth, axis=1)
    broken = [
        any(lr.lasting_upper(int(part), n + 1, level) < truth for n, part in enumerate(run))
        for run in draws
    ]
    assert np.mean(broken) <= level
    # One look after another with an interval made for a single look is another matter
    naive = [any(wilson(int(p), n + 1).high < truth for n, p in enumerate(run)) for run in draws]
    assert np.mean(naive) > np.mean(broken)


def warned(studies: Shown, figures: dict[str, CardFigures], month: str = SEVENTH) -> list[Any]:
    found = lr.shortfalls(studies, figures, month)
    return [(one.band, one.figure, one.from_card, one.since) for one in found]


def test_it_warns_where_the_computer_finds_far_fewer_than_the_card_says():
    studies = shown(read_as("pneumonia", 40, 60) + read_as("no_pneumonia", 4, 60))
    assert warned(studies, {"under_5": card()}) == [("under_5", "sensitivity", True, "")]


def test_it_warns_of_false_alarms_too():
    studies = shown(read_as("pneumonia", 57, 60) + read_as("no_pneumonia", 30, 60))
    assert warned(studies, {"under_5": card()}) == [("under_5", "specificity", True, "")]


def test_a_clinic_as_good_as_the_card_is_not_warned():
    studies = shown(read_as("pneumonia", 56, 60) + read_as("no_pneumonia", 6, 60))
    assert warned(studies, {"under_5": card()}) == []


def test_an_interval_that_looks_once_would_warn_where_this_does_not_yet():
    part, whole = 83, 100
    assert wilson(part, whole).high < 0.94
    studies = shown(read_as("pneumonia", part, whole))
    assert warned(studies, {"under_5": card()}) == []


@pytest.mark.parametrize("whole", range(10))
def test_fewer_than_ten_studies_warn_of_nothing(whole):
    assert warned(shown(read_as("pneumonia", 0, whole)), {"under_5": card()}) == []


def test_where_the_card_measured_nobody_of_an_age_the_floor_counts():
    studies = shown(read_as("pneumonia", 30, 60, band="65_and_over"))
    assert warned(studies, {"under_5": card()}) == [("65_and_over", "sensitivity", False, "")]


def test_readings_after_the_answer_warn_of_nothing():
    rows = read_as("pneumonia", 10, 60)
    told = shown(rows)
    late = Shown(**{**vars(told), "blind": np.full(60, "", "U16")})
    assert lr.accuracy(late, late.known).sensitivity == Rate(10, 60)
    assert warned(late, {"under_5": card()}) == []


def test_a_bad_half_year_is_seen_behind_a_long_good_past():
    past = shown(read_as("pneumonia", 1900, 2000), month="2024-02")
    now = shown(read_as("pneumonia", 40, 60), month="2026-08")
    figures = {"under_5": card()}
    assert warned(past, figures, "2026-09") == []
    assert warned(joined(past, now), figures, "2026-09") == [
        ("under_5", "sensitivity", True, "2026-07")
    ]


@given(some_studies, st.sampled_from(["2026-01", "2026-06", "2026-07", "2026-12", "2027-03"]))
def test_a_warning_is_always_under_what_it_is_held_against(studies, month):
    for one in lr.shortfalls(studies, {}, month):
        assert one.rate.part / one.rate.whole < one.bound < one.expected


# --- calibration --------------------------------------------------------------------------------

labelled = st.lists(st.tuples(st.integers(0, 1), st.floats(0, 1)), min_size=1, max_size=200).map(
    lambda pairs: (np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs]))
)


@given(labelled)
def test_every_film_lies_in_one_bin(films):
    labels, probabilities = films
    bins = lr.reliability(labels, probabilities)
    assert sum(one.rate.whole for one in bins) == labels.size
    assert sum(one.rate.part for one in bins) == labels.sum()
    assert all(one.low - 1e-9 <= one.mean <= one.high + 1e-9 for one in bins)


def test_the_calibration_error_is_not_said_of_few_films():
    labels, probabilities = np.tile([0, 1], 50), np.full(100, 0.5)
    assert lr.calibration_error(labels[:99], probabilities[:99]) is None
    found = lr.calibration_error(labels, probabilities)
    assert found.value == pytest.approx(0)
    assert found.low <= found.high


def test_a_computer_that_promises_too_much_has_a_large_calibration_error():
    found = lr.calibration_error(np.tile([0, 1], 100), np.full(200, 0.95))
    assert found.low > 0.3


@given(some_studies)
def test_only_what_was_read_as_pneumonia_or_none_and_scored_is_judged(studies):
    labels, probabilities = lr.judged(studies, studies.blind)
    found = lr.accuracy(studies, studies.blind)
    assert (labels.size, labels.sum()) == (found.judged, found.sensitivity.whole)
    assert not np.isnan(probabilities).any()


# --- drift --------------------------------------------------------------------------------------


def scores_of(clear: list[int], sick: list[int]) -> np.ndarray:
    return np.stack([np.array(clear, float), np.array(sick, float)], axis=1)


REFERENCE = scores_of([120, 40, 20, 10, 5, 2, 1, 1, 1, 0], [2, 3, 5, 5, 5, 10, 20, 30, 60, 160])


def drawn(sick: float, films: int, seed: int, reference: np.ndarray = REFERENCE) -> np.ndarray:
    clear, ill = (reference / reference.sum(axis=0)).T
    generator = np.random.default_rng(seed)
    places = generator.choice(10, films, p=sick * ill + (1 - sick) * clear)
    return (places + generator.random(films) * 0.999) / 10


@pytest.mark.parametrize("sick", [0.02, 0.3, 0.9])
def test_another_share_of_sick_patients_is_no_drift(sick):
    found = lr.drift(drawn(sick, 400, 3), REFERENCE)
    assert not found.differs
    assert found.sick == pytest.approx(sick, abs=0.12)


def test_scores_that_no_mixture_of_the_cards_films_has_are_drift():
    everything_in_the_middle = np.full(400, 0.45)
    found = lr.drift(everything_in_the_middle, REFERENCE)
    assert found.differs
    assert found.distance > 0.3


def test_chance_alone_is_hardly_ever_called_drift():
    called = [lr.drift(drawn(0.4, 60, seed), REFERENCE).differs for seed in range(40)]
    assert sum(called) <= 1


def test_the_cards_own_few_films_make_it_harder_to_be_sure():
    few = np.ceil(REFERENCE / 15)
    scores = drawn(0.4, 300, 5)
    assert lr.drift(scores, few).limit > lr.drift(scores, REFERENCE).limit


@pytest.mark.parametrize(
    ("films", "reference"),
    [(49, REFERENCE), (400, scores_of([9] + [0] * 9, [0] * 9 + [90])), (0, REFERENCE)],
)
def test_too_few_films_are_not_compared(films, reference):
    assert lr.drift(drawn(0.5, films, 1), reference) is None


@given(st.integers(50, 300), st.floats(0, 1), st.integers(0, 99))
def test_shares_of_a_comparison_are_shares(films, sick, seed):
    found = lr.drift(drawn(sick, films, seed), REFERENCE)
    assert found.local.sum() == pytest.approx(1)
    assert found.expected.sum() == pytest.approx(1)
    assert 0 <= found.sick <= 1
    assert 0 <= found.distance <= 1


# --- a local operating point --------------------------------------------------------------------

NOW = OperatingPoint(threshold=0.5, lower=0.4, upper=0.6)


def films_of(sick: int, clear: int, seed: int, gap: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Scores of two overlapping bells, in probabilities."""
    generator = np.random.default_rng(seed)
    scores = np.concatenate([generator.normal(gap, 1, sick), generator.normal(0, 1, clear)])
    labels = np.repeat([1, 0], [sick, clear])
    return labels, 1 / (1 + np.exp(-(scores - 3)))


@pytest.mark.parametrize(("sick", "clear"), [(49, 500), (500, 49), (0, 0), (0, 200)])
def test_nothing_is_proposed_on_too_few_readings(sick, clear):
    assert lr.propose(*films_of(sick, clear, 1), NOW) == lr.TOO_FEW


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("size", [50, 120, 400])
def test_what_is_proposed_keeps_the_sensitivitys_floor(seed, size):
    found = lr.propose(*films_of(size, size, seed), NOW)
    assert isinstance(found, Proposal)
    assert found.corrected_sensitivity >= 0.9
    assert found.sensitivity.part / found.sensitivity.whole >= found.corrected_sensitivity
    assert found.sensitivity.interval.low >= 0.8


@pytest.mark.parametrize("seed", range(4))
def test_what_is_proposed_holds_on_films_that_did_not_choose_it(seed):
    found = lr.propose(*films_of(300, 300, seed), NOW)
    labels, probabilities = films_of(20_000, 20_000, seed + 100)
    called = probabilities >= found.point.threshold
    assert called[labels == 1].mean() > 0.87
    assert (~called)[labels == 0].mean() == pytest.approx(found.corrected_specificity, abs=0.1)


def test_no_higher_threshold_would_have_kept_the_floor():
    labels, probabilities = films_of(400, 400, 2)
    found = lr.propose(labels, probabilities, NOW)
    sick = np.sort(probabilities[labels == 1])
    missed = found.sensitivity.whole - found.sensitivity.part
    assert sick[missed - 1] < found.point.threshold <= sick[missed]


def test_it_says_what_would_change_by_the_same_readings():
    labels, probabilities = films_of(200, 200, 3)
    found = lr.propose(labels, probabilities, NOW)
    called = probabilities >= NOW.threshold
    assert found.now_sensitivity == Rate(int(called[labels == 1].sum()), 200)
    assert found.now_specificity == Rate(int((~called)[labels == 0].sum()), 200)


def test_a_point_that_does_well_is_left_alone():
    labels, probabilities = films_of(200, 200, 4)
    better = lr.propose(labels, probabilities, NOW)
    assert lr.propose(labels, probabilities, better.point) == lr.GOOD_AS_IT_IS


def test_a_low_specificity_is_said_where_nothing_better_keeps_the_floor():
    found = lr.propose(*films_of(200, 200, 5, gap=0.5), NOW)
    assert isinstance(found, Proposal)
    assert not found.reaches_floor


def test_the_same_readings_propose_the_same_point():
    labels, probabilities = films_of(150, 150, 6)
    order = np.random.default_rng(0).permutation(labels.size)
    one = lr.propose(labels, probabilities, NOW)
    other = lr.propose(labels[order], probabilities[order], NOW)
    assert one == other


@given(st.integers(0, 1000), st.integers(1, 4))
def test_ties_propose_a_sound_point(seed, digits):
    labels, probabilities = films_of(60, 60, seed)
    found = lr.propose(labels, np.round(probabilities, digits), NOW)
    assume(isinstance(found, Proposal))
    assert found.point.is_sound
    assert 0 < found.point.threshold < 1


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=30),
    st.lists(st.floats(0, 1), min_size=3, max_size=3).map(sorted),
)
def test_many_films_are_answered_as_one_is(probabilities, limits):
    point = OperatingPoint(limits[1], limits[0], limits[2])
    answers = lr.answers_at(point, np.array(probabilities))
    assert answers.tolist() == [point.decide(probability) for probability in probabilities]
