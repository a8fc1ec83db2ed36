"""Data that are held out, and the score on them after each epoch."""

from __future__ import annotations

import copy
from collections.abc import Callable
from inspect import signature
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import get_scorer, get_scorer_names
from sklearn.model_selection import train_test_split

from cnet._arrays import Data
from cnet._checks import listed
from cnet.estimators._rows import forward, mean_loss
from cnet.metrics import METRICS, Truth


class Validation:
    """Held-out rows and how an estimator scores on them.

    Parameters
    ----------
    y : ndarray
        Targets as the user gave them.
    data : Data
        Rows, targets and weights for the engine; ``data.x`` may be a matrix in compressed rows.
    """

    def __init__(self, y: NDArray[Any], data: Data) -> None:
        self.y = y
        self.data = data

    def scorer(self, estimator: Any) -> Callable[[], float]:
        """Return a function that scores the estimator's network as it is when it is called.

        Raises
        ------
        ValueError
            Where the estimator's `scoring` is unknown.
        """
        scoring = estimator.scoring
        weights = self.data.sample_weight if self.data.sample_weight.size else None
        if scoring is None:
            return lambda: estimator._default_score(self._outputs(estimator), self.y, weights)
        if isinstance(scoring, str) and scoring == "loss":
            return lambda: -self._loss(estimator)
        if isinstance(scoring, str) and scoring not in get_scorer_names():
            return self._metric(estimator, scoring)
        if not isinstance(scoring, str) and not callable(scoring):
            raise _unknown(scoring)
        score = get_scorer(scoring)
        arguments = {}
        # scikit-learn's scorers take weights, and a function where it says so.
        if weights is not None and "sample_weight" in signature(score).parameters:
            arguments["sample_weight"] = weights

        def value() -> float:
            # Rows are an array by now; the estimator must not miss their names.
            nameless = copy.copy(estimator)
            nameless.__dict__.pop("feature_names_in_", None)
            return float(score(nameless, self.data.x, self.y, **arguments))

        return value

    def _metric(self, estimator: Any, name: str) -> Callable[[], float]:
        """Return the score by one of cnet's own metrics, negated where less is better."""
        if name not in METRICS:
            raise _unknown(name)
        if self.data.sample_weight.size:
            raise ValueError(
                f"scoring must be a scorer of scikit-learn with sample_weight, got {name!r}"
            )
        metric, truth = METRICS[name], Truth(self.data.targets, self.data.labels)
        sign = 1 if metric.greater_is_better else -1
        return lambda: sign * metric.function(truth, self._outputs(estimator))

    def _outputs(self, estimator: Any) -> NDArray[Any]:
        return forward(estimator.network_._ready(), estimator._plan, self.data.x)

    def _loss(self, estimator: Any) -> float:
        """Return the loss without penalties, which have no part in how good predictions are."""
        network = estimator.network_
        plan = estimator._plan._replace(l1=0.0, l2=0.0)
        return mean_loss(plan.program(network._ready()), self.data, network._loss)


def _unknown(scoring: Any) -> ValueError:
    return ValueError(
        f"scoring must be 'loss', one of {listed(METRICS)}, the name of a scorer of scikit-learn or a "
        f"function (estimator, X, y), got {scoring!r}"
    )


def split(
    n: int, fraction: float, stratify: NDArray[Any] | None, random_state: np.random.RandomState
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return which of n rows to train on, and which to hold out, as scikit-learn divides them.

    Raises
    ------
    ValueError
        Where fewer than two rows would be held out.
    """
    training, held_out = train_test_split(
        np.arange(n), random_state=random_state, test_size=fraction, stratify=stratify
    )
    if len(held_out) < 2:
        raise ValueError(
            "The validation set is too small: it must have at least two rows, got "
            f"{len(held_out)} of {n}. Increase validation_fraction, {fraction:g}, or give X_val"
        )
    return training, held_out
