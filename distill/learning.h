/* learning.h: how what is learned lies and moves: the options of optimizers and memory modes, what
   they come to, and what does not go together. Refuses: planning memory (train.c asks who has it).
 */
#ifndef RT_LEARNING_H
#define RT_LEARNING_H

#include "core/base/option.h"
#include "distill/trainer.h"

RT_BEGIN

typedef struct rt_learn_options {
    char *optimizer, *mode, *master, *moments;
    double beta1, beta2, eps, decay, momentum, mean;
    int64_t memory; /* of the host */
} rt_learn_options;

/* Rows for a command whose struct S holds an rt_learn_options `f`. */
#define RT_LEARN_OPTIONS(S, f)                                                                     \
    OPT_CHOICE(S, f.optimizer, "optimizer", "adamw", RT_OPTIMIZERS,                                \
               "muon: the matrices of layers by Muon, at the same rate, all else by AdamW"),       \
        OPT_FLOAT(S, f.beta1, "beta1", "0.9", 0, 0.99999, "AdamW"),                                \
        OPT_FLOAT(S, f.beta2, "beta2", "0.98", 0, 0.99999, "AdamW"),                               \
        OPT_FLOAT(S, f.eps, "eps", "1e-8", 1e-20, 1, "AdamW"),                                     \
        OPT_FLOAT(S, f.decay, "weight-decay", "0.05", 0, 10, "on matrices"),                       \
        OPT_FLOAT(S, f.momentum, "momentum", "0.95", 0, 0.99999, "Muon's"),                        \
        OPT_FLOAT(S, f.mean, "ema", "0", 0, 0.999999,                                              \
                  "write the running mean of the weights, which keeps this share of itself a "     \
                  "step (less in the first steps); 0 = the last weights"),                         \
        OPT_CHOICE(S, f.mode, "memory-mode", "auto", "auto|" RT_MEMORY_MODES "|lora4",             \
                   "where weights and the optimizer's state lie: resident on the device; stream "  \
                   "on the host, copied layer by layer; fused weights on the device, state on the " \
                   "host, moved in the backward pass of one pass a step; lora4 adapters beside a "  \
                   "base of 4 bits; auto the first of the three that fits"),                       \
        OPT_CHOICE(S, f.master, "master-dtype", "auto", "auto|f32|bf16",                           \
                   "of the weights while they are learned; bf16 is rounded up as often as it "     \
                   "should be; auto: f32 when resident, else bf16"),                               \
        OPT_CHOICE(S, f.moments, "moments", "auto", "auto|f32|8bit",                               \
                   "of the optimizer; 8bit: codes of blocks of 256; auto: f32 when resident, else " \
                   "8bit"),                                                                        \
        OPT_BYTES(S, f.memory, "memory", "0", 0, 1e15,                                             \
                  "take no more of the host's memory than this (20G); 0 = what is free",           \
                  RT_OPT_FREE)

/* What they come to. The two dtypes change the result, so they are part of what a run is known by;
   the mode itself does not. */
typedef struct rt_learning {
    rt_memory_mode mode;
    bool bf16, coded;
} rt_learning;

rt_learning rt_learning_of(const rt_learn_options *o, rt_memory_mode mode);
/* In place of what the options say in json. */
void rt_learning_put(const rt_learning *l, struct cJSON *json);
const char *rt_memory_mode_name(rt_memory_mode mode);
/* The modes to try, in order; how many. */
int rt_learning_modes(rt_memory_mode mode[3], const rt_learn_options *o);

/* The rest of a command, as far as it matters. */
typedef struct rt_learn_case {
    const rt_model *m;
    double clip;
    bool recompute;
    int64_t batch_tokens, rows;
} rt_learn_case;
/* What does not go together, once the model is planned. */
int rt_learning_check(const rt_learn_options *o, const rt_learning *l, const rt_learn_case *c,
                      rt_err *err);
rt_optimizer_spec rt_learning_spec(const rt_learn_options *o, const rt_learning *l, uint64_t seed);

RT_END

#endif
