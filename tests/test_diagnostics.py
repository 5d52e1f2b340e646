"""The one file to send when something is wrong: it helps, and it names nobody."""

from __future__ import annotations

import io
import os
import sqlite3
import zipfile
from contextlib import closing
from pathlib import Path

import pytest

from app import checks, diagnostics, machine
from app.models import Instance, Study
from tests.test_serve import end_politely, run, serving
from tests.test_startup import NoModel

NAME, FILE, PERSON = "Wanjiru Otieno", "otieno wanjiru.dcm", "Kwabena Mensah"


class NoRelease(NoModel):
    release = None


def contents(file: bytes) -> dict[str, str]:
    with zipfile.ZipFile(io.BytesIO(file)) as packed:
        return {name: packed.read(name).decode() for name in packed.namelist()}


@pytest.fixture
def clinic(tmp_path, settings, monkeypatch) -> Path:
    """A data directory in the home of somebody with a name, with a database and logs."""
    monkeypatch.setenv("HOME", str(tmp_path / PERSON))
    folder = tmp_path / PERSON / "of Wanjiru"
    (folder / "logs").mkdir(parents=True)
    settings.DATA_DIR, settings.LOG_DIR = folder, folder / "logs"
    settings.DATABASE_FILE = folder / "clinic.sqlite3"
    monkeypatch.setattr(checks, "model", NoRelease())
    return folder


@pytest.fixture
def patients(clinic) -> None:
    with closing(sqlite3.connect(clinic / "clinic.sqlite3")) as database:
        database.execute("CREATE TABLE clinic_study (patient_name, note)")
        database.execute("CREATE TABLE clinic_instance (file_name)")
        database.execute("CREATE TABLE django_migrations (id, app, name)")
        database.execute("INSERT INTO clinic_study VALUES (?, ?)", [NAME, NAME])
        database.execute("INSERT INTO clinic_instance VALUES (?)", [FILE])
        database.execute("INSERT INTO django_migrations VALUES (1, 'clinic', '0001_initial')")
        database.commit()


class TestWhatItHolds:
    def test_program_computer_data_and_database(self, patients):
        report = diagnostics.report()

        for words in ("ClinicCXR ", "Python ", "system: ", "memory: ", "processor features: "):
            assert words in report
        assert "MB free" in report
        assert "clinic.0001_initial" in report
        assert "clinic_study: 1 rows" in report
        assert "largest film: 512 MB" in report

    def test_the_faults_that_were_found_in_the_words_of_the_program(self, clinic):
        assert "Fault MODEL" in diagnostics.report()
        assert "Fault DISK" in diagnostics.report(
            [checks.Problem("disk_nearly_full", {"free": "1", "reserve": "500"})]
        )
        assert "it is so" in diagnostics.report(fault="Fault DATA: it is so")

    def test_the_model_and_the_hash_of_its_manifest(self, clinic, monkeypatch):
        from app.active_model import ActiveModel

        model = ActiveModel(clinic)
        if not model.release:
            pytest.skip("no factory release in this tree")
        monkeypatch.setattr(checks, "model", model)

        report = diagnostics.report()

        assert model.label in report
        assert "manifest SHA-256: " in report

    def test_the_logs_the_older_ones_too_and_nothing_else_of_that_folder(self, clinic):
        for name in ("clinic.log", "clinic.log.1", "worker.log", f"{NAME}.txt", "clinic.log.bak"):
            (clinic / "logs" / name).write_text("a line\n")

        names = contents(diagnostics.archive()).keys()

        assert names == {
            "diagnostics.txt",
            "logs/clinic.log",
            "logs/clinic.log.1",
            "logs/worker.log",
        }


class TestWhatItDoesNotHold:
    def test_no_patient_no_file_name_and_nobody_who_works_here(self, clinic, patients):
        (clinic / "logs" / "clinic.log").write_text(
            f"WARNING stopped at the start: cannot write into {clinic}\n"
            f"INFO {Path.home()}/elsewhere and /media/{PERSON}/STICK\n"
        )
        (clinic / "films").mkdir()
        (clinic / "films" / FILE).write_text("a film")
        (clinic / "secret.key").write_text("the secret of this clinic")

        for name, text in contents(diagnostics.archive(fault=f"no room in {clinic}")).items():
            for part in (*NAME.split(), *FILE.split(), *PERSON.split(), "the secret"):
                assert part.lower() not in text.lower(), f"{part} in {name}:\n{text}"

    def test_a_name_that_is_there_would_be_seen(self, clinic):
        (clinic / "logs" / "clinic.log").write_text(f"a log that names {NAME}")

        assert NAME in contents(diagnostics.archive())["logs/clinic.log"]

    @pytest.mark.django_db(transaction=True)
    def test_the_real_program_logs_and_sends_no_name(self, tmp_path):
        home = tmp_path / PERSON
        with serving(home) as (at, process):
            from tests.running import Visitor

            film = tmp_path / FILE
            film.write_bytes(b"no film, of " + NAME.encode())
            visitor = Visitor(at)
            visitor.set_up()
            study = visitor.upload(film)
            visitor.wait_for_answer(study)
            with closing(sqlite3.connect(home / "clinic.sqlite3", timeout=20)) as database:
                database.execute(
                    "INSERT INTO clinic_patient (name, number, sex, created_at, search_text)"
                    " VALUES (?, ?, '', '2026-01-01', '')",
                    [NAME, NAME],
                )
                database.execute("UPDATE clinic_study SET note=?", [NAME])
                database.commit()
            with visitor.opener.open(f"{at}/diagnostics", timeout=60) as response:
                assert response.headers["Content-Type"] == "application/zip"
                file = response.read()
            assert end_politely(process) == 0

        found = contents(file)
        assert "logs/clinic.log" in found
        assert "clinic_instance: 1 rows" in found["diagnostics.txt"]
        for part in (*NAME.split(), "otieno", *PERSON.split()):
            assert not [name for name, text in found.items() if part.lower() in text.lower()]


class TestWhereThingsAreBroken:
    def test_a_database_that_is_none_is_said_to_be_unreadable(self, clinic):
        (clinic / "clinic.sqlite3").write_bytes(NAME.encode() * 1000)

        report = diagnostics.report()

        assert "cannot be read: DatabaseError" in report
        assert "Fault DATABASE" in report
        assert NAME not in report

    def test_without_any_data_it_is_written_all_the_same(self, tmp_path, settings, monkeypatch):
        settings.DATA_DIR = tmp_path / "gone"
        settings.LOG_DIR = settings.DATA_DIR / "logs"
        settings.DATABASE_FILE = settings.DATA_DIR / "clinic.sqlite3"
        monkeypatch.setattr(checks, "model", NoRelease())

        assert "none yet" in diagnostics.report()


class TestTheWaysToIt:
    @pytest.mark.django_db
    def test_every_page_has_a_link_to_it(self, data_dir, client):
        page = client.get("/").content.decode()

        assert 'href="/diagnostics"' in page

    def test_check_writes_it(self, tmp_path):
        target = tmp_path / "to send.zip"

        result = run("check", "--data-dir", str(tmp_path / "data"), "--diagnostics", str(target))

        assert f"Written: {target}" in result.stdout
        assert "diagnostics.txt" in contents(target.read_bytes())

    def test_check_writes_it_where_the_data_directory_is_the_fault(self, tmp_path):
        (tmp_path / "data").write_text("in the way")
        target = tmp_path / "to send.zip"

        result = run("check", "--data-dir", str(tmp_path / "data"), "--diagnostics", str(target))

        assert result.returncode == 1
        assert result.stderr.startswith("Fault DATA")
        assert "Fault DATA" in contents(target.read_bytes())["diagnostics.txt"]

    def test_a_place_that_cannot_be_written_is_said(self, tmp_path):
        target = tmp_path / "no folder" / "a.zip"

        result = run("check", "--data-dir", str(tmp_path / "data"), "--diagnostics", str(target))

        assert result.returncode == 1
        assert "cannot be written" in result.stderr


class TestTheComputer:
    def test_its_memory_is_known_here(self):
        total, free = machine.memory()

        assert total > 500
        assert free is None or 0 < free <= total

    @pytest.mark.parametrize(
        ("flags", "old"),
        [
            ("fpu sse4_1 sse4_2 avx", True),
            ("fpu sse4_1 sse4_2 avx avx2 avx512f", False),
            ("fpu sse sse2", True),
            ("fp asimd evtstrm", False),  # another make
            ("", False),
        ],
    )
    def test_a_processor_without_avx2_is_an_old_one(self, tmp_path, monkeypatch, flags, old):
        cpuinfo = tmp_path / "cpuinfo"
        cpuinfo.write_text(f"processor\t: 0\nmodel name\t: A Processor\nflags\t\t: {flags}\n")
        monkeypatch.setattr(machine, "CPUINFO", cpuinfo)
        monkeypatch.setattr(machine.sys, "platform", "linux")

        assert machine.is_old_processor() is old
        assert bool(checks.notes()) is old
        assert machine.processor_name() == "A Processor"

    def test_a_computer_that_does_not_say_is_not_called_old(self, tmp_path, monkeypatch):
        monkeypatch.setattr(machine, "CPUINFO", tmp_path / "none")
        monkeypatch.setattr(machine.sys, "platform", "linux")

        assert machine.processor_features() is None
        assert checks.notes() == []


def test_the_counts_of_a_real_database_are_right(tmp_path):
    with serving(tmp_path / "data") as (_, process):
        end_politely(process)
    result = run(
        "check", "--data-dir", str(tmp_path / "data"), "--diagnostics", str(tmp_path / "a")
    )

    report = contents((tmp_path / "a").read_bytes())["diagnostics.txt"]
    assert result.returncode == 0, result.stderr
    for model in (Study, Instance):
        assert f"{model._meta.db_table}: 0 rows" in report
    assert os.sep + "data" not in report
