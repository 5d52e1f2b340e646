"""A figure of the bench, and what all that measure need."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import psutil

MEGABYTE = 1e6


@dataclass(frozen=True)
class Figure:
    """One measured figure, with the bound it is held against."""

    name: str
    value: float
    unit: str
    wanted: str
    reached: bool

    def __str__(self) -> str:
        verdict = "reached" if self.reached else "NOT REACHED"
        return f"{self.name:<56}{self.value:>10.3f} {self.unit:<9} {self.wanted:<16} {verdict}"


def at_least(name: str, value: float, unit: str, bound: float) -> Figure:
    return Figure(name, value, unit, f"at least {bound:g}", value >= bound)


def under(name: str, value: float, unit: str, bound: float) -> Figure:
    return Figure(name, value, unit, f"under {bound:g}", value < bound)


def environment(home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CLINIC_")}
    return {**kept, "CLINIC_HOME": str(home)}


def resident(server: subprocess.Popen[bytes]) -> float:
    process = psutil.Process(server.pid)
    return float(sum(p.memory_info().rss for p in [process, *process.children(recursive=True)]))
