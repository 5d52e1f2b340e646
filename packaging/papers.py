"""What lies beside the program: licences, bill of materials, and the hash of each file."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LICENCE_FILE = re.compile(r"(LICEN[CS]E|NOTICE|COPYING|ThirdParty)", re.IGNORECASE)
RULE = "=" * 100
VENDOR = Path(__file__).resolve().parent.parent / "app" / "static" / "vendor"


def write_licences(target: Path, requirements: Path, python: Path, packages: list[str]) -> None:
    """The licence texts of all that is in the bundle, each under its package's name.

    ``python`` is where the Python of the bundle is installed, ``packages`` the search path of its
    packages: not always those of the Python that runs this.
    """
    parts = ["\n\n".join([f"Python {_version(python)}", *_texts(_python_licences(python))])]
    for distribution in _shipped(requirements, packages):
        files = [Path(str(file.locate())) for file in distribution.files or []]
        texts = _texts([file for file in files if LICENCE_FILE.search(file.name)])
        declared = distribution.metadata.json.get("license_expression")
        head = f"{distribution.name} {distribution.version}" + (
            f" ({declared})" if declared else ""
        )
        parts.append("\n\n".join([head, *texts]))
    parts += [_vendored_terms(folder) for folder in sorted(VENDOR.iterdir())]
    target.write_text(f"\n\n{RULE}\n\n".join(parts) + "\n", encoding="utf-8", newline="\n")


def write_bill_of_materials(target: Path, requirements: Path, python: Path) -> None:
    """Package, version and licence of all that is shipped, Python itself included, as CycloneDX."""
    subprocess.run(
        [sys.executable, "-m", "cyclonedx_py", "requirements", "--output-reproducible",
         "--output-format", "JSON", "--output-file", target, requirements],
        check=True,
    )  # fmt: skip
    bill: dict[str, Any] = json.loads(target.read_text(encoding="utf-8"))
    version = _version(python)
    bill["components"].insert(0, {
        "bom-ref": "python", "type": "platform", "name": "Python", "version": version,
        "licenses": [{"license": {"id": "PSF-2.0"}}], "purl": f"pkg:generic/python@{version}",
    })  # fmt: skip
    bill["components"] += [
        {
            "bom-ref": f"{package['name']}@{package['version']}", "type": "library",
            "name": package["name"], "version": package["version"],
            "licenses": [{"license": {"id": package["license"]}}],
            "purl": f"pkg:npm/{package['name'].replace('@', '%40')}@{package['version']}",
        }
        for folder in sorted(VENDOR.iterdir()) for package in _vendored_packages(folder)
    ]  # fmt: skip
    text = json.dumps(bill, indent=2, ensure_ascii=False)
    target.write_text(text + "\n", encoding="utf-8", newline="\n")


def write_hashes(target: Path, folder: Path) -> None:
    """SHA-256 of every file of the folder, for comparing two builds."""
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder).as_posix()}"
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink()
    ]
    target.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")


def _shipped(requirements: Path, packages: list[str]) -> Iterator[importlib.metadata.Distribution]:
    """The packages of the clinic's own requirements, which are all that the bundle is made of."""
    text = requirements.read_text(encoding="utf-8")
    for name in re.findall(r"^([\w.-]+)==[\w.]+ *(?:;.*)?$", text, re.MULTILINE):
        found = importlib.metadata.distributions(name=name, path=packages)
        if distribution := next(iter(found), None):
            yield distribution
        elif not re.search(rf"^{re.escape(name)}==.*;", text, re.MULTILINE):
            raise FileNotFoundError(f"{name} is not installed in {packages}.")


def _vendored_packages(folder: Path) -> list[dict[str, str]]:
    """The npm packages that one vendored folder was built of."""
    record = json.loads((folder / "vendored.json").read_text(encoding="utf-8"))
    return [record, *record["bundled"]]


def _vendored_terms(folder: Path) -> str:
    packages = _vendored_packages(folder)
    names = ", ".join(f"{package['name']} {package['version']}" for package in packages)
    return f"{names} ({packages[0]['license']})\n\n{_texts([folder / 'LICENSE'])[0]}"


def _version(python: Path) -> str:
    """The version of the Python installed there, as its own header states it."""
    for header in (*python.glob("include/patchlevel.h"), *python.glob("include/*/patchlevel.h")):
        if found := re.search(r'PY_VERSION\s+"([^"]+)"', header.read_text(encoding="utf-8")):
            return found[1]
    return sys.version.split()[0]


def _python_licences(python: Path) -> list[Path]:
    """The terms of the Python in the bundle and of its Tcl/Tk, wherever their makers put them."""
    name = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    places = (python / "lib" / name / "LICENSE.txt", python / "LICENSE.txt")
    found = [place for place in places if place.is_file()][:1]
    if not found:
        raise FileNotFoundError("The licence of Python was not found beside it.")
    return [*found, *sorted(python.glob("tcl/t*/license.terms"))]


def _texts(files: list[Path]) -> list[str]:
    return [file.read_text(encoding="utf-8", errors="replace") for file in files]
