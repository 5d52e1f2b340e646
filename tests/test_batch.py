"""Films that wait together: how far they are, how long it takes, how they are stopped."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from app.models import AuditEvent, Batch, Finding, Instance, State, Study
from tests.people import enter
from tests.studies import answer, film_bytes, take_in

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("data_dir")]


def taken_in(count: int, first: int = 100) -> list[Study]:
    return [take_in(film_bytes(seed, (64, 64))) for seed in range(first, first + count)]


def found_ago(*seconds: float) -> None:
    """The newest findings were made so many seconds ago, the oldest of them first."""
    findings = list(Finding.objects.order_by("-id")[: len(seconds)])
    for finding, ago in zip(reversed(findings), seconds, strict=True):
        Finding.objects.filter(pk=finding.pk).update(
            created_at=timezone.now() - timedelta(seconds=ago)
        )


class TestProgress:
    def test_there_is_none_where_nothing_waits(self):
        answer(take_in())

        assert Batch.current() is None

    def test_it_counts_what_is_done_of_all(self):
        first, _second, _third = taken_in(3)
        answer(first)

        batch = Batch.current()
        assert batch
        assert (batch.films, batch.waiting, batch.done) == (3, 2, 1)

    def test_a_film_that_comes_meanwhile_joins(self):
        first, _ = taken_in(2)
        answer(first)
        taken_in(1, first=200)

        batch = Batch.current()
        assert batch
        assert (batch.films, batch.done) == (3, 1)

    def test_a_new_batch_begins_once_nothing_waits_any_more(self):
        for study in taken_in(3):
            answer(study)
        taken_in(2, first=200)

        batch = Batch.current()
        assert batch
        assert (batch.films, batch.done) == (2, 0)

    def test_an_old_film_that_is_to_be_read_again_brings_nothing_of_its_time_along(self):
        old, *_ = [answer(study) for study in taken_in(3)]
        old.instances.get().try_again()

        batch = Batch.current()
        assert batch
        assert (batch.films, batch.waiting) == (1, 1)

    def test_films_that_wait_since_before_batches_were_known_are_counted(self):
        taken_in(2)
        Instance.objects.update(batch_at=None)

        batch = Batch.current()
        assert batch
        assert (batch.films, batch.waiting, batch.seconds_left) == (2, 2, None)

    def test_a_last_film_that_is_answered_while_it_looks_ends_the_batch(self):
        (last,) = taken_in(1)
        asked: list[str] = []

        def answer_meanwhile(execute, sql, params, many, context):
            result = execute(sql, params, many, context)
            if "batch_at" in sql and not asked:
                asked.append(sql)
                answer(last)
            return result

        with connection.execute_wrapper(answer_meanwhile):
            assert Batch.current() is None
        assert asked

    def test_it_asks_no_more_of_the_database_for_many_films_than_for_few(self):
        def queries() -> int:
            with CaptureQueriesContext(
                connection,
            ) as captured:
                Batch.current()
            return len(captured)

        taken_in(1)
        few = queries()
        taken_in(6, first=200)
        assert queries() == few


class TestTimeLeft:
    def test_nobody_can_say_before_some_films_are_done(self):
        studies = taken_in(4)
        for study in studies[:2]:
            answer(study)

        batch = Batch.current()
        assert batch
        assert batch.seconds_left is None

    def test_it_goes_by_the_pace_of_the_last_films(self):
        studies = taken_in(7)
        Instance.objects.update(batch_at=timezone.now() - timedelta(minutes=5))
        for study in studies[:3]:
            answer(study)
        found_ago(20, 10, 0)

        batch = Batch.current()
        assert batch
        # 4 films wait, at 10 seconds each
        assert batch.seconds_left == pytest.approx(40, abs=2)

    def test_a_stop_makes_it_longer(self):
        studies = taken_in(7)
        Instance.objects.update(batch_at=timezone.now() - timedelta(minutes=5))
        for study in studies[:3]:
            answer(study)
        found_ago(140, 130, 120)

        batch = Batch.current()
        assert batch
        assert batch.seconds_left == pytest.approx(280, abs=5)

    def test_films_of_an_earlier_batch_say_nothing_of_the_pace(self):
        for study in taken_in(4):
            answer(study)
        found_ago(4000, 3990, 3980, 3970)
        taken_in(2, first=200)

        batch = Batch.current()
        assert batch
        assert batch.seconds_left is None

    def test_a_clock_set_back_gives_no_time_below_nothing(self):
        studies = taken_in(5)
        for study in studies[:3]:
            answer(study)
        found_ago(-3600, -3600, -3600)

        batch = Batch.current()
        assert batch
        assert batch.seconds_left == 0


class TestCancel:
    def test_every_film_that_waits_is_left_as_it_is(self, site):
        nurse = enter("health_worker")
        done, *waiting = taken_in(4)
        answer(done)

        assert Batch.cancel(nurse) == 3
        states = Instance.objects.order_by("pk").values_list("state", flat=True)
        assert list(states) == [State.ANSWERED, *[State.CANCELLED] * 3]
        assert all(Study.objects.get(pk=s.pk).status == State.CANCELLED for s in waiting)
        assert Batch.current() is None

    def test_it_is_written_down_for_every_film(self, site):
        nurse = enter("health_worker")
        taken_in(2)
        Batch.cancel(nurse)

        events = AuditEvent.objects.filter(action="analysis_cancelled", user=nurse)
        assert events.count() == 2

    def test_the_film_that_is_being_read_is_read_to_its_end(self):
        first, _ = taken_in(2)
        first.instances.get().begin_analysis()

        assert Batch.cancel(None) == 1
        assert answer(first).answer == "likely"

    def test_it_can_be_asked_for_twice(self):
        taken_in(2)
        Batch.cancel(None)

        assert Batch.cancel(None) == 0
        assert AuditEvent.objects.filter(action="analysis_cancelled").count() == 2

    def test_it_cancels_more_films_than_it_takes_in_one_transaction(self, monkeypatch):
        monkeypatch.setattr("app.models.batch.CANCELLED_AT_ONCE", 2)
        taken_in(5)

        assert Batch.cancel(None) == 5


class TestAskAgain:
    @pytest.mark.parametrize("state", [State.CANCELLED, State.FAILED])
    def test_a_film_without_an_answer_waits_again(self, site, state):
        film = take_in().instances.get()
        Instance.objects.update(state=state, attempts=3)
        nurse = enter("health_worker")

        assert film.ask_again(nurse)
        film.refresh_from_db()
        assert (film.state, film.attempts) == (State.WAITING, 0)
        assert Study.objects.get().status == State.WAITING
        event = AuditEvent.objects.get(action="analysis_asked_for")
        assert (event.user, event.subject) == (nurse, film.study.number)

    @pytest.mark.parametrize("state", set(State) - {State.CANCELLED, State.FAILED})
    def test_any_other_film_stays_as_it_is(self, state):
        film = take_in().instances.get()
        Instance.objects.update(state=state)

        assert not film.ask_again(None)
        assert Instance.objects.get().state == state
        assert not AuditEvent.objects.filter(action="analysis_asked_for").exists()
