"""Build what a clinic gets: ``python packaging/build.py`` in the environment of requirements.txt.

Writes into ``dist/``: the one-folder bundle ``Clinic/``, the portable file ``Clinic-portable``, the
installer ``clinic-VERSION-linux-x86_64.run`` and ``files.sha256``, the hash of every file of the
folder. The folder carries its bill of materials ``sbom.cdx.json`` (CycloneDX) and ``licences.txt``.
"""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
DIST = ROOT / "dist"
BUILD = ROOT / "build"
FOLDER = DIST / "Clinic"

sys.path.insert(0, str(ROOT))

from app.settings import VERSION  # noqa: E402

# The same input gives the same bundle: no random order of sets, no time of day in archives.
DATE = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
EPOCH = str(int(DATE.timestamp()))
REPEATABLE = {"PYTHONHASHSEED": "0", "SOURCE_DATE_EPOCH": EPOCH, "TZ": "UTC"}


def run(*command: object, **environment: str) -> None:
    """Run a tool; what fails stops the build."""
    subprocess.run(
        [str(part) for part in command],
        check=True,
        cwd=ROOT,
        env={**os.environ, **REPEATABLE, **environment},
    )


def freeze(form: str) -> None:
    """PyInstaller, once for the ``folder`` and once for the ``portable`` file."""
    run(
        sys.executable, "-m", "PyInstaller", "--noconfirm", "--clean", "--log-level", "WARN",
        "--distpath", DIST, "--workpath", BUILD / form, HERE / "clinic.spec", CLINIC_BUNDLE=form,
    )  # fmt: skip


def shipped_distributions() -> list[importlib.metadata.Distribution]:
    """The packages of the clinic's own requirements, which are all that the bundle is made of."""
    text = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    names = re.findall(r"^([\w.-]+)==[\w.]+ *$", text, re.MULTILINE)
    return [importlib.metadata.distribution(name) for name in names]


def write_licences(target: Path) -> None:
    """The licence texts of all that is in the bundle, each under its package's name."""
    parts = [f"Python {sys.version.split()[0]}\n\n{_python_licence()}"]
    for distribution in shipped_distributions():
        files = [
            file
            for file in distribution.files or []
            if re.search(r"(LICEN[CS]E|NOTICE|COPYING|ThirdParty)", file.name, re.IGNORECASE)
        ]
        texts = [
            Path(file.locate()).read_text(encoding="utf-8", errors="replace") for file in files
        ]
        name, declared = distribution.name, distribution.metadata.json.get("license_expression")
        head = f"{name} {distribution.version}" + (f" ({declared})" if declared else "")
        parts.append("\n\n".join([head, *texts]))
    target.write_text(f"\n\n{'=' * 100}\n\n".join(parts) + "\n", encoding="utf-8")


def _python_licence() -> str:
    """The terms of the Python that is in the bundle, from wherever its maker put them."""
    base, version = Path(sys.base_prefix), f"python{sys.version_info[0]}.{sys.version_info[1]}"
    for place in (base / "lib" / version / "LICENSE.txt", base / "LICENSE.txt"):
        if place.is_file():
            return place.read_text(encoding="utf-8", errors="replace")
    raise FileNotFoundError("The licence of Python was not found beside it.")


def write_bill_of_materials(target: Path) -> None:
    """Package, version and licence of all that is shipped, as CycloneDX."""
    run(
        sys.executable, "-m", "cyclonedx_py", "requirements", "--output-reproducible",
        "--output-format", "JSON", "--output-file", target, ROOT / "requirements.txt",
    )  # fmt: skip


def write_hashes(target: Path) -> None:
    """SHA-256 of every file of the folder, for comparing two builds."""
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(FOLDER).as_posix()}"
        for path in sorted(FOLDER.rglob("*"))
        if path.is_file() and not path.is_symlink()
    ]
    target.write_text("\n".join(lines) + "\n", encoding="utf-8")


def make_linux_installer() -> Path:
    """One file that unpacks the folder and installs it for this user (makeself)."""
    stage = BUILD / "installer"
    shutil.rmtree(stage, ignore_errors=True)
    stage.mkdir(parents=True)
    shutil.copytree(FOLDER, stage / "Clinic", symlinks=True)
    for script in ("install.sh", "uninstall.sh"):
        shutil.copy2(HERE / "linux" / script, stage)
    target = DIST / f"clinic-{VERSION}-linux-x86_64.run"
    run(
        "makeself", "--xz", "--nox11", "--nomd5", "--nocrc", "--sha256", "--quiet",
        "--tar-extra", f"--sort=name --owner=0 --group=0 --numeric-owner --mtime=@{EPOCH}",
        "--packaging-date", DATE.date(), stage, target, "Clinic chest X-ray", "./install.sh",
    )  # fmt: skip
    return target


def megabytes(path: Path) -> float:
    """Size of a file or of all files in a folder, in MB of 10^6 bytes."""
    files = [path] if path.is_file() else [one for one in path.rglob("*") if not one.is_symlink()]
    return sum(one.stat().st_size for one in files if one.is_file()) / 1e6


def main() -> None:
    """Everything, and how large it became."""
    shutil.rmtree(DIST, ignore_errors=True)
    freeze("folder")
    freeze("portable")
    write_licences(FOLDER / "licences.txt")
    write_bill_of_materials(FOLDER / "sbom.cdx.json")
    write_hashes(DIST / "files.sha256")
    built = [FOLDER, DIST / "Clinic-portable", make_linux_installer()]
    for path in built:
        print(f"{path.relative_to(ROOT)}: {megabytes(path):.1f} MB")


if __name__ == "__main__":
    main()
