#include "distill/round.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/file.h"
#include "core/base/log.h"
#include "core/base/memory.h"
#include "core/base/path.h"

/* The numbers of a line and of a round: what stands here is written, read back and told. */
static const struct view {
    const char *key;
    size_t offset;
    const char *title;
} VIEWS[] = { { "overlap", offsetof(rt_views, overlap), "overlap" },
              { "reverse_kl", offsetof(rt_views, kl), "KL" },
              { "student_entropy", offsetof(rt_views, student_entropy), "H student" },
              { "teacher_entropy", offsetof(rt_views, teacher_entropy), "H teacher" },
              { "student_logp", offsetof(rt_views, student_logp), "log q" },
              { "teacher_logp", offsetof(rt_views, teacher_logp), "log p" } };

static double *view_of(rt_views *v, int i)
{
    return (double *)(void *)((char *)v + VIEWS[i].offset);
}

static double view_at(const rt_views *v, int i)
{
    double x;
    memcpy(&x, (const char *)v + VIEWS[i].offset, sizeof x);
    return x;
}

/* ---- one position -------------------------------------------------------------------------------
 */

static int descending(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x < y) - (x > y);
}

/* How many of the teacher's head are its own: the rule of the capture operation, run again. */
static int32_t own_head(const rt_soft *t, const rt_soft_config *c, int64_t r, float *least)
{
    float logp[RT_SOFT_HEAD_MAX];
    int32_t all = t->head_n[r], n = 0, most = c->head_max - c->listed;
    memcpy(logp, t->logp + t->offset[r], (size_t)all * sizeof *logp);
    qsort(logp, (size_t)all, sizeof *logp, descending);
    double left = exp((double)t->tail_logmass[r]);
    for (int32_t i = 0; i < all; i++)
        left += exp((double)logp[i]);
    while (n < all && n < most && (n == 0 || left >= (double)c->head_floor))
        left -= exp((double)logp[n++]);
    *least = n ? logp[n - 1] : INFINITY;
    return n;
}

void rt_round_compare(rt_views *sum, const rt_soft *teacher, const rt_soft_config *c,
                      const rt_soft *student, int64_t r)
{
    int64_t at = teacher->offset[r], end = at + teacher->head_n[r], s = student->offset[r];
    float least;
    int32_t own = own_head(teacher, c, r, &least), listed = student->head_n[r], both = 0;
    double kl = 0, outside = exp((double)teacher->tail_logmass[r]);
    for (int32_t i = 0; at < end; at++) { /* both heads ascend; the student's is among the teacher's */
        double p = (double)teacher->logp[at];
        while (i < listed && student->id[s + i] < teacher->id[at])
            i++;
        if (i == listed || student->id[s + i] != teacher->id[at]) {
            outside += exp(p);
            continue;
        }
        double q = (double)student->logp[s + i];
        kl += exp(q) * (q - p);
        both += teacher->logp[at] >= least;
    }
    double q_tail = (double)student->tail_logmass[r];
    if (exp(q_tail) > 0)
        kl += exp(q_tail) * (q_tail - fmax(log(outside), -32.0)); /* as far as an archive says */
    sum->kl += kl;
    sum->overlap += (double)both / (double)(own + listed - both);
    sum->student_entropy += (double)student->entropy[r];
    sum->teacher_entropy += (double)teacher->entropy[r];
    sum->student_logp += (double)student->taken_logp[r];
    sum->teacher_logp += (double)teacher->taken_logp[r];
}

/* ---- lines --------------------------------------------------------------------------------------
 */

char *rt_round_path(const char *dir, int64_t round, const char *suffix)
{
    char name[64];
    snprintf(name, sizeof name, "round-%04lld.%s", (long long)round, suffix);
    return rt_path_join(dir, name);
}

static int load_lines(char **text, int64_t *bytes, const char *path, rt_err *err)
{
    *text = NULL;
    *bytes = 0;
    return rt_path_exists(path) ? rt_file_read(text, bytes, path, (int64_t)1 << 32, err) : 0;
}

/* The next whole line of *at as JSON, NULL at the end or where a line is torn. */
static cJSON *next_line(const char **at)
{
    const char *end = *at ? strchr(*at, '\n') : NULL;
    cJSON *json = NULL;
    rt_err none;
    if (!end || rt_json_parse(&json, *at, end - *at, "a line", &none))
        return NULL;
    *at = end + 1;
    return json;
}

int rt_round_open_lines(FILE **f, const char *dir, int64_t round, const rt_trace_writer *archive,
                        rt_err *err)
{
    char *path = rt_round_path(dir, round, "jsonl"), *text;
    int64_t bytes, keep = 0;
    int bad = load_lines(&text, &bytes, path, err);
    const char *at = text;
    for (cJSON *line; !bad && (line = next_line(&at)) != NULL;) {
        const char *id = cJSON_GetStringValue(rt_json_find(line, "sample"));
        bool there = id && rt_trace_has(archive, id);
        cJSON_Delete(line);
        if (!there)
            break;
        keep = at - text;
    }
    bad = bad || rt_file_write(path, text ? text : "", keep, err);
    *f = bad ? NULL : fopen(path, "a");
    if (!bad && !*f)
        bad = rt_fail(err, "%s: cannot be opened for appending: %s", path, rt_errno_text(errno));
    free(text);
    free(path);
    return bad ? -1 : 0;
}

int rt_round_put_line(FILE *f, const rt_trace_sample *s, bool judged, const rt_views *sum,
                      int64_t n, int64_t scored, rt_err *err)
{
    cJSON *json = rt_json_object();
    rt_json_put_str(json, "sample", s->id);
    rt_json_put_i64(json, "tokens", n);
    rt_json_put_i64(json, "scored", scored);
    rt_json_put_str(json, "finish", s->finish);
    rt_json_put_str(json, "verdict", rt_verdict_name(s->verdict));
    rt_json_put_bool(json, "judged", judged);
    for (int i = 0; i < RT_COUNT(VIEWS); i++)
        rt_json_put_num(json, VIEWS[i].key, view_at(sum, i) / (double)rt_max(n, 1));
    char *text = rt_json_text(json);
    bool bad = fprintf(f, "%s\n", text) < 0;
    free(text);
    cJSON_Delete(json);
    return bad ? rt_fail(err, "a round's lines: write failed: %s", rt_errno_text(errno)) : 0;
}

static double number(const cJSON *json, const char *key)
{
    const cJSON *v = rt_json_find(json, key);
    return cJSON_IsNumber(v) ? v->valuedouble : 0;
}

static void add_line(rt_round *r, const cJSON *line)
{
    const char *verdict = cJSON_GetStringValue(rt_json_find(line, "verdict"));
    int64_t n = (int64_t)number(line, "tokens");
    r->rollouts++;
    r->finished += verdict && strcmp(verdict, rt_verdict_name(RT_UNFINISHED)) != 0;
    r->correct += verdict && !strcmp(verdict, rt_verdict_name(RT_CORRECT));
    r->judged += cJSON_IsTrue(rt_json_find(line, "judged"));
    r->tokens += n;
    r->scored += (int64_t)number(line, "scored");
    for (int i = 0; i < RT_COUNT(VIEWS); i++)
        *view_of(&r->mean, i) += (double)n * number(line, VIEWS[i].key);
}

int rt_round_read(rt_round *r, const char *dir, int64_t round, rt_err *err)
{
    char *path = rt_round_path(dir, round, "jsonl"), *text;
    int64_t bytes;
    int bad = load_lines(&text, &bytes, path, err);
    const char *at = text;
    *r = (rt_round){ .round = round };
    for (cJSON *line; !bad && (line = next_line(&at)) != NULL; cJSON_Delete(line))
        add_line(r, line);
    for (int i = 0; i < RT_COUNT(VIEWS); i++)
        *view_of(&r->mean, i) /= (double)rt_max(r->tokens, 1);
    free(text);
    free(path);
    return bad ? -1 : 0;
}

/* ---- telling ------------------------------------------------------------------------------------
 */

void rt_round_print(const rt_round *r)
{
    if (!r)
        printf("%-8s %9s %9s %9s %9s", "round", "answers", "correct", "tokens", "scored");
    for (int i = 0; !r && i < RT_COUNT(VIEWS); i++)
        printf(" %9s", VIEWS[i].title);
    if (r) {
        char correct[16] = "-";
        if (r->judged)
            snprintf(correct, sizeof correct, "%.1f %%",
                     100.0 * (double)r->correct / (double)r->judged);
        printf("%-8lld %9lld %9s %9lld %9lld", (long long)r->round, (long long)r->rollouts, correct,
               (long long)r->tokens, (long long)r->scored);
    }
    for (int i = 0; r && i < RT_COUNT(VIEWS); i++)
        printf(" %9.4f", view_at(&r->mean, i));
    putchar('\n');
}

void rt_round_put(FILE *f, const rt_round *r)
{
    fprintf(f, ",\"round\":%lld,\"rollouts\":%lld,\"rollout_tokens\":%lld,\"scored_tokens\":%lld",
            (long long)r->round, (long long)r->rollouts, (long long)r->tokens,
            (long long)r->scored);
    fprintf(f, ",\"rollouts_finished\":%lld", (long long)r->finished);
    if (r->judged)
        fprintf(f, ",\"rollouts_correct\":%lld", (long long)r->correct);
    for (int i = 0; i < RT_COUNT(VIEWS); i++)
        fprintf(f, ",\"%s\":%.6g", VIEWS[i].key, view_at(&r->mean, i));
}

/* Bounds between what the miniature shows: after 60 steps from random weights overlap 0.14 and KL 6;
   after 600 steps on the teacher's traces 0.85 and 0.3; the teacher itself 1 and 0. */
void rt_round_warn(const rt_round *r)
{
    enum { FEW_TOKENS = 100 };
    const rt_views *v = &r->mean;
    if (r->tokens < FEW_TOKENS)
        return;
    if (v->overlap < 0.4 && v->kl > 0.5)
        rt_warn("the teacher finds the student's text improbable (%.2f nats a token, the student "
                "%.2f) and the tokens they find probable are %.0f %% the same: learn from the "
                "teacher's own traces first (retort sample, retort train --data)",
                -v->teacher_logp, -v->student_logp, 100 * v->overlap);
    else if (v->overlap > 0.97 && v->kl < 0.005)
        rt_warn("teacher and student agree on the student's answers already (KL %.4f nats a token, "
                "%.0f %% of the probable tokens the same): there is little to learn from them",
                v->kl, 100 * v->overlap);
    else if (2 * r->finished < r->rollouts)
        rt_warn("%lld of %lld answers were not finished within --rollout-tokens: what they lack is "
                "not learned",
                (long long)(r->rollouts - r->finished), (long long)r->rollouts);
}
