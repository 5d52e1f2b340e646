"""Every page of the program in a clinic that has been at work: for tests that walk them all."""

from __future__ import annotations

from collections.abc import Iterator

from django.urls import URLPattern, URLResolver, get_resolver, reverse

from app.models import Invitation, LocalOperatingPoint, Patient, Peer, Reading, Site, Study, User
from tests.people import enter
from tests.studies import answered, take_in, turned_down

#: Addresses that answer with no page of their own: pictures, data, files, what only takes forms.
NO_PAGE = {
    "backup-set-up",
    "backup-stick",
    "backup-now",
    "backup-cancel",
    "backup-check",
    "backup-download",
    "backup-stage",
    "backup-decide",
    "backup-seen",
    "retention-delete",
    "encryption-prepare",
    "encryption-confirm",
    "encryption-withdraw",
    "encryption-change",
    "encryption-recovery",
    "remove-pin",
    "log-in-end",
    "log-ins-end-others",
    "unlock",
    "lock-state",
    "held",
    "recovery-code-kept",
    "healthz",
    "metrics",
    "api",
    "api-document",
    "token-end",
    "worklist-rows",
    "cancel-batch",
    "analyse-again",
    "analyse-study-again",
    "patient-delete",
    "patients-find",
    "study-status",
    "scheduled-take",
    "disc-take",
    "disc-stop",
    "film",
    "thumbnail",
    "map",
    "pixels",
    "diagnostics",
    "audit-export",
    "review-table",
    "study-fhir",
    "films-table",
    "month-table",
    "review-undo",
    "review-clear",
    "upload",
    "log-out",
    "choose-language",
    "camera-verdict",
    "lan-authority",
    "update-take",
    "update-try",
    "update-cancel",
    "update-install",
    "update-discard",
    "update-go-back",
    "update-again",
    "peer-remove",
    "peer-test",
    "contribution-prepare",
    "contribution-write",
    "contribution-save",
    "contribution-discard",
    "outbox-now",
    "outbox-drop",
    "outbox-test",
    "study-send",
}


def patterns(resolver: URLResolver | None = None) -> Iterator[URLPattern]:
    """Every address of the program, those of included modules too."""
    for pattern in (resolver or get_resolver()).url_patterns:
        if isinstance(pattern, URLResolver):
            yield from patterns(pattern)
        else:
            yield pattern


def names() -> Iterator[str]:
    """The names of all addresses of the program."""
    return (pattern.name for pattern in patterns() if pattern.name)


def clinic_at_work(administrator: User) -> dict[str, str]:
    """Patients, studies in every state, readings; the addresses of the pages, by name."""
    Site.objects.update(clinic_name="Kisoro Health Centre IV")
    clinician = enter("clinician", full_name="Achieng Odhiambo")
    patient = Patient.objects.create(name="Okello Grace", number="P-77", sex="F")
    likely = answered(answer="likely")
    likely.change({"patient": patient, "age_years": 3.0}, by=clinician)
    earlier = answered(answer="unlikely", seed=2, regions=())
    earlier.change({"patient": patient, "age_years": 2.0}, by=clinician)
    Reading.objects.create(study=likely, by=clinician, conclusion="pneumonia", before_answer=True)
    cannot_say = answered(answer="cannot_say", reason="near_the_threshold", seed=3)
    refused, waiting = turned_down("page_of_text", seed=4), take_in()
    LocalOperatingPoint.objects.create(
        model="chest-test@1.2.3", age_band="under_5", threshold=0.3, applied_by=administrator
    )
    known = page_addresses(likely, patient, clinician)
    known["join"] = reverse("join", args=[Invitation.issue(administrator)])
    return known | {
        f"study {state}": reverse("study", args=[study.number])
        for state, study in {
            "unlikely": earlier,
            "cannot say": cannot_say,
            "refused": refused,
            "waiting": waiting,
        }.items()
    }


def page_addresses(study: Study, patient: Patient, person: User) -> dict[str, str]:
    """An address for every page, whatever its pattern asks for."""
    namesake = Patient.objects.create(name=patient.name)
    machine = Peer.objects.create(name="X-ray room 1", ae_title="XRAY1", host="192.0.2.7")
    wanted = {"number": study.number, "pk": patient.pk, "other": namesake.pk}
    wanted |= {"code": "en", "slug": "films"}
    addresses = {}
    for pattern in patterns():
        if not pattern.name or pattern.name in NO_PAGE:
            continue
        asked = pattern.pattern.converters
        values = {name: wanted.get(name, "x") for name in asked}
        if pattern.name == "person":
            values["pk"] = person.pk
        if pattern.name == "peer":
            values["pk"] = machine.pk
        addresses[pattern.name] = reverse(pattern.name, kwargs=values)
    return addresses
