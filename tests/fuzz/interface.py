"""The JSON interface by its own description: what keeps to it and what does not (schemathesis)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import schemathesis
from hypothesis import strategies as st
from schemathesis import GenerationMode, checks

from tests.fuzz.exploring import Subject
from tests.fuzz.pages import at_work, let_ask_often

HELD = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]


def interface(folder: Path) -> Subject:
    """Every operation, its answers held against the description."""
    clinic = at_work(folder)
    clinic.begin()
    from app.models import DeviceToken, Instance, Scope, Study
    from app.wsgi import application

    there = {"number": Study.objects.latest("pk").number, "film": Instance.objects.latest("pk").pk}
    held = DeviceToken.issue("fuzz", tuple(Scope), None)[1]
    clinic.keep()
    schema = schemathesis.openapi.from_wsgi(
        "/api/v1/openapi.json", application, headers={"Host": "127.0.0.1"}
    )
    found = [one.ok() for one in schema.get_all_operations()]
    cases = [
        operation.as_strategy(generation_mode=mode)
        for operation in found
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
    ]

    def about(case: Any, is_there: bool) -> Any:
        """Of two requests one is about something that is there."""
        if is_there:
            case.path_parameters = {name: there[name] for name in case.path_parameters or {}}
        return case

    def look(case: Any) -> str:
        let_ask_often()
        headers = {"Authorization": f"Bearer {held}", "Host": "127.0.0.1"}
        response = case.call(headers=headers)
        case.validate_response(response, checks=HELD)
        return f"{case.operation.label} {response.status_code}"

    def written(case: Any) -> bytes:
        return f"{case.operation.label} {case!r}".encode("utf-8", "backslashreplace")

    examples = st.builds(about, st.one_of(cases), st.booleans())
    return Subject(examples, look, written, clinic.begin)
