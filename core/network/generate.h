/* generate.h: many sequences at once through a cache: prompts are fed in chunks beside the single
   tokens of sequences already running; a finished one leaves its slot to the next prompt at once.
   Soft targets are captured from the same logits that chose the token: no second pass.
   A sequence's tokens and targets do not depend on what runs beside it (numeric contract of ops.h).
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
} rt_request;

typedef struct rt_completion {
    int64_t id;
    const int32_t *token; /* (n_prompt + n_new) prompt and what followed, stop token included */
    int64_t n_prompt, n_new;
    bool stopped;        /* by an end token; else by max_new */
    const rt_soft *soft; /* one row for each new token; NULL when nothing is captured */
} rt_completion;

/* How tokens are chosen: rows of a command's option table S, with its fields temperature, top_p,
   top_k and max_tokens and the defaults of three of them; and what they mean. */
#define RT_SAMPLING_OPTIONS(S, temperature_def, top_p_def, max_tokens_def)                         \
    OPT_FLOAT(S, temperature, "temperature", temperature_def, 0, 100,                              \
              "of the choice; 0 = greedy"),                                                        \
        OPT_FLOAT(S, top_p, "top-p", top_p_def, 0.0001, 1,                                         \
                  "choose among the most probable of this mass"),                                  \
        OPT_INT(S, top_k, "top-k", "0", 0, 1e6, "choose among this many; 0 = all"),                \
        OPT_INT(S, max_tokens, "max-tokens", max_tokens_def, 1, 1e7,                               \
                "of a response, thought included")
#define RT_SAMPLING_OF(o)                                                                          \
    {                                                                                              \
        (float)(o)->temperature, (float)(o)->top_p, (int32_t)(o)->top_k                            \
    }

typedef struct rt_generate_options {
    int64_t slots;        /* sequences at once */
    int64_t length;       /* longest sequence, prompt included */
    int64_t prefill_rows; /* prompt tokens a pass */
    int64_t vocab;        /* real ids: columns of the head beyond it are never chosen */
    rt_sampling sampling;
    rt_soft_config capture; /* head_max 0: none */
} rt_generate_options;

typedef struct rt_generate_io {
    void *ctx;
    /* 1 filled, 0 none now, -1 failed. Asked again at the next pass while sequences run. */
    int (*next)(void *ctx, rt_request *r, rt_err *err);
    int (*done)(void *ctx, const rt_completion *c, rt_err *err);     /* in order of completion */
    int (*token)(void *ctx, int64_t id, int32_t token, rt_err *err); /* as it comes; or NULL */
    void (*tick)(void *ctx, int64_t tokens); /* tokens generated so far; or NULL */
} rt_generate_io;

typedef struct rt_generator rt_generator;

/* Plans memory (rt_generator_needs says how much); nothing is allocated before run. */
rt_generator *rt_generator_open(rt_dev *d, const rt_model *m, const rt_generate_options *o);
void rt_generator_needs(const rt_generator *g, rt_needs *p); /* without the device's workspace */
/* Until every sequence is done and next() has none. An interrupt (err.h) ends it with exit 130. */
int rt_generator_run(rt_generator *g, const rt_generate_io *io, rt_err *err);
void rt_generator_close(rt_generator *g); /* accepts NULL */

RT_END

#endif
