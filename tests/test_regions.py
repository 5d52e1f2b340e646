"""From map to regions: boxes in the film, on the right side, hottest first."""

from __future__ import annotations

from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from app.cxr.analysis import analyse
from app.cxr.model import Model
from app.cxr.regions import (
    FINE_CELLS,
    LEAST_BODY,
    MOST_REGIONS,
    REGION_FLOOR,
    RIM_CELLS,
    WHOLE_FILM,
    Region,
    body_mask,
    connected,
    enlarge,
    peak,
    regions,
    strength,
    zone,
)
from app.cxr.release import Release
from model_export.phantom import ZONES, chest_film
from tests.films import encode
from tests.tiny_release import make_release

ndimage = pytest.importorskip("scipy.ndimage")

coarse = st.tuples(st.integers(1, 10), st.integers(1, 10))
heats = hnp.arrays(np.float32, coarse, elements=st.floats(0, 1, width=32))
maps = hnp.arrays(np.float32, coarse, elements=st.floats(-50, 50, width=32))
bodies = hnp.arrays(np.bool_, (FINE_CELLS, FINE_CELLS)).filter(np.any)
pictures = hnp.arrays(np.uint8, st.tuples(st.integers(1, 200), st.integers(1, 200)))
sides = st.one_of(st.integers(1, 70), st.integers(71, 6000))


def spot(row: int, column: int, value: float = 1.0, cells: int = 5) -> np.ndarray:
    heat = np.zeros((cells, cells), np.float32)
    heat[row, column] = value
    return heat


@pytest.mark.parametrize(
    ("x", "y", "name"),
    [
        (0.2, 0.2, "right upper"),
        (0.2, 0.47, "right middle"),
        (0.2, 0.8, "right lower"),
        (0.8, 0.2, "left upper"),
        (0.8, 0.47, "left middle"),
        (0.8, 0.8, "left lower"),
        (0.0, 0.0, "right upper"),
        (1.0, 1.0, "left lower"),
        (0.4999, 0.3, "right upper"),
        (0.5, 0.3, "left upper"),
    ],
)
def test_the_patients_right_is_on_the_left_of_the_picture(x, y, name):
    assert zone(x, y) == name


@pytest.mark.parametrize("name", ZONES)
def test_an_opacity_drawn_in_a_zone_lies_in_the_zone_of_that_name(name):
    assert zone(*ZONES[name]) == name


@given(st.floats(0, 1), st.floats(0, 1))
def test_every_place_has_one_of_six_names(x, y):
    assert zone(x, y) in ZONES


@given(heats, sides, sides)
def test_regions_lie_inside_the_film(heat, width, height):
    for region in regions(heat, width, height):
        assert region.x >= 0
        assert region.y >= 0
        assert region.width >= 1
        assert region.height >= 1
        assert region.x + region.width <= width
        assert region.y + region.height <= height
        assert {type(value) for value in astuple(region)} == {int, str, float}


@given(heats, sides, sides)
def test_regions_are_few_and_the_hottest_comes_first(heat, width, height):
    scores = [region.score for region in regions(heat, width, height)]
    assert len(scores) <= MOST_REGIONS
    assert scores == sorted(scores, reverse=True)
    assert all(REGION_FLOOR <= score <= 1 for score in scores)


@given(heats, st.integers(64, 4000), st.integers(64, 4000))
def test_regions_stand_for_the_same_places_on_every_size_of_film(heat, width, height):
    small, large = regions(heat, 640, 640), regions(heat, width, height)
    assert [region.zone for region in small] == [region.zone for region in large]
    for one, other in zip(small, large, strict=True):
        assert one.x / 640 == pytest.approx(other.x / width, abs=1 / 64)
        assert one.height / 640 == pytest.approx(other.height / height, abs=2 / 64)


@pytest.mark.parametrize("value", [0.0, REGION_FLOOR - 0.01])
@pytest.mark.parametrize("shape", [(1, 1), (5, 5), (7, 4)])
def test_a_cold_map_has_no_region(shape, value):
    assert regions(np.full(shape, value, np.float32), 512, 512) == ()


def test_a_map_that_is_hot_everywhere_is_one_region_of_the_whole_film():
    (region,) = regions(np.ones((5, 5), np.float32), 300, 200)
    assert (region.x, region.y, region.width, region.height) == (0, 0, 300, 200)
    assert region.score == 1.0


@pytest.mark.parametrize(
    ("row", "column", "name"),
    [
        (1, 1, "right upper"),
        (2, 1, "right middle"),
        (4, 0, "right lower"),
        (1, 4, "left upper"),
        (2, 3, "left middle"),
        (4, 3, "left lower"),
    ],
)
def test_a_hot_cell_is_found_where_it_is(row, column, name):
    (region,) = regions(spot(row, column), 500, 1000)
    assert region.zone == name
    assert region.x <= column * 100 + 50 <= region.x + region.width
    assert region.y <= row * 200 + 100 <= region.y + region.height


def test_two_hot_cells_are_two_regions_in_order_of_heat():
    heat = spot(1, 0, 0.8) + spot(3, 4, 1.0)
    first, second = regions(heat, 500, 500)
    assert (first.zone, second.zone) == ("left lower", "right upper")
    assert first.score > second.score


def test_more_than_the_most_regions_are_cut_to_the_hottest():
    heat = np.zeros((9, 9), np.float32)
    heat[::4, ::4] = 0.8
    heat[4, 4] = 1.0
    found = regions(heat, 500, 500)
    assert len(found) == MOST_REGIONS
    assert found[0].score == pytest.approx(1.0, abs=0.05)


@given(maps, sides, sides)
def test_the_peak_lies_inside_the_film(activation_map, width, height):
    x, y = peak(activation_map, width, height)
    assert 0 <= x < width
    assert 0 <= y < height
    assert type(x) is type(y) is int


@pytest.mark.parametrize("row", range(5))
@pytest.mark.parametrize("column", range(5))
def test_the_peak_is_in_the_hottest_cell(row, column):
    x, y = peak(spot(row, column, 9.0) - 4, 500, 1000)
    assert column * 100 <= x < (column + 1) * 100
    assert row * 200 <= y < (row + 1) * 200


def test_the_peak_is_found_where_the_shown_map_is_flat():
    saturated = np.full((5, 5), 50.0, np.float32)
    saturated[3, 1] = 60.0
    assert strength(saturated, 0, 10).min() == 1.0
    x, y = peak(saturated, 500, 500)
    assert (x // 100, y // 100) == (1, 3)


@given(hnp.arrays(np.bool_, st.tuples(st.integers(1, 20), st.integers(1, 20))))
def test_connected_parts_are_those_that_scipy_labels(mask):
    labels, count = ndimage.label(mask)
    theirs = {frozenset(map(tuple, np.argwhere(labels == n + 1).tolist())) for n in range(count)}
    ours = [frozenset(part) for part in connected(mask)]
    assert len(ours) == count
    assert set(ours) == theirs


def test_corners_that_touch_do_not_connect():
    assert len(connected(np.eye(5, dtype=bool))) == 5


@given(maps, st.floats(-20, 20), st.floats(0.1, 40))
def test_strength_is_a_share_and_keeps_the_order(activation_map, low, span):
    heat = strength(activation_map, low, low + span)
    assert heat.dtype == np.float32
    assert heat.min() >= 0
    assert heat.max() <= 1
    order = np.argsort(activation_map, axis=None)
    assert (np.diff(heat.ravel()[order]) >= 0).all()


def test_strength_is_one_scale_for_all_films():
    values = np.array([[-9.0, 1.0, 3.0, 5.0, 99.0]], np.float32)
    assert strength(values, 1.0, 5.0).tolist() == [[0.0, 0.0, 0.5, 1.0, 1.0]]


@given(heats, st.integers(1, 200), st.integers(1, 200))
def test_an_enlarged_map_has_the_size_of_the_film_and_stays_a_share(heat, width, height):
    fine = enlarge(heat, width, height)
    assert fine.shape == (height, width)
    assert fine.min() >= 0
    assert fine.max() <= 1


def test_the_fine_grid_holds_whole_cells_of_common_maps():
    assert FINE_CELLS >= 4 * 10


# --- the body on the film -----------------------------------------------------------------------


def cells_of(region: Region, width: int, height: int) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of a region in cells of the body's grid."""
    return (
        region.x / width * FINE_CELLS,
        region.y / height * FINE_CELLS,
        (region.x + region.width) / width * FINE_CELLS,
        (region.y + region.height) / height * FINE_CELLS,
    )


def bounding_box(body: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.nonzero(body)
    left, top = int(columns.min()), int(rows.min())
    return left, top, int(columns.max()) + 1, int(rows.max()) + 1


def padded(film: np.ndarray, left: int = 0, top: int = 0, right: int = 0, grey: int = 0):
    """The film with borders of so many percent of its side added, of one grey."""
    height, width = (side / 100 for side in film.shape)
    size = (round(top * height), 0), (round(left * width), round(right * width))
    return np.pad(film, size, constant_values=grey)


@pytest.fixture(scope="module")
def chest() -> np.ndarray:
    return chest_film(3, (400, 360))


@given(maps, sides, sides, bodies)
def test_the_peak_lies_in_the_film_and_in_the_body(activation_map, width, height, body):
    x, y = peak(activation_map, width, height, body)
    assert 0 <= x < width
    assert 0 <= y < height
    # a pixel of a small film covers several cells
    rows = slice(int(y / height * FINE_CELLS), int(np.ceil((y + 1) / height * FINE_CELLS)))
    columns = slice(int(x / width * FINE_CELLS), int(np.ceil((x + 1) / width * FINE_CELLS)))
    assert body[rows, columns].any()


@given(heats, sides, sides, bodies)
def test_no_region_reaches_out_of_the_bodys_box(heat, width, height, body):
    left, top, right, bottom = bounding_box(body)
    wide, high = FINE_CELLS / width, FINE_CELLS / height  # a region ends at a whole pixel
    for region in regions(heat, width, height, body):
        box = cells_of(region, width, height)
        assert box[0] > left - wide - 1e-6
        assert box[1] > top - high - 1e-6
        assert box[2] < right + wide + 1e-6
        assert box[3] < bottom + high + 1e-6
        assert region.x + region.width <= width
        assert region.y + region.height <= height


@given(heats)
def test_a_body_that_is_the_whole_film_changes_nothing(heat):
    everywhere = np.ones((FINE_CELLS, FINE_CELLS), bool)
    assert regions(heat, 500, 400, everywhere) == regions(heat, 500, 400)
    assert peak(heat, 500, 400, everywhere) == peak(heat, 500, 400)


def test_heat_in_the_border_alone_gives_no_region():
    body = np.zeros((FINE_CELLS, FINE_CELLS), bool)
    body[:, 32:] = True
    assert regions(spot(2, 0), 500, 500) != ()
    assert regions(spot(2, 0), 500, 500, body) == ()


def test_a_peak_in_the_border_moves_to_the_hottest_place_of_the_body():
    body = np.zeros((FINE_CELLS, FINE_CELLS), bool)
    body[:, 32:] = True
    x, y = peak(spot(2, 0, 9.0) + spot(3, 4, 5.0), 500, 500, body)
    assert (x // 100, y // 100) == (4, 3)


@given(pictures)
def test_any_picture_has_a_body_of_some_size(pixels):
    body = body_mask(pixels)
    assert body.shape == (FINE_CELLS, FINE_CELLS)
    assert body.dtype == np.bool_
    assert body.mean() >= LEAST_BODY


@given(pictures, maps)
def test_the_peak_of_any_picture_is_in_its_body(pixels, activation_map):
    height, width = pixels.shape
    x, y = peak(activation_map, width, height, body_mask(pixels))
    assert 0 <= x < width
    assert 0 <= y < height


def test_the_outer_rim_is_no_body(chest):
    body = body_mask(chest)
    assert RIM_CELLS == 3
    assert not body[:3].any()
    assert not body[-3:].any()
    assert not body[:, :3].any()
    assert not body[:, -3:].any()


@pytest.mark.parametrize("name", ZONES)
@pytest.mark.parametrize("seed", range(4))
def test_no_zone_of_the_lungs_is_lost(seed, name):
    x, y = ZONES[name]
    body = body_mask(chest_film(seed, (400, 360), name, strength=1.0))
    row, column = int(y * FINE_CELLS), int(x * FINE_CELLS)
    assert body[row - 4 : row + 4, column - 4 : column + 4].all()


@pytest.mark.parametrize("grey", [0, 17, 128, 255])
@pytest.mark.parametrize("side", ["left", "right", "top"])
def test_an_even_border_of_any_grey_is_no_body(chest, side, grey):
    film = padded(chest, **{side: 25}, grey=grey)  # a fifth of the film's new side
    body = body_mask(film)
    lost = {"left": body[:, :12], "right": body[:, -12:], "top": body[:12]}
    assert not lost[side].any()
    assert body[20:44, 20:44].all()


def test_a_border_around_a_border_is_no_body(chest):
    film = padded(padded(chest, left=20, right=20, grey=255), top=25, grey=0)
    body = body_mask(film)
    assert not body[:12].any()
    assert not body[:, :8].any()
    assert not body[:, -8:].any()


def test_a_marker_on_a_border_does_not_make_it_body(chest):
    film = padded(chest, left=25)
    film[40:60, 20:50] = 255
    assert not body_mask(film)[:, :12].any()


def test_a_grainy_border_is_still_a_border(chest):
    film = padded(chest, left=25, grey=20).astype(int)
    grain = np.random.default_rng(1).integers(-4, 5, film.shape)
    assert not body_mask((film + grain).clip(0, 255).astype(np.uint8))[:, :12].any()


def test_a_border_that_is_not_even_may_be_body(chest):
    film = padded(chest, left=25)
    film[:, :90] = np.linspace(20, 200, film.shape[0], dtype=np.uint8)[:, np.newaxis]
    assert body_mask(film)[20:44, 4:12].all()


def test_black_air_in_a_corner_is_no_body(chest):
    film = np.maximum(chest, 40)
    corner = np.add.outer(np.arange(400), np.arange(360)) < 200
    film[corner] = 0
    body = body_mask(film)
    assert not body[:12, :12].any()
    assert body[20:44, 20:44].all()


def test_a_black_place_inside_the_body_is_body(chest):
    film = np.maximum(chest, 40)
    film[150:220, 80:140] = 0
    assert body_mask(film)[24:35, 14:24].all()


@pytest.mark.parametrize("film", [np.zeros((200, 200)), np.full((200, 200), 255)])
def test_where_no_body_can_be_told_the_whole_film_counts(film):
    assert body_mask(film.astype(np.uint8)).mean() > 0.8


def test_where_too_little_would_be_left_the_whole_film_counts(chest):
    film = np.zeros((1000, 1000), np.uint8)
    film[300:700, 320:680] = chest  # 0.14 of the film
    assert body_mask(film).all()
    assert body_mask(film) is WHOLE_FILM


def test_a_large_film_and_its_small_copy_have_the_same_body(chest):
    film = padded(chest, left=25)
    large = np.repeat(np.repeat(film, 5, axis=0), 5, axis=1)
    assert (body_mask(film) == body_mask(large)).mean() > 0.98


def test_nobody_can_change_the_whole_film_for_all():
    with pytest.raises(ValueError):
        WHOLE_FILM[0, 0] = False


def test_an_answer_points_at_the_body_and_not_at_the_bright_border(chest, tmp_path):
    model = Model.load(Release.load(make_release(tmp_path / "release")))
    film = padded(chest, left=25, right=25, grey=255)  # this model's map is the film's brightness
    analysis = analyse(encode(film, "PNG"), model)
    assert analysis.peak is not None
    assert analysis.regions
    border = 90 - 540 / FINE_CELLS
    assert border < analysis.peak[0] < 540 - border
    for region in analysis.regions:
        assert region.x > border
        assert region.x + region.width < 540 - border
