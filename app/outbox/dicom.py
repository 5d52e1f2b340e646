"""Results to an archive: made as DICOM objects of the film's own study, and stored there."""

from __future__ import annotations

from app.models import Peer, Study


def send(study: Study, peer: Peer) -> None:
    """Store the results of a study at a peer; raises NotSent."""
    raise NotImplementedError
