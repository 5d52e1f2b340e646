"""Search for better settings of an experiment; can be stopped at any time and resumed.

A study is a folder: ``study.db`` (Optuna's record), ``trials.csv`` (the same as a table, written
anew after every trial) and a run of ``train`` for each trial in ``trial-NNN``. A trial that was
broken off is taken up again where its run stands, and counts once it is done. One process at a
time works on a study.

What is sought is not the AUC on films of the same hospital, which is near 0.99 whatever the
settings are, but its mean over the validation films as they are and as another hospital might have
taken them. That is a guess at another hospital, not a visit to one: look at the table, and choose
between the best few by films from elsewhere. No trial is pruned, because under a one-cycle schedule
the first epochs say little of the last.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from app.cxr.metrics import auc
from model_export import configs
from model_export.configs import Experiment
from model_export.datasets import load_kermany, read_films, split_by_patient
from model_export.pack import elsewhere
from model_export.runs import load_trained
from model_export.train import train

DATABASE = "study.db"
TABLE = "trials.csv"
DRAWS = 3
BROKEN_OFF = "broken_off"
SCORES = ("auc_at_home", "auc_elsewhere")


@dataclass(frozen=True)
class Range:
    """Between which values a parameter is sought; ``log``: evenly in its logarithm."""

    low: float
    high: float
    log: bool = False


SIZES = (128, 160, 192, 224)
OF_THE_EXPERIMENT = {
    "peak_learning_rate": Range(1e-4, 5e-3, log=True),
    "weight_decay": Range(1e-6, 1e-2, log=True),
    "label_smoothing": Range(0.0, 0.2),
    "dropout": Range(0.0, 0.5),
    "drop_connect": Range(0.0, 0.4),
}
OF_THE_AUGMENTATION = {
    "rotation": Range(0.0, 25.0),
    "scale": Range(0.0, 0.4),
    "aspect": Range(0.0, 0.4),
    "gamma": Range(0.0, 0.8),
    "contrast": Range(0.0, 0.6),
    "blur": Range(0.0, 1.0),
    "noise": Range(0.0, 0.1),
    "erase": Range(0.0, 0.5),
    "shading": Range(0.0, 0.4),
}
PARAMETERS = (*OF_THE_EXPERIMENT, "size", *OF_THE_AUGMENTATION)


@dataclass(frozen=True)
class Score:
    """AUC (0..1) on the validation films as they are, and on each draw of them changed."""

    at_home: float
    elsewhere: tuple[float, ...]

    @property
    def value(self) -> float:
        """What the search makes as large as it can: the mean over all of them."""
        return float(np.mean([self.at_home, *self.elsewhere]))


Attempt = Callable[[Experiment, Path], Score]


def suggest(trial: Trial, base: Experiment) -> Experiment:
    """``base`` with the parameters that the study proposes for this trial."""
    own, of_films = (
        {name: trial.suggest_float(name, r.low, r.high, log=r.log) for name, r in ranges.items()}
        for ranges in (OF_THE_EXPERIMENT, OF_THE_AUGMENTATION)
    )
    changes: dict[str, Any] = dict(own)
    strengths: dict[str, Any] = dict(of_films)
    return dataclasses.replace(
        base,
        name=f"{base.name}-{trial.number:03d}",
        size=trial.suggest_int("size", SIZES[0], SIZES[-1], step=SIZES[1] - SIZES[0]),
        augmentation=dataclasses.replace(base.augmentation, **strengths),
        **changes,
    )


def open_study(folder: Path, base: Experiment) -> optuna.Study:
    """The study of a folder, new or resumed, with what was broken off queued to be done again.

    Raises ValueError where the study began with another experiment: its values would not compare.
    """
    folder.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        storage=f"sqlite:///{(folder / DATABASE).resolve()}",
        study_name="tune",
        direction="maximize",
        pruner=optuna.pruners.NopPruner(),
        load_if_exists=True,
    )
    experiment = json.loads(json.dumps(dataclasses.asdict(base)))
    if study.user_attrs.setdefault("experiment", experiment) != experiment:
        raise ValueError(f"the study in {folder} began with another experiment; name a new folder")
    study.set_user_attr("experiment", experiment)
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        _give_up(study, trial)
    return study


def _give_up(study: optuna.Study, trial: FrozenTrial) -> None:
    """Close a trial whose process is gone, and queue its parameters with its run's folder."""
    study.set_user_attr(BROKEN_OFF, [*_broken_off(study), trial.number])
    study.tell(trial.number, state=TrialState.FAIL)
    study.enqueue_trial(trial.params, user_attrs={"run": _run_name(trial)})


def _broken_off(study: optuna.Study) -> list[int]:
    return list(study.user_attrs.get(BROKEN_OFF, []))


def _run_name(trial: Trial | FrozenTrial) -> str:
    return str(trial.user_attrs.get("run", f"trial-{trial.number:03d}"))


def done(study: optuna.Study) -> int:
    """How many trials came to an end, a score that is no number included."""
    ended = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.FAIL))
    return sum(trial.number not in _broken_off(study) for trial in ended)


def search(
    study: optuna.Study, folder: Path, base: Experiment, trials: int, seed: int, attempt: Attempt
) -> None:
    """Go on until ``trials`` trials are done; ``attempt`` makes a run of each and scores it."""
    write_table(study, folder)
    while (number := done(study)) < trials:
        study.sampler = sampler(seed, number)
        trial = study.ask()
        experiment = suggest(trial, base)
        run = folder / _run_name(trial)
        print(f"trial {number + 1} of {trials} in {run}: {json.dumps(trial.params)}")
        started = time.monotonic()
        score = attempt(experiment, run)
        trial.set_user_attr("minutes", (time.monotonic() - started) / 60)
        trial.set_user_attr(SCORES[0], score.at_home)
        trial.set_user_attr(SCORES[1], float(np.mean(score.elsewhere)))
        finite = math.isfinite(score.value)
        study.tell(trial, *([score.value] if finite else [None, TrialState.FAIL]))
        write_table(study, folder)


def sampler(seed: int, number: int) -> optuna.samplers.BaseSampler:
    """What proposes trial ``number``: a resumed study proposes what an unbroken one would have."""
    (state,) = np.random.SeedSequence([seed, number]).generate_state(1)
    return optuna.samplers.TPESampler(seed=int(state))


def write_table(study: optuna.Study, folder: Path) -> None:
    """``trials.csv``: one row a trial, in order; empty where there is nothing to say."""
    part = folder / f"{TABLE}.part"
    with part.open("w", newline="", encoding="utf-8") as file:
        columns = ["number", "state", "value", *SCORES, *PARAMETERS, "minutes", "run"]
        table = csv.DictWriter(file, columns)
        table.writeheader()
        table.writerows(_row(trial, _broken_off(study)) for trial in study.trials)
    part.replace(folder / TABLE)


def _row(trial: FrozenTrial, broken_off: list[int]) -> dict[str, Any]:
    return {
        "number": trial.number,
        "state": BROKEN_OFF if trial.number in broken_off else trial.state.name.lower(),
        "value": trial.value,
        **{name: trial.params.get(name) for name in PARAMETERS},
        **{name: trial.user_attrs.get(name) for name in (*SCORES, "minutes")},
        "run": _run_name(trial),
    }


def train_and_score(experiment: Experiment, data: Path, run: Path) -> Score:
    """Train the trial's run (resumed where it stands), then score it on the validation patients."""
    keras.backend.clear_session()
    train(experiment, data, run)
    films = split_by_patient(load_kermany(data)).validation
    images = read_films(films, experiment.size, "validation films")
    labels = np.array([film.label for film in films])
    model = load_trained(run)

    def auc_of(shown: np.ndarray) -> float:
        logits = model.predict(shown.astype(np.float32), batch_size=64, verbose=0)
        return auc(labels, logits.ravel()) if np.isfinite(logits).all() else math.nan

    return Score(auc_of(images), tuple(auc_of(elsewhere(images, draw)) for draw in range(DRAWS)))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of this stage."""
    parser.add_argument("--config", default="first_light", help="the experiment to start from")
    parser.add_argument("--data", type=Path, required=True, help="folder with NORMAL and PNEUMONIA")
    parser.add_argument(
        "--study", type=Path, required=True, help="folder of the study; resumed if it exists"
    )
    parser.add_argument(
        "--trials", type=int, default=30, help="trials in all, earlier ones counted"
    )
    parser.add_argument("--epochs", type=int, help="epochs of each trial; the experiment's if left")
    parser.add_argument("--seed", type=int, default=1, help="of the proposals")


def main(
    options: argparse.Namespace,
    attempt: Callable[[Experiment, Path, Path], Score] = train_and_score,
) -> int:
    """Run the stage; returns the exit status. ``attempt`` takes experiment, data and run."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    base = configs.load(options.config)
    if options.epochs is not None:
        base = dataclasses.replace(base, epochs=options.epochs)
    study = open_study(options.study, base)
    search(
        study,
        options.study,
        base,
        options.trials,
        options.seed,
        lambda experiment, run: attempt(experiment, options.data, run),
    )
    if not study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        print(f"no trial has a score; see {options.study / TABLE}")
        return 1
    best = study.best_trial
    print(
        f"best of {done(study)}: {_run_name(best)} with {best.value:.4f}; {options.study / TABLE}"
    )
    return 0
