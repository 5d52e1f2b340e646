"""The patient: who the films of several visits belong to."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import TYPE_CHECKING, Any

from django.db import models, transaction
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from app.models.audit import AuditEvent, as_kept, changes
from app.models.people import User
from app.models.words import same_words, searchable

if TYPE_CHECKING:
    from app.models.studies import Study

DAYS_IN_A_YEAR = 365.25
#: Ages are stated in round figures; further apart than this they speak of two people.
AGES_APART = 2.0


class Sex(models.TextChoices):
    """As DICOM has it (0010,0040); unknown is empty."""

    MALE = "M", _("male")
    FEMALE = "F", _("female")
    OTHER = "O", _("other")


class PatientQuerySet(models.QuerySet["Patient"]):
    """Questions asked of the patients."""

    def search(self, text: str) -> PatientQuerySet:
        """Patients that hold every word of ``text`` in name or number."""
        found = self
        for word in searchable(text).split():
            found = found.filter(search_text__contains=word)
        return found


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

    objects = PatientQuerySet.as_manager()

    FIELDS = ("name", "number", "sex", "birth_date")

    def __str__(self) -> str:
        return self.name or self.number or gettext("patient %(number)s") % {"number": self.pk}

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save, with the text that the search looks through brought up to date."""
        self.search_text = searchable(f"{self.name} {self.number}")
        if kwargs.get("update_fields") is not None:
            kwargs["update_fields"] = {*kwargs["update_fields"], "search_text"}
        super().save(*args, **kwargs)

    @classmethod
    def enter(cls, values: Mapping[str, Any], by: User | None) -> Patient:
        """A new patient; audited."""
        with transaction.atomic():
            patient = cls.objects.create(**values)
            changed = {n: [as_kept(empty), as_kept(v)] for n, empty, v in _filled(values)}
            AuditEvent.record(by, "patient_entered", patient, patient=patient.pk, changed=changed)
        return patient

    @classmethod
    def known_as(
        cls, number: str, name: str, sex: str = "", age_years: float | None = None
    ) -> Patient | None:
        """The one patient whom a film of today can mean that says so; None rather than a guess.

        Without a number nobody is taken for anybody else: names repeat. Where several share the
        number, the name has to be the same; nothing else that is known may speak against it.
        """
        if not number:
            return None
        sharing = list(cls.objects.filter(number=number).order_by("pk"))
        today = timezone.localdate()
        possible = [p for p in sharing if not p.contradicts(number, name, sex, age_years, today)]
        if len(sharing) > 1:
            possible = [p for p in possible if name and p.name]
        return possible[0] if possible else None

    def contradicts(
        self,
        number: str,
        name: str,
        sex: str = "",
        age_years: float | None = None,
        day: date | None = None,
    ) -> bool:
        """Whether a film that says so (the age: on ``day``) must be somebody else's.

        What either side leaves unsaid contradicts nothing.
        """
        if (number and self.number and number != self.number) or (
            sex and self.sex and sex != self.sex
        ):
            return True
        if name and self.name and not same_words(name, self.name):
            return True
        age = self.age_on(day) if day else None
        return age is not None and age_years is not None and abs(age - age_years) > AGES_APART

    def age_on(self, day: date) -> float | None:
        """Age in years on a day; None where the date of birth is unknown or later."""
        if self.birth_date is None or day < self.birth_date:
            return None
        return (day - self.birth_date).days / DAYS_IN_A_YEAR

    def learn(self, because: str = "header", **header: str | date | None) -> None:
        """Take over what a film's header says, where nobody has said it yet; audited.

        ``because``: a code of who else said it, such as the hospital's worklist.
        """
        learnt = {n: value for n, value in header.items() if value and not getattr(self, n)}
        if not learnt:
            return
        for name, value in learnt.items():
            setattr(self, name, value)
        self.save(update_fields=learnt.keys())
        changed = {name: ["", as_kept(value)] for name, value in learnt.items()}
        told = {"because": because} if because != "header" else {}
        AuditEvent.record(None, "patient_learnt", self, patient=self.pk, changed=changed, **told)

    def likely_duplicates(self) -> list[Patient]:
        """Other patients with the same number, or the same name and nothing that speaks against it.

        Names repeat: of two with different numbers the date of birth has to be the same too.
        """
        others = Patient.objects.exclude(pk=self.pk).order_by("pk")
        sharing = list(others.filter(number=self.number)) if self.number else []
        namesakes = others.search(self.name) if self.name.split() else others.none()
        return sharing + [p for p in namesakes if p not in sharing and self._may_be(p)]

    def _may_be(self, other: Patient) -> bool:
        """Whether a namesake is perhaps the same person."""
        if not same_words(self.name, other.name) or (
            self.sex and other.sex and self.sex != other.sex
        ):
            return False
        if self.birth_date and other.birth_date:
            return self.birth_date == other.birth_date
        return not (self.number and other.number)

    def change(self, values: Mapping[str, Any], by: User | None) -> dict[str, list[Any]]:
        """Take over new values; what changed, each as [before, after], which the audit keeps."""
        with transaction.atomic():
            before = Patient.objects.select_for_update().get(pk=self.pk)
            changed = changes(before, values)
            if not changed:
                return {}
            for name in changed:
                setattr(self, name, values[name])
            self.save(update_fields=changed.keys())
            AuditEvent.record(by, "patient_changed", self, patient=self.pk, changed=changed)
            for study in self.studies.all():
                study.follow_patient(by)
        return changed

    def take_over(self, other: Patient, by: User | None) -> None:
        """Merge a duplicate into this patient: its studies move here, its row goes.

        What this patient lacks is taken from the other; nothing of this one is overwritten. Raises
        Patient.DoesNotExist where either is gone, merged by somebody else.
        """
        if other.pk == self.pk:
            raise ValueError("a patient is no duplicate of itself")
        with transaction.atomic():
            other = Patient.objects.select_for_update().get(pk=other.pk)
            self.refresh_from_db(from_queryset=Patient.objects.select_for_update())
            lost = {name: as_kept(getattr(other, name)) for name in self.FIELDS}
            lacking = [name for name in self.FIELDS if not getattr(self, name)]
            gained = {n: value for n in lacking if (value := getattr(other, n))}
            changed = changes(self, gained)
            for name, value in gained.items():
                setattr(self, name, value)
            self.save()
            moving: list[Study] = list(other.studies.all())
            AuditEvent.record(
                by,
                "patients_merged",
                self,
                patient=self.pk,
                other=other.pk,
                was=lost,
                moved=[study.number for study in moving],
                changed=changed,
            )
            for study in moving:
                study.change({"patient": self}, by)
            other.delete()
            for study in self.studies.all():
                study.follow_patient(by)

    def remove(self, by: User | None) -> None:
        """Delete a patient without studies; audited. Raises ProtectedError where there is one."""
        with transaction.atomic():
            was = {name: as_kept(getattr(self, name)) for name in self.FIELDS}
            AuditEvent.record(by, "patient_deleted", self, patient=self.pk, was=was)
            self.delete()

    @classmethod
    def merged_into(cls, pk: int) -> Patient | None:
        """The patient that took over one who was merged away, however often."""
        merges = AuditEvent.objects.filter(action="patients_merged", details__other=pk)
        found = merges.values_list("details__patient", flat=True).first()
        if found is None:
            return None
        return cls.objects.filter(pk=found).first() or cls.merged_into(found)


def _filled(values: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """What was entered: name, its empty value, value."""
    return [(n, None if n == "birth_date" else "", v) for n, v in values.items() if v]
