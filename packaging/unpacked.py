"""Run first in the portable program: leave nothing behind in the system's temporary folder.

The portable file unpacks itself at every start and removes that folder when it ends. Killed, or cut
off from power, it cannot; so each run marks its folder with its process, and the next run removes
those whose process is gone. And should the unpacking parent be killed, the program ends with it.
"""

import contextlib
import os
import shutil
import signal
import sys
from pathlib import Path

MARK = "clinic.pid"
PR_SET_PDEATHSIG = 1  # linux/prctl.h


def is_running(process: int) -> bool:
    """Whether a process of that number lives."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def sweep(own: Path) -> None:
    """Remove what killed runs of this program unpacked; never what carries no mark of ours."""
    for mark in own.parent.glob(f"_MEI*/{MARK}"):
        with contextlib.suppress(OSError, ValueError):
            if mark.parent != own and not is_running(int(mark.read_text(encoding="ascii"))):
                shutil.rmtree(mark.parent, ignore_errors=True)


def end_with_parent() -> None:
    """Ask the kernel to end this process politely when the unpacking one dies (prctl(2))."""
    import ctypes

    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def main() -> None:
    """Mark, sweep, and be bound to the parent."""
    own = Path(vars(sys)["_MEIPASS"])
    with contextlib.suppress(OSError):
        (own / MARK).write_text(str(os.getpid()), encoding="ascii")
        sweep(own)
    if sys.platform == "linux":
        end_with_parent()


main()
