"""Matrix product C = S + A B with arbitrary strides, from register tiles and zero-padded panels of B.

S contains the initial sums: NULL for zeros, a row of biases with a stride of 0, or C itself. The order of
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

    # Copies at least one element.
    void copy_few(void* to, const void* start, size_t n_bytes) noexcept
    void prefetch(const void* start, size_t n_bytes) noexcept

    void tile_f32(
        Py_ssize_t width, Py_ssize_t rows, Py_ssize_t depth,
        const float* a, Py_ssize_t a_row, Py_ssize_t a_column,
        const float* b, Py_ssize_t b_row,
        const float* s, Py_ssize_t s_row, float* c, Py_ssize_t c_row,
    ) noexcept
    Py_ssize_t tile_width_f32(Py_ssize_t columns) noexcept
    void add_outer_f32(
        Py_ssize_t m, Py_ssize_t n, const float* a, const float* b, float* c) noexcept
    void dot_rows_f32(
        Py_ssize_t n, Py_ssize_t k, const float* a, const float* b, Py_ssize_t b_column, float* c,
    ) noexcept
    void multiply_row_f32(
        Py_ssize_t n, Py_ssize_t depth, const float* a, Py_ssize_t a_column,
        const float* b, Py_ssize_t b_row, bint b_padded, const float* s, float* c,
    ) noexcept
    void multiply_transposed_f32(
        Py_ssize_t m, Py_ssize_t n, Py_ssize_t k, const float* a, Py_ssize_t a_row,
        const float* b, Py_ssize_t b_row, const float* s, float* c) noexcept
    void pack_transposed_f32(
        Py_ssize_t depth, Py_ssize_t columns, Py_ssize_t width,
        const float* b, Py_ssize_t b_column, float* panel,
    ) noexcept

    void tile_f64(
        Py_ssize_t width, Py_ssize_t rows, Py_ssize_t depth,
        const double* a, Py_ssize_t a_row, Py_ssize_t a_column,
        const double* b, Py_ssize_t b_row,
        const double* s, Py_ssize_t s_row, double* c, Py_ssize_t c_row,
    ) noexcept
    Py_ssize_t tile_width_f64(Py_ssize_t columns) noexcept
    void add_outer_f64(
        Py_ssize_t m, Py_ssize_t n, const double* a, const double* b, double* c) noexcept
    void dot_rows_f64(
        Py_ssize_t n, Py_ssize_t k, const double* a, const double* b, Py_ssize_t b_column, double* c,
    ) noexcept
    void multiply_row_f64(
        Py_ssize_t n, Py_ssize_t depth, const double* a, Py_ssize_t a_column,
        const double* b, Py_ssize_t b_row, bint b_padded, const double* s, double* c,
    ) noexcept
    void multiply_transposed_f64(
        Py_ssize_t m, Py_ssize_t n, Py_ssize_t k, const double* a, Py_ssize_t a_row,
        const double* b, Py_ssize_t b_row, const double* s, double* c) noexcept
    void pack_transposed_f64(
        Py_ssize_t depth, Py_ssize_t columns, Py_ssize_t width,
        const double* b, Py_ssize_t b_column, double* panel,
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


cdef inline void pack_panel(
    Py_ssize_t depth,
    Py_ssize_t columns,
    Py_ssize_t width,
    const real* b,  # IN, depth x columns
    Py_ssize_t b_row,
    Py_ssize_t b_column,
    real* panel,  # OUT, depth x width, zeros on the right
) noexcept nogil:
    cdef Py_ssize_t p, j
    if b_column == 1 and columns < width:
        memset(panel, 0, depth * width * sizeof(real))
        for p in range(depth):
            copy_few(panel + p * width, b + p * b_row, columns * sizeof(real))
    elif b_column == 1:
        for p in range(depth):
            # The rows are too far apart for the hardware prefetcher.
            if p + PREFETCH_ROWS < depth:
                prefetch(b + (p + PREFETCH_ROWS) * b_row, width * sizeof(real))
            for j in range(width):
                panel[p * width + j] = b[p * b_row + j]
    elif b_row == 1:
        if real is float:
            pack_transposed_f32(depth, columns, width, b, b_column, panel)
        else:
            pack_transposed_f64(depth, columns, width, b, b_column, panel)


cdef inline Py_ssize_t packed_size(Py_ssize_t n, Py_ssize_t k, const real* like) noexcept nogil:
    """Elements of a k x n matrix packed into panels, including the padding of the last panel."""
    return k * ceiling(n, widest_tile(like)) * widest_tile(like)


# A packing job for the thread pool; each part is one panel.
cdef struct Packing:
    Py_ssize_t n
    Py_ssize_t k
    const void* b
    Py_ssize_t b_row
    void* packed


cdef inline void pack_part(const Packing* packing, Py_ssize_t part, real* packed) noexcept nogil:
    cdef Py_ssize_t j = part * widest_tile(packed), n = packing.n - j, width = tile_width(n, packed)
    pack_panel(
        packing.k, min(width, n), width, <const real*>packing.b + j, packing.b_row, 1,
        packed + packing.k * j)


cdef inline void pack_part_f32(void* packing, Py_ssize_t part, Py_ssize_t thread) noexcept nogil:
    pack_part(<const Packing*>packing, part, <float*>(<const Packing*>packing).packed)


cdef inline void pack_part_f64(void* packing, Py_ssize_t part, Py_ssize_t thread) noexcept nogil:
    pack_part(<const Packing*>packing, part, <double*>(<const Packing*>packing).packed)


cdef inline void pack(
    Py_ssize_t n,
    Py_ssize_t k,
    const real* b,  # IN, k x n
    Py_ssize_t b_row,
    real* packed,  # OUT, packed_size elements: consecutive panels, each of all k rows
    int threads,
) noexcept nogil:
    """Packs B for `gemm_packed`, so that several products can share it."""
    cdef Packing packing = Packing(n, k, b, b_row, packed)
    if real is float:
        team_run(threads, ceiling(n, widest_tile(b)), pack_part_f32, &packing)
    else:
        team_run(threads, ceiling(n, widest_tile(b)), pack_part_f64, &packing)


cdef inline void tile(
    Py_ssize_t width,
    Py_ssize_t rows,
    Py_ssize_t depth,
    const real* a,  # IN
    Py_ssize_t a_row,
    Py_ssize_t a_column,
    const real* b,  # IN
    Py_ssize_t b_row,
    const real* s,  # IN
    Py_ssize_t s_row,
    real* c,  # OUT
    Py_ssize_t c_row,
) noexcept nogil:
    if real is float:
        tile_f32(width, rows, depth, a, a_row, a_column, b, b_row, s, s_row, c, c_row)
    else:
        tile_f64(width, rows, depth, a, a_row, a_column, b, b_row, s, s_row, c, c_row)


cdef inline void multiply_panel(
    Py_ssize_t m,
    Py_ssize_t columns,
    Py_ssize_t depth,
    const real* a,  # IN, m x depth
    Py_ssize_t a_row,
    Py_ssize_t a_column,
    const real* b,  # IN, depth x width
    Py_ssize_t b_row,
    Py_ssize_t width,
    const real* s,  # IN, m x columns, or NULL
    Py_ssize_t s_row,
    real* c,  # OUT, m x columns, may be s
    Py_ssize_t c_row,
    real* edge,  # scratch, (TILE_ROWS_NARROW + 1) x width
) noexcept nogil:
    """C = S + A B for the columns of one tile."""
    cdef Py_ssize_t i = 0, r, rows, most = TILE_ROWS_NARROW
    if width == widest_tile(c):
        most = TILE_ROWS_WIDE
    if s == NULL:
        s = zeros(c)
        s_row = 0
    elif columns < width and s_row == 0:
        copy_few(edge, s, columns * sizeof(real))
        s = edge
        edge += width
    while i < m:
        rows = min(most, m - i)
        if columns == width:
            tile(width, rows, depth, a + i * a_row, a_row, a_column, b, b_row,
                 s + i * s_row, s_row, c + i * c_row, c_row)
        else:
            # The tile is wider than the remaining columns of C.
            if s_row == 0:
                tile(width, rows, depth, a + i * a_row, a_row, a_column, b, b_row, s, 0, edge, width)
            else:
                for r in range(rows):
                    copy_few(edge + r * width, s + (i + r) * s_row, columns * sizeof(real))
                tile(width, rows, depth, a + i * a_row, a_row, a_column, b, b_row,
                     edge, width, edge, width)
            for r in range(rows):
                copy_few(c + (i + r) * c_row, edge + r * width, columns * sizeof(real))
        i += most


cdef inline void multiply_few_columns(
    Py_ssize_t m,  # a multiple of the widest tile's columns
    Py_ssize_t columns,  # up to NARROW
    Py_ssize_t depth,
    const real* a,  # IN, m x depth, contiguous columns
    Py_ssize_t a_column,
    const real* b,  # IN, depth x columns, contiguous rows
    Py_ssize_t b_row,
    const real* s,  # IN, m x columns, or NULL
    Py_ssize_t s_row,
    real* c,  # OUT, m x columns, may be s
    Py_ssize_t c_row,
    real* edge,  # scratch, NARROW x the widest tile
) noexcept nogil:
    """C = S + A B, computed in tiles of the transpose, C' = S' + B' A', because its rows are long."""
    cdef Py_ssize_t i = 0, j, r, width = widest_tile(c)
    while i < m:
        for j in range(columns):
            for r in range(width):
                edge[j * width + r] = s[(i + r) * s_row + j] if s != NULL else 0
        tile(width, columns, depth, b, 1, b_row, a + i, a_column, edge, width, edge, width)
        for j in range(columns):
            for r in range(width):
                c[(i + r) * c_row + j] = edge[j * width + r]
        i += width


cdef inline void multiply_row(
    Py_ssize_t n,
    Py_ssize_t k,
    const real* a,  # IN, k
    Py_ssize_t a_column,
    const real* b,  # IN, k x n, contiguous rows
    Py_ssize_t b_row,
    bint b_padded,  # whether two vectors after B can be read
    const real* s,  # IN, n, or NULL
    real* c,  # OUT, n, may be s
) noexcept nogil:
    """C = S + A B for a single row of A. B is read only once, so packing it would not pay."""
    if real is float:
        multiply_row_f32(n, k, a, a_column, b, b_row, b_padded, s, c)
    else:
        multiply_row_f64(n, k, a, a_column, b, b_row, b_padded, s, c)


cdef inline void dot_rows(
    Py_ssize_t n,
    Py_ssize_t k,
    const real* a,  # IN, k
    const real* b,  # IN, k x n, contiguous columns
    Py_ssize_t b_column,
    const real* s,  # IN, n, or NULL
    Py_ssize_t s_column,
    real* c,  # OUT, n, not s
) noexcept nogil:
    """C = S + A B for a single row of A."""
    cdef Py_ssize_t j
    if real is float:
        dot_rows_f32(n, k, a, b, b_column, c)
    else:
        dot_rows_f64(n, k, a, b, b_column, c)
    if s != NULL:
        for j in range(n):
            c[j] += s[j * s_column]


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
    const real* a,  # IN, m x k, contiguous rows
    Py_ssize_t a_row,
    const real* b,  # IN, n x k, contiguous rows
    Py_ssize_t b_row,
    const real* s,  # IN, m x n, contiguous rows, or NULL
    real* c,  # OUT, m x n, contiguous rows, may be s
) noexcept nogil:
    """C = S + A B' for few but long sums."""
    if n == 1:
        m, n, a, b, a_row, b_row = n, m, b, a, b_row, a_row
    if real is float:
        multiply_transposed_f32(m, n, k, a, a_row, b, b_row, s, c)
    else:
        multiply_transposed_f64(m, n, k, a, a_row, b, b_row, s, c)


cdef inline void multiply_columns(
    Py_ssize_t m,
    Py_ssize_t n,  # a multiple of the lanes of a vector
    Py_ssize_t k,
    const real* a,  # IN, m x k
    Py_ssize_t a_row,
    Py_ssize_t a_column,
    const real* b,  # IN, k x n, contiguous rows
    real* c,  # OUT, m x n, contiguous rows
) noexcept nogil:
    """C = A B for few rows of A and B. B is used in place."""
    cdef Py_ssize_t j = 0, width
    cdef const real* none = NULL
    while j < n:
        width = min(widest_tile(c), n - j)
        multiply_panel(m, width, k, a, a_row, a_column, b + j, n, width, none, 0, c + j, n, c)
        j += width


cdef inline void outer_product(
    Py_ssize_t m,
    Py_ssize_t n,
    const real* a,  # IN, m
    Py_ssize_t a_row,
    const real* b,  # IN, n
    Py_ssize_t b_column,
    const real* s,  # IN, m x n, or NULL
    Py_ssize_t s_row,
    real* c,  # OUT, m x n, contiguous rows, may be s
) noexcept nogil:
    """C = S + A B for a single column of A and a single row of B."""
    cdef Py_ssize_t i, j
    cdef real a_i, zero = zeros(c)[0]
    for i in range(m):
        a_i = a[i * a_row]
        if s != NULL:
            for j in range(n):
                c[i * n + j] = s[i * s_row + j] + a_i * b[j * b_column]
        else:
            for j in range(n):
                # Adding to 0 turns -0 into 0, as in all other products.
                c[i * n + j] = zero + a_i * b[j * b_column]


# A product job for the thread pool; each part is a block of rows by some tiles of columns.
cdef struct Product:
    Py_ssize_t m
    Py_ssize_t n
    Py_ssize_t k
    const void* a
    Py_ssize_t a_row
    Py_ssize_t a_column
    const void* b
    Py_ssize_t b_row
    Py_ssize_t b_column
    bint packed  # whether b was packed by `pack`
    const void* s
    Py_ssize_t s_row
    void* c
    void* scratch
    Py_ssize_t scratch_step
    Py_ssize_t rows  # rows of a part
    Py_ssize_t columns
    Py_ssize_t row_parts


cdef inline void multiply_part(
    const Product* product, Py_ssize_t part, Py_ssize_t thread, real* c
) noexcept nogil:
    """C = S + A B for one part, one depth at a time, so that this much of A stays in cache for all columns."""
    cdef Py_ssize_t n = product.n, k = product.k
    cdef Py_ssize_t i = (part % product.row_parts) * product.rows
    cdef Py_ssize_t first = (part // product.row_parts) * product.columns
    cdef Py_ssize_t m = min(product.rows, product.m - i), last = min(first + product.columns, n)
    cdef Py_ssize_t p = 0, j, depth, width, columns, done, b_row, s_row = product.s_row
    cdef const real* a = <const real*>product.a + i * product.a_row
    cdef const real* b
    cdef const real* s = <const real*>product.s
    cdef const real* s_j
    cdef real* panel = <real*>product.scratch + thread * product.scratch_step
    cdef real* edge = panel + LAST_DEPTH * widest_tile(c)
    c += i * n
    if s != NULL:
        s += i * s_row
    while p < k:
        depth = k - p if k - p <= LAST_DEPTH else PANEL_DEPTH
        j = first
        while j < last:
            width = tile_width(n - j, c)
            columns = min(width, n - j)
            s_j = s
            if s != NULL:
                s_j = s + j
            b = <const real*>product.b + p * product.b_row + j * product.b_column
            b_row = product.b_row
            if product.packed:
                b = <const real*>product.b + j * k + p * width
                b_row = width
            # Whole contiguous rows are used in place, unless many tiles read them and the matrix is too
            # large for the L1 cache.
            elif product.b_column != 1 or columns < width or (
                    m > 4 * TILE_ROWS_WIDE and depth * b_row > IN_PLACE_SIZE):
                pack_panel(depth, columns, width, b, b_row, product.b_column, panel)
                b = panel
                b_row = width
            done = 0
            if columns <= NARROW and product.a_row == 1:
                done = m // widest_tile(c) * widest_tile(c)
                multiply_few_columns(
                    done, columns, depth, a + p * product.a_column, product.a_column,
                    b, b_row, s_j, s_row, c + j, n, edge)
            if s_j != NULL:
                s_j += done * s_row
            multiply_panel(
                m - done, columns, depth, a + p * product.a_column + done * product.a_row,
                product.a_row, product.a_column, b, b_row, width, s_j, s_row, c + done * n + j, n, edge)
            j += width
        s = c
        s_row = n
        p += depth


cdef inline void multiply_part_f32(void* product, Py_ssize_t part, Py_ssize_t thread) noexcept nogil:
    multiply_part(<const Product*>product, part, thread, <float*>(<const Product*>product).c)


cdef inline void multiply_part_f64(void* product, Py_ssize_t part, Py_ssize_t thread) noexcept nogil:
    multiply_part(<const Product*>product, part, thread, <double*>(<const Product*>product).c)


cdef inline void gemm_transposed(
    Py_ssize_t m,
    Py_ssize_t n,
    Py_ssize_t k,
    const real* a,  # IN, m x k, contiguous columns
    Py_ssize_t a_column,
    const real* b,  # IN, k x n, contiguous rows
    Py_ssize_t b_row,
    const real* s,  # IN, m x n, or NULL
    Py_ssize_t s_row,
    real* c,  # OUT, m x n, contiguous rows, may be s
    real* scratch,
    Py_ssize_t scratch_step,
    int threads,
) noexcept nogil:
    """C = S + A B for few columns, computed as the transpose B' A', whose tiles are wide."""
    cdef Py_ssize_t first = 0, i, j, rows
    cdef const real* none = NULL
    cdef real transposed[NARROW * NARROW_ROWS]
    while first < m:
        rows = min(NARROW_ROWS, m - first)
        gemm(n, rows, k, b, 1, b_row, a + first, a_column, 1, none, 0,
             transposed, scratch, scratch_step, threads)
        for i in range(rows):
            for j in range(n):
                c[(first + i) * n + j] = transposed[j * rows + i] + (
                    s[(first + i) * s_row + j] if s != NULL else 0)
        first += rows


cdef inline void gemm(
    Py_ssize_t m,
    Py_ssize_t n,
    Py_ssize_t k,
    const real* a,  # IN, m x k
    Py_ssize_t a_row,
    Py_ssize_t a_column,
    const real* b,  # IN, k x n
    Py_ssize_t b_row,
    Py_ssize_t b_column,  # b_row or b_column is 1
    const real* s,  # IN, m x n, or NULL
    Py_ssize_t s_row,  # n, or 0
    real* c,  # OUT, m x n, contiguous rows, may be s
    real* scratch,  # panel_size elements per thread
    Py_ssize_t scratch_step,  # offset between the scratch of consecutive threads
    int threads,
) noexcept nogil:
    """C = S + A B."""
    cdef Product product
    cdef Py_ssize_t rows = m, columns = n, row_parts = 1, column_parts = 1, tiles
    # If C is a vector, C and its transpose have the same layout.
    if n == 1 and a_column == 1 and b_row == 1 and s != c:
        dot_rows(m, k, b, a, a_row, s, s_row, c)
        return
    if n == 1 and a_row == 1 and s_row != 0:
        multiply_row(m, k, b, b_row, a, a_column, False, s, c)
        return
    if m == 1 and b_column == 1:
        multiply_row(n, k, a, a_column, b, b_row, True, s, c)
        return
    if m == 1 and a_column == 1 and s == NULL:
        dot_rows(n, k, a, b, b_column, s, 0, c)
        return
    if k == 1:
        outer_product(m, n, a, a_row, b, b_column, s, s_row, c)
        return
    if n <= NARROW and m > NARROW and a_row == 1 and b_column == 1:
        gemm_transposed(
            m, n, k, a, a_column, b, b_row, s, s_row, c, scratch, scratch_step, threads)
        return
    if threads > 1 and m * n * k >= MIN_PARALLEL_WORK:
        # Several parts per thread, so that a delayed thread does fewer; parts consist of whole tiles.
        tiles = ceiling(n, widest_tile(c))
        columns = ceiling(tiles, min(tiles, 4 * threads)) * widest_tile(c)
        column_parts = ceiling(n, columns)
        rows = ceiling(m, ceiling(4 * threads, column_parts))
        rows = ceiling(rows, ROW_GRANULARITY) * ROW_GRANULARITY
        row_parts = ceiling(m, rows)
    product = Product(
        m, n, k, a, a_row, a_column, b, b_row, b_column, False, s, s_row, c,
        scratch, scratch_step, rows, columns, row_parts)
    if row_parts * column_parts == 1:
        multiply_part(&product, 0, 0, c)
    elif real is float:
        team_run(threads, column_parts * row_parts, multiply_part_f32, &product)
    else:
        team_run(threads, column_parts * row_parts, multiply_part_f64, &product)


cdef inline void gemm_packed(
    Py_ssize_t m,
    Py_ssize_t n,
    Py_ssize_t k,
    const real* a,  # IN, m x k
    Py_ssize_t a_row,
    Py_ssize_t a_column,
    const real* packed,  # IN, k x n as `pack` left it
    const real* s,  # IN, m x n, or NULL
    Py_ssize_t s_row,
    real* c,  # OUT, m x n, contiguous rows, may be s
    real* scratch,  # panel_size elements
) noexcept nogil:
    """C = S + A B, on one thread."""
    cdef Product product = Product(
        m, n, k, a, a_row, a_column, packed, 0, 0, True, s, s_row, c, scratch, 0, m, n, 1)
    multiply_part(&product, 0, 0, c)
