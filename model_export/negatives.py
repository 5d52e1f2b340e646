"""Pictures that are no frontal chest film, to teach the gate: drawn, borrowed and cut from films.

Sources: drawings of ``phantom``; the sample pictures that scikit-image, scikit-learn and pydicom
carry in their packages; and real films broken so that no lung is left where a lung should be.
Real hands, heads and slices are kept for testing: the gate must meet them for the first time there.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter, ImageOps

from app.cxr.radiograph import UnreadableFilm, read_radiograph
from model_export import phantom

DRAWINGS: tuple[Callable[[int], np.ndarray], ...] = (
    phantom.hand_like,
    phantom.ct_slice_like,
    phantom.page_of_text,
    phantom.photograph_like,
)
PICTURE_FOLDERS = (
    ("skimage", "data"),
    ("sklearn", "datasets/images"),
    ("pydicom", "data/test_files"),
)
PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".gif", ".dcm", ".tif"})


def package_pictures() -> list[np.ndarray]:
    """Grey uint8 pictures carried by installed packages; those that cannot be read are left out."""
    pictures = []
    for path in _package_files():
        try:
            pictures.append(read_radiograph(path).pixels)
        except UnreadableFilm:
            continue
    return [picture for picture in pictures if min(picture.shape) >= 48]


def _package_files() -> Iterator[Path]:
    for package, folder in PICTURE_FOLDERS:
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            continue
        root = Path(spec.origin).parent / folder
        yield from sorted(p for p in root.iterdir() if p.suffix.lower() in PICTURE_SUFFIXES)


def varied(picture: np.ndarray, size: int, dice: np.random.Generator) -> np.ndarray:
    """A random view of a picture: uint8 ``(size, size)``; crop, turn, blur, exposure, inversion.

    Blur and shrinking matter: a gate that knows films by their sharpness lets blurred hands
    through.
    """
    image = Image.fromarray(picture if picture.ndim == 2 else picture[..., :3]).convert("L")
    image = _random_crop(image, dice).resize((size, size), Image.Resampling.BILINEAR)
    if dice.random() < 0.5:
        image = image.rotate(int(dice.choice([90, 180, 270])))
    if dice.random() < 0.3:
        image = ImageOps.invert(image)
    if dice.random() < 0.5:
        small = int(dice.integers(max(24, size // 5), size))
        image = image.resize((small, small)).resize((size, size), Image.Resampling.BICUBIC)
    if dice.random() < 0.3:
        image = image.filter(ImageFilter.GaussianBlur(dice.uniform(0.5, 2.5)))
    grey = (np.asarray(image) / 255.0) ** np.exp(dice.uniform(-0.5, 0.5))
    return np.rint(255 * np.clip(grey * dice.uniform(0.7, 1.2), 0, 1)).astype(np.uint8)


def _random_crop(image: Image.Image, dice: np.random.Generator) -> Image.Image:
    share = dice.uniform(0.4, 1.0)
    width, height = int(image.width * share), int(image.height * share)
    left = int(dice.integers(0, image.width - width + 1))
    top = int(dice.integers(0, image.height - height + 1))
    return image.crop((left, top, left + width, top + height))


def shuffled_tiles(film: np.ndarray, dice: np.random.Generator) -> np.ndarray:
    """The film cut into 2x2 to 4x4 tiles laid in another order: the same grain, no chest."""
    count = int(dice.integers(2, 5))
    side = film.shape[0] // count
    tiles = [
        film[r * side : (r + 1) * side, c * side : (c + 1) * side]
        for r in range(count)
        for c in range(count)
    ]
    order = np.roll(np.arange(len(tiles)), int(dice.integers(1, len(tiles))))
    rows = [np.hstack([tiles[order[r * count + c]] for c in range(count)]) for r in range(count)]
    return _fit(np.vstack(rows), film.shape[0])


def part_of(film: np.ndarray, dice: np.random.Generator) -> np.ndarray:
    """A fifth to a third of the film's side enlarged: a shoulder, a vertebra, a piece of lung."""
    side = int(film.shape[0] * dice.uniform(0.18, 0.35))
    top, left = dice.integers(0, film.shape[0] - side, 2)
    return _fit(film[top : top + side, left : left + side], film.shape[0])


def slice_of(film: np.ndarray, dice: np.random.Generator) -> np.ndarray:
    """The film wrapped around its centre inside a bright oval on black, as a slice looks."""
    size = film.shape[0]
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    width, height = dice.uniform(0.6, 0.98), dice.uniform(0.45, 0.9)
    radius = np.hypot(x / width, y / height)
    angle = (np.arctan2(y, x) / np.pi + 1) / 2 * dice.integers(1, 4) % 1.0
    rows = np.clip(radius * (size - 1), 0, size - 1).astype(int)
    wrapped = film[rows, (angle * (size - 1)).astype(int)]
    rim = (radius > 0.9) & (radius < 1.0)
    return np.where(radius < 1, np.where(rim, 220, wrapped), 0).astype(np.uint8)


def turned(film: np.ndarray, dice: np.random.Generator) -> np.ndarray:
    """The film on its side or on its head."""
    return np.ascontiguousarray(np.rot90(film, int(dice.integers(1, 4))))


def negative(film: np.ndarray, dice: np.random.Generator) -> np.ndarray:  # noqa: ARG001
    """The film with black and white exchanged: refused as it is, so that it can be put right."""
    return 255 - film


def cut_film(film: np.ndarray, dice: np.random.Generator) -> np.ndarray:
    """A film of which a side, the top, the bottom or a corner is all there is, as it is then
    stretched to the network's square: a lung or the half of both is missing.
    """
    size = film.shape[0]
    keep = [size, size]
    for axis in ((0,), (1,), (1,), (0, 1))[int(dice.integers(4))]:
        keep[axis] = int(size * dice.uniform(0.4, 0.58))
    top, left = (int(dice.integers(2)) * (size - kept) for kept in keep)
    return _fit(film[top : top + keep[0], left : left + keep[1]], size)


BREAKS = (shuffled_tiles, part_of, slice_of, turned, negative)


def negatives(films: np.ndarray, count: int, size: int, seed: int = 0) -> np.ndarray:
    """``count`` pictures that are no chest film, uint8 ``(count, size, size, 1)``.

    ``films``: real films, uint8 ``(n, size, size)``, of patients the gate may learn from.
    """
    dice = np.random.default_rng(seed)
    borrowed = package_pictures()
    pictures = []
    for index in range(count):
        if index % 3 == 0:
            drawn = DRAWINGS[(index // 3) % len(DRAWINGS)](int(dice.integers(1 << 30)))
            pictures.append(varied(drawn, size, dice))
        elif index % 3 == 1:
            pictures.append(varied(borrowed[int(dice.integers(len(borrowed)))], size, dice))
        else:
            film = films[int(dice.integers(len(films)))]
            pictures.append(BREAKS[(index // 3) % len(BREAKS)](film, dice))
    return np.stack(pictures)[..., np.newaxis]


def cut_films(films: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """``count`` films that are cut off, uint8 ``(count, size, size, 1)``; ``films`` as of
    ``negatives``.
    """
    dice = np.random.default_rng(seed)
    cut = [cut_film(films[int(dice.integers(len(films)))], dice) for _ in range(count)]
    return np.stack(cut)[..., np.newaxis]


def _fit(picture: np.ndarray, size: int) -> np.ndarray:
    return np.asarray(Image.fromarray(picture).resize((size, size), Image.Resampling.BILINEAR))
