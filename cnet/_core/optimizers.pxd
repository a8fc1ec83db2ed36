"""Optimizers: one loop each over the flat buffers, as PyTorch defines the optimizer of that name.

To add one: a code, its loop, its line in `update`, its name in `optimizer_codes`; its settings, in
the order of the fields below, are in `cnet/optimizers.py`.
"""

from libc.math cimport pow, sqrt

from cnet._core.scalar cimport real


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
    double learning_rate
    double weight_decay
    double clip_norm  # 0: not clipped
    double clip_value  # 0: not clipped
    double first
    double second
    double third
    double fourth


cdef enum:
    SETTINGS_LENGTH = 8


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


cdef inline void clip(
    const Settings* settings,
    Py_ssize_t n,
    real* gradient,  # INOUT
) noexcept nogil:
    """g = clamp(g, -c, c), or g min(1, c / (|g| + 1e-6)), as torch.nn.utils.clip_grad_* do."""
    cdef Py_ssize_t i
    cdef real bound = <real>settings.clip_value, shrink
    cdef double total = 0
    if settings.clip_value > 0:
        for i in range(n):
            gradient[i] = bound if gradient[i] > bound else (
                -bound if gradient[i] < -bound else gradient[i])
    if settings.clip_norm > 0:
        for i in range(n):
            total += <double>gradient[i] * gradient[i]
        shrink = <real>(settings.clip_norm / (sqrt(total) + 1e-6))
        if shrink < 1:
            for i in range(n):
                gradient[i] *= shrink


cdef inline void sgd(
    const Settings* settings,
    Py_ssize_t n,
    real* parameters,  # INOUT
    const real* gradient,  # IN
    real* velocity,  # INOUT; unused without momentum
) noexcept nogil:
    """g += decay w; v = momentum v + g; w -= rate (g + momentum v if nesterov else v)."""
    cdef Py_ssize_t i
    cdef real rate = <real>settings.learning_rate, decay = <real>settings.weight_decay
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
    const Settings* settings,
    bint decoupled,
    Py_ssize_t step,
    Py_ssize_t n,
    real* parameters,  # INOUT
    const real* gradient,  # IN
    real* mean,  # INOUT
    real* square,  # INOUT
) noexcept nogil:
    """m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2; w -= rate m^ / (sqrt(v^) + eps).

    Decoupled: weight decay shrinks w itself (Loshchilov and Hutter, 2019), and not through g.
    """
    cdef Py_ssize_t i, start = 0, stop
    cdef real factor[BLOCK]
    cdef real beta_1 = <real>settings.first, beta_2 = <real>settings.second
    cdef real rest_1 = <real>(1 - settings.first), rest_2 = <real>(1 - settings.second)
    cdef real epsilon = <real>settings.third, g
    cdef real rate = <real>(settings.learning_rate / (1 - pow(settings.first, <double>step)))
    cdef real root = <real>(1 / sqrt(1 - pow(settings.second, <double>step)))
    cdef real decay = 0 if decoupled else <real>settings.weight_decay
    cdef real keep = 1
    if decoupled:
        keep = <real>(1 - settings.learning_rate * settings.weight_decay)
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
    cdef real rate = <real>settings.learning_rate, decay = <real>settings.weight_decay
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
    const Settings* settings,
    Py_ssize_t step,
    Py_ssize_t n,
    real* parameters,  # INOUT
    const real* gradient,  # IN
    real* total,  # INOUT
) noexcept nogil:
    """s += g^2; w -= rate / (1 + (step - 1) rate_decay) g / (sqrt(s) + eps)."""
    cdef Py_ssize_t i, start = 0, stop
    cdef real factor[BLOCK]
    cdef real decay = <real>settings.weight_decay, epsilon = <real>settings.second, g
    cdef real rate = <real>(settings.learning_rate / (1 + (step - 1) * settings.first))
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
    Py_ssize_t optimizer,
    const Settings* settings,
    Py_ssize_t step,  # from 1
    Py_ssize_t n,
    real* parameters,  # INOUT
    real* gradient,  # INOUT, clipped in place
    real* moments,  # INOUT, as many times n as the optimizer keeps
) noexcept nogil:
    """One step of the optimizer over all parameters."""
    clip(settings, n, gradient)
    if optimizer == OPTIMIZER_SGD:
        sgd(settings, n, parameters, gradient, moments)
    elif optimizer == OPTIMIZER_ADAM:
        adam(settings, False, step, n, parameters, gradient, moments, moments + n)
    elif optimizer == OPTIMIZER_ADAMW:
        adam(settings, True, step, n, parameters, gradient, moments, moments + n)
    elif optimizer == OPTIMIZER_RMSPROP:
        rmsprop(settings, n, parameters, gradient, moments, moments + n, moments + 2 * n)
    elif optimizer == OPTIMIZER_ADAGRAD:
        adagrad(settings, step, n, parameters, gradient, moments)
    elif optimizer == OPTIMIZER_RPROP:
        rprop(settings, n, parameters, gradient, moments, moments + n)
