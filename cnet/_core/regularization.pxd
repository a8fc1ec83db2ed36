"""What holds a layer's weights and outputs back while it learns: dropout, penalties, bounded norms."""

from libc.stdint cimport uint32_t, uint64_t

from cnet._core.scalar cimport absolute, real, square_root


cdef inline uint64_t mix(uint64_t x) noexcept nogil:
    """A number that looks random for each x (Steele, Lea and Flood, 2014: SplitMix64)."""
    x += <uint64_t>0x9E3779B97F4A7C15
    x = (x ^ (x >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
    x = (x ^ (x >> 27)) * <uint64_t>0x94D049BB133111EB
    return x ^ (x >> 31)


# Numbers that are summed side by side.
cdef enum:
    SUMS = 64


cdef inline void drop(
    uint64_t key,
    double share,
    Py_ssize_t n,
    const real* a,  # IN
    real* mask,  # OUT
    real* passed,  # OUT
) noexcept nogil:
    """mask = 0 for that share of all, at random, otherwise 1 / (1 - share); passed = a mask.

    An element's random number is a function of its place and the key (Salmon et al., 2011), here a hash
    of 32 bits found by Wellons (2018), which the compiler vectorises.
    """
    cdef uint32_t place = <uint32_t>key, second = <uint32_t>(key >> 32), hash
    cdef uint32_t bound = <uint32_t>(share * 4294967296.0)
    cdef real kept = <real>(1 / (1 - share))
    cdef Py_ssize_t i
    for i in range(n):
        place += <uint32_t>0x9E3779B1
        hash = (place ^ (place >> 16)) * <uint32_t>0x21F0AAAD
        hash = ((hash ^ (hash >> 15)) + second) * <uint32_t>0x735A2D97
        hash = hash ^ (hash >> 15)
        mask[i] = 0 if hash < bound else kept
        passed[i] = a[i] * mask[i]


cdef inline void multiply(
    Py_ssize_t n,
    const real* mask,  # IN
    real* delta,  # INOUT
) noexcept nogil:
    """delta = delta mask."""
    cdef Py_ssize_t i
    for i in range(n):
        delta[i] = delta[i] * mask[i]


cdef inline double penalty(
    double l1,
    double l2,
    Py_ssize_t I,
    Py_ssize_t O,
    const real* weights_IO,  # IN
) noexcept nogil:
    """l1 sum |w| + l2 / 2 sum w^2."""
    cdef Py_ssize_t first = 0, i, j, stop, n = I * O
    cdef real sums[SUMS]
    cdef real size = <real>l1, square = <real>(0.5 * l2)
    cdef double total = 0
    while first + SUMS <= n:
        for j in range(SUMS):
            sums[j] = 0
        # Side by side, which vectors can do and one sum could not; and block by block, which keeps digits.
        stop = min(n, first + 64 * SUMS)
        while first + SUMS <= stop:
            # Of large weights the squares overflow, which is nothing to l1.
            if l2 > 0:
                for j in range(SUMS):
                    sums[j] += weights_IO[first + j] * weights_IO[first + j] * square
            if l1 > 0:
                for j in range(SUMS):
                    sums[j] += absolute(weights_IO[first + j]) * size
            first += SUMS
        for j in range(SUMS):
            total += sums[j]
    for i in range(first, n):
        if l2 > 0:
            total += weights_IO[i] * weights_IO[i] * square
        total += absolute(weights_IO[i]) * size
    return total


cdef inline void add_penalty_gradient(
    double l1,
    double l2,
    Py_ssize_t n,
    const real* weights,  # IN
    real* gradient,  # INOUT
) noexcept nogil:
    """gradient += l1 sign(w) + l2 w."""
    cdef Py_ssize_t i
    cdef real first = <real>l1, second = <real>l2
    if l2 > 0:
        for i in range(n):
            gradient[i] += second * weights[i]
    if l1 > 0:
        for i in range(n):
            gradient[i] += first if weights[i] > 0 else (-first if weights[i] < 0 else 0)


cdef inline void bound_norms(
    double most,
    Py_ssize_t I,
    Py_ssize_t O,
    real* weights_IO,  # INOUT
    real* factors_O,  # scratch
) noexcept nogil:
    """Shrink each neuron's weights to a Euclidean norm of at most `most` (Srebro et al., 2005)."""
    cdef Py_ssize_t i, j
    cdef real bound = <real>most
    for j in range(O):
        factors_O[j] = 0
    for i in range(I):
        for j in range(O):
            factors_O[j] += weights_IO[i * O + j] * weights_IO[i * O + j]
    for j in range(O):
        factors_O[j] = square_root(factors_O[j])
        # Of a norm that overflows NaN, which is seen, and not 0, which would be a neuron lost unseen.
        factors_O[j] = (
            bound / factors_O[j] + (factors_O[j] - factors_O[j]) if factors_O[j] > bound else <real>1)
    for i in range(I):
        for j in range(O):
            weights_IO[i * O + j] = weights_IO[i * O + j] * factors_O[j]
