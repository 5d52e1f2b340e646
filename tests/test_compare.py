"""A new release against the old one on the same films: tests, intervals, groups and the verdict."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from app.cxr import metrics
from app.cxr.analysis import Analysis
from app.cxr.metrics import auc
from app.cxr.release import Release
from app.updates import shadow
from model_export import __main__ as command_line
from model_export import compare
from model_export.compare import (
    Both,
    can_be_shown,
    enough_to_count,
    judged,
    measured,
    must_be_shown,
)
from model_export.comparison_page import page
from model_export.datasets import LabelledFilm, load_contributions, split_by_patient
from model_export.figures import Figures
from model_export.paired import (
    auc_difference,
    delong,
    holm,
    mcnemar,
    share_difference,
)
from tests.opened import clear, opened, person, sick
from tests.tiny_release import make_release


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "BOOTSTRAP_ROUNDS", 200)


# --- DeLong -------------------------------------------------------------------------------------


def by_definition(labels: np.ndarray, old: np.ndarray, new: np.ndarray) -> tuple[float, float]:
    """The difference and its error by the structural components of the paper, pair by pair."""

    def kernel(one: float, other: float) -> float:
        return 1.0 if one > other else 0.5 if one == other else 0.0

    components = []
    for scores in (old, new):
        x, y = scores[labels == 1], scores[labels == 0]
        psi = np.array([[kernel(a, b) for b in y] for a in x])
        components.append((psi.mean(axis=1), psi.mean(axis=0), psi.mean()))
    (v10_old, v01_old, a_old), (v10_new, v01_new, a_new) = components
    gain10, gain01 = v10_new - v10_old, v01_new - v01_old
    variance = gain10.var(ddof=1) / gain10.size + gain01.var(ddof=1) / gain01.size
    return a_new - a_old, math.sqrt(variance)


def two_readers(seed: int, count: int = 60, step: float = 0.0) -> tuple[np.ndarray, ...]:
    dice = np.random.default_rng(seed)
    labels = (np.arange(count) % 3 == 0).astype(int)
    shared = dice.normal(labels, 1.0)
    old, new = shared + dice.normal(0, 0.6, count), shared + dice.normal(0, 0.6, count)
    if step:  # ties
        old, new = np.round(old / step) * step, np.round(new / step) * step
    return labels, old, new


@pytest.mark.parametrize("step", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("seed", range(4))
def test_delong_by_ranks_is_delong_by_definition(seed, step):
    labels, old, new = two_readers(seed, step=step)
    found = delong(labels, old, new)
    gap, error = by_definition(labels, old, new)
    assert (found.old, found.new) == pytest.approx((auc(labels, old), auc(labels, new)))
    assert found.new - found.old == pytest.approx(gap)
    assert found.standard_error == pytest.approx(error)


def test_delong_on_a_case_worked_by_hand():
    labels = np.array([1, 1, 1, 0, 0])
    old, new = np.array([3.0, 5, 1, 2, 0]), np.array([5.0, 4, 3, 2, 1])
    # old ranks 5 of 6 pairs rightly: placements 1, 1, 1/2 of the sick and 2/3, 1 of the clear;
    # new all. Variance of the gains: (1/12) / 3 + (1/18) / 2 = 1/18.
    found = delong(labels, old, new)
    assert (found.old, found.new) == pytest.approx((5 / 6, 1.0))
    assert found.standard_error == pytest.approx(math.sqrt(1 / 18))
    assert found.p_value == pytest.approx(math.erfc((1 / 6) / math.sqrt(1 / 18) / math.sqrt(2)))


def test_the_error_of_delong_is_that_of_a_bootstrap(monkeypatch):
    monkeypatch.setattr(metrics, "BOOTSTRAP_ROUNDS", 1000)
    labels, old, new = two_readers(1, count=600)
    found = delong(labels, old, new)
    drawn = auc_difference(labels, old, new, np.arange(labels.size).astype(str))
    assert (drawn.high - drawn.low) / (2 * 1.96) == pytest.approx(found.standard_error, rel=0.12)


def test_p_of_delong_is_even_where_nothing_differs():
    seen = np.array([delong(*two_readers(seed, count=150)).p_value for seed in range(400)])
    assert (seen < 0.05).mean() == pytest.approx(0.05, abs=0.035)
    assert np.median(seen) == pytest.approx(0.5, abs=0.09)


@given(st.integers(0, 1000))
def test_delong_looks_alike_from_both_sides_and_at_ranks_alone(seed):
    labels, old, new = two_readers(seed, count=30)
    there, back = delong(labels, old, new), delong(labels, new, old)
    assert there.p_value == pytest.approx(back.p_value)
    assert delong(labels, np.exp(old), new * 3 + 1) == there


def test_the_same_scores_do_not_differ():
    labels, old, _ = two_readers(1)
    assert (delong(labels, old, old).standard_error, delong(labels, old, old).p_value) == (0.0, 1.0)


@pytest.mark.parametrize("labels", [[], [1, 1, 1], [0, 0, 0, 1]])
def test_one_class_gives_no_test(labels):
    scores = np.arange(len(labels), dtype=float)
    assert math.isnan(delong(np.array(labels, int), scores, scores).p_value)


# --- McNemar, Holm, intervals -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("only_old", "only_new", "p_value"),
    [
        (0, 0, 1.0),
        (1, 0, 1.0),
        (0, 5, 2 / 2**5),
        (6, 0, 2 / 2**6),
        (1, 9, 2 * 11 / 2**10),
        (5, 5, 1.0),
    ],
)
def test_mcnemar_is_the_toss_of_a_coin(only_old, only_new, p_value):
    old = np.array([True] * only_old + [False] * only_new + [True] * 7 + [False] * 2)
    new = np.array([False] * only_old + [True] * only_new + [True] * 7 + [False] * 2)
    found = mcnemar(old, new)
    assert (found.only_old, found.only_new) == (only_old, only_new)
    assert found.p_value == pytest.approx(p_value)


def test_holm_multiplies_step_by_step_and_never_turns_the_order():
    # Holm 1979: 0.01 * 4, 0.02 * 3, max(0.03 * 2, 0.06), max(0.04 * 1, 0.06)
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    with_nan = holm([math.nan, 0.01])
    assert math.isnan(with_nan[0])
    assert with_nan[1] == 0.01


def test_the_interval_of_a_share_draws_patients_and_not_films():
    old = np.zeros(40, bool)
    new = np.arange(40) < 10
    alone = share_difference(old, new, np.arange(40).astype(str))
    together = share_difference(old, new, (np.arange(40) // 10).astype(str))
    assert alone.value == together.value == 0.25
    assert together.high - together.low > 1.5 * (alone.high - alone.low)


# --- the rule -----------------------------------------------------------------------------------


def figure(films: int, value: float, low: float, p_value: float = 1.0) -> Figures:
    return {
        "films": films,
        "margin": 0.02,
        "difference": {"value": value, "low": low},
        "p_value": p_value,
    }


@pytest.mark.parametrize(
    ("given_figure", "found"),
    [
        (figure(784, -0.001, -0.019), ("shown", False)),
        (figure(784, 0.0, -0.021), ("not_shown", True)),
        (figure(784, -0.021, -0.03), ("counted", True)),
        (figure(783, 0.0, -0.2), ("counted", False)),
        (figure(150, 0.0, 0.0), ("shown", False)),
        (figure(149, 0.0, 0.0), ("counted", False)),
        (figure(50, -0.02, -0.2), ("counted", False)),
        (figure(50, -0.021, -0.2), ("counted", True)),
        (figure(49, -0.5, -0.9, 0.06), ("evident", False)),
        (figure(49, -0.5, -0.9, 0.05), ("evident", True)),
        (figure(49, 0.5, 0.1, 0.001), ("evident", False)),
        (figure(0, math.nan, math.nan, math.nan), ("not_measured", False)),
    ],
)
def test_the_more_films_the_more_has_to_be_shown(given_figure, found):
    assert judged(given_figure, 0.02) == found


@pytest.mark.parametrize(("margin", "films"), [(0.02, (50, 150, 784)), (0.05, (20, 60, 126))])
def test_the_numbers_of_films_follow_from_the_margin(margin, films):
    asked = enough_to_count, can_be_shown, must_be_shown
    assert tuple(one(margin) for one in asked) == films


def test_where_it_has_to_be_shown_four_of_five_equal_releases_pass():
    films, dice = must_be_shown(0.02), np.random.default_rng(0)
    passed = []
    for _ in range(100):
        called = dice.random(films)
        old, new = called > compare.DIFFERING / 2, called < 1 - compare.DIFFERING / 2
        gap = share_difference(old, new, np.arange(films).astype(str))
        passed.append(gap.low >= -0.02)
    assert 0.65 < np.mean(passed) < 0.93


def said(label: int, old: float | None, new: float | None, number: int = 0, **film: Any) -> Both:
    """A film with probabilities of both releases; None is a refusal."""

    def analysis(probability: float | None) -> Analysis:
        if probability is None:
            return Analysis("refused", "tiny@1.0.0", reason="too_dark")
        answer = "likely" if probability >= 0.5 else "unlikely"
        answer = "cannot_say" if 0.45 <= probability < 0.55 else answer
        return Analysis(answer, "tiny@1.0.0", probability=probability, threshold=0.5)

    labelled = LabelledFilm(Path("film.png"), label, f"p{number}", "here", **film)
    return Both(labelled, analysis(old), analysis(new))


def alike(count: int = 60, **film: Any) -> list[Both]:
    """Films of both classes on which both releases are right."""
    return [
        said(
            label, 0.2 + 0.6 * label + n / 1000, 0.2 + 0.6 * label + n / 1000, 2 * n + label, **film
        )
        for n in range(count)
        for label in (0, 1)
    ]


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> tuple[Release, Release]:
    folder = tmp_path_factory.mktemp("made")
    old = make_release(folder / "old", lambda one: one.update(version="1.0.0"))
    new = make_release(folder / "new", lambda one: one.update(version="2.0.0"))
    return Release.load(old), Release.load(new)


def compared(films: list[Both], releases: tuple[Release, Release], margin: float = 0.02) -> Figures:
    return compare.compare(films, *releases, margin)


def reasons(figures: Figures) -> str:
    return "\n".join(figures["verdict"]["reasons"])


def test_a_release_that_answers_alike_is_accepted(releases):
    figures = compared(alike(), releases)
    assert figures["verdict"] == {"accepted": True, "reasons": []}
    assert figures["old"] == {"label": "tiny@1.0.0", "digest": shadow.digest_of(releases[0])}
    assert figures["new"] == {"label": "tiny@2.0.0", "digest": shadow.digest_of(releases[1])}


def test_a_better_release_is_accepted(releases):
    films = [said(1, 0.3, 0.9, 500 + n) for n in range(30)] + alike()
    assert compared(films, releases)["verdict"]["accepted"]


@pytest.mark.parametrize(
    ("films", "told"),
    [
        ([said(1, 0.9, 0.3, 500 + n) for n in range(9)], "sensitivity in all films"),
        ([said(0, 0.1, 0.7, 500 + n) for n in range(9)], "specificity in all films"),
        ([said(0, 0.1, None, 500 + n) for n in range(9)], "not_refused in all films"),
        ([said(1, 0.9, 0.54, 500 + n) for n in range(30)], "answered in all films"),
        ([said(1, 0.9, 0.201, 500 + n) for n in range(9)], "auc in all films"),
    ],
)
def test_whatever_gets_worse_is_named_with_its_figures(releases, films, told):
    figures = compared([*films, *alike()], releases)
    assert not figures["verdict"]["accepted"]
    assert told in reasons(figures)
    assert "became" in reasons(figures)


@pytest.mark.parametrize(
    ("film", "told"),
    [
        ({"age_years": 3.0}, "age_band under_5"),
        ({"sex": "F"}, "sex F"),
        ({"view": "AP"}, "view AP"),
        ({"site": "amani"}, "site amani"),
    ],
)
def test_a_loss_in_one_group_alone_is_enough(releases, film, told):
    there = alike(60, **film)
    there[1:13:2] = [dataclasses.replace(one, new=said(1, 0.9, 0.3).new) for one in there[1:13:2]]
    figures = compared([*there, *alike(400)], releases)
    assert not figures["verdict"]["accepted"]
    lines = reasons(figures).splitlines()
    assert any(line.startswith(f"sensitivity in {told}: 1.000 became 0.900") for line in lines)


def test_one_film_of_a_small_group_refuses_nothing(releases):
    there = [said(1, 0.9, 0.3, 900, sex="M"), said(1, 0.9, 0.8, 901, sex="M")]
    figures = compared([*there, *alike(400, sex="F")], releases)
    assert figures["verdict"]["accepted"]
    (group,) = [one for one in figures["groups"] if one["group"] == "M"]
    assert group["figures"]["sensitivity"]["judged"] == "evident"


def test_a_small_group_that_is_evidently_lost_refuses(releases):
    there = [said(1, 0.9, 0.3, 900 + n, sex="M") for n in range(6)]
    figures = compared([*there, *alike(600, sex="F")], releases)
    assert "sex M" in reasons(figures)
    assert "chance hardly explains" in reasons(figures)


@pytest.mark.parametrize("films", [[], alike(10), alike(400)[::2]])
def test_on_too_few_films_of_a_class_nothing_is_accepted(releases, films):
    figures = compared(films, releases)
    assert not figures["verdict"]["accepted"]
    assert "Too few films" in reasons(figures)


def test_a_film_that_one_of_them_refused_counts_as_refused_and_nowhere_else():
    found = measured([*alike(), said(1, 0.9, None, 999)], 0.02)
    assert (found["sensitivity"]["films"], found["not_refused"]["films"]) == (60, 121)
    assert (found["not_refused"]["only_old"], found["not_refused"]["only_new"]) == (1, 0)


def test_a_group_that_is_all_films_is_not_counted_twice(releases):
    figures = compared(alike(sex="F"), releases)
    assert [one["kind"] for one in figures["groups"]] == ["overall"]


def test_the_report_shows_every_group_and_figure(releases):
    films = [*alike(sex="F"), *alike(2, sex="M"), said(1, 0.9, 0.3, 950)]
    text = page(compared(films, releases))
    for words in ("# tiny@2.0.0 against tiny@1.0.0", "## sex: M", "## sex: unknown", "DeLong", "–"):
        assert words in text


# --- the stage ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty films of each class: clear ones dark, sick ones bright."""
    root = tmp_path_factory.mktemp("fixed")
    for label, grey in (("NORMAL", 70), ("PNEUMONIA", 130)):
        (root / label).mkdir()
        for n in range(20):
            Image.fromarray(person(n, grey + n % 5)).save(root / label / f"{n}.png")
    return root


def stage(old: Path, new: Path, data: Path, out: Path, *more: object) -> int:
    words = ["--old", old, "--new", new, "--data", data, "--json", out / "found.json"]
    words += ["--report", out / "found.md", *more]
    return command_line.main(["compare", *map(str, words)])


def test_both_releases_answer_through_the_clinics_own_pipeline(releases, folders, tmp_path):
    old, new = (one.directory for one in releases)
    assert stage(old, new, folders, tmp_path, "--margin", "0.05", "--age", "40") == 0
    figures = json.loads((tmp_path / "found.json").read_text())
    assert figures["verdict"] == {"accepted": True, "reasons": []}
    assert figures["groups"][0]["figures"]["auc"]["old"] == 1.0
    assert "**Accepted.**" in (tmp_path / "found.md").read_text()


def test_a_worse_release_ends_the_stage_with_one_and_a_sentence(
    releases, folders, tmp_path, capsys
):
    worse = make_release(
        tmp_path / "worse",
        lambda one: one.update(version="3.0.0", calibration={"slope": 1.0, "intercept": -40.0}),
    )
    assert stage(releases[0].directory, worse, folders, tmp_path, "--margin", "0.05") == 1
    told = capsys.readouterr()
    assert "sensitivity in all films: 1.000 became 0.000" in told.err
    assert "tiny@3.0.0 against tiny@1.0.0: refused" in told.out
    assert not json.loads((tmp_path / "found.json").read_text())["verdict"]["accepted"]


@pytest.mark.parametrize("margin", ["0", "-0.1", "0.051", "nan"])
def test_a_margin_that_lets_everything_through_is_no_margin(releases, folders, tmp_path, margin):
    old, new = (one.directory for one in releases)
    assert stage(old, new, folders, tmp_path, f"--margin={margin}") == 2
    assert not (tmp_path / "found.json").exists()


def test_of_contributions_only_patients_that_nothing_learns_from_are_compared(tmp_path):
    folder = opened(tmp_path / "a", "amani", [make(n) for n in range(40) for make in (sick, clear)])
    data = tmp_path / "data"
    (data / "NORMAL").mkdir(parents=True)
    (data / "NORMAL" / "1.png").touch()
    options = compare.argparse.Namespace(
        held_out=False, data=data, label_column=None, contributions=folder
    )
    films = [film for film in compare.fixed_films(options) if film.site]
    split = split_by_patient(load_contributions(folder))
    assert films == split.test
    assert films
    learnt = {film.patient for film in split.train + split.validation}
    assert not learnt & {film.patient for film in films}


def test_a_damaged_release_is_not_compared(releases, folders, tmp_path, capsys):
    broken = make_release(tmp_path / "broken")
    (broken / "model.onnx").write_bytes(b"no graph")
    assert stage(releases[0].directory, broken, folders, tmp_path) == 2
    assert "Nothing was compared" in capsys.readouterr().err
