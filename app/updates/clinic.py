"""Updates of this clinic: whose it takes, who took them, and the record of it."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Collection, Iterator
from pathlib import Path

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from app import __date__
from app.cxr.release import Release
from app.models import AuditEvent, User
from app.updates import install
from app.updates.install import Staged
from app.updates.refused import UpdateRefused
from app.updates.verify import Trust, Update, open_update

#: The publisher's root, put there before the bundle is built (docs/updates.md).
PUBLISHER_ROOT = Path(__file__).resolve().parents[2] / "assets" / "publisher" / "root.json"


def trust() -> Trust:
    """What updates are held against on this computer."""
    with contextlib.suppress(OSError):  # whoever needs it says so
        settings.TEMPORARY_DIR.mkdir(parents=True, exist_ok=True)
    return Trust(
        root=PUBLISHER_ROOT.read_bytes() if takes_updates() else None,
        state=settings.DATA_DIR / "tuf",
        scratch=settings.TEMPORARY_DIR,
        program=settings.VERSION,
        built=dt.date.fromisoformat(__date__),
    )


def takes_updates() -> bool:
    """Whether this program was built with a publisher's root."""
    return PUBLISHER_ROOT.is_file()


def look_into(path: Path, by: User | None) -> Update:
    """Verify an update where it lies; raises UpdateRefused, which is recorded."""
    with _refusal_recorded(by, path.name):
        return open_update(path, trust())


def prepare(path: Path, by: User | None) -> Staged:
    """Bring an update to this computer and try it here; raises UpdateRefused. Both are recorded."""
    with _refusal_recorded(by, path.name):
        staged = install.stage(path, trust(), settings.DATA_DIR)
    AuditEvent.record(by, "update_verified", release=staged.update.info.label, file=path.name)
    return staged


def switch(staged: Staged, by: User | None, despite: Collection[str] = ()) -> Release:
    """Let a staged update answer from the next film on; raises UpdateRefused. Recorded.

    ``despite``: codes of the doubts that ``by``, an administrator, overrides.
    """
    now, label = timezone.now(), staged.update.info.label
    may_override = by is not None and by.is_administrator
    overridden = [one.code for one in staged.update.doubts(now) if one.code in despite]
    with _refusal_recorded(by, label), transaction.atomic():
        if overridden and may_override:
            AuditEvent.record(by, "update_override", release=label, despite=overridden)
        AuditEvent.record(by, "update_installed", release=label, before=_answering())
        # Last, so that a switch that fails undoes the rows
        return install.install(
            staged, trust(), settings.DATA_DIR, now, overridden if may_override else ()
        )


def go_back(by: User | None) -> Release:
    """Let the release before the last switch answer again; raises UpdateRefused. Recorded."""
    with _refusal_recorded(by, ""), transaction.atomic():
        left = _answering()
        release = install.go_back(settings.DATA_DIR)
        AuditEvent.record(by, "update_gone_back", release=release.label, before=left)
    return release


def _answering() -> str | None:
    from app import checks

    return checks.model.label


@contextlib.contextmanager
def _refusal_recorded(by: User | None, what: str) -> Iterator[None]:
    try:
        yield
    except UpdateRefused as error:
        AuditEvent.record(by, "update_refused", update=what, code=error.code)
        raise
