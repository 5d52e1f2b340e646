"""Where films are kept: the data directory, a share, a bucket."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import FileSystemStorage

from app import films, options, worker
from app.cxr.analysis import Analysis
from app.films import FolderPlace, Place, StoragePlace, Unreachable
from app.models import Instance, State
from app.options import BadSetting, Bucket
from tests.running import ROOT
from tests.studies import film_bytes, stored, take_in

FILM = b"a film"
DIGEST = hashlib.sha256(FILM).hexdigest()


@pytest.fixture(scope="session")
def bucket() -> Iterator[Bucket]:
    """A bucket of an S3 server on this machine."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    before = dict(os.environ)
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    import boto3

    boto3.client("s3").create_bucket(Bucket="films")
    yield Bucket("films", "clinic")
    server.stop()
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(params=["folder", "share", "storage", "s3"])
def place(request: pytest.FixtureRequest, data_dir: Path) -> Place:
    if request.param == "folder":
        found: Place = FolderPlace(data_dir)
    elif request.param == "share":
        found = FolderPlace(data_dir / "share", is_shared=True)
        (data_dir / "share").mkdir()
    elif request.param == "storage":
        found = StoragePlace(FileSystemStorage(data_dir / "storage"))
    else:
        found = films.place_at(request.getfixturevalue("bucket"))
        found.remove(DIGEST)
    found.prepare(True)
    return found


@pytest.fixture
def film(tmp_path: Path) -> Path:
    path = tmp_path / "film"
    path.write_bytes(FILM)
    return path


class TestEveryPlace:
    def test_what_is_kept_comes_back_as_it_was(self, place, film):
        place.keep(film, DIGEST)

        assert place.is_kept(DIGEST)
        with place.local(DIGEST) as found:
            assert found.read_bytes() == FILM

    def test_the_same_film_again_changes_nothing(self, place, film, tmp_path):
        place.keep(film, DIGEST)
        again = tmp_path / "again"
        again.write_bytes(FILM)
        place.keep(again, DIGEST)

        assert list(place.digests()) == [DIGEST]

    def test_a_film_that_is_not_there_has_no_file(self, place):
        assert not place.is_kept(DIGEST)
        with place.local(DIGEST) as found:
            assert not found.exists()

    def test_what_is_removed_is_gone(self, place, film):
        place.keep(film, DIGEST)
        place.remove(DIGEST)
        place.remove(DIGEST)

        assert not place.is_kept(DIGEST)

    def test_it_lists_its_films(self, place, film, tmp_path):
        place.keep(film, DIGEST)
        other = tmp_path / "other"
        other.write_bytes(b"other")
        digest = hashlib.sha256(b"other").hexdigest()
        place.keep(other, digest)

        assert {DIGEST, digest} <= set(place.digests())
        place.remove(digest)


class TestAShare:
    def test_one_that_is_not_mounted_is_not_taken_for_one_without_films(self, tmp_path):
        place = FolderPlace(tmp_path, is_shared=True)
        for ask in (place.is_kept, place.remove, lambda sha: place.local(sha).__enter__()):
            with pytest.raises(Unreachable):
                ask(DIGEST)

    def test_nothing_is_written_to_one_that_is_not_mounted(self, tmp_path, film):
        with pytest.raises(Unreachable):
            FolderPlace(tmp_path / "share", is_shared=True).keep(film, DIGEST)
        assert not (tmp_path / "share").exists()

    def test_it_is_not_made_anew_while_there_are_films(self, tmp_path):
        with pytest.raises(Unreachable):
            FolderPlace(tmp_path, is_shared=True).prepare(False)
        assert not list(tmp_path.iterdir())

    def test_a_disk_that_fills_up_leaves_no_half_film(self, tmp_path, film, monkeypatch):
        share = tmp_path / "share"
        share.mkdir()
        place = FolderPlace(share, is_shared=True)
        place.prepare(True)

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("app.films.shutil.copyfileobj", full)
        with pytest.raises(OSError, match="No space"):
            place.keep(film, DIGEST)
        assert not [path for path in share.rglob("*") if path.is_file()]


class Broken(FileSystemStorage):
    """A storage of which one method fails in the words of its own library."""

    def __init__(self, folder: Path, method: str) -> None:
        super().__init__(folder)
        setattr(self, method, self._fail)

    def _fail(self, *_args: Any, **_kwargs: Any) -> Any:
        raise RuntimeError("EndpointConnectionError")


class TestAStorage:
    @pytest.mark.parametrize(
        ("method", "ask"),
        [
            ("open", lambda place, _: place.local(DIGEST).__enter__()),
            ("exists", lambda place, _: place.is_kept(DIGEST)),
            ("delete", lambda place, _: place.remove(DIGEST)),
            ("listdir", lambda place, _: list(place.digests())),
            ("save", lambda place, film: place.keep(film, DIGEST)),
        ],
    )
    def test_its_own_faults_say_that_it_cannot_be_had(self, data_dir, film, method, ask):
        with pytest.raises(Unreachable):
            ask(StoragePlace(Broken(data_dir / "storage", method)), film)

    def test_what_it_garbles_is_not_kept(self, data_dir, film):
        storage = FileSystemStorage(data_dir / "storage")
        place = StoragePlace(storage)
        with pytest.raises(Unreachable):
            place.keep(film, "0" * 64)
        assert not place.is_kept("0" * 64)

    def test_a_film_that_came_to_harm_there_is_not_handed_out(self, data_dir, film):
        place = StoragePlace(FileSystemStorage(data_dir / "storage"))
        place.keep(film, DIGEST)
        (data_dir / "storage" / films.name_of(DIGEST)).write_bytes(b"other")
        with pytest.raises(OSError, match="not whole"), place.local(DIGEST):
            pytest.fail("it was handed out")

    def test_one_that_came_to_harm_is_put_right_when_it_comes_again(self, data_dir, film):
        place = StoragePlace(FileSystemStorage(data_dir / "storage"))
        place.keep(film, DIGEST)
        (data_dir / "storage" / films.name_of(DIGEST)).write_bytes(b"other")
        place.keep(film, DIGEST)
        with place.local(DIGEST) as found:
            assert found.read_bytes() == FILM


@pytest.mark.django_db(transaction=True)
class TestTheProgram:
    def test_a_film_waits_while_its_place_cannot_be_had(self, data_dir, settings, monkeypatch):
        settings.FILM_FOLDER = data_dir / "share"
        settings.FILM_FOLDER.mkdir()
        films.prepare(True)
        film = take_in().instances.get()
        (settings.FILM_FOLDER / "films").rename(settings.FILM_FOLDER / "away")

        worker.analyse_instance.func(film.pk)
        film.refresh_from_db()
        assert (film.state, film.attempts) == (State.WAITING, 0)

        (settings.FILM_FOLDER / "away").rename(settings.FILM_FOLDER / "films")
        found = Analysis(answer="refused", model="m@1", milliseconds=1.0, reason="too_small")
        monkeypatch.setattr(worker, "analyse", lambda path, _: path.read_bytes() and found)
        worker.analyse_instance.func(film.pk)
        film.refresh_from_db()
        assert film.state == State.REFUSED

    def test_films_are_taken_into_the_share(self, data_dir, settings):
        settings.FILM_FOLDER = data_dir / "share"
        settings.FILM_FOLDER.mkdir()
        films.prepare(True)
        film = take_in().instances.get()

        kept = settings.FILM_FOLDER / films.name_of(film.sha256)
        assert kept.read_bytes() == film_bytes()
        assert not stored(film).exists()

    def test_films_are_taken_into_a_bucket(self, data_dir, settings, bucket):
        settings.STORAGES = options.storages(bucket)
        study = take_in(film_bytes(7))
        film = study.instances.get()

        with films.local(film.sha256) as path:
            assert path.read_bytes() == film_bytes(7)
        study.delete_for("entered twice", by=None)
        assert not films.is_kept(film.sha256)
        assert not Instance.objects.exists()


class TestTheSetting:
    @pytest.mark.parametrize(
        ("said", "storage"),
        [
            ("/mnt/films", Path("/mnt/films")),
            ("s3://films", Bucket("films", "")),
            ("s3://films/clinic/one/", Bucket("films", "clinic/one")),
        ],
    )
    def test_it_names_a_folder_or_a_bucket(self, said, storage):
        assert options.storage_at(said, "CLINIC_FILM_STORAGE") == storage

    @pytest.mark.parametrize("said", ["films", "s3://", "s3://A", "s3://a", "ftp://films"])
    def test_anything_else_is_refused_in_words(self, said):
        with pytest.raises(BadSetting, match="CLINIC_FILM_STORAGE"):
            options.storage_at(said, "CLINIC_FILM_STORAGE")

    @pytest.mark.parametrize(
        ("settings", "sentence"),
        [
            ({"CLINIC_FILM_STORAGE": "/mnt"}, "CLINIC_DATABASE_URL is not"),
            ({"CLINIC_DATABASE_URL": "mysql://u:hidden@h/d"}, "no address of a PostgreSQL"),
            ({"CLINIC_DATABASE_URL": "postgresql://u:hidden@h:99999/d"}, "no address of a Postgre"),
            ({"CLINIC_DATABASE_URL": "postgresql://u:hidden@h"}, "no address of a PostgreSQL"),
            ({"CLINIC_TRUSTED_PROXY": "10.0.0.2"}, "CLINIC_HOST_NAMES is not"),
            ({"CLINIC_TRUSTED_PROXY": "x", "CLINIC_HOST_NAMES": "a.b"}, "must be an IP address"),
            ({"CLINIC_HOST_NAMES": "https://clinic"}, "must be a name"),
            ({"CLINIC_METRICS_TOKEN": "hidden"}, "at least 20"),
            ({"CLINIC_PAGES_ONLY": "yes"}, "CLINIC_DATABASE_URL is not"),
        ],
    )
    def test_a_wrong_value_stops_the_start_in_words(self, tmp_path, settings, sentence):
        kept = {name: value for name, value in os.environ.items() if not name.startswith("CLINIC_")}
        told = subprocess.run(
            [sys.executable, "run_clinic.py", "check"],
            cwd=ROOT, env={**kept, "CLINIC_HOME": str(tmp_path), **settings},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert told.returncode == 2
        assert sentence in told.stderr
        assert "Traceback" not in told.stderr
        assert "hidden" not in told.stderr
