"""What people type in, checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from django import forms
from django.conf import settings
from django.contrib.auth.forms import AuthenticationForm, PasswordChangeForm
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from app.access import user_of
from app.log_ins import Guard
from app.models import AuditEvent, LogIn, Patient, Role, Site, Study, Tries, User
from app.models.people import plain_username

if TYPE_CHECKING:
    from django_stubs_ext import StrPromise

OLDEST_YEARS = 130
PASSWORD_RULE = _("At least 10 characters. Nobody can read it later; write it down safely.")


def new_password(label: StrPromise, help_text: StrPromise | str = "") -> forms.CharField:
    """A field for a password that is being chosen."""
    return forms.CharField(
        label=label,
        required=False,
        strip=False,
        widget=forms.PasswordInput({"autocomplete": "new-password"}),
        help_text=help_text,
    )


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


class FilmsForm(AgeForm):
    """What is known of films that come in: the age, and whose they are where a page has said so."""

    study = forms.ModelChoiceField(
        required=False,
        queryset=Study.objects.select_related("patient"),
        to_field_name="number",
        widget=forms.HiddenInput,
        error_messages={
            "invalid_choice": _("The study that these films were to join is not there any more.")
        },
    )
    patient = forms.ModelChoiceField(
        required=False,
        queryset=Patient.objects.all(),
        widget=forms.HiddenInput,
        error_messages={"invalid_choice": _("The patient of these films is not there any more.")},
    )
    #: What the hospital calls the study to come, as ``scheduled.Order`` seals it.
    order = forms.CharField(required=False, max_length=500, widget=forms.HiddenInput)

    @classmethod
    def of_link(cls, asked: Mapping[str, Any]) -> FilmsForm:
        """As the links "Add a film" fill it, in the worklist's address: ``to_study`` with a number,
        ``to_patient`` with a primary key (``patient`` is a filter there) and perhaps ``order``.
        """
        whose = {"study": asked.get("to_study"), "patient": asked.get("to_patient")}
        form = cls(whose | {"order": asked.get("order")})
        form.is_valid()
        return form

    @property
    def whose(self) -> tuple[Study | None, Patient | None]:
        """The study to join, or the patient of a new one; both None where nobody has said."""
        return self.cleaned_data.get("study"), self.cleaned_data.get("patient")


class LogInForm(AuthenticationForm):
    """User name and password. Who may not log in hears what a wrong password hears."""

    error_messages = {
        "invalid_login": _(
            "This user name and password do not belong together, or may not log in. Look at the "
            "capital letters of the password, then try again."
        ),
    }
    #: Whether the password was not looked at, because too many wrong ones came before.
    waits = False

    def clean(self) -> dict[str, Any]:
        """Look at the password, where it is not too soon after too many wrong ones.

        Whether there is such a user makes no difference: names that nobody has are counted too.
        """
        name = self.cleaned_data.get("username")
        if name is None or not self.cleaned_data.get("password"):
            return self.cleaned_data
        assert isinstance(self.request, HttpRequest)
        guard = Guard(self.request, name)
        try:
            guard.begin()
        except ValidationError:
            self.waits = True
            raise
        cleaned: dict[str, Any] = super().clean()
        guard.was_right()
        return cleaned


class PasswordForm(PasswordChangeForm):
    """One's own password."""

    error_messages = {
        "password_mismatch": _("The two passwords are not the same."),
        "password_incorrect": _("This is not your password of today. Type it again."),
        "unchanged": _("This is the password that you have already. Choose another one."),
    }

    def __init__(self, request: HttpRequest, data: Mapping[str, Any] | None = None) -> None:
        super().__init__(user_of(request), data)
        self.request = request
        labels = {
            "old_password": _("Your password of today"),
            "new_password1": _("New password"),
            "new_password2": _("The new password again"),
        }
        for name, label in labels.items():
            self.fields[name].label = label
            self.fields[name].help_text = ""
        self.fields["new_password1"].help_text = PASSWORD_RULE

    def clean_old_password(self) -> str:
        """The password of today: of whoever found the page open, guesses are counted too."""
        guard = Guard(self.request, self.user.username)
        guard.begin()
        old = str(super().clean_old_password())
        guard.was_right()
        return old

    def clean_new_password1(self) -> str:
        """Another one than today, or one that an administrator knows would stay."""
        new = str(self.cleaned_data["new_password1"])
        if new and new == self.data.get("old_password"):
            raise ValidationError(self.error_messages["unchanged"], code="unchanged")
        return new

    def keep(self) -> None:
        """Save, audited; the password itself is not."""
        with transaction.atomic():
            self.user.must_change_password = False
            user = self.save()
            AuditEvent.record(user, "password_changed", user)


class SetUpForm(forms.Form):
    """The first choices of a clinic. In single-user mode there is nobody to name."""

    language = forms.CharField(required=False, widget=forms.HiddenInput)
    understood = forms.BooleanField(
        label=_("I have read this. Decisions about patients stay with people."),
        error_messages={"required": _("Please read this, and tick the box.")},
    )
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
        help_text=_("To log in with, such as amina.otieno"),
    )
    full_name = forms.CharField(
        label=_("Your full name"),
        max_length=200,
        required=False,
        widget=forms.TextInput({"autocomplete": "name"}),
    )
    password1 = new_password(_("Password"), PASSWORD_RULE)
    password2 = new_password(_("The password again"))

    def __init__(self, data: Mapping[str, Any] | None = None, language: str = "") -> None:
        super().__init__(data, initial={"language": language})

    def clean_language(self) -> str:
        """The language in which the page was read; the page itself offers only known ones."""
        language = str(self.cleaned_data["language"])
        return language if language in dict(settings.LANGUAGES) else ""

    def clean(self) -> dict[str, Any]:
        """Where people log in, there must be one who can let the others in."""
        cleaned = super().clean() or {}
        if cleaned.get("mode") != "accounts":
            return cleaned
        name, full_name = cleaned.get("username") or "", cleaned.get("full_name") or ""
        user = User(username=plain_username(name), full_name=full_name, role=Role.ADMINISTRATOR)
        if "username" in cleaned:
            try:
                user.full_clean(exclude=["password"])
            except ValidationError as error:
                self.add_error("username", error.messages)
        _check_password(self, user)
        return cleaned

    def set_up(self) -> User | None:
        """Write the choices down; the new administrator, None in single-user mode.

        Raises AlreadySetUp.
        """
        chosen = self.cleaned_data
        user = None
        with transaction.atomic():
            site = Site.claim()
            site.language = chosen["language"]
            site.clinic_name = chosen["clinic_name"]
            site.single_user = chosen["mode"] == "single_user"
            site.set_up()
            if not site.single_user:
                name, full = chosen["username"], chosen["full_name"]
                user = User.enter(name, chosen["password1"], Role.ADMINISTRATOR, full_name=full)
            AuditEvent.record(user, "set_up", single_user=site.single_user)
        return user


class UserForm(forms.ModelForm):
    """A person who logs in. Without a new password the old one stays.

    Clean and keep it inside one transaction: of two administrators who take the role from each
    other, the second is to find that there is no other left.
    """

    password1 = new_password(
        _("Password"),
        _("At least 10 characters. They change it when they log in with it for the first time."),
    )
    password2 = new_password(_("The password again"))

    class Meta:
        model = User
        fields = ["username", "full_name", "role", "is_active"]
        widgets = {"username": forms.TextInput({"autocomplete": "off", "autocapitalize": "none"})}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._before = {name: getattr(self.instance, name) for name in self.Meta.fields}
        if self.instance.pk:
            self.fields["password1"].label = _("New password, if it is to change")

    def clean_username(self) -> str:
        """The name in the form in which it is kept, so that the check for doubles sees it."""
        return plain_username(self.cleaned_data["username"])

    def clean(self) -> dict[str, Any]:
        """Passwords that agree, and never a clinic that nobody can look after."""
        cleaned = super().clean() or {}
        if cleaned.get("password1") or cleaned.get("password2") or not self.instance.pk:
            names = {name: cleaned.get(name) or "" for name in ("username", "full_name")}
            _check_password(self, User(**names))
        before = User.objects.filter(pk=self.instance.pk).first()
        stays = cleaned.get("is_active") and cleaned.get("role") == Role.ADMINISTRATOR
        if before and before.is_last_administrator and not stays:
            self.add_error(
                None, _("This is the last administrator. Make somebody else administrator first.")
            )
        return cleaned

    def keep(self, by: User) -> User:
        """Save, audited with what changed from what to what; of a password only that it did."""
        new = self.instance.pk is None
        with transaction.atomic():
            user: User = self.save(commit=False)
            if self.cleaned_data["password1"]:
                self._give_password(user, by)
            user.save()
            if not user.is_active:
                LogIn.end(user.log_ins.all())
            if new:
                AuditEvent.record(by, "user_entered", user, role=user.role)
            else:
                AuditEvent.record(by, "user_changed", user, **self._changes(user))
        return user

    def _give_password(self, user: User, by: User) -> None:
        """A password that two people know is for one log-in."""
        user.set_password(self.cleaned_data["password1"])
        user.must_change_password = user != by and not by.is_this_computer
        if user.pk and user != by:
            user.pin = ""
            LogIn.end(user.log_ins.all())
        Tries.forget(user.username)

    def _changes(self, user: User) -> dict[str, Any]:
        changed = {
            name: [before, getattr(user, name)]
            for name, before in self._before.items()
            if before != getattr(user, name)
        }
        password = {"new_password": True} if self.cleaned_data["password1"] else {}
        return {"changed": changed} | password


class SiteForm(forms.ModelForm):
    """How the clinic works."""

    language = forms.ChoiceField(
        label=_("Language of the pages"),
        required=False,
        help_text=_("For everybody who has not chosen another one."),
    )

    class Meta:
        model = Site
        fields = ["clinic_name", "language", "blind_first_read", "lock_after", "single_user"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choices = self.fields["language"]
        assert isinstance(choices, forms.ChoiceField)
        choices.choices = [("", _("that of each browser")), *settings.LANGUAGES]

    def clean_single_user(self) -> bool:
        """Going back to log-in needs somebody who can log in."""
        single_user = bool(self.cleaned_data["single_user"])
        administrators = User.people().filter(role=Role.ADMINISTRATOR, is_active=True)
        if not single_user and not administrators.exists():
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


class ResultsForm(forms.ModelForm):
    """When results go out by themselves, and to which FHIR server."""

    fhir_authorization = forms.CharField(
        label=_("Authorization of the FHIR server"),
        required=False,
        max_length=500,
        widget=forms.PasswordInput({"autocomplete": "off"}),
        help_text=_(
            "What stands in the header Authorization, such as Bearer and a token. Left empty, "
            "what was entered before stays."
        ),
    )
    forget = forms.BooleanField(label=_("Forget the authorization"), required=False)

    class Meta:
        model = Site
        fields = ["sends_results", "fhir_server", "fhir_authorization"]

    def clean_fhir_server(self) -> str:
        """A base address, without what would hold a password or be cut off."""
        address = str(self.cleaned_data["fhir_server"]).strip().rstrip("/")
        if not address:
            return ""
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValidationError(_("A web address begins with https:// or http://."))
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValidationError(_("Only the base address, without name, password or question."))
        return address

    def clean_fhir_authorization(self) -> str:
        """One line, as a header takes it; what is not entered stays."""
        entered = str(self.cleaned_data["fhir_authorization"]).strip()
        if not entered:
            return str(Site.current().fhir_authorization)
        if not (entered.isascii() and entered.isprintable()):
            raise ValidationError(_("Only letters, digits and signs, in one line."))
        return entered

    def keep(self, by: User) -> None:
        """Save, audited: that there is an authorization, never which."""
        with transaction.atomic():
            if self.cleaned_data["forget"]:
                self.instance.fhir_authorization = ""
            self.save()
            kept = ("sends_results", "fhir_server")
            values: dict[str, Any] = {
                name: self.cleaned_data[name] for name in self.changed_data if name in kept
            }
            values["fhir_authorization"] = bool(self.instance.fhir_authorization)
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
