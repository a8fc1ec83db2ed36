"""Checks for Ctrl-C at intervals, from loops that run without the GIL."""

from cpython.exc cimport PyErr_CheckSignals
from libc.time cimport CLOCKS_PER_SEC, clock, clock_t


# The clock is read only after every million multiplications, so that short steps are not slowed down.
cdef struct Watch:
    double work
    clock_t last


cdef inline Watch start_watch() noexcept nogil:
    return Watch(0, clock())


cdef inline int look_for_signals(Watch* watch, double work) except -1 nogil:
    """Run Python's signal handlers, which raise KeyboardInterrupt after Ctrl-C; every 50 ms, and never if NULL."""
    cdef clock_t now
    if watch == NULL:
        return 0
    watch.work += work
    if watch.work > 1e6:
        watch.work = 0
        now = clock()
        if now - watch.last > CLOCKS_PER_SEC // 20:
            watch.last = now
            with gil:
                PyErr_CheckSignals()
    return 0
