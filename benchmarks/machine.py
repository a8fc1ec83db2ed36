"""Information about the machine, and pinning of the process to a core."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from pathlib import Path

CAN_PIN = hasattr(os, "sched_setaffinity")


def allowed_cores() -> tuple[int, ...]:
    """Return the cores that this process may use."""
    return tuple(sorted(os.sched_getaffinity(0))) if CAN_PIN else tuple(range(os.cpu_count() or 1))


def pin_to(cores: Iterable[int]) -> None:
    """Pin this process and its children to `cores`, if the system supports it."""
    if CAN_PIN:
        os.sched_setaffinity(0, cores)


def processor() -> str:
    """Return the processor's name."""
    try:
        # On Linux, platform.processor() returns only the architecture.
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(": ")[2] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def describe() -> dict[str, str | int]:
    """Return the facts about the machine that readers of the results need."""
    return {
        "processor": processor(),
        "cores": os.cpu_count() or 1,
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "Python": platform.python_version(),
    }
