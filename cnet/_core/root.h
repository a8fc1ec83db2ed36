/* 1 / (sqrt(v) scale + epsilon), by which the adaptive optimizers multiply their steps.
 *
 * In float32 the processor's estimates of a reciprocal root and of a reciprocal, each made good to about
 * 2 ulp by one step of Newton's method, take half the time of a square root and a division, which moreover
 * stumble over subnormal numbers. There are no such estimates in float64 below AVX-512.
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

/* In place, and in whole vectors: what lies after the n values, to the next multiple of 16, is lost. */
static inline void reciprocal_root_f32(ptrdiff_t n, float *v, float scale, float epsilon)
{
    enum { lanes = sizeof(root_vector) / sizeof(float) };
    /* Of zero and of subnormal numbers the estimate is infinite. A NaN, second, comes through. */
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
