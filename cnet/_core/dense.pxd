"""The fully connected layer: forward and backward over one block of rows."""

from cnet._core.activations cimport activate
from cnet._core.gemm cimport (
    add_outer, ceiling, dot_rows, gemm, gemm_packed, multiply_columns, multiply_row,
    multiply_transposed, pack, packed_size, panel_size)
from cnet._core.optimizers cimport Step, update
from cnet._core.regularization cimport add_penalty_gradient
from cnet._core.scalar cimport real
from cnet._core.team cimport team_run


cdef enum:
    # Weights of a piece, whose gradient stays in the second-level cache until they are updated.
    PIECE_SIZE = 98304
    # Weights that are not worth cutting into pieces.
    WHOLE_SIZE = 8192
    # Rows of a piece are a multiple of the rows of every tile, where there are so many.
    PIECE_ROWS = 24
    # Numbers that are summed side by side.
    SUMS = 64


cdef inline Py_ssize_t piece_rows(Py_ssize_t I, Py_ssize_t O) noexcept nogil:
    """Rows of weights that are one piece of work, whatever the number of threads."""
    cdef Py_ssize_t rows
    if I * O <= WHOLE_SIZE:
        return I
    # At least four, for as many threads.
    rows = min(PIECE_SIZE // O, (I + 3) // 4) // PIECE_ROWS * PIECE_ROWS
    return min(I, max(rows, 6))


cdef inline Py_ssize_t scratch_size(Py_ssize_t I, Py_ssize_t O, const real* like) noexcept nogil:
    """Elements of scratch that a thread needs for a layer: for `gemm`, and the gradient of a piece."""
    return panel_size(like) + (piece_rows(I, O) + 1) * O


cdef inline Py_ssize_t shared_size(
    Py_ssize_t B, Py_ssize_t I, Py_ssize_t O, const real* like
) noexcept nogil:
    """Elements of scratch that the threads share: the deltas in panels, where there are several pieces."""
    return packed_size(O, B, like) if piece_rows(I, O) < I else 0


cdef inline void dense_forward(
    Py_ssize_t activation,
    Py_ssize_t B,
    Py_ssize_t I,
    Py_ssize_t O,
    Py_ssize_t column,
    const real* x_BI,  # IN; transposed, with a row of ones at the end
    const real* weights_IO,  # IN
    const real* biases_O,  # IN, behind the weights, or NULL
    real* z_BO,  # OUT
    real* a_BO,  # OUT, may be z_BO
    real* scratch,
    Py_ssize_t scratch_step,
    int threads,
) noexcept nogil:
    """a = f(z), z = x W + b; transposed z' = (W b)' (x 1)'."""
    if column > 1:
        multiply_columns(
            O, column, I + 1 if biases_O != NULL else I, weights_IO, 1, O, x_BI, z_BO)
    elif B == 1 and O > 1:
        # What `gemm` would find out, and a narrow layer would wait for.
        multiply_row(O, I, x_BI, 1, weights_IO, O, True, biases_O, z_BO)
    else:
        gemm(B, O, I, x_BI, I, 1, weights_IO, O, 1, biases_O, 0, z_BO, scratch, scratch_step, threads)
    activate(activation, B, O, column, z_BO, a_BO)


cdef inline void dense_backward(
    Py_ssize_t B,
    Py_ssize_t I,
    Py_ssize_t O,
    Py_ssize_t column,
    const real* delta_BO,  # IN, dL/dz
    const real* weights_IO,  # IN
    real* dx_BI,  # OUT
    real* scratch,
    Py_ssize_t scratch_step,
    int threads,
) noexcept nogil:
    """dL/dx = delta W^T."""
    cdef const real* none = NULL
    if column > 1:
        multiply_columns(I, column, O, weights_IO, O, 1, delta_BO, dx_BI)
    elif B == 1 and I > 1:
        dot_rows(I, O, delta_BO, weights_IO, O, none, 0, dx_BI)
    else:
        gemm(B, I, O, delta_BO, O, 1, weights_IO, 1, O, none, 0, dx_BI, scratch, scratch_step, threads)


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


# A layer's gradient as the threads of a team see it, which take some rows of the weights each.
cdef struct Gradient:
    Py_ssize_t n_rows
    Py_ssize_t n_inputs
    Py_ssize_t n_neurons
    Py_ssize_t column
    const void* x_BI
    const void* delta_BO
    bint biases
    bint accumulate
    void* gradient  # of all parameters, or NULL where they are updated at once
    Py_ssize_t first  # the layer's first parameter
    const void* weights
    double l1
    double l2
    const Step* step  # how to update, or NULL
    void* shared  # shared_size elements of scratch
    void* scratch  # scratch_step elements for each thread
    Py_ssize_t scratch_step


cdef inline void gradient_piece(
    const Gradient* layer, Py_ssize_t piece, Py_ssize_t thread, real* scratch
) noexcept nogil:
    """dW = x^T delta for some rows of W and, with the last of them, db = sum of delta over the rows."""
    cdef Py_ssize_t B = layer.n_rows, I = layer.n_inputs, O = layer.n_neurons, j
    cdef Py_ssize_t start = piece * piece_rows(I, O), rows = min(piece_rows(I, O), I - start)
    cdef Py_ssize_t first = layer.first + start * O, count = rows * O
    cdef const real* x = <const real*>layer.x_BI + start
    cdef const real* delta = <const real*>layer.delta_BO
    cdef real* d
    cdef real* sums
    scratch += thread * layer.scratch_step
    sums = scratch + panel_size(scratch)
    d = sums
    if layer.gradient != NULL:
        d = <real*>layer.gradient + first
    if layer.column > 1:
        # The gradients of weights and biases are one product: x ends in a row of ones.
        multiply_transposed(
            I + 1 if layer.biases else I, O, layer.column, x, layer.column, delta, layer.column,
            d if layer.accumulate else NULL, d)
    elif rows < I:
        gemm_packed(
            rows, O, B, x, 1, I, <const real*>layer.shared, d if layer.accumulate else NULL, O, d,
            scratch)
    else:
        gemm(rows, O, B, x, 1, I, delta, O, 1, d if layer.accumulate else NULL, O, d, scratch, 0, 1)
    # Once for a batch of several blocks.
    if not layer.accumulate and (layer.l1 > 0 or layer.l2 > 0):
        add_penalty_gradient(
            layer.l1, layer.l2, count, <const real*>layer.weights + start * O, d)
    if layer.biases and start + rows == I:
        if layer.column == 1:
            # Block by block: one sum over all rows of a large batch would round ever more away.
            if layer.gradient == NULL:
                sums += count
            for j in range(O):
                sums[j] = 0
            add_rows(B, O, delta, sums)
            if layer.gradient != NULL:
                for j in range(O):
                    d[count + j] = d[count + j] + sums[j] if layer.accumulate else sums[j]
        count += O
    if layer.step != NULL:
        update(layer.step, first, count, d)


cdef inline void gradient_piece_f32(void* layer, Py_ssize_t piece, Py_ssize_t thread) noexcept nogil:
    gradient_piece(<const Gradient*>layer, piece, thread, <float*>(<const Gradient*>layer).scratch)


cdef inline void gradient_piece_f64(void* layer, Py_ssize_t piece, Py_ssize_t thread) noexcept nogil:
    gradient_piece(<const Gradient*>layer, piece, thread, <double*>(<const Gradient*>layer).scratch)


cdef inline void dense_gradient(
    Gradient* layer,
    const real* delta_BO,  # IN, the layer's
    int threads,
) noexcept nogil:
    """dW and db into the gradient, or into an update of W and b at once."""
    cdef Py_ssize_t O = layer.n_neurons, pieces = ceiling(
        layer.n_inputs, piece_rows(layer.n_inputs, O))
    if pieces == 1:
        gradient_piece(layer, 0, 0, <real*>layer.scratch)
        return
    pack(O, layer.n_rows, delta_BO, O, <real*>layer.shared, threads)
    if real is float:
        team_run(threads, pieces, gradient_piece_f32, layer)
    else:
        team_run(threads, pieces, gradient_piece_f64, layer)


cdef inline void dense_descent(
    Py_ssize_t I,
    Py_ssize_t O,
    const real* x_I,  # IN
    real* delta_O,  # IN; scaled in place
    real* weights_IO,  # INOUT
    real* biases_O,  # INOUT, or NULL
    real rate,
) noexcept nogil:
    """W -= rate x^T delta, b -= rate delta for a single row, in one pass over W."""
    cdef Py_ssize_t j
    cdef real one = 1
    for j in range(O):
        delta_O[j] = -rate * delta_O[j]
    add_outer(I, O, x_I, delta_O, weights_IO)
    if biases_O != NULL:
        add_outer(1, O, &one, delta_O, biases_O)
