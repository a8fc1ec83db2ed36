"""A network as the engine sees it: a row of integers per layer and one flat array of parameters."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnet._arrays import Data, aligned_empty
from cnet._core import engine
from cnet.layers import Layer
from cnet.losses import Loss, LossFunction, call_loss
from cnet.optimizers import SGD
from cnet.threads import get_num_threads

# Sizes beyond which an address would overflow before memory ran out.
_MAX_PARAMETERS = 2**48

# Multiplications of one block of rows: enough for the products to run at full speed, few enough that
# Ctrl-C is seen in time. A neuron's activation takes as long as some hundred, where the layer outgrows
# the caches.
_BLOCK_WORK = 1_500_000_000
_ACTIVATION_WORK = 100
_MIN_BLOCK_ROWS = 32
_MAX_BLOCK_ROWS = 512
_BLOCK_BYTES = 2**19

# Columns of the table where offsets into the workspace begin, and where doubles do.
_FIRST_OFFSET = 5
_FIRST_DOUBLE = 9

NOTHING: dict[Any, NDArray[Any]] = {
    np.dtype(name): np.empty(0, name) for name in ("float32", "float64")
}
NO_ROWS: dict[Any, NDArray[Any]] = {dtype: empty.reshape(0, 0) for dtype, empty in NOTHING.items()}


class Program:
    """The layers' table and parameters, and what the engine computes from them.

    Parameters
    ----------
    layers : sequence of Layer
        At least one; each takes as many inputs as the one before has neurons.
    dtype : numpy.dtype
        float32 or float64.

    Raises
    ------
    ValueError
        Where there would be more parameters than an address can reach.
    MemoryError
        Where there is no room for them.
    """

    def __init__(self, layers: Sequence[Layer], dtype: np.dtype[Any]) -> None:
        self.dtype = dtype
        self.n_inputs = layers[0].n_inputs
        self.n_outputs = layers[-1].n_neurons
        self.drops = any(layer.dropout > 0 for layer in layers)
        n_parameters = sum(layer.n_parameters for layer in layers)
        if n_parameters > _MAX_PARAMETERS:
            raise ValueError(
                f"the layers must have at most {_MAX_PARAMETERS:,} weights and biases together, "
                f"got {n_parameters:,}"
            )
        self.rows = np.empty((len(layers), engine.PROGRAM_COLUMNS), np.intp)
        offset = outputs = 0
        for i, layer in enumerate(layers):
            code = engine.ACTIVATIONS[layer.activation]
            # The loss of the last layer may be fused with its activation, and starts from z.
            keeps_z = engine.keeps_preactivation(code) or i == len(layers) - 1
            room = engine.row_room(layer.n_neurons)
            preactivations = outputs + room if keeps_z else outputs
            after = preactivations + room
            drops = layer.dropout > 0
            self.rows[i, :_FIRST_DOUBLE] = (
                layer.n_inputs,
                layer.n_neurons,
                code,
                offset,
                offset + layer.n_inputs * layer.n_neurons if layer.bias else -1,
                outputs,
                preactivations,
                after if drops else outputs,
                after + room if drops else outputs,
            )
            self.rows[i, _FIRST_DOUBLE:].view(np.float64)[:] = (
                layer.dropout,
                layer.l1,
                layer.l2,
                layer.max_norm or 0.0,
            )
            offset += layer.n_parameters
            outputs = after + 2 * room if drops else after
        try:
            self.parameters = aligned_empty(n_parameters, dtype)
        except (MemoryError, ValueError):
            n_bytes = n_parameters * dtype.itemsize
            raise MemoryError(
                f"no memory for {n_parameters:,} weights and biases, {n_bytes:,} bytes"
            ) from None

    @property
    def row_work(self) -> int:
        """About how many multiplications a row takes, forward and backward."""
        return 3 * len(self.parameters) + _ACTIVATION_WORK * int(self.rows[:, 1].sum())

    def block_rows(self, n: int) -> int:
        """Rows that the engine takes through the layers at a time, of `n` in all."""
        rows = _BLOCK_WORK // self.row_work
        return min(n, max(_MIN_BLOCK_ROWS, min(_MAX_BLOCK_ROWS, rows)))

    def workspace(self, capacity: int, threads: int) -> NDArray[Any]:
        """Return scratch memory for blocks of up to `capacity` rows and so many threads."""
        return aligned_empty(engine.workspace_size(self.rows, capacity, threads), self.dtype)

    def forward(self, x: NDArray[Any]) -> NDArray[Any]:
        """Return the last layer's outputs, of shape (n, n_outputs)."""
        outputs = np.empty((len(x), self.n_outputs), self.dtype)
        self._forward(x, outputs, check=False)
        return outputs

    def forward_of_finite(self, x: NDArray[Any]) -> NDArray[Any] | None:
        """Return the same, or None where a number of x is NaN or infinite."""
        outputs = np.empty((len(x), self.n_outputs), self.dtype)
        return outputs if self._forward(x, outputs, check=True) else None

    def _forward(self, x: NDArray[Any], outputs: NDArray[Any], *, check: bool) -> bool:
        # Few enough rows for a block of x to stay in the second-level cache.
        fitting = _BLOCK_BYTES // (self.n_inputs * self.dtype.itemsize)
        capacity = min(self.block_rows(len(x)), max(_MIN_BLOCK_ROWS, fitting))
        threads = get_num_threads()
        return engine.forward(
            self.rows,
            self.parameters,
            x,
            outputs,
            self.workspace(capacity, threads),
            capacity,
            capacity,
            threads,
            check,
        )

    def descended(self, gradient: NDArray[Any], learning_rate: float) -> NDArray[Any]:
        """Return the parameters after a step of plain gradient descent; uses the gradient up."""
        stepped = self.parameters.copy()
        descent = SGD()
        engine.apply_update(
            self.rows,
            descent.code,
            descent.settings(),
            learning_rate,
            1,
            stepped,
            gradient,
            NO_ROWS[self.dtype],
            get_num_threads(),
        )
        return stepped

    def predictor(self, capacity: int) -> engine.Predictor:
        """Return a predictor over these parameters, which takes `capacity` rows at a time."""
        threads = get_num_threads()
        workspace = self.workspace(capacity, threads)
        return engine.Predictor(self.rows, self.parameters, workspace, capacity, threads)

    def only(self, layer: int) -> Program:
        """Return the program of one of the layers, over the same parameters."""
        part = copy.copy(self)
        part.rows = self.rows[layer : layer + 1].copy()
        # Workspace offsets count from the layer's own.
        part.rows[:, _FIRST_OFFSET:_FIRST_DOUBLE] -= part.rows[0, _FIRST_OFFSET]
        part.n_inputs, part.n_outputs = part.rows[0, :2].tolist()
        return part

    def loss(
        self,
        data: Data,
        loss: Loss | LossFunction,
        *,
        reduction: str,
        divide_penalties: bool = False,
        gradient: NDArray[Any] | None = None,
        input_gradient: NDArray[Any] | None = None,
        outputs: NDArray[Any] | None = None,
    ) -> float:
        """Return the loss over all rows with the layers' penalties; fill those of the arrays given.

        `reduction` and `divide_penalties` are as in `training.Settings`. A function of the user's sees
        all rows at once and does its own reduction.
        """
        nothing, no_rows = NOTHING[self.dtype], NO_ROWS[self.dtype]
        gradient = nothing if gradient is None else gradient
        input_gradient = no_rows if input_gradient is None else input_gradient
        n = len(data.x)
        threads = get_num_threads()
        if isinstance(loss, Loss):
            divisor = 1.0
            if reduction == "weighted_mean" and data.sample_weight.size:
                # Rows of no weight have no loss either.
                divisor = float(data.sample_weight.sum(dtype=np.float64)) or 1.0
            elif reduction != "sum":
                divisor = n
            capacity = self.block_rows(n)
            return engine.loss_and_gradient(
                self.rows,
                self.parameters,
                data.x,
                data.targets,
                data.labels,
                data.sample_weight,
                loss.code,
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
        block = self.block_rows(n)
        engine.forward(self.rows, self.parameters, data.x, predicted, workspace, n, block, threads)
        value, output_gradient = call_loss(loss, data.targets, predicted)
        engine.backward(
            self.rows,
            self.parameters,
            data.x,
            output_gradient,
            penalty_scale,
            workspace,
            n,
            block,
            gradient,
            input_gradient,
            threads,
        )
        return value + penalty_scale * engine.penalty(self.rows, self.parameters)
