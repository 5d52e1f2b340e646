"""A disk that fills up: warned of in time, films turned away politely, nothing half written."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from django.db import connection
from django_tasks_db.models import DBTaskResult

from app import checks, films, intake, messages, startup
from app.audit import seal
from app.models import Instance, Study
from tests.clinics import as_it_is
from tests.studies import film_bytes

pytestmark = pytest.mark.django_db(transaction=True)

MEGABYTE = 1024**2


def take_in(content: bytes) -> intake.Receipt:
    return intake.receive(io.BytesIO(content), "film.png", "upload")


def with_free(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    usage = shutil.disk_usage("/")._replace(free=free)
    monkeypatch.setattr(shutil, "disk_usage", lambda _at: usage)


def no_trace(data_dir: Path) -> bool:
    rows = Instance.objects.exists() or Study.objects.exists() or DBTaskResult.objects.exists()
    names = {name for name in as_it_is(data_dir) if name != "audit.key"}
    return not rows and not names


@pytest.fixture
def usual(settings, monkeypatch) -> None:
    monkeypatch.delenv("CLINIC_MIN_FREE_MB", raising=False)
    settings.MIN_FREE_BYTES = 500 * MEGABYTE


class TestTheLimits:
    def test_the_reserve_is_500_mb_where_nobody_chose_another(self):
        from django.conf import settings

        assert settings.MIN_FREE_BYTES == 500 * MEGABYTE
        assert checks.WARN_AT_RESERVES * settings.MIN_FREE_BYTES == 2000 * MEGABYTE

    def test_a_film_that_leaves_the_reserve_is_taken(self, data_dir, usual, monkeypatch):
        with_free(monkeypatch, 500 * MEGABYTE + len(film_bytes()))

        assert take_in(film_bytes()).instance.pk

    def test_a_byte_less_and_it_is_turned_away_with_what_to_do(self, data_dir, usual, monkeypatch):
        with_free(monkeypatch, 500 * MEGABYTE + len(film_bytes()) - 1)

        with pytest.raises(intake.Rejected) as caught:
            take_in(film_bytes())

        assert caught.value.code == "disk_full"
        assert "Free some space" in messages.sentence("disk_full")
        assert no_trace(data_dir)


class Nth:
    """A function that fails with a full disk at its n-th call."""

    def __init__(self, real: Callable[..., object], count: int) -> None:
        self.real, self.left = real, count

    def __call__(self, *args: object, **more: object) -> object:
        self.left -= 1
        if self.left == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self.real(*args, **more)


class TestNothingIsHalfWritten:
    @pytest.mark.parametrize(
        ("where", "name"),
        [(os, "fsync"), (Path, "mkdir"), (Path, "replace"), (films, "sync_folder")],
    )
    def test_wherever_the_disk_is_full_while_a_film_is_stored(
        self, data_dir, settings, monkeypatch, where, name
    ):
        settings.MIN_FREE_BYTES = 0
        codes = []
        for step in range(1, 6):
            failing = Nth(getattr(where, name), step)
            with monkeypatch.context() as patched:
                patched.setattr(where, name, lambda *a, _f=failing, **k: _f(*a, **k))
                try:
                    take_in(film_bytes(step))
                except intake.Rejected as rejected:
                    codes.append((rejected.code, Instance.objects.count()))
                else:
                    Study.objects.get().delete_for("the next try", None)
        assert set(codes) == {("disk_full", 0)}

    def test_a_film_that_was_turned_away_is_taken_once_there_is_room(
        self, data_dir, settings, monkeypatch
    ):
        settings.MIN_FREE_BYTES = 0
        with monkeypatch.context() as patched:
            patched.setattr(films, "sync_folder", Nth(films.sync_folder, 1))
            with pytest.raises(intake.Rejected):
                take_in(film_bytes())

        receipt = take_in(film_bytes())

        assert not receipt.duplicate
        stored = data_dir / films.name_of(receipt.instance.sha256)
        assert stored.read_bytes() == film_bytes()

    def test_a_database_that_cannot_grow_takes_back_the_film(self, data_dir, settings):
        """SQLite's own limit of pages: the very error of a full disk, from SQLite itself."""
        settings.MIN_FREE_BYTES = 0
        with connection.cursor() as cursor:
            pages = cursor.execute("PRAGMA page_count").fetchone()[0]
            cursor.execute(f"PRAGMA max_page_count={pages}")
        try:
            codes = set()
            for seed in range(400):
                try:
                    take_in(film_bytes(seed, (32, 32)))
                except intake.Rejected as rejected:
                    codes.add(rejected.code)
                    break
            assert codes == {"disk_full"}
            stored = {name for name in as_it_is(data_dir) if name.startswith("films/")}
            rows = Instance.objects.values_list("sha256", flat=True)
            assert stored == {films.name_of(sha256) for sha256 in rows}
        finally:
            with connection.cursor() as cursor:
                cursor.execute("PRAGMA max_page_count=1073741823")

    def test_what_is_committed_is_on_the_disk_before_it_is_acknowledged(self):
        """synchronous=FULL (2): in WAL mode NORMAL may lose the last commits in a power cut."""
        with connection.cursor() as cursor:
            assert cursor.execute("PRAGMA synchronous").fetchone()[0] == 2
            assert cursor.execute("PRAGMA journal_mode").fetchone()[0] == "wal"


class TestKeys:
    """Made once and never again: half a key would stay for ever."""

    @pytest.fixture(params=["secret.key", "audit.key"])
    def make(self, request, data_dir, settings) -> Callable[[], bytes]:
        def make() -> bytes:
            if request.param == "secret.key":
                startup.keep_secret_key()
            else:
                seal._known.clear()
                seal.seal("anything")
            return (data_dir / request.param).read_bytes()

        for name in ("secret.key", "audit.key"):
            (data_dir / name).unlink(missing_ok=True)
        make.path = data_dir / request.param
        return make

    def test_a_disk_that_is_full_leaves_no_half_of_one(self, make, monkeypatch):
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", Nth(os.fsync, 1))
            with contextlib.suppress(OSError):
                make()
        assert not make.path.exists()

        assert len(make()) >= 50

    def test_an_empty_file_that_a_power_cut_left_becomes_one(self, make):
        make.path.touch()

        assert len(make()) >= 50

    def test_one_that_is_there_stays(self, make):
        assert make() == make()

    def test_where_another_process_was_faster_its_key_is_kept(self, make, monkeypatch):
        def faster(_new: object, path: Path) -> None:
            path.write_bytes(b"theirs")
            raise FileExistsError(errno.EEXIST, "File exists")

        monkeypatch.setattr(os, "link", faster)

        assert make() == b"theirs"

    def test_a_file_system_without_links_keeps_one_all_the_same(self, make, monkeypatch):
        def none(*_names: object) -> None:
            raise PermissionError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "link", none)

        assert len(make()) >= 50
        assert [path for path in make.path.parent.iterdir() if path.suffix == ".new"] == []
