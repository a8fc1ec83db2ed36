"""Activations: everything that Python code needs to know about each of them.

The formulas are in ``cnet/_core/activations.pxd``. To add an activation, add it there and here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

from cnet._records import Record

ActivationName: TypeAlias = Literal[
    "linear",
    "sigmoid",
    "tanh",
    "relu",
    "leaky_relu",
    "elu",
    "selu",
    "gelu",
    "silu",
    "softplus",
    "softsign",
    "exp",
    "softmax",
]


@dataclass(frozen=True, eq=False, repr=False)
class Activation(Record):
    """An activation.

    Attributes
    ----------
    name : str
        Its name for ``activation=``.
    low, high : float
        Bounds of the outputs.
    doubles_variance : bool
        Whether it passes on about half of its inputs, so that initial weights should have twice the
        variance (He et al., 2015).
    is_probability : bool
        Whether outputs are probabilities of classes.
    last_only : bool
        Whether only the last layer can have it.
    is_identity : bool
        Whether the outputs are the inputs, so that there is nothing to compute.
    """

    name: str
    low: float = -math.inf
    high: float = math.inf
    doubles_variance: bool = False
    is_probability: bool = False
    last_only: bool = False
    is_identity: bool = False


# Minima of gelu and silu, rounded down.
_GELU_LOW = -0.17005
_SILU_LOW = -0.27847

# The negative limit of selu, minus scale times alpha (Klambauer et al., 2017).
_SELU_LOW = -1.7580993408473766

ACTIVATIONS = {
    activation.name: activation
    for activation in (
        Activation("linear", is_identity=True),
        Activation("sigmoid", 0.0, 1.0, is_probability=True),
        Activation("tanh", -1.0, 1.0),
        Activation("relu", 0.0, doubles_variance=True),
        Activation("leaky_relu", doubles_variance=True),
        Activation("elu", -1.0, doubles_variance=True),
        Activation("selu", _SELU_LOW, doubles_variance=True),
        Activation("gelu", _GELU_LOW, doubles_variance=True),
        Activation("silu", _SILU_LOW, doubles_variance=True),
        Activation("softplus", 0.0, doubles_variance=True),
        Activation("softsign", -1.0, 1.0),
        Activation("exp", 0.0),
        Activation("softmax", 0.0, 1.0, is_probability=True, last_only=True),
    )
}
