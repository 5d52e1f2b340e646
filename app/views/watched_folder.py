"""The watched folder: which it is, and how it stands with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django import forms
from django.contrib import messages as notes
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache

from app import watched_folder
from app.access import Permission, requires, site_of, user_of
from app.folder_words import CHOICE, PROBLEMS, TROUBLES
from app.views.account import get_or_post

#: So many files that are there already are counted for the question whether that is meant.
MOST_COUNTED = 1000


class FolderForm(forms.Form):
    """The path of a folder that can be watched, or nothing."""

    folder = forms.CharField(
        label=gettext_lazy("Folder"),
        required=False,
        max_length=500,
        widget=forms.TextInput({"dir": "ltr", "autocomplete": "off", "spellcheck": "false"}),
        help_text=gettext_lazy(
            "The whole path, such as D:\\Films or \\\\server\\films. Leave it empty to watch none."
        ),
    )

    def clean_folder(self) -> str:
        """Somewhere that can be reached, and where files can be moved."""
        folder: str = self.cleaned_data["folder"]
        if folder and (fault := watched_folder.fault_of_choice(Path(folder))):
            raise ValidationError(str(CHOICE[fault]))
        return folder


@requires(Permission.ADMINISTER)
@never_cache
@get_or_post
def folder(request: HttpRequest) -> HttpResponse:
    """Choose the folder. Where files lie in it already, a second click says that they are meant."""
    before = site_of(request).watched_folder
    form = FolderForm(request.POST or None, initial={"folder": before})
    if not form.is_valid():
        return _page(request, form, 400 if form.is_bound else 200)
    chosen: str = form.cleaned_data["folder"]
    is_new = bool(chosen) and chosen != before and "surely" not in request.POST
    if is_new and (there := watched_folder.count_files(Path(chosen), MOST_COUNTED)):
        return _page(request, form, there=there)
    if chosen != before:
        watched_folder.choose(chosen, user_of(request))
    said = _("This folder is watched now.") if chosen else _("No folder is watched now.")
    notes.success(request, said)
    return redirect("watched-folder")


def _page(
    request: HttpRequest, form: FolderForm, status: int = 200, there: int = 0
) -> HttpResponse:
    context: dict[str, Any] = {"form": form, "there": there, "many": there >= MOST_COUNTED}
    if standing := watched_folder.watch.standing:
        context |= {
            "standing": standing,
            "problem": PROBLEMS.get(standing.problem, ""),
            "troubles": [(name, TROUBLES[code]) for name, code in standing.troubles],
        }
    return render(request, "watched_folder.html", context, status=status)
