"""What training calls as it goes on: the user's objects and functions, and early stopping."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cnet._checks import as_choice, as_flag, as_integer, as_number, guess
from cnet.metrics import greater_is_better


class Callback:
    """Base of objects that training calls; each method does nothing unless overridden.

    An exception raised in one ends the training and leaves the network as the last finished epoch left
    it. Where neither `on_batch_begin` nor `on_batch_end` is overridden it costs nothing within an epoch.
    An attribute `monitor`, where it is text, must name what is recorded, or training does not start.
    """

    def on_train_begin(self, network: Any) -> None:
        """Before the first epoch."""

    def on_epoch_begin(self, network: Any, epoch: int) -> None:
        """Before an epoch, counted from 0."""

    def on_batch_begin(self, network: Any, batch: int) -> None:
        """Before a batch, counted from 0 in each epoch."""

    def on_batch_end(self, network: Any, batch: int, logs: dict[str, float]) -> None:
        """After a batch and its update.

        Parameters
        ----------
        network : NeuralNetwork
        batch : int
            Counted from 0 in each epoch.
        logs : dict of str to float
            "loss", the batch's from before the update, and "size", its number of rows.
        """

    def on_epoch_end(self, network: Any, epoch: int, logs: dict[str, float]) -> bool | None:
        """After an epoch. Return True to end the training.

        Parameters
        ----------
        network : NeuralNetwork
        epoch : int
            Counted from 0.
        logs : dict of str to float
            What `History` records of the epoch.
        """
        return None

    def on_train_end(self, network: Any, history: Any) -> None:
        """After the last epoch, but not where training ended in an exception."""

    @property
    def epochs_at_once(self) -> int:
        """How many epochs may pass before it is told of them, one after the other; 1 by default."""
        return 1

    @property
    def watches_batches(self) -> bool:
        """Whether one of the methods for batches is overridden."""
        # In the class or, as methods may be, in the object itself.
        return any(
            getattr(method, "__func__", None) is not nothing
            for method, nothing in (
                (self.on_batch_begin, Callback.on_batch_begin),
                (self.on_batch_end, Callback.on_batch_end),
            )
        )


EpochFunction: TypeAlias = Callable[[Any, int, dict[str, float]], "bool | None"]


class _FunctionCallback(Callback):
    """A plain function, called as `on_epoch_end` is."""

    def __init__(self, function: EpochFunction) -> None:
        self._function = function

    def on_epoch_end(self, network: Any, epoch: int, logs: dict[str, float]) -> bool | None:
        return self._function(network, epoch, logs)


def as_callbacks(callbacks: Any) -> list[Callback]:
    """Return a list of Callback objects, functions among `callbacks` wrapped into one."""
    if callbacks is None:
        return []
    if isinstance(callbacks, Callback) or not isinstance(callbacks, Iterable):
        callbacks = (callbacks,)
    found = []
    for callback in callbacks:
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
    watchers: Iterable[Any], names: Collection[str], wants: Mapping[str, str]
) -> None:
    """Refuse an object whose `monitor` names none of what is recorded.

    `wants` says of some names what must be given for them to be recorded.
    """
    for watcher in watchers:
        monitor = getattr(watcher, "monitor", None)
        if isinstance(monitor, str) and monitor not in names:
            missing = f"; {monitor} wants {wants[monitor]}" if monitor in wants else ""
            raise ValueError(
                f"monitor must be something that is recorded, {', '.join(names)}, "
                f"got {monitor!r}{missing}"
            )


class Improvement:
    """The best value of what is monitored so far, and for how many epochs there was no better one.

    Parameters
    ----------
    greater : bool
        Whether more is better.
    min_delta : float
        By how much a value must be better than the best to count.
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
    """End the training when what is monitored no longer gets better (Prechelt, 1998).

    Parameters
    ----------
    monitor : str, default "val_loss"
        What to watch, by its name in `History`: "loss", "val_loss", or a metric's name, with "val_"
        before it on the validation data.
    patience : int, default 10
        After how many epochs without improvement to stop.
    min_delta : float, default 0
        By more than this a value must be better than the best one to count as an improvement.
    restore_best : bool, default True
        Whether to give the network back the weights of the best epoch at the end of the training,
        however it comes, but for an exception. The optimizer's state stays that of the last epoch; a
        further training that should not go on with it is given another optimizer.
    mode : {"auto", "min", "max"}, default "auto"
        Whether less or more is better; "auto" knows it of the losses and of the metrics that have a name
        in cnet, and takes less for better with any other.

    Attributes
    ----------
    best : float
        The best value.
    best_epoch : int
        Its epoch, from 0; -1 before the first.
    stopped_epoch : int or None
        The epoch after which training was stopped; None: it was not.

    Raises
    ------
    ValueError, TypeError
        Where a setting is out of range; from ``train``, before it starts, where nothing of the name
        `monitor` is recorded.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        patience: int = 10,
        min_delta: float = 0.0,
        restore_best: bool = True,
        mode: str = "auto",
    ) -> None:
        if not isinstance(monitor, str):
            raise TypeError(f"monitor must be the name of a loss or metric, got {monitor!r}")
        self.monitor = monitor
        self.patience = as_integer("patience", patience, 0)
        self.min_delta = as_number("min_delta", min_delta, 0)
        self.restore_best = as_flag("restore_best", restore_best)
        self.mode = as_choice("mode", mode, MODES)
        self._forget()

    def _forget(self) -> None:
        greater = is_greater_better(self.monitor, self.mode)
        self._improvement = Improvement(greater=greater, min_delta=self.min_delta)
        self._best_parameters: NDArray[Any] | None = None
        self.best_epoch = -1
        self.stopped_epoch: int | None = None

    @property
    def best(self) -> float:
        """The best value."""
        return self._improvement.best

    def on_train_begin(self, network: Any) -> None:
        self._forget()

    def on_epoch_end(self, network: Any, epoch: int, logs: dict[str, float]) -> bool | None:
        if self._improvement.observe(logs[self.monitor]):
            self.best_epoch = epoch
            if self.restore_best:
                if self._best_parameters is None:
                    self._best_parameters = network.parameters.copy()
                else:
                    np.copyto(self._best_parameters, network.parameters)
        elif self._improvement.epochs_without >= self.patience:
            self.stopped_epoch = epoch
            return True
        return None

    def on_train_end(self, network: Any, history: Any) -> None:
        if self._best_parameters is not None:
            network.parameters[...] = self._best_parameters
            self._best_parameters = None


MODES = ("auto", "min", "max")


def is_greater_better(monitor: str, mode: str) -> bool:
    """Return whether more is better of what `monitor` names."""
    if mode == "auto":
        return greater_is_better(monitor.removeprefix("val_"))
    return mode == "max"
