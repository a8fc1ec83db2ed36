"""The network of an estimator: its layers and its starting weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cnet.estimators._coding import Coding
from cnet.estimators._parameters import Parameters
from cnet.layers import LAYER_KINDS, BaseLayer, Layer, layer_from_config
from cnet.model import Model
from cnet.network import NeuralNetwork

# scikit-learn's factors in Glorot's bound, where they are not 6.
_GLOROT_FACTORS = {"sigmoid": 2}


def layer_arguments(parameters: Parameters, n_inputs: int, coding: Coding) -> list[dict[str, Any]]:
    """Return the kind and the arguments of each layer, for an estimator's parameters and targets.

    A normalization layer comes directly after the product of a hidden layer, and has its activation and
    its dropout.
    """
    layers: list[dict[str, Any]] = []
    penalties = {"l1": parameters.l1, "l2": parameters.alpha}
    normalization = parameters.normalization
    for n_neurons, activation, dropout in zip(
        parameters.hidden_layer_sizes, parameters.activations, parameters.dropout, strict=True
    ):
        outputs = {"activation": activation, "dropout": dropout}
        layers.append(
            {
                "kind": "dense",
                "n_inputs": n_inputs,
                "n_neurons": n_neurons,
                "max_norm": parameters.max_norm,
                **penalties,
                **(outputs if normalization is None else {"activation": "linear", "dropout": 0.0}),
            }
        )
        if normalization is not None:
            layers.append({"kind": normalization, "n_neurons": n_neurons, **outputs})
        n_inputs = n_neurons
    layers.append(
        {
            "kind": "dense",
            "n_inputs": n_inputs,
            "n_neurons": coding.n_outputs,
            "activation": coding.activation,
            "max_norm": None,
            "dropout": 0.0,
            **penalties,
        }
    )
    return layers


def dense_layers(network: NeuralNetwork) -> list[Layer]:
    """Return the layers of a network that have a weight for each pair of input and neuron."""
    return [layer for layer in network.layers if isinstance(layer, Layer)]


def check_shape(network: NeuralNetwork, arguments: Sequence[Mapping[str, Any]]) -> None:
    """Raise ValueError if a network's layers have other kinds or sizes than `arguments`."""
    present = tuple(layer.n_neurons for layer in dense_layers(network))
    new = tuple(each["n_neurons"] for each in arguments if each["kind"] == "dense")
    if present != new:
        raise ValueError(
            f"hidden_layer_sizes and the outputs must be those of the present network, "
            f"{present}, got {new}; clone the estimator to start again"
        )
    kinds = [layer.kind for layer in network.layers]
    new_kinds = [each["kind"] for each in arguments]
    if kinds != new_kinds:
        raise ValueError(
            "batch_norm and layer_norm must be those of the present network, whose layers are "
            f"{', '.join(kinds)}, got {', '.join(new_kinds)}; clone the estimator to start again"
        )


def has_layers(network: NeuralNetwork, arguments: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether a network's layers have these kinds and arguments."""
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
    """Return a network of layers of these kinds, with these arguments, weights and biases.

    `arrays` are the weights and biases of one dense layer after the other. Normalization layers have
    their initial values.
    """
    layers = []
    for of_layer in arguments:
        settings = dict(of_layer)
        kind = settings.pop("kind")
        if kind == "dense":
            settings["init"] = "zeros"
        layers.append(LAYER_KINDS[kind](**settings))
    network = NeuralNetwork(*layers, seed=seed, dtype=dtype)
    values = iter(arrays)
    for layer in dense_layers(network):
        layer.weights = next(values)
        layer.biases = next(values)
    return network


def rebuilt(
    network: NeuralNetwork,
    arguments: Sequence[Mapping[str, Any]],
    dtype: np.dtype[Any],
    seed: int,
) -> NeuralNetwork:
    """Return a network with the values of another of the same shape, and with these arguments.

    Its layers keep the settings that are not among the arguments, such as `trainable`.
    """
    layers = [
        changed(layer, **of_layer)
        for layer, of_layer in zip(network.layers, arguments, strict=True)
    ]
    twin = NeuralNetwork(*layers, seed=seed, dtype=dtype)
    twin.parameters[...] = network.parameters
    twin.buffers[...] = network.buffers
    return twin


def trained_parameters(model: Model) -> NDArray[np.bool_] | None:
    """Return which parameters of a model training may change; None: all of them.

    Those of a frozen layer do not change, nor those whose learning rate has the factor 0.
    """
    trained = np.zeros(len(model.parameters), np.bool_)
    for layer in model.layers:
        for op in layer.operations(model.place):
            if op.weights < 0:
                continue
            end = op.weights + op.n_weights
            trained[op.weights : end] = op.trainable and op.learning_rate_factor > 0
            if op.biases >= 0:
                biases = slice(op.biases, op.biases + op.n_outputs)
                trained[biases] = op.trainable and op.bias_learning_rate_factor > 0
    return None if trained.all() else trained


def draw(
    parameters: Parameters,
    n_inputs: int,
    n_outputs: int,
    random_state: np.random.RandomState,
    dtype: np.dtype[Any],
) -> list[NDArray[Any]]:
    """Return starting weights and biases of the dense layers, drawn as in scikit-learn.

    They are uniform within Glorot's bound, sqrt(6 / (inputs + neurons)), or for the logistic function
    sqrt(2 / (inputs + neurons)). The output layer has the bound for the activation before it.
    """
    drawn: list[NDArray[Any]] = []
    sizes = (*parameters.hidden_layer_sizes, n_outputs)
    factors = [_GLOROT_FACTORS.get(activation, 6) for activation in parameters.activations]
    factors.append(factors[-1] if factors else 6)
    for n_neurons, factor in zip(sizes, factors, strict=True):
        bound = np.sqrt(factor / (n_inputs + n_neurons))
        drawn.append(random_state.uniform(-bound, bound, (n_inputs, n_neurons)).astype(dtype))
        drawn.append(random_state.uniform(-bound, bound, n_neurons).astype(dtype))
        n_inputs = n_neurons
    return drawn
