"""Training by batches: records of the epochs, and when to stop, as in scikit-learn."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from cnet.callbacks import Callback, ImprovementByTol
from cnet.estimators._parameters import Parameters
from cnet.history import DivergenceError
from cnet.model import Model
from cnet.network import NeuralNetwork
from cnet.optimizers import Optimizer
from cnet.schedules import Scheduler

DIVERGED = (
    "Solver produced non-finite parameter weights. The input data may contain large values and need to "
    "be preprocessed. The weights are those of the last finished epoch"
)


class Records(Protocol):
    """What an estimator shows of its training; see `MLPClassifier`."""

    n_iter_: int
    t_: int
    loss_: float
    loss_curve_: list[float]
    best_loss_: float | None
    validation_scores_: list[float] | None
    best_validation_score_: float | None


def scheduler_for(
    parameters: Parameters, optimizer: Optimizer, model: Model, last: Scheduler | None
) -> Scheduler:
    """Return the last scheduler if training can continue with it, and otherwise a new one.

    Parameters
    ----------
    parameters : Parameters
    optimizer : Optimizer
    model : Model
    last : Scheduler or None
        Holds the learning rate and the optimizer's state of the last training.
    """
    rate = parameters.learning_rate
    if last is None or not _goes_with(last, optimizer, model):
        state = optimizer.start(len(model.parameters), model.dtype, rate)
        return Scheduler(parameters.schedule, rate, state, watch=False)
    last.follow(parameters.schedule)
    if last.base != rate:
        last.restart_from(rate)
    return last


def _goes_with(scheduler: Scheduler, optimizer: Optimizer, model: Model) -> bool:
    """Whether the scheduler has a state of this optimizer for this model."""
    state = scheduler.state
    return (
        state is not None
        and state.optimizer == optimizer
        and state.moments.dtype == model.dtype
        and state.moments.shape[1] == len(model.parameters)
    )


class FitRecords(Callback):
    """Records epochs, or iterations of L-BFGS, in an estimator's attributes.

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor
    score : callable or None
        Returns the score on the validation data.
    verbose : bool
        Whether to print the loss and the score.
    recorded : callable, optional
        ``recorded(loss)`` returns the value to record for the loss of the last epoch.
    """

    def __init__(
        self,
        estimator: Records,
        score: Callable[[], float] | None,
        verbose: bool,
        recorded: Callable[[float], float] | None = None,
    ) -> None:
        self.estimator = estimator
        self.score = score
        self.verbose = verbose
        self.recorded = recorded

    def on_epoch_end(self, network: NeuralNetwork, epoch: int, logs: dict[str, float]) -> bool:
        """Record the loss and the score."""
        estimator = self.estimator
        estimator.n_iter_ = epoch + 1
        loss = logs["loss"]
        estimator.loss_ = self.recorded(loss) if self.recorded else loss
        estimator.loss_curve_.append(estimator.loss_)
        if self.verbose:
            print(f"Iteration {estimator.n_iter_}, loss = {estimator.loss_:.8f}")
        if self.score is not None:
            score = logs["validation_score"] = self.score()
            assert estimator.validation_scores_ is not None
            assert estimator.best_validation_score_ is not None
            estimator.validation_scores_.append(score)
            if score > estimator.best_validation_score_:
                estimator.best_validation_score_ = score
            if self.verbose:
                print(f"Validation score: {score:f}")
        return False


class FitMonitor(FitRecords):
    """Records epochs in an estimator's attributes, and stops training as scikit-learn does.

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor
    parameters : Parameters
    scheduler : Scheduler
    recorded, score
        As in `FitRecords`.
    epochs_without : int
        Number of epochs without improvement at the end of the last training.

    Attributes
    ----------
    improvement : ImprovementByTol
        Counts the epochs without improvement.
    converged : bool
        Whether training has stopped because there was no improvement.
    """

    def __init__(
        self,
        estimator: Records,
        parameters: Parameters,
        scheduler: Scheduler,
        recorded: Callable[[float], float] | None,
        score: Callable[[], float] | None,
        epochs_without: int,
    ) -> None:
        super().__init__(estimator, score, parameters.verbose, recorded)
        self.parameters = parameters
        self.scheduler = scheduler
        self.converged = False
        best = (
            estimator.best_validation_score_ if parameters.early_stopping else estimator.best_loss_
        )
        assert best is not None
        self.improvement = ImprovementByTol(
            greater=parameters.early_stopping, min_delta=parameters.tol
        )
        self.improvement.best = best
        self.improvement.epochs_without = epochs_without
        self._best: list[NDArray[Any]] = []

    @property
    def epochs_at_once(self) -> int:
        """The number of epochs after which training may stop or the learning rate change."""
        if self.score or self.recorded:
            return 1
        left = self.parameters.n_iter_no_change - self.improvement.epochs_without
        return int(min(max(left, 0) + 1, self.parameters.max_iter))

    def on_train_begin(self, network: NeuralNetwork) -> None:
        """Store the weights as the best ones so far."""
        if self.parameters.early_stopping:
            self._best = [network.parameters.copy(), network.buffers.copy()]

    def on_epoch_end(self, network: NeuralNetwork, epoch: int, logs: dict[str, float]) -> bool:
        """Record the epoch, and return whether it was the last."""
        estimator, improvement = self.estimator, self.improvement
        super().on_epoch_end(network, epoch, logs)
        estimator.t_ = self.scheduler.n_rows
        if self.parameters.early_stopping:
            best, score = improvement.best, logs["validation_score"]
            improvement.observe(score)
            if score > best:
                self._best = [network.parameters.copy(), network.buffers.copy()]
        else:
            improvement.observe(estimator.loss_)
            estimator.best_loss_ = improvement.best
        if improvement.epochs_without > self.parameters.n_iter_no_change:
            self.converged = not self._slow_down()
        return self.converged

    def restore_best(self, network: NeuralNetwork) -> None:
        """With early stopping, set the network's weights to those with the best score."""
        if self._best:
            np.copyto(network.parameters, self._best[0])
            np.copyto(network.buffers, self._best[1])

    def _slow_down(self) -> bool:
        """Lower the learning rate if the schedule does so, and say what happens."""
        slower = self.scheduler.slow_down()
        if slower:
            self.improvement.epochs_without = 0
        if self.parameters.verbose:
            what = "validation score" if self.parameters.early_stopping else "training loss"
            then = f"going on with learning rate {self.scheduler.learning_rate:g}"
            print(
                f"No better {what}, by tol={self.parameters.tol:g}, for more than "
                f"{self.parameters.n_iter_no_change} epochs: {then if slower else 'stopping'}."
            )
        return slower


def fit(
    train: Callable[[], Any], network: NeuralNetwork, monitor: FitMonitor, *, warn: bool
) -> None:
    """Train a network as `monitor` says.

    Parameters
    ----------
    train : callable
        Trains the network, with `monitor` as a callback.
    network : NeuralNetwork
    monitor : FitMonitor
    warn : bool
        Whether to warn if training ends before it has converged.

    Raises
    ------
    ValueError
        If training diverges, and there are no best weights to go back to.
    """
    estimator, parameters = monitor.estimator, monitor.parameters
    try:
        train()
        if warn and not monitor.converged and estimator.n_iter_ == parameters.max_iter:
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
        assert estimator.validation_scores_ is not None
        estimator.validation_scores_.append(float("nan"))
        warnings.warn(
            f"training diverged in epoch {estimator.n_iter_ + 1}; the weights are the best from "
            "before. A lower learning_rate_init or scaled inputs may help",
            ConvergenceWarning,
            stacklevel=5,
        )
    finally:
        monitor.restore_best(network)


class Shuffling:
    """The order of rows in each epoch, drawn as in scikit-learn.

    Parameters
    ----------
    n : int
    random_state : numpy.random.RandomState

    Attributes
    ----------
    order : ndarray of shape (n,), intp
        The order of the last epoch.
    """

    def __init__(self, n: int, random_state: np.random.RandomState) -> None:
        self.order = np.arange(n)
        self.random_state = random_state

    def __call__(self, n: int) -> NDArray[np.intp]:
        """Return the order of the next epoch, a permutation of the last one."""
        # As `order[random_state.permutation(n)]`, in half the time.
        self.random_state.shuffle(self.order)
        return self.order.copy()
