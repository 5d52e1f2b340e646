"""``create-user``: enter a person who may log in, without a browser."""

from __future__ import annotations

import contextlib
import getpass
import sys
from typing import Any

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandParser
from django.db import transaction
from django.utils.translation import gettext as _

from app import startup
from app.models import AuditEvent, Role, Site, User
from app.models.site import AlreadySetUp
from app.stop import CannotStart

USAGE = 2


class Command(BaseCommand):
    help = (
        "Enter a person who may log in. The password is asked for, or read from the first line of "
        "standard input where that is no terminal."
    )
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username", help="the name to log in with")
        parser.add_argument("--role", choices=Role.values, required=True, help="what they may do")
        parser.add_argument("--full-name", default="", help="as on reports")
        parser.add_argument("--data-dir", help="folder of database, films, backups and logs")

    def handle(self, *args: Any, **options: Any) -> None:
        startup.prepare_data_directory()
        startup.prepare_database()
        try:
            user = enter(
                options["username"], read_password(), options["role"], options["full_name"]
            )
        except ValidationError as error:
            raise CannotStart(
                _("Nobody was entered.") + " " + " ".join(error.messages), USAGE
            ) from error
        self.stdout.write(_("%(name)s may now log in.") % {"name": user.username})


def enter(username: str, password: str, role: str, full_name: str) -> User:
    """Enter the user; the first administrator sets the clinic up. Raises ValidationError."""
    validate_password(password, User(username=username, full_name=full_name))
    with transaction.atomic():
        user = User.enter(username, password, role, full_name=full_name)
        AuditEvent.record(None, "user_entered", user, role=user.role)
        if user.is_administrator:
            with contextlib.suppress(AlreadySetUp):
                Site.claim().set_up()
    return user


def read_password(once: str = "") -> str:
    """The password, not shown while it is typed, and so asked for twice. Raises CannotStart.

    ``once``: what to call one that is known already, and asked for once.
    """
    if sys.stdin is None:
        return ""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    try:
        if once:
            return getpass.getpass(f"{once}: ")
        first, second = (getpass.getpass(f"{line}: ") for line in (_("Password"), _("Again")))
    except (EOFError, KeyboardInterrupt) as error:
        raise CannotStart(_("No password was typed. Nobody was entered."), USAGE) from error
    if first != second:
        raise CannotStart(_("The two passwords are not the same. Nobody was entered."), USAGE)
    return first
