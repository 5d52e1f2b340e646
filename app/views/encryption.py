"""Encryption: turned on, its passphrase changed, a recovery key made. For administrators."""

from __future__ import annotations

import math
import secrets
import threading
from typing import Any

from django.conf import settings
from django.contrib import messages as notes
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from app import vault
from app.access import Permission, requires, user_of
from app.encryption_forms import (
    ChangeForm,
    NewPassphraseForm,
    PresentPassphraseForm,
    WrittenDownForm,
)
from app.models import AuditEvent
from app.vault import note, unlock
from app.vault.hierarchy import GROUP, WrongKey
from app.vault.note import State, Vault
from app.vault.unlock import TooEarly

#: A vault whose recovery key was shown, until somebody has written it down. In memory alone.
_offered: tuple[Vault, str] | None = None
_offering = threading.Lock()


@requires(Permission.ADMINISTER)
@never_cache
@require_safe
def page(request: HttpRequest) -> HttpResponse:
    """Whether what is stored is encrypted, and what can be done about it."""
    return _page(request)


def _page(request: HttpRequest, status: int = 200, **more: Any) -> HttpResponse:
    context: dict[str, Any] = {
        "on_server": bool(settings.DATABASE_SERVER),
        "is_on": vault.is_on(),
        "waits": vault.waits(),
        "folder": settings.DATA_DIR,
        "new_form": NewPassphraseForm(),
        "change_form": ChangeForm(prefix="change"),
        "recovery_form": PresentPassphraseForm(prefix="recovery"),
        "down_form": WrittenDownForm(),
    }
    return render(request, "encryption.html", context | more, status=status)


@requires(Permission.ADMINISTER)
@never_cache
@require_POST
def prepare(request: HttpRequest) -> HttpResponse:
    """Make the keys, and show the recovery key. Nothing is kept yet."""
    global _offered
    form = NewPassphraseForm(request.POST)
    if _is_decided():
        return redirect("encryption")
    if not form.is_valid():
        return _page(request, status=400, new_form=form)
    with _offering:
        _offered = note.make(form.cleaned_data["passphrase"])
        line = _offered[1]
    return _page(request, line=line)


@requires(Permission.ADMINISTER)
@never_cache
@require_POST
def confirm(request: HttpRequest) -> HttpResponse:
    """The recovery key is written down: let the next start encrypt everything."""
    global _offered
    with _offering:
        offered = _offered
    if offered is None or _is_decided():
        notes.error(request, _("This was interrupted. Choose the passphrase once more."))
        return redirect("encryption")
    form = WrittenDownForm(request.POST)
    if not form.is_valid() or not _is_end(form.cleaned_data["end"], offered[1]):
        form.add_error("end", _("These are not the last four letters. Look at your paper."))
        return _page(request, status=400, line=offered[1], down_form=form)
    note.write(settings.DATA_DIR, offered[0])
    with _offering:
        _offered = None
    AuditEvent.record(user_of(request), "encryption_prepared")
    return redirect("encryption")


def _is_end(typed: str, line: str) -> bool:
    return secrets.compare_digest(typed.strip().upper().encode()[-GROUP:], line[-GROUP:].encode())


def _is_decided() -> bool:
    return bool(settings.DATABASE_SERVER) or vault.is_on() or vault.waits()


@requires(Permission.ADMINISTER)
@require_POST
def withdraw(request: HttpRequest) -> HttpResponse:
    """Do not encrypt after all: nothing has been yet."""
    kept = note.read(settings.DATA_DIR)
    if kept and kept.state is State.PREPARED:
        note.remove(settings.DATA_DIR)
        AuditEvent.record(user_of(request), "encryption_withdrawn")
        notes.success(request, _("Nothing is encrypted. The data are as they were."))
    return redirect("encryption")


@requires(Permission.ADMINISTER)
@never_cache
@require_POST
def change(request: HttpRequest) -> HttpResponse:
    """Let another passphrase open the data."""
    form = ChangeForm(request.POST, prefix="change")
    if not vault.is_on():
        return redirect("encryption")
    if form.is_valid() and (said := _wrong(form.cleaned_data["present"])):
        form.add_error("present", said)
    if not form.is_valid():
        return _page(request, status=400, change_form=form)
    unlock.change(vault.keys(), form.cleaned_data["passphrase"])
    AuditEvent.record(user_of(request), "encryption_passphrase_changed")
    notes.success(request, _("From the next start on, the new passphrase opens the data."))
    return redirect("encryption")


@requires(Permission.ADMINISTER)
@never_cache
@require_POST
def recovery(request: HttpRequest) -> HttpResponse:
    """Make another recovery key; the old one opens nothing any more."""
    form = PresentPassphraseForm(request.POST, prefix="recovery")
    if not vault.is_on():
        return redirect("encryption")
    if form.is_valid() and (said := _wrong(form.cleaned_data["present"])):
        form.add_error("present", said)
    if not form.is_valid():
        return _page(request, status=400, recovery_form=form)
    line = unlock.new_recovery(vault.keys())
    AuditEvent.record(user_of(request), "encryption_recovery_made")
    return _page(request, line=line)


def _wrong(passphrase: str) -> str:
    """Why a passphrase is not taken, a sentence; empty where it is the right one."""
    try:
        unlock.door.by_passphrase(passphrase)
    except WrongKey:
        return _("This passphrase is not the right one.")
    except TooEarly as early:
        seconds = math.ceil(early.seconds)
        return _("Wait %(seconds)d seconds, then try again.") % {"seconds": seconds}
    return ""
