"""A hospital's CD or stick: the films its DICOMDIR lists, in whatever state it is."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.fileset import FileSet
from pydicom.uid import UID

from app.cxr.dicomdir import films_of, is_dicomdir, read_medium
from model_export import phantom
from tests import films

CARRIED = Path(pydicom.__file__).parent / "data" / "test_files" / "dicomdirtests"


@pytest.fixture
def medium(tmp_path: Path) -> Path:
    """Three films of one patient, written as pydicom writes media."""
    files = FileSet()
    for number in range(3):
        found = films.dataset(phantom.chest_film(number, (64, 56)))
        found.SOPInstanceUID = found.file_meta.MediaStorageSOPInstanceUID = UID(f"1.2.3.{number}")
        found.SeriesInstanceUID, found.StudyID, found.StudyDate = "1.2.4", "1", "20260101"
        found.StudyTime, found.SeriesNumber, found.InstanceNumber = "101010", 1, number
        files.add(found)
    files.write(tmp_path / "cd")
    return tmp_path / "cd" / "DICOMDIR"


def listed(dicomdir: Path) -> list[Path]:
    return [Path(one.path) for one in FileSet(pydicom.dcmread(dicomdir))]


def change(dicomdir: Path, **elements: object) -> None:
    """Write elements into the record of the first picture."""
    found = pydicom.dcmread(dicomdir)
    record = pictures(found)[0]
    for keyword, value in elements.items():
        setattr(record, keyword, value)
    found.save_as(dicomdir)


def pictures(found: Dataset) -> list[Dataset]:
    return [one for one in found.DirectoryRecordSequence if one.DirectoryRecordType == "IMAGE"]


def test_it_lists_the_films_that_pydicom_lists(medium):
    assert sorted(films_of(medium)) == sorted(listed(medium))
    assert len(films_of(medium)) == 3
    assert not read_medium(medium).is_damaged


def test_the_directory_itself_is_no_film(medium):
    assert medium not in films_of(medium)


@pytest.mark.parametrize("name", sorted(path.name for path in CARRIED.glob("DICOMDIR*")))
def test_the_directories_that_pydicom_carries_are_read(name):
    found = read_medium(CARRIED / name)

    # one of them lists nothing, and then every file of the folder is a candidate
    assert found.is_damaged == ("empty" in name)
    assert found.films
    assert found.missing == ()
    if not found.is_damaged:
        assert len(found.films) == 31


def test_names_in_another_case_are_found(medium):
    folder = medium.parent
    lower = folder.parent / "lower"
    for path in [one for one in folder.rglob("*") if one.is_file()]:
        target = lower / str(path.relative_to(folder)).lower()
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)

    assert is_dicomdir(lower / "dicomdir")
    assert len(films_of(lower / "dicomdir")) == 3


@pytest.mark.parametrize("ending", [";1", ".;1", "."])
def test_the_version_of_iso_9660_is_no_part_of_a_name(medium, ending):
    for path in listed(medium):
        path.rename(path.with_name(path.name + ending))

    assert len(films_of(medium)) == 3


def test_what_is_listed_and_not_there_is_told(medium):
    first, *others = listed(medium)
    first.unlink()

    found = read_medium(medium)
    assert sorted(found.films) == sorted(others)
    assert found.missing == ("/".join(first.relative_to(medium.parent).parts),)


@pytest.mark.parametrize(
    "name",
    [
        ["..", "secret"],
        ["", "etc", "passwd"],
        ["/etc/passwd"],
        ["..\\..\\secret"],
        ["C:", "secret"],
        [".", ".", "secret"],
        "../secret",
    ],
)
def test_nothing_outside_the_medium_is_read(medium, name):
    (medium.parent.parent / "secret").write_bytes(b"x")
    change(medium, ReferencedFileID=name)

    found = read_medium(medium)
    assert len(found.films) == 2
    assert all(path.is_relative_to(medium.parent) for path in found.films)


def test_a_link_out_of_the_medium_is_not_followed(medium):
    outside = medium.parent.parent / "secret"
    outside.write_bytes(b"x")
    first = listed(medium)[0]
    first.unlink()
    try:
        first.symlink_to(outside)
    except OSError:
        pytest.skip("links need a right that this account lacks")

    assert len(films_of(medium)) == 2


def test_what_is_no_picture_is_not_listed(medium):
    change(medium, DirectoryRecordType="SR DOCUMENT")

    assert len(films_of(medium)) == 2


def test_a_film_listed_twice_comes_once(medium):
    found = pydicom.dcmread(medium)
    first, second, _ = pictures(found)
    second.ReferencedFileID = first.ReferencedFileID
    found.save_as(medium)

    assert len(films_of(medium)) == 2


@pytest.mark.parametrize("part", [0, 0.2, 0.5])
def test_a_directory_cut_short_gives_every_file_of_the_folder(medium, part):
    content = medium.read_bytes()
    (medium.parent / ".hidden").write_bytes(b"x")
    (medium.parent / "README.TXT").write_bytes(b"x")
    medium.write_bytes(content[: int(len(content) * part)])

    found = read_medium(medium)
    assert found.is_damaged
    assert {*found.films} == {*all_but(medium), medium.parent / "README.TXT"}


def all_but(medium: Path) -> list[Path]:
    return [
        path
        for path in medium.parent.rglob("*")
        if path.is_file() and path != medium and not path.name.startswith(".")
    ]


def test_a_film_called_dicomdir_is_no_directory(medium):
    medium.write_bytes(films.dicom(phantom.chest_film(1, (64, 56))))

    assert read_medium(medium).is_damaged
    assert len(films_of(medium)) == 3


def test_one_that_is_not_there_at_all_does_not_stop_anything(tmp_path):
    assert films_of(tmp_path / "nowhere" / "DICOMDIR") == []


@given(seed=st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_changed_bytes_never_stop_it(seed, tmp_path_factory):
    content = bytearray((CARRIED / "DICOMDIR").read_bytes())
    dice = random.Random(seed)
    for _ in range(dice.randint(1, 40)):
        content[dice.randrange(len(content))] = dice.randrange(256)
    folder = tmp_path_factory.mktemp("cd")
    (folder / "DICOMDIR").write_bytes(content)
    (folder / "FILM").write_bytes(b"x")

    found = read_medium(folder / "DICOMDIR")
    assert set(found.films) <= {folder / "FILM"}
    assert found.is_damaged or found.missing
