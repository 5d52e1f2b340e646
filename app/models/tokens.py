"""Machines that may use the program's interface without a person: each by a token of its own."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from datetime import timedelta

from django.db import models, transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from app.models.audit import AuditEvent
from app.models.people import User

PREFIX = "clinic_"
SHOWN = 6
USE_NOTED_EVERY = timedelta(minutes=1)


class Scope(models.TextChoices):
    """Something that a token lets a machine do."""

    UPLOAD = "upload", _("put films in")
    RESULTS = "results", _("read answers")
    READINGS = "readings", _("read and record readings")


class DeviceToken(models.Model):
    """One machine's token: only its digest is kept. ``revoked_at`` None: it is in force."""

    name = models.CharField(_("name"), max_length=100)
    digest = models.CharField(max_length=64, unique=True)
    #: The token's first letters, by which people tell it from others
    shown = models.CharField(max_length=20)
    scopes = models.JSONField(default=list)
    made_by = models.ForeignKey(User, on_delete=models.PROTECT, null=True, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)
    last_used_at = models.DateTimeField(null=True)
    revoked_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-created_at", "-id"]

    def __str__(self) -> str:
        return self.name

    @classmethod
    def issue(cls, name: str, scopes: Iterable[str], by: User | None) -> tuple[DeviceToken, str]:
        """A new token and its secret, which is not kept and cannot be shown again; audited."""
        secret = PREFIX + secrets.token_urlsafe(32)
        with transaction.atomic():
            token = cls.objects.create(
                name=name,
                digest=_digest(secret),
                shown=secret[: len(PREFIX) + SHOWN],
                scopes=sorted(Scope(scope).value for scope in scopes),
                made_by=by,
            )
            AuditEvent.record(by, "token_issued", token, name=name, scopes=token.scopes)
        return token, secret

    @classmethod
    def of(cls, secret: str) -> DeviceToken | None:
        """The token in force that has this secret."""
        return cls.objects.filter(digest=_digest(secret), revoked_at=None).first()

    def may(self, scope: Scope) -> bool:
        """Whether it lets a machine do that."""
        return self.revoked_at is None and scope.value in self.scopes

    def note_use(self) -> None:
        """Keep when it was last used, to the minute: not every request is to wait for the disk."""
        now = timezone.now()
        if self.last_used_at is None or abs(now - self.last_used_at) >= USE_NOTED_EVERY:
            DeviceToken.objects.filter(pk=self.pk).update(last_used_at=now)
            self.last_used_at = now

    def revoke(self, by: User | None) -> None:
        """End it for good; audited."""
        with transaction.atomic():
            ended = DeviceToken.objects.filter(pk=self.pk, revoked_at=None)
            if ended.update(revoked_at=timezone.now()):
                AuditEvent.record(by, "token_revoked", self, name=self.name)
        self.refresh_from_db()


def _digest(secret: str) -> str:
    """A token is as long as a key: no guess finds it, so one round of hashing is enough."""
    return hashlib.sha256(secret.encode()).hexdigest()
