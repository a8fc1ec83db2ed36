"""Callbacks: the user's objects and functions that training calls, and early stopping."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cnet._checks import as_choice, as_flag, as_integer, as_number, guess
from cnet.history import History
from cnet.metrics import greater_is_better

Mode: TypeAlias = Literal["auto", "min", "max"]

MODES = ("auto", "min", "max")


class Callback:
    """Base class of callbacks. Each method does nothing unless it is overridden.

    An exception in a callback ends training. The network then is as it was after the last finished
    epoch. Callbacks that override neither `on_batch_begin` nor `on_batch_end` cost nothing within an
    epoch. If an attribute `monitor` is a str, it must be the name of a recorded value, or training does
    not start.
    """

    def on_train_begin(self, network: Any) -> None:
        """Run before the first epoch."""

    def on_epoch_begin(self, network: Any, epoch: int) -> None:
        """Run before an epoch, counted from 0."""

    def on_batch_begin(self, network: Any, batch: int) -> None:
        """Run before a batch, counted from 0 in each epoch."""

    def on_batch_end(self, network: Any, batch: int, logs: dict[str, float]) -> None:
        """Run after a batch and its update.

        Parameters
        ----------
        network : NeuralNetwork
        batch : int
            Counted from 0 in each epoch.
        logs : dict of str to float
            "loss", the loss of the batch before its update, and "size", its number of rows.
        """

    def on_epoch_end(self, network: Any, epoch: int, logs: dict[str, float]) -> bool | None:
        """Run after an epoch. Return True to stop training.

        Parameters
        ----------
        network : NeuralNetwork
        epoch : int
            Counted from 0.
        logs : dict of str to float
            The values that `History` records for the epoch.
        """
        return None

    def on_train_end(self, network: Any, history: History) -> None:
        """Run after the last epoch, but not if training ends with an exception."""

    @property
    def epochs_at_once(self) -> int:
        """Number of epochs that may run before the methods for epochs are called for each of them."""
        return 1

    @property
    def watches_batches(self) -> bool:
        """Whether one of the methods for batches is overridden."""
        # In the class, or by an attribute of the object.
        return any(
            getattr(method, "__func__", None) is not base
            for method, base in (
                (self.on_batch_begin, Callback.on_batch_begin),
                (self.on_batch_end, Callback.on_batch_end),
            )
        )


EpochFunction: TypeAlias = "Callable[[Any, int, dict[str, float]], bool | None]"
Callbacks: TypeAlias = "Callback | EpochFunction | Iterable[Callback | EpochFunction] | None"


class _FunctionCallback(Callback):
    """A function that is called like `on_epoch_end`."""

    def __init__(self, function: EpochFunction) -> None:
        self._function = function

    def on_epoch_end(self, network: Any, epoch: int, logs: dict[str, float]) -> bool | None:
        return self._function(network, epoch, logs)


def as_callbacks(callbacks: Callbacks) -> list[Callback]:
    """Return a list of Callback objects; functions are wrapped."""
    if callbacks is None:
        return []
    given: Iterable[Any]
    if isinstance(callbacks, Callback) or not isinstance(callbacks, Iterable):
        given = (callbacks,)
    else:
        given = callbacks
    found: list[Callback] = []
    for callback in given:
        if isinstance(callback, Callback):
            found.append(callback)
        elif callable(callback) and not isinstance(callback, type):
            found.append(_FunctionCallback(callback))
        else:
            raise TypeError(
                "callbacks must be cnet.Callback objects or functions (network, epoch, logs), "
                f"got {callback!r}{guess(callback)}"
            )
    return found


def check_monitors(
    watchers: Iterable[Any], names: Collection[str], requirements: Mapping[str, str]
) -> None:
    """Raise ValueError if the `monitor` of an object is not among the recorded names.

    `requirements` says for some names which argument makes training record them.
    """
    for watcher in watchers:
        monitor = getattr(watcher, "monitor", None)
        if isinstance(monitor, str) and monitor not in names:
            missing = ""
            if monitor in requirements:
                missing = f"; {monitor} requires {requirements[monitor]}"
            raise ValueError(
                f"monitor must be something that is recorded, {', '.join(names)}, "
                f"got {monitor!r}{missing}"
            )


class Improvement:
    """The best monitored value so far, and the number of epochs since then.

    Parameters
    ----------
    greater : bool
        Whether higher is better.
    min_delta : float
        A value counts as an improvement if it is better than the best one by more than this.
    """

    def __init__(self, *, greater: bool, min_delta: float) -> None:
        self.sign = 1.0 if greater else -1.0
        self.min_delta = min_delta
        self.best = -self.sign * math.inf
        self.epochs_without = 0

    def observe(self, value: float) -> bool:
        """Return whether the value is better than the best, by more than `min_delta`."""
        better = self.sign * (value - self.best) > self.min_delta
        if better:
            self.best = value
            self.epochs_without = 0
        else:
            self.epochs_without += 1
        return better


class ImprovementByTol(Improvement):
    """An `Improvement` that counts as scikit-learn does.

    An epoch is an improvement if its value is better than the best before it by at least `min_delta`.
    A value that is better by less becomes the best one all the same.
    """

    def observe(self, value: float) -> bool:
        # As in scikit-learn, NaN is an improvement, and never the best value.
        best = self.sign * self.best
        better = not self.sign * value < best + self.min_delta
        if self.sign * value > best:
            self.best = value
        self.epochs_without = 0 if better else self.epochs_without + 1
        return better


class EarlyStopping(Callback):
    """Stop training when a monitored value stops improving (Prechelt, 1998).

    Parameters
    ----------
    monitor : str, default "val_loss"
        Name of the value in `History`: "loss", "val_loss", the name of a metric, or that name with the
        prefix "val_" for the validation data.
    patience : int, default 10
        Number of epochs without improvement after which training stops.
    min_delta : float, default 0
        A value counts as an improvement if it is better than the best one by more than this.
    restore_best : bool, default True
        Whether to restore the weights of the best epoch at the end of training, unless training ends
        with an exception. The optimizer's state remains that of the last epoch. To continue training
        without it, pass another optimizer.
    mode : {"auto", "min", "max"}, default "auto"
        Whether lower or higher is better. "auto" knows this for losses and for cnet's own metrics, and
        assumes that lower is better for all others.

    Attributes
    ----------
    best : float
        The best value.
    best_epoch : int
        The epoch of the best value, from 0; -1 before the first epoch.
    stopped_epoch : int or None
        The epoch after which training was stopped; None if it was not.

    Raises
    ------
    ValueError, TypeError
        If a setting is invalid, or, from ``train`` before it starts, if `monitor` is not recorded.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        patience: int = 10,
        min_delta: float = 0.0,
        restore_best: bool = True,
        mode: Mode = "auto",
    ) -> None:
        if not isinstance(monitor, str):
            raise TypeError(f"monitor must be the name of a loss or metric, got {monitor!r}")
        self.monitor = monitor
        self.patience = as_integer("patience", patience, 0)
        self.min_delta = as_number("min_delta", min_delta, 0)
        self.restore_best = as_flag("restore_best", restore_best)
        self.mode = as_choice("mode", mode, MODES)
        self._reset()

    def _reset(self) -> None:
        greater = is_greater_better(self.monitor, self.mode)
        self._improvement = Improvement(greater=greater, min_delta=self.min_delta)
        self._best_parameters: NDArray[Any] | None = None
        self._best_buffers: NDArray[Any] | None = None
        self.best_epoch = -1
        self.stopped_epoch: int | None = None

    @property
    def best(self) -> float:
        """The best value."""
        return self._improvement.best

    def on_train_begin(self, network: Any) -> None:
        self._reset()

    def on_epoch_end(self, network: Any, epoch: int, logs: dict[str, float]) -> bool | None:
        if self._improvement.observe(logs[self.monitor]):
            self.best_epoch = epoch
            if self.restore_best:
                self._store(network)
        elif self._improvement.epochs_without >= self.patience:
            self.stopped_epoch = epoch
            return True
        return None

    def on_train_end(self, network: Any, history: History) -> None:
        if self._best_parameters is not None and self._best_buffers is not None:
            network.parameters[...] = self._best_parameters
            network.buffers[...] = self._best_buffers
            self._best_parameters = self._best_buffers = None

    def _store(self, network: Any) -> None:
        if self._best_parameters is None or self._best_buffers is None:
            self._best_parameters = network.parameters.copy()
            self._best_buffers = network.buffers.copy()
        else:
            np.copyto(self._best_parameters, network.parameters)
            np.copyto(self._best_buffers, network.buffers)


def is_greater_better(monitor: str, mode: str) -> bool:
    """Return whether higher is better for a monitored value."""
    if mode == "auto":
        return greater_is_better(monitor.removeprefix("val_"))
    return mode == "max"
