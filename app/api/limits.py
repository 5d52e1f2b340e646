"""How often one machine may ask. Kept in memory: there is one process, whatever its threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from app.lan.tries import Tries


class Bucket:
    """A token bucket for each key: ``burst`` requests at once, then ``rate`` a second."""

    def __init__(
        self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate, self._burst, self._clock = rate, burst, clock
        self._left: dict[int, tuple[float, float]] = {}
        self._lock = threading.Lock()

    def take(self, key: int) -> float:
        """Take one; 0 where it was there, else the seconds until there is one."""
        with self._lock:
            now = self._clock()
            left, since = self._left.get(key, (float(self._burst), now))
            left = min(self._burst, left + (now - since) * self._rate)
            taken = left >= 1
            self._left[key] = (left - taken, now)
        return 0.0 if taken else (1 - left) / self._rate

    def clear(self) -> None:
        """Forget who asked how often."""
        with self._lock:
            self._left.clear()


uploads = Bucket(rate=10, burst=60)
requests = Bucket(rate=20, burst=100)
#: Nobody guesses 256 bits: this keeps a machine with an old token from asking for ever.
WRONG_TOKENS, WRONG_TOKEN_SECONDS = 10, 60
wrong_tokens = Tries(most=WRONG_TOKENS, seconds=WRONG_TOKEN_SECONDS)
