"""The shadow run: a staged release on the clinic's last films, beside the answers it was given.

It runs in a thread of its own, at low priority, one film at a time, and writes no finding: what was
answered stays as it was. What came out is kept in one small file, by the numbers of the studies.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import statistics
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db.models import Prefetch

from app import checks, films, worker
from app.cxr.release import MANIFEST, Release, UnusableRelease
from app.instance_lock import write_atomically
from app.models import Finding, Instance, Reading, State, Study

if TYPE_CHECKING:
    from app.cxr.local_review import Accuracy
    from app.cxr.model import Model

logger = logging.getLogger(__name__)

NOTE = "update_trial.json"
FILMS, MOST_FILMS = 50, 500
RUNNING, DONE, CANCELLED, FAILED = "running", "done", "cancelled", "failed"
#: The program ended while it ran.
BROKEN_OFF = "broken_off"
NICENESS = 10
_BELOW_NORMAL = -1  # THREAD_PRIORITY_BELOW_NORMAL (Windows SDK, processthreadsapi.h)


@dataclass(frozen=True)
class Given:
    """An answer, with its probability and threshold (None unless scored) and the time it took."""

    answer: str
    probability: float | None
    threshold: float | None
    milliseconds: float


@dataclass(frozen=True)
class Row:
    """One study: what the release in use says of its film, and what the new one would.

    ``concluded``: the last conclusion whose reader had not seen the answer; empty without one.
    """

    study: str
    concluded: str
    old: Given
    new: Given

    @property
    def is_flip(self) -> bool:
        """Whether the answer would be another."""
        return self.old.answer != self.new.answer


@dataclass(frozen=True)
class Trial:
    """A shadow run, as far as it has come. ``digest``: the manifest's SHA-256 of what was tried."""

    release: str
    digest: str
    before: str
    state: str
    total: int
    rows: tuple[Row, ...] = ()

    @property
    def is_running(self) -> bool:
        """Whether it goes on at this moment."""
        return self.state == RUNNING

    @property
    def flips(self) -> list[Row]:
        """The studies that would be answered otherwise."""
        return [row for row in self.rows if row.is_flip]

    @property
    def kinds(self) -> list[tuple[str, str, int]]:
        """How many answers change from what to what, the commonest first."""
        counts = Counter((row.old.answer, row.new.answer) for row in self.flips)
        return [(old, new, count) for (old, new), count in counts.most_common()]

    @property
    def old_accuracy(self) -> Accuracy:
        """The present answers against the clinic's blind readings."""
        return _accuracy([(row.old, row.concluded) for row in self.rows])

    @property
    def new_accuracy(self) -> Accuracy:
        """The new answers against the clinic's blind readings."""
        return _accuracy([(row.new, row.concluded) for row in self.rows])

    @property
    def old_milliseconds(self) -> float | None:
        """The median time for a film now; None without films."""
        return _median([row.old.milliseconds for row in self.rows])

    @property
    def new_milliseconds(self) -> float | None:
        """The median time for a film with the new release."""
        return _median([row.new.milliseconds for row in self.rows])

    def of_studies(self, numbers: set[str]) -> Trial:
        """The same of these studies alone: others may be deleted since."""
        return replace(self, rows=tuple(row for row in self.rows if row.study in numbers))

    def was_of(self, release: Release | None) -> bool:
        """Whether this very release was tried."""
        return release is not None and self.digest == digest_of(release)

    @classmethod
    def from_json(cls, text: str) -> Trial:
        """Read what ``to_json`` wrote; raises ValueError, KeyError or TypeError."""
        noted: dict[str, Any] = json.loads(text)
        rows = tuple(
            Row(row["study"], row["concluded"], Given(**row["old"]), Given(**row["new"]))
            for row in noted.pop("rows")
        )
        return cls(**noted, rows=rows)

    def to_json(self) -> str:
        """As the file holds it."""
        return json.dumps(asdict(self))


def digest_of(release: Release) -> str:
    """What tells a release from any other, even of the same name: its manifest's SHA-256."""
    return hashlib.sha256((release.directory / MANIFEST).read_bytes()).hexdigest()


@dataclass(frozen=True)
class Film:
    """A film to try, and what was found on it by ``model`` at that age."""

    study: str
    sha256: str
    age_years: float | None
    model: str
    given: Given
    concluded: str


def last_films(many: int = FILMS) -> list[Film]:
    """The films behind the answers of the newest answered studies, one of each."""
    light = Finding.objects.defer("activation_map", "regions", "details")
    films = Instance.objects.prefetch_related(Prefetch("findings", light))
    answered = Study.objects.filter(status=State.ANSWERED).order_by("-created_at", "-id")
    studies = list(answered.prefetch_related(Prefetch("instances", films))[:many])
    blind = dict(
        Reading.objects.filter(before_answer=True, study__in=studies)
        .order_by("pk")
        .values_list("study_id", "conclusion")
    )
    return [
        Film(
            study=study.number,
            sha256=finding.instance.sha256,
            age_years=finding.age_years,
            model=finding.model,
            given=_given(finding),
            concluded=blind.get(study.pk, ""),
        )
        for study in studies
        if (finding := study.finding) is not None
    ]


class ShadowRun:
    """The one shadow run of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cancel = threading.Event()
        self._thread: threading.Thread | None = None
        self._trial: Trial | None = None

    @property
    def is_running(self) -> bool:
        """Whether films are being tried."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def trial(self) -> Trial | None:
        """The run that goes on, else the last one; None where there was none."""
        if self.is_running:
            return self._trial
        try:
            kept = Trial.from_json((settings.DATA_DIR / NOTE).read_text(encoding="utf-8"))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        return replace(kept, state=BROKEN_OFF) if kept.is_running else kept

    def start(self, release: Release, films: Sequence[Film]) -> bool:
        """Try ``release`` on films; whether it was started, for only one goes at a time.

        Raises OSError where the run cannot be noted.
        """
        with self._lock:
            if self.is_running:
                return False
            before = checks.model.label or ""
            trial = Trial(release.label, digest_of(release), before, RUNNING, len(films))
            write_atomically(settings.DATA_DIR / NOTE, trial.to_json())
            self._trial = trial
            self._cancel.clear()
            arguments = (release, tuple(films), settings.DATA_DIR / NOTE)
            self._thread = threading.Thread(
                target=self._run, args=arguments, name="shadow", daemon=True
            )
            self._thread.start()
        return True

    def stop(self) -> None:
        """End a run after the film in hand; what was tried until then is kept."""
        self._cancel.set()
        self.wait()

    def wait(self) -> None:
        """Until the run is over."""
        if self._thread is not None:
            self._thread.join()

    def _run(self, release: Release, films: tuple[Film, ...], note: Path) -> None:
        assert self._trial is not None
        yield_to_others()
        try:
            state = self._try(release, films)
        except Exception as error:  # noqa: BLE001 - a run that fails says so on the page
            logger.error("the shadow run broke off: %s", worker.traceback_of(error))
            state = FAILED
        self._trial = replace(self._trial, state=state)
        with contextlib.suppress(OSError):  # the page then says that it broke off
            write_atomically(note, self._trial.to_json())

    def _try(self, release: Release, films: Sequence[Film]) -> str:
        from app.cxr.model import Model

        model = Model.load(release)
        for film in films:
            if self._cancel.is_set():
                return CANCELLED
            assert self._trial is not None
            row = Row(film.study, film.concluded, _present(film), _answer(film, model))
            self._trial = replace(self._trial, rows=(*self._trial.rows, row))
        return DONE


def _present(film: Film) -> Given:
    """What the release in use says: as it was given, or said now where another model gave it."""
    if film.model == checks.model.label:
        return film.given
    try:
        return _answer(film, checks.model.load())
    except UnusableRelease:
        return film.given


def _answer(film: Film, model: Model) -> Given:
    from app.cxr.analysis import analyse

    with films.local(film.sha256) as path:
        return _given(analyse(path, model, film.age_years))


def _given(found: Any) -> Given:
    return Given(found.answer, found.probability, found.threshold, found.milliseconds)


def _median(times: Sequence[float]) -> float | None:
    return statistics.median(times) if times else None


def _accuracy(given: Sequence[tuple[Given, str]]) -> Accuracy:
    import numpy as np

    from app.cxr import local_review as lr

    blind = np.array([concluded for _, concluded in given], "U16")
    nothing = np.array([""] * len(given), "U16")
    shown = lr.Shown(
        studies=np.arange(len(given)),
        months=nothing,
        bands=nothing,
        answers=np.array([one.answer for one, _ in given], "U12"),
        probabilities=np.array([one.probability for one, _ in given], float),
        thresholds=np.array([one.threshold for one, _ in given], float),
        blind=blind,
        known=blind,
    )
    return lr.accuracy(shown, blind)


def yield_to_others() -> None:
    """Let this thread's work wait for everybody else's."""
    if sys.platform == "win32":
        import ctypes
        from ctypes import wintypes

        kernel32 = ctypes.windll.kernel32
        kernel32.GetCurrentThread.restype = wintypes.HANDLE
        kernel32.SetThreadPriority.argtypes = [wintypes.HANDLE, ctypes.c_int]
        kernel32.SetThreadPriority(kernel32.GetCurrentThread(), _BELOW_NORMAL)
    elif sys.platform == "linux":
        # Linux keeps a niceness for each thread (sched(7))
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


run = ShadowRun()
