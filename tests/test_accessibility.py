"""Every page can be used without a mouse, without seeing colours, and by a screen reader."""

from __future__ import annotations

import os

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.conf import settings
from playwright.sync_api import Browser, Page

from tests.every_page import clinic_at_work
from tests.people import browser_of

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("data_dir"),
]

SIZES = {"laptop": {"width": 1366, "height": 768}, "phone": {"width": 360, "height": 740}}
#: Both languages and both sizes; all four pairs where there is time.
LOOKED_AT = [("en", "laptop"), ("ar", "phone")]
if os.environ.get("CLINIC_SOAK", "1") != "1":
    LOOKED_AT += [("en", "phone"), ("ar", "laptop")]
GRAVE = ("serious", "critical")
# Where a Tab can go, and where it does go: every control that can be seen.
REACHABLE = """() => {
  const shown = (e) => e.checkVisibility({ visibilityProperty: true, opacityProperty: false })
    && !e.closest("details:not([open]) > :not(summary)") && !e.closest("[inert]");
  return [...document.querySelectorAll(
    "a[href], button, input:not([type=hidden]), select, textarea, summary")]
    .filter((e) => shown(e) && !e.disabled && e.tabIndex < 0)
    .filter((e) => !e.closest("[role=toolbar], [role=radiogroup], [role=tablist]"))
    .map((e) => e.outerHTML.slice(0, 200));
}"""


@pytest.fixture
def pages(administrator) -> dict[str, str]:
    return clinic_at_work(administrator)


def logged_in(browser: Browser, live_server, user, size: dict[str, int]) -> Page:
    name = settings.SESSION_COOKIE_NAME
    cookie = browser_of(user).cookies[name].value
    context = browser.new_context(viewport=size, base_url=live_server.url)
    context.add_cookies([{"name": name, "value": cookie, "url": live_server.url}])
    return context.new_page()


def grave_faults(page: Page) -> list[str]:
    found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    return [
        f"{fault['id']}: {node['html'][:160]}"
        for fault in found
        if fault["impact"] in GRAVE
        for node in fault["nodes"]
    ]


@pytest.mark.parametrize(("language", "size"), LOOKED_AT)
def test_axe_finds_no_serious_fault_on_any_page(
    browser, live_server, administrator, pages, size, language
):
    administrator.language = language
    administrator.save()
    page = logged_in(browser, live_server, administrator, SIZES[size])
    faults, sideways = {}, []
    for name, address in pages.items():
        response = page.goto(address)
        assert response.status < 400, (name, response.status)
        page.wait_for_load_state("networkidle")
        if found := grave_faults(page):
            faults[name] = found
        if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            sideways.append(name)
    page.context.close()

    assert faults == {}
    assert sideways == []


def test_every_control_is_reached_with_the_tab_key(browser, live_server, administrator, pages):
    page = logged_in(browser, live_server, administrator, SIZES["laptop"])
    unreachable = {}
    for name, address in pages.items():
        page.goto(address)
        if found := page.evaluate(REACHABLE):
            unreachable[name] = found
    page.context.close()

    assert unreachable == {}


def test_the_pages_before_log_in_have_no_serious_fault_either(browser, live_server, site):
    page = browser.new_page()
    page.goto(f"{live_server.url}/log-in")
    before_log_in = grave_faults(page)
    site.set_up_at = None
    site.save()
    page.goto(f"{live_server.url}/set-up")
    before_set_up = grave_faults(page)
    page.context.close()

    assert before_log_in == []
    assert before_set_up == []
