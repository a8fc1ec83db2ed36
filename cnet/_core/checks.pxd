"""Checks of the arrays that Python passes. They raise a Python exception, where C would crash."""

cimport numpy as cnp
from numpy cimport intp_t

from cnet._core.graph cimport Graph
from cnet._core.step cimport Examples


cdef inline void* data_of(
    name, array, int dtype, Py_ssize_t n_rows, Py_ssize_t n_columns, bint writable=False
) except? NULL:
    """Data of an array of n_rows x n_columns, or of n_rows if n_columns is -1."""
    cdef int n_dimensions = 1 if n_columns < 0 else 2
    if (
            type(array) is cnp.ndarray and cnp.PyArray_TYPE(array) == dtype
            and cnp.PyArray_ISCARRAY_RO(array) and cnp.PyArray_NDIM(array) == n_dimensions
            and cnp.PyArray_DIM(array, 0) == n_rows
            and (n_columns < 0 or cnp.PyArray_DIM(array, 1) == n_columns)
            and (not writable or cnp.PyArray_ISWRITEABLE(array))):
        return cnp.PyArray_DATA(array)
    expected = f"({n_rows},)" if n_columns < 0 else f"({n_rows}, {n_columns})"
    raise ValueError(
        f"{name} must be a C-contiguous{' writable' if writable else ''} array of dtype "
        f"{cnp.PyArray_DescrFromType(dtype)} and shape {expected}, got {described(array)}")


cdef inline described(array):
    """Description of an array for a message."""
    if type(array) is not cnp.ndarray:
        return type(array).__name__
    got = f"dtype {array.dtype} and shape {array.shape}"
    if not cnp.PyArray_IS_C_CONTIGUOUS(array):
        got += ", not contiguous"
    if not cnp.PyArray_ISALIGNED(array):
        got += ", not aligned"
    if not cnp.PyArray_ISWRITEABLE(array):
        got += ", read-only"
    return got


cdef inline Py_ssize_t length_of(array) except -1:
    """Length of the first dimension."""
    if type(array) is not cnp.ndarray or cnp.PyArray_NDIM(array) < 1:
        raise ValueError(f"an array was expected, got {described(array)}")
    return cnp.PyArray_DIM(array, 0)


cdef inline const void* optional_data_of(
    name, array, int dtype, Py_ssize_t n_rows, Py_ssize_t n_columns, bint writable=False
) except? NULL:
    """`data_of`, or NULL for an array without rows."""
    return (
        data_of(name, array, dtype, n_rows, n_columns, writable) if length_of(array) > 0 else NULL)


cdef inline bint has_dtype(array, dtype):
    """Whether it is an array of this structured dtype. It usually has this very object, which is fast to check."""
    return type(array) is cnp.ndarray and (array.dtype is dtype or array.dtype == dtype)


cdef inline const void* record_of(name, record, dtype) except NULL:
    """Check that `record` is a record of this dtype."""
    if not has_dtype(record, dtype) or cnp.PyArray_NDIM(record) != 0:
        raise ValueError(f"{name} must be a record of dtype {dtype}, got {described(record)}")
    return cnp.PyArray_DATA(record)


cdef inline int read_examples(Examples* examples, tuple arrays, const Graph* graph, int dtype) except -1:
    """Fill `Examples` with x, targets, labels and sample weights."""
    x, targets, labels, sample_weight = arrays
    cdef Py_ssize_t n = length_of(x)
    if n < 1:
        raise ValueError("x must have at least one row")
    examples.n = n
    examples.x = data_of("x", x, dtype, n, graph.n_inputs)
    examples.targets = optional_data_of("targets", targets, dtype, n, graph.n_outputs)
    examples.labels = <const intp_t*>optional_data_of("labels", labels, cnp.NPY_INTP, n, -1)
    examples.sample_weight = optional_data_of("sample_weight", sample_weight, dtype, n, -1)
    return 0


cdef inline bint indices_are_below(Py_ssize_t n, Py_ssize_t count, const intp_t* indices) noexcept:
    cdef Py_ssize_t i
    cdef int outside = 0
    for i in range(count):
        outside |= <size_t>indices[i] >= <size_t>n
    return outside == 0
