"""How this clinic works: for administrators."""

from __future__ import annotations

from django.contrib import messages as notes
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache

from app.access import Permission, requires, user_of
from app.forms import SiteForm
from app.models import Site
from app.views.account import get_or_post


@requires(Permission.ADMINISTER)
@never_cache
@get_or_post
def site(request: HttpRequest) -> HttpResponse:
    """Choices that hold for everybody."""
    form = SiteForm(request.POST or None, instance=Site.current())
    if form.is_valid():
        form.keep(by=user_of(request))
        notes.success(request, _("The settings are saved."))
        return redirect("site")
    status = 400 if form.is_bound else 200
    return render(request, "site.html", {"form": form}, status=status)
