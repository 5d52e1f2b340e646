"""Model updates: found on a stick or sent by the browser, tried here, decided on, taken back.

What verifies them takes its time to import, and few requests need it: it is imported in these.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.contrib import messages as notes
from django.core.files.uploadedfile import UploadedFile
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from app import checks, worker
from app.access import Permission, requires, user_of
from app.cxr.release import BANDS, Release
from app.cxr.update_format import LARGEST_FILE, SUFFIX
from app.models import AuditEvent, Study
from app.updates import shadow, sticks
from app.updates.refused import UpdateRefused, writing

if TYPE_CHECKING:
    from app.updates.install import Staged

Action = Callable[[HttpRequest], HttpResponse]


def action(view: Action) -> Action:
    """A view that does something, and says on the page why it was refused."""

    @wraps(view)
    def told(request: HttpRequest) -> HttpResponse:
        try:
            return view(request)
        except UpdateRefused as error:
            from app.update_words import refusal_words

            notes.error(request, refusal_words(error))
        return redirect("updates")

    return require_POST(told)


# --- the page -----------------------------------------------------------------------------------


@requires(Permission.ADMINISTER)
@never_cache
@require_safe
def page(request: HttpRequest) -> HttpResponse:
    """The model in use, what waits to be decided on, what a trial found, and the way back."""
    from app.updates import clinic
    from app.updates.install import release_before

    staged, spoilt = _staged_or_words()
    release = checks.model.release
    takes = clinic.takes_updates()
    context: dict[str, Any] = {
        "release": release,
        "before": release_before(settings.DATA_DIR),
        "takes_updates": takes,
        "spoilt": spoilt,
        "trial": _trial_of(staged.release if staged else release),
        "films": shadow.FILMS,
        "most_films": shadow.MOST_FILMS,
    }
    if staged:
        context |= _of_update(staged, release)
    elif takes:
        context["sticks"] = sticks.find()
    return render(request, "updates.html", context)


def _staged_or_words() -> tuple[Staged | None, str]:
    """The update that waits to be decided on; or why what waits cannot be used."""
    from app.update_words import refusal_words

    try:
        return _staged(), ""
    except UpdateRefused as error:
        return None, refusal_words(error)


def _staged() -> Staged | None:
    """The update that waits to be decided on, verified anew; raises UpdateRefused."""
    from app.updates import clinic, install

    folder = _folder()
    return install.reopen(folder, clinic.trust()) if folder else None


def _folder() -> Path | None:
    from app.updates.install import waiting

    return max(waiting(settings.DATA_DIR), key=lambda one: one.stat().st_mtime, default=None)


def _of_update(staged: Staged, release: Release | None) -> dict[str, Any]:
    """What an update is, what speaks against it, and its card's figures beside the present ones."""
    from app.cxr.local_review import card_figures
    from app.update_words import doubt_words

    new = card_figures(staged.release.report())
    old = card_figures(release.report()) if release else {}
    return {
        "update": staged.update,
        "is_in_use": release is not None and release.label == staged.update.info.label,
        "doubts": [(one.code, doubt_words(one)) for one in staged.update.doubts(timezone.now())],
        "lapsing": list(release.local.in_force) if release else [],
        "figures": [(one, old.get(one), new.get(one)) for one in BANDS if one in {*old, *new}],
    }


def _trial_of(release: Release | None) -> shadow.Trial | None:
    """The shadow run of that release, without the studies that are deleted since."""
    trial = shadow.run.trial
    if trial is None or not trial.was_of(release):
        return None
    numbers = Study.objects.filter(number__in=[row.study for row in trial.rows])
    return trial.of_studies(set(numbers.values_list("number", flat=True)))


# --- what is done -------------------------------------------------------------------------------


@requires(Permission.ADMINISTER)
@action
def take(request: HttpRequest) -> HttpResponse:
    """Bring an update to this computer, from a stick (``stick``: its path) or the browser."""
    from app.updates import clinic

    if sent := request.FILES.get("file"):
        with tempfile.TemporaryDirectory(dir=settings.TEMPORARY_DIR, prefix="update-") as folder:
            clinic.prepare(_kept(sent, Path(folder)), user_of(request))
    elif path := next((p for p in sticks.find() if str(p) == request.POST.get("stick")), None):
        clinic.prepare(path, user_of(request))
    elif "stick" in request.POST:
        raise UpdateRefused("file_missing")
    else:
        notes.warning(request, _("Choose a file first."))
    return redirect("updates")


def _kept(sent: UploadedFile, folder: Path) -> Path:
    """The bytes of a file from the browser, in a folder; raises UpdateRefused."""
    if (sent.size or 0) > LARGEST_FILE:
        raise UpdateRefused("too_large")
    path = folder / f"sent{SUFFIX}"
    with writing(), path.open("wb") as file:
        for chunk in sent.chunks():
            file.write(chunk)
    return path


@requires(Permission.ADMINISTER)
@action
def try_out(request: HttpRequest) -> HttpResponse:
    """Start the shadow run over the last films."""
    staged = _staged()
    asked = request.POST.get("films", "")
    films = shadow.last_films(
        min(max(int(asked), 1), shadow.MOST_FILMS)
        if asked.isascii() and asked.isdecimal() and len(asked) < 9
        else shadow.FILMS
    )
    if staged and not films:
        notes.warning(request, _("No film has been answered here yet."))
    elif staged:
        with writing():
            started = shadow.run.start(staged.release, films)
        if started:
            label = staged.update.info.label
            AuditEvent.record(user_of(request), "update_tried", release=label, films=len(films))
    return redirect("updates")


@requires(Permission.ADMINISTER)
@action
def cancel(_request: HttpRequest) -> HttpResponse:
    """End the shadow run."""
    shadow.run.stop()
    return redirect("updates")


@requires(Permission.ADMINISTER)
@action
def install(request: HttpRequest) -> HttpResponse:
    """Let the update answer from the next film on. Doubts are overridden one by one, for a
    reason.
    """
    from app.updates import clinic

    shadow.run.stop()
    staged = _staged()
    if staged is None:
        return redirect("updates")
    despite = request.POST.getlist("despite")
    reason = " ".join(request.POST.get("reason", "").split())[:500]
    if despite and not reason:
        notes.error(request, _("Write down why you install it all the same."))
        return redirect("updates")
    user, trial = user_of(request), _trial_of(staged.release)
    tried = {"films": len(trial.rows), "flips": len(trial.flips)} if trial else None
    AuditEvent.record(
        user, "update_decided", release=staged.update.info.label, tried=tried, reason=reason
    )
    _say_who_answers(request, clinic.switch(staged, user, despite))
    return redirect("updates")


@requires(Permission.ADMINISTER)
@action
def discard(request: HttpRequest) -> HttpResponse:
    """Remove the update that waits; the model in use stays."""
    from app.updates import install as staging

    shadow.run.stop()
    if folder := _folder():
        staging.discard(folder)
        name = folder.name.removesuffix(".new")
        AuditEvent.record(user_of(request), "update_discarded", release=name)
        notes.success(request, _("Discarded. The model in use stays."))
    return redirect("updates")


@requires(Permission.ADMINISTER)
@action
def go_back(request: HttpRequest) -> HttpResponse:
    """Let the model before answer again."""
    from app.updates import clinic

    _say_who_answers(request, clinic.go_back(user_of(request)))
    return redirect("updates")


def _say_who_answers(request: HttpRequest, release: Release) -> None:
    words = _("The model %(model)s answers from the next film on. The one before stays.")
    notes.success(request, words % {"model": release.label})


@requires(Permission.ADMINISTER)
@require_POST
def analyse_again(request: HttpRequest, number: str) -> HttpResponse:
    """Queue the films of one study that another model answered; the earlier answer stays."""
    study = get_object_or_404(Study, number=number)
    if label := checks.model.label:
        with transaction.atomic():
            for film in study.ask_again(user_of(request), of=label):
                worker.enqueue(film)
    return redirect("study", number)
