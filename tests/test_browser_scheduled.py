"""From the hospital's list to the film in the real Chromium, on a laptop and a phone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings
from playwright.sync_api import Browser, Page, expect

from app import scheduled
from app.dicom import worklist
from app.models import Peer, Study
from tests.people import browser_of
from tests.studies import film_bytes
from tests.test_accessibility import grave_faults
from tests.test_scheduled import GRACE

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("data_dir"),
]

SIZES = {"laptop": {"width": 1280, "height": 800}, "phone": {"width": 390, "height": 844}}


@pytest.fixture(params=SIZES)
def page(
    request: Any, browser: Browser, live_server: Any, administrator: Any, monkeypatch: Any
) -> Iterator[Page]:
    Peer.objects.create(name="RIS", ae_title="RIS", host="127.0.0.1", gives_worklist=True)
    monkeypatch.setattr(scheduled, "lookup", scheduled.Lookup())
    monkeypatch.setattr(worklist, "ask", lambda *_args, **_more: worklist.Answer((GRACE,)))
    name = settings.SESSION_COOKIE_NAME
    cookie = browser_of(administrator).cookies[name].value
    context = browser.new_context(viewport=SIZES[request.param], base_url=live_server.url)
    context.add_cookies([{"name": name, "value": cookie, "url": live_server.url}])
    found = context.new_page()
    found.set_default_timeout(30_000)
    yield found
    context.close()
    scheduled.lookup.wait()


def test_a_film_that_is_sent_by_the_script_is_the_orders(page: Page):
    page.goto("/worklist/scheduled")
    expect(page.get_by_role("heading", name="Who is waiting")).to_be_visible()
    assert not page.evaluate("document.documentElement.scrollWidth > innerWidth")
    assert grave_faults(page) == []
    page.get_by_role("button", name="Take the film of Okello Grace").click()
    expect(page.get_by_text("Films that you put in now are those of:")).to_be_visible()
    films = [
        {"name": f"{seed}.png", "mimeType": "image/png", "buffer": film_bytes(seed)}
        for seed in (1, 2)
    ]
    page.locator("#films").set_input_files(films)
    expect(page.get_by_text("2 of 2 films stored")).to_be_visible()
    study = Study.objects.get()
    assert (study.study_uid, study.accession_number) == (GRACE.study_uid, "A-1")
    assert study.instances.count() == 2
    assert study.patient
    assert study.patient.number == "P-77"
