#include "core/network/capture.h"

#include <math.h>
#include <string.h>

static void plan_host(rt_capture_buffers *b)
{
    static const char name[] = "capture";
    rt_arena *a = &b->host;
    int64_t rows = 4 * b->rows, draws = rt_max(b->draws, 1);
    b->host_token = rt_arena_take(a, name, rows);
    b->host_seed = rt_arena_take(a, name, 2 * rows);
    b->host_index = rt_arena_take(a, name, rows);
    if (b->cfg.head_max == 0)
        return;
    rows = 4 * b->waiting;
    b->head_n = rt_arena_take(a, name, rows);
    b->draw_n = rt_arena_take(a, name, rows);
    b->head_id = rt_arena_take(a, name, rows * b->cfg.head_max);
    b->draw_id = rt_arena_take(a, name, rows * draws);
    b->tail = rt_arena_take(a, name, rows);
    b->entropy = rt_arena_take(a, name, rows);
    b->taken = rt_arena_take(a, name, rows);
    b->logz = rt_arena_take(a, name, rows * rt_max(b->cfg.n_temperatures, 1));
    b->head_logp = rt_arena_take(a, name, rows * b->cfg.head_max);
}

void rt_capture_plan(rt_capture_buffers *b, rt_dev *d, rt_arena *a, const rt_soft_config *cfg,
                     int64_t rows, int64_t waiting)
{
    static const char name[] = "capture";
    b->cfg = *cfg;
    b->rows = rows;
    b->waiting = waiting;
    b->draws = cfg->tail_spacing > 0 ? (int64_t)ceilf(1 / cfg->tail_spacing) + 1 : 0;
    if (!a->base) {
        rt_arena_init(&b->host, "host");
        plan_host(b);
        rt_dev_need_puts(d, 16 * waiting, 3 * rt_ceil_div(waiting, rows));
    }
    b->token = rt_plan_1(a, name, RT_I32, rows);
    b->seed = rt_plan_2(a, name, RT_I32, rows, 2);
    b->index = rt_plan_1(a, name, RT_I32, rows);
    if (cfg->head_max == 0)
        return;
    b->out.head_n = rt_plan_1(a, name, RT_I32, rows);
    b->out.head_id = rt_plan_2(a, name, RT_I32, rows, cfg->head_max);
    b->out.head_logp = rt_plan_2(a, name, RT_F32, rows, cfg->head_max);
    b->out.tail = rt_plan_1(a, name, RT_F32, rows);
    b->out.draw_n = rt_plan_1(a, name, RT_I32, rows);
    b->out.draw_id = rt_plan_2(a, name, RT_I32, rows, rt_max(b->draws, 1));
    b->out.logz = rt_plan_2(a, name, RT_F32, rows, rt_max(cfg->n_temperatures, 1));
    b->out.entropy = rt_plan_1(a, name, RT_F32, rows);
    b->out.taken = rt_plan_1(a, name, RT_F32, rows);
}

int rt_capture_open(rt_capture_buffers *b, rt_err *err)
{
    if (rt_arena_place(&b->host, err))
        return -1;
    plan_host(b);
    return 0;
}

void rt_capture_close(rt_capture_buffers *b)
{
    rt_arena_free(&b->host);
    memset(b, 0, sizeof *b);
}

static void set_rows(rt_tensor *t, int64_t n)
{
    if (t->rank)
        t->dim[0] = n;
}

static int64_t row_bytes(const rt_tensor *t) { return 4 * (t->rank == 2 ? t->dim[1] : 1); }

void rt_capture_upload(rt_dev *d, rt_capture_buffers *b, int64_t n, bool tokens)
{
    if (n > b->rows)
        rt_bug("capture of %lld rows, planned for %lld", (long long)n, (long long)b->rows);
    set_rows(&b->token, n);
    set_rows(&b->seed, n);
    set_rows(&b->index, n);
    rt_put(d, b->seed.data, b->host_seed, 8 * n);
    rt_put(d, b->index.data, b->host_index, 4 * n);
    if (tokens)
        rt_put(d, b->token.data, b->host_token, 4 * n);
}

void rt_capture_run(rt_dev *d, rt_capture_buffers *b, rt_tensor *logits, int64_t n, int64_t vocab)
{
    rt_capture *o = &b->out;
    rt_tensor *const each[] = { &o->head_n,  &o->head_id, &o->head_logp, &o->tail, &o->draw_n,
                                &o->draw_id, &o->logz,    &o->entropy,   &o->taken };
    void *const host[] = { b->head_n,  b->head_id, b->head_logp, b->tail, b->draw_n,
                           b->draw_id, b->logz,    b->entropy,   b->taken };
    if (n > b->waiting - b->n)
        rt_bug("capture of %lld rows beside %lld, planned for %lld", (long long)n, (long long)b->n,
               (long long)b->waiting);
    for (int i = 0; i < RT_COUNT(each); i++)
        set_rows(each[i], n);
    rt_capture_rows(d, o, logits, &b->token, &b->seed, &b->index, &b->cfg, vocab);
    for (int i = 0; i < RT_COUNT(each); i++)
        rt_download(d, (uint8_t *)host[i] + b->n * row_bytes(each[i]), each[i]->data,
                    rt_tensor_bytes(each[i]));
    b->n += n;
}

bool rt_capture_finite(const rt_capture_buffers *b)
{
    int64_t i = 0;
    while (i < b->n && isfinite(b->entropy[i]))
        i++;
    return i == b->n;
}

void rt_capture_clear(rt_capture_buffers *b) { b->n = 0; }

static void sort_head(int32_t *id, float *logp, int n)
{
    for (int i = 1; i < n; i++) { /* at most RT_SOFT_HEAD_MAX items */
        int32_t key = id[i];
        float value = logp[i];
        int j = i;
        for (; j > 0 && id[j - 1] > key; j--) {
            id[j] = id[j - 1];
            logp[j] = logp[j - 1];
        }
        id[j] = key;
        logp[j] = value;
    }
}

void rt_capture_append(const rt_capture_buffers *b, int64_t i, rt_soft *s)
{
    int32_t temps = b->cfg.n_temperatures, head = b->head_n[i], draws = b->draw_n[i];
    int32_t *id = b->head_id + i * b->cfg.head_max;
    float *logp = b->head_logp + i * b->cfg.head_max;
    const int32_t *draw = b->draw_id + i * rt_max(b->draws, 1);
    int64_t distinct = 0;
    for (int32_t j = 0; j < draws; j++)
        distinct += j == 0 || draw[j] != draw[j - 1];
    sort_head(id, logp, head);
    int64_t row = rt_soft_add_row(s, head + distinct, temps), at = s->offset[row];
    s->head_n[row] = head;
    for (int32_t j = 0; j < head; j++, at++) {
        s->id[at] = id[j];
        s->logp[at] = logp[j];
        s->hits[at] = 0;
    }
    for (int32_t j = 0; j < draws; j++) {
        if (j && draw[j] == draw[j - 1]) {
            s->hits[at - 1]++;
            continue;
        }
        s->id[at] = draw[j];
        s->logp[at] = 0;
        s->hits[at++] = 1;
    }
    s->tail_logmass[row] = b->tail[i];
    s->entropy[row] = b->entropy[i];
    s->taken_logp[row] = b->taken[i];
    for (int32_t t = 0; t < temps; t++)
        s->logz[row * temps + t] = b->logz[i * temps + t];
}
