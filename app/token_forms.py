"""The token of another program, as it is asked for."""

from __future__ import annotations

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from app.models import DeviceToken, Scope, User


class TokenForm(forms.Form):
    """Which program, and what it may do."""

    name = forms.CharField(
        label=_("Which program is it?"),
        max_length=100,
        widget=forms.TextInput({"autocomplete": "off"}),
        help_text=_("As you will know it again, such as “Records, reception”."),
        error_messages={"required": _("Name the program.")},
    )
    scopes = forms.MultipleChoiceField(
        label=_("What may it do?"),
        choices=Scope.choices,
        widget=forms.CheckboxSelectMultiple,
        error_messages={"required": _("Tick what it may do.")},
    )

    def clean_name(self) -> str:
        """A name of its own: this also stops a page that is reloaded from making a second token."""
        name = str(self.cleaned_data["name"])
        if DeviceToken.objects.filter(name=name, revoked_at=None).exists():
            raise ValidationError(
                _("There is a token of this name. End it first, or choose another name.")
            )
        return name

    def issue(self, by: User) -> tuple[DeviceToken, str]:
        """The new token and its secret."""
        return DeviceToken.issue(self.cleaned_data["name"], self.cleaned_data["scopes"], by)
