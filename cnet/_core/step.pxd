"""One step of training: forward → loss → backward → reduce → update → constrain.

`train`, `train_one`, callbacks for batches and losses in Python all take this step.
"""

from libc.math cimport NAN, isfinite
from libc.stdint cimport uint64_t
from libc.string cimport memcpy
from numpy cimport intp_t

from cnet._core.activations cimport differentiate
from cnet._core.dropout cimport dropout_key
from cnet._core.gather cimport gather, gather_transposed
from cnet._core.graph cimport (
    Block, Graph, Op, at, elements, inputs_of, outputs_of, place, row_stride_of, work_of)
from cnet._core.losses cimport IN_PYTHON, Outputs, clear_padding, loss_and_delta
from cnet._core.ops cimport ACTIVATION, backward_block, column_stride_of, forward_block
from cnet._core.optimizers cimport (
    Descent, OptimizerSettings, Step, is_plain_descent, prepare_update, update_all)
from cnet._core.regularization cimport apply_max_norm, penalties
from cnet._core.scalar cimport real
from cnet._core.signals cimport Watch, look_for_signals


# How the losses of a batch's rows are combined.
cdef enum Reduction:
    SUM
    MEAN
    WEIGHTED_MEAN


# What is minimised.
cdef struct Objective:
    intp_t loss
    double setting
    intp_t reduction
    intp_t divide_penalties  # divide penalties by the divisor of the sum over the rows
    double recorded_scale  # factor of the rows' losses in the total, but not in the gradient


# Rows to learn from.
cdef struct Examples:
    Py_ssize_t n
    const void* x
    const void* targets  # or NULL
    const intp_t* labels  # or NULL
    const void* sample_weight  # or NULL


# The contribution of one process to a step that several processes make together.
cdef struct Contribution:
    void* gradient  # INOUT, of the reduced loss
    Py_ssize_t n_parameters
    Py_ssize_t item_size
    double n_rows
    double weight  # sum of the rows' weights
    double loss  # what the rows add to the epoch's total; if it is not finite, there is no gradient


# The rows of one step.
cdef struct Batch:
    const intp_t* rows  # indices into the examples, or NULL: from `first` on
    Py_ssize_t first
    Py_ssize_t n
    double divisor  # of the sum over the rows
    double share  # factor of the sum over the rows in the epoch's total
    double counted  # factor of the penalty, and of a loss in Python, in the epoch's total
    double penalty
    double total


# Replaces the gradient by the gradient of all processes. Returns 0 to continue, or 1 to stop all of them.
ctypedef int (*reduce_function)(void* context, Contribution* contribution) noexcept nogil

# Stores the value of a loss in Python in the total of a batch, and its gradient at `output_gradient`.
ctypedef int (*loss_function)(void* context, Batch* batch) except -1 nogil

# Called before a batch with NAN as value, and after it with what the batch adds to the epoch's total.
ctypedef int (*batch_function)(
    void* context, Py_ssize_t batch, double value, Py_ssize_t n_rows) except -1 nogil


# A run of training, or an evaluation.
cdef struct Job:
    Graph graph
    Examples examples
    Objective objective
    OptimizerSettings optimizer
    bint is_training  # whether steps are made
    Py_ssize_t batch_size
    intp_t* n_steps  # number of steps that the optimizer has made
    Py_ssize_t n_moments  # elements of the optimizer's moments
    double learning_rate
    uint64_t dropout_seed  # 0: nothing is dropped
    Watch* watch  # or NULL: there are no checks for Ctrl-C
    # The current step.
    Batch batch
    Outputs outputs
    Step update
    Descent descent
    # Results of an evaluation, or NULL; NULL in training.
    void* all_outputs
    void* input_gradient
    # Functions to call, or NULL. `reduce` gets `reduce_context`, and the others get `context`.
    void* context
    loss_function call_loss
    batch_function before_batch
    batch_function after_batch
    reduce_function reduce
    void* reduce_context
    bint stopped  # by `reduce`


cdef inline void prepare_job(Job* job, const real* like) noexcept nogil:
    """Set the fields that do not change from step to step; `gradient` and `moments` must be set before."""
    cdef const Graph* graph = &job.graph
    job.outputs.activation = graph.output_activation
    job.outputs.n_outputs = graph.n_outputs
    job.outputs.labels = job.examples.labels
    job.outputs.sample_weight = job.examples.sample_weight
    job.outputs.values = at(graph, graph.second_delta, like)
    job.outputs.delta = at(graph, graph.delta, like)
    job.outputs.label_out_of_range = False
    job.update.settings = &job.optimizer
    job.update.n = graph.n_parameters
    job.update.parameters = graph.parameters
    job.update.is_plain_descent = is_plain_descent(&job.optimizer)
    job.descent.step = &job.update if job.is_training and job.descent.gradient == NULL else NULL
    job.descent.penalty_scale = 1


cdef inline bint all_finite(Py_ssize_t n, const real* values) noexcept nogil:
    """Whether no value is NaN or infinite: only finite numbers give 0 if subtracted from themselves."""
    cdef Py_ssize_t i
    cdef int found = 0  # an integer, so that the compiler may reorder the operations and vectorise
    for i in range(n):
        found |= values[i] - values[i] != 0
    return found == 0


cdef inline bint job_is_finite(const Job* job, const real* parameters) noexcept nogil:
    """Whether parameters, buffers and the optimizer's moments are finite."""
    return (
        all_finite(job.graph.n_parameters, parameters)
        and all_finite(job.graph.n_buffers, <const real*>job.graph.buffers)
        and all_finite(job.n_moments, <const real*>job.update.moments))


cdef inline int raise_label_out_of_range() except -1 nogil:
    with gil:
        raise ValueError("y must have labels below the number of outputs; it changed while it was read")


cdef inline double sum_of_weights(const Job* job, const real* like) noexcept nogil:
    """Sum of the weights of the batch's rows."""
    cdef const Batch* batch = &job.batch
    cdef const real* sample_weight = <const real*>job.examples.sample_weight
    cdef Py_ssize_t i
    cdef double total = 0
    if sample_weight == NULL:
        return batch.n
    for i in range(batch.n):
        total += sample_weight[batch.rows[i] if batch.rows != NULL else batch.first + i]
    return total


cdef inline double divisor_of(const Job* job, const real* like) noexcept nogil:
    """Divisor of the sum over the batch's rows."""
    cdef double weight
    if job.objective.reduction == SUM:
        return 1
    if (
            job.objective.reduction == MEAN or job.objective.loss == IN_PYTHON
            or job.examples.sample_weight == NULL):
        return job.batch.n
    weight = sum_of_weights(job, like)
    # If all weights are 0, so is the sum of the losses.
    return weight if weight > 0 else 1


cdef inline void take_block(
    const Job* job,
    Block* block,  # OUT
    Py_ssize_t start,  # of the block in the batch
    Py_ssize_t n,
    real* like,
) noexcept nogil:
    """Make a block of some rows of the batch, and gather their inputs."""
    cdef const Graph* graph = &job.graph
    cdef const Batch* batch = &job.batch
    cdef const real* x = <const real*>job.examples.x
    cdef const intp_t* rows = NULL
    block.n_rows = n
    block.column_stride = column_stride_of(graph, n, like)
    # A loss in Python needs the outputs of all blocks at once. Otherwise the blocks share their memory.
    block.start = start if job.objective.loss == IN_PYTHON else 0
    block.dropout_key = 0
    if job.dropout_seed != 0:
        block.dropout_key = dropout_key(job.dropout_seed, job.n_steps[0], start)
    if batch.rows == NULL:
        x += (batch.first + start) * graph.n_inputs
    else:
        rows = batch.rows + start
    block.x = gather[real](
        n, graph.n_inputs, block.column_stride, x, rows,
        at(graph, graph.gathered_inputs, like) + place(block, graph.n_inputs), graph.threads)


cdef inline void find_outputs(Job* job, const Block* block, const real* like) noexcept nogil:
    """Outputs of a block."""
    cdef const Graph* graph = &job.graph
    cdef const Op* top = &graph.ops[graph.top]
    job.outputs.n_rows = block.n_rows
    job.outputs.column_stride = block.column_stride
    job.outputs.a = outputs_of(graph, top, block, like)
    job.outputs.z = inputs_of(graph, top, block, like) if top.kind == ACTIVATION else job.outputs.a


cdef inline double loss_of_block(
    Job* job,
    const Block* block,
    Py_ssize_t start,  # of the block in the batch
    real* like,
) except? -1 nogil:
    """Loss of a block after its forward pass, and its first delta; returns the weighted sum over the rows."""
    cdef const Graph* graph = &job.graph
    cdef Outputs* outputs = &job.outputs
    cdef double total
    cdef const real* targets = <const real*>job.examples.targets
    find_outputs(job, block, like)
    outputs.scale = 1 / job.batch.divisor
    outputs.first = job.batch.first + start
    outputs.rows = NULL
    if job.batch.rows != NULL:
        outputs.rows = job.batch.rows + start
    if targets != NULL:
        if outputs.rows == NULL:
            targets += outputs.first * graph.n_outputs
        targets = gather[real](
            block.n_rows, graph.n_outputs, block.column_stride, targets, outputs.rows,
            at(graph, graph.gathered_targets, like), graph.threads)
    outputs.targets = targets
    total = loss_and_delta[real](
        job.objective.loss, <real>job.objective.setting, outputs, like)
    if outputs.label_out_of_range:
        outputs.label_out_of_range = False
        raise_label_out_of_range()
    return total


# A loss in Python: the forward pass of the whole batch comes first, so every block has its own memory.

cdef inline Block block_at(
    const Graph* graph, Py_ssize_t n, Py_ssize_t start, const real* like
) noexcept nogil:
    """The block of a batch of n rows that starts at row `start`."""
    cdef Py_ssize_t B = min(graph.block, n - start)
    return Block(start, B, column_stride_of(graph, B, like), 0, NULL)


cdef inline void read_outputs(const Graph* graph, Py_ssize_t n, real* outputs_BO) noexcept nogil:
    """Outputs of a whole batch, row by row."""
    cdef Py_ssize_t start = 0, i, j, column, O = graph.n_outputs
    cdef Block block
    cdef const real* a
    while start < n:
        block = block_at(graph, n, start, outputs_BO)
        a = outputs_of(graph, &graph.ops[graph.n_ops - 1], &block, outputs_BO)
        column = block.column_stride
        for i in range(block.n_rows):
            for j in range(O):
                outputs_BO[(start + i) * O + j] = a[i * row_stride_of(O, column) + j * column]
        start += graph.block


cdef inline real* output_gradient(const Graph* graph, const Block* block, real* like) noexcept nogil:
    """Gradient with respect to a block's outputs, in their layout."""
    return at(graph, graph.gathered_targets, like) + place(block, graph.n_outputs)


cdef inline void write_output_gradient(
    const Graph* graph, Py_ssize_t n, const real* gradient_BO
) noexcept nogil:
    """Copy the gradient with respect to the outputs of a whole batch into the layout of its blocks."""
    cdef Py_ssize_t start = 0, O = graph.n_outputs
    cdef Block block
    cdef real* to
    while start < n:
        block = block_at(graph, n, start, gradient_BO)
        to = output_gradient(graph, &block, <real*>gradient_BO)
        if block.column_stride > 1:
            gather_transposed(
                block.n_rows, O, block.column_stride, gradient_BO + start * O, NULL, to)
        else:
            memcpy(to, gradient_BO + start * O, block.n_rows * O * sizeof(real))
        start += graph.block


cdef inline void take_output_gradient(Job* job, const Block* block, real* like) noexcept nogil:
    """A block's first delta, from the gradient with respect to its outputs."""
    cdef const Graph* graph = &job.graph
    cdef real* delta = <real*>job.outputs.delta
    find_outputs(job, block, like)
    memcpy(
        delta, output_gradient(graph, block, like),
        elements(block.n_rows, graph.n_outputs, block.column_stride) * sizeof(real))
    clear_padding(&job.outputs, delta)
    differentiate(
        graph.output_activation, block.n_rows, graph.n_outputs, block.column_stride,
        <const real*>job.outputs.z, <const real*>job.outputs.a, delta)


cdef inline int loss_in_python(Job* job, real* like) except -1 nogil:
    """Forward pass of a whole batch; its loss is stored in the batch's total."""
    cdef Batch* batch = &job.batch
    cdef Py_ssize_t start = 0, B
    cdef Block block
    while start < batch.n:
        B = min(job.graph.block, batch.n - start)
        take_block(job, &block, start, B, like)
        forward_block(&job.graph, &block, like)
        look_for_signals(job.watch, work_of(&job.graph, B))
        start += B
    job.call_loss(job.context, batch)
    batch.total = (batch.total + batch.penalty) * batch.counted
    return 0


# The step

cdef inline bint goes_on(const Job* job) noexcept nogil:
    """Whether to compute the gradient. Training skips it if the loss is not finite."""
    return isfinite(job.batch.total) or not job.is_training


cdef inline int pass_batch(Job* job, bint backward, real* like) except -1 nogil:
    """Forward pass of the batch, its loss and, with `backward`, its gradients."""
    cdef const Graph* graph = &job.graph
    cdef Batch* batch = &job.batch
    cdef Py_ssize_t start = 0, B, I = graph.n_inputs, O = graph.n_outputs
    cdef Block block
    cdef const real* outputs
    cdef real* dx = NULL
    cdef bint in_python = job.objective.loss == IN_PYTHON
    batch.total = batch.penalty * batch.counted
    if in_python:
        loss_in_python[real](job, like)
    while start < batch.n and goes_on(job):
        B = min(graph.block, batch.n - start)
        take_block[real](job, &block, start, B, like)
        if in_python:
            take_output_gradient[real](job, &block, like)
        else:
            outputs = forward_block[real](graph, &block, like)
            batch.total += batch.share * loss_of_block[real](job, &block, start, like)
            if job.all_outputs != NULL:
                memcpy(<real*>job.all_outputs + start * O, outputs, B * O * sizeof(real))
            if not goes_on(job):
                break
        if job.input_gradient != NULL:
            dx = <real*>job.input_gradient + start * I
        job.descent.accumulate = start > 0
        if backward or dx != NULL:
            backward_block[real](graph, &block, &job.descent if backward else NULL, dx, like)
        look_for_signals(job.watch, work_of(graph, B))
        start += B
    return 0


cdef inline bint reduce_gradient(Job* job, const real* like) noexcept nogil:
    """Let other processes add their gradients; returns whether to continue."""
    cdef Contribution contribution
    if job.reduce == NULL:
        return True
    contribution = Contribution(
        job.descent.gradient, job.graph.n_parameters, sizeof(real), job.batch.n,
        sum_of_weights(job, like), job.batch.total)
    job.stopped = job.reduce(job.reduce_context, &contribution) != 0
    return not job.stopped


cdef inline double step(
    Job* job,
    const intp_t* rows,  # indices into the examples, or NULL: from `first` on
    Py_ssize_t first,
    Py_ssize_t n,
    real* parameters,
) except? -1 nogil:
    """One step by a batch of n rows.

    Returns what the batch adds to the epoch's total, computed before the update: n times its loss, or its loss
    if losses are summed. If this is not finite, nothing is updated.
    """
    cdef Graph* graph = &job.graph
    cdef Batch* batch = &job.batch
    batch.rows = rows
    batch.first = first
    batch.n = n
    batch.divisor = divisor_of(job, parameters)
    batch.counted = 1 if job.objective.reduction == SUM else n
    # With a plain mean, the rows' losses are added unchanged.
    batch.share = job.objective.recorded_scale
    if job.objective.reduction == WEIGHTED_MEAN:
        batch.share *= n / batch.divisor
    if job.objective.divide_penalties:
        job.descent.penalty_scale = 1 / batch.divisor
    batch.penalty = 0
    if graph.penalized:
        batch.penalty = job.descent.penalty_scale * penalties(graph, parameters)
    prepare_update(&job.update, job.learning_rate, job.n_steps[0] + 1)
    pass_batch(job, True, parameters)
    if not reduce_gradient(job, parameters):
        return NAN
    if not isfinite(batch.total):
        return batch.total
    if job.descent.gradient != NULL:
        update_all(graph, &job.update, <real*>job.descent.gradient)
    if graph.constrained:
        apply_max_norm(graph, at(graph, graph.delta, parameters))
    job.n_steps[0] += 1
    return batch.total


cdef inline double run_epoch(
    Job* job,
    const intp_t* order,  # indices of the rows in training order, or NULL: unchanged
    Py_ssize_t n,
    const double* rates,  # learning rate of each step
    Py_ssize_t rates_stride,  # 0: one rate for all steps
    real* parameters,
) except? -1 nogil:
    """A step for each batch of n rows; returns their total, which is not finite if training diverges."""
    cdef Py_ssize_t start = 0, batch = 0, rows
    cdef double total = 0, value
    while start < n:
        rows = min(job.batch_size, n - start)
        job.learning_rate = rates[batch * rates_stride]
        if job.before_batch != NULL:
            job.before_batch(job.context, batch, NAN, rows)
        value = step[real](
            job, order + start if order != NULL else NULL, start, rows, parameters)
        if not isfinite(value):
            return value
        total += value
        if job.after_batch != NULL:
            # Callbacks must not see weights that have overflowed.
            if not job_is_finite(job, parameters):
                return NAN
            job.after_batch(job.context, batch, value, rows)
        batch += 1
        start += rows
    return total
