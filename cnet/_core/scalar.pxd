"""The element type and its mathematical functions.

Every kernel is written once in terms of `real` and compiled for float32 and float64. Calling a C function
of doubles from a float32 loop would make the whole loop run in double. So would a literal, which is a
double in C; write <real>1 instead. The float32 functions and the float64 exp have no branches or calls, so
the compiler vectorises the loops they are inlined into. The other functions call the C library.
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

    static inline float cnet_float_from_bits(int32_t bits)
    {
        float value;
        memcpy(&value, &bits, sizeof value);
        return value;
    }

    static inline int32_t cnet_float_to_bits(float value)
    {
        int32_t bits;
        memcpy(&bits, &value, sizeof bits);
        return bits;
    }

    /* a b + c, rounded once if the processor has fused multiply-adds. Use this if the compiler could contract
     * a formula in two ways, because it may choose one in a vector loop and the other in the remainder. */
    static inline float cnet_fma(float a, float b, float c)
    {
    #if defined(__FMA__) || defined(__aarch64__)
        return __builtin_fmaf(a, b, c);
    #else
        return a * b + c;
    #endif
    }

    static inline double cnet_double_from_bits(int64_t bits)
    {
        double value;
        memcpy(&value, &bits, sizeof value);
        return value;
    }

    static inline int64_t cnet_double_to_bits(double value)
    {
        int64_t bits;
        memcpy(&bits, &value, sizeof bits);
        return bits;
    }
    """
    float float_from_bits "cnet_float_from_bits"(int32_t bits) noexcept
    int32_t float_to_bits "cnet_float_to_bits"(float value) noexcept
    float fma_f32 "cnet_fma"(float a, float b, float c) noexcept
    double double_from_bits "cnet_double_from_bits"(int64_t bits) noexcept
    int64_t double_to_bits "cnet_double_to_bits"(double value) noexcept


cdef inline float power_of_2(int32_t n) noexcept nogil:
    """2^n for n from -126 to 127, built from its exponent bits."""
    return float_from_bits((n + 127) << 23)


# Adding 1.5 * 2^23 rounds a number to an integer, which is then in the last bits; subtracting it again
# leaves the integer.
cdef enum:
    ROUNDER = 12582912


cdef inline int32_t reduce_exp_argument(float x, float* r) noexcept nogil:
    """n and r with x = n log 2 + r and abs(r) <= log(2) / 2.

    log 2 is split into two parts. The product of n and the first part is exact.
    """
    cdef float shifted = x * <float>1.44269504088896341 + <float>ROUNDER
    cdef float n = shifted - <float>ROUNDER
    r[0] = (x - n * <float>0.693359375) - n * <float>-2.12194440e-4
    return float_to_bits(shifted) - float_to_bits(<float>ROUNDER)


cdef inline float expm1_reduced(float r) noexcept nogil:
    """exp(r) - 1 for abs(r) <= log(2) / 2; least-squares minimax fit, relative error 3e-9."""
    return r + r * r * (
        <float>0.49999994 + r * (<float>0.1666652 + r * (<float>0.04166839 + r * (
            <float>0.00836878 + r * <float>0.0013814465))))


cdef inline float exp_f32(float x) noexcept nogil:
    """exp(x) for all x, including results of 0 and infinity."""
    # Outside these bounds the result is 0 or infinite anyway. NaN passes both comparisons unchanged.
    cdef float bounded = -104 if x < -104 else x
    bounded = 89 if bounded > 89 else bounded
    cdef float r
    cdef int32_t n = reduce_exp_argument(bounded, &r), half = n >> 1
    # Two factors, because 2^n itself may be subnormal or infinite even if the result is not.
    return (<float>1 + expm1_reduced(r)) * power_of_2(half) * power_of_2(n - half)


cdef inline float expm1_f32(float x) noexcept nogil:
    """exp(x) - 1 to full relative precision for x <= 88; constant above 88."""
    cdef float bounded = -104 if x < -104 else x
    bounded = 88 if bounded > 88 else bounded
    cdef float r
    cdef int32_t n = reduce_exp_argument(bounded, &r)
    cdef float scale = power_of_2(-126 if n < -126 else n)
    return scale * expm1_reduced(r) + (scale - <float>1)


cdef inline float log_f32(float x) noexcept nogil:
    """log(x) for normal positive x; -infinity for 0; NaN and infinity unchanged.

    Computes log(2^n (1 + f)) from atanh(f / (2 + f)), with the coefficients of FreeBSD's logf.
    """
    cdef int32_t bits = float_to_bits(x), n
    # Choose n so that the mantissa is in [sqrt(1/2), sqrt(2)).
    n = (bits - 0x3F3504F3) >> 23
    cdef float f = float_from_bits(bits - (n << 23)) - <float>1
    cdef float s = f / (<float>2 + f), z = s * s, half_square = <float>0.5 * f * f
    cdef float series = <float>0.66666662693 + z * (<float>0.40000972152 + z * (
        <float>0.28498786688 + z * <float>0.24279078841))
    cdef float lowest = fma_f32(s, fma_f32(z, series, half_square), n * <float>9.0580006145e-06)
    cdef float rest = fma_f32(<float>0.5 * f, f, -lowest) - f
    cdef float result = fma_f32(n, <float>0.69313812256, -rest)
    result = -math.HUGE_VALF if x == 0 else result
    return result if x <= FLT_MAX else x


cdef inline double exp_f64(double x) noexcept nogil:
    """exp(x) for all x, including results of 0 and infinity; by the Taylor series to degree 13."""
    cdef double bounded = -746 if x < -746 else x
    bounded = 710 if bounded > 710 else bounded
    # Adding 1.5 * 2^52 rounds a number to an integer, which is then in the last bits; see ROUNDER.
    cdef double rounder = 6755399441055744
    cdef double n = (bounded * 1.4426950408889634 + rounder) - rounder
    cdef double half = n * 0.5 + rounder, rest = n - (half - rounder) + rounder
    cdef double r = (bounded - n * 0.693145751953125) - n * 1.42860682030941723212e-6
    # Separate sums of even and odd powers halve the dependency chain, whose latency limits narrow layers.
    cdef double r2 = r * r
    cdef double even = 1 + r2 * (1.0 / 2 + r2 * (1.0 / 24 + r2 * (1.0 / 720 + r2 * (
        1.0 / 40320 + r2 * (1.0 / 3628800 + r2 * (1.0 / 479001600.0))))))
    cdef double odd = 1 + r2 * (1.0 / 6 + r2 * (1.0 / 120 + r2 * (1.0 / 5040 + r2 * (
        1.0 / 362880 + r2 * (1.0 / 39916800 + r2 * (1.0 / 6227020800.0))))))
    cdef double p = even + r * odd
    # Two factors, because 2^n itself may be subnormal or infinite even if the result is not.
    return (
        p * double_from_bits((double_to_bits(half) - double_to_bits(rounder) + 1023) << 52)
        * double_from_bits((double_to_bits(rest) - double_to_bits(rounder) + 1023) << 52))


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
    """log(1 + x) for 0 <= x <= 1."""
    cdef real sum
    if real is float:
        # The second term corrects the rounding error of 1 + x to first order.
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
