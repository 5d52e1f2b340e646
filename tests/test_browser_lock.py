"""The lock in the real Chromium: it covers the page when nobody is there, and gives it back."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.conf import settings
from django.db.models import F
from playwright.sync_api import Browser, BrowserContext, Page, expect

from app.models import LogIn, Patient, Role, Site, User
from tests.people import PASSWORD, browser_of, enter
from tests.studies import answered

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("data_dir"),
]

PIN = "4826"
MINUTE = 60_000


@pytest.fixture
def amina(site) -> User:
    user = enter(Role.ADMINISTRATOR, "amina", PASSWORD, full_name="Amina Otieno")
    browser_of(user).post("/account", {"password": PASSWORD, "pin": PIN, "pin_again": PIN})
    LogIn.objects.all().delete()
    user.refresh_from_db()
    return user


def logged_in(browser: Browser, live_server, user: User, **how: object) -> BrowserContext:
    name = settings.SESSION_COOKIE_NAME
    cookie = browser_of(user).cookies[name].value
    context = browser.new_context(base_url=live_server.url, **how)
    context.add_cookies([{"name": name, "value": cookie, "url": live_server.url}])
    return context


@pytest.fixture
def context(browser: Browser, live_server, amina) -> Iterator[BrowserContext]:
    context = logged_in(browser, live_server, amina)
    yield context
    context.close()


def opened(context: BrowserContext, address: str = "/settings") -> Page:
    """A page whose clock goes when the test says so."""
    page = context.new_page()
    page.clock.install()
    page.goto(address)
    return page


def nobody_is_there(page: Page, minutes: float = 11) -> None:
    """Time passes for the server and for the page."""
    LogIn.objects.update(seen_at=F("seen_at") - timedelta(minutes=minutes))
    page.clock.run_for(int(minutes * MINUTE))


def cover(page: Page):
    return page.get_by_role("dialog", name="Locked")


def open_with(page: Page, pin: str) -> None:
    page.get_by_label("PIN").fill(pin)
    page.get_by_role("button", name="Unlock").click()


def test_what_was_typed_is_there_again_after_the_pin(context):
    page = opened(context)
    page.get_by_label("Name of the clinic").fill("Kisoro, half typ")
    nobody_is_there(page)

    expect(cover(page)).to_be_visible()
    expect(page.get_by_label("Name of the clinic")).not_to_be_visible()
    assert page.title() == "Locked"
    open_with(page, PIN)

    expect(cover(page)).to_be_hidden()
    expect(page.get_by_label("Name of the clinic")).to_have_value("Kisoro, half typ")
    assert page.title() == "Settings"
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("The settings are saved.")).to_be_visible()
    assert Site.current().clinic_name == "Kisoro, half typ"


def test_a_passer_by_sees_no_patient_on_screen_or_paper(context):
    study = answered()
    study.change({"patient": Patient.objects.create(name="Okello Grace")}, by=None)
    page = opened(context, f"/studies/{study.number}/")
    nobody_is_there(page)
    expect(cover(page)).to_be_visible()

    for media in ("screen", "print"):
        page.emulate_media(media=media)
        assert "Okello" not in page.locator("body").inner_text()
    assert "Okello" not in page.title()
    page.reload()
    assert "Okello" not in page.content()


def test_nothing_below_is_reached_with_the_keyboard(context):
    page = opened(context)
    nobody_is_there(page)
    expect(page.get_by_label("PIN")).to_be_focused()

    for key in ["Tab"] * 6 + ["Escape", "Escape", "Tab"]:
        page.keyboard.press(key)
        assert page.evaluate(
            "document.activeElement === document.body || !!document.activeElement.closest('#lock')"
        )
    expect(cover(page)).to_be_visible()


def test_a_wrong_pin_is_told_and_after_five_the_password_is_asked_for(context):
    page = opened(context)
    nobody_is_there(page)
    expect(cover(page)).to_be_visible()
    for _ in range(5):
        open_with(page, "9999")
        expect(page.get_by_role("alert")).to_contain_text("This is not your PIN.")
        expect(page.get_by_label("PIN")).to_have_value("")

    expect(page.get_by_label("PIN")).to_be_hidden()
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    expect(cover(page)).to_be_hidden()


def test_hands_on_the_keyboard_keep_it_open(context):
    page = opened(context)
    for _ in range(4):
        nobody_is_there(page, 4)
        with page.expect_response("**/lock/state"):
            page.mouse.move(100, 100)
            page.mouse.move(200, 200)

    expect(cover(page)).to_be_hidden()


def test_work_in_another_window_keeps_it_open(context):
    page = opened(context)
    page.clock.run_for(9 * MINUTE)
    context.new_page().goto("/")
    with page.expect_response("**/lock/state"):
        page.clock.run_for(2 * MINUTE)

    expect(cover(page)).to_be_hidden()


def test_a_program_that_is_away_leaves_no_page_uncovered(context):
    page = opened(context)
    page.route("**/lock/**", lambda route: route.abort())
    page.clock.run_for(11 * MINUTE)

    expect(cover(page)).to_be_visible()
    open_with(page, PIN)
    expect(page.get_by_role("alert")).to_contain_text("does not answer")


def test_all_windows_open_together(context):
    one, other = opened(context), opened(context, "/")
    nobody_is_there(one)
    other.clock.run_for(11 * MINUTE)
    expect(cover(other)).to_be_visible()
    open_with(one, PIN)

    expect(cover(other)).to_be_hidden()


def test_a_page_of_who_was_logged_in_before_is_not_uncovered_for_the_next(context, live_server):
    brian = enter(Role.CLINICIAN, "brian", PASSWORD)
    page = opened(context)
    name = settings.SESSION_COOKIE_NAME
    cookie = browser_of(brian).cookies[name].value
    context.add_cookies([{"name": name, "value": cookie, "url": live_server.url}])
    with page.expect_navigation():
        page.clock.run_for(11 * MINUTE)

    assert "Amina" not in page.content()


def test_where_it_never_locks_no_page_has_the_script(context):
    Site.objects.update(lock_after=0)
    page = opened(context)

    assert page.locator("#lock").count() == 0


class TestWithoutScripts:
    @pytest.fixture
    def page(self, browser: Browser, live_server, amina) -> Iterator[Page]:
        context = logged_in(browser, live_server, amina, java_script_enabled=False)
        yield context.new_page()
        context.close()

    def test_a_form_that_came_too_late_is_sent_again_after_the_pin(self, page):
        page.goto("/settings")
        page.get_by_label("Name of the clinic").fill("Kisoro")
        LogIn.objects.update(seen_at=F("seen_at") - timedelta(minutes=11))
        page.get_by_role("button", name="Save").click()
        expect(page.get_by_text("is not saved yet")).to_be_visible()
        open_with(page, PIN)
        assert Site.current().clinic_name == ""
        page.get_by_role("button", name="Send it now").click()

        expect(page.get_by_text("The settings are saved.")).to_be_visible()
        assert Site.current().clinic_name == "Kisoro"
