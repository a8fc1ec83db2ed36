"""The operation table that Python passes: it is checked, and planned in a copy."""

cimport numpy as cnp
from cpython.bytearray cimport PyByteArray_AS_STRING
from libc.string cimport memcpy

from cnet._core.activations cimport LINEAR, SOFTMAX
from cnet._core.checks cimport described, has_dtype
from cnet._core.graph cimport MOST_NEURONS, MOST_ROWS, Graph, Op
from cnet._core.ops cimport (
    BATCH_NORM, DENSE, LAYER_NORM, RESIDUAL_BEGIN, RESIDUAL_END, plan_graph)
from cnet._core.team cimport TEAM_MOST_THREADS


cdef inline int check_operations(const Op* ops, Py_ssize_t n_ops, Graph* graph) except -1:
    """Raise ValueError if the operations do not fit together, the parameters or the buffers."""
    cdef Py_ssize_t i, n_outputs, n_weights
    cdef const Op* op
    cdef bint sound
    if n_ops < 1:
        raise ValueError("the table must have at least one operation")
    n_outputs = ops[0].n_inputs
    for i in range(n_ops):
        op = &ops[i]
        sound = (
            0 <= op.kind <= RESIDUAL_END and op.n_inputs == n_outputs
            and 1 <= op.n_inputs <= MOST_NEURONS and 1 <= op.n_outputs <= MOST_NEURONS
            and LINEAR <= op.activation <= SOFTMAX and 0 <= op.dropout < 1
            and (op.kind == DENSE or (
                op.n_outputs == op.n_inputs and op.l1 == 0 and op.l2 == 0 and op.max_norm == 0)))
        n_weights = op.n_inputs * op.n_outputs if op.kind == DENSE else op.n_outputs
        if op.weights >= 0:
            sound = sound and (
                op.n_weights == n_weights and op.weights <= graph.n_parameters - n_weights
                and (op.kind == DENSE or op.kind == LAYER_NORM or op.kind == BATCH_NORM))
            if op.biases >= 0:
                sound = sound and (
                    op.biases == op.weights + n_weights
                    and op.biases <= graph.n_parameters - op.n_outputs)
        else:
            sound = sound and op.kind != DENSE and op.biases < 0
        if op.kind == BATCH_NORM:
            sound = sound and (
                0 <= op.statistics <= graph.n_buffers - 2 * op.n_outputs)
        if op.kind == RESIDUAL_BEGIN or op.kind == RESIDUAL_END:
            sound = sound and 0 <= op.partner < n_ops and (
                ops[op.partner].partner == i and ops[op.partner].n_inputs == op.n_inputs
                and ops[op.partner].kind == RESIDUAL_BEGIN + RESIDUAL_END - op.kind
                and (op.partner > i) == (op.kind == RESIDUAL_BEGIN))
        if not sound:
            raise ValueError(f"operation {i} does not fit the table, the parameters or the buffers")
        n_outputs = op.n_outputs
    graph.n_inputs = ops[0].n_inputs
    graph.n_outputs = n_outputs
    return 0


cdef inline plan_operations(Graph* graph, operations, tuple layout, bint training, int dtype, record):
    """Check a table of records, and return a copy with its workspace planned."""
    cdef Py_ssize_t capacity, block
    cdef int threads
    capacity, block, threads = layout
    if not (
            1 <= capacity <= MOST_ROWS and 1 <= block <= MOST_ROWS
            and 1 <= threads <= TEAM_MOST_THREADS):
        raise ValueError(f"layout must be rows, rows of a block and threads, got {layout}")
    if not has_dtype(operations, record) or not (
            cnp.PyArray_NDIM(operations) == 1 and cnp.PyArray_ISCARRAY_RO(operations)):
        raise ValueError(f"operations must be a table of dtype {record}, got {described(operations)}")
    # Copy the bytes, because NumPy copies records field by field.
    graph.n_ops = cnp.PyArray_DIM(operations, 0)
    table = bytearray(graph.n_ops * sizeof(Op))
    graph.ops = <Op*>PyByteArray_AS_STRING(table)
    memcpy(graph.ops, cnp.PyArray_DATA(operations), graph.n_ops * sizeof(Op))
    check_operations(graph.ops, graph.n_ops, graph)
    graph.capacity = capacity
    graph.block = block
    graph.threads = threads
    graph.training = training
    graph.transposed = False
    if dtype == cnp.NPY_FLOAT32:
        plan_graph[float](graph, NULL)
    else:
        plan_graph[double](graph, NULL)
    if graph.ops[graph.n_ops - 1].outputs < 0:
        raise ValueError("the table must have an operation that does something")
    return table


