"""Wrong passwords: counted for each account and device, waited for, and never for good."""

from __future__ import annotations

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.contrib.auth.hashers import get_hasher
from django.db import connections
from django.db.models import F
from django.test import Client
from django.utils import timezone

from app.access import FROM_LAN
from app.lan.tries import wrong_passwords_here
from app.models import AuditEvent, LogIn, Role, TooManyTries, Tries, User
from app.passwords import Argon2
from tests.people import PASSWORD, browser_of, enter

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("data_dir")]

PHONE = {"REMOTE_ADDR": "192.168.1.20", FROM_LAN: True}
WAIT = re.compile(r"Too many wrong passwords were tried\. Try again at \S+")


@pytest.fixture
def amina(site) -> User:
    return enter(Role.ADMINISTRATOR, "amina", PASSWORD, full_name="Amina Otieno")


def log_in(password: str = PASSWORD, name: str = "amina", **device: object):
    wrong_passwords_here.clear()  # the limit over all names has tests of its own
    return Client(**device).post("/log-in", {"username": name, "password": password})


def guess(times: int, **device: object) -> list[int]:
    return [log_in("a-wrong-password", **device).status_code for _ in range(times)]


def later(**by: float) -> None:
    """Time passes: what was counted lies so much further back."""
    Tries.objects.update(last_at=F("last_at") - timedelta(**by))


class TestWaiting:
    def test_five_wrong_passwords_are_free_and_the_next_try_has_to_wait(self, amina):
        assert guess(5) == [400] * 5
        response = log_in()

        assert response.status_code == 429
        assert WAIT.search(response.content.decode())

    def test_the_right_password_is_not_looked_at_while_one_waits(self, amina):
        guess(5)

        assert log_in().status_code == 429
        later(seconds=61)
        assert log_in().status_code == 302

    @pytest.mark.parametrize(
        ("wrong", "minutes"), [(5, 1), (6, 2), (7, 4), (8, 8), (9, 15), (10, 15), (500, 15)]
    )
    def test_each_wrong_password_more_makes_it_longer_up_to_a_quarter_of_an_hour(
        self, wrong, minutes
    ):
        now = timezone.now()
        row = Tries(device="here", in_a_row=wrong, last_at=now)

        assert row.waits_until(now) == now + timedelta(minutes=minutes)

    @pytest.mark.parametrize("wrong", range(5))
    def test_who_mistypes_now_and_then_never_waits(self, wrong):
        assert Tries(device="here", in_a_row=wrong).waits_until(timezone.now()) is None

    def test_tries_while_one_waits_make_it_no_longer(self, amina):
        guess(5)
        guess(30)

        assert Tries.objects.get().in_a_row == 5
        later(seconds=61)
        assert log_in().status_code == 302

    def test_a_right_password_begins_anew(self, amina):
        guess(4)
        assert log_in().status_code == 302

        assert guess(5) == [400] * 5

    def test_after_a_day_it_is_forgotten(self, amina):
        guess(5)
        later(days=1, seconds=1)

        assert guess(5) == [400] * 5

    def test_a_clock_that_is_set_back_keeps_nobody_out_for_longer(self, amina):
        guess(5)
        Tries.objects.update(last_at=timezone.now() + timedelta(days=400))

        (row,) = Tries.objects.all()
        assert row.waits_until(timezone.now()) <= timezone.now() + timedelta(minutes=1)

    def test_it_survives_a_restart_because_it_is_in_the_database(self, amina):
        guess(5)

        assert Tries.objects.values_list("in_a_row", flat=True).get() == 5

    def test_a_new_password_by_an_administrator_ends_the_wait(self, amina, client):
        guess(5)
        form = {"username": "amina", "role": "administrator", "is_active": "on"}
        new = {"password1": "left-upper-zone-38", "password2": "left-upper-zone-38"}
        client.post(f"/people/{amina.pk}", form | new)

        assert log_in("left-upper-zone-38").status_code == 302

    def test_only_what_was_looked_at_is_in_the_record(self, amina):
        guess(9)

        assert AuditEvent.objects.filter(action="log_in_failed").count() == 5


class TestGuessing:
    def test_a_name_that_nobody_has_waits_in_the_same_words(self, amina):
        seen = []
        for name in ("amina", "nobody"):
            pages = [log_in("wrong", name) for _ in range(6)]
            words = [WAIT.sub("", page.content.decode()).replace(name, "") for page in pages]
            tokens = re.compile(r'value="\w{64}"')
            seen.append(([p.status_code for p in pages], [tokens.sub("", w) for w in words]))

        assert seen[0] == seen[1]

    @pytest.mark.parametrize("name", ["amina", "nobody", "gone"])
    def test_a_wrong_password_costs_one_hash_whoever_it_is(self, amina, name, monkeypatch):
        User.enter("gone", PASSWORD, Role.CLINICIAN, is_active=False)
        hashed = []
        for method in ("encode", "verify"):
            real = getattr(Argon2, method)

            def counted(self, *args, real=real):
                hashed.append(1)
                return real(self, *args)

            monkeypatch.setattr(Argon2, method, counted)
        log_in("wrong", name)

        assert len(hashed) == 1

    def test_what_was_typed_as_a_name_is_not_in_the_database(self, amina):
        log_in("wrong", "My-Password-In-The-Wrong-Field")

        assert "wrong-field" not in str(list(Tries.objects.values())).lower()

    def test_capital_letters_are_no_fresh_account(self, amina):
        for name in ("amina", "AMINA", "Amina", " amina ", "ａｍｉｎａ"):
            log_in("wrong", name)

        assert log_in().status_code == 429

    def test_a_guesser_with_many_addresses_is_slowed_down_too(self, amina):
        for last in range(20):
            guess(1, REMOTE_ADDR=f"192.168.1.{100 + last}")

        assert log_in(REMOTE_ADDR="192.168.1.250").status_code == 429
        later(seconds=61)
        assert guess(2, REMOTE_ADDR="192.168.1.251") == [400, 429]

    def test_guessers_elsewhere_do_not_keep_the_administrator_out_at_the_computer(self, amina):
        for last in range(40):
            guess(1, REMOTE_ADDR=f"192.168.1.{100 + last}")

        assert log_in().status_code == 302

    def test_nor_on_a_device_where_they_have_been_before(self, amina):
        assert log_in(**PHONE).status_code == 302
        for last in range(40):
            guess(1, REMOTE_ADDR=f"192.168.1.{100 + last}")

        assert log_in(REMOTE_ADDR="192.168.1.99").status_code == 429
        assert log_in(**PHONE).status_code == 302

    def test_a_known_device_is_forgotten_after_a_month(self, amina):
        log_in(**PHONE)
        assert LogIn.knows("Amina", "192.168.1.20")
        LogIn.objects.update(created_at=timezone.now() - timedelta(days=31))

        assert not LogIn.knows("amina", "192.168.1.20")

    def test_a_known_device_guesses_no_more_than_others(self, amina):
        log_in(**PHONE)

        assert guess(6, **PHONE) == [400] * 5 + [429]

    def test_right_passwords_of_the_owner_give_a_guesser_no_more_tries(self, amina):
        for last in range(20):
            guess(1, REMOTE_ADDR=f"192.168.1.{100 + last}")
        later(minutes=2)
        assert log_in(REMOTE_ADDR="192.168.1.7").status_code == 302
        later(seconds=61)

        assert guess(2, REMOTE_ADDR="192.168.1.251") == [400, 429]

    def test_one_account_waits_and_another_does_not(self, amina):
        enter(Role.CLINICIAN, "brian", PASSWORD)
        guess(6)

        assert log_in(name="brian").status_code == 302

    @pytest.mark.parametrize("header", ["X-Forwarded-For", "X-Real-IP", "Forwarded"])
    def test_a_header_makes_no_other_device(self, amina, header):
        for number in range(5):
            Client(headers={header: f"10.0.0.{number}"}).post(
                "/log-in", {"username": "amina", "password": "wrong"}
            )

        assert log_in().status_code == 429


@pytest.mark.django_db(transaction=True)
def test_of_many_tries_at_once_no_more_than_five_are_looked_at(site):
    together = threading.Barrier(8)

    def attempt(_number: int) -> bool:
        together.wait()
        try:
            Tries.begin("amina", Tries.HERE)
        except TooManyTries:
            return False
        finally:
            connections.close_all()
        return True

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(attempt, range(8))) == 5


class TestOwnPassword:
    """Whoever finds a page open is slowed down as well."""

    def test_the_page_that_changes_it_is_no_way_to_guess_it(self, amina):
        client = browser_of(amina)
        form = {"new_password1": "left-upper-zone-38", "new_password2": "left-upper-zone-38"}
        said = [
            client.post("/password", form | {"old_password": word}).status_code
            for word in ["wrong"] * 5 + [PASSWORD]
        ]

        assert said == [400] * 5 + [429]

    def test_nor_is_the_page_of_the_account(self, amina):
        client = browser_of(amina)
        form = {"pin": "4826", "pin_again": "4826"}
        said = [
            client.post("/account", form | {"password": word}).status_code
            for word in ["wrong"] * 5 + [PASSWORD]
        ]

        assert said == [400] * 5 + [429]
        assert not User.objects.get(pk=amina.pk).pin

    def test_a_new_password_must_be_another_one(self, amina):
        form = {"old_password": PASSWORD, "new_password1": PASSWORD, "new_password2": PASSWORD}
        response = browser_of(amina).post("/password", form)

        assert response.status_code == 400
        assert "the password that you have already" in response.content.decode()


class TestHashing:
    @pytest.fixture(autouse=True)
    def as_in_a_clinic(self, monkeypatch):
        for name in ("time_cost", "memory_cost", "parallelism"):
            monkeypatch.delattr(Argon2, name)  # those of tests (conftest)

    def test_it_is_at_least_what_owasp_asks_for(self):
        hasher = get_hasher()

        # Password Storage Cheat Sheet: Argon2id, 19 MiB and 2 passes at least
        assert hasher.memory_cost >= 19 * 1024
        assert hasher.time_cost >= 2
        assert hasher.encode("x", "a-salt-of-16-let").startswith("argon2$argon2id$")

    def test_passwords_of_before_are_still_right(self):
        from django.contrib.auth.hashers import Argon2PasswordHasher, check_password

        before = Argon2PasswordHasher()
        kept = before.encode(PASSWORD, before.salt())
        assert check_password(PASSWORD, kept)
        assert not Argon2().must_update(kept)

    def test_no_more_than_two_at_a_time_take_their_memory(self, monkeypatch):
        running, most, lock = [0], [0], threading.Lock()
        both, together = threading.Event(), threading.Barrier(6)

        def slowly(_self, _password, _encoded):
            with lock:
                running[0] += 1
                most[0] = max(most[0], running[0])
                if running[0] == 2:
                    both.set()
            both.wait(5)
            with lock:
                running[0] -= 1
            return True

        monkeypatch.setattr(Argon2.__mro__[1], "verify", slowly)

        def verify(_number: int) -> bool:
            together.wait()
            return Argon2().verify("x", "y")

        with ThreadPoolExecutor(6) as threads:
            assert all(threads.map(verify, range(6)))
        assert most[0] == 2


class TestPasswordRules:
    @pytest.mark.parametrize(
        ("password", "sentence"),
        [
            ("short-one", "at least 10 characters"),
            ("basketball", "too common"),
            ("1234567890", "too common"),
            ("aminaotieno", "too similar"),
        ],
    )
    def test_short_common_and_obvious_ones_are_refused(self, amina, password, sentence):
        form = {"old_password": PASSWORD, "new_password1": password, "new_password2": password}
        said = browser_of(amina).post("/password", form)

        assert said.status_code == 400
        assert sentence in said.content.decode()

    @pytest.mark.parametrize("password", ["all lower case words", "١٢٣ فيل أخضر", "x" * 200])
    def test_no_mixture_of_signs_is_asked_for(self, amina, password):
        form = {"old_password": PASSWORD, "new_password1": password, "new_password2": password}

        assert browser_of(amina).post("/password", form).status_code == 302
