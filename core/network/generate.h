/* generate.h: many sequences at once through a paged cache: prompts are fed in chunks beside the
   single tokens of sequences already running; a finished one leaves its place to the next prompt at
   once. Prompts that begin alike are fed once: a sequence begins with the pages that hold its first
   tokens already, and waits for another that is reading them just now. Where pages run out, the
   sequence that came last gives its own back and is fed again later.
   Soft targets are captured from the same logits that chose the token: no second pass. Each
   sequence may have settings of sampling of its own.
   A sequence's tokens and targets do not depend on what runs beside it, on what it shares, nor on
   the order of events (numeric contract of ops.h).
   Refuses: text, templates, verification, files. */
#ifndef RT_GENERATE_H
#define RT_GENERATE_H

#include "core/base/option.h"
#include "core/network/capture.h"
#include "core/network/model.h"
#include "core/network/needs.h"

RT_BEGIN

typedef struct rt_request {
    int64_t id;            /* the caller's own */
    const int32_t *prompt; /* copied */
    int64_t n_prompt;      /* >= 1 */
    int64_t max_new;       /* tokens to generate at most, the stop token included */
    uint64_t seed;
    const rt_sampling *sampling; /* copied; NULL: the generator's */
    bool uncaptured;             /* no soft targets, where the generator captures them */
} rt_request;

typedef enum rt_finish {
    RT_FINISH_STOP,        /* an end token */
    RT_FINISH_LENGTH,      /* max_new */
    RT_FINISH_STOP_STRING, /* io.stop said so */
    RT_FINISH_REPETITION,  /* it went round in a circle */
    RT_FINISH_COUNT
} rt_finish;
const char *rt_finish_name(rt_finish f); /* "stop", "length", "stop_string", "repetition" */

typedef struct rt_completion {
    int64_t id;
    const int32_t *token; /* (n_prompt + n_new) prompt and what followed, stop token included */
    int64_t n_prompt, n_new;
    int64_t n_shared; /* of the prompt, in the cache when the sequence first began */
    rt_finish finish;
    const rt_soft *soft; /* one row for each new token; NULL when nothing is captured of it */
} rt_completion;

/* How tokens are chosen and when to stop: what a command's struct S holds as `s`, the rows of its
   option table with three defaults, and what they mean to the sampling operation. */
typedef struct rt_sampling_options {
    double temperature, top_p, min_p;
    int64_t top_k, max_tokens, repetition;
    rt_strlist stop; /* read by who knows the text */
} rt_sampling_options;
#define RT_SAMPLING_OPTIONS(S, s, temperature_def, top_p_def, max_tokens_def)                      \
    OPT_FLOAT(S, s.temperature, "temperature", temperature_def, 0, 100,                            \
              "of the choice; 0 = greedy"),                                                        \
        OPT_FLOAT(S, s.top_p, "top-p", top_p_def, 0.0001, 1,                                       \
                  "choose among the most probable of this mass"),                                  \
        OPT_INT(S, s.top_k, "top-k", "0", 0, 1e6, "choose among this many; 0 = all"),              \
        OPT_FLOAT(S, s.min_p, "min-p", "0", 0, 1,                                                  \
                  "choose none less probable than this share of the most probable one"),           \
        OPT_INT(S, s.max_tokens, "max-tokens", max_tokens_def, 1, 1e7,                             \
                "of a response, thought included"),                                                \
        OPT_LIST(S, s.stop, "stop", "TEXT", "end a response where this text begins"),              \
        OPT_INT(                                                                                   \
            S, s.repetition, "stop-repetition", "0", 0, 65536,                                     \
            "end a response whose last N tokens (4 or more) are one cycle, four times or more; "   \
            "0 = never")
rt_sampling rt_sampling_of(const rt_sampling_options *o);
/* What the table's bounds do not say: a repetition too short to hold a cycle RT_CYCLES times. */
int rt_sampling_check(const rt_sampling_options *o, rt_err *err);

/* Whether the last n_cycle of token(n) are one cycle that came at least RT_CYCLES times. */
enum { RT_CYCLES = 4 };
bool rt_tokens_cycle(const int32_t *token, int64_t n, int64_t n_cycle);

typedef struct rt_generate_options {
    int64_t slots;        /* sequences at once */
    int64_t length;       /* longest sequence, prompt included */
    int64_t prefill_rows; /* prompt tokens a pass */
    int64_t cache_tokens; /* of all sequences at once; 0 = slots x length. One always fits */
    int64_t vocab;        /* real ids: columns of the head beyond it are never chosen */
    int64_t repetition;   /* tokens of a cycle that end a sequence; 0 = never */
    rt_sampling sampling;
    rt_soft_config capture; /* head_max 0: none */
} rt_generate_options;

typedef struct rt_generate_io {
    void *ctx;
    /* 1 filled, 0 none now, -1 failed. Asked again at the next pass while sequences run. */
    int (*next)(void *ctx, rt_request *r, rt_err *err);
    int (*done)(void *ctx, const rt_completion *c, rt_err *err); /* in order of completion */
    /* As it comes; the last row of soft is its own, NULL when nothing is captured; or NULL. */
    int (*token)(void *ctx, int64_t id, int32_t token, const rt_soft *soft, rt_err *err);
    /* Whether the sequence ends with its last token, token[n - 1]: 1 yes, 0 no, -1 failed; or NULL.
       Asked of every new token but an end token; a function of the request alone. */
    int (*stop)(void *ctx, int64_t id, const int32_t *token, int64_t n_prompt, int64_t n,
                rt_err *err);
    /* Whether nobody waits for the sequence any more: asked of each before every pass; it leaves
       its place without done(). Where this is given an interrupt is its matter, too; or NULL. */
    bool (*gone)(void *ctx, int64_t id);
    void (*tick)(void *ctx, int64_t tokens); /* tokens generated so far; or NULL */
} rt_generate_io;

/* Since the generator was opened. */
typedef struct rt_generated {
    int64_t prompt;  /* tokens of all prompts */
    int64_t shared;  /* of them in the cache when their sequence first began */
    int64_t fed;     /* rows of prompts, and of sequences put off, that were fed */
    int64_t tokens;  /* chosen */
    int64_t put_off; /* sequences that gave their pages back */
} rt_generated;

typedef struct rt_generator rt_generator;

/* Plans memory (rt_generator_needs says how much); nothing is allocated before run. */
rt_generator *rt_generator_open(rt_dev *d, const rt_model *m, const rt_generate_options *o);
void rt_generator_needs(const rt_generator *g, rt_needs *p); /* without the device's workspace */
/* What so many tokens of prompts, none of them shared, and chosen ones take. */
void rt_generator_cost(const rt_generator *g, double prompts, double chosen, rt_needs *p);
/* Until every sequence is done and next() has none. An interrupt (err.h) ends it with exit 130,
   unless io->gone is given. */
int rt_generator_run(rt_generator *g, const rt_generate_io *io, rt_err *err);
/* What the cache holds outlives a run. Between runs, and once the weights have changed: it holds
   nothing. */
void rt_generator_forget(rt_generator *g);
const rt_generated *rt_generator_counts(const rt_generator *g);
void rt_generator_close(rt_generator *g); /* accepts NULL */

RT_END

#endif
