/* selftest.h: is what an export wrote the model it was made of? The written files are opened by
   retort's own reader and held against the source: tokens of mixed text, the token that ends an
   answer, tokens against rows of the embedding, rows of every weight, and logits on a few texts.
   Finds what is broken (a layout, an order of rows, a lost key), not what is coarse: 4 bits pass by
   a wide margin. Both models stay in their mapped files; memory is the activations of ROWS tokens.
   Refuses: judging quality (retort eval). */
#ifndef RT_SELFTEST_H
#define RT_SELFTEST_H

#include "core/base/option.h"
#include "core/network/needs.h"
#include "quant/packing.h"

RT_BEGIN

typedef enum rt_selftest_extent {
    RT_SELFTEST_QUICK,
    RT_SELFTEST_FULL,
    RT_SELFTEST_OFF
} rt_selftest_extent;
#define RT_SELFTEST_CHOICES "quick|full|off"
rt_selftest_extent rt_selftest_named(const char *name);

typedef struct rt_selftest {
    const char *source, *written; /* models: directories or GGUF */
    const char *name;             /* of the written one in messages: its final name */
    rt_selftest_extent extent;
    const char *text;  /* archive or JSONL of conversations; NULL = built in */
    bool weights_only; /* no tokenizer: made-up ids, logits alone */
    bool forced_pre;   /* --pre: other tokens are warned of, not refused */
    rt_packing packing; /* of `written`; retort runs neither GPTQ nor AWQ: no logits of theirs */
    int64_t group;
    double error; /* relative, of the matrices: sqrt(sum (x - written)^2 / sum x^2) */
    int threads;
} rt_selftest;

typedef struct rt_selftest_report {
    int64_t tokens;    /* whose next token was predicted by both; 0: not compared */
    double kl, chance; /* mean KL(source || written), and KL(source || uniform), nats */
    double limit;      /* of kl: what rounding explains */
    double top1;       /* share of equal most probable tokens */
    int64_t rows;      /* of weights that were read back; 0 = not run */
    int64_t texts;     /* tokenized by both alike */
    char stop[64];     /* what ends an answer; "" = no chat template */
} rt_selftest_report;

/* -1: it is broken, or could not be read. */
int rt_selftest_run(const rt_selftest *job, rt_selftest_report *report, rt_err *err);
/* What that takes, of a source that is there. */
int rt_selftest_plan(const rt_selftest *job, rt_needs *needs, rt_err *err);

RT_END

#endif
