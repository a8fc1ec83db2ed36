"""Plan: a model as the engine reads it, and all calls of the engine."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnet._arrays import aligned_empty
from cnet._core import engine
from cnet._core.engine import Learner, Predictor
from cnet.data import Data
from cnet.layers import BaseLayer
from cnet.losses import Loss
from cnet.model import Model
from cnet.optimizers import SGD, Optimizer, OptimizerState
from cnet.threads import get_num_threads

__all__ = ["Job", "Learner", "Plan", "Predictor", "all_finite", "shuffled"]

# Multiplications of one block of rows: enough for the products to run at full speed, few enough to
# notice Ctrl-C in time. An activation takes as long as some hundred of them if the layer outgrows the
# caches.
_BLOCK_WORK = 1_500_000_000
_ACTIVATION_WORK = 100
_MIN_BLOCK_ROWS = 32
_MAX_BLOCK_ROWS = 512
_BLOCK_BYTES = 2**19

# Rows that a predictor takes at a time, at most.
_PREDICTOR_ROWS = 128

# Multiplications of one call of the engine that trains, if an epoch has fewer: about 1 ms, compared to
# which the cost of a call is small, and after which nobody notices a delayed line of output.
_CALL_WORK = 3_000_000

# Column of the table where doubles begin.
_FIRST_DOUBLE = 9

# The settings of each optimizer, in the order of `_core/optimizers.pxd`, after those that all have.
_OPTIMIZER_SETTINGS = {
    "sgd": ("momentum", "nesterov"),
    "adam": ("beta_1", "beta_2", "epsilon", "epsilon_hat"),
    "adamw": ("beta_1", "beta_2", "epsilon", "epsilon_hat"),
    "rmsprop": ("alpha", "epsilon", "momentum", "centered"),
    "adagrad": ("learning_rate_decay", "epsilon"),
    "rprop": ("shrink", "grow", "smallest_step", "largest_step"),
}

_NOTHING: dict[Any, NDArray[Any]] = {
    np.dtype(name): np.empty(0, name) for name in ("float32", "float64")
}
_NO_ROWS: dict[Any, NDArray[Any]] = {
    dtype: empty.reshape(0, 0) for dtype, empty in _NOTHING.items()
}
_NO_ORDER = np.empty((0, 0), np.intp)


class Plan:
    """How the engine computes a model. It uses the model's arrays, and does not change with them.

    Parameters
    ----------
    model : Model
    layers : sequence of BaseLayer, optional
        The layers to compute, by default the model's own: consecutive layers of the model, or as many
        layers of the same shapes with other settings.
    block_rows : int, optional
        Number of rows that the engine takes through the layers at a time. By default it depends on the
        size of the layers.
    """

    def __init__(
        self,
        model: Model,
        layers: Sequence[BaseLayer] | None = None,
        block_rows: int | None = None,
    ) -> None:
        self.model = model
        self.parameters = model.parameters
        self.dtype = model.dtype
        self.drops = model.drops
        self.block_rows = block_rows
        dense: Sequence[Any] = model.layers if layers is None else layers
        self.n_inputs = dense[0].n_inputs
        self.n_outputs = dense[-1].n_neurons
        own = model.views(dense[0]) is not None
        self.table = _table(dense, model.offsets(dense[0]) if own else 0)
        n_parameters = (
            len(model.parameters) if layers is None else sum(layer.n_parameters for layer in dense)
        )
        n_neurons = sum(layer.n_neurons for layer in dense)
        # About how many multiplications a row takes, forward and backward.
        self.row_work: int = 3 * n_parameters + _ACTIVATION_WORK * n_neurons

    def rows_per_block(self, n: int) -> int:
        """Return how many of `n` rows the engine takes through the layers at a time."""
        if self.block_rows is not None:
            return min(n, self.block_rows)
        rows = _BLOCK_WORK // self.row_work
        return min(n, max(_MIN_BLOCK_ROWS, min(_MAX_BLOCK_ROWS, rows)))

    def workspace(self, capacity: int, threads: int) -> NDArray[Any]:
        """Return scratch memory for blocks of up to `capacity` rows."""
        return aligned_empty(engine.workspace_size(self.table, capacity, threads), self.dtype)

    # Prediction

    def forward(self, x: NDArray[Any]) -> NDArray[Any]:
        """Return the outputs of the last layer, of shape (n, n_outputs)."""
        outputs = np.empty((len(x), self.n_outputs), self.dtype)
        self._forward(x, outputs, check=False)
        return outputs

    def forward_of_finite(self, x: NDArray[Any]) -> NDArray[Any] | None:
        """Return the same, or None if x has values that are NaN or infinite."""
        outputs = np.empty((len(x), self.n_outputs), self.dtype)
        return outputs if self._forward(x, outputs, check=True) else None

    def _forward(self, x: NDArray[Any], outputs: NDArray[Any], *, check: bool) -> bool:
        capacity = self.rows_per_block(len(x))
        if self.block_rows is None:
            # Few enough rows that a block of x stays in the second-level cache.
            fitting = _BLOCK_BYTES // (self.n_inputs * self.dtype.itemsize)
            capacity = min(capacity, max(_MIN_BLOCK_ROWS, fitting))
        threads = get_num_threads()
        return engine.forward(
            self.table,
            self.parameters,
            x,
            outputs,
            self.workspace(capacity, threads),
            capacity,
            capacity,
            threads,
            check,
        )

    def predictor(self, capacity: int = _PREDICTOR_ROWS, *, frozen: bool = False) -> Predictor:
        """Return a predictor that takes up to `capacity` rows at a time.

        With `frozen` it has a copy of the parameters, which training does not change.
        """
        threads = get_num_threads()
        capacity = self.rows_per_block(capacity)
        parameters = self.parameters
        if frozen:
            parameters = aligned_empty(len(parameters), self.dtype)
            parameters[...] = self.parameters
        workspace = self.workspace(capacity, threads)
        return Predictor(self.table, parameters, workspace, capacity, threads)

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
        nothing, no_rows = _NOTHING[self.dtype], _NO_ROWS[self.dtype]
        gradient = nothing if gradient is None else gradient
        input_gradient = no_rows if input_gradient is None else input_gradient
        n = len(data.x)
        threads = get_num_threads()
        if not loss.in_python:
            divisor = 1.0
            if reduction == "weighted_mean" and data.sample_weight.size:
                # Rows without weight have no loss either.
                divisor = float(data.sample_weight.sum(dtype=np.float64)) or 1.0
            elif reduction != "sum":
                divisor = n
            capacity = self.rows_per_block(n)
            return engine.loss_and_gradient(
                self.table,
                self.parameters,
                data.x,
                data.targets,
                data.labels,
                data.sample_weight,
                engine.LOSSES[loss.name],
                loss.setting,
                1 / divisor,
                1 / divisor if divide_penalties else 1.0,
                self.workspace(capacity, threads),
                capacity,
                gradient,
                input_gradient,
                no_rows if outputs is None else outputs,
                threads,
            )
        penalty_scale = 1 / n if divide_penalties else 1.0
        workspace = self.workspace(n, threads)
        predicted = np.empty((n, self.n_outputs), self.dtype) if outputs is None else outputs
        block = self.rows_per_block(n)
        engine.forward(self.table, self.parameters, data.x, predicted, workspace, n, block, threads)
        value, output_gradient = loss.value_and_gradient(data.targets, predicted)
        engine.backward(
            self.table, self.parameters, data.x, output_gradient, penalty_scale, workspace, n, block,
            gradient, input_gradient, threads,
        )  # fmt: skip
        return value + penalty_scale * self.penalty()

    def penalty(self) -> float:
        """Return the sum of the layers' penalties."""
        return engine.penalty(self.table, self.parameters)

    def descended(self, gradient: NDArray[Any], learning_rate: float) -> NDArray[Any]:
        """Return the parameters after a step of plain gradient descent; overwrites the gradient."""
        stepped, descent = self.parameters.copy(), SGD()
        engine.apply_update(
            self.table,
            engine.OPTIMIZERS[descent.name],
            _settings(descent),
            learning_rate,
            1,
            stepped,
            gradient,
            _NO_ROWS[self.dtype],
            get_num_threads(),
        )
        return stepped

    # Training

    def learner(
        self, loss: Loss, state: OptimizerState, learning_rate: float, seed: int
    ) -> Learner:
        """Return a function that trains on one row at a time, ``learner(x, y) -> loss``.

        The loss must be one that the engine computes. `seed` is that of dropout.
        """
        n_parameters = len(self.parameters)
        # To clip the norm of a gradient requires all of it.
        n_gradient = n_parameters if state.optimizer.clip_norm is not None else 0
        return Learner(
            self.table,
            self.parameters,
            aligned_empty(self.n_inputs + self.n_outputs, self.dtype),
            engine.LOSSES[loss.name],
            loss.setting,
            loss.takes_labels,
            loss.low,
            loss.high,
            engine.OPTIMIZERS[state.optimizer.name],
            _settings(state.optimizer),
            learning_rate,
            seed,
            state.steps,
            state.moments,
            aligned_empty(n_gradient, self.dtype),
            aligned_empty(n_parameters, self.dtype),
            self.workspace(1, 1),
        )


class Job:
    """Training of a plan by batches: what the engine needs for it, apart from the data.

    Parameters
    ----------
    plan : Plan
    loss : Loss
    state : OptimizerState
    batch_size : int
    reduction, divide_penalties, recorded_scale
        As in `TrainingSettings`.
    """

    def __init__(
        self,
        plan: Plan,
        loss: Loss,
        state: OptimizerState,
        batch_size: int,
        *,
        reduction: str,
        divide_penalties: bool,
        recorded_scale: float,
    ) -> None:
        self.plan = plan
        self.loss = loss
        self.state = state
        self.batch_size = batch_size
        self.reduction = reduction
        self.divide_penalties = divide_penalties
        self.recorded_scale = recorded_scale
        self._block = plan.rows_per_block(batch_size)
        # A function must get a whole batch, whose outputs are then kept for their gradient.
        self._capacity = batch_size if loss.in_python else self._block
        self._threads = get_num_threads()
        self._workspace = plan.workspace(self._capacity, self._threads)
        # If a batch is one block, each piece of a layer's gradient is used at once, and never stored as
        # a whole, unless the norm of the whole gradient is needed.
        stored = batch_size > self._capacity or state.optimizer.clip_norm is not None
        stored = stored or loss.in_python
        n_parameters = len(plan.parameters)
        self._gradient = aligned_empty(n_parameters if stored else 0, plan.dtype)
        self._settings = _settings(state.optimizer)

    def epochs_per_call(self, n: int) -> int:
        """Return how many epochs of `n` rows one call of `train` should take."""
        if self.loss.in_python:
            return 1
        n_steps = math.ceil(n / self.batch_size)
        # A step has a cost of its own, and the optimizer one for each parameter.
        work = n * self.plan.row_work + n_steps * (100 + 10 * len(self.plan.parameters))
        return max(1, _CALL_WORK // work)

    def train(
        self,
        data: Data,
        order: NDArray[np.intp] | None,
        seeds: NDArray[np.uint64],
        rates: NDArray[np.float64],
        totals: NDArray[np.float64],
        finished: NDArray[Any],
    ) -> int:
        """Train for as many epochs as `totals` has room for; return how many of them stayed finite.

        Parameters
        ----------
        data : Data
        order : ndarray of shape (epochs, rows), or None
            The rows of each epoch; None: all, as they are.
        seeds : ndarray of shape (epochs,), or empty
            Seed of dropout for each epoch.
        rates : ndarray
            The learning rate of each step, or one for all.
        totals : ndarray of shape (epochs,)
            Set to the total loss of each finished epoch.
        finished : ndarray
            Set to the parameters before the last epoch that was begun. If it did not finish, the model
            has these parameters again.
        """
        plan = self.plan
        return engine.train(
            plan.table,
            plan.parameters,
            data.x,
            data.targets,
            data.labels,
            data.sample_weight,
            engine.LOSSES[self.loss.name],
            self.loss.setting,
            engine.REDUCTIONS[self.reduction],
            self.divide_penalties,
            self.recorded_scale,
            _NO_ORDER if order is None else order,
            seeds,
            self.batch_size,
            engine.OPTIMIZERS[self.state.optimizer.name],
            self._settings,
            rates,
            self.state.steps,
            self.state.moments,
            self._gradient,
            finished,
            self._workspace,
            self._capacity,
            totals,
            self._threads,
        )

    def train_batch(self, data: Data, rate: float, dropout_key: int) -> float:
        """Make one step with a function as loss; return what the batch adds to the epoch's total.

        Parameters
        ----------
        data : Data
            The rows of the batch.
        rate : float
        dropout_key : int
            Seed of dropout for this batch, or 0.
        """
        plan, x = self.plan, data.x
        outputs = np.empty((len(x), plan.n_outputs), plan.dtype)
        engine.forward(
            plan.table,
            plan.parameters,
            x,
            outputs,
            self._workspace,
            self._capacity,
            self._block,
            self._threads,
            False,
            dropout_key,
        )
        value, gradient = self.loss.value_and_gradient(data.targets, outputs)
        penalty_scale = 1 / len(x) if self.divide_penalties else 1.0
        value += penalty_scale * plan.penalty()
        if not math.isfinite(value):
            return value
        engine.backward(
            plan.table,
            plan.parameters,
            x,
            gradient,
            penalty_scale,
            self._workspace,
            self._capacity,
            self._block,
            self._gradient,
            _NO_ROWS[plan.dtype],
            self._threads,
            dropout_key != 0,
        )
        self.state.steps += 1
        engine.apply_update(
            plan.table,
            engine.OPTIMIZERS[self.state.optimizer.name],
            self._settings,
            rate,
            int(self.state.steps[0]),
            plan.parameters,
            self._gradient,
            self.state.moments,
            self._threads,
        )
        # The function has done the reduction already.
        return value if self.reduction == "sum" else value * len(x)


def shuffled(rng: np.random.Generator, count: int, n: int) -> NDArray[np.intp]:
    """Return `count` random orders of `n` rows, of shape (count, n)."""
    order = np.empty((count, n), np.intp)
    # NumPy's permuted takes three times as long, which would be a quarter of a tiny network's epoch.
    engine.shuffle(rng.bit_generator, order)
    return order


def all_finite(*arrays: NDArray[Any]) -> bool:
    """Return whether no value of these arrays is NaN or infinite."""
    return all(engine.all_finite(array.reshape(-1)) for array in arrays if array.size)


def _settings(optimizer: Optimizer) -> NDArray[np.float64]:
    """Return the settings of an optimizer as the engine reads them."""
    names = _OPTIMIZER_SETTINGS[optimizer.name]
    settings = np.zeros(engine.OPTIMIZER_SETTINGS)
    settings[:3] = optimizer.weight_decay, optimizer.clip_norm or 0.0, optimizer.clip_value or 0.0
    settings[3 : 3 + len(names)] = [float(getattr(optimizer, name)) for name in names]
    return settings


def _table(layers: Sequence[Any], first_parameter: int) -> NDArray[np.intp]:
    """Return a row for each layer, as `Layer` in `_core/passes.pxd` describes it."""
    table = np.empty((len(layers), engine.PROGRAM_COLUMNS), np.intp)
    offset, outputs = first_parameter, 0
    for i, layer in enumerate(layers):
        code = engine.ACTIVATIONS[layer.activation]
        # The loss may be combined with the activation of the last layer, and starts from its input z.
        keeps_z = engine.keeps_preactivation(code) or i == len(layers) - 1
        room = engine.row_room(layer.n_neurons)
        preactivations = outputs + room if keeps_z else outputs
        after = preactivations + room
        table[i, :_FIRST_DOUBLE] = (
            layer.n_inputs,
            layer.n_neurons,
            code,
            offset,
            offset + layer.n_inputs * layer.n_neurons if layer.bias else -1,
            outputs,
            preactivations,
            after if layer.drops else outputs,
            after + room if layer.drops else outputs,
        )
        table[i, _FIRST_DOUBLE:].view(np.float64)[:] = (
            layer.dropout,
            layer.l1,
            layer.l2,
            layer.max_norm or 0.0,
        )
        offset += layer.n_parameters
        outputs = after + 2 * room if layer.drops else after
    return table
