"""Settings from outside: the ``CLINIC_…`` environment variables, each checked where it is read.

Imported before Django, so it stays with the standard library (and platformdirs).
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import ipaddress
import os
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit


class BadSetting(Exception):
    """A setting from the environment or the command line cannot be used; the text says why."""


def data_directory() -> Path:
    """``CLINIC_HOME``: the folder of all the clinic owns; else the user's data folder."""
    given = os.environ.get("CLINIC_HOME", "").strip()
    if given:
        return Path(given).expanduser().absolute()
    return usual_data_directory()


def usual_data_directory() -> Path:
    """The folder of all the clinic owns where nobody named another."""
    from platformdirs import user_data_dir

    return Path(user_data_dir("ClinicCXR", appauthor=False))


def take_data_directory(arguments: list[str]) -> None:
    """Let ``--data-dir`` of any command stand for CLINIC_HOME, before Django reads its settings."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--data-dir", default="")
    with contextlib.suppress(argparse.ArgumentError):  # the command itself will complain
        if folder := parser.parse_known_args(arguments)[0].data_dir:
            os.environ["CLINIC_HOME"] = str(Path(folder).expanduser().absolute())


def whole_number(name: str, default: int, least: int, most: int) -> int:
    """The whole number in the environment variable ``name``, within its limits."""
    given = os.environ.get(name, "").strip()
    if not given:
        return default
    # str.isdecimal alone would take digits of every script, and int() a sign or an underscore
    if not (given.isascii() and given.isdecimal() and least <= int(given) <= most):
        raise BadSetting(
            f"{name} is set to “{given}”. It must be a whole number from {least} to {most}."
        )
    return int(given)


def yes_or_no(name: str, default: bool) -> bool:
    """The yes or no in the environment variable ``name``: 1/0, yes/no, true/false, on/off."""
    given = os.environ.get(name, "").strip().lower()
    if not given:
        return default
    if given in {"1", "yes", "true", "on"}:
        return True
    if given in {"0", "no", "false", "off"}:
        return False
    raise BadSetting(f"{name} is set to “{given}”. It must be yes or no.")


@dataclass(frozen=True)
class Bucket:
    """A place of films in an S3-compatible storage: a bucket, and what their names begin with."""

    name: str
    prefix: str


def database_server(name: str) -> dict[str, Any] | None:
    """The PostgreSQL database in the environment variable ``name``, as Django's settings have it.

    ``postgresql://USER:PASSWORD@HOST:PORT/DATABASE``, with parameters of libpq after a question
    mark. None where nothing is set: the database is a file in the data directory.
    """
    given = os.environ.get(name, "").strip()
    return database_at(given, name) if given else None


def database_at(given: str, name: str) -> dict[str, Any]:
    """The PostgreSQL database of that address; ``name``: of the setting that says it."""
    try:
        url = urlsplit(given)
        port = url.port
    except ValueError:
        url, port = urlsplit(""), None
    database = unquote(url.path.lstrip("/"))
    if url.scheme not in ("postgresql", "postgres") or not database or "/" in database:
        # Without what is set, which holds a password
        raise BadSetting(
            f"{name} is no address of a PostgreSQL database. "
            "Example: postgresql://clinic:PASSWORD@server:5432/clinic"
        )
    _need("psycopg", name)
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": database,
        "USER": unquote(url.username or ""),
        "PASSWORD": unquote(url.password or ""),
        "HOST": unquote(url.hostname or ""),
        "PORT": str(port or ""),
        "OPTIONS": {
            "application_name": "clinic",
            "connect_timeout": 10,
            **dict(parse_qsl(url.query)),
        },
    }


def film_storage(name: str) -> Path | Bucket | None:
    """Where films are, from the environment variable ``name``: a folder, ``s3://BUCKET/PREFIX``, or
    None for the data directory.
    """
    given = os.environ.get(name, "").strip()
    return storage_at(given, name) if given else None


def storage_at(given: str, name: str) -> Path | Bucket:
    """The folder or bucket of that name; ``name``: of the setting that says it."""
    if given.startswith("s3://"):
        bucket, _slash, prefix = given.removeprefix("s3://").partition("/")
        if re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", bucket):
            _need("storages", name)
            return Bucket(bucket, prefix.strip("/"))
    elif Path(given).is_absolute():
        return Path(given)
    raise BadSetting(
        f"{name} is set to “{given}”. It must be a folder's whole path, or s3://BUCKET/PREFIX."
    )


def need(name: str, other: str) -> None:
    """Refuse ``name`` where ``other``, without which it means nothing, is not set."""
    if os.environ.get(name, "").strip() and not os.environ.get(other, "").strip():
        raise BadSetting(f"{name} is set, but {other} is not. The one needs the other.")


def _need(module: str, name: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise BadSetting(
            f"{name} is set, but this installation lacks the package {module}: "
            "install what requirements-server.txt names."
        )


def storages(films: Path | Bucket | None) -> dict[str, Any]:
    """Django's storages, with one for the films where they are in a bucket."""
    found: dict[str, Any] = {
        "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    }
    if isinstance(films, Bucket):
        found["films"] = {
            "BACKEND": "storages.backends.s3.S3Storage",
            "OPTIONS": {
                "bucket_name": films.name,
                "location": films.prefix,
                # Names are digests: what is there under one is the film
                "file_overwrite": True,
                "default_acl": None,
                "max_memory_size": 64 * 1024**2,
            },
        }
    return found


def address(name: str) -> str:
    """The IP address in the environment variable ``name``; empty where none is."""
    given = os.environ.get(name, "").strip()
    try:
        return str(ipaddress.ip_address(given)) if given else ""
    except ValueError as error:
        raise BadSetting(
            f"{name} is set to “{given}”. It must be an IP address, such as 10.0.0.2."
        ) from error


SHORTEST_TOKEN = 20


def token(name: str) -> str:
    """The secret in the environment variable ``name``, too long to be guessed; empty where none."""
    given = os.environ.get(name, "").strip()
    if given and not (given.isascii() and given.isprintable() and len(given) >= SHORTEST_TOKEN):
        raise BadSetting(f"{name} must be at least {SHORTEST_TOKEN} letters and digits.")
    return given


def host_names(name: str) -> tuple[str, ...]:
    """The names of hosts in the environment variable ``name``, with commas between them."""
    names = [one.strip().lower() for one in os.environ.get(name, "").split(",") if one.strip()]
    for one in names:
        if not re.fullmatch(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?", one):
            raise BadSetting(
                f"{name} is set to “{one}”. It must be a name such as clinic.example.org, or "
                "several with commas between them."
            )
    return tuple(names)


def language(name: str, default: str, known: tuple[str, ...]) -> str:
    """The language code in the environment variable ``name``, one of the known ones."""
    given = os.environ.get(name, "").strip().lower()
    if not given:
        return default
    if given not in known:
        raise BadSetting(f"{name} is set to “{given}”. Known languages: {', '.join(known)}.")
    return given


def time_zone(name: str, default: str) -> str:
    """The time zone in the environment variable ``name``, such as Africa/Kampala."""
    given = os.environ.get(name, "").strip()
    if not given:
        return default
    if not _is_time_zone(given):
        raise BadSetting(
            f"{name} is set to “{given}”, which is no known time zone. Example: Africa/Kampala."
        )
    return given


def computer_time_zone() -> str:
    """The computer's own time zone: by name where it gives one, else by today's offset."""
    link = Path("/etc/localtime")
    name = os.environ.get("TZ", "").lstrip(":")
    if not name and link.is_symlink():
        name = str(link.resolve()).partition("zoneinfo/")[2]
    return name if name and _is_time_zone(name) else _zone_of_offset()


# Zones with no whole hours; POSIX's Etc/GMT names, which know only hours, have none for them
_ODD_OFFSETS = {
    210: "Asia/Tehran",
    270: "Asia/Kabul",
    330: "Asia/Kolkata",
    345: "Asia/Kathmandu",
    390: "Asia/Yangon",
    570: "Australia/Darwin",
}


def _zone_of_offset() -> str:
    offset = datetime.now().astimezone().utcoffset() or timedelta()
    minutes = round(offset.total_seconds() / 60)
    if minutes % 60:
        return _ODD_OFFSETS.get(minutes, "UTC")
    return f"Etc/GMT{-minutes // 60:+d}" if minutes else "UTC"  # POSIX counts westwards


def _is_time_zone(name: str) -> bool:
    import zoneinfo

    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True
