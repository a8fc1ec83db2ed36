"""Losses: the value of a row and its gradient with respect to the output layer.

To add one: a code, its two functions, its line in `loss_and_delta`, its name in `loss_codes`; its
settings and legal activations are in `cnet/losses.py`.
"""

from numpy cimport intp_t

from cnet._core.activations cimport EXP, chain, softplus
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


cdef inline double each_output(
    real (*value)(real, real, real, real) noexcept nogil,
    real (*gradient)(real, real, real, real) noexcept nogil,
    Py_ssize_t B,
    Py_ssize_t O,
    const real* z_BO,  # IN
    const real* a_BO,  # IN
    const real* targets,  # IN, rows x O
    const intp_t* rows,  # IN, or NULL
    const real* sample_weight,  # IN, or NULL
    real setting,
    real scale,
    real* delta_BO,  # OUT
) noexcept nogil:
    """Total of w value; delta = scale w gradient. The functions are inlined, as constants."""
    cdef Py_ssize_t i, j, row
    cdef const real* t
    cdef real weight, row_value
    cdef double total = 0
    for i in range(B):
        row = rows[i] if rows != NULL else i
        t = targets + row * O
        weight = sample_weight[row] if sample_weight != NULL else 1
        row_value = 0
        for j in range(O):
            row_value += value(z_BO[i * O + j], a_BO[i * O + j], t[j], setting)
            delta_BO[i * O + j] = scale * weight * gradient(
                z_BO[i * O + j], a_BO[i * O + j], t[j], setting)
        total += <double>weight * row_value
    return total


# Rows whose logarithms are taken together.
cdef enum:
    ROWS = 64


cdef inline double cross_entropy(
    Py_ssize_t B,
    Py_ssize_t O,
    const real* z_BO,  # IN
    const real* a_BO,  # IN
    const real* targets,  # IN, rows x O, or NULL
    const intp_t* labels,  # IN, rows, or NULL
    const intp_t* rows,  # IN, or NULL
    const real* sample_weight,  # IN, or NULL
    real scale,
    real* delta_BO,  # OUT
) noexcept nogil:
    """Total of w sum t (log sum exp z - z); delta = scale w (a sum t - t)."""
    cdef Py_ssize_t first = 0, rows_left, i, j, row, top
    cdef const real* z
    cdef const real* a
    cdef const real* t
    cdef real* delta
    cdef real log_sum[ROWS]
    cdef real largest[ROWS]
    cdef real weight, row_value, target_sum
    cdef double total = 0
    while first < B:
        rows_left = min(ROWS, B - first)
        # log(sum exp z) is z - log(softmax) at any output; at the largest nothing underflows.
        for i in range(rows_left):
            z = z_BO + (first + i) * O
            top = 0
            for j in range(1, O):
                top = j if z[j] > z[top] else top
            largest[i] = z[top]
            log_sum[i] = a_BO[(first + i) * O + top]
        # For all rows at once, which the compiler vectorises.
        for i in range(rows_left):
            log_sum[i] = -logarithm(log_sum[i])
        for i in range(rows_left):
            row = rows[first + i] if rows != NULL else first + i
            weight = sample_weight[row] if sample_weight != NULL else 1
            z = z_BO + (first + i) * O
            a = a_BO + (first + i) * O
            delta = delta_BO + (first + i) * O
            if labels != NULL:
                row_value = (largest[i] - z[labels[row]]) + log_sum[i]
                for j in range(O):
                    delta[j] = scale * weight * a[j]
                delta[labels[row]] = scale * weight * (a[labels[row]] - <real>1)
            else:
                t = targets + row * O
                row_value = 0
                target_sum = 0
                for j in range(O):
                    # Where t is 0 the difference may be infinite.
                    row_value += t[j] * ((largest[i] - z[j]) + log_sum[i]) if t[j] != 0 else 0
                    target_sum += t[j]
                for j in range(O):
                    delta[j] = scale * weight * (a[j] * target_sum - t[j])
            total += <double>weight * row_value
        first += rows_left
    return total


cdef inline double loss_and_delta(
    Py_ssize_t loss,
    real setting,
    Py_ssize_t activation,
    Py_ssize_t B,
    Py_ssize_t O,
    const real* z_BO,  # IN
    const real* a_BO,  # IN
    const real* targets,  # IN, rows x O, or NULL where labels are given
    const intp_t* labels,  # IN, rows, or NULL
    const intp_t* rows,  # IN, which rows of targets, labels and weights; NULL: the first B
    const real* sample_weight,  # IN, or NULL
    real scale,
    real* delta_BO,  # OUT
) noexcept nogil:
    """Total of w L over the rows; delta = scale w dL/dz."""
    cdef double total = 0
    if loss == SQUARED_ERROR:
        total = each_output[real](
            squared_error[real], squared_error_gradient[real],
            B, O, z_BO, a_BO, targets, rows, sample_weight, setting, scale, delta_BO)
    elif loss == ABSOLUTE_ERROR:
        total = each_output[real](
            absolute_error[real], absolute_error_gradient[real],
            B, O, z_BO, a_BO, targets, rows, sample_weight, setting, scale, delta_BO)
    elif loss == HUBER:
        total = each_output[real](
            huber[real], huber_gradient[real],
            B, O, z_BO, a_BO, targets, rows, sample_weight, setting, scale, delta_BO)
    elif loss == QUANTILE:
        total = each_output[real](
            quantile[real], quantile_gradient[real],
            B, O, z_BO, a_BO, targets, rows, sample_weight, setting, scale, delta_BO)
    elif loss == BINARY_CROSS_ENTROPY:
        total = each_output[real](
            binary_cross_entropy[real], binary_cross_entropy_gradient[real],
            B, O, z_BO, a_BO, targets, rows, sample_weight, setting, scale, delta_BO)
    elif loss == POISSON and activation == EXP:
        total = each_output[real](
            poisson_of_exp[real], poisson_of_exp_gradient[real],
            B, O, z_BO, a_BO, targets, rows, sample_weight, setting, scale, delta_BO)
    elif loss == POISSON:
        total = each_output[real](
            poisson_of_softplus[real], poisson_of_softplus_gradient[real],
            B, O, z_BO, a_BO, targets, rows, sample_weight, setting, scale, delta_BO)
    elif loss == CROSS_ENTROPY:
        total = cross_entropy(
            B, O, z_BO, a_BO, targets, labels, rows, sample_weight, scale, delta_BO)
    if not is_fused(loss):
        chain(activation, B, O, z_BO, a_BO, delta_BO)
    return total
