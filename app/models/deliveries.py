"""What is on its way out of the clinic: results for archives and servers, and promises kept."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from django.db import models, transaction
from django.utils import timezone

from app.models.audit import AuditEvent
from app.models.peers import Peer
from app.models.people import User
from app.models.site import SendsResults, Site
from app.models.studies import UNFINISHED, State, Study

WITHOUT_ANSWER = (State.REFUSED, State.UNREADABLE)


class Delivery(models.Model):
    """The results of one study, on their way to one place, until that place has them.

    ``peer`` None: the FHIR server that the clinic has named. What is sent is made at the time of
    sending, from what the study says by then; so a study waits once for each place. ``problem`` is
    the stable code of why the last try failed, ``details`` fill its sentence.
    """

    class Kind(models.TextChoices):
        DICOM = "dicom"
        FHIR = "fhir"

    class State(models.TextChoices):
        WAITING = "waiting"
        SENDING = "sending"
        SENT = "sent"
        GIVEN_UP = "given_up"

    #: After a failure the next try comes after these seconds, twice as many after each further one
    FIRST_PAUSE, LONGEST_PAUSE = 30.0, 6 * 3600.0
    #: A place that was not to be had for so long needs a person
    PATIENCE = timedelta(days=14)
    KEEP_SENT = timedelta(days=90)

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

    @classmethod
    def places(cls) -> list[tuple[str, Peer | None]]:
        """Where results go: kind and peer, which is None for the FHIR server."""
        peers: list[tuple[str, Peer | None]] = [
            (cls.Kind.DICOM, peer) for peer in Peer.objects.filter(gets_results=True)
        ]
        return [*peers, (cls.Kind.FHIR, None)] if Site.current().fhir_server else peers

    @classmethod
    def ask(cls, study: Study, by: User | None = None) -> list[Delivery]:
        """Let the results of a study go to every place that gets them; audited where there is one.

        One that waits already is tried at once instead: it takes along what the study says by then.
        """
        with transaction.atomic():
            asked = [cls._ask_one(study, kind, peer) for kind, peer in cls.places()]
            if asked:
                names = [str(one.peer or "FHIR") for one in asked]
                AuditEvent.record(by, "results_queued", study, to=names)
        return asked

    @classmethod
    def _ask_one(cls, study: Study, kind: str, peer: Peer | None) -> Delivery:
        delivery, fresh = cls.objects.get_or_create(
            study=study, kind=kind, peer=peer, state=cls.State.WAITING
        )
        if not fresh:
            delivery.try_now()
        return delivery

    @classmethod
    def ask_after(cls, study: Study, event: SendsResults) -> list[Delivery]:
        """``ask``, where the clinic has chosen that results go out after an ``event`` like this."""
        if event not in Site.current().results_go_after:
            return []
        fresh = Study.objects.get(pk=study.pk)
        has_answer = fresh.status not in UNFINISHED and fresh.answer not in ("", *WITHOUT_ANSWER)
        return cls.ask(fresh) if has_answer else []

    @classmethod
    def claim(cls, worker: str) -> Delivery | None:
        """The next that is due, marked as being sent by ``worker``; None where nothing is."""
        due = cls.objects.filter(state=cls.State.WAITING, next_try_at__lte=timezone.now())
        with transaction.atomic():
            # Not of the peer: a row that may be absent cannot be locked on PostgreSQL
            locked = due.order_by("next_try_at", "id").select_for_update(skip_locked=True)
            delivery = locked.first()
            if delivery is None:
                return None
            delivery.state, delivery.worker = cls.State.SENDING, worker
            delivery.attempts += 1
            delivery.save(update_fields=["state", "worker", "attempts"])
        return delivery

    def arrived(self) -> None:
        """The place has it; audited, since patient data has left the clinic."""
        with transaction.atomic():
            self.state, self.sent_at = self.State.SENT, timezone.now()
            self.problem, self.details = "", {}
            self.save(update_fields=["state", "sent_at", "problem", "details"])
            to = str(self.peer or "FHIR")
            AuditEvent.record(None, "results_sent", self.study, to=to, attempts=self.attempts)

    def failed(self, problem: str, details: Mapping[str, str], for_good: bool = False) -> None:
        """It did not arrive. Tried again later, unless ``for_good`` or it has been tried for too
        long: then somebody has to look at it.
        """
        if for_good or timezone.now() - self.created_at > self.PATIENCE:
            self.state, self.problem, self.details = self.State.GIVEN_UP, problem, dict(details)
            self.save(update_fields=["state", "problem", "details"])
            return
        self.problem, self.details = problem, dict(details)
        self.next_try_at = timezone.now() + timedelta(seconds=self._pause())
        self._wait()

    def _pause(self) -> float:
        return float(min(self.FIRST_PAUSE * 2.0 ** min(self.attempts - 1, 20), self.LONGEST_PAUSE))

    def _wait(self) -> None:
        """Back among those that wait; not beside a newer one of the same study and place."""
        with transaction.atomic():
            waiting = Delivery.objects.filter(state=self.State.WAITING).exclude(pk=self.pk)
            if waiting.filter(study=self.study_id, peer=self.peer_id, kind=self.kind).exists():
                self.delete()
                return
            self.state, self.worker = self.State.WAITING, ""
            self.save()

    def postpone_others(self) -> None:
        """The place is not to be had: what else waits for it need not find that out by itself."""
        waiting = Delivery.objects.filter(state=self.State.WAITING, kind=self.kind)
        same_place = waiting.filter(peer=self.peer_id, next_try_at__lt=self.next_try_at)
        same_place.update(next_try_at=self.next_try_at, problem=self.problem, details=self.details)

    def try_now(self) -> None:
        """Let one that waits or was given up be tried again, at once and with new patience."""
        if self.state in (self.State.WAITING, self.State.GIVEN_UP):
            self.next_try_at = self.created_at = timezone.now()
            self.attempts = 0
            self._wait()

    def drop(self, by: User | None) -> None:
        """Send it no more; audited."""
        with transaction.atomic():
            AuditEvent.record(by, "results_dropped", self.study, to=str(self.peer or "FHIR"))
            self.delete()

    @classmethod
    def put_back(cls, dead_prefix: str) -> int:
        """What was being sent when its sender died waits again; how many."""
        interrupted = cls.objects.filter(
            state=cls.State.SENDING, worker__startswith=dead_prefix
        ).select_related("study")
        for delivery in interrupted:
            delivery._wait()
        return len(interrupted)

    @classmethod
    def forget_old(cls) -> None:
        """Remove what arrived long ago: the audit keeps that it did."""
        cls.objects.filter(
            state=cls.State.SENT, sent_at__lt=timezone.now() - cls.KEEP_SENT
        ).delete()


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
