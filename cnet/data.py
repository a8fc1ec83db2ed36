"""Training data: validation of the user's arrays, and the rows of an epoch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cnet._arrays import as_numbers, as_real
from cnet._checks import as_number
from cnet.losses import Loss

NO_LABELS = np.empty(0, np.intp)

ClassWeight: TypeAlias = Mapping[int, float] | Literal["balanced"]


class Data(NamedTuple):
    """Examples as the engine reads them. An array that does not apply is empty.

    Attributes
    ----------
    x : ndarray of shape (n, n_inputs)
    targets : ndarray of shape (n, n_outputs), or (0, 0) if there are labels
    labels : ndarray of shape (n,), intp, or (0,)
    sample_weight : ndarray of shape (n,), or (0,)
    is_row : bool
        Whether x was given as a single row, in one dimension.
    """

    x: NDArray[Any]
    targets: NDArray[Any]
    labels: NDArray[np.intp]
    sample_weight: NDArray[Any]
    is_row: bool = False

    def of_rows(self, rows: NDArray[np.intp] | slice) -> Data:
        """Return copies of some of the rows."""
        targets, labels, weights = (
            array[rows] if array.size else array
            for array in (self.targets, self.labels, self.sample_weight)
        )
        return Data(self.x[rows], targets, labels, weights)


class Source(Protocol):
    """Where the rows of an epoch come from.

    Attributes
    ----------
    n : int
        Number of rows in an epoch.
    is_whole : bool
        Whether `parts` returns all rows as one part, even for several epochs.
    """

    @property
    def n(self) -> int:
        """Number of rows in an epoch."""

    @property
    def is_whole(self) -> bool:
        """Whether `parts` returns all rows as one part, even for several epochs."""

    def parts(
        self, order: NDArray[np.intp] | None, batch_size: int
    ) -> Iterable[tuple[Data, NDArray[np.intp] | None]]:
        """Return the rows of an epoch, part by part.

        Parameters
        ----------
        order : ndarray of shape (epochs, n), intp, or None
            The order of the rows in each epoch; None: unchanged. There is more than one epoch only if
            `is_whole` is True.
        batch_size : int
            The number of rows of each part except the last must be a multiple of this.

        Returns
        -------
        iterable of tuple (data, order)
        data : Data
        order : ndarray of shape (epochs, rows) or (rows,), intp, or None
            The rows of `data` that make up the part, in each epoch or in all of them; None: all rows in
            order.
        """


class DenseRows:
    """A source of rows that are in memory: all rows of `data`, or some of them.

    Parameters
    ----------
    data : Data
    chosen : ndarray of shape (n,), intp, optional
        Indices of the rows to use; by default all.
    """

    is_whole = True

    def __init__(self, data: Data, chosen: NDArray[np.intp] | None = None) -> None:
        self.data = data
        self.chosen = chosen
        self.n = len(data.x) if chosen is None else len(chosen)

    def parts(
        self, order: NDArray[np.intp] | None, batch_size: int
    ) -> Iterable[tuple[Data, NDArray[np.intp] | None]]:
        """Return all rows as one part."""
        if self.chosen is not None:
            order = self.chosen if order is None else self.chosen[order]
        return ((self.data, order),)


def as_inputs(
    x: ArrayLike, n_inputs: int, dtype: np.dtype[Any], name: str = "x", *, check: bool = True
) -> tuple[NDArray[Any], bool]:
    """Return x as a matrix with `n_inputs` columns, and whether it was given as a single row.

    Without `check`, the caller has to check for values that are not finite.
    """
    array = as_numbers(name, x)
    is_row = array.ndim == 1
    if array.ndim not in (1, 2):
        raise ValueError(
            f"{name} must have 1 or 2 dimensions, (n_inputs,) or (n, n_inputs), got shape {array.shape}"
        )
    if array.size == 0:
        raise ValueError(f"{name} is empty: it must have at least one row, got shape {array.shape}")
    if array.shape[-1] != n_inputs:
        raise ValueError(
            f"{name} must have {n_inputs} column{'s' * (n_inputs > 1)}, one for each input of the "
            f"network, got shape {array.shape}"
        )
    return as_real(name, np.atleast_2d(array), dtype, check=check), is_row


def as_data(
    x: ArrayLike,
    y: ArrayLike,
    sample_weight: ArrayLike | None,
    *,
    n_inputs: int,
    n_outputs: int,
    dtype: np.dtype[Any],
    loss: Loss,
    names: tuple[str, str, str] = ("x", "y", "sample_weight"),
) -> Data:
    """Return inputs, targets and sample weights as the engine reads them.

    The targets are checked for `loss`. `names` are the names of x, y and sample_weight in messages.
    """
    inputs, is_row = as_inputs(x, n_inputs, dtype, names[0])
    n = len(inputs)
    targets, labels = as_targets(y, n, n_outputs, dtype, loss, is_row, names[:2])
    weights = np.empty(0, dtype)
    if sample_weight is not None:
        name = names[2]
        given = as_numbers(name, sample_weight)
        if given.ndim == 0 and is_row:
            given = given.reshape(1)
        if given.shape != (n,):
            raise ValueError(
                f"{name} must have shape ({n},), one weight for each row of {names[0]}, "
                f"got shape {given.shape}"
            )
        weights = as_real(name, given, dtype)
        if weights.min() < 0:
            raise ValueError(f"{name} must not be negative, got {weights.min():g}")
    return Data(inputs, targets, labels, weights, is_row)


def validation_rows(
    share: float, n: int, rng: np.random.Generator, *, shuffle: bool
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the rows to train on and the rows to validate on, each in ascending order.

    `share` is the fraction of validation rows. With `shuffle` they are chosen at random; without it,
    they are the last rows.
    """
    held_out = max(1, round(share * n))
    if held_out >= n:
        raise ValueError(
            f"validation_split must leave rows to train on, got {share:g} of {n} row{'s' * (n > 1)}"
        )
    order = rng.permutation(n) if shuffle else np.arange(n)
    return np.sort(order[: n - held_out]), np.sort(order[n - held_out :])


def with_class_weight(
    data: Data, class_weight: ClassWeight, n_outputs: int, rows: NDArray[np.intp] | None
) -> Data:
    """Return the data with each sample weight multiplied by the weight of the row's class.

    Parameters
    ----------
    data : Data
    class_weight : mapping of int to float, or "balanced"
        Classes that are not in the mapping have weight 1. "balanced" gives a class the weight
        n / (n_classes * its number of rows).
    n_outputs : int
        Number of outputs, which is the number of classes; a single output has two classes.
    rows : ndarray of intp, or None
        The rows that "balanced" counts; None: all.
    """
    classes = _classes_of(data)
    n_classes = max(2, n_outputs)
    weights = np.ones(n_classes)
    if isinstance(class_weight, str) and class_weight == "balanced":
        counts = np.bincount(classes if rows is None else classes[rows], minlength=n_classes)
        present = counts > 0
        weights[present] = counts.sum() / (present.sum() * counts[present])
    elif isinstance(class_weight, Mapping):
        for key, weight in class_weight.items():
            if isinstance(key, (bool, np.bool_)) or not isinstance(key, (int, np.integer)):
                raise ValueError(f"class_weight must have integer classes as keys, got {key!r}")
            if not 0 <= key < n_classes:
                raise ValueError(
                    f"class_weight must have classes from 0 to {n_classes - 1} as keys, got {key}"
                )
            weights[key] = as_number(f"class_weight[{key}]", weight, 0)
    else:
        raise ValueError(
            f"class_weight must be a dict of classes to weights or 'balanced', got {class_weight!r}"
        )
    of_rows = as_real("class_weight", weights, data.x.dtype)[classes]
    if data.sample_weight.size:
        of_rows *= data.sample_weight
    return data._replace(sample_weight=of_rows)


def _classes_of(data: Data) -> NDArray[np.intp]:
    if data.labels.size:
        return data.labels
    if np.isin(data.targets, (0, 1)).all():
        if data.targets.shape[1] == 1:
            return data.targets[:, 0].astype(np.intp)
        if (data.targets.sum(axis=1) == 1).all():
            return np.asarray(data.targets.argmax(axis=1), np.intp)
    raise ValueError(
        "class_weight must be None unless targets are classes: labels, one-hot rows, or 0 and 1"
    )


def as_targets(
    y: ArrayLike,
    n: int,
    n_outputs: int,
    dtype: np.dtype[Any],
    loss: Loss,
    is_row: bool,
    names: tuple[str, str],
) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """Return targets and labels as in `Data`.

    `is_row` says whether x was given as a single row; `names` are the names of x and y in messages.
    """
    x_name, name = names
    given = as_numbers(name, y)
    if given.size == 0:
        raise ValueError(
            f"{name} is empty: it must have a target for each row of {x_name}, got {given.shape}"
        )
    # The target of a single row may have no dimension for rows, like the row itself.
    if is_row and (given.ndim == 0 or (given.ndim == 1 and given.shape == (n_outputs,))):
        given = given[np.newaxis]
    if given.ndim not in (1, 2) or len(given) != n:
        raise ValueError(
            f"{name} must have {n} rows, as many as {x_name}, in one or two dimensions, "
            f"got shape {given.shape}"
        )
    if given.ndim == 2 and given.shape[1] not in (1, n_outputs):
        raise ValueError(
            f"{name} must have {n_outputs} column{'s' * (n_outputs > 1)}, one for each output of the "
            f"network, got shape {given.shape}"
        )
    if n_outputs > 1 and (given.ndim == 1 or given.shape[1] == 1):
        labels = _as_labels(name, given.reshape(n), n_outputs)
        if loss.takes_labels:
            return np.empty((0, 0), dtype), labels
        one_hot = np.zeros((n, n_outputs), dtype)
        one_hot[np.arange(n), labels] = 1
        return one_hot, NO_LABELS
    targets = as_real(name, given.reshape(n, n_outputs), dtype)
    low, high = targets.min(), targets.max()
    if low < loss.low or high > loss.high:
        expected = f"at least {loss.low:g}"
        if np.isfinite(loss.high):
            expected += f" and at most {loss.high:g}"
        raise ValueError(
            f"{name} must be {expected} for loss '{loss.name}', "
            f"got {low if low < loss.low else high:g}"
        )
    if loss.takes_labels:
        sums = targets.sum(axis=1)
        worst = int(np.argmax(np.abs(sums - 1)))
        # The tolerance allows probabilities that were rounded to three places or to float16.
        if abs(sums[worst] - 1) > 1e-3:
            raise ValueError(
                f"{name} must be integer labels, or rows that sum to 1, for loss '{loss.name}', "
                f"got row {worst} with sum {sums[worst]:g}"
            )
    return targets, NO_LABELS


def _as_labels(name: str, y: NDArray[Any], n_classes: int) -> NDArray[np.intp]:
    """Return integer labels from 0 to n_classes - 1."""
    expected = (
        f"{name} must be integer labels from 0 to {n_classes - 1}, or have {n_classes} columns, "
        f"as the network has {n_classes} outputs"
    )
    if y.dtype.kind == "f":
        strange = y[~(np.floor(y) == y)]
        if strange.size:
            raise ValueError(f"{expected}; got {strange[0]:g}")
    low, high = y.min(), y.max()
    if low < 0 or high >= n_classes:
        raise ValueError(f"{expected}; got {low if low < 0 else high:g}")
    # A copy, because the user may change theirs while the engine uses them as indices.
    return np.array(y, np.intp)
