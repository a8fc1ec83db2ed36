"""The estimators' constructor parameters: their types and checks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast

import numpy as np

from cnet._checks import as_choice, as_flag, as_integer, as_number, as_settings, listed
from cnet.activations import ACTIVATIONS, ActivationName
from cnet.callbacks import Callback, as_callbacks
from cnet.layers import MAX_NEURONS
from cnet.losses import LOSSES, FunctionLoss, Loss, LossFunction, LossName
from cnet.optimizers import SGD, Adam, Optimizer, OptimizerName, resolve_optimizer
from cnet.schedules import Adaptive, InverseScaling, Schedule

# In hidden layers all but softmax.
HiddenActivation: TypeAlias = Literal["identity", "logistic"] | ActivationName
Solver: TypeAlias = Literal["lbfgs"] | OptimizerName
LearningRate: TypeAlias = Literal["constant", "invscaling", "adaptive"]
Scoring: TypeAlias = str | Callable[..., float] | None
RandomState: TypeAlias = int | np.random.RandomState | None

# scikit-learn's names for activations, and cnet's.
_CNET_NAMES = {"identity": "linear", "logistic": "sigmoid"}
_SKLEARN_NAMES = {name: other for other, name in _CNET_NAMES.items()}
HIDDEN_ACTIVATIONS = (
    *_CNET_NAMES,
    *(name for name, activation in ACTIVATIONS.items() if not activation.last_only),
)


@dataclass(frozen=True)
class Parameters:
    """An estimator's parameters, checked and converted.

    Attributes
    ----------
    hidden_layer_sizes : tuple of int
    activations, dropout : tuple of str and of float, one for each hidden layer
    optimizer : Optimizer or None
        None: L-BFGS.
    schedule : Schedule or None
        None: the learning rate does not change.
    learning_rate : float
        The learning rate at the start.
    batch_size : int or None
        None: 200, or all rows if there are fewer.
    n_iter_no_change : float
        An integer or infinity.
    normalization : {"batch_norm", "layer_norm"} or None
        Kind of the layer that normalizes the inputs of each hidden activation; None: there is none.

    The others are as in `MLPClassifier`.
    """

    hidden_layer_sizes: tuple[int, ...]
    activations: tuple[ActivationName, ...]
    dropout: tuple[float, ...]
    optimizer: Optimizer | None
    schedule: Schedule | None
    learning_rate: float
    alpha: float
    l1: float
    max_norm: float | None
    batch_size: int | None
    max_iter: int
    max_fun: int
    shuffle: bool
    tol: float
    verbose: bool
    warm_start: bool
    early_stopping: bool
    validation_fraction: float
    n_iter_no_change: float
    normalization: Literal["batch_norm", "layer_norm"] | None
    callbacks: list[Callback]


def as_parameters(estimator: Any) -> Parameters:
    """Return the checked parameters of an estimator.

    Raises
    ------
    ValueError, TypeError
        If a parameter is out of range, of the wrong type, or cannot be combined with another.
    """
    sizes = _as_sizes(estimator.hidden_layer_sizes)
    optimizer, rate, schedule = _as_optimizer(estimator)
    patience = estimator.n_iter_no_change
    if not (isinstance(patience, float) and patience == math.inf):
        patience = as_integer("n_iter_no_change", patience, 1)
    verbose = estimator.verbose
    if not isinstance(verbose, (bool, np.bool_)):
        verbose = as_integer("verbose", verbose, 0)
    batch_size = estimator.batch_size
    if isinstance(batch_size, str):
        as_choice("batch_size", batch_size, ("auto",))
        batch_size = None
    else:
        batch_size = as_integer("batch_size", batch_size, 1)
    max_norm = estimator.max_norm
    found = Parameters(
        hidden_layer_sizes=sizes,
        activations=_as_activations(estimator.activation, len(sizes)),
        dropout=_as_dropout(estimator.dropout, len(sizes)),
        optimizer=optimizer,
        schedule=schedule,
        learning_rate=rate,
        alpha=as_number("alpha", estimator.alpha, 0),
        l1=as_number("l1", estimator.l1, 0),
        max_norm=None if max_norm is None else as_number("max_norm", max_norm, 0, open_low=True),
        batch_size=batch_size,
        max_iter=as_integer("max_iter", estimator.max_iter, 1),
        max_fun=as_integer("max_fun", estimator.max_fun, 1),
        shuffle=as_flag("shuffle", estimator.shuffle),
        tol=as_number("tol", estimator.tol, 0),
        verbose=bool(verbose),
        warm_start=as_flag("warm_start", estimator.warm_start),
        early_stopping=as_flag("early_stopping", estimator.early_stopping),
        validation_fraction=as_number(
            "validation_fraction", estimator.validation_fraction, 0, 1, open_high=True
        ),
        n_iter_no_change=patience,
        normalization=_as_normalization(estimator, len(sizes)),
        callbacks=as_callbacks(estimator.callbacks),
    )
    if optimizer is None:
        for name, unset in (("l1", 0), ("max_norm", None)):
            if getattr(found, name) != unset:
                raise ValueError(
                    f"{name} must be {unset} with solver 'lbfgs', which needs a smooth loss without "
                    f"bounds, got {getattr(found, name):g}"
                )
        if any(found.dropout):
            raise ValueError(
                f"dropout must be 0 with solver 'lbfgs', which needs the same loss at every call, "
                f"got {estimator.dropout!r}"
            )
        if found.normalization == "batch_norm":
            raise ValueError(
                "batch_norm must be False with solver 'lbfgs', which needs the same loss at every "
                "call, got True; layer_norm can be used instead"
            )
    elif found.normalization == "batch_norm" and found.batch_size == 1:
        raise ValueError(
            "batch_size must be at least 2 with batch_norm, because a single row has no variance, got 1"
        )
    return found


def regression_loss(loss: LossName | Loss | LossFunction) -> tuple[Loss, ActivationName]:
    """Return the loss for an object, a name or a function, and the output activation for it."""
    if callable(loss) and not isinstance(loss, type):
        return FunctionLoss(loss), "linear"
    found = as_settings("loss", loss, Loss, LOSSES)
    return found, found.activations[0] if found.activations else "linear"


def is_stochastic(estimator: Any) -> bool:
    """Return True if the solver trains by batches; otherwise there is no `partial_fit`.

    Raises
    ------
    AttributeError
        If the solver is "lbfgs".
    """
    if isinstance(estimator.solver, str) and estimator.solver == "lbfgs":
        raise AttributeError("partial_fit requires a solver that trains by batches, not 'lbfgs'")
    return True


def sklearn_name(activation: str) -> str:
    """Return scikit-learn's name for an activation."""
    return _SKLEARN_NAMES.get(activation, activation)


def _as_sizes(sizes: Any) -> tuple[int, ...]:
    values = sizes if isinstance(sizes, Iterable) and not isinstance(sizes, str) else [sizes]
    return tuple(as_integer("hidden_layer_sizes", size, 1, MAX_NEURONS) for size in values)


def _as_activations(activation: Any, n_hidden: int) -> tuple[ActivationName, ...]:
    if isinstance(activation, str):
        names = [activation] * n_hidden
        # Checked even if there is no hidden layer.
        as_choice("activation", activation, HIDDEN_ACTIVATIONS)
    else:
        names = _one_each(
            "activation", activation, n_hidden, f"one of {listed(HIDDEN_ACTIVATIONS)}"
        )
    checked = [as_choice("activation", name, HIDDEN_ACTIVATIONS) for name in names]
    return cast(tuple[ActivationName, ...], tuple(_CNET_NAMES.get(name, name) for name in checked))


def _as_dropout(dropout: Any, n_hidden: int) -> tuple[float, ...]:
    if not isinstance(dropout, Iterable) or isinstance(dropout, str):
        return (as_number("dropout", dropout, 0, 1, open_high=True),) * n_hidden
    values = _one_each("dropout", dropout, n_hidden, "a number")
    return tuple(as_number("dropout", value, 0, 1, open_high=True) for value in values)


def _as_normalization(estimator: Any, n_hidden: int) -> Literal["batch_norm", "layer_norm"] | None:
    """Return the kind of the normalization layers, if there are any."""
    batch_norm = as_flag("batch_norm", estimator.batch_norm)
    layer_norm = as_flag("layer_norm", estimator.layer_norm)
    if batch_norm and layer_norm:
        raise ValueError(
            "batch_norm and layer_norm must not both be True; set one of them to False"
        )
    if not n_hidden or not (batch_norm or layer_norm):
        return None
    return "batch_norm" if batch_norm else "layer_norm"


def _one_each(name: str, values: Any, n_hidden: int, expected: str) -> list[Any]:
    """Return a list with a value for each hidden layer."""
    found = list(values) if isinstance(values, Iterable) else None
    if found is None or len(found) != n_hidden:
        raise ValueError(
            f"{name} must be {expected}, or a list of {n_hidden}, one for each hidden layer, "
            f"got {values!r}"
        )
    return found


def _as_optimizer(estimator: Any) -> tuple[Optimizer | None, float, Schedule | None]:
    """Return the optimizer, the learning rate at the start and the schedule."""
    solver = estimator.solver
    schedule = _as_schedule(estimator)
    rate = as_number("learning_rate_init", estimator.learning_rate_init, 0, open_low=True)
    momentum = as_number("momentum", estimator.momentum, 0, 1)
    nesterov = as_flag("nesterovs_momentum", estimator.nesterovs_momentum)
    adam = Adam(
        beta_1=as_number("beta_1", estimator.beta_1, 0, 1, open_high=True),
        beta_2=as_number("beta_2", estimator.beta_2, 0, 1, open_high=True),
        epsilon=as_number("epsilon", estimator.epsilon, 0, open_low=True),
        epsilon_hat=True,
    )
    if isinstance(solver, str):
        if solver == "lbfgs":
            return None, rate, None
        if solver == "sgd":
            return SGD(momentum=momentum, nesterov=nesterov and momentum > 0), rate, schedule
        if solver == "adam":
            return adam, rate, None
    try:
        optimizer, _ = resolve_optimizer(solver, None)
    except ValueError as error:
        message = str(error).removeprefix("optimizer must be one of ")
        raise ValueError(f"solver must be one of 'lbfgs', {message}") from None
    if optimizer.learning_rate is not None:
        rate = optimizer.learning_rate
    return optimizer, rate, schedule


def _as_schedule(estimator: Any) -> Schedule | None:
    power = as_number("power_t", estimator.power_t, 0)
    name = as_choice(
        "learning_rate", estimator.learning_rate, ("constant", "invscaling", "adaptive")
    )
    if name == "constant":
        return None
    return InverseScaling(power) if name == "invscaling" else Adaptive()
