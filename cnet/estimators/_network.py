"""The network of an estimator: its layers and its starting weights."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnet.estimators._coding import Coding
from cnet.estimators._parameters import Parameters
from cnet.layers import BaseLayer, Layer, layer_from_config
from cnet.network import NeuralNetwork

# scikit-learn's factors in Glorot's bound, where they are not 6.
_GLOROT_FACTORS: dict[str | None, int] = {"sigmoid": 2}

# Settings of a layer that an estimator does not make: users may set them on `network_`.
_LIVE = ("name", "trainable", "learning_rate_factor", "bias_learning_rate_factor")


def make_layers(parameters: Parameters, n_inputs: int, coding: Coding) -> list[Layer]:
    """Return the layers for an estimator's parameters and targets."""
    sizes = (n_inputs, *parameters.hidden_layer_sizes)
    hidden = [
        Layer(
            sizes[i],
            n_neurons,
            activation,
            init="zeros",
            dropout=dropout,
            l1=parameters.l1,
            l2=parameters.alpha,
            max_norm=parameters.max_norm,
        )
        for i, (n_neurons, activation, dropout) in enumerate(
            zip(sizes[1:], parameters.activations, parameters.dropout, strict=True)
        )
    ]
    last = Layer(
        sizes[-1],
        coding.n_outputs,
        coding.activation,
        init="zeros",
        l1=parameters.l1,
        l2=parameters.alpha,
    )
    return [*hidden, last]


def changed(layer: BaseLayer, **settings: Any) -> BaseLayer:
    """Return a new layer with other values of those of these settings that it has."""
    config = layer.config()
    return layer_from_config({**config, **{k: v for k, v in settings.items() if k in config}})


def sizes_of(layers: Sequence[BaseLayer]) -> tuple[int, ...]:
    """Return the number of inputs and the number of neurons of each layer."""
    return (layers[0].n_inputs, *(layer.n_neurons for layer in layers))


def are_alike(layers: Sequence[BaseLayer], others: Sequence[BaseLayer]) -> bool:
    """Return whether layers are made with the same settings."""
    return list(map(_settings, layers)) == list(map(_settings, others))


def _settings(layer: BaseLayer) -> dict[str, Any]:
    return {name: value for name, value in layer.config().items() if name not in _LIVE}


def build(
    layers: Sequence[BaseLayer], dtype: np.dtype[Any], arrays: Iterable[NDArray[Any]], seed: int
) -> NeuralNetwork:
    """Return a network with these weights and biases, layer by layer, weights first."""
    network = NeuralNetwork(*layers, seed=seed, dtype=dtype)
    values = iter(arrays)
    for layer in network.layers:
        layer.weights = next(values)
        layer.biases = next(values)
    return network


def draw(
    layers: Sequence[BaseLayer], random_state: np.random.RandomState, dtype: np.dtype[Any]
) -> list[NDArray[Any]]:
    """Return starting weights and biases, drawn as in scikit-learn.

    They are uniform within Glorot's bound, sqrt(6 / (inputs + neurons)), or for the logistic function
    sqrt(2 / (inputs + neurons)). The output layer has the bound for the activation before it.
    """
    drawn: list[NDArray[Any]] = []
    hidden = [layer.activation for layer in layers[:-1]]
    for i, layer in enumerate(layers):
        activation = hidden[min(i, len(hidden) - 1)] if hidden else None
        factor = _GLOROT_FACTORS.get(activation, 6)
        bound = np.sqrt(factor / (layer.n_inputs + layer.n_neurons))
        shape = (layer.n_inputs, layer.n_neurons)
        drawn.append(random_state.uniform(-bound, bound, shape).astype(dtype))
        drawn.append(random_state.uniform(-bound, bound, layer.n_neurons).astype(dtype))
    return drawn
