"""What may leave of a film and of a patient: no text in the pixels, no name, no date."""

from __future__ import annotations

import io
from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont

from app.cxr.deidentify import LONGEST_SIDE, MOST_MONTHS, pseudonym, shifted_month, without_text
from model_export.phantom import chest_film

KEY, OTHER_KEY = b"k" * 32, b"o" * 32
SIZE = (768, 700)
NAME = "OTIENO, AMINA"


def written_on(
    film: np.ndarray, size: int, left: float, top: float, level: int = 255, box: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The film with a name on it, its corner at these fractions, and where its ink is."""
    font = ImageFont.load_default(size=size)
    height, width = film.shape
    ink = Image.new("L", (width, height))
    place = (round(left * width), round(top * height))
    ImageDraw.Draw(ink).text(place, NAME, fill=255, font=font)
    picture = Image.fromarray(film.copy())
    if box is not None:
        ImageDraw.Draw(picture).rectangle(ImageDraw.Draw(ink).textbbox(place, NAME, font), box)
    picture.paste(level, mask=ink)
    return np.asarray(picture), np.asarray(ink) > 128


PLACES = [(0.02, 0.02), (0.6, 0.02), (0.02, 0.93), (0.6, 0.93), (0.02, 0.5)]


@pytest.mark.parametrize("size", [8, 12, 20, 40])
@pytest.mark.parametrize("place", PLACES)
def test_white_text_in_the_frame_is_blacked_out(size: int, place: tuple[float, float]) -> None:
    film, ink = written_on(chest_film(1, SIZE), size, *place)
    assert not without_text(film).pixels[ink].any()


@pytest.mark.parametrize("size", [14, 20, 40])
@pytest.mark.parametrize(("level", "box"), [(255, None), (255, 0), (0, 255)])
def test_text_over_the_chest_is_blacked_out(size: int, level: int, box: int | None) -> None:
    film, ink = written_on(chest_film(1, SIZE), size, 0.2, 0.5, level, box)
    assert not without_text(film).pixels[ink].any()


def test_faint_text_over_the_chest_keeps_the_film_in_the_clinic() -> None:
    clean = chest_film(1, SIZE)
    ink = written_on(clean, 20, 0.3, 0.5)[1]
    film = np.where(ink, np.clip(clean.astype(int) + 40, 0, 255), clean).astype(np.uint8)
    assert not without_text(clean).is_doubtful
    assert without_text(film).is_doubtful


def test_a_page_of_text_stays_in_the_clinic() -> None:
    page = Image.new("L", (700, 700), 255)
    for top in range(0, 700, 24):
        ImageDraw.Draw(page).text((5, top), NAME * 5, font=ImageFont.load_default(size=16))
    cleaned = without_text(np.asarray(page))
    assert cleaned.is_doubtful
    assert cleaned.removed > 0.8


def test_the_chest_of_a_film_without_text_stays_as_it_was() -> None:
    film = chest_film(2, SIZE)
    cleaned = without_text(film)
    middle = (slice(150, 600), slice(130, 560))
    assert (cleaned.pixels[middle] == film[middle]).mean() > 0.99
    assert not cleaned.is_doubtful


def test_no_film_leaves_larger_than_the_measured_size() -> None:
    cleaned = without_text(chest_film(1, (2100, 1500)))
    assert max(cleaned.pixels.shape) == LONGEST_SIDE


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (15, 17), (33, 200)])
def test_a_tiny_film_keeps_its_shape(shape: tuple[int, int]) -> None:
    assert without_text(np.full(shape, 90, np.uint8)).pixels.shape == shape


def test_the_png_holds_nothing_but_header_pixels_and_end() -> None:
    png = without_text(chest_film(1, (64, 64))).to_png()
    chunks, place = [], 8
    while place < len(png):
        chunks.append(png[place + 4 : place + 8])
        place += 12 + int.from_bytes(png[place : place + 4], "big")
    assert set(chunks) == {b"IHDR", b"IDAT", b"IEND"}
    assert Image.open(io.BytesIO(png)).info == {}


def test_a_pseudonym_depends_on_the_key_the_kind_and_the_name() -> None:
    names = {
        pseudonym(KEY, "patient", "17"),
        pseudonym(OTHER_KEY, "patient", "17"),
        pseudonym(KEY, "study", "17"),
        pseudonym(KEY, "patient", "18"),
    }
    assert len(names) == 4
    assert pseudonym(KEY, "patient", "17") in names
    assert all(len(name) == 20 for name in names)


def _months(month: str) -> int:
    return int(month[:4]) * 12 + int(month[5:])


DAYS = st.dates(date(1990, 1, 1), date(2090, 1, 1))


@given(st.binary(min_size=32, max_size=32), st.text(max_size=8), DAYS, st.integers(0, 2000))
def test_dates_move_by_as_much_for_a_whole_patient_and_never_stay(
    key: bytes, patient: str, day: date, later: int
) -> None:
    other = day + timedelta(days=later)
    moved = [_months(shifted_month(key, patient, one)) for one in (day, other)]
    true = [one.year * 12 + one.month for one in (day, other)]
    assert moved[1] - moved[0] == true[1] - true[0]
    assert 1 <= abs(moved[0] - true[0]) <= MOST_MONTHS
