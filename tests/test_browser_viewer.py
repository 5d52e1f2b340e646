"""The viewer in the real Chromium: what it draws is read back from its canvas and from the screen.

The films are drawn by code, so that it is known which grey belongs where.
"""

from __future__ import annotations

import base64
import io
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, Route, expect

from app.cxr.stored import StoredValues
from app.pictures import film_values
from model_export.phantom import chest_film
from tests.films import dicom, encode
from tests.running import ROOT, Visitor, serving

pytestmark = pytest.mark.browser

LAPTOP = {"width": 1366, "height": 768}
PHONE = {"width": 360, "height": 740}
STRICT = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; worker-src 'self'"
)
# Columns and rows of the two squares, in pixels of a film of 600 x 500
LEFT, RIGHT, TOP, BOTTOM = 150, 350, 200, 300
SIZE = (500, 600)


def squares(bits: int, difference: int) -> np.ndarray:
    """A film from black to white with two squares in its middle that hardly differ."""
    most = 2**bits - 1
    film = np.tile(np.linspace(0, most, SIZE[1]), (SIZE[0], 1))
    film[TOP - 50 : BOTTOM + 50, LEFT - 50 : RIGHT + 150] = most / 2
    film[TOP:BOTTOM, LEFT : LEFT + 100] = most // 2 - difference // 2
    film[TOP:BOTTOM, RIGHT : RIGHT + 100] = most // 2 + difference // 2
    return film.astype(np.uint16)


def patient(number: str, uid: str) -> dict[str, str]:
    return {"PatientID": number, "PatientName": number, "SOPInstanceUID": f"1.2.{uid}"} | {
        "StudyInstanceUID": f"1.3.{uid}"
    }


MONOCHROME1 = {"PhotometricInterpretation": "MONOCHROME1"}
FILMS = {
    "twelve.dcm": dicom(squares(12, 8), 12, **patient("A", "1")),
    "sixteen.dcm": dicom(squares(16, 96), 16, **patient("B", "2")),
    "negative.dcm": dicom(squares(12, 8), 12, **MONOCHROME1, **patient("C", "3")),
    "windowed.dcm": dicom(
        squares(12, 8), 12, WindowCenter=1000, WindowWidth=500, **patient("D", "4")
    ),
    "earlier.dcm": dicom(squares(12, 300), 12, **patient("E", "5")),
    "now.dcm": dicom(squares(14, 40), 14, **patient("E", "6")),
    "large.dcm": dicom(np.tile(squares(12, 8), (1, 5)), 12, **patient("F", "7")),
    "chest.png": encode(chest_film(3, (512, 512)), "PNG"),
}


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, str]]]:
    """The program with these films in it: its address, and the path of each film's study."""
    folder = tmp_path_factory.mktemp("viewer")
    environment = {**os.environ, "CLINIC_HOME": str(folder / "home")}
    with serving([sys.executable, str(ROOT / "run_clinic.py")], environment) as (visitor, _):
        yield visitor.address, {name: study_of(visitor, folder / name) for name in FILMS}


def study_of(visitor: Visitor, file: Path) -> str:
    file.write_bytes(FILMS[file.name])
    study = visitor.upload(file)
    visitor.wait_for_answer(study)
    return study


class Visit:
    """A browser's page on the viewer, and what may be asked of it."""

    def __init__(self, page: Page, studies: dict[str, str]) -> None:
        self.page = page
        self.studies = studies
        self.complaints: list[str] = []
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda m: self.complaints.append(m.text) if m.type == "error" else None)

    def open(self, film: str) -> None:
        self.page.goto(self.studies[film] + "view")
        expect(self.page.locator("#first")).to_have_attribute("data-shown", re.compile(r"\d+"))
        self.page.locator("#first").focus()
        self.settle()

    def settle(self) -> None:
        """Until what was asked for is drawn, in full and not only roughly."""
        self.page.evaluate(
            "() => new Promise((done) => setTimeout(() => requestAnimationFrame(done), 250))"
        )

    def press(self, key: str, times: int = 1) -> None:
        for _ in range(times):
            self.page.keyboard.press(key)
        self.settle()

    def use(self, tool: str) -> None:
        self.page.locator(f"[data-tool={tool}]").click()
        self.settle()

    def pressed(self, tool: str) -> bool:
        state = self.page.locator(f"[data-tool={tool}]").get_attribute("aria-pressed")
        return state == "true"

    def state(self, pane: str = "first") -> str:
        return self.page.locator(f"#{pane} .pane__state").inner_text()

    def zoom(self, pane: str = "first") -> float:
        found = re.search(r"Zoom ([\d,]+) %", self.state(pane))
        assert found
        return float(found[1].replace(",", ""))

    def canvas(self, pane: str = "first", part: str = "film") -> np.ndarray:
        """The canvas as grey, float ``(height, width)``."""
        address = self.page.evaluate(
            "([pane, part]) => document.querySelector(`#${pane} .pane__${part}`).toDataURL()",
            [pane, part],
        )
        picture = Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))
        return np.asarray(picture.convert("L")).astype(float)

    def grey(self, x: float, y: float, turned: int = 0) -> float:
        """Grey of a point of the film while the whole of it is shown, turned clockwise."""
        canvas = self.canvas()
        height, width = canvas.shape
        across, down = x - SIZE[1] / 2, y - SIZE[0] / 2
        for _ in range(turned // 90):
            across, down = -down, across
        shape = SIZE if turned % 180 == 0 else SIZE[::-1]
        scale = min(height / shape[0], width / shape[1])
        return float(canvas[int(height / 2 + down * scale), int(width / 2 + across * scale)])

    def squares(self) -> tuple[float, float]:
        middle = (TOP + BOTTOM) / 2
        return self.grey(LEFT + 50, middle), self.grey(RIGHT + 50, middle)

    def screen(self, pane: str = "first") -> np.ndarray:
        """What is seen of a pane, uint8 RGB, without the lines of text at its edges."""
        shot = Image.open(io.BytesIO(self.page.locator(f"#{pane}").screenshot()))
        return np.asarray(shot.convert("RGB"))[60:-60].astype(int)

    def box(self) -> dict[str, float]:
        found = self.page.locator("#first").bounding_box()
        assert found
        return dict(found)

    def at(self, x: float, y: float) -> tuple[float, float]:
        """A point of the first pane, given in shares of it."""
        box = self.box()
        return box["x"] + x * box["width"], box["y"] + y * box["height"]

    def drag(self, start: tuple[float, float], end: tuple[float, float], button: str) -> None:
        self.page.mouse.move(*self.at(*start))
        self.page.mouse.down(button=button)
        self.page.mouse.move(*self.at(*end), steps=6)
        self.page.mouse.up(button=button)
        self.settle()


def visit(browser: Browser, clinic, size: dict[str, int] = LAPTOP, **more: object) -> Visit:
    address, studies = clinic
    page = browser.new_context(viewport=size, base_url=address, **more).new_page()
    page.set_default_timeout(30_000)
    expect.set_options(timeout=30_000)
    return Visit(page, studies)


@pytest.fixture
def laptop(browser: Browser, clinic) -> Iterator[Visit]:
    made = visit(browser, clinic)
    yield made
    made.page.context.close()
    assert made.complaints == []


@pytest.fixture
def phone(browser: Browser, clinic) -> Iterator[Visit]:
    made = visit(browser, clinic, PHONE, has_touch=True, is_mobile=True)
    yield made
    made.page.context.close()
    assert made.complaints == []


class Fingers:
    """Fingers on the first pane, as Chromium reports them from a touch screen."""

    def __init__(self, visit: Visit) -> None:
        self.visit = visit
        self.session = visit.page.context.new_cdp_session(visit.page)

    def touch(self, kind: str, *points: tuple[float, float]) -> None:
        places = [dict(zip(("x", "y"), self.visit.at(*point), strict=True)) for point in points]
        self.session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": places})

    def move(self, *ways: tuple[tuple[float, float], tuple[float, float]]) -> None:
        """Each finger goes straight from one point to another."""
        self.touch("touchStart", *(start for start, _ in ways))
        for step in range(1, 7):
            self.touch(
                "touchMove",
                *(
                    (x + (to_x - x) * step / 6, y + (to_y - y) * step / 6)
                    for (x, y), (to_x, to_y) in ways
                ),
            )
        self.touch("touchEnd")
        self.visit.settle()


class TestWindow:
    @pytest.mark.parametrize("film", ["twelve.dcm", "sixteen.dcm", "negative.dcm"])
    def test_detail_that_only_full_depth_holds_comes_out_of_a_narrow_window(self, laptop, film):
        laptop.open(film)
        left, right = laptop.squares()
        assert abs(left - right) <= 1, "at first the squares must be the same to the eye"

        laptop.press("Shift+ArrowLeft", 55)
        left, right = laptop.squares()
        assert abs(left - right) > 30

    def test_high_values_of_a_negative_are_dark(self, laptop):
        laptop.open("twelve.dcm")
        bright = laptop.grey(590, 20)
        laptop.open("negative.dcm")

        assert bright > 240
        assert laptop.grey(590, 20) < 15

    def test_it_opens_in_the_window_that_the_file_asks_for(self, laptop):
        laptop.open("windowed.dcm")

        # 1000 +- 250 of 0..4095 lie between the columns 110 and 183 of 600
        assert laptop.grey(80, 20) == 0
        assert 110 < laptop.grey(147, 20) < 146
        assert laptop.grey(200, 20) == 255
        assert laptop.state().startswith("Window 750 – 1,249")

    def test_each_named_window_shows_the_film_otherwise(self, laptop):
        laptop.open("windowed.dcm")
        seen = {}
        for name in ("file", "whole", "lungs", "bones"):
            laptop.page.select_option("#preset", name)
            laptop.settle()
            seen[name] = laptop.canvas().mean()
        assert len({round(mean) for mean in seen.values()}) == 4
        laptop.page.select_option("#preset", "start")
        laptop.settle()
        assert laptop.canvas().mean() == seen["file"]

    def test_a_film_without_a_window_offers_none(self, laptop):
        laptop.open("twelve.dcm")

        expect(laptop.page.locator("#preset [value=file]")).to_be_disabled()

    @pytest.mark.parametrize(("button", "tool"), [("right", None), ("left", "window")])
    def test_dragging_sets_it(self, laptop, button, tool):
        laptop.open("twelve.dcm")
        if tool:
            laptop.use(tool)
        before = laptop.canvas()
        laptop.drag((0.5, 0.5), (0.4, 0.35), button)

        after = laptop.canvas()
        assert after.mean() > before.mean() + 5, "dragged up, the film must be brighter"
        assert laptop.page.locator("#preset").input_value() == "own"

    def test_inverting_turns_black_into_white_and_back(self, laptop):
        laptop.open("twelve.dcm")
        before = laptop.canvas()
        film = before[100:600, 400:700]

        laptop.press("i")
        assert np.abs(255 - laptop.canvas()[100:600, 400:700] - film).max() <= 1
        assert laptop.pressed("invert")
        laptop.use("invert")
        assert np.array_equal(laptop.canvas(), before)

    def test_a_brighter_negative_is_brighter(self, laptop):
        laptop.open("negative.dcm")
        before = laptop.canvas().mean()
        laptop.press("Shift+ArrowUp", 2)

        assert laptop.canvas().mean() > before + 3


class TestPlace:
    def test_turning_turns_the_picture(self, laptop):
        laptop.open("twelve.dcm")
        corners = [(10, 10), (590, 10), (590, 490), (10, 490)]
        plain = [laptop.grey(x, y) for x, y in corners]
        for turned in (90, 180, 270):
            laptop.press("r")
            assert f"{turned}°" in laptop.state()
            seen = [laptop.grey(x, y, turned) for x, y in corners]
            assert np.abs(np.subtract(seen, plain)).max() <= 2
        laptop.press("Shift+R")
        assert "180°" in laptop.state()

    def test_the_wheel_enlarges_what_is_under_the_pointer(self, laptop):
        laptop.open("twelve.dcm")
        x, y = laptop.at(0.4, 0.5)
        box = laptop.box()
        spot = int(y - box["y"]), int(x - box["x"])
        before, zoom = laptop.canvas(), laptop.zoom()
        laptop.page.mouse.move(x, y)
        laptop.page.mouse.wheel(0, -600)
        laptop.settle()

        assert laptop.zoom() > 2 * zoom
        assert abs(laptop.canvas()[spot] - before[spot]) <= 3

    def test_dragging_moves_it_by_as_much_as_the_hand(self, laptop):
        laptop.open("twelve.dcm")
        before = laptop.canvas()
        laptop.drag((0.5, 0.5), (0.6, 0.4), "left")

        height, width = before.shape
        across, down = round(0.1 * width), round(0.1 * height)
        moved = laptop.canvas()[50 : height - 2 * down, across + 350 : width - 250]
        there = before[50 + down : height - down, 350 : width - 250 - across]
        assert np.abs(moved - there).mean() < 2

    def test_it_cannot_be_lost(self, laptop):
        laptop.open("twelve.dcm")
        laptop.press("ArrowLeft", 40)
        assert laptop.canvas().max() > 0

        laptop.press("0")
        assert np.allclose(laptop.squares(), 127, atol=2)

    def test_full_scale_shows_a_pixel_on_a_dot_and_a_double_click_goes_back(self, laptop):
        laptop.open("twelve.dcm")
        fitted = laptop.zoom()
        laptop.press("1")
        assert laptop.zoom() == 100

        laptop.page.mouse.dblclick(*laptop.at(0.5, 0.5))
        laptop.settle()
        assert laptop.zoom() == fitted

    def test_resetting_brings_everything_back(self, laptop):
        laptop.open("twelve.dcm")
        before, state = laptop.canvas(), laptop.state()
        for key in ("r", "i", "+", "ArrowLeft", "Shift+ArrowLeft"):
            laptop.press(key)
        assert not np.array_equal(laptop.canvas(), before)

        laptop.press("Escape")
        assert np.array_equal(laptop.canvas(), before)
        assert laptop.state() == state

    def test_the_whole_film_stays_whole_when_the_window_changes_its_size(self, laptop):
        laptop.open("twelve.dcm")
        laptop.page.set_viewport_size({"width": 900, "height": 700})
        laptop.settle()

        assert np.allclose(laptop.squares(), 127, atol=2)


class TestLargeFilms:
    def test_every_pixel_is_there_when_it_is_asked_for(self, laptop):
        laptop.open("large.dcm")
        assert "Shown smaller than stored" in laptop.state()
        zoom = laptop.zoom()

        laptop.press("i")
        laptop.use("detail")
        expect(laptop.page.locator("#first .pane__state")).not_to_contain_text("smaller")
        assert laptop.zoom() == zoom
        assert "inverted" in laptop.state()
        expect(laptop.page.locator("[data-tool=detail]")).to_be_hidden()

    def test_a_film_that_is_whole_already_does_not_ask(self, laptop):
        laptop.open("twelve.dcm")

        expect(laptop.page.locator("[data-tool=detail]")).to_be_hidden()


class TestMagnifier:
    def test_it_enlarges_what_is_under_the_pointer(self, laptop):
        laptop.open("windowed.dcm")
        laptop.use("magnifier")
        # On the edge between black and white
        laptop.page.mouse.move(*laptop.at(0.3, 0.1))
        laptop.settle()
        expect(laptop.page.locator("#first .pane__lens")).to_be_visible()
        lens, film = laptop.canvas(part="lens"), laptop.canvas()
        box = laptop.box()
        row, column = int(0.1 * box["height"]), int(0.3 * box["width"])
        assert abs(lens[100, 100] - film[row, column]) <= 6
        slope = np.ptp(lens[100, 60:140]) / 80
        assert slope < np.ptp(film[row, column - 40 : column + 40]) / 80

    def test_the_keyboard_moves_it_and_puts_it_away(self, laptop):
        laptop.open("twelve.dcm")
        laptop.press("m")
        lens = laptop.page.locator("#first .pane__lens")
        before = lens.bounding_box()
        laptop.press("ArrowRight", 3)
        after = lens.bounding_box()
        assert before
        assert after
        assert after["x"] > before["x"] + 30

        laptop.press("m")
        expect(lens).to_be_hidden()


class TestMarks:
    """The map is laid exactly over the place it speaks of, however the film lies."""

    SPOT = slice(300, 360), slice(120, 200)

    @pytest.fixture
    def spotted(self, laptop) -> Visit:
        """A film with one bright spot, and a map with its hot spot on the same pixels."""
        film = np.full((512, 512), 300, np.uint16)
        film[self.SPOT] = 4000
        heat = np.zeros((512, 512, 4), np.uint8)
        heat[self.SPOT] = (255, 0, 255, 255)
        values = film_values(StoredValues(film, bits=12, start=(0, 4095)))
        laptop.page.route("**/pixels?*", lambda route: route.fulfill(body=values))
        picture = encode(Image.fromarray(heat), "PNG")
        laptop.page.route(
            "**/map.png?*", lambda route: route.fulfill(body=picture, content_type="image/png")
        )
        laptop.open("chest.png")
        if laptop.pressed("regions"):
            laptop.press("g")
        return laptop

    def place(self, is_there: np.ndarray) -> np.ndarray:
        """Top, bottom, left and right of what is there."""
        rows, columns = np.nonzero(is_there)
        assert rows.size > 200
        return np.array([rows.min(), rows.max(), columns.min(), columns.max()])

    def strength(self, visit: Visit, value: str) -> None:
        visit.page.locator("#map").fill(value)
        visit.page.locator("#first").focus()
        visit.settle()

    @pytest.mark.parametrize(
        "keys",
        [(), ("r",), ("r", "r", "+"), ("+", "+", "r", "ArrowLeft", "ArrowUp"), ("-", "Shift+R")],
    )
    def test_the_map_moves_grows_and_turns_with_the_film(self, spotted, keys):
        for key in keys:
            spotted.press(key)
        self.strength(spotted, "0")
        bright = self.place(spotted.screen().min(axis=2) > 150)
        self.strength(spotted, "100")
        seen = spotted.screen()
        hot = self.place((seen[..., 0] > 200) & (seen[..., 1] < 80))

        assert np.abs(hot - bright).max() <= 2

    def test_the_slider_makes_it_stronger(self, spotted):
        seen = []
        for value in ("0", "50", "100"):
            self.strength(spotted, value)
            seen.append(float(np.ptp(spotted.screen(), axis=2).mean()))
        assert seen[0] < seen[1] < seen[2]

    def test_outlines_say_the_same_without_colour(self, spotted):
        self.strength(spotted, "0")
        bright = self.place(spotted.screen().min(axis=2) > 150)
        self.strength(spotted, "60")
        spotted.press("o")
        expect(spotted.page.locator("#first path.outline").first).to_be_attached()
        spotted.settle()

        seen = spotted.screen()
        assert np.ptp(seen, axis=2).max() <= 8, "outlines must have no colour"
        box = spotted.page.locator("#first path.outline").nth(1).bounding_box()
        pane = spotted.box()
        assert box
        top, left = box["y"] - pane["y"] - 60, box["x"] - pane["x"]
        outline = np.array([top, top + box["height"], left, left + box["width"]])
        assert np.abs(outline - bright).max() < 10
        expect(spotted.page.locator("#map-scale")).to_be_hidden()

    def test_regions_are_named_on_the_film_and_beside_it(self, laptop):
        laptop.open("chest.png")
        names = laptop.page.locator("#first .region__zone").all_text_contents()
        assert names
        assert laptop.page.locator("#zones li").all_inner_texts() == names
        expect(laptop.page.locator("#hit-rate")).to_contain_text("strongest point")
        expect(laptop.page.locator("#first .region__zone").first).to_be_visible()

        laptop.use("regions")
        expect(laptop.page.locator("#first .region__zone").first).to_be_hidden()

    def test_the_words_of_a_region_stay_in_sight_as_long_as_it_does(self, laptop):
        laptop.open("chest.png")
        pane = laptop.box()
        for key in ("+", "+", "+", "ArrowRight", "ArrowRight", "ArrowDown", "r"):
            laptop.press(key)
            for word in laptop.page.locator("#first .region__zone:visible").all():
                box = word.bounding_box()
                assert box
                assert pane["x"] <= box["x"]
                assert box["x"] + box["width"] <= pane["x"] + pane["width"]

    def test_words_stay_upright_when_the_film_is_turned(self, laptop):
        laptop.open("chest.png")
        laptop.press("r")

        word = laptop.page.locator("#first .region__zone").first.bounding_box()
        assert word
        assert word["width"] > 2 * word["height"]

    def test_a_film_that_was_refused_has_none(self, laptop):
        laptop.open("twelve.dcm")

        expect(laptop.page.locator("#marks")).to_be_hidden()


class TestTwoFilms:
    @pytest.fixture
    def two(self, laptop) -> Visit:
        laptop.open("now.dcm")
        laptop.page.select_option("#beside", label=self.earlier(laptop))
        expect(laptop.page.locator("#second")).to_have_attribute("data-shown", re.compile(r"\d+"))
        laptop.page.locator("#first").focus()
        laptop.settle()
        return laptop

    def earlier(self, visit: Visit) -> str:
        labels = visit.page.locator("#beside option").all_inner_texts()
        return next(label for label in labels if "earlier.dcm" in label)

    def test_an_earlier_film_of_the_patient_lies_beside_it(self, two):
        boxes = [two.page.locator(f"#{pane}").bounding_box() for pane in ("first", "second")]
        assert boxes[0]
        assert boxes[1]
        assert boxes[0]["width"] == boxes[1]["width"]
        assert "14 bits" in two.state("first")
        assert "12 bits" in two.state("second")

    def test_they_move_together_until_they_are_let_go(self, two):
        before = two.zoom("first"), two.zoom("second")
        for key in ("+", "+", "r", "i"):
            two.press(key)
        assert two.zoom("second") / before[1] == pytest.approx(two.zoom("first") / before[0], 0.03)
        assert "90°" in two.state("second")
        assert "inverted" in two.state("second")

        two.press("t")
        two.press("r")
        assert "180°" in two.state("first")
        assert "90°" in two.state("second")
        two.page.locator("#second").focus()
        two.press("+")
        assert two.zoom("second") > 1.4 * before[1]

    def test_the_second_is_put_away_again(self, two):
        wide = two.box()["width"]
        two.page.select_option("#beside", "")
        two.settle()

        expect(two.page.locator("#second")).to_be_hidden()
        assert two.box()["width"] > 1.8 * wide

    def test_a_film_of_somebody_else_is_not_offered(self, laptop):
        laptop.open("now.dcm")

        offered = " ".join(laptop.page.locator("#beside option").all_inner_texts())
        assert "twelve.dcm" not in offered


class TestKeyboard:
    def test_every_tool_is_reached_and_used_without_a_mouse(self, laptop):
        laptop.open("chest.png")
        laptop.page.evaluate("document.activeElement.blur()")
        reached = set()
        for _ in range(60):
            laptop.page.keyboard.press("Tab")
            reached.add(
                laptop.page.evaluate(
                    "document.activeElement.dataset.tool ?? document.activeElement.id"
                )
            )
        tools = laptop.page.locator("[data-tool]:visible").evaluate_all(
            "(all) => all.map((tool) => tool.dataset.tool)"
        )
        assert {*tools, "first", "preset", "map", "beside"} <= reached

        laptop.page.locator("[data-tool=invert]").focus()
        laptop.press("Enter")
        assert laptop.pressed("invert")

    def test_the_arrows_go_from_tool_to_tool(self, laptop):
        laptop.open("twelve.dcm")
        laptop.page.locator("[data-tool=move]").focus()
        laptop.page.keyboard.press("ArrowRight")

        expect(laptop.page.locator("[data-tool=window]")).to_be_focused()

    def test_the_list_of_keys_opens_and_closes(self, laptop):
        laptop.open("twelve.dcm")
        laptop.page.keyboard.press("?")
        expect(laptop.page.locator("#keys")).to_be_visible()
        laptop.page.keyboard.press("Escape")

        expect(laptop.page.locator("#keys")).to_be_hidden()
        expect(laptop.page.locator("#first")).to_be_focused()

    def test_the_list_of_keys_names_every_key_that_the_tools_show(self, laptop):
        laptop.open("twelve.dcm")
        shown = laptop.page.locator("[data-tool]").evaluate_all(
            "(all) => all.map((tool) => tool.title.match(/\\((.+)\\)$/)[1])"
        )
        listed = laptop.page.locator("#keys kbd").all_text_contents()

        assert {key.replace("-", "−") for key in shown} - {"?"} <= set(listed)

    def test_keys_work_on_a_keyboard_of_another_script(self, laptop):
        laptop.open("twelve.dcm")
        laptop.page.evaluate(
            """document.activeElement.dispatchEvent(
              new KeyboardEvent("keydown", { key: "ه", code: "KeyI", bubbles: true }))"""
        )
        laptop.settle()

        assert laptop.pressed("invert")

    def test_a_key_in_a_list_of_choices_chooses_there(self, laptop):
        laptop.open("twelve.dcm")
        laptop.page.locator("#preset").focus()
        laptop.page.keyboard.press("i")
        laptop.settle()

        assert not laptop.pressed("invert")


class TestTouch:
    def test_two_fingers_enlarge(self, phone):
        phone.open("twelve.dcm")
        zoom = phone.zoom()
        Fingers(phone).move(((0.4, 0.5), (0.2, 0.5)), ((0.6, 0.5), (0.8, 0.5)))

        assert phone.zoom() == pytest.approx(3 * zoom, rel=0.1)

    def test_one_finger_moves_the_film_and_not_the_page(self, phone):
        phone.open("twelve.dcm")
        before = phone.canvas()
        Fingers(phone).move(((0.5, 0.5), (0.6, 0.3)))

        assert not np.array_equal(phone.canvas(), before)
        assert phone.page.evaluate("scrollY") == 0

    def test_one_finger_sets_the_window_once_that_is_chosen(self, phone):
        phone.open("twelve.dcm")
        phone.page.locator("[data-tool=window]").tap()
        left, right = phone.squares()
        for _ in range(6):
            Fingers(phone).move(((0.9, 0.5), (0.1, 0.5)))

        narrowed = phone.squares()
        assert abs(left - right) <= 1
        assert abs(narrowed[0] - narrowed[1]) > 30

    def test_the_magnifier_stands_above_the_finger(self, phone):
        phone.open("twelve.dcm")
        phone.page.locator("[data-tool=magnifier]").tap()
        Fingers(phone).move(((0.5, 0.8), (0.5, 0.7)))

        lens = phone.page.locator("#first .pane__lens").bounding_box()
        assert lens
        assert lens["y"] + lens["height"] / 2 < phone.at(0.5, 0.7)[1] - 60


class TestPage:
    @pytest.mark.parametrize("size", [LAPTOP, PHONE], ids=["laptop", "phone"])
    @pytest.mark.parametrize("direction", ["ltr", "rtl"])
    def test_nothing_hangs_over_the_edge(self, browser, clinic, size, direction):
        made = visit(browser, clinic, size)
        made.open("chest.png")
        made.page.evaluate(
            "(direction) => { document.documentElement.dir = direction; }", direction
        )
        made.settle()

        root = "document.documentElement"
        assert made.page.evaluate(f"{root}.scrollWidth <= {root}.clientWidth")
        assert made.page.evaluate(f"{root}.scrollHeight <= {root}.clientHeight")
        outside = made.page.locator(".tool:visible").evaluate_all(
            "(all) => all.filter((tool) => tool.scrollWidth > tool.clientWidth)"
            ".map((tool) => tool.dataset.tool)"
        )
        assert outside == []
        assert made.box()["height"] > 0.4 * size["height"]
        made.page.context.close()

    def test_a_film_lies_the_same_way_in_a_language_that_reads_from_the_right(self, laptop):
        laptop.open("twelve.dcm")
        before = laptop.canvas()
        laptop.page.evaluate("document.documentElement.dir = 'rtl'")
        laptop.settle()

        assert np.array_equal(laptop.canvas(), before)

    def test_it_works_under_a_strict_policy(self, laptop):
        def strictly(route: Route) -> None:
            response = route.fetch()
            headers = {**response.headers, "content-security-policy": STRICT}
            route.fulfill(response=response, headers=headers)

        laptop.page.route("**/view*", strictly)
        laptop.open("chest.png")
        laptop.use("magnifier")
        laptop.use("outline")
        expect(laptop.page.locator("#first .pane__lens")).to_be_visible()
        assert laptop.canvas().std() > 20

    def test_a_film_that_cannot_be_fetched_says_so(self, browser, clinic):
        made = visit(browser, clinic)
        made.page.route("**/pixels?*", lambda route: route.abort())
        made.page.goto(made.studies["twelve.dcm"] + "view")

        expect(made.page.locator("#first .pane__news")).to_contain_text("could not be loaded")
        made.page.context.close()

    def test_a_stump_of_a_film_is_not_shown_as_one(self, browser, clinic):
        made = visit(browser, clinic)
        values = film_values(StoredValues(squares(12, 8), bits=12, start=(0, 4095)))
        made.page.route("**/pixels?*", lambda route: route.fulfill(body=values[:-200]))
        made.page.goto(made.studies["twelve.dcm"] + "view")

        expect(made.page.locator("#first .pane__news")).to_contain_text("could not be loaded")
        made.page.context.close()

    def test_the_study_leads_here(self, laptop):
        laptop.page.goto(laptop.studies["chest.png"])
        laptop.page.get_by_role("link", name="Open in the viewer").click()

        expect(laptop.page.locator("#first")).to_have_attribute("data-shown", re.compile(r"\d+"))
