"""The compiled loops behind the Python classes: forward, loss and gradient, update, whole epochs.

A network arrives as a program, one row of integers per layer (`Layer` below), and one flat array of
parameters. Everything else is an array that the caller has checked and allocated; nothing is allocated
here, and the GIL is given back for all but a look at pending signals every 50 ms and single rows. An
array that does not apply is given empty.
"""

cimport numpy as cnp
import numpy as np
from cpython.exc cimport PyErr_CheckSignals
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.math cimport NAN, isfinite
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy
from libc.time cimport CLOCKS_PER_SEC, clock, clock_t
from numpy cimport intp_t

from cnet._core cimport passes
from cnet._core.activations cimport activation_codes, chain, needs_preactivation
from cnet._core.losses cimport loss_codes
from cnet._core.optimizers cimport (
    SETTINGS_LENGTH, Settings, Step, optimizer_codes, prepare, update_all)
from cnet._core.passes cimport (
    Layer, Network, Objective, backward_block, delta_of, forward_block, gathered_of, is_narrow,
    keep_bounds, lay_out, loss_of_block, objective_of, penalties, scratch_of, work_of)
from cnet._core.regularization cimport mix
from cnet._core.scalar cimport real
from cnet._core.team cimport TEAM_MOST_THREADS, team_enter, team_leave


# Not from numpy.random, which would be imported with it.
cdef extern from "numpy/random/bitgen.h":
    ctypedef struct bitgen_t:
        void* state
        uint64_t (*next_uint64)(void* state) noexcept nogil
        uint32_t (*next_uint32)(void* state) noexcept nogil


cnp.import_array()

ACTIVATIONS = activation_codes()
LOSSES = loss_codes()
OPTIMIZERS = optimizer_codes()
OPTIMIZER_SETTINGS = SETTINGS_LENGTH
MOST_THREADS = TEAM_MOST_THREADS

# How a batch's loss comes from its rows'.
cdef enum Reduction:
    SUM
    MEAN
    WEIGHTED_MEAN

REDUCTIONS = {"sum": SUM, "mean": MEAN, "weighted_mean": WEIGHTED_MEAN}

cdef tuple INTEGERS = (int, np.integer)
cdef tuple REAL_NUMBERS = (float, int, np.floating, np.integer)

PROGRAM_COLUMNS = sizeof(Layer) // sizeof(intp_t)


def keeps_preactivation(Py_ssize_t activation):
    """Whether a layer with this activation code keeps z beside its output for the backward pass."""
    return needs_preactivation(activation)


def row_room(Py_ssize_t n):
    """Elements of workspace per row for the outputs of n neurons."""
    return passes.row_room(n)


def workspace_size(const intp_t[:, ::1] program, Py_ssize_t capacity, int threads):
    """Elements of workspace for blocks of up to `capacity` rows and so many threads."""
    # For either dtype: of floats, whose vectors have more lanes, blocks and panels are no smaller.
    cdef float* start = NULL
    cdef Network network = lay_out(program, capacity, threads, start)
    return (scratch_of(&network, start) - start) + threads * network.scratch


# A clock that looks for Ctrl-C, and costs nothing where a step takes nanoseconds.
cdef struct Watch:
    double work
    clock_t last


cdef int look_for_signals(Watch* watch, double work) except -1 nogil:
    """Raise KeyboardInterrupt, or run the user's signal handler, at most 50 ms late; NULL: do not look."""
    cdef clock_t now
    if watch == NULL:
        return 0
    watch.work += work
    if watch.work > 1e6:
        watch.work = 0
        now = clock()
        if now - watch.last > CLOCKS_PER_SEC // 20:
            watch.last = now
            with gil:
                PyErr_CheckSignals()
    return 0


cdef bint finite(const real* values, Py_ssize_t n) noexcept nogil:
    """Whether no value is NaN or infinite: any other number less itself is 0."""
    cdef Py_ssize_t i
    cdef int found = 0  # an integer, whose sum the compiler may reorder and so vectorise
    for i in range(n):
        found |= values[i] - values[i] != 0
    return found == 0


cdef int forward_rows(
    Network* network,
    const real* parameters,  # IN
    Py_ssize_t n,
    const real* x,  # IN
    real* workspace,  # scratch, as for `forward`
    real* outputs,  # OUT
    Py_ssize_t block,  # rows at a time
    bint check,
    Watch* watch,
) except -1 nogil:
    """Outputs of the last layer; returns 1 or, with `check`, 0 where x is not finite."""
    cdef Py_ssize_t first = 0, B
    cdef Py_ssize_t I = network.layers[0].n_inputs
    cdef Py_ssize_t O = network.layers[network.n_layers - 1].n_neurons
    cdef const real* a_BO
    while first < n:
        B = min(block, n - first)
        if network.dropout_key != 0:
            network.dropout_key = mix(network.dropout_key) | 1
        # What is looked at here is in cache for the first layer.
        if check and not finite(x + first * I, B * I):
            return 0
        a_BO = forward_block(
            network, parameters, first if network.capacity >= n else 0, B, x + first * I, workspace)
        memcpy(outputs + first * O, a_BO, B * O * sizeof(real))
        look_for_signals(watch, work_of(network, B))
        first += B
    return 1


def forward(
    const intp_t[:, ::1] program,  # IN
    const real[::1] parameters,  # IN
    const real[:, ::1] x,  # IN
    real[:, ::1] outputs,  # OUT
    real[::1] workspace,  # scratch; with room for all rows their outputs, as `backward` wants them
    Py_ssize_t capacity,
    Py_ssize_t block,  # rows at a time
    int threads,
    bint check=False,
    uint64_t dropout_key=0,  # other than 0: with dropout
):
    """Outputs of the last layer for every row of x; with `check`, False where x is not finite."""
    cdef Network network = lay_out(program, capacity, threads, &parameters[0])
    cdef Watch watch = Watch(0, clock())
    cdef bint sound
    network.dropout_key = dropout_key
    team_enter()
    try:
        with nogil:
            sound = forward_rows[real](
                &network, &parameters[0], x.shape[0], &x[0, 0], &workspace[0], &outputs[0, 0],
                block, check, &watch)
    finally:
        team_leave()
    return sound


def backward(
    const intp_t[:, ::1] program,  # IN
    const real[::1] parameters,  # IN
    const real[:, ::1] x,  # IN
    const real[:, ::1] output_gradient,  # IN, dL/da of the last layer
    double penalty_scale,
    real[::1] workspace,  # INOUT, as `forward` of the same x left it
    Py_ssize_t capacity,
    Py_ssize_t block,  # rows at a time
    real[::1] gradient,  # OUT, or empty
    real[:, ::1] input_gradient,  # OUT, or empty
    int threads,
    bint dropout=False,  # `forward` was with dropout
):
    """Gradients of a loss that was computed outside, from its gradient by the outputs.

    That by the parameters has the scaled penalties' in it.
    """
    cdef Network network = lay_out(program, capacity, threads, &parameters[0])
    cdef const Layer* last = &network.layers[network.n_layers - 1]
    cdef Watch watch = Watch(0, clock())
    cdef Py_ssize_t first = 0, B, n = x.shape[0], O = last.n_neurons
    cdef real* delta = delta_of(&network, &workspace[0], False)
    network.dropout_key = dropout
    network.penalty_scale = penalty_scale
    team_enter()
    try:
        with nogil:
            while first < n:
                B = min(block, n - first)
                memcpy(delta, &output_gradient[first, 0], B * O * sizeof(real))
                chain[real](
                    last.activation, B, O, 1,
                    &workspace[0] + network.capacity * last.preactivations + first * O,
                    &workspace[0] + network.capacity * last.outputs + first * O, delta)
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
    double penalty_scale,
    real[::1] workspace,  # scratch
    Py_ssize_t capacity,
    real[::1] gradient,  # OUT, or empty
    real[:, ::1] input_gradient,  # OUT, or empty
    real[:, ::1] outputs,  # OUT, or empty
    int threads,
):
    """Scaled total of the rows' losses and of the penalties; its gradients and the outputs, where wanted."""
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
    network.penalty_scale = penalty_scale
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
                        &outputs[first, 0], &workspace[0] + network.capacity * last.outputs,
                        B * last.n_neurons * sizeof(real))
                look_for_signals(&watch, work_of(&network, B))
                first += B
    finally:
        team_leave()
    return scale * total + penalties[real](&network, &parameters[0])


def penalty(
    const intp_t[:, ::1] program,  # IN
    const real[::1] parameters,  # IN
):
    """What the layers' l1 and l2 add to the loss."""
    cdef Network network = lay_out(program, 1, 1, &parameters[0])
    return penalties[real](&network, &parameters[0])


def apply_update(
    const intp_t[:, ::1] program,  # IN
    Py_ssize_t optimizer,
    const double[::1] settings,  # IN
    double learning_rate,
    Py_ssize_t number,  # of the step, from 1
    real[::1] parameters,  # INOUT
    real[::1] gradient,  # INOUT, clipped in place; then scratch
    real[:, ::1] moments,  # INOUT
    int threads,
):
    """One step of the optimizer."""
    cdef Network network = lay_out(program, 1, threads, &parameters[0])
    cdef Step step
    team_enter()
    try:
        with nogil:
            step = prepare[real](
                optimizer, <const Settings*>&settings[0], learning_rate, number, parameters.shape[0],
                &parameters[0], &moments[0, 0] if moments.shape[0] > 0 else NULL)
            update_all[real](&step, &gradient[0], threads)
            # A layer has no more neurons than there are parameters.
            keep_bounds[real](&network, &parameters[0], &gradient[0])
    finally:
        team_leave()


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


# How an epoch goes through its rows.
cdef struct Course:
    Py_ssize_t batch_size
    Py_ssize_t reduction
    bint divide_penalties  # by what the sum over a batch's rows is divided by
    double recorded_scale  # of the rows' losses in the total, and not in the gradient
    Py_ssize_t optimizer
    const Settings* settings
    uint64_t dropout_seed  # 0: nothing is dropped


cdef inline double divisor_of(
    const Course* course,
    const real* sample_weight,  # IN, or NULL
    const intp_t* rows,  # IN, or NULL: from `start` on
    Py_ssize_t start,
    Py_ssize_t n,
) noexcept nogil:
    """What the sum over a batch's rows is divided by."""
    cdef Py_ssize_t i
    cdef double total = 0
    if course.reduction == SUM:
        return 1
    if course.reduction == MEAN or sample_weight == NULL:
        return n
    for i in range(start, start + n):
        total += sample_weight[rows[i] if rows != NULL else i]
    # Rows of no weight have no loss either.
    return total if total > 0 else 1


cdef double train_epoch(
    Network* network,
    Objective* objective,
    const Course* course,
    Py_ssize_t n,
    const intp_t* order,  # IN, or NULL
    const double* rates,  # IN, the learning rate of each step
    Py_ssize_t rates_step,  # from one to the next, or 0
    intp_t* steps,  # INOUT
    Py_ssize_t n_parameters,
    real* parameters,  # INOUT
    real* gradient,  # scratch, or NULL where every batch is one block and not clipped by its norm
    real* moments,  # INOUT
    real* workspace,  # scratch
    Watch* watch,
) except? -1 nogil:
    """Total over batches of rows times loss, each before the update that it makes; of their sums for SUM."""
    cdef Py_ssize_t start = 0, first, rows, B
    cdef const real* x_BI
    cdef Step step
    cdef double total = 0, of_batch, divisor, share
    while start < n:
        rows = min(course.batch_size, n - start)
        step = prepare[real](
            course.optimizer, course.settings, rates[0], steps[0] + 1, n_parameters, parameters, moments)
        divisor = divisor_of[real](course, <const real*>objective.sample_weight, order, start, rows)
        # Of a plain mean the rows' losses are summed as they are.
        share = course.recorded_scale * (rows / divisor if course.reduction == WEIGHTED_MEAN else 1)
        network.penalty_scale = 1 / divisor if course.divide_penalties else 1
        of_batch = 0
        if network.penalized:
            of_batch = penalties[real](network, parameters)
            if course.reduction != SUM:
                of_batch *= rows
        # A batch larger than a block is summed block by block.
        first = start
        while first < start + rows:
            B = min(network.capacity, start + rows - first)
            if course.dropout_seed != 0:
                network.dropout_key = mix(mix(course.dropout_seed + steps[0]) + (first - start)) | 1
            of_batch += share * loss_of_block[real](
                network, objective, parameters, first, B,
                order + first if order != NULL else NULL, 1 / divisor, workspace, &x_BI)
            if not isfinite(of_batch):
                return of_batch
            backward_block[real](
                network, parameters, 0, B, x_BI, workspace, gradient, first > start,
                &step if gradient == NULL else NULL, NULL)
            look_for_signals(watch, work_of(network, B))
            first += B
        if gradient != NULL:
            update_all[real](&step, gradient, network.threads)
        if network.bounded:
            keep_bounds[real](network, parameters, delta_of(network, workspace, False))
        # Batch by batch, as they add up where each is a call.
        total += of_batch
        steps[0] += 1
        rates += rates_step
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
    Py_ssize_t reduction,
    bint divide_penalties,  # by what the sum over a batch's rows is divided by
    double recorded_scale,  # of the rows' losses in the totals
    const intp_t[:, ::1] order,  # IN, epochs x rows of an epoch, or empty: all rows as they are
    const uint64_t[::1] dropout_seeds,  # IN, per epoch and not 0; or empty: nothing is dropped
    Py_ssize_t batch_size,
    Py_ssize_t optimizer,
    const double[::1] settings,  # IN
    const double[::1] rates,  # IN, the learning rate of every step, or one for all
    intp_t[::1] steps,  # INOUT, how many the optimizer has made
    real[:, ::1] moments,  # INOUT
    real[::1] gradient,  # scratch, or empty where every batch is one block and not clipped by its norm
    real[::1] finished,  # scratch, the parameters at the end of the last finished epoch
    real[::1] workspace,  # scratch
    Py_ssize_t capacity,
    double[::1] totals,  # OUT, per epoch the total that train_epoch returns
    int threads,
):
    """Train for as many epochs as `totals` has room for; returns how many stayed finite.

    The parameters are those of the last finished epoch, also when a signal handler raises.
    """
    cdef Network network = lay_out(program, capacity, threads, &parameters[0])
    cdef Objective objective = objective_of[real](
        x, targets, labels, sample_weight, loss, setting)
    cdef Course course = Course(
        batch_size, reduction, divide_penalties, recorded_scale, optimizer,
        <const Settings*>&settings[0], 0)
    cdef Watch watch = Watch(0, clock())
    cdef Py_ssize_t epoch = 0, n_parameters = parameters.shape[0]
    cdef Py_ssize_t n = order.shape[1] if order.shape[0] > 0 else x.shape[0]
    cdef Py_ssize_t rates_step = 1 if rates.shape[0] > 1 else 0
    cdef const intp_t* rows = NULL
    cdef bint complete = False
    network.transposed = is_narrow(&network, batch_size, &parameters[0])
    team_enter()
    try:
        with nogil:
            while epoch < totals.shape[0]:
                complete = False
                memcpy(&finished[0], &parameters[0], n_parameters * sizeof(real))
                if order.shape[0] > 0:
                    rows = &order[epoch, 0]
                if dropout_seeds.shape[0] > 0:
                    course.dropout_seed = dropout_seeds[epoch]
                totals[epoch] = train_epoch[real](
                    &network, &objective, &course, n, rows,
                    &rates[rates_step * epoch * ((n + batch_size - 1) // batch_size)], rates_step,
                    &steps[0], n_parameters, &parameters[0],
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


# One row at a time, for callers that wait for each: arrays of its own, checked once, and no allocation.
# The GIL is kept unless there is much to do, which also keeps Python's threads apart.

cdef enum:
    # Multiplications that take some ten microseconds.
    LONG_WORK = 1000000


cdef bint read_row(values, Py_ssize_t n, real* row):
    """Copy an array of n floats; False where it is another thing or not finite."""
    cdef Py_ssize_t i, stride
    cdef const char* data
    if (type(values) is not cnp.ndarray or cnp.PyArray_NDIM(values) != 1
            or cnp.PyArray_DIM(values, 0) != n or not cnp.PyArray_ISBEHAVED_RO(values)):
        return False
    stride = cnp.PyArray_STRIDE(values, 0)
    data = cnp.PyArray_BYTES(values)
    if cnp.PyArray_TYPE(values) == cnp.NPY_FLOAT32:
        for i in range(n):
            row[i] = (<const float*>(data + i * stride))[0]
    elif cnp.PyArray_TYPE(values) == cnp.NPY_FLOAT64:
        for i in range(n):
            row[i] = <real>(<const double*>(data + i * stride))[0]
    else:
        return False
    return finite(row, n)


cdef class Predictor:
    """The outputs of a fixed network, with no allocation and hardly a check.

    Made by `NeuralNetwork.predictor`, and called with an array. NaN comes out where NaN goes in.

    Parameters
    ----------
    x : ndarray of shape (n_inputs,) or (n, n_inputs)
        C-contiguous and of the network's dtype.
    out : ndarray of shape (n_outputs,) or (n, n_outputs), optional
        Where to put the outputs; likewise contiguous, and of memory that is not x's. By default a new
        array.

    Returns
    -------
    ndarray
        `out`, or the new array.

    Raises
    ------
    TypeError, ValueError
        Where `x` or `out` is not such an array.
    RuntimeError
        Where another thread is using this predictor; each wants its own.
    """

    cdef const intp_t[:, ::1] program
    cdef readonly object parameters
    cdef object workspace
    cdef Network network
    cdef void* values
    cdef void* memory
    cdef Py_ssize_t n_inputs
    cdef Py_ssize_t n_outputs
    cdef double work
    cdef int dtype
    cdef bint busy

    def __init__(
        self, const intp_t[:, ::1] program, parameters, workspace, Py_ssize_t capacity, int threads
    ):
        self.program = program
        self.parameters = parameters
        self.workspace = workspace
        self.values = cnp.PyArray_DATA(parameters)
        self.memory = cnp.PyArray_DATA(workspace)
        self.dtype = cnp.PyArray_TYPE(parameters)
        if self.dtype == cnp.NPY_FLOAT32:
            self.network = lay_out(program, capacity, threads, <float*>self.values)
        else:
            self.network = lay_out(program, capacity, threads, <double*>self.values)
        self.n_inputs = self.network.layers[0].n_inputs
        self.n_outputs = self.network.layers[self.network.n_layers - 1].n_neurons
        self.work = work_of(&self.network, 1)

    cdef bint is_ours(self, array, Py_ssize_t width):
        """Whether it is an array to be read as it lies."""
        cdef int n_dimensions
        if type(array) is not cnp.ndarray:
            return False
        n_dimensions = cnp.PyArray_NDIM(array)
        return (
            cnp.PyArray_TYPE(array) == self.dtype and cnp.PyArray_ISCARRAY_RO(array)
            and (n_dimensions == 1 or n_dimensions == 2)
            and cnp.PyArray_DIM(array, n_dimensions - 1) == width)

    cdef int run(self, Py_ssize_t n, const void* x, void* outputs, Watch* watch) except -1 nogil:
        if self.dtype == cnp.NPY_FLOAT32:
            forward_rows[float](
                &self.network, <const float*>self.values, n, <const float*>x, <float*>self.memory,
                <float*>outputs, self.network.capacity, False, watch)
        else:
            forward_rows[double](
                &self.network, <const double*>self.values, n, <const double*>x, <double*>self.memory,
                <double*>outputs, self.network.capacity, False, watch)
        return 0

    def __call__(self, x, out=None):
        cdef Py_ssize_t n = 1
        cdef cnp.npy_intp[2] shape
        cdef const char* x_data
        cdef char* out_data
        cdef Watch watch
        if not self.is_ours(x, self.n_inputs):
            raise self.complaint("x", x, self.n_inputs)
        if cnp.PyArray_NDIM(x) == 2:
            n = cnp.PyArray_DIM(x, 0)
        if out is None:
            shape[0] = n
            shape[cnp.PyArray_NDIM(x) - 1] = self.n_outputs
            out = cnp.PyArray_SimpleNew(cnp.PyArray_NDIM(x), shape, self.dtype)
        elif (not self.is_ours(out, self.n_outputs) or not cnp.PyArray_ISWRITEABLE(out)
                or cnp.PyArray_SIZE(out) != n * self.n_outputs
                or cnp.PyArray_NDIM(out) != cnp.PyArray_NDIM(x)):
            raise self.complaint("out", out, self.n_outputs)
        x_data = cnp.PyArray_BYTES(x)
        out_data = cnp.PyArray_BYTES(out)
        # Of one block all is read before anything is written.
        if n > self.network.capacity and (
                x_data < out_data + cnp.PyArray_NBYTES(out)
                and out_data < x_data + cnp.PyArray_NBYTES(x)):
            raise ValueError("out must be of memory that is not x's, got an array that overlaps x")
        if self.busy:
            raise RuntimeError(
                "the predictor is being used by another thread: make one for each, net.predictor()")
        if n * self.work < LONG_WORK:
            self.run(n, x_data, out_data, NULL)
            return out
        watch = Watch(0, clock())
        self.busy = True
        team_enter()
        try:
            with nogil:
                self.run(n, x_data, out_data, &watch)
        finally:
            team_leave()
            self.busy = False
        return out

    def __reduce__(self):
        raise TypeError(
            "a predictor cannot be pickled or copied: pickle the network, and call predictor() there")

    cdef complaint(self, name, array, width):
        wanted = (
            f"{name} must be a C-contiguous {'writable ' if name == 'out' else ''}array of dtype "
            f"{self.parameters.dtype} and shape ({width},) or (n, {width})"
            f"{', for as many rows as x' if name == 'out' else ''}")
        if type(array) is not cnp.ndarray:
            return TypeError(f"{wanted}, got {type(array).__name__}")
        got = f"dtype {array.dtype} and shape {array.shape}"
        if not cnp.PyArray_IS_C_CONTIGUOUS(array):
            got += ", not contiguous"
        if not cnp.PyArray_ISALIGNED(array):
            got += ", not aligned"
        if name == "out" and not cnp.PyArray_ISWRITEABLE(array):
            got += ", read-only"
        return ValueError(f"{wanted}, got {got}")

    def row(self, x):
        """Outputs for one row of floats; None where it is no array of them, or much work."""
        cdef cnp.npy_intp n_outputs = self.n_outputs
        cdef void* row
        if self.busy or self.work >= LONG_WORK:
            return None
        if self.dtype == cnp.NPY_FLOAT32:
            row = gathered_of(&self.network, <float*>self.memory)
            if not read_row(x, self.n_inputs, <float*>row):
                return None
        else:
            row = gathered_of(&self.network, <double*>self.memory)
            if not read_row(x, self.n_inputs, <double*>row):
                return None
        out = cnp.PyArray_SimpleNew(1, &n_outputs, self.dtype)
        self.run(1, row, cnp.PyArray_DATA(out), NULL)
        return out


cdef double learn_row(
    Network* network,
    Objective* objective,
    const Course* course,
    double rate,
    intp_t* steps,  # INOUT
    Py_ssize_t n_parameters,
    real* parameters,  # INOUT
    real* gradient,  # scratch, or NULL as in train_epoch
    Py_ssize_t n_moments,
    real* moments,  # INOUT
    real* before,  # scratch
    real* workspace,  # scratch
) except? -1 nogil:
    """Loss of the row before the step; NaN, and the parameters as they were, where it would not be finite."""
    cdef double total
    memcpy(before, parameters, n_parameters * sizeof(real))
    # Python looks for signals after the call; in its midst one would leave half a step.
    total = train_epoch[real](
        network, objective, course, 1, NULL, &rate, 0, steps, n_parameters, parameters,
        gradient, moments, workspace, NULL)
    if isfinite(total) and finite(parameters, n_parameters) and finite(moments, n_moments):
        return total
    memcpy(parameters, before, n_parameters * sizeof(real))
    return NAN


cdef class Learner:
    """Steps of an optimizer, each by one row, over arrays that the caller has checked."""

    cdef const intp_t[:, ::1] program
    cdef tuple arrays
    cdef Network network
    cdef Objective objective
    cdef Course course
    cdef public double rate
    cdef const double[::1] settings
    cdef intp_t[::1] steps
    cdef Py_ssize_t n_parameters
    cdef Py_ssize_t n_moments
    cdef void* parameters
    cdef void* gradient
    cdef void* moments
    cdef void* before
    cdef void* workspace
    cdef void* targets
    cdef void* x
    cdef intp_t label
    cdef bint cross_entropy
    cdef double low
    cdef double high
    cdef Py_ssize_t n_outputs
    cdef int dtype

    def __init__(
        self,
        const intp_t[:, ::1] program,
        parameters,  # INOUT
        row,  # scratch, of the inputs and then the outputs
        Py_ssize_t loss,
        double setting,
        bint cross_entropy,  # labels are targets, and targets sum to 1
        double low,  # the range of targets
        double high,
        Py_ssize_t optimizer,
        const double[::1] settings,  # IN
        double rate,
        uint64_t dropout_seed,  # 0: nothing is dropped
        intp_t[::1] steps,  # INOUT
        moments,  # INOUT
        gradient,  # scratch, or empty
        before,  # scratch, as long as parameters
        workspace,  # scratch
    ):
        cdef float* single = NULL
        cdef double* twofold = NULL
        self.program = program
        self.arrays = (parameters, row, moments, gradient, before, workspace)
        self.dtype = cnp.PyArray_TYPE(parameters)
        if self.dtype == cnp.NPY_FLOAT32:
            self.network = lay_out(program, 1, 1, single)
        else:
            self.network = lay_out(program, 1, 1, twofold)
        self.n_outputs = self.network.layers[self.network.n_layers - 1].n_neurons
        self.x = cnp.PyArray_DATA(row)
        self.targets = (
            <char*>self.x + self.network.layers[0].n_inputs * cnp.PyArray_ITEMSIZE(row))
        self.objective = Objective(self.x, NULL, NULL, NULL, loss, setting)
        self.cross_entropy = cross_entropy
        self.low = low
        self.high = high
        self.settings = settings
        self.course = Course(
            1, MEAN, False, 1, optimizer, <const Settings*>&self.settings[0], dropout_seed)
        self.rate = rate
        self.steps = steps
        self.n_parameters = cnp.PyArray_SIZE(parameters)
        self.n_moments = cnp.PyArray_SIZE(moments)
        self.parameters = cnp.PyArray_DATA(parameters)
        self.moments = cnp.PyArray_DATA(moments) if self.n_moments > 0 else NULL
        self.gradient = cnp.PyArray_DATA(gradient) if cnp.PyArray_SIZE(gradient) > 0 else NULL
        self.before = cnp.PyArray_DATA(before)
        self.workspace = cnp.PyArray_DATA(workspace)

    cdef bint read_targets(self, y, real* targets):
        cdef Py_ssize_t i
        cdef double total = 0
        self.objective.labels = NULL
        self.objective.targets = targets
        if self.n_outputs == 1 and isinstance(y, REAL_NUMBERS):
            targets[0] = <real><double>y
            if not finite(targets, 1):
                return False
        elif self.cross_entropy and self.n_outputs > 1 and isinstance(y, INTEGERS):
            if not 0 <= y < self.n_outputs:
                return False
            self.label = y
            self.objective.labels = &self.label
            self.objective.targets = NULL
            return True
        elif not read_row(y, self.n_outputs, targets):
            return False
        for i in range(self.n_outputs):
            if not self.low <= targets[i] <= self.high:
                return False
            total += targets[i]
        # Rows that do not sum to 1 are for the caller to refuse, or to let pass.
        return not self.cross_entropy or abs(total - 1) < 1e-6

    def __call__(self, x, y):
        """Learn from a row of floats; returns its loss from before, or None where they are no floats."""
        if self.dtype == cnp.NPY_FLOAT32:
            if not (read_row(x, self.network.layers[0].n_inputs, <float*>self.x)
                    and self.read_targets(y, <float*>self.targets)):
                return None
        elif not (read_row(x, self.network.layers[0].n_inputs, <double*>self.x)
                  and self.read_targets(y, <double*>self.targets)):
            return None
        return self.learn()

    def learn_from(self, x, targets, labels):
        """Learn from arrays of one row, as those of `train`."""
        self.objective.x = cnp.PyArray_DATA(x)
        self.objective.targets = cnp.PyArray_DATA(targets) if len(targets) > 0 else NULL
        self.objective.labels = <intp_t*>cnp.PyArray_DATA(labels) if len(labels) > 0 else NULL
        try:
            return self.learn()
        finally:
            self.objective.x = self.x

    cdef double learn(self) except? -1:
        cdef double total
        if not cnp.PyArray_ISWRITEABLE(self.arrays[0]):
            raise ValueError("the network's parameters must be writable to learn, got a read-only array")
        if work_of(&self.network, 1) < LONG_WORK:
            return self.learn_nogil()
        with nogil:
            total = self.learn_nogil()
        return total

    cdef double learn_nogil(self) except? -1 nogil:
        if self.dtype == cnp.NPY_FLOAT32:
            return learn_row[float](
                &self.network, &self.objective, &self.course, self.rate,
                &self.steps[0], self.n_parameters, <float*>self.parameters, <float*>self.gradient,
                self.n_moments, <float*>self.moments, <float*>self.before, <float*>self.workspace)
        return learn_row[double](
            &self.network, &self.objective, &self.course, self.rate,
            &self.steps[0], self.n_parameters, <double*>self.parameters, <double*>self.gradient,
            self.n_moments, <double*>self.moments, <double*>self.before, <double*>self.workspace)
