"""Rows of inputs, dense or sparse: a part at a time where all of them dense would fill the memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse

from cnet._arrays import Data
from cnet._program import Program
from cnet.callbacks import Callback
from cnet.estimators._network import Plan
from cnet.losses import Loss, LossFunction
from cnet.training import Run

# Sparse rows that take no more than this when dense are made dense all at once.
_DENSE_BYTES = 2**26


def as_rows(X: Any) -> Any:  # noqa: N803
    """Return validated inputs as the engine reads them, or in compressed rows if that is too large."""
    if not issparse(X):
        return np.require(X, requirements=["C", "A"])
    if X.shape[0] * X.shape[1] * X.dtype.itemsize <= _DENSE_BYTES:
        return X.toarray(order="C")
    return X.tocsr()


def parts(x: Any, n: int | None = None, batch_size: int = 1) -> list[slice]:
    """Return slices of `n` rows of x that are small enough to be made dense; dense rows are one part.

    By default all rows. All parts but the last have a multiple of `batch_size` rows.
    """
    n_inputs = x.shape[1]
    n = x.shape[0] if n is None else n
    if not issparse(x):
        return [slice(0, n)]
    n_batches = max(1, _DENSE_BYTES // (n_inputs * x.dtype.itemsize * batch_size))
    step = n_batches * batch_size
    return [slice(start, min(start + step, n)) for start in range(0, n, step)]


def dense(x: Any) -> NDArray[Any]:
    """Return rows as an array."""
    array: NDArray[Any] = x.toarray(order="C") if issparse(x) else x
    return array


def forward(program: Program, plan: Plan, x: Any) -> NDArray[Any]:
    """Return the outputs of a network that is made to this plan, of shape (n, n_outputs).

    The first product with sparse rows is SciPy's; from there the engine goes on, by way of an identity.
    """
    if not issparse(x):
        return program.forward(x)
    n_inputs, n_neurons = plan.sizes[:2]
    n_weights = n_inputs * n_neurons
    rest = Program(plan._replace(sizes=(n_neurons, *plan.sizes[1:])).layers(), program.dtype)
    rest.parameters[: n_neurons**2] = np.eye(n_neurons).reshape(-1)
    rest.parameters[n_neurons**2 :] = program.parameters[n_weights:]
    weights = program.parameters[:n_weights].reshape(n_inputs, n_neurons)
    step = max(1, _DENSE_BYTES // (n_neurons * program.dtype.itemsize))
    outputs = [
        rest.forward(np.ascontiguousarray(x[start : start + step] @ weights))
        for start in range(0, x.shape[0], step)
    ]
    return np.concatenate(outputs)


def mean_loss(
    program: Program, data: Data, loss: Loss | LossFunction, gradient: NDArray[Any] | None = None
) -> float:
    """Return the mean of the rows' losses by their weights, and fill its gradient where given.

    The program's penalties are divided as the rows' sum is, and added once for each of the `parts`.
    """
    found = parts(data.x)
    if len(found) == 1 or not isinstance(loss, Loss):
        # A function must see all rows at once, and does its own reduction.
        return program.loss(
            data._replace(x=dense(data.x)),
            loss,
            reduction="weighted_mean",
            divide_penalties=True,
            gradient=gradient,
        )
    total = float(data.sample_weight.sum()) if data.sample_weight.size else data.x.shape[0]
    value = 0.0
    of_part = None if gradient is None else np.zeros_like(gradient)
    if gradient is not None:
        gradient[...] = 0
    for part in found:
        chosen = data.of_rows(part)
        value += program.loss(
            chosen._replace(x=dense(chosen.x)), loss, reduction="sum", gradient=of_part
        )
        if gradient is not None and of_part is not None:
            gradient += of_part / total
    return value / total


class SparseRun(Run):
    """A run over sparse rows, of which some batches at a time are made dense.

    Parameters
    ----------
    program, data, state, settings, rng, rows
        As in `Run`, but that ``data.x`` is a matrix in compressed rows, and `rows` must be given.
    """

    def epochs(
        self, count: int, callbacks: list[Callback] | None = None, network: Any = None
    ) -> tuple[NDArray[np.float64], BaseException | None]:
        """Train `count` epochs as `Run` does, from part to part."""
        totals: list[float] = []
        error: BaseException | None = None
        for _ in range(count):
            total, error = self._epoch(callbacks, network)
            if total is None:
                break
            totals.append(total)
        return np.array(totals), error

    def _epoch(
        self, callbacks: list[Callback] | None, network: Any
    ) -> tuple[float | None, BaseException | None]:
        parameters = self.program.parameters
        np.copyto(self.finished, parameters)
        total = 0.0
        error: BaseException | None = None
        try:
            for run in self._runs():
                values, error = run.epochs(1, callbacks, network)
                if not len(values):
                    break
                total += float(values[0])
            else:
                return total, None
        except BaseException as raised:  # Ctrl-C or no memory, while rows are made dense
            error = raised
        np.copyto(parameters, self.finished)
        self.state.restart(self.settings.learning_rate)
        return None, error

    def _runs(self) -> Iterator[Run]:
        """Yield the epoch's parts, each as a run of its own over rows that are in order."""
        rows = self._order(1)[0]
        settings = replace(
            self.settings, shuffle=False, order=None, learning_rate=float(self.rates[0])
        )
        x: Any = self.data.x
        for part in parts(x, self.n, self.batch_size):
            chosen = self.data.of_rows(rows[part])
            run = Run(
                self.program,
                chosen._replace(x=dense(chosen.x)),
                self.state,
                settings,
                self.rng,
            )
            run.first_batch = part.start // self.batch_size
            yield run
