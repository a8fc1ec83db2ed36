/* The register tiles of the matrix product, the one loop that compilers do not vectorise in plain C.
 *
 * A tile is a few rows by one or two vectors of C. It stays in registers during the loop over k:
 *
 *     C[i, j] = S[i, j] + sum over p of A[i, p] * B[p, j]
 *
 * S is C itself (to accumulate), one row of biases with a stride of 0, or a row of zeros. A has two strides,
 * so A and its transpose cost the same. Rows of B are read in whole vectors and must be contiguous; the
 * panels of gemm.pxd ensure this. The widest tile, two full vectors, does most of the work. If fewer columns
 * remain, a single vector of full, half or quarter width wastes less. With GCC and Clang vector types, the
 * compiler chooses the instructions for its target.
 */
#ifndef CNET_TILE_H
#define CNET_TILE_H

#include <stddef.h>
#include <string.h>

/* A matrix to read. Element (i, j) is data[i * row_stride + j * column_stride]. */
typedef struct Matrix {
    const void *data;
    ptrdiff_t row_stride, column_stride;
} Matrix;

/* C = S + A B. A is m x k, B is k x n; the rows of C are contiguous, `ldc` elements apart. */
typedef struct Product {
    ptrdiff_t m, n, k;
    Matrix a, b, s;
    void *c;
    ptrdiff_t ldc;
} Product;

/* An inlined memcpy: for the few bytes of a narrow row, a call takes longer than the copying. */
static inline __attribute__((always_inline)) void copy_few(void *to, const void *from, size_t bytes)
{
    char *t = to;
    const char *f = from;
    if (bytes >= 16) {
        for (size_t done = 0; done < bytes - 16; done += 16) {
            memcpy(t + done, f + done, 16);
            __asm__("" : "+r"(t)); /* keeps the compiler from calling memcpy for the loop */
        }
        memcpy(t + bytes - 16, f + bytes - 16, 16); /* may overlap the previous copy */
    } else if (bytes >= 8) {
        memcpy(t, f, 8);
        memcpy(t + bytes - 8, f + bytes - 8, 8);
    } else {
        memcpy(t, f, 4);
    }
}

/* Prefetch memory that will be read soon. */
static inline void prefetch(const void *from, size_t bytes)
{
    for (size_t done = 0; done < bytes; done += 64)
        __builtin_prefetch((const char *)from + done);
}

#if defined(__AVX512F__)
#define CNET_VECTOR_BYTES 64
#elif defined(__AVX__)
#define CNET_VECTOR_BYTES 32
#else
#define CNET_VECTOR_BYTES 16
#endif
#define CNET_HALF_BYTES (CNET_VECTOR_BYTES > 16 ? CNET_VECTOR_BYTES / 2 : 16)
#define CNET_QUARTER_BYTES (CNET_VECTOR_BYTES > 32 ? CNET_VECTOR_BYTES / 4 : 16)

/* 6 x 2 accumulators, 2 vectors of B and a broadcast element of A fill 15 of 16 registers. In tiles of one
 * vector, 8 accumulators hide the latency of an addition. */
#define TILE_ROWS_WIDE 6
#define TILE_ROWS_NARROW 8

/* Vectors are aligned like their elements, because rows can start at any element. `rows` is a constant at
 * each call, so that `sum` stays in registers. */
#define CNET_DEFINE_ROWS(NAME, T, BYTES, VECTORS)                                                 \
    typedef T NAME##_vector __attribute__((vector_size(BYTES), aligned(sizeof(T)), may_alias));   \
    enum { NAME##_lanes = (BYTES) / sizeof(T), NAME##_width = (VECTORS) * NAME##_lanes };         \
                                                                                                  \
    static inline __attribute__((always_inline)) void NAME##_of_rows(                             \
        const int rows, ptrdiff_t k, Matrix A, Matrix B, Matrix S, T *c, ptrdiff_t ldc)           \
    {                                                                                             \
        const T *a = A.data, *b = B.data, *s = S.data;                                            \
        NAME##_vector sum[TILE_ROWS_NARROW][VECTORS];                                             \
        for (int i = 0; i < rows; i++)                                                            \
            for (int v = 0; v < (VECTORS); v++)                                                   \
                sum[i][v] = *(const NAME##_vector *)(s + i * S.row_stride + v * NAME##_lanes);    \
        for (ptrdiff_t p = 0; p < k; p++) {                                                       \
            NAME##_vector b_p[VECTORS];                                                           \
            for (int v = 0; v < (VECTORS); v++)                                                   \
                b_p[v] = *(const NAME##_vector *)(b + v * NAME##_lanes);                          \
            for (int i = 0; i < rows; i++) {                                                      \
                const T a_ip = a[i * A.row_stride];                                               \
                for (int v = 0; v < (VECTORS); v++)                                               \
                    sum[i][v] += a_ip * b_p[v];                                                   \
            }                                                                                     \
            a += A.column_stride;                                                                 \
            b += B.row_stride;                                                                    \
        }                                                                                         \
        for (int i = 0; i < rows; i++)                                                            \
            for (int v = 0; v < (VECTORS); v++)                                                   \
                *(NAME##_vector *)(c + i * ldc + v * NAME##_lanes) = sum[i][v];                   \
    }

#define CNET_TILE_REST(NAME, ROWS)                                                                \
    case ROWS:                                                                                    \
        NAME##_of_rows(ROWS, product->k, A, product->b, S, c, ldc);                               \
        return

/* Any number of rows, `ROWS` at a time, by exactly the width of the tile. */
#define CNET_DEFINE_TILE(NAME, T, BYTES, VECTORS, ROWS)                                           \
    CNET_DEFINE_ROWS(NAME, T, BYTES, VECTORS)                                                     \
                                                                                                  \
    static void NAME(const Product *product)                                                      \
    {                                                                                             \
        Matrix A = product->a, S = product->s;                                                    \
        T *c = product->c;                                                                        \
        ptrdiff_t m = product->m;                                                                 \
        const ptrdiff_t ldc = product->ldc;                                                       \
        for (; m >= ROWS; m -= ROWS) {                                                            \
            NAME##_of_rows(ROWS, product->k, A, product->b, S, c, ldc);                           \
            A.data = (const T *)A.data + ROWS * A.row_stride;                                     \
            S.data = (const T *)S.data + ROWS * S.row_stride;                                     \
            c += ROWS * ldc;                                                                      \
        }                                                                                         \
        switch (m) {                                                                              \
            CNET_TILE_REST(NAME, 1);                                                              \
            CNET_TILE_REST(NAME, 2);                                                              \
            CNET_TILE_REST(NAME, 3);                                                              \
            CNET_TILE_REST(NAME, 4);                                                              \
            CNET_TILE_REST(NAME, 5);                                                              \
            CNET_TILE_REST(NAME, 6);                                                              \
            CNET_TILE_REST(NAME, 7);                                                              \
        }                                                                                         \
    }

CNET_DEFINE_TILE(tile_wide_f32, float, CNET_VECTOR_BYTES, 2, TILE_ROWS_WIDE)
CNET_DEFINE_TILE(tile_full_f32, float, CNET_VECTOR_BYTES, 1, TILE_ROWS_NARROW)
CNET_DEFINE_TILE(tile_half_f32, float, CNET_HALF_BYTES, 1, TILE_ROWS_NARROW)
CNET_DEFINE_TILE(tile_quarter_f32, float, CNET_QUARTER_BYTES, 1, TILE_ROWS_NARROW)
CNET_DEFINE_TILE(tile_wide_f64, double, CNET_VECTOR_BYTES, 2, TILE_ROWS_WIDE)
CNET_DEFINE_TILE(tile_full_f64, double, CNET_VECTOR_BYTES, 1, TILE_ROWS_NARROW)
CNET_DEFINE_TILE(tile_half_f64, double, CNET_HALF_BYTES, 1, TILE_ROWS_NARROW)
CNET_DEFINE_TILE(tile_quarter_f64, double, CNET_QUARTER_BYTES, 1, TILE_ROWS_NARROW)

/* The width of the tile for the remaining columns; and products that are as wide as a tile, of any number
 * of rows and of one row. */
#define CNET_DEFINE_CHOICE(SUFFIX, T)                                                             \
    static inline ptrdiff_t tile_width_##SUFFIX(ptrdiff_t columns)                                \
    {                                                                                             \
        if (columns > tile_full_##SUFFIX##_width) return tile_wide_##SUFFIX##_width;              \
        if (columns > tile_half_##SUFFIX##_width) return tile_full_##SUFFIX##_width;              \
        if (columns > tile_quarter_##SUFFIX##_width) return tile_half_##SUFFIX##_width;           \
        return tile_quarter_##SUFFIX##_width;                                                     \
    }                                                                                             \
                                                                                                  \
    static inline void tile_##SUFFIX(const Product *product)                                      \
    {                                                                                             \
        if (product->n == tile_wide_##SUFFIX##_width)                                             \
            tile_wide_##SUFFIX(product);                                                          \
        else if (product->n == tile_full_##SUFFIX##_width)                                        \
            tile_full_##SUFFIX(product);                                                          \
        else if (product->n == tile_half_##SUFFIX##_width)                                        \
            tile_half_##SUFFIX(product);                                                          \
        else                                                                                      \
            tile_quarter_##SUFFIX(product);                                                       \
    }                                                                                             \
                                                                                                  \
    static inline __attribute__((always_inline)) void tile_row_##SUFFIX(                          \
        ptrdiff_t width, ptrdiff_t k, Matrix A, Matrix B, Matrix S, T *c)                         \
    {                                                                                             \
        if (width == tile_wide_##SUFFIX##_width)                                                  \
            tile_wide_##SUFFIX##_of_rows(1, k, A, B, S, c, 0);                                    \
        else if (width == tile_full_##SUFFIX##_width)                                             \
            tile_full_##SUFFIX##_of_rows(1, k, A, B, S, c, 0);                                    \
        else if (width == tile_half_##SUFFIX##_width)                                             \
            tile_half_##SUFFIX##_of_rows(1, k, A, B, S, c, 0);                                    \
        else                                                                                      \
            tile_quarter_##SUFFIX##_of_rows(1, k, A, B, S, c, 0);                                 \
    }

CNET_DEFINE_CHOICE(f32, float)
CNET_DEFINE_CHOICE(f64, double)

/* A row of zeros, the initial sums of the widest tile. */
static const float tile_zeros_f32[8 * CNET_VECTOR_BYTES / sizeof(float)];
static const double tile_zeros_f64[8 * CNET_VECTOR_BYTES / sizeof(double)];

/* C = S + A B for a single row of A, in tiles that are wider instead of higher; S may be NULL. If B is
 * padded, up to two vectors after its last element are read; they do not affect the result. The same holds
 * for S if it follows B, as biases follow their weights: a copy would delay the first sum. */
CNET_DEFINE_ROWS(tile_eight_f32, float, CNET_VECTOR_BYTES, 8)
CNET_DEFINE_ROWS(tile_four_f32, float, CNET_VECTOR_BYTES, 4)
CNET_DEFINE_ROWS(tile_eight_f64, double, CNET_VECTOR_BYTES, 8)
CNET_DEFINE_ROWS(tile_four_f64, double, CNET_VECTOR_BYTES, 4)

#define CNET_DEFINE_ROW(SUFFIX, T)                                                                \
    static void multiply_row_##SUFFIX(ptrdiff_t n, ptrdiff_t k, const T *a, const T *b, ptrdiff_t ldb,\
                                      int b_padded, const T *s, T *c)                             \
    {                                                                                             \
        const Matrix A = {a, 0, 1};                                                               \
        ptrdiff_t j = 0, width;                                                                   \
        for (; n - j >= tile_eight_##SUFFIX##_width; j += tile_eight_##SUFFIX##_width) {          \
            const Matrix B = {b + j, ldb, 1}, S = {s ? s + j : tile_zeros_##SUFFIX, 0, 1};        \
            tile_eight_##SUFFIX##_of_rows(1, k, A, B, S, c + j, 0);                               \
        }                                                                                         \
        if (n - j >= tile_four_##SUFFIX##_width) {                                                \
            const Matrix B = {b + j, ldb, 1}, S = {s ? s + j : tile_zeros_##SUFFIX, 0, 1};        \
            tile_four_##SUFFIX##_of_rows(1, k, A, B, S, c + j, 0);                                \
            j += tile_four_##SUFFIX##_width;                                                      \
        }                                                                                         \
        for (; j < n; j += width) {                                                               \
            T edge[2 * CNET_VECTOR_BYTES / sizeof(T)];                                            \
            const T *start = s ? s + j : tile_zeros_##SUFFIX;                                     \
            width = tile_width_##SUFFIX(n - j);                                                   \
            if (width > n - j && !b_padded)                                                       \
                width = n - j < tile_quarter_##SUFFIX##_width ? 1 : tile_quarter_##SUFFIX##_width;\
            if (width == 1) {                                                                     \
                T sum = start[0];                                                                 \
                for (ptrdiff_t p = 0; p < k; p++)                                                 \
                    sum += a[p] * b[p * ldb + j];                                                 \
                c[j] = sum;                                                                       \
            } else {                                                                              \
                T *to = c + j;                                                                    \
                if (width > n - j) {                                                              \
                    to = edge;                                                                    \
                    if (s && s != b + k * ldb) {                                                  \
                        copy_few(edge, start, (n - j) * sizeof(T));                               \
                        start = edge;                                                             \
                    }                                                                             \
                }                                                                                 \
                const Matrix B = {b + j, ldb, 1}, S = {start, 0, 1};                              \
                tile_row_##SUFFIX(width, k, A, B, S, to);                                         \
                if (to == edge)                                                                   \
                    copy_few(c + j, edge, (n - j) * sizeof(T));                                   \
            }                                                                                     \
        }                                                                                         \
    }

CNET_DEFINE_ROW(f32, float)
CNET_DEFINE_ROW(f64, double)

/* Copies contiguous columns of B, with B[p, j] at b[p + j * ldb], into a panel with rows of `width`
 * elements. Blocks of 4 x 4 are transposed in registers, and remaining elements are copied one by one. */
#if defined(__clang__) || __GNUC__ >= 12
#define CNET_SHUFFLE(x, y, a, b, c, d) __builtin_shufflevector(x, y, a, b, c, d)
#else
#define CNET_SHUFFLE(x, y, a, b, c, d) __builtin_shuffle(x, y, (__typeof__((x) < (y))){a, b, c, d})
#endif

#define CNET_DEFINE_TRANSPOSE(SUFFIX, T)                                                          \
    typedef T four_##SUFFIX __attribute__((vector_size(4 * sizeof(T))));                          \
    typedef T four_in_memory_##SUFFIX                                                             \
        __attribute__((vector_size(4 * sizeof(T)), aligned(sizeof(T)), may_alias));               \
                                                                                                  \
    static void pack_transposed_##SUFFIX(ptrdiff_t depth, ptrdiff_t columns, ptrdiff_t width,     \
                                         const T *b, ptrdiff_t ldb, T *panel)                     \
    {                                                                                             \
        const ptrdiff_t whole_columns = columns & ~(ptrdiff_t)3, whole_depth = depth & ~(ptrdiff_t)3;\
        for (ptrdiff_t j = 0; j < whole_columns; j += 4) {                                        \
            const T *from = b + j * ldb;                                                          \
            for (ptrdiff_t p = 0; p < whole_depth; p += 4) {                                      \
                four_##SUFFIX r0 = *(const four_in_memory_##SUFFIX *)(from + p);                  \
                four_##SUFFIX r1 = *(const four_in_memory_##SUFFIX *)(from + p + ldb);            \
                four_##SUFFIX r2 = *(const four_in_memory_##SUFFIX *)(from + p + 2 * ldb);        \
                four_##SUFFIX r3 = *(const four_in_memory_##SUFFIX *)(from + p + 3 * ldb);        \
                four_##SUFFIX low_01 = CNET_SHUFFLE(r0, r1, 0, 4, 1, 5);                          \
                four_##SUFFIX low_23 = CNET_SHUFFLE(r2, r3, 0, 4, 1, 5);                          \
                four_##SUFFIX high_01 = CNET_SHUFFLE(r0, r1, 2, 6, 3, 7);                         \
                four_##SUFFIX high_23 = CNET_SHUFFLE(r2, r3, 2, 6, 3, 7);                         \
                T *to = panel + p * width + j;                                                    \
                *(four_in_memory_##SUFFIX *)to = CNET_SHUFFLE(low_01, low_23, 0, 1, 4, 5);        \
                *(four_in_memory_##SUFFIX *)(to + width) = CNET_SHUFFLE(low_01, low_23, 2, 3, 6, 7);\
                *(four_in_memory_##SUFFIX *)(to + 2 * width) = CNET_SHUFFLE(high_01, high_23, 0, 1, 4, 5);\
                *(four_in_memory_##SUFFIX *)(to + 3 * width) = CNET_SHUFFLE(high_01, high_23, 2, 3, 6, 7);\
            }                                                                                     \
        }                                                                                         \
        for (ptrdiff_t p = 0; p < depth; p++) {                                                   \
            for (ptrdiff_t j = p < whole_depth ? whole_columns : 0; j < columns; j++)             \
                panel[p * width + j] = b[p + j * ldb];                                            \
            for (ptrdiff_t j = columns; j < width; j++)                                           \
                panel[p * width + j] = 0;                                                         \
        }                                                                                         \
    }

CNET_DEFINE_TRANSPOSE(f32, float)
CNET_DEFINE_TRANSPOSE(f64, double)

/* C = S + A B'. A is m x k and B is n x k, both with contiguous rows, which are long and consist of whole
 * vectors. Computes four sums at once, each in four or eight parts, which are added at the end. S may be
 * NULL or C. */
#define CNET_DEFINE_SUMS(SUFFIX, T)                                                               \
    static void multiply_transposed_##SUFFIX(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const T *a,   \
                                             const T *b, const T *s, T *c)                        \
    {                                                                                             \
        enum { lanes = sizeof(T) == 4 && CNET_VECTOR_BYTES > 16 ? 8 : 4 };                        \
        typedef T vector __attribute__((vector_size(lanes * sizeof(T)), aligned(sizeof(T)), may_alias));\
        for (ptrdiff_t i = 0; i < m; i++, a += k) {                                               \
            for (ptrdiff_t j = 0; j < n; j += 4) {                                                \
                const ptrdiff_t last = n - 1 - j, few = last * sizeof(T) + sizeof(T);             \
                const T *b_0 = b + j * k, *b_1 = b_0 + (last < 1 ? last : 1) * k;                 \
                const T *b_2 = b_0 + (last < 2 ? last : 2) * k;                                   \
                const T *b_3 = b_0 + (last < 3 ? last : 3) * k;                                   \
                union { vector all; four_##SUFFIX part[lanes / 4]; } t_0, t_1, t_2, t_3;          \
                vector s_0 = {0}, s_1 = {0}, s_2 = {0}, s_3 = {0};                                \
                for (ptrdiff_t p = 0; p < k; p += lanes) {                                        \
                    const vector a_p = *(const vector *)(a + p);                                  \
                    s_0 += a_p * *(const vector *)(b_0 + p);                                      \
                    s_1 += a_p * *(const vector *)(b_1 + p);                                      \
                    s_2 += a_p * *(const vector *)(b_2 + p);                                      \
                    s_3 += a_p * *(const vector *)(b_3 + p);                                      \
                }                                                                                 \
                t_0.all = s_0;                                                                    \
                t_1.all = s_1;                                                                    \
                t_2.all = s_2;                                                                    \
                t_3.all = s_3;                                                                    \
                four_##SUFFIX r_0 = t_0.part[0], r_1 = t_1.part[0];                               \
                four_##SUFFIX r_2 = t_2.part[0], r_3 = t_3.part[0];                               \
                if (lanes > 4) {                                                                  \
                    r_0 += t_0.part[lanes / 4 - 1];                                               \
                    r_1 += t_1.part[lanes / 4 - 1];                                               \
                    r_2 += t_2.part[lanes / 4 - 1];                                               \
                    r_3 += t_3.part[lanes / 4 - 1];                                               \
                }                                                                                 \
                four_##SUFFIX low = CNET_SHUFFLE(r_0, r_1, 0, 4, 1, 5) + CNET_SHUFFLE(r_0, r_1, 2, 6, 3, 7);\
                four_##SUFFIX high = CNET_SHUFFLE(r_2, r_3, 0, 4, 1, 5) + CNET_SHUFFLE(r_2, r_3, 2, 6, 3, 7);\
                four_##SUFFIX sums = CNET_SHUFFLE(low, high, 0, 1, 4, 5) + CNET_SHUFFLE(low, high, 2, 3, 6, 7);\
                for (ptrdiff_t l = 0; s && l <= last && l < 4; l++)                               \
                    sums[l] += s[i * n + j + l];                                                  \
                if (last >= 3)                                                                    \
                    *(four_in_memory_##SUFFIX *)(c + i * n + j) = sums;                           \
                else                                                                              \
                    copy_few(c + i * n + j, &sums, few);                                          \
            }                                                                                     \
        }                                                                                         \
    }

CNET_DEFINE_SUMS(f32, float)
CNET_DEFINE_SUMS(f64, double)

/* C += A B for a single column of A and a single row of B, in one pass over C. */
#define CNET_DEFINE_RANK_ONE(SUFFIX, T)                                                           \
    typedef T two_in_memory_##SUFFIX                                                              \
        __attribute__((vector_size(2 * sizeof(T)), aligned(sizeof(T)), may_alias));               \
                                                                                                  \
    static void add_outer_##SUFFIX(ptrdiff_t m, ptrdiff_t n, const T *a, const T *b, T *c)        \
    {                                                                                             \
        typedef tile_full_##SUFFIX##_vector vector;                                               \
        enum { lanes = tile_full_##SUFFIX##_lanes };                                              \
        ptrdiff_t j = 0;                                                                          \
        for (; j + 2 * lanes <= n; j += 2 * lanes) {                                              \
            const vector b_0 = *(const vector *)(b + j), b_1 = *(const vector *)(b + j + lanes);  \
            T *to = c + j;                                                                        \
            for (ptrdiff_t i = 0; i < m; i++, to += n) {                                          \
                const T a_i = a[i]; /* once: for all that the compiler knows, C may overlap A */  \
                *(vector *)to += a_i * b_0;                                                       \
                *(vector *)(to + lanes) += a_i * b_1;                                             \
            }                                                                                     \
        }                                                                                         \
        for (; j + 4 <= n; j += 4) {                                                              \
            const four_in_memory_##SUFFIX b_j = *(const four_in_memory_##SUFFIX *)(b + j);        \
            T *to = c + j;                                                                        \
            for (ptrdiff_t i = 0; i < m; i++, to += n)                                            \
                *(four_in_memory_##SUFFIX *)to += a[i] * b_j;                                     \
        }                                                                                         \
        /* Never write half a vector that is read whole next: store forwarding would stall. */    \
        if (j + 2 <= n) {                                                                         \
            const two_in_memory_##SUFFIX b_j = *(const two_in_memory_##SUFFIX *)(b + j);          \
            T *to = c + j;                                                                        \
            for (ptrdiff_t i = 0; i < m; i++, to += n)                                            \
                *(two_in_memory_##SUFFIX *)to += a[i] * b_j;                                      \
            j += 2;                                                                               \
        }                                                                                         \
        if (j < n)                                                                                \
            for (ptrdiff_t i = 0; i < m; i++)                                                     \
                c[i * n + j] += a[i] * b[j];                                                      \
    }

CNET_DEFINE_RANK_ONE(f32, float)
CNET_DEFINE_RANK_ONE(f64, double)

/* C = A B for a single row of A and contiguous columns of B. Each sum is computed in one part per lane of a
 * vector. */
#define CNET_DEFINE_DOT(SUFFIX, T)                                                                \
    /* For consecutive short columns; `k` is a constant at each call. */                          \
    static inline __attribute__((always_inline)) void dot_short_##SUFFIX(                         \
        ptrdiff_t n, const int k, const T *a, const T *b, T *c)                                   \
    {                                                                                             \
        for (ptrdiff_t j = 0; j < n; j++) {                                                       \
            T sum = 0;                                                                            \
            for (int p = 0; p < k; p++)                                                           \
                sum += a[p] * b[j * k + p];                                                       \
            c[j] = sum;                                                                           \
        }                                                                                         \
    }                                                                                             \
                                                                                                  \
    static void dot_rows_##SUFFIX(ptrdiff_t n, ptrdiff_t k, const T *a, const T *b,               \
                                  ptrdiff_t ldb, T *c)                                            \
    {                                                                                             \
        typedef tile_full_##SUFFIX##_vector vector;                                               \
        enum { lanes = tile_full_##SUFFIX##_lanes };                                              \
        const ptrdiff_t whole = k / lanes * lanes;                                                \
        if (k == ldb && k < 5 && n >= lanes) {                                                    \
            switch (k) {                                                                          \
            case 1: dot_short_##SUFFIX(n, 1, a, b, c); return;                                    \
            case 2: dot_short_##SUFFIX(n, 2, a, b, c); return;                                    \
            case 3: dot_short_##SUFFIX(n, 3, a, b, c); return;                                    \
            case 4: dot_short_##SUFFIX(n, 4, a, b, c); return;                                    \
            }                                                                                     \
        }                                                                                         \
        for (ptrdiff_t j = 0; j < n; j++) {                                                       \
            T sum = 0;                                                                            \
            for (ptrdiff_t p = whole; p < k; p++)                                                 \
                sum += a[p] * b[j * ldb + p];                                                     \
            c[j] = sum;                                                                           \
        }                                                                                         \
        if (whole == 0)                                                                           \
            return;                                                                               \
        for (ptrdiff_t j = 0; j < n; j++, b += ldb) {                                             \
            vector sums = {0};                                                                    \
            T total[lanes];                                                                       \
            for (ptrdiff_t p = 0; p < whole; p += lanes)                                          \
                sums += *(const vector *)(a + p) * *(const vector *)(b + p);                      \
            *(vector *)total = sums;                                                              \
            for (int half = lanes / 2; half > 0; half /= 2)                                       \
                for (int l = 0; l < half; l++)                                                    \
                    total[l] += total[l + half];                                                  \
            c[j] += total[0];                                                                     \
        }                                                                                         \
    }

CNET_DEFINE_DOT(f32, float)
CNET_DEFINE_DOT(f64, double)

#endif
