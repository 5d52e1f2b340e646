"""A study's results as DICOM objects: for each answered film a report and a picture of it.

A film that was no DICOM goes along as one, so that there is something to point at.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

import pydicom
from django.conf import settings
from django.utils import timezone, translation
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from PIL import Image
from pydicom.dataset import Dataset

from app import films, messages
from app.cxr.dicom_out import capture, said
from app.cxr.dicom_out.picture import can_draw
from app.cxr.dicom_out.report import structured_report
from app.cxr.radiograph import UnreadableFilm, read_radiograph
from app.cxr.regions import Region
from app.cxr.release import age_band
from app.models import Finding, Instance, Reading, Site, Study
from app.outbox.faults import NotSent
from app.uids import clinic_root, film_uids, study_uid

DESCRIPTION = _("Pneumonia: suggestion of the computer")
FILM = _("Film as it was put in")
#: In the picture, below the film, one a line.
SUGGESTION = _("Suggestion of the computer, no diagnosis. Model %(model)s.")
SIGNS = _("Signs of pneumonia: %(answer)s (probability %(probability)s, threshold %(threshold)s).")
READ = _("Read by %(reader)s: %(conclusion)s.")
MANUFACTURER = "Clinic CXR"
_LONGEST_DESCRIPTION = 64  # PS3.5, 6.2: LO


def objects_of(study: Study) -> list[Dataset]:
    """Everything that is sent of a study, films before what points at them; raises NotSent.

    The words in it are in the clinic's language.
    """
    site = Site.current()
    films = study.instances.select_related("study__patient").prefetch_related("findings")
    readings = study.readings.filter(kind=Reading.Kind.CONCLUSION).select_related("by")
    reading = readings.order_by("id").last()
    with translation.override(site.language or settings.LANGUAGE_CODE):
        made = [one for film in films for one in _of_film(film, site, reading)]
    if not made:
        raise NotSent("film_missing", for_good=True)
    return made


def _of_film(film: Instance, site: Site, reading: Reading | None) -> Sequence[Dataset]:
    finding = film.finding
    if finding is None or finding.probability is None or finding.threshold is None:
        return ()
    root = clinic_root(site)
    equipment = _equipment(site, root)
    try:
        with films.local(film.sha256) as stored:
            radiograph = read_radiograph(stored)
            is_picture = not radiograph.sop_instance_uid
            source = None if is_picture else _header_of(stored)
            lossy = is_picture and _was_lossy(stored)
    except (OSError, UnreadableFilm) as error:
        for_good = not isinstance(error, films.Unreachable)
        raise NotSent("film_missing", for_good=for_good) from error
    pixels = radiograph.pixels
    shown: list[Dataset] = []
    if source is None:
        description = str(FILM)[:_LONGEST_DESCRIPTION]
        subject = _subject(film, root)
        source = capture.film_as_secondary_capture(pixels, subject, equipment, description, lossy)
        shown.append(source)
    result, description = _result(finding), str(DESCRIPTION)[:_LONGEST_DESCRIPTION]
    caption = _caption(finding, reading)
    return [
        *shown,
        structured_report(source, result, equipment, description, _reading(reading, site)),
        capture.secondary_capture(source, pixels, result, equipment, caption, description),
    ]


def _header_of(film: Path | bytes) -> Dataset:
    """What a stored film's header says; its size was looked at when it was analysed."""
    with films.opened(film) as file:
        return pydicom.dcmread(file, stop_before_pixels=True, force=True)


def _was_lossy(film: Path | bytes) -> bool:
    with films.opened(film) as file, Image.open(file) as picture:
        return picture.format in ("JPEG", "MPO", "WEBP")


def _equipment(site: Site, root: UUID) -> said.Equipment:
    return said.Equipment(
        manufacturer=MANUFACTURER,
        model_name=MANUFACTURER,
        version=settings.VERSION,
        uid=f"2.25.{root.int}",
        institution=site.clinic_name[:_LONGEST_DESCRIPTION],
        station=site.ae_title,
    )


def _subject(film: Instance, root: UUID) -> said.Subject:
    study, patient = film.study, film.study.patient
    _class, film_uid, series_uid = film_uids(film, root)
    born = patient.birth_date if patient else None
    return said.Subject(
        study_uid=study_uid(study, root),
        series_uid=series_uid,
        film_uid=film_uid,
        taken_at=timezone.localtime(study.created_at),
        study_id=study.number[:16],
        patient_name=patient.name if patient else "",
        patient_id=patient.number if patient else "",
        birth_date=born.strftime("%Y%m%d") if born else "",
        sex=patient.sex if patient else "",
        age_years=study.age_years,
    )


def _result(finding: Finding) -> said.Result:
    name, _at, version = finding.model.partition("@")
    assert finding.probability is not None
    assert finding.threshold is not None
    peak = (finding.peak_x, finding.peak_y)
    return said.Result(
        answer=finding.answer,
        probability=finding.probability,
        threshold=finding.threshold,
        age_band=age_band(finding.age_years),
        model_name=name,
        model_version=version,
        analysed_at=timezone.localtime(finding.created_at),
        regions=tuple(Region(**region) for region in finding.regions),
        peak=None if None in peak else peak,  # type: ignore[arg-type]
        reason=finding.reason,
    )


def _reading(reading: Reading | None, site: Site) -> said.Reading | None:
    if reading is None:
        return None
    return said.Reading(
        conclusion=reading.conclusion,
        agrees=reading.agrees,
        reader=str(reading.by),
        role=reading.by.role,
        read_at=timezone.localtime(reading.at),
        organization=site.clinic_name,
    )


def _caption(finding: Finding, reading: Reading | None) -> list[str]:
    """The words below the picture; in English where the font cannot draw the clinic's."""
    lines = _lines(finding, reading)
    if all(can_draw(line) for line in lines):
        return lines
    with translation.override("en"):
        plain = _lines(finding, reading)
    return [line for line in plain if can_draw(line)]


def _lines(finding: Finding, reading: Reading | None) -> list[str]:
    said_of_it: list[tuple[Promise, dict[str, str]]] = [
        (
            SIGNS,
            {
                "answer": str(messages.ANSWERS[finding.answer]),
                "probability": f"{finding.probability:.2f}",
                "threshold": f"{finding.threshold:.2f}",
            },
        ),
        (SUGGESTION, {"model": finding.model}),
    ]
    if reading:
        conclusion = str(Reading.Conclusion(reading.conclusion).label)
        said_of_it.append((READ, {"reader": str(reading.by), "conclusion": conclusion}))
    return [str(words) % details for words, details in said_of_it]
