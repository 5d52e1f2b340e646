"""A clinic's first minutes, in the real Chromium against the real server with the real model.

The films are drawn by code. Which answer the model gives such a film is its own affair: these tests
ask that there is one, and that the pages show it.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from app.cxr.analysis import analyse
from app.cxr.model import Model
from app.cxr.release import load_active
from model_export.phantom import chest_film
from tests.films import encode
from tests.running import ROOT, Visitor, serving

pytestmark = pytest.mark.browser

LAPTOP = {"width": 1366, "height": 768}
PHONE = {"width": 360, "height": 740}
ANSWER = re.compile("likely|unlikely|cannot_say")
STRICT = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'"
)
DROP = """([target, files]) => {
  const transfer = new DataTransfer();
  for (const [name, numbers] of files)
    transfer.items.add(new File([new Uint8Array(numbers)], name));
  for (const kind of ["dragenter", "dragover", "drop"])
    document.querySelector(target).dispatchEvent(
      new DragEvent(kind, { dataTransfer: transfer, bubbles: true, cancelable: true }));
}"""


@pytest.fixture(scope="module")
def films() -> list[bytes]:
    """Four drawn films that the shipped model takes for films of a chest, and answers."""
    model = Model.load(load_active(None))
    drawn = (encode(chest_film(seed, (512, 512)), "PNG") for seed in range(40))
    answered = [film for film in drawn if analyse(film, model).probability is not None]
    assert len(answered) >= 4, "the model answers hardly any drawn film"
    return answered[:4]


def program(home: Path) -> AbstractContextManager[tuple[Visitor, object]]:
    environment = {**os.environ, "CLINIC_HOME": str(home)}
    return serving([sys.executable, str(ROOT / "run_clinic.py")], environment)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The program, running on a data directory that these tests share."""
    with program(tmp_path_factory.mktemp("shared")) as (visitor, _):
        yield visitor.address


class Complaints(list[str]):
    """What the browser's console complains about, and every request for another machine."""

    def listen_to(self, page: Page, address: str) -> None:
        page.on("pageerror", lambda error: self.append(str(error)))
        page.on("console", lambda m: self.append(m.text) if m.type == "error" else None)
        page.on("request", lambda r: None if r.url.startswith(address) else self.append(r.url))


def visit(browser: Browser, address: str, size: dict[str, int] = LAPTOP, **more: object) -> Page:
    page = browser.new_context(viewport=size, base_url=address, **more).new_page()
    page.set_default_timeout(30_000)
    expect.set_options(timeout=30_000)
    return page


@pytest.fixture
def laptop(browser: Browser, address: str) -> Iterator[Page]:
    page, complaints = visit(browser, address), Complaints()
    complaints.listen_to(page, address)
    yield page
    page.context.close()
    # A file without a picture has no picture to show while it waits: that 404 is the answer
    # and a test that breaks the connection hears about it
    assert [c for c in complaints if not re.search("404|ERR_FAILED", c)] == []


def put_in(page: Page, *films: tuple[str, bytes]) -> None:
    page.goto("/")
    page.set_input_files(
        "#films",
        [{"name": name, "mimeType": "", "buffer": content} for name, content in films],
    )


def drop(page: Page, target: str, *films: tuple[str, bytes]) -> None:
    page.goto("/")
    page.evaluate(DROP, [target, [[name, list(content)] for name, content in films]])


def opacity(page: Page) -> float:
    return float(page.locator(".film__map").get_attribute("opacity") or "nan")


def overflows(page: Page) -> bool:
    return bool(
        page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
    )


def test_a_film_goes_in_is_answered_and_is_found_again_after_a_restart(browser, films, tmp_path):
    with program(tmp_path) as (visitor, _):
        page = visit(browser, visitor.address)
        put_in(page, ("amina otieno.png", films[0]))

        page.wait_for_url("**/studies/*/")
        reading = page.locator(".reading")
        expect(reading).to_have_attribute("data-answer", ANSWER)
        expect(page.locator(".verdict__line")).to_contain_text("Signs of pneumonia:")
        expect(page.locator(".gauge")).to_contain_text("Threshold")
        expect(page.locator(".panel .facts")).to_contain_text("@")
        answer = reading.get_attribute("data-answer")
        number = page.url.rstrip("/").rpartition("/")[2]
        page.context.close()

    with program(tmp_path) as (visitor, _):
        page = visit(browser, visitor.address)
        page.goto("/")
        page.fill("#q", "otieno")
        page.press("#q", "Enter")
        row = page.locator("tr.study")
        expect(row).to_have_count(1)
        expect(row).to_have_attribute("data-answer", str(answer))
        row.get_by_role("link").click()
        page.wait_for_url(f"**/studies/{number}/")
        expect(page.locator(".reading")).to_have_attribute("data-answer", str(answer))
        page.context.close()


class TestStudy:
    @pytest.fixture
    def study(self, laptop, films) -> Page:
        put_in(laptop, ("film.png", films[0]))
        laptop.wait_for_url("**/studies/**")
        expect(laptop.locator(".reading")).to_have_attribute("data-answer", ANSWER)
        return laptop

    def test_the_film_and_its_map_are_really_drawn(self, study):
        sizes = study.evaluate(
            """async () => {
                 const sizes = [];
                 for (const at of document.querySelectorAll(".film image")) {
                   const picture = new Image();
                   picture.src = at.href.baseVal;
                   await picture.decode();
                   sizes.push([picture.naturalWidth, picture.naturalHeight]);
                 }
                 return sizes;
               }"""
        )
        assert sizes == [[512, 512], [512, 512]]

    def test_the_map_lies_exactly_over_the_film(self, study):
        film, lies_over = (
            study.locator(name).bounding_box() for name in (".film__picture", ".film__map")
        )
        assert film == lies_over

    def test_the_map_is_off_at_first_exactly_where_signs_are_unlikely(self, study):
        unlikely = study.locator(".reading").get_attribute("data-answer") == "unlikely"

        assert (opacity(study) == 0) is unlikely
        assert (study.locator(".strength__value").text_content() == "off") is unlikely

    def test_the_slider_brings_the_map_in_and_out_by_keyboard(self, study):
        slider = study.locator(".strength__slider")
        slider.focus()
        slider.press("End")
        assert opacity(study) == 1
        expect(study.locator(".strength__value")).to_have_text("100 %")

        slider.press("Home")
        assert opacity(study) == 0
        expect(study.locator(".strength__value")).to_have_text("off")

    def test_the_marks_come_and_go(self, study):
        tick, marks = study.locator(".marks__tick"), study.locator(".film__marks")

        tick.check()
        expect(marks).to_have_attribute("visibility", "visible")
        tick.uncheck()
        expect(marks).to_have_attribute("visibility", "hidden")

    @pytest.fixture
    def waiting(self, study) -> Page:
        """The study's page as it was before the answer: most answers come too quickly for that."""
        address = study.url.partition("?")[0]
        answered = study.context.request.get(address).text()
        before = answered.replace('id="films"', 'id="films" data-unfinished').replace(
            'class="film__picture" href', 'class="film__picture" data-later'
        )
        study.route(address, lambda route: route.fulfill(body=before, content_type="text/html"))
        return study

    def test_the_answer_is_said_to_those_who_cannot_see_it(self, waiting):
        asked: list[str] = []

        def status(route: Route) -> None:
            asked.append(route.request.url)
            route.fulfill(json={"finished": False}) if len(asked) < 3 else route.continue_()

        waiting.route("**/status", status)
        waiting.goto(waiting.url.partition("?")[0])
        expect(waiting.locator("#news")).to_contain_text("Signs of pneumonia:")
        assert len(asked) == 3
        assert "Signs of pneumonia" in waiting.title()

    def test_a_film_that_waits_long_is_shown_meanwhile(self, waiting):
        waiting.route("**/status", lambda route: route.fulfill(json={"finished": False}))

        waiting.goto(waiting.url.partition("?")[0])
        picture = waiting.locator(".film__picture")
        expect(picture).to_have_attribute("href", re.compile("/films/"))

    def test_a_program_that_goes_away_and_comes_back_is_waited_for(self, waiting):
        asked: list[str] = []

        def status(route: Route) -> None:
            asked.append(route.request.url)
            route.abort() if len(asked) < 3 else route.continue_()

        waiting.route("**/status", status)
        waiting.goto(waiting.url.partition("?")[0])
        expect(waiting.locator("#news")).to_contain_text("Signs of pneumonia:")


class TestBadInput:
    def test_a_file_that_is_no_picture_gets_a_sentence(self, laptop):
        put_in(laptop, ("notes.txt", b"Patient came on Monday.\n" * 20))

        laptop.wait_for_url("**/studies/**")
        expect(laptop.locator(".reading")).to_have_attribute("data-answer", "unreadable")
        expect(laptop.locator(".verdict")).to_contain_text("This file is not a picture.")

    def test_one_bad_file_does_not_stop_the_others(self, laptop, films):
        put_in(laptop, ("one.png", films[1]), ("bad.png", b"no film"), ("two.png", films[2]))

        rows = laptop.locator("tr.study")
        for name in ("one.png", "two.png"):
            expect(rows.filter(has_text=name)).to_have_attribute("data-answer", ANSWER)
        expect(rows.filter(has_text="bad.png")).to_have_attribute("data-answer", "unreadable")
        expect(laptop.locator("#batch-line")).to_have_text("3 of 3 films stored")

    def test_a_file_turned_away_says_why_and_can_be_sent_again(self, laptop, films):
        put_in(laptop, ("empty.png", b""), ("three.png", films[3]))

        failed = laptop.locator(".sent--failed")
        expect(failed).to_contain_text("The file is empty.")
        expect(laptop.locator("#batch-line")).to_contain_text("1 of 2 films stored · 1 not stored")
        failed.get_by_role("button", name="Try again").click()
        expect(failed).to_contain_text("The file is empty.")
        expect(laptop.locator("tr.study").filter(has_text="three.png")).to_have_count(1)

    def test_a_film_sent_while_the_program_is_away_can_be_sent_again(self, browser, address, films):
        page = visit(browser, address)
        page.goto("/")
        page.route("**/upload", lambda route: route.abort())
        page.set_input_files("#films", [{"name": "a.png", "mimeType": "", "buffer": films[0]}])
        expect(page.locator(".sent--failed")).to_contain_text("The program did not answer.")

        page.unroute("**/upload")
        page.get_by_role("button", name="Try again").click()
        page.wait_for_url("**/studies/**")
        page.context.close()

    def test_a_file_over_the_limit_is_not_even_sent(self, laptop, films):
        laptop.goto("/")
        laptop.evaluate("document.getElementById('upload').dataset.mostBytes = '100'")
        laptop.set_input_files("#films", [{"name": "a.png", "mimeType": "", "buffer": films[0]}])

        expect(laptop.locator(".sent--failed")).to_contain_text("The file is too large")

    def test_the_same_film_again_leads_to_its_study(self, laptop, films):
        put_in(laptop, ("first.png", films[1]))
        laptop.wait_for_url("**/studies/**")
        put_in(laptop, ("again.png", films[1]))

        laptop.wait_for_url("**/studies/*/?again")
        expect(laptop.locator(".notice")).to_contain_text("was put in before")


class TestDropping:
    @pytest.mark.parametrize("target", ["#drop", ".list", "body"])
    def test_a_film_may_be_dropped_anywhere_on_the_page(self, laptop, films, target):
        drop(laptop, target, ("dropped.png", films[2]))

        laptop.wait_for_url("**/studies/**")
        expect(laptop.locator(".reading")).to_have_attribute("data-answer", ANSWER)

    def test_three_files_with_a_bad_one_are_all_taken_care_of(self, browser, films, tmp_path):
        with program(tmp_path) as (visitor, _):
            page = visit(browser, visitor.address)
            drop(page, "#drop", ("1.png", films[0]), ("x.dcm", b"scrap"), ("2.png", films[1]))

            rows = page.locator("tr.study")
            expect(rows).to_have_count(3)
            expect(page.locator("tr.study[data-unfinished]")).to_have_count(0)
            answers = [row.get_attribute("data-answer") for row in rows.all()]
            assert sum(bool(ANSWER.fullmatch(str(answer))) for answer in answers) == 2
            assert answers.count("unreadable") == 1
            page.context.close()

    def test_the_page_says_that_it_takes_what_is_being_dragged(self, laptop):
        laptop.goto("/")
        laptop.evaluate(
            """() => {
              const transfer = new DataTransfer();
              transfer.items.add(new File(["x"], "x.png"));
              document.body.dispatchEvent(
                new DragEvent("dragenter", { dataTransfer: transfer, bubbles: true }));
            }"""
        )
        expect(laptop.locator("#veil")).to_be_visible()


class TestEverywhere:
    def test_no_page_scrolls_sideways_on_a_phone(self, browser, address, films):
        phone = visit(browser, address, PHONE, is_mobile=True, has_touch=True)
        put_in(phone, ("A long file name of a film from the district hospital.png", films[0]))
        phone.wait_for_url("**/studies/**")
        expect(phone.locator(".reading")).to_have_attribute("data-answer", ANSWER)
        assert not overflows(phone)

        for path in ("/", "/?q=nothing", "/nothing/here"):
            phone.goto(path)
            assert not overflows(phone), path
        phone.context.close()

    def test_the_answer_comes_before_the_film_on_a_phone(self, browser, address, films):
        phone = visit(browser, address, PHONE, is_mobile=True, has_touch=True)
        put_in(phone, ("film.png", films[0]))
        phone.wait_for_url("**/studies/**")
        expect(phone.locator(".reading")).to_have_attribute("data-answer", ANSWER)

        answer = phone.locator(".verdict").bounding_box()
        assert answer
        assert answer["y"] + answer["height"] < PHONE["height"]
        assert answer["y"] < phone.locator(".stage").bounding_box()["y"]
        phone.context.close()

    def test_answer_film_and_slider_fit_on_a_laptop_without_scrolling(self, laptop, films):
        put_in(laptop, ("film.png", films[0]))
        laptop.wait_for_url("**/studies/**")
        expect(laptop.locator(".reading")).to_have_attribute("data-answer", ANSWER)

        for part in (".verdict", ".film", ".gauge", ".strength__slider"):
            box = laptop.locator(part).bounding_box()
            assert box
            assert box["y"] + box["height"] <= LAPTOP["height"], part

    def test_films_go_in_without_scripts(self, browser, address, films):
        page = visit(browser, address, java_script_enabled=False)
        put_in(page, ("plain.png", films[0]))
        page.get_by_role("button", name="Send").click()

        page.wait_for_url("**/studies/**")
        expect(page.locator(".reading")).to_have_attribute("data-answer", ANSWER)
        expect(page.locator(".film__picture")).to_have_attribute("href", re.compile("/films/"))
        page.context.close()

    def test_everything_works_under_a_strict_content_security_policy(self, browser, address, films):
        page, complaints = visit(browser, address), Complaints()
        complaints.listen_to(page, address)

        def strictly(route):
            response = route.fetch()
            headers = {**response.headers, "content-security-policy": STRICT}
            route.fulfill(response=response, headers=headers)

        page.route(re.compile(r"/(studies/[^/]*/)?(\?.*)?$"), strictly)
        put_in(page, ("film.png", films[0]))
        page.wait_for_url("**/studies/**")
        expect(page.locator(".reading")).to_have_attribute("data-answer", ANSWER)
        page.locator(".strength__slider").press("End")
        assert opacity(page) == 1
        assert complaints == []
        page.context.close()

    @pytest.mark.parametrize("key", ["Enter", "Space"])
    def test_a_film_is_chosen_with_the_keyboard_alone(self, laptop, key):
        # Before the page is there, or the browser may open its own window for the first choice
        laptop.on("filechooser", lambda chooser: None)
        laptop.goto("/")
        for _ in range(10):
            laptop.keyboard.press("Tab")
            if laptop.evaluate("document.activeElement.id") == "films":
                break
        with laptop.expect_file_chooser() as chooser:
            laptop.keyboard.press(key)
        assert chooser.value.is_multiple()

    def test_the_pages_mirror_for_a_language_that_reads_from_the_right(self, laptop):
        laptop.goto("/")
        laptop.evaluate("document.documentElement.dir = 'rtl'")

        door, worklist = (laptop.locator(part).bounding_box() for part in (".door", ".list"))
        assert door
        assert worklist
        assert door["x"] > worklist["x"]
        assert not overflows(laptop)
