"""Held-out rows, and the score on them after each epoch."""

from __future__ import annotations

import copy
from collections.abc import Callable
from inspect import signature
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.metrics import get_scorer, get_scorer_names
from sklearn.model_selection import train_test_split

from cnet._checks import listed
from cnet._plan import Plan
from cnet.data import Data
from cnet.estimators._coding import Coding
from cnet.estimators._network import changed
from cnet.estimators._parameters import Parameters
from cnet.estimators._rows import forward, mean_loss
from cnet.losses import Loss
from cnet.metrics import METRICS, Truth
from cnet.network import NeuralNetwork

Score: TypeAlias = Callable[[NDArray[Any], Any, NDArray[Any] | None], float]


class Validation:
    """Held-out rows, and the ways of computing a score on them.

    Parameters
    ----------
    y : ndarray
        Targets as the user gave them.
    data : Data
        Rows, targets and weights as the engine reads them; ``data.x`` may be a CSR matrix.
    """

    def __init__(self, y: NDArray[Any], data: Data) -> None:
        self.y = y
        self.data = data

    def scorer(
        self,
        estimator: BaseEstimator,
        scoring: Any,
        network: NeuralNetwork,
        loss: Loss,
        default_score: Score,
    ) -> Callable[[], float]:
        """Return a function that computes the score with the present weights.

        Parameters
        ----------
        estimator : MLPClassifier or MLPRegressor
            The estimator that scikit-learn's scorers are called with.
        scoring : object
            The estimator's parameter.
        network : NeuralNetwork
        loss : Loss
            The loss for ``scoring="loss"``.
        default_score : callable
            ``default_score(outputs, y, sample_weight)`` is the score if `scoring` is None.

        Raises
        ------
        ValueError
            If `scoring` is unknown.
        """
        weights = self.data.sample_weight if self.data.sample_weight.size else None
        if scoring is None:
            return lambda: default_score(self._outputs(network), self.y, weights)
        if isinstance(scoring, str) and scoring == "loss":
            # Without penalties, which do not measure how good predictions are.
            plan = Plan(network.model, [changed(layer, l1=0.0, l2=0.0) for layer in network.layers])
            return lambda: -mean_loss(plan, self.data, loss)
        if isinstance(scoring, str) and scoring not in get_scorer_names():
            return self._metric(network, scoring)
        if not isinstance(scoring, str) and not callable(scoring):
            raise _unknown(scoring)
        score = get_scorer(scoring)
        arguments = {}
        # scikit-learn's scorers take weights. A function takes them if it has the argument.
        if weights is not None and "sample_weight" in signature(score).parameters:
            arguments["sample_weight"] = weights

        def value() -> float:
            # The rows are an array without names, so the estimator must not expect names.
            nameless = copy.copy(estimator)
            nameless.__dict__.pop("feature_names_in_", None)
            return float(score(nameless, self.data.x, self.y, **arguments))

        return value

    def _metric(self, network: NeuralNetwork, name: str) -> Callable[[], float]:
        """Return a function for a metric of cnet, negated if lower is better."""
        if name not in METRICS:
            raise _unknown(name)
        if self.data.sample_weight.size:
            raise ValueError(
                f"scoring must be a scorer of scikit-learn with sample_weight, got {name!r}"
            )
        metric, truth = METRICS[name], Truth(self.data.targets, self.data.labels)
        sign = 1 if metric.greater_is_better else -1
        return lambda: sign * metric.function(truth, self._outputs(network))

    def _outputs(self, network: NeuralNetwork) -> NDArray[Any]:
        return forward(network.trainer.plan, self.data.x)


def _unknown(scoring: Any) -> ValueError:
    return ValueError(
        f"scoring must be 'loss', one of {listed(METRICS)}, the name of a scorer of scikit-learn or a "
        f"function (estimator, X, y), got {scoring!r}"
    )


def hold_out(
    parameters: Parameters,
    y: Any,
    data: Data,
    coding: Coding,
    random_state: np.random.RandomState,
) -> tuple[NDArray[np.intp], Validation]:
    """Return the rows to train on, and the others as validation data, as in scikit-learn.

    Raises
    ------
    ValueError
        If fewer than two rows would be held out, or all of these have weight 0.
    """
    n, fraction = data.x.shape[0], parameters.validation_fraction
    stratify = None
    if coding.stratified:
        stratify = np.where(data.targets[:, 0] > 0, "True", "False")
    rows, others = train_test_split(
        np.arange(n), random_state=random_state, test_size=fraction, stratify=stratify
    )
    if len(others) < 2:
        raise ValueError(
            "The validation set is too small: it must have at least two rows, got "
            f"{len(others)} of {n}. Increase validation_fraction, {fraction:g}, or use X_val"
        )
    held_out = data.of_rows(others)
    if held_out.sample_weight.size and not held_out.sample_weight.any():
        raise ValueError(
            "sample_weight must have a weight above zero among the rows that are held out; "
            "use another random_state, or choose the rows with X_val"
        )
    return rows, Validation(y[others], held_out)
