"""Matrix product over any strides: C (+)= A B, from register tiles and zero-padded panels of B."""

from cnet._core.scalar cimport real


cdef extern from "tile.h" nogil:
    const Py_ssize_t TILE_ROWS
    const Py_ssize_t TILE_COLUMNS_F32
    const Py_ssize_t TILE_COLUMNS_F64

    void tile_f32(
        Py_ssize_t rows, Py_ssize_t depth,
        const float* a, Py_ssize_t a_row, Py_ssize_t a_column,
        const float* b, Py_ssize_t b_row,
        float* c, Py_ssize_t c_row, bint accumulate,
    ) noexcept

    void tile_f64(
        Py_ssize_t rows, Py_ssize_t depth,
        const double* a, Py_ssize_t a_row, Py_ssize_t a_column,
        const double* b, Py_ssize_t b_row,
        double* c, Py_ssize_t c_row, bint accumulate,
    ) noexcept


# Depth of a panel: 256 rows of two vectors stay in the first-level cache while the rows of A pass.
cdef enum:
    PANEL_DEPTH = 256


cdef inline Py_ssize_t tile_columns(const real* like) noexcept nogil:
    """Columns of a tile, two vectors of the dtype."""
    if real is float:
        return TILE_COLUMNS_F32
    else:
        return TILE_COLUMNS_F64


cdef inline Py_ssize_t panel_size(const real* like) noexcept nogil:
    """Elements of scratch that `gemm` needs: a panel of B and one tile of C."""
    return (PANEL_DEPTH + TILE_ROWS) * tile_columns(like)


cdef inline void pack_panel(
    Py_ssize_t depth,
    Py_ssize_t columns,
    const real* b,  # IN, depth x columns
    Py_ssize_t b_row,
    Py_ssize_t b_column,
    real* panel,  # OUT, depth x tile_columns, zeros on the right
) noexcept nogil:
    cdef Py_ssize_t p, j, width = tile_columns(panel)
    for p in range(depth):
        for j in range(columns):
            panel[p * width + j] = b[p * b_row + j * b_column]
        for j in range(columns, width):
            panel[p * width + j] = 0


cdef inline void tile(
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
        tile_f32(rows, depth, a, a_row, a_column, b, b_row, c, c_row, accumulate)
    else:
        tile_f64(rows, depth, a, a_row, a_column, b, b_row, c, c_row, accumulate)


cdef inline void multiply_panel(
    Py_ssize_t m,
    Py_ssize_t columns,
    Py_ssize_t depth,
    const real* a,  # IN, m x depth
    Py_ssize_t a_row,
    Py_ssize_t a_column,
    const real* b,  # IN, depth x tile_columns
    Py_ssize_t b_row,
    real* c,  # INOUT, m x columns
    Py_ssize_t c_row,
    bint accumulate,
    real* edge,  # scratch, one tile
) noexcept nogil:
    """C = A B, or C += A B, for at most tile_columns columns of C."""
    cdef Py_ssize_t width = tile_columns(edge)
    cdef Py_ssize_t i = 0, r, q, rows
    while i < m:
        rows = min(TILE_ROWS, m - i)
        if columns == width:
            tile(rows, depth, a + i * a_row, a_row, a_column, b, b_row,
                 c + i * c_row, c_row, accumulate)
        else:
            # The tile is wider than what is left of C.
            tile(rows, depth, a + i * a_row, a_row, a_column, b, b_row, edge, width, False)
            for r in range(rows):
                for q in range(columns):
                    if accumulate:
                        c[(i + r) * c_row + q] += edge[r * width + q]
                    else:
                        c[(i + r) * c_row + q] = edge[r * width + q]
        i += TILE_ROWS


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
    real* scratch,  # panel_size elements
) noexcept nogil:
    """C = A B, or C += A B."""
    cdef Py_ssize_t width = tile_columns(scratch)
    cdef real* panel = scratch
    cdef real* edge = scratch + PANEL_DEPTH * width
    cdef const real* b_block
    cdef Py_ssize_t p = 0, j, depth, columns, b_block_row
    while p < k:
        depth = min(PANEL_DEPTH, k - p)
        j = 0
        while j < n:
            columns = min(width, n - j)
            b_block = b + p * b_row + j * b_column
            b_block_row = b_row
            # Whole contiguous rows are used where they lie, unless many tiles will read them.
            if b_column != 1 or columns < width or m > 4 * TILE_ROWS:
                pack_panel(depth, columns, b_block, b_row, b_column, panel)
                b_block = panel
                b_block_row = width
            multiply_panel(
                m, columns, depth, a + p * a_column, a_row, a_column,
                b_block, b_block_row, c + j, n, accumulate or p > 0, edge,
            )
            j += width
        p += PANEL_DEPTH
