"""Learning-rate schedules: how the learning rate changes during training.

To add one, write a class with `rates`, or with another of the methods that `Schedule.changes` lists,
and add it to `_CLASSES`.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cnet._checks import as_choice, as_integer, as_number, as_settings
from cnet._records import Record
from cnet.callbacks import MODES, Improvement, ImprovementByTol, is_greater_better
from cnet.optimizers import OptimizerState

Rates: TypeAlias = NDArray[np.float64]
RateFunction: TypeAlias = Callable[..., float]
ScheduleName: TypeAlias = Literal[
    "constant", "step", "exponential", "cosine", "one_cycle",
    "reduce_on_plateau", "inverse_scaling", "adaptive",
]  # fmt: skip

# The smallest fraction of the learning rate that `InverseScaling` returns. When the rate falls, momentum
# is multiplied by the inverse, which must not overflow.
_LEAST_SHARE = 1e-18


@dataclass(frozen=True, eq=False, repr=False)
class Schedule(Record):
    """Base class of the schedules.

    Attributes
    ----------
    name : str
        Its name for ``schedule=``.
    changes : {"step", "epoch", "plateau", "never"}
        When the rate changes. "step": `rates` returns the rates of all steps in advance. "epoch":
        `before_epoch` or `after_epoch` returns the rate of one epoch. "plateau": `on_plateau` returns
        the next rate when the value named by `monitored` has stopped improving, as counted by
        `improvement`.
    keeps_velocity : bool
        Whether a change of the rate rescales momentum, so that the next step starts with the speed of
        the last one; see `Optimizer.on_rate_change`.
    """

    name: ClassVar[str]
    changes: ClassVar[Literal["step", "epoch", "plateau", "never"]] = "step"
    keeps_velocity: ClassVar[bool] = False

    def rates(self, base: float, steps: NDArray[np.intp], n_steps: int, epochs: int) -> Rates:
        """Return the learning rates of some steps.

        Parameters
        ----------
        base : float
            The learning rate that training starts from.
        steps : ndarray of shape (n,)
            Step numbers, from 0.
        n_steps : int
            Number of steps in an epoch.
        epochs : int
            Number of epochs.

        Returns
        -------
        ndarray of shape (n,), float64
        """
        raise NotImplementedError

    def before_epoch(self, epoch: int, rate: float) -> float:
        """Return the learning rate of an epoch, counted from 0, given the rate before it."""
        return rate

    def after_epoch(self, base: float, rate: float, n_rows: int) -> float:
        """Return the next learning rate, given `base`, the last one, and the number of rows seen."""
        return rate

    def on_plateau(self, rate: float) -> float:
        """Return the next learning rate when the monitored value has stopped improving."""
        return rate

    def monitored(self, names: Sequence[str]) -> str:
        """Return the name of the recorded value that the schedule monitors for a plateau."""
        raise NotImplementedError

    def improvement(self, monitor: str) -> tuple[Improvement, int]:
        """Return the counter of epochs without improvement, and the number of them that is a plateau."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False, repr=False)
class Constant(Schedule):
    """The same rate in all epochs."""

    name = "constant"
    changes = "never"

    def rates(self, base: float, steps: NDArray[np.intp], n_steps: int, epochs: int) -> Rates:
        return np.full(len(steps), base)


@dataclass(frozen=True, eq=False, repr=False)
class StepDecay(Schedule):
    """The rate times `factor` after every `every` epochs (``torch.optim.lr_scheduler.StepLR``).

    Parameters
    ----------
    every : int, default 10
        Number of epochs between changes.
    factor : float, default 0.1
        Above 0.
    """

    name = "step"
    every: int = 10
    factor: float = 0.1

    def __post_init__(self) -> None:
        as_integer("every", self.every, 1)
        as_number("factor", self.factor, 0, open_low=True)

    def rates(self, base: float, steps: NDArray[np.intp], n_steps: int, epochs: int) -> Rates:
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

    def rates(self, base: float, steps: NDArray[np.intp], n_steps: int, epochs: int) -> Rates:
        return np.asarray(base * float(self.factor) ** (steps // n_steps))


@dataclass(frozen=True, eq=False, repr=False)
class Cosine(Schedule):
    """Cosine decay to `final` times the rate, step by step, after a linear warm-up.

    Loshchilov and Hutter (2017), "SGDR", equation 5, without restarts. The warm-up is that of Goyal et
    al. (2017) and rises linearly to the full rate.

    Parameters
    ----------
    warmup : float, default 0
        Number of warm-up epochs; need not be an integer.
    final : float, default 0
        The rate after the last step, as a fraction of the full rate.
    """

    name = "cosine"
    warmup: float = 0.0
    final: float = 0.0

    def __post_init__(self) -> None:
        as_number("warmup", self.warmup, 0)
        as_number("final", self.final, 0, 1)

    def rates(self, base: float, steps: NDArray[np.intp], n_steps: int, epochs: int) -> Rates:
        warm = self.warmup * n_steps
        progress = np.clip((steps - warm) / max(epochs * n_steps - warm, 1), 0, 1)
        share = self.final + (1 - self.final) * (1 + np.cos(np.pi * progress)) / 2
        # The step in which the warm-up ends has the full rate.
        rising = np.minimum((steps + 1) / max(warm, 1), 1)
        return np.asarray(base * np.where(steps < warm, rising, share))


@dataclass(frozen=True, eq=False, repr=False)
class OneCycle(Schedule):
    """Cosine rise from a small rate to the full one, then cosine decay to almost 0, step by step.

    Smith and Topin (2019), "Super-convergence", as defined by ``torch.optim.lr_scheduler.OneCycleLR``
    with two phases. The optimizer's momentum does not change.

    Parameters
    ----------
    warmup : float, default 0.3
        Fraction of the steps in which the rate rises; above 0 and below 1.
    start : float, default 0.04
        The first rate, as a fraction of the learning rate of the training, which is the highest rate.
    final : float, default 4e-6
        The last rate, as a fraction of the highest.
    """

    name = "one_cycle"
    warmup: float = 0.3
    start: float = 0.04
    final: float = 4e-6

    def __post_init__(self) -> None:
        as_number("warmup", self.warmup, 0, 1, open_low=True, open_high=True)
        as_number("start", self.start, 0, 1)
        as_number("final", self.final, 0, 1)

    def rates(self, base: float, steps: NDArray[np.intp], n_steps: int, epochs: int) -> Rates:
        top = self.warmup * epochs * n_steps - 1
        last = epochs * n_steps - 1
        up = np.clip(steps / top if top > 0 else np.ones(len(steps)), 0, 1)
        down = np.clip((steps - top) / (last - top), 0, 1)
        rising = 1 + (self.start - 1) * (1 + np.cos(np.pi * up)) / 2
        falling = self.final + (1 - self.final) * (1 + np.cos(np.pi * down)) / 2
        return np.asarray(base * np.where(steps <= top, rising, falling))


@dataclass(frozen=True, eq=False, repr=False)
class ReduceOnPlateau(Schedule):
    """The rate times `factor` whenever the monitored value has stopped improving.

    Parameters
    ----------
    monitor : str, optional
        Name of the value to monitor, as in `History`; by default "val_loss" if there are validation
        data and "loss" otherwise.
    factor : float, default 0.1
        Above 0 and below 1.
    patience : int, default 10
        Number of epochs without improvement after which the rate falls.
    min_delta : float, default 1e-4
        A value counts as an improvement if it is better than the best one by more than this.
    min_rate : float, default 0
        The rate does not fall below this.
    mode : {"auto", "min", "max"}, default "auto"
        As in `EarlyStopping`.
    """

    name = "reduce_on_plateau"
    changes = "plateau"
    monitor: str | None = None
    factor: float = 0.1
    patience: int = 10
    min_delta: float = 1e-4
    min_rate: float = 0.0
    mode: Literal["auto", "min", "max"] = "auto"

    def __post_init__(self) -> None:
        if self.monitor is not None and not isinstance(self.monitor, str):
            raise TypeError(f"monitor must be the name of a loss or metric, got {self.monitor!r}")
        as_number("factor", self.factor, 0, 1, open_low=True, open_high=True)
        as_integer("patience", self.patience, 0)
        as_number("min_delta", self.min_delta, 0)
        as_number("min_rate", self.min_rate, 0)
        as_choice("mode", self.mode, MODES)

    def on_plateau(self, rate: float) -> float:
        return min(rate, max(rate * self.factor, self.min_rate))

    def monitored(self, names: Sequence[str]) -> str:
        return self.monitor or ("val_loss" if "val_loss" in names else "loss")

    def improvement(self, monitor: str) -> tuple[Improvement, int]:
        greater = is_greater_better(monitor, self.mode)
        return Improvement(greater=greater, min_delta=self.min_delta), max(self.patience, 1)


@dataclass(frozen=True, eq=False, repr=False)
class InverseScaling(Schedule):
    """The rate divided by a power of the number of rows seen, after every epoch.

    scikit-learn's "invscaling": after t rows the rate is the first rate divided by (t + 1) ** `power`.
    As in scikit-learn, SGD's momentum keeps its speed when the rate changes.

    Parameters
    ----------
    power : float, default 0.5
        At least 0.
    """

    name = "inverse_scaling"
    changes = "epoch"
    keeps_velocity = True
    power: float = 0.5

    def __post_init__(self) -> None:
        as_number("power", self.power, 0)

    def after_epoch(self, base: float, rate: float, n_rows: int) -> float:
        t = n_rows + 1
        too_small = t**-self.power < _LEAST_SHARE
        divisor: float = 1 / _LEAST_SHARE if too_small else t**self.power
        return base / divisor


@dataclass(frozen=True, eq=False, repr=False)
class Adaptive(Schedule):
    """The rate divided by `divisor` whenever the loss has stopped improving.

    This is scikit-learn's "adaptive", except at the end: if a rate of `least` or less would fall again,
    scikit-learn stops the training, and cnet keeps the rate. As in scikit-learn, SGD's momentum keeps
    its speed when the rate changes.

    Parameters
    ----------
    divisor : float, default 5
        Above 1.
    patience : int, default 10
        The rate falls after more than this many epochs in a row without improvement.
    tol : float, default 1e-4
        An epoch is an improvement if its loss is below the lowest before it by at least this.
    least : float, default 1e-6
        A rate of this or less does not fall.
    """

    name = "adaptive"
    changes = "plateau"
    keeps_velocity = True
    divisor: float = 5.0
    patience: int = 10
    tol: float = 1e-4
    least: float = 1e-6

    def __post_init__(self) -> None:
        as_number("divisor", self.divisor, 1, open_low=True)
        as_integer("patience", self.patience, 0)
        as_number("tol", self.tol, 0)
        as_number("least", self.least, 0)

    def on_plateau(self, rate: float) -> float:
        return rate / self.divisor if rate > self.least else rate

    def monitored(self, names: Sequence[str]) -> str:
        return "loss"

    def improvement(self, monitor: str) -> tuple[Improvement, int]:
        return ImprovementByTol(greater=False, min_delta=self.tol), self.patience + 1


@dataclass(frozen=True, eq=False, repr=False)
class FunctionSchedule(Schedule):
    """A user's function ``function(epoch)`` or, with `takes_rate`, ``function(epoch, last_rate)``."""

    name = "function"
    changes = "epoch"
    function: RateFunction
    takes_rate: bool

    def before_epoch(self, epoch: int, rate: float) -> float:
        arguments = (epoch, rate) if self.takes_rate else (epoch,)
        return as_number("schedule", self.function(*arguments), 0)


_CLASSES: tuple[type[Schedule], ...] = (
    Constant, StepDecay, ExponentialDecay, Cosine, OneCycle, ReduceOnPlateau, InverseScaling, Adaptive,
)  # fmt: skip
SCHEDULES = {schedule.name: schedule for schedule in _CLASSES}


def resolve_schedule(schedule: ScheduleName | Schedule | RateFunction | None) -> Schedule | None:
    """Return the schedule for an object, a name or a function; None: the rate does not change."""
    if schedule is None:
        return None
    if callable(schedule) and not isinstance(schedule, (type, Schedule)):
        return FunctionSchedule(schedule, _n_arguments(schedule) > 1)
    return as_settings("schedule", schedule, Schedule, SCHEDULES)


class Scheduler:
    """Sets the learning rate during training, as its schedule says.

    Parameters
    ----------
    schedule : Schedule or None
        None: the rate does not change.
    base : float
        The learning rate that training starts from.
    state : OptimizerState, optional
        Holds the momentum that schedules with `keeps_velocity` rescale.
    watch : bool, default True
        Whether to look for plateaus. If False, the caller looks for them and calls `slow_down`.

    Attributes
    ----------
    learning_rate : float
        The rate of the next epoch, or `base` with a schedule that gives the rates of all steps.
    n_rows : int
        Rows seen so far, in all epochs. It can be set.
    monitor : str or None
        Name of the value that is monitored.
    """

    def __init__(
        self,
        schedule: Schedule | None,
        base: float,
        state: OptimizerState | None = None,
        *,
        watch: bool = True,
    ) -> None:
        self.follow(schedule)
        self.base = base
        self.learning_rate = base
        self.state = state
        self.watch = watch
        self.n_rows = 0
        self.monitor: str | None = None
        self._improvement: Improvement | None = None
        self._patience = 0
        self.begin(1, 1, 1)

    def begin(
        self, n_rows: int, n_steps: int, epochs: int, names: Sequence[str] = ("loss",)
    ) -> None:
        """Set the size of the training to come.

        Parameters
        ----------
        n_rows, n_steps, epochs : int
            Number of rows and steps in an epoch, and number of epochs.
        names : sequence of str
            Names of the values that are recorded.
        """
        self._epoch_rows = n_rows
        self._n_steps = n_steps
        self._epochs = epochs
        if self.watch and self.schedule.changes == "plateau":
            self.monitor = self.schedule.monitored(names)
            self._improvement, self._patience = self.schedule.improvement(self.monitor)

    @property
    def epochs_known(self) -> int:
        """Number of the next epochs whose rates are known."""
        depends = self.schedule.changes == "epoch" or self.monitor is not None
        return 1 if depends else sys.maxsize

    def rates(self, first: int, count: int) -> Rates:
        """Return the rates of all steps of `count` epochs from `first` on, or one rate for all steps."""
        if self.schedule.changes != "step":
            self.learning_rate = self.schedule.before_epoch(first, self.learning_rate)
            return np.array([self.learning_rate])
        steps = np.arange(first * self._n_steps, (first + count) * self._n_steps)
        found = self.schedule.rates(self.base, steps, self._n_steps, self._epochs)
        rates = np.asarray(found, np.float64)
        # The engine reads one rate for each step.
        if rates.shape != steps.shape or not (np.isfinite(rates) & (rates >= 0)).all():
            raise ValueError(
                f"schedule must return {len(steps)} finite rates of at least 0, one for each step, "
                f"got {found!r}"
            )
        return np.ascontiguousarray(rates)

    def observe(self, logs: Mapping[str, float]) -> None:
        """Set the next rate after an epoch with these recorded values."""
        self.n_rows += self._epoch_rows
        self._set(self.schedule.after_epoch(self.base, self.learning_rate, self.n_rows))
        if self._improvement is not None and self.monitor is not None:
            self._improvement.observe(logs[self.monitor])
            if self._improvement.epochs_without >= self._patience:
                self._improvement.epochs_without = 0
                self.slow_down()

    def slow_down(self) -> bool:
        """Lower the rate as the schedule does on a plateau, and return whether it changed."""
        before = self.learning_rate
        self._set(self.schedule.on_plateau(before))
        return self.learning_rate != before

    def restart_from(self, base: float) -> None:
        """Continue with another learning rate; momentum keeps its speed."""
        if self.state is not None:
            self.state.optimizer.on_rate_change(self.state.moments, self.learning_rate, base)
        self.base = self.learning_rate = base

    def follow(self, schedule: Schedule | None) -> None:
        """Continue with another schedule from the current learning rate."""
        self.schedule = schedule if schedule is not None else Constant()

    def _set(self, rate: float) -> None:
        if rate != self.learning_rate and self.state is not None and self.schedule.keeps_velocity:
            self.state.optimizer.on_rate_change(self.state.moments, self.learning_rate, rate)
        self.learning_rate = rate


def _n_arguments(function: RateFunction) -> int:
    """Return how many arguments a function requires; 1 if its signature is unknown."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 1
    return sum(p.default is p.empty and p.kind <= p.POSITIONAL_OR_KEYWORD for p in parameters)
