/* exam.h: exact answers while training: held-out problems, put to the student as it is between two steps,
   as `retort eval --problems` puts them to it when it is finished; with the same seed they are the same
   answers. Refuses: when that is, judging (student/problems.h). */
#ifndef RT_EXAM_H
#define RT_EXAM_H

#include "core/base/option.h"
#include "student/problems.h"

RT_BEGIN

typedef struct rt_exam_options {
    rt_strlist problems;
    int64_t samples, tokens, batch;
    double temperature;
} rt_exam_options;

/* The rows of a command that trains, whose struct S holds an rt_exam_options as f. */
#define RT_EXAM_OPTIONS(S, f)                                                                      \
    OPT_LIST(S, f.problems, "eval-problems", "FILE",                                               \
             "held-out JSONL with prompt and answer: exact answers, at every measurement",         \
             RT_OPT_MEASURE),                                                                      \
        OPT_INT(S, f.samples, "eval-samples", "1", 1, 1e6,                                         \
                "answers to each; more than one give pass@k, and need a temperature",              \
                RT_OPT_FREE),                                                                      \
        OPT_FLOAT(S, f.temperature, "eval-temperature", "0", 0, 100,                               \
                  "of the answers; 0 = greedy", RT_OPT_FREE),                                      \
        OPT_INT(S, f.tokens, "eval-max-tokens", "512", 1, 1e7, "of an answer", RT_OPT_FREE),       \
        OPT_INT(S, f.batch, "eval-batch", "16", 1, 4096, "answers at once; memory", RT_OPT_FREE)

typedef struct rt_exam {
    rt_problems problems;
    rt_sampling_options sampling;
    rt_answers *answers;
} rt_exam;

/* Flags that go together. */
int rt_exam_check(const rt_exam_options *o, rt_err *err);
/* chat stays; limit: problems at most. */
int rt_exam_read(rt_exam *x, const rt_exam_options *o, const rt_chat *chat, int64_t limit,
                 uint64_t seed, rt_err *err);
/* m stays; positions: tokens of a sequence. */
int rt_exam_plan(rt_exam *x, const rt_exam_options *o, rt_dev *d, const rt_model *m,
                 int64_t positions, rt_err *err);
int64_t rt_exam_rows(const rt_exam *x, const rt_exam_options *o); /* of a pass at most */
/* times: how often it is held. */
void rt_exam_needs(const rt_exam *x, int64_t times, rt_needs *p);
int rt_exam_run(rt_exam *x, rt_err *err);
double rt_exam_share(const rt_exam *x); /* of answers that were right */
/* What came out, as members of the object of a step: ,"eval_answers":0.5,... */
void rt_exam_put(FILE *f, const rt_exam *x);
void rt_exam_close(rt_exam *x); /* accepts a zeroed one */

RT_END

#endif
