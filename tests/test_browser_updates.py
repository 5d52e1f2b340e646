"""Model updates in the real Chromium, on a laptop and a phone: from the stick to the way back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings
from playwright.sync_api import Browser, Page, expect

from app.models import Reading
from tests.people import browser_of, enter
from tests.test_accessibility import grave_faults
from tests.test_pages_updates import NEVER_LIKELY, NEW, OLD, Clinic, answered, clinic, keys

__all__ = ["clinic", "keys"]

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

SIZES = {"laptop": {"width": 1366, "height": 768}, "phone": {"width": 360, "height": 740}}


@pytest.fixture(params=SIZES)
def pages(
    request: Any, browser: Browser, live_server: Any, administrator: Any, clinic: Clinic
) -> Iterator[Page]:
    name = settings.SESSION_COOKIE_NAME
    cookie = browser_of(administrator).cookies[name].value
    context = browser.new_context(viewport=SIZES[request.param], base_url=live_server.url)
    context.add_cookies([{"name": name, "value": cookie, "url": live_server.url}])
    page = context.new_page()
    page.set_default_timeout(30_000)
    page.goto("/updates")
    yield page
    context.close()


def holds(page: Page) -> None:
    """Nothing lies beside the page, and no grave fault for those who cannot see it."""
    assert not page.evaluate("document.documentElement.scrollWidth > innerWidth")
    assert grave_faults(page) == []


def test_from_the_stick_to_the_switch_and_back(pages: Page, clinic: Clinic):
    holds(pages)
    clinic.update(calibration=NEVER_LIKELY)
    reader = enter("clinician")
    for study in answered(1, 2, 3):
        Reading.objects.create(study=study, by=reader, conclusion="pneumonia", before_answer=True)
    pages.get_by_role("link", name="Look again").click()
    pages.get_by_role("button", name="Check it").first.click()
    expect(pages.get_by_role("heading", name=f"The update: {NEW}")).to_be_visible()
    holds(pages)

    pages.get_by_role("button", name="Try on our last films").click()
    expect(pages.get_by_text("Of 3 films, 3 would be answered otherwise.")).to_be_visible()
    holds(pages)

    pages.get_by_role("button", name=f"Install {NEW}").click()
    expect(pages.get_by_text(f"The model {NEW} answers now.")).to_be_visible()
    expect(pages.get_by_role("button", name="Analyse again")).to_have_count(3)
    holds(pages)

    pages.get_by_role("button", name=f"Go back to {OLD}").click()
    expect(pages.get_by_text(f"The model {OLD} answers now.")).to_be_visible()


def test_the_browser_brings_a_file(pages: Page, clinic: Clinic):
    pages.get_by_label("Or choose a file").set_input_files(clinic.update())
    pages.get_by_role("button", name="Check it").last.click()
    expect(pages.get_by_role("heading", name=f"The update: {NEW}")).to_be_visible()

    pages.get_by_role("button", name="Discard").click()
    expect(pages.get_by_text("Discarded. The model in use stays.")).to_be_visible()
