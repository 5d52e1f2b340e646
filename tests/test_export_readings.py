"""What the clinic has learnt leaves on a stick: without identity, encrypted, and whole."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyrage
import pytest
from django.conf import settings
from django.core.management import load_command_class
from PIL import Image, ImageDraw, ImageFont
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

import run_clinic
from app import contributions
from app.contribution_words import REFUSALS, refusal_words
from app.contributions import NotExported, export
from app.cxr.contribution_format import ABOUT, RECORDS, WHY
from app.models import AuditEvent, ClinicalSigns, Patient, Reading, Study, User
from app.stop import CannotStart
from model_export import open_readings, readings_key
from model_export.datasets import load_labels_csv
from model_export.open_readings import NotOpened
from model_export.phantom import chest_film
from tests.films import dataset, encode, written
from tests.people import enter
from tests.studies import answer, take_in

MARK = "ZQXMARK"
SIZE = (512, 480)


@pytest.fixture
def publisher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pyrage.x25519.Identity:
    """The publisher that the program was built with."""
    identity = pyrage.x25519.Identity.generate()
    key = tmp_path / "readings.pub"
    key.write_text(f"{identity.to_public()}\n", encoding="ascii")
    monkeypatch.setattr(contributions, "PUBLISHER_KEY", key)
    return identity


@pytest.fixture
def stick(data_dir: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "stick"
    folder.mkdir()
    return folder


@pytest.fixture
def reader(site: Any) -> User:
    return enter("clinician")


def read_study(
    reader: User,
    seed: int = 1,
    conclusion: str = "pneumonia",
    consent: bool | None = True,
    content: bytes | None = None,
    **found: Any,
) -> Study:
    content = content or encode(chest_film(seed, SIZE), "PNG")
    study = answer(take_in(content, f"{seed}.png"), **found)
    study.change({"consent_for_learning": consent}, None)
    Reading.record(study, reader, conclusion=conclusion)
    return study


def opened(path: Path, identity: pyrage.x25519.Identity) -> dict[str, bytes]:
    """The members of a contribution."""
    plain = io.BytesIO(pyrage.decrypt(path.read_bytes(), [identity]))
    with zipfile.ZipFile(plain) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def records(members: dict[str, bytes]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in members[RECORDS].splitlines()]


# --- no identity ----------------------------------------------------------------------------------

_TEXT = {"AE", "CS", "LO", "LT", "SH", "ST", "UC", "UT", "PN"}


def marked_film() -> bytes:
    """A DICOM film with a marker of its own in every text element there is, in private ones, in
    nested sequences, in its UIDs and dates, and burnt into its pixels.
    """
    from pydicom.datadict import DicomDictionary

    film = Image.fromarray(chest_film(1, SIZE))
    pen, font = ImageDraw.Draw(film), ImageFont.load_default(size=16)
    for place in ((4, 4), (350, 4), (4, 488), (330, 488)):
        pen.text(place, f"{MARK} 1", fill=255, font=font)
    found: Dataset = dataset(np.asarray(film))
    kept = {element.tag for element in found}
    nested = Dataset()
    nested.PatientName, nested.InstitutionName = f"{MARK}^NESTED", f"{MARK} HOSPITAL"
    for count, (tag, entry) in enumerate(DicomDictionary.items()):
        group, retired = tag >> 16, bool(entry[3])
        if group < 8 or group in (0x28, 0x5400, 0x7FE0) or tag & 0xFFFF == 0 or retired:
            continue
        if tag in kept or entry[0] not in {*_TEXT, "DA", "UI", "SQ"}:
            continue
        if entry[0] == "SQ":
            found.add_new(tag, "SQ", Sequence([nested]))
        else:
            value = {"DA": "19710203", "UI": f"1.2.777.{count}"}.get(entry[0], f"{MARK}{count}")
            found.add_new(tag, entry[0], value)
    block = found.private_block(0x0033, f"{MARK} MAKER", create=True)
    block.add_new(1, "LO", f"{MARK} PRIVATE")
    found.PatientName, found.PatientID = f"{MARK}^AMINA", f"{MARK}-77"
    found.PatientBirthDate, found.PatientSex, found.PatientAge = "19710203", "F", "003Y"
    found.SOPInstanceUID = found.file_meta.MediaStorageSOPInstanceUID
    found.file_meta.SourceApplicationEntityTitle = MARK
    found.ViewPosition, found.Modality, found.BodyPartExamined = MARK, "CR", "CHEST"
    return written(found)


def test_of_an_identity_planted_everywhere_nothing_is_in_the_file(
    stick: Path, publisher: pyrage.x25519.Identity, reader: User
) -> None:
    content = marked_film()
    assert content.count(MARK.encode()) > 1000
    study = answer(take_in(content, f"{MARK}.dcm"), view_position=MARK)
    study.change({"consent_for_learning": True, "note": f"{MARK} note"}, None)
    patient = Patient.enter(
        {"name": f"{MARK} name", "number": f"{MARK}-1", "birth_date": date(1971, 2, 3)}, None
    )
    study.change({"patient": patient}, None)
    Reading.record(study, reader, conclusion="pneumonia", note=f"{MARK} note")
    export(stick / "out.clinicreadings")
    members = opened(stick / "out.clinicreadings", publisher)
    secrets = [MARK, study.number, reader.username, study.instances.get().sha256, "1.2.777"]
    secrets += [
        "19710203",
        "1971-02",
        f"{study.created_at:%Y-%m}",
        str(study.instances.get().sop_instance_uid),
    ]
    spellings = [
        spelt
        for secret in filter(None, secrets)
        for text in (secret, secret.lower())
        for raw in [text.encode(), text.encode("utf-16-le"), text.encode("utf-16-be")]
        for spelt in (raw, base64.b64encode(raw)[:-3], raw.hex().encode(), raw[::-1])
    ]
    everything = b"\n".join([*(name.encode() for name in members), *members.values()])
    assert [spelt for spelt in spellings if spelt in everything] == []


def test_text_burnt_into_the_corners_is_not_in_the_picture(
    stick: Path, publisher: pyrage.x25519.Identity, reader: User
) -> None:
    clean = chest_film(1, SIZE)
    read_study(reader, content=marked_film())
    export(stick / "out.clinicreadings")
    members = opened(stick / "out.clinicreadings", publisher)
    [picture] = [data for name, data in members.items() if name.endswith(".png")]
    pixels = np.asarray(Image.open(io.BytesIO(picture)))
    # Of what was written nothing is left: every pixel is that of the clean film, or black
    assert ((pixels == 0) | (pixels == clean)).all()
    middle = (slice(150, 380), slice(120, 360))
    assert (pixels[middle] == clean[middle]).mean() > 0.99


def test_pseudonyms_are_the_same_in_one_clinic_and_others_in_another(
    stick: Path, publisher: pyrage.x25519.Identity, reader: User, data_dir: Path
) -> None:
    read_study(reader)
    members = []
    for name in ("a", "b", "c"):
        if name == "c":
            (data_dir / contributions.SITE_KEY).unlink()
        export(stick / name, everything=True)
        members.append(opened(stick / name, publisher))
    first, again, elsewhere = (records(one)[0] for one in members)
    assert first == again
    assert not {first[n] for n in ("film", "study", "patient")} & set(map(str, elsewhere.values()))
    assert members[0][ABOUT] != members[2][ABOUT]


def test_the_clinics_key_is_readable_by_nobody_else_and_stays(
    stick: Path, publisher: pyrage.x25519.Identity, reader: User, data_dir: Path
) -> None:
    read_study(reader)
    export(stick / "out")
    path = data_dir / contributions.SITE_KEY
    assert path.stat().st_mode & 0o077 == 0
    everything = b"".join(opened(stick / "out", publisher).values())
    assert path.read_bytes() not in everything
    assert path.read_bytes().hex().encode() not in everything


# --- what leaves ----------------------------------------------------------------------------------


def test_only_films_leave_that_were_read_and_whose_patient_agreed(
    stick: Path, publisher: pyrage.x25519.Identity, reader: User
) -> None:
    wanted = read_study(reader, 1)
    for seed, consent in ((2, False), (3, None)):
        read_study(reader, seed, consent=consent)
    unread = answer(take_in(encode(chest_film(4, SIZE), "PNG"), "4.png"))
    unread.change({"consent_for_learning": True}, None)
    refused = {"probability": None, "threshold": None, "regions": (), "peak": None}
    read_study(reader, 5, answer="refused", reason="not_chest", activation_map=None, **refused)
    made = export(stick / "out")
    assert list(made.sent) == [str(wanted.instances.get().pk)]


def test_disagreements_and_uncertain_films_leave_first(
    stick: Path, publisher: pyrage.x25519.Identity, reader: User
) -> None:
    read_study(reader, 1, probability=0.99)
    read_study(reader, 2, probability=0.45)
    read_study(reader, 3, probability=0.41, answer="cannot_say")
    read_study(reader, 4, "no_pneumonia", probability=0.99)
    made = export(stick / "out")
    assert [row["why"] for row in made.records] == list(WHY)
    assert made.by_reason() == dict.fromkeys(WHY, 1)


def test_a_limit_keeps_the_most_instructive_and_the_rest_leaves_the_next_time(
    stick: Path, publisher: pyrage.x25519.Identity, reader: User
) -> None:
    read_study(reader, 1, probability=0.99)
    read_study(reader, 2, "no_pneumonia", probability=0.99)
    whys = [[r["why"] for r in export(stick / n, limit=1).records] for n in ("a", "b")]
    assert whys == [["disagreement"], ["other"]]


def test_what_left_before_leaves_again_only_with_a_new_reading_or_when_asked(
    stick: Path, publisher: pyrage.x25519.Identity, reader: User
) -> None:
    study = read_study(reader)
    export(stick / "a")
    with pytest.raises(NotExported, match="nothing_new"):
        export(stick / "b")
    assert len(export(stick / "c", everything=True).records) == 1
    Reading.record(study, reader, conclusion="no_pneumonia", kind="diagnosis")
    [row] = export(stick / "d").records
    assert [one["kind"] for one in row["readings"]] == ["conclusion", "diagnosis"]
    assert row["why"] == "disagreement"


def test_a_film_says_coarse_facts_only(
    stick: Path, publisher: pyrage.x25519.Identity, reader: User
) -> None:
    from app.cxr.signs import Signs

    study = read_study(reader)
    study.change({"age_years": 3.42}, None)
    ClinicalSigns.record(study, reader, Signs(breaths_per_minute=52, chest_indrawing=False))
    [row] = export(stick / "out").records
    assert row["age_band"] == "under_5"
    assert row["signs"] == study.clinical_signs.get().assessment["classification"]
    assert set(row) == {
        "film", "study", "patient", "month", "age_band", "sex", "view", "readings", "finding",
        "signs", "why", "width", "height", "text_removed",
    }  # fmt: skip
    assert row["readings"] == [
        {"conclusion": "pneumonia", "kind": "conclusion", "before_answer": False, "agrees": None}
    ]


def test_a_film_in_which_text_may_be_left_stays(
    stick: Path, publisher: pyrage.x25519.Identity, reader: User
) -> None:
    page = Image.new("L", (700, 700), 255)
    for top in range(0, 700, 24):
        ImageDraw.Draw(page).text((5, top), MARK * 9, font=ImageFont.load_default(size=16))
    read_study(reader, content=encode(page, "PNG"))
    with pytest.raises(NotExported) as refused:
        export(stick / "out")
    assert (refused.value.code, refused.value.held_back) == ("nothing_new", 1)


def test_it_is_recorded_without_saying_whose_films_they_are(
    stick: Path, publisher: pyrage.x25519.Identity, reader: User
) -> None:
    read_study(reader)
    export(stick / "out", by=reader)
    event = AuditEvent.objects.get(action="readings_exported")
    counts = {"films": 1, "studies": 1, "patients": 1, "held_back": 0}
    assert event.details == {"file": "out", **counts}
    assert event.user == reader


# --- whole or not there ---------------------------------------------------------------------------


def _full(*_args: Any, **_more: Any) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("where", ["pyrage.encrypt_io", "os.fsync", "pathlib.Path.replace"])
def test_a_stick_that_fills_up_leaves_nothing_half_and_nothing_recorded(
    where: str,
    stick: Path,
    publisher: pyrage.x25519.Identity,
    reader: User,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read_study(reader)
    contributions.site_key()
    monkeypatch.setattr(where, _full)
    with pytest.raises(NotExported, match="cannot_"):
        export(stick / "out")
    monkeypatch.undo()
    assert list(stick.iterdir()) == []
    assert list(settings.TEMPORARY_DIR.iterdir()) == []
    assert not AuditEvent.objects.filter(action="readings_exported").exists()
    assert contributions.gather(set(contributions.sent().items()))


def test_a_writer_that_fails_in_the_middle_is_told(
    publisher: pyrage.x25519.Identity,
) -> None:
    class Full(io.BytesIO):
        def write(self, _data: Any) -> int:
            raise OSError(28, "No space left on device")

    with pytest.raises((OSError, pyrage.EncryptError)):
        pyrage.encrypt_io(io.BytesIO(b"x" * 10**6), Full(), [publisher.to_public()])


def test_a_file_that_is_there_is_not_written_over(
    stick: Path, publisher: pyrage.x25519.Identity, reader: User
) -> None:
    read_study(reader)
    (stick / "out").write_bytes(b"last month's")
    with pytest.raises(NotExported, match="exists"):
        export(stick / "out")
    assert (stick / "out").read_bytes() == b"last month's"


@pytest.mark.parametrize(
    ("content", "code"), [(None, "no_publisher"), ("age1nonsense", "publisher_damaged")]
)
def test_without_a_publisher_nothing_leaves(
    content: str | None,
    code: str,
    stick: Path,
    reader: User,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    key = tmp_path / "none.pub"
    if content:
        key.write_text(content, encoding="ascii")
    monkeypatch.setattr(contributions, "PUBLISHER_KEY", key)
    read_study(reader)
    with pytest.raises(NotExported, match=code):
        export(stick / "out")
    assert list(stick.iterdir()) == []


def test_a_damaged_site_key_is_not_replaced_in_silence(
    stick: Path, publisher: pyrage.x25519.Identity, reader: User, data_dir: Path
) -> None:
    read_study(reader)
    (data_dir / contributions.SITE_KEY).write_bytes(b"short")
    with pytest.raises(NotExported, match="key_damaged"):
        export(stick / "out")


# --- the command ----------------------------------------------------------------------------------


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    from app import startup

    for name in ("prepare_data_directory", "prepare_database"):
        monkeypatch.setattr(startup, name, lambda: None)
    load_command_class("app", "export_readings").run_from_argv(
        ["run_clinic.py", "export-readings", *arguments]
    )


def test_the_summary_says_in_words_and_lines_what_leaves(
    stick: Path,
    publisher: pyrage.x25519.Identity,
    reader: User,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    study = read_study(reader)
    paths = [str(stick / name) for name in ("out.clinicreadings", "summary.txt")]
    command(monkeypatch, "--out", paths[0], "--summary", paths[1])
    assert "1 film, encrypted" in capsys.readouterr().out
    summary = Path(paths[1]).read_text(encoding="utf-8")
    assert "Films: 1, of 1 studies and 1 patients." in summary
    assert study.number not in summary
    sent = records(opened(Path(paths[0]), publisher))
    assert json.loads(summary.splitlines()[-1]) == sent[0]


def test_a_program_without_a_publisher_says_so(
    stick: Path, reader: User, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contributions, "PUBLISHER_KEY", tmp_path / "none.pub")
    with pytest.raises(CannotStart, match="no publisher") as stopped:
        command(monkeypatch, "--out", str(stick / "out"))
    assert stopped.value.exit_code == 2


def test_every_refusal_has_words() -> None:
    assert set(REFUSALS) == contributions.CODES
    assert all(len(refusal_words(NotExported(code))) > 20 for code in contributions.CODES)
    assert "export-readings" in run_clinic.COMMANDS


# --- the workshop ---------------------------------------------------------------------------------


def sealed(members: dict[str, bytes], identity: pyrage.x25519.Identity, path: Path) -> Path:
    """A contribution of these members, as anybody with the public key can make one."""
    plain = io.BytesIO()
    with zipfile.ZipFile(plain, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    path.write_bytes(pyrage.encrypt(plain.getvalue(), [identity.to_public()]))
    return path


def test_the_workshop_opens_it_into_what_evaluate_reads(
    stick: Path, publisher: pyrage.x25519.Identity, reader: User, tmp_path: Path
) -> None:
    read_study(reader, 1)
    read_study(reader, 2, "no_pneumonia")
    made = export(stick / "out")
    out = tmp_path / "opened"
    assert open_readings.open_readings(stick / "out", publisher, out) == 2
    films = load_labels_csv(out, "label", ["pneumonia"], ["no_pneumonia"])
    assert sorted(film.label for film in films) == [0, 1]
    assert all(film.path.is_file() for film in films)
    assert len({film.patient for film in films}) == made.counts()["patients"] == 2


ATTACKS: dict[str, Any] = {
    "a name with a path": {"film": "../../../etc/passwd0"},
    "a patient in words": {"patient": "Amina Otieno"},
    "no such conclusion": {"readings": [{"conclusion": "rm", "kind": "x", "before_answer": 1}]},
    "no readings": {"readings": []},
    "a formula": {"month": "=HYPERLINK(1)"},
    "no such band": {"age_band": "42"},
    "a record of another kind": {"finding": [1]},
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_the_workshop_refuses(
    attack: str, stick: Path, publisher: pyrage.x25519.Identity, reader: User, tmp_path: Path
) -> None:
    read_study(reader)
    export(stick / "out")
    members = opened(stick / "out", publisher)
    [row] = records(members)
    if attack == "no readings":
        row["readings"] = [{"conclusion": [], "kind": "x", "before_answer": False}]
    else:
        row |= ATTACKS[attack]
    members[RECORDS] = json.dumps(row).encode()
    forged = sealed(members, publisher, tmp_path / "forged")
    with pytest.raises(NotOpened):
        open_readings.open_readings(forged, publisher, tmp_path / "opened")
    assert not (tmp_path / "opened").exists()


def test_the_workshop_refuses_another_key_and_a_changed_byte(
    stick: Path, publisher: pyrage.x25519.Identity, reader: User, tmp_path: Path
) -> None:
    read_study(reader)
    export(stick / "out")
    other = pyrage.x25519.Identity.generate()
    with pytest.raises(NotOpened):
        open_readings.open_readings(stick / "out", other, tmp_path / "opened")
    content = bytearray((stick / "out").read_bytes())
    content[-20] ^= 1
    (stick / "changed").write_bytes(content)
    with pytest.raises(NotOpened):
        open_readings.open_readings(stick / "changed", publisher, tmp_path / "opened")


def test_the_key_is_a_file_under_a_passphrase(tmp_path: Path) -> None:
    key, public = tmp_path / "readings.key", tmp_path / "readings.pub"
    readings_key.make(key, public, "correct horse")
    assert key.stat().st_mode & 0o077 == 0
    assert b"AGE-SECRET-KEY" not in key.read_bytes()
    identity = readings_key.unlock(key, "correct horse")
    assert str(identity.to_public()) == public.read_text(encoding="ascii").strip()
    with pytest.raises(ValueError, match="passphrase"):
        readings_key.unlock(key, "wrong")
    with pytest.raises(FileExistsError):
        readings_key.make(tmp_path / "other.key", public, "correct horse")
