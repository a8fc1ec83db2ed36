"""A network in the engine: a table of operations over flat arrays.

`Op` is a row of the table. `Graph` combines the table with the parameters, the buffers and a workspace.
Each operation has its own module; `ops.pxd` calls them by kind, and plans the workspace.
"""

from libc.stdint cimport uint64_t
from numpy cimport intp_t

from cnet._core.gemm cimport ceiling, widest_tile
from cnet._core.scalar cimport real


# A row of the operation table. cnet/_lowering.py fills in the first part, whose fields are those of `Operation` in
# cnet/layers/operation.py; `plan_graph` fills in the second part.
cdef struct Op:
    intp_t kind
    intp_t n_inputs
    intp_t n_outputs
    intp_t layer  # number of its layer; each layer has its own random numbers
    intp_t activation
    intp_t partner  # index of the operation at the other end of a skip connection
    intp_t trainable
    double learning_rate_factor
    double bias_learning_rate_factor
    intp_t weights  # index of the first weight in the parameters, or -1
    intp_t n_weights
    intp_t biases  # index of the first bias, directly after the weights, or -1
    intp_t statistics  # index of the first running statistic in the buffers, or -1
    double dropout  # fraction of the inputs that is set to 0
    double l1
    double l2
    double max_norm  # largest norm of a neuron's weights; 0: no limit
    double epsilon
    double momentum
    # Offsets into the workspace, in elements.
    intp_t inputs  # -1: the network's inputs
    intp_t outputs  # may be the inputs
    intp_t kept  # what the forward pass keeps for the backward pass, as many elements as outputs
    intp_t moments  # mean and reciprocal deviation, of rows or of columns


# A network over the caller's arrays.
cdef struct Graph:
    Op* ops
    Py_ssize_t n_ops
    Py_ssize_t n_inputs
    Py_ssize_t n_outputs
    Py_ssize_t n_parameters
    Py_ssize_t n_buffers
    void* parameters
    void* buffers
    void* workspace
    Py_ssize_t capacity  # rows that the workspace has room for
    Py_ssize_t block  # rows that pass through the operations together
    bint training  # with dropout and the statistics of the batch
    bint transposed  # outputs and deltas are stored neuron by neuron
    int threads
    # The end of the network, where the loss starts.
    Py_ssize_t top  # index of the last operation that does something
    Py_ssize_t output_activation
    Py_ssize_t n_passed_back  # operations below the output activation, where the backward pass starts
    Py_ssize_t first_trained  # index of the first operation whose parameters are trained
    # Offsets into the workspace, in elements.
    intp_t gathered_inputs
    intp_t gathered_targets
    intp_t delta
    intp_t second_delta
    intp_t shared_scratch  # of all threads together
    intp_t thread_scratch  # of the first thread; the scratch of the others follows
    Py_ssize_t shared_size
    Py_ssize_t scratch_size  # elements for each thread
    Py_ssize_t size  # elements of the whole workspace
    Py_ssize_t widest  # outputs of the widest operation
    double row_work  # cost of a row in multiplications, forward and backward
    bint needs_whole_batch  # some operation computes statistics over the rows of a batch
    bint penalized  # some operation has l1 or l2
    bint constrained  # some operation has max_norm
    bint uniform  # all parameters are trained at the same rate


# One block of rows on its way through the operations.
cdef struct Block:
    Py_ssize_t start  # place of its first row in the workspace
    Py_ssize_t n_rows
    Py_ssize_t column_stride  # 1: row by row; otherwise distance from a neuron's outputs to the next neuron's
    uint64_t dropout_key  # source of its random numbers
    const void* x


cdef enum:
    # Maximum number of elements of a cache line.
    ROOM = 16
    # Cost of the element-wise computations for each neuron of a layer, in multiplications.
    NEURON_WORK = 100
    # Rows of a workspace, and inputs and outputs of an operation: no product of two of them overflows.
    MOST_ROWS = 1073741824
    MOST_NEURONS = 2147483647


cdef inline Py_ssize_t lanes(const real* like) noexcept nogil:
    """Rows that are computed together: a vector, or what `multiply_transposed` sums side by side."""
    return max(widest_tile(like) // 2, 4)


cdef inline Py_ssize_t row_room(Py_ssize_t n) noexcept nogil:
    """Elements per row for n values: whole cache lines, with room for the 1 that multiplies the biases."""
    return ceiling(n + 1, ROOM) * ROOM


cdef inline intp_t allot(Graph* graph, Py_ssize_t n_elements) noexcept nogil:
    """Reserve elements of the workspace; returns their offset."""
    cdef intp_t offset = graph.size
    # A size that is too large for any memory must not overflow.
    graph.size = min(graph.size + ceiling(n_elements, ROOM) * ROOM, <Py_ssize_t>1 << 62)
    return offset


cdef inline intp_t allot_rows(Graph* graph, Py_ssize_t n) noexcept nogil:
    """Reserve room for n values of every row; returns its offset."""
    return allot(graph, graph.capacity * row_room(n))


cdef inline Py_ssize_t place(const Block* block, Py_ssize_t n) noexcept nogil:
    """Offset of a block within the room for n values of every row."""
    return block.start * row_room(n) if block.start > 0 else 0


cdef inline real* at(const Graph* graph, intp_t offset, const real* like) noexcept nogil:
    """A place in the workspace."""
    return <real*>graph.workspace + offset


cdef inline const real* inputs_of(
    const Graph* graph, const Op* op, const Block* block, const real* like
) noexcept nogil:
    """Inputs of an operation: the network's inputs, or the outputs of the operation below."""
    if op.inputs < 0:
        return <const real*>block.x
    return at(graph, op.inputs, like) + place(block, op.n_inputs)


cdef inline real* outputs_of(
    const Graph* graph, const Op* op, const Block* block, const real* like
) noexcept nogil:
    """Outputs of an operation."""
    return at(graph, op.outputs, like) + place(block, op.n_outputs)


cdef inline const real* weights_of(const Graph* graph, const Op* op, const real* like) noexcept nogil:
    return <const real*>graph.parameters + op.weights


cdef inline const real* biases_of(const Graph* graph, const Op* op, const real* like) noexcept nogil:
    """An operation's biases, or NULL."""
    return <const real*>graph.parameters + op.biases if op.biases >= 0 else NULL


# Values are stored row by row, and `column_stride` is 1; or they are stored neuron by neuron, and `column_stride` is
# the distance from a neuron's values to the next neuron's, which is at least the number of rows.

cdef inline Py_ssize_t row_stride_of(Py_ssize_t O, Py_ssize_t column_stride) noexcept nogil:
    """Elements from a row to the next."""
    return O if column_stride == 1 else 1


cdef inline Py_ssize_t elements(Py_ssize_t B, Py_ssize_t O, Py_ssize_t column_stride) noexcept nogil:
    """Elements of all rows, including the padding between columns."""
    return B * O if column_stride == 1 else column_stride * O


cdef inline double work_of(const Graph* graph, Py_ssize_t n_rows) noexcept nogil:
    """Cost of a forward and a backward pass in multiplications, including the cost of a call."""
    return n_rows * graph.row_work + 100
