"""The vault by its parts: keys and who opens them, films and database under them, what passes."""

from __future__ import annotations

import io
import json
import os
import re
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, cast

import pyrage
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from app import films, intake, vault
from app.models import AuditEvent, Instance
from app.stop import CannotStart
from app.vault import cipher, convert, hierarchy, note, seal, spool, unlock
from app.vault.hierarchy import Cost, WrongKey
from app.vault.note import State
from app.vault.unlock import Door, TooEarly
from tests.studies import film_bytes, take_in

PASSPHRASE = "violet harbour nine lanterns"


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Argon2id at a cost for tests: that of the program takes two seconds by design."""
    monkeypatch.setattr(hierarchy, "MEMORY_KIB", 64)
    monkeypatch.setattr(hierarchy, "PASSES", 1)
    monkeypatch.setattr(hierarchy, "LANES", 1)


@pytest.fixture(autouse=True)
def _forgotten() -> Any:
    """No keys of an earlier test."""
    vault.forget()
    yield
    vault.forget()


@pytest.fixture(scope="module")
def keys() -> hierarchy.Keys:
    return hierarchy.make()


@pytest.fixture
def made(data_dir: Path) -> tuple[note.Vault, str]:
    """A vault that is on, closed, and its recovery key."""
    kept, line = note.make(PASSPHRASE)
    kept = replace(kept, state=State.ON)
    note.write(data_dir, kept)
    return kept, line


@pytest.fixture
def opened(made: tuple[note.Vault, str]) -> hierarchy.Keys:
    return vault.hold(made[0].opened(PASSPHRASE))


def database(file: Path, rows: int = 50, name: str = "Wanjiru") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("CREATE TABLE people (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT)")
        connection.execute("CREATE INDEX by_name ON people (name)")
        connection.executemany("INSERT INTO people (name) VALUES (?)", [(name,)] * rows)
        connection.execute("PRAGMA user_version = 7")
    return file


def film(folder: Path, content: bytes) -> str:
    import hashlib

    sha256 = hashlib.sha256(content).hexdigest()
    file = folder / films.name_of(sha256)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return sha256


def flip(file: Path, at: int) -> None:
    content = bytearray(file.read_bytes())
    content[at] ^= 1
    file.write_bytes(bytes(content))


class TestTheKeys:
    def test_passphrase_and_recovery_key_open_the_same(self, made):
        kept, line = made

        one, other = kept.opened(PASSPHRASE), kept.recovered(line)

        assert (one.database, one.names, one.marks) == (other.database, other.names, other.marks)
        assert str(one.films) == str(other.films)

    def test_every_use_has_a_key_of_its_own(self, keys):
        found = {keys.database, keys.names[:32], keys.names[32:], keys.marks}
        assert len(found) == 4
        assert all(len(key) == 32 for key in found)

    @pytest.mark.parametrize(
        "wrong", ["", "violet harbour nine lantern", PASSPHRASE.upper(), PASSPHRASE + "x", "🙂"]
    )
    def test_no_other_passphrase_opens_them(self, made, wrong):
        with pytest.raises(WrongKey):
            made[0].opened(wrong)

    def test_how_a_keyboard_composes_letters_makes_no_difference(self, data_dir):
        kept, _line = note.make("clé de la porte bleue")

        assert kept.opened("  cle\u0301 de la porte bleue\n").vault == kept.name

    def test_the_recovery_key_is_read_however_it_was_copied(self, made):
        kept, line = made

        assert re.fullmatch(r"([A-Z]{4}-){7}[A-Z]{4}", line)
        for typed in (line.lower(), line.replace("-", " "), line.replace("-", ""), f" {line}\n"):
            assert kept.recovered(typed).vault == kept.name

    @pytest.mark.parametrize("change", ["", "A" * 32, "short", "É" * 32])
    def test_no_other_recovery_key_opens_them(self, made, change):
        with pytest.raises(WrongKey):
            made[0].recovered(change)

    def test_two_vaults_have_nothing_in_common(self, data_dir):
        one, other = note.make(PASSPHRASE), note.make(PASSPHRASE)

        assert one[0].opened(PASSPHRASE).database != other[0].opened(PASSPHRASE).database
        assert one[1] != other[1]
        assert one[0].cost.salt != other[0].cost.salt
        with pytest.raises(WrongKey):
            one[0].recovered(other[1])

    def test_a_new_passphrase_only_wraps_the_same_key_anew(self, made):
        kept, line = made
        before = kept.opened(PASSPHRASE)

        changed = kept.with_passphrase(before, "another one of five words")

        assert changed.opened("another one of five words").database == before.database
        assert changed.recovered(line).database == before.database
        assert changed.films == kept.films
        with pytest.raises(WrongKey):
            changed.opened(PASSPHRASE)

    @pytest.mark.parametrize("what", ["memory_kib", "passes", "lanes", "salt"])
    def test_what_a_guess_costs_cannot_be_made_cheaper_unnoticed(self, made, what):
        kept, _line = made
        cost = kept.cost
        changed = {
            "memory_kib": replace(cost, memory_kib=128),
            "passes": replace(cost, passes=2),
            "lanes": replace(cost, lanes=2),
            "salt": replace(cost, salt=bytes(16)),
        }[what]

        with pytest.raises(WrongKey):
            replace(kept, cost=changed).opened(PASSPHRASE)

    @pytest.mark.parametrize(
        "cost",
        [
            Cost(bytes(16), memory_kib=2**31),
            Cost(bytes(16), passes=10**9),
            Cost(bytes(16), lanes=1000),
            Cost(bytes(16), lanes=0),
            Cost(bytes(4)),
        ],
    )
    def test_a_file_cannot_ask_for_more_than_a_computer_has(self, made, cost):
        assert not cost.is_bearable
        with pytest.raises(WrongKey):
            replace(made[0], cost=cost).opened(PASSPHRASE)

    def test_the_cost_of_the_program_is_bearable(self):
        assert Cost(bytes(16), 256 * 1024, 6, 4).is_bearable

    def test_keys_of_one_vault_are_not_taken_for_anothers(self, made):
        kept, _line = made
        other, _other_line = note.make(PASSPHRASE)
        for field in ("by_passphrase", "by_recovery", "films"):
            mixed = replace(kept, **{field: getattr(other, field)})
            with pytest.raises(WrongKey):
                _ = (mixed.opened(PASSPHRASE).films, mixed.recovered(made[1]))


class TestTheFile:
    def test_what_is_written_is_read(self, data_dir, made):
        assert note.read(data_dir) == made[0]

    def test_it_holds_no_key_and_no_passphrase(self, data_dir, made, opened):
        content = (data_dir / note.NAME).read_text()
        for secret in (PASSPHRASE, made[1], str(opened.films), opened.database.hex()):
            assert secret not in content

    @pytest.mark.skipif(os.name == "nt", reason="rights of POSIX")
    def test_it_is_for_this_user_alone(self, data_dir, made):
        assert (data_dir / note.NAME).stat().st_mode & 0o077 == 0

    @pytest.mark.parametrize("damage", [b"", b"{}", b"not json", b"[1]", b'{"format": 2}'])
    def test_a_damaged_one_is_read_from_its_second_place(self, data_dir, made, damage):
        (data_dir / note.NAME).write_bytes(damage)

        assert note.read(data_dir) == made[0]

    def test_damaged_in_both_places_there_is_none(self, data_dir, made):
        for name in (note.NAME, note.SECOND):
            (data_dir / name).write_bytes(b"{}")

        assert note.read(data_dir) is None

    @pytest.mark.parametrize("field", ["by_passphrase", "by_recovery", "films"])
    @pytest.mark.parametrize("part", [0, 1])
    def test_a_changed_letter_in_it_opens_nothing(self, data_dir, made, field, part):
        body = json.loads((data_dir / note.NAME).read_bytes())
        text = body[field][part]
        body[field][part] = ("A" if text[0] != "A" else "B") + text[1:]
        (data_dir / note.NAME).write_text(json.dumps(body))
        kept = note.read(data_dir)

        with pytest.raises(WrongKey):
            _ = kept.recovered(made[1]) if field == "by_recovery" else kept.opened(PASSPHRASE).films


class TestTheDoor:
    def test_after_each_wrong_try_the_pause_is_twice_as_long(self, made):
        now = [0.0]
        door = Door(lambda: now[0])
        pauses = []
        for _ in range(9):
            with pytest.raises(WrongKey):
                door.by_passphrase("wrong")
            with pytest.raises(TooEarly) as early:
                door.by_passphrase(PASSPHRASE)
            pauses.append(early.value.seconds)
            now[0] += early.value.seconds

        assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]
        assert door.by_passphrase(PASSPHRASE).vault == made[0].name

    def test_the_right_one_ends_the_pauses(self, made):
        now = [0.0]
        door = Door(lambda: now[0])
        for _ in range(4):
            with pytest.raises(WrongKey):
                door.by_passphrase("wrong")
            now[0] += 100
        door.by_passphrase(PASSPHRASE)
        with pytest.raises(WrongKey):
            door.by_passphrase("wrong")
        with pytest.raises(TooEarly) as early:
            door.by_passphrase(PASSPHRASE)

        assert early.value.seconds == 1

    def test_wrong_recovery_keys_make_it_wait_too(self, made):
        door = Door(lambda: 0.0)
        with pytest.raises(WrongKey):
            door.by_recovery("A" * 32, "another one of five words")
        with pytest.raises(TooEarly):
            door.by_passphrase(PASSPHRASE)

    def test_the_recovery_key_sets_the_new_passphrase(self, data_dir, made):
        Door(lambda: 0.0).by_recovery(made[1], "another one of five words")

        assert note.read(data_dir).opened("another one of five words").vault == made[0].name
        assert vault.is_open()

    def test_a_new_recovery_key_replaces_the_old_one(self, data_dir, made, opened):
        line = unlock.new_recovery(opened)
        kept = note.read(data_dir)

        assert kept.recovered(line).database == opened.database
        with pytest.raises(WrongKey):
            kept.recovered(made[1])

    def test_without_a_vault_nothing_opens(self, data_dir):
        with pytest.raises(WrongKey):
            Door(lambda: 0.0).by_passphrase(PASSPHRASE)

    def test_the_file_of_the_passphrase_may_end_with_a_line_feed(self, made, tmp_path, monkeypatch):
        file = tmp_path / "passphrase"
        file.write_bytes(PASSPHRASE.encode() + b"\r\nmore")
        monkeypatch.setenv(unlock.FILE, str(file))
        monkeypatch.setattr(unlock, "door", Door(lambda: 0.0))

        assert unlock.from_file().vault == made[0].name

    @pytest.mark.parametrize("content", [b"", b"wrong", b"\xff\xfe\x00", b"x" * 5000, None])
    def test_any_other_file_stops_with_a_sentence(self, made, tmp_path, monkeypatch, content):
        file = tmp_path / "passphrase"
        if content is not None:
            file.write_bytes(content)
        monkeypatch.setenv(unlock.FILE, str(file))
        monkeypatch.setattr(unlock, "door", Door(lambda: 0.0))

        with pytest.raises(CannotStart) as stopped:
            unlock.from_file()
        assert unlock.FILE in str(stopped.value)
        assert not vault.is_open()

    def test_what_nobody_opened_is_locked(self, made):
        vault.ask_by(None)
        try:
            with pytest.raises(vault.Locked):
                vault.keys()
        finally:
            vault.ask_by(unlock.ask)

    def test_keys_of_another_data_directory_do_not_count(self, made, settings, tmp_path):
        vault.hold(made[0].opened(PASSPHRASE))
        settings.DATA_DIR = tmp_path / "another"

        assert not vault.is_open()


class TestFilms:
    @given(content=st.binary(max_size=200_000))
    @hypothesis_settings(max_examples=60, deadline=None)
    def test_any_bytes_come_back_as_they_were(self, keys, content):
        sealed = io.BytesIO()
        seal.encrypt(keys, io.BytesIO(content), sealed)

        assert seal.opened(keys, sealed.getvalue()) == content
        assert len(content) < 16 or content not in sealed.getvalue()

    @pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 1024**2, 3 * 1024**2 + 1])
    def test_at_the_edges_of_chunks_too(self, keys, size):
        content = os.urandom(size)
        sealed = io.BytesIO()
        seal.encrypt(keys, io.BytesIO(content), sealed)

        assert seal.opened(keys, sealed.getvalue()) == content

    def test_a_reader_that_gives_little_at_a_time_makes_no_difference(self, keys):
        class Slow(io.BytesIO):
            def read(self, _size: int | None = -1) -> bytes:
                return super().read(7)

        sealed = io.BytesIO()
        seal.encrypt(keys, Slow(b"film" * 500), sealed)

        assert seal.opened(keys, sealed.getvalue()) == b"film" * 500

    def test_every_changed_bit_is_noticed(self, keys):
        sealed = io.BytesIO()
        seal.encrypt(keys, io.BytesIO(b"a film" * 30), sealed)
        for at in range(len(sealed.getvalue())):
            changed = bytearray(sealed.getvalue())
            changed[at] ^= 1
            with pytest.raises(seal.Damaged):
                seal.opened(keys, bytes(changed))

    @pytest.mark.parametrize("cut", [1, 16, 65552, 100_000])
    def test_a_film_that_was_cut_off_is_noticed(self, keys, cut):
        sealed = io.BytesIO()
        seal.encrypt(keys, io.BytesIO(os.urandom(200_000)), sealed)
        with pytest.raises(seal.Damaged):
            seal.opened(keys, sealed.getvalue()[:-cut])

    def test_another_film_under_its_name_is_noticed(self, data_dir, opened):
        take = [film(data_dir / "x", os.urandom(500)) for _ in range(2)]
        place = films.place()
        for sha256 in take:
            source = data_dir / "x" / films.name_of(sha256)
            sealed = data_dir / "tmp" / sha256
            with source.open("rb") as file:
                films.receive(file, sealed)
            place.keep(sealed, sha256)
        one, other = (place._file(sha256) for sha256 in take)
        other.write_bytes(one.read_bytes())

        with pytest.raises(seal.Damaged), films.local(take[1]):
            pass
        with films.local(take[0]) as content:
            assert isinstance(content, bytes)

    def test_its_name_does_not_tell_the_digest_but_the_key_does(self, keys):
        sha256 = "ab" * 32
        name = seal.name_of(keys, sha256)

        assert sha256 not in name
        assert name == seal.name_of(keys, sha256)
        assert seal.digest_of(keys, name) == sha256
        assert name != seal.name_of(hierarchy.make(), sha256)
        assert seal.digest_of(hierarchy.make(), name) is None

    @pytest.mark.parametrize(
        "name", ["", "x.age", "ab" * 48, "ab" * 48 + ".age", "zz" * 48 + ".age"]
    )
    def test_no_other_name_is_a_films(self, keys, name):
        assert seal.digest_of(keys, name) is None

    def test_any_tool_for_age_opens_it_with_the_key(self, keys):
        sealed = io.BytesIO()
        seal.encrypt(keys, io.BytesIO(b"film"), sealed)
        identity = pyrage.x25519.Identity.from_str(str(keys.films))

        assert pyrage.decrypt(sealed.getvalue(), [identity]) == b"film"

    @pytest.mark.django_db
    def test_a_film_that_comes_in_is_never_stored_in_the_clear(self, data_dir, opened):
        content = film_bytes(4)
        study = take_in(content, "akinyi.png")
        instance = study.instances.get()
        files = [path for path in data_dir.rglob("*") if path.is_file()]

        assert all(content[100:160] not in path.read_bytes() for path in files)
        assert films.is_kept(instance.sha256)
        assert list(films.digests()) == [instance.sha256]
        with films.local(instance.sha256) as stored:
            assert stored == content
        assert films.stored_at(instance.sha256) is not None
        films.remove(instance.sha256)
        assert not films.is_kept(instance.sha256)

    @pytest.mark.django_db
    def test_the_browser_keeps_no_picture_of_it(self, client, site, data_dir, opened):
        instance = take_in(film_bytes(4)).instances.get()
        for path in (
            f"/films/{instance.pk}.png?v={instance.sha256[:16]}",
            f"/films/{instance.pk}.png",
        ):
            shown = client.get(path)
            assert shown.status_code == 200
            assert "no-store" in shown.headers["Cache-Control"]

    @pytest.mark.django_db
    def test_one_that_is_too_large_or_vanishes_leaves_nothing(self, data_dir, opened, settings):
        settings.MAX_FILM_BYTES = 1000

        class Gone(io.BytesIO):
            def read(self, _size: int | None = -1) -> bytes:
                raise OSError("the stick is gone")

        for file, code in (
            (io.BytesIO(bytes(1001)), "too_large"),
            (io.BytesIO(b""), "empty"),
            (Gone(), "source_vanished"),
        ):
            with pytest.raises(intake.Rejected) as turned_away:
                intake.receive(file, "film.png", "upload")
            assert turned_away.value.code == code
        assert not Instance.objects.exists()
        assert not list((data_dir / "tmp").iterdir())

    @pytest.mark.django_db
    def test_a_dicom_header_is_read_without_a_file_in_the_clear(self, data_dir, opened):
        from model_export.phantom import chest_film
        from tests import films as drawn

        study = take_in(drawn.dicom(chest_film(1), AccessionNumber="A-77"), "film.dcm")

        assert study.accession_number == "A-77"


class TestTheDatabase:
    def test_what_is_exported_is_all_there_and_encrypted(self, tmp_path, keys):
        source, target = database(tmp_path / "a.sqlite3"), tmp_path / "b.sqlite3"

        cipher.export(source, None, target, keys.database)

        assert b"Wanjiru" in source.read_bytes()
        assert b"Wanjiru" not in target.read_bytes()
        assert not cipher.is_plain(target)
        with cipher.opened(target, keys.database) as opened:
            assert opened.execute("SELECT count(*) FROM people").fetchone()[0] == 50
            assert opened.execute("PRAGMA user_version").fetchone()[0] == 7
            kinds = opened.execute("SELECT name FROM sqlite_master WHERE type = 'index'")
            assert ("by_name",) in kinds.fetchall()
            opened.execute("INSERT INTO people (name) VALUES ('x')")
            assert opened.execute("SELECT max(id) FROM people").fetchone()[0] == 51

    def test_back_in_the_clear_it_is_what_it_was(self, tmp_path, keys):
        source, target = database(tmp_path / "a.sqlite3"), tmp_path / "b.sqlite3"
        cipher.export(source, None, target, keys.database)
        cipher.export(target, keys.database, tmp_path / "c.sqlite3", None)

        dumps = []
        for file in (source, tmp_path / "c.sqlite3"):
            with closing(sqlite3.connect(file)) as connection:
                dumps.append(list(connection.iterdump()))
        assert dumps[0] == dumps[1]

    def test_with_another_key_it_is_no_database(self, tmp_path, keys):
        cipher.export(database(tmp_path / "a.sqlite3"), None, tmp_path / "b", keys.database)
        for wrong in (bytes(32), None):
            with (
                pytest.raises(sqlite3.DatabaseError, match="not a database"),
                cipher.opened(tmp_path / "b", wrong) as opened,
            ):
                opened.execute("SELECT * FROM people")

    def test_a_changed_bit_in_any_page_is_noticed(self, tmp_path, keys):
        whole = tmp_path / "b.sqlite3"
        cipher.export(database(tmp_path / "a.sqlite3", 3000), None, whole, keys.database)
        content = whole.read_bytes()
        for page in range(len(content) // 4096):
            whole.write_bytes(content)
            flip(whole, page * 4096 + 1000)
            assert not is_whole(whole, keys.database), page
        whole.write_bytes(content)
        assert is_whole(whole, keys.database)

    def test_its_log_is_encrypted_too(self, tmp_path, keys):
        cipher.export(database(tmp_path / "a.sqlite3"), None, tmp_path / "b", keys.database)
        with cipher.opened(tmp_path / "b", keys.database) as opened:
            opened.execute("PRAGMA journal_mode = WAL")
            opened.execute("INSERT INTO people (name) VALUES ('Akinyi Odhiambo')")
            opened.commit()
            log = (tmp_path / "b-wal").read_bytes()
        assert len(log) > 4096
        assert b"Akinyi" not in log

    def test_what_it_sorts_stays_in_memory(self, tmp_path, keys):
        with cipher.opened(tmp_path / "b", keys.database) as opened:
            assert opened.execute("PRAGMA temp_store").fetchone()[0] == 2

    def test_one_in_the_clear_is_not_written_to(self, tmp_path):
        with pytest.raises(CannotStart):
            cipher.refuse_plain(database(tmp_path / "a.sqlite3"))
        cipher.refuse_plain(tmp_path / "none")


def is_whole(file: Path, key: bytes) -> bool:
    try:
        with cipher.opened(file, key) as opened:
            return bool(opened.execute("PRAGMA quick_check").fetchall() == [("ok",)])
    except sqlite3.DatabaseError:
        return False


class TestEncryptingEverything:
    def test_everything_is_encrypted_and_nothing_is_lost(self, data_dir, opened):
        main = database(data_dir / "clinic.sqlite3")
        copy = database(data_dir / "backups" / "daily-20261101-080000.sqlite3", name="Odhiambo")
        aside = database(data_dir / "before-restore-20261101-1" / "clinic.sqlite3", name="Mutua")
        contents = [os.urandom(size) for size in (10, 70_000, 2_000_000)]
        digests = [film(data_dir, content) for content in contents]
        old = film(data_dir / "before-restore-20261101-1", b"an older film" * 20)
        seen: list[tuple[int, int]] = []

        count = convert.encrypt(data_dir, opened, lambda *at: seen.append(at))

        assert count == 7
        assert seen == [(done, 7) for done in range(7)]
        assert convert.in_the_clear(data_dir, opened) == []
        for file, name in ((main, "Wanjiru"), (copy, "Odhiambo"), (aside, "Mutua")):
            assert name.encode() not in file.read_bytes()
            with cipher.opened(file, opened.database) as read:
                assert read.execute("SELECT DISTINCT name FROM people").fetchall() == [(name,)]
        for sha256, content in zip(digests, contents, strict=True):
            with films.local(sha256) as stored:
                assert stored == content
        name = seal.name_of(opened, old)
        assert (data_dir / "before-restore-20261101-1" / "films" / name[:2] / name).exists()
        assert convert.encrypt(data_dir, opened) == 0

    def test_models_keys_and_logs_are_left_alone(self, data_dir, opened):
        kept = {
            data_dir / "releases" / "a" / "self-test.png": b"\x89PNG",
            data_dir / "releases" / "a" / ("ab" * 32): b"named by a digest",
            data_dir / "logs" / "clinic.log": b"a line",
            data_dir / "secret.key": b"secret",
            data_dir / "active.json": b"{}",
        }
        for path, content in kept.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

        assert convert.encrypt(data_dir, opened) == 0
        assert all(path.read_bytes() == content for path, content in kept.items())

    def test_what_was_written_to_the_log_is_not_left_behind(self, data_dir, opened):
        main = database(data_dir / "clinic.sqlite3")
        with closing(sqlite3.connect(main)) as writer:
            writer.execute("PRAGMA journal_mode = WAL")
            writer.execute("INSERT INTO people (name) VALUES ('Akinyi')")
            writer.commit()
            log, shm = (main.with_name(main.name + end).read_bytes() for end in ("-wal", "-shm"))
            content = main.read_bytes()
        # As a power cut leaves it: closing has tidied up
        main.write_bytes(content)
        for end, rest in (("-wal", log), ("-shm", shm)):
            main.with_name(main.name + end).write_bytes(rest)

        convert.encrypt(data_dir, opened)

        assert not main.with_name("clinic.sqlite3-wal").exists()
        with cipher.opened(main, opened.database) as read:
            assert read.execute("SELECT count(*) FROM people").fetchone()[0] == 51

    def test_a_database_that_somebody_has_open_is_not_touched(self, data_dir, opened):
        main = database(data_dir / "clinic.sqlite3")
        with closing(sqlite3.connect(main)) as other:
            other.execute("PRAGMA journal_mode = WAL")
            other.execute("SELECT * FROM people").fetchone()
            with pytest.raises(convert.InUse):
                convert.encrypt(data_dir, opened)
        assert cipher.is_plain(main)

    def test_a_full_disk_changes_nothing(self, data_dir, opened, monkeypatch):
        main = database(data_dir / "clinic.sqlite3")
        before = main.read_bytes()
        monkeypatch.setattr("shutil.disk_usage", lambda _path: type("U", (), {"free": 1000}))
        with pytest.raises(convert.NoRoom):
            convert.encrypt(data_dir, opened)
        assert main.read_bytes() == before

    def test_a_damaged_database_of_its_own_is_not_replaced(self, data_dir, opened):
        main = database(data_dir / "clinic.sqlite3", 3000)
        main.write_bytes(main.read_bytes()[:9000])
        before = main.read_bytes()
        with pytest.raises(sqlite3.DatabaseError):
            convert.encrypt(data_dir, opened)
        assert main.read_bytes() == before

    @pytest.mark.parametrize("cut", [9000, None])
    def test_a_damaged_one_that_was_set_aside_is_kept_as_it_is_encrypted(
        self, data_dir, opened, cut
    ):
        ruin = database(data_dir / "damaged-20261101-1" / "clinic.sqlite3", 3000)
        content = ruin.read_bytes()[:cut] if cut else b"damaged" + ruin.read_bytes()[7:]
        ruin.write_bytes(content)

        convert.encrypt(data_dir, opened)

        assert not ruin.exists()
        sealed = ruin.with_name("clinic.sqlite3.age").read_bytes()
        assert b"Wanjiru" not in sealed
        assert seal.opened(opened, sealed) == content

    def test_a_film_that_had_decayed_is_kept_and_passed_off_as_nothing(self, data_dir, opened):
        sha256 = film(data_dir, b"a film" * 100)
        file = data_dir / films.name_of(sha256)
        flip(file, 5)
        content = file.read_bytes()

        convert.encrypt(data_dir, opened)

        assert seal.opened(opened, Path(f"{file}.age").read_bytes()) == content
        assert not films.is_kept(sha256)

    def test_wherever_it_breaks_off_the_next_try_goes_on(self, data_dir, opened, monkeypatch):
        """Each step fails once; at every one all is there in one form or the other."""

        class Cut(BaseException):
            pass

        contents = [os.urandom(5000) for _ in range(3)]
        digests = [film(data_dir, content) for content in contents]
        main = database(data_dir / "clinic.sqlite3")
        steps = ["sync_folder", "_write_over", "_fold_log", "_replace"]
        left = dict.fromkeys(steps, 1)
        for module, name in [*((convert, step) for step in steps), (seal, "put"), (os, "link")]:
            whole = getattr(module, name)

            def cut(*args: Any, whole: Any = whole, name: str = name, **more: Any) -> Any:
                if left.get(name, 2) > 0:
                    left[name] = left.get(name, 2) - 1
                    if left[name] % 2 == 0:
                        whole(*args, **more)
                    raise Cut
                return whole(*args, **more)

            monkeypatch.setattr(module, name, cut)
        tries = 0
        while True:
            tries += 1
            try:
                convert.encrypt(data_dir, opened)
                break
            except Cut:
                key = None if cipher.is_plain(main) else opened.database
                with cipher.opened(main, key) as read:
                    assert read.execute("SELECT count(*) FROM people").fetchone()[0] == 50
        assert tries > 6
        for sha256, content in zip(digests, contents, strict=True):
            with films.local(sha256) as stored:
                assert stored == content
        names = {path.name for path in data_dir.rglob("*") if path.is_file()}
        assert not [name for name in names if name.endswith((convert.PART, ".part"))]
        assert not names & set(digests)


class TestWhatPasses:
    def test_without_a_vault_it_is_an_ordinary_file(self, data_dir):
        with spool.temporary() as file:
            assert not isinstance(file, spool.Spool)

    def test_with_one_it_is_encrypted(self, data_dir, opened, tmp_path):
        with spool.temporary() as file:
            assert isinstance(file, spool.Spool)
            file.write(b"Wanjiru" * 1000)
            file.flush()
            os.lseek(file._file.fileno(), 0, os.SEEK_SET)
            assert b"Wanjiru" not in os.read(file._file.fileno(), 7000)
            file.seek(7)
            assert file.read(7) == b"Wanjiru"

    @given(
        pieces=st.lists(st.binary(max_size=300), max_size=8),
        reads=st.lists(st.tuples(st.integers(0, 2500), st.integers(-1, 700)), max_size=8),
    )
    @hypothesis_settings(
        max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    def test_it_reads_as_an_ordinary_file_does(self, pieces, reads):
        sealed, plain = spool.Spool(io.BytesIO()), io.BytesIO()
        for piece in pieces:
            assert sealed.write(piece) == plain.write(piece)
        for at, size in reads:
            assert sealed.seek(at) == plain.seek(at)
            assert sealed.read(size) == plain.read(size)
            assert sealed.tell() >= min(plain.tell(), len(b"".join(pieces)))

    def test_no_place_is_written_twice_under_one_key(self):
        file = spool.Spool(io.BytesIO())
        file.write(b"once")
        file.seek(0)
        with pytest.raises(io.UnsupportedOperation):
            file.write(b"more")
        key = file._key
        file.truncate(0)
        file.write(b"anew")

        assert file._key != key
        file.seek(0)
        assert file.read() == b"anew"

    def test_a_zip_is_written_into_it_and_read_from_it(self):
        import zipfile

        file = spool.Spool(io.BytesIO())
        with zipfile.ZipFile(
            spool.WriteOnly(cast("IO[bytes]", file)), "w", zipfile.ZIP_DEFLATED
        ) as archive:
            archive.writestr("a.txt", b"a" * 5000)
            archive.writestr("b.txt", b"b")

        with zipfile.ZipFile(cast("IO[bytes]", file)) as archive:
            assert archive.testzip() is None
            assert archive.read("a.txt") == b"a" * 5000


@pytest.mark.django_db
class TestThePage:
    """/settings/encryption, as an administrator uses it."""

    @pytest.fixture
    def line(self, client, site, data_dir) -> str:
        fields = {"passphrase": PASSPHRASE, "again": PASSPHRASE}
        shown = client.post("/settings/encryption/prepare", fields).content.decode()
        return re.search(r"<code dir=\"ltr\">([A-Z-]{39})</code>", shown)[1]

    def test_the_recovery_key_is_shown_and_nothing_is_kept_yet(self, client, line, data_dir):
        assert note.read(data_dir) is None
        assert line not in client.get("/settings/encryption").content.decode()

    def test_whoever_has_not_written_it_down_goes_no_further(self, client, line, data_dir):
        wrong = "AAAA" if line[-4:] != "AAAA" else "BBBB"
        shown = client.post("/settings/encryption/confirm", {"end": wrong})

        assert shown.status_code == 400
        assert line in shown.content.decode()
        assert note.read(data_dir) is None

    def test_once_it_is_written_down_the_next_start_encrypts(self, client, line, data_dir):
        client.post("/settings/encryption/confirm", {"end": line[-4:].lower()})

        assert vault.waits()
        assert not vault.is_on()
        assert note.read(data_dir).recovered(line)
        assert AuditEvent.objects.filter(action="encryption_prepared").count() == 1
        assert "It begins at the next start" in client.get("/settings/encryption").content.decode()

    def test_until_then_it_can_be_withdrawn(self, client, line, data_dir):
        client.post("/settings/encryption/confirm", {"end": line[-4:]})
        client.post("/settings/encryption/withdraw")

        assert note.read(data_dir) is None
        assert AuditEvent.objects.filter(action="encryption_withdrawn").count() == 1

    def test_afterwards_it_cannot(self, client, site, data_dir, made):
        client.post("/settings/encryption/withdraw")

        assert note.read(data_dir) == made[0]

    @pytest.mark.parametrize(
        ("passphrase", "again", "said"),
        [
            ("short", "short", "too short"),
            ("11112222333344", "11112222333344", "easy to guess"),
            ("aaaaaaaaaaaaaaa", "aaaaaaaaaaaaaaa", "easy to guess"),
            ("1q2w3e4r5t6y", "1q2w3e4r5t6y", "easy to guess"),
            (PASSPHRASE, PASSPHRASE + "x", "not the same"),
            ("", "", "Type it here"),
        ],
    )
    def test_a_weak_passphrase_is_not_taken(self, client, site, data_dir, passphrase, again, said):
        shown = client.post(
            "/settings/encryption/prepare", {"passphrase": passphrase, "again": again}
        )

        assert shown.status_code == 400
        assert said in shown.content.decode()

    def test_a_second_vault_is_never_made(self, client, site, data_dir, made):
        fields = {"passphrase": PASSPHRASE, "again": PASSPHRASE}
        assert client.post("/settings/encryption/prepare", fields).status_code == 302
        client.post("/settings/encryption/confirm", {"end": "AAAA"})

        assert note.read(data_dir) == made[0]

    def test_the_passphrase_is_changed_by_who_knows_it(self, client, site, data_dir, opened):
        new = "seven quiet paper boats"
        fields = {"change-passphrase": new, "change-again": new}
        shown = client.post("/settings/encryption/change", fields | {"change-present": "wrong one"})
        unlock.door._open_at = 0
        client.post("/settings/encryption/change", fields | {"change-present": PASSPHRASE})

        assert "not the right one" in shown.content.decode()
        assert note.read(data_dir).opened(new).database == opened.database
        assert AuditEvent.objects.filter(action="encryption_passphrase_changed").count() == 1

    def test_a_new_recovery_key_is_shown_once(self, client, site, data_dir, opened):
        shown = client.post("/settings/encryption/recovery", {"recovery-present": PASSPHRASE})
        line = re.search(r"<code dir=\"ltr\">([A-Z-]{39})</code>", shown.content.decode())[1]

        assert note.read(data_dir).recovered(line).database == opened.database
        assert shown.headers["Cache-Control"].count("no-store") == 1
        assert AuditEvent.objects.filter(action="encryption_recovery_made").count() == 1
