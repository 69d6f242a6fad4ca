#include "teacher/streaming.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/log.h"
#include "core/base/memory.h"

/* Of the host's memory. */
static int64_t process_bytes(const rt_needs *needs)
{
    return rt_needs_host(needs) + rt_needs_sum(needs, RT_NEEDS_GROWS);
}

int64_t rt_streaming_left(const rt_needs *needs, int64_t memory)
{
    int64_t left = memory - process_bytes(needs);
    return needs->room ? rt_min(left, needs->room - rt_needs_sum(needs, RT_NEEDS_DEVICE)) : left;
}

int rt_streaming_refuse(const rt_needs *needs, int64_t memory, const char *what, bool plan,
                        rt_err *err)
{
    char given[32], need[32];
    int64_t least = process_bytes(needs), there = rt_needs_sum(needs, RT_NEEDS_DEVICE);
    int64_t mib = rt_ceil_div(least, 1 << 20) + 4; /* a process is not as large the next time */
    if (least <= memory)
        rt_fail(err,
                "%s of the GPU's memory are too little for %s: %s are the least; --plan says "
                "what for",
                rt_fmt_bytes(given, sizeof given, needs->room), what,
                rt_fmt_bytes(need, sizeof need, there));
    else
        rt_fail(err,
                "--memory %lldM (%s) is too little for %s: the least that works is --memory %lldM "
                "(%s); --plan says what it is for",
                (long long)(memory >> 20), rt_fmt_bytes(given, sizeof given, memory), what,
                (long long)mib, rt_fmt_bytes(need, sizeof need, mib << 20));
    if (plan)
        rt_warn("%s", err->text);
    return plan ? 0 : -1;
}

/* ---- probe --------------------------------------------------------------------------------------
 */

static void probe_rows(const rt_teacher *t, rt_acts *a, int64_t rows, int64_t longest)
{
    int64_t segments = rt_ceil_div(rows, longest);
    int32_t *token = rt_alloc(2 * rows + segments + 1, sizeof *token, "rows of a probe");
    int32_t *pos = token + rows, *offset = pos + rows;
    for (int64_t i = 0; i < rows; i++) {
        token[i] = (int32_t)(i * 7919 % t->vocab);
        pos[i] = (int32_t)(i % longest);
    }
    for (int64_t i = 0; i <= segments; i++)
        offset[i] = (int32_t)rt_min(i * longest, rows);
    rt_acts_rows(a, rows, segments, token, pos, offset, NULL);
    free(token);
}

/* A layer's share of what is multiplied for a row. */
static double layers_of_work(const rt_config *c, const rt_params *p)
{
    double head = (double)c->vocab * (double)c->width, all = (double)p->active;
    return (double)c->layers * all / fmax(1, all - head);
}

static int probe_layer(rt_streaming_speed *speed, rt_teacher *t, rt_acts *a, rt_err *err)
{
    const rt_config *c = &t->model.cfg;
    int64_t layer = 0;
    while (layer + 1 < c->layers && !rt_config_routed(c, layer))
        layer++;
    /* one layer to touch the memory, the next is measured */
    if (rt_model_embed(t->dev, &t->model, a, err) || rt_sync(t->dev, err) ||
        rt_model_layer(t->dev, &t->model, a, layer, err) || rt_stream_reset(t->stream, err))
        return -1;
    layer = rt_min(layer + 1, c->layers - 1);
    double begun = rt_now();
    if (rt_model_layer(t->dev, &t->model, a, layer, err) || rt_sync(t->dev, err))
        return -1;
    double took = rt_now() - begun;
    rt_stream_counts n = rt_stream_count(t->stream);
    speed->disk = (double)n.bytes / (n.read_s > 1e-6 ? n.read_s : 1e-6);
    speed->row_s = fmax(took - n.wait_s, 1e-9) / (double)a->rows.n *
                   layers_of_work(c, &t->model.w.params);
    return rt_stream_reset(t->stream, err);
}

int rt_streaming_probe(rt_streaming_speed *speed, rt_teacher *t, int64_t rows, int64_t longest,
                       rt_err *err)
{
    rt_acts a;
    rt_arenas arenas = { 0 };
    rt_pass_shape shape = { .mode = RT_PLAN_SCORE,
                            .rows = rows,
                            .segments = rt_ceil_div(rows, longest),
                            .longest = longest,
                            .head_rows = 1 };
    rt_acts_plan(&a, &arenas, t->dev, &t->model, &shape);
    int bad = rt_arenas_place(&arenas, t->dev, err) || rt_dev_ready(t->dev, err);
    if (!bad) {
        probe_rows(t, &a, rows, longest);
        bad = probe_layer(speed, t, &a, err);
    }
    rt_acts_free(&a);
    return bad ? -1 : 0;
}

/* ---- forecast -----------------------------------------------------------------------------------
 */

/* Of experts that choose at random, the share that has a row. */
static double pass_bytes(const rt_teacher *t, int64_t rows)
{
    const rt_config *c = &t->model.cfg;
    const rt_stream_sizes *z = rt_stream_size(t->stream);
    double missed = c->experts ? pow(1 - (double)c->active / (double)c->experts, (double)rows) : 0;
    double share = 1 - rt_stream_held(t->stream); /* of what is not there from the second pass on */
    return ((double)z->layers + (double)z->experts * (1 - missed)) * share;
}

double rt_streaming_pass_s(const rt_streaming_speed *speed, const rt_teacher *t, int64_t rows)
{
    return fmax(pass_bytes(t, rows) / speed->disk, speed->row_s * (double)rows);
}

static const char *rate_text(char *buf, size_t size, double rate)
{
    if (rate >= 100)
        return rt_fmt_count(buf, size, rate);
    snprintf(buf, size, "%.3g", rate);
    return buf;
}

void rt_streaming_forecast(const rt_streaming_speed *speed, const rt_teacher *t, int64_t memory,
                           int64_t tokens, int64_t rows, int64_t archive)
{
    char a[32], b[32], c[32], d[32];
    rows = rt_max(1, rt_min(rows, tokens));
    double rate = (double)rows / rt_streaming_pass_s(speed, t, rows);
    int64_t passes = rt_ceil_div(tokens, rows);
    rt_info(
        "streaming within %s: %s a pass of %lld tokens, %lld pass%s; the disk gives %s/s, the "
        "products %s tokens/s",
        rt_fmt_bytes(a, sizeof a, memory), rt_fmt_bytes(b, sizeof b, (int64_t)pass_bytes(t, rows)),
        (long long)rows, (long long)passes, passes == 1 ? "" : "es",
        rt_fmt_bytes(c, sizeof c, (int64_t)speed->disk), rate_text(d, sizeof d, 1 / speed->row_s));
    rt_info("forecast: %s tokens/s, %.1f hours (%s) for %lld tokens, an archive of about %s",
            rate_text(a, sizeof a, rate), (double)tokens / rate / 3600,
            rt_fmt_seconds(c, sizeof c, (double)tokens / rate), (long long)tokens,
            rt_fmt_bytes(b, sizeof b, archive));
}

/* ---- the account --------------------------------------------------------------------------------
 */

static double passes_of(const rt_teacher *t, const rt_stream_counts *n)
{
    return (double)n->layers / (double)t->model.cfg.layers;
}

void rt_streaming_print(const rt_teacher *t)
{
    char text[32];
    rt_stream_counts n = rt_stream_count(t->stream);
    if (!n.layers)
        return;
    printf("%-22s %.4g\n", "passes", passes_of(t, &n));
    printf("%-22s %lld (%s)\n", "weights read, bytes", (long long)n.weights,
           rt_fmt_bytes(text, sizeof text, n.weights));
    printf("%-22s %lld\n", "  a pass", (long long)((double)n.weights / passes_of(t, &n)));
    printf("%-22s %lld\n", "  from disk", (long long)n.bytes);
    printf("%-22s %lld\n", "  held, read once", (long long)n.held);
    if (n.experts)
        printf("%-22s %lld, %lld without rows not\n", "experts read", (long long)n.experts,
               (long long)n.unread);
    printf("%-22s %.2f%s\n", "seconds reading", n.read_s, n.plain ? " (not direct)" : "");
    printf("%-22s %.2f\n", "seconds computing", n.pass_s - n.wait_s);
    printf("%-22s %.2f\n", "seconds waiting", n.wait_s);
    printf("%-22s %.2f\n", "seconds of passes", n.pass_s);
    printf("%-22s %s\n", "peak memory", rt_fmt_bytes(text, sizeof text, rt_peak_rss_bytes()));
}

void rt_streaming_put(cJSON *json, const rt_teacher *t)
{
    rt_stream_counts n = rt_stream_count(t->stream);
    if (!n.layers)
        return;
    cJSON *row = rt_json_object();
    rt_json_put_num(row, "passes", passes_of(t, &n));
    rt_json_put_i64(row, "weights_bytes", n.weights);
    rt_json_put_i64(row, "disk_bytes", n.bytes);
    rt_json_put_i64(row, "held_bytes", n.held);
    rt_json_put_i64(row, "experts_read", n.experts);
    rt_json_put_i64(row, "experts_unread", n.unread);
    rt_json_put_num(row, "read_seconds", n.read_s);
    rt_json_put_num(row, "compute_seconds", n.pass_s - n.wait_s);
    rt_json_put_num(row, "wait_seconds", n.wait_s);
    rt_json_put_num(row, "pass_seconds", n.pass_s);
    rt_json_put_i64(row, "peak_bytes", rt_peak_rss_bytes());
    rt_json_put_bool(row, "direct", !n.plain);
    rt_json_put(json, "stream", row);
}
