/* A pool of threads that splits the parts of a loop among its threads.
 *
 *     team_run(size, parts, task, context)
 *
 * calls task(context, part, thread) once for every part, on the calling thread (number 0) and on up to
 * size - 1 workers. Each thread takes the next part as soon as it is free. team_run returns when all parts
 * are done. Workers are started on first use. After their last part they spin for some microseconds and then
 * sleep. The pool serves one caller at a time; meanwhile, any other caller does all its parts itself. After
 * a fork, the child process starts without workers.
 */
#ifndef CNET_TEAM_H
#define CNET_TEAM_H

#include <stddef.h>

typedef void (*team_task)(void *context, ptrdiff_t part, ptrdiff_t thread);

#define TEAM_MOST_THREADS 64

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>

#if defined(__x86_64__) || defined(__i386__)
#define TEAM_PAUSE() __builtin_ia32_pause()
#else
#define TEAM_PAUSE() atomic_signal_fence(memory_order_seq_cst)
#endif

/* Spins of a worker before it sleeps, about 200 microseconds. Waking up takes as long, so a worker spins
 * through the serial parts of a training step. */
#define TEAM_WORKER_SPINS 8000
/* Spins of the caller, waiting for a delayed worker, before it yields the core to other processes. */
#define TEAM_CALLER_SPINS 2000

/* The ticket holds the current job in one word; adding 1 claims a part. Starting at the lowest bits: the
 * next part, the number of parts, and the number of threads that may claim parts. */
#define TEAM_PART_BITS 24
#define TEAM_PARTS_MASK (((uint64_t)1 << TEAM_PART_BITS) - 1)

static struct {
    _Alignas(64) _Atomic uint64_t ticket;
    _Alignas(64) _Atomic ptrdiff_t done;
    _Alignas(64) team_task task;
    void *context;
    atomic_flag busy;
    atomic_int callers;
    int workers;
    atomic_int sleepers;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
} team = {.busy = ATOMIC_FLAG_INIT, .mutex = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};

static inline int team_has_part(uint64_t ticket, ptrdiff_t thread)
{
    return (ticket & TEAM_PARTS_MASK) < ((ticket >> TEAM_PART_BITS) & TEAM_PARTS_MASK)
        && (uint64_t)thread < ticket >> (2 * TEAM_PART_BITS);
}

/* Claims the next part, or returns -1. Task and context are read after a part is claimed, and do not change
 * until it is done. */
static inline ptrdiff_t team_claim(ptrdiff_t thread)
{
    uint64_t ticket = atomic_load_explicit(&team.ticket, memory_order_acquire);
    while (team_has_part(ticket, thread))
        if (atomic_compare_exchange_weak(&team.ticket, &ticket, ticket + 1))
            return (ptrdiff_t)(ticket & TEAM_PARTS_MASK);
    return -1;
}

static void team_sleep(ptrdiff_t thread)
{
    pthread_mutex_lock(&team.mutex);
    atomic_fetch_add(&team.sleepers, 1);
    if (!team_has_part(atomic_load(&team.ticket), thread))
        pthread_cond_wait(&team.wake, &team.mutex);
    atomic_fetch_sub(&team.sleepers, 1);
    pthread_mutex_unlock(&team.mutex);
}

static void *team_work(void *number)
{
    const ptrdiff_t thread = (ptrdiff_t)number;
    for (int spins = 0;;) {
        ptrdiff_t part = team_claim(thread);
        if (part >= 0) {
            team.task(team.context, part, thread);
            atomic_fetch_add(&team.done, 1);
            spins = 0;
        } else if (++spins < TEAM_WORKER_SPINS) {
            TEAM_PAUSE();
        } else {
            team_sleep(thread);
            spins = 0;
        }
    }
    return NULL;
}

/* Called in the child of a fork, where neither the workers nor the holders of the locks exist. */
static void team_reset_after_fork(void)
{
    static const pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    static const pthread_cond_t wake = PTHREAD_COND_INITIALIZER;
    team.mutex = mutex;
    team.wake = wake;
    team.workers = 0;
    atomic_store(&team.sleepers, 0);
    atomic_store(&team.callers, 0);
    atomic_store(&team.ticket, 0);
    atomic_flag_clear(&team.busy);
}

static int team_handles_forks = 0;

/* Starts workers for `size` threads in total, or as many as the system allows. */
static void team_start_workers(int size)
{
    pthread_attr_t attributes;
    sigset_t all, before;
    if (team.workers >= size - 1)
        return;
    if (!team_handles_forks || pthread_attr_init(&attributes) != 0)
        return;
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    /* Workers block all signals, which the program's own threads handle. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (team.workers < size - 1) {
        pthread_t thread;
        if (pthread_create(&thread, &attributes, team_work, (void *)(ptrdiff_t)(team.workers + 1)) != 0)
            break;
        team.workers++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
}

static void team_run(int size, ptrdiff_t parts, team_task task, void *context)
{
    /* Python threads that compute at the same time share the cores. */
    const int callers = atomic_load_explicit(&team.callers, memory_order_relaxed);
    size = callers > 1 ? size / callers : size;
    size = size < parts ? size : (int)parts;
    if (size < 2 || (uint64_t)parts > TEAM_PARTS_MASK || atomic_flag_test_and_set(&team.busy)) {
        for (ptrdiff_t part = 0; part < parts; part++)
            task(context, part, 0);
        return;
    }
    team_start_workers(size);
    team.task = task;
    team.context = context;
    atomic_store(&team.done, 0);
    atomic_store(&team.ticket, (uint64_t)size << (2 * TEAM_PART_BITS) | (uint64_t)parts << TEAM_PART_BITS);
    if (atomic_load(&team.sleepers) > 0) {
        pthread_mutex_lock(&team.mutex);
        pthread_cond_broadcast(&team.wake);
        pthread_mutex_unlock(&team.mutex);
    }
    ptrdiff_t part, own = 0;
    while ((part = team_claim(0)) >= 0) {
        task(context, part, 0);
        own++;
    }
    for (int spins = 0; atomic_load(&team.done) + own < parts; spins++) {
        if (spins < TEAM_CALLER_SPINS)
            TEAM_PAUSE();
        else
            sched_yield();
    }
    atomic_flag_clear(&team.busy);
}

/* A Python thread calls team_enter before its work and team_leave after it, both with the GIL held. */
static void team_enter(void)
{
    if (!team_handles_forks)
        team_handles_forks = pthread_atfork(NULL, NULL, team_reset_after_fork) == 0;
    atomic_fetch_add(&team.callers, 1);
}

static void team_leave(void)
{
    /* The count is 0 if the process was forked in between. */
    int callers = atomic_load(&team.callers);
    while (callers > 0 && !atomic_compare_exchange_weak(&team.callers, &callers, callers - 1))
        ;
}

#else /* no POSIX threads */
static void team_run(int size, ptrdiff_t parts, team_task task, void *context)
{
    (void)size;
    for (ptrdiff_t part = 0; part < parts; part++)
        task(context, part, 0);
}
static void team_enter(void) {}
static void team_leave(void) {}
#endif

#endif
