"""The fully connected layer: forward and backward over one block of rows."""

from libc.string cimport memset

from cnet._core.activations cimport activate
from cnet._core.gemm cimport gemm
from cnet._core.scalar cimport real


cdef inline void dense_forward(
    Py_ssize_t activation,
    Py_ssize_t B,
    Py_ssize_t I,
    Py_ssize_t O,
    const real* x_BI,  # IN
    const real* weights_IO,  # IN
    const real* biases_O,  # IN, or NULL
    real* z_BO,  # OUT
    real* a_BO,  # OUT, may be z_BO
    real* scratch,
) noexcept nogil:
    """a = f(z), z = x W + b."""
    cdef Py_ssize_t i, j
    if biases_O != NULL:
        for i in range(B):
            for j in range(O):
                z_BO[i * O + j] = biases_O[j]
    gemm(B, O, I, x_BI, I, 1, weights_IO, O, 1, z_BO, biases_O != NULL, scratch)
    activate(activation, B, O, z_BO, a_BO)


cdef inline void dense_gradient(
    Py_ssize_t B,
    Py_ssize_t I,
    Py_ssize_t O,
    const real* x_BI,  # IN
    const real* delta_BO,  # IN, dL/dz
    real* d_weights_IO,  # INOUT
    real* d_biases_O,  # INOUT, or NULL
    bint accumulate,
    real* sum_O,  # scratch
    real* scratch,
) noexcept nogil:
    """dW = x^T delta, db = sum of delta over the rows, or += where they accumulate."""
    cdef Py_ssize_t i, j
    gemm(I, O, B, x_BI, 1, I, delta_BO, O, 1, d_weights_IO, accumulate, scratch)
    if d_biases_O != NULL:
        # Block by block: one sum over all rows of a large batch would round ever more away.
        memset(sum_O, 0, O * sizeof(real))
        for i in range(B):
            for j in range(O):
                sum_O[j] += delta_BO[i * O + j]
        for j in range(O):
            d_biases_O[j] = d_biases_O[j] + sum_O[j] if accumulate else sum_O[j]


cdef inline void dense_backward(
    Py_ssize_t B,
    Py_ssize_t I,
    Py_ssize_t O,
    const real* delta_BO,  # IN, dL/dz
    const real* weights_IO,  # IN
    real* dx_BI,  # OUT
    real* scratch,
) noexcept nogil:
    """dL/dx = delta W^T."""
    gemm(B, I, O, delta_BO, O, 1, weights_IO, 1, O, dx_BI, False, scratch)
