"""Who uses the program, and what they may do: one role each."""

from __future__ import annotations

import hashlib
import secrets
import unicodedata
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Self

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.hashers import make_password
from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.db import models, transaction
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

#: Letters and digits of every script, and what joins them. No space, which nobody sees at the end.
USERNAME = RegexValidator(
    r"^[\w.@+-]+\Z",
    _("The user name may have letters, digits and . @ + - _ only, and no space."),
)


class Role(models.TextChoices):
    """What a person is to the program; see ``app.access`` for what each may do."""

    ADMINISTRATOR = "administrator", _("Administrator")
    CLINICIAN = "clinician", _("Clinician")
    HEALTH_WORKER = "health_worker", _("Health worker")
    READ_ONLY = "read_only", _("Read only")


class UserManager(BaseUserManager["User"]):
    """Finds people by the name they log in with, however they type it."""

    def get_by_natural_key(self, username: str | None) -> User:
        """The user of that name; raises User.DoesNotExist."""
        return self.get(username=plain_username(username or ""))


def plain_username(username: str) -> str:
    """A user name as it is kept: typed with a capital letter or without, it is the same person."""
    return unicodedata.normalize("NFKC", username).strip().casefold()


class User(AbstractBaseUser):
    """A person who logs in. Never deleted, because findings and audit speak of them; switched off.

    ``language``: of the pages for this person; empty where the clinic's holds. ``pin``: a hash, of
    what unlocks a browser in which they are logged in; empty where they have none.
    """

    #: Logged in by itself in single-user mode. With a space, so that nobody can be entered as it.
    THIS_COMPUTER = "this computer"

    username = models.CharField(_("user name"), max_length=64, unique=True, validators=[USERNAME])
    full_name = models.CharField(_("full name"), max_length=200, blank=True, default="")
    role = models.CharField(_("role"), max_length=20, choices=Role.choices)
    language = models.CharField(_("language"), max_length=10, blank=True, default="")
    is_active = models.BooleanField(_("may log in"), default=True)
    pin = models.CharField(max_length=128, blank=True, default="", editable=False)
    must_change_password = models.BooleanField(default=False, editable=False)
    created_at = models.DateTimeField(default=timezone.now)

    objects = UserManager()

    USERNAME_FIELD = "username"

    def __str__(self) -> str:
        if self.is_this_computer:
            return gettext("This computer")
        return self.full_name or self.username

    def clean(self) -> None:
        """Bring the user name into the form in which it is kept."""
        self.username = plain_username(self.username)

    def unique_error_message(
        self, model_class: type[Self], unique_check: Sequence[str]
    ) -> ValidationError:
        """In words of ours: Django's speak of a “User with this User name”."""
        if tuple(unique_check) == ("username",):
            return ValidationError(gettext("This user name is taken."), code="unique")
        return super().unique_error_message(model_class, unique_check)

    @classmethod
    def enter(cls, username: str, password: str | None, role: str, **more: Any) -> User:
        """A new user; raises ValidationError. ``password`` None: nobody can log in as this user."""
        user = cls(username=plain_username(username), role=role, **more)
        user.set_password(password)
        user.full_clean()
        user.save()
        return user

    @classmethod
    def of_this_computer(cls) -> User:
        """Whoever sits at this computer, in single-user mode."""
        return cls.objects.get_or_create(
            username=cls.THIS_COMPUTER,
            defaults={"role": Role.ADMINISTRATOR, "password": make_password(None)},
        )[0]

    @classmethod
    def people(cls) -> models.QuerySet[User]:
        """Everybody who was entered; this computer is nobody."""
        return cls.objects.exclude(username=cls.THIS_COMPUTER)

    @classmethod
    def named(cls, username: str, among: models.QuerySet[User] | None = None) -> User | None:
        """The person of that name, however it is typed."""
        people = cls.people() if among is None else among
        return people.filter(username=plain_username(username)).first()

    @property
    def is_this_computer(self) -> bool:
        """Whether this stands for whoever sits here, in single-user mode."""
        return self.username == self.THIS_COMPUTER

    @property
    def is_administrator(self) -> bool:
        """Whether this user looks after the program."""
        return self.role == Role.ADMINISTRATOR

    @property
    def is_last_administrator(self) -> bool:
        """Whether nobody else could let people in again."""
        others = User.people().filter(role=Role.ADMINISTRATOR, is_active=True).exclude(pk=self.pk)
        return self.is_administrator and self.is_active and not others.exists()


class Invitation(models.Model):
    """A code that lets one phone in once, as the user who asked for it."""

    LIFE = timedelta(minutes=10)

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="invitations")
    # The code itself is only ever on the screen: whoever reads the database cannot use it
    code_sha256 = models.CharField(max_length=64, unique=True)
    created_at = models.DateTimeField(default=timezone.now)
    used_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"invitation of {self.user} at {self.created_at:%Y-%m-%d %H:%M}"

    @classmethod
    def issue(cls, user: User) -> str:
        """A new code for ``user``, valid for ``LIFE``."""
        cls.objects.filter(created_at__lt=timezone.now() - timedelta(days=1)).delete()
        code = secrets.token_urlsafe(18)
        cls.objects.create(user=user, code_sha256=_digest(code))
        return code

    @classmethod
    def user_of(cls, code: str) -> User | None:
        """The user whom the code would let in, None where it is wrong, old or used."""
        found = cls._usable(code).first()
        return found.user if found else None

    @classmethod
    def redeem(cls, code: str) -> User | None:
        """The user whom the code lets in, None where it is wrong, old or used. Uses it up."""
        with transaction.atomic():
            found = cls._usable(code).select_for_update().first()
            if found is None:
                return None
            found.used_at = timezone.now()
            found.save(update_fields=["used_at"])
        return found.user

    @classmethod
    def _usable(cls, code: str) -> models.QuerySet[Invitation]:
        now = timezone.now()
        return cls.objects.filter(
            code_sha256=_digest(code),
            used_at=None,
            user__is_active=True,
            created_at__gt=now - cls.LIFE,
            created_at__lte=now + cls.LIFE,
        )


def _digest(code: str) -> str:
    return hashlib.sha256(code.encode()).hexdigest()
