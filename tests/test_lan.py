"""The door for phones and other computers: who finds it, what it believes, and what it bears.

A real door over real TLS, on loopback addresses: an attacker comes from 127.0.0.2, which is another
device than 127.0.0.1.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import os
import socket
import ssl
import stat
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import segno
from cryptography import x509
from django.contrib.sessions.models import Session
from django.test import Client
from django.urls import reverse

from app import lan, server
from app.access import FROM_LAN
from app.lan import addresses, certificate, listener, tls
from app.lan.addresses import Address
from app.lan.listener import Listener
from app.lan.tries import Tries
from app.models import AuditEvent, Invitation, Site
from app.views import lan as pages_of_lan
from tests.people import browser_of, enter
from tests.running import free_port, wait_for

ATTACKER = ("127.0.0.2", 0)
HOSTS = ["clinic-laptop", "clinic-laptop.local", "localhost"]
MB = 1024 * 1024
posix_only = pytest.mark.skipif(os.name == "nt", reason="rights of POSIX; other loopback addresses")


class Pages:
    """A WSGI application that reads no more than it is told to, and remembers what came."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.headers: list[tuple[str, str]] = []

    def __call__(self, environ, start_response):
        self.requests.append(environ)
        start_response("200 OK", [("Content-Type", "text/plain"), *self.headers])
        return [b"welcome"]


@pytest.fixture
def pages() -> Pages:
    return Pages()


@pytest.fixture
def here(monkeypatch) -> list[Address]:
    """The addresses that the computer has; a test may change them."""
    found = [Address("192.168.1.5", "wlan0")]
    monkeypatch.setattr(addresses, "current", lambda: list(found))
    monkeypatch.setattr(addresses, "names", lambda: HOSTS[:2])
    return found


@pytest.fixture
def opened(pages: Pages, here: list[Address], data_dir: Path, settings) -> Iterator[Listener]:
    settings.ALLOWED_HOSTS = ["127.0.0.1", "localhost", "[::1]"]
    found = Listener(pages, server.listen("127.0.0.1", 0))
    yield found
    found.close()


def trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def plain(listener: Listener, source: tuple[str, int] | None = None) -> socket.socket:
    return socket.create_connection(("127.0.0.1", listener.port), 30, source)


def secured(listener: Listener, source: tuple[str, int] | None = None) -> ssl.SSLSocket:
    return trusting().wrap_socket(plain(listener, source), server_hostname="127.0.0.1")


def ask(listener: Listener, head: str, body: bytes = b"", host: str = "") -> tuple[int, str, str]:
    """Send a request as it stands; status, head and body of the answer, to its end."""
    host = host or f"127.0.0.1:{listener.port}"
    with secured(listener) as sock, contextlib.suppress(ConnectionError, ssl.SSLError):
        sock.sendall(f"{head}\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode() + body)
        return answer_on(sock)
    return 0, "", ""  # the other side had enough before the end


def answer_on(sock: socket.socket) -> tuple[int, str, str]:
    answer = b""
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while more := sock.recv(65536):
            answer += more
    head, _, body = answer.decode("utf-8", "replace").partition("\r\n\r\n")
    return int(head.split()[1]) if head else 0, head, body


def is_answered(listener: Listener) -> bool:
    return ask(listener, "GET / HTTP/1.1")[0] == 200


class TestWhatItIsKnownBy:
    def test_it_answers_to_its_own_address(self, opened, pages):
        assert ask(opened, "GET /join/abc HTTP/1.1")[0] == 200
        assert pages.requests[0]["PATH_INFO"] == "/join/abc"

    @pytest.mark.parametrize("name", ["192.168.1.5", "clinic-laptop", "Clinic-Laptop.local"])
    def test_it_answers_to_the_address_and_names_that_it_has(self, opened, name):
        assert ask(opened, "GET / HTTP/1.1", host=f"{name}:{opened.port}")[0] == 200

    @pytest.mark.parametrize(
        "host",
        [
            "evil.example:{port}",
            "192.168.1.5.evil.example:{port}",
            "evil.example",
            "192.168.1.6:{port}",
            "192.168.1.5",
            "192.168.1.5:8765",
            "clinic-laptop:{port}@evil.example",
            "clinic-laptop:{port}.evil.example",
            "0.0.0.0:{port}",
            "[::1]:{port}",
            "*:{port}",
        ],
    )
    def test_rebinding_a_name_to_this_computer_reaches_no_page(self, opened, pages, host):
        status, _, body = ask(opened, "GET / HTTP/1.1", host=host.format(port=opened.port))

        assert status == 421
        assert "Nobody here goes by this name" in body
        assert pages.requests == []

    def test_a_request_for_nobody_reaches_no_page(self, opened, pages):
        with secured(opened) as sock:
            sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert answer_on(sock)[0] == 421
        assert pages.requests == []

    def test_it_follows_the_computer_into_another_network(self, opened, here, settings):
        here[:] = [Address("10.0.0.7", "wlan0")]
        opened.look_around()

        assert ask(opened, "GET / HTTP/1.1", host=f"10.0.0.7:{opened.port}")[0] == 200
        assert ask(opened, "GET / HTTP/1.1", host=f"192.168.1.5:{opened.port}")[0] == 421
        assert "10.0.0.7" in settings.ALLOWED_HOSTS
        assert "192.168.1.5" not in settings.ALLOWED_HOSTS

    def test_its_new_certificate_is_shown_to_the_next_device(self, opened, here):
        here.append(Address("10.0.0.7", "eth0"))
        opened.look_around()

        with secured(opened) as sock:
            shown = x509.load_der_x509_certificate(sock.getpeercert(binary_form=True) or b"")
        assert shown == opened.certificate.parsed
        assert "10.0.0.7" in opened.certificate.names

    def test_when_it_is_closed_django_knows_the_names_of_before_alone(
        self, pages, here, data_dir, settings
    ):
        before = list(settings.ALLOWED_HOSTS)
        closing = Listener(pages, server.listen("127.0.0.1", 0))
        assert "192.168.1.5" in settings.ALLOWED_HOSTS
        closing.close()

        assert before == settings.ALLOWED_HOSTS
        with pytest.raises(ConnectionRefusedError):
            plain(closing)


class TestWhatItTellsThePages:
    def test_that_the_request_came_from_another_device_and_over_tls(self, opened, pages):
        ask(opened, "GET / HTTP/1.1")

        [request] = pages.requests
        assert request[FROM_LAN] is True
        assert request["wsgi.url_scheme"] == "https"
        assert request["REMOTE_ADDR"] == "127.0.0.1"

    @pytest.mark.parametrize(
        "lie",
        [
            "Clinic.from_lan: ",
            "X-Forwarded-Proto: http",
            "X_Forwarded_Proto: http",
            "Wsgi.url_scheme: http",
        ],
    )
    def test_no_header_talks_it_out_of_that(self, opened, pages, lie):
        ask(opened, f"GET / HTTP/1.1\r\n{lie}")

        assert pages.requests[0][FROM_LAN] is True
        assert pages.requests[0]["wsgi.url_scheme"] == "https"

    def test_nor_does_an_address_that_names_another_scheme(self, opened, pages):
        ask(opened, f"OPTIONS http://127.0.0.1:{opened.port}/ HTTP/1.1")

        assert [request["wsgi.url_scheme"] for request in pages.requests] == ["https"]

    def test_a_header_with_a_second_spelling_does_not_reach_them(self, opened, pages):
        ask(opened, "GET / HTTP/1.1\r\nX_Real_Name: forged")

        assert "HTTP_X_REAL_NAME" not in pages.requests[0]

    def test_its_cookies_are_never_sent_without_tls(self, opened, pages):
        pages.headers = [
            ("Set-Cookie", "session=1; HttpOnly; Path=/"),
            ("Set-Cookie", "csrf=2; Secure; Path=/"),
        ]
        _, head, _ = ask(opened, "GET / HTTP/1.1")

        assert "Set-Cookie: session=1; HttpOnly; Path=/; Secure\r\n" in head
        assert "Set-Cookie: csrf=2; Secure; Path=/\r\n" in head

    def test_no_browser_is_told_to_insist_on_certificates(self, opened):
        assert "strict-transport-security" not in ask(opened, "GET / HTTP/1.1")[1].lower()


class TestWithoutTls:
    def say(self, opened: Listener, host: str, path: str = "/join/abc") -> tuple[int, str, str]:
        with plain(opened) as sock:
            sock.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            return answer_on(sock)

    def test_a_browser_is_led_on_to_the_encrypted_address(self, opened, pages):
        status, head, body = self.say(opened, f"192.168.1.5:{opened.port}")

        assert status == 307
        assert f"Location: https://192.168.1.5:{opened.port}/join/abc\r\n" in head
        assert "Type https://" in body
        assert pages.requests == []

    @pytest.mark.parametrize("host", ["evil.example", "evil.example:8766", ""])
    def test_it_leads_nobody_elsewhere(self, opened, host):
        status, head, body = self.say(opened, host)

        assert status == 400
        assert "Location" not in head
        assert "Type https://" in body

    def test_it_puts_no_header_of_an_attacker_into_its_answer(self, opened):
        host = f"192.168.1.5:{opened.port}"
        _, head, _ = self.say(opened, host, "/\x0bSet-Cookie:x=1\x00")

        assert "Set-Cookie" not in head

    def test_garbage_is_answered_and_forgotten(self, opened):
        with plain(opened) as sock:
            sock.sendall(b"\x00\xff" * 100)
            assert answer_on(sock)[0] == 400
        assert is_answered(opened)


class TestHowMuchItBears:
    def test_an_oversize_body_is_a_413_in_words(self, opened, pages, settings):
        settings.MAX_FILM_BYTES = 2 * MB
        length = 4 * MB
        status, head, body = ask(
            opened, f"POST /upload HTTP/1.1\r\nContent-Length: {length}", bytes(length)
        )

        assert status == 413
        assert "text/plain" in head
        assert body.startswith("The file is too large")
        assert pages.requests == []

    def test_a_body_of_terabytes_is_a_413_without_being_read(self, opened, pages):
        status, _, _ = ask(opened, f"POST /upload HTTP/1.1\r\nContent-Length: {10**13}")

        assert status == 413
        assert pages.requests == []

    def test_a_body_that_the_disk_cannot_take_is_a_507(self, opened, settings):
        settings.MIN_FREE_BYTES = 10**18
        head = f"POST /upload HTTP/1.1\r\nContent-Length: {2 * MB}"
        assert ask(opened, head, bytes(2 * MB))[0] == 507

    def test_a_body_that_no_page_reads_is_not_kept_in_memory(self, opened, pages, monkeypatch):
        biggest = []
        read = tls.PacedSocket.recv_into
        monkeypatch.setattr(
            tls.PacedSocket,
            "recv_into",
            lambda sock, buffer, *more: (biggest.append(len(buffer)), read(sock, buffer, *more))[1],
        )
        with secured(opened) as sock:
            for _ in range(2):
                host = f"Host: 127.0.0.1:{opened.port}\r\n"
                head = f"POST / HTTP/1.1\r\n{host}Content-Length: {20 * MB}\r\n\r\n"
                sock.sendall(head.encode() + bytes(20 * MB))
                answer = http.client.HTTPResponse(sock)
                answer.begin()
                assert answer.read() == b"welcome"

        assert len(pages.requests) == 2
        assert max(biggest) <= MB

    @pytest.mark.parametrize(
        "header",
        [
            "Content-Length: -1",
            "Content-Length: 5, 5",
            "Content-Length: 0x10",
            "Content-Length: +5",
            "Content-Length: 1_0",
            "Transfer-Encoding: chunked",
            "Transfer-Encoding: identity",
            "no colon",
            " begins with a space",
        ],
    )
    def test_a_length_that_can_be_read_two_ways_is_refused(self, opened, pages, header):
        assert ask(opened, f"POST / HTTP/1.1\r\n{header}", b"0\r\n\r\n")[0] in (400, 500)
        assert pages.requests == []
        assert is_answered(opened)

    def test_headers_without_end_are_refused(self, opened, pages):
        many = "".join(f"X-{number}: {'x' * 100}\r\n" for number in range(2000))
        assert ask(opened, f"GET / HTTP/1.1\r\n{many}X: y")[0] in (413, 0)
        assert ask(opened, f"GET /{'x' * 200_000} HTTP/1.1")[0] in (414, 0)
        assert pages.requests == []
        assert is_answered(opened)

    @posix_only
    def test_silent_connections_hold_up_nobody(self, opened):
        silent = [plain(opened, ATTACKER) for _ in range(tls.MOST_OF_ONE_DEVICE)]
        assert is_answered(opened)
        for sock in silent:
            sock.close()

    @posix_only
    def test_handshakes_that_are_begun_and_left_hold_up_nobody(self, opened):
        left = [plain(opened, ATTACKER) for _ in range(tls.MOST_OF_ONE_DEVICE)]
        for sock in left:
            sock.sendall(b"\x16\x03\x01")
        assert is_answered(opened)
        for sock in left:
            sock.close()

    @posix_only
    def test_one_device_cannot_take_every_connection(self, opened):
        taken = [secured(opened, ATTACKER) for _ in range(tls.MOST_OF_ONE_DEVICE)]
        with pytest.raises((ConnectionError, ssl.SSLError)):
            secured(opened, ATTACKER)

        assert is_answered(opened)
        for sock in taken:
            sock.close()
        # and has them back as soon as it lets go of some
        wait_for(lambda: could_connect(opened), pause=0.05)

    @posix_only
    def test_slowloris_is_cut_off_and_holds_up_nobody(self, opened, pages, monkeypatch):
        monkeypatch.setattr(tls, "GRACE_SECONDS", 1.0)
        dripping = [secured(opened, ATTACKER) for _ in range(tls.MOST_OF_ONE_DEVICE)]
        for sock in dripping:
            sock.sendall(b"GET / HTTP/1.1\r\nX-Slow: ")
        assert is_answered(opened)

        for sock in dripping:
            wait_for(lambda sock=sock: drips_in_vain(sock), pause=0.05)
        assert len(pages.requests) == 1

    @posix_only
    def test_a_body_that_drips_is_cut_off(self, opened, monkeypatch):
        monkeypatch.setattr(tls, "GRACE_SECONDS", 1.0)
        head = f"POST / HTTP/1.1\r\nHost: 127.0.0.1:{opened.port}\r\nContent-Length: 1000\r\n\r\n"
        with secured(opened, ATTACKER) as sock:
            sock.sendall(head.encode())
            wait_for(lambda: drips_in_vain(sock), pause=0.05)
        assert is_answered(opened)

    @posix_only
    def test_an_answer_that_nobody_fetches_is_cut_off(self, opened, pages, monkeypatch):
        monkeypatch.setattr(tls, "GRACE_SECONDS", 1.0)
        monkeypatch.setattr(tls, "SLOWEST_BYTES_A_SECOND", 10**9)
        sent: list[str] = []
        pages.__class__ = type(
            "Endless",
            (Pages,),
            {"__call__": lambda self, environ, start: self.stream(start), "stream": endless(sent)},
        )
        with secured(opened, ATTACKER) as sock:
            sock.sendall(f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{opened.port}\r\n\r\n".encode())
            wait_for(lambda: sent == ["closed"], pause=0.05)
        assert is_answered(opened)

    def test_an_idle_connection_is_closed_and_makes_room(self, opened, monkeypatch):
        opened._server.timeout = 0.2
        with secured(opened) as sock:
            assert sock.recv(1) == b""

    @pytest.mark.parametrize("device", ["8.8.8.8", "2001:db8::1", "203.0.114.1", "", "localhost"])
    def test_a_device_beyond_the_local_network_is_not_let_in(self, device):
        assert not addresses.is_local(device)


def could_connect(listener: Listener) -> bool:
    try:
        secured(listener, ATTACKER).close()
    except (ConnectionError, ssl.SSLError):
        return False
    return True


def drips_in_vain(sock: ssl.SSLSocket) -> bool:
    """Send one byte more; whether the other side has had enough."""
    try:
        sock.sendall(b"x")
        sock.settimeout(0.01)
        while sock.recv(1000):
            continue
    except TimeoutError:
        return False
    except OSError:
        return True
    return True


def endless(told: list[str]):
    def stream(_self, start_response):
        start_response("200 OK", [("Content-Length", str(10**12))])
        try:
            while True:
                yield bytes(MB)
        finally:
            told.append("closed")

    return stream


class TestGuessingPasswords:
    @pytest.fixture(autouse=True)
    def patience(self, monkeypatch):
        tries = Tries(most=3, seconds=600)
        monkeypatch.setattr(lan, "wrong_passwords", tries)
        monkeypatch.setattr(listener, "wrong_passwords", tries)

    def guess(self, password: str, **more: object) -> None:
        form = {"username": "amina", "password": password}
        Client(**more, headers={"Host": "localhost"}).post(reverse("log-in"), form)

    def log_in(self, opened: Listener) -> int:
        return ask(opened, "POST /log-in HTTP/1.1\r\nContent-Length: 0")[0]

    def test_a_device_that_guesses_is_told_to_wait(self, site, opened):
        enter("clinician", "amina", "right-lower-lobe-47")
        for number in range(3):
            assert self.log_in(opened) == 200
            self.guess(f"guess-{number}", **{FROM_LAN: True})

        assert self.log_in(opened) == 429
        assert is_answered(opened)

    def test_other_devices_and_the_computer_itself_are_not(self, site, opened):
        for number in range(5):
            self.guess(f"guess-{number}", **{FROM_LAN: True}, REMOTE_ADDR="192.168.1.66")
            self.guess(f"guess-{number}")

        assert AuditEvent.objects.filter(action="log_in_failed").count() == 10
        assert self.log_in(opened) == 200


class TestCertificate:
    def made(self, folder: Path, *ips: str, hosts: list[str] = HOSTS) -> certificate.Certificate:
        signer = certificate.authority(folder, hosts[0])
        return certificate.for_names(folder, signer, hosts, [*ips, "127.0.0.1"])

    @pytest.fixture
    def clock(self, monkeypatch):
        """Sets the computer's clock, as the module reads it."""

        def show(moment: datetime) -> None:
            class Clock(datetime):
                @classmethod
                def now(cls, tz=None):
                    return moment

            monkeypatch.setattr(certificate, "datetime", Clock)

        return show

    def test_a_device_that_trusts_the_authority_trusts_the_door(self, opened):
        pem = ssl.DER_cert_to_PEM_cert(opened.authority.der)
        context = ssl.create_default_context(cadata=pem)
        for name in ("127.0.0.1", "192.168.1.5", "clinic-laptop.local"):
            with context.wrap_socket(plain(opened), server_hostname=name) as sock:
                assert sock.version() in ("TLSv1.2", "TLSv1.3")

    def test_it_is_for_no_name_but_its_own(self, opened):
        pem = ssl.DER_cert_to_PEM_cert(opened.authority.der)
        context = ssl.create_default_context(cadata=pem)
        with pytest.raises(ssl.SSLCertVerificationError):
            context.wrap_socket(plain(opened), server_hostname="evil.example")

    def test_nobody_speaks_an_old_tls_with_it(self, opened):
        context = trusting()
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
        context.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.raises((ssl.SSLError, ConnectionError)):
            context.wrap_socket(plain(opened), server_hostname="127.0.0.1")

    @pytest.mark.parametrize("name", ["bank.example", "8.8.8.8"])
    def test_a_stolen_authority_cannot_vouch_for_the_internet(self, opened, tmp_path, name):
        hosts, ips = (["localhost"], [name]) if name[0].isdigit() else ([name], ["127.0.0.1"])
        certificate.for_names(tmp_path, opened.authority, hosts, ips)
        context = ssl.create_default_context(cadata=ssl.DER_cert_to_PEM_cert(opened.authority.der))
        with pytest.raises(ssl.SSLCertVerificationError, match="permitted subtree"):
            shake_hands(context, tls.context_of(str(tmp_path / certificate.DOOR)), name)

    def test_it_stays_the_same_from_one_start_to_the_next(self, tmp_path):
        first = self.made(tmp_path, "192.168.1.5")

        assert self.made(tmp_path, "192.168.1.5").fingerprint == first.fingerprint

    def test_it_stays_the_same_on_the_way_back_to_a_network_it_knows(self, tmp_path):
        self.made(tmp_path, "192.168.1.5")
        both = self.made(tmp_path, "10.0.0.7")

        assert self.made(tmp_path, "192.168.1.5").fingerprint == both.fingerprint
        assert {"192.168.1.5", "10.0.0.7", *HOSTS} <= {*both.names}

    def test_it_remembers_only_so_many_networks(self, tmp_path):
        for number in range(30):
            last = self.made(tmp_path, f"10.0.0.{number}")

        assert len(last.names) == len(HOSTS) + certificate.MOST_ADDRESSES
        assert "10.0.0.29" in last.names

    def test_a_new_one_is_vouched_for_by_the_same_authority(self, tmp_path):
        self.made(tmp_path, "192.168.1.5")
        before = certificate.authority(tmp_path, HOSTS[0])
        self.made(tmp_path, "10.0.0.7")

        assert certificate.authority(tmp_path, HOSTS[0]).fingerprint == before.fingerprint

    def test_a_computer_with_another_name_gets_another_authority(self, tmp_path):
        first = certificate.authority(tmp_path, "clinic-laptop")

        assert certificate.authority(tmp_path, "other-laptop").fingerprint != first.fingerprint

    def test_it_is_made_anew_before_it_ends(self, tmp_path, clock):
        today = datetime(2027, 6, 1, tzinfo=UTC)
        clock(today)
        first = self.made(tmp_path, "192.168.1.5")
        clock(today + timedelta(days=600))
        assert self.made(tmp_path, "192.168.1.5").fingerprint == first.fingerprint
        clock(today + timedelta(days=720))
        assert self.made(tmp_path, "192.168.1.5").fingerprint != first.fingerprint

    def test_a_clock_that_fell_back_to_its_first_day_makes_one_that_holds_today(
        self, tmp_path, clock
    ):
        clock(datetime(2001, 1, 1, tzinfo=UTC))
        made = self.made(tmp_path, "192.168.1.5").parsed

        assert made.not_valid_before_utc <= certificate.WRITTEN
        assert made.not_valid_after_utc > certificate.WRITTEN + timedelta(days=365)

    def test_a_clock_that_ran_years_ahead_and_was_put_right_costs_a_new_one(self, tmp_path, clock):
        clock(datetime(2031, 1, 1, tzinfo=UTC))
        wrong = self.made(tmp_path, "192.168.1.5")
        clock(datetime(2027, 1, 1, tzinfo=UTC))
        right = self.made(tmp_path, "192.168.1.5")

        assert right.fingerprint != wrong.fingerprint
        assert right.is_fresh(datetime(2027, 1, 1, tzinfo=UTC))

    def test_it_lives_no_longer_than_iphones_accept(self, tmp_path):
        made = self.made(tmp_path, "192.168.1.5").parsed

        assert made.not_valid_after_utc - made.not_valid_before_utc < timedelta(days=825)

    @pytest.mark.parametrize("damage", [b"", b"garbage", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
    @pytest.mark.parametrize("name", [certificate.AUTHORITY, certificate.DOOR])
    def test_a_damaged_file_is_made_anew(self, tmp_path, name, damage):
        self.made(tmp_path, "192.168.1.5")
        (tmp_path / name).write_bytes(damage)

        again = self.made(tmp_path, "192.168.1.5")

        assert (tmp_path / name).read_bytes() != damage
        assert tls.context_of(str(tmp_path / certificate.DOOR)).cert_store_stats() is not None
        assert again.is_fresh(datetime.now(UTC))

    @posix_only
    def test_its_keys_are_for_this_user_alone(self, opened, data_dir):
        files = sorted((data_dir / "lan").iterdir())

        assert [file.name for file in files] == ["authority.pem", "door.pem"]
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
        assert stat.S_IMODE((data_dir / "lan").stat().st_mode) == 0o700

    def test_its_fingerprint_is_the_one_that_browsers_show(self, opened):
        with secured(opened) as sock:
            shown = ssl.DER_cert_to_PEM_cert(sock.getpeercert(binary_form=True) or b"")
        parsed = x509.load_pem_x509_certificate(shown.encode())
        digest = parsed.fingerprint(certificate.hashes.SHA256())

        assert " ".join(opened.certificate.fingerprint) == digest.hex(" ").upper()
        assert len(opened.certificate.fingerprint) == 8


def shake_hands(client: ssl.SSLContext, host: ssl.SSLContext, name: str) -> None:
    """A handshake in memory, as `name`; raises what the client thinks of it."""
    to_host, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(to_client, to_host, server_hostname=name)
    host.sslsocket_class = ssl.SSLSocket
    answering = host.wrap_bio(to_host, to_client, server_side=True)
    for _ in range(4):
        with contextlib.suppress(ssl.SSLWantReadError):
            asking.do_handshake()
        with contextlib.suppress(ssl.SSLWantReadError):
            answering.do_handshake()


class TestAddresses:
    def test_it_finds_no_loopback_and_nothing_of_the_internet(self):
        found = addresses.current()

        assert all(addresses.is_local(address.ip) for address in found)
        assert not [address for address in found if address.ip.startswith("127.")]

    def test_it_offers_the_likeliest_first(self, monkeypatch):
        found = {
            "docker0": ["172.17.0.1"],
            "eth0": ["8.8.4.4", "169.254.3.4", ("fe80::1", 0, 2)],
            "wlan0": ["192.168.1.5"],
            "lo": ["127.0.0.1"],
        }
        adapters = [
            SimpleNamespace(nice_name=name, ips=[SimpleNamespace(ip=ip) for ip in ips])
            for name, ips in found.items()
        ]
        monkeypatch.setattr(addresses.ifaddr, "get_adapters", lambda: adapters)

        assert [one.ip for one in addresses.current()] == [
            "192.168.1.5",
            "172.17.0.1",
            "169.254.3.4",
        ]

    @pytest.mark.parametrize(
        ("name", "known_by"),
        [
            ("Clinic-Laptop", ["clinic-laptop", "clinic-laptop.local"]),
            ("ward.example.org", ["ward", "ward.local"]),
            ("clínica", []),
            ("my_laptop", []),
            ("", []),
        ],
    )
    def test_it_goes_by_a_name_that_hosts_can_have(self, monkeypatch, name, known_by):
        monkeypatch.setattr(socket, "gethostname", lambda: name)

        assert addresses.names() == known_by


class TestTries:
    def test_a_device_that_was_wrong_too_often_is_told_to_wait(self):
        tries = Tries(most=2, seconds=600)
        tries.note("a")
        assert not tries.are_used_up("a")
        tries.note("a")
        assert tries.are_used_up("a")
        assert not tries.are_used_up("b")

    def test_it_is_forgotten_after_a_while(self):
        tries = Tries(most=1, seconds=0)
        tries.note("a")

        assert not tries.are_used_up("a")
        assert not tries._failed


@pytest.fixture
def kept(here, data_dir, monkeypatch, settings, pages) -> Iterator[lan.Door]:
    """The program's door as the program keeps it, while it runs."""
    monkeypatch.setattr(lan, "EVERYWHERE", "127.0.0.1")
    monkeypatch.setattr(lan, "FIRST_PORT", free_port())
    settings.ALLOWED_HOSTS = ["127.0.0.1", "localhost", "testserver"]
    with lan.door.kept_for(pages):
        yield lan.door


class TestSwitch:
    @pytest.fixture(autouse=True)
    def at_once(self, django_capture_on_commit_callbacks, monkeypatch):
        """What happens when a transaction ends happens here, too, though a test's never ends."""
        switch = lan.switch

        def committed(*given: Any, **more: Any) -> None:
            with django_capture_on_commit_callbacks(execute=True):
                switch(*given, **more)

        monkeypatch.setattr(lan, "switch", committed)

    def test_it_is_closed_at_first(self, site, kept):
        assert not kept.is_open
        assert kept.addresses == []
        assert kept.certificate is None

    def test_an_administrator_opens_it_and_that_is_written_down(self, administrator, kept):
        lan.switch(True, by=administrator)

        assert kept.is_open
        assert Site.current().lan
        assert AuditEvent.objects.get(action="lan_opened").user == administrator
        with secured(kept):
            pass

    def test_it_is_closed_at_once(self, administrator, kept):
        lan.switch(True, by=administrator)
        port = kept.port
        lan.switch(False, by=administrator)

        assert AuditEvent.objects.filter(action="lan_closed").exists()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), 5)

    def test_closing_it_logs_out_who_came_in_by_it_and_nobody_else(self, administrator, kept):
        lan.switch(True, by=administrator)
        inside = browser_of(administrator)
        outside = Client(**{FROM_LAN: True})
        enter("clinician", "amina", "right-lower-lobe-47")
        form = {"username": "amina", "password": "right-lower-lobe-47"}
        outside.post(reverse("log-in"), form)
        assert outside.get("/").status_code == 200
        lan.switch(False, by=administrator)

        assert Session.objects.count() == 1
        assert inside.get("/").status_code == 200
        assert outside.get("/")["Location"].startswith(reverse("log-in"))

    def test_it_opens_again_where_phones_know_it(self, administrator, kept):
        lan.switch(True, by=administrator)
        port = kept.port
        lan.switch(False, by=administrator)
        lan.switch(True, by=administrator)

        assert kept.port == port

    def test_a_port_that_is_taken_leads_to_the_next(self, administrator, kept, data_dir):
        with server.listen("127.0.0.1", lan.FIRST_PORT):
            lan.switch(True, by=administrator)
            assert kept.is_open
            assert kept.port != lan.FIRST_PORT
        assert (data_dir / "lan-port").read_text() == str(kept.port)

    def test_a_door_that_cannot_be_opened_says_so_and_stops_nothing(
        self, administrator, kept, monkeypatch
    ):
        def no_room(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(certificate, "_write", no_room)
        lan.switch(True, by=administrator)

        assert not kept.is_open
        assert kept.problem == "cannot_open"
        page = browser_of(administrator).get(reverse("lan")).content.decode()
        assert "The door could not be opened" in page

    def test_it_stays_closed_where_nobody_logs_in(self, administrator, kept):
        Site.objects.update(single_user=True)
        with pytest.raises(lan.NobodyLogsIn):
            lan.switch(True, by=administrator)
        assert not kept.is_open
        assert not Site.current().lan

    def test_a_clinic_that_gives_up_logging_in_closes_it(
        self, administrator, kept, django_capture_on_commit_callbacks
    ):
        lan.switch(True, by=administrator)
        site = Site.current()
        site.single_user = True
        with django_capture_on_commit_callbacks(execute=True):
            site.save()

        assert not kept.is_open

    def test_it_is_open_from_the_start_where_it_was_left_open(
        self, site, here, data_dir, monkeypatch, settings, pages
    ):
        monkeypatch.setattr(lan, "EVERYWHERE", "127.0.0.1")
        monkeypatch.setattr(lan, "FIRST_PORT", free_port())
        Site.objects.update(lan=True)
        with lan.door.kept_for(pages):
            assert lan.door.is_open
        assert not lan.door.is_open

    def test_two_who_close_it_at_once_do_not_wait_for_each_other(
        self, administrator, kept, pages, monkeypatch
    ):
        """One of them came in by the door: closing waits for his request, which closes it too."""
        lan.switch(True, by=administrator)
        monkeypatch.setattr(
            Pages, "__call__", lambda *_: (lan.door._close(), [])[1] if lan.door.is_open else []
        )
        with secured(kept) as sock:
            sock.sendall(f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{kept.port}\r\n\r\n".encode())
            wait_for(lambda: not kept.is_open, pause=0.05)
        lan.switch(False, by=administrator)

        assert not kept.is_open

    def test_its_keys_are_in_no_diagnostics_and_no_backup(self, administrator, kept, data_dir):
        from app import database, diagnostics

        lan.switch(True, by=administrator)
        keys = [line for line in (data_dir / "lan/door.pem").read_text().splitlines() if line]
        with zipfile.ZipFile(BytesIO(diagnostics.archive())) as packed:
            inside = b"".join(packed.read(name) for name in packed.namelist()).decode()
        copy = database.back_up()

        assert not [line for line in keys if line in inside]
        assert copy is None or keys[1].encode() not in copy.read_bytes()


class TestOverTheDoor:
    """What pages do for a request that the door has marked."""

    @pytest.fixture
    def outside(self, site) -> Client:
        return Client(**{FROM_LAN: True})

    def test_nobody_sets_the_program_up_over_the_network(self, db, data_dir):
        outside = Client(**{FROM_LAN: True})
        form = {"mode": "single_user", "language": "en", "understood": "on"}

        assert outside.get(reverse("set-up")).status_code == 403
        assert outside.post(reverse("set-up"), form).status_code == 403
        assert not Site.current().is_set_up

    def test_nobody_is_the_single_user_over_the_network(self, outside, data_dir):
        Site.objects.update(single_user=True)

        assert outside.get("/")["Location"].startswith(reverse("log-in"))
        assert outside.post(reverse("lan"), {"lan": "on"})["Location"].startswith(reverse("log-in"))
        assert Client().get("/").status_code == 200


@pytest.fixture
def shown(here, data_dir, site, monkeypatch) -> lan.Door:
    """A door that is open as far as pages see. Nothing listens."""
    signer = certificate.authority(data_dir / "lan", HOSTS[0])
    made = certificate.for_names(data_dir / "lan", signer, HOSTS, ["192.168.1.5"])
    standing = SimpleNamespace(addresses=here, port=8766, certificate=made, authority=signer)
    monkeypatch.setattr(lan.door, "_listener", standing)
    Site.objects.update(lan=True)
    return lan.door


class TestDoorPage:
    def test_it_shows_where_the_computer_is_found_and_its_fingerprint(self, client, shown):
        page = client.get(reverse("lan")).content.decode()

        assert "https://192.168.1.5:8766" in page
        for group in [*shown.certificate.fingerprint, *shown.authority.fingerprint]:
            assert group in page

    def test_it_opens_the_door(self, client, data_dir):
        client.post(reverse("lan"), {"lan": "on"})

        assert Site.current().lan

    def test_it_closes_it(self, client, shown):
        assert client.post(reverse("lan"), {"lan": "off"})["Location"] == reverse("lan")
        assert not Site.current().lan

    def test_it_tells_who_came_in_by_it_that_they_are_out_too(self, administrator, shown):
        outside = Client(**{FROM_LAN: True})
        outside.force_login(administrator)
        page = outside.post(reverse("lan"), {"lan": "off"})

        assert page.status_code == 200
        assert "You came in by it" in page.content.decode()

    def test_it_refuses_in_single_user_mode_and_says_why(self, client, data_dir):
        Site.objects.update(single_user=True)
        page = client.post(reverse("lan"), {"lan": "on"})

        assert page.status_code == 400
        assert "nobody logs in" in page.content.decode()
        assert not Site.current().lan

    @pytest.mark.parametrize("role", ["clinician", "health_worker", "read_only"])
    def test_it_is_for_administrators(self, site, data_dir, role):
        client = browser_of(enter(role))

        assert client.get(reverse("lan")).status_code == 403
        assert client.post(reverse("lan"), {"lan": "on"}).status_code == 403
        assert not Site.current().lan

    def test_it_says_so_where_the_computer_is_in_no_network(self, client, shown, here):
        here.clear()
        assert "in no network now" in client.get(reverse("lan")).content.decode()
        assert "in no network now" in client.get(reverse("add-phone")).content.decode()

    def test_it_gives_the_authority_to_install_and_no_key(self, client, shown):
        answer = client.get(reverse("lan-authority"))

        assert answer["Content-Type"] == "application/x-x509-ca-cert"
        assert x509.load_der_x509_certificate(answer.content) == shown.authority.parsed

    def test_there_is_nothing_to_install_while_it_is_closed(self, client, data_dir):
        assert client.get(reverse("lan-authority")).status_code == 404


class TestForeignForms:
    """A page of another site, or of the same computer without TLS, that sends our forms."""

    @pytest.fixture
    def phone(self, administrator, shown, settings) -> Client:
        settings.ALLOWED_HOSTS = ["192.168.1.5"]
        phone = Client(enforce_csrf_checks=True, **{FROM_LAN: True})
        phone.force_login(administrator)
        return phone

    def send(self, phone: Client, **headers: str) -> int:
        own = {"secure": True, "headers": {"Host": "192.168.1.5:8766"}}
        page = phone.get(reverse("password"), **own)
        form = {"csrfmiddlewaretoken": str(page.context["csrf_token"]), "lan": "off"}
        own["headers"] |= headers
        return phone.post(reverse("lan"), form, **own).status_code

    def test_our_own_page_may(self, phone):
        assert self.send(phone, Origin="https://192.168.1.5:8766") == 200

    @pytest.mark.parametrize(
        "origin",
        [
            "https://evil.example",
            "http://192.168.1.5:8766",
            "http://127.0.0.1:8765",
            "https://192.168.1.5",
            "https://192.168.1.5:8767",
            "https://192.168.1.5:8766.evil.example",
            "null",
        ],
    )
    def test_a_foreign_origin_is_refused_even_with_the_token(self, phone, origin):
        assert self.send(phone, Origin=origin) == 403
        assert Site.current().lan

    @pytest.mark.parametrize("referer", ["", "https://evil.example/", "http://192.168.1.5:8766/"])
    def test_so_is_a_form_that_does_not_say_where_it_comes_from(self, phone, referer):
        assert self.send(phone, **({"Referer": referer} if referer else {})) == 403


class TestAddPhone:
    @pytest.fixture
    def link(self, client, shown, monkeypatch) -> str:
        drawn = []
        make = segno.make
        monkeypatch.setattr(segno, "make", lambda link, **more: drawn.append(link) or make(link))
        assert "<svg" in client.get(reverse("add-phone")).content.decode()
        [link] = drawn
        return link

    def test_its_square_leads_to_this_computer_with_a_code(self, link):
        assert link.startswith("https://192.168.1.5:8766/join/")
        assert Invitation.user_of(link.rpartition("/")[2])

    def test_it_is_written_down(self, link, administrator):
        assert AuditEvent.objects.get(action="phone_invited").user == administrator

    def test_the_code_itself_is_kept_nowhere(self, link):
        code = link.rpartition("/")[2]

        assert code not in str(Invitation.objects.values())
        assert code not in str(AuditEvent.objects.values())

    def test_it_is_for_the_network_that_was_chosen(self, client, shown, here):
        here.append(Address("10.0.0.7", "eth0"))
        page = client.get(reverse("add-phone"), {"address": "10.0.0.7"}).content.decode()

        assert "https://10.0.0.7:8766/join/" in page

    def test_it_is_for_no_address_that_this_computer_does_not_have(self, client, shown):
        page = client.get(reverse("add-phone"), {"address": "evil.example"})

        assert page.context["here"] == "https://192.168.1.5:8766"
        assert page.context["link"].startswith("https://192.168.1.5:8766/join/")

    def test_a_closed_door_makes_no_code(self, client, data_dir):
        page = client.get(reverse("add-phone")).content.decode()

        assert "Phones cannot join now" in page
        assert not Invitation.objects.exists()


class TestJoin:
    @pytest.fixture(autouse=True)
    def patience(self, monkeypatch, site, data_dir):
        monkeypatch.setattr(pages_of_lan, "wrong_codes", Tries(most=3, seconds=600))

    @pytest.fixture
    def phone(self) -> Client:
        return Client(**{FROM_LAN: True})

    def join(self, phone: Client, code: str):
        return phone.post(reverse("join", args=[code]))

    def test_a_preview_of_the_link_does_not_use_it_up(self, phone):
        user = enter("health_worker", full_name="Amina Otieno")
        code = Invitation.issue(user)
        for _ in range(3):
            page = phone.get(reverse("join", args=[code]))
            assert "Amina Otieno" in page.content.decode()
        assert phone.get("/")["Location"].startswith(reverse("log-in"))

        assert self.join(phone, code)["Location"] == reverse("camera")

    def test_the_phone_works_as_whoever_asked_for_the_code(self, phone):
        user = enter("health_worker")
        self.join(phone, Invitation.issue(user))

        assert phone.get("/").context["request"].user == user
        assert AuditEvent.objects.get(action="phone_joined").user == user

    def test_who_may_take_no_films_in_comes_to_the_worklist(self, phone):
        assert self.join(phone, Invitation.issue(enter("read_only")))["Location"] == "/"

    def test_a_replayed_code_lets_nobody_in(self, phone):
        code = Invitation.issue(enter("clinician"))
        self.join(phone, code)
        other = Client(**{FROM_LAN: True})

        assert self.join(other, code).status_code == 404
        assert "does not work" in other.get(reverse("join", args=[code])).content.decode()
        assert other.get("/")["Location"].startswith(reverse("log-in"))

    def test_an_old_code_lets_nobody_in(self, phone):
        code = Invitation.issue(enter("clinician"))
        Invitation.objects.update(created_at=datetime.now(UTC) - Invitation.LIFE)

        assert self.join(phone, code).status_code == 404

    def test_a_code_of_somebody_who_was_switched_off_lets_nobody_in(self, phone):
        user = enter("clinician")
        code = Invitation.issue(user)
        user.is_active = False
        user.save()

        assert self.join(phone, code).status_code == 404

    def test_codes_of_yesterday_are_forgotten(self):
        user = enter("clinician")
        Invitation.issue(user)
        Invitation.objects.update(created_at=datetime.now(UTC) - timedelta(days=2))
        Invitation.issue(user)

        assert Invitation.objects.count() == 1

    def test_guessing_codes_is_stopped_and_written_down(self, phone):
        code = Invitation.issue(enter("clinician"))
        for guess in range(3):
            assert self.join(phone, f"guess-{guess}").status_code == 404

        assert self.join(phone, code).status_code == 429
        assert "Wait ten minutes" in phone.get(reverse("join", args=[code])).content.decode()
        assert AuditEvent.objects.filter(action="join_failed").count() == 3
        # which is no reason to keep others out
        other = Client(**{FROM_LAN: True}, REMOTE_ADDR="192.168.1.77")
        assert self.join(other, code).status_code == 302

    def test_codes_have_144_bits(self):
        code = Invitation.issue(enter("clinician"))

        assert len(base64.urlsafe_b64decode(code)) * 8 == 144

    def test_an_older_session_is_not_carried_over_to_another_person(self, phone):
        phone.force_login(enter("administrator"))
        before = phone.session.session_key
        self.join(phone, Invitation.issue(enter("read_only")))

        assert phone.session.session_key != before
        assert phone.get(reverse("people")).status_code == 403
        assert not Session.objects.filter(session_key=before).exists()
