"""How everything is timed: by turns, so that a noisy moment of the machine hits all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any, TypeAlias

import numpy as np

# Does its work so many times and returns how many seconds that took.
Task: TypeAlias = Callable[[int], float]


@dataclass(frozen=True)
class Settings:
    """What the command line says about all measurements.

    Attributes
    ----------
    peers : tuple of str
        Those to compare with that are installed here.
    repetitions : int
        Timings of each contestant, of which the median counts.
    seconds : float
        What one timing should take; work that takes longer is done once.
    quick : bool
        Smaller workloads.
    iterations : int
        Of the full-batch tutorial.
    fann_python : str
        A Python that has libfann's binding.
    cores : tuple of int
        Those that workloads on several threads may use.
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
        How many of that unit are a second.
    times : dict of list of float
        For each contestant its seconds, repetition by repetition. The others are compared with the
        first.
    more : dict of str
        Columns after the ratios.
    losses : dict of float
        The contestants' losses after the same number of epochs from the same start.
    loss_epochs : int
        That number.
    size : int
        What the workload grows in, where it does.
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
        """Return the contestant that the others are compared with."""
        return next(iter(self.times))

    @property
    def medians(self) -> dict[str, float]:
        """Return each contestant's median, in seconds."""
        return {name: median(times) for name, times in self.times.items()}

    @property
    def ratios(self) -> dict[str, float]:
        """Return the other contestants' medians over the first's."""
        own, *others = self.medians.values()
        return dict(zip(list(self.times)[1:], (other / own for other in others), strict=True))


def timed(work: Callable[[int], object]) -> Task:
    """Return a task that times a function which repeats its work itself."""

    def task(count: int) -> float:
        start = time.perf_counter()
        work(count)
        return time.perf_counter() - start

    return task


def repeated(call: Callable[[], object]) -> Task:
    """Return a task that times so many calls of a function."""

    def work(count: int) -> None:
        for _ in range(count):
            call()

    return timed(work)


def count_for(task: Task, seconds: float) -> int:
    """Return how often the work can be done in about so many seconds, at least once."""
    count = 1
    while (elapsed := task(count)) < seconds / 10:
        count *= 10
    return max(1, round(count * seconds / elapsed))


def by_turns(
    tasks: Mapping[str, Task], settings: Settings, count: int | None = None
) -> dict[str, list[float]]:
    """Time each task in every repetition.

    Parameters
    ----------
    tasks : mapping of Task
        Each has done its work once already, so that nothing is loaded or compiled any more.
    settings : Settings
    count : int, optional
        How often a timing does the work; by default what ``settings.seconds`` allows.

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
    """Time every single call, so many of each contestant in every repetition.

    Returns
    -------
    dict of list of ndarray of shape (count,)
        Seconds, an array for each repetition.
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
