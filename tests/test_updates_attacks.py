"""Every published attack on an update system, each in a few lines on a publisher in memory.

The names are those of the TUF specification (1.5.2, "Goals for protecting against attacks"):
arbitrary software, rollback, fast-forward, indefinite freeze, endless data, mix-and-match, wrong
software, key compromise. Each is refused with a code of its own, and leaves what was trusted before
trusted, and nothing else.
"""

from __future__ import annotations

import copy
import datetime as dt
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.ngclient import Updater

from app.update_words import refusal_words
from app.updates import verify
from app.updates.archive import Archive, Folder
from app.updates.refused import UpdateRefused
from app.updates.verify import OfflineUpdater, Trust, Update, open_update, remember
from tests.tuf_publisher import BUILT, NOW, Publisher

Attack = Callable[[Publisher], None]


class Clinic:
    """A computer with the publisher's first root, and what it has learnt since."""

    def __init__(self, folder: Path, publisher: Publisher) -> None:
        self.folder, self.publisher = folder, publisher
        self.state = folder / "tuf"
        (folder / "tmp").mkdir()
        self.trust = Trust(publisher.first_root, self.state, folder / "tmp", "0.1.0", BUILT)

    def open(self, publisher: Publisher | None = None) -> Update:
        path = (publisher or self.publisher).write(self.folder / "model.clinicupdate")
        return open_update(path, self.trust)

    def install(self, publisher: Publisher | None = None) -> Update:
        update = self.open(publisher)
        remember(update, self.state)
        return update

    def refusal(self, publisher: Publisher | None = None) -> str:
        with pytest.raises(UpdateRefused) as caught:
            self.open(publisher)
        assert len(refusal_words(caught.value)) > 40  # with whatever the sentence names
        return caught.value.code

    def known(self) -> dict[str, bytes]:
        files = [path for path in self.state.rglob("*") if path.is_file()]
        return {str(path.relative_to(self.state)): path.read_bytes() for path in files}


@pytest.fixture
def publisher() -> Publisher:
    return Publisher()


@pytest.fixture
def clinic(tmp_path: Path, publisher: Publisher) -> Clinic:
    return Clinic(tmp_path, publisher)


def strangers(count: int = 3) -> list[CryptoSigner]:
    return [CryptoSigner.generate_ed25519() for _ in range(count)]


def changed(content: bytes) -> bytes:
    """The same JSON but for one byte of its signed half, as bit rot or a hand would leave it."""
    assert b"2028-02-29T" in content
    return content.replace(b"2028-02-29T", b"2028-03-29T", 1)


# --- an honest update is taken -------------------------------------------------------------------


def test_an_honest_update_says_what_it_is(clinic, publisher):
    update = clinic.open(publisher.publish())
    assert update.info.label == "tiny@1.2.3"
    assert update.info.notes == "Reads children's films better."
    assert set(update.targets) == {"update.json", *publisher.files}
    assert update.doubts(NOW) == ()


def test_the_next_update_is_taken_too_and_so_is_the_same_one_again(clinic, publisher):
    clinic.install(publisher.publish())
    clinic.install(publisher.publish())
    clinic.install(publisher)
    assert clinic.open().info.label == "tiny@1.2.3"


def test_an_old_program_follows_every_root_there_ever_was(clinic, publisher):
    for role in ("targets", "timestamp", "root", "snapshot", "root"):
        publisher.rotate(role)
    assert clinic.open(publisher.publish()).info.version == "1.2.3"
    assert len(list((clinic.state / "root_history").iterdir())) == 6


def test_a_stick_that_was_only_looked_at_shuts_out_no_other(clinic, publisher, tmp_path):
    older = copy.copy(publisher.publish())
    clinic.open(publisher.publish())
    assert clinic.open(older).info.label == "tiny@1.2.3"


# --- the attacks ---------------------------------------------------------------------------------
# Each spoils what the publisher is about to publish, after one honest update was installed.


def arbitrary_software(publisher: Publisher) -> None:
    publisher.publish().members["targets/update.json"] += b" "


def arbitrary_software_of_the_same_length(publisher: Publisher) -> None:
    members = publisher.publish().members
    members["targets/update.json"] = members["targets/update.json"].replace(b"tiny", b"evil")


def wrong_keys(publisher: Publisher) -> None:
    publisher.keys = {role: strangers() for role in publisher.keys}
    publisher.publish()


def wrong_key_of_timestamp(publisher: Publisher) -> None:
    publisher.keys["timestamp"] = strangers(1)
    publisher.publish()


def wrong_key_of_snapshot(publisher: Publisher) -> None:
    publisher.keys["snapshot"] = strangers(1)
    publisher.publish()


def wrong_keys_of_targets(publisher: Publisher) -> None:
    publisher.keys["targets"] = strangers(2)
    publisher.publish()


def one_of_two_signatures(publisher: Publisher) -> None:
    publisher.keys["targets"] = publisher.keys["targets"][:1]
    publisher.publish()


def one_signature_twice(publisher: Publisher) -> None:
    publisher.keys["targets"] = publisher.keys["targets"][:1] * 2
    publisher.publish()


def one_good_and_one_strange_signature(publisher: Publisher) -> None:
    publisher.keys["targets"] = [publisher.keys["targets"][0], *strangers(1)]
    publisher.publish()


def the_targets_signed_with_the_key_of_the_timestamp(publisher: Publisher) -> None:
    publisher.keys["targets"] = publisher.keys["timestamp"] * 2
    publisher.publish()


def no_signature_at_all(publisher: Publisher) -> None:
    publisher.keys["timestamp"] = []
    publisher.publish()


def a_timestamp_changed_after_signing(publisher: Publisher) -> None:
    members = publisher.publish().members
    members["metadata/timestamp.json"] = changed(members["metadata/timestamp.json"])


def a_signature_of_zeros(publisher: Publisher) -> None:
    members = publisher.publish().members
    content = json.loads(members["metadata/timestamp.json"])
    content["signatures"][0]["sig"] = "00" * 64
    members["metadata/timestamp.json"] = json.dumps(content).encode()


def withdrawn_keys(publisher: Publisher) -> None:
    stolen = publisher.keys["targets"]
    publisher.rotate("targets")
    publisher.keys["targets"] = stolen
    publisher.publish()


def one_withdrawn_key_of_two(publisher: Publisher) -> None:
    stolen = publisher.keys["targets"][0]
    publisher.rotate("targets")
    publisher.keys["targets"] = [stolen, publisher.keys["targets"][1]]
    publisher.publish()


def a_withdrawn_timestamp_key(publisher: Publisher) -> None:
    stolen = publisher.keys["timestamp"]
    publisher.rotate("timestamp")
    publisher.keys["timestamp"] = stolen
    publisher.publish()


def replace_meta(timestamp: Any, version: int, content: bytes) -> None:
    timestamp.snapshot_meta = type(timestamp.snapshot_meta).from_data(version, content, ["sha256"])


def rollback_of_the_targets(publisher: Publisher) -> None:
    publisher.publish(snapshot=lambda signed: set_targets_version(signed, 4))


def set_targets_version(snapshot: Any, version: int) -> None:
    snapshot.meta["targets.json"].version = version


def targets_left_out_of_the_snapshot(publisher: Publisher) -> None:
    publisher.publish(snapshot=lambda signed: signed.meta.clear())


def mix_and_match_of_snapshots(publisher: Publisher) -> None:
    other = publisher.publish().members["metadata/snapshot.json"]
    publisher.publish().members["metadata/snapshot.json"] = other


def mix_and_match_of_targets(publisher: Publisher) -> None:
    other = publisher.publish().members["metadata/targets.json"]
    publisher.publish().members["metadata/targets.json"] = other


def mix_and_match_without_hashes(publisher: Publisher) -> None:
    other = publisher.publish().members["metadata/snapshot.json"]
    publisher.publish(timestamp=lambda signed: forget_hashes(signed.snapshot_meta))
    publisher.members["metadata/snapshot.json"] = other


def mix_and_match_of_targets_without_hashes(publisher: Publisher) -> None:
    other = publisher.publish().members["metadata/targets.json"]
    publisher.publish(snapshot=lambda signed: forget_hashes(signed.meta["targets.json"]))
    publisher.members["metadata/targets.json"] = other


def forget_hashes(meta: Any) -> None:
    meta.hashes = meta.length = None


def an_altered_list_of_targets(publisher: Publisher) -> None:
    members = publisher.publish().members
    members["metadata/targets.json"] = changed(members["metadata/targets.json"])


def endless_timestamp(publisher: Publisher) -> None:
    members = publisher.publish().members
    members["metadata/timestamp.json"] += b" " * 20_000


def endless_root(publisher: Publisher) -> None:
    publisher.rotate()
    publisher.publish().members["metadata/2.root.json"] += b" " * 1_000_000


def endless_targets(publisher: Publisher) -> None:
    publisher.publish().members["metadata/targets.json"] += b" " * 1_000_000


def endless_description(publisher: Publisher) -> None:
    publisher.info["notes"] = "a" * 100_000
    publisher.publish()


def a_root_of_nobody(publisher: Publisher) -> None:
    publisher.keys["root"] = strangers()
    publisher.rotate(signers=publisher.keys["root"])
    publisher.publish()


def a_root_signed_once(publisher: Publisher) -> None:
    publisher.rotate(signers=publisher.keys["root"][:1])
    publisher.publish()


def a_root_that_its_own_keys_do_not_sign(publisher: Publisher) -> None:
    former = list(publisher.keys["root"])
    publisher.rotate("root", signers=former)
    publisher.publish()


def a_root_that_leaves_a_number_out(publisher: Publisher) -> None:
    publisher.roots += publisher.roots
    publisher.rotate()
    publisher.publish()
    publisher.members["metadata/2.root.json"] = publisher.members.pop("metadata/3.root.json")


def an_older_root_as_the_next(publisher: Publisher) -> None:
    publisher.publish().members["metadata/2.root.json"] = publisher.first_root


def a_timestamp_in_the_place_of_the_snapshot(publisher: Publisher) -> None:
    members = publisher.publish().members
    members["metadata/timestamp.json"] = members["metadata/snapshot.json"]


def no_timestamp(publisher: Publisher) -> None:
    del publisher.publish().members["metadata/timestamp.json"]


def no_list_of_targets(publisher: Publisher) -> None:
    del publisher.publish().members["metadata/targets.json"]


def a_missing_file(publisher: Publisher) -> None:
    del publisher.publish().members["targets/release/model.onnx"]


def no_description(publisher: Publisher) -> None:
    publisher.publish(targets=lambda signed: signed.targets.pop("update.json"))


def a_stowaway(publisher: Publisher) -> None:
    publisher.publish().members["targets/setup.exe"] = b"MZ"


def a_stowaway_among_the_metadata(publisher: Publisher) -> None:
    publisher.publish().members["metadata/x.root.json"] = b"{}"


def words_for_metadata(publisher: Publisher) -> None:
    publisher.publish().members["metadata/timestamp.json"] = b"Dear clinic,"


def deeply_nested_metadata(publisher: Publisher) -> None:
    publisher.publish().members["metadata/timestamp.json"] = b"[" * 15_000


def numbers_without_end(publisher: Publisher) -> None:
    members = publisher.publish().members
    content = members["metadata/timestamp.json"]
    assert b'"version":6' in content
    content = content.replace(b'"version":6', b'"version":' + b"9" * 9000, 1)
    members["metadata/timestamp.json"] = content


def a_signed_program(publisher: Publisher) -> None:
    publisher.files["release/setup.exe"] = b"MZ"
    publisher.publish()


def a_signed_script(publisher: Publisher) -> None:
    publisher.files["release/install.py"] = b"import os"
    publisher.publish()


def a_signed_path_out_of_the_release(publisher: Publisher) -> None:
    publisher.publish(targets=lambda signed: rename_target(signed, "release/../../active.json"))


def a_signed_absolute_path(publisher: Publisher) -> None:
    publisher.publish(targets=lambda signed: rename_target(signed, "/etc/passwd.json"))


def a_signed_device_of_windows(publisher: Publisher) -> None:
    publisher.publish(targets=lambda signed: add_target(signed, "release/nul.json"))


def a_signed_file_where_the_update_keeps_its_own(publisher: Publisher) -> None:
    publisher.files["release/update/metadata/2.root.json"] = b"{}"
    publisher.publish()


def signed_names_that_differ_by_case(publisher: Publisher) -> None:
    publisher.publish(targets=lambda signed: add_target(signed, "release/Model.onnx"))


def a_weak_hash(publisher: Publisher) -> None:
    publisher.publish(targets=weaken)


def rename_target(targets: Any, name: str) -> None:
    targets.targets[name] = targets.targets.pop("release/model.onnx")


def add_target(targets: Any, name: str) -> None:
    targets.targets[name] = targets.targets["release/model.onnx"]


def weaken(targets: Any) -> None:
    targets.targets["release/model.onnx"].hashes = {"md5": "0" * 32}


def announced_too_large(publisher: Publisher) -> None:
    publisher.publish(targets=enlarge)


def enlarge(targets: Any) -> None:
    targets.targets["release/model.onnx"].length = 1024**3


def a_description_of_nothing(publisher: Publisher) -> None:
    publisher.info.pop("version")
    publisher.publish()


def a_name_that_is_a_path(publisher: Publisher) -> None:
    publisher.info["name"] = "../tiny"
    publisher.publish()


def notes_that_command_the_terminal(publisher: Publisher) -> None:
    publisher.info["notes"] = "\x1b[2J"
    publisher.publish()


def a_later_format(publisher: Publisher) -> None:
    publisher.info["format"] = 2
    publisher.publish()


def for_a_newer_program(publisher: Publisher) -> None:
    publisher.info["minimum_program"] = "0.10.0"
    publisher.publish()


ATTACKS: dict[Attack, str] = {
    arbitrary_software: "endless",
    arbitrary_software_of_the_same_length: "content_changed",
    wrong_keys: "unknown_key",
    wrong_key_of_timestamp: "unknown_key",
    wrong_key_of_snapshot: "unknown_key",
    wrong_keys_of_targets: "unknown_key",
    one_of_two_signatures: "too_few_signatures",
    one_signature_twice: "too_few_signatures",
    one_good_and_one_strange_signature: "too_few_signatures",
    the_targets_signed_with_the_key_of_the_timestamp: "unknown_key",
    no_signature_at_all: "unknown_key",
    a_timestamp_changed_after_signing: "changed_after_signing",
    a_signature_of_zeros: "changed_after_signing",
    withdrawn_keys: "withdrawn_key",
    one_withdrawn_key_of_two: "withdrawn_key",
    a_withdrawn_timestamp_key: "withdrawn_key",
    rollback_of_the_targets: "older_than_known",
    targets_left_out_of_the_snapshot: "metadata_damaged",
    mix_and_match_of_snapshots: "mixed",
    mix_and_match_of_targets: "mixed",
    mix_and_match_without_hashes: "mixed",
    mix_and_match_of_targets_without_hashes: "mixed",
    an_altered_list_of_targets: "mixed",
    endless_timestamp: "endless",
    endless_root: "endless",
    endless_targets: "endless",
    endless_description: "endless",
    a_root_of_nobody: "root_not_signed",
    a_root_signed_once: "root_not_signed",
    a_root_that_its_own_keys_do_not_sign: "root_not_signed",
    a_root_that_leaves_a_number_out: "root_out_of_order",
    an_older_root_as_the_next: "root_out_of_order",
    a_timestamp_in_the_place_of_the_snapshot: "metadata_damaged",
    no_timestamp: "incomplete",
    no_list_of_targets: "incomplete",
    a_missing_file: "incomplete",
    no_description: "incomplete",
    a_stowaway: "stowaway",
    a_stowaway_among_the_metadata: "stowaway",
    words_for_metadata: "metadata_damaged",
    deeply_nested_metadata: "metadata_damaged",
    numbers_without_end: "metadata_damaged",
    a_signed_program: "not_data",
    a_signed_script: "not_data",
    a_signed_path_out_of_the_release: "not_data",
    a_signed_absolute_path: "not_data",
    a_signed_device_of_windows: "not_data",
    a_signed_file_where_the_update_keeps_its_own: "not_data",
    signed_names_that_differ_by_case: "duplicate_name",
    a_weak_hash: "not_data",
    announced_too_large: "too_large",
    a_description_of_nothing: "info_damaged",
    a_name_that_is_a_path: "info_damaged",
    notes_that_command_the_terminal: "info_damaged",
    a_later_format: "info_format_unknown",
    for_a_newer_program: "program_too_old",
}


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_it_refuses(attack, clinic, publisher):
    clinic.install(publisher.publish(version=5))
    before = clinic.known()
    attack(publisher)

    assert clinic.refusal() == ATTACKS[attack]
    kept = clinic.known()
    assert {name: kept[name] for name in before} == before
    assert all(name.startswith("root_history") for name in kept.keys() - before.keys())


# Where the attack began with a new root, the keys of before are withdrawn for good
WITH_A_ROOT = [attack for attack, code in ATTACKS.items() if code == "withdrawn_key"]


@pytest.mark.parametrize(
    "attack", [one for one in ATTACKS if one not in WITH_A_ROOT], ids=lambda attack: attack.__name__
)
def test_an_honest_update_is_taken_after_the_attack(attack, clinic, publisher):
    clinic.install(publisher.publish(version=5))
    honest = copy.deepcopy(vars(publisher))
    attack(publisher)
    clinic.refusal()

    vars(publisher).update(honest)
    assert clinic.install(publisher.publish()).info.label == "tiny@1.2.3"


# --- those that need a history -------------------------------------------------------------------


def test_it_refuses_a_rollback(clinic, publisher):
    old = copy.copy(publisher.publish())
    clinic.install(publisher.publish())
    assert clinic.refusal(old) == "older_than_known"


def test_it_refuses_a_rollback_by_the_key_of_the_timestamp_alone(clinic, publisher):
    old = publisher.publish().members
    clinic.install(publisher.publish())
    snapshot = old["metadata/snapshot.json"]
    publisher.publish(timestamp=lambda signed: replace_meta(signed, 1, snapshot))
    publisher.members |= {n: c for n, c in old.items() if "timestamp" not in n}
    assert clinic.refusal() == "older_than_known"


def test_it_refuses_a_rollback_by_the_keys_of_timestamp_and_snapshot(clinic, publisher):
    old = publisher.publish().members["metadata/targets.json"]
    clinic.install(publisher.publish())
    rolled = type(publisher._meta(old)).from_data(1, old, ["sha256"])
    publisher.publish(snapshot=lambda signed: signed.meta.update({"targets.json": rolled}))
    publisher.members["metadata/targets.json"] = old
    assert clinic.refusal() == "older_than_known"


def test_a_withdrawn_key_stays_withdrawn_where_the_new_root_was_seen_but_is_kept_back(
    clinic, publisher
):
    clinic.install(publisher.publish())
    stolen, one_root = publisher.keys["targets"], list(publisher.roots)
    publisher.rotate("targets")
    clinic.open(publisher.publish())  # looked at, never installed

    publisher.keys["targets"], publisher.roots = stolen, one_root
    assert clinic.refusal(publisher.publish()) == "withdrawn_key"


def test_the_new_root_is_learnt_even_from_a_file_that_is_refused(clinic, publisher):
    publisher.rotate("targets")
    one_of_two_signatures(publisher)
    assert clinic.refusal() == "too_few_signatures"
    assert (clinic.state / "root_history" / "2.root.json").read_bytes() == publisher.roots[1]


@pytest.mark.parametrize("role", ["timestamp", "snapshot"])
def test_it_recovers_from_a_fast_forward_once_the_stolen_keys_are_replaced(clinic, publisher, role):
    clinic.install(publisher.publish())
    far = 2**31 - 1
    clinic.install(publisher.publish(version=far))
    assert clinic.refusal(publisher.publish(version=3)) == "older_than_known"

    publisher.rotate("timestamp")
    publisher.rotate("snapshot")
    assert clinic.install(publisher.publish(version=4)).info.label == "tiny@1.2.3"


def test_after_a_fast_forward_the_stolen_key_alone_takes_nobody_back(clinic, publisher):
    clinic.install(publisher.publish(version=2**31 - 1))
    publisher.rotate("timestamp")
    # the snapshot's key was not replaced, and its word stands
    assert clinic.refusal(publisher.publish(version=3)) == "older_than_known"


def test_no_root_of_its_own_makes_another_publisher_trusted(clinic):
    other = Publisher()
    assert clinic.refusal(other.publish()) == "unknown_key"
    other.rotate()
    assert clinic.refusal(other.publish()) == "root_not_signed"


def test_a_program_without_a_publishers_root_takes_nothing(clinic, publisher):
    clinic.trust = Trust(None, clinic.state, clinic.folder / "tmp", "0.1.0", BUILT)
    assert clinic.refusal(publisher.publish()) == "no_publisher"


@pytest.mark.parametrize(
    "root", [b"", b"{}", b"\xff", Publisher().publish().members["metadata/snapshot.json"]]
)
def test_a_program_with_a_damaged_root_takes_nothing(clinic, publisher, root):
    clinic.trust = Trust(root, clinic.state, clinic.folder / "tmp", "0.1.0", BUILT)
    assert clinic.refusal(publisher.publish()) == "publisher_damaged"


def test_a_newer_program_brings_a_newer_root_and_needs_no_older_one(clinic, publisher):
    publisher.rotate("root")
    publisher.rotate("targets")
    publisher.publish()
    clinic.trust = Trust(publisher.roots[2], clinic.state, clinic.folder / "tmp", "0.1.0", BUILT)
    for old in (1, 2, 3):
        del publisher.members[f"metadata/{old}.root.json"]
    assert clinic.open().info.label == "tiny@1.2.3"


@pytest.mark.parametrize("rest", [b"", b"{", b"\0" * 400])
@pytest.mark.parametrize(
    "name", ["timestamp.json", "snapshot.json", "targets.json", "root_history/2.root.json"]
)
def test_what_a_power_cut_left_of_the_state_stops_no_honest_update(clinic, publisher, name, rest):
    publisher.rotate("targets")
    clinic.install(publisher.publish())
    (clinic.state / name).write_bytes(rest)
    assert clinic.install(publisher.publish()).info.label == "tiny@1.2.3"


# --- clocks: told apart from signatures ----------------------------------------------------------

LATER = NOW + dt.timedelta(days=400)
EARLIER = dt.datetime(2010, 1, 1, tzinfo=dt.UTC)


def codes(update: Update, now: dt.datetime) -> list[str]:
    return [doubt.code for doubt in update.doubts(now)]


@pytest.mark.parametrize("role", ["root", "timestamp", "snapshot", "targets"])
def test_a_freeze_is_told_once_any_part_has_expired(tmp_path, role):
    publisher = Publisher()
    publisher.expires[role] = NOW - dt.timedelta(days=1)
    publisher.rotate()
    update = Clinic(tmp_path, publisher).open(publisher.publish())
    assert codes(update, NOW) == ["expired"]
    assert update.doubts(NOW)[0].details == {"until": dt.date(2027, 2, 28), "today": NOW.date()}


def test_a_clock_before_the_build_is_told(clinic, publisher):
    assert codes(clinic.open(publisher.publish()), EARLIER) == ["clock_before_build"]


def test_the_time_zone_of_the_build_is_no_fault_of_the_clock(clinic, publisher):
    update = clinic.open(publisher.publish())
    eve = dt.datetime(2026, 12, 31, 12, tzinfo=dt.UTC)
    assert codes(update, eve) == []
    assert codes(update, eve - dt.timedelta(days=1)) == ["clock_before_build"]


def test_a_clock_set_back_does_not_make_an_expired_update_young(clinic, publisher):
    publisher.expires["timestamp"] = dt.datetime(2026, 6, 1, tzinfo=dt.UTC)
    update = clinic.open(publisher.publish())
    assert codes(update, EARLIER) == ["clock_before_build", "expired"]


def test_an_expired_update_rolls_nobody_back(clinic, publisher):
    publisher.expires["timestamp"] = EARLIER
    old = copy.copy(publisher.publish())
    clinic.install(publisher.publish())
    assert clinic.refusal(old) == "older_than_known"


def test_an_expired_update_with_a_wrong_signature_is_no_question_of_the_clock(clinic, publisher):
    publisher.expires = dict.fromkeys(publisher.expires, EARLIER)
    wrong_keys(publisher)
    assert clinic.refusal() == "unknown_key"


# --- what is reached into, and what is not -------------------------------------------------------


def test_python_tuf_still_has_what_is_reached_into(clinic, publisher):
    for name in ("_update_root_symlink", "_download_metadata"):
        assert callable(getattr(Updater, name))
    source = Archive(publisher.publish().write(clinic.folder / "a.zip"))
    known = clinic.folder / "known"
    known.mkdir()
    plain = Updater(
        str(known), "x/", fetcher=verify.SourceFetcher(source), bootstrap=publisher.first_root
    )
    assert isinstance(plain._trusted_set.reference_time, dt.datetime)


def test_no_link_is_made_for_a_stick_that_knows_none(clinic, publisher, monkeypatch):
    def refuse(*_args: object, **_more: object) -> None:
        raise OSError(1, "no links on FAT")

    monkeypatch.setattr(os, "symlink", refuse)
    monkeypatch.setattr(os, "link", refuse)
    assert clinic.install(publisher.publish()).info.label == "tiny@1.2.3"


def test_the_fetcher_asks_no_network(clinic, publisher, monkeypatch):
    def refuse(*_args: object, **_more: object) -> None:
        raise AssertionError("asked the network")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("tuf.ngclient.urllib3_fetcher.Urllib3Fetcher._fetch", refuse)
    assert clinic.open(publisher.publish()).info.label == "tiny@1.2.3"
    assert isinstance(
        OfflineUpdater(clinic.state, Folder(clinic.folder), publisher.first_root)._fetcher,
        verify.SourceFetcher,
    )


def test_nothing_is_left_of_the_passing_files(clinic, publisher):
    clinic.open(publisher.publish())
    wrong_keys(publisher)
    clinic.refusal()
    assert list((clinic.folder / "tmp").iterdir()) == []


def test_a_full_disk_is_told_apart_from_a_bad_update(clinic, publisher, monkeypatch):
    def full(*_args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(verify, "write_durably", full)
    assert clinic.refusal(publisher.publish()) == "disk_full"
