"""A photograph of a film: the page that takes it, and what the program says of it beforehand."""

from __future__ import annotations

import io

import numpy as np
import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse
from PIL import Image, ImageFilter

from app import checks
from app.active_model import ActiveModel
from app.cxr.release import UnusableRelease
from app.models import AuditEvent, Instance, Patient, Study
from model_export.phantom import chest_film
from tests.films import encode, rgb
from tests.people import browser
from tests.studies import film_bytes, take_in

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("data_dir")]


def photograph(picture: np.ndarray | Image.Image | bytes) -> SimpleUploadedFile:
    content = picture if isinstance(picture, bytes) else encode(picture, "JPEG", quality=90)
    return SimpleUploadedFile("photograph.jpg", content, content_type="image/jpeg")


def judge(client: Client, picture: np.ndarray | Image.Image | bytes):
    return client.post(reverse("camera-verdict"), {"photograph": photograph(picture)})


def blurred(film: np.ndarray) -> Image.Image:
    return Image.fromarray(film).filter(ImageFilter.GaussianBlur(25))


def garden() -> Image.Image:
    """A photograph of anything but a film: bright colours."""
    colours = np.random.default_rng(3).integers(0, 255, (12, 12, 3), dtype=np.uint8)
    return Image.fromarray(colours).resize((640, 640), Image.Resampling.NEAREST)


@pytest.fixture
def model(tmp_path, monkeypatch) -> ActiveModel:
    """The model that the program ships."""
    active = ActiveModel(tmp_path)
    monkeypatch.setattr(checks, "model", active)
    return active


@pytest.fixture
def no_model(monkeypatch) -> None:
    def load(_self: ActiveModel) -> None:
        raise UnusableRelease("release_missing")

    monkeypatch.setattr(ActiveModel, "load", load)


class TestPage:
    def test_it_offers_the_phones_own_camera_where_there_are_no_scripts(self, client):
        page = client.get(reverse("camera")).content.decode()

        assert f'action="{reverse("upload")}"' in page
        assert 'capture="environment"' in page
        assert 'name="age"' in page

    @pytest.mark.parametrize(
        ("role", "status"),
        [("administrator", 200), ("clinician", 200), ("health_worker", 200), ("read_only", 403)],
    )
    def test_it_is_for_those_who_take_films_in(self, site, role, status):
        client = browser(role)

        assert client.get(reverse("camera")).status_code == status
        assert judge(client, b"").status_code == status

    def test_nobody_uses_it_without_logging_in(self, site):
        assert Client().get(reverse("camera"))["Location"].startswith(reverse("log-in"))
        assert judge(Client(), film_bytes())["Location"].startswith(reverse("log-in"))

    def test_the_menu_leads_to_it_for_those_who_may(self, client, site):
        assert f'href="{reverse("camera")}"' in client.get("/").content.decode()
        assert f'href="{reverse("camera")}"' not in browser("read_only").get("/").content.decode()

    def test_its_photograph_goes_in_by_the_usual_door(self, client):
        page = {"films": photograph(chest_film(1, (512, 420))), "age": "18", "age_unit": "months"}
        answer = client.post(reverse("upload"), page, headers={"Accept": "application/json"})

        assert answer.json()["films"][0]["error"] is None
        assert Study.objects.get().age_years == 1.5


class TestWhose:
    def test_a_photograph_joins_the_study_that_the_link_names(self, client):
        study = take_in()
        page = client.get(reverse("camera"), {"to_study": study.number}).content.decode()

        assert f'name="study" value="{study.number}"' in page
        assert 'name="age"' not in page

    def test_or_is_of_the_patient_that_it_names(self, client):
        patient = Patient.objects.create(name="Amina Otieno")
        page = client.get(reverse("camera"), {"to_patient": patient.pk}).content.decode()

        assert f'name="patient" value="{patient.pk}"' in page
        assert "Amina Otieno" in page

    def test_it_says_so_where_that_study_is_gone(self, client):
        page = client.get(reverse("camera"), {"to_study": "S-999"}).content.decode()

        assert "not there any more" in page
        assert 'name="study"' not in page


class TestVerdict:
    def test_a_film_can_be_read(self, client, model):
        answers = [judge(client, chest_film(seed, (512, 512))).json() for seed in range(8)]

        assert {"usable": True, "code": "", "sentence": "The film can be read."} in answers

    @pytest.mark.parametrize(
        ("picture", "code"),
        [
            (blurred(chest_film(1, (512, 512))), "too_blurred"),
            (chest_film(1, (512, 512)) // 8, "too_dark"),
            (np.full((512, 512), 255, np.uint8), "constant_image"),
            (garden(), "colour_photograph"),
            (chest_film(1, (80, 80)), "too_small"),
        ],
    )
    @pytest.mark.usefixtures("no_model")
    def test_it_says_what_is_wrong_with_the_photograph(self, client, picture, code):
        said = judge(client, picture).json()

        assert said["usable"] is False
        assert said["code"] == code
        assert said["sentence"].endswith(".")

    def test_what_the_model_takes_for_no_film_is_not_usable(self, client, model):
        noise = np.random.default_rng(5).normal(128, 50, (64, 64)).clip(0, 255).astype(np.uint8)
        picture = Image.fromarray(noise).resize((512, 512), Image.Resampling.BICUBIC)

        assert judge(client, picture).json()["usable"] is False

    def test_it_says_the_same_as_the_analysis_afterwards(self, client, model):
        from app.cxr.analysis import analyse

        for seed in range(6):
            content = encode(chest_film(seed, (512, 512)), "JPEG", quality=90)
            refused = analyse(content, model.load()).answer in ("refused", "unreadable")
            assert judge(client, content).json()["usable"] is not refused

    def test_it_says_nothing_of_what_the_film_shows(self, client, model):
        said = judge(client, chest_film(2, (512, 512))).json()

        assert set(said) == {"usable", "code", "sentence"}
        assert not {"likely", "unlikely", "probability"} & set(said["sentence"].lower().split())

    def test_it_keeps_nothing(self, client, model, data_dir):
        judge(client, chest_film(1, (512, 512)))

        assert not Study.objects.exists()
        assert not Instance.objects.exists()
        assert not [path for path in data_dir.rglob("*") if path.is_file()]
        assert not AuditEvent.objects.exclude(action="logged_in").exists()

    @pytest.mark.usefixtures("no_model")
    def test_without_a_model_the_rules_judge_alone(self, client):
        assert judge(client, chest_film(1, (512, 512))).json()["usable"] is True

    @pytest.mark.parametrize("content", [b"no picture", b"\xff\xd8\xff\xe0" + bytes(100)])
    @pytest.mark.parametrize("with_model", [True, False])
    def test_what_is_no_picture_is_not_usable(self, client, request, content, with_model):
        request.getfixturevalue("model" if with_model else "no_model")
        said = judge(client, content).json()

        assert said["usable"] is False
        assert said["code"] in {"not_an_image", "truncated", "damaged"}

    def test_it_judges_a_small_copy_only(self, client):
        answer = judge(client, bytes(4 * 1024 * 1024 + 1))

        assert answer.status_code == 413
        assert answer.json()["sentence"].startswith("The file is too large")

    def test_it_says_so_when_nothing_came(self, client):
        answer = client.post(reverse("camera-verdict"))

        assert answer.status_code == 400
        assert answer.json()["code"] == "no_file"

    def test_it_reads_nothing_by_get(self, client):
        assert client.get(reverse("camera-verdict")).status_code == 405

    def test_a_photograph_in_colour_of_a_grey_film_is_one_of_a_film(self, client, no_model):
        tinted = rgb(chest_film(1, (512, 512)))
        file = io.BytesIO()
        tinted.save(file, "JPEG", quality=85)

        assert judge(client, file.getvalue()).json()["usable"] is True
