"""Optimizers: one loop each over the flat buffers, as PyTorch defines the optimizer of that name.

To add one: a code, its loop, its line in `update`, its name in `optimizer_codes`; its settings, in
the order of the fields below, are in `cnet/optimizers.py`.
"""

from libc.math cimport pow, sqrt

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


cdef struct Settings:
    # Laid over an array of doubles: common to all, then up to four of the optimizer's own.
    double weight_decay
    double clip_norm  # 0: not clipped
    double clip_value  # 0: not clipped
    double first
    double second
    double third
    double fourth


cdef enum:
    SETTINGS_LENGTH = 7


# Parameters at a time: what is kept of them between two loops stays in the first-level cache.
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
    Py_ssize_t optimizer
    const Settings* settings
    double learning_rate
    double rate  # the learning rate, corrected for the number of the step
    double root  # Adam's correction of the root of the squares
    double epsilon  # Adam's, in what is to be added to the corrected root
    Py_ssize_t n  # parameters
    void* parameters
    void* moments  # as many times n as the optimizer keeps


cdef inline double power(double base, double n) noexcept nogil:
    """base^n, for base from 0 to 1, and 0 without a call of pow where 1 - base^n rounds to 1."""
    return pow(base, n) if n * (1 - base) < 38 else 0


cdef inline Step prepare(
    Py_ssize_t optimizer,
    const Settings* settings,
    double learning_rate,
    Py_ssize_t number,  # from 1
    Py_ssize_t n,
    real* parameters,
    real* moments,
) noexcept nogil:
    cdef Step step = Step(
        optimizer, settings, learning_rate, learning_rate, 1, 0, n, parameters, moments)
    if optimizer == OPTIMIZER_ADAM or optimizer == OPTIMIZER_ADAMW:
        step.rate = learning_rate / (1 - power(settings.first, <double>number))
        step.root = 1 / sqrt(1 - power(settings.second, <double>number))
        step.epsilon = settings.third
        if settings.fourth != 0:
            step.epsilon *= step.root
    elif optimizer == OPTIMIZER_ADAGRAD:
        step.rate = learning_rate / (1 + (number - 1) * settings.first)
    return step


cdef inline bint is_plain_descent(const Step* step) noexcept nogil:
    """Whether the step is w -= rate g and no more."""
    return (
        step.optimizer == OPTIMIZER_SGD and step.settings.first == 0
        and step.settings.weight_decay == 0 and step.settings.clip_value == 0)


cdef inline void clip_norm(
    const Settings* settings,
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
    const Settings* settings,
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
    const Settings* settings,
    Py_ssize_t n,
    real* parameters,  # INOUT
    const real* gradient,  # IN
    real* velocity,  # INOUT; unused without momentum
) noexcept nogil:
    """g += decay w; v = momentum v + g; w -= rate (g + momentum v if nesterov else v)."""
    cdef Py_ssize_t i
    cdef real rate = <real>step.rate, decay = <real>settings.weight_decay
    cdef real momentum = <real>settings.first, g
    if momentum == 0:
        for i in range(n):
            parameters[i] -= rate * (gradient[i] + decay * parameters[i])
    elif settings.second != 0:
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
    const Settings* settings,
    bint decoupled,
    Py_ssize_t n,
    real* parameters,  # INOUT
    const real* gradient,  # IN
    real* mean,  # INOUT
    real* square,  # INOUT
) noexcept nogil:
    """m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2; w -= rate m^ / (sqrt(v^) + eps).

    In the form with an epsilon hat, eps is added to sqrt(v) (Kingma and Ba, 2015, end of section 2).

    Decoupled: weight decay shrinks w itself (Loshchilov and Hutter, 2019), and not through g.
    """
    cdef Py_ssize_t i, start = 0, stop
    cdef real factor[BLOCK]
    cdef real beta_1 = <real>settings.first, beta_2 = <real>settings.second
    cdef real rest_1 = <real>(1 - settings.first), rest_2 = <real>(1 - settings.second)
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
    const Settings* settings,
    Py_ssize_t n,
    real* parameters,  # INOUT
    const real* gradient,  # IN
    real* square,  # INOUT
    real* velocity,  # INOUT; unused without momentum
    real* mean,  # INOUT; unused unless centered
) noexcept nogil:
    """s = a s + (1 - a) g^2; v = momentum v + g / (sqrt(s - m^2) + eps); w -= rate v."""
    cdef Py_ssize_t i, start = 0, stop
    cdef real rate = <real>step.rate, decay = <real>settings.weight_decay
    cdef real alpha = <real>settings.first, rest = <real>(1 - settings.first)
    cdef real epsilon = <real>settings.second, momentum = <real>settings.third
    cdef bint centered = settings.fourth != 0
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
                # Rounding may take it below 0.
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
    const Settings* settings,
    Py_ssize_t n,
    real* parameters,  # INOUT
    const real* gradient,  # IN
    real* total,  # INOUT
) noexcept nogil:
    """s += g^2; w -= rate / (1 + (step - 1) rate_decay) g / (sqrt(s) + eps)."""
    cdef Py_ssize_t i, start = 0, stop
    cdef real factor[BLOCK]
    cdef real decay = <real>settings.weight_decay, epsilon = <real>settings.second, g
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
    const Settings* settings,
    Py_ssize_t n,
    real* parameters,  # INOUT
    const real* gradient,  # IN
    real* previous,  # INOUT
    real* size,  # INOUT
) noexcept nogil:
    """size grows while the sign of g stays and shrinks where it turned; w -= sign(g) size."""
    cdef Py_ssize_t i
    cdef real shrink = <real>settings.first, grow = <real>settings.second
    cdef real smallest = <real>settings.third, largest = <real>settings.fourth
    cdef real decay = <real>settings.weight_decay, g, agreement, factor
    for i in range(n):
        g = gradient[i] + decay * parameters[i]
        agreement = g * previous[i]
        factor = grow if agreement > 0 else (shrink if agreement < 0 else 1)
        size[i] = size[i] * factor
        size[i] = smallest if size[i] < smallest else (largest if size[i] > largest else size[i])
        # Where the sign turned, the step is left out and forgotten.
        g = 0 if agreement < 0 else g
        # `g` itself in the last place lets a NaN through.
        parameters[i] -= size[i] * (1 if g > 0 else (-1 if g < 0 else g))
        previous[i] = g


cdef inline void update(
    const Step* step,
    Py_ssize_t first,
    Py_ssize_t n,
    real* gradient,  # INOUT, of the n parameters from the first on; clipped in place
) noexcept nogil:
    """One step for some of the parameters; clip_norm, which wants to see all of them, comes before."""
    cdef const Settings* settings = step.settings
    cdef Py_ssize_t optimizer = step.optimizer
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
    if optimizer == OPTIMIZER_SGD:
        sgd(step, settings, n, parameters, gradient, moments)
    elif optimizer == OPTIMIZER_ADAM:
        adam(step, settings, False, n, parameters, gradient, moments, second)
    elif optimizer == OPTIMIZER_ADAMW:
        adam(step, settings, True, n, parameters, gradient, moments, second)
    elif optimizer == OPTIMIZER_RMSPROP:
        rmsprop(step, settings, n, parameters, gradient, moments, second, third)
    elif optimizer == OPTIMIZER_ADAGRAD:
        adagrad(step, settings, n, parameters, gradient, moments)
    elif optimizer == OPTIMIZER_RPROP:
        rprop(settings, n, parameters, gradient, moments, second)


# A whole gradient as the threads of a team see it, which take a piece of it each.
cdef struct Pieces:
    const Step* step
    void* gradient


cdef enum:
    UPDATE_SIZE = 16384


cdef inline void update_piece(const Pieces* pieces, Py_ssize_t piece, real* gradient) noexcept nogil:
    cdef Py_ssize_t first = piece * UPDATE_SIZE
    update(pieces.step, first, min(UPDATE_SIZE, pieces.step.n - first), gradient + first)


cdef inline void update_piece_f32(void* pieces, Py_ssize_t piece, Py_ssize_t thread) noexcept nogil:
    update_piece(<const Pieces*>pieces, piece, <float*>(<const Pieces*>pieces).gradient)


cdef inline void update_piece_f64(void* pieces, Py_ssize_t piece, Py_ssize_t thread) noexcept nogil:
    update_piece(<const Pieces*>pieces, piece, <double*>(<const Pieces*>pieces).gradient)


cdef inline void update_all(
    const Step* step,
    real* gradient,  # INOUT, of all parameters; clipped in place
    int threads,
) noexcept nogil:
    """One step for all parameters."""
    cdef Pieces pieces = Pieces(step, gradient)
    cdef Py_ssize_t n_pieces = (step.n + UPDATE_SIZE - 1) // UPDATE_SIZE
    if step.settings.clip_norm > 0:
        clip_norm(step.settings, step.n, gradient)
    if real is float:
        team_run(threads, n_pieces, update_piece_f32, &pieces)
    else:
        team_run(threads, n_pieces, update_piece_f64, &pieces)
