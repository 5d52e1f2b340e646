"""The model that answers in this process: loaded at the first film, again when the choice changes.

A process that only serves pages never imports numpy or onnxruntime: they cost a second and 80 MB.
"""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from app.cxr.release import ACTIVE, MANIFEST, Release, UnusableRelease, load_active

if TYPE_CHECKING:
    from app.cxr.model import Model

logger = logging.getLogger(__name__)

#: A release that could not be used is tried again after this: a slow disk or stick may be back.
RETRY_SECONDS = 30.0

Stamp = tuple[tuple[int, int, int] | None, ...]


class ActiveModel:
    """The release switched on in a data directory, verified, and its graph once it is needed."""

    def __init__(self, data_directory: Path) -> None:
        self._data_directory = data_directory
        self._lock = threading.Lock()
        self._release: Release | None = None
        self._model: Model | None = None
        self._problem: UnusableRelease | None = None
        self._stamp: Stamp | None = None
        self._tried_at = 0.0
        # Of the graph: stands until a later try succeeds, so that nobody is told in between that
        # all is well
        self._fault: UnusableRelease | None = None
        self._opened_at = 0.0

    @property
    def release(self) -> Release | None:
        """The release that answers, None when none is usable. Loads no graph."""
        with self._lock:
            self._look_again()
            return None if self._problem or self._fault else self._release

    @property
    def label(self) -> str | None:
        """``name@version`` of the model that answers, None when none is usable."""
        release = self.release
        return release.label if release else None

    @property
    def problem(self) -> UnusableRelease | None:
        """Why no model is usable; None when one is, as far as is known without its graph."""
        with self._lock:
            self._look_again()
            return self._problem or self._fault

    def load(self) -> Model:
        """The model, loaded and self-tested; raises UnusableRelease."""
        with self._lock:
            self._look_again()
            if self._problem or not self._release:
                raise self._problem or UnusableRelease("release_missing")
            if self._model is None:
                if self._fault and not _is_overdue(self._opened_at):
                    raise self._fault
                self._opened_at = time.monotonic()
                try:
                    self._model = _open(self._release)
                except UnusableRelease as error:
                    self._fault = error
                    logger.error("model %s is not usable: %s", self._release.label, error)
                    raise
                self._fault = None
                logger.info("model %s loaded", self._release.label)
            return self._model

    def _look_again(self) -> None:
        overdue = self._problem and _is_overdue(self._tried_at)
        if self._stamp is not None and self._stamp == self._files_now() and not overdue:
            return
        self._release = self._model = self._problem = self._fault = None
        self._tried_at = time.monotonic()
        try:
            self._release = load_active(self._data_directory)
        except UnusableRelease as error:
            self._problem = error
        except Exception:  # a manifest that nobody thought of must not take the pages down
            logger.exception("the release cannot be read")
            self._problem = UnusableRelease("release_manifest_damaged")
        if self._problem:
            logger.error("no usable model: %s", self._problem)
        self._stamp = self._files_now()

    def _files_now(self) -> Stamp:
        watched = [self._data_directory / ACTIVE]
        if self._release:
            watched.append(self._release.directory / MANIFEST)
        return tuple(_stamp(path) for path in watched)


def _is_overdue(tried_at: float) -> bool:
    return time.monotonic() - tried_at > RETRY_SECONDS


def _open(release: Release) -> Model:
    from app.cxr.model import Model

    model = Model.load(release)
    try:
        failed = model.self_test()
    except Exception as error:
        logger.exception("the self-test of model %s broke off", release.label)
        raise UnusableRelease("self_test_failed") from error
    if failed:
        raise UnusableRelease("self_test_failed", films=", ".join(failed))
    return model


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
