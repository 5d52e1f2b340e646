"""Augmentation of film batches inside the tf.data pipeline: geometry, then exposure, then
texture, then what lies over the film.
"""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf

from model_export.artefacts import borders, glare, markers, moire

TONES = 5
# share of the highest frequency below which the spectra are mixed: light and contrast, no rib
LOW_FREQUENCIES = 0.05
JPEG_QUALITY = (10, 95)


@dataclass(frozen=True)
class Augmentation:
    """Ranges of the random changes; each is drawn uniformly and independently for every film.

    Angles in degrees; ``scale``, ``aspect``, ``gamma`` and ``contrast`` are half-widths of a log
    range; ``shift`` is a fraction of the side; ``brightness``, ``shading`` and ``noise`` are
    fractions of the grey range; ``perspective`` is the change of scale from edge to edge; ``tone``
    bends the grey scale by a rising curve (half-width of the log slope of its parts); ``spectrum``
    is how much of another film's low frequencies a film may take over (Yang & Soatto 2020); the
    others are probabilities: ``blur`` (or sharpen), ``erase``, ``coarse`` (fewer pixels),
    ``border``, ``marker``, ``photo`` (glare and moiré of a phone's picture), and ``compression``
    (kept as JPEG of some quality).
    ``aspect_of_class`` moves the middle of the ``aspect`` range for films without and with
    pneumonia: where the classes differ in shape at the source, opposite moves make the shape say
    nothing.
    """

    rotation: float = 15.0
    scale: float = 0.2
    aspect: float = 0.15
    shift: float = 0.1
    flip: bool = True
    gamma: float = 0.4
    contrast: float = 0.3
    brightness: float = 0.15
    noise: float = 0.0
    blur: float = 0.0
    erase: float = 0.0
    shading: float = 0.0
    perspective: float = 0.0
    tone: float = 0.0
    spectrum: float = 0.0
    coarse: float = 0.0
    border: float = 0.0
    marker: float = 0.0
    photo: float = 0.0
    compression: float = 0.0
    aspect_of_class: tuple[float, float] = (0.0, 0.0)


def _uniform(batch: tf.Tensor, width: float) -> tf.Tensor:
    return tf.random.uniform((batch,), -width, width)


def _transforms(
    batch: tf.Tensor, side: float, middle: tf.Tensor, setting: Augmentation
) -> tf.Tensor:
    """Rows of the inverse affine maps (output pixel to input pixel) that tf.raw_ops wants.

    ``middle``: log aspect ``(batch,)`` about which each film is stretched, by enlarging one side,
    never by shrinking the other: a shrunken side would show by its empty border.
    """
    angle = _uniform(batch, setting.rotation) * (3.141592653589793 / 180)
    scale = tf.exp(_uniform(batch, setting.scale) - tf.abs(middle) / 2)
    aspect = tf.exp(middle + _uniform(batch, setting.aspect))
    flip = tf.sign(tf.random.uniform((batch,), -1, 1)) if setting.flip else tf.ones((batch,))
    scale_x, scale_y = flip * scale * tf.sqrt(aspect), scale / tf.sqrt(aspect)
    a, b = tf.cos(angle) * scale_x, -tf.sin(angle) * scale_y
    c, d = tf.sin(angle) * scale_x, tf.cos(angle) * scale_y
    centre = (side - 1) / 2
    shift_x, shift_y = _uniform(batch, setting.shift * side), _uniform(batch, setting.shift * side)
    offset_x = centre + shift_x - a * centre - b * centre
    offset_y = centre + shift_y - c * centre - d * centre
    # seen from aside: what is off the middle is divided by its distance from the eye
    tilt_x, tilt_y = (_uniform(batch, setting.perspective) / side for _ in range(2))
    away = 1 - (tilt_x + tilt_y) * centre
    rows = [
        a + centre * tilt_x, b + centre * tilt_y, offset_x - centre * (1 - away),
        c + centre * tilt_x, d + centre * tilt_y, offset_y - centre * (1 - away),
        tilt_x, tilt_y,
    ]  # fmt: skip
    return tf.stack([row / away for row in rows], axis=1)


def _geometry(images: tf.Tensor, middle: tf.Tensor, setting: Augmentation) -> tf.Tensor:
    """Move the films and their masks together; what comes in from outside is black on half of the
    films, any grey on the rest, and no part of a mask.
    """
    shape = tf.shape(images)
    batch = shape[0]
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=images + 1.0,
        transforms=_transforms(batch, tf.cast(shape[1], tf.float32), middle, setting),
        output_shape=shape[1:3],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )
    grey = tf.maximum(tf.random.uniform((batch, 1, 1, 1), -255.0, 255.0), 0.0)
    films = tf.where(moved[..., :1] < 1.0, grey, moved[..., :1] - 1.0)
    return tf.concat([films, tf.nn.relu(moved[..., 1:] - 1.0)], axis=-1)


def _shading(images: tf.Tensor, setting: Augmentation) -> tf.Tensor:
    """Uneven light, as of the heel effect or of a photographed light box: a smooth random field."""
    shape = tf.shape(images)
    coarse = tf.random.uniform((shape[0], 3, 3, 1), -setting.shading, setting.shading)
    return images * (1.0 + tf.image.resize(coarse, shape[1:3]))


def _exposure(images: tf.Tensor, setting: Augmentation) -> tf.Tensor:
    shape = tf.shape(images)

    def per_film(width: float) -> tf.Tensor:
        return tf.reshape(_uniform(shape[0], width), (-1, 1, 1, 1))

    grey = tf.clip_by_value(images / 255.0, 0.0, 1.0) ** tf.exp(per_film(setting.gamma))
    if setting.tone:
        grey = _bend(grey, setting.tone)
    mean = tf.reduce_mean(grey, axis=(1, 2, 3), keepdims=True)
    grey = (grey - mean) * tf.exp(per_film(setting.contrast)) + mean
    grey += per_film(setting.brightness)
    return tf.clip_by_value(grey, 0.0, 1.0) * 255.0


def _bend(grey: tf.Tensor, tone: float) -> tf.Tensor:
    """A rising curve of ``TONES`` straight parts from 0 to 1, another for every film."""
    parts = tf.exp(tf.random.uniform((tf.shape(grey)[0], 1, 1, TONES), -tone, tone))
    heights = parts / tf.reduce_sum(parts, axis=-1, keepdims=True)
    filled = tf.clip_by_value(grey * TONES - tf.range(TONES, dtype=tf.float32), 0.0, 1.0)
    return tf.reduce_sum(heights * filled, axis=-1, keepdims=True)


def _mix_spectra(images: tf.Tensor, most: float) -> tf.Tensor:
    """Give each film part of the low-frequency amplitudes of another of the batch, phases kept.

    Partners are taken from the other end of the batch, where the other class stands: what light
    and contrast say of the class is lost.
    """
    side = tf.shape(images)[1]
    spectrum = tf.signal.rfft2d(images[..., 0])
    amplitude = tf.abs(spectrum)
    line = tf.cast(tf.range(side), tf.float32) / tf.cast(side, tf.float32)
    rows = tf.minimum(line, 1 - line)[:, tf.newaxis]
    low = tf.maximum(rows, line[tf.newaxis, : side // 2 + 1]) < LOW_FREQUENCIES / 2
    share = tf.random.uniform((tf.shape(images)[0], 1, 1), 0.0, most) * tf.cast(low, tf.float32)
    mixed = (1 - share) * amplitude + share * amplitude[::-1]
    turned = spectrum * tf.cast(mixed / tf.maximum(amplitude, 1e-6), tf.complex64)
    back = tf.signal.irfft2d(turned, fft_length=tf.stack([side, side]))
    return tf.clip_by_value(back[..., tf.newaxis], 0.0, 255.0)


def _coarsen(images: tf.Tensor, share: float) -> tf.Tensor:
    """Part of the films as if scanned with a half to nine tenths of the pixels."""
    shape = tf.shape(images)
    fewer = tf.cast(tf.random.uniform(()) * 0.4 + 0.5, tf.float32)
    side = tf.cast(tf.cast(shape[1], tf.float32) * fewer, tf.int32)
    small = tf.image.resize(images, tf.stack([side, side]), "area")
    chosen = tf.cast(tf.random.uniform((shape[0], 1, 1, 1)) < share, tf.float32)
    return images + chosen * (tf.image.resize(small, shape[1:3]) - images)


def _texture(images: tf.Tensor, setting: Augmentation) -> tf.Tensor:
    """Blur or sharpen by mixing with a box-filtered copy, grain, and an erased rectangle."""
    shape = tf.shape(images)
    chosen = tf.cast(tf.random.uniform((shape[0], 1, 1, 1)) < setting.blur, tf.float32)
    smooth = tf.nn.avg_pool2d(
        tf.pad(images, [[0, 0], [1, 1], [1, 1], [0, 0]], "REFLECT"), 3, 1, "VALID"
    )
    images += chosen * tf.random.uniform((shape[0], 1, 1, 1), -1.0, 1.0) * (smooth - images)
    level = tf.random.uniform((shape[0], 1, 1, 1), 0.0, setting.noise * 255.0)
    images += level * tf.random.normal(shape)
    keep = 1 - _rectangles(shape) * tf.cast(
        tf.random.uniform((shape[0], 1, 1, 1)) < setting.erase, tf.float32
    )
    fill = tf.random.uniform((shape[0], 1, 1, 1), 0.0, 255.0)
    return tf.clip_by_value(images * keep + fill * (1 - keep), 0.0, 255.0)


def _rectangles(shape: tf.Tensor) -> tf.Tensor:
    """Masks ``(batch, side, side, 1)`` of one random rectangle of a tenth to a third of each
    side.
    """

    def span(length: tf.Tensor) -> tf.Tensor:
        centre = tf.random.uniform((shape[0], 1))
        half = tf.random.uniform((shape[0], 1), 0.05, 0.17)
        place = tf.linspace(0.0, 1.0, length)[tf.newaxis]
        return tf.cast(tf.abs(place - centre) < half, tf.float32)

    return (span(shape[1])[:, :, tf.newaxis] * span(shape[2])[:, tf.newaxis, :])[..., tf.newaxis]


def augment(images: tf.Tensor, setting: Augmentation, labels: tf.Tensor | None = None) -> tf.Tensor:
    """Change a batch at random: float32 ``(batch, side, side, 1)``, grey 0..255 in and out.

    Channels after the first are masks, 0..255: they are moved as the film is, and not otherwise
    changed. ``labels`` (float32 ``(batch,)``, 0..1, 0.5 for unknown) serve ``aspect_of_class``
    alone; without them it is left out.
    """
    if labels is None:
        middle = tf.zeros(tf.shape(images)[:1])
    else:
        without, with_it = setting.aspect_of_class
        middle = without + (with_it - without) * labels
    moved = _geometry(images, middle, setting)
    images, masks = moved[..., :1], moved[..., 1:]
    if setting.shading:
        images = _shading(images, setting)
    images = _exposure(images, setting)
    if setting.spectrum:
        images = _mix_spectra(images, setting.spectrum)
    if setting.coarse:
        images = _coarsen(images, setting.coarse)
    if setting.noise or setting.blur or setting.erase:
        images = _texture(images, setting)
    images = _cover(images, setting)
    if setting.compression:
        images = _compress(images, setting.compression)
    return tf.concat([images, masks], axis=-1)


def _cover(images: tf.Tensor, setting: Augmentation) -> tf.Tensor:
    for draw, share in (
        (markers, setting.marker),
        (borders, setting.border),
        (glare, setting.photo),
        (moire, setting.photo),
    ):
        if share:
            images = draw(images, share)
    return tf.clip_by_value(images, 0.0, 255.0)


def _compress(images: tf.Tensor, share: float) -> tf.Tensor:
    """Part of the films with what JPEG leaves of them, each at a quality of its own: blocks and
    ringing edges come in, fine grain is lost, and archives differ in how much.
    """

    def kept(film: tf.Tensor) -> tf.Tensor:
        quality = tf.random.uniform((), JPEG_QUALITY[0], JPEG_QUALITY[1] + 1, tf.int32)
        coded = tf.raw_ops.EncodeJpegVariableQuality(
            images=tf.cast(tf.round(film), tf.uint8), quality=quality
        )
        return tf.cast(tf.io.decode_jpeg(coded, channels=1), tf.float32)

    def perhaps(film: tf.Tensor) -> tf.Tensor:
        return tf.cond(tf.random.uniform(()) < share, lambda: kept(film), lambda: film)

    return tf.reshape(tf.map_fn(perhaps, images), tf.shape(images))
