"""Settings from outside: the ``CLINIC_…`` environment variables, each checked where it is read.

Imported before Django, so it stays with the standard library (platformdirs only when asked for).
"""

from __future__ import annotations

import os
from pathlib import Path


class BadSetting(Exception):
    """A setting from the environment or the command line cannot be used; the text says why."""


def data_directory() -> Path:
    """``CLINIC_HOME``: where everything the clinic owns is kept. Default: the user's data folder."""
    given = os.environ.get("CLINIC_HOME", "").strip()
    if given:
        return Path(given).expanduser().absolute()
    from platformdirs import user_data_dir

    return Path(user_data_dir("ClinicCXR", appauthor=False))


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
    import zoneinfo

    given = os.environ.get(name, "").strip()
    if not given:
        return default
    try:
        zoneinfo.ZoneInfo(given)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise BadSetting(
            f"{name} is set to “{given}”, which is no known time zone. Example: Africa/Kampala."
        ) from None
    return given


def computer_time_zone() -> str:
    """The computer's own time zone where it says so in a way we know, else UTC."""
    link = Path("/etc/localtime")
    name = os.environ.get("TZ", "").lstrip(":")
    if not name and link.is_symlink():
        name = str(link.resolve()).partition("zoneinfo/")[2]
    if name and name in _known_time_zones():
        return name
    return "UTC"


def _known_time_zones() -> set[str]:
    import zoneinfo

    return zoneinfo.available_timezones()
