"""Gathering: copies the rows of a batch into the layout of the operations."""

from libc.string cimport memcpy
from numpy cimport intp_t

from cnet._core.gemm cimport ceiling, copy_few, prefetch
from cnet._core.scalar cimport real
from cnet._core.team cimport team_run


# A gathering job for the thread pool; each part is GATHER_ROWS rows.
cdef struct GatherTask:
    Py_ssize_t n_rows
    Py_ssize_t row_bytes
    const char* x
    const intp_t* rows
    char* gathered


cdef enum:
    GATHER_ROWS = 16
    # Elements from which waking another thread pays.
    GATHER_SHARED = 20000


cdef inline void gather_part(void* context, Py_ssize_t part, Py_ssize_t thread) noexcept nogil:
    cdef const GatherTask* task = <const GatherTask*>context
    cdef Py_ssize_t i, n_bytes = task.row_bytes
    for i in range(part * GATHER_ROWS, min((part + 1) * GATHER_ROWS, task.n_rows)):
        if i + 1 < task.n_rows:
            # Prefetches the start of the next row; the processor prefetches the rest by itself.
            prefetch(task.x + task.rows[i + 1] * n_bytes, min(n_bytes, 512))
        if n_bytes < 256:
            copy_few(task.gathered + i * n_bytes, task.x + task.rows[i] * n_bytes, n_bytes)
        else:
            memcpy(task.gathered + i * n_bytes, task.x + task.rows[i] * n_bytes, n_bytes)


cdef inline void gather_rows(
    Py_ssize_t B,
    Py_ssize_t I,
    const real* x,  # IN
    const intp_t* rows,  # IN
    real* gathered_BI,  # OUT
    int threads,
) noexcept nogil:
    """gathered = x[rows]."""
    cdef GatherTask task = GatherTask(
        B, I * sizeof(real), <const char*>x, rows, <char*>gathered_BI)
    if B * I < GATHER_SHARED:
        threads = 1
    team_run(threads, ceiling(B, GATHER_ROWS), gather_part, &task)


cdef inline void gather_transposed(
    Py_ssize_t B,
    Py_ssize_t I,
    Py_ssize_t column_stride,
    const real* x,  # IN
    const intp_t* rows,  # IN, or NULL: the first B
    real* gathered_IB,  # OUT
) noexcept nogil:
    """gathered = x[rows]'; the last row is repeated up to the end of each column."""
    cdef Py_ssize_t i = 0, j, p, row
    cdef const real* of_row[2]
    while i < column_stride:
        # Two rows at a time, for fewer and wider stores; columns have an even number of rows.
        for j in range(2):
            row = min(i + j, B - 1)
            of_row[j] = x + (rows[row] if rows != NULL else row) * I
        for p in range(I):
            gathered_IB[p * column_stride + i] = of_row[0][p]
            gathered_IB[p * column_stride + i + 1] = of_row[1][p]
        i += 2


cdef inline const real* gather(
    Py_ssize_t B,
    Py_ssize_t I,
    Py_ssize_t column_stride,
    const real* x,  # IN
    const intp_t* rows,  # IN, or NULL: the first B
    real* gathered_BI,  # OUT, if it is needed
    int threads,
) noexcept nogil:
    """x[rows] in the layout of a block, used in place or gathered."""
    if column_stride > 1:
        gather_transposed(B, I, column_stride, x, rows, gathered_BI)
    elif rows == NULL:
        return x
    elif B == 1:
        return x + rows[0] * I
    else:
        gather_rows(B, I, x, rows, gathered_BI, threads)
    return gathered_BI
