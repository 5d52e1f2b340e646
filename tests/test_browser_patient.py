"""Whose a study is, entered in the real Chromium: by keyboard alone, on a telephone, in Arabic."""

from __future__ import annotations

import os
import re
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from model_export.phantom import chest_film
from tests.films import encode
from tests.running import ROOT, Visitor, serving

pytestmark = pytest.mark.browser

LAPTOP = {"width": 1366, "height": 768}
PHONE = {"width": 360, "height": 740}
SIZES = [pytest.param(LAPTOP, id="laptop"), pytest.param(PHONE, id="phone")]
NAME = "أمينة عثمان \U0001f600"


@pytest.fixture(scope="module")
def visitor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Visitor]:
    """The program without log-in, on a data directory that these tests share."""
    home = tmp_path_factory.mktemp("patients")
    command = [sys.executable, str(ROOT / "run_clinic.py")]
    with serving(command, {**os.environ, "CLINIC_HOME": str(home)}) as (visitor, _):
        yield visitor


@pytest.fixture
def study(visitor: Visitor, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """The address of a study with one film that is answered."""
    return put_in(visitor, tmp_path, request.node.nodeid)


def put_in(visitor: Visitor, folder: Path, name: str) -> str:
    film = folder / "film.png"
    # Every test its own film: the same bytes would be the same study
    film.write_bytes(encode(chest_film(zlib.crc32(name.encode()), (420, 400)), "PNG"))
    path = visitor.upload(film).partition("?")[0]
    visitor.wait_for_answer(path)
    return visitor.address + path


@contextmanager
def opened(browser: Browser, address: str, **more: object) -> Iterator[Page]:
    """A page, and at its end that the console had nothing to complain about."""
    page = browser.new_context(**{"viewport": LAPTOP, **more}).new_page()
    page.set_default_timeout(30_000)
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(address)
    yield page
    assert complaints == []
    page.context.close()


def save(page: Page) -> None:
    page.locator("[name=save]").click()


def fits(page: Page) -> bool:
    return bool(
        page.evaluate(
            "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
        )
    )


def tab_to(page: Page, what: str) -> None:
    """Press Tab until that has the focus."""
    for _ in range(80):
        page.keyboard.press("Tab")
        if page.evaluate("what => document.activeElement.matches(what)", what):
            return
    raise AssertionError(f"the Tab key never reached {what}")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("language", ["en", "ar"])
def test_a_patient_is_entered_and_shown(browser, study, size, language):
    with opened(browser, study + "edit", viewport=size, locale=language) as page:
        direction = page.evaluate("document.documentElement.dir")
        assert direction == ("rtl" if language == "ar" else "ltr")
        page.fill("[name=name]", NAME)
        page.fill("[name=birth_date]", "2019-05-31")
        page.check("[name=consent][value=yes]")
        assert fits(page)
        save(page)

        ask = page.locator("[name=surely]")
        page.wait_for_load_state()
        if ask.is_visible():  # an earlier test entered the same name
            ask.click()
        page.wait_for_url(study)
        expect(page.locator("#patient bdi").first).to_have_text(NAME)
        assert fits(page)
        page.locator("#patient a[href*='/patients/']").click()
        expect(page.locator("h1")).to_have_text(NAME)
        assert fits(page)


def test_everything_is_done_with_the_keyboard_alone(browser, study):
    with opened(browser, study) as page:
        tab_to(page, "#patient a[href$='/edit']")
        page.keyboard.press("Enter")
        page.wait_for_url("**/edit")
        tab_to(page, "[name=name]")
        page.keyboard.type("Keyboard Otieno")
        tab_to(page, "[name=age]")
        page.keyboard.type("200")
        page.keyboard.press("Enter")
        expect(page.locator(".field__error")).to_have_text("The age cannot be above 130 years.")
        expect(page.locator("[name=name]")).to_have_value("Keyboard Otieno")
        expect(page.locator("[name=age]")).to_have_value("200")

        tab_to(page, "[name=age]")
        page.keyboard.press("Control+a")
        page.keyboard.type("4")
        tab_to(page, "[name=save]")
        page.keyboard.press("Enter")
        page.wait_for_url(study)
        expect(page.locator("#patient")).to_contain_text("Keyboard Otieno")
        expect(page.locator("#patient")).to_contain_text("4 years")


@pytest.mark.parametrize("scripts", [True, False])
def test_a_patient_who_is_here_is_found_and_chosen(browser, visitor, study, tmp_path, scripts):
    name = f"Zainab Chosen {scripts}"
    other = put_in(visitor, tmp_path, f"another film {scripts}")
    with opened(browser, other + "edit") as page:
        page.fill("[name=name]", name)
        page.fill("[name=number]", f"Z-{scripts}")
        save(page)
        page.wait_for_url(other)

    with opened(browser, study + "edit", java_script_enabled=scripts) as page:
        page.fill("[name=note]", "typed before the search")
        search = page.locator("#q")
        if scripts:
            search.press_sequentially(f"zainab z-{scripts}")
        else:
            search.fill(f"zainab z-{scripts}")
            search.press("Enter")
        page.locator("#found").get_by_role("button", name="Choose").click()
        expect(page.locator("[name=name]")).to_have_value(name)
        expect(page.locator("[name=note]")).to_have_value("typed before the search")
        save(page)
        page.wait_for_url(study)
        expect(page.locator(".visits .visit")).to_have_count(1)
        stamp = page.locator(".visits img")
        expect(stamp).to_be_visible()
        if scripts:
            page.locator(".visit__beside").click()
            for pane in ("#first", "#second"):
                expect(page.locator(pane)).to_have_attribute("data-shown", re.compile(r"\d"))


def test_the_enter_key_in_the_search_sends_nothing_else(browser, study):
    with opened(browser, study + "edit") as page:
        page.fill("[name=name]", "Half typed")
        page.fill("#q", "nobody of this name")
        page.press("#q", "Enter")
        expect(page.locator("#found")).to_contain_text("No patient here")
        expect(page.locator("[name=name]")).to_have_value("Half typed")
        assert page.url == study + "edit"


def test_two_people_on_one_study_lose_nothing(browser, study):
    with opened(browser, study + "edit") as one, opened(browser, study + "edit") as two:
        one.fill("[name=note]", "of the first")
        one.check("[name=consent][value=no]")
        save(one)
        one.wait_for_url(study)
        two.fill("[name=note]", "of the second")
        save(two)
        expect(two.locator(".words__error")).to_contain_text("Somebody else changed this")
        expect(two.locator(".field__error").filter(has_text="of the first")).to_be_visible()
        expect(two.locator("[name=note]")).to_have_value("of the second")
        expect(two.locator("[name=consent][value=no]")).to_be_checked()
        save(two)
        two.wait_for_url(study)
        expect(two.locator("#patient")).to_contain_text("of the second")


def test_a_double_click_enters_one_patient(browser, study):
    with opened(browser, study + "edit") as page:
        page.fill("[name=name]", "Double Click")
        page.locator("[name=save]").dblclick()
        page.wait_for_url(study)
        page.locator("#patient a[href*='/patients/']").click()
        expect(page.locator(".patient__same")).to_contain_text("Nobody else here")


def test_the_back_button_shows_what_was_saved_and_overwrites_nothing(browser, study):
    with opened(browser, study + "edit") as page:
        page.fill("[name=name]", "Back Button")
        save(page)
        page.wait_for_url(study)
        page.go_back()
        page.wait_for_url("**/edit")
        page.fill("[name=note]", "after going back")
        save(page)
        page.wait_for_load_state()
        if page.url != study:  # the browser had kept the old page: it is told, and saves the rest
            expect(page.locator("[name=name]")).to_have_value("Back Button")
            save(page)
        page.wait_for_url(study)
        expect(page.locator("#patient")).to_contain_text("Back Button")
        expect(page.locator("#patient")).to_contain_text("after going back")


def test_an_answer_for_another_age_is_given_again(browser, study):
    with opened(browser, study + "edit") as page:
        page.fill("[name=age]", "70")
        save(page)
        page.wait_for_url(study)
        expect(page.locator(".whose__age")).to_contain_text("Now it is: 70 years")
        page.get_by_role("button", name="Analyse again").click()
        page.wait_for_url(study)
        expect(page.locator(".facts", has_text="Age used")).to_contain_text("70 years")
        page.reload()
        expect(page.locator(".whose__age")).to_have_count(0)


@pytest.mark.parametrize("size", SIZES)
def test_duplicates_are_compared_and_merged(browser, visitor, study, tmp_path, size):
    name = f"Merge {size['width']} Me"
    other = put_in(visitor, tmp_path, f"film of the other, {size['width']}")
    with opened(browser, study + "edit", viewport=size) as page:
        for address in (study, other):
            page.goto(address + "edit")
            page.fill("[name=name]", name)
            save(page)
            page.wait_for_load_state()
        page.locator("[name=surely]").click()
        page.wait_for_url(other)
        page.locator("#patient a[href*='/patients/']").click()
        page.get_by_role("link", name="Compare and merge").click()
        expect(page.locator(".merge__one img")).to_have_count(2)
        assert fits(page)
        page.get_by_label("This one stays").first.check()
        page.get_by_role("button", name="Merge the two").click()
        expect(page.locator(".visits--all .visit")).to_have_count(2)
        assert fits(page)


@pytest.mark.parametrize("size", SIZES)
def test_a_study_is_deleted_with_a_reason(browser, study, size):
    with opened(browser, study, viewport=size) as page:
        page.get_by_role("link", name="Delete this study").click()
        expect(page.locator(".lost")).to_contain_text("1 film")
        assert fits(page)
        page.fill("[name=reason]", "اسم خاطئ")
        page.check("[name=sure]")
        page.get_by_role("button", name="Delete for good").click()
        expect(page.locator(".notice")).to_contain_text("is deleted")
        page.goto(study)
        expect(page.locator("h1")).to_have_text("This study was deleted")
        expect(page.locator("main")).to_contain_text("اسم خاطئ")
        assert fits(page)


def test_a_page_that_waits_hears_that_its_study_was_deleted(browser, study):
    with opened(browser, study) as page:
        page.route("**/status", lambda route: route.fulfill(status=404))
        deleted = re.compile("This study was deleted")
        page.route(study, lambda route: route.fulfill(body="<h1>This study was deleted</h1>"))
        page.evaluate("document.getElementById('films').dataset.unfinished = ''")
        page.add_script_tag(url="/static/clinic/study.js")
        expect(page.locator("h1")).to_have_text(deleted)


@pytest.mark.parametrize("size", SIZES)
def test_the_longest_name_breaks_no_page(browser, study, size):
    with opened(browser, study + "edit", viewport=size) as page:
        page.fill("[name=name]", "W" * 200)
        page.fill("[name=note]", "x" * 300)
        save(page)
        page.wait_for_load_state()
        if page.locator("[name=surely]").is_visible():
            assert fits(page)
            page.locator("[name=surely]").click()
        page.wait_for_url(study)
        assert fits(page)
        page.locator("#patient a[href*='/patients/']").click()
        page.wait_for_url("**/patients/*/")
        assert fits(page)
