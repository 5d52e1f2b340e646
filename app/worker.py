"""The analysis task, and the thread that works the queue under a lease.

django-tasks' database backend claims and runs tasks; it knows no lease, so a task that was RUNNING
when its process died would stay so for ever. A heartbeat row says who is alive (``models.Worker``);
what belonged to nobody alive goes back into the queue.
"""

from __future__ import annotations

import logging
import os
import platform
import secrets
import threading
from datetime import timedelta
from pathlib import Path
from traceback import extract_tb
from typing import TYPE_CHECKING

from django.db import (
    DatabaseError,
    OperationalError,
    close_old_connections,
    connections,
    transaction,
)
from django.utils import timezone
from django_tasks import TaskResultStatus, task
from django_tasks_db.management.commands.db_worker import Worker as QueueWorker
from django_tasks_db.models import DBTaskResult

from app import checks, films
from app.cxr.release import UnusableRelease
from app.models import UNFINISHED, Instance, State, Worker

if TYPE_CHECKING:
    from app.cxr.analysis import Analysis

logger = logging.getLogger(__name__)

#: How often a film is tried on which the program itself fails, and the pause before the next try.
MOST_ATTEMPTS = 3
PAUSE_SECONDS = 2.0
#: A queue that nobody in this process filled (another process did) is looked at this often.
POLL_SECONDS = 1.0
BEAT_SECONDS = 10.0
KEEP_TASKS = timedelta(days=1)

_work_came = threading.Event()


@task
def analyse_instance(instance_id: int) -> None:
    """Analyse one film and write down what was found. Run twice, it writes once."""
    instance = Instance.objects.select_related("study").filter(pk=instance_id).first()
    attempt = instance.begin_analysis() if instance else None
    if instance is None or attempt is None:
        return
    if attempt > MOST_ATTEMPTS:
        logger.error("film %s ended the program %d times: given up", instance.pk, MOST_ATTEMPTS)
        instance.give_up()
        return
    try:
        with films.local(instance.sha256) as film:
            analysis = analyse(film, instance.study.age_years)
        instance.record(analysis)
        _ask_for_patient(instance)
    except Instance.DoesNotExist:
        return  # its study was deleted meanwhile
    except (UnusableRelease, OperationalError, films.Unreachable) as error:
        # No model, no room in the database, films out of reach: not this film's fault, so it keeps
        # its attempts
        logger.error("film %s has to wait: %s", instance.pk, traceback_of(error))
        instance.wait_again(count_attempt=False)
        enqueue(instance, after=PAUSE_SECONDS)
    except Exception as error:  # noqa: BLE001 - one bad film must never stop the queue
        logger.error("film %s, attempt %d: %s", instance.pk, attempt, traceback_of(error))
        if attempt >= MOST_ATTEMPTS:
            instance.give_up()
        else:
            instance.wait_again()
            enqueue(instance, after=PAUSE_SECONDS * attempt)


def _ask_for_patient(instance: Instance) -> None:
    from app.scheduled import learner  # which knows of the worker

    learner.ask_about(instance)


def analyse(film: Path | bytes, age_years: float | None) -> Analysis:
    """The pure core's answer for a stored film, from the model that is switched on."""
    from app.cxr import analysis  # numpy and the decoders come with the first film, not before

    return analysis.analyse(film, checks.model.load(), age_years)


def have_model() -> bool:
    """Is there a model to work with? Without one films wait, and are not even claimed."""
    try:
        checks.model.load()
    except UnusableRelease:
        return False
    return True


def enqueue(instance: Instance, after: float = 0.0) -> None:
    """Queue a film's analysis in the running transaction; the worker wakes at its commit."""
    run_after = timezone.now() + timedelta(seconds=after) if after else None
    analyse_instance.using(run_after=run_after).enqueue(instance.pk)
    transaction.on_commit(_work_came.set)


def traceback_of(error: BaseException) -> str:
    """Where it happened and what kind it was. Not its words: they may hold a patient's data."""
    frames = [
        f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in extract_tb(error.__traceback__)
    ]
    cause = error.__cause__ or error.__context__
    earlier = f"{traceback_of(cause)} -> " if cause else ""
    return f"{earlier}{type(error).__qualname__} at {' < '.join(reversed(frames))}"


def put_back_orphans() -> int:
    """Return RUNNING tasks of workers that are no longer alive to the queue; how many."""
    alive, count = Worker.alive(), 0
    for result in DBTaskResult.objects.running():
        if not (result.worker_ids and result.worker_ids[-1] in alive):
            count += _put_back(result)
    if count:
        logger.warning("%d films taken over from a worker that died", count)
        _work_came.set()
    return count


def queue_the_forgotten() -> int:
    """Queue films that wait for an answer and have no task; how many."""
    open_tasks = DBTaskResult.objects.filter(
        status__in=[TaskResultStatus.READY, TaskResultStatus.RUNNING],
        task_path=analyse_instance.module_path,
    )
    queued = {
        arguments["args"][0] for arguments in open_tasks.values_list("args_kwargs", flat=True)
    }
    forgotten = [i for i in Instance.objects.filter(state__in=UNFINISHED) if i.pk not in queued]
    for instance in forgotten:
        with transaction.atomic():
            enqueue(instance)
    return len(forgotten)


def recover(dead_prefix: str | None = None) -> None:
    """What a start finds after a crash goes back into the queue.

    ``dead_prefix``: workers so named are known to be dead, whatever their heartbeat says (the
    server holds the data directory's lock, so an earlier server's workers are gone).
    """
    if dead_prefix:
        Worker.objects.filter(id__startswith=dead_prefix).delete()
    put_back_orphans()
    queue_the_forgotten()
    DBTaskResult.objects.finished().filter(finished_at__lt=timezone.now() - KEEP_TASKS).delete()
    Worker.objects.exclude(id__in=Worker.alive()).delete()


def worker_name(kind: str) -> str:
    """A name no other worker has, before or after: process ids come again."""
    return f"{kind}-{platform.node()[:24]}-{os.getpid()}-{secrets.token_hex(4)}"


def _put_back(result: DBTaskResult) -> int:
    with transaction.atomic():
        running = DBTaskResult.objects.running().filter(pk=result.pk, worker_ids=result.worker_ids)
        put_back = running.update(status=TaskResultStatus.READY, started_at=None)
        waiting = Instance.objects.filter(pk=result.args_kwargs["args"][0], state=State.ANALYSING)
        for instance in waiting.select_related("study") if put_back else ():
            instance.state = State.WAITING
            instance.save(update_fields=["state"])
            instance.study.refresh_standing()
    return put_back


class WorkerThread:
    """Works the queue in a thread of this process, its lease kept alive by a second one."""

    def __init__(self, kind: str) -> None:
        self.id = worker_name(kind)
        self._stopping = threading.Event()
        self._queue_worker: QueueWorker | None = None
        self._work = threading.Thread(target=self._work_queue, name="worker", daemon=True)
        self._heart = threading.Thread(target=self._keep_lease, name="heart", daemon=True)

    def start(self) -> None:
        """Take the lease, then begin."""
        Worker.beat(self.id)
        self._heart.start()
        self._work.start()

    def stop(self, patience: float = 10.0) -> None:
        """Finish the film in hand; what takes longer than ``patience`` seconds is given back."""
        self._stopping.set()
        if self._queue_worker:
            self._queue_worker.running = False
        _work_came.set()
        self._work.join(patience)
        self._heart.join(patience)
        try:
            self._give_back()
            Worker.objects.filter(id=self.id).delete()
        except DatabaseError as error:  # a full disk; the next start takes over what is left
            logger.error("worker: not ended tidily: %s", traceback_of(error))

    def _work_queue(self) -> None:
        troubled = False
        while not self._stopping.is_set():
            _work_came.wait(POLL_SECONDS)
            _work_came.clear()
            try:
                if troubled:
                    self._give_back()
                troubled = False
                self._empty_queue()
            except Exception as error:  # noqa: BLE001 - the queue must go on whatever happens
                troubled = True
                logger.error("worker: %s", traceback_of(error))
                self._stopping.wait(PAUSE_SECONDS)
        connections.close_all()

    def _empty_queue(self) -> None:
        # A cheap look first: the claim below locks the whole SQLite database
        if not DBTaskResult.objects.ready().exists() or not have_model():
            return
        self._queue_worker = QueueWorker(
            queue_names=["default"],
            interval=0.1,
            batch=True,  # returns when the queue is empty
            backend_name="default",
            startup_delay=False,
            max_tasks=None,
            worker_id=self.id,
            excluded_queue_names=[],
        )
        self._queue_worker.running = not self._stopping.is_set()
        self._queue_worker.run()

    def _give_back(self) -> None:
        """A task still marked as ours when we are not at it would stay so for ever."""
        for result in DBTaskResult.objects.running():
            if result.worker_ids and result.worker_ids[-1] == self.id:
                _put_back(result)

    def _keep_lease(self) -> None:
        while not self._stopping.wait(BEAT_SECONDS):
            try:
                Worker.beat(self.id)
                put_back_orphans()
                queue_the_forgotten()
            except Exception as error:  # noqa: BLE001 - a beat missed is made up by the next
                logger.error("heart: %s", traceback_of(error))
            close_old_connections()
        connections.close_all()
