"""Browsers in which people are logged in, when they lock, and what was tried to get in."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth.hashers import check_password
from django.db import models, transaction
from django.db.models import F
from django.utils import timezone
from django.utils.crypto import salted_hmac

from app.models.people import User, plain_username


class LogIn(models.Model):
    """One browser in which somebody is or was logged in. The session knows its primary key.

    ``address`` is empty for this computer. ``held``: the form that was sent while the log-in was
    locked, which nobody has seen but who can unlock it: path, page to go back to, fields.
    """

    #: A day's work, however busily it is used.
    LIFE = timedelta(hours=12)
    #: So long a device is known as one that somebody has logged in from.
    REMEMBERED = timedelta(days=30)
    MOST_WRONG_PINS = 5
    MOST_HELD = 50_000
    #: Not written down at each request.
    _SEEN_EVERY = timedelta(seconds=20)

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="log_ins")
    address = models.CharField(max_length=64, blank=True, default="")
    by_lan = models.BooleanField(default=False)
    agent = models.CharField(max_length=300, blank=True, default="")
    created_at = models.DateTimeField(default=timezone.now)
    seen_at = models.DateTimeField(default=timezone.now)
    locked_at = models.DateTimeField(null=True)
    wrong_pins = models.PositiveSmallIntegerField(default=0)
    held = models.JSONField(null=True)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-seen_at", "-id"]
        indexes = [models.Index(fields=["user", "address"], name="log_in_device")]

    def __str__(self) -> str:
        return f"{self.user} at {self.address or 'this computer'}"

    @classmethod
    def begin(cls, user: User, **of_browser: Any) -> LogIn:
        """Somebody has logged in; what is no longer needed of earlier log-ins goes."""
        now = timezone.now()
        cls.objects.filter(created_at__lt=now - cls.REMEMBERED).delete()
        cls.objects.filter(created_at__lt=now - cls.LIFE).update(held=None)
        return cls.objects.create(user=user, **of_browser)

    @classmethod
    def open(cls) -> models.QuerySet[LogIn]:
        """Those that let somebody in. A clock that was turned back ends them too."""
        now = timezone.now()
        lives = {"created_at__gt": now - cls.LIFE, "created_at__lt": now + cls.LIFE}
        return cls.objects.filter(ended_at=None, user__is_active=True, **lives)

    @classmethod
    def end(cls, which: models.QuerySet[LogIn]) -> int:
        """Let these in no longer; how many they were."""
        return which.filter(ended_at=None).update(ended_at=timezone.now(), held=None)

    @classmethod
    def knows(cls, username: str, address: str) -> bool:
        """Whether somebody has lately logged in by that name from there."""
        since = timezone.now() - cls.REMEMBERED
        name = plain_username(username)
        found = cls.objects.filter(user__username=name, address=address, created_at__gt=since)
        return found.exists()

    def saw_somebody(self) -> None:
        """A person is at work in this browser. What is locked stays locked."""
        now = timezone.now()
        open_ones = LogIn.objects.filter(pk=self.pk, locked_at=None, ended_at=None)
        if abs(now - self.seen_at) > self._SEEN_EVERY and open_ones.update(seen_at=now):
            self.seen_at = now

    def seconds_left(self, minutes: int) -> int | None:
        """How long until it locks by itself, after ``minutes`` (0: never) without anybody."""
        if not minutes:
            return None
        left = timedelta(minutes=minutes) - abs(timezone.now() - self.seen_at)
        return max(0, int(left.total_seconds()))

    def is_locked(self, minutes: int) -> bool:
        """Whether it is locked; it locks now where nobody was there for ``minutes`` (0: never).

        A clock that was set, forwards or back, locks rather than not.
        """
        if self.locked_at is None and self.seconds_left(minutes) == 0:
            self.lock()
        return self.locked_at is not None

    def lock(self) -> None:
        """Show nothing more until somebody proves to be the user."""
        self.locked_at = timezone.now()
        ours = LogIn.objects.filter(pk=self.pk, locked_at=None)
        if ours.update(locked_at=self.locked_at, held=None):
            self.held = None

    @property
    def takes_pin(self) -> bool:
        """Whether the PIN is enough: there is one, and it was not guessed at too often."""
        return bool(self.user.pin) and self.wrong_pins < self.MOST_WRONG_PINS

    def unlocks_by_pin(self, pin: str) -> bool:
        """Unlock with the PIN. Counted before it is looked at: of many at once none slips past."""
        ours = LogIn.objects.filter(pk=self.pk, wrong_pins__lt=self.MOST_WRONG_PINS)
        if not self.user.pin or not ours.update(wrong_pins=F("wrong_pins") + 1):
            return False
        if not check_password(pin, self.user.pin):
            self.wrong_pins += 1
            return False
        self.unlock()
        return True

    def unlock(self) -> None:
        """Show everything again."""
        now = timezone.now()
        LogIn.objects.filter(pk=self.pk).update(locked_at=None, wrong_pins=0, seen_at=now)
        self.locked_at, self.wrong_pins, self.seen_at = None, 0, now

    def hold(self, form: Mapping[str, Any] | None) -> None:
        """Keep a form that came while it was locked, in place of the one before."""
        LogIn.objects.filter(pk=self.pk).update(held=form)
        self.held = form


class TooManyTries(Exception):
    """Nobody looks at a password before ``until``."""

    def __init__(self, until: datetime) -> None:
        super().__init__(until)
        self.until = until


class Tries(models.Model):
    """Wrong passwords in a row for one name: from one device, or from all that are not known.

    The name is kept as a keyed digest: people type their password into the wrong field.
    """

    #: The devices that count alone, and all others together.
    HERE, ALL = "here", "all"
    #: So many are free: everybody mistypes. Of many addresses that guess together it is more.
    FREE = 5
    FREE_TOGETHER = 20
    SHORTEST, LONGEST = timedelta(minutes=1), timedelta(minutes=15)
    FORGOTTEN = timedelta(days=1)

    name = models.CharField(max_length=64)
    device = models.CharField(max_length=64)
    in_a_row = models.PositiveIntegerField(default=0)
    last_at = models.DateTimeField(default=timezone.now)

    class Meta:
        verbose_name_plural = "tries"
        constraints = [models.UniqueConstraint(fields=["name", "device"], name="counted_once")]

    def __str__(self) -> str:
        return f"{self.in_a_row} from {self.device}"

    @classmethod
    def begin(cls, name: str, device: str, known: bool = False) -> None:
        """Count a try, before it is known to be wrong; raises TooManyTries.

        ``known``: somebody has lately logged in by this name from this device, so that strangers
        who guess elsewhere do not keep them out. This computer always counts alone.
        """
        now, digest = timezone.now(), _digest(name)
        together = [] if known or device == cls.HERE else [cls.ALL]
        with transaction.atomic():
            cls.objects.filter(last_at__lt=now - cls.FORGOTTEN).delete()
            rows = [cls._row(digest, place) for place in (device, *together)]
            if waits := [until for row in rows if (until := row.waits_until(now))]:
                raise TooManyTries(max(waits))
            for row in rows:
                row.in_a_row, row.last_at = row.in_a_row + 1, now
                row.save(update_fields=["in_a_row", "last_at"])

    @classmethod
    def was_right(cls, name: str, device: str, known: bool = False) -> None:
        """The last try was right: it begins anew here, and counts no more among all."""
        rows = cls.objects.filter(name=_digest(name))
        rows.filter(device=device).delete()
        if not known:
            rows.filter(device=cls.ALL, in_a_row__gt=0).update(in_a_row=F("in_a_row") - 1)

    @classmethod
    def forget(cls, name: str) -> None:
        """There is a new password: nobody waits any more."""
        cls.objects.filter(name=_digest(name)).delete()

    def waits_until(self, now: datetime) -> datetime | None:
        """When the next try is looked at, None where it is now. Twice as long after each."""
        over = self.in_a_row - (self.FREE_TOGETHER if self.device == self.ALL else self.FREE)
        if over < 0:
            return None
        wait = min(self.SHORTEST * 2 ** min(over, 10), self.LONGEST)
        # However the clock was set meanwhile, nobody waits longer than that
        until = min(self.last_at, now) + wait
        return until if until > now else None

    @classmethod
    def _row(cls, digest: str, device: str) -> Tries:
        return cls.objects.select_for_update().get_or_create(name=digest, device=device)[0]


def _digest(name: str) -> str:
    return salted_hmac("clinic.tries", plain_username(name), algorithm="sha256").hexdigest()
