"""Metrics, and the conversion of outputs to classes.

Many metrics call scikit-learn, which is imported on first use. To add a metric, write a function of
`Truth` and outputs, and list it in `METRICS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cnet._checks import guess, listed


def classes(outputs: NDArray[Any]) -> NDArray[np.intp]:
    """Return the class of each row: the largest of several outputs, or whether a single one exceeds 0.5.

    Parameters
    ----------
    outputs : ndarray of shape (n, n_outputs)

    Returns
    -------
    ndarray of shape (n,), intp
    """
    if outputs.shape[1] == 1:
        return np.asarray(outputs[:, 0] > 0.5, np.intp)
    return np.asarray(outputs.argmax(axis=1), np.intp)


@dataclass(frozen=True)
class Truth:
    """True targets or labels to compare outputs with.

    Attributes
    ----------
    targets : ndarray of shape (n, n_outputs), or (0, 0) if there are labels
    labels : ndarray of shape (n,), or (0,) if there are targets
    """

    targets: NDArray[Any]
    labels: NDArray[np.intp]

    @property
    def is_multilabel(self) -> bool:
        """Whether the targets are multilabel: several columns of 0 and 1, not one-hot."""
        targets = self.targets
        if targets.shape[1] < 2 or not np.isin(targets, (0, 1)).all():
            return False
        return bool((targets.sum(axis=1) != 1).any())

    @property
    def classes(self) -> NDArray[np.intp]:
        """Class of each row, shape (n,); for multilabel targets, shape (n, n_outputs)."""
        if self.labels.size:
            return self.labels
        return np.asarray(self.targets, np.intp) if self.is_multilabel else classes(self.targets)

    @property
    def given(self) -> NDArray[Any]:
        """Labels or targets for the user's function; one-dimensional if there is one output."""
        return self.labels if self.labels.size else _squeezed(self.targets)

    def predicted(self, outputs: NDArray[Any]) -> NDArray[np.intp]:
        """Return the predicted classes, in the format of `classes`."""
        if self.is_multilabel and not self.labels.size:
            return np.asarray(outputs > 0.5, np.intp)
        return classes(outputs)

    def one_hot(self, outputs: NDArray[Any]) -> NDArray[Any]:
        """Return labels as one-hot rows with the width of `outputs`, or the targets."""
        return np.eye(outputs.shape[1])[self.labels] if self.labels.size else self.targets


def _squeezed(rows: NDArray[Any]) -> NDArray[Any]:
    return rows[:, 0] if rows.shape[1] == 1 else rows


def _scikit_learn() -> Any:
    try:
        import sklearn.metrics
    except ImportError as error:
        raise ImportError(
            "this metric requires scikit-learn, which is not installed: pip install cnet[sklearn]"
        ) from error
    return sklearn.metrics


def accuracy(truth: Truth, outputs: NDArray[Any]) -> float:
    """Return the fraction of rows whose class is right, or whose labels are all right."""
    right = truth.classes == truth.predicted(outputs)
    return float(np.mean(right if right.ndim == 1 else right.all(axis=1)))


def _mae(truth: Truth, outputs: NDArray[Any]) -> float:
    return float(np.mean(np.abs(truth.one_hot(outputs) - outputs), dtype=np.float64))


def _mse(truth: Truth, outputs: NDArray[Any]) -> float:
    return float(np.mean((truth.one_hot(outputs) - outputs) ** 2, dtype=np.float64))


def _rmse(truth: Truth, outputs: NDArray[Any]) -> float:
    return float(np.sqrt(_mse(truth, outputs)))


def _r2(truth: Truth, outputs: NDArray[Any]) -> float:
    return float(_scikit_learn().r2_score(truth.one_hot(outputs), outputs))


def _auc(truth: Truth, outputs: NDArray[Any]) -> float:
    if truth.is_multilabel or outputs.shape[1] == 1:
        return float(
            _scikit_learn().roc_auc_score(_squeezed(truth.one_hot(outputs)), _squeezed(outputs))
        )
    if outputs.shape[1] == 2:
        return float(_scikit_learn().roc_auc_score(truth.classes, outputs[:, 1]))
    # scikit-learn requires the probabilities of a row to sum to 1, more precisely than float32 can.
    probabilities = outputs / outputs.sum(axis=1, keepdims=True, dtype=np.float64)
    return float(
        _scikit_learn().roc_auc_score(
            truth.classes, probabilities, multi_class="ovr", labels=range(outputs.shape[1])
        )
    )


def _log_loss(truth: Truth, outputs: NDArray[Any]) -> float:
    targets = truth.one_hot(outputs)
    if truth.is_multilabel:
        columns = range(outputs.shape[1])
        return sum(_log_loss_of(targets[:, j], outputs[:, j]) for j in columns) / len(columns)
    if outputs.shape[1] == 1:
        return _log_loss_of(targets[:, 0], outputs[:, 0])
    probabilities = outputs / outputs.sum(axis=1, keepdims=True, dtype=np.float64)
    return _log_loss_of(truth.classes, probabilities, outputs.shape[1])


def _log_loss_of(labels: NDArray[Any], probabilities: NDArray[Any], n_classes: int = 2) -> float:
    found = _scikit_learn().log_loss(
        labels, np.asarray(probabilities, np.float64), labels=range(n_classes)
    )
    return float(found)


def _of_classes(name: str) -> Callable[[Truth, NDArray[Any]], float]:
    """Return scikit-learn's score of that name; for more than two classes, the macro average."""

    def score(truth: Truth, outputs: NDArray[Any]) -> float:
        binary = outputs.shape[1] <= 2 and not truth.is_multilabel
        function = getattr(_scikit_learn(), name)
        average = "binary" if binary else "macro"
        predicted = truth.predicted(outputs)
        return float(function(truth.classes, predicted, average=average, zero_division=0.0))

    return score


def _balanced_accuracy(truth: Truth, outputs: NDArray[Any]) -> float:
    return float(_scikit_learn().balanced_accuracy_score(truth.classes, classes(outputs)))


class Metric(NamedTuple):
    """A metric as used in training.

    Attributes
    ----------
    name : str
        Its name in `History`.
    function : callable
        ``function(truth, outputs) -> float``.
    greater_is_better : bool
    """

    name: str
    function: Callable[[Truth, NDArray[Any]], float]
    greater_is_better: bool


METRICS = {
    metric.name: metric
    for metric in (
        Metric("accuracy", accuracy, True),
        Metric("auc", _auc, True),
        Metric("balanced_accuracy", _balanced_accuracy, True),
        Metric("f1", _of_classes("f1_score"), True),
        Metric("log_loss", _log_loss, False),
        Metric("mae", _mae, False),
        Metric("mse", _mse, False),
        Metric("precision", _of_classes("precision_score"), True),
        Metric("r2", _r2, True),
        Metric("recall", _of_classes("recall_score"), True),
        Metric("rmse", _rmse, False),
    )
}


def values_of(metrics: Iterable[Metric], truth: Truth, outputs: NDArray[Any]) -> dict[str, float]:
    """Return the values of the metrics, by name."""
    return {metric.name: metric.function(truth, outputs) for metric in metrics}


MetricFunction: TypeAlias = Callable[[NDArray[Any], NDArray[Any]], float]
MetricName: TypeAlias = Literal[
    "accuracy",
    "auc",
    "balanced_accuracy",
    "f1",
    "log_loss",
    "mae",
    "mse",
    "precision",
    "r2",
    "recall",
    "rmse",
]
AnyMetric: TypeAlias = MetricName | MetricFunction
Metrics: TypeAlias = AnyMetric | Iterable[AnyMetric] | Mapping[str, AnyMetric] | None


def greater_is_better(name: str) -> bool:
    """Return whether higher is better for a metric; False for losses and unknown names."""
    return name in METRICS and METRICS[name].greater_is_better


def resolve_metrics(metrics: Metrics) -> list[Metric]:
    """Return the metrics given as names, functions or both.

    Parameters
    ----------
    metrics : None, str, callable, iterable of either, or mapping of names to either
        A function ``metric(y_true, y_pred) -> float`` is named by its key, or otherwise by its own name.
    """
    if metrics is None:
        return []
    if isinstance(metrics, Mapping):
        found = [_resolve(metric, name) for name, metric in metrics.items()]
    elif isinstance(metrics, str) or callable(metrics) or not isinstance(metrics, Iterable):
        found = [_resolve(metrics, None)]
    else:
        found = [_resolve(metric, None) for metric in metrics]
    names = [metric.name for metric in found]
    for name in names:
        taken = name in ("loss", "learning_rate") or name.startswith("val_")
        if taken or names.count(name) > 1:
            raise ValueError(
                f"metrics must have unique names other than 'loss' and 'learning_rate', without the "
                f"prefix 'val_', got {listed(names)}; pass a dict to give other names"
            )
    return found


def _resolve(metric: Any, name: Any) -> Metric:
    if not (name is None or (isinstance(name, str) and name)):
        raise ValueError(f"metrics must be a dict of names to metrics, got {name!r} as a name")
    if isinstance(metric, str) and metric in METRICS:
        found = METRICS[metric]
        return found if name is None else found._replace(name=name)
    if not callable(metric) or isinstance(metric, type):
        raise ValueError(
            f"metrics must be one or more of {listed(METRICS)}, or functions metric(y_true, y_pred), "
            f"got {metric!r}{guess(metric, METRICS)}"
        )
    function: MetricFunction = metric
    own_name = name or getattr(metric, "__name__", type(metric).__name__)

    def value(truth: Truth, outputs: NDArray[Any]) -> float:
        # Copies, so that the function cannot change the user's targets or what other metrics get.
        result: Any = function(truth.given.copy(), _squeezed(outputs).copy())
        try:
            return float(result)
        except (TypeError, ValueError):
            raise ValueError(f"metric '{own_name}' must return a number, got {result!r}") from None

    return Metric(str(own_name), value, False)
