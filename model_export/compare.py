"""Hold a new release against the one before it on fixed patients, and refuse it where it is worse.

    python -m model_export compare --old assets/release --new runs/release \
        --data "$CXR_DATA/kermany_train" --held-out --contributions merged \
        --json comparison.json --report comparison.md

Both answer the same films through the clinic's own pipeline. Ends with 1 where the new one is
refused. The rule and what it can and cannot promise: docs/adr/0022-merge-continue-compare.md.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from app.cxr.analysis import LIKELY, UNLIKELY, Analysis, analyse
from app.cxr.metrics import Interval
from app.cxr.model import Model
from app.cxr.release import MANIFEST, Release, UnusableRelease
from model_export.comparison_page import page
from model_export.datasets import LabelledFilm, load_contributions, split_by_patient
from model_export.evaluate import add_film_arguments, load_films, wrong_films
from model_export.figures import UNKNOWN, Figures, band_of, patient_of, without_nan
from model_export.paired import auc_difference, delong, holm, mcnemar, share_difference

FORMAT = 1
MARGIN = 0.02
#: A loss beyond this is no longer one that a clinic would not notice.
LARGEST_MARGIN = 0.05
#: Other clinics' films need not be answered by every release; but one that answers a tenth fewer of
#: them is of less use, however right its answers are.
ANSWERED_MARGIN = 0.10
EVIDENT = 0.05
#: Share of films that two releases call otherwise: of held-out children's, 0.2.0 and 0.3.0 did so
#: on 3.8 % of those with pneumonia and on 2.1 % of those without.
DIFFERING = 0.04
OVERALL = ("overall", "all films")


@dataclass(frozen=True)
class Both:
    """A film and what either release says of it."""

    film: LabelledFilm
    old: Analysis
    new: Analysis

    @property
    def is_scored(self) -> bool:
        """Whether both gave it a probability."""
        return self.old.probability is not None and self.new.probability is not None


# --- what is measured ---------------------------------------------------------------------------


def must_be_shown(margin: float) -> int:
    """Films from which on an interval is asked for: there four of five releases that are as good
    as the old one, and call DIFFERING of the films otherwise, pass (one-sided 2.5 %, power 80 %).

    With fewer most good releases would fail for want of films.
    """
    return math.ceil((1.96 + 0.84) ** 2 * DIFFERING / margin**2)


def can_be_shown(margin: float) -> int:
    """Films from which on a loss can be ruled out at all: where none of n was answered worse, 3 / n
    still may be (the rule of three; Hanley & Lippman-Hand 1983).
    """
    return math.ceil(3 / margin)


def enough_to_count(margin: float) -> int:
    """Films from which on a single one weighs no more than the margin."""
    return math.ceil(1 / margin)


def measured(films: Sequence[Both], margin: float) -> Figures:
    """Every figure of a group of films, each with old, new, difference, test and judgement."""
    scored = [one for one in films if one.is_scored]
    sick, clear = ([one for one in scored if one.film.label == label] for label in (1, 0))
    found = {
        "auc": _auc(scored),
        "sensitivity": _share(sick, _called),
        "specificity": _share(clear, lambda analysis: not _called(analysis)),
        "not_refused": _share(films, lambda analysis: analysis.probability is not None),
        "answered": _share(films, lambda analysis: analysis.answer in {LIKELY, UNLIKELY}),
    }
    for name, figure in found.items():
        figure["margin"] = ANSWERED_MARGIN if name == "answered" else margin
        figure["judged"], figure["is_worse"] = judged(figure, margin)
    return found


def judged(figure: Figures, margin: float) -> tuple[str, bool]:
    """How a figure is judged by the number of its films, and whether the new release fails it.

    ``shown``: no worse, by the interval of the difference, which lies above minus the figure's own
    margin. ``not_shown``: it does not, and films are many enough to ask for it. ``counted``: fewer;
    the difference itself must be no worse than the margin. ``evident``: so few that one film weighs
    more than that; only a loss that chance hardly explains (p at most EVIDENT) counts.
    ``not_measured``: one class, or no film.
    """
    gap, low = figure["difference"]["value"], figure["difference"]["low"]
    films, lowest = figure["films"], -figure["margin"]
    if math.isnan(gap):
        return "not_measured", False
    if films < enough_to_count(margin):
        return "evident", bool(gap < lowest and figure["p_value"] <= EVIDENT)
    if gap < lowest:
        return "counted", True
    if low >= lowest and films >= can_be_shown(margin):
        return "shown", False
    return ("not_shown", True) if films >= must_be_shown(margin) else ("counted", False)


def _auc(scored: Sequence[Both]) -> Figures:
    labels, patients = _labels(scored), _patients(scored)
    old, new = (
        np.array([getattr(one, side).probability for one in scored], float)
        for side in ("old", "new")
    )
    test = delong(labels, old, new)
    nothing = Interval(math.nan, math.nan, math.nan)
    gap = nothing if math.isnan(test.old) else auc_difference(labels, old, new, patients)
    return {
        "films": int(min((labels == 1).sum(), (labels == 0).sum())),
        "old": test.old,
        "new": test.new,
        "difference": asdict(gap),
        "test": "DeLong",
        "standard_error": test.standard_error,
        "p_value": test.p_value,
    }


def _share(films: Sequence[Both], is_good: Callable[[Analysis], bool]) -> Figures:
    old, new = (
        np.array([is_good(getattr(one, side)) for one in films], bool) for side in ("old", "new")
    )
    nothing = Interval(math.nan, math.nan, math.nan)
    test = mcnemar(old, new)
    return {
        "films": len(films),
        "old": float(old.mean()) if len(films) else math.nan,
        "new": float(new.mean()) if len(films) else math.nan,
        "difference": asdict(share_difference(old, new, _patients(films)) if films else nothing),
        "test": "McNemar, exact",
        "only_old": test.only_old,
        "only_new": test.only_new,
        "p_value": test.p_value if films else math.nan,
    }


def _called(analysis: Analysis) -> bool:
    """The forced answer at the release's own threshold for the film."""
    return (analysis.probability or 0.0) >= (analysis.threshold or 0.0)


def _labels(films: Sequence[Both]) -> np.ndarray:
    return np.array([one.film.label for one in films], int)


def _patients(films: Sequence[Both]) -> np.ndarray:
    return np.array([patient_of(one.film) for one in films], str)


# --- in every group -----------------------------------------------------------------------------


def groups(films: Sequence[Both]) -> Iterator[tuple[str, str, list[Both]]]:
    """All films, then every part of them by age band, sex, view, source and site."""
    yield *OVERALL, list(films)
    kinds: dict[str, Callable[[Both], str]] = {
        "age_band": lambda one: band_of((one.film, one.old)),
        "sex": lambda one: one.film.sex or one.old.sex or UNKNOWN,
        "view": lambda one: one.film.view or one.old.view_position or UNKNOWN,
        "source": lambda one: one.film.source,
        "site": lambda one: one.film.site or UNKNOWN,
    }
    for kind, of_film in kinds.items():
        for name in sorted({of_film(one) for one in films}):
            inside = [one for one in films if of_film(one) == name]
            if len(inside) < len(films):
                yield kind, name, inside


def compare(films: Sequence[Both], old: Release, new: Release, margin: float) -> Figures:
    """The whole comparison, with its verdict: ready for JSON but for NaN."""
    found: list[Figures] = [
        {
            "kind": kind,
            "group": name,
            "films": len(inside),
            "patients": len({patient_of(one.film) for one in inside}),
            "figures": measured(inside, margin),
        }
        for kind, name, inside in groups(films)
    ]
    every = [figure for group in found for figure in group["figures"].values()]
    for figure, p_value in zip(every, holm([one["p_value"] for one in every]), strict=True):
        figure["p_value_holm"] = p_value
    reasons = list(refusals(found, margin))
    return {
        "format": FORMAT,
        "old": {"label": old.label, "digest": digest_of(old)},
        "new": {"label": new.label, "digest": digest_of(new)},
        "margin": margin,
        "must_be_shown": must_be_shown(margin),
        "can_be_shown": can_be_shown(margin),
        "enough_to_count": enough_to_count(margin),
        "verdict": {"accepted": not reasons, "reasons": reasons},
        "groups": found,
    }


def digest_of(release: Release) -> str:
    """What tells a release from any other: its manifest's SHA-256, as the clinic notes it too."""
    return hashlib.sha256((release.directory / MANIFEST).read_bytes()).hexdigest()


def refusals(found: Sequence[Figures], margin: float) -> Iterator[str]:
    """A sentence for everything that speaks against the new release."""
    whole = found[0]["figures"]
    fewest = min(whole[name]["films"] for name in ("sensitivity", "specificity"))
    if fewest < enough_to_count(margin):
        yield (
            f"Too few films to compare at all: {enough_to_count(margin)} with pneumonia and as "
            f"many without must be scored by both; there are {fewest} of the rarer kind."
        )
    for group in found:
        for name, figure in group["figures"].items():
            if figure["is_worse"]:
                yield sentence(group, name, figure)


def sentence(group: Figures, name: str, figure: Figures) -> str:
    """What is worse, where, and by how much."""
    gap = figure["difference"]
    where = group["group"] if group["kind"] == OVERALL[0] else f"{group['kind']} {group['group']}"
    why = {
        "not_shown": f"a loss of more than {figure['margin']:.3f} cannot be ruled out",
        "counted": f"the loss is more than {figure['margin']:.3f}",
        "evident": f"a loss that chance hardly explains (p {figure['p_value']:.3f})",
    }[figure["judged"]]
    return (
        f"{name} in {where}: {figure['old']:.3f} became {figure['new']:.3f}, difference "
        f"{gap['value']:+.3f} (95 % {gap['low']:+.3f} to {gap['high']:+.3f}, {figure['films']} "
        f"films): {why}."
    )


# --- the stage ----------------------------------------------------------------------------------


def fixed_films(options: argparse.Namespace) -> list[LabelledFilm]:
    """The films of the command line, and contributions' patients that nothing is trained on."""
    films = load_films(options)
    if options.contributions:
        films += split_by_patient(load_contributions(options.contributions)).test
    return films


def answers(films: Sequence[LabelledFilm], old: Model, new: Model, age: float | None) -> list[Both]:
    """What both releases say of every film; the film's own age goes before ``age``."""
    return [
        Both(film, _answer(film, old, age), _answer(film, new, age))
        for film in tqdm(films, "comparing", unit="film")
    ]


def _answer(film: LabelledFilm, model: Model, age: float | None) -> Analysis:
    known = film.age_years if film.age_years is not None else age
    return replace(analyse(film.path, model, known), film=None, activation_map=None)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of this stage."""
    parser.add_argument("--old", type=Path, required=True, help="release that clinics have")
    parser.add_argument("--new", type=Path, required=True, help="release that may follow it")
    add_film_arguments(parser)
    parser.add_argument(
        "--contributions", type=Path, help="folder made by merge: its held-out patients as well"
    )
    parser.add_argument(
        "--margin", type=float, default=MARGIN,
        help=f"loss that is put up with, 0 to {LARGEST_MARGIN}; {MARGIN} unless told",
    )  # fmt: skip
    parser.add_argument("--json", type=Path, required=True, help="where to write the comparison")
    parser.add_argument("--report", type=Path, help="where to write it to be read (Markdown)")


def main(options: argparse.Namespace) -> int:
    """Run the stage; returns the exit status."""
    lacking = wrong_films(options)
    if not 0 < options.margin <= LARGEST_MARGIN:
        lacking = f"--margin lies above 0 and is {LARGEST_MARGIN} at most"
    if lacking:
        print(lacking, file=sys.stderr)
        return 2
    try:
        old, new = (Model.load(Release.load(path)) for path in (options.old, options.new))
        films = fixed_films(options)
    except (UnusableRelease, OSError, ValueError) as error:
        print(f"{error}\nNothing was compared.", file=sys.stderr)
        return 2
    both = answers(films, old, new, options.age)
    figures = compare(both, old.release, new.release, options.margin)
    told = json.dumps(without_nan(figures), indent=1)
    options.json.write_text(told + "\n", encoding="utf-8")
    if options.report:
        options.report.write_text(page(figures), encoding="utf-8")
    return say(figures)


def say(figures: dict[str, Any]) -> int:
    """The verdict on the terminal, and the exit status that it means."""
    names = f"{figures['new']['label']} against {figures['old']['label']}"
    for reason in figures["verdict"]["reasons"]:
        print(reason, file=sys.stderr)
    accepted = bool(figures["verdict"]["accepted"])
    print(f"{names}: {'accepted' if accepted else 'refused'}")
    return 0 if accepted else 1
