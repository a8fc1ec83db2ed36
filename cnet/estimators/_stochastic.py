"""Training by batches: schedules of the learning rate, and when to stop, as scikit-learn has them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from cnet._program import Program
from cnet.callbacks import Callback
from cnet.estimators._parameters import Parameters
from cnet.optimizers import SGD, Optimizer, OptimizerState
from cnet.training import Assessment, DivergenceError, History, Run, Training

# The learning rate from which "adaptive" goes no lower, scikit-learn's.
_LEAST_ADAPTIVE_RATE = 1e-6

# What an inverse power may leave of the learning rate: the velocity, which is kept apart from it, must
# not overflow when it is brought to another rate.
_LEAST_SHARE = 1e-18


@dataclass
class Descent:
    """An optimizer with its state and learning rate, kept from one `partial_fit` to the next.

    Attributes
    ----------
    optimizer : Optimizer
    state : OptimizerState
    schedule : {"constant", "invscaling", "adaptive"}
    learning_rate_init, power_t : float
    learning_rate : float
        That of the next epoch.
    """

    optimizer: Optimizer
    state: OptimizerState
    schedule: str
    learning_rate_init: float
    power_t: float
    learning_rate: float

    @classmethod
    def start(cls, parameters: Parameters, program: Program) -> Descent:
        """Return the state before the first step."""
        assert parameters.optimizer is not None
        rate = parameters.learning_rate
        state = parameters.optimizer.start(len(program.parameters), program.dtype, rate)
        return cls(parameters.optimizer, state, parameters.schedule, rate, parameters.power_t, rate)

    def goes_with(self, parameters: Parameters, program: Program) -> bool:
        """Whether the state is one of these parameters and this network."""
        moments = self.state.moments
        return (
            self.optimizer == parameters.optimizer
            and moments.dtype == program.dtype
            and moments.shape[1] == len(program.parameters)
        )

    def follow(self, parameters: Parameters) -> None:
        """Take over a schedule that has been changed."""
        self.schedule = parameters.schedule
        self.power_t = parameters.power_t
        if self.learning_rate_init != parameters.learning_rate:
            self.learning_rate_init = parameters.learning_rate
            self._set(parameters.learning_rate)

    def after_epoch(self, t: int) -> None:
        """Set the learning rate for after `t` rows in all."""
        if self.schedule == "invscaling":
            too_little = (t + 1) ** -self.power_t < _LEAST_SHARE
            divisor = 1 / _LEAST_SHARE if too_little else (t + 1) ** self.power_t
            self._set(self.learning_rate_init / divisor)

    def slow_down(self) -> bool:
        """Lower the learning rate where the schedule is to when nothing improves; return whether."""
        if self.schedule != "adaptive" or self.learning_rate <= _LEAST_ADAPTIVE_RATE:
            return False
        self._set(self.learning_rate / 5)
        return True

    def _set(self, rate: float) -> None:
        # scikit-learn's velocity has the learning rate in it, cnet's has not: a step keeps the speed of
        # the last one if the velocity makes up for what the rate loses.
        if isinstance(self.optimizer, SGD):
            self.state.moments *= self.learning_rate / rate
        self.learning_rate = rate


class Course(Callback):
    """Records epochs in an estimator's attributes and stops them, as scikit-learn does.

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor
    parameters : Parameters
    descent : Descent
    run : Run
    recorded : callable, optional
        ``recorded(loss)`` returns what to record for the loss of the epoch that has just ended.
    score : callable, optional
        Returns the score on the validation data.
    """

    def __init__(
        self,
        estimator: Any,
        parameters: Parameters,
        descent: Descent,
        run: Run,
        recorded: Callable[[float], float] | None,
        score: Callable[[], float] | None,
    ) -> None:
        self.estimator = estimator
        self.parameters = parameters
        self.descent = descent
        self.run = run
        self.recorded = recorded
        self.score = score
        self.converged = False
        weights = run.program.parameters
        self.best = weights.copy() if parameters.early_stopping else weights[:0]

    @property
    def epochs_at_once(self) -> int:
        """As many epochs as cannot be the last, nor change the learning rate, and that one."""
        if self.score or self.recorded or self.descent.schedule == "invscaling":
            return 1
        left = self.parameters.n_iter_no_change - self.estimator._no_improvement_count
        return int(min(max(left, 0) + 1, self.parameters.max_iter))

    def on_epoch_end(self, network: Any, epoch: int, logs: dict[str, float]) -> bool:
        """Record the epoch; return whether it was the last."""
        estimator, verbose = self.estimator, self.parameters.verbose
        estimator.n_iter_ += 1
        estimator.t_ += self.run.n
        loss = logs["loss"]
        estimator.loss_ = self.recorded(loss) if self.recorded else loss
        estimator.loss_curve_.append(estimator.loss_)
        if verbose:
            print(f"Iteration {estimator.n_iter_}, loss = {estimator.loss_:.8f}")
        if self.score is not None:
            self._observe_score(self.score(), logs)
        if not self.parameters.early_stopping:
            self._observe_loss()
        self.descent.after_epoch(estimator.t_)
        if estimator._no_improvement_count > self.parameters.n_iter_no_change:
            self.converged = not self._slow_down()
        self.run.set_learning_rate(self.descent.learning_rate)
        return self.converged

    def _observe_score(self, score: float, logs: dict[str, float]) -> None:
        estimator, tol = self.estimator, self.parameters.tol
        best = estimator.best_validation_score_
        logs["validation_score"] = estimator._observe_score(score)
        if self.parameters.verbose:
            print(f"Validation score: {score:f}")
        if self.parameters.early_stopping:
            self._count(score < best + tol)
            if score > best:
                np.copyto(self.best, self.run.program.parameters)

    def _observe_loss(self) -> None:
        estimator, tol = self.estimator, self.parameters.tol
        self._count(estimator.loss_ > estimator.best_loss_ - tol)
        estimator.best_loss_ = min(estimator.best_loss_, estimator.loss_)

    def _count(self, unimproved: bool) -> None:
        estimator = self.estimator
        estimator._no_improvement_count = estimator._no_improvement_count + 1 if unimproved else 0

    def _slow_down(self) -> bool:
        """Go on with a lower learning rate, if there is one; say what happens."""
        slower = self.descent.slow_down()
        if slower:
            self.estimator._no_improvement_count = 0
        if self.parameters.verbose:
            what = "validation score" if self.parameters.early_stopping else "training loss"
            then = f"going on with learning rate {self.descent.learning_rate:g}"
            print(
                f"No better {what}, by tol={self.parameters.tol:g}, for more than "
                f"{self.parameters.n_iter_no_change} epochs: {then if slower else 'stopping'}."
            )
        return slower


def fit(network: Any, course: Course, *, warn: bool) -> None:
    """Train a network until its course is run.

    Raises
    ------
    ValueError
        Where training diverges and there are no best weights to go back to.
    """
    estimator, parameters = course.estimator, course.parameters
    run = course.run
    prepared = Training(
        run,
        verbose=False,
        callbacks=[course, *parameters.callbacks],
        assessment=Assessment([], None),
        logged=["validation_score"] if course.score else [],
    )
    network.history = History(loss=[])
    try:
        prepared.start(network, network.history)
        if warn and not course.converged and estimator.n_iter_ == parameters.max_iter:
            warnings.warn(
                f"training ended after max_iter={parameters.max_iter} epochs, before the "
                f"{'validation score' if parameters.early_stopping else 'loss'} stopped improving",
                ConvergenceWarning,
                stacklevel=5,
            )
    except KeyboardInterrupt:
        warnings.warn(
            "Training interrupted by user: the weights are those of the last finished epoch",
            stacklevel=5,
        )
    except DivergenceError as error:
        if not parameters.early_stopping:
            raise ValueError(DIVERGED) from error
        estimator.validation_scores_.append(float("nan"))
        warnings.warn(
            f"training diverged in epoch {estimator.n_iter_ + 1}; the weights are the best from "
            "before. A lower learning_rate_init or scaled inputs may help",
            ConvergenceWarning,
            stacklevel=5,
        )
    finally:
        if parameters.early_stopping:
            np.copyto(run.program.parameters, course.best)


DIVERGED = (
    "Solver produced non-finite parameter weights. The input data may contain large values and need to "
    "be preprocessed. The weights are those of the last finished epoch"
)


class Shuffling:
    """The order of rows in each epoch, drawn as scikit-learn draws it.

    Parameters
    ----------
    n : int
    random_state : numpy.random.RandomState

    Attributes
    ----------
    order : ndarray of shape (n,), intp
        That of the epoch last asked for.
    """

    def __init__(self, n: int, random_state: np.random.RandomState) -> None:
        self.order = np.arange(n)
        self.random_state = random_state

    def __call__(self, n: int) -> NDArray[np.intp]:
        """Return the order of the next epoch: that of the last one, shuffled."""
        self.order = self.order[self.random_state.permutation(n)]
        return self.order
