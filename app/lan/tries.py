"""A limit on how often one device may be wrong."""

from __future__ import annotations

import threading
import time
from collections import defaultdict


class Tries:
    """Counts failures of each device, and forgets them after ``seconds``."""

    def __init__(self, most: int, seconds: float) -> None:
        self._most, self._seconds = most, seconds
        self._failed: defaultdict[str, list[float]] = defaultdict(list)
        self._lock = threading.Lock()

    def note(self, device: str) -> None:
        """It was wrong once more."""
        with self._lock:
            self._forget()
            self._failed[device].append(time.monotonic())

    def are_used_up(self, device: str) -> bool:
        """Whether it has been wrong too often lately."""
        with self._lock:
            self._forget()
            return len(self._failed.get(device, ())) >= self._most

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._failed.clear()

    def _forget(self) -> None:
        since = time.monotonic() - self._seconds
        for device, times in list(self._failed.items()):
            self._failed[device] = [at for at in times if at > since]
            if not self._failed[device]:
                del self._failed[device]


#: 1440 guesses a day do not find a password that is not among the commonest, which are refused.
wrong_passwords = Tries(most=10, seconds=600)
#: At the clinic's own computer one after the other mistypes: more, but fewer than 100 an hour.
wrong_passwords_here = Tries(most=16, seconds=600)
#: The codes have 144 bits, so nobody guesses one; this keeps who tries out of the record.
wrong_codes = Tries(most=10, seconds=600)
