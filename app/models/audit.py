"""Who saw, changed, took out or deleted what, and when. Written, never changed."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.utils import timezone

from app.models.people import User


class AuditEvent(models.Model):
    """One thing that somebody did. ``action`` is a stable code, ``details`` values without prose.

    ``subject`` names what it was done to as people know it (a study's number), so that the event
    still speaks when the thing is gone.
    """

    at = models.DateTimeField(default=timezone.now, db_index=True)
    user = models.ForeignKey(User, on_delete=models.PROTECT, null=True, related_name="+")
    action = models.CharField(max_length=40, db_index=True)
    kind = models.CharField(max_length=20, blank=True, default="")
    subject = models.CharField(max_length=100, blank=True, default="", db_index=True)
    details = models.JSONField(default=dict)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M} {self.action} {self.subject}".strip()

    @classmethod
    def record(
        cls, user: User | None, action: str, of: models.Model | None = None, **details: Any
    ) -> AuditEvent:
        """Write down that ``user`` (None: nobody, or the program itself) did ``action``.

        Call it inside the transaction of the change it speaks of.
        """
        return cls.objects.create(
            user=user,
            action=action,
            kind=of._meta.model_name or "" if of is not None else "",
            subject=str(getattr(of, "number", "") or getattr(of, "pk", "") or "")[:100],
            details=details,
        )
