"""A study as FHIR: held to R4's own classes, labelled where a computer spoke, the same twice."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any
from uuid import UUID
from xml.etree import ElementTree

import pytest
from fhir.resources.R4B.bundle import Bundle
from hypothesis import given
from hypothesis import strategies as st

from app.cxr import fhir_out
from app.cxr.fhir_out import Answer, Film, HumanReading, ImagedStudy, Subject
from app.cxr.regions import Region

CLINIC = UUID("3b241101-e2bb-4255-8caf-4136c566a962")
EAST = timezone(timedelta(hours=3))
AT = datetime(2026, 7, 1, 10, 30, 15, tzinfo=EAST)
LATER = AT + timedelta(hours=2)
REGION = Region(x=40, y=90, width=50, height=60, zone="right lower", score=0.8)
PATIENT = Subject("7", "Okello Grace", "P-77", "F", date(2023, 2, 28))
LIKELY = Answer("likely", "chest@1.2", AT, 0.934, 0.41, regions=(REGION,), age_years=3.0)
REFUSED = Answer("refused", "chest@1.2", AT, reason="page_of_text", because="A page of text.")
READING = HumanReading("1", "4", "Dr Achieng", LATER, "conclusion", "pneumonia", True, True)


def study(**other: Any) -> ImagedStudy:
    values: dict[str, Any] = {
        "clinic": CLINIC,
        "number": "20260701-0001",
        "started": AT,
        "subject": PATIENT,
        "films": [Film("a1", LIKELY)],
    }
    return ImagedStudy(**(values | other))


def sent(**other: Any) -> dict[str, Any]:
    """The bundle as it travels, which holds to R4."""
    made = json.loads(json.dumps(fhir_out.bundle(study(**other)), allow_nan=False))
    Bundle.model_validate(made)
    return made


def resources(made: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    found = [entry["resource"] for entry in made["entry"]]
    return [one for one in found if one["resourceType"] == kind]


def only(made: dict[str, Any], kind: str) -> dict[str, Any]:
    (one,) = resources(made, kind)
    return one


def observation(made: dict[str, Any], code: str = "pneumonia_signs") -> dict[str, Any]:
    found = [one for one in resources(made, "Observation") if code in codes(one["code"])]
    (one,) = found
    return one


def codes(concept: dict[str, Any]) -> set[str]:
    return {coding["code"] for coding in concept["coding"]}


def components(one: dict[str, Any]) -> dict[str, Any]:
    """Of an observation: each component's value by its code."""
    return {
        next(iter(codes(part["code"]))): next(v for k, v in part.items() if k.startswith("value"))
        for part in one.get("component", ())
    }


def is_labelled(one: dict[str, Any]) -> bool:
    labels = one.get("meta", {}).get("security", ())
    return any(
        (label["system"], label["code"])
        == ("http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "AIAST")
        for label in labels
    )


def every(value: Any) -> list[Any]:
    """Each value inside, at whatever depth."""
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [value, *(deeper for one in inside for deeper in every(one))]


CASES = {
    "likely": {},
    "unlikely": {"films": [Film("a1", replace(LIKELY, answer="unlikely", regions=()))]},
    "cannot say": {
        "films": [Film("a1", replace(LIKELY, answer="cannot_say", reason="near_the_threshold"))]
    },
    "refused": {"films": [Film("a1", REFUSED)]},
    "unreadable": {"films": [Film("a1", replace(REFUSED, answer="unreadable", reason="empty"))]},
    "without an answer": {"films": [Film("a1")]},
    "two films by two models": {
        "films": [Film("a1", LIKELY), Film("a2", replace(LIKELY, model="chest@1.3"))]
    },
    "no film": {"films": []},
    "of nobody": {"subject": None},
    "of somebody with a number alone": {"subject": Subject("7", number="P-77")},
    "of somebody of another sex": {"subject": replace(PATIENT, sex="O")},
    "age unknown": {"films": [Film("a1", replace(LIKELY, age_years=None))]},
    "from DICOM": {
        "study_uid": "1.2.3.4",
        "accession_number": "ACC 12",
        "films": [Film("a1", LIKELY, "1.2.3.4.5.6", "1.2.840.10008.5.1.4.1.1.1", "1.2.3.4.5")],
    },
    "read": {"readings": [READING]},
    "read twice and diagnosed": {
        "readings": [
            READING,
            replace(READING, key="2", reader_key="5", reader="Dr B", conclusion="unsure"),
            replace(READING, key="3", kind="diagnosis", conclusion="other", agrees=None),
        ]
    },
    "in Arabic": {"language": "ar", "words": {"likely": "مرجح", "patient": "المريض"}},
    "hostile": {
        "subject": Subject("7", '<b>"&\x00\x1f\ud800\uffff', "  \n "),
        "readings": [replace(READING, note="</div><script>alert(1)</script>", reader=" ")],
    },
}


class TestItHoldsToTheStandard:
    @pytest.mark.parametrize("other", CASES.values(), ids=CASES.keys())
    def test_of_every_kind_of_study(self, other):
        made = sent(**other)

        assert made["type"] == "transaction"

    @pytest.mark.parametrize("other", CASES.values(), ids=CASES.keys())
    def test_there_is_nothing_null_and_nothing_empty(self, other):
        assert all(value not in (None, "", [], {}) for value in every(sent(**other)))

    @pytest.mark.parametrize("other", CASES.values(), ids=CASES.keys())
    def test_every_reference_leads_to_a_resource_of_the_bundle(self, other):
        made = sent(**other)
        there = {entry["fullUrl"] for entry in made["entry"]}
        references = {one["reference"] for one in every(made) if isinstance(one, dict)
                      and "reference" in one}  # fmt: skip

        assert references
        assert references <= there
        assert len(there) == len(made["entry"])

    @pytest.mark.parametrize("other", CASES.values(), ids=CASES.keys())
    def test_the_narrative_is_well_formed_xhtml(self, other):
        divs = [
            text["div"] for one in every(sent(**other)) if isinstance(one, dict)
            and isinstance(text := one.get("text"), dict)
        ]  # fmt: skip

        assert divs
        for div in divs:
            root = ElementTree.fromstring(div.encode())
            assert root.tag == "{http://www.w3.org/1999/xhtml}div"
            assert {child.tag for child in root.iter()} <= {
                "{http://www.w3.org/1999/xhtml}" + tag for tag in ("div", "p", "b")
            }
            assert "".join(root.itertext()).strip()

    def test_the_schema_that_it_is_held_to_does_refuse(self):
        made = fhir_out.bundle(study())
        del only(made, "ImagingStudy")["subject"]

        with pytest.raises(ValueError, match="subject"):
            Bundle.model_validate(made)

    def test_a_time_without_a_time_zone_is_refused(self):
        with pytest.raises(ValueError, match="time zone"):
            fhir_out.bundle(study(started=datetime(2026, 7, 1)))  # noqa: DTZ001

    def test_times_keep_their_offset(self):
        assert only(sent(), "ImagingStudy")["started"] == "2026-07-01T10:30:15+03:00"


class TestTheLabel:
    def test_is_on_what_the_computer_said_and_on_the_report_of_it(self):
        made = sent()

        assert is_labelled(observation(made))
        assert is_labelled(only(made, "DiagnosticReport"))
        assert is_labelled(made)

    def test_is_on_a_refusal_too(self):
        assert is_labelled(observation(sent(films=[Film("a1", REFUSED)])))

    @pytest.mark.parametrize("kind", ["conclusion", "diagnosis"])
    def test_is_not_on_what_a_person_said(self, kind):
        made = sent(readings=[replace(READING, kind=kind)])

        assert not is_labelled(observation(made, kind))
        assert is_labelled(observation(made))

    def test_is_on_nothing_else(self):
        made = sent(readings=[READING])
        labelled = {one["resourceType"] for entry in made["entry"]
                    if is_labelled(one := entry["resource"])}  # fmt: skip

        assert labelled == {"Observation", "DiagnosticReport"}

    def test_is_nowhere_where_the_computer_said_nothing(self):
        made = sent(films=[Film("a1")], readings=[READING])

        assert "AIAST" not in json.dumps(made)


class TestTheAnswer:
    @pytest.mark.parametrize(
        ("answer", "snomed", "interpretation"),
        [
            ("likely", "2931005", "POS"),
            ("unlikely", "385434005", "NEG"),
            ("cannot_say", "82334004", "IND"),
        ],
    )
    def test_is_coded_in_the_programs_words_in_snomed_and_as_interpretation(
        self, answer, snomed, interpretation
    ):
        found = observation(sent(films=[Film("a1", replace(LIKELY, answer=answer))]))

        assert codes(found["valueCodeableConcept"]) == {answer, snomed}
        assert codes(found["interpretation"][0]) == {interpretation}

    def test_probability_threshold_and_answer_are_three_numbers_and_a_code(self):
        found = components(observation(sent()))

        assert found["probability"]["value"] == 0.934
        assert found["threshold"]["value"] == 0.41
        assert found["30525-0"]["value"] == 3.0
        assert found["30525-0"]["code"] == "a"

    def test_what_is_unknown_is_left_out_and_is_not_nought(self):
        found = components(observation(sent(films=[Film("a1", REFUSED)])))

        assert found.keys() == {"sop_instance_uid"}

    def test_a_probability_of_nought_is_said(self):
        found = components(observation(sent(films=[Film("a1", replace(LIKELY, probability=0.0))])))

        assert found["probability"]["value"] == 0

    def test_a_number_that_is_none_is_left_out(self):
        odd = replace(LIKELY, probability=float("nan"))

        assert "probability" not in components(observation(sent(films=[Film("a1", odd)])))

    def test_a_refusal_has_no_value_and_says_why(self):
        found = observation(sent(films=[Film("a1", REFUSED)]))

        assert "valueCodeableConcept" not in found
        assert codes(found["dataAbsentReason"]) == {"page_of_text", "not-performed"}
        assert found["status"] == "cancelled"
        assert found["note"] == [{"text": "A page of text."}]

    def test_a_region_is_its_zone_and_its_box(self):
        (part,) = [
            part for part in observation(sent())["component"] if codes(part["code"]) == {"region"}
        ]
        (box,) = part["extension"]
        sides = {one["url"]: one.get("valueInteger", one.get("valueDecimal"))
                 for one in box["extension"]}  # fmt: skip

        assert codes(part["valueCodeableConcept"]) == {"right lower"}
        assert sides == {"x": 40, "y": 90, "width": 50, "height": 60, "score": 0.8}

    def test_it_rests_on_the_imaging_study_and_comes_from_the_model(self):
        made = sent()
        found = observation(made)
        device = only(made, "Device")

        assert found["derivedFrom"] == [{"reference": urn(made, "ImagingStudy")}]
        assert found["device"] == {"reference": urn(made, "Device")}
        assert device["version"] == [{"value": "1.2"}]
        assert codes(device["type"]) == {"706689003"}
        assert "performer" not in found


def urn(made: dict[str, Any], kind: str) -> str:
    (found,) = [e["fullUrl"] for e in made["entry"] if e["resource"]["resourceType"] == kind]
    return found


class TestTheReport:
    def test_is_preliminary_until_somebody_has_read_the_films(self):
        assert only(sent(), "DiagnosticReport")["status"] == "preliminary"
        assert observation(sent())["status"] == "preliminary"

        read = sent(readings=[READING])
        assert only(read, "DiagnosticReport")["status"] == "final"
        assert observation(read)["status"] == "final"

    def test_holds_both_results_and_the_readers_conclusion(self):
        made = sent(readings=[READING])
        report = only(made, "DiagnosticReport")

        assert len(report["result"]) == 2
        assert codes(report["conclusionCode"][0]) == {"pneumonia", "233604007"}
        assert codes(report["category"][0]) == {"RAD"}
        assert "30745-4" in codes(report["code"])
        assert report["resultsInterpreter"] == [{"reference": urn(made, "Practitioner")}]

    def test_concludes_nothing_in_a_code_before_a_person_did(self):
        assert "conclusionCode" not in only(sent(), "DiagnosticReport")

    def test_is_issued_when_the_last_of_it_was_said(self):
        report = only(sent(readings=[READING]), "DiagnosticReport")

        assert report["issued"] == "2026-07-01T12:30:15+03:00"

    def test_one_reader_of_two_readings_is_one_person(self):
        made = sent(readings=[READING, replace(READING, key="2", conclusion="unsure")])

        assert len(resources(made, "Practitioner")) == 1
        assert len(only(made, "DiagnosticReport")["performer"]) == 1


class TestAReading:
    def test_has_a_performer_and_says_whether_it_agrees(self):
        made = sent(readings=[READING])
        found = observation(made, "conclusion")

        assert found["performer"] == [{"reference": urn(made, "Practitioner")}]
        assert components(found) == {"agrees": True, "before_answer": True}
        assert "device" not in found

    def test_leaves_out_an_agreement_that_nobody_stated_and_says_a_disagreement(self):
        silent = observation(sent(readings=[replace(READING, agrees=None)]), "conclusion")
        against = observation(sent(readings=[replace(READING, agrees=False)]), "conclusion")

        assert "agrees" not in components(silent)
        assert components(against)["agrees"] is False


class TestWhereItComesFrom:
    def test_the_model_is_author_and_assembler_of_its_answer(self):
        made = sent()
        provenance = only(made, "Provenance")

        assert [codes(agent["type"]) for agent in provenance["agent"]] == [
            {"author"}, {"assembler"},
        ]  # fmt: skip
        assert {agent["who"]["reference"] for agent in provenance["agent"]} == {urn(made, "Device")}
        assert provenance["entity"][0]["what"]["reference"] == urn(made, "ImagingStudy")
        assert urn(made, "DiagnosticReport") in {
            target["reference"] for target in provenance["target"]
        }

    def test_the_reader_is_author_and_verifier_of_theirs(self):
        made = sent(films=[Film("a1")], readings=[READING])
        provenance = only(made, "Provenance")

        assert [codes(agent["type"]) for agent in provenance["agent"]] == [{"author"}, {"verifier"}]
        assert {agent["who"]["reference"] for agent in provenance["agent"]} == {
            urn(made, "Practitioner")
        }

    def test_a_film_without_dicom_gets_uids_of_its_own(self):
        imaging = only(sent(), "ImagingStudy")
        series = imaging["series"][0]

        uids = [series["uid"], series["instance"][0]["uid"]]
        assert all(re.fullmatch(r"2\.25\.[1-9][0-9]{0,38}", uid) for uid in uids)
        assert len(set(uids)) == 2
        assert imaging["identifier"][1]["value"].startswith("urn:oid:2.25.")
        assert imaging["modality"][0]["code"] == "RG"

    def test_a_dicom_film_keeps_its_own(self):
        imaging = only(sent(**CASES["from DICOM"]), "ImagingStudy")
        values = {one.get("system"): one["value"] for one in imaging["identifier"]}

        assert values["urn:dicom:uid"] == "urn:oid:1.2.3.4"
        assert values[None] == "ACC 12"
        (series,) = imaging["series"]
        assert series["uid"] == "1.2.3.4.5"
        assert series["modality"]["code"] == "CR"
        assert series["instance"][0] == {
            "uid": "1.2.3.4.5.6",
            "sopClass": {
                "system": "urn:ietf:rfc:3986",
                "code": "urn:oid:1.2.840.10008.5.1.4.1.1.1",
            },
        }

    def test_a_scan_beside_a_dicom_film_is_a_series_of_its_own(self):
        dicom = CASES["from DICOM"]["films"][0]
        imaging = only(sent(films=[dicom, Film("a2"), Film("a3")]), "ImagingStudy")

        assert imaging["numberOfSeries"] == 2
        assert [one["numberOfInstances"] for one in imaging["series"]] == [1, 2]
        assert [one["code"] for one in imaging["modality"]] == ["CR", "RG"]


class TestThePatient:
    def test_is_named_numbered_and_dated(self):
        patient = only(sent(), "Patient")

        assert patient["name"] == [{"text": "Okello Grace"}]
        assert patient["gender"] == "female"
        assert patient["birthDate"] == "2023-02-28"
        assert patient["identifier"][1]["value"] == "P-77"

    def test_that_nobody_knows_has_a_passing_identifier_and_nothing_else(self):
        patient = only(sent(subject=None), "Patient")

        assert patient.keys() == {"resourceType", "language", "text", "identifier"}
        assert patient["identifier"][0]["use"] == "temp"

    def test_of_unknown_sex_has_no_gender(self):
        assert "gender" not in only(sent(subject=Subject("7", "Okello")), "Patient")

    def test_of_another_clinic_is_another_even_with_the_same_number(self):
        here, there = only(sent(), "Patient"), only(sent(clinic=UUID(int=9)), "Patient")

        assert here["identifier"][0] != there["identifier"][0]
        assert here["identifier"][1]["system"] != there["identifier"][1]["system"]


class TestPostedTwice:
    def test_it_is_the_same_byte_for_byte(self):
        assert json.dumps(sent(readings=[READING])) == json.dumps(sent(readings=[READING]))

    def test_every_resource_is_put_where_its_own_identifier_is(self):
        for entry in sent(readings=[READING])["entry"]:
            resource, request = entry["resource"], entry["request"]
            if resource["resourceType"] == "Provenance":
                (tag,) = resource["meta"]["tag"]
                assert request["method"] == "POST"
                assert request["ifNoneExist"] == f"_tag={tag['system']}|{tag['code']}"
            else:
                own = resource["identifier"][0]
                wanted = f"{resource['resourceType']}?identifier={own['system']}|{own['value']}"
                assert (request["method"], request["url"]) == ("PUT", wanted)
                assert own["value"] == entry["fullUrl"]

    def test_a_reading_changes_neither_who_nor_what_it_is_about(self):
        before = Counter(entry["fullUrl"] for entry in sent()["entry"])
        after = Counter(entry["fullUrl"] for entry in sent(readings=[READING])["entry"])

        assert before <= after

    def test_a_new_answer_takes_the_place_of_the_old_one_and_is_an_event_of_its_own(self):
        again = replace(LIKELY, answer="unlikely", at=LATER)
        first, second = sent(), sent(films=[Film("a1", again)])

        assert observation(first)["identifier"] == observation(second)["identifier"]
        assert urn(first, "Provenance") != urn(second, "Provenance")


def test_the_manual_names_every_code_system_and_code_of_the_programs_own(root):
    manual = (root / "docs" / "integration.md").read_text(encoding="utf-8")
    own = {fhir_out.REGION}
    for made in (sent(**other) for other in CASES.values()):
        own |= {
            part
            for one in every(made)
            if isinstance(one, dict) and one.get("system") == fhir_out.CODES
            for part in (one["system"], one["code"])
        }

    free = {"page_of_text", "empty", "right lower", "image_classification"}
    assert {code for code in own - free if code not in manual} == set()


words = st.text(max_size=30)
keys = st.text("0123456789abcdef", min_size=1, max_size=8)
moments = st.datetimes(
    min_value=datetime(1990, 1, 1), max_value=datetime(2150, 1, 1),  # noqa: DTZ001
    timezones=st.sampled_from([UTC, EAST, timezone(timedelta(hours=-9, minutes=-30))]),
)  # fmt: skip
shares = st.none() | st.floats(0, 1)
regions = st.builds(
    Region,
    x=st.integers(0, 9999), y=st.integers(0, 9999),
    width=st.integers(1, 9999), height=st.integers(1, 9999),
    zone=st.sampled_from(["right upper", "left lower"]), score=st.floats(0, 1),
)  # fmt: skip
answers = st.builds(
    Answer,
    answer=st.sampled_from(["likely", "unlikely", "cannot_say", "refused", "unreadable"]),
    model=st.sampled_from(["chest@1.2", "chest", "@", "é@ü"]),
    at=moments, probability=shares, threshold=shares,
    reason=st.sampled_from(["", "too_small"]), because=words,
    regions=st.lists(regions, max_size=3), age_years=st.none() | st.floats(0, 120),
)  # fmt: skip
films = st.builds(Film, key=keys, answer=st.none() | answers)
readings = st.builds(
    HumanReading,
    key=keys, reader_key=keys, reader=words, at=moments,
    kind=st.sampled_from(["conclusion", "diagnosis"]),
    conclusion=st.sampled_from(["pneumonia", "no_pneumonia", "unsure", "other", "not_usable"]),
    agrees=st.none() | st.booleans(), before_answer=st.booleans(), note=words,
)  # fmt: skip
subjects = st.none() | st.builds(
    Subject,
    key=keys, name=words, number=words, sex=st.sampled_from(["", "M", "F", "O", "X"]),
    birth_date=st.none() | st.dates(),
)  # fmt: skip


@given(
    subject=subjects,
    films=st.lists(films, max_size=3, unique_by=lambda film: film.key),
    readings=st.lists(readings, max_size=3, unique_by=lambda reading: reading.key),
    started=moments,
    accession_number=st.text(max_size=16),
)
def test_whatever_is_put_in_it_holds_to_the_standard_and_bears_the_label(**values: Any):
    made = sent(**values)

    said = [
        one for one in resources(made, "Observation") if "pneumonia_signs" in codes(one["code"])
    ]
    assert len(said) == sum(film.answer is not None for film in values["films"])
    assert all(is_labelled(one) == (one in said) for one in resources(made, "Observation"))
    assert all(value not in (None, "", [], {}) for value in every(made))
