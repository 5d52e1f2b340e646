"""Studies, their films, and what the computer found on these."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from django.db import models, transaction
from django.db.models import Case, Exists, IntegerField, Max, OuterRef, Prefetch, Value, When
from django.db.models.expressions import Combinable
from django.db.models.functions import Cast, Substr
from django.utils import timezone

from app import database, films
from app.models.audit import AuditEvent, changes
from app.models.patients import Patient, Sex
from app.models.people import Role, User
from app.models.site import SendsResults, Site
from app.models.words import one_line, searchable

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
    CANCELLED = "cancelled"


UNFINISHED = (State.WAITING, State.ANALYSING)


#: A study with several films shows what is still to come first, then the best that came.
SHOWN_FIRST = (
    State.ANALYSING,
    State.WAITING,
    State.FAILED,
    State.ANSWERED,
    State.REFUSED,
    State.UNREADABLE,
    State.CANCELLED,
)


class StudyQuerySet(models.QuerySet["Study"]):
    """Questions asked of the studies."""

    def search(self, text: str) -> StudyQuerySet:
        """Studies that hold every word of ``text`` in number, name, note or a file's name."""
        found = self
        words = set(searchable(text).split())
        # A word inside another one asks for nothing more
        for word in sorted(w for w in words if not any(w in other for other in words - {w})):
            found = found.filter(search_text__contains=word)
        return found

    def as_rows_for(self, user: User) -> StudyQuerySet:
        """As the worklist shows them to ``user``, newest first: ``answer_is_hidden`` says of each
        what ``Study.answer_hidden_from`` does, for all of them at once.
        """
        # The activation maps are most of the database, and no row shows one
        findings = Finding.objects.defer("activation_map", "regions", "details")
        films = Instance.objects.prefetch_related(Prefetch("findings", findings))
        found = self.order_by("-created_at", "-id").select_related("patient")
        return found.prefetch_related(Prefetch("instances", films)).annotate(
            answer_is_hidden=_hidden_from(user)
        )

    def with_answer_for(self, answer: str, user: User) -> StudyQuerySet:
        """Studies of that answer, but for those whose answer ``user`` may not know yet."""
        found = self.filter(answer=answer)
        if not _reads_blind(user):
            return found
        return found.filter(pk__in=_read_by(user).values("study"))

    def newest_first(self) -> StudyQuerySet:
        """With patients, films and findings fetched along."""
        films = Prefetch("instances", Instance.objects.prefetch_related("findings"))
        found = self.order_by("-created_at", "-id").select_related("patient")
        return found.prefetch_related(films)


class Study(models.Model):
    """One visit of one patient to the X-ray room: the films that belong together.

    ``patient`` None: nobody has said whose films these are. ``age_years``: the age at the time of
    the study, None where unknown. ``consent_for_learning`` None: nobody has asked. ``status``,
    ``answer`` and ``is_read`` repeat what films and readings say, for the worklist to filter by.
    """

    number = models.CharField(max_length=20, unique=True)
    created_at = models.DateTimeField(default=timezone.now, db_index=True)
    patient = models.ForeignKey(
        Patient, on_delete=models.PROTECT, null=True, blank=True, related_name="studies"
    )
    age_years = models.FloatField(null=True, blank=True)
    note = models.TextField(blank=True, default="")
    consent_for_learning = models.BooleanField(null=True)
    status = models.CharField(max_length=10, choices=State.choices, default=State.WAITING)
    answer = models.CharField(max_length=12, blank=True, default="")
    is_read = models.BooleanField(default=False)
    #: What the header of its first DICOM film, or the worklist of the hospital, calls the study.
    study_uid = models.CharField(max_length=64, blank=True, default="", db_index=True)
    accession_number = models.CharField(max_length=16, blank=True, default="", db_index=True)
    search_text = models.TextField(default="", editable=False)

    objects = StudyQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "studies"
        indexes = [
            models.Index(fields=["status", "-created_at"], name="study_status"),
            # All that tabs, filters and search ask for, newest first: what they pass over is read
            # here and not in the table (ADR 0018)
            models.Index(
                fields=[
                    "-created_at",
                    "-id",
                    "status",
                    "is_read",
                    "answer",
                    "patient",
                    "search_text",
                ],
                name="study_worklist",
            ),
        ]

    def __str__(self) -> str:
        return self.number

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save, with the text that the search looks through brought up to date."""
        self.search_text = searchable(" ".join(self._search_words()))
        if kwargs.get("update_fields") is not None:
            kwargs["update_fields"] = {*kwargs["update_fields"], "search_text"}
        super().save(*args, **kwargs)

    def _search_words(self) -> list[str]:
        words = [self.number, self.note, self.accession_number]
        if self.patient:
            words += [self.patient.name, self.patient.number]
        if self.pk:
            words += self.instances.values_list("file_name", flat=True)
        return words

    @classmethod
    def begin(cls, age_years: float | None = None, patient: Patient | None = None) -> Study:
        """A new study under the day's next number; call it inside the transaction that fills it."""
        today = timezone.localdate()
        day = today.strftime("%Y%m%d")
        # A range, which the index knows, where LIKE would look at every study there is
        taken = cls.objects.filter(number__gt=f"{day}-", number__lt=f"{day}.")
        # A number that was given to a study since deleted stays its own: the audit speaks of it
        gone = AuditEvent.objects.filter(action="study_deleted", subject__startswith=f"{day}-")
        last = max(_last_of_day(taken, "number"), _last_of_day(gone, "subject"))
        if age_years is None and patient:
            age_years = patient.age_on(today)
        return cls.objects.create(
            number=f"{day}-{last + 1:04d}", age_years=age_years, patient=patient
        )

    @property
    def finding(self) -> Finding | None:
        """The finding to show for the study: the newest answered one, else the newest of all."""
        found = [f for instance in self.instances.all() if (f := instance.finding)]
        answered = [f for f in found if f.probability is not None]
        return max(answered or found, key=lambda f: (f.created_at, f.pk), default=None)

    def refresh_standing(self) -> None:
        """Bring ``status``, ``answer`` and ``is_read`` up to what films and readings say."""
        fresh = Study.objects.newest_first().get(pk=self.pk)
        states = {instance.state for instance in fresh.instances.all()}
        self.status = next((state for state in SHOWN_FIRST if state in states), State.WAITING)
        finding = fresh.finding
        self.answer = finding.answer if finding and self.status not in UNFINISHED else ""
        self.is_read = fresh.readings.exists()
        Study.objects.filter(pk=self.pk).update(
            status=self.status, answer=self.answer, is_read=self.is_read
        )

    def follow_patient(self, by: User | None = None) -> None:
        """Take over from the patient what the study repeats: the search text, the age it gives.

        A date of birth outweighs an age that somebody stated; audited.
        """
        self.refresh_from_db(fields=["patient", "age_years"])
        age = self.patient.age_on(self.day) if self.patient else None
        before = self.age_years
        self.age_years = before if age is None else age
        self.save(update_fields=["age_years"])
        if self.age_years != before:
            changed = {"age_years": [before, self.age_years]}
            AuditEvent.record(by, "study_changed", self, changed=changed, because="birth_date")

    def learn_from(self, film: Radiograph) -> None:
        """Take over what the film's header says of the patient, where nobody has said it yet.

        A header that speaks of somebody else than the study's patient teaches nothing: it may be
        the film that is in the wrong study. The audit keeps what it said, for the page to tell.
        """
        if self.age_years is None and film.age_years is not None:
            self.age_years = film.age_years
            self.save(update_fields=["age_years"])
        header = {
            "name": one_line(film.patient_name or "")[:200].strip(),
            "number": one_line(film.patient_id or "")[:64].strip(),
            "sex": film.sex if film.sex in Sex.values else "",
        }
        if self.patient is None:
            if not any(header.values()):
                return
            self.patient = Patient.known_as(**header, age_years=film.age_years)
            self.patient = self.patient or Patient.enter(header, by=None)
            self.save(update_fields=["patient"])
        elif self.patient.contradicts(**header, age_years=film.age_years, day=self.day):
            AuditEvent.record(None, "header_disagrees", self, header=header)
            return
        self.patient.learn(**header)
        self.follow_patient()

    @property
    def day(self) -> date:
        """The day of the study, as the clinic's calendar has it."""
        return timezone.localdate(self.created_at)

    def change(self, values: Mapping[str, Any], by: User | None) -> dict[str, list[Any]]:
        """Take over new values of the study's own; what changed, which the audit keeps."""
        with transaction.atomic():
            before = Study.objects.select_for_update().get(pk=self.pk)
            changed = changes(before, values)
            if changed:
                for name in changed:
                    setattr(self, name, values[name])
                self.save(update_fields=changed.keys())
                AuditEvent.record(by, "study_changed", self, changed=changed)
        return changed

    @property
    def films_at_another_age(self) -> list[Instance]:
        """The films whose newest answer was given for another age than the study has now."""
        return [
            film
            for film in self.instances.all()
            if film.state == State.ANSWERED
            and (finding := film.finding)
            and _as_said(finding.age_years) != _as_said(self.age_years)
        ]

    def films_by_another_model(self, model: str) -> list[Instance]:
        """The films whose newest answer another model than ``model`` (``name@version``) gave."""
        return [
            film
            for film in self.instances.all()
            if film.state == State.ANSWERED and (finding := film.finding) and finding.model != model
        ]

    def ask_again(self, by: User | None, of: str | None = None) -> list[Instance]:
        """Let the films wait again whose answer was given for another age, or by another model than
        ``of``; those that do. Queue them in the same transaction.
        """
        with transaction.atomic():
            Study.objects.select_for_update().get(pk=self.pk)
            films = self.films_by_another_model(of) if of else self.films_at_another_age
            for film in films:
                film.try_again()
                AuditEvent.record(by, "analysis_asked_for", self, film=film.pk)
        return films

    def answer_hidden_from(self, user: User) -> bool:
        """Whether ``user`` has to read the films before the computer's answer is shown.

        In a clinic of blind first reads that holds for clinicians, until their own first reading;
        the others are shown the answer, because they are not asked for one of their own. An earlier
        answer stays hidden while a film is analysed again, one film's while another still waits.
        """
        if not _reads_blind(user) or self.readings.filter(by=user).exists():
            return False
        return _answers().filter(instance__study=self).exists()

    def delete_for(self, reason: str, by: User | None) -> None:
        """Delete the study, its films and all that was found on them, for good; audited.

        Raises ValueError without a reason, Study.DoesNotExist where somebody else was faster. The
        files go after the rows are gone for certain: a power cut leaves a file without a row, which
        the next start sweeps, never the reverse. A patient of no other study goes too.
        """
        if not reason.strip():
            raise ValueError("a study is deleted for a reason")
        with transaction.atomic():
            Study.objects.select_for_update().get(pk=self.pk)
            films = list(self.instances.values_list("sha256", flat=True))
            patient = self.patient
            AuditEvent.record(
                by,
                "study_deleted",
                self,
                reason=reason.strip(),
                films=films,
                patient=patient.pk if patient else None,
            )
            self.delete()
            if patient and not patient.studies.exists():
                patient.remove(by)
            transaction.on_commit(lambda: _remove_files(films))

    @classmethod
    def sweep_deleted(cls) -> None:
        """Remove the films of deleted studies that a power cut, or another program that held them
        open, has left on the disk. What nobody deleted is never touched.
        """
        for event in AuditEvent.objects.filter(action="study_deleted"):
            _remove_files(event.details.get("films", ()))


def _remove_files(digests: Iterable[str]) -> None:
    """Remove stored films that no row speaks of (any more)."""
    for sha256 in digests:
        # Inside a transaction, which intake waits for: the same film may just be coming in again
        with transaction.atomic(), contextlib.suppress(OSError):
            database.take_turns()
            if not Instance.objects.filter(sha256=sha256).exists():
                films.remove(sha256)


def _reads_blind(user: User) -> bool:
    return user.role == Role.CLINICIAN and Site.current().blind_first_read


def _read_by(user: User) -> models.QuerySet[Any]:
    from app.models.readings import Reading

    return Reading.objects.filter(by=user).order_by()


def _answers() -> models.QuerySet[Finding]:
    """What can be hidden. That a film was refused is said at once: the patient is still there."""
    return Finding.objects.filter(probability__isnull=False)


def _last_of_day(rows: models.QuerySet[Any], field: str) -> int:
    """The greatest number after the day, 0 where there is none. As text 9999 comes after 10000."""
    after_the_day = Cast(Substr(field, len("YYYYMMDD-") + 1), IntegerField())
    return rows.aggregate(last=Max(after_the_day))["last"] or 0


def _hidden_from(user: User) -> Combinable:
    if not _reads_blind(user):
        return Value(False)
    found = _answers().filter(instance__study=OuterRef("pk")).order_by()
    hidden = Exists(found) & ~Exists(_read_by(user).filter(study=OuterRef("pk")))
    return Case(When(hidden, then=Value(True)), default=Value(False))


def _as_said(years: float | None) -> int | float | None:
    """An age as people say it: in whole months under two years, then in whole years."""
    return years if years is None else int(years * 12 + 0.01) / 12 if years < 2 else int(years)


class Instance(models.Model):
    """One film as it came in: the stored file and where it stands."""

    class Source(models.TextChoices):
        UPLOAD = "upload"
        FOLDER = "folder"
        DICOM = "dicom"
        COMMAND = "command"
        DISC = "disc"
        API = "api"

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
    sop_class_uid = models.CharField(max_length=64, blank=True, default="")
    sop_instance_uid = models.CharField(max_length=64, blank=True, default="", db_index=True)
    series_uid = models.CharField(max_length=64, blank=True, default="")
    #: Who brought it, where that is a machine: an AE title, a token's name, a folder's file.
    sender = models.CharField(max_length=100, blank=True, default="")
    #: When the batch began with which the film waited last: all films since nothing was waiting.
    batch_at = models.DateTimeField(null=True, blank=True, db_index=True)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.study} film {self.pk}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save; a new film joins those that wait."""
        if self._state.adding and self.batch_at is None:
            self.batch_at = self.batch_to_join()
        super().save(*args, **kwargs)

    @classmethod
    def batch_to_join(cls) -> datetime:
        """The batch of a film that begins to wait now."""
        waiting = cls.objects.filter(state__in=UNFINISHED, batch_at__isnull=False).order_by()
        return next(iter(waiting.values_list("batch_at", flat=True)[:1]), None) or timezone.now()

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
            self._stand(State.ANALYSING, self.attempts + 1)
            return self.attempts

    def record(self, analysis: Analysis) -> Finding | None:
        """Write down what an analysis found: once, however often the task was run."""
        from app.models.deliveries import Delivery

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
            if not self.sop_instance_uid:
                self.sop_instance_uid = getattr(analysis.film, "sop_instance_uid", None) or ""
            self.save()
            self.study.refresh_standing()
            Delivery.ask_after(self.study, SendsResults.AFTER_ANSWER)
            return finding

    def give_up(self) -> None:
        """No answer could be had because of a fault of the program's own."""
        self._move_on(State.FAILED)

    def wait_again(self, count_attempt: bool = True) -> None:
        """Back to waiting after an attempt that came to nothing."""
        self._move_on(State.WAITING, attempts=self.attempts - (not count_attempt))

    def try_again(self) -> None:
        """A new set of attempts for a film without an answer, or with one that is to be renewed."""
        with transaction.atomic():
            self.batch_at = self.batch_to_join()
            self.save(update_fields=["batch_at"])
            self._stand(State.WAITING, 0)

    def ask_again(self, by: User | None) -> bool:
        """Let a film wait again that was cancelled or failed; whether it was. Queue it in the same
        transaction.
        """
        with transaction.atomic():
            self._read_again_for_writing()
            if self.state not in (State.CANCELLED, State.FAILED):
                return False
            self.try_again()
            AuditEvent.record(by, "analysis_asked_for", self.study, film=self.pk)
        return True

    def cancel(self, by: User | None) -> bool:
        """Leave a film that still waits without an answer; whether it did still wait."""
        with transaction.atomic():
            self._read_again_for_writing()
            if self.state != State.WAITING:
                return False
            self._stand(State.CANCELLED, self.attempts)
            AuditEvent.record(by, "analysis_cancelled", self.study, film=self.pk)
        return True

    def _move_on(self, state: State, attempts: int | None = None) -> None:
        with transaction.atomic():
            self._read_again_for_writing()
            if self.state in UNFINISHED:
                self._stand(state, self.attempts if attempts is None else attempts)

    def _stand(self, state: State, attempts: int) -> None:
        self.state, self.attempts = state, attempts
        self.save(update_fields=["state", "attempts"])
        self.study.refresh_standing()

    def _read_again_for_writing(self) -> None:
        """Lock the row (SQLite: the IMMEDIATE transaction holds the lock) and read it afresh.

        Its study first, which all lock who change one: two who lock one after the other in another
        order wait for each other.
        """
        Study.objects.select_for_update(no_key=True).filter(pk=self.study_id).first()
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
