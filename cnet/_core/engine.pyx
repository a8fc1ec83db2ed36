"""The compiled engine: forward pass, loss and gradient, whole epochs, single rows.

A network is passed as a table of operations (`OPERATION` is the dtype of its rows) over flat arrays. Every array is
checked against the table once per call. Nothing is allocated. The GIL is released, except for checks of pending
signals every 50 ms, for single rows, and for Python functions.
"""

cimport numpy as cnp
import numpy as np
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.math cimport NAN, isfinite
from libc.stdint cimport uint64_t
from libc.string cimport memcpy, memset
from numpy cimport intp_t

from cnet._core.activations cimport activation_codes
from cnet._core.checks cimport (
    data_of, described, indices_are_below, length_of, optional_data_of, read_examples, record_of)
from cnet._core.graph cimport Block, Graph, Op, at, work_of
from cnet._core.losses cimport CROSS_ENTROPY, IN_PYTHON, loss_codes
from cnet._core.ops cimport forward_block, is_narrow, operation_kinds
from cnet._core.optimizers cimport OptimizerSettings, moments_of, optimizer_codes
from cnet._core.random cimport bitgen_t, permute
from cnet._core.regularization cimport penalties
from cnet._core.scalar cimport real
from cnet._core.signals cimport Watch, look_for_signals, start_watch
from cnet._core.step cimport (
    MEAN, SUM, WEIGHTED_MEAN, Batch, Examples, Job, Objective, all_finite as values_are_finite,
    job_is_finite, pass_batch, prepare_job, read_outputs, reduce_function, run_epoch, step,
    write_output_gradient)
from cnet._core.table cimport plan_operations
from cnet._core.team cimport TEAM_MOST_THREADS, team_enter, team_leave

cnp.import_array()

ACTIVATIONS = activation_codes()
LOSSES = loss_codes()
OPERATIONS = operation_kinds()
OPTIMIZERS = optimizer_codes()
REDUCTIONS = {"sum": SUM, "mean": MEAN, "weighted_mean": WEIGHTED_MEAN}
MOST_THREADS = TEAM_MOST_THREADS


cdef object dtype_of_operations():
    cdef Op op
    return np.asarray(<Op[:1]>&op).dtype


cdef object dtype_of_objectives():
    cdef Objective objective
    return np.asarray(<Objective[:1]>&objective).dtype


cdef object dtype_of_optimizers():
    cdef OptimizerSettings settings
    return np.asarray(<OptimizerSettings[:1]>&settings).dtype


# dtypes of the records that describe an operation, the loss that is minimised, and the optimizer.
OPERATION = dtype_of_operations()
OBJECTIVE = dtype_of_objectives()
OPTIMIZER = dtype_of_optimizers()

cdef int forward_rows(
    const Graph* graph,
    Py_ssize_t n,
    const real* x,  # IN
    real* outputs,  # OUT
    bint check,
    Watch* watch,
) except -1 nogil:
    """Outputs of the last operation; returns 1 or, with `check`, 0 if x is not finite."""
    cdef Py_ssize_t first = 0, B, I = graph.n_inputs, O = graph.n_outputs
    cdef Block block = Block(0, 0, 1, 0, NULL)
    while first < n:
        B = min(graph.block, n - first)
        # Checked block by block, so that the rows are in cache for the first operation.
        if check and not values_are_finite(B * I, x + first * I):
            return 0
        block.n_rows = B
        block.x = x + first * I
        memcpy(outputs + first * O, forward_block(graph, &block, x), B * O * sizeof(real))
        look_for_signals(watch, work_of(graph, B))
        first += B
    return 1


cdef class Network:
    """A table of operations over arrays.

    Parameters
    ----------
    operations : ndarray of shape (n_operations,), OPERATION
        Copied.
    parameters, buffers : ndarray of float32 or float64
    workspace : ndarray
        At least as many elements as `measure` returns.
    layout : tuple of int
        Rows that the workspace has room for, rows that pass through the operations together, and threads.
    training : bool
        Whether outputs are dropped, and batch normalisation uses the statistics of the batch.

    Raises
    ------
    ValueError
        If the arrays do not fit the table.
    """

    cdef Graph graph
    cdef tuple arrays
    cdef int dtype

    def __cinit__(self, operations, parameters, buffers, workspace, tuple layout, bint training):
        cdef Graph* graph = &self.graph
        if type(parameters) is not np.ndarray or parameters.dtype not in ("float32", "float64"):
            raise ValueError(
                f"parameters must be an array of float32 or float64, got {described(parameters)}")
        self.dtype = cnp.PyArray_TYPE(parameters)
        graph.n_parameters = length_of(parameters)
        graph.n_buffers = length_of(buffers)
        # Read-only parameters are enough for predictions.
        graph.parameters = data_of("parameters", parameters, self.dtype, graph.n_parameters, -1)
        # Training changes the running statistics, even in a forward pass.
        graph.buffers = data_of("buffers", buffers, self.dtype, graph.n_buffers, -1, training)
        table = plan_operations(graph, operations, layout, training, self.dtype, OPERATION)
        self.arrays = (table, parameters, buffers, workspace)
        if length_of(workspace) < graph.size:
            raise ValueError(
                f"workspace must have {graph.size} elements or more, got {len(workspace)}")
        graph.workspace = data_of("workspace", workspace, self.dtype, len(workspace), -1, True)

    @property
    def n_inputs(self):
        return self.graph.n_inputs

    @property
    def n_outputs(self):
        return self.graph.n_outputs

    @property
    def block(self):
        """Rows that pass through the operations together."""
        return self.graph.block

    @property
    def needs_whole_batch(self):
        """Whether an operation computes statistics over the rows of a batch."""
        return bool(self.graph.needs_whole_batch)

    def penalty(self):
        """Return the sum of the l1 and l2 penalties."""
        if self.dtype == cnp.NPY_FLOAT32:
            return penalties[float](&self.graph, <float*>self.graph.workspace)
        return penalties[double](&self.graph, <double*>self.graph.workspace)

    def forward(self, x, outputs, bint check=False):
        """Compute the outputs of the last operation for every row of x; with `check`, return False if x is not finite."""
        cdef Py_ssize_t n = length_of(x)
        cdef const void* x_data = data_of("x", x, self.dtype, n, self.graph.n_inputs)
        cdef void* y = data_of("outputs", outputs, self.dtype, n, self.graph.n_outputs, True)
        cdef Watch watch = start_watch()
        cdef bint finite
        team_enter()
        try:
            with nogil:
                if self.dtype == cnp.NPY_FLOAT32:
                    finite = forward_rows[float](
                        &self.graph, n, <const float*>x_data, <float*>y, check, &watch)
                else:
                    finite = forward_rows[double](
                        &self.graph, n, <const double*>x_data, <double*>y, check, &watch)
        finally:
            team_leave()
        return finite


def measure(operations, tuple layout, bint training, dtype):
    """Return the number of workspace elements that `Network` needs, and the cost of a row in multiplications."""
    cdef Graph graph
    graph.n_parameters = graph.n_buffers = (<size_t>-1) >> 1  # there are no arrays yet
    plan_operations(&graph, operations, layout, training, np.dtype(dtype).num, OPERATION)
    return graph.size, graph.row_work


# Training

cdef int call_loss(void* evaluation, Batch* batch) except -1 with gil:
    return (<Evaluation>evaluation).compute_loss(batch)


cdef class Evaluation:
    """Examples for a network, and a loss on them.

    Parameters
    ----------
    network : Network
    examples : tuple (x, targets, labels, sample_weight)
        Those that are not given are arrays without rows.
    objective : OBJECTIVE
        A record.
    loss_function : callable or None
        ``loss_function(y_true, y_pred) -> (value, gradient)``, for the loss "in_python".

    Raises
    ------
    ValueError
        If the arrays do not fit each other or the network.
    """

    cdef Job job
    cdef Network network
    cdef tuple examples
    cdef object loss_function
    cdef int dtype

    def __cinit__(self, Network network, tuple examples, objective, loss_function, *others):
        cdef Job* job = &self.job
        memset(job, 0, sizeof(Job))
        self.network = network
        self.dtype = network.dtype
        self.examples = examples
        self.loss_function = loss_function
        job.graph = network.graph
        memcpy(
            &job.objective, record_of("objective", objective, OBJECTIVE), sizeof(Objective))
        read_examples(&job.examples, examples, &job.graph, self.dtype)
        if not 0 <= job.objective.loss <= IN_PYTHON:
            raise ValueError(f"there is no loss {job.objective.loss}")
        if (job.objective.loss == IN_PYTHON) != (loss_function is not None):
            raise ValueError("loss_function must be given for the loss 'in_python', and only for it")
        if job.examples.labels != NULL and job.objective.loss != CROSS_ENTROPY:
            raise ValueError("labels must be given for the loss 'cross_entropy' only")
        if job.examples.labels == NULL and job.examples.targets == NULL:
            raise ValueError("there must be targets or labels")
        job.context = <void*>self
        if loss_function is not None:
            job.call_loss = call_loss
        self.prepare()

    def __reduce__(self):
        raise TypeError(f"{type(self).__name__} cannot be pickled or copied")

    cdef int prepare(self) except -1:
        if self.dtype == cnp.NPY_FLOAT32:
            prepare_job[float](&self.job, NULL)
        else:
            prepare_job[double](&self.job, NULL)
        return 0

    cdef int need_room_for(self, Py_ssize_t n) except -1:
        """Raise ValueError if n rows are needed at once, and the workspace has no room for them."""
        cdef Graph* graph = &self.job.graph
        if self.job.objective.loss == IN_PYTHON and graph.capacity < n:
            raise ValueError(f"the workspace must have room for {n} rows")
        if graph.needs_whole_batch and graph.block < n:
            raise ValueError(f"the layout must have blocks of {n} rows")
        return 0

    cdef int compute_loss(self, Batch* batch) except -1:
        """Compute the loss in Python of a batch after its forward pass."""
        cdef Graph* graph = &self.job.graph
        cdef Py_ssize_t n = batch.n, O = graph.n_outputs
        cdef const void* d
        y_pred = np.empty((n, O), np.float32 if self.dtype == cnp.NPY_FLOAT32 else np.float64)
        if batch.rows == NULL:
            rows = slice(batch.first, batch.first + n)
        else:
            rows = np.empty(n, np.intp)
            memcpy(cnp.PyArray_DATA(rows), batch.rows, n * sizeof(intp_t))
        y_true = self.examples[1][rows]
        if batch.rows == NULL:
            y_true = y_true.copy()
        if self.dtype == cnp.NPY_FLOAT32:
            read_outputs[float](graph, n, <float*>cnp.PyArray_DATA(y_pred))
        else:
            read_outputs[double](graph, n, <double*>cnp.PyArray_DATA(y_pred))
        if self.job.all_outputs != NULL:
            memcpy(self.job.all_outputs, cnp.PyArray_DATA(y_pred), cnp.PyArray_NBYTES(y_pred))
        batch.total, gradient = self.loss_function(y_true, y_pred)
        d = data_of("gradient", gradient, self.dtype, n, O)
        if self.dtype == cnp.NPY_FLOAT32:
            write_output_gradient[float](graph, n, <const float*>d)
        else:
            write_output_gradient[double](graph, n, <const double*>d)
        return 0

    def evaluate(self, double divisor, outputs, gradient, input_gradient):
        """Return the sum of the rows' losses divided by `divisor`, plus penalties; fill the arrays that have elements."""
        cdef Job* job = &self.job
        cdef Py_ssize_t n = job.examples.n
        cdef bint backward = length_of(gradient) > 0
        cdef Watch watch = start_watch()
        if job.is_training:
            raise TypeError("a run cannot be evaluated")
        self.need_room_for(n)
        job.descent.gradient = <void*>optional_data_of(
            "gradient", gradient, self.dtype, job.graph.n_parameters, -1, True)
        job.all_outputs = <void*>optional_data_of(
            "outputs", outputs, self.dtype, n, job.graph.n_outputs, True)
        job.input_gradient = <void*>optional_data_of(
            "input_gradient", input_gradient, self.dtype, n, job.graph.n_inputs, True)
        job.descent.penalty_scale = 1 / divisor if job.objective.divide_penalties else 1
        job.batch = Batch(NULL, 0, n, divisor, 1, 1, 0, 0)
        job.watch = &watch
        team_enter()
        try:
            with nogil:
                if self.dtype == cnp.NPY_FLOAT32:
                    pass_batch[float](job, backward, <float*>job.graph.workspace)
                else:
                    pass_batch[double](job, backward, <double*>job.graph.workspace)
        finally:
            team_leave()
            job.watch = NULL
        if job.objective.loss != IN_PYTHON:
            job.batch.total *= 1 / divisor
        return job.batch.total + job.descent.penalty_scale * self.network.penalty()


cdef class Run(Evaluation):
    """A training run of a network.

    Parameters
    ----------
    network, examples, objective, loss_function
        As in `Evaluation`.
    optimizer : OPTIMIZER
        A record.
    state : tuple (moments, n_steps)
        Arrays of shape (n_moments, n_parameters), and (1,) for the number of steps of the optimizer so far.
    scratch : tuple (gradient, finished)
        `gradient` has no elements if every batch is one block and nothing needs the gradient as a whole.
        `finished` has as many elements as parameters and buffers, and stores their values after each epoch.
    batch_size : int

    Raises
    ------
    ValueError
        If the arrays do not fit each other or the network.
    """

    cdef tuple state
    cdef object watcher
    cdef void* finished

    def __cinit__(
        self, Network network, tuple examples, objective, loss_function,
        optimizer, tuple state, tuple scratch, Py_ssize_t batch_size,
    ):
        cdef Job* job = &self.job
        cdef Graph* graph = &job.graph
        cdef Py_ssize_t n_moments, largest_batch
        moments, n_steps = state
        gradient, finished = scratch
        self.state = (state, scratch)
        memcpy(&job.optimizer, record_of("optimizer", optimizer, OPTIMIZER), sizeof(OptimizerSettings))
        if not 0 <= job.optimizer.code < len(OPTIMIZERS):
            raise ValueError(f"there is no optimizer {job.optimizer.code}")
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        n_moments = moments_of(&job.optimizer)
        largest_batch = min(batch_size, job.examples.n)
        job.is_training = True
        job.batch_size = batch_size
        data_of("parameters", network.arrays[1], self.dtype, graph.n_parameters, -1, True)
        data_of("buffers", network.arrays[2], self.dtype, graph.n_buffers, -1, True)
        job.n_moments = n_moments * graph.n_parameters
        job.update.moments = data_of(
            "moments", moments, self.dtype, n_moments, graph.n_parameters, True)
        job.n_steps = <intp_t*>data_of("n_steps", n_steps, cnp.NPY_INTP, 1, -1, True)
        job.descent.gradient = <void*>optional_data_of(
            "gradient", gradient, self.dtype, graph.n_parameters, -1, True)
        self.finished = data_of(
            "finished", finished, self.dtype, graph.n_parameters + graph.n_buffers, -1, True)
        self.need_room_for(largest_batch)
        if job.descent.gradient == NULL:
            if graph.n_parameters > 0 and (
                    job.optimizer.clip_norm > 0 or largest_batch > graph.block):
                raise ValueError("gradient must have as many elements as there are parameters")
        else:
            # Nothing is written to the gradient of parameters that are not trained.
            memset(job.descent.gradient, 0, cnp.PyArray_NBYTES(gradient))
        if self.dtype == cnp.NPY_FLOAT32:
            graph.transposed = is_narrow[float](graph, batch_size, NULL)
        else:
            graph.transposed = is_narrow[double](graph, batch_size, NULL)
        self.prepare()

    @property
    def transposed(self):
        """Whether outputs are stored neuron by neuron, as in narrow networks."""
        return bool(self.job.graph.transposed)

    @property
    def stopped(self):
        """Whether `reduce` has stopped the training."""
        return bool(self.job.stopped)

    def set_reduce(self, function, context):
        """Set a C function that reduces the gradient of each step (`reduce_function` in step.pxd).

        Parameters
        ----------
        function, context : int
            Addresses; 0: none.

        Raises
        ------
        ValueError
            If there is no room for the gradient of all parameters.
        """
        if function and self.job.descent.gradient == NULL:
            raise ValueError("gradient must have as many elements as there are parameters")
        self.job.reduce = <reduce_function><size_t>function
        self.job.reduce_context = <void*><size_t>context

    cdef int keep(self) noexcept nogil:
        """Copy parameters and buffers."""
        cdef Graph* graph = &self.job.graph
        cdef size_t size = sizeof(float) if self.dtype == cnp.NPY_FLOAT32 else sizeof(double)
        memcpy(self.finished, graph.parameters, graph.n_parameters * size)
        memcpy(<char*>self.finished + graph.n_parameters * size, graph.buffers, graph.n_buffers * size)
        return 0

    cdef int put_back(self) noexcept nogil:
        """Set parameters and buffers to their copies."""
        cdef Graph* graph = &self.job.graph
        cdef size_t size = sizeof(float) if self.dtype == cnp.NPY_FLOAT32 else sizeof(double)
        memcpy(graph.parameters, self.finished, graph.n_parameters * size)
        memcpy(graph.buffers, <char*>self.finished + graph.n_parameters * size, graph.n_buffers * size)
        return 0

    def epochs(self, order, dropout_seeds, rates, double[::1] totals, watcher=None):
        """Train for ``len(totals)`` epochs, and return how many of them stayed finite.

        Afterwards, parameters and buffers are those of the last finished epoch, even if an exception is raised.

        Parameters
        ----------
        order : ndarray of shape (n_epochs, n), intp
            Indices of the rows of each epoch; an array without rows means all rows in order.
        dropout_seeds : ndarray of shape (n_epochs,), uint64
            Above 0; an array without elements means no dropout.
        rates : ndarray of shape (n_epochs * n_steps,) or (1,), float64
            Learning rate of each step, or of all steps.
        totals : ndarray of shape (n_epochs,), float64
            Filled with the totals that `run_epoch` returns.
        watcher : object, optional
            Its ``before(batch)`` and ``after(batch, total, n_rows)`` are called for each batch.
        """
        cdef Job* job = &self.job
        cdef Watch watch = start_watch()
        cdef Py_ssize_t epoch = 0, n_epochs = totals.shape[0], n = job.examples.n, n_steps
        cdef Py_ssize_t rates_stride = 0
        cdef const intp_t* rows = NULL
        cdef const uint64_t* seeds
        cdef const double* rates_data
        cdef bint complete = True
        if length_of(order) > 0:
            n = order.shape[1]
            rows = <const intp_t*>data_of("order", order, cnp.NPY_INTP, n_epochs, n)
            if n > job.examples.n:
                raise ValueError(f"order must have at most {job.examples.n} rows in an epoch, got {n}")
            if not indices_are_below(job.examples.n, n_epochs * n, rows):
                raise ValueError(f"order must have indices of {job.examples.n} rows")
        n_steps = (n + job.batch_size - 1) // job.batch_size
        seeds = <const uint64_t*>optional_data_of(
            "dropout_seeds", dropout_seeds, cnp.NPY_UINT64, n_epochs, -1)
        if length_of(rates) > 1:
            rates_stride = 1
        rates_data = <const double*>data_of(
            "rates", rates, cnp.NPY_DOUBLE, n_epochs * n_steps if rates_stride else 1, -1)
        self.watcher = watcher
        if watcher is not None:
            job.before_batch = before_batch
            job.after_batch = after_batch
        job.watch = &watch
        team_enter()
        try:
            with nogil:
                while epoch < n_epochs:
                    complete = False
                    self.keep()
                    job.dropout_seed = seeds[epoch] if seeds != NULL else 0
                    totals[epoch] = self.run(
                        rows + epoch * n if rows != NULL else NULL, n,
                        rates_data + rates_stride * epoch * n_steps, rates_stride)
                    if not (isfinite(totals[epoch]) and self.is_finite()):
                        break
                    complete = True
                    epoch += 1
        finally:
            team_leave()
            job.watch = NULL
            job.before_batch = job.after_batch = NULL
            self.watcher = None
            if not complete:
                self.put_back()
        return epoch

    cdef double run(
        self, const intp_t* order, Py_ssize_t n, const double* rates, Py_ssize_t rates_stride
    ) except? -1 nogil:
        cdef void* parameters = self.job.graph.parameters
        if self.dtype == cnp.NPY_FLOAT32:
            return run_epoch[float](&self.job, order, n, rates, rates_stride, <float*>parameters)
        return run_epoch[double](&self.job, order, n, rates, rates_stride, <double*>parameters)

    cdef bint is_finite(self) noexcept nogil:
        """Whether all values are finite. Moments count, because Adam never moves a weight with an infinite one."""
        if self.dtype == cnp.NPY_FLOAT32:
            return job_is_finite[float](&self.job, <float*>self.job.graph.parameters)
        return job_is_finite[double](&self.job, <double*>self.job.graph.parameters)


cdef int before_batch(void* run, Py_ssize_t batch, double total, Py_ssize_t n_rows) except -1 with gil:
    (<Run>run).watcher.before(batch)
    return 0


cdef int after_batch(void* run, Py_ssize_t batch, double total, Py_ssize_t n_rows) except -1 with gil:
    (<Run>run).watcher.after(batch, total, n_rows)
    return 0


def all_finite(values):
    """Return whether all values of a contiguous array of float32 or float64 are finite."""
    cdef int dtype = cnp.NPY_FLOAT32
    cdef Py_ssize_t n = length_of(values)
    cdef const void* data
    cdef bint result
    if cnp.PyArray_TYPE(values) == cnp.NPY_FLOAT64:
        dtype = cnp.NPY_FLOAT64
    data = data_of("values", values, dtype, n, -1)
    with nogil:
        if dtype == cnp.NPY_FLOAT32:
            result = values_are_finite(n, <const float*>data)
        else:
            result = values_are_finite(n, <const double*>data)
    return result


def shuffle(bit_generator, intp_t[:, ::1] order):
    """Fill each row of `order` with a random permutation of its indices, from a NumPy bit generator."""
    cdef bitgen_t* random = <bitgen_t*>PyCapsule_GetPointer(bit_generator.capsule, "BitGenerator")
    cdef Py_ssize_t epoch
    with bit_generator.lock, nogil:
        for epoch in range(order.shape[0]):
            permute(random, order.shape[1], &order[epoch, 0])


include "single_rows.pxi"
