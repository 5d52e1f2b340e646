"""What people found: their reading of a film, the clinical signs, the diagnosis in the end.

Only added to. A second thought is a second row, and the first one stays.
"""

from __future__ import annotations

from typing import Any

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from app.models.people import User
from app.models.studies import Study


class OnlyAddedTo(models.Model):
    """A row that is written once."""

    by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    at = models.DateTimeField(default=timezone.now)

    class Meta:
        abstract = True
        ordering = ["id"]

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Write the row; one that is there already is not written over (TypeError)."""
        if self.pk is not None:
            raise TypeError("what a person found is only added to")
        super().save(*args, **kwargs)


class Reading(OnlyAddedTo):
    """A clinician's own conclusion on the films of a study, or later the final diagnosis.

    ``before_answer``: made before the computer's answer was shown to this reader. ``agrees``: with
    that answer; None where it was not said, or could not be yet.
    """

    class Kind(models.TextChoices):
        CONCLUSION = "conclusion", _("conclusion from the film")
        DIAGNOSIS = "diagnosis", _("final diagnosis")

    class Conclusion(models.TextChoices):
        PNEUMONIA = "pneumonia", _("pneumonia")
        NO_PNEUMONIA = "no_pneumonia", _("no pneumonia")
        UNSURE = "unsure", _("not sure")
        OTHER = "other", _("another disease")
        NOT_USABLE = "not_usable", _("film not usable")

    study = models.ForeignKey(Study, on_delete=models.CASCADE, related_name="readings")
    kind = models.CharField(max_length=12, choices=Kind.choices, default=Kind.CONCLUSION)
    conclusion = models.CharField(max_length=16, choices=Conclusion.choices)
    before_answer = models.BooleanField(default=False)
    agrees = models.BooleanField(null=True)
    note = models.TextField(blank=True, default="")

    def __str__(self) -> str:
        return f"{self.study} {self.kind}: {self.conclusion}"


class ClinicalSigns(OnlyAddedTo):
    """The clinical signs of a patient at a study, and what the guideline makes of them.

    ``signs`` and ``assessment`` hold the values of ``app.cxr.signs`` by name.
    """

    study = models.ForeignKey(Study, on_delete=models.CASCADE, related_name="clinical_signs")
    signs = models.JSONField(default=dict)
    assessment = models.JSONField(default=dict)

    def __str__(self) -> str:
        return f"{self.study} signs"
