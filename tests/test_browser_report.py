"""The report on paper: in the real Chromium, printed as PDF, its code read back."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from model_export.phantom import chest_film
from tests.films import encode
from tests.running import ROOT, serving

pytestmark = pytest.mark.browser

LAPTOP = {"width": 1366, "height": 768}
PHONE = {"width": 360, "height": 740}
LANGUAGES = ("en", "ar", "fr", "hi")
POINTS_IN_A_MM = 72 / 25.4


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The report of a study with one film, on the running program."""
    home = tmp_path_factory.mktemp("report")
    command = [sys.executable, str(ROOT / "run_clinic.py")]
    with serving(command, {**os.environ, "CLINIC_HOME": str(home)}) as (visitor, _):
        film = home / "film.png"
        film.write_bytes(encode(chest_film(3, (900, 800)), "PNG"))
        study = visitor.upload(film)
        visitor.wait_for_answer(study)
        yield visitor.address + study.partition("?")[0] + "report"


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    page = browser.new_page(viewport=LAPTOP)
    yield page
    page.context.close()


def pages_of(pdf: bytes) -> list[tuple[float, float]]:
    """Width and height in mm of every page of a PDF as Chromium writes it."""
    boxes = re.findall(rb"/Type /Page\b.*?/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", pdf, re.S)
    return [(float(w) / POINTS_IN_A_MM, float(h) / POINTS_IN_A_MM) for w, h in boxes]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(("paper", "size"), [("a4", (210, 297)), ("a5", (148, 210))])
def test_it_fills_one_page_of_its_paper(page, address, paper, size, language):
    page.goto(f"{address}?paper={paper}&language={language}")

    pages = pages_of(page.pdf(prefer_css_page_size=True, print_background=True))

    assert len(pages) == 1
    assert pages[0] == pytest.approx(size, abs=1)


def test_only_the_sheet_is_printed(page, address):
    page.goto(address)
    page.emulate_media(media="print")

    expect(page.locator(".report")).to_be_visible()
    for left_out in (".top", ".foot", ".report-tools"):
        expect(page.locator(left_out)).to_be_hidden()


def test_the_button_prints(page, address):
    page.goto(address)
    page.evaluate("window.print = () => { window.printed = true; }")

    page.get_by_role("button", name="Print or save as PDF").click()

    assert page.evaluate("window.printed")


def test_the_patients_language_is_chosen_with_the_keyboard(page, address):
    page.goto(address)
    page.get_by_label("Language of the patient").focus()
    page.keyboard.press("End")  # the last one is Arabic
    page.keyboard.press("Tab")
    page.get_by_role("button", name="Show", exact=True).press("Enter")

    expect(page.locator("article.report")).to_have_attribute("dir", "rtl")
    expect(page.locator("html")).to_have_attribute("dir", "ltr")


def test_its_code_says_the_studys_number(page, address):
    """Read by the browser's own pixels: the modules drawn are those of the number's code."""
    import segno

    page.goto(address)
    number = re.search(r"\d{8}-\d{4}", address)[0]
    code = segno.make(number, error="m", micro=False)
    modules = [[bool(dark) for dark in row] for row in code.matrix]
    side = len(modules) + 4  # two light modules on every edge
    svg = page.locator(".report__qr svg").evaluate("svg => svg.outerHTML")
    page.goto("about:blank")  # our own pages show no picture but ours
    drawn = page.evaluate(
        """async ([markup, side]) => {
          const svg = new DOMParser().parseFromString(markup, "text/html").querySelector("svg");
          const scale = 8;
          svg.setAttribute("width", side * scale);
          svg.setAttribute("height", side * scale);
          const image = new Image();
          image.src = "data:image/svg+xml," + encodeURIComponent(
            svg.outerHTML.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"'));
          await image.decode();
          const canvas = document.createElement("canvas");
          canvas.width = canvas.height = side * scale;
          const paint = canvas.getContext("2d");
          paint.fillStyle = "#fff";
          paint.fillRect(0, 0, canvas.width, canvas.height);
          paint.drawImage(image, 0, 0);
          const half = scale / 2;
          const at = (x, y) =>
            paint.getImageData(x * scale + half, y * scale + half, 1, 1).data[0] < 128;
          const all = [...Array(side).keys()];
          return all.map((y) => all.map((x) => at(x, y)));
        }""",
        [svg, side],
    )

    assert [row[2:-2] for row in drawn[2:-2]] == modules
    assert not any(drawn[0])
    assert not any(row[0] for row in drawn)


def test_it_is_read_on_a_phone_without_scrolling_sideways(page, address):
    page.set_viewport_size(PHONE)
    page.goto(address)

    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
