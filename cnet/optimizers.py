"""Optimizers: names, settings, and the state that is kept from step to step.

Each optimizer is defined exactly like PyTorch's optimizer of the same name: the same initial weights
and batches give the same weights. The loops are in ``cnet/_core/optimizers.pxd``. To add an optimizer,
add it there and here.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cnet._checks import as_flag, as_number, as_settings
from cnet._records import Record

OptimizerName: TypeAlias = Literal["sgd", "adam", "adamw", "rmsprop", "adagrad", "rprop"]
LearningRates: TypeAlias = float | NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class Optimizer(Record):
    """Base class of the optimizers, with their common settings.

    An optimizer holds settings only. The network keeps the state, so several networks can share one
    object.

    Parameters
    ----------
    learning_rate : float, optional
        Step size if ``train`` gets none; by default `default_learning_rate`, which is PyTorch's.
    weight_decay : float, default 0
        L2 penalty: adds ``weight_decay * w`` to the gradient of every weight and bias.
    clip_norm : float, optional
        Scales the whole gradient down to at most this Euclidean norm, as
        ``torch.nn.utils.clip_grad_norm_`` does.
    clip_value : float, optional
        Clips every element of the gradient to ± this value. It cannot be combined with `clip_norm`.

    Raises
    ------
    ValueError
        If a number is out of range.
    TypeError
        If a setting is not a number.
    """

    name: ClassVar[str]
    default_learning_rate: ClassVar[float] = 1e-3

    # Not compared: the state stays valid with another learning rate.
    learning_rate: float | None = field(default=None, compare=False)
    _: KW_ONLY
    weight_decay: float = 0.0
    clip_norm: float | None = None
    clip_value: float | None = None

    def __post_init__(self) -> None:
        if self.learning_rate is not None:
            as_number("learning_rate", self.learning_rate, 0)
        as_number("weight_decay", self.weight_decay, 0)
        if self.clip_norm is not None:
            as_number("clip_norm", self.clip_norm, 0, open_low=True)
        if self.clip_value is not None:
            as_number("clip_value", self.clip_value, 0, open_low=True)
        if self.clip_norm is not None and self.clip_value is not None:
            raise ValueError(
                "clip_norm and clip_value cannot be used together, "
                f"got {self.clip_norm} and {self.clip_value}"
            )

    def start(
        self, n_parameters: int, dtype: np.dtype[Any], learning_rate: LearningRates
    ) -> OptimizerState:
        """Return the state before the first step.

        Parameters
        ----------
        n_parameters : int
        dtype : numpy.dtype
        learning_rate : float or ndarray of shape (n_parameters,)
            The learning rate of all parameters, or of each.
        """
        n_moments = len(self.initial_moments(learning_rate))
        state = OptimizerState(
            self, np.empty((n_moments, n_parameters), dtype), np.empty(1, np.intp)
        )
        state.restart(learning_rate)
        return state

    def initial_moments(self, learning_rate: LearningRates) -> tuple[LearningRates, ...]:
        """Return the initial values of each array of the state, or one value for all parameters."""
        raise NotImplementedError

    def on_rate_change(self, moments: NDArray[Any], old: float, new: float) -> None:
        """Rescale momentum so that it keeps its speed at a new learning rate; by default do nothing.

        Called by schedules that follow scikit-learn, whose velocity includes the learning rate.
        """


@dataclass
class OptimizerState:
    """The state that an optimizer keeps from step to step.

    Attributes
    ----------
    optimizer : Optimizer
    moments : ndarray of shape (n_moments, n_parameters)
        Running averages and the like, in the order of the network's parameters.
    steps : ndarray of shape (1,), intp
        The number of steps so far.
    """

    optimizer: Optimizer
    moments: NDArray[Any]
    steps: NDArray[np.intp]

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        # Copies, because joblib can unpickle arrays in read-only memory.
        self.moments = np.array(self.moments)
        self.steps = np.array(self.steps)

    def copy(self) -> OptimizerState:
        """Return an independent copy."""
        return OptimizerState(self.optimizer, self.moments.copy(), self.steps.copy())

    def restart(self, learning_rate: LearningRates) -> None:
        """Reset the state to before the first step; `learning_rate` is as in `Optimizer.start`."""
        initial = self.optimizer.initial_moments(learning_rate)
        for moments, values in zip(self.moments, initial, strict=True):
            moments[...] = values
        self.steps[:] = 0


@dataclass(frozen=True, eq=False, repr=False)
class SGD(Optimizer):
    """Gradient descent, plain or with momentum (``torch.optim.SGD``).

    Parameters
    ----------
    momentum : float, default 0
        Fraction of the last step that is added to the next one.
    nesterov : bool, default False
        Use Nesterov's momentum (Sutskever et al., 2013), which requires a momentum above 0.
    """

    name = "sgd"
    _: KW_ONLY
    momentum: float = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        as_number("momentum", self.momentum, 0)
        if as_flag("nesterov", self.nesterov) and self.momentum == 0:
            raise ValueError("nesterov=True requires a momentum above 0, got 0")

    def on_rate_change(self, moments: NDArray[Any], old: float, new: float) -> None:
        """Rescale the velocity, which does not include the learning rate in cnet."""
        moments *= old / new

    def initial_moments(self, learning_rate: LearningRates) -> tuple[LearningRates, ...]:
        return (0.0,) if self.momentum else ()


@dataclass(frozen=True, eq=False, repr=False)
class Adam(Optimizer):
    """Adaptive moments (Kingma and Ba, 2015; ``torch.optim.Adam``).

    Parameters
    ----------
    beta_1, beta_2 : float, default 0.9 and 0.999
        Decay rates of the running means of the gradient and of its square, at least 0 and below 1.
    epsilon : float, default 1e-8
        Added to the square root of the second mean.
    epsilon_hat : bool, default False
        Whether to add epsilon before the bias correction, as scikit-learn and Keras do, or after it, as
        PyTorch does. These are the two forms of the algorithm in Kingma and Ba's paper.
    """

    name = "adam"
    _: KW_ONLY
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8
    epsilon_hat: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        as_number("beta_1", self.beta_1, 0, 1, open_high=True)
        as_number("beta_2", self.beta_2, 0, 1, open_high=True)
        as_number("epsilon", self.epsilon, 0)
        as_flag("epsilon_hat", self.epsilon_hat)

    def initial_moments(self, learning_rate: LearningRates) -> tuple[LearningRates, ...]:
        return 0.0, 0.0


@dataclass(frozen=True, eq=False, repr=False)
class AdamW(Adam):
    """Adam with decoupled weight decay, 0.01 by default: the decay shrinks the weights directly.

    Loshchilov and Hutter, 2019; ``torch.optim.AdamW``.
    """

    name = "adamw"
    _: KW_ONLY
    weight_decay: float = 0.01


@dataclass(frozen=True, eq=False, repr=False)
class RMSprop(Optimizer):
    """Gradient divided by the root of its running mean square.

    Tieleman and Hinton, 2012; ``torch.optim.RMSprop``.

    Parameters
    ----------
    alpha : float, default 0.99
        Decay rate of the running mean, at least 0 and below 1.
    epsilon : float, default 1e-8
        Added to the root.
    momentum : float, default 0
        Fraction of the last step that is added to the next one.
    centered : bool, default False
        Use the variance instead of the mean square (Graves, 2013). A variance that rounding makes
        negative counts as 0; PyTorch's step would be NaN.
    """

    name = "rmsprop"
    default_learning_rate = 1e-2
    _: KW_ONLY
    alpha: float = 0.99
    epsilon: float = 1e-8
    momentum: float = 0.0
    centered: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        as_number("alpha", self.alpha, 0, 1, open_high=True)
        as_number("epsilon", self.epsilon, 0)
        as_number("momentum", self.momentum, 0)
        as_flag("centered", self.centered)

    def initial_moments(self, learning_rate: LearningRates) -> tuple[LearningRates, ...]:
        return (0.0,) * (3 if self.centered else 2 if self.momentum else 1)


@dataclass(frozen=True, eq=False, repr=False)
class Adagrad(Optimizer):
    """Gradient divided by the root of the sum of its squares.

    Duchi et al., 2011; ``torch.optim.Adagrad``.

    Parameters
    ----------
    learning_rate_decay : float, default 0
        The t-th step uses learning_rate / (1 + (t - 1) * learning_rate_decay).
    initial_accumulator_value : float, default 0
        Initial value of the sum of squares.
    epsilon : float, default 1e-10
        Added to the root.
    """

    name = "adagrad"
    default_learning_rate = 1e-2
    _: KW_ONLY
    learning_rate_decay: float = 0.0
    initial_accumulator_value: float = 0.0
    epsilon: float = 1e-10

    def __post_init__(self) -> None:
        super().__post_init__()
        as_number("learning_rate_decay", self.learning_rate_decay, 0)
        as_number("initial_accumulator_value", self.initial_accumulator_value, 0)
        as_number("epsilon", self.epsilon, 0)

    def initial_moments(self, learning_rate: LearningRates) -> tuple[LearningRates, ...]:
        return (self.initial_accumulator_value,)


@dataclass(frozen=True, eq=False, repr=False)
class Rprop(Optimizer):
    """Steps by the sign of the gradient (Riedmiller and Braun, 1993; ``torch.optim.Rprop``).

    Designed for full batches. `learning_rate` is the size of the first step, and the layers'
    factors of the learning rate change this first step only. `weight_decay`, which PyTorch's Rprop
    does not have, is added to the gradient before its sign is taken.

    Parameters
    ----------
    shrink, grow : float, default 0.5 and 1.2
        Factors of a weight's step: `shrink` if the sign of its gradient has changed, `grow` if not.
    smallest_step, largest_step : float, default 1e-6 and 50
        Bounds of a weight's step.
    """

    name = "rprop"
    default_learning_rate = 1e-2
    _: KW_ONLY
    shrink: float = 0.5
    grow: float = 1.2
    smallest_step: float = 1e-6
    largest_step: float = 50.0

    def __post_init__(self) -> None:
        super().__post_init__()
        as_number("shrink", self.shrink, 0, 1, open_low=True, open_high=True)
        as_number("grow", self.grow, 1, open_low=True)
        as_number("smallest_step", self.smallest_step, 0)
        as_number("largest_step", self.largest_step, self.smallest_step)

    def initial_moments(self, learning_rate: LearningRates) -> tuple[LearningRates, ...]:
        return 0.0, learning_rate


_CLASSES: tuple[type[Optimizer], ...] = (SGD, Adam, AdamW, RMSprop, Adagrad, Rprop)
OPTIMIZERS = {optimizer.name: optimizer for optimizer in _CLASSES}


def resolve_optimizer(
    optimizer: OptimizerName | Optimizer, learning_rate: float | None
) -> tuple[Optimizer, float]:
    """Return `optimizer` as an object, and the learning rate to use with it."""
    found = as_settings("optimizer", optimizer, Optimizer, OPTIMIZERS)
    if learning_rate is not None:
        return found, as_number("learning_rate", learning_rate, 0)
    if found.learning_rate is not None:
        return found, found.learning_rate
    return found, found.default_learning_rate
