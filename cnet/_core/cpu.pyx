"""Detects the instruction sets that the processor and the operating system support."""


cdef extern from *:
    """
    #if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
    static int cnet_has_x86_64_v2(void) {
        __builtin_cpu_init();
        return __builtin_cpu_supports("ssse3") && __builtin_cpu_supports("sse4.1") &&
               __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("popcnt");
    }
    static int cnet_has_x86_64_v3(void) {
        return cnet_has_x86_64_v2() && __builtin_cpu_supports("avx2") &&
               __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") &&
               __builtin_cpu_supports("fma");
    }
    static int cnet_has_x86_64_v4(void) {
        return cnet_has_x86_64_v3() && __builtin_cpu_supports("avx512f") &&
               __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    }
    #else
    static int cnet_has_x86_64_v2(void) { return 0; }
    static int cnet_has_x86_64_v3(void) { return 0; }
    static int cnet_has_x86_64_v4(void) { return 0; }
    #endif
    """
    bint has_x86_64_v2 "cnet_has_x86_64_v2"() noexcept
    bint has_x86_64_v3 "cnet_has_x86_64_v3"() noexcept
    bint has_x86_64_v4 "cnet_has_x86_64_v4"() noexcept


def supported_isas():
    """Return the supported levels of x86-64, best last; an empty list on other architectures."""
    levels = (
        ("x86_64_v2", has_x86_64_v2()), ("x86_64_v3", has_x86_64_v3()), ("x86_64_v4", has_x86_64_v4()))
    return [name for name, supported in levels if supported]
