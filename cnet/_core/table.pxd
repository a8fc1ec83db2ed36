"""The operation table that Python passes: it is checked, and planned in a copy."""

cimport numpy as cnp
from cpython.bytearray cimport PyByteArray_AS_STRING
from libc.string cimport memcpy

from cnet._core.activations cimport LINEAR, SOFTMAX
from cnet._core.checks cimport described, has_dtype
from cnet._core.graph cimport MOST_NEURONS, MOST_ROWS, Graph, Op
from cnet._core.ops cimport N_KINDS, fits, plan_graph, weights_with
from cnet._core.team cimport TEAM_MOST_THREADS


cdef inline int check_operations(Graph* graph) except -1:
    """Raise ValueError if the operations do not fit together, the parameters or the buffers."""
    cdef Py_ssize_t i, n_outputs, n_weights
    cdef const Op* op
    cdef bint sound
    if graph.n_ops < 1:
        raise ValueError("the table must have at least one operation")
    n_outputs = graph.ops[0].n_inputs
    for i in range(graph.n_ops):
        op = &graph.ops[i]
        sound = (
            0 <= op.kind < N_KINDS and op.n_inputs == n_outputs
            and 1 <= op.n_inputs <= MOST_NEURONS and 1 <= op.n_outputs <= MOST_NEURONS
            and LINEAR <= op.activation <= SOFTMAX and 0 <= op.dropout < 1)
        n_weights = weights_with(op)
        if op.weights >= 0:
            sound = sound and (
                op.n_weights == n_weights > 0
                and op.weights <= graph.n_parameters - n_weights)
        if op.biases >= 0:
            sound = sound and (
                op.weights >= 0 and op.biases == op.weights + n_weights
                and op.biases <= graph.n_parameters - op.n_outputs)
        sound = sound and fits(graph, op)
        if not sound:
            raise ValueError(f"operation {i} does not fit the table, the parameters or the buffers")
        n_outputs = op.n_outputs
    graph.n_inputs = graph.ops[0].n_inputs
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
    check_operations(graph)
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


