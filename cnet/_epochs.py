"""Epochs of training: the order of rows, seeds of dropout, and how epochs are grouped into calls."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cnet._plan import Job, Plan, shuffled
from cnet.callbacks import Callback
from cnet.data import Source
from cnet.losses import Loss
from cnet.optimizers import Optimizer, OptimizerState
from cnet.schedules import Schedule

Reduction: TypeAlias = Literal["mean", "sum", "weighted_mean"]

REDUCTIONS = ("mean", "sum", "weighted_mean")


@dataclass(frozen=True, eq=False, repr=False)
class TrainingSettings:
    """How to train. All values are valid already.

    Attributes
    ----------
    loss : Loss
    optimizer : Optimizer
    learning_rate : float
    epochs : int
    batch_size : int or None
        Number of rows per update; None: all rows.
    reduction : {"mean", "sum", "weighted_mean"}
        How the losses of a batch's rows are combined. A weighted mean is divided by the sum of the
        weights.
    shuffle : bool
        Whether each epoch has another order of rows, from the network's random numbers.
    schedule : Schedule or None
        How the learning rate changes; None: it does not.
    divide_penalties : bool
        Whether a batch's penalties are divided by the divisor of the sum over its rows, or with a
        function as loss by their number.
    recorded_scale : float
        Factor of the rows' losses in the recorded loss. It does not apply to penalties, gradients, and
        losses that are functions.
    order : callable or None
        ``order(n)`` returns the order of the n rows in the next epoch, instead of `shuffle`.
    """

    loss: Loss
    optimizer: Optimizer
    learning_rate: float
    epochs: int = 1
    batch_size: int | None = None
    reduction: Reduction = "mean"
    shuffle: bool = True
    schedule: Schedule | None = None
    divide_penalties: bool = False
    recorded_scale: float = 1.0
    order: Callable[[int], NDArray[np.intp]] | None = None


class Epochs:
    """One training run, epoch by epoch.

    Parameters
    ----------
    plan : Plan
        What to train.
    source : Source
        The rows to train on.
    state : OptimizerState
        Changed by training.
    settings : TrainingSettings
    rng : numpy.random.Generator
        Source of shuffling and dropout.

    Attributes
    ----------
    rates : ndarray of float64
        The learning rate of each step of the next epochs, or one for all.

    Raises
    ------
    ValueError
        If batches have a single row, and a layer takes statistics over the rows of a batch.
    MemoryError
        If there is not enough memory.
    """

    def __init__(
        self,
        plan: Plan,
        source: Source,
        state: OptimizerState,
        settings: TrainingSettings,
        rng: np.random.Generator,
    ) -> None:
        self.plan = plan
        self.source = source
        self.state = state
        self.settings = settings
        self.rng = rng
        self.n = source.n
        self.batch_size = min(settings.batch_size or self.n, self.n)
        self.n_steps = math.ceil(self.n / self.batch_size)
        self.rates = np.array([settings.learning_rate])
        self._job = Job(
            plan,
            settings.loss,
            state,
            self.batch_size,
            reduction=settings.reduction,
            divide_penalties=settings.divide_penalties,
            recorded_scale=settings.recorded_scale,
        )
        if self._job.needs_whole_batch and self.batch_size == 1 and self.n > 1:
            raise ValueError(
                "batch_size must be 2 or more with a trainable BatchNorm, because a batch of one "
                "row has no variance, got 1"
            )
        self.per_call = self._job.epochs_per_call(self.n) if source.is_whole else 1
        # Parameters and buffers from before an epoch of several parts; the job keeps those from
        # before a part.
        self._before = None if source.is_whole else plan.values()

    def run(
        self,
        count: int,
        callbacks: Sequence[Callback] = (),
        network: Any = None,
    ) -> tuple[NDArray[np.float64], BaseException | None]:
        """Train for `count` epochs.

        If an epoch does not finish, the parameters and buffers are those from before it. The optimizer's
        state starts again, because it belongs to parameters that are lost.

        Parameters
        ----------
        count : int
            1 if the source has several parts.
        callbacks : sequence of Callback
            Callbacks for batches, which are called with `network`.

        Returns
        -------
        totals : ndarray of float64
            The total loss of each finished epoch.
        error : BaseException or None
            What ended training early. A loss that is not finite is no error.
        """
        totals = np.full(count, np.nan)
        error: BaseException | None = None
        finished = 0
        try:
            order, seeds = self._drawn(count)
            if self.source.is_whole:
                finished = self._at_once(order, seeds, totals, callbacks, network)
            else:
                finished = self._by_parts(order, seeds, totals, callbacks, network)
        except BaseException as raised:  # also Ctrl-C, so that the epochs before it are recorded
            error = raised
            finished = int(np.count_nonzero(~np.isnan(totals)))
        if finished < count:
            self._restart()
        return totals[:finished], error

    def undo(self) -> None:
        """Undo the last epoch."""
        if self._before is None:
            self._job.undo()
        else:
            self.plan.set_values(self._before)
        self._restart()

    def _restart(self) -> None:
        self.state.restart(self.plan.learning_rates(self.settings.learning_rate))

    # Random numbers

    def _drawn(self, count: int) -> tuple[NDArray[np.intp] | None, NDArray[np.uint64] | None]:
        """Return the order of rows, of shape (count, n), and the seed of dropout of each epoch."""
        if not self.plan.drops:
            return self._order(count), None
        # One epoch after the other, so that the grouping of epochs does not change the numbers.
        orders, seeds = [], []
        for _ in range(count):
            order = self._order(1)
            if order is not None:
                orders.append(order)
            seeds.append(self.rng.integers(1, 2**63, 1, np.uint64))
        return np.concatenate(orders) if orders else None, np.concatenate(seeds)

    def _order(self, count: int) -> NDArray[np.intp] | None:
        if self.settings.order is not None:
            return np.array([self.settings.order(self.n) for _ in range(count)], np.intp)
        if self.settings.shuffle and self.n > 1:
            return shuffled(self.rng, count, self.n)
        return None

    # Ways to go through epochs

    def _at_once(
        self,
        order: NDArray[np.intp] | None,
        seeds: NDArray[np.uint64] | None,
        totals: NDArray[np.float64],
        callbacks: Sequence[Callback],
        network: Any,
    ) -> int:
        """Train all epochs in one call of the engine."""
        ((data, rows),) = self.source.parts(order, self.batch_size)
        if rows is not None and rows.ndim == 1:
            rows = np.tile(rows, (len(totals), 1))
        watcher = _Watcher(callbacks, network, self.settings.reduction) if callbacks else None
        return self._job.train(data, rows, seeds, self.rates, totals, watcher)

    def _by_parts(
        self,
        order: NDArray[np.intp] | None,
        seeds: NDArray[np.uint64] | None,
        totals: NDArray[np.float64],
        callbacks: Sequence[Callback],
        network: Any,
    ) -> int:
        """Train one epoch, part by part."""
        self._before = self.plan.values()
        complete = False
        total = 0.0
        first = 0  # number of the part's first batch
        try:
            for data, rows in self.source.parts(order, self.batch_size):
                if rows is not None:
                    rows = rows.reshape(1, -1)
                n_steps = math.ceil((len(data.x) if rows is None else rows.size) / self.batch_size)
                rates = self.rates[first : first + n_steps] if len(self.rates) > 1 else self.rates
                watcher = (
                    _Watcher(callbacks, network, self.settings.reduction, first)
                    if callbacks
                    else None
                )
                of_part = np.empty(1)
                if not self._job.train(data, rows, seeds, rates, of_part, watcher):
                    return 0
                total += float(of_part[0])
                first += n_steps
            complete = math.isfinite(total)
        finally:
            if not complete:
                self.plan.set_values(self._before)
        if complete:
            totals[0] = total
        return int(complete)


class _Watcher:
    """Calls the callbacks for batches, which the engine asks for.

    Parameters
    ----------
    callbacks : sequence of Callback
    network : NeuralNetwork
    reduction : str
    first : int
        Number of the engine's first batch.
    """

    def __init__(
        self,
        callbacks: Sequence[Callback],
        network: Any,
        reduction: Reduction,
        first: int = 0,
    ) -> None:
        self._callbacks = callbacks
        self._network = network
        self._sums = reduction == "sum"
        self._first = first

    def before(self, batch: int) -> None:
        """Call `on_batch_begin`."""
        for callback in self._callbacks:
            callback.on_batch_begin(self._network, self._first + batch)

    def after(self, batch: int, total: float, n_rows: int) -> None:
        """Call `on_batch_end` with the batch's loss."""
        loss = total if self._sums else total / n_rows
        for callback in self._callbacks:
            callback.on_batch_end(
                self._network, self._first + batch, {"loss": loss, "size": n_rows}
            )
