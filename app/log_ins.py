"""The log-in that a session belongs to, from beginning to end; and the password behind it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.contrib.auth.signals import user_logged_in, user_logged_out
from django.core.exceptions import ValidationError
from django.dispatch import receiver
from django.http import HttpRequest
from django.utils import timezone
from django.utils.formats import time_format
from django.utils.translation import gettext as _

from app.access import FROM_LAN, LOG_IN, LOG_IN_OF_REQUEST, device_of, user_of
from app.models import LogIn, TooManyTries, Tries, User


@receiver(user_logged_in)
def _begin(request: HttpRequest, user: User, **_more: Any) -> None:
    _end_of(request)
    log_in = LogIn.begin(
        user,
        address=device_of(request),
        by_lan=bool(request.META.get(FROM_LAN)),
        agent=request.META.get("HTTP_USER_AGENT", "")[:300],
    )
    request.session[LOG_IN] = log_in.pk
    request.META[LOG_IN_OF_REQUEST] = log_in


@receiver(user_logged_out)
def _end(request: HttpRequest, **_more: Any) -> None:
    _end_of(request)


def _end_of(request: HttpRequest) -> None:
    if (before := request.session.get(LOG_IN)) is not None:
        LogIn.end(LogIn.objects.filter(pk=before))


class Guard:
    """Stands before a password: counts wrong ones, and for a while lets nobody try again."""

    def __init__(self, request: HttpRequest, name: str) -> None:
        address = device_of(request)
        self._name, self._device = name, address or Tries.HERE
        self._known = LogIn.knows(name, address)

    def begin(self) -> None:
        """Before the password is looked at; raises ValidationError where one has to wait."""
        try:
            Tries.begin(self._name, self._device, self._known)
        except TooManyTries as wait:
            raise ValidationError(words_of(wait), code="wait") from wait

    def was_right(self) -> None:
        """After a password that was right."""
        Tries.was_right(self._name, self._device, self._known)


def check_own_password(request: HttpRequest, password: str) -> None:
    """Whether it is the password of who is logged in; raises ValidationError."""
    user = user_of(request)
    guard = Guard(request, user.username)
    guard.begin()
    if not user.check_password(password):
        raise ValidationError(_("This is not your password. Type it again."), code="wrong")
    guard.was_right()


def words_of(wait: TooManyTries) -> str:
    """When to try again. The minute after, so that who comes then is not early."""
    until = timezone.localtime(wait.until + timedelta(seconds=59))
    return _("Too many wrong passwords were tried. Try again at %(time)s.") % {
        "time": time_format(until, "TIME_FORMAT")
    }
