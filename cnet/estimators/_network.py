"""The network behind an estimator: its layers, its start, and its weights as scikit-learn shows them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cnet._arrays import as_weights
from cnet._program import Program
from cnet.estimators._coding import Coding
from cnet.estimators._parameters import Parameters
from cnet.layers import Layer
from cnet.network import NeuralNetwork


class Plan(NamedTuple):
    """What a network is made from.

    Attributes
    ----------
    sizes : tuple of int
        Inputs, hidden neurons and outputs.
    activations : tuple of str
        Of the hidden layers and the output.
    dropout : tuple of float
        Of the hidden layers.
    l1, l2 : float
    max_norm : float or None
        Of the hidden layers.
    """

    sizes: tuple[int, ...]
    activations: tuple[str, ...]
    dropout: tuple[float, ...]
    l1: float
    l2: float
    max_norm: float | None

    @classmethod
    def of(cls, parameters: Parameters, n_inputs: int, coding: Coding) -> Plan:
        """Return the plan for an estimator's parameters and what it learns."""
        return cls(
            (n_inputs, *parameters.hidden_layer_sizes, coding.n_outputs),
            (*parameters.activations, coding.activation),
            parameters.dropout,
            parameters.l1,
            parameters.alpha,
            parameters.max_norm,
        )

    def layers(self) -> list[Layer]:
        """Return the layers, without weights yet."""
        return [
            Layer(
                n_inputs,
                n_neurons,
                activation,
                init="zeros",
                dropout=dropout,
                l1=self.l1,
                l2=self.l2,
                max_norm=self.max_norm if i < len(self.dropout) else None,
            )
            for i, ((n_inputs, n_neurons), activation, dropout) in enumerate(
                zip(pairwise(self.sizes), self.activations, (*self.dropout, 0.0), strict=True)
            )
        ]

    def program(self, other: Program) -> Program:
        """Return the engine's program of this plan over another program's parameters."""
        program = Program(self.layers(), other.dtype)
        program.parameters = other.parameters
        return program

    def build(self, dtype: np.dtype[Any], parameters: Iterable[NDArray[Any]]) -> NeuralNetwork:
        """Return a network with these weights and biases, layer by layer, weights first."""
        network = NeuralNetwork(*self.layers(), seed=0, dtype=dtype)
        values = iter(parameters)
        for layer in network.layers:
            layer.weights = next(values)
            layer.biases = next(values)
        return network

    def drawn(
        self, random_state: np.random.RandomState, dtype: np.dtype[Any]
    ) -> list[NDArray[Any]]:
        """Return weights and biases to start from, drawn as scikit-learn draws them.

        Uniform within Glorot's bound, sqrt(6 / (inputs + neurons)), or for the logistic function
        sqrt(2 / …); the output layer takes the bound of the hidden layer before it.
        """
        drawn: list[NDArray[Any]] = []
        hidden = self.activations[:-1]
        for i, (n_inputs, n_neurons) in enumerate(pairwise(self.sizes)):
            sigmoid = bool(hidden) and hidden[min(i, len(hidden) - 1)] == "sigmoid"
            bound = np.sqrt((2 if sigmoid else 6) / (n_inputs + n_neurons))
            drawn.append(random_state.uniform(-bound, bound, (n_inputs, n_neurons)).astype(dtype))
            drawn.append(random_state.uniform(-bound, bound, n_neurons).astype(dtype))
        return drawn


class Views(list[NDArray[Any]]):
    """Arrays that belong to a network; setting an item copies into its array.

    Parameters
    ----------
    name : str
        What users call the list.
    arrays : sequence of ndarray
    """

    def __init__(self, name: str, arrays: Sequence[NDArray[Any]]) -> None:
        super().__init__(arrays)
        self._name = name

    def __setitem__(self, index: Any, values: Any) -> None:
        if isinstance(index, slice):
            self.fill(values, index)
        else:
            self.fill([values], [index])

    def fill(self, values: Any, index: slice | list[int] = slice(None)) -> None:
        """Copy arrays into those at `index`, all of them by default; all fit, or nothing is done."""
        places = range(len(self))[index] if isinstance(index, slice) else index
        try:
            values = list(values)
        except TypeError:
            raise TypeError(f"{self._name} must be a list of arrays, got {values!r}") from None
        if len(values) != len(places):
            raise ValueError(f"{self._name} must have {len(places)} arrays here, got {len(values)}")
        checked = [
            as_weights(f"{self._name}[{place}]", value, self[place].shape, self[place].dtype)
            for place, value in zip(places, values, strict=True)
        ]
        for place, value in zip(places, checked, strict=True):
            self[place][...] = value

    def __reduce__(self) -> Any:
        # A copy is a plain list: its arrays belong to no network.
        return list, (list(self),)
