"""The operations by kind: how each is planned, passes a block of rows forward, and passes deltas back.

To add one: a module with these three functions, a kind, and a line in each of the dispatching functions here. The
functions on the traits of a kind need a line where its traits are not the usual ones. Its layer is in cnet/layers.
"""

from libc.string cimport memcpy
from numpy cimport intp_t

from cnet._core.activations cimport (
    LINEAR, activation_backward, activation_forward, activation_plan)
from cnet._core.dense cimport dense_backward, dense_fits, dense_forward, dense_plan
from cnet._core.dropout cimport dropout_backward, dropout_forward, dropout_plan
from cnet._core.gemm cimport ceiling
from cnet._core.graph cimport Block, Graph, Op, allot, allot_rows, at, lanes, outputs_of, row_room
from cnet._core.norm cimport (
    batch_norm_backward, batch_norm_fits, batch_norm_forward, batch_norm_plan, layer_norm_backward,
    layer_norm_forward, layer_norm_plan)
from cnet._core.optimizers cimport Descent
from cnet._core.residual cimport (
    residual_begin_backward, residual_begin_plan, residual_end_backward, residual_end_forward,
    residual_end_plan, residual_fits)
from cnet._core.scalar cimport real


cdef enum Kind:
    DENSE
    ACTIVATION
    DROPOUT
    LAYER_NORM
    BATCH_NORM
    RESIDUAL_BEGIN
    RESIDUAL_END
    N_KINDS


cdef inline dict operation_kinds():
    return {
        "dense": DENSE,
        "activation": ACTIVATION,
        "dropout": DROPOUT,
        "layer_norm": LAYER_NORM,
        "batch_norm": BATCH_NORM,
        "residual_begin": RESIDUAL_BEGIN,
        "residual_end": RESIDUAL_END,
    }


cdef inline Py_ssize_t weights_with(const Op* op) noexcept nogil:
    """Number of weights of an operation that has any; 0: operations of its kind have none."""
    if op.kind == DENSE:
        return op.n_inputs * op.n_outputs
    if op.kind == LAYER_NORM or op.kind == BATCH_NORM:
        return op.n_outputs
    return 0


cdef inline bint fits(const Graph* graph, const Op* op) noexcept nogil:
    """Whether the fields of an operation are valid for its kind."""
    if op.kind == DENSE:
        return dense_fits(op)
    # Only dense layers change the width, and have penalties and a maximum norm.
    if op.n_outputs != op.n_inputs or op.l1 != 0 or op.l2 != 0 or op.max_norm != 0:
        return False
    if op.kind == BATCH_NORM:
        return batch_norm_fits(graph, op)
    if op.kind == RESIDUAL_BEGIN or op.kind == RESIDUAL_END:
        return residual_fits(graph, op, RESIDUAL_BEGIN, RESIDUAL_END)
    return True


cdef inline bint owns_its_outputs(const Op* op) noexcept nogil:
    """Whether no other operation needs what this one puts out, so that the next may overwrite it."""
    return op.outputs != op.inputs and op.kind != ACTIVATION and op.kind != DROPOUT


cdef inline bint runs_transposed(const Op* op) noexcept nogil:
    """Whether an operation works on either layout of outputs and deltas."""
    return (
        op.kind == DENSE or op.kind == ACTIVATION or op.kind == RESIDUAL_BEGIN
        or op.kind == RESIDUAL_END)


cdef inline bint needs_whole_batch(const Op* op) noexcept nogil:
    """Whether an operation takes statistics over the rows of a batch."""
    return op.kind == BATCH_NORM and op.trainable


cdef inline void plan(Graph* graph, Op* op, bint inputs_are_free, const real* like) noexcept nogil:
    """Set an operation's outputs and what it keeps aside, and add what it costs."""
    if op.kind == DENSE:
        dense_plan(graph, op, like)
    elif op.kind == ACTIVATION:
        activation_plan(graph, op, inputs_are_free)
    elif op.kind == DROPOUT:
        dropout_plan(graph, op)
    elif op.kind == LAYER_NORM:
        layer_norm_plan(graph, op)
    elif op.kind == BATCH_NORM:
        batch_norm_plan(graph, op)
    elif op.kind == RESIDUAL_BEGIN:
        residual_begin_plan(graph, op)
    elif op.kind == RESIDUAL_END:
        residual_end_plan(graph, op)


cdef inline void forward(
    const Graph* graph, const Op* op, const Block* block, const real* like
) noexcept nogil:
    """A block of rows through one operation."""
    if op.kind == DENSE:
        dense_forward(graph, op, block, like)
    elif op.kind == ACTIVATION:
        activation_forward(graph, op, block, like)
    elif op.kind == DROPOUT:
        dropout_forward(graph, op, block, like)
    elif op.kind == LAYER_NORM:
        layer_norm_forward(graph, op, block, like)
    elif op.kind == BATCH_NORM:
        batch_norm_forward(graph, op, block, like)
    elif op.kind == RESIDUAL_END:
        residual_end_forward(graph, op, block, like)


cdef inline bint backward(
    const Graph* graph,
    const Op* op,
    const Block* block,
    const Descent* descent,  # or NULL: the parameters are not trained
    real* delta,  # INOUT, dL/doutputs
    real* below,  # OUT, dL/dinputs where it is not put into delta; or NULL: it is not needed
) noexcept nogil:
    """A block's delta back through one operation; returns whether it is now in `below`."""
    if op.kind == DENSE:
        dense_backward(graph, op, block, descent, delta, below)
        return True
    if op.kind == LAYER_NORM:
        layer_norm_backward(graph, op, block, descent, delta, below)
        return True
    if op.kind == BATCH_NORM:
        batch_norm_backward(graph, op, block, descent, delta, below)
        return True
    if op.kind == ACTIVATION:
        activation_backward(graph, op, block, delta)
    elif op.kind == DROPOUT:
        dropout_backward(graph, op, block, delta)
    elif op.kind == RESIDUAL_BEGIN:
        residual_begin_backward(graph, op, block, delta)
    elif op.kind == RESIDUAL_END:
        residual_end_backward(graph, op, block, delta)
    return False


# The network

cdef enum:
    # Inputs and outputs up to which a network is narrow.
    NARROW = 16


cdef inline void plan_graph(Graph* graph, const real* like) noexcept nogil:
    """Lay a network out over a workspace: what the graph has beside its table, sizes and settings."""
    cdef Py_ssize_t i
    cdef Op* op
    cdef intp_t inputs = -1
    cdef bint inputs_are_free = False
    graph.capacity = (
        ceiling(graph.capacity, lanes(like)) * lanes(like) if graph.capacity > 1 else 1)
    graph.block = min(ceiling(graph.block, lanes(like)) * lanes(like), graph.capacity)
    graph.size = graph.scratch_size = graph.shared_size = 0
    graph.widest = 1
    graph.row_work = 0
    graph.first_trained = graph.n_ops
    graph.needs_whole_batch = graph.penalized = graph.constrained = False
    graph.uniform = True
    graph.top = graph.n_ops - 1
    # Without training, dropout at the end does nothing, and the loss starts at the operation below.
    while graph.ops[graph.top].kind == DROPOUT and graph.top > 0 and not graph.training:
        graph.top -= 1
    for i in range(graph.n_ops):
        op = &graph.ops[i]
        op.inputs = inputs
        plan(graph, op, inputs_are_free and i < graph.top, like)
        inputs = op.outputs
        inputs_are_free = owns_its_outputs(op)
        graph.widest = max(graph.widest, op.n_outputs)
        if graph.training and needs_whole_batch(op):
            graph.needs_whole_batch = True
        if op.l1 > 0 or op.l2 > 0:
            graph.penalized = True
        if op.max_norm > 0:
            graph.constrained = True
        if op.weights >= 0:
            if op.trainable:
                graph.first_trained = min(graph.first_trained, i)
            if not (
                    op.trainable and op.learning_rate_factor == 1
                    and op.bias_learning_rate_factor == 1):
                graph.uniform = False
    op = &graph.ops[graph.top]
    graph.output_activation = op.activation if op.kind == ACTIVATION else LINEAR
    graph.n_passed_back = graph.top if op.kind == ACTIVATION else graph.top + 1
    graph.gathered_inputs = allot_rows(graph, graph.n_inputs)
    graph.gathered_targets = allot_rows(graph, graph.n_outputs)
    graph.delta = allot(graph, graph.block * row_room(graph.widest))
    graph.second_delta = allot(graph, graph.block * row_room(graph.widest))
    graph.shared_scratch = allot(graph, graph.shared_size)
    graph.scratch_size = ceiling(graph.scratch_size, 16) * 16
    graph.thread_scratch = allot(graph, graph.threads * graph.scratch_size)


cdef inline bint is_narrow(const Graph* graph, Py_ssize_t batch_size, const real* like) noexcept nogil:
    """Whether layers are so narrow, and batches so large, that rows fill vectors better than neurons."""
    cdef Py_ssize_t i
    # A workspace for single rows has no room for whole vectors.
    if graph.capacity == 1:
        return False
    for i in range(graph.n_ops):
        if not runs_transposed(&graph.ops[i]):
            return False
        if max(graph.ops[i].n_inputs, graph.ops[i].n_outputs) > NARROW:
            return False
    return 2 * batch_size >= lanes(like)


cdef inline Py_ssize_t column_stride_of(
    const Graph* graph, Py_ssize_t B, const real* like
) noexcept nogil:
    """Elements from a neuron's outputs to the next one's, which are whole vectors; 1: not transposed."""
    return ceiling(B, lanes(like)) * lanes(like) if graph.transposed else 1


cdef inline real* forward_block(
    const Graph* graph, const Block* block, const real* like
) noexcept nogil:
    """A block of rows through all operations; returns the outputs of the last."""
    cdef Py_ssize_t i
    for i in range(graph.n_ops):
        forward(graph, &graph.ops[i], block, like)
    return <real*>outputs_of(graph, &graph.ops[graph.n_ops - 1], block, like)


cdef inline void backward_block(
    const Graph* graph,
    const Block* block,
    const Descent* descent,  # or NULL: no gradients by the parameters
    real* dx_BI,  # OUT, or NULL
    real* like,
) noexcept nogil:
    """A block's first delta, dL/dz of the output activation, back through the operations below it."""
    cdef Py_ssize_t i, stop = 0 if dx_BI != NULL else graph.first_trained
    cdef const Op* op
    cdef real* delta = at(graph, graph.delta, like)
    cdef real* below = at(graph, graph.second_delta, like)
    cdef real* to
    for i in range(graph.n_passed_back - 1, stop - 1, -1):
        op = &graph.ops[i]
        to = below
        if i == stop:
            to = NULL
        if op.inputs < 0 and dx_BI != NULL:
            to = dx_BI
        if backward(
                graph, op, block, descent if op.trainable else NULL, delta, to) and to != NULL:
            delta, below = to, delta
    if dx_BI != NULL and delta != dx_BI:
        memcpy(dx_BI, delta, block.n_rows * graph.n_inputs * sizeof(real))
