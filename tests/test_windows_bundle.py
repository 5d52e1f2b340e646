"""What a clinic with Windows is given, as it was built. ``make bundle-windows`` first.

``CXR_WINDOWS_BUNDLE`` names the folder that ``packaging/build.py`` wrote; without it there is
nothing to test here. On Linux it runs under Wine: a smoke test, which says nothing of SmartScreen,
virus scanners or real start times.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import imagecodecs
import numpy as np
import psutil
import pytest
from playwright.sync_api import expect
from pydicom import uid

from model_export.phantom import chest_film
from tests import windows
from tests.films import dicom, encode, in_frames
from tests.running import ROOT, screen, serving
from tests.test_encryption import is_open, send, turn_on, unlock
from tests.windows import Windows

BUNDLE = Path(os.environ.get("CXR_WINDOWS_BUNDLE") or "not-built").resolve()
pytestmark = [
    pytest.mark.skipif(not BUNDLE.is_dir(), reason="no bundle: CXR_WINDOWS_BUNDLE is not set"),
    pytest.mark.skipif(
        not windows.REAL and not (shutil.which("wine") and shutil.which("Xvfb")),
        reason="no Wine or no Xvfb on this machine (Debian: apt-get install wine wine64 xvfb)",
    ),
]
FORMS = {"folder": BUNDLE / "Clinic" / "Clinic.exe", "portable": BUNDLE / "Clinic-portable.exe"}
CONSOLE = BUNDLE / "Clinic" / "Clinic-console.exe"
LARGEST_MB = {"Clinic": 190, "Clinic-portable.exe": 75, "*-setup.exe": 60}
NAME = "Clinic chest X-ray"
ANSWER = re.compile("likely|unlikely|cannot_say|refused")
UNINSTALL = r"HKCU\Software\Microsoft\Windows\CurrentVersion\Uninstall\ClinicCXR"
FOUR_DECIMALS = 5e-5
# Every Windows 10 has these (and api-ms-win-*); the Visual C++ runtime it has not
OF_WINDOWS = {
    "advapi32", "bcrypt", "bcryptprimitives", "comctl32", "comdlg32", "crypt32", "dbghelp",
    "dxgi", "gdi32", "imm32", "iphlpapi", "kernel32", "netapi32", "ntdll", "ole32", "oleaut32",
    "psapi", "rpcrt4", "secur32", "setupapi", "shell32", "shlwapi", "user32", "userenv",
    "uxtheme", "version", "winmm", "winspool.drv", "ws2_32",
}  # fmt: skip


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Windows]:
    """A Windows that nothing was installed in."""
    with nullcontext(("", None)) if windows.REAL else screen() as (display, _):
        there = Windows(tmp_path_factory.mktemp("windows"), display)
        yield there
        there.close()


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("снимки ፊልም")
    paths = [folder / f"снимок {seed}.png" for seed in range(6)]
    for seed, path in enumerate(paths):
        path.write_bytes(encode(chest_film(seed, (512, 512)), "PNG"))
    return paths


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "клиника ክሊኒክ 1"


@pytest.fixture(params=FORMS)
def program(request: pytest.FixtureRequest) -> Path:
    return FORMS[request.param]


def lines(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


@pytest.mark.parametrize("pattern", LARGEST_MB)
def test_it_fits_on_the_stick(pattern):
    (built,) = BUNDLE.glob(pattern)
    files = [built] if built.is_file() else [path for path in built.rglob("*") if path.is_file()]
    assert 1 < sum(path.stat().st_size for path in files) / 1e6 <= LARGEST_MB[pattern]


def missing_libraries(folder: Path) -> set[str]:
    """The libraries that are asked for and neither in the folder nor a part of Windows."""
    parts = [path for path in folder.rglob("*") if path.suffix in {".exe", ".dll", ".pyd"}]
    told = subprocess.run(
        ["objdump", "-p", *parts], capture_output=True, text=True, errors="replace", check=True
    )
    asked = {name.lower() for name in re.findall(r"DLL Name: (\S+)", told.stdout)}
    there = {path.name.lower() for path in parts}
    system = {name if "." in name else f"{name}.dll" for name in OF_WINDOWS}
    return {name for name in asked - there - system if not name.startswith(("api-ms-", "ext-ms-"))}


@pytest.mark.skipif(not shutil.which("objdump"), reason="no objdump on this machine")
def test_it_brings_every_library_that_windows_lacks(tmp_path):
    assert missing_libraries(BUNDLE / "Clinic") == set()
    shutil.copy2(CONSOLE.parent / "_internal" / "python311.dll", tmp_path)
    assert missing_libraries(tmp_path) == {"vcruntime140.dll"}, "nothing would be found missing"


def test_nothing_of_the_workshop_or_of_wine_is_in_it():
    names = {path.name.lower() for path in (BUNDLE / "Clinic").rglob("*")}
    assert not names & {"tensorflow", "keras", "onnx", "scipy", "model_export", "tests", "lxml"}
    assert not names & {"tiles.so", "bcryptprimitives.dll", "ntdll.dll", "ucrtbase.dll"}


def test_it_carries_its_licences_and_its_bill_of_materials():
    licences = (BUNDLE / "Clinic" / "licences.txt").read_text(encoding="utf-8")
    bill = json.loads((BUNDLE / "Clinic" / "sbom.cdx.json").read_text(encoding="utf-8"))
    names = {component["name"].lower() for component in bill["components"]}
    assert bill["bomFormat"] == "CycloneDX"
    for package in ("python", "django", "numpy", "onnxruntime", "pillow", "pydicom", "tzdata"):
        assert package in names
        assert re.search(rf"^{package} \d", licences, re.IGNORECASE | re.MULTILINE)


@pytest.mark.parametrize("command", ["serve", "analyze", "worker", "check", "version"])
def test_every_command_of_the_source_is_in_the_console_program(command, clinic):
    told = clinic.run(CONSOLE, command, "--help")
    assert told.returncode == 0
    assert "usage" in told.stdout.lower()


def test_the_installation_finds_no_fault_with_itself(clinic, home):
    told = clinic.run(CONSOLE, "check", CLINIC_HOME=clinic.path(home))
    assert told.returncode == 0, told.stdout


def test_its_probabilities_are_those_of_linux_to_four_decimals(clinic, films, capsys):
    inputs = [*sorted((ROOT / "assets/release/self_test").glob("*.png")), *films]
    told = clinic.run(CONSOLE, "analyze", "--json", "--age", "3", *map(clinic.path, inputs))
    here = subprocess.run(
        [sys.executable, "run_clinic.py", "analyze", "--json", "--age", "3", *inputs],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    built, source = lines(told.stdout), lines(here.stdout)
    assert [line["file"] for line in built] == [clinic.path(path) for path in inputs]
    assert [line["answer"] for line in built] == [line["answer"] for line in source]
    pairs = [
        (one["probability"], two["probability"]) for one, two in zip(built, source, strict=True)
    ]
    answered = [(one, two) for one, two in pairs if one is not None and two is not None]
    assert len(answered) >= 4
    largest = max(abs(one - two) for one, two in answered)
    with capsys.disabled():
        print(f"\nlargest difference of {len(answered)} probabilities: {largest:.1e}")
    assert largest < FOUR_DECIMALS


def test_it_reads_what_x_ray_units_compress(clinic, tmp_path):
    pixels = chest_film(3, (512, 448), opacity="right lower", strength=0.9).astype(np.uint16) * 16
    contents = {
        "plain": dicom(pixels, 12),
        "ls": in_frames(pixels, 12, uid.JPEGLSLossless, imagecodecs.jpegls_encode(pixels)),
        "2000": in_frames(
            pixels,
            12,
            uid.JPEG2000Lossless,
            imagecodecs.jpeg2k_encode(pixels, level=0, codecformat="J2K", bitspersample=12),
        ),
    }
    for name, content in contents.items():
        tmp_path.joinpath(f"{name}.dcm").write_bytes(content)
    paths = [clinic.path(tmp_path / f"{name}.dcm") for name in contents]
    plain, *packed = lines(clinic.run(CONSOLE, "analyze", "--json", *paths).stdout)
    assert plain["answer"] in {"likely", "unlikely", "cannot_say"}
    assert [one["probability"] for one in packed] == [plain["probability"]] * 2


def test_its_interface_is_in_it(clinic, home):
    with clinic.serving(FORMS["folder"], home) as (visitor, _):
        visitor.set_up()
        assert json.loads(visitor.get("/api/v1/openapi.json"))["openapi"].startswith("3.")


def test_what_a_passphrase_locks_only_the_passphrase_opens(clinic, films, home):
    with clinic.serving(FORMS["folder"], home) as (visitor, _):
        study = visitor.upload(films[0])
        visitor.wait_for_answer(study)
        turn_on(visitor)
    assert (home / "clinic.sqlite3").read_bytes().startswith(b"SQLite")
    with clinic.serving(FORMS["folder"], home) as (visitor, _):
        unlock(visitor)
        assert "data-answer" in visitor.wait_for_answer(study)
    assert not (home / "clinic.sqlite3").read_bytes().startswith(b"SQLite")
    with clinic.serving(FORMS["folder"], home) as (visitor, _):
        send(visitor, "/unlock", passphrase="another one altogether")
        assert not is_open(visitor)


def files_of(clinic: Windows) -> set[Path]:
    """All files of the user but Windows' own, such as those of a browser that was opened."""
    of_windows = clinic.local / "Microsoft"
    files = {path for path in clinic.profile.rglob("*") if path.is_file()}
    return {path for path in files if not path.is_relative_to(of_windows)}


def test_a_film_is_answered_and_found_again_after_a_restart(program, clinic, home, films, browser):
    before = files_of(clinic)
    page = browser.new_page()
    with clinic.serving(program, home) as (visitor, _):
        visitor.set_up()
        page.goto(visitor.address)
        page.set_input_files("#films", films[0])
        page.wait_for_url("**/studies/**")
        expect(page.locator(".reading")).to_have_attribute("data-answer", ANSWER, timeout=60_000)
    with clinic.serving(program, home) as (visitor, _):
        page.goto(visitor.address)
        expect(page.locator("[data-answer]").first).to_have_attribute("data-answer", ANSWER)
    page.close()
    assert files_of(clinic) == before, "it wrote outside its data directory"


def test_it_says_in_its_log_that_it_ended_in_order(clinic, home):
    with clinic.serving(FORMS["folder"], home):
        assert (home / "instance.json").is_file()
    assert not (home / "instance.json").exists()
    (log,) = (home / "logs").glob("*.log")
    assert log.read_text(encoding="utf-8").rstrip().endswith("stopped")


def test_what_was_taken_in_survives_a_kill_in_mid_batch(program, clinic, home, films):
    with clinic.serving(program, home) as (visitor, _):
        studies = [visitor.upload(film) for film in films]
        killed = clinic.programs()
        assert killed
        for process in killed:
            process.kill()
        psutil.wait_procs(killed, timeout=30)
    with clinic.serving(program, home) as (visitor, _):
        for study in studies:
            assert visitor.wait_for_answer(study)


def test_a_second_start_shows_the_first(program, clinic, home):
    with clinic.serving(program, home) as (visitor, _):
        words = ["serve", "--no-browser"]
        told = clinic.run(CONSOLE, *words, CLINIC_HOME=clinic.path(home))
        assert told.returncode == 0
        assert visitor.address in told.stdout
        assert clinic.run(program, *words, CLINIC_HOME=clinic.path(home)).returncode == 0


@pytest.mark.skipif(windows.REAL, reason="there is no Linux on this machine to write them")
def test_data_of_the_linux_program_is_taken_over(clinic, home, films):
    source = [sys.executable, str(ROOT / "run_clinic.py")]
    with serving(source, {**os.environ, "CLINIC_HOME": str(home)}) as (visitor, _):
        study = visitor.upload(films[0])
        before = visitor.wait_for_answer(study)
    with clinic.serving(FORMS["folder"], home) as (visitor, _):
        assert visitor.wait_for_answer(study) == before
        assert visitor.wait_for_answer(visitor.upload(films[1]))


def test_the_portable_program_leaves_nothing_behind(clinic, home):
    for old in clinic.unpacked():
        shutil.rmtree(old)
    with clinic.serving(FORMS["portable"], home):
        assert len(clinic.unpacked()) == 1
    assert clinic.unpacked() == []


def test_the_portable_program_sweeps_what_a_killed_one_left(clinic, home):
    with clinic.serving(FORMS["portable"], home):
        (left,) = clinic.unpacked()
        for process in clinic.programs():
            process.kill()
    foreign = left.with_name("_MEIsomebodyelse")
    foreign.mkdir()
    assert clinic.unpacked() == sorted([left, foreign])
    with clinic.serving(FORMS["portable"], home):
        assert left not in clinic.unpacked()
    assert clinic.unpacked() == [foreign]
    foreign.rmdir()


def test_the_portable_program_ends_when_the_process_that_unpacked_it_is_killed(clinic, home):
    with clinic.serving(FORMS["portable"], home):
        both = sorted(clinic.programs(), key=lambda process: process.create_time())
        assert len(both) == 2
        both[0].kill()
        _gone, alive = psutil.wait_procs(both, timeout=60)
        assert alive == []
    assert not (home / "instance.json").exists(), "it ended, but not in order"


@pytest.fixture
def setup(clinic: Windows) -> Iterator[Path]:
    """The installer; what it installed is gone afterwards."""
    (installer,) = BUNDLE.glob("*-setup.exe")
    yield installer
    if place_of(clinic).is_dir():
        uninstall(clinic)


@pytest.fixture
def installed(clinic: Windows, setup: Path) -> Path:
    assert clinic.run(setup, "/S").returncode == 0
    return place_of(clinic)


def place_of(clinic: Windows) -> Path:
    return clinic.local / "Programs" / "Clinic CXR"


def data_of(clinic: Windows) -> Path:
    return clinic.local / "ClinicCXR"


def links_of(clinic: Windows) -> list[Path]:
    menu = clinic.profile / "AppData/Roaming/Microsoft/Windows/Start Menu/Programs"
    return [clinic.profile / "Desktop" / f"{NAME}.lnk", menu / f"{NAME}.lnk"]


def unquoted(option: str, folder: str) -> list[str]:
    """A folder as NSIS wants it: at the end, with its spaces and without quotation marks."""
    return f"{option}={folder}".split(" ")


def uninstall(clinic: Windows, *words: str) -> int:
    """Told to stay where it is by ``_?=``, the uninstaller can be waited for; it leaves itself."""
    place = place_of(clinic)
    there = unquoted("_?", clinic.path(place))
    told = clinic.run(place / "uninstall.exe", "/S", *words, *there)
    if told.returncode == 0:
        shutil.rmtree(place, ignore_errors=True)
    return told.returncode


def test_the_installer_puts_a_working_program_into_the_users_own_folders(installed, clinic, home):
    assert all(link.is_file() for link in links_of(clinic))
    key = clinic.run("reg", "query", UNINSTALL).stdout
    for name in ("DisplayName", "DisplayVersion", "DisplayIcon", "UninstallString"):
        assert name in key
    with clinic.serving(installed / "Clinic.exe", home) as (visitor, _):
        assert visitor.get("/healthz")


def test_what_is_installed_is_what_was_built(installed):
    hashes = {
        path.relative_to(installed).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in installed.rglob("*")
        if path.is_file() and path.name != "uninstall.exe"
    }
    told = (BUNDLE / "files.sha256").read_text(encoding="utf-8").splitlines()
    assert hashes == {name: digest for digest, name in (line.split("  ", 1) for line in told)}


def test_without_being_told_where_it_keeps_its_data_in_the_users_folder(installed, clinic):
    with clinic.serving(installed / "Clinic.exe", None) as (visitor, _):
        assert visitor.get("/healthz")
    assert (data_of(clinic) / "clinic.sqlite3").is_file()
    shutil.rmtree(data_of(clinic))


def test_installing_again_replaces_the_program_and_keeps_the_data(installed, clinic, setup):
    (installed / "of an older version").touch()
    broken_off = installed.with_name(f"{installed.name}.new")
    broken_off.mkdir()
    (broken_off / "half a file").touch()
    kept = data_of(clinic) / "clinic.sqlite3"
    kept.parent.mkdir()
    kept.write_text("a clinic's data")
    assert clinic.run(setup, "/S").returncode == 0
    assert (installed / "Clinic.exe").is_file()
    assert not (installed / "of an older version").exists()
    assert not (installed / "half a file").exists()
    assert sorted(path.name for path in installed.parent.iterdir()) == [installed.name]
    assert kept.read_text() == "a clinic's data"
    shutil.rmtree(kept.parent)


@pytest.mark.parametrize("name", ["Clinic.exe", "Clinic-console.exe"])
def test_while_it_runs_it_is_neither_replaced_nor_removed(name, installed, clinic, setup, home):
    words = [] if name == "Clinic.exe" else ["serve", "--window"]
    with clinic.serving(installed / name, home, *words) as (visitor, _):
        before = files_of(clinic)
        assert clinic.run(setup, "/S").returncode == 2
        assert uninstall(clinic) == 2
        assert files_of(clinic) == before
        assert visitor.get("/healthz")


def test_a_folder_of_somebody_else_is_not_replaced(clinic, setup, tmp_path):
    folder = tmp_path / "my pictures"
    folder.mkdir()
    (folder / "holiday.txt").touch()
    assert clinic.run(setup, "/S", *unquoted("/D", clinic.path(folder))).returncode == 2
    assert [path.name for path in folder.iterdir()] == ["holiday.txt"]
    assert not place_of(clinic).exists()


def test_it_is_installed_where_the_person_wants_it(clinic, setup, tmp_path, home):
    folder = tmp_path / "программы ክሊኒክ 2" / "Clinic"
    assert clinic.run(setup, "/S", *unquoted("/D", clinic.path(folder))).returncode == 0
    told = clinic.run(folder / "Clinic-console.exe", "version", CLINIC_HOME=clinic.path(home))
    assert told.returncode == 0
    there = unquoted("_?", clinic.path(folder))
    assert clinic.run(folder / "uninstall.exe", "/S", *there).returncode == 0
    assert not (folder / "Clinic.exe").exists()


@pytest.mark.parametrize(("words", "stays"), [([], True), (["/DATA"], False)])
def test_the_uninstaller_keeps_the_data_unless_told(installed, clinic, words, stays):
    film = data_of(clinic) / "films" / "a film"
    film.parent.mkdir(parents=True)
    film.touch()
    assert uninstall(clinic, *words) == 0
    assert not installed.exists()
    assert not any(link.exists() for link in links_of(clinic))
    assert clinic.run("reg", "query", UNINSTALL).returncode != 0
    assert film.exists() == stays
    shutil.rmtree(data_of(clinic), ignore_errors=True)
