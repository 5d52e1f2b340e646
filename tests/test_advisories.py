"""Known faults of what the program is made of: asked for where somebody answers."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.running import ROOT, free_port


class Advisories(BaseHTTPRequestHandler):
    """A list of advisories that knows one fault, of one package."""

    at_fault = ""
    asked: list[str] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name = body["package"]["name"]
        self.asked.append(name)
        fault = {
            "id": "TEST-2026-1",
            "summary": "a fault made up for a test",
            "affected": [
                {
                    "package": {"name": name, "ecosystem": "PyPI"},
                    "ranges": [{"type": "ECOSYSTEM", "events": [{"fixed": "999"}]}],
                }
            ],
        }
        answer = json.dumps({"vulns": [fault]} if name == self.at_fault else {}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@pytest.fixture
def service(monkeypatch) -> Iterator[str]:
    monkeypatch.setattr(Advisories, "asked", [])
    server = ThreadingHTTPServer(("127.0.0.1", 0), Advisories)
    thread = threading.Thread(target=server.serve_forever, args=[0.05], daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1/query"
    server.shutdown()
    server.server_close()


def ask(service: str, *files: Path) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, str(ROOT / "packaging" / "advisories.py"), "--service", service]
    return subprocess.run([*words, *map(str, files)], capture_output=True, text=True, check=False)


def canonical(name: str) -> str:
    """As PyPI compares names (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.fixture
def two(tmp_path) -> Path:
    file = tmp_path / "requirements.txt"
    file.write_text("waitress==3.0.2\nDjango==5.2.19\n", encoding="ascii")
    return file


def test_a_known_fault_fails_and_is_named(service, two, monkeypatch):
    monkeypatch.setattr(Advisories, "at_fault", "waitress")
    said = ask(service, two)

    assert said.returncode == 1
    assert "waitress" in said.stdout
    assert "TEST-2026-1" in said.stdout
    assert "999" in said.stdout


def test_without_one_it_passes(service, two):
    said = ask(service, two)

    assert said.returncode == 0, said.stderr
    assert "No known vulnerabilities found" in said.stderr
    assert {"waitress", "django"} <= set(Advisories.asked)


def test_everything_that_a_clinic_gets_is_asked_about(service):
    assert ask(service).returncode == 0
    pinned = {
        canonical(line.partition("==")[0])
        for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
        if "==" in line and not line.startswith("#") and "win32" not in line
    }

    assert len(pinned) > 20
    assert pinned <= {canonical(name) for name in Advisories.asked}


@pytest.mark.parametrize("nobody", ["http://127.0.0.1:{port}/v1/query", "file:///etc/hostname"])
def test_where_nobody_answers_it_is_skipped_with_the_reason(two, nobody):
    said = ask(nobody.format(port=free_port()), two)

    assert said.returncode == 0
    assert said.stdout.startswith("pip-audit is skipped: ")
    assert "does not answer (" in said.stdout


def test_ci_asks(root):
    assert "make audit" in (root / ".ci" / "run").read_text(encoding="utf-8")
    assert "packaging/advisories.py" in (root / "Makefile").read_text(encoding="utf-8")
