"""What people enter of a patient and of a study: checked, and kept without losing a word."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from datetime import date
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from app import history, versions
from app.forms import OLDEST_YEARS
from app.models import AuditEvent, Patient, Study, User
from app.models.patients import DAYS_IN_A_YEAR, Sex
from app.models.words import one_line
from app.templatetags.films import age_words

NEW = "new"
FACTS: dict[str, Any] = {"name": "", "number": "", "sex": "", "birth_date": None}
STUDY_FIELDS = ("age_years", "consent_for_learning", "note")
CONSENT = {"yes": True, "no": False, "": None}
#: What a value is typed into, where that is called differently.
TYPED_INTO = {"age_years": "age", "consent_for_learning": "consent"}
#: Up to this age a typed age is shown in months again.
IN_MONTHS_UNDER = 2


class LineField(forms.CharField):
    """A name or number: kept in any script, without what cannot be seen."""

    def to_python(self, value: Any) -> str:
        """One clean line, before its length is checked."""
        return one_line(super().to_python(value) or "")


class NoteField(forms.CharField):
    """Several lines of words."""

    widget = forms.Textarea

    def to_python(self, value: Any) -> str:
        """Lines end as they do on this computer's disk, whatever the browser sends."""
        text = (super().to_python(value) or "").replace("\r\n", "\n").replace("\r", "\n")
        shown = (c for c in text if c in "\n\t" or unicodedata.category(c) not in {"Cc", "Cs"})
        return unicodedata.normalize("NFC", "".join(shown)).strip()


class DateInput(forms.DateInput):
    """The browser's own calendar; but what is no date is shown as it was typed, to be put right."""

    def __init__(self) -> None:
        super().__init__(format="%Y-%m-%d")

    def get_context(self, name: str, value: Any, attrs: Any) -> dict[str, Any]:
        """A calendar shows nothing at all for what it does not understand."""
        context = super().get_context(name, value, attrs)
        shown = context["widget"]["value"] or ""
        context["widget"]["type"] = "date" if not shown or _is_iso(shown) else "text"
        return context


class AgeField(forms.FloatField):
    """An age in whole or broken numbers, with a point or a comma, in the digits of any script.

    No ``<input type=number>``: that sends nothing at all where it does not understand.
    """

    widget = forms.TextInput({"inputmode": "decimal", "size": 5})

    def to_python(self, value: Any) -> Any:
        """The number, None where there is none; raises ValidationError."""
        text = one_line(str(value or "")).replace("٫", ".").replace(",", ".")
        return super().to_python(text)


class PatientForm(forms.Form):
    """The facts of a patient. ``base`` carries what filled the form, for two who edit at once."""

    name = LineField(
        label=history.LABELS["name"],
        required=False,
        max_length=200,
        widget=forms.TextInput({"autocomplete": "off", "dir": "auto"}),
    )
    number = LineField(
        label=history.LABELS["number"],
        required=False,
        max_length=64,
        widget=forms.TextInput({"autocomplete": "off", "dir": "auto"}),
    )
    sex = forms.ChoiceField(
        label=history.LABELS["sex"],
        required=False,
        choices=[("", gettext_lazy("unknown")), *Sex.choices],
    )
    birth_date = forms.DateField(
        label=history.LABELS["birth_date"],
        required=False,
        widget=DateInput,
        input_formats=["%Y-%m-%d", "%d.%m.%Y", "%d/%m/%Y"],
        error_messages={"invalid": gettext_lazy("This is no date. Write it as 2019-05-31.")},
    )
    base = forms.CharField(required=False, widget=forms.HiddenInput)

    def clean_birth_date(self) -> date | None:
        """Nobody is born tomorrow, or lives longer than anybody has."""
        born: date | None = self.cleaned_data["birth_date"]
        if born is None:
            return None
        days = (timezone.localdate() - born).days
        if days < 0:
            raise ValidationError(_("This day has not come yet."))
        if days > OLDEST_YEARS * DAYS_IN_A_YEAR:
            raise ValidationError(_("The age cannot be above 130 years."))
        return born

    @property
    def facts(self) -> dict[str, Any]:
        """The columns of the patient."""
        return {name: self.cleaned_data[name] for name in FACTS}

    def check_births(self, patient: Patient | None) -> None:
        """No film of a patient is older than the patient."""
        born = self.cleaned_data.get("birth_date")
        first = patient.studies.order_by("created_at").first() if patient else None
        if born and first and first.day < born:
            said = {"day": date_format(first.day, "DATE_FORMAT"), "number": first.number}
            self.add_error(
                "birth_date",
                _("Study %(number)s of this patient is of %(day)s: before this day.") % said,
            )

    def disturbed(self, settled: versions.Settled, now: Mapping[str, Any], *of: Any) -> None:
        """Say beside each field what somebody else changed meanwhile, in ``of``."""
        self.add_error(
            None,
            _(
                "Somebody else changed this meanwhile. Nothing of what you typed is lost: look at "
                "the fields marked below, then save again."
            ),
        )
        for name in (*settled.theirs, *settled.both):
            both = name in settled.both or name == "patient"
            self.add_error(_field_of(name), _told(name, now[name], both, of))


class EditPatientForm(PatientForm):
    """A patient's facts, changed."""

    def __init__(self, patient: Patient, data: Any = None) -> None:
        self.patient = patient
        super().__init__(data, initial=_facts(patient) | {"base": versions.seal(plain(patient))})

    def clean(self) -> dict[str, Any]:
        """Check against the films that are there."""
        cleaned = super().clean() or {}
        self.check_births(self.patient)
        return cleaned

    def keep(self, by: User) -> EditPatientForm | None:
        """Save, audited. None once it is saved, else the form to look at again."""
        with transaction.atomic():
            patient = Patient.objects.select_for_update().get(pk=self.patient.pk)
            now = plain(patient)
            settled = versions.settle(
                versions.unseal(self.cleaned_data["base"]), _plain(self.facts), now
            )
            if settled.undisturbed:
                patient.change(self.facts, by)
                return None
        again = EditPatientForm(patient, settled.values | {"base": versions.seal(now)})
        again.is_valid()
        again.disturbed(settled, now, patient)
        return again


class StudyForm(PatientForm):
    """A study and whose it is: a patient who is here already, a new one, or nobody yet.

    ``patient`` is the number of a row, NEW, or empty. The facts are those of that patient.
    """

    patient = forms.CharField(required=False, widget=forms.HiddenInput)
    age = AgeField(
        label=gettext_lazy("or age at this study"),
        required=False,
        min_value=0,
        error_messages={
            "invalid": gettext_lazy("The age must be a number, such as 3."),
            "min_value": gettext_lazy("The age cannot be below 0."),
        },
    )
    age_unit = forms.ChoiceField(
        label=gettext_lazy("years or months"),
        required=False,
        choices=[("years", gettext_lazy("years")), ("months", gettext_lazy("months"))],
    )
    consent = forms.ChoiceField(
        label=gettext_lazy("May the program learn from these films?"),
        required=False,
        choices=[
            ("", gettext_lazy("not asked")),
            ("yes", gettext_lazy("yes")),
            ("no", gettext_lazy("no")),
        ],
        widget=forms.RadioSelect,
        help_text=gettext_lazy(
            "Yes only where the patient, or who is responsible for the patient, has agreed."
        ),
    )
    note = NoteField(
        label=history.LABELS["note"],
        required=False,
        max_length=5000,
        widget=forms.Textarea({"rows": 3, "dir": "auto"}),
    )

    def __init__(self, study: Study, data: Any = None, typed: Any = None) -> None:
        """``data``: to be checked. ``typed``: to be shown once more, not to be checked yet."""
        self.study = study
        base = _study(study) | plain(study.patient)
        age, unit = age_typed(base, study)
        kept = _facts(study.patient) | {
            "patient": str(study.patient.pk) if study.patient else "",
            "age": age,
            "age_unit": unit,
            "consent": _consent_typed(study.consent_for_learning),
            "note": study.note,
            "base": versions.seal(base),
        }
        super().__init__(data, initial=kept | dict(typed or {}))
        #: Patients who may be the one that was entered as new; asked about once.
        self.candidates: list[Patient] = []

    @property
    def chosen(self) -> Patient | None:
        """The patient whose facts the form holds; None for a new one, or nobody."""
        value = str(self["patient"].value() or "")
        if not (value.isascii() and value.isdecimal() and len(value) < 19):
            return None
        return Patient.objects.filter(pk=int(value)).first() or Patient.merged_into(int(value))

    @property
    def is_new(self) -> bool:
        """Whether a patient is being entered."""
        return self["patient"].value() == NEW

    def choosing(self, whose: str) -> StudyForm:
        """The form with another patient in it: a row's number, NEW or nobody. Nothing is saved."""
        typed = {name: self.data.get(name, "") for name in ("age", "age_unit", "consent", "note")}
        base = versions.unseal(self.data.get("base", ""))
        form = StudyForm(self.study, typed=typed | {"patient": whose})
        chosen = form.chosen
        form.initial = dict(form.initial) | _facts(chosen)
        form.initial["base"] = versions.seal(base | plain(chosen))
        if chosen and chosen.birth_date:
            form.initial["age"] = ""
        return form

    def clean(self) -> dict[str, Any]:
        """Dates and ages that fit each other, the study and the patient's other films."""
        cleaned = super().clean() or {}
        self.check_births(self.chosen)
        age, born = self._age(cleaned), cleaned.get("birth_date")
        if age is not None and age > OLDEST_YEARS:
            self.add_error("age", _("The age cannot be above 130 years."))
        elif born and not self.has_error("birth_date"):
            self._check_age(age, Patient(birth_date=born), cleaned.get("age_unit") == "months")
        return cleaned

    def _check_age(self, stated: float | None, patient: Patient, in_months: bool) -> None:
        """A date of birth and an age that contradict each other are told, not weighed."""
        by_date = patient.age_on(self.study.day)
        day = date_format(self.study.day, "DATE_FORMAT")
        if by_date is None:
            words = _("This study is of %(day)s: before this day.") % {"day": day}
            self.add_error("birth_date", words)
        elif stated is not None and abs(stated - by_date) > (2 / 12 if in_months else 1.01):
            words = _(
                "By the date of birth the patient was %(age)s at this study (%(day)s). Correct "
                "the one or the other, or leave the age empty."
            )
            self.add_error("age", words % {"age": age_words(by_date), "day": day})

    def _age(self, cleaned: Mapping[str, Any]) -> float | None:
        age = cleaned.get("age")
        if age is None:
            return None
        return float(age) / 12 if cleaned.get("age_unit") == "months" else float(age)

    @property
    def age_years(self) -> float | None:
        """The age that follows from the date of birth, else the one that was typed.

        A typed age that nobody touched stays as fine as it is kept.
        """
        cleaned, base = self.cleaned_data, versions.unseal(self.cleaned_data["base"])
        if cleaned["birth_date"]:
            return Patient(birth_date=cleaned["birth_date"]).age_on(self.study.day)
        kept = base.get("age_years")
        if kept is not None and (self["age"].value(), cleaned["age_unit"]) == _in_words(kept):
            return float(kept)
        return self._age(cleaned)

    def keep(self, by: User, surely_new: bool) -> StudyForm | None:
        """Save, audited. None once it is saved, else the form to look at again."""
        with transaction.atomic():
            study = Study.objects.select_for_update().get(pk=self.study.pk)
            whose = self._whose(study)
            now = _study(study) | plain(whose)
            settled = versions.settle(
                versions.unseal(self.cleaned_data["base"]), self._typed(whose), now
            )
            self.candidates = self._candidates(whose, surely_new)
            if settled.undisturbed and not self.candidates:
                self._save(study, whose, by)
                return None
        if self.candidates:
            return self
        return self._again(study, settled, now, whose)

    def _whose(self, study: Study) -> Patient | None:
        """The patient that is meant; the one that a first sending of this very form has entered."""
        entered = study.patient
        if not self.chosen and entered and self._has_facts and _facts(entered) == self.facts:
            return entered
        return self.chosen

    @property
    def _has_facts(self) -> bool:
        return self.facts != FACTS

    def _typed(self, whose: Patient | None) -> dict[str, Any]:
        consent = CONSENT[self.cleaned_data["consent"]]
        patient = whose.pk if whose else NEW if self._has_facts else None
        study = {"patient": patient, "age_years": self.age_years, "consent_for_learning": consent}
        return study | {"note": self.cleaned_data["note"]} | _plain(self.facts)

    def _candidates(self, whose: Patient | None, surely_new: bool) -> list[Patient]:
        if whose or surely_new or not self._has_facts:
            return []
        return Patient(**self.facts).likely_duplicates()

    def _save(self, study: Study, whose: Patient | None, by: User) -> None:
        if whose:
            whose.change(self.facts, by)
        elif self._has_facts:
            whose = Patient.enter(self.facts, by)
        study.refresh_from_db()
        consent = CONSENT[self.cleaned_data["consent"]]
        values = {"age_years": self.age_years, "consent_for_learning": consent}
        study.change({"patient": whose, **values, "note": self.cleaned_data["note"]}, by)

    def _again(
        self,
        study: Study,
        settled: versions.Settled,
        now: dict[str, Any],
        whose: Patient | None,
    ) -> StudyForm:
        """The form with what somebody else changed in it, beside all that was typed here."""
        theirs = {name: settled.values[name] for name in settled.theirs}
        base = versions.unseal(self.cleaned_data["base"])
        if "patient" in theirs and all(base.get(n) == v for n, v in _plain(self.facts).items()):
            # Nobody has touched the patient here, so it is theirs with all that is known of it
            whose, facts = study.patient, plain(study.patient)
            now, theirs = now | facts, theirs | facts
            theirs["patient"] = whose.pk if whose else ""
        else:
            theirs.pop("patient", None)
        data = {name: self.data.get(name, "") for name in self.fields} | _typed_again(theirs)
        form = StudyForm(study, data | {"base": versions.seal(now)})
        form.is_valid()
        form.disturbed(settled, now, study, *filter(None, [whose]))
        return form


def _typed_again(values: Mapping[str, Any]) -> dict[str, str]:
    """Values as their fields would send them."""
    typed = {n: str(v or "") for n, v in values.items() if n in (*FACTS, "note", "patient")}
    if "consent_for_learning" in values:
        typed["consent"] = _consent_typed(values["consent_for_learning"])
    if "age_years" in values:
        typed["age"], typed["age_unit"] = ("", "years")
        if not typed.get("birth_date"):
            typed["age"], typed["age_unit"] = _in_words(values["age_years"])
    return typed


def _consent_typed(value: bool | None) -> str:
    return next(typed for typed, consent in CONSENT.items() if consent is value)


def plain(patient: Patient | None) -> dict[str, Any]:
    """A patient's facts as they are sealed and compared."""
    return _plain(_facts(patient))


def age_typed(base: Mapping[str, Any], study: Study) -> tuple[str, str]:
    """What the age's field is filled with: nothing where the date of birth says it."""
    by_date = study.patient.age_on(study.day) if study.patient else None
    return ("", "years") if by_date is not None else _in_words(base["age_years"])


def _in_words(years: float | None) -> tuple[str, str]:
    """An age as it would be typed."""
    if years is None:
        return "", "years"
    if years < IN_MONTHS_UNDER:
        return str(int(years * 12 + 0.01)), "months"
    return str(int(years + 0.001)), "years"


def _study(study: Study) -> dict[str, Any]:
    return {"patient": study.patient.pk if study.patient else None} | {
        name: getattr(study, name) for name in STUDY_FIELDS
    }


def _facts(patient: Patient | None) -> dict[str, Any]:
    return {name: getattr(patient, name) for name in FACTS} if patient else dict(FACTS)


def _plain(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {n: v.isoformat() if isinstance(v, date) else v for n, v in facts.items()}


def _is_iso(text: Any) -> bool:
    try:
        date.fromisoformat(str(text))
    except ValueError:
        return False
    return True


def _field_of(name: str) -> str | None:
    """The field that a value is typed into; None for whose study it is, which has no field."""
    return None if name == "patient" else TYPED_INTO.get(name, name)


def _told(name: str, value: Any, both: bool, of: tuple[Study | Patient, ...]) -> str:
    """Who changed a value meanwhile, when, and what stands in the field now."""
    events = filter(None, (history.last_change(one, name) for one in of))
    event: AuditEvent | None = max(events, key=lambda e: e.pk, default=None)
    if name == "patient":
        known = Patient.objects.filter(pk=value).first() if value else None
        value = {"name": str(known)} if known else None
    said = {
        "who": event.user if event and event.user else _("somebody"),
        "time": date_format(timezone.localtime(event.at), "TIME_FORMAT") if event else "?",
        "field": history.LABELS[name],
        "value": history.value_words(name, value),
    }
    if not both:
        return _("%(field)s changed meanwhile by %(who)s at %(time)s: taken over.") % said
    return (
        _(
            "%(field)s changed meanwhile by %(who)s at %(time)s to “%(value)s”. What you typed "
            "still stands here."
        )
        % said
    )
