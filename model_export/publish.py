"""Sign a model release and write the ``.clinicupdate`` that goes to the clinics by stick.

    python -m model_export publish --release DIR --keys DIR [FURTHER_DIR …] --notes FILE
        --minimum-program 0.1.0 --comparison FILE.json --out FILE.clinicupdate

The release passes its self-test first, and another than the last one has been compared with that
one (``compare``) and accepted, or the notes say why not. Version numbers of the signed parts go up
with every call, so that no clinic ever takes an older update for a newer one.
"""

from __future__ import annotations

import argparse
import datetime as dt
import hashlib
import io
import json
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tuf.api.metadata import Metadata, MetaFile, Snapshot, TargetFile, Targets, Timestamp

from app.cxr.durable import write_durably
from app.cxr.model import Model
from app.cxr.release import MANIFEST, Release, UnusableRelease
from app.cxr.update_format import (
    INFO,
    LARGEST_INFO,
    LARGEST_UNPACKED,
    METADATA,
    MOST_MEMBERS,
    RELEASE,
    SUFFIX,
    TARGETS,
    UpdateInfo,
    clash,
    may_travel,
)
from model_export.publisher import CannotSign, Publisher, add_keys_argument, ask, in_days

HASH = ["sha256"]
VALID_DAYS = 365
# Two files of the same content are the same file
MADE = (2026, 1, 1, 0, 0, 0)


def publish(
    publisher: Publisher,
    release: Path,
    out: Path,
    notes: str,
    minimum_program: str,
    days: int,
    comparison: Path | None = None,
    without_comparison: str = "",
) -> UpdateInfo:
    """Write a signed update file; raises CannotSign, UnusableRelease or OSError.

    ``days``: how long clinics may take it without a question. ``comparison``: what ``compare``
    wrote; ``without_comparison``: why there is none, which clinics read in the notes.
    """
    if out.suffix != SUFFIX:
        raise CannotSign(f"The name of an update ends in {SUFFIX}.")
    if without_comparison:
        notes = f"{notes.strip()}\n\nNot compared with the model before: {without_comparison}"
    contents, info = described(release, notes, minimum_program)
    _refuse_if_reused(publisher, contents, info)
    if not without_comparison:
        refuse_unless_compared(last_digest(publisher), digest_of(contents), comparison)
    parts = signed_parts(publisher, contents, in_days(days))
    # Before the file: a version number that might be out there is never given twice
    for role, content in parts.items():
        write_durably(publisher.folder / f"{role}.json", content)
    write_durably(out, packed(publisher, parts, contents))
    return info


def described(
    folder: Path, notes: str, minimum_program: str
) -> tuple[dict[str, bytes], UpdateInfo]:
    """The targets of an update by name, and what it is; raises CannotSign, UnusableRelease."""
    release = Release.load(folder)
    if failed := Model.load(release).self_test():
        raise CannotSign(f"The release fails its own self-test: {', '.join(failed)}.")
    info = UpdateInfo(
        name=str(release.manifest["name"]),
        version=str(release.manifest["version"]),
        minimum_program=minimum_program,
        published=dt.datetime.now(dt.UTC).date(),
        notes=notes.strip(),
    )
    if not info.is_fit:
        raise CannotSign(
            "Clinics take names such as chest-lite0, versions such as 1.0.0 (the program's too), "
            f"and notes of plain text; this is {info.label} for {minimum_program}."
        )
    names = [MANIFEST, *release.manifest["files"]]
    contents = {f"{RELEASE}{name}": (folder / name).read_bytes() for name in names}
    contents[INFO] = info.to_bytes()
    _check(contents)
    return contents, info


def _check(contents: Mapping[str, bytes]) -> None:
    odd = [name for name in contents if not may_travel(name)]
    if again := clash(contents):
        odd.append(again)
    if odd:
        raise CannotSign(f"Clinics do not take these files: {', '.join(odd)}.")
    too_many = len(contents) > MOST_MEMBERS // 2
    if too_many or len(contents[INFO]) > LARGEST_INFO:
        raise CannotSign("The release has too many files, or its notes are too long.")
    if sum(map(len, contents.values())) > LARGEST_UNPACKED:
        raise CannotSign("The release is too large for an update.")


def _refuse_if_reused(
    publisher: Publisher, contents: Mapping[str, bytes], info: UpdateInfo
) -> None:
    """Clinics refuse another content under a version that they have; better to hear it here."""
    manifest = last_manifest(publisher)
    if manifest is None:
        return
    same = TargetFile.from_data(RELEASE + MANIFEST, contents[RELEASE + MANIFEST], HASH)
    if manifest.custom == {"label": info.label} and manifest.hashes != same.hashes:
        raise CannotSign(f"{info.label} was published with another content. Raise the version.")


def last_manifest(publisher: Publisher) -> TargetFile | None:
    """The manifest of the release that was published last; None before the first."""
    path = publisher.folder / "targets.json"
    if not path.is_file():
        return None
    return Metadata[Targets].from_file(str(path)).signed.targets[RELEASE + MANIFEST]


def last_digest(publisher: Publisher) -> str | None:
    """The SHA-256 of that manifest."""
    manifest = last_manifest(publisher)
    return None if manifest is None else str(manifest.hashes["sha256"])


def digest_of(contents: Mapping[str, bytes]) -> str:
    """The SHA-256 of the manifest that is to be published."""
    return hashlib.sha256(contents[RELEASE + MANIFEST]).hexdigest()


def refuse_unless_compared(last: str | None, now: str, comparison: Path | None) -> None:
    """Raise CannotSign unless there is nothing to compare with, the release is the last one again,
    or it was compared with the last one and accepted.

    ``last`` and ``now``: SHA-256 of manifests, None before the first release.
    """
    if comparison is None:
        if last in {None, now}:
            return
        raise CannotSign(
            "Hold the release against the one that was published last (compare), and name what "
            "that wrote by --comparison. Where this cannot be done, say why by "
            "--without-comparison."
        )
    try:
        found = json.loads(comparison.read_text(encoding="utf-8"))
        old, new = (str(found[side]["digest"]) for side in ("old", "new"))
        accepted, reasons = found["verdict"]["accepted"], found["verdict"]["reasons"]
    except (ValueError, KeyError, TypeError) as error:
        raise CannotSign(f"{comparison} is no comparison of compare.") from error
    if new != now:
        raise CannotSign(f"{comparison} is of another release than this one.")
    if last not in {None, now, old}:
        raise CannotSign(f"{comparison} is not with the release that was published last.")
    if accepted is not True:
        raise CannotSign("\n".join(["The comparison refused this release:", *map(str, reasons)]))


def signed_parts(
    publisher: Publisher, contents: Mapping[str, bytes], expires: dt.datetime
) -> dict[str, bytes]:
    """The next targets, snapshot and timestamp."""
    targets = Targets(_next(publisher, "targets"), expires=expires)
    targets.targets = {
        name: TargetFile.from_data(name, content, HASH) for name, content in contents.items()
    }
    label = UpdateInfo.from_bytes(contents[INFO]).label
    targets.targets[RELEASE + MANIFEST].unrecognized_fields["custom"] = {"label": label}
    of_targets = _signed(publisher, "release", targets)
    snapshot = Snapshot(_next(publisher, "snapshot"), expires=expires)
    snapshot.meta["targets.json"] = MetaFile.from_data(targets.version, of_targets, HASH)
    of_snapshot = _signed(publisher, "courier", snapshot)
    timestamp = Timestamp(_next(publisher, "timestamp"), expires=expires)
    timestamp.snapshot_meta = MetaFile.from_data(snapshot.version, of_snapshot, HASH)
    of_timestamp = _signed(publisher, "courier", timestamp)
    return {"targets": of_targets, "snapshot": of_snapshot, "timestamp": of_timestamp}


def _next(publisher: Publisher, role: str) -> int:
    path = publisher.folder / f"{role}.json"
    if not path.is_file():
        return 1
    last: Metadata[Any] = Metadata.from_file(str(path))
    return int(last.signed.version) + 1


def _signed(publisher: Publisher, kind: str, part: Any) -> bytes:
    metadata = Metadata(part)
    publisher.sign(kind, metadata)
    return metadata.to_bytes()


def packed(
    publisher: Publisher, parts: Mapping[str, bytes], contents: Mapping[str, bytes]
) -> bytes:
    """The update file: every root there ever was, the signed parts, the targets."""
    versions = range(1, publisher.root().signed.version + 1)
    members = {f"{n}.root.json": publisher.root_path(n).read_bytes() for n in versions}
    members |= {f"{role}.json": content for role, content in parts.items()}
    members = {METADATA + name: content for name, content in members.items()}
    members |= {TARGETS + name: content for name, content in contents.items()}
    return zipped(members)


def zipped(members: Mapping[str, bytes]) -> bytes:
    """A ZIP of plain files, the same bytes for the same members."""
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        for name, content in sorted(members.items()):
            entry = zipfile.ZipInfo(name, MADE)
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    return whole.getvalue()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of this stage."""
    parser.add_argument("--release", type=Path, required=True, help="folder of the release")
    add_keys_argument(parser)
    parser.add_argument("--notes", type=Path, required=True, help="release notes, plain text")
    parser.add_argument(
        "--minimum-program", required=True, help="oldest program that may take it, such as 0.1.0"
    )
    compared = parser.add_mutually_exclusive_group()
    compared.add_argument(
        "--comparison", type=Path, help="what compare wrote, with the release published last"
    )
    compared.add_argument(
        "--without-comparison", metavar="REASON", default="",
        help="why there is none; clinics read it in the notes",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, help=f"file to write, *{SUFFIX}")
    parser.add_argument(
        "--valid-days",
        type=int,
        default=VALID_DAYS,
        help=f"how long clinics may take it without a question; {VALID_DAYS} unless told",
    )


def main(options: argparse.Namespace) -> int:
    """Run the stage; returns the exit status."""
    try:
        info = publish(
            Publisher(options.keys, ask),
            options.release,
            options.out,
            options.notes.read_text(encoding="utf-8"),
            options.minimum_program,
            options.valid_days,
            options.comparison,
            options.without_comparison,
        )
    except (CannotSign, UnusableRelease, OSError, ValueError) as error:
        print(f"{error}\nNothing was published.", file=sys.stderr)
        return 1
    size = options.out.stat().st_size / 1024**2
    print(f"{info.label}, {size:.1f} MB, in {options.out}")
    return 0
