"""What this clinic's studies and films are called outside: by their headers, else by the clinic.

A UID under 2.25 is a UUID and needs no root from anybody (PS3.5, B.2); one of version 5 follows
from a name, so that DICOM and FHIR call the same film the same, today and after a restart.
"""

from __future__ import annotations

from uuid import UUID, uuid5

from app.cxr.fhir_out import ROOT, SECONDARY_CAPTURE, uid_of
from app.models import Instance, Site, Study


def clinic_root(site: Site) -> UUID:
    """The root of the UUIDs of one clinic: it outlives a new computer, as the database does.

    Raises ValueError before the clinic is set up.
    """
    if site.set_up_at is None:
        raise ValueError("a clinic that is not set up has no studies to send")
    return uuid5(ROOT, f"clinic/{site.set_up_at.timestamp():.6f}")


def study_uid(study: Study, root: UUID) -> str:
    """Its Study Instance UID."""
    return study.study_uid or uid_of(uuid5(root, f"study/{study.number}"))


def film_uids(film: Instance, root: UUID) -> tuple[str, str, str]:
    """Its SOP class, SOP instance and series instance UID; a picture is a secondary capture."""
    series = uid_of(uuid5(root, f"study/{film.study.number}/series"))
    return (
        film.sop_class_uid or SECONDARY_CAPTURE,
        film.sop_instance_uid or uid_of(uuid5(root, f"film/{film.sha256}")),
        film.series_uid or series,
    )
