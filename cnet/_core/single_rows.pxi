# Prediction and training row by row, for callers that wait for each row. Arrays are checked once, and nothing is
# allocated. The GIL is kept unless there is much to do, so Python threads do not interfere with each other.

cdef tuple INTEGERS = (int, np.integer)
cdef tuple REAL_NUMBERS = (float, int, np.floating, np.integer)

cdef enum:
    # Multiplications that take some ten microseconds.
    LONG_WORK = 1000000


cdef bint read_row(values, Py_ssize_t n, real* row):
    """Copy an array of n floats; returns False if it is anything else, or not finite."""
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
    return values_are_finite(n, row)


cdef class Predictor:
    """Predicts with a fixed network, without allocation and with few checks.

    It is created by `NeuralNetwork.predictor`, and called with an array. NaN inputs give NaN outputs.

    Parameters
    ----------
    x : ndarray of shape (n_inputs,) or (n, n_inputs)
        C-contiguous, in the network's dtype.
    out : ndarray of shape (n_outputs,) or (n, n_outputs), optional
        Array for the outputs, also C-contiguous, which must not overlap x. By default a new array.

    Returns
    -------
    ndarray
        `out`, or the new array.

    Raises
    ------
    TypeError, ValueError
        If `x` or `out` has another dtype, shape or layout, or the arrays overlap.
    RuntimeError
        If another thread is using this predictor. Each thread needs its own.
    """

    cdef Network network
    cdef Graph* graph
    cdef double work
    cdef int dtype
    cdef bint busy

    def __cinit__(self, Network network):
        self.network = network
        self.graph = &network.graph
        self.dtype = network.dtype
        self.work = work_of(self.graph, 1)

    @property
    def parameters(self):
        """The weights and biases used for predictions, layer by layer: the predictor's own array."""
        return self.network.arrays[1]

    cdef bint is_ours(self, array, Py_ssize_t width):
        """Whether it is an array that can be read without a copy."""
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
            forward_rows[float](self.graph, n, <const float*>x, <float*>outputs, False, watch)
        else:
            forward_rows[double](self.graph, n, <const double*>x, <double*>outputs, False, watch)
        return 0

    def __call__(self, x, out=None):
        cdef Py_ssize_t n = 1
        cdef cnp.npy_intp[2] shape
        cdef const char* x_data
        cdef char* out_data
        cdef Watch watch
        if not self.is_ours(x, self.graph.n_inputs):
            raise self.complaint("x", x, self.graph.n_inputs)
        if cnp.PyArray_NDIM(x) == 2:
            n = cnp.PyArray_DIM(x, 0)
        if out is None:
            shape[0] = n
            shape[cnp.PyArray_NDIM(x) - 1] = self.graph.n_outputs
            out = cnp.PyArray_SimpleNew(cnp.PyArray_NDIM(x), shape, self.dtype)
        elif (not self.is_ours(out, self.graph.n_outputs) or not cnp.PyArray_ISWRITEABLE(out)
                or cnp.PyArray_SIZE(out) != n * self.graph.n_outputs
                or cnp.PyArray_NDIM(out) != cnp.PyArray_NDIM(x)):
            raise self.complaint("out", out, self.graph.n_outputs)
        x_data = cnp.PyArray_BYTES(x)
        out_data = cnp.PyArray_BYTES(out)
        # A single block is read completely before anything is written.
        if n > self.graph.block and (
                x_data < out_data + cnp.PyArray_NBYTES(out)
                and out_data < x_data + cnp.PyArray_NBYTES(x)):
            raise ValueError("out must not overlap x, got an array that overlaps it")
        if self.busy:
            raise RuntimeError(
                "the predictor is in use by another thread: make one for each thread, net.predictor()")
        if n * self.work < LONG_WORK:
            self.run(n, x_data, out_data, NULL)
            return out
        watch = start_watch()
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
            "a predictor cannot be pickled or copied: pickle the network, and call its predictor()")

    cdef complaint(self, name, array, width):
        expected = (
            f"{name} must be a C-contiguous {'writable ' if name == 'out' else ''}array of dtype "
            f"{self.parameters.dtype} and shape ({width},) or (n, {width})"
            f"{', for as many rows as x' if name == 'out' else ''}")
        if type(array) is not cnp.ndarray:
            return TypeError(f"{expected}, got {type(array).__name__}")
        return ValueError(f"{expected}, got {described(array)}")

    def row(self, x):
        """Return the outputs for an array of one row of floats; None for anything else, or for a large network."""
        cdef cnp.npy_intp n_outputs = self.graph.n_outputs
        cdef void* row
        if self.busy or self.work >= LONG_WORK:
            return None
        if self.dtype == cnp.NPY_FLOAT32:
            row = <float*>self.graph.workspace + self.graph.gathered_inputs
            if not read_row(x, self.graph.n_inputs, <float*>row):
                return None
        else:
            row = <double*>self.graph.workspace + self.graph.gathered_inputs
            if not read_row(x, self.graph.n_inputs, <double*>row):
                return None
        out = cnp.PyArray_SimpleNew(1, &n_outputs, self.dtype)
        self.run(1, row, cnp.PyArray_DATA(out), NULL)
        return out


cdef class Learner:
    """Makes steps of a run, each on one row.

    Parameters
    ----------
    run : Run
        Its examples are a single row. Each call overwrites x and targets.
    takes_labels : bool
        Whether the target may be a label if there are several outputs; other targets then sum to 1.
    low, high : float
        Range of the targets.
    rate : float
        Learning rate. It can be set.
    dropout_seed : int
        0: no dropout.
    """

    cdef public double rate
    cdef Run run
    cdef Job* job
    cdef void* x
    cdef void* targets
    cdef intp_t label
    cdef bint takes_labels
    cdef double low
    cdef double high
    cdef double work

    def __cinit__(
        self, Run run, bint takes_labels, double low, double high, double rate,
        uint64_t dropout_seed,
    ):
        self.run = run
        self.job = &run.job
        if self.job.examples.n != 1 or self.job.examples.targets == NULL:
            raise ValueError("the run must have one row with targets")
        if takes_labels and self.job.objective.loss != CROSS_ENTROPY:
            raise ValueError("labels must be given for the loss 'cross_entropy' only")
        self.x = <void*>self.job.examples.x
        self.targets = <void*>self.job.examples.targets
        if not (
                cnp.PyArray_ISWRITEABLE(run.examples[0]) and cnp.PyArray_ISWRITEABLE(run.examples[1])):
            raise ValueError("the run's row must be writable")
        self.takes_labels = takes_labels
        self.low = low
        self.high = high
        self.rate = rate
        self.job.dropout_seed = dropout_seed
        self.work = work_of(&self.job.graph, 1)

    cdef bint read_targets(self, y, real* targets):
        cdef Py_ssize_t i, n_outputs = self.job.graph.n_outputs
        cdef double total = 0
        self.job.outputs.labels = NULL
        self.job.examples.targets = targets
        if n_outputs == 1 and isinstance(y, REAL_NUMBERS):
            targets[0] = <real><double>y
            if not values_are_finite(1, targets):
                return False
        elif self.takes_labels and n_outputs > 1 and isinstance(y, INTEGERS):
            if not 0 <= y < n_outputs:
                return False
            self.label = y
            self.job.outputs.labels = &self.label
            self.job.examples.targets = NULL
            return True
        elif not read_row(y, n_outputs, targets):
            return False
        for i in range(n_outputs):
            if not self.low <= targets[i] <= self.high:
                return False
            total += targets[i]
        # The caller decides whether rows that do not sum to 1 are rejected.
        return not self.takes_labels or abs(total - 1) < 1e-6

    def __call__(self, x, y):
        """Learn from a row of floats; return its loss before the step, or None if they are not floats.

        NaN means that the step would not have been finite, and was not made.
        """
        if self.run.dtype == cnp.NPY_FLOAT32:
            if not (read_row(x, self.job.graph.n_inputs, <float*>self.x)
                    and self.read_targets(y, <float*>self.targets)):
                return None
        elif not (read_row(x, self.job.graph.n_inputs, <double*>self.x)
                  and self.read_targets(y, <double*>self.targets)):
            return None
        return self.learn()

    def learn_from(self, x, targets, labels):
        """Learn from arrays of a single row, like the examples of `Run`."""
        cdef int dtype = self.run.dtype
        cdef Py_ssize_t n_inputs = self.job.graph.n_inputs, n_outputs = self.job.graph.n_outputs
        cdef size_t size = sizeof(float) if dtype == cnp.NPY_FLOAT32 else sizeof(double)
        memcpy(self.x, data_of("x", x, dtype, 1, n_inputs), n_inputs * size)
        self.job.outputs.labels = NULL
        self.job.examples.targets = self.targets
        if self.takes_labels and length_of(labels) > 0:
            self.label = (<intp_t*>data_of("labels", labels, cnp.NPY_INTP, 1, -1))[0]
            self.job.outputs.labels = &self.label
            self.job.examples.targets = NULL
        else:
            memcpy(
                self.targets, data_of("targets", targets, dtype, 1, n_outputs), n_outputs * size)
        return self.learn()

    cdef double learn(self) except? -1:
        cdef double total
        if not cnp.PyArray_ISWRITEABLE(self.run.network.arrays[1]):
            raise ValueError("the network's parameters must be writable, got a read-only array")
        if self.work < LONG_WORK and self.run.loss_function is None:
            return self.step()
        with nogil:
            total = self.step()
        return total

    cdef double step(self) except? -1 nogil:
        """Make a step. If it is not finite, return NaN and leave parameters and buffers unchanged.

        Signals are not checked, because an exception would leave half a step; Python checks them after the call. A
        loss in Python may raise, but does so before anything has changed.
        """
        cdef double total
        self.job.learning_rate = self.rate
        self.run.keep()
        if self.run.dtype == cnp.NPY_FLOAT32:
            total = step[float](self.job, NULL, 0, 1, <float*>self.job.graph.parameters)
        else:
            total = step[double](self.job, NULL, 0, 1, <double*>self.job.graph.parameters)
        if isfinite(total) and self.run.is_finite():
            return total
        self.run.put_back()
        return NAN
