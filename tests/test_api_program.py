"""The interface of the real program: the commands of the manual, and a machine on the network."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from django.db import connections

from app import server
from app.lan import addresses
from app.lan.listener import Listener
from app.models import DeviceToken, Scope
from model_export.phantom import chest_film
from tests.films import encode
from tests.running import Visitor, serving

SECRET = re.compile(r"clinic_[\w-]{43}")
KEPT_APART = {"file", "milliseconds"}


def commands(manual: Path) -> list[str]:
    """What the manual tells its reader to type, in order."""
    return re.findall(r"^```sh\n(.*?)^```", manual.read_text(encoding="utf-8"), re.S | re.M)


def environment(**more: str) -> dict[str, str]:
    kept = {n: v for n, v in os.environ.items() if not n.startswith(("CLINIC_", "DJANGO_"))}
    return {**kept, "PYTHONUTF8": "1", **more}


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("clinic")


@pytest.fixture(scope="module")
def film(home: Path) -> Path:
    path = home.parent / "film.png"
    path.write_bytes(encode(chest_film(3, (1024, 896)), "PNG"))
    return path


@pytest.fixture(scope="module")
def visitor(home: Path) -> Iterator[Visitor]:
    with serving([sys.executable, "run_clinic.py"], environment(CLINIC_HOME=str(home))) as found:
        yield found[0]


@pytest.fixture(scope="module")
def told(visitor: Visitor, film: Path, root: Path) -> list[str]:
    """What each command of the manual answers, typed one after the other in one shell."""
    if not shutil.which("curl"):
        pytest.skip("no curl on this machine (Debian: apt-get install curl)")
    fields = {"username": "achieng", "full_name": "", "role": "clinician", "is_active": "on"}
    password = {"password1": "right-lower-lobe-47", "password2": "right-lower-lobe-47"}
    visitor.post("/people/new", **fields, **password)
    (secret,) = SECRET.findall(every_right(visitor))
    script = "\necho '=====';\n".join(["set -e", *commands(root / "docs" / "api.md")])
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=film.parent,
        env=environment(CLINIC=f"{visitor.address}/api/v1", TOKEN=secret),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return [part.strip() for part in done.stdout.split("=====")[1:]]


def every_right(visitor: Visitor) -> str:
    """The page with a token that may do everything."""
    token = visitor.token("/settings/tokens")
    words = f"csrfmiddlewaretoken={token}&name=everything"
    words += "".join(f"&scopes={scope}" for scope in Scope.values)
    with visitor.opener.open(visitor.address + "/settings/tokens", words.encode()) as response:
        return str(response.read().decode())


class TestManual:
    def test_the_manual_has_commands(self, root):
        assert len(commands(root / "docs" / "api.md")) == 5

    def test_health(self, told):
        assert json.loads(told[0])["status"] == "ok"

    def test_a_film_is_taken_in(self, told):
        received = json.loads(told[1])

        assert (received["film"], received["duplicate"]) == (1, False)
        assert received["url"] == "/api/v1/films/1"

    def test_its_result_is_what_analyze_says_of_it(self, told, film, home):
        result = json.loads(told[2])["result"]
        words = ["analyze", "--json", "--age", "3", "--data-dir", str(home), str(film)]
        done = subprocess.run(
            [sys.executable, "run_clinic.py", *words],
            env=environment(),
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )

        wanted = json.loads(done.stdout)
        assert result.keys() == wanted.keys()
        assert {k: v for k, v in result.items() if k not in KEPT_APART} == {
            k: v for k, v in wanted.items() if k not in KEPT_APART
        }
        assert result["file"] == "film.png"

    def test_its_study_is_listed(self, told):
        listed = json.loads(told[3])

        assert [study["number"] for study in listed["studies"]] == [json.loads(told[1])["study"]]
        assert listed["more"] is False

    def test_a_reading_is_written_down(self, told):
        kept, listed = json_values(told[4])

        assert (kept["reader"], kept["conclusion"]) == ("achieng", "pneumonia")
        assert listed == {"readings": [kept]}


def json_values(text: str) -> list[dict[str, object]]:
    """JSON values that stand one behind the other, as curl prints them."""
    found, at = [], 0
    while at < len(text):
        value, at = json.JSONDecoder().raw_decode(text, at)
        found.append(value)
    return found


@pytest.mark.django_db(transaction=True)
class TestOverTls:
    """The door for other computers, with the program behind it."""

    @pytest.fixture
    def door(self, data_dir, site, settings, monkeypatch) -> Iterator[Listener]:
        from app.wsgi import application

        settings.ALLOWED_HOSTS = ["127.0.0.1", "localhost", "[::1]"]
        monkeypatch.setattr(addresses, "current", list)
        monkeypatch.setattr(addresses, "names", lambda: ["clinic-laptop"])

        def closing(environ, start_response):
            try:
                return application(environ, start_response)
            finally:
                connections.close_all()

        found = Listener(closing, server.listen("127.0.0.1", 0))
        yield found
        found.close()

    def ask(self, door: Listener, token: str, host: str = "127.0.0.1") -> tuple[int, str]:
        authority = x509.load_der_x509_certificate(door.authority.der)
        trusted = ssl.create_default_context(cadata=authority.public_bytes(Encoding.PEM).decode())
        asked = http.client.HTTPSConnection("127.0.0.1", door.port, context=trusted, timeout=60)
        headers = {"Authorization": f"Bearer {token}", "Host": f"{host}:{door.port}"}
        asked.request("GET", "/api/v1/health", headers=headers if token else {})
        response = asked.getresponse()
        answer = response.status, response.read().decode()
        asked.close()
        return answer

    def test_a_token_is_taken_there_by_whoever_trusts_the_clinics_certificate(self, door):
        _, secret = DeviceToken.issue("archive", [Scope.RESULTS], None)

        status, body = self.ask(door, secret)
        assert (status, "version" in json.loads(body)) == (200, True)

    def test_nobody_is_let_in_without_one(self, door):
        assert self.ask(door, "")[0] == 401
        assert self.ask(door, "clinic_wrong")[0] == 401

    def test_a_foreign_name_is_refused_before_the_token_is_looked_at(self, door):
        token, secret = DeviceToken.issue("archive", [Scope.RESULTS], None)

        assert self.ask(door, secret, host="evil.example")[0] == 421
        token.refresh_from_db()
        assert token.last_used_at is None
