"""What the doors refuse, and what every answer tells the browser; what is in addresses and logs."""

from __future__ import annotations

import io
import logging
import os
import re
import sys
import urllib.error
import urllib.parse
from pathlib import Path

import pytest
from django.conf import settings as django_settings
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from app import doors
from app.doors import COSTLY, FILES, HEADERS, POLICY
from app.lan import tries
from app.models import AuditEvent, Instance, Role, Study
from tests.every_page import clinic_at_work, names
from tests.films import dicom
from tests.people import PASSWORD, browser_of, enter
from tests.running import ROOT, Visitor, serving
from tests.studies import answered, film_bytes
from tests.test_access import patterns

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("data_dir")]

FOREIGN_LINK = {
    "Sec-Fetch-Site": "cross-site",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Dest": "document",
}


def address_of(name: str, study: Study) -> str:
    """Where a page is, about a study that is there."""
    (pattern,) = (pattern for pattern in patterns() if pattern.name == name)
    known = {"number": study.number, "pk": study.instances.get().pk, "slug": "films"}
    wanted = pattern.pattern.converters
    return reverse(
        name,
        kwargs={
            word: known.get(word, 1 if "Int" in type(converter).__name__ else "x")
            for word, converter in wanted.items()
        },
    )


class TestHeaders:
    @pytest.mark.parametrize(
        ("address", "status"),
        [
            ("/", 200),
            ("/static/clinic/clinic.css", 200),
            ("/static/nothing.css", 404),
            ("/nothing", 404),
            ("/healthz", 200),
            ("/log-in", 302),
            ("/upload", 302),
            ("/api/v1/openapi.json", 200),
            ("/api/v1/studies", 401),
            ("/diagnostics", 200),
        ],
    )
    def test_every_answer_has_them(self, client, address, status):
        response = client.get(address)

        assert response.status_code == status
        assert {name: response.headers.get(name) for name in HEADERS} == HEADERS

    def test_a_refusal_has_them_too(self, client):
        for response in (
            client.get("/", headers={"Host": "evil.example"}),
            client.get("/", headers={"Sec-Fetch-Site": "cross-site"}),
        ):
            assert {name: response.headers.get(name) for name in HEADERS} == HEADERS

    def test_the_policy_allows_nothing_but_this_server(self):
        rules = dict(rule.split(" ", 1) for rule in POLICY.split("; "))

        assert rules["default-src"] == rules["base-uri"] == rules["frame-ancestors"] == "'none'"
        assert set(rules.values()) == {"'none'", "'self'"}
        assert "form-action" in rules

    def test_the_camera_is_for_our_pages_alone_and_the_rest_for_nobody(self):
        policy = HEADERS["Permissions-Policy"].split(", ")

        assert "camera=(self)" in policy
        assert all(rule.endswith("=()") for rule in policy if rule != "camera=(self)")


class TestHost:
    @pytest.mark.parametrize("name", ["127.0.0.1", "127.0.0.1:8765", "localhost:8765", "[::1]:1"])
    def test_our_own_names_are_answered(self, client, name):
        assert client.get("/", headers={"Host": name}).status_code == 200

    @pytest.mark.parametrize("address", ["/", "/healthz", "/static/clinic/study.js", "/api/v1/x"])
    @pytest.mark.parametrize(
        "name",
        [
            "evil.example",
            "evil.example:8765",
            "127.0.0.1.evil.example",
            "localhost.evil.example:8765",
            "localhost@evil.example",
            "0.0.0.0:8765",
            "192.168.1.7",
            "[::2]:8765",
            "a b",
            "",
        ],
    )
    def test_any_other_name_reaches_nothing(self, client, address, name):
        response = client.get(address, HTTP_HOST=name)

        assert response.status_code == 400
        assert b"Nothing was done" in response.content

    def test_a_header_of_a_proxy_is_no_name(self, client):
        answered_as = client.get("/", headers={"X-Forwarded-Host": "evil.example"})

        assert answered_as.status_code == 200
        assert b"evil.example" not in answered_as.content


# Sec-Fetch-Site | Sec-Fetch-Mode | Sec-Fetch-Dest | GET | POST with a token
WHO_ASKS = """
    same-origin | navigate  | document | yes | yes
    same-origin | cors      | empty    | yes | yes
    same-origin | no-cors   | image    | yes | yes
    none        | navigate  | document | yes | yes
    same-site   | navigate  | document | yes | no
    cross-site  | navigate  | document | yes | no
    cross-site  | navigate  | iframe   | no  | no
    same-site   | navigate  | iframe   | no  | no
    cross-site  | navigate  | embed    | no  | no
    cross-site  | navigate  | object   | no  | no
    cross-site  | no-cors   | image    | no  | no
    same-site   | no-cors   | image    | no  | no
    cross-site  | no-cors   | script   | no  | no
    same-site   | no-cors   | style    | no  | no
    cross-site  | cors      | empty    | no  | no
    same-site   | cors      | empty    | no  | no
    cross-site  | no-cors   | empty    | no  | no
    cross-site  | websocket | empty    | no  | no
    same-site   | websocket | empty    | no  | no
    anything    | navigate  | iframe   | no  | no
"""
LINES = [[cell.strip() for cell in line.split("|")] for line in WHO_ASKS.strip().splitlines()]


class TestWhoAsks:
    @pytest.mark.parametrize("line", LINES, ids=lambda line: " ".join(line[:3]))
    def test_another_pages_request_reaches_nothing_but_a_link_to_a_page(self, client, line):
        said = dict(zip(("Sec-Fetch-Site", "Sec-Fetch-Mode", "Sec-Fetch-Dest"), line, strict=False))
        language = {"language": "fr", "next": "/"}

        read = client.get("/", headers=said).status_code
        sent = client.post("/language", language, headers=said).status_code

        assert read == (200 if line[3] == "yes" else 403)
        assert sent == (302 if line[4] == "yes" else 403)

    def test_a_browser_that_does_not_say_is_let_in(self, client):
        assert client.get("/").status_code == 200

    @pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://testserver:81", ""])
    @pytest.mark.parametrize("address", ["/", "/healthz", "/static/clinic/study.js"])
    def test_a_read_that_names_another_origin_is_refused(self, client, origin, address):
        assert client.get(address, headers={"Origin": origin}).status_code == 403

    def test_one_that_names_ours_is_not(self, client):
        assert client.get("/", headers={"Origin": "http://testserver"}).status_code == 200

    def test_another_page_learns_nothing_by_asking_first(self, client):
        asked = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
        response = client.options("/upload", headers={**asked, "Sec-Fetch-Site": "cross-site"})

        assert response.status_code == 403
        assert not [name for name in response.headers if name.startswith("Access-Control")]

    def test_no_answer_of_ours_lets_other_origins_read(self, client):
        for address in ("/", "/healthz", "/api/v1/openapi.json", "/static/clinic/study.js"):
            headers = client.get(address).headers
            assert not [name for name in headers if name.startswith("Access-Control-Allow")]

    @pytest.mark.parametrize("name", sorted(FILES))
    def test_a_link_of_another_page_to_a_file_is_refused_and_leaves_no_trace(
        self, client, administrator, name
    ):
        study = answered()
        before = AuditEvent.objects.count()
        response = client.get(address_of(name, study), headers=FOREIGN_LINK)

        assert response.status_code == 403
        assert AuditEvent.objects.count() == before

    @pytest.mark.parametrize("name", sorted({*names()} - {"api", "join"}))
    def test_a_link_of_another_page_leads_to_a_page_or_nowhere(self, client, name):
        response = client.get(address_of(name, answered()), headers=FOREIGN_LINK)

        kind = response.headers.get("Content-Type", "")
        assert response.status_code != 200 or kind.startswith("text/html")

    def test_what_is_written_down_when_it_is_fetched_is_known_to_be_a_file(self, client):
        """A file that is added tomorrow and writes an event has to be among FILES."""
        study = answered()
        for name in sorted({*names()} - {"api", "join", "log-out"}):
            before = AuditEvent.objects.count()
            response = client.get(address_of(name, study))
            is_file = not response.headers.get("Content-Type", "").startswith("text/html")
            if AuditEvent.objects.count() > before and is_file and response.status_code == 200:
                assert name in FILES, name

    def test_it_is_written_to_the_log_without_what_was_asked_and_not_without_end(
        self, client, caplog, monkeypatch
    ):
        monkeypatch.setattr(doors, "_noted", doors.Bucket(rate=1e-6, burst=5))
        with caplog.at_level(logging.WARNING, "app.doors"):
            for _ in range(50):
                client.get("/?q=Otieno", headers={"Host": "evil.example"})

        said = [one.getMessage() for one in caplog.records if one.name == "app.doors"]
        assert len(said) == 5
        assert "Otieno" not in str(said)
        assert "evil" not in str(said)


class TestCookies:
    def test_the_session_is_for_no_script_and_no_other_site(self, site):
        client = Client()
        enter(Role.CLINICIAN, "amina", PASSWORD)
        client.post("/log-in", {"username": "amina", "password": PASSWORD})
        session = client.cookies["clinic_session"]

        assert session["httponly"]
        assert session["samesite"] == "Lax"
        assert not session["domain"]
        assert not session["max-age"]  # it ends with the browser

    def test_a_log_in_begins_a_new_session_and_a_new_token(self, site):
        client = Client()
        enter(Role.CLINICIAN, "amina", PASSWORD)
        client.get("/log-in")
        session = client.session
        session["planted"] = True
        session.save()
        planted = session.session_key or ""
        client.cookies["clinic_session"] = planted
        token = client.cookies["clinic_csrf"].value

        client.post("/log-in", {"username": "amina", "password": PASSWORD})

        assert client.cookies["clinic_session"].value != planted
        assert not type(session)().exists(planted)
        assert client.cookies["clinic_csrf"].value != token

    def test_a_log_out_ends_the_session_on_the_server(self, site):
        client = browser_of(enter(Role.CLINICIAN))
        key = client.session.session_key
        store = type(client.session)
        client.post("/log-out")

        assert not store().exists(key)

    @pytest.mark.parametrize("name", ["clinic_csrf", "clinic_language", "messages"])
    def test_no_other_cookie_is_for_scripts_or_other_sites(self, client, name):
        client.post("/language", {"language": "fr", "next": "/"})
        client.get("/password")
        client.post("/settings", {"clinic_name": "Kisoro", "lock_after": "10"})
        cookie = client.cookies[name]

        assert cookie["httponly"]
        assert cookie["samesite"] in ("Lax", "Strict")


class TestLimits:
    def try_in(self, password: str, username: str = "amina", **more: object) -> int:
        form = {"username": username, "password": password}
        return Client(**more).post("/log-in", form).status_code

    def guess(self, times: int) -> None:
        for _ in range(times):
            tries.wrong_passwords_here.note("127.0.0.1")

    def test_wrong_passwords_at_this_computer_are_counted(self, site):
        enter(Role.CLINICIAN, "amina", PASSWORD)
        self.guess(14)

        assert [self.try_in("wrong"), self.try_in("wrong")] == [400, 400]
        assert self.try_in("wrong") == 429

    def test_then_the_right_one_is_not_looked_at_either(self, site):
        enter(Role.CLINICIAN, "amina", PASSWORD)
        assert self.try_in(PASSWORD) == 302
        self.guess(16)

        assert self.try_in(PASSWORD) == 429

    def test_it_is_said_in_words_and_the_page_stays_usable(self, site):
        self.guess(16)
        response = Client().post("/log-in", {"username": "x", "password": "y"})

        assert b"Wait ten minutes" in response.content
        assert b'name="password"' in response.content

    def test_another_device_is_not_held_up(self, site):
        enter(Role.CLINICIAN, "amina", PASSWORD)
        self.guess(16)

        assert self.try_in(PASSWORD, REMOTE_ADDR="192.168.1.7") == 302

    def test_they_are_fewer_than_a_hundred_an_hour(self):
        for counted in (tries.wrong_passwords_here, tries.wrong_passwords):
            assert counted._most * 3600 / counted._seconds < 100

    def test_costly_files_are_limited_for_each_person(self, client, monkeypatch):
        monkeypatch.setattr(doors, "costly", doors.Bucket(rate=0.5, burst=3))
        statuses = [client.get(reverse("month-table")).status_code for _ in range(4)]
        other = browser_of(enter(Role.CLINICIAN))

        assert statuses == [200, 200, 200, 429]
        assert other.get(reverse("month-table")).status_code == 200
        assert client.get(reverse("worklist")).status_code == 200

    def test_it_is_said_in_words_and_in_seconds(self, client, monkeypatch):
        monkeypatch.setattr(doors, "costly", doors.Bucket(rate=0.5, burst=0))
        response = client.get(reverse("month-table"))

        assert b"Wait a minute" in response.content
        assert int(response["Retry-After"]) >= 1
        script = client.get(reverse("month-table"), headers={"Accept": "application/json"})
        assert (script.status_code, script.content) == (429, b"")

    def test_what_is_limited_is_there(self):
        assert set(names()) >= COSTLY | FILES
        assert COSTLY <= FILES


HOSTILE_FILES = {
    "page.html": b"<html><script>alert(1)</script></html>",
    "picture.svg": b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
    "film.png": film_bytes() + b"<script>alert(1)</script>",
    "film.html": film_bytes(2),
}


class TestUploads:
    @pytest.mark.parametrize("name", HOSTILE_FILES)
    def test_no_file_is_ever_served_as_it_came_or_as_what_it_says_it_is(self, client, name):
        content = HOSTILE_FILES[name]
        client.post(reverse("upload"), {"films": [SimpleUploadedFile(name, content, "text/html")]})
        for instance in Instance.objects.all():
            for page in ("film", "thumbnail", "map", "pixels"):
                response = client.get(reverse(page, args=[instance.pk]))
                kind = response.headers["Content-Type"]
                assert response.status_code == 404 or kind in (
                    "image/png",
                    "application/octet-stream",
                )
                assert b"alert(1)" not in response.content

    def test_a_film_that_carries_more_is_drawn_anew(self, client):
        carried = HOSTILE_FILES["film.png"]
        client.post(reverse("upload"), {"films": [SimpleUploadedFile("film.png", carried)]})
        shown = client.get(reverse("film", args=[Instance.objects.get().pk]))

        assert shown.status_code == 200
        assert shown.content.startswith(b"\x89PNG")
        assert shown.content != carried

    def test_the_data_directory_has_no_address(self, client, data_dir):
        client.post(
            reverse("upload"), {"films": [SimpleUploadedFile("film.png", film_bytes())]}
        )  # fmt: skip
        stored = Instance.objects.get()
        path = stored.film.name
        for address in (path, f"static/{path}", f"media/{path}", f"static/../{path}", "secret.key"):
            assert client.get(f"/{address}").status_code == 404

    def test_what_is_to_be_saved_is_never_shown_as_a_page(self, client):
        study, saved = answered(), set()
        for name in FILES - {"film", "pixels"}:
            response = client.get(address_of(name, study))
            if response.status_code == 200:
                saved.add(name)
                assert response["Content-Disposition"].startswith("attachment; filename=")
                assert "no-store" in response["Cache-Control"]
                assert not response["Content-Type"].startswith("text/html")
        assert len(saved) >= 5


PATIENT = ("Okello Grace", "P-77", "Okello", "Grace")
IN_ADDRESSES = re.compile(r'(?:href|src|action|data-[a-z-]+)="([^"]*)"')


class TestAddresses:
    def test_no_page_leads_to_an_address_with_a_patients_name(self, client, administrator):
        addresses = clinic_at_work(administrator)
        seen = 0
        for address in addresses.values():
            page = client.get(address).content.decode()
            found = [urllib.parse.unquote_plus(one) for one in IN_ADDRESSES.findall(page)]
            seen += len(found)
            told = [one for one in found if "/" in one and any(word in one for word in PATIENT)]
            assert told == [], address
        assert seen > 300

    def test_a_number_that_was_searched_leads_to_an_address_without_it(self, client, administrator):
        clinic_at_work(administrator)
        response = client.get("/", {"q": "P-77"})

        assert response.status_code == 302
        assert "P-77" not in response["Location"]

    def test_no_page_tells_another_site_the_address_it_came_from(self):
        assert HEADERS["Referrer-Policy"] == "same-origin"


PLANTED = "Zubeidaplanted"


def planted_film() -> bytes:
    import numpy as np

    pixels = np.tile(np.arange(256, dtype=np.uint16), (256, 1))
    return dicom(pixels, 12, PatientName=f"{PLANTED}^Grace", PatientID=f"{PLANTED}-7")


WANTED = (
    f"/?q={PLANTED}",
    f"/patients/find?q={PLANTED}",
    f"/studies/{PLANTED}/",
    f"/{PLANTED}",
    f"/?q={PLANTED}%00&since={PLANTED}&tab={PLANTED}",
    f"/audit?subject={PLANTED}&since={PLANTED}",
    f"/films.csv?names=1&q={PLANTED}",
    f"/patients/{PLANTED}/edit",
    f"/log-in?next=//{PLANTED}",
    f"/api/v1/studies/{PLANTED}",
    f"/static/{PLANTED}.js",
    f"/join/{PLANTED}",
)
SENT = (
    ("/log-in", {"username": PLANTED, "password": PLANTED}),
    ("{study}edit", {"patient": "new", "name": PLANTED, "number": PLANTED * 40}),
    ("{study}edit", {"name": PLANTED, "birth_date": PLANTED, "age": PLANTED}),
    ("{study}readings", {"conclusion": PLANTED, "note": PLANTED}),
    ("/language", {"language": PLANTED, "next": PLANTED}),
)


def ask(visitor: Visitor, address: str, **fields: str) -> None:
    body = urllib.parse.urlencode(fields).encode() if fields else None
    try:
        with visitor.opener.open(visitor.address + address, body, timeout=30) as response:
            response.read()
    except urllib.error.HTTPError as error:
        if error.code >= 500:
            raise


def go_through(visitor: Visitor, home: Path) -> None:
    """Bring a patient's name into everything that takes words."""
    film, damaged = home / f"{PLANTED}.dcm", home / f"{PLANTED}-damaged.dcm"
    film.write_bytes(planted_film())
    damaged.write_bytes(planted_film()[:900])
    for path in (film, damaged):
        visitor.wait_for_answer(visitor.upload(path))
    study = visitor.upload(film).partition("?")[0]
    for address in (study, *WANTED):
        ask(visitor, address)
    for address, fields in SENT:
        token = visitor.token("/")
        ask(visitor, address.format(study=study), csrfmiddlewaretoken=token, **fields)
    ask(visitor, "/upload", csrfmiddlewaretoken=PLANTED)


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What the real program's logs hold after that."""
    home = tmp_path_factory.mktemp("logs")
    environment = {**os.environ, "CLINIC_HOME": str(home)}
    with serving([sys.executable, str(ROOT / "run_clinic.py")], environment) as (visitor, _):
        go_through(visitor, home)
    database = (home / "clinic.sqlite3").read_bytes()
    assert PLANTED.encode() in database, "the name never came into the program"
    return [path.read_text(encoding="utf-8") for path in (home / "logs").iterdir()]


class TestLogs:
    def test_they_tell_what_the_program_did(self, logs):
        assert any("version" in text and "starts" in text for text in logs)

    def test_they_name_no_patient(self, logs):
        found = [line for text in logs for line in text.splitlines() if PLANTED[:7] in line]

        assert found == []


def test_an_error_in_a_view_is_logged_without_its_words(client, monkeypatch, tmp_path):
    """What an exception says may quote a patient: the program's formatter leaves it out."""
    from app import startup

    def falls(*_args: object, **_kwargs: object) -> None:
        raise ValueError(PLANTED)

    monkeypatch.setattr("app.views.worklist.Worklist", falls)
    client.raise_request_exception = False
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(startup.DiscreetFormatter("%(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("django.request")
    logger.addHandler(handler)
    try:
        assert client.get(f"/?q={PLANTED}").status_code == 500
    finally:
        logger.removeHandler(handler)

    assert "ValueError" in written.getvalue()
    assert PLANTED not in written.getvalue()


def test_the_door_is_the_first_to_be_asked():
    assert django_settings.MIDDLEWARE[0] == "app.doors.DoorMiddleware"
