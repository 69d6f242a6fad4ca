/* answer.h: from prompts to judged answers: a model answers questions, each response is split into
   thought and answer, cut at a stop text, compared with the reference by rules, and handed over in
   the order of the questions, whatever order they were finished in. What `sample`, `eval` and
   training on a model's own answers share.
   Refuses: where prompts come from and where answers go. */
#ifndef RT_ANSWER_H
#define RT_ANSWER_H

#include "core/network/generate.h"
#include "corpora/archive/trace.h"
#include "corpora/chat.h"
#include "corpora/stops.h"

RT_BEGIN

typedef struct rt_question { /* pointers stay until its answer was taken */
    const int32_t *prompt;
    int64_t n_prompt;
    uint64_t seed;
    const char *reference; /* or NULL */
    rt_verify_kind verify;
} rt_question;

typedef struct rt_answer {
    int64_t question;
    const int32_t *token; /* (n) prompt and response, all that was drawn */
    int64_t n_prompt, n;
    int64_t learned; /* tokens [n_prompt, learned) are the response: none of a stop text */
    rt_finish finish;
    const rt_soft *soft; /* a row for each token drawn; no rows when nothing is captured */
    const rt_response *response;
    rt_verdict verdict;
    rt_verify_rule rule;
} rt_answer;

typedef struct rt_answers_options {
    const rt_sampling_options *sampling; /* stays as long as the answers */
    int64_t questions;                   /* in all, for the number of sequences at once */
    int64_t longest;                     /* tokens of a prompt */
    int64_t positions;                   /* of a sequence that the model was made for */
    int64_t batch, prefill_tokens, cache_tokens;
    int64_t waiting_bytes; /* past so many of finished answers no question is begun; 0 = 256 MiB */
    rt_soft_config capture;
} rt_answers_options;

/* The rows of a command that answers, whose struct S has fields batch and cache_tokens. */
#define RT_ANSWER_OPTIONS(S, batch_def)                                                            \
    OPT_INT(S, batch, "batch", batch_def, 1, 4096, "sequences generated at once", RT_OPT_FREE),    \
        OPT_INT(S, cache_tokens, "cache-tokens", "0", 0, 1e12,                                     \
                "of all sequences at once that have room in memory; 0 = as many as they may have", \
                RT_OPT_FREE)

typedef struct rt_answers_io {
    void *ctx;
    void (*ask)(void *ctx, int64_t question, rt_question *q);
    int (*take)(void *ctx, const rt_answer *a, rt_err *err); /* ascending questions */
    void (*tick)(void *ctx, int64_t tokens);                 /* generated so far; or NULL */
} rt_answers_io;

typedef struct rt_answers rt_answers;

/* Plans memory; nothing large is allocated before run. */
int rt_answers_open(rt_answers **out, rt_dev *d, const rt_model *m, const rt_chat *chat,
                    const rt_answers_options *o, rt_err *err);
void rt_answers_needs(const rt_answers *a, rt_needs *p);
/* What so many answers take at most, to prompts of so many tokens together. */
void rt_answers_cost(const rt_answers *a, int64_t n, int64_t prompts, rt_needs *p);
int64_t rt_answers_longest(const rt_answers_options *o); /* tokens of a sequence */
/* Questions [0, n). */
int rt_answers_run(rt_answers *a, int64_t n, const rt_answers_io *io, rt_err *err);
/* Between runs, once the model's weights have changed: nothing of earlier prompts is shared. */
void rt_answers_forget(rt_answers *a);
const rt_generated *rt_answers_counts(const rt_answers *a);
void rt_answers_close(rt_answers *a); /* accepts NULL */

/* finished: it ended by itself, in an answer. */
rt_verdict rt_answer_judge(rt_verify_kind verify, const char *answer, const char *reference,
                           bool finished, rt_verify_rule *rule);
/* How is sampled, checked and as the manifest keeps it. */
int rt_answer_settings(rt_trace_manifest *m, const rt_sampling_options *o, rt_err *err);

RT_END

#endif
