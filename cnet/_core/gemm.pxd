"""Matrix product C = S + A B with arbitrary strides, from register tiles and zero-padded panels of B.

A `Product` describes it: the matrices with their strides, and the sizes m, n and k, as in BLAS. S contains the initial sums: NULL for zeros, a row of biases with a stride of 0, or C itself. The order of
summation over k depends only on the shapes, not on how the product is split among threads.
"""

from libc.string cimport memset

from cnet._core.scalar cimport real
from cnet._core.team cimport team_run


cdef extern from "tile.h" nogil:
    const Py_ssize_t TILE_ROWS_WIDE
    const Py_ssize_t TILE_ROWS_NARROW
    const Py_ssize_t tile_wide_f32_width
    const Py_ssize_t tile_wide_f64_width
    float* tile_zeros_f32
    double* tile_zeros_f64

    # A matrix to read. Element (i, j) is data[i * row_stride + j * column_stride].
    ctypedef struct Matrix:
        const void* data
        Py_ssize_t row_stride
        Py_ssize_t column_stride

    # C = S + A B. A is m x k, B is k x n; the rows of C are contiguous, `ldc` elements apart.
    ctypedef struct Product:
        Py_ssize_t m
        Py_ssize_t n
        Py_ssize_t k
        Matrix a
        Matrix b
        Matrix s
        void* c
        Py_ssize_t ldc

    # Copies at least one element.
    void copy_few(void* to, const void* start, size_t n_bytes) noexcept
    void prefetch(const void* start, size_t n_bytes) noexcept

    void tile_f32(const Product* product) noexcept
    Py_ssize_t tile_width_f32(Py_ssize_t columns) noexcept
    void add_outer_f32(
        Py_ssize_t m, Py_ssize_t n, const float* a, const float* b, float* c) noexcept
    void dot_rows_f32(
        Py_ssize_t n, Py_ssize_t k, const float* a, const float* b, Py_ssize_t ldb, float* c,
    ) noexcept
    void multiply_row_f32(
        Py_ssize_t n, Py_ssize_t k, const float* a, const float* b, Py_ssize_t ldb, bint b_padded,
        const float* s, float* c,
    ) noexcept
    void multiply_transposed_f32(
        Py_ssize_t m, Py_ssize_t n, Py_ssize_t k, const float* a, const float* b, const float* s,
        float* c,
    ) noexcept
    void pack_transposed_f32(
        Py_ssize_t k, Py_ssize_t n, Py_ssize_t width, const float* b, Py_ssize_t ldb, float* panel,
    ) noexcept

    void tile_f64(const Product* product) noexcept
    Py_ssize_t tile_width_f64(Py_ssize_t columns) noexcept
    void add_outer_f64(
        Py_ssize_t m, Py_ssize_t n, const double* a, const double* b, double* c) noexcept
    void dot_rows_f64(
        Py_ssize_t n, Py_ssize_t k, const double* a, const double* b, Py_ssize_t ldb, double* c,
    ) noexcept
    void multiply_row_f64(
        Py_ssize_t n, Py_ssize_t k, const double* a, const double* b, Py_ssize_t ldb, bint b_padded,
        const double* s, double* c,
    ) noexcept
    void multiply_transposed_f64(
        Py_ssize_t m, Py_ssize_t n, Py_ssize_t k, const double* a, const double* b, const double* s,
        double* c,
    ) noexcept
    void pack_transposed_f64(
        Py_ssize_t k, Py_ssize_t n, Py_ssize_t width, const double* b, Py_ssize_t ldb, double* panel,
    ) noexcept


cdef enum:
    # Depth of a panel, which stays in the nearest caches while rows of A pass. Measured: best of 128 to 512.
    PANEL_DEPTH = 384
    # Maximum depth of the last panel. A separate shallow panel would cost a pass over C like any other.
    LAST_DEPTH = 432
    # Number of elements up to which a matrix stays in the L1 cache, and needs no packing.
    IN_PLACE_SIZE = 4096
    # Minimum number of multiplications to wake another thread; this is about 20 microseconds of work.
    MIN_PARALLEL_WORK = 2000000
    # Up to this many columns would leave most of the narrowest tile idle.
    NARROW = 4
    # Rows per block of a product with few columns.
    NARROW_ROWS = 256
    # Number of rows to prefetch ahead.
    PREFETCH_ROWS = 8
    # A number of rows that is a multiple of every tile height.
    ROW_GRANULARITY = 24


cdef inline Py_ssize_t ceiling(Py_ssize_t n, Py_ssize_t divisor) noexcept nogil:
    """ceil(n / divisor)"""
    return (n + divisor - 1) // divisor


cdef inline Py_ssize_t widest_tile(const real* like) noexcept nogil:
    """Number of columns of the widest tile: two vectors of the dtype."""
    if real is float:
        return tile_wide_f32_width
    else:
        return tile_wide_f64_width


cdef inline Py_ssize_t tile_width(Py_ssize_t columns, const real* like) noexcept nogil:
    """Number of columns of the best tile for the remaining columns."""
    if real is float:
        return tile_width_f32(columns)
    else:
        return tile_width_f64(columns)


cdef inline const real* zeros(const real* like) noexcept nogil:
    """A row of zeros for the widest tile."""
    if real is float:
        return <const float*>tile_zeros_f32
    else:
        return <const double*>tile_zeros_f64


cdef inline Py_ssize_t panel_size(const real* like) noexcept nogil:
    """Scratch elements per thread for `gemm`: a panel of B, a tile of C and a row of S."""
    return (LAST_DEPTH + TILE_ROWS_NARROW + 1) * widest_tile(like)


# Scratch of the threads that compute a product.
cdef struct Scratch:
    void* data  # panel_size elements for each thread, or more
    Py_ssize_t step  # offset between the scratch of consecutive threads
    int threads


cdef inline Matrix row_major(const real* data, Py_ssize_t ld) noexcept nogil:
    """A matrix with contiguous rows, `ld` elements apart."""
    return Matrix(data, ld, 1)


cdef inline Matrix column_major(const real* data, Py_ssize_t ld) noexcept nogil:
    """A matrix with contiguous columns, `ld` elements apart."""
    return Matrix(data, 1, ld)


cdef inline Matrix equal_rows(const real* data) noexcept nogil:
    """A matrix that repeats one row."""
    return Matrix(data, 0, 1)


cdef inline Matrix submatrix(Matrix a, Py_ssize_t i, Py_ssize_t j, const real* like) noexcept nogil:
    """A from row i and column j on; NULL stays NULL."""
    if a.data != NULL:
        a.data = <const real*>a.data + i * a.row_stride + j * a.column_stride
    return a


cdef inline void pack_panel(
    Py_ssize_t k,
    Py_ssize_t n,
    Py_ssize_t width,
    Matrix b,  # IN, k x n
    real* panel,  # OUT, k x width, zeros on the right
) noexcept nogil:
    """panel = (B 0)"""
    cdef Py_ssize_t p, j, ldb = b.row_stride
    cdef const real* b_kn = <const real*>b.data
    if b.column_stride == 1 and n < width:
        memset(panel, 0, k * width * sizeof(real))
        for p in range(k):
            copy_few(panel + p * width, b_kn + p * ldb, n * sizeof(real))
    elif b.column_stride == 1:
        for p in range(k):
            # The rows are too far apart for the hardware prefetcher.
            if p + PREFETCH_ROWS < k:
                prefetch(b_kn + (p + PREFETCH_ROWS) * ldb, width * sizeof(real))
            for j in range(width):
                panel[p * width + j] = b_kn[p * ldb + j]
    elif b.row_stride == 1:
        if real is float:
            pack_transposed_f32(k, n, width, b_kn, b.column_stride, panel)
        else:
            pack_transposed_f64(k, n, width, b_kn, b.column_stride, panel)


cdef inline Py_ssize_t packed_size(Py_ssize_t n, Py_ssize_t k, const real* like) noexcept nogil:
    """Elements of a k x n matrix packed into panels, including the padding of the last panel."""
    return k * ceiling(n, widest_tile(like)) * widest_tile(like)


# A packing job for the thread pool; each part is one panel.
cdef struct PackTask:
    Py_ssize_t n
    Py_ssize_t k
    Matrix b
    void* packed


cdef inline void pack_part(const PackTask* task, Py_ssize_t part, real* packed) noexcept nogil:
    cdef Py_ssize_t j = part * widest_tile(packed), n = task.n - j, width = tile_width(n, packed)
    pack_panel(task.k, min(width, n), width, submatrix(task.b, 0, j, packed), packed + task.k * j)


cdef inline void pack_part_f32(void* task, Py_ssize_t part, Py_ssize_t thread) noexcept nogil:
    pack_part(<const PackTask*>task, part, <float*>(<const PackTask*>task).packed)


cdef inline void pack_part_f64(void* task, Py_ssize_t part, Py_ssize_t thread) noexcept nogil:
    pack_part(<const PackTask*>task, part, <double*>(<const PackTask*>task).packed)


cdef inline void pack(
    Py_ssize_t n,
    Py_ssize_t k,
    Matrix b,  # IN, k x n
    real* packed,  # OUT, packed_size elements: consecutive panels, each of all k rows
    int threads,
) noexcept nogil:
    """Packs B for `gemm_packed`, so that several products can share it."""
    cdef PackTask task = PackTask(n, k, b, packed)
    if real is float:
        team_run(threads, ceiling(n, widest_tile(packed)), pack_part_f32, &task)
    else:
        team_run(threads, ceiling(n, widest_tile(packed)), pack_part_f64, &task)


cdef inline void tile(
    const Product* product,  # IN, exactly as wide as a tile
    const real* like,
) noexcept nogil:
    """C = S + A B for the columns of one tile. S is not NULL."""
    if real is float:
        tile_f32(product)
    else:
        tile_f64(product)


cdef inline void multiply_panel(
    Product* panel,  # IN, of up to `width` columns; used up
    Py_ssize_t width,  # of a tile, and of the rows of B
    real* edge,  # scratch, (TILE_ROWS_NARROW + 1) x width
) noexcept nogil:
    """C = S + A B for the columns of one tile. C may be S."""
    cdef Py_ssize_t r, m = panel.m, n = panel.n, ldc = panel.ldc, lds
    cdef Py_ssize_t most = TILE_ROWS_WIDE if width == widest_tile(edge) else TILE_ROWS_NARROW
    cdef const real* s
    cdef real* c = <real*>panel.c
    if panel.s.data == NULL:
        panel.s = equal_rows(zeros(edge))
    elif n < width and panel.s.row_stride == 0:
        copy_few(edge, panel.s.data, n * sizeof(real))
        panel.s.data = edge
        edge += width
    if n == width:
        tile(panel, edge)
        return
    # The tile is wider than the remaining columns of C.
    s = <const real*>panel.s.data
    lds = panel.s.row_stride
    if lds != 0:
        panel.s = row_major(<const real*>edge, width)
    panel.n = width
    panel.c = edge
    panel.ldc = width
    while m > 0:
        panel.m = min(most, m)
        if lds != 0:
            for r in range(panel.m):
                copy_few(edge + r * width, s + r * lds, n * sizeof(real))
        tile(panel, edge)
        for r in range(panel.m):
            copy_few(c + r * ldc, edge + r * width, n * sizeof(real))
        panel.a.data = <const real*>panel.a.data + panel.m * panel.a.row_stride
        s += panel.m * lds
        c += panel.m * ldc
        m -= panel.m


cdef inline void multiply_few_columns(
    const Product* product,  # IN, of up to NARROW columns, and a multiple of the widest tile's rows
    real* edge,  # scratch, NARROW x the widest tile
) noexcept nogil:
    """C = S + A B, computed in tiles of the transpose, C' = S' + B' A', because its rows are long.

    The columns of A and the rows of B are contiguous. C may be S.
    """
    cdef Py_ssize_t i = 0, j, r, n = product.n, ldc = product.ldc, lds = product.s.row_stride
    cdef Py_ssize_t width = widest_tile(edge)
    cdef const real* s = <const real*>product.s.data
    cdef real* c = <real*>product.c
    cdef Product block = Product(
        n, width, product.k, column_major(<const real*>product.b.data, product.b.row_stride),
        row_major(<const real*>product.a.data, product.a.column_stride),
        row_major(<const real*>edge, width), edge, width)
    while i < product.m:
        for j in range(n):
            for r in range(width):
                edge[j * width + r] = s[(i + r) * lds + j] if s != NULL else 0
        block.b.data = <const real*>product.a.data + i
        tile(&block, edge)
        for j in range(n):
            for r in range(width):
                c[(i + r) * ldc + j] = edge[j * width + r]
        i += width


cdef inline void multiply_row(
    Py_ssize_t n,
    Py_ssize_t k,
    const real* a,  # IN, k
    const real* b,  # IN, k x n, contiguous rows
    Py_ssize_t ldb,
    bint b_padded,  # whether two vectors after B, and after S if it follows B, can be read
    const real* s,  # IN, n, or NULL
    real* c,  # OUT, n, may be s
) noexcept nogil:
    """C = S + A B for a single row of A. B is read only once, so packing it would not pay."""
    if real is float:
        multiply_row_f32(n, k, a, b, ldb, b_padded, s, c)
    else:
        multiply_row_f64(n, k, a, b, ldb, b_padded, s, c)


cdef inline void dot_rows(
    Py_ssize_t n,
    Py_ssize_t k,
    const real* a,  # IN, k
    const real* b,  # IN, k x n, contiguous columns
    Py_ssize_t ldb,
    const real* s,  # IN, n, or NULL
    Py_ssize_t s_stride,
    real* c,  # OUT, n, not s
) noexcept nogil:
    """C = S + A B for a single row of A."""
    cdef Py_ssize_t j
    if real is float:
        dot_rows_f32(n, k, a, b, ldb, c)
    else:
        dot_rows_f64(n, k, a, b, ldb, c)
    if s != NULL:
        for j in range(n):
            c[j] += s[j * s_stride]


cdef inline void add_outer(
    Py_ssize_t m,
    Py_ssize_t n,
    const real* a,  # IN, m
    const real* b,  # IN, n
    real* c,  # INOUT, m x n
) noexcept nogil:
    """C += A B for a single column of A and a single row of B."""
    if real is float:
        add_outer_f32(m, n, a, b, c)
    else:
        add_outer_f64(m, n, a, b, c)


cdef inline void multiply_transposed(
    Py_ssize_t m,
    Py_ssize_t n,
    Py_ssize_t k,  # a multiple of the lanes of a vector
    const real* a,  # IN, m x k, contiguous
    const real* b,  # IN, n x k, contiguous
    const real* s,  # IN, m x n, contiguous, or NULL
    real* c,  # OUT, m x n, contiguous, may be s
) noexcept nogil:
    """C = S + A B' for few but long sums."""
    if n == 1:
        m, n, a, b = n, m, b, a
    if real is float:
        multiply_transposed_f32(m, n, k, a, b, s, c)
    else:
        multiply_transposed_f64(m, n, k, a, b, s, c)


cdef inline void multiply_columns(
    Py_ssize_t m,
    Py_ssize_t n,  # a multiple of the lanes of a vector
    Py_ssize_t k,
    Matrix a,  # IN, m x k
    const real* b,  # IN, k x n, contiguous
    real* c,  # OUT, m x n, contiguous
) noexcept nogil:
    """C = A B for few rows of A and B. B is used in place."""
    cdef Py_ssize_t j = 0
    cdef Product panel = Product(m, n, k, a, row_major(b, n), equal_rows(zeros(c)), c, n)
    while j < n:
        panel.n = min(widest_tile(c), n - j)
        panel.b.data = b + j
        panel.c = c + j
        tile(&panel, c)
        j += panel.n


cdef inline void outer_product(
    const Product* product,  # IN
    const real* like,
) noexcept nogil:
    """C = S + A B for a single column of A and a single row of B. C may be S."""
    cdef Py_ssize_t i, j, n = product.n, b_stride = product.b.column_stride
    cdef const real* a = <const real*>product.a.data
    cdef const real* b = <const real*>product.b.data
    cdef const real* s = <const real*>product.s.data
    cdef real* c = <real*>product.c
    cdef real a_i, zero = zeros(like)[0]
    for i in range(product.m):
        a_i = a[i * product.a.row_stride]
        if s != NULL:
            for j in range(n):
                c[i * n + j] = s[i * product.s.row_stride + j] + a_i * b[j * b_stride]
        else:
            for j in range(n):
                # Adding to 0 turns -0 into 0, as in all other products.
                c[i * n + j] = zero + a_i * b[j * b_stride]


# A product job for the thread pool; each part is a block of rows by some tiles of columns.
cdef struct ProductTask:
    const Product* product
    bint packed  # whether B was packed by `pack`
    Py_ssize_t rows  # rows of a part
    Py_ssize_t columns
    Py_ssize_t row_parts
    void* scratch  # panel_size elements for each thread
    Py_ssize_t scratch_step


cdef inline void multiply_part(
    const ProductTask* task, Py_ssize_t part, Py_ssize_t thread, real* c
) noexcept nogil:
    """C = S + A B for one part, one depth at a time, so that this much of A stays in cache for all columns."""
    cdef const Product* product = task.product
    cdef Py_ssize_t n = product.n, k = product.k, p = 0, j, depth, width, done
    cdef Py_ssize_t i = (part % task.row_parts) * task.rows
    cdef Py_ssize_t first = (part // task.row_parts) * task.columns
    cdef Py_ssize_t m = min(task.rows, product.m - i), last = min(first + task.columns, n)
    cdef Matrix s = submatrix(product.s, i, 0, c)
    cdef Product panel
    cdef real* packed = <real*>task.scratch + thread * task.scratch_step
    cdef real* edge = packed + LAST_DEPTH * widest_tile(c)
    c += i * n
    while p < k:
        depth = k - p if k - p <= LAST_DEPTH else PANEL_DEPTH
        j = first
        while j < last:
            width = tile_width(n - j, c)
            panel.m = m
            panel.n = min(width, n - j)
            panel.k = depth
            panel.a = submatrix(product.a, i, p, c)
            panel.s = submatrix(s, 0, j, c)
            panel.c = c + j
            panel.ldc = n
            if task.packed:
                panel.b = row_major(<const real*>product.b.data + j * k + p * width, width)
            else:
                panel.b = submatrix(product.b, p, j, c)
                # Whole contiguous rows are used in place, unless many tiles read them and the matrix is too
                # large for the L1 cache.
                if panel.b.column_stride != 1 or panel.n < width or (
                        m > 4 * TILE_ROWS_WIDE and depth * panel.b.row_stride > IN_PLACE_SIZE):
                    pack_panel(depth, panel.n, width, panel.b, packed)
                    panel.b = row_major(<const real*>packed, width)
            if panel.n <= NARROW and panel.a.row_stride == 1:
                done = m // widest_tile(c) * widest_tile(c)
                panel.m = done
                multiply_few_columns(&panel, edge)
                panel.m = m - done
                panel.a = submatrix(panel.a, done, 0, c)
                panel.s = submatrix(panel.s, done, 0, c)
                panel.c = c + done * n + j
            multiply_panel(&panel, width, edge)
            j += width
        s = row_major(<const real*>c, n)
        p += depth


cdef inline void multiply_part_f32(void* task, Py_ssize_t part, Py_ssize_t thread) noexcept nogil:
    multiply_part(
        <const ProductTask*>task, part, thread, <float*>(<const ProductTask*>task).product.c)


cdef inline void multiply_part_f64(void* task, Py_ssize_t part, Py_ssize_t thread) noexcept nogil:
    multiply_part(
        <const ProductTask*>task, part, thread, <double*>(<const ProductTask*>task).product.c)


cdef inline void gemm_transposed(
    const Product* product,  # IN
    const Scratch* scratch,
    const real* like,
) noexcept nogil:
    """C = S + A B for few columns, computed as the transpose B' A', whose tiles are wide.

    The columns of A and the rows of B are contiguous. C may be S.
    """
    cdef Py_ssize_t first = 0, i, j, rows, n = product.n, lds = product.s.row_stride
    cdef const real* none = NULL
    cdef const real* s = <const real*>product.s.data
    cdef real* c = <real*>product.c
    cdef real transposed[NARROW * NARROW_ROWS]
    cdef Product block
    while first < product.m:
        rows = min(NARROW_ROWS, product.m - first)
        block = Product(
            n, rows, product.k, column_major(<const real*>product.b.data, product.b.row_stride),
            row_major(<const real*>product.a.data + first, product.a.column_stride),
            equal_rows(none), &transposed[0], rows)
        gemm(&block, scratch, like)
        for i in range(rows):
            for j in range(n):
                c[(first + i) * n + j] = transposed[j * rows + i] + (
                    s[(first + i) * lds + j] if s != NULL else 0)
        first += rows


cdef inline void gemm(
    const Product* product,  # IN
    const Scratch* scratch,
    const real* like,
) noexcept nogil:
    """C = S + A B.

    The rows or the columns of A are contiguous, and those of B. C is contiguous. S is C, a repeated row or
    NULL, for zeros.
    """
    cdef ProductTask task
    cdef Py_ssize_t m = product.m, n = product.n, k = product.k, lds = product.s.row_stride
    cdef const Matrix* A = &product.a
    cdef const Matrix* B = &product.b
    cdef const real* a = <const real*>A.data
    cdef const real* b = <const real*>B.data
    cdef const real* s = <const real*>product.s.data
    cdef real* c = <real*>product.c
    cdef Py_ssize_t rows = m, columns = n, row_parts = 1, column_parts = 1, tiles
    # If C is a vector, C and its transpose have the same layout.
    if n == 1 and A.column_stride == 1 and B.row_stride == 1 and s != c:
        dot_rows(m, k, b, a, A.row_stride, s, lds, c)
        return
    if n == 1 and A.row_stride == 1 and B.row_stride == 1 and lds != 0:
        multiply_row(m, k, b, a, A.column_stride, False, s, c)
        return
    if m == 1 and A.column_stride == 1 and B.column_stride == 1:
        multiply_row(n, k, a, b, B.row_stride, True, s, c)
        return
    if m == 1 and A.column_stride == 1 and s == NULL:
        dot_rows(n, k, a, b, B.column_stride, s, 0, c)
        return
    if k == 1:
        outer_product(product, like)
        return
    if n <= NARROW and m > NARROW and A.row_stride == 1 and B.column_stride == 1:
        gemm_transposed(product, scratch, like)
        return
    if scratch.threads > 1 and m * n * k >= MIN_PARALLEL_WORK:
        # Several parts per thread, so that a delayed thread does fewer; parts consist of whole tiles.
        tiles = ceiling(n, widest_tile(c))
        columns = ceiling(tiles, min(tiles, 4 * scratch.threads)) * widest_tile(c)
        column_parts = ceiling(n, columns)
        rows = ceiling(m, ceiling(4 * scratch.threads, column_parts))
        rows = ceiling(rows, ROW_GRANULARITY) * ROW_GRANULARITY
        row_parts = ceiling(m, rows)
    task = ProductTask(
        product, False, rows, columns, row_parts, scratch.data, scratch.step)
    if row_parts * column_parts == 1:
        multiply_part(&task, 0, 0, c)
    elif real is float:
        team_run(scratch.threads, column_parts * row_parts, multiply_part_f32, &task)
    else:
        team_run(scratch.threads, column_parts * row_parts, multiply_part_f64, &task)


cdef inline void gemm_packed(
    const Product* product,  # IN; B was packed by `pack`
    real* scratch,  # panel_size elements
) noexcept nogil:
    """C = S + A B, on one thread."""
    cdef ProductTask task = ProductTask(product, True, product.m, product.n, 1, scratch, 0)
    multiply_part(&task, 0, 0, <real*>product.c)
