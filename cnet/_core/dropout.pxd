"""Dropout: sets a random fraction of a layer's outputs to 0, and scales up the others."""

from libc.stdint cimport uint32_t, uint64_t

from cnet._core.graph cimport Block, Graph, Op, allot_rows, at, inputs_of, outputs_of, place
from cnet._core.scalar cimport real


cdef inline uint64_t splitmix64(uint64_t x) noexcept nogil:
    """A hash of 64 bits (Steele, Lea and Flood, 2014)."""
    x += <uint64_t>0x9E3779B97F4A7C15
    x = (x ^ (x >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
    x = (x ^ (x >> 27)) * <uint64_t>0x94D049BB133111EB
    return x ^ (x >> 31)


cdef inline uint64_t dropout_key(uint64_t seed, Py_ssize_t step, Py_ssize_t first_row) noexcept nogil:
    """The key of a block's random numbers, which does not depend on how batches are grouped into calls."""
    return splitmix64(splitmix64(seed + <uint64_t>step) + <uint64_t>first_row) | 1


cdef inline void drop(
    uint64_t key,
    double share,
    Py_ssize_t n,
    const real* x,  # IN
    real* mask,  # OUT
    real* y,  # OUT
) noexcept nogil:
    """mask = 0 for a random fraction `share` of the elements, and 1 / (1 - share) for the others; y = x mask.

    An element's random number is a function of its index and the key (Salmon et al., 2011): a 32-bit hash
    by Wellons (2018), which the compiler vectorises.
    """
    cdef uint32_t position = <uint32_t>key, second = <uint32_t>(key >> 32), hash
    cdef uint32_t bound = <uint32_t>(share * 4294967296.0)
    cdef real kept = <real>(1 / (1 - share))
    cdef Py_ssize_t i
    for i in range(n):
        position += <uint32_t>0x9E3779B1
        hash = (position ^ (position >> 16)) * <uint32_t>0x21F0AAAD
        hash = ((hash ^ (hash >> 15)) + second) * <uint32_t>0x735A2D97
        hash = hash ^ (hash >> 15)
        mask[i] = 0 if hash < bound else kept
        y[i] = x[i] * mask[i]


cdef inline void dropout_plan(Graph* graph, Op* op) noexcept nogil:
    op.outputs = op.inputs
    if graph.training:
        op.outputs = allot_rows(graph, op.n_outputs)
        op.kept = allot_rows(graph, op.n_outputs)


cdef inline void dropout_forward(
    const Graph* graph, const Op* op, const Block* block, const real* like
) noexcept nogil:
    """y = x mask."""
    if graph.training:
        drop(
            splitmix64(block.dropout_key + <uint64_t>op.layer), op.dropout,
            block.n_rows * op.n_outputs, inputs_of(graph, op, block, like),
            at(graph, op.kept, like) + place(block, op.n_outputs), outputs_of(graph, op, block, like))


cdef inline void dropout_backward(
    const Graph* graph,
    const Op* op,
    const Block* block,
    real* delta,  # INOUT
) noexcept nogil:
    """delta = delta mask."""
    cdef Py_ssize_t i
    cdef const real* mask = at(graph, op.kept, delta) + place(block, op.n_outputs)
    if graph.training:
        for i in range(block.n_rows * op.n_outputs):
            delta[i] = delta[i] * mask[i]
