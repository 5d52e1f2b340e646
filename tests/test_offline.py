"""Nothing leaves the laptop, and nothing is fetched: watched from inside and from outside.

An audit hook, put into the real program by a `sitecustomize` of the test's own, writes down what
Python asks of the network. Where strace is there it watches every thread from outside, libraries in
C++ included: that is where the telemetry of onnxruntime 1.29 and later would speak
(docs/adr/0001-onnxruntime-1.28.0.md). Both watchers are shown to see a call that goes out.
"""

from __future__ import annotations

import html
import ipaddress
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from model_export import phantom
from tests.running import serving, wait_for

NAME_SERVICE = 53
WATCHED = frozenset(
    {
        "socket.connect",
        "socket.bind",
        "socket.sendto",
        "socket.sendmsg",
        "socket.getaddrinfo",
        "socket.gethostbyname",
        "socket.gethostbyaddr",
    }
)
HOOK = """
import json, os, sys

log = os.open(os.environ["OFFLINE_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def write_down(event, args):
    if event in WATCHED:
        asked = [a if isinstance(a, (str, int, list, tuple, type(None))) else repr(a) for a in args]
        os.write(log, (json.dumps([event, asked]) + "\\n").encode())

sys.addaudithook(write_down)
""".replace("WATCHED", repr(set(WATCHED)))

STRACE = ["strace", "-D", "-f", "-qq", "-e", "trace=connect,bind,sendto,sendmsg,sendmmsg"]
STRACE_ADDRESS = re.compile(
    r"sa_family=AF_INET6?, sin6?_port=htons\((?P<port>\d+)\).*?"
    r'(?:inet_addr\("(?P<v4>[^"]+)"\)|inet_pton\(AF_INET6, "(?P<v6>[^"]+)")'
)


def is_number(host: object) -> bool:
    """Whether a host is written as a number, so that nobody need be asked for it."""
    try:
        ipaddress.ip_address(str(host).split("%")[0])
    except ValueError:
        return False
    return True


def stays_here(host: object, port: object = 0) -> bool:
    """Whether an address is of this machine; port 53 is not, for a local resolver asks others."""
    if port == NAME_SERVICE:
        return False
    if host in (None, "localhost"):
        return True
    return is_number(host) and ipaddress.ip_address(str(host).split("%")[0]).is_loopback


def leaves(event: str, args: list[object]) -> bool:
    """Whether an audited call asks for anything but this machine; a name looked up leaves it."""
    asked = args[1] if event in {"socket.connect", "socket.bind", "socket.sendto"} else args[0]
    if event == "socket.sendmsg":
        asked = args[1] if len(args) > 1 else None
        return isinstance(asked, list) and not stays_here(*asked[:2])
    if event == "socket.getaddrinfo":
        return not (is_number(args[0]) or stays_here(args[0]))
    if isinstance(asked, list):
        return not stays_here(*asked[:2])
    return event.startswith("socket.gethost") and not stays_here(asked)


def outside_in_audit(log: Path) -> list[str]:
    lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    return [line for line in lines if leaves(*json.loads(line))]


def outside_in_strace(log: Path) -> list[str]:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    found = []
    for line in lines:
        for match in STRACE_ADDRESS.finditer(line):
            if not stays_here(match["v4"] or match["v6"], int(match["port"])):
                found.append(line)
    return found


@dataclass(frozen=True)
class Laptop:
    """A user's machine of the test's own: home, temporary folder, data directory, and two logs."""

    folder: Path

    def __post_init__(self) -> None:
        for name in ("home", "tmp", "hook"):
            (self.folder / name).mkdir(parents=True)
        (self.folder / "hook" / "sitecustomize.py").write_text(HOOK, encoding="utf-8")

    @property
    def audit_log(self) -> Path:
        return self.folder / "audit.log"

    @property
    def strace_log(self) -> Path:
        return self.folder / "strace.log"

    def environment(self) -> dict[str, str]:
        kept = {"PATH", "LANG", "LD_LIBRARY_PATH", "SYSTEMROOT"}
        return {
            **{name: value for name, value in os.environ.items() if name in kept},
            "HOME": str(self.folder / "home"),
            "TMPDIR": str(self.folder / "tmp"),
            "CLINIC_HOME": str(self.folder / "data"),
            "OFFLINE_LOG": str(self.audit_log),
            "PYTHONPATH": str(self.folder / "hook"),
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def command(self, *words: str) -> list[str]:
        watched = [*STRACE, "-o", str(self.strace_log)] if shutil.which("strace") else []
        return [*watched, sys.executable, *words]

    def run(self, *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*words),
            cwd=cwd,
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
        )

    def calls_out(self) -> list[str]:
        return outside_in_audit(self.audit_log) + outside_in_strace(self.strace_log)

    def telemetry_files(self) -> list[str]:
        """What the telemetry of later onnxruntime wheels leaves behind, wherever it was put."""
        found = [*self.folder.rglob(".ses"), *self.folder.rglob("*onnxruntime*.db")]
        found += [path for path in self.folder.rglob("Microsoft") if path.is_dir()]
        return [str(path.relative_to(self.folder)) for path in found]


@pytest.fixture
def laptop(tmp_path: Path) -> Laptop:
    return Laptop(tmp_path / "laptop")


@pytest.fixture
def film(tmp_path: Path) -> Path:
    path = tmp_path / "film.png"
    Image.fromarray(phantom.chest_film(seed=1, size=(512, 512))).save(path)
    return path


def test_the_server_calls_nobody_from_start_to_answer(laptop: Laptop, film: Path) -> None:
    with serving(laptop.command("run_clinic.py"), laptop.environment()) as (visitor, _server):
        study = visitor.upload(film)
        shown = visitor.wait_for_answer(study) + visitor.get(study) + visitor.get("/")
        for address in sorted(set(re.findall(r'(?:src|href)="(/[^"]*)"', shown))):
            visitor.get(html.unescape(address))
    assert "socket.bind" in laptop.audit_log.read_text(encoding="utf-8")
    assert laptop.calls_out() == []
    assert laptop.telemetry_files() == []


def test_analyze_opens_no_connection_at_all(laptop: Laptop, film: Path, root: Path) -> None:
    run = laptop.run("run_clinic.py", "analyze", "--json", str(film), cwd=root)
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["file"] == str(film)
    assert laptop.calls_out() == []
    assert laptop.telemetry_files() == []


def test_the_version_comes_without_a_call(laptop: Laptop, root: Path) -> None:
    run = laptop.run("run_clinic.py", "version", cwd=root)
    assert run.returncode == 0, run.stderr
    assert laptop.calls_out() == []


# The watchers themselves. 192.0.2.1 is set aside for documentation (RFC 5737), the sockets are
# datagram ones that are connected and never written to, and the name is looked up as a number only:
# no packet leaves this machine.

QUIET_CALL = """
import socket
out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
try:
    out.connect(("192.0.2.1", 9))
except OSError:
    pass
"""


def test_the_audit_hook_sees_a_call_that_goes_out(laptop: Laptop) -> None:
    laptop.run("-c", QUIET_CALL, cwd=laptop.folder)
    assert any("192.0.2.1" in line for line in outside_in_audit(laptop.audit_log))


@pytest.mark.skipif(not shutil.which("strace"), reason="no strace on this machine")
def test_strace_sees_a_call_that_python_does_not_audit(laptop: Laptop) -> None:
    source = "import ctypes, struct\n" + (
        "libc = ctypes.CDLL(None)\n"
        "fd = libc.socket(2, 2, 0)\n"
        "address = struct.pack('=H', 2) + struct.pack('>H', 9) + bytes([192, 0, 2, 1]) + bytes(8)\n"
        "libc.connect(fd, address, len(address))\n"
    )
    laptop.run("-c", source, cwd=laptop.folder)
    wait_for(lambda: outside_in_strace(laptop.strace_log))
    assert not outside_in_audit(laptop.audit_log)


def test_the_audit_hook_sees_a_name_being_looked_up(laptop: Laptop) -> None:
    source = QUIET_CALL + (
        "try: socket.getaddrinfo('clinic.invalid', 443, flags=socket.AI_NUMERICHOST)\n"
        "except OSError: pass\n"
    )
    laptop.run("-c", source, cwd=laptop.folder)
    assert any("clinic.invalid" in line for line in outside_in_audit(laptop.audit_log))


def test_a_call_to_this_machine_is_no_call_out(laptop: Laptop) -> None:
    source = QUIET_CALL.replace("192.0.2.1", "127.0.0.1")
    laptop.run("-c", source, cwd=laptop.folder)
    assert "127.0.0.1" in laptop.audit_log.read_text(encoding="utf-8")
    assert laptop.calls_out() == []


def test_a_telemetry_file_is_found_wherever_it_lies(laptop: Laptop) -> None:
    (laptop.folder / "tmp" / ".ses").touch()
    (laptop.folder / "home" / ".cache" / "Microsoft" / "DeveloperTools").mkdir(parents=True)
    assert laptop.telemetry_files() == ["tmp/.ses", "home/.cache/Microsoft"]


@pytest.mark.parametrize(
    ("event", "args", "out"),
    [
        ("socket.connect", ["s", ["127.0.0.1", 80]], False),
        ("socket.connect", ["s", ["::1", 80, 0, 0]], False),
        ("socket.connect", ["s", "/run/some.sock"], False),
        ("socket.connect", ["s", ["10.0.0.7", 80]], True),
        ("socket.connect", ["s", ["127.0.0.53", 53]], True),
        ("socket.connect", ["s", ["clinic.example", 80]], True),
        ("socket.bind", ["s", ["127.0.0.1", 8765]], False),
        ("socket.bind", ["s", ["0.0.0.0", 8765]], True),
        ("socket.bind", ["s", ["", 8765]], True),
        ("socket.sendto", ["s", ["192.0.2.1", 9]], True),
        ("socket.sendmsg", ["s", ["192.0.2.1", 9]], True),
        ("socket.sendmsg", ["s", None], False),
        ("socket.getaddrinfo", ["localhost", 8765, 0, 0, 0], False),
        ("socket.getaddrinfo", ["127.0.0.1", 8765, 0, 0, 0], False),
        ("socket.getaddrinfo", ["0.0.0.0", 8080, 0, 0, 0], False),
        ("socket.getaddrinfo", ["clinic.example", 443, 0, 0, 0], True),
        ("socket.gethostbyname", ["clinic.example"], True),
        ("socket.gethostbyaddr", ["laptop"], True),
    ],
)
def test_it_tells_what_stays_from_what_leaves(event: str, args: list[object], out: bool) -> None:
    assert leaves(event, args) is out


# What a browser would fetch: no page and no file of ours names another host.

NAMESPACES = ("http://www.w3.org/",)
HOST = re.compile(r"https?://[^\s\"'<>)\\]+")
BARE_HOST = re.compile(
    r"(?:(?:src|href|action)\s*=\s*[\"']?|url\(\s*[\"']?|@import\s+[\"'])//[^\s\"')]+"
)


def hosts_named(text: str) -> list[str]:
    full = [url for url in HOST.findall(text) if not url.startswith(NAMESPACES)]
    return full + BARE_HOST.findall(text)


def test_no_template_and_no_static_file_names_another_host(root: Path) -> None:
    files = [
        path
        for folder in ("templates", "static")
        for path in sorted((root / "app" / folder).rglob("*"))
        if path.is_file()
    ]
    assert files, "there are pages to look at"
    named = {}
    for path in files:
        if hosts := hosts_named(path.read_bytes().decode("utf-8", errors="replace")):
            named[str(path.relative_to(root))] = hosts
    assert named == {}


@pytest.mark.parametrize(
    "text",
    [
        '<script src="https://cdn.example/a.js">',
        "<link href=//fonts.example/css>",
        "@import '//fonts.example/css';",
        "background: url(//img.example/x.png)",
        "fetch('http://api.example/')",
    ],
)
def test_a_page_that_names_another_host_is_caught(text: str) -> None:
    assert hosts_named(text)


@pytest.mark.parametrize(
    "text",
    [
        '<svg xmlns="http://www.w3.org/2000/svg">',
        '<a href="/studies/1/">',
        "// a comment in a script",
    ],
)
def test_a_namespace_or_a_path_of_ours_is_no_host(text: str) -> None:
    assert not hosts_named(text)
