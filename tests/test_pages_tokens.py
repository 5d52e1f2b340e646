"""The page of other programs: a token is shown once, and ended for good."""

from __future__ import annotations

import re

import pytest
from django.conf import settings
from django.contrib.sessions.models import Session
from django.db import connection
from django.test import Client
from django.urls import reverse

from app.api.operations import description
from app.models import AuditEvent, DeviceToken, Scope, Site
from tests.people import browser

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("data_dir")]

SECRET = re.compile(r"clinic_[\w-]{43}")


@pytest.fixture
def page() -> str:
    return reverse("tokens")


def make(client: Client, name: str = "Records", scopes: tuple[str, ...] = ("upload",)):
    return client.post(reverse("tokens"), {"name": name, "scopes": scopes})


def secret_on(response) -> str:
    (found,) = SECRET.findall(response.content.decode())
    return str(found)


class TestMaking:
    def test_the_token_is_shown_and_works(self, client):
        secret = secret_on(make(client, scopes=("upload", "results")))

        token = DeviceToken.of(secret)
        assert (token.name, token.scopes) == ("Records", ["results", "upload"])
        asked = Client(headers={"Authorization": f"Bearer {secret}"})
        assert asked.get("/api/v1/health").status_code == 200

    def test_it_is_shown_this_once_only(self, client, page):
        secret = secret_on(make(client))

        assert secret not in client.get(page).content.decode()
        assert secret[:13] in client.get(page).content.decode()
        assert secret[:14] not in client.get(page).content.decode()

    def test_nothing_keeps_it(self, client, caplog):
        response = make(client)
        secret = secret_on(response)

        assert response.status_code == 200  # no address that it could be in
        assert "no-store" in response["Cache-Control"]
        assert secret not in str(response.headers) + str(response.cookies) + caplog.text
        assert all(secret not in str(s.get_decoded()) for s in Session.objects.all())
        with connection.cursor() as cursor:
            dump = "\n".join(connection.connection.iterdump())
            assert cursor is not None
        assert secret not in dump
        assert secret[:13] in dump

    def test_a_page_that_is_sent_again_makes_no_second_token(self, client):
        make(client)
        again = make(client)

        assert again.status_code == 400
        assert "There is a token of this name." in again.content.decode()
        assert DeviceToken.objects.count() == 1

    def test_a_name_is_free_again_once_its_token_has_ended(self, client):
        make(client)
        DeviceToken.objects.get().revoke(by=None)

        assert make(client).status_code == 200
        assert DeviceToken.objects.count() == 2

    @pytest.mark.parametrize(
        ("form", "words"),
        [
            ({"scopes": ["upload"]}, "Name the program."),
            ({"name": "Records"}, "Tick what it may do."),
            ({"name": "Records", "scopes": ["administer"]}, "administer"),
            ({"name": "x" * 101, "scopes": ["upload"]}, "100"),
        ],
    )
    def test_a_form_with_a_slip_makes_none(self, client, page, form, words):
        response = client.post(page, form)

        assert response.status_code == 400
        assert words in response.content.decode()
        assert not DeviceToken.objects.exists()

    def test_it_is_in_the_record(self, client, administrator):
        make(client)

        event = AuditEvent.objects.get(action="token_issued")
        assert event.user == administrator
        assert event.details == {"name": "Records", "scopes": ["upload"]}
        assert "let another program in" in client.get(reverse("audit")).content.decode()


class TestList:
    def test_it_says_what_each_may_do_and_when_it_was_used(self, client, page):
        token, secret = DeviceToken.issue("X-ray room", [Scope.UPLOAD, Scope.READINGS], None)
        html = client.get(page).content.decode()
        assert "put films in" in html
        assert "read and record readings" in html
        assert "never used" in html

        Client(headers={"Authorization": f"Bearer {secret}"}).get("/api/v1/health")
        token.refresh_from_db()
        assert f'datetime="{token.last_used_at:%Y-%m-%d}' in client.get(page).content.decode()

    def test_an_odd_name_is_shown_as_it_is(self, client, page):
        DeviceToken.issue("<script>alert(1)</script>", [Scope.UPLOAD], None)

        assert "<script>alert" not in client.get(page).content.decode()

    def test_it_says_where_programs_find_the_interface(self, client, page):
        assert "http://testserver/api/v1/" in client.get(page).content.decode()

    def test_it_warns_where_clinicians_read_first(self, client, page):
        warning = "see to it that it does not show them first"
        assert warning not in client.get(page).content.decode()

        Site.objects.update(blind_first_read=True)
        assert warning in client.get(page).content.decode()

    def test_the_settings_lead_to_it_for_administrators(self, client, page):
        assert f'href="{page}"' in client.get(reverse("site")).content.decode()
        assert f'href="{page}"' not in browser("clinician").get("/").content.decode()


class TestEnding:
    def test_it_lets_the_program_in_no_longer(self, client, page, administrator):
        secret = secret_on(make(client))
        token = DeviceToken.objects.get()

        response = client.post(reverse("token-end", args=[token.pk]), follow=True)
        assert "Records is let in no longer." in response.content.decode()
        assert DeviceToken.of(secret) is None
        assert AuditEvent.objects.get(action="token_revoked").user == administrator

    def test_one_that_has_ended_stays_in_the_list(self, client, page):
        make(client)
        DeviceToken.objects.get().revoke(by=None)

        html = client.get(page).content.decode()
        assert "Records" in html
        assert reverse("token-end", args=[DeviceToken.objects.get().pk]) not in html

    def test_it_ends_by_a_form_only(self, client):
        make(client)
        token = DeviceToken.objects.get()

        assert client.get(reverse("token-end", args=[token.pk])).status_code == 405
        assert client.post(reverse("token-end", args=[999])).status_code == 404
        token.refresh_from_db()
        assert token.revoked_at is None

    @pytest.mark.parametrize("role", ["clinician", "health_worker", "read_only"])
    def test_others_make_and_end_none(self, client, role):
        make(client)
        token, other = DeviceToken.objects.get(), browser(role)

        assert make(other, "Mine").status_code == 403
        assert other.post(reverse("token-end", args=[token.pk])).status_code == 403
        assert DeviceToken.objects.get().revoked_at is None


class TestReference:
    def test_every_operation_has_its_chapter_with_every_field(self, client):
        html = client.get(reverse("api-docs")).content.decode()

        for path, operations in description()["paths"].items():
            for method, operation in operations.items():
                assert f"{method.upper()} {path}" in html
                for parameter in operation["parameters"]:
                    assert f"<code>{parameter['name']}" in html
        for name in ("probability", "peak", "patient_number", "before_answer", "request_id"):
            assert f"<code>{name}" in html

    def test_it_asks_no_other_host_and_needs_no_script_but_that_of_the_lock(self, client):
        response = client.get(reverse("api-docs"))

        html = response.content.decode()
        assert not re.findall(r'(?:src|href)="(?:https?:)?//', html)
        assert re.findall(r'<script[^>]*src="([^"]*)"', html) == ["/static/clinic/lock.js"]
        assert html.count("<script") == 1

    def test_it_leads_to_the_description_that_programs_read(self, client):
        assert (
            f'href="{reverse("api-document")}"' in client.get(reverse("api-docs")).content.decode()
        )

    def test_the_session_stays_out_of_it(self, client):
        assert client.get("/api/v1/openapi.json").cookies == {}
        assert settings.SESSION_COOKIE_NAME not in Client().get("/api/v1/openapi.json").cookies
