"""Import time of ``import cnet`` and of ``import numpy``, which it includes."""

from __future__ import annotations

import subprocess
import sys

from benchmarks.groups import Group
from benchmarks.measure import Result, Settings, Task, interleaved

IMPORTS = 5


def import_task(module: str) -> Task:
    """Return a task that imports `module` in a fresh interpreter, which times itself."""
    code = f"from time import perf_counter as t; s = t(); import {module}; print(t() - s)"

    def task(count: int) -> float:
        return sum(
            float(subprocess.check_output([sys.executable, "-c", code])) for _ in range(count)
        )

    return task


def measure(name: str, settings: Settings) -> list[Result]:
    """Time imports, after one import that fills the system's file cache."""
    tasks = {"cnet": import_task("cnet"), "NumPy": import_task("numpy")}
    for task in tasks.values():
        task(1)
    return [Result(name, {}, "ms", 1e3, interleaved(tasks, settings, count=IMPORTS))]


GROUP = Group(
    title="Import",
    about="`import cnet`, which imports NumPy, and `import numpy`, each in a fresh interpreter.",
    workloads={"import": "import cnet, import numpy"},
    peers=(),
    measure=measure,
)
