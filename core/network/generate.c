#include "core/network/generate.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/memory.h"
#include "core/network/finite.h"
#include "core/network/pages.h"

typedef struct sequence {
    bool active;
    bool begun; /* has its pages; else it waits, with nothing in the cache */
    bool met;   /* has begun before: what it finds in the cache now may be its own */
    int64_t id, n_prompt, max_new;
    uint64_t seed;
    rt_sampling sampling;
    bool captured;
    int32_t *token;  /* (length) */
    int32_t *page;   /* (rt_kv_pages(length)) where its tokens lie */
    int64_t n_pages; /* of its own */
    int64_t n, fed;  /* tokens known, tokens in the cache */
    int64_t take;    /* tokens that this pass feeds */
    int64_t shared;  /* of the prompt, in the cache when it first began */
    rt_soft soft;
} sequence;

enum { STEPS = 8 };

struct rt_generator {
    rt_dev *d;
    const rt_model *m;
    rt_generate_options o;
    rt_acts acts;
    rt_capture_buffers cap;
    rt_arena host; /* the arrays below */
    rt_arenas arenas;
    rt_pages pages;
    sequence *seq;       /* (slots) */
    int32_t *token_pool; /* (slots, length) */
    int32_t *page_pool;  /* (slots, table) */
    int32_t *queue;      /* (slots) active sequences, as they came */
    int64_t n_queue;
    int32_t *token, *pos, *offset, *slot, *last,
        *page;           /* of a pass: rows, rows, S+1, S, S, S x table */
    int64_t rows, table; /* rows of a pass, pages of a sequence, at most */
    struct step {
        int64_t rows; /* sequences that are fed a token each */
        rt_graph graph;
    } step[STEPS];           /* of so many numbers of rows, the last ones met */
    rt_cost decode, prefill; /* a token of every sequence; what prompts beside them add */
    rt_generated counts;
};

const char *rt_finish_name(rt_finish f)
{
    static const char *const names[RT_FINISH_COUNT] = { "stop", "length", "stop_string",
                                                        "repetition" };
    return names[f];
}

rt_sampling rt_sampling_of(const rt_sampling_options *o)
{
    return (rt_sampling){ .temperature = (float)o->temperature,
                          .top_p = (float)o->top_p,
                          .top_k = (int32_t)o->top_k,
                          .min_p = (float)o->min_p };
}

int rt_sampling_check(const rt_sampling_options *o, rt_err *err)
{
    if (o->repetition > 0 && o->repetition < RT_CYCLES)
        return rt_usage(err,
                        "--stop-repetition %lld: no cycle fits into that %d times; give 0 (never), "
                        "or %d or more",
                        (long long)o->repetition, RT_CYCLES, RT_CYCLES);
    return 0;
}

bool rt_tokens_cycle(const int32_t *token, int64_t n, int64_t n_cycle)
{
    const int32_t *last = token + n - n_cycle;
    if (n_cycle < RT_CYCLES || n < n_cycle)
        return false;
    for (int64_t period = 1; period <= n_cycle / RT_CYCLES; period++) {
        int64_t i = n_cycle - 1;
        while (i >= period && last[i] == last[i - period])
            i--;
        if (i < period)
            return true;
    }
    return false;
}

/* ---- life ---------------------------------------------------------------------------------------
 */

static int64_t pages_of(const rt_generate_options *o)
{
    int64_t one = rt_kv_pages(o->length), all = o->slots * one;
    return o->cache_tokens ? rt_max(one, rt_min(all, rt_kv_pages(o->cache_tokens))) : all;
}

static void plan_host(void *ctx, rt_arena *a)
{
    rt_generator *g = ctx;
    int64_t slots = g->o.slots, word = sizeof *g->token;
    g->seq = rt_arena_take(a, "sequences", slots * (int64_t)sizeof *g->seq);
    g->token_pool = rt_arena_take(a, "sequences.tokens", slots * g->o.length * word);
    g->page_pool = rt_arena_take(a, "sequences.pages", slots * g->table * word);
    g->queue = rt_arena_take(a, "sequences", slots * word);
    g->token = rt_arena_take(a, "pass", g->rows * word);
    g->pos = rt_arena_take(a, "pass", g->rows * word);
    g->offset = rt_arena_take(a, "pass", (slots + 1) * word);
    g->slot = rt_arena_take(a, "pass", slots * word);
    g->last = rt_arena_take(a, "pass", slots * word);
    g->page = rt_arena_take(a, "pass", slots * g->table * word);
    rt_pages_plan(&g->pages, a, g->acts.shape.pages);
    for (int64_t i = 0; g->seq && i < slots; i++) {
        g->seq[i].token = g->token_pool + i * g->o.length;
        g->seq[i].page = g->page_pool + i * g->table;
        rt_soft_init(&g->seq[i].soft);
    }
}

/* A pass of so many rows in which every sequence chooses a token. */
static rt_cost dry_run(rt_generator *g, int64_t rows)
{
    rt_capture_buffers *cap = &g->cap;
    int64_t n = g->o.slots;
    rt_dev_dry_begin(g->d);
    rt_acts_dry(&g->acts, g->m, rows, n);
    rt_model_logits(g->d, g->m, &g->acts, NULL, n);
    rt_capture_upload(g->d, cap, n, false);
    rt_sample(g->d, &cap->token, &g->acts.logits, &cap->seed, &cap->index, &g->o.sampling,
              g->o.vocab);
    if (g->o.capture.head_max)
        rt_capture_run(g->d, cap, &g->acts.logits, n, g->o.vocab);
    rt_capture_clear(cap);
    return rt_dev_dry_end(g->d);
}

rt_generator *rt_generator_open(rt_dev *d, const rt_model *m, const rt_generate_options *o)
{
    rt_generator *g = rt_alloc(1, sizeof *g, "a generator");
    g->d = d;
    g->m = m;
    g->o = *o;
    g->rows = o->slots + o->prefill_rows;
    g->table = rt_kv_pages(o->length);
    if (o->length > m->rope.dim[0]) /* said of every sequence, before one is that long */
        rt_bug("sequences of %lld tokens, rope table of %lld", (long long)o->length,
               (long long)m->rope.dim[0]);
    rt_pass_shape shape = { .mode = RT_PLAN_DECODE,
                            .rows = g->rows,
                            .segments = o->slots,
                            .longest = o->length,
                            .head_rows = o->slots,
                            .pages = pages_of(o) };
    rt_acts_plan(&g->acts, &g->arenas, d, m, &shape);
    rt_capture_plan(&g->cap, &g->arenas, &o->capture, o->slots, o->slots);
    rt_arenas_add(&g->arenas, &g->host, "host", RT_ON_HOST, plan_host, g);
    g->decode = dry_run(g, o->slots);
    g->prefill = dry_run(g, g->rows); /* as large as any */
    g->prefill.flops -= g->decode.flops;
    g->prefill.bytes -= g->decode.bytes;
    return g;
}

void rt_generator_cost(const rt_generator *g, double prompts, double chosen, rt_needs *p)
{
    rt_needs_cost(p, g->d, g->decode, chosen / (double)g->o.slots);
    rt_needs_cost(p, g->d, g->prefill, prompts / (double)rt_max(1, g->o.prefill_rows));
}

void rt_generator_needs(const rt_generator *g, rt_needs *p)
{
    int64_t rows = g->o.length, items = rows * (g->cap.cfg.head_max + g->cap.draws);
    rt_needs_arenas(p, g->d, &g->arenas);
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
    for (int i = 0; i < STEPS; i++)
        rt_graph_free(g->d, &g->step[i].graph);
    rt_arenas_free(&g->arenas, g->d);
    rt_acts_free(&g->acts);
    free(g);
}

void rt_generator_forget(rt_generator *g) { rt_pages_forget(&g->pages); }

const rt_generated *rt_generator_counts(const rt_generator *g) { return &g->counts; }

/* ---- who runs -----------------------------------------------------------------------------------
 */

static void begin_request(rt_generator *g, int64_t slot, const rt_request *r)
{
    sequence *s = &g->seq[slot];
    if (r->n_prompt < 1 || r->max_new < 1 || r->n_prompt > g->o.length - r->max_new)
        rt_bug("a request of %lld + %lld tokens, planned for %lld", (long long)r->n_prompt,
               (long long)r->max_new, (long long)g->o.length);
    s->active = true;
    s->id = r->id;
    s->seed = r->seed;
    s->n = s->n_prompt = r->n_prompt;
    s->max_new = r->max_new;
    s->sampling = r->sampling ? *r->sampling : g->o.sampling;
    s->captured = g->o.capture.head_max && !r->uncaptured;
    s->fed = s->n_pages = 0;
    s->begun = s->met = false;
    memcpy(s->token, r->prompt, (size_t)r->n_prompt * sizeof *s->token);
    rt_soft_clear(&s->soft);
    g->counts.prompt += s->n;
    g->queue[g->n_queue++] = (int32_t)slot;
}

/* The last page is left first, so that it is taken first and the beginning stays. */
static void drop_pages(rt_generator *g, sequence *s)
{
    while (s->n_pages > 0)
        rt_pages_drop(&g->pages, s->page[--s->n_pages]);
    s->fed = 0;
    s->begun = false;
}

/* Fill free slots. Returns how many sequences there are, or -1. */
static int64_t admit(rt_generator *g, const rt_generate_io *io, rt_err *err)
{
    int64_t kept = 0;
    for (int64_t k = 0; k < g->n_queue; k++) {
        sequence *s = &g->seq[g->queue[k]];
        if (s->active && io->gone && io->gone(io->ctx, s->id)) {
            s->active = false;
            drop_pages(g, s);
        }
        if (s->active)
            g->queue[kept++] = g->queue[k];
    }
    g->n_queue = kept;
    for (int64_t i = 0; i < g->o.slots; i++) {
        rt_request r = { 0 };
        int got = g->seq[i].active ? 2 : io->next(io->ctx, &r, err);
        if (got < 0)
            return -1;
        if (got == 0)
            break;
        if (got == 1)
            begin_request(g, i, &r);
    }
    return g->n_queue;
}

static int64_t last_serial(const rt_generator *g, const sequence *s)
{
    return s->n_pages ? g->pages.page[s->page[s->n_pages - 1]].serial : 0;
}

/* Full pages of the cache with the first tokens of s into its table, not held yet; returns the
   tokens they hold. The last token is always fed: its logits choose the next. */
static int64_t find_pages(rt_generator *g, sequence *s)
{
    int64_t fed = 0, common, page;
    s->n_pages = 0;
    while (s->n - 1 - fed >= RT_KV_PAGE &&
           (page = rt_pages_find(&g->pages, last_serial(g, s), s->token + fed, RT_KV_PAGE,
                                 &common)) >= 0 &&
           common == RT_KV_PAGE) {
        s->page[s->n_pages++] = (int32_t)page;
        fed += RT_KV_PAGE;
    }
    return fed;
}

/* Whether another sequence is about to feed what s would: at least so many tokens that waiting for
   the next pass is worth it. */
static bool worth_waiting(const rt_generator *g, const sequence *s, int64_t have)
{
    enum { FEW = 16 };
    for (int64_t k = 0; k < g->n_queue; k++) {
        const sequence *o = &g->seq[g->queue[k]];
        int64_t n = 0, most = rt_min(s->n - 1, o->n);
        if (!o->begun || o->fed >= o->n - 1)
            continue;
        while (n < most && s->token[n] == o->token[n])
            n++;
        if (n - have >= FEW)
            return true;
    }
    return false;
}

/* The beginning of a page that another sequence has or had, copied: s writes the rest itself. The
   page it takes may be that very page. */
static void copy_page(rt_generator *g, sequence *s, int64_t from, int64_t common)
{
    int64_t to = rt_pages_take(&g->pages, last_serial(g, s));
    if (to < 0)
        rt_bug("no page for the %lld tokens that were promised one", (long long)common);
    if (to != from)
        rt_acts_copy_page(&g->acts, to, from);
    rt_pages_put(&g->pages, to, 0, s->token + s->fed, common);
    s->page[s->n_pages++] = (int32_t)to;
    s->fed += common;
}

/* Give s what the cache holds of its beginning. false: it waits, for another sequence that feeds
   the same or (*full) for pages. */
static bool begin(rt_generator *g, sequence *s, bool *full)
{
    int64_t common = 0, fed = find_pages(g, s), n = s->n_pages;
    int64_t part = rt_pages_find(&g->pages, last_serial(g, s), s->token + fed,
                                 rt_min(s->n - 1 - fed, RT_KV_PAGE), &common);
    int64_t need = rt_kv_pages(s->n);
    for (int64_t i = 0; i < n; i++)
        need -= g->pages.page[s->page[i]].refs > 0;
    *full = need > g->pages.n - g->pages.held;
    if (*full || worth_waiting(g, s, fed + common)) {
        s->n_pages = 0;
        return false;
    }
    for (int64_t i = 0; i < n; i++)
        rt_pages_hold(&g->pages, s->page[i]);
    s->fed = fed;
    s->begun = true;
    if (part >= 0)
        copy_page(g, s, part, common);
    if (!s->met)
        g->counts.shared += s->shared = s->fed;
    s->met = true;
    return true;
}

/* Pages for the first n tokens of s. Where there are none the sequence that came last gives back
   its own; false when that is s. The first of the queue always gets them: one sequence fits. */
static bool reserve(rt_generator *g, sequence *s, int64_t n)
{
    while (s->n_pages < rt_kv_pages(n)) {
        int64_t page = rt_pages_take(&g->pages, last_serial(g, s)), k = g->n_queue - 1;
        if (page >= 0) {
            s->page[s->n_pages++] = (int32_t)page;
            continue;
        }
        while (k > 0 && !g->seq[g->queue[k]].begun)
            k--;
        sequence *last = &g->seq[g->queue[k]];
        drop_pages(g, last);
        g->counts.put_off++;
        if (last == s)
            return false;
    }
    return true;
}

/* How much of each sequence the next pass feeds: one token of those that run, and as much of the
   others' as there is room for; who came first, first. */
static void schedule(rt_generator *g)
{
    int64_t room = g->o.prefill_rows;
    bool full = false;
    for (int64_t k = 0; k < g->n_queue; k++) {
        sequence *s = &g->seq[g->queue[k]];
        s->take = 0;
        if (!s->begun && (full || !begin(g, s, &full)))
            continue;
        int64_t waiting = s->n - s->fed, take = waiting > 1 ? rt_min(waiting, room) : waiting;
        if (take == 0 || !reserve(g, s, s->fed + take))
            continue;
        s->take = take;
        if (waiting > 1)
            room -= take;
    }
}

/* ---- a pass -------------------------------------------------------------------------------------
 */

/* The rows of the next pass. last[j]: row whose logits choose sequence j's next token, or -1. */
static int64_t gather(rt_generator *g, int64_t *n_rows)
{
    int64_t n = 0, segments = 0;
    schedule(g);
    for (int64_t k = 0; k < g->n_queue; k++) {
        sequence *s = &g->seq[g->queue[k]];
        if (s->take == 0)
            continue;
        g->counts.fed += s->n - s->fed > 1 || s->n == s->n_prompt ? s->take : 0;
        g->offset[segments] = (int32_t)n;
        g->slot[segments] = g->queue[k];
        memcpy(g->page + segments * g->table, s->page, (size_t)s->n_pages * sizeof *s->page);
        for (int64_t t = 0; t < s->take; t++, n++, s->fed++) {
            g->token[n] = s->token[s->fed];
            g->pos[n] = (int32_t)s->fed;
            rt_pages_put(&g->pages, s->page[s->fed / RT_KV_PAGE], s->fed % RT_KV_PAGE,
                         s->token + s->fed, 1);
        }
        g->last[segments++] = s->fed == s->n ? (int32_t)(n - 1) : -1;
    }
    g->offset[segments] = (int32_t)n;
    *n_rows = n;
    return segments;
}

static int finish(rt_generator *g, sequence *s, const rt_generate_io *io, rt_finish how,
                  rt_err *err)
{
    rt_completion c = { .id = s->id,
                        .token = s->token,
                        .n_prompt = s->n_prompt,
                        .n_new = s->n - s->n_prompt,
                        .n_shared = s->shared,
                        .finish = how,
                        .soft = s->captured ? &s->soft : NULL };
    s->active = false;
    drop_pages(g, s);
    return io->done(io->ctx, &c, err);
}

/* Whether s ends with its last token: 1 and how, 0, or -1. */
static int ends(const rt_generator *g, const sequence *s, const rt_generate_io *io, rt_finish *how,
                rt_err *err)
{
    int64_t n_new = s->n - s->n_prompt;
    *how = RT_FINISH_STOP;
    if (rt_config_is_eos(&g->m->cfg, s->token[s->n - 1]))
        return 1;
    *how = RT_FINISH_STOP_STRING;
    int stopped = io->stop ? io->stop(io->ctx, s->id, s->token, s->n_prompt, s->n, err) : 0;
    if (stopped)
        return stopped;
    *how = RT_FINISH_REPETITION;
    if (rt_tokens_cycle(s->token + s->n_prompt, n_new, g->o.repetition))
        return 1;
    *how = RT_FINISH_LENGTH;
    return n_new == s->max_new;
}

/* Whether a's row stands before b's: captured ones first, then equal settings together. */
static bool stands_before(const sequence *a, const sequence *b)
{
    if (a->captured != b->captured)
        return a->captured;
    return memcmp(&a->sampling, &b->sampling, sizeof a->sampling) < 0;
}

/* The rows that choose a token, as they are to stand; returns how many. */
static int64_t line_up(rt_generator *g, int64_t segments)
{
    int64_t n = 0;
    for (int64_t j = 0; j < segments; j++) {
        int32_t slot = g->slot[j], last = g->last[j];
        int64_t at = n;
        if (last < 0)
            continue;
        for (; at > 0 && stands_before(&g->seq[slot], &g->seq[g->slot[at - 1]]); at--) {
            g->slot[at] = g->slot[at - 1];
            g->last[at] = g->last[at - 1];
        }
        g->slot[at] = slot;
        g->last[at] = last;
        n++;
    }
    return n;
}

/* A token for each row; rows of equal settings at once. */
static void sample_rows(rt_generator *g, int64_t n)
{
    rt_capture_buffers *cap = &g->cap;
    for (int64_t from = 0, to; from < n; from = to) {
        const rt_sampling *s = &g->seq[g->slot[from]].sampling;
        for (to = from + 1; to < n && !memcmp(&g->seq[g->slot[to]].sampling, s, sizeof *s);)
            to++;
        rt_tensor token = rt_tensor_rows(&cap->token, from, to - from);
        rt_tensor logits = rt_tensor_rows(&g->acts.logits, from, to - from);
        rt_tensor seed = rt_tensor_rows(&cap->seed, from, to - from);
        rt_tensor index = rt_tensor_rows(&cap->index, from, to - from);
        rt_sample(g->d, &token, &logits, &seed, &index, s, g->o.vocab);
    }
}

/* Logits of n rows, a token for each, and the soft targets of the first *captured. */
static int draw(rt_generator *g, int64_t n, int64_t *captured, rt_err *err)
{
    rt_capture_buffers *cap = &g->cap;
    *captured = 0;
    for (int64_t j = 0; j < n; j++) {
        const sequence *s = &g->seq[g->slot[j]];
        rt_capture_set_seed(cap, j, s->seed, s->n);
        *captured += s->captured;
    }
    rt_model_logits(g->d, g->m, &g->acts, g->last, n);
    rt_capture_upload(g->d, cap, n, false);
    sample_rows(g, n);
    rt_download(g->d, cap->host_token, cap->token.data, n * (int64_t)sizeof *cap->host_token);
    if (*captured) {
        rt_tensor logits = rt_tensor_rows(&g->acts.logits, 0, *captured);
        rt_capture_run(g->d, cap, &logits, *captured, g->o.vocab);
    }
    return rt_sync(g->d, err);
}

/* Choose, capture, append. */
static int choose(rt_generator *g, int64_t segments, const rt_generate_io *io, rt_err *err)
{
    rt_capture_buffers *cap = &g->cap;
    int64_t n = line_up(g, segments), captured;
    if (n == 0)
        return 0;
    if (draw(g, n, &captured, err))
        return -1;
    for (int64_t j = 0; j < n; j++) {
        sequence *s = &g->seq[g->slot[j]];
        int32_t token = cap->host_token[j];
        if (token < 0)
            return rt_finite_fail(g->d, g->m, &g->acts, err);
        if (j < captured)
            rt_capture_append(cap, j, &s->soft);
        s->token[s->n++] = token;
        if (io->token && io->token(io->ctx, s->id, token, j < captured ? &s->soft : NULL, err))
            return -1;
        rt_finish how;
        int end = ends(g, s, io, &how, err);
        if (end < 0 || (end && finish(g, s, io, how, err)))
            return -1;
    }
    rt_capture_clear(cap);
    g->counts.tokens += n;
    return 0;
}

/* A pass in which every sequence is fed one token repeats the last one of so many. */
static int run_pass(rt_generator *g, int64_t rows, int64_t segments, rt_err *err)
{
    struct step *step = &g->step[rows % STEPS];
    if (rows != segments || g->m->visit)
        return rt_model_pass(g->d, g->m, &g->acts, err);
    if (step->rows != rows)
        rt_graph_free(g->d, &step->graph);
    step->rows = rows;
    while (rt_repeat(g->d, &step->graph))
        rt_model_forward(g->d, g->m, &g->acts);
    return 0;
}

int rt_generator_run(rt_generator *g, const rt_generate_io *io, rt_err *err)
{
    if (rt_arenas_place(&g->arenas, g->d, err) || rt_dev_ready(g->d, err))
        return -1;
    for (;;) {
        int64_t active = admit(g, io, err), n = 0;
        if (active <= 0)
            return active < 0 ? -1 : 0;
        if (!io->gone && rt_interrupted()) {
            rt_fail(err, "interrupted");
            err->exit_code = 130;
            return -1;
        }
        int64_t segments = gather(g, &n);
        rt_acts_rows(&g->acts, n, segments, g->token, g->pos, g->offset, g->page);
        if (run_pass(g, n, segments, err) || choose(g, segments, io, err))
            return -1;
        if (io->tick)
            io->tick(io->ctx, g->counts.tokens);
    }
}
