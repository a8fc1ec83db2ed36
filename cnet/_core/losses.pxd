"""Losses: the value of a row and its gradient with respect to the outputs of the network.

To add a loss: a code, its two functions, its line in `loss_and_delta`, and its name in `loss_codes`. Its settings, the
activations it accepts and the range of its targets are in cnet/losses.py.
"""

from numpy cimport intp_t

from cnet._core.activations cimport EXP, differentiate, softplus
from cnet._core.graph cimport elements, row_stride_of
from cnet._core.scalar cimport absolute, exponential_minus_1, logarithm, real


cdef enum Loss:
    SQUARED_ERROR
    ABSOLUTE_ERROR
    HUBER
    QUANTILE
    BINARY_CROSS_ENTROPY
    CROSS_ENTROPY
    POISSON
    # A Python function, called from the step.
    IN_PYTHON


cdef inline dict loss_codes():
    return {
        "squared_error": SQUARED_ERROR,
        "absolute_error": ABSOLUTE_ERROR,
        "huber": HUBER,
        "quantile": QUANTILE,
        "binary_cross_entropy": BINARY_CROSS_ENTROPY,
        "cross_entropy": CROSS_ENTROPY,
        "poisson": POISSON,
        "in_python": IN_PYTHON,
    }


cdef inline bint is_fused(Py_ssize_t loss) noexcept nogil:
    """Whether the gradient below is dL/dz, which includes the activation's derivative, instead of dL/da."""
    return loss == BINARY_CROSS_ENTROPY or loss == CROSS_ENTROPY or loss == POISSON


# Functions of one output: pre-activation z, output a, target t and the setting s of the loss.

cdef inline real squared_error(real z, real a, real t, real s) noexcept nogil:
    return <real>0.5 * (a - t) * (a - t)


cdef inline real squared_error_gradient(real z, real a, real t, real s) noexcept nogil:
    return a - t


cdef inline real absolute_error(real z, real a, real t, real s) noexcept nogil:
    return absolute(a - t)


cdef inline real absolute_error_gradient(real z, real a, real t, real s) noexcept nogil:
    return 1 if a > t else (-1 if a < t else a - t)


cdef inline real huber(real z, real a, real t, real s) noexcept nogil:
    cdef real d = absolute(a - t)
    return s * (d - <real>0.5 * s) if d > s else <real>0.5 * d * d


cdef inline real huber_gradient(real z, real a, real t, real s) noexcept nogil:
    return s if a - t > s else (-s if a - t < -s else a - t)


cdef inline real quantile(real z, real a, real t, real s) noexcept nogil:
    return s * (t - a) if t > a else (<real>1 - s) * (a - t)


cdef inline real quantile_gradient(real z, real a, real t, real s) noexcept nogil:
    return <real>1 - s if a > t else (-s if a < t else a - t)


cdef inline real binary_cross_entropy(real z, real a, real t, real s) noexcept nogil:
    # softplus(z) - z t, summed so that a confident right answer keeps its digits.
    return ((z if z > 0 else 0) - z * t) + softplus(-absolute(z))


cdef inline real binary_cross_entropy_gradient(real z, real a, real t, real s) noexcept nogil:
    return a - t


cdef inline real poisson_of_exp(real z, real a, real t, real s) noexcept nogil:
    return a - t * z


cdef inline real poisson_of_exp_gradient(real z, real a, real t, real s) noexcept nogil:
    return a - t


cdef inline real poisson_of_softplus(real z, real a, real t, real s) noexcept nogil:
    # Far to the left softplus(z) is exp(z), which underflows long before its logarithm z does.
    return a - t * (z if z < -40 else logarithm(a))


cdef inline real poisson_of_softplus_gradient(real z, real a, real t, real s) noexcept nogil:
    cdef real slope = -exponential_minus_1(-a)
    return slope - t * (slope / a if a > 0 else 1)


# Arguments and results of a loss for one block of rows.
cdef struct Outputs:
    Py_ssize_t activation
    Py_ssize_t n_outputs
    const intp_t* labels  # of all examples, or NULL
    const void* sample_weight  # of all examples, or NULL
    void* values  # scratch
    void* delta  # dL/dz
    # These change from block to block.
    Py_ssize_t n_rows
    Py_ssize_t column_stride
    const void* z
    const void* a
    const void* targets  # in the layout of the outputs, or NULL if there are labels
    const intp_t* rows  # indices of the examples, or NULL: from `first` on
    Py_ssize_t first
    double scale  # of the gradient
    bint label_out_of_range


cdef inline Py_ssize_t example_of(const Outputs* outputs, Py_ssize_t i) noexcept nogil:
    """Index of row i among all examples."""
    return outputs.rows[i] if outputs.rows != NULL else outputs.first + i


cdef inline void each_output(
    real (*value)(real, real, real, real) noexcept nogil,
    real (*gradient)(real, real, real, real) noexcept nogil,
    const Outputs* outputs,
    real setting,
    real* values,  # OUT
) noexcept nogil:
    """values = value of every output; delta = scale gradient. The functions are constants, so they are inlined."""
    cdef Py_ssize_t i, n = elements(outputs.n_rows, outputs.n_outputs, outputs.column_stride)
    cdef const real* z = <const real*>outputs.z
    cdef const real* a = <const real*>outputs.a
    cdef const real* t = <const real*>outputs.targets
    cdef real* delta = <real*>outputs.delta
    cdef real scale = <real>outputs.scale
    for i in range(n):
        values[i] = value(z[i], a[i], t[i], setting)
        delta[i] = scale * gradient(z[i], a[i], t[i], setting)


cdef inline void apply_sample_weight(
    const Outputs* outputs,
    real* values_BO,  # INOUT
) noexcept nogil:
    """values = w values, row by row."""
    cdef Py_ssize_t i, j, column_stride = outputs.column_stride
    cdef Py_ssize_t row_stride = row_stride_of(outputs.n_outputs, column_stride)
    cdef real weight
    for i in range(outputs.n_rows):
        weight = (<const real*>outputs.sample_weight)[example_of(outputs, i)]
        for j in range(outputs.n_outputs):
            values_BO[i * row_stride + j * column_stride] *= weight


cdef inline double total_of(Py_ssize_t n, const real* values) noexcept nogil:
    """Sum of the values, in double."""
    cdef Py_ssize_t i
    cdef double total = 0
    for i in range(n):
        total += <double>values[i]
    return total


# Rows that are computed together.
cdef enum:
    ROWS = 64


cdef inline double cross_entropy(
    Outputs* outputs,
    Py_ssize_t row,
    Py_ssize_t column,
    const real* like,
) noexcept nogil:
    """Total of w sum t (log sum exp z - z); delta = scale w (a sum t - t).

    `row` and `column` are the strides of the outputs.
    """
    cdef Py_ssize_t first = 0, n, i, j, label, B = outputs.n_rows, O = outputs.n_outputs
    cdef const intp_t* labels = outputs.labels
    cdef const real* sample_weight = <const real*>outputs.sample_weight
    cdef const real* z
    cdef const real* a
    cdef const real* t
    cdef real* delta
    cdef real log_sum[ROWS]
    cdef real largest[ROWS]
    cdef real values[ROWS]
    cdef real weights[ROWS]
    cdef real target_sum
    cdef double total = 0
    while first < B:
        n = min(ROWS, B - first)
        z = <const real*>outputs.z + first * row
        a = <const real*>outputs.a + first * row
        delta = <real*>outputs.delta + first * row
        # log(sum exp z) is z - log(softmax) at any output; at the largest one nothing underflows.
        # The loops go neuron by neuron, each over all rows, so that the compiler vectorises them.
        for i in range(n):
            largest[i] = z[i * row]
            log_sum[i] = a[i * row]
        for j in range(1, O):
            for i in range(n):
                largest[i] = (
                    z[i * row + j * column] if z[i * row + j * column] > largest[i] else largest[i])
            for i in range(n):
                log_sum[i] = (
                    a[i * row + j * column] if a[i * row + j * column] > log_sum[i] else log_sum[i])
        for i in range(n):
            log_sum[i] = -logarithm(log_sum[i])
            weights[i] = <real>outputs.scale
        if sample_weight != NULL:
            for i in range(n):
                weights[i] *= sample_weight[example_of(outputs, first + i)]
        if labels != NULL:
            if row == 1:
                for j in range(O):
                    for i in range(n):
                        delta[i + j * column] = weights[i] * a[i + j * column]
            else:
                for i in range(n):
                    for j in range(O):
                        delta[i * row + j] = weights[i] * a[i * row + j]
            for i in range(n):
                label = labels[example_of(outputs, first + i)]
                # Checked here, because another thread may change labels after earlier checks.
                if not 0 <= label < O:
                    outputs.label_out_of_range = True
                    label = 0
                label = i * row + label * column
                values[i] = (largest[i] - z[label]) + log_sum[i]
                delta[label] = weights[i] * (a[label] - <real>1)
        else:
            for i in range(n):
                t = <const real*>outputs.targets + (first + i) * row
                values[i] = 0
                target_sum = 0
                for j in range(O):
                    # If t is 0, the difference may be infinite.
                    values[i] += (
                        t[j * column] * ((largest[i] - z[i * row + j * column]) + log_sum[i])
                        if t[j * column] != 0 else 0)
                    target_sum += t[j * column]
                for j in range(O):
                    delta[i * row + j * column] = weights[i] * (
                        a[i * row + j * column] * target_sum - t[j * column])
        for i in range(n):
            total += <double>values[i] * (
                sample_weight[example_of(outputs, first + i)] if sample_weight != NULL else 1)
        first += n
    return total


cdef inline double loss_and_delta(
    Py_ssize_t loss,
    real setting,
    Outputs* outputs,
    const real* like,
) noexcept nogil:
    """Total of w L over the rows; delta = scale w dL/dz, and 0 in the padding of a column."""
    cdef double total = 0
    cdef Py_ssize_t i, j, B = outputs.n_rows, O = outputs.n_outputs
    cdef Py_ssize_t column_stride = outputs.column_stride
    cdef real* values = <real*>outputs.values
    cdef real* delta = <real*>outputs.delta
    if loss == SQUARED_ERROR:
        each_output[real](
            squared_error[real], squared_error_gradient[real], outputs, setting, values)
    elif loss == ABSOLUTE_ERROR:
        each_output[real](
            absolute_error[real], absolute_error_gradient[real], outputs, setting, values)
    elif loss == HUBER:
        each_output[real](huber[real], huber_gradient[real], outputs, setting, values)
    elif loss == QUANTILE:
        each_output[real](quantile[real], quantile_gradient[real], outputs, setting, values)
    elif loss == BINARY_CROSS_ENTROPY:
        each_output[real](
            binary_cross_entropy[real], binary_cross_entropy_gradient[real], outputs, setting, values)
    elif loss == POISSON and outputs.activation == EXP:
        each_output[real](
            poisson_of_exp[real], poisson_of_exp_gradient[real], outputs, setting, values)
    elif loss == POISSON:
        each_output[real](
            poisson_of_softplus[real], poisson_of_softplus_gradient[real], outputs, setting, values)
    elif loss == CROSS_ENTROPY:
        # The strides are constants, so that the loop is compiled for each layout.
        if column_stride > 1:
            total = cross_entropy(outputs, 1, column_stride, like)
        else:
            total = cross_entropy(outputs, O, 1, like)
    if loss != CROSS_ENTROPY:
        if outputs.sample_weight != NULL:
            apply_sample_weight(outputs, values)
            apply_sample_weight(outputs, delta)
        if column_stride == 1:
            total = total_of(B * O, values)
        else:
            for j in range(O):
                total += total_of(B, values + j * column_stride)
    clear_padding(outputs, delta)
    if not is_fused(loss):
        differentiate(
            outputs.activation, B, O, column_stride, <const real*>outputs.z, <const real*>outputs.a,
            delta)
    return total


cdef inline void clear_padding(
    const Outputs* outputs,
    real* delta,  # INOUT
) noexcept nogil:
    """delta = 0 in the padding of a column."""
    cdef Py_ssize_t i, j
    if outputs.column_stride > 1:
        for j in range(outputs.n_outputs):
            for i in range(outputs.n_rows, outputs.column_stride):
                delta[j * outputs.column_stride + i] = 0
