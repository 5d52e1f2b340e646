"""The clinic itself: what it is called and how it has chosen to work."""

from __future__ import annotations

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from app.models.peers import Peer, is_ae_title, is_port


class SendsResults(models.TextChoices):
    """When the results of a study go to the archives and servers that get them."""

    WHEN_ASKED = "asked", _("when somebody asks for it")
    AFTER_READING = "reading", _("when somebody has read the film")
    AFTER_ANSWER = "answer", _("when the computer has answered")


#: Minutes until a log-in locks. Whoever is alone in a room all day may choose never.
LOCK_AFTER = [
    (5, _("5 minutes")),
    (10, _("10 minutes")),
    (15, _("15 minutes")),
    (30, _("30 minutes")),
    (0, _("never")),
]


class AlreadySetUp(Exception):
    """Somebody else was faster with the first choices."""


class Site(models.Model):
    """The one row of choices that hold for everybody. ``set_up_at`` None: nobody has chosen yet."""

    THE_ONE = 1

    clinic_name = models.CharField(_("name of the clinic"), max_length=200, blank=True, default="")
    language = models.CharField(_("language"), max_length=10, blank=True, default="")
    single_user = models.BooleanField(_("without log-in, on this computer only"), default=False)
    blind_first_read = models.BooleanField(
        _("clinicians read the film before they see the answer"), default=False
    )
    lock_after = models.PositiveSmallIntegerField(
        _("the pages lock when nobody has used them for"), choices=LOCK_AFTER, default=10
    )
    lan = models.BooleanField(_("phones and other computers may join"), default=False)
    dicom = models.BooleanField(_("X-ray units and archives may send films"), default=False)
    ae_title = models.CharField(
        _("AE title of this program"), max_length=16, default="CLINIC", validators=[is_ae_title]
    )
    dicom_port = models.PositiveIntegerField(_("port"), default=11112, validators=is_port)
    watched_folder = models.CharField(_("watched folder"), max_length=500, blank=True, default="")
    fhir_server = models.CharField(_("FHIR server"), max_length=500, blank=True, default="")
    fhir_authorization = models.CharField(
        _("authorization of the FHIR server"), max_length=500, blank=True, default=""
    )
    sends_results = models.CharField(
        _("results are sent"),
        max_length=10,
        choices=SendsResults.choices,
        default=SendsResults.WHEN_ASKED,
    )
    set_up_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return self.clinic_name or "site"

    @classmethod
    def current(cls) -> Site:
        """The clinic's choices; before the first one, an unsaved row of defaults."""
        return cls.objects.filter(pk=cls.THE_ONE).first() or cls(pk=cls.THE_ONE)

    @property
    def is_set_up(self) -> bool:
        """Whether somebody has chosen how this clinic works."""
        return self.set_up_at is not None

    @property
    def lets_others_in(self) -> bool:
        """Whether phones and other computers may come in: never where nobody logs in."""
        return self.lan and self.is_set_up and not self.single_user

    @property
    def sends_out(self) -> bool:
        """Whether results can leave this computer: some place is named that gets them."""
        return bool(self.fhir_server) or Peer.objects.filter(gets_results=True).exists()

    @property
    def results_go_after(self) -> frozenset[SendsResults]:
        """After which events results are sent by themselves.

        Where clinicians read before they see the answer, it goes nowhere before they have: the
        archive would show it to them.
        """
        chosen = SendsResults(self.sends_results)
        if chosen == SendsResults.WHEN_ASKED:
            return frozenset()
        if chosen == SendsResults.AFTER_READING or self.blind_first_read:
            return frozenset({SendsResults.AFTER_READING})
        return frozenset({SendsResults.AFTER_ANSWER, SendsResults.AFTER_READING})

    @classmethod
    def claim(cls) -> Site:
        """The row for the first choices, held until the transaction ends; raises AlreadySetUp.

        Of two people who set the program up at once the second waits here, and finds it done.
        """
        cls.objects.get_or_create(pk=cls.THE_ONE)
        site = cls.objects.select_for_update().get(pk=cls.THE_ONE)
        if site.is_set_up:
            raise AlreadySetUp
        return site

    def set_up(self) -> None:
        """Write down the first choices."""
        self.set_up_at = timezone.now()
        self.save()
