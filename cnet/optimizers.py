"""Optimizers: names, settings, and the state that one carries from step to step.

Each is defined exactly as PyTorch defines the optimizer of that name, so that the same start and the
same batches give the same weights. The loops run in ``cnet/_core/optimizers.pxd``.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from cnet._checks import as_flag, as_number, as_settings
from cnet._core.engine import OPTIMIZER_SETTINGS
from cnet._core.engine import OPTIMIZERS as CODES
from cnet._settings import Settings


@dataclass(frozen=True, eq=False, repr=False)
class Optimizer(Settings):
    """Base of the optimizers: what they have in common.

    An optimizer holds settings only; the network keeps the state, so one object serves many networks.

    Parameters
    ----------
    learning_rate : float, optional
        Step size where ``train`` is given none; by default `default_learning_rate`, PyTorch's.
    weight_decay : float, default 0
        L2 penalty: adds ``weight_decay * w`` to the gradient of every weight and bias.
    clip_norm : float, optional
        Shrinks the whole gradient to at most this Euclidean norm, as
        ``torch.nn.utils.clip_grad_norm_`` does.
    clip_value : float, optional
        Clamps every element of the gradient to ± this value. Not together with `clip_norm`.

    Raises
    ------
    ValueError
        Where a number is out of its range.
    TypeError
        Where a setting is not a number.
    """

    name: ClassVar[str]
    default_learning_rate: ClassVar[float] = 1e-3

    # Not compared: another step size does not make the state of the last one useless.
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

    @property
    def code(self) -> int:
        """Number by which the engine knows the optimizer."""
        return CODES[self.name]

    def settings(self) -> NDArray[np.float64]:
        """Return the settings as the engine reads them."""
        settings = np.zeros(OPTIMIZER_SETTINGS)
        settings[:3] = self.weight_decay, self.clip_norm or 0.0, self.clip_value or 0.0
        own = self._own_settings()
        settings[3 : 3 + len(own)] = own
        return settings

    def start(
        self, n_parameters: int, dtype: np.dtype[Any], learning_rate: float
    ) -> OptimizerState:
        """Return the state before the first step."""
        n_moments = len(self._first_moments(learning_rate))
        state = OptimizerState(
            self, np.empty((n_moments, n_parameters), dtype), np.empty(1, np.intp)
        )
        state.restart(learning_rate)
        return state

    def on_rate_change(self, moments: NDArray[Any], old: float, new: float) -> None:
        """Rescale momentum so that it keeps its speed at a new learning rate; by default do nothing.

        Called by schedules that follow scikit-learn, whose velocity includes the learning rate.
        """

    def _own_settings(self) -> tuple[float, ...]:
        """Return up to four numbers, in the order `_core/optimizers.pxd` gives them."""
        raise NotImplementedError

    def _first_moments(self, learning_rate: float) -> tuple[float, ...]:
        """Return what each array of the state starts at."""
        raise NotImplementedError


@dataclass
class OptimizerState:
    """What an optimizer carries from step to step.

    Attributes
    ----------
    optimizer : Optimizer
    moments : ndarray of shape (n_moments, n_parameters)
        Running averages and the like, in the order of the flat parameters.
    steps : ndarray of shape (1,), intp
        How many steps have been made.
    """

    optimizer: Optimizer
    moments: NDArray[Any]
    steps: NDArray[np.intp]

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        # Arrays of its own: what is unpickled may lie in read-only memory, as joblib's does.
        self.moments = self.moments.copy()
        self.steps = self.steps.copy()

    def restart(self, learning_rate: float) -> None:
        """Go back to before the first step."""
        self.moments[:] = np.reshape(self.optimizer._first_moments(learning_rate), (-1, 1))
        self.steps[:] = 0


@dataclass(frozen=True, eq=False, repr=False)
class SGD(Optimizer):
    """Gradient descent, plain or with momentum (``torch.optim.SGD``).

    Parameters
    ----------
    momentum : float, default 0
        Share of the last step that is kept.
    nesterov : bool, default False
        Nesterov's momentum (Sutskever et al., 2013); wants a momentum above 0.
    """

    name = "sgd"
    _: KW_ONLY
    momentum: float = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        as_number("momentum", self.momentum, 0)
        if as_flag("nesterov", self.nesterov) and self.momentum == 0:
            raise ValueError("nesterov=True wants a momentum above 0, got 0")

    def on_rate_change(self, moments: NDArray[Any], old: float, new: float) -> None:
        """Rescale the velocity, which here does not include the learning rate."""
        moments *= old / new

    def _own_settings(self) -> tuple[float, ...]:
        return self.momentum, float(self.nesterov)

    def _first_moments(self, learning_rate: float) -> tuple[float, ...]:
        return (0.0,) if self.momentum else ()


@dataclass(frozen=True, eq=False, repr=False)
class Adam(Optimizer):
    """Adaptive moments (Kingma and Ba, 2015; ``torch.optim.Adam``).

    Parameters
    ----------
    beta_1, beta_2 : float, default 0.9 and 0.999
        Decay of the running means of the gradient and of its square; at least 0 and below 1.
    epsilon : float, default 1e-8
        Added to the root of the second.
    epsilon_hat : bool, default False
        Whether epsilon is added before the root is corrected for the first steps, as in the second form
        of Kingma and Ba's algorithm, which scikit-learn and Keras use, and not after, as in the first,
        which PyTorch uses.
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

    def _own_settings(self) -> tuple[float, ...]:
        return self.beta_1, self.beta_2, self.epsilon, float(self.epsilon_hat)

    def _first_moments(self, learning_rate: float) -> tuple[float, ...]:
        return 0.0, 0.0


@dataclass(frozen=True, eq=False, repr=False)
class AdamW(Adam):
    """Adam whose weight decay, 0.01 by default, shrinks the weights themselves.

    Loshchilov and Hutter, 2019; ``torch.optim.AdamW``.
    """

    name = "adamw"
    _: KW_ONLY
    weight_decay: float = 0.01


@dataclass(frozen=True, eq=False, repr=False)
class RMSprop(Optimizer):
    """Gradient over the root of its running mean square.

    Tieleman and Hinton, 2012; ``torch.optim.RMSprop``.

    Parameters
    ----------
    alpha : float, default 0.99
        Decay of the running mean; at least 0 and below 1.
    epsilon : float, default 1e-8
        Added to the root.
    momentum : float, default 0
        Share of the last step that is kept.
    centered : bool, default False
        Use the variance instead of the mean square (Graves, 2013). Where rounding takes the variance
        of a constant gradient below 0 it is 0, and PyTorch's step is NaN.
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

    def _own_settings(self) -> tuple[float, ...]:
        return self.alpha, self.epsilon, self.momentum, float(self.centered)

    def _first_moments(self, learning_rate: float) -> tuple[float, ...]:
        return (0.0,) * (3 if self.centered else 2 if self.momentum else 1)


@dataclass(frozen=True, eq=False, repr=False)
class Adagrad(Optimizer):
    """Gradient over the root of the sum of its squares (Duchi et al., 2011; ``torch.optim.Adagrad``).

    Parameters
    ----------
    learning_rate_decay : float, default 0
        The t-th step is made with learning_rate / (1 + (t - 1) learning_rate_decay).
    initial_accumulator_value : float, default 0
        What the sum of squares starts at.
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

    def _own_settings(self) -> tuple[float, ...]:
        return self.learning_rate_decay, self.epsilon

    def _first_moments(self, learning_rate: float) -> tuple[float, ...]:
        return (self.initial_accumulator_value,)


@dataclass(frozen=True, eq=False, repr=False)
class Rprop(Optimizer):
    """Steps by the sign of the gradient alone (Riedmiller and Braun, 1993; ``torch.optim.Rprop``).

    Made for full batches. `learning_rate` is the size of the first step only. PyTorch's has no
    `weight_decay`; here it is added to the gradient before its sign is taken.

    Parameters
    ----------
    shrink, grow : float, default 0.5 and 1.2
        Factors of a weight's step where its gradient has turned, and where it has kept its sign.
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

    def _own_settings(self) -> tuple[float, ...]:
        return self.shrink, self.grow, self.smallest_step, self.largest_step

    def _first_moments(self, learning_rate: float) -> tuple[float, ...]:
        return 0.0, learning_rate


_CLASSES: tuple[type[Optimizer], ...] = (SGD, Adam, AdamW, RMSprop, Adagrad, Rprop)
OPTIMIZERS = {optimizer.name: optimizer for optimizer in _CLASSES}


def resolve_optimizer(optimizer: Any, learning_rate: Any) -> tuple[Optimizer, float]:
    """Return the optimizer that `optimizer` is or names, and the learning rate to use with it."""
    found = as_settings("optimizer", optimizer, Optimizer, OPTIMIZERS)
    if learning_rate is not None:
        return found, as_number("learning_rate", learning_rate, 0)
    if found.learning_rate is not None:
        return found, found.learning_rate
    return found, found.default_learning_rate
