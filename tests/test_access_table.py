"""Every address, every role and nobody: who gets in, found out by knocking, in a table to read.

The table is docs/access-table.md. Where a page was added or a permission changed, the test says
what to do: put the new table in place, and look at what has changed in it.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from django.http import HttpResponse
from django.test import Client
from django.urls import URLPattern, reverse

from app.access import OPEN
from app.models import Role, User
from tests.every_page import patterns
from tests.people import browser_of, enter
from tests.studies import answered

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("data_dir")]

ROLES = [Role.READ_ONLY, Role.HEALTH_WORKER, Role.CLINICIAN, Role.ADMINISTRATOR]
HEAD = """\
# Who gets in where

Every address of the program, asked for (GET) and sent to (POST) by nobody and by each role, in a
clinic with log-in. Made by `tests/test_access_table.py`, which knocks at each and holds this table
current; what each permission means says [app/access.py](../app/access.py).

- **in**: the page itself answers
- **log-in**: turned back to the log-in
- **no**: refused (403)
- **token**: asks for the token of a program, whoever is logged in

Pages that are open to all look for themselves who may do what: a code that holds ten minutes, a
set-up that is there once, a log-in.

Forms without the token of their own page are refused before any of this (`tests/test_access.py`),
and so is whatever another site's page asks for (`tests/test_doors.py`,
`tests/test_browser_hostile.py`).

| address | permission | nobody | read only | health worker | clinician | administrator |
|---|---|---|---|---|---|---|
"""


def outcome(response: HttpResponse) -> str:
    """What became of somebody who knocked."""
    onward = response.headers.get("Location", "").partition("?")[0]
    if response.status_code == 403:
        return "no"
    if response.status_code == 401:
        return "token"
    return "log-in" if onward == "/log-in" and response.status_code == 302 else "in"


def knock(user: User | None, name: str, address: str) -> str:
    """The same for GET and POST, each from a browser of its own: one of them may log out."""
    found = []
    # What each operation of the interface asks of a token is test_api.py's
    for method in ("GET",) if name == "api" else ("GET", "POST"):
        client = browser_of(user) if user else Client()
        client.raise_request_exception = False
        found.append(outcome(client.generic(method, address)))
    if name == "log-out":  # which leads to the log-in, whoever asks
        found = ["in"]
    assert len(set(found)) == 1, f"{name}: {found}"
    return found[0]


def line(pattern: URLPattern, everybody: list[User | None]) -> str:
    """One line of the table, found out by knocking."""
    study = answered()  # one that is still there, whatever was done at the door before
    known = {"number": study.number, "pk": study.instances.get().pk, "rest": "studies"}
    asked = pattern.pattern.regex.groupindex
    address = reverse(str(pattern.name), kwargs={word: known.get(word, 1) for word in asked})
    shown = re.sub(r"<\w+:", "<", "/" + str(pattern.pattern))
    if not pattern.pattern.converters and asked:  # written as a regular expression
        shown = "/" + re.sub(r"\(\?P(<\w+>).*", r"\1", str(pattern.pattern)).lstrip("^")
    permission = getattr(pattern.callback, "permission", "none")
    cells = [knock(user, str(pattern.name), address) for user in everybody]
    said = "open" if permission == OPEN else str(permission)
    return f"| `{shown}` | {said} | {' | '.join(cells)} |\n"


@pytest.fixture
def table(site) -> str:
    everybody = [None, *(enter(role) for role in ROLES)]
    lines = {line(pattern, everybody) for pattern in patterns() if pattern.name}
    return HEAD + "".join(sorted(lines))


def test_the_table_is_that_of_the_program(table, root: Path):
    rows = [row.strip("| ").split(" | ") for row in table.splitlines() if row.startswith("| `")]
    found = root / "build" / "access-table.md"
    found.parent.mkdir(exist_ok=True)
    found.write_text(table, encoding="utf-8")

    assert len(rows) == len([pattern for pattern in patterns() if pattern.name])
    assert [row[0] for row in rows if row[2] != "log-in" and row[1] != "open"] == []
    assert [row[0] for row in rows if "token" in row] == ["`/api/v1/<rest>`"]
    assert table == (root / "docs" / "access-table.md").read_text(encoding="utf-8"), (
        "docs/access-table.md is not what the program does: look at the difference to "
        "build/access-table.md, and copy that to docs/ if it is meant"
    )
