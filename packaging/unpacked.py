"""Run first in the portable program: leave nothing behind in the system's temporary folder.

The portable file unpacks itself at every start and removes that folder when it ends. Killed, or cut
off from power, it cannot; so each run holds a lock in its folder, and the next run removes the
folders whose lock nobody holds any more. A process number would not do: it is given again, and the
dead keep theirs until somebody asks after them. And should the unpacking parent be killed, the
program ends with it.
"""

import contextlib
import ctypes
import fcntl
import shutil
import signal
import sys
from pathlib import Path
from typing import IO

LOCK = "clinic.lock"
PR_SET_PDEATHSIG = 1  # linux/prctl.h


def take(path: Path) -> IO[bytes] | None:
    """The lock file, locked until this process ends, however; None where another holds it."""
    handle = path.open("ab")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        handle.close()
        return None
    return handle


def sweep(own: Path) -> None:
    """Remove what killed runs of this program unpacked; never what carries no lock of ours."""
    for lock in own.parent.glob(f"_MEI*/{LOCK}"):
        with contextlib.suppress(OSError):
            if lock.parent != own and (handle := take(lock)):
                shutil.rmtree(lock.parent, ignore_errors=True)
                handle.close()


def end_with_parent() -> None:
    """Ask the kernel to end this process politely when the unpacking one dies (prctl(2))."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


own_folder = Path(vars(sys)["_MEIPASS"])
with contextlib.suppress(OSError):
    held = take(own_folder / LOCK)
    sweep(own_folder)
end_with_parent()
