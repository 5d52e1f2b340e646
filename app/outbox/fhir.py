"""Results to the FHIR server that the clinic has named (RESTful API, http://hl7.org/fhir/R4/http.html)."""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import urllib3
from django.conf import settings
from django.utils import translation

from app.models import Site, Study
from app.outbox.faults import NotSent

KIND = "application/fhir+json"
CONNECT_SECONDS, READ_SECONDS = 10.0, 60.0
#: Of an answer only its status is used; what comes after so many bytes is not even read.
MOST_READ = 64 * 1024
#: Statuses that the same bundle would get again (RFC 9110): it is no use to ask.
_FOR_GOOD = frozenset({400, 405, 409, 410, 412, 413, 415, 422})
#: The first that fits: urllib3 counts a refused connection among the timeouts.
_FAULTS: tuple[tuple[type[Exception], str], ...] = (
    (urllib3.exceptions.NameResolutionError, "address_unknown"),
    (urllib3.exceptions.NewConnectionError, "connection_refused"),
    (urllib3.exceptions.SSLError, "certificate_wrong"),
    (urllib3.exceptions.TimeoutError, "no_answer"),
    (Exception, "broken_off"),
)


def send(study: Study) -> None:
    """Post what is known of a study, as one transaction; raises NotSent."""
    from app.fhir import bundle_of

    site = Site.current()
    known = Study.objects.newest_first().get(pk=study.pk)
    # In one language, whoever asks: a server that is told again keeps what it has
    with translation.override(site.language or settings.LANGUAGE_CODE):
        post(site.fhir_server, site.fhir_authorization, bundle_of(known))


def post(server: str, authorization: str, bundle: Mapping[str, Any]) -> None:
    """Post a transaction Bundle to a server's base address; raises NotSent."""
    body = json.dumps(bundle, ensure_ascii=False, allow_nan=False).encode()
    status = _ask("POST", server, authorization, body)
    if status not in (200, 201):
        raise _fault_of(status)


def look(server: str, authorization: str) -> None:
    """Ask a server what it can do, and send nothing (``GET [base]/metadata``); raises NotSent."""
    status = _ask("GET", f"{server.rstrip('/')}/metadata", authorization)
    if status != 200:
        raise _fault_of(status)


def _ask(method: str, address: str, authorization: str, body: bytes | None = None) -> int:
    parts = urlsplit(address)
    if not address:
        raise NotSent("no_server", for_good=True)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise NotSent("not_a_web_address", for_good=True, address=address)
    headers = {"Accept": KIND, "Content-Type": KIND}
    if authorization:
        headers["Authorization"] = authorization
    timeout = urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS)
    try:
        with urllib3.PoolManager(ssl_context=ssl.create_default_context()) as pool:
            answer = pool.request(
                method,
                address,
                body=body,
                headers=headers,
                timeout=timeout,
                retries=False,
                redirect=False,
                preload_content=False,
            )
            answer.read(MOST_READ)
            return int(answer.status)
    except (urllib3.exceptions.HTTPError, OSError, UnicodeError) as error:
        code = next(code for kind, code in _FAULTS if isinstance(error, kind))
        raise NotSent(code, nobody_there=True, address=parts.hostname) from error


def _fault_of(status: int) -> NotSent:
    """Why a server did not take it. Its own words are not kept: they may quote the patient."""
    said = str(status)
    if status in (401, 403):
        return NotSent("not_allowed", nobody_there=True, status=said)
    if status == 404 or 300 <= status < 400:
        return NotSent("not_found", nobody_there=True, status=said)
    if status in _FOR_GOOD:
        return NotSent("turned_down", for_good=True, status=said)
    return NotSent("server_fault", nobody_there=True, status=said)
