"""Who is waiting: the hospital's worklist asked by DICOM, and films that find their patients."""

from __future__ import annotations

import io
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.core import signing
from django.urls import reverse
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.sop_class import ModalityWorklistInformationFind, Verification

from app import intake, scheduled, worker
from app.cxr.analysis import Analysis
from app.cxr.radiograph import Radiograph
from app.dicom import worklist
from app.dicom.worklist import Answer, NoWorklist, Question, ScheduledStudy, ask, entry_of
from app.models import AuditEvent, Instance, Patient, Peer, State, Study
from model_export.phantom import chest_film
from tests.films import dicom
from tests.people import browser
from tests.running import free_port, wait_for
from tests.studies import MODEL, answer, film_bytes, take_in

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("data_dir", "site")]

TODAY = date(2026, 11, 25)
UID = "1.2.826.0.1.3680043.8.498.1"
BORN = date(2019, 5, 31)
GRACE = ScheduledStudy(
    name="Okello Grace",
    number="P-77",
    sex="F",
    birth_date=BORN,
    accession_number="A-1",
    study_uid=f"{UID}.1",
    starts_at=datetime.fromisoformat("2026-11-25T09:30"),
    description="Chest PA",
)


# --- a real worklist server ---------------------------------------------------------------------


def dump(entry: ScheduledStudy, modality: str, charset: str, name: str) -> bytes:
    """A worklist file as DCMTK's dump2dcm reads it."""
    start = entry.starts_at
    assert start
    text = f"""\
(0008,0005) CS [{charset}]
(0008,0050) SH [{entry.accession_number}]
(0010,0010) PN [{name}]
(0010,0020) LO [{entry.number}]
(0010,0030) DA [{entry.birth_date:%Y%m%d}]
(0010,0040) CS [{entry.sex}]
(0020,000d) UI [{entry.study_uid}]
(0032,1060) LO [{entry.description}]
(0040,0100) SQ
(fffe,e000) -
(0008,0060) CS [{modality}]
(0040,0001) AE [XRAY]
(0040,0002) DA [{start:%Y%m%d}]
(0040,0003) TM [{start:%H%M%S}]
(0040,0007) LO [step]
(0040,0009) SH [S1]
(fffe,e00d) -
(fffe,e0dd) -
(0040,1001) SH [R1]
"""
    return text.encode({"ISO_IR 100": "latin-1", "ISO_IR 192": "utf-8"}[charset])


class Hospital:
    """DCMTK's worklist server and the files that it tells of."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        (folder / "RIS").mkdir(parents=True)
        (folder / "RIS" / "lockfile").touch()
        self.count = 0

    @property
    def peer(self) -> Peer:
        return Peer(
            pk=1, name="RIS", ae_title="RIS", host="127.0.0.1", port=self.port, gives_worklist=True
        )

    def order(
        self,
        entry: ScheduledStudy = GRACE,
        modality: str = "CR",
        charset: str = "ISO_IR 192",
        name: str = "Okello^Grace",
    ) -> None:
        self.count += 1
        text = self.folder / "entry.dump"
        text.write_bytes(dump(entry, modality, charset, name))
        made = self.folder / "RIS" / f"{self.count:04}.wl"
        subprocess.run(["dump2dcm", "-q", str(text), str(made)], check=True)

    @contextmanager
    def open(self, *options: str) -> Iterator[Peer]:
        words = ["wlmscpfs", "-q", "-csk", "-dfp", str(self.folder), *options, str(self.port)]
        server = subprocess.Popen(words)
        try:
            wait_for(self._listens)
            yield self.peer
        finally:
            server.terminate()
            server.wait(30)

    def _listens(self) -> bool:
        socket.create_connection(("127.0.0.1", self.port), 1).close()
        return True


@pytest.fixture
def hospital(tmp_path) -> Hospital:
    missing = [name for name in ("wlmscpfs", "dump2dcm") if not shutil.which(name)]
    assert not missing, f"not on this machine (Debian: apt-get install dcmtk): {missing}"
    return Hospital(tmp_path / "hospital")


def of_day(day: date) -> Question:
    return Question(day - timedelta(days=1), day + timedelta(days=1))


def test_it_hears_all_that_the_hospital_says_of_a_film_that_is_ordered(hospital):
    hospital.order()
    with hospital.open() as peer:
        assert ask(peer, of_day(TODAY)) == Answer((GRACE,))


NAMES = [
    ("ISO_IR 100", "Müller^Zoë", "Müller Zoë"),
    ("ISO_IR 192", "Müller^Zoë", "Müller Zoë"),
    ("ISO_IR 192", "أوكيلو^غريس", "أوكيلو غريس"),
    ("ISO_IR 192", "ओकेल्लो^ग्रेस", "ओकेल्लो ग्रेस"),
    ("ISO_IR 192", "Yamada^Tarou=山田^太郎=やまだ^たろう", "Yamada Tarou"),
    ("ISO_IR 100", "Nakato^Mary^Achieng^Dr^", "Nakato Mary Achieng Dr"),
]


@pytest.mark.parametrize(("charset", "written", "read"), NAMES)
def test_names_come_over_in_every_script(hospital, charset, written, read):
    hospital.order(charset=charset, name=written)
    with hospital.open() as peer:
        [entry] = ask(peer, of_day(TODAY)).studies
    assert entry.name == read


def test_it_asks_for_films_of_the_days_around_today_alone(hospital):
    for days in (-2, -1, 0, 1, 2):
        start = datetime.fromisoformat("2026-11-25T08:00") + timedelta(days=days)
        hospital.order(ScheduledStudy(**(vars(GRACE) | {"starts_at": start})))
    with hospital.open() as peer:
        found = ask(peer, of_day(TODAY)).studies
    assert [one.starts_at.day for one in found if one.starts_at] == [24, 25, 26]


def test_it_asks_for_x_ray_films_alone(hospital):
    for number, modality in enumerate(["CT", "US", "CR", "MR", "DX"]):
        entry = ScheduledStudy(**(vars(GRACE) | {"number": modality, "study_uid": f"1.2.{number}"}))
        hospital.order(entry, modality)
    with hospital.open() as peer:
        assert {one.number for one in ask(peer, of_day(TODAY)).studies} == {"CR", "DX"}


@pytest.mark.parametrize(
    "question", [Question(accession_number="A-2"), Question(number="P-2")], ids=["order", "number"]
)
def test_it_asks_for_one_order_or_one_patient(hospital, question):
    for number in (1, 2, 3):
        changed = {"accession_number": f"A-{number}", "number": f"P-{number}"}
        hospital.order(ScheduledStudy(**(vars(GRACE) | changed)))
    with hospital.open() as peer:
        [entry] = ask(peer, question).studies
    assert (entry.accession_number, entry.number) == ("A-2", "P-2")


def test_of_a_long_list_it_takes_so_many_and_cancels_the_rest(hospital):
    hospital.order()
    order = dcmread(hospital.folder / "RIS" / "0001.wl")
    for number in range(1, 500):
        order.PatientID, order.StudyInstanceUID = f"P-{number}", f"{UID}.{number}.5"
        order.save_as(hospital.folder / "RIS" / f"{number:04}-more.wl")
    with hospital.open() as peer:
        found = ask(peer, of_day(TODAY), most=50)
        assert len(found.studies) == 50
        assert found.is_cut
        everything = ask(peer, of_day(TODAY), most=500)
        assert len(everything.studies) == 500
        assert not everything.is_cut


# --- machines that do not do as they should -----------------------------------------------------


@contextmanager
def machine(find: Any, context: Any = ModalityWorklistInformationFind) -> Iterator[Peer]:
    """A machine of our own whose answers a test writes; ``find`` yields status and identifier."""
    entity = AE("RIS")
    entity.add_supported_context(context)
    entity.require_called_aet = True
    server = entity.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_FIND, find)]
    )
    try:
        port = server.server_address[1]
        yield Peer(pk=1, name="RIS", ae_title="RIS", host="127.0.0.1", port=port)
    finally:
        server.shutdown()


def identifier(**values: Any) -> Dataset:
    found = Dataset()
    for keyword, value in values.items():
        setattr(found, keyword, value)
    return found


def fault(peer: Peer) -> NoWorklist:
    with pytest.raises(NoWorklist) as caught:
        ask(peer, of_day(TODAY))
    assert scheduled.fault_words(peer, caught.value.code, caught.value.status).startswith("RIS")
    return caught.value


def test_a_machine_that_hangs_is_waited_for_and_no_longer(monkeypatch):
    monkeypatch.setattr(worklist, "SECONDS_FOR_ONE", 0.3)
    goes_on = threading.Event()

    def hang(_event: Any) -> Iterator[Any]:
        goes_on.wait(60)
        yield 0x0000, None

    with machine(hang) as peer:
        assert fault(peer).code == "too_slow"
        goes_on.set()


def test_a_machine_that_drips_is_not_heard_for_ever(monkeypatch):
    monkeypatch.setattr(worklist, "SECONDS_FOR_ALL", 0.5)
    stop = threading.Event()

    def drip(_event: Any) -> Iterator[Any]:
        while not stop.wait(0.1):
            yield 0xFF00, identifier(PatientID="P")

    with machine(drip) as peer:
        assert fault(peer).code == "too_slow"
        stop.set()


def test_a_machine_that_does_not_heed_the_cancel_is_left(monkeypatch):
    monkeypatch.setattr(worklist, "MOST_AFTER_CANCEL", 10)

    def flood(event: Any) -> Iterator[Any]:
        for number in range(5000):
            if event.assoc.is_aborted:
                return
            yield 0xFF00, identifier(PatientID=f"P-{number}")

    with machine(flood) as peer:
        found = ask(peer, of_day(TODAY), most=5)
    assert len(found.studies) == 5
    assert found.is_cut


def test_a_machine_is_told_to_stop(monkeypatch):
    cancelled = []

    def heed(event: Any) -> Iterator[Any]:
        for number in range(1000):
            if event.is_cancelled:
                cancelled.append(number)
                yield 0xFE00, None
                return
            yield 0xFF00, identifier(PatientID=f"P-{number}")

    with machine(heed) as peer:
        found = ask(peer, of_day(TODAY), most=5)
    assert len(found.studies) == 5
    assert found.is_cut
    assert cancelled


def test_a_machine_that_fails_says_with_which_fault():
    def fail(_event: Any) -> Iterator[Any]:
        yield 0xA700, None

    with machine(fail) as peer:
        found = fault(peer)
        assert (found.code, found.status) == ("failed", 0xA700)
        assert "A700" in scheduled.fault_words(peer, found.code, found.status)


def test_a_machine_without_a_worklist_says_so():
    with machine(lambda _event: iter(()), Verification) as peer:
        assert fault(peer).code == "not_supported"


def test_a_machine_of_another_name_says_so():
    with machine(lambda _event: iter(())) as peer:
        peer.ae_title = "OTHER"
        assert fault(peer).code == "called_unknown"


def test_nobody_at_the_port_is_said():
    peer = Peer(pk=1, name="RIS", ae_title="RIS", host="127.0.0.1", port=free_port())
    assert fault(peer).code == "refused"


def test_an_association_that_ends_in_the_middle_is_a_fault():
    def leave(event: Any) -> Iterator[Any]:
        yield 0xFF00, identifier(PatientID="P-1")
        event.assoc.abort()

    with machine(leave) as peer:
        assert fault(peer).code in {"too_slow", "aborted"}


def test_the_log_holds_no_patient(hospital, caplog):
    hospital.order()
    with caplog.at_level("DEBUG"), hospital.open() as peer:
        ask(peer, of_day(TODAY))
    assert "Okello" not in caplog.text
    assert "P-77" not in caplog.text


# --- entries ------------------------------------------------------------------------------------

ODD = [
    ({"PatientName": "^^^^", "PatientID": ""}, None),
    ({}, None),
    ({"PatientID": " P-1 "}, ScheduledStudy(number="P-1")),
    ({"PatientID": "P-1", "PatientSex": "X"}, ScheduledStudy(number="P-1")),
    ({"PatientID": "P-1", "StudyInstanceUID": "1.2.x"}, ScheduledStudy(number="P-1")),
    ({"PatientID": "P-1", "PatientBirthDate": "2019"}, ScheduledStudy(number="P-1")),
]


@pytest.mark.parametrize(("values", "read"), ODD)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_is_left_out_or_wrong_is_unknown(values, read):
    assert entry_of(identifier(**values)) == read


def test_nothing_at_all_is_no_entry():
    assert entry_of(None) is None


@pytest.mark.filterwarnings("ignore::UserWarning")
@given(st.text(max_size=80), st.text(max_size=80), st.text(max_size=20))
def test_whatever_is_sent_an_entry_fits_its_columns(name, number, day):
    found = entry_of(identifier(PatientName=name, PatientID=number, PatientBirthDate=day[:8]))
    if found:
        assert len(found.name) <= 200
        assert len(found.number) <= 64
        assert found.name == found.name.strip()
        assert not re.search(r"[\x00-\x1f]", found.name + found.number)


def test_an_entry_survives_its_way_through_a_page():
    assert scheduled.unseal(scheduled.seal(GRACE)) == GRACE
    assert scheduled.unseal(scheduled.seal(ScheduledStudy(number="P"))) == ScheduledStudy(
        number="P"
    )


@pytest.mark.parametrize(
    "token",
    ["", "x", signing.dumps({"name": "x"}, salt="another")],
    ids=["nothing", "nonsense", "of another seal"],
)
def test_an_entry_that_is_not_ours_is_none(token):
    assert scheduled.unseal(token) is None
    assert not scheduled.Order.of(token)


# --- the page -----------------------------------------------------------------------------------


@pytest.fixture
def lookup(monkeypatch) -> Iterator[scheduled.Lookup]:
    found = scheduled.Lookup()
    monkeypatch.setattr(scheduled, "lookup", found)
    monkeypatch.setattr(scheduled, "SECONDS_TO_WAIT", 60)
    yield found
    found.wait()


@pytest.fixture
def ris(lookup) -> Peer:
    return Peer.objects.create(
        name="RIS", ae_title="RIS", host="127.0.0.1", port=free_port(), gives_worklist=True
    )


@pytest.fixture
def told(ris, monkeypatch) -> list[ScheduledStudy]:
    """What the hospital's worklist holds, without a hospital; of today unless a test says more."""
    entries = [ScheduledStudy(**(vars(GRACE) | {"starts_at": at_nine()}))]

    def answered_at_once(_peer: Peer, question: Question, most: int = 200) -> Answer:
        wanted = {n: v for n, v in vars(question).items() if v and not n.endswith("day")}
        fits = [e for e in entries if all(getattr(e, n) == v for n, v in wanted.items())]
        return Answer(tuple(fits[:most]), len(fits) > most)

    monkeypatch.setattr(worklist, "ask", answered_at_once)
    return entries


def at_nine() -> datetime:
    return datetime.combine(timezone.localdate(), datetime.min.time()).replace(hour=9)


def text_of(response: Any) -> str:
    words = re.sub(r"<[^>]+>", " ", response.content.decode())
    return " ".join(words.replace("&#x27;", "'").split())


def page(client: Any, **asked: str) -> str:
    return text_of(client.get(reverse("scheduled"), asked))


def test_without_a_machine_to_ask_the_page_says_what_to_do(client, lookup):
    assert "No machine tells this program who is waiting" in page(client)
    assert reverse("scheduled") not in client.get(reverse("worklist")).content.decode()


def test_the_menu_leads_to_the_page_where_there_is_a_machine(client, ris):
    assert reverse("scheduled") in client.get(reverse("worklist")).content.decode()


def test_the_page_shows_who_is_waiting(client, told):
    shown = page(client)
    for words in ("Okello Grace", "P-77", "31 May 2019", "09:00", "Chest PA", "Take the film"):
        assert words in shown


def test_today_comes_first(client, told):
    for days in (-1, 1):
        start = at_nine() + timedelta(days=days)
        told.insert(0, ScheduledStudy(name=f"day {days}", starts_at=start))
    shown = page(client)
    assert shown.index("Okello") < shown.index("day -1") < shown.index("day 1")


@pytest.mark.parametrize("text", ["okello", "P-77", "grace okello", "A-1"])
def test_somebody_is_found_by_name_or_number(client, told, text):
    told.append(ScheduledStudy(name="Nakato Mary", number="P-9"))
    shown = page(client, q=text)
    assert "Okello Grace" in shown
    assert "Nakato" not in shown


def test_who_is_not_found_is_said(client, told):
    assert "Nobody on the list has “nobody”" in page(client, q="nobody")


def test_an_empty_list_is_said(client, told):
    told.clear()
    assert "Nobody is waiting for a film today." in page(client)


def test_a_list_that_is_longer_than_the_page_says_so(client, told):
    told += [ScheduledStudy(number=f"N-{number}") for number in range(250)]
    assert "longer than this page" in page(client)


def test_a_machine_that_does_not_answer_is_said_and_the_others_are_shown(client, told, monkeypatch):
    Peer.objects.create(name="Other", ae_title="X", host="127.0.0.1", gives_worklist=True)
    ask_ris = worklist.ask

    def one_is_away(peer: Peer, *args: Any, **more: Any) -> Answer:
        if peer.name == "Other":
            raise NoWorklist("no_answer")
        return ask_ris(peer, *args, **more)

    monkeypatch.setattr(worklist, "ask", one_is_away)
    shown = page(client)
    assert "Other: nothing answers at 127.0.0.1" in shown
    assert "Okello Grace" in shown


def test_the_page_does_not_wait_for_a_machine_that_sleeps(client, told, monkeypatch, lookup):
    wakes = threading.Event()
    ask_ris = worklist.ask

    def asleep(*args: Any, **more: Any) -> Answer:
        wakes.wait(60)
        return ask_ris(*args, **more)

    monkeypatch.setattr(worklist, "ask", asleep)
    waiting = scheduled.Lookup.waiting
    monkeypatch.setattr(
        scheduled.Lookup, "waiting", lambda self, whom: waiting(self, whom, patience=0.01)
    )
    response = client.get(reverse("scheduled"))
    assert "is being asked" in text_of(response)
    assert b'http-equiv="refresh"' in response.content
    wakes.set()
    lookup.wait()
    assert "Okello Grace" in page(client)


def test_the_machine_is_not_asked_for_every_search(client, told, monkeypatch):
    asked = []
    ask_ris = worklist.ask
    monkeypatch.setattr(
        worklist, "ask", lambda *args, **more: asked.append(1) or ask_ris(*args, **more)
    )
    for text in ("a", "b", "c"):
        page(client, q=text)
    assert len(asked) == 1
    assert client.get(reverse("scheduled"), {"again": "1", "q": "a b"}).status_code == 302
    page(client)
    assert len(asked) == 2


def test_another_machine_is_another_list(client, told):
    assert "Okello" in page(client)
    told.clear()
    Peer.objects.update(port=1)
    assert "Okello" not in page(client)


def test_who_may_only_look_sees_no_list(told):
    assert browser("read_only").get(reverse("scheduled")).status_code == 403


def test_a_health_worker_sees_it(told):
    assert browser("health_worker").get(reverse("scheduled")).status_code == 200


# --- from the list to the film ------------------------------------------------------------------


def take(client: Any, entry: ScheduledStudy = GRACE) -> Any:
    sent = {"entry": scheduled.seal(entry)}
    return client.post(reverse("scheduled-take"), sent, follow=True)


def upload(client: Any, response: Any, seed: int = 1) -> Study:
    """Put a film in by the form of the page that was come to."""
    html = response.content.decode()
    hidden = dict(re.findall(r'type="hidden" name="(study|patient|order)" value="([^"]+)"', html))
    film = io.BytesIO(film_bytes(seed))
    film.name = f"{seed}.png"
    client.post(reverse("upload"), {"films": film, **hidden})
    return Instance.objects.latest("pk").study


def test_the_film_that_is_put_in_next_is_the_patients_and_the_orders(client, told, administrator):
    response = take(client)
    assert "Okello Grace" in text_of(response)
    study = upload(client, response)
    assert study.patient
    assert (study.study_uid, study.accession_number) == (GRACE.study_uid, "A-1")
    facts = {n: getattr(study.patient, n) for n in Patient.FIELDS}
    assert facts == {"name": "Okello Grace", "number": "P-77", "sex": "F", "birth_date": BORN}
    assert study.age_years == pytest.approx((study.day - BORN).days / 365.25)
    assert AuditEvent.objects.get(action="patient_entered").user == administrator


def test_no_study_is_begun_before_there_is_a_film(client, told):
    take(client)
    assert not Study.objects.exists()


def test_the_camera_takes_the_order_along(client, told):
    html = take(client).content.decode()
    link = re.search(r'href="(/camera\?[^"]+)"', html)
    assert link
    response = client.get(link[1].replace("&amp;", "&"))
    assert upload(client, response).study_uid == GRACE.study_uid


def test_a_second_film_of_the_order_joins_the_first(client, told):
    form = take(client)
    first = upload(client, form, seed=1)
    assert upload(client, form, seed=2) == first
    assert "join study" in text_of(take(client))
    assert upload(client, take(client), seed=3) == first


def test_the_list_says_which_films_are_there(client, told):
    study = upload(client, take(client))
    shown = page(client)
    assert study.number in shown
    assert "Add a film" in shown


def test_a_patient_who_is_known_is_not_entered_again(client, told):
    known = Patient.objects.create(name="Grace Okello", number="P-77")
    assert upload(client, take(client)).patient == known
    known.refresh_from_db()
    assert (known.sex, known.birth_date) == ("F", BORN)
    assert known.name == "Grace Okello", "what people wrote stands"


def test_two_clicks_enter_one_patient_even_without_a_number(client, told):
    nameless = ScheduledStudy(name="Okello Grace", sex="F", birth_date=BORN)
    for _ in range(2):
        take(client, nameless)
    assert Patient.objects.count() == 1


def test_namesakes_without_number_and_date_of_birth_stay_two(client, told):
    for _ in range(2):
        take(client, ScheduledStudy(name="Okello Grace"))
    assert Patient.objects.count() == 2


def test_an_old_page_sends_back_to_the_list(client, told):
    response = client.post(reverse("scheduled-take"), {"entry": "old"}, follow=True)
    assert "Choose the patient once more." in text_of(response)
    assert not Patient.objects.exists()


def test_a_header_outweighs_the_order(told):
    content = dicom(chest_film(1, (64, 64)), StudyInstanceUID="1.2.3.4", AccessionNumber="H-9")
    study = take_in(content, study_uid=GRACE.study_uid, accession_number="A-1")
    assert (study.study_uid, study.accession_number) == ("1.2.3.4", "H-9")


def test_an_order_of_another_patient_begins_a_study_of_its_own(told):
    amina, okello = (Patient.objects.create(name=name) for name in ("Amina", "Okello"))
    first = take_in(film_bytes(1), patient=amina, study_uid=GRACE.study_uid)
    other = take_in(film_bytes(2), patient=okello, study_uid=GRACE.study_uid)
    assert first != other
    assert other.patient == okello


# --- films without a name -----------------------------------------------------------------------


def film_of(source: str = "dicom", seed: int = 1, **header: Any) -> Instance:
    """A film that a machine sent, whose header says this of the patient, read by now."""
    order = {"study_uid": header.pop("study_uid", "")}
    order["accession_number"] = header.pop("accession_number", "")
    belonging = intake.Belonging(sender="XRAY", **order)
    film = intake.receive(io.BytesIO(film_bytes(seed)), "x.dcm", source, belonging).instance
    radiograph = Radiograph(pixels=np.zeros((4, 4), np.uint8), **header)
    answer(film.study, film=radiograph)
    return Instance.objects.get(pk=film.pk)


def known_of(film: Instance) -> dict[str, Any] | None:
    patient = Study.objects.get(pk=film.study_id).patient
    return {n: getattr(patient, n) for n in Patient.FIELDS} if patient else None


FACTS = {"name": "Okello Grace", "number": "P-77", "sex": "F", "birth_date": BORN}


def test_a_film_with_a_number_alone_learns_the_rest_from_the_worklist(told):
    film = film_of(patient_id="P-77")
    scheduled.learn_patient(film.study_id)
    assert known_of(film) == FACTS
    [event] = AuditEvent.objects.filter(action="patient_learnt")
    assert event.details["because"] == "worklist"
    assert event.details["changed"]["name"] == ["", "Okello Grace"]


def test_a_film_with_an_order_alone_finds_its_patient(told):
    film = film_of(accession_number="A-1")
    assert known_of(film) is None
    scheduled.learn_patient(film.study_id)
    assert known_of(film) == FACTS


def test_a_patient_who_is_here_already_is_found_by_the_order(told):
    here = Patient.objects.create(number="P-77", name="Okello Grace")
    film = film_of(accession_number="A-1")
    assert scheduled.learn_patient(film.study_id) == here


def test_the_age_follows_from_the_date_of_birth(told):
    film = film_of(patient_id="P-77")
    scheduled.learn_patient(film.study_id)
    study = Study.objects.get(pk=film.study_id)
    assert study.age_years == pytest.approx((study.day - BORN).days / 365.25)


NOT_LEARNT = {
    "an age that is not hers": {"patient_id": "P-77", "age_years": 60.0},
    "another sex": {"patient_id": "P-77", "sex": "M"},
    "an order of somebody else's number": {"patient_id": "P-78", "accession_number": "A-1"},
    "a number that nobody has": {"patient_id": "P-1"},
}


@pytest.mark.parametrize("header", NOT_LEARNT.values(), ids=NOT_LEARNT)
def test_what_speaks_against_it_is_not_learnt(told, header):
    film = film_of(**header)
    before = known_of(film)
    scheduled.learn_patient(film.study_id)
    assert known_of(film) == before


def test_of_two_people_with_one_number_none_is_guessed(told):
    told.append(ScheduledStudy(name="Okello Mary", number="P-77"))
    film = film_of(patient_id="P-77")
    scheduled.learn_patient(film.study_id)
    assert known_of(film) == {"name": "", "number": "P-77", "sex": "", "birth_date": None}


def test_several_orders_of_one_patient_speak_of_one(told):
    told.append(ScheduledStudy(**(vars(told[0]) | {"accession_number": "A-2"})))
    film = film_of(patient_id="P-77")
    scheduled.learn_patient(film.study_id)
    assert known_of(film) == FACTS


def test_a_machine_that_heeds_no_key_teaches_nothing_wrong(told, monkeypatch):
    everybody = Answer((ScheduledStudy(name="Nakato Mary", number="P-9"),))
    monkeypatch.setattr(worklist, "ask", lambda *_args, **_more: everybody)
    film = film_of(patient_id="P-77")
    scheduled.learn_patient(film.study_id)
    assert known_of(film) == {"name": "", "number": "P-77", "sex": "", "birth_date": None}


def test_a_machine_that_is_away_changes_nothing(told, monkeypatch):
    def away(*_args: Any, **_more: Any) -> Answer:
        raise NoWorklist("refused")

    monkeypatch.setattr(worklist, "ask", away)
    assert scheduled.learn_patient(film_of(patient_id="P-77").study_id) is None


def test_a_study_that_was_deleted_meanwhile_teaches_nobody(told):
    assert scheduled.learn_patient(4711) is None


@pytest.fixture
def learner(monkeypatch) -> Iterator[scheduled.Learner]:
    found = scheduled.Learner()
    monkeypatch.setattr(scheduled, "learner", found)
    yield found
    found.wait()


ASKED = [
    ("dicom", {"patient_id": "P-77"}, True),
    ("folder", {"patient_id": "P-77"}, True),
    ("dicom", {"accession_number": "A-1"}, True),
    ("upload", {"patient_id": "P-77"}, False),
    ("dicom", {"patient_id": "P-77", "patient_name": "Okello Grace"}, False),
    ("dicom", {"patient_name": "Okello Grace"}, False),
    ("dicom", {}, False),
]


@pytest.mark.parametrize(("source", "header", "asked"), ASKED)
def test_it_asks_about_films_that_machines_send_without_a_name(
    told, learner, monkeypatch, source, header, asked
):
    monkeypatch.setattr(scheduled, "learn_patient", lambda _pk: None)
    film = film_of(source, **header)
    assert learner.ask_about(film) is asked
    assert not learner.ask_about(film), "once"


def test_without_a_machine_to_ask_it_asks_nobody(learner, lookup):
    assert not learner.ask_about(film_of(patient_id="P-77"))


def test_a_question_that_breaks_does_not_end_the_next(told, learner, monkeypatch, caplog):
    seen: list[int] = []

    def breaks(pk: int) -> None:
        seen.append(pk)
        raise RuntimeError("Okello Grace")

    monkeypatch.setattr(scheduled, "learn_patient", breaks)
    films = [film_of(seed=seed, patient_id=f"P-{seed}") for seed in (1, 2)]
    for film in films:
        learner.ask_about(film)
        learner.wait()
    assert seen == [film.study_id for film in films]
    assert "RuntimeError" in caplog.text
    assert "Okello" not in caplog.text


@pytest.mark.django_db(transaction=True)
def test_the_worker_does_not_wait_for_a_machine_that_hangs(
    site, data_dir, hospital, learner, monkeypatch
):
    """The answer is there while the hospital is still being asked; then the name comes."""
    hospital.order()
    monkeypatch.setattr(worker, "analyse", lambda *_args: analysis_of(patient_id="P-77"))
    with hospital.open("--sleep-before", "1") as peer:
        peer.pk = None
        peer.save()
        film = intake.receive(io.BytesIO(film_bytes()), "x", "dicom").instance
        worker.analyse_instance.call(film.pk)
        assert Instance.objects.get(pk=film.pk).state == State.ANSWERED
        assert known_of(film) == {"name": "", "number": "P-77", "sex": "", "birth_date": None}
        thread = learner._thread
        assert thread
        thread.join(60)
    assert known_of(film) == FACTS


def analysis_of(**header: Any) -> Analysis:
    film = Radiograph(pixels=np.zeros((4, 4), np.uint8), **header)
    return Analysis("likely", MODEL, 0.9, 0.4, milliseconds=1.0, film=film)


def test_the_history_says_that_the_worklist_said_so(told, client):
    film = film_of(patient_id="P-77")
    scheduled.learn_patient(film.study_id)
    shown = text_of(client.get(reverse("study", args=[film.study.number])))
    assert "The hospital's worklist says so." in shown
