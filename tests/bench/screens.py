"""The pictures of docs/screens: the pages of a clinic at work, at laptop and phone size.

    python -m tests.bench.screens docs/screens

Films and people are invented, the films drawn by code; the answers are the factory model's own.
"""

from __future__ import annotations

import io
import os
import sys
import tempfile
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from model_export.phantom import chest_film
from tests.films import encode
from tests.running import ROOT, serving

if TYPE_CHECKING:
    from app.models import Study, User

LAPTOP, PHONE = (1366, 768), (360, 740)
#: Pages that are longer than a picture of them is worth.
LONG = ("worklist",)
PEOPLE = (
    (3, "Mugisha Peter", 34.0),
    (5, "Nakato Sarah", 6.0),
    (13, "Tumwine Joseph", 2.0),
    (14, "Akello Mercy", 0.75),
    (15, "Ssali John", 61.0),
    (16, "Atim Ruth", 4.0),
    (17, "Byaruhanga Paul", 1.5),
    (18, "Kato Samuel", 28.0),
)
PASSWORD = "right-lower-lobe-47"
COLOURS = 128


def film(seed: int, opacity: str = "") -> bytes:
    drawn = chest_film(seed, (1024, 896), opacity=opacity, strength=0.9) if opacity else None
    return encode(chest_film(seed, (1024, 896)) if drawn is None else drawn, "PNG")


def seed_clinic() -> dict[str, str]:
    """A clinic at work in the data directory of this process; the addresses of its pages."""
    from django.urls import reverse

    from app.models import Role, Site, User

    site = Site.current()
    site.clinic_name = "Kisoro Health Centre IV"
    site.set_up()
    User.enter("amina", PASSWORD, Role.ADMINISTRATOR, full_name="Amina Otieno")
    clinician = User.enter("achieng", PASSWORD, Role.CLINICIAN, full_name="Dr Achieng Odhiambo")
    shown = seed_studies(clinician)
    seed_review(clinician)
    number = {"number": shown.number}
    return {
        "worklist": "/",
        "study": reverse("study", kwargs=number),
        "viewer": reverse("viewer", kwargs=number),
        "report": reverse("report", kwargs=number),
        "edit": reverse("study-edit", kwargs=number),
        "patient": reverse("patient", args=[shown.patient_id]),
        "review": reverse("review"),
        "camera": reverse("camera"),
        "help": reverse("help"),
    }


def seed_studies(clinician: User) -> Study:
    from app import intake, worker
    from app.cxr.signs import Signs
    from app.models import ClinicalSigns, Patient, Reading, Study

    def take_in(content: bytes, name: str, **known: object) -> Study:
        receipt = intake.receive(io.BytesIO(content), name, "upload", intake.Belonging(**known))  # type: ignore[arg-type]
        worker.analyse_instance.call(receipt.instance.pk)
        return Study.objects.get(pk=receipt.instance.study_id)

    page = np.full((900, 700), 255, np.uint8)
    page[100:800:30, 80:620] = 30
    take_in(encode(page, "PNG"), "referral letter.png")
    for seed, name, age in PEOPLE:
        patient = Patient.objects.create(name=name, number=f"K-{1000 + seed}")
        take_in(film(seed), f"{name}.png", age_years=age, patient=patient)
    grace = Patient.objects.create(
        name="Okello Grace", number="K-1047", sex="F", birth_date=date(2023, 5, 2)
    )
    earlier = take_in(film(8), "okello grace.png", patient=grace)
    Study.objects.filter(pk=earlier.pk).update(created_at=earlier.created_at - timedelta(days=120))
    study = take_in(film(11, "right lower"), "okello grace 2.png", patient=grace)
    ClinicalSigns.record(
        study, clinician, Signs(breaths_per_minute=46, danger_signs=frozenset(), wheeze=False)
    )
    Reading.objects.create(study=study, by=clinician, conclusion="pneumonia", agrees=True)
    for one in (earlier, study):
        one.refresh_standing()
    return study


def seed_review(clinician: User) -> None:
    from django.utils import timezone

    from app import checks
    from tests.readings import read_studies

    draw, label = np.random.default_rng(4), checks.model.label or ""
    for month in range(6, 0, -1):
        at = timezone.now() - timedelta(days=30 * month)
        sick, clear = draw.beta(22, 2, 18), draw.beta(1.2, 9, 22)
        for conclusion, scores in (("pneumonia", sick), ("no_pneumonia", clear)):
            given = [float(score) for score in scores]
            read = read_studies(clinician, conclusion, given, model=label, at=at, threshold=0.62)
            for study in read:
                study.refresh_standing()


def shoot(browser: Browser, address: str, pages: dict[str, str], folder: Path) -> None:
    """English and Arabic, laptop and phone; a phone's page in full height."""
    for language in ("en", "ar"):
        for (width, height), kind in ((LAPTOP, "laptop"), (PHONE, "phone")):
            context = browser.new_context(
                viewport={"width": width, "height": height}, base_url=address
            )
            page = context.new_page()
            page.goto("/log-in")
            page.fill("[name=username]", "amina")
            page.fill("[name=password]", PASSWORD)
            page.press("[name=password]", "Enter")
            page.wait_for_url("**/")
            page.request.post(
                "/language",
                form={"language": language, "csrfmiddlewaretoken": token(page.content())},
                headers={"Origin": address},
            )
            for name, at in pages.items():
                page.goto(at)
                page.wait_for_load_state("networkidle")
                page.wait_for_timeout(600)
                shot = page.screenshot(full_page=kind == "phone" and name not in LONG)
                keep(shot, folder / f"{name}-{kind}-{language}.png")
            context.close()


def token(html: str) -> str:
    return html.partition('name="csrfmiddlewaretoken" value="')[2].partition('"')[0]


def keep(shot: bytes, path: Path) -> None:
    """Small enough to commit: a palette, as many colours as pages with a grey film need."""
    picture = Image.open(io.BytesIO(shot)).convert("RGB")
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
    print(path, path.stat().st_size // 1024, "kB")


def main(folder: Path) -> None:
    """Seed a clinic, serve it, take the pictures."""
    home = Path(tempfile.mkdtemp(prefix="clinic-screens-"))
    os.environ |= {"CLINIC_HOME": str(home), "DJANGO_SETTINGS_MODULE": "app.settings"}
    import django

    django.setup()
    from app import startup

    startup.prepare_data_directory()
    startup.prepare_database()
    pages = seed_clinic()
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(ROOT / "run_clinic.py")]
    with (
        serving(command, os.environ, set_up=False) as (visitor, _),
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium",
            args=["--no-sandbox", "--use-fake-device-for-media-stream"],
        )
        shoot(browser, visitor.address, pages, folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
