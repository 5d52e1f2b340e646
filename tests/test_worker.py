"""The queue: every film gets its answer once, whatever dies, and nothing stops the others."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import SimpleNamespace

import numpy as np
import pytest
from django.db import OperationalError
from django.utils import timezone
from django_tasks import TaskResultStatus
from django_tasks_db.models import DBTaskResult

from app import intake, worker
from app.cxr.release import UnusableRelease
from app.models import Finding, Instance, Patient, State, Study, Worker
from tests.studies import stored

pytestmark = pytest.mark.django_db(transaction=True)


def an_analysis(**other: object) -> SimpleNamespace:
    """What the pure core gives back, as far as the worker looks at it."""
    return SimpleNamespace(
        **{
            "answer": "likely",
            "model": "double@1",
            "probability": 0.9,
            "threshold": 0.4,
            "reason": None,
            "details": {},
            "regions": (
                SimpleNamespace(x=1, y=2, width=3, height=4, zone="right lower", score=0.8),
            ),
            "peak": (5, 6),
            "view_position": "PA",
            "age_years": None,
            "sex": None,
            "width": 100,
            "height": 80,
            "frames": 1,
            "milliseconds": 12.5,
            "activation_map": np.array([[0.12345, 1.0]], dtype=np.float32),
            "film": None,
            **other,
        }
    )


@pytest.fixture(autouse=True)
def quick(monkeypatch, data_dir):
    """A core that answers at once; pauses too short to wait for."""
    monkeypatch.setattr(worker, "analyse", lambda film, age: an_analysis())
    monkeypatch.setattr(worker, "have_model", lambda: True)
    monkeypatch.setattr(worker, "PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(worker, "POLL_SECONDS", 0.05)


@pytest.fixture
def film() -> Instance:
    return send(b"a film")


def send(content: bytes) -> Instance:
    return intake.receive(io.BytesIO(content), "film.png", "upload").instance


@contextmanager
def at_work(kind: str = "test") -> Iterator[worker.WorkerThread]:
    thread = worker.WorkerThread(kind)
    thread.start()
    try:
        yield thread
    finally:
        thread.stop()


def until(what: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)


def states() -> list[str]:
    return list(Instance.objects.order_by("pk").values_list("state", flat=True))


def run(instance: Instance) -> None:
    worker.analyse_instance.call(instance.pk)
    instance.refresh_from_db()


def left_running_by(worker_id: str, instance: Instance) -> DBTaskResult:
    task = DBTaskResult.objects.get()
    task.claim(worker_id)
    instance.begin_analysis()
    return task


class TestOneFilm:
    def test_its_finding_says_all_that_the_analysis_said(self, film):
        run(film)

        finding = film.finding
        assert film.state == State.ANSWERED
        assert (finding.answer, finding.probability, finding.threshold) == ("likely", 0.9, 0.4)
        assert (finding.peak_x, finding.peak_y) == (5, 6)
        assert finding.model == "double@1"
        assert finding.milliseconds == 12.5
        assert finding.regions == [
            {"x": 1, "y": 2, "width": 3, "height": 4, "zone": "right lower", "score": 0.8}
        ]
        assert finding.activation_map == [[0.123, 1.0]]
        assert (film.width, film.height, film.frames, film.view_position) == (100, 80, 1, "PA")

    @pytest.mark.parametrize(
        ("answer", "state"),
        [
            ("likely", State.ANSWERED),
            ("unlikely", State.ANSWERED),
            ("cannot_say", State.ANSWERED),
            ("refused", State.REFUSED),
            ("unreadable", State.UNREADABLE),
        ],
    )
    def test_its_state_follows_from_the_answer(self, film, monkeypatch, answer, state):
        monkeypatch.setattr(worker, "analyse", lambda *_: an_analysis(answer=answer))

        run(film)

        assert film.state == state
        assert film.study.status == state

    def test_unknown_stays_unknown(self, film, monkeypatch):
        nothing = an_analysis(
            answer="unreadable",
            reason="truncated",
            **dict.fromkeys(
                ["probability", "threshold", "peak", "width", "height", "frames", "activation_map"]
            ),
        )
        monkeypatch.setattr(worker, "analyse", lambda *_: nothing)

        run(film)

        finding = film.finding
        assert finding.reason == "truncated"
        assert finding.probability is None
        assert finding.threshold is None
        assert finding.peak_x is None
        assert finding.activation_map is None
        assert film.width is None

    def test_it_is_analysed_with_the_age_of_its_study(self, data_dir, monkeypatch):
        ages = []
        monkeypatch.setattr(worker, "analyse", lambda _, age: ages.append(age) or an_analysis())
        film = intake.receive(
            io.BytesIO(b"x"), "x", "upload", intake.Belonging(age_years=3.5)
        ).instance

        run(film)

        assert ages == [3.5]

    def test_its_study_learns_the_patient_from_the_film(self, film, monkeypatch):
        header = SimpleNamespace(
            patient_name="Ana", patient_id="7", sex="F", age_years=4.0, sop_instance_uid="1.2.3"
        )
        monkeypatch.setattr(worker, "analyse", lambda *_: an_analysis(film=header))

        run(film)

        study = film.study
        study.refresh_from_db()
        assert (study.patient.name, study.patient.number) == ("Ana", "7")
        assert (study.patient.sex, study.age_years) == ("F", 4.0)
        assert film.sop_instance_uid == "1.2.3"

    def test_what_a_person_said_of_the_patient_stands(self, film, monkeypatch):
        film.study.patient = Patient.objects.create(name="Maria")
        film.study.age_years = 0.0
        film.study.save()
        header = SimpleNamespace(patient_name="Ana", patient_id=None, sex=None, age_years=4.0)
        monkeypatch.setattr(worker, "analyse", lambda *_: an_analysis(film=header))

        run(film)

        film.study.refresh_from_db()
        assert film.study.patient.name == "Maria"
        assert film.study.age_years == 0.0  # a newborn's age is not an unknown one

    def test_a_film_that_is_gone_meanwhile_is_no_fault(self, film):
        film.study.delete()

        worker.analyse_instance.call(film.pk)

        assert not Finding.objects.exists()


class TestOnce:
    def test_a_task_run_twice_writes_one_finding(self, film):
        run(film)
        run(film)

        assert Finding.objects.count() == 1

    def test_two_workers_on_the_same_film_write_one_finding(self, film, monkeypatch):
        both_in = threading.Barrier(2)

        def slow(*_: object) -> SimpleNamespace:
            both_in.wait(30)
            return an_analysis()

        monkeypatch.setattr(worker, "analyse", slow)

        def work() -> None:
            from django.db import connections

            worker.analyse_instance.call(film.pk)
            connections.close_all()

        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert Finding.objects.count() == 1
        assert states() == [State.ANSWERED]

    def test_a_finding_that_came_meanwhile_stands(self, film, monkeypatch):
        def overtaken(*_: object) -> SimpleNamespace:
            Instance.objects.get(pk=film.pk).record(an_analysis(answer="unlikely"))
            return an_analysis(answer="likely")

        monkeypatch.setattr(worker, "analyse", overtaken)

        run(film)

        assert film.finding.answer == "unlikely"
        assert Finding.objects.count() == 1


class TestFaultsOfOurOwn:
    def broken(self, *_: object) -> None:
        raise ValueError("Ana Maria Lopez, born 2019")

    def test_a_fault_is_tried_again_a_few_times_and_then_given_up(self, film, monkeypatch):
        calls = []

        def broken(*_: object) -> None:
            calls.append(1)
            raise ValueError("no")

        monkeypatch.setattr(worker, "analyse", broken)
        with at_work():
            until(lambda: states() == [State.FAILED])

        assert len(calls) == worker.MOST_ATTEMPTS
        assert Study.objects.get().status == State.FAILED
        assert not Finding.objects.exists()

    def test_a_fault_that_passes_leaves_an_answer(self, film, monkeypatch):
        calls = []

        def broken_once(*_: object) -> SimpleNamespace:
            calls.append(1)
            if len(calls) == 1:
                raise MemoryError
            return an_analysis()

        monkeypatch.setattr(worker, "analyse", broken_once)
        with at_work():
            until(lambda: states() == [State.ANSWERED])

        assert len(calls) == 2

    def test_one_bad_film_does_not_stop_the_others(self, data_dir, monkeypatch):
        films = [send(bytes([n])) for n in range(5)]
        bad = stored(films[2])
        monkeypatch.setattr(
            worker, "analyse", lambda path, _: self.broken() if path == bad else an_analysis()
        )

        with at_work():
            until(lambda: not set(states()) & {State.WAITING, State.ANALYSING})

        assert states() == [
            State.ANSWERED,
            State.ANSWERED,
            State.FAILED,
            State.ANSWERED,
            State.ANSWERED,
        ]

    def test_the_log_says_where_and_not_whose(self, film, monkeypatch, caplog):
        monkeypatch.setattr(worker, "analyse", self.broken)

        run(film)

        assert "ValueError at test_worker.py" in caplog.text
        assert "Ana" not in caplog.text
        task_words = "".join(DBTaskResult.objects.values_list("traceback", flat=True))
        assert "Ana" not in task_words

    def test_the_cause_of_a_fault_is_told_too(self):
        def inner() -> None:
            raise KeyError("secret")

        def outer() -> None:
            try:
                inner()
            except KeyError as error:
                raise RuntimeError("secret") from error

        with pytest.raises(RuntimeError) as caught:
            outer()
        words = worker.traceback_of(caught.value)

        assert words.index("KeyError") < words.index("RuntimeError")
        assert "inner" in words
        assert "secret" not in words

    def test_a_film_that_ends_the_whole_process_is_not_tried_for_ever(self, film):
        for _ in range(worker.MOST_ATTEMPTS):
            film.begin_analysis()  # and then the process is gone

        run(film)

        assert film.state == State.FAILED

    def test_a_database_without_room_is_not_the_fault_of_the_film(self, film, monkeypatch):
        def no_room(*_: object) -> None:
            raise OperationalError("database or disk is full")

        monkeypatch.setattr(worker, "analyse", no_room)

        for _ in range(2 * worker.MOST_ATTEMPTS):
            run(film)

        assert (film.state, film.attempts) == (State.WAITING, 0)

    def test_a_fault_of_the_queue_itself_does_not_end_the_thread(self, film, monkeypatch):
        faults = [OperationalError("database is locked"), RuntimeError("anything")]
        real = worker.WorkerThread._empty_queue

        def faulty(self: worker.WorkerThread) -> None:
            if faults:
                raise faults.pop()
            real(self)

        monkeypatch.setattr(worker.WorkerThread, "_empty_queue", faulty)

        with at_work():
            until(lambda: states() == [State.ANSWERED])


class TestWithoutAModel:
    def test_films_wait_and_are_not_claimed(self, film, monkeypatch):
        looked = threading.Event()
        monkeypatch.setattr(worker, "have_model", lambda: bool(looked.set()))

        with at_work():
            assert looked.wait(30)
            time.sleep(0.1)

        assert states() == [State.WAITING]
        assert DBTaskResult.objects.get().worker_ids == []

    def test_they_are_answered_when_one_comes(self, film, monkeypatch):
        there = threading.Event()
        monkeypatch.setattr(worker, "have_model", there.is_set)

        with at_work():
            time.sleep(0.1)
            assert states() == [State.WAITING]
            there.set()
            until(lambda: states() == [State.ANSWERED])

    def test_a_model_lost_on_the_way_costs_the_film_nothing(self, film, monkeypatch):
        def lost(*_: object) -> None:
            raise UnusableRelease("release_file_changed")

        monkeypatch.setattr(worker, "analyse", lost)

        for _ in range(2 * worker.MOST_ATTEMPTS):
            run(film)

        assert (film.state, film.attempts) == (State.WAITING, 0)
        assert DBTaskResult.objects.ready().exists()


class TestTakingOver:
    def test_a_task_left_running_by_a_dead_worker_goes_back(self, film):
        left_running_by("dead", film)

        assert worker.put_back_orphans() == 1

        assert DBTaskResult.objects.get().status == TaskResultStatus.READY
        assert states() == [State.WAITING]

    def test_a_worker_whose_heart_stopped_is_dead(self, film):
        left_running_by("stopped", film)
        long_ago = timezone.now() - Worker.LEASE - timedelta(seconds=1)
        Worker.objects.create(id="stopped", heartbeat_at=long_ago)

        assert worker.put_back_orphans() == 1

    def test_a_task_of_a_living_worker_is_left_alone(self, film):
        left_running_by("alive", film)
        Worker.beat("alive")

        assert worker.put_back_orphans() == 0
        assert DBTaskResult.objects.get().status == TaskResultStatus.RUNNING
        assert states() == [State.ANALYSING]

    def test_a_clock_set_back_does_not_make_the_dead_live(self, film):
        left_running_by("dead", film)
        Worker.objects.create(id="dead", heartbeat_at=timezone.now() + timedelta(days=365))

        assert worker.put_back_orphans() == 1

    def test_an_earlier_server_is_known_to_be_dead_at_once(self, film):
        left_running_by("serve-host-1-x", film)
        Worker.beat("serve-host-1-x")

        worker.recover(dead_prefix="serve-")

        assert DBTaskResult.objects.get().status == TaskResultStatus.READY

    def test_a_worker_process_beside_the_server_keeps_its_task(self, film):
        left_running_by("worker-host-1-x", film)
        Worker.beat("worker-host-1-x")

        worker.recover(dead_prefix="serve-")

        assert DBTaskResult.objects.get().status == TaskResultStatus.RUNNING

    def test_what_was_taken_over_gets_its_answer(self, film):
        left_running_by("dead", film)
        worker.recover()

        with at_work():
            until(lambda: states() == [State.ANSWERED])

        assert Finding.objects.count() == 1

    @pytest.mark.parametrize("state", [State.WAITING, State.ANALYSING])
    def test_a_film_without_a_task_gets_one(self, film, state):
        DBTaskResult.objects.all().delete()
        Instance.objects.update(state=state)

        assert worker.queue_the_forgotten() == 1
        assert worker.queue_the_forgotten() == 0

        with at_work():
            until(lambda: states() == [State.ANSWERED])

    def test_a_film_with_its_answer_gets_no_task(self, film):
        run(film)
        DBTaskResult.objects.all().delete()

        assert worker.queue_the_forgotten() == 0

    def test_a_living_thread_takes_over_from_a_dead_one(self, film, monkeypatch):
        left_running_by("dead", film)
        monkeypatch.setattr(worker, "BEAT_SECONDS", 0.05)

        with at_work():
            until(lambda: states() == [State.ANSWERED])

    def test_old_tasks_are_cleared_away_and_young_ones_kept(self, film):
        with at_work():
            until(lambda: DBTaskResult.objects.finished().exists())
        worker.recover()
        assert DBTaskResult.objects.count() == 1

        DBTaskResult.objects.update(finished_at=timezone.now() - timedelta(days=2))
        worker.recover()
        assert DBTaskResult.objects.count() == 0


class TestTheThread:
    def test_it_answers_what_comes_while_it_waits(self, data_dir, monkeypatch):
        # So long a poll that only the wake-up at the commit can have done it
        monkeypatch.setattr(worker, "POLL_SECONDS", 3600)
        with at_work():
            time.sleep(0.05)
            send(b"late")
            until(lambda: states() == [State.ANSWERED])

    def test_it_answers_a_batch_in_the_order_it_came(self, data_dir, monkeypatch):
        order = []
        monkeypatch.setattr(worker, "analyse", lambda path, _: order.append(path) or an_analysis())
        films = [send(bytes([n])) for n in range(10)]

        with at_work():
            until(lambda: set(states()) == {State.ANSWERED})

        assert order == [stored(film) for film in films]

    def test_its_heart_beats_while_it_works(self, film, monkeypatch):
        monkeypatch.setattr(worker, "BEAT_SECONDS", 0.05)
        enough = threading.Event()
        monkeypatch.setattr(worker, "analyse", lambda *_: enough.wait(60) and an_analysis())

        with at_work() as thread:
            until(lambda: states() == [State.ANALYSING])
            first = Worker.objects.get(id=thread.id).heartbeat_at
            until(lambda: Worker.objects.get(id=thread.id).heartbeat_at > first)
            enough.set()

    def test_when_stopped_it_finishes_the_film_in_hand_and_leaves_the_rest(
        self, data_dir, monkeypatch
    ):
        begun, go_on = threading.Event(), threading.Event()

        def slow(*_: object) -> SimpleNamespace:
            begun.set()
            go_on.wait(60)
            return an_analysis()

        monkeypatch.setattr(worker, "analyse", slow)
        send(b"1")
        send(b"2")
        thread = worker.WorkerThread("test")
        thread.start()
        assert begun.wait(60)
        threading.Timer(0.1, go_on.set).start()

        thread.stop()

        assert states() == [State.ANSWERED, State.WAITING]
        assert not DBTaskResult.objects.running().exists()
        assert not Worker.objects.exists()

    def test_when_stopped_it_gives_back_a_film_that_takes_too_long(self, film, monkeypatch):
        begun, go_on = threading.Event(), threading.Event()

        def slow(*_: object) -> SimpleNamespace:
            begun.set()
            go_on.wait(60)
            return an_analysis()

        monkeypatch.setattr(worker, "analyse", slow)
        thread = worker.WorkerThread("test")
        thread.start()
        assert begun.wait(60)

        thread.stop(patience=0.1)

        assert DBTaskResult.objects.get().status == TaskResultStatus.READY
        assert states() == [State.WAITING]
        go_on.set()
        thread._work.join(60)

    def test_two_threads_share_a_queue_without_doing_a_film_twice(self, data_dir, monkeypatch):
        done = []
        monkeypatch.setattr(worker, "analyse", lambda path, _: done.append(path) or an_analysis())
        for n in range(20):
            send(bytes([n]))

        with at_work(), at_work():
            until(lambda: set(states()) == {State.ANSWERED})

        assert len(done) == len(set(done)) == Finding.objects.count() == 20

    def test_names_of_workers_never_repeat(self):
        names = {worker.worker_name("serve") for _ in range(100)}

        assert len(names) == 100
        assert all(len(name) <= 64 and name.startswith("serve-") for name in names)
