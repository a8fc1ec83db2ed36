"""Timing. Contestants are interleaved, so that noise on the machine affects all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any, TypeAlias

import numpy as np

# Does its work a given number of times and returns the elapsed seconds.
Task: TypeAlias = Callable[[int], float]


@dataclass(frozen=True)
class Settings:
    """Settings from the command line that apply to all measurements.

    Attributes
    ----------
    peers : tuple of str
        Installed peers to compare with.
    repetitions : int
        Number of timings per contestant; the median is reported.
    seconds : float
        Duration of one timing; work that takes longer is done once.
    quick : bool
        Whether to use smaller workloads.
    iterations : int
        Steps of the full-batch tutorial.
    fann_python : str
        A Python that has libfann's binding.
    cores : tuple of int
        Cores that multithreaded workloads may use.
    """

    peers: tuple[str, ...]
    repetitions: int = 5
    seconds: float = 0.5
    quick: bool = False
    iterations: int = 100_000
    fann_python: str = "/usr/bin/python3"
    cores: tuple[int, ...] = ()


@dataclass(frozen=True)
class Result:
    """All timings of one row of a table.

    Attributes
    ----------
    workload : str
    what : dict
        Columns that describe the row.
    unit : str
    scale : float
        Number of units per second.
    times : dict of list of float
        Seconds of each repetition, by contestant. The first contestant is the baseline.
    more : dict of str
        Columns after the ratios.
    losses : dict of float
        The contestants' losses after the same number of epochs from the same initial weights.
    loss_epochs : int
        The number of these epochs.
    size : int
        Number of rows or parameters, in workloads that vary it.
    """

    workload: str
    what: dict[str, int | str]
    unit: str
    scale: float
    times: dict[str, list[float]]
    more: dict[str, str] = field(default_factory=dict)
    losses: dict[str, float] = field(default_factory=dict)
    loss_epochs: int = 0
    size: int = 0

    @property
    def baseline(self) -> str:
        """The contestant that the others are compared with."""
        return next(iter(self.times))

    @property
    def medians(self) -> dict[str, float]:
        """Each contestant's median time, in seconds."""
        return {name: median(times) for name, times in self.times.items()}

    @property
    def ratios(self) -> dict[str, float]:
        """The other contestants' medians, divided by the baseline's."""
        own, *others = self.medians.values()
        return dict(zip(list(self.times)[1:], (other / own for other in others), strict=True))


def timed(work: Callable[[int], object]) -> Task:
    """Return a task that times a function with an argument for the number of repetitions."""

    def task(count: int) -> float:
        start = time.perf_counter()
        work(count)
        return time.perf_counter() - start

    return task


def repeated(call: Callable[[], object]) -> Task:
    """Return a task that times repeated calls of a function."""

    def work(count: int) -> None:
        for _ in range(count):
            call()

    return timed(work)


def count_for(task: Task, seconds: float) -> int:
    """Return how many times the work can be done in about `seconds`, at least 1."""
    count = 1
    while (elapsed := task(count)) < seconds / 10:
        count *= 10
    return max(1, round(count * seconds / elapsed))


def interleaved(
    tasks: Mapping[str, Task], settings: Settings, count: int | None = None
) -> dict[str, list[float]]:
    """Time each task in every repetition.

    Parameters
    ----------
    tasks : mapping of Task
        Each must have done its work once already, so that nothing is loaded or compiled any more.
    settings : Settings
    count : int, optional
        How many times each timing does the work; by default as many as fit ``settings.seconds``.

    Returns
    -------
    dict of list of float
        Seconds for doing the work once.
    """
    counts = {name: count or count_for(task, settings.seconds) for name, task in tasks.items()}
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(settings.repetitions):
        for name, task in tasks.items():
            times[name].append(task(counts[name]) / counts[name])
    return times


def single_calls(
    calls: Mapping[str, Callable[[], object]], settings: Settings, count: int
) -> dict[str, list[Any]]:
    """Time every call individually, `count` calls of each contestant in every repetition.

    Returns
    -------
    dict of list of ndarray of shape (count,)
        Seconds, one array per repetition.
    """
    times: dict[str, list[Any]] = {name: [] for name in calls}
    clock = time.perf_counter_ns
    for _ in range(settings.repetitions):
        for name, call in calls.items():
            single = np.empty(count)
            for i in range(count):
                start = clock()
                call()
                single[i] = clock() - start
            times[name].append(single / 1e9)
    return times
