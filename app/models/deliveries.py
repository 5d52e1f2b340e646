"""What is on its way out of the clinic: results for archives and servers, and promises kept."""

from __future__ import annotations

from django.db import models
from django.utils import timezone

from app.models.peers import Peer
from app.models.studies import Study


class Delivery(models.Model):
    """The results of one study, on their way to one place, until that place has them.

    ``peer`` None: the FHIR server that the clinic has named. What is sent is made at the time of
    sending, from what the study says by then; so a study waits once for each place. ``problem`` is
    the stable code of why the last try failed.
    """

    class Kind(models.TextChoices):
        DICOM = "dicom"
        FHIR = "fhir"

    class State(models.TextChoices):
        WAITING = "waiting"
        SENDING = "sending"
        SENT = "sent"
        GIVEN_UP = "given_up"

    study = models.ForeignKey(Study, on_delete=models.CASCADE, related_name="deliveries")
    peer = models.ForeignKey(Peer, on_delete=models.CASCADE, null=True, related_name="deliveries")
    kind = models.CharField(max_length=10, choices=Kind.choices)
    state = models.CharField(max_length=10, choices=State.choices, default=State.WAITING)
    attempts = models.PositiveIntegerField(default=0)
    next_try_at = models.DateTimeField(default=timezone.now)
    problem = models.CharField(max_length=40, blank=True, default="")
    details = models.JSONField(default=dict)
    worker = models.CharField(max_length=64, blank=True, default="")
    created_at = models.DateTimeField(default=timezone.now)
    sent_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name_plural = "deliveries"
        ordering = ["-created_at", "-id"]
        indexes = [models.Index(fields=["state", "next_try_at"], name="delivery_due")]
        constraints = [
            models.UniqueConstraint(
                fields=["study", "peer", "kind"],
                condition=models.Q(state="waiting", peer__isnull=False),
                name="waits_once_for_each_peer",
            ),
            models.UniqueConstraint(
                fields=["study", "kind"],
                condition=models.Q(state="waiting", peer__isnull=True),
                name="waits_once_for_the_server",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.study} to {self.peer or 'FHIR server'}: {self.state}"


class Commitment(models.Model):
    """A peer's question whether its films are kept here for good (PS3.4, annex J), until answered.

    ``references``: pairs of SOP class and SOP instance UID, as asked.
    """

    class State(models.TextChoices):
        WAITING = "waiting"
        REPORTED = "reported"
        GIVEN_UP = "given_up"

    peer = models.ForeignKey(Peer, on_delete=models.CASCADE, related_name="commitments")
    transaction_uid = models.CharField(max_length=64)
    references = models.JSONField(default=list)
    state = models.CharField(max_length=10, choices=State.choices, default=State.WAITING)
    attempts = models.PositiveIntegerField(default=0)
    next_try_at = models.DateTimeField(default=timezone.now)
    problem = models.CharField(max_length=40, blank=True, default="")
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-created_at", "-id"]
        indexes = [models.Index(fields=["state", "next_try_at"], name="commitment_due")]
        constraints = [
            models.UniqueConstraint(
                fields=["peer", "transaction_uid"], name="one_question_a_transaction"
            )
        ]

    def __str__(self) -> str:
        return f"{self.transaction_uid} of {self.peer}: {self.state}"
