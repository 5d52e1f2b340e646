"""Pictures drawn by code: frontal chest films, and things that are no chest film.

No patient's film may be committed, yet tests, self-test cases and release packs need films that
look enough like one to travel the whole way. Everything here is made of ellipses, arcs and seeded
noise; the same arguments give the same picture (to the rounding of the machine's `exp`).

    python -c "from PIL import Image; from model_export.phantom import chest_film as f; \
               Image.fromarray(f(1)).save('film.png')"
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

# Centre and half-axes of the opacity in each zone, in fractions of width and height. The patient's
# right is on the left of the picture, as films are hung.
ZONES: dict[str, tuple[float, float]] = {
    "right upper": (0.31, 0.30),
    "right middle": (0.29, 0.47),
    "right lower": (0.28, 0.63),
    "left upper": (0.68, 0.30),
    "left middle": (0.71, 0.47),
    "left lower": (0.74, 0.62),
}

Size = tuple[int, int]


class _Canvas(NamedTuple):
    """Coordinates 0..1 across (``x``) and down (``y``) a picture, and its seeded dice."""

    x: np.ndarray
    y: np.ndarray
    dice: np.random.Generator

    @property
    def shape(self) -> Size:
        return int(self.y.shape[0]), int(self.x.shape[1])


def chest_film(
    seed: int,
    size: Size = (512, 512),
    opacity: str | None = None,
    strength: float = 0.75,
    noise: float = 1.0,
) -> np.ndarray:
    """A frontal chest film, uint8 ``(height, width)``; ``opacity`` names a zone of ZONES to whiten.

    With the same seed, the film with an opacity is the film without one plus the opacity.
    """
    canvas = _canvas(seed, size)
    film = _trunk(canvas)
    middle = _middle(canvas)
    lungs = _lungs(canvas) * (1 - middle)
    film += (_vessels(canvas) - 0.55) * lungs
    film += 0.12 * middle + _spine(canvas)
    film += _ribs(canvas)
    film += _clavicles(canvas)
    if opacity is not None:
        film = _whiten(canvas, film, lungs, opacity, strength)
    film += noise * _grain(np.random.default_rng([seed, 1]), size)
    return _grey(film)


def hand_like(seed: int, size: Size = (512, 512)) -> np.ndarray:
    """A hand on a dark plate: palm, five fingers with brighter bones."""
    canvas = _canvas(seed, size)
    wrist_x, wrist_y = 0.5 + canvas.dice.uniform(-0.04, 0.04), 0.98
    soft = _blob(canvas, wrist_x, 0.72, 0.17, 0.20)
    bone = _stroke(canvas, [(wrist_x, wrist_y), (wrist_x, 0.80)], 0.05)
    for angle, length in ((-1.0, 0.30), (-0.35, 0.52), (-0.05, 0.58), (0.22, 0.54), (0.52, 0.44)):
        tip = (wrist_x + length * np.sin(angle), 0.76 - length * np.cos(angle))
        soft = np.maximum(soft, _stroke(canvas, [(wrist_x, 0.76), tip], 0.038))
        for start, end in ((0.15, 0.50), (0.54, 0.74), (0.78, 0.95)):
            joint = [_between((wrist_x, 0.76), tip, part) for part in (start, end)]
            bone = np.maximum(bone, _stroke(canvas, joint, 0.016))
    return _grey(0.06 + 0.38 * soft + 0.42 * bone + 0.6 * _grain(canvas.dice, size))


def ct_slice_like(seed: int, size: Size = (512, 512)) -> np.ndarray:
    """An axial slice of a chest: a bright oval with two dark lungs and the spine, on black."""
    canvas = _canvas(seed, size)
    shift = canvas.dice.uniform(-0.02, 0.02)
    body = _blob(canvas, 0.5 + shift, 0.5, 0.42, 0.30, hardness=60)
    film = 0.02 + 0.5 * body
    film += 0.25 * (body - _blob(canvas, 0.5 + shift, 0.5, 0.37, 0.26, hardness=60))
    for side in (-1, 1):
        film -= 0.45 * _blob(canvas, 0.5 + shift + 0.2 * side, 0.48, 0.13, 0.19, hardness=60)
    film += 0.15 * _blob(canvas, 0.53 + shift, 0.44, 0.10, 0.11, hardness=40)
    film += 0.45 * _blob(canvas, 0.5 + shift, 0.68, 0.05, 0.055, hardness=40)
    return _grey(film + 0.4 * _grain(canvas.dice, size))


def page_of_text(seed: int, size: Size = (700, 500)) -> np.ndarray:
    """A white page with lines of dark words."""
    height, width = size
    dice = np.random.default_rng(seed)
    page = Image.new("L", (width, height), 250)
    pen = ImageDraw.Draw(page)
    line = max(10, height // 32)
    font = ImageFont.load_default(size=round(line * 0.72))
    for top in range(2 * line, height - 2 * line, round(1.4 * line)):
        words = ["".join(dice.choice(list("aeinorstlu"), dice.integers(2, 9))) for _ in range(30)]
        text = " ".join(words)
        while font.getlength(text) > 0.84 * width:
            text = text[:-1]
        pen.text((round(0.08 * width), top), text, fill=25, font=font)
    return np.asarray(page)


def photograph_like(seed: int, size: Size = (480, 640)) -> np.ndarray:
    """A holiday photograph, uint8 ``(height, width, 3)``: sky, sun, green hills, a red house."""
    canvas = _canvas(seed, size)
    dice = canvas.dice
    sky = np.array([0.35, 0.6, 0.95]) + canvas.y[..., None] * [0.3, 0.2, 0.0]
    picture = np.broadcast_to(sky, (*size, 3)).copy()
    sun = _blob(canvas, dice.uniform(0.1, 0.9), 0.15, 0.05, 0.06, hardness=50)
    picture = _paint(picture, sun, (1.0, 0.9, 0.3))
    for base, colour in ((0.5, (0.25, 0.5, 0.3)), (0.65, (0.3, 0.6, 0.2))):
        ridge = base + 0.06 * np.sin(2 * np.pi * (canvas.x * dice.uniform(1, 2) + dice.random()))
        picture = _paint(picture, _edge(canvas.y - ridge, 200), colour)
    left = dice.uniform(0.2, 0.6)
    house = (abs(canvas.x - left) < 0.1) & (abs(canvas.y - 0.75) < 0.1)
    picture = _paint(picture, house.astype(float), (0.75, 0.2, 0.15))
    picture += 0.03 * dice.standard_normal(picture.shape)
    return np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)


# --- the parts of a chest ---------------------------------------------------------------------


def _trunk(canvas: _Canvas) -> np.ndarray:
    """Soft tissue: trunk, neck and shoulders, darker where the beam passes beside them."""
    dice = canvas.dice
    wide = dice.uniform(0.44, 0.48)
    trunk = _blob(canvas, 0.5, 0.75, wide, 0.72, power=4, hardness=14)
    neck = _blob(canvas, 0.5, 0.0, 0.13, 0.16, power=4, hardness=14)
    shoulders = _blob(canvas, 0.5, 0.24, 0.56, 0.14, hardness=10)
    body = np.maximum(np.maximum(trunk, neck), shoulders)
    belly = _edge(canvas.y - 0.78, 14)
    return 0.05 + body * (0.56 + 0.1 * belly)


def _lungs(canvas: _Canvas) -> np.ndarray:
    """0..1, the two air-filled fields over the domes of the diaphragm, the right dome higher."""
    dice = canvas.dice
    lungs = np.zeros(canvas.shape)
    dome = dice.uniform(0.70, 0.74)
    for centre, lowest in ((0.31, dome), (0.69, dome + 0.02)):
        centre += dice.uniform(-0.01, 0.01)
        side = 1 if centre > 0.5 else -1
        lean = 0.10 * side * (canvas.y - 0.45)
        field = _superellipse(canvas.x - lean, canvas.y, centre, 0.48, 0.155, 0.36, power=2.6)
        arch = lowest + 0.45 * (canvas.x - centre) ** 2 / 0.155
        lungs = np.maximum(lungs, _edge(1 - field, 16) * _edge(arch - canvas.y, 70))
    return lungs


def _middle(canvas: _Canvas) -> np.ndarray:
    """0..1, the mediastinum, and the heart towards the patient's left."""
    dice = canvas.dice
    heart_x, heart_y = 0.55 + dice.uniform(-0.01, 0.01), 0.66 + dice.uniform(-0.01, 0.02)
    heart = _blob(canvas, heart_x, heart_y, dice.uniform(0.13, 0.16), 0.13, hardness=9)
    vessels = _blob(canvas, 0.505, 0.42, 0.065, 0.34, power=3, hardness=12)
    return np.maximum(heart, vessels)


def _spine(canvas: _Canvas) -> np.ndarray:
    """Vertebral bodies seen through everything, with the dark windpipe in front of them."""
    column = np.exp(-(((canvas.x - 0.5) / 0.035) ** 2)) + 0 * canvas.y
    bodies = 0.5 + 0.5 * np.cos(2 * np.pi * canvas.y * 16)
    trachea = np.exp(-(((canvas.x - 0.495) / 0.014) ** 2)) * _edge(0.33 - canvas.y, 30)
    return column * (0.07 + 0.03 * bodies) - 0.12 * trachea


def _ribs(canvas: _Canvas) -> np.ndarray:
    """Posterior ribs falling away from the spine and fainter anterior ones crossing them."""
    ribs = np.zeros(canvas.shape)
    spread = canvas.dice.uniform(0.068, 0.076)
    across = np.abs(canvas.x - 0.5)
    cage = _edge(0.40 - across, 40) * _edge(across - 0.04, 40)
    for number in range(10):
        top = 0.13 + number * spread
        back = top + 0.02 + 0.9 * np.maximum(across - 0.12, 0) ** 1.6
        front = top + 0.20 - 0.28 * across
        ribs += 0.075 * np.exp(-(((canvas.y - back) / 0.011) ** 2))
        ribs += 0.03 * np.exp(-(((canvas.y - front) / 0.014) ** 2)) * _edge(across - 0.15, 30)
    return ribs * cage


def _clavicles(canvas: _Canvas) -> np.ndarray:
    tilt = canvas.dice.uniform(0.02, 0.06)
    bones = np.zeros(canvas.shape)
    for side in (-1, 1):
        points = [
            (0.5 + 0.05 * side, 0.185 + tilt / 2),
            (0.5 + 0.2 * side, 0.18),
            (0.5 + 0.4 * side, 0.18 - tilt),
        ]
        bones = np.maximum(bones, _stroke(canvas, points, 0.014))
    return 0.13 * bones


def _vessels(canvas: _Canvas) -> np.ndarray:
    """Lung markings: densest at the hila, fading outwards."""
    fine = _smooth_noise(canvas.dice, canvas.shape, 40)
    marks = _smooth_noise(canvas.dice, canvas.shape, 14) + 0.6 * fine
    sideways = np.minimum(np.abs(canvas.x - 0.4), np.abs(canvas.x - 0.6))
    hila = np.exp(-((sideways / 0.09) ** 2) - ((canvas.y - 0.47) / 0.13) ** 2)
    return 0.02 + 0.03 * marks + 0.10 * hila * (1 + 0.4 * marks)


def _whiten(
    canvas: _Canvas, film: np.ndarray, lungs: np.ndarray, zone: str, strength: float
) -> np.ndarray:
    """Lift one zone towards soft tissue, cloudy at the rim as consolidation is."""
    centre_x, centre_y = ZONES[zone]
    dice = np.random.default_rng([7, *zone.encode()])
    ragged = 0.12 * _smooth_noise(dice, canvas.shape, 9)
    patch = _blob(canvas, centre_x, centre_y, 0.12, 0.11, hardness=5, wobble=ragged) * lungs
    return film + strength * patch * np.maximum(0.72 - film, 0)


# --- drawing -----------------------------------------------------------------------------------


def _canvas(seed: int, size: Size) -> _Canvas:
    height, width = size
    return _Canvas(
        x=((np.arange(width) + 0.5) / width)[None, :],
        y=((np.arange(height) + 0.5) / height)[:, None],
        dice=np.random.default_rng(seed),
    )


def _edge(distance: np.ndarray, hardness: float) -> np.ndarray:
    """0 outside (negative distance) to 1 inside, soft over about ``4 / hardness``."""
    return 1 / (1 + np.exp(-np.clip(distance * hardness, -40, 40)))


def _superellipse(
    x: np.ndarray, y: np.ndarray, cx: float, cy: float, rx: float, ry: float, power: float
) -> np.ndarray:
    """1 on the rim, less inside."""
    return (np.abs((x - cx) / rx) ** power + np.abs((y - cy) / ry) ** power) ** (1 / power)


def _blob(
    canvas: _Canvas,
    cx: float,
    cy: float,
    rx: float,
    ry: float,
    *,
    power: float = 2,
    hardness: float = 20,
    wobble: np.ndarray | float = 0.0,
) -> np.ndarray:
    rim = _superellipse(canvas.x, canvas.y, cx, cy, rx, ry, power)
    return _edge(1 - rim + wobble, hardness)


def _stroke(canvas: _Canvas, points: list[tuple[float, float]], radius: float) -> np.ndarray:
    """A soft line through the points."""
    nearest = np.full(canvas.shape, np.inf)
    for (x0, y0), (x1, y1) in pairwise(points):
        dx, dy = x1 - x0, y1 - y0
        along = ((canvas.x - x0) * dx + (canvas.y - y0) * dy) / (dx * dx + dy * dy)
        along = np.clip(along, 0, 1)
        gap = np.hypot(canvas.x - x0 - along * dx, canvas.y - y0 - along * dy)
        nearest = np.minimum(nearest, gap)
    return _edge(radius - nearest, 3 / radius)


def _between(
    start: tuple[float, float], end: tuple[float, float], part: float
) -> tuple[float, float]:
    return start[0] + part * (end[0] - start[0]), start[1] + part * (end[1] - start[1])


def _smooth_noise(dice: np.random.Generator, size: Size, cells: int) -> np.ndarray:
    """Clouds of about ``cells`` lumps across, standard deviation near 1."""
    coarse = Image.fromarray(dice.standard_normal((cells, cells)).astype(np.float32))
    smooth = coarse.resize((size[1], size[0]), Image.Resampling.BICUBIC)
    return np.asarray(smooth, dtype=np.float64)


def _grain(dice: np.random.Generator, size: Size) -> np.ndarray:
    """Quantum noise of the exposure, slightly blurred by the screen."""
    speckle = np.clip(128 + 30 * dice.standard_normal(size), 0, 255).astype(np.uint8)
    blurred = Image.fromarray(speckle).filter(ImageFilter.GaussianBlur(0.7))
    return (np.asarray(blurred, dtype=np.float64) - 128) / 1500


def _paint(picture: np.ndarray, mask: np.ndarray, colour: tuple[float, float, float]) -> np.ndarray:
    return picture * (1 - mask[..., None]) + np.asarray(colour) * mask[..., None]


def _grey(film: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(film, 0, 1) * 255).astype(np.uint8)
