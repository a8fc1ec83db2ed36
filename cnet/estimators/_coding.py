"""How y becomes a network's targets, and its outputs become predictions."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, issparse
from scipy.special import log_expit, log_softmax, softmax
from sklearn.utils.multiclass import is_multilabel, type_of_target, unique_labels

from cnet._arrays import NO_LABELS, as_targets
from cnet.losses import CrossEntropy, Loss, LossFunction


class Targets(NamedTuple):
    """What the engine learns from; the array that does not apply is empty.

    Attributes
    ----------
    targets : ndarray of shape (n, n_outputs), or (0, 0)
    labels : ndarray of shape (n,), intp, or (0,)
    """

    targets: NDArray[Any]
    labels: NDArray[np.intp]


class GroupedCrossEntropy:
    """Sum of the cross-entropies of several softmaxes, which share out a network's linear outputs.

    Called as any function given as loss. A row's targets are its one-hot rows side by side, times the
    row's weight; the loss is the weighted mean over the rows.

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
        # A batch whose rows all weigh nothing teaches nothing.
        scale = 1 / total if total > 0 else 0.0
        return value * scale, gradient * scale


class Coding:
    """Base of the kinds of y.

    Attributes
    ----------
    n_outputs : int
        Outputs that a network needs for it.
    activation : str
        Activation of these outputs.
    """

    activation: str
    n_outputs: int

    def encode(
        self, y: NDArray[Any], dtype: np.dtype[Any], loss: Loss | LossFunction | None
    ) -> Targets:
        """Return the targets that a network learns from by this loss.

        Raises
        ------
        ValueError
            Where a label is none of the classes, or a number out of the loss's range.
        """
        raise NotImplementedError

    def decode(self, outputs: NDArray[Any]) -> Any:
        """Return the predictions that outputs stand for."""
        raise NotImplementedError


class Numbers(Coding):
    """Numbers, which are the outputs themselves.

    Parameters
    ----------
    n_outputs : int
    activation : str
    """

    def __init__(self, n_outputs: int, activation: str) -> None:
        self.n_outputs = n_outputs
        self.activation = activation

    def encode(
        self, y: NDArray[Any], dtype: np.dtype[Any], loss: Loss | LossFunction | None
    ) -> Targets:
        checked = loss if isinstance(loss, Loss) else None
        rows = y.reshape(len(y), -1)
        return Targets(*as_targets(rows, len(y), self.n_outputs, dtype, checked, False, ("X", "y")))

    def decode(self, outputs: NDArray[Any]) -> Any:
        return outputs.reshape(-1) if self.n_outputs == 1 else outputs


class Labels(Coding):
    """Base of the kinds of labels.

    Attributes
    ----------
    classes : ndarray, or list of ndarray
        What estimators show as ``classes_``.
    """

    classes: Any

    def probabilities(self, outputs: NDArray[Any]) -> Any:
        """Return the probability of each class."""
        raise NotImplementedError

    def log_probabilities(self, logits: NDArray[Any]) -> Any:
        """Return the logarithms of the probabilities, from what the activation is given."""
        raise NotImplementedError


class Binary(Labels):
    """One class of two, or a single one, from one sigmoid."""

    activation = "sigmoid"
    n_outputs = 1

    def __init__(self, classes: NDArray[Any]) -> None:
        self.classes = classes

    def encode(
        self, y: NDArray[Any], dtype: np.dtype[Any], loss: Loss | LossFunction | None
    ) -> Targets:
        places = places_of(y, self.classes)
        return Targets(places.astype(dtype).reshape(-1, 1), NO_LABELS)

    def decode(self, outputs: NDArray[Any]) -> Any:
        if len(self.classes) == 1:
            return np.repeat(self.classes, len(outputs))
        return self.classes[(outputs[:, 0] > 0.5).astype(np.intp)]

    def probabilities(self, outputs: NDArray[Any]) -> Any:
        if len(self.classes) == 1:
            return np.ones_like(outputs)
        return np.hstack([1 - outputs, outputs])

    def log_probabilities(self, logits: NDArray[Any]) -> Any:
        if len(self.classes) == 1:
            return np.zeros_like(logits)
        return log_expit(np.hstack([-logits, logits]))


class Multiclass(Labels):
    """One class of several, from a softmax."""

    activation = "softmax"

    def __init__(self, classes: NDArray[Any]) -> None:
        self.classes = classes
        self.n_outputs = len(classes)

    def encode(
        self, y: NDArray[Any], dtype: np.dtype[Any], loss: Loss | LossFunction | None
    ) -> Targets:
        places = places_of(y, self.classes)
        if isinstance(loss, CrossEntropy):
            return Targets(np.empty((0, 0), dtype), places)
        return Targets(_one_hot(places, self.n_outputs, dtype), NO_LABELS)

    def decode(self, outputs: NDArray[Any]) -> Any:
        return self.classes[outputs.argmax(axis=1)]

    def probabilities(self, outputs: NDArray[Any]) -> Any:
        return outputs

    def log_probabilities(self, logits: NDArray[Any]) -> Any:
        return log_softmax(logits, axis=1)


class Multilabel(Labels):
    """Any number of the classes at once, from a sigmoid each.

    Parameters
    ----------
    classes : ndarray
    sparse : bool
        Whether labels came, and are to be returned, as a sparse matrix.
    """

    activation = "sigmoid"

    def __init__(self, classes: NDArray[Any], sparse: bool) -> None:
        self.classes = classes
        self.n_outputs = len(classes)
        self.sparse = sparse

    def encode(
        self, y: NDArray[Any], dtype: np.dtype[Any], loss: Loss | LossFunction | None
    ) -> Targets:
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

    def decode(self, outputs: NDArray[Any]) -> Any:
        chosen = (outputs > 0.5).astype(int)
        return csr_matrix(chosen) if self.sparse else chosen

    def probabilities(self, outputs: NDArray[Any]) -> Any:
        return outputs

    def log_probabilities(self, logits: NDArray[Any]) -> Any:
        return log_expit(logits)


class Multioutput(Labels):
    """One class of several in each column of y, from a softmax for each column."""

    activation = "linear"  # GroupedCrossEntropy has the softmaxes

    def __init__(self, classes: list[NDArray[Any]]) -> None:
        self.classes = classes
        bounds = np.cumsum([0, *map(len, classes)]).tolist()
        self.groups = [slice(start, end) for start, end in pairwise(bounds)]
        self.n_outputs = bounds[-1]

    def encode(
        self, y: NDArray[Any], dtype: np.dtype[Any], loss: Loss | LossFunction | None
    ) -> Targets:
        if y.ndim != 2 or y.shape[1] != len(self.classes):
            raise ValueError(
                f"y must have {len(self.classes)} columns of labels, got shape {y.shape}"
            )
        columns = [
            _one_hot(places_of(y[:, k], classes), len(classes), dtype)
            for k, classes in enumerate(self.classes)
        ]
        return Targets(np.hstack(columns), NO_LABELS)

    def decode(self, outputs: NDArray[Any]) -> Any:
        return np.column_stack(
            [
                classes[outputs[:, group].argmax(axis=1)]
                for classes, group in zip(self.classes, self.groups, strict=True)
            ]
        )

    def probabilities(self, outputs: NDArray[Any]) -> Any:
        return [softmax(outputs[:, group], axis=1) for group in self.groups]

    def log_probabilities(self, logits: NDArray[Any]) -> Any:
        return [log_softmax(logits[:, group], axis=1) for group in self.groups]


def labels_of(y: NDArray[Any]) -> Labels:
    """Return the kind of labels that y has, with the classes that are in it.

    Raises
    ------
    ValueError
        Where y has no labels, but continuous numbers for instance.
    """
    if issparse(y) and not is_multilabel(y):
        raise ValueError(
            "y must be an array where it has several columns of classes, got a sparse matrix"
        )
    kind = type_of_target(y, input_name="y")
    if kind == "multilabel-indicator":
        return Multilabel(np.arange(y.shape[1]), bool(issparse(y)))
    if kind == "multiclass-multioutput":
        return Multioutput([np.unique(column) for column in y.T])
    if kind not in ("binary", "multiclass"):
        raise ValueError(
            f"Unknown label type: {kind}. y must have class labels, a column of 0 and 1 for each "
            "class, or columns of class labels; for numbers there is MLPRegressor"
        )
    return labels_from(unique_labels(y))


def labels_from(classes: NDArray[Any]) -> Labels:
    """Return the kind of labels that these classes, one of them to a row, make."""
    return Binary(classes) if len(classes) < 3 else Multiclass(classes)


def places_of(y: NDArray[Any], classes: NDArray[Any]) -> NDArray[np.intp]:
    """Return where in `classes`, which is sorted, each label is."""
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
