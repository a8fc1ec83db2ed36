"""Epochs of training: the order of rows, seeds of dropout, and how epochs are grouped into calls."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cnet._arrays import aligned_empty
from cnet._plan import Job, Plan, all_finite, shuffled
from cnet.callbacks import Callback
from cnet.data import Data, Source
from cnet.losses import Loss
from cnet.optimizers import Optimizer, OptimizerState
from cnet.schedules import Schedule

if TYPE_CHECKING:
    pass

Reduction: TypeAlias = Literal["mean", "sum", "weighted_mean"]

REDUCTIONS = ("mean", "sum", "weighted_mean")

_NO_SEEDS = np.empty(0, np.uint64)


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
        self.job = Job(
            plan,
            settings.loss,
            state,
            self.batch_size,
            reduction=settings.reduction,
            divide_penalties=settings.divide_penalties,
            recorded_scale=settings.recorded_scale,
        )
        self.per_call = self.job.epochs_per_call(self.n) if source.is_whole else 1
        # The parameters at the beginning of an epoch.
        self._finished = aligned_empty(len(plan.parameters), plan.dtype)
        # The same of a call within an epoch, if there is one.
        self._before: NDArray[Any] | None = None

    def run(
        self,
        count: int,
        callbacks: Sequence[Callback] = (),
        network: Any = None,
    ) -> tuple[NDArray[np.float64], BaseException | None]:
        """Train for `count` epochs.

        If an epoch does not finish, the parameters are those from before it. The optimizer's state
        starts again, because it belongs to parameters that are lost.

        Parameters
        ----------
        count : int
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
        try:
            if self.source.is_whole and not callbacks and not self.settings.loss.in_python:
                finished = self._at_once(totals)
            else:
                finished = self._one_by_one(totals, callbacks, network)
        except BaseException as raised:  # also Ctrl-C, so that the epochs before it are recorded
            error = raised
            finished = int(np.count_nonzero(~np.isnan(totals)))
        if finished < count:
            self.state.restart(self.settings.learning_rate)
        return totals[:finished], error

    def undo(self) -> None:
        """Undo the last epoch."""
        np.copyto(self.plan.parameters, self._finished)
        self.state.restart(self.settings.learning_rate)

    # Random numbers

    def _drawn(self, count: int) -> tuple[NDArray[np.intp] | None, NDArray[np.uint64]]:
        """Return the order of rows, of shape (count, n), and the seed of dropout of each epoch."""
        if self.plan.drops and count > 1:
            # One epoch after the other, so that the grouping of epochs does not change the numbers.
            orders, seeds = zip(*(self._drawn(1) for _ in range(count)), strict=True)
            return None if orders[0] is None else np.concatenate(orders), np.concatenate(seeds)
        return self._order(count), self._seeds(count)

    def _order(self, count: int) -> NDArray[np.intp] | None:
        if self.settings.order is not None:
            return np.array([self.settings.order(self.n) for _ in range(count)], np.intp)
        if self.settings.shuffle and self.n > 1:
            return shuffled(self.rng, count, self.n)
        return None

    def _seeds(self, count: int) -> NDArray[np.uint64]:
        if not self.plan.drops:
            return _NO_SEEDS
        return self.rng.integers(1, 2**63, count, np.uint64)

    # Ways to go through epochs

    def _at_once(self, totals: NDArray[np.float64]) -> int:
        """Train all epochs in one call of the engine."""
        order, seeds = self._drawn(len(totals))
        ((data, order),) = self.source.parts(order, self.batch_size)
        if order is not None and order.ndim == 1:
            order = np.tile(order, (len(totals), 1))
        return self.job.train(data, order, seeds, self.rates, totals, self._finished)

    def _one_by_one(
        self,
        totals: NDArray[np.float64],
        callbacks: Sequence[Callback],
        network: Any,
    ) -> int:
        """Train epoch by epoch, and each epoch part by part."""
        for epoch in range(len(totals)):
            order, seeds = self._drawn(1)
            np.copyto(self._finished, self.plan.parameters)
            rates = self.rates
            if len(rates) > 1:
                rates = rates[epoch * self.n_steps : (epoch + 1) * self.n_steps]
            try:
                totals[epoch] = self._epoch(order, seeds, rates, callbacks, network)
            finally:
                if math.isnan(totals[epoch]):
                    np.copyto(self.plan.parameters, self._finished)
            if math.isnan(totals[epoch]):
                return epoch
        return len(totals)

    def _epoch(
        self,
        order: NDArray[np.intp] | None,
        seeds: NDArray[np.uint64],
        rates: NDArray[np.float64],
        callbacks: Sequence[Callback],
        network: Any,
    ) -> float:
        """Train one epoch; return its total, or NaN if something is not finite."""
        total = 0.0
        first = 0  # number of the part's first batch
        by_batches = bool(callbacks) or self.settings.loss.in_python
        for data, rows in self.source.parts(order, self.batch_size):
            if rows is not None:
                rows = rows.reshape(1, -1)
            n = len(data.x) if rows is None else rows.shape[1]
            n_steps = math.ceil(n / self.batch_size)
            of_part = rates[first : first + n_steps] if len(rates) > 1 else rates
            if by_batches:
                rows = np.arange(n) if rows is None else rows[0]
                value = self._batches(data, rows, seeds, of_part, first, callbacks, network)
            else:
                value = self._call(data, rows, seeds, of_part)
            total += value
            if not math.isfinite(total):
                return math.nan
            first += n_steps
        if by_batches and not all_finite(self.plan.parameters, self.state.moments):
            return math.nan
        return total

    def _batches(
        self,
        data: Data,
        rows: NDArray[np.intp],
        seeds: NDArray[np.uint64],
        rates: NDArray[np.float64],
        first: int,
        callbacks: Sequence[Callback],
        network: Any,
    ) -> float:
        """Train on these rows batch by batch; return the total."""
        total = 0.0
        for i, start in enumerate(range(0, len(rows), self.batch_size)):
            batch = rows[start : start + self.batch_size]
            rate = rates[i : i + 1] if len(rates) > 1 else rates
            for callback in callbacks:
                callback.on_batch_begin(network, first + i)
            if self.settings.loss.in_python:
                key = (int(seeds[0]) + first + i) | 1 << 63 if seeds.size else 0
                value = self.job.train_batch(data.of_rows(batch), float(rate[0]), key)
            else:
                value = self._call(data, batch[np.newaxis], seeds, rate)
            total += value
            if not math.isfinite(total):
                break
            shown = value if self.settings.reduction == "sum" else value / len(batch)
            for callback in callbacks:
                logs = {"loss": shown, "size": len(batch)}
                callback.on_batch_end(network, first + i, logs)
        return total

    def _call(
        self,
        data: Data,
        rows: NDArray[np.intp] | None,
        seeds: NDArray[np.uint64],
        rates: NDArray[np.float64],
    ) -> float:
        """Train on these rows in one call of the engine; return the total, or NaN."""
        if self._before is None:
            self._before = aligned_empty(len(self.plan.parameters), self.plan.dtype)
        total = np.full(1, np.nan)
        made = self.job.train(data, rows, seeds, rates, total, self._before)
        return float(total[0]) if made else math.nan
