"""Losses: names, settings and the output activations they go with.

A row's loss is summed over its outputs; the reduction over rows is the caller's. The formulas run in
``cnet/_core/losses.pxd``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cnet._checks import as_number, as_settings, listed
from cnet._core.engine import LOSSES as CODES
from cnet._settings import Settings

LossFunction: TypeAlias = Callable[[NDArray[Any], NDArray[Any]], tuple[float, NDArray[Any]]]


@dataclass(frozen=True, eq=False, repr=False)
class Loss(Settings):
    """Base of the losses.

    Attributes
    ----------
    name : str
        What ``loss=`` calls it.
    activations : tuple of str, or None
        The output activations it goes with; None: any.
    low, high : float
        The range that targets must lie in.
    """

    name: ClassVar[str]
    activations: ClassVar[tuple[str, ...] | None] = None
    low: ClassVar[float] = -np.inf
    high: ClassVar[float] = np.inf

    @property
    def code(self) -> int:
        """Number by which the engine knows the loss."""
        return CODES[self.name]

    @property
    def setting(self) -> float:
        """The one number that some of the losses take."""
        return 0.0


@dataclass(frozen=True, eq=False, repr=False)
class SquaredError(Loss):
    """Half the sum of (output - target)²; gradient output - target."""

    name = "squared_error"


@dataclass(frozen=True, eq=False, repr=False)
class AbsoluteError(Loss):
    """Sum of abs(output - target); gradient ±1, and 0 where they are equal."""

    name = "absolute_error"


@dataclass(frozen=True, eq=False, repr=False)
class Huber(Loss):
    """Squared error near the target, absolute error beyond (Huber, 1964).

    Parameters
    ----------
    delta : float, default 1
        Distance from the target, in its units, at which one becomes the other.

    Raises
    ------
    ValueError
        Where delta is not above 0.
    """

    name = "huber"
    delta: float = 1.0

    def __post_init__(self) -> None:
        as_number("delta", self.delta, 0, open_low=True)

    @property
    def setting(self) -> float:
        return self.delta


@dataclass(frozen=True, eq=False, repr=False)
class Quantile(Loss):
    """Pinball loss, least at the q-quantile of the target (Koenker and Bassett, 1978).

    Parameters
    ----------
    q : float, default 0.5
        The quantile, above 0 and below 1. A target d above the output costs q d, one d below it
        (1 - q) d; where they are equal, the gradient is 0.

    Raises
    ------
    ValueError
        Where q is not between 0 and 1.
    """

    name = "quantile"
    q: float = 0.5

    def __post_init__(self) -> None:
        as_number("q", self.q, 0, 1, open_low=True, open_high=True)

    @property
    def setting(self) -> float:
        return self.q


@dataclass(frozen=True, eq=False, repr=False)
class BinaryCrossEntropy(Loss):
    """-t log p - (1 - t) log(1 - p), computed from the sigmoid's input so that nothing overflows."""

    name = "binary_cross_entropy"
    activations = ("sigmoid",)
    low = 0.0
    high = 1.0


@dataclass(frozen=True, eq=False, repr=False)
class CrossEntropy(Loss):
    """-sum of t log p, computed from the softmax's input so that nothing overflows.

    Targets are integer labels, one-hot rows, or rows of probabilities that sum to 1.
    """

    name = "cross_entropy"
    activations = ("softmax",)
    low = 0.0
    high = 1.0


@dataclass(frozen=True, eq=False, repr=False)
class Poisson(Loss):
    """Rate - t log rate, the Poisson deviance but for a constant; targets are counts, 0 or more."""

    name = "poisson"
    activations = ("exp", "softplus")
    low = 0.0


_CLASSES: tuple[type[Loss], ...] = (
    SquaredError,
    AbsoluteError,
    Huber,
    Quantile,
    BinaryCrossEntropy,
    CrossEntropy,
    Poisson,
)
LOSSES = {loss.name: loss for loss in _CLASSES}


def resolve_loss(loss: Any, activation: str) -> Loss | LossFunction:
    """Return the loss that `loss` is or names, checked against the output's activation.

    "auto" is cross_entropy after softmax and squared_error otherwise.
    """
    if isinstance(loss, str) and loss == "auto":
        return CrossEntropy() if activation == "softmax" else SquaredError()
    if callable(loss) and not isinstance(loss, type):
        function: LossFunction = loss
        return function
    found = as_settings("loss", loss, Loss, LOSSES, ("auto",))
    if found.activations is not None and activation not in found.activations:
        fitting = [name for name, other in LOSSES.items() if _goes_with(other, activation)]
        raise ValueError(
            f"loss '{found.name}' wants an output layer with activation "
            f"{listed(found.activations)}, and this one's is '{activation}', "
            f"which goes with {listed(fitting)}"
        )
    return found


def _goes_with(loss: type[Loss], activation: str) -> bool:
    return loss.activations is None or activation in loss.activations


def call_loss(
    loss: LossFunction, targets: NDArray[Any], outputs: NDArray[Any]
) -> tuple[float, NDArray[Any]]:
    """Call a user's loss and check what it returns.

    Parameters
    ----------
    loss : callable
        ``loss(y_true, y_pred) -> (value, gradient)``.
    targets, outputs : ndarray of shape (n, n_outputs)

    Returns
    -------
    value : float
    gradient : ndarray of shape (n, n_outputs), in the dtype of `outputs`

    Raises
    ------
    ValueError
        Where the loss returns anything else than a number and an array of that shape.
    """
    wanted = f"(value, gradient): a number and an array of shape {outputs.shape}"
    # Copies: what the function does to them must not reach the user's targets or the outputs.
    result = loss(targets.copy(), outputs.copy())
    try:
        value, gradient = result
        value = float(value)
        if np.iscomplexobj(gradient):
            raise TypeError
        gradient = np.ascontiguousarray(gradient, outputs.dtype)
    except (TypeError, ValueError):
        raise ValueError(f"loss must return {wanted}; got {result!r}") from None
    if gradient.shape != outputs.shape:
        raise ValueError(f"loss must return {wanted}; got a gradient of shape {gradient.shape}")
    return value, gradient
