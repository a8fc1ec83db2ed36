"""Threads that share out the parts of a loop; see team.h."""

cdef extern from "team.h" nogil:
    ctypedef void (*team_task)(void* context, Py_ssize_t part, Py_ssize_t thread) noexcept nogil
    const Py_ssize_t TEAM_MOST_THREADS

    # Every part once, by up to `size` threads, each with a number below `size`.
    void team_run(int size, Py_ssize_t parts, team_task task, void* context) noexcept
    # Around the work of one of Python's threads, with the GIL.
    void team_enter() noexcept
    void team_leave() noexcept
