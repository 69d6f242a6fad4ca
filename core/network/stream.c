#include "core/network/stream.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/base/log.h"
#include "core/base/memory.h"
#include "core/network/embedding.h"

enum { READERS = 4 };

/* A parcel on its way into a buffer. */
typedef struct load {
    const rt_parcel *p;
    uint8_t *buffer, *sent; /* sent: the device's, or the same */
    int64_t key;            /* layer, or expert */
    int issued, done;
    bool there; /* on the device */
} load;

struct rt_stream {
    rt_model *m;
    rt_dev *dev;
    rt_visit visit;
    rt_arena near, away; /* away: of a device that does not read the host's memory */
    rt_arenas arenas;
    rt_stream_sizes size;
    int64_t slots;
    rt_parcel *own;           /* (L) */
    rt_parcel *expert;        /* (L,E) */
    int64_t holds;            /* leading layers that stay once they are read */
    load *kept;               /* (holds) their own weights */
    rt_parcel head;           /* held */
    rt_tensor *held;          /* the embedding that is the head too, or NULL */
    rt_embedding embed;
    rt_parcels all;
    struct buffers {
        uint8_t *own[2], *expert, *head, *kept;
    } host, sent;            /* the same where operations read the host's memory */
    int32_t *offset;
    rt_mark copied[2];       /* what even layers, and odd ones, have sent to the device */
    rt_mark used[2];         /* operations that read their buffers */
    rt_mark multiplied[2];   /* those before the last call for experts; before the one before it */

    pthread_t thread[READERS];
    int n_threads;
    pthread_mutex_t lock; /* of all below */
    pthread_cond_t work, ready;
    bool ending, failed, visiting;
    rt_err err;
    load own_load[2];
    int64_t begin, issue; /* the first layer not yet left, the next to be read */
    load *want;           /* (E) routed experts, ascending */
    int64_t wants, want_issue, taken, freed;
    bool *stays;           /* (holds, E) in the memory of its layer */
    bool roomy;            /* every expert of this layer has a buffer of its own */
    bool *loaded, *routed; /* (E) in its slot, where all experts have one; had rows in this layer */
    int reading;
    double read_since, since, last; /* a pass began first, 0 = none did; a layer was left last */
    rt_stream_counts count;
};

/* ---- which bytes --------------------------------------------------------------------------------
 */

static void plan_layers(rt_stream *s)
{
    const rt_config *c = &s->m->cfg;
    const rt_params *list = &s->m->w.params;
    rt_stream_sizes *z = &s->size;
    for (int i = 0, end; i < list->n; i = end) {
        int layer = list->item[i].layer;
        for (end = i + 1; end < list->n && list->item[end].layer == layer; end++)
            ;
        if (layer < 0)
            continue;
        rt_parcel_make(&s->all, &s->own[layer], list, i, end, -1);
        z->layer = rt_max(z->layer, s->own[layer].bytes);
        z->layers += s->own[layer].weights;
        for (int64_t e = 0; e < c->experts && rt_config_routed(c, layer); e++) {
            rt_parcel *p = &s->expert[layer * c->experts + e];
            z->a_layer = c->experts;
            rt_parcel_make(&s->all, p, list, i, end, e);
            z->expert = rt_max(z->expert, p->bytes);
            z->experts += p->weights;
        }
    }
}

/* Of what stands outside layers only the head is held, and an embedding that is one too. */
static void plan_outside(rt_stream *s)
{
    rt_model *m = s->m;
    const rt_params *list = &m->w.params;
    const rt_mapping *x = m->mapping;
    for (int i = 0; i < list->n; i++) {
        const rt_param *p = &list->item[i];
        if (p->layer >= 0 || !x->piece[i])
            continue;
        if (p->flags & RT_PARAM_PRODUCT) {
            rt_parcel_make(&s->all, &s->head, list, i, i + 1, -1);
            s->held = p->flags & RT_PARAM_RAW ? p->slot : NULL;
        } else {
            s->embed = (rt_embedding){ .all = &s->all, .stored = &x->stored[i][0] };
        }
    }
    s->size.resident = s->head.weights;
}

/* Bytes of the first n layers, experts included. */
static int64_t kept_bytes(const rt_stream *s, int64_t n)
{
    int64_t bytes = 0;
    for (int64_t l = 0; l < n; l++) {
        bytes += s->own[l].bytes;
        if (rt_config_routed(&s->m->cfg, l))
            bytes += s->size.a_layer * s->size.expert;
    }
    return bytes;
}

static void take_buffers(rt_stream *s, rt_arena *a, struct buffers *b)
{
    for (int i = 0; i < 2; i++)
        b->own[i] = rt_parcels_take(a, "two layers", s->size.layer);
    b->expert = rt_parcels_take(a, "experts", s->slots * s->size.expert);
    b->head = rt_parcels_take(a, "head", s->head.bytes);
    b->kept = rt_parcels_take(a, "layers that stay", kept_bytes(s, s->holds));
}

static void plan_near(void *ctx, rt_arena *a)
{
    rt_stream *s = ctx;
    int64_t e = s->size.a_layer;
    take_buffers(s, a, &s->host);
    rt_embedding_plan(&s->embed, a);
    s->offset = rt_arena_take(a, "routes", (e + 1) * (int64_t)sizeof *s->offset);
    s->want = rt_arena_take(a, "routes", e * (int64_t)sizeof *s->want);
    s->loaded = rt_arena_take(a, "routes", e * (int64_t)sizeof *s->loaded);
    s->routed = rt_arena_take(a, "routes", e * (int64_t)sizeof *s->routed);
    s->kept = rt_arena_take(a, "routes", s->holds * (int64_t)sizeof *s->kept);
    s->stays = rt_arena_take(a, "routes", s->holds * e * (int64_t)sizeof *s->stays);
    s->sent = s->host;
}

static void plan_away(void *ctx, rt_arena *a)
{
    rt_stream *s = ctx;
    take_buffers(s, a, &s->sent);
}

static void measure_buffers(rt_stream *s)
{
    rt_arenas_free(&s->arenas, s->dev);
    rt_arenas_add(&s->arenas, &s->near, "stream", RT_ON_HOST, plan_near, s);
    if (!rt_dev_get(s->dev).maps_files)
        rt_arenas_add(&s->arenas, &s->away, "stream", RT_ON_DEVICE, plan_away, s);
}

rt_stream *rt_stream_plan(rt_model *m, rt_dev *d)
{
    if (!m->mapping)
        return NULL;
    const rt_config *c = &m->cfg;
    rt_stream *s = rt_alloc(1, sizeof *s, "a stream of weights");
    s->m = m;
    s->dev = d;
    s->all.x = m->mapping;
    s->own = rt_alloc(c->layers, sizeof *s->own, "places of weights");
    s->expert = rt_alloc(c->layers * rt_max(c->experts, 1), sizeof *s->expert, "places of weights");
    plan_layers(s);
    plan_outside(s);
    rt_stream_slots(s, 2);
    return s;
}

void rt_stream_slots(rt_stream *s, int64_t slots)
{
    s->slots = rt_max(0, rt_min(rt_max(slots, 2), s->size.a_layer));
    measure_buffers(s);
}

void rt_stream_hold(rt_stream *s, int64_t bytes)
{
    s->holds = 0;
    while (s->holds < s->m->cfg.layers && kept_bytes(s, s->holds + 1) <= bytes)
        s->holds++;
    measure_buffers(s);
}

double rt_stream_held(const rt_stream *s)
{
    int64_t held = 0;
    for (int64_t l = 0; l < s->holds; l++) {
        held += s->own[l].weights;
        for (int64_t e = 0; e < s->size.a_layer; e++)
            held += s->expert[l * s->size.a_layer + e].weights;
    }
    return (double)held / (double)rt_max(1, s->size.layers + s->size.experts);
}

const rt_stream_sizes *rt_stream_size(const rt_stream *s) { return &s->size; }
int64_t rt_stream_bytes(const rt_stream *s) { return rt_arenas_bytes(&s->arenas); }
void rt_stream_needs(const rt_stream *s, rt_needs *p) { rt_needs_arenas(p, s->dev, &s->arenas); }

/* ---- reading ------------------------------------------------------------------------------------
 */

static void begin_read(rt_stream *s)
{
    if (s->reading++ == 0)
        s->read_since = rt_now();
}

static void end_read(rt_stream *s, int64_t bytes, bool plain)
{
    if (--s->reading == 0)
        s->count.read_s += rt_now() - s->read_since;
    s->count.bytes += bytes;
    s->count.plain |= plain;
}

static load *own_load(rt_stream *s, int64_t layer)
{
    return layer < s->holds ? &s->kept[layer] : &s->own_load[layer % 2];
}

/* The next read that is wanted and has a buffer: experts first, they are waited for now. */
static load *pick(rt_stream *s)
{
    for (; s->want_issue < s->wants && (s->roomy || s->want_issue < s->freed + s->slots);
         s->want_issue++) {
        load *l = &s->want[s->want_issue];
        if (l->issued < l->p->n)
            return l;
    }
    for (; s->visiting && s->issue < s->m->cfg.layers && s->issue < s->begin + 2; s->issue++) {
        load *l = own_load(s, s->issue);
        if (l->key != s->issue)
            *l = (load){ .p = &s->own[s->issue],
                         .buffer = s->host.own[s->issue % 2],
                         .sent = s->sent.own[s->issue % 2],
                         .key = s->issue };
        if (l->issued < l->p->n)
            return l;
    }
    return NULL;
}

static void *read_loop(void *ctx)
{
    rt_stream *s = ctx;
    load *l = NULL;
    pthread_mutex_lock(&s->lock);
    for (;;) {
        while (!s->ending && (s->failed || !(l = pick(s))))
            pthread_cond_wait(&s->work, &s->lock);
        if (s->ending)
            break;
        const rt_read *p = &l->p->read[l->issued++];
        uint8_t *buffer = l->buffer;
        bool plain = s->count.plain;
        rt_err err;
        begin_read(s);
        pthread_mutex_unlock(&s->lock);
        int bad = rt_parcels_read(&s->all, p, buffer, &plain, &err);
        pthread_mutex_lock(&s->lock);
        end_read(s, p->bytes, plain);
        if (bad && !s->failed) {
            s->err = err;
            s->failed = true;
        }
        if (++l->done == l->p->n)
            s->count.weights += l->p->weights;
        if (l->done == l->p->n || s->failed || !s->reading)
            pthread_cond_broadcast(&s->ready);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

/* ---- the visitor --------------------------------------------------------------------------------
 */

/* One sleep until something was read; -1 when that failed, or was interrupted. Locked. */
static int wait_ready(rt_stream *s, rt_err *err)
{
    struct timespec until;
    double begun = rt_now();
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += 200000000; /* an interrupt wakes nobody */
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_cond_timedwait(&s->ready, &s->lock, &until);
    s->count.wait_s += rt_now() - begun;
    if (s->failed) {
        *err = s->err;
        return -1;
    }
    return rt_interrupted() ? rt_fail_interrupted(err, "reading", s->m->path) : 0;
}

static bool is_away(const rt_stream *s) { return s->away.high > 0; }

/* Products read it where it is now: its copy runs beside the operations, once those before `free`
   are done. */
static void settle(rt_stream *s, load *l, int64_t layer, const rt_mark *free)
{
    if (is_away(s) && !l->there) {
        rt_mark_follow(s->dev, free, RT_BESIDE);
        rt_upload_beside(s->dev, l->sent, l->buffer, l->p->bytes);
        rt_mark_set(s->dev, &s->copied[layer % 2], RT_BESIDE);
    }
    l->there = true;
    rt_parcel_point(l->p, l->sent);
}

/* The own weights of a layer that comes next, where they are read already. Locked. */
static void send_ahead(rt_stream *s, int64_t layer)
{
    load *l = layer < s->m->cfg.layers ? own_load(s, layer) : NULL;
    if (l && s->own[layer].n && l->key == layer && l->done == l->p->n)
        settle(s, l, layer, &s->used[layer % 2]);
}

/* What a layer has read is read over from now on. */
static int wait_copied(rt_stream *s, int64_t layer, rt_err *err)
{
    return is_away(s) ? rt_mark_wait(s->dev, &s->copied[layer % 2], err) : rt_sync(s->dev, err);
}

/* No buffer is used by the device any more. */
static int wait_all(rt_stream *s, rt_err *err)
{
    for (int i = 0; i < 2; i++)
        rt_mark_follow(s->dev, &s->copied[i], RT_COMPUTE);
    return rt_sync(s->dev, err);
}

static int drain(rt_stream *s, rt_err *err)
{
    if (s->visiting && wait_all(s, err)) /* a pass that was broken off */
        return -1;
    s->visiting = false;
    s->wants = s->want_issue = 0;
    while (s->reading)
        if (wait_ready(s, err))
            return -1;
    return 0;
}

/* A layer that does not follow the last one begins a pass. */
static int begin_pass(rt_stream *s, int64_t layer, rt_err *err)
{
    if (drain(s, err))
        return -1;
    s->own_load[0].key = s->own_load[1].key = -1;
    s->begin = s->issue = layer;
    s->visiting = true;
    pthread_cond_broadcast(&s->work);
    return 0;
}

static int enter(void *ctx, int64_t layer, rt_err *err)
{
    rt_stream *s = ctx;
    load *l = own_load(s, layer);
    int bad = rt_interrupted() ? rt_fail_interrupted(err, "reading", s->m->path) : 0;
    pthread_mutex_lock(&s->lock);
    if (s->since == 0)
        s->since = rt_now();
    if (!bad && (!s->visiting || layer != s->begin || layer == 0))
        bad = begin_pass(s, layer, err);
    while (!bad && (l->key != layer || l->done < l->p->n)) {
        if (s->own[layer].n == 0)
            break;
        bad = wait_ready(s, err);
    }
    if (!bad && s->own[layer].n) {
        settle(s, l, layer, &s->used[layer % 2]);
        rt_mark_follow(s->dev, &s->copied[layer % 2], RT_COMPUTE);
    }
    s->count.layers += !bad;
    pthread_mutex_unlock(&s->lock);
    return bad;
}

static int leave(void *ctx, int64_t layer, rt_err *err)
{
    rt_stream *s = ctx;
    rt_mark_set(s->dev, &s->used[layer % 2], RT_COMPUTE);
    if (wait_copied(s, layer, err))
        return -1;
    pthread_mutex_lock(&s->lock);
    for (int64_t e = 0; rt_config_routed(&s->m->cfg, layer) && e < s->size.a_layer; e++) {
        s->count.unread += !s->routed[e];
        s->loaded[e] = s->routed[e] = false;
    }
    s->wants = s->want_issue = s->taken = s->freed = 0;
    s->begin = layer + 1;
    s->last = rt_now();
    if (s->begin == s->m->cfg.layers)
        s->visiting = false;
    pthread_cond_broadcast(&s->work);
    pthread_mutex_unlock(&s->lock);
    return 0;
}

/* Where expert e of a layer is read to: a place of its own, or the next of few. */
static load place_expert(rt_stream *s, int64_t layer, int64_t e)
{
    const rt_parcel *p = &s->expert[layer * s->size.a_layer + e];
    bool kept = layer < s->holds;
    bool there = kept ? s->stays[layer * s->size.a_layer + e] : s->roomy && s->loaded[e];
    int64_t at = (s->roomy ? e : s->wants % s->slots) * s->size.expert;
    int64_t behind = kept ? s->own[layer].bytes : 0; /* a layer that stays: its own weights first */
    return (load){ .p = p,
                   .buffer = (kept ? s->kept[layer].buffer : s->host.expert) + behind + at,
                   .sent = (kept ? s->kept[layer].sent : s->sent.expert) + behind + at,
                   .key = e,
                   .issued = there ? p->n : 0,
                   .done = there ? p->n : 0,
                   .there = there };
}

static int route(void *ctx, int64_t layer, rt_err *err)
{
    rt_stream *s = ctx;
    (void)err;
    pthread_mutex_lock(&s->lock);
    s->wants = s->want_issue = s->taken = s->freed = 0;
    s->roomy = s->slots == s->size.a_layer || layer < s->holds;
    for (int64_t e = 0; e < s->size.a_layer; e++) {
        if (s->offset[e] == s->offset[e + 1])
            continue;
        s->routed[e] = true;
        s->want[s->wants] = place_expert(s, layer, e);
        s->count.experts += !s->want[s->wants++].there;
    }
    pthread_cond_broadcast(&s->work);
    pthread_mutex_unlock(&s->lock);
    return 0;
}

/* Where not all have a buffer, half of them may be multiplied while the other half is read. */
static int next_experts(void *ctx, int64_t layer, int64_t *first, int64_t *end, rt_err *err)
{
    rt_stream *s = ctx;
    int bad = 0;
    int64_t most = s->roomy ? s->size.a_layer : rt_max(1, s->slots / 2);
    rt_mark swap = s->multiplied[1];
    s->multiplied[1] = s->multiplied[0];
    s->multiplied[0] = swap;
    rt_mark_set(s->dev, &s->multiplied[0], RT_COMPUTE);
    /* only what others are to be read over is waited for */
    if (!s->roomy && s->freed < s->taken && s->taken < s->wants && wait_copied(s, layer, err))
        return -1;
    pthread_mutex_lock(&s->lock);
    s->freed = s->taken;
    pthread_cond_broadcast(&s->work);
    if (s->taken == s->wants) {
        send_ahead(s, layer + 1);
        pthread_mutex_unlock(&s->lock);
        return 0;
    }
    while (!bad && s->want[s->taken].done < s->want[s->taken].p->n)
        bad = wait_ready(s, err);
    *first = *end = s->want[s->taken].key;
    for (; !bad && s->taken < s->wants && s->taken < s->freed + most; s->taken++) {
        load *l = &s->want[s->taken];
        if (l->done < l->p->n)
            break;
        settle(s, l, layer, &s->multiplied[1]);
        if (layer < s->holds)
            s->stays[layer * s->size.a_layer + l->key] = true;
        else
            s->loaded[l->key] = true;
        for (int64_t e = *end; e < l->key; e++)
            rt_parcel_point(&s->expert[layer * s->size.a_layer + e],
                            l->sent); /* no row, but some memory */
        *end = l->key + 1;
    }
    rt_mark_follow(s->dev, &s->copied[layer % 2], RT_COMPUTE);
    pthread_mutex_unlock(&s->lock);
    return bad ? -1 : 1;
}

static void between(void *ctx, int64_t layer)
{
    rt_stream *s = ctx;
    pthread_mutex_lock(&s->lock);
    send_ahead(s, layer + 1);
    pthread_mutex_unlock(&s->lock);
}

static int embed(void *ctx, rt_dev *d, rt_tensor *y, const rt_tensor *token, rt_err *err)
{
    rt_stream *s = ctx;
    double begun = rt_now();
    pthread_mutex_lock(&s->lock);
    begin_read(s);
    pthread_mutex_unlock(&s->lock);
    int bad = rt_embedding_rows(&s->embed, d, y, token, err);
    pthread_mutex_lock(&s->lock);
    end_read(s, s->embed.bytes, s->embed.plain);
    s->count.weights += s->embed.weights;
    s->count.wait_s += rt_now() - begun;
    s->since = s->since > 0 ? s->since : begun;
    pthread_mutex_unlock(&s->lock);
    return bad;
}

/* ---- life ---------------------------------------------------------------------------------------
 */

static int read_parcel(rt_stream *s, const rt_parcel *p, uint8_t *buffer, rt_err *err)
{
    bool plain = false;
    for (int i = 0; i < p->n; i++) {
        if (rt_interrupted())
            return rt_fail_interrupted(err, "reading", s->m->path);
        if (rt_parcels_read(&s->all, &p->read[i], buffer, &plain, err))
            return -1;
    }
    s->count.plain |= plain;
    return 0;
}

static int hold_head(rt_stream *s, rt_err *err)
{
    load l = { .p = &s->head, .buffer = s->host.head, .sent = s->sent.head };
    if (read_parcel(s, &s->head, s->host.head, err))
        return -1;
    settle(s, &l, 0, &s->used[0]);
    rt_mark_follow(s->dev, &s->copied[0], RT_COMPUTE);
    if (s->held && s->head.n_spots)
        s->held->data = s->sent.head + s->head.spot[0].data;
    s->count.held = s->head.weights;
    return rt_sync(s->dev, err);
}

static int start_threads(rt_stream *s, rt_err *err)
{
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->work, NULL);
    pthread_cond_init(&s->ready, NULL);
    for (; s->n_threads < READERS; s->n_threads++)
        if (pthread_create(&s->thread[s->n_threads], NULL, read_loop, s))
            return s->n_threads ? 0 : rt_fail(err, "%s: no thread to read it with", s->m->path);
    return 0;
}

int rt_stream_open(rt_stream *s, rt_err *err)
{
    if (rt_arenas_place(&s->arenas, s->dev, err) || rt_parcels_open(&s->all, err) ||
        hold_head(s, err))
        return -1;
    s->own_load[0].key = s->own_load[1].key = -1;
    for (int64_t l = 0; l < s->holds; l++)
        s->kept[l] = (load){ .p = &s->own[l],
                             .buffer = s->host.kept + kept_bytes(s, l),
                             .sent = s->sent.kept + kept_bytes(s, l),
                             .key = l };
    s->visit = (rt_visit){ .ctx = s,
                           .offset = s->offset,
                           .embed = s->embed.stored ? embed : NULL,
                           .enter = enter,
                           .route = route,
                           .experts = next_experts,
                           .between = between,
                           .leave = leave };
    s->m->visit = &s->visit;
    return start_threads(s, err);
}

void rt_stream_close(rt_stream *s)
{
    if (!s)
        return;
    if (s->n_threads) {
        pthread_mutex_lock(&s->lock);
        s->ending = true;
        pthread_cond_broadcast(&s->work);
        pthread_mutex_unlock(&s->lock);
        for (int i = 0; i < s->n_threads; i++)
            pthread_join(s->thread[i], NULL);
        rt_err late; /* was said, or will be */
        (void)wait_all(s, &late);
    }
    s->m->visit = NULL;
    for (int64_t i = 0; i < s->m->cfg.layers * rt_max(s->m->cfg.experts, 1); i++)
        rt_parcel_free(&s->expert[i]);
    for (int64_t i = 0; i < s->m->cfg.layers; i++)
        rt_parcel_free(&s->own[i]);
    rt_parcel_free(&s->head);
    for (int i = 0; i < 2; i++) {
        rt_mark_free(s->dev, &s->copied[i]);
        rt_mark_free(s->dev, &s->used[i]);
        rt_mark_free(s->dev, &s->multiplied[i]);
    }
    rt_parcels_close(&s->all);
    rt_embedding_free(&s->embed);
    free(s->own);
    free(s->expert);
    rt_arenas_free(&s->arenas, s->dev);
    free(s);
}

rt_stream_counts rt_stream_count(rt_stream *s)
{
    if (!s->n_threads)
        return s->count;
    pthread_mutex_lock(&s->lock);
    rt_stream_counts now = s->count;
    now.pass_s = s->last > s->since ? s->last - s->since : 0;
    pthread_mutex_unlock(&s->lock);
    return now;
}

int rt_stream_reset(rt_stream *s, rt_err *err)
{
    pthread_mutex_lock(&s->lock);
    int bad = drain(s, err);
    s->count = (rt_stream_counts){ .held = s->count.held, .plain = s->count.plain };
    s->since = s->last = 0;
    pthread_mutex_unlock(&s->lock);
    return bad;
}
