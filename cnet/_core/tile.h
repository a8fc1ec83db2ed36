/* The register tile of the matrix product, the one loop that plain C leaves scalar.
 *
 * A tile is up to TILE_ROWS rows by two vectors of C, held in registers while it runs over k:
 *
 *     C[i, j] (+)= sum over p of A[i, p] * B[p, j]
 *
 * A is read through two strides, so A and its transpose cost the same. B is read a row of two whole
 * vectors at a time: its rows must be contiguous and as wide as the tile, which the panels of gemm.pxd
 * see to. GCC and Clang vector types let the compiler pick the instructions of its target.
 */
#ifndef CNET_TILE_H
#define CNET_TILE_H

#include <stddef.h>

#if defined(__AVX512F__)
#define CNET_VECTOR_BYTES 64
#elif defined(__AVX__)
#define CNET_VECTOR_BYTES 32
#else
#define CNET_VECTOR_BYTES 16
#endif

/* 6 x 2 accumulators, 2 vectors of B and a broadcast A fill 15 of 16 registers. */
#define TILE_ROWS 6
#define TILE_COLUMNS_F32 (2 * CNET_VECTOR_BYTES / 4)
#define TILE_COLUMNS_F64 (2 * CNET_VECTOR_BYTES / 8)

/* Aligned as their elements: rows start anywhere. */
typedef float vector_f32
    __attribute__((vector_size(CNET_VECTOR_BYTES), aligned(4), may_alias));
typedef double vector_f64
    __attribute__((vector_size(CNET_VECTOR_BYTES), aligned(8), may_alias));

/* rows must be a constant at each call, so that `sum` lives in registers. */
#define CNET_DEFINE_TILE(NAME, T, V)                                                              \
    static inline __attribute__((always_inline)) void NAME##_of_rows(                             \
        const int rows, ptrdiff_t depth, const T *a, ptrdiff_t a_row, ptrdiff_t a_column,         \
        const T *b, ptrdiff_t b_row, T *c, ptrdiff_t c_row, int accumulate)                       \
    {                                                                                             \
        enum { LANES = sizeof(V) / sizeof(T) };                                                   \
        V sum[TILE_ROWS][2];                                                                      \
        for (int i = 0; i < rows; i++) {                                                          \
            sum[i][0] = accumulate ? *(const V *)(c + i * c_row) : (V){0};                        \
            sum[i][1] = accumulate ? *(const V *)(c + i * c_row + LANES) : (V){0};                \
        }                                                                                         \
        for (ptrdiff_t p = 0; p < depth; p++) {                                                   \
            const V b0 = *(const V *)b, b1 = *(const V *)(b + LANES);                             \
            for (int i = 0; i < rows; i++) {                                                      \
                const T a_ip = a[i * a_row];                                                      \
                sum[i][0] += a_ip * b0;                                                           \
                sum[i][1] += a_ip * b1;                                                           \
            }                                                                                     \
            a += a_column;                                                                        \
            b += b_row;                                                                           \
        }                                                                                         \
        for (int i = 0; i < rows; i++) {                                                          \
            *(V *)(c + i * c_row) = sum[i][0];                                                    \
            *(V *)(c + i * c_row + LANES) = sum[i][1];                                            \
        }                                                                                         \
    }                                                                                             \
                                                                                                  \
    static void NAME(ptrdiff_t rows, ptrdiff_t depth, const T *a, ptrdiff_t a_row,                \
                     ptrdiff_t a_column, const T *b, ptrdiff_t b_row, T *c, ptrdiff_t c_row,      \
                     int accumulate)                                                              \
    {                                                                                             \
        switch (rows) {                                                                           \
        case 1: NAME##_of_rows(1, depth, a, a_row, a_column, b, b_row, c, c_row, accumulate); break; \
        case 2: NAME##_of_rows(2, depth, a, a_row, a_column, b, b_row, c, c_row, accumulate); break; \
        case 3: NAME##_of_rows(3, depth, a, a_row, a_column, b, b_row, c, c_row, accumulate); break; \
        case 4: NAME##_of_rows(4, depth, a, a_row, a_column, b, b_row, c, c_row, accumulate); break; \
        case 5: NAME##_of_rows(5, depth, a, a_row, a_column, b, b_row, c, c_row, accumulate); break; \
        default: NAME##_of_rows(6, depth, a, a_row, a_column, b, b_row, c, c_row, accumulate);    \
        }                                                                                         \
    }

CNET_DEFINE_TILE(tile_f32, float, vector_f32)
CNET_DEFINE_TILE(tile_f64, double, vector_f64)

#endif
