/* The register tiles of the matrix product, the one loop that plain C leaves scalar.
 *
 * A tile is a few rows by one or two vectors of C, held in registers while it runs over k:
 *
 *     C[i, j] (+)= sum over p of A[i, p] * B[p, j]
 *
 * A is read through two strides, so A and its transpose cost the same. B is read in rows of whole
 * vectors, which must be contiguous: the panels of gemm.pxd see to that. The widest tile, two full
 * vectors, does most of the work; where fewer columns are left, one vector of full, half or quarter
 * width wastes less. GCC and Clang vector types let the compiler pick the instructions of its target.
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
#define CNET_HALF_BYTES (CNET_VECTOR_BYTES > 16 ? CNET_VECTOR_BYTES / 2 : 16)
#define CNET_QUARTER_BYTES (CNET_VECTOR_BYTES > 32 ? CNET_VECTOR_BYTES / 4 : 16)

/* 6 x 2 accumulators, 2 vectors of B and a broadcast A fill 15 of 16 registers; one vector wide, 8
 * accumulators hide the latency of a sum. */
#define TILE_ROWS_WIDE 6
#define TILE_ROWS_NARROW 8

#define CNET_TILE_CASE(NAME, ROWS)                                                                \
    case ROWS:                                                                                    \
        if (accumulate)                                                                           \
            NAME##_of_rows(ROWS, depth, a, a_row, a_column, b, b_row, c, c_row, 1);               \
        else                                                                                      \
            NAME##_of_rows(ROWS, depth, a, a_row, a_column, b, b_row, c, c_row, 0);               \
        return

/* Vectors are aligned as their elements, for rows start anywhere; `rows` is a constant at each call, so
 * that `sum` lives in registers. */
#define CNET_DEFINE_TILE(NAME, T, BYTES, VECTORS)                                                 \
    typedef T NAME##_vector __attribute__((vector_size(BYTES), aligned(sizeof(T)), may_alias));   \
    enum { NAME##_lanes = (BYTES) / sizeof(T), NAME##_width = (VECTORS) * NAME##_lanes };         \
                                                                                                  \
    static inline __attribute__((always_inline)) void NAME##_of_rows(                             \
        const int rows, ptrdiff_t depth, const T *a, ptrdiff_t a_row, ptrdiff_t a_column,         \
        const T *b, ptrdiff_t b_row, T *c, ptrdiff_t c_row, const int accumulate)                 \
    {                                                                                             \
        NAME##_vector sum[TILE_ROWS_NARROW][VECTORS];                                             \
        for (int i = 0; i < rows; i++)                                                            \
            for (int v = 0; v < (VECTORS); v++)                                                   \
                sum[i][v] = accumulate                                                            \
                    ? *(const NAME##_vector *)(c + i * c_row + v * NAME##_lanes)                  \
                    : (NAME##_vector){0};                                                         \
        for (ptrdiff_t p = 0; p < depth; p++) {                                                   \
            NAME##_vector b_p[VECTORS];                                                           \
            for (int v = 0; v < (VECTORS); v++)                                                   \
                b_p[v] = *(const NAME##_vector *)(b + v * NAME##_lanes);                          \
            for (int i = 0; i < rows; i++) {                                                      \
                const T a_ip = a[i * a_row];                                                      \
                for (int v = 0; v < (VECTORS); v++)                                               \
                    sum[i][v] += a_ip * b_p[v];                                                   \
            }                                                                                     \
            a += a_column;                                                                        \
            b += b_row;                                                                           \
        }                                                                                         \
        for (int i = 0; i < rows; i++)                                                            \
            for (int v = 0; v < (VECTORS); v++)                                                   \
                *(NAME##_vector *)(c + i * c_row + v * NAME##_lanes) = sum[i][v];                 \
    }                                                                                             \
                                                                                                  \
    static void NAME(ptrdiff_t rows, ptrdiff_t depth, const T *a, ptrdiff_t a_row,                \
                     ptrdiff_t a_column, const T *b, ptrdiff_t b_row, T *c, ptrdiff_t c_row,      \
                     int accumulate)                                                              \
    {                                                                                             \
        switch (rows) {                                                                           \
            CNET_TILE_CASE(NAME, 1);                                                              \
            CNET_TILE_CASE(NAME, 2);                                                              \
            CNET_TILE_CASE(NAME, 3);                                                              \
            CNET_TILE_CASE(NAME, 4);                                                              \
            CNET_TILE_CASE(NAME, 5);                                                              \
            CNET_TILE_CASE(NAME, 6);                                                              \
            CNET_TILE_CASE(NAME, 7);                                                              \
            CNET_TILE_CASE(NAME, 8);                                                              \
        }                                                                                         \
    }

CNET_DEFINE_TILE(tile_wide_f32, float, CNET_VECTOR_BYTES, 2)
CNET_DEFINE_TILE(tile_full_f32, float, CNET_VECTOR_BYTES, 1)
CNET_DEFINE_TILE(tile_half_f32, float, CNET_HALF_BYTES, 1)
CNET_DEFINE_TILE(tile_quarter_f32, float, CNET_QUARTER_BYTES, 1)
CNET_DEFINE_TILE(tile_wide_f64, double, CNET_VECTOR_BYTES, 2)
CNET_DEFINE_TILE(tile_full_f64, double, CNET_VECTOR_BYTES, 1)
CNET_DEFINE_TILE(tile_half_f64, double, CNET_HALF_BYTES, 1)
CNET_DEFINE_TILE(tile_quarter_f64, double, CNET_QUARTER_BYTES, 1)

/* The width of the tile for so many columns left, and the tile of that width. */
#define CNET_DEFINE_CHOICE(SUFFIX, T)                                                             \
    static inline ptrdiff_t tile_width_##SUFFIX(ptrdiff_t columns)                                \
    {                                                                                             \
        if (columns > tile_full_##SUFFIX##_width) return tile_wide_##SUFFIX##_width;              \
        if (columns > tile_half_##SUFFIX##_width) return tile_full_##SUFFIX##_width;              \
        if (columns > tile_quarter_##SUFFIX##_width) return tile_half_##SUFFIX##_width;           \
        return tile_quarter_##SUFFIX##_width;                                                     \
    }                                                                                             \
                                                                                                  \
    static inline void tile_##SUFFIX(ptrdiff_t width, ptrdiff_t rows, ptrdiff_t depth,            \
                                     const T *a, ptrdiff_t a_row, ptrdiff_t a_column,             \
                                     const T *b, ptrdiff_t b_row, T *c, ptrdiff_t c_row,          \
                                     int accumulate)                                              \
    {                                                                                             \
        if (width == tile_wide_##SUFFIX##_width)                                                  \
            tile_wide_##SUFFIX(rows, depth, a, a_row, a_column, b, b_row, c, c_row, accumulate);  \
        else if (width == tile_full_##SUFFIX##_width)                                             \
            tile_full_##SUFFIX(rows, depth, a, a_row, a_column, b, b_row, c, c_row, accumulate);  \
        else if (width == tile_half_##SUFFIX##_width)                                             \
            tile_half_##SUFFIX(rows, depth, a, a_row, a_column, b, b_row, c, c_row, accumulate);  \
        else                                                                                      \
            tile_quarter_##SUFFIX(rows, depth, a, a_row, a_column, b, b_row, c, c_row, accumulate);\
    }

CNET_DEFINE_CHOICE(f32, float)
CNET_DEFINE_CHOICE(f64, double)

#endif
