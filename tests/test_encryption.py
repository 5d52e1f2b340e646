"""Encryption in the real program: after a day's work nothing of it can be read off the disk.

What is planted is looked for in every file of the data directory, and, where strace is there, in
everything that the program ever wrote to one, files included that are gone by then. The same search
finds all of it in a clinic that is not encrypted.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from model_export.phantom import chest_film
from tests import films
from tests.running import ROOT, Visitor, free_port, wait_for

NAME, NUMBER, WORDS = "Wanjiru Mandazi", "KX-48151", "left basal haze, sputum sent"
FILE_NAME = "akinyi chest.dcm"
PASSPHRASE = "violet harbour nine lanterns"
LARGE = (2100, 1700)
STRACE = ["strace", "-D", "-f", "-y", "-qq", "-xx", "-s", "4194304"]
STRACE += ["-e", "trace=write,pwrite64,writev,pwritev"]


@dataclass
class Planted:
    """What a day's work leaves behind, and how it would look in a file."""

    texts: list[str] = field(default_factory=lambda: [NAME, NUMBER, WORDS, FILE_NAME])
    runs: list[bytes] = field(default_factory=list)

    def film(self, content: bytes) -> bytes:
        """Remember some bytes from the midst of a film."""
        runs = [content[at : at + 48] for at in range(4096, len(content), len(content) // 300)]
        telling = [run for run in runs if len(set(run)) > 12]  # no black border
        assert len(telling) > 8
        self.runs += telling[:: len(telling) // 8]
        return content

    def found_in(self, content: bytes) -> set[str]:
        """What of it is in there."""
        found = set()
        for text in self.texts:
            for written in (text.encode(), text.encode("utf-16-le"), text.upper().encode()):
                if written in content:
                    found.add(text)
        if any(run in content for run in self.runs):
            found.add("a film")
        for sign, what in ((b"\x89PNG\r\n\x1a\n", "PNG"), (b"DICM\x02\x00", "DICOM")):
            if sign in content:
                found.add(what)
        return found


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "clinic"


@pytest.fixture
def planted() -> Planted:
    return Planted()


def environment(home: Path, **more: str) -> dict[str, str]:
    kept = {n: v for n, v in os.environ.items() if not n.startswith(("CLINIC_", "DJANGO_"))}
    return {**kept, "CLINIC_HOME": str(home), "CLINIC_MIN_FREE_MB": "0", **more}


def run(home: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "run_clinic.py", *words],
        cwd=ROOT,
        env=environment(home, **more),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@contextmanager
def started(
    home: Path, *before: str, **more: str
) -> Iterator[tuple[Visitor, subprocess.Popen[bytes]]]:
    """The program, answering with whatever page it has."""
    port = free_port()
    words = [*before, sys.executable, "run_clinic.py", "serve", "--no-browser", "--port", str(port)]
    process = subprocess.Popen(
        words, cwd=ROOT, env=environment(home, **more), stdout=subprocess.DEVNULL
    )
    visitor = Visitor(f"http://127.0.0.1:{port}")
    try:
        wait_for(lambda: process.poll() is not None or visitor.get("/healthz"))
        yield visitor, process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


def page(visitor: Visitor, path: str = "/") -> str:
    """What is shown there, whatever its status."""
    try:
        return visitor.get(path)
    except urllib.error.HTTPError as error:
        return str(error.read().decode())


def send(visitor: Visitor, path: str, **fields: str) -> str:
    """A form of the page that asks for the passphrase."""
    request = urllib.request.Request(
        visitor.address + path, urllib.parse.urlencode(fields).encode(), method="POST"
    )
    try:
        with visitor.opener.open(request, timeout=120) as response:
            return str(response.read().decode())
    except urllib.error.HTTPError as error:
        return str(error.read().decode())


def is_open(visitor: Visitor) -> bool:
    return 'id="upload"' in page(visitor)


def unlock(visitor: Visitor, passphrase: str = PASSPHRASE) -> None:
    send(visitor, "/unlock", passphrase=passphrase)
    wait_for(lambda: is_open(visitor))


def turn_on(visitor: Visitor) -> str:
    """Choose a passphrase on the page, and write the recovery key down; the key."""
    visitor.set_up()
    fields = {"passphrase": PASSPHRASE, "again": PASSPHRASE}
    token = visitor.token("/settings/encryption")
    shown = send(visitor, "/settings/encryption/prepare", csrfmiddlewaretoken=token, **fields)
    found = re.search(r"<code dir=\"ltr\">([A-Z-]{39})</code>", shown)
    assert found, shown[:4000]
    said = send(
        visitor, "/settings/encryption/confirm", csrfmiddlewaretoken=token, end=found[1][-4:]
    )
    assert "It begins at the next start" in said
    return found[1]


def a_days_work(visitor: Visitor, folder: Path, planted: Planted) -> None:
    """Films by browser, small and large, and a DICOM one; a patient, a reading, a backup."""
    folder.mkdir(exist_ok=True)
    visitor.set_up()
    large = folder / "large.png"
    large.write_bytes(planted.film(films.encode(chest_film(1, LARGE, noise=12), "PNG")))
    assert large.stat().st_size > 2_700_000, "too small to be spooled"
    small = folder / "small.png"
    small.write_bytes(planted.film(films.encode(chest_film(2), "PNG")))
    dicom = folder / FILE_NAME
    dicom.write_bytes(planted.film(films.dicom(chest_film(3), PatientName=NAME, PatientID=NUMBER)))
    studies = [visitor.upload(film).partition("?")[0] for film in (large, small, dicom)]
    form = f"{studies[0]}edit"
    hidden = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', visitor.get(form)))
    typed = {"name": NAME, "number": f"{NUMBER}/2", "consent": "yes", "note": WORDS, "surely": ""}
    visitor.post(form, **{n: v for n, v in hidden.items() if n == "base"}, **typed)
    for study in studies:
        visitor.wait_for_answer(study)
        pictures = re.findall(r'(?:src|href)="(/films/[^"]+)"', page(visitor, study))
        assert pictures
        for picture in set(pictures):
            page(visitor, picture.replace("&amp;", "&"))
    page(visitor, "/?q=Wanjiru")


def on_disk(home: Path, planted: Planted) -> dict[str, set[str]]:
    """In which files of the data directory what is found. Models bring films of their own."""
    found = {}
    for file in home.rglob("*"):
        path = file.relative_to(home)
        if file.is_file() and path.parts[0] != "releases":
            with contextlib.suppress(FileNotFoundError):
                if seen := planted.found_in(bytes(str(path), "utf-8") + b"\0" + file.read_bytes()):
                    found[str(path)] = seen
    return found


class TestADaysWork:
    def test_the_search_finds_all_of_it_where_nothing_is_encrypted(self, home, tmp_path, planted):
        with started(home) as (visitor, _):
            a_days_work(visitor, tmp_path / "films", planted)
            found = on_disk(home, planted)

        everything = set().union(*found.values())
        assert everything >= {NAME, NUMBER, FILE_NAME, "a film", "PNG", "DICOM"}

    def test_nothing_of_it_is_found_where_it_is(self, home, tmp_path, planted):
        with started(home) as (visitor, _):
            a_days_work(visitor, tmp_path / "before", planted)
            turn_on(visitor)
        with started(home) as (visitor, _):
            unlock(visitor)
            a_days_work(visitor, tmp_path / "after", other := Planted())
            planted.runs += other.runs
            assert NAME in visitor.get("/?q=Wanjiru")
            running = on_disk(home, planted)

        assert running == {}
        assert on_disk(home, planted) == {}
        assert not (home / "clinic.sqlite3").read_bytes().startswith(b"SQLite")
        assert len(list((home / "films").rglob("*.age"))) == 3

    @pytest.mark.skipif(not shutil.which("strace"), reason="no strace on this machine")
    def test_nor_was_it_ever_written_to_a_file_that_is_gone(self, home, tmp_path, planted):
        with started(home) as (visitor, _):
            turn_on(visitor)
        log = tmp_path / "written"
        with started(home, *STRACE, "-o", str(log)) as (visitor, _):
            unlock(visitor)
            a_days_work(visitor, tmp_path / "films", planted)

        written = list(writes_in(log, home))
        assert sum(map(len, written)) > 8_000_000, "strace saw little of the program"
        assert not set().union(*map(planted.found_in, written))

    @pytest.mark.skipif(not shutil.which("strace"), reason="no strace on this machine")
    def test_while_without_encryption_all_of_it_is_written(self, home, tmp_path, planted):
        log = tmp_path / "written"
        with started(home, *STRACE, "-o", str(log)) as (visitor, _):
            a_days_work(visitor, tmp_path / "films", planted)

        found = set().union(*map(planted.found_in, writes_in(log, home)))
        assert found >= {NAME, NUMBER, FILE_NAME, "a film", "PNG", "DICOM"}


def writes_in(log: Path, home: Path) -> Iterator[bytes]:
    """What strace saw written to files of a folder, call by call: all strings hexadecimal."""
    place = "".join(f"\\x{byte:02x}" for byte in bytes(home))
    with log.open(encoding="ascii", errors="replace") as lines:
        for line in lines:
            call, _, rest = line.partition(",")
            if f"<{place}" in call:
                strings = re.findall(r'"((?:\\x[0-9a-f]{2})*)"', rest)
                yield bytes.fromhex("".join(strings).replace("\\x", ""))


class TestTheDoor:
    def test_a_wrong_passphrase_opens_nothing_and_the_recovery_key_does(self, home, tmp_path):
        with started(home) as (visitor, _):
            line = turn_on(visitor)
        with started(home) as (visitor, _):
            unlock(visitor)
        with started(home) as (visitor, process):
            assert "Enter the passphrase" in page(visitor)
            for path in ("/", "/people", "/films/1.png", "/settings/encryption", "/api/v1/"):
                assert "Enter the passphrase" in page(visitor, path)
            said = send(visitor, "/unlock", passphrase="violet harbour nine lantern")
            assert "This passphrase is not the right one." in said
            assert "Wait" in send(visitor, "/unlock", passphrase=PASSPHRASE)
            assert "Enter the passphrase" in page(visitor)
            time.sleep(1.1)
            new = "seven quiet paper boats"
            said = send(visitor, "/recover", recovery="B" + line[1:], new=new, again=new)
            assert "recovery key is not the right one" in said or line[0] == "B"
            time.sleep(2.1)
            send(visitor, "/recover", recovery=line.lower(), new=new, again=new)
            wait_for(lambda: is_open(visitor))
            assert process.poll() is None
        with started(home) as (visitor, _):
            said = send(visitor, "/unlock", passphrase=PASSPHRASE)
            assert "This passphrase is not the right one." in said
            time.sleep(1.1)
            unlock(visitor, new)

    def test_commands_ask_for_the_passphrase_by_a_file(self, home, tmp_path):
        given = tmp_path / "passphrase"
        given.write_text(PASSPHRASE + "\n")
        wrong = tmp_path / "wrong"
        wrong.write_text("not this one at all")
        with started(home) as (visitor, _):
            turn_on(visitor)
        with started(home, CLINIC_PASSPHRASE_FILE=str(given)) as (visitor, _):
            wait_for(lambda: is_open(visitor))

        locked = run(home, "export-audit", "--out", str(tmp_path / "locked.jsonl"))
        refused = run(
            home,
            "export-audit",
            "--out",
            str(tmp_path / "wrong.jsonl"),
            CLINIC_PASSPHRASE_FILE=str(wrong),
        )
        opened = run(
            home,
            "export-audit",
            "--out",
            str(tmp_path / "open.jsonl"),
            CLINIC_PASSPHRASE_FILE=str(given),
        )
        check = run(home, "check")

        assert (locked.returncode, refused.returncode) == (1, 2)
        assert "passphrase" in locked.stderr
        assert opened.returncode == 0, opened.stderr
        assert "encryption_done" in (tmp_path / "open.jsonl").read_text()
        assert check.returncode == 1
        assert "the passphrase was not given" in check.stderr

    def test_a_worker_of_its_own_works_an_encrypted_queue(self, home, tmp_path, planted):
        given = tmp_path / "passphrase"
        given.write_text(PASSPHRASE)
        with started(home) as (visitor, _):
            turn_on(visitor)
        settings = {"CLINIC_PASSPHRASE_FILE": str(given)}
        words = [sys.executable, "run_clinic.py", "worker"]
        with started(home, **settings) as (visitor, _):
            wait_for(lambda: is_open(visitor))
            worker = subprocess.Popen(words, cwd=ROOT, env=environment(home, **settings))
            try:
                a_days_work(visitor, tmp_path / "films", planted)
                assert worker.poll() is None
            finally:
                worker.send_signal(signal.SIGTERM)
                worker.wait(60)
        assert on_disk(home, planted) == {}


class TestKilledInTheMidst:
    def test_the_next_start_goes_on_and_nothing_is_lost(self, home, tmp_path, planted, soak):
        after = 0.3 if soak == 1 else random.Random(soak).uniform(0.05, 0.8)
        with started(home) as (visitor, _):
            a_days_work(visitor, tmp_path / "films", planted)
            for seed in range(10, 40):
                film = tmp_path / f"film {seed}.png"
                film.write_bytes(planted.film(films.encode(chest_film(seed), "PNG")))
                visitor.upload(film)
            turn_on(visitor)
        digests = {path.name for path in (home / "films").rglob("*") if path.is_file()}
        with started(home) as (visitor, process):
            with contextlib.suppress(OSError):
                send(visitor, "/unlock", passphrase=PASSPHRASE)
            time.sleep(after)
            process.kill()
            process.wait()
        with started(home) as (visitor, _):
            unlock(visitor)
            assert NAME in visitor.get("/?q=Wanjiru")
            running = on_disk(home, planted)

        assert running == {}
        assert len(digests) == 33
        assert len(list((home / "films").rglob("*.age"))) == 33
        with pytest.raises(sqlite3.DatabaseError):
            sqlite3.connect(home / "clinic.sqlite3").execute("SELECT * FROM sqlite_master")
