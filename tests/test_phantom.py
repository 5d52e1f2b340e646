from __future__ import annotations

import numpy as np
import pytest

from model_export import phantom


@pytest.mark.parametrize("size", [(224, 224), (300, 200), (128, 400), (1024, 1024)])
def test_a_film_has_the_size_asked_for(size):
    film = phantom.chest_film(1, size)
    assert film.shape == size
    assert film.dtype == np.uint8


def test_the_same_seed_draws_the_same_film():
    assert np.array_equal(phantom.chest_film(5), phantom.chest_film(5))


def test_another_seed_draws_another_film():
    assert not np.array_equal(phantom.chest_film(5), phantom.chest_film(6))


def test_lungs_are_darker_than_the_middle_and_the_belly():
    film = phantom.chest_film(3, (400, 400)).astype(float)
    lungs = (film[160:240, 90:140].mean(), film[160:240, 270:320].mean())
    middle, belly = film[160:240, 190:210].mean(), film[340:390, 100:300].mean()
    assert max(lungs) + 50 < min(middle, belly)


@pytest.mark.parametrize("zone", sorted(phantom.ZONES))
def test_an_opacity_whitens_its_zone_and_nothing_else(zone):
    clear = phantom.chest_film(2, (400, 400), noise=0).astype(int)
    ill = phantom.chest_film(2, (400, 400), opacity=zone, noise=0).astype(int)
    x, y = (round(400 * part) for part in phantom.ZONES[zone])
    change = ill - clear
    assert change[y - 15 : y + 15, x - 15 : x + 15].mean() > 25
    side = change[:, 200:] if zone.startswith("right") else change[:, :200]
    assert abs(side).max() <= 2


def test_an_unknown_zone_is_an_error():
    with pytest.raises(KeyError):
        phantom.chest_film(1, opacity="middle of nowhere")


def test_a_stronger_opacity_is_whiter():
    faint, dense = (
        phantom.chest_film(1, opacity="right lower", strength=s).mean() for s in (0.3, 0.9)
    )
    assert faint < dense


@pytest.mark.parametrize(
    "draw",
    [phantom.hand_like, phantom.ct_slice_like, phantom.page_of_text, phantom.photograph_like],
)
def test_other_pictures_are_drawn_the_same_way_each_time(draw):
    picture = draw(4, (200, 260))
    assert picture.shape[:2] == (200, 260)
    assert picture.dtype == np.uint8
    assert np.array_equal(picture, draw(4, (200, 260)))
