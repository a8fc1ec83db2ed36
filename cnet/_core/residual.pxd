"""The skip connection: out = x + f(x) (He et al., 2016).

Two operations enclose those of f. In the forward pass, the first does nothing and the second adds. In the backward
pass, the second keeps the delta, and the first adds it to the delta that has passed back through f.
"""

from libc.string cimport memcpy
from numpy cimport intp_t

from cnet._core.graph cimport (
    Block, Graph, Op, allot_rows, at, elements, inputs_of, outputs_of, place)
from cnet._core.scalar cimport real


cdef inline bint residual_fits(
    const Graph* graph, const Op* op, intp_t begin, intp_t end
) noexcept nogil:
    """Whether an operation of kind `begin` or `end` and its partner refer to each other."""
    cdef Py_ssize_t i = op - graph.ops
    cdef const Op* partner
    if not 0 <= op.partner < graph.n_ops:
        return False
    partner = &graph.ops[op.partner]
    return (
        partner.partner == i and partner.n_inputs == op.n_inputs
        and partner.kind == begin + end - op.kind and (op.partner > i) == (op.kind == begin))


cdef inline void residual_begin_plan(Graph* graph, Op* op) noexcept nogil:
    op.outputs = op.inputs


cdef inline void residual_end_plan(Graph* graph, Op* op) noexcept nogil:
    op.outputs = allot_rows(graph, op.n_outputs)
    op.kept = allot_rows(graph, op.n_outputs)


cdef inline void residual_end_forward(
    const Graph* graph, const Op* op, const Block* block, const real* like
) noexcept nogil:
    """y = x + f(x)."""
    cdef Py_ssize_t i
    cdef const real* x = inputs_of(graph, &graph.ops[op.partner], block, like)
    cdef const real* f = inputs_of(graph, op, block, like)
    cdef real* y = outputs_of(graph, op, block, like)
    for i in range(elements(block.n_rows, op.n_outputs, block.column_stride)):
        y[i] = x[i] + f[i]


cdef inline void residual_end_backward(
    const Graph* graph,
    const Op* op,
    const Block* block,
    const real* delta,  # IN
) noexcept nogil:
    """Keep the delta for the other end."""
    memcpy(
        at(graph, op.kept, delta) + place(block, op.n_outputs), delta,
        elements(block.n_rows, op.n_outputs, block.column_stride) * sizeof(real))


cdef inline void residual_begin_backward(
    const Graph* graph,
    const Op* op,
    const Block* block,
    real* delta,  # INOUT
) noexcept nogil:
    """delta += the delta that the other end has kept."""
    cdef Py_ssize_t i
    cdef const real* kept = (
        at(graph, graph.ops[op.partner].kept, delta) + place(block, op.n_outputs))
    for i in range(elements(block.n_rows, op.n_outputs, block.column_stride)):
        delta[i] = delta[i] + kept[i]
