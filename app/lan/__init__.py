"""Phones and other computers: the one door by which they come in, over TLS.

waitress answers this computer alone. Where an administrator switches it on, a second server of the
same process answers the clinic's own network with the same pages, under rules of its own: see
docs/adr/0015-tls-door-with-cheroot.md. Strict-Transport-Security is never sent: a browser that has
heard it lets nobody past a certificate that it does not know.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.contrib.auth.signals import user_logged_in, user_login_failed
from django.contrib.sessions.models import Session
from django.db import transaction
from django.db.models.signals import post_save
from django.dispatch import receiver
from django.http import HttpRequest

from app import server
from app.access import FROM_LAN
from app.instance_lock import write_atomically
from app.lan.tries import wrong_passwords, wrong_passwords_here
from app.models import AuditEvent, LogIn, Site, User

if TYPE_CHECKING:
    from app.lan.addresses import Address
    from app.lan.certificate import Certificate
    from app.lan.listener import Listener
    from app.lan.tls import Application

logger = logging.getLogger(__name__)

EVERYWHERE = "0.0.0.0"  # nosec B104 - closed until somebody opens it; local addresses alone
FIRST_PORT = 8766
PORTS_TO_TRY = 100
#: So often the computer's addresses are looked at again: it may have joined another network.
LOOK_AROUND = 5.0


class Door:
    """The way in for other devices, open as long as the clinic wants it and the program runs."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._application: Application | None = None
        self._listener: Listener | None = None
        #: Why the door could not be opened, a code; empty where nothing is wrong.
        self.problem = ""

    @contextlib.contextmanager
    def kept_for(self, application: Application) -> Iterator[None]:
        """Follow the clinic's choice until the program stops. A door that cannot be opened stops
        nobody from working at this computer.
        """
        stop = threading.Event()
        self._application = application
        self.follow(Site.current())
        watch = threading.Thread(target=self._watch, args=[stop], name="lan", daemon=True)
        watch.start()
        try:
            yield
        finally:
            stop.set()
            watch.join()
            self._application = None
            self._close()

    def follow(self, site: Site) -> None:
        """Open or close, as the clinic has chosen. Closing ends what came in by the door."""
        if not site.lets_others_in:
            self._close()
            end_sessions()
            return
        with self._lock:
            if self._application and not self._listener:
                self._open(self._application)

    @property
    def is_open(self) -> bool:
        """Whether other devices can come in now."""
        return self._listener is not None

    @property
    def port(self) -> int:
        """The port that is listened on; 0 while the door is closed."""
        listener = self._listener
        return listener.port if listener else 0

    @property
    def addresses(self) -> list[Address]:
        """Where this computer is found, the likeliest first; none while the door is closed."""
        listener = self._listener
        return listener.addresses if listener else []

    @property
    def certificate(self) -> Certificate | None:
        """The certificate in use; None while the door is closed."""
        listener = self._listener
        return listener.certificate if listener else None

    @property
    def authority(self) -> Certificate | None:
        """What vouches for the certificate, and can be installed; None while it is closed."""
        listener = self._listener
        return listener.authority if listener else None

    def _open(self, application: Application) -> None:
        from app.lan.listener import Listener

        self.problem = ""
        try:
            self._listener = Listener(application, _take_port())
        except server.PortTaken:
            self.problem = "no_port"
        except Exception:  # whatever it is, work at this computer goes on
            self.problem = "cannot_open"
            logger.exception("the door for other devices cannot be opened")
        else:
            logger.info("the door for other devices is open on port %d", self.port)

    def _close(self) -> None:
        with self._lock:
            listener, self._listener, self.problem = self._listener, None, ""
        # Without the lock: it waits for requests, and one of them may be about to ask for the same
        if listener:
            listener.close()
            logger.info("the door for other devices is closed")

    def _watch(self, stop: threading.Event) -> None:
        while not stop.wait(LOOK_AROUND):
            try:
                with self._lock, contextlib.suppress(OSError):
                    if self._listener:
                        self._listener.look_around()
            except Exception:  # a door that looks no more would be known by wrong addresses
                logger.exception("the computer's addresses cannot be looked at")


#: The one of this process.
door = Door()


class NobodyLogsIn(Exception):
    """The program runs without log-in: whoever came in by the door could do everything."""


def switch(on: bool, by: User) -> None:
    """Open the door to the network or close it, from now on; raises NobodyLogsIn."""
    with transaction.atomic():
        site = Site.objects.select_for_update().get(pk=Site.THE_ONE)
        if on and site.single_user:
            raise NobodyLogsIn
        site.lan = on
        site.save(update_fields=["lan"])
        AuditEvent.record(by, "lan_opened" if on else "lan_closed")


def end_sessions() -> None:
    """Log out whoever came in by the door."""
    LogIn.end(LogIn.objects.filter(by_lan=True))
    for session in Session.objects.all():
        if FROM_LAN in session.get_decoded():
            session.delete()


@receiver(user_logged_in)
def _mark_session(request: HttpRequest, **_more: Any) -> None:
    if request.META.get(FROM_LAN):
        request.session[FROM_LAN] = True


@receiver(user_login_failed)
def _count_failure(request: HttpRequest | None = None, **_more: Any) -> None:
    if request:
        tries = wrong_passwords if request.META.get(FROM_LAN) else wrong_passwords_here
        tries.note(request.META.get("REMOTE_ADDR", ""))


@receiver(post_save, sender=Site)
def _follow_choice(**_more: Any) -> None:
    transaction.on_commit(lambda: door.follow(Site.current()))


def _take_port() -> Any:
    """The port that phones know from before, or the next free one, remembered from then on."""
    kept = settings.DATA_DIR / "lan-port"
    try:
        known = [int(kept.read_text(encoding="ascii"))]
    except (OSError, ValueError):
        known = []
    ports = [port for port in known if 0 < port < 65536]
    for port in [*ports, *range(FIRST_PORT, FIRST_PORT + PORTS_TO_TRY)]:
        with contextlib.suppress(server.PortTaken):
            sock = server.listen(EVERYWHERE, port)
            write_atomically(kept, str(port))
            return sock
    raise server.PortTaken(str(FIRST_PORT))
