"""Passes through a whole network, forward and backward, over one block of rows.

A network arrives as a program, one row of integers per layer (`Layer` below), one flat array of
parameters, and a workspace.
"""

from libc.stdint cimport uint64_t
from libc.string cimport memcpy
from numpy cimport intp_t

from cnet._core.activations cimport chain
from cnet._core.dense cimport (
    Gradient, dense_backward, dense_descent, dense_forward, dense_gradient, scratch_size, shared_size)
from cnet._core.gemm cimport ceiling, copy_few, prefetch, widest_tile
from cnet._core.losses cimport loss_and_delta
from cnet._core.optimizers cimport Step, is_plain_descent
from cnet._core.regularization cimport bound_norms, drop, mix, multiply, penalty
from cnet._core.scalar cimport real
from cnet._core.team cimport team_run


# What a layer is to the engine: a row of the program, read as this struct. The doubles are laid over
# integers of the same size.
cdef struct Layer:
    intp_t n_inputs
    intp_t n_neurons
    intp_t activation
    intp_t weights  # offset into the parameters
    intp_t biases  # offset into the parameters, or -1
    intp_t outputs  # offset into the workspace, in elements per row
    intp_t preactivations  # likewise; equal to outputs where z is not kept
    intp_t passed  # likewise, what dropout leaves of the outputs; equal to outputs without dropout
    intp_t mask  # likewise, what dropout multiplies them by
    double dropout  # the share of outputs that are dropped
    double l1
    double l2
    double max_norm  # of each neuron's weights; 0: any


# A network laid over the caller's arrays, for one block of rows at a time.
cdef struct Network:
    const Layer* layers
    Py_ssize_t n_layers
    Py_ssize_t capacity  # rows of a block
    # Where in the workspace what lies, behind all layers' outputs and pre-activations.
    Py_ssize_t gathered  # rows of x
    Py_ssize_t targets  # and their targets
    Py_ssize_t delta
    Py_ssize_t second_delta
    Py_ssize_t shared  # scratch that the threads share
    Py_ssize_t scratches  # scratch for each of them
    Py_ssize_t scratch  # elements of it
    double row_work  # about how many multiplications a row takes, forward and backward
    int threads
    bint transposed  # outputs and deltas lie neuron by neuron, each for all rows of a block
    bint penalized  # some layer has l1 or l2
    bint bounded  # some layer has max_norm
    uint64_t dropout_key  # of this block's random numbers; 0: nothing is dropped
    double penalty_scale  # what the layers' penalties are multiplied by


cdef enum:
    # Inputs and neurons up to which a layer is narrow.
    NARROW_LAYER = 16
    # Elements of a cache line, at the most.
    ROOM = 16


cdef inline Py_ssize_t lanes(const real* like) noexcept nogil:
    """Rows that are taken together: a vector, or what `multiply_transposed` sums side by side."""
    return max(widest_tile(like) // 2, 4)


cdef inline bint is_narrow(Network* network, Py_ssize_t batch_size, const real* like) noexcept nogil:
    """Whether layers are so narrow, and batches so large, that rows fill vectors better than neurons.

    Only in training by `train`, and for what works on either layout: all that a block goes through.
    """
    cdef Py_ssize_t i
    for i in range(network.n_layers):
        if max(network.layers[i].n_inputs, network.layers[i].n_neurons) > NARROW_LAYER:
            return False
        # Its masks lie row by row.
        if network.layers[i].dropout > 0:
            return False
    return 2 * batch_size >= lanes(like)


cdef inline Py_ssize_t column_of(Network* network, Py_ssize_t B, const real* like) noexcept nogil:
    """Elements from a neuron's output to the next one's: whole vectors of rows where they are transposed."""
    return ceiling(B, lanes(like)) * lanes(like) if network.transposed else 1


cdef inline Py_ssize_t row_room(Py_ssize_t n) noexcept nogil:
    """Elements per row for n outputs or inputs: cache lines, with room for a 1 that biases are multiplied by."""
    return ceiling(n + 1, ROOM) * ROOM


cdef inline Network lay_out(
    const intp_t[:, ::1] program, Py_ssize_t capacity, int threads, const real* like
) noexcept nogil:
    cdef Network network
    cdef const Layer* last
    cdef Py_ssize_t i, widest = 0, shared = 0
    network.layers = <const Layer*>&program[0, 0]
    network.n_layers = program.shape[0]
    network.capacity = ceiling(capacity, lanes(like)) * lanes(like) if capacity > 1 else 1
    network.scratch = 0
    network.row_work = 0
    network.threads = threads
    network.transposed = False
    network.penalized = False
    network.bounded = False
    network.dropout_key = 0
    network.penalty_scale = 1
    for i in range(network.n_layers):
        if network.layers[i].l1 > 0 or network.layers[i].l2 > 0:
            network.penalized = True
        if network.layers[i].max_norm > 0:
            network.bounded = True
        widest = max(widest, network.layers[i].n_neurons)
        # An activation takes as long as some fifty.
        network.row_work += (3.0 * network.layers[i].n_inputs + 50) * network.layers[i].n_neurons
        shared = max(
            shared,
            shared_size(network.capacity, network.layers[i].n_inputs, network.layers[i].n_neurons, like))
        network.scratch = max(
            network.scratch,
            scratch_size(network.layers[i].n_inputs, network.layers[i].n_neurons, like))
    last = &network.layers[network.n_layers - 1]
    network.gathered = network.capacity * (
        last.preactivations - network.layers[0].outputs + row_room(last.n_neurons))
    network.targets = network.gathered + network.capacity * row_room(network.layers[0].n_inputs)
    network.delta = network.targets + network.capacity * row_room(last.n_neurons)
    network.second_delta = network.delta + network.capacity * row_room(widest)
    network.shared = network.second_delta + network.capacity * row_room(widest)
    network.scratches = network.shared + shared
    return network


cdef inline real* gathered_of(Network* network, real* workspace) noexcept nogil:
    return workspace + network.gathered


cdef inline real* targets_of(Network* network, real* workspace) noexcept nogil:
    return workspace + network.targets


cdef inline real* delta_of(Network* network, real* workspace, bint second) noexcept nogil:
    return workspace + (network.second_delta if second else network.delta)


cdef inline real* shared_of(Network* network, real* workspace) noexcept nogil:
    return workspace + network.shared


cdef inline real* scratch_of(Network* network, real* workspace) noexcept nogil:
    return workspace + network.scratches


cdef inline double work_of(Network* network, Py_ssize_t rows) noexcept nogil:
    """About how many multiplications a forward and backward pass takes, plus a call's overhead."""
    return rows * network.row_work + 100


cdef inline void put_ones(real* values, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        values[i] = 1


cdef inline const real* inputs_of(
    Network* network, Py_ssize_t i, Py_ssize_t start, const real* x_BI, const real* workspace
) noexcept nogil:
    """What layer i takes in: the rows themselves, or what the layer below passes on."""
    cdef const Layer* below
    if i == 0:
        return x_BI
    below = &network.layers[i - 1]
    return (workspace + network.capacity * (below.passed if network.dropout_key != 0 else below.outputs)
            + start * below.n_neurons)


cdef inline const real* forward_block(
    Network* network,
    const real* parameters,  # IN
    Py_ssize_t start,
    Py_ssize_t B,
    const real* x_BI,  # IN
    real* workspace,  # OUT: outputs, from row `start` on
) noexcept nogil:
    """Every layer's output for one block of rows; returns the last."""
    cdef Py_ssize_t i, column = column_of(network, B, parameters)
    cdef const Layer* layer
    cdef real* a = NULL
    for i in range(network.n_layers):
        layer = &network.layers[i]
        a = workspace + network.capacity * layer.outputs + start * layer.n_neurons
        dense_forward[real](
            layer.activation, B, layer.n_inputs, layer.n_neurons, column,
            inputs_of[real](network, i, start, x_BI, workspace),
            parameters + layer.weights,
            parameters + layer.biases if layer.biases >= 0 else NULL,
            workspace + network.capacity * layer.preactivations + start * layer.n_neurons,
            a,
            scratch_of(network, workspace),
            network.scratch,
            network.threads,
        )
        if column > 1:
            put_ones(a + layer.n_neurons * column, column)
        if network.dropout_key != 0 and layer.dropout > 0:
            drop(
                mix(network.dropout_key + <uint64_t>i), layer.dropout, B * layer.n_neurons, a,
                workspace + network.capacity * layer.mask + start * layer.n_neurons,
                workspace + network.capacity * layer.passed + start * layer.n_neurons)
    return a


cdef inline void backward_block(
    Network* network,
    const real* parameters,  # IN, or INOUT with `step`
    Py_ssize_t start,
    Py_ssize_t B,
    const real* x_BI,  # IN
    real* workspace,  # IN: outputs of forward_block, dL/dz of the last layer in the first delta
    real* gradient,  # INOUT, or NULL
    bint accumulate,
    const Step* step,  # update with this block's gradient, layer by layer, or NULL
    real* dx_BI,  # OUT, or NULL
) noexcept nogil:
    """Put one block's gradient into `gradient`, add it, or learn from it; and dL/dx into `dx_BI`."""
    cdef Py_ssize_t i, column = column_of(network, B, parameters)
    cdef const Layer* layer
    cdef const Layer* below
    cdef const real* h
    cdef real* scratch = scratch_of(network, workspace)
    cdef real* delta = delta_of(network, workspace, False)
    cdef real* delta_below = delta_of(network, workspace, True)
    cdef Gradient layer_gradient
    cdef bint descent = B == 1 and column == 1 and step != NULL and is_plain_descent(step)
    for i in range(network.n_layers - 1, -1, -1):
        layer = &network.layers[i]
        h = inputs_of[real](network, i, start, x_BI, workspace)
        below = &network.layers[i - 1] if i > 0 else NULL
        # First what goes down through the weights, since an update changes them.
        if below != NULL:
            dense_backward[real](
                B, layer.n_inputs, layer.n_neurons, column, delta, parameters + layer.weights,
                delta_below, scratch, network.scratch, network.threads)
            if network.dropout_key != 0 and below.dropout > 0:
                multiply(
                    B * below.n_neurons,
                    workspace + network.capacity * below.mask + start * below.n_neurons, delta_below)
            chain[real](
                below.activation, B, below.n_neurons, column,
                workspace + network.capacity * below.preactivations + start * below.n_neurons,
                workspace + network.capacity * below.outputs + start * below.n_neurons, delta_below)
        elif dx_BI != NULL:
            dense_backward[real](
                B, layer.n_inputs, layer.n_neurons, column, delta, parameters + layer.weights,
                dx_BI, scratch, network.scratch, network.threads)
        if descent and layer.l1 == 0 and layer.l2 == 0:
            dense_descent[real](
                layer.n_inputs, layer.n_neurons, h, delta, <real*>parameters + layer.weights,
                <real*>parameters + layer.biases if layer.biases >= 0 else NULL, <real>step.rate)
        elif gradient != NULL or step != NULL:
            layer_gradient = Gradient(
                B, layer.n_inputs, layer.n_neurons, column, h, delta, layer.biases >= 0, accumulate,
                gradient, layer.weights, parameters + layer.weights,
                network.penalty_scale * layer.l1, network.penalty_scale * layer.l2,
                step, shared_of(network, workspace), scratch, network.scratch)
            dense_gradient[real](&layer_gradient, delta, network.threads)
        delta, delta_below = delta_below, delta


cdef inline double penalties(
    Network* network,
    const real* parameters,  # IN
) noexcept nogil:
    """What the layers' l1 and l2 add to the loss."""
    cdef Py_ssize_t i
    cdef const Layer* layer
    cdef double total = 0
    for i in range(network.n_layers):
        layer = &network.layers[i]
        if layer.l1 > 0 or layer.l2 > 0:
            total += penalty(
                layer.l1, layer.l2, layer.n_inputs, layer.n_neurons, parameters + layer.weights)
    return network.penalty_scale * total


cdef inline void keep_bounds(
    Network* network,
    real* parameters,  # INOUT
    real* scratch,  # a row of the widest layer
) noexcept nogil:
    """Bring the weights back within their layers' max_norm, after a step."""
    cdef Py_ssize_t i
    cdef const Layer* layer
    for i in range(network.n_layers):
        layer = &network.layers[i]
        if layer.max_norm > 0:
            bound_norms(
                layer.max_norm, layer.n_inputs, layer.n_neurons, parameters + layer.weights, scratch)


# What is learnt from: rows of x with targets or labels, and the loss between.
cdef struct Objective:
    const void* x
    const void* targets  # or NULL
    const intp_t* labels  # or NULL
    const void* sample_weight  # or NULL
    Py_ssize_t loss
    double setting


cdef inline Objective objective_of(
    const real[:, ::1] x,
    const real[:, ::1] targets,
    const intp_t[::1] labels,
    const real[::1] sample_weight,
    Py_ssize_t loss,
    double setting,
) noexcept nogil:
    cdef Objective objective
    objective.x = &x[0, 0]
    objective.targets = &targets[0, 0] if targets.shape[0] > 0 else NULL
    objective.labels = &labels[0] if labels.shape[0] > 0 else NULL
    objective.sample_weight = &sample_weight[0] if sample_weight.shape[0] > 0 else NULL
    objective.loss = loss
    objective.setting = setting
    return objective


# Rows that are brought together as the threads of a team see them.
cdef struct Gather:
    Py_ssize_t n_rows
    Py_ssize_t row_bytes
    const char* x
    const intp_t* rows
    char* gathered


cdef enum:
    GATHER_ROWS = 16
    # Elements that are worth waking another thread for.
    GATHER_SHARED = 20000


cdef inline void gather_part(void* context, Py_ssize_t part, Py_ssize_t thread) noexcept nogil:
    cdef const Gather* gather = <const Gather*>context
    cdef Py_ssize_t i, n_bytes = gather.row_bytes
    for i in range(part * GATHER_ROWS, min((part + 1) * GATHER_ROWS, gather.n_rows)):
        if i + 1 < gather.n_rows:
            # Its beginning; the processor sees the rest coming.
            prefetch(gather.x + gather.rows[i + 1] * n_bytes, min(n_bytes, 512))
        if n_bytes < 256:
            copy_few(gather.gathered + i * n_bytes, gather.x + gather.rows[i] * n_bytes, n_bytes)
        else:
            memcpy(gather.gathered + i * n_bytes, gather.x + gather.rows[i] * n_bytes, n_bytes)


cdef inline void gather(
    Py_ssize_t B,
    Py_ssize_t I,
    const real* x,  # IN
    const intp_t* rows,  # IN
    real* gathered_BI,  # OUT
    int threads,
) noexcept nogil:
    """gathered = x[rows]."""
    cdef Gather task = Gather(
        B, I * sizeof(real), <const char*>x, rows, <char*>gathered_BI)
    if B * I < GATHER_SHARED:
        threads = 1
    team_run(threads, ceiling(B, GATHER_ROWS), gather_part, &task)


cdef inline void gather_transposed(
    Py_ssize_t B,
    Py_ssize_t I,
    Py_ssize_t column,
    const real* x,  # IN
    const intp_t* rows,  # IN, or NULL: the first B
    real* gathered_IB,  # OUT
) noexcept nogil:
    """gathered = x[rows]', its columns filled up with the last row."""
    cdef Py_ssize_t i = 0, j, p, row
    cdef const real* of_row[2]
    while i < column:
        # Two at a time, for fewer and wider stores; columns are of an even number of rows.
        for j in range(2):
            row = min(i + j, B - 1)
            of_row[j] = x + (rows[row] if rows != NULL else row) * I
        for p in range(I):
            gathered_IB[p * column + i] = of_row[0][p]
            gathered_IB[p * column + i + 1] = of_row[1][p]
        i += 2


cdef inline const real* bring(
    Py_ssize_t B,
    Py_ssize_t I,
    Py_ssize_t column,
    const real* x,  # IN
    const intp_t* rows,  # IN, or NULL: the first B
    real* gathered_BI,  # OUT, where it is needed
    int threads,
) noexcept nogil:
    """x[rows] as a block is laid out, where it lies or gathered."""
    if column > 1:
        gather_transposed(B, I, column, x, rows, gathered_BI)
    elif rows == NULL:
        return x
    elif B == 1:
        return x + rows[0] * I
    else:
        gather(B, I, x, rows, gathered_BI, threads)
    return gathered_BI


cdef inline double loss_of_block(
    Network* network,
    Objective* objective,
    const real* parameters,  # IN
    Py_ssize_t first,
    Py_ssize_t B,
    const intp_t* rows,  # IN: the block's rows in x, or NULL: from `first` on
    double scale,
    real* workspace,  # OUT: gathered rows, outputs, dL/dz of the last layer in the first delta
    const real** x_BI,  # OUT: the block's inputs
) noexcept nogil:
    """Forward pass and loss of one block; returns the total of the weighted losses of its rows."""
    cdef const Layer* last = &network.layers[network.n_layers - 1]
    cdef Py_ssize_t I = network.layers[0].n_inputs, O = last.n_neurons
    cdef const real* x = <const real*>objective.x
    cdef const real* targets = <const real*>objective.targets
    cdef const real* sample_weight = <const real*>objective.sample_weight
    cdef const intp_t* labels = objective.labels
    cdef const real* a_BO
    cdef Py_ssize_t column = column_of(network, B, parameters)
    if rows == NULL:
        x += first * I
        targets = targets + first * O if targets != NULL else NULL
        labels = labels + first if labels != NULL else NULL
        sample_weight = sample_weight + first if sample_weight != NULL else NULL
    x_BI[0] = bring[real](
        B, I, column, x, rows, gathered_of(network, workspace), network.threads)
    if column > 1:
        put_ones(gathered_of(network, workspace) + I * column, column)
    if targets != NULL:
        targets = bring[real](
            B, O, column, targets, rows, targets_of(network, workspace), network.threads)
    a_BO = forward_block(network, parameters, 0, B, x_BI[0], workspace)
    return loss_and_delta[real](
        objective.loss, <real>objective.setting, last.activation, B, O, column,
        workspace + network.capacity * last.preactivations, a_BO,
        targets, labels, rows, sample_weight,
        <real>scale, delta_of(network, workspace, True), delta_of(network, workspace, False))
