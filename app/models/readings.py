"""What people found: their reading of a film, the clinical signs, the diagnosis in the end.

Only added to. A second thought is a second row, and the first one stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any, Self

from django.db import models, transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from app.cxr.signs import Signs, assess, danger_signs_for_age
from app.models.audit import AuditEvent
from app.models.deliveries import Delivery
from app.models.people import User
from app.models.site import SendsResults
from app.models.studies import Finding, Study

#: Why there is no rule: of the age, no sign of the patient's.
AGE_REASONS = ("age_unknown", "no_rule_for_age")
#: Answers with which a reader can agree or disagree.
PLAIN_ANSWERS = ("likely", "unlikely")


class OnlyAddedTo(models.Model):
    """A row that is written once.

    ``token`` names the form it was entered in: of a form that is sent twice there is one row.
    """

    by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    at = models.DateTimeField(default=timezone.now)
    token = models.CharField(max_length=36, blank=True, default="", editable=False)

    #: The fields that hold what was found.
    FOUND: tuple[str, ...] = ()

    class Meta:
        abstract = True
        ordering = ["id"]

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Write the row; one that is there already is not written over (TypeError)."""
        if self.pk is not None:
            raise TypeError("what a person found is only added to")
        super().save(*args, **kwargs)

    def _repeats(self, earlier: Self | None) -> bool:
        """Whether this is the form of ``earlier``, sent again as it was."""
        return (
            earlier is not None
            and self.token != ""
            and self.token == earlier.token
            and all(getattr(self, name) == getattr(earlier, name) for name in self.FOUND)
        )


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

    FOUND = ("kind", "conclusion", "agrees", "note")

    study = models.ForeignKey(Study, on_delete=models.CASCADE, related_name="readings")
    kind = models.CharField(max_length=12, choices=Kind.choices, default=Kind.CONCLUSION)
    conclusion = models.CharField(max_length=16, choices=Conclusion.choices)
    before_answer = models.BooleanField(default=False)
    agrees = models.BooleanField(null=True)
    note = models.TextField(blank=True, default="")

    def __str__(self) -> str:
        return f"{self.study} {self.kind}: {self.conclusion}"

    @classmethod
    def record(
        cls, study: Study, by: User, token: str = "", machine: str = "", **found: Any
    ) -> Reading:
        """Add what ``by`` found, ``FOUND`` by name; the same form sent again adds nothing.

        The server alone says whether it was found before the answer (`is_blind`). A diagnosis never
        is: it rests on more than the film. ``machine``: which one brought it, where no page did.
        """
        with transaction.atomic():
            Study.objects.select_for_update().get(pk=study.pk)
            reading = cls(study=study, by=by, token=token, **found)
            earlier = cls.objects.filter(study=study, by=by).last()
            if earlier and reading._repeats(earlier):
                return earlier
            reading.before_answer = reading.kind == cls.Kind.CONCLUSION and cls.is_blind(
                study, by, elsewhere=bool(machine)
            )
            reading.save()
            study.refresh_standing()
            AuditEvent.record(
                by,
                "reading_recorded",
                study,
                reading=reading.pk,
                kind=str(reading.kind),
                before_answer=reading.before_answer,
                **({"machine": machine} if machine else {}),
            )
            Delivery.ask_after(study, SendsResults.AFTER_READING)
        return reading

    @staticmethod
    def is_blind(study: Study, by: User, elsewhere: bool = False) -> bool:
        """Whether it is certain that the computer's answer was never shown to ``by``.

        Either there has been none, or it has been hidden from ``by`` all along. Which answers
        somebody saw in a worklist is not recorded, so any time at which they were not hidden counts
        as shown: a switch of the blind first read or of anybody's role since the film came in, and
        of course a page that did show the answer. What another program shows where the film is
        read ``elsewhere`` nobody here knows.
        """
        answers = Finding.objects.filter(instance__study=study, probability__isnull=False)
        if not answers.exists():
            return True
        if elsewhere or not study.answer_hidden_from(by):
            return False
        received = AuditEvent.objects.filter(action="film_received", subject=study.number)
        # By number, not by time: the clocks of old laptops jump
        first = received.order_by("id").values_list("id", flat=True).first() or 0
        since = AuditEvent.objects.filter(id__gt=first)
        switched = since.filter(
            action="settings_changed", details__changed__has_key="blind_first_read"
        )
        moved = any(
            "role" in event.details.get("changed", ())
            for event in since.filter(action="user_changed")
        )
        views = since.filter(action="study_viewed", user=by, subject=study.number)
        seen = any(view.details.get("answer_shown", True) for view in views)
        return not (switched.exists() or moved or seen)


class ClinicalSigns(OnlyAddedTo):
    """The clinical signs of a patient at a study, and what the guideline makes of them.

    ``signs`` and ``assessment`` hold the values of ``app.cxr.signs`` by name; with the assessment
    stands the age that it was made for, ``age_years``.
    """

    FOUND = ("signs",)

    study = models.ForeignKey(Study, on_delete=models.CASCADE, related_name="clinical_signs")
    signs = models.JSONField(default=dict)
    assessment = models.JSONField(default=dict)

    def __str__(self) -> str:
        return f"{self.study} signs"

    @classmethod
    def record(cls, study: Study, by: User, signs: Signs, token: str = "") -> ClinicalSigns:
        """Add signs and the guideline's word on them at the age that the study has now.

        The same form sent again adds nothing. Raises InvalidSign where that age cannot be.
        """
        with transaction.atomic():
            age = Study.objects.select_for_update().get(pk=study.pk).age_years
            row = cls(study=study, by=by, token=token, signs=_plain(asdict(signs)))
            earlier = cls.objects.filter(study=study, by=by).last()
            if earlier and row._repeats(earlier):
                return earlier
            row.assessment = _plain(asdict(assess(signs, age))) | {"age_years": age}
            row.save()
            said = {name: row.assessment[name] for name in ("rule", "classification", "urgency")}
            AuditEvent.record(by, "signs_recorded", study, signs=row.pk, **said)
        return row

    @staticmethod
    def standing_dangers(rows: Iterable[ClinicalSigns]) -> tuple[str, ...]:
        """The codes of the danger signs that stand, of ``rows`` from the first to the last.

        Each stands until it is looked for again and not found: a later entry in which nobody asked
        for it does not make it go away.
        """
        present: dict[str, bool] = {}
        last: dict[str, Any] = {}
        for row in rows:
            found = row.signs.get("danger_signs")
            if found is not None:
                asked = danger_signs_for_age(row.assessment.get("age_years"))
                present |= dict.fromkeys(asked, False) | dict.fromkeys(found, True)
            for name in ("stridor_in_calm_child", "oxygen_saturation"):
                if row.signs.get(name) is not None:
                    last[name] = row.signs[name]
        dangers = frozenset(code for code, there in present.items() if there)
        # Without an age there is no rule, and what is left to decide are the danger signs
        because = assess(Signs(danger_signs=dangers, **last), None).because
        return tuple(code for code in because if code not in AGE_REASONS)

    @classmethod
    def urgent_signs(cls, rows: Sequence[ClinicalSigns]) -> tuple[str, ...]:
        """The codes for which the patient is referred urgently, of ``rows`` first to last.

        The danger signs that stand, and whatever else the last assessment rests on.
        """
        dangers = cls.standing_dangers(rows)
        last = rows[-1].assessment if rows else {}
        urgent = last.get("because", ()) if last.get("urgency") == "refer_urgently" else ()
        others = [code for code in urgent if code not in (*dangers, *AGE_REASONS)]
        return (*dangers, *others)


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """As JSON holds it."""
    sets = (frozenset, set)
    return {
        name: sorted(value) if isinstance(value, sets) else _listed(value)
        for name, value in values.items()
    }


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
