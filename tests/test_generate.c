/* test_generate.c: the generator's scheduling, on golden models of every kind of cache: prompts
   that begin alike are fed once, in whatever order they come; a cache with too few pages; what a
   sequence draws is what it draws alone, to the bit, whatever it shares and however often it was
   put off, and with settings of its own; how sequences end, and leave before they do. */
#include <stdlib.h>
#include <string.h>

#include "core/base/rng.h"
#include "core/network/generate.h"
#include "core/network/pages.h"
#include "core/network/weights.h"
#include "tests/suite.h"

/* Keys and values, a latent, windows and sinks, experts. */
static const char *const MODELS[] = { "llama_tied", "deepseek_q", "gpt_oss_clamped",
                                      "qwen3_moe_norm" };
enum { REQUESTS = 24, LENGTH = 640, NEW_MAX = 40 };

static rt_err err;

typedef struct request {
    int32_t prompt[LENGTH];
    int64_t n_prompt, max_new;
    uint64_t seed;
} request;

typedef struct result {
    int32_t token[LENGTH];
    int64_t n, n_soft;
    rt_finish finish;
    uint64_t soft; /* hash of the targets */
} result;

typedef struct bench {
    rt_dev *dev;
    rt_model model;
    request ask[REQUESTS];
    result got[REQUESTS];
    int n, asked;
    bool backwards;
    int32_t stop_at; /* a token that io.stop stops at; -1 = none */
    bool mixed;      /* every other request is greedy, every third not captured */
    int passes;      /* of requests that may leave */
} bench;

static const rt_sampling HOT = { 1.1f, 0.98f, 0, 0.001f }, GREEDY = { 0.0f, 0.98f, 0, 0.001f };

static bool is_uncaptured(const bench *b, int64_t i) { return b->mixed && i % 3 == 0; }

static int64_t below(uint64_t seed, uint64_t i, int64_t n)
{
    return (int64_t)rt_rng_below(seed, RT_RNG_DATA, i, (uint32_t)n);
}

static void open_bench(bench *b, const char *name, int threads)
{
    char path[512];
    memset(b, 0, sizeof *b);
    b->stop_at = -1;
    snprintf(path, sizeof path, "%s/tests/golden/models/%s", RT_SOURCE_DIR, name);
    OK(rt_dev_open(&b->dev, NULL, threads, &err) ||
       rt_model_open(&b->model, b->dev, path, true, LENGTH, &err));
    b->model.cfg.n_eos = 0; /* as long as they may be */
}

static void close_bench(bench *b)
{
    rt_model_free(b->dev, &b->model);
    rt_dev_close(b->dev);
}

static void random_tokens(const bench *b, int32_t *token, int64_t n, uint64_t seed)
{
    for (int64_t i = 0; i < n; i++)
        token[i] = (int32_t)below(seed, (uint64_t)i, b->model.cfg.vocab);
}

/* Each prompt keeps some of the beginning of an earlier one: all of it now and then. */
static void branching_requests(bench *b, uint64_t seed)
{
    b->n = REQUESTS;
    for (int i = 0; i < b->n; i++) {
        request *r = &b->ask[i];
        uint64_t k = (uint64_t)i * 8;
        const request *from = &b->ask[i ? below(seed, k, i) : 0];
        int64_t keep = below(seed, k + 1, 3) ? below(seed, k + 2, from->n_prompt + 1)
                                             : from->n_prompt;
        int64_t more = below(seed, k + 3, 2) || keep == 0 ? 1 + below(seed, k + 4, 150) : 0;
        more = rt_min(more, 300 - keep);
        memcpy(r->prompt, from->prompt, (size_t)keep * sizeof *r->prompt);
        random_tokens(b, r->prompt + keep, more, seed + k + 5);
        r->n_prompt = keep + more;
        r->max_new = 1 + below(seed, k + 6, NEW_MAX);
        r->seed = seed + k;
    }
}

static int next_request(void *ctx, rt_request *r, rt_err *e)
{
    bench *b = ctx;
    (void)e;
    if (b->asked == b->n)
        return 0;
    int i = b->backwards ? b->n - 1 - b->asked : b->asked;
    const request *a = &b->ask[i];
    b->asked++;
    *r = (rt_request){ .id = i,
                       .prompt = a->prompt,
                       .n_prompt = a->n_prompt,
                       .max_new = a->max_new,
                       .seed = a->seed,
                       .sampling = !b->mixed ? NULL : i % 2 ? &GREEDY : &HOT,
                       .uncaptured = is_uncaptured(b, i) };
    return 1;
}

static int take(void *ctx, const rt_completion *c, rt_err *e)
{
    bench *b = ctx;
    result *r = &b->got[c->id];
    const rt_soft *s = c->soft;
    (void)e;
    r->n = c->n_prompt + c->n_new;
    r->finish = c->finish;
    memcpy(r->token, c->token, (size_t)r->n * sizeof *r->token);
    r->soft = 0;
    ck_assert((s == NULL) == is_uncaptured(b, c->id));
    if (!s)
        return 0;
    ck_assert_int_eq(s->n, c->n_new);
    r->soft = rt_hash64(s->id, 4 * s->n_items, rt_hash64(s->logp, 4 * s->n_items, 0));
    r->soft = rt_hash64(s->entropy, 4 * s->n, rt_hash64(s->hits, 4 * s->n_items, r->soft));
    return 0;
}

static int stop(void *ctx, int64_t id, const int32_t *token, int64_t n_prompt, int64_t n,
                rt_err *e)
{
    const bench *b = ctx;
    (void)id, (void)n_prompt, (void)e;
    return token[n - 1] == b->stop_at;
}

typedef struct way {
    int64_t slots, prefill, cache_tokens, repetition;
    bool backwards, greedy;
} way;

static rt_generator *new_generator(bench *b, const way *w)
{
    rt_generate_options o = { .slots = w->slots,
                              .length = LENGTH,
                              .prefill_rows = w->prefill,
                              .cache_tokens = w->cache_tokens,
                              .vocab = b->model.cfg.vocab,
                              .repetition = w->repetition,
                              .sampling = w->greedy ? GREEDY : HOT,
                              .capture = { .head_max = 4, .tail_spacing = 0.125f } };
    return rt_generator_open(b->dev, &b->model, &o);
}

static void run(bench *b, rt_generator *g)
{
    rt_generate_io io = { .ctx = b, .next = next_request, .done = take, .stop = stop };
    b->asked = 0;
    OK(rt_generator_run(g, &io, &err));
}

/* Every request alone, in a generator of its own: nothing to share. */
static void run_alone(bench *b, const way *other)
{
    way w = { .slots = 1, .prefill = LENGTH, .repetition = other->repetition };
    int n = b->n;
    w.greedy = other->greedy;
    for (int i = 0; i < n; i++) {
        rt_generator *g = new_generator(b, &w);
        rt_generate_io io = { .ctx = b, .next = next_request, .done = take, .stop = stop };
        b->asked = i;
        b->n = i + 1;
        b->backwards = false;
        OK(rt_generator_run(g, &io, &err));
        ck_assert_int_eq(rt_generator_counts(g)->shared, 0);
        rt_generator_close(g);
    }
    b->n = n;
}

static void same_results(const bench *b, const result *want, const char *what)
{
    for (int i = 0; i < b->n; i++) {
        const result *a = &b->got[i];
        ck_assert_msg(a->n == want[i].n && a->finish == want[i].finish &&
                          !memcmp(a->token, want[i].token, (size_t)a->n * sizeof *a->token),
                      "%s: request %d: other tokens", what, i);
        ck_assert_msg(a->soft == want[i].soft, "%s: request %d: other targets", what, i);
    }
}

/* ---- sharing ------------------------------------------------------------------------------------
 */

/* The samples of one prompt cost one prefill, and each is what it is alone. */
START_TEST(samples_of_a_prompt)
{
    enum { PROMPT = 500, N = 16 };
    static bench b;
    static result want[REQUESTS];
    static const way all = { .slots = N, .prefill = 128 };
    static const way few = { .slots = N, .prefill = 128, .cache_tokens = 1 };
    open_bench(&b, MODELS[_i], 2);
    random_tokens(&b, b.ask[0].prompt, PROMPT, 3);
    b.n = N;
    for (int i = 0; i < N; i++) {
        b.ask[i] = b.ask[0];
        b.ask[i].n_prompt = PROMPT;
        b.ask[i].max_new = 3 + i;
        b.ask[i].seed = 70 + (uint64_t)i;
    }
    run_alone(&b, &all);
    memcpy(want, b.got, sizeof want);
    rt_generator *g = new_generator(&b, &all);
    run(&b, g);
    same_results(&b, want, MODELS[_i]);
    const rt_generated *c = rt_generator_counts(g);
    ck_assert_int_eq(c->prompt, N * PROMPT);
    ck_assert_int_eq(c->fed, PROMPT + N - 1); /* each its last token, for its own first choice */
    ck_assert_int_eq(c->shared, (N - 1) * (PROMPT - 1));
    run(&b, g); /* what the cache holds outlives the run */
    same_results(&b, want, "again");
    ck_assert_int_eq(c->fed, PROMPT + N - 1 + N);
    rt_generator_forget(g);
    run(&b, g);
    same_results(&b, want, "forgotten");
    ck_assert_int_eq(c->fed, 2 * (PROMPT + N - 1) + N);
    rt_generator_close(g);
    g = new_generator(&b, &few); /* a prompt is counted once, however often it is put off */
    run(&b, g);
    same_results(&b, want, "few pages");
    c = rt_generator_counts(g);
    ck_assert_msg(c->put_off > 0 && c->shared <= (N - 1) * (PROMPT - 1), "%d shared, %d put off",
                  (int)c->shared, (int)c->put_off);
    rt_generator_close(g);
    close_bench(&b);
}
END_TEST

START_TEST(branches)
{
    static bench b;
    static result want[REQUESTS];
    static const way ways[] = { { .slots = 1, .prefill = 64 },
                                { .slots = 5, .prefill = 7 },
                                { .slots = REQUESTS, .prefill = 1000 },
                                { .slots = 8, .prefill = 1, .backwards = true },
                                { .slots = REQUESTS, .prefill = 100, .cache_tokens = 1 },
                                { .slots = 6, .prefill = 33, .cache_tokens = 768 } };
    int64_t total = 0;
    open_bench(&b, MODELS[_i], 2);
    branching_requests(&b, 11 + (uint64_t)_i);
    run_alone(&b, &ways[0]);
    memcpy(want, b.got, sizeof want);
    for (int i = 0; i < b.n; i++)
        total += b.ask[i].n_prompt;
    for (int k = 0; k < RT_COUNT(ways); k++) {
        char what[64];
        rt_generator *g = new_generator(&b, &ways[k]);
        snprintf(what, sizeof what, "%s, way %d", MODELS[_i], k);
        b.backwards = ways[k].backwards;
        run(&b, g);
        same_results(&b, want, what);
        const rt_generated *c = rt_generator_counts(g);
        ck_assert_msg(c->shared > total / 4, "%s: %d of %d tokens shared", what, (int)c->shared,
                      (int)total);
        if (ways[k].cache_tokens)
            ck_assert_msg(c->put_off > 0, "%s: there were pages enough", what);
        else
            ck_assert_msg(c->put_off == 0 && c->shared + c->fed == total,
                          "%s: %d shared, %d fed of %d", what, (int)c->shared, (int)c->fed,
                          (int)total);
        rt_generator_close(g);
    }
    close_bench(&b);
}
END_TEST

/* ---- pages --------------------------------------------------------------------------------------
 */

/* Against a list of what was put: a found page comes after that very text and holds what find says,
   and held ones are never taken. */
START_TEST(pages)
{
    enum { PAGES = 6, STEPS = 20000 };
    rt_pages p;
    rt_arena a;
    int held[PAGES] = { 0 };
    uint64_t text[PAGES] = { 0 },
             before[PAGES] = { 0 }; /* all that a page ends; what precedes it */
    int64_t n_held = 0, found = 0;
    rt_arena_init(&a, "host");
    rt_pages_plan(&p, &a, PAGES);
    OK(rt_arena_place(&a, &err));
    rt_pages_plan(&p, &a, PAGES);
    for (uint64_t i = 0; i < STEPS; i++) {
        int32_t token[RT_KV_PAGE];
        int64_t n = 1 + below(1, i, RT_KV_PAGE), common, page, at = below(2, i, PAGES);
        int64_t parent = at ? p.page[at].serial : 0;
        for (int64_t k = 0; k < n; k++) /* few texts, which branch late */
            token[k] = (int32_t)(k < 60 ? below(3, i, 2) : below(4, i, 3));
        page = rt_pages_find(&p, parent, token, n, &common);
        ck_assert((page < 0) == (common == 0));
        ck_assert(page < 0 || before[page] == (parent ? text[at] : 0));
        for (int64_t k = 0; k < PAGES; k++) { /* none is better */
            int64_t m = 0;
            while (m < n && m < p.page[k].n && p.token[k * RT_KV_PAGE + m] == token[m])
                m++;
            ck_assert(!p.page[k].serial || p.page[k].parent != parent || m <= common);
        }
        found += page >= 0;
        if (page >= 0 && below(5, i, 2)) {
            rt_pages_hold(&p, page);
            n_held += held[page]++ == 0;
        } else if ((page = rt_pages_take(&p, parent)) >= 0) {
            ck_assert_int_eq(held[page], 0);
            rt_pages_put(&p, page, 0, token, n);
            before[page] = parent ? text[at] : 0;
            text[page] = rt_hash64(token, 4 * n, before[page] + 1);
            held[page] = 1;
            n_held++;
        } else {
            ck_assert_int_eq(n_held, PAGES);
        }
        page = below(6, i, PAGES);
        if (held[page] && (below(7, i, 2) || n_held == PAGES)) {
            rt_pages_drop(&p, page);
            n_held -= --held[page] == 0;
        }
        ck_assert_int_eq(p.held, n_held);
    }
    ck_assert_int_gt(found, STEPS / 20);
    rt_arena_free(&a);
}
END_TEST

/* ---- ends ---------------------------------------------------------------------------------------
 */

static bool slow_cycle(const int32_t *token, int64_t n, int64_t n_cycle)
{
    for (int64_t period = 1; n_cycle && period * RT_CYCLES <= n_cycle && n_cycle <= n; period++) {
        bool same = true;
        for (int64_t i = n - n_cycle + period; i < n; i++)
            same = same && token[i] == token[i - period];
        if (same)
            return true;
    }
    return false;
}

START_TEST(cycles)
{
    int32_t token[64];
    int yes = 0;
    for (uint64_t i = 0; i < 20000; i++) {
        int64_t n = below(1, i, 64), period = 1 + below(2, i, 12), n_cycle = below(3, i, 50);
        for (int64_t k = 0; k < n; k++)
            token[k] = (int32_t)(k < period ? below(4, i * 64 + (uint64_t)k, 3)
                                            : token[k - period]);
        if (n && below(5, i, 2))
            token[below(6, i, n)] ^= 1;
        bool want = slow_cycle(token, n, n_cycle);
        ck_assert(rt_tokens_cycle(token, n, n_cycle) == want);
        yes += want;
    }
    ck_assert_int_gt(yes, 1000);
}
END_TEST

static bool holds(const request *r, const result *f, int32_t token)
{
    int64_t i = r->n_prompt;
    while (i < f->n && f->token[i] != token)
        i++;
    return i < f->n;
}

/* A token that some responses hold and some do not. */
static int32_t rare_token(const bench *b, const result *f)
{
    for (int32_t token = 0; token < b->model.cfg.vocab; token++) {
        int n = 0;
        for (int i = 0; i < b->n; i++)
            n += holds(&b->ask[i], &f[i], token);
        if (n >= 3 && n <= b->n - 8)
            return token;
    }
    ck_abort_msg("no such token");
}

/* A stop, a cycle and the limit, alone and together: each ends the same way, at the same token. */
START_TEST(endings)
{
    enum { CYCLE = 8 };
    static bench b;
    static result free_run[REQUESTS], want[REQUESTS];
    static const way endless = { .greedy = true };
    static const way together = { .slots = 7, .prefill = 40, .repetition = CYCLE, .greedy = true };
    int seen[RT_FINISH_COUNT] = { 0 };
    open_bench(&b, MODELS[_i], 2);
    branching_requests(&b, 5);
    run_alone(&b, &endless);
    memcpy(free_run, b.got, sizeof free_run);
    b.stop_at = rare_token(&b, free_run);
    run_alone(&b, &together);
    memcpy(want, b.got, sizeof want);
    rt_generator *g = new_generator(&b, &together);
    run(&b, g);
    same_results(&b, want, MODELS[_i]);
    for (int i = 0; i < b.n; i++) {
        const result *a = &b.got[i], *f = &free_run[i];
        int64_t n = b.ask[i].n_prompt + 1;
        rt_finish how = RT_FINISH_LENGTH;
        for (; n < f->n; n++) /* where the free run should have ended */
            if (f->token[n - 1] == b.stop_at ||
                slow_cycle(f->token + b.ask[i].n_prompt, n - b.ask[i].n_prompt, CYCLE))
                break;
        if (f->token[n - 1] == b.stop_at)
            how = RT_FINISH_STOP_STRING;
        else if (slow_cycle(f->token + b.ask[i].n_prompt, n - b.ask[i].n_prompt, CYCLE))
            how = RT_FINISH_REPETITION;
        ck_assert_int_eq(a->n, n);
        ck_assert_int_eq(a->finish, how);
        seen[how]++;
    }
    for (int how = RT_FINISH_LENGTH; how < RT_FINISH_COUNT; how++)
        ck_assert_msg(seen[how] > 0 || (_i > 0 && how == RT_FINISH_REPETITION),
                      "%s: none ended by %s", MODELS[_i], rt_finish_name((rt_finish)how));
    rt_generator_close(g);
    close_bench(&b);
}
END_TEST

/* ---- settings and leaving -----------------------------------------------------------------------
 */

/* Settings of each its own, in one batch: what a request draws is what it draws where they are
   everybody's. */
START_TEST(settings)
{
    static bench b;
    static result hot[REQUESTS], want[REQUESTS];
    static const way hot_way = { .slots = 9, .prefill = 50 },
                     greedy_way = { .slots = 9, .prefill = 50, .greedy = true };
    open_bench(&b, MODELS[_i], 2);
    branching_requests(&b, 31);
    run_alone(&b, &hot_way);
    memcpy(hot, b.got, sizeof hot);
    run_alone(&b, &greedy_way);
    memcpy(want, b.got, sizeof want);
    for (int i = 0; i < b.n; i++) {
        want[i] = i % 2 ? want[i] : hot[i];
        want[i].soft = i % 3 ? want[i].soft : 0;
    }
    b.mixed = true;
    for (int greedy = 0; greedy < 2; greedy++) {
        rt_generator *g = new_generator(&b, greedy ? &greedy_way : &hot_way);
        run(&b, g);
        same_results(&b, want, MODELS[_i]);
        rt_generator_close(g);
    }
    close_bench(&b);
}
END_TEST

static bool leaves(void *ctx, int64_t id)
{
    bench *b = ctx;
    return id % 2 && ++b->passes % 5 == 0;
}

/* Those that leave are never done, and what the others draw does not change. */
START_TEST(leaving)
{
    static bench b;
    static result want[REQUESTS];
    static const way few = { .slots = 6, .prefill = 20, .cache_tokens = 900 };
    int left = 0;
    open_bench(&b, MODELS[_i], 2);
    branching_requests(&b, 17);
    run_alone(&b, &few);
    memcpy(want, b.got, sizeof want);
    memset(b.got, 0, sizeof b.got);
    rt_generator *g = new_generator(&b, &few);
    rt_generate_io io = {
        .ctx = &b, .next = next_request, .done = take, .stop = stop, .gone = leaves
    };
    b.asked = 0;
    OK(rt_generator_run(g, &io, &err));
    for (int i = 0; i < b.n; i++) {
        left += b.got[i].n == 0;
        ck_assert(i % 2 || b.got[i].n > 0);
        if (b.got[i].n == 0)
            b.got[i] = want[i];
    }
    ck_assert_int_ge(left, 4);
    same_results(&b, want, MODELS[_i]);
    run(&b, g); /* their places are free again */
    same_results(&b, want, "again");
    rt_generator_close(g);
    close_bench(&b);
}
END_TEST

int main(void)
{
    const int n = RT_COUNT(MODELS);
    const suite_test tests[] = {
        { samples_of_a_prompt, n }, { branches, n }, { pages, 1 }, { cycles, 1 }, { endings, n },
        { settings, n }, { leaving, n }
    };
    return suite_run("generate", NULL, tests, RT_COUNT(tests));
}
