"""Train a classifier on films split by patient; can be stopped at any time and resumed.

A run is a folder: ``experiment.json``, ``history.csv`` (one row an epoch), ``run.weights.h5`` (of
the last epoch, where the learning rate has come to rest), ``taught.npy`` (what teachers said) and
``backup/`` (where a stopped run takes up again). The best epoch on patients of the same hospital is
not kept: all are near 0.99 there, and the choice would be one of chance, or of the hospital's
habits.

With ``--workers`` several machines train it together (``workers``); the folder is the first one's.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from model_export import configs
from model_export.batches import balanced_batches, gather_films, no_places
from model_export.continuing import Continuation
from model_export.datasets import load_kermany, read_films, split_by_patient
from model_export.network import LOGIT, MAP, classifier
from model_export.pretrained import load_imagenet
from model_export.resuming import (
    BACKUP,
    HISTORY,
    ResumableEarlyStopping,
    forget_unsaved,
    past_scores,
)
from model_export.runs import WEIGHTS
from model_export.workers import (
    GONE,
    LEFT_ALONE,
    FromChief,
    NotTogether,
    OfAll,
    SharedAdamW,
    Workers,
)
from model_export.workers import add_arguments as add_worker_arguments

WARM_UP_SHARE = 0.2
PLACES_WEIGHT = 0.5
TAUGHT = "taught.npy"


@keras.saving.register_keras_serializable(package="model_export")
class OneCycle(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up to ``peak`` over a fifth of the steps, then cosine to zero (Smith 2018)."""

    def __init__(self, peak: float, steps: int) -> None:
        self.peak, self.steps = peak, steps

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        done = tf.cast(step, tf.float32) / self.steps
        rising = 0.05 + 0.95 * done / WARM_UP_SHARE
        falling = 0.5 + 0.5 * tf.cos(
            np.pi * tf.minimum((done - WARM_UP_SHARE) / (1 - WARM_UP_SHARE), 1.0)
        )
        return self.peak * tf.where(done < WARM_UP_SHARE, rising, falling)

    def get_config(self) -> dict[str, float]:
        return {"peak": self.peak, "steps": self.steps}


class TimeLeft(keras.callbacks.Callback):
    """One bar over the whole run with the time left, a resumed run starting where it stood."""

    def __init__(self, epochs: int, steps: int) -> None:
        super().__init__()
        self.epochs, self.steps_each = epochs, steps
        self.bar: tqdm | None = None

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        if self.bar is None:
            total, done = self.epochs * self.steps_each, epoch * self.steps_each
            self.bar = tqdm(total=total, initial=done, unit="step", desc="training", mininterval=2)

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        if self.bar is None:
            return
        self.bar.update()
        if logs:
            self.bar.set_postfix(loss=f"{logs['loss']:.3f}", refresh=False)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        if logs:
            values = " ".join(f"{key} {value:.4f}" for key, value in logs.items())
            tqdm.write(f"epoch {epoch + 1}/{self.epochs} {values}")

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        if self.bar is not None:
            self.bar.close()


def compile_model(
    model: keras.Model, experiment: configs.Experiment, steps: int, workers: Workers | None = None
) -> None:
    """AdamW under a one-cycle schedule; no weight decay on batch normalisation and biases."""
    kind = partial(SharedAdamW, workers=workers) if workers else keras.optimizers.AdamW
    optimizer = kind(
        OneCycle(experiment.peak_learning_rate, steps * experiment.epochs),
        weight_decay=experiment.weight_decay,
        use_ema=experiment.averaging > 0,
        ema_momentum=experiment.averaging or 0.99,
    )
    optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
    model.compile(
        optimizer,
        {
            LOGIT: keras.losses.BinaryCrossentropy(
                from_logits=True, label_smoothing=experiment.label_smoothing
            ),
            MAP: places_loss,
        },
        loss_weights={LOGIT: 1.0, MAP: PLACES_WEIGHT},
        metrics={LOGIT: keras.metrics.AUC(from_logits=True, num_thresholds=2000, name="auc")},
        jit_compile=False,
    )


def places_loss(wanted: tf.Tensor, scores: tf.Tensor) -> tf.Tensor:
    """Cross-entropy of the places of films, ``(films,)``; ``wanted`` as of ``batches.places``."""
    target, weight = wanted[..., :1], wanted[..., 1:]
    losses = tf.nn.sigmoid_cross_entropy_with_logits(target, scores)
    return tf.reduce_sum(weight * losses, axis=(1, 2, 3))


def trainable(model: keras.Model) -> keras.Model:
    """The same network with its map as a second output, which is taught as well."""
    outputs = {name: model.get_layer(name).output for name in (LOGIT, MAP)}
    return keras.Model(model.input, outputs, name=model.name)


def _callbacks(
    run: Path, experiment: configs.Experiment, steps: int, workers: Workers | None = None
) -> list[keras.callbacks.Callback]:
    callbacks = _of_run(run, experiment, steps) if not workers or workers.is_chief else []
    if experiment.averaging:
        callbacks.insert(0, keras.callbacks.SwapEMAWeights(swap_on_epoch=True))
    return [OfAll(workers), *callbacks, FromChief(workers)] if workers else callbacks


def _of_run(
    run: Path, experiment: configs.Experiment, steps: int
) -> list[keras.callbacks.Callback]:
    return [
        keras.callbacks.ModelCheckpoint(run / WEIGHTS, save_weights_only=True),
        TimeLeft(experiment.epochs, steps),
        keras.callbacks.CSVLogger(run / HISTORY, append=True),
        ResumableEarlyStopping(run / HISTORY, experiment.patience),
        keras.callbacks.BackupAndRestore(
            run / BACKUP, delete_checkpoint=False, double_checkpoint=True
        ),
    ]


def _open_run(run: Path, experiment: configs.Experiment) -> int:
    """Make the folder, or find it; how many epochs it has behind it."""
    run.mkdir(parents=True, exist_ok=True)
    (run / "experiment.json").write_text(
        json.dumps(dataclasses.asdict(experiment), indent=2) + "\n"
    )
    forget_unsaved(run)
    return len(past_scores(run / HISTORY))


def train(
    experiment: configs.Experiment,
    data: Path,
    run: Path,
    teachers: Sequence[Path] = (),
    unlabelled: Path | None = None,
    start: Path | None = None,
    continuation: Continuation | None = None,
    workers: Workers | None = None,
) -> None:
    """Train ``experiment`` on the Kermany folder ``data`` into ``run``; resumes what it finds
    there.

    ``teachers``: finished runs or releases; ``unlabelled``: a folder of films; ``start``: a run to
    begin from, else the weights of ImageNet; ``continuation``: what a release goes on with.
    ``workers``: who else trains it; of them only the chief writes into ``run``. Raises NotTogether,
    and one of GONE where another worker is.
    """
    keeps_run = workers is None or workers.is_chief
    done = _open_run(run, experiment) if keeps_run else 0
    if workers:
        done = workers.begin(done)
    keras.utils.set_random_seed(experiment.seed + done)
    known = load_kermany(data)
    if continuation is not None:
        continuation.check(experiment)
        known, teachers = known + continuation.films(), teachers or [continuation.release]
    split = split_by_patient(known)
    films = gather_films(
        experiment, split, teachers, unlabelled, run / TAUGHT if keeps_run else None
    )
    if workers:
        workers.refuse_other_films(films.images, films.labels)
        (said,) = workers.of_chief([tf.constant(films.targets)])  # by teachers: not all round alike
        films = dataclasses.replace(films, targets=said.numpy())
    held_out = read_films(split.validation, experiment.size, "validation films").astype(np.float32)
    truth = tf.constant([film.label for film in split.validation], tf.float32)
    wanted = {LOGIT: truth[:, tf.newaxis], MAP: no_places(truth, experiment)}

    steps = 2 * int((films.labels == 1).sum()) // experiment.batch
    batches = balanced_batches(films, experiment, workers)  # whose workers draw apart from here on
    model = classifier(experiment.size, experiment.dropout, experiment.drop_connect)
    if continuation is not None:
        continuation.load_weights(model)
    elif start is None:
        load_imagenet(model)
    else:
        model.load_weights(start / WEIGHTS)
    model = trainable(model)
    compile_model(model, experiment, steps, workers)
    started = time.monotonic()
    model.fit(
        batches,
        epochs=experiment.epochs,
        steps_per_epoch=steps,
        validation_data=tf.data.Dataset.from_tensor_slices((held_out, wanted)).batch(64),
        callbacks=_callbacks(run, experiment, steps, workers),
        verbose=0,
    )
    where = f"weights in {run}" if keeps_run else "weights with the first worker"
    print(f"trained in {(time.monotonic() - started) / 60:.1f} minutes; {where}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of this stage."""
    parser.add_argument("--config", default="first_light", help="a module of model_export/configs")
    parser.add_argument("--data", type=Path, required=True, help="folder with NORMAL and PNEUMONIA")
    parser.add_argument(
        "--run", type=Path, required=True, help="folder of the run; resumed if it exists"
    )
    parser.add_argument("--seed", type=int, help="another seed than the experiment's: a repeat")
    parser.add_argument(
        "--teachers", type=Path, nargs="+", default=[], help="runs or releases to learn from"
    )
    parser.add_argument("--unlabelled", type=Path, help="folder of films without labels")
    parser.add_argument("--start", type=Path, help="run to begin from, of pretrain for instance")
    parser.add_argument(
        "--continue-from", type=Path, help="release or run to go on with, by --config continued"
    )
    parser.add_argument("--member", type=int, default=0, help="which network of it, counted from 0")
    parser.add_argument("--new", type=Path, help="with --continue-from: folder made by merge")
    add_worker_arguments(parser)


def main(options: argparse.Namespace) -> int:
    """Run the stage; returns the exit status."""
    if (options.continue_from is None) != (options.new is None):
        print("--continue-from and --new go together.", file=sys.stderr)
        return 2
    experiment = configs.load(options.config)
    if options.seed is not None:
        experiment = dataclasses.replace(experiment, seed=options.seed)
    continuation = None
    if options.continue_from is not None:
        continuation = Continuation(options.continue_from, options.member, options.new)
    try:
        train(
            experiment,
            options.data,
            options.run,
            options.teachers,
            options.unlabelled,
            options.start,
            continuation,
            Workers(options.workers, options.worker, experiment) if options.workers else None,
        )
    except NotTogether as error:
        print(f"{error}.", file=sys.stderr)
        return 2
    except GONE:
        if options.workers is None:
            raise
        print(LEFT_ALONE, file=sys.stderr)
        return 1
    return 0
