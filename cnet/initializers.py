"""Initialisers: a layer's initial weights. Biases start at zero.

Random numbers are generated in float64 and rounded to the network's dtype, so a seed gives float32 and
float64 networks the same initial weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cnet._checks import as_number, as_settings
from cnet._records import Record
from cnet.activations import Activation

InitializerName: TypeAlias = Literal[
    "auto",
    "glorot_uniform",
    "glorot_normal",
    "he_uniform",
    "he_normal",
    "lecun_normal",
    "orthogonal",
    "zeros",
    "uniform",
]


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


# The name of a custom initialiser in the description of a layer.
CUSTOM = "custom"


@dataclass(frozen=True, eq=False, repr=False)
class CustomInitializer(Initializer):
    """Placeholder for a custom initialiser in a layer that was restored from a description."""

    def __call__(
        self, rng: np.random.Generator, n_inputs: int, n_neurons: int
    ) -> NDArray[np.float64]:
        raise ValueError(
            "the layer had a custom initialiser, which is not stored with a network; "
            "pass init= to a new layer"
        )


def resolve_initializer(init: InitializerName | Initializer, activation: Activation) -> Initializer:
    """Return `init` as an initialiser object; "auto" depends on the layer's activation."""
    if isinstance(init, str) and init == "auto":
        return HeUniform() if activation.doubles_variance else GlorotUniform()
    return as_settings("init", init, Initializer, INITIALIZERS, ("auto",))


def initializer_to_text(init: Initializer) -> str:
    """Return an initialiser in the form that `init` accepts, or "custom" for a user's own."""
    for name, cls in INITIALIZERS.items():
        if type(init) is cls:
            settings = ", ".join(repr(float(value)) for value in init.settings().values())
            return f"{name}({settings})" if settings else name
    return CUSTOM


def initializer_from_text(text: Any) -> Initializer:
    """Return the initialiser that `initializer_to_text` described."""
    if isinstance(text, str) and text == CUSTOM:
        return CustomInitializer()
    return as_settings("init", text, Initializer, INITIALIZERS)
