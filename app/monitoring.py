"""``GET /metrics``: figures for Prometheus, where its client is installed (docs/scaling.md).

Counts and durations alone: no patient, no name, no number of a study. What comes from the tables is
that of all machines; counters begin at the start of this process, as Prometheus expects of them.
"""

from __future__ import annotations

import hmac
import logging
import shutil
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from django.conf import settings
from django.db.models import Count, Max, Min
from django.http import Http404, HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from django_tasks_db.models import DBTaskResult

from app import checks, database
from app.access import is_from_here, open_to_all
from app.models import UNFINISHED, Delivery, Finding, Instance, Study, Worker

if TYPE_CHECKING:
    from prometheus_client.core import Metric

#: Seconds: a film takes tens of milliseconds on a good computer and some seconds on an old one.
BUCKETS = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


@open_to_all
@never_cache
@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """For this computer itself, and for whoever says ``CLINIC_METRICS_TOKEN``."""
    if not (is_from_here(request) or _says_token(request)):
        raise Http404
    try:
        from prometheus_client import CONTENT_TYPE_LATEST
    except ImportError as error:
        raise Http404 from error
    return HttpResponse(figures.text(), content_type=CONTENT_TYPE_LATEST)


def _says_token(request: HttpRequest) -> bool:
    said = request.headers.get("Authorization", "").removeprefix("Bearer ").strip()
    token = settings.METRICS_TOKEN
    return bool(token) and hmac.compare_digest(said.encode(), token.encode())


class Errors(logging.Handler):
    """Counts what this process has logged as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.count = 0

    def emit(self, _record: logging.LogRecord) -> None:
        """One more."""
        self.count += 1


class Figures:
    """The figures of this process; what was counted last time is not counted again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: dict[type[Finding | Instance], int] | None = None
        self._answers: dict[str, int] = {}
        self._received: dict[str, int] = {}
        self._durations = [0] * (len(BUCKETS) + 1)
        self._seconds = 0.0
        self.errors = Errors()
        logging.getLogger("app").addHandler(self.errors)

    def text(self) -> bytes:
        """All of them, as Prometheus reads them."""
        from prometheus_client import CollectorRegistry, generate_latest

        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        return generate_latest(registry)

    def describe(self) -> list[Metric]:
        """Nothing before it is asked for: a registry would else collect all twice."""
        return []

    def collect(self) -> Iterator[Metric]:
        """What prometheus_client asks of a collector."""
        with self._lock:
            self._look_on()
            yield from self._counted()
        yield from _queue()
        yield from _tables()
        yield from _machine()

    def _look_on(self) -> None:
        """Count what came since the last look."""
        newest = {
            model: model.objects.aggregate(last=Max("pk"))["last"] or 0
            for model in (Finding, Instance)
        }
        seen, self._seen = self._seen or newest, newest
        found = Finding.objects.filter(pk__gt=seen[Finding], pk__lte=newest[Finding]).order_by()
        for answer, milliseconds in found.values_list("answer", "milliseconds"):
            self._answers[answer] = self._answers.get(answer, 0) + 1
            seconds = milliseconds / 1000
            self._seconds += seconds
            self._durations[sum(seconds > bound for bound in BUCKETS)] += 1
        came = Instance.objects.filter(pk__gt=seen[Instance], pk__lte=newest[Instance]).order_by()
        for source, count in came.values_list("source").annotate(count=Count("pk")):
            self._received[source] = self._received.get(source, 0) + count

    def _counted(self) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

        answers = CounterMetricFamily("clinic_answers", "Films answered", labels=["answer"])
        for answer, count in self._answers.items():
            answers.add_metric([answer], count)
        yield answers
        received = CounterMetricFamily("clinic_films_received", "Films taken in", labels=["source"])
        for source in Instance.Source.values:
            received.add_metric([source], self._received.get(source, 0))
        yield received
        bounds = [*map(str, BUCKETS), "+Inf"]
        up_to = [sum(self._durations[: i + 1]) for i in range(len(bounds))]
        yield HistogramMetricFamily(
            "clinic_analysis_seconds",
            "From the bytes of a film to its answer",
            buckets=list(zip(bounds, up_to, strict=True)),
            sum_value=self._seconds,
        )
        yield CounterMetricFamily("clinic_errors", "Errors this process logged", self.errors.count)


def _queue() -> Iterator[Metric]:
    from prometheus_client.core import GaugeMetricFamily

    tasks = DBTaskResult.objects
    yield GaugeMetricFamily("clinic_queue_ready", "Films to analyse now", tasks.ready().count())
    yield GaugeMetricFamily("clinic_queue_running", "Films in hand", tasks.running().count())
    waiting = Instance.objects.filter(state__in=UNFINISHED)
    since = waiting.order_by().aggregate(since=Min("batch_at"))["since"]
    age = max((timezone.now() - since).total_seconds(), 0.0) if since else 0.0
    yield GaugeMetricFamily("clinic_oldest_waiting_seconds", "Age of the oldest wait", age)
    yield GaugeMetricFamily("clinic_workers", "Workers alive", len(Worker.alive()))


def _tables() -> Iterator[Metric]:
    from prometheus_client.core import GaugeMetricFamily

    films = GaugeMetricFamily("clinic_films", "Films stored", labels=["state"])
    for state, count in Instance.objects.order_by().values_list("state").annotate(n=Count("pk")):
        films.add_metric([state], count)
    yield films
    yield GaugeMetricFamily("clinic_studies", "Studies", Study.objects.count())
    outbox = GaugeMetricFamily("clinic_deliveries", "Results to be sent", labels=["state"])
    counts = dict(Delivery.objects.order_by().values_list("state").annotate(n=Count("pk")))
    for state in Delivery.State.values:
        outbox.add_metric([state], counts.get(state, 0))
    yield outbox
    yield GaugeMetricFamily("clinic_database_bytes", "Size of the database", database.size())


def _machine() -> Iterator[Metric]:
    from prometheus_client.core import GaugeMetricFamily

    free = shutil.disk_usage(settings.DATA_DIR).free
    yield GaugeMetricFamily("clinic_disk_free_bytes", "Free for the data directory", free)
    problems = GaugeMetricFamily("clinic_problem", "A fault to look at", labels=["code"])
    for problem in checks.current_problems():
        problems.add_metric([problem.code], 1)
    yield problems
    info = GaugeMetricFamily("clinic_info", "What runs here", labels=["version", "model"])
    info.add_metric([settings.VERSION, checks.model.label or ""], 1)
    yield info


figures = Figures()
