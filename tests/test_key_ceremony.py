"""The ceremony of docs/updates.md, by its own commands; and what it refuses."""

from __future__ import annotations

import json
import os
import re
import shlex
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tuf.api.metadata import Metadata, Root

from app.cxr.release import Release
from app.updates.refused import UpdateRefused
from app.updates.shadow import digest_of
from app.updates.verify import Trust, open_update, remember
from tests.publishing import PASSPHRASE, keys, publish, stage
from tests.tiny_release import make_release
from tests.tuf_publisher import BUILT

SECRET = re.compile(r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----\s+[A-Za-z0-9+/]{20}")


class Ceremony:
    """A publisher, and a clinic whose program carries the first root."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.keys = folder, folder / "publisher"
        self.said = keys("create", folders=[self.keys])
        (folder / "tmp").mkdir()
        root = (self.keys / "1.root.json").read_bytes()
        self.trust = Trust(root, folder / "tuf", folder / "tmp", "0.1.0", BUILT)
        self.release = make_release(folder / "release")

    def step(self, *words: object, away: tuple[str, ...] = ()) -> str:
        """A step of which some key files are out of reach."""
        for name in away:
            (self.keys / f"{name}.pem").rename(self.folder / f"{name}.away")
        try:
            return keys(*words, folders=[self.keys])
        finally:
            for name in away:
                (self.folder / f"{name}.away").rename(self.keys / f"{name}.pem")

    def published(self, *further: Path) -> Path:
        out = self.folder / "model.clinicupdate"
        code, said = publish(self.release, out, self.keys, *further)
        assert code == 0, said
        return out

    def is_taken(self) -> bool:
        update = open_update(self.published(), self.trust)
        remember(update, self.trust.state)
        return update.info.label == "tiny@1.2.3"

    def root(self) -> Root:
        newest = max(self.keys.glob("*.root.json"), key=lambda path: int(path.name.split(".")[0]))
        return Metadata[Root].from_bytes(newest.read_bytes()).signed


@pytest.fixture
def ceremony(tmp_path: Path) -> Ceremony:
    return Ceremony(tmp_path)


def test_creating_makes_seven_keys_and_a_root_that_is_signed(ceremony):
    names = sorted(path.name for path in ceremony.keys.iterdir())
    assert names == [
        "1.root.json", "courier-1.pem", "release-1.pem", "release-2.pem", "release-3.pem",
        "root-1.pem", "root-2.pem", "root-3.pem",
    ]  # fmt: skip
    root = ceremony.root()
    assert {role: (len(one.keyids), one.threshold) for role, one in root.roles.items()} == {
        "root": (3, 2), "targets": (3, 2), "snapshot": (1, 1), "timestamp": (1, 1),
    }  # fmt: skip
    assert "release-2" in ceremony.said
    assert ceremony.is_taken()


def test_a_key_file_is_sealed_and_its_owners_alone(ceremony):
    for path in ceremony.keys.glob("*.pem"):
        assert b"BEGIN ENCRYPTED PRIVATE KEY" in path.read_bytes()
        if os.name == "posix":
            assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("name", ["release-2", "courier-1", "root-1", "root-3"])
def test_a_key_is_replaced_and_clinics_follow(ceremony, name):
    assert ceremony.is_taken()
    said = ceremony.step("rotate", name)
    assert name not in said
    assert ceremony.is_taken()


@pytest.mark.parametrize("name", ["release-1", "courier-1", "root-1", "root-2"])
def test_a_key_that_is_lost_is_replaced_without_its_file(ceremony, name):
    ceremony.step("rotate", name, away=(name,))
    (ceremony.keys / f"{name}.pem").unlink()
    assert ceremony.is_taken()


@pytest.mark.parametrize("name", ["release-1", "release-3", "root-1", "root-2", "root-3"])
def test_a_key_is_withdrawn_and_the_rest_still_sign(ceremony, name):
    assert name not in ceremony.step("revoke", name)
    assert ceremony.is_taken()


def test_what_a_withdrawn_key_signed_is_refused_by_whoever_knows(ceremony):
    stolen = (ceremony.keys / "release-1.pem").read_bytes()
    ceremony.step("rotate", "release-1")
    ceremony.step("rotate", "release-2")
    assert ceremony.is_taken()

    # The thief has two old release keys, the courier's, and the folder as it was before
    thief = ceremony.folder / "thief"
    thief.mkdir()
    for name in ("release-1", "release-2", "courier-1"):
        (thief / f"{name}.pem").write_bytes((ceremony.keys / f"{name}.pem").read_bytes())
    assert stolen == (thief / "release-1.pem").read_bytes()
    (thief / "1.root.json").write_bytes((ceremony.keys / "1.root.json").read_bytes())
    out = ceremony.folder / "evil.clinicupdate"
    for _ in range(2):  # of the version that the clinic has, its own would count
        assert publish(ceremony.release, out, thief)[0] == 0
    with pytest.raises(UpdateRefused) as caught:
        open_update(out, ceremony.trust)
    assert caught.value.code == "withdrawn_key"


def test_the_last_keys_that_can_sign_are_replaced_and_not_withdrawn(ceremony):
    ceremony.step("revoke", "release-1")
    code, said = stage("keys", "revoke", "release-2", "--keys", ceremony.keys)
    assert code == 1
    assert "keys rotate release-2" in said
    assert stage("keys", "revoke", "courier-1", "--keys", ceremony.keys)[0] == 1
    assert ceremony.is_taken()


def test_two_lost_root_keys_are_too_many_and_nothing_is_signed(ceremony):
    for name in ("root-1", "root-3"):
        (ceremony.keys / f"{name}.pem").unlink()
    before = sorted(ceremony.keys.iterdir())
    code, said = stage("keys", "rotate", "root-1", "--keys", ceremony.keys)
    assert code == 1
    assert "root needs 2" in said
    assert sorted(ceremony.keys.iterdir()) == before


def test_renewing_gives_the_same_keys_three_more_years(ceremony):
    before = ceremony.root()
    assert "Root 2" in ceremony.step("renew")
    assert ceremony.root().keys.keys() == before.keys.keys()
    assert ceremony.root().expires >= before.expires
    assert ceremony.is_taken()


def test_keys_may_lie_on_sticks_of_their_own(ceremony):
    sticks = [ceremony.folder / name for name in ("stick a", "stick b")]
    for stick, name in zip(sticks, ("root-2", "release-2"), strict=True):
        stick.mkdir()
        (ceremony.keys / f"{name}.pem").rename(stick / f"{name}.pem")
    for name in ("root-3", "release-3"):
        (ceremony.keys / f"{name}.pem").unlink()
    assert stage("keys", "renew", "--keys", ceremony.keys)[0] == 1
    keys("renew", folders=[ceremony.keys, *sticks])
    assert open_update(ceremony.published(*sticks), ceremony.trust).info.label == "tiny@1.2.3"


def test_a_name_is_never_given_twice(ceremony):
    ceremony.step("rotate", "release-3")
    ceremony.step("revoke", "release-4")
    ceremony.step("rotate", "release-2")
    assert (ceremony.keys / "release-5.pem").is_file()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("rotate", "release-9"), "No key is called"),
        (("create",), "is a publisher's folder already"),
    ],
)
def test_a_step_that_makes_no_sense_is_explained(ceremony, words, told):
    code, said = stage("keys", *words, "--keys", ceremony.keys)
    assert code == 1
    assert told in said
    assert "Nothing was signed." in said


def test_a_wrong_passphrase_opens_nothing(ceremony):
    code, said = stage("keys", "renew", "--keys", ceremony.keys, passphrases=["wrong" * 5] * 9)
    assert code == 1
    assert "does not open" in said


def test_a_short_passphrase_makes_no_key(tmp_path):
    passphrases = [PASSPHRASE, PASSPHRASE, "short"]
    code, said = stage("keys", "create", "--keys", tmp_path, passphrases=passphrases)
    assert code == 1
    assert "12 characters" in said
    assert list(tmp_path.iterdir()) == []


def test_each_key_may_have_a_passphrase_of_its_own(tmp_path):
    own = [f"passphrase number {number}" for number in range(7)]
    keys("create", folders=[tmp_path], passphrases=own)
    before = (tmp_path / "1.root.json").read_bytes()
    keys("renew", folders=[tmp_path], passphrases=own[:3])

    renewed = (tmp_path / "2.root.json").read_bytes()
    assert json.loads(renewed)["signed"]["version"] == 2
    assert json.loads(renewed)["signed"]["keys"] == json.loads(before)["signed"]["keys"]


def test_the_root_holds_nothing_secret_and_the_repository_no_key(ceremony, root):
    assert not SECRET.search((ceremony.keys / "1.root.json").read_text())
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, check=False)
    if listing.returncode:
        pytest.skip("not a git checkout")
    for name in filter(None, listing.stdout.decode().split("\0")):
        path = root / name
        if path.is_file() and path.stat().st_size < 200_000:
            assert not SECRET.search(path.read_text(encoding="utf-8", errors="replace")), name
        assert not name.endswith((".pem", ".key", ".clinicupdate"))


def test_a_secret_would_be_found(ceremony):
    assert not SECRET.search("-----BEGIN PRIVATE KEY-----")
    assert SECRET.search((ceremony.keys / "root-1.pem").read_text())


def accepted_comparison(release: Path) -> dict[str, Any]:
    """What compare would write of a first release."""
    new = {"digest": digest_of(Release.load(release))}
    verdict = {"accepted": True, "reasons": []}
    return {"old": {"digest": "of none"}, "new": new, "verdict": verdict}


def test_every_command_of_the_manual_works_in_its_order(root, tmp_path):
    """What stands in the publisher's half of docs/updates.md between ``` marks, run as it is."""
    manual = (root / "docs" / "updates.md").read_text(encoding="utf-8")
    ceremony = manual[manual.index("## For the publisher") :]
    commands = [
        line
        for block in re.findall(r"```sh\n(.*?)```", ceremony, re.DOTALL)
        for line in block.replace("\\\n", " ").splitlines()
        if line.startswith("python -m model_export")
    ]
    assert {shlex.split(line)[4] for line in commands if " keys " in line} == {
        "create", "show", "rotate", "revoke", "renew",
    }  # fmt: skip
    assert any(" publish " in line for line in commands)
    make_release(tmp_path / "release")
    (tmp_path / "notes.txt").write_text("Better.")
    (tmp_path / "comparison.json").write_text(json.dumps(accepted_comparison(tmp_path / "release")))
    for line in commands:
        places = ("publisher", "stick-of-", "release", "notes.txt", "comparison", "chest-lite0")
        there = [
            str(tmp_path / word)
            if word.startswith(places) and not re.fullmatch(r"release-\d", word)
            else word
            for word in shlex.split(line)[3:]
        ]
        code, said = stage(*there)
        assert code == 0, f"{line}\n{said}"
