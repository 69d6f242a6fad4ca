/* bench_decode.c: one stream of a model of yours, decoded and its prompt read, in rounds that
   another program can take turns with (decode.sh): bench_decode MODEL exact|int8 THREADS TOKENS
   PROMPT First a line: megabytes of weights a token reads, and gigabytes a second that THREADS
   threads read from memory. Then a round for each line on stdin: tokens a second of TOKENS decoded
   after a prompt of 16, and of a prompt of PROMPT; and both again by processor time instead of the
   clock, where THREADS is 1 and others use the machine. Prompts are random ids; nothing stops
   early. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/base/log.h"
#include "core/base/memory.h"
#include "core/base/rng.h"
#include "core/base/team.h"
#include "core/network/generate.h"
#include "core/network/weights.h"
#include "tests/bench/peak.h"

enum { SHORT = 16, PROMPT_MAX = 4096 };

typedef struct moment {
    double clock, processor;
} moment;

static moment now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (moment){ rt_now(), (double)t.tv_sec + 1e-9 * (double)t.tv_nsec };
}

static moment rate(int64_t tokens, moment from, moment to)
{
    return (moment){ (double)tokens / (to.clock - from.clock),
                     (double)tokens / (to.processor - from.processor) };
}

/* --- memory: what the threads read of more than any cache holds ------------------------------- */

enum { PIECES = 64, PIECE_WORDS = 1 << 21 /* 1 GiB in all */, AHEAD_WORDS = 256 };

typedef struct reading {
    const uint64_t *word;
    uint64_t sum[PIECES];
} reading;

static void read_piece(void *ctx, int64_t unit, int member)
{
    reading *r = ctx;
    const uint64_t *p = r->word + unit * PIECE_WORDS;
    uint64_t sum[8] = { 0 };
    (void)member;
    for (int64_t i = 0; i < PIECE_WORDS; i += 8) {
        __builtin_prefetch(p + i + AHEAD_WORDS);
        for (int j = 0; j < 8; j++)
            sum[j] += p[i + j];
    }
    for (int j = 0; j < 8; j++)
        r->sum[unit] += sum[j];
}

/* Bytes a second: the median of five. */
static moment memory_rate(int threads, rt_err *err)
{
    rt_team *team;
    double clock[5], processor[5];
    reading r = { .word = rt_memory_alloc((int64_t)PIECES * PIECE_WORDS * 8, false) };
    if (!r.word || rt_team_open(&team, threads, err))
        return (moment){ 0, 0 };
    memset((void *)(uintptr_t)r.word, 1, (size_t)PIECES * PIECE_WORDS * 8);
    for (int i = 0; i < 5; i++) {
        moment from = now();
        rt_team_run(team, read_piece, &r, PIECES, threads);
        moment bytes = rate((int64_t)PIECES * PIECE_WORDS * 8, from, now());
        clock[i] = bytes.clock;
        processor[i] = bytes.processor;
    }
    rt_team_close(team);
    rt_memory_free((void *)(uintptr_t)r.word);
    return (moment){ rt_median(clock, 5), rt_median(processor, 5) };
}

/* --- a round ---------------------------------------------------------------------------------- */

typedef struct run {
    int64_t vocab, n_prompt, tokens;
    uint64_t seed;
    bool asked, read;
    moment first; /* token */
    int32_t prompt[PROMPT_MAX];
} run;

static int next(void *ctx, rt_request *r, rt_err *err)
{
    run *u = ctx;
    (void)err;
    if (u->asked)
        return 0;
    u->asked = true;
    u->seed++;
    for (int64_t i = 0; i < u->n_prompt; i++)
        u->prompt[i] = (int32_t)rt_rng_below(u->seed, RT_RNG_DATA, (uint64_t)i, (uint32_t)u->vocab);
    *r = (rt_request){ .prompt = u->prompt, .n_prompt = u->n_prompt, .max_new = u->tokens };
    return 1;
}

static int done(void *ctx, const rt_completion *c, rt_err *err)
{
    (void)ctx, (void)c, (void)err;
    return 0;
}

static int token(void *ctx, int64_t id, int32_t t, const rt_soft *soft, rt_err *err)
{
    run *u = ctx;
    (void)id, (void)t, (void)soft, (void)err;
    if (!u->read)
        u->first = now();
    u->read = true;
    return 0;
}

static int measure(rt_generator *g, run *u, int64_t prompt, int64_t tokens, moment *reads,
                   moment *decodes, rt_err *err)
{
    rt_generate_io io = { .ctx = u, .next = next, .done = done, .token = token };
    u->asked = u->read = false;
    u->n_prompt = prompt;
    u->tokens = tokens + 1;
    moment begun = now();
    if (rt_generator_run(g, &io, err))
        return -1;
    *reads = rate(prompt, begun, u->first);
    *decodes = rate(tokens, u->first, now());
    return 0;
}

int main(int argc, char **argv)
{
    char line[256];
    rt_err err = { 0 };
    rt_dev *d = NULL;
    rt_model m;
    if (argc != 6)
        return fputs("usage: bench_decode MODEL exact|int8 THREADS TOKENS PROMPT\n", stderr), 2;
    int64_t tokens = atoi(argv[4]), prompt = rt_min(atoi(argv[5]), PROMPT_MAX);
    int64_t length = rt_max(SHORT + tokens, prompt) + 2;
    rt_dev_choice choice = { .threads = atoi(argv[3]), .precision = argv[2] };
    moment memory = memory_rate(atoi(argv[3]), &err), read, decoded, ignored;
    if (rt_dev_choose(&d, &choice, false, &err) ||
        rt_model_open(&m, d, argv[1], true, length, &err))
        goto failed;
    m.cfg.n_eos = 0;
    rt_generate_options o = { .slots = 1,
                              .length = length,
                              .prefill_rows = 512,
                              .vocab = m.cfg.vocab,
                              .sampling = { 0, 1, 0, 0 } };
    rt_generator *g = rt_generator_open(d, &m, &o);
    run u = { .vocab = m.cfg.vocab };
    if (measure(g, &u, SHORT, 2, &ignored, &decoded, &err))
        goto failed;
    /* rounded products read what was packed, and little else */
    int64_t bytes = m.w.arena.high + (rt_dev_get(d).int8 ? 0 : rt_model_mapped(&m));
    printf("%.1f %.2f %.2f\n", (double)bytes * 1e-6, memory.clock * 1e-9, memory.processor * 1e-9);
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        if (measure(g, &u, SHORT, tokens, &ignored, &decoded, &err) ||
            measure(g, &u, prompt, 0, &read, &ignored, &err))
            goto failed;
        printf("%.2f %.2f %.2f %.2f\n", decoded.clock, read.clock, decoded.processor,
               read.processor);
        fflush(stdout);
    }
    rt_generator_close(g);
    rt_model_free(d, &m);
    rt_dev_close(d);
    return 0;
failed:
    fprintf(stderr, "bench_decode: %s\n", err.text);
    return 1;
}
