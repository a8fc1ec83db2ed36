"""Matrix product over any strides: C (+)= A B, from register tiles and zero-padded panels of B."""

from libc.string cimport memset

from cnet._core.scalar cimport real


cdef extern from "tile.h" nogil:
    const Py_ssize_t TILE_ROWS_WIDE
    const Py_ssize_t TILE_ROWS_NARROW
    const Py_ssize_t tile_wide_f32_width
    const Py_ssize_t tile_wide_f64_width

    void tile_f32(
        Py_ssize_t width, Py_ssize_t rows, Py_ssize_t depth,
        const float* a, Py_ssize_t a_row, Py_ssize_t a_column,
        const float* b, Py_ssize_t b_row,
        float* c, Py_ssize_t c_row, bint accumulate,
    ) noexcept
    Py_ssize_t tile_width_f32(Py_ssize_t columns) noexcept

    void tile_f64(
        Py_ssize_t width, Py_ssize_t rows, Py_ssize_t depth,
        const double* a, Py_ssize_t a_row, Py_ssize_t a_column,
        const double* b, Py_ssize_t b_row,
        double* c, Py_ssize_t c_row, bint accumulate,
    ) noexcept
    Py_ssize_t tile_width_f64(Py_ssize_t columns) noexcept


# Depth of a panel: 256 rows of two vectors stay in the first-level cache while the rows of A pass.
cdef enum:
    PANEL_DEPTH = 256
    IN_PLACE_SIZE = 4096  # elements


cdef inline Py_ssize_t widest_tile(const real* like) noexcept nogil:
    """Columns of the widest tile, two vectors of the dtype."""
    if real is float:
        return tile_wide_f32_width
    else:
        return tile_wide_f64_width


cdef inline Py_ssize_t tile_width(Py_ssize_t columns, const real* like) noexcept nogil:
    """Columns of the tile for so many columns left."""
    if real is float:
        return tile_width_f32(columns)
    else:
        return tile_width_f64(columns)


cdef inline Py_ssize_t panel_size(const real* like) noexcept nogil:
    """Elements of scratch that `gemm` needs: a panel of B, a tile of C."""
    return (PANEL_DEPTH + TILE_ROWS_NARROW) * widest_tile(like)


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
    for p in range(depth):
        for j in range(columns):
            panel[p * width + j] = b[p * b_row + j * b_column]
        for j in range(columns, width):
            panel[p * width + j] = 0


cdef inline void tile(
    Py_ssize_t width,
    Py_ssize_t rows,
    Py_ssize_t depth,
    const real* a,  # IN
    Py_ssize_t a_row,
    Py_ssize_t a_column,
    const real* b,  # IN
    Py_ssize_t b_row,
    real* c,  # INOUT
    Py_ssize_t c_row,
    bint accumulate,
) noexcept nogil:
    if real is float:
        tile_f32(
            width, rows, depth, a, a_row, a_column, b, b_row, c, c_row, accumulate)
    else:
        tile_f64(
            width, rows, depth, a, a_row, a_column, b, b_row, c, c_row, accumulate)


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
    real* c,  # INOUT, m x columns
    Py_ssize_t c_row,
    bint accumulate,
    real* edge,  # scratch, TILE_ROWS_NARROW x width
) noexcept nogil:
    """C = A B, or C += A B, for the columns of one tile."""
    cdef Py_ssize_t i = 0, r, j, rows, most = TILE_ROWS_NARROW
    if width == widest_tile(c):
        most = TILE_ROWS_WIDE
    while i < m:
        rows = min(most, m - i)
        if columns == width:
            tile(width, rows, depth, a + i * a_row, a_row, a_column, b, b_row,
                 c + i * c_row, c_row, accumulate)
        else:
            # The tile is wider than what is left of C.
            tile(width, rows, depth, a + i * a_row, a_row, a_column, b, b_row, edge, width, False)
            for r in range(rows):
                for j in range(columns):
                    if accumulate:
                        c[(i + r) * c_row + j] += edge[r * width + j]
                    else:
                        c[(i + r) * c_row + j] = edge[r * width + j]
        i += most


cdef inline void multiply_row(
    Py_ssize_t n,
    Py_ssize_t k,
    const real* a,  # IN, k
    Py_ssize_t a_column,
    const real* b,  # IN, k x n
    Py_ssize_t b_row,
    Py_ssize_t b_column,
    real* c,  # INOUT, n
    bint accumulate,
) noexcept nogil:
    """C = A B, or C += A B, for a single row of A, whose B is read once and not worth a panel."""
    cdef Py_ssize_t p, j, first = 0, width
    cdef real a_p
    # Whole tiles of columns where B's rows are contiguous, and what is left one by one.
    while b_column == 1:
        width = tile_width(n - first, c)
        if width > n - first:
            break
        tile(width, 1, k, a, 0, a_column, b + first, b_row, c + first, 0, accumulate)
        first += width
    if not accumulate:
        memset(c + first, 0, (n - first) * sizeof(real))
    for p in range(k):
        a_p = a[p * a_column]
        for j in range(first, n):
            c[j] += a_p * b[p * b_row + j * b_column]


cdef inline void outer_product(
    Py_ssize_t m,
    Py_ssize_t n,
    const real* a,  # IN, m
    Py_ssize_t a_row,
    const real* b,  # IN, n
    Py_ssize_t b_column,
    real* c,  # INOUT, m x n, contiguous rows
    bint accumulate,
) noexcept nogil:
    """C = A B, or C += A B, for a single column of A and a single row of B."""
    cdef Py_ssize_t i, j
    cdef real a_i
    for i in range(m):
        a_i = a[i * a_row]
        if accumulate:
            for j in range(n):
                c[i * n + j] += a_i * b[j * b_column]
        else:
            for j in range(n):
                c[i * n + j] = a_i * b[j * b_column]


cdef inline void gemm(
    Py_ssize_t m,
    Py_ssize_t n,
    Py_ssize_t k,
    const real* a,  # IN, m x k
    Py_ssize_t a_row,
    Py_ssize_t a_column,
    const real* b,  # IN, k x n
    Py_ssize_t b_row,
    Py_ssize_t b_column,
    real* c,  # INOUT, m x n, contiguous rows
    bint accumulate,
    real* panel,  # scratch, panel_size elements
) noexcept nogil:
    """C = A B, or C += A B."""
    cdef const real* b_block
    cdef Py_ssize_t p = 0, j, depth, width, columns, b_block_row
    if m == 1 and (b_column == 1 or n * k <= IN_PLACE_SIZE):
        multiply_row(n, k, a, a_column, b, b_row, b_column, c, accumulate)
        return
    if k == 1:
        outer_product(m, n, a, a_row, b, b_column, c, accumulate)
        return
    while p < k:
        depth = min(PANEL_DEPTH, k - p)
        j = 0
        while j < n:
            width = tile_width(n - j, c)
            columns = min(width, n - j)
            b_block = b + p * b_row + j * b_column
            b_block_row = b_row
            # Whole contiguous rows are used where they lie, unless many tiles will read them out of
            # a matrix that is too large for the first-level cache.
            if b_column != 1 or columns < width or (
                    m > 4 * TILE_ROWS_WIDE and depth * b_row > IN_PLACE_SIZE):
                pack_panel(depth, columns, width, b_block, b_row, b_column, panel)
                b_block = panel
                b_block_row = width
            multiply_panel(
                m, columns, depth, a + p * a_column, a_row, a_column,
                b_block, b_block_row, width, c + j, n, accumulate or p > 0,
                panel + PANEL_DEPTH * widest_tile(c),
            )
            j += width
        p += PANEL_DEPTH
