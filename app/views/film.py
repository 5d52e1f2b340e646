"""Pictures of a film. What a browser gets is drawn here; the stored file itself is never sent."""

from __future__ import annotations

from collections.abc import Callable

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.utils.cache import (
    add_never_cache_headers,
    get_conditional_response,
    patch_cache_control,
)
from django.utils.http import quote_etag
from django.views.decorators.http import require_safe

from app import films, vault
from app.access import Permission, requires, user_of
from app.models import AuditEvent, Instance

# numpy and Pillow are imported where a picture is drawn: a program that waits need not hold them.

LONGEST_SIDE = 2048
THUMBNAIL_SIDE = 112


@requires(Permission.VIEW)
@require_safe
def film(request: HttpRequest, pk: int) -> HttpResponse:
    """The film as it is displayed."""
    instance = get_object_or_404(Instance.objects.select_related("study"), pk=pk)
    AuditEvent.record(user_of(request), "film_viewed", instance.study, film=pk)
    return kept(request, film_version(instance), lambda: _draw_film(instance, LONGEST_SIDE))


@requires(Permission.VIEW)
@require_safe
def thumbnail(request: HttpRequest, pk: int) -> HttpResponse:
    """The film at the size of a stamp."""
    instance = get_object_or_404(Instance, pk=pk)
    version = film_version(instance)
    return kept(request, version, lambda: _draw_film(instance, THUMBNAIL_SIDE))


@requires(Permission.VIEW)
@require_safe
def activation_map(request: HttpRequest, pk: int) -> HttpResponse:
    """The activation map of the newest finding, in colour, in the shape of the film.

    To somebody from whom the answer is hidden there is none yet.
    """
    instance = get_object_or_404(Instance.objects.prefetch_related("findings"), pk=pk)
    if instance.study.answer_hidden_from(user_of(request)):
        raise Http404
    return kept(request, map_version(instance), lambda: _draw_map(instance))


def film_version(instance: Instance) -> str:
    """Names the bytes of the film.

    Part of the address, because numbers begin anew in a new data directory, and a browser must
    never show another patient's film that it kept.
    """
    return instance.sha256[:16]


def map_version(instance: Instance) -> str:
    """Names the map: the film, and when it was analysed."""
    finding = instance.finding
    moment = f"{finding.created_at.timestamp():.6f}" if finding else ""
    return f"{film_version(instance)}-{moment}"


def has_map(instance: Instance) -> bool:
    """Whether there is a map to draw, and a film size to draw it in."""
    finding = instance.finding
    return bool(finding and finding.activation_map and instance.width and instance.height)


def _draw_film(instance: Instance, longest_side: int) -> bytes:
    from app.cxr.radiograph import UnreadableFilm, read_radiograph
    from app.pictures import film_png

    try:
        with films.local(instance.sha256) as path:
            return film_png(read_radiograph(path), longest_side)
    except (UnreadableFilm, OSError) as error:
        raise Http404 from error


def _draw_map(instance: Instance) -> bytes:
    from app.pictures import map_png

    finding, width, height = instance.finding, instance.width, instance.height
    if not (finding and finding.activation_map and width and height):
        raise Http404
    return map_png(finding.activation_map, width, height)


def kept(
    request: HttpRequest, version: str, draw: Callable[[], bytes], kind: str = "image/png"
) -> HttpResponse:
    """A picture for this browser alone, kept for good under its version, else asked for every time.

    Where films are encrypted on the disk, the browser's own folder on it is to hold none either.

    ``draw`` is only called when the browser has no such version yet.
    """
    etag = quote_etag(version)
    response = get_conditional_response(request, etag=etag)
    if response is None:
        response = HttpResponse(draw(), content_type=kind)
    response["ETag"] = etag
    if vault.is_on():
        add_never_cache_headers(response)
    elif request.GET.get("v") == version:
        patch_cache_control(response, private=True, max_age=365 * 24 * 3600, immutable=True)
    else:
        patch_cache_control(response, private=True, no_cache=True)
    return response
