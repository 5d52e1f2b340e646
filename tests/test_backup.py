"""What a backup holds, what it costs the next time, and what is left of it when it breaks off."""

from __future__ import annotations

import errno
import os
import random
import signal
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyrage
import pytest
from hypothesis import given
from hypothesis import strategies as some

from app import films
from app.backup import DATABASE, SUFFIX, archive, keys, note, rotation, sources, store, write
from app.backup.faults import CODES, BackupFault
from app.backup.manifest import Entry, Manifest, film_path, is_ours
from app.backup.store import Store
from app.backup_words import FAULTS, fault_words
from app.models import Instance
from tests.clinics import PASSPHRASE, as_it_is, clinic, flip_a_bit, pair, rows, set_up
from tests.studies import film_bytes, take_in

pytestmark = pytest.mark.django_db(transaction=True)

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def data(data_dir, settings, django_db_setup) -> Path:
    """A clinic with three films and a model, whose database is the one of the tests."""
    from django.db import connection

    (data_dir / DATABASE).symlink_to(connection.settings_dict["NAME"])
    for seed in range(3):
        take_in(film_bytes(seed), f"film-{seed}.png")
    (data_dir / "releases" / "chest-1.0").mkdir(parents=True)
    (data_dir / "releases" / "chest-1.0" / "model.onnx").write_bytes(b"graph")
    (data_dir / "releases" / "chest-2.0.new").mkdir()
    (data_dir / "releases" / "chest-2.0.new" / "model.onnx").write_bytes(b"half")
    (data_dir / "active.json").write_text("{}")
    (data_dir / "secret.key").write_text("sealing")
    return data_dir


@pytest.fixture
def stick(tmp_path) -> Path:
    return tmp_path / "stick"


def back_up(data: Path, stick: Path) -> tuple[Store, Manifest]:
    if not note.read(data).is_set_up:
        set_up(data, stick)
    there = Store.begin(stick, note.read(data), "words")
    return there, write.back_up(there, note.read(data), clinic(data))


def fault_of(call, *args: object) -> str:
    with pytest.raises(BackupFault) as caught:
        call(*args)
    return caught.value.code


class TestWhatIsInIt:
    def test_database_films_models_and_keys_are(self, data, stick):
        _there, made = back_up(data, stick)
        digests = Instance.objects.values_list("sha256", flat=True)

        assert set(made.by_path) == {
            DATABASE,
            "active.json",
            "audit.key",
            "backup.json",
            "secret.key",
            "releases/chest-1.0/model.onnx",
            *map(film_path, digests),
        }
        assert made.counts["films"] == len(digests) == 3
        assert made.missing == ()

    def test_its_paths_of_films_are_those_of_the_clinic(self):
        assert film_path("ab" * 32) == films.name_of("ab" * 32)

    def test_what_every_table_counts_is_there(self, data, stick):
        there, made = back_up(data, stick)
        identity = there.unlock(pair()[2])
        copy = stick / "copy.sqlite3"
        with copy.open("wb") as file:
            sources.StoreSource(there, made, identity).extract(made.by_path[DATABASE], file)

        for table in write.TABLES.values():
            assert rows(copy, table) == rows(data / DATABASE, table)

    def test_nothing_on_the_stick_can_be_read_without_the_key(self, data, stick):
        back_up(data, stick)
        film = film_bytes(0)
        on_stick = as_it_is(stick)

        assert len(on_stick) > 8
        for name, content in on_stick.items():
            assert film[50:150] not in content, name
            assert b"SQLite format 3" not in content, name
            assert b"AGE-SECRET-KEY" not in content, name

    def test_any_tool_for_age_opens_it_with_the_line_alone(self, data, stick):
        _there, _known, line = set_up(data, stick)
        there, made = back_up(data, stick)
        identity = pyrage.x25519.Identity.from_str(line)
        film = next(entry for entry in made.entries if entry.path.startswith("films/"))

        opened = pyrage.decrypt(there.blob(film.sha256).read_bytes(), [identity])

        assert opened == (data / film.path).read_bytes()

    def test_a_film_that_has_decayed_here_is_named_and_not_passed_off_as_whole(self, data, stick):
        one = Instance.objects.first()
        flip_a_bit(data / film_path(one.sha256))

        _there, made = back_up(data, stick)

        assert made.missing == (one.sha256,)
        assert film_path(one.sha256) not in made.by_path

    def test_a_film_that_decays_later_stays_whole_in_the_backup(self, data, stick):
        back_up(data, stick)
        one = Instance.objects.first()
        flip_a_bit(data / film_path(one.sha256))

        there, made = back_up(data, stick)

        assert made.missing == ()
        assert there.is_whole(made.by_path[film_path(one.sha256)])

    def test_a_film_that_is_gone_stops_no_backup(self, data, stick):
        one = Instance.objects.first()
        (data / film_path(one.sha256)).unlink()

        assert back_up(data, stick)[1].missing == (one.sha256,)


class TestTheNextTime:
    def test_only_what_is_new_is_written(self, data, stick):
        there, _made = back_up(data, stick)
        before = {path: path.stat().st_mtime_ns for path in there.blobs()}
        take_in(film_bytes(7), "new.png")

        back_up(data, stick)
        after = {path: path.stat().st_mtime_ns for path in there.blobs()}

        assert {path: after[path] for path in before if path in after} == {
            path: at for path, at in before.items() if path in after
        }
        new = {path.stem for path in after.keys() - before.keys()}
        assert Instance.objects.last().sha256 in new
        assert len(new) == 2  # the film and the database

    @pytest.mark.parametrize("size_too", [True, False])
    def test_an_encrypted_file_that_has_decayed_is_written_again(
        self, data, stick, size_too, monkeypatch
    ):
        monkeypatch.setattr(write, "DAYS_OF_A_ROUND", 1)
        there, made = back_up(data, stick)
        entry = next(entry for entry in made.entries if entry.path.startswith("films/"))
        blob = there.blob(entry.sha256)
        flip_a_bit(blob) if not size_too else blob.write_bytes(blob.read_bytes()[:-1])
        assert not there.is_whole(entry)

        there, made = back_up(data, stick)

        assert there.is_whole(made.by_path[entry.path])

    def test_every_file_is_read_through_once_in_a_round(self, data, stick, monkeypatch):
        there, made = back_up(data, stick)
        read = []
        monkeypatch.setattr(Store, "is_whole", lambda _s, entry: bool(read.append(entry)) or True)
        bringer = write._Bringer(there, None, clinic(data), made.by_path)
        begin = bringer._today
        for day in range(write.DAYS_OF_A_ROUND):
            bringer._today = begin + day
            for entry in made.entries:
                bringer._is_there(entry)

        assert sorted(entry.path for entry in read) == sorted(made.by_path)

    def test_old_backups_go_and_take_along_what_no_other_needs(self, data, stick, monkeypatch):
        there, made = back_up(data, stick)
        for day in range(1, 12):
            at = made.made_at - timedelta(days=day)
            there.finish(replace(made, made_at=at))
        lonely = there.blob("ab" * 32)
        lonely.parent.mkdir(exist_ok=True)
        lonely.write_bytes(b"of a backup that is no more")
        (stick / store.FOLDER / store.BLOBS / "holiday.jpg").write_bytes(b"not ours")

        write.tidy(there)

        kept = {store.moment_of(path) for path in there.sets()}
        days = [made.made_at - timedelta(days=day) for day in range(12)]
        assert kept == rotation.kept(days)
        assert not lonely.exists()
        assert all(there.is_whole(entry) for entry in made.entries)
        assert (stick / store.FOLDER / store.BLOBS / "holiday.jpg").exists()

    def test_where_a_list_cannot_be_read_nothing_is_swept(self, data, stick):
        there, made = back_up(data, stick)
        earlier = there.finish(replace(made, made_at=made.made_at - timedelta(days=1)))
        flip_a_bit(earlier, 20)
        lonely = there.blob("ab" * 32)
        lonely.parent.mkdir(exist_ok=True)
        lonely.write_bytes(b"perhaps of the list that cannot be read")

        write.tidy(there)

        assert lonely.exists()


class TestRotation:
    def test_the_newest_of_each_day_week_and_month_stay(self):
        made = [NOON - timedelta(hours=12 * n) for n in range(600)]
        kept = sorted(rotation.kept(made), reverse=True)

        assert kept[:7] == [NOON - timedelta(days=n) for n in range(7)]
        assert len({at.isocalendar()[:2] for at in kept}) >= rotation.WEEKS
        assert len({(at.year, at.month) for at in kept}) == rotation.MONTHS
        assert len(kept) <= rotation.DAYS + rotation.WEEKS + rotation.MONTHS

    def test_days_on_which_the_clinic_was_closed_do_not_count(self):
        made = [NOON - timedelta(days=30 * n) for n in range(7)]

        assert rotation.kept(made) == set(made)

    @given(some.sets(some.datetimes(timezones=some.just(UTC)), min_size=1, max_size=60))
    def test_the_newest_always_stays_and_what_stays_stays_the_next_time(self, made):
        kept = rotation.kept(made)

        assert max(made) in kept
        assert rotation.kept(kept) == kept
        assert kept <= made


class TestTheList:
    ENTRY = Entry("active.json", "a" * 64, 5, 300, "b" * 64)
    LIST = Manifest("clinic", NOON, "0.1.0", {"films": 0}, (ENTRY,), ())

    def test_it_comes_back_as_it_was_written(self):
        assert Manifest.from_bytes(self.LIST.to_bytes()) == self.LIST

    @given(some.data())
    def test_a_changed_byte_is_noticed(self, data):
        content = bytearray(self.LIST.to_bytes()[:-1])
        at = data.draw(some.integers(0, len(content) - 1))
        content[at] ^= data.draw(some.integers(1, 255))

        assert fault_of(Manifest.from_bytes, bytes(content)) == "damaged"

    @given(some.integers(0, 300))
    def test_half_a_list_is_none(self, length):
        assert fault_of(Manifest.from_bytes, self.LIST.to_bytes()[:length]) == "damaged"

    @pytest.mark.parametrize(
        "path",
        [
            "../secret.key",
            "/etc/passwd",
            "films/../../x",
            "films/ab/..",
            "releases/./x",
            "other",
            "clinic.lock",
            "releases\\x",
            "films//x",
            "lan/authority.key",
            "C:/x",
            "a/b/c",
        ],
    )
    def test_it_names_no_file_elsewhere(self, path):
        assert not is_ours(path)
        written = replace(self.LIST, entries=(replace(self.ENTRY, path=path),)).to_bytes()
        assert fault_of(Manifest.from_bytes, written) == "damaged"

    def test_it_passes_no_file_off_as_a_film(self):
        false = replace(self.ENTRY, path=film_path("c" * 64))

        written = replace(self.LIST, entries=(false,)).to_bytes()

        assert fault_of(Manifest.from_bytes, written) == "damaged"


class TestKeys:
    def test_passphrase_and_line_open_the_same(self):
        public, sealed, line = pair()

        for secret in (
            PASSPHRASE,
            f"  {PASSPHRASE} ",
            line,
            line.lower(),
            f" {line[:20]} {line[20:]}\n",
        ):
            assert str(keys.unlock(sealed, secret).to_public()) == public

    def test_nothing_else_does(self):
        _public, sealed, line = pair()
        typo = line[:-1] + ("Q" if line[-1] != "Q" else "P")

        for secret in ("", PASSPHRASE.upper(), "maize road", typo, line[:-1]):
            assert fault_of(keys.unlock, sealed, secret) == "wrong_key"

    def test_letters_are_the_same_however_they_were_typed(self):
        _public, sealed, _line = keys.make("pão de cada dia")

        assert keys.unlock(sealed, "pa\N{COMBINING TILDE}o de cada dia")

    def test_the_line_of_another_clinic_opens_nothing(self, data, stick):
        there, _made = back_up(data, stick)
        other = str(pyrage.x25519.Identity.generate())

        assert fault_of(there.unlock, other) == "wrong_key"

    def test_a_new_passphrase_begins_anew_and_leaves_the_old_backups_be(self, data, stick):
        old, made = back_up(data, stick)
        line = note.set_up(data, "another passphrase")

        new, _made = back_up(data, stick)

        assert new.folder == stick / store.FOLDER
        assert new.unlock(line)
        before = Store.at(stick / f"{store.FOLDER}-before-1")
        assert before.unlock(PASSPHRASE)
        assert all(before.is_whole(entry) for entry in made.entries)
        assert before.name == old.name != new.name


class TestBreakingOff:
    def test_a_stick_that_is_full_is_known_before_anything_is_written(
        self, data, stick, monkeypatch
    ):
        there, known, _line = set_up(data, stick)
        real = write.shutil.disk_usage
        full = real("/")._replace(free=write.RESERVE_BYTES)
        monkeypatch.setattr(
            write.shutil, "disk_usage", lambda at: full if at == there.folder else real(at)
        )

        assert fault_of(write.back_up, there, known, clinic(data)) == "no_room_there"
        assert list(there.blobs()) == []

    @pytest.mark.parametrize(
        ("error", "code"),
        [
            (errno.ENOSPC, "no_room_there"),
            (errno.EIO, "cannot_write"),
            (errno.ENODEV, "cannot_write"),
        ],
    )
    def test_a_stick_that_fails_midway_leaves_the_backup_before(
        self, data, stick, monkeypatch, error, code
    ):
        there, made = back_up(data, stick)
        take_in(film_bytes(8), "new.png")

        def fail(_file: object) -> None:
            raise OSError(error, "the stick")

        monkeypatch.setattr(write, "flushed", fail)

        assert fault_of(back_up, data, stick) == code
        assert there.newest() == made
        assert all(there.is_whole(entry) for entry in made.entries)

    def test_a_stick_that_is_pulled_out_midway(self, data, stick):
        there, known, _line = set_up(data, stick)

        def pull(done: int, _total: int) -> None:
            if done == 4:
                there.folder.rename(stick / "gone")
                stick.rename(stick.with_name("in a pocket"))

        code = fault_of(write.back_up, there, known, clinic(data), pull)

        assert code == "cannot_write"
        assert there.newest() is None

    def test_it_goes_on_where_it_broke_off(self, data, stick):
        there, known, _line = set_up(data, stick)

        def stop(done: int, total: int) -> None:
            if done == total - 1:
                raise BackupFault("cancelled")

        assert fault_of(write.back_up, there, known, clinic(data), stop) == "cancelled"
        assert there.newest() is None
        before = {path: path.stat().st_ino for path in there.blobs()}

        made = write.back_up(there, known, clinic(data))

        assert all(there.is_whole(entry) for entry in made.entries)
        films_kept = [path for path in before if (data / film_path(path.stem)).exists()]
        assert len(films_kept) == 2
        assert all(path.stat().st_ino == before[path] for path in films_kept)

    def test_no_room_for_a_copy_of_the_database_here(self, data, stick, monkeypatch):
        there, known, _line = set_up(data, stick)
        full = write.shutil.disk_usage("/")._replace(free=0)
        monkeypatch.setattr(write.shutil, "disk_usage", lambda _at: full)

        assert fault_of(write.back_up, there, known, clinic(data)) == "no_room_here"

    def test_a_computer_that_dies_at_any_moment_leaves_whole_backups(self, data, stick, soak):
        there, known, _line = set_up(data, stick)
        begun = time.monotonic()
        write.back_up(there, known, clinic(data))
        whole = time.monotonic() - begun
        dice = random.Random(20261125)
        died = 0
        for turn in range(12 * soak):
            take_in(film_bytes(100 + turn), f"{turn}.png")
            child = os.fork()
            if not child:
                try:
                    write.back_up(there, known, clinic(data))
                finally:
                    os._exit(0)
            time.sleep(dice.uniform(0, whole))
            os.kill(child, signal.SIGKILL)
            died += os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
            newest = there.newest()
            assert newest is not None
            assert all(there.is_whole(entry) for entry in newest.entries)
        assert died > 0

        made = write.back_up(there, known, clinic(data))
        assert made.missing == ()
        assert made.counts["films"] == 3 + 12 * soak
        assert not [path for path in there.blobs() if path.name.endswith(store.PART)]


def read_all(file: Path, folder: Path) -> None:
    with sources.opened(file, pair()[2], folder / "t") as opened:
        for entry in opened.manifest.entries:
            with (folder / "x").open("wb") as target:
                opened.extract(entry, target)


class TestAFileForTheBrowser:
    def test_it_holds_everything_but_films(self, data, stick, tmp_path):
        set_up(data, stick)
        file = archive.pack(note.read(data), clinic(data))

        assert file.name.endswith(SUFFIX)
        with sources.opened(file, PASSPHRASE, tmp_path / "t") as opened:
            assert not opened.manifest.has_films
            assert DATABASE in opened.manifest.by_path
        assert b"SQLite format 3" not in file.read_bytes()

    def test_a_wrong_key_opens_it_not(self, data, stick, tmp_path):
        set_up(data, stick)
        file = archive.pack(note.read(data), clinic(data))

        for secret in ("maize road lantern eight", str(pyrage.x25519.Identity.generate())):
            with (
                pytest.raises(BackupFault, match="wrong_key"),
                sources.opened(file, secret, tmp_path / "t"),
            ):
                pass

    @pytest.mark.parametrize("at", [400, 1500, -3000, -200])
    def test_a_changed_bit_is_noticed(self, data, stick, tmp_path, at):
        set_up(data, stick)
        file = archive.pack(note.read(data), clinic(data))
        flip_a_bit(file, at)

        assert fault_of(read_all, file, tmp_path) in ("damaged", "wrong_key")


class TestTheNote:
    def test_it_comes_back_as_it_was_written(self, data_dir):
        note.set_up(data_dir, PASSPHRASE)
        note.note_stick(data_dir, "s1", label="KINGSTON", last=NOON)
        known = note.note_stick(data_dir, "s1", trouble="no_room_there")

        assert note.read(data_dir) == known
        assert known.sticks["s1"] == note.Stick("KINGSTON", NOON, "no_room_there")
        assert known.last == NOON

    @pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"sticks": 3}', b"\xff"])
    def test_a_damaged_one_is_none(self, data_dir, content):
        (data_dir / note.NAME).write_bytes(content)

        assert note.read(data_dir) == note.Note()

    @pytest.mark.parametrize(
        ("last", "since", "overdue"),
        [
            (None, None, True),
            (None, NOON - timedelta(days=6), False),
            (None, NOON - timedelta(days=8), True),
            (NOON - timedelta(days=7), NOON - timedelta(days=90), False),
            (NOON - timedelta(days=7, seconds=1), NOON - timedelta(days=90), True),
        ],
    )
    def test_a_week_without_a_backup_is_too_long(self, last, since, overdue):
        known = note.Note(sticks={"s": note.Stick("s", last)})

        assert known.is_overdue(NOON, since) is overdue


def test_every_fault_has_its_words():
    assert set(FAULTS) == CODES
    assert all(fault_words(code)[-1] in ".?" for code in CODES)
