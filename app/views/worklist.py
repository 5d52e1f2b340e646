"""The worklist: every study, newest first, and the door for new films."""

from __future__ import annotations

from django.conf import settings
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from app.access import Permission, requires
from app.forms import AgeForm
from app.models import UNFINISHED, Study

STUDIES_ON_A_PAGE = 25
MOST_ROWS_AT_ONCE = 100


@requires(Permission.VIEW)
@never_cache
@require_safe
def worklist(request: HttpRequest) -> HttpResponse:
    """One page of the studies that hold the words searched for."""
    text = request.GET.get("q", "").strip()
    studies = Study.objects.search(text).newest_first()
    page = Paginator(studies, STUDIES_ON_A_PAGE).get_page(request.GET.get("page"))
    context = {
        "page": page,
        "pages": page.paginator.get_elided_page_range(page.number, on_each_side=1, on_ends=1),
        "text": text,
        "age_form": AgeForm(),
        "most_bytes": settings.MAX_FILM_BYTES,
    }
    return render(request, "worklist.html", context)


@requires(Permission.VIEW)
@never_cache
@require_safe
def rows(request: HttpRequest) -> JsonResponse:
    """The rows of the studies asked for by number; with ``finished``, of those that are done."""
    numbers = request.GET.getlist("number")[:MOST_ROWS_AT_ONCE]
    studies = list(Study.objects.filter(number__in=numbers).newest_first())
    if "finished" in request.GET:
        studies = [study for study in studies if study.status not in UNFINISHED]
    return JsonResponse(
        {
            "rows": [
                {
                    "number": study.number,
                    "html": render_to_string("worklist_row.html", {"study": study}, request),
                }
                for study in studies
            ]
        }
    )
