"""What every test stands on: a data directory of its own, and real films where there are any.

The environment is set while this file is imported, before Django's settings are first read, so
that no test can ever touch the data of a clinic that runs on the same machine.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

# First: TensorFlow offers the symbols of its own SQLite to all that is loaded after it
import sqlcipher3  # type: ignore[import-untyped]  # noqa: F401
from hypothesis import settings
from playwright.sync_api import Browser, sync_playwright

from tests import running

if TYPE_CHECKING:
    from django.test import Client

    from app.models import Site, User

ROOT = Path(__file__).resolve().parent.parent
SESSION_HOME = Path(tempfile.mkdtemp(prefix="clinic-tests-"))

# No deadline: a slow example on a busy machine is no fault of the code.
settings.register_profile(
    "clinic", deadline=None, max_examples=40 * int(os.environ.get("CLINIC_SOAK", "1"))
)
settings.load_profile("clinic")

for name in [name for name in os.environ if name.startswith("CLINIC_") and name != "CLINIC_SOAK"]:
    del os.environ[name]
if DATABASE_URL := os.environ.get("CXR_TEST_DATABASE_URL", ""):
    os.environ["CLINIC_DATABASE_URL"] = DATABASE_URL  # the tests of the tables, on PostgreSQL
os.environ["CLINIC_HOME"] = str(SESSION_HOME / "data")
os.environ["DJANGO_SETTINGS_MODULE"] = "app.settings"
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
# Playwright runs an event loop in the thread of the tests, beside which Django asks no database
os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"


def pytest_configure() -> None:
    import django

    django.setup()  # pytest-django looks for the settings before this file is read
    _let_tests_empty_the_record()
    _hash_cheaply()
    _stay_as_quick()


def _stay_as_quick() -> None:
    """What gives way to a clinic's work does so for good, and would slow the tests after it."""
    from app.updates import shadow

    shadow.NICENESS = 0


def _hash_cheaply() -> None:
    """Passwords cost a clinic's guesser a tenth of a second each, and thousands of tests minutes.
    Programs that tests start hash as they do in a clinic.
    """
    from app.passwords import Argon2

    Argon2.time_cost, Argon2.memory_cost, Argon2.parallelism = 1, 8, 1


def _let_tests_empty_the_record() -> None:
    """Between tests every table is emptied, also the one whose triggers refuse that. They are put
    up again after it (app.apps).
    """
    from django.db import connection

    from app.audit import triggers

    # Of the class: beside an event loop, as Playwright's, there is another connection
    operations: Any = type(connection.ops)
    flush = operations.sql_flush

    def without_triggers(*args: Any, **kwargs: Any) -> list[str]:
        table = "" if connection.vendor == "sqlite" else f" ON {triggers.TABLE}"
        down = [f"DROP TRIGGER IF EXISTS {name}{table}" for name in triggers.NAMES.values()]
        return [*down, *flush(*args, **kwargs)]

    operations.sql_flush = without_triggers


def pytest_unconfigure() -> None:
    shutil.rmtree(SESSION_HOME, ignore_errors=True)


#: Files of few tests that take long: begun last, one process would end minutes after the other.
FIRST = {
    "test_whole_circle", "test_encryption", "test_accessibility", "test_fuzz", "test_workers",
    "test_crash_under_load", "test_continue", "test_unlabelled", "test_dicom_crash", "test_soak",
    "test_postgres", "test_access_table",
}  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever asks how large to be is a soak test: `make soak` runs these, and larger."""
    items.sort(key=lambda item: item.path.stem not in FIRST)
    for item in items:
        if "soak" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.soak)


@pytest.fixture(scope="session")
def django_db_modify_db_settings() -> None:
    """A real file, as in the clinic: locks and WAL are not those of a database in memory."""
    from django.db import connections

    if DATABASE_URL:
        return
    SESSION_HOME.joinpath("data").mkdir(exist_ok=True)
    connections.settings["default"]["TEST"]["NAME"] = SESSION_HOME / "data" / "test.sqlite3"


@pytest.fixture
def data_dir(tmp_path: Path, settings: Any) -> Path:
    """A data directory of the test's own for films, backups and logs; the database is shared."""
    folder = tmp_path / "clinic"
    settings.DATA_DIR = settings.MEDIA_ROOT = folder
    settings.TEMPORARY_DIR = settings.FILE_UPLOAD_TEMP_DIR = folder / "tmp"
    settings.BACKUP_DIR, settings.LOG_DIR = folder / "backups", folder / "logs"
    settings.TEMPORARY_DIR.mkdir(parents=True)
    return folder


@pytest.fixture(autouse=True)
def _nobody_asked_before() -> None:
    """Each test begins with its limits unused: all of them come from one address."""
    from app import doors
    from app.lan.tries import wrong_passwords_here

    doors.costly.clear()
    wrong_passwords_here.clear()


@pytest.fixture
def site(db: None) -> Site:
    """A clinic that is set up, as pages find it after the first start."""
    from app.models import Site

    current = Site.current()
    current.set_up()
    return current


@pytest.fixture
def administrator(site: Site) -> User:
    from tests.people import enter

    return enter("administrator")


@pytest.fixture
def client(administrator: User) -> Client:
    """A browser in which the administrator is logged in."""
    from tests.people import browser_of

    return browser_of(administrator)


@pytest.fixture
def blind(site: Site) -> Site:
    """The clinic, if clinicians read its films before they see the answer, from the beginning."""
    site.blind_first_read = True
    site.save()
    return site


@pytest.fixture(scope="session")
def root() -> Path:
    """The folder of the program's source."""
    return ROOT


@pytest.fixture(scope="session")
def cxr_data() -> Path:
    """The real films (README: CXR_DATA); a test that asks for them is skipped without them."""
    value = os.environ.get("CXR_DATA", "")
    if not value:
        pytest.skip("no real films: CXR_DATA is not set")
    folder = Path(value)
    if not folder.is_dir():
        pytest.skip(f"no real films: CXR_DATA names {folder}, which is no folder")
    return folder


@pytest.fixture(scope="session")
def chromium() -> Path:
    """The browser of the tests. CI must have it: a skipped browser test proves nothing."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return Path(found)
    if os.environ.get("CI"):
        pytest.fail("no Chromium on this machine: .ci/run installs it")
    pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")


@pytest.fixture(scope="session")
def display() -> Iterator[str]:
    """The screen of the tests of the window, and its name. CI must have it."""
    pytest.importorskip("tkinter")
    if missing := running.needs_screen():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)
    with running.screen() as (name, _):
        yield name


@pytest.fixture(scope="module")
def browser(chromium: Path) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(chromium), args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def soak() -> int:
    """How many times over a soak test does its work: 1, or CLINIC_SOAK."""
    return int(os.environ.get("CLINIC_SOAK", "1"))
