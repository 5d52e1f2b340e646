"""Who saw, changed, took out or deleted what, and when. Written, never changed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any, NoReturn

from django.db import models
from django.utils import timezone

from app.models.people import User

UNCHANGED = "what was recorded is neither changed nor removed"


class Written(models.QuerySet["AuditEvent"]):
    """Events as they are in the database: to be read, never changed or removed (TypeError)."""

    def update(self, **_values: Any) -> NoReturn:
        """Refuse."""
        raise TypeError(UNCHANGED)

    def delete(self) -> NoReturn:
        """Refuse."""
        raise TypeError(UNCHANGED)


def changes(before: models.Model, values: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Which ``values`` differ from those of a row, each as [before, after], for the audit."""
    return {
        name: [as_kept(getattr(before, name)), as_kept(value)]
        for name, value in values.items()
        if getattr(before, name) != value
    }


def as_kept(value: Any) -> Any:
    """A value as the audit keeps it: a day in ISO 8601, a row by number and words, since it may
    go.
    """
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, models.Model):
        return {str(value._meta.model_name): value.pk, "name": str(value)}
    return value


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

    objects = Written.as_manager()

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M} {self.action} {self.subject}".strip()

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Write the event; one that is there already is not written over (TypeError)."""
        if not self._state.adding:
            raise TypeError(UNCHANGED)
        super().save(*args, **kwargs)

    def delete(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        """Refuse."""
        raise TypeError(UNCHANGED)

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
            subject=_known_as(of),
            details=details,
        )


def _known_as(of: models.Model | None) -> str:
    """A study's or patient's number, a user's name: what people call it by."""
    names = (getattr(of, name, None) for name in ("number", "username", "pk"))
    return str(next(filter(None, names), ""))[:100]
