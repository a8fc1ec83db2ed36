"""Conversion and validation of arrays.

The results are what the engine reads: native dtype, C-contiguous, aligned and finite. An array that
already is all of this is not copied.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cnet._core.engine import all_finite

DType: TypeAlias = Literal["float32", "float64"] | np.dtype[Any] | type[np.floating[Any] | float]

DTYPES = ("float32", "float64")

_ALIGNMENT = 64  # bytes: a cache line, and the widest vector


def as_dtype(dtype: Any) -> np.dtype[Any]:
    """Return `dtype` if a network can compute in it."""
    try:
        found: np.dtype[Any] = np.dtype(dtype)
    except TypeError:
        found = np.dtype(object)
    if dtype is None or found.name not in DTYPES or not found.isnative:
        raise ValueError(f"dtype must be 'float32' or 'float64', got {dtype!r}")
    return found


def aligned_empty(size: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return an uninitialized array of `size` elements that starts at a multiple of 64 bytes.

    The memory after it is allocated for two more vectors, because the engine may read beyond the end.
    """
    if size == 0:
        return np.empty(0, dtype)
    n_bytes = size * dtype.itemsize
    raw = np.empty(n_bytes + 3 * _ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % _ALIGNMENT
    return raw[start : start + n_bytes].view(dtype)


def as_weights(
    name: str, values: ArrayLike, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> NDArray[Any]:
    """Return values for an array of a layer; they must have exactly this shape."""
    array = as_numbers(name, values)
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got shape {array.shape}")
    return as_real(name, array, dtype)


def as_numbers(name: str, values: Any) -> NDArray[Any]:
    """Return `values` as an array of real numbers, in any dtype and layout."""
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
    """Return an array of Python objects as float64. Text is rejected, even if it looks like a number."""
    expected = f"{name} must be an array of real numbers"
    result = np.empty(array.shape)
    for index, value in np.ndenumerate(array):
        if value is None:
            raise ValueError(f"{expected}, got None")
        if isinstance(value, (str, bytes)):
            raise ValueError(f"{expected}, got the text {value!r}")
        if isinstance(value, (list, tuple, np.ndarray)):
            raise ValueError(f"{expected}, got rows of different lengths")
        try:
            result[index] = value
        except (TypeError, ValueError):
            got = repr(value) if isinstance(value, complex) else f"a {type(value).__name__} object"
            raise ValueError(f"{expected}, got {got}") from None
        except OverflowError:
            raise ValueError(f"{name} must fit float64, got an integer that does not") from None
    return result


def as_real(
    name: str, array: NDArray[Any], dtype: np.dtype[Any], *, check: bool = True
) -> NDArray[Any]:
    """Return `array` in the given dtype, contiguous and aligned.

    With `check`, raise ValueError if a value is NaN or infinite.
    """
    # A float64 that is too large for float32 becomes infinite, which the check below finds.
    with np.errstate(over="ignore"):
        result = np.require(array, dtype, ["C", "A"])
    if check and not all_finite(result.reshape(-1)):
        index = np.argwhere(~np.isfinite(result))[0]
        value = array[tuple(index)]
        where = f"{name}[{', '.join(str(i) for i in index)}]"
        if np.isfinite(value):
            raise ValueError(f"{name} must fit {dtype}, got {value:g} at {where}")
        raise ValueError(f"{name} must not have NaN or infinite values, got {value} at {where}")
    # A new array object, because the user may change the shape of theirs.
    return result.view()
