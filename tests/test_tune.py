"""A search for settings: resumed without loss, reproducible, inside its ranges.

No network is trained here: an attempt is a function that says how good an experiment is.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import itertools
import math
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from model_export import __main__ as command_line
from model_export import configs, tune
from model_export.augment import Augmentation
from model_export.configs import Experiment
from model_export.tune import (
    OF_THE_AUGMENTATION,
    OF_THE_EXPERIMENT,
    PARAMETERS,
    SIZES,
    Score,
    done,
    open_study,
    search,
)

BASE = Experiment("base", epochs=1, batch=8, augmentation=Augmentation(flip=False, shift=0.07))


class Killed(BaseException):
    """As a kill does, it lets nothing be written down on the way."""


class Attempts:
    """Stands for training: keeps what it was asked for, likes a small learning rate."""

    def __init__(self, killed_at: int | None = None) -> None:
        self.experiments: list[Experiment] = []
        self.runs: list[str] = []
        self.killed_at = killed_at

    def __call__(self, experiment: Experiment, run: Path) -> Score:
        if len(self.experiments) == self.killed_at:
            raise Killed
        self.experiments.append(experiment)
        self.runs.append(run.name)
        return Score(0.99, (0.9 - experiment.peak_learning_rate, 0.8))


def tuned(folder: Path, trials: int, attempts: Attempts, seed: int = 1) -> optuna.Study:
    study = open_study(folder, BASE)
    search(study, folder, BASE, trials, seed, attempts)
    return study


def killed(folder: Path, after: int, trials: int = 5) -> Attempts:
    attempts = Attempts(killed_at=after)
    with pytest.raises(Killed):
        tuned(folder, trials, attempts)
    return attempts


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "trials.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def proposals(attempts: Attempts) -> list[Experiment]:
    """What was tried, but for the name, which carries the number."""
    return [dataclasses.replace(experiment, name="") for experiment in attempts.experiments]


@pytest.fixture(scope="module")
def twelve(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Attempts]:
    """A study of twelve trials: ten at random, two that learn from them."""
    folder, attempts = tmp_path_factory.mktemp("studies") / "twelve", Attempts()
    tuned(folder, 12, attempts)
    return folder, attempts


# --- what is proposed -------------------------------------------------------------------------


def test_every_parameter_lies_in_its_range(twelve):
    for experiment in twelve[1].experiments:
        assert experiment.size in SIZES
        for name, limits in OF_THE_EXPERIMENT.items():
            assert limits.low <= getattr(experiment, name) <= limits.high
        for name, limits in OF_THE_AUGMENTATION.items():
            assert limits.low <= getattr(experiment.augmentation, name) <= limits.high


def test_every_parameter_is_varied(twelve):
    for name in PARAMETERS:
        assert len({row[name] for row in rows(twelve[0])}) > 1, name


def test_what_is_not_sought_stays_as_the_experiment_has_it(twelve):
    for experiment in twelve[1].experiments:
        assert (experiment.epochs, experiment.batch, experiment.seed) == (1, 8, 1)
        assert (experiment.augmentation.flip, experiment.augmentation.shift) == (False, 0.07)


def test_every_trial_is_another_experiment(twelve):
    assert len({repr(experiment) for experiment in proposals(twelve[1])}) == 12


def test_every_range_is_one_of_a_real_setting_and_holds_more_than_a_point():
    settings = {field.name for field in dataclasses.fields(Experiment)}
    strengths = {field.name for field in dataclasses.fields(Augmentation)}
    assert set(OF_THE_EXPERIMENT) <= settings
    assert set(OF_THE_AUGMENTATION) <= strengths
    for limits in (*OF_THE_EXPERIMENT.values(), *OF_THE_AUGMENTATION.values()):
        assert limits.low < limits.high
        assert limits.low > 0 or not limits.log


def test_every_size_is_one_that_the_network_takes():
    assert all(size % 32 == 0 for size in SIZES)
    assert {b - a for a, b in itertools.pairwise(SIZES)} == {32}


def test_the_same_seed_proposes_the_same(twelve, tmp_path):
    again = Attempts()
    tuned(tmp_path / "again", 12, again)
    assert proposals(again) == proposals(twelve[1])


def test_another_seed_proposes_something_else(twelve, tmp_path):
    other = Attempts()
    tuned(tmp_path / "other", 3, other, seed=2)
    assert not {repr(e) for e in proposals(other)} & {repr(e) for e in proposals(twelve[1])}


# --- killed and resumed -----------------------------------------------------------------------


def test_a_study_goes_on_where_it_stood(tmp_path):
    first, second = Attempts(), Attempts()
    tuned(tmp_path, 2, first)
    study = tuned(tmp_path, 5, second)
    assert (len(first.experiments), len(second.experiments)) == (2, 3)
    assert len(study.get_trials(states=(TrialState.COMPLETE,))) == 5


def test_a_study_that_is_done_tries_nothing_more(twelve):
    attempts = Attempts()
    tuned(twelve[0], 12, attempts)
    assert attempts.experiments == []


@pytest.mark.parametrize("after", [0, 1, 3])
def test_a_killed_trial_does_not_count(tmp_path, after):
    before, rest = killed(tmp_path, after), Attempts()
    study = tuned(tmp_path, 5, rest)
    assert len(before.experiments) + len(rest.experiments) == 5
    assert len(study.get_trials(states=(TrialState.COMPLETE,))) == done(study) == 5
    assert study.get_trials(states=(TrialState.RUNNING, TrialState.WAITING)) == []


def test_a_killed_trial_is_taken_up_again_in_its_own_run(tmp_path):
    killed(tmp_path, 2)
    rest = Attempts()
    tuned(tmp_path, 5, rest)
    assert rest.runs == ["trial-002", "trial-004", "trial-005"]


def test_a_trial_killed_twice_is_still_taken_up_in_its_first_run(tmp_path):
    killed(tmp_path, 2)
    killed(tmp_path, 0)
    rest = Attempts()
    tuned(tmp_path, 3, rest)
    assert rest.runs == ["trial-002"]
    assert [row["state"] for row in rows(tmp_path)] == [
        "complete", "complete", "broken_off", "broken_off", "complete"
    ]  # fmt: skip


@pytest.mark.parametrize("after", [0, 2, 11])
def test_a_killed_study_proposes_what_an_unbroken_one_would_have(twelve, tmp_path, after):
    before, rest = killed(tmp_path, after, trials=12), Attempts()
    tuned(tmp_path, 12, rest)
    assert proposals(before) + proposals(rest) == proposals(twelve[1])


def test_a_trial_that_broke_down_stops_the_search_and_does_not_count(tmp_path):
    def broken(experiment: Experiment, run: Path) -> Score:
        raise OSError("the stick is gone")

    study = open_study(tmp_path, BASE)
    with pytest.raises(OSError, match="stick"):
        search(study, tmp_path, BASE, 2, 1, broken)
    assert done(open_study(tmp_path, BASE)) == 0


def test_a_score_that_is_no_number_counts_as_a_trial_and_never_as_the_best(tmp_path):
    scores = iter([Score(math.nan, (math.nan,)), Score(0.6, (0.5,))])
    study = open_study(tmp_path, BASE)
    search(study, tmp_path, BASE, 2, 1, lambda experiment, run: next(scores))
    assert [row["state"] for row in rows(tmp_path)] == ["fail", "complete"]
    assert study.best_trial.number == 1


@pytest.mark.parametrize("change", [{"epochs": 9}, {"augmentation": Augmentation(shift=0.0)}])
def test_a_study_of_another_experiment_is_not_gone_on_with(tmp_path, change):
    tuned(tmp_path, 1, Attempts())
    with pytest.raises(ValueError, match="another experiment"):
        open_study(tmp_path, dataclasses.replace(BASE, **change))


def test_a_study_in_another_folder_is_another_study(tmp_path):
    tuned(tmp_path / "one", 2, Attempts())
    assert done(open_study(tmp_path / "two", BASE)) == 0


# --- what is sought, and the table ------------------------------------------------------------


def test_the_score_is_the_mean_over_the_films_as_they_are_and_changed():
    assert Score(0.99, (0.9, 0.8, 0.7)).value == pytest.approx(np.mean([0.99, 0.9, 0.8, 0.7]))


def test_a_network_that_keeps_its_answers_elsewhere_is_better_than_one_at_its_best_at_home():
    assert Score(0.98, (0.95, 0.95, 0.95)).value > Score(0.995, (0.9, 0.9, 0.9)).value


def test_the_best_trial_is_the_one_with_the_highest_score(twelve):
    study = open_study(twelve[0], BASE)
    rates = [experiment.peak_learning_rate for experiment in twelve[1].experiments]
    assert study.best_trial.number == int(np.argmin(rates))


def test_the_table_has_every_trial_with_all_that_was_tried(twelve):
    folder, attempts = twelve
    table = rows(folder)
    assert [row["number"] for row in table] == [str(n) for n in range(12)]
    assert {row["state"] for row in table} == {"complete"}
    for row, experiment in zip(table, attempts.experiments, strict=True):
        assert int(row["size"]) == experiment.size
        assert float(row["weight_decay"]) == experiment.weight_decay
        assert float(row["erase"]) == experiment.augmentation.erase
        assert float(row["minutes"]) >= 0
        assert float(row["auc_at_home"]) == 0.99
        wanted = np.mean([0.99, 0.9 - experiment.peak_learning_rate, 0.8])
        assert float(row["value"]) == pytest.approx(wanted)


def test_the_table_is_there_after_every_trial(tmp_path):
    seen: list[int] = []

    def counting(experiment: Experiment, run: Path) -> Score:
        seen.append(len(rows(tmp_path)))
        return Score(0.9, (0.8,))

    search(open_study(tmp_path, BASE), tmp_path, BASE, 3, 1, counting)
    assert seen == [0, 1, 2]
    assert not list(tmp_path.glob("*.part"))


def test_the_table_says_which_trials_were_broken_off(tmp_path):
    killed(tmp_path, 1)
    tuned(tmp_path, 2, Attempts())
    states = [(row["state"], row["run"]) for row in rows(tmp_path)]
    assert states == [
        ("complete", "trial-000"), ("broken_off", "trial-001"), ("complete", "trial-001")
    ]  # fmt: skip
    assert rows(tmp_path)[1]["value"] == ""


# --- the command ------------------------------------------------------------------------------


def command(*arguments: str) -> tuple[int, list[tuple[int, Path]]]:
    """The stage with a stand-in for training: its exit status, and the epochs and data it asked."""
    asked: list[tuple[int, Path]] = []

    def attempt(experiment: Experiment, data: Path, run: Path) -> Score:
        asked.append((experiment.epochs, data))
        return Score(math.nan if data.name == "hopeless" else 0.9, (0.8,))

    parser = argparse.ArgumentParser()
    tune.add_arguments(parser)
    return tune.main(parser.parse_args(arguments), attempt), asked


def test_the_stage_tries_as_often_and_as_long_as_it_is_told(tmp_path, capsys):
    study = ("--study", str(tmp_path))
    asked = command("--data", "films", *study, "--trials", "2", "--epochs", "7")
    assert asked == (0, [(7, Path("films"))] * 2)
    assert len(rows(tmp_path)) == 2
    assert "best of 2: trial-000" in capsys.readouterr().out


def test_without_epochs_the_experiments_own_are_used(tmp_path):
    asked = command("--data", "films", "--study", str(tmp_path), "--trials", "1")
    assert asked == (0, [(configs.load("first_light").epochs, Path("films"))])


def test_a_search_without_any_score_says_so_and_fails(tmp_path, capsys):
    status, _ = command("--data", "hopeless", "--study", str(tmp_path), "--trials", "1")
    assert status == 1
    assert "no trial has a score" in capsys.readouterr().out


def test_the_stage_is_one_of_the_workshops(capsys):
    with pytest.raises(SystemExit) as stopped:
        command_line.main(["tune", "--help"])
    assert stopped.value.code == 0
    assert "--study" in capsys.readouterr().out
