"""Learning-rate schedules: what becomes of the learning rate as training goes on.

To add one: a class with `rates`, and its place in `_CLASSES`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cnet._checks import as_choice, as_integer, as_number, as_settings
from cnet._records import Record
from cnet.callbacks import MODES, Improvement, is_greater_better

Numbers: TypeAlias = NDArray[np.float64]
RateFunction: TypeAlias = Callable[..., float]


@dataclass(frozen=True, eq=False, repr=False)
class Schedule(Record):
    """Base of the schedules.

    Attributes
    ----------
    name : str
        What ``schedule=`` calls it.
    """

    name: ClassVar[str]

    def rates(self, base: float, steps: NDArray[np.intp], n_steps: int, epochs: int) -> Numbers:
        """Return the learning rates of some steps.

        Parameters
        ----------
        base : float
            The learning rate that training was given.
        steps : ndarray of shape (n,)
            Their numbers, from 0.
        n_steps : int
            How many steps an epoch has.
        epochs : int
            How many epochs there will be.

        Returns
        -------
        ndarray of shape (n,), float64
        """
        raise NotImplementedError


@dataclass(frozen=True, eq=False, repr=False)
class Constant(Schedule):
    """The same rate throughout."""

    name = "constant"

    def rates(self, base: float, steps: NDArray[np.intp], n_steps: int, epochs: int) -> Numbers:
        return np.full(len(steps), base)


@dataclass(frozen=True, eq=False, repr=False)
class StepDecay(Schedule):
    """The rate times `factor` after every so many epochs (``torch.optim.lr_scheduler.StepLR``).

    Parameters
    ----------
    every : int, default 10
        Epochs from one change to the next.
    factor : float, default 0.1
        Above 0.
    """

    name = "step"
    every: int = 10
    factor: float = 0.1

    def __post_init__(self) -> None:
        as_integer("every", self.every, 1)
        as_number("factor", self.factor, 0, open_low=True)

    def rates(self, base: float, steps: NDArray[np.intp], n_steps: int, epochs: int) -> Numbers:
        return np.asarray(base * float(self.factor) ** (steps // n_steps // self.every))


@dataclass(frozen=True, eq=False, repr=False)
class ExponentialDecay(Schedule):
    """The rate times `factor` after every epoch (``torch.optim.lr_scheduler.ExponentialLR``).

    Parameters
    ----------
    factor : float, default 0.95
        Above 0.
    """

    name = "exponential"
    factor: float = 0.95

    def __post_init__(self) -> None:
        as_number("factor", self.factor, 0, open_low=True)

    def rates(self, base: float, steps: NDArray[np.intp], n_steps: int, epochs: int) -> Numbers:
        return np.asarray(base * float(self.factor) ** (steps // n_steps))


@dataclass(frozen=True, eq=False, repr=False)
class Cosine(Schedule):
    """From the rate down to `final` of it along half a cosine, step by step, after a linear warm-up.

    Loshchilov and Hutter (2017), "SGDR", equation 5, without restarts; the warm-up is that of Goyal et
    al. (2017), from the first step's share of it to all of the rate.

    Parameters
    ----------
    warmup : float, default 0
        Epochs of warm-up, whole or not.
    final : float, default 0
        What is left of the rate after the last step, as a share of it.
    """

    name = "cosine"
    warmup: float = 0.0
    final: float = 0.0

    def __post_init__(self) -> None:
        as_number("warmup", self.warmup, 0)
        as_number("final", self.final, 0, 1)

    def rates(self, base: float, steps: NDArray[np.intp], n_steps: int, epochs: int) -> Numbers:
        warm = self.warmup * n_steps
        progress = np.clip((steps - warm) / max(epochs * n_steps - warm, 1), 0, 1)
        share = self.final + (1 - self.final) * (1 + np.cos(np.pi * progress)) / 2
        # Of a warm-up that ends within a step, that step has all of the rate.
        rising = np.minimum((steps + 1) / max(warm, 1), 1)
        return np.asarray(base * np.where(steps < warm, rising, share))


@dataclass(frozen=True, eq=False, repr=False)
class OneCycle(Schedule):
    """From a small rate up to the given one and down to almost none, step by step, along cosines.

    Smith and Topin (2019), "Super-convergence", as ``torch.optim.lr_scheduler.OneCycleLR`` with two
    phases defines it; the optimizer's momentum stays what it is.

    Parameters
    ----------
    warmup : float, default 0.3
        The share of all steps in which the rate rises; above 0 and below 1.
    start : float, default 0.04
        The first rate, as a share of the highest, which is the learning rate that training is given.
    final : float, default 4e-6
        The last rate, likewise.
    """

    name = "one_cycle"
    warmup: float = 0.3
    start: float = 0.04
    final: float = 4e-6

    def __post_init__(self) -> None:
        as_number("warmup", self.warmup, 0, 1, open_low=True, open_high=True)
        as_number("start", self.start, 0, 1)
        as_number("final", self.final, 0, 1)

    def rates(self, base: float, steps: NDArray[np.intp], n_steps: int, epochs: int) -> Numbers:
        top = self.warmup * epochs * n_steps - 1
        last = epochs * n_steps - 1
        up = np.clip(steps / top if top > 0 else np.ones(len(steps)), 0, 1)
        down = np.clip((steps - top) / (last - top), 0, 1)
        rising = 1 + (self.start - 1) * (1 + np.cos(np.pi * up)) / 2
        falling = self.final + (1 - self.final) * (1 + np.cos(np.pi * down)) / 2
        return np.asarray(base * np.where(steps <= top, rising, falling))


@dataclass(frozen=True, eq=False, repr=False)
class ReduceOnPlateau(Schedule):
    """The rate times `factor` whenever what is monitored has not got better for a while.

    Parameters
    ----------
    monitor : str, optional
        What to watch, by its name in `History`; by default "val_loss" where there are validation data
        and "loss" otherwise.
    factor : float, default 0.1
        Above 0 and below 1.
    patience : int, default 10
        After how many epochs without improvement the rate falls, and after how many more again.
    min_delta : float, default 1e-4
        By more than this a value must be better than the best one to count as an improvement.
    min_rate : float, default 0
        Below this the rate does not fall.
    mode : {"auto", "min", "max"}, default "auto"
        As in `EarlyStopping`.
    """

    name = "reduce_on_plateau"
    monitor: str | None = None
    factor: float = 0.1
    patience: int = 10
    min_delta: float = 1e-4
    min_rate: float = 0.0
    mode: str = "auto"

    def __post_init__(self) -> None:
        if self.monitor is not None and not isinstance(self.monitor, str):
            raise TypeError(f"monitor must be the name of a loss or metric, got {self.monitor!r}")
        as_number("factor", self.factor, 0, 1, open_low=True, open_high=True)
        as_integer("patience", self.patience, 0)
        as_number("min_delta", self.min_delta, 0)
        as_number("min_rate", self.min_rate, 0)
        as_choice("mode", self.mode, MODES)


_CLASSES: tuple[type[Schedule], ...] = (
    Constant,
    StepDecay,
    ExponentialDecay,
    Cosine,
    OneCycle,
    ReduceOnPlateau,
)
SCHEDULES = {schedule.name: schedule for schedule in _CLASSES}


def resolve_schedule(schedule: Any) -> Schedule | RateFunction | None:
    """Return the schedule that `schedule` is or names; None for a rate that stays."""
    if schedule is None:
        return None
    if callable(schedule) and not isinstance(schedule, (type, Schedule)):
        function: RateFunction = schedule
        return function
    return as_settings("schedule", schedule, Schedule, SCHEDULES)


class Pace:
    """The learning rates of one training run, epoch by epoch.

    Parameters
    ----------
    schedule : Schedule or callable
    base : float
        The learning rate that training was given.
    n_steps : int
        How many steps an epoch has.
    epochs : int
        How many epochs there will be.
    names : sequence of str
        What is recorded of each epoch.

    Raises
    ------
    ValueError
        Where the schedule monitors what is not recorded.
    """

    def __init__(
        self,
        schedule: Schedule | RateFunction,
        base: float,
        n_steps: int,
        epochs: int,
        names: list[str],
    ) -> None:
        self._schedule = schedule
        self._base = base
        self._rate = base
        self._n_steps = n_steps
        self._epochs = epochs
        self.monitor: str | None = None
        if isinstance(schedule, ReduceOnPlateau):
            self.monitor = schedule.monitor or ("val_loss" if "val_loss" in names else "loss")
            self._improvement = Improvement(
                greater=is_greater_better(self.monitor, schedule.mode), min_delta=schedule.min_delta
            )
        elif not isinstance(schedule, Schedule):
            self._takes_rate = _n_arguments(schedule) > 1

    @property
    def foreseeable(self) -> bool:
        """Whether the rates of several epochs are known before the first of them."""
        return self.monitor is None and isinstance(self._schedule, Schedule)

    def rates(self, first: int, count: int) -> Numbers:
        """Return the rates of all steps of `count` epochs, or one rate for all of them."""
        if isinstance(self._schedule, ReduceOnPlateau):
            return np.array([self._rate])
        if isinstance(self._schedule, Schedule):
            steps = np.arange(first * self._n_steps, (first + count) * self._n_steps)
            found = self._schedule.rates(self._base, steps, self._n_steps, self._epochs)
            rates = np.asarray(found, np.float64)
            # The engine, which checks nothing, reads as many as there are steps.
            if rates.shape != steps.shape or not (np.isfinite(rates) & (rates >= 0)).all():
                raise ValueError(
                    f"schedule must return {len(steps)} finite rates of at least 0, one for each step, "
                    f"got {found!r}"
                )
            return np.ascontiguousarray(rates)
        arguments = (first, self._rate) if self._takes_rate else (first,)
        self._rate = as_number("schedule", self._schedule(*arguments), 0)
        return np.array([self._rate])

    def observe(self, logs: dict[str, float]) -> None:
        """See what an epoch came to."""
        if not isinstance(self._schedule, ReduceOnPlateau) or self.monitor is None:
            return
        improvement = self._improvement
        better = improvement.observe(logs[self.monitor])
        if not better and improvement.epochs_without >= self._schedule.patience:
            improvement.epochs_without = 0
            lower = max(self._rate * self._schedule.factor, self._schedule.min_rate)
            self._rate = min(self._rate, lower)


def _n_arguments(function: RateFunction) -> int:
    """Return how many arguments a function must be given; 1 where that cannot be seen."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 1
    return sum(p.default is p.empty and p.kind <= p.POSITIONAL_OR_KEYWORD for p in parameters)
