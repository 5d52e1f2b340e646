"""Preparing and writing a contribution beside the pages: it may take minutes for hundreds of films.

One at a time, in a thread of its own at low priority. What was prepared is kept until it is
discarded or the program ends: it can be looked at, then leave to a stick or by the browser.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from django.db import connections

from app import contributions, worker
from app.contributions import NotExported, Prepared
from app.models import User
from app.updates.shadow import yield_to_others

logger = logging.getLogger(__name__)


class ContributionRun:
    """The one contribution of this process. ``left_as``: the names under which it has left."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cancel = threading.Event()
        self._thread: threading.Thread | None = None
        self.prepared: Prepared | None = None
        self.left_as: list[str] = []
        #: Why the last step came to nothing; None where it did not.
        self.refused: NotExported | None = None
        self.is_writing = False
        self.done = self.total = 0

    @property
    def is_running(self) -> bool:
        """Whether films are being prepared, or written."""
        return self._thread is not None and self._thread.is_alive()

    def prepare(self, limit: int, everything: bool) -> bool:
        """Start preparing; whether it was started."""
        return self._start(lambda: self._prepare(limit, everything), is_writing=False)

    def write(self, drive: Path, name: str, by: User) -> bool:
        """Start writing what was prepared to a drive; whether it was started."""
        prepared = self.prepared
        if prepared is None:
            return False
        return self._start(lambda: self._write(prepared, drive / name, by), is_writing=True)

    def discard(self) -> None:
        """End what is prepared, or remove it; what is being written to a stick is let be."""
        if self.is_running and self.is_writing:
            return
        self._cancel.set()
        self.wait()
        if self.prepared:
            self.prepared.discard()
        self.prepared, self.refused, self.left_as = None, None, []

    def wait(self) -> None:
        """Until nothing goes on."""
        if self._thread is not None:
            self._thread.join()

    def _start(self, work: Callable[[], None], is_writing: bool) -> bool:
        with self._lock:
            if self.is_running or (self.prepared is not None) != is_writing:
                return False
            self.is_writing, self.done, self.total = is_writing, 0, 0
            self.refused = None
            self._cancel.clear()
            self._thread = threading.Thread(
                target=self._run, args=[work], name="contribution", daemon=True
            )
            self._thread.start()
        return True

    def _run(self, work: Callable[[], None]) -> None:
        yield_to_others()
        try:
            work()
        except NotExported as error:
            self.refused = error
        except Exception as error:  # noqa: BLE001 - a run that fails says so on the page
            logger.error("the contribution broke off: %s", worker.traceback_of(error))
            self.refused = NotExported("failed")
        finally:
            connections.close_all()

    def _prepare(self, limit: int, everything: bool) -> None:
        self.prepared = contributions.prepare(limit, everything, self._watch)
        self.left_as = []

    def _write(self, prepared: Prepared, path: Path, by: User) -> None:
        contributions.write(prepared, path, by)
        self.left_as.append(str(path))

    def _watch(self, done: int, total: int) -> None:
        if self._cancel.is_set():
            raise NotExported("cancelled")
        self.done, self.total = done, total


run = ContributionRun()
