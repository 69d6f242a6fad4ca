#include "student/batch.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int64_t items_of_row(const rt_soft_config *c)
{
    if (c->head_max == 0)
        return 0;
    return c->head_max + (c->tail_spacing > 0 ? (int64_t)ceilf(1 / c->tail_spacing) + 1 : 0);
}

static void plan_host(rt_batch *b)
{
    static const char name[] = "batch";
    rt_arena *a = &b->host;
    int64_t n = b->shape.rows, m = b->shape.head_rows, word = 4;
    b->loss = rt_arena_take(a, name, n * (int64_t)sizeof *b->loss);
    b->token = rt_arena_take(a, name, n * word);
    b->pos = rt_arena_take(a, name, n * word);
    b->offset = rt_arena_take(a, name, (b->shape.documents + 1) * word);
    b->h_label = rt_arena_take(a, name, m * word);
    b->h_offset = rt_arena_take(a, name, (m + 1) * word);
    b->h_head_n = rt_arena_take(a, name, m * word);
    b->h_index = rt_arena_take(a, name, m * word);
    b->h_id = rt_arena_take(a, name, b->items * word);
    b->h_hits = rt_arena_take(a, name, b->items * word);
    b->h_logp = rt_arena_take(a, name, b->items * word);
    b->h_weight = rt_arena_take(a, name, m * word);
    b->h_tail = rt_arena_take(a, name, m * word);
    b->h_entropy = rt_arena_take(a, name, m * word);
    b->h_logz = rt_arena_take(a, name, m * word);
    b->h_stats = rt_arena_take(a, name, b->shape.waiting * RT_LOSS_COLUMNS * word);
    b->h_soft = rt_arena_take(a, name, b->shape.waiting);
}

void rt_batch_plan(rt_batch *b, rt_dev *d, rt_arena *a, const rt_batch_shape *shape)
{
    static const char name[] = "targets";
    int64_t m = shape->head_rows;
    b->shape = *shape;
    b->items = rt_max(m * items_of_row(&shape->soft), 1);
    b->targets.label = rt_plan_1(a, name, RT_I32, m);
    b->targets.weight = rt_plan_1(a, name, RT_F32, m);
    b->targets.offset = rt_plan_1(a, name, RT_I32, m + 1);
    b->targets.head_n = rt_plan_1(a, name, RT_I32, m);
    b->targets.id = rt_plan_1(a, name, RT_I32, b->items);
    b->targets.logp = rt_plan_1(a, name, RT_F32, b->items);
    b->targets.hits = rt_plan_1(a, name, RT_I32, b->items);
    b->targets.tail = rt_plan_1(a, name, RT_F32, m);
    b->targets.entropy = rt_plan_1(a, name, RT_F32, m);
    b->targets.logz = rt_plan_1(a, name, RT_F32, m);
    b->stats = rt_plan_2(a, name, RT_F32, m, RT_LOSS_COLUMNS);
    if (a->base)
        return;
    rt_arena_init(&b->host, "host");
    plan_host(b);
    enum { PUTS = 10, ROW = 7, ITEM = 3 }; /* of a chunk; words of a row, of an item */
    rt_dev_need_puts(d, 4 * shape->waiting * (ROW + ITEM * items_of_row(&shape->soft)),
                     PUTS * rt_ceil_div(shape->waiting, m));
}

int rt_batch_open(rt_batch *b, rt_err *err)
{
    const rt_soft_config *c = &b->shape.soft;
    b->temperature_index = -1;
    for (int32_t i = 0; i < c->n_temperatures; i++)
        if (fabs((double)c->temperature[i] - b->shape.temperature) < 1e-6)
            b->temperature_index = i;
    if (b->shape.temperature != 1 && b->temperature_index < 0)
        return rt_fail(err,
                       "temperature %g: the archive kept no normaliser for it (sample or score it "
                       "again with --temperatures %g)",
                       b->shape.temperature, b->shape.temperature);
    if (rt_arena_place(&b->host, err))
        return -1;
    plan_host(b);
    return 0;
}

void rt_batch_close(rt_batch *b)
{
    rt_arena_free(&b->host);
    memset(b, 0, sizeof *b);
}

void rt_batch_clear(rt_batch *b) { b->n = b->s = b->n_loss = 0; }

bool rt_batch_fits(const rt_batch *b, int64_t tokens)
{
    return b->s < b->shape.documents && tokens <= b->shape.rows - b->n;
}

int64_t rt_document_learned(const rt_document *doc)
{
    int64_t n = 0;
    for (int32_t i = 0; i < doc->n_spans; i++)
        n += doc->span[i].end - rt_max(doc->span[i].begin, 1);
    return n;
}

void rt_batch_add(rt_batch *b, const rt_document *doc)
{
    if (!rt_batch_fits(b, doc->n))
        rt_bug("a document of %lld tokens does not fit the batch", (long long)doc->n);
    const rt_soft *soft = b->shape.soft.head_max ? rt_document_soft(doc) : NULL;
    int32_t span = 0; /* the first that ends behind the token after the row */
    b->offset[b->s++] = (int32_t)b->n;
    for (int64_t t = 0; t < doc->n; t++, b->n++) {
        b->token[b->n] = doc->token[t];
        b->pos[b->n] = (int32_t)t;
        while (span < doc->n_spans && doc->span[span].end <= t + 1)
            span++;
        if (span == doc->n_spans || doc->span[span].begin > t + 1)
            continue;
        int64_t row = t + 1 - doc->soft_first;
        bool has = soft && row >= 0 && row < soft->n;
        b->loss[b->n_loss++] = (rt_loss_row){ (int32_t)b->n, doc->token[t + 1], has ? soft : NULL,
                                              row };
    }
    b->offset[b->s] = (int32_t)b->n;
}

static void put(rt_dev *d, rt_tensor *t, const void *host, int64_t n)
{
    t->dim[0] = n;
    if (n)
        rt_put(d, t->data, host, n * 4);
}

int64_t rt_batch_chunk(rt_dev *d, rt_batch *b, int64_t first, const int32_t **index)
{
    int64_t n = rt_min(b->shape.head_rows, b->n_loss - first), at = 0;
    int32_t temps = b->shape.soft.n_temperatures;
    for (int64_t i = 0; i < n; i++) {
        const rt_loss_row *l = &b->loss[first + i];
        b->h_index[i] = l->row;
        b->h_label[i] = l->label;
        b->h_weight[i] = 1.0f;
        b->h_offset[i] = (int32_t)at;
        b->h_head_n[i] = 0;
        b->h_tail[i] = -INFINITY;
        b->h_entropy[i] = b->h_logz[i] = 0;
        if (!l->soft)
            continue;
        const rt_soft *s = l->soft;
        int64_t from = s->offset[l->soft_row], count = s->offset[l->soft_row + 1] - from;
        if (at + count > b->items)
            rt_bug("soft targets beyond the capture settings of their archive");
        memcpy(b->h_id + at, s->id + from, (size_t)count * 4);
        memcpy(b->h_logp + at, s->logp + from, (size_t)count * 4);
        memcpy(b->h_hits + at, s->hits + from, (size_t)count * 4);
        at += count;
        b->h_head_n[i] = s->head_n[l->soft_row];
        b->h_tail[i] = s->tail_logmass[l->soft_row];
        b->h_entropy[i] = s->entropy[l->soft_row];
        if (b->temperature_index >= 0)
            b->h_logz[i] = s->logz[l->soft_row * temps + b->temperature_index];
    }
    b->h_offset[n] = (int32_t)at;
    rt_targets *t = &b->targets;
    put(d, &t->label, b->h_label, n);
    put(d, &t->weight, b->h_weight, n);
    put(d, &t->offset, b->h_offset, n + 1);
    put(d, &t->head_n, b->h_head_n, n);
    put(d, &t->id, b->h_id, at);
    put(d, &t->logp, b->h_logp, at);
    put(d, &t->hits, b->h_hits, at);
    put(d, &t->tail, b->h_tail, n);
    put(d, &t->entropy, b->h_entropy, n);
    put(d, &t->logz, b->h_logz, n);
    b->stats.dim[0] = n;
    *index = b->h_index;
    return n;
}

bool rt_batch_has_room(const rt_batch *b) { return b->n_loss <= b->shape.waiting - b->kept; }

void rt_batch_keep(rt_dev *d, rt_batch *b, int64_t first, int64_t n)
{
    if (n > b->shape.waiting - b->kept)
        rt_bug("statistics of %lld loss rows beside %lld, planned for %lld", (long long)n,
               (long long)b->kept, (long long)b->shape.waiting);
    for (int64_t i = 0; i < n; i++)
        b->h_soft[b->kept + i] = b->loss[first + i].soft != NULL;
    rt_download(d, b->h_stats + b->kept * RT_LOSS_COLUMNS, b->stats.data,
                n * RT_LOSS_COLUMNS * (int64_t)sizeof *b->h_stats);
    b->kept += n;
}

void rt_batch_totals(rt_batch *b, rt_totals *t)
{
    for (int64_t i = 0; i < b->kept; i++) {
        for (int k = 0; k < RT_LOSS_COLUMNS; k++)
            if (k != RT_LOSS_KL || b->h_soft[i])
                t->sum[k] += (double)b->h_stats[i * RT_LOSS_COLUMNS + k];
        t->soft_rows += b->h_soft[i];
    }
    t->rows += b->kept;
    b->kept = 0;
}
