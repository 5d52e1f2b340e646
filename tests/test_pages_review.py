"""Is it right here? The page, its table and the threshold of the clinic's own."""

from __future__ import annotations

import csv
import io
import json
import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from app import checks, review
from app.active_model import ActiveModel
from app.cxr import release as release_module
from app.cxr.release import BANDS, read_active, write_active
from app.models import (
    AuditEvent,
    Instance,
    LocalOperatingPoint,
    Patient,
    Reading,
    RecoveryCode,
    Site,
    Study,
)
from tests.people import browser, browser_of, enter
from tests.readings import found, read_studies
from tests.test_local_review import group, report
from tests.tiny_release import Manifest, make_release

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("clinic")]

LABEL = "tiny@1.2.3"


def measured(folder: Path) -> Path:
    """Give a release a report that measured children under five."""
    import hashlib

    text = json.dumps({"reports": [report("held-out children", under_5=group())]})
    (folder / "report.json").write_text(text)
    manifest: Manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["report.json"] = hashlib.sha256(text.encode()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture
def clinic(data_dir, tmp_path, monkeypatch) -> Path:
    """A clinic whose factory release is the tiny one."""
    folder = measured(make_release(tmp_path / "factory"))
    monkeypatch.setattr(release_module, "FACTORY_DIRECTORY", folder)
    monkeypatch.setattr(checks, "model", ActiveModel(data_dir))
    review.forget()
    yield data_dir
    review.forget()


@pytest.fixture
def reader(site) -> Any:
    return enter("clinician", "reader")


def page(client: Client, **query: str) -> str:
    response = client.get(reverse("review"), query)
    assert response.status_code == 200
    return response.content.decode()


def text_of(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).replace("&quot;", '"').split())


def told(client: Client, **query: str) -> str:
    return text_of(page(client, **query))


def children(
    by, called: int = 47, of: int = 50, alarms: int = 5, clear: int = 50, **more: Any
) -> None:
    """Blind readings of children: ``called`` of ``of`` with pneumonia, ``alarms`` of ``clear``."""
    for conclusion, likely, whole in (("pneumonia", called, of), ("no_pneumonia", alarms, clear)):
        probabilities = [0.9] * likely + [0.1] * (whole - likely)
        read_studies(by, conclusion, probabilities, model=LABEL, **more)


class TestFirstSentence:
    def test_without_any_film_it_says_what_the_page_is_for(self, client):
        assert "Nobody has recorded a reading yet" in told(client)

    def test_without_any_reading_it_says_so(self, client, reader):
        read_studies(reader, "", [0.9], model=LABEL)
        assert "Nobody has recorded a reading yet" in told(client)

    def test_it_begins_with_the_readings_made_before_the_answer(self, client, reader):
        children(reader, called=9, of=10, alarms=9, clear=40)
        assert (
            "On 50 films that were read here before the reader saw the answer, the computer found "
            "9 of 10 with pneumonia, and cleared 31 of 40 without." in told(client)
        )

    def test_readings_after_the_answer_do_not_count_there(self, client, reader):
        children(reader, blind=False)
        text = told(client)
        assert "No film has been read here before its reader saw the answer" in text
        assert "Found: 47 of 50 with pneumonia" in text

    def test_it_says_when_there_are_too_few(self, client, reader):
        children(reader, called=5, of=6, alarms=1, clear=12)
        text = told(client)
        assert "found 5 of 6 with pneumonia" in text
        assert "At least 10 with pneumonia and 10 without are needed" in text


class TestFewStudies:
    @pytest.mark.parametrize(("of", "said"), [(9, False), (10, True)])
    def test_no_rate_is_said_of_fewer_than_ten(self, client, reader, of, said):
        children(reader, called=of, of=of, alarms=0, clear=3)
        row = re.search(r"under 5 years</th>.*?</tr>", page(client), re.DOTALL)[0]
        assert f"{of} of {of}" in row
        assert (" to 100 %)" in row) == said
        assert "too few to say" in row
        assert row.count('class="rate"') == said


class TestWhichReadingCounts:
    def test_a_final_diagnosis_goes_before_every_reading(self, client, reader):
        (study,) = read_studies(reader, "no_pneumonia", [0.9], model=LABEL, blind=False)
        Reading.objects.create(study=study, by=reader, kind="diagnosis", conclusion="pneumonia")
        Reading.objects.create(study=study, by=reader, conclusion="no_pneumonia")
        assert "Found: 1 of 1 with pneumonia" in told(client)

    def test_the_latest_reading_goes_before_an_earlier_one(self, client, reader):
        (study,) = read_studies(reader, "no_pneumonia", [0.9], model=LABEL, blind=False)
        Reading.objects.create(study=study, by=reader, conclusion="pneumonia")
        assert "Found: 1 of 1 with pneumonia" in told(client)

    def test_a_later_look_with_the_answer_does_not_change_what_was_said_before_it(
        self, client, reader
    ):
        (study,) = read_studies(reader, "no_pneumonia", [0.9], model=LABEL)
        Reading.objects.create(study=study, by=reader, conclusion="pneumonia")
        Reading.objects.create(study=study, by=reader, kind="diagnosis", conclusion="pneumonia")
        text = told(client)
        assert "On 1 film that was read here before the reader saw the answer" in text
        assert "cleared 0 of 1 without" in text
        assert "Found: 1 of 1 with pneumonia" in text

    def test_what_says_nothing_is_counted_and_left_out(self, client, reader):
        children(reader)
        for conclusion in ("unsure", "unsure", "not_usable", "other"):
            read_studies(reader, conclusion, [0.9], model=LABEL)
        read_studies(reader, "pneumonia", [None], model=LABEL)
        text = told(client)
        assert "found 47 of 50 with pneumonia" in text
        assert (
            "Left out of found and cleared: 2 read as “not sure”, 1 as “film not usable”, "
            "and 1 that the computer did not score" in text
        )
        assert "It called 1 of 1 of these likely" in text

    def test_it_says_how_many_of_each_answer_were_read(self, client, reader):
        read_studies(reader, "pneumonia", [0.9] * 3, model=LABEL)
        read_studies(reader, "", [0.9] * 1 + [0.1] * 6, model=LABEL)
        assert "3 of 4 that were called likely, 0 of 0 that it could not say, 0 of 6" in told(
            client
        )


class TestWhichFindingCounts:
    def test_of_several_analyses_the_newest(self, client, reader):
        (study,) = read_studies(reader, "pneumonia", [0.1], model=LABEL)
        found(study.instances.get(), 0.9, model=LABEL)
        assert "found 1 of 1 with pneumonia" in told(client)

    def test_of_several_films_an_answered_one(self, client, reader):
        (study,) = read_studies(reader, "pneumonia", [0.9], model=LABEL)
        film = Instance.objects.create(
            study=study, file_name="b", source="upload", sha256="b" * 64, size_bytes=1, film="b"
        )
        found(film, None, model=LABEL)
        assert "found 1 of 1 with pneumonia" in told(client)

    def test_the_study_page_and_the_review_agree(self, client, reader):
        (study,) = read_studies(reader, "pneumonia", [0.9], model=LABEL)
        film = study.instances.get()
        found(film, 0.2, model=LABEL, created_at=timezone.now() - timedelta(days=1))
        shown = Study.objects.newest_first().get(pk=study.pk).finding
        row = dict(zip(review.COLUMNS, next(review.table(LABEL, reader)), strict=True))
        assert (row["probability"], row["answer"]) == (shown.probability, shown.answer)

    def test_releases_are_never_mixed(self, client, reader):
        read_studies(reader, "pneumonia", [0.9], model=LABEL)
        (both,) = read_studies(reader, "pneumonia", [0.1], model="older@1.0.0")
        found(both.instances.get(), 0.9, model=LABEL)
        assert "found 2 of 2 with pneumonia" in told(client)
        older = told(client, release="older@1.0.0")
        assert "found 0 of 1 with pneumonia" in older
        assert "not the model that answers now" in older

    def test_a_release_that_never_answered_here_is_not_found(self, client, reader):
        read_studies(reader, "pneumonia", [0.9], model=LABEL)
        assert client.get(reverse("review"), {"release": "nobody@1"}).status_code == 404


class TestAgesAndMonths:
    def test_a_study_stands_in_the_band_that_its_threshold_was_of(self, client, reader):
        (study,) = read_studies(reader, "pneumonia", [0.9], model=LABEL, age=4.0)
        study.change({"age_years": 40.0}, by=None)
        html = page(client)
        assert "1 of 1" in re.search(r"under 5 years</th>.*?</tr>", html, re.DOTALL)[0]

    def test_the_cards_figure_stands_beside_the_age_that_it_measured(self, client, reader):
        children(reader)
        html = page(client)
        assert "card: 94 %" in re.search(r"under 5 years</th>.*?</tr>", html, re.DOTALL)[0]
        assert "card:" not in re.search(r"15 to 64 years</th>.*?</tr>", html, re.DOTALL)[0]

    def test_a_month_is_that_of_the_clinics_calendar(self, client, reader, settings):
        zone = ZoneInfo(settings.TIME_ZONE)
        late = datetime(2026, 3, 31, 23, 30, tzinfo=zone)
        read_studies(reader, "pneumonia", [0.9], model=LABEL, at=late)
        shown = review.gather(LABEL)
        offset = timezone.localtime().utcoffset()
        assert shown.months.tolist() == [f"{late.astimezone(ZoneInfo('UTC')) + offset:%Y-%m}"]

    def test_months_are_shown_one_by_one_and_for_one_age(self, client, reader):
        zone = ZoneInfo("UTC")
        children(reader, at=datetime(2026, 3, 15, tzinfo=zone))
        children(reader, called=20, of=20, at=datetime(2026, 4, 15, tzinfo=zone), age=30.0)
        everyone = told(client)
        assert "March 2026 100 47 of 50 94 %" in everyone
        assert "April 2026 70 20 of 20" in everyone
        assert "April 2026 0 0 of 0" in told(client, band="under_5")

    @pytest.mark.parametrize("band", ["", "nonsense", "under_5", "' OR 1=1"])
    def test_any_age_may_be_asked_for(self, client, reader, band):
        children(reader)
        assert "Month by month" in told(client, band=band)


class TestCharts:
    def test_every_chart_has_a_name_a_description_and_its_figures_as_a_table(self, client, reader):
        children(reader)
        html = page(client)
        charts = re.findall(r'<svg class="chart__picture".*?aria-labelledby="(\S+) (\S+)"', html)
        assert len(charts) >= 3
        for ids in charts:
            assert all(f'id="{one}"' in html for one in ids)
        assert html.count("These figures as a table") >= 3

    def test_no_chart_tells_its_series_by_colour_alone(self, client, reader):
        children(reader)
        months = re.search(
            r'<figure class="chart chart--months">.*?</figure>', page(client), re.DOTALL
        )
        assert "<circle" in months[0]
        assert 'width="9" height="9"' in months[0]

    def test_figures_in_charts_are_written_as_every_browser_reads_them(self, client, reader):
        children(reader)
        client.cookies["django_language"] = "fr"
        html = page(client)
        assert re.findall(r' (?:x|y|x1|x2|y1|y2|width|height)="[^"]*,', html) == []

    def test_a_clinic_with_few_readings_sees_no_empty_picture(self, client, reader):
        children(reader, called=1, of=2, alarms=0, clear=2)
        html = page(client)
        assert 'class="chart chart--months"' not in html
        assert "No month has enough readings" in html


class TestWarning:
    def test_it_warns_where_more_are_missed_than_the_card_says(self, client, reader):
        children(reader, called=30, of=60)
        text = told(client)
        assert "Too many with pneumonia are missed: under 5 years" in text
        assert "At today's threshold the computer finds 30 of 60; it should find 94 %" in text

    def test_it_does_not_warn_where_all_is_as_the_card_says(self, client, reader):
        children(reader)
        assert "are missed" not in told(client)

    def test_a_threshold_that_puts_it_right_ends_the_warning(self, client, administrator, reader):
        read_studies(reader, "pneumonia", [0.9] * 30 + [0.25] * 30, model=LABEL, threshold=0.3)
        assert "are missed" in told(client)
        point = checks.model.release.own_operating_point("under_5").moved_to(0.2)
        LocalOperatingPoint.apply(LABEL, "under_5", point, {}, administrator)
        assert "are missed" not in told(client)

    def test_another_release_is_not_warned_of(self, client, reader):
        read_studies(reader, "pneumonia", [0.1] * 60, model="older@1.0.0")
        assert "are missed" not in told(client, release="older@1.0.0")

    def test_administrators_see_a_mark_on_every_page(self, client, reader):
        children(reader, called=30, of=60)
        assert "menu__warned" in client.get("/").content.decode()
        assert "menu__warned" not in browser_of(reader).get("/").content.decode()

    def test_without_a_warning_there_is_no_mark(self, client, reader, administrator):
        children(reader)
        RecoveryCode.make(administrator)
        RecoveryCode.keep(administrator)
        html = client.get("/").content.decode()
        assert "menu__warned" not in html
        assert reverse("review") in html

    def test_warnings_are_not_looked_for_on_every_page(self, client, reader, monkeypatch):
        monkeypatch.setattr(review, "WARNING_SECONDS", 1e9)
        children(reader)
        client.get("/")
        monkeypatch.setattr(review, "gather", lambda *_, **__: pytest.fail("gathered again"))
        read_studies(reader, "", [0.4], model=LABEL)
        assert client.get("/").status_code == 200

    def test_after_a_while_they_are_looked_for_again(self, client, reader, monkeypatch):
        children(reader)
        client.get("/")
        children(reader, called=0, of=60)
        monkeypatch.setattr(review, "WARNING_SECONDS", 1e-6)
        assert "menu__warned" in client.get("/").content.decode()


class TestWhoMaySee:
    @pytest.mark.parametrize(
        ("role", "status"),
        [("read_only", 403), ("health_worker", 403), ("clinician", 200), ("administrator", 200)],
    )
    def test_the_page_and_its_table_are_for_those_who_review(self, reader, role, status):
        children(reader, called=1, of=1, alarms=0, clear=1)
        asking = browser(role)
        assert asking.get(reverse("review")).status_code == status
        assert asking.get(reverse("review-table"), {"release": LABEL}).status_code == status

    @pytest.mark.parametrize("name", ["review-change", "review-undo"])
    @pytest.mark.parametrize("role", ["read_only", "health_worker", "clinician"])
    def test_only_an_administrator_changes_a_threshold(self, reader, role, name):
        assert browser(role).post(reverse(name, args=["under_5"])).status_code == 403

    def test_only_an_administrator_is_offered_the_change(self, client, reader):
        overlapping(reader)
        assert "An administrator can apply it" in text_of(page(browser_of(reader)))
        assert reverse("review-change", args=["under_5"]) in page(client)


class TestTable:
    def rows(self, client: Client, **query: str) -> list[dict[str, str]]:
        response = client.get(reverse("review-table"), {"release": LABEL} | query)
        return list(csv.DictReader(io.StringIO(response.content.decode())))

    def test_it_has_a_line_for_each_study(self, client, reader):
        (study,) = read_studies(reader, "pneumonia", [0.75], model=LABEL)
        (unread,) = read_studies(reader, "", [None], model=LABEL, age=None)
        assert self.rows(client) == [
            {
                "study": study.number,
                "month": f"{timezone.localdate():%Y-%m}",
                "model": LABEL,
                "age_band": "under_5",
                "answer": "likely",
                "probability": "0.75",
                "threshold": "0.5",
                "conclusion_before_answer": "pneumonia",
                "conclusion_or_diagnosis": "pneumonia",
            },
            {
                "study": unread.number,
                "month": f"{timezone.localdate():%Y-%m}",
                "model": LABEL,
                "age_band": "unknown",
                "answer": "refused",
                "probability": "",
                "threshold": "",
                "conclusion_before_answer": "",
                "conclusion_or_diagnosis": "",
            },
        ]

    def test_it_names_nobody(self, client, reader):
        (study,) = read_studies(reader, "pneumonia", [0.75], model=LABEL)
        patient = Patient.objects.create(name="Okello Grace", number="P-77")
        study.change({"patient": patient}, by=None)
        text = client.get(reverse("review-table"), {"release": LABEL}).content.decode()
        assert "Okello" not in text
        assert "P-77" not in text
        assert reader.username not in text

    def test_who_took_it_out_is_recorded(self, client, administrator, reader):
        children(reader)
        self.rows(client)
        event = AuditEvent.objects.get(action="review_exported")
        assert (event.user, event.details) == (administrator, {"model": LABEL, "studies": 100})

    def test_where_a_clinic_reads_blind_a_clinician_gets_only_what_is_read_already(
        self, client, reader
    ):
        Site.objects.update(blind_first_read=True)
        (mine,) = read_studies(reader, "pneumonia", [0.75], model=LABEL)
        read_studies(enter("clinician", "other"), "pneumonia", [0.8], model=LABEL)
        read_studies(reader, "", [0.6], model=LABEL)
        assert [row["study"] for row in self.rows(browser_of(reader))] == [mine.number]
        assert len(self.rows(client)) == 3

    def test_a_release_that_never_answered_here_has_none(self, client, reader):
        read_studies(reader, "pneumonia", [0.75], model=LABEL)
        answer = client.get(reverse("review-table"), {"release": "nobody@1"})
        assert answer.status_code == 404


def overlapping(by) -> None:
    """Enough blind readings for a proposal: the threshold in use misses a third."""
    sick = [0.31 + 0.006 * i for i in range(100)]
    clear = [0.01 + 0.0045 * i for i in range(100)]
    read_studies(by, "pneumonia", sick, model=LABEL)
    read_studies(by, "no_pneumonia", clear, model=LABEL)


def with_threshold(client: Client) -> str:
    html = client.get(reverse("review-change", args=["under_5"])).content.decode()
    return re.search(r'name="threshold" value="([^"]+)"', html)[1]


@pytest.fixture
def proposed(reader, monkeypatch) -> Any:
    """Readings on which another threshold than the release's 0.3 does better for children."""
    overlapping(reader)
    return reader


class TestProposal:
    def test_it_says_how_many_readings_are_still_needed(self, client, reader):
        children(reader, called=5, of=6, clear=12)
        assert "6 of 50 readings with pneumonia, 12 of 50 without" in told(client)

    def test_it_is_shown_with_what_it_would_find_and_clear(self, client, proposed):
        text = told(client)
        assert re.search(r"3\d % would find 9\d of 100 \(now 100 of 100\)", text)

    def test_what_would_change_is_shown_before_it_is_applied(self, client, proposed):
        html = client.get(reverse("review-change", args=["under_5"])).content.decode()
        count = int(re.search(r"(\d+) studies would have been answered otherwise", html)[1])
        listed = re.findall(r'<th scope="row"><a href="/studies/([\d-]+)/">', html)
        assert count == len(listed) > 0
        before = checks.model.release.operating_point(3)
        threshold = float(with_threshold(client))
        after = before.moved_to(threshold)
        rows = review.table(LABEL, proposed)
        otherwise = {row[0] for row in rows if before.decide(row[5]) != after.decide(row[5])}
        assert set(listed) == otherwise

    def test_looking_at_it_changes_nothing(self, client, proposed, clinic):
        client.get(reverse("review-change", args=["under_5"]))
        assert not LocalOperatingPoint.objects.exists()
        assert not (clinic / "active.json").exists()

    def test_applying_it_lets_it_answer(self, client, administrator, proposed):
        threshold = with_threshold(client)
        answer = client.post(
            reverse("review-change", args=["under_5"]), {"threshold": threshold}, follow=True
        )
        assert "Applied" in answer.content.decode()
        assert checks.model.release.operating_point(3).threshold == float(threshold)
        kept = LocalOperatingPoint.objects.get()
        assert (kept.applied_by, kept.age_band, kept.model) == (administrator, "under_5", LABEL)
        assert kept.evidence["sensitivity"][1] == 100

    def test_once_applied_the_page_says_so_and_offers_to_undo_it(
        self, client, administrator, proposed
    ):
        address = reverse("review-change", args=["under_5"])
        client.post(address, {"threshold": with_threshold(client)})
        html = page(client)
        assert reverse("review-undo", args=["under_5"]) in html
        assert f"{administrator}" in html
        assert "There is no better one" in html

    def test_one_click_undoes_it(self, client, administrator, proposed, clinic):
        address = reverse("review-change", args=["under_5"])
        client.post(address, {"threshold": with_threshold(client)})
        answer = client.post(reverse("review-undo", args=["under_5"]), follow=True)
        assert "Undone" in answer.content.decode()
        assert checks.model.release.operating_point(3).threshold == 0.3
        assert read_active(clinic)["operating_points"] == {}
        assert LocalOperatingPoint.objects.get().withdrawn_by == administrator
        assert reverse("review-change", args=["under_5"]) in page(client)

    @pytest.mark.parametrize("sent", ["", "0.01", "0.3", "nan", "../../etc"])
    def test_a_threshold_of_somebodys_own_choosing_is_not_applied(self, client, proposed, sent):
        client.post(reverse("review-change", args=["under_5"]), {"threshold": sent})
        assert not LocalOperatingPoint.objects.exists()

    def test_a_proposal_that_new_readings_have_changed_has_to_be_looked_at_again(
        self, client, proposed
    ):
        threshold = with_threshold(client)
        read_studies(proposed, "pneumonia", [0.2] * 60, model=LABEL)
        answer = client.post(
            reverse("review-change", args=["under_5"]), {"threshold": threshold}, follow=True
        )
        assert "new readings since" in answer.content.decode()
        assert not LocalOperatingPoint.objects.exists()

    @pytest.mark.parametrize("band", ["5_14", "nonsense"])
    def test_where_nothing_is_proposed_there_is_nothing_to_apply(self, client, proposed, band):
        address = reverse("review-change", args=[band])
        assert "Nothing is proposed" in client.get(address, follow=True).content.decode()
        client.post(address, {"threshold": "0.4"})
        assert not LocalOperatingPoint.objects.exists()

    def test_a_disk_that_cannot_be_written_is_said(self, client, proposed, monkeypatch):
        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        threshold = with_threshold(client)
        monkeypatch.setattr("app.models.operating_points.write_active", full)
        answer = client.post(
            reverse("review-change", args=["under_5"]), {"threshold": threshold}, follow=True
        )
        assert "could not be written" in answer.content.decode()
        assert not LocalOperatingPoint.objects.exists()

    def test_readings_after_the_answer_propose_nothing(self, client, reader):
        for conclusion, probability in (("pneumonia", 0.35), ("no_pneumonia", 0.2)):
            read_studies(reader, conclusion, [probability] * 60, model=LABEL, blind=False)
        assert "0 of 50 readings with pneumonia" in told(client)

    def test_a_point_of_another_model_is_said_to_have_lapsed(self, client, reader, clinic):
        children(reader)
        entry = {"model": "older@1", "threshold": 0.4, "lower": 0.3, "upper": 0.5}
        write_active(clinic, {"release": "factory", "operating_points": {"15_64": entry}})
        assert "for 15 to 64 years belonged to another model" in told(client)

    def test_a_point_that_nobody_here_applied_is_said_and_can_be_undone(
        self, client, reader, clinic
    ):
        children(reader)
        entry = {"model": LABEL, "threshold": 0.4, "lower": 0.3, "upper": 0.5}
        write_active(clinic, {"release": "factory", "operating_points": {"15_64": entry}})
        assert "nobody here is recorded to have applied it" in told(client)
        client.post(reverse("review-undo", args=["15_64"]))
        assert checks.model.release.operating_point(40).threshold == 0.5

    def test_an_unusable_point_is_said_and_can_be_removed(self, client, reader, clinic):
        children(reader)
        write_active(clinic, {"release": "factory", "operating_points": {"15_64": "?"}})
        assert "Remove what cannot be used" in told(client)
        assert "removed" in client.post(reverse("review-clear"), follow=True).content.decode()
        assert checks.local_operating_points() is None

    def test_bands_have_words(self, client, reader):
        children(reader)
        text = told(client)
        assert not any(band in text for band in BANDS if band != "unknown")
