"""A clinician's own reading: before the answer where the clinic wants it so, and never lost."""

from __future__ import annotations

import re
from html import unescape

import pytest
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse
from django.urls.converters import IntConverter

from app.models import AuditEvent, Finding, Patient, Reading, Role, Site, Study, User
from tests.people import browser, browser_of, enter
from tests.studies import answer, answered, film_bytes, take_in, turned_down

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("data_dir")]


@pytest.fixture
def reader(site: Site) -> User:
    return enter(Role.CLINICIAN, full_name="Achieng Odhiambo")


@pytest.fixture
def hers(reader: User) -> Client:
    return browser_of(reader)


def page(client: Client, study: Study) -> str:
    return str(client.get(reverse("study", args=[study.number])).content.decode())


def block(html: str) -> str:
    """The words of the block of readings."""
    part = html[html.index('id="readings"') :].partition("</section>")[0]
    return unescape(" ".join(re.sub(r"<[^>]+>", " ", part).split()))


def token_of(html: str, form: str = "reading") -> str:
    found = re.search(rf'name="token" value="([^"]+)" id="{form}-', html)
    assert found
    return found[1]


def read(client: Client, study: Study, conclusion: str = "pneumonia", **more: str):
    values = {"conclusion": conclusion, **more}
    return client.post(reverse("record-reading", args=[study.number]), values)


def diagnose(client: Client, study: Study, conclusion: str = "pneumonia", **more: str):
    values = {"conclusion": conclusion, **more}
    return client.post(reverse("record-diagnosis", args=[study.number]), values)


def switch(client: Client, blind: bool) -> None:
    """As the administrator does it."""
    chosen = {"clinic_name": "Kisoro", "lock_after": "10"}
    values = chosen | ({"blind_first_read": "on"} if blind else {})
    assert client.post(reverse("site"), values).status_code == 302


class TestReading:
    def test_it_is_kept_with_who_and_when(self, hers, reader):
        study = answered()
        response = read(hers, study, "no_pneumonia", note="Old scar at the left base.")

        assert response.url.endswith("#readings")
        reading = Reading.objects.get()
        assert (reading.by, reading.conclusion) == (reader, "no_pneumonia")
        said = block(page(hers, study))
        assert "no pneumonia" in said
        assert "Achieng Odhiambo" in said
        assert "Old scar at the left base." in said
        assert str(reading.at.year) in said

    @pytest.mark.parametrize("conclusion", Reading.Conclusion.values)
    def test_every_conclusion_can_be_chosen(self, hers, conclusion):
        study = answered()

        assert f'name="conclusion" value="{conclusion}"' in page(hers, study)
        assert read(hers, study, conclusion).status_code == 302

    def test_a_second_thought_is_a_second_row(self, hers):
        study = answered()
        read(hers, study, "unsure")
        read(hers, study, "pneumonia", agrees="yes")

        said = block(page(hers, study))
        assert said.index("not sure") < said.index("pneumonia")
        assert list(Reading.objects.values_list("conclusion", flat=True)) == ["unsure", "pneumonia"]

    def test_without_a_conclusion_it_asks_for_one_and_keeps_the_note(self, hers):
        study = answered()
        response = read(hers, study, "", note="Something at the left base.")

        html = response.content.decode()
        assert response.status_code == 400
        assert "Choose what you conclude." in html
        assert "Something at the left base." in html
        assert not Reading.objects.exists()

    @pytest.mark.parametrize("agrees", ["yes", "no"])
    def test_where_the_answer_is_shown_it_asks_whether_she_agrees(self, hers, agrees):
        study = answered()
        assert "Do you agree with the computer?" in block(page(hers, study))

        read(hers, study, "pneumonia", agrees=agrees)
        assert Reading.objects.get().agrees is (agrees == "yes")
        said = block(page(hers, study))
        assert ("does not agree" in said) is (agrees == "no")
        assert "agree" in said

    def test_agreement_may_be_left_open(self, hers):
        read(hers, answered(), "unsure")

        assert Reading.objects.get().agrees is None

    @pytest.mark.parametrize(
        ("answer", "conclusion", "contradiction"),
        [
            ("likely", "no_pneumonia", True),
            ("likely", "pneumonia", False),
            ("likely", "unsure", False),
            ("likely", "other", False),
            ("unlikely", "pneumonia", True),
            ("unlikely", "no_pneumonia", False),
            ("unlikely", "other", False),
        ],
    )
    def test_nobody_agrees_with_the_opposite(self, hers, answer, conclusion, contradiction):
        response = read(hers, answered(answer=answer), conclusion, agrees="yes")

        assert (response.status_code == 400) is contradiction
        assert Reading.objects.exists() is not contradiction
        if contradiction:
            assert "Change one of the two." in response.content.decode()

    def test_where_the_computer_says_nothing_there_is_nothing_to_agree_with(self, hers):
        for seed, study in enumerate(
            [
                answered(answer="cannot_say", seed=11),
                turned_down("page_of_text", seed=12),
                take_in(film_bytes(13)),
            ]
        ):
            assert not re.search(
                r"<fieldset[^>]*>(?:(?!</fieldset>).)*Do you agree",
                page(hers, study).partition("data-with-answer")[0],
                re.DOTALL,
            )
            read(hers, study, "unsure", agrees="yes")
            assert Reading.objects.count() == seed + 1
        assert set(Reading.objects.values_list("agrees", flat=True)) == {None}

    def test_a_form_sent_twice_is_one_reading(self, hers):
        study = answered()
        token = token_of(page(hers, study))
        for _ in range(2):
            assert read(hers, study, token=token, agrees="yes").status_code == 302

        assert Reading.objects.count() == 1

    def test_the_study_counts_as_read(self, hers):
        study = answered()
        read(hers, study)

        assert Study.objects.get().is_read

    def test_it_is_audited(self, hers, reader):
        study = answered()
        read(hers, study)

        event = AuditEvent.objects.get(action="reading_recorded")
        assert (event.user, event.subject) == (reader, study.number)

    @pytest.mark.parametrize(
        ("role", "may"),
        [("read_only", False), ("health_worker", False), ("clinician", True)],
    )
    def test_it_is_there_for_whom_it_is_for(self, site, role, may):
        study, user = answered(), browser(role)

        assert ("Save my reading" in page(user, study)) is may
        assert read(user, study).status_code == (302 if may else 403)
        assert diagnose(user, study).status_code == (302 if may else 403)
        assert Reading.objects.exists() is may

    def test_others_see_it(self, hers, site):
        study = answered()
        other = browser("read_only")
        assert "Nobody has written down a reading yet." in block(page(other, study))

        read(hers, study, "other")
        assert "another disease" in block(page(other, study))

    def test_a_note_is_text_and_nothing_else(self, hers):
        study = answered()
        read(hers, study, note="<script>alert(1)</script>")

        assert "<script>alert" not in page(hers, study)

    @pytest.mark.parametrize("name", ["record-reading", "record-diagnosis"])
    def test_its_address_leads_to_the_study(self, hers, name):
        study = answered()

        response = hers.get(reverse(name, args=[study.number]))
        assert response.url == reverse("study", args=[study.number])
        assert hers.post(reverse(name, args=["20010101-0001"])).status_code == 404


class TestDiagnosis:
    def test_it_comes_later_beside_the_reading(self, hers):
        study = answered()
        read(hers, study, "unsure")
        diagnose(hers, study, "other", note="Sputum positive for tuberculosis.")

        kinds = Reading.objects.values_list("kind", "conclusion", "before_answer")
        assert list(kinds) == [("conclusion", "unsure", False), ("diagnosis", "other", False)]
        said = block(page(hers, study))
        assert "Final diagnosis: another disease" in said
        assert "Sputum positive for tuberculosis." in said

    def test_a_film_that_is_not_usable_is_no_diagnosis(self, hers):
        response = diagnose(hers, answered(), "not_usable")

        assert response.status_code == 400
        assert not Reading.objects.exists()

    def test_it_asks_for_what_is_missing_and_keeps_the_note(self, hers):
        response = diagnose(hers, answered(), "", note="Sputum positive.")

        assert response.status_code == 400
        assert "Choose the diagnosis." in response.content.decode()
        assert "Sputum positive." in response.content.decode()

    def test_a_form_sent_twice_is_one_diagnosis(self, hers):
        study = answered()
        token = token_of(page(hers, study), "diagnosis")
        for _ in range(2):
            assert diagnose(hers, study, token=token).status_code == 302

        assert Reading.objects.count() == 1

    def test_it_is_no_way_around_the_blind_first_read(self, hers, blind):
        study = answered()

        assert diagnose(hers, study).status_code == 302
        assert not Reading.objects.exists()
        assert "Read the film first" in page(hers, study)


#: Leaves the program; is a file that is another one each second; speaks to programs with a token.
NOT_ASKED = {"log-out", "diagnostics", "api"}
#: Count the answers of all films, and speak of none of them (ADR 0019).
COUNTS = {"metrics", "month", "month-table"}
#: What differs between two pages although the answer does not.
PASSING = re.compile(
    r'(csrfmiddlewaretoken|base)" value="[^"]*"|value="[0-9a-f-]{36}"|\d{1,2}:\d{2}(:\d{2})?'
    r'|"seconds": [\d.]+'
)


def addresses(number: str, pk: int) -> dict[str, str]:
    """An address for every pattern of the program: a number where it asks for one."""
    found: dict[str, str] = {}

    def walk(patterns: list[URLPattern | URLResolver]) -> None:
        for pattern in patterns:
            if isinstance(pattern, URLResolver):
                walk(pattern.url_patterns)
            elif pattern.name and pattern.name not in NOT_ASKED:
                asked = pattern.pattern.converters.items()
                values = {n: pk if isinstance(c, IntConverter) else number for n, c in asked}
                found[pattern.name] = reverse(pattern.name, kwargs=values)

    walk(get_resolver().url_patterns)
    return found


def everything(client: Client, study: Study) -> dict[str, str]:
    """All that ``client`` is given when it asks for every address there is."""
    instance = study.instances.get()
    numbers = [study.number]
    # One number for patient, film and whatever else is asked for by number
    assert instance.pk == study.patient_id
    asked = addresses(study.number, instance.pk) | {
        "worklist-rows": reverse("worklist-rows") + f"?number={study.number}&finished",
        "worklist-likely": reverse("worklist") + "?answer=likely",
        "worklist-unlikely": reverse("worklist") + "?answer=unlikely",
        "worklist-search": reverse("worklist") + f"?q={study.number}",
        "viewer-of-the-film": reverse("viewer", args=numbers) + f"?film={instance.pk}",
        "report-sheet": reverse("report", args=numbers) + "?paper=a5",
    }
    given = {}
    for name, address in asked.items():
        response = client.get(address, follow=True)
        body = b"".join(response.streaming_content) if response.streaming else response.content
        given[name] = f"{response.status_code} {PASSING.sub('', body.decode('latin-1'))}"
    return given


class TestNothingLeaks:
    """Whatever is asked for: what comes does not depend on the answer while it is hidden."""

    @pytest.fixture
    def study(self, db) -> Study:
        study = answered(name="film.png")
        film = study.instances.get()
        patient = Patient.objects.create(pk=film.pk, name="Okello Grace", number="P-77")
        study.change({"patient": patient, "age_years": 3.0}, by=None)
        return study

    def turn(self, study: Study, verdict: str) -> None:
        """The very same study, had the computer said something else."""
        said = {
            "likely": ("likely", 0.93, [{"x": 1, "y": 2, "width": 3, "height": 4,
                                         "zone": "left upper", "score": 0.9}]),
            "unlikely": ("unlikely", 0.02, []),
            "cannot_say": ("cannot_say", 0.4, []),
        }[verdict]  # fmt: skip
        found = dict(zip(("answer", "probability", "regions"), said, strict=True))
        Finding.objects.update(**found)
        study.refresh_standing()
        assert Study.objects.get(pk=study.pk).answer == verdict

    @pytest.mark.parametrize("verdict", ["unlikely", "cannot_say"])
    def test_no_page_differs_by_the_answer(self, hers, blind, study, verdict):
        self.turn(study, "likely")
        before = everything(hers, study)
        self.turn(study, verdict)
        after = everything(hers, study)

        assert {name for name in before if before[name] != after[name]} == COUNTS

    def test_once_she_has_read_they_do(self, hers, blind, study):
        read(hers, study)
        before = everything(hers, study)
        self.turn(study, "unlikely")
        after = everything(hers, study)

        differs = {name for name in before if before[name] != after[name]}
        assert {"study", "study-status", "worklist", "worklist-rows", "viewer"} <= differs

    def test_to_those_who_are_not_asked_to_read_it_is_shown(self, blind, study):
        for role in (Role.ADMINISTRATOR, Role.HEALTH_WORKER, Role.READ_ONLY):
            assert "Signs of pneumonia:" in page(browser(role), study)

    def test_no_page_holds_a_word_of_the_answer(self, hers, blind, study):
        html = page(hers, study)

        for word in (
            "Signs of pneumonia",
            "93 %",
            "0.93",
            "right lower",
            "map.png",
            "film__marks",
            "gauge",
        ):
            assert word not in html.replace(study.number, ""), word
        assert "<title>" in html
        assert "Read the film yourself first" in html

    def test_the_status_does_not_bring_it_either(self, hers, blind, study):
        status = hers.get(reverse("study-status", args=[study.number])).json()

        assert status["status"] == "hidden"
        assert status["finished"] is True
        assert status["asks_agreement"] is False
        assert 'data-answer="hidden"' in status["html"]
        assert "gauge" not in status["html"]

    def test_the_map_is_not_there_yet_even_for_a_browser_that_asks_whether_it_is_new(
        self, hers, blind, study
    ):
        address = reverse("map", args=[study.instances.get().pk])
        admin = browser(Role.ADMINISTRATOR)
        etag = admin.get(address)["ETag"]

        assert hers.get(address).status_code == 404
        assert hers.get(address, HTTP_IF_NONE_MATCH=etag).status_code == 404
        read(hers, study)
        assert hers.get(address).status_code == 200

    def test_what_a_colleague_read_waits_too(self, hers, blind, study):
        colleague = enter(Role.CLINICIAN, "other", full_name="Otieno Amina")
        Reading.record(study, colleague, conclusion="other", agrees=False, note="Cardiomegaly")

        said = block(page(hers, study))
        assert "Otieno" not in said
        assert "Cardiomegaly" not in said
        assert "What colleagues read is shown after that too." in said
        read(hers, study)
        assert "Cardiomegaly" in block(page(hers, study))

    def test_an_earlier_answer_stays_hidden_while_the_film_is_analysed_again(
        self, hers, blind, study
    ):
        study.instances.get().try_again()

        html = page(hers, study)
        assert "Signs of pneumonia" not in html
        assert "gauge" not in html
        assert "map.png" not in html

    def test_a_film_that_cannot_be_shown_says_so(self, hers, blind):
        html = page(hers, turned_down("not_an_image", "unreadable", seed=21))

        assert "There is no picture to show." in html

    def test_a_forged_agreement_is_not_taken(self, hers, blind, study):
        assert read(hers, study, "no_pneumonia", agrees="yes").status_code == 302
        assert Reading.objects.get().agrees is None


class TestBlindFirstRead:
    def test_she_reads_the_film_and_then_sees_both(self, hers, blind):
        study = answered()
        assert "is shown after that" in block(page(hers, study))

        read(hers, study, "no_pneumonia", token=token_of(page(hers, study)))
        html = page(hers, study)
        assert 'data-answer="likely"' in html
        assert "You read no pneumonia The computer likely" in block(html)
        assert "Do you agree with the computer?" in block(html)
        assert Reading.objects.get().before_answer is True

    def test_her_agreement_is_a_second_row(self, hers, blind):
        study = answered()
        read(hers, study, "pneumonia")
        read(hers, study, "pneumonia", agrees="yes")

        rows = Reading.objects.values_list("conclusion", "before_answer", "agrees")
        assert list(rows) == [("pneumonia", True, None), ("pneumonia", False, True)]
        said = block(page(hers, study))
        assert "before the computer's answer was shown" in said
        assert "the computer's answer had been shown" in said
        assert "You read" not in said

    def test_then_she_is_asked_to_say_whether_she_agrees(self, hers, blind):
        study = answered()
        read(hers, study, "pneumonia")

        response = read(hers, study, "pneumonia")
        assert response.status_code == 400
        assert "Say whether you agree with the computer." in response.content.decode()

    def test_where_the_computer_cannot_say_she_is_asked_no_more(self, hers, blind):
        study = answered(answer="cannot_say")
        read(hers, study, "pneumonia")

        said = block(page(hers, study))
        assert "You read" not in said
        assert "Do you agree" not in said

    def test_a_page_that_hid_the_answer_is_not_held_against_her(self, hers, blind):
        study = answered()
        for name in ("study", "viewer"):
            hers.get(reverse(name, args=[study.number]))
        hers.get(reverse("study-status", args=[study.number]))
        hers.get(reverse("worklist"))
        read(hers, study)

        assert Reading.objects.get().before_answer is True

    def test_two_tabs(self, hers, blind):
        study = answered()
        first, second = (token_of(page(hers, study)) for _ in range(2))
        read(hers, study, "pneumonia", token=first)
        page(hers, study)
        read(hers, study, "unsure", token=second, agrees="no")

        rows = Reading.objects.values_list("conclusion", "before_answer")
        assert list(rows) == [("pneumonia", True), ("unsure", False)]

    def test_the_back_button_and_the_same_form_again(self, hers, blind):
        study = answered()
        token = token_of(page(hers, study))
        read(hers, study, "pneumonia", token=token)
        page(hers, study)

        assert read(hers, study, "pneumonia", token=token).status_code == 302
        assert Reading.objects.get().before_answer is True

    def test_the_back_button_and_another_conclusion(self, hers, blind):
        study = answered()
        token = token_of(page(hers, study))
        read(hers, study, "pneumonia", token=token)
        page(hers, study)
        read(hers, study, "no_pneumonia", token=token)

        rows = Reading.objects.values_list("conclusion", "before_answer")
        assert list(rows) == [("pneumonia", True), ("no_pneumonia", False)]

    def test_a_double_click(self, hers, blind):
        study = answered()
        token = token_of(page(hers, study))
        for _ in range(3):
            assert read(hers, study, "pneumonia", note=" seen ", token=token).status_code == 302

        assert Reading.objects.get().before_answer is True

    def test_blind_reads_switched_off_while_she_reads(self, hers, blind, client):
        study = answered()
        token = token_of(page(hers, study))
        switch(client, blind=False)
        read(hers, study, token=token)

        assert Reading.objects.get().before_answer is False

    def test_blind_reads_switched_off_and_on_again_while_she_reads(self, hers, blind, client):
        study = answered()
        token = token_of(page(hers, study))
        switch(client, blind=False)
        switch(client, blind=True)
        read(hers, study, token=token)

        assert Reading.objects.get().before_answer is False

    def test_an_answer_seen_yesterday_is_not_unseen_today(self, hers, site, client):
        study = answered()
        page(hers, study)
        site.blind_first_read = True
        site.save()

        assert "Signs of pneumonia" not in page(hers, study)
        read(hers, study)
        assert Reading.objects.get().before_answer is False

    def test_the_answer_came_while_she_wrote(self, hers, site):
        study = take_in(film_bytes(31))
        token = token_of(page(hers, study))
        answer(study)
        hers.get(reverse("study-status", args=[study.number]))
        read(hers, study, token=token)

        assert Reading.objects.get().before_answer is False

    def test_she_wrote_before_there_was_an_answer(self, hers, site):
        study = take_in(film_bytes(32))
        read(hers, study, token=token_of(page(hers, study)))
        answer(study)

        assert Reading.objects.get().before_answer is True
        assert "You read pneumonia The computer likely" in block(page(hers, study))
