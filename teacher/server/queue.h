/* queue.h: where connections and the one generator meet. A connection puts in prompts with their
   settings and takes out tokens as they come; the generator's thread takes prompts, oldest first,
   and puts in tokens. The places are bounded: what finds none is refused at once. A connection that
   leaves takes its sequences with it, waiting or running.
   Owns the lock between the two and the generator's loop. Refuses: text, JSON, HTTP. */
#ifndef RT_SERVER_QUEUE_H
#define RT_SERVER_QUEUE_H

#include <pthread.h>

#include "core/network/generate.h"
#include "corpora/stops.h"

RT_BEGIN

/* One sequence of a ticket. What is new since the connection last took it lies in ids and soft. */
typedef struct rt_choice {
    struct rt_ticket *ticket;
    const rt_ids *prompt;
    uint64_t seed;
    int64_t max_new; /* with the prompt within the generator's length */
    rt_ids ids;
    rt_soft soft;       /* a row for each of ids, of a ticket that is captured */
    bool done, aborted; /* done: no more come. aborted: not by the model; finish says nothing */
    rt_finish finish;
    int64_t shared;         /* of its prompt, in the cache already; once done */
    double begun;           /* when the generator took it */
    struct rt_choice *next; /* waiting */
} rt_choice;

/* All sequences of a request. Its connection fills it before rt_queue_put; then it is only read. */
typedef struct rt_ticket {
    rt_ids *prompt; /* (n_prompts) */
    int64_t n_prompts, n;
    rt_choice *choice; /* (n) */
    rt_sampling sampling;
    bool captured;
    rt_strlist stop; /* owned */
    rt_stops stops;  /* of it; the buffer is the generator's */
    pthread_cond_t news;
    int64_t held; /* by the connection, and by choices that run */
    bool left;    /* the connection did */
} rt_ticket;

typedef struct rt_queue rt_queue;

/* running: sequences at once; waiting: at most so many besides. */
rt_queue *rt_queue_open(int64_t running, int64_t waiting, double grace);
void rt_queue_close(rt_queue *q); /* once no connection has a ticket; accepts NULL */

rt_ticket *rt_ticket_open(int64_t n_prompts, int64_t n);

typedef enum rt_queue_answer { RT_QUEUE_TAKEN, RT_QUEUE_FULL, RT_QUEUE_CLOSED } rt_queue_answer;
rt_queue_answer rt_queue_put(rt_queue *q, rt_ticket *t);
/* Waits for news of any choice of t, for so long at most; false: there were none. */
bool rt_queue_wait(rt_queue *q, rt_ticket *t, double seconds);
typedef struct rt_choice_state { /* as in rt_choice */
    bool done, aborted;
    rt_finish finish;
    int64_t shared;
} rt_choice_state;
/* Moves what is new of a choice into ids and soft, whose old contents go; soft may be NULL. Returns
   its state after that. */
rt_choice_state rt_queue_take(rt_queue *q, rt_choice *c, rt_ids *ids, rt_soft *soft);
/* The connection has no more use for t, which is freed once the generator has none either. Also of
   a ticket that was never put. */
void rt_queue_leave(rt_queue *q, rt_ticket *t);

typedef struct rt_queue_load {
    int64_t running, waiting;
    bool closed;
} rt_queue_load;
rt_queue_load rt_queue_look(rt_queue *q);

/* The generator's thread: runs what comes until an interrupt (err.h); then nothing more is taken,
   and what is there has `grace` seconds to end by itself. tick: every now and then, several times a
   second while nothing long runs. -1: the model failed; every choice is aborted then. */
int rt_queue_run(rt_queue *q, rt_generator *g, void (*tick)(void *ctx), void *ctx, rt_err *err);

RT_END

#endif
