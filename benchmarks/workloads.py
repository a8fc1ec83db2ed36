"""What is learnt in the benchmarks of training: random data and a network for each workload."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import Settings


@dataclass(frozen=True)
class Workload:
    """A data set of random numbers and the network that learns it.

    Attributes
    ----------
    rows : int
    sizes : tuple of int
        Inputs, hidden neurons, classes.
    batch_size : int
    loss_epochs : int
        After how many epochs the losses are compared.
    learning_rate : float
    """

    rows: int
    sizes: tuple[int, ...]
    batch_size: int
    loss_epochs: int = 5
    learning_rate: float = 1e-3

    def __str__(self) -> str:
        return f"{self.rows:,} rows, {self.net}, batch {self.batch_size}"

    @property
    def net(self) -> str:
        """Return the sizes as one word."""
        return "-".join(map(str, self.sizes))

    @property
    def operations(self) -> int:
        """Return an epoch's, of the matrix products alone; a multiply-add counts as two.

        A layer's outputs, its weights' gradient and its inputs' take as many each, but nobody asks
        for the gradient by the data.
        """
        products = [n_inputs * n_neurons for n_inputs, n_neurons in pairwise(self.sizes)]
        return 2 * self.rows * (3 * sum(products) - products[0])


WORKLOADS = {
    "tiny": Workload(2_000, (4, 8, 3), 32, loss_epochs=20),
    "small": Workload(10_000, (20, 100, 2), 200),
    "deep": Workload(10_000, (20, 64, 64, 64, 2), 32),
    "mnist": Workload(60_000, (784, 128, 10), 128, loss_epochs=2),
    "wide": Workload(20_000, (784, 1024, 1024, 10), 256, loss_epochs=2),
}
QUICK_ROWS = 4_000


def workload_of(name: str, settings: Settings) -> Workload:
    """Return the workload, with fewer rows where it has to be quick."""
    workload = WORKLOADS[name]
    return replace(workload, rows=min(workload.rows, QUICK_ROWS)) if settings.quick else workload


@functools.lru_cache(maxsize=1)
def data(workload: Workload) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return inputs and the labels that a random linear map with some noise gives them."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((workload.rows, workload.sizes[0]), np.float32)
    scores = x @ rng.standard_normal((workload.sizes[0], workload.sizes[-1]), np.float32)
    return x, (scores + rng.standard_normal(scores.shape)).argmax(axis=1)


def start(workload: Workload) -> list[NDArray[np.float32]]:
    """Return the weights that all trainers start from, He's uniform ones; the biases are zero."""
    rng = np.random.default_rng(1)
    return [
        rng.uniform(-np.sqrt(6 / shape[0]), np.sqrt(6 / shape[0]), shape).astype(np.float32)
        for shape in pairwise(workload.sizes)
    ]
