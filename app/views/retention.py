"""How long studies are kept: a rule, what it would delete, and the confirmation. For
administrators.
"""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages as notes
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from app import retention, versions
from app.access import Permission, requires, user_of
from app.retention import Rule


class RuleForm(forms.Form):
    """Which studies a rule speaks of."""

    years = forms.IntegerField(
        label=gettext_lazy("Delete studies older than (years)"),
        min_value=retention.FEWEST_YEARS,
        max_value=retention.MOST_YEARS,
        error_messages={
            "required": gettext_lazy("Say how many years."),
            "invalid": gettext_lazy("The years must be a whole number, such as 10."),
            "min_value": gettext_lazy("Studies are kept for a year at least."),
            "max_value": gettext_lazy("100 years are the most."),
        },
        help_text=gettext_lazy("Your country's law says how long at least."),
    )
    answer = forms.ChoiceField(
        label=gettext_lazy("Which of them"),
        required=False,
        choices=[
            (retention.ANY, gettext_lazy("whatever the computer answered")),
            (retention.UNLIKELY, gettext_lazy("only those answered “Unlikely”")),
        ],
    )
    only_read = forms.BooleanField(
        label=gettext_lazy("Only studies that somebody has read"), required=False
    )
    children_longer = forms.BooleanField(
        label=gettext_lazy("Keep children's studies longer"),
        required=False,
        help_text=gettext_lazy(
            "Until the child would be 18, and as many years again. So are studies of unknown age."
        ),
    )

    def rule(self) -> Rule:
        """The rule as it was typed."""
        values: dict[str, Any] = self.cleaned_data
        return Rule(
            values["years"],
            values["answer"] or retention.ANY,
            values["only_read"],
            values["children_longer"],
        )


@requires(Permission.ADMINISTER)
@never_cache
@require_safe
def page(request: HttpRequest) -> HttpResponse:
    """The rule, and what it would delete now; nothing is deleted here."""
    if "years" not in request.GET:
        return render(request, "retention.html", {"form": RuleForm(initial=Rule.last().values)})
    form = RuleForm(request.GET)
    if not form.is_valid():
        return render(request, "retention.html", {"form": form}, status=400)
    rule = form.rule()
    shown = retention.preview(rule)
    context = {
        "form": form,
        "shown": shown,
        "base": versions.seal({"rule": rule.values, **shown.sealed}),
        "more": shown.studies - len(shown.first),
    }
    return render(request, "retention.html", context)


@requires(Permission.ADMINISTER)
@require_POST
def delete(request: HttpRequest) -> HttpResponse:
    """Delete what the page has shown, and nothing else."""
    base = versions.unseal(request.POST.get("base", ""))
    if not base or "sure" not in request.POST:
        notes.error(request, _("Nothing was deleted: tick that it is meant."))
        return redirect("retention")
    deleted = retention.apply(Rule(**base["rule"]), base["studies"], user_of(request))
    words = ngettext("%(number)d study is deleted.", "%(number)d studies are deleted.", deleted)
    notes.success(request, words % {"number": deleted})
    return redirect("retention")
