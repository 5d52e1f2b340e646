"""From a verified update to the model that answers: staged, tried, switched to, and back.

``<data>/releases/<name>-<version>.new`` is filled file by file, each on the disk and under its hash
before the next; what is whole there is not read from the stick again. It is then tried on this
computer, renamed, and ``active.json`` is put in place of the old one: that last step alone is the
switch. A crash before it leaves the old model, a crash after it the new one. Nothing here removes
the release that answers, or the one before.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import os
import re
import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from tuf.api.exceptions import LengthOrHashMismatchError
from tuf.api.metadata import TargetFile

from app.cxr import release as released
from app.cxr.durable import sync_folder, write_durably
from app.cxr.release import (
    FACTORY,
    MANIFEST,
    Release,
    UnusableRelease,
    read_active,
    write_active,
)
from app.cxr.update_format import INFO, KEPT, LARGEST_METADATA, RELEASE, TARGETS, role_of
from app.instance_lock import lock_file
from app.updates.archive import Archive, Folder
from app.updates.refused import UpdateRefused, writing
from app.updates.verify import Trust, Update, open_update, read_target, remember, verify

logger = logging.getLogger(__name__)

RELEASES = "releases"
NEW, DAMAGED, PART = ".new", ".damaged", ".part"
LOCK = "update.lock"
# The disk of a laptop that runs full takes more with it than an update
RESERVE_BYTES = 50 * 1024**2
_INSTALLED = re.compile(rf"{RELEASES}/[a-z0-9][a-z0-9.-]*")


@dataclass(frozen=True)
class Staged:
    """An update that lies whole on this computer and has passed its self-test here.

    ``release``: as it will answer, to be tried on films beforehand.
    """

    update: Update
    folder: Path
    release: Release


def stage(path: Path, trust: Trust, data_directory: Path) -> Staged:
    """Copy an update from the stick, verify every file, and try it; raises UpdateRefused.

    What an earlier try has brought over whole stays. The stick is not needed afterwards.
    """
    update = open_update(path, trust)
    folder = data_directory / RELEASES / f"{update.info.folder}{NEW}"
    with writing(), _alone(data_directory):
        _refuse_if_reused(update, data_directory)
        folder.mkdir(parents=True, exist_ok=True)
        _remove_strays(folder, update)
        _check_room(folder, update)
        with Archive(path) as archive:
            for target in _of_release(update):
                _bring(archive, target, folder / target.path.removeprefix(RELEASE))
            _keep_metadata(archive, update, folder / KEPT)
        sync_folder(folder)
        sync_folder(folder.parent)
        release = _whole(folder, update)
        try:
            return Staged(update, folder, _tried(release))
        except UpdateRefused:
            discard(folder)  # whole, and yet nothing to decide on
            raise


def waiting(data_directory: Path) -> list[Path]:
    """Folders of updates that were staged and neither installed nor discarded."""
    return sorted(
        folder
        for folder in (data_directory / RELEASES).glob(f"*{NEW}")
        if (folder / KEPT / TARGETS / INFO).is_file()
    )


def reopen(folder: Path, trust: Trust) -> Staged:
    """A staged update again, verified anew: what is trusted may have changed since.

    Raises UpdateRefused.
    """
    with writing():
        update = verify(Folder(folder / KEPT), trust)
        return Staged(update, folder, _whole(folder, update))


def discard(folder: Path) -> None:
    """Remove what was staged in a folder; raises UpdateRefused where the disk will not."""
    with writing():
        shutil.rmtree(folder)


def install(
    staged: Staged,
    trust: Trust,
    data_directory: Path,
    now: dt.datetime,
    despite: Collection[str] = (),
) -> Release:
    """Let a staged update answer from the next film on; raises UpdateRefused.

    ``despite``: codes of the doubts that an administrator has decided to override.
    """
    again = reopen(staged.folder, trust)
    update = again.update
    open_doubts = [doubt for doubt in update.doubts(now) if doubt.code not in despite]
    if open_doubts:
        raise UpdateRefused("doubts_open", doubts=tuple(open_doubts))
    with writing(), _alone(data_directory):
        _refuse_if_reused(update, data_directory)
        # A power cut may have left one that was never tried
        _tried(again.release)
        # First: a crash from here on may leave the old model, but never lets an older one in
        remember(update, trust.state)
        folder = _put_in_place(staged.folder, update)
        _switch(data_directory, f"{RELEASES}/{folder.name}")
        return _usable(folder)


def go_back(data_directory: Path) -> Release:
    """Let the release answer again that did before the last switch; raises UpdateRefused.

    Doing it twice is doing nothing.
    """
    with writing(), _alone(data_directory):
        before = _before(data_directory)
        if before is None:
            raise UpdateRefused("nothing_to_go_back_to")
        try:
            release = _tried(Release.load(_folder(data_directory, before)))
        except (UnusableRelease, UpdateRefused) as error:
            raise UpdateRefused("cannot_go_back", reason=error.code) from error
        _switch(data_directory, before)
        return release


def release_before(data_directory: Path) -> Release | None:
    """The release that ``go_back`` would switch to, None where there is none that is whole."""
    before = _before(data_directory)
    with contextlib.suppress(UnusableRelease):
        return Release.load(_folder(data_directory, before)) if before else None
    return None


# --- staging ------------------------------------------------------------------------------------


def _of_release(update: Update) -> list[TargetFile]:
    return [one for name, one in sorted(update.targets.items()) if name.startswith(RELEASE)]


def _remove_strays(folder: Path, update: Update) -> None:
    """What an earlier try of another content left behind, and the sign that it was whole."""
    shutil.rmtree(folder / KEPT, ignore_errors=True)
    wanted = {folder / one.path.removeprefix(RELEASE) for one in _of_release(update)}
    above = {parent for path in wanted for parent in path.parents}
    for path in sorted(folder.rglob("*"), reverse=True):
        is_folder = path.is_dir() and not path.is_symlink()
        if is_folder and path not in above:
            path.rmdir()
        elif not is_folder and path not in wanted:
            path.unlink()


def _check_room(folder: Path, update: Update) -> None:
    there = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    if shutil.disk_usage(folder).free < update.size - there + RESERVE_BYTES:
        raise UpdateRefused("disk_full")


def _bring(archive: Archive, target: TargetFile, path: Path) -> None:
    """One file from the stick: under another name until it is whole and on the disk."""
    if _matches(path, target):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + PART)
    with part.open("wb") as file:
        for chunk in archive.chunks(TARGETS + target.path, target.length):
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    if not _matches(part, target):
        part.unlink()
        raise UpdateRefused("content_changed", member=TARGETS + target.path)
    part.replace(path)
    sync_folder(path.parent)


def _matches(path: Path, target: TargetFile) -> bool:
    try:
        with path.open("rb") as file:
            target.verify_length_and_hashes(file)
    except (OSError, LengthOrHashMismatchError):
        return False
    return True


def _keep_metadata(archive: Archive, update: Update, kept: Path) -> None:
    """What proves whose the release is stays with it; the description last, as the sign that all
    is there.
    """
    for name in sorted(archive.names()):
        if role := role_of(name):
            content = b"".join(archive.chunks(name, LARGEST_METADATA[role]))
            write_durably(kept / name, content)
    info = update.targets[INFO]
    write_durably(kept / TARGETS / INFO, read_target(archive, info, info.length))


def _whole(folder: Path, update: Update) -> Release:
    """The release in a folder, every file as signed, and its manifest of the same opinion."""
    for target in _of_release(update):
        if not _matches(folder / target.path.removeprefix(RELEASE), target):
            raise UpdateRefused("content_changed", member=TARGETS + target.path)
    release = _usable(folder)
    signed = {target.path.removeprefix(RELEASE) for target in _of_release(update)}
    if release.label != update.info.label or signed != {MANIFEST, *release.manifest["files"]}:
        raise UpdateRefused("release_differs")
    return release


def _usable(folder: Path) -> Release:
    try:
        return Release.load(folder)
    except UnusableRelease as error:
        raise UpdateRefused("release_unusable", reason=error.code) from error


def _tried(release: Release) -> Release:
    """The release, once its graph gives the self-test films their scores on this computer."""
    # onnxruntime takes long and much memory to import
    from app.cxr.model import Model

    try:
        failed = Model.load(release).self_test()
    except UnusableRelease as error:
        raise UpdateRefused("release_unusable", reason=error.code) from error
    if failed:
        raise UpdateRefused("self_test_failed", films=", ".join(failed))
    return release


# --- switching ----------------------------------------------------------------------------------


@contextlib.contextmanager
def _alone(data_directory: Path) -> Iterator[None]:
    """One at a time, pages and command line together."""
    with (data_directory / LOCK).open("ab") as file:
        try:
            lock_file(file)
        except OSError as error:
            raise UpdateRefused("busy") from error
        yield


def _refuse_if_reused(update: Update, data_directory: Path) -> None:
    """Findings name the version that made them: one version is one content, for ever."""
    installed = [
        folder
        for folder in (data_directory / RELEASES).glob("*")
        if not folder.name.endswith((NEW, DAMAGED))
    ]
    for folder in (released.FACTORY_DIRECTORY, *installed):
        try:
            release = Release.load(folder)
        except UnusableRelease:
            continue
        if release.label == update.info.label and not _is_content(folder, update):
            raise UpdateRefused("version_reused", label=release.label)


def _is_content(folder: Path, update: Update) -> bool:
    return all(
        _matches(folder / target.path.removeprefix(RELEASE), target)
        for target in _of_release(update)
    )


def _put_in_place(new: Path, update: Update) -> Path:
    """Give the staged folder its name; the folder that answers from then on."""
    folder = new.with_name(update.info.folder)
    if folder.exists() and _is_content(folder, update):
        shutil.rmtree(new)
        return folder
    if folder.exists():
        # Of the same name and damaged, or it would have been refused: it answers nothing
        aside = folder.with_name(folder.name + DAMAGED)
        shutil.rmtree(aside, ignore_errors=True)
        folder.rename(aside)
    new.rename(folder)
    sync_folder(folder.parent)
    shutil.rmtree(folder.with_name(folder.name + DAMAGED), ignore_errors=True)
    return folder


def _switch(data_directory: Path, to: str) -> None:
    """``active.json`` names the release, and the one before it. Notes of the clinic's own operating
    points stay: they hold for the release that they name, and lapse with it.
    """
    active = _active(data_directory)
    if active["release"] != to:
        active |= {"release": to, "previous": active["release"]}
        write_active(data_directory, active)
        sync_folder(data_directory)
    logger.info("the model that answers is now %s", to)


def _active(data_directory: Path) -> dict[str, object]:
    try:
        return read_active(data_directory)
    except UnusableRelease:  # nothing answers; a new model is what helps
        return {"release": FACTORY}


def _before(data_directory: Path) -> str | None:
    before = _active(data_directory).get("previous")
    if before == FACTORY or (isinstance(before, str) and _INSTALLED.fullmatch(before)):
        return before
    return None


def _folder(data_directory: Path, name: str) -> Path:
    return released.FACTORY_DIRECTORY if name == FACTORY else data_directory / name
