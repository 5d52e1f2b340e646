"""Is it right here? In the real Chromium: on a laptop, on a phone, printed, by the keyboard."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from playwright.sync_api import Browser, Page, expect

from app import checks, review
from app.active_model import ActiveModel
from app.cxr import release as release_module
from app.models import LocalOperatingPoint
from tests.people import browser_of, enter
from tests.readings import read_studies
from tests.test_accessibility import grave_faults
from tests.test_pages_review import LABEL, measured, overlapping
from tests.tiny_release import make_release

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("clinic"),
]

SIZES = {"laptop": {"width": 1366, "height": 768}, "phone": {"width": 360, "height": 740}}


@pytest.fixture
def clinic(data_dir, tmp_path, monkeypatch) -> Iterator[Path]:
    """A clinic at work with the tiny release: a proposal for children, a warning for them too."""
    folder = measured(make_release(tmp_path / "factory"))
    monkeypatch.setattr(release_module, "FACTORY_DIRECTORY", folder)
    monkeypatch.setattr(checks, "model", ActiveModel(data_dir))
    review.forget()
    yield data_dir
    review.forget()


@pytest.fixture
def work(administrator) -> Any:
    """Studies enough for every part of the page; some before this month."""
    reader = enter("clinician", "reader")
    overlapping(reader)
    read_studies(reader, "no_pneumonia", [0.7] * 60, model=LABEL)
    read_studies(reader, "other", [0.7, 0.2], model=LABEL, age=40.0)
    read_studies(reader, "", [None, 0.4], model=LABEL, age=None)
    read_studies(reader, "pneumonia", [0.9], model="older@1.0.0")
    return administrator


def open_page(browser: Browser, live_server, user, size: str, path: str = "/review") -> Page:
    name = settings.SESSION_COOKIE_NAME
    cookie = browser_of(user).cookies[name].value
    context = browser.new_context(viewport=SIZES[size], base_url=live_server.url)
    context.add_cookies([{"name": name, "value": cookie, "url": live_server.url}])
    page = context.new_page()
    page.set_default_timeout(30_000)
    page.goto(path)
    return page


def overflows(page: Page) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth > innerWidth"))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("path", ["/review", "/review?band=under_5", "/review/change/under_5"])
def test_nothing_hangs_over_the_edge(browser, live_server, work, size, path):
    page = open_page(browser, live_server, work, size, path)
    assert not overflows(page)
    for summary in page.locator(".review__more summary").all():
        summary.click()
    assert not overflows(page)
    page.context.close()


@pytest.mark.parametrize("size", SIZES)
def test_charts_are_drawn_inside_their_frames_and_with_letters_to_read(
    browser, live_server, work, size
):
    page = open_page(browser, live_server, work, size)
    charts = page.locator(".chart__picture")
    assert charts.count() >= 3
    for chart in charts.all():
        frame = chart.bounding_box()
        assert frame["width"] > 200
        for mark in chart.locator(".chart__mark").all():
            box = mark.bounding_box()
            middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
            assert frame["x"] - 1 <= middle[0] <= frame["x"] + frame["width"] + 1
            assert frame["y"] <= middle[1] <= frame["y"] + frame["height"]
    letters = page.evaluate(
        "[...document.querySelectorAll('.chart__label')].map(e => e.getBoundingClientRect().height)"
    )
    assert min(letters) >= 10
    page.context.close()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("path", ["/review", "/review/change/under_5"])
def test_axe_finds_no_serious_fault_with_everything_unfolded(
    browser, live_server, work, size, path
):
    page = open_page(browser, live_server, work, size, path)
    for summary in page.locator(".review__more summary").all():
        summary.click()
    assert grave_faults(page) == []
    page.context.close()


def test_right_to_left_the_page_mirrors_and_the_charts_still_count_from_the_left(
    browser, live_server, work
):
    page = open_page(browser, live_server, work, "phone")
    page.evaluate("document.documentElement.dir = 'rtl'")
    assert not overflows(page)
    scale = page.locator(".chart--calibration .chart__tick:not(.chart__tick--minor)")
    places = [tick.bounding_box()["x"] for tick in scale.all()]
    assert places == sorted(places)
    page.context.close()


def test_an_administrator_sees_the_mark_opens_the_page_and_applies_and_undoes_a_threshold(
    browser, live_server, work
):
    page = open_page(browser, live_server, work, "laptop", "/")
    expect(page.locator(".menu__warned")).to_be_visible()
    page.locator(".menu__button").click()
    page.locator(".menu__list a", has_text="Is it right here?").click()
    expect(page.locator(".review__warning").first).to_contain_text("under 5 years")

    page.get_by_role("link", name="See what would change").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#flips")).to_contain_text("would have been answered otherwise")
    page.get_by_role("button", name="Apply").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_text("Applied.")).to_be_visible()
    applied = LocalOperatingPoint.objects.get()
    assert checks.model.release.operating_point(3).threshold == applied.threshold

    page.get_by_role("button", name="Undo").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_text("Undone.")).to_be_visible()
    assert checks.model.release.operating_point(3).threshold == 0.3
    page.context.close()


def test_it_prints_without_its_buttons(browser, live_server, work):
    page = open_page(browser, live_server, work, "laptop")
    page.emulate_media(media="print")
    expect(page.locator(".review__lead")).to_be_visible()
    expect(page.locator(".chart__picture").first).to_be_visible()
    for hidden in (".top", ".review__links", ".review form"):
        for part in page.locator(hidden).all():
            expect(part).to_be_hidden()
    page.context.close()


def test_the_table_is_saved_as_a_file(browser, live_server, work):
    page = open_page(browser, live_server, work, "laptop")
    with page.expect_download() as download:
        page.get_by_role("link", name="Copy the table").click()
    text = download.value.path().read_text()
    assert download.value.suggested_filename == "is-it-right-here.csv"
    assert text.count("\n") == 1 + 264
    page.context.close()
