"""Optimizers: one loop each over the flat arrays, as PyTorch defines the optimizer of that name.

To add an optimizer: a code, its loop, its line in `update`, its name in `optimizer_codes`, and a field of
`OptimizerSettings` for each new setting, with the same name as in cnet/optimizers.py.
"""

from libc.math cimport pow, sqrt
from numpy cimport intp_t

from cnet._core.graph cimport Graph, Op
from cnet._core.scalar cimport real
from cnet._core.team cimport team_run


cdef extern from "root.h" nogil:
    void reciprocal_root_f32(Py_ssize_t n, float* v, float scale, float epsilon) noexcept
    void reciprocal_root_f64(Py_ssize_t n, double* v, double scale, double epsilon) noexcept


cdef enum Optimizer:
    OPTIMIZER_SGD
    OPTIMIZER_ADAM
    OPTIMIZER_ADAMW
    OPTIMIZER_RMSPROP
    OPTIMIZER_ADAGRAD
    OPTIMIZER_RPROP


cdef inline dict optimizer_codes():
    return {
        "sgd": OPTIMIZER_SGD,
        "adam": OPTIMIZER_ADAM,
        "adamw": OPTIMIZER_ADAMW,
        "rmsprop": OPTIMIZER_RMSPROP,
        "adagrad": OPTIMIZER_ADAGRAD,
        "rprop": OPTIMIZER_RPROP,
    }


# An optimizer with its settings. A setting that it does not have, or that is not set, is 0.
cdef struct OptimizerSettings:
    intp_t code
    double weight_decay
    double clip_norm
    double clip_value
    double momentum
    double nesterov
    double beta_1
    double beta_2
    double epsilon
    double epsilon_hat
    double alpha
    double centered
    double learning_rate_decay
    double shrink
    double grow
    double smallest_step
    double largest_step


cdef inline Py_ssize_t moments_of(const OptimizerSettings* settings) noexcept nogil:
    """Number of moments that the optimizer keeps for every parameter."""
    if settings.code == OPTIMIZER_SGD:
        return 1 if settings.momentum != 0 else 0
    if settings.code == OPTIMIZER_RMSPROP:
        return 3 if settings.centered != 0 else (2 if settings.momentum != 0 else 1)
    return 1 if settings.code == OPTIMIZER_ADAGRAD else 2


# Parameters that are updated together: their intermediate values stay in the first-level cache.
cdef enum:
    BLOCK = 256


cdef inline void reciprocal_root(
    Py_ssize_t n,
    real* v,  # INOUT, of BLOCK elements
    real scale,
    real epsilon,
) noexcept nogil:
    """v = 1 / (sqrt(v) scale + eps)."""
    if real is float:
        reciprocal_root_f32(n, v, scale, epsilon)
    else:
        reciprocal_root_f64(n, v, scale, epsilon)


# One step of an optimizer over a network's parameters.
cdef struct Step:
    const OptimizerSettings* settings
    Py_ssize_t n  # parameters
    void* parameters
    void* moments  # n for each array that the optimizer keeps; NULL: none
    bint is_plain_descent  # just w -= rate g
    # These change from step to step.
    double learning_rate
    double rate  # the learning rate, corrected for the number of the step
    double root  # Adam's correction of the root of the squares
    double epsilon  # Adam's, as added to the corrected root


# How the gradients of a block of rows are used.
cdef struct Descent:
    void* gradient  # of all parameters, or NULL if they are updated immediately
    bint accumulate  # add to the gradient
    const Step* step  # how to update immediately, or NULL
    double penalty_scale  # of the gradients of l1 and l2


cdef inline double power(double base, double n) noexcept nogil:
    """base^n for base from 0 to 1. If 1 - base^n rounds to 1, the result is 0, without a call of pow."""
    return pow(base, n) if n * (1 - base) < 38 else 0


cdef inline void prepare_update(
    Step* step,
    double learning_rate,
    Py_ssize_t number,  # from 1
) noexcept nogil:
    """Set the fields of a step that depend on its number."""
    cdef const OptimizerSettings* settings = step.settings
    step.learning_rate = learning_rate
    step.rate = learning_rate
    if settings.code == OPTIMIZER_ADAM or settings.code == OPTIMIZER_ADAMW:
        step.rate = learning_rate / (1 - power(settings.beta_1, <double>number))
        step.root = 1 / sqrt(1 - power(settings.beta_2, <double>number))
        step.epsilon = settings.epsilon
        if settings.epsilon_hat != 0:
            step.epsilon *= step.root
    elif settings.code == OPTIMIZER_ADAGRAD:
        step.rate = learning_rate / (1 + (number - 1) * settings.learning_rate_decay)


cdef inline bint is_plain_descent(const OptimizerSettings* settings) noexcept nogil:
    """Whether the update is just w -= rate g."""
    return (
        settings.code == OPTIMIZER_SGD and settings.momentum == 0
        and settings.weight_decay == 0 and settings.clip_value == 0)


cdef inline void clip_norm(
    const OptimizerSettings* settings,
    Py_ssize_t n,
    real* gradient,  # INOUT
) noexcept nogil:
    """g = g min(1, c / (|g| + 1e-6)), as torch.nn.utils.clip_grad_norm_ does."""
    cdef Py_ssize_t i
    cdef real shrink
    cdef double total = 0
    for i in range(n):
        total += <double>gradient[i] * gradient[i]
    shrink = <real>(settings.clip_norm / (sqrt(total) + 1e-6))
    if shrink < 1:
        for i in range(n):
            gradient[i] *= shrink


cdef inline void clip_value(
    const OptimizerSettings* settings,
    Py_ssize_t n,
    real* gradient,  # INOUT
) noexcept nogil:
    """g = clamp(g, -c, c), as torch.nn.utils.clip_grad_value_ does."""
    cdef Py_ssize_t i
    cdef real bound = <real>settings.clip_value
    for i in range(n):
        gradient[i] = bound if gradient[i] > bound else (
            -bound if gradient[i] < -bound else gradient[i])


cdef inline void sgd(
    const Step* step,
    const OptimizerSettings* settings,
    Py_ssize_t n,
    real* parameters,  # INOUT
    const real* gradient,  # IN
    real* velocity,  # INOUT; unused without momentum
) noexcept nogil:
    """g += decay w; v = momentum v + g; w -= rate (g + momentum v if nesterov else v)."""
    cdef Py_ssize_t i
    cdef real rate = <real>step.rate, decay = <real>settings.weight_decay
    cdef real momentum = <real>settings.momentum, g
    if momentum == 0:
        for i in range(n):
            parameters[i] -= rate * (gradient[i] + decay * parameters[i])
    elif settings.nesterov != 0:
        for i in range(n):
            g = gradient[i] + decay * parameters[i]
            velocity[i] = momentum * velocity[i] + g
            parameters[i] -= rate * (g + momentum * velocity[i])
    else:
        for i in range(n):
            g = gradient[i] + decay * parameters[i]
            velocity[i] = momentum * velocity[i] + g
            parameters[i] -= rate * velocity[i]


cdef inline void adam(
    const Step* step,
    bint decoupled,
    Py_ssize_t n,
    real* parameters,  # INOUT
    const real* gradient,  # IN
    real* mean,  # INOUT
    real* square,  # INOUT
) noexcept nogil:
    """m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2; w -= rate m^ / (sqrt(v^) + eps).

    In the form with an epsilon hat, eps is added to sqrt(v) (Kingma and Ba, 2015, end of section 2).

    Decoupled weight decay shrinks w directly instead of through g (Loshchilov and Hutter, 2019).
    """
    cdef const OptimizerSettings* settings = step.settings
    cdef Py_ssize_t i, start = 0, stop
    cdef real factor[BLOCK]
    cdef real beta_1 = <real>settings.beta_1, beta_2 = <real>settings.beta_2
    cdef real rest_1 = <real>(1 - settings.beta_1), rest_2 = <real>(1 - settings.beta_2)
    cdef real epsilon = <real>step.epsilon, g
    cdef real rate = <real>step.rate, root = <real>step.root
    cdef real decay = 0 if decoupled else <real>settings.weight_decay
    cdef real keep = 1
    if decoupled:
        keep = <real>(1 - step.learning_rate * settings.weight_decay)
    while start < n:
        stop = min(start + BLOCK, n)
        for i in range(start, stop):
            g = gradient[i] + decay * parameters[i]
            mean[i] = beta_1 * mean[i] + rest_1 * g
            square[i] = beta_2 * square[i] + rest_2 * g * g
            factor[i - start] = square[i]
        reciprocal_root(stop - start, factor, root, epsilon)
        for i in range(start, stop):
            parameters[i] = keep * parameters[i] - rate * mean[i] * factor[i - start]
        start = stop


cdef inline void rmsprop(
    const Step* step,
    Py_ssize_t n,
    real* parameters,  # INOUT
    const real* gradient,  # IN
    real* square,  # INOUT
    real* velocity,  # INOUT; unused without momentum
    real* mean,  # INOUT; unused unless centered
) noexcept nogil:
    """s = a s + (1 - a) g^2; v = momentum v + g / (sqrt(s - m^2) + eps); w -= rate v."""
    cdef const OptimizerSettings* settings = step.settings
    cdef Py_ssize_t i, start = 0, stop
    cdef real rate = <real>step.rate, decay = <real>settings.weight_decay
    cdef real alpha = <real>settings.alpha, rest = <real>(1 - settings.alpha)
    cdef real epsilon = <real>settings.epsilon, momentum = <real>settings.momentum
    cdef bint centered = settings.centered != 0
    cdef real g, variance
    cdef real factor[BLOCK]
    while start < n:
        stop = min(start + BLOCK, n)
        for i in range(start, stop):
            g = gradient[i] + decay * parameters[i]
            square[i] = alpha * square[i] + rest * g * g
            variance = square[i]
            if centered:
                mean[i] = alpha * mean[i] + rest * g
                variance -= mean[i] * mean[i]
                # Rounding may make the variance negative.
                variance = 0 if variance < 0 else variance
            factor[i - start] = variance
        reciprocal_root(stop - start, factor, <real>1, epsilon)
        for i in range(start, stop):
            g = (gradient[i] + decay * parameters[i]) * factor[i - start]
            if momentum != 0:
                velocity[i] = momentum * velocity[i] + g
                g = velocity[i]
            parameters[i] -= rate * g
        start = stop


cdef inline void adagrad(
    const Step* step,
    Py_ssize_t n,
    real* parameters,  # INOUT
    const real* gradient,  # IN
    real* total,  # INOUT
) noexcept nogil:
    """s += g^2; w -= rate / (1 + (step - 1) rate_decay) g / (sqrt(s) + eps)."""
    cdef const OptimizerSettings* settings = step.settings
    cdef Py_ssize_t i, start = 0, stop
    cdef real factor[BLOCK]
    cdef real decay = <real>settings.weight_decay, epsilon = <real>settings.epsilon, g
    cdef real rate = <real>step.rate
    while start < n:
        stop = min(start + BLOCK, n)
        for i in range(start, stop):
            g = gradient[i] + decay * parameters[i]
            total[i] += g * g
            factor[i - start] = total[i]
        reciprocal_root(stop - start, factor, <real>1, epsilon)
        for i in range(start, stop):
            g = gradient[i] + decay * parameters[i]
            parameters[i] -= rate * g * factor[i - start]
        start = stop


cdef inline void rprop(
    const OptimizerSettings* settings,
    Py_ssize_t n,
    real* parameters,  # INOUT
    const real* gradient,  # IN
    real* previous,  # INOUT
    real* size,  # INOUT
) noexcept nogil:
    """size grows while the sign of g stays the same, and shrinks if it changes; w -= sign(g) size."""
    cdef Py_ssize_t i
    cdef real shrink = <real>settings.shrink, grow = <real>settings.grow
    cdef real smallest = <real>settings.smallest_step, largest = <real>settings.largest_step
    cdef real decay = <real>settings.weight_decay, g, agreement, factor
    for i in range(n):
        g = gradient[i] + decay * parameters[i]
        agreement = g * previous[i]
        factor = grow if agreement > 0 else (shrink if agreement < 0 else 1)
        size[i] = size[i] * factor
        size[i] = smallest if size[i] < smallest else (largest if size[i] > largest else size[i])
        # If the sign has changed, there is no step, and the next one counts as the first.
        g = 0 if agreement < 0 else g
        # The last `g`, which is 0 or NaN, lets a NaN pass through.
        parameters[i] -= size[i] * (1 if g > 0 else (-1 if g < 0 else g))
        previous[i] = g


cdef inline void update(
    const Step* step,
    Py_ssize_t first,
    Py_ssize_t n,
    real* gradient,  # INOUT, of n parameters from `first` on; clipped in place
) noexcept nogil:
    """One step for some of the parameters. clip_norm, which needs the whole gradient, is applied before."""
    cdef const OptimizerSettings* settings = step.settings
    cdef real* parameters = <real*>step.parameters + first
    cdef real* moments = NULL
    cdef real* second = NULL
    cdef real* third = NULL
    if step.moments != NULL:
        moments = <real*>step.moments + first
        second = moments + step.n
        third = second + step.n
    if settings.clip_value > 0:
        clip_value(settings, n, gradient)
    if settings.code == OPTIMIZER_SGD:
        sgd(step, settings, n, parameters, gradient, moments)
    elif settings.code == OPTIMIZER_ADAM:
        adam(step, False, n, parameters, gradient, moments, second)
    elif settings.code == OPTIMIZER_ADAMW:
        adam(step, True, n, parameters, gradient, moments, second)
    elif settings.code == OPTIMIZER_RMSPROP:
        rmsprop(step, n, parameters, gradient, moments, second, third)
    elif settings.code == OPTIMIZER_ADAGRAD:
        adagrad(step, n, parameters, gradient, moments)
    elif settings.code == OPTIMIZER_RPROP:
        rprop(settings, n, parameters, gradient, moments, second)


cdef inline void update_scaled(
    const Step* step, double factor, Py_ssize_t first, Py_ssize_t n, real* gradient
) noexcept nogil:
    """`update` with the learning rate times `factor`."""
    cdef Step scaled = step[0]
    scaled.learning_rate *= factor
    scaled.rate *= factor
    update(&scaled, first, n, gradient)


cdef inline void update_tensors(
    const Step* step,
    const Op* op,
    Py_ssize_t first,
    Py_ssize_t n_weights,
    Py_ssize_t n_biases,
    real* gradient,  # INOUT, of the weights from `first` on and of the biases after them
) noexcept nogil:
    """One step for some of an operation's weights and the biases after them."""
    if op.learning_rate_factor == 1 and op.bias_learning_rate_factor == 1:
        update(step, first, n_weights + n_biases, gradient)
        return
    update_scaled(step, op.learning_rate_factor, first, n_weights, gradient)
    update_scaled(
        step, op.bias_learning_rate_factor, first + n_weights, n_biases, gradient + n_weights)


# An update job for the thread pool: some parameters and their gradient; each part is a piece of UPDATE_SIZE.
cdef struct UpdateTask:
    const Step* step
    void* gradient
    Py_ssize_t first
    Py_ssize_t n


cdef enum:
    UPDATE_SIZE = 16384


cdef inline void update_piece(const UpdateTask* task, Py_ssize_t piece, real* gradient) noexcept nogil:
    cdef Py_ssize_t start = piece * UPDATE_SIZE, first = task.first + start
    update(task.step, first, min(UPDATE_SIZE, task.n - start), gradient + first)


cdef inline void update_piece_f32(void* task, Py_ssize_t piece, Py_ssize_t thread) noexcept nogil:
    update_piece(<const UpdateTask*>task, piece, <float*>(<const UpdateTask*>task).gradient)


cdef inline void update_piece_f64(void* task, Py_ssize_t piece, Py_ssize_t thread) noexcept nogil:
    update_piece(<const UpdateTask*>task, piece, <double*>(<const UpdateTask*>task).gradient)


cdef inline void update_range(
    const Step* step,
    double factor,  # of the learning rate
    Py_ssize_t first,
    Py_ssize_t n,
    real* gradient,  # INOUT, of all parameters
    int threads,
) noexcept nogil:
    """One step for n parameters from `first` on."""
    cdef Step scaled = step[0]
    cdef UpdateTask task = UpdateTask(&scaled, gradient, first, n)
    cdef Py_ssize_t pieces = (n + UPDATE_SIZE - 1) // UPDATE_SIZE
    scaled.learning_rate *= factor
    scaled.rate *= factor
    if real is float:
        team_run(threads, pieces, update_piece_f32, &task)
    else:
        team_run(threads, pieces, update_piece_f64, &task)


cdef inline void update_all(
    const Graph* graph,
    const Step* step,
    real* gradient,  # INOUT, of all parameters, 0 for those that are not trained; clipped in place
) noexcept nogil:
    """One step for all parameters that are trained."""
    cdef const Op* op
    cdef Py_ssize_t i, n_biases
    if step.settings.clip_norm > 0:
        clip_norm(step.settings, step.n, gradient)
    if graph.uniform:
        update_range(step, 1, 0, step.n, gradient, graph.threads)
        return
    for i in range(graph.n_ops):
        op = &graph.ops[i]
        if op.weights >= 0 and op.trainable:
            n_biases = op.n_outputs if op.biases >= 0 else 0
            update_range(
                step, op.learning_rate_factor, op.weights, op.n_weights, gradient, graph.threads)
            update_range(
                step, op.bias_learning_rate_factor, op.weights + op.n_weights, n_biases, gradient,
                graph.threads)
