"""The keys: a random master key, wrapped twice, and what is derived from it.

::

    passphrase -- Argon2id --> wrapping key --+
                                              +-- AES-256-GCM --> master key (random, 256 bits)
    recovery key -- HKDF --> wrapping key ----+                       |
                                                                      +-- HKDF --> database
                                                                      +-- HKDF --> names of films
                                                                      +-- HKDF --> secrets
                                                                                     |
    films: an age key pair of their own, wrapped with the last -----------------------+

Argon2id: RFC 9106; HKDF: RFC 5869; age: age-encryption.org/v1. Of all that is wrapped, what it is
for and how its key was derived are authenticated with it.
"""

from __future__ import annotations

import base64
import secrets
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

if TYPE_CHECKING:
    import pyrage

#: 1.8 seconds of one core of the machine that docs/performance.md names, and memory that a graphics
#: card's thousands of cores do not each have.
MEMORY_KIB, PASSES, LANES = 256 * 1024, 6, 4
#: What a file may ask of this computer at most.
MOST_MEMORY_KIB, MOST_PASSES, MOST_LANES = 1024 * 1024, 64, 16
SHORTEST_PASSPHRASE = 12
KEY_BYTES, NONCE_BYTES = 32, 12
#: Letters that nobody takes for another one in handwriting, as in ``RecoveryCode``: 138 bits.
LETTERS, GROUPS, GROUP = "ABCDEFGHJKMNPRSTWXYZ", 8, 4


class WrongKey(Exception):
    """Neither this passphrase nor this recovery key opens it; or what is kept has been changed."""


@dataclass(frozen=True)
class Cost:
    """What a guess at a passphrase costs (RFC 9106, section 3.1)."""

    salt: bytes
    memory_kib: int = MEMORY_KIB
    passes: int = PASSES
    lanes: int = LANES

    @property
    def is_bearable(self) -> bool:
        """Whether this computer may be asked to pay it."""
        return (
            len(self.salt) >= 16
            and 8 * self.lanes <= self.memory_kib <= MOST_MEMORY_KIB
            and 1 <= self.passes <= MOST_PASSES
            and 1 <= self.lanes <= MOST_LANES
        )


@dataclass(frozen=True)
class Wrapped:
    """A key under another: AES-256-GCM, each time under a nonce of its own."""

    nonce: bytes
    sealed: bytes

    @staticmethod
    def of(secret: bytes, key: bytes, use: bytes) -> Wrapped:
        """Wrap it; ``use`` says what for, and is authenticated."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        return Wrapped(nonce, AESGCM(key).encrypt(nonce, secret, use))

    def opened(self, key: bytes, use: bytes) -> bytes:
        """What is wrapped; raises WrongKey."""
        try:
            return AESGCM(key).decrypt(self.nonce, self.sealed, use)
        except (InvalidTag, ValueError) as error:
            raise WrongKey from error


class Keys:
    """The master key while it is open, and the keys of what it is for. ``vault``: whose it is."""

    def __init__(self, vault: str, master: bytes, films: Wrapped | None = None) -> None:
        self.vault = vault
        self._master = master
        self._films = films or self._new_films()
        self.database = self._derived(b"database")
        self.names = self._derived(b"names of films", 64)  # AES-SIV takes two keys in one
        self.marks = self._derived(b"marks")
        self._identity: pyrage.x25519.Identity | None = None

    @property
    def films(self) -> pyrage.x25519.Identity:
        """The key pair that films are encrypted to. Raises WrongKey."""
        if self._identity is None:
            import pyrage  # 3 MB that a start without a vault does not need

            line = self._films.opened(self._derived(b"secrets"), self._use(b"films"))
            self._identity = pyrage.x25519.Identity.from_str(line.decode())
        return self._identity

    @property
    def wrapped_films(self) -> Wrapped:
        """That key pair as it is kept."""
        return self._films

    def wrapped_by_passphrase(self, passphrase: str, cost: Cost) -> Wrapped:
        """The master key under a passphrase; takes what ``cost`` says."""
        return Wrapped.of(self._master, _stretched(passphrase, cost), _use_of(self.vault, cost))

    def wrapped_by_recovery(self, line: str) -> Wrapped:
        """The master key under a recovery key, which nobody guesses."""
        return Wrapped.of(self._master, _recovery_of(line), self._use(b"recovery"))

    def _new_films(self) -> Wrapped:
        import pyrage

        line = str(pyrage.x25519.Identity.generate())
        return Wrapped.of(line.encode(), self._derived(b"secrets"), self._use(b"films"))

    def _derived(self, use: bytes, length: int = KEY_BYTES) -> bytes:
        return _derive(self._master, use, length)

    def _use(self, use: bytes) -> bytes:
        return b"clinic vault 1 %s %s" % (self.vault.encode(), use)


def make() -> Keys:
    """The keys of a new vault."""
    return Keys(secrets.token_hex(8), secrets.token_bytes(KEY_BYTES))


def by_passphrase(vault: str, kept: Wrapped, cost: Cost, passphrase: str, films: Wrapped) -> Keys:
    """The keys, after as long as ``cost`` says; raises WrongKey."""
    key = _stretched(passphrase, cost)
    return Keys(vault, kept.opened(key, _use_of(vault, cost)), films)


def by_recovery(vault: str, kept: Wrapped, line: str, films: Wrapped) -> Keys:
    """The keys, by the recovery key as it was written down; raises WrongKey."""
    use = b"clinic vault 1 %s recovery" % vault.encode()
    return Keys(vault, kept.opened(_recovery_of(line), use), films)


def new_recovery() -> str:
    """A recovery key as it is written down: eight groups of four letters."""
    letters = [secrets.choice(LETTERS) for _ in range(GROUPS * GROUP)]
    return "-".join("".join(letters[at : at + GROUP]) for at in range(0, len(letters), GROUP))


def _recovery_of(line: str) -> bytes:
    """A recovery key as somebody typed it; raises WrongKey."""
    typed = "".join(letter for letter in line.upper() if letter.isalnum())
    if len(typed) != GROUPS * GROUP or set(typed) - set(LETTERS):
        raise WrongKey
    return _derive(typed.encode(), b"recovery")


def _stretched(passphrase: str, cost: Cost) -> bytes:
    from argon2.low_level import Type, hash_secret_raw

    # Keyboards differ in how they compose letters; and a line that was copied has an end
    plain = unicodedata.normalize("NFC", passphrase.strip()).encode("utf-8", "surrogatepass")
    return hash_secret_raw(
        plain, cost.salt, cost.passes, cost.memory_kib, cost.lanes, KEY_BYTES, Type.ID
    )


def _derive(key: bytes, use: bytes, length: int = KEY_BYTES) -> bytes:
    return HKDF(SHA256(), length, salt=None, info=b"clinic vault 1 " + use).derive(key)


def _use_of(vault: str, cost: Cost) -> bytes:
    salt = base64.b64encode(cost.salt).decode()
    said = f"{cost.memory_kib} {cost.passes} {cost.lanes} {salt}"
    return f"clinic vault 1 {vault} passphrase {said}".encode()
