"""What lies over a film and says nothing of lungs: borders, markers, and the traces of a phone.

Each is drawn on a random part of a batch, so that none can carry the label. All take and return
float32 ``(batch, side, side, 1)``, grey 0..255.
"""

from __future__ import annotations

import tensorflow as tf

GLYPH = 6
MARKERS = 2
WIDEST_BORDER = 0.12


def _chosen(batch: tf.Tensor, share: float) -> tf.Tensor:
    return tf.cast(tf.random.uniform((batch, 1, 1, 1)) < share, tf.float32)


def _places(side: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Columns ``(1, 1, side, 1)`` and rows ``(1, side, 1, 1)``, 0..1."""
    line = tf.linspace(0.0, 1.0, side)
    return line[tf.newaxis, tf.newaxis, :, tf.newaxis], line[tf.newaxis, :, tf.newaxis, tf.newaxis]


def borders(images: tf.Tensor, share: float) -> tf.Tensor:
    """Collimator edges or the screen around a photographed film: a frame of one grey, each edge of
    its own width.
    """
    shape = tf.shape(images)
    widths = tf.random.uniform((4, shape[0], 1, 1, 1), -WIDEST_BORDER, WIDEST_BORDER)
    x, y = _places(shape[1])
    outside = (x < widths[0]) | (x > 1 - widths[1]) | (y < widths[2]) | (y > 1 - widths[3])
    frame = tf.cast(outside, tf.float32) * _chosen(shape[0], share)
    grey = tf.clip_by_value(tf.random.uniform((shape[0], 1, 1, 1), -255.0, 510.0), 0.0, 255.0)
    return images * (1 - frame) + grey * frame


def markers(images: tf.Tensor, share: float) -> tf.Tensor:
    """Letters and burnt-in text: blocks of random white cells anywhere, of any size and slant."""
    shape = tf.shape(images)
    for _ in range(MARKERS):
        cells = tf.cast(tf.random.uniform((shape[0], GLYPH, GLYPH, 1)) < 0.5, tf.float32)
        laid = tf.raw_ops.ImageProjectiveTransformV3(
            images=cells,
            transforms=_anywhere(shape[0], tf.cast(shape[1], tf.float32)),
            output_shape=shape[1:3],
            fill_value=0.0,
            interpolation="NEAREST",
            fill_mode="CONSTANT",
        )
        ink = laid * _chosen(shape[0], share)
        images = images * (1 - ink) + tf.random.uniform((shape[0], 1, 1, 1), 150.0, 255.0) * ink
    return images


def _anywhere(batch: tf.Tensor, side: tf.Tensor) -> tf.Tensor:
    """Maps from film pixels to the cells of a glyph that is 4 to 20 % of the film wide."""
    width = tf.random.uniform((batch,), 0.04, 0.2) * side
    height = width * tf.random.uniform((batch,), 0.3, 1.0)
    left, top = (tf.random.uniform((batch,), 0.0, 0.9) * side for _ in range(2))
    slant = tf.random.uniform((batch,), -0.2, 0.2)
    a, d = GLYPH / width, GLYPH / height
    zeros = tf.zeros((batch,))
    return tf.stack([a, slant * a, -left * a, zeros, d, -top * d, zeros, zeros], axis=1)


def glare(images: tf.Tensor, share: float) -> tf.Tensor:
    """A lamp or window mirrored in a film on a light box: one soft bright spot."""
    shape = tf.shape(images)
    x, y = _places(shape[1])
    centre_x, centre_y = (tf.random.uniform((shape[0], 1, 1, 1)) for _ in range(2))
    radius = tf.random.uniform((shape[0], 1, 1, 1), 0.05, 0.25)
    distance = tf.square(x - centre_x) + tf.square(y - centre_y)
    spot = tf.exp(-distance / (2 * tf.square(radius))) * _chosen(shape[0], share)
    return images + (255.0 - images) * spot * tf.random.uniform((shape[0], 1, 1, 1), 0.2, 0.9)


def moire(images: tf.Tensor, share: float) -> tf.Tensor:
    """The beat of a screen's pixels with a camera's: two faint gratings, bent a little."""
    shape = tf.shape(images)
    x, y = _places(shape[1])
    pattern = tf.zeros_like(images)
    for _ in range(2):
        cycles_x, cycles_y = (tf.random.uniform((shape[0], 1, 1, 1), -40.0, 40.0) for _ in range(2))
        bend, phase = (tf.random.uniform((shape[0], 1, 1, 1), 0.0, 6.3) for _ in range(2))
        pattern += tf.sin(6.2832 * (cycles_x * x + cycles_y * y) + bend * x * y + phase)
    depth = tf.random.uniform((shape[0], 1, 1, 1), 0.0, 0.06) * _chosen(shape[0], share)
    return images * (1.0 + depth * pattern)
