"""What this computer is: its processor's abilities and its memory, asked of the system itself."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

#: What later processors add and onnxruntime makes use of, oldest first.
SEEN = ("sse2", "sse4_1", "sse4_2", "avx", "avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni")
# winnt.h: the PF_… numbers of IsProcessorFeaturePresent that have a name here
WINDOWS_FEATURES = {"sse2": 10, "sse4_1": 37, "sse4_2": 38, "avx": 39, "avx2": 40, "avx512f": 41}
MEGABYTE = 1024**2
CPUINFO = Path("/proc/cpuinfo")


def processor_features() -> frozenset[str] | None:
    """Those of ``SEEN`` that the processor has; None where the system does not say."""
    try:
        if sys.platform == "win32":
            has = ctypes.windll.kernel32.IsProcessorFeaturePresent
            return frozenset(name for name, number in WINDOWS_FEATURES.items() if has(number))
        if sys.platform == "darwin":
            words = _sysctl("machdep.cpu.features") + _sysctl("machdep.cpu.leaf7_features")
        else:
            words = _line_of(CPUINFO, "flags")
    except (OSError, subprocess.SubprocessError):
        return None
    features = {word.lower().replace(".", "_") for word in words}
    # One of another make names none of them at all
    return frozenset(features & set(SEEN)) or None


def is_old_processor() -> bool:
    """An Intel or AMD processor without AVX2; one of which nothing is known is not called old."""
    features = processor_features()
    return features is not None and "avx2" not in features


def processor_name() -> str:
    """The processor's name as its maker gives it; empty where the system does not say."""
    try:
        if sys.platform == "win32":
            return os.environ.get("PROCESSOR_IDENTIFIER", "")
        if sys.platform == "darwin":
            return " ".join(_sysctl("machdep.cpu.brand_string"))
        return " ".join(_line_of(CPUINFO, "model name"))
    except (OSError, subprocess.SubprocessError):
        return ""


def memory() -> tuple[int, int | None] | None:
    """Megabytes of memory, all of it and what is free; None where the system does not say."""
    try:
        if sys.platform == "win32":
            return _windows_memory()
        if sys.platform == "darwin":
            return int(_sysctl("hw.memsize")[0]) // MEGABYTE, None
        meminfo = Path("/proc/meminfo")
        total, free = (int(_line_of(meminfo, name)[0]) for name in ("MemTotal", "MemAvailable"))
    except (OSError, ValueError, IndexError, subprocess.SubprocessError):
        return None
    return total // 1024, free // 1024


def _line_of(file: Path, name: str) -> list[str]:
    """The words after ``name:`` in one of the lists of /proc."""
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        head, _, rest = line.partition(":")
        if head.strip() == name:
            return rest.split()
    return []


def _sysctl(name: str) -> list[str]:
    asked = ["/usr/sbin/sysctl", "-n", name]
    return subprocess.run(asked, capture_output=True, text=True, timeout=5).stdout.split()


if sys.platform == "win32":

    def _windows_memory() -> tuple[int, int] | None:
        """GlobalMemoryStatusEx (sysinfoapi.h): two DWORD, then seven numbers of 64 bits."""
        status = (ctypes.c_uint64 * 8)()
        status[0] = ctypes.sizeof(status)  # dwLength; the load in per cent comes beside it
        if not ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):
            return None
        return status[1] // MEGABYTE, status[2] // MEGABYTE
