"""Activations: values and derivatives, accurate over the whole range of the dtype.

To add an activation: a code, its two functions, its line in `activate` and in `differentiate`, its name in
`activation_codes`, and its code in `needs_preactivation` if its derivative cannot be computed from its
output. Its record is in cnet/activations.py. Nothing else names activations one by one.
"""

from libc.math cimport M_SQRT1_2
from libc.string cimport memcpy

from cnet._core.graph cimport (
    Block, Graph, Op, allot_rows, elements, inputs_of, outputs_of, row_stride_of)
from cnet._core.scalar cimport (
    absolute,
    complementary_error,
    exponential,
    exponential_minus_1,
    hyperbolic_tangent,
    logarithm_of_1_plus,
    real,
)


cdef enum Activation:
    LINEAR
    SIGMOID
    TANH
    RELU
    LEAKY_RELU
    ELU
    SELU
    GELU
    SILU
    SOFTPLUS
    SOFTSIGN
    EXP
    SOFTMAX


cdef inline dict activation_codes():
    return {
        "linear": LINEAR,
        "sigmoid": SIGMOID,
        "tanh": TANH,
        "relu": RELU,
        "leaky_relu": LEAKY_RELU,
        "elu": ELU,
        "selu": SELU,
        "gelu": GELU,
        "silu": SILU,
        "softplus": SOFTPLUS,
        "softsign": SOFTSIGN,
        "exp": EXP,
        "softmax": SOFTMAX,
    }


cdef inline bint needs_preactivation(Py_ssize_t activation) noexcept nogil:
    """Whether the derivative is computed from z; for the others, the output is enough."""
    return activation == GELU or activation == SILU


# Klambauer et al. (2017), "Self-Normalizing Neural Networks", equation 14.
cdef extern from *:
    """
    #define CNET_SELU_ALPHA 1.6732632423543772848170429916717
    #define CNET_SELU_SCALE 1.0507009873554804934193349852946
    #define CNET_INVERSE_SQRT_2PI 0.39894228040143267793994605993438
    """
    const double SELU_ALPHA "CNET_SELU_ALPHA"
    const double SELU_SCALE "CNET_SELU_SCALE"
    const double INVERSE_SQRT_2PI "CNET_INVERSE_SQRT_2PI"


cdef inline real sigmoid(real z) noexcept nogil:
    """1 / (1 + exp(-z)), computed with an exponent that is never positive."""
    cdef real e = exponential(-absolute(z))
    cdef real larger = <real>1 / (<real>1 + e)
    return e * larger if z < 0 else larger


cdef inline real sigmoid_derivative(real z, real a) noexcept nogil:
    return a * (<real>1 - a)


cdef inline real tanh_value(real z) noexcept nogil:
    return hyperbolic_tangent(z)


cdef inline real tanh_derivative(real z, real a) noexcept nogil:
    return <real>1 - a * a


cdef inline real relu(real z) noexcept nogil:
    # `z < 0` instead of `z > 0`, so that a NaN passes through.
    return 0 if z < 0 else z


cdef inline real relu_derivative(real z, real a) noexcept nogil:
    return 1 if a > 0 else 0


cdef inline real leaky_relu(real z) noexcept nogil:
    return z if z > 0 else <real>0.01 * z


cdef inline real leaky_relu_derivative(real z, real a) noexcept nogil:
    return <real>1 if a > 0 else <real>0.01


cdef inline real elu(real z) noexcept nogil:
    return z if z > 0 else exponential_minus_1(z)


cdef inline real elu_derivative(real z, real a) noexcept nogil:
    return <real>1 if a > 0 else a + <real>1


cdef inline real selu(real z) noexcept nogil:
    return <real>SELU_SCALE * (z if z > 0 else <real>SELU_ALPHA * exponential_minus_1(z))


cdef inline real selu_derivative(real z, real a) noexcept nogil:
    return <real>SELU_SCALE if a > 0 else a + <real>(SELU_SCALE * SELU_ALPHA)


cdef inline real normal_cdf(real z) noexcept nogil:
    # Uses erfc, because 1 + erf loses every digit below -6.
    return <real>0.5 * complementary_error(-z * <real>M_SQRT1_2)


cdef inline real gelu(real z) noexcept nogil:
    """z Phi(z), exact (Hendrycks and Gimpel, 2016)."""
    return z * normal_cdf(z)


cdef inline real gelu_derivative(real z, real a) noexcept nogil:
    return normal_cdf(z) + z * <real>INVERSE_SQRT_2PI * exponential(-<real>0.5 * z * z)


cdef inline real silu(real z) noexcept nogil:
    return z * sigmoid(z)


cdef inline real silu_derivative(real z, real a) noexcept nogil:
    # Uses sigmoid(-z), because 1 - sigmoid(z) loses its digits if z is large.
    return sigmoid(z) * (<real>1 + z * sigmoid(-z))


cdef inline real softplus(real z) noexcept nogil:
    """log(1 + exp(z)), computed with an exponent that is never positive."""
    return relu(z) + logarithm_of_1_plus(exponential(-absolute(z)))


cdef inline real softplus_derivative(real z, real a) noexcept nogil:
    return -exponential_minus_1(-a)


cdef inline real softsign(real z) noexcept nogil:
    return z / (<real>1 + absolute(z))


cdef inline real softsign_derivative(real z, real a) noexcept nogil:
    return (<real>1 - absolute(a)) * (<real>1 - absolute(a))


cdef inline real exp_value(real z) noexcept nogil:
    return exponential(z)


cdef inline real exp_derivative(real z, real a) noexcept nogil:
    return a


cdef inline void map_value(
    real (*value)(real) noexcept nogil,
    Py_ssize_t n,
    const real* z,  # IN
    real* a,  # OUT, may be z
) noexcept nogil:
    """a = value(z). The function is a constant at each call, so the compiler inlines it."""
    cdef Py_ssize_t i
    for i in range(n):
        a[i] = value(z[i])


cdef inline void multiply_derivative(
    real (*derivative)(real, real) noexcept nogil,
    Py_ssize_t n,
    const real* z,  # IN
    const real* a,  # IN
    real* delta,  # INOUT
) noexcept nogil:
    """delta = delta * derivative(z, a)."""
    cdef Py_ssize_t i
    for i in range(n):
        delta[i] = delta[i] * derivative(z[i], a[i])


# Rows that softmax computes together.
cdef enum:
    ROWS = 64


cdef inline void softmax(
    Py_ssize_t B,
    Py_ssize_t O,
    Py_ssize_t row,
    Py_ssize_t column_stride,
    const real* z_BO,  # IN
    real* a_BO,  # OUT, may be z_BO
) noexcept nogil:
    """a = exp(z - max z) / sum exp(z - max z), row by row."""
    cdef Py_ssize_t first = 0, n, i, j
    cdef const real* z
    cdef real* a
    cdef real of_row[ROWS]
    cdef real z_ij
    while first < B:
        # Column by column over many rows, because rows are often shorter than vectors.
        n = min(ROWS, B - first)
        z = z_BO + first * row
        a = a_BO + first * row
        for i in range(n):
            of_row[i] = z[i * row]
        for j in range(1, O):
            for i in range(n):
                z_ij = z[i * row + j * column_stride]
                of_row[i] = z_ij if z_ij > of_row[i] else of_row[i]
        for j in range(O):
            for i in range(n):
                a[i * row + j * column_stride] = z[i * row + j * column_stride] - of_row[i]
            if row == 1:
                map_value[real](exp_value[real], n, a + j * column_stride, a + j * column_stride)
        if row != 1:
            map_value[real](exp_value[real], n * O, a, a)
        for i in range(n):
            of_row[i] = a[i * row]
        for j in range(1, O):
            for i in range(n):
                of_row[i] += a[i * row + j * column_stride]
        for i in range(n):
            of_row[i] = <real>1 / of_row[i]
        for j in range(O):
            for i in range(n):
                a[i * row + j * column_stride] = a[i * row + j * column_stride] * of_row[i]
        first += n


cdef inline void softmax_backward(
    Py_ssize_t B,
    Py_ssize_t O,
    Py_ssize_t column_stride,
    const real* a_BO,  # IN
    real* delta_BO,  # INOUT
) noexcept nogil:
    """delta = a * (delta - sum(delta * a)), row by row: the Jacobian of softmax."""
    cdef Py_ssize_t i, j
    cdef real inner
    cdef const real* a
    cdef real* delta
    for i in range(B):
        a = a_BO + i * row_stride_of(O, column_stride)
        delta = delta_BO + i * row_stride_of(O, column_stride)
        inner = 0
        for j in range(O):
            inner += delta[j * column_stride] * a[j * column_stride]
        for j in range(O):
            delta[j * column_stride] = a[j * column_stride] * (delta[j * column_stride] - inner)


cdef inline void activate(
    Py_ssize_t activation,
    Py_ssize_t B,
    Py_ssize_t O,
    Py_ssize_t column_stride,
    const real* z_BO,  # IN
    real* a_BO,  # OUT, may be z_BO
) noexcept nogil:
    """a = f(z)."""
    cdef Py_ssize_t n = elements(B, O, column_stride)
    if activation == LINEAR:
        if a_BO != z_BO:
            memcpy(a_BO, z_BO, n * sizeof(real))
    elif activation == SIGMOID:
        map_value[real](sigmoid[real], n, z_BO, a_BO)
    elif activation == TANH:
        map_value[real](tanh_value[real], n, z_BO, a_BO)
    elif activation == RELU:
        map_value[real](relu[real], n, z_BO, a_BO)
    elif activation == LEAKY_RELU:
        map_value[real](leaky_relu[real], n, z_BO, a_BO)
    elif activation == ELU:
        map_value[real](elu[real], n, z_BO, a_BO)
    elif activation == SELU:
        map_value[real](selu[real], n, z_BO, a_BO)
    elif activation == GELU:
        map_value[real](gelu[real], n, z_BO, a_BO)
    elif activation == SILU:
        map_value[real](silu[real], n, z_BO, a_BO)
    elif activation == SOFTPLUS:
        map_value[real](softplus[real], n, z_BO, a_BO)
    elif activation == SOFTSIGN:
        map_value[real](softsign[real], n, z_BO, a_BO)
    elif activation == EXP:
        map_value[real](exp_value[real], n, z_BO, a_BO)
    elif activation == SOFTMAX:
        # The strides are constants, so that the loop is compiled for each layout.
        if column_stride > 1:
            softmax(column_stride, O, 1, column_stride, z_BO, a_BO)
        else:
            softmax(B, O, O, 1, z_BO, a_BO)


cdef inline void differentiate(
    Py_ssize_t activation,
    Py_ssize_t B,
    Py_ssize_t O,
    Py_ssize_t column_stride,
    const real* z_BO,  # IN
    const real* a_BO,  # IN
    real* delta_BO,  # INOUT
) noexcept nogil:
    """delta = dL/da in, dL/dz = dL/da f'(z) out."""
    cdef Py_ssize_t n = elements(B, O, column_stride)
    if activation == SIGMOID:
        multiply_derivative[real](sigmoid_derivative[real], n, z_BO, a_BO, delta_BO)
    elif activation == TANH:
        multiply_derivative[real](tanh_derivative[real], n, z_BO, a_BO, delta_BO)
    elif activation == RELU:
        multiply_derivative[real](relu_derivative[real], n, z_BO, a_BO, delta_BO)
    elif activation == LEAKY_RELU:
        multiply_derivative[real](leaky_relu_derivative[real], n, z_BO, a_BO, delta_BO)
    elif activation == ELU:
        multiply_derivative[real](elu_derivative[real], n, z_BO, a_BO, delta_BO)
    elif activation == SELU:
        multiply_derivative[real](selu_derivative[real], n, z_BO, a_BO, delta_BO)
    elif activation == GELU:
        multiply_derivative[real](gelu_derivative[real], n, z_BO, a_BO, delta_BO)
    elif activation == SILU:
        multiply_derivative[real](silu_derivative[real], n, z_BO, a_BO, delta_BO)
    elif activation == SOFTPLUS:
        multiply_derivative[real](softplus_derivative[real], n, z_BO, a_BO, delta_BO)
    elif activation == SOFTSIGN:
        multiply_derivative[real](softsign_derivative[real], n, z_BO, a_BO, delta_BO)
    elif activation == EXP:
        multiply_derivative[real](exp_derivative[real], n, z_BO, a_BO, delta_BO)
    elif activation == SOFTMAX:
        softmax_backward(B, O, column_stride, a_BO, delta_BO)


# The operation

cdef inline void activation_plan(Graph* graph, Op* op, bint z_is_free) noexcept nogil:
    """Plan the activation in place, unless the backward pass or another operation needs z."""
    op.outputs = op.inputs
    if needs_preactivation(op.activation) or not z_is_free:
        op.outputs = allot_rows(graph, op.n_outputs)


cdef inline void activation_forward(
    const Graph* graph, const Op* op, const Block* block, const real* like
) noexcept nogil:
    """a = f(z)."""
    activate(
        op.activation, block.n_rows, op.n_outputs, block.column_stride,
        inputs_of(graph, op, block, like), outputs_of(graph, op, block, like))


cdef inline void activation_backward(
    const Graph* graph,
    const Op* op,
    const Block* block,
    real* delta,  # INOUT
) noexcept nogil:
    """delta = dL/da in, dL/dz out."""
    differentiate(
        op.activation, block.n_rows, op.n_outputs, block.column_stride,
        inputs_of(graph, op, block, delta), <const real*>outputs_of(graph, op, block, delta), delta)
