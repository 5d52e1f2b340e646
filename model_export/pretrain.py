"""Learn from films alone what two changed pictures of one film have in common: Barlow Twins.

Each film is shown twice, changed differently by an experiment's augmentation. Features are taught
to agree between the two and to repeat nothing of one another (Zbontar et al. 2021); that needs
neither labels nor large batches. From ImageNet's weights, on the training patients and any other
films; what comes out is a run that ``train --start`` begins from.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from model_export import configs
from model_export.augment import Augmentation, augment
from model_export.configs import Experiment
from model_export.datasets import (
    films_under,
    load_kermany,
    read_films,
    read_paths,
    split_by_patient,
)
from model_export.network import FEATURES, classifier
from model_export.pretrained import load_imagenet
from model_export.runs import WEIGHTS
from model_export.train import OneCycle, TimeLeft

PROJECTED = 512
REDUNDANCY = 0.005  # weight of what is repeated, as in the paper
OTHER_SHARE = 4  # one film of so many in a batch is one of the others'
EPOCHS = 4
BATCH = 64


def barlow_twins(_: tf.Tensor, projected: tf.Tensor) -> tf.Tensor:
    """How far the two views of each film differ, and how much features repeat of one another.

    ``projected``: float32 ``(2 * films, features)``, the other views of all films after the first.
    """
    one, other = (_standardised(part) for part in tf.split(projected, 2))
    films = tf.cast(tf.shape(one)[0], tf.float32)
    correlation = tf.matmul(one, other, transpose_a=True) / films
    agreement = tf.linalg.diag_part(correlation)
    repeated = tf.reduce_sum(correlation**2) - tf.reduce_sum(agreement**2)
    return tf.reduce_sum((1 - agreement) ** 2) + REDUNDANCY * repeated


def _standardised(part: tf.Tensor) -> tf.Tensor:
    mean, variance = tf.nn.moments(part, axes=0)
    return (part - mean) / tf.sqrt(variance + 1e-5)


def projector(network: keras.Model) -> keras.Model:
    """The network's backbone with the head that only the pre-training needs."""
    x = layers.GlobalAveragePooling2D(name="pooled")(network.get_layer(FEATURES).output)
    x = layers.Dense(PROJECTED, use_bias=False, name="projector_hidden")(x)
    x = layers.ReLU(name="projector_relu")(layers.BatchNormalization(name="projector_bn")(x))
    x = layers.Dense(PROJECTED, use_bias=False, name="projected")(x)
    return keras.Model(network.input, x, name="projector")


def views(
    children: np.ndarray, others: np.ndarray, change: Augmentation, batch: int = BATCH
) -> tf.data.Dataset:
    """Endless batches of two changed pictures of ``batch`` films, a quarter of them ``others``."""
    few = batch // OTHER_SHARE
    films = tf.constant(np.concatenate([children, others]))
    parts = [
        tf.data.Dataset.range(first, last).shuffle(last - first).repeat().batch(count)
        for first, last, count in (
            (0, len(children), batch - few),
            (len(children), len(children) + len(others), few),
        )
    ]

    def build(*chosen: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        grey = tf.cast(tf.gather(films, tf.concat(chosen, axis=0)), tf.float32)
        pair = [augment(grey, change) for _ in range(2)]
        shown = tf.ensure_shape(tf.concat(pair, axis=0), (None, *children.shape[1:]))
        return shown, tf.zeros((2 * batch, 1))

    return tf.data.Dataset.zip(tuple(parts)).map(build, num_parallel_calls=2).prefetch(4)


def pretrain(
    experiment: Experiment, data: Path, unlabelled: Path, run: Path, epochs: int = EPOCHS
) -> None:
    """Write a run into ``run`` whose backbone has seen all films; resumes what it finds there.

    Of the ``experiment`` size, augmentation, learning rate and seed count.
    """
    run.mkdir(parents=True, exist_ok=True)
    (run / "experiment.json").write_text(
        json.dumps(dataclasses.asdict(experiment), indent=2) + "\n", encoding="utf-8"
    )
    keras.utils.set_random_seed(experiment.seed)
    children = read_films(split_by_patient(load_kermany(data)).train, experiment.size)
    others = read_paths(films_under(unlabelled), experiment.size, "unlabelled films")
    network = classifier(experiment.size, experiment.dropout, experiment.drop_connect)
    load_imagenet(network)
    model, steps = projector(network), max(1, (len(children) + len(others)) // BATCH)
    rate = OneCycle(experiment.peak_learning_rate, steps * epochs)
    optimizer = keras.optimizers.AdamW(rate, weight_decay=experiment.weight_decay)
    model.compile(optimizer, barlow_twins, jit_compile=False)
    model.fit(
        views(children, others, experiment.augmentation),
        epochs=epochs,
        steps_per_epoch=steps,
        callbacks=[
            TimeLeft(epochs, steps),
            keras.callbacks.CSVLogger(run / "history.csv", append=True),
            keras.callbacks.BackupAndRestore(run / "backup", delete_checkpoint=False),
        ],
        verbose=0,
    )
    network.save_weights(run / WEIGHTS)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of this stage."""
    parser.add_argument("--config", default="style", help="a module of model_export/configs")
    parser.add_argument("--data", type=Path, required=True, help="folder with NORMAL and PNEUMONIA")
    parser.add_argument("--unlabelled", type=Path, required=True, help="folder of other films")
    parser.add_argument(
        "--run", type=Path, required=True, help="folder of the run; resumed if it exists"
    )
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="times that all films are seen")


def main(options: argparse.Namespace) -> int:
    """Run the stage; returns the exit status."""
    experiment = configs.load(options.config)
    pretrain(experiment, options.data, options.unlabelled, options.run, options.epochs)
    print(f"pre-trained weights in {options.run}")
    return 0
