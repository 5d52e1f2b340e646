"""Clinical signs: every row of WHO's tables with its boundary, the laws, words for each code."""

from __future__ import annotations

import inspect
import math
from dataclasses import fields, replace
from typing import Any

import pytest
from django.utils import translation
from hypothesis import assume, given
from hypothesis import strategies as st

from app import clinical_words
from app.cxr import signs as rules
from app.cxr.signs import CLASSIFICATIONS, DANGER_SIGNS, URGENCIES, InvalidSign, Signs, assess

DAY = 1 / 365.25
NEWBORN, INFANT = 3 * DAY, 30 * DAY
BABY, CHILD, SCHOOLCHILD, ADULT = 6 / 12, 3.0, 9.0, 40.0

WELL_INFANT = Signs(
    breaths_per_minute=45,
    temperature_celsius=37.0,
    oxygen_saturation=97,
    danger_signs=frozenset(),
)
WELL_CHILD = Signs(
    breaths_per_minute=30,
    oxygen_saturation=97,
    chest_indrawing=False,
    stridor_in_calm_child=False,
    wheeze=False,
    danger_signs=frozenset(),
)
WELL_ADULT = Signs(
    breaths_per_minute=16,
    temperature_celsius=37.0,
    oxygen_saturation=97,
    chest_pain=False,
    night_sweats=False,
    cough_days=3,
    danger_signs=frozenset(),
)
WELL = {NEWBORN: WELL_INFANT, INFANT: WELL_INFANT, BABY: WELL_CHILD, CHILD: WELL_CHILD}
WELL |= {ADULT: WELL_ADULT}


def found(age: float, **changed):
    return assess(replace(WELL[age], **changed), age)


def rank(assessment: rules.Assessment) -> tuple[int, int]:
    return (
        URGENCIES.index(assessment.urgency),
        CLASSIFICATIONS.index(assessment.classification),
    )


# --- ages -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("age_years", "rule"),
    [
        (0.0, "imci_young_infant"),
        (59 * DAY, "imci_young_infant"),
        (60 * DAY, "imci"),
        (1 / 12, "imci_young_infant"),
        (2 / 12, "imci"),
        (0.162, "imci_young_infant"),  # 059D as the DICOM reader rounds it
        (0.164, "imci"),  # 060D
        (4.99, "imci"),
        (5.0, "none"),
        (12.0, "none"),
        (14.99, "none"),
        (15.0, "imai"),
        (130.0, "imai"),
        (None, "none"),
        (math.nan, "none"),
    ],
)
def test_an_age_has_the_rule_of_its_table(age_years, rule):
    assert rules.rule_for_age(age_years) == rule


@pytest.mark.parametrize(
    ("age_years", "breaths"),
    [
        (0.0, 60),
        (59 * DAY, 60),
        (60 * DAY, 50),
        (2 / 12, 50),
        (11 / 12, 50),
        (364 * DAY, 50),
        (365 * DAY, 40),
        (1.0, 40),
        (4.99, 40),
        (5.0, None),
        (14.99, None),
        (15.0, 20),
        (None, None),
    ],
)
def test_fast_breathing_begins_where_the_table_says(age_years, breaths):
    assert rules.fast_breathing_from(age_years) == breaths


@pytest.mark.parametrize("age_years", [-0.01, 130.1, math.inf, -math.inf])
def test_it_refuses_an_age_that_cannot_be(age_years):
    with pytest.raises(InvalidSign) as refused:
        assess(Signs(), age_years)
    assert refused.value.code == "age_out_of_range"


@pytest.mark.parametrize("age_years", [5.0, 7.5, 12.0, 14.99])
def test_from_5_to_14_years_it_says_that_there_is_no_rule(age_years):
    answer = assess(WELL_CHILD, age_years)

    assert (answer.rule, answer.classification, answer.urgency) == ("none", "no_rule", "none")
    assert answer.because == ("no_rule_for_age",)
    assert answer.sources == ()
    assert rules.signs_for_age(age_years) == ()


def test_an_unknown_age_has_no_rule_and_is_what_is_missing():
    answer = assess(WELL_ADULT, None)

    assert (answer.rule, answer.classification) == ("none", "no_rule")
    assert answer.because == ("age_unknown",)
    assert answer.missing == ("age_years",)


@pytest.mark.parametrize(
    "changed",
    [
        {"danger_signs": frozenset({"convulsions"})},
        {"oxygen_saturation": 89},
        {"stridor_in_calm_child": True},
    ],
)
@pytest.mark.parametrize("age_years", [SCHOOLCHILD, None])
def test_danger_is_urgent_even_where_there_is_no_rule(age_years, changed):
    answer = assess(Signs(**changed), age_years)

    assert answer.classification == "no_rule"
    assert answer.urgency == "refer_urgently"
    assert answer.actions[0] == "treat_danger_signs_first"


# --- under 2 months -------------------------------------------------------------------------------

PSBI = "possible_serious_bacterial_infection"
YOUNG_INFANTS: list[Any] = [
    (NEWBORN, {}, "no_pneumonia", "home_care", ()),
    (INFANT, {}, "no_pneumonia", "home_care", ()),
    (INFANT, {"breaths_per_minute": 59}, "no_pneumonia", "home_care", ()),
    (INFANT, {"breaths_per_minute": 60}, "pneumonia", "treat", ("fast_breathing",)),
    (6 * DAY, {"breaths_per_minute": 59}, "no_pneumonia", "home_care", ()),
    (6 * DAY, {"breaths_per_minute": 60}, PSBI, "refer_urgently", ("fast_breathing",)),
    (7 * DAY, {"breaths_per_minute": 60}, "pneumonia", "treat", ("fast_breathing",)),
    (59 * DAY, {"breaths_per_minute": 60}, "pneumonia", "treat", ("fast_breathing",)),
    (INFANT, {"temperature_celsius": 37.9}, "no_pneumonia", "home_care", ()),
    (INFANT, {"temperature_celsius": 38.0}, PSBI, "refer_urgently", ("fever_38",)),
    (INFANT, {"temperature_celsius": 35.5}, "no_pneumonia", "home_care", ()),
    (INFANT, {"temperature_celsius": 35.4}, PSBI, "refer_urgently", ("low_temperature",)),
    (INFANT, {"oxygen_saturation": 90}, "no_pneumonia", "home_care", ()),
    (INFANT, {"oxygen_saturation": 89}, PSBI, "refer_urgently", ("low_oxygen",)),
    *(
        (INFANT, {"danger_signs": frozenset({sign})}, PSBI, "refer_urgently", (sign,))
        for sign in rules.danger_signs_for_age(INFANT)
    ),
]


@pytest.mark.parametrize(("age", "changed", "classification", "urgency", "because"), YOUNG_INFANTS)
def test_a_row_of_the_table_for_young_infants(age, changed, classification, urgency, because):
    answer = assess(replace(WELL_INFANT, **changed), age)

    assert answer.rule == "imci_young_infant"
    assert (answer.classification, answer.urgency) == (classification, urgency)
    assert answer.because == because
    assert answer.missing == ()
    assert answer.sources[0] == "imci_young_infant_2019"


def test_a_young_infant_with_a_danger_sign_gets_what_the_chart_says_in_its_order():
    assert found(INFANT, danger_signs=frozenset({"not_feeding_well"})).actions == (
        "first_dose_injection",
        "prevent_low_blood_sugar",
        "keep_warm",
        "refer_urgently",
        "if_referral_impossible",
    )


def test_fast_breathing_of_a_young_infant_is_counted_twice_and_treated_for_7_days():
    assert found(INFANT, breaths_per_minute=60).actions[:2] == ("count_again", "amoxicillin_7_days")
    assert found(NEWBORN, breaths_per_minute=60).actions[0] == "count_again"


# --- 2 months up to 5 years -----------------------------------------------------------------------

CHILDREN: list[Any] = [
    (BABY, {}, "no_pneumonia", "home_care", ()),
    (BABY, {"breaths_per_minute": 49}, "no_pneumonia", "home_care", ()),
    (BABY, {"breaths_per_minute": 50}, "pneumonia", "treat", ("fast_breathing",)),
    (2 / 12, {"breaths_per_minute": 49}, "no_pneumonia", "home_care", ()),
    (2 / 12, {"breaths_per_minute": 50}, "pneumonia", "treat", ("fast_breathing",)),
    (11 / 12, {"breaths_per_minute": 49}, "no_pneumonia", "home_care", ()),
    (1.0, {"breaths_per_minute": 39}, "no_pneumonia", "home_care", ()),
    (1.0, {"breaths_per_minute": 40}, "pneumonia", "treat", ("fast_breathing",)),
    (CHILD, {"breaths_per_minute": 39}, "no_pneumonia", "home_care", ()),
    (CHILD, {"breaths_per_minute": 40}, "pneumonia", "treat", ("fast_breathing",)),
    (4.99, {"breaths_per_minute": 40}, "pneumonia", "treat", ("fast_breathing",)),
    (CHILD, {"breaths_per_minute": 150}, "pneumonia", "treat", ("fast_breathing",)),
    (CHILD, {"oxygen_saturation": 90}, "no_pneumonia", "home_care", ()),
    (CHILD, {"oxygen_saturation": 89}, "severe_pneumonia", "refer_urgently", ("low_oxygen",)),
    (
        CHILD,
        {"stridor_in_calm_child": True},
        "severe_pneumonia",
        "refer_urgently",
        ("stridor_in_calm_child",),
    ),
    *(
        (CHILD, {"danger_signs": frozenset({sign})}, "severe_pneumonia", "refer_urgently", (sign,))
        for sign in rules.danger_signs_for_age(CHILD)
    ),
]


@pytest.mark.parametrize(("age", "changed", "classification", "urgency", "because"), CHILDREN)
def test_a_row_of_the_table_for_children_under_5(age, changed, classification, urgency, because):
    answer = assess(replace(WELL_CHILD, **changed), age)

    assert answer.rule == "imci"
    assert (answer.classification, answer.urgency) == (classification, urgency)
    assert answer.because == because
    assert answer.missing == ()
    assert answer.sources[0] == "imci_2014"


@pytest.mark.parametrize(
    ("hiv_status", "urgency", "missing"),
    [
        ("positive", "refer", ()),
        ("exposed", "refer", ()),
        ("negative", "treat", ()),
        ("unknown", "treat", ()),
        (None, "treat", ("hiv_status",)),
    ],
)
def test_chest_indrawing_is_pneumonia_and_with_hiv_it_is_referred(hiv_status, urgency, missing):
    answer = found(CHILD, chest_indrawing=True, hiv_status=hiv_status)

    assert (answer.classification, answer.urgency) == ("pneumonia", urgency)
    assert answer.because[0] == "chest_indrawing"
    assert answer.missing == missing
    assert ("first_dose_amoxicillin" in answer.actions) is (urgency == "refer")
    assert ("amoxicillin_5_days" in answer.actions) is (urgency == "treat")
    assert ("find_hiv_status" in answer.actions) is (hiv_status in (None, "unknown"))


def test_fast_breathing_alone_is_not_referred_because_of_hiv():
    assert found(CHILD, breaths_per_minute=45, hiv_status="positive").urgency == "treat"


@pytest.mark.parametrize("sign", [{"breaths_per_minute": 45}, {"chest_indrawing": True}])
def test_wheeze_with_a_sign_of_pneumonia_asks_for_a_bronchodilator_first(sign):
    answer = found(CHILD, wheeze=True, hiv_status="negative", **sign)

    assert answer.classification == "pneumonia"
    assert answer.actions[0] == "bronchodilator_trial"
    assert answer.missing == ("bronchodilator_trial",)


@pytest.mark.parametrize("trial", rules.BRONCHODILATOR_TRIALS)
def test_after_the_trial_the_pneumonia_is_final(trial):
    answer = found(CHILD, wheeze=True, breaths_per_minute=45, bronchodilator_trial=trial)

    assert answer.classification == "pneumonia"
    assert "bronchodilator_trial" not in answer.actions
    assert answer.missing == ()
    assert {"amoxicillin_5_days", "bronchodilator_5_days"} <= set(answer.actions)


def test_a_child_who_breathes_normally_after_the_trial_has_no_pneumonia():
    answer = found(CHILD, wheeze=True, breaths_per_minute=35, bronchodilator_trial="done")

    assert answer.classification == "no_pneumonia"
    assert "bronchodilator_5_days" in answer.actions


@pytest.mark.parametrize(("days", "sent"), [(14, False), (15, True)])
@pytest.mark.parametrize("breaths", [30, 45])
def test_a_child_who_coughs_for_more_than_14_days_is_sent_for_assessment(days, sent, breaths):
    answer = found(CHILD, breaths_per_minute=breaths, cough_days=days)

    assert ("refer_tb_or_asthma" in answer.actions) is sent


def test_a_child_is_seen_again_when_the_chart_says():
    assert found(CHILD, breaths_per_minute=45).actions[-1] == "follow_up_3_days"
    assert found(CHILD).actions[-1] == "follow_up_5_days_if_not_better"


def test_low_oxygen_names_the_pocket_book_beside_the_chart():
    answer = found(CHILD, oxygen_saturation=85)

    assert answer.sources == ("imci_2014", "pocket_book_2013")
    assert answer.actions[0] == "give_oxygen"


def test_a_convulsion_is_stopped_before_anything_else():
    assert found(CHILD, danger_signs=frozenset({"convulsing_now"})).actions[0] == "stop_convulsion"


# --- adults ---------------------------------------------------------------------------------------

ADULTS: list[Any] = [
    ({}, "no_pneumonia", "home_care", ()),
    ({"breaths_per_minute": 20}, "no_pneumonia", "home_care", ()),
    ({"chest_pain": True}, "no_pneumonia", "home_care", ()),
    ({"night_sweats": True}, "no_pneumonia", "home_care", ()),
    ({"breaths_per_minute": 19, "chest_pain": True}, "no_pneumonia", "home_care", ()),
    (
        {"breaths_per_minute": 20, "chest_pain": True},
        "pneumonia",
        "treat",
        ("fast_breathing", "chest_pain"),
    ),
    (
        {"breaths_per_minute": 20, "night_sweats": True},
        "pneumonia",
        "treat",
        ("fast_breathing", "night_sweats"),
    ),
    (
        {"chest_pain": True, "night_sweats": True},
        "pneumonia",
        "treat",
        ("chest_pain", "night_sweats"),
    ),
    ({"breaths_per_minute": 29}, "no_pneumonia", "home_care", ()),
    ({"breaths_per_minute": 30}, "severe_pneumonia", "refer_urgently", ("very_fast_breathing",)),
    ({"temperature_celsius": 38.9}, "no_pneumonia", "home_care", ()),
    ({"temperature_celsius": 39.0}, "severe_pneumonia", "refer_urgently", ("fever_39",)),
    ({"oxygen_saturation": 90}, "no_pneumonia", "home_care", ()),
    ({"oxygen_saturation": 89}, "severe_pneumonia", "refer_urgently", ("low_oxygen",)),
    ({"cough_days": 14}, "no_pneumonia", "home_care", ()),
    ({"cough_days": 15}, "possible_chronic_problem", "treat", ("long_cough",)),
    (
        {"cough_days": 15, "chest_pain": True, "night_sweats": True},
        "pneumonia",
        "treat",
        ("chest_pain", "night_sweats"),
    ),
    *(
        ({"danger_signs": frozenset({sign})}, "severe_pneumonia", "refer_urgently", (sign,))
        for sign in rules.danger_signs_for_age(ADULT)
    ),
]


@pytest.mark.parametrize(("changed", "classification", "urgency", "because"), ADULTS)
@pytest.mark.parametrize("age", [15.0, ADULT, 90.0])
def test_a_row_of_the_table_for_adults(age, changed, classification, urgency, because):
    answer = assess(replace(WELL_ADULT, **changed), age)

    assert answer.rule == "imai"
    assert (answer.classification, answer.urgency) == (classification, urgency)
    assert answer.because == because
    assert answer.missing == ()
    assert answer.sources[0] == "imai_2004"


@pytest.mark.parametrize(
    ("changed", "tested"),
    [
        ({}, False),
        ({"cough_days": 14}, False),
        ({"cough_days": 15}, True),
        ({"hiv_status": "positive"}, True),
        ({"hiv_status": "negative"}, False),
    ],
)
def test_sputum_is_tested_after_2_weeks_of_cough_or_with_hiv(changed, tested):
    answer = found(ADULT, chest_pain=True, night_sweats=True, **changed)

    assert ("sputum_for_tb" in answer.actions) is tested


@pytest.mark.parametrize("sign", ["central_cyanosis", "severe_respiratory_distress"])
def test_what_the_acute_care_module_does_not_list_names_the_district_manual(sign):
    assert found(ADULT, danger_signs=frozenset({sign})).sources == ("imai_2004", "imai_2011")
    assert found(ADULT, danger_signs=frozenset({"severe_chest_pain"})).sources == ("imai_2004",)


# --- what is missing ------------------------------------------------------------------------------

NEEDED = {
    INFANT: ["danger_signs", "breaths_per_minute", "temperature_celsius", "oxygen_saturation"],
    CHILD: [
        "danger_signs",
        "breaths_per_minute",
        "chest_indrawing",
        "stridor_in_calm_child",
        "oxygen_saturation",
        "wheeze",
    ],
    ADULT: [
        "danger_signs",
        "breaths_per_minute",
        "temperature_celsius",
        "oxygen_saturation",
        "chest_pain",
        "night_sweats",
        "cough_days",
    ],
}


@pytest.mark.parametrize(
    ("age", "field"), [(age, field) for age, needed in NEEDED.items() for field in needed]
)
def test_without_a_sign_that_the_table_needs_it_never_says_no_pneumonia(age, field):
    answer = found(age, **{field: None})

    assert (answer.classification, answer.urgency) == ("incomplete", "none")
    assert answer.missing == (field,)
    assert answer.actions == ("complete_the_signs",)


@pytest.mark.parametrize("age", NEEDED)
def test_where_nothing_was_asked_everything_is_missing(age):
    assert assess(Signs(), age).missing == tuple(NEEDED[age])


@pytest.mark.parametrize("age", NEEDED)
def test_a_clinic_without_an_oximeter_still_gets_an_answer(age):
    answer = found(age, oxygen_saturation=None, without_oximeter=True)

    assert (answer.classification, answer.missing) == ("no_pneumonia", ())


@pytest.mark.parametrize("age", NEEDED)
def test_one_danger_sign_decides_before_anything_else_is_asked(age):
    sign = rules.danger_signs_for_age(age)[0]
    answer = assess(Signs(danger_signs=frozenset({sign})), age)

    assert answer.urgency == "refer_urgently"
    assert answer.missing == ()


def test_pneumonia_still_names_what_could_make_it_graver():
    answer = assess(Signs(breaths_per_minute=55), BABY)

    assert answer.classification == "pneumonia"
    assert answer.missing == (
        "danger_signs",
        "chest_indrawing",
        "stridor_in_calm_child",
        "oxygen_saturation",
        "wheeze",
    )


def test_pneumonia_of_an_adult_still_names_what_could_make_it_severe():
    answer = assess(Signs(chest_pain=True, night_sweats=True), ADULT)

    assert answer.classification == "pneumonia"
    assert answer.missing == tuple(NEEDED[INFANT])


# --- entries that cannot be -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "low", "high", "step"),
    [
        ("breaths_per_minute", 5, 150, 1),
        ("oxygen_saturation", 30, 100, 1),
        ("temperature_celsius", 30, 45, 0.1),
        ("cough_days", 0, 3650, 1),
    ],
)
def test_it_takes_a_number_up_to_the_ends_of_its_range_and_no_further(field, low, high, step):
    assert getattr(Signs(**{field: low}), field) == low
    assert getattr(Signs(**{field: high}), field) == high
    for slip in (low - step, high + step, math.nan, math.inf):
        with pytest.raises(ValueError) as refused:
            Signs(**{field: slip})
        assert refused.value.code == f"{field}_out_of_range"


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"danger_signs": frozenset({"sneezes"})}, "unknown_danger_sign"),
        ({"danger_signs": frozenset({"convulsions", "sneezes"})}, "unknown_danger_sign"),
        ({"hiv_status": "maybe"}, "unknown_hiv_status"),
        ({"hiv_status": ""}, "unknown_hiv_status"),
        ({"bronchodilator_trial": "yes"}, "unknown_bronchodilator_trial"),
    ],
)
def test_it_refuses_a_code_that_it_does_not_know(changed, code):
    with pytest.raises(InvalidSign) as refused:
        Signs(**changed)
    assert refused.value.code == code


# --- laws -----------------------------------------------------------------------------------------

AGES = st.one_of(
    st.none(),
    st.sampled_from([0.0, 6 * DAY, 7 * DAY, 59 * DAY, 60 * DAY, 2 / 12, 1.0, 4.99, 5.0, 14.99, 15]),
    st.floats(0, 5),
    st.floats(0, 130),
)
ANSWERS = st.sampled_from([None, False, True])
NUMBERS = {
    "breaths_per_minute": st.integers(5, 150),
    "temperature_celsius": st.floats(30, 45),
    "oxygen_saturation": st.integers(30, 100),
    "cough_days": st.integers(0, 60),
}
ANY_SIGNS = st.builds(
    Signs,
    **{field: st.none() | numbers for field, numbers in NUMBERS.items()},
    without_oximeter=st.booleans(),
    chest_indrawing=ANSWERS,
    stridor_in_calm_child=ANSWERS,
    wheeze=ANSWERS,
    bronchodilator_trial=st.sampled_from([None, *rules.BRONCHODILATOR_TRIALS]),
    hiv_status=st.sampled_from([None, *rules.HIV_STATUSES]),
    chest_pain=ANSWERS,
    night_sweats=ANSWERS,
    danger_signs=st.none() | st.frozensets(st.sampled_from(DANGER_SIGNS), max_size=2),
)
SIGN_FIELDS = [field.name for field in fields(Signs) if field.name != "without_oximeter"]


@given(ANY_SIGNS, AGES, st.sampled_from(DANGER_SIGNS))
def test_a_danger_sign_always_means_refer_urgently(signs, age, sign):
    with_sign = replace(signs, danger_signs=(signs.danger_signs or frozenset()) | {sign})

    assert assess(with_sign, age).urgency == "refer_urgently"
    assert rank(assess(with_sign, age)) >= rank(assess(signs, age))


@given(ANY_SIGNS, AGES, st.integers(5, 150), st.integers(5, 150))
def test_more_breaths_never_lower_the_class_or_the_urgency(signs, age, one, other):
    fewer, more = sorted((one, other))
    calmer = assess(replace(signs, breaths_per_minute=fewer), age)
    faster = assess(replace(signs, breaths_per_minute=more), age)

    assert URGENCIES.index(faster.urgency) >= URGENCIES.index(calmer.urgency)
    assert rank(faster)[1] >= rank(calmer)[1]


@given(ANY_SIGNS, AGES, st.integers(30, 100), st.integers(30, 100))
def test_less_oxygen_never_lowers_the_urgency(signs, age, one, other):
    less, more = sorted((one, other))

    short = assess(replace(signs, oxygen_saturation=less), age)
    assert rank(short) >= rank(assess(replace(signs, oxygen_saturation=more), age))


@given(ANY_SIGNS, AGES, st.sampled_from(SIGN_FIELDS))
def test_a_missing_sign_is_named_or_makes_nothing_safer(signs, age, field):
    signs = replace(signs, without_oximeter=False)
    known, without = assess(signs, age), assess(replace(signs, **{field: None}), age)

    assume(field in rules.signs_for_age(age))
    assert field in without.missing or rank(without) >= rank(known)
    assert field not in without.missing or without.classification != "no_pneumonia"


@given(ANY_SIGNS, AGES)
def test_the_safe_class_is_given_only_when_nothing_is_missing(signs, age):
    answer = assess(signs, age)

    if answer.classification == "no_pneumonia":
        assert answer.missing == ()
        assert answer.because == ()
        assert answer.urgency == "home_care"
    else:
        assert answer.urgency != "home_care"
    if answer.classification == "incomplete":
        assert answer.missing


@given(ANY_SIGNS, AGES)
def test_every_answer_is_made_of_known_codes(signs, age):
    answer = assess(signs, age)

    assert answer.rule in rules.RULES
    assert answer.classification in CLASSIFICATIONS
    assert answer.urgency in URGENCIES
    assert set(answer.actions) <= set(clinical_words.ACTIONS)
    assert set(answer.because) <= set(clinical_words.REASONS)
    assert set(answer.missing) <= {*rules.signs_for_age(age), "age_years"}
    assert set(answer.sources) <= set(rules.SOURCES)
    assert len(set(answer.actions)) == len(answer.actions) > 0
    assert bool(answer.sources) is (answer.rule != "none")


def test_the_picture_has_no_way_into_the_assessment():
    assert list(inspect.signature(assess).parameters) == ["signs", "age_years"]
    known = {field.name for field in fields(Signs)}
    assert not known & {"probability", "answer", "finding", "film", "threshold"}


# --- words ----------------------------------------------------------------------------------------

WORDS = {
    "RULES": rules.RULES,
    "CLASSIFICATIONS": CLASSIFICATIONS,
    "URGENCIES": URGENCIES,
    "DANGER_SIGNS": DANGER_SIGNS,
    "HIV_STATUSES": rules.HIV_STATUSES,
    "BRONCHODILATOR_TRIALS": rules.BRONCHODILATOR_TRIALS,
    "SOURCES": rules.SOURCES,
    "ERRORS": rules.ERRORS,
    "FIELDS": [*(field.name for field in fields(Signs)), "age_years"],
}


@pytest.mark.parametrize(("table", "codes"), WORDS.items())
def test_there_are_words_for_exactly_the_codes_there_are(table, codes):
    assert set(getattr(clinical_words, table)) == set(codes)


def every_answer() -> list[rules.Assessment]:
    """An answer of every row, with each switch of its actions turned."""
    rows: list[tuple[Signs, float | None, dict[str, Any]]] = []
    rows += [(WELL_INFANT, age, changed) for age, changed, *_ in YOUNG_INFANTS]
    rows += [(WELL_CHILD, age, changed) for age, changed, *_ in CHILDREN]
    rows += [(WELL_ADULT, ADULT, changed) for changed, *_ in ADULTS]
    rows += [(WELL_CHILD, CHILD, {"chest_indrawing": True, "hiv_status": "positive"})]
    rows += [(WELL_CHILD, CHILD, {"chest_indrawing": True}), (WELL_CHILD, None, {})]
    rows += [(WELL_CHILD, SCHOOLCHILD, {"oxygen_saturation": 80}), (Signs(), CHILD, {})]
    switches: list[dict[str, Any]] = [{}, {"wheeze": True}, {"cough_days": 20}]
    return [
        assess(replace(signs, **{**switch, **changed}), age)
        for signs, age, changed in rows
        for switch in switches
    ]


def test_there_are_words_for_exactly_the_actions_and_reasons_there_are():
    answers = every_answer()

    used = {action for answer in answers for action in answer.actions}
    assert used == set(clinical_words.ACTIONS)
    because = {reason for answer in answers for reason in answer.because}
    assert because == set(clinical_words.REASONS)


@pytest.mark.parametrize("table", [*WORDS, "ACTIONS", "REASONS"])
def test_words_are_marked_for_translation_and_end_as_words_do(table):
    for code, words in getattr(clinical_words, table).items():
        assert hasattr(words, "_proxy____cast"), code
        with translation.override(None):
            shown = str(words)
        assert shown == shown.strip() != ""
        assert "_" not in shown
        assert "%(" not in shown


@pytest.mark.parametrize("age", [INFANT, CHILD, ADULT])
def test_a_form_can_be_drawn_from_the_codes_of_an_age(age):
    asked = rules.signs_for_age(age)

    assert asked[0] == "danger_signs"
    assert set(asked) <= set(clinical_words.FIELDS)
    assert set(NEEDED[age]) <= set(asked)
    assert set(rules.danger_signs_for_age(age)) <= set(clinical_words.DANGER_SIGNS)
