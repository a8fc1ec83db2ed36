"""Rows of inputs, dense or sparse. Large sparse matrices are converted to dense ones part by part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import issparse

from cnet._plan import Plan
from cnet.data import Data
from cnet.estimators._network import changed
from cnet.layers import BaseLayer
from cnet.losses import Loss
from cnet.model import Model

if TYPE_CHECKING:
    from scipy.sparse import sparray, spmatrix

Matrix: TypeAlias = "ArrayLike | sparray | spmatrix"

# Sparse rows that take no more than this as a dense array are converted at once.
DENSE_BYTES = 2**26


def as_rows(X: Any) -> Any:  # noqa: N803
    """Return validated inputs as the engine reads them, or as a CSR matrix if they are too large."""
    if not issparse(X):
        return np.require(X, requirements=["C", "A"])
    if X.shape[0] * X.shape[1] * X.dtype.itemsize <= DENSE_BYTES:
        return X.toarray(order="C")
    return X.tocsr()


def slices_of(x: Any, n: int | None = None, batch_size: int = 1) -> list[slice]:
    """Return slices of `n` rows of x, by default all, that are small enough to be made dense.

    Dense rows are one slice. Each slice but the last has a multiple of `batch_size` rows.
    """
    n_inputs = x.shape[1]
    n = x.shape[0] if n is None else n
    if not issparse(x):
        return [slice(0, n)]
    n_batches = max(1, DENSE_BYTES // (n_inputs * x.dtype.itemsize * batch_size))
    step = n_batches * batch_size
    return [slice(start, min(start + step, n)) for start in range(0, n, step)]


def dense(x: Any) -> NDArray[Any]:
    """Return rows as an array."""
    array: NDArray[Any] = x.toarray(order="C") if issparse(x) else x
    return array


def as_dense(data: Data) -> Data:
    """Return the same data with x as an array."""
    return Data(dense(data.x), data.targets, data.labels, data.sample_weight)


def total_weight(data: Data) -> float:
    """Return the sum of the rows' weights."""
    return float(data.sample_weight.sum()) if data.sample_weight.size else data.x.shape[0]


def forward(plan: Plan, x: Any, layers: Sequence[BaseLayer] | None = None) -> NDArray[Any]:
    """Return the outputs of a network, of shape (n, n_outputs).

    For sparse rows SciPy computes the first product. The engine continues from there with a model whose
    first weights are an identity matrix, which does not change the sums.

    Parameters
    ----------
    plan : Plan
        The plan of the network's model.
    x : ndarray or CSR matrix
    layers : sequence of BaseLayer, optional
        The model's layers with other settings.
    """
    model = plan.model
    if not issparse(x):
        return (plan if layers is None else Plan(model, layers)).forward(x)
    first, *others = model.layers if layers is None else layers
    n_weights, width = first.n_inputs * first.n_neurons, first.n_neurons
    rest = Model([changed(first, n_inputs=width), *map(changed, others)], model.dtype)
    rest.parameters[: width**2] = np.eye(width).reshape(-1)
    rest.parameters[width**2 :] = model.parameters[n_weights:]
    rest.buffers[...] = model.buffers
    weights = model.parameters[:n_weights].reshape(first.n_inputs, width)
    rest_plan = Plan(rest)
    step = max(1, DENSE_BYTES // (width * model.dtype.itemsize))
    outputs = [
        rest_plan.forward(np.ascontiguousarray(x[start : start + step] @ weights))
        for start in range(0, x.shape[0], step)
    ]
    return np.concatenate(outputs)


def mean_loss(plan: Plan, data: Data, loss: Loss, gradient: NDArray[Any] | None = None) -> float:
    """Return the weighted mean of the rows' losses, and fill its gradient if an array is given.

    The penalties of the plan are divided as the rows' sum is. They are added once for each of
    `slices_of` the rows.
    """
    slices = slices_of(data.x)
    if len(slices) == 1 or loss.in_python:
        # A function needs all rows at once, and does its own reduction.
        return plan.loss(
            as_dense(data),
            loss,
            reduction="weighted_mean",
            divide_penalties=True,
            gradient=gradient,
        )
    total = total_weight(data)
    value = 0.0
    of_slice = None if gradient is None else np.zeros_like(gradient)
    if gradient is not None:
        gradient[...] = 0
    for rows in slices:
        chosen = data.of_rows(rows)
        value += plan.loss(as_dense(chosen), loss, reduction="sum", gradient=of_slice)
        if gradient is not None and of_slice is not None:
            gradient += of_slice / total
    return value / total


class SparseRows:
    """A source of training rows from a sparse matrix, some batches of which are dense at a time.

    Parameters
    ----------
    data : Data
        ``data.x`` is a CSR matrix.
    rows : ndarray of intp
        The rows to train on.

    Attributes
    ----------
    n : int
        Number of rows to train on.
    """

    is_whole = False

    def __init__(self, data: Data, rows: NDArray[np.intp]) -> None:
        self.data = data
        self.rows = rows
        self.n = len(rows)

    def parts(
        self, order: NDArray[np.intp] | None, batch_size: int
    ) -> Iterator[tuple[Data, NDArray[np.intp] | None]]:
        """Yield the rows of an epoch in this order, part by part."""
        rows = self.rows if order is None else self.rows[order[0]]
        for part in slices_of(self.data.x, self.n, batch_size):
            chosen = self.data.of_rows(rows[part])
            yield as_dense(chosen), None
