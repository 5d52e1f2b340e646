"""Fuzz subjects in a process of its own: ``python -m tests.fuzz SEED SUBJECT=COUNT...``.

Prints one JSON object for each: how many examples, the slowest, the most memory, what came of them.
Ends otherwise where an example raises (its shrunken form is printed), hangs, or kills the process;
the file that is named first holds that example.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import shutil
import sys
import tempfile
from pathlib import Path

# Before Django's settings are read: nothing here may touch the data of a clinic
FOLDER = Path(tempfile.mkdtemp(prefix="clinic-fuzz-"))
for name in [name for name in os.environ if name.startswith("CLINIC_")]:
    del os.environ[name]
LAST = FOLDER / "last"
# Before whatever is stopped at the end: what is registered first comes last
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)
os.environ["CLINIC_HOME"] = str(FOLDER / "home")
os.environ["DJANGO_SETTINGS_MODULE"] = "app.settings"
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

from tests.fuzz.exploring import explore  # noqa: E402
from tests.fuzz.prepared import prepared  # noqa: E402
from tests.fuzz.watch import Watch, forget_peak  # noqa: E402


def main(first_seed: str, *wanted: str) -> None:
    """Look at so many examples of each subject."""
    import django

    django.setup()
    logging.disable(logging.WARNING)  # a line for every refusal, with the way to it
    print(f"what is looked at: {LAST}", file=sys.stderr)
    for subject, _, count in (words.partition("=") for words in wanted):
        found, watch = prepared(subject, FOLDER), Watch(LAST)
        forget_peak()
        try:
            explore(found, watch, int(count), int(first_seed))
        except BaseException:
            atexit.unregister(shutil.rmtree)
            print(f"found in {subject}: {LAST.read_bytes()[:5000]!r}", file=sys.stderr)
            raise
        print(json.dumps({"subject": subject, **watch.report(), **found.end()}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
