/* team.c: one word says which job it is and which unit is next, so that taking a unit is one
   compare-and-swap that fails for who looks at a job of the past. Between two jobs it is CLOSED,
   while the caller writes down what the next one is. Locks are for sleeping only. */
#include "core/base/team.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "core/base/log.h"
#include "core/base/memory.h"

static const uint32_t CLOSED = UINT32_MAX;
enum { LINE = 64 };
static const double PATIENCE = 30e-6; /* seconds before a waiting thread sleeps */
/* A helper that the system puts aside in the middle of a unit costs the caller some milliseconds:
   more than a short job is worth. After such a wait the caller does the jobs of the next
   milliseconds alone, twice as long each time that it happens again soon. Not a number of jobs:
   long ones gain more from help than a wait costs. */
static const double STALL = 300e-6, ALONE_MIN = 4e-3, ALONE_MAX = 64e-3; /* seconds */
enum { CALM = 128 }; /* jobs without a wait that halve the time */
/* Short jobs beside a busy program can be slower together than alone without any such wait. So what
   each kind of them takes is kept for both ways, and the clearly faster is taken; the other is
   tried again now and then. Long ones are worth the help always. */
enum { KINDS = 64, SOON = 16, SELDOM = 1024 }; /* jobs until the other way is tried again */
static const double SHORT = 5e-3, CLEARLY = 0.9;

struct kind {
    rt_unit_fn *fn;
    int64_t units;
    double alone, together; /* seconds, of the last ones the most; 0 = not known */
    bool was;               /* alone was the faster when the other was last tried */
    int until, gap;         /* jobs until the other way is tried; and then again */
};

struct helper {
    rt_team *team;
    pthread_t id;
    int member;
};

struct rt_team {
    _Atomic uint64_t ticket; /* number of the job, 32 bits; the unit to take next */
    char apart0[LINE];       /* what one thread writes and others read is on lines of its own */
    _Atomic uint32_t done;   /* units of the job */
    char apart1[LINE];
    _Atomic uint32_t units; /* the job; written while CLOSED */
    _Atomic(rt_unit_fn *) fn;
    _Atomic(void *) ctx;
    atomic_int members;
    char apart2[LINE];
    atomic_int sleepers; /* helpers that wait for `come` */
    atomic_bool caller_sleeps, stop;
    pthread_mutex_t lock;
    pthread_cond_t come, finished;
    int n; /* threads, the caller among them */
    struct helper *helper;
    double alone, penalty; /* until when jobs are done alone; how long after the next wait */
    int calm;              /* jobs since the last one */
    struct kind kind[KINDS];
};

static uint32_t job_of(uint64_t ticket) { return (uint32_t)(ticket >> 32); }

static void breathe(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
}

/* Takes units of job `job` until there are none left. */
static void work(rt_team *t, uint32_t job, int member)
{
    for (;;) {
        uint64_t ticket = atomic_load(&t->ticket);
        uint32_t unit = (uint32_t)ticket;
        if (job_of(ticket) != job)
            return;
        if (unit == CLOSED) {
            breathe();
            continue;
        }
        uint32_t units = atomic_load_explicit(&t->units, memory_order_relaxed);
        rt_unit_fn *fn = atomic_load_explicit(&t->fn, memory_order_relaxed);
        void *ctx = atomic_load_explicit(&t->ctx, memory_order_relaxed);
        if (unit >= units || member >= atomic_load_explicit(&t->members, memory_order_relaxed))
            return;
        if (!atomic_compare_exchange_weak(&t->ticket, &ticket, ticket + 1))
            continue; /* what was read may be of another job */
        fn(ctx, unit, member);
        if (atomic_fetch_add(&t->done, 1) + 1 == units && atomic_load(&t->caller_sleeps)) {
            pthread_mutex_lock(&t->lock);
            pthread_cond_signal(&t->finished);
            pthread_mutex_unlock(&t->lock);
        }
    }
}

/* Looks for a while whether there is another job than `seen`. */
static bool look_out(rt_team *t, uint32_t seen)
{
    for (double stop = rt_now() + PATIENCE; rt_now() < stop;)
        for (int i = 0; i < 16; i++) {
            if (job_of(atomic_load(&t->ticket)) != seen)
                return true;
            breathe();
        }
    return false;
}

static void *help(void *p)
{
    struct helper *me = p;
    rt_team *t = me->team;
    for (uint32_t seen = 0;;) {
        if (!look_out(t, seen)) {
            pthread_mutex_lock(&t->lock);
            atomic_fetch_add(&t->sleepers, 1);
            while (job_of(atomic_load(&t->ticket)) == seen)
                pthread_cond_wait(&t->come, &t->lock);
            atomic_fetch_sub(&t->sleepers, 1);
            pthread_mutex_unlock(&t->lock);
        }
        if (atomic_load(&t->stop))
            return NULL;
        seen = job_of(atomic_load(&t->ticket));
        work(t, seen, me->member);
    }
}

/* The next job, whose number nobody has seen; helpers that sleep are called. */
static uint32_t publish(rt_team *t, rt_unit_fn *fn, void *ctx, uint32_t units, int members)
{
    uint32_t job = job_of(atomic_load(&t->ticket)) + 1;
    atomic_store(&t->ticket, (uint64_t)job << 32 | CLOSED);
    atomic_store_explicit(&t->units, units, memory_order_relaxed);
    atomic_store_explicit(&t->fn, fn, memory_order_relaxed);
    atomic_store_explicit(&t->ctx, ctx, memory_order_relaxed);
    atomic_store_explicit(&t->members, members, memory_order_relaxed);
    atomic_store(&t->done, 0);
    atomic_store(&t->ticket, (uint64_t)job << 32);
    if (atomic_load(&t->sleepers)) {
        pthread_mutex_lock(&t->lock);
        pthread_cond_broadcast(&t->come);
        pthread_mutex_unlock(&t->lock);
    }
    return job;
}

static void wait_for_all(rt_team *t, uint32_t units)
{
    for (double stop = rt_now() + PATIENCE; rt_now() < stop;)
        for (int i = 0; i < 16; i++) {
            if (atomic_load(&t->done) == units)
                return;
            breathe();
        }
    pthread_mutex_lock(&t->lock);
    atomic_store(&t->caller_sleeps, true);
    while (atomic_load(&t->done) != units)
        pthread_cond_wait(&t->finished, &t->lock);
    atomic_store(&t->caller_sleeps, false);
    pthread_mutex_unlock(&t->lock);
}

/* From a job that the caller worked on for `worked` seconds and then waited for. */
static void learn(rt_team *t, double worked, double waited)
{
    if (waited > STALL && waited > worked / 2) {
        t->penalty = fmin(ALONE_MAX, fmax(ALONE_MIN, 2 * t->penalty));
        t->alone = rt_now() + t->penalty;
        t->calm = 0;
    } else if (++t->calm >= CALM) {
        t->penalty /= 2;
        t->calm = 0;
    }
}

static struct kind *kind_of(rt_team *t, rt_unit_fn *fn, int64_t units)
{
    uint64_t hash = ((uint64_t)(uintptr_t)fn >> 4) * 31 + (uint64_t)units;
    struct kind *k = &t->kind[hash * 0x9e3779b97f4a7c15u >> 58];
    if (k->fn != fn || k->units != units)
        *k = (struct kind){ .fn = fn, .units = units, .until = SOON, .gap = SOON };
    return k;
}

/* Whether the next job of the kind is done alone. */
static bool choose_alone(struct kind *k)
{
    bool better = k->alone > 0 && k->alone < CLEARLY * k->together;
    if (k->together <= 0 || k->together > SHORT || --k->until > 0)
        return better && k->together <= SHORT;
    k->gap = better == k->was ? (int)rt_min(2 * k->gap, SELDOM)
                              : SOON; /* seldom while it stays so */
    k->was = better;
    k->until = k->gap;
    return !better;
}

static void keep(double *mean, double seconds)
{
    *mean = *mean > 0 ? *mean + (seconds - *mean) / 16 : seconds;
}

void rt_team_run(rt_team *t, rt_unit_fn *fn, void *ctx, int64_t units, int members)
{
    if (members <= 1 || t->n <= 1 || units <= 1) {
        for (int64_t i = 0; i < units; i++)
            fn(ctx, i, 0);
        return;
    }
    if (units >= CLOSED)
        rt_bug("a job of %lld units", (long long)units);
    double begun = rt_now();
    struct kind *k = kind_of(t, fn, units);
    if (begun < t->alone || choose_alone(k)) {
        for (int64_t i = 0; i < units; i++)
            fn(ctx, i, 0);
        double took = rt_now() - begun; /* seldom seen: one bad moment is not to stay */
        keep(&k->alone, k->alone > 0 ? fmin(took, 2 * k->alone) : took);
        return;
    }
    work(t, publish(t, fn, ctx, (uint32_t)units, members), 0);
    double waits = rt_now();
    wait_for_all(t, (uint32_t)units);
    double ends = rt_now();
    learn(t, waits - begun, ends - waits);
    keep(&k->together, ends - begun);
}

int rt_team_open(rt_team **out, int members, rt_err *err)
{
    rt_team *t = rt_alloc(1, sizeof *t, "threads");
    t->helper = rt_alloc(members, sizeof *t->helper, "threads");
    t->n = 1;
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->come, NULL);
    pthread_cond_init(&t->finished, NULL);
    for (int i = 1; i < members; i++, t->n++) {
        t->helper[i] = (struct helper){ .team = t, .member = i };
        if (pthread_create(&t->helper[i].id, NULL, help, &t->helper[i]))
            break;
    }
    *out = t;
    if (t->n == members)
        return 0;
    int begun = t->n;
    rt_team_close(t);
    *out = NULL;
    return rt_fail(err,
                   "only %d of %d threads can be started: lower --threads, or raise the limits "
                   "(ulimit -u, ulimit -v)",
                   begun, members);
}

void rt_team_close(rt_team *t)
{
    if (!t)
        return;
    atomic_store(&t->stop, true);
    publish(t, NULL, NULL, 0, 0);
    for (int i = 1; i < t->n; i++)
        pthread_join(t->helper[i].id, NULL);
    pthread_mutex_destroy(&t->lock);
    pthread_cond_destroy(&t->come);
    pthread_cond_destroy(&t->finished);
    free(t->helper);
    free(t);
}
