"""A database as a clinic has it after years: patients, studies, films, findings, readings.

``python -m tests.bench.many --studies N`` fills the data directory that ``CLINIC_HOME`` names. The
files of the films are not there: what is timed on it are pages, not pictures.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import re
from datetime import date, datetime, timedelta
from typing import Any

CHUNK = 2_000
FIRST_NAMES = re.findall(
    r"\S+",
    "Amina Grace Joseph Fatuma Peter Achieng Moses Zainab Samuel Nakato José Søren François Ngọc "
    "Иван 李 محمد आशा",
)
LAST_NAMES = re.findall(
    r"\S+",
    "Otieno Okello Mwangi Hassan Kamau Namuli Ssekandi Abdi Wanjiru Phiri Núñez Ødegård Lefèvre "
    "Trần Петров 伟 علي शर्मा",
)
#: In the name of one patient of a thousand, and in that of nobody.
RARE, ABSENT = "Quillfeather", "xylophone"
ANSWERS = ("likely", "unlikely", "unlikely", "unlikely", "cannot_say")


def fill(studies: int, seed: int = 1) -> None:
    """Write ``studies`` studies of half as many patients, the newest one today."""
    from django.db import transaction
    from django.utils import timezone

    chance = random.Random(seed)
    readers = _readers()
    patients = _patients(studies // 2, chance)
    moment = timezone.now() - timedelta(minutes=25) * studies
    numbers: dict[date, int] = {}
    for start in range(0, studies, CHUNK):
        with transaction.atomic():
            count = min(CHUNK, studies - start)
            moments = [moment + timedelta(minutes=25) * (start + i) for i in range(count)]
            _studies(start, moments, patients, readers, numbers, chance)


def _readers() -> list[Any]:
    from app.models import User

    return [User.enter(f"reader{i}", None, "clinician") for i in range(4)]


def _patients(count: int, chance: random.Random) -> list[Any]:
    from app.models import Patient
    from app.models.words import searchable

    made = []
    for i in range(count):
        name = f"{chance.choice(FIRST_NAMES)} {chance.choice(LAST_NAMES)}"
        if i % 1000 == 0:
            name += f" {RARE}"
        number = f"MRN{i:06d}"
        born = date(2026, 1, 1) - timedelta(days=chance.randrange(30_000))
        made.append(
            Patient(
                pk=i + 1,
                name=name,
                number=number,
                sex=chance.choice("MF"),
                birth_date=born,
                search_text=searchable(f"{name} {number}"),
            )
        )
    Patient.objects.bulk_create(made, batch_size=CHUNK)
    return made


def _studies(
    start: int,
    moments: list[datetime],
    patients: list[Any],
    readers: list[Any],
    numbers: dict[date, int],
    chance: random.Random,
) -> None:
    from app.models import Finding, Instance, Reading, Study

    studies: list[Any] = []
    films: list[Any] = []
    findings: list[Any] = []
    readings: list[Any] = []
    heat = [[round(chance.random(), 3) for _ in range(10)] for _ in range(10)]
    for i, moment in enumerate(moments):
        pk = start + i + 1
        study, film = _study(pk, moment, chance.choice(patients), numbers, chance)
        studies.append(study)
        films.append(film)
        if study.answer:
            found = study.status == "answered"
            findings.append(
                Finding(
                    instance_id=pk,
                    created_at=moment,
                    answer=study.answer,
                    probability=chance.random() if found else None,
                    threshold=0.41 if found else None,
                    model="chest-bench@1.0.0",
                    milliseconds=40.0,
                    activation_map=heat if found else None,
                )
            )
        if study.is_read:
            # One reader has read little
            reader = readers[3] if pk % 500 == 0 else chance.choice(readers[:3])
            readings.append(
                Reading(study_id=pk, by=reader, at=moment, conclusion="no_pneumonia", agrees=True)
            )
    Study.objects.bulk_create(studies)
    Instance.objects.bulk_create(films)
    Finding.objects.bulk_create(findings)
    Reading.objects.bulk_create(readings)


def _study(
    pk: int, moment: datetime, patient: Any, numbers: dict[date, int], chance: random.Random
) -> tuple[Any, Any]:
    from app.models import Instance, Study
    from app.models.words import searchable

    day = moment.date()
    numbers[day] = numbers.get(day, 0) + 1
    number = f"{day:%Y%m%d}-{numbers[day]:04d}"
    status = "refused" if pk % 25 == 0 else "failed" if pk % 5000 == 7 else "answered"
    answer = {"answered": chance.choice(ANSWERS), "refused": "refused"}.get(status, "")
    file_name = f"IMG_{pk:06d}.dcm"
    study = Study(
        pk=pk,
        number=number,
        created_at=moment,
        patient=patient,
        age_years=patient.age_on(day),
        status=status,
        answer=answer,
        is_read=chance.random() < 0.8,
        search_text=searchable(f"{number}  {patient.name} {patient.number} {file_name}"),
    )
    film = Instance(
        pk=pk,
        study=study,
        file_name=file_name,
        source="dicom",
        sha256=hashlib.sha256(str(pk).encode()).hexdigest(),
        size_bytes=1_000_000,
        film=f"films/none/{pk}",
        received_at=moment,
        state=status,
        width=1024,
        height=1024,
    )
    return study, film


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.bench.many", description=__doc__)
    parser.add_argument("--studies", type=int, default=100_000)
    options = parser.parse_args()
    os.environ["DJANGO_SETTINGS_MODULE"] = "app.settings"
    import django

    django.setup()
    from django.conf import settings

    from app import database

    settings.DATA_DIR.mkdir(parents=True, exist_ok=True)
    database.bring_up_to_date()
    fill(options.studies)
    database.close_down()


if __name__ == "__main__":
    main()
