"""The pictures of the manual: what a usable film looks like, and what each refusal is about.

    python -m model_export.help_pictures app/static/clinic/help

All are drawn by code (``model_export.phantom``): no patient's film is in the manual. Each is a few
kilobytes, so that a page full of them stays light. The same code writes the same bytes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from model_export.phantom import (
    chest_film,
    ct_slice_like,
    hand_like,
    page_of_text,
    photograph_like,
)

SEED = 11
FULL = (512, 448)
HEIGHT = 168
LARGE = 448
QUALITY = 55


def usable() -> np.ndarray:
    """A frontal film of the whole chest, well exposed."""
    return chest_film(SEED, FULL)


def with_opacity() -> np.ndarray:
    """The same chest with an opacity in the right lower zone."""
    return chest_film(SEED, FULL, opacity="right lower", strength=0.95)


def _cut_off() -> np.ndarray:
    return usable()[150:410, 40:300]


def _lateral() -> np.ndarray:
    """A chest from the side: one lung field between breast bone and a spine at the edge."""
    y, x = np.mgrid[0:1:512j, 0:1:448j]
    film = 0.05 + 0.55 * (np.abs((x - 0.5) / 0.40) ** 4 + np.abs((y - 0.6) / 0.62) ** 4 < 1)
    lung = ((x - 0.47) / 0.24) ** 2 + ((y - 0.44) / 0.31) ** 2 < 1
    film = film - 0.3 * lung + 0.16 * (((x - 0.36) / 0.15) ** 2 + ((y - 0.6) / 0.15) ** 2 < 1)
    film = film + 0.14 * np.exp(-(((x - 0.76 + 0.1 * (y - 0.5) ** 2) / 0.05) ** 2)) * (
        0.6 + 0.4 * np.cos(2 * np.pi * y * 14)
    )
    grey = Image.fromarray(np.rint(np.clip(film, 0, 1) * 255).astype(np.uint8))
    return np.asarray(grey.filter(ImageFilter.GaussianBlur(5)))


def _raw() -> np.ndarray:
    """What a detector counts: much where nothing was in the way, hardly anything behind bone."""
    counted = np.exp(-4.5 * usable().astype(np.float32) / 255)
    return np.rint(255 * counted / counted.max()).astype(np.uint8)


def _blurred() -> np.ndarray:
    return np.asarray(Image.fromarray(usable()).filter(ImageFilter.GaussianBlur(11)))


def _two_films() -> np.ndarray:
    gap = np.zeros((512, 16), np.uint8)
    return np.hstack([usable(), gap, chest_film(SEED + 1, FULL)])


def _strip() -> np.ndarray:
    return np.vstack([usable()[:, 100:260], usable()[:, 180:340], usable()[:, 100:260]])


def _small() -> np.ndarray:
    """A preview, and the grey of everything that it does not show."""
    page = np.full((512, 448), 60, np.uint8)
    page[216:296, 189:259] = np.asarray(Image.fromarray(usable()).resize((70, 80)))
    return page


def _empty() -> np.ndarray:
    page = np.full((512, 448), 12, np.uint8)
    page[430:, 330:] = usable()[200:282, 60:178]
    return page


def _grey(value: float, spread: float) -> np.ndarray:
    return np.clip(value + spread * (usable().astype(float) - 128), 0, 255).astype(np.uint8)


PICTURES: dict[str, Callable[[], np.ndarray]] = {
    "usable": usable,
    "not_a_frontal_chest_film": lambda: hand_like(SEED, FULL),
    "cut_off": _cut_off,
    "not_a_radiograph": lambda: ct_slice_like(SEED, (448, 512)),
    "not_a_chest_film": lambda: hand_like(SEED + 2, FULL),
    "for_processing": _raw,
    "too_small": _small,
    "odd_shape": _strip,
    "lateral_view": _lateral,
    "constant_image": lambda: np.full(FULL, 128, np.uint8),
    "unusable_exposure": lambda: _grey(128, 0.07),
    "too_dark": lambda: _grey(22, 0.16),
    "too_bright": lambda: _grey(236, 0.13),
    "too_blurred": _blurred,
    "almost_empty": _empty,
    "colour_photograph": lambda: photograph_like(SEED),
    "page_of_text": lambda: page_of_text(SEED, (512, 400)),
    "two_films": _two_films,
}


def write(folder: Path) -> list[Path]:
    """Write every picture as WebP; which."""
    folder.mkdir(parents=True, exist_ok=True)
    written = [_write(folder / f"{name}.webp", draw(), HEIGHT) for name, draw in PICTURES.items()]
    return [*written, _write(folder / "opacity.webp", with_opacity(), LARGE)]


def _write(path: Path, pixels: np.ndarray, height: int) -> Path:
    picture = Image.fromarray(pixels)
    width = round(picture.width * height / picture.height)
    picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    picture.save(path, "WEBP", quality=QUALITY, method=6)
    return path


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where the pictures go")
    for picture in write(parser.parse_args().folder):
        print(picture, picture.stat().st_size)
