"""The one place that checks and copies the arrays that users pass in.

What comes out is what the engine wants: native dtype, C-contiguous, aligned, finite, of the right
shape. An array that is so already comes out as it is, not copied.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cnet._checks import as_number
from cnet._core.engine import all_finite
from cnet.losses import Loss

_ALIGNMENT = 64  # bytes, a cache line and the widest vector
NO_LABELS = np.empty(0, np.intp)


class Data(NamedTuple):
    """Examples as the engine reads them; an array that does not apply is empty.

    Attributes
    ----------
    x : ndarray of shape (n, n_inputs)
    targets : ndarray of shape (n, n_outputs), or (0, 0) where labels are given
    labels : ndarray of shape (n,), intp, or (0,)
    sample_weight : ndarray of shape (n,), or (0,)
    is_row : bool
        Whether x came as a single row of one dimension.
    """

    x: NDArray[Any]
    targets: NDArray[Any]
    labels: NDArray[np.intp]
    sample_weight: NDArray[Any]
    is_row: bool

    def of_rows(self, rows: NDArray[np.intp] | slice) -> Data:
        """Return copies of some of the rows."""
        targets, labels, weights = (
            array[rows] if array.size else array
            for array in (self.targets, self.labels, self.sample_weight)
        )
        return Data(self.x[rows], targets, labels, weights, is_row=False)


def aligned_empty(size: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return an uninitialised array of `size` elements that starts at a multiple of 64 bytes.

    Behind it there is room for two vectors, which the engine may read.
    """
    n_bytes = size * dtype.itemsize
    raw = np.empty(n_bytes + 3 * _ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % _ALIGNMENT
    return raw[start : start + n_bytes].view(dtype)


def as_inputs(
    x: Any, n_inputs: int, dtype: np.dtype[Any], name: str = "x", *, check: bool = True
) -> tuple[NDArray[Any], bool]:
    """Return x as a matrix of `n_inputs` columns, and whether it came as a single row.

    Without `check`, whether its numbers are finite is left to the caller.
    """
    array = _as_numbers(name, x)
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
    return _as_real(name, np.atleast_2d(array), dtype, check=check), is_row


def as_data(
    x: Any,
    y: Any,
    sample_weight: Any,
    *,
    n_inputs: int,
    n_outputs: int,
    dtype: np.dtype[Any],
    loss: Loss | None,
    names: tuple[str, str, str] = ("x", "y", "sample_weight"),
) -> Data:
    """Return inputs, targets and weights as the engine reads them.

    `loss` is the loss that the targets are checked for; None stands for a function of the user's,
    which gets labels as one-hot rows like every loss but cross_entropy. `names` are what the caller
    calls x, y and sample_weight.
    """
    inputs, is_row = as_inputs(x, n_inputs, dtype, names[0])
    n = len(inputs)
    targets, labels = as_targets(y, n, n_outputs, dtype, loss, is_row, names[:2])
    weights = np.empty(0, dtype)
    if sample_weight is not None:
        name = names[2]
        given = _as_numbers(name, sample_weight)
        if given.ndim == 0 and is_row:
            given = given.reshape(1)
        if given.shape != (n,):
            raise ValueError(
                f"{name} must have shape ({n},), one weight for each row of {names[0]}, "
                f"got shape {given.shape}"
            )
        weights = _as_real(name, given, dtype)
        if weights.min() < 0:
            raise ValueError(f"{name} must not be negative, got {weights.min():g}")
    return Data(inputs, targets, labels, weights, is_row)


def validation_rows(
    share: float, n: int, rng: np.random.Generator, *, shuffle: bool
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the rows to train on and, of that share, those to validate on, both in ascending order.

    With `shuffle` the latter are drawn, otherwise they are the last.
    """
    held_out = max(1, round(share * n))
    if held_out >= n:
        raise ValueError(
            f"validation_split must leave rows to train on, got {share:g} of {n} row{'s' * (n > 1)}"
        )
    order = rng.permutation(n) if shuffle else np.arange(n)
    return np.sort(order[: n - held_out]), np.sort(order[n - held_out :])


def with_class_weight(
    data: Data, class_weight: Any, n_outputs: int, rows: NDArray[np.intp] | None
) -> Data:
    """Return the data with every row's sample weight times its class's weight.

    Parameters
    ----------
    data : Data
    class_weight : mapping of int to float, or "balanced"
        Classes that a mapping leaves out have weight 1; "balanced" weighs a class by
        n / (n_classes * its number of rows).
    n_outputs : int
        As many classes as the network has outputs; two where it has one.
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
    of_rows = _as_real("class_weight", weights, data.x.dtype)[classes]
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
        "class_weight must be None where targets are not classes: labels, one-hot rows, or 0 and 1"
    )


def as_weights(
    name: str, values: Any, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> NDArray[Any]:
    """Return values for a layer's weights or biases, which must have just this shape."""
    array = _as_numbers(name, values)
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got shape {array.shape}")
    return _as_real(name, array, dtype)


def as_targets(
    y: Any,
    n: int,
    n_outputs: int,
    dtype: np.dtype[Any],
    loss: Loss | None,
    is_row: bool,
    names: tuple[str, str],
) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """Return targets and labels as `Data` has them; `is_row` and the others as in `as_data`."""
    x_name, name = names
    given = _as_numbers(name, y)
    if given.size == 0:
        raise ValueError(
            f"{name} is empty: it must have a target for each row of {x_name}, got {given.shape}"
        )
    # The target of a single row may come without the dimension of rows, as the row did.
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
    by_labels = loss is not None and loss.name == "cross_entropy"
    if n_outputs > 1 and (given.ndim == 1 or given.shape[1] == 1):
        labels = _as_labels(name, given.reshape(n), n_outputs)
        if by_labels:
            return np.empty((0, 0), dtype), labels
        one_hot = np.zeros((n, n_outputs), dtype)
        one_hot[np.arange(n), labels] = 1
        return one_hot, NO_LABELS
    targets = _as_real(name, given.reshape(n, n_outputs), dtype)
    if loss is not None:
        low, high = targets.min(), targets.max()
        if low < loss.low or high > loss.high:
            wanted = f"at least {loss.low:g}"
            if np.isfinite(loss.high):
                wanted += f" and at most {loss.high:g}"
            raise ValueError(
                f"{name} must be {wanted} for loss '{loss.name}', "
                f"got {low if low < loss.low else high:g}"
            )
    if by_labels:
        sums = targets.sum(axis=1)
        worst = int(np.argmax(np.abs(sums - 1)))
        # 1e-3 leaves room for probabilities that were rounded to three places or to float16.
        if abs(sums[worst] - 1) > 1e-3:
            raise ValueError(
                f"{name} must be integer labels, or rows that sum to 1, for loss 'cross_entropy', "
                f"got row {worst} with sum {sums[worst]:g}"
            )
    return targets, NO_LABELS


def _as_labels(name: str, y: NDArray[Any], n_classes: int) -> NDArray[np.intp]:
    """Return integer labels from 0 to n_classes - 1."""
    wanted = (
        f"{name} must be integer labels from 0 to {n_classes - 1}, or have {n_classes} columns, "
        f"as the network has {n_classes} outputs"
    )
    if y.dtype.kind == "f":
        strange = y[~(np.floor(y) == y)]
        if strange.size:
            raise ValueError(f"{wanted}; got {strange[0]:g}")
    low, high = y.min(), y.max()
    if low < 0 or high >= n_classes:
        raise ValueError(f"{wanted}; got {low if low < 0 else high:g}")
    # A copy: the engine finds its way by them, and the user's may change under it.
    return np.array(y, np.intp)


def _as_numbers(name: str, values: Any) -> NDArray[Any]:
    """Return `values` as an array of real numbers of any dtype and layout."""
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        raise ValueError(f"{name} must not have masked values; fill them first, x.filled(...)")
    if hasattr(values, "toarray") and not isinstance(values, np.ndarray):
        raise ValueError(
            f"{name} must be a dense array, got a sparse {type(values).__name__}; "
            f"pass {name}.toarray()"
        )
    try:
        array = np.asarray(values)
    except ValueError:
        raise ValueError(
            f"{name} must be an array of real numbers, got rows of different lengths"
        ) from None
    if array.dtype.kind == "O":
        array = _from_objects(name, array)
    if array.dtype.kind not in "biuf":
        kinds = {"U": "text", "S": "text", "T": "text", "c": "complex numbers", "V": "records"}
        got = kinds.get(array.dtype.kind, f"dtype {array.dtype}")
        raise ValueError(f"{name} must be an array of real numbers, got {got}")
    return array


def _from_objects(name: str, array: NDArray[Any]) -> NDArray[Any]:
    """Return an array of Python objects as float64; text that looks like a number is still text."""
    wanted = f"{name} must be an array of real numbers"
    result = np.empty(array.shape)
    for index, value in np.ndenumerate(array):
        if value is None:
            raise ValueError(f"{wanted}, got None")
        if isinstance(value, (str, bytes)):
            raise ValueError(f"{wanted}, got the text {value!r}")
        if isinstance(value, (list, tuple, np.ndarray)):
            raise ValueError(f"{wanted}, got rows of different lengths")
        try:
            result[index] = value
        except (TypeError, ValueError):
            got = repr(value) if isinstance(value, complex) else f"a {type(value).__name__} object"
            raise ValueError(f"{wanted}, got {got}") from None
        except OverflowError:
            raise ValueError(f"{name} must fit float64, got an integer that does not") from None
    return result


def _as_real(
    name: str, array: NDArray[Any], dtype: np.dtype[Any], *, check: bool = True
) -> NDArray[Any]:
    """Return `array` in the network's dtype, contiguous, aligned and, with `check`, finite."""
    # The overflow of a float64 beyond float32 is looked for below.
    with np.errstate(over="ignore"):
        result = np.require(array, dtype, ["C", "A"])
    if check and not all_finite(result.reshape(-1)):
        index = np.argwhere(~np.isfinite(result))[0]
        value = array[tuple(index)]
        where = f"{name}[{', '.join(str(i) for i in index)}]"
        if np.isfinite(value):
            raise ValueError(f"{name} must fit {dtype}, got {value:g} at {where}")
        raise ValueError(f"{name} must not have NaN or infinite values, got {value} at {where}")
    # An array object of our own: the user's may be given another shape.
    return result.view()
