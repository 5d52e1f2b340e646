"""The way back in without e-mail: one code on paper, locked away."""

from __future__ import annotations

import secrets
import unicodedata

from django.contrib.auth.hashers import check_password, make_password
from django.db import models, transaction
from django.utils import timezone

from app.models.audit import AuditEvent
from app.models.log_ins import LogIn, Tries
from app.models.people import Role, User


class WrongCode(Exception):
    """The recovery code is not this one, or was used, or there is none."""


class NoSuchAdministrator(Exception):
    """No administrator who may log in goes by that name. ``names``: those who do."""

    def __init__(self, names: list[str]) -> None:
        super().__init__(names)
        self.names = names


class RecoveryCode(models.Model):
    """A code that sets an administrator's password anew, once. Only the newest one works.

    Kept as a hash. ``kept_at``: when somebody said that it is written down.
    """

    #: Letters that nobody takes for another one in handwriting; 32 of 20 are 138 bits.
    LETTERS = "ABCDEFGHJKMNPRSTWXYZ"
    GROUPS, GROUP = 8, 4

    code = models.CharField(max_length=128)
    made_at = models.DateTimeField(default=timezone.now)
    made_by = models.ForeignKey(User, on_delete=models.PROTECT, null=True, related_name="+")
    kept_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"recovery code of {self.made_at:%Y-%m-%d}"

    @classmethod
    def current(cls) -> RecoveryCode | None:
        """The one that works, None where there is none."""
        return cls.objects.filter(ended_at=None).order_by("-id").first()

    @classmethod
    def is_kept(cls) -> bool:
        """Whether there is one, and somebody has said that it is written down."""
        return cls.objects.filter(ended_at=None, kept_at__isnull=False).exists()

    @classmethod
    def make(cls, by: User | None) -> str:
        """A new code, to be shown once; the one before is void."""
        letters = "".join(secrets.choice(cls.LETTERS) for _ in range(cls.GROUPS * cls.GROUP))
        hashed = make_password(letters)
        with transaction.atomic():
            cls.objects.filter(ended_at=None).update(ended_at=timezone.now())
            cls.objects.create(code=hashed, made_by=by)
            AuditEvent.record(by, "recovery_code_made")
        groups = range(0, len(letters), cls.GROUP)
        return "-".join(letters[start : start + cls.GROUP] for start in groups)

    @classmethod
    def keep(cls, by: User) -> None:
        """Somebody has written the code down."""
        with transaction.atomic():
            if cls.objects.filter(ended_at=None, kept_at=None).update(kept_at=timezone.now()):
                AuditEvent.record(by, "recovery_code_kept")

    @classmethod
    def recover(cls, code: str, username: str, password: str) -> str:
        """Give an administrator a new password, and end whatever knew the old one; the next code.

        The names of administrators are told to who has the code, and to nobody else. Raises
        WrongCode and NoSuchAdministrator.
        """
        found = cls.current()
        if found is None or not check_password(plain_code(code), found.code):
            raise WrongCode
        administrators = User.people().filter(role=Role.ADMINISTRATOR, is_active=True)
        user = User.named(username, administrators)
        if user is None:
            raise NoSuchAdministrator(list(administrators.values_list("username", flat=True)))
        user.set_password(password)
        with transaction.atomic():
            # Of two with the same code at once the second finds it used
            if not cls.objects.filter(pk=found.pk, ended_at=None).update(ended_at=timezone.now()):
                raise WrongCode
            user.pin, user.must_change_password = "", False
            user.save(update_fields=["password", "pin", "must_change_password"])
            LogIn.end(user.log_ins.all())
            Tries.forget(user.username)
            AuditEvent.record(None, "password_recovered", user)
            return cls.make(None)


def plain_code(typed: str) -> str:
    """A code as it was made: typed small, with spaces, hyphens or none, it is the same."""
    letters = unicodedata.normalize("NFKC", typed).upper()
    return "".join(letter for letter in letters if letter.isalpha())
