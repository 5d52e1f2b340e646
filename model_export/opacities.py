"""Opacities drawn into the lungs of films: where they lie is known, which no data set here tells.

Synthetic anomalies as a task of their own (Tan et al. 2020, "Foreign patch interpolation"): the
same film is clear without and not clear with one, whoever took it, so that neither scanner nor
hospital can carry the answer, and the map is taught its place.
"""

from __future__ import annotations

import tensorflow as tf

MOST = 3
SECOND = 0.35  # chance that a film has another opacity, and of one more
# The lungs of a frontal film, as shares of its side: how far from the middle line, how far down.
ASIDE = (0.13, 0.34)
DOWN = (0.24, 0.72)
RADIUS = (0.05, 0.2)
DENSITY = (0.4, 1.0)
# From the mean of the film, in its own deviations: about what heart and liver look like.
GREY_OF_TISSUE = (0.4, 1.3)
WAVES = (5, 14)  # cells a side of the coarse and the fine unevenness
LEAST_CHANGE = 8.0  # grey levels; where less is changed, nothing can be seen


def draw_opacities(images: tf.Tensor, chosen: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Draw one to three opacities on the ``chosen`` films (bool ``(batch,)``).

    Films float32 ``(batch, side, side, 1)``, grey 0..255, lungs darker than tissue. Returns them
    and where the opacities are, of the same shape, 0 or 255. An opacity lets what is brighter than
    tissue shine through (ribs, air in bronchi stays darker by its unevenness) and fades at its rim.
    """
    cloud = tf.reduce_max([_cloud(tf.shape(images), index) for index in range(MOST)], axis=0)
    cloud *= tf.cast(tf.reshape(chosen, (-1, 1, 1, 1)), tf.float32)
    batch = tf.shape(images)[0]
    density = tf.random.uniform((batch, 1, 1, 1), *DENSITY)
    unevenness = 1 - 0.5 * _noise(tf.shape(images), WAVES[1])
    mean, variance = tf.nn.moments(images, axes=(1, 2, 3), keepdims=True)
    tissue = mean + tf.random.uniform((batch, 1, 1, 1), *GREY_OF_TISSUE) * tf.sqrt(variance)
    missing = tf.nn.relu(tf.minimum(tissue, 255.0) - images)
    change = density * cloud * unevenness * missing
    seen = (change > LEAST_CHANGE) & (cloud > 0.5)
    return images + change, tf.cast(seen, tf.float32) * 255.0


def _noise(shape: tf.Tensor, cells: int) -> tf.Tensor:
    """A smooth random field, 0..1, of about ``cells`` hills a side."""
    coarse = tf.random.uniform((shape[0], cells, cells, 1))
    return tf.clip_by_value(tf.image.resize(coarse, shape[1:3], "bicubic"), 0.0, 1.0)


def _cloud(shape: tf.Tensor, index: int) -> tf.Tensor:
    """One opacity a film, 0..1, with a ragged soft rim; after the first only by chance."""

    def drawn(low: float, high: float) -> tf.Tensor:
        return tf.random.uniform((shape[0], 1, 1, 1), low, high)

    side = tf.sign(drawn(-1.0, 1.0))
    middle_x, middle_y = 0.5 + side * drawn(*ASIDE), drawn(*DOWN)
    line = tf.linspace(0.0, 1.0, shape[1])
    across = (line[tf.newaxis, tf.newaxis, :, tf.newaxis] - middle_x) / drawn(*RADIUS)
    along = (line[tf.newaxis, :, tf.newaxis, tf.newaxis] - middle_y) / drawn(*RADIUS)
    ragged = drawn(0.5, 2.0) * (_noise(shape, WAVES[0]) - 0.5)
    cloud = tf.sigmoid(drawn(2.0, 7.0) * (1.0 - across**2 - along**2 + ragged))
    there = 1.0 if index == 0 else tf.cast(drawn(0.0, 1.0) < SECOND, tf.float32)
    return cloud * there
