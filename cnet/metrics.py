"""Metrics, and how outputs become classes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def classes(outputs: NDArray[Any]) -> NDArray[np.intp]:
    """Return the class of each row: the largest of several outputs, or whether one is above 0.5.

    Parameters
    ----------
    outputs : ndarray of shape (n, n_outputs)

    Returns
    -------
    ndarray of shape (n,), intp
    """
    if outputs.shape[1] == 1:
        return np.asarray(outputs[:, 0] > 0.5, np.intp)
    return np.asarray(outputs.argmax(axis=1), np.intp)


def accuracy(y_true: NDArray[Any], y_pred: NDArray[Any]) -> float:
    """Return the share of equal classes.

    Parameters
    ----------
    y_true, y_pred : ndarray of shape (n,)
    """
    return float(np.mean(y_true == y_pred))
