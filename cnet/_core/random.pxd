"""Shuffling, from NumPy's bit generators."""

from libc.stdint cimport uint32_t, uint64_t
from numpy cimport intp_t


# Not cimported from numpy.random, because this would import numpy.random with cnet.
cdef extern from "numpy/random/bitgen.h":
    ctypedef struct bitgen_t:
        void* state
        uint64_t (*next_uint64)(void* state) noexcept nogil
        uint32_t (*next_uint32)(void* state) noexcept nogil


cdef inline Py_ssize_t integer_below(bitgen_t* random, Py_ssize_t n) noexcept nogil:
    """A uniform random integer from 0 to n - 1, nearly always without a division (Lemire, 2019)."""
    cdef uint64_t product
    cdef uint32_t bound = <uint32_t>n, least
    if n >> 32 != 0:
        return <Py_ssize_t>(random.next_uint64(random.state) % <uint64_t>n)
    product = <uint64_t>random.next_uint32(random.state) * bound
    if <uint32_t>product < bound:
        least = (<uint32_t>0 - bound) % bound
        while <uint32_t>product < least:
            product = <uint64_t>random.next_uint32(random.state) * bound
    return <Py_ssize_t>(product >> 32)


cdef inline void permute(
    bitgen_t* random,
    Py_ssize_t n,
    intp_t* order,  # OUT
) noexcept nogil:
    """order = a permutation of 0 … n - 1 (Fisher and Yates, inside out)."""
    cdef Py_ssize_t i, j
    for i in range(n):
        j = integer_below(random, i + 1)
        order[i] = order[j]
        order[j] = i
