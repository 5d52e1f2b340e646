"""Files that are fuzzed: films, updates, and what a clinic sends to the workshop."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from app.cxr.analysis import REFUSED, UNREADABLE, analyse
from app.cxr.dicom_identity import read_identity
from app.cxr.model import Model
from app.cxr.release import Release
from tests.fuzz import dicoms, whole
from tests.fuzz.exploring import Subject
from tests.fuzz.mutations import mutated, png_with_true_sums
from tests.tiny_release import make_release


def films(folder: Path) -> Subject:
    """Pictures and DICOM, through all that the clinic does with a film short of keeping it."""
    model = Model.load(Release.load(make_release(folder / "release")))
    file = folder / "film"

    def look(content: bytes) -> str:
        file.write_bytes(content)
        read_identity(file)
        found = analyse(file, model)
        if found.answer in (REFUSED, UNREADABLE):
            return f"{found.answer}: {found.reason}"
        return found.answer

    return Subject(malformed_films(folder), look)


def malformed_films(folder: Path) -> st.SearchStrategy[bytes]:
    """Damaged pictures and DICOM, and sound ones that say wrong things."""
    found = dicoms.dicoms(folder)
    taken_apart = [dicoms.elements(one) for one in found if _is_explicit(one)]
    return st.one_of(
        mutated(whole.pictures()),
        mutated(found),
        png_with_true_sums(whole.pngs()),
        dicoms.dicom_with_odd_elements(taken_apart),
    )


def _is_explicit(content: bytes) -> bool:
    """Little endian, not deflated: as most units send."""
    return b"1.2.840.10008.1.2\0" not in content and not any(
        uid in content for uid in (b"1.2.840.10008.1.2.2\0", b"1.2.840.10008.1.2.1.99")
    )


def updates(folder: Path) -> Subject:
    """Update files, up to the release that lies beside the one that answers."""
    from app.updates.install import stage
    from app.updates.refused import UpdateRefused
    from app.updates.verify import Trust
    from tests.tuf_publisher import BUILT, Publisher, release_files

    release = release_files(make_release(folder / "update"))
    publisher = Publisher(release).publish()
    honest = [_zipped(publisher.members, method) for method in (0, zipfile.ZIP_DEFLATED)]
    data, path = folder / "data", folder / "film.clinicupdate"
    (folder / "tmp").mkdir()
    trust = Trust(publisher.first_root, data / "tuf", folder / "tmp", "0.1.0", BUILT)

    def look(content: bytes) -> str:
        path.write_bytes(content)
        # What an earlier try brought over is not brought again, and so would not be looked at
        shutil.rmtree(data, ignore_errors=True)
        data.mkdir()
        try:
            staged = stage(path, trust, data)
        except UpdateRefused as refused:
            return f"refused: {refused.code}"
        for name, signed in release.items():
            assert (staged.folder / name.removeprefix("release/")).read_bytes() == signed, name
        return "staged"

    return Subject(st.one_of(mutated(honest), _zips(publisher.members)), look)


def contributions(folder: Path) -> Subject:
    """What a clinic's stick brings to the workshop: sealed honestly, and anything inside it."""
    import pyrage

    from model_export.open_readings import NotOpened, open_readings

    identity = pyrage.x25519.Identity.generate()
    members = _contribution()
    honest = _zipped(members, zipfile.ZIP_STORED)
    sealed = pyrage.encrypt(honest, [identity.to_public()])
    path, out = folder / "film.clinicreadings", folder / "opened"
    inside = st.one_of(mutated([honest]), _zips(members))

    def look(example: tuple[bool, bytes]) -> str:
        to_seal, content = example
        path.write_bytes(pyrage.encrypt(content, [identity.to_public()]) if to_seal else content)
        shutil.rmtree(out, ignore_errors=True)
        try:
            open_readings(path, identity, out)
        except NotOpened as refused:
            return f"refused: {str(refused).partition('(')[0].strip()}"
        return "opened"

    examples = st.one_of(
        st.tuples(st.just(False), mutated([sealed])), st.tuples(st.just(True), inside)
    )
    return Subject(examples, look, lambda one: one[1])


def _contribution() -> dict[str, bytes]:
    names = {"film": "a" * 20, "study": "b" * 20, "patient": "c" * 20}
    record = names | {
        "month": "2026-11", "age_band": "under_5", "sex": "F", "view": "PA", "signs": None,
        "why": "disagreement",
        "finding": {"answer": "likely", "probability": 0.9, "threshold": 0.5, "model": "x@1"},
        "readings": [{"kind": "conclusion", "conclusion": "pneumonia", "before_answer": True}],
    }  # fmt: skip
    return {
        "contribution.json": json.dumps(
            {"format": 1, "site": "d" * 20, "program": "1", "films": 1}
        ).encode(),
        "films.jsonl": json.dumps(record).encode() + b"\n",
        f"films/{names['film']}.png": whole.pngs()[0],
    }


def _zipped(members: dict[str, bytes], method: int) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


@st.composite
def _zips(draw: Any, members: dict[str, bytes]) -> bytes:
    """A sound ZIP whose members are not: JSON with other values, damaged files, missing ones."""
    changed = dict(members)
    name = draw(st.sampled_from(sorted(members)))
    what = draw(st.sampled_from(("bytes", "json", "drop", "add")))
    if what == "drop":
        del changed[name]
    elif what == "add":
        changed[draw(st.text(min_size=1, max_size=30).filter(_is_writable))] = b"x"
    elif what == "json" and name.endswith((".json", ".jsonl")):
        changed[name] = json.dumps(draw(_odd(json.loads(members[name])))).encode()
    else:
        changed[name] = draw(mutated([members[name]]))
    return _zipped(changed, draw(st.sampled_from((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))))


def _is_writable(name: str) -> bool:
    try:
        return bool(name.partition("\0")[0].encode())  # zipfile ends a name there
    except UnicodeEncodeError:
        return False


_scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=9),
    st.just([]),
    st.just({}),
)


@st.composite
def _odd(draw: Any, value: Any) -> Any:
    """A JSON value with one part of it replaced."""
    if isinstance(value, dict) and value and draw(st.integers(0, 5)):
        key = draw(st.sampled_from(sorted(value)))
        return {**value, key: draw(_odd(value[key]))}
    if isinstance(value, list) and value and draw(st.integers(0, 5)):
        at = draw(st.integers(0, len(value) - 1))
        return [*value[:at], draw(_odd(value[at])), *value[at + 1 :]]
    return draw(_scalars)
