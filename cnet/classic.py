"""The two classes of the full-batch tutorial, computed by cnet's engine.

A script from the tutorial runs with them if only its import is changed::

    from cnet.classic import Layer, NeuralNetwork

Everything is float64. All neurons are sigmoids without bias. The learning rate is 1, and each step
follows the gradient summed over all rows. The weights come from NumPy's global random numbers, so that
``numpy.random.seed`` gives the same initial weights as in the tutorial. The tutorial has two layers;
here any number is allowed.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cnet import layers as cnet_layers
from cnet import network
from cnet._arrays import as_weights
from cnet._checks import as_integer

_LAYER_NAME = re.compile(r"layer([0-9]+)")


class Layer:
    """A layer of sigmoids without bias.

    Parameters
    ----------
    n_inputs, n_neurons : int
        Shape of the layer. The weights are initialized immediately, with
        ``2 * numpy.random.random(...) - 1``.

    Raises
    ------
    ValueError
        If a number is below 1.
    TypeError
        If a number is not an integer.
    """

    def __init__(self, n_inputs: int, n_neurons: int) -> None:
        self._layer = cnet_layers.Layer(n_inputs, n_neurons, "sigmoid", bias=False, init="zeros")
        self._drawn = 2 * np.random.random((self._layer.n_inputs, self._layer.n_neurons)) - 1

    @property
    def synaptic_weights(self) -> NDArray[np.float64]:
        """Weights, of shape (n_inputs, n_neurons): a writable array. Setting it copies into it."""
        return self._layer.weights if self._layer.attached else self._drawn

    @synaptic_weights.setter
    def synaptic_weights(self, values: ArrayLike) -> None:
        view = self.synaptic_weights
        view[...] = as_weights("synaptic_weights", values, view.shape, view.dtype)


class NeuralNetwork:
    """A network of `Layer` objects, trained on all rows at once.

    Parameters
    ----------
    *layers : Layer
        The tutorial's ``layer1, layer2``, or any number of layers.

    Raises
    ------
    ValueError
        If there are no layers, if they do not fit together, or if one is part of another network.
    TypeError
        If one is not a Layer.
    """

    def __init__(self, *layers: Layer) -> None:
        if not layers:
            raise ValueError("layers must be one or more cnet.classic.Layer objects, got none")
        for layer in layers:
            if not isinstance(layer, Layer):
                raise TypeError(f"layers must be cnet.classic.Layer objects, got {layer!r}")
        drawn = [layer.synaptic_weights for layer in layers]
        self._network = network.NeuralNetwork(*(layer._layer for layer in layers), dtype="float64")
        for layer, weights in zip(layers, drawn, strict=True):
            layer.synaptic_weights = weights
        self.layers = layers

    def __setattr__(self, name: str, value: Any) -> None:
        if _LAYER_NAME.fullmatch(name):
            raise AttributeError(f"{name} cannot be set; set its synaptic_weights")
        super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Layer:
        # layer1, layer2, … as in the tutorial.
        found = _LAYER_NAME.fullmatch(name)
        layers: tuple[Layer, ...] = self.__dict__.get("layers", ())
        if found and 1 <= int(found[1]) <= len(layers):
            return layers[int(found[1]) - 1]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        # The copied network has its own layers.
        for layer, own in zip(self.layers, self._network.layers, strict=True):
            layer._layer = own

    def forward_propagate(self, inputs: ArrayLike) -> tuple[NDArray[np.float64], ...]:
        """Return the outputs of every layer: those of the hidden and the output layer if there are two.

        Parameters
        ----------
        inputs : array-like of shape (n, n_inputs), or (n_inputs,)

        Returns
        -------
        tuple of ndarray of shape (n, n_neurons), or (n_neurons,)
        """
        return tuple(self._network.activations(inputs))

    def train(self, inputs: ArrayLike, outputs: ArrayLike, iterations: int) -> None:
        """Train by gradient descent on all rows at once, and print the progress.

        Parameters
        ----------
        inputs : array-like of shape (n, n_inputs)
        outputs : array-like of shape (n, n_outputs), or (n,) for a single output
        iterations : int
            Number of steps, 0 or more.
        """
        iterations = as_integer("iterations", iterations, 0)
        done = 0
        for tenth in range(1, 11):
            part = iterations * tenth // 10 - done
            self._network.train(
                inputs,
                outputs,
                learning_rate=1.0,
                epochs=part,
                batch_size=None,
                optimizer="sgd",
                loss="squared_error",
                reduction="sum",
                shuffle=False,
                verbose=False,
            )
            done += part
            print(f"Training: {10 * tenth} %" if tenth < 10 else "Training complete - 100%!")

    def print_weights(self) -> None:
        """Print the weights of every layer."""
        self._network.print_weights()
