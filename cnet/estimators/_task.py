"""A checked call of `fit`, and some of the checks."""

from __future__ import annotations

import numbers
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight

from cnet._plan import Plan
from cnet.data import Data
from cnet.estimators._coding import Coding
from cnet.estimators._parameters import Parameters
from cnet.losses import Loss
from cnet.network import NeuralNetwork

# scikit-learn's default batch size.
_AUTO_BATCH_SIZE = 200

# Sources of random numbers that no call uses. Lists are safe for threads.
_idle: list[np.random.RandomState] = []


class Task(NamedTuple):
    """A checked call of `fit` or `partial_fit`.

    Attributes
    ----------
    first : bool
        Whether the network is new.
    coding : Coding
    loss : Loss
    network : NeuralNetwork
    plan : Plan
        The network's plan when it was checked.
    data : Data
        ``data.x`` may be a CSR matrix.
    rows : ndarray of intp, or None
        The rows to train on; None: all.
    batch_size : int
    scorer : callable or None
        Returns the score on held-out rows.
    random_state : numpy.random.RandomState
    """

    first: bool
    coding: Coding
    loss: Loss
    network: NeuralNetwork
    plan: Plan
    data: Data
    rows: NDArray[np.intp] | None
    batch_size: int
    scorer: Callable[[], float] | None
    random_state: np.random.RandomState


@contextmanager
def random_state_of(parameter: Any) -> Iterator[np.random.RandomState]:
    """Context manager: the source of random numbers for a call, as scikit-learn's check_random_state.

    An integer seeds a source that an earlier call has used, because a new one takes 90 µs, which is a
    fifth of a `partial_fit` on a few rows. Nothing may use the source after the block.
    """
    if not isinstance(parameter, numbers.Integral):
        yield check_random_state(parameter)
        return
    source = _idle.pop() if _idle else np.random.RandomState()
    try:
        source.seed(int(parameter))
        yield source
    finally:
        _idle.append(source)


def checked_weights(name: str, sample_weight: ArrayLike, X: Any) -> NDArray[Any]:  # noqa: N803
    """Return a weight for each row. None is negative, and not all are 0."""
    weights: NDArray[Any] = _check_sample_weight(sample_weight, X)
    if weights.min() < 0:
        raise ValueError(f"{name} must not be negative, got {weights.min():g}")
    if not weights.any():
        raise ValueError(f"{name} must have a weight above zero, got only zeros")
    return weights


def as_data(x: Any, y: Any, weights: NDArray[Any], coding: Coding, loss: Loss) -> Data:
    """Return rows, targets and weights as the engine reads them."""
    targets, labels = coding.encode(y, x.dtype, loss)
    if coding.weighs_targets and weights.size:
        targets = targets * weights[:, np.newaxis]
    return Data(x, targets, labels, weights)


def batch_size_of(parameters: Parameters, n: int) -> int:
    """Return the number of rows of a batch, out of `n` rows."""
    if parameters.optimizer is None:
        return n
    if parameters.batch_size is None:
        return min(_AUTO_BATCH_SIZE, n)
    if parameters.batch_size > n:
        warnings.warn(
            f"batch_size={parameters.batch_size} is more than the {n} rows to train on, so they are one "
            "batch",
            stacklevel=5,
        )
    return min(parameters.batch_size, n)
