"""First start, log-in and help in the real Chromium, at a laptop's and at a phone's size."""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Iterator

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from model_export.phantom import page_of_text
from tests.people import PASSWORD
from tests.running import ROOT, Visitor, serving
from tests.test_browser import LAPTOP, PHONE, STRICT, Complaints, overflows, put_in, visit

pytestmark = pytest.mark.browser

SIZES = [pytest.param(LAPTOP, id="laptop"), pytest.param(PHONE, id="phone")]
HELP = ("", "films", "answer", "cannot-say", "refusals", "signs", "readings", "viewer", "roles",
        "backups", "updates", "model")  # fmt: skip


@pytest.fixture
def untouched(tmp_path) -> Iterator[str]:
    """The program as it is after the very first start."""
    environment = {**os.environ, "CLINIC_HOME": str(tmp_path)}
    command = [sys.executable, str(ROOT / "run_clinic.py")]
    with serving(command, environment, set_up=False) as (visitor, _):
        yield visitor.address


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> Iterator[str]:
    """The program, set up with an administrator, shared by the tests that only look."""
    environment = {**os.environ, "CLINIC_HOME": str(tmp_path_factory.mktemp("shared"))}
    command = [sys.executable, str(ROOT / "run_clinic.py")]
    with serving(command, environment, set_up=False) as (visitor, _):
        administrator = {"username": "amina", "password1": PASSWORD, "password2": PASSWORD}
        visitor.post("/set-up", understood="on", mode="accounts", **administrator)
        yield visitor.address


def log_in(page: Page, password: str = PASSWORD) -> None:
    page.goto("/log-in")
    page.get_by_label("User name").fill("Amina")
    page.get_by_label("Password", exact=True).fill(password)
    page.get_by_role("button", name="Log in").click()


@pytest.fixture
def logged_in(browser: Browser, address: str) -> Iterator[Page]:
    page, complaints = visit(browser, address), Complaints()
    complaints.listen_to(page, address)
    log_in(page)
    yield page
    page.context.close()
    assert complaints == []


def sources(page: Page) -> list[str]:
    return list(page.evaluate("[...document.images].map(image => image.src)"))


def keys(page: Page, *names: str) -> None:
    for name in names:
        page.keyboard.press(name)


class TestWizard:
    @pytest.mark.parametrize("size", SIZES)
    def test_it_leads_to_the_worklist_step_by_step(self, browser, untouched, size):
        page, complaints = visit(browser, untouched, size), Complaints()
        complaints.listen_to(page, untouched)
        page.goto("/")
        on = page.get_by_role("button", name="Next")

        expect(page.locator("[aria-current=step]")).to_have_text("Language")
        on.click()
        expect(page.get_by_role("heading", level=2)).to_have_text(re.compile("what it is not"))
        assert not overflows(page)
        page.get_by_label(re.compile("I have read this")).check()
        on.click()
        page.get_by_label("Name of the clinic").fill("Kisoro clinic")
        on.click()
        assert not overflows(page)
        page.get_by_label("Your user name").fill("amina")
        page.get_by_label("Password", exact=True).fill(PASSWORD)
        page.get_by_label("The password again").fill(PASSWORD)
        page.get_by_role("button", name="Begin").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Recovery code")
        assert not overflows(page)
        page.get_by_role("button", name="I have written it down").click()

        expect(page.get_by_text("Put chest films here")).to_be_visible()
        expect(page.locator(".menu__button")).to_contain_text("amina")
        assert complaints == []

    def test_what_the_program_is_not_cannot_be_passed_unread(self, browser, untouched):
        page = visit(browser, untouched)
        page.goto("/")
        on = page.get_by_role("button", name="Next")
        on.click()
        on.click()

        expect(page.locator("[aria-current=step]")).to_have_text("What this is")
        assert page.evaluate("document.activeElement.name") == "understood"

    def test_it_can_be_done_with_the_keyboard_alone(self, browser, untouched):
        page = visit(browser, untouched)
        page.goto("/")
        page.get_by_label("Language of the pages").focus()
        keys(page, "Tab", "Enter", "Tab", "Space", "Enter")
        expect(page.locator("[aria-current=step]")).to_have_text("Clinic")
        keys(page, "Tab", "K", "Enter")
        expect(page.locator("[aria-current=step]")).to_have_text("Administrator")
        keys(page, "Tab")
        page.keyboard.type("amina")
        keys(page, "Tab", "Tab")
        page.keyboard.type(PASSWORD)
        keys(page, "Tab")
        page.keyboard.type(PASSWORD)
        keys(page, "Enter")
        written = page.get_by_role("button", name="I have written it down")
        expect(written).to_be_visible()
        written.focus()
        keys(page, "Enter")

        expect(page.get_by_text("Put chest films here")).to_be_visible()

    def test_without_log_in_it_says_what_that_means(self, browser, untouched):
        page = visit(browser, untouched)
        page.goto("/")
        on = page.get_by_role("button", name="Next")
        on.click()
        page.get_by_label(re.compile("I have read this")).check()
        on.click()
        page.get_by_label(re.compile("Whoever sits at this computer")).check()
        on.click()
        expect(page.get_by_text("the record cannot say who did what")).to_be_visible()
        expect(page.get_by_label("Your user name")).to_be_hidden()
        page.get_by_role("button", name="Begin").click()

        expect(page.get_by_text("Put chest films here")).to_be_visible()

    def test_it_shows_the_step_in_which_something_is_wrong(self, browser, untouched):
        page = visit(browser, untouched)
        page.goto("/")
        on = page.get_by_role("button", name="Next")
        on.click()
        page.get_by_label(re.compile("I have read this")).check()
        on.click()
        page.get_by_label("Name of the clinic").fill("Kisoro clinic")
        on.click()
        page.get_by_label("Your user name").fill("am ina")
        page.get_by_role("button", name="Begin").click()

        expect(page.locator("[aria-current=step]")).to_have_text("Administrator")
        expect(page.get_by_text("and no space")).to_be_visible()
        page.get_by_role("button", name="Back").click()
        expect(page.get_by_label("Name of the clinic")).to_have_value("Kisoro clinic")

    def test_a_language_is_chosen_before_anything_else(self, browser, untouched):
        page = visit(browser, untouched)
        page.goto("/")
        page.get_by_label("Language of the pages").select_option("ar")

        expect(page.locator("html")).to_have_attribute("dir", "rtl")
        expect(page.locator("html")).to_have_attribute("lang", "ar")
        assert not overflows(page)

    def test_it_works_without_scripts(self, browser, untouched):
        page = visit(browser, untouched, PHONE, java_script_enabled=False)
        page.goto("/")
        page.get_by_label("Language of the pages").select_option("fr")
        page.locator("#choose-language button").click()
        expect(page.locator("html")).to_have_attribute("lang", "fr")
        page.locator("[name=understood]").check()
        page.locator("[name=mode][value=single_user]").check()
        page.locator("#set-up button").click()

        expect(page.locator("#films")).to_be_attached()
        expect(page.locator("html")).to_have_attribute("lang", "fr")

    def test_it_holds_under_a_strict_content_security_policy(self, browser, untouched):
        page, complaints = visit(browser, untouched), Complaints()
        complaints.listen_to(page, untouched)

        def strictly(route):
            response = route.fetch()
            headers = {**response.headers, "content-security-policy": STRICT}
            route.fulfill(response=response, headers=headers)

        page.route(re.compile("/set-up$"), strictly)
        page.goto("/")
        page.get_by_role("button", name="Next").click()
        expect(page.locator("[aria-current=step]")).to_have_text("What this is")
        assert complaints == []


class TestLogIn:
    def test_one_logs_in_and_out(self, browser, address):
        page = visit(browser, address)
        page.goto("/people")
        assert page.url.endswith("/log-in?next=%2Fpeople")
        page.get_by_label("User name").fill("Amina")
        page.get_by_label("Password", exact=True).fill(PASSWORD)
        page.keyboard.press("Enter")

        expect(page.get_by_role("heading", name="People")).to_be_visible()
        page.locator(".menu__button").click()
        page.get_by_role("button", name="Log out").click()
        expect(page.get_by_role("heading", name="Log in")).to_be_visible()
        page.go_back()
        page.reload()
        expect(page.get_by_role("heading", name="Log in")).to_be_visible()

    @pytest.mark.parametrize("size", SIZES)
    def test_a_wrong_password_is_said_in_words(self, browser, address, size):
        page = visit(browser, address, size)
        log_in(page, "wrong-right-lower")

        expect(page.get_by_role("alert")).to_contain_text("do not belong together")
        assert not overflows(page)

    @pytest.mark.parametrize("size", SIZES)
    @pytest.mark.parametrize("path", ["/people", "/people/new", "/audit", "/settings", "/password"])
    def test_the_pages_of_the_administrator_fit(self, browser, address, size, path):
        page = visit(browser, address, size)
        log_in(page)
        page.goto(path)

        expect(page.get_by_role("heading", level=1)).to_have_count(1)
        assert not overflows(page)


class TestHelp:
    @pytest.fixture(scope="class")
    @staticmethod
    def refused(address: str, tmp_path_factory) -> str:
        """The path of a study of a page of text."""
        visitor = Visitor(address)
        visitor.post("/log-in", username="amina", password=PASSWORD)
        film = tmp_path_factory.mktemp("films") / "page.png"
        Image.fromarray(page_of_text(1)).save(film)
        study = visitor.upload(film)
        visitor.wait_for_answer(study)
        return study

    @pytest.mark.parametrize("size", SIZES)
    def test_every_page_fits_and_its_pictures_are_drawn(self, browser, address, size):
        page, complaints = visit(browser, address, size), Complaints()
        complaints.listen_to(page, address)
        log_in(page)
        for name in HELP:
            page.goto(f"/help/{name}")
            page.evaluate("document.querySelectorAll('img').forEach(i => { i.loading = 'eager'; })")
            page.evaluate("Promise.allSettled([...document.images].map(i => i.decode()))")

            assert not overflows(page), name
            broken = "[...document.images].filter(i => !i.naturalWidth).map(i => i.src)"
            assert page.evaluate(broken) == []
            kinds = {page.request.get(src).headers["content-type"] for src in sources(page)}
            assert kinds <= {"image/webp"}
        assert complaints == []

    @pytest.mark.parametrize("size", SIZES)
    def test_a_refusal_leads_to_its_place_in_the_manual(self, browser, address, refused, size):
        page = visit(browser, address, size)
        log_in(page)
        page.goto(refused)
        expect(page.get_by_role("heading", name="What should I do now?")).to_be_visible()
        page.get_by_role("link", name="More about this, with a picture").click()

        page.wait_for_url("**/help/refusals#page_of_text")
        expect(page.locator("#page_of_text h3")).to_be_in_viewport()

    @pytest.mark.parametrize(
        ("path", "words", "topic"),
        [("/", "Help: putting a film in", "films"), (None, "Help: reading the answer", "answer"),
         ("view", "Help: the viewer", "viewer")],
    )  # fmt: skip
    def test_the_question_mark_leads_to_the_fitting_page(
        self, logged_in, refused, path, words, topic
    ):
        logged_in.goto({None: refused, "view": f"{refused}view"}.get(path, path))
        logged_in.get_by_role("link", name=words).click()

        logged_in.wait_for_url(f"**/help/{topic}")

    def test_it_is_reached_from_the_menu_by_keyboard(self, logged_in):
        logged_in.goto("/")
        logged_in.locator(".menu__button").focus()
        keys(logged_in, "Enter")
        logged_in.get_by_role("link", name="Help", exact=True).focus()
        keys(logged_in, "Enter")

        expect(logged_in.get_by_role("heading", level=1)).to_have_text("Help")

    def test_it_mirrors_for_a_language_that_reads_from_the_right(self, logged_in):
        for name in HELP:
            logged_in.goto(f"/help/{name}")
            logged_in.evaluate("document.documentElement.dir = 'rtl'")
            assert not overflows(logged_in), name

    def test_put_in_films_are_unhurt_by_the_question_mark(self, logged_in):
        content = io.BytesIO()
        Image.fromarray(page_of_text(2)).save(content, "PNG")
        put_in(logged_in, ("again.png", content.getvalue()))

        logged_in.wait_for_url("**/studies/**")
        expect(logged_in.locator(".reading")).to_be_visible()
