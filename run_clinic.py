#!/usr/bin/env python3
"""The clinic program: ``python run_clinic.py`` serves the pages and opens the browser on them."""

import os

# Before anything can import onnxruntime: later wheels of it report to their maker by default
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import re
import sys
from pathlib import Path

USAGE = """Usage: run_clinic.py [COMMAND] [OPTIONS]  Without a command: serve, open the browser.

  serve     serve the pages on this computer
  analyze   read films from files and folders, without a server
  worker    work the queue of films in a process of its own
  import-update   take a model from a stick
  go-back   let the model before the last update answer again
  export-readings   write what was read, without identity, for the publisher
  export-audit   write the record of who did what, for an auditor
  create-user   enter a person who may log in
  reset-password   give an administrator a new password, with the recovery code
  backup    copy the data, to the chosen sticks or to a folder
  restore   bring the data back from a backup
  move-to   bring everything to a database server
  check     look for faults of the installation, and say what to do
  version   say which version this is

Each command explains its options with --help. Settings: CLINIC_HOME and others, see the README.
"""
COMMANDS = re.findall(r"^  (\S+) ", USAGE, re.MULTILINE)


def main(arguments: list[str]) -> int:
    """Run one command; the exit code."""
    if arguments[:1] in (["-h"], ["--help"], ["help"]):
        print(USAGE)
        return 0
    if not arguments or arguments[0].startswith("-"):
        arguments = ["serve", "--window", *arguments]
    command, *arguments = arguments
    if command not in COMMANDS:
        print(f"There is no command “{command}”.\n\n{USAGE}", file=sys.stderr)
        return 2
    return run(command, arguments)


def run(command: str, arguments: list[str]) -> int:
    """Hand over to the command of that name."""
    from app.options import BadSetting, take_data_directory

    take_data_directory(arguments)
    os.environ["DJANGO_SETTINGS_MODULE"] = "app.settings"
    try:
        import django
        from django.core.management import load_command_class

        from app.stop import CannotStart
    except ImportError as error:
        print(f"The program is not completely installed: {error}.", file=sys.stderr)
        return 2
    try:
        django.setup()
        # Loaded by name: asked to find them, Django would run its own "version" and "check"
        module = command.replace("-", "_")
        load_command_class("app", module).run_from_argv(["run_clinic.py", command, *arguments])
    except (BadSetting, CannotStart) as error:
        print(error, file=sys.stderr)
        return getattr(error, "exit_code", 2)
    return 0


if __name__ == "__main__":
    if sys.stdout is None or sys.stderr is None:  # Windows, double-clicked: there is no console
        sys.stdout = sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    if hasattr(sys.stderr, "reconfigure"):
        sys.stderr.reconfigure(errors="backslashreplace")
    sys.exit(main(sys.argv[1:]))
