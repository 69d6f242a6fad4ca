/* tsan_team.c: the few entry points of GCC's OpenMP that retort uses, on POSIX threads, so that
   ThreadSanitizer sees every fork, join and barrier (libgomp waits in ways it cannot follow, and
   each parallel loop would read as a race). Linked instead of libgomp where RETORT_TSAN is on; a
   construct that is not here fails to link. Not fast: a team is born for every region. */
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

enum { THREADS_MAX = 16, LOOPS = 64 };

struct team {
    pthread_barrier_t barrier;
    long taken[LOOPS]; /* chunks of each loop; every thread meets the same loops in order */
    void (*fn)(void *);
    void *data;
    int n;
};

static _Thread_local struct {
    struct team *team;
    int id;
    long loops, begin, end, chunk;
} self;

int omp_get_thread_num(void);
int omp_get_num_threads(void);
int omp_get_max_threads(void);
void omp_set_num_threads(int n);
void GOMP_parallel(void (*fn)(void *), void *data, unsigned n, unsigned flags);
void GOMP_barrier(void);
bool GOMP_loop_nonmonotonic_dynamic_start(long begin, long end, long step, long chunk, long *from,
                                          long *to);
bool GOMP_loop_nonmonotonic_dynamic_next(long *from, long *to);
void GOMP_loop_end(void);
void GOMP_loop_end_nowait(void);

static int most = 2;

int omp_get_thread_num(void) { return self.id; }
int omp_get_num_threads(void) { return self.team ? self.team->n : 1; }
int omp_get_max_threads(void) { return most; }
void omp_set_num_threads(int n) { most = n; }

struct member {
    struct team *team;
    int id;
};

static void *run_member(void *p)
{
    struct member *m = p;
    self.team = m->team;
    self.id = m->id;
    self.loops = 0;
    m->team->fn(m->team->data);
    return NULL;
}

void GOMP_parallel(void (*fn)(void *), void *data, unsigned n, unsigned flags)
{
    (void)flags;
    struct team team = { .fn = fn, .data = data, .n = n ? (int)n : omp_get_max_threads() };
    struct member member[THREADS_MAX];
    pthread_t thread[THREADS_MAX];
    if (team.n > THREADS_MAX || pthread_barrier_init(&team.barrier, NULL, (unsigned)team.n))
        abort();
    for (int i = 0; i < team.n; i++) {
        member[i] = (struct member){ &team, i };
        if (i && pthread_create(&thread[i], NULL, run_member, &member[i]))
            abort();
    }
    run_member(&member[0]);
    for (int i = 1; i < team.n; i++)
        pthread_join(thread[i], NULL);
    self.team = NULL;
    pthread_barrier_destroy(&team.barrier);
}

void GOMP_barrier(void) { pthread_barrier_wait(&self.team->barrier); }

/* Relaxed: a loop that hands out work orders nothing else, and a lock here would hide races. */
bool GOMP_loop_nonmonotonic_dynamic_next(long *from, long *to)
{
    long *taken = &self.team->taken[self.loops % LOOPS];
    *from = self.begin + __atomic_fetch_add(taken, 1, __ATOMIC_RELAXED) * self.chunk;
    *to = *from + self.chunk < self.end ? *from + self.chunk : self.end;
    return *from < self.end;
}

/* Threads are never LOOPS / 2 loops apart: a barrier comes before. */
bool GOMP_loop_nonmonotonic_dynamic_start(long begin, long end, long step, long chunk, long *from,
                                          long *to)
{
    self.loops++;
    self.begin = begin;
    self.end = end;
    self.chunk = step * chunk;
    __atomic_store_n(&self.team->taken[(self.loops + LOOPS / 2) % LOOPS], 0, __ATOMIC_RELAXED);
    return GOMP_loop_nonmonotonic_dynamic_next(from, to);
}

void GOMP_loop_end(void) { GOMP_barrier(); }
void GOMP_loop_end_nowait(void) {}
