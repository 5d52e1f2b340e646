"""The words for everything `app.cxr.signs` returns as a code, marked for translation.

One table for each kind of code; `app.cxr.signs.SOURCES` holds the full citations, which are never
translated. Doses are left to the national guideline on purpose: they go by weight and by country.
"""

from __future__ import annotations

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

Words = dict[str, Promise]

TITLE = _("The signs in the patient")
INTRODUCTION = _("For a patient with cough or difficult breathing.")
BESIDE_THE_PICTURE = _(
    "The film and the signs are two answers, each for itself. Where they differ, act on the graver "
    "one: a clear film never cancels a danger sign."
)

RULES: Words = {
    "imci_young_infant": _("WHO rule for young infants under 2 months (IMCI)"),
    "imci": _("WHO rule for children from 2 months up to 5 years (IMCI)"),
    "imai": _("WHO rule for adults (IMAI), used here from 15 years"),
    "none": _("No rule for this age"),
}

FIELDS: Words = {
    "age_years": _("Age"),
    "danger_signs": _("Danger signs"),
    "breaths_per_minute": _("Breaths in one full minute, while the patient is calm"),
    "temperature_celsius": _("Temperature in the armpit (°C)"),
    "oxygen_saturation": _("Oxygen saturation (SpO2, %)"),
    "without_oximeter": _("There is no oximeter here"),
    "chest_indrawing": _("Chest indrawing: the lower chest wall goes in when breathing in"),
    "stridor_in_calm_child": _("Stridor: a harsh noise when breathing in, while calm"),
    "wheeze": _("Wheeze: a whistling noise when breathing out"),
    "bronchodilator_trial": _("Trial of an inhaled bronchodilator"),
    "hiv_status": _("HIV"),
    "cough_days": _("Days of cough"),
    "chest_pain": _("Chest pain"),
    "night_sweats": _("Night sweats"),
}

HIV_STATUSES: Words = {
    "positive": _("Positive"),
    "exposed": _("Exposed: the mother is positive, the child not yet tested"),
    "negative": _("Negative"),
    "unknown": _("Asked, not known"),
}

BRONCHODILATOR_TRIALS: Words = {
    "done": _("Given; breaths and chest indrawing above were looked at again afterwards"),
    "not_possible": _("Not possible here"),
}

DANGER_SIGNS: Words = {
    "not_feeding_well": _("Not feeding well, or not feeding at all"),
    "convulsions": _("Convulsions (fits) in this illness"),
    "severe_chest_indrawing": _("Severe chest indrawing: very deep and easy to see"),
    "moves_only_when_stimulated": _("Moves only when touched, or does not move at all"),
    "not_able_to_drink": _("Not able to drink or breastfeed"),
    "vomits_everything": _("Vomits everything"),
    "convulsing_now": _("Convulsing now"),
    "lethargic_or_unconscious": _("Lethargic or unconscious"),
    "not_able_to_walk_unaided": _("Not able to walk without help"),
    "uncomfortable_lying_down": _("Uncomfortable lying down"),
    "severe_chest_pain": _("Severe chest pain"),
    "pulse_120_or_more": _("Pulse of 120 a minute or more"),
    "severe_respiratory_distress": _("Severe distress with breathing"),
    "central_cyanosis": _("Blue lips or tongue"),
}

REASONS: Words = DANGER_SIGNS | {
    "stridor_in_calm_child": _("Stridor while calm"),
    "low_oxygen": _("Oxygen saturation below 90"),
    "chest_indrawing": _("Chest indrawing"),
    "fast_breathing": _("Fast breathing for this age"),
    "very_fast_breathing": _("Very fast breathing: 30 breaths a minute or more"),
    "fever_38": _("Temperature of 38 °C or more"),
    "low_temperature": _("Temperature below 35.5 °C"),
    "fever_39": _("Temperature of 39 °C or more"),
    "chest_pain": _("Chest pain"),
    "night_sweats": _("Night sweats"),
    "long_cough": _("Cough for more than 14 days"),
    "hiv_positive_or_exposed": _("HIV positive or exposed, with chest indrawing"),
    "age_unknown": _("The age is not known"),
    "no_rule_for_age": _("No rule for this age: the WHO rules used here leave out 5 to 14 years"),
}

CLASSIFICATIONS: Words = {
    "no_rule": _("No rule for this age"),
    "incomplete": _("Cannot say yet: signs are missing"),
    "no_pneumonia": _("No sign of pneumonia or of very severe disease"),
    "possible_chronic_problem": _("Possible chronic lung or heart problem, or tuberculosis"),
    "pneumonia": _("Pneumonia"),
    "severe_pneumonia": _("Severe pneumonia or very severe disease"),
    "possible_serious_bacterial_infection": _(
        "Possible serious bacterial infection or very severe disease"
    ),
}

URGENCIES: Words = {
    "none": _("No advice from a rule"),
    "home_care": _("Care at home"),
    "treat": _("Treat here"),
    "refer": _("Refer to hospital"),
    "refer_urgently": _("Refer urgently"),
}

ACTIONS: Words = {
    "complete_the_signs": _("Look for the missing signs. Until then pneumonia is not excluded."),
    "treat_danger_signs_first": _(
        "There is a danger sign: treat it first, whatever the film says."
    ),
    "follow_national_guideline": _("Decide by your national guideline for this age."),
    "count_again": _("Count the breaths again for one full minute, to be sure."),
    "stop_convulsion": _("Stop the convulsion now, as in your national guideline."),
    "position_for_breathing": _("Sit the patient up, as is easiest for breathing."),
    "give_oxygen": _("Give oxygen, if there is any."),
    "first_dose_antibiotic": _(
        "Give the first dose of the antibiotic of your national guideline for severe pneumonia."
    ),
    "first_dose_injection": _(
        "Give the first dose of the antibiotic of your national guideline as an injection."
    ),
    "prevent_low_blood_sugar": _(
        "Prevent low blood sugar as in your national guideline. Give nothing by mouth to a child "
        "who cannot swallow."
    ),
    "keep_warm": _("Keep the child warm, also on the way."),
    "refer_urgently": _("Send the patient to hospital urgently."),
    "if_referral_impossible": _(
        "If the patient cannot be sent, treat as your national guideline says for where there is "
        "no hospital."
    ),
    "bronchodilator_trial": _(
        "Wheeze: first give a rapid-acting inhaled bronchodilator, up to 3 times, 15 to 20 minutes "
        "apart. Then count the breaths and look for chest indrawing again, and enter them anew."
    ),
    "first_dose_amoxicillin": _("Give the first dose of amoxicillin."),
    "refer_to_hospital": _(
        "Send the child to hospital: chest indrawing with HIV is treated there."
    ),
    "find_hiv_status": _(
        "Find out whether the child has HIV or was exposed to it. If so: with chest indrawing it "
        "gets a first dose of amoxicillin and is sent to hospital."
    ),
    "amoxicillin_5_days": _(
        "Give amoxicillin by mouth for 5 days, in the dose of your national guideline."
    ),
    "amoxicillin_7_days": _(
        "Give amoxicillin by mouth for 7 days, in the dose of your national guideline."
    ),
    "oral_antibiotic": _("Give the antibiotic of your national guideline by mouth."),
    "refer_in_late_pregnancy_or_advanced_hiv": _(
        "But from the 4th month of pregnancy on, with HIV in stage 4 or with a "
        "low CD4 count: give the first dose as an injection and send to hospital urgently."
    ),
    "treat_wheeze": _("Treat the wheeze with a bronchodilator."),
    "bronchodilator_5_days": _("Give an inhaled bronchodilator for 5 days."),
    "refer_if_wheeze_recurs": _(
        "If the wheeze has come back before, send for assessment of asthma or tuberculosis."
    ),
    "soothe_throat": _("Soothe the throat and relieve the cough with a safe remedy."),
    "relieve_cough": _("No antibiotic is needed. Relieve the cough."),
    "refer_tb_or_asthma": _(
        "Cough for more than 14 days: send for assessment of tuberculosis or asthma."
    ),
    "sputum_for_tb": _("Have the sputum tested for tuberculosis."),
    "assess_chronic_problem": _(
        "If it is not tuberculosis, send for assessment of a chronic lung or heart problem."
    ),
    "look_for_local_infection": _(
        "Look at the navel and the skin too: pus, redness or blisters need treatment and were not "
        "asked here."
    ),
    "home_care_young_infant": _("Explain the care at home: breastfeed often, keep the baby warm."),
    "return_at_once": _(
        "Explain when to come back at once: breathing gets fast or difficult, the patient cannot "
        "drink, or gets sicker."
    ),
    "follow_up_2_days": _("See the patient again in 2 days."),
    "follow_up_3_days": _("See the child again in 3 days."),
    "follow_up_5_days_if_not_better": _("See the child again in 5 days, if it is not better."),
}

SOURCES: Words = {
    "imci_young_infant_2019": _("WHO, IMCI chart booklet for the sick young infant, 2019"),
    "imci_2014": _("WHO, IMCI chart booklet, March 2014: cough or difficult breathing"),
    "pocket_book_2013": _("WHO, Pocket book of hospital care for children, 2013"),
    "imai_2004": _("WHO, IMAI acute care, November 2004: cough or difficult breathing"),
    "imai_2011": _("WHO, IMAI district clinician manual, 2011"),
}

ERRORS: Words = {
    "breaths_per_minute_out_of_range": _(
        "Count the breaths for one full minute: a number from 5 to 150."
    ),
    "temperature_celsius_out_of_range": _("The temperature must be between 30 and 45 °C."),
    "oxygen_saturation_out_of_range": _("The oxygen saturation must be between 30 and 100."),
    "cough_days_out_of_range": _("The days of cough must be a number from 0 to 3650."),
    "age_out_of_range": _("The age must be between 0 and 130 years."),
    "unknown_danger_sign": _("Choose the danger signs from the list."),
    "unknown_hiv_status": _("Choose the HIV status from the list."),
    "unknown_bronchodilator_trial": _("Choose from the list whether the trial was done."),
}
