"""``create-user``: enter a person who may log in, without a browser."""

from __future__ import annotations

import getpass
import sys
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandParser
from django.db import transaction

from app import startup
from app.models import AuditEvent, Role, Site, User
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
            raise CannotStart(" ".join(error.messages), USAGE) from error
        self.stdout.write(f"{user.username} may now log in.")


def enter(username: str, password: str, role: str, full_name: str) -> User:
    """Enter the user; the first administrator sets the clinic up. Raises ValidationError."""
    from django.contrib.auth.password_validation import validate_password

    validate_password(password, User(username=username, full_name=full_name))
    with transaction.atomic():
        user = User.enter(username, password, role, full_name=full_name)
        AuditEvent.record(None, "user_entered", user, username=user.username)
        site = Site.current()
        if user.is_administrator and not site.is_set_up:
            site.set_up()
    return user


def read_password() -> str:
    """The password, not shown while it is typed."""
    if sys.stdin is not None and sys.stdin.isatty():
        return getpass.getpass("Password: ")
    return sys.stdin.readline().rstrip("\r\n") if sys.stdin is not None else ""
