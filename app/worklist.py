"""Which studies the worklist shows: its tabs, filters and search, as an address carries them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import cached_property
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.db.models import Count, Exists, OuterRef, Q
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from app import messages
from app.models import UNFINISHED, Patient, Reading, State, Study, User
from app.models.studies import StudyQuerySet

NOT_USABLE = (State.REFUSED, State.UNREADABLE, State.FAILED, State.CANCELLED)
FILTERS = ("since", "until", "answer", "reader")
ANSWERS = ("likely", "unlikely", "cannot_say")
#: No film is older than the discovery of its rays.
FIRST_YEAR, LAST_YEAR = 1895, 2199
LONGEST_TEXT = 200


NO_DATE = _("“%(text)s” is no date of the calendar.")


@dataclass(frozen=True)
class Tab:
    """One part of the worklist."""

    words: Promise
    holds: Q
    nothing: Promise


TABS: dict[str, Tab] = {
    "all": Tab(_("All"), Q(), _("No films yet. The first one you put in appears here.")),
    "waiting": Tab(_("Waiting"), Q(status__in=UNFINISHED), _("No film is waiting.")),
    # Told by what it is not: an index on the status would be no help for nearly all studies
    "answered": Tab(
        _("Answered"),
        ~Q(status__in=(*UNFINISHED, *NOT_USABLE)),
        _("No film has been answered yet."),
    ),
    "unusable": Tab(_("Not usable"), Q(status__in=NOT_USABLE), _("Every film could be analysed.")),
    "unread": Tab(_("Not read yet"), Q(is_read=False), _("Somebody has read every study.")),
    "read": Tab(_("Read"), Q(is_read=True), _("Nobody has read a study yet.")),
}


class WorklistForm(forms.Form):
    """What the address asks for. A wrong value filters nothing, and is said beside its field."""

    q = forms.CharField(label=_("Number, name or file"), required=False, max_length=LONGEST_TEXT)
    since = forms.DateField(label=_("From"), required=False)
    until = forms.DateField(label=_("To"), required=False)
    answer = forms.ChoiceField(
        label=_("Answer"),
        required=False,
        choices=[("", _("Every answer")), *((code, messages.ANSWERS[code]) for code in ANSWERS)],
    )
    reader = forms.ModelChoiceField(
        label=_("Read by"), required=False, queryset=User.objects.none(), empty_label=_("Anybody")
    )
    patient = forms.ModelChoiceField(
        label=_("Patient"),
        required=False,
        queryset=Patient.objects.all(),
        widget=forms.HiddenInput,
        error_messages={"invalid_choice": _("This patient is not in the program any more.")},
    )

    def __init__(self, asked: Mapping[str, Any]) -> None:
        super().__init__(asked)
        for name in ("since", "until"):
            self.fields[name].widget = forms.DateInput({"type": "date"}, format="%Y-%m-%d")
            self.fields[name].error_messages["invalid"] = NO_DATE % {"text": asked.get(name, "")}
        readers = User.objects.filter(Exists(Reading.objects.filter(by=OuterRef("pk")).order_by()))
        self.fields["reader"].queryset = readers.order_by("full_name", "username")  # type: ignore[attr-defined]

    def clean_since(self) -> date | None:
        """A day on which there can have been films."""
        return _possible(self.cleaned_data["since"])

    def clean_until(self) -> date | None:
        """As the first day; not before it."""
        until, since = _possible(self.cleaned_data["until"]), self.cleaned_data.get("since")
        if until and since and until < since:
            raise ValidationError(_("This day is before the first one."))
        return until

    @cached_property
    def chosen(self) -> dict[str, Any]:
        """The values that hold, without those left open."""
        self.is_valid()
        return {name: value for name, value in self.cleaned_data.items() if value}

    def filtered(self, studies: StudyQuerySet, user: User) -> StudyQuerySet:
        """The studies that fit. What ``user`` may not know yet is no ground to find one by."""
        chosen = self.chosen
        if since := chosen.get("since"):
            studies = studies.filter(created_at__gte=_begin_of(since))
        if until := chosen.get("until"):
            studies = studies.filter(created_at__lt=_begin_of(until + timedelta(days=1)))
        if patient := chosen.get("patient"):
            studies = studies.filter(patient=patient)
        if reader := chosen.get("reader"):
            studies = studies.filter(pk__in=Reading.objects.filter(by=reader).values("study"))
        if answer := chosen.get("answer"):
            studies = studies.with_answer_for(answer, user)
        return studies.search(chosen.get("q", ""))


class Worklist:
    """The studies that one user asked for in one address."""

    def __init__(self, asked: Mapping[str, Any], user: User) -> None:
        self.form = WorklistForm(asked)
        self.user = user
        tab = asked.get("tab", "")
        self.tab = tab if tab in TABS else "all"

    @cached_property
    def studies(self) -> StudyQuerySet:
        """Those of every tab."""
        return self.form.filtered(Study.objects.all(), self.user)

    @cached_property
    def counts(self) -> dict[str, int]:
        """How many there are under each tab."""
        asked = {code: TABS[code].holds for code in ("all", "waiting", "unusable", "read")}
        if self.is_filtered:
            # One look through the index for all, because each looks at every study of it
            counts = {f"in_{code}": Count("pk", filter=q or None) for code, q in asked.items()}
            found = self.studies.aggregate(**counts)
            number = {code: found[f"in_{code}"] for code in asked}
        else:
            number = {code: self.studies.filter(holds).count() for code, holds in asked.items()}
        number["answered"] = number["all"] - number["waiting"] - number["unusable"]
        number["unread"] = number["all"] - number["read"]
        return number

    def paginator(self, per_page: int) -> Paginator[int]:
        """The studies of the tab by primary key, newest first.

        Keys alone, which the index of the worklist holds: the rows that a page passes over, or a
        search turns down, are never looked up.
        """
        here = self.studies.filter(TABS[self.tab].holds).order_by("-created_at", "-id")
        paginator = Paginator(here.values_list("pk", flat=True), per_page)
        paginator.count = self.counts[self.tab]
        return paginator

    @property
    def is_filtered(self) -> bool:
        """Whether anything but the tab narrows it down."""
        return bool(self.form.chosen)

    @property
    def filters(self) -> list[forms.BoundField]:
        """The fields of the filters, which fold away where there is little room."""
        return [self.form[name] for name in FILTERS]

    @property
    def narrowed(self) -> int:
        """How many of them hold."""
        return len(self.form.chosen.keys() & set(FILTERS))


def of_exact_number(text: str) -> Study | Patient | None:
    """The study or the patient of exactly that number, as a barcode scanner types it.

    None for what is no number in whole, and where several patients share it.
    """
    if not text:
        return None
    if study := Study.objects.filter(number=text).first():
        return study
    written = {text, text.upper(), text.lower()}
    patients = Patient.objects.filter(number__in=written).order_by("pk")[:2]
    return patients[0] if len(patients) == 1 else None


def _possible(day: date | None) -> date | None:
    if day and not FIRST_YEAR <= day.year <= LAST_YEAR:
        raise ValidationError(_("There can be no film of this day."))
    return day


def _begin_of(day: date) -> datetime:
    return timezone.make_aware(datetime.combine(day, time.min))
