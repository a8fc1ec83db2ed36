"""Penalties on weights, and a bound on their norm."""

from cnet._core.graph cimport Graph, Op, weights_of
from cnet._core.scalar cimport absolute, real, square_root


# Number of partial sums.
cdef enum:
    SUMS = 64


cdef inline double penalty(
    double l1,
    double l2,
    Py_ssize_t I,
    Py_ssize_t O,
    const real* weights_IO,  # IN
) noexcept nogil:
    """l1 sum |w| + l2 / 2 sum w^2."""
    cdef Py_ssize_t first = 0, i, j, stop, n = I * O
    cdef real sums[SUMS]
    cdef real size = <real>l1, square = <real>(0.5 * l2)
    cdef double total = 0
    while first + SUMS <= n:
        for j in range(SUMS):
            sums[j] = 0
        # Partial sums, because a single sum cannot be vectorised; block by block, which loses fewer digits.
        stop = min(n, first + 64 * SUMS)
        while first + SUMS <= stop:
            # The squares of large weights overflow, which must not affect l1.
            if l2 > 0:
                for j in range(SUMS):
                    sums[j] += weights_IO[first + j] * weights_IO[first + j] * square
            if l1 > 0:
                for j in range(SUMS):
                    sums[j] += absolute(weights_IO[first + j]) * size
            first += SUMS
        for j in range(SUMS):
            total += sums[j]
    for i in range(first, n):
        if l2 > 0:
            total += weights_IO[i] * weights_IO[i] * square
        total += absolute(weights_IO[i]) * size
    return total


cdef inline void add_penalty_gradient(
    double l1,
    double l2,
    Py_ssize_t n,
    const real* weights,  # IN
    real* gradient,  # INOUT
) noexcept nogil:
    """gradient += l1 sign(w) + l2 w."""
    cdef Py_ssize_t i
    cdef real first = <real>l1, second = <real>l2
    if l2 > 0:
        for i in range(n):
            gradient[i] += second * weights[i]
    if l1 > 0:
        for i in range(n):
            gradient[i] += first if weights[i] > 0 else (-first if weights[i] < 0 else 0)


cdef inline double penalties(
    const Graph* graph,
    const real* like,
) noexcept nogil:
    """Sum of the l1 and l2 penalties of all operations, which is part of the loss."""
    cdef Py_ssize_t i
    cdef const Op* op
    cdef double total = 0
    for i in range(graph.n_ops):
        op = &graph.ops[i]
        if op.l1 > 0 or op.l2 > 0:
            total += penalty(
                op.l1, op.l2, op.n_inputs, op.n_outputs, weights_of(graph, op, like))
    return total


cdef inline void limit_norms(
    double max_norm,
    Py_ssize_t I,
    Py_ssize_t O,
    real* weights_IO,  # INOUT
    real* factors_O,  # scratch
) noexcept nogil:
    """Shrink each neuron's weights to a Euclidean norm of at most `max_norm` (Srebro et al., 2005)."""
    cdef Py_ssize_t i, j
    cdef real limit = <real>max_norm
    for j in range(O):
        factors_O[j] = 0
    for i in range(I):
        for j in range(O):
            factors_O[j] += weights_IO[i * O + j] * weights_IO[i * O + j]
    for j in range(O):
        factors_O[j] = square_root(factors_O[j])
        # A norm that overflows gives NaN, which ends the training. 0 would delete the neuron silently.
        factors_O[j] = (
            limit / factors_O[j] + (factors_O[j] - factors_O[j]) if factors_O[j] > limit else <real>1)
    for i in range(I):
        for j in range(O):
            weights_IO[i * O + j] = weights_IO[i * O + j] * factors_O[j]


cdef inline void apply_max_norm(
    const Graph* graph,
    real* scratch,  # as many elements as the widest operation has outputs
) noexcept nogil:
    """Apply the max_norm of every operation to its weights, after a step."""
    cdef Py_ssize_t i
    cdef const Op* op
    for i in range(graph.n_ops):
        op = &graph.ops[i]
        if op.max_norm > 0 and op.trainable:
            limit_norms(
                op.max_norm, op.n_inputs, op.n_outputs, <real*>weights_of(graph, op, scratch), scratch)
