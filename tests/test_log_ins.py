"""Where people are logged in: listed, ended, and never longer than a day's work."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.conf import settings
from django.contrib.sessions.models import Session
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from app import lan
from app.access import FROM_LAN
from app.models import AuditEvent, Invitation, LogIn, Role, Site, User
from app.user_agents import in_words
from tests.people import PASSWORD, browser_of, enter

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("data_dir")]

FIREFOX = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:128.0) Gecko/20100101 Firefox/128.0"
NEW = "left-upper-zone-38"


@pytest.fixture
def amina(site) -> User:
    return enter(Role.CLINICIAN, "amina", PASSWORD, full_name="Amina Otieno")


def log_in(name: str = "amina", **device: object) -> Client:
    client = Client(**device)
    client.post("/log-in", {"username": name, "password": PASSWORD})
    return client


def is_in(client: Client) -> bool:
    return client.get("/").status_code == 200


class TestListed:
    def test_each_browser_is_a_row_with_device_address_and_time(self, amina):
        log_in(headers={"User-Agent": FIREFOX})
        phone = log_in(**{FROM_LAN: True}, REMOTE_ADDR="192.168.1.20")
        page = phone.get("/account").content.decode()

        assert "Firefox on Windows" in page
        assert "this computer" in page
        assert "192.168.1.20" in page
        assert "this one" in page

    def test_one_sees_ones_own(self, amina):
        enter(Role.CLINICIAN, "brian", PASSWORD)
        log_in("brian", REMOTE_ADDR="192.168.1.66", **{FROM_LAN: True})

        assert "192.168.1.66" not in log_in().get("/account").content.decode()

    def test_administrators_see_everybody(self, amina, client):
        log_in(REMOTE_ADDR="192.168.1.66", **{FROM_LAN: True})
        page = client.get("/settings/log-ins").content.decode()

        assert "Amina Otieno" in page
        assert "192.168.1.66" in page

    def test_a_phone_that_joined_by_a_code_is_listed(self, amina):
        phone = Client(**{FROM_LAN: True}, REMOTE_ADDR="192.168.1.20")
        phone.post(reverse("join", args=[Invitation.issue(amina)]))

        assert amina.log_ins.get().by_lan

    def test_a_browser_cannot_write_into_the_page(self, amina):
        nasty = "<script>alert(1)</script>" * 50
        client = log_in(headers={"User-Agent": nasty})

        assert "<script>alert" not in client.get("/account").content.decode()
        assert len(LogIn.objects.get().agent) == 300

    @pytest.mark.parametrize(
        ("agent", "words"),
        [
            (FIREFOX, "Firefox on Windows"),
            ("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
             "Chrome/126.0.0.0 Safari/537.36", "Chrome on Linux"),
            ("Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
             "Chrome/126.0.0.0 Safari/537.36 Edg/126.0.0.0", "Edge on Windows"),
            ("Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) "
             "Chrome/126.0.0.0 Mobile Safari/537.36", "Chrome on Android"),
            ("Mozilla/5.0 (Linux; Android 13; SM-A135F) AppleWebKit/537.36 (KHTML, like Gecko) "
             "SamsungBrowser/25.0 Chrome/121.0.0.0 Mobile Safari/537.36",
             "Samsung Internet on Android"),
            ("Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, "
             "like Gecko) Version/17.5 Mobile/15E148 Safari/604.1", "Safari on iPhone"),
            ("Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, "
             "like Gecko) CriOS/126.0 Mobile/15E148 Safari/604.1", "Chrome on iPhone"),
            ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like "
             "Gecko) Version/17.4 Safari/605.1.15", "Safari on macOS"),
            ("curl/8.5.0", "unknown browser"),
            ("", "unknown browser"),
        ],
    )  # fmt: skip
    def test_browsers_are_named_as_their_owners_know_them(self, agent, words):
        assert in_words(agent) == words


class TestEnded:
    def test_one_is_ended_and_the_others_stay(self, amina):
        here, other, third = log_in(), log_in(), log_in()
        row = LogIn.objects.order_by("pk")[1]
        response = here.post(f"/account/log-ins/{row.pk}/end", {"next": "/account"})

        assert response["Location"] == "/account"
        assert is_in(here)
        assert not is_in(other)
        assert is_in(third)

    def test_all_others_are_ended(self, amina):
        here, other, third = log_in(), log_in(), log_in()
        here.post("/account/log-ins/end-others")

        assert [is_in(one) for one in (here, other, third)] == [True, False, False]

    def test_nobody_ends_a_log_in_of_somebody_else(self, amina):
        enter(Role.CLINICIAN, "brian", PASSWORD)
        theirs = log_in("brian")
        row = LogIn.objects.get(user__username="brian")
        mine = log_in()

        assert mine.post(f"/account/log-ins/{row.pk}/end").status_code == 404
        mine.post("/account/log-ins/end-others")
        assert is_in(theirs)

    def test_an_administrator_does(self, amina, client):
        theirs = log_in()
        row = LogIn.objects.get(user=amina)
        client.post(f"/account/log-ins/{row.pk}/end")

        assert not is_in(theirs)
        assert AuditEvent.objects.filter(action="log_ins_ended", subject="amina").exists()

    def test_a_stolen_cookie_of_an_ended_log_in_is_worth_nothing(self, amina):
        client = log_in()
        name = settings.SESSION_COOKIE_NAME
        stolen = client.cookies[name].value
        client.post("/log-out")
        thief = Client()
        thief.cookies[name] = stolen

        assert not is_in(thief)

    def test_nor_is_a_session_whose_log_in_was_removed(self, amina):
        client = log_in()
        LogIn.objects.all().delete()

        assert not is_in(client)

    def test_a_session_of_somebody_else_with_ones_own_log_in_is_refused(self, amina):
        enter(Role.CLINICIAN, "brian", PASSWORD)
        mine = log_in()
        theirs = log_in("brian")
        session = theirs.session
        session["log_in"] = LogIn.objects.get(user=amina).pk
        session.save()

        assert is_in(mine)
        assert not is_in(theirs)

    def test_a_new_password_ends_all_others_on_the_list_too(self, amina):
        here, other = log_in(), log_in()
        form = {"old_password": PASSWORD, "new_password1": NEW, "new_password2": NEW}
        here.post("/password", form)

        assert is_in(here)
        assert not is_in(other)
        assert LogIn.open().count() == 1

    def test_closing_the_door_ends_those_that_came_in_by_it(self, amina):
        phone = log_in(**{FROM_LAN: True}, REMOTE_ADDR="192.168.1.20")
        here = log_in()
        lan.end_sessions()

        assert not is_in(phone)
        assert is_in(here)
        assert not LogIn.open().filter(by_lan=True).exists()

    def test_switching_a_person_off_and_on_lets_no_old_browser_in(self, amina, client):
        theirs = log_in()
        form = {"username": "amina", "role": "clinician"}
        client.post(f"/people/{amina.pk}", form)
        client.post(f"/people/{amina.pk}", form | {"is_active": "on"})

        assert not is_in(theirs)

    def test_logging_in_again_in_one_browser_leaves_one_row(self, amina):
        client = Client(**{FROM_LAN: True}, REMOTE_ADDR="192.168.1.20")
        for _ in range(2):
            client.post(reverse("join", args=[Invitation.issue(amina)]))

        assert LogIn.open().count() == 1


class TestLife:
    @pytest.mark.parametrize("hours", [-12.1, 12.1])
    def test_after_twelve_hours_it_is_over_however_busy_it_was(self, amina, hours):
        client = log_in()
        LogIn.objects.update(
            created_at=timezone.now() + timedelta(hours=hours), seen_at=timezone.now()
        )

        assert not is_in(client)

    def test_before_it_is_not(self, amina):
        client = log_in()
        LogIn.objects.update(created_at=timezone.now() - timedelta(hours=11.9))

        assert is_in(client)

    def test_the_session_lives_as_long(self):
        assert timedelta(seconds=settings.SESSION_COOKIE_AGE) == LogIn.LIFE

    def test_old_rows_go(self, amina):
        log_in()
        LogIn.objects.update(created_at=timezone.now() - timedelta(days=31))
        log_in()

        assert LogIn.objects.count() == 1


class TestFixation:
    def test_a_session_that_somebody_prepared_is_not_the_one_that_is_logged_in(self, amina):
        attacker = Client()
        session = attacker.session
        session["prepared"] = True
        session.save()
        key = attacker.cookies[settings.SESSION_COOKIE_NAME].value
        victim = Client()
        victim.cookies[settings.SESSION_COOKIE_NAME] = key
        victim.post("/log-in", {"username": "amina", "password": PASSWORD})

        assert is_in(victim)
        assert not is_in(attacker)
        assert not Session.objects.filter(session_key=key).exists()

    def test_a_log_in_that_somebody_wrote_into_their_session_lets_nobody_in(self, amina):
        log_in()
        attacker = Client()
        session = attacker.session
        session["log_in"] = LogIn.objects.get().pk
        session.save()

        assert not is_in(attacker)


def test_in_single_user_mode_there_is_nothing_to_list(site):
    Site.objects.update(single_user=True)
    client = Client()

    assert client.get("/account").status_code == 404
    assert not LogIn.objects.exists()
    assert "Who is logged in" not in client.get("/settings").content.decode()


def test_a_row_is_made_for_who_is_put_in_by_a_test_as_well(amina):
    assert is_in(browser_of(amina))
