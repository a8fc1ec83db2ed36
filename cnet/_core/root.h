/* 1 / (sqrt(v) scale + epsilon), the factor by which the adaptive optimizers multiply their steps.
 *
 * In float32 this uses the processor's estimates of the reciprocal square root and the reciprocal. One step
 * of Newton's method refines each to about 2 ulp. This takes half the time of a square root and a division,
 * which are also slow on subnormal numbers. Without AVX-512 there are no such estimates for float64.
 */
#ifndef CNET_ROOT_H
#define CNET_ROOT_H

#include <float.h>
#include <math.h>
#include <stddef.h>

#if defined(__AVX512F__) || defined(__AVX__) || defined(__SSE__)
#include <immintrin.h>
#if defined(__AVX512F__)
#define CNET_ROOT_SIMD(operation) _mm512_##operation
#define CNET_ROOT_ESTIMATE(operation) _mm512_##operation##14_ps
typedef __m512 root_vector;
#elif defined(__AVX__)
#define CNET_ROOT_SIMD(operation) _mm256_##operation
#define CNET_ROOT_ESTIMATE(operation) _mm256_##operation##_ps
typedef __m256 root_vector;
#else
#define CNET_ROOT_SIMD(operation) _mm_##operation
#define CNET_ROOT_ESTIMATE(operation) _mm_##operation##_ps
typedef __m128 root_vector;
#endif

/* Works in place on whole vectors: values after the first n, up to the next multiple of 16, are overwritten. */
static inline void reciprocal_root_f32(ptrdiff_t n, float *v, float scale, float epsilon)
{
    enum { lanes = sizeof(root_vector) / sizeof(float) };
    /* Clamp zero and subnormal numbers, whose estimate is infinite. Max returns its second operand if one is
     * NaN, so NaN is preserved. */
    const root_vector least = CNET_ROOT_SIMD(set1_ps)(FLT_MIN);
    for (ptrdiff_t i = 0; i < n; i += lanes) {
        root_vector v_i = CNET_ROOT_SIMD(max_ps)(least, CNET_ROOT_SIMD(loadu_ps)(v + i));
        root_vector r = CNET_ROOT_ESTIMATE(rsqrt)(v_i);
        root_vector root = v_i * r;
        root += 0.5f * root * (1.0f - root * r);
        root_vector divisor = root * scale + epsilon;
        root_vector reciprocal = CNET_ROOT_ESTIMATE(rcp)(divisor);
        reciprocal += reciprocal * (1.0f - divisor * reciprocal);
        CNET_ROOT_SIMD(storeu_ps)(v + i, reciprocal);
    }
}
#else
static inline void reciprocal_root_f32(ptrdiff_t n, float *v, float scale, float epsilon)
{
    for (ptrdiff_t i = 0; i < n; i++)
        v[i] = 1.0f / (sqrtf(v[i]) * scale + epsilon);
}
#endif

static inline void reciprocal_root_f64(ptrdiff_t n, double *v, double scale, double epsilon)
{
    for (ptrdiff_t i = 0; i < n; i++)
        v[i] = 1.0 / (sqrt(v[i]) * scale + epsilon);
}

#endif
