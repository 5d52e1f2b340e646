"""What a ZIP can do to a program that trusts it, and what damage looks like; none gets through."""

from __future__ import annotations

import io
import json
import stat
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from app.cxr import release as release_module
from app.cxr import update_format
from app.cxr.update_format import clash, is_fit_name, may_travel
from app.update_words import refusal_words
from app.updates import install
from app.updates.archive import Archive, Folder
from app.updates.refused import UpdateRefused
from app.updates.verify import Trust, open_update
from tests.tuf_publisher import BUILT, Publisher, end_record

Spoil = Callable[[dict[str, bytes]], bytes]
PUBLISHER = Publisher().publish()


def packed(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return whole.getvalue()


HONEST = packed(PUBLISHER.members)


def with_entry(entry: zipfile.ZipInfo, content: bytes = b"x") -> bytes:
    """The honest members and one that was made by hand."""
    whole = io.BytesIO(HONEST)
    with zipfile.ZipFile(whole, "a") as archive:
        archive.writestr(entry, content)
    return whole.getvalue()


def named(name: str) -> bytes:
    """The honest members and one of a name that ``zipfile`` itself would not write."""
    stand_in = "q" * len(name.encode())
    return with_entry(zipfile.ZipInfo(stand_in)).replace(stand_in.encode(), name.encode())


def of_kind(mode: int) -> bytes:
    entry = zipfile.ZipInfo("metadata/link")
    entry.create_system, entry.external_attr = 3, (mode | 0o777) << 16
    return with_entry(entry, b"/etc/passwd")


def directory_at(archive: bytes) -> int:
    return struct.unpack_from("<L", archive, len(archive) - 6)[0]


def in_directory(archive: bytes, offset: int, value: int, form: str = "<H") -> bytes:
    """A field of the first entry of the directory, changed."""
    changed = bytearray(archive)
    struct.pack_into(form, changed, directory_at(archive) + offset, value)
    return bytes(changed)


def bomb_by_size() -> bytes:
    return packed(PUBLISHER.members | {f"bomb/{n}": b"\0" * 40_000_000 for n in range(14)})


def bomb_by_overlap() -> bytes:
    """Many entries of one and the same bytes (Fifield 2019)."""
    begin = directory_at(HONEST)
    directory = HONEST[begin:-22]
    first = directory[: 46 + struct.unpack_from("<H", directory, 28)[0]]
    name = first[46:]
    more = [first[:46] + b"%03d" % n + name[3:] for n in range(100)]
    whole = HONEST[:begin] + directory + b"".join(more)
    entries = struct.unpack_from("<H", HONEST, len(HONEST) - 12)[0] + len(more)
    return whole + end_record(entries, len(whole) - begin, begin)


def bomb_of_entries() -> bytes:
    return packed({f"n/{n}": b"" for n in range(update_format.MOST_MEMBERS + 1)})


def endless_directory() -> bytes:
    start = b"PK\3\4" + b"\0" * 96
    length = update_format.LARGEST_DIRECTORY + 1
    return start + b"\0" * length + end_record(5, length, len(start))


def endless_inside() -> bytes:
    """A member that unpacks to far more than its directory says."""
    name = "metadata/timestamp.json"
    archive = packed(PUBLISHER.members | {name: b" " * 5_000_000})
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        entries = [entry.filename for entry in opened.infolist()]
    at, changed = directory_at(archive), bytearray(archive)
    for entry in entries:
        if entry == name:
            struct.pack_into("<L", changed, at + 24, 900)
        at += 46 + len(entry)
    return bytes(changed)


def sixty_four_bits() -> bytes:
    begin = directory_at(HONEST)
    return HONEST[:-22] + end_record(0xFFFF, 0xFFFFFFFF, begin)


FILES: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "not_an_update"),
    "a word": (lambda: b"PK", "not_an_update"),
    "another file": (lambda: b"\x89PNG\r\n\x1a\n" + b"\0" * 500, "not_an_update"),
    "a beginning alone": (lambda: b"PK\3\4", "cut_short"),
    "a program with the update behind it": (lambda: b"MZ" + HONEST, "not_an_update"),
    "something before it": (lambda: b"PK\3\4" + HONEST, "damaged"),
    "something behind it": (lambda: HONEST + b"\0", "cut_short"),
    "a comment": (lambda: HONEST[:-2] + b"\2\0hi", "cut_short"),
    "cut in the middle": (lambda: HONEST[: len(HONEST) // 2], "cut_short"),
    "cut at the last byte": (lambda: HONEST[:-1], "cut_short"),
    "a stick's zeros for its second half": (
        lambda: HONEST[: len(HONEST) // 2].ljust(len(HONEST), b"\0"),
        "cut_short",
    ),
    "64-bit numbers": (sixty_four_bits, "bomb"),
    "up and out": (lambda: named("../../evil"), "odd_name"),
    "up and out within": (lambda: named("metadata/../../evil"), "odd_name"),
    "absolute": (lambda: named("/etc/cron.d/evil"), "odd_name"),
    "of Windows": (lambda: named("C:\\Windows\\evil"), "odd_name"),
    "with backslashes": (lambda: named("..\\..\\evil"), "odd_name"),
    "with a drive": (lambda: named("C:evil"), "odd_name"),
    "with a zero inside": (lambda: named("metadata/a\0.exe"), "odd_name"),
    "with a second stream": (lambda: named("model.onnx:evil"), "odd_name"),
    "with letters that look alike": (lambda: named("metadаta/x"), "odd_name"),
    "that turns writing round": (lambda: named("a\u202egnp.exe"), "odd_name"),
    "a device of Windows": (lambda: named("metadata/NUL.json"), "odd_name"),
    "hidden": (lambda: named("metadata/.x"), "odd_name"),
    "with a dot at the end": (lambda: named("metadata/x."), "odd_name"),
    "a folder": (lambda: named("metadata/"), "odd_name"),
    "too long": (lambda: named("a" * 300), "odd_name"),
    "twice": (lambda: named("metadata/targets.json"), "duplicate_name"),
    "twice but for the case": (lambda: named("METADATA/targets.json"), "duplicate_name"),
    "a file and a folder": (lambda: named("metadata/targets.json/x"), "duplicate_name"),
    "a link": (lambda: of_kind(stat.S_IFLNK), "link"),
    "a device": (lambda: of_kind(stat.S_IFCHR), "link"),
    "a pipe": (lambda: of_kind(stat.S_IFIFO), "link"),
    "encrypted": (lambda: in_directory(HONEST, 8, 1), "encrypted"),
    "strangely packed": (lambda: packed(PUBLISHER.members, zipfile.ZIP_LZMA), "odd_compression"),
    "of an unknown packing": (lambda: in_directory(HONEST, 10, 77), "odd_compression"),
    "a bomb by size": (bomb_by_size, "bomb"),
    "a bomb by overlap": (bomb_by_overlap, "bomb"),
    "a bomb of entries": (bomb_of_entries, "bomb"),
    "a bomb of a directory": (endless_directory, "bomb"),
    "more inside than it says": (endless_inside, "damaged"),
    "one more than is signed": (lambda: named("targets/notes.txt"), "stowaway"),
}


@pytest.fixture
def trust(tmp_path: Path) -> Trust:
    (tmp_path / "tmp").mkdir()
    return Trust(PUBLISHER.first_root, tmp_path / "tuf", tmp_path / "tmp", "0.1.0", BUILT)


def outcome(content: bytes, trust: Trust) -> str:
    """The label of the update, or the code of its refusal; all else is a fault of the program."""
    path = trust.scratch.parent / "u.clinicupdate"
    path.write_bytes(content)
    try:
        return open_update(path, trust).info.label
    except UpdateRefused as error:
        return error.code if refusal_words(error) else "no words"


def test_the_honest_file_that_they_are_made_of_is_taken(trust):
    assert outcome(HONEST, trust) == "tiny@1.2.3"


@pytest.mark.parametrize("kind", FILES)
def test_it_refuses_a_file(trust, kind):
    make, code = FILES[kind]
    assert outcome(make(), trust) == code
    assert list(trust.scratch.iterdir()) == []


def test_a_file_larger_than_any_update_is_not_read(trust, monkeypatch):
    monkeypatch.setattr("app.updates.archive.LARGEST_FILE", 1000)
    assert outcome(HONEST, trust) == "too_large"


@pytest.mark.parametrize("make", [Path, lambda folder: folder / "gone"])
def test_a_folder_and_a_missing_file_have_their_own_words(tmp_path, trust, make):
    with pytest.raises(UpdateRefused) as caught:
        open_update(make(tmp_path), trust)
    assert caught.value.code in ("not_a_file", "file_missing")


@pytest.mark.parametrize(
    ("number", "code"),
    [(5, "stick_gone"), (19, "stick_gone"), (13, "not_allowed"), (2, "file_missing")],
)
def test_a_stick_that_gives_up_while_it_is_read_has_its_own_words(
    tmp_path, trust, monkeypatch, number, code
):
    path = PUBLISHER.write(tmp_path / "u")

    def fail(*_args: object) -> bytes:
        raise OSError(number, "gone")

    monkeypatch.setattr(zipfile.ZipExtFile, "read", fail)
    with pytest.raises(UpdateRefused) as caught:
        open_update(path, trust)
    assert caught.value.code == code


@pytest.mark.parametrize("name", [name for name in PUBLISHER.members if name.startswith("meta")])
def test_bit_rot_is_told_apart_from_a_hand(trust, name):
    """A flipped bit without the matching CRC is damage; one with it was somebody's work."""
    archive = packed(PUBLISHER.members, zipfile.ZIP_STORED)
    content = PUBLISHER.members[name]
    at = archive.index(content) + len(content) // 2
    rotten = archive[:at] + bytes([archive[at] ^ 1]) + archive[at + 1 :]
    told = outcome(rotten, trust)
    # the first root is the program's own: it is never read from the file
    assert told == ("tiny@1.2.3" if name.endswith("1.root.json") else "damaged")

    forged = rotten.replace(
        struct.pack("<L", zlib.crc32(content)),
        struct.pack("<L", zlib.crc32(rotten[archive.index(content) :][: len(content)])),
    )
    assert outcome(forged, trust) in {
        "tiny@1.2.3" if name.endswith("1.root.json") else "mixed",
        "changed_after_signing",
        "metadata_damaged",
        "unknown_key",
    }


def test_it_reads_no_byte_beyond_what_was_asked_for(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(packed({"a": b"x" * 1000}))
    with Archive(path) as archive, pytest.raises(UpdateRefused) as caught:
        list(archive.chunks("a", 999))
    assert caught.value.code == "endless"


@pytest.mark.parametrize("name", ["missing", "../a", "", "/etc/passwd", "folder"])
def test_a_folder_gives_only_its_own_plain_files(tmp_path, name):
    (tmp_path / "inside" / "folder").mkdir(parents=True)
    (tmp_path / "a").write_bytes(b"outside")
    with pytest.raises(UpdateRefused) as caught:
        list(Folder(tmp_path / "inside").chunks(name, 100))
    assert caught.value.code == "incomplete"


def test_a_folder_gives_no_byte_beyond_what_was_asked_for(tmp_path):
    (tmp_path / "a").write_bytes(b"x" * 1000)
    assert b"".join(Folder(tmp_path).chunks("a", 1000)) == b"x" * 1000
    with pytest.raises(UpdateRefused):
        list(Folder(tmp_path).chunks("a", 999))


# --- by lot --------------------------------------------------------------------------------------

TAKEN_OR_REFUSED = {"tiny@1.2.3"} | {
    "not_an_update", "cut_short", "damaged", "too_large", "bomb", "odd_name", "duplicate_name",
    "link", "encrypted", "odd_compression", "stowaway", "incomplete", "unknown_key",
    "changed_after_signing", "too_few_signatures", "mixed", "content_changed", "endless",
    "metadata_damaged", "root_not_signed", "root_out_of_order",
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def no_factory(tmp_path_factory) -> Iterator[None]:
    """Staging looks at the factory's release each time; here is none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(release_module, "FACTORY_DIRECTORY", tmp_path_factory.mktemp("none"))
        yield


@contextmanager
def newcomer() -> Iterator[Trust]:
    """A computer that has seen no update yet."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for one in ("tmp", "data"):
            (folder / one).mkdir()
        yield Trust(PUBLISHER.first_root, folder / "tuf", folder / "tmp", "0.1.0", BUILT)


def brought(content: bytes) -> str:
    """As ``outcome`` on a new computer, and on until each file of the release lies there."""
    with newcomer() as trust:
        told = outcome(content, trust)
        if told != "tiny@1.2.3":
            return told
        folder = trust.scratch.parent
        with pytest.raises(UpdateRefused) as caught:
            install.stage(folder / "u.clinicupdate", trust, folder / "data")
        if caught.value.code != "release_unusable":
            return caught.value.code
        # Its files are no model, which is found out once all of them are there
        staged = folder / "data" / "releases" / "tiny-1.2.3.new"
        for name in ("manifest.json", "model.onnx"):
            assert (staged / name).read_bytes() == PUBLISHER.files[f"release/{name}"]
        return told


def test_the_honest_file_is_brought_over_whole_and_a_changed_one_is_not():
    assert brought(HONEST) == "tiny@1.2.3"
    changed = PUBLISHER.members | {"targets/release/model.onnx": b"Graph" + b"graph" * 99}
    assert brought(packed(changed)) == "content_changed"


def replaced(content: bytes, at: float, instead: bytes) -> bytes:
    """Bytes put in the place of others, so that all else stays where it was."""
    start = int(at * len(content))
    return (content[:start] + instead + content[start + len(instead) :])[: len(content)]


places = st.floats(0, 1, exclude_max=True)


@given(at=places, instead=st.binary(min_size=1, max_size=8))
def test_bytes_changed_anywhere_are_refused_or_change_nothing(at, instead):
    assert brought(replaced(HONEST, at, instead)) in TAKEN_OR_REFUSED


@given(at=places, length=st.integers(0, 40), instead=st.binary(max_size=8))
def test_bytes_put_in_or_left_out_are_refused(at, length, instead):
    start = int(at * len(HONEST))
    content = HONEST[:start] + instead + HONEST[start + length :]
    assume(len(content) != len(HONEST))
    assert brought(content) in TAKEN_OR_REFUSED - {"tiny@1.2.3"}


SIGNED = [name for name in PUBLISHER.members if not name.endswith("1.root.json")]
JSON_PIECES = st.sampled_from([b'"', b"{", b"}", b"[", b"]", b",", b":", b"-1", b"9" * 20, b"null"])


@given(
    name=st.sampled_from(SIGNED),
    at=places,
    instead=JSON_PIECES | st.binary(min_size=1, max_size=6),
    drop=st.integers(0, 6),
)
def test_a_member_changed_inside_a_sound_zip_is_refused(name, at, instead, drop):
    """The hand that mends the CRC: what is left is python-tuf and the signatures."""
    content = PUBLISHER.members[name]
    start = int(at * len(content))
    changed = content[:start] + instead + content[start + drop :]
    told = brought(packed(PUBLISHER.members | {name: changed}))
    if told == "tiny@1.2.3":
        assert changed == content or is_same(changed, name)
    else:
        assert told in TAKEN_OR_REFUSED


def is_same(content: bytes, name: str) -> bool:
    """Whether metadata says the same in other bytes: what is signed is its canonical form."""
    if not name.startswith("metadata/"):
        return False
    signed, honest = (json.loads(one)["signed"] for one in (content, PUBLISHER.members[name]))
    return bool(signed == honest)


@given(st.binary(max_size=400))
def test_no_bytes_whatever_are_an_update(content):
    told = brought(b"PK\3\4" + content + end_record(1, 46, 4))
    assert told in TAKEN_OR_REFUSED - {"tiny@1.2.3"}


# --- names ---------------------------------------------------------------------------------------


@given(st.text(max_size=30))
def test_a_name_that_is_fit_stays_in_its_folder_on_every_system(name):
    if is_fit_name(name):
        assert name.isascii()
        assert ".." not in name.split("/")
        assert not name.startswith(("/", "."))
        assert not set(name) & set('\\:*?"<>|\0')


@pytest.mark.parametrize(
    "name", ["update.json", "release/manifest.json", "release/self_test/film-1.png"]
)
def test_what_belongs_to_a_release_may_travel(name):
    assert may_travel(name)


@pytest.mark.parametrize(
    "name",
    [
        "manifest.json", "release", "release/", "release/a.py", "release/a.exe", "release/a.so",
        "release/a", "release/a.onnx.sh", "release/update/x.json", "release/Update/x.json",
        "notes/update.json", "release/../x.json", "release//x.json", "", "release/a.ONNX",
    ],
)  # fmt: skip
def test_nothing_else_may(name):
    assert not may_travel(name)


def test_names_clash_as_they_would_on_a_stick():
    assert clash(["a", "b/c", "b/d"]) is None
    assert clash(["a", "A"]) == "A"
    assert clash(["a", "a/b"]) == "a/b"
    assert clash(["a/b", "A"]) == "A"
