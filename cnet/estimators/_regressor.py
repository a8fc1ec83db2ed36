"""MLPRegressor: numbers from a network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlogy
from sklearn.base import RegressorMixin
from sklearn.utils.metaestimators import available_if

from cnet._arrays import Data
from cnet._core import engine
from cnet.estimators._base import BaseMLP
from cnet.estimators._coding import Coding, Numbers
from cnet.estimators._parameters import regression_loss
from cnet.estimators._stochastic import Shuffling
from cnet.losses import Loss, LossFunction, Poisson, SquaredError
from cnet.training import Run


class MLPRegressor(RegressorMixin, BaseMLP):
    """Regression by a fully connected network: scikit-learn's MLPRegressor, and more.

    Parameters
    ----------
    loss : str, cnet.Loss or callable, default "squared_error"
        squared_error, poisson (after exp, for counts), absolute_error, huber, "quantile(q)" for a
        quantile of the target, binary_cross_entropy (after the logistic function, for shares), or an
        object such as ``cnet.Huber(0.5)``. A function ``loss(y_true, y_pred) -> (value, gradient)`` is
        called for every batch, and does its own reduction.
    hidden_layer_sizes, activation, solver, …
        As in `MLPClassifier`; there is no `class_weight`.

    Attributes
    ----------
    network_ : cnet.NeuralNetwork
        And the others of `MLPClassifier`, but for `classes_`.

    Examples
    --------
    >>> from cnet.estimators import MLPRegressor
    >>> model = MLPRegressor(hidden_layer_sizes=(8,), solver="lbfgs", random_state=0)
    >>> model.fit([[0.0], [1.0], [2.0], [3.0]], [0.0, 2.0, 4.0, 6.0]).predict([[1.5]]).round(2)
    array([3.])
    """

    _y_is_numeric = True

    def __init__(
        self,
        loss: Any = "squared_error",
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        solver: Any = "adam",
        alpha: float = 0.0001,
        batch_size: Any = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: Any = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: Any = 10,
        max_fun: int = 15000,
        l1: float = 0.0,
        max_norm: float | None = None,
        dropout: Any = 0.0,
        scoring: Any = None,
        callbacks: Any = None,
    ) -> None:
        self._keep(locals())

    def fit(
        self,
        X: Any,  # noqa: N803
        y: Any,
        sample_weight: Any = None,
        *,
        X_val: Any = None,  # noqa: N803
        y_val: Any = None,
        sample_weight_val: Any = None,
    ) -> Self:
        """Train the network; as `MLPClassifier.fit`, y being numbers.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n, n_features)
        y : array-like or sparse matrix of shape (n,) or (n, n_outputs)
        sample_weight, X_val, y_val, sample_weight_val
            As in `MLPClassifier.fit`.

        Returns
        -------
        MLPRegressor
            The estimator itself.
        """
        held_out = (X_val, y_val, sample_weight_val)
        return self._fit(X, y, sample_weight, held_out=held_out)

    @available_if(BaseMLP._is_stochastic)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:  # noqa: N803
        """Go through some rows once, starting where the network stands.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`.

        Returns
        -------
        MLPRegressor
            The estimator itself.
        """
        return self._fit(X, y, sample_weight, incremental=True)

    def predict(self, X: Any) -> NDArray[Any]:  # noqa: N803
        """Return predictions.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n, n_features)

        Returns
        -------
        ndarray of shape (n,), or (n, n_outputs) with more than one output
            In the dtype of the network.
        """
        outputs = self._outputs(X)
        return outputs.reshape(-1) if outputs.shape[1] == 1 else outputs

    def _as_coding(self, y: Any, classes: Any, *, first: bool, incremental: bool) -> Coding:
        _, activation = regression_loss(self.loss)
        return Numbers(1 if y.ndim == 1 else y.shape[1], activation)

    def _given_coding(self) -> Coding:
        _, activation = regression_loss(self.loss)
        return Numbers(len(self.intercepts_[-1]), activation)

    def _as_loss(self, coding: Coding) -> Loss | LossFunction:
        loss, _ = regression_loss(self.loss)
        return loss

    def _default_score(
        self, outputs: NDArray[Any], y: Any, sample_weight: NDArray[Any] | None
    ) -> float:
        if not np.isfinite(outputs).all():
            return float("nan")
        return _r2(y.reshape(outputs.shape), outputs, sample_weight)

    # What scikit-learn calls the loss: of squared_error the mean over the outputs, whose sum is what is
    # minimised; of poisson the deviance, which is 0 where predictions are right.

    def _recorded_scale(self, loss: Loss | LossFunction, n_outputs: int) -> float:
        return 1 / n_outputs if isinstance(loss, SquaredError) else 1.0

    def _recorded_by_batches(self, run: Run) -> Callable[[float], float] | None:
        if not isinstance(run.settings.loss, Poisson):
            return None
        least = _least_poisson(run.data)
        weights = run.data.sample_weight.astype(np.float64)
        shuffling = run.settings.order
        starts = np.arange(0, run.n, run.batch_size)
        sizes = np.diff([*starts, run.n])

        def recorded(value: float) -> float:
            order = shuffling.order if isinstance(shuffling, Shuffling) else np.arange(run.n)
            order = order if run.rows is None else run.rows[order]
            of_rows = least[order]
            if not weights.size:
                return value + float(of_rows.mean())
            sums = np.add.reduceat(weights[order], starts)
            weighted = np.add.reduceat(weights[order] * of_rows, starts)
            means = np.divide(weighted, sums, out=np.zeros_like(sums), where=sums > 0)
            return value + float(means @ sizes) / run.n

        return recorded

    def _constant(self, data: Data, loss: Loss | LossFunction) -> float:
        if not isinstance(loss, Poisson):
            return 0.0
        weights = data.sample_weight if data.sample_weight.size else None
        return float(np.average(_least_poisson(data), weights=weights))

    def _recorded_by_lbfgs(
        self, data: Data, loss: Loss | LossFunction
    ) -> Callable[[float], float] | None:
        n_outputs: int = data.targets.shape[1]
        if n_outputs == 1 or not isinstance(loss, SquaredError):
            return None
        program = self.network_._ready()
        total = float(data.sample_weight.sum()) if data.sample_weight.size else len(data.targets)

        def recorded(value: float) -> float:
            penalty = float(engine.penalty(program.rows, program.parameters)) / total
            return (value - penalty) / n_outputs + penalty

        return recorded


def _r2(y: NDArray[Any], outputs: NDArray[Any], sample_weight: NDArray[Any] | None) -> float:
    """Return the mean over the outputs of R², as scikit-learn's r2_score does.

    Which takes some 400 µs for its checks, longer than an epoch of many a data set.
    """
    weights = np.ones((len(y), 1)) if sample_weight is None else sample_weight[:, np.newaxis]
    mean = (weights * y).sum(axis=0) / weights.sum()
    unexplained = (weights * (y - outputs) ** 2).sum(axis=0, dtype=np.float64)
    total = (weights * (y - mean) ** 2).sum(axis=0, dtype=np.float64)
    # A target that is constant is either met or not.
    scores = np.where(unexplained == 0, 1.0, 0.0)
    varies = total > 0
    scores[varies] = 1 - unexplained[varies] / total[varies]
    return float(scores.mean())


def _least_poisson(data: Data) -> NDArray[np.float64]:
    """Return what scikit-learn's Poisson deviance has beside cnet's loss, for each row."""
    targets = data.targets.astype(np.float64)
    least: NDArray[np.float64] = (xlogy(targets, targets) - targets).sum(axis=1)
    return least
