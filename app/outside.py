"""What the program opens outside of itself: pages in the browser, folders in the file manager."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import webbrowser
from pathlib import Path

#: PyInstaller lets the program find its own libraries by these, and keeps what they were before.
#: A browser started with them would load our libraries instead of its own.
LIBRARY_PATHS = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


def open_page(address: str) -> threading.Thread:
    """Open the browser on an address, from a thread: some do not return until they are closed.

    A program that is about to end waits a moment for the thread, or no browser opens.
    """
    _forget_own_libraries()
    opening = threading.Thread(target=_open_browser, args=[address], daemon=True)
    opening.start()
    return opening


def open_folder(folder: Path) -> bool:
    """Show a folder in the file manager; False where there is none."""
    _forget_own_libraries()
    try:
        if sys.platform == "win32":
            os.startfile(folder)
        else:
            opener = "open" if sys.platform == "darwin" else "xdg-open"
            subprocess.Popen(
                [opener, str(folder)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
    except OSError:
        return False
    return True


def _open_browser(address: str) -> None:
    with contextlib.suppress(Exception):
        webbrowser.open(address)


def _forget_own_libraries() -> None:
    # Read once, when a process starts: ours has, and only what it starts from now on is meant
    if not getattr(sys, "frozen", False):
        return
    for name in LIBRARY_PATHS:
        before = os.environ.pop(f"{name}_ORIG", None)
        if before is not None:
            os.environ[name] = before
        else:
            os.environ.pop(name, None)
