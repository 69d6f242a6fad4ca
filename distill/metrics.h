/* metrics.h: metrics.jsonl, what training writes down: one line a step (docs/metrics.md), and the same
   for TensorBoard (events.h). A run that goes on drops the lines of steps that it does again. Refuses: what is measured, and when. */
#ifndef RT_METRICS_H
#define RT_METRICS_H

#include <stdio.h>

#include "distill/events.h"
#include "distill/exam.h"
#include "distill/round.h"
#include "distill/trainer.h"

RT_BEGIN

typedef struct rt_metrics {
    const char *dir; /* borrowed */
    FILE *file;
    rt_events events;
} rt_metrics;

enum { RT_METRICS_LINE = 480 }; /* bytes of a line and its events, about */

/* dir/metrics.jsonl with the lines up to `step`, for appending. */
int rt_metrics_open(rt_metrics *m, const char *dir, int64_t step, rt_err *err);
void rt_metrics_close(rt_metrics *m); /* accepts a zeroed m */
/* The step that ended at `at`; held_out, exam NULL: not measured at it; round NULL: it began none. */
int rt_metrics_write(rt_metrics *m, const rt_position *at, const rt_stepped *step,
                     const rt_totals *held_out, const rt_round *round, const rt_exam *exam,
                     double seconds, rt_err *err);

RT_END

#endif
