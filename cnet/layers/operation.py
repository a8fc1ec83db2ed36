"""Operation: what the engine computes for a layer, and where the values of layers are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias


class Operation(NamedTuple):
    """What the engine computes for a layer, or a part of it.

    Attributes
    ----------
    kind : str
        One of the kinds in ``cnet/_core/ops.pxd``.
    n_inputs, n_outputs : int
    layer : int
        Number of the layer, which makes its random numbers different from those of other layers.
    weights, n_weights, biases : int
        Index of the first weight in the flat parameters, number of weights, and index of the first
        bias. An index is -1 if there are none. Biases come directly after the weights.
    statistics : int
        Index of the first running statistic in the flat buffers, or -1.
    partner : int
        Where the other operation of a pair is, counted from this one; 0: there is none.

    The others are settings of some kinds.
    """

    kind: str
    n_inputs: int
    n_outputs: int
    layer: int
    activation: str = "linear"
    partner: int = 0
    trainable: bool = True
    learning_rate_factor: float = 1.0
    bias_learning_rate_factor: float = 1.0
    weights: int = -1
    n_weights: int = 0
    biases: int = -1
    statistics: int = -1
    dropout: float = 0.0
    l1: float = 0.0
    l2: float = 0.0
    max_norm: float = 0.0
    epsilon: float = 0.0
    momentum: float = 0.0


class Learning(NamedTuple):
    """Whether and how fast a layer learns.

    Attributes
    ----------
    trainable : bool
    learning_rate_factor, bias_learning_rate_factor : float
        Factors of the learning rate for weights and biases.
    """

    trainable: bool
    learning_rate_factor: float
    bias_learning_rate_factor: float


class Place(NamedTuple):
    """Where the values of a layer are.

    Attributes
    ----------
    number : int
        Position of the layer among all layers.
    parameters, buffers : int
        Index of its first value in the flat parameters, and in the flat buffers.
    """

    number: int
    parameters: int
    buffers: int


# The argument is a layer.
PlaceOf: TypeAlias = Callable[[Any], Place]
