"""The machines of the hospital that this program speaks DICOM with."""

from __future__ import annotations

from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

#: PS3.5, 6.2: AE has at most 16 characters, no backslash, no control characters; a space at either
#: end says nothing.
is_ae_title = RegexValidator(
    r"^(?! )[ -\[\]-~]{1,16}(?<! )\Z",
    _("1 to 16 letters, digits or signs, no backslash among them."),
)
is_port = (MinValueValidator(1), MaxValueValidator(65535))


class Peer(models.Model):
    """A machine that is known by its AE title and its address, and what it is there for."""

    name = models.CharField(_("name"), max_length=100, unique=True)
    ae_title = models.CharField(_("AE title"), max_length=16, validators=[is_ae_title])
    host = models.CharField(_("address"), max_length=200)
    port = models.PositiveIntegerField(_("port"), default=104, validators=is_port)
    sends_films = models.BooleanField(_("sends films here"), default=False)
    gets_results = models.BooleanField(_("gets the results"), default=False)
    gives_worklist = models.BooleanField(_("tells who is waiting for a film"), default=False)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name
