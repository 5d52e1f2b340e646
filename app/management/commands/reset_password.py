"""``reset-password``: an administrator's new password by the recovery code, without pages."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandParser
from django.utils.translation import gettext as _

from app import startup
from app.account_forms import RECOVERY
from app.log_ins import words_of
from app.management.commands.create_user import USAGE, read_password
from app.models import AuditEvent, RecoveryCode, TooManyTries, Tries, User
from app.models.recovery import NoSuchAdministrator, WrongCode
from app.stop import CannotStart


class Command(BaseCommand):
    help = (
        "Give an administrator a new password, with the recovery code. What is not given is asked "
        "for, or read from standard input where that is no terminal: code and password, a line "
        "each. The code is used up; the next one is printed."
    )
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username", help="the administrator's name to log in with")
        parser.add_argument("--code", help="the recovery code; others see it in the process list")
        parser.add_argument("--data-dir", help="folder of database, films, backups and logs")

    def handle(self, *args: Any, **options: Any) -> None:
        startup.prepare_data_directory()
        startup.prepare_database()
        code = options["code"] or read_password(once=_("Recovery code"))
        password, username = read_password(), options["username"]
        try:
            validate_password(password, User(username=username))
        except ValidationError as error:
            raise CannotStart(" ".join(error.messages), USAGE) from error
        following = recover(code, username, password)
        self.stdout.write(_("The new password is set. The next recovery code:"))
        self.stdout.write(following)


def recover(code: str, username: str, password: str) -> str:
    """Set the password; the next code. Raises CannotStart. Tries count with those of the page."""
    try:
        Tries.begin(RECOVERY, Tries.HERE)
        found = RecoveryCode.recover(code, username, password)
    except TooManyTries as wait:
        raise CannotStart(words_of(wait), USAGE) from wait
    except WrongCode as error:
        AuditEvent.record(None, "recovery_failed")
        words = _("This is not the recovery code that is valid now.")
        raise CannotStart(words, USAGE) from error
    except NoSuchAdministrator as others:
        Tries.was_right(RECOVERY, Tries.HERE)
        words = _("No administrator has this user name. These do: %(names)s.")
        raise CannotStart(words % {"names": ", ".join(others.names)}, USAGE) from others
    Tries.was_right(RECOVERY, Tries.HERE)
    return found
