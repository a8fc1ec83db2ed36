"""The element type, and C's mathematical functions in it.

Every kernel is written once over `real` and compiled for float32 and float64. A C function of doubles
called from a float32 loop would make the whole loop run in double.
"""

from libc cimport math


ctypedef fused real:
    float
    double


cdef inline real absolute(real x) noexcept nogil:
    if real is float:
        return math.fabsf(x)
    else:
        return math.fabs(x)


cdef inline real square_root(real x) noexcept nogil:
    if real is float:
        return math.sqrtf(x)
    else:
        return math.sqrt(x)


cdef inline real exponential(real x) noexcept nogil:
    if real is float:
        return math.expf(x)
    else:
        return math.exp(x)


cdef inline real exponential_minus_1(real x) noexcept nogil:
    if real is float:
        return math.expm1f(x)
    else:
        return math.expm1(x)


cdef inline real logarithm(real x) noexcept nogil:
    if real is float:
        return math.logf(x)
    else:
        return math.log(x)


cdef inline real logarithm_of_1_plus(real x) noexcept nogil:
    if real is float:
        return math.log1pf(x)
    else:
        return math.log1p(x)


cdef inline real hyperbolic_tangent(real x) noexcept nogil:
    if real is float:
        return math.tanhf(x)
    else:
        return math.tanh(x)


cdef inline real complementary_error(real x) noexcept nogil:
    if real is float:
        return math.erfcf(x)
    else:
        return math.erfc(x)
