"""A look for Ctrl-C now and then, from loops that run without the GIL."""

from cpython.exc cimport PyErr_CheckSignals
from libc.time cimport CLOCKS_PER_SEC, clock, clock_t


# It reads the clock after every million multiplications, so that it costs nothing where a step takes nanoseconds.
cdef struct Watch:
    double work
    clock_t last


cdef inline Watch start_watch() noexcept nogil:
    return Watch(0, clock())


cdef inline int look_for_signals(Watch* watch, double work) except -1 nogil:
    """Raise KeyboardInterrupt, or run the user's signal handler, at most 50 ms late; NULL: do not look."""
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
