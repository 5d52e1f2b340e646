"""The key pair of the backups: one half encrypts unasked, the other is the administrator's.

The secret half is never kept as it is. It lies sealed with the administrator's passphrase on this
computer and on every stick, and is shown once, as a line to be written down: either opens a backup.
The format is age (age-encryption.org/v1): any of its tools opens a backup where this program cannot
be had.
"""

from __future__ import annotations

import unicodedata

import pyrage

from app.backup.faults import BackupFault

SHORTEST_PASSPHRASE = 10
_LINE = "AGE-SECRET-KEY-1"


def make(passphrase: str) -> tuple[str, bytes, str]:
    """A new pair: the public half, the secret one sealed, and the secret one as a line."""
    identity = pyrage.x25519.Identity.generate()
    line = str(identity)
    sealed = pyrage.passphrase.encrypt(line.encode(), _plain(passphrase))
    return str(identity.to_public()), bytes(sealed), line


def unlock(sealed: bytes, secret: str) -> pyrage.x25519.Identity:
    """The secret half by passphrase, or by the line itself; raises BackupFault("wrong_key")."""
    line = "".join(secret.split()).upper()
    try:
        if not line.startswith(_LINE):
            line = bytes(pyrage.passphrase.decrypt(sealed, _plain(secret))).decode()
        return pyrage.x25519.Identity.from_str(line)
    except (pyrage.DecryptError, pyrage.IdentityError, ValueError) as error:
        raise BackupFault("wrong_key") from error


def recipient(public: str) -> pyrage.x25519.Recipient:
    """The public half, to encrypt to; raises BackupFault where it is damaged."""
    try:
        return pyrage.x25519.Recipient.from_str(public)
    except (pyrage.RecipientError, ValueError) as error:
        raise BackupFault("not_set_up") from error


def _plain(passphrase: str) -> str:
    """Keyboards differ in how they compose letters; and a line that was copied has an end."""
    return unicodedata.normalize("NFC", passphrase.strip())
