"""The worklist at work: films on their way in, lost connections, scanners, several people at once.

In the real Chromium. Most pages come from a server without a worker, so that a film waits until the
test answers it; the hundred films go through the whole program.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.conf import settings as django_settings
from django.contrib.sessions.models import Session
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect

from app.models import Instance, Patient, Site, State, Study, User
from tests.people import PASSWORD, browser_of, enter
from tests.running import ROOT, serving
from tests.studies import answer, answered, film_bytes, take_in

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

LAPTOP = {"width": 1366, "height": 768}
PHONE = {"width": 360, "height": 740}
Open = Callable[..., Page]


@pytest.fixture
def nurse(site, data_dir) -> User:
    return enter("health_worker", password=PASSWORD)


@pytest.fixture
def visit(browser: Browser, live_server, nurse) -> Iterator[Open]:
    """Open a page in a browser of its own; whatever its scripts complain about fails the test."""
    contexts: list[BrowserContext] = []
    faults: list[str] = []

    def visit(
        path: str = "/", user: User = nurse, size: dict[str, int] = LAPTOP, **more: object
    ) -> Page:
        context = browser.new_context(viewport=size, base_url=live_server.url, **more)
        contexts.append(context)
        name = django_settings.SESSION_COOKIE_NAME
        value = browser_of(user).cookies[name].value
        context.add_cookies([{"name": name, "value": value, "url": live_server.url}])
        page = context.new_page()
        page.set_default_timeout(30_000)
        expect.set_options(timeout=30_000)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(path)
        return page

    yield visit
    for context in contexts:
        context.close()
    assert faults == []


def small_films(count: int, first: int = 0) -> list[dict[str, object]]:
    return [
        {"name": f"film-{i:03}.png", "mimeType": "image/png", "buffer": film_bytes(i, (40, 40))}
        for i in range(first, first + count)
    ]


def put_in(page: Page, films: list[dict[str, object]]) -> None:
    page.set_input_files("#films", films)


def rows(page: Page) -> list[str | None]:
    return [row.get_attribute("data-number") for row in page.locator("tr.study").all()]


def overflows(page: Page) -> bool:
    return bool(
        page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
    )


def drag_in(page: Page, *paths: Path) -> None:
    """Let real files and folders of this machine go over the page, as a hand with a mouse does."""
    session = page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        event = {"type": kind, "x": 700, "y": 400, "data": data}
        session.send("Input.dispatchDragEvent", event)


class TestHundredFiles:
    def test_they_go_in_two_at_a_time_while_the_page_can_be_used(self, visit):
        page = visit()
        page.evaluate(
            """() => {
              window.now = window.most = 0;
              const open = XMLHttpRequest.prototype.open;
              XMLHttpRequest.prototype.open = function (...address) {
                window.most = Math.max(window.most, window.now += 1);
                this.addEventListener("load", () => (window.now -= 1));
                open.apply(this, address);
              };
            }"""
        )
        put_in(page, small_films(100))
        page.fill("#q", "typed meanwhile")

        expect(page.locator("#batch-line")).to_have_text("100 of 100 films stored")
        assert page.input_value("#q") == "typed meanwhile"
        assert Instance.objects.count() == 100
        assert page.evaluate("window.most") == 2

    def test_they_are_answered_before_ones_eyes(self, browser, tmp_path):
        environment = {**os.environ, "CLINIC_HOME": str(tmp_path)}
        with serving([sys.executable, str(ROOT / "run_clinic.py")], environment) as (visitor, _):
            page = browser.new_context(viewport=LAPTOP, base_url=visitor.address).new_page()
            page.goto("/")
            put_in(page, small_films(100))

            expect(page.locator("#batch-line")).to_have_text(
                "100 of 100 films stored", timeout=120_000
            )
            expect(page.locator("#running")).to_be_hidden(timeout=120_000)
            expect(page.locator('[data-tab="all"] .tab__count')).to_have_text("100")
            expect(page.locator('[data-tab="waiting"] .tab__count')).to_have_text("0")
            expect(page.locator("tr.study[data-unfinished]")).to_have_count(0)
            page.context.close()

    def test_they_are_counted_while_they_still_wait(self, visit):
        page = visit()
        put_in(page, small_films(3))

        for tab in ("all", "waiting", "unread"):
            expect(page.locator(f'[data-tab="{tab}"] .tab__count')).to_have_text("3")

    def test_thousands_leave_only_some_lines_on_the_page(self, visit):
        page = visit()
        answered_by_script = {"study": "20260101-0001", "url": "/", "error": None}
        page.route(
            "**/upload",
            lambda route: route.fulfill(
                json={"films": [answered_by_script | {"duplicate": False}]}
            ),
        )
        page.evaluate(
            """() => {
              const transfer = new DataTransfer();
              for (let i = 0; i < 3000; i += 1) transfer.items.add(new File([`${i}`], `${i}.png`));
              const input = document.getElementById("films");
              input.files = transfer.files;
              input.dispatchEvent(new Event("change"));
            }"""
        )
        expect(page.locator("#batch-waiting")).to_have_text(re.compile(r"\d{4}$"))
        assert page.locator("#batch-files li").count() < 40

        page.get_by_role("button", name="Stop sending").click()
        expect(page.locator("#batch-line")).to_contain_text("not sent")
        expect(page.locator("#batch-close")).to_be_visible()

    def test_too_many_that_are_too_large_are_all_told_of(self, visit):
        page = visit()
        page.evaluate("document.getElementById('upload').dataset.mostBytes = '10'")
        put_in(page, small_films(150))

        expect(page.locator("#batch-line")).to_contain_text("150 not stored")
        expect(page.locator(".sent--failed")).to_have_count(100)

    def test_while_they_are_sent_a_study_opens_in_a_tab_of_its_own(self, visit):
        answered(seed=900)
        page = visit()
        page.route("**/upload", lambda route: None)  # never answered: they stay on their way
        put_in(page, small_films(3))
        expect(page.locator("#batch-elsewhere")).to_contain_text("Go on working")

        with page.context.expect_page() as opened:
            page.locator("tr.study a").first.click()
        opened.value.wait_for_url("**/studies/*/")
        assert page.url.endswith("/")

    def test_leaving_while_films_are_unsent_is_asked_about(self, visit):
        page = visit()
        page.route("**/upload", lambda route: None)
        put_in(page, small_films(2))
        asked: list[str] = []
        page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.accept()))

        page.reload()
        assert asked == ["beforeunload"]


# A file that is stored before its folder is listed is a batch of its own, and counted before it
ALL_STORED = re.compile("^(4 of 4|3 of 3) films stored$")


class TestFolder:
    @pytest.fixture
    def folder(self, tmp_path) -> Path:
        top = tmp_path / "stick"
        (top / "2026" / "deeper").mkdir(parents=True)
        (top / ".hidden").mkdir()
        for seed, place in enumerate(("a.png", "2026/b.png", "2026/deeper/c.png")):
            (top / place).write_bytes(film_bytes(seed, (40, 40)))
        for name in (".DS_Store", "Thumbs.db", "desktop.ini", ".hidden/no.png"):
            (top / name).write_bytes(name.encode())
        return top

    def test_its_films_go_in_however_deep_they_lie(self, visit, folder):
        page = visit()
        drag_in(page, folder)

        expect(page.locator("#batch-line")).to_have_text("3 of 3 films stored")
        names = set(Instance.objects.values_list("file_name", flat=True))
        assert names == {"a.png", "b.png", "c.png"}

    def test_it_goes_in_beside_files_with_the_age_that_was_given(self, visit, folder, tmp_path):
        single = tmp_path / "single.png"
        single.write_bytes(film_bytes(50, (40, 40)))
        page = visit()
        page.fill("#age", "7")
        drag_in(page, folder, single)

        expect(page.locator("#batch-line")).to_have_text(ALL_STORED)
        assert list(Study.objects.values_list("age_years", flat=True)) == [7.0] * 4
        expect(page.locator("#age")).to_have_value("")

    def test_more_files_than_a_browser_lists_at_once_all_go_in(self, visit, tmp_path):
        folder = tmp_path / "many"
        folder.mkdir()
        for i in range(230):  # Chromium lists a hundred at a time
            (folder / f"{i}.png").write_bytes(str(i).encode())
        page = visit()
        drag_in(page, folder)

        expect(page.locator("#batch-line")).to_have_text("230 of 230 films stored", timeout=90_000)
        assert Instance.objects.count() == 230

    def test_one_without_files_is_said_to_be_empty(self, visit, tmp_path):
        (tmp_path / "empty" / "deeper").mkdir(parents=True)
        page = visit()
        drag_in(page, tmp_path / "empty")

        expect(page.locator("#batch-line")).to_have_text("There is no file in this folder.")

    def test_it_can_be_chosen_without_a_mouse(self, visit, folder):
        page = visit()
        page.locator("#folder").focus()
        with page.expect_file_chooser() as chooser:
            page.keyboard.press("Enter")
        chooser.value.set_files(folder)

        expect(page.locator("#batch-line")).to_have_text("3 of 3 films stored")


class TestLostConnection:
    def test_films_wait_until_the_wifi_is_back_and_none_goes_in_twice(self, visit):
        page = visit()
        put_in(page, small_films(40))
        expect(page.locator("#batch-line")).to_have_text(re.compile(r"^[3-9] of 40"))
        page.context.set_offline(True)
        expect(page.locator("#batch-hold")).to_contain_text("go on by themselves")

        page.context.set_offline(False)
        expect(page.locator("#batch-line")).to_have_text("40 of 40 films stored")
        expect(page.locator("#batch-hold")).to_be_hidden()
        assert Instance.objects.count() == Study.objects.count() == 40
        # The one whose answer got lost is no film that "was here before"
        assert "was here before" not in page.locator("#batch-files").inner_text()

    def test_an_answer_that_got_lost_leaves_one_film(self, visit):
        page = visit()
        lost: list[object] = []

        def lose_the_first_answer(route: Route) -> None:
            if lost:
                route.continue_()
            else:
                lost.append(route.fetch())  # stored, but the page never hears of it
                route.abort("connectionreset")

        page.route("**/upload", lose_the_first_answer)
        put_in(page, small_films(1))

        page.wait_for_url("**/studies/*/")
        assert Instance.objects.count() == 1
        expect(page.locator(".notice")).to_have_count(0)

    def test_a_program_that_takes_nothing_is_not_asked_for_ever(self, visit):
        page = visit()
        page.route("**/upload", lambda route: route.abort())
        put_in(page, small_films(1))
        expect(page.locator(".sent--failed")).to_contain_text("The program did not answer.")

        page.unroute("**/upload")
        page.get_by_role("button", name="Try again").click()
        page.wait_for_url("**/studies/*/")

    def test_all_that_failed_can_be_sent_once_more_at_once(self, visit):
        page = visit()
        page.route("**/upload", lambda route: route.fulfill(status=500, body="{}"))
        put_in(page, small_films(3))
        expect(page.locator(".sent--failed")).to_have_count(3)

        page.unroute("**/upload")
        page.get_by_role("button", name="All once more").click()
        expect(page.locator("#batch-line")).to_have_text("3 of 3 films stored")

    def test_the_page_says_that_it_may_be_old(self, visit):
        take_in()
        page = visit()
        page.context.set_offline(True)
        expect(page.locator("#lost")).to_contain_text("The program does not answer.")

        page.context.set_offline(False)
        expect(page.locator("#lost")).to_be_hidden()


class TestLogInThatRanOut:
    def test_films_wait_and_go_on_after_a_log_in_in_another_tab(self, visit):
        page = visit()
        put_in(page, small_films(30))
        expect(page.locator("#batch-line")).to_have_text(re.compile("^[2-9] of 30"))
        Session.objects.all().delete()
        expect(page.locator("#batch-hold")).to_contain_text("You are logged out.")

        with page.context.expect_page() as opened:
            page.get_by_role("link", name="Log in, in a new tab").click()
        tab = opened.value
        tab.fill("[name=username]", "health_worker")
        tab.fill("[name=password]", PASSWORD)
        tab.press("[name=password]", "Enter")
        tab.wait_for_url(re.compile("/$"))

        expect(page.locator("#batch-line")).to_have_text("30 of 30 films stored")
        expect(page.locator("#batch-hold")).to_be_hidden()
        assert Instance.objects.count() == 30

    def test_an_idle_page_says_so_too(self, visit):
        take_in()
        page = visit()
        Session.objects.all().delete()

        expect(page.locator("#lost")).to_contain_text("You are logged out.")


class TestScanner:
    """A scanner types into whatever has the focus, and ends with Enter."""

    def scan(self, page: Page, text: str) -> None:
        for character in text:
            page.keyboard.press(character)
        page.keyboard.press("Enter")

    @pytest.mark.parametrize("size", [LAPTOP, PHONE])
    def test_the_number_of_a_study_opens_it_with_the_focus_nowhere(self, visit, size):
        study = answered()
        answered(seed=2)
        page = visit(size=size)
        self.scan(page, study.number)

        page.wait_for_url(f"**/studies/{study.number}/")
        expect(page.get_by_role("heading", level=1)).to_contain_text(study.number)

    def test_the_number_of_a_patient_opens_the_studies_of_that_patient(self, visit):
        theirs, _other = answered(), answered(seed=2)
        patient = Patient.objects.create(name="Amina Otieno", number="MRN-0077")
        theirs.change({"patient": patient}, by=None)
        page = visit()
        self.scan(page, "MRN-0077")

        page.wait_for_url(f"**/?patient={patient.pk}")
        assert rows(page) == [theirs.number]

    def test_what_was_in_the_field_before_is_written_over(self, visit):
        study = answered(name="amina.png")
        page = visit("/?q=amina")
        page.locator("tr.study a").focus()
        self.scan(page, study.number)

        page.wait_for_url(f"**/studies/{study.number}/")
        expect(page.get_by_role("heading", level=1)).to_contain_text(study.number)

    def test_typing_into_another_field_stays_there(self, visit):
        page = visit()
        page.locator("#age").press("7")

        assert page.input_value("#age") == "7"
        assert page.input_value("#q") == ""

    def test_a_slash_leads_to_the_search_and_is_not_typed(self, visit):
        page = visit("/?q=amina")
        page.keyboard.press("/")

        expect(page.locator("#q")).to_be_focused()
        assert page.input_value("#q") == "amina"

    def test_keys_with_a_meaning_of_their_own_are_left_alone(self, visit):
        answered()
        page = visit()
        for key in ("Control+b", "Tab", "Escape", "F2", "Space"):
            page.keyboard.press(key)

        expect(page.locator("#q")).not_to_be_focused()


class TestBatch:
    @pytest.fixture
    def waiting(self, visit) -> list[Study]:
        return [take_in(film_bytes(seed, (64, 64))) for seed in range(4)]

    def test_it_moves_without_a_reload_for_everybody(self, visit, waiting):
        page, other = visit(), visit(user=enter("clinician"))
        expect(page.locator("#running-line")).to_have_text("0 of 4 films analysed")
        answer(waiting[0])

        for shown in (page, other):
            expect(shown.locator("#running-line")).to_have_text("1 of 4 films analysed")
            row = shown.locator(f"#study-{waiting[0].number}")
            expect(row).to_have_attribute("data-answer", "likely")
            expect(shown.locator('[data-tab="waiting"] .tab__count')).to_have_text("3")
            expect(shown.locator('[data-tab="answered"] .tab__count')).to_have_text("1")

    def test_the_time_left_is_told_once_it_can_be_known(self, visit, waiting):
        page = visit()
        expect(page.locator("#running-left")).to_have_text("")
        for study in waiting[:3]:
            answer(study)

        expect(page.locator("#running-left")).to_have_text(re.compile("left$"))

    def test_a_page_that_was_quiet_learns_of_it_by_itself(self, visit):
        page = visit()
        expect(page.locator("#running")).to_be_hidden()
        take_in()

        expect(page.locator("#running-line")).to_have_text("0 of 1 films analysed")

    def test_it_is_cancelled_with_the_keyboard_alone(self, visit, waiting):
        answer(waiting[0])
        page = visit()
        page.locator(".running__cancel summary").focus()
        page.keyboard.press("Enter")
        expect(page.locator("#running-question")).to_have_text(
            "Cancel the analysis of 3 films that wait?"
        )
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")

        expect(page.locator("#running")).to_be_hidden()
        expect(page.locator('tr.study[data-answer="cancelled"]')).to_have_count(3)
        assert Instance.objects.filter(state=State.CANCELLED).count() == 3

    def test_cancelling_holds_back_the_films_that_are_not_sent_yet(self, visit, waiting):
        page = visit()
        page.route("**/upload", lambda route: None)
        put_in(page, small_films(10, first=100))
        page.locator(".running__cancel summary").click()
        page.get_by_role("button", name="Yes, cancel").click()

        expect(page.locator("#batch-line")).to_contain_text("8 not sent")

    def test_a_cancelled_film_is_asked_for_again_on_its_study(self, visit, waiting):
        film = waiting[0].instances.get()
        film.cancel(None)
        page = visit(f"/studies/{waiting[0].number}/")
        page.get_by_role("button", name="Analyse again").click()

        expect(page.locator(".verdict")).to_contain_text("Waiting for its turn")
        film.refresh_from_db()
        assert film.state == State.WAITING

    def test_two_who_ask_again_at_once_ask_once(self, visit, waiting):
        from django_tasks_db.models import DBTaskResult

        waiting[0].instances.get().cancel(None)
        before = DBTaskResult.objects.count()
        pages = [visit(f"/studies/{waiting[0].number}/") for _ in range(2)]
        for page in pages:
            page.get_by_role("button", name="Analyse again").click()
            expect(page.locator(".verdict")).to_contain_text("Waiting for its turn")

        assert DBTaskResult.objects.count() == before + 1


class TestBlindFirstRead:
    def test_an_answer_that_comes_while_the_clinician_looks_on_stays_hidden(self, visit):
        Site.objects.update(blind_first_read=True)
        study = take_in()
        page = visit(user=enter("clinician"))
        answer(study)

        row = page.locator("tr.study")
        expect(row).to_have_attribute("data-answer", "hidden")
        expect(row).to_contain_text("Read it first")
        expect(page.locator("#news")).to_contain_text(f"{study.number}: Read it first")
        assert "93" not in row.inner_text()


class TestSmallScreen:
    @pytest.mark.parametrize("direction", ["ltr", "rtl"])
    def test_everything_fits(self, visit, direction):
        study = answered(name=f"{'a' * 200}.png")
        take_in(film_bytes(2))
        name = "\u202eAmina 👩🏾\u200d⚕️ " + "Otieno" * 20
        study.change({"patient": Patient.objects.create(name=name, number="7")}, by=None)
        patient = Patient.objects.get()
        page = visit(f"/?since=nonsense&patient={patient.pk}", size=PHONE)
        page.evaluate("direction => { document.documentElement.dir = direction }", direction)

        assert not overflows(page)
        page.goto("/?tab=read&until=2026-02-30")
        assert not overflows(page)

    def test_the_filters_fold_away_and_open_by_a_tap(self, visit):
        page = visit(size=PHONE, has_touch=True)
        expect(page.locator("#id_since")).to_be_hidden()
        page.locator(".filters__fold").tap()

        expect(page.locator("#id_since")).to_be_visible()

    def test_filters_that_hold_are_not_hidden(self, visit):
        page = visit("/?answer=likely", size=PHONE)

        expect(page.locator("#id_answer")).to_have_value("likely")
        expect(page.locator("#id_answer")).to_be_visible()


class TestKeyboardAlone:
    def test_a_filter_is_set_kept_over_the_tabs_and_cleared(self, visit):
        answered(), answered(seed=2, answer="unlikely", regions=())
        page = visit()
        page.locator("#id_answer").focus()
        page.keyboard.press("u")
        page.keyboard.press("u")
        page.keyboard.press("Enter")
        page.locator("#id_reader").focus()
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        page.wait_for_url(re.compile("answer=unlikely"))
        assert len(rows(page)) == 1

        page.locator('[data-tab="unread"]').focus()
        page.keyboard.press("Enter")
        page.wait_for_url(re.compile("tab=unread"))
        assert "answer=unlikely" in page.url
        assert len(rows(page)) == 1

        page.get_by_role("link", name="Clear all").focus()
        page.keyboard.press("Enter")
        page.wait_for_url(re.compile(r"\?tab=unread$"))
        assert len(rows(page)) == 2

    def test_the_way_back_from_a_study_leads_to_the_same_part_of_the_list(self, visit):
        answered(seed=3, answer="unlikely", regions=())
        page = visit("/?answer=unlikely")
        page.locator("tr.study a").press("Enter")
        page.wait_for_url("**/studies/*/")
        page.go_back()

        expect(page.locator("#id_answer")).to_have_value("unlikely")
        assert len(rows(page)) == 1


class TestWeight:
    def test_the_page_without_its_films_is_light(self, visit, browser, live_server, nurse):
        for seed in range(25):
            answered(seed=seed)
        weights: dict[str, int] = {}
        page = visit("/healthz")

        def weigh(response):
            if "thumbnail" not in response.url:
                weights[response.url] = len(response.body())

        page.on("response", weigh)
        page.goto("/", wait_until="networkidle")
        assert len(weights) > 4
        assert sum(weights.values()) < 300_000
