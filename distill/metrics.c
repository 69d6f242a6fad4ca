#include "distill/metrics.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/file.h"
#include "core/base/memory.h"
#include "core/base/path.h"

int rt_metrics_open(rt_metrics *m, const char *dir, int64_t step, rt_err *err)
{
    char *path = rt_path_join(dir, "metrics.jsonl"), *text = NULL;
    int64_t bytes = 0, keep = 0;
    int bad = 0;
    if (rt_path_exists(path))
        bad = rt_file_read(&text, &bytes, path, (int64_t)1 << 32, err);
    long long at;
    for (const char *line = text;
         !bad && line && sscanf(line, "{\"step\":%lld", &at) == 1 && at <= step;) {
        const char *end = strchr(line, '\n');
        if (!end)
            break;
        line = end + 1;
        keep = line - text;
    }
    if (!bad)
        bad = rt_file_write(path, text ? text : "", keep, err);
    *m = (rt_metrics){ .dir = dir, .file = bad ? NULL : fopen(path, "a") };
    if (!bad && !m->file)
        bad = rt_fail(err, "%s: cannot be opened for appending", path);
    bad = bad || rt_events_open(&m->events, dir, text, keep, err);
    free(text);
    free(path);
    return bad ? -1 : 0;
}

void rt_metrics_close(rt_metrics *m)
{
    if (m->file)
        fclose(m->file);
    m->file = NULL;
    rt_events_close(&m->events);
}

static void put_held_out(FILE *f, const rt_totals *t)
{
    fprintf(f, ",\"eval_ce\":%.6g,\"eval_entropy\":%.6g,\"eval_accuracy\":%.6g,\"eval_ece\":%.6g",
            rt_totals_mean(t, RT_LOSS_CE), rt_totals_mean(t, RT_LOSS_ENTROPY),
            rt_totals_mean(t, RT_LOSS_CORRECT), rt_totals_ece(t));
    if (t->soft_rows)
        fprintf(f, ",\"eval_kl\":%.6g,\"eval_agreement\":%.6g", rt_totals_mean(t, RT_LOSS_KL),
                rt_totals_mean(t, RT_LOSS_AGREE));
}

/* KL only where rows had soft targets: hard labels have none to the teacher. */
static void put_line(FILE *f, const rt_position *at, const rt_stepped *step,
                     const rt_totals *held_out, const rt_round *round, const rt_exam *exam,
                     double seconds)
{
    const rt_totals *s = &step->totals;
    fprintf(f,
            "{\"step\":%lld,\"loss\":%.6g,\"ce\":%.6g,\"entropy\":%.6g,\"accuracy\":%.6g,"
            "\"norm\":%.6g,\"rate\":%.6g,\"tokens\":%lld,\"seconds\":%.4g",
            (long long)at->step, rt_totals_mean(s, RT_LOSS_TOTAL), rt_totals_mean(s, RT_LOSS_CE),
            rt_totals_mean(s, RT_LOSS_ENTROPY), rt_totals_mean(s, RT_LOSS_CORRECT), step->norm,
            step->rate, (long long)at->tokens, seconds);
    if (s->soft_rows)
        fprintf(f, ",\"kl\":%.6g", rt_totals_mean(s, RT_LOSS_KL));
    if (step->referred)
        fprintf(f, ",\"reference_kl\":%.6g", rt_totals_mean(s, RT_LOSS_REFERENCE));
    if (held_out)
        put_held_out(f, held_out);
    if (exam)
        rt_exam_put(f, exam);
    if (round)
        rt_round_put(f, round);
    fputs("}\n", f);
}

int rt_metrics_write(rt_metrics *m, const rt_position *at, const rt_stepped *step,
                     const rt_totals *held_out, const rt_round *round, const rt_exam *exam,
                     double seconds, rt_err *err)
{
    char *line = NULL;
    size_t bytes = 0;
    FILE *f = rt_memory_stream(&line, &bytes);
    put_line(f, at, step, held_out, round, exam, seconds);
    rt_memory_stream_close(f);
    int bad = fputs(line, m->file) < 0 || fflush(m->file)
                  ? rt_fail(err, "%s/metrics.jsonl: write failed: %s", m->dir, rt_errno_text(errno))
                  : rt_events_add(&m->events, line, (int64_t)bytes - 1, err);
    free(line);
    return bad;
}
