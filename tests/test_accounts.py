"""The way in: set-up, log-in, one's own password, the people, and `create-user`."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from django.core.exceptions import ValidationError
from django.db import connections
from django.test import Client
from django.urls import reverse

from app.access import FROM_LAN
from app.forms import SetUpForm
from app.management.commands.create_user import enter as enter_by_command
from app.models import AuditEvent, Role, Site, User
from app.models.site import AlreadySetUp
from tests.people import PASSWORD, browser_of, enter
from tests.running import ROOT

ANOTHER = "left-upper-zone-38"
FIRST = {
    "language": "en",
    "understood": "on",
    "clinic_name": "Kisoro clinic",
    "mode": "accounts",
    "username": "Amina",
    "full_name": "Amina Otieno",
    "password1": PASSWORD,
    "password2": PASSWORD,
}
ALONE = {"understood": "on", "mode": "single_user"}


def words_of(response) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", response.content.decode()).split())


def is_in(client: Client) -> bool:
    return client.get("/").status_code == 200


@pytest.mark.django_db
class TestSetUp:
    def test_the_first_page_is_the_set_up(self):
        response = Client().get("/", follow=True)

        assert response.redirect_chain == [("/set-up", 302)]
        assert "Set up the program" in words_of(response)

    def test_the_log_in_leads_there_too(self):
        assert Client().get("/log-in")["Location"] == "/set-up"

    def test_whoever_sets_it_up_is_administrator_and_is_in(self):
        client = Client()
        response = client.post("/set-up", FIRST)

        assert "Recovery code" in words_of(response)
        assert is_in(client)
        user = User.objects.get()
        assert (user.username, user.full_name, user.role) == (
            "amina",
            "Amina Otieno",
            "administrator",
        )
        site = Site.current()
        assert (site.clinic_name, site.language, site.single_user) == ("Kisoro clinic", "en", False)

    def test_single_user_mode_is_an_explicit_choice(self):
        client = Client()
        assert SetUpForm().initial.get("mode", SetUpForm().fields["mode"].initial) == "accounts"
        client.post("/set-up", ALONE)

        assert Site.current().single_user
        assert is_in(client)
        assert not User.people().exists()

    @pytest.mark.parametrize(("asked", "kept"), [("sw", "sw"), ("xx", ""), ("", "")])
    def test_the_language_of_the_pages_is_kept(self, asked, kept):
        Client().post("/set-up", ALONE | {"language": asked})

        assert Site.current().language == kept

    def test_it_speaks_the_language_that_was_chosen_first(self):
        client = Client()
        client.post("/language", {"language": "fr", "next": "/set-up"})
        page = client.get("/set-up").content.decode()

        assert '<input type="hidden" name="language" value="fr"' in page
        assert '<option value="fr" lang="fr" selected>' in page

    def test_without_a_choice_nothing_is_set_up(self):
        response = Client().post("/set-up", {"understood": "on"})

        assert response.status_code == 400
        assert not Site.current().is_set_up

    def test_what_the_program_is_not_has_to_be_read(self):
        response = Client().post("/set-up", ALONE | {"understood": ""})

        assert response.status_code == 400
        assert "Please read this, and tick the box." in words_of(response)
        assert not Site.current().is_set_up

    @pytest.mark.parametrize(
        ("wrong", "sentence"),
        [
            ({"username": ""}, "This field cannot be blank."),
            ({"username": "amina otieno"}, "letters, digits and . @ + - _ only"),
            ({"username": User.THIS_COMPUTER}, "letters, digits and . @ + - _ only"),
            ({"password2": "something else"}, "The two passwords are not the same."),
            ({"password1": "", "password2": ""}, "This password is too short"),
            ({"password1": "password1", "password2": "password1"}, "too common"),
            ({"password1": "aminaotieno", "password2": "aminaotieno"}, "too similar to the full"),
            ({"mode": "everybody"}, "Select a valid choice"),
        ],
    )
    def test_it_says_what_is_wrong_and_keeps_what_was_typed(self, wrong, sentence):
        response = Client().post("/set-up", FIRST | wrong)

        assert response.status_code == 400
        assert sentence in words_of(response)
        assert 'value="Kisoro clinic"' in response.content.decode()
        assert PASSWORD not in response.content.decode()
        assert not Site.current().is_set_up
        assert not User.objects.exists()

    def test_it_is_there_once(self, site):
        for response in (Client().get("/set-up"), Client().post("/set-up", FIRST)):
            assert response["Location"] == "/"
        assert not User.objects.exists()

    @pytest.mark.parametrize("door", [{FROM_LAN: True}, {"REMOTE_ADDR": "192.168.1.7"}])
    def test_nobody_becomes_administrator_over_the_network(self, door):
        for response in (Client(**door).get("/set-up"), Client(**door).post("/set-up", FIRST)):
            assert response.status_code == 403
        assert not Site.current().is_set_up

    def test_who_comes_second_is_told(self, monkeypatch):
        def slower(_form):
            raise AlreadySetUp

        monkeypatch.setattr(SetUpForm, "set_up", slower)

        page = Client().post("/set-up", FIRST, follow=True)
        assert "Somebody else has just set the program up." in words_of(page)

    def test_a_name_that_the_command_has_entered_is_taken(self):
        enter(Role.CLINICIAN, "amina")

        response = Client().post("/set-up", FIRST)
        assert response.status_code == 400
        assert "This user name is taken." in words_of(response)


@pytest.mark.django_db(transaction=True)
class TestRaces:
    def both(self, *deeds) -> list[object]:
        """Do them at the same moment, in threads with connections of their own."""
        together = threading.Barrier(len(deeds))

        def alone(deed):
            together.wait()
            try:
                return deed()
            finally:
                connections.close_all()

        with ThreadPoolExecutor(len(deeds)) as threads:
            return list(threads.map(alone, deeds))

    @pytest.mark.parametrize("turn", range(3))
    def test_of_three_who_set_the_program_up_one_wins(self, turn):
        def post(name):
            return lambda: Client().post("/set-up", FIRST | {"username": name}).status_code

        # The one who wins is shown the recovery code, the others the worklist
        outcomes = self.both(post("amina"), post("brian"), post("chidi"))
        assert sorted(map(str, outcomes)) == ["200", "302", "302"]
        assert User.objects.count() == 1
        assert AuditEvent.objects.filter(action="set_up").count() == 1

    def test_two_administrators_cannot_take_the_role_from_each_other(self):
        Site.current().set_up()
        one, other = enter(Role.ADMINISTRATOR, "one"), enter(Role.ADMINISTRATOR, "other")

        def demote(by, whom):
            form = {"username": whom.username, "role": Role.CLINICIAN, "is_active": "on"}
            client = browser_of(by)
            return lambda: client.post(reverse("person", args=[whom.pk]), form).status_code

        outcomes = self.both(demote(one, other), demote(other, one))

        # The slower one finds the last administrator, or is none any more
        assert outcomes.count(302) == 1
        assert User.objects.filter(role=Role.ADMINISTRATOR, is_active=True).count() == 1


@pytest.fixture
def amina(site) -> User:
    return enter(Role.CLINICIAN, "amina", PASSWORD, full_name="Amina Otieno")


def log_in(client: Client, username: str = "amina", password: str = PASSWORD, **more):
    return client.post("/log-in", {"username": username, "password": password, **more})


class TestLogIn:
    @pytest.mark.parametrize("typed", ["amina", "Amina", "AMINA", " amina ", "ａｍｉｎａ"])
    def test_the_name_is_the_same_however_it_is_typed(self, amina, typed):
        client = Client()

        assert log_in(client, typed)["Location"] == "/"
        assert is_in(client)

    @pytest.mark.parametrize("password", ["", PASSWORD.upper(), PASSWORD + " ", "x" * 5000])
    def test_a_wrong_password_is_refused_in_a_sentence(self, amina, password):
        client = Client()
        response = log_in(client, password=password)

        assert response.status_code == 400
        expected = "do not belong together" if password else "This field is required."
        assert expected in words_of(response)
        assert 'value="amina"' in response.content.decode()
        assert not is_in(client)

    def test_it_does_not_say_whether_there_is_such_a_user(self, amina):
        User.enter("brian", PASSWORD, Role.READ_ONLY, is_active=False)
        said = {
            words_of(log_in(Client(), name, password)).replace(name, "")
            for name, password in [("amina", "wrong"), ("nobody", "wrong"), ("brian", PASSWORD)]
        }

        assert len(said) == 1

    def test_nobody_logs_in_as_this_computer(self, site):
        User.of_this_computer()

        for password in ("", "!", PASSWORD):
            assert log_in(Client(), User.THIS_COMPUTER, password).status_code == 400

    def test_it_goes_on_to_where_one_was_going(self, amina):
        client = Client()
        asked = client.get("/?q=otieno")["Location"]
        page = client.get(asked).content.decode()

        assert 'name="next" value="/?q=otieno"' in page
        assert log_in(client, next="/?q=otieno")["Location"] == "/?q=otieno"

    @pytest.mark.parametrize(
        "elsewhere",
        [
            "http://elsewhere.example/",
            "https://elsewhere.example",
            "//elsewhere.example/",
            "///elsewhere.example",
            "/\\elsewhere.example",
            "\\\\elsewhere.example",
            "http:///elsewhere.example",
            "javascript:alert(1)",
            "data:text/html,x",
            "http://testserver@elsewhere.example/",
            "http://testserver.elsewhere.example/",
            "\x00//elsewhere.example",
            " //elsewhere.example",
            "",
        ],
    )
    def test_the_log_in_leads_to_no_other_site(self, amina, elsewhere):
        assert log_in(Client(), next=elsewhere)["Location"] == "/"
        there = Client().get("/log-in", {"next": elsewhere}).content.decode()
        assert 'name="next" value="/"' in there

    def test_who_is_in_already_goes_on_but_to_no_other_site(self, client):
        assert client.get("/log-in?next=/people")["Location"] == "/people"
        assert client.get("/log-in?next=//elsewhere.example")["Location"] == "/"

    def test_the_session_is_a_new_one(self, amina):
        client = Client()
        client.get("/log-in")
        client.cookies["clinic_session"] = "a-session-that-somebody-else-knows"
        log_in(client)

        assert client.cookies["clinic_session"].value != "a-session-that-somebody-else-knows"

    def test_the_cookie_is_for_the_browser_alone_and_ends_with_it(self, amina):
        client = Client()
        log_in(client)
        cookie = client.cookies["clinic_session"]

        assert cookie["httponly"]
        assert cookie["samesite"] == "Lax"
        assert not cookie["max-age"]

    def test_the_password_is_kept_as_argon2_only(self, amina):
        assert amina.password.startswith("argon2$argon2id$")

    def test_it_names_the_clinic(self, site):
        site.clinic_name = "Kisoro clinic"
        site.save()

        assert "Kisoro clinic" in words_of(Client().get("/log-in"))


class TestPassword:
    CHANGE = {"old_password": PASSWORD, "new_password1": ANOTHER, "new_password2": ANOTHER}

    def test_one_changes_it_and_stays_in_but_leaves_everywhere_else(self, amina):
        here, elsewhere = browser_of(amina), browser_of(amina)

        assert here.post("/password", self.CHANGE)["Location"] == "/"
        assert is_in(here)
        assert not is_in(elsewhere)
        assert log_in(Client(), password=ANOTHER).status_code == 302
        assert log_in(Client(), password=PASSWORD).status_code == 400

    @pytest.mark.parametrize(
        ("wrong", "sentence"),
        [
            ({"old_password": "wrong"}, "This is not your password of today."),
            ({"new_password2": "other"}, "The two passwords are not the same."),
            ({"new_password1": "amina", "new_password2": "amina"}, "too short"),
        ],
    )
    def test_it_says_what_is_wrong(self, amina, wrong, sentence):
        response = browser_of(amina).post("/password", self.CHANGE | wrong)

        assert response.status_code == 400
        assert sentence in words_of(response)
        assert log_in(Client()).status_code == 302


class TestPeople:
    def entered(self, client, **fields):
        form = {"username": "brian", "role": Role.HEALTH_WORKER, "is_active": "on"}
        passwords = {"password1": ANOTHER, "password2": ANOTHER}
        return client.post(reverse("new-person"), form | passwords | fields)

    def changed(self, client, user: User, **fields):
        form = {"username": user.username, "full_name": user.full_name, "role": user.role}
        now = form | ({"is_active": "on"} if user.is_active else {})
        return client.post(reverse("person", args=[user.pk]), now | fields)

    def test_an_administrator_enters_somebody_who_can_log_in(self, client):
        assert self.entered(client, username="Brian")["Location"] == "/people"
        assert User.objects.get(username="brian").role == Role.HEALTH_WORKER
        assert log_in(Client(), "brian", ANOTHER).status_code == 302

    @pytest.mark.parametrize(
        ("wrong", "sentence"),
        [
            ({"username": "Administrator"}, "This user name is taken."),
            ({"username": "this computer"}, "letters, digits and"),
            ({"username": ""}, "This field is required."),
            ({"role": "owner"}, "Select a valid choice"),
            ({"role": ""}, "This field is required."),
            ({"password1": "", "password2": ""}, "too short"),
            ({"password1": "brian123", "password2": "brian123"}, "too similar"),
            ({"password1": "", "password2": ANOTHER}, "The two passwords are not the same."),
        ],
    )
    def test_it_says_what_is_wrong(self, client, wrong, sentence):
        response = self.entered(client, **wrong)

        assert response.status_code == 400
        assert sentence in words_of(response)
        assert User.objects.count() == 1

    def test_a_new_password_ends_the_sessions_of_the_old_one(self, client, amina):
        theirs = browser_of(amina)
        self.changed(client, amina, password1=ANOTHER, password2=ANOTHER)

        assert not is_in(theirs)
        assert log_in(Client(), password=ANOTHER).status_code == 302

    def test_without_a_new_password_the_old_one_and_the_session_stay(self, client, amina):
        theirs = browser_of(amina)
        self.changed(client, amina, full_name="Amina O.", role=Role.READ_ONLY)

        assert is_in(theirs)
        assert log_in(Client()).status_code == 302
        assert User.objects.get(pk=amina.pk).role == Role.READ_ONLY

    def test_a_second_password_alone_changes_nothing(self, client, amina):
        response = self.changed(client, amina, password2=ANOTHER)

        assert response.status_code == 400
        assert log_in(Client()).status_code == 302

    def test_access_ends_at_once_where_the_log_in_is_switched_off(self, client, amina):
        theirs = browser_of(amina)
        self.changed(client, amina, is_active="")

        assert not is_in(theirs)
        assert log_in(Client()).status_code == 400
        assert "may not log in" in words_of(client.get(reverse("people")))

    def test_one_may_give_oneself_a_new_password_and_stay(self, client, administrator):
        self.changed(client, administrator, password1=ANOTHER, password2=ANOTHER)

        assert is_in(client)

    @pytest.mark.parametrize("wrong", [{"role": Role.CLINICIAN}, {"is_active": ""}])
    def test_the_last_administrator_stays(self, client, administrator, wrong):
        enter(Role.ADMINISTRATOR, "gone", is_active=False)
        User.of_this_computer()

        response = self.changed(client, administrator, **wrong)
        assert response.status_code == 400
        assert "This is the last administrator." in words_of(response)
        assert User.objects.get(pk=administrator.pk).is_last_administrator

    def test_the_last_but_one_may_go(self, client, administrator):
        enter(Role.ADMINISTRATOR, "other")

        assert self.changed(client, administrator, role=Role.CLINICIAN).status_code == 302

    def test_this_computer_is_not_one_of_the_people(self, client):
        ghost = User.of_this_computer()

        assert f"/people/{ghost.pk}" not in client.get(reverse("people")).content.decode()
        assert client.get(reverse("person", args=[ghost.pk])).status_code == 404

    def test_nobody_is_ever_deleted(self, client, amina):
        assert client.delete(reverse("person", args=[amina.pk])).status_code == 405


class TestSettings:
    def change(self, client, **fields):
        return client.post(
            reverse("site"), {"clinic_name": "Kisoro clinic", "lock_after": "10"} | fields
        )

    def test_an_administrator_changes_them(self, client):
        self.change(client, blind_first_read="on", language="sw")

        site = Site.current()
        assert (site.clinic_name, site.blind_first_read, site.language) == (
            "Kisoro clinic",
            True,
            "sw",
        )

    def test_single_user_mode_can_be_switched_on_and_off(self, client):
        self.change(client, single_user="on")
        assert is_in(Client())

        self.change(client)
        assert not is_in(Client())

    def test_log_in_cannot_be_switched_on_where_nobody_could_log_in(self, site):
        site.single_user = True
        site.save()
        enter(Role.CLINICIAN)

        response = self.change(Client())
        assert response.status_code == 400
        assert "Nobody could log in." in words_of(response)
        assert Site.current().single_user


@pytest.mark.django_db
class TestEntering:
    """What `create-user` does, without the process around it."""

    def test_the_first_administrator_sets_the_program_up(self):
        enter_by_command("amina", PASSWORD, Role.ADMINISTRATOR, "")

        assert Site.current().is_set_up
        assert not Site.current().single_user

    @pytest.mark.parametrize("role", [Role.CLINICIAN, Role.READ_ONLY])
    def test_others_do_not(self, role):
        enter_by_command("amina", PASSWORD, role, "")

        assert not Site.current().is_set_up

    def test_it_leaves_single_user_mode_as_it_was_chosen(self, site):
        site.single_user = True
        site.save()
        enter_by_command("amina", PASSWORD, Role.ADMINISTRATOR, "")

        assert Site.current().single_user

    def test_a_name_in_other_letters_is_taken(self):
        enter_by_command("amina", PASSWORD, Role.CLINICIAN, "")

        with pytest.raises(ValidationError, match="taken"):
            enter_by_command("AMINA", PASSWORD, Role.CLINICIAN, "")


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("clinic")


class TestCommand:
    """The real program, as it is called."""

    def call(self, home: Path, *words: str, password: str = PASSWORD):
        return subprocess.run(
            [sys.executable, "run_clinic.py", "create-user", *words, "--data-dir", str(home)],
            input=f"{password}\n",
            cwd=ROOT,
            env={**os.environ, "PYTHONUTF8": "1"},
            capture_output=True,
            encoding="utf-8",
            check=False,
        )

    def test_it_enters_a_user_with_the_password_from_stdin(self, home):
        done = self.call(home, "Amina", "--role", "administrator", "--full-name", "Amina Otieno")

        assert (done.returncode, done.stdout.strip()) == (0, "amina may now log in.")
        with closing(sqlite3.connect(home / "clinic.sqlite3")) as opened:
            row = opened.execute("SELECT username, full_name, role FROM clinic_user").fetchone()
            (kept,) = opened.execute("SELECT password FROM clinic_user").fetchone()
            events = opened.execute("SELECT action, subject FROM clinic_auditevent").fetchall()
        assert row == ("amina", "Amina Otieno", "administrator")
        assert kept.startswith("argon2$")
        assert events == [("user_entered", "amina")]

    @pytest.mark.parametrize(
        ("words", "password", "sentence"),
        [
            (["amina", "--role", "clinician"], PASSWORD, "This user name is taken."),
            (["brian", "--role", "clinician"], "lobe-47", "This password is too short."),
            (["brian", "--role", "clinician"], "", "This password is too short."),
            (["brian", "--role", "clinician"], "password1", "This password is too common."),
            (["two words", "--role", "clinician"], PASSWORD, "and no space"),
            (["brian", "--role", "owner"], PASSWORD, "invalid choice: 'owner'"),
            (["brian"], PASSWORD, "--role"),
            ([], PASSWORD, "username"),
        ],
    )
    def test_it_says_what_is_wrong_and_ends_with_2(self, home, words, password, sentence):
        self.call(home, "Amina", "--role", "administrator")
        done = self.call(home, *words, password=password)

        assert done.returncode == 2
        assert sentence in done.stderr
        assert "Traceback" not in done.stderr
        assert password == "" or password not in done.stdout + done.stderr

    def test_it_is_in_the_list_of_commands(self):
        shown = subprocess.run(
            [sys.executable, "run_clinic.py", "--help"], cwd=ROOT, capture_output=True, check=True
        )
        assert b"create-user" in shown.stdout
