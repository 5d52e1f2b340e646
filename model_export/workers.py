"""Several machines that train one network: each takes its share of every batch, all take the same
step (synchronous data parallelism; ADR 0033).

The chief, worker 0, keeps the run: weights, history and backup lie with it alone, and the others
are given what it has when they start. Whoever finds another one gone stops.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import signal
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from model_export.configs import Experiment

ADDRESS = re.compile(r"\S+:\d{1,5}")
SUM, MEAN = tf.distribute.ReduceOp.SUM, tf.distribute.ReduceOp.MEAN
#: As which TensorFlow tells that somebody it waits for is gone.
GONE = (
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.UnavailableError,
)
LEFT_ALONE = (
    "Another worker is gone.\n"
    "Start all workers again as before: the run goes on after its last whole epoch."
)


class NotTogether(Exception):
    """These workers cannot train together; the text says why."""


class Workers:
    """All workers of a training, seen from the one with this ``index``.

    Waits for the others when it is made. ``addresses``: ``host:port`` of each, the same list in the
    same order everywhere; the port is open on all of the machine's networks, and nothing on the
    wire is encrypted or asks who is there. Raises NotTogether for what does not fit, at all of them
    where it shows only when they are together.
    """

    def __init__(self, addresses: Sequence[str], index: int, experiment: Experiment) -> None:
        self.count, self.index, self._seed = len(addresses), index, experiment.seed
        self._check(addresses, experiment)
        print(f"worker {index} waits for all of {', '.join(addresses)}", flush=True)
        self._strategy = _joined(addresses, index)
        self._refuse_difference("the experiments", repr(experiment).encode())

    @property
    def is_chief(self) -> bool:
        """Whether this one keeps the run."""
        return self.index == 0

    def _check(self, addresses: Sequence[str], experiment: Experiment) -> None:
        for address in addresses:
            if not ADDRESS.fullmatch(address):
                raise NotTogether(f"{address!r} is not HOST:PORT")
        if len(set(addresses)) < self.count:
            raise NotTogether("one address is named twice")
        if not 0 <= self.index < self.count:
            raise NotTogether(f"there is no worker {self.index} among {self.count}, from 0")
        for films in (experiment.batch // 2, experiment.unlabelled):  # each class for itself
            if films % self.count:
                raise NotTogether(f"{self.count} workers cannot share {films} films evenly")

    def begin(self, done: int) -> int:
        """How many epochs the chief has ``done``; chances are drawn anew from there."""
        begun = int(self.of_chief([tf.constant(done)])[0])
        self._seed += begun
        return begun

    def share(self, batch: tf.Tensor) -> tf.Tensor:
        """This worker's part of a batch, whose classes lie one after the other."""
        return batch[self.index :: self.count]

    def draw_apart(self) -> None:
        """From now on draw other chances than the other workers do, the same at every start."""
        keras.utils.set_random_seed(self._seed * self.count + self.index)

    def mean(self, tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """The mean of what each worker gives; all have to ask for it, in the same order."""
        return self._together(MEAN, tensors)

    def of_chief(self, tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """What the chief gives, at every worker."""
        return self._together(
            SUM, tensors if self.is_chief else [tf.zeros_like(one) for one in tensors]
        )

    def refuse_other_films(self, *films: np.ndarray) -> None:
        """Raises NotTogether where somebody has other films, or calls them something else."""
        self._refuse_difference("the films", *(one.tobytes() for one in films))

    def _refuse_difference(self, what: str, *values: bytes) -> None:
        digest = hashlib.sha256()
        for value in values:
            digest.update(value)
        ours = tf.constant(list(digest.digest()))
        differs = tf.reduce_any(self.of_chief([ours])[0] != ours)
        # Asked of all, so that all stop and say why
        if float(self.mean([tf.cast(differs, tf.float32)])[0]) > 0:
            raise NotTogether(f"{what} of the workers are not the same")

    def _together(self, how: Any, tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Reduce all in one message, in double precision where it is no gradient."""
        if not tensors:
            return []
        exact = any(one.dtype.is_integer for one in tensors)
        flat = tf.concat(
            [tf.reshape(tf.cast(one, tf.float64 if exact else one.dtype), [-1]) for one in tensors],
            axis=0,
        )

        @tf.function(autograph=False)
        def reduced() -> tf.Tensor:
            return self._strategy.run(
                # A tensor from outside would be on no device that can be reduced from
                lambda: tf.distribute.get_replica_context().all_reduce(how, tf.identity(flat))
            )

        parts = tf.split(reduced(), [tf.size(one) for one in tensors])
        return [
            tf.cast(tf.reshape(part, tf.shape(one)), one.dtype)
            for part, one in zip(parts, tensors, strict=True)
        ]


def _joined(addresses: Sequence[str], index: int) -> tf.distribute.Strategy:
    cluster = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({"worker": list(addresses)}),
        task_type="worker",
        task_id=index,
        rpc_layer="grpc",
    )
    # TensorFlow waits where no Python runs: Ctrl-C would be heard only afterwards
    interrupt = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        return tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=cluster)
    except tf.errors.OpError as error:
        raise NotTogether(f"{addresses[index]} is not free here: {error.message}") from error
    finally:
        signal.signal(signal.SIGINT, interrupt)


class SharedAdamW(keras.optimizers.AdamW):
    """AdamW on the mean gradient of all workers, so that all take the same step."""

    def __init__(self, *args: Any, workers: Workers, **options: Any) -> None:
        super().__init__(*args, name="adamw", **options)
        self._workers = workers

    def apply(self, grads: Sequence[tf.Tensor], trainable_variables: Any = None) -> None:
        """Share the gradients, then step."""
        super().apply(self._workers.mean(list(grads)), trainable_variables)


class FromChief(keras.callbacks.Callback):
    """Begin where the chief does, and stop when it does; the last of the callbacks."""

    def __init__(self, workers: Workers) -> None:
        super().__init__()
        self.workers = workers

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Take over its weights, its optimizer and its epoch, restored or new."""
        optimizer = self.model.optimizer
        if not optimizer.built:
            optimizer.build(self.model.trainable_variables)
        mine = [*self.model.weights, *optimizer.variables]
        epoch = tf.constant(self.model._initial_epoch or 0)
        *chiefs, epoch = self.workers.of_chief(
            [*(tf.convert_to_tensor(one) for one in mine), epoch]
        )
        for variable, value in zip(mine, chiefs, strict=True):
            variable.assign(value)
        self.model._initial_epoch = int(epoch)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Go on or stop as early as the chief."""
        (stops,) = self.workers.of_chief([tf.constant(int(bool(self.model.stop_training)))])
        self.model.stop_training = bool(stops)


class OfAll(keras.callbacks.Callback):
    """What each worker saw of its share, put together; the first of the callbacks."""

    def __init__(self, workers: Workers) -> None:
        super().__init__()
        self.workers = workers

    def on_test_begin(self, logs: dict[str, float] | None = None) -> None:
        """The running means of normalisation. They are linear in what was seen and steps do not
        read them, so the mean at the end of an epoch is that of every step.
        """
        seen = self.model.non_trainable_variables
        floats = [one for one in seen if one.dtype.startswith("float")]
        means = self.workers.mean([tf.convert_to_tensor(one) for one in floats])
        for variable, value in zip(floats, means, strict=True):
            variable.assign(value)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Loss and other figures of the epoch; of the AUC it is the mean of the shares' own."""
        if logs:
            means = self.workers.mean([tf.constant(list(logs.values()), tf.float64)])[0]
            logs.update(zip(logs, map(float, means), strict=True))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments by which machines train together."""
    parser.add_argument(
        "--workers", metavar="HOST:PORT,…", type=lambda words: words.split(","),
        help="train on these machines together, each started with the same list; in a network of "
        "your own only: nobody is asked who they are",
    )  # fmt: skip
    parser.add_argument(
        "--worker", type=int, default=0, help="which of --workers this one is; 0 keeps the run"
    )
