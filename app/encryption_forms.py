"""What an administrator types about encryption, checked."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib.auth.password_validation import CommonPasswordValidator
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from app.vault.hierarchy import SHORTEST_PASSPHRASE

FEWEST_CHARACTERS = 6  # different ones
LONGEST = 200


def weakness(passphrase: str, again: str) -> str:
    """Why a passphrase is not taken, a sentence; empty where it is."""
    plain = passphrase.strip()
    if len(plain) < SHORTEST_PASSPHRASE:
        return _("This is too short. Use at least 12 characters, best five words.")
    if plain.isdecimal() or len(set(plain.lower())) < FEWEST_CHARACTERS or _is_common(plain):
        return _("This is easy to guess. Use five words that do not belong together.")
    if plain != again.strip():
        return _("The two are not the same. Type both again.")
    return ""


def _is_common(passphrase: str) -> bool:
    try:
        CommonPasswordValidator().validate(passphrase)
    except ValidationError:
        return True
    return False


def _secret(label: Any, complete: str, help_text: Any = "") -> forms.CharField:
    return forms.CharField(
        label=label,
        strip=False,
        max_length=LONGEST,
        widget=forms.PasswordInput({"autocomplete": complete}),
        help_text=help_text,
        error_messages={"required": gettext_lazy("Type it here.")},
    )


class NewPassphraseForm(forms.Form):
    """A new passphrase, typed twice."""

    passphrase = _secret(
        gettext_lazy("Passphrase of this computer's data"),
        "new-password",
        gettext_lazy(
            "At least 12 characters, best five words. It is asked for at every start of the "
            "program. Everybody who starts it in the morning has to know it."
        ),
    )
    again = _secret(gettext_lazy("The same again"), "new-password")

    def clean(self) -> dict[str, Any]:
        """Not weak, and both the same."""
        cleaned = super().clean() or {}
        said = weakness(cleaned.get("passphrase", ""), cleaned.get("again", ""))
        if said and "passphrase" in cleaned:
            self.add_error("passphrase", said)
        return cleaned


class PresentPassphraseForm(forms.Form):
    """The passphrase as it is now."""

    present = _secret(gettext_lazy("The passphrase as it is now"), "off")


class ChangeForm(PresentPassphraseForm, NewPassphraseForm):
    """The passphrase as it is now, and a new one."""

    field_order = ("present", "passphrase", "again")


class WrittenDownForm(forms.Form):
    """The end of the recovery key, which is only on the page before, or on paper."""

    end = forms.CharField(
        label=gettext_lazy("The last four letters of the recovery key"),
        max_length=20,
        widget=forms.TextInput({"autocomplete": "off", "dir": "ltr"}),
        error_messages={"required": gettext_lazy("Type the last four letters from your paper.")},
    )
