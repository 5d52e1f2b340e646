"""Build what a clinic gets: ``python packaging/build.py`` in the environment of requirements.txt.

Builds for the system it runs on; on Linux, ``--windows`` builds for Windows (wine.py). Writes into
``dist/`` or ``dist/windows/`` the one-folder bundle ``Clinic/``, the portable file, the installer
and ``files.sha256``, the hash of every file of the folder. The folder carries its bill of materials
``sbom.cdx.json`` (CycloneDX) and ``licences.txt``.
"""

from __future__ import annotations

import argparse
import datetime
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
BUILD = ROOT / "build"
REQUIREMENTS = ROOT / "requirements.txt"

sys.path.insert(0, str(ROOT))

import papers  # noqa: E402
import wine  # noqa: E402

from app.settings import VERSION  # noqa: E402

# The same input gives the same bundle: no random order of sets, no time of day in archives.
DATE = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
EPOCH = str(int(DATE.timestamp()))
REPEATABLE = {"PYTHONHASHSEED": "0", "SOURCE_DATE_EPOCH": EPOCH, "TZ": "UTC"}


@dataclass(frozen=True)
class System:
    """A system that is built for, and with which Python."""

    dist: Path
    portable: str
    make_installer: Callable[[System], Path]
    command: list[str] = field(default_factory=lambda: [sys.executable])
    python: Path = Path(sys.base_prefix)
    packages: list[str] = field(default_factory=lambda: list(sys.path))

    @property
    def folder(self) -> Path:
        """The one-folder bundle."""
        return self.dist / "Clinic"


def run(*command: object) -> None:
    """Run a tool; what fails stops the build."""
    words = [str(part) for part in command]
    subprocess.run(words, check=True, cwd=ROOT, env={**os.environ, **REPEATABLE})


def freeze(system: System) -> None:
    """PyInstaller: the folder and the portable file, of one analysis."""
    words = [
        *system.command, "-m", "PyInstaller", "--noconfirm", "--clean", "--log-level", "WARN",
        "--distpath", system.dist, "--workpath", BUILD / system.dist.name, HERE / "clinic.spec",
    ]  # fmt: skip
    if system.command[0] == "wine":
        wine.run(*words, **REPEATABLE)
    else:
        run(*words)


def add_papers(system: System) -> None:
    """What must come with the program, and what two builds are compared by."""
    licences, bill = system.folder / "licences.txt", system.folder / "sbom.cdx.json"
    papers.write_licences(licences, REQUIREMENTS, system.python, system.packages)
    papers.write_bill_of_materials(bill, REQUIREMENTS, system.python)
    papers.write_hashes(system.dist / "files.sha256", system.folder)


def make_linux_installer(system: System) -> Path:
    """One file that unpacks the folder and installs it for this user (makeself)."""
    stage = BUILD / "installer"
    shutil.rmtree(stage, ignore_errors=True)
    stage.mkdir(parents=True)
    shutil.copytree(system.folder, stage / "Clinic", symlinks=True)
    for script in ("install.sh", "uninstall.sh"):
        shutil.copy2(HERE / "linux" / script, stage)
    target = system.dist / f"clinic-{VERSION}-linux-x86_64.run"
    # its own call is written into the file: a path from here on says nothing of who built it where
    parts = (path.relative_to(ROOT) for path in (stage, target))
    run(
        # the level is written into xz's call as it stands; machine code is packed as such
        "makeself", "--xz", "--complevel", "9 --x86 --lzma2=preset=9e",
        "--nox11", "--nomd5", "--nocrc", "--sha256", "--quiet",
        "--tar-extra", f"--sort=name --owner=0 --group=0 --numeric-owner --mtime=@{EPOCH}",
        "--packaging-date", DATE.date(), *parts, "Clinic chest X-ray", "./install.sh",
    )  # fmt: skip
    return target


def make_windows_installer(system: System) -> Path:
    """One file that installs the folder for this user (NSIS, which runs on either system)."""
    target = system.dist / f"clinic-{VERSION}-windows-x86_64-setup.exe"
    size = sum(path.stat().st_size for path in system.folder.rglob("*") if path.is_file())
    run(
        "makensis", "-V2", "-WX", "-INPUTCHARSET", "UTF8", f"-DVERSION={VERSION}",
        f"-DFOLDER={system.folder}", f"-DKILOBYTES={size // 1024}", f"-DTARGET={target}",
        HERE / "windows" / "installer.nsi",
    )  # fmt: skip
    return target


def linux() -> System:
    """This system's own."""
    return System(ROOT / "dist", "Clinic-portable", make_linux_installer)


def windows() -> System:
    """On Windows its own; elsewhere the Windows Python under Wine."""
    dist, portable = ROOT / "dist" / "windows", "Clinic-portable.exe"
    if sys.platform == "win32":
        return System(dist, portable, make_windows_installer)
    wine.prepare()
    command = ["wine", str(wine.PYTHON / "python.exe"), "-s", "-P"]
    return System(
        dist, portable, make_windows_installer, command, wine.PYTHON, [str(wine.PACKAGES)]
    )


def clear(dist: Path) -> None:
    """Nothing of an older build stays; what was built for the other system does."""
    for path in dist.glob("*"):
        if path.is_file():
            path.unlink()
        elif path.name != "windows":
            shutil.rmtree(path)


def megabytes(path: Path) -> float:
    """Size of a file or of all files in a folder, in MB of 10^6 bytes."""
    files = [path] if path.is_file() else [one for one in path.rglob("*") if not one.is_symlink()]
    return sum(one.stat().st_size for one in files if one.is_file()) / 1e6


def main() -> None:
    """Everything, and how large it became."""
    parser = argparse.ArgumentParser(description="Build what a clinic gets.")
    parser.add_argument("--windows", action="store_true", help="for Windows, on Linux with Wine")
    for_windows = parser.parse_args().windows or sys.platform == "win32"
    system = windows() if for_windows else linux()
    clear(system.dist)
    freeze(system)
    add_papers(system)
    for path in (system.folder, system.dist / system.portable, system.make_installer(system)):
        print(f"{path.relative_to(ROOT).as_posix()}: {megabytes(path):.1f} MB")


if __name__ == "__main__":
    main()
