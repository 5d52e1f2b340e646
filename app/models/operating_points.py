"""A clinic's own operating point, beside the one that its model release brings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import models, transaction
from django.utils import timezone

from app.cxr.release import LocalPoints, OperatingPoint, age_band, read_active, write_active
from app.models.audit import AuditEvent
from app.models.people import User

if TYPE_CHECKING:
    from app.models.studies import Finding


class LocalOperatingPoint(models.Model):
    """A threshold that an administrator applied for one release and one age band.

    ``evidence``: the readings it was proposed from, as figures. It belongs to ``model``
    (``name@version``) and lapses with it. Never changed: it is withdrawn, or followed by another.
    What answers is ``active.json``; this is the record of who let it, when, and on what grounds.
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

    @classmethod
    def apply(
        cls, model: str, band: str, point: OperatingPoint, evidence: Mapping[str, Any], by: User
    ) -> LocalOperatingPoint:
        """Let ``point`` answer for an age band of a release from the next film on; audited.

        Raises OSError or UnusableRelease where ``active.json`` cannot be written or read; nothing
        has changed then.
        """
        with transaction.atomic():
            cls._standing(model, band).update(withdrawn_at=timezone.now(), withdrawn_by=by)
            applied = cls.objects.create(
                model=model,
                age_band=band,
                threshold=point.threshold,
                evidence=dict(evidence),
                applied_by=by,
            )
            AuditEvent.record(
                by,
                "operating_point_applied",
                applied,
                model=model,
                age_band=band,
                threshold=point.threshold,
            )
            entry = {
                "model": model,
                "threshold": point.threshold,
                "lower": point.lower,
                "upper": point.upper,
            }
            # Last, so that a file that cannot be written undoes the rows
            _note({**_noted(), band: entry})
        return applied

    @classmethod
    def withdraw(cls, model: str, band: str, by: User) -> None:
        """Give an age band of a release back to the release's own operating point; audited.

        Whoever put the clinic's own one into ``active.json``, it goes. Raises as ``apply`` does.
        """
        with transaction.atomic():
            cls._standing(model, band).update(withdrawn_at=timezone.now(), withdrawn_by=by)
            AuditEvent.record(by, "operating_point_withdrawn", model=model, age_band=band)
            _note({name: entry for name, entry in _noted().items() if name != band})

    @classmethod
    def clear_unusable(cls, model: str, by: User) -> None:
        """Take out of ``active.json`` what is no usable operating point; audited."""
        with transaction.atomic():
            noted = _noted()
            local = LocalPoints.of(noted, model)
            kept = {*local.in_force, *local.lapsed}
            AuditEvent.record(by, "operating_points_cleared", bands=list(local.refused))
            _note({name: entry for name, entry in noted.items() if name in kept})

    @classmethod
    def has_judged(cls, finding: Finding) -> bool:
        """Whether it was a clinic's own threshold that this finding was held against."""
        if finding.threshold is None:
            return False
        band = age_band(finding.age_years)
        of_release = cls.objects.filter(model=finding.model, age_band=band)
        return of_release.filter(threshold=finding.threshold).exists()

    @classmethod
    def _standing(cls, model: str, band: str) -> models.QuerySet[LocalOperatingPoint]:
        return cls.objects.filter(model=model, age_band=band, withdrawn_at=None)


def _noted() -> dict[str, Any]:
    noted = read_active(settings.DATA_DIR).get("operating_points")
    return dict(noted) if isinstance(noted, dict) else {}


def _note(points: Mapping[str, Any]) -> None:
    active = read_active(settings.DATA_DIR)
    write_active(settings.DATA_DIR, active | {"operating_points": dict(points)})
