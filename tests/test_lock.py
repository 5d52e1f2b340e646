"""When nobody is there the pages lock; the PIN or the password opens them, and nothing is lost."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.conf import settings
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db.models import F
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from app.access import FROM_LAN
from app.account_forms import is_easy_pin, plain_pin
from app.models import AuditEvent, LogIn, Patient, Role, Site, User
from tests.people import PASSWORD, browser_of, enter
from tests.studies import answered
from tests.test_access import OPEN_PAGES, names, patterns

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("data_dir")]

PIN = "4826"
JSON = {"Accept": "application/json"}
#: What browsers send when a person follows a link or sends a form.
PERSON = {"Accept": "text/html,application/xhtml+xml", "Sec-Fetch-Mode": "navigate",
          "Sec-Fetch-User": "?1"}  # fmt: skip
#: Pages that are there although the log-in is locked: those that open it.
THROUGH_THE_LOCK = {"lock", "unlock", "lock-state"}


@pytest.fixture
def amina(site) -> User:
    user = enter(Role.ADMINISTRATOR, "amina", PASSWORD, full_name="Amina Otieno")
    browser_of(user).post("/account", {"password": PASSWORD, "pin": PIN, "pin_again": PIN})
    LogIn.objects.all().delete()
    user.refresh_from_db()
    return user


@pytest.fixture
def here(amina) -> Client:
    return browser_of(amina)


@pytest.fixture
def locked(here) -> Client:
    here.post("/lock")
    return here


def later(**by: float) -> None:
    """Time passes, and nobody is there."""
    LogIn.objects.update(seen_at=F("seen_at") - timedelta(**by))


def is_locked(client: Client) -> bool:
    return client.get("/").headers.get("Location", "").startswith("/lock?")


def unlock(client: Client, pin: str = PIN, **more: str):
    return client.post("/lock/open", {"pin": pin, **more})


class TestWhen:
    @pytest.mark.parametrize("minutes", [5, 10, 15, 30])
    def test_it_locks_after_the_minutes_that_the_clinic_chose(self, here, minutes):
        Site.objects.update(lock_after=minutes)
        later(minutes=minutes, seconds=-30)
        assert not is_locked(here)
        later(seconds=31)
        assert is_locked(here)

    def test_it_is_ten_minutes_where_nobody_chose(self, db):
        assert Site().lock_after == 10

    def test_it_locks_never_where_the_clinic_chose_that(self, here):
        Site.objects.update(lock_after=0)
        later(hours=11)

        assert not is_locked(here)

    def test_a_longer_time_chosen_afterwards_opens_nothing(self, here):
        later(minutes=11)
        assert is_locked(here)
        Site.objects.update(lock_after=0)

        assert is_locked(here)

    def test_a_page_that_a_person_opens_keeps_it_open(self, here):
        later(minutes=9)
        here.get("/", headers=PERSON)
        later(minutes=9)

        assert not is_locked(here)

    @pytest.mark.parametrize(
        "headers",
        [
            JSON,
            {"Accept": "*/*"},
            {"Accept": "image/avif,image/webp,*/*"},
            {"Accept": "text/html", "Sec-Fetch-Mode": "navigate"},
            {},
        ],
        ids=["a script", "any script", "a picture", "a page that loads itself again", "nothing"],
    )
    @pytest.mark.parametrize("page", ["worklist", "worklist-rows", "lock-state", "updates"])
    def test_what_no_person_asked_for_does_not(self, here, page, headers):
        later(minutes=9)
        here.get(reverse(page), headers=headers)
        later(minutes=2)

        assert is_locked(here)

    def test_asking_for_rows_and_answers_all_night_keeps_nothing_open(self, here):
        number = answered().number
        for _minute in range(12):
            later(minutes=1)
            here.get("/rows", headers=JSON)
            response = here.get(f"/studies/{number}/status", headers=JSON)

        assert response.status_code == 401

    def test_hands_on_the_keyboard_of_an_open_page_do(self, here):
        later(minutes=9)
        here.post("/lock/state", headers=JSON)
        later(minutes=9)

        assert not is_locked(here)

    def test_but_they_open_nothing_that_is_locked(self, locked):
        assert locked.post("/lock/state", headers=JSON).json()["locked"]
        assert is_locked(locked)

    @pytest.mark.parametrize("days", [-400, 400])
    def test_a_clock_that_was_set_locks(self, here, days):
        LogIn.objects.update(seen_at=timezone.now() + timedelta(days=days))

        assert is_locked(here)

    def test_a_person_locks_it_when_they_go(self, here):
        here.post("/lock")

        assert is_locked(here)

    def test_one_browser_locks_and_another_does_not(self, amina, locked):
        assert not is_locked(browser_of(amina))

    def test_in_single_user_mode_nothing_locks_and_no_page_speaks_of_it(self, site):
        site.single_user = True
        site.save()
        client = Client()

        assert client.get("/").status_code == 200
        for page in ("lock", "lock-state", "account"):
            assert client.get(reverse(page)).status_code == 404
        words = client.get("/").content.decode()
        assert "lock.js" not in words
        assert "My account" not in words


class TestHolds:
    """The lock is the server's: no page, no script and no trick gets around it."""

    @pytest.mark.parametrize("method", ["GET", "POST"])
    @pytest.mark.parametrize("name", [n for n in names() if n not in OPEN_PAGES | THROUGH_THE_LOCK])
    def test_no_page_is_there_while_it_is_locked(self, locked, name, method):
        (pattern,) = (pattern for pattern in patterns() if pattern.name == name)
        values = {
            word: 1 if "Int" in type(converter).__name__ else "1"
            for word, converter in pattern.pattern.converters.items()
        }
        response = locked.generic(method, reverse(name, kwargs=values))

        assert response.status_code == 302
        assert response["Location"].startswith("/lock?next=")

    def test_a_script_gets_401_in_words(self, locked):
        response = locked.get("/rows", headers=JSON)

        assert response.status_code == 401
        assert response.json() == {
            "error": "The page is locked. Unlock it, then try again.",
            "address": "/lock?next=%2F",
        }

    def test_the_locked_page_shows_no_patient_and_no_menu(self, here):
        study = answered()
        study.change({"patient": Patient.objects.create(name="Okello Grace")}, by=None)
        here.post("/lock")
        page = here.get("/", follow=True).content.decode()

        assert "Amina Otieno" in page
        assert "Okello" not in page
        assert "menu__list" not in page

    def test_messages_of_before_wait_until_it_is_open(self, amina, here):
        amina.role = "administrator"
        here.post(f"/people/{amina.pk}", {"username": "amina", "full_name": "Okello Grace",
                                          "role": "administrator", "is_active": "on"})  # fmt: skip
        User.objects.update(full_name="")
        here.post("/lock")

        assert "Okello" not in here.get("/lock").content.decode()

    def test_pages_that_are_not_there_have_no_menu_either(self, locked):
        assert "menu__list" not in locked.get("/nothing").content.decode()

    def test_no_one_may_get_in_by_the_log_in_page(self, locked):
        assert locked.get("/log-in")["Location"] == "/"
        assert locked.post("/log-in", {"username": "x", "password": "y"})["Location"] == "/"
        assert is_locked(locked)

    def test_somebody_else_can_log_in_on_it(self, locked):
        enter(Role.CLINICIAN, "brian", PASSWORD)
        locked.post("/log-out")
        locked.post("/log-in", {"username": "brian", "password": PASSWORD})

        assert not is_locked(locked)


class TestOpening:
    def test_the_pin_opens_it_and_leads_back(self, locked):
        assert unlock(locked, next="/people")["Location"] == "/people"
        assert not is_locked(locked)

    def test_so_does_the_password(self, locked):
        assert unlock(locked, "", password=PASSWORD)["Location"] == "/"
        assert not is_locked(locked)

    def test_it_leads_to_no_other_site(self, locked):
        assert unlock(locked, next="https://elsewhere.example/")["Location"] == "/"

    @pytest.mark.parametrize("pin", ["", "0000", "48261", "482", "4826\x00", PASSWORD])
    def test_a_wrong_pin_does_not(self, locked, pin):
        assert unlock(locked, pin).status_code == 400
        assert is_locked(locked)

    @pytest.mark.parametrize("pin", ["٤٨٢٦", "४८२६", "４８２６", " 4826 "])
    def test_it_is_the_same_in_the_digits_of_every_keyboard(self, locked, pin):
        assert unlock(locked, pin).status_code == 302

    def test_after_five_wrong_pins_the_password_is_needed(self, locked):
        said = [unlock(locked, "9999").content.decode() for _ in range(5)]

        assert "4 times more" in said[0]
        assert "once more" in said[3]
        assert "type your password" in said[4]
        assert unlock(locked).status_code == 400
        assert is_locked(locked)
        assert unlock(locked, "", password=PASSWORD).status_code == 302

    def test_reloading_locking_again_or_logging_in_elsewhere_gives_no_more_tries(
        self, amina, locked
    ):
        for _ in range(5):
            unlock(locked, "9999")
            locked.post("/lock")
            locked.get("/lock")
            browser_of(amina).get("/")

        assert unlock(locked).status_code == 400

    def test_the_owner_hears_that_wrong_pins_were_tried(self, locked):
        for _ in range(3):
            unlock(locked, "9999")
        unlock(locked)

        assert "wrong PINs were tried here 3 times" in locked.get("/").content.decode()
        assert AuditEvent.objects.filter(action="unlock_failed").count() == 3

    def test_guessing_the_password_there_is_slowed_down(self, locked):
        said = [unlock(locked, "", password="wrong").status_code for _ in range(5)]

        assert said == [400] * 5
        assert unlock(locked, "", password=PASSWORD).status_code == 429
        assert is_locked(locked)

    def test_the_pin_logs_nobody_in(self, amina):
        client = Client()
        client.post("/log-in", {"username": "amina", "password": PIN})

        assert unlock(client)["Location"].startswith("/log-in")
        assert client.get("/")["Location"].startswith("/log-in")

    def test_the_pin_of_another_person_opens_nothing(self, amina):
        brian = enter(Role.CLINICIAN, "brian", PASSWORD)
        client = browser_of(brian)
        client.post("/lock")

        assert unlock(client).status_code == 400
        assert unlock(client, "", password="").status_code == 400
        assert is_locked(client)

    def test_opening_one_browser_opens_no_other(self, amina, locked):
        other = browser_of(amina)
        other.post("/lock")
        unlock(other)

        assert is_locked(locked)

    def test_a_log_in_that_was_ended_is_not_opened(self, locked):
        LogIn.objects.update(ended_at=timezone.now())

        assert unlock(locked)["Location"].startswith("/log-in")

    def test_a_foreign_page_cannot_open_it(self, amina):
        client = Client(enforce_csrf_checks=True)
        client.force_login(amina)
        LogIn.objects.update(locked_at=timezone.now())

        assert unlock(client).status_code == 403
        assert is_locked(client)

    def test_a_script_is_told_what_it_needs(self, locked):
        refused = locked.post("/lock/open", {"pin": "9999"}, headers=JSON)
        assert refused.status_code == 400
        assert refused.json() == {
            "error": "This is not your PIN. You can try 4 times more.",
            "pin": True,
        }
        opened = locked.post("/lock/open", {"pin": PIN}, headers=JSON)
        assert opened.json()["seconds"] in (599, 600)


class TestNothingIsLost:
    def send(self, client: Client, **fields: object):
        referer = {"Referer": f"http://testserver{reverse('site')}"}
        return client.post(reverse("site"), fields, headers=referer)

    def test_a_form_that_came_too_late_is_not_acted_on_and_offered_again(self, locked):
        self.send(locked, clinic_name="Kisoro", lock_after="15", many=["a", "b"])
        assert Site.current().clinic_name == ""
        assert "What you have just sent is not saved yet" in locked.get("/lock").content.decode()

        page = locked.get(unlock(locked)["Location"]).content.decode()
        assert 'action="/settings"' in page
        for name, value in [("clinic_name", "Kisoro"), ("many", "a"), ("many", "b")]:
            assert f'name="{name}" value="{value}"' in page

    def test_it_can_be_thrown_away_and_leads_back(self, locked):
        self.send(locked, clinic_name="Kisoro")
        unlock(locked)

        assert locked.post("/lock/held", {"next": "/settings"})["Location"] == "/settings"
        assert locked.get("/lock/held")["Location"] == "/"
        assert LogIn.objects.get().held is None

    def test_what_was_typed_is_not_on_the_locked_page(self, locked):
        self.send(locked, clinic_name="Okello Grace")

        assert "Okello" not in locked.get("/lock").content.decode()
        assert "Okello" not in locked.get("/lock/held", follow=True).content.decode()

    def test_it_is_gone_with_the_log_in(self, locked):
        self.send(locked, clinic_name="Okello Grace")
        locked.post("/log-out")

        assert LogIn.objects.get().held is None

    def test_the_next_lock_forgets_the_form_of_the_last(self, locked):
        self.send(locked, clinic_name="Okello Grace")
        unlock(locked)
        locked.post("/lock")

        assert unlock(locked)["Location"] == "/"

    @pytest.mark.parametrize(
        "fields",
        [
            {"password1": "a-new-password"},
            {"pin": "4826"},
            {"fhir_authorization": "Bearer x"},
            {"note": "x" * 60_000},
            {},
        ],
        ids=["password", "pin", "token", "too long", "nothing"],
    )
    def test_secrets_and_what_is_too_long_are_not_kept(self, locked, fields):
        self.send(locked, **fields)

        assert LogIn.objects.get().held is None
        assert unlock(locked)["Location"] == "/"

    def test_films_are_not_kept_and_it_says_so(self, locked):
        film = SimpleUploadedFile("film.png", b"x")
        locked.post("/upload", {"age": "3", "films": film})

        page = locked.get(unlock(locked)["Location"]).content.decode()
        assert "Films and other files were not kept" in page

    def test_what_was_typed_cannot_break_out_of_the_page(self, locked):
        self.send(locked, **{'x"><script>': '"><script>alert(1)</script>'})
        page = locked.get(unlock(locked)["Location"]).content.decode()

        assert "<script>alert" not in page
        assert 'x"><script>' not in page

    def test_a_form_of_a_foreign_page_is_not_kept(self, amina):
        client = Client(enforce_csrf_checks=True)
        client.force_login(amina)
        LogIn.objects.update(locked_at=timezone.now())
        self.send(client, clinic_name="Pwned")

        assert LogIn.objects.get().held is None


class TestPin:
    @pytest.mark.parametrize(
        "pin",
        ["0000", "1111", "1234", "9876", "7890", "2468", "1212", "1122", "4747", "123123",
         "1984", "2007", "2580", "0852", "12345678", "11112222"],
    )  # fmt: skip
    def test_the_first_that_anybody_tries_are_refused(self, amina, here, pin):
        assert is_easy_pin(pin)
        form = {"password": PASSWORD, "pin": pin, "pin_again": pin}
        response = here.post("/account", form)

        assert response.status_code == 400
        assert "easy to guess" in response.content.decode()

    @pytest.mark.parametrize("pin", ["4826", "90417", "318042", "1899", "27182845"])
    def test_others_are_not(self, pin):
        assert not is_easy_pin(pin)

    @pytest.mark.parametrize("pin", ["482", "482604826", "48a6", "-482", "48 26", "¼¼¼¼"])
    def test_it_has_four_to_eight_digits(self, here, pin):
        response = here.post("/account", {"password": PASSWORD, "pin": pin, "pin_again": pin})

        assert response.status_code == 400
        assert "A PIN has 4 to 8 digits." in response.content.decode()

    def test_whoever_found_the_page_open_sets_none(self, amina, here):
        form = {"password": "wrong", "pin": "9041", "pin_again": "9041"}
        assert here.post("/account", form).status_code == 400

        here.post("/lock")
        assert unlock(here, "9041").status_code == 400

    def test_the_two_must_be_the_same(self, here):
        form = {"password": PASSWORD, "pin": "9041", "pin_again": "9042"}

        assert "The two PINs are not the same" in here.post("/account", form).content.decode()

    def test_it_is_kept_as_argon2_and_not_in_the_record(self, amina):
        assert amina.pin.startswith("argon2$argon2id$")
        assert PIN not in str(list(AuditEvent.objects.values_list("details")))

    def test_who_has_none_unlocks_by_password(self, here):
        here.post("/account/remove-pin")
        here.post("/lock")

        assert 'name="pin"' not in here.get("/lock").content.decode()
        assert unlock(here).status_code == 400
        assert unlock(here, "", password=PASSWORD).status_code == 302

    def test_it_goes_when_an_administrator_gives_a_new_password(self, amina, client):
        form = {"username": "amina", "role": "administrator", "is_active": "on"}
        new = {"password1": "left-upper-zone-38", "password2": "left-upper-zone-38"}
        client.post(f"/people/{amina.pk}", form | new)

        assert not User.objects.get(pk=amina.pk).pin

    @pytest.mark.parametrize(("typed", "plain"), [("٤٨", "48"), ("४८", "48"), ("a4", "a4")])
    def test_digits_of_every_script_are_digits(self, typed, plain):
        assert plain_pin(typed) == plain


def test_a_phone_that_came_in_by_the_door_locks_too(amina):
    client = Client(**{FROM_LAN: True}, REMOTE_ADDR="192.168.1.20")
    client.force_login(amina)
    later(minutes=11)

    assert is_locked(client)


def test_the_cookie_is_not_the_key_of_the_lock(locked):
    stolen = Client()
    name = settings.SESSION_COOKIE_NAME
    stolen.cookies[name] = locked.cookies[name].value

    assert is_locked(stolen)
