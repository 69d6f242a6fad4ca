/* rollouts.h: what a student learns from when it learns on its own text (on-policy distillation,
   arXiv 2306.13649). In a round it answers prompts as it is then, and a teacher says of every token
   how probable it finds it, and what else the student finds probable there. What comes of a round is
   an archive in the student's directory, and the corpus of the round's steps:

     round-0001.traces   samples in the order of the plan, as `retort score --student` leaves them
     round-0001.jsonl    one line a sample: tokens, entropies, overlap and KL, means over its tokens

   A round of as many steps as the run is offline distillation (rollouts of the student it begins
   with, scored once); rounds of one step are live. Which prompts a round takes, and what is drawn,
   are functions of (seed, round); so a run that was killed goes on to the same bytes.
   Refuses: steps and losses (trainer.h), teachers whose weights do not fit the device beside the
   student: `retort sample`, `retort score --student --memory` and `retort train --data` do the same
   offline. */
#ifndef RT_ROLLOUTS_H
#define RT_ROLLOUTS_H

#include "core/base/option.h"
#include "corpora/answer.h"
#include "corpora/corpus.h"
#include "distill/round.h"
#include "teacher/scoring.h"
#include "teacher/work.h"

RT_BEGIN

typedef struct rt_rollout_options {
    char *teacher, *verify;
    rt_strlist prompts;
    int64_t rounds, rollouts, tokens, batch, head_max, student_top;
    double temperature, head_floor, tail_spacing;
} rt_rollout_options;

/* Rows for a command whose struct S holds an rt_rollout_options `r`. */
#define RT_ROLLOUT_OPTIONS(S, r)                                                                   \
    OPT_STR(S, r.teacher, "teacher", NULL, "DIR|GGUF",                                             \
            "learn from what this model thinks of the student's own answers to --prompts, instead " \
            "of from --data", RT_OPT_INPUT_NAMED),                                                 \
        OPT_LIST(S, r.prompts, "prompts", "FILE",                                                  \
                 "what the student answers: JSONL with prompt or messages", RT_OPT_INPUT),         \
        OPT_INT(S, r.rounds, "rounds", "0", 0, 1e6,                                                \
                "how often it answers anew; 0 = before every step; 1 = once, before the first"),   \
        OPT_INT(S, r.rollouts, "rollouts", "64", 1, 1e9,                                           \
                "answers of a round; a round of one step learns from all of them"),                \
        OPT_INT(S, r.tokens, "rollout-tokens", "256", 1, 1e7, "of an answer, thought included"),   \
        OPT_FLOAT(S, r.temperature, "rollout-temperature", "1", 0, 100,                            \
                  "of its choice; 0 = greedy"),                                                    \
        OPT_INT(S, r.batch, "rollout-batch", "16", 1, 4096, "answers at once", RT_OPT_FREE),       \
        OPT_CHOICE(S, r.verify, "verify", "auto", RT_VERIFY_KINDS,                                 \
                   RT_VERIFY_HELP "; only to be told"),                                            \
        OPT_INT(S, r.head_max, "head-max", "8", 1, RT_SOFT_HEAD_MAX - 1,                           \
                "of the teacher's most probable tokens kept exactly at a position"),               \
        OPT_INT(S, r.student_top, "student-top", "16", 1, RT_SOFT_HEAD_MAX - 1,                    \
                "and of the student's"),                                                           \
        OPT_FLOAT(S, r.head_floor, "head-floor", "0.0009765625", 0, 1,                             \
                  "both stop once less mass than this is left"),                                   \
        OPT_FLOAT(S, r.tail_spacing, "tail-spacing", "0.03125", 0, 1,                              \
                  "tail mass that one draw stands for; 0 = no draws")

/* What the caller has planned, and stays with it. */
typedef struct rt_rollouts_of {
    const rt_rollout_options *o;
    const char *out, *base; /* the student's directory; the model it began as */
    uint64_t seed;
    rt_dev *d;
    rt_model *student;
    const rt_chat *chat;
    int64_t steps, max_length, pass_tokens, head_rows;
    double temperature; /* of the loss */
    const rt_part_weights *parts; /* of the answers' tokens, or NULL */
} rt_rollouts_of;

typedef struct rt_rollouts {
    rt_rollouts_of of;
    rt_teacher teacher;
    rt_work work;
    rt_sampling_options sampling;
    rt_answers *answers;
    rt_scoring pass;
    rt_arenas arenas;
    rt_trace_manifest manifest;
    int64_t longest;      /* tokens of a prompt and its answer at most */
    int64_t longest_seen; /* the same as the teacher reads it (privileged prompts, record.h) */
    rt_corpus *corpus;    /* of the round that is open */
    rt_round now;         /* its numbers; round 0: none is open */
    struct rt_pending *pending; /* answers that are not scored yet */
    int64_t n_pending, cap_pending;
    int64_t *todo, n_todo, cap_todo, asked; /* of a round, by index; those before `asked` are done */
    rt_trace_writer *writer;
    FILE *lines; /* round-NNNN.jsonl */
} rt_rollouts;

/* Opens the teacher and reads the prompts: what the answers will be is known then (manifest.capture,
   longest). plan: as rt_teacher_open. */
int rt_rollouts_open(rt_rollouts *r, const rt_rollouts_of *of, const rt_needs *plan, rt_err *err);
/* Rows of the student's passes at most; and what those and the teacher's take. */
int64_t rt_rollouts_rows(const rt_rollouts *r);
int rt_rollouts_plan(rt_rollouts *r, rt_err *err);
void rt_rollouts_needs(const rt_rollouts *r, rt_needs *p);
/* The content of what the options name, into the identity of the run; knows the two models by their
   bytes from then on. */
int rt_rollouts_identity(rt_rollouts *r, cJSON *json, rt_err *err);
/* Weights and memory; rt_dev_ready is the caller's. */
int rt_rollouts_place(rt_rollouts *r, rt_err *err);
void rt_rollouts_close(rt_rollouts *r); /* accepts a zeroed one */

int64_t rt_rollouts_rounds(const rt_rollouts *r);
/* The round, from 1, whose steps include the one after `step`; *first: steps before the round;
   returns how many it has. */
int64_t rt_rollouts_round_at(const rt_rollouts *r, int64_t step, int64_t *round, int64_t *first);
/* r->corpus and r->now are those of a round; where its archive is not whole yet the student answers,
   so its weights must be those after `first` steps: ready says that they are. */
int rt_rollouts_begin(rt_rollouts *r, int64_t round, int64_t first, bool ready, rt_err *err);
/* What was learned from in all, as a table on stdout. */
int rt_rollouts_print(const rt_rollouts *r, rt_err *err);
/* Tokens that the teacher read in the rounds so far. */
int64_t rt_rollouts_scored(const rt_rollouts *r);

RT_END

#endif
