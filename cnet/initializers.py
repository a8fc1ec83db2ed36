"""Initialisers: how a layer's weights start. Biases start at zero.

The draws are made in float64 and rounded to the network's dtype, so that a seed gives a float32 and a
float64 network the same start.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnet._checks import as_number, as_settings
from cnet._settings import Settings

# Activations that pass about half of their input on, for which He et al. (2015) double the variance.
RELU_FAMILY = ("relu", "leaky_relu", "elu", "selu", "gelu", "silu", "softplus")


@dataclass(frozen=True, eq=False, repr=False)
class Initializer(Settings):
    """Base of the initialisers; a subclass draws in `__call__`."""

    def __call__(
        self, rng: np.random.Generator, n_inputs: int, n_neurons: int
    ) -> NDArray[np.float64]:
        """Draw weights.

        Parameters
        ----------
        rng : numpy.random.Generator
            Where the random numbers come from.
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
    """Normal of variance 2 / (n_inputs + n_neurons) (Glorot and Bengio, 2010)."""

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
    """Normal of variance 2 / n_inputs (He et al., 2015)."""

    def __call__(
        self, rng: np.random.Generator, n_inputs: int, n_neurons: int
    ) -> NDArray[np.float64]:
        return rng.normal(0, math.sqrt(2 / n_inputs), (n_inputs, n_neurons))


@dataclass(frozen=True, eq=False, repr=False)
class LecunNormal(Initializer):
    """Normal of variance 1 / n_inputs (LeCun et al., 1998), the start that selu is made for."""

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
        # The signs of r's diagonal make the draw uniform over the orthogonal matrices.
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
        The two ends, a at most b.

    Raises
    ------
    ValueError
        Where an end is not finite or a is above b.
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
    """Return the initialiser that `init` is or names; "auto" goes by the layer's activation."""
    if isinstance(init, str) and init == "auto":
        return HeUniform() if activation in RELU_FAMILY else GlorotUniform()
    return as_settings("init", init, Initializer, INITIALIZERS, ("auto",))
