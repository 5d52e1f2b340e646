"""Settings from outside: the ``CLINIC_…`` environment variables, each checked where it is read.

Imported before Django, so it stays with the standard library (and platformdirs).
"""

from __future__ import annotations

import argparse
import contextlib
import os
from datetime import datetime, timedelta
from pathlib import Path


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
