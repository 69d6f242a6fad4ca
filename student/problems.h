/* problems.h: exact answers: problems from JSONL, each asked as often as wanted, its answers judged
   by rules and counted: the share that is right with its standard error, pass@k, by kind of problem.
   Refuses: judging by anything but rules (corpora/verify/verify.h), how answers are sampled. */
#ifndef RT_PROBLEMS_H
#define RT_PROBLEMS_H

#include "core/base/log.h"
#include "corpora/answer.h"

RT_BEGIN

enum { RT_GROUPS_MAX = 32 };

typedef struct rt_problem {
    rt_ids prompt;
    char *answer; /* the reference */
    rt_verify_kind verify;
    int group;       /* -1 = none */
    int64_t correct; /* of its answers */
    rt_ids said;     /* its first answer, where it is kept */
    rt_verdict verdict; /* of that */
} rt_problem;

typedef struct rt_group {
    char name[48];
    int64_t problems;
    double share; /* sum over problems of the share of answers that are right */
} rt_group;

typedef struct rt_problems {
    const rt_chat *chat;
    const char *verify, *by; /* --verify, --group or NULL */
    int64_t limit, samples;  /* problems at most, 0 = all; answers to each */
    uint64_t seed;
    bool keep; /* first answers, for rt_problems_find */
    bool quiet; /* no progress is shown */
    rt_problem *item; /* (n) */
    int64_t n, cap, longest; /* longest: tokens of a prompt */
    rt_group group[RT_GROUPS_MAX];
    int n_groups;
    int64_t correct, unfinished, unknown, generated, rules[RT_RULE_COUNT]; /* answers; tokens */
    rt_progress progress;
    int64_t done;
} rt_problems;

/* Adds those of path. */
int rt_problems_read(rt_problems *p, const char *path, rt_err *err);
void rt_problems_free(rt_problems *p);
/* Counts anew. answers: opened for n x samples questions, of prompts up to p->longest. together: sequences. */
int rt_problems_run(rt_problems *p, rt_answers *answers, int64_t together, rt_err *err);
/* What came out, for results.h. */
void rt_problems_put(const rt_problems *p, cJSON *json);
/* The problem whose prompt these ids are and whose first answer was kept, or NULL. */
const rt_problem *rt_problems_find(const rt_problems *p, const int32_t *prompt, int64_t n);

/* The chance that of k answers one is right, when of n that were drawn c were: 1 - C(n-c, k) /
   C(n, k), unbiased (Chen et al. 2021, arXiv 2107.03374). 1 <= k <= n. */
double rt_pass_at(int64_t n, int64_t c, int64_t k);

RT_END

#endif
