"""Pictures of a film: drawn anew from the stored file, which itself never leaves."""

from __future__ import annotations

import io

import numpy as np
import pytest
from django.urls import reverse
from PIL import Image

from app.models import Instance
from app.pictures import VIRIDIS, coloured, film_png, map_png
from app.views.film import film_version, map_version
from model_export.phantom import chest_film
from tests.films import encode
from tests.studies import answer, answered, film_bytes, stored, take_in, turned_down


def image_of(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content))


@pytest.mark.django_db
@pytest.mark.usefixtures("data_dir")
class TestFilm:
    def get(self, client, instance: Instance, name: str = "film", **query: str):
        return client.get(reverse(name, args=[instance.pk]), query)

    def test_it_shows_the_film_as_a_grey_png_of_its_size(self, client):
        instance = answered().instances.get()

        response = self.get(client, instance)
        assert response["Content-Type"] == "image/png"
        assert image_of(response.content).size == (224, 256)
        assert image_of(response.content).mode == "L"

    def test_it_shows_the_pixels_that_were_analysed(self, client):
        instance = answered(seed=5).instances.get()

        shown = np.asarray(image_of(self.get(client, instance).content))
        assert np.array_equal(shown, chest_film(5, (256, 224)))

    def test_it_makes_a_large_film_smaller(self, client):
        large = encode(chest_film(1, (60, 50)), "PNG")
        instance = answer(take_in(large)).instances.get()
        big = encode(Image.open(io.BytesIO(large)).resize((2500, 3000)), "PNG")
        stored(instance).write_bytes(big)

        assert max(image_of(self.get(client, instance).content).size) == 2048

    def test_it_never_sends_the_stored_bytes(self, client):
        instance = answer(take_in(film_bytes() + b"<script>alert(1)</script>")).instances.get()

        assert b"<script>" not in self.get(client, instance).content

    def test_it_answers_404_for_a_file_without_a_picture(self, client):
        instance = take_in(b"<svg onload=alert(1)>").instances.get()

        assert self.get(client, instance).status_code == 404
        assert self.get(client, instance, "thumbnail").status_code == 404

    def test_it_answers_404_where_the_stored_file_is_gone(self, client):
        instance = answered().instances.get()
        stored(instance).unlink()

        assert self.get(client, instance).status_code == 404

    def test_it_answers_404_for_a_film_that_is_not_there(self, client):
        assert client.get(reverse("film", args=[4711])).status_code == 404

    def test_it_makes_thumbnails_small(self, client):
        instance = answered().instances.get()

        assert max(image_of(self.get(client, instance, "thumbnail").content).size) == 112

    def test_it_lets_this_browser_alone_keep_a_picture(self, client):
        instance = answered().instances.get()

        kept = self.get(client, instance, v=film_version(instance))["Cache-Control"]
        assert "private" in kept
        assert "immutable" in kept

    @pytest.mark.parametrize("version", ["", "0000000000000000"])
    def test_it_lets_no_browser_keep_a_picture_under_a_number_alone(self, client, version):
        """Numbers begin anew in a new data directory: what was kept is another patient's film."""
        instance = answered().instances.get()

        assert "no-cache" in self.get(client, instance, v=version)["Cache-Control"]

    def test_it_sends_nothing_to_a_browser_that_has_it(self, client):
        instance = answered().instances.get()
        etag = self.get(client, instance)["ETag"]

        address = reverse("film", args=[instance.pk])
        again = client.get(address, headers={"If-None-Match": etag})
        assert again.status_code == 304
        assert again.content == b""

    def test_it_shows_the_map_in_the_shape_of_the_film(self, client):
        instance = answered(width=400, height=200).instances.get()

        picture = image_of(self.get(client, instance, "map").content)
        assert picture.mode == "RGBA"
        assert picture.size == (512, 256)

    def test_it_answers_404_where_there_is_no_map(self, client):
        waiting = take_in(film_bytes(3)).instances.get()
        refused = turned_down("page_of_text").instances.get()

        assert self.get(client, waiting, "map").status_code == 404
        assert self.get(client, refused, "map").status_code == 404

    def test_the_map_of_a_new_finding_has_a_new_name(self, client):
        study = answered()
        before = map_version(study.instances.get())
        Instance.objects.update(state="waiting")
        answer(study, answer="unlikely")

        assert map_version(study.instances.get()) != before

    @pytest.mark.parametrize("name", ["film", "thumbnail", "map"])
    def test_it_only_shows(self, client, name):
        instance = answered().instances.get()

        assert client.post(reverse(name, args=[instance.pk])).status_code == 405


class TestDrawing:
    def test_the_hottest_point_of_a_map_is_the_hottest_of_its_picture(self):
        heat = np.zeros((5, 5), np.float32)
        heat[3, 1] = 1.0

        picture = np.asarray(image_of(map_png(heat.tolist(), 500, 500)))
        row, column = np.unravel_index(picture[..., 0].astype(int).argmax(), picture.shape[:2])
        assert abs(row / 512 - 0.7) < 0.1
        assert abs(column / 512 - 0.3) < 0.1

    def test_a_cold_map_leaves_the_film_untouched(self):
        assert (coloured(np.zeros((3, 3)))[..., 3] == 0).all()

    def test_a_hot_map_has_the_last_colour_in_full(self):
        assert tuple(coloured(np.ones((1, 1)))[0, 0]) == (*VIRIDIS[-1], 255)

    def test_hotter_is_always_brighter_also_without_colours(self):
        red, green, blue = np.moveaxis(
            coloured(np.linspace(0, 1, 50))[..., :3].astype(float), -1, 0
        )
        lightness = 0.2126 * red + 0.7152 * green + 0.0722 * blue

        assert (np.diff(lightness) > 0).all()

    @pytest.mark.parametrize("size", [(1, 5000), (5000, 1), (1, 1)])
    def test_it_draws_a_map_of_any_shape(self, size):
        assert image_of(map_png([[0.5]], *size)).size[0] >= 1

    def test_it_never_makes_a_film_larger(self):
        from app.cxr.radiograph import Radiograph

        small = Radiograph(chest_film(1, (50, 40)))
        assert image_of(film_png(small, 2048)).size == (40, 50)
