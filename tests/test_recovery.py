"""The way back in without e-mail: a code on paper, used at this computer, once."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connections
from django.db.models import F
from django.test import Client
from django.utils import timezone

from app.access import FROM_LAN
from app.models import AuditEvent, LogIn, RecoveryCode, Role, Tries, User
from app.models.recovery import NoSuchAdministrator, WrongCode, plain_code
from tests.people import PASSWORD, browser_of, enter
from tests.running import ROOT

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("data_dir")]

NEW = "left-upper-zone-38"
CODE = re.compile(r"<span>([A-Z]{4})</span>")
FIRST = {"understood": "on", "mode": "accounts", "username": "amina", "password1": PASSWORD,
         "password2": PASSWORD}  # fmt: skip


@pytest.fixture
def amina(site) -> User:
    return enter(Role.ADMINISTRATOR, "amina", PASSWORD)


@pytest.fixture
def code(amina) -> str:
    return RecoveryCode.make(amina)


def recover(code: str, username: str = "amina", new: str = NEW, again: str = "", **device: object):
    form = {"code": code, "username": username, "password1": new, "password2": again or new}
    return Client(**device).post("/recover", form)


def shown(response) -> str:
    return "-".join(CODE.findall(response.content.decode()))


def logs_in(password: str, username: str = "amina") -> bool:
    form = {"username": username, "password": password}
    return Client().post("/log-in", form).status_code == 302


class TestCode:
    def test_nobody_guesses_it(self):
        letters = RecoveryCode.GROUPS * RecoveryCode.GROUP

        assert letters * math.log2(len(set(RecoveryCode.LETTERS))) >= 128

    def test_it_has_no_letters_that_are_taken_for_others(self):
        assert not set(RecoveryCode.LETTERS) & set("ILOQUV0123456789")

    def test_each_is_another_one(self, amina):
        made = {RecoveryCode.make(amina) for _ in range(3)}

        assert len(made) == 3
        assert all(re.fullmatch(r"([A-Z]{4}-){7}[A-Z]{4}", one) for one in made)

    def test_it_is_kept_as_argon2_and_nowhere_else(self, code):
        plain = plain_code(code)
        kept = RecoveryCode.current()

        assert kept.code.startswith("argon2$argon2id$")
        everything = str(list(RecoveryCode.objects.values())) + str(
            list(AuditEvent.objects.values())
        )
        assert plain not in everything
        assert code not in everything

    @pytest.mark.parametrize("typed", ["{0}", " {0}.\n", "{1}", "{2}", "{3}"])
    def test_it_is_the_same_however_it_is_typed(self, code, typed):
        forms = code.lower(), code.replace("-", " "), code.replace("-", "")
        assert recover(typed.format(code, *forms)).status_code == 200
        assert logs_in(NEW)


class TestSetUp:
    def test_it_is_shown_at_the_set_up_and_works(self, db):
        code = shown(Client().post("/set-up", FIRST))

        assert recover(code).status_code == 200
        assert logs_in(NEW)

    def test_it_is_shown_once(self, db):
        client = Client()
        code = shown(client.post("/set-up", FIRST))

        for page in ("/set-up", "/", "/settings/recovery", "/recover"):
            assert code[:19] not in client.get(page, follow=True).content.decode()
        assert "no-store" in client.get("/settings/recovery")["Cache-Control"]

    def test_there_is_none_without_log_in(self, db):
        Client().post("/set-up", {"understood": "on", "mode": "single_user"})

        assert RecoveryCode.current() is None
        assert Client().get("/settings/recovery").status_code == 404
        assert Client().get("/recover")["Location"] == "/"
        assert "Recovery code" not in Client().get("/settings").content.decode()


class TestNotice:
    NOTICE = "There is no recovery code on paper yet"

    def test_administrators_are_told_until_somebody_has_written_it_down(self, amina):
        client = browser_of(amina)
        assert self.NOTICE in client.get("/").content.decode()
        client.post("/settings/recovery", {"password": PASSWORD})
        assert self.NOTICE in client.get("/settings").content.decode()
        client.post("/settings/recovery/kept")

        for page in ("/", "/settings"):
            assert self.NOTICE not in client.get(page).content.decode()

    def test_others_are_not(self, amina):
        assert self.NOTICE not in browser_of(enter(Role.CLINICIAN)).get("/").content.decode()


class TestMakingANewOne:
    def test_it_needs_the_password(self, amina, code):
        client = browser_of(amina)
        assert client.post("/settings/recovery", {"password": "wrong"}).status_code == 400
        assert recover(code).status_code == 200

    def test_it_makes_the_old_one_void(self, amina, code):
        new = shown(browser_of(amina).post("/settings/recovery", {"password": PASSWORD}))

        assert recover(code).status_code == 400
        assert recover(new).status_code == 200

    def test_it_is_in_the_record(self, amina, code):
        assert AuditEvent.objects.filter(action="recovery_code_made", user=amina).exists()


class TestRecovering:
    def test_it_gives_an_administrator_a_new_password(self, amina, code):
        recover(code)

        assert logs_in(NEW)
        assert not logs_in(PASSWORD)

    def test_the_code_is_used_up_and_the_next_one_is_shown(self, code):
        following = shown(recover(code))

        assert recover(code, new="right-middle-zone-9").status_code == 400
        assert recover(following, new="right-middle-zone-9").status_code == 200

    def test_whoever_is_logged_in_as_them_is_out(self, amina, code):
        client = browser_of(amina)
        recover(code)

        assert client.get("/")["Location"].startswith("/log-in")
        assert not LogIn.open().filter(user=amina).exists()

    def test_it_ends_the_wait_of_the_account(self, amina, code):
        for _ in range(6):
            logs_in("wrong")
        recover(code)

        assert logs_in(NEW)

    def test_a_pin_that_somebody_may_know_goes_too(self, amina, code):
        User.objects.update(pin="argon2$something")
        recover(code)

        assert User.objects.get().pin == ""

    def test_it_is_in_the_record(self, amina, code):
        recover(code)

        event = AuditEvent.objects.get(action="password_recovered")
        assert (event.subject, event.user) == ("amina", None)

    @pytest.mark.parametrize(
        ("new", "again", "sentence"),
        [
            ("short", "", "too short"),
            (NEW, "another-one-entirely", "not the same"),
            ("basketball", "", "too common"),
        ],
    )
    def test_a_password_that_is_refused_does_not_use_the_code_up(self, code, new, again, sentence):
        assert sentence in recover(code, new=new, again=again).content.decode()
        assert recover(code).status_code == 200

    @pytest.mark.parametrize("username", ["nobody", "brian", "gone", User.THIS_COMPUTER])
    def test_it_is_for_administrators_who_may_log_in(self, amina, code, username):
        enter(Role.CLINICIAN, "brian", PASSWORD)
        enter(Role.ADMINISTRATOR, "gone", PASSWORD, is_active=False)
        User.of_this_computer()
        response = recover(code, username)

        assert response.status_code == 400
        assert "These do: amina." in response.content.decode()
        assert recover(code).status_code == 200

    def test_who_does_not_have_the_code_hears_no_names(self, amina, code):
        said = {
            recover("ABCD" * 8, name).content.decode().replace(name, "").split("<main")[1][:2000]
            for name in ("amina", "nobody")
        }
        words = [re.sub(r'value="[^"]*"', "", one) for one in said]

        assert len(set(words)) == 1
        assert "These do" not in words[0]

    def test_where_there_is_no_code_none_works(self, amina):
        for typed in ("", "ABCD" * 8, "!"):
            assert recover(typed).status_code == 400


class TestAttacks:
    @pytest.mark.parametrize(
        "door", [{FROM_LAN: True}, {FROM_LAN: True, "REMOTE_ADDR": "192.168.1.20"},
                 {"REMOTE_ADDR": "192.168.1.20"}, {"REMOTE_ADDR": ""}],
    )  # fmt: skip
    def test_nobody_recovers_anything_over_the_network(self, code, door):
        assert Client(**door).get("/recover").status_code == 403
        assert recover(code, **door).status_code == 403
        assert logs_in(PASSWORD)

    @pytest.mark.parametrize("header", ["X-Forwarded-For", "X-Real-IP", "X-Clinic-From-Lan"])
    def test_no_header_makes_another_device_this_computer(self, code, header):
        client = Client(REMOTE_ADDR="192.168.1.20", headers={header: "127.0.0.1"})

        assert client.get("/recover").status_code == 403

    def test_the_log_in_offers_it_at_this_computer_alone(self, amina):
        assert "/recover" in Client().get("/log-in").content.decode()
        elsewhere = Client(**{FROM_LAN: True}, REMOTE_ADDR="192.168.1.20")
        assert "/recover" not in elsewhere.get("/log-in").content.decode()

    def test_guessing_is_slowed_down_and_written_down(self, code):
        said = [recover("ABCD" * 8).status_code for _ in range(5)]

        assert said == [400] * 5
        assert recover(code).status_code == 429
        assert AuditEvent.objects.filter(action="recovery_failed").count() == 5
        Tries.objects.update(last_at=F("last_at") - timedelta(seconds=61))
        assert recover(code).status_code == 200

    def test_wrong_passwords_at_the_log_in_do_not_block_the_code(self, code):
        for _ in range(12):
            logs_in("wrong")

        assert recover(code).status_code == 200

    def test_a_foreign_page_cannot_use_it(self, code):
        client = Client(enforce_csrf_checks=True)
        form = {"code": code, "username": "amina", "password1": NEW, "password2": NEW}

        assert client.post("/recover", form).status_code == 403

    def test_the_code_of_an_old_backup_that_was_used_is_void(self, amina, code):
        recover(code)
        RecoveryCode.objects.filter(ended_at__isnull=False).update(made_at=timezone.now())

        with pytest.raises(WrongCode):
            RecoveryCode.recover(code, "amina", PASSWORD)


@pytest.mark.django_db(transaction=True)
def test_of_two_who_use_it_at_once_one_does(site):
    code = RecoveryCode.make(enter(Role.ADMINISTRATOR, "amina", PASSWORD))
    together = threading.Barrier(2)

    def use(password: str) -> bool:
        together.wait()
        try:
            RecoveryCode.recover(code, "amina", password)
        except WrongCode:
            return False
        finally:
            connections.close_all()
        return True

    with ThreadPoolExecutor(2) as threads:
        assert sorted(threads.map(use, [NEW, "right-middle-zone-9"])) == [False, True]


def test_names_are_told_to_the_code_alone(amina, code):
    with pytest.raises(NoSuchAdministrator) as told:
        RecoveryCode.recover(code, "nobody", NEW)
    assert told.value.names == ["amina"]
    with pytest.raises(WrongCode):
        RecoveryCode.recover("ABCD" * 8, "nobody", NEW)


class TestOneTimePassword:
    """What an administrator gives to somebody is for the first log-in."""

    @pytest.fixture
    def brian(self, client) -> Client:
        form = {"username": "brian", "role": "clinician", "is_active": "on",
                "password1": PASSWORD, "password2": PASSWORD}  # fmt: skip
        client.post("/people/new", form)
        logged_in = Client()
        logged_in.post("/log-in", {"username": "brian", "password": PASSWORD})
        return logged_in

    def test_no_page_is_there_before_it_is_changed(self, brian):
        for page in ("/", "/account", "/help/", "/rows"):
            assert brian.get(page)["Location"] == "/password"
        assert brian.post("/upload")["Location"] == "/password"
        assert brian.get("/rows", headers={"Accept": "application/json"}).status_code == 401
        assert "who knows it" in brian.get("/password").content.decode()

    def test_then_they_are_all_there(self, brian):
        form = {"old_password": PASSWORD, "new_password1": NEW, "new_password2": NEW}
        brian.post("/password", form)

        assert brian.get("/").status_code == 200

    def test_the_same_password_is_not_another_one(self, brian):
        form = {"old_password": PASSWORD, "new_password1": PASSWORD, "new_password2": PASSWORD}

        assert brian.post("/password", form).status_code == 400
        assert brian.get("/")["Location"] == "/password"

    def test_it_can_be_locked_and_left(self, brian):
        brian.post("/lock")
        assert brian.get("/password")["Location"].startswith("/lock")
        brian.post("/log-out")
        assert brian.get("/")["Location"].startswith("/log-in")

    def test_ones_own_new_password_is_not_asked_for_again(self, client, administrator):
        form = {"username": administrator.username, "role": "administrator", "is_active": "on",
                "password1": NEW, "password2": NEW}  # fmt: skip
        client.post(f"/people/{administrator.pk}", form)

        assert client.get("/").status_code == 200


class TestCommand:
    def run(self, home, *words: str, typed: str = "") -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "CLINIC_HOME": str(home)}
        command = [sys.executable, str(ROOT / "run_clinic.py"), *words]
        return subprocess.run(
            command, env=environment, input=typed, capture_output=True, text=True, check=False
        )

    def test_it_sets_the_password_with_the_code_and_prints_the_next(self, tmp_path):
        made = self.run(tmp_path, "create-user", "amina", "--role", "administrator", typed=PASSWORD)
        assert made.returncode == 0, made.stderr
        refused = self.run(tmp_path, "reset-password", "amina", typed=f"{'ABCD' * 8}\n{NEW}\n")

        assert refused.returncode == 2
        assert "not the recovery code" in refused.stderr
        make = "from app.models import RecoveryCode as R; print(R.make(None))"
        script = f"import django; django.setup(); {make}"
        environment = {**os.environ, "CLINIC_HOME": str(tmp_path)}
        code = subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True,
            check=True, cwd=ROOT,
        ).stdout.strip()  # fmt: skip
        done = self.run(tmp_path, "reset-password", "Amina", "--code", code, typed=f"{NEW}\n")

        assert done.returncode == 0, done.stderr
        assert re.search(r"([A-Z]{4}-){7}[A-Z]{4}", done.stdout)
        again = self.run(tmp_path, "reset-password", "amina", "--code", code, typed=f"{NEW}\n")
        assert again.returncode == 2
