"""What can be sent to an open port: wrong, endless, nested, slow, and in thousands.

Each test attacks the real node over loopback and ends by asking it for an echo: it is still there.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import io
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    CTImageStorage,
    ExplicitVRLittleEndian,
)

from app.cxr.dicom_structure import DEEPEST, MOST_ELEMENTS, Malformed, values_of
from app.dicom import acceptor, upper_layer
from app.models import Instance
from tests import films, peers
from tests.dicom_clinic import UNIT, associated, film, listening, send, settled, unit
from tests.studies import stored

pytestmark = pytest.mark.django_db(transaction=True)

CR = str(ComputedRadiographyImageStorage)
EXPLICIT = str(ExplicitVRLittleEndian)
ENDLESS = 0xFFFFFFFF
MB = 1024 * 1024


@pytest.fixture
def port(data_dir: Path) -> Iterator[int]:
    """Where the node listens; it must answer when all is over, and hold on to nobody."""
    unit()
    with listening() as found:
        yield found
        assert "rc=0" in peers.dcmtk("echoscu", found, calling=UNIT)


@contextlib.contextmanager
def may_hang_up() -> Iterator[None]:
    """The node may hang up before or while one speaks. It may not let one wait."""
    try:
        yield
    except OSError as error:
        if not isinstance(error, ConnectionError) and error.errno != errno.ENOTCONN:
            raise


@contextlib.contextmanager
def connected(port: int) -> Iterator[socket.socket]:
    with socket.create_connection((peers.LOOPBACK, port), timeout=30) as connection:
        yield connection


def request(calling: str = UNIT, called: str = "CLINIC", *, context: str = CR) -> bytes:
    """An A-ASSOCIATE-RQ PDU (PS3.8, 9.3.2) with one presentation context, number 1."""

    def item(kind: int, content: bytes) -> bytes:
        return struct.pack(">BBH", kind, 0, len(content)) + content

    asked = item(
        0x20,
        struct.pack(">BBBB", 1, 0, 0, 0)
        + item(0x30, context.encode())
        + item(0x40, EXPLICIT.encode()),
    )
    user = item(0x50, item(0x51, struct.pack(">L", 16384)) + item(0x52, b"1.2.3"))
    head = struct.pack(">HH16s16s32x", 1, 0, called.ljust(16).encode(), calling.ljust(16).encode())
    body = head + item(0x10, b"1.2.840.10008.3.1.1.1") + asked + user
    return pdu(1, body)


def pdu(kind: int, content: bytes, length: int | None = None) -> bytes:
    return struct.pack(">BBL", kind, 0, len(content) if length is None else length) + content


def fragment(content: bytes, command: bool, last: bool, context: int = 1) -> bytes:
    """A P-DATA-TF PDU with one fragment (PS3.8, 9.3.5 and E.2)."""
    value = bytes([context, command | last << 1]) + content
    return pdu(4, struct.pack(">L", len(value)) + value)


def store_command(sop_class: str = CR, sop_instance: str = "1.2.3", **more: int) -> bytes:
    """The command set of a C-STORE request (PS3.7, 9.3.1)."""

    def element(tag: int, content: bytes) -> bytes:
        return struct.pack("<HHL", 0, tag, len(content)) + content

    def text(value: str) -> bytes:
        return value.encode() + b"\0" * (len(value) % 2)

    def number(value: int) -> bytes:
        return struct.pack("<H", value)

    body = (
        element(0x0002, text(sop_class))
        + element(0x0100, number(more.get("command", 1)))
        + element(0x0110, number(7))
        + element(0x0700, number(0))
        + element(0x0800, number(more.get("data_set", 0)))
        + element(0x1000, text(sop_instance))
    )
    return element(0x0000, struct.pack("<L", len(body))) + body


def established(port: int, stack: contextlib.ExitStack) -> socket.socket:
    connection = stack.enter_context(connected(port))
    connection.sendall(request())
    assert answer(connection)[0] == 2, "the association is not accepted"
    return connection


def answer(connection: socket.socket) -> bytes:
    """The next PDU, empty where the connection has ended."""
    with may_hang_up():
        head = connection.recv(6, socket.MSG_WAITALL)
        if len(head) == 6:
            length = struct.unpack(">L", head[2:])[0]
            return head + connection.recv(length, socket.MSG_WAITALL)
    return b""


def ended(connection: socket.socket) -> bool:
    """Whether the other side aborts or closes, sooner or later."""
    while found := answer(connection):
        if found[0] == 7:
            return True
    return True


def is_let_go() -> bool:
    return not [one for one in threading.enumerate() if "AcceptorThread" in one.name]


class TestStrangers:
    @pytest.mark.parametrize(
        ("calling", "called", "reason"),
        [("NOBODY", "CLINIC", 3), (UNIT, "NOBODY", 7), ("NOBODY", "NOBODY", 3)],
    )
    def test_a_wrong_ae_title(self, port, calling, called, reason):
        with connected(port) as connection:
            connection.sendall(request(calling, called))
            assert answer(connection)[6:] == bytes([0, 1, 1, reason])

    def test_an_unknown_address(self, port):
        with socket.socket() as connection:
            connection.bind(("127.0.0.2", 0))
            connection.settimeout(30)
            connection.connect((peers.LOOPBACK, port))
            connection.sendall(request())
            assert answer(connection)[6:] == bytes([0, 1, 1, 3])

    def test_an_ae_title_that_is_no_text(self, port):
        with connected(port) as connection:
            connection.sendall(request().replace(UNIT.encode(), b"\xff\x00\x1b\n\xfe"))
            assert ended(connection)

    def test_films_before_an_association(self, port):
        with connected(port) as connection:
            connection.sendall(fragment(store_command(), command=True, last=True))
            assert ended(connection)
        assert not Instance.objects.exists()

    def test_a_browser(self, port):
        with connected(port) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: clinic\r\n\r\n")
            assert ended(connection)

    def test_films_of_a_stranger_who_does_not_wait_for_an_answer(self, port):
        with connected(port) as connection:
            with may_hang_up():
                connection.sendall(
                    request("NOBODY") + fragment(store_command(), command=True, last=True)
                )
            assert ended(connection)
        assert not Instance.objects.exists()


class TestLengths:
    @pytest.mark.parametrize("length", [upper_layer.LONGEST_PDU + 1, 1 << 31, ENDLESS])
    @pytest.mark.parametrize("kind", [1, 4])
    def test_a_huge_pdu_is_not_waited_for(self, port, kind, length):
        with connected(port) as connection:
            connection.sendall(pdu(kind, b"x" * 100, length))
            assert ended(connection)

    def test_a_huge_pdu_within_an_association(self, port):
        with contextlib.ExitStack() as stack:
            connection = established(port, stack)
            connection.sendall(pdu(4, b"x" * 100, ENDLESS))
            assert ended(connection)

    def test_a_truncated_pdu(self, port):
        for cut in range(0, len(request()), 7):
            with connected(port) as connection:
                connection.sendall(request()[:cut])
        settled(is_let_go)

    @pytest.mark.parametrize("length", [0, 1, 2, 50, 1 << 31, ENDLESS])
    def test_a_pdv_of_wrong_length(self, port, length):
        with contextlib.ExitStack() as stack:
            connection = established(port, stack)
            connection.sendall(pdu(4, struct.pack(">LBB", length, 1, 3) + b"abcd"))
            assert ended(connection)

    def test_an_empty_fragment(self, port):
        with contextlib.ExitStack() as stack:
            connection = established(port, stack)
            connection.sendall(pdu(4, struct.pack(">LB", 1, 1)))
            assert ended(connection)

    def test_a_command_without_end(self, port):
        with contextlib.ExitStack() as stack:
            connection = established(port, stack)
            with may_hang_up():
                for _ in range(2 * upper_layer.LARGEST_COMMAND // 1024):
                    connection.sendall(fragment(bytes(1024), command=True, last=False))
            assert ended(connection)

    def test_a_data_set_without_end(self, port, settings):
        settings.MAX_FILM_BYTES = MB
        with contextlib.ExitStack() as stack:
            connection = established(port, stack)
            connection.sendall(fragment(store_command(), command=True, last=True))
            with may_hang_up():
                for _ in range(64):
                    connection.sendall(fragment(bytes(64 * 1024), command=False, last=False))
            assert ended(connection)
        assert list(settings.TEMPORARY_DIR.iterdir()) == []

    def test_a_data_set_without_end_that_is_no_film(self, port, monkeypatch):
        monkeypatch.setattr(upper_layer, "LARGEST_DATA_SET", 64 * 1024)
        with contextlib.ExitStack() as stack:
            connection = established(port, stack)
            echo = store_command(command=0x0030)
            connection.sendall(fragment(echo, command=True, last=True))
            with may_hang_up():
                for _ in range(64):
                    connection.sendall(fragment(bytes(16 * 1024), command=False, last=False))
            assert ended(connection)

    def test_a_data_set_without_its_command(self, port):
        with contextlib.ExitStack() as stack:
            connection = established(port, stack)
            connection.sendall(fragment(b"data", command=False, last=True))
            settled(lambda: "rc=0" in peers.dcmtk("echoscu", port, calling=UNIT))
        assert not Instance.objects.exists()

    def test_a_film_that_is_announced_and_never_sent(self, port, settings):
        with contextlib.ExitStack() as stack:
            connection = established(port, stack)
            connection.sendall(fragment(store_command(), command=True, last=True))
            connection.sendall(fragment(bytes(1000), command=False, last=False))
        settled(is_let_go)
        gc.collect()
        assert list(settings.TEMPORARY_DIR.iterdir()) == []


class TestRequests:
    @pytest.mark.parametrize(
        "command",
        [
            b"",
            b"\0" * 40,
            store_command(command=0x1234),
            store_command()[:-3],
            store_command().replace(b"\0\0\0\1\2\0\0\0", b"\0\0\0\1\2\0\0\1"),
        ],
    )
    def test_a_command_that_is_none(self, port, command):
        with contextlib.ExitStack() as stack:
            connection = established(port, stack)
            with may_hang_up():
                connection.sendall(fragment(command, command=True, last=True))
                connection.sendall(fragment(b"1234", command=False, last=True))
                connection.sendall(pdu(5, bytes(4)))
            assert ended(connection)
        assert not Instance.objects.exists()

    def test_a_context_that_was_never_agreed_on(self, port):
        with contextlib.ExitStack() as stack:
            connection = established(port, stack)
            connection.sendall(fragment(store_command(), command=True, last=True, context=99))
            assert ended(connection)

    def test_more_requests_than_may_wait(self, port, monkeypatch):
        goes_on = threading.Event()
        monkeypatch.setattr("app.dicom.storage.peer_of", lambda *_words: goes_on.wait(30) and None)
        with contextlib.ExitStack() as stack:
            stack.callback(goes_on.set)
            connection = established(port, stack)
            whole = fragment(store_command(), command=True, last=True)
            whole += fragment(b"1234", command=False, last=True)
            with may_hang_up():
                for _ in range(4 * upper_layer.MOST_WAITING):
                    connection.sendall(whole)
            goes_on.set()
            assert ended(connection)

    def test_a_class_that_is_no_film_under_the_context_of_one(self, port):
        found = film()
        with associated(port, (CR, EXPLICIT)) as association:
            context = association.accepted_contexts[0]
            context._abstract_syntax = CTImageStorage
            found.SOPClassUID = CTImageStorage
            assert association.send_c_store(found).Status == 0x0122
        assert not Instance.objects.exists()

    @pytest.mark.parametrize(
        "uid", ["../../../../etc/passwd", "..\\..\\evil", "/etc/shadow", "1.2.3;rm -rf", "1" * 65]
    )
    def test_a_uid_that_is_a_path(self, port, uid, data_dir):
        with contextlib.ExitStack() as stack:
            connection = established(port, stack)
            command = store_command(sop_instance=uid)
            connection.sendall(fragment(command, command=True, last=True))
            connection.sendall(fragment(encoded(film()), command=False, last=True))
            said = answer(connection)
            assert said[:1] in (b"\x07", b"\x04", b"")
            assert said[:1] != b"\x04" or b"\0\0\0\x09\2\0\0\0\x17\1" in said  # status 0x0117
        assert not Instance.objects.exists()
        assert not list(data_dir.parent.rglob("*passwd*"))

    def test_a_film_that_calls_itself_something_else_than_announced(self, port):
        with contextlib.ExitStack() as stack:
            connection = established(port, stack)
            connection.sendall(fragment(store_command(), command=True, last=True))
            connection.sendall(fragment(encoded(film()), command=False, last=True))
            assert b"\0\0\0\x09\2\0\0\0\x00\xa9" in answer(connection)
        assert not Instance.objects.exists()

    def test_the_uid_of_a_known_film_with_other_pixels_replaces_nothing(self, port):
        first = film(1)
        send(port, first)
        before = Instance.objects.get()
        content = stored(before).read_bytes()
        forged = film(
            2,
            SOPInstanceUID=first.SOPInstanceUID,
            SeriesInstanceUID=first.SeriesInstanceUID,
        )
        assert send(port, forged).Status == 0
        assert stored(Instance.objects.get()).read_bytes() == content


def encoded(found: Dataset) -> bytes:
    """The data set of a film without its file's head."""
    whole = films.written(found)
    return whole[144 + int.from_bytes(whole[140:144], "little") :]


def element(tag: int, vr: bytes, content: bytes) -> bytes:
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, len(content)) + content


def opening(tag: int = 0x00081140, length: int = ENDLESS) -> bytes:
    """A sequence begins."""
    return struct.pack("<HH2sHL", tag >> 16, tag & 0xFFFF, b"SQ", 0, length)


def delimiter(tag: int, length: int = 0) -> bytes:
    return struct.pack("<HHL", 0xFFFE, tag, length)


ITEM, ITEM_ENDS, SEQUENCE_ENDS = 0xE000, 0xE00D, 0xE0DD
IDENTITY = element(0x00080016, b"UI", CR.encode()) + element(0x00080018, b"UI", b"1.2.3\0")
NESTED = opening() + delimiter(ITEM, ENDLESS)
BOMBS = {
    "nested without end": IDENTITY + NESTED * 20_000,
    "nested and closed": IDENTITY
    + NESTED * 200
    + (delimiter(ITEM_ENDS) + delimiter(SEQUENCE_ENDS)) * 200,
    "a quarter of a million items": IDENTITY + opening() + delimiter(ITEM) * 250_000,
    "elements without end": IDENTITY + element(0x00091001, b"LO", b"") * 250_000,
    "a length beyond the end": IDENTITY + struct.pack("<HH2sHL", 9, 1, b"OB", 0, 1 << 30),
    "an item out of place": IDENTITY + delimiter(ITEM_ENDS),
    "no data set at all": b"\xff" * 5000,
    "nothing": b"",
}


class TestDataSets:
    @pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
    def test_a_bomb_is_refused_before_anything_is_built_of_it(self, port, bomb):
        with contextlib.ExitStack() as stack:
            connection = established(port, stack)
            connection.sendall(fragment(store_command(), command=True, last=True))
            for at in range(0, max(len(bomb), 1), 60_000):
                piece = bomb[at : at + 60_000]
                last = at + 60_000 >= len(bomb)
                connection.sendall(fragment(piece, command=False, last=last))
            assert b"\0\0\0\x09\2\0\0\0\x00\xc0" in answer(connection)
        assert not Instance.objects.exists()

    def walk(self, content: bytes) -> dict[int, bytes]:
        return values_of(io.BytesIO(content), True, True, [0x00080016, 0x00080018])

    def code(self, content: bytes) -> str:
        with pytest.raises(Malformed) as fault:
            self.walk(content)
        return fault.value.code

    def test_as_many_elements_as_a_film_may_have(self):
        few = IDENTITY + element(0x00091001, b"LO", b"") * (MOST_ELEMENTS - 2)
        assert self.walk(few)[0x00080018] == b"1.2.3\0"
        assert self.code(few + element(0x00091001, b"LO", b"")) == "too_many_elements"

    def test_as_deep_as_a_film_may_be(self):
        ends = delimiter(ITEM_ENDS) + delimiter(SEQUENCE_ENDS)
        levels = (DEEPEST - 1) // 2
        assert self.walk(IDENTITY + NESTED * levels + ends * levels)
        assert self.code(IDENTITY + NESTED * DEEPEST + ends * DEEPEST) == "too_deep"

    def test_a_uid_inside_a_sequence_is_not_the_film_s(self):
        inside = element(0x00080018, b"UI", b"9.9.9\0")
        content = opening() + delimiter(ITEM, len(inside)) + inside + delimiter(SEQUENCE_ENDS)
        assert self.walk(IDENTITY + content)[0x00080018] == b"1.2.3\0"

    def test_fragments_of_an_icon_are_passed_over(self):
        pixels = struct.pack("<HH2sHL", 0x7FE0, 0x10, b"OB", 0, ENDLESS)
        frame = delimiter(ITEM, 4) + b"\xff\xd8\xff\xe0"
        icon = opening(0x00880200) + delimiter(ITEM, ENDLESS) + pixels + frame
        ends = delimiter(SEQUENCE_ENDS) + delimiter(ITEM_ENDS) + delimiter(SEQUENCE_ENDS)
        assert self.walk(IDENTITY + icon + ends) == self.walk(IDENTITY)

    def test_what_is_unknown_is_implicit_inside(self):
        unknown = struct.pack("<HH2sHL", 0x0009, 0x1001, b"UN", 0, ENDLESS)
        inside = struct.pack("<HHL", 0x0008, 0x0018, 6) + b"9.9.9\0"
        content = unknown + delimiter(ITEM, ENDLESS) + inside
        ends = delimiter(ITEM_ENDS) + delimiter(SEQUENCE_ENDS)
        assert self.walk(IDENTITY + content + ends) == self.walk(IDENTITY)

    @pytest.mark.parametrize("cut", [1, 5, 9, 40, len(IDENTITY) - 1])
    def test_a_data_set_that_ends_too_early(self, cut):
        assert self.code(IDENTITY[:cut]) == "truncated"

    @given(st.binary(max_size=300))
    def test_whatever_it_is_the_walk_ends_with_values_or_a_fault(self, content):
        for explicit, little in ((True, True), (False, True), (True, False)):
            with contextlib.suppress(Malformed):
                found = values_of(io.BytesIO(content), explicit, little, [0x00080018])
                assert set(found) <= {0x00080018}

    def test_every_drawn_film_passes(self):
        found = self.walk(encoded(film()))[0x00080016]
        assert found.decode().strip("\0") == CR


class TestPatience:
    def test_a_slow_loris_is_let_go(self, port, monkeypatch):
        monkeypatch.setattr(acceptor, "ACSE_SECONDS", 0.5)
        with listening() as impatient, connected(impatient) as connection:
            connection.sendall(request()[:3])
            assert ended(connection)
        settled(is_let_go)

    def test_who_connects_and_says_nothing_is_let_go(self, port, monkeypatch):
        monkeypatch.setattr(acceptor, "ACSE_SECONDS", 0.5)
        with listening() as impatient, connected(impatient) as connection:
            assert ended(connection)
        settled(is_let_go)

    def test_a_unit_that_was_switched_off_gives_its_place_free(self, port, monkeypatch):
        monkeypatch.setattr(acceptor, "NETWORK_SECONDS", 0.5)
        with listening() as impatient, contextlib.ExitStack() as stack:
            connection = established(impatient, stack)
            connection.sendall(fragment(store_command(), command=True, last=True)[:20])
            assert ended(connection)
        settled(is_let_go)

    def test_nobody_takes_all_the_places(self, port):
        with contextlib.ExitStack() as stack:
            there = [stack.enter_context(connected(port)) for _ in range(40)]
            settled(
                lambda: sum(is_open(one) for one in there) <= upper_layer.Server.most_of_one_address
            )
        settled(is_let_go)

    def test_thousands_of_associations_leave_nothing_behind(self, port, soak):
        threads = threading.active_count()
        for _ in range(200 * soak):
            with connected(port) as connection, may_hang_up():
                connection.sendall(request("NOBODY"))
                answer(connection)
        settled(is_let_go)
        assert threading.active_count() <= threads


def is_open(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return bool(connection.recv(1))
    except BlockingIOError:
        return True
    except ConnectionError:
        return False
    finally:
        connection.settimeout(30)


def attack(port: int, content: bytes) -> None:
    """Send it from within an association, and see that this ends."""
    with may_hang_up(), contextlib.ExitStack() as stack:
        connection = established(port, stack)
        connection.sendall(content)
        connection.shutdown(socket.SHUT_WR)
        ended(connection)


class TestChance:
    @given(content=st.binary(min_size=1, max_size=400))
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_bytes_by_chance_instead_of_a_request(self, port, content):
        with connected(port) as connection, may_hang_up():
            connection.sendall(content)
            connection.shutdown(socket.SHUT_WR)
            ended(connection)

    @given(data=st.data())
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_a_request_with_some_bytes_changed(self, port, data):
        content = changed(data, request())
        with connected(port) as connection, may_hang_up():
            connection.sendall(content)
            connection.shutdown(socket.SHUT_WR)
            ended(connection)

    @given(data=st.data())
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_a_film_with_some_bytes_changed(self, port, data):
        found = film(size=(16, 16))
        whole = fragment(
            store_command(sop_instance=found.SOPInstanceUID), command=True, last=True
        ) + fragment(encoded(found), command=False, last=True)
        attack(port, changed(data, whole))

    def test_memory_does_not_grow(self, port, soak):
        """As much of it is in use after thousands of attacks as after the first hundreds."""
        whole = fragment(store_command(), command=True, last=True)
        attacks: list[Callable[[], None]] = [
            lambda: attack(port, whole + fragment(bytes(50_000), command=False, last=False)),
            lambda: attack(port, whole + fragment(BOMBS["an item out of place"], False, True)),
            lambda: attack(port, pdu(4, b"x" * 100, ENDLESS)),
            lambda: attack(port, pdu(4, struct.pack(">LBB", 50, 1, 3) + b"abcd")),
        ]

        def all_of_them(times: int) -> int:
            for _ in range(times):
                for one in attacks:
                    one()
            settled(is_let_go)
            gc.collect()
            return int(psutil.Process().memory_info().rss)

        before = all_of_them(25)
        after = all_of_them(50 * soak)
        assert after - before < 20 * MB


def changed(data: Any, content: bytes) -> bytes:
    """Some bytes of it replaced by others, or its end cut off."""
    found = bytearray(content)
    for _ in range(data.draw(st.integers(1, 8))):
        found[data.draw(st.integers(0, len(found) - 1))] = data.draw(st.integers(0, 255))
    return bytes(found[: data.draw(st.integers(1, len(found)))])


def test_nothing_of_a_patient_is_in_the_log(port, caplog):
    secret = film(PatientName="Okello^Grace", PatientID="P-77")
    send(port, secret)
    broken = encoded(secret)[:-1000]
    with contextlib.ExitStack() as stack:
        connection = established(port, stack)
        connection.sendall(fragment(store_command(), command=True, last=True))
        connection.sendall(fragment(broken, command=False, last=True))
        answer(connection)
    assert caplog.records
    assert "Okello" not in caplog.text
    assert "P-77" not in caplog.text
