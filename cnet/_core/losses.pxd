"""Losses: the value of a row and its gradient with respect to the output layer.

To add one: a code, its two functions, its line in `loss_and_delta`, its name in `loss_codes`; its
settings and legal activations are in `cnet/losses.py`.
"""

from numpy cimport intp_t

from cnet._core.activations cimport EXP, chain, elements, row_step, softplus
from cnet._core.scalar cimport absolute, exponential_minus_1, logarithm, real


cdef enum Loss:
    SQUARED_ERROR
    ABSOLUTE_ERROR
    HUBER
    QUANTILE
    BINARY_CROSS_ENTROPY
    CROSS_ENTROPY
    POISSON


cdef inline dict loss_codes():
    return {
        "squared_error": SQUARED_ERROR,
        "absolute_error": ABSOLUTE_ERROR,
        "huber": HUBER,
        "quantile": QUANTILE,
        "binary_cross_entropy": BINARY_CROSS_ENTROPY,
        "cross_entropy": CROSS_ENTROPY,
        "poisson": POISSON,
    }


cdef inline bint is_fused(Py_ssize_t loss) noexcept nogil:
    """Whether the gradient below is dL/dz, the activation's derivative included, not dL/da."""
    return loss == BINARY_CROSS_ENTROPY or loss == CROSS_ENTROPY or loss == POISSON


# Of one output: pre-activation z, output a, target t and the loss's setting s.

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


cdef inline void each_output(
    real (*value)(real, real, real, real) noexcept nogil,
    real (*gradient)(real, real, real, real) noexcept nogil,
    Py_ssize_t n,
    const real* z,  # IN
    const real* a,  # IN
    const real* t,  # IN
    real setting,
    real scale,
    real* values,  # OUT
    real* delta,  # OUT
) noexcept nogil:
    """Value of every output; delta = scale gradient. The functions are inlined, as constants."""
    cdef Py_ssize_t i
    for i in range(n):
        values[i] = value(z[i], a[i], t[i], setting)
        delta[i] = scale * gradient(z[i], a[i], t[i], setting)


cdef inline void weigh(
    Py_ssize_t B,
    Py_ssize_t O,
    Py_ssize_t column,
    const intp_t* rows,  # IN, or NULL
    const real* sample_weight,  # IN
    real* values_BO,  # INOUT
) noexcept nogil:
    """values = w values, row by row."""
    cdef Py_ssize_t i, j, row = row_step(O, column)
    cdef real weight
    for i in range(B):
        weight = sample_weight[rows[i] if rows != NULL else i]
        for j in range(O):
            values_BO[i * row + j * column] *= weight


cdef inline double total_of(Py_ssize_t n, const real* values) noexcept nogil:
    """Sum of the values, in double."""
    cdef Py_ssize_t i
    cdef double total = 0
    for i in range(n):
        total += <double>values[i]
    return total


# Rows that are taken together.
cdef enum:
    ROWS = 64


cdef inline double cross_entropy(
    Py_ssize_t B,
    Py_ssize_t O,
    Py_ssize_t row,
    Py_ssize_t column,
    const real* z_BO,  # IN
    const real* a_BO,  # IN
    const real* targets_BO,  # IN, or NULL
    const intp_t* labels,  # IN, or NULL
    const intp_t* rows,  # IN, or NULL
    const real* sample_weight,  # IN, or NULL
    real scale,
    real* delta_BO,  # OUT
) noexcept nogil:
    """Total of w sum t (log sum exp z - z); delta = scale w (a sum t - t)."""
    cdef Py_ssize_t first = 0, n, i, j, label
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
        z = z_BO + first * row
        a = a_BO + first * row
        delta = delta_BO + first * row
        # log(sum exp z) is z - log(softmax) at any output; at the largest of both nothing underflows.
        # Neuron by neuron, each for all rows at once, which the compiler vectorises.
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
            weights[i] = scale
        if sample_weight != NULL:
            for i in range(n):
                weights[i] *= sample_weight[rows[first + i] if rows != NULL else first + i]
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
                label = i * row + labels[rows[first + i] if rows != NULL else first + i] * column
                values[i] = (largest[i] - z[label]) + log_sum[i]
                delta[label] = weights[i] * (a[label] - <real>1)
        else:
            for i in range(n):
                t = targets_BO + (first + i) * row
                values[i] = 0
                target_sum = 0
                for j in range(O):
                    # Where t is 0 the difference may be infinite.
                    values[i] += (
                        t[j * column] * ((largest[i] - z[i * row + j * column]) + log_sum[i])
                        if t[j * column] != 0 else 0)
                    target_sum += t[j * column]
                for j in range(O):
                    delta[i * row + j * column] = weights[i] * (
                        a[i * row + j * column] * target_sum - t[j * column])
        for i in range(n):
            total += <double>values[i] * (
                sample_weight[rows[first + i] if rows != NULL else first + i]
                if sample_weight != NULL else 1)
        first += n
    return total


cdef inline double loss_and_delta(
    Py_ssize_t loss,
    real setting,
    Py_ssize_t activation,
    Py_ssize_t B,
    Py_ssize_t O,
    Py_ssize_t column,
    const real* z_BO,  # IN
    const real* a_BO,  # IN
    const real* targets_BO,  # IN, or NULL where labels are given
    const intp_t* labels,  # IN, or NULL
    const intp_t* rows,  # IN, which of the labels and weights; NULL: the first B
    const real* sample_weight,  # IN, or NULL
    real scale,
    real* values_BO,  # scratch
    real* delta_BO,  # OUT
) noexcept nogil:
    """Total of w L over the rows; delta = scale w dL/dz, and 0 where B rows do not fill a column."""
    cdef double total = 0
    cdef Py_ssize_t n = elements(B, O, column), i, j
    if loss == SQUARED_ERROR:
        each_output[real](
            squared_error[real], squared_error_gradient[real],
            n, z_BO, a_BO, targets_BO, setting, scale, values_BO, delta_BO)
    elif loss == ABSOLUTE_ERROR:
        each_output[real](
            absolute_error[real], absolute_error_gradient[real],
            n, z_BO, a_BO, targets_BO, setting, scale, values_BO, delta_BO)
    elif loss == HUBER:
        each_output[real](
            huber[real], huber_gradient[real],
            n, z_BO, a_BO, targets_BO, setting, scale, values_BO, delta_BO)
    elif loss == QUANTILE:
        each_output[real](
            quantile[real], quantile_gradient[real],
            n, z_BO, a_BO, targets_BO, setting, scale, values_BO, delta_BO)
    elif loss == BINARY_CROSS_ENTROPY:
        each_output[real](
            binary_cross_entropy[real], binary_cross_entropy_gradient[real],
            n, z_BO, a_BO, targets_BO, setting, scale, values_BO, delta_BO)
    elif loss == POISSON and activation == EXP:
        each_output[real](
            poisson_of_exp[real], poisson_of_exp_gradient[real],
            n, z_BO, a_BO, targets_BO, setting, scale, values_BO, delta_BO)
    elif loss == POISSON:
        each_output[real](
            poisson_of_softplus[real], poisson_of_softplus_gradient[real],
            n, z_BO, a_BO, targets_BO, setting, scale, values_BO, delta_BO)
    elif loss == CROSS_ENTROPY:
        # The steps as constants, for a loop that is compiled for each layout.
        if column > 1:
            total = cross_entropy(
                B, O, 1, column, z_BO, a_BO, targets_BO, labels, rows, sample_weight, scale, delta_BO)
        else:
            total = cross_entropy(
                B, O, O, 1, z_BO, a_BO, targets_BO, labels, rows, sample_weight, scale, delta_BO)
    if loss != CROSS_ENTROPY:
        if sample_weight != NULL:
            weigh(B, O, column, rows, sample_weight, values_BO)
            weigh(B, O, column, rows, sample_weight, delta_BO)
        if column == 1:
            total = total_of(n, values_BO)
        else:
            for j in range(O):
                total += total_of(B, values_BO + j * column)
    if column > 1:
        for j in range(O):
            for i in range(B, column):
                delta_BO[j * column + i] = 0
    if not is_fused(loss):
        chain(activation, B, O, column, z_BO, a_BO, delta_BO)
    return total
