"""Backups: how old the last one is, where they go, and the way back. For administrators."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib import messages as notes
from django.http import FileResponse, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from app import backup_words
from app.access import Permission, requires, user_of
from app.backup import SUFFIX, archive, found, keeper, local, note, outcome, restore
from app.backup.faults import BackupFault
from app.backup.store import Store
from app.backup_forms import RestoreForm, SetUpForm
from app.models import AuditEvent
from app.updates import sticks


@requires(Permission.ADMINISTER)
@never_cache
@require_safe
def page(request: HttpRequest) -> HttpResponse:
    """How the clinic's backups stand, and what can be done."""
    return _page(request)


def _page(request: HttpRequest, status: int = 200, **more: Any) -> HttpResponse:
    known = note.read(settings.DATA_DIR)
    job, is_running = keeper.keeper.job, keeper.keeper.is_running
    context: dict[str, Any] = {
        "known": known,
        "overdue": known.is_overdue(timezone.now()),
        "local_last": local.last(),
        "job": job,
        "is_running": is_running,
        "job_words": "" if is_running else _came_of(job),
        "done": outcome.read(settings.DATA_DIR),
        "set_up_form": SetUpForm(),
    }
    if not is_running:
        context |= _sticks(known) | _way_back()
    return render(request, "backups.html", context | more, status=status)


def _came_of(job: keeper.Job) -> str:
    if job.fault:
        return backup_words.fault_words(job.fault)
    if job.kind == "check" and job.damaged:
        return backup_words.decay_words(job.damaged)
    if job.kind == "check":
        return _("The newest backup on the stick is whole: every file was read through.")
    return _("The backup is finished.") if job.kind == "backup" else ""


def _sticks(known: note.Note) -> dict[str, Any]:
    here = {store.name: drive for drive, store in keeper.plugged_in(known)}
    chosen = [(name, stick, here.get(name)) for name, stick in known.sticks.items()]
    taken = set(here.values())
    others = [
        {"drive": drive, "free": free, "store": Store.at(drive)}
        for drive, free in sticks.with_room(0)
        if drive not in taken
    ]
    return {"chosen": chosen, "others": others}


def _way_back() -> dict[str, Any]:
    staged = restore.waiting(settings.DATA_DIR)
    if staged is None:
        there = found.everywhere()
        return {"found": there, "restore_form": RestoreForm(None, there)}
    lost = None
    if staged.state == restore.STAGED:
        try:
            lost = restore.preview(settings.DATA_DIR)
        except BackupFault as fault:
            return {"staged": staged, "unseen": backup_words.fault_words(fault)}
    return {
        "staged": staged,
        "lost": lost,
        "staged_counts": backup_words.counts_words(staged.counts),
        "staged_damaged": backup_words.damaged_words(len(staged.damaged)),
    }


# --- what is done -------------------------------------------------------------------------------


@requires(Permission.ADMINISTER)
@never_cache
@require_POST
def set_up(request: HttpRequest) -> HttpResponse:
    """Make the keys; the recovery line is shown this once."""
    form = SetUpForm(request.POST)
    if not form.is_valid():
        return _page(request, status=400, set_up_form=form)
    line = note.set_up(settings.DATA_DIR, form.cleaned_data["passphrase"])
    AuditEvent.record(user_of(request), "backups_set_up")
    return _page(request, line=line)


@requires(Permission.ADMINISTER)
@require_POST
def stick(request: HttpRequest) -> HttpResponse:
    """Let a stick be one for backups (``drive``: its path), or none any more (``forget``)."""
    known = note.read(settings.DATA_DIR)
    if (name := request.POST.get("forget", "")) in known.sticks:
        note.forget_stick(settings.DATA_DIR, name)
        AuditEvent.record(user_of(request), "backup_stick_ended", stick=name)
        notes.success(request, _("Nothing is written to this stick any more. What is on it stays."))
        return redirect("backups")
    drive = _drive(request.POST.get("drive", ""))
    if drive is None or not known.is_set_up:
        notes.error(request, _("The stick is not there any more. Plug it in and try again."))
        return redirect("backups")
    try:
        store = Store.begin(drive, known, backup_words.readme())
    except BackupFault as fault:
        notes.error(request, backup_words.fault_words(fault))
        return redirect("backups")
    note.note_stick(settings.DATA_DIR, store.name, label=drive.name or str(drive))
    AuditEvent.record(user_of(request), "backup_stick_chosen", stick=store.name)
    keeper.keeper.back_up_now()
    return redirect("backups")


def _drive(path: str) -> Path | None:
    return next((drive for drive, _free in sticks.with_room(0) if str(drive) == path), None)


@requires(Permission.ADMINISTER)
@require_POST
def now(_request: HttpRequest) -> HttpResponse:
    """Start a backup to the chosen sticks that are here."""
    keeper.keeper.back_up_now()
    return redirect("backups")


@requires(Permission.ADMINISTER)
@require_POST
def cancel(_request: HttpRequest) -> HttpResponse:
    """Break off what goes on."""
    keeper.keeper.cancel()
    return redirect("backups")


@requires(Permission.ADMINISTER)
@require_POST
def check(request: HttpRequest) -> HttpResponse:
    """Start reading through a stick (``stick``: its name)."""
    here = {store.name: store for _d, store in keeper.plugged_in(note.read(settings.DATA_DIR))}
    if store := here.get(request.POST.get("stick", "")):
        keeper.keeper.check(store)
    else:
        notes.error(request, _("The stick is not there any more. Plug it in and try again."))
    return redirect("backups")


@requires(Permission.ADMINISTER)
@require_POST
def download(request: HttpRequest) -> HttpResponseBase:
    """Everything but the films as one encrypted file, to be saved by the browser."""
    known = note.read(settings.DATA_DIR)
    try:
        if not known.is_set_up:
            raise BackupFault("not_set_up")
        packed = archive.pack(known, keeper.clinic())
    except BackupFault as fault:
        notes.error(request, backup_words.fault_words(fault))
        return redirect("backups")
    name = f"{timezone.localdate():clinic-%Y-%m-%d}{SUFFIX}"
    AuditEvent.record(user_of(request), "backup_downloaded", file=name)
    file = packed.open("rb")
    with contextlib.suppress(OSError):  # Windows: the next start sweeps it
        packed.unlink()
    kind = "application/octet-stream"
    return FileResponse(file, as_attachment=True, filename=name, content_type=kind)


@requires(Permission.ADMINISTER)
@require_POST
def stage(request: HttpRequest) -> HttpResponse:
    """Start bringing a backup over, verified, to be looked at. Nothing is changed."""
    form = RestoreForm(request.POST, found.everywhere())
    if not form.is_valid():
        return _page(request, status=400, restore_form=form)
    by = user_of(request)
    if keeper.keeper.stage(form.path, form.cleaned_data["secret"], str(by)):
        AuditEvent.record(by, "restore_prepared", file=form.path.name)
    return redirect("backups")


@requires(Permission.ADMINISTER)
@require_POST
def decide(request: HttpRequest) -> HttpResponse:
    """Let what was looked at be put in place at the next start (``restore``), or discard it."""
    staged = restore.waiting(settings.DATA_DIR)
    if staged is None:
        return redirect("backups")
    try:
        if "restore" in request.POST:
            restore.confirm(settings.DATA_DIR)
            AuditEvent.record(user_of(request), "restore_confirmed", made=staged.made_at)
        else:
            restore.discard(settings.DATA_DIR)
            AuditEvent.record(user_of(request), "restore_discarded", made=staged.made_at)
            notes.success(request, _("Nothing is restored. The data are as they were."))
    except BackupFault as fault:
        notes.error(request, backup_words.fault_words(fault))
    return redirect("backups")


@requires(Permission.ADMINISTER)
@require_POST
def seen(request: HttpRequest) -> HttpResponse:
    """What was repaired or restored has been read."""
    outcome.change(settings.DATA_DIR, seen=True)
    AuditEvent.record(user_of(request), "repair_read")
    return redirect("backups")
