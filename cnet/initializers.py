"""Initialisers: a layer's initial weights. Biases start at zero.

Random numbers are generated in float64 and rounded to the network's dtype, so a seed gives float32 and
float64 networks the same initial weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnet._checks import as_number, as_settings
from cnet._records import Record

# Activations that pass on about half of their input; He et al. (2015) double the variance for them.
RELU_FAMILY = ("relu", "leaky_relu", "elu", "selu", "gelu", "silu", "softplus")


@dataclass(frozen=True, eq=False, repr=False)
class Initializer(Record):
    """Base class of the initialisers; a subclass implements `__call__`."""

    def __call__(
        self, rng: np.random.Generator, n_inputs: int, n_neurons: int
    ) -> NDArray[np.float64]:
        """Return random initial weights.

        Parameters
        ----------
        rng : numpy.random.Generator
            Source of the random numbers.
        n_inputs, n_neurons : int
            Shape of the layer.

        Returns
        -------
        ndarray of shape (n_inputs, n_neurons), float64
        """
        raise NotImplementedError


@dataclass(frozen=True, eq=False, repr=False)
class GlorotUniform(Initializer):
    """Uniform in ±sqrt(6 / (n_inputs + n_neurons)) (Glorot and Bengio, 2010)."""

    def __call__(
        self, rng: np.random.Generator, n_inputs: int, n_neurons: int
    ) -> NDArray[np.float64]:
        bound = math.sqrt(6 / (n_inputs + n_neurons))
        return rng.uniform(-bound, bound, (n_inputs, n_neurons))


@dataclass(frozen=True, eq=False, repr=False)
class GlorotNormal(Initializer):
    """Normal with variance 2 / (n_inputs + n_neurons) (Glorot and Bengio, 2010)."""

    def __call__(
        self, rng: np.random.Generator, n_inputs: int, n_neurons: int
    ) -> NDArray[np.float64]:
        return rng.normal(0, math.sqrt(2 / (n_inputs + n_neurons)), (n_inputs, n_neurons))


@dataclass(frozen=True, eq=False, repr=False)
class HeUniform(Initializer):
    """Uniform in ±sqrt(6 / n_inputs) (He et al., 2015)."""

    def __call__(
        self, rng: np.random.Generator, n_inputs: int, n_neurons: int
    ) -> NDArray[np.float64]:
        bound = math.sqrt(6 / n_inputs)
        return rng.uniform(-bound, bound, (n_inputs, n_neurons))


@dataclass(frozen=True, eq=False, repr=False)
class HeNormal(Initializer):
    """Normal with variance 2 / n_inputs (He et al., 2015)."""

    def __call__(
        self, rng: np.random.Generator, n_inputs: int, n_neurons: int
    ) -> NDArray[np.float64]:
        return rng.normal(0, math.sqrt(2 / n_inputs), (n_inputs, n_neurons))


@dataclass(frozen=True, eq=False, repr=False)
class LecunNormal(Initializer):
    """Normal with variance 1 / n_inputs (LeCun et al., 1998), designed for selu."""

    def __call__(
        self, rng: np.random.Generator, n_inputs: int, n_neurons: int
    ) -> NDArray[np.float64]:
        return rng.normal(0, math.sqrt(1 / n_inputs), (n_inputs, n_neurons))


@dataclass(frozen=True, eq=False, repr=False)
class Orthogonal(Initializer):
    """Orthonormal rows or columns, whichever are fewer (Saxe et al., 2014)."""

    def __call__(
        self, rng: np.random.Generator, n_inputs: int, n_neurons: int
    ) -> NDArray[np.float64]:
        tall = rng.normal(size=(max(n_inputs, n_neurons), min(n_inputs, n_neurons)))
        q, r = np.linalg.qr(tall)
        # Multiplying by the signs of r's diagonal makes q uniform over the orthogonal matrices.
        q = q * np.where(np.diagonal(r) < 0, -1.0, 1.0)
        return q if n_inputs >= n_neurons else q.T


@dataclass(frozen=True, eq=False, repr=False)
class Zeros(Initializer):
    """All zeros."""

    def __call__(
        self, rng: np.random.Generator, n_inputs: int, n_neurons: int
    ) -> NDArray[np.float64]:
        return np.zeros((n_inputs, n_neurons))


@dataclass(frozen=True, eq=False, repr=False)
class Uniform(Initializer):
    """Uniform in [a, b).

    Parameters
    ----------
    a, b : float, default -1 and 1
        Bounds of the interval, with a <= b.

    Raises
    ------
    ValueError
        If a bound is not finite or a > b.
    """

    a: float = -1.0
    b: float = 1.0

    def __post_init__(self) -> None:
        as_number("a", self.a)
        as_number("b", self.b, self.a)

    def __call__(
        self, rng: np.random.Generator, n_inputs: int, n_neurons: int
    ) -> NDArray[np.float64]:
        return rng.uniform(self.a, self.b, (n_inputs, n_neurons))


INITIALIZERS: dict[str, type[Initializer]] = {
    "glorot_uniform": GlorotUniform,
    "glorot_normal": GlorotNormal,
    "he_uniform": HeUniform,
    "he_normal": HeNormal,
    "lecun_normal": LecunNormal,
    "orthogonal": Orthogonal,
    "zeros": Zeros,
    "uniform": Uniform,
}


def resolve_initializer(init: Any, activation: str) -> Initializer:
    """Return `init` as an initialiser object; "auto" depends on the layer's activation."""
    if isinstance(init, str) and init == "auto":
        return HeUniform() if activation in RELU_FAMILY else GlorotUniform()
    return as_settings("init", init, Initializer, INITIALIZERS, ("auto",))
