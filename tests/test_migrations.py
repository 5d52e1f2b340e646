"""The database of the first version becomes this one's, and goes back, with nothing lost."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import timedelta
from itertools import combinations
from typing import Any

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

from app.models.words import searchable

pytestmark = pytest.mark.django_db(transaction=True)

FIRST = ("clinic", "0001_studies_films_findings_workers")
MOVED = ("clinic", "0004_patients_have_moved")
# More than one chunk of what the database hands out at a time
MANY = 250


def migrate(*targets: tuple[str, str]) -> Any:
    """The models as they are at that point of the history."""
    executor = MigrationExecutor(connection)
    executor.migrate(list(targets))
    return MigrationExecutor(connection).loader.project_state(list(targets)).apps


@pytest.fixture
def first() -> Any:
    """The models of the first version, on a database that it has just made."""
    yield migrate(FIRST)
    executor = MigrationExecutor(connection)
    executor.migrate(executor.loader.graph.leaf_nodes())


Enter = Callable[..., Any]


@pytest.fixture
def enter(first) -> Enter:
    """Enter a study of the first version, with a film in every state that is named."""

    def enter(number: str, *states: str, **fields: Any) -> Any:
        study = first.get_model("clinic", "Study").objects.create(number=number, **fields)
        for at, state in enumerate(states):
            sha256 = f"{number}-{at}".rjust(64, "0")
            study.instances.create(
                file_name=f"{number}.png",
                source="upload",
                sha256=sha256,
                size_bytes=1000 + at,
                film=f"films/{sha256[:2]}/{sha256}",
                state=state,
            )
        return study

    return enter


def found(instance: Any, answer: str, probability: float | None, minutes: int = 0) -> None:
    instance.findings.create(
        answer=answer,
        probability=probability,
        threshold=0.4,
        model="older@0.2.0",
        milliseconds=40.0,
        created_at=timezone.now() + timedelta(minutes=minutes),
        regions=[{"x": 1, "y": 2, "width": 3, "height": 4, "zone": "left upper", "score": 0.5}],
    )


def rows(apps: Any, model: str, *left_out: str) -> list[dict[str, Any]]:
    values = apps.get_model("clinic", model).objects.order_by("pk").values()
    return [{name: v for name, v in row.items() if name not in left_out} for row in values]


def patient_of(apps: Any, number: str) -> Any:
    return apps.get_model("clinic", "Study").objects.get(number=number).patient


def test_nothing_but_the_patients_columns_changes_place(first, enter):
    study = enter("20260101-0001", "answered", age_years=0.25, note="cough", patient_name="Amina")
    found(study.instances.get(), "likely", 0.9)
    enter("20260101-0002", "waiting", "refused", patient_number="7", search_text="as it was")
    before = {name: rows(first, name) for name in ("Instance", "Finding")}
    moved = ("patient_name", "patient_number", "patient_sex")
    studies = rows(first, "Study", *moved)

    now = migrate(MOVED)

    assert {name: rows(now, name) for name in before} == before
    new = ("patient_id", "status", "answer", "consent_for_learning", "is_read")
    assert rows(now, "Study", *new) == studies
    assert {row["consent_for_learning"] for row in rows(now, "Study")} == {None}


def test_the_way_there_and_back_loses_nothing(first, enter):
    for at in range(MANY):
        said = {"patient_name": f"Name {at % 90}", "patient_number": f"{at % 60}" if at % 2 else ""}
        enter(f"2026-{at:04d}", patient_sex="MFO"[at % 90 % 3], age_years=at / 3, **said)
    enter("nobody")
    before = rows(first, "Study")

    migrate(MOVED)

    assert rows(migrate(FIRST), "Study") == before


def test_what_is_known_of_a_patient_is_found_again(enter):
    enter("one", patient_name="Zoë Árnadóttir", patient_number="C-17", patient_sex="F")

    patient = patient_of(migrate(MOVED), "one")
    assert (patient.name, patient.number, patient.sex) == ("Zoë Árnadóttir", "C-17", "F")
    assert patient.birth_date is None
    assert patient.search_text == searchable("Zoë Árnadóttir C-17")


def test_a_study_of_nobody_stays_one(enter):
    enter("one", age_years=4)

    now = migrate(MOVED)
    assert patient_of(now, "one") is None
    assert rows(now, "Patient") == []


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        (("Amina", "17", "F"), ("Amina", "17", "F"), True),
        (("AMINA", "17", ""), ("Amína", "17", ""), True),
        (("Amina", "17", "F"), ("Amina", "17", ""), True),
        (("Amina", "17", ""), ("Amina", "17", "F"), True),
        (("", "17", ""), ("", "17", ""), True),
        (("Amina", "17", ""), ("Juma", "17", ""), False),
        (("Amina", "17", "F"), ("Amina", "17", "M"), False),
        (("Amina", "17", ""), ("", "17", ""), False),
        (("Amina", "17", ""), ("Amina", "18", ""), False),
        (("Amina", "", ""), ("Amina", "", ""), False),
        (("Amina", "17", ""), ("Amina", "", ""), False),
        (("", "", "F"), ("", "", "F"), False),
    ],
)
def test_who_shares_a_patient(enter, one, other, together):
    for number, (name, own, sex) in (("one", one), ("other", other)):
        enter(number, patient_name=name, patient_number=own, patient_sex=sex)

    now = migrate(MOVED)
    assert (patient_of(now, "one").pk == patient_of(now, "other").pk) is together


def test_a_sex_that_only_a_later_study_states_is_kept(enter):
    enter("one", patient_name="Amina", patient_number="17")
    enter("two", patient_name="Amina", patient_number="17", patient_sex="F")

    assert patient_of(migrate(MOVED), "one").sex == "F"


def test_where_two_sexes_are_stated_neither_is_lost(enter):
    for at, sex in enumerate(("F", "M", "", "F")):
        enter(f"study {at}", patient_name="Amina", patient_number="17", patient_sex=sex)

    now = migrate(MOVED)
    assert [patient_of(now, f"study {at}").sex for at in range(4)] == ["F", "M", "", "F"]
    assert patient_of(now, "study 0").pk == patient_of(now, "study 3").pk


@pytest.mark.parametrize(
    ("states", "status"),
    [
        ((), "waiting"),
        (("waiting",), "waiting"),
        (("answered", "analysing", "waiting"), "analysing"),
        (("answered", "waiting"), "waiting"),
        (("answered", "failed"), "failed"),
        (("refused", "answered"), "answered"),
        (("unreadable", "refused"), "refused"),
        (("unreadable",), "unreadable"),
    ],
)
def test_a_study_stands_where_its_films_stand(enter, states, status):
    enter("one", *states)

    assert rows(migrate(MOVED), "Study")[0]["status"] == status


@pytest.mark.parametrize(
    ("state", "findings", "answer"),
    [
        ("answered", [("likely", 0.9)], "likely"),
        ("answered", [("likely", 0.9), ("unlikely", 0.1)], "unlikely"),
        ("refused", [("refused", None)], "refused"),
        ("waiting", [("likely", 0.9)], ""),
        ("failed", [], ""),
    ],
)
def test_a_study_keeps_its_newest_answer(enter, state, findings, answer):
    instance = enter("one", state).instances.get()
    for minutes, (said, probability) in enumerate(findings):
        found(instance, said, probability, minutes)

    assert rows(migrate(MOVED), "Study")[0]["answer"] == answer


def test_of_several_films_one_with_a_probability_gives_the_answer(enter):
    answered, refused = enter("one", "answered", "refused").instances.all()
    found(answered, "unlikely", 0.1)
    found(refused, "refused", None, minutes=5)

    assert rows(migrate(MOVED), "Study")[0]["answer"] == "unlikely"


def test_todays_program_reads_what_was_moved(enter):
    from app.models import Study

    study = enter("20260101-0001", "answered", patient_name="Amina", patient_number="17")
    found(study.instances.get(), "likely", 0.9)
    executor = MigrationExecutor(connection)
    executor.migrate(executor.loader.graph.leaf_nodes())

    read = Study.objects.newest_first().get()
    assert (str(read.patient), read.answer, read.status) == ("Amina", "likely", "answered")
    before = read.status, read.answer
    read.refresh_standing()
    assert (read.status, read.answer) == before


def test_who_differs_in_number_name_or_sex_never_becomes_one(enter):
    draw = random.Random(17)
    names = ["", "Amina", "AMINA", "Juma", "أمينة", "Zoë", "Zoe"]
    for at in range(MANY):
        said = {"patient_name": draw.choice(names), "patient_number": draw.choice(["", "1", "2"])}
        enter(f"{at:04d}", patient_sex=draw.choice("MFO") if at % 3 else "", **said)
    studies = rows(migrate(FIRST), "Study")

    held = {row["number"]: row["patient_id"] for row in rows(migrate(MOVED), "Study")}

    for one, other in combinations(studies, 2):
        if held[one["number"]] == held[other["number"]] is not None:
            assert one["patient_number"] == other["patient_number"] != ""
            assert searchable(one["patient_name"]) == searchable(other["patient_name"])
            assert "" in (one["patient_sex"], other["patient_sex"]) or (
                one["patient_sex"] == other["patient_sex"]
            )
    assert len({pk for pk in held.values() if pk}) < MANY / 2
