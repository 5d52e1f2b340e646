"""What a clinic is given, as it was built: never the source. ``make bundle`` first.

``CXR_BUNDLE`` names the folder that ``packaging/build.py`` wrote; without it there is nothing to
test here. Films are drawn by code.
"""

from __future__ import annotations

import codecs
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import urllib.error
import zipfile
from contextlib import AbstractContextManager, suppress
from pathlib import Path

import numpy as np
import psutil
import pydicom
import pytest
from django.urls import NoReverseMatch, reverse
from playwright.sync_api import expect
from pydicom.dataset import Dataset

from model_export.phantom import chest_film
from tests import every_page
from tests.films import dataset, encode, written
from tests.peers import dcmtk, listens, storescp, transcoded
from tests.running import ROOT, Visitor, free_port, serving, wait_for
from tests.test_browser_lan import set_up as with_administrator
from tests.test_encryption import is_open, send, turn_on, unlock
from tests.test_offline import outside_in_strace
from tests.test_window import Clicked

BUNDLE = Path(os.environ.get("CXR_BUNDLE") or "not-built").resolve()
pytestmark = pytest.mark.skipif(not BUNDLE.is_dir(), reason="no bundle: CXR_BUNDLE is not set")
FORMS = {"folder": BUNDLE / "Clinic" / "Clinic", "portable": BUNDLE / "Clinic-portable"}
CONSOLE = BUNDLE / "Clinic" / "Clinic-console"
# 190 and 75 MB before DICOM, its reports, the interface and encryption came: 35 and 9 more
LARGEST_MB = {"Clinic": 225, "Clinic-portable": 84, "*.run": 60}
ANSWER = re.compile("likely|unlikely|cannot_say|refused")
# A clinic's computer has no Python: nothing of this one's may be found by what was built
BARE = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("films")
    paths = [folder / f"film {seed}.png" for seed in range(6)]
    for seed, path in enumerate(paths):
        path.write_bytes(encode(chest_film(seed, (512, 512)), "PNG"))
    return paths


@pytest.fixture(params=FORMS)
def program(request: pytest.FixtureRequest) -> Path:
    return FORMS[request.param]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A user's own, empty world, with a name that has spaces and non-Latin letters."""
    world = tmp_path / "клиника ክሊኒክ 1"
    for name in ("home", "tmp", "data"):
        (world / name).mkdir(parents=True)
    return {
        **BARE,
        "HOME": str(world / "home"),
        "TMPDIR": str(world / "tmp"),
        "CLINIC_HOME": str(world / "data"),
    }


def running(
    program: Path, environment: dict[str, str]
) -> AbstractContextManager[tuple[Visitor, subprocess.Popen[bytes]]]:
    return serving([str(program)], environment)


def lines(command: list[str], environment: dict[str, str]) -> list[dict[str, object]]:
    told = subprocess.run(command, env=environment, capture_output=True, cwd=ROOT, check=False)
    return [json.loads(line) for line in told.stdout.decode().splitlines()]


@pytest.mark.parametrize("pattern", LARGEST_MB)
def test_it_fits_on_the_stick(pattern):
    (built,) = BUNDLE.glob(pattern)
    files = [built] if built.is_file() else list(built.rglob("*"))
    sizes = [path.lstat().st_size for path in files]  # a link takes no room
    assert 1 < sum(sizes) / 1e6 <= LARGEST_MB[pattern]


@pytest.mark.parametrize("command", ["serve", "analyze", "worker", "check", "version"])
def test_every_command_of_the_source_is_in_the_console_program(command, environment):
    told = subprocess.run(
        [CONSOLE, command, "--help"], env=environment, capture_output=True, text=True, check=True
    )
    assert "usage" in told.stdout.lower()


def test_the_installation_finds_no_fault_with_itself(environment):
    told = subprocess.run([CONSOLE, "check"], env=environment, capture_output=True, text=True)
    assert told.returncode == 0, told.stdout + told.stderr


def test_it_answers_as_the_source_does(films, environment):
    analyze = ["analyze", "--json", "--age", "3", *map(str, films)]
    source = lines([sys.executable, "run_clinic.py", *analyze], {**os.environ, **environment})
    built = lines([str(CONSOLE), *analyze], environment)
    assert len(built) == len(films)
    assert any(line["probability"] is not None for line in built)
    for ours, theirs in zip(built, source, strict=True):
        assert ours["answer"] == theirs["answer"]
        assert ours["probability"] == pytest.approx(theirs["probability"], abs=1e-4)


def test_it_carries_its_licences_and_its_bill_of_materials():
    licences = (BUNDLE / "Clinic" / "licences.txt").read_text(encoding="utf-8")
    bill = json.loads((BUNDLE / "Clinic" / "sbom.cdx.json").read_text(encoding="utf-8"))
    names = {component["name"].lower() for component in bill["components"]}
    assert bill["bomFormat"] == "CycloneDX"
    for package in (
        "django",
        "numpy",
        "onnxruntime",
        "pillow",
        "pydicom",
        "waitress",
        "d3-contour",
    ):
        assert package in names
        assert re.search(rf"^{package} \d", licences, re.IGNORECASE | re.MULTILINE)


def test_the_installer_does_not_tell_where_it_was_built():
    (installer,) = BUNDLE.glob("*.run")
    with installer.open("rb") as file:
        head = file.read(20_000)
    assert b"clinic-" in head
    assert str(ROOT).encode() not in head
    assert str(BUNDLE.parent).encode() not in head


def test_nothing_of_the_workshop_is_in_it():
    names = {path.name.lower() for path in (BUNDLE / "Clinic").rglob("*")}
    assert not names & {"tensorflow", "keras", "onnx", "scipy", "model_export", "tests"}


def test_a_film_is_answered_and_found_again_after_a_restart(program, environment, films, browser):
    page = browser.new_page()
    with running(program, environment) as (visitor, _):
        page.goto(visitor.address)
        page.set_input_files("#films", films[0])
        page.wait_for_url("**/studies/**")
        expect(page.locator(".reading")).to_have_attribute("data-answer", ANSWER, timeout=60_000)
    with running(program, environment) as (visitor, _):
        page.goto(visitor.address)
        expect(page.locator("[data-answer]").first).to_have_attribute("data-answer", ANSWER)
    page.close()


def test_what_was_taken_in_survives_a_kill_in_mid_batch(program, environment, films):
    with running(program, environment) as (visitor, server):
        studies = [visitor.upload(film) for film in films]
        everyone = [
            *psutil.Process(server.pid).children(recursive=True),
            psutil.Process(server.pid),
        ]
        for process in everyone:
            process.send_signal(signal.SIGKILL)
        psutil.wait_procs(everyone, timeout=30)
    with running(program, environment) as (visitor, _):
        for study in studies:
            assert visitor.wait_for_answer(study)


@pytest.fixture
def clicked(program, environment, display, tmp_path) -> Clicked:
    """A double-click on what was built, on a screen."""
    return Clicked(Path(environment["CLINIC_HOME"]), display, tmp_path, [str(program)], environment)


def test_a_double_click_shows_a_window_and_quitting_from_it_leaves_nothing(clicked, environment):
    with clicked.running() as process:
        (shown,) = wait_for(clicked.windows)
        everyone = [psutil.Process(process.pid), *psutil.Process(process.pid).children()]
        clicked.press_keys(shown, "Tab", "Tab", "Tab", "Return")
        assert process.wait(60) == 0
    assert clicked.opened() == [f"http://127.0.0.1:{clicked.port}/"]
    assert "stopped" in clicked.log()
    assert not any(one.is_running() for one in everyone)
    assert unpacked(environment) == []


def test_a_start_that_fails_explains_itself_and_is_tried_again(clicked, browser):
    shutil.rmtree(clicked.home)
    clicked.home.write_text("a file in the way")
    with clicked.running("--port", str(clicked.port)):
        (at,) = clicked.opened()
        page = browser.new_page()
        page.goto(at)
        expect(page.get_by_role("alert")).to_contain_text("Fault DATA")
        clicked.home.unlink()
        page.get_by_role("button", name="Try again").click()
        expect(page.get_by_role("heading", name="Set up the program")).to_be_visible()
        page.close()


def test_diagnostics_are_written_by_the_console_program(environment, tmp_path):
    target = tmp_path / "to send.zip"
    subprocess.run([CONSOLE, "check", "--diagnostics", target], env=environment, check=True)
    report = zipfile.ZipFile(target).read("diagnostics.txt").decode()
    assert ", bundle" in report
    assert "manifest SHA-256" in report


def test_a_second_start_shows_the_first(program, environment):
    with running(program, environment) as (visitor, _):
        second = subprocess.run(
            [program, "serve", "--no-browser"], env=environment, capture_output=True, text=True
        )
        assert second.returncode == 0
        assert visitor.address in second.stdout


def test_data_of_the_source_program_is_taken_over(environment, films):
    source = [sys.executable, str(ROOT / "run_clinic.py")]
    with serving(source, {**os.environ, **environment}) as (visitor, _):
        study = visitor.upload(films[0])
        before = visitor.wait_for_answer(study)
    with running(FORMS["folder"], environment) as (visitor, _):
        assert visitor.wait_for_answer(study) == before


def unpacked(environment: dict[str, str]) -> list[Path]:
    return sorted(Path(environment["TMPDIR"]).glob("_MEI*"))


def test_the_portable_program_leaves_nothing_behind(environment):
    with running(FORMS["portable"], environment):
        assert len(unpacked(environment)) == 1
    assert unpacked(environment) == []


def test_the_portable_program_sweeps_what_a_killed_one_left(environment):
    with running(FORMS["portable"], environment) as (_, server):
        for process in [*psutil.Process(server.pid).children(), psutil.Process(server.pid)]:
            process.kill()
        server.wait(timeout=30)
    foreign = Path(environment["TMPDIR"]) / "_MEIsomebodyelse"
    foreign.mkdir()
    assert len(unpacked(environment)) == 2
    with running(FORMS["portable"], environment):
        pass
    assert unpacked(environment) == [foreign]


def test_the_portable_program_ends_when_the_process_that_unpacked_it_is_killed(environment):
    with running(FORMS["portable"], environment) as (_, server):
        children = psutil.Process(server.pid).children(recursive=True)
        assert children
        server.kill()
        _gone, alive = psutil.wait_procs(children, timeout=60)
        assert alive == []


@pytest.fixture
def installed(environment: dict[str, str]) -> Path:
    (installer,) = BUNDLE.glob("*.run")
    subprocess.run([installer, "--quiet"], env=environment, check=True, capture_output=True)
    return Path(environment["HOME"]) / ".local" / "opt" / "clinic"


def test_the_installer_puts_a_working_program_into_the_users_own_folders(installed, environment):
    entry = Path(environment["HOME"]) / ".local/share/applications/clinic-cxr.desktop"
    assert str(installed / "Clinic") in entry.read_text(encoding="utf-8")
    with running(installed / "Clinic", environment) as (visitor, _):
        assert visitor.get("/healthz")


def test_what_a_broken_off_installation_left_gets_into_no_later_one(installed, environment):
    unfinished = installed.with_name("clinic.new")
    unfinished.mkdir()
    (unfinished / "half a file").touch()
    (installer,) = BUNDLE.glob("*.run")
    subprocess.run([installer, "--quiet"], env=environment, check=True, capture_output=True)
    assert (installed / "Clinic").is_file()
    assert not (installed / "half a file").exists()
    assert not unfinished.exists()


def test_installing_again_replaces_the_program_and_keeps_the_data(installed, environment):
    (installed / "of an older version").touch()
    kept = Path(environment["HOME"]) / ".local/share/ClinicCXR/clinic.sqlite3"
    kept.parent.mkdir(parents=True)
    kept.write_text("a clinic's data")
    (installer,) = BUNDLE.glob("*.run")
    subprocess.run([installer, "--quiet"], env=environment, check=True, capture_output=True)
    assert not (installed / "of an older version").exists()
    assert kept.read_text() == "a clinic's data"


@pytest.mark.parametrize(("words", "stays"), [([], True), (["--with-data"], False)])
def test_the_uninstaller_keeps_the_data_unless_told(installed, environment, words, stays):
    data = Path(environment["HOME"]) / ".local/share/ClinicCXR"
    data.mkdir(parents=True)
    subprocess.run([installed / "uninstall.sh", *words], env=environment, check=True)
    assert not installed.exists()
    assert data.exists() == stays


def test_it_runs_from_a_stick_that_cannot_be_written(program, environment, tmp_path):
    stick = tmp_path / "stick"
    if program.name == "Clinic":
        shutil.copytree(program.parent, stick, symlinks=True)
    else:
        stick.mkdir()
        shutil.copy2(program, stick)
    before = sorted(stick.rglob("*"))
    for path in [stick, *before]:
        if not path.is_symlink():
            path.chmod(path.stat().st_mode & ~0o222)
    with running(stick / program.name, environment) as (visitor, _):
        assert visitor.get("/healthz")
    assert sorted(stick.rglob("*")) == before


def test_it_ends_within_its_time_when_told_to(program, environment):
    with running(program, environment) as (_, server):
        children = psutil.Process(server.pid).children(recursive=True)
    assert wait_for(lambda: server.poll() is not None, seconds=30)
    assert not any(child.is_running() for child in children)


CALLS = "trace=connect,sendto,sendmsg,openat,mkdir,rename"
STRACE = ["strace", "-D", "-f", "-qq", "-e", CALLS]
WRITTEN = re.compile(r'(?:openat\([^"]*|mkdir\(|rename\()"(?P<path>[^"]*)", (?P<how>[^)]*)')
WRITES = re.compile(r"O_WRONLY|O_RDWR|O_CREAT|^0\d+$|^\"")


def written_outside(log: str, allowed: list[str]) -> set[str]:
    """Paths that were opened for writing, made or renamed outside the allowed folders.

    A path from the working directory is outside too: that may be anywhere.
    """
    paths = {
        codecs.escape_decode(found["path"])[0].decode()
        for line in log.splitlines()
        if (found := WRITTEN.search(line)) and WRITES.search(found["how"])
    }
    return {path for path in paths if not path.startswith((*allowed, "/dev/", "/proc/self/"))}


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ('7 openat(AT_FDCWD, "/data/a", O_WRONLY|O_CREAT, 0600) = 3', set()),
        ('7 openat(AT_FDCWD, "/etc/a", O_RDONLY) = 3', set()),
        ('7 openat(AT_FDCWD, "/etc/a", O_RDWR|O_CREAT, 0600) = 3', {"/etc/a"}),
        ('7 openat(AT_FDCWD, "a", O_WRONLY) = 3', {"a"}),
        ('7 mkdir("/home/a", 0700) = 0', {"/home/a"}),
        ('7 rename("/etc/a", "/data/a") = 0', {"/etc/a"}),
    ],
)
def test_the_watcher_tells_its_own_folders_from_others(line, found):
    assert written_outside(line, ["/data"]) == found


@pytest.mark.skipif(not shutil.which("strace"), reason="no strace on this machine")
def test_it_calls_nobody_and_writes_only_into_its_own_folders(
    program, environment, films, tmp_path
):
    log = tmp_path / "strace.log"
    with serving([*STRACE, "-o", str(log), str(program)], environment) as (visitor, _):
        assert visitor.wait_for_answer(visitor.upload(films[0]))
    seen = log.read_text(encoding="utf-8", errors="replace")
    allowed = [environment["CLINIC_HOME"], environment["TMPDIR"]]
    assert "clinic.sqlite3" in seen, "strace saw nothing of the program"
    assert written_outside(seen, ["/nowhere/"]) != set(), "the watcher sees no writing at all"
    assert written_outside(seen, allowed) == set()
    assert outside_in_strace(log) == []


class TestInAHospital:
    """What only the built program can show: the libraries that speak DICOM are all in it."""

    @pytest.fixture
    def film(self) -> Dataset:
        pixels = chest_film(3, (512, 448), opacity="right lower", strength=0.9)
        return dataset(pixels.astype(np.uint16) * 16, 12, PatientID="C-17")

    @pytest.mark.parametrize(
        ("program", "options"),
        [
            ("dcmcjpeg", ["+e1"]),  # lossless, first-order prediction
            ("dcmcjpls", []),
            ("dcmcrle", []),
        ],
    )
    def test_it_reads_what_x_ray_units_compress(
        self, film, program, options, environment, tmp_path
    ):
        plain = tmp_path / "film.dcm"
        plain.write_bytes(written(film))
        packed = transcoded(plain, program, *options)
        first, second = lines(
            [str(CONSOLE), "analyze", str(plain), str(packed), "--json"], environment
        )
        assert first["answer"] in {"likely", "unlikely", "cannot_say"}
        assert second["probability"] == pytest.approx(first["probability"], abs=1e-6)

    def test_a_unit_sends_a_film_and_the_archive_gets_the_report(
        self, film, program, environment, tmp_path
    ):
        sent, kept, port = tmp_path / "film.dcm", tmp_path / "kept", free_port()
        sent.write_bytes(written(film))
        with storescp(kept, "ARCHIVE") as archive, running(program, environment) as (visitor, _):
            visitor.set_up()
            visitor.post("/settings/dicom", dicom="on", ae_title="CLINIC", dicom_port=str(port))
            known = {
                "name": "Room 1",
                "ae_title": "XRAY",
                "host": "127.0.0.1",
                "port": str(archive),
            }
            visitor.post("/settings/dicom/new", **known, sends_films="on")
            known |= {"name": "Archive", "ae_title": "ARCHIVE"}
            visitor.post("/settings/dicom/new", **known, gets_results="on")
            visitor.post("/outbox", sends_results="answer")
            wait_for(lambda: listens(port))
            assert "rc=0" in dcmtk("storescu", port, str(sent), calling="XRAY")
            wait_for(lambda: len(list(kept.iterdir())) == 2 or None)
        classes = {pydicom.dcmread(path).SOPClassUID.name for path in kept.iterdir()}
        assert classes == {"Comprehensive 3D SR Storage", "Secondary Capture Image Storage"}

    def test_its_interface_is_in_it(self, environment):
        with running(FORMS["folder"], environment) as (visitor, _):
            visitor.set_up()
            described = json.loads(visitor.get("/api/v1/openapi.json"))
        assert described["openapi"].startswith("3.")


def addresses(study: str) -> list[str]:
    """Of every page that asks for no more than a study, and of whatever else can be asked for."""
    number = re.search(r"\d+", study)
    assert number
    known = {"number": number[0], "code": "en", "slug": "films"}
    found = []
    for pattern in every_page.patterns():
        asked = pattern.pattern.converters
        if pattern.name and asked.keys() <= known.keys():
            with suppress(NoReverseMatch):  # of the interface: an expression, which names nothing
                found.append(reverse(pattern.name, kwargs={name: known[name] for name in asked}))
    return found


class TestEveryPart:
    """What is only loaded when somebody asks for it is in the built program as well."""

    def test_no_page_of_it_fails(self, films, environment):
        failed = []
        with running(FORMS["folder"], environment) as (visitor, _):
            study = visitor.upload(films[0])
            visitor.wait_for_answer(study)
            asked = addresses(study)
            for address in asked:
                try:
                    visitor.get(address)
                except urllib.error.HTTPError as answer:
                    if answer.code >= 500:
                        failed.append((address, answer.code))
        assert len(asked) > 60
        assert failed == []

    def test_what_it_backs_up_it_restores(self, films, environment, tmp_path):
        def run(*words: str | Path, typed: str) -> str:
            return subprocess.run(
                [CONSOLE, *words], env=environment, input=typed, capture_output=True, text=True,
                check=True,
            ).stdout  # fmt: skip

        with running(FORMS["folder"], environment) as (visitor, _):
            study = visitor.upload(films[0])
            visitor.wait_for_answer(study)
        (tmp_path / "stick").mkdir()
        said = run("backup", "--to", tmp_path / "stick", typed="maize road lantern seven")
        line = next(word for word in said.split() if word.startswith("AGE-SECRET"))
        run("restore", tmp_path / "stick", "--to", tmp_path / "new", typed=line)
        environment["CLINIC_HOME"] = str(tmp_path / "new")
        with running(FORMS["folder"], environment) as (visitor, _):
            assert "data-answer" in visitor.wait_for_answer(study)

    def test_what_a_passphrase_locks_only_the_passphrase_opens(self, films, environment):
        command = [str(FORMS["folder"])]
        with serving(command, environment) as (visitor, _):
            study = visitor.upload(films[0])
            visitor.wait_for_answer(study)
            turn_on(visitor)
        with serving(command, environment, set_up=False) as (visitor, _):
            unlock(visitor)
            assert "data-answer" in visitor.wait_for_answer(study)
        with serving(command, environment, set_up=False) as (visitor, _):
            send(visitor, "/unlock", passphrase="another one altogether")
            assert not is_open(visitor)
        assert (
            not Path(environment["CLINIC_HOME"], "clinic.sqlite3").read_bytes().startswith(b"SQL")
        )

    def test_its_door_opens_to_other_devices(self, environment):
        command = [str(FORMS["folder"])]
        with serving(command, environment, set_up=False) as (visitor, _):
            with_administrator(visitor)
            visitor.post("/settings/devices", lan="on")
            port = re.search(r":(\d{4,5})", visitor.get("/settings/devices"))
            assert port
            told = ssl.get_server_certificate(("127.0.0.1", int(port[1])))
        assert told.startswith("-----BEGIN CERTIFICATE-----")

    def test_an_update_that_nobody_signed_is_refused_in_words(self, environment, tmp_path):
        update = tmp_path / "model.clinicupdate"
        update.write_bytes(b"PK\x05\x06" + bytes(18))
        told = subprocess.run(
            [CONSOLE, "import-update", update], env=environment, capture_output=True, text=True
        )
        assert told.returncode != 0
        assert "Traceback" not in told.stderr
        assert len(told.stderr.split()) > 5
