/* training.h: a run of `retort train` as an object: its options, and everything it opens: model,
   corpora, rounds of a student's own answers, exams, the trainer. Planned in the memory mode that
   fits, or refused with the settings that do; placed; closed. Refuses: the loop, and what is said
   and written (train.c). */
#ifndef RT_TRAINING_H
#define RT_TRAINING_H

#include "distill/exam.h"
#include "distill/learning.h"
#include "distill/metrics.h"
#include "distill/objective.h"
#include "distill/rollouts.h"
#include "student/measure.h"

RT_BEGIN

typedef struct rt_train_options {
    char *model, *config, *tokenizer, *out, *loss, *loss_first, *loss_change, *schedule, *recompute;
    char *dtype, *verdicts, *turns, *unmatched, *mix, *reference, *quantized;
    rt_adapter_spec lora;
    rt_rollout_options rollout;
    rt_learn_options learn;
    rt_exam_options exam;
    rt_strlist data, eval_data, set, teachers;
    int64_t steps, batch_tokens, pass_tokens, head_rows, max_length, limit, warmup;
    rt_dev_choice device;
    uint64_t seed;
    int64_t save_every, eval_every, eval_limit;
    double learning_rate, min_rate, hard_weight, temperature, jsd_beta, skew_alpha;
    double cooldown, clip, balance_rate;
    rt_part_weights parts;
    double entropy_share, entropy_rest;
    bool plan, overwrite, mix_teachers;
} rt_train_options;

/* What planning needs of a corpus, whether it can be opened or an earlier stage will write it. */
typedef struct rt_corpus_facts {
    rt_soft_config soft;
    int64_t longest, tokens; /* of one that is not written yet at most */
} rt_corpus_facts;

typedef struct rt_training {
    const rt_train_options *o;
    rt_learning learning;
    rt_dev *dev;
    rt_chat chat;
    rt_model model;
    rt_corpus *corpus, *held_out;
    rt_corpus_facts facts, held_out_facts;
    rt_teacher reference; /* with --reference, but base */
    rt_hash reference_hash;
    rt_qat *qat; /* with --quantized */
    rt_hash quantized_hash;
    rt_rollouts rollouts; /* with --teacher: the corpus is that of its round */
    bool round_begun;     /* by the running step */
    rt_trainer trainer;
    rt_measure measure;
    rt_exam exam;
    char identity[20]; /* trainer.at.recipe as text */
    int lock;
    rt_metrics metrics;
    rt_document *docs; /* (n_docs) of the running step */
    int64_t n_docs, cap_docs;
    bool passed_over; /* it was said that there are documents with nothing to learn */
} rt_training;

/* Plans everything in the first memory mode that fits; with plan (needs.h), what is not there yet is
   taken from the plans before, and nothing is refused for its size. *t stays where it is, and is
   closed in every case. */
int rt_training_open(rt_training *t, const rt_train_options *o, const rt_needs *plan, rt_err *err);
/* Memory by name: what is placed before the first step, and nothing after. */
void rt_training_needs(const rt_training *t, rt_needs *p);
/* Once its output is taken: memory, weights, the checkpoint that is there. */
int rt_training_place(rt_training *t, rt_err *err);
void rt_training_close(rt_training *t);

RT_END

#endif
