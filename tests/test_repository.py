"""Small guards on the repository itself: what is pinned, what is committed, what is promised."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest

WORKSHOP_ONLY = {
    "tensorflow",
    "tensorflow-cpu",
    "keras",
    "tf2onnx",
    "onnx",
    "scikit-learn",
    "torch",
}
#: Markers of what is pulled in by an extra, or by a Python that is older than ours.
ELSEWHERE = re.compile(r"extra ==|python_version <")
#: A pin as pip-compile writes it, its hashes on the lines below.
PINNED = re.compile(r"^([\w.-]+)==(\S+)", re.MULTILINE)
FILM_SUFFIXES = {".dcm", ".dicom", ".jpg", ".jpeg", ".tif", ".tiff", ".npz", ".npy", ".bmp"}
PICTURE_FOLDERS = ("docs/", "assets/", "app/static/", "packaging/")
LARGEST_COMMITTED_FILE = 12_000_000


def committed(root: Path) -> list[str]:
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=False
    )
    if listing.returncode:
        pytest.skip("not a git checkout")
    return [name for name in listing.stdout.split("\0") if name and (root / name).is_file()]


def plain(name: str) -> str:
    """A package's name in the registry's normal form (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(root: Path, name: str) -> dict[str, str]:
    """The pins of one requirements file, without those of the files it includes."""
    found = {}
    for line in (root / name).read_text(encoding="utf-8").splitlines():
        requirement = line.split("#")[0].split(";")[0].strip()
        if requirement and not requirement.startswith("-r "):
            package, _, version = requirement.partition("==")
            found[plain(package)] = version
    return found


#: What several machines on one server need besides; a laptop's bundle is without it.
SERVER = "requirements-server.txt"
REQUIREMENTS = ("requirements.txt", SERVER, "requirements-train.txt", "requirements-dev.txt")


def all_pins(root: Path) -> dict[str, str]:
    return {
        package: version for name in REQUIREMENTS for package, version in pins(root, name).items()
    }


def is_installed(package: str) -> bool:
    """Whether it is on this machine; what is pinned for another system (tzdata) is not."""
    return next(iter(importlib.metadata.distributions(name=package)), None) is not None


def needed_by(package: str) -> set[str]:
    """What a package pulls in on this machine, extras left out."""
    lines = [
        line for line in importlib.metadata.requires(package) or [] if not ELSEWHERE.search(line)
    ]
    names = {re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in lines}
    # Every environment is made with a pip of its own
    return {plain(name) for name in names if is_installed(name)} - {"pip"}


def third_party_imports(folder: Path) -> set[str]:
    names: set[str] = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.split(".")[0])
    return names - set(sys.stdlib_module_names) - {"app", "model_export", "run_clinic"}


def unpinned(modules: set[str], pinned: set[str]) -> set[str]:
    """The imported modules that no pinned package provides."""
    providers = importlib.metadata.packages_distributions()
    return {
        module
        for module in modules
        if not pinned & {plain(package) for package in providers.get(module, [module])}
    }


@pytest.mark.parametrize("name", REQUIREMENTS)
def test_every_requirement_is_pinned_to_one_version(root: Path, name: str) -> None:
    assert [package for package, version in pins(root, name).items() if not version] == []


def test_the_clinic_needs_no_tool_of_the_workshop(root: Path) -> None:
    assert not WORKSHOP_ONLY & set(pins(root, "requirements.txt"))


def test_onnxruntime_is_the_last_release_without_telemetry(root: Path) -> None:
    assert pins(root, "requirements.txt")["onnxruntime"] == "1.28.0"


def test_no_package_is_pinned_to_two_versions(root: Path) -> None:
    known = all_pins(root)
    for name in REQUIREMENTS:
        assert pins(root, name).items() <= known.items(), name


def test_what_is_tested_is_what_is_pinned(root: Path) -> None:
    wrong = {
        package: f"{importlib.metadata.version(package)} is installed, {version} is pinned"
        for package, version in all_pins(root).items()
        if is_installed(package) and importlib.metadata.version(package) != version
    }
    assert wrong == {}


@pytest.mark.parametrize(
    "names",
    [
        ("requirements.txt",),
        ("requirements.txt", SERVER),
        ("requirements.txt", "requirements-train.txt"),
        REQUIREMENTS,
    ],
)
def test_what_a_pinned_package_pulls_in_is_pinned_too(root: Path, names: tuple[str, ...]) -> None:
    pinned = {package for name in names for package in pins(root, name)}
    loose = {package: needed_by(package) - pinned for package in pinned if is_installed(package)}
    assert {package: needed for package, needed in loose.items() if needed} == {}


@pytest.mark.parametrize(
    "frozen", ["packaging/requirements.txt", "packaging/windows/requirements.txt"]
)
def test_what_is_frozen_is_what_runs_from_source(root: Path, frozen: str) -> None:
    text = (root / frozen).read_text(encoding="utf-8")
    held = {plain(name): version for name, version in PINNED.findall(text)}
    asked = pins(root, "requirements.txt")
    assert {name: held.get(name) for name in asked} == asked


def test_the_program_imports_nothing_that_its_bundle_lacks(root: Path) -> None:
    lacking = unpinned(third_party_imports(root / "app"), set(pins(root, "requirements.txt")))
    # Asked for where somebody asks for the figures, and not missed where it is not there
    assert lacking == {"prometheus_client"}
    assert unpinned(lacking, set(pins(root, SERVER))) == set()


def test_the_workshop_imports_nothing_that_is_not_pinned(root: Path) -> None:
    pinned = set(pins(root, "requirements.txt")) | set(pins(root, "requirements-train.txt"))
    assert unpinned(third_party_imports(root / "model_export"), pinned) == set()


def test_an_import_that_nobody_pinned_is_caught() -> None:
    assert unpinned({"numpy", "pandas"}, {"numpy"}) == {"pandas"}


def test_no_film_is_committed(root: Path) -> None:
    films = [name for name in committed(root) if Path(name).suffix.lower() in FILM_SUFFIXES]
    assert films == []


def test_pictures_lie_only_where_the_program_or_its_manual_shows_them(root: Path) -> None:
    pictures = [name for name in committed(root) if name.lower().endswith(".png")]
    assert [name for name in pictures if not name.startswith(PICTURE_FOLDERS)] == []


def test_no_committed_file_is_large(root: Path) -> None:
    large = [
        name for name in committed(root) if (root / name).stat().st_size > LARGEST_COMMITTED_FILE
    ]
    assert large == []


def test_the_folder_packaging_never_hides_the_package_of_that_name(root: Path) -> None:
    # onnxruntime's tools and others import PyPI's `packaging`; a regular package of ours would win.
    assert not (root / "packaging" / "__init__.py").exists()


def test_the_entry_point_stays_a_page_long(root: Path) -> None:
    assert len((root / "run_clinic.py").read_text(encoding="utf-8").splitlines()) < 80


def test_telemetry_is_off_before_anything_is_imported(root: Path) -> None:
    """The first statement that does something, but for imports of Python's own modules."""
    tree = ast.parse((root / "run_clinic.py").read_text(encoding="utf-8"))
    for node in tree.body:
        text = ast.unparse(node)
        if "ORT_DISABLE_TELEMETRY" in text:
            return
        if isinstance(node, ast.Import):
            assert {alias.name.split(".")[0] for alias in node.names} <= sys.stdlib_module_names
        elif isinstance(node, ast.ImportFrom):
            assert (node.module or "").split(".")[0] in sys.stdlib_module_names, text
    pytest.fail("run_clinic.py does not set ORT_DISABLE_TELEMETRY")


@pytest.mark.parametrize(
    "name", ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs/performance.md", ".ci/run"]
)
def test_what_the_readme_promises_is_there(root: Path, name: str) -> None:
    assert (root / name).is_file()


def test_every_link_of_the_documents_leads_somewhere(root: Path) -> None:
    dead = []
    for page in [*root.glob("*.md"), *(root / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if not (page.parent / target).exists():
                dead.append(f"{page.relative_to(root)} -> {target}")
    assert dead == []
