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
from cnet._core.gemm cimport ceiling, copy_few, prefetch
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
    Py_ssize_t outputs  # elements per row of all that is kept of the layers
    Py_ssize_t widest  # the most neurons of a layer
    Py_ssize_t shared  # elements of scratch that the threads share
    Py_ssize_t scratch  # elements for each thread
    int threads
    bint penalized  # some layer has l1 or l2
    bint bounded  # some layer has max_norm
    uint64_t dropout_key  # of this block's random numbers; 0: nothing is dropped
    double penalty_scale  # what the layers' penalties are multiplied by


cdef inline Network lay_out(
    const intp_t[:, ::1] program, Py_ssize_t capacity, int threads, const real* like
) noexcept nogil:
    cdef Network network
    cdef Py_ssize_t i
    network.layers = <const Layer*>&program[0, 0]
    network.n_layers = program.shape[0]
    network.capacity = capacity
    network.outputs = 0
    network.widest = 0
    network.shared = 0
    network.scratch = 0
    network.threads = threads
    network.penalized = False
    network.bounded = False
    network.dropout_key = 0
    network.penalty_scale = 1
    for i in range(network.n_layers):
        network.outputs += network.layers[i].n_neurons
        if network.layers[i].preactivations != network.layers[i].outputs:
            network.outputs += network.layers[i].n_neurons
        if network.layers[i].dropout > 0:
            network.outputs += 2 * network.layers[i].n_neurons
        if network.layers[i].l1 > 0 or network.layers[i].l2 > 0:
            network.penalized = True
        if network.layers[i].max_norm > 0:
            network.bounded = True
        network.widest = max(network.widest, network.layers[i].n_neurons)
        network.shared = max(
            network.shared,
            shared_size(capacity, network.layers[i].n_inputs, network.layers[i].n_neurons, like))
        network.scratch = max(
            network.scratch,
            scratch_size(network.layers[i].n_inputs, network.layers[i].n_neurons, like))
    return network


# The workspace, in this order: outputs, gathered rows of x, two deltas, scratch that the threads share,
# scratch for each of them.

cdef inline real* gathered_of(Network* network, real* workspace) noexcept nogil:
    return workspace + network.capacity * network.outputs


cdef inline real* delta_of(Network* network, real* workspace, bint second) noexcept nogil:
    return (gathered_of(network, workspace) + network.capacity * network.layers[0].n_inputs
            + (network.capacity * network.widest if second else 0))


cdef inline real* shared_of(Network* network, real* workspace) noexcept nogil:
    return delta_of(network, workspace, True) + network.capacity * network.widest


cdef inline real* scratch_of(Network* network, real* workspace) noexcept nogil:
    return shared_of(network, workspace) + network.shared


cdef inline double work_of(Network* network, Py_ssize_t rows) noexcept nogil:
    """About how many multiplications a forward and backward pass takes, plus a call's overhead."""
    cdef Py_ssize_t i
    cdef double work = 0
    for i in range(network.n_layers):
        # An activation takes as long as some fifty.
        work += (3.0 * network.layers[i].n_inputs + 50) * network.layers[i].n_neurons
    return rows * work + 100


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
    cdef Py_ssize_t i
    cdef const Layer* layer
    cdef real* a = NULL
    for i in range(network.n_layers):
        layer = &network.layers[i]
        a = workspace + network.capacity * layer.outputs + start * layer.n_neurons
        dense_forward[real](
            layer.activation, B, layer.n_inputs, layer.n_neurons,
            inputs_of[real](network, i, start, x_BI, workspace),
            parameters + layer.weights,
            parameters + layer.biases if layer.biases >= 0 else NULL,
            workspace + network.capacity * layer.preactivations + start * layer.n_neurons,
            a,
            scratch_of(network, workspace),
            network.scratch,
            network.threads,
        )
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
    cdef Py_ssize_t i
    cdef const Layer* layer
    cdef const Layer* below
    cdef const real* h
    cdef real* scratch = scratch_of(network, workspace)
    cdef real* delta = delta_of(network, workspace, False)
    cdef real* delta_below = delta_of(network, workspace, True)
    cdef Gradient layer_gradient
    cdef bint descent = B == 1 and step != NULL and is_plain_descent(step)
    for i in range(network.n_layers - 1, -1, -1):
        layer = &network.layers[i]
        h = inputs_of[real](network, i, start, x_BI, workspace)
        below = &network.layers[i - 1] if i > 0 else NULL
        # First what goes down through the weights, since an update changes them.
        if below != NULL:
            dense_backward[real](
                B, layer.n_inputs, layer.n_neurons, delta, parameters + layer.weights,
                delta_below, scratch, network.scratch, network.threads)
            if network.dropout_key != 0 and below.dropout > 0:
                multiply(
                    B * below.n_neurons,
                    workspace + network.capacity * below.mask + start * below.n_neurons, delta_below)
            chain[real](
                below.activation, B, below.n_neurons,
                workspace + network.capacity * below.preactivations + start * below.n_neurons,
                workspace + network.capacity * below.outputs + start * below.n_neurons, delta_below)
        elif dx_BI != NULL:
            dense_backward[real](
                B, layer.n_inputs, layer.n_neurons, delta, parameters + layer.weights,
                dx_BI, scratch, network.scratch, network.threads)
        if descent and layer.l1 == 0 and layer.l2 == 0:
            dense_descent[real](
                layer.n_inputs, layer.n_neurons, h, delta, <real*>parameters + layer.weights,
                <real*>parameters + layer.biases if layer.biases >= 0 else NULL, <real>step.rate)
        elif gradient != NULL or step != NULL:
            layer_gradient = Gradient(
                B, layer.n_inputs, layer.n_neurons, h, delta, layer.biases >= 0, accumulate,
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
    if rows != NULL and B == 1:
        x_BI[0] = x + rows[0] * I
    elif rows != NULL:
        x_BI[0] = gathered_of(network, workspace)
        gather[real](B, I, x, rows, gathered_of(network, workspace), network.threads)
    else:
        x_BI[0] = x + first * I
        targets = targets + first * O if targets != NULL else NULL
        labels = labels + first if labels != NULL else NULL
        sample_weight = sample_weight + first if sample_weight != NULL else NULL
    a_BO = forward_block(network, parameters, 0, B, x_BI[0], workspace)
    return loss_and_delta[real](
        objective.loss, <real>objective.setting, last.activation, B, O,
        workspace + network.capacity * last.preactivations, a_BO,
        targets, labels, rows, sample_weight,
        <real>scale, delta_of(network, workspace, False))
