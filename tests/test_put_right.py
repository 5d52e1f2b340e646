"""A film sent as its negative or turned is put right where that is sure, and refused elsewhere."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, ImageFilter

from app.cxr.analysis import MARGIN, Analysis, analyse
from app.cxr.model import Model, Prediction
from app.cxr.radiograph import read_radiograph
from app.cxr.regions import Region, box_turned_back, point_turned_back
from app.cxr.release import CUT_OFF, FACTORY_DIRECTORY, NOT_A_FILM, Release
from model_export.phantom import chest_film
from tests.films import encode


class ScriptedModel:
    """A gate that knows a film by a bright corner at its upper left; the map is hot there."""

    def __init__(self, right: float, wrong: float = -0.1, cut: float = 9.0) -> None:
        self._right, self._wrong, self._cut = right, wrong, cut
        self.seen: list[np.ndarray] = []
        manifest = {"gate": {"threshold": 0.0, "codes": [NOT_A_FILM, CUT_OFF]}}
        self.release = SimpleNamespace(
            label="scripted@1",
            input_size=32,
            film_threshold=0.0,
            refusal=Release(None, manifest).refusal,
            map_range=(0.0, 1.0),
            operating_point=lambda _: SimpleNamespace(threshold=0.5, decide=lambda _: "likely"),
        )

    def predict(self, model_input: np.ndarray, age_years: float | None = None) -> Prediction:
        self.seen.append(model_input[0, :, :, 0])
        upright = self.seen[-1][:6, :6].mean() > 200
        hot = np.zeros((4, 4), np.float32)
        hot[0, 0] = 1
        scores = (self._right if upright else self._wrong, self._cut)
        return Prediction(1.0, 0.9, hot, scores)


@pytest.fixture
def upright():
    film = np.minimum(chest_film(1, (240, 320)), 180)
    film[:70, :90] = 250
    return film


def sent(pixels: np.ndarray, model: ScriptedModel) -> Analysis:
    return analyse(encode(pixels, "PNG"), model)


def test_a_film_that_passes_is_scored_once_and_as_it_was_sent(upright):
    model = ScriptedModel(right=0.0)
    assert sent(upright, model).answer == "likely"
    assert len(model.seen) == 1


def test_a_negative_is_answered_by_the_film_it_was_made_from(upright):
    model = ScriptedModel(right=MARGIN)
    answered = sent(255 - upright, model)
    assert answered.answer == "likely"
    assert model.seen[1] == pytest.approx(255 - model.seen[0], abs=1)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_turned_film_is_answered_with_its_places_where_it_was_sent(upright, turns):
    straight = sent(upright, ScriptedModel(right=MARGIN))
    turned = sent(np.rot90(upright, -turns), ScriptedModel(right=MARGIN))
    assert (turned.answer, turned.probability) == (straight.answer, straight.probability)
    assert (turned.width, turned.height) == np.rot90(upright, -turns).shape[::-1]
    mark = np.zeros_like(upright)
    mark[straight.peak[1], straight.peak[0]] = 1
    (row,), (column,) = np.nonzero(np.rot90(mark, -turns))
    assert turned.peak == (column, row)
    mark[:] = 0
    (box,), (back,) = straight.regions, turned.regions
    mark[box.y : box.y + box.height, box.x : box.x + box.width] = 1
    rows, columns = np.nonzero(np.rot90(mark, -turns))
    assert (back.x, back.y) == (columns.min(), rows.min())
    assert (back.x + back.width - 1, back.y + back.height - 1) == (columns.max(), rows.max())
    assert back.zone == box.zone == "right upper"
    assert (turned.activation_map == np.rot90(straight.activation_map, -turns)).all()


@pytest.mark.parametrize("score", [-1.0, 0.0, MARGIN - 0.01])
def test_where_neither_negative_nor_turn_is_surely_a_film_it_is_refused(upright, score):
    for pixels in (255 - upright, np.rot90(upright), np.rot90(upright, 2)):
        refused = sent(pixels, ScriptedModel(right=score))
        assert (refused.answer, refused.reason) == ("refused", NOT_A_FILM)
        assert refused.probability is None


def test_a_film_that_is_cut_off_is_refused_as_such_and_not_turned(upright):
    model = ScriptedModel(right=5.0, cut=-0.1)
    assert sent(upright, model).reason == CUT_OFF
    assert len(model.seen) == 1


def test_a_blurred_picture_that_the_gate_does_not_know_is_called_blurred(upright):
    soft = Image.fromarray(upright).filter(ImageFilter.GaussianBlur(5))
    assert sent(np.asarray(soft), ScriptedModel(right=-1.0)).reason == "too_blurred"


@pytest.mark.parametrize(
    ("wrong", "reasons"),
    [
        (lambda film: film, {None}),
        (np.rot90, {None}),
        (lambda film: np.rot90(film, 2), {None}),
        (lambda film: 255 - film, {None}),
        (lambda film: (film * 0.15).astype(np.uint8), {"too_dark"}),
        (lambda film: (255 - (255 - film) * 0.15).astype(np.uint8), {"too_bright"}),
        (lambda film: film[:, : film.shape[1] // 2], {CUT_OFF, NOT_A_FILM}),
    ],
    ids=["as it is", "on its side", "on its head", "negative", "dark", "bright", "cut in half"],
)
def test_real_films_are_put_right_or_refused_for_what_is_wrong(cxr_data, wrong, reasons):
    model = Model.load(Release.load(FACTORY_DIRECTORY))
    folders = ("kermany_train/NORMAL", "kermany_train/PNEUMONIA", "adult_nih/images")
    films = [path for name in folders for path in sorted((cxr_data / name).iterdir())[::97][:5]]
    found = [analyse(encode(wrong(read_radiograph(film).pixels), "PNG"), model) for film in films]
    told = [analysis.reason if analysis.answer == "refused" else None for analysis in found]
    assert sum(reason in reasons for reason in told) >= 0.8 * len(films), told


@pytest.mark.parametrize("turns", range(5))
def test_every_pixel_goes_back_to_where_it_came_from(turns):
    before = np.arange(12).reshape(3, 4)
    after = np.rot90(before, turns)
    height, width = after.shape
    for y, x in np.ndindex(*after.shape):
        column, row = point_turned_back((x, y), width, height, turns)
        assert before[row, column] == after[y, x]


def test_a_box_keeps_its_zone_and_score_when_it_is_turned_back():
    box = Region(1, 0, 3, 2, "left lower", 0.7)
    assert box_turned_back(box, 10, 20, 1) == Region(18, 1, 2, 3, "left lower", 0.7)
    assert box_turned_back(box, 10, 20, 0) == box
