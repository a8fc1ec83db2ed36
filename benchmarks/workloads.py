"""Workloads of the training benchmarks: random data and a network for each."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import Settings


@dataclass(frozen=True)
class Workload:
    """A data set of random numbers and a network to train on it.

    Attributes
    ----------
    rows : int
    sizes : tuple of int
        Numbers of inputs, hidden neurons and classes.
    batch_size : int
    loss_epochs : int
        Number of epochs after which the losses are compared.
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
        """Sizes of the layers as one word, such as 4-8-3."""
        return "-".join(map(str, self.sizes))

    @property
    def operations(self) -> int:
        """Operations of an epoch, counting only the matrix products; a multiply-add counts as two.

        A layer's outputs, weight gradient and input gradient take the same number of operations, but
        the first layer has no input gradient.
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
    """Return the workload, with fewer rows in quick mode."""
    workload = WORKLOADS[name]
    return replace(workload, rows=min(workload.rows, QUICK_ROWS)) if settings.quick else workload


@functools.lru_cache(maxsize=1)
def data(workload: Workload) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return random inputs, and their labels from a random linear map with noise."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((workload.rows, workload.sizes[0]), np.float32)
    scores = x @ rng.standard_normal((workload.sizes[0], workload.sizes[-1]), np.float32)
    return x, (scores + rng.standard_normal(scores.shape)).argmax(axis=1)


def initial_weights(workload: Workload) -> list[NDArray[np.float32]]:
    """Return the initial weights for all trainers (He uniform); the biases are zero."""
    rng = np.random.default_rng(1)
    return [
        rng.uniform(-np.sqrt(6 / shape[0]), np.sqrt(6 / shape[0]), shape).astype(np.float32)
        for shape in pairwise(workload.sizes)
    ]
