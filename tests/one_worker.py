"""One worker of a training, as a process: ``python -m tests.one_worker SETTING ARGUMENTS…``.

``SETTING``: JSON of what the experiment has other than the defaults, ``network`` and, if one is to
be killed on the way, which worker ``dies``. Prints one JSON object at the end: a digest of the
network, so that workers can be held against each other.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import sys
from typing import Any

import keras
import pytest
from keras import layers

from model_export import configs, train
from model_export.augment import Augmentation
from model_export.configs import Experiment
from model_export.network import LOGIT, MAP, PIXEL_SCALE, PLACE, BatchNormalization, LogMeanExp
from model_export.workers import Workers


def small(size: int, dropout: float, drop_connect: float, normalised: bool = True) -> keras.Model:
    """A network of the classifier's parts and outputs that is built in a moment."""
    image = keras.Input((size, size, 1), name="image")
    x = layers.Rescaling(1 / PIXEL_SCALE, -1.0)(image)
    for filters, stride in ((8, PLACE // 4), (16, 4)):
        x = layers.Conv2D(filters, 5, stride, padding="same")(x)
        x = BatchNormalization(momentum=0.7)(x) if normalised else x
        x = layers.ReLU(6.0)(x)
    places = layers.Conv2D(1, 1, name=MAP)(layers.SpatialDropout2D(dropout)(x))
    return keras.Model(image, LogMeanExp(name=LOGIT)(places))


def plain(size: int, dropout: float, drop_connect: float) -> keras.Model:
    """The same without normalisation, whose statistics are of the share: then the mean gradient of
    all shares is that of the batch.
    """
    return small(size, dropout, drop_connect, normalised=False)


class Dies(keras.callbacks.Callback):  # type: ignore[misc]
    """Ends its process in the fourth epoch, as a power cut does."""

    def __init__(self, wanted: bool) -> None:
        super().__init__()
        self.wanted = wanted

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if self.wanted and int(self.model.optimizer.iterations) == 14:
            os.kill(os.getpid(), signal.SIGKILL)


def set_up(setting: dict[str, Any], patch: pytest.MonkeyPatch) -> tuple[Experiment, list[Any]]:
    """The experiment, which ``train`` now finds, and where the network that it makes will lie."""
    setting, made = dict(setting), []
    network, dies = setting.pop("network"), setting.pop("dies", None)
    if network != "shipped":
        patch.setattr(train, "classifier", {"small": small, "plain": plain}[network])
        patch.setattr(train, "load_imagenet", lambda model: None)
    change = setting.pop("augmentation", {})
    experiment = Experiment(**setting, augmentation=Augmentation(**change))
    compile_model, callbacks = train.compile_model, train._callbacks

    def compile_and_keep(model: keras.Model, *arguments: Any) -> None:
        made.append(model)
        compile_model(model, *arguments)

    patch.setattr(train, "compile_model", compile_and_keep)

    def callbacks_and_death(*arguments: Any) -> list[keras.callbacks.Callback]:
        return [*callbacks(*arguments), Dies(arguments[-1].index == dies)]

    if dies is not None:
        patch.setattr(train, "_callbacks", callbacks_and_death)
    patch.setattr(configs, "load", lambda name: experiment)
    return experiment, made


def digest(model: keras.Model) -> str:
    weights = hashlib.sha256()
    for values in model.get_weights():
        weights.update(values.tobytes())
    return weights.hexdigest()


class ByItself(Workers):
    """A worker that never asks the others: what must not pass for training together."""

    def __init__(self, count: int, index: int, seed: int = 1) -> None:
        self.count, self.index, self._seed = count, index, seed

    def _together(self, how: Any, tensors: Any) -> list[Any]:
        return list(tensors)


def main(setting: str, *arguments: str) -> int:
    _, made = set_up(json.loads(setting), pytest.MonkeyPatch())
    parser = argparse.ArgumentParser()
    train.add_arguments(parser)
    code = train.main(parser.parse_args(arguments))
    if code == 0:
        print(json.dumps({"digest": digest(made[0])}))
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
