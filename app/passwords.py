"""How passwords, PINs and recovery codes are hashed."""

from __future__ import annotations

import threading

from django.contrib.auth.hashers import Argon2PasswordHasher

#: Each hash takes 100 MiB for a moment: however many devices try passwords, the laptop goes on.
_AT_ONCE = threading.BoundedSemaphore(2)


class Argon2(Argon2PasswordHasher):
    """Argon2id with Django's parameters (100 MiB, 2 passes, 8 lanes), two at a time.

    OWASP's Password Storage Cheat Sheet asks for 19 MiB and 2 passes, or 46 MiB and 1, at least.
    """

    def encode(self, password: str, salt: str) -> str:
        """The hash of a new password, in its turn."""
        with _AT_ONCE:
            return str(super().encode(password, salt))

    def verify(self, password: str, encoded: str) -> bool:
        """Whether it is the password, in its turn."""
        with _AT_ONCE:
            return bool(super().verify(password, encoded))
