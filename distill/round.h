/* round.h: a round of a student's own answers in numbers: what student and teacher think of the same
   positions, a line of JSON for each answer, their means over a round, and the table of all rounds.
   The lines are what is kept, and means are made from what they say, so that a run that was killed
   tells the same numbers. Refuses: answering, scoring. */
#ifndef RT_ROUND_H
#define RT_ROUND_H

#include <stdio.h>

#include "core/base/err.h"
#include "core/device/soft.h"
#include "corpora/archive/trace.h"

RT_BEGIN

/* Sums or means over the tokens of answers. */
typedef struct rt_views {
    double overlap; /* of the tokens that either finds probable (its head), those that both do */
    double kl;      /* KL(student | teacher) on the student's head and tail */
    double student_entropy, teacher_entropy; /* nats, exact */
    double student_logp, teacher_logp;       /* of the tokens that were chosen */
} rt_views;

typedef struct rt_round {
    int64_t round, rollouts, finished, correct, judged;
    int64_t tokens, scored; /* that the student chose; that the teacher read, prompts too */
    rt_views mean;          /* over tokens */
} rt_round;

/* Row r of the teacher's targets, in which the student's head of its row r is listed. c: of the
   teacher's capture. */
void rt_round_compare(rt_views *sum, const rt_soft *teacher, const rt_soft_config *c,
                      const rt_soft *student, int64_t r);

/* The lines of a round: dir/round-NNNN.jsonl, of those it has the ones whose sample is in the archive;
   for appending. */
int rt_round_open_lines(FILE **f, const char *dir, int64_t round, const rt_trace_writer *archive,
                        rt_err *err);
/* judged: there was an answer to compare with. sum: over n tokens. */
int rt_round_put_line(FILE *f, const rt_trace_sample *s, bool judged, const rt_views *sum,
                      int64_t n, int64_t scored, rt_err *err);
int rt_round_read(rt_round *r, const char *dir, int64_t round, rt_err *err);
char *rt_round_path(const char *dir, int64_t round, const char *suffix); /* free() it */

/* A line of the table, and its head (round NULL). */
void rt_round_print(const rt_round *r);
/* The members of the object of a step: ,"round":3,... */
void rt_round_put(FILE *f, const rt_round *r);
/* What a first round says of a run that cannot work: a warning, or nothing. */
void rt_round_warn(const rt_round *first);

RT_END

#endif
