"""An update on this computer: staged, tried, switched to, taken back; and what kill -9 leaves."""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.active_model import ActiveModel
from app.cxr import release as release_module
from app.cxr.release import FACTORY, Release, load_active, read_active, write_active
from app.instance_lock import lock_file
from app.update_words import refusal_words
from app.updates import archive, install
from app.updates.install import Staged, discard, go_back, release_before, reopen, stage, waiting
from app.updates.refused import UpdateRefused
from app.updates.verify import Trust
from tests.tiny_release import make_release
from tests.tuf_publisher import BUILT, NOW, Publisher, release_files

POINT = {"model": "tiny@1.1.0", "threshold": 0.6, "lower": 0.5, "upper": 0.7}


class Clinic:
    """A computer with the factory's release 1.0.0 and an empty data directory."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.data, self.publisher = folder, folder / "data", Publisher()
        for name in ("data", "tmp"):
            (folder / name).mkdir()
        root = self.publisher.first_root
        self.trust = Trust(root, self.data / "tuf", folder / "tmp", "0.1.0", BUILT)

    def stick(self, version: str = "1.2.3", **changes: Any) -> Path:
        """An honest update on a stick; ``changes`` go into the manifest."""
        folder = self.folder / f"release-{version}-{len(changes)}"
        if not folder.exists():
            make_release(folder, lambda manifest: manifest.update(version=version, **changes))
        self.publisher.files = release_files(folder)
        self.publisher.info["version"] = version
        return self.publisher.publish().write(self.folder / f"{version}.clinicupdate")

    def stage(self, path: Path | None = None) -> Staged:
        return stage(path or self.stick(), self.trust, self.data)

    def install(self, staged: Staged, **more: Any) -> Release:
        return install.install(staged, self.trust, self.data, more.pop("now", NOW), **more)

    def take(self, version: str) -> None:
        self.install(self.stage(self.stick(version)))

    @property
    def answering(self) -> str:
        return load_active(self.data).label


@pytest.fixture
def clinic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clinic:
    factory = make_release(tmp_path / "factory", lambda one: one.update(version="1.0.0"))
    monkeypatch.setattr(release_module, "FACTORY_DIRECTORY", factory)
    return Clinic(tmp_path)


def refusal(action: Any, *args: Any, **more: Any) -> str:
    with pytest.raises(UpdateRefused) as caught:
        action(*args, **more)
    assert len(refusal_words(caught.value)) > 40
    return caught.value.code


# --- taken --------------------------------------------------------------------------------------


def test_a_staged_update_does_not_answer_yet(clinic):
    staged = clinic.stage()
    assert staged.release.label == "tiny@1.2.3"
    assert clinic.answering == "tiny@1.0.0"


def test_an_installed_update_answers_and_the_old_release_stays(clinic):
    clinic.take("1.1.0")
    clinic.take("1.2.3")
    assert clinic.answering == "tiny@1.2.3"
    assert Release.load(clinic.data / "releases" / "tiny-1.1.0").label == "tiny@1.1.0"
    assert release_before(clinic.data).label == "tiny@1.1.0"


def test_the_stick_may_be_gone_once_the_update_is_staged(clinic):
    stick = clinic.stick()
    staged = clinic.stage(stick)
    stick.unlink()
    assert clinic.install(staged).label == "tiny@1.2.3"


def test_what_was_staged_is_found_again_after_a_restart(clinic):
    clinic.stage()
    (folder,) = waiting(clinic.data)
    again = reopen(folder, clinic.trust)
    assert again.update.info.label == "tiny@1.2.3"
    assert clinic.install(again).label == "tiny@1.2.3"
    assert waiting(clinic.data) == []


def test_a_running_program_answers_by_the_new_release_from_the_next_film_on(clinic):
    model = ActiveModel(clinic.data)
    assert model.load().release.label == "tiny@1.0.0"
    clinic.take("1.2.3")
    assert model.load().release.label == "tiny@1.2.3"
    go_back(clinic.data)
    assert model.load().release.label == "tiny@1.0.0"


def test_one_click_goes_back_to_the_release_before(clinic):
    clinic.take("1.1.0")
    clinic.take("1.2.3")
    assert go_back(clinic.data).label == "tiny@1.1.0"
    assert clinic.answering == "tiny@1.1.0"
    assert go_back(clinic.data).label == "tiny@1.2.3"


def test_one_click_goes_back_to_the_factorys_release(clinic):
    clinic.take("1.2.3")
    assert go_back(clinic.data).label == "tiny@1.0.0"
    assert read_active(clinic.data)["release"] == FACTORY


def test_the_release_that_was_gone_back_from_can_be_taken_again(clinic):
    clinic.take("1.2.3")
    go_back(clinic.data)
    clinic.take("1.2.3")
    assert clinic.answering == "tiny@1.2.3"
    assert release_before(clinic.data).label == "tiny@1.0.0"


def test_installing_what_answers_already_keeps_the_way_back(clinic):
    clinic.take("1.1.0")
    clinic.take("1.2.3")
    clinic.take("1.2.3")
    assert release_before(clinic.data).label == "tiny@1.1.0"


def test_a_local_operating_point_lapses_at_the_switch_and_is_back_with_its_release(clinic):
    clinic.take("1.1.0")
    active = read_active(clinic.data)
    write_active(clinic.data, active | {"operating_points": {"15_64": POINT}})
    assert load_active(clinic.data).operating_point(40).threshold == 0.6

    clinic.take("1.2.3")
    assert load_active(clinic.data).local.lapsed == ("15_64",)
    assert load_active(clinic.data).operating_point(40).threshold == 0.5
    go_back(clinic.data)
    assert load_active(clinic.data).operating_point(40).threshold == 0.6


def test_what_was_discarded_leaves_nothing_behind(clinic):
    discard(clinic.stage().folder)
    assert list((clinic.data / "releases").iterdir()) == []
    assert clinic.answering == "tiny@1.0.0"


def test_a_declined_update_shuts_out_no_older_one(clinic):
    older = shutil.copy(clinic.stick("1.1.0"), clinic.folder / "older")
    discard(clinic.stage(clinic.stick("1.2.3")).folder)
    assert clinic.install(clinic.stage(older)).label == "tiny@1.1.0"


def test_a_damaged_note_of_what_answers_is_put_right_by_an_update(clinic):
    (clinic.data / "active.json").write_text("{")
    clinic.take("1.2.3")
    assert clinic.answering == "tiny@1.2.3"


def test_a_damaged_installed_release_is_put_right_by_the_same_update(clinic):
    clinic.take("1.2.3")
    (clinic.data / "releases" / "tiny-1.2.3" / "model.onnx").write_bytes(b"")
    clinic.install(clinic.stage(clinic.folder / "1.2.3.clinicupdate"))
    assert clinic.answering == "tiny@1.2.3"
    assert [path.name for path in (clinic.data / "releases").iterdir()] == ["tiny-1.2.3"]


# --- refused ------------------------------------------------------------------------------------


def unchanged(clinic: Clinic) -> bool:
    return clinic.answering == "tiny@1.0.0" and not (clinic.data / "active.json").exists()


def test_a_model_that_fails_its_self_test_here_is_refused(clinic):
    case = {"file": "self_test/film.png", "logit": 9.0, "tolerance": 0.01}
    assert refusal(clinic.stage, clinic.stick(self_test=[case])) == "self_test_failed"
    assert unchanged(clinic)
    assert waiting(clinic.data) == []


def test_one_that_a_power_cut_left_untried_is_tried_before_the_switch(clinic, monkeypatch):
    case = {"file": "self_test/film.png", "logit": 9.0, "tolerance": 0.01}
    with monkeypatch.context() as power_cut:
        power_cut.setattr("app.updates.install._tried", lambda release: release)
        staged = clinic.stage(clinic.stick(self_test=[case]))

    assert refusal(clinic.install, staged) == "self_test_failed"
    assert unchanged(clinic)


def test_a_graph_that_does_not_load_is_refused(clinic):
    def spoil(manifest: dict[str, Any]) -> None:
        manifest["graph"] = "self_test/film.png"

    clinic.publisher.files = release_files(make_release(clinic.folder / "spoilt", spoil))
    path = clinic.publisher.publish().write(clinic.folder / "u")
    assert refusal(clinic.stage, path) == "release_unusable"
    assert unchanged(clinic)


def test_a_release_whose_manifest_disagrees_with_what_was_signed_is_refused(clinic):
    clinic.stick()
    clinic.publisher.files["release/README.md"] = b"not in the manifest"
    path = clinic.publisher.publish().write(clinic.folder / "u")
    assert refusal(clinic.stage, path) == "release_differs"


def test_a_release_of_another_name_than_the_description_is_refused(clinic):
    clinic.stick()
    clinic.publisher.info["version"] = "9.9.9"
    path = clinic.publisher.publish().write(clinic.folder / "u")
    assert refusal(clinic.stage, path) == "release_differs"


@pytest.mark.parametrize("version", ["1.0.0", "1.1.0"])
def test_a_version_that_is_there_with_another_content_is_refused(clinic, version):
    clinic.take("1.1.0")
    path = clinic.stick(version, localisation=None)
    assert refusal(clinic.stage, path) == "version_reused"
    assert clinic.answering == "tiny@1.1.0"


def test_a_model_swapped_inside_the_file_is_refused(clinic):
    stick = clinic.stick()
    graph = clinic.publisher.members["targets/release/model.onnx"]
    clinic.publisher.members["targets/release/model.onnx"] = graph[:-1] + b"\0"
    clinic.publisher.write(stick)
    assert refusal(clinic.stage, stick) == "content_changed"
    assert unchanged(clinic)


def test_a_model_changed_on_the_disk_between_trial_and_switch_is_refused(clinic):
    staged = clinic.stage()
    (staged.folder / "model.onnx").write_bytes(b"evil")
    assert refusal(clinic.install, staged) == "content_changed"
    assert unchanged(clinic)


def test_an_update_overtaken_by_a_newer_one_is_refused_at_the_switch(clinic):
    staged = clinic.stage(clinic.stick("1.1.0"))
    clinic.take("1.2.3")
    assert refusal(clinic.install, staged) == "older_than_known"
    assert clinic.answering == "tiny@1.2.3"


def test_an_update_whose_key_was_withdrawn_meanwhile_is_refused_at_the_switch(clinic):
    staged = clinic.stage(clinic.stick("1.1.0"))
    clinic.publisher.rotate("targets")
    clinic.stage(clinic.stick("1.2.3"))
    assert refusal(clinic.install, staged) == "withdrawn_key"
    assert unchanged(clinic)


@pytest.mark.parametrize("code", ["expired", "clock_before_build"])
def test_a_doubt_stops_the_switch_until_it_is_overridden_by_its_name(clinic, code):
    now = {
        "expired": NOW + dt.timedelta(days=999),
        "clock_before_build": dt.datetime(2001, 1, 1, tzinfo=dt.UTC),
    }[code]
    staged = clinic.stage()
    other = ({"expired", "clock_before_build"} - {code}).pop()
    assert refusal(clinic.install, staged, now=now) == "doubts_open"
    assert refusal(clinic.install, staged, now=now, despite=[other]) == "doubts_open"
    assert unchanged(clinic)
    assert clinic.install(staged, now=now, despite=[code]).label == "tiny@1.2.3"


def test_no_override_helps_against_a_wrong_signature(clinic):
    staged = clinic.stage()
    timestamp = staged.folder / "update" / "metadata" / "timestamp.json"
    timestamp.write_bytes(timestamp.read_bytes().replace(b"2028-02-29T", b"2029-03-01T"))
    everything = ["expired", "clock_before_build", "changed_after_signing"]
    assert refusal(clinic.install, staged, despite=everything) == "changed_after_signing"
    assert unchanged(clinic)


def test_there_is_nothing_to_go_back_to_at_first(clinic):
    assert release_before(clinic.data) is None
    assert refusal(go_back, clinic.data) == "nothing_to_go_back_to"


def test_it_does_not_go_back_to_a_release_that_is_damaged(clinic):
    clinic.take("1.1.0")
    clinic.take("1.2.3")
    (clinic.data / "releases" / "tiny-1.1.0" / "model.onnx").write_bytes(b"")
    assert release_before(clinic.data) is None
    assert refusal(go_back, clinic.data) == "cannot_go_back"
    assert clinic.answering == "tiny@1.2.3"


@pytest.mark.parametrize("before", ["../../evil", "/etc", "releases/..", 7, None])
def test_a_note_that_leads_elsewhere_is_no_way_back(clinic, before):
    clinic.take("1.2.3")
    write_active(clinic.data, read_active(clinic.data) | {"previous": before})
    assert refusal(go_back, clinic.data) == "nothing_to_go_back_to"


def test_two_installations_at_once_get_into_no_disorder(clinic):
    staged = clinic.stage()
    with (clinic.data / "update.lock").open("ab") as file:
        lock_file(file)
        assert refusal(clinic.install, staged) == "busy"
        assert refusal(clinic.stage) == "busy"
        assert refusal(go_back, clinic.data) == "busy"
    assert clinic.install(staged).label == "tiny@1.2.3"


# --- sticks pulled out, disks that run full -----------------------------------------------------


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "CHUNK", 500)


def counting(monkeypatch: pytest.MonkeyPatch, fail_at: int | None) -> list[str]:
    """Let the stick fail at the n-th chunk; the names that were read, chunk by chunk."""
    read: list[str] = []
    real = archive.Archive.chunks

    def chunks(self: archive.Archive, name: str, limit: int) -> Iterator[bytes]:
        for chunk in real(self, name, limit):
            read.append(name)
            if len(read) == fail_at:
                raise UpdateRefused("stick_gone")
            yield chunk

    monkeypatch.setattr(archive.Archive, "chunks", chunks)
    return read


@pytest.mark.usefixtures("small_chunks")
def test_a_stick_pulled_out_at_any_moment_changes_nothing_and_is_taken_up_again(clinic):
    stick = clinic.stick()
    with pytest.MonkeyPatch.context() as patch:
        read = counting(patch, None)
        discard(clinic.stage(stick).folder)
    assert len(read) > 10
    for moment in range(1, len(read) + 1):
        with pytest.MonkeyPatch.context() as patch:
            counting(patch, moment)
            assert refusal(clinic.stage, stick) == "stick_gone"
        assert unchanged(clinic)
        discard(clinic.stage(stick).folder)


def test_what_was_brought_over_whole_is_not_read_again(clinic, monkeypatch):
    stick = clinic.stick()
    with pytest.MonkeyPatch.context() as patch:
        read = counting(patch, None)
        clinic.stage(stick)
        assert "targets/release/model.onnx" in read
    read = counting(monkeypatch, None)
    clinic.stage(stick)
    assert not [name for name in read if name.startswith("targets/release/")]


def test_what_an_older_try_left_in_the_way_is_removed(clinic):
    folder = clinic.data / "releases" / "tiny-1.2.3.new"
    for name in ("model.onnx.part", "old/deep/file.bin", "setup.exe"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"MZ")
    (folder / "model.onnx").write_bytes(b"half")
    staged = clinic.stage()
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    of_release = {name for name in names if not name.startswith("update/")}
    assert of_release == {"manifest.json", "model.onnx", "self_test/film.png"}
    assert clinic.install(staged).label == "tiny@1.2.3"


@pytest.mark.parametrize("moment", range(1, 12, 2))
def test_a_disk_that_runs_full_changes_nothing(clinic, monkeypatch, moment):
    stick, real, calls = clinic.stick(), os.fsync, []

    def fsync(handle: int) -> None:
        calls.append(handle)
        if len(calls) >= moment:
            raise OSError(28, "No space left on device")
        real(handle)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        assert refusal(clinic.stage, stick) == "disk_full"
    assert unchanged(clinic)
    assert clinic.install(clinic.stage(stick)).label == "tiny@1.2.3"


def test_a_disk_without_room_is_told_before_anything_is_copied(clinic, monkeypatch):
    free = shutil.disk_usage(clinic.data)._replace(free=1000)
    monkeypatch.setattr(install.shutil, "disk_usage", lambda _folder: free)
    assert refusal(clinic.stage) == "disk_full"
    assert not list((clinic.data / "releases").rglob("*.onnx*"))


# --- kill -9 -------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_killed_at_any_step_either_the_old_or_the_new_release_answers(root, tmp_path):
    # In memory where there is some: half a thousand installations, each synced to its disk
    memory = Path("/dev/shm")
    work = memory / f"clinic-crashes-{os.getpid()}" if memory.is_dir() else tmp_path / "crashes"
    work.mkdir()
    try:
        command = [sys.executable, "-m", "tests.update_crashes", str(work)]
        run = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    finally:
        shutil.rmtree(work)
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)
    steps, by_lot = told["seen"][: told["steps"]], told["seen"][told["steps"] :]
    assert told["steps"] > 100
    assert set(Counter(steps)) == {"tiny@1.1.0", "tiny@1.2.3"}
    # The switch is one step: before it always the old, after it always the new
    assert steps == sorted(steps)
    assert len(by_lot) == 50
