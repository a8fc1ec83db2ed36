"""The compiled loops behind the Python classes: forward, loss and gradient, update, whole epochs.

A network arrives as a program, one row of integers per layer (`Layer` below), and one flat array of
parameters. Everything else is an array that the caller has checked and allocated; nothing is allocated
here, and the GIL is given back for all but a look at pending signals every 50 ms. An array that does
not apply is given empty.
"""

from cpython.exc cimport PyErr_CheckSignals
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.math cimport isfinite
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy
from libc.time cimport CLOCKS_PER_SEC, clock, clock_t
from numpy cimport intp_t
from numpy.random cimport bitgen_t

from cnet._core.activations cimport activation_codes, chain, needs_preactivation
from cnet._core.dense cimport (
    Gradient, dense_backward, dense_forward, dense_gradient, scratch_size, shared_size)
from cnet._core.gemm cimport ceiling, copy_few, prefetch
from cnet._core.losses cimport loss_and_delta, loss_codes
from cnet._core.optimizers cimport (
    SETTINGS_LENGTH, Settings, Step, optimizer_codes, prepare, update_all)
from cnet._core.scalar cimport real
from cnet._core.team cimport TEAM_MOST_THREADS, team_enter, team_leave, team_run

ACTIVATIONS = activation_codes()
LOSSES = loss_codes()
OPTIMIZERS = optimizer_codes()
OPTIMIZER_SETTINGS = SETTINGS_LENGTH
MOST_THREADS = TEAM_MOST_THREADS

# What a layer is to the engine: a row of the program, read as this struct.
cdef struct Layer:
    intp_t n_inputs
    intp_t n_neurons
    intp_t activation
    intp_t weights  # offset into the parameters
    intp_t biases  # offset into the parameters, or -1
    intp_t outputs  # offset into the workspace, in elements per row
    intp_t preactivations  # likewise; equal to outputs where z is not kept

PROGRAM_COLUMNS = sizeof(Layer) // sizeof(intp_t)


def keeps_preactivation(Py_ssize_t activation):
    """Whether a layer with this activation code keeps z beside its output for the backward pass."""
    return needs_preactivation(activation)


# A network laid over the caller's arrays, for one block of rows at a time.
cdef struct Network:
    const Layer* layers
    Py_ssize_t n_layers
    Py_ssize_t capacity  # rows of a block
    Py_ssize_t outputs  # elements per row of all layers' outputs and pre-activations
    Py_ssize_t widest  # the most neurons of a layer
    Py_ssize_t shared  # elements of scratch that the threads share
    Py_ssize_t scratch  # elements for each thread
    int threads


cdef Network lay_out(
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
    for i in range(network.n_layers):
        network.outputs += network.layers[i].n_neurons
        if network.layers[i].preactivations != network.layers[i].outputs:
            network.outputs += network.layers[i].n_neurons
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


def workspace_size(const intp_t[:, ::1] program, Py_ssize_t capacity, int threads):
    """Elements of workspace for blocks of up to `capacity` rows and so many threads."""
    cdef float* start = NULL
    cdef Network network = lay_out(program, capacity, threads, start)
    return (scratch_of(&network, start) - start) + threads * network.scratch


# A clock that looks for Ctrl-C, and costs nothing where a step takes nanoseconds.
cdef struct Watch:
    double work
    clock_t last


cdef int look_for_signals(Watch* watch, double work) except -1 nogil:
    """Raise KeyboardInterrupt, or run the user's signal handler, at most 50 ms late."""
    cdef clock_t now
    watch.work += work
    if watch.work > 1e6:
        watch.work = 0
        now = clock()
        if now - watch.last > CLOCKS_PER_SEC // 20:
            watch.last = now
            with gil:
                PyErr_CheckSignals()
    return 0


cdef inline double work_of(Network* network, Py_ssize_t rows) noexcept nogil:
    """About how many multiplications a forward and backward pass takes, plus a call's overhead."""
    cdef Py_ssize_t i
    cdef double work = 0
    for i in range(network.n_layers):
        # An activation takes as long as some fifty.
        work += (3.0 * network.layers[i].n_inputs + 50) * network.layers[i].n_neurons
    return rows * work + 100


cdef const real* forward_block(
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
    cdef const real* h = x_BI
    cdef real* a
    for i in range(network.n_layers):
        layer = &network.layers[i]
        a = workspace + network.capacity * layer.outputs + start * layer.n_neurons
        dense_forward[real](
            layer.activation, B, layer.n_inputs, layer.n_neurons,
            h,
            parameters + layer.weights,
            parameters + layer.biases if layer.biases >= 0 else NULL,
            workspace + network.capacity * layer.preactivations + start * layer.n_neurons,
            a,
            scratch_of(network, workspace),
            network.scratch,
            network.threads,
        )
        h = a
    return h


cdef void backward_block(
    Network* network,
    const real* parameters,  # IN, or INOUT through `step`
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
    for i in range(network.n_layers - 1, -1, -1):
        layer = &network.layers[i]
        h = x_BI
        below = NULL
        if i > 0:
            below = &network.layers[i - 1]
            h = workspace + network.capacity * below.outputs + start * below.n_neurons
        # First what goes down through the weights, since an update changes them.
        if below != NULL:
            dense_backward[real](
                B, layer.n_inputs, layer.n_neurons, delta, parameters + layer.weights,
                delta_below, scratch, network.scratch, network.threads)
            chain[real](
                below.activation, B, below.n_neurons,
                workspace + network.capacity * below.preactivations + start * below.n_neurons,
                h, delta_below)
        elif dx_BI != NULL:
            dense_backward[real](
                B, layer.n_inputs, layer.n_neurons, delta, parameters + layer.weights,
                dx_BI, scratch, network.scratch, network.threads)
        if gradient != NULL or step != NULL:
            layer_gradient = Gradient(
                B, layer.n_inputs, layer.n_neurons, h, delta, layer.biases >= 0, accumulate,
                gradient, layer.weights, step, shared_of(network, workspace), scratch, network.scratch)
            dense_gradient[real](&layer_gradient, delta, network.threads)
        delta, delta_below = delta_below, delta


# What is learnt from: rows of x with targets or labels, and the loss between.
cdef struct Objective:
    const void* x
    const void* targets  # or NULL
    const intp_t* labels  # or NULL
    const void* sample_weight  # or NULL
    Py_ssize_t loss
    double setting


cdef Objective objective_of(
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


cdef void gather_part(void* context, Py_ssize_t part, Py_ssize_t thread) noexcept nogil:
    cdef const Gather* gather = <const Gather*>context
    cdef Py_ssize_t i, n_bytes = gather.row_bytes
    for i in range(part * GATHER_ROWS, min((part + 1) * GATHER_ROWS, gather.n_rows)):
        if i + 1 < gather.n_rows:
            prefetch(gather.x + gather.rows[i + 1] * n_bytes, n_bytes)
        if n_bytes < 256:
            copy_few(gather.gathered + i * n_bytes, gather.x + gather.rows[i] * n_bytes, n_bytes)
        else:
            memcpy(gather.gathered + i * n_bytes, gather.x + gather.rows[i] * n_bytes, n_bytes)


cdef void gather(
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


cdef double loss_of_block(
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
    if rows != NULL:
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


def forward(
    const intp_t[:, ::1] program,  # IN
    const real[::1] parameters,  # IN
    const real[:, ::1] x,  # IN
    real[:, ::1] outputs,  # OUT
    real[::1] workspace,  # scratch; with room for all rows their outputs, as `backward` wants them
    Py_ssize_t capacity,
    Py_ssize_t block,  # rows at a time
    int threads,
):
    """Outputs of the last layer for every row of x."""
    cdef Network network = lay_out(program, capacity, threads, &parameters[0])
    cdef Watch watch = Watch(0, clock())
    cdef Py_ssize_t first = 0, B, n = x.shape[0], O = outputs.shape[1]
    cdef const real* a_BO
    team_enter()
    try:
        with nogil:
            while first < n:
                B = min(block, n - first)
                a_BO = forward_block(
                    &network, &parameters[0], first if capacity >= n else 0, B, &x[first, 0],
                    &workspace[0])
                memcpy(&outputs[first, 0], a_BO, B * O * sizeof(real))
                look_for_signals(&watch, work_of(&network, B))
                first += B
    finally:
        team_leave()


def backward(
    const intp_t[:, ::1] program,  # IN
    const real[::1] parameters,  # IN
    const real[:, ::1] x,  # IN
    const real[:, ::1] output_gradient,  # IN, dL/da of the last layer
    real[::1] workspace,  # INOUT, as `forward` of the same x left it
    Py_ssize_t capacity,
    Py_ssize_t block,  # rows at a time
    real[::1] gradient,  # OUT, or empty
    real[:, ::1] input_gradient,  # OUT, or empty
    int threads,
):
    """Gradients of a loss that was computed outside, from its gradient by the outputs."""
    cdef Network network = lay_out(program, capacity, threads, &parameters[0])
    cdef const Layer* last = &network.layers[network.n_layers - 1]
    cdef Watch watch = Watch(0, clock())
    cdef Py_ssize_t first = 0, B, n = x.shape[0], O = last.n_neurons
    cdef real* delta = delta_of(&network, &workspace[0], False)
    team_enter()
    try:
        with nogil:
            while first < n:
                B = min(block, n - first)
                memcpy(delta, &output_gradient[first, 0], B * O * sizeof(real))
                chain[real](
                    last.activation, B, O,
                    &workspace[0] + capacity * last.preactivations + first * O,
                    &workspace[0] + capacity * last.outputs + first * O, delta)
                backward_block[real](
                    &network, &parameters[0], first, B, &x[first, 0], &workspace[0],
                    &gradient[0] if gradient.shape[0] > 0 else NULL,
                    first > 0,
                    NULL,
                    &input_gradient[first, 0] if input_gradient.shape[0] > 0 else NULL)
                look_for_signals(&watch, work_of(&network, B))
                first += B
    finally:
        team_leave()


def loss_and_gradient(
    const intp_t[:, ::1] program,  # IN
    const real[::1] parameters,  # IN
    const real[:, ::1] x,  # IN
    const real[:, ::1] targets,  # IN, or empty where labels are given
    const intp_t[::1] labels,  # IN, or empty
    const real[::1] sample_weight,  # IN, or empty
    Py_ssize_t loss,
    double setting,
    double scale,
    real[::1] workspace,  # scratch
    Py_ssize_t capacity,
    real[::1] gradient,  # OUT, or empty
    real[:, ::1] input_gradient,  # OUT, or empty
    real[:, ::1] outputs,  # OUT, or empty
    int threads,
):
    """Scaled total of the rows' losses and, where wanted, its gradients and the outputs."""
    cdef Network network = lay_out(program, capacity, threads, &parameters[0])
    cdef Objective objective = objective_of[real](
        x, targets, labels, sample_weight, loss, setting)
    cdef Watch watch = Watch(0, clock())
    cdef const Layer* last = &network.layers[network.n_layers - 1]
    cdef Py_ssize_t first = 0, B, n = x.shape[0]
    cdef real* d_parameters = &gradient[0] if gradient.shape[0] > 0 else NULL
    cdef const real* x_BI
    cdef real* dx_BI
    cdef double total = 0
    team_enter()
    try:
        with nogil:
            while first < n:
                B = min(capacity, n - first)
                total += loss_of_block[real](
                    &network, &objective, &parameters[0], first, B, NULL, scale,
                    &workspace[0], &x_BI)
                dx_BI = &input_gradient[first, 0] if input_gradient.shape[0] > 0 else NULL
                if d_parameters != NULL or dx_BI != NULL:
                    backward_block[real](
                        &network, &parameters[0], 0, B, x_BI, &workspace[0],
                        d_parameters, first > 0, NULL, dx_BI)
                if outputs.shape[0] > 0:
                    memcpy(
                        &outputs[first, 0], &workspace[0] + capacity * last.outputs,
                        B * last.n_neurons * sizeof(real))
                look_for_signals(&watch, work_of(&network, B))
                first += B
    finally:
        team_leave()
    return scale * total


def apply_update(
    Py_ssize_t optimizer,
    const double[::1] settings,  # IN
    Py_ssize_t number,  # of the step, from 1
    real[::1] parameters,  # INOUT
    real[::1] gradient,  # INOUT, clipped in place
    real[:, ::1] moments,  # INOUT
    int threads,
):
    """One step of the optimizer."""
    cdef Step step
    team_enter()
    try:
        with nogil:
            step = prepare[real](
                optimizer, <const Settings*>&settings[0], number, parameters.shape[0],
                &parameters[0], &moments[0, 0] if moments.shape[0] > 0 else NULL)
            update_all[real](&step, &gradient[0], threads)
    finally:
        team_leave()


cdef bint finite(const real* values, Py_ssize_t n) noexcept nogil:
    """Whether no value is NaN or infinite: any other number less itself is 0."""
    cdef Py_ssize_t i
    cdef int found = 0  # an integer, whose sum the compiler may reorder and so vectorise
    for i in range(n):
        found |= values[i] - values[i] != 0
    return found == 0


def all_finite(const real[::1] values):
    """Whether no value is NaN or infinite."""
    cdef bint result
    with nogil:
        result = finite(&values[0], values.shape[0])
    return result


cdef inline Py_ssize_t below(bitgen_t* random, Py_ssize_t n) noexcept nogil:
    """An integer from 0 to n - 1, all alike; without a division but for once in a while (Lemire, 2019)."""
    cdef uint64_t product
    cdef uint32_t bound = <uint32_t>n, least
    if n >> 32 != 0:
        return <Py_ssize_t>(random.next_uint64(random.state) % <uint64_t>n)
    product = <uint64_t>random.next_uint32(random.state) * bound
    if <uint32_t>product < bound:
        least = (<uint32_t>0 - bound) % bound
        while <uint32_t>product < least:
            product = <uint64_t>random.next_uint32(random.state) * bound
    return <Py_ssize_t>(product >> 32)


def shuffle(
    bit_generator,  # NumPy's
    intp_t[:, ::1] order,  # OUT
):
    """Make each row a permutation of its indices (Fisher and Yates)."""
    cdef bitgen_t* random = <bitgen_t*>PyCapsule_GetPointer(bit_generator.capsule, "BitGenerator")
    cdef Py_ssize_t epoch, i, j, n = order.shape[1]
    cdef intp_t* row
    with bit_generator.lock, nogil:
        for epoch in range(order.shape[0]):
            row = &order[epoch, 0]
            for i in range(n):
                # Inside out: the row that i goes to is not yet anybody's but i's own.
                j = below(random, i + 1)
                row[i] = row[j]
                row[j] = i


cdef double train_epoch(
    Network* network,
    Objective* objective,
    Py_ssize_t n,
    const intp_t* order,  # IN, or NULL
    Py_ssize_t batch_size,
    bint mean,
    Py_ssize_t optimizer,
    const Settings* settings,  # IN
    intp_t* steps,  # INOUT
    Py_ssize_t n_parameters,
    real* parameters,  # INOUT
    real* gradient,  # scratch, or NULL where every batch is one block and not clipped by its norm
    real* moments,  # INOUT
    real* workspace,  # scratch
    Watch* watch,
) except? -1 nogil:
    """Total of the rows' losses, each before the update that its batch makes."""
    cdef Py_ssize_t start = 0, first, rows, B
    cdef const real* x_BI
    cdef Step step
    cdef double total = 0
    while start < n:
        rows = min(batch_size, n - start)
        step = prepare[real](optimizer, settings, steps[0] + 1, n_parameters, parameters, moments)
        # A batch larger than a block is summed block by block.
        first = start
        while first < start + rows:
            B = min(network.capacity, start + rows - first)
            total += loss_of_block[real](
                network, objective, parameters, first, B,
                order + first if order != NULL else NULL,
                1.0 / rows if mean else 1.0, workspace, &x_BI)
            if not isfinite(total):
                return total
            backward_block[real](
                network, parameters, 0, B, x_BI, workspace, gradient, first > start,
                &step if gradient == NULL else NULL, NULL)
            look_for_signals(watch, work_of(network, B))
            first += B
        if gradient != NULL:
            update_all[real](&step, gradient, network.threads)
        steps[0] += 1
        start += rows
    return total


def train(
    const intp_t[:, ::1] program,  # IN
    real[::1] parameters,  # INOUT
    const real[:, ::1] x,  # IN
    const real[:, ::1] targets,  # IN, or empty where labels are given
    const intp_t[::1] labels,  # IN, or empty
    const real[::1] sample_weight,  # IN, or empty
    Py_ssize_t loss,
    double setting,
    bint mean,  # over the rows of a batch, or else their sum
    const intp_t[:, ::1] order,  # IN, epochs x rows, or empty
    Py_ssize_t batch_size,
    Py_ssize_t optimizer,
    const double[::1] settings,  # IN
    intp_t[::1] steps,  # INOUT, how many the optimizer has made
    real[:, ::1] moments,  # INOUT
    real[::1] gradient,  # scratch, or empty where every batch is one block and not clipped by its norm
    real[::1] finished,  # scratch, the parameters at the end of the last finished epoch
    real[::1] workspace,  # scratch
    Py_ssize_t capacity,
    double[::1] totals,  # OUT, per epoch the total of the rows' losses
    int threads,
):
    """Train for as many epochs as `totals` has room for; returns how many stayed finite.

    The parameters are those of the last finished epoch, also when a signal handler raises.
    """
    cdef Network network = lay_out(program, capacity, threads, &parameters[0])
    cdef Objective objective = objective_of[real](
        x, targets, labels, sample_weight, loss, setting)
    cdef Watch watch = Watch(0, clock())
    cdef Py_ssize_t epoch = 0, n_parameters = parameters.shape[0]
    cdef const intp_t* rows = NULL
    cdef bint complete = False
    team_enter()
    try:
        with nogil:
            while epoch < totals.shape[0]:
                complete = False
                memcpy(&finished[0], &parameters[0], n_parameters * sizeof(real))
                if order.shape[0] > 0:
                    rows = &order[epoch, 0]
                totals[epoch] = train_epoch[real](
                    &network, &objective, x.shape[0], rows, batch_size, mean,
                    optimizer, <const Settings*>&settings[0], &steps[0],
                    n_parameters, &parameters[0],
                    &gradient[0] if gradient.shape[0] > 0 else NULL,
                    &moments[0, 0] if moments.shape[0] > 0 else NULL,
                    &workspace[0], &watch)
                # The moments too: an infinite one would stop its weight for good.
                if not (
                        isfinite(totals[epoch]) and finite(&parameters[0], n_parameters)
                        and (moments.shape[0] == 0
                             or finite(&moments[0, 0], moments.shape[0] * n_parameters))):
                    break
                complete = True
                epoch += 1
    finally:
        team_leave()
        if not complete and totals.shape[0] > 0:
            memcpy(&parameters[0], &finished[0], n_parameters * sizeof(real))
    return epoch
