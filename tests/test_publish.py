"""From the workshop's release to the clinic's: published by the stage, taken by the program."""

from __future__ import annotations

import datetime as dt
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.management import call_command
from django.utils import timezone

from app import messages, update_words
from app.cxr import release as release_module
from app.cxr.release import Release, load_active
from app.cxr.update_format import INFO, is_fit_name, may_travel, program_version
from app.management.commands import import_update
from app.models import AuditEvent
from app.stop import CannotStart
from app.updates import clinic, install
from app.updates.refused import CODES, UpdateRefused
from app.updates.shadow import digest_of
from app.updates.verify import DOUBTS, Trust, open_update, remember
from tests.people import enter
from tests.publishing import keys, publish
from tests.tiny_release import make_release
from tests.tuf_publisher import IN_A_YEAR, Publisher, release_files


@pytest.fixture(scope="module")
def publisher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "publisher"
    keys("create", folders=[folder])
    return folder


@pytest.fixture
def trust(publisher: Path, tmp_path: Path) -> Trust:
    (tmp_path / "tmp").mkdir()
    root = (publisher / "1.root.json").read_bytes()
    return Trust(root, tmp_path / "tuf", tmp_path / "tmp", "0.1.0", dt.date(2026, 11, 25))


class Compared:
    """A publisher who has published the tiny release, and another that may follow it."""

    def __init__(self, publisher: Path, folder: Path) -> None:
        self.publisher, self.folder, self.out = publisher, folder, folder / "next.clinicupdate"
        self.old = make_release(folder / "first")
        assert publish(self.old, folder / "first.clinicupdate", publisher)[0] == 0
        self.new = make_release(folder / "next", lambda one: one.update(version="2.0.0"))

    def publish(self, *words: object) -> tuple[int, str]:
        return publish(self.new, self.out, self.publisher, compared=words)

    def note(self, **changes: Any) -> Path:
        """What the stage compare would write of the two."""
        old, new = ({"digest": digest_of(Release.load(one))} for one in (self.old, self.new))
        found = {"old": old, "new": new, "verdict": {"accepted": True, "reasons": []}}
        path = self.folder / "comparison.json"
        path.write_text(json.dumps(found | changes))
        return path


@pytest.fixture
def compared(publisher: Path, tmp_path: Path) -> Compared:
    shutil.copytree(publisher, tmp_path / "publisher")
    for name in ("targets", "snapshot", "timestamp"):  # nothing was published from this copy
        (tmp_path / "publisher" / f"{name}.json").unlink(missing_ok=True)
    return Compared(tmp_path / "publisher", tmp_path)


class TestPublishing:
    def test_what_is_published_is_taken(self, publisher, trust, tmp_path):
        out = tmp_path / "tiny.clinicupdate"
        code, said = publish(make_release(tmp_path / "release"), out, publisher)
        assert (code, said.split(",")[0]) == (0, "tiny@1.2.3")
        update = open_update(out, trust)
        assert (update.info.label, update.info.notes) == ("tiny@1.2.3", "Better.")
        assert update.doubts(timezone.now()) == ()

    def test_it_holds_the_release_and_nothing_that_runs(self, publisher, trust, tmp_path):
        out = tmp_path / "tiny.clinicupdate"
        publish(make_release(tmp_path / "release"), out, publisher)
        with zipfile.ZipFile(out) as archive:
            names = archive.namelist()
        assert all(map(is_fit_name, names))
        targets = {name.removeprefix("targets/") for name in names if name.startswith("targets/")}
        assert targets == {INFO, *release_files(tmp_path / "release")}
        assert all(map(may_travel, targets))

    def test_every_update_is_newer_than_the_one_before(self, publisher, trust, tmp_path):
        release, first, second = (
            tmp_path / name for name in ("r", "1.clinicupdate", "2.clinicupdate")
        )
        make_release(release)
        publish(release, first, publisher)
        publish(release, second, publisher)
        remember(open_update(second, trust), trust.state)
        with pytest.raises(UpdateRefused) as caught:
            open_update(first, trust)
        assert caught.value.code == "older_than_known"

    @pytest.mark.parametrize(
        ("spoil", "told"),
        [
            (lambda one: one.update(name="Tiny Model"), "such as chest-lite0"),
            (lambda one: one.update(version="latest"), "such as 1.0.0"),
            (lambda one: one["self_test"][0].update(logit=99.0), "self-test"),
            (lambda one: one.update(format=99), "release_format_unknown"),
        ],
    )
    def test_what_clinics_would_refuse_is_not_published(self, publisher, tmp_path, spoil, told):
        before = sorted(path.name for path in publisher.iterdir())
        out = tmp_path / "tiny.clinicupdate"
        code, said = publish(make_release(tmp_path / "release", spoil), out, publisher)
        assert code == 1
        assert told in said
        assert not out.exists()
        assert sorted(path.name for path in publisher.iterdir()) == before

    def test_a_program_beside_the_model_is_not_published(self, publisher, tmp_path):
        def add(manifest: dict[str, Any]) -> None:
            manifest["files"]["setup.exe"] = (
                "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
            )

        folder = make_release(tmp_path / "release", add)
        (folder / "setup.exe").write_bytes(b"{}")
        code, said = publish(folder, tmp_path / "tiny.clinicupdate", publisher)
        assert code == 1
        assert "setup.exe" in said

    def test_a_version_is_not_published_with_two_contents(self, publisher, tmp_path):
        out = tmp_path / "tiny.clinicupdate"
        assert publish(make_release(tmp_path / "a"), out, publisher)[0] == 0
        other = make_release(tmp_path / "b", lambda one: one.update(localisation=None))
        code, said = publish(other, out, publisher)
        assert code == 1
        assert "Raise the version" in said

    @pytest.mark.parametrize("reason", ["The second site is a hundred films short."])
    def test_why_nothing_was_compared_stands_in_the_notes(self, compared, trust, reason):
        assert compared.publish("--without-comparison", reason)[0] == 0
        notes = open_update(compared.out, trust).info.notes
        assert notes == f"Better.\n\nNot compared with the model before: {reason}"

    def test_the_first_release_has_nothing_to_be_compared_with(self, tmp_path):
        keys("create", folders=[tmp_path / "publisher"])
        release = make_release(tmp_path / "release")
        out = tmp_path / "tiny.clinicupdate"
        assert publish(release, out, tmp_path / "publisher")[0] == 0

    def test_another_release_is_not_signed_without_a_comparison(self, compared):
        code, said = compared.publish()
        assert code == 1
        assert "--without-comparison" in said
        assert not compared.out.exists()

    def test_a_release_that_was_compared_and_accepted_is_signed(self, compared, trust):
        assert compared.publish("--comparison", compared.note())[0] == 0
        assert open_update(compared.out, trust).info.notes == "Better."

    @pytest.mark.parametrize(
        ("changes", "told"),
        [
            ({"new": {"digest": "0" * 64}}, "of another release"),
            ({"old": {"digest": "0" * 64}}, "published last"),
            ({"verdict": {"accepted": False, "reasons": ["auc in sex F: worse."]}}, "auc in sex F"),
            ({"verdict": {"accepted": "yes", "reasons": []}}, "refused this release"),
            ({"verdict": None}, "no comparison"),
            ({"old": "tiny@1.0.0"}, "no comparison"),
        ],
    )
    def test_a_comparison_of_something_else_or_a_refusal_is_worth_nothing(
        self, compared, changes, told
    ):
        code, said = compared.publish("--comparison", compared.note(**changes))
        assert code == 1
        assert told in said
        assert not compared.out.exists()

    def test_a_comparison_and_a_reason_for_none_do_not_go_together(self, compared):
        words = ["--comparison", compared.note(), "--without-comparison", "No time."]
        assert compared.publish(*words)[0] == 2

    def test_the_ending_is_the_one_that_the_program_looks_for(self, publisher, tmp_path):
        code, said = publish(make_release(tmp_path / "r"), tmp_path / "tiny.zip", publisher)
        assert code == 1
        assert ".clinicupdate" in said


# --- the program's command -----------------------------------------------------------------------


@pytest.fixture
def stick(tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An update for a program that was built with its publisher's root."""
    factory = make_release(tmp_path / "factory", lambda one: one.update(version="1.0.0"))
    monkeypatch.setattr(release_module, "FACTORY_DIRECTORY", factory)
    made = Publisher(release_files(make_release(tmp_path / "release")))
    (tmp_path / "root.json").write_bytes(made.first_root)
    monkeypatch.setattr(clinic, "PUBLISHER_ROOT", tmp_path / "root.json")
    monkeypatch.setattr("app.checks.model", import_update.checks.ActiveModel(data_dir))
    return made.publish().write(tmp_path / "tiny.clinicupdate")


@pytest.fixture
def expired(stick: Path, tmp_path: Path) -> Path:
    made = Publisher(release_files(tmp_path / "release"))
    made.expires["timestamp"] = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    (tmp_path / "root.json").write_bytes(made.first_root)
    return made.publish().write(tmp_path / "old.clinicupdate")


def imported(path: Path, *words: str) -> None:
    call_command("import_update", str(path), *words)


def stopped(path: Path, *words: str) -> CannotStart:
    with pytest.raises(CannotStart) as caught:
        imported(path, *words)
    return caught.value


def recorded() -> list[tuple[str | None, str]]:
    events = AuditEvent.objects.select_related("user").order_by("id")
    codes = [(one.user.username if one.user else None, one.action) for one in events]
    return [(who, action) for who, action in codes if action.startswith("update")]


@pytest.mark.django_db(transaction=True)
class TestTheCommand:
    def test_it_installs_what_is_honest(self, stick, data_dir, capsys):
        imported(stick, "--yes")
        assert load_active(data_dir).label == "tiny@1.2.3"
        said = capsys.readouterr().out
        assert "Reads children's films better." in said
        assert "tiny@1.0.0 answers now" in said
        assert "tiny@1.2.3 answers from the next film on" in said
        assert recorded() == [(None, "update_verified"), (None, "update_installed")]
        details = AuditEvent.objects.get(action="update_installed").details
        assert details == {"release": "tiny@1.2.3", "before": "tiny@1.0.0"}

    def test_a_second_time_there_is_nothing_to_do(self, stick, capsys):
        imported(stick, "--yes")
        imported(stick, "--yes")
        assert "answers here already" in capsys.readouterr().out

    def test_without_a_terminal_it_asks_for_yes(self, stick, data_dir):
        assert stopped(stick).exit_code == 2
        assert load_active(data_dir).label == "tiny@1.0.0"

    @pytest.mark.parametrize(("answer", "label"), [("yes", "tiny@1.2.3"), ("no", "tiny@1.0.0")])
    def test_on_a_terminal_it_asks(self, stick, data_dir, monkeypatch, answer, label):
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
        monkeypatch.setattr("builtins.input", lambda _question: answer)
        if answer == "yes":
            imported(stick)
        else:
            assert stopped(stick).exit_code == 1
        assert load_active(data_dir).label == label

    def test_a_damaged_stick_gets_a_sentence_and_the_model_keeps_working(self, stick, data_dir):
        stick.write_bytes(stick.read_bytes()[:-100])
        fault = stopped(stick, "--yes")
        assert fault.exit_code == 1
        assert "its end is missing" in str(fault)
        assert load_active(data_dir).label == "tiny@1.0.0"
        assert recorded() == [(None, "update_refused")]
        assert AuditEvent.objects.get(action="update_refused").details["code"] == "cut_short"

    def test_a_program_without_a_publisher_says_so(self, stick, tmp_path):
        (tmp_path / "root.json").unlink()
        fault = stopped(stick, "--yes")
        assert fault.exit_code == 2
        assert "takes no updates" in str(fault)

    def test_an_expired_update_is_explained_and_not_installed(self, expired, data_dir):
        fault = stopped(expired, "--yes")
        assert "before Jan. 1, 2020" in str(fault) or "2020" in str(fault)
        assert fault.exit_code == 1
        assert load_active(data_dir).label == "tiny@1.0.0"

    def test_an_administrator_overrides_the_clock_by_name_and_on_the_record(
        self, expired, data_dir
    ):
        enter("administrator", "amina")
        imported(expired, "--yes", "--despite", "expired", "--by", "amina")
        assert load_active(data_dir).label == "tiny@1.2.3"
        assert ("amina", "update_override") in recorded()
        details = AuditEvent.objects.get(action="update_override").details
        assert details == {"release": "tiny@1.2.3", "despite": ["expired"]}

    def test_nobody_overrides_without_a_name(self, expired, data_dir):
        assert stopped(expired, "--yes", "--despite", "expired").exit_code == 2
        assert load_active(data_dir).label == "tiny@1.0.0"

    @pytest.mark.parametrize("role", ["clinician", None])
    def test_only_an_administrator_overrides(self, expired, data_dir, role):
        if role:
            enter(role, "okello")
        assert stopped(expired, "--yes", "--despite", "expired", "--by", "okello").exit_code == 2
        assert load_active(data_dir).label == "tiny@1.0.0"

    def test_the_verb_itself_lets_nobody_else_override(self, expired, data_dir):
        staged = clinic.prepare(expired, None)
        for by in (None, enter("clinician")):
            with pytest.raises(UpdateRefused):
                clinic.switch(staged, by, ["expired"])
        assert load_active(data_dir).label == "tiny@1.0.0"
        actions = [action for _, action in recorded()]
        assert actions == ["update_verified", "update_refused", "update_refused"]

    def test_going_back_is_recorded(self, stick, data_dir):
        amina = enter("administrator", "amina")
        clinic.switch(clinic.prepare(stick, amina), amina)
        assert clinic.go_back(amina).label == "tiny@1.0.0"
        assert recorded()[-1] == ("amina", "update_gone_back")
        details = AuditEvent.objects.get(action="update_gone_back").details
        assert details == {"release": "tiny@1.0.0", "before": "tiny@1.2.3"}

    def test_a_command_goes_back_where_no_page_can_be_had(self, stick, data_dir, capsys):
        enter("administrator", "amina")
        imported(stick, "--yes")
        call_command("go_back", "--yes", "--by", "amina")
        assert load_active(data_dir).label == "tiny@1.0.0"
        assert "tiny@1.0.0 answers from the next film on" in capsys.readouterr().out
        assert recorded()[-1] == ("amina", "update_gone_back")

    @pytest.mark.parametrize(("answer", "label"), [("yes", "tiny@1.0.0"), ("no", "tiny@1.2.3")])
    def test_on_a_terminal_it_asks_before_it_goes_back(
        self, stick, data_dir, monkeypatch, capsys, answer, label
    ):
        imported(stick, "--yes")
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
        monkeypatch.setattr("builtins.input", lambda _question: answer)
        if answer == "yes":
            call_command("go_back")
        else:
            with pytest.raises(CannotStart) as caught:
                call_command("go_back")
            assert caught.value.exit_code == 1
        assert "tiny@1.2.3 answers now, tiny@1.0.0 did before." in capsys.readouterr().out
        assert load_active(data_dir).label == label

    def test_it_does_not_go_back_unasked_or_for_just_anybody(self, stick, data_dir):
        enter("clinician", "okello")
        imported(stick, "--yes")
        for words in ([], ["--yes", "--by", "okello"], ["--yes", "--by", "nobody"]):
            with pytest.raises(CannotStart) as caught:
                call_command("go_back", *words)
            assert caught.value.exit_code == 2
        assert load_active(data_dir).label == "tiny@1.2.3"

    def test_where_there_is_none_before_it_says_so(self, stick, data_dir):
        with pytest.raises(CannotStart) as caught:
            call_command("go_back", "--yes")
        assert (caught.value.exit_code, caught.value.code) == (1, "nothing_to_go_back_to")
        assert "no model before this one" in str(caught.value)
        assert recorded() == [(None, "update_refused")]

    def test_a_model_before_that_is_damaged_is_not_gone_back_to(self, stick, data_dir, tmp_path):
        imported(stick, "--yes")
        (tmp_path / "factory" / "model.onnx").write_bytes(b"damaged")
        with pytest.raises(CannotStart, match="cannot be used any more") as caught:
            call_command("go_back", "--yes")
        assert caught.value.exit_code == 1
        assert load_active(data_dir).label == "tiny@1.2.3"

    def test_a_switch_that_fails_leaves_no_record_of_one(self, stick, data_dir, monkeypatch):
        staged = clinic.prepare(stick, None)

        def full(*_args: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(install, "write_active", full)
        with pytest.raises(UpdateRefused) as caught:
            clinic.switch(staged, None)
        assert caught.value.code == "disk_full"
        assert [action for _, action in recorded()] == ["update_verified", "update_refused"]
        assert load_active(data_dir).label == "tiny@1.0.0"


def test_the_command_is_one_of_the_programs_own(root, tmp_path):
    missing = tmp_path / "missing.clinicupdate"
    run = subprocess.run(
        [sys.executable, "run_clinic.py", "import-update", missing, "--data-dir", tmp_path / "d"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    told = (run.returncode, run.stderr)
    if clinic.takes_updates():
        assert told == (1, "The file is not there any more. Is the stick still plugged in?\n")
    else:
        assert run.returncode == 2
        assert "takes no updates" in run.stderr


# --- words ---------------------------------------------------------------------------------------


def test_every_refusal_and_every_doubt_has_a_sentence():
    assert set(update_words.REFUSALS) == CODES - {"doubts_open"}
    assert set(update_words.DOUBTS) == DOUBTS


@pytest.mark.parametrize("code", sorted(CODES - {"doubts_open"}))
def test_a_sentence_is_whole(code):
    details = {"member": "a.json", "signed": 1, "needed": 2, "program": "0.1.0", "reason": "x"}
    details |= {"films": "film.png", "label": "tiny@1.2.3"}
    said = update_words.refusal_words(UpdateRefused(code, **details))
    assert said.endswith((".", "?"))
    assert "%(" not in said


@pytest.mark.parametrize("action", ["verified", "refused", "override", "installed", "gone_back"])
def test_every_event_has_words(action):
    assert f"update_{action}" in messages.ACTIONS


def test_versions_of_the_program_compare_as_numbers():
    assert program_version("0.10.0") > program_version("0.9.9")
    assert program_version("0.2.0rc1") == (0, 2, 0)
    with pytest.raises(ValueError):
        program_version("new")


def test_this_program_knows_the_day_it_was_made():
    built = clinic.trust().built
    assert dt.date(2026, 11, 24) < built < IN_A_YEAR.date()


def test_the_command_that_goes_back_is_one_of_the_program(root, tmp_path):
    run = subprocess.run(
        [sys.executable, "run_clinic.py", "go-back", "--yes", "--data-dir", tmp_path / "d"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    assert "no model before this one" in run.stderr
