"""Layer: a fully connected layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cnet._arrays import as_weights
from cnet._checks import as_flag, as_number
from cnet.activations import ACTIVATIONS, ActivationName
from cnet.initializers import (
    Initializer,
    InitializerName,
    initializer_from_text,
    initializer_to_text,
    resolve_initializer,
)
from cnet.layers.base import BaseLayer
from cnet.layers.operation import Operation, PlaceOf


class Layer(BaseLayer):
    """A fully connected layer: outputs = activation(inputs @ weights + biases).

    A layer has weights once it is part of a network, which initializes them and stores the weights of
    all its layers in one flat array.

    Parameters
    ----------
    n_inputs : int
        Number of inputs.
    n_neurons : int
        Number of neurons, which is the number of outputs.
    activation : str, default "sigmoid"
        One of linear, sigmoid, tanh, relu, leaky_relu, elu, selu, gelu, silu, softplus, softsign, exp,
        or, for the last layer only, softmax.
    bias : bool, default True
        Whether to add a bias to each neuron. Biases start at 0.
    init : str or Initializer, default "auto"
        Initial weights: glorot_uniform, glorot_normal, he_uniform, he_normal, lecun_normal, orthogonal,
        zeros, "uniform(a, b)", or an object from `cnet.initializers`. "auto" is he_uniform for relu and
        similar activations, and glorot_uniform for the others.
    name : str, optional
        By default layer_1, layer_2, … by its position in the network.
    l1, l2 : float, default 0
        Penalties on the weights, not on the biases. They add ``l1 * sum(abs(weights))`` and
        ``l2 / 2 * sum(weights ** 2)`` to the loss.
    max_norm : float, optional
        Largest Euclidean norm of each neuron's weights. After each training step, longer ones are scaled
        down to it (Srebro, Rennie and Jaakkola, 2005).
    dropout : float, default 0
        Fraction of the outputs that training sets to 0 at random for each row, at least 0 and below 1.
        The other outputs are multiplied by 1 / (1 - dropout). Prediction and evaluation use all outputs
        (Srivastava et al., 2014). Not for the output layer.
    trainable : bool, default True
        Whether training changes the layer. It can be set at any time: ``layer.trainable = False``
        freezes the layer from the next call of `train` on. A frozen layer costs no gradient.
    learning_rate_factor : float, default 1
        Factor of the learning rate for this layer. It can be set at any time, too. Rprop, which
        adapts its steps, uses it for the first step only.
    bias_learning_rate_factor : float, optional
        Factor of the learning rate for the biases; by default `learning_rate_factor`.

    Raises
    ------
    ValueError
        If a number is out of range or a name is unknown.
    TypeError
        If a number is not an integer, or `bias` is not a bool.
    """

    __slots__ = ("_bias", "_init", "_l1", "_l2", "_max_norm")

    kind: ClassVar[str] = "dense"

    def __init__(
        self,
        n_inputs: int,
        n_neurons: int,
        activation: ActivationName = "sigmoid",
        *,
        bias: bool = True,
        init: InitializerName | Initializer = "auto",
        name: str | None = None,
        l1: float = 0.0,
        l2: float = 0.0,
        max_norm: float | None = None,
        dropout: float = 0.0,
        trainable: bool = True,
        learning_rate_factor: float = 1.0,
        bias_learning_rate_factor: float | None = None,
    ) -> None:
        super().__init__(
            n_inputs,
            n_neurons,
            activation=activation,
            dropout=dropout,
            name=name,
            trainable=trainable,
            learning_rate_factor=learning_rate_factor,
            bias_learning_rate_factor=bias_learning_rate_factor,
        )
        self._bias = as_flag("bias", bias)
        self._init = resolve_initializer(init, ACTIVATIONS[self._activation])
        self._l1 = as_number("l1", l1, 0)
        self._l2 = as_number("l2", l2, 0)
        self._max_norm = (
            None if max_norm is None else as_number("max_norm", max_norm, 0, open_low=True)
        )

    @property
    def bias(self) -> bool:
        """Whether the layer has biases."""
        return self._bias

    @property
    def init(self) -> Initializer:
        """The initialiser of the weights."""
        return self._init

    @property
    def l1(self) -> float:
        """Penalty on the absolute values of the weights."""
        return self._l1

    @property
    def l2(self) -> float:
        """Penalty on the squares of the weights."""
        return self._l2

    @property
    def max_norm(self) -> float | None:
        """Largest norm of each neuron's weights, or None."""
        return self._max_norm

    @property
    def regularization(self) -> dict[str, float]:
        """l1, l2, max_norm and dropout, except those that are off."""
        found = {
            "l1": self.l1,
            "l2": self.l2,
            "max_norm": self.max_norm or 0.0,
            "dropout": self.dropout,
        }
        return {name: value for name, value in found.items() if value}

    @property
    def weights(self) -> NDArray[Any]:
        """Weights, of shape (n_inputs, n_neurons): a writable view. Setting it copies into the view."""
        return self._view("weights")

    @weights.setter
    def weights(self, values: ArrayLike) -> None:
        self._fill("weights", values)

    @property
    def biases(self) -> NDArray[Any] | None:
        """Biases, of shape (n_neurons,): a writable view, or None for a layer without biases.

        Setting it copies into the view.
        """
        return self._view("biases") if self.bias or not self.attached else None

    @biases.setter
    def biases(self, values: ArrayLike) -> None:
        if self.attached and not self.bias:
            raise AttributeError("the layer was made with bias=False and has no biases")
        self._fill("biases", values)

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the weights and, if there are any, of the biases."""
        shapes: dict[str, tuple[int, ...]] = {"weights": (self.n_inputs, self.n_neurons)}
        if self.bias:
            shapes["biases"] = (self.n_neurons,)
        return shapes

    def draw(self, rng: np.random.Generator, dtype: np.dtype[Any]) -> dict[str, NDArray[Any]]:
        """Return initial weights, from the layer's initialiser."""
        weights = self.init(rng, self.n_inputs, self.n_neurons)
        return {"weights": as_weights("init", weights, (self.n_inputs, self.n_neurons), dtype)}

    def operations(self, place_of: PlaceOf) -> Iterator[Operation]:
        """Yield the product, the activation and the dropout."""
        number, first, _ = place_of(self)
        n_weights = self.n_inputs * self.n_neurons
        yield Operation(
            "dense",
            self.n_inputs,
            self.n_neurons,
            number,
            weights=first,
            n_weights=n_weights,
            biases=first + n_weights if self.bias else -1,
            l1=self.l1,
            l2=self.l2,
            max_norm=self.max_norm or 0.0,
            **self.learning._asdict(),
        )
        yield from self._output_operations(place_of)

    def config(self) -> dict[str, Any]:
        """Return the kind and all settings as plain values, which can be written as JSON."""
        return {**super().config(), "init": initializer_to_text(self.init)}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Return the layer that `config` describes."""
        return super().from_config({**config, "init": initializer_from_text(config.get("init"))})

    def __repr__(self) -> str:
        settings = [str(self.n_inputs), str(self.n_neurons), repr(self.activation)]
        if not self.bias:
            settings.append("bias=False")
        return f"Layer({', '.join(settings + self._shown())})"
