"""X-ray units and archives: whether this program speaks DICOM, and with whom."""

from __future__ import annotations

from django.contrib import messages as notes
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST

from app.access import Permission, requires, user_of
from app.dicom import echo
from app.dicom.callers import callers
from app.dicom.forms import NodeForm, PeerForm, remove
from app.dicom.node import node
from app.lan import addresses
from app.models import Commitment, Peer, Site
from app.views.account import get_or_post


@requires(Permission.ADMINISTER)
@never_cache
@get_or_post
def settings_page(request: HttpRequest) -> HttpResponse:
    """Whether units may send films, what to enter into them, who they are, who was turned away."""
    form = NodeForm(request.POST or None, instance=Site.current())
    if form.is_valid():
        form.keep(by=user_of(request))
        notes.success(request, _("The settings are saved."))
        return redirect("dicom")
    context = {
        "form": form,
        "now": Site.current(),
        "node": node,
        "addresses": addresses.current(),
        "peers": Peer.objects.all(),
        "turned_away": callers.turned_away(),
        "unheard": _unheard(),
    }
    return render(request, "dicom.html", context, status=400 if form.is_bound else 200)


@requires(Permission.ADMINISTER)
@never_cache
@get_or_post
def new_peer(request: HttpRequest) -> HttpResponse:
    """Enter a machine; the link of one that was turned away brings what is known of it."""
    known = {name: request.GET.get(name, "") for name in ("ae_title", "host")}
    known["name"] = known["ae_title"]
    peer = Peer(sends_films=True, **known) if known["ae_title"] else Peer()
    return _edit(request, peer)


@requires(Permission.ADMINISTER)
@never_cache
@get_or_post
def peer(request: HttpRequest, pk: int) -> HttpResponse:
    """Change what is known of a machine."""
    return _edit(request, get_object_or_404(Peer, pk=pk))


@requires(Permission.ADMINISTER)
@never_cache
@require_POST
def remove_peer(request: HttpRequest, pk: int) -> HttpResponse:
    """Speak with a machine no more."""
    found = get_object_or_404(Peer, pk=pk)
    remove(found, by=user_of(request))
    notes.success(request, _("%(peer)s is removed.") % {"peer": found})
    return redirect("dicom")


@requires(Permission.ADMINISTER)
@never_cache
@require_POST
def test_peer(request: HttpRequest, pk: int) -> HttpResponse:
    """Ask a machine for an answer, and say what is wrong where none comes."""
    found = get_object_or_404(Peer, pk=pk)
    outcome = echo.echo(found)
    note = notes.success if outcome.is_ok else notes.error
    note(request, echo.sentence(outcome.code, found, outcome))
    return redirect("dicom")


def _edit(request: HttpRequest, peer: Peer) -> HttpResponse:
    form = PeerForm(request.POST or None, instance=peer)
    if form.is_valid():
        kept = form.keep(by=user_of(request))
        notes.success(request, _("%(peer)s is saved.") % {"peer": kept})
        return redirect("dicom")
    status = 400 if form.is_bound else 200
    return render(request, "peer.html", {"form": form, "peer": peer}, status=status)


def _unheard() -> list[str]:
    """What storage commitment could not be told to whom, in words."""
    given_up = Commitment.objects.filter(state=Commitment.State.GIVEN_UP).select_related("peer")
    worst = {question.peer: question.problem for question in given_up}
    return [echo.sentence(problem, peer) for peer, problem in worst.items()]
