"""Run first in the portable program: leave nothing behind in the system's temporary folder.

The portable file unpacks itself at every start and removes that folder when it ends. Killed, or cut
off from power, it cannot; so each run holds a lock in its folder, and the next run removes the
folders whose lock nobody holds any more. A process number would not do: it is given again, and the
dead keep theirs until somebody asks after them. And should the unpacking parent be killed, the
program ends with it. The folder form, which unpacks nothing, runs this too and passes it by.
"""

import contextlib
import ctypes
import shutil
import signal
import sys
from pathlib import Path
from typing import IO

LOCK = "clinic.lock"


def take(path: Path) -> IO[bytes] | None:
    """The lock file, locked until this process ends, however; None where another holds it."""
    handle = path.open("ab")
    try:
        lock(handle)
    except OSError:
        handle.close()
        return None
    return handle


def sweep(own: Path) -> None:
    """Remove what killed runs of this program unpacked; never what carries no lock of ours."""
    for path in own.parent.glob(f"_MEI*/{LOCK}"):
        with contextlib.suppress(OSError):
            if path.parent != own and (handle := take(path)):
                handle.close()  # Windows removes no open file
                shutil.rmtree(path.parent, ignore_errors=True)


if sys.platform == "win32":
    import _thread
    import msvcrt
    import os
    import threading
    import time

    SYNCHRONIZE = 0x00100000  # winnt.h
    FOR_EVER = -1  # INFINITE of winbase.h
    TIME_TO_END = 20.0

    def lock(handle: IO[bytes]) -> None:
        """Hold the first byte; OSError where another process does."""
        handle.seek(0)
        msvcrt.locking(handle.fileno(), msvcrt.LK_NBLCK, 1)

    def end_with_parent() -> None:
        """Watch the unpacking process. Its number cannot be given again while it is held open."""
        kernel = ctypes.WinDLL("kernel32")
        kernel.OpenProcess.restype = ctypes.c_void_p
        if parent := kernel.OpenProcess(SYNCHRONIZE, False, os.getppid()):
            watch = [kernel, ctypes.c_void_p(parent)]
            threading.Thread(target=_end_after, args=watch, daemon=True).start()

    def _end_after(kernel: ctypes.WinDLL, parent: ctypes.c_void_p) -> None:
        kernel.WaitForSingleObject(parent, FOR_EVER)
        _thread.interrupt_main(signal.SIGTERM)  # politely; while it starts, nobody listens yet
        time.sleep(TIME_TO_END)
        os._exit(1)

else:
    import fcntl

    PR_SET_PDEATHSIG = 1  # linux/prctl.h

    def lock(handle: IO[bytes]) -> None:
        """Hold the file; OSError where another process does."""
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def end_with_parent() -> None:
        """Ask the kernel to end this process politely when the unpacking one dies (prctl(2))."""
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


own_folder = Path(vars(sys)["_MEIPASS"])
if own_folder.name.startswith("_MEI"):
    with contextlib.suppress(OSError):
        held = take(own_folder / LOCK)
        sweep(own_folder)
    end_with_parent()
