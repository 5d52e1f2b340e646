"""Phones and other computers: the door for them, and how one comes in."""

from __future__ import annotations

from typing import Any

from django.contrib import messages as notes
from django.contrib.auth import login, logout
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from app import lan
from app.access import FROM_LAN, Permission, may, open_to_all, requires, user_of
from app.lan.tries import wrong_codes
from app.models import AuditEvent, Invitation
from app.views.account import get_or_post


@requires(Permission.ADMINISTER)
@never_cache
@get_or_post
def door(request: HttpRequest) -> HttpResponse:
    """Whether other devices may come in, where they find this computer, and what they will see."""
    if request.method != "POST":
        return _door_page(request)
    on = request.POST.get("lan") == "on"
    try:
        lan.switch(on, by=user_of(request))
    except lan.NobodyLogsIn:
        return _door_page(request, refused=True)
    if not on and request.META.get(FROM_LAN):
        return render(request, "lan_closed.html")
    if on and lan.door.is_open:
        notes.success(request, _("Phones and other computers can join now."))
    elif not on:
        notes.success(request, _("The door is closed. Whoever came in by it is logged out."))
    return redirect("lan")


@requires(Permission.VIEW)
@never_cache
@require_safe
def authority(_request: HttpRequest) -> HttpResponse:
    """The certificate that a phone may install, to be asked no more."""
    found = lan.door.authority
    if found is None:
        raise Http404
    response = HttpResponse(found.der, content_type="application/x-x509-ca-cert")
    response["Content-Disposition"] = 'attachment; filename="clinic-chest-films.crt"'
    return response


@requires(Permission.VIEW)
@never_cache
@require_safe
def add_phone(request: HttpRequest) -> HttpResponse:
    """A code for the camera of the phone that is to join, as whoever asks for it."""
    addresses = lan.door.addresses
    chosen = next((a for a in addresses if a.ip == request.GET.get("address")), None)
    address = chosen or (addresses[0] if addresses else None)
    context: dict[str, Any] = {"door": lan.door, "address": address}
    context["minutes"] = Invitation.LIFE.seconds // 60
    if address:
        here = address.link(lan.door.port)
        with transaction.atomic():
            code = Invitation.issue(user_of(request))
            AuditEvent.record(user_of(request), "phone_invited")
        link = here + reverse("join", args=[code])
        context |= {"here": here, "link": link, "picture": _qr_code(link)}
    return render(request, "lan_add_phone.html", context)


@open_to_all
@never_cache
@get_or_post
def join(request: HttpRequest, code: str) -> HttpResponse:
    """Where a code leads: whose it is, and upon a click in as that person.

    To look at the page does not use the code up: phones show previews of a link.
    """
    device = request.META.get("REMOTE_ADDR", "")
    if wrong_codes.are_used_up(device):
        return render(request, "join.html", {"too_often": True}, status=429)
    if request.method != "POST":
        user = Invitation.user_of(code)
        return render(request, "join.html", {"user_of_code": user}, status=200 if user else 404)
    with transaction.atomic():
        user = Invitation.redeem(code)
        AuditEvent.record(user, "phone_joined" if user else "join_failed")
    if user is None:
        wrong_codes.note(device)
        return render(request, "join.html", {}, status=404)
    if request.user.is_authenticated:
        logout(request)
    login(request, user)
    return redirect("camera" if may(user, Permission.TAKE_IN) else "worklist")


def _door_page(request: HttpRequest, refused: bool = False) -> HttpResponse:
    door = lan.door
    places = [(address.link(door.port), address.adapter) for address in door.addresses]
    context = {"door": door, "places": places, "refused": refused}
    return render(request, "lan.html", context, status=400 if refused else 200)


def _qr_code(link: str) -> SafeString:
    """The link as a drawing inside the page: no address of it, nothing that is fetched."""
    import segno

    drawing = segno.make(link, error="m", micro=False)
    svg = drawing.svg_inline(omitsize=True, border=4, svgclass="qr", lineclass="qr__line")
    # Drawn by segno: no text of anybody is in it
    return mark_safe(svg.replace("<svg", '<svg aria-hidden="true"', 1))  # nosec B308 B703
