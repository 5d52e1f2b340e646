"""EfficientNet-Lite0 in Keras, with a head that scores every place of the film and pools the map.

Architecture: Tan & Le 2019 (EfficientNet) in the "lite" form of the TPU reference models:
ReLU6 instead of swish and no squeeze-and-excite, so that every operator has an int8 kernel.
Map before score: as in class activation maps (Zhou et al. 2016), on a feature pyramid (Lin et al.
2017) and with log-mean-exp pooling (Pinheiro & Collobert 2015).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

BATCH_NORM_EPSILON = 1e-3
BATCH_NORM_MOMENTUM = 0.99
STEM_FILTERS = 32
HEAD_FILTERS = 1280

# The reference preprocessing of the "lite" checkpoints: (x - 127) / 128 on each of three equal
# channels.
PIXEL_MEAN = 127.0
PIXEL_SCALE = 128.0

FEATURES = "features"
FINE_LAYER = "block10_project_bn"
MAP_FILTERS = 128
PLACE = 16  # input pixels a side of one place of the map
MAP = "activation_map"
LOGIT = "logit"


@dataclass(frozen=True)
class Stage:
    """One row of the EfficientNet-B0 table: ``repeats`` inverted bottlenecks of ``filters``
    outputs.
    """

    repeats: int
    kernel: int
    stride: int
    expansion: int
    filters: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)


@keras.saving.register_keras_serializable(package="model_export")
class BatchNormalization(layers.BatchNormalization):
    """Batch normalisation (Ioffe & Szegedy 2015) that trains in one operator: the many that Keras
    makes of it go over the memory so often that a step on a processor takes 1.7 times as long.

    It has the name of Keras's own, under which a file of weights keeps what it has learnt.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalise ``inputs``, float32 ``(batch, rows, columns, channels)``."""
        if not training or not self.trainable:
            return super().call(inputs, training=False, mask=mask)
        outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            inputs, tf.convert_to_tensor(self.gamma), tf.convert_to_tensor(self.beta),
            epsilon=self.epsilon, is_training=True,
        )  # fmt: skip
        for moving, seen in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + seen * (1 - self.momentum))
        return outputs


def _batch_norm(name: str) -> layers.BatchNormalization:
    return BatchNormalization(epsilon=BATCH_NORM_EPSILON, momentum=BATCH_NORM_MOMENTUM, name=name)


def _bottleneck(x: Any, stage: Stage, stride: int, drop_rate: float, name: str) -> Any:
    """Inverted bottleneck (Sandler et al. 2018) with stochastic depth on its residual branch."""
    inputs, filters_in = x, x.shape[-1]
    if stage.expansion != 1:
        x = layers.Conv2D(filters_in * stage.expansion, 1, use_bias=False, name=f"{name}_expand")(x)
        x = _batch_norm(f"{name}_expand_bn")(x)
        x = layers.ReLU(6.0, name=f"{name}_expand_relu")(x)
    x = layers.DepthwiseConv2D(
        stage.kernel, stride, padding="same", use_bias=False, name=f"{name}_depthwise"
    )(x)
    x = _batch_norm(f"{name}_depthwise_bn")(x)
    x = layers.ReLU(6.0, name=f"{name}_depthwise_relu")(x)
    x = layers.Conv2D(stage.filters, 1, use_bias=False, name=f"{name}_project")(x)
    x = _batch_norm(f"{name}_project_bn")(x)
    if stride == 1 and filters_in == stage.filters:
        if drop_rate > 0:
            x = layers.Dropout(drop_rate, noise_shape=(None, 1, 1, 1), name=f"{name}_drop")(x)
        x = layers.Add(name=f"{name}_add")([x, inputs])
    return x


def efficientnet_lite0(size: int | None, drop_connect: float = 0.2) -> keras.Model:
    """Headless EfficientNet-Lite0 for grey films.

    Input ``image``: float32 ``(batch, size, size, 1)``, grey values 0..255 as read from the film.
    Output: float32 ``(batch, size / 32, size / 32, 1280)``. Scaling to the network's range is a
    layer, so it travels inside the exported graph.
    """
    image = keras.Input((size, size, 1), name="image")
    x = layers.Rescaling(1 / PIXEL_SCALE, -PIXEL_MEAN / PIXEL_SCALE, name="scale")(image)
    x = layers.Conv2D(STEM_FILTERS, 3, 2, padding="same", use_bias=False, name="stem")(x)
    x = _batch_norm("stem_bn")(x)
    x = layers.ReLU(6.0, name="stem_relu")(x)
    total = sum(stage.repeats for stage in STAGES)
    index = 0
    for stage in STAGES:
        for repeat in range(stage.repeats):
            stride = stage.stride if repeat == 0 else 1
            x = _bottleneck(x, stage, stride, drop_connect * index / total, f"block{index}")
            index += 1
    x = layers.Conv2D(HEAD_FILTERS, 1, use_bias=False, name="head")(x)
    x = _batch_norm("head_bn")(x)
    x = layers.ReLU(6.0, name=FEATURES)(x)
    return keras.Model(image, x, name="efficientnet_lite0")


@keras.saving.register_keras_serializable(package="model_export")
class LogMeanExp(layers.Layer):
    """The score of a film from the scores of its places: ``(batch, rows, columns, 1)`` to
    ``(batch, 1)``.

    Between the mean, which lets a small opacity drown, and the maximum, which teaches one place
    at a time (Pinheiro & Collobert 2015, with sharpness 1).
    """

    def call(self, scores: Any) -> Any:
        """Pool ``scores``; the highest is taken out first, so that nothing overflows."""
        highest = keras.ops.max(scores, axis=(1, 2), keepdims=True)
        mean = keras.ops.mean(keras.ops.exp(scores - highest), axis=(1, 2))
        return keras.ops.log(mean) + highest[:, 0, 0]


@keras.saving.register_keras_serializable(package="model_export")
class Enlarge(layers.Layer):
    """Every place twice as wide and high, as one operator that has an int8 kernel."""

    def call(self, x: Any) -> Any:
        """Enlarge ``x``, float32 ``(batch, rows, columns, channels)``."""
        size = (2 * x.shape[1], 2 * x.shape[2])
        return keras.ops.image.resize(x, size, "nearest", data_format="channels_last")


def _finer_map_features(backbone: keras.Model) -> Any:
    """Features at a sixteenth of the input's side: the deep ones enlarged, the earlier ones added.

    A feature pyramid of two levels (Lin et al. 2017): deep places know disease and see far, the
    earlier ones know where they are.
    """
    deep = layers.Conv2D(MAP_FILTERS, 1, use_bias=False, name="deep")(backbone.output)
    deep = Enlarge(name="deep_enlarged")(_batch_norm("deep_bn")(deep))
    early = backbone.get_layer(FINE_LAYER).output
    early = layers.Conv2D(MAP_FILTERS, 1, use_bias=False, name="early")(early)
    x = layers.Add(name="pyramid")([deep, _batch_norm("early_bn")(early)])
    x = layers.ReLU(6.0, name="pyramid_relu")(x)
    x = layers.Conv2D(MAP_FILTERS, 3, padding="same", use_bias=False, name="smooth")(x)
    return layers.ReLU(6.0, name="smooth_relu")(_batch_norm("smooth_bn")(x))


def classifier(size: int, dropout: float = 0.2, drop_connect: float = 0.2) -> keras.Model:
    """The network that is trained; its ``LOGIT`` is pooled from its ``MAP``.

    Input as of ``efficientnet_lite0``, ``size`` a multiple of 32. Every place of a grid of
    ``size / 16`` cells a side is scored by one dense unit (a 1x1 convolution) behind dropout, and
    the film's logit is the log-mean-exp of the places: the map is the score, not a story told
    afterwards.
    """
    backbone = efficientnet_lite0(size, drop_connect)
    x = layers.SpatialDropout2D(dropout, name="dropout")(_finer_map_features(backbone))
    places = layers.Conv2D(1, 1, name=MAP, dtype="float32")(x)
    return keras.Model(backbone.input, LogMeanExp(name=LOGIT)(places), name="classifier")


GATE_LAYERS = ("block4_project_bn", FINE_LAYER, FEATURES)


def gate_features(trained: keras.Model) -> keras.Model:
    """What the gate sees: the mean of three depths of the backbone, float32 ``(batch,
    40+112+1280)``.

    Early layers know texture and edges, late ones know lungs; what is no film differs in the early
    ones, where fine-tuning has changed least.
    """
    pooled = [
        layers.GlobalAveragePooling2D(name=f"gate_pool_{index}")(trained.get_layer(name).output)
        for index, name in enumerate(GATE_LAYERS)
    ]
    return keras.Model(trained.input, layers.Concatenate(name="gate_features")(pooled))


def with_explanation(members: Sequence[keras.Model], gate: Gate) -> keras.Model:
    """The network that ships: ``logit``, ``activation_map`` and ``film_score`` from one pass.

    ``members``: classifiers of one input size. Each sees the film and its mirror image, and the
    logits and maps of all are averaged: what only one of them believes counts less. The gate sits
    on the first member. Dropout is gone: it does nothing at inference.
    """
    image = keras.Input(members[0].input_shape[1:], name="image")
    pair = keras.ops.concatenate([image, keras.ops.flip(image, axis=2)], axis=0)
    scored = [
        keras.Model(
            member.input,
            [
                member.get_layer(LOGIT).output,
                member.get_layer(MAP).output,
                *(gate_features(member).outputs if index == 0 else []),
            ],
            name=f"member{index}",
        )(pair)
        for index, member in enumerate(members)
    ]
    film = layers.Dense(len(gate.bias), name="film_score")
    film_score, mirrored_score = keras.ops.split(film(scored[0][2]), 2, axis=0)
    film.set_weights([gate.weights, gate.bias])
    logit, mirrored_logit = keras.ops.split(_mean([member[0] for member in scored]), 2, axis=0)
    places, mirrored = keras.ops.split(_mean([member[1] for member in scored]), 2, axis=0)
    outputs = {
        "logit": (logit + mirrored_logit) / 2,
        "activation_map": (places + keras.ops.flip(mirrored, axis=2)) / 2,
        "film_score": (film_score + mirrored_score) / 2,
    }
    return keras.Model(image, outputs, name="shipped")


def _mean(values: list[Any]) -> Any:
    return values[0] if len(values) == 1 else layers.Average()(values)


@dataclass(frozen=True)
class Gate:
    """Linear gates on ``gate_features``, one for each of ``app.cxr.release.GATE_CODES`` in the
    order of ``gate.QUESTIONS``: ``weights`` float32 ``(features, gates)``, ``bias`` ``(gates,)``.
    """

    weights: np.ndarray
    bias: np.ndarray
