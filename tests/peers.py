"""Other people's DICOM machines, from Debian's packages: DCMTK and Orthanc, on loopback."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.running import free_port, wait_for

LOOPBACK = "127.0.0.1"


def needs(*programs: str) -> None:
    """Skip where a program is missing; fail in CI, where .ci/run has installed it."""
    missing = [name for name in programs if not _found(name)]
    if missing:
        words = f"not on this machine: {', '.join(missing)} (Debian: dcmtk, orthanc, dicom3tools)"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(words)


def _found(name: str) -> str | None:
    return shutil.which(name, path=os.environ.get("PATH", "") + os.pathsep + "/usr/sbin")


def dcmtk(program: str, port: int, *words: str, calling: str, called: str = "CLINIC") -> str:
    """What one of DCMTK's senders says, and `rc=` with its exit status at the end."""
    needs(program)
    run = subprocess.run(
        [program, "-v", "-aet", calling, "-aec", called, LOOPBACK, str(port), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    return f"{run.stdout}\nrc={run.returncode}"


def transcoded(film: Path, program: str, *options: str) -> Path:
    """The film in another transfer syntax, as one of DCMTK's programs writes it."""
    needs(program)
    target = film.with_name(f"{film.stem}-{program}{''.join(options)}.dcm")
    subprocess.run([program, *options, str(film), str(target)], check=True, timeout=120)
    return target


@contextmanager
def storescp(folder: Path, ae_title: str, *options: str) -> Iterator[int]:
    """An archive of DCMTK's; its port."""
    needs("storescp")
    port = free_port()
    folder.mkdir(exist_ok=True)
    words = ["storescp", "-aet", ae_title, "-od", str(folder), *options, str(port)]
    with _running(words, port):
        yield port


class Orthanc:
    """A small archive, told what to do by its REST interface (`orthanc.uclouvain.be/book`)."""

    def __init__(self, http: int, dicom: int) -> None:
        self.http, self.dicom = http, dicom
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def get(self, path: str) -> Any:
        with self._opener.open(f"http://{LOOPBACK}:{self.http}{path}", timeout=60) as response:
            return json.load(response)

    def post(self, path: str, content: Any) -> Any:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        request = urllib.request.Request(f"http://{LOOPBACK}:{self.http}{path}", data=body)
        with self._opener.open(request, timeout=60) as response:
            return json.load(response)


@contextmanager
def orthanc(
    folder: Path, ae_title: str = "ORTHANC", clinic: int = 11112, **more: Any
) -> Iterator[Orthanc]:
    """An Orthanc that knows this program as `clinic`, listening on port `clinic`."""
    needs("Orthanc")
    server = Orthanc(free_port(), free_port())
    configuration = {
        "Name": ae_title,
        "StorageDirectory": str(folder / "orthanc"),
        "IndexDirectory": str(folder / "orthanc"),
        "Plugins": [],
        "HttpPort": server.http,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomPort": server.dicom,
        "DicomAet": ae_title,
        "DicomModalities": {"clinic": ["CLINIC", LOOPBACK, clinic]},
        "DicomScuTimeout": 10,
        **more,
    }
    path = folder / "orthanc.json"
    path.write_text(json.dumps(configuration), encoding="utf-8")
    with _running([str(_found("Orthanc")), str(path)], server.dicom):
        wait_for(lambda: server.get("/system"))
        yield server


@contextmanager
def _running(words: Sequence[str], port: int) -> Iterator[None]:
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: process.poll() is not None or listens(port))
        assert process.poll() is None, f"{words[0]} stopped at its start ({process.returncode})"
        yield
    finally:
        process.terminate()
        process.wait(timeout=60)


def listens(port: int) -> bool:
    """Whether somebody takes connections on a port of loopback, told without making one."""
    wanted = f"{port:04X}"
    lines = Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]
    also = Path("/proc/net/tcp6")
    lines += also.read_text(encoding="ascii").splitlines()[1:] if also.exists() else []
    states = ((line.split()[1].rpartition(":")[2], line.split()[3]) for line in lines)
    return any(local == wanted and state == "0A" for local, state in states)
