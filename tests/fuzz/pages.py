"""Requests to every page in this process: method, address, fields, headers and body, all odd."""

from __future__ import annotations

import re
import sqlite3
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cache
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote

from hypothesis import strategies as st

from tests.fuzz import whole
from tests.fuzz.exploring import Subject
from tests.fuzz.mutations import edits, mutated

METHODS = ("GET", "POST", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")
#: No room, and no model: both come with a sentence.
MAY_ANSWER = {503, 507}
HEADERS = (
    "Accept", "Accept-Encoding", "Accept-Language", "Authorization", "Cookie",
    "Host", "If-Match", "If-Modified-Since", "If-None-Match", "Origin", "Range", "Referer",
    "Sec-Fetch-Dest", "Sec-Fetch-Mode", "Sec-Fetch-Site", "User-Agent", "X-CSRFToken",
    "X-Forwarded-For", "X-Forwarded-Host", "X-Requested-With",
)  # fmt: skip
TYPES = (
    "application/x-www-form-urlencoded", "application/json", "multipart/form-data",
    "multipart/form-data; boundary=", f"multipart/form-data; boundary={'b' * 300}",
    "text/plain",
    "application/json; charset=utf-7", "application/x-www-form-urlencoded; charset=klingon", "",
    "/",
)  # fmt: skip
#: To log in, to open what is locked, to choose another password.
TURNED_BACK = ("/log-in", "/lock", "/password")
#: What was deleted or switched off by earlier examples comes back after so many.
ANEW_AFTER = 50
ODD = (
    "", " ", "0", "-1", "1e309", "nan", "9" * 400, "99999999999999999999", "2026-02-30", "true",
    "\0", "'", '"', "<script>", "../../etc/passwd", "%s", "{{1}}", "a\r\nb", "\u202e", "\ufeff",
    "é" * 300, "x" * 20_000, "\U0001f9b7", "on", "ﷺ", "1,5", "١٢", "[]", "null",
    "2026-11-25T00:00Z",
)  # fmt: skip


Pairs = list[tuple[str, str]]


@dataclass
class Clinic:
    """A clinic at work, its database as it was whenever it is asked for."""

    folder: Path
    addresses: list[str] = field(default_factory=list)
    #: The values that names of fields have in forms.
    values: dict[str, list[str]] = field(default_factory=dict)
    #: By address: forms that are posted there, and queries that it is asked.
    forms: dict[str, list[Pairs]] = field(default_factory=dict)
    queries: dict[str, list[Pairs]] = field(default_factory=dict)
    browsers: dict[str, Any] = field(default_factory=dict)

    def open(self) -> None:
        """Migrate, enter people and studies, and look at every page for what can be filled in."""
        from django.core.management import call_command

        from app.models import Peer, Role, Site
        from tests.every_page import clinic_at_work, names
        from tests.people import enter

        (self.folder / "home").mkdir(exist_ok=True)
        call_command("migrate", verbosity=0)
        Site.current().set_up()
        people = {role: enter(role, f"fuzz-{role}") for role in Role.values}
        known = clinic_at_work(people[Role.ADMINISTRATOR])
        Peer.objects.update(host="127.0.0.1", port=1)  # says no at once
        self.addresses = sorted({*known.values(), *_other_addresses(names(), known)})
        self._people = people
        browser = _browser()
        browser.force_login(people[Role.ADMINISTRATOR])
        for address in known.values():
            self._note_forms(address, browser.get(address).content.decode("utf-8", "replace"))
        self.keep()
        self.begin()

    def keep(self) -> None:
        """From now on the database is to be as it is now."""
        with closing(sqlite3.connect(self._clean())) as copy, closing(self._database()) as now:
            now.backup(copy)

    def begin(self) -> None:
        """Everything back in its place, everybody logged in."""
        from django.db import connections

        self._asked = self._turned_back = 0
        connections.close_all()
        with closing(sqlite3.connect(self._clean())) as copy, closing(self._database()) as now:
            copy.backup(now)
        self.browsers = {"nobody": _browser()}
        for role, person in self._people.items():
            self.browsers[role] = _browser()
            self.browsers[role].force_login(person)

    def ask(self, request: Request) -> Any:
        """The answer to a request. Whoever is turned back again and again, as who is logged out or
        locked out by an example, begins anew: else most examples would be turned back.
        """
        response = self.browsers[request.role].generic(
            request.method, request.path, request.body, request.content_type or "x",
            headers=dict(request.headers),
        )  # fmt: skip
        turned_back = response.headers.get("Location", "").startswith(TURNED_BACK)
        if request.role != "nobody":
            self._turned_back = self._turned_back + 1 if turned_back else 0
        self._asked += 1
        if self._turned_back > 2 or self._asked >= ANEW_AFTER:
            self.begin()
        return response

    def _note_forms(self, address: str, page: str) -> None:
        """What a page asks for, and what stands in its links."""
        for head, inside in re.findall(r"<form\b([^>]*)>(.*?)</form>", page, re.S):
            filled = _fields(inside)
            for name, value in filled:
                self.values.setdefault(name, []).append(value)
            actions = re.findall(r'\b(?:form)?action="([^"]*)"', head + inside) or [address]
            pairs = [*dict(filled).items()]
            forms = self.forms if 'method="post"' in head else self.queries
            for action in actions:
                forms.setdefault(action.partition("?")[0] or address, []).append(pairs)
        for link in re.findall(r'href="([^"#]*\?[^"]*)"', page):
            path, _, query = unescape(link).partition("?")
            if (path or address).startswith("/"):
                self.queries.setdefault(path or address, []).append(parse_qsl(query))

    def _clean(self) -> Path:
        return self.folder / "clean.sqlite3"

    def _database(self) -> sqlite3.Connection:
        return sqlite3.connect(self.folder / "home" / "clinic.sqlite3", timeout=30)


def _browser() -> Any:
    """Asks by the address that the program has, not by the name of Django's tests: so nothing has
    to be set up for them, which would copy whatever templates are given.
    """
    from django.test import Client

    return Client(SERVER_NAME="127.0.0.1")


@cache
def at_work(folder: Path) -> Clinic:
    """The clinic in this folder, made once."""
    clinic = Clinic(folder)
    clinic.open()
    return clinic


def _fields(form: str) -> Pairs:
    """What a form may be filled in with: every field, and every choice of it."""
    found = []
    for attributes in re.findall(r"<(?:input|button)\b([^>]*)>", form):
        found.append((_attribute(attributes, "name"), _attribute(attributes, "value")))
    for attributes in re.findall(r"<textarea\b([^>]*)>", form):
        found.append((_attribute(attributes, "name"), ""))
    for attributes, inside in re.findall(r"<select\b([^>]*)>(.*?)</select>", form, re.S):
        for option in re.findall(r"<option\b([^>]*)>", inside):
            found.append((_attribute(attributes, "name"), _attribute(option, "value")))
    # The token is another in every process, and not asked for
    return [(name, value) for name, value in found if name and name != "csrfmiddlewaretoken"]


def _attribute(attributes: str, name: str) -> str:
    value = re.search(rf'\b{name}="([^"]*)"', attributes)
    return unescape(value[1]) if value else ""


@cache
def _names_read(path: str) -> list[str]:
    """What the code that answers an address looks for in a query or a form."""
    from django.urls import Resolver404, resolve

    try:
        module = sys.modules[resolve(path).func.__module__]
    except Resolver404:
        return []
    source = Path(module.__file__ or "").read_text(encoding="utf-8")
    return re.findall(r'\b(?:GET|POST)(?:\.get(?:list)?\(|\[)\s*"(\w+)"', source)


def _other_addresses(names: Any, known: dict[str, str]) -> list[str]:
    """Addresses that answer with no page of their own, and some that nobody has."""
    from django.urls import NoReverseMatch, reverse

    study = next(address for name, address in known.items() if name == "study")
    number = study.strip("/").split("/")[-1]
    found = []
    for name in names:
        for values in ({}, {"number": number}, {"pk": 1}, {"band": "under_5"}, {"rest": "films"}):
            try:
                found.append(reverse(name, kwargs=values))
                break
            except NoReverseMatch:
                continue
    return [*found, "/favicon.ico", "/static/clinic/../settings.py", "//", "/films/0.png", "/%ff"]


@dataclass(frozen=True)
class Request:
    """One request, as the test client sends it."""

    role: str
    method: str
    path: str
    content_type: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


def _text() -> st.SearchStrategy[str]:
    return st.one_of(st.sampled_from(ODD), st.text(max_size=40))


def _encoded(pairs: Sequence[tuple[str, str]]) -> bytes:
    words = (f"{_quoted(name)}={_quoted(value)}" for name, value in pairs)
    return "&".join(words).encode()


def _quoted(words: str) -> str:
    return quote(words.encode("utf-8", "surrogatepass"))


def requests(clinic: Clinic) -> st.SearchStrategy[Request]:
    """Requests that know the addresses, the fields and their values, and keep to none of it."""
    names = sorted({*clinic.values, "next", "film", "films"})

    @st.composite
    def filled_in(draw: Any, path: str, forms: dict[str, list[Pairs]]) -> Pairs:
        """A form or a query of this address, with a few things in it that it does not expect."""
        pairs = list(draw(st.sampled_from(forms.get(path) or [[]])))
        read = _names_read(path) or names
        for _ in range(draw(st.integers(1, 3))):
            at = draw(st.integers(0, max(len(pairs) - 1, 0)))
            what = draw(st.sampled_from(("value", "value", "value", "known", "other", "drop")))
            if what == "drop":
                del pairs[at : at + 1]
            elif what == "value" and pairs:
                pairs[at] = (pairs[at][0], draw(_text()))
            else:
                name = draw(st.sampled_from(read if what == "value" else names))
                known = st.sampled_from(clinic.values.get(name) or [""])
                pairs.insert(at, (name, draw(known if what == "known" else _text())))
        return pairs

    @st.composite
    def address(draw: Any) -> str:
        path = draw(st.sampled_from(clinic.addresses))
        if draw(st.integers(0, 9)) == 0:
            parts = path.split("/")
            parts[draw(st.integers(0, len(parts) - 1))] = _quoted(draw(_text()))
            path = "/" + "/".join(parts).lstrip("/")
        return path

    @st.composite
    def multipart(draw: Any, pairs: Pairs) -> tuple[str, bytes]:
        content = b""
        for name, value in pairs:
            head = f'Content-Disposition: form-data; name="{_quoted(name)[:99]}"'
            content += (
                b"--edge\r\n" + head.encode() + b"\r\n\r\n" + value.encode("utf-8", "replace")
            )
            content += b"\r\n"
        for name in draw(st.lists(st.sampled_from(["film", "films", "file"]), max_size=2)):
            film = draw(mutated(PICTURES))
            head = f'Content-Disposition: form-data; name="{name}"; filename="a.png"'
            content += b"--edge\r\n" + head.encode() + b"\r\n\r\n" + film + b"\r\n"
        content += b"--edge--\r\n"
        if draw(st.integers(0, 3)) == 0:
            content = bytes(draw(edits)(bytearray(content)))
        return "multipart/form-data; boundary=edge", content

    nothing = ("application/x-www-form-urlencoded", b"")
    odd = st.tuples(st.sampled_from(TYPES), st.binary(max_size=200))

    headers = st.lists(
        st.tuples(
            st.sampled_from(HEADERS),
            st.one_of(
                st.sampled_from(
                    ["application/json", "same-origin", "cross-site", "navigate", "*/*"]
                ),
                st.sampled_from(["bytes=0-", "bytes=9-1", "sw, ar;q=0.1", 'W/"x"', "testserver"]),
                st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=60),
            ),
        ),
        max_size=3,
    ).map(tuple)

    roles = sorted(["administrator"] * 8 + list(clinic.browsers))

    @st.composite
    def request(draw: Any) -> Request:
        what = draw(st.sampled_from(("query", "query", "form", "form", "form", "anything")))
        method, body = "GET", nothing
        if what == "form":
            method, path = "POST", draw(st.sampled_from(sorted(clinic.forms)))
        elif what == "query":
            path = draw(address())
        else:
            method, path = draw(st.sampled_from(METHODS)), draw(address())
        if what != "query":
            pairs = draw(filled_in(path, clinic.forms))
            kind = draw(st.sampled_from(("plain", "plain", "plain", "multipart", "odd")))
            if kind == "plain":
                body = (nothing[0], _encoded(pairs))
            else:
                body = draw(multipart(pairs) if kind == "multipart" else odd)
        if what == "query" or draw(st.integers(0, 3)) == 0:
            path += "?" + _encoded(draw(filled_in(path, clinic.queries))).decode()
        found = draw(headers) if draw(st.integers(0, 2)) == 0 else ()
        return Request(draw(st.sampled_from(roles)), method, path, body[0], found, body[1])

    return request()


PICTURES = whole.pictures()


def pages(folder: Path) -> Subject:
    """Every page, by whoever may or may not."""
    clinic = at_work(folder)
    return Subject(
        requests(clinic), lambda request: _ask(clinic, request), lambda one: repr(one).encode(),
        clinic.begin,
    )  # fmt: skip


def let_ask_often() -> None:
    """Forget who asked how often, else most requests were answered by that."""
    from app import doors
    from app.api import limits
    from app.lan import tries

    for one in (doors.costly, limits.uploads, limits.requests, limits.wrong_tokens):
        one.clear()
    for tried in (tries.wrong_passwords, tries.wrong_passwords_here, tries.wrong_codes):
        tried.clear()


def _ask(clinic: Clinic, request: Request) -> str:
    let_ask_often()
    response = clinic.ask(request)
    if response.streaming:
        b"".join(response.streaming_content)
    response.close()
    assert response.status_code < 500 or response.status_code in MAY_ANSWER, response.status_code
    return (
        f"{request.method if request.method in ('GET', 'POST') else 'other'} {response.status_code}"
    )
