"""The network of an estimator: its layers and its starting weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cnet.estimators._coding import Coding
from cnet.estimators._parameters import Parameters
from cnet.layers import BaseLayer, Layer, layer_from_config
from cnet.network import NeuralNetwork

# scikit-learn's factors in Glorot's bound, where they are not 6.
_GLOROT_FACTORS = {"sigmoid": 2}


def layer_arguments(parameters: Parameters, n_inputs: int, coding: Coding) -> list[dict[str, Any]]:
    """Return the arguments of each `cnet.Layer`, for an estimator's parameters and targets."""
    sizes = (n_inputs, *parameters.hidden_layer_sizes, coding.n_outputs)
    activations = (*parameters.activations, coding.activation)
    n_hidden = len(parameters.hidden_layer_sizes)
    return [
        {
            "n_inputs": sizes[i],
            "n_neurons": sizes[i + 1],
            "activation": activation,
            "l1": parameters.l1,
            "l2": parameters.alpha,
            "dropout": parameters.dropout[i] if i < n_hidden else 0.0,
            "max_norm": parameters.max_norm if i < n_hidden else None,
        }
        for i, activation in enumerate(activations)
    ]


def has_layers(network: NeuralNetwork, arguments: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether a network's layers have these arguments."""
    return len(network.layers) == len(arguments) and all(
        getattr(layer, name) == value
        for layer, of_layer in zip(network.layers, arguments, strict=True)
        for name, value in of_layer.items()
    )


def changed(layer: BaseLayer, **settings: Any) -> BaseLayer:
    """Return a new layer with other values of those of these settings that it has."""
    config = layer.config()
    return layer_from_config({**config, **{k: v for k, v in settings.items() if k in config}})


def build(
    arguments: Sequence[Mapping[str, Any]],
    dtype: np.dtype[Any],
    arrays: Iterable[ArrayLike],
    seed: int,
) -> NeuralNetwork:
    """Return a network of layers with these arguments, weights and biases.

    `arrays` are the weights and biases of one layer after the other.
    """
    layers = [Layer(**of_layer, init="zeros") for of_layer in arguments]
    network = NeuralNetwork(*layers, seed=seed, dtype=dtype)
    values = iter(arrays)
    for layer in layers:
        layer.weights = next(values)
        layer.biases = next(values)
    return network


def draw(
    arguments: Sequence[Mapping[str, Any]],
    random_state: np.random.RandomState,
    dtype: np.dtype[Any],
) -> list[NDArray[Any]]:
    """Return starting weights and biases, drawn as in scikit-learn.

    They are uniform within Glorot's bound, sqrt(6 / (inputs + neurons)), or for the logistic function
    sqrt(2 / (inputs + neurons)). The output layer has the bound for the activation before it.
    """
    drawn: list[NDArray[Any]] = []
    activations = [of_layer["activation"] for of_layer in arguments[:-1]]
    activations.append(activations[-1] if activations else None)
    for of_layer, activation in zip(arguments, activations, strict=True):
        n_inputs, n_neurons = of_layer["n_inputs"], of_layer["n_neurons"]
        bound = np.sqrt(_GLOROT_FACTORS.get(activation, 6) / (n_inputs + n_neurons))
        drawn.append(random_state.uniform(-bound, bound, (n_inputs, n_neurons)).astype(dtype))
        drawn.append(random_state.uniform(-bound, bound, n_neurons).astype(dtype))
    return drawn
