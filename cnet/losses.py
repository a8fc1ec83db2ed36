"""Losses: names, settings, and everything else that Python code needs to know about each of them.

A row's loss is the sum over its outputs. The caller chooses how the rows of a batch are combined.
The formulas are in ``cnet/_core/losses.pxd``. To add a loss, add it there and here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cnet._checks import as_number, as_settings, listed
from cnet._records import Record
from cnet.activations import ActivationName

LossFunction: TypeAlias = Callable[[NDArray[Any], NDArray[Any]], tuple[float, NDArray[Any]]]
LossName: TypeAlias = Literal[
    "auto",
    "squared_error",
    "absolute_error",
    "huber",
    "quantile",
    "binary_cross_entropy",
    "cross_entropy",
    "poisson",
]


@dataclass(frozen=True, eq=False, repr=False)
class Loss(Record):
    """Base class of the losses.

    Attributes
    ----------
    name : str
        Its name for ``loss=``.
    activations : tuple of str, or None
        The output activations that the loss can be used with; None: all.
    default_for : tuple of str
        The output activations for which ``loss="auto"`` selects it.
    low, high : float
        Bounds of the targets.
    takes_labels : bool
        Whether the loss reads integer labels; rows of targets are then probabilities that sum to 1.
        For other losses, labels are converted to one-hot rows.
    printed_scale : float
        Factor of the total error that ``verbose=True`` prints.
    in_python : bool
        Whether the loss is computed in Python instead of the engine. A loss in Python gets whole batches
        and does its own reduction over the rows, so it cannot be combined with sample weights.
    """

    name: ClassVar[str]
    activations: ClassVar[tuple[ActivationName, ...] | None] = None
    default_for: ClassVar[tuple[str, ...]] = ()
    low: ClassVar[float] = -np.inf
    high: ClassVar[float] = np.inf
    takes_labels: ClassVar[bool] = False
    printed_scale: ClassVar[float] = 1.0
    in_python: ClassVar[bool] = False

    @property
    def setting(self) -> float:
        """The parameter of the loss, if it has one."""
        return 0.0

    def recorded_scale(self, n_outputs: int) -> float:
        """Return the factor by which scikit-learn's recorded loss differs from this one."""
        return 1.0

    def constant(self, targets: NDArray[Any]) -> NDArray[np.float64] | None:
        """Return the terms of scikit-learn's loss that depend on the targets only, for each row.

        Returns
        -------
        ndarray of shape (n,), or None
            None: there are no such terms.
        """
        return None

    def value_and_gradient(
        self, targets: NDArray[Any], outputs: NDArray[Any]
    ) -> tuple[float, NDArray[Any]]:
        """Return the value and the gradient for a whole batch; implemented by losses in Python only."""
        raise NotImplementedError

    def supports(self, activation: str) -> bool:
        """Return whether the loss can be used with this output activation."""
        return self.activations is None or activation in self.activations


@dataclass(frozen=True, eq=False, repr=False)
class SquaredError(Loss):
    """Half the sum of (output - target)²; gradient output - target."""

    name = "squared_error"
    printed_scale = 2.0  # the tutorial's total error has no factor of one half

    def recorded_scale(self, n_outputs: int) -> float:
        return 1 / n_outputs


@dataclass(frozen=True, eq=False, repr=False)
class AbsoluteError(Loss):
    """Sum of abs(output - target); gradient ±1, and 0 where output and target are equal."""

    name = "absolute_error"


@dataclass(frozen=True, eq=False, repr=False)
class Huber(Loss):
    """Squared error near the target, absolute error further away (Huber, 1964).

    Parameters
    ----------
    delta : float, default 1
        Distance from the target at which the loss changes from squared to absolute.

    Raises
    ------
    ValueError
        If delta is not above 0.
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
    """Pinball loss, minimal at the q-quantile of the target (Koenker and Bassett, 1978).

    Parameters
    ----------
    q : float, default 0.5
        The quantile, above 0 and below 1. A target that is d above the output costs q d, and one that is
        d below it costs (1 - q) d. The gradient is 0 where output and target are equal.

    Raises
    ------
    ValueError
        If q is not between 0 and 1.
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
    """-t log p - (1 - t) log(1 - p), computed from the sigmoid's input, so that it cannot overflow."""

    name = "binary_cross_entropy"
    activations = ("sigmoid",)
    low = 0.0
    high = 1.0


@dataclass(frozen=True, eq=False, repr=False)
class CrossEntropy(Loss):
    """-sum of t log p, computed from the softmax's input, so that it cannot overflow.

    Targets are integer labels, one-hot rows, or rows of probabilities that sum to 1.
    """

    name = "cross_entropy"
    activations = ("softmax",)
    default_for = ("softmax",)
    low = 0.0
    high = 1.0
    takes_labels = True


@dataclass(frozen=True, eq=False, repr=False)
class Poisson(Loss):
    """Rate - t log rate: half the Poisson deviance, up to a constant. Targets are counts, 0 or more."""

    name = "poisson"
    activations = ("exp", "softplus")
    low = 0.0

    def constant(self, targets: NDArray[Any]) -> NDArray[np.float64] | None:
        t = targets.astype(np.float64)
        # scikit-learn's logarithms are those of the C library; NumPy's can differ in the last digit.
        logs = np.array([math.log(value) if value > 0 else 0.0 for value in t.ravel().tolist()])
        return np.asarray((t * logs.reshape(t.shape) - t).sum(axis=1), np.float64)


@dataclass(frozen=True, eq=False, repr=False)
class FunctionLoss(Loss):
    """A user's function as loss.

    Parameters
    ----------
    function : callable
        ``function(y_true, y_pred) -> (value, gradient)``, called with arrays of shape (n, n_outputs).
    """

    name = "in_python"
    in_python = True
    function: LossFunction

    def value_and_gradient(
        self, targets: NDArray[Any], outputs: NDArray[Any]
    ) -> tuple[float, NDArray[Any]]:
        """Call the function with arrays that it may change, and check what it returns.

        Returns
        -------
        value : float
        gradient : ndarray of shape (n, n_outputs), in the dtype of `outputs`

        Raises
        ------
        ValueError
            If the function returns anything but a number and an array of that shape.
        """
        expected = f"(value, gradient): a number and an array of shape {outputs.shape}"
        result = self.function(targets, outputs)
        try:
            value, gradient = result
            value = float(value)
            if np.iscomplexobj(gradient):
                raise TypeError
            gradient = np.ascontiguousarray(gradient, outputs.dtype)
        except (TypeError, ValueError):
            raise ValueError(f"loss must return {expected}; got {result!r}") from None
        if gradient.shape != outputs.shape:
            raise ValueError(
                f"loss must return {expected}; got a gradient of shape {gradient.shape}"
            )
        return value, gradient


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


def default_loss(activation: str) -> Loss:
    """Return the loss that ``loss="auto"`` selects for this output activation."""
    for loss in _CLASSES:
        if activation in loss.default_for:
            return loss()
    return SquaredError()


def resolve_loss(loss: LossName | Loss | LossFunction, activation: str) -> Loss:
    """Return `loss` as a loss object that can be used with this output activation."""
    if isinstance(loss, str) and loss == "auto":
        return default_loss(activation)
    if callable(loss) and not isinstance(loss, (type, Loss)):
        return FunctionLoss(loss)
    found = as_settings("loss", loss, Loss, LOSSES, ("auto",))
    if not found.supports(activation):
        suitable = [name for name, other in LOSSES.items() if other().supports(activation)]
        raise ValueError(
            f"loss '{found.name}' requires an output layer with activation "
            f"{listed(found.activations or ())}, got '{activation}', "
            f"which goes with {listed(suitable)}"
        )
    return found
