"""The fully connected operation: y = x W + b, its gradients, and its update."""

from cnet._core.gemm cimport (
    Product, Scratch, add_outer, ceiling, column_major, dot_rows, equal_rows, gemm, gemm_packed,
    multiply_columns, multiply_row, multiply_transposed, pack, packed_size, panel_size, row_major)
from cnet._core.graph cimport (
    NEURON_WORK, Block, Graph, Op, allot_rows, at, biases_of, inputs_of, outputs_of, weights_of)
from cnet._core.optimizers cimport Descent, update_tensors
from cnet._core.regularization cimport add_penalty_gradient
from cnet._core.scalar cimport real
from cnet._core.team cimport team_run


cdef enum:
    # Weights of a piece, whose gradient stays in the second-level cache until they are updated.
    PIECE_SIZE = 98304
    # Weights that are not worth cutting into pieces.
    WHOLE_SIZE = 8192
    # Rows of a piece are a multiple of the rows of every tile, where there are enough.
    PIECE_ROWS = 24
    # Numbers that are summed side by side.
    SUMS = 64


cdef inline Py_ssize_t piece_rows(Py_ssize_t I, Py_ssize_t O) noexcept nogil:
    """Rows of weights in a piece of work, whatever the number of threads."""
    cdef Py_ssize_t rows
    if I * O <= WHOLE_SIZE:
        return I
    # At least four, for as many threads.
    rows = min(PIECE_SIZE // O, (I + 3) // 4) // PIECE_ROWS * PIECE_ROWS
    return min(I, max(rows, 6))


cdef inline void dense_plan(Graph* graph, Op* op, const real* like) noexcept nogil:
    cdef Py_ssize_t I = op.n_inputs, O = op.n_outputs, rows = piece_rows(I, O)
    op.outputs = allot_rows(graph, O)
    graph.row_work += 3.0 * (I + (op.biases >= 0)) * O + NEURON_WORK * O
    # For `gemm`, and the gradient of a piece.
    graph.scratch_size = max(graph.scratch_size, panel_size(like) + (rows + 1) * O)
    # The deltas in panels, where several pieces read them.
    if rows < I:
        graph.shared_size = max(graph.shared_size, packed_size(O, graph.block, like))


cdef inline bint dense_fits(const Op* op) noexcept nogil:
    return op.weights >= 0


cdef inline void multiply(
    const Graph* graph,
    const Product* product,  # IN
    const real* like,
) noexcept nogil:
    """C = S + A B, with the graph's scratch and threads."""
    cdef Scratch scratch = Scratch(
        at(graph, graph.thread_scratch, like), graph.scratch_size, graph.threads)
    gemm(product, &scratch, like)


cdef inline void dense_forward(
    const Graph* graph, const Op* op, const Block* block, const real* like
) noexcept nogil:
    """y = x W + b; transposed y' = (W b)' (x 1)'."""
    cdef Py_ssize_t I = op.n_inputs, O = op.n_outputs, column_stride = block.column_stride, i
    cdef const real* x_BI = inputs_of(graph, op, block, like)
    cdef const real* weights_IO = weights_of(graph, op, like)
    cdef const real* biases_O = biases_of(graph, op, like)
    cdef real* y_BO = outputs_of(graph, op, block, like)
    cdef real* ones
    cdef Product product
    if column_stride > 1:
        # Behind the last neuron's inputs, in the room that is there for them.
        ones = <real*>x_BI + I * column_stride
        for i in range(column_stride):
            ones[i] = 1
        multiply_columns(
            O, column_stride, I + 1 if biases_O != NULL else I, column_major(weights_IO, O), x_BI, y_BO)
    elif block.n_rows == 1 and O > 1:
        # `gemm` would choose the same, but narrow layers notice the time that it takes.
        multiply_row(O, I, x_BI, weights_IO, O, True, biases_O, y_BO)
    else:
        product = Product(
            block.n_rows, O, I, row_major(x_BI, I), row_major(weights_IO, O), equal_rows(biases_O),
            y_BO, O)
        multiply(graph, &product, like)


cdef inline void dense_input_gradient(
    const Graph* graph,
    const Op* op,
    const Block* block,
    const real* delta_BO,  # IN
    real* dx_BI,  # OUT
) noexcept nogil:
    """dL/dx = delta W^T."""
    cdef Py_ssize_t I = op.n_inputs, O = op.n_outputs, column_stride = block.column_stride
    cdef const real* weights_IO = weights_of(graph, op, delta_BO)
    cdef const real* none = NULL
    cdef Product product
    if column_stride > 1:
        multiply_columns(I, column_stride, O, row_major(weights_IO, O), delta_BO, dx_BI)
    elif block.n_rows == 1 and I > 1:
        dot_rows(I, O, delta_BO, weights_IO, O, none, 0, dx_BI)
    else:
        product = Product(
            block.n_rows, I, O, row_major(delta_BO, O), column_major(weights_IO, O), equal_rows(none),
            dx_BI, I)
        multiply(graph, &product, delta_BO)


cdef inline void add_rows(
    Py_ssize_t B,
    Py_ssize_t O,
    const real* delta_BO,  # IN
    real* total_O,  # INOUT
) noexcept nogil:
    """total += sum of delta over the rows."""
    cdef Py_ssize_t i = 0, j, together = SUMS // O
    cdef real sums[SUMS]
    if together > 1:
        # Narrow rows several at a time, for vectors are long.
        together = min(together, B)
        for j in range(together * O):
            sums[j] = delta_BO[j]
        i = together
        while i + together <= B:
            for j in range(together * O):
                sums[j] += delta_BO[i * O + j]
            i += together
        # The last few where as many rows of the sums would be.
        for j in range((B - i) * O):
            sums[j] += delta_BO[i * O + j]
        B = together
        i = 0
        delta_BO = sums
    while i < B:
        for j in range(O):
            total_O[j] += delta_BO[i * O + j]
        i += 1


# An operation's gradient as the threads of a team see it: each takes some rows of the weights.
cdef struct GradientTask:
    const Graph* graph
    const Op* op
    const Block* block
    const Descent* descent
    const void* x_BI
    const void* delta_BO


cdef inline void gradient_piece(
    const GradientTask* task, Py_ssize_t piece, Py_ssize_t thread, const real* delta_BO
) noexcept nogil:
    """dW = x^T delta for some rows of W and, with the last of them, db = sum of delta over the rows."""
    cdef const Graph* graph = task.graph
    cdef const Op* op = task.op
    cdef const Descent* descent = task.descent
    cdef Py_ssize_t B = task.block.n_rows, I = op.n_inputs, O = op.n_outputs, j
    cdef Py_ssize_t column_stride = task.block.column_stride
    cdef Py_ssize_t start = piece * piece_rows(I, O), rows = min(piece_rows(I, O), I - start)
    cdef Py_ssize_t first = op.weights + start * O, n_weights = rows * O, n_biases = 0
    cdef const real* x = <const real*>task.x_BI + start
    cdef real* scratch = (
        at(graph, graph.thread_scratch, delta_BO) + thread * graph.scratch_size)
    cdef real* sums = scratch + panel_size(scratch)
    cdef real* d = sums
    cdef const real* before = NULL
    cdef Product product
    cdef Scratch own = Scratch(scratch, 0, 1)
    if descent.gradient != NULL:
        d = <real*>descent.gradient + first
    if descent.accumulate:
        before = d
    if column_stride > 1:
        # The gradients of weights and biases are one product: x ends in a row of ones.
        multiply_transposed(
            I + 1 if op.biases >= 0 else I, O, column_stride, x, delta_BO, before, d)
    else:
        product = Product(
            rows, O, B, column_major(x, I), row_major(delta_BO, O), row_major(before, O), d, O)
        if rows < I:
            product.b.data = at(graph, graph.shared_scratch, delta_BO)
            gemm_packed(&product, scratch)
        else:
            gemm(&product, &own, delta_BO)
    # Once for a batch of several blocks.
    if not descent.accumulate and (op.l1 > 0 or op.l2 > 0):
        add_penalty_gradient(
            descent.penalty_scale * op.l1, descent.penalty_scale * op.l2, n_weights,
            weights_of(graph, op, delta_BO) + start * O, d)
    if op.biases >= 0 and start + rows == I:
        n_biases = O
        if column_stride == 1:
            # Block by block: a single sum over all rows of a large batch would lose digits.
            if descent.gradient == NULL:
                sums += n_weights
            for j in range(O):
                sums[j] = 0
            add_rows(B, O, delta_BO, sums)
            if descent.gradient != NULL:
                for j in range(O):
                    d[n_weights + j] = d[n_weights + j] + sums[j] if descent.accumulate else sums[j]
    if descent.step != NULL:
        update_tensors(descent.step, op, first, n_weights, n_biases, d)


cdef inline void gradient_piece_f32(void* task, Py_ssize_t piece, Py_ssize_t thread) noexcept nogil:
    gradient_piece(
        <const GradientTask*>task, piece, thread, <const float*>(<const GradientTask*>task).delta_BO)


cdef inline void gradient_piece_f64(void* task, Py_ssize_t piece, Py_ssize_t thread) noexcept nogil:
    gradient_piece(
        <const GradientTask*>task, piece, thread, <const double*>(<const GradientTask*>task).delta_BO)


cdef inline void row_descent(
    const Graph* graph,
    const Op* op,
    const real* x_I,  # IN
    real* delta_O,  # IN; scaled in place
    real rate,
) noexcept nogil:
    """W -= rate x^T delta, b -= rate delta for a single row, in one pass over W."""
    cdef Py_ssize_t j, O = op.n_outputs
    cdef real one = 1
    for j in range(O):
        delta_O[j] = -rate * delta_O[j]
    add_outer(op.n_inputs, O, x_I, delta_O, <real*>weights_of(graph, op, x_I))
    if op.biases >= 0:
        add_outer(1, O, &one, delta_O, <real*>biases_of(graph, op, x_I))


cdef inline void dense_gradient(
    const Graph* graph,
    const Op* op,
    const Block* block,
    const Descent* descent,
    real* delta_BO,  # IN; used up where it is a single row
) noexcept nogil:
    """dW and db: into the gradient, or into an update of W and b at once."""
    cdef Py_ssize_t I = op.n_inputs, O = op.n_outputs, pieces
    cdef const real* x_BI = inputs_of(graph, op, block, delta_BO)
    cdef GradientTask task
    if (
            block.n_rows == 1 and block.column_stride == 1 and descent.gradient == NULL
            and descent.step.is_plain_descent and op.l1 == 0 and op.l2 == 0
            and op.learning_rate_factor == op.bias_learning_rate_factor):
        row_descent(
            graph, op, x_BI, delta_BO, <real>(descent.step.rate * op.learning_rate_factor))
        return
    task = GradientTask(graph, op, block, descent, x_BI, delta_BO)
    pieces = ceiling(I, piece_rows(I, O))
    if pieces == 1:
        gradient_piece(&task, 0, 0, delta_BO)
        return
    pack(
        O, block.n_rows, row_major(<const real*>delta_BO, O), at(graph, graph.shared_scratch, delta_BO),
        graph.threads)
    if real is float:
        team_run(graph.threads, pieces, gradient_piece_f32, &task)
    else:
        team_run(graph.threads, pieces, gradient_piece_f64, &task)


cdef inline void dense_backward(
    const Graph* graph,
    const Op* op,
    const Block* block,
    const Descent* descent,  # or NULL: the parameters are not trained
    real* delta_BO,  # IN, dL/dy; used up
    real* dx_BI,  # OUT, or NULL
) noexcept nogil:
    # In this order, since an update changes the weights.
    if dx_BI != NULL:
        dense_input_gradient(graph, op, block, delta_BO, dx_BI)
    if descent != NULL:
        dense_gradient(graph, op, block, descent, delta_BO)
