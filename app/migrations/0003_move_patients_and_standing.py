"""Every study's name, number and sex become a patient; its status and answer become columns.

Studies that name the same patient number, the same name and no two sexes share one patient. A name
alone makes nobody the same person.
"""

import unicodedata
from collections import defaultdict

from django.db import migrations

UNFINISHED = ("waiting", "analysing")
SHOWN_FIRST = ("analysing", "waiting", "failed", "answered", "refused", "unreadable")


def plain(text):
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(c for c in decomposed if not unicodedata.combining(c))


def move(apps, schema_editor):
    Study, Patient = apps.get_model("clinic", "Study"), apps.get_model("clinic", "Patient")
    sexes = sexes_by_person(Study.objects)
    known = {}
    for study in Study.objects.order_by("pk").iterator():
        name, number, sex = study.patient_name, study.patient_number, study.patient_sex
        if name or number or sex:
            said = sexes[number, plain(name)]
            if len(said) == 1:
                sex = next(iter(said)) if number else sex
            key = (number, plain(name), sex) if number else study.pk
            if key not in known:
                known[key] = Patient.objects.create(
                    name=name, number=number, sex=sex, search_text=plain(f"{name} {number}")
                )
            study.patient = known[key]
        study.status, study.answer = standing(study)
        study.save(update_fields=["patient", "status", "answer"])


def sexes_by_person(studies):
    """What sexes the studies of one number and name state: more than one is more than one person."""
    sexes = defaultdict(set)
    rows = studies.exclude(patient_sex="")
    for number, name, sex in rows.values_list("patient_number", "patient_name", "patient_sex"):
        sexes[number, plain(name)].add(sex)
    return sexes


def standing(study):
    instances = list(study.instances.all())
    states = {instance.state for instance in instances}
    status = next((state for state in SHOWN_FIRST if state in states), "waiting")
    if status in UNFINISHED:
        return status, ""
    newest = [f for i in instances if (f := i.findings.order_by("created_at", "pk").last())]
    answered = [f for f in newest if f.probability is not None]
    shown = max(answered or newest, key=lambda f: (f.created_at, f.pk), default=None)
    return status, shown.answer if shown else ""


def move_back(apps, schema_editor):
    Study = apps.get_model("clinic", "Study")
    for study in Study.objects.exclude(patient=None).select_related("patient").iterator():
        study.patient_name, study.patient_number = study.patient.name, study.patient.number
        study.patient_sex = study.patient.sex
        study.save(update_fields=["patient_name", "patient_number", "patient_sex"])


class Migration(migrations.Migration):
    dependencies = [("clinic", "0002_people_patients_readings_audit")]

    operations = [migrations.RunPython(move, move_back)]
