"""A study as FHIR R4 (4.0.1): values in, one transaction Bundle out.

The resources are made by hand, as JSON; the tests hold them to the standard's own schema (ADR
0025). Every one has a UUID that follows from what it speaks of, and is put where a server holds
none of it yet, else over the one it holds: a bundle that is posted twice makes nothing twice. What
the computer said bears the security label AIAST (HL7's guide "AI Transparency on FHIR"), what a
person said never.
"""

from __future__ import annotations

import html
import math
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid5

if TYPE_CHECKING:
    from app.cxr.regions import Region

Resource = dict[str, Any]
Pairs = list[tuple[str, str]]

#: The root of every UUID that is the same in all clinics, and the system of the program's codes.
ROOT = UUID("6f1c3f0e-3d0b-5a55-9c4e-0d8f2f6a7b11")
CODES = f"urn:uuid:{ROOT}"
REGION = f"urn:uuid:{uuid5(ROOT, 'region')}"
EVENTS = f"urn:uuid:{uuid5(ROOT, 'events')}"

URI = "urn:ietf:rfc:3986"
LOINC = "http://loinc.org"
SNOMED = "http://snomed.info/sct"
DCM = "http://dicom.nema.org/resources/ontology/DCM"
UCUM = "http://unitsofmeasure.org"
_HL7 = "http://terminology.hl7.org/CodeSystem/"
XHTML = "http://www.w3.org/1999/xhtml"

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
#: PS3.4, table B.5-1, and CID 29. A film that was scanned or photographed came from a cassette: RG.
MODALITIES = {
    "1.2.840.10008.5.1.4.1.1.1": "CR",
    "1.2.840.10008.5.1.4.1.1.1.1": "DX",
    "1.2.840.10008.5.1.4.1.1.1.1.1": "DX",
    "1.2.840.10008.5.1.4.1.1.12.2": "RF",
    SECONDARY_CAPTURE: "OT",
    "": "RG",
}
GENDERS = {"M": "male", "F": "female", "O": "other"}


def _coding(system: str, code: str, display: str = "") -> Resource:
    named = {"display": display} if display else {}
    return {"system": system, "code": code, **named}


AI_LABEL = _coding(_HL7 + "v3-ObservationValue", "AIAST", "Artificial Intelligence asserted")
CHEST_FILM = [
    _coding(LOINC, "30745-4", "XR Chest Views"),
    _coding(SNOMED, "399208008", "Plain X-ray of chest"),
]
PNEUMONIA = _coding(SNOMED, "233604007", "Pneumonia")
INDETERMINATE = _coding(SNOMED, "82334004", "Indeterminate")
IMAGING = _coding(_HL7 + "observation-category", "imaging", "Imaging")
#: Beside the program's own code: the same in SNOMED CT, and HL7's interpretation.
ANSWERS = {
    "likely": (_coding(SNOMED, "2931005", "Probable diagnosis"), "POS", "Positive"),
    "unlikely": (_coding(SNOMED, "385434005", "Improbable diagnosis"), "NEG", "Negative"),
    "cannot_say": (INDETERMINATE, "IND", "Indeterminate"),
}
CONCLUSIONS = {"pneumonia": PNEUMONIA, "unsure": INDETERMINATE}


@dataclass(frozen=True)
class Subject:
    """The patient. ``key`` names the row; ``sex`` as DICOM has it; empty or None is unknown."""

    key: str
    name: str = ""
    number: str = ""
    sex: str = ""
    birth_date: date | None = None


@dataclass(frozen=True)
class Answer:
    """What the computer said of one film. ``because``: the sentence of ``reason``."""

    answer: str
    model: str
    at: datetime
    probability: float | None = None
    threshold: float | None = None
    reason: str = ""
    because: str = ""
    regions: Sequence[Region] = ()
    age_years: float | None = None


@dataclass(frozen=True)
class Film:
    """One film; the UIDs of its header are empty where it has none. ``key`` is its digest."""

    key: str
    answer: Answer | None = None
    sop_instance_uid: str = ""
    sop_class_uid: str = ""
    series_uid: str = ""


@dataclass(frozen=True)
class HumanReading:
    """What a person concluded. ``kind``: ``conclusion`` or ``diagnosis``."""

    key: str
    reader_key: str
    reader: str
    at: datetime
    kind: str
    conclusion: str
    agrees: bool | None = None
    before_answer: bool = False
    note: str = ""


@dataclass(frozen=True)
class ImagedStudy:
    """All that a bundle says. ``clinic``: the root of the UUIDs of this clinic alone.

    ``words``: the program's codes in the words of ``language``; a code without words is its own.
    """

    clinic: UUID
    number: str
    started: datetime
    subject: Subject | None
    films: Sequence[Film]
    readings: Sequence[HumanReading] = ()
    study_uid: str = ""
    accession_number: str = ""
    language: str = "en"
    words: Mapping[str, str] = field(default_factory=dict)

    def uuid(self, *path: str) -> UUID:
        """The UUID of a thing of this clinic's."""
        return uuid5(self.clinic, "/".join(path))

    def say(self, code: str) -> str:
        """A code in words."""
        return self.words.get(code, code)


def uid_of(uuid: UUID) -> str:
    """A DICOM UID made of a UUID (PS3.5, B.2), for what has none of its own."""
    return f"2.25.{uuid.int}"


def bundle(study: ImagedStudy) -> Resource:
    """The study as a transaction Bundle: the same values give the same bundle, byte for byte.

    Raises ValueError for a time without a time zone.
    """
    answered = [(film, film.answer) for film in study.films if film.answer]
    entries = [
        _entry(study, *_patient(study)),
        *(_entry(study, *one) for one in _practitioners(study)),
        *(_entry(study, *one) for one in _devices(study)),
        _entry(study, *_imaging_study(study)),
        *(_entry(study, *_finding(study, film, answer)) for film, answer in answered),
        *(_entry(study, *_reading(study, reading)) for reading in study.readings),
        _entry(study, *_report(study)),
        *(_event(_finding_provenance(study, film, answer)) for film, answer in answered),
        *(_event(_reading_provenance(study, reading)) for reading in study.readings),
    ]
    meta = {"security": [AI_LABEL]} if answered else None
    return _kept({"resourceType": "Bundle", "meta": meta, "type": "transaction", "entry": entries})


# --- entries ----------------------------------------------------------------------------------


def _entry(study: ImagedStudy, uuid: UUID, resource: Resource, told: Pairs) -> Resource:
    """Conditional update by the identifier (R4, http.html#cond-update)."""
    named = {"system": URI, "value": f"urn:uuid:{uuid}"}
    if resource.pop("passing", False):
        named = {"use": "temp", **named}
    kind = resource["resourceType"]
    whole = {
        "resourceType": kind,
        "meta": resource.pop("meta", None),
        "language": study.language,
        "text": _narrative(told, study.language),
        **resource,
        "identifier": [named, *resource.get("identifier", ())],
    }
    where = f"{kind}?identifier={URI}|urn:uuid:{uuid}"
    return {
        "fullUrl": f"urn:uuid:{uuid}",
        "resource": _kept(whole),
        "request": {"method": "PUT", "url": where},
    }


def _event(provenance: tuple[UUID, Resource]) -> Resource:
    """Conditional create: what happened is not changed. A Provenance has no identifier in R4, so
    that it is found by a tag.
    """
    uuid, resource = provenance
    tag = {"tag": [{"system": EVENTS, "code": str(uuid)}]}
    return {
        "fullUrl": f"urn:uuid:{uuid}",
        "resource": {"resourceType": "Provenance", "meta": tag, **resource},
        "request": {
            "method": "POST",
            "url": "Provenance",
            "ifNoneExist": f"_tag={EVENTS}|{uuid}",
        },
    }


def _narrative(told: Pairs, language: str) -> Resource | None:
    lines = "".join(
        f"<p><b>{html.escape(name)}</b>: {html.escape(value)}</p>"
        for name, value in ((name, _clean(value)) for name, value in told)
        if value
    )
    if not lines:
        return None
    div = f'<div xmlns="{XHTML}" lang="{language}" xml:lang="{language}">{lines}</div>'
    return {"status": "generated", "div": div}


# --- who, with what, of what ------------------------------------------------------------------


def _patient_uuid(study: ImagedStudy) -> UUID:
    if study.subject is None:
        return study.uuid("study", study.number, "patient")
    return study.uuid("patient", study.subject.key)


def _patient(study: ImagedStudy) -> tuple[UUID, Resource, Pairs]:
    """The patient; for a study of nobody's yet, one that has no more than a passing identifier."""
    uuid, subject = _patient_uuid(study), study.subject
    if subject is None:
        told = [(study.say("patient"), study.say("unknown"))]
        return uuid, {"resourceType": "Patient", "passing": True}, told
    name, number = _clean(subject.name), _clean(subject.number)
    record = {
        "type": {"coding": [_coding(_HL7 + "v2-0203", "MR", "Medical record number")]},
        "system": f"urn:uuid:{study.uuid('patient numbers')}",
        "value": number,
    }
    resource = {
        "resourceType": "Patient",
        "identifier": [record] if number else [],
        "name": [{"text": name}] if name else [],
        "gender": GENDERS.get(subject.sex),
        "birthDate": subject.birth_date and subject.birth_date.isoformat(),
    }
    told = [(study.say("patient"), name or number), (study.say("number"), number)]
    return uuid, resource, told


def _practitioners(study: ImagedStudy) -> Iterable[tuple[UUID, Resource, Pairs]]:
    for key, reader in {one.reader_key: _clean(one.reader) for one in study.readings}.items():
        resource = {"resourceType": "Practitioner", "name": [{"text": reader}] if reader else []}
        yield study.uuid("reader", key), resource, [(study.say("reader"), reader)]


def _devices(study: ImagedStudy) -> Iterable[tuple[UUID, Resource, Pairs]]:
    """The model releases that answered; the same ones in every clinic."""
    for model in dict.fromkeys(film.answer.model for film in study.films if film.answer):
        name, _, version = model.partition("@")
        resource = {
            "resourceType": "Device",
            "status": "active",
            "deviceName": [
                {"name": "ClinicCXR", "type": "user-friendly-name"},
                *([{"name": name, "type": "model-name"}] if _clean(name) else []),
            ],
            "type": {"coding": [_coding(SNOMED, "706689003", "Application program software")]},
            "version": [{"value": version}] if _clean(version) else [],
        }
        yield uuid5(ROOT, f"model/{model}"), resource, [(study.say("model"), model)]


def _imaging_study(study: ImagedStudy) -> tuple[UUID, Resource, Pairs]:
    uuid = study.uuid("study", study.number)
    accession = {
        "type": {"coding": [_coding(_HL7 + "v2-0203", "ACSN", "Accession ID")]},
        "value": _clean(study.accession_number),
    }
    series = list(_series(study))
    modalities = {one["modality"]["code"]: one["modality"] for one in series}
    resource = {
        "resourceType": "ImagingStudy",
        "identifier": [
            {"system": "urn:dicom:uid", "value": f"urn:oid:{study.study_uid or uid_of(uuid)}"},
            {"system": f"urn:uuid:{study.uuid('study numbers')}", "value": study.number},
            *([accession] if accession["value"] else []),
        ],
        "status": "available",
        "modality": list(modalities.values()),
        "subject": _to(_patient_uuid(study)),
        "started": _moment(study.started),
        "numberOfSeries": len(series),
        "numberOfInstances": len(study.films),
        "procedureCode": [{"coding": CHEST_FILM}],
        "series": series,
    }
    told = [(study.say("study"), study.number), (study.say("films"), str(len(study.films)))]
    return uuid, resource, told


def _series(study: ImagedStudy) -> Iterable[Resource]:
    """A series for each of the headers', and one a modality for the films that name none."""
    of_uid: dict[str, list[Film]] = {}
    for film in study.films:
        made = study.uuid("study", study.number, "series", _modality(film))
        of_uid.setdefault(film.series_uid or uid_of(made), []).append(film)
    for uid, films in of_uid.items():
        yield {
            "uid": uid,
            "modality": _coding(DCM, _modality(films[0])),
            "numberOfInstances": len(films),
            "bodySite": _coding(SNOMED, "51185008", "Thoracic structure"),
            "instance": [
                {
                    "uid": _instance_uid(study, film),
                    "sopClass": _coding(URI, f"urn:oid:{film.sop_class_uid or SECONDARY_CAPTURE}"),
                }
                for film in films
            ],
        }


def _modality(film: Film) -> str:
    return MODALITIES.get(film.sop_class_uid, "OT")


def _instance_uid(study: ImagedStudy, film: Film) -> str:
    return film.sop_instance_uid or uid_of(study.uuid("film", film.key))


# --- what was found ---------------------------------------------------------------------------


def _observation(study: ImagedStudy, code: str, by_hand: bool) -> Resource:
    """What the observations of a computer and of a person have in common."""
    is_read = by_hand or bool(study.readings)
    return {
        "resourceType": "Observation",
        "status": "final" if is_read else "preliminary",
        "category": [{"coding": [IMAGING]}],
        "code": {
            "coding": [_coding(CODES, code), CHEST_FILM[1]],
            "text": _clean(study.say(code)),
        },
        "subject": _to(_patient_uuid(study)),
        "effectiveDateTime": _moment(study.started),
        "bodySite": {"coding": [_coding(SNOMED, "39607008", "Lung structure")]},
        "derivedFrom": [_to(study.uuid("study", study.number))],
    }


def _finding(study: ImagedStudy, film: Film, found: Answer) -> tuple[UUID, Resource, Pairs]:
    """The computer's answer on one film, labelled as such."""
    resource = _observation(study, "pneumonia_signs", by_hand=False) | {
        "meta": {"security": [AI_LABEL]},
        "issued": _moment(found.at),
        "method": _own(study, "image_classification"),
        "device": _to(uuid5(ROOT, f"model/{found.model}")),
        "component": list(_components(study, film, found)),
        "note": [{"text": _clean(found.because)}] if _clean(found.because) else [],
    }
    if found.answer in ANSWERS:
        same, code, display = ANSWERS[found.answer]
        resource["valueCodeableConcept"] = _own(study, found.answer, same)
        meaning = _coding(_HL7 + "v3-ObservationInterpretation", code, display)
        resource["interpretation"] = [{"coding": [meaning]}]
    else:
        absent = _coding(_HL7 + "data-absent-reason", "not-performed", "Not Performed")
        # R4: cancelled says that there is no value and will be none
        resource["status"] = "cancelled"
        resource["dataAbsentReason"] = _own(study, found.reason or found.answer, absent)
    return study.uuid("film", film.key, "finding"), resource, _told_of(study, found)


def _told_of(study: ImagedStudy, found: Answer) -> Pairs:
    zones = ", ".join(study.say(region.zone) for region in found.regions)
    return [
        (study.say("by_computer"), found.model),
        (study.say("pneumonia_signs"), study.say(found.answer)),
        (study.say("probability"), _figure(found.probability)),
        (study.say("threshold"), _figure(found.threshold)),
        (study.say("regions"), zones),
        (study.say("reason"), found.because),
    ]


def _components(study: ImagedStudy, film: Film, found: Answer) -> Iterable[Resource]:
    """The figures behind the answer, each with a code; what is unknown is left out."""
    yield {
        "code": _own(study, "sop_instance_uid"),
        "valueString": f"urn:oid:{_instance_uid(study, film)}",
    }
    for code, value in (("probability", found.probability), ("threshold", found.threshold)):
        if _known(value):
            yield {"code": _own(study, code), "valueQuantity": _quantity(value, "1")}
    if _known(found.age_years):
        age = {"coding": [_coding(LOINC, "30525-0", "Age")], "text": _clean(study.say("age_years"))}
        yield {"code": age, "valueQuantity": _quantity(found.age_years, "a")}
    for region in found.regions:
        yield {
            "extension": [_box(region)],
            "code": _own(study, "region"),
            "valueCodeableConcept": _own(study, region.zone),
        }


def _box(region: Region) -> Resource:
    """A region in pixels of the film as displayed; R4 has no element for it (R5 has one)."""
    sides = ("x", "y", "width", "height")
    parts: list[Resource] = [
        {"url": side, "valueInteger": int(getattr(region, side))} for side in sides
    ]
    if _known(region.score):
        parts.append({"url": "score", "valueDecimal": region.score})
    return {"url": REGION, "extension": parts}


def _reading(study: ImagedStudy, reading: HumanReading) -> tuple[UUID, Resource, Pairs]:
    """What a person concluded: no label of the computer's, and a performer."""
    flags = (("agrees", reading.agrees), ("before_answer", reading.before_answer))
    note = _clean(reading.note)
    resource = _observation(study, reading.kind, by_hand=True) | {
        "issued": _moment(reading.at),
        "performer": [_to(study.uuid("reader", reading.reader_key))],
        "valueCodeableConcept": _concluded(study, reading.conclusion),
        "component": [
            {"code": _own(study, code), "valueBoolean": flag}
            for code, flag in flags
            if flag is not None
        ],
        "note": [{"text": note}] if note else [],
    }
    told = [
        (study.say(reading.kind), study.say(reading.conclusion)),
        (study.say("reader"), reading.reader),
        (study.say("note"), note),
    ]
    return study.uuid("reading", reading.key), resource, told


def _concluded(study: ImagedStudy, conclusion: str) -> Resource:
    same = CONCLUSIONS.get(conclusion)
    return _own(study, conclusion, *([same] if same else []))


def _report(study: ImagedStudy) -> tuple[UUID, Resource, Pairs]:
    """The report: preliminary until somebody has read the films, then final."""
    answers = [film.answer for film in study.films if film.answer]
    last = study.readings[-1] if study.readings else None
    readers = [_to(study.uuid("reader", k)) for k in {r.reader_key: 0 for r in study.readings}]
    told: Pairs = [(study.say("pneumonia_signs"), study.say(one.answer)) for one in answers]
    told += [(study.say(one.kind), study.say(one.conclusion)) for one in study.readings]
    times = [study.started, *(one.at for one in answers), *(one.at for one in study.readings)]
    results = [
        *(study.uuid("film", film.key, "finding") for film in study.films if film.answer),
        *(study.uuid("reading", reading.key) for reading in study.readings),
    ]
    resource = {
        "resourceType": "DiagnosticReport",
        "meta": {"security": [AI_LABEL]} if answers else None,
        "status": "final" if last else "preliminary",
        "category": [{"coding": [_coding(_HL7 + "v2-0074", "RAD", "Radiology")]}],
        "code": {"coding": CHEST_FILM},
        "subject": _to(_patient_uuid(study)),
        "effectiveDateTime": _moment(study.started),
        "issued": _moment(max(times)),
        "performer": readers,
        "resultsInterpreter": readers,
        "result": [_to(uuid) for uuid in results],
        "imagingStudy": [_to(study.uuid("study", study.number))],
        "conclusion": _clean("; ".join(f"{name}: {value}" for name, value in told)),
        "conclusionCode": [_concluded(study, last.conclusion)] if last else [],
    }
    return (
        study.uuid("study", study.number, "report"),
        resource,
        [(study.say("study"), study.number), *told],
    )


# --- where it comes from ----------------------------------------------------------------------


def _provenance(
    study: ImagedStudy, targets: Sequence[UUID], at: datetime, agents: Sequence[tuple[str, UUID]]
) -> Resource:
    participant = _HL7 + "provenance-participant-type"
    return {
        "target": [_to(uuid) for uuid in (*targets, study.uuid("study", study.number, "report"))],
        "recorded": _moment(at),
        "agent": [
            {
                "type": {"coding": [_coding(participant, role, role.capitalize())]},
                "who": _to(who),
            }
            for role, who in agents
        ],
        "entity": [{"role": "source", "what": _to(study.uuid("study", study.number))}],
    }


def _finding_provenance(study: ImagedStudy, film: Film, found: Answer) -> tuple[UUID, Resource]:
    """That the computer made it, of this film. One for each answer that was ever given."""
    device = uuid5(ROOT, f"model/{found.model}")
    finding = study.uuid("film", film.key, "finding")
    resource = _provenance(study, [finding], found.at, [("author", device), ("assembler", device)])
    resource["entity"][0]["what"]["display"] = f"urn:oid:{_instance_uid(study, film)}"
    return study.uuid("film", film.key, "answered", _moment(found.at)), resource


def _reading_provenance(study: ImagedStudy, reading: HumanReading) -> tuple[UUID, Resource]:
    """That a person made it, and stands for the report."""
    reader = study.uuid("reader", reading.reader_key)
    made = study.uuid("reading", reading.key)
    agents = [("author", reader), ("verifier", reader)]
    return study.uuid("reading", reading.key, "made"), _provenance(
        study, [made], reading.at, agents
    )


# --- data types -------------------------------------------------------------------------------


def _to(uuid: UUID) -> Resource:
    return {"reference": f"urn:uuid:{uuid}"}


def _own(study: ImagedStudy, code: str, *same: Resource) -> Resource:
    """One of the program's own codes, with those that say the same and with its words."""
    said = _clean(study.say(code))
    # A code has no white space at its ends and single ones inside (R4, datatypes.html#code)
    return _kept({"coding": [_coding(CODES, " ".join(code.split())), *same], "text": said})


def _quantity(value: float | None, unit: str) -> Resource:
    return {"value": value, "unit": unit, "system": UCUM, "code": unit}


def _known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _figure(value: float | None) -> str:
    return f"{value:.3g}" if value is not None and math.isfinite(value) else ""


def _moment(at: datetime) -> str:
    """To the second, with its offset."""
    if at.utcoffset() is None:
        raise ValueError("a time without a time zone")
    return at.isoformat(timespec="seconds")


def _clean(text: str) -> str:
    """Text as both a FHIR string and XML may hold it: no controls, no half characters."""
    kept = "".join(c for c in text if c in "\n\t" or not _is_barred(c))
    return kept.strip()


def _is_barred(character: str) -> bool:
    return unicodedata.category(character) in {"Cc", "Cs"} or ord(character) & 0xFFFE == 0xFFFE


def _kept(values: Resource) -> Resource:
    """Without what is None or empty: JSON of FHIR has no nulls and no empty arrays."""
    return {name: value for name, value in values.items() if value not in (None, "", [], {})}
