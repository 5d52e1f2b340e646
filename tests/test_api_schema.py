"""The OpenAPI description keeps the standard, and what the program answers keeps to it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.test import Client
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import OpenAPIV31SpecValidator, validate
from openapi_spec_validator.validation.exceptions import OpenAPIValidationError

from app.api.operations import description
from app.api.reference import chapters
from app.models import Reading, Scope, Study
from app.models.patients import Sex
from tests.people import enter
from tests.studies import answered, take_in, turned_down
from tests.test_api import call, machine, operations, put_in, record

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("data_dir", "site")]


def document() -> dict[str, Any]:
    found: dict[str, Any] = Client().get("/api/v1/openapi.json").json()
    return found


def keeps(schema: dict[str, Any], value: Any) -> list[str]:
    """What of ``value`` is not as the schema says."""
    whole = {**schema, "components": document()["components"]}
    return [error.message for error in OAS31Validator(whole).iter_errors(value)]


def schemas() -> list[str]:
    return sorted(description()["components"]["schemas"])


def operation_of(method: str, path: str) -> dict[str, Any]:
    found: dict[str, Any] = description()["paths"][path][method.lower()]
    return found


def answers_as_described(method: str, path: str, response: Any) -> None:
    described = operation_of(method, path)["responses"]
    assert str(response.status_code) in described, (method, path, response.status_code)
    (media, content), *others = described[str(response.status_code)]["content"].items()
    assert not others
    assert response["Content-Type"].partition(";")[0] == media
    assert keeps(content["schema"], response.json()) == []


class TestDocument:
    def test_it_keeps_openapi_3_1(self):
        assert document()["openapi"] == "3.1.0"
        validate(document(), cls=OpenAPIV31SpecValidator)

    def test_the_validator_finds_a_fault(self):
        broken = document()
        broken["paths"]["/api/v1/films"]["post"]["responses"] = []

        with pytest.raises(OpenAPIValidationError):
            validate(broken, cls=OpenAPIV31SpecValidator)

    def test_whoever_reaches_the_program_may_read_it_and_it_says_nothing_of_the_clinic(self, site):
        site.clinic_name = "Kisoro Health Centre IV"
        site.save()
        enter("clinician", "achieng.odhiambo")
        take_in()

        told = Client().get("/api/v1/openapi.json")
        assert told.status_code == 200
        assert "Kisoro" not in told.content.decode()
        assert "achieng" not in told.content.decode()

    @pytest.mark.parametrize("name", schemas())
    def test_its_examples_keep_to_it(self, name):
        schema = description()["components"]["schemas"][name]

        for example in schema.get("examples", []):
            assert keeps(schema, example) == [], example

    def test_every_answer_of_an_operation_has_an_example(self):
        for chapter in chapters():
            assert chapter.example, chapter.name

    def test_a_wrong_example_would_be_found(self):
        schema = description()["components"]["schemas"]["Film"]
        (example,) = schema["examples"]

        assert keeps(schema, example | {"state": "done"})
        assert keeps(schema, example | {"result": example["result"] | {"regions": [{"x": 1}]}})

    def test_it_says_which_right_each_operation_needs(self):
        schemes = document()["components"]["securitySchemes"]

        assert schemes == {"Token": {"type": "http", "scheme": "bearer"}}
        for _, method, path in operations():
            (security,) = operation_of(method, path)["security"]
            assert set(security) == {"Token"}
            assert set(security["Token"]) <= set(Scope)

    def test_it_knows_the_words_of_the_tables(self):
        found = description()["components"]["schemas"]

        assert found["Conclusion"]["enum"] == Reading.Conclusion.values
        assert found["Kind"]["enum"] == Reading.Kind.values
        assert found["Sex"]["enum"] == Sex.values

    def test_it_is_the_same_at_every_request(self):
        assert document() == document()

    def test_numbers_have_their_bounds_in_json_schemas_words(self):
        text = json.dumps(document())

        assert '"maximum": 130' in text
        assert '"ge":' not in text


class TestAnswers:
    """Real answers of every kind, held against the description."""

    @pytest.fixture
    def client(self) -> Client:
        return machine()

    @pytest.mark.parametrize(
        "make",
        [
            take_in,
            answered,
            lambda: answered(answer="unlikely", regions=()),
            lambda: answered(answer="cannot_say", reason="near_the_threshold"),
            lambda: answered(age_years=3.0, view_position="PA", frames=2),
            lambda: turned_down("page_of_text"),
            lambda: turned_down("damaged", "unreadable"),
        ],
        ids=["waiting", "likely", "unlikely", "cannot_say", "with_age", "refused", "unreadable"],
    )
    def test_films_and_studies_in_every_state(self, client, make):
        study: Study = make()
        film = study.instances.get()

        for method, path, address in (
            ("GET", "/api/v1/films/{film}", f"/api/v1/films/{film.pk}"),
            ("GET", "/api/v1/studies/{number}", f"/api/v1/studies/{study.number}"),
            ("GET", "/api/v1/studies", "/api/v1/studies"),
        ):
            answers_as_described(method, path, client.get(address))

    def test_an_upload_and_one_that_is_turned_away(self, client):
        for content in (None, b""):
            answers_as_described("POST", "/api/v1/films", put_in(client, content))

    def test_readings(self, client):
        enter("clinician")
        study = answered()
        path = "/api/v1/studies/{number}/readings"

        answers_as_described("POST", path, record(client, study))
        answers_as_described("POST", path, record(client, study, conclusion="tb"))
        answers_as_described("POST", path, record(client, study, "{"))
        answers_as_described("GET", path, client.get(path.replace("{number}", study.number)))

    @pytest.mark.parametrize(("name", "method", "path"), operations())
    def test_refusals_of_every_operation(self, name, method, path):
        for client in (Client(), Client(headers={"Authorization": "Bearer x"})):
            answers_as_described(method, path, call(client, method, path))
        if name != "health":
            others = machine(
                *(set(Scope) - set(operation_of(method, path)["security"][0]["Token"]))
            )
            answers_as_described(method, path, call(others, method, path))

    def test_health(self, client):
        answers_as_described("GET", "/api/v1/health", client.get("/api/v1/health"))
