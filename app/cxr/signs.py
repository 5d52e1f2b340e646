"""What WHO's guidelines make of the signs at the bedside: beside the picture, never mixed with it.

For a patient with cough or difficult breathing. `signs_for_age` says what to ask, `Signs` holds the
answers, `assess` gives the guideline's class, how urgent it is, what to do, and what is still
missing. Nothing here knows a film or a probability (docs/adr/0011).

None means not asked: it is never taken for "no". A missing sign never gives the safe class.

The tables, by the codes of `SOURCES`:

- ``imci_young_infant_2019``, under 2 months (0-59 days), "Check for possible serious bacterial
  infection, very severe disease, pneumonia": any danger sign, 38.0 °C or more or below 35.5 °C, or
  under 7 days 60 breaths or more, is possible serious bacterial infection; from 7 days on, 60
  breaths alone are pneumonia. (The booklet of 2014 drew the line of fever at 37.5 °C.)
- ``imci_2014``, 2 months up to 5 years, "Does the child have cough or difficult breathing?":
  any general danger sign or stridor in a calm child is severe; chest indrawing or fast breathing
  (50 or more under 12 months, 40 or more from then on) is pneumonia; else cough or cold. Refer
  below 90 % oxygen saturation. Wheeze with signs of pneumonia: up to three trials of an inhaled
  bronchodilator, then count and look again. Chest indrawing with HIV exposure or infection: first
  dose and refer.
- ``pocket_book_2013``, sections 4.2 and 3: below 90 % the pneumonia is severe; oxygen.
- ``imai_2004``, "Cough or difficult breathing", first-level facilities, adolescents and adults:
  severe with any of 30 breaths or more, 39 °C or more, pulse of 120 or more, lethargy, not able to
  walk unaided, uncomfortable lying down, severe chest pain; pneumonia with two of fast breathing
  (20 or more), night sweats, chest pain; cough of more than 2 weeks is a possible chronic problem.
  (Later WHO texts write "more than 30": of the two, the line that refers one patient more is used.
  Recurrent episodes that wake the patient, also a chronic problem there, are not asked here. A
  third revision appeared in January 2009.)
- ``imai_2011``: oxygen saturation below 90 %, central cyanosis, severe respiratory distress.

From 5 up to 15 years there is no rule: IMCI ends at 5, and IMAI names adolescents and adults and
sends children to IMCI. IMAI is used from 15 years, the lower limit of the adults' band everywhere
in this program.

A danger sign, stridor or low oxygen counts at every age, whichever table asks for it and also where
there is no rule: an age corrected afterwards must not make it disappear.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

SOURCES = {
    "imci_young_infant_2019": (
        "World Health Organization. Integrated Management of Childhood Illness: management of the "
        "sick young infant aged up to 2 months. IMCI chart booklet. Geneva, 2019. "
        "ISBN 978-92-4-151636-5."
    ),
    "imci_2014": (
        "World Health Organization. Integrated Management of Childhood Illness. Chart booklet. "
        "Geneva, March 2014. ISBN 978-92-4-150682-3. "
        "Does the child have cough or difficult breathing?"
    ),
    "pocket_book_2013": (
        "World Health Organization. Pocket book of hospital care for children. Second edition. "
        "Geneva, 2013. ISBN 978-92-4-154837-3."
    ),
    "imai_2004": (
        "World Health Organization. Integrated Management of Adolescent and Adult Illness. "
        "Acute care: interim guidelines for first-level facility health workers. "
        "WHO/CDS/IMAI/2004.1 Rev. 1. Geneva, November 2004. Cough or difficult breathing."
    ),
    "imai_2011": (
        "World Health Organization. IMAI district clinician manual: hospital care for adolescents "
        "and adults. Geneva, 2011. ISBN 978-92-4-154828-1."
    ),
}
"""Full citations, as printed; never translated."""

RULES = ("imci_young_infant", "imci", "imai", "none")
URGENCIES = ("none", "home_care", "treat", "refer", "refer_urgently")
"""From the least to the most urgent; ``none`` where nothing can be said."""
CLASSIFICATIONS = (
    "no_rule",
    "incomplete",
    "no_pneumonia",
    "possible_chronic_problem",
    "pneumonia",
    "severe_pneumonia",
    "possible_serious_bacterial_infection",
)
"""From the mildest to the gravest; the last two are the gravest of their ages."""

HIV_STATUSES = ("positive", "exposed", "negative", "unknown")
BRONCHODILATOR_TRIALS = ("done", "not_possible")

_DANGER_SIGNS = {
    "imci_young_infant": (
        "not_feeding_well",
        "convulsions",
        "severe_chest_indrawing",
        "moves_only_when_stimulated",
    ),
    "imci": (
        "not_able_to_drink",
        "vomits_everything",
        "convulsions",
        "convulsing_now",
        "lethargic_or_unconscious",
    ),
    "imai": (
        "lethargic_or_unconscious",
        "not_able_to_walk_unaided",
        "uncomfortable_lying_down",
        "severe_chest_pain",
        "pulse_120_or_more",
        "severe_respiratory_distress",
        "central_cyanosis",
    ),
    "none": (),
}
DANGER_SIGNS = tuple(dict.fromkeys(sign for signs in _DANGER_SIGNS.values() for sign in signs))

_ASKED = {
    "imci_young_infant": (
        "danger_signs",
        "breaths_per_minute",
        "temperature_celsius",
        "oxygen_saturation",
        "without_oximeter",
    ),
    "imci": (
        "danger_signs",
        "breaths_per_minute",
        "chest_indrawing",
        "stridor_in_calm_child",
        "oxygen_saturation",
        "without_oximeter",
        "wheeze",
        "bronchodilator_trial",
        "hiv_status",
        "cough_days",
    ),
    "imai": (
        "danger_signs",
        "breaths_per_minute",
        "temperature_celsius",
        "oxygen_saturation",
        "without_oximeter",
        "chest_pain",
        "night_sweats",
        "wheeze",
        "hiv_status",
        "cough_days",
    ),
    "none": (),
}

RANGES = {
    "breaths_per_minute": (5, 150),
    "temperature_celsius": (30, 45),
    "oxygen_saturation": (30, 100),
    "cough_days": (0, 3650),
}
"""What can be entered, both ends included. Outside of it the entry is a slip, not a sign."""
_OLDEST = 130

LOW_OXYGEN = 90
LONG_COUGH_DAYS = 14
_DAYS_A_YEAR = 365.25


class InvalidSign(ValueError):
    """An entry that cannot be: ``code`` says which, and is one of `ERRORS`."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


ERRORS = (
    *(f"{field}_out_of_range" for field in RANGES),
    "age_out_of_range",
    "unknown_danger_sign",
    "unknown_hiv_status",
    "unknown_bronchodilator_trial",
)


@dataclass(frozen=True)
class Signs:
    """What was found at the bedside; None is not asked or not known.

    ``danger_signs``: the codes that are present, an empty set where all were asked and none is.
    ``without_oximeter``: the clinic has none, so the saturation is not waited for.
    ``bronchodilator_trial``: ``done`` when breaths and indrawing are those found after the trial.
    ``chest_indrawing`` is that of a child of 2 months or more: the severe one of a young infant is
    a danger sign. Temperatures are those of the armpit.

    Raises InvalidSign, a ValueError, for a number outside `RANGES` or a code that is not known.
    """

    breaths_per_minute: float | None = None
    temperature_celsius: float | None = None
    oxygen_saturation: float | None = None
    without_oximeter: bool = False
    chest_indrawing: bool | None = None
    stridor_in_calm_child: bool | None = None
    wheeze: bool | None = None
    bronchodilator_trial: str | None = None
    hiv_status: str | None = None
    cough_days: float | None = None
    chest_pain: bool | None = None
    night_sweats: bool | None = None
    danger_signs: frozenset[str] | None = None

    def __post_init__(self) -> None:
        for field, (low, high) in RANGES.items():
            value = getattr(self, field)
            if value is not None and not low <= value <= high:
                raise InvalidSign(f"{field}_out_of_range")
        if not (self.danger_signs or frozenset()) <= set(DANGER_SIGNS):
            raise InvalidSign("unknown_danger_sign")
        if self.hiv_status not in (None, *HIV_STATUSES):
            raise InvalidSign("unknown_hiv_status")
        if self.bronchodilator_trial not in (None, *BRONCHODILATOR_TRIALS):
            raise InvalidSign("unknown_bronchodilator_trial")


@dataclass(frozen=True)
class Assessment:
    """The guideline's word on some signs, all of it in stable codes.

    ``because``: the signs that decided, danger signs first; empty for the safe class.
    ``missing``: the fields of `Signs` (or ``age_years``) without which the class is not final: it
    may still be graver, or, before the trial of a bronchodilator, milder.
    ``sources``: keys of `SOURCES`, the table first; empty where there is no rule.
    """

    rule: str
    classification: str
    urgency: str
    actions: tuple[str, ...] = ()
    because: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()


def rule_for_age(age_years: float | None) -> str:
    """The code of the table for an age in years, one of `RULES`; ``none`` for None and NaN.

    Raises InvalidSign for an age below 0 or above 130.
    """
    if age_years is None or math.isnan(age_years):
        return "none"
    if not 0 <= age_years <= _OLDEST:
        raise InvalidSign("age_out_of_range")
    if _days(age_years) < 60:
        return "imci_young_infant"
    if age_years < 5:
        return "imci"
    return "imai" if age_years >= 15 else "none"


def signs_for_age(age_years: float | None) -> tuple[str, ...]:
    """The fields of `Signs` to ask for at this age, in the order of asking; none without a rule."""
    return _ASKED[rule_for_age(age_years)]


def danger_signs_for_age(age_years: float | None) -> tuple[str, ...]:
    """The codes of the danger signs to ask for at this age, in the order of asking."""
    return _DANGER_SIGNS[rule_for_age(age_years)]


def fast_breathing_from(age_years: float | None) -> int | None:
    """From how many breaths a minute on breathing is fast at this age; None without a rule."""
    rule = rule_for_age(age_years)
    if rule == "imci" and age_years is not None:
        return 50 if _days(age_years) < 365 else 40
    return {"imci_young_infant": 60, "imai": 20}.get(rule)


def assess(signs: Signs, age_years: float | None) -> Assessment:
    """The class, urgency and actions of the guideline for this age, and what is still missing.

    A danger sign never lowers the urgency, nor does a higher count of breaths. Where a sign that
    the table needs is missing, the class is ``incomplete`` or a grave one, never ``no_pneumonia``.

    Raises InvalidSign for an age below 0 or above 130.
    """
    return _TABLES[rule_for_age(age_years)](signs, age_years)


def _days(age_years: float) -> int:
    # Ages come as years rounded to three digits: the nearest whole day is the one that was meant.
    return round(age_years * _DAYS_A_YEAR)


def _at_least(value: float | None, limit: float | None) -> bool:
    return value is not None and limit is not None and value >= limit


def _below(value: float | None, limit: float) -> bool:
    return value is not None and value < limit


def _those(*pairs: tuple[str, bool]) -> tuple[str, ...]:
    """The codes whose condition holds, in order."""
    return tuple(code for code, holds in pairs if holds)


def _dangers(signs: Signs) -> tuple[str, ...]:
    """What refers a patient of any age."""
    present = signs.danger_signs or frozenset()
    return (
        *(code for code in DANGER_SIGNS if code in present),
        *_those(
            ("stridor_in_calm_child", signs.stridor_in_calm_child is True),
            ("low_oxygen", _below(signs.oxygen_saturation, LOW_OXYGEN)),
        ),
    )


def _missing(signs: Signs, fields: Iterable[str]) -> tuple[str, ...]:
    return tuple(
        field
        for field in fields
        if getattr(signs, field) is None
        and not (field == "oxygen_saturation" and signs.without_oximeter)
    )


def _long_cough(signs: Signs) -> bool:
    return signs.cough_days is not None and signs.cough_days > LONG_COUGH_DAYS


def _no_rule(signs: Signs, age_years: float | None) -> Assessment:
    unknown = age_years is None or math.isnan(age_years)
    dangers = _dangers(signs)
    return Assessment(
        rule="none",
        classification="no_rule",
        urgency="refer_urgently" if dangers else "none",
        actions=_those(
            ("treat_danger_signs_first", bool(dangers)),
            ("refer_urgently", bool(dangers)),
            ("follow_national_guideline", True),
        ),
        because=(*dangers, "age_unknown" if unknown else "no_rule_for_age"),
        missing=("age_years",) if unknown else (),
    )


def _young_infant(signs: Signs, age_years: float | None) -> Assessment:
    fast = _at_least(signs.breaths_per_minute, fast_breathing_from(age_years))
    first_week = age_years is not None and _days(age_years) < 7
    grave = _dangers(signs) + _those(
        ("chest_indrawing", signs.chest_indrawing is True),
        ("fever_38", _at_least(signs.temperature_celsius, 38)),
        ("low_temperature", _below(signs.temperature_celsius, 35.5)),
        ("fast_breathing", fast and first_week),
    )
    if grave:
        return _second_source(_possible_serious_infection(grave), "pocket_book_2013")
    needed = ("danger_signs", "breaths_per_minute", "temperature_celsius", "oxygen_saturation")
    missing = _missing(signs, needed)
    if fast:
        return Assessment(
            rule="imci_young_infant",
            classification="pneumonia",
            urgency="treat",
            actions=(
                "count_again",
                "amoxicillin_7_days",
                "home_care_young_infant",
                "return_at_once",
                "follow_up_3_days",
            ),
            because=("fast_breathing",),
            missing=missing,
            sources=("imci_young_infant_2019",),
        )
    actions = ("look_for_local_infection", "home_care_young_infant", "return_at_once")
    return _mildest("imci_young_infant", "imci_young_infant_2019", missing, actions)


def _possible_serious_infection(grave: tuple[str, ...]) -> Assessment:
    return Assessment(
        rule="imci_young_infant",
        classification="possible_serious_bacterial_infection",
        urgency="refer_urgently",
        actions=_those(
            ("count_again", grave == ("fast_breathing",)),
            ("stop_convulsion", "convulsing_now" in grave),
            ("give_oxygen", "low_oxygen" in grave),
            ("first_dose_injection", True),
            ("prevent_low_blood_sugar", True),
            ("keep_warm", True),
            ("refer_urgently", True),
            ("if_referral_impossible", True),
        ),
        because=grave,
        sources=("imci_young_infant_2019",),
    )


def _child(signs: Signs, age_years: float | None) -> Assessment:
    grave = _dangers(signs)
    if grave:
        return _second_source(_severe_child(grave), "pocket_book_2013")
    fast = _at_least(signs.breaths_per_minute, fast_breathing_from(age_years))
    because = _those(("chest_indrawing", signs.chest_indrawing is True), ("fast_breathing", fast))
    if because:
        return _child_pneumonia(signs, because)
    needed = (
        "danger_signs",
        "breaths_per_minute",
        "chest_indrawing",
        "stridor_in_calm_child",
        "oxygen_saturation",
        "wheeze",
    )
    actions = (*_cough_care(signs), "return_at_once", "follow_up_5_days_if_not_better")
    return _mildest("imci", "imci_2014", _missing(signs, needed), actions)


def _severe_child(grave: tuple[str, ...]) -> Assessment:
    general = bool(set(grave) & set(DANGER_SIGNS))
    return Assessment(
        rule="imci",
        classification="severe_pneumonia",
        urgency="refer_urgently",
        actions=_those(
            ("stop_convulsion", "convulsing_now" in grave),
            ("give_oxygen", "low_oxygen" in grave),
            ("first_dose_antibiotic", True),
            ("prevent_low_blood_sugar", general),
            ("keep_warm", general),
            ("refer_urgently", True),
            ("if_referral_impossible", True),
        ),
        because=grave,
        sources=("imci_2014",),
    )


def _child_pneumonia(signs: Signs, because: tuple[str, ...]) -> Assessment:
    indrawing = "chest_indrawing" in because
    refer = indrawing and signs.hiv_status in ("positive", "exposed")
    wheeze = signs.wheeze is True
    needed = [
        "danger_signs",
        "chest_indrawing",
        "stridor_in_calm_child",
        "oxygen_saturation",
        "wheeze",
        *(["bronchodilator_trial"] if wheeze else []),
        *(["hiv_status"] if indrawing else []),
    ]
    return Assessment(
        rule="imci",
        classification="pneumonia",
        urgency="refer" if refer else "treat",
        actions=(
            *_those(
                ("bronchodilator_trial", wheeze and signs.bronchodilator_trial is None),
                ("first_dose_amoxicillin", refer),
                ("refer_to_hospital", refer),
                ("amoxicillin_5_days", not refer),
                ("find_hiv_status", indrawing and signs.hiv_status in (None, "unknown")),
            ),
            *_cough_care(signs),
            "return_at_once",
            *_those(("follow_up_3_days", not refer)),
        ),
        because=because + _those(("hiv_positive_or_exposed", refer)),
        missing=_missing(signs, needed),
        sources=("imci_2014",),
    )


def _cough_care(signs: Signs) -> tuple[str, ...]:
    return _those(
        ("bronchodilator_5_days", signs.wheeze is True),
        ("soothe_throat", True),
        ("refer_tb_or_asthma", _long_cough(signs)),
        ("refer_if_wheeze_recurs", signs.wheeze is True),
    )


def _adult(signs: Signs, age_years: float | None) -> Assessment:
    grave = _dangers(signs) + _those(
        ("chest_indrawing", signs.chest_indrawing is True),
        ("very_fast_breathing", _at_least(signs.breaths_per_minute, 30)),
        ("fever_39", _at_least(signs.temperature_celsius, 39)),
    )
    if grave:
        return _second_source(_severe_adult(signs, grave), "imai_2011")
    fast = _at_least(signs.breaths_per_minute, fast_breathing_from(age_years))
    two_of = _those(
        ("fast_breathing", fast),
        ("chest_pain", signs.chest_pain is True),
        ("night_sweats", signs.night_sweats is True),
    )
    first = ("danger_signs", "breaths_per_minute", "temperature_celsius", "oxygen_saturation")
    if len(two_of) >= 2:
        return _adult_pneumonia(signs, two_of, _missing(signs, first))
    missing = _missing(signs, (*first, "chest_pain", "night_sweats", "cough_days"))
    if _long_cough(signs):
        return Assessment(
            rule="imai",
            classification="possible_chronic_problem",
            urgency="treat",
            actions=_those(
                ("sputum_for_tb", True),
                ("treat_wheeze", signs.wheeze is True),
                ("assess_chronic_problem", True),
                ("return_at_once", True),
            ),
            because=("long_cough",),
            missing=missing,
            sources=("imai_2004",),
        )
    actions = _those(
        ("relieve_cough", True), ("treat_wheeze", signs.wheeze is True), ("return_at_once", True)
    )
    return _mildest("imai", "imai_2004", missing, actions)


def _severe_adult(signs: Signs, grave: tuple[str, ...]) -> Assessment:
    return Assessment(
        rule="imai",
        classification="severe_pneumonia",
        urgency="refer_urgently",
        actions=_those(
            ("count_again", grave == ("very_fast_breathing",)),
            ("position_for_breathing", True),
            ("give_oxygen", True),
            ("first_dose_injection", True),
            ("treat_wheeze", signs.wheeze is True),
            ("refer_urgently", True),
            ("if_referral_impossible", True),
        ),
        because=grave,
        sources=("imai_2004",),
    )


def _adult_pneumonia(
    signs: Signs, because: tuple[str, ...], missing: tuple[str, ...]
) -> Assessment:
    return Assessment(
        rule="imai",
        classification="pneumonia",
        urgency="treat",
        actions=_those(
            ("count_again", "fast_breathing" in because),
            ("oral_antibiotic", True),
            ("refer_in_late_pregnancy_or_advanced_hiv", True),
            ("treat_wheeze", signs.wheeze is True),
            ("sputum_for_tb", _long_cough(signs) or signs.hiv_status == "positive"),
            ("return_at_once", True),
            ("follow_up_2_days", True),
        ),
        because=because,
        missing=missing,
        sources=("imai_2004",),
    )


_BEYOND_THE_TABLE = frozenset(
    {"low_oxygen", "central_cyanosis", "severe_respiratory_distress", "chest_indrawing"}
)


def _second_source(found: Assessment, source: str) -> Assessment:
    """The same, naming a second source where a sign decided that the table does not list."""
    if not _BEYOND_THE_TABLE & set(found.because):
        return found
    return replace(found, sources=(*found.sources, source))


def _mildest(
    rule: str, source: str, missing: tuple[str, ...], actions: tuple[str, ...]
) -> Assessment:
    """No pneumonia, if nothing is missing that could say otherwise."""
    if missing:
        return Assessment(
            rule=rule,
            classification="incomplete",
            urgency="none",
            actions=("complete_the_signs",),
            missing=missing,
            sources=(source,),
        )
    return Assessment(
        rule=rule,
        classification="no_pneumonia",
        urgency="home_care",
        actions=actions,
        sources=(source,),
    )


_TABLES: dict[str, Callable[[Signs, float | None], Assessment]] = {
    "imci_young_infant": _young_infant,
    "imci": _child,
    "imai": _adult,
    "none": _no_rule,
}
