"""What people type in, checked."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils.translation import gettext_lazy as _

from app.models import AuditEvent, Role, Site, User
from app.models.people import plain_username

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


class SetUpForm(forms.Form):
    """The first choices of a clinic. In single-user mode there is nobody to name."""

    clinic_name = forms.CharField(
        label=_("Name of the clinic"), max_length=200, required=False, help_text=_("As on reports.")
    )
    mode = forms.ChoiceField(
        label=_("Who uses this program?"),
        choices=[
            ("accounts", _("Several people: each logs in with a name and a password")),
            (
                "single_user",
                _("Whoever sits at this computer: no log-in, and no other device may join"),
            ),
        ],
        initial="accounts",
        widget=forms.RadioSelect,
    )
    username = forms.CharField(
        label=_("Your user name"),
        max_length=64,
        required=False,
        widget=forms.TextInput({"autocomplete": "username", "autocapitalize": "none"}),
    )
    full_name = forms.CharField(
        label=_("Your full name"),
        max_length=200,
        required=False,
        widget=forms.TextInput({"autocomplete": "name"}),
    )
    password1 = forms.CharField(
        label=_("Password"),
        required=False,
        strip=False,
        widget=forms.PasswordInput({"autocomplete": "new-password"}),
        help_text=_("At least 8 characters. Nobody can read it later; write it down safely."),
    )
    password2 = forms.CharField(
        label=_("The password again"),
        required=False,
        strip=False,
        widget=forms.PasswordInput({"autocomplete": "new-password"}),
    )

    def clean(self) -> dict[str, Any]:
        """Where people log in, there must be one who can let the others in."""
        cleaned = super().clean() or {}
        if cleaned.get("mode") != "accounts":
            return cleaned
        user = User(
            username=plain_username(cleaned.get("username") or ""),
            full_name=cleaned.get("full_name") or "",
            role=Role.ADMINISTRATOR,
        )
        try:
            user.full_clean(exclude=["password"])
        except ValidationError as error:
            self.add_error(None if "role" in error.message_dict else "username", error.messages)
        _check_password(self, user)
        return cleaned

    def set_up(self, site: Site) -> User | None:
        """Write the choices down; the new administrator, None in single-user mode."""
        chosen = self.cleaned_data
        user = None
        with transaction.atomic():
            site.clinic_name = chosen["clinic_name"]
            site.single_user = chosen["mode"] == "single_user"
            site.set_up()
            if not site.single_user:
                name, full = chosen["username"], chosen["full_name"]
                user = User.enter(name, chosen["password1"], Role.ADMINISTRATOR, full_name=full)
            AuditEvent.record(user, "set_up", single_user=site.single_user)
        return user


class UserForm(forms.ModelForm):
    """A person who logs in. Without a new password the old one stays."""

    password1 = forms.CharField(
        label=_("Password"),
        required=False,
        strip=False,
        widget=forms.PasswordInput({"autocomplete": "new-password"}),
    )
    password2 = forms.CharField(
        label=_("The password again"),
        required=False,
        strip=False,
        widget=forms.PasswordInput({"autocomplete": "new-password"}),
    )

    class Meta:
        model = User
        fields = ["username", "full_name", "role", "is_active"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk:
            self.fields["password1"].label = _("New password, if it is to change")

    def clean_username(self) -> str:
        """The name in the form in which it is kept, so that the check for doubles sees it."""
        return plain_username(self.cleaned_data["username"])

    def clean(self) -> dict[str, Any]:
        """Passwords that agree, and never a clinic that nobody can look after."""
        cleaned = super().clean() or {}
        if cleaned.get("password1") or not self.instance.pk:
            _check_password(self, User(username=cleaned.get("username") or ""))
        before = User.objects.filter(pk=self.instance.pk).first()
        stays = cleaned.get("is_active") and cleaned.get("role") == Role.ADMINISTRATOR
        if before and before.is_active and before.is_last_administrator and not stays:
            self.add_error(
                None, _("This is the last administrator. Make somebody else administrator first.")
            )
        return cleaned

    def keep(self, by: User) -> None:
        """Save, audited; the password itself is not."""
        new = self.instance.pk is None
        with transaction.atomic():
            user = self.save(commit=False)
            if self.cleaned_data["password1"]:
                user.set_password(self.cleaned_data["password1"])
            user.save()
            action = "user_entered" if new else "user_changed"
            changed = [name for name in self.changed_data if name != "password2"]
            AuditEvent.record(by, action, user, username=user.username, changed=changed)


class SiteForm(forms.ModelForm):
    """How the clinic works."""

    class Meta:
        model = Site
        fields = ["clinic_name", "blind_first_read", "single_user"]

    def clean_single_user(self) -> bool:
        """Going back to log-in needs somebody who can log in."""
        single_user = bool(self.cleaned_data["single_user"])
        administrators = User.objects.filter(role=Role.ADMINISTRATOR, is_active=True)
        if not single_user and not administrators.exclude(username=User.THIS_COMPUTER).exists():
            raise ValidationError(
                _("Nobody could log in. Enter an administrator with a password first.")
            )
        return single_user

    def keep(self, by: User) -> None:
        """Save, audited."""
        with transaction.atomic():
            self.save()
            values = {name: self.cleaned_data[name] for name in self.changed_data}
            AuditEvent.record(by, "settings_changed", changed=values)


class AuditFilterForm(forms.Form):
    """Which events to show."""

    subject = forms.CharField(label=_("Study or user"), required=False, max_length=100)
    since = forms.DateField(
        label=_("From"), required=False, widget=forms.DateInput({"type": "date"})
    )
    until = forms.DateField(label=_("To"), required=False, widget=forms.DateInput({"type": "date"}))

    def filtered(self, events: QuerySet[AuditEvent]) -> QuerySet[AuditEvent]:
        """The events that fit; a wrong date filters nothing, and says so beside itself."""
        chosen = self.cleaned_data if self.is_valid() else {}
        if subject := (chosen.get("subject") or "").strip():
            events = events.filter(Q(subject=subject) | Q(user__username=plain_username(subject)))
        if since := chosen.get("since"):
            events = events.filter(at__date__gte=since)
        if until := chosen.get("until"):
            events = events.filter(at__date__lte=until)
        return events


def _check_password(form: forms.BaseForm, user: User) -> None:
    """Two equal passwords that are hard enough to guess, or an error beside the field."""
    first, second = (form.cleaned_data.get(name) or "" for name in ("password1", "password2"))
    if first != second:
        form.add_error("password2", _("The two passwords are not the same."))
        return
    try:
        validate_password(first, user)
    except ValidationError as error:
        form.add_error("password1", error)
