"""Refusals: what is plainly no frontal chest film is not answered, and every real film is."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    MRImageStorage,
)

from app.cxr.quality import CODES, MINIMUM_SIDE, refusals, sharpness
from app.cxr.radiograph import Radiograph, read_radiograph
from model_export import phantom
from tests import films

FILM = Radiograph(phantom.chest_film(1, (300, 260)))


def codes(film: Radiograph | np.ndarray) -> list[str]:
    found = refusals(film if isinstance(film, Radiograph) else Radiograph(film))
    assert {refusal.code for refusal in found} <= CODES
    return [refusal.code for refusal in found]


def noise(low: int, high: int) -> np.ndarray:
    return np.random.default_rng(1).integers(low, high, (300, 300), dtype=np.uint8)


class TestUsableFilms:
    @pytest.mark.parametrize("seed", range(8))
    @pytest.mark.parametrize("opacity", [None, *phantom.ZONES])
    def test_a_frontal_film_is_not_refused(self, seed, opacity):
        assert codes(phantom.chest_film(seed, (256, 256), opacity=opacity)) == []

    @pytest.mark.parametrize(
        "size", [(224, 224), (96, 96), (128, 300), (300, 128), (1024, 1024), (2000, 1600)]
    )
    def test_films_of_every_usual_size_pass(self, size):
        assert codes(phantom.chest_film(2, size)) == []

    def test_a_film_of_64_pixels_enlarged_is_not_refused_for_its_size(self):
        small = Image.fromarray(phantom.chest_film(3, (64, 64)))
        assert codes(np.asarray(small.resize((256, 256)))) == []

    @pytest.mark.parametrize("tint", [(0.8, 0.9, 1.0), (1.0, 0.92, 0.75), (0.7, 1.0, 0.8)])
    def test_a_photograph_of_a_film_on_a_tinted_light_box_passes(self, tint):
        pixels = np.rint(FILM.pixels[..., None] * np.array(tint)).astype(np.uint8)
        assert codes(read_radiograph(films.encode(pixels, "JPEG", quality=90))) == []

    def test_a_pale_film_passes(self):
        assert codes((FILM.pixels // 3 + 90).astype(np.uint8)) == []

    def test_a_film_between_black_borders_passes(self):
        assert codes(np.pad(FILM.pixels, ((0, 0), (90, 90)))) == []


class TestTags:
    @pytest.mark.parametrize("modality", ["CT", "MR", "US", "NM", "PT", "ES", "RTIMAGE", "SEG"])
    def test_it_refuses_what_is_no_radiograph(self, modality):
        assert codes(replace(FILM, modality=modality)) == ["not_a_radiograph"]

    def test_it_names_the_modality(self):
        (refusal,) = refusals(replace(FILM, modality="CT"))
        assert refusal.details == {"modality": "CT"}

    @pytest.mark.parametrize("modality", ["CR", "DX", "DR", "RG", "RF", "OT", "SC", "", None])
    def test_it_lets_radiographs_and_the_undeclared_through(self, modality):
        assert codes(replace(FILM, modality=modality)) == []

    @pytest.mark.parametrize("uid", [CTImageStorage, EnhancedCTImageStorage, MRImageStorage])
    def test_it_refuses_by_the_sop_class_where_the_modality_is_silent(self, uid):
        assert codes(replace(FILM, sop_class_uid=uid)) == ["not_a_radiograph"]

    @pytest.mark.parametrize(
        "uid",
        ["1.2.840.10008.5.1.4.1.1.1", "1.2.840.10008.5.1.4.1.1.1.1", "1.2.840.10008.5.1.4.1.1.7"],
    )
    def test_it_lets_the_classes_of_radiographs_through(self, uid):
        assert codes(replace(FILM, modality="CR", sop_class_uid=uid)) == []

    @pytest.mark.parametrize("part", ["HAND", "SKULL", "KNEE", "PELVIS"])
    def test_it_refuses_another_part_of_the_body(self, part):
        (refusal,) = refusals(replace(FILM, body_part=part))
        assert refusal.code == "not_a_chest_film"
        assert refusal.details == {"body_part": part}

    @pytest.mark.parametrize(
        "part",
        ["CHEST", "THORAX", "ABDOMEN", "CHEST ABDOMEN", "SHOULDER", "TSPINE", "", None],
    )
    def test_it_does_not_trust_a_part_that_may_be_left_over(self, part):
        assert codes(replace(FILM, body_part=part)) == []

    @pytest.mark.parametrize("modality", ["MG", "PX", "IO"])
    def test_it_refuses_films_of_breast_and_teeth(self, modality):
        assert codes(replace(FILM, modality=modality)) == ["not_a_chest_film"]

    @pytest.mark.parametrize(
        "view", ["LL", "RL", "LAT", "LATERAL", "L LAT", "RT LATERAL", "LEFT LATERAL", "LLAT"]
    )
    def test_it_refuses_a_lateral_view(self, view):
        assert codes(replace(FILM, view_position=view)) == ["lateral_view"]

    @pytest.mark.parametrize("view", ["PA", "AP", "LLD", "RLD", "LLO", "RAO", None])
    def test_it_lets_other_views_through(self, view):
        assert codes(replace(FILM, view_position=view)) == []

    def test_a_ct_slice_from_a_file_is_refused_with_its_reason(self):
        content = films.dicom(phantom.ct_slice_like(1), Modality="CT", SOPClassUID=CTImageStorage)
        assert codes(read_radiograph(content))[0] == "not_a_radiograph"


class TestShape:
    @pytest.mark.parametrize("size", [(1, 1), (3, 3), (MINIMUM_SIDE - 1, 400), (400, 30)])
    def test_it_refuses_what_is_too_small(self, size):
        (refusal,) = refusals(Radiograph(np.resize(FILM.pixels, size)))
        assert refusal.code == "too_small"
        assert refusal.details["width"] == str(size[1])
        assert refusal.details["height"] == str(size[0])

    @pytest.mark.parametrize("size", [(100, 401), (2000, 300)])
    def test_it_refuses_a_strip(self, size):
        assert "odd_shape" in codes(np.resize(FILM.pixels, size))


class TestLook:
    @pytest.mark.parametrize("grey", [0, 7, 128, 255])
    def test_it_refuses_a_constant_image(self, grey):
        assert codes(np.full((300, 300), grey, np.uint8)) == ["constant_image"]

    def test_it_refuses_noise_with_nothing_in_it(self):
        assert codes(noise(120, 130)) == ["constant_image"]

    def test_it_refuses_a_film_with_hardly_any_contrast(self):
        assert codes((FILM.pixels // 14 + 120).astype(np.uint8)) == ["unusable_exposure"]

    @pytest.mark.parametrize("share", [0.15, 0.1])
    def test_it_refuses_a_film_that_is_too_dark_and_says_so(self, share):
        assert codes((FILM.pixels * share).astype(np.uint8)) == ["too_dark"]

    @pytest.mark.parametrize("share", [0.15, 0.1])
    def test_it_refuses_a_pale_or_burnt_out_film_as_too_bright(self, share):
        assert codes((255 - (255 - FILM.pixels) * share).astype(np.uint8)) == ["too_bright"]
        burnt = np.clip(FILM.pixels * 3.0 + 90, 0, 255).astype(np.uint8)
        assert codes(burnt) == ["too_bright"]

    @pytest.mark.parametrize("share", [0.04, 0.08])
    def test_it_refuses_a_film_in_which_no_rib_can_be_told_from_another(self, share):
        blurred = Image.fromarray(FILM.pixels).filter(ImageFilter.GaussianBlur(300 * share))
        assert codes(np.asarray(blurred)) == ["too_blurred"]

    def test_a_film_is_as_sharp_in_any_size_and_less_sharp_when_blurred(self):
        large = Image.fromarray(FILM.pixels).resize((1200, 1000), Image.Resampling.BICUBIC)
        sharp = sharpness(FILM)
        assert sharpness(Radiograph(np.asarray(large))) == pytest.approx(sharp, rel=0.15)
        soft = large.filter(ImageFilter.GaussianBlur(15))
        assert sharpness(Radiograph(np.asarray(soft))) < 0.6 * sharp

    def test_it_refuses_a_picture_that_is_almost_empty(self):
        pixels = np.zeros((300, 300), np.uint8)
        pixels[100:160, 100:160] = 200
        assert codes(pixels) == ["almost_empty"]

    @pytest.mark.parametrize("seed", range(4))
    def test_it_refuses_a_colour_photograph(self, seed):
        content = films.encode(phantom.photograph_like(seed), "JPEG")
        assert codes(read_radiograph(content)) == ["colour_photograph"]

    @pytest.mark.parametrize("size", [(700, 500), (1754, 1240), (400, 400)])
    def test_it_refuses_a_page_of_text(self, size):
        assert codes(phantom.page_of_text(1, size)) == ["page_of_text"]

    @pytest.mark.parametrize("gap", [0, 6, 12])
    @pytest.mark.parametrize("seed", range(4))
    def test_it_refuses_two_films_side_by_side(self, seed, gap):
        pair = [phantom.chest_film(n, (300, 300)) for n in (seed, seed + 1)]
        assert codes(np.hstack([pair[0], np.zeros((300, gap), np.uint8), pair[1]])) == ["two_films"]

    def test_two_films_squeezed_into_a_square_too(self):
        pair = np.hstack([phantom.chest_film(n, (224, 112)) for n in (1, 2)])
        assert codes(pair) == ["two_films"]


def of_folder(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix in {".jpg", ".jpeg", ".png"})


class TestRealFilms:
    @pytest.mark.parametrize(
        ("folder", "every"),
        [
            ("kermany_train", 10),
            ("adult_nih/images", 4),
            ("adult_radiologist/images", 1),
            ("stress", 5),
            ("originals", 1),
        ],
    )
    def test_no_more_than_one_in_a_thousand_is_refused(self, cxr_data, folder, every, soak):
        paths = of_folder(cxr_data / folder)[:: 1 if soak > 1 else every]
        refused = [path.name for path in paths if refusals(read_radiograph(path))]
        assert len(refused) <= len(paths) / 1000, refused

    def test_pairs_of_real_films_are_often_found(self, cxr_data):
        paths = of_folder(cxr_data / "kermany_train")[::100]
        squares = [read_radiograph(path).pixels for path in paths]
        pairs = [np.hstack(two) for two in pairwise(squares)]
        found = sum("two_films" in codes(pair) for pair in pairs)
        assert found > 0.8 * len(pairs)

    def test_the_dicom_film_is_not_refused(self, cxr_data):
        assert codes(read_radiograph(cxr_data / "dicom" / "cr_monochrome2.dcm")) == []
