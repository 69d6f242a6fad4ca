#include "core/network/generate.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/memory.h"
#include "core/network/finite.h"

typedef struct sequence {
    bool active;
    int64_t id, n_prompt, max_new;
    uint64_t seed;
    int32_t *token; /* (length) */
    int64_t n, fed; /* tokens known, tokens in the cache */
    rt_soft soft;
} sequence;

struct rt_generator {
    rt_dev *d;
    const rt_model *m;
    rt_generate_options o;
    rt_acts acts;
    rt_arena arena, host; /* capture; the arrays below */
    rt_capture_buffers cap;
    bool placed;
    sequence *seq;                               /* (slots) */
    int32_t *token_pool;                         /* (slots, length) */
    int32_t *token, *pos, *offset, *slot, *last; /* one pass: rows, rows, S+1, S, S */
    int64_t rows;                                /* of a pass at most */
    int64_t generated;
};

static void plan_host(rt_generator *g)
{
    int64_t slots = g->o.slots, word = sizeof *g->token;
    g->seq = rt_arena_take(&g->host, "sequences", slots * (int64_t)sizeof *g->seq);
    g->token_pool = rt_arena_take(&g->host, "sequences.tokens", slots * g->o.length * word);
    g->token = rt_arena_take(&g->host, "pass", g->rows * word);
    g->pos = rt_arena_take(&g->host, "pass", g->rows * word);
    g->offset = rt_arena_take(&g->host, "pass", (slots + 1) * word);
    g->slot = rt_arena_take(&g->host, "pass", slots * word);
    g->last = rt_arena_take(&g->host, "pass", slots * word);
    for (int64_t i = 0; g->seq && i < slots; i++) {
        g->seq[i].token = g->token_pool + i * g->o.length;
        rt_soft_init(&g->seq[i].soft);
    }
}

rt_generator *rt_generator_open(rt_dev *d, const rt_model *m, const rt_generate_options *o)
{
    rt_generator *g = rt_alloc(1, sizeof *g, "a generator");
    g->d = d;
    g->m = m;
    g->o = *o;
    g->rows = o->slots + o->prefill_rows;
    rt_pass_shape shape = { .mode = RT_PLAN_DECODE,
                            .rows = g->rows,
                            .segments = o->slots,
                            .longest = o->length,
                            .head_rows = o->slots,
                            .slots = o->slots,
                            .length = o->length };
    rt_acts_plan(&g->acts, d, m, &shape);
    rt_arena_init(&g->arena, "capture");
    rt_capture_plan(&g->cap, d, &g->arena, &o->capture, o->slots, o->slots);
    rt_arena_init(&g->host, "host");
    plan_host(g);
    return g;
}

void rt_generator_needs(const rt_generator *g, rt_needs *p)
{
    const rt_arena *all[] = { &g->acts.arena, &g->acts.cache, &g->arena, &g->cap.host, &g->host };
    int64_t rows = g->o.length, items = rows * (g->cap.cfg.head_max + g->cap.draws);
    for (int i = 0; i < RT_COUNT(all); i++)
        rt_needs_arena(p, all[i]);
    if (g->o.capture.head_max)
        rt_needs_add(p, RT_NEEDS_GROWS, "host", "targets of running sequences",
                     g->o.slots * rt_soft_most(rows, items));
}

void rt_generator_close(rt_generator *g)
{
    if (!g)
        return;
    for (int64_t i = 0; g->seq && i < g->o.slots; i++)
        rt_soft_free(&g->seq[i].soft);
    rt_capture_close(&g->cap);
    rt_dev_free(g->d, &g->arena);
    rt_acts_free(&g->acts, g->d);
    rt_arena_free(&g->host);
    free(g);
}

static int place(rt_generator *g, rt_err *err)
{
    if (g->placed)
        return 0;
    if (rt_acts_place(&g->acts, g->d, g->m, err) || rt_dev_place(g->d, &g->arena, err) ||
        rt_arena_place(&g->host, err))
        return -1;
    plan_host(g);
    rt_capture_plan(&g->cap, g->d, &g->arena, &g->o.capture, g->o.slots, g->o.slots);
    if (rt_capture_open(&g->cap, err) || rt_dev_ready(g->d, err))
        return -1;
    g->placed = true;
    return 0;
}

/* Fill free slots. Returns how many sequences are running, or -1. */
static int64_t admit(rt_generator *g, const rt_generate_io *io, rt_err *err)
{
    int64_t active = 0;
    bool more = true;
    for (int64_t i = 0; i < g->o.slots; i++) {
        sequence *s = &g->seq[i];
        if (!s->active && more) {
            rt_request r = { 0 };
            int got = io->next(io->ctx, &r, err);
            if (got < 0)
                return -1;
            more = got > 0;
            if (got > 0) {
                if (r.n_prompt < 1 || r.max_new < 1 || r.n_prompt > g->o.length - r.max_new)
                    rt_bug("a request of %lld + %lld tokens, planned for %lld",
                           (long long)r.n_prompt, (long long)r.max_new, (long long)g->o.length);
                s->active = true;
                s->id = r.id;
                s->seed = r.seed;
                s->n = s->n_prompt = r.n_prompt;
                s->max_new = r.max_new;
                s->fed = 0;
                memcpy(s->token, r.prompt, (size_t)r.n_prompt * sizeof *s->token);
                rt_soft_clear(&s->soft);
            }
        }
        active += s->active;
    }
    return active;
}

/* The rows of the next pass: one token of every running sequence, and as much of the waiting
   prompts as the pass has room for. last[j]: row whose logits choose sequence j's next token, or
   -1. */
static int64_t gather(rt_generator *g, int64_t *n_rows)
{
    int64_t n = 0, segments = 0, room = g->o.prefill_rows;
    for (int64_t i = 0; i < g->o.slots; i++) {
        sequence *s = &g->seq[i];
        if (!s->active)
            continue;
        int64_t waiting = s->n - s->fed, take = waiting;
        if (waiting > 1) {
            take = rt_min(waiting, room);
            if (take == 0)
                continue;
            room -= take;
        }
        g->offset[segments] = (int32_t)n;
        g->slot[segments] = (int32_t)i;
        for (int64_t t = 0; t < take; t++, n++) {
            g->token[n] = s->token[s->fed + t];
            g->pos[n] = (int32_t)(s->fed + t);
        }
        s->fed += take;
        g->last[segments++] = s->fed == s->n ? (int32_t)(n - 1) : -1;
    }
    g->offset[segments] = (int32_t)n;
    *n_rows = n;
    return segments;
}

static int finish(const rt_generator *g, sequence *s, const rt_generate_io *io, bool stopped,
                  rt_err *err)
{
    rt_completion c = { s->id,       s->token,
                        s->n_prompt, s->n - s->n_prompt,
                        stopped,     g->o.capture.head_max ? &s->soft : NULL };
    s->active = false;
    return io->done(io->ctx, &c, err);
}

/* Choose, capture, append. */
static int choose(rt_generator *g, int64_t segments, const rt_generate_io *io, rt_err *err)
{
    rt_capture_buffers *cap = &g->cap;
    int64_t n = 0;
    for (int64_t j = 0; j < segments; j++) {
        if (g->last[j] < 0)
            continue;
        const sequence *s = &g->seq[g->slot[j]];
        rt_capture_set_seed(cap, n, s->seed, s->n);
        g->slot[n] = g->slot[j];
        g->last[n++] = g->last[j];
    }
    if (n == 0)
        return 0;
    rt_model_logits(g->d, g->m, &g->acts, g->last, n);
    rt_capture_upload(g->d, cap, n, false);
    rt_sample(g->d, &cap->token, &g->acts.logits, &cap->seed, &cap->index, &g->o.sampling,
              g->o.vocab);
    rt_download(g->d, cap->host_token, cap->token.data, n * (int64_t)sizeof *cap->host_token);
    if (g->o.capture.head_max)
        rt_capture_run(g->d, cap, &g->acts.logits, n, g->o.vocab);
    if (rt_sync(g->d, err))
        return -1;
    for (int64_t j = 0; j < n; j++) {
        sequence *s = &g->seq[g->slot[j]];
        if (cap->host_token[j] < 0)
            return rt_finite_fail(g->d, g->m, &g->acts, err);
        if (g->o.capture.head_max)
            rt_capture_append(cap, j, &s->soft);
        s->token[s->n++] = cap->host_token[j];
        if (io->token && io->token(io->ctx, s->id, cap->host_token[j], err))
            return -1;
        bool stopped = rt_config_is_eos(&g->m->cfg, cap->host_token[j]);
        if ((stopped || s->n - s->n_prompt == s->max_new) && finish(g, s, io, stopped, err))
            return -1;
    }
    rt_capture_clear(cap);
    g->generated += n;
    return 0;
}

int rt_generator_run(rt_generator *g, const rt_generate_io *io, rt_err *err)
{
    if (place(g, err))
        return -1;
    for (;;) {
        int64_t active = admit(g, io, err), n = 0;
        if (active <= 0)
            return active < 0 ? -1 : 0;
        if (rt_interrupted()) {
            rt_fail(err, "interrupted");
            err->exit_code = 130;
            return -1;
        }
        int64_t segments = gather(g, &n);
        rt_acts_rows(&g->acts, g->d, g->m, n, segments, g->token, g->pos, g->offset, g->slot);
        rt_model_forward(g->d, g->m, &g->acts);
        if (choose(g, segments, io, err))
            return -1;
        if (io->tick)
            io->tick(io->ctx, g->generated);
    }
}
