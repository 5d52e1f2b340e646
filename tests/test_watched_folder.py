"""The watched folder: complete files are taken in and moved, what is no film is told why."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import random
import re
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from django.urls import reverse
from hypothesis import given
from hypothesis import strategies as st

from app import folders, intake, watched_folder
from app.cxr import radiograph
from app.folder_words import CHOICE, PROBLEMS, TROUBLES
from app.models import AuditEvent, Instance, Site
from app.watched_folder import MOST_AT_ONCE, MOST_DEATHS, SECONDS_STILL, Folder, move
from tests.people import browser
from tests.running import serving, wait_for
from tests.studies import film_bytes, stored

pytestmark = [pytest.mark.django_db]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Scene:
    """A watched folder, and the hands that put files into it."""

    def __init__(self, path: Path) -> None:
        self.path, self.clock = path, Clock()
        path.mkdir(exist_ok=True)
        self.folder = Folder(path, self.clock)

    def put(self, name: str, content: bytes | None = None) -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(film_bytes() if content is None else content)
        return path

    def look(self, after: float = SECONDS_STILL) -> None:
        self.clock.now += after
        while self.folder.sweep():
            continue

    def settle(self) -> None:
        """What lies in the folder is seen, and seen again unchanged."""
        self.look()
        self.look()

    def restart(self) -> None:
        self.folder = Folder(self.path, self.clock)

    def files(self, below: str = "") -> list[str]:
        """What is there, the day of ``done`` left out."""
        found = (p for p in (self.path / below).rglob("*") if p.is_file())
        names = sorted(p.relative_to(self.path).as_posix() for p in found)
        return [re.sub(r"^done/\d{4}-\d\d-\d\d/", "done/", name) for name in names]

    def reason(self, name: str) -> str:
        return (self.path / "failed" / f"{name}.txt").read_text("utf-8-sig").strip()

    @property
    def problem(self) -> str:
        return self.folder.standing.problem

    @property
    def troubles(self) -> dict[str, str]:
        return dict(self.folder.standing.troubles)


@pytest.fixture
def scene(data_dir, site, tmp_path) -> Scene:
    return Scene(tmp_path / "films")


# --- complete before it is read -----------------------------------------------------------------


def test_a_film_that_stands_still_is_taken_in_and_moved_to_the_day(scene):
    scene.put("chest.png")
    scene.settle()
    film = Instance.objects.get()
    assert (film.source, film.file_name, film.sender) == ("folder", "chest.png", "chest.png")
    assert scene.files() == ["done/chest.png"]
    assert stored(film).read_bytes() == film_bytes()


def test_a_film_is_not_read_at_first_sight(scene):
    scene.put("chest.png")
    scene.look()
    assert not Instance.objects.exists()
    assert scene.folder.standing.waiting == 1


def test_a_film_that_grows_waits_until_it_grows_no_more(scene):
    content = film_bytes()
    for part in (10, 100, 1000):
        scene.put("chest.png", content[:part])
        scene.look()
    assert not Instance.objects.exists()
    scene.put("chest.png", content)
    scene.settle()
    assert Instance.objects.get().size_bytes == len(content)


def test_a_film_that_is_written_over_in_the_same_size_waits_anew(scene):
    path = scene.put("chest.png", b"x" * len(film_bytes()))
    scene.look()
    path.write_bytes(film_bytes())
    os.utime(path, ns=(1, 1))
    scene.look()
    assert scene.files() == ["chest.png"]
    scene.look()
    assert scene.files() == ["done/chest.png"]


def test_a_time_that_lies_in_the_future_does_not_matter(scene):
    path = scene.put("chest.png")
    os.utime(path, (4_000_000_000, 4_000_000_000))
    scene.settle()
    assert scene.files() == ["done/chest.png"]


def test_a_film_that_another_program_holds_open_is_left_to_it(scene, monkeypatch):
    scene.put("chest.png")
    opened = Path.open

    def held(path: Path, *args: Any, **more: Any) -> Any:
        if path.name == "chest.png":
            error = PermissionError(errno.EACCES, "held")
            error.winerror = 32  # type: ignore[attr-defined]
            raise error
        return opened(path, *args, **more)

    with monkeypatch.context() as windows:
        windows.setattr(Path, "open", held)
        scene.settle()
        assert scene.files() == ["chest.png"]
        assert not scene.troubles, "it is only being written: nobody has to look"
    scene.look(60)
    assert scene.files() == ["done/chest.png"]


def test_a_film_that_changes_while_it_is_read_is_read_again_later(scene, monkeypatch):
    path = scene.put("chest.png", film_bytes(1))
    scene.look()
    read = radiograph.read_radiograph

    def and_then_written(source: Path) -> Any:
        film = read(source)
        path.write_bytes(film_bytes(2, (300, 300)))
        monkeypatch.setattr(radiograph, "read_radiograph", read)
        return film

    copy = intake._copy_path

    def still_written(source: Path, target: Path) -> Any:
        monkeypatch.setattr(intake, "_copy_path", copy)
        raise intake.Rejected("still_being_written")

    monkeypatch.setattr(radiograph, "read_radiograph", and_then_written)
    monkeypatch.setattr(intake, "_copy_path", still_written)
    scene.look()
    assert scene.files() == ["chest.png"]
    assert not Instance.objects.exists()
    scene.look(60)
    scene.look(60)
    assert stored(Instance.objects.get()).read_bytes() == film_bytes(2, (300, 300))


def test_an_empty_file_gets_its_time_before_it_is_given_up(scene):
    scene.put("chest.png", b"")
    scene.settle()
    assert scene.files() == ["chest.png"]
    scene.look(watched_folder.SECONDS_EMPTY)
    assert scene.files() == ["failed/chest.png", "failed/chest.png.txt"]
    assert "empty" in scene.reason("chest.png")


def test_a_file_that_is_gone_again_is_forgotten(scene):
    path = scene.put("chest.png")
    scene.look()
    path.unlink()
    scene.look()
    assert scene.folder.standing.waiting == 0
    assert not scene.troubles


# --- what is passed over ------------------------------------------------------------------------

NO_FILMS = [
    ".hidden.png",
    "._chest.png",
    "chest.png.tmp",
    "chest.dcm.part",
    "chest.dcm.filepart",
    "chest.png.crdownload",
    "chest.png~",
    "~$chest.png",
    "Thumbs.db",
    "desktop.ini",
    "DICOMDIR",
    "disc/dicomdir",
    ".git/chest.png",
    "$RECYCLE.BIN/chest.png",
    "System Volume Information/chest.png",
    "@eaDir/chest.png",
    "done/chest.png",
    "failed/chest.png",
    "failed/deep/chest.png",
]


@pytest.mark.parametrize("name", NO_FILMS)
def test_it_leaves_alone_what_nobody_put_there_as_a_film(scene, name):
    scene.put(name)
    scene.settle()
    assert (scene.path / name).is_file()
    assert not Instance.objects.exists()


@pytest.mark.parametrize("name", ["a/b/chest.png", "IM000001", "done.png", "x/done/chest.png"])
def test_it_takes_whatever_else_there_is_in_any_depth(scene, name):
    scene.put(name)
    scene.settle()
    assert scene.files() == [f"done/{name}"]
    assert Instance.objects.get().sender == name


def test_it_does_not_follow_a_link_out_of_the_folder(scene, tmp_path):
    outside = tmp_path / "private"
    outside.mkdir()
    (outside / "chest.png").write_bytes(film_bytes())
    (scene.path / "folder").symlink_to(outside)
    (scene.path / "film.png").symlink_to(outside / "chest.png")
    scene.settle()
    assert not Instance.objects.exists()
    assert (outside / "chest.png").is_file()


def test_folders_within_folders_end_somewhere(scene):
    scene.put("/".join(["deep"] * (folders.MOST_DEEP + 1)) + "/chest.png")
    scene.settle()
    assert not Instance.objects.exists()


@given(st.text(min_size=1).filter(lambda name: not folders.is_passed_over(name)))
def test_no_name_is_passed_over_for_what_is_put_before_its_end(name):
    assert folders.is_passed_over(f"{name}.part")
    assert folders.is_passed_over(f".{name}")


# --- what is no film ----------------------------------------------------------------------------

TURNED_AWAY = [
    ("letter.pdf", b"%PDF-1.7 a letter", "PDF"),
    ("notes.txt", b"just words\n" * 50, "not a picture"),
    ("half.png", film_bytes()[:3000], "incomplete|damaged"),
]


@pytest.mark.parametrize(("name", "content", "word"), TURNED_AWAY)
def test_what_is_no_film_lies_in_failed_with_the_reason_beside_it(scene, name, content, word):
    scene.put(name, content)
    scene.settle()
    assert scene.files() == [f"failed/{name}", f"failed/{name}.txt"]
    assert (scene.path / "failed" / name).read_bytes() == content
    assert re.search(word, scene.reason(name))
    assert not Instance.objects.exists(), "the worklist is not filled with what is no film"
    assert scene.folder.standing.turned_away == 1


def test_the_reason_is_in_the_language_of_the_clinic(scene):
    Site.objects.update(language="fr")
    scene.put("letter.pdf", b"%PDF-1.7 a letter")
    scene.settle()
    assert "Le programme" in scene.reason("letter.pdf")


def test_a_film_that_is_too_large_is_told_so(scene, settings):
    settings.MAX_FILM_BYTES = 1000
    scene.put("chest.png")
    scene.settle()
    assert "too large" in scene.reason("chest.png")


def test_a_film_that_ends_the_program_again_and_again_is_put_aside(scene, monkeypatch):
    scene.put("chest.png")

    def ends(_path: Path) -> None:
        raise KeyboardInterrupt

    note = Path.unlink
    monkeypatch.setattr(radiograph, "read_radiograph", ends)
    for _ in range(MOST_DEATHS):
        scene.restart()
        scene.look()
        with monkeypatch.context() as killed:  # a process that is killed tidies nothing up
            killed.setattr(
                Path,
                "unlink",
                lambda path, **more: None if "watched" in path.name else note(path, **more),
            )
            with pytest.raises(KeyboardInterrupt):
                scene.look()
    scene.restart()
    scene.settle()
    assert scene.files() == ["failed/chest.png", "failed/chest.png.txt"]
    assert "ended several times" in scene.reason("chest.png")


# --- moved, never over another ------------------------------------------------------------------


def test_films_of_the_same_name_lie_beside_each_other(scene):
    for seed in (1, 2, 3):
        scene.put("IM1.png", film_bytes(seed))
        scene.settle()
    assert scene.files() == ["done/IM1.2.png", "done/IM1.3.png", "done/IM1.png"]
    contents = {path.read_bytes() for path in scene.path.glob("done/*/*.png")}
    assert contents == {film_bytes(seed) for seed in (1, 2, 3)}


def test_reasons_of_the_same_name_lie_beside_each_other(scene):
    for words in (b"one" * 99, b"two" * 99):
        scene.put("notes.txt", words)
        scene.settle()
    names = ["notes.2.txt", "notes.2.txt.txt", "notes.txt", "notes.txt.txt"]
    assert scene.files() == [f"failed/{name}" for name in names]
    assert (scene.path / "failed/notes.txt").read_bytes() == b"one" * 99


def test_a_reason_never_takes_the_place_of_a_file(scene):
    scene.put("failed/letter.pdf.txt", b"somebody's own")
    scene.put("letter.pdf", b"%PDF-1.7 a letter")
    scene.settle()
    assert (scene.path / "failed/letter.pdf.txt").read_bytes() == b"somebody's own"
    assert "PDF" in scene.reason("letter.2.pdf")


def test_a_folder_whose_name_a_file_has_already_is_no_obstacle(scene):
    scene.put("a", film_bytes(1))
    scene.settle()
    scene.put("a/chest.png", film_bytes(2))
    scene.settle()
    assert scene.files() == ["done/a", "done/chest.png"]


@pytest.mark.parametrize("links", [True, False])
def test_a_file_is_moved_whether_or_not_the_disk_knows_two_names(tmp_path, monkeypatch, links):
    def none(*_args: Any, **_more: Any) -> None:
        raise PermissionError(errno.EPERM, "no links here")

    if not links:
        monkeypatch.setattr(os, "link", none)
    for content in (b"first", b"second"):
        (tmp_path / "film").write_bytes(content)
        move(tmp_path / "film", tmp_path / "done" / "film")
    assert (tmp_path / "done" / "film").read_bytes() == b"first"
    assert (tmp_path / "done" / "film.2").read_bytes() == b"second"
    assert not (tmp_path / "film").exists()


def test_the_same_film_once_more_is_known_and_moved(scene):
    scene.put("chest.png")
    scene.settle()
    scene.put("again.png")
    scene.settle()
    assert Instance.objects.count() == 1
    assert scene.files() == ["done/again.png", "done/chest.png"]


# --- faults -------------------------------------------------------------------------------------


def test_a_folder_that_cannot_be_reached_is_told_once_and_tried_again(scene, caplog):
    away = scene.path.rename(scene.path.with_name("away"))
    with caplog.at_level("WARNING", logger="app"):
        for _ in range(3):
            scene.look()
    assert scene.problem == "unavailable"
    assert len(caplog.records) == 1
    assert str(scene.path) not in caplog.text
    away.rename(scene.path)
    scene.put("chest.png")
    scene.settle()
    assert scene.problem == ""
    assert scene.files() == ["done/chest.png"]


def test_a_folder_in_which_nothing_can_be_moved_is_not_read_at_all(scene, monkeypatch):
    scene.put("chest.png")

    def refuse(*_args: Any, **_more: Any) -> None:
        raise PermissionError(errno.EACCES, "read only")

    monkeypatch.setattr(Path, "touch", refuse)
    scene.settle()
    assert scene.problem == "cannot_move"
    assert not Instance.objects.exists()
    assert scene.files() == ["chest.png"]


@pytest.mark.parametrize("code", ["disk_full", "cannot_store"])
def test_while_nothing_can_be_stored_the_films_stay(scene, monkeypatch, code):
    for seed in range(3):
        scene.put(f"{seed}.png", film_bytes(seed))
    tried = []

    def refuse(path: Path, *_args: Any, **_more: Any) -> None:
        tried.append(path.name)
        raise intake.Rejected(code)

    with monkeypatch.context() as full:
        full.setattr(intake, "receive", refuse)
        scene.settle()
        assert scene.problem == code
        assert len(tried) == 1, "the others would fare no better"
        assert scene.files() == ["0.png", "1.png", "2.png"]
    scene.look(60)
    assert scene.problem == ""
    assert scene.files() == ["done/0.png", "done/1.png", "done/2.png"]


def test_a_really_full_disk_is_one(scene, settings):
    settings.MIN_FREE_BYTES = 2**60
    scene.put("chest.png")
    scene.settle()
    assert scene.problem == "disk_full"


def test_a_film_that_cannot_be_read_stays_and_does_not_stop_the_others(scene, monkeypatch):
    scene.put("a.png", film_bytes(1))
    scene.put("b.png", film_bytes(2))
    opened = Path.open

    def closed(path: Path, *args: Any, **more: Any) -> Any:
        if path.name == "a.png":
            raise PermissionError(errno.EACCES, "not yours")
        return opened(path, *args, **more)

    monkeypatch.setattr(Path, "open", closed)
    scene.settle()
    assert scene.files() == ["a.png", "done/b.png"]
    assert scene.troubles == {"a.png": "cannot_be_read"}


def test_a_film_that_cannot_be_moved_is_stored_once_and_moved_later(scene, monkeypatch):
    scene.put("chest.png")
    received = []
    receive = intake.receive
    monkeypatch.setattr(intake, "receive", lambda *args: received.append(1) or receive(*args))
    with monkeypatch.context() as stuck:

        def refuse(*_args: Any) -> None:
            raise PermissionError(errno.EACCES, "held")

        stuck.setattr(watched_folder, "_rename", refuse)
        scene.settle()
        for _ in range(4):
            scene.look(60)
        assert scene.troubles == {"chest.png": "cannot_be_moved"}
    scene.look(60)
    assert scene.files() == ["done/chest.png"]
    assert not scene.troubles
    assert len(received) == 1


def test_out_of_memory_is_no_fault_of_the_film(scene, monkeypatch):
    scene.put("chest.png")

    def hungry(_path: Path) -> None:
        raise radiograph.UnreadableFilm("out_of_memory")

    with monkeypatch.context() as small:
        small.setattr(radiograph, "read_radiograph", hungry)
        scene.settle()
    assert scene.files() == ["chest.png"]
    assert scene.troubles == {"chest.png": "out_of_memory"}
    scene.look(60)
    assert scene.files() == ["done/chest.png"]


def test_a_folder_that_is_closed_to_us_is_told_and_the_others_are_read(scene, monkeypatch):
    scene.put("closed/chest.png", film_bytes(1))
    scene.put("open/chest.png", film_bytes(2))
    scandir = os.scandir

    def closed(path: Any) -> Any:
        if Path(path).name == "closed":
            raise PermissionError(errno.EACCES, "not yours")
        return scandir(path)

    with monkeypatch.context() as not_ours:
        not_ours.setattr(os, "scandir", closed)
        scene.settle()
        assert scene.troubles == {"closed": "folder_closed"}
    scene.settle()
    assert not scene.troubles
    assert Instance.objects.count() == 2


def test_every_code_has_its_sentence():
    assert set(PROBLEMS) == watched_folder.PROBLEMS
    assert set(TROUBLES) == watched_folder.TROUBLES
    assert set(watched_folder._READ_LATER) <= radiograph.CODES
    assert set(watched_folder._READ_LATER.values()) <= set(TROUBLES)


# --- killed -------------------------------------------------------------------------------------

STEPS = ["before it is stored", "after it is stored", "after it is moved"]


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_any_step_it_finishes_at_the_next_start(scene, monkeypatch, step):
    scene.put("chest.png")
    scene.look()
    receive, move_away = intake.receive, Folder._move_away

    def killed_in_receive(*args: Any) -> Any:
        if step != "before it is stored":
            receive(*args)
        raise KeyboardInterrupt

    def killed_in_move(self: Folder, *args: Any) -> None:
        move_away(self, *args)
        raise KeyboardInterrupt

    with monkeypatch.context() as dying:
        if step == "after it is moved":
            dying.setattr(Folder, "_move_away", killed_in_move)
        else:
            dying.setattr(intake, "receive", killed_in_receive)
        with pytest.raises(KeyboardInterrupt):
            scene.look()
    scene.restart()
    scene.settle()
    assert scene.files() == ["done/chest.png"]
    assert Instance.objects.count() == 1


def test_killed_between_reason_and_move_the_file_still_gets_to_failed(scene, monkeypatch):
    scene.put("letter.pdf", b"%PDF-1.7 a letter")
    scene.look()
    unlink = Path.unlink

    def killed(*_args: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as dying:
        dying.setattr(watched_folder, "_rename", killed)
        dying.setattr(
            Path,
            "unlink",
            lambda path, **more: None if path.suffix == ".txt" else unlink(path, **more),
        )
        with pytest.raises(KeyboardInterrupt):
            scene.look()
    scene.restart()
    scene.settle()
    assert "PDF" in scene.reason("letter.2.pdf")
    assert (scene.path / "failed/letter.2.pdf").read_bytes() == b"%PDF-1.7 a letter"


def test_killed_at_moments_drawn_by_lot_it_loses_no_film_and_doubles_none(tmp_path, soak, root):
    films = {f"{seed}.png": film_bytes(seed) for seed in range(10 * soak)}
    letters = {f"{number}.pdf": b"%%PDF-1.7 %d" % number for number in range(5)}
    folder, home = tmp_path / "films", tmp_path / "clinic"
    folder.mkdir()
    home.mkdir()
    for name, content in (films | letters).items():
        (folder / name).write_bytes(content)
    lot, killed = random.Random(7), 0
    environment = {**os.environ, "CLINIC_HOME": str(home)}
    command = [sys.executable, "-m", "tests.folder_crashes", str(folder)]
    for _ in range(60 * soak):
        watching = subprocess.Popen(command, cwd=root, env=environment, stdout=subprocess.PIPE)
        assert watching.stdout
        watching.stdout.readline()
        try:
            watching.wait(lot.uniform(0.01, 0.2))
        except subprocess.TimeoutExpired:
            watching.kill()
            watching.wait()
            killed += 1
            continue
        finally:
            watching.stdout.close()
        break
    assert killed > 1, "it was too fast to be killed"
    assert watching.returncode == 0
    assert not [path for path in folder.iterdir() if path.is_file()]
    done = sorted(path.read_bytes() for path in folder.glob("done/*/*"))
    assert done == sorted(films.values())
    failed = list(folder.glob("failed/*.pdf"))
    assert sorted(path.read_bytes() for path in failed) == sorted(letters.values())
    assert all(path.with_name(path.name + ".txt").stat().st_size for path in failed)
    with contextlib.closing(sqlite3.connect(home / "clinic.sqlite3")) as database:
        digests = [row[0] for row in database.execute("SELECT sha256 FROM clinic_instance")]
    assert sorted(digests) == sorted(hashlib.sha256(film).hexdigest() for film in films.values())


# --- many ---------------------------------------------------------------------------------------


def test_a_full_folder_is_worked_through_in_parts(scene, monkeypatch):
    monkeypatch.setattr(intake, "receive", lambda *_args: None)
    monkeypatch.setattr(Folder, "_fault_of", lambda *_args: None)
    for number in range(2 * MOST_AT_ONCE + 5):
        scene.put(f"{number}.png", b"film")
    scene.look()
    scene.clock.now += SECONDS_STILL
    assert scene.folder.sweep()
    assert scene.folder.standing.taken == MOST_AT_ONCE
    assert scene.folder.standing.waiting == MOST_AT_ONCE + 5
    assert scene.folder.sweep()
    assert not scene.folder.sweep(), "what is left was the rest"
    assert scene.folder.standing.taken == 2 * MOST_AT_ONCE + 5


def test_no_more_files_are_kept_in_mind_than_there_is_room_for(scene, monkeypatch):
    monkeypatch.setattr(watched_folder, "MOST_FILES", 7)
    monkeypatch.setattr(intake, "receive", lambda *_args: None)
    monkeypatch.setattr(Folder, "_fault_of", lambda *_args: None)
    for number in range(20):
        scene.put(f"{number}.png", b"film")
    scene.look()
    assert scene.folder.standing.waiting == 7
    for _ in range(6):
        scene.look()
    assert scene.folder.standing.taken == 20


def test_it_stops_between_two_films(scene):
    for seed in range(3):
        scene.put(f"{seed}.png", film_bytes(seed))
    scene.look()
    scene.clock.now += SECONDS_STILL
    asked = iter([False, True])
    scene.folder.sweep(lambda: next(asked))
    assert Instance.objects.count() == 1


# --- the thread ---------------------------------------------------------------------------------


def test_nothing_is_looked_at_while_no_folder_is_named(site, data_dir):
    watch = watched_folder.Watch()
    assert watch._turn() is None
    assert watch.standing is None


def test_the_watch_follows_the_choice(scene, tmp_path, administrator):
    watch = watched_folder.Watch()
    watched_folder.choose(str(scene.path), administrator)
    assert watch._turn() == watched_folder.SECONDS_BETWEEN
    first = watch._folder
    watch._turn()
    assert watch._folder is first, "it is remembered what was seen"
    watched_folder.choose(str(tmp_path / "nowhere"), administrator)
    assert watch._turn() == watched_folder.SECONDS_AFTER_FAULT
    assert watch.standing
    assert watch.standing.problem == "unavailable"
    watched_folder.choose("", administrator)
    assert watch._turn() is None
    assert watch.standing is None


@pytest.mark.django_db(transaction=True)
def test_the_thread_takes_in_what_is_put_there_and_ends(scene, administrator, monkeypatch):
    monkeypatch.setattr(watched_folder, "SECONDS_BETWEEN", 0.02)
    monkeypatch.setattr(watched_folder, "SECONDS_STILL", 0.1)
    came = threading.Event()
    receive = intake.receive

    def received(*args: Any) -> Any:
        receipt = receive(*args)
        came.set()
        return receipt

    monkeypatch.setattr(intake, "receive", received)
    watch = watched_folder.Watch()
    monkeypatch.setattr(watched_folder, "watch", watch)
    with watch.kept():
        scene.put("chest.png")
        watched_folder.choose(str(scene.path), administrator)
        assert came.wait(60)
    assert not [one for one in threading.enumerate() if one.name == "watched-folder"]
    assert Instance.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_look_that_breaks_does_not_end_the_watch(scene, administrator, monkeypatch, caplog):
    monkeypatch.setattr(watched_folder, "SECONDS_AFTER_FAULT", 0.01)
    looked = threading.Semaphore(0)

    def broken(_self: Any) -> float:
        looked.release()
        raise RuntimeError("Okello Grace")

    watch = watched_folder.Watch()
    monkeypatch.setattr(watched_folder.Watch, "_turn", broken)
    with watch.kept():
        assert looked.acquire(timeout=60)
        assert looked.acquire(timeout=60)
    assert "RuntimeError" in caplog.text
    assert "Okello" not in caplog.text


# --- the page -----------------------------------------------------------------------------------


def text_of(response: Any) -> str:
    words = re.sub(r"<[^>]+>", " ", response.content.decode())
    return " ".join(words.replace("&#x27;", "'").split())


def choose(client: Any, folder: Path | str, **more: str) -> Any:
    return client.post(reverse("watched-folder"), {"folder": str(folder), **more}, follow=True)


@pytest.fixture
def watched(monkeypatch) -> watched_folder.Watch:
    watch = watched_folder.Watch()
    monkeypatch.setattr(watched_folder, "watch", watch)
    return watch


def test_the_page_names_the_folder_that_is_chosen_and_the_audit_keeps_it(scene, client, watched):
    page = choose(client, scene.path)
    assert "This folder is watched now." in text_of(page)
    assert Site.current().watched_folder == str(scene.path)
    event = AuditEvent.objects.get(action="settings_changed")
    assert event.details["changed"] == {"watched_folder": ["", str(scene.path)]}
    assert event.user is not None


def test_the_page_switches_it_off(scene, client, watched):
    choose(client, scene.path)
    assert "No folder is watched now." in text_of(choose(client, ""))
    assert Site.current().watched_folder == ""


def test_to_choose_what_is_chosen_changes_nothing(scene, client, watched):
    choose(client, scene.path)
    choose(client, scene.path)
    assert AuditEvent.objects.filter(action="settings_changed").count() == 1


def test_a_folder_with_files_in_it_is_asked_about_first(scene, client, watched):
    scene.put("letter.pdf", b"private")
    assert "There is 1 file in this folder already." in text_of(choose(client, scene.path))
    assert Site.current().watched_folder == ""
    choose(client, scene.path, surely="yes")
    assert Site.current().watched_folder == str(scene.path)


def _own(scene: Scene, data: Path) -> dict[str, Path | str]:
    (data / "films" / "ab").mkdir(parents=True)
    file = scene.put("letter.pdf")
    return {
        "inside": data / "films" / "ab",
        "itself": data,
        "around": data.parent,
        "not whole": "films",
        "a file": file,
        "nowhere": scene.path / "nowhere",
    }


@pytest.mark.parametrize(
    ("which", "code"),
    [
        ("inside", "own_folder"),
        ("itself", "own_folder"),
        ("around", "own_folder"),
        ("not whole", "not_whole"),
        ("a file", "no_folder"),
        ("nowhere", "unavailable"),
    ],
)
def test_a_folder_that_cannot_be_watched_is_refused(scene, client, watched, data_dir, which, code):
    page = choose(client, _own(scene, data_dir)[which])
    assert page.status_code == 400
    assert str(CHOICE[code]) in text_of(page)
    assert Site.current().watched_folder == ""


def test_the_data_directory_is_known_behind_a_link(scene, client, watched, data_dir, tmp_path):
    (tmp_path / "link").symlink_to(data_dir)
    assert str(CHOICE["own_folder"]) in text_of(choose(client, tmp_path / "link"))


def test_a_folder_in_which_nothing_can_be_moved_is_refused(scene, client, watched, monkeypatch):
    def refuse(*_args: Any, **_more: Any) -> None:
        raise PermissionError(errno.EACCES, "read only")

    monkeypatch.setattr(Path, "touch", refuse)
    assert str(CHOICE["cannot_move"]) in text_of(choose(client, scene.path))


def test_the_page_says_how_it_stands(scene, client, watched, monkeypatch):
    watched._folder = scene.folder
    scene.put("a.png")
    scene.look()
    assert "1 file waits in the folder." in text_of(client.get(reverse("watched-folder")))
    scene.look()
    page = text_of(client.get(reverse("watched-folder")))
    assert "Taken in since the program started 1" in page
    assert "The folder is empty" in page


def test_the_page_says_what_stays_and_why(scene, client, watched, monkeypatch):
    watched._folder = scene.folder
    monkeypatch.setattr(watched_folder, "MOST_TROUBLES", 2)

    def refuse(*_args: Any) -> None:
        raise PermissionError(errno.EACCES, "held")

    monkeypatch.setattr(watched_folder, "_rename", refuse)
    for seed in range(3):
        scene.put(f"<b>{seed}.png", film_bytes(seed))
    scene.settle()
    response = client.get(reverse("watched-folder"))
    assert "And 1 more." in text_of(response)
    assert str(TROUBLES["cannot_be_moved"]) in text_of(response)
    assert b"<b>0.png" not in response.content


@pytest.mark.parametrize("code", sorted(watched_folder.PROBLEMS))
def test_the_page_says_what_is_wrong_with_the_folder(scene, client, watched, code):
    watched._folder = scene.folder
    scene.folder._stand(code)
    assert str(PROBLEMS[code]) in text_of(client.get(reverse("watched-folder")))


def test_only_administrators_choose_it(scene):
    assert browser("clinician").get(reverse("watched-folder")).status_code == 403


@pytest.mark.django_db(transaction=False)
def test_the_real_program_watches_the_folder_that_its_page_names(tmp_path, root):
    folder = tmp_path / "films"
    folder.mkdir()
    environment = {**os.environ, "CLINIC_HOME": str(tmp_path / "clinic")}
    command = [sys.executable, str(root / "run_clinic.py")]
    with serving(command, environment) as (visitor, _server):
        visitor.post("/settings/folder", folder=str(folder))
        (folder / "chest.png").write_bytes(film_bytes())
        (folder / "letter.pdf").write_bytes(b"%PDF-1.7 a letter")
        [done] = wait_for(lambda: list(folder.glob("done/*/chest.png")))
        wait_for(lambda: (folder / "failed" / "letter.pdf").exists())
        assert done.read_bytes() == film_bytes()
        assert "chest.png" in visitor.get("/")
        assert "Taken in since the program started" in visitor.get("/settings/folder")
    log = (tmp_path / "clinic" / "logs" / "clinic.log").read_text("utf-8")
    assert "chest.png" not in log
