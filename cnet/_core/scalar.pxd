"""The element type, and mathematical functions in it.

Every kernel is written once over `real` and compiled for float32 and float64. A C function of doubles
called from a float32 loop would make the whole loop run in double, and so does a literal, which is a
double to C: hence <real>1. The functions of float32, and exp of float64, are formulas without branches or
calls, which the compiler vectorises in the loops that they are inlined into; the others are C's own.
"""

from libc cimport math
from libc.float cimport FLT_MAX
from libc.stdint cimport int32_t, int64_t


ctypedef fused real:
    float
    double


cdef extern from * nogil:
    """
    #include <stdint.h>
    #include <string.h>

    static inline float cnet_float_of_bits(int32_t bits)
    {
        float value;
        memcpy(&value, &bits, sizeof value);
        return value;
    }

    static inline int32_t cnet_bits_of_float(float value)
    {
        int32_t bits;
        memcpy(&bits, &value, sizeof bits);
        return bits;
    }

    /* a b + c, rounded once where the processor can: said outright where the compiler has two ways to
     * contract a formula, and takes one in a vector loop and the other in its remainder. */
    static inline float cnet_fused(float a, float b, float c)
    {
    #if defined(__FMA__) || defined(__aarch64__)
        return __builtin_fmaf(a, b, c);
    #else
        return a * b + c;
    #endif
    }

    static inline double cnet_double_of_bits(int64_t bits)
    {
        double value;
        memcpy(&value, &bits, sizeof value);
        return value;
    }

    static inline int64_t cnet_bits_of_double(double value)
    {
        int64_t bits;
        memcpy(&bits, &value, sizeof bits);
        return bits;
    }
    """
    float float_of_bits "cnet_float_of_bits"(int32_t bits) noexcept
    int32_t bits_of_float "cnet_bits_of_float"(float value) noexcept
    float fused "cnet_fused"(float a, float b, float c) noexcept
    double double_of_bits "cnet_double_of_bits"(int64_t bits) noexcept
    int64_t bits_of_double "cnet_bits_of_double"(double value) noexcept


cdef inline float power_of_2(int32_t n) noexcept nogil:
    """2^n for n from -126 to 127, out of the bits of the exponent."""
    return float_of_bits((n + 127) << 23)


# Adding and subtracting 1.5 * 2^23 rounds to an integer, which the last bits then hold.
cdef enum:
    ROUNDER = 12582912


cdef inline int32_t split_log_2(float x, float* r) noexcept nogil:
    """n and r with x = n log 2 + r, abs(r) <= log(2) / 2; log 2 in two parts, the first exact in n."""
    cdef float shifted = x * <float>1.44269504088896341 + <float>ROUNDER
    cdef float n = shifted - <float>ROUNDER
    r[0] = (x - n * <float>0.693359375) - n * <float>-2.12194440e-4
    return bits_of_float(shifted) - bits_of_float(<float>ROUNDER)


cdef inline float exp_less_1_reduced(float r) noexcept nogil:
    """exp(r) - 1 for abs(r) <= log(2) / 2; least-squares minimax fit, relative error 3e-9."""
    return r + r * r * (
        <float>0.49999994 + r * (<float>0.1666652 + r * (<float>0.04166839 + r * (
            <float>0.00836878 + r * <float>0.0013814465))))


cdef inline float exp_f32(float x) noexcept nogil:
    """exp(x) over the whole range, 0 and infinity beyond it."""
    # Beyond these the result is 0 or infinite anyway; a NaN passes both comparisons.
    cdef float bounded = -104 if x < -104 else x
    bounded = 89 if bounded > 89 else bounded
    cdef float r
    cdef int32_t n = split_log_2(bounded, &r), half = n >> 1
    # Two factors, since 2^n itself may be subnormal or infinite where the result is not.
    return (<float>1 + exp_less_1_reduced(r)) * power_of_2(half) * power_of_2(n - half)


cdef inline float expm1_f32(float x) noexcept nogil:
    """exp(x) - 1 to full relative precision, for x up to 88, above which it stays what it is there."""
    cdef float bounded = -104 if x < -104 else x
    bounded = 88 if bounded > 88 else bounded
    cdef float r
    cdef int32_t n = split_log_2(bounded, &r)
    cdef float scale = power_of_2(-126 if n < -126 else n)
    return scale * exp_less_1_reduced(r) + (scale - <float>1)


cdef inline float log_f32(float x) noexcept nogil:
    """log(x) of a normal positive number; -infinity of 0; NaN and infinity as they are.

    log(2^n (1 + f)) by atanh(f / (2 + f)), with the coefficients of FreeBSD's logf.
    """
    cdef int32_t bits = bits_of_float(x), n
    # The mantissa into [sqrt(1/2), sqrt(2)).
    n = (bits - 0x3F3504F3) >> 23
    cdef float f = float_of_bits(bits - (n << 23)) - <float>1
    cdef float s = f / (<float>2 + f), z = s * s, half_square = <float>0.5 * f * f
    cdef float series = <float>0.66666662693 + z * (<float>0.40000972152 + z * (
        <float>0.28498786688 + z * <float>0.24279078841))
    cdef float lowest = fused(s, fused(z, series, half_square), n * <float>9.0580006145e-06)
    cdef float rest = fused(<float>0.5 * f, f, -lowest) - f
    cdef float result = fused(n, <float>0.69313812256, -rest)
    result = -math.HUGE_VALF if x == 0 else result
    return result if x <= FLT_MAX else x


cdef inline double exp_f64(double x) noexcept nogil:
    """exp(x) over the whole range, 0 and infinity beyond it; by the Taylor series to degree 13."""
    cdef double bounded = -746 if x < -746 else x
    bounded = 710 if bounded > 710 else bounded
    # Adding and subtracting 1.5 * 2^52 rounds to an integer, which the last bits then hold.
    cdef double rounder = 6755399441055744
    cdef double n = (bounded * 1.4426950408889634 + rounder) - rounder
    cdef double half = n * 0.5 + rounder, rest = n - (half - rounder) + rounder
    cdef double r = (bounded - n * 0.693145751953125) - n * 1.42860682030941723212e-6
    # Even and odd powers apart, for a chain of half the length: a narrow layer waits for it.
    cdef double r2 = r * r
    cdef double even = 1 + r2 * (1.0 / 2 + r2 * (1.0 / 24 + r2 * (1.0 / 720 + r2 * (
        1.0 / 40320 + r2 * (1.0 / 3628800 + r2 * (1.0 / 479001600.0))))))
    cdef double odd = 1 + r2 * (1.0 / 6 + r2 * (1.0 / 120 + r2 * (1.0 / 5040 + r2 * (
        1.0 / 362880 + r2 * (1.0 / 39916800 + r2 * (1.0 / 6227020800.0))))))
    cdef double p = even + r * odd
    # Two factors, since 2^n itself may be subnormal or infinite where the result is not.
    return (
        p * double_of_bits((bits_of_double(half) - bits_of_double(rounder) + 1023) << 52)
        * double_of_bits((bits_of_double(rest) - bits_of_double(rounder) + 1023) << 52))


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
        return exp_f32(x)
    else:
        return exp_f64(x)


cdef inline real exponential_minus_1(real x) noexcept nogil:
    if real is float:
        return expm1_f32(x)
    else:
        return math.expm1(x)


cdef inline real logarithm(real x) noexcept nogil:
    if real is float:
        return log_f32(x)
    else:
        return math.log(x)


cdef inline real logarithm_of_1_plus(real x) noexcept nogil:
    """log(1 + x), for x from 0 to 1."""
    cdef real sum
    if real is float:
        # What 1 + x rounds away comes back to first order.
        sum = <real>1 + x
        return log_f32(sum) + (x - (sum - <real>1)) / sum
    else:
        return math.log1p(x)


cdef inline real hyperbolic_tangent(real x) noexcept nogil:
    cdef real e
    if real is float:
        e = expm1_f32(<float>-2 * math.fabsf(x))
        return math.copysignf(e / (<float>2 + e), x)
    else:
        return math.tanh(x)


cdef inline real complementary_error(real x) noexcept nogil:
    if real is float:
        return math.erfcf(x)
    else:
        return math.erfc(x)
