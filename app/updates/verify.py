"""Whose update it is: python-tuf's client, over a source that is no network.

The client's workflow, its order and its comparisons are python-tuf's (``tuf.ngclient``, TUF
specification 1.0, section 5). What is done here: feed it from one file, judge clocks apart, since a
clinic's laptop often has a wrong one, and name each refusal. Nothing here decides by itself that a
signature will do.
"""

from __future__ import annotations

import datetime as dt
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tuf.api import exceptions
from tuf.api.metadata import (
    Metadata,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig

from app.cxr.durable import write_durably
from app.cxr.update_format import (
    INFO,
    LARGEST_INFO,
    LARGEST_METADATA,
    LARGEST_UNPACKED,
    METADATA,
    MOST_ROTATIONS,
    TARGETS,
    UnusableInfo,
    UpdateInfo,
    clash,
    may_travel,
    role_of,
)
from app.updates.archive import Archive, Source
from app.updates.refused import UpdateRefused, writing

ROOT_HISTORY = "root_history"
# Before all that ever expires: expiry is judged in ``Update.doubts``, and by nobody else
_NEVER = dt.datetime.min.replace(tzinfo=dt.UTC)
_LIMITS = UpdaterConfig(
    max_root_rotations=MOST_ROTATIONS,
    root_max_length=LARGEST_METADATA["root"],
    timestamp_max_length=LARGEST_METADATA["timestamp"],
    snapshot_max_length=LARGEST_METADATA["snapshot"],
    targets_max_length=LARGEST_METADATA["targets"],
)


@dataclass(frozen=True)
class Trust:
    """What an update is held against.

    ``root``: the publisher's root metadata that came with the program, None where none did.
    ``state``: the folder of what is known since (roots, newest metadata). ``scratch``: a folder for
    passing files. ``program``: this program's version; ``built``: the day it was made.
    """

    root: bytes | None
    state: Path
    scratch: Path
    program: str
    built: dt.date


@dataclass(frozen=True)
class Doubt:
    """What speaks against an update and may be a wrong clock's fault: an administrator decides."""

    code: str
    details: Mapping[str, object] = field(default_factory=dict)


DOUBTS = frozenset({"expired", "clock_before_build"})


@dataclass(frozen=True)
class Update:
    """An update whose signatures, versions and description are verified; its files are not yet.

    ``targets``: what it consists of, by path, with length and hashes. ``expires``: when the first
    of its signed parts does. ``metadata``: the verified parts themselves, by role.
    """

    info: UpdateInfo
    targets: Mapping[str, TargetFile]
    expires: dt.datetime
    built: dt.date
    metadata: Mapping[str, bytes]

    @property
    def size(self) -> int:
        """Bytes that it takes on the disk."""
        return sum(target.length for target in self.targets.values())

    def doubts(self, now: dt.datetime) -> tuple[Doubt, ...]:
        """What the clock makes doubtful at ``now`` (with a time zone)."""
        found = []
        built = dt.datetime.combine(self.built, dt.time(), dt.UTC)
        # Time zones: the day of the build begins up to 14 hours earlier elsewhere
        if now < built - dt.timedelta(days=1):
            found.append(Doubt("clock_before_build", {"today": now.date(), "built": self.built}))
        # It is later than the build, whatever the clock says
        if max(now, built) >= self.expires:
            details = {"until": self.expires.date(), "today": now.date()}
            found.append(Doubt("expired", details))
        return tuple(found)


def open_update(path: Path, trust: Trust) -> Update:
    """Read and verify an update file in place; raises UpdateRefused. See ``verify``."""
    if trust.root is None:  # before a stick is looked at for nothing
        raise UpdateRefused("no_publisher")
    with Archive(path) as archive:
        update = verify(archive, trust)
        wanted = {TARGETS + name for name in update.targets}
        for name in archive.names() - wanted:
            if role_of(name) is None:
                raise UpdateRefused("stowaway", member=name)
        for name in wanted - archive.names():
            raise UpdateRefused("incomplete", member=name)
    return update


def verify(source: Source, trust: Trust) -> Update:
    """Hold an update against what is trusted; raises UpdateRefused.

    New roots are remembered at once, so that a withdrawn key stays withdrawn, whatever becomes of
    this update. All else is remembered by ``remember``, when it is installed: a stick that was
    only looked at must not shut out another.
    """
    if trust.root is None:
        raise UpdateRefused("no_publisher")
    with writing(), tempfile.TemporaryDirectory(dir=trust.scratch, prefix="tuf-") as name:
        known = Path(name) / "known"
        if trust.state.is_dir():
            shutil.copytree(trust.state, known)
        known.mkdir(exist_ok=True)
        try:
            _refresh(source, known, trust.root)
        finally:
            _keep_roots(known, trust.state)
        update = _described(source, _trusted(known), trust)
    if not update.info.suits(trust.program):
        raise UpdateRefused(
            "program_too_old", needed=update.info.minimum_program, program=trust.program
        )
    return update


def remember(update: Update, state: Path) -> None:
    """From now on nothing older than this update is taken; raises OSError."""
    for role in (Targets.type, Snapshot.type, Timestamp.type):
        write_durably(state / f"{role}.json", update.metadata[role])


class SourceFetcher(FetcherInterface):
    """A fetcher that knows one source, and nothing else in the world."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def _fetch(self, url: str) -> Iterator[bytes]:
        if url not in self._source:
            raise exceptions.DownloadHTTPError(url, 404)
        return self._source.chunks(url, LARGEST_UNPACKED)


class OfflineUpdater(Updater):
    """python-tuf's client for a source that is a file, on a disk that may be FAT.

    It reaches into three private things of python-tuf 7.0.1, for which there is no public way; the
    version is pinned, and tests hold each of them.
    """

    def __init__(self, folder: Path, source: Source, root: bytes) -> None:
        self.role = Root.type
        super().__init__(
            str(folder),
            METADATA,
            fetcher=SourceFetcher(source),
            config=_LIMITS,
            bootstrap=root,
        )
        self._trusted_set.reference_time = _NEVER

    def _update_root_symlink(self) -> None:
        """FAT knows no links, and with ``bootstrap`` nobody reads this one."""

    def _download_metadata(self, rolename: str, length: int, version: int | None = None) -> bytes:
        self.role = rolename
        return super()._download_metadata(rolename, length, version)


def _refresh(source: Source, known: Path, root: bytes) -> None:
    """Run the client's workflow; its errors get names."""
    try:
        updater = OfflineUpdater(known, source, root)
    except (exceptions.RepositoryError, ValueError) as error:
        raise UpdateRefused("publisher_damaged") from error
    try:
        updater.refresh()
    except (UpdateRefused, OSError):
        raise
    except exceptions.UnsignedMetadataError as error:
        raise _unsigned(source, updater.role, known) from error
    except exceptions.DownloadHTTPError as error:
        raise UpdateRefused("incomplete", member=str(error)) from error
    except exceptions.DownloadLengthMismatchError as error:
        raise UpdateRefused("endless", member=_member(updater.role)) from error
    except exceptions.LengthOrHashMismatchError as error:
        raise UpdateRefused("mixed", member=_member(updater.role)) from error
    except exceptions.BadVersionNumberError as error:
        code = _out_of_order(source, updater.role, known)
        raise UpdateRefused(code, member=_member(updater.role)) from error
    except Exception as error:  # bytes from outside, taken apart by others' code
        raise UpdateRefused("metadata_damaged", member=_member(updater.role)) from error


def _member(role: str) -> str:
    return f"{METADATA}{role}.json"


def _read(source: Source, role: str) -> bytes:
    return b"".join(source.chunks(_member(role), LARGEST_METADATA[role]))


def _roots(known: Path) -> list[Root]:
    """The verified roots, oldest first."""
    paths = (known / ROOT_HISTORY).glob("*.root.json")
    found = [Metadata[Root].from_bytes(path.read_bytes()).signed for path in paths]
    return sorted(found, key=lambda root: root.version)


def _unsigned(source: Source, role: str, known: Path) -> UpdateRefused:
    """Why the signatures of a role do not do."""
    if role == Root.type:
        return UpdateRefused("root_not_signed")
    part: Metadata[Any] = Metadata.from_bytes(_read(source, role))
    *older, current = _roots(known)
    verdict = current.get_verification_result(role, part.signed_bytes, part.signatures)
    once = {
        key
        for root in older
        for key in root.get_verification_result(role, part.signed_bytes, part.signatures).signed
    }
    if once - set(current.roles[role].keyids):
        return UpdateRefused("withdrawn_key")
    if verdict.signed:
        counts = {"signed": len(verdict.signed), "needed": verdict.threshold}
        return UpdateRefused("too_few_signatures", **counts)
    if set(part.signatures) & set(current.roles[role].keyids):
        return UpdateRefused("changed_after_signing", member=_member(role))
    return UpdateRefused("unknown_key")


def _out_of_order(source: Source, role: str, known: Path) -> str:
    """A version that is not the one due: older than one known, or of another state."""
    if role == Root.type:
        return "root_out_of_order"
    if role == Timestamp.type:
        return "older_than_known"
    timestamp = Metadata[Timestamp].from_bytes((known / "timestamp.json").read_bytes()).signed
    snapshot = Metadata[Snapshot].from_bytes(_read(source, Snapshot.type)).signed
    agree = snapshot.version == timestamp.snapshot_meta.version
    return "older_than_known" if role == Snapshot.type and agree else "mixed"


def _keep_roots(known: Path, state: Path) -> None:
    """Remember every root that was verified on the way."""
    for path in sorted((known / ROOT_HISTORY).glob("*.root.json")):
        kept = state / ROOT_HISTORY / path.name
        content = path.read_bytes()
        if not kept.is_file() or kept.read_bytes() != content:
            write_durably(kept, content)


def _trusted(known: Path) -> dict[str, bytes]:
    newest = _roots(known)[-1].version
    root = (known / ROOT_HISTORY / f"{newest}.root.json").read_bytes()
    roles = (Timestamp.type, Snapshot.type, Targets.type)
    return {Root.type: root} | {role: (known / f"{role}.json").read_bytes() for role in roles}


def _described(source: Source, metadata: Mapping[str, bytes], trust: Trust) -> Update:
    """What verified metadata says that the update is."""
    parts: dict[str, Any] = {
        role: Metadata.from_bytes(data).signed for role, data in metadata.items()
    }
    targets: dict[str, TargetFile] = dict(parts[Targets.type].targets)
    _check_targets(targets)
    return Update(
        info=_info(source, targets[INFO]),
        targets=targets,
        expires=min(part.expires for part in parts.values()).replace(tzinfo=dt.UTC),
        built=trust.built,
        metadata=metadata,
    )


def _check_targets(targets: Mapping[str, TargetFile]) -> None:
    if INFO not in targets:
        raise UpdateRefused("incomplete", member=TARGETS + INFO)
    for name, target in targets.items():
        if not may_travel(name) or "sha256" not in target.hashes:
            raise UpdateRefused("not_data", member=repr(name)[1:-1][:60])
    if again := clash(targets):
        raise UpdateRefused("duplicate_name", member=again)
    if sum(target.length for target in targets.values()) > LARGEST_UNPACKED:
        raise UpdateRefused("too_large")


def _info(source: Source, target: TargetFile) -> UpdateInfo:
    try:
        return UpdateInfo.from_bytes(read_target(source, target, LARGEST_INFO))
    except UnusableInfo as error:
        raise UpdateRefused(error.code) from error


def read_target(source: Source, target: TargetFile, limit: int) -> bytes:
    """The bytes of a small target, as signed; raises UpdateRefused."""
    name = TARGETS + target.path
    content = b"".join(source.chunks(name, min(target.length, limit)))
    try:
        target.verify_length_and_hashes(content)
    except exceptions.LengthOrHashMismatchError as error:
        raise UpdateRefused("content_changed", member=name) from error
    return content
