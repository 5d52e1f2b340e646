"""Does anything that a clinic gets have a known fault? ``make audit`` asks; CI does too.

Asks the public list of advisories (OSV) about every pinned package, by ``pip-audit``. Where the
list cannot be reached, nothing is known and nothing fails: that is said, with the reason.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SERVICE = "https://api.osv.dev/v1/query"
#: Of pip, about which nothing can be wrong here: it only has to be answered.
QUESTION = b'{"package": {"name": "pip", "ecosystem": "PyPI"}, "version": "26.3"}'
SECONDS = 15


def main(words: list[str]) -> int:
    """The exit code: 0 where nothing is known or nobody answers, else that of pip-audit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--service", default=SERVICE, help="where to ask")
    parser.add_argument("files", nargs="*", type=Path, default=[ROOT / "requirements.txt"])
    asked = parser.parse_args(words)
    if reason := no_answer(asked.service):
        print(f"pip-audit is skipped: {asked.service} does not answer ({reason}).")
        return 0
    options = ["--vulnerability-service", "osv", "--osv-url", asked.service]
    options += ["--no-deps", "--disable-pip", "--progress-spinner", "off"]
    for file in asked.files:
        options += ["--requirement", str(file)]
    return subprocess.run([sys.executable, "-m", "pip_audit", *options], check=False).returncode


def no_answer(service: str) -> str:
    """Why the list cannot be asked; empty where it answers."""
    if not service.startswith(("https://", "http://")):
        return "no address of the web"
    question = urllib.request.Request(service, QUESTION, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(question, timeout=SECONDS):  # nosec B310 - looked at above
            return ""
    except (OSError, urllib.error.URLError) as error:
        return str(getattr(error, "reason", error))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
