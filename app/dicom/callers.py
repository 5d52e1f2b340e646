"""Who may speak with this program, and who was turned away: what people on site look for first."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, replace
from datetime import datetime
from urllib.parse import urlencode

from django.utils import timezone

from app.models import Peer

logger = logging.getLogger(__name__)

#: So many are remembered: those of a hospital, and not those of somebody who tries every name.
MOST_TURNED_AWAY = 20
#: How long a host's name stands for the addresses that were found for it.
SECONDS_OF_A_NAME = 60.0

UNKNOWN_TITLE, UNKNOWN_ADDRESS, WRONG_NAME = "unknown_title", "unknown_address", "wrong_name"


@dataclass(frozen=True)
class TurnedAway:
    """A machine that asked for an association and got none. ``reason``: one of the codes above."""

    ae_title: str
    address: str
    called: str
    reason: str
    times: int
    at: datetime

    @property
    def link(self) -> str:
        """What the page for a new peer is to know of it."""
        return urlencode({"ae_title": self.ae_title, "host": self.address})


class Callers:
    """Those who were turned away since the program started, the last one first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._turned_away: OrderedDict[tuple[str, str], TurnedAway] = OrderedDict()

    def note(self, ae_title: str, address: str, called: str, reason: str) -> None:
        """Remember a machine that was turned away, and log it once."""
        ae_title, called = printable(ae_title), printable(called)
        with self._lock:
            before = self._turned_away.pop((ae_title, address), None)
            found = TurnedAway(ae_title, address, called, reason, 1, timezone.now())
            if before:
                found = replace(found, times=before.times + 1)
            self._turned_away[ae_title, address] = found
            while len(self._turned_away) > MOST_TURNED_AWAY:
                self._turned_away.popitem(last=False)
        # A unit tries again every minute, for weeks: the log is for other things too
        if before is None or before.reason != reason:
            logger.warning("%s at %s was turned away: %s", ae_title, address, reason)

    def forget(self, ae_title: str) -> None:
        """Let those of that title go: it is entered now."""
        with self._lock:
            for key in [key for key in self._turned_away if key[0] == ae_title]:
                del self._turned_away[key]

    def turned_away(self) -> list[TurnedAway]:
        """Who was turned away, the last one first."""
        with self._lock:
            return [*self._turned_away.values()][::-1]


#: Those of this process.
callers = Callers()

_addresses: dict[str, tuple[float, frozenset[str]]] = {}


def peer_of(ae_title: str, address: str) -> Peer | None:
    """The peer that calls itself ``ae_title`` and has that address; one that sends films first."""
    known = Peer.objects.filter(ae_title=ae_title).order_by("-sends_films", "pk")
    return next((peer for peer in known if address in addresses_of(peer.host)), None)


def why_unknown(ae_title: str) -> str:
    """Why ``peer_of`` knows nobody: the name, or the address that goes with it."""
    entered = Peer.objects.filter(ae_title=ae_title).exists()
    return UNKNOWN_ADDRESS if entered else UNKNOWN_TITLE


def addresses_of(host: str) -> frozenset[str]:
    """The addresses of a host, its name looked up now and then; none where nobody knows it."""
    known = _addresses.get(host)
    if known and known[0] > time.monotonic():
        return known[1]
    try:
        found = frozenset(str(entry[4][0]) for entry in socket.getaddrinfo(host, None))
    except (OSError, UnicodeError):
        return frozenset()
    _addresses[host] = time.monotonic() + SECONDS_OF_A_NAME, found
    return found


def printable(ae_title: str) -> str:
    """An AE title as somebody may have made it up, fit to be shown and logged."""
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in ae_title.strip())[:16]
