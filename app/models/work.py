"""Who works the queue of films, and whether they still live."""

from __future__ import annotations

from datetime import timedelta

from django.db import models
from django.utils import timezone

from app import database


class Worker(models.Model):
    """The lease of one worker thread: as long as its heart beats, its tasks are its own."""

    id = models.CharField(max_length=64, primary_key=True)
    started_at = models.DateTimeField(default=timezone.now)
    heartbeat_at = models.DateTimeField(default=timezone.now)

    #: Far above the beat's few seconds: a laptop that swaps must not lose its own work.
    LEASE = timedelta(seconds=60)

    def __str__(self) -> str:
        return self.id

    @classmethod
    def beat(cls, worker_id: str) -> None:
        """Say that this worker is alive."""
        cls.objects.update_or_create(id=worker_id, defaults={"heartbeat_at": database.now()})

    @classmethod
    def alive(cls) -> set[str]:
        """The workers whose lease still runs."""
        # A clock set back leaves heartbeats in the future: those are not taken as alive for ever
        now = database.now()
        fresh = cls.objects.filter(
            heartbeat_at__gte=now - cls.LEASE, heartbeat_at__lte=now + cls.LEASE
        )
        return set(fresh.values_list("id", flat=True))
