"""The viewer: stored values, the marks over them, and earlier films of the same patient."""

from __future__ import annotations

import html
import json
import re
import struct
from typing import Any

import numpy as np
import pytest
from django.urls import reverse

from app import messages
from app.cxr.radiograph import read_radiograph
from app.models import AuditEvent, Instance, Patient, Reading, State, Study
from app.pictures import film_values
from app.views.film import film_version
from app.views.viewer import LONGEST_SIDE
from model_export.phantom import chest_film
from tests.films import dicom, encode
from tests.people import browser_of, enter
from tests.studies import answer, answered, film_bytes, take_in, turned_down

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("data_dir")]

DEEP = (chest_film(3, (48, 40)).astype(np.uint16) * 16) + np.arange(40, dtype=np.uint16) % 16


def unpacked(content: bytes) -> tuple[dict[str, Any], np.ndarray]:
    """What the page's script reads, read as `film_values` describes it."""
    (length,) = struct.unpack_from("<I", content)
    said = json.loads(content[4 : 4 + length])
    values = np.frombuffer(content[4 + length :], f"<u{said['bytes']}")
    return said, values.reshape(said["height"], said["width"])


def page_of(client, study: Study, **query: object) -> str:
    response = client.get(reverse("viewer", args=[study.number]), query)
    assert response.status_code == 200
    return str(response.content.decode())


def described(page: str) -> list[dict[str, Any]]:
    """The films as the page describes them to its script."""
    found = re.search(r'data-films="([^"]*)"', page)
    return list(json.loads(html.unescape(found[1]))) if found else []


def chosen(page: str) -> list[str]:
    return re.findall(r'<option value="(\d+)" selected', page)


class TestPixels:
    def get(self, client, instance: Instance, **query: object):
        return client.get(reverse("pixels", args=[instance.pk]), query)

    def test_it_sends_the_values_of_the_file(self, client):
        content = dicom(DEEP, 12, WindowCenter=2048, WindowWidth=2001)
        response = self.get(client, take_in(content).instances.get())

        said, values = unpacked(response.content)
        assert np.array_equal(values, DEEP)
        assert (said["width"], said["height"]) == (said["film_width"], said["film_height"])
        assert (said["width"], said["height"], said["bits"], said["bytes"]) == (40, 48, 12, 2)
        assert said["window"] == said["start"] == [1047.5, 3047.5]
        assert (said["slope"], said["intercept"], said["inverted"]) == (1, 0, False)

    def test_it_sends_a_byte_for_each_pixel_of_an_eight_bit_film(self, client):
        said, values = unpacked(self.get(client, take_in().instances.get()).content)

        assert (said["bytes"], said["window"], said["start"]) == (1, None, [0, 255])
        assert np.array_equal(values, read_radiograph(film_bytes()).pixels)

    def test_it_says_that_high_values_are_dark(self, client):
        content = dicom(DEEP, 12, PhotometricInterpretation="MONOCHROME1")

        said, values = unpacked(self.get(client, take_in(content).instances.get()).content)
        assert said["inverted"]
        assert np.array_equal(values, DEEP)

    def test_it_averages_a_large_film_down_unless_every_pixel_is_asked_for(self, client):
        wide = np.repeat(np.arange(LONGEST_SIDE, dtype=np.uint16), 2)[np.newaxis].repeat(9, 0)
        instance = take_in(dicom(wide, 12)).instances.get()

        said, values = unpacked(self.get(client, instance).content)
        assert (said["width"], said["film_width"]) == (LONGEST_SIDE, 2 * LONGEST_SIDE)
        assert np.array_equal(values[0], np.arange(LONGEST_SIDE))
        said, values = unpacked(self.get(client, instance, full="").content)
        assert np.array_equal(values, wide)

    def test_the_values_begin_where_an_array_may_begin(self):
        from app.cxr.stored import StoredValues

        for start in (0.0, 1.5, 10.25, 1000.125):
            content = film_values(StoredValues(DEEP, bits=12, start=(start, 4095)))
            assert struct.unpack_from("<I", content)[0] % 4 == 0

    def test_it_never_sends_the_stored_bytes(self, client):
        instance = take_in(film_bytes() + b"<script>alert(1)</script>").instances.get()

        response = self.get(client, instance)
        assert b"<script>" not in response.content
        assert response["Content-Type"] == "application/octet-stream"

    def test_it_answers_404_for_a_file_without_a_picture_and_for_no_film(self, client):
        instance = take_in(b"no picture at all").instances.get()

        assert self.get(client, instance).status_code == 404
        assert client.get(reverse("pixels", args=[instance.pk + 1])).status_code == 404

    def test_a_browser_keeps_it_under_its_version_alone(self, client):
        instance = take_in().instances.get()

        kept = self.get(client, instance, v=film_version(instance))
        assert "immutable" in kept["Cache-Control"]
        assert "private" in kept["Cache-Control"]
        assert "no-cache" in self.get(client, instance, v="another")["Cache-Control"]
        again = client.get(
            reverse("pixels", args=[instance.pk]), headers={"if-none-match": kept["ETag"]}
        )
        assert again.status_code == 304

    def test_nobody_gets_it_who_is_not_logged_in(self, client):
        instance = take_in().instances.get()
        client.logout()

        assert client.get(reverse("pixels", args=[instance.pk])).status_code == 302


class TestPage:
    def test_the_study_leads_to_it_and_it_leads_back(self, client):
        study = answered()
        instance = study.instances.get()

        there = reverse("viewer", args=[study.number])
        assert (
            f'href="{there}?film={instance.pk}"'
            in client.get(reverse("study", args=[study.number])).content.decode()
        )
        assert f'href="{reverse("study", args=[study.number])}"' in page_of(client, study)

    def test_it_describes_the_film_with_its_marks_and_what_they_are_worth(self, client):
        study = answered()

        (film,) = described(page_of(client, study))
        instance = study.instances.get()
        assert film["pixels"] == f"/films/{instance.pk}/pixels?v={film_version(instance)}"
        assert film["map"].startswith(f"/films/{instance.pk}/map.png?v=")
        assert film["peak"] == [60, 120]
        assert [region["words"] for region in film["regions"]] == [
            messages.zone_words("right lower")
        ]
        assert film["hit_rate"] == str(messages.HIT_RATE_OF_ANOTHER_MODEL)
        assert film["map_strength"] > 0

    def test_a_clear_film_begins_without_its_map(self, client):
        (film,) = described(page_of(client, answered(answer="unlikely", regions=())))

        assert film["map"]
        assert (film["map_strength"], film["hit_rate"]) == (0, "")

    def test_a_film_that_waits_can_be_looked_at_already(self, client):
        (film,) = described(page_of(client, take_in()))

        assert (film["map"], film["regions"], film["peak"]) == (None, [], None)

    def test_it_begins_with_the_film_that_was_asked_for(self, client):
        study = answered()
        other = take_in(film_bytes(2), "other.png").instances.get()
        Instance.objects.filter(pk=other.pk).update(study=study)

        first = study.instances.exclude(pk=other.pk).get()
        assert chosen(page_of(client, study, film=other.pk)) == [str(other.pk)]
        for nonsense in ("", "x", "999999", "²"):
            assert chosen(page_of(client, study, film=nonsense)) == [str(first.pk)]

    def test_a_study_without_a_picture_says_so(self, client):
        page = page_of(client, turned_down("damaged", "unreadable"))

        assert "There is no picture to show." in page
        assert described(page) == []

    def test_there_is_no_page_for_no_study(self, client):
        assert client.get(reverse("viewer", args=["20200101-0001"])).status_code == 404

    def test_it_is_written_down_who_looked(self, client):
        study = answered()
        page_of(client, study)

        assert AuditEvent.objects.filter(action="study_viewed", subject=study.number).count() == 1

    def test_words_in_a_file_name_stay_words(self, client):
        page = page_of(client, take_in(name='"><script>alert(1)</script>.png'))

        assert "<script>alert" not in page


class TestEarlierFilms:
    @pytest.fixture
    def patient(self) -> Patient:
        return Patient.objects.create(name="Amina Otieno", number="K-204")

    def study_of(self, patient: Patient | None, seed: int) -> Study:
        study = answered(f"{seed}.png", seed)
        Study.objects.filter(pk=study.pk).update(patient=patient)
        return Study.objects.get(pk=study.pk)

    def test_films_of_the_same_patient_can_be_put_beside_it(self, client, patient):
        earlier, now = self.study_of(patient, 1), self.study_of(patient, 2)

        films = described(page_of(client, now))
        assert [film["study"] for film in films] == [now.number, earlier.number]

    def test_films_of_another_patient_cannot(self, client, patient):
        self.study_of(Patient.objects.create(name="Amina Otieno"), 1)
        now = self.study_of(patient, 2)

        assert [film["study"] for film in described(page_of(client, now))] == [now.number]

    def test_films_that_belong_to_nobody_are_not_taken_for_one_persons(self, client):
        self.study_of(None, 1)
        now = self.study_of(None, 2)

        assert [film["study"] for film in described(page_of(client, now))] == [now.number]

    def test_a_film_without_a_picture_is_not_offered(self, client, patient):
        earlier, now = self.study_of(patient, 1), self.study_of(patient, 2)
        earlier.instances.update(state=State.UNREADABLE)

        assert [film["study"] for film in described(page_of(client, now))] == [now.number]


class TestBlindFirstRead:
    @pytest.fixture
    def clinician(self, site):
        site.blind_first_read = True
        site.save()
        return enter("clinician")

    def test_marks_stay_away_until_the_clinician_has_read_the_film(self, clinician):
        study = answered()
        client = browser_of(clinician)

        page = page_of(client, study)
        (film,) = described(page)
        assert (film["map"], film["regions"], film["peak"], film["hit_rate"]) == (
            None,
            [],
            None,
            "",
        )
        assert "right lower" not in page
        assert "Shown once you have written down your own reading." in page

    def test_an_earlier_study_keeps_its_own_answer_to_itself(self, clinician):
        patient = Patient.objects.create(name="Amina Otieno")
        earlier, now = answered("1.png", 1), answered("2.png", 2)
        Study.objects.update(patient=patient)
        now.refresh_from_db()
        Reading.objects.create(study=now, by=clinician)

        films = {film["study"]: film for film in described(page_of(browser_of(clinician), now))}
        assert films[now.number]["map"]
        assert films[earlier.number]["map"] is None


def test_it_weighs_little_beside_the_film_and_the_renderer(client, root):
    page = page_of(client, answered())

    sent = [root / "app/static/clinic" / name for name in ("viewer.js", "film_pane.js")]
    sent += [*(root / "app/static/clinic").glob("*.css"), root / "app/static/clinic/icons.svg"]
    assert sum(path.stat().st_size for path in sent) + len(page) < 300_000


def test_a_film_of_odd_shape_is_still_sent(client):
    flat = take_in(encode(np.full((1, 3000), 7, np.uint8), "PNG"))

    said, _ = unpacked(client.get(reverse("pixels", args=[flat.instances.get().pk])).content)
    assert (said["width"], said["height"]) == (LONGEST_SIDE, 1)


def test_answers_that_come_later_are_there_on_the_next_visit(client):
    study = take_in()
    assert described(page_of(client, study))[0]["map"] is None

    answer(study)
    assert described(page_of(client, study))[0]["map"]
