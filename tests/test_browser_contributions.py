"""Readings for the publisher in the real Chromium, on a laptop and a phone: consent to stick."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from playwright.sync_api import Browser, Page, expect

from app.contribution_run import ContributionRun
from tests.people import browser_of
from tests.studies import answered
from tests.test_browser_updates import SIZES, holds
from tests.test_export_readings import publisher, read_study, reader, stick
from tests.test_pages_contributions import drives, run

__all__ = ["drives", "publisher", "reader", "run", "stick"]

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture(params=SIZES)
def pages(
    request: Any, browser: Browser, live_server: Any, administrator: Any, data_dir: Path
) -> Iterator[Page]:
    name = settings.SESSION_COOKIE_NAME
    cookie = browser_of(administrator).cookies[name].value
    context = browser.new_context(viewport=SIZES[request.param], base_url=live_server.url)
    context.add_cookies([{"name": name, "value": cookie, "url": live_server.url}])
    page = context.new_page()
    page.set_default_timeout(30_000)
    yield page
    context.close()


def test_from_consent_to_the_stick(
    pages: Page,
    publisher: Any,
    reader: Any,
    run: ContributionRun,
    drives: list[Path],
    stick: Path,
):
    study = answered()
    pages.goto("/contributions")
    expect(pages.get_by_text("No patient has agreed yet.")).to_be_visible()
    holds(pages)

    pages.goto(f"/studies/{study.number}/edit")
    pages.get_by_role("radio", name="yes").check()
    pages.get_by_role("button", name="Save", exact=True).click()
    pages.goto("/contributions")
    expect(pages.get_by_text("Films that nobody has read yet")).to_be_visible()

    for seed in (1, 2):
        read_study(reader, seed, probability=0.99 if seed == 1 else 0.45)
    drives.append(stick)
    pages.reload()
    holds(pages)
    pages.get_by_role("button", name="Prepare the file").click()
    expect(pages.get_by_text("Nothing has left yet.")).to_be_visible()
    holds(pages)

    with pages.expect_download() as saved:
        pages.get_by_role("button", name="Save the file").click()
    assert saved.value.suggested_filename.endswith(".clinicreadings")

    pages.get_by_role("button", name="Write it to this stick").click()
    expect(pages.get_by_text("It left as").last).to_contain_text(str(stick))
    assert [one.suffix for one in stick.iterdir()] == [".clinicreadings"]
    holds(pages)

    pages.get_by_role("button", name="Remove it from here").click()
    expect(pages.get_by_role("row", name="Films that can leave now 0")).to_be_visible()
    holds(pages)
