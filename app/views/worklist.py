"""The worklist: the studies of a clinic, and the door for new films."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.formats import number_format
from django.utils.http import urlencode
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from app.access import Permission, requires, user_of
from app.forms import FilmsForm
from app.models import UNFINISHED, Patient, Study, User
from app.views.batch import progress
from app.worklist import TABS, Worklist, of_exact_number

STUDIES_ON_A_PAGE = 25
MOST_ROWS_AT_ONCE = 100
#: Under these a film that comes in now has its place, on top.
TAKE_NEW = {"all", "waiting", "unread"}


@requires(Permission.VIEW)
@never_cache
@require_safe
def worklist(request: HttpRequest) -> HttpResponse:
    """One page of the studies asked for; the number of a study or patient leads straight there."""
    if "page" not in request.GET and (address := _address_of(request.GET.get("q", ""))):
        return redirect(address)
    user = user_of(request)
    shown = Worklist(request.GET, user)
    page = shown.paginator(STUDIES_ON_A_PAGE).get_page(request.GET.get("page"))
    context = {
        "worklist": shown,
        "form": shown.form,
        "page": page,
        "studies": _rows(list(page.object_list), user),
        "pages": page.paginator.get_elided_page_range(page.number, on_each_side=1, on_ends=1),
        "tabs": _tabs(shown),
        "nothing": TABS[shown.tab].nothing,
        "takes_new": page.number == 1 and shown.tab in TAKE_NEW and not shown.is_filtered,
        "batch": progress(),
        "films_form": FilmsForm.of_link(request.GET),
        "most_bytes": settings.MAX_FILM_BYTES,
    }
    return render(request, "worklist.html", context)


@requires(Permission.VIEW)
@never_cache
@require_safe
def rows(request: HttpRequest) -> JsonResponse:
    """What a page that is open needs to stay true: rows, what runs, how many there are.

    ``number``: the rows of these studies; with ``finished``, of those that are done. With
    ``counts``, how many studies each tab holds under the filters of the same address.
    """
    user = user_of(request)
    numbers = request.GET.getlist("number")[:MOST_ROWS_AT_ONCE]
    asked = Study.objects.filter(number__in=numbers)
    if "finished" in request.GET:
        asked = asked.exclude(status__in=UNFINISHED)
    told: dict[str, Any] = {
        "rows": [
            {
                "number": study.number,
                "html": render_to_string("worklist_row.html", {"study": study}, request),
            }
            for study in (asked.as_rows_for(user) if numbers else ())
        ],
        "batch": progress(),
    }
    if "counts" in request.GET:
        counts = Worklist(request.GET, user).counts
        told["counts"] = {tab: grouped(count) for tab, count in counts.items()}
    return JsonResponse(told)


def grouped(count: int) -> str:
    """A count as the reader's language writes large numbers."""
    return number_format(count, use_l10n=True, force_grouping=True)


def _rows(keys: list[int], user: User) -> list[Study]:
    return list(Study.objects.filter(pk__in=keys).as_rows_for(user))


def _tabs(shown: Worklist) -> list[dict[str, Any]]:
    return [
        {
            "code": code,
            "words": tab.words,
            "count": grouped(shown.counts[code]),
            "is_here": code == shown.tab,
        }
        for code, tab in TABS.items()
    ]


def _address_of(text: str) -> str | None:
    found = of_exact_number(text.strip())
    if isinstance(found, Study):
        return reverse("study", args=[found.number])
    if isinstance(found, Patient):
        return reverse("worklist") + "?" + urlencode({"patient": found.pk})
    return None
