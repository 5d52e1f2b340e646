"""What people type in, checked."""

from __future__ import annotations

from django import forms
from django.utils.translation import gettext_lazy as _

OLDEST_YEARS = 130


class AgeForm(forms.Form):
    """The patient's age, where it is known: in years, or in months for the little ones."""

    age = forms.FloatField(
        required=False,
        min_value=0,
        max_value=OLDEST_YEARS * 12,
        error_messages={
            "invalid": _("The age must be a number, such as 3."),
            "min_value": _("The age cannot be below 0."),
            "max_value": _("The age cannot be above 130 years."),
        },
    )
    age_unit = forms.ChoiceField(
        required=False, choices=[("years", _("years")), ("months", _("months"))]
    )

    def clean(self) -> dict[str, object]:
        """An age in months counts against the same limit as one in years."""
        cleaned = super().clean() or {}
        years = self._years(cleaned)
        if years is not None and years > OLDEST_YEARS:
            self.add_error("age", self.fields["age"].error_messages["max_value"])
        return cleaned

    @property
    def age_years(self) -> float | None:
        """The age in years, None where it was left open."""
        return self._years(self.cleaned_data)

    @property
    def complaint(self) -> str:
        """The first thing wrong with the form, in a sentence."""
        return next((str(errors[0]) for errors in self.errors.values()), "")

    @staticmethod
    def _years(cleaned: dict[str, object]) -> float | None:
        age = cleaned.get("age")
        if not isinstance(age, float):
            return None
        return age / 12 if cleaned.get("age_unit") == "months" else age
