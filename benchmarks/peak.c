/* The peak rate of fused multiply-adds of floats on one core: independent chains of full vectors, enough
   to hide the latency, all in registers. */

#if defined(__AVX512F__)
#define BYTES 64
#elif defined(__AVX__)
#define BYTES 32
#else
#define BYTES 16
#endif
#define CHAINS 12

typedef float vector __attribute__((vector_size(BYTES)));

/* Number of operations in one step; a multiply-add counts as two. */
long operations_per_step(void) { return 2L * CHAINS * (BYTES / sizeof(float)); }

/* The result depends on every operation and the factors are arguments, so the compiler can neither remove
   an operation nor compute it in advance. */
float run(long steps, float factor, float summand) {
    vector chain[CHAINS], factors = {0}, summands = {0}, sum = {0};
    factors += factor;
    summands += summand;
    for (int i = 0; i < CHAINS; i++) chain[i] = summands * (float)i;
    for (long step = 0; step < steps; step++)
        for (int i = 0; i < CHAINS; i++) chain[i] = chain[i] * factors + summands;
    for (int i = 0; i < CHAINS; i++) sum += chain[i];
    float total = 0;
    for (unsigned i = 0; i < BYTES / sizeof(float); i++) total += sum[i];
    return total;
}
