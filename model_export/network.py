"""EfficientNet-Lite0 in Keras, with a one-unit head whose class activation map is a second output.

Architecture: Tan & Le 2019 (EfficientNet) in the "lite" form of the TPU reference models:
ReLU6 instead of swish and no squeeze-and-excite, so that every operator has an int8 kernel.
Class activation map: Zhou et al. 2016, "Learning deep features for discriminative localization".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
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


def _batch_norm(name: str) -> layers.BatchNormalization:
    return layers.BatchNormalization(
        epsilon=BATCH_NORM_EPSILON, momentum=BATCH_NORM_MOMENTUM, name=name
    )


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


def classifier(size: int, dropout: float = 0.2, drop_connect: float = 0.2) -> keras.Model:
    """The network that is trained: backbone, global average pooling, dropout, one dense unit (a
    logit).
    """
    backbone = efficientnet_lite0(size, drop_connect)
    x = layers.GlobalAveragePooling2D(name="pool")(backbone.output)
    x = layers.Dropout(dropout, name="dropout")(x)
    logit = layers.Dense(1, name=LOGIT, dtype="float32")(x)
    return keras.Model(backbone.input, logit, name="classifier")


GATE_LAYERS = ("block4_project_bn", "block10_project_bn", FEATURES)


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


def with_explanation(trained: keras.Model, gate: Gate) -> keras.Model:
    """The network that ships: ``logit``, ``activation_map`` and ``film_score`` from one pass.

    The map is a 1x1 convolution with the dense unit's own weights and bias on the features before
    pooling, so that its mean is the logit. Dropout is gone: it does nothing at inference.
    """
    features = trained.get_layer(FEATURES).output
    unit = layers.Conv2D(1, 1, name="activation_map")
    activation_map = unit(features)
    kernel, bias = trained.get_layer(LOGIT).get_weights()
    unit.set_weights([kernel[np.newaxis, np.newaxis], bias])
    logit = layers.Dense(1, name="explained_logit")
    pooled = layers.GlobalAveragePooling2D(name="explained_pool")(features)
    score = logit(pooled)
    logit.set_weights([kernel, bias])
    film = layers.Dense(1, name="film_score")
    film_score = film(gate_features(trained).output)
    film.set_weights([gate.weights[:, np.newaxis], np.array([gate.bias])])
    outputs = {"logit": score, "activation_map": activation_map, "film_score": film_score}
    return keras.Model(trained.input, outputs, name="shipped")


@dataclass(frozen=True)
class Gate:
    """A linear gate on ``gate_features``: ``weights`` float32 ``(features,)`` and ``bias``."""

    weights: np.ndarray
    bias: float
