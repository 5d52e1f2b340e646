"""What /metrics says, and to whom."""

from __future__ import annotations

import logging
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from app import monitoring
from app.models import Delivery, Instance, Peer, Worker
from tests.studies import answered, film_bytes, take_in

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("data_dir", "site")]
TOKEN = "0123456789abcdefghij"


@pytest.fixture
def figures(monkeypatch):
    """As a process that has just started."""
    begun = monitoring.Figures()
    monkeypatch.setattr(monitoring, "figures", begun)
    begun.text()
    yield begun
    logging.getLogger("app").removeHandler(begun.errors)


def said(name: str) -> list[str]:
    """The lines of one figure."""
    lines = Client().get("/metrics").content.decode().splitlines()
    return [line for line in lines if line.startswith(name)]


class TestWhatIsSaid:
    def test_how_many_films_wait_and_since_when(self, figures):
        take_in()
        take_in(film_bytes(2))
        Instance.objects.update(batch_at=timezone.now() - timedelta(minutes=5))

        assert said("clinic_queue_ready") == ["clinic_queue_ready 2.0"]
        assert said("clinic_films{") == ['clinic_films{state="waiting"} 2.0']
        (waits,) = said("clinic_oldest_waiting_seconds")
        assert 300 <= float(waits.split()[1]) < 400

    def test_nothing_waits_since_no_time(self, figures):
        assert said("clinic_oldest_waiting_seconds") == ["clinic_oldest_waiting_seconds 0.0"]

    def test_answers_and_how_long_they_took_are_counted_once(self, figures):
        answered(milliseconds=40.0)
        for _ in range(2):
            assert said("clinic_answers_total") == ['clinic_answers_total{answer="likely"} 1.0']
            assert 'clinic_analysis_seconds_bucket{le="0.05"} 1.0' in said("clinic_analysis")
            assert 'clinic_analysis_seconds_bucket{le="0.025"} 0.0' in said("clinic_analysis")
            assert 'clinic_analysis_seconds_bucket{le="+Inf"} 1.0' in said("clinic_analysis")
            assert "clinic_analysis_seconds_sum 0.04" in said("clinic_analysis")

    def test_what_was_there_before_the_start_is_not_counted_as_new(self, monkeypatch):
        answered(milliseconds=40.0)
        begun = monitoring.Figures()
        monkeypatch.setattr(monitoring, "figures", begun)
        assert said("clinic_answers_total") == []
        assert said("clinic_films{") == ['clinic_films{state="answered"} 1.0']
        logging.getLogger("app").removeHandler(begun.errors)

    def test_films_are_counted_by_the_way_they_came(self, figures):
        take_in()
        Instance.objects.update(source="dicom")
        assert 'clinic_films_received_total{source="dicom"} 1.0' in said("clinic_films_received")

    def test_a_worker_whose_lease_ran_out_is_not_alive(self, figures):
        Worker.beat("one")
        Worker.beat("two")
        assert said("clinic_workers") == ["clinic_workers 2.0"]
        Worker.objects.filter(id="two").update(heartbeat_at=timezone.now() - 2 * Worker.LEASE)
        assert said("clinic_workers") == ["clinic_workers 1.0"]

    def test_results_that_wait_to_be_sent(self, figures):
        peer = Peer.objects.create(name="Archive", ae_title="ARCHIVE", host="10.0.0.5", port=104)
        Delivery.objects.create(study=answered(), peer=peer, kind="dicom")
        assert 'clinic_deliveries{state="waiting"} 1.0' in said("clinic_deliveries")

    def test_errors_of_this_process(self, figures):
        before = float(said("clinic_errors_total")[0].split()[1])
        logging.getLogger("app.worker").error("something failed")
        assert float(said("clinic_errors_total")[0].split()[1]) == before + 1

    def test_the_room_that_is_left_and_the_size_of_the_database(self, figures, data_dir, settings):
        settings.DATABASE_FILE = data_dir / "clinic.sqlite3"
        settings.DATABASE_FILE.write_bytes(bytes(1000))
        settings.DATABASE_FILE.with_name("clinic.sqlite3-wal").write_bytes(bytes(24))
        assert said("clinic_database_bytes") == ["clinic_database_bytes 1024.0"]
        assert float(said("clinic_disk_free_bytes")[0].split()[1]) > 0

    def test_no_patient_is_in_it(self, figures):
        study = answered()
        study.note = "Amina Otieno"
        study.save()
        text = Client().get("/metrics").content.decode()
        assert "Amina" not in text
        assert study.number not in text
        assert "film.png" not in text


class TestToWhom:
    def test_this_computer_may_ask(self, figures):
        response = Client().get("/metrics")
        assert response.status_code == 200
        assert response["Content-Type"].startswith("text/plain")

    @pytest.mark.parametrize(
        ("headers", "status"),
        [
            ({}, 404),
            ({"Authorization": f"Bearer {TOKEN}"}, 200),
            ({"Authorization": f"Bearer {TOKEN}x"}, 404),
            ({"Authorization": "Bearer "}, 404),
        ],
    )
    def test_another_machine_says_the_token(self, figures, settings, headers, status):
        settings.METRICS_TOKEN = TOKEN
        response = Client(REMOTE_ADDR="10.0.0.7").get("/metrics", headers=headers)
        assert response.status_code == status

    def test_without_a_token_no_other_machine_may(self, figures):
        response = Client(REMOTE_ADDR="10.0.0.7").get("/metrics", headers={"Authorization": ""})
        assert response.status_code == 404

    def test_where_a_proxy_is_trusted_nobody_is_this_computer(self, figures, settings):
        settings.TRUSTED_PROXY = "127.0.0.1"
        assert Client().get("/metrics").status_code == 404

    def test_a_program_without_the_package_has_no_such_page(self, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "prometheus_client", None)
        assert Client().get("/metrics").status_code == 404
