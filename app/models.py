"""What the clinic keeps. Verbs live here: pages and the worker call them, and add nothing."""

from __future__ import annotations

import unicodedata
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.db import models, transaction
from django.db.models import Prefetch
from django.utils import timezone

if TYPE_CHECKING:
    from app.cxr.analysis import Analysis
    from app.cxr.radiograph import Radiograph


class State(models.TextChoices):
    """Where a film stands on its way to an answer."""

    WAITING = "waiting"
    ANALYSING = "analysing"
    ANSWERED = "answered"
    REFUSED = "refused"
    UNREADABLE = "unreadable"
    FAILED = "failed"


UNFINISHED = (State.WAITING, State.ANALYSING)


def searchable(text: str) -> str:
    """Text as the search compares it: case and accents set aside, in every script.

    SQLite's own LIKE ignores case for ASCII letters only.
    """
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(c for c in decomposed if not unicodedata.combining(c))


class StudyQuerySet(models.QuerySet["Study"]):
    """Questions asked of the studies."""

    def search(self, text: str) -> StudyQuerySet:
        """Studies that hold every word of ``text`` in number, name, note or a file's name."""
        found = self
        for word in searchable(text).split():
            found = found.filter(search_text__contains=word)
        return found

    def newest_first(self) -> StudyQuerySet:
        """As the worklist shows them, films and findings fetched along."""
        films = Prefetch("instances", Instance.objects.prefetch_related("findings"))
        return self.order_by("-created_at", "-id").prefetch_related(films)


class Study(models.Model):
    """One visit of one patient to the X-ray room: the films that belong together."""

    class Sex(models.TextChoices):
        MALE = "M"
        FEMALE = "F"
        OTHER = "O"

    number = models.CharField(max_length=20, unique=True)
    created_at = models.DateTimeField(default=timezone.now, db_index=True)
    patient_name = models.CharField(max_length=200, blank=True, default="")
    patient_number = models.CharField(max_length=64, blank=True, default="")
    patient_sex = models.CharField(max_length=1, blank=True, default="", choices=Sex.choices)
    age_years = models.FloatField(null=True, blank=True)
    note = models.TextField(blank=True, default="")
    search_text = models.TextField(default="", editable=False)

    objects = StudyQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "studies"

    def __str__(self) -> str:
        return self.number

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save, with the text that the search looks through brought up to date."""
        self.search_text = searchable(" ".join(self._search_words()))
        if kwargs.get("update_fields") is not None:
            kwargs["update_fields"] = {*kwargs["update_fields"], "search_text"}
        super().save(*args, **kwargs)

    def _search_words(self) -> list[str]:
        words = [self.number, self.patient_name, self.patient_number, self.note]
        if self.pk:
            words += self.instances.values_list("file_name", flat=True)
        return words

    @classmethod
    def begin(cls, age_years: float | None = None) -> Study:
        """A new study under the day's next number; call it inside the transaction that fills it."""
        day = timezone.localdate().strftime("%Y%m%d")
        taken = cls.objects.filter(number__startswith=f"{day}-").values_list("number", flat=True)
        last = max((int(number.partition("-")[2]) for number in taken), default=0)
        return cls.objects.create(number=f"{day}-{last + 1:04d}", age_years=age_years)

    @property
    def status(self) -> str:
        """One word for the whole study: what is still to come first, then the best that came."""
        states = {instance.state for instance in self.instances.all()}
        order = (
            State.ANALYSING,
            State.WAITING,
            State.FAILED,
            State.ANSWERED,
            State.REFUSED,
            State.UNREADABLE,
        )
        return next((str(state) for state in order if state in states), str(State.WAITING))

    @property
    def finding(self) -> Finding | None:
        """The finding to show for the study: the newest answered one, else the newest of all."""
        found = [f for instance in self.instances.all() if (f := instance.finding)]
        answered = [f for f in found if f.probability is not None]
        return max(answered or found, key=lambda f: (f.created_at, f.pk), default=None)

    def learn_from(self, film: Radiograph) -> None:
        """Take over what the film's header says of the patient, where nobody has said it yet."""
        header = {
            "patient_name": (getattr(film, "patient_name", None) or "")[:200],
            "patient_number": (getattr(film, "patient_id", None) or "")[:64],
            "patient_sex": film.sex if film.sex in self.Sex.values else "",
            "age_years": film.age_years,
        }
        learnt = {
            name: value
            for name, value in header.items()
            if value not in ("", None) and getattr(self, name) in ("", None)
        }
        for name, value in learnt.items():
            setattr(self, name, value)
        if learnt:
            self.save(update_fields=learnt.keys())


class Instance(models.Model):
    """One film as it came in: the stored file and where it stands."""

    class Source(models.TextChoices):
        UPLOAD = "upload"
        FOLDER = "folder"
        DICOM = "dicom"
        COMMAND = "command"

    study = models.ForeignKey(Study, on_delete=models.CASCADE, related_name="instances")
    file_name = models.CharField(max_length=255)
    source = models.CharField(max_length=10, choices=Source.choices)
    sha256 = models.CharField(max_length=64, unique=True)
    size_bytes = models.BigIntegerField()
    film = models.FileField(max_length=200)
    received_at = models.DateTimeField(default=timezone.now)
    state = models.CharField(
        max_length=10, choices=State.choices, default=State.WAITING, db_index=True
    )
    attempts = models.PositiveSmallIntegerField(default=0)
    view_position = models.CharField(max_length=16, null=True, blank=True)  # noqa: DJ001 - unknown is None
    width = models.PositiveIntegerField(null=True, blank=True)
    height = models.PositiveIntegerField(null=True, blank=True)
    frames = models.PositiveIntegerField(null=True, blank=True)
    sop_instance_uid = models.CharField(max_length=64, blank=True, default="", db_index=True)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.study} film {self.pk}"

    @property
    def path(self) -> Path:
        """The stored film on disk."""
        return Path(self.film.path)

    @property
    def finding(self) -> Finding | None:
        """The newest finding, None before the first."""
        # Sorted here, not in SQL, so that what the worklist fetched along is used
        return max(self.findings.all(), key=lambda f: (f.created_at, f.pk), default=None)

    @classmethod
    def count_unfinished(cls) -> int:
        """How many films have no answer yet."""
        return cls.objects.filter(state__in=UNFINISHED).count()

    def begin_analysis(self) -> int | None:
        """Mark the film as being analysed; which attempt this is, None when nothing is to be done.

        Counted and committed before the work, so that a film that kills the whole process is not
        tried for ever.
        """
        with transaction.atomic():
            self._read_again_for_writing()
            if self.state not in UNFINISHED:
                return None
            self.state = State.ANALYSING
            self.attempts += 1
            self.save(update_fields=["state", "attempts"])
            return self.attempts

    def record(self, analysis: Analysis) -> Finding | None:
        """Write down what an analysis found: once, however often the task was run."""
        with transaction.atomic():
            self._read_again_for_writing()
            if self.state not in UNFINISHED:
                return self.finding
            if analysis.film is not None:
                self.study.learn_from(analysis.film)
            finding = Finding.objects.create(instance=self, **Finding.fields_from(analysis))
            refused = {"refused": State.REFUSED, "unreadable": State.UNREADABLE}
            self.state = refused.get(analysis.answer, State.ANSWERED)
            self.view_position = analysis.view_position
            self.width, self.height = analysis.width, analysis.height
            self.frames = analysis.frames
            self.sop_instance_uid = getattr(analysis.film, "sop_instance_uid", None) or ""
            self.save()
            return finding

    def give_up(self) -> None:
        """No answer could be had because of a fault of the program's own."""
        self._move_on(State.FAILED)

    def wait_again(self, count_attempt: bool = True) -> None:
        """Back to waiting after an attempt that came to nothing."""
        self._move_on(State.WAITING, attempts=self.attempts - (not count_attempt))

    def try_again(self) -> None:
        """A new set of attempts for a film that was given up."""
        self.state, self.attempts = State.WAITING, 0
        self.save(update_fields=["state", "attempts"])

    def _move_on(self, state: State, attempts: int | None = None) -> None:
        with transaction.atomic():
            self._read_again_for_writing()
            if self.state in UNFINISHED:
                self.state = state
                self.attempts = self.attempts if attempts is None else attempts
                self.save(update_fields=["state", "attempts"])

    def _read_again_for_writing(self) -> None:
        """Lock the row (SQLite: the IMMEDIATE transaction holds the lock) and read it afresh."""
        self.refresh_from_db(from_queryset=Instance.objects.select_for_update())


class Finding(models.Model):
    """What one analysis of one film found. Never changed: a later analysis adds another."""

    instance = models.ForeignKey(Instance, on_delete=models.CASCADE, related_name="findings")
    created_at = models.DateTimeField(default=timezone.now)
    answer = models.CharField(max_length=12)
    probability = models.FloatField(null=True)
    threshold = models.FloatField(null=True)
    reason = models.CharField(max_length=64, null=True)  # noqa: DJ001 - none is None
    details = models.JSONField(default=dict)
    regions = models.JSONField(default=list)
    peak_x = models.IntegerField(null=True)
    peak_y = models.IntegerField(null=True)
    age_years = models.FloatField(null=True)
    model = models.CharField(max_length=100)
    milliseconds = models.FloatField()
    activation_map = models.JSONField(null=True)

    class Meta:
        ordering = ["-created_at", "-id"]

    def __str__(self) -> str:
        return f"{self.instance}: {self.answer}"

    @staticmethod
    def fields_from(analysis: Analysis) -> dict[str, Any]:
        """The columns that hold an Analysis."""
        peak_x, peak_y = analysis.peak or (None, None)
        heat = analysis.activation_map
        return {
            "answer": analysis.answer,
            "probability": analysis.probability,
            "threshold": analysis.threshold,
            "reason": analysis.reason,
            "details": dict(analysis.details),
            "regions": [
                {
                    "x": region.x,
                    "y": region.y,
                    "width": region.width,
                    "height": region.height,
                    "zone": region.zone,
                    "score": region.score,
                }
                for region in analysis.regions
            ],
            "peak_x": peak_x,
            "peak_y": peak_y,
            "age_years": analysis.age_years,
            "model": analysis.model,
            "milliseconds": analysis.milliseconds,
            # Three decimals are finer than the eye and a fifth of the size
            "activation_map": None if heat is None else heat.astype(float).round(3).tolist(),
        }


class Worker(models.Model):
    """The lease of one worker thread: as long as its heart beats, its tasks are its own."""

    id = models.CharField(max_length=64, primary_key=True)
    started_at = models.DateTimeField(default=timezone.now)
    heartbeat_at = models.DateTimeField(default=timezone.now)

    #: Far above the beat's few seconds: a laptop that swaps must not lose its own work.
    LEASE = timedelta(seconds=60)

    def __str__(self) -> str:
        return self.id

    @classmethod
    def beat(cls, worker_id: str) -> None:
        """Say that this worker is alive."""
        cls.objects.update_or_create(id=worker_id, defaults={"heartbeat_at": timezone.now()})

    @classmethod
    def alive(cls) -> set[str]:
        """The workers whose lease still runs."""
        # A clock set back leaves heartbeats in the future: those are not taken as alive for ever
        now = timezone.now()
        fresh = cls.objects.filter(
            heartbeat_at__gte=now - cls.LEASE, heartbeat_at__lte=now + cls.LEASE
        )
        return set(fresh.values_list("id", flat=True))
