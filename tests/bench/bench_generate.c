/* bench_generate.c: what generation costs on a model of yours:
     bench_generate MODEL [THREADS [STREAMS [TOKENS]]]
   tokens a second of one stream and of STREAMS (64) at once, TOKENS (64) each after a prompt of 16,
   the prompts' passes not counted: medians of rounds that take turns, and the median of their
   ratios; then the time of a prompt of 500 tokens, and of 16 samples of it up to their first token.
   Prompts are random ids; nothing stops early. */
#include <stdio.h>
#include <stdlib.h>

#include "core/base/log.h"
#include "core/base/rng.h"
#include "core/network/generate.h"
#include "core/network/weights.h"
#include "tests/bench/peak.h"

enum { PROMPT = 16, LONG = 500, SAMPLES = 16, ROUNDS = 5, STREAMS_MAX = 1024 };

typedef struct run {
    int64_t vocab, n, asked, n_prompt, tokens, first; /* first: tokens when all prompts were read */
    bool same;                                        /* one prompt for all */
    double begun, read;
    uint64_t seed;
    int32_t prompt[LONG];
} run;

static int next(void *ctx, rt_request *r, rt_err *err)
{
    run *u = ctx;
    (void)err;
    if (u->asked == u->n)
        return 0;
    for (int64_t i = 0; i < u->n_prompt; i++)
        u->prompt[i] = (int32_t)rt_rng_below(u->seed + (u->same ? 0 : (uint64_t)u->asked),
                                             RT_RNG_DATA, (uint64_t)i, (uint32_t)u->vocab);
    *r = (rt_request){ .id = u->asked,
                       .prompt = u->prompt,
                       .n_prompt = u->n_prompt,
                       .max_new = u->tokens,
                       .seed = (uint64_t)u->asked };
    u->asked++;
    return 1;
}

static int done(void *ctx, const rt_completion *c, rt_err *err)
{
    (void)ctx, (void)c, (void)err;
    return 0;
}

/* Tokens a second are counted from when every stream has its first. */
static void tick(void *ctx, int64_t tokens)
{
    run *u = ctx;
    if (!u->read && tokens >= u->first + u->n) {
        u->read = rt_now();
        u->first = tokens;
    }
}

/* Tokens a second after the prompts; *read: seconds up to every stream's first token. */
static double generate(rt_generator *g, run *u, double *read, rt_err *err)
{
    rt_generate_io io = { .ctx = u, .next = next, .done = done, .tick = tick };
    int64_t before = rt_generator_counts(g)->tokens;
    u->asked = 0;
    u->read = 0;
    u->first = before;
    u->seed++;
    u->begun = rt_now();
    if (rt_generator_run(g, &io, err))
        return -1;
    *read = u->read - u->begun;
    return (double)(rt_generator_counts(g)->tokens - u->first) / (rt_now() - u->read);
}

static rt_generator *open_generator(rt_dev *d, const rt_model *m, int64_t slots, int64_t length)
{
    rt_generate_options o = { .slots = slots,
                              .length = length,
                              .prefill_rows = 512,
                              .vocab = m->cfg.vocab,
                              .sampling = { 1, 1, 0, 0 } };
    return rt_generator_open(d, m, &o);
}

int main(int argc, char **argv)
{
    int threads = argc > 2 ? atoi(argv[2]) : 0;
    int64_t streams = argc > 3 ? atoi(argv[3]) : 64, tokens = argc > 4 ? atoi(argv[4]) : 64;
    double one_rate[ROUNDS], rate[ROUNDS], ratio[ROUNDS], alone[ROUNDS], all[ROUNDS], read;
    rt_err err = { 0 };
    rt_dev *d = NULL;
    rt_model m;
    if (argc < 2 || streams < 1 || streams > STREAMS_MAX || tokens < 2)
        return fputs("usage: bench_generate MODEL [THREADS [STREAMS [TOKENS]]]\n", stderr), 2;
    int64_t length = rt_max(PROMPT + tokens, LONG + 1);
    if (rt_dev_open(&d, NULL, threads, &err) || rt_model_open(&m, d, argv[1], true, length, &err))
        goto failed;
    m.cfg.n_eos = 0;
    rt_generator *one = open_generator(d, &m, 1, length),
                 *many = open_generator(d, &m, streams, length);
    run u = { .vocab = m.cfg.vocab, .tokens = tokens, .n_prompt = PROMPT };
    for (int r = -1; r < ROUNDS; r++) {
        int at = r < 0 ? 0 : r;
        u.n = 1;
        if ((one_rate[at] = generate(one, &u, &read, &err)) < 0)
            goto failed;
        u.n = streams;
        if ((rate[at] = generate(many, &u, &read, &err)) < 0)
            goto failed;
        ratio[at] = rate[at] / one_rate[at];
    }
    printf("%.0fM parameters, %d threads, %s: one stream %.1f tokens/s, %d streams %.1f: %.2f x\n",
           (double)m.w.params.total / 1e6, rt_dev_get(d).threads, rt_dev_get(d).isa,
           rt_median(one_rate, ROUNDS), (int)streams, rt_median(rate, ROUNDS),
           rt_median(ratio, ROUNDS));
    u.tokens = 1;
    u.n_prompt = LONG;
    u.same = true;
    for (int r = -1; r < ROUNDS; r++) {
        int at = r < 0 ? 0 : r;
        u.n = 1;
        if (generate(one, &u, &alone[at], &err) < 0)
            goto failed;
        u.n = rt_min(SAMPLES, streams);
        if (generate(many, &u, &all[at], &err) < 0)
            goto failed;
        ratio[at] = all[at] / alone[at];
    }
    printf("a prompt of %d tokens: %.0f ms; %d samples of it: %.0f ms, %.2f x\n", LONG,
           1e3 * rt_median(alone, ROUNDS), (int)u.n, 1e3 * rt_median(all, ROUNDS),
           rt_median(ratio, ROUNDS));
    rt_generator_close(one);
    rt_generator_close(many);
    rt_model_free(d, &m);
    rt_dev_close(d);
    return 0;
failed:
    fprintf(stderr, "bench_generate: %s\n", err.text);
    return 1;
}
