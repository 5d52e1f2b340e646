"""The operations of the interface: each asks for its right, calls a verb, says what came of it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache
from typing import Any

from django.core.exceptions import SuspiciousOperation
from django.db.models import Prefetch
from django.http import Http404, HttpRequest, HttpResponseBase, HttpResponseNotAllowed
from django.http.multipartparser import MultiPartParserError
from django.urls import URLResolver
from django.urls.exceptions import Resolver404
from django.urls.resolvers import RegexPattern
from ninja import File, Form, NinjaAPI, Query, Schema
from ninja.errors import AuthenticationError, HttpError, ValidationError
from ninja.files import UploadedFile
from ninja.operation import Operation
from ninja.responses import Status

from app import intake
from app.access import Permission, may
from app.api import problems, schemas
from app.api.bearer import CHALLENGE, Token, needs
from app.api.problems import Problem
from app.health import state_of_the_program
from app.models import AuditEvent, DeviceToken, Finding, Instance, Reading, Scope, Study, User
from app.models.people import plain_username

PREFIX = "api/v1/"
#: What every operation may answer instead.
REFUSED = frozenset({401, 403, 404, 422, 429})
REFUSED_READING = REFUSED | {400, 409}
REFUSED_FILM = REFUSED | {400, 413, 503, 507}


class Interface(NinjaAPI):
    """Operations are known by the names of their functions."""

    def get_openapi_operation_id(self, operation: Operation) -> str:
        """The name under which programs that are made from the description call it."""
        return operation.view_func.__name__


api = Interface(
    title="Chest films",
    version="1",
    description=(
        "Put chest films in, and fetch what the computer found on them. Every operation needs a "
        "token, which an administrator makes on the page “Other programs”."
    ),
    auth=Token(None),  # of an operation that says nothing
    openapi_url=None,
    docs_url=None,
)


@api.get("health", response={200: schemas.Health, REFUSED: schemas.Problem}, **needs(None))
def health(request: HttpRequest) -> dict[str, Any]:  # noqa: ARG001 - ninja looks for this name
    """Is the program up, and does it have a model? Any token will do."""
    return state_of_the_program()


@api.post(
    "films", response={202: schemas.Received, REFUSED_FILM: schemas.Problem}, **needs(Scope.UPLOAD)
)
def put_in(
    request: HttpRequest, film: File[UploadedFile], said: Form[schemas.FilmSaid]
) -> Status[schemas.Received]:
    """Put one film in. It is stored when the answer comes; its result follows at `url`."""
    _look_for_slips(request.POST, schemas.FilmSaid)
    if len(request.FILES) != 1 or len(request.FILES.getlist("film")) != 1:
        raise Problem("one_film", 400)
    token = _token(request)
    belonging = intake.Belonging(
        said.age_years, _study_to_join(said), said=said.patient, sender=token.name
    )
    try:
        receipt = intake.receive(film, film.name or "", Instance.Source.API, belonging)
    except intake.Rejected as rejected:
        status = problems.STATUS_OF_REJECTION.get(rejected.code, 400)
        raise Problem(rejected.code, status, **rejected.details) from rejected
    return Status(202, schemas.Received.of(receipt.instance, receipt.duplicate))


@api.get(
    "films/{int:film}",
    response={200: schemas.Film, REFUSED: schemas.Problem},
    **needs(Scope.RESULTS),
)
def film_result(request: HttpRequest, film: int) -> schemas.Film:
    """Where one film stands, and its result once it is there."""
    found = _films().select_related("study").filter(pk=film).first()
    if found is None:
        raise Problem("film_not_found", 404)
    _note_fetched(_token(request), found.study, [found])
    return schemas.Film.of(found, found.study)


@api.get(
    "studies", response={200: schemas.Studies, REFUSED: schemas.Problem}, **needs(Scope.RESULTS)
)
def studies(request: HttpRequest, asked: Query[schemas.StudiesAsked]) -> schemas.Studies:
    """The studies in the order in which they came, a part at a time."""
    _look_for_slips(request.GET, schemas.StudiesAsked)
    wanted: dict[str, Any] = {"created_at__gte": asked.since, "status": asked.status}
    filters = {name: value for name, value in wanted.items() if value is not None}
    found = Study.objects.filter(pk__gt=asked.cursor, **filters).order_by("pk")
    rows = list(found.defer("note", "search_text")[: asked.limit + 1])
    more, rows = len(rows) > asked.limit, rows[: asked.limit]
    last = rows[-1].pk if rows else asked.cursor
    return schemas.Studies(
        studies=[schemas.StudyRow(**schemas.StudyRow.facts(row)) for row in rows],
        next=last,
        more=more,
    )


@api.get(
    "studies/{number}",
    response={200: schemas.StudyFilms, REFUSED: schemas.Problem},
    **needs(Scope.RESULTS),
)
def study(request: HttpRequest, number: str) -> schemas.StudyFilms:
    """One study with its films and their results."""
    found = _study(number)
    _note_fetched(_token(request), found, found.instances.all())
    return schemas.StudyFilms.of(found)


@api.get(
    "studies/{number}/readings",
    response={200: schemas.Readings, REFUSED: schemas.Problem},
    **needs(Scope.READINGS),
)
def readings(request: HttpRequest, number: str) -> schemas.Readings:  # noqa: ARG001
    """What people concluded from the films of a study."""
    rows = _study(number).readings.select_related("by")
    return schemas.Readings(readings=[schemas.ReadingKept.of(row) for row in rows])


@api.post(
    "studies/{number}/readings",
    response={201: schemas.ReadingKept, REFUSED_READING: schemas.Problem},
    **needs(Scope.READINGS),
)
def record_reading(
    request: HttpRequest, number: str, reading: schemas.ReadingSaid
) -> Status[schemas.ReadingKept]:
    """Write down a reading in the name of the person who made it."""
    found = _study(number)
    reader = _reader(reading.reader)
    if reading.kind == Reading.Kind.DIAGNOSIS and found.answer_hidden_from(reader):
        raise Problem("read_first", 409)
    kept = Reading.record(
        found,
        reader,
        reading.request_id,
        machine=_token(request).name,
        kind=reading.kind,
        conclusion=reading.conclusion,
        note=reading.note,
    )
    return Status(201, schemas.ReadingKept.of(kept))


def _token(request: HttpRequest) -> DeviceToken:
    """The token that the operation was let in by."""
    token = request.auth  # type: ignore[attr-defined]
    assert isinstance(token, DeviceToken)
    return token


def _look_for_slips(fields: Iterable[str], schema: type[Schema]) -> None:
    """A field that is spelled otherwise must not be lost without a word."""
    unknown = next((name for name in fields if name not in schema.model_fields), None)
    if unknown is not None:
        raise ValidationError([{"type": "extra_forbidden", "loc": (unknown,)}])


def _study_to_join(said: schemas.FilmSaid) -> Study | None:
    if said.study is None:
        return None
    others = said.model_dump(exclude={"study"}, exclude_none=True)
    if others:
        raise Problem("study_says_whose", 422, field=next(iter(others)))
    return _study(said.study)


def _study(number: str) -> Study:
    found = Study.objects.select_related("patient").prefetch_related(
        Prefetch("instances", _films())
    )
    study = found.filter(number=number).first()
    if study is None:
        raise Problem("study_not_found", 404)
    return study


def _films() -> Any:
    # The activation maps are most of the database, and none is sent
    findings = Finding.objects.defer("activation_map")
    return Instance.objects.prefetch_related(Prefetch("findings", findings))


def _reader(username: str) -> User:
    """The person in whose name a reading is written down; raises Problem."""
    found = User.people().filter(username=plain_username(username)).first()
    if not may(found, Permission.READ):
        raise Problem("reader_unknown", 422, reader=username)
    assert found is not None
    return found


def _note_fetched(token: DeviceToken, study: Study, films: Any) -> None:
    """Write down once that this machine has seen an answer, however often it asks."""
    for film in films:
        finding = film.finding
        if finding is None or film.state not in schemas.WITH_RESULT:
            continue
        said = {"machine": token.name, "token": token.pk, "finding": finding.pk}
        wanted = {f"details__{name}": value for name, value in said.items()}
        known = AuditEvent.objects.filter(action="answer_fetched", subject=study.number)
        if not known.filter(**wanted).exists():
            AuditEvent.record(None, "answer_fetched", study, film=film.pk, **said)


@api.exception_handler(Problem)
def _problem(_request: HttpRequest, problem: Problem) -> HttpResponseBase:
    return problem.response()


@api.exception_handler(AuthenticationError)
def _nobody(_request: HttpRequest, _error: AuthenticationError) -> HttpResponseBase:
    return Problem("token_missing", 401, CHALLENGE).response()


@api.exception_handler(ValidationError)
def _invalid(_request: HttpRequest, error: ValidationError) -> HttpResponseBase:
    return problems.invalid(error.errors[0])


@api.exception_handler(HttpError)
def _not_parsed(request: HttpRequest, error: HttpError) -> HttpResponseBase:
    """What ninja says of a body that it cannot read, whatever the cause."""
    if isinstance(error.__cause__, SuspiciousOperation):
        return problems.of_request(request, error.__cause__)
    return Problem("not_json", 400).response()


@api.exception_handler(Http404)
def _not_found(_request: HttpRequest, _error: Http404) -> HttpResponseBase:
    return Problem("not_found", 404).response()


api.add_exception_handler(SuspiciousOperation, problems.of_request)
api.add_exception_handler(MultiPartParserError, problems.of_request)
api.add_exception_handler(Exception, problems.of_program)

_addresses = URLResolver(RegexPattern(r"^"), api.urls[0])


def answer(request: HttpRequest, path: str) -> HttpResponseBase:
    """The answer of the operation at ``path``, seen from the interface's own address."""
    try:
        match = _addresses.resolve(path)
    except Resolver404:
        return Problem("not_found", 404).response()
    response: HttpResponseBase = match.func(request, *match.args, **match.kwargs)
    if isinstance(response, HttpResponseNotAllowed):
        allowed = {"Allow": response.headers["Allow"]}
        return Problem("method_not_allowed", 405, allowed, method=str(request.method)).response()
    return response


@cache
def description() -> dict[str, Any]:
    """The OpenAPI description, as JSON holds it."""
    found: dict[str, Any] = json.loads(json.dumps(api.get_openapi_schema(path_prefix=PREFIX)))
    for operations in found["paths"].values():
        for operation in operations.values():
            # ninja lists the scheme once more, without the rights that it takes
            operation["security"] = operation["security"][-1:]
    return found
