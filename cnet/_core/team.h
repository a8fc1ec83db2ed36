/* A team of threads that share out the parts of a loop.
 *
 *     team_run(size, parts, task, context)
 *
 * calls task(context, part, thread) once for every part, on the calling thread (number 0) and on up to
 * size - 1 workers, which take the next part as soon as they are free; it returns when all are done.
 * Workers are started when first wanted, look for work for some microseconds after the last and then
 * sleep. A team serves one caller at a time; another one, meanwhile, does all its parts itself. A process
 * made by fork starts without workers.
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

/* Looks at the ticket before a worker goes to sleep, some 200 microseconds: a step of training, whose parts
 * that are not worth sharing it waits out, for to be woken takes as long. */
#define TEAM_LOOKS_OF_WORKER 8000
/* Looks at a worker that has been held up before its caller lets other processes have the core. */
#define TEAM_LOOKS_OF_CALLER 2000

/* What is to be done, in one word that a part is claimed from by adding 1: from the lowest bits, the next
 * part, the number of parts, and how many threads may take some. */
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

/* The next part, or -1. Task and context are read after a part is claimed, and stand until it is done. */
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
    for (int looks = 0;;) {
        ptrdiff_t part = team_claim(thread);
        if (part >= 0) {
            team.task(team.context, part, thread);
            atomic_fetch_add(&team.done, 1);
            looks = 0;
        } else if (++looks < TEAM_LOOKS_OF_WORKER) {
            TEAM_PAUSE();
        } else {
            team_sleep(thread);
            looks = 0;
        }
    }
    return NULL;
}

/* In the child of a fork: the workers are gone, and whoever held the locks. */
static void team_forget(void)
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

static int team_watches_forks = 0;

/* Workers enough for so many threads, or as many as the system gives. */
static void team_hire(int size)
{
    pthread_attr_t attributes;
    sigset_t all, before;
    if (team.workers >= size - 1)
        return;
    if (!team_watches_forks || pthread_attr_init(&attributes) != 0)
        return;
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    /* Signals are for the threads of the program. */
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
    /* Threads of Python that compute at the same time share the cores. */
    const int callers = atomic_load_explicit(&team.callers, memory_order_relaxed);
    size = callers > 1 ? size / callers : size;
    size = size < parts ? size : (int)parts;
    if (size < 2 || (uint64_t)parts > TEAM_PARTS_MASK || atomic_flag_test_and_set(&team.busy)) {
        for (ptrdiff_t part = 0; part < parts; part++)
            task(context, part, 0);
        return;
    }
    team_hire(size);
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
    for (int looks = 0; atomic_load(&team.done) + own < parts; looks++) {
        if (looks < TEAM_LOOKS_OF_CALLER)
            TEAM_PAUSE();
        else
            sched_yield();
    }
    atomic_flag_clear(&team.busy);
}

/* Around the work of a thread of Python, which has the GIL here. */
static void team_enter(void)
{
    if (!team_watches_forks)
        team_watches_forks = pthread_atfork(NULL, NULL, team_forget) == 0;
    atomic_fetch_add(&team.callers, 1);
}

static void team_leave(void)
{
    /* None is counted where the process was forked in between. */
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
