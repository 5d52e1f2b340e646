"""What goes in and out, in the words of ``analyze --json`` and of the tables."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any

from django.urls import reverse
from ninja import Schema
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
)

from app import messages
from app.forms import OLDEST_YEARS
from app.models import Finding, Instance, Patient, Reading, State, Study
from app.models.patients import Sex
from app.models.words import one_line

#: States in which a film has its result, and keeps it.
WITH_RESULT = (State.ANSWERED, State.REFUSED, State.UNREADABLE)
MOST_STUDIES = 100
A_RESULT: dict[str, Any] = {
    "file": "film.png",
    "answer": "likely",
    "probability": 0.93,
    "threshold": 0.41,
    "reason": None,
    "message": "Signs of pneumonia: likely. Examine the patient now and follow your treatment "
    "guideline for pneumonia.",
    "regions": [{"x": 40, "y": 90, "width": 50, "height": 60, "zone": "right lower", "score": 0.8}],
    "peak": {"x": 60, "y": 120},
    "view_position": "PA",
    "age_years": 3.0,
    "width": 224,
    "height": 256,
    "frames": 1,
    "map": None,
    "model": "chest@1.2.3",
    "milliseconds": 41.3,
}
A_FILM: dict[str, Any] = {
    "film": 7,
    "study": "20260131-0001",
    "state": "answered",
    "received_at": "2026-01-31T08:00:00Z",
    "message": A_RESULT["message"],
    "result": A_RESULT,
}
A_STUDY: dict[str, Any] = {
    "number": "20260131-0001",
    "created_at": "2026-01-31T08:00:00Z",
    "status": "answered",
    "answer": "likely",
    "is_read": False,
}
A_READING: dict[str, Any] = {
    "reader": "amina.otieno",
    "kind": "conclusion",
    "conclusion": "pneumonia",
    "note": "Right lower lobe.",
}
A_KEPT_READING: dict[str, Any] = A_READING | {
    "at": "2026-01-31T09:00:00Z",
    "before_answer": False,
    "agrees": None,
}


def _example(**values: Any) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [values]})


def _unsaid(value: Any) -> Any:
    """A field of a form that was left empty says nothing."""
    return None if value == "" else value


def _in_utc(time: dt.datetime) -> dt.datetime:
    try:
        return time.astimezone(dt.UTC)
    except OverflowError as error:
        raise ValueError("before the first or after the last day") from error


Years = Annotated[float, Field(ge=0, le=OLDEST_YEARS, allow_inf_nan=False)]
Number = Annotated[str, AfterValidator(one_line), Field(max_length=64)]
Name = Annotated[str, AfterValidator(one_line), Field(max_length=200)]
Unsaid = BeforeValidator(_unsaid)
Time = Annotated[AwareDatetime, AfterValidator(_in_utc)]
#: A text may have lines; what ends it for some programs is not in it.
Text = Annotated[str, StringConstraints(strip_whitespace=True, pattern=r"^[^\x00]*$")]


class Problem(Schema):
    """Why a request was not answered as it was meant."""

    model_config = _example(code="film_not_found", message="There is no such film here.")

    code: str = Field(description="Stable; programs go by it.")
    message: str = Field(description="For a person, in the language that was asked for.")


class Health(Schema):
    """Whether the program is up, and has a model to answer with."""

    model_config = _example(status="ok", version="0.1.0", model="chest@1.2.3")

    status: str = Field(description="`ok`, or `degraded`: somebody should look.")
    version: str
    model: str | None = Field(description="`name@version`; null when there is none to answer with.")


class FilmSaid(Schema):
    """What is known of a film besides its pixels. All of it may be left out."""

    age_years: Annotated[Years | None, Unsaid] = Field(
        None, description="The patient's age, where the film does not carry it."
    )
    study: Annotated[str | None, Unsaid] = Field(
        None, description="The number of a study that the film joins; then nothing else is said."
    )
    patient_number: Annotated[Number | None, Unsaid] = Field(
        None, description="The clinic's own number of the patient."
    )
    patient_name: Annotated[Name | None, Unsaid] = None
    patient_sex: Annotated[Sex | None, Unsaid] = Field(None, description="As in DICOM.")

    @property
    def patient(self) -> dict[str, str]:
        """What is said of the patient, as a film's header says it."""
        return {
            "number": self.patient_number or "",
            "name": self.patient_name or "",
            "sex": self.patient_sex.value if self.patient_sex else "",
        }


class Received(Schema):
    """The film is stored and waits for its analysis, or was here before."""

    model_config = _example(film=7, study="20260131-0001", duplicate=False, url="/api/v1/films/7")

    film: int = Field(description="The film's own number.")
    study: str = Field(description="The number of its study.")
    duplicate: bool = Field(description="The same film was here before: nothing was added.")
    url: str = Field(description="Where its result will be.")

    @classmethod
    def of(cls, film: Instance, duplicate: bool) -> Received:
        """The answer to an upload."""
        url = reverse("api", args=[f"films/{film.pk}"])
        return cls(film=film.pk, study=film.study.number, duplicate=duplicate, url=url)


class Region(Schema):
    """A rectangle in pixels of the film as displayed."""

    x: int
    y: int
    width: int
    height: int
    zone: str = Field(description="On the patient's side, such as `right lower`.")
    score: float


class Point(Schema):
    """A point in pixels of the film as displayed."""

    x: int
    y: int


class Result(Schema):
    """What one analysis found: the same keys as a line of `analyze --json`."""

    file: str = Field(description="The file's name as it came.")
    answer: str = Field(description="likely, unlikely, cannot_say, refused or unreadable.")
    probability: float | None
    threshold: float | None = Field(description="Of the patient's age band.")
    reason: str | None = Field(description="A stable code, where there is no plain answer.")
    message: str = Field(description="For a person.")
    regions: list[Region]
    peak: Point | None = Field(description="The hottest point of the activation map.")
    view_position: str | None
    age_years: float | None = Field(description="The age that the answer was given for.")
    width: int | None
    height: int | None
    frames: int | None
    map: str | None = Field(description="Null here: the map is on the study's page.")
    model: str = Field(description="`name@version`")
    milliseconds: float

    @classmethod
    def of(cls, film: Instance, finding: Finding) -> Result:
        """A finding as it was written down."""
        peak = None
        if finding.peak_x is not None and finding.peak_y is not None:
            peak = Point(x=finding.peak_x, y=finding.peak_y)
        return cls(
            file=film.file_name,
            answer=finding.answer,
            probability=finding.probability,
            threshold=finding.threshold,
            reason=finding.reason,
            message=_finding_words(finding),
            regions=[Region(**region) for region in finding.regions],
            peak=peak,
            view_position=film.view_position,
            age_years=finding.age_years,
            width=film.width,
            height=film.height,
            frames=film.frames,
            map=None,
            model=finding.model,
            milliseconds=round(finding.milliseconds, 3),
        )


class Film(Schema):
    """One film and where it stands."""

    model_config = _example(**A_FILM)

    film: int
    study: str
    state: State
    received_at: dt.datetime
    message: str = Field(description="For a person: the result's, or why there is none.")
    result: Result | None = Field(
        description="There once `state` is answered, refused or unreadable."
    )

    @classmethod
    def of(cls, film: Instance, study: Study) -> Film:
        """A film of the study."""
        finding = film.finding if film.state in WITH_RESULT else None
        result = Result.of(film, finding) if finding else None
        return cls(
            film=film.pk,
            study=study.number,
            state=State(film.state),
            received_at=film.received_at,
            message=result.message if result else _answer_words(film.state),
            result=result,
        )


class PatientFacts(Schema):
    """Whose films these are; empty where it is not known."""

    number: str
    name: str
    sex: str

    @classmethod
    def of(cls, patient: Patient) -> PatientFacts:
        """What a machine is told of a patient."""
        return cls(number=patient.number, name=patient.name, sex=patient.sex)


class StudyRow(Schema):
    """A study in a list."""

    model_config = _example(**A_STUDY)

    number: str
    created_at: dt.datetime
    status: State
    answer: str | None = Field(description="Null until every film has been looked at.")
    is_read: bool = Field(description="Somebody has written down a reading.")

    @classmethod
    def facts(cls, study: Study) -> dict[str, Any]:
        """The columns of a study, unknown as None."""
        return {
            "number": study.number,
            "created_at": study.created_at,
            "status": State(study.status),
            "answer": study.answer or None,
            "is_read": study.is_read,
        }


class StudyFilms(StudyRow):
    """A study with its films."""

    model_config = _example(
        **A_STUDY,
        age_years=3.0,
        accession_number="",
        patient={"number": "P-77", "name": "Okello Grace", "sex": "F"},
        films=[A_FILM],
    )

    age_years: float | None
    accession_number: str
    patient: PatientFacts | None = Field(description="Null where nobody has said.")
    films: list[Film]

    @classmethod
    def of(cls, study: Study) -> StudyFilms:
        """The study, with the films that were fetched along."""
        return cls(
            **cls.facts(study),
            age_years=study.age_years,
            accession_number=study.accession_number,
            patient=PatientFacts.of(study.patient) if study.patient else None,
            films=[Film.of(film, study) for film in study.instances.all()],
        )


class StudiesAsked(Schema):
    """Which studies to list, from the first to the last."""

    since: Time | None = Field(None, description="Of this time or later.")
    status: State | None = Field(None, description="Of this status only.")
    cursor: Annotated[int, Field(ge=0, le=2**62)] = Field(
        0, description="The `next` of the list before."
    )
    limit: Annotated[int, Field(ge=1, le=MOST_STUDIES)] = Field(50, description="How many at most.")


class Studies(Schema):
    """A part of the list, in the order in which the studies came."""

    model_config = _example(studies=[A_STUDY], next=12, more=False)

    studies: list[StudyRow]
    next: int = Field(description="The `cursor` with which to go on, now or later.")
    more: bool = Field(description="There are more already.")


class ReadingSaid(Schema):
    """A reading to write down, in the name of the person who made it."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [A_READING]})

    reader: str = Field(
        max_length=64, description="The user name here of the person who read the films."
    )
    kind: Reading.Kind = Reading.Kind.CONCLUSION
    conclusion: Reading.Conclusion
    note: Annotated[Text, Field(max_length=2000)] = ""
    request_id: Annotated[Text, Field(max_length=36)] = Field(
        "", description="The machine's own name of this entry: sent twice, it is written once."
    )


class ReadingKept(Schema):
    """A reading as it was written down."""

    model_config = _example(**A_KEPT_READING)

    reader: str
    kind: Reading.Kind
    conclusion: Reading.Conclusion
    note: str
    at: dt.datetime
    before_answer: bool = Field(
        description="Made before any answer was shown to the reader, for certain."
    )
    agrees: bool | None = Field(description="With the answer; null where it was not said.")

    @classmethod
    def of(cls, reading: Reading) -> ReadingKept:
        """One row."""
        return cls(
            reader=reading.by.username,
            kind=Reading.Kind(reading.kind),
            conclusion=Reading.Conclusion(reading.conclusion),
            note=reading.note,
            at=reading.at,
            before_answer=reading.before_answer,
            agrees=reading.agrees,
        )


class Readings(Schema):
    """All readings of a study, from the first to the last."""

    model_config = _example(readings=[A_KEPT_READING])

    readings: list[ReadingKept]


def _finding_words(finding: Finding) -> str:
    """As `analyze` says it: the reason where there is one, else the answer."""
    if finding.reason is not None:
        return messages.sentence(finding.reason, finding.details)
    return _answer_words(finding.answer)


def _answer_words(answer: str) -> str:
    return f"{messages.headline(answer)}. {messages.next_step(answer)}"
