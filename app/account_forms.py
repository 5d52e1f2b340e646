"""What people type to prove who they are, and to choose PINs and passwords anew."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib.auth.hashers import make_password
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from app.access import user_of
from app.forms import PASSWORD_RULE, new_password
from app.log_ins import Guard, check_own_password
from app.models import AuditEvent, RecoveryCode, User
from app.models.recovery import NoSuchAdministrator, WrongCode

if TYPE_CHECKING:
    from django_stubs_ext import StrPromise

SHORTEST_PIN, LONGEST_PIN = 4, 8
#: For whoever has no recovery code yet: the tries of all count together, on this computer alone.
RECOVERY = "recovery code"


def plain_pin(typed: str) -> str:
    """A PIN in the digits 0 to 9, whichever digits the keyboard has; other signs stay."""
    digits = (unicodedata.digit(sign, None) for sign in typed)
    return "".join(
        sign if digit is None else str(digit) for sign, digit in zip(typed, digits, strict=True)
    )


def is_easy_pin(pin: str) -> bool:
    """Whether it is among the first that somebody would try: 1212, 1234, 9876, 2580, 1987."""
    steps = {(int(second) - int(first)) % 10 for first, second in pairwise(pin)}
    in_a_row = len(steps) == 1 and steps <= {1, 2, 8, 9}
    halves = pin[: len(pin) // 2] == pin[len(pin) // 2 :]
    is_year = len(pin) == 4 and 1900 <= int(pin) <= datetime.now(UTC).year
    return len(set(pin)) < 3 or in_a_row or halves or is_year or pin in ("2580", "0852")


def password_field(label: StrPromise) -> forms.CharField:
    """A field for a password that there is."""
    widget = forms.PasswordInput({"autocomplete": "current-password"})
    return forms.CharField(label=label, strip=False, widget=widget)


def pin_field(label: StrPromise, help_text: StrPromise | str = "") -> forms.CharField:
    """A field for a PIN: hidden, and with digits on a phone's keyboard."""
    attributes = {"inputmode": "numeric", "autocomplete": "off", "maxlength": LONGEST_PIN}
    widget = forms.PasswordInput(attributes)
    return forms.CharField(label=label, widget=widget, help_text=help_text)


class OwnPasswordForm(forms.Form):
    """Something that needs one's own password, also of who is logged in: they may have left."""

    password = password_field(_("Your password"))

    def __init__(self, request: HttpRequest, data: Mapping[str, Any] | None = None) -> None:
        super().__init__(data)
        self.request = request
        # First in the page, last to be looked at: a wrong PIN is no try of a password
        self.order_fields(["password"])

    def _post_clean(self) -> None:
        super()._post_clean()  # type: ignore[misc]
        if self.errors:
            return
        try:
            check_own_password(self.request, self.cleaned_data["password"])
        except ValidationError as error:
            self.add_error("password", error)


class PinForm(OwnPasswordForm):
    """A PIN, which unlocks a browser in which one is logged in, and nothing else."""

    pin = pin_field(_("New PIN"), _("4 to 8 digits, not a year and no row such as 1234."))
    pin_again = pin_field(_("The PIN again"))

    def clean_pin(self) -> str:
        """A PIN that is not the first to be tried."""
        pin = plain_pin(self.cleaned_data["pin"].strip())
        if not (pin.isascii() and pin.isdecimal() and SHORTEST_PIN <= len(pin) <= LONGEST_PIN):
            raise ValidationError(_("A PIN has 4 to 8 digits."))
        if is_easy_pin(pin):
            raise ValidationError(_("This PIN is easy to guess. Choose another one."))
        return pin

    def clean_pin_again(self) -> str:
        """The same once more."""
        again = plain_pin(self.cleaned_data["pin_again"].strip())
        if self.cleaned_data.get("pin", again) != again:
            raise ValidationError(_("The two PINs are not the same."))
        return again

    def keep(self) -> None:
        """Save, audited; the PIN itself is not."""
        user = user_of(self.request)
        user.pin = make_password(self.cleaned_data["pin"])
        with transaction.atomic():
            user.save(update_fields=["pin"])
            AuditEvent.record(user, "pin_set", user)


class RecoverForm(forms.Form):
    """The recovery code, and an administrator's new password."""

    code = forms.CharField(
        label=_("Recovery code"),
        max_length=200,
        widget=forms.TextInput(
            {"autocomplete": "off", "autocapitalize": "characters", "dir": "ltr"}
        ),
        help_text=_("As it was written down: 32 letters. Spaces and hyphens may be left out."),
    )
    username = forms.CharField(
        label=_("User name of the administrator"),
        max_length=64,
        widget=forms.TextInput({"autocomplete": "username", "autocapitalize": "none"}),
    )
    password1 = new_password(_("New password"), PASSWORD_RULE)
    password2 = new_password(_("The new password again"))

    def __init__(self, request: HttpRequest, data: Mapping[str, Any] | None = None) -> None:
        super().__init__(data)
        self.request = request
        self.next_code = ""

    def clean(self) -> dict[str, Any]:
        """The password first: the code is used up only where all the rest is right."""
        cleaned = super().clean() or {}
        first, second = cleaned.get("password1") or "", cleaned.get("password2") or ""
        if first != second:
            self.add_error("password2", _("The two passwords are not the same."))
        try:
            validate_password(first, User(username=cleaned.get("username", "")))
        except ValidationError as error:
            self.add_error("password1", error)
        return cleaned

    def recover(self) -> bool:
        """Set the password anew; where that fails the form says why."""
        guard = Guard(self.request, RECOVERY)
        given = self.cleaned_data
        try:
            guard.begin()
            self.next_code = RecoveryCode.recover(
                given["code"], given["username"], given["password1"]
            )
        except ValidationError as wait:
            self.add_error(None, wait)
        except WrongCode:
            AuditEvent.record(None, "recovery_failed")
            self.add_error("code", _("This is not the recovery code that is valid now."))
        except NoSuchAdministrator as others:
            guard.was_right()
            names = ", ".join(others.names)
            words = _("No administrator has this user name. These do: %(names)s.")
            self.add_error("username", words % {"names": names})
        else:
            guard.was_right()
        return not self.errors
