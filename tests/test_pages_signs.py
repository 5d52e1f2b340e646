"""Clinical signs on the page of a study: entered quickly, the guideline's words beside the film."""

from __future__ import annotations

import re
from html import unescape

import pytest
from django.urls import reverse

from app import clinical_words as words
from app.cxr.signs import DANGER_SIGNS, RULES, Signs, danger_signs_for_age, signs_for_age
from app.models import AuditEvent, ClinicalSigns, Role, Study
from tests.people import browser, browser_of, enter
from tests.studies import answered, film_bytes, take_in

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("data_dir")]

BANNER = "Refer urgently, whatever the film says."
AGES = {"imci_young_infant": 0.1, "imci": 3.0, "none": 9.0, "imai": 30.0}
NONE = frozenset[str]()
ALL_NO = {
    "danger_signs": ["none"],
    "breaths_per_minute": "30",
    "chest_indrawing": "no",
    "stridor_in_calm_child": "no",
    "wheeze": "no",
    "oxygen_saturation": "97",
}


@pytest.fixture
def study() -> Study:
    return answered(answer="unlikely", regions=())


@pytest.fixture
def child(study) -> Study:
    return aged(study, 3.0)


def aged(study: Study, years: float | None) -> Study:
    Study.objects.filter(pk=study.pk).update(age_years=years)
    return Study.objects.get(pk=study.pk)


def page(client, study: Study) -> str:
    return str(client.get(reverse("study", args=[study.number])).content.decode())


def text_of(html: str) -> str:
    html = re.sub(r"<style.*?</style>", "", html, flags=re.DOTALL)
    return unescape(" ".join(re.sub(r"<[^>]+>", " ", html).split()))


def block(html: str) -> str:
    """The words of the block of signs."""
    return text_of(html[html.index('id="signs"') :].partition("</section>")[0])


def send(client, study: Study, **signs: object):
    return client.post(reverse("record-signs", args=[study.number]), signs)


def names_of(html: str) -> set[str]:
    form = html[html.index("signs__form") :].partition("</form>")[0]
    return set(re.findall(r'name="(\w+)"', form)) - {"csrfmiddlewaretoken", "token", "counter"}


class TestForm:
    @pytest.mark.parametrize("rule", [rule for rule in RULES if rule != "none"])
    def test_it_asks_what_the_rule_for_the_age_asks_and_nothing_else(self, client, study, rule):
        html = page(client, aged(study, AGES[rule]))

        assert names_of(html) == set(signs_for_age(AGES[rule]))

    @pytest.mark.parametrize("rule", [rule for rule in RULES if rule != "none"])
    def test_it_asks_for_the_danger_signs_of_the_age(self, client, study, rule):
        html = page(client, aged(study, AGES[rule]))

        ticks = set(re.findall(r'name="danger_signs" value="(\w+)"', html))
        assert ticks == {*danger_signs_for_age(AGES[rule]), "none"}

    def test_what_was_not_asked_is_not_no(self, client, child):
        html = page(client, child)

        for name in ("chest_indrawing", "stridor_in_calm_child", "wheeze"):
            assert re.search(rf'name="{name}" value=""[^>]* checked', html)
            assert not re.search(rf'name="{name}" value="(yes|no)"[^>]* checked', html)

    def test_numbers_get_a_keyboard_of_numbers(self, client, child):
        html = page(client, child)

        for name in ("breaths_per_minute", "oxygen_saturation", "cough_days"):
            assert re.search(rf'<input[^>]*name="{name}"[^>]*inputmode="decimal"', html)

    @pytest.mark.parametrize("years", [5.0, 9.0, 14.9])
    def test_between_5_and_14_years_it_says_that_there_is_no_rule(self, client, study, years):
        html = page(client, aged(study, years))

        assert "No rule for this age" in block(html)
        assert "Treat danger signs first" in block(html)
        assert "signs__form" not in html

    def test_without_an_age_it_asks_for_the_age_first(self, client, study):
        html = page(client, study)

        assert "the age is not known yet" in block(html)
        assert "signs__form" not in html

    def test_an_age_that_cannot_be_is_no_age(self, client, study):
        assert "the age is not known yet" in block(page(client, aged(study, -2.0)))

    def test_the_age_once_said_brings_the_signs(self, client, study):
        response = client.post(
            reverse("record-age", args=[study.number]), {"age": "18", "age_unit": "months"}
        )

        assert response.status_code == 302
        assert Study.objects.get().age_years == 1.5
        assert AuditEvent.objects.filter(action="study_changed").exists()
        assert "signs__form" in page(client, study)

    @pytest.mark.parametrize("age", ["", "old", "-1", "200", "nan"])
    def test_a_wrong_age_gets_a_sentence_and_stays_as_it_was_typed(self, client, study, age):
        response = client.post(reverse("record-age", args=[study.number]), {"age": age})

        html = response.content.decode()
        assert response.status_code == 400
        assert 'class="field__error"' in html[html.index('id="signs"') :]
        assert f'value="{age}"' in html
        assert Study.objects.get().age_years is None

    @pytest.mark.parametrize(("role", "may"), [("read_only", False), ("health_worker", True)])
    def test_it_is_there_for_whom_it_is_for(self, child, site, role, may):
        user = browser(role)

        assert ("signs__form" in page(user, child)) is may
        assert send(user, child, **ALL_NO).status_code == (302 if may else 403)
        assert ClinicalSigns.objects.exists() is may

    @pytest.mark.parametrize("name", ["record-signs", "record-age"])
    def test_its_address_leads_to_the_study(self, client, child, name):
        response = client.get(reverse(name, args=[child.number]))

        assert response.url == reverse("study", args=[child.number])

    @pytest.mark.parametrize("name", ["record-signs", "record-age"])
    def test_a_study_that_is_not_there_is_404(self, client, name):
        assert client.post(reverse(name, args=["20010101-0001"]), ALL_NO).status_code == 404


class TestEntering:
    def test_what_is_entered_is_kept_with_who_and_what_follows_from_it(
        self, client, administrator, child
    ):
        assert send(client, child, **ALL_NO).status_code == 302

        row = ClinicalSigns.objects.get()
        assert row.by == administrator
        assert row.signs == {
            "breaths_per_minute": 30.0,
            "temperature_celsius": None,
            "oxygen_saturation": 97.0,
            "without_oximeter": False,
            "chest_indrawing": False,
            "stridor_in_calm_child": False,
            "wheeze": False,
            "bronchodilator_trial": None,
            "hiv_status": None,
            "cough_days": None,
            "chest_pain": None,
            "night_sweats": None,
            "danger_signs": [],
        }
        assert row.assessment["classification"] == "no_pneumonia"
        assert AuditEvent.objects.get(action="signs_recorded").user == administrator

    def test_nothing_ticked_is_not_asked(self, client, child):
        send(client, child, breaths_per_minute="30")

        row = ClinicalSigns.objects.get()
        assert row.signs["danger_signs"] is None
        assert row.assessment["classification"] == "incomplete"
        assert "danger_signs" in row.assessment["missing"]

    @pytest.mark.parametrize("typed", ["38,5", "38.5", "38٫5", " 38.5 "])
    def test_a_decimal_comma_is_understood(self, client, study, typed):
        send(client, aged(study, 30.0), temperature_celsius=typed)

        assert ClinicalSigns.objects.get().signs["temperature_celsius"] == 38.5

    @pytest.mark.parametrize(
        ("years", "name", "typed"),
        [
            (3.0, "breaths_per_minute", "500"),
            (3.0, "breaths_per_minute", "4"),
            (3.0, "breaths_per_minute", "many"),
            (3.0, "breaths_per_minute", "nan"),
            (3.0, "oxygen_saturation", "101"),
            (3.0, "oxygen_saturation", "9"),
            (3.0, "cough_days", "-1"),
            (30.0, "temperature_celsius", "98.6"),
            (30.0, "temperature_celsius", "inf"),
        ],
    )
    def test_a_wrong_number_gets_a_sentence_beside_it_and_nothing_is_lost(
        self, client, study, years, name, typed
    ):
        response = send(
            client, aged(study, years), **{name: typed, "danger_signs": ["none"], "wheeze": "yes"}
        )

        html = response.content.decode()
        field = html[html.index(f'for="sign-{name}"') :]
        sentence = str(words.ERRORS[f"{name}_out_of_range"])
        assert response.status_code == 400
        assert sentence in unescape(field[: field.index("sign__entry") + 2000])
        assert f'value="{typed}"' in html
        assert re.search(r'name="wheeze" value="yes"[^>]* checked', html)
        assert re.search(r'value="none"[^>]* checked', html)
        assert 'id="enter-signs" open' in html
        assert not ClinicalSigns.objects.exists()

    @pytest.mark.parametrize(
        ("field", "value"),
        [("danger_signs", "sad"), ("hiv_status", "perhaps"), ("bronchodilator_trial", "soon")],
    )
    def test_a_choice_that_is_none_is_refused_in_words(self, client, child, field, value):
        response = send(client, child, **{field: value})

        assert response.status_code == 400
        assert str(words.ERRORS[f"unknown_{field.removesuffix('s')}"
                   if field == "danger_signs" else f"unknown_{field}"]) in unescape(
            response.content.decode()
        )  # fmt: skip
        assert not ClinicalSigns.objects.exists()

    def test_a_danger_sign_and_none_of_these_is_asked_again(self, client, child):
        response = send(client, child, danger_signs=["convulsions", "none"])

        assert response.status_code == 400
        assert "“None of these” too" in response.content.decode()
        assert not ClinicalSigns.objects.exists()

    @pytest.mark.parametrize("signs", [{}, {"without_oximeter": "on"}, {"wheeze": ""}])
    def test_an_empty_form_says_so(self, client, child, signs):
        response = send(client, child, **signs)

        assert response.status_code == 400
        assert "Nothing is entered yet" in response.content.decode()
        assert not ClinicalSigns.objects.exists()

    def test_a_form_sent_twice_is_one_entry(self, client, child):
        for _ in range(2):
            assert send(client, child, token="one", **ALL_NO).status_code == 302

        assert ClinicalSigns.objects.count() == 1

    def test_every_form_has_a_name_of_its_own(self, client, child):
        tokens = {re.search(r'name="token" value="([^"]+)" id="sign-', page(client, child))[1]
                  for _ in range(2)}  # fmt: skip

        assert len(tokens) == 2

    def test_a_clinic_without_an_oximeter_says_so_once(self, client, child):
        ticked = r'name="without_oximeter"[^>]* checked'
        assert not re.search(ticked, page(client, child))

        send(client, child, without_oximeter="on", breaths_per_minute="30")
        assert re.search(ticked, page(client, aged(answered(seed=2), 2.0)))

    def test_a_danger_sign_is_kept_although_the_age_was_changed_meanwhile(self, client, study):
        send(client, aged(study, 9.0), danger_signs=["central_cyanosis"])

        row = ClinicalSigns.objects.get()
        assert row.signs["danger_signs"] == ["central_cyanosis"]
        assert row.assessment["urgency"] == "refer_urgently"

    def test_signs_are_entered_while_the_film_still_waits(self, client):
        waiting = take_in(film_bytes(4), age_years=3.0)

        assert send(client, waiting, **ALL_NO).status_code == 302
        assert "No sign of pneumonia" in block(page(client, waiting))


class TestShown:
    def test_it_shows_class_reasons_actions_and_source(self, client, child):
        send(client, child, **ALL_NO | {"breaths_per_minute": "52"})

        said = block(page(client, child))
        for sentence in (
            words.CLASSIFICATIONS["pneumonia"],
            words.URGENCIES["treat"],
            words.REASONS["fast_breathing"],
            words.ACTIONS["amoxicillin_5_days"],
            words.RULES["imci"],
            words.SOURCES["imci_2014"],
        ):
            assert str(sentence) in said

    def test_it_shows_what_is_missing(self, client, child):
        send(client, child, breaths_per_minute="30")

        said = block(page(client, child))
        assert "Cannot say yet: signs are missing" in said
        assert re.search("Not looked for yet: .*Danger signs", said)

    def test_it_shows_what_was_entered(self, client, study):
        send(
            client,
            aged(study, 30.0),
            danger_signs=["none"],
            temperature_celsius="38.5",
            breaths_per_minute="24",
            chest_pain="yes",
            wheeze="no",
            hiv_status="unknown",
        )

        said = block(page(client, study))
        for pair in ("Danger signs None of these", "(°C) 38.5", "calm 24", "Chest pain Yes",
                     "breathing out No", "HIV Asked, not known"):  # fmt: skip
            assert pair in said
        assert "There is no oximeter here No" not in said

    def test_it_shows_who_entered_it(self, child, site):
        send(browser_of(enter(Role.HEALTH_WORKER, full_name="Amina Otieno")), child, **ALL_NO)

        assert "Amina Otieno" in block(page(browser("read_only"), child))

    def test_earlier_entries_stay_to_be_seen(self, client, child):
        send(client, child, **ALL_NO | {"breaths_per_minute": "52"})
        send(client, child, **ALL_NO)

        html = page(client, child)
        assert "1 earlier entry" in block(html)
        newest, _, earlier = html.partition("1 earlier entry")
        assert str(words.CLASSIFICATIONS["no_pneumonia"]) in newest
        assert str(words.CLASSIFICATIONS["pneumonia"]) in earlier

    def test_an_earlier_class_keeps_its_words_when_the_rule_changes(self, client, child):
        send(client, child, **ALL_NO)
        row = ClinicalSigns.objects.get()
        kept = row.assessment | {"classification": "pneumonia", "because": ["long_cough"]}
        ClinicalSigns.objects.update(assessment=kept)

        said = block(page(client, child))
        assert str(words.CLASSIFICATIONS["pneumonia"]) in said
        assert str(words.REASONS["long_cough"]) in said

    def test_a_code_without_words_is_shown_as_it_is(self, client, child):
        send(client, child, **ALL_NO)
        row = ClinicalSigns.objects.get()
        ClinicalSigns.objects.update(assessment=row.assessment | {"actions": ["of_old"]})

        assert "of_old" in block(page(client, child))

    @pytest.mark.parametrize("answer", ["likely", "unlikely", "cannot_say"])
    def test_film_and_signs_stand_beside_each_other_with_the_sentence_between(self, client, answer):
        html = page(client, aged(answered(answer=answer), 3.0))

        film, between, signs = (
            html.index(part) for part in ('class="verdict ', 'class="beside"', 'id="signs"')
        )
        assert film < between < signs
        assert str(words.BESIDE_THE_PICTURE) in unescape(html)

    def test_the_picture_changes_nothing_in_what_the_signs_say(self, client):
        said = []
        for seed, found in enumerate(["likely", "unlikely", "cannot_say"], 5):
            study = aged(answered(answer=found, seed=seed), 3.0)
            send(client, study, **ALL_NO | {"breaths_per_minute": "52"})
            said.append(re.sub(r"\d\d:\d\d|[\w-]{36}", "", block(page(client, study))))

        assert len(set(said)) == 1

    def test_the_signs_change_nothing_in_what_the_picture_says(self, client, child):
        before = page(client, child).partition('class="study-side')[0]
        send(client, child, **ALL_NO | {"breaths_per_minute": "52"})

        after = page(client, child).partition('class="study-side')[0]
        panel = '<div class="panel">'
        assert after.partition(panel)[2] == before.partition(panel)[2]

    def test_an_assessment_for_another_age_says_so(self, client, child):
        send(client, child, **ALL_NO)
        assert "another age" not in block(page(client, child))

        said = block(page(client, aged(child, 30.0)))
        assert "assessed for another age: 3 years. The study now says 30 years." in said

    def test_a_birthday_that_moves_the_age_by_days_is_no_other_age(self, client, child):
        send(client, child, **ALL_NO)

        assert "another age" not in block(page(client, aged(child, 3.04)))

    @pytest.mark.parametrize(("then", "now"), [(59 / 365.25, 61 / 365.25), (0.99, 1.01)])
    def test_a_few_days_are_another_age_where_the_rule_or_its_limit_changes(
        self, client, study, then, now
    ):
        send(client, aged(study, then), breaths_per_minute="45")

        assert "another age" in block(page(client, aged(study, now)))

    def test_an_assessment_for_an_age_that_is_unknown_now_says_so(self, client, child):
        send(client, child, **ALL_NO)

        assert "The study now says age unknown." in block(page(client, aged(child, None)))


class TestDanger:
    @pytest.mark.parametrize("code", DANGER_SIGNS)
    def test_every_danger_sign_puts_a_banner_above_the_page(self, client, study, code):
        rule = next(r for r in RULES if code in danger_signs_for_age(AGES[r]))
        send(client, aged(study, AGES[rule]), danger_signs=[code])

        html = page(client, study)
        assert BANNER in html
        assert html.index(BANNER) < html.index("<main")
        banner = html[html.index('class="urgent"') :].partition("</div>")[0]
        assert str(words.DANGER_SIGNS[code]) in text_of(banner)

    @pytest.mark.parametrize(
        ("years", "signs"),
        [
            (3.0, {"oxygen_saturation": "85"}),
            (3.0, {"stridor_in_calm_child": "yes"}),
            (30.0, {"breaths_per_minute": "31"}),
            (0.1, {"temperature_celsius": "38.2"}),
        ],
    )
    def test_so_does_whatever_else_is_urgent(self, client, study, years, signs):
        send(client, aged(study, years), **signs)

        assert BANNER in page(client, study)

    def test_a_clear_film_does_not_take_it_away(self, client, child):
        send(client, child, danger_signs=["convulsions"])

        html = page(client, child)
        assert 'data-answer="unlikely"' in html
        assert BANNER in html

    def test_without_urgency_there_is_none(self, client, child):
        assert BANNER not in page(client, child)
        send(client, child, **ALL_NO | {"breaths_per_minute": "52"})
        assert BANNER not in page(client, child)

    def test_it_stands_until_somebody_looked_again(self, client, child):
        send(client, child, danger_signs=["convulsions"])
        send(client, child, breaths_per_minute="30")
        assert BANNER in page(client, child)

        send(client, child, **ALL_NO)
        assert BANNER not in page(client, child)

    def test_it_stands_when_the_age_becomes_one_without_a_rule(self, client, child):
        send(client, child, danger_signs=["convulsions"])

        html = page(client, aged(child, 9.0))
        assert BANNER in html
        assert "No rule for this age" in block(html)

    def test_after_saving_the_page_begins_where_the_danger_stands(self, client, child):
        assert send(client, child, **ALL_NO).url.endswith("#signs")
        assert send(client, child, danger_signs=["convulsions"]).url.endswith("/")

    def test_it_is_shown_to_those_who_may_only_look(self, client, child, site):
        send(client, child, danger_signs=["convulsions"])

        assert BANNER in page(browser("read_only"), child)


def test_every_sign_that_is_asked_has_a_field():
    asked = {name for age in AGES.values() for name in signs_for_age(age)}

    assert asked <= set(Signs.__dataclass_fields__)
    assert asked == set(Signs.__dataclass_fields__)
