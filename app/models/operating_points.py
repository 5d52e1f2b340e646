"""A clinic's own operating point, beside the one that its model release brings."""

from __future__ import annotations

from django.db import models
from django.utils import timezone

from app.models.people import User


class LocalOperatingPoint(models.Model):
    """A threshold that an administrator applied for one release and one age band.

    ``evidence``: the readings it was proposed from, as figures. It belongs to ``model``
    (``name@version``) and lapses with it. Never changed: it is withdrawn, or followed by another.
    """

    model = models.CharField(max_length=100)
    age_band = models.CharField(max_length=20)
    threshold = models.FloatField()
    evidence = models.JSONField(default=dict)
    applied_at = models.DateTimeField(default=timezone.now)
    applied_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    withdrawn_at = models.DateTimeField(null=True)
    withdrawn_by = models.ForeignKey(User, on_delete=models.PROTECT, null=True, related_name="+")

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.model} {self.age_band} {self.threshold:.3f}"
