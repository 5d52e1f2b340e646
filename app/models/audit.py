"""Who saw, changed, took out or deleted what, and when. Written, never changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any, NoReturn

from django.db import models, transaction
from django.utils import timezone

from app.audit import chain
from app.audit.seal import fits, seal
from app.models.people import User

UNCHANGED = "what was recorded is neither changed nor removed"


class Written(models.QuerySet["AuditEvent"]):
    """Events as they are in the database: to be read, never changed or removed (TypeError)."""

    def bulk_create(
        self, objs: Iterable[AuditEvent], *args: Any, **kwargs: Any
    ) -> list[AuditEvent]:
        """Write many events, each chained to the one before."""
        events = list(objs)
        with transaction.atomic(using=self.db):
            AuditHead.append(events, self.db)
            return super().bulk_create(events, *args, **kwargs)

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
    still speaks when the thing is gone; ``username`` is the user's of then. ``sequence`` counts
    from 1 without a gap, ``digest`` chains the event to the one before (``app.audit.chain``).
    Triggers of the database refuse to change or remove a row (``app.audit.triggers``).
    """

    sequence = models.PositiveBigIntegerField(unique=True, editable=False)
    at = models.DateTimeField(default=timezone.now, db_index=True)
    user = models.ForeignKey(User, on_delete=models.PROTECT, null=True, related_name="+")
    username = models.CharField(max_length=64, blank=True, default="", editable=False)
    action = models.CharField(max_length=40, db_index=True)
    kind = models.CharField(max_length=20, blank=True, default="")
    subject = models.CharField(max_length=100, blank=True, default="", db_index=True)
    details = models.JSONField(default=dict)
    digest = models.CharField(max_length=64, editable=False)

    objects = Written.as_manager()

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M} {self.action} {self.subject}".strip()

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Write the event; one that is there already is not written over (TypeError)."""
        if not self._state.adding:
            raise TypeError(UNCHANGED)
        using = kwargs.get("using") or "default"
        with transaction.atomic(using=using):
            AuditHead.append([self], using)
            super().save(*args, **kwargs)

    def delete(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        """Refuse."""
        raise TypeError(UNCHANGED)

    @classmethod
    def record(
        cls, user: User | None, action: str, of: models.Model | None = None, **details: Any
    ) -> AuditEvent:
        """Write down that ``user`` (None: nobody, or the program itself) did ``action``.

        Call it inside the transaction of the change it speaks of, best as its last step: until the
        end of the transaction nobody else writes an event.
        """
        return cls.objects.create(
            user=user,
            action=action,
            kind=of._meta.model_name or "" if of is not None else "",
            subject=_known_as(of),
            details=details,
        )

    def as_chained(self) -> dict[str, Any]:
        """The event as its digest covers it."""
        values = {name: getattr(self, name) for name in chain.NAMES if name != "user"}
        return chain.event({**values, "user": self.user_id})


class AuditHead(models.Model):
    """Where the record ends: one row, which also lets events be written one after the other.

    ``doubted``: the first event that was appended to an end whose seal did not fit, which this
    program had not written; 0 where there is none. Under the seal like the rest, it stays.
    """

    THE_ONE = 1

    count = models.PositiveBigIntegerField(default=0)
    digest = models.CharField(max_length=64, default=chain.START)
    doubted = models.PositiveBigIntegerField(default=0)
    seal = models.CharField(max_length=64, blank=True, default="")

    def __str__(self) -> str:
        return f"{self.count} {self.digest}"

    @property
    def is_sealed(self) -> bool:
        """Whether this program wrote it; one that speaks of no event needs no seal."""
        return not self.count or fits(self.seal, self.count, self.digest, self.doubted)

    @classmethod
    def current(cls, using: str = "default") -> AuditHead:
        """As it is now."""
        return cls.objects.using(using).filter(pk=cls.THE_ONE).first() or cls(pk=cls.THE_ONE)

    @classmethod
    def append(cls, events: Iterable[AuditEvent], using: str) -> None:
        """Give events their places in the chain. Inside the transaction that writes them: SQLite
        lets one in at a time, another database waits for the row.
        """
        locked = cls.objects.using(using).select_for_update().filter(pk=cls.THE_ONE).first()
        head = locked or cls.objects.using(using).create(pk=cls.THE_ONE)
        if not head.is_sealed:
            head.doubted = head.doubted or head.count + 1
        for event in events:
            head.count += 1
            event.sequence = head.count
            event.username = event.user.username if event.user else ""
            event.digest = head.digest = chain.digest(head.digest, event.as_chained())
        head.seal = seal(head.count, head.digest, head.doubted)
        head.save(using=using)


def _known_as(of: models.Model | None) -> str:
    """A study's or patient's number, a user's name: what people call it by."""
    names = (getattr(of, name, None) for name in ("number", "username", "pk"))
    return str(next(filter(None, names), ""))[:100]
