"""Normalisation: y = (x - mean) / sqrt(variance + epsilon) * weights + biases, as PyTorch defines it.

The mean and the variance are those of a row (layer normalisation: Ba, Kiros and Hinton, 2016), or those of a
column of the batch (batch normalisation: Ioffe and Szegedy, 2015).
"""

from libc.math cimport sqrt

from cnet._core.graph cimport (
    NEURON_WORK, Block, Graph, Op, allot, allot_rows, at, biases_of, inputs_of, outputs_of, weights_of)
from cnet._core.optimizers cimport Descent, update_tensors
from cnet._core.scalar cimport real, square_root


cdef enum:
    # Columns that are summed together, in double.
    COLUMNS = 64
    # Number of partial sums of a row, because a single sum cannot be vectorised.
    LANES = 16


cdef inline void norm_plan(Graph* graph, Op* op) noexcept nogil:
    op.outputs = allot_rows(graph, op.n_outputs)
    graph.row_work += NEURON_WORK * op.n_outputs
    # Gradients of weights and biases; ones and zeros if the operation has no weights and biases.
    graph.scratch_size = max(graph.scratch_size, 4 * op.n_outputs)


cdef inline void layer_norm_plan(Graph* graph, Op* op) noexcept nogil:
    norm_plan(graph, op)
    op.moments = allot(graph, 2 * graph.capacity)


cdef inline void batch_norm_plan(Graph* graph, Op* op) noexcept nogil:
    norm_plan(graph, op)
    op.moments = allot(graph, 2 * op.n_outputs)


cdef inline bint batch_norm_fits(const Graph* graph, const Op* op) noexcept nogil:
    return 0 <= op.statistics <= graph.n_buffers - 2 * op.n_outputs


cdef inline const real* constants(
    const Graph* graph, const Op* op, Py_ssize_t place, real value
) noexcept nogil:
    """A value for each neuron, stored after `place` such arrays of the scratch memory."""
    cdef Py_ssize_t j
    cdef real* values = at(graph, graph.thread_scratch, &value) + place * op.n_outputs
    for j in range(op.n_outputs):
        values[j] = value
    return values


cdef inline const real* scale_of(const Graph* graph, const Op* op, const real* like) noexcept nogil:
    """The weights, or ones."""
    if op.weights >= 0:
        return weights_of(graph, op, like)
    return constants(graph, op, 2, <real>1)


cdef inline const real* shift_of(const Graph* graph, const Op* op, const real* like) noexcept nogil:
    """The biases, or zeros."""
    if op.biases >= 0:
        return biases_of(graph, op, like)
    return constants(graph, op, 3, <real>0)


cdef inline void learn(
    const Graph* graph,
    const Op* op,
    const Descent* descent,
    real* sums,  # IN, for each column the sum of delta x^, then the sum of delta; clipped in place
) noexcept nogil:
    """dL/dweights and dL/dbiases: added to the gradient, or used for an update immediately."""
    cdef Py_ssize_t j, n_biases = op.n_outputs if op.biases >= 0 else 0
    cdef real* d = sums
    if op.weights < 0:
        return
    if descent.gradient != NULL:
        d = <real*>descent.gradient + op.weights
        for j in range(op.n_weights + n_biases):
            d[j] = d[j] + sums[j] if descent.accumulate else sums[j]
    if descent.step != NULL:
        update_tensors(descent.step, op, op.weights, op.n_weights, n_biases, d)


# Layer normalisation

cdef inline real value(real x, real y, real mean) noexcept nogil:
    return x


cdef inline real squared_deviation(real x, real y, real mean) noexcept nogil:
    return (x - mean) * (x - mean)


cdef inline real product_with_deviation(real x, real y, real mean) noexcept nogil:
    return y * (x - mean)


cdef inline real row_mean(
    real (*term)(real, real, real) noexcept nogil,
    Py_ssize_t n,
    const real* x,  # IN
    const real* y,  # IN
    real mean,
) noexcept nogil:
    """Mean of term(x, y, mean) over a row. The function is a constant, so it is inlined."""
    cdef Py_ssize_t i = 0, j
    cdef real sums[LANES]
    cdef real total = 0
    for j in range(LANES):
        sums[j] = 0
    while i + LANES <= n:
        for j in range(LANES):
            sums[j] += term(x[i + j], y[i + j], mean)
        i += LANES
    for j in range(n - i):
        sums[j] += term(x[i + j], y[i + j], mean)
    for j in range(LANES):
        total += sums[j]
    return total / <real>n


cdef inline void layer_norm_forward(
    const Graph* graph, const Op* op, const Block* block, const real* like
) noexcept nogil:
    cdef Py_ssize_t i, j, O = op.n_outputs
    cdef const real* x = inputs_of(graph, op, block, like)
    cdef const real* weights = scale_of(graph, op, like)
    cdef const real* biases = shift_of(graph, op, like)
    cdef real* y = outputs_of(graph, op, block, like)
    cdef real* moments = at(graph, op.moments, like) + 2 * block.start
    cdef real mean, factor
    for i in range(block.n_rows):
        mean = row_mean[real](value[real], O, x, x, 0)
        factor = <real>1 / square_root(
            row_mean[real](squared_deviation[real], O, x, x, mean) + <real>op.epsilon)
        moments[2 * i] = mean
        moments[2 * i + 1] = factor
        for j in range(O):
            y[j] = (x[j] - mean) * factor * weights[j] + biases[j]
        x += O
        y += O


cdef inline void layer_norm_sums(
    const Op* op,
    const Block* block,
    const real* x,  # IN
    const real* moments,  # IN
    const real* delta,  # IN
    real* sums,  # OUT, as `learn` takes them
) noexcept nogil:
    cdef Py_ssize_t i, j, O = op.n_outputs
    cdef real mean, factor
    for j in range(2 * O):
        sums[j] = 0
    for i in range(block.n_rows):
        mean = moments[2 * i]
        factor = moments[2 * i + 1]
        for j in range(O):
            sums[j] += delta[i * O + j] * ((x[i * O + j] - mean) * factor)
            sums[O + j] += delta[i * O + j]


cdef inline void layer_norm_backward(
    const Graph* graph,
    const Op* op,
    const Block* block,
    const Descent* descent,  # or NULL: the parameters are not trained
    const real* delta,  # IN, dL/dy
    real* dx,  # OUT, or NULL
) noexcept nogil:
    """dx = (g - mean g - x^ mean(g x^)) / sqrt(variance + epsilon), g = delta weights, row by row."""
    cdef Py_ssize_t i, j, O = op.n_outputs
    cdef const real* x = inputs_of(graph, op, block, delta)
    cdef const real* weights = scale_of(graph, op, delta)
    cdef const real* moments = at(graph, op.moments, delta) + 2 * block.start
    cdef real* sums = at(graph, graph.thread_scratch, delta)
    cdef real mean, factor, mean_g, mean_product
    if descent != NULL:
        layer_norm_sums(op, block, x, moments, delta, sums)
    if dx != NULL:
        for i in range(block.n_rows):
            mean = moments[2 * i]
            factor = moments[2 * i + 1]
            for j in range(O):
                dx[j] = delta[i * O + j] * weights[j]
            mean_g = row_mean[real](value[real], O, dx, dx, 0)
            mean_product = factor * row_mean[real](product_with_deviation[real], O, x, dx, mean)
            for j in range(O):
                dx[j] = factor * (dx[j] - mean_g - (x[j] - mean) * factor * mean_product)
            x += O
            dx += O
    if descent != NULL:
        learn(graph, op, descent, sums)


# Batch normalisation

cdef inline bint takes_batch_statistics(
    const Graph* graph, const Op* op, const Block* block
) noexcept nogil:
    """Whether the batch's statistics are used. Frozen layers and single rows use the running statistics."""
    return graph.training and op.trainable and block.n_rows > 1


cdef inline void batch_moments(
    const Op* op,
    const Block* block,
    const real* x,  # IN
    real* moments,  # OUT, means and then reciprocal deviations
    real* running,  # INOUT, means and then variances
) noexcept nogil:
    """Moments of the batch's columns. The running moments make a step towards them."""
    cdef Py_ssize_t i, j, first = 0, n, B = block.n_rows, O = op.n_outputs
    cdef double sums[COLUMNS]
    cdef double means[COLUMNS]
    cdef double variance, momentum = op.momentum
    while first < O:
        n = min(COLUMNS, O - first)
        for j in range(n):
            sums[j] = 0
        for i in range(B):
            for j in range(n):
                sums[j] += <double>x[i * O + first + j]
        for j in range(n):
            means[j] = sums[j] / B
            sums[j] = 0
        for i in range(B):
            for j in range(n):
                sums[j] += (<double>x[i * O + first + j] - means[j]) * (
                    <double>x[i * O + first + j] - means[j])
        for j in range(n):
            variance = sums[j] / B
            moments[first + j] = <real>means[j]
            moments[O + first + j] = <real>(1 / sqrt(variance + op.epsilon))
            running[first + j] = <real>(
                (1 - momentum) * <double>running[first + j] + momentum * means[j])
            # Running statistics have the unbiased variance, as in PyTorch.
            running[O + first + j] = <real>(
                (1 - momentum) * <double>running[O + first + j] + momentum * sums[j] / (B - 1))
        first += n


cdef inline void batch_norm_forward(
    const Graph* graph, const Op* op, const Block* block, const real* like
) noexcept nogil:
    cdef Py_ssize_t i, j, O = op.n_outputs
    cdef const real* x = inputs_of(graph, op, block, like)
    cdef const real* weights = scale_of(graph, op, like)
    cdef const real* biases = shift_of(graph, op, like)
    cdef real* y = outputs_of(graph, op, block, like)
    cdef real* moments = at(graph, op.moments, like)
    cdef real* running = <real*>graph.buffers + op.statistics
    if takes_batch_statistics(graph, op, block):
        batch_moments(op, block, x, moments, running)
    else:
        for j in range(O):
            moments[j] = running[j]
            moments[O + j] = <real>1 / square_root(running[O + j] + <real>op.epsilon)
    for i in range(block.n_rows):
        for j in range(O):
            y[i * O + j] = (x[i * O + j] - moments[j]) * moments[O + j] * weights[j] + biases[j]


cdef inline void batch_norm_sums(
    const Op* op,
    const Block* block,
    const real* x,  # IN
    const real* moments,  # IN
    const real* delta,  # IN
    real* sums,  # OUT, as `learn` takes them
) noexcept nogil:
    cdef Py_ssize_t i, j, first = 0, n, p, O = op.n_outputs
    cdef double of_products[COLUMNS]
    cdef double of_deltas[COLUMNS]
    while first < O:
        n = min(COLUMNS, O - first)
        for j in range(n):
            of_products[j] = 0
            of_deltas[j] = 0
        for i in range(block.n_rows):
            p = i * O + first
            for j in range(n):
                of_products[j] += <double>(
                    delta[p + j] * ((x[p + j] - moments[first + j]) * moments[O + first + j]))
                of_deltas[j] += <double>delta[p + j]
        for j in range(n):
            sums[first + j] = <real>of_products[j]
            sums[O + first + j] = <real>of_deltas[j]
        first += n


cdef inline void batch_norm_backward(
    const Graph* graph,
    const Op* op,
    const Block* block,
    const Descent* descent,  # or NULL: the parameters are not trained
    const real* delta,  # IN, dL/dy
    real* dx,  # OUT, or NULL
) noexcept nogil:
    """dx = weights (delta - mean delta - x^ mean(delta x^)) / sqrt(variance + epsilon), column by column.

    Running statistics do not depend on x; with them the means are left out.
    """
    cdef Py_ssize_t i, j, B = block.n_rows, O = op.n_outputs
    cdef const real* x = inputs_of(graph, op, block, delta)
    cdef const real* weights = scale_of(graph, op, delta)
    cdef const real* moments = at(graph, op.moments, delta)
    cdef real* sums = at(graph, graph.thread_scratch, delta)
    cdef bint of_batch = takes_batch_statistics(graph, op, block)
    cdef real part = <real>1 / <real>B if of_batch else 0
    batch_norm_sums(op, block, x, moments, delta, sums)
    if dx != NULL:
        for i in range(B):
            for j in range(O):
                dx[i * O + j] = weights[j] * moments[O + j] * (
                    delta[i * O + j] - part * sums[O + j]
                    - (x[i * O + j] - moments[j]) * moments[O + j] * (part * sums[j]))
    if descent != NULL:
        learn(graph, op, descent, sums)
