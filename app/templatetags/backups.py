"""What pages say of backups."""

from __future__ import annotations

from django import template
from django.conf import settings
from django.utils import timezone
from django.utils.formats import number_format
from django.utils.translation import gettext as _

from app import backup_words, checks
from app.backup import note
from app.backup.outcome import RESTORE, Outcome
from app.models import Site

register = template.Library()

register.filter("backup_fault_words", backup_words.fault_words)


@register.simple_tag
def backups_are_late(site: Site) -> bool:
    """Whether no stick has got a backup for a week, in a clinic that has been at work so long."""
    since = site.set_up_at or timezone.now()
    return note.read(settings.DATA_DIR).is_overdue(timezone.now(), since)


@register.simple_tag
def outcome_words(done: Outcome) -> str:
    """What a restoration or a repair has done."""
    if done.kind != RESTORE:
        problem = checks.repaired()
        return problem.sentence if problem else ""
    words = [
        _("The backup of %(moment)s was restored.")
        % {"moment": backup_words.moment_words(done.day)},
        backup_words.damaged_words(done.damaged),
    ]
    if done.films:
        words.append(
            _("Films that it did not know of and are in the worklist again: %(films)s.")
            % {"films": number_format(done.films)}
        )
    return " ".join(filter(None, words))
