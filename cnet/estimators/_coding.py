"""Conversion of y to a network's targets, and of its outputs to predictions."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, issparse
from scipy.special import log_expit, log_softmax, softmax
from sklearn.utils.multiclass import is_multilabel, type_of_target, unique_labels

from cnet.activations import ActivationName
from cnet.data import NO_LABELS, as_targets
from cnet.losses import BinaryCrossEntropy, CrossEntropy, FunctionLoss, Loss


class Targets(NamedTuple):
    """The targets as the engine reads them; an array that does not apply is empty.

    Attributes
    ----------
    targets : ndarray of shape (n, n_outputs), or (0, 0)
    labels : ndarray of shape (n,), intp, or (0,)
    """

    targets: NDArray[Any]
    labels: NDArray[np.intp]


class GroupedCrossEntropy:
    """Sum of the cross-entropies of several softmaxes over groups of linear outputs.

    An object can be used as a loss function. A row of targets consists of a one-hot row for each group,
    multiplied by the row's weight. The loss is the weighted mean over the rows.

    Parameters
    ----------
    groups : list of slice
        The outputs of each softmax.
    """

    def __init__(self, groups: list[slice]) -> None:
        self.groups = groups

    def __call__(self, y_true: NDArray[Any], y_pred: NDArray[Any]) -> tuple[float, NDArray[Any]]:
        gradient = np.empty_like(y_pred)
        value = 0.0
        total = float(y_true[:, self.groups[0]].sum())
        for group in self.groups:
            targets, logits = y_true[:, group], y_pred[:, group]
            weights = targets.sum(axis=1, keepdims=True)
            value -= float((targets * log_softmax(logits, axis=1)).sum())
            gradient[:, group] = weights * softmax(logits, axis=1) - targets
        # The gradient is 0 for a batch whose rows all have weight 0.
        scale = 1 / total if total > 0 else 0.0
        return value * scale, gradient * scale


class Coding:
    """Base class of the kinds of y.

    Attributes
    ----------
    n_outputs : int
        Number of outputs of the network.
    activation : str
        Activation of these outputs.
    stratified : bool
        Whether held-out rows have the same proportions of the classes as all rows.
    weighs_targets : bool
        Whether the targets are multiplied by the rows' weights, because the loss takes no weights.
    """

    activation: ActivationName
    n_outputs: int
    stratified: ClassVar[bool] = False
    weighs_targets: ClassVar[bool] = False

    def encode(self, y: NDArray[Any], dtype: np.dtype[Any], loss: Loss) -> Targets:
        """Return the targets for training with this loss.

        Raises
        ------
        ValueError
            If a label is not one of the classes, or a number is outside the range of the loss.
        """
        raise NotImplementedError

    def decode(self, outputs: NDArray[Any]) -> NDArray[Any] | csr_matrix:
        """Return the predictions for some outputs."""
        raise NotImplementedError


class Numbers(Coding):
    """Numbers: the predictions are the outputs.

    Parameters
    ----------
    n_outputs : int
    activation : str
    """

    def __init__(self, n_outputs: int, activation: ActivationName) -> None:
        self.n_outputs = n_outputs
        self.activation = activation

    def encode(self, y: NDArray[Any], dtype: np.dtype[Any], loss: Loss) -> Targets:
        rows = y.reshape(len(y), -1)
        return Targets(*as_targets(rows, len(y), self.n_outputs, dtype, loss, False, ("X", "y")))

    def decode(self, outputs: NDArray[Any]) -> NDArray[Any]:
        return outputs.reshape(-1) if self.n_outputs == 1 else outputs


class Labels(Coding):
    """Base class of the kinds of labels.

    Attributes
    ----------
    classes : ndarray, or list of ndarray
        The estimator's ``classes_``.
    one_class_each : bool
        Whether each row has exactly one class.
    """

    classes: Any
    one_class_each: ClassVar[bool] = False

    def log_loss(self) -> Loss:
        """Return the cross-entropy for this kind of labels."""
        return BinaryCrossEntropy()

    def probabilities(self, outputs: NDArray[Any]) -> NDArray[Any] | list[NDArray[Any]]:
        """Return the probability of each class."""
        raise NotImplementedError

    def log_probabilities(self, logits: NDArray[Any]) -> NDArray[Any] | list[NDArray[Any]]:
        """Return the logarithms of the probabilities, computed from the inputs of the activation."""
        raise NotImplementedError


class Binary(Labels):
    """Labels of two classes, or of a single class, with one sigmoid output."""

    activation = "sigmoid"
    n_outputs = 1
    # As in scikit-learn, which stratifies for two classes only.
    stratified = True
    one_class_each = True

    def __init__(self, classes: NDArray[Any]) -> None:
        self.classes = classes

    def encode(self, y: NDArray[Any], dtype: np.dtype[Any], loss: Loss) -> Targets:
        places = places_of(y, self.classes)
        return Targets(places.astype(dtype).reshape(-1, 1), NO_LABELS)

    def decode(self, outputs: NDArray[Any]) -> NDArray[Any]:
        found: NDArray[Any]
        if len(self.classes) == 1:
            found = np.repeat(self.classes, len(outputs))
        else:
            found = self.classes[(outputs[:, 0] > 0.5).astype(np.intp)]
        return found

    def probabilities(self, outputs: NDArray[Any]) -> NDArray[Any]:
        if len(self.classes) == 1:
            return np.ones_like(outputs)
        return np.hstack([1 - outputs, outputs])

    def log_probabilities(self, logits: NDArray[Any]) -> NDArray[Any]:
        if len(self.classes) == 1:
            return np.zeros_like(logits)
        return np.asarray(log_expit(np.hstack([-logits, logits])))


class Multiclass(Labels):
    """Labels of several classes, with a softmax."""

    activation = "softmax"
    one_class_each = True

    def __init__(self, classes: NDArray[Any]) -> None:
        self.classes = classes
        self.n_outputs = len(classes)

    def log_loss(self) -> Loss:
        return CrossEntropy()

    def encode(self, y: NDArray[Any], dtype: np.dtype[Any], loss: Loss) -> Targets:
        places = places_of(y, self.classes)
        if loss.takes_labels:
            return Targets(np.empty((0, 0), dtype), places)
        return Targets(_one_hot(places, self.n_outputs, dtype), NO_LABELS)

    def decode(self, outputs: NDArray[Any]) -> NDArray[Any]:
        found: NDArray[Any] = self.classes[outputs.argmax(axis=1)]
        return found

    def probabilities(self, outputs: NDArray[Any]) -> NDArray[Any]:
        return outputs

    def log_probabilities(self, logits: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(log_softmax(logits, axis=1))


class Multilabel(Labels):
    """Any number of classes for each row, with one sigmoid output for each class.

    Parameters
    ----------
    classes : ndarray
    sparse : bool
        Whether labels are a sparse matrix, in y and in predictions.
    """

    activation = "sigmoid"

    def __init__(self, classes: NDArray[Any], sparse: bool) -> None:
        self.classes = classes
        self.n_outputs = len(classes)
        self.sparse = sparse

    def encode(self, y: NDArray[Any], dtype: np.dtype[Any], loss: Loss) -> Targets:
        if y.ndim != 2 or y.shape[1] != self.n_outputs:
            raise ValueError(
                f"y must have {self.n_outputs} columns of 0 and 1, one for each class, "
                f"got shape {y.shape}"
            )
        dense: Any = y
        if issparse(dense):
            dense = dense.toarray()
        chosen = dense == 1
        if not (chosen | (dense == 0)).all():
            raise ValueError(
                f"y must have only 0 and 1 in columns for each class, got {np.unique(dense)}"
            )
        return Targets(np.ascontiguousarray(chosen, dtype), NO_LABELS)

    def decode(self, outputs: NDArray[Any]) -> NDArray[Any] | csr_matrix:
        chosen = (outputs > 0.5).astype(int)
        return csr_matrix(chosen) if self.sparse else chosen

    def probabilities(self, outputs: NDArray[Any]) -> NDArray[Any]:
        return outputs

    def log_probabilities(self, logits: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(log_expit(logits))


class Multioutput(Labels):
    """Several columns of classes, with a softmax for each column."""

    activation = "linear"  # the softmaxes are in GroupedCrossEntropy
    weighs_targets = True

    def __init__(self, classes: list[NDArray[Any]]) -> None:
        self.classes = classes
        bounds = np.cumsum([0, *map(len, classes)]).tolist()
        self.groups = [slice(start, end) for start, end in pairwise(bounds)]
        self.n_outputs = bounds[-1]

    def log_loss(self) -> Loss:
        return FunctionLoss(GroupedCrossEntropy(self.groups))

    def encode(self, y: NDArray[Any], dtype: np.dtype[Any], loss: Loss) -> Targets:
        if y.ndim != 2 or y.shape[1] != len(self.classes):
            raise ValueError(
                f"y must have {len(self.classes)} columns of labels, got shape {y.shape}"
            )
        columns = [
            _one_hot(places_of(y[:, k], classes), len(classes), dtype)
            for k, classes in enumerate(self.classes)
        ]
        return Targets(np.hstack(columns), NO_LABELS)

    def decode(self, outputs: NDArray[Any]) -> NDArray[Any]:
        return np.column_stack(
            [
                classes[outputs[:, group].argmax(axis=1)]
                for classes, group in zip(self.classes, self.groups, strict=True)
            ]
        )

    def probabilities(self, outputs: NDArray[Any]) -> list[NDArray[Any]]:
        return [softmax(outputs[:, group], axis=1) for group in self.groups]

    def log_probabilities(self, logits: NDArray[Any]) -> list[NDArray[Any]]:
        return [log_softmax(logits[:, group], axis=1) for group in self.groups]


def labels_of(y: NDArray[Any]) -> Labels:
    """Return the kind of labels in y, with the classes that occur in it.

    Raises
    ------
    ValueError
        If y does not have labels but, for example, continuous numbers.
    """
    if issparse(y) and not is_multilabel(y):
        raise ValueError(
            "y must be an array if it has several columns of classes, got a sparse matrix"
        )
    kind = type_of_target(y, input_name="y")
    if kind == "multilabel-indicator":
        return Multilabel(np.arange(y.shape[1]), bool(issparse(y)))
    if kind == "multiclass-multioutput":
        return Multioutput([np.unique(column) for column in y.T])
    if kind not in ("binary", "multiclass"):
        raise ValueError(
            f"Unknown label type: {kind}. y must have class labels, a column of 0 and 1 for each "
            "class, or columns of class labels; use MLPRegressor for numbers"
        )
    return labels_from(unique_labels(y))


def labels_from(classes: NDArray[Any]) -> Labels:
    """Return the kind of labels for rows that each have one of these classes."""
    return Binary(classes) if len(classes) < 3 else Multiclass(classes)


def places_of(y: NDArray[Any], classes: NDArray[Any]) -> NDArray[np.intp]:
    """Return the index of each label in `classes`, which is sorted."""
    if classes.dtype.kind == "U" and y.dtype.kind == "O":
        y = y.astype(str)
    places = np.minimum(np.searchsorted(classes, y), len(classes) - 1).astype(np.intp, copy=False)
    known = classes[places] == y
    if not np.all(known):
        unknown = np.unique(y[~np.broadcast_to(known, y.shape)])
        raise ValueError(f"y must have labels of the classes {classes}, got also {unknown}")
    return places


def _one_hot(places: NDArray[np.intp], n_classes: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    rows = np.zeros((len(places), n_classes), dtype)
    rows[np.arange(len(places)), places] = 1
    return rows
