"""The page of backups: set up, sticks, progress, and the way back, as an administrator sees it."""

from __future__ import annotations

import io
import re
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connection
from django.utils import timezone

from app.backup import DATABASE, keeper, local, note, outcome, restore, sources
from app.backup.store import Store
from app.models import AuditEvent, Instance, Site
from app.updates import sticks
from tests.clinics import PASSPHRASE, flip_a_bit, pair, set_up
from tests.people import browser
from tests.studies import film_bytes, take_in

pytestmark = pytest.mark.django_db(transaction=True)

PAGE = "/settings/backups"


@pytest.fixture
def data(data_dir, settings) -> Path:
    settings.DATABASE_FILE = Path(connection.settings_dict["NAME"])
    (data_dir / DATABASE).symlink_to(settings.DATABASE_FILE)
    for seed in (1, 2):
        take_in(film_bytes(seed), f"{seed}.png")
    return data_dir


@pytest.fixture
def stick(tmp_path, monkeypatch) -> Path:
    """A stick that is plugged in and that nobody has chosen."""
    drive = tmp_path / "KINGSTON"
    drive.mkdir()
    monkeypatch.setattr(sticks, "drives", lambda: [drive] if drive.exists() else [])
    return drive


@pytest.fixture
def chosen(data, stick) -> Store:
    """The same, chosen, with a backup."""
    there, _known, _line = set_up(data, stick)
    note.note_stick(data, there.name, label="KINGSTON")
    keeper.keeper.back_up_now()
    keeper.keeper.wait()
    return there


def actions() -> list[str]:
    events = AuditEvent.objects.order_by("pk")
    return list(events.values_list("action", flat=True))


class TestSettingUp:
    def test_before_it_the_page_says_what_may_be_lost(self, client, data, stick):
        page = client.get(PAGE).content.decode()

        assert "everything is lost" in page
        assert "Use this stick" not in page

    def test_the_line_is_shown_once_and_opens_the_backups(self, client, data, stick):
        words = {"passphrase": PASSPHRASE, "again": PASSPHRASE}
        page = client.post(f"{PAGE}/set-up", words).content.decode()
        line = re.search(r"AGE-SECRET-KEY-1\w+", page)[0]

        client.post(f"{PAGE}/stick", {"drive": str(stick)})
        keeper.keeper.wait()
        assert Store.at(stick).unlock(line)
        assert "AGE-SECRET-KEY" not in client.get(PAGE).content.decode()
        assert "backups_set_up" in actions()
        assert line not in str(AuditEvent.objects.values_list("details", flat=True))

    @pytest.mark.parametrize(
        ("passphrase", "again"), [("", ""), ("short", "short"), (PASSPHRASE, "another one")]
    )
    def test_what_cannot_be_a_passphrase_makes_no_key(self, client, data, passphrase, again):
        words = {"passphrase": passphrase, "again": again}
        response = client.post(f"{PAGE}/set-up", words)

        assert response.status_code == 400
        assert not note.read(data).is_set_up


class TestSticks:
    def test_nothing_is_written_to_a_stick_that_nobody_has_chosen(self, client, data, stick):
        set_up(data, data / "elsewhere")
        client.get(PAGE)
        client.post(f"{PAGE}/now")
        keeper.keeper.wait()

        assert list(stick.iterdir()) == []

    def test_chosen_it_gets_a_backup_at_once(self, client, data, stick):
        set_up(data, data / "elsewhere")
        client.post(f"{PAGE}/stick", {"drive": str(stick)})
        keeper.keeper.wait()

        assert Store.at(stick).newest().counts["films"] == 2
        assert "plugged in" in client.get(PAGE).content.decode()
        assert (stick / "clinic-backup" / "READ ME.txt").read_text().startswith("On this stick")
        assert "backup_stick_chosen" in actions()

    def test_a_path_that_is_no_stick_is_not_written_to(self, client, data, stick, tmp_path):
        set_up(data, data / "elsewhere")
        client.post(f"{PAGE}/stick", {"drive": str(tmp_path)})

        assert not (tmp_path / "clinic-backup").exists()

    def test_ended_it_keeps_what_is_on_it(self, client, chosen, data):
        client.post(f"{PAGE}/stick", {"forget": chosen.name})
        client.post(f"{PAGE}/now")
        keeper.keeper.wait()

        assert note.read(data).sticks == {}
        assert len(chosen.sets()) == 1
        assert "backup_stick_ended" in actions()

    def test_one_that_is_full_says_so_beside_it(self, client, chosen, data, monkeypatch):
        from app.backup import write

        real = write.shutil.disk_usage
        full = real("/")._replace(free=0)
        monkeypatch.setattr(
            write.shutil, "disk_usage", lambda at: full if at == chosen.folder else real(at)
        )
        client.post(f"{PAGE}/now")
        keeper.keeper.wait()

        assert "The stick is full" in client.get(PAGE).content.decode()
        assert note.read(data).sticks[chosen.name].trouble == "no_room_there"

    def test_read_through_it_is_whole_or_it_is_not(self, client, chosen):
        client.post(f"{PAGE}/check", {"stick": chosen.name})
        keeper.keeper.wait()
        assert "is whole" in client.get(PAGE).content.decode()

        flip_a_bit(chosen.blob(Instance.objects.first().sha256))
        client.post(f"{PAGE}/check", {"stick": chosen.name})
        keeper.keeper.wait()
        assert "1 file on this stick has decayed" in client.get(PAGE).content.decode()

        client.post(f"{PAGE}/now")
        keeper.keeper.wait()
        assert all(chosen.is_whole(entry) for entry in chosen.newest().entries)

    def test_pulled_out_it_is_missed_and_nothing_else(self, client, chosen, stick):
        stick.rename(stick.with_name("pocket"))
        client.post(f"{PAGE}/now")
        keeper.keeper.wait()

        page = client.get(PAGE).content.decode()
        assert "not here" in page
        assert "The backup is finished." in page  # that of the database


class TestHowOldItIs:
    def test_a_week_without_one_is_said_here_and_in_the_menu(self, client, chosen, data):
        assert "none for a week" not in client.get("/").content.decode()
        Site.objects.update(set_up_at=timezone.now() - timedelta(days=90))
        long_ago = timezone.now() - timedelta(days=8)
        note.note_stick(data, chosen.name, last=long_ago)

        assert "for a week" in client.get(PAGE).content.decode()
        assert "none for a week" in client.get("/").content.decode()

    def test_a_clinic_that_began_today_is_not_nagged(self, client, data):
        assert "none for a week" not in client.get("/").content.decode()

    def test_nobody_else_is_told(self, site, data):
        Site.objects.update(set_up_at=timezone.now() - timedelta(days=90))

        assert "none for a week" not in browser("clinician").get("/").content.decode()


class TestEveryDay:
    def test_what_was_missed_is_made_up(self, chosen, data):
        for copy in local.copies():
            copy.unlink()
        note.note_stick(data, chosen.name, last=timezone.now() - timedelta(days=3))
        assert keeper.keeper._is_anything_due()

        keeper.keeper._busy.acquire()
        keeper.keeper._run("backup", lambda: keeper.keeper._back_up(keeper.is_due))

        assert not keeper.keeper._is_anything_due()
        assert timezone.now() - note.read(data).last < timedelta(hours=1)

    def test_a_stick_that_is_not_here_is_not_due(self, chosen, data, stick):
        note.note_stick(data, chosen.name, last=timezone.now() - timedelta(days=3))
        stick.rename(stick.with_name("pocket"))

        assert not keeper.keeper._is_anything_due()

    def test_not_in_the_first_minutes_of_a_laptop(self, data, monkeypatch):
        waited = []
        own = keeper.Keeper()
        monkeypatch.setattr(own._stopping, "wait", lambda pause: bool(waited.append(pause)) or True)
        own._keep()

        assert waited == [keeper.FIRST_PAUSE]
        assert keeper.FIRST_PAUSE > 60

    def test_it_ends_with_the_program(self, data):
        own = keeper.Keeper()
        with own.kept():
            assert not own.is_running

    def test_two_at_once_are_one(self, chosen):
        keeper.keeper._busy.acquire()
        try:
            assert not keeper.keeper.back_up_now()
        finally:
            keeper.keeper._busy.release()

    def test_another_process_at_it_is_waited_for(self, chosen, data):
        with keeper.alone(), pytest.raises(keeper.BackupFault, match="busy"):
            keeper.back_up_to(chosen, lambda _done, _of: None)


class TestTheFile:
    def test_it_is_saved_by_the_browser_and_opens_with_the_passphrase(
        self, client, chosen, data, tmp_path
    ):
        response = client.post(f"{PAGE}/download")
        file = tmp_path / "saved.clinicbackup"
        file.write_bytes(b"".join(response.streaming_content))

        assert ".clinicbackup" in response["Content-Disposition"]
        with sources.opened(file, pair()[2], tmp_path / "t") as opened:
            assert opened.manifest.counts["films"] == 2
        assert "backup_downloaded" in actions()

    def test_without_a_key_there_is_none(self, client, data):
        response = client.post(f"{PAGE}/download", follow=True)

        assert "not set up yet" in response.content.decode()


class TestTheWayBack:
    def stage(self, client, chosen: Store, secret: str = "") -> str:
        words = {"backup": str(chosen.sets()[0]), "secret": secret or pair()[2]}
        client.post(f"{PAGE}/restore", words)
        keeper.keeper.wait()
        return str(client.get(PAGE).content.decode())

    def test_it_shows_first_what_would_be_lost(self, client, chosen, data):
        take_in(io.BytesIO(film_bytes(9)).getvalue(), "newer.png")
        newest = Instance.objects.last().study.number

        page = self.stage(client, chosen)

        assert "It is whole: 2 studies, 2 films." in page
        assert newest in page
        assert restore.waiting(data).state == restore.STAGED

    def test_confirmed_it_waits_for_the_next_start(self, client, chosen, data):
        self.stage(client, chosen)
        client.post(f"{PAGE}/decide", {"restore": "yes"})

        assert restore.waiting(data).state == restore.CONFIRMED
        assert "put in place at the next start" in client.get(PAGE).content.decode()
        assert "restore_confirmed" in actions()

    def test_and_can_still_be_called_off(self, client, chosen, data):
        self.stage(client, chosen)
        client.post(f"{PAGE}/decide", {"restore": "yes"})
        client.post(f"{PAGE}/decide")

        assert restore.waiting(data) is None
        assert not (data / restore.NEW).exists()

    def test_a_wrong_passphrase_is_said(self, client, chosen, data):
        page = self.stage(client, chosen, "maize road lantern eight")

        assert "does not open the backup" in page
        assert restore.waiting(data) is None

    def test_an_encrypted_one_needs_its_passphrase(self, client, chosen):
        response = client.post(f"{PAGE}/restore", {"backup": str(chosen.sets()[0])})

        assert response.status_code == 400
        assert "Type the passphrase" in response.content.decode()

    @pytest.mark.parametrize("path", ["/etc/passwd", "", "../../x"])
    def test_no_other_file_can_be_named(self, client, chosen, path):
        response = client.post(f"{PAGE}/restore", {"backup": path, "secret": "x"})

        assert response.status_code == 400

    def test_a_film_that_has_decayed_on_the_stick_is_taken_from_here(self, client, chosen):
        flip_a_bit(chosen.blob(Instance.objects.first().sha256))

        assert "It is whole" in self.stage(client, chosen)

    def test_what_was_done_is_said_until_it_was_read(self, client, data):
        done = outcome.Outcome("restore", outcome.now(), outcome.now(), "before-restore-1", films=2)
        outcome.write(data, done)
        page = client.get(PAGE).content.decode()
        assert "was restored" in page
        assert "before-restore-1" in page
        assert "worklist again: 2" in page

        client.post(f"{PAGE}/seen")
        assert "was restored" not in client.get(PAGE).content.decode()


@pytest.mark.parametrize("role", ["clinician", "health_worker", "read_only"])
def test_it_is_for_administrators_alone(site, data_dir, role):
    other = browser(role)

    assert other.get(PAGE).status_code == 403
    assert other.post(f"{PAGE}/download").status_code == 403
