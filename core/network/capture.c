#include "core/network/capture.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#include "core/device/packed.h"

/* The columns of what is captured: a new one is its field in rt_capture (ops.h), its line here, and
   what rt_capture_append makes of it. */
enum width { ONE, HEAD, DRAWS, TEMPERATURES };

static const struct column {
    size_t field; /* rt_tensor of rt_capture */
    rt_dtype dtype;
    enum width width;
} columns[] = {
#define C(name) offsetof(rt_capture, name)
    { C(head_n), RT_I32, ONE },  { C(head_id), RT_I32, HEAD }, { C(head_logp), RT_F32, HEAD },
    { C(tail), RT_F32, ONE },    { C(draw_n), RT_I32, ONE },   { C(draw_id), RT_I32, DRAWS },
    { C(entropy), RT_F32, ONE }, { C(taken), RT_F32, ONE },    { C(logz), RT_F32, TEMPERATURES },
#undef C
};
enum { COLUMNS = RT_COUNT(columns) };

/* The capture of n rows in the block at base; how long it is. */
static int64_t lay_out(const rt_capture_buffers *b, rt_capture *out, int64_t n, uint8_t *base)
{
    const int64_t width[] = { [HEAD] = b->cfg.head_max,
                              [DRAWS] = rt_max(b->draws, 1),
                              [TEMPERATURES] = rt_max(b->cfg.n_temperatures, 1) };
    rt_tensor *tensor[COLUMNS];
    for (int i = 0; i < COLUMNS; i++) {
        const struct column *c = &columns[i];
        tensor[i] = (rt_tensor *)(void *)((uint8_t *)out + c->field);
        *tensor[i] = c->width == ONE ? rt_tensor_1(NULL, c->dtype, n)
                                     : rt_tensor_2(NULL, c->dtype, n, width[c->width]);
    }
    return rt_packed_layout(tensor, COLUMNS, base);
}

static int64_t block_bytes(const rt_capture_buffers *b)
{
    rt_capture unused;
    return lay_out(b, &unused, b->rows, NULL);
}

static void plan_host(void *ctx, rt_arena *a)
{
    static const char name[] = "capture";
    rt_capture_buffers *b = ctx;
    int64_t rows = 4 * b->rows;
    b->host_token = rt_arena_take(a, name, rows);
    b->host_seed = rt_arena_take(a, name, 2 * rows);
    b->host_index = rt_arena_take(a, name, rows);
    b->host_listed = rt_arena_take(a, name, rows * b->cfg.listed);
    if (b->cfg.head_max)
        b->here = rt_arena_take(a, name, rt_ceil_div(b->waiting, b->rows) * block_bytes(b));
}

static void plan_device(void *ctx, rt_arena *a)
{
    static const char name[] = "capture";
    rt_capture_buffers *b = ctx;
    b->token = rt_plan_1(a, name, RT_I32, b->rows);
    b->seed = rt_plan_2(a, name, RT_I32, b->rows, 2);
    b->index = rt_plan_1(a, name, RT_I32, b->rows);
    b->listed = rt_plan_2(a, name, RT_I32, b->rows, b->cfg.listed);
    if (b->cfg.head_max)
        b->there = rt_arena_take(a, name, block_bytes(b));
}

void rt_capture_plan(rt_capture_buffers *b, rt_arenas *l, const rt_soft_config *cfg, int64_t rows,
                     int64_t waiting)
{
    memset(b, 0, sizeof *b);
    b->cfg = *cfg;
    b->rows = rows;
    b->waiting = waiting;
    b->draws = cfg->tail_spacing > 0 ? (int64_t)ceilf(1 / cfg->tail_spacing) + 1 : 0;
    rt_arenas_add(l, &b->device, "capture", RT_ON_DEVICE, plan_device, b);
    rt_arenas_add(l, &b->host, "host", RT_ON_HOST, plan_host, b);
}

void rt_capture_upload(rt_dev *d, rt_capture_buffers *b, int64_t n, bool tokens)
{
    if (n > b->rows)
        rt_bug("capture of %lld rows, planned for %lld", (long long)n, (long long)b->rows);
    b->token.dim[0] = b->seed.dim[0] = b->index.dim[0] = b->listed.dim[0] = n;
    rt_put(d, b->seed.data, b->host_seed, 8 * n);
    rt_put(d, b->index.data, b->host_index, 4 * n);
    if (b->cfg.listed)
        rt_put(d, b->listed.data, b->host_listed, 4 * n * b->cfg.listed);
    if (tokens)
        rt_put(d, b->token.data, b->host_token, 4 * n);
}

void rt_capture_run(rt_dev *d, rt_capture_buffers *b, rt_tensor *logits, int64_t n, int64_t vocab)
{
    rt_capture out;
    if (b->n % b->rows || n > b->rows || n > b->waiting - b->n)
        rt_bug("capture of %lld rows after %lld: planned are chunks of %lld, %lld rows together",
               (long long)n, (long long)b->n, (long long)b->rows, (long long)b->waiting);
    int64_t bytes = lay_out(b, &out, n, b->there);
    b->token.dim[0] = b->seed.dim[0] = b->index.dim[0] = b->listed.dim[0] = n;
    rt_capture_rows(d, &out, logits, &b->token, &b->seed, &b->index,
                    b->cfg.listed ? &b->listed : NULL, &b->cfg, vocab);
    rt_download(d, b->here ? b->here + b->n / b->rows * block_bytes(b) : NULL, b->there, bytes);
    b->n += n;
}

void rt_capture_set_listed(rt_capture_buffers *b, int64_t i, const rt_soft *s, int64_t row)
{
    int32_t *to = b->host_listed + i * b->cfg.listed, n = s ? s->head_n[row] : 0;
    if (n > b->cfg.listed)
        rt_bug("capture of a row with %d listed ids, planned for %d", n, b->cfg.listed);
    for (int32_t j = 0; j < b->cfg.listed; j++)
        to[j] = j < n ? s->id[s->offset[row] + j] : -1;
}

void rt_capture_clear(rt_capture_buffers *b) { b->n = 0; }

/* The chunk with row i, on the host; i becomes its place there. */
static rt_capture chunk_of(const rt_capture_buffers *b, int64_t *i)
{
    rt_capture out;
    int64_t chunk = *i / b->rows, n = rt_min(b->rows, b->n - chunk * b->rows);
    lay_out(b, &out, n, b->here + chunk * block_bytes(b));
    *i %= b->rows;
    return out;
}

bool rt_capture_finite(const rt_capture_buffers *b)
{
    for (int64_t r = 0; r < b->n; r++) {
        int64_t i = r;
        rt_capture c = chunk_of(b, &i);
        if (!isfinite(rt_f32(&c.entropy)[i]))
            return false;
    }
    return true;
}

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
    rt_capture c = chunk_of(b, &i);
    int32_t temps = b->cfg.n_temperatures, head = rt_i32(&c.head_n)[i],
            draws = rt_i32(&c.draw_n)[i];
    int32_t *id = rt_i32(&c.head_id) + i * b->cfg.head_max;
    float *logp = rt_f32(&c.head_logp) + i * b->cfg.head_max;
    const int32_t *draw = rt_i32(&c.draw_id) + i * rt_max(b->draws, 1);
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
    s->tail_logmass[row] = rt_f32(&c.tail)[i];
    s->entropy[row] = rt_f32(&c.entropy)[i];
    s->taken_logp[row] = rt_f32(&c.taken)[i];
    for (int32_t t = 0; t < temps; t++)
        s->logz[row * temps + t] = rt_f32(&c.logz)[i * temps + t];
}
