"""What the measurements ran on, and how they are kept on one core of it."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from pathlib import Path

CAN_PIN = hasattr(os, "sched_setaffinity")


def allowed_cores() -> tuple[int, ...]:
    """Return the cores that this process may use."""
    return tuple(sorted(os.sched_getaffinity(0))) if CAN_PIN else tuple(range(os.cpu_count() or 1))


def stay_on(cores: Iterable[int]) -> None:
    """Keep this process and all that it starts on these cores, where the system can."""
    if CAN_PIN:
        os.sched_setaffinity(0, cores)


def processor() -> str:
    """Return the processor's name."""
    try:
        # On Linux platform.processor() knows no more than the architecture.
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(": ")[2] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def describe() -> dict[str, str | int]:
    """Return what a reader of the figures wants to know about the machine."""
    return {
        "processor": processor(),
        "cores": os.cpu_count() or 1,
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "Python": platform.python_version(),
    }
