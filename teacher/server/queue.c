#include "teacher/server/queue.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/base/log.h"
#include "core/base/memory.h"

struct rt_queue {
    pthread_mutex_t lock;
    pthread_cond_t work;
    int64_t n_running, most_running, n_waiting, most_waiting;
    rt_choice **running;     /* (most_running) NULL = free */
    rt_choice *first, *last; /* waiting */
    bool closed;
    double grace, deadline; /* deadline: once closed */
    void (*tick)(void *ctx);
    void *ctx;
};

/* ---- life ---------------------------------------------------------------------------------------
 */

static void open_condition(pthread_cond_t *c)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(c, &attr);
    pthread_condattr_destroy(&attr);
}

rt_queue *rt_queue_open(int64_t running, int64_t waiting, double grace)
{
    rt_queue *q = rt_alloc(1, sizeof *q, "a queue");
    pthread_mutex_init(&q->lock, NULL);
    open_condition(&q->work);
    q->most_running = running;
    q->most_waiting = waiting;
    q->grace = grace;
    q->running = rt_alloc(running, sizeof(rt_choice *), "a queue");
    return q;
}

void rt_queue_close(rt_queue *q)
{
    if (!q)
        return;
    pthread_cond_destroy(&q->work);
    pthread_mutex_destroy(&q->lock);
    free(q->running);
    free(q);
}

rt_ticket *rt_ticket_open(int64_t n_prompts, int64_t n)
{
    rt_ticket *t = rt_alloc(1, sizeof *t, "a request");
    t->prompt = rt_alloc(n_prompts, sizeof *t->prompt, "a request");
    t->choice = rt_alloc(n, sizeof *t->choice, "a request");
    t->n_prompts = n_prompts;
    t->n = n;
    t->held = 1;
    open_condition(&t->news);
    for (int64_t i = 0; i < n; i++) {
        t->choice[i].ticket = t;
        rt_soft_init(&t->choice[i].soft);
    }
    return t;
}

/* With the lock, or of a ticket that nobody else has. */
static void release(rt_ticket *t)
{
    if (--t->held > 0)
        return;
    for (int64_t i = 0; i < t->n_prompts; i++)
        rt_ids_free(&t->prompt[i]);
    for (int64_t i = 0; i < t->n; i++) {
        rt_ids_free(&t->choice[i].ids);
        rt_soft_free(&t->choice[i].soft);
    }
    for (int i = 0; i < t->stop.n; i++)
        free(t->stop.item[i]);
    free(t->stop.item);
    rt_stops_free(&t->stops);
    pthread_cond_destroy(&t->news);
    free(t->prompt);
    free(t->choice);
    free(t);
}

/* ---- connections --------------------------------------------------------------------------------
 */

rt_queue_answer rt_queue_put(rt_queue *q, rt_ticket *t)
{
    rt_queue_answer answer = RT_QUEUE_TAKEN;
    pthread_mutex_lock(&q->lock);
    int64_t room = q->most_waiting + q->most_running - q->n_running - q->n_waiting;
    if (q->closed)
        answer = RT_QUEUE_CLOSED;
    else if (t->n > room)
        answer = RT_QUEUE_FULL;
    for (int64_t i = 0; answer == RT_QUEUE_TAKEN && i < t->n; i++) {
        rt_choice *c = &t->choice[i];
        if (q->last)
            q->last->next = c;
        else
            q->first = c;
        q->last = c;
        q->n_waiting++;
    }
    pthread_cond_signal(&q->work);
    pthread_mutex_unlock(&q->lock);
    return answer;
}

static struct timespec in_seconds(double seconds)
{
    double at = rt_now() + seconds;
    struct timespec t = { .tv_sec = (time_t)at };
    t.tv_nsec = (long)((at - (double)t.tv_sec) * 1e9);
    return t;
}

static bool has_news(const rt_ticket *t)
{
    for (int64_t i = 0; i < t->n; i++)
        if (t->choice[i].ids.n || t->choice[i].done)
            return true;
    return false;
}

bool rt_queue_wait(rt_queue *q, rt_ticket *t, double seconds)
{
    const struct timespec until = in_seconds(seconds);
    int late = 0;
    pthread_mutex_lock(&q->lock);
    while (!has_news(t) && !late)
        late = pthread_cond_timedwait(&t->news, &q->lock, &until);
    bool news = has_news(t);
    pthread_mutex_unlock(&q->lock);
    return news;
}

rt_choice_state rt_queue_take(rt_queue *q, rt_choice *c, rt_ids *ids, rt_soft *soft)
{
    rt_ids_clear(ids);
    if (soft)
        rt_soft_clear(soft);
    pthread_mutex_lock(&q->lock);
    rt_ids got = c->ids;
    c->ids = *ids;
    *ids = got;
    if (soft) {
        rt_soft rows = c->soft;
        c->soft = *soft;
        *soft = rows;
    }
    rt_choice_state state = { c->done, c->aborted, c->finish, c->shared };
    pthread_mutex_unlock(&q->lock);
    return state;
}

/* Takes what waits of t out of the line; with the lock. */
static void unqueue(rt_queue *q, const rt_ticket *t)
{
    rt_choice *kept = NULL, **link = &q->first;
    while (*link) {
        if ((*link)->ticket == t) {
            *link = (*link)->next;
            q->n_waiting--;
        } else {
            kept = *link;
            link = &kept->next;
        }
    }
    q->last = kept;
}

void rt_queue_leave(rt_queue *q, rt_ticket *t)
{
    if (!t)
        return;
    pthread_mutex_lock(&q->lock);
    t->left = true;
    unqueue(q, t);
    release(t);
    pthread_mutex_unlock(&q->lock);
}

rt_queue_load rt_queue_look(rt_queue *q)
{
    pthread_mutex_lock(&q->lock);
    rt_queue_load load = { q->n_running, q->n_waiting, q->closed };
    pthread_mutex_unlock(&q->lock);
    return load;
}

/* ---- the generator's thread ---------------------------------------------------------------------
 */

/* With the lock. */
static void end_choice(rt_choice *c, bool aborted, rt_finish finish)
{
    c->done = true;
    c->aborted = aborted;
    c->finish = finish;
    pthread_cond_signal(&c->ticket->news);
}

/* With the lock: the place of a choice that ran is free. */
static void drop_running(rt_queue *q, int64_t id)
{
    rt_choice *c = q->running[id];
    q->running[id] = NULL;
    q->n_running--;
    release(c->ticket);
}

static bool is_late(const rt_queue *q) { return q->closed && rt_now() > q->deadline; }

static int next_request(void *ctx, rt_request *r, rt_err *err)
{
    rt_queue *q = ctx;
    int64_t id = 0;
    (void)err;
    pthread_mutex_lock(&q->lock);
    rt_choice *c = is_late(q) ? NULL : q->first;
    while (c && q->running[id])
        id++;
    if (c) {
        q->first = c->next;
        q->last = q->first ? q->last : NULL;
        q->n_waiting--;
        q->n_running++;
        q->running[id] = c;
        c->ticket->held++;
        c->begun = rt_now();
        *r = (rt_request){ .id = id,
                           .prompt = c->prompt->id,
                           .n_prompt = c->prompt->n,
                           .max_new = c->max_new,
                           .seed = c->seed,
                           .sampling = &c->ticket->sampling,
                           .uncaptured = !c->ticket->captured };
    }
    pthread_mutex_unlock(&q->lock);
    return c != NULL;
}

static int take_token(void *ctx, int64_t id, int32_t token, const rt_soft *soft, rt_err *err)
{
    rt_queue *q = ctx;
    pthread_mutex_lock(&q->lock);
    rt_choice *c = q->running[id];
    int bad = rt_ids_add(&c->ids, token, err);
    if (soft)
        rt_soft_append(&c->soft, soft, soft->n - 1, 1, 0);
    pthread_cond_signal(&c->ticket->news);
    pthread_mutex_unlock(&q->lock);
    return bad;
}

static int take_completion(void *ctx, const rt_completion *done, rt_err *err)
{
    rt_queue *q = ctx;
    (void)err;
    pthread_mutex_lock(&q->lock);
    rt_choice *c = q->running[done->id];
    double seconds = rt_now() - c->begun;
    c->shared = done->n_shared;
    end_choice(c, false, done->finish);
    drop_running(q, done->id);
    pthread_mutex_unlock(&q->lock);
    rt_info("%lld + %lld tokens in %.2f s, %s", (long long)done->n_prompt, (long long)done->n_new,
            seconds, rt_finish_name(done->finish));
    return 0;
}

/* Places are this thread's to change, and a ticket in one stays: no lock. */
static int stop(void *ctx, int64_t id, const int32_t *token, int64_t n_prompt, int64_t n,
                rt_err *err)
{
    const rt_queue *q = ctx;
    return rt_stops_reached(&q->running[id]->ticket->stops, token, n_prompt, n, err);
}

static bool is_gone(void *ctx, int64_t id)
{
    rt_queue *q = ctx;
    pthread_mutex_lock(&q->lock);
    rt_choice *c = q->running[id];
    bool late = is_late(q), gone = late || c->ticket->left;
    if (late)
        end_choice(c, true, RT_FINISH_LENGTH);
    if (gone)
        drop_running(q, id);
    pthread_mutex_unlock(&q->lock);
    return gone;
}

/* Nothing more is taken; with the lock. */
static void close_door(rt_queue *q, double grace)
{
    if (q->closed)
        return;
    q->closed = true;
    q->deadline = rt_now() + grace;
}

static void look_around(void *ctx, int64_t tokens)
{
    rt_queue *q = ctx;
    (void)tokens;
    if (rt_interrupted()) {
        pthread_mutex_lock(&q->lock);
        close_door(q, q->grace);
        pthread_mutex_unlock(&q->lock);
    }
    q->tick(q->ctx);
}

/* Every choice that is left ends here. */
static void abort_all(rt_queue *q)
{
    pthread_mutex_lock(&q->lock);
    close_door(q, 0);
    for (rt_choice *c = q->first; c; c = c->next)
        end_choice(c, true, RT_FINISH_LENGTH);
    q->first = q->last = NULL;
    q->n_waiting = 0;
    for (int64_t i = 0; i < q->most_running; i++)
        if (q->running[i]) {
            end_choice(q->running[i], true, RT_FINISH_LENGTH);
            drop_running(q, i);
        }
    pthread_mutex_unlock(&q->lock);
}

int rt_queue_run(rt_queue *q, rt_generator *g, void (*tick)(void *ctx), void *ctx, rt_err *err)
{
    const rt_generate_io io = { .ctx = q,
                                .next = next_request,
                                .done = take_completion,
                                .token = take_token,
                                .stop = stop,
                                .gone = is_gone,
                                .tick = look_around };
    int bad = 0;
    q->tick = tick;
    q->ctx = ctx;
    for (bool over = false; !over && !bad;) {
        const struct timespec until = in_seconds(0.1);
        look_around(q, 0);
        pthread_mutex_lock(&q->lock);
        if (!q->n_waiting && !q->closed)
            pthread_cond_timedwait(&q->work, &q->lock, &until);
        over = q->closed && (!q->n_waiting || is_late(q));
        bool work = q->n_waiting > 0;
        pthread_mutex_unlock(&q->lock);
        if (work && !over)
            bad = rt_generator_run(g, &io, err);
    }
    abort_all(q);
    return bad;
}
