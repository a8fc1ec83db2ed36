"""A pool of threads that splits the parts of a loop among its threads; see team.h."""

cdef extern from "team.h" nogil:
    ctypedef void (*team_task)(void* context, Py_ssize_t part, Py_ssize_t thread) noexcept nogil
    const Py_ssize_t TEAM_MOST_THREADS

    # Runs every part once, on up to `size` threads numbered from 0 to size - 1.
    void team_run(int size, Py_ssize_t parts, team_task task, void* context) noexcept
    # A Python thread calls these before and after its work, with the GIL held.
    void team_enter() noexcept
    void team_leave() noexcept
