"""The record of who did what shows what was done to it, by whichever way it was done."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone

import pytest
from django.db import DatabaseError, connection, transaction
from django.db.migrations.executor import MigrationExecutor
from django.urls import reverse
from hypothesis import given
from hypothesis import strategies as st

from app.audit import chain, check, export, seal, triggers
from app.audit.check import ANCHOR_FILE, Anchor, Watch, look
from app.models import AuditEvent, AuditHead, Role, User
from app.stop import CannotStart
from tests.people import PASSWORD, browser_of, enter

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("data_dir")]
BEFORE = ("clinic", "0007_peers_deliveries_tokens")

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False,
    allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


def write(events: int, **more: object) -> list[AuditEvent]:
    return [
        AuditEvent.record(None, "study_viewed", None, number=at, **more) for at in range(events)
    ]


def without_triggers(*statements: str) -> None:
    """What somebody does who owns the database file and knows SQL."""
    triggers.take_down(connection)
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
    triggers.put_up(connection)


def fault(whole: bool = True) -> str:
    """The code and the event of the first break, empty where there is none."""
    broken = look(Anchor.read(), whole=whole)[1]
    return f"{broken.code} {broken.details['number']}" if broken else ""


def forge_from(number: int, action: str) -> None:
    """Change an event and all digests after it, as the description of the form allows."""
    rows = list(AuditEvent.objects.order_by("sequence").values(*chain.NAMES, "digest"))
    digest = rows[number - 2]["digest"] if number > 1 else chain.START
    statements = []
    for row in rows[number - 1 :]:
        if row["sequence"] == number:
            row["action"] = action
        digest = chain.digest(digest, chain.event(row))
        statements.append(
            f"UPDATE {triggers.TABLE} SET action = '{row['action']}', digest = '{digest}' "
            f"WHERE sequence = {row['sequence']}"
        )
    without_triggers(*statements, f"UPDATE clinic_audithead SET digest = '{digest}'")


class TestWriting:
    def test_events_are_numbered_from_one_without_a_gap(self):
        write(3)

        assert [e.sequence for e in AuditEvent.objects.order_by("id")] == [1, 2, 3]

    def test_one_that_was_rolled_back_leaves_no_gap(self):
        write(1)
        with suppress(RuntimeError), transaction.atomic():
            write(1)
            raise RuntimeError
        write(1)

        assert [e.sequence for e in AuditEvent.objects.order_by("id")] == [1, 2]
        assert fault() == ""

    def test_each_is_chained_to_the_one_before(self):
        first, second = write(2)

        assert first.digest == chain.digest(chain.START, first.as_chained())
        assert second.digest == chain.digest(first.digest, second.as_chained())
        assert AuditHead.current().digest == second.digest

    def test_many_at_once_are_chained_too(self):
        write(2)
        AuditEvent.objects.bulk_create(AuditEvent(action="film_viewed") for _ in range(5))
        write(1)

        assert AuditHead.current().count == AuditEvent.objects.count() == 8
        assert fault() == ""

    def test_it_keeps_the_name_that_somebody_had_then(self, site):
        amina = enter(Role.CLINICIAN, "amina")
        event = AuditEvent.record(amina, "logged_in")
        User.objects.filter(pk=amina.pk).update(username="brian")

        assert AuditEvent.objects.get(pk=event.pk).username == "amina"
        assert fault() == ""

    @given(details=st.dictionaries(st.text(), JSON, max_size=5))
    def test_whatever_is_written_is_read_back_whole(self, details):
        with transaction.atomic():
            clean = json.loads(json.dumps(details).replace("\\u0000", ""))
            event = AuditEvent.objects.create(action="study_changed", details=clean)
            read = AuditEvent.objects.values(*chain.NAMES).get(pk=event.pk)
            assert chain.event(read) == event.as_chained()
            transaction.set_rollback(True)


class TestForm:
    """Form 1 never changes: these digests were computed once and for all."""

    EVENT = {
        "sequence": 1,
        "at": datetime(2026, 3, 4, 5, 6, 7, 89, tzinfo=UTC),
        "user": 3,
        "username": "amína",
        "action": "patient_changed",
        "kind": "patient",
        "subject": "P-7",
        "details": {"changed": {"name": ["Otieno", "Okello"]}, "age": 2.0},
    }
    TEXT = (
        '{"action":"patient_changed","at":"2026-03-04T05:06:07.000089+00:00","details":{"age":2,'
        '"changed":{"name":["Otieno","Okello"]}},"kind":"patient","sequence":1,"subject":"P-7",'
        '"user":3,"username":"am\\u00edna"}'
    )

    def test_it_is_written_as_it_always_was(self):
        assert chain.text(chain.event(self.EVENT)) == self.TEXT

    def test_its_digest_is_what_it_always_was(self):
        told = chain.digest(chain.START, chain.event(self.EVENT))

        assert told == "a042db219fdff286cef7ad7db4f0ca311ebbbd29dd61a7a9a3b119a27290c582"

    def test_the_moment_is_the_same_in_every_time_zone(self):
        there = self.EVENT["at"].astimezone(timezone(timedelta(hours=3)))

        assert chain.event({**self.EVENT, "at": there}) == chain.event(self.EVENT)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("sequence", 2),
            ("at", datetime(2026, 3, 4, 5, 6, 7, 90, tzinfo=UTC)),
            ("user", 4),
            ("user", None),
            ("username", "amina"),
            ("action", "patient_viewed"),
            ("kind", "study"),
            ("subject", "P-8"),
            ("details", {"changed": {"name": ["Otieno", "Okelo"]}, "age": 2.0}),
        ],
    )
    def test_every_value_is_under_the_digest(self, name, value):
        changed = chain.event({**self.EVENT, name: value})

        assert chain.digest(chain.START, changed) != chain.digest(
            chain.START, chain.event(self.EVENT)
        )


class TestTriggers:
    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE clinic_auditevent SET action = 'logged_in'",
            "UPDATE clinic_auditevent SET digest = ''",
            "DELETE FROM clinic_auditevent",
            "DELETE FROM clinic_auditevent WHERE sequence = 2",
        ],
    )
    def test_the_database_refuses_what_the_models_would(self, statement):
        write(2)
        with (
            pytest.raises(DatabaseError, match="neither changed nor removed"),
            transaction.atomic(),
        ):
            connection.cursor().execute(statement)

        assert AuditEvent.objects.filter(action="study_viewed").count() == 2

    def test_they_are_there_after_the_migrations(self):
        assert triggers.are_up(connection)

    def test_the_next_start_puts_them_up_where_a_migration_lost_them(self, monkeypatch):
        monkeypatch.setattr(check.connections, "close_all", lambda: None)
        triggers.take_down(connection)
        assert not triggers.are_up(connection)

        watch = Watch()
        watch._stop.set()
        watch._work()
        assert triggers.are_up(connection)

    def test_another_database_is_told_in_its_own_words(self):
        statements = " ".join(triggers._statements("postgresql"))

        assert statements.count("CREATE OR REPLACE TRIGGER") == 2
        assert "RAISE EXCEPTION" in statements


Deed = Callable[[], None]
TAMPERED: dict[str, tuple[Deed, str]] = {
    "another action": (
        lambda: without_triggers(
            "UPDATE clinic_auditevent SET action = 'logged_in' WHERE sequence = 4"
        ),
        "changed 4",
    ),
    "another moment": (
        lambda: without_triggers(
            "UPDATE clinic_auditevent SET at = '2020-01-01 00:00:00' WHERE sequence = 1"
        ),
        "changed 1",
    ),
    "another detail": (
        lambda: without_triggers(
            "UPDATE clinic_auditevent SET details = '{\"number\": 70}' WHERE sequence = 7"
        ),
        "changed 7",
    ),
    "one removed": (
        lambda: without_triggers("DELETE FROM clinic_auditevent WHERE sequence = 5"),
        "missing 5",
    ),
    "the first removed": (
        lambda: without_triggers("DELETE FROM clinic_auditevent WHERE sequence = 1"),
        "missing 1",
    ),
    "the last removed": (
        lambda: without_triggers("DELETE FROM clinic_auditevent WHERE sequence = 9"),
        "missing 9",
    ),
    "two swapped": (
        lambda: without_triggers(
            "UPDATE clinic_auditevent SET sequence = 99 WHERE sequence = 3",
            "UPDATE clinic_auditevent SET sequence = 3 WHERE sequence = 4",
            "UPDATE clinic_auditevent SET sequence = 4 WHERE sequence = 99",
        ),
        "changed 3",
    ),
    "one put in": (
        lambda: without_triggers(
            "INSERT INTO clinic_auditevent (sequence, at, username, action, kind, subject, details,"
            " digest) VALUES (10, '2020-01-01 00:00:00', '', 'logged_in', '', '', '{}', 'x')"
        ),
        "changed 10",
    ),
    "all digests computed anew": (lambda: forge_from(4, "logged_in"), "replaced 6"),
    "all digests computed anew after the anchor": (
        lambda: forge_from(8, "logged_in"),
        "not_sealed 10",
    ),
    "cut short with its head": (
        lambda: without_triggers(
            "DELETE FROM clinic_auditevent WHERE sequence > 4",
            "UPDATE clinic_audithead SET count = 4, digest ="
            " (SELECT digest FROM clinic_auditevent WHERE sequence = 4)",
        ),
        "cut_short 5",
    ),
    "emptied with its head": (
        lambda: without_triggers(
            "DELETE FROM clinic_auditevent", "DELETE FROM clinic_audithead"
        ),
        "cut_short 1",
    ),
    "another head": (
        lambda: without_triggers(f"UPDATE clinic_audithead SET digest = '{'0' * 64}'"),
        "replaced 9",
    ),
}  # fmt: skip


class TestTampering:
    @pytest.fixture(autouse=True)
    def _nine_events_of_which_six_are_anchored(self, data_dir):
        write(6)
        look(None, whole=True)[0].write()
        write(3)

    def test_a_whole_record_is_whole(self):
        assert fault() == ""
        assert fault(whole=False) == ""

    @pytest.mark.parametrize("case", TAMPERED)
    def test_it_shows(self, case):
        deed, shown = TAMPERED[case]
        deed()

        assert fault() == shown

    @pytest.mark.parametrize("case", TAMPERED)
    def test_it_still_shows_after_work_went_on(self, case):
        deed, _ = TAMPERED[case]
        deed()
        try:
            with transaction.atomic():
                write(12)
        except DatabaseError:  # the number of the one that was put in is taken
            assert case == "one put in"

        assert fault() != ""

    def test_what_was_anchored_is_not_looked_at_again_by_the_quick_look(self):
        without_triggers("UPDATE clinic_auditevent SET action = 'logged_in' WHERE sequence = 2")

        assert fault(whole=False) == ""
        assert fault() == "changed 2"

    def test_what_was_added_since_is(self):
        without_triggers("UPDATE clinic_auditevent SET action = 'logged_in' WHERE sequence = 8")

        assert fault(whole=False) == "changed 8"

    def test_an_anchor_of_somebody_else_is_none(self, data_dir):
        kept = json.loads((data_dir / ANCHOR_FILE).read_text())
        (data_dir / ANCHOR_FILE).write_text(json.dumps({**kept, "events": 2}))

        assert Anchor.read() is None

    def test_another_key_is_told_for_good(self, data_dir, monkeypatch):
        (data_dir / seal.KEY_FILE).unlink()
        monkeypatch.setattr(seal, "_known", {})
        assert fault() == "not_sealed 10"
        write(2)

        assert fault() == "not_sealed 10"

    @pytest.mark.parametrize("code", check.SENTENCES)
    def test_it_is_told_in_words_with_the_number_of_the_event(self, code):
        assert re.search(r"\bevents? (from )?7\b", check.Break.at(7, code).sentence)


class TestKey:
    def test_it_is_for_this_user_alone_and_not_in_the_database(self, data_dir):
        write(1)
        file = data_dir / seal.KEY_FILE

        assert file.stat().st_mode & 0o077 == 0
        assert file.read_text() not in str(AuditHead.objects.values())

    def test_two_processes_that_start_at_once_have_the_same(self, data_dir, monkeypatch):
        (data_dir / seal.KEY_FILE).write_text("ab" * 32)
        monkeypatch.setattr(seal, "_known", {})

        assert seal.fits(seal.seal("x"), "x")
        assert (data_dir / seal.KEY_FILE).read_text() == "ab" * 32

    def test_where_none_can_be_written_work_goes_on(self, data_dir, settings):
        settings.DATA_DIR = data_dir / "gone"

        assert write(1)[0].pk


class TestWatch:
    def test_it_moves_the_anchor_on(self):
        watch = Watch()
        watch.look()
        write(3)
        watch.look()

        assert Anchor.read() == Anchor(3, AuditHead.current().digest)
        assert watch.broken is None

    def test_it_leaves_the_anchor_where_it_was_when_something_is_wrong(self):
        write(3)
        watch = Watch()
        watch.look()
        before = Anchor.read()
        write(2)
        without_triggers("UPDATE clinic_auditevent SET action = 'x' WHERE sequence = 5")
        watch.look()

        assert watch.broken
        assert Anchor.read() == before

    def test_a_record_without_an_anchor_says_so_itself(self, data_dir):
        write(3)
        watch = Watch()
        watch.look()
        watch.look()
        assert AuditEvent.objects.filter(action="record_anchored").count() == 1

        (data_dir / ANCHOR_FILE).unlink()
        watch.look()
        assert AuditEvent.objects.filter(action="record_anchored").count() == 2

    def test_a_record_that_begins_needs_no_such_word(self):
        Watch().look()

        assert not AuditEvent.objects.exists()
        assert Anchor.read() == Anchor()

    def test_a_break_is_told_to_administrators_on_every_page_and_to_nobody_else(
        self, client, monkeypatch
    ):
        monkeypatch.setattr(check.watch, "broken", check.Break.at(4, "missing"))

        for page in ("worklist", "audit", "people"):
            assert b"event 4 is missing" in client.get(reverse(page)).content
        clinician = browser_of(enter(Role.CLINICIAN))
        assert b"event 4 is missing" not in clinician.get(reverse("worklist")).content

    def test_a_break_is_in_no_health(self, client, monkeypatch):
        before = client.get("/healthz").json()
        monkeypatch.setattr(check.watch, "broken", check.Break.at(4, "missing"))

        assert client.get("/healthz").json() == before


class TestCheck:
    def run(self) -> str:
        from app.management.commands.check import Command

        try:
            Command().handle(diagnostics=None)
        except CannotStart as fault:
            return str(fault)
        return "no fault"

    def test_it_says_which_event(self, monkeypatch):
        monkeypatch.setattr("app.checks.THOROUGH", ())
        write(3, name="Okello Grace")
        without_triggers("UPDATE clinic_auditevent SET action = 'x' WHERE sequence = 2")

        assert "event 2 is not as it was written" in self.run()
        assert "Okello" not in self.run()

    def test_a_whole_record_is_no_fault(self, monkeypatch):
        monkeypatch.setattr("app.checks.THOROUGH", ())
        write(3)

        assert self.run() == "no fault"

    def test_it_makes_no_database_where_there_is_none(self, monkeypatch, data_dir):
        write(1)
        without_triggers("UPDATE clinic_auditevent SET action = 'x' WHERE sequence = 1")
        monkeypatch.setitem(connection.settings_dict, "NAME", data_dir / "none.sqlite3")

        assert check.of_installation() is None


@pytest.fixture
def auditor(root, tmp_path) -> Callable[[str], subprocess.CompletedProcess[str]]:
    """The script that the manual gives to auditors, and what it says of a file."""
    manual = (root / "docs" / "audit.md").read_text(encoding="utf-8")
    (script,) = re.findall(r"```python\n(.*?)```", manual, re.DOTALL)

    def look(content: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "record.jsonl").write_text(content, encoding="ascii")
        words = [sys.executable, "-I", "-c", script, "record.jsonl"]
        return subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)

    return look


class TestExport:
    @pytest.fixture
    def content(self, site) -> str:
        amina = enter(Role.CLINICIAN, "amina", full_name="Amína")
        write(3, name="Zoë", age=2.0, threshold=0.1 + 0.2)
        AuditEvent.record(amina, "study_viewed")
        return "".join(export.lines())

    def test_an_auditor_finds_it_whole_without_the_program(self, content, auditor):
        said = auditor(content)

        assert said.returncode == 0, said.stderr
        assert said.stdout.startswith("4 events, whole.")
        assert AuditHead.current().digest in said.stdout

    @pytest.mark.parametrize(
        ("tamper", "said"),
        [
            (lambda lines: [lines[0], *lines[2:]], "Event 1 is not"),
            (lambda lines: [*lines[:2], lines[2].replace("viewed", "v"), *lines[3:]], "Event 2 "),
            (lambda lines: lines[:-1], "ends with event 3"),
            (lambda lines: [*lines[:2], lines[3], lines[2], lines[4]], "Event 2 is not"),
            (lambda lines: [*lines, lines[-1]], "Event 5 is not"),
        ],
    )
    def test_an_auditor_finds_what_was_done_to_the_file(self, content, auditor, tamper, said):
        told = auditor("".join(tamper(content.splitlines(keepends=True))))

        assert told.returncode == 1
        assert said in told.stderr

    def test_the_head_says_how_many_events_follow(self, content):
        head = json.loads(content.splitlines()[0])

        assert head["form"] == "clinic record 1"
        assert head["events"] == len(content.splitlines()) - 1 == 4
        assert head["digest"] == AuditHead.current().digest

    def test_what_is_written_meanwhile_is_left_out(self, site):
        write(2)
        growing = export.lines()
        head = json.loads(next(growing))
        write(2)

        assert head["events"] == len(list(growing)) == 2

    def test_more_than_a_chunk_is_whole(self, site, auditor, monkeypatch):
        monkeypatch.setattr(export, "CHUNK", 3)
        write(10)

        assert auditor("".join(export.lines())).stdout.startswith("10 events, whole.")

    def test_the_page_gives_it_and_records_who_took_it(self, client, auditor):
        response = client.get(reverse("audit-export"))
        content = b"".join(response.streaming_content).decode("ascii")

        assert auditor(content).returncode == 0
        assert response["Content-Disposition"].startswith('attachment; filename="who-did-what-')
        assert "no-store" in response["Cache-Control"]
        last = json.loads(content.splitlines()[-1])
        assert (last["action"], last["username"]) == ("audit_exported", "administrator")

    def test_the_page_offers_it(self, client):
        assert reverse("audit-export") in client.get(reverse("audit")).content.decode()

    def test_the_command_writes_it(self, monkeypatch, tmp_path, auditor, capsys):
        from app.management.commands import export_audit

        monkeypatch.setattr(export_audit.startup, "prepare_database", lambda: None)
        write(2)
        export_audit.Command().handle(out=tmp_path / "out.jsonl")

        assert auditor((tmp_path / "out.jsonl").read_text()).stdout.startswith("3 events, whole.")
        assert "3 events" in capsys.readouterr().out

    def test_the_command_says_where_it_cannot_write(self, monkeypatch, tmp_path):
        from app.management.commands import export_audit

        monkeypatch.setattr(export_audit.startup, "prepare_database", lambda: None)
        with pytest.raises(CannotStart, match="cannot be written"):
            export_audit.Command().handle(out=tmp_path / "no" / "out.jsonl")

    def test_the_program_has_the_command(self):
        import run_clinic

        assert "export-audit" in run_clinic.COMMANDS
        assert "export-audit" in run_clinic.USAGE


@pytest.mark.django_db(transaction=True)
class TestMigration:
    """Events of before are numbered and chained in their order, and the way back loses none."""

    @pytest.fixture
    def before(self):
        executor = MigrationExecutor(connection)
        executor.migrate([BEFORE])
        yield executor.loader.project_state([BEFORE]).apps
        executor = MigrationExecutor(connection)
        executor.migrate(executor.loader.graph.leaf_nodes())

    def migrate(self):
        executor = MigrationExecutor(connection)
        executor.migrate(executor.loader.graph.leaf_nodes())

    def test_they_are_whole_afterwards(self, before, monkeypatch):
        user = before.get_model("clinic", "User").objects.create(username="amina", role="clinician")
        old = before.get_model("clinic", "AuditEvent").objects
        for at in range(23):
            details = {"name": "Zoë", "at": at / 4}
            old.create(user=user if at % 2 else None, action="study_viewed", details=details)
        kept = list(old.order_by("pk").values("pk", "at", "user_id", "action", "details"))
        import importlib

        migration = importlib.import_module("app.migrations.0008_chained_record")
        monkeypatch.setattr(migration, "MANY", 5)

        self.migrate()

        now = AuditEvent.objects.order_by("pk")
        assert list(now.values("pk", "at", "user_id", "action", "details")) == kept
        assert [e.sequence for e in now] == list(range(1, 24))
        assert [e.username for e in now][:2] == ["", "amina"]
        assert triggers.are_up(connection)
        assert fault() == ""
        write(2)
        assert fault() == ""

    def test_an_empty_record_stays_one(self, before):
        self.migrate()

        assert fault() == ""
        assert AuditHead.current().count == 0


def test_the_password_of_the_tests_is_in_no_export(client):
    enter(Role.CLINICIAN, "brian", PASSWORD)

    assert PASSWORD not in "".join(export.lines())
