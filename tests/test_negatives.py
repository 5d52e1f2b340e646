"""A film sent as its negative is put right where that is sure, and refused where it is not."""

from types import SimpleNamespace

import numpy as np
import pytest

from app.cxr.analysis import INVERSION_MARGIN, analyse
from app.cxr.model import Prediction
from model_export.phantom import chest_film
from tests.films import encode


class ScriptedModel:
    """Takes bright pictures for films with score ``bright``, dark ones with score ``dark``."""

    def __init__(self, bright: float, dark: float) -> None:
        self._scores = (dark, bright)
        self.seen: list[float] = []
        self.release = SimpleNamespace(
            label="scripted@1",
            input_size=32,
            film_threshold=0.0,
            map_range=(0.0, 1.0),
            operating_point=lambda _: SimpleNamespace(threshold=0.5, decide=lambda _: "likely"),
        )

    def predict(self, model_input: np.ndarray, age_years: float | None = None) -> Prediction:
        mean = float(model_input.mean())
        self.seen.append(mean)
        return Prediction(1.0, mean / 255, np.ones((2, 2), np.float32), self._scores[mean > 127])


@pytest.fixture
def bright_film():
    return encode(np.maximum(chest_film(1, (256, 256)), 140), "PNG")


def test_a_film_that_passes_is_scored_once_and_as_it_was_sent(bright_film):
    model = ScriptedModel(bright=0.0, dark=9.0)
    assert analyse(bright_film, model).answer == "likely"
    assert len(model.seen) == 1


def test_a_negative_is_answered_by_the_film_it_was_made_from(bright_film):
    model = ScriptedModel(bright=-0.1, dark=INVERSION_MARGIN)
    answered = analyse(bright_film, model)
    assert answered.answer == "likely"
    assert answered.probability == pytest.approx(1 - model.seen[0] / 255, abs=1e-3)


@pytest.mark.parametrize("dark", [-1.0, 0.0, INVERSION_MARGIN - 0.01])
def test_where_the_negative_is_not_surely_a_film_it_is_refused(bright_film, dark):
    refused = analyse(bright_film, ScriptedModel(bright=-0.1, dark=dark))
    assert (refused.answer, refused.reason) == ("refused", "not_a_frontal_chest_film")
    assert refused.probability is None
