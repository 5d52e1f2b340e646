"""What clinicians and health workers enter at a study: clinical signs, readings, the diagnosis."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from app import clinical_words as words
from app.cxr.signs import (
    DANGER_SIGNS,
    RANGES,
    InvalidSign,
    Signs,
    danger_signs_for_age,
    signs_for_age,
)
from app.models import ClinicalSigns, Reading, Study, User
from app.models.readings import PLAIN_ANSWERS

FIELDS: Mapping[str, Any] = words.FIELDS
ERRORS: Mapping[str, Any] = words.ERRORS
NOT_ASKED = ("", _("Not asked"))
NONE_OF_THESE = "none"
DANGER_SIGN_CHOICES = [
    *((code, words.DANGER_SIGNS[code]) for code in DANGER_SIGNS),
    (NONE_OF_THESE, _("None of these")),
]
THREE_STATE = ("chest_indrawing", "stridor_in_calm_child", "wheeze", "chest_pain", "night_sweats")
#: Of two answers that contradict each other, what a reader agrees with and what she concludes.
CONTRADICTIONS = {
    "likely": Reading.Conclusion.NO_PNEUMONIA,
    "unlikely": Reading.Conclusion.PNEUMONIA,
}


def new_token() -> str:
    """The name of one form on one page: sent twice, it is still one entry."""
    return str(uuid.uuid4())


class TokenForm(forms.Form):
    """A form that is one entry however often it is sent."""

    token = forms.CharField(
        required=False, max_length=36, widget=forms.HiddenInput, initial=new_token
    )

    def full_clean(self) -> None:
        """Check the form; a page that shows it again begins at what is wrong, scripts or none."""
        super().full_clean()
        wrong = [name for name in self.errors if name in self.fields] if self.is_bound else []
        if wrong:
            self.fields[wrong[0]].widget.attrs["autofocus"] = True


class NumberField(forms.FloatField):
    """A measured number, typed with a decimal point or a comma; outside its range is a slip.

    No ``<input type=number>``: that sends nothing at all where it does not understand a comma.
    """

    def __init__(self, name: str) -> None:
        low, high = RANGES[name]
        wrong = ERRORS[f"{name}_out_of_range"]
        codes = ("invalid", "min_value", "max_value")
        super().__init__(
            label=FIELDS[name],
            required=False,
            min_value=low,
            max_value=high,
            error_messages=dict.fromkeys(codes, wrong),
            widget=forms.TextInput({"inputmode": "decimal", "autocomplete": "off", "size": 6}),
        )

    def to_python(self, value: Any) -> Any:
        """The number that was meant."""
        return super().to_python(str(value or "").replace(",", ".").replace("٫", "."))


def _choices(labels: Mapping[str, Promise], first: Promise | str = "") -> list[tuple[str, Any]]:
    return [("", first or NOT_ASKED[1]), *labels.items()]


def _three_state(name: str) -> forms.ChoiceField:
    return forms.ChoiceField(
        label=FIELDS[name],
        required=False,
        choices=[("yes", _("Yes")), ("no", _("No")), NOT_ASKED],
        widget=forms.RadioSelect,
    )


class SignsForm(TokenForm):
    """The signs that WHO's rule for the study's age asks for.

    Only those are shown, but whatever is sent is kept: an age that was changed meanwhile must not
    make a danger sign disappear.
    """

    danger_signs = forms.MultipleChoiceField(
        label=FIELDS["danger_signs"],
        required=False,
        choices=DANGER_SIGN_CHOICES,
        widget=forms.CheckboxSelectMultiple,
        error_messages={"invalid_choice": ERRORS["unknown_danger_sign"]},
    )
    breaths_per_minute = NumberField("breaths_per_minute")
    temperature_celsius = NumberField("temperature_celsius")
    oxygen_saturation = NumberField("oxygen_saturation")
    without_oximeter = forms.BooleanField(label=FIELDS["without_oximeter"], required=False)
    chest_indrawing = _three_state("chest_indrawing")
    stridor_in_calm_child = _three_state("stridor_in_calm_child")
    wheeze = _three_state("wheeze")
    chest_pain = _three_state("chest_pain")
    night_sweats = _three_state("night_sweats")
    bronchodilator_trial = forms.ChoiceField(
        label=FIELDS["bronchodilator_trial"],
        required=False,
        choices=_choices(words.BRONCHODILATOR_TRIALS, _("Not given")),
        error_messages={"invalid_choice": ERRORS["unknown_bronchodilator_trial"]},
    )
    hiv_status = forms.ChoiceField(
        label=FIELDS["hiv_status"],
        required=False,
        choices=_choices(words.HIV_STATUSES),
        error_messages={"invalid_choice": ERRORS["unknown_hiv_status"]},
    )
    cough_days = NumberField("cough_days")

    def __init__(self, study: Study, data: Mapping[str, Any] | None = None) -> None:
        # A clinic has an oximeter or has none: said once, it is offered again
        last = ClinicalSigns.objects.order_by("-id").values_list("signs", flat=True).first() or {}
        initial = {"without_oximeter": last.get("without_oximeter", False)}
        super().__init__(data, initial=initial, auto_id="sign-%s", label_suffix="")
        self.study = study
        age = known_age(study)
        asked = danger_signs_for_age(age)
        sent = self["danger_signs"].data or []
        danger_signs = self.fields["danger_signs"]
        assert isinstance(danger_signs, forms.MultipleChoiceField)
        danger_signs.choices = [
            (code, label)
            for code, label in DANGER_SIGN_CHOICES
            if code in (*asked, *sent, NONE_OF_THESE)
        ]
        names = signs_for_age(age)
        self.shown = [*names, *(name for name in self._sent() if name not in names)]

    def _sent(self) -> Iterator[str]:
        return (name for name in self.fields if name != "token" and self[name].data)

    @property
    def signs_shown(self) -> list[forms.BoundField]:
        """The fields to show, in the order of asking; the tick for the oximeter goes along."""
        return [self[name] for name in self.shown if name != "without_oximeter"]

    def clean_danger_signs(self) -> frozenset[str] | None:
        """The codes that are present; None where nobody asked."""
        chosen = frozenset(self.cleaned_data["danger_signs"])
        if NONE_OF_THESE in chosen and len(chosen) > 1:
            raise ValidationError(
                _("Danger signs are ticked, and “None of these” too. Take one of the two away.")
            )
        return chosen - {NONE_OF_THESE} if chosen else None

    def clean(self) -> dict[str, Any]:
        """An empty form says nothing, so there is nothing to keep."""
        cleaned = super().clean() or {}
        if not self.errors and self._signs(cleaned) == Signs(
            without_oximeter=cleaned["without_oximeter"]
        ):
            raise ValidationError(_("Nothing is entered yet. Enter what you have looked for."))
        return cleaned

    def keep(self, by: User) -> ClinicalSigns:
        """Add what was entered, and what the guideline makes of it."""
        token = self.cleaned_data["token"]
        return ClinicalSigns.record(self.study, by, self._signs(self.cleaned_data), token)

    @staticmethod
    def _signs(cleaned: Mapping[str, Any]) -> Signs:
        values = {name: value for name, value in cleaned.items() if name != "token"}
        for name in THREE_STATE:
            values[name] = {"yes": True, "no": False}.get(values[name])
        for name in ("bronchodilator_trial", "hiv_status"):
            values[name] = values[name] or None
        return Signs(**values)


def known_age(study: Study) -> float | None:
    """The study's age, None where there is none that a rule could go by."""
    try:
        signs_for_age(study.age_years)
    except InvalidSign:
        return None
    return study.age_years


class ReadingForm(TokenForm):
    """A clinician's conclusion from the film. Once the answer is shown: does she agree with it?

    ``hidden``: the answer is still hidden from the reader. ``earlier``: her conclusion from before,
    with which nobody asked for her agreement yet; now it is asked for.
    """

    KIND = Reading.Kind.CONCLUSION

    conclusion = forms.ChoiceField(
        label=_("Your conclusion from the film"),
        choices=Reading.Conclusion.choices,
        widget=forms.RadioSelect,
        error_messages={"required": _("Choose what you conclude.")},
    )
    agrees = forms.ChoiceField(
        label=_("Do you agree with the computer?"),
        required=False,
        choices=[("yes", _("I agree")), ("no", _("I do not agree"))],
        widget=forms.RadioSelect,
        error_messages={"required": _("Say whether you agree with the computer.")},
    )
    note = forms.CharField(
        label=_("Note"),
        required=False,
        max_length=2000,
        widget=forms.Textarea({"rows": 2}),
    )

    def __init__(
        self,
        study: Study,
        hidden: bool,
        earlier: Reading | None = None,
        data: Mapping[str, Any] | None = None,
    ) -> None:
        initial = {"conclusion": earlier.conclusion} if earlier else {}
        super().__init__(data, initial=initial, auto_id="reading-%s", label_suffix="")
        self.study = study
        self.earlier = earlier
        self.asks_agreement = study.answer in PLAIN_ANSWERS and not hidden
        self.fields["agrees"].required = self.asks_agreement and earlier is not None

    def clean_agrees(self) -> bool | None:
        """None where it was not said, or where there is no answer to agree with."""
        chosen = self.cleaned_data["agrees"]
        return {"yes": True, "no": False}.get(chosen) if self.asks_agreement else None

    def clean(self) -> dict[str, Any]:
        """Nobody agrees with the opposite of what she concludes."""
        cleaned = super().clean() or {}
        opposite = CONTRADICTIONS.get(self.study.answer)
        if cleaned.get("agrees") and cleaned.get("conclusion") == opposite:
            self.add_error(
                "agrees",
                _("You agree with the computer and conclude the opposite. Change one of the two."),
            )
        return cleaned

    def keep(self, by: User) -> Reading:
        """Add the reading."""
        names = ("conclusion", "agrees", "note")
        found: dict[str, Any] = {name: self.cleaned_data.get(name) for name in names}
        token = self.cleaned_data["token"]
        return Reading.record(self.study, by, token, kind=self.KIND, **found)


class DiagnosisForm(TokenForm):
    """What the patient turned out to have."""

    KIND = Reading.Kind.DIAGNOSIS

    conclusion = forms.ChoiceField(
        label=_("What the patient turned out to have"),
        choices=[
            (code, label)
            for code, label in Reading.Conclusion.choices
            if code != Reading.Conclusion.NOT_USABLE
        ],
        widget=forms.RadioSelect,
        error_messages={"required": _("Choose the diagnosis.")},
    )
    note = forms.CharField(
        label=_("How it was found, or which disease"),
        required=False,
        max_length=2000,
        widget=forms.Textarea({"rows": 2}),
    )

    def __init__(self, study: Study, data: Mapping[str, Any] | None = None) -> None:
        super().__init__(data, auto_id="diagnosis-%s", label_suffix="")
        self.study = study

    def keep(self, by: User) -> Reading:
        """Add the diagnosis."""
        chosen = self.cleaned_data
        found = {"conclusion": chosen["conclusion"], "note": chosen["note"]}
        return Reading.record(self.study, by, chosen["token"], kind=self.KIND, **found)
