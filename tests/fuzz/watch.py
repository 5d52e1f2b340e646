"""What every fuzzed example is held to: an end within ten seconds, and little memory."""

from __future__ import annotations

import faulthandler
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

#: What works longer hangs, to whoever waits for it. Of the processor's time: a busy machine is no
#: fault of the program.
LONGEST_SECONDS = 10.0
#: What is not there by then waits for something that never comes.
LONGEST_WAIT = 60.0
MOST_MEGABYTES = 600
#: Which clock sends which signal; both end the process, whatever it is at.
CLOCKS = {signal.ITIMER_PROF: signal.SIGPROF, signal.ITIMER_REAL: signal.SIGALRM}


def peak_megabytes(pid: int | str = "self") -> float:
    """The most resident memory that a process ever had: Linux keeps count, so none is missed."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise ValueError(f"process {pid} is gone")


def forget_peak() -> None:
    """Count this process's memory anew: what it took to get ready is not the program's."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # proc(5)


class Watch:
    """Counts examples; the process ends, and says where it was, when one of them hangs.

    ``last``: a file that holds the example in hand, for whoever finds the process dead.
    """

    def __init__(self, last: Path) -> None:
        self.outcomes: Counter[str] = Counter()
        self.slowest = self.slowest_work = 0.0
        self._seen: set[int] = set()
        self._last = last.open("wb", buffering=0)
        for one in CLOCKS.values():
            faulthandler.register(one, chain=True)

    @property
    def examples(self) -> int:
        """How many came to an end, each counted once."""
        return self.outcomes.total()

    def count(self, example: bytes, outcome: str) -> None:
        """An example came to this end."""
        if (known := hash(example)) not in self._seen:
            self._seen.add(known)
            self.outcomes[outcome] += 1

    @contextmanager
    def over(self, example: bytes) -> Iterator[None]:
        """Around one example."""
        # Cut to what is written, not to nothing first, after which ext4 would wait for the disk
        self._last.seek(0)
        self._last.write(example)
        self._last.truncate()
        started, worked = time.monotonic(), time.process_time()
        signal.setitimer(signal.ITIMER_PROF, LONGEST_SECONDS)
        signal.setitimer(signal.ITIMER_REAL, LONGEST_WAIT)
        try:
            yield
        finally:
            for clock in CLOCKS:
                signal.setitimer(clock, 0)
            self.slowest = max(self.slowest, time.monotonic() - started)
            self.slowest_work = max(self.slowest_work, time.process_time() - worked)

    def report(self) -> dict[str, Any]:
        """What came of it, for JSON."""
        return {
            "examples": self.examples,
            "slowest_seconds": round(self.slowest, 2),
            "slowest_work_seconds": round(self.slowest_work, 2),
            "peak_megabytes": round(peak_megabytes(), 1),
            "outcomes": dict(sorted(self.outcomes.items())),
        }
