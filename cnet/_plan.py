"""A model as the engine computes it: a table of operations, and the calls of the engine."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cnet._arrays import aligned_empty
from cnet._core import engine
from cnet._core.engine import Learner, Predictor
from cnet._lowering import objective_record, operation_table, operations_of, optimizer_record
from cnet.data import Data
from cnet.layers import BaseLayer, flat
from cnet.losses import Loss
from cnet.model import Model
from cnet.optimizers import SGD, OptimizerState
from cnet.threads import get_num_threads

__all__ = ["Job", "Learner", "Plan", "Predictor", "Watcher", "all_finite", "shuffled"]

# Cost of a block of rows, in multiplications: enough for the products to run at full speed, and little
# enough to notice Ctrl-C in time.
_BLOCK_WORK = 1_500_000_000
_MIN_BLOCK_ROWS = 32
_MAX_BLOCK_ROWS = 512
# Size of a block of inputs that stays in the second-level cache.
_BLOCK_BYTES = 2**19

# Maximum number of rows that a predictor computes at a time.
_PREDICTOR_ROWS = 128

# Cost up to which short epochs are grouped into one call of the engine: about 1 ms. The call itself
# costs little in comparison, and nobody notices that a line of output is delayed by it.
_CALL_WORK = 3_000_000

_NOTHING: dict[Any, NDArray[Any]] = {
    np.dtype(name): np.empty(0, name) for name in ("float32", "float64")
}
_NO_ROWS: dict[Any, NDArray[Any]] = {
    dtype: empty.reshape(0, 0) for dtype, empty in _NOTHING.items()
}
_NO_ORDER = np.empty((0, 0), np.intp)
_NO_SEEDS = np.empty(0, np.uint64)


class Watcher(Protocol):
    """An object whose methods the engine calls for each batch."""

    def before(self, batch: int) -> None:
        """Run before a batch, counted from 0."""

    def after(self, batch: int, total: float, n_rows: int) -> None:
        """Run after a batch; `total` is what it adds to the total of the epoch."""


class Plan:
    """How the engine computes a model.

    A plan uses the model's arrays. Changes of their values do not affect it.

    Parameters
    ----------
    model : Model
    layers : sequence of BaseLayer, optional
        The layers to compute, by default all layers of the model: either consecutive layers of the
        model, or layers of the same number and shapes as the model's, with other settings.
    block_rows : int, optional
        Number of rows that pass through the operations together. By default it depends on their cost.
    """

    def __init__(
        self,
        model: Model,
        layers: Sequence[BaseLayer] | None = None,
        block_rows: int | None = None,
    ) -> None:
        self.model = model
        self.parameters = model.parameters
        self.buffers = model.buffers
        self.dtype = model.dtype
        self.drops = model.drops
        self.block_rows = block_rows
        self._layers: Sequence[BaseLayer] = model.layers if layers is None else layers
        self.n_inputs = self._layers[0].n_inputs
        self.n_outputs = self._layers[-1].n_neurons
        self._training_table: tuple[Any, NDArray[Any]] | None = None
        self._of_layers: list[Plan] | None = None

    # Computed when they are first needed, because a network that is built layer by layer has a plan
    # for each.

    @cached_property
    def _table(self) -> NDArray[Any]:
        return operation_table(self.model, self._layers, training=False)

    @cached_property
    def row_work(self) -> float:
        """Cost of a row in multiplications, forward and backward."""
        return engine.measure(self._table, (1, 1, 1), False, self.dtype)[1]

    def of_layers(self) -> list[Plan]:
        """Return a plan for each layer, whose inputs are the outputs of the layer before it."""
        if self._of_layers is None:
            self._of_layers = [Plan(self.model, [layer], self.block_rows) for layer in self._layers]
        return self._of_layers

    @property
    def needs_whole_batch(self) -> bool:
        """Whether training computes some layer for a whole batch at once."""
        return any(layer.needs_whole_batch for layer in self._layers)

    def rows_per_block(self, n: int) -> int:
        """Return how many of `n` rows pass through the operations together."""
        if self.block_rows is not None:
            return min(n, self.block_rows)
        rows = int(_BLOCK_WORK // self.row_work)
        return min(n, max(_MIN_BLOCK_ROWS, min(_MAX_BLOCK_ROWS, rows)))

    def network(
        self,
        capacity: int,
        block: int,
        *,
        parameters: NDArray[Any] | None = None,
        buffers: NDArray[Any] | None = None,
    ) -> engine.Network:
        """Return the operations with the model's arrays, or others, and a new workspace.

        Parameters
        ----------
        capacity : int
            Number of rows that the workspace has room for.
        block : int
            Number of rows that pass through the operations together.
        parameters, buffers : ndarray, optional
            By default the model's own.
        """
        return _network(
            self._table,
            self.parameters if parameters is None else parameters,
            self.buffers if buffers is None else buffers,
            (capacity, block, get_num_threads()),
            training=False,
        )

    def training_network(self, layout: tuple[int, int, int]) -> engine.Network:
        """Return the operations for training, with dropout and the statistics of batches.

        `layout` is the number of rows that the workspace has room for, the number of rows of a block,
        and the number of threads.
        """
        return _network(self._trained_table(), self.parameters, self.buffers, layout, training=True)

    def _trained_table(self) -> NDArray[Any]:
        """Return the table for training, which depends on settings that may change at any time."""
        settings = [layer.learning for layer in flat(self._layers)]
        if self._training_table is None or self._training_table[0] != settings:
            table = operation_table(self.model, self._layers, training=True)
            self._training_table = settings, table
        return self._training_table[1]

    # Values

    def values(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return copies of the parameters and the buffers."""
        return self.parameters.copy(), self.buffers.copy()

    def set_values(self, values: tuple[NDArray[Any], NDArray[Any]]) -> None:
        """Set the parameters and the buffers to what `values` returned."""
        self.parameters[...], self.buffers[...] = values

    # Prediction

    def forward(self, x: NDArray[Any]) -> NDArray[Any]:
        """Return the outputs of the last layer, of shape (n, n_outputs)."""
        outputs = np.empty((len(x), self.n_outputs), self.dtype)
        self._forward(x, outputs, check=False)
        return outputs

    def forward_of_finite(self, x: NDArray[Any]) -> NDArray[Any] | None:
        """Return the outputs of the last layer, or None if x has NaN or infinite values."""
        outputs = np.empty((len(x), self.n_outputs), self.dtype)
        return outputs if self._forward(x, outputs, check=True) else None

    def _forward(self, x: NDArray[Any], outputs: NDArray[Any], *, check: bool) -> bool:
        block = self.rows_per_block(len(x))
        if self.block_rows is None:
            fitting = _BLOCK_BYTES // (self.n_inputs * self.dtype.itemsize)
            block = min(block, max(_MIN_BLOCK_ROWS, fitting))
        return self.network(block, block).forward(x, outputs, check)

    def predictor(self, capacity: int = _PREDICTOR_ROWS, *, frozen: bool = False) -> Predictor:
        """Return a predictor that computes up to `capacity` rows at a time.

        With `frozen` it has copies of the parameters and buffers, which training does not change.
        """
        rows = self.rows_per_block(capacity)
        parameters, buffers = self.parameters, self.buffers
        if frozen:
            parameters, buffers = _aligned_copy(parameters), _aligned_copy(buffers)
        return Predictor(self.network(rows, rows, parameters=parameters, buffers=buffers))

    # Loss and gradients

    def loss(
        self,
        data: Data,
        loss: Loss,
        *,
        reduction: str,
        divide_penalties: bool = False,
        gradient: NDArray[Any] | None = None,
        input_gradient: NDArray[Any] | None = None,
        outputs: NDArray[Any] | None = None,
    ) -> float:
        """Return the loss over all rows plus the layers' penalties.

        Parameters
        ----------
        data : Data
        loss : Loss
        reduction : {"mean", "sum", "weighted_mean"}
            A function as loss gets all rows at once and does its own reduction.
        divide_penalties : bool
            As in `TrainingSettings`.
        gradient, input_gradient, outputs : ndarray, optional
            Arrays to store these in.
        """
        n = len(data.x)
        divisor = float(n)
        if reduction == "sum" and not loss.in_python:
            divisor = 1.0
        elif reduction == "weighted_mean" and data.sample_weight.size:
            # Rows without weight have no loss either.
            divisor = float(data.sample_weight.sum(dtype=np.float64)) or 1.0
        block = self.rows_per_block(n)
        evaluation = engine.Evaluation(
            self.network(n if loss.in_python else block, block),
            _examples(data),
            objective_record(loss, reduction, divide_penalties),
            _function(loss),
        )
        no_rows = _NO_ROWS[self.dtype]
        return evaluation.evaluate(
            divisor,
            no_rows if outputs is None else outputs,
            _NOTHING[self.dtype] if gradient is None else gradient,
            no_rows if input_gradient is None else input_gradient,
        )

    def penalty(self) -> float:
        """Return the sum of the layers' penalties."""
        return self.network(1, 1).penalty()

    # Training

    def learning_rates(self, learning_rate: float) -> float | NDArray[np.float64]:
        """Return the learning rate with the factors of the layers, or one for each parameter."""
        settings = [layer.learning for layer in flat(self._layers)]
        if all(factor == bias_factor == 1 for _, factor, bias_factor in settings):
            return learning_rate
        rates = np.full(len(self.parameters), learning_rate)
        for operation in operations_of(self.model, self._layers):
            if operation.weights >= 0:
                end = operation.weights + operation.n_weights
                rates[operation.weights : end] *= operation.learning_rate_factor
                if operation.biases >= 0:
                    rates[end : end + operation.n_outputs] *= operation.bias_learning_rate_factor
        return rates

    def descend(self, data: Data, loss: Loss, learning_rate: float) -> bool:
        """Make one step of plain gradient descent on all rows, without dropout.

        Return whether the result is finite. If it is not, nothing is changed.
        """
        n = len(data.x)
        network = _network(
            self._trained_table(),
            self.parameters,
            self.buffers,
            (n, n, get_num_threads()),
            training=False,
        )
        optimizer = SGD()
        state = optimizer.start(len(self.parameters), self.dtype, learning_rate)
        scratch = _scratch(self, stored=True)
        run = engine.Run(
            network,
            _examples(data),
            objective_record(loss, "mean"),
            _function(loss),
            optimizer_record(optimizer),
            (state.moments, state.steps),
            scratch,
            n,
        )
        rates, totals = np.array([learning_rate]), np.empty(1)
        return run.epochs(_NO_ORDER, _NO_SEEDS, rates, totals) == 1

    def learner(
        self, loss: Loss, state: OptimizerState, learning_rate: float, seed: int
    ) -> Learner:
        """Return a function that trains on one row at a time, ``learner(x, y) -> loss``.

        Parameters
        ----------
        loss : Loss
        state : OptimizerState
        learning_rate : float
        seed : int
            Seed of dropout; 0: no dropout.
        """
        row = Data(
            aligned_empty(self.n_inputs, self.dtype).reshape(1, -1),
            aligned_empty(self.n_outputs, self.dtype).reshape(1, -1),
            np.empty(0, np.intp),
            _NOTHING[self.dtype],
            is_row=True,
        )
        job = Job(self, loss, state, 1, threads=1)
        return Learner(job.run(row), loss.takes_labels, loss.low, loss.high, learning_rate, seed)


class Job:
    """Training of a plan by batches: everything that the engine needs except the data.

    Parameters
    ----------
    plan : Plan
    loss : Loss
    state : OptimizerState
    batch_size : int
    reduction, divide_penalties, recorded_scale
        As in `TrainingSettings`.
    threads : int, optional
        By default what `get_num_threads` returns.

    Attributes
    ----------
    needs_whole_batch : bool
        Whether a layer is computed for a whole batch at once, because it needs statistics over its rows.
    """

    def __init__(
        self,
        plan: Plan,
        loss: Loss,
        state: OptimizerState,
        batch_size: int,
        *,
        reduction: str = "mean",
        divide_penalties: bool = False,
        recorded_scale: float = 1.0,
        threads: int | None = None,
    ) -> None:
        self.plan = plan
        self.loss = loss
        self.state = state
        self.batch_size = batch_size
        self.needs_whole_batch = plan.needs_whole_batch
        block = batch_size if self.needs_whole_batch else plan.rows_per_block(batch_size)
        # A function as loss must get a whole batch.
        capacity = batch_size if loss.in_python else block
        self._network = plan.training_network((capacity, block, threads or get_num_threads()))
        self._objective = objective_record(loss, reduction, divide_penalties, recorded_scale)
        self._settings = optimizer_record(state.optimizer)
        # If a batch is one block, each piece of a layer's gradient is used immediately. The gradient is
        # then stored as a whole only if its norm is needed.
        stored = batch_size > self._network.block or state.optimizer.clip_norm is not None
        self._scratch = _scratch(plan, stored=stored)

    def epochs_per_call(self, n: int) -> int:
        """Return how many epochs of `n` rows one call of the engine should take."""
        if self.loss.in_python:
            return 1
        n_steps = math.ceil(n / self.batch_size)
        # Each step has a fixed cost, and the optimizer a cost for each parameter.
        work = n * self.plan.row_work + n_steps * (100 + 10 * len(self.plan.parameters))
        return max(1, int(_CALL_WORK // work))

    def run(self, data: Data) -> engine.Run:
        """Return a run over these rows."""
        return engine.Run(
            self._network,
            _examples(data),
            self._objective,
            _function(self.loss),
            self._settings,
            (self.state.moments, self.state.steps),
            self._scratch,
            self.batch_size,
        )

    def train(
        self,
        data: Data,
        order: NDArray[np.intp] | None,
        seeds: NDArray[np.uint64] | None,
        rates: NDArray[np.float64],
        totals: NDArray[np.float64],
        watcher: Watcher | None = None,
    ) -> int:
        """Train for ``len(totals)`` epochs, and return how many of them stayed finite.

        If an epoch does not finish, the model has the parameters and buffers from before it.

        Parameters
        ----------
        data : Data
        order : ndarray of shape (epochs, rows), or None
            The rows of each epoch; None: all rows in order.
        seeds : ndarray of shape (epochs,), or None
            Seed of dropout for each epoch; None: no dropout.
        rates : ndarray
            The learning rate of each step, or one for all.
        totals : ndarray of shape (epochs,)
            Set to the total loss of each finished epoch.
        watcher : Watcher, optional
        """
        return self.run(data).epochs(
            _NO_ORDER if order is None else order,
            _NO_SEEDS if seeds is None else seeds,
            rates,
            totals,
            watcher,
        )

    def undo(self) -> None:
        """Restore the parameters and buffers from before the epoch that was begun last."""
        _, finished = self._scratch
        n_parameters = len(self.plan.parameters)
        np.copyto(self.plan.parameters, finished[:n_parameters])
        np.copyto(self.plan.buffers, finished[n_parameters:])


def shuffled(rng: np.random.Generator, count: int, n: int) -> NDArray[np.intp]:
    """Return `count` random orders of `n` rows, of shape (count, n)."""
    order = np.empty((count, n), np.intp)
    # NumPy's `permuted` takes three times as long: a quarter of a tiny network's epoch.
    engine.shuffle(rng.bit_generator, order)
    return order


def all_finite(*arrays: NDArray[Any]) -> bool:
    """Return whether no value of these arrays is NaN or infinite."""
    return all(engine.all_finite(array.reshape(-1)) for array in arrays if array.size)


# What the engine reads


def _network(
    table: NDArray[Any],
    parameters: NDArray[Any],
    buffers: NDArray[Any],
    layout: tuple[int, int, int],
    *,
    training: bool,
) -> engine.Network:
    """Return a table of operations with these arrays and a new workspace.

    `layout` is as in `Plan.training_network`.
    """
    size, _ = engine.measure(table, layout, training, parameters.dtype)
    workspace = aligned_empty(size, parameters.dtype)
    return engine.Network(table, parameters, buffers, workspace, layout, training)


def _function(loss: Loss) -> Callable[[NDArray[Any], NDArray[Any]], Any] | None:
    """Return the function that the engine calls for a loss; None: it computes the loss itself."""
    return loss.value_and_gradient if loss.in_python else None


def _examples(
    data: Data,
) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.intp], NDArray[Any]]:
    return data.x, data.targets, data.labels, data.sample_weight


def _scratch(plan: Plan, *, stored: bool) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return memory for a gradient, if it is stored, and for a copy of all parameters and buffers."""
    n_parameters = len(plan.parameters)
    return (
        aligned_empty(n_parameters if stored else 0, plan.dtype),
        aligned_empty(n_parameters + len(plan.buffers), plan.dtype),
    )


def _aligned_copy(array: NDArray[Any]) -> NDArray[Any]:
    copied = aligned_empty(len(array), array.dtype)
    copied[...] = array
    return copied
