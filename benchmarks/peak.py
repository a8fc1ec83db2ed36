"""Measures the peak floating-point rate of this core."""

from __future__ import annotations

import ctypes
import functools
import os
import subprocess
import tempfile
from pathlib import Path

from benchmarks.measure import Task, timed

STEPS = 1_000_000


@functools.cache
def library() -> ctypes.CDLL | None:
    """Compile and load peak.c; return None if there is no compiler."""
    source = Path(__file__).with_name("peak.c")
    compiler = os.environ.get("CC", "cc")
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "peak.so"
        flags = ["-O3", "-march=native", "-shared", "-fPIC"]
        try:
            subprocess.run(
                [*compiler.split(), *flags, source, "-o", target], capture_output=True, check=True
            )
        except (OSError, subprocess.CalledProcessError):
            return None
        loaded = ctypes.CDLL(str(target))
    loaded.run.argtypes = [ctypes.c_long, ctypes.c_float, ctypes.c_float]
    loaded.run.restype = ctypes.c_float
    loaded.operations_per_step.restype = ctypes.c_long
    return loaded


def peak_task() -> tuple[Task, int] | None:
    """Return a task that runs at the core's peak, and its operations; None without a compiler."""
    found = library()
    if found is None:
        return None
    # A factor near one keeps the numbers in the normal range.
    work = timed(lambda count: found.run(count * STEPS, 0.999, 0.001))
    return work, STEPS * int(found.operations_per_step())
