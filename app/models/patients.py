"""The patient: who the films of several visits belong to."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import TYPE_CHECKING, Any

from django.db import models, transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from app.models.audit import AuditEvent
from app.models.people import User
from app.models.words import searchable

if TYPE_CHECKING:
    from django.db.models import QuerySet

DAYS_IN_A_YEAR = 365.25


class Sex(models.TextChoices):
    """As DICOM has it (0010,0040); unknown is empty."""

    MALE = "M", _("male")
    FEMALE = "F", _("female")
    OTHER = "O", _("other")


class Patient(models.Model):
    """A person with films. ``number`` is the clinic's own; name or number may be all there is."""

    name = models.CharField(_("name"), max_length=200, blank=True, default="")
    number = models.CharField(
        _("patient number"), max_length=64, blank=True, default="", db_index=True
    )
    sex = models.CharField(_("sex"), max_length=1, blank=True, default="", choices=Sex.choices)
    birth_date = models.DateField(_("date of birth"), null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    search_text = models.TextField(default="", editable=False)

    FIELDS = ("name", "number", "sex", "birth_date")

    def __str__(self) -> str:
        return self.name or self.number or f"patient {self.pk}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save, with the text that the search looks through brought up to date."""
        self.search_text = searchable(f"{self.name} {self.number}")
        if kwargs.get("update_fields") is not None:
            kwargs["update_fields"] = {*kwargs["update_fields"], "search_text"}
        super().save(*args, **kwargs)

    @classmethod
    def known_as(cls, number: str, name: str) -> Patient | None:
        """The patient of that number, unless the names speak of two people; None if there is none.

        Without a number nobody is taken for anybody else: names repeat.
        """
        if not number:
            return None
        for patient in cls.objects.filter(number=number).order_by("pk"):
            if not name or not patient.name or searchable(patient.name) == searchable(name):
                return patient
        return None

    def age_on(self, day: date) -> float | None:
        """Age in years on a day; None where the date of birth is unknown or later."""
        if self.birth_date is None or day < self.birth_date:
            return None
        return (day - self.birth_date).days / DAYS_IN_A_YEAR

    def learn(self, **header: str) -> None:
        """Take over what a film's header says, where nobody has said it yet."""
        learnt = {n: value for n, value in header.items() if value and not getattr(self, n)}
        for name, value in learnt.items():
            setattr(self, name, value)
        if learnt:
            self.save(update_fields=learnt.keys())

    def likely_duplicates(self) -> QuerySet[Patient]:
        """Other patients with the same number or the same name."""
        same = models.Q(pk__in=[])
        if self.number:
            same |= models.Q(number=self.number)
        if self.name:
            same |= models.Q(name__iexact=self.name)
        return Patient.objects.filter(same).exclude(pk=self.pk).order_by("pk")

    def change(self, values: Mapping[str, Any], by: User | None) -> dict[str, list[Any]]:
        """Take over new values; what changed, each as [before, after], which the audit keeps."""
        with transaction.atomic():
            before = Patient.objects.select_for_update().get(pk=self.pk)
            changed = {
                name: [_plain(getattr(before, name)), _plain(value)]
                for name, value in values.items()
                if getattr(before, name) != value
            }
            if not changed:
                return {}
            for name in changed:
                setattr(self, name, values[name])
            self.save(update_fields=changed.keys())
            AuditEvent.record(by, "patient_changed", self, patient=self.pk, changed=changed)
            for study in self.studies.all():
                study.follow_patient()
        return changed

    def take_over(self, other: Patient, by: User | None) -> None:
        """Merge a duplicate into this patient: its studies move here, its row goes.

        What this patient lacks is taken from the other; nothing of this one is overwritten.
        """
        if other.pk == self.pk:
            raise ValueError("a patient is no duplicate of itself")
        with transaction.atomic():
            moved = list(other.studies.values_list("number", flat=True))
            lost = {name: _plain(getattr(other, name)) for name in self.FIELDS}
            gained = [n for n in self.FIELDS if not getattr(self, n) and getattr(other, n)]
            for name in gained:
                setattr(self, name, getattr(other, name))
            self.save()
            other.studies.update(patient=self)
            AuditEvent.record(
                by, "patients_merged", self, patient=self.pk, other=other.pk, was=lost, moved=moved
            )
            other.delete()
            for study in self.studies.all():
                study.follow_patient()


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, date) else value
