"""The films that wait for an answer together: all that came in since nothing was waiting."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.db import transaction
from django.db.models import Count, Max, Q
from django.utils import timezone

from app.models.people import User
from app.models.studies import UNFINISHED, Finding, Instance, State

#: The pace is that of so many films, lately; of fewer than the second there is none to speak of.
MEASURED_FILMS, FEWEST_FILMS = 20, 3
#: So many films are cancelled in one transaction: the worker waits for it.
CANCELLED_AT_ONCE = 25


@dataclass(frozen=True)
class Batch:
    """How far the films are that wait now: of ``films``, ``waiting`` have no answer yet.

    ``seconds_left`` at the pace measured lately; None where nobody can say yet.
    """

    films: int
    waiting: int
    seconds_left: float | None

    @property
    def done(self) -> int:
        """How many films of the batch wait no longer."""
        return self.films - self.waiting

    @classmethod
    def current(cls) -> Batch | None:
        """The batch that runs, None where nothing waits."""
        unfinished = Instance.objects.filter(state__in=UNFINISHED).order_by()
        found = list(unfinished.values_list("batch_at", flat=True)[:1])
        if not found:
            return None
        [began] = found
        together = Q(state__in=UNFINISHED) | (Q(batch_at=began) if began else Q(pk__in=[]))
        # Both in one question: between two, the worker answers
        films, waiting = (
            Instance.objects.filter(together)
            .aggregate(films=Count("pk"), waiting=Count("pk", filter=Q(state__in=UNFINISHED)))
            .values()
        )
        if not waiting:
            return None
        return cls(films, waiting, _seconds_left(waiting, began))

    @staticmethod
    def cancel(by: User | None) -> int:
        """Leave every film that waits without an answer; how many. What is being read goes on."""
        waiting = Instance.objects.filter(state=State.WAITING).order_by("pk")
        newest = waiting.aggregate(pk=Max("pk"))["pk"] or 0
        waiting = waiting.filter(pk__lte=newest).select_related("study")
        last, cancelled = 0, 0
        while films := list(waiting.filter(pk__gt=last)[:CANCELLED_AT_ONCE]):
            with transaction.atomic():
                cancelled += sum(film.cancel(by) for film in films)
            last = films[-1].pk
        return cancelled


def _seconds_left(waiting: int, began: datetime | None) -> float | None:
    """So long as the last films took, those that wait will take; a stop counts as slowness."""
    latest = Finding.objects.order_by("-id").values_list("created_at", flat=True)[:MEASURED_FILMS]
    moments = [moment for moment in latest if began and moment >= began]
    if len(moments) < FEWEST_FILMS:
        return None
    seconds = (timezone.now() - min(moments)).total_seconds()
    return waiting * max(0.0, seconds) / (len(moments) - 1)
