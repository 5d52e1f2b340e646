"""Make the key pair that contributions of clinics are encrypted to; docs/contributions.md.

    python -m model_export readings-key --key readings.key --public assets/publisher/readings.pub

The passphrase is asked for; where standard input is no terminal, it is its first line.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import pyrage

from model_export.publisher import CannotSign, ask


def make(key: Path, public: Path, passphrase: str) -> None:
    """Write a new secret key, under a passphrase, and its public half.

    Raises FileExistsError rather than write over a key: contributions under way would be lost.
    """
    identity = pyrage.x25519.Identity.generate()
    locked = pyrage.passphrase.encrypt(str(identity).encode(), passphrase, armored=True)
    for path in (key, public):
        path.parent.mkdir(parents=True, exist_ok=True)
    with public.open("x", encoding="ascii") as file:
        file.write(f"{identity.to_public()}\n")
    try:
        with os.fdopen(os.open(key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as secret:
            secret.write(locked)
    except OSError:
        public.unlink()
        raise


def unlock(key: Path, passphrase: str) -> pyrage.x25519.Identity:
    """The secret key of a file; raises OSError, or ValueError for a wrong passphrase or file."""
    try:
        text = pyrage.passphrase.decrypt(key.read_bytes(), passphrase).decode("ascii")
        return pyrage.x25519.Identity.from_str(text)
    except (pyrage.DecryptError, pyrage.IdentityError) as error:
        raise ValueError(f"{key} does not open with this passphrase") from error


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of this stage."""
    parser.add_argument("--key", type=Path, required=True, help="the secret key to write")
    parser.add_argument("--public", type=Path, required=True, help="its public half")


def main(options: argparse.Namespace) -> int:
    """Run the stage; returns the exit status."""
    try:
        passphrase = ask("New passphrase")
        if not passphrase:
            raise ValueError("a key without a passphrase is no secret")
        make(options.key, options.public, passphrase)
    except (OSError, ValueError, CannotSign) as error:
        print(f"{error}\nNo key was made.", file=sys.stderr)
        return 1
    print(f"{options.key}\n{options.public}")
    return 0
