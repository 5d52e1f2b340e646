"""The table of films for a spreadsheet, one row a film, in the words of the columns themselves."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from django.db.models import Prefetch
from django.utils import timezone

from app.models import UNFINISHED, Finding, Instance, Patient, Reading, Study, User
from app.models.studies import StudyQuerySet

COLUMNS = (
    "study", "day", "patient_number", "patient_name", "age_years", "sex", "film", "view_position",
    "status", "answer", "reason", "probability", "threshold", "regions", "model", "conclusion",
    "agrees", "before_answer", "diagnosis",
)  # fmt: skip
#: Left empty unless they are asked for: most tables need no names.
NAMES = ("patient_number", "patient_name")
#: Excel takes UTF-8 for what it is only where a byte order mark says so.
BYTE_ORDER_MARK = "\ufeff"
#: Studies that are held in memory at a time.
CHUNK = 500
# With these a spreadsheet begins a formula, and may run it (OWASP, CSV injection)
_BEGINS_A_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")

Row = Sequence[object]


def table(studies: StudyQuerySet, user: User, with_names: bool) -> Iterator[Row]:
    """A row for each film of the studies, newest study first; a few studies in memory at a time.

    Where ``user`` has to read a study before its answer is shown, what the computer and colleagues
    found on it is left out.
    """
    findings = Finding.objects.defer("activation_map", "details")
    films = Instance.objects.prefetch_related(Prefetch("findings", findings))
    readings = Reading.objects.order_by("pk")
    chosen = studies.as_rows_for(user).prefetch_related(None)
    chosen = chosen.prefetch_related(Prefetch("instances", films), Prefetch("readings", readings))
    for study in chosen.iterator(chunk_size=CHUNK):
        patient = study.patient if with_names else None
        for number, film in enumerate(study.instances.all(), 1):
            yield _row(study, patient, number, film)


def _row(study: Study, patient: Patient | None, number: int, film: Instance) -> Row:
    hidden = study.answer_is_hidden  # type: ignore[attr-defined]
    finding = film.finding if film.state not in UNFINISHED else None
    if finding and hidden and finding.probability is not None:
        finding = None
    return (
        study.number,
        timezone.localdate(study.created_at).isoformat(),
        patient.number if patient else "",
        patient.name if patient else "",
        study.age_years,
        study.patient.sex if study.patient else "",
        number,
        film.view_position,
        film.state,
        *(_found(finding) if finding else ("",) * 6),
        *_read(() if hidden else study.readings.all()),
    )


def _found(finding: Finding) -> Row:
    return (
        finding.answer,
        finding.reason,
        finding.probability,
        finding.threshold,
        "; ".join(str(region["zone"]) for region in finding.regions),
        finding.model,
    )


def _read(readings: Iterable[Reading]) -> Row:
    """The last conclusion and the last diagnosis of the study."""
    last = {reading.kind: reading for reading in readings}
    read, diagnosed = last.get(Reading.Kind.CONCLUSION), last.get(Reading.Kind.DIAGNOSIS)
    found = (read.conclusion, read.agrees, read.before_answer) if read else ("", "", "")
    return (*found, diagnosed.conclusion if diagnosed else "")


def as_csv(header: Row, rows: Iterable[Row]) -> Iterator[str]:
    """Lines of CSV (RFC 4180), made as they are asked for, that no spreadsheet takes for formulas.

    Unknown is an empty cell, yes and no are 1 and 0.
    """
    writer = csv.writer(_Echo())
    yield BYTE_ORDER_MARK + writer.writerow(header)
    for row in rows:
        yield writer.writerow([cell(value) for value in row])


class _Echo:
    """A file for csv.writer that gives back each line instead of keeping it."""

    def write(self, line: str) -> str:
        return line


def cell(value: object) -> Any:
    """A value as a cell: text that would begin a formula gets an apostrophe in front."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, str) and value.startswith(_BEGINS_A_FORMULA):
        return f"'{value}"
    return value
