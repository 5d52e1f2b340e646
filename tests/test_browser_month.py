"""The count sheet in the real Chromium: on paper, on a phone, without scripts, in Arabic."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.conf import settings
from django.urls import reverse
from playwright.sync_api import Browser, Page, expect

from app import month
from app.models import Study, User
from tests.people import browser_of
from tests.test_browser_report import pages_of
from tests.test_month import JULY, at, film

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("data_dir"),
]

ADDRESS = f"/month?month={JULY:%Y-%m}"
LAPTOP, PHONE = {"width": 1280, "height": 800}, {"width": 360, "height": 740}


@pytest.fixture(autouse=True)
def busy_month() -> None:
    """Every row that the sheet can have, with large counts in it."""
    for answer in (*month.ANSWERS, "waiting"):
        for age in (3.0, 9.0, 30.0, 70.0, None):
            for sex in month.SEXES:
                film(at(3), answer, age, sex)
    for reason in month.REASONS:
        film(at(4), "refused", reason=reason)
    Study.objects.filter(answer="waiting").update(answer="")


def open_page(
    browser: Browser, live_server, user: User, size: dict[str, int], **more: object
) -> Page:
    name = settings.SESSION_COOKIE_NAME
    value = browser_of(user).cookies[name].value
    context = browser.new_context(viewport=size, base_url=live_server.url, **more)
    context.add_cookies([{"name": name, "value": value, "url": live_server.url}])
    page = context.new_page()
    page.goto(ADDRESS)
    return page


@pytest.fixture
def page(browser, live_server, administrator) -> Iterator[Page]:
    page = open_page(browser, live_server, administrator, LAPTOP)
    yield page
    page.context.close()


@pytest.mark.parametrize("language", ["en", "fr", "ar", "hi"])
def test_the_fullest_month_fills_one_sheet_of_a4(browser, live_server, administrator, language):
    administrator.language = language
    administrator.save()
    page = open_page(browser, live_server, administrator, LAPTOP)

    pages = pages_of(page.pdf(prefer_css_page_size=True, print_background=True))
    page.context.close()

    assert len(pages) == 1
    assert pages[0] == pytest.approx((210, 297), abs=1)


def test_only_the_sheet_is_printed(page):
    page.emulate_media(media="print")

    expect(page.locator(".month")).to_be_visible()
    for left_out in (".top", ".foot", ".month-tools", ".month-films"):
        expect(page.locator(left_out)).to_be_hidden()


@pytest.mark.parametrize("language", ["en", "ar"])
def test_it_fits_a_phone(browser, live_server, administrator, language):
    administrator.language = language
    administrator.save()
    page = open_page(browser, live_server, administrator, PHONE)

    assert not page.evaluate("document.documentElement.scrollWidth > innerWidth")
    wide = page.locator(".month__wide")
    assert language != "en" or not wide.evaluate("e => e.scrollWidth > e.clientWidth")
    page.context.close()


def test_both_tables_are_saved_as_files(page):
    for words, name in (
        ("Save as table (CSV)", "month-2026-07.csv"),
        ("Save the table", "films.csv"),
    ):
        with page.expect_download() as downloading:
            page.get_by_text(words, exact=True).click()
        assert downloading.value.suggested_filename == name


def test_a_month_is_chosen_without_a_script(browser, live_server, administrator):
    page = open_page(browser, live_server, administrator, LAPTOP, java_script_enabled=False)
    page.get_by_label("Month").fill("2026-06")
    page.get_by_role("button", name="Show").click()

    expect(page.get_by_role("heading", name="Counts of June 2026")).to_be_visible()
    expect(page.get_by_role("button", name="Print or save as PDF")).to_be_hidden()
    assert reverse("month") in page.url
    page.context.close()
