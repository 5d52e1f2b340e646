"""A publisher in memory: keys, a TUF repository and update files, honest unless a test spoils them.

It shares no code with ``model_export.publish``: what the workshop gets wrong must not look right
here.
"""

from __future__ import annotations

import datetime as dt
import json
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

ROLES = ("root", "timestamp", "snapshot", "targets")
NEEDED = {"root": (3, 2), "timestamp": (1, 1), "snapshot": (1, 1), "targets": (2, 2)}
NOW = dt.datetime(2027, 3, 1, 12, tzinfo=dt.UTC)
BUILT = dt.date(2027, 1, 1)
IN_A_YEAR = NOW + dt.timedelta(days=365)
INFO = {
    "format": 1,
    "name": "tiny",
    "version": "1.2.3",
    "minimum_program": "0.1.0",
    "published": "2027-02-01",
    "notes": "Reads children's films better.",
}
SMALL_RELEASE = {"release/manifest.json": b"{}", "release/model.onnx": b"graph" * 100}


def release_files(folder: Path) -> dict[str, bytes]:
    """The files of a release as an update holds them."""
    return {
        f"release/{path.relative_to(folder).as_posix()}": path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


class Publisher:
    """Change what you like (``files``, ``info``, ``keys``, a role's ``signed`` by ``spoil``), then
    ``publish``. Every call makes the next version of every role but the root.
    """

    def __init__(self, files: Mapping[str, bytes] = SMALL_RELEASE) -> None:
        self.keys = {
            role: [CryptoSigner.generate_ed25519() for _ in range(NEEDED[role][0])]
            for role in ROLES
        }
        self.files, self.info = dict(files), dict(INFO)
        self.version = 0
        self.expires = dict.fromkeys(ROLES, IN_A_YEAR)
        self.roots: list[bytes] = []
        self.members: dict[str, bytes] = {}
        self.rotate()

    # --- roots ---

    def rotate(self, role: str | None = None, signers: list[CryptoSigner] | None = None) -> None:
        """The next root; new keys for ``role``. Signed with the old root's keys and its own."""
        former = list(self.keys["root"])
        if role:
            self.keys[role] = [CryptoSigner.generate_ed25519() for _ in self.keys[role]]
        root = Root(len(self.roots) + 1, expires=self.expires["root"], consistent_snapshot=False)
        for name in ROLES:
            for signer in self.keys[name]:
                root.add_key(signer.public_key, name)
            root.roles[name].threshold = min(NEEDED[name][1], len(self.keys[name]))
        signers = [*former, *self.keys["root"]] if signers is None else signers
        self.roots.append(self.sign(root, signers))

    @property
    def first_root(self) -> bytes:
        return self.roots[0]

    # --- signing ---

    @staticmethod
    def sign(signed: Any, signers: list[CryptoSigner]) -> bytes:
        metadata = Metadata(signed)
        for signer in signers:
            metadata.sign(signer, append=True)
        return metadata.to_bytes()

    def publish(self, version: int | None = None, **spoil: Callable[[Any], None]) -> Publisher:
        """Make the members of the next update; ``spoil`` changes a role before it is signed."""
        self.version = version or self.version + 1
        contents = {"update.json": json.dumps(self.info).encode(), **self.files}
        targets = Targets(self.version, expires=self.expires["targets"])
        targets.targets = {n: TargetFile.from_data(n, c, ["sha256"]) for n, c in contents.items()}
        parts = {"targets": self._signed("targets", targets, spoil)}
        snapshot = Snapshot(self.version, expires=self.expires["snapshot"])
        snapshot.meta["targets.json"] = self._meta(parts["targets"])
        parts["snapshot"] = self._signed("snapshot", snapshot, spoil)
        timestamp = Timestamp(self.version, expires=self.expires["timestamp"])
        timestamp.snapshot_meta = self._meta(parts["snapshot"])
        parts["timestamp"] = self._signed("timestamp", timestamp, spoil)
        self.members = {f"metadata/{n}.root.json": c for n, c in enumerate(self.roots, start=1)}
        self.members |= {f"metadata/{role}.json": content for role, content in parts.items()}
        self.members |= {f"targets/{name}": content for name, content in contents.items()}
        return self

    def _meta(self, content: bytes) -> MetaFile:
        return MetaFile.from_data(self.version, content, ["sha256"])

    def _signed(self, role: str, signed: Any, spoil: Mapping[str, Callable[[Any], None]]) -> bytes:
        if role in spoil:
            spoil[role](signed)
        return self.sign(signed, self.keys[role])

    # --- the file ---

    def write(self, path: Path) -> Path:
        """The members as an update file."""
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
            for name, content in self.members.items():
                packed.writestr(name, content)
        return path


def end_record(entries: int, length: int, offset: int, comment: int = 0) -> bytes:
    """The end of central directory record of a ZIP."""
    return struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, entries, entries, length, offset, comment)
