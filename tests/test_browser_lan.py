"""A phone joins and photographs a film: the real Chromium, over TLS, with a camera made of a file.

The film is drawn by code. The camera is Chromium's own stand-in, which plays a video.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, Playwright, expect, sync_playwright

from app.cxr.analysis import analyse
from app.cxr.model import Model
from app.cxr.release import load_active
from model_export.phantom import chest_film
from tests.films import encode
from tests.people import PASSWORD
from tests.running import ROOT, Visitor, serving
from tests.test_accessibility import grave_faults

pytestmark = pytest.mark.browser

LAPTOP = {"width": 1366, "height": 768}
PHONE = {"width": 360, "height": 740}
#: What a phone held upright sends, and where the frame lies on it.
VIDEO = (960, 1280)
FRAMED = (856, 1052)
WITHOUT_CAMERA = "Object.defineProperty(navigator, 'mediaDevices', {value: undefined})"
NOT_SECURE = "Object.defineProperty(window, 'isSecureContext', {value: false})"
DENIED = """navigator.mediaDevices.getUserMedia =
  () => Promise.reject(new DOMException("no", "NotAllowedError"))"""


def video(path: Path, film: np.ndarray, background: int = 60) -> Path:
    """A film as the camera sees it, still, as a video that Chromium's stand-in plays."""
    wide, high = VIDEO
    picture = np.full((high, wide), background, np.uint8)
    top, left = (high - film.shape[0]) // 2, (wide - film.shape[1]) // 2
    picture[top : top + film.shape[0], left : left + film.shape[1]] = film
    frame = b"FRAME\n" + picture.tobytes() + bytes([128]) * (wide * high // 2)
    path.write_bytes(f"YUV4MPEG2 W{wide} H{high} F5:1 Ip A1:1 C420jpeg\n".encode() + frame * 3)
    return path


def readable_film() -> np.ndarray:
    """A drawn film of the frame's size that the shipped model takes for one, and answers."""
    model = Model.load(load_active(None))
    for seed in range(40):
        film = chest_film(seed, (FRAMED[1], FRAMED[0]))
        if analyse(encode(film, "JPEG", quality=90), model).probability is not None:
            return film
    pytest.fail("the model answers no drawn film")


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as running:
        yield running


@contextmanager
def browser_with(
    playwright: Playwright, chromium: Path, camera: Path, *more: str
) -> Iterator[Browser]:
    browser = playwright.chromium.launch(
        executable_path=str(chromium),
        args=[
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--use-fake-ui-for-media-stream",
            "--use-fake-device-for-media-stream",
            f"--use-file-for-fake-video-capture={camera}",
            *more,
        ],
    )
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def film() -> np.ndarray:
    return readable_film()


@pytest.fixture(scope="module")
def browser(playwright, chromium: Path, film, tmp_path_factory) -> Iterator[Browser]:
    camera = video(tmp_path_factory.mktemp("camera") / "film.y4m", film)
    rebound = "--host-resolver-rules=MAP evil.example 127.0.0.1"
    with browser_with(playwright, chromium, camera, rebound) as one:
        yield one


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> Iterator[str]:
    """The program, set up with one administrator, its door open."""
    environment = {**os.environ, "CLINIC_HOME": str(tmp_path_factory.mktemp("clinic"))}
    command = [sys.executable, str(ROOT / "run_clinic.py")]
    with serving(command, environment, set_up=False) as (visitor, _):
        set_up(visitor)
        visitor.post("/settings/devices", lan="on")
        yield visitor.address


def set_up(visitor: Visitor) -> None:
    choices = {"mode": "accounts", "language": "en", "understood": "on", "clinic_name": "Kisoro"}
    person = {"username": "amina", "full_name": "Amina Otieno"}
    visitor.post("/set-up", **choices, **person, password1=PASSWORD, password2=PASSWORD)


def page_of(browser: Browser, size: dict[str, int], **more: object) -> Page:
    page = browser.new_context(viewport=size, ignore_https_errors=True, **more).new_page()
    page.set_default_timeout(30_000)
    expect.set_options(timeout=30_000)
    return page


@pytest.fixture
def laptop(browser, address) -> Iterator[Page]:
    """A browser on the computer itself, logged in."""
    page = page_of(browser, LAPTOP, base_url=address)
    log_in(page)
    yield page
    page.context.close()


def log_in(page: Page) -> None:
    page.goto("/log-in")
    page.fill("#id_username", "amina")
    page.fill("#id_password", PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url("**/")


def link_of(laptop: Page) -> str:
    """What the square on the laptop's screen says, at an address that this machine surely has."""
    laptop.goto("/add-phone")
    expect(laptop.locator("svg.qr")).to_be_visible()
    laptop.locator("details:has(.places__code) summary").click()
    link = laptop.locator(".places__code").inner_text()
    return re.sub(r"//[\d.]+:", "//127.0.0.1:", link)


@pytest.fixture
def phone(browser, laptop) -> Iterator[Page]:
    """A phone that has joined."""
    link = link_of(laptop)
    page = page_of(browser, PHONE, base_url=link.partition("/join")[0], has_touch=True)
    page.goto(link)
    page.get_by_role("button", name="Join").click()
    page.wait_for_url("**/camera")
    yield page
    page.context.close()


def overflows(page: Page) -> bool:
    return bool(
        page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
    )


def test_a_phone_joins_photographs_a_film_and_sees_its_answer(browser, laptop):
    link = link_of(laptop)
    phone = page_of(browser, PHONE, has_touch=True)
    phone.goto(link)
    expect(phone.get_by_text("logged in as Amina Otieno")).to_be_visible()
    phone.get_by_role("button", name="Join").click()
    phone.wait_for_url("**/camera")

    expect(phone.locator("#hint")).to_have_text("Hold still, and take the photograph.")
    phone.get_by_role("button", name="Take the photograph", exact=True).click()
    expect(phone.locator("#verdict")).to_have_text("The film can be read.")
    phone.fill("#age", "3")
    phone.get_by_role("button", name="Use this photograph").click()

    phone.wait_for_url("**/studies/*/")
    answered = re.compile("likely|unlikely|cannot_say")
    expect(phone.locator(".reading").first).to_have_attribute("data-answer", answered)
    expect(phone.locator("main")).to_contain_text("3 years")
    phone.context.close()


def test_the_photograph_is_what_the_frame_holds_at_full_resolution(phone, film):
    phone.get_by_role("button", name="Take the photograph", exact=True).click()
    expect(phone.locator("#verdict")).to_have_text("The film can be read.")
    wide, high = phone.evaluate("[picture.width, picture.height]")

    assert abs(wide / high - 35 / 43) < 0.01
    assert abs(wide - FRAMED[0]) < 30
    values = phone.evaluate(
        """() => { const context = picture.getContext("2d");
        return [...context.getImageData(0, 0, picture.width, picture.height).data]
          .filter((_, at) => at % 4 === 0); }"""
    )
    taken = np.array(values, float).reshape(high, wide)
    there = np.asarray(film, float)
    part = there[20 : high - 40, 20 : wide - 40]
    likeness = np.corrcoef(taken[20 : high - 40, 20 : wide - 40].ravel(), part.ravel())[0, 1]
    assert likeness > 0.9


def test_a_code_that_was_used_lets_no_second_phone_in(browser, laptop):
    link = link_of(laptop)
    for expected in ("**/camera", None):
        phone = page_of(browser, PHONE)
        phone.goto(link)
        if expected:
            phone.get_by_role("button", name="Join").click()
            phone.wait_for_url(expected)
        else:
            expect(phone.get_by_role("heading")).to_have_text("This code does not work")
        phone.context.close()


def test_it_can_be_taken_again_and_the_keyboard_does_it_all(phone):
    shutter = phone.get_by_role("button", name="Take the photograph", exact=True)
    expect(shutter).to_be_enabled()
    shutter.focus()
    phone.keyboard.press("Enter")
    expect(phone.locator("#verdict")).to_have_text("The film can be read.")
    expect(phone.get_by_role("button", name="Use this photograph")).to_be_focused()
    phone.keyboard.press("Tab")
    phone.keyboard.press("Enter")

    expect(phone.locator("#review")).to_be_hidden()
    expect(shutter).to_be_focused()
    expect(phone.locator("#video")).to_be_visible()


def test_the_frame_can_lie_across(phone):
    across = phone.get_by_role("button", name="Turn the frame")
    across.click()
    expect(across).to_have_attribute("aria-pressed", "true")
    phone.get_by_role("button", name="Take the photograph", exact=True).click()
    expect(phone.locator("#review")).to_be_visible()
    wide, high = phone.evaluate("[picture.width, picture.height]")

    assert abs(wide / high - 43 / 35) < 0.01


@pytest.mark.parametrize(
    ("trouble", "sentence"),
    [
        ([WITHOUT_CAMERA], "No camera was found"),
        ([WITHOUT_CAMERA, NOT_SECURE], "encrypted pages only"),
        ([DENIED], "does not give its camera"),
    ],
)
def test_without_a_camera_it_says_why_and_takes_a_file(phone, film, trouble, sentence):
    for script in trouble:
        phone.context.add_init_script(script)
    phone.goto("/camera")
    expect(phone.locator("#why")).to_contain_text(sentence)
    expect(phone.locator("#stage")).to_be_hidden()
    photograph = encode(film, "JPEG", quality=92)
    phone.set_input_files("#films", [{"name": "a.jpg", "mimeType": "", "buffer": photograph}])

    expect(phone.locator("#verdict")).to_have_text("The film can be read.")
    expect(phone.locator("#picture")).to_be_visible()
    phone.get_by_role("button", name="Use this photograph").click()
    phone.wait_for_url("**/studies/*/**")


def test_a_film_that_is_too_dark_is_noticed_while_one_aims(
    playwright, chromium, film, address, tmp_path
):
    with browser_with(playwright, chromium, video(tmp_path / "dark.y4m", film // 8, 0)) as browser:
        page = page_of(browser, PHONE, base_url=address)
        log_in(page)
        page.goto("/camera")
        expect(page.locator("#hint")).to_contain_text("Too dark")
        page.get_by_role("button", name="Take the photograph", exact=True).click()
        expect(page.locator("#verdict")).to_have_class(re.compile("photograph__verdict--not"))
        again = page.get_by_role("button", name="Take it again")
        expect(again).to_have_class(re.compile("button--main"))


def test_a_page_that_points_its_own_name_here_gets_nothing(browser, laptop):
    port = link_of(laptop).split(":")[2].partition("/")[0]
    page = page_of(browser, LAPTOP)
    answer = page.goto(f"https://evil.example:{port}/")

    assert answer
    assert answer.status == 421
    assert "Nobody here goes by this name" in page.content()
    page.context.close()


def test_closing_the_door_ends_what_the_phone_does(laptop, phone):
    laptop.goto("/settings/devices")
    laptop.get_by_role("button", name="Close the door").click()
    expect(laptop.get_by_role("status")).to_contain_text("The door is closed")
    phone.get_by_role("button", name="Take the photograph", exact=True).click()
    expect(phone.locator("#verdict")).to_contain_text("could not be looked at")
    phone.get_by_role("button", name="Use this photograph").click()
    expect(phone.locator("#problem")).to_contain_text("did not answer")

    laptop.get_by_role("button", name="Open the door").click()
    expect(laptop.get_by_role("button", name="Close the door")).to_be_visible()
    phone.goto("/camera")
    expect(phone.get_by_role("heading")).to_have_text("Log in")


@pytest.mark.parametrize("path", ["/settings/devices", "/add-phone", "/camera", "/join/wrong"])
def test_axe_finds_no_serious_fault_while_the_door_is_open(laptop, path):
    laptop.set_viewport_size(PHONE)
    laptop.goto(path)
    if path == "/camera":
        laptop.get_by_role("button", name="Take the photograph", exact=True).click()
        expect(laptop.locator("#verdict")).to_have_text("The film can be read.")

    assert grave_faults(laptop) == []


@pytest.mark.parametrize("size", [LAPTOP, PHONE], ids=["laptop", "phone"])
@pytest.mark.parametrize("direction", ["ltr", "rtl"])
def test_no_page_is_wider_than_its_window(browser, laptop, size, direction):
    laptop.set_viewport_size(size)
    for path in ("/settings/devices", "/add-phone", "/camera", "/join/wrong"):
        laptop.goto(path)
        laptop.evaluate(f"document.documentElement.dir = '{direction}'")
        assert not overflows(laptop), path
