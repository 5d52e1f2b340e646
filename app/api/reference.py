"""The OpenAPI description as a page tells it: one chapter for each operation."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from app.api.operations import description
from app.models import Scope

Schema = Mapping[str, Any]


@dataclass(frozen=True)
class Row:
    """A value that goes in or comes out."""

    name: str
    kind: str
    required: bool
    words: str


@dataclass(frozen=True)
class Chapter:
    """One operation."""

    name: str
    method: str
    path: str
    words: str
    right: str
    asked: list[Row]
    told: list[Row]
    example: str


def chapters() -> Iterator[Chapter]:
    """Every operation, in the order of the description."""
    for path, operations in description()["paths"].items():
        for method, operation in operations.items():
            yield _chapter(method.upper(), path, operation)


def parts() -> Iterator[tuple[str, str, list[Row]]]:
    """What is inside an answer and has a name: its name, in words, its values."""
    schemas = description()["components"]["schemas"]
    inside = json.dumps([schema.get("properties") for schema in schemas.values()])
    for name, schema in schemas.items():
        if "properties" in schema and f'schemas/{name}"' in inside:
            yield name, str(schema.get("description", "")), _rows(schema)


def _chapter(method: str, path: str, operation: Mapping[str, Any]) -> Chapter:
    answer = _schema(next(iter(operation["responses"].values())))
    scopes = operation["security"][0]["Token"]
    asked = [_row(one["name"], one["schema"], one["required"]) for one in operation["parameters"]]
    body = operation.get("requestBody")
    examples = answer.get("examples")
    return Chapter(
        name=operation["operationId"],
        method=method,
        path=path,
        words=operation["description"],
        right=" · ".join(str(Scope(scope).label) for scope in scopes),
        asked=asked + (_rows(_schema(body)) if body else []),
        told=_rows(answer),
        example=json.dumps(examples[0], indent=2, ensure_ascii=False) if examples else "",
    )


def _schema(content: Mapping[str, Any]) -> Schema:
    """The schema of a body or an answer, looked up where it is only named."""
    (media,) = content["content"].values()
    return _named(media["schema"])


def _named(schema: Schema) -> Schema:
    if "$ref" not in schema:
        return schema
    found: Schema = description()["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return found


def _rows(schema: Schema) -> list[Row]:
    required = schema.get("required", ())
    return [_row(name, one, name in required) for name, one in schema["properties"].items()]


def _row(name: str, schema: Schema, required: bool) -> Row:
    words = str(schema.get("description", "")).replace("`", "")
    return Row(name, _kind(schema), required, words)


def _kind(schema: Schema) -> str:
    """A type in a word or two: what JSON calls it, its choices, its bounds."""
    for several in ("anyOf", "allOf"):
        if several in schema:
            return " | ".join(_kind(one) for one in schema[several])
    if "$ref" in schema:
        named = _named(schema)
        return _kind(named) if "enum" in named else str(named["title"])
    if "enum" in schema:
        return " | ".join(str(value) for value in schema["enum"])
    if schema.get("type") == "array":
        return f"[{_kind(schema['items'])}]"
    return str(schema.get("format") or schema.get("type", ""))
