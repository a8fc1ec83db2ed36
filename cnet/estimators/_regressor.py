"""MLPRegressor: regression with a neural network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import RegressorMixin
from sklearn.utils.metaestimators import available_if

from cnet.callbacks import Callbacks
from cnet.estimators._base import BaseMLP
from cnet.estimators._coding import Coding, Numbers
from cnet.estimators._parameters import (
    HiddenActivation,
    LearningRate,
    RandomState,
    Scoring,
    Solver,
    is_stochastic,
    regression_loss,
)
from cnet.estimators._rows import Matrix
from cnet.losses import Loss, LossFunction, LossName
from cnet.optimizers import Optimizer


class MLPRegressor(RegressorMixin, BaseMLP):
    """Multi-layer perceptron regressor: scikit-learn's MLPRegressor with more options.

    Parameters
    ----------
    loss : str, cnet.Loss or callable, default "squared_error"
        squared_error, poisson (for counts, with exp as output activation), absolute_error, huber,
        "quantile(q)" for a quantile of the target, binary_cross_entropy (for proportions, with the
        logistic function as output activation), or an object such as ``cnet.Huber(0.5)``. A function
        ``loss(y_true, y_pred) -> (value, gradient)`` is called for every batch, and does its own
        reduction.
    hidden_layer_sizes, activation, solver, …
        As in `MLPClassifier`; there is no `class_weight`.

    Attributes
    ----------
    network_ : cnet.NeuralNetwork
        The trained network. The other attributes are those of `MLPClassifier`, except `classes_`.

    Examples
    --------
    >>> from cnet.estimators import MLPRegressor
    >>> model = MLPRegressor(hidden_layer_sizes=(8,), solver="lbfgs", random_state=0)
    >>> model.fit([[0.0], [1.0], [2.0], [3.0]], [0.0, 2.0, 4.0, 6.0]).predict([[1.5]]).round(2)
    array([3.])
    """

    _y_is_numeric = True
    _averages_outputs = True

    def __init__(
        self,
        loss: LossName | Loss | LossFunction = "squared_error",
        hidden_layer_sizes: int | Iterable[int] = (100,),
        activation: HiddenActivation | Sequence[HiddenActivation] = "relu",
        *,
        solver: Solver | Optimizer = "adam",
        alpha: float = 0.0001,
        batch_size: int | Literal["auto"] = "auto",
        learning_rate: LearningRate = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: RandomState = None,
        tol: float = 1e-4,
        verbose: bool | int = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        l1: float = 0.0,
        max_norm: float | None = None,
        dropout: float | Sequence[float] = 0.0,
        scoring: Scoring = None,
        callbacks: Callbacks = None,
        batch_norm: bool = False,
        layer_norm: bool = False,
    ) -> None:
        self._keep(locals())

    def fit(
        self,
        X: Matrix,  # noqa: N803
        y: Matrix,
        sample_weight: ArrayLike | None = None,
        *,
        X_val: Matrix | None = None,  # noqa: N803
        y_val: Matrix | None = None,
        sample_weight_val: ArrayLike | None = None,
    ) -> Self:
        """Train the network, in the same way as `MLPClassifier.fit` but with numbers as y.

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

    @available_if(is_stochastic)
    def partial_fit(
        self,
        X: Matrix,  # noqa: N803
        y: Matrix,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Train the network for one epoch, from the present weights.

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

    def predict(self, X: Matrix) -> NDArray[Any]:  # noqa: N803
        """Return predictions.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n, n_features)

        Returns
        -------
        ndarray of shape (n,), or (n, n_outputs) for more than one output
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

    def _as_loss(self, coding: Coding) -> Loss:
        loss, _ = regression_loss(self.loss)
        return loss

    def _default_score(
        self, outputs: NDArray[Any], y: Any, sample_weight: NDArray[Any] | None
    ) -> float:
        if not np.isfinite(outputs).all():
            return float("nan")
        return _r2(y.reshape(outputs.shape), outputs, sample_weight)


def _r2(y: NDArray[Any], outputs: NDArray[Any], sample_weight: NDArray[Any] | None) -> float:
    """Return the mean of R² over the outputs, as scikit-learn's r2_score.

    r2_score takes some 400 µs for its checks, which is longer than an epoch of a small data set.
    """
    weights = np.ones((len(y), 1)) if sample_weight is None else sample_weight[:, np.newaxis]
    mean = (weights * y).sum(axis=0) / weights.sum()
    unexplained = (weights * (y - outputs) ** 2).sum(axis=0, dtype=np.float64)
    total = (weights * (y - mean) ** 2).sum(axis=0, dtype=np.float64)
    # The score for a constant target is 1 if all predictions are exact, and 0 otherwise.
    scores = np.where(unexplained == 0, 1.0, 0.0)
    varies = total > 0
    scores[varies] = 1 - unexplained[varies] / total[varies]
    return float(scores.mean())
