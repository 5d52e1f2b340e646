"""A study in the values that its FHIR bundle is made of, in the words of one language."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.utils import timezone, translation
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from app import messages
from app.cxr import fhir_out
from app.models import Finding, Instance, Patient, Reading, Site, Study
from app.uids import clinic_root, film_uids, study_uid

if TYPE_CHECKING:
    from app.cxr.regions import Region

#: What the bundle names, beside answers, conclusions and zones, which have their words already.
WORDS: dict[str, Promise] = {
    "patient": _("Patient"),
    "number": _("Patient number"),
    "unknown": _("unknown"),
    "study": _("Study"),
    "films": _("Films"),
    "model": _("Model"),
    "by_computer": _("Answered by the computer, model"),
    "pneumonia_signs": _("Signs of pneumonia"),
    "probability": _("Probability"),
    "threshold": _("Threshold"),
    "reason": _("Reason"),
    "region": _("Region"),
    "regions": _("Where the computer looked"),
    "age_years": _("Age"),
    "image_classification": _("Computed from the picture"),
    "sop_instance_uid": _("Film"),
    "conclusion": _("The clinician's conclusion"),
    "diagnosis": _("Final diagnosis"),
    "reader": _("Read by"),
    "agrees": _("Agrees with the computer"),
    "before_answer": _("Read before the computer's answer was shown"),
    "note": _("Note"),
}


def bundle_of(study: Study) -> dict[str, Any]:
    """The study as a FHIR R4 transaction Bundle, its words in the language that is active.

    ``study``: with patient, films and findings fetched along (``newest_first``).
    """
    root = clinic_root(Site.current())
    return fhir_out.bundle(
        fhir_out.ImagedStudy(
            clinic=root,
            number=study.number,
            started=timezone.localtime(study.created_at),
            subject=_subject(study.patient),
            films=[_film(instance, root) for instance in study.instances.all()],
            readings=[_reading(one) for one in study.readings.select_related("by").order_by("id")],
            study_uid=study_uid(study, root),
            accession_number=study.accession_number,
            language=translation.get_language() or "en",
            words=_words(),
        )
    )


def _words() -> dict[str, str]:
    conclusions = dict(Reading.Conclusion.choices)
    tables = (messages.ANSWERS, messages.ZONES, conclusions, WORDS)
    return {code: str(words) for table in tables for code, words in table.items()}


def _subject(patient: Patient | None) -> fhir_out.Subject | None:
    if patient is None:
        return None
    return fhir_out.Subject(
        key=str(patient.pk),
        name=patient.name,
        number=patient.number,
        sex=patient.sex,
        birth_date=patient.birth_date,
    )


def _film(instance: Instance, root: UUID) -> fhir_out.Film:
    finding = instance.finding
    sop_class, sop_instance, series = film_uids(instance, root)
    return fhir_out.Film(
        key=instance.sha256,
        answer=_answer(finding) if finding else None,
        sop_instance_uid=sop_instance,
        sop_class_uid=sop_class,
        series_uid=series,
    )


def _answer(finding: Finding) -> fhir_out.Answer:
    return fhir_out.Answer(
        answer=finding.answer,
        model=finding.model,
        at=timezone.localtime(finding.created_at),
        probability=finding.probability,
        threshold=finding.threshold,
        reason=finding.reason or "",
        because=messages.sentence(finding.reason, finding.details) if finding.reason else "",
        regions=_regions(finding),
        age_years=finding.age_years,
    )


def _regions(finding: Finding) -> list[Region]:
    from app.cxr.regions import Region  # numpy comes with the first film

    return [Region(**region) for region in finding.regions]


def _reading(reading: Reading) -> fhir_out.HumanReading:
    return fhir_out.HumanReading(
        key=str(reading.pk),
        reader_key=str(reading.by_id),
        reader=str(reading.by),
        at=timezone.localtime(reading.at),
        kind=reading.kind,
        conclusion=reading.conclusion,
        agrees=reading.agrees,
        before_answer=reading.before_answer,
        note=reading.note,
    )
