"""The loss as scikit-learn records it, if it differs from the loss that is minimised.

The squared error is minimised as the sum over the outputs, and recorded as their mean. The Poisson
deviance has an additional constant, so that it is 0 if all predictions are right.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from cnet.data import Data
from cnet.estimators._rows import total_weight
from cnet.estimators._stochastic import Shuffling
from cnet.losses import Loss

Recorded: TypeAlias = Callable[[float], float]


def constant(loss: Loss, data: Data) -> float:
    """Return the weighted mean of the rows' constants."""
    of_rows = loss.constant(data.targets)
    if of_rows is None:
        return 0.0
    weights = data.sample_weight if data.sample_weight.size else None
    return float(np.average(of_rows, weights=weights))


def recorded_by_batches(
    loss: Loss,
    data: Data,
    rows: NDArray[np.intp] | None,
    shuffling: Shuffling | None,
    batch_size: int,
) -> Recorded | None:
    """Return a function that converts the loss of the last epoch; None: it is recorded unchanged.

    Parameters
    ----------
    loss : Loss
    data : Data
    rows : ndarray of intp, or None
        The rows to train on; None: all.
    shuffling : Shuffling or None
        Its `order` is the order of the last epoch. None: rows are not shuffled.
    batch_size : int
    """
    of_rows = loss.constant(data.targets)
    if of_rows is None:
        return None
    constants = of_rows
    n = len(constants) if rows is None else len(rows)
    weights = data.sample_weight.astype(np.float64)
    starts = np.arange(0, n, batch_size)
    sizes = np.diff([*starts, n])

    def recorded(value: float) -> float:
        order = np.arange(n) if shuffling is None else shuffling.order
        order = order if rows is None else rows[order]
        if not weights.size:
            return value + float(constants[order].mean())
        sums = np.add.reduceat(weights[order], starts)
        weighted = np.add.reduceat(weights[order] * constants[order], starts)
        means = np.divide(weighted, sums, out=np.zeros_like(sums), where=sums > 0)
        return value + float(means @ sizes) / n

    return recorded


def recorded_by_lbfgs(
    loss: Loss, data: Data, n_outputs: int, penalty: Callable[[], float]
) -> Recorded | None:
    """Return a function that converts the loss of the last iteration; None: it is recorded unchanged.

    Parameters
    ----------
    loss : Loss
    data : Data
    n_outputs : int
        Number of outputs over which the rows' losses are averaged.
    penalty : callable
        Returns the penalties of the layers.
    """
    if loss.recorded_scale(n_outputs) == 1:
        return None
    total = total_weight(data)

    def recorded(value: float) -> float:
        of_layers = penalty() / total
        return (value - of_layers) / n_outputs + of_layers

    return recorded
