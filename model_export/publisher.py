"""The publisher: the keys that sign updates, and the public record of what was signed.

A publisher's folder holds ``1.root.json``, ``2.root.json`` … (who may sign, public), the newest
``targets.json``, ``snapshot.json`` and ``timestamp.json`` (public), and key files
``root-1.pem`` … (secret, each under a passphrase). Key files may lie on sticks of their own and
are given as further folders.

There are three kinds of keys. ``root`` keys say who may sign, and are needed twice a year at most;
``release`` keys sign what is in an update; the ``courier`` key signs that these parts belong
together and are the newest.
"""

from __future__ import annotations

import argparse
import datetime as dt
import getpass
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from securesystemslib.signer import CryptoSigner, SSlibKey
from tuf.api.exceptions import UnsignedMetadataError
from tuf.api.metadata import Metadata, Root

from app.cxr.durable import write_durably

#: Kind of key: how many there are, and how many of them must sign.
KINDS = {"root": (3, 2), "release": (3, 2), "courier": (1, 1)}
ROLES = {
    "root": ("root",),
    "release": ("targets",),
    "courier": ("snapshot", "timestamp"),
}
#: In the root, beside each key: what its file is called.
NAME = "x-clinic-name"
SHORTEST_PASSPHRASE = 12
ROOT_DAYS = 3 * 365

Ask = Callable[[str], str]


class CannotSign(Exception):
    """The ceremony cannot go on; the text says why and what to do."""


class Publisher:
    """A publisher's folder, and the key files that are at hand. ``ask`` gets passphrases."""

    def __init__(self, folders: Sequence[Path], ask: Ask) -> None:
        self.folder, self._folders, self._ask = folders[0], folders, ask
        self._passphrases: list[str] = []
        self._signers: dict[str, CryptoSigner] = {}
        self._unwritten: dict[Path, bytes] = {}

    # --- what is public ---

    def root(self) -> Metadata[Root]:
        """The newest root; raises CannotSign where there is none."""
        if not (version := self._newest_root()):
            raise CannotSign(f"{self.folder} is no publisher's folder: make one by “keys create”.")
        return Metadata[Root].from_file(str(self.root_path(version)))

    def root_path(self, version: int) -> Path:
        """Where a root is kept."""
        return self.folder / f"{version}.root.json"

    def _newest_root(self) -> int:
        version = 0
        while self.root_path(version + 1).is_file():
            version += 1
        return version

    def names(self, kind: str) -> dict[str, str]:
        """Names of the keys of a kind that may sign, each with its key id."""
        root = self.root().signed
        ids = root.roles[ROLES[kind][0]].keyids
        return {str(root.keys[one].unrecognized_fields[NAME]): one for one in ids}

    # --- what is secret ---

    def new_key(self, name: str) -> CryptoSigner:
        """Make a key; its file is written with the root that first names it. Raises CannotSign
        rather than write over one.
        """
        path = self.folder / f"{name}.pem"
        if path.exists():
            raise CannotSign(f"{path} is there already, and no key is ever written over.")
        passphrase = self._ask(f"New passphrase for {path.name}")
        if len(passphrase) < SHORTEST_PASSPHRASE:
            raise CannotSign(f"A passphrase needs {SHORTEST_PASSPHRASE} characters or more.")
        private = Ed25519PrivateKey.generate()
        secret = private.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(passphrase.encode())
        )
        self._unwritten[path] = secret
        self._passphrases.append(passphrase)
        key = SSlibKey.from_crypto(private.public_key())
        key.unrecognized_fields[NAME] = name
        self._signers[name] = CryptoSigner(private, key)
        return self._signers[name]

    def signer(self, name: str) -> CryptoSigner | None:
        """A key by its name, None where its file is not at hand; raises CannotSign."""
        if name in self._signers:
            return self._signers[name]
        files = [folder / f"{name}.pem" for folder in self._folders]
        path = next((one for one in files if one.is_file()), None)
        if path is None:
            return None
        private = self._opened(path)
        signer = CryptoSigner(private, SSlibKey.from_crypto(private.public_key()))
        self._signers[name] = signer
        return signer

    def _opened(self, path: Path) -> Ed25519PrivateKey:
        """The key in a file, by a passphrase that was given already or by one that is asked for."""
        content = path.read_bytes()
        for passphrase in self._passphrases:
            if key := _decrypted(content, passphrase):
                return key
        passphrase = self._ask(f"Passphrase for {path.name}")
        key = _decrypted(content, passphrase)
        if key is None:
            raise CannotSign(f"{path} does not open with this passphrase.")
        self._passphrases.append(passphrase)
        return key

    # --- signing ---

    def sign(self, kind: str, metadata: Metadata[Any]) -> None:
        """Sign with all keys of a kind that are at hand; raises CannotSign where these are too
        few.
        """
        role = metadata.signed.type
        needed = self.root().signed.roles[role].threshold
        signed: list[str] = []
        for name, key_id in self.names(kind).items():
            if signer := self.signer(name):
                if signer.public_key.keyid != key_id:
                    raise CannotSign(f"{name}.pem is not the key that the root calls so.")
                metadata.sign(signer, append=True)
                signed.append(name)
        if len(signed) < needed:
            raise CannotSign(
                f"{role} needs {needed} of the keys {', '.join(self.names(kind))}; at hand: "
                f"{', '.join(signed) or 'none'}. Name the folders of the others after --keys."
            )

    def next_root(self, root: Root, new: Sequence[CryptoSigner] = ()) -> Path:
        """Sign the next root with the keys of the one before, and its own; write it.

        Every client goes from one root to the next, so none is ever changed or left out (TUF
        specification 5.3.3).
        """
        before = self.root()
        root.version = before.signed.version + 1
        root.expires = in_days(ROOT_DAYS)
        metadata = Metadata(root)
        self.sign("root", metadata)
        for signer in new:
            if signer.public_key.keyid in root.roles["root"].keyids:
                metadata.sign(signer, append=True)
        try:
            before.signed.verify_delegate("root", metadata.signed_bytes, metadata.signatures)
            root.verify_delegate("root", metadata.signed_bytes, metadata.signatures)
        except UnsignedMetadataError as error:
            raise CannotSign(f"Too few root keys are at hand: {error}.") from error
        return self.write_root(metadata)

    def write_root(self, metadata: Metadata[Root]) -> Path:
        """Write a root, and before it the files of the keys that are new in it."""
        for path, secret in self._unwritten.items():
            write_secret(path, secret)
        self._unwritten.clear()
        path = self.root_path(metadata.signed.version)
        write_durably(path, metadata.to_bytes())
        return path


def _decrypted(content: bytes, passphrase: str) -> Ed25519PrivateKey | None:
    try:
        key = load_pem_private_key(content, passphrase.encode())
    except (ValueError, TypeError):
        return None
    return key if isinstance(key, Ed25519PrivateKey) else None


def in_days(days: int) -> dt.datetime:
    """That many days from now, to the second (TUF knows no parts of one)."""
    return (dt.datetime.now(dt.UTC) + dt.timedelta(days=days)).replace(microsecond=0)


def write_secret(path: Path, content: bytes) -> None:
    """A file that only its owner may read, and that was not there before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def add_keys_argument(parser: argparse.ArgumentParser) -> None:
    """Declare where a stage finds the publisher's keys."""
    parser.add_argument(
        "--keys",
        type=Path,
        nargs="+",
        required=True,
        metavar="DIR",
        help="the publisher's folder, then further folders with key files",
    )


def ask(question: str) -> str:
    """A passphrase, not shown while it is typed; a line of standard input where that is no
    terminal. Raises CannotSign.
    """
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    first = getpass.getpass(f"{question}: ")
    if question.startswith("New") and getpass.getpass("Again: ") != first:
        raise CannotSign("The two passphrases are not the same.")
    return first
