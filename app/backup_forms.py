"""What an administrator types about backups, checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from app import backup_words
from app.backup.found import BESIDE, IN_FILE, Found
from app.backup.keys import SHORTEST_PASSPHRASE


class SetUpForm(forms.Form):
    """The passphrase of the backups, typed twice."""

    passphrase = forms.CharField(
        label=gettext_lazy("Passphrase of the backups"),
        strip=False,
        max_length=200,
        min_length=SHORTEST_PASSPHRASE,
        widget=forms.PasswordInput({"autocomplete": "new-password"}),
        help_text=gettext_lazy(
            "At least 10 characters, best four or five words. Whoever has a stick and this "
            "passphrase can see all films and names."
        ),
        error_messages={
            "required": gettext_lazy("Choose a passphrase."),
            "min_length": gettext_lazy("This is too short. Use at least 10 characters."),
        },
    )
    again = forms.CharField(
        label=gettext_lazy("The same again"),
        strip=False,
        max_length=200,
        required=False,
        widget=forms.PasswordInput({"autocomplete": "new-password"}),
    )

    def clean(self) -> dict[str, Any]:
        """Both are the same."""
        cleaned = super().clean() or {}
        passphrase = cleaned.get("passphrase")
        if passphrase and passphrase.strip() != cleaned.get("again", "").strip():
            self.add_error("again", _("The two are not the same. Type both again."))
        return cleaned


class RestoreForm(forms.Form):
    """Which backup, and what opens it."""

    backup = forms.ChoiceField(
        label=gettext_lazy("Which backup?"),
        error_messages={
            "required": gettext_lazy("Choose a backup."),
            "invalid_choice": gettext_lazy(
                "This backup is not there any more. Is the stick still plugged in?"
            ),
        },
    )
    secret = forms.CharField(
        label=gettext_lazy("Passphrase or recovery line"),
        strip=False,
        required=False,
        max_length=300,
        widget=forms.PasswordInput({"autocomplete": "off"}),
        help_text=gettext_lazy(
            "Of the backup as it was when it was made. Copies of the database need none."
        ),
    )

    def __init__(self, data: Any, found: list[Found]) -> None:
        super().__init__(data)
        self._found = {str(one.path): one for one in found}
        field = self.fields["backup"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = [(path, _label(one)) for path, one in self._found.items()]

    def clean(self) -> dict[str, Any]:
        """What is encrypted needs a secret."""
        cleaned = super().clean() or {}
        chosen = self._found.get(cleaned.get("backup", ""))
        if chosen and chosen.needs_secret and not cleaned.get("secret", "").strip():
            self.add_error("secret", _("Type the passphrase of this backup."))
        return cleaned

    @property
    def path(self) -> Path:
        """The backup that was chosen."""
        return self._found[self.cleaned_data["backup"]].path


def _label(one: Found) -> str:
    moment = backup_words.moment_words(one.made_at)
    if one.kind == BESIDE:
        return _("%(moment)s – copy of the database, without films") % {"moment": moment}
    if one.kind == IN_FILE:
        return _("%(moment)s – file %(name)s, without films") % {
            "moment": moment,
            "name": one.place,
        }
    return _("%(moment)s – everything, on %(stick)s") % {"moment": moment, "stick": one.place}
