"""What is timed: a data set of random numbers and a network for each workload."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Workload:
    """Training of a classifier with relu layers, softmax, cross-entropy and Adam, in float32.

    Attributes
    ----------
    rows : int
    sizes : tuple of int
        Inputs, hidden neurons, classes.
    batch_size : int
    learning_rate : float
    """

    rows: int
    sizes: tuple[int, ...]
    batch_size: int
    learning_rate: float = 1e-3

    def data(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return inputs and the labels that a random linear map with some noise gives them."""
        rng = np.random.default_rng(0)
        x = rng.normal(size=(self.rows, self.sizes[0])).astype(np.float32)
        scores = x @ rng.normal(size=(self.sizes[0], self.sizes[-1]))
        return x, (scores + rng.normal(size=scores.shape)).argmax(axis=1)


WORKLOADS = {
    "tiny": Workload(2_000, (4, 8, 3), 32),
    "small": Workload(10_000, (20, 100, 2), 200),
    "deep": Workload(10_000, (20, 64, 64, 64, 2), 32),
    "mnist": Workload(60_000, (784, 128, 10), 128),
    "wide": Workload(20_000, (784, 1024, 1024, 10), 256),
}
