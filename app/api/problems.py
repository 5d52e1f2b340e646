"""What went wrong with a request, as ``{"code", "message"}``: a stable code, and words for people.

The sentences about films are those of ``app.messages``; here are those about requests.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any

from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, JsonResponse
from django.http.multipartparser import MultiPartParserError
from django.utils.translation import gettext_lazy as _

from app import messages
from app.worker import traceback_of

logger = logging.getLogger(__name__)

SENTENCES: messages.Sentences = {
    "token_missing": _("This needs a token, sent as “Authorization: Bearer …”."),
    "token_wrong": _(
        "This token is not known here, or it was ended. An administrator can make a new one."
    ),
    "scope_missing": _("This token may not do that. It would need the right: %(scope)s."),
    "too_many_requests": _(
        "Too many requests came with this token. Wait %(seconds)s seconds, then go on."
    ),
    "too_many_wrong_tokens": _("Too many wrong tokens came from this device. Wait a minute."),
    "not_found": _("There is nothing at this address."),
    "film_not_found": _("There is no such film here; perhaps it was deleted."),
    "study_not_found": _("There is no such study here; perhaps it was deleted."),
    "method_not_allowed": _("This address does not take %(method)s."),
    "not_json": _("What was sent could not be read as JSON."),
    "not_a_form": _("What was sent could not be read as a form with a file."),
    "request_too_large": _("The request is too large."),
    "one_film": _("Send one film in each request, as “film”."),
    "study_says_whose": _(
        "A film that joins a study has its patient and age from there: leave out “%(field)s”."
    ),
    "reader_unknown": _("“%(reader)s” is nobody who may write down readings here."),
    "read_first": _("Read the film first, then enter the diagnosis."),
    "program_failed": _(
        "The program failed at this. Try again; if that does not help, tell whoever looks after "
        "this computer."
    ),
}

MISSING = _("“%(field)s” is missing.")
NOT_KNOWN = _("“%(field)s” is not known here.")
NOT_ONE_OF = _("“%(field)s” must be one of: %(expected)s.")
TOO_LONG = _("“%(field)s” is too long: at most %(max_length)s characters.")
TOO_LOW = _("“%(field)s” must not be below %(ge)s.")
TOO_HIGH = _("“%(field)s” must not be above %(le)s.")
NO_NUMBER = _("“%(field)s” must be a number.")
NO_TIME = _("“%(field)s” must be a time with its zone, such as 2026-01-31T08:00:00Z.")
NO_TEXT = _("“%(field)s” must be text.")
NOT_AS_DESCRIBED = _("“%(field)s” is not as the description of the interface says.")
#: By the beginning of pydantic's code of what is wrong with a value.
INVALID = {
    "missing": MISSING,
    "extra_forbidden": NOT_KNOWN,
    "enum": NOT_ONE_OF,
    "string_too_long": TOO_LONG,
    "too_long": TOO_LONG,
    "greater_than_equal": TOO_LOW,
    "less_than_equal": TOO_HIGH,
    "float": NO_NUMBER,
    "int": NO_NUMBER,
    "finite_number": NO_NUMBER,
    "datetime": NO_TIME,
    "timezone": NO_TIME,
    "string": NO_TEXT,
}
LONGEST_FIELD = 60
#: The status that says best why a film was not taken in.
STATUS_OF_REJECTION = {"too_large": 413, "disk_full": 507, "cannot_store": 503}


class Problem(Exception):
    """A request that is not answered as it was meant. ``details`` fill the sentence."""

    def __init__(
        self, code: str, status: int, headers: Mapping[str, str] | None = None, /, **details: str
    ) -> None:
        super().__init__(code)
        self.code, self.status, self.headers, self.details = code, status, headers, details

    @property
    def sentence(self) -> str:
        """What it means, for a person."""
        known = SENTENCES.get(self.code)
        return str(known) % self.details if known else messages.sentence(self.code, self.details)

    def response(self) -> JsonResponse:
        """The answer that says so."""
        return told(self.code, self.sentence, self.status, self.headers)


def told(
    code: str, sentence: str, status: int, headers: Mapping[str, str] | None = None
) -> JsonResponse:
    """A problem in JSON."""
    said = {"code": code, "message": sentence}
    return JsonResponse(said, status=status, headers=headers)


def invalid(error: Mapping[str, Any]) -> JsonResponse:
    """One of pydantic's complaints, in our words."""
    kind = str(error["type"])
    names = [str(part) for part in error["loc"] if isinstance(part, str)]
    said = {name: _plain(value) for name, value in error.get("ctx", {}).items()}
    said["field"] = (names or ["?"])[-1][:LONGEST_FIELD]
    found = next((said for start, said in INVALID.items() if kind.startswith(start)), None)
    return told("invalid", str(found or NOT_AS_DESCRIBED) % said, 422)


def _plain(value: object) -> str:
    """A bound without a needless “.0”; choices without pydantic's quotes and its English “or”."""
    if isinstance(value, float):
        return f"{value:g}"
    return ", ".join(re.findall(r"'([^']*)'", str(value))) or str(value)


def of_request(_request: HttpRequest, error: Any) -> JsonResponse:
    """What Django could not make sense of: a body beyond its limits, a form that is none."""
    if isinstance(error, MultiPartParserError):
        return Problem("not_a_form", 400).response()
    status = 413 if isinstance(error, RequestDataTooBig) else 400
    return Problem("request_too_large", status).response()


def of_program(_request: HttpRequest, error: Any) -> JsonResponse:
    """A fault of ours: told as one, and written to the log."""
    logger.error("a request of another program failed: %s", traceback_of(error))
    return Problem("program_failed", 500).response()
