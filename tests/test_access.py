"""Who may do what. The tables are meant to be read; the walk holds every page to them.

Addresses are read off the program itself, so that a page added tomorrow is walked too: it must say
which permission it needs, and a page that is open to everybody must be named here.
"""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory
from django.urls import reverse

from app.access import (
    FROM_LAN,
    OPEN,
    PERMISSIONS,
    AccessMiddleware,
    Permission,
    is_from_here,
    may,
    open_to_all,
    requires,
)
from app.models import Invitation, Role, Site, User
from tests.every_page import patterns
from tests.people import browser_of, enter
from tests.studies import answered

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("data_dir")]

# What a page asks for | read only | health worker | clinician | administrator
WHO_MAY = """
    view               | yes       | yes           | yes       | yes
    take_in            | no        | yes           | yes       | yes
    edit               | no        | yes           | yes       | yes
    read               | no        | no            | yes       | yes
    delete             | no        | no            | yes       | yes
    review             | no        | no            | yes       | yes
    administer         | no        | no            | no        | yes
"""
ROLES = [Role.READ_ONLY, Role.HEALTH_WORKER, Role.CLINICIAN, Role.ADMINISTRATOR]

# Pages whose permission must never be another one. What is not here has the one it declares.
PAGES = """
    worklist            view            study           view
    worklist-rows       view            study-status    view
    film                view            viewer          view
    thumbnail           view            pixels          view
    map                 view            password        view
    upload              take_in         diagnostics     view
    people              administer      audit           administer
    person              administer      site            administer
    new-person          administer      patient         view
    study-edit          edit            patient-edit    edit
    study-delete        delete          patient-merge   delete
    patient-delete      delete          patients-find   view
    analyse-study-again take_in         analyse-again   take_in
    cancel-batch        take_in         report          view
    record-signs        edit            record-age      edit
    record-reading      read            record-diagnosis read
    review              review          review-table    review
    review-change       administer      review-undo     administer
    review-clear        administer      lan             administer
    lan-authority       view            add-phone       view
    watched-folder      administer      disc            take_in
    disc-take           take_in         disc-stop       take_in
    scheduled           take_in         scheduled-take  take_in
    camera              take_in         camera-verdict  take_in
    updates             administer      update-take     administer
    update-try          administer      update-cancel   administer
    update-install      administer      update-discard  administer
    update-go-back      administer      update-again    administer
    help                view            help-page       view
    tokens              administer      token-end       administer
    api-docs            administer      audit-export    administer
    study-fhir          view            films-table     review
    month               review          month-table     review
    backups             administer      backup-set-up   administer
    backup-stick        administer      backup-now      administer
    backup-cancel       administer      backup-check    administer
    backup-download     administer      backup-stage    administer
    backup-decide       administer      backup-seen     administer
    retention           administer      retention-delete administer
    encryption          administer      encryption-prepare administer
    encryption-confirm  administer      encryption-withdraw administer
    encryption-change   administer      encryption-recovery administer
    account             view            remove-pin      view
    log-in-end          view            log-ins-end-others view
    lock                view            unlock          view
    lock-state          view            held            view
    log-ins             administer      recovery-code   administer
    recovery-code-kept  administer
"""
#: Of other programs: a token of theirs lets them in, never a session (test_api.py proves it).
BY_TOKEN = {"api", "api-document"}
#: Open to whoever reaches the server, because nobody can be logged in yet.
OPEN_PAGES = {
    "healthz", "metrics", "set-up", "log-in", "log-out", "choose-language", "join", "recover",
    *BY_TOKEN,
}  # fmt: skip
#: Pages that change something and need no more than "view": it is the person's own.
OWN_AFFAIRS = {
    "password", "account", "remove-pin", "log-in-end", "log-ins-end-others", "lock", "unlock",
    "lock-state", "held",
}  # fmt: skip


def names() -> list[str]:
    return [str(pattern.name) for pattern in patterns()]


def declared(name: str) -> str | None:
    (pattern,) = (pattern for pattern in patterns() if pattern.name == name)
    return getattr(pattern.callback, "permission", None)


def table(text: str) -> list[list[str]]:
    return [re.split(r"\s*\|\s*|\s+", line.strip()) for line in text.strip().splitlines()]


def in_table(name: str) -> str | None:
    words = PAGES.split()
    return dict(zip(words[::2], words[1::2], strict=True)).get(name)


@pytest.fixture
def address():
    """Where a page is, about things that are there."""
    study = answered()
    known = {
        "number": study.number,
        "pk": study.instances.get().pk,
        "code": "wrong-code",
    }

    def of(name: str) -> str:
        (pattern,) = (pattern for pattern in patterns() if pattern.name == name)
        given = {
            word: known.get(word, 1 if "Int" in type(converter).__name__ else "1")
            for word, converter in pattern.pattern.converters.items()
        }
        return reverse(name, kwargs=given)

    return of


@pytest.fixture
def everybody(site) -> dict[str, User]:
    return {role: enter(role) for role in ROLES}


def outcome(response: HttpResponse) -> str:
    """What became of somebody who knocked: "in", "no", or sent to another page."""
    if response.status_code == 403:
        return "no"
    if response.status_code == 302 and response["Location"].split("?")[0] in ("/log-in", "/set-up"):
        return response["Location"].split("?")[0]
    return "in"


def knock(client: Client, method: str, address: str):
    """Ask; what the page itself makes of an empty form is not asked here."""
    client.raise_request_exception = False
    return client.generic(method, address)


METHODS = ("GET", "POST")


class TestEveryPage:
    def test_the_walk_finds_the_pages(self):
        assert {"worklist", "study", "log-in", "people", "healthz"} <= set(names())
        assert len(set(names())) == len(names())

    @pytest.mark.parametrize("name", names())
    def test_it_declares_a_permission(self, name):
        assert declared(name) in {OPEN, *Permission}, f"{name}: say @requires or @open_to_all"

    def test_no_other_page_is_open_to_all(self):
        assert {name for name in names() if declared(name) == OPEN} == OPEN_PAGES

    @pytest.mark.parametrize("name", [name for name in names() if in_table(name)])
    def test_its_permission_is_that_of_the_table(self, name):
        assert declared(name) == in_table(name)

    def test_every_page_of_the_table_is_there(self):
        assert set(PAGES.split()[::2]) <= set(names())

    @pytest.mark.parametrize("name", [name for name in names() if name not in OPEN_PAGES])
    def test_it_lets_in_whom_the_table_lets_in(self, everybody, address, name):
        allowed = dict(zip(ROLES, answers_of(str(declared(name))), strict=True))

        found = {
            (role, method): outcome(knock(browser_of(everybody[role]), method, address(name)))
            for role in ROLES
            for method in METHODS
        }
        assert found == {key: "in" if allowed[key[0]] == "yes" else "no" for key in found}

    @pytest.mark.parametrize("name", [name for name in names() if name not in OPEN_PAGES])
    def test_it_sends_nobody_to_the_log_in(self, site, address, name):
        found = [outcome(knock(Client(), method, address(name))) for method in METHODS]
        assert found == ["/log-in"] * len(METHODS)

    @pytest.mark.parametrize("name", [name for name in names() if name not in OPEN_PAGES])
    def test_before_set_up_it_sends_everybody_there(self, db, address, name):
        for client in (Client(), browser_of(enter(Role.ADMINISTRATOR))):
            assert outcome(knock(client, "GET", address(name))) == "/set-up"

    @pytest.mark.parametrize("name", [name for name in names() if name not in OPEN_PAGES])
    def test_it_lets_nobody_in_who_may_not_log_in_any_more(self, everybody, address, name):
        client = browser_of(everybody[Role.ADMINISTRATOR])
        User.objects.update(is_active=False)

        assert outcome(knock(client, "GET", address(name))) == "/log-in"

    @pytest.mark.parametrize(
        "name", [n for n in names() if n not in OPEN_PAGES | OWN_AFFAIRS and declared(n) == "view"]
    )
    def test_what_needs_no_more_than_view_changes_nothing(self, client, address, name):
        assert knock(client, "POST", address(name)).status_code == 405

    @pytest.mark.parametrize("name", sorted({*names()} - {"healthz", "api"}))
    def test_no_form_is_taken_from_another_site(self, administrator, address, name):
        client = Client(enforce_csrf_checks=True)
        client.force_login(administrator)

        response = client.post(address(name), headers={"Origin": "http://elsewhere.example"})
        assert response.status_code == 403
        assert "This page was too old" in response.content.decode()


def answers_of(permission: str) -> list[str]:
    return next(line[1:] for line in table(WHO_MAY) if line[0] == permission)


class TestPermissions:
    @pytest.mark.parametrize("line", table(WHO_MAY), ids=lambda line: line[0])
    def test_roles_may_what_the_table_says(self, line):
        said = ["yes" if may(User(role=role), Permission(line[0])) else "no" for role in ROLES]
        assert said == line[1:]

    def test_the_table_knows_every_permission(self):
        assert {line[0] for line in table(WHO_MAY)} == set(Permission)

    def test_they_only_grow_from_read_only_to_administrator(self):
        assert set(ROLES) == set(PERMISSIONS) == set(Role)
        for lower, higher in pairwise(ROLES):
            assert PERMISSIONS[lower] < PERMISSIONS[higher]

    @pytest.mark.parametrize("permission", Permission)
    def test_who_may_not_log_in_or_has_no_known_role_may_nothing(self, permission):
        assert not may(None, permission)
        assert not may(User(role=Role.ADMINISTRATOR, is_active=False), permission)
        assert not may(User(role=""), permission)
        assert not may(User(role="owner"), permission)


class TestDeclaring:
    def test_a_view_that_declares_nothing_is_refused_to_everybody(self, rf: RequestFactory):
        def forgotten(_request: HttpRequest) -> HttpResponse:
            return HttpResponse("secret")

        with pytest.raises(ImproperlyConfigured, match="forgotten has no permission"):
            AccessMiddleware(forgotten).process_view(rf.get("/"), forgotten, (), {})

    def test_a_declared_view_says_so(self):
        def view(_request: HttpRequest) -> HttpResponse:
            return HttpResponse()

        assert requires(Permission.READ)(view).permission == Permission.READ
        assert open_to_all(view).permission == OPEN


class TestScripts:
    """What a script asks for is refused with a sentence that it can show."""

    JSON = {"Accept": "application/json"}

    def test_nobody_gets_401_and_the_way_to_the_log_in(self, site):
        response = Client().get(reverse("worklist-rows"), headers=self.JSON)

        assert response.status_code == 401
        assert "Log in" in response.json()["error"]
        assert response.json()["address"] == "/log-in?next=%2F"
        assert "no-store" in response["Cache-Control"]

    def test_before_set_up_it_gets_401_and_the_way_there(self, db):
        response = Client().post(reverse("upload"), headers=self.JSON)

        assert response.status_code == 401
        assert response.json() == {
            "error": "The program is not set up yet.",
            "address": "/set-up",
        }

    def test_who_may_not_gets_403(self, site):
        client = browser_of(enter(Role.READ_ONLY))
        response = client.post(reverse("upload"), headers=self.JSON)

        assert response.status_code == 403
        assert response.json()["error"] == "You are not allowed to do this. Ask an administrator."

    def test_an_old_page_gets_403(self, site):
        client = Client(enforce_csrf_checks=True)
        response = client.post(reverse("upload"), headers=self.JSON)

        assert response.status_code == 403
        assert "Reload it" in response.json()["error"]


class TestRefusedPages:
    def test_a_page_that_is_refused_says_so(self, site):
        response = browser_of(enter(Role.READ_ONLY)).get(reverse("people"))

        assert response.status_code == 403
        assert "This page is not open to you" in response.content.decode()

    def test_it_speaks_the_language_of_who_is_refused(self, site):
        client = browser_of(enter(Role.READ_ONLY, language="fr"))

        assert '<html lang="fr"' in client.get(reverse("people")).content.decode()

    def test_nobody_comes_back_to_the_page_after_the_log_in(self, site):
        response = Client().get("/?q=otieno")

        assert response["Location"] == "/log-in?next=%2F%3Fq%3Dotieno"
        assert "no-store" in response["Cache-Control"]

    def test_a_form_that_was_sent_too_late_leads_back_to_the_worklist(self, site):
        assert Client().post(reverse("upload"))["Location"] == "/log-in?next=%2F"

    def test_a_page_that_is_not_there_is_not_there_for_nobody_too(self, site):
        assert Client().get("/nothing").status_code == 404


class TestWithoutLogIn:
    """Single-user mode: for whoever sits at this computer, and for no other device."""

    @pytest.fixture
    def single(self, site) -> Site:
        site.single_user = True
        site.save()
        return site

    def test_whoever_sits_here_is_administrator(self, single):
        assert Client().get(reverse("people")).status_code == 200

    def test_one_user_stands_for_them_all(self, single):
        for _ in range(2):
            Client().get("/")

        user = User.objects.get()
        assert user.is_this_computer
        assert not user.has_usable_password()
        assert str(user) == "This computer"

    @pytest.mark.parametrize("door", [{FROM_LAN: True}, {"REMOTE_ADDR": "192.168.1.7"},
                                      {"REMOTE_ADDR": ""}, {"REMOTE_ADDR": "fe80::1"}])  # fmt: skip
    def test_another_device_has_to_log_in(self, single, door):
        assert outcome(Client(**door).get("/")) == "/log-in"
        assert not User.objects.exists()

    @pytest.mark.parametrize("header", ["X-Clinic-From-Lan", "X-Forwarded-For", "Remote-Addr"])
    def test_a_header_does_not_make_another_device_this_one(self, single, header):
        client = Client(REMOTE_ADDR="192.168.1.7")

        assert outcome(client.get("/", headers={header: "127.0.0.1"})) == "/log-in"

    def test_who_logged_in_on_another_device_is_who_they_are(self, single):
        client = Client(**{FROM_LAN: True})
        client.force_login(enter(Role.READ_ONLY))

        assert outcome(client.get("/")) == "in"
        assert outcome(client.get(reverse("people"))) == "no"

    def test_there_is_no_password_to_change(self, single):
        assert Client().get(reverse("password")).status_code == 404

    def test_the_menu_offers_no_log_out(self, single):
        assert "Log out" not in Client().get("/").content.decode()

    @pytest.mark.parametrize(
        ("meta", "here"),
        [
            ({"REMOTE_ADDR": "127.0.0.1"}, True),
            ({"REMOTE_ADDR": "127.8.8.8"}, True),
            ({"REMOTE_ADDR": "::1"}, True),
            ({"REMOTE_ADDR": "127.0.0.1", FROM_LAN: True}, False),
            ({"REMOTE_ADDR": "10.0.0.2"}, False),
            ({"REMOTE_ADDR": "127.0.0.1.example.org"}, False),
            ({"REMOTE_ADDR": ""}, False),
        ],
    )
    def test_it_knows_this_computer(self, rf: RequestFactory, meta, here):
        assert is_from_here(rf.get("/", **meta)) is here


class TestLeaving:
    def test_the_session_ends_at_the_log_out(self, client):
        stolen = client.cookies["clinic_session"].value
        client.post(reverse("log-out"))

        client.cookies["clinic_session"] = stolen
        assert outcome(client.get("/")) == "/log-in"

    def test_a_link_logs_nobody_out(self, client):
        assert client.get(reverse("log-out")).status_code == 405
        assert outcome(client.get("/")) == "in"

    def test_a_new_role_holds_at_once(self, site):
        user = enter(Role.ADMINISTRATOR)
        client = browser_of(user)
        User.objects.filter(pk=user.pk).update(role=Role.READ_ONLY)

        assert outcome(client.get(reverse("people"))) == "no"

    def test_a_new_password_ends_the_sessions_of_the_old_one(self, site):
        user = enter(Role.CLINICIAN)
        client = browser_of(user)
        user.set_password("another-lobe-entirely-52")
        user.save()

        assert outcome(client.get("/")) == "/log-in"


class TestInvitation:
    def test_it_lets_in_once(self, administrator):
        code = Invitation.issue(administrator)

        assert Invitation.redeem(code) == administrator
        assert Invitation.redeem(code) is None

    def test_it_lets_nobody_in_whose_log_in_was_switched_off(self, administrator):
        code = Invitation.issue(administrator)
        User.objects.update(is_active=False)

        assert Invitation.redeem(code) is None

    def test_the_code_is_not_in_the_database(self, administrator):
        code = Invitation.issue(administrator)

        assert code not in str(Invitation.objects.values())
