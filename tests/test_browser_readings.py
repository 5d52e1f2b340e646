"""Signs and readings in the real Chromium: by keyboard alone, by touch, on a laptop and a phone."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.conf import settings
from playwright.sync_api import Browser, FloatRect, Page, expect

from app.cxr.signs import Signs
from app.models import ClinicalSigns, Reading, Role, Site, Study, User
from tests.people import browser_of, enter
from tests.studies import answer, answered, film_bytes, take_in

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("data_dir"),
]

LAPTOP = {"width": 1366, "height": 768}
PHONE = {"width": 360, "height": 740}
BANNER = "Refer urgently, whatever the film says."

Open = Callable[..., Page]


@pytest.fixture
def reader(site: Site) -> User:
    return enter(Role.CLINICIAN, full_name="Achieng Odhiambo")


@pytest.fixture
def look(browser: Browser, live_server, reader: User) -> Iterator[Open]:
    """Open a study in a browser of the reader's; what its scripts complain of fails the test."""
    cookie = browser_of(reader).cookies[settings.SESSION_COOKIE_NAME].value
    complaints: list[str] = []
    contexts = []

    def look(study: Study, size: dict[str, int] = LAPTOP, **more: object) -> Page:
        context = browser.new_context(viewport=size, base_url=live_server.url, **more)
        contexts.append(context)
        context.add_cookies(
            [{"name": settings.SESSION_COOKIE_NAME, "value": cookie, "url": live_server.url}]
        )
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(f"/studies/{study.number}/")
        return page

    expect.set_options(timeout=30_000)
    yield look
    for context in contexts:
        context.close()
    assert complaints == []


def child(seed: int = 1, **fields: object) -> Study:
    study = answered(seed=seed, **({"answer": "unlikely", "regions": ()} | fields))
    Study.objects.filter(pk=study.pk).update(age_years=3.0)
    return Study.objects.get(pk=study.pk)


def tab_to(page: Page, target: str, most: int = 60) -> int:
    """Press Tab until the focus is there; how often that was."""
    for pressed in range(most):
        if page.evaluate("at => document.activeElement.matches(at)", target):
            return pressed
        page.keyboard.press("Tab")
    raise AssertionError(f"{target} is not reached by {most} times Tab")


def box(page: Page, target: str) -> FloatRect:
    found = page.locator(target).first.bounding_box()
    assert found, target
    return found


def overflows(page: Page) -> bool:
    return bool(
        page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
    )


class TestSigns:
    def test_they_are_entered_with_the_keyboard_alone(self, look):
        page = look(child())
        tab_to(page, "#enter-signs > summary")
        page.keyboard.press("Enter")
        keys = tab_to(page, "[name=danger_signs][value=none]")
        page.keyboard.press("Space")
        keys += tab_to(page, "[name=breaths_per_minute]")
        page.keyboard.type("52")
        keys += tab_to(page, "[name=chest_indrawing]:checked")
        page.keyboard.press("ArrowLeft")  # from "Not asked" to "No"
        keys += tab_to(page, "[name=oxygen_saturation]")
        page.keyboard.type("96")
        page.keyboard.press("Enter")

        expect(page.locator(".assessment__class")).to_have_text("Pneumonia")
        row = ClinicalSigns.objects.get().signs
        assert (row["danger_signs"], row["breaths_per_minute"], row["oxygen_saturation"]) == (
            [], 52.0, 96.0,
        )  # fmt: skip
        assert row["chest_indrawing"] is False
        # Ten seconds allow for some twenty keys
        assert keys + 9 <= 24

    def test_they_are_entered_by_touch_on_a_phone(self, look):
        phone = look(child(), PHONE, is_mobile=True, has_touch=True)
        phone.locator("#enter-signs > summary").tap()
        phone.get_by_text("None of these").tap()
        phone.locator("#sign-breaths_per_minute").fill("52")
        phone.locator(".sign--chest_indrawing .choice").nth(1).tap()
        assert not overflows(phone)
        phone.get_by_role("button", name="Save the signs").tap()

        expect(phone.locator(".assessment__class")).to_have_text("Pneumonia")
        assert ClinicalSigns.objects.get().signs["chest_indrawing"] is False
        assert not overflows(phone)

    def test_what_is_tapped_is_as_large_as_a_thumb(self, look):
        phone = look(child(), PHONE, is_mobile=True, has_touch=True)
        phone.locator("#enter-signs > summary").tap()

        # 44 px: WCAG 2.2, 2.5.5
        for target in phone.locator("#signs .choice:visible, #readings .choice:visible").all():
            found = target.bounding_box()
            assert found
            assert min(found["height"], found["width"]) >= 44

    def test_none_of_these_and_a_danger_sign_exclude_each_other(self, look):
        page = look(child())
        page.locator("#enter-signs > summary").click()
        none, convulsions = (
            page.locator(f"[name=danger_signs][value={code}]") for code in ("none", "convulsions")
        )

        none.check()
        convulsions.check()
        expect(none).not_to_be_checked()
        none.check()
        expect(convulsions).not_to_be_checked()

    @pytest.mark.parametrize(("seconds", "taps", "counted"), [(60, 26, "26"), (30, 26, "52")])
    def test_breaths_are_counted_by_tapping(self, look, seconds, taps, counted):
        page = look(child())
        page.clock.install()
        page.reload()
        page.locator("#enter-signs > summary").click()
        page.get_by_role("button", name="Count them").click()
        page.locator(f"label[for=counter-{seconds}]").click()
        tap = page.locator(".counter__tap")
        tap.focus()
        page.keyboard.press("Space")
        for _ in range(taps):
            page.keyboard.press("Space")
        expect(page.locator(".counter__count")).to_have_text(str(taps))
        expect(page.locator("#sign-breaths_per_minute")).to_have_value("")

        page.clock.fast_forward(seconds * 1000 + 300)
        expect(page.locator("#sign-breaths_per_minute")).to_have_value(counted)
        expect(page.locator(".counter__news")).to_contain_text(counted)
        page.get_by_role("button", name="Save the signs").click()
        expect(page.locator(".assessment").first).to_be_visible()
        assert ClinicalSigns.objects.get().signs["breaths_per_minute"] == float(counted)

    def test_signs_go_in_without_scripts(self, look):
        page = look(child(), java_script_enabled=False)
        page.locator("#enter-signs > summary").click()
        assert not page.get_by_role("button", name="Count them").is_visible()
        page.locator("#sign-breaths_per_minute").fill("52")
        page.get_by_role("button", name="Save the signs").click()

        expect(page.locator(".assessment__class")).to_have_text("Pneumonia")

    def test_a_wrong_number_is_answered_where_it_stands(self, look):
        page = look(child())
        page.locator("#enter-signs > summary").click()
        page.locator("#sign-breaths_per_minute").fill("500")
        page.get_by_role("button", name="Save the signs").click()

        error = page.locator(".sign--breaths_per_minute .field__error")
        expect(error).to_have_text("Count the breaths for one full minute: a number from 5 to 150.")
        expect(error).to_be_in_viewport()
        expect(page.locator("#sign-breaths_per_minute")).to_be_focused()
        expect(page.locator("#sign-breaths_per_minute")).to_have_value("500")

    @pytest.mark.parametrize("size", [LAPTOP, PHONE])
    def test_a_danger_sign_stands_above_everything(self, look, size):
        page = look(child(), size)
        page.locator("#enter-signs > summary").click()
        page.get_by_text("Convulsions (fits)").click()
        page.get_by_role("button", name="Save the signs").click()

        banner = page.get_by_role("alert").filter(has_text=BANNER)
        expect(banner).to_be_in_viewport()
        for part in (".verdict", ".film", "#signs", "h1"):
            assert box(page, ".urgent")["y"] < box(page, part)["y"], part
        assert not overflows(page)

    def test_under_the_banner_the_whole_film_and_its_slider_still_fit(self, look, reader):
        study = child(answer="likely")
        ClinicalSigns.record(study, reader, Signs(danger_signs=frozenset({"convulsions"})))
        page = look(study)

        for part in (".urgent", ".film", ".strength__slider"):
            expect(page.locator(part)).to_be_in_viewport(ratio=1)

    def test_on_a_phone_the_danger_stays_in_view(self, look, reader):
        study = child()
        ClinicalSigns.record(study, reader, Signs(danger_signs=frozenset({"convulsions"})))
        phone = look(study, PHONE, is_mobile=True, has_touch=True)

        phone.locator(".limits").last.scroll_into_view_if_needed()
        expect(phone.locator(".urgent")).to_be_in_viewport()

    def test_the_age_is_asked_for_first(self, look):
        page = look(answered())
        page.get_by_label("Age of the patient").fill("18")
        page.get_by_label("years or months").select_option("months")
        page.get_by_role("button", name="Go on").click()

        expect(page.locator("#enter-signs")).to_be_visible()
        assert Study.objects.get().age_years == 1.5


class TestReadings:
    def test_a_film_is_read_blind_with_the_keyboard_alone(self, look, blind):
        page = look(child(answer="likely"))
        assert "likely" not in page.content()
        assert "pneumonia" not in page.title()
        tab_to(page, "#readings [name=conclusion]")
        page.keyboard.press("ArrowDown")  # from the first to the second: no pneumonia
        tab_to(page, "#reading-note")
        page.keyboard.type("Clear.")
        tab_to(page, "#readings button[type=submit]")
        page.keyboard.press("Enter")

        compare = page.locator(".compare")
        expect(compare).to_contain_text(
            re.compile("You read.*no pneumonia.*computer.*likely", re.S)
        )
        assert "Signs of pneumonia: likely" in page.title()
        tab_to(page, "#readings [name=agrees]")
        page.keyboard.press("Space")
        page.keyboard.press("ArrowRight")
        tab_to(page, "#readings button[type=submit]")
        page.keyboard.press("Enter")
        expect(compare).to_have_count(0)

        rows = Reading.objects.values_list("conclusion", "before_answer", "agrees", "note")
        assert list(rows) == [
            ("no_pneumonia", True, None, "Clear."), ("no_pneumonia", False, False, ""),
        ]  # fmt: skip

    def test_nothing_of_the_answer_is_fetched_before(self, look, blind):
        study = child(answer="likely")
        page = look(study)
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.reload()
        expect(page.locator(".film__picture")).to_be_visible()

        assert not [address for address in asked if "map.png" in address]
        assert page.locator(".film__map, .film__marks, .gauge, .zones").count() == 0

    def test_the_answer_that_comes_to_an_open_page_stays_hidden(self, look, blind):
        study = take_in(film_bytes(5))
        page = look(study)
        expect(page.locator(".reading")).to_have_attribute("data-answer", "waiting")
        answer(study)

        expect(page.locator(".reading")).to_have_attribute("data-answer", "hidden")
        assert "likely" not in page.title()
        assert "93" not in page.locator("#films").inner_text()

    def test_an_answer_that_comes_while_she_writes_takes_nothing_away(self, look):
        study = take_in(film_bytes(6))
        page = look(study)
        page.locator("#reading-note").fill("Something at the left base.")
        page.locator("#readings .choice").first.click()
        expect(page.get_by_text("Do you agree with the computer?")).to_be_hidden()
        answer(study)

        expect(page.get_by_text("Do you agree with the computer?")).to_be_visible()
        expect(page.locator("#reading-note")).to_have_value("Something at the left base.")
        page.get_by_text("I agree").click()
        page.get_by_role("button", name="Save my reading").click()
        expect(page.locator(".readings__row")).to_have_count(1)
        reading = Reading.objects.get()
        assert (reading.before_answer, reading.agrees) == (False, True)

    def test_a_double_click_is_one_reading(self, look, blind):
        page = look(child(answer="likely"))
        page.locator("#readings .choice").first.click()
        page.get_by_role("button", name="Save my reading").dblclick()

        expect(page.locator(".compare")).to_be_visible()
        assert Reading.objects.get().before_answer is True

    def test_two_tabs_make_two_readings_and_one_of_them_blind(self, look, blind):
        study = child(answer="likely")
        first, second = look(study), look(study)
        for page in (first, second):
            page.locator("#readings .choice").first.click()
            page.get_by_role("button", name="Save my reading").click()
            expect(page.locator("#readings .field__error, .compare").first).to_be_visible()

        assert list(Reading.objects.values_list("before_answer", flat=True))[:1] == [True]
        assert Reading.objects.filter(before_answer=True).count() == 1

    def test_the_back_button_makes_no_second_blind_reading(self, look, blind):
        page = look(child(answer="likely"))
        page.locator("#readings .choice").first.click()
        page.get_by_role("button", name="Save my reading").click()
        expect(page.locator(".compare")).to_be_visible()
        page.go_back()
        page.locator("#readings .choice").nth(2).click()
        page.get_by_role("button", name="Save my reading").click()
        page.wait_for_load_state()

        assert Reading.objects.filter(before_answer=True).count() == 1

    def test_the_diagnosis_comes_later(self, look, reader):
        study = child(answer="likely")
        Reading.record(study, reader, conclusion="pneumonia", agrees=True)
        page = look(study)
        page.get_by_text("Enter the final diagnosis").click()
        page.locator("#readings details[open] .choice").filter(has_text="another disease").click()
        page.locator("#diagnosis-note").fill("Tuberculosis")
        page.get_by_role("button", name="Save the diagnosis").click()

        expect(page.locator(".readings__row").last).to_contain_text("Final diagnosis:")
        assert Reading.objects.last().kind == "diagnosis"


def grave_faults(page: Page) -> list[str]:
    found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    return [
        f"{fault['id']}: {node['html'][:160]}"
        for fault in found
        if fault["impact"] in ("serious", "critical")
        for node in fault["nodes"]
    ]


@pytest.mark.parametrize("size", [LAPTOP, PHONE])
class TestAccessibility:
    def test_axe_finds_no_serious_fault_with_everything_open(self, look, reader, size):
        study = child(answer="likely")
        for signs in (Signs(danger_signs=frozenset({"convulsions"})), Signs(wheeze=True)):
            ClinicalSigns.record(study, reader, signs)
        Reading.record(study, reader, conclusion="pneumonia", agrees=True, note="At the base.")
        page = look(study, size)
        page.evaluate("document.querySelectorAll('main details').forEach(d => { d.open = true })")
        page.get_by_role("button", name="Count them").click()

        assert grave_faults(page) == []

    def test_axe_finds_no_serious_fault_in_a_blind_read(self, look, blind, size):
        assert grave_faults(look(child(answer="likely"), size)) == []

    def test_axe_finds_no_serious_fault_in_a_form_that_is_shown_again(self, look, size):
        page = look(child(answer="likely"), size)
        page.locator("#enter-signs > summary").click()
        page.locator("#sign-breaths_per_minute").fill("500")
        page.get_by_role("button", name="Save the signs").click()
        expect(page.locator(".field__error")).to_be_visible()

        assert grave_faults(page) == []


class TestLayout:
    @pytest.mark.parametrize("direction", ["ltr", "rtl"])
    def test_film_answer_signs_and_reading_stand_beside_each_other_on_a_laptop(
        self, look, direction
    ):
        page = look(child(answer="likely"))
        page.evaluate("d => { document.documentElement.dir = d }", direction)

        film, verdict, signs = (box(page, part) for part in (".stage", ".verdict", "#signs"))
        order = [film["x"], verdict["x"], signs["x"]]
        assert order == sorted(order, reverse=direction == "rtl")
        for part in (".stage", ".verdict", ".gauge", ".beside", "#signs", "#readings .choice"):
            assert box(page, part)["y"] + min(box(page, part)["height"], 80) < LAPTOP["height"], (
                part
            )
        assert not overflows(page)

    def test_the_film_stays_in_view_while_signs_are_entered(self, look):
        page = look(child(answer="likely"))
        page.locator("#enter-signs > summary").click()
        page.get_by_role("button", name="Save the signs").scroll_into_view_if_needed()

        expect(page.locator(".film")).to_be_in_viewport(ratio=0.9)

    def test_on_a_phone_the_answer_comes_first_then_film_signs_and_reading(self, look):
        phone = look(child(answer="likely"), PHONE, is_mobile=True, has_touch=True)

        parts = (".verdict", ".stage", ".gauge", ".beside", "#signs", "#readings", ".facts")
        tops = [box(phone, part)["y"] for part in parts]
        assert tops == sorted(tops)
        assert not overflows(phone)

    def test_on_a_phone_a_blind_reading_comes_right_after_the_film(self, look, blind):
        phone = look(child(answer="likely"), PHONE, is_mobile=True, has_touch=True)

        parts = (".verdict", ".danger", ".stage", "#readings", "#signs")
        tops = [box(phone, part)["y"] for part in parts]
        assert tops == sorted(tops)
