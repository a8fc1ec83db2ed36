"""LayerNorm and BatchNorm: layers that normalize their inputs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cnet._checks import as_flag, as_integer, as_number
from cnet.activations import ACTIVATIONS, ActivationName
from cnet.layers.base import MAX_NEURONS, BaseLayer, Views
from cnet.layers.operation import Operation, PlaceOf

# PyTorch's defaults.
_EPSILON = 1e-5
_MOMENTUM = 0.1


class _Normalization(BaseLayer):
    """Base class of the normalization layers.

    Parameters
    ----------
    n_neurons : int
    epsilon : float
    affine : bool

    The other parameters are those of `BaseLayer`.
    """

    __slots__ = ("_affine", "_epsilon")

    def __init__(self, n_neurons: int, epsilon: float, affine: bool, **settings: Any) -> None:
        n_neurons = as_integer("n_neurons", n_neurons, 1, MAX_NEURONS)
        super().__init__(n_neurons, n_neurons, **settings)
        self._epsilon = as_number("epsilon", epsilon, 0, open_low=True)
        self._affine = as_flag("affine", affine)

    @property
    def epsilon(self) -> float:
        """Number added to the variance."""
        return self._epsilon

    @property
    def affine(self) -> bool:
        """Whether the layer has weights and biases."""
        return self._affine

    @property
    def weights(self) -> NDArray[Any] | None:
        """Weights, of shape (n_neurons,): a writable view, or None without `affine`.

        Setting it copies into the view.
        """
        return self._view("weights") if self.affine else None

    @weights.setter
    def weights(self, values: ArrayLike) -> None:
        self._check_affine("weights")
        self._fill("weights", values)

    @property
    def biases(self) -> NDArray[Any] | None:
        """Biases, of shape (n_neurons,): a writable view, or None without `affine`.

        Setting it copies into the view.
        """
        return self._view("biases") if self.affine else None

    @biases.setter
    def biases(self, values: ArrayLike) -> None:
        self._check_affine("biases")
        self._fill("biases", values)

    def _check_affine(self, name: str) -> None:
        if not self.affine:
            raise AttributeError(f"the layer was made with affine=False and has no {name}")

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the weights and biases, if there are any."""
        shape = (self.n_neurons,)
        return {"weights": shape, "biases": shape} if self.affine else {}

    def draw(self, rng: np.random.Generator, dtype: np.dtype[Any]) -> dict[str, NDArray[Any]]:
        """Return the initial weights, which are ones."""
        return {"weights": np.ones(self.n_neurons, dtype)} if self.affine else {}

    def operations(self, place_of: PlaceOf) -> Iterator[Operation]:
        """Yield the normalization, the activation and the dropout."""
        number, first, _ = place_of(self)
        n = self.n_neurons
        settings = {**self.learning._asdict(), **self._own_settings(place_of)}
        if self.affine:
            settings.update(weights=first, n_weights=n, biases=first + n)
        yield Operation(self.kind, n, n, number, epsilon=self.epsilon, **settings)
        yield from self._output_operations(place_of)

    def _own_settings(self, place_of: PlaceOf) -> dict[str, Any]:
        """Return the fields of the operation that only this kind has."""
        return {}

    def _own_numbers(self) -> list[str]:
        """Return the settings of the normalization, except those that have their default, for `repr`."""
        return [] if self.epsilon == _EPSILON else [f"epsilon={self.epsilon:g}"]

    def __repr__(self) -> str:
        settings = [str(self.n_neurons)]
        if not ACTIVATIONS[self.activation].is_identity:
            settings.append(repr(self.activation))
        settings += self._own_numbers()
        if not self.affine:
            settings.append("affine=False")
        return f"{type(self).__name__}({', '.join(settings + self._shown())})"


class LayerNorm(_Normalization):
    """Layer normalization (Ba, Kiros and Hinton, 2016): normalizes each row.

    ``outputs = activation((x - mean) / sqrt(variance + epsilon) * weights + biases)``, where the
    mean and the (biased) variance are those of the row. Weights start at 1 and biases at 0, as in
    ``torch.nn.LayerNorm``.

    Parameters
    ----------
    n_neurons : int
        Number of inputs, and so of outputs.
    activation : str, default "linear"
        Activation after the normalization, as in `Layer`.
    epsilon : float, default 1e-5
        Added to the variance; above 0.
    affine : bool, default True
        Whether the layer has weights and biases.
    name, dropout, trainable, learning_rate_factor, bias_learning_rate_factor
        As in `Layer`.

    Raises
    ------
    ValueError, TypeError
        If a setting is out of range, unknown, or of the wrong type.
    """

    __slots__ = ()

    kind: ClassVar[str] = "layer_norm"

    def __init__(
        self,
        n_neurons: int,
        activation: ActivationName = "linear",
        *,
        epsilon: float = _EPSILON,
        affine: bool = True,
        name: str | None = None,
        dropout: float = 0.0,
        trainable: bool = True,
        learning_rate_factor: float = 1.0,
        bias_learning_rate_factor: float | None = None,
    ) -> None:
        super().__init__(
            n_neurons,
            epsilon,
            affine,
            activation=activation,
            name=name,
            dropout=dropout,
            trainable=trainable,
            learning_rate_factor=learning_rate_factor,
            bias_learning_rate_factor=bias_learning_rate_factor,
        )


class BatchNorm(_Normalization):
    """Batch normalization (Ioffe and Szegedy, 2015): normalizes each column of a batch.

    ``outputs = activation((x - mean) / sqrt(variance + epsilon) * weights + biases)``. In training,
    the mean and the (biased) variance are those of the batch's columns. Each batch also moves
    `running_mean` and `running_variance` towards its own mean and unbiased variance, by the factor
    `momentum`. Prediction and evaluation use these running statistics. Training also uses them if the
    layer is not `trainable`, and for a batch of a single row, which has no variance. Definitions and
    defaults are those of ``torch.nn.BatchNorm1d``.

    Parameters
    ----------
    n_neurons : int
        Number of inputs, and so of outputs.
    activation : str, default "linear"
        Activation after the normalization, as in `Layer`.
    epsilon : float, default 1e-5
        Added to the variance; above 0.
    momentum : float, default 0.1
        Weight of a batch in the running statistics, from 0 to 1.
    affine : bool, default True
        Whether the layer has weights and biases.
    name, dropout, trainable, learning_rate_factor, bias_learning_rate_factor
        As in `Layer`. If `trainable` is False, the running statistics do not change either.

    Raises
    ------
    ValueError, TypeError
        If a setting is out of range, unknown, or of the wrong type.
    """

    __slots__ = ("_momentum",)

    kind: ClassVar[str] = "batch_norm"

    def __init__(
        self,
        n_neurons: int,
        activation: ActivationName = "linear",
        *,
        epsilon: float = _EPSILON,
        momentum: float = _MOMENTUM,
        affine: bool = True,
        name: str | None = None,
        dropout: float = 0.0,
        trainable: bool = True,
        learning_rate_factor: float = 1.0,
        bias_learning_rate_factor: float | None = None,
    ) -> None:
        super().__init__(
            n_neurons,
            epsilon,
            affine,
            activation=activation,
            name=name,
            dropout=dropout,
            trainable=trainable,
            learning_rate_factor=learning_rate_factor,
            bias_learning_rate_factor=bias_learning_rate_factor,
        )
        self._momentum = as_number("momentum", momentum, 0, 1)

    @property
    def momentum(self) -> float:
        """Weight of a batch in the running statistics."""
        return self._momentum

    @property
    def running_mean(self) -> NDArray[Any]:
        """Running mean, of shape (n_neurons,): a writable view. Setting it copies into the view."""
        return self._view("running_mean")

    @running_mean.setter
    def running_mean(self, values: ArrayLike) -> None:
        self._fill("running_mean", values)

    @property
    def running_variance(self) -> NDArray[Any]:
        """Running variance, of shape (n_neurons,): a writable view. Setting it copies into the view."""
        return self._view("running_variance")

    @running_variance.setter
    def running_variance(self, values: ArrayLike) -> None:
        self.check_values({"running_variance": np.asarray(values)})
        self._fill("running_variance", values)

    def buffers(self) -> dict[str, tuple[tuple[int, ...], float]]:
        """Return the shapes and initial values of the running statistics."""
        shape = (self.n_neurons,)
        return {"running_mean": (shape, 0.0), "running_variance": (shape, 1.0)}

    def check_values(self, values: Views) -> None:
        """Raise ValueError if a running variance is negative."""
        if np.any(np.less(values["running_variance"], 0)):
            raise ValueError("running_variance must be 0 or more")

    @property
    def needs_whole_batch(self) -> bool:
        """Whether training computes the layer for a whole batch at once."""
        return self.trainable

    def _own_settings(self, place_of: PlaceOf) -> dict[str, Any]:
        return {"momentum": self.momentum, "statistics": place_of(self).buffers}

    def _own_numbers(self) -> list[str]:
        momentum = [] if self.momentum == _MOMENTUM else [f"momentum={self.momentum:g}"]
        return super()._own_numbers() + momentum
