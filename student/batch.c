#include "student/batch.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "core/device/packed.h"

static int64_t items_of_row(const rt_soft_config *c)
{
    if (c->head_max == 0)
        return 0;
    return c->head_max + (c->tail_spacing > 0 ? (int64_t)ceilf(1 / c->tail_spacing) + 1 : 0);
}

/* The columns of the targets: those of the archive (soft.h) are copied, the rest is the batch's. A
   column more is its field in rt_targets (ops.h) and its line here. */
enum from { OWN, OWN_AND_END, ROW, TEMPERATURE, ITEM };

static const struct column {
    size_t target; /* rt_tensor of rt_targets */
    rt_dtype dtype;
    enum from from;
    size_t soft; /* array of rt_soft */
} columns[] = {
#define T(name) offsetof(rt_targets, name)
#define S(name) offsetof(rt_soft, name)
    { T(label), RT_I32, OWN, 0 },
    { T(weight), RT_F32, OWN, 0 },
    { T(offset), RT_I32, OWN_AND_END, 0 },
    { T(head_n), RT_I32, ROW, S(head_n) },
    { T(tail), RT_F32, OWN, 0 },
    { T(entropy), RT_F32, ROW, S(entropy) },
    { T(logz), RT_F32, TEMPERATURE, S(logz) },
    { T(old_logp), RT_F32, OWN, 0 },
    { T(advantage), RT_F32, OWN, 0 },
    { T(id), RT_I32, ITEM, S(id) },
    { T(logp), RT_F32, ITEM, S(logp) },
    { T(hits), RT_I32, ITEM, S(hits) },
#undef T
#undef S
};
enum { COLUMNS = RT_COUNT(columns), WORD = 4 };

/* The targets of m rows and so many items in the block at base; how long it is. */
static int64_t lay_out(rt_targets *t, int64_t m, int64_t items, uint8_t *base)
{
    rt_tensor *tensor[COLUMNS];
    for (int i = 0; i < COLUMNS; i++) {
        int64_t n = columns[i].from == ITEM ? items : m + (columns[i].from == OWN_AND_END);
        tensor[i] = (rt_tensor *)(void *)((uint8_t *)t + columns[i].target);
        *tensor[i] = rt_tensor_1(NULL, columns[i].dtype, n);
    }
    return rt_packed_layout(tensor, COLUMNS, base);
}

static void plan_host(void *ctx, rt_arena *a)
{
    static const char name[] = "batch";
    rt_batch *b = ctx;
    int64_t n = b->shape.rows, word = WORD;
    b->loss = rt_arena_take(a, name, n * (int64_t)sizeof *b->loss);
    b->token = rt_arena_take(a, name, n * word);
    b->pos = rt_arena_take(a, name, n * word);
    b->offset = rt_arena_take(a, name, (b->shape.documents + 1) * word);
    b->h_index = rt_arena_take(a, name, b->shape.head_rows * word);
    b->here = rt_arena_take(a, name, b->block);
    b->h_stats = rt_arena_take(a, name, b->shape.waiting * RT_LOSS_COLUMNS * word);
    b->h_soft = rt_arena_take(a, name, b->shape.waiting);
    b->h_weight = rt_arena_take(a, name, b->shape.waiting * word);
}

static void plan_device(void *ctx, rt_arena *a)
{
    static const char name[] = "targets";
    rt_batch *b = ctx;
    b->there = rt_arena_take(a, name, b->block);
    b->stats = rt_plan_2(a, name, RT_F32, b->shape.head_rows, RT_LOSS_COLUMNS);
}

void rt_batch_plan(rt_batch *b, rt_arenas *l, const rt_batch_shape *shape)
{
    const rt_soft_config *c = &shape->soft;
    memset(b, 0, sizeof *b);
    b->shape = *shape;
    b->items = rt_max(shape->head_rows * items_of_row(c), 1);
    b->block = lay_out(&b->targets, shape->head_rows, b->items, NULL);
    b->temperature_index = -1;
    for (int32_t i = 0; i < c->n_temperatures; i++)
        if (fabs((double)c->temperature[i] - shape->temperature) < 1e-6)
            b->temperature_index = i;
    rt_arenas_add(l, &b->device, "targets", RT_ON_DEVICE, plan_device, b);
    rt_arenas_add(l, &b->host, "host", RT_ON_HOST, plan_host, b);
}

int rt_batch_check(const rt_batch *b, rt_err *err)
{
    if (b->shape.temperature != 1 && b->temperature_index < 0)
        return rt_fail(err,
                       "temperature %g: the archive kept no normaliser for it (sample or score it "
                       "again with --temperatures %g)",
                       b->shape.temperature, b->shape.temperature);
    return 0;
}

void rt_batch_clear(rt_batch *b) { b->n = b->s = b->n_loss = 0; }

void rt_batch_fill(rt_batch *b)
{
    b->n = b->shape.rows;
    b->n_loss = rt_min(b->n, b->shape.waiting - b->kept);
    b->s = b->shape.documents;
}

bool rt_batch_fits(const rt_batch *b, int64_t tokens)
{
    return b->s < b->shape.documents && tokens <= b->shape.rows - b->n;
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
        float weight = doc->weight ? doc->weight[t + 1] : 1;
        if (weight == 0)
            continue;
        int64_t row = t + 1 - doc->soft_first;
        bool has = soft && row >= 0 && row < soft->n;
        b->loss[b->n_loss++] = (rt_loss_row){ .row = (int32_t)b->n,
                                              .label = doc->token[t + 1],
                                              .weight = weight,
                                              .old_logp = doc->advantage ? doc->old_logp[t + 1] : 0,
                                              .advantage = doc->advantage ? doc->advantage[t + 1] : 0,
                                              .soft = has ? soft : NULL,
                                              .soft_row = row };
    }
    b->offset[b->s] = (int32_t)b->n;
}

/* Row `row` of the archive's column, for row i of the chunk whose items begin at `at`. */
static void copy_column(const rt_batch *b, const struct column *c, int64_t i, int64_t at,
                        const rt_soft *s, int64_t row)
{
    const rt_tensor *t = (const rt_tensor *)(const void *)((const uint8_t *)&b->targets +
                                                           c->target);
    uint8_t *to = rt_packed_copy(t, b->there, b->here);
    const uint8_t *from;
    int64_t items = s->offset[row + 1] - s->offset[row], temps = b->shape.soft.n_temperatures;
    memcpy(&from, (const uint8_t *)s + c->soft, sizeof from);
    if (c->from == ITEM && items)
        memcpy(to + WORD * at, from + WORD * s->offset[row], (size_t)(WORD * items));
    else if (c->from == ROW)
        memcpy(to + WORD * i, from + WORD * row, WORD);
    else if (c->from == TEMPERATURE && b->temperature_index >= 0)
        memcpy(to + WORD * i, from + WORD * (row * temps + b->temperature_index), WORD);
}

/* Log mass outside the head at the batch's temperature, of which the archive keeps log Z alone, 5e-4
   wide: what is left of 1, and no less than at temperature 1 where T flattens, no more below 1. */
static float tail_of(const rt_batch *b, const rt_soft *s, int64_t row)
{
    int64_t temps = b->shape.soft.n_temperatures, first = s->offset[row];
    if (b->temperature_index < 0)
        return s->tail_logmass[row];
    double t = b->shape.temperature, log_z = (double)s->logz[row * temps + b->temperature_index];
    double left = 1, cold = exp((double)s->tail_logmass[row]);
    for (int64_t i = first; i < first + s->head_n[row]; i++)
        left -= exp((double)s->logp[i] / t - log_z);
    left = t > 1 ? fmax(left, cold) : fmin(left, cold);
    return left > 0 ? (float)log(left) : -INFINITY;
}

/* What row l has of its own, and its items from the first on. */
static int64_t items_of(const rt_loss_row *l)
{
    return l->soft ? l->soft->offset[l->soft_row + 1] - l->soft->offset[l->soft_row] : 0;
}

int64_t rt_batch_chunk(rt_dev *d, rt_batch *b, int64_t first, const int32_t **index)
{
    int64_t n = rt_min(b->shape.head_rows, b->n_loss - first), items = 0, at = 0;
    if (!b->loss) { /* planned, and not placed: a dry run */
        rt_put(d, NULL, NULL, lay_out(&b->targets, n, b->items, NULL));
        b->stats.dim[0] = n;
        *index = NULL;
        return n;
    }
    const rt_loss_row *row = b->loss + first;
    for (int64_t i = 0; i < n; i++)
        items += items_of(&row[i]);
    if (items > b->items)
        rt_bug("soft targets beyond the capture settings of their archive");
    rt_targets *t = &b->targets;
    int64_t bytes = lay_out(t, n, items, b->there);
    memset(b->here, 0, (size_t)bytes); /* of a row without soft target, too */
    int32_t *label = rt_packed_copy(&t->label, b->there, b->here);
    int32_t *offset = rt_packed_copy(&t->offset, b->there, b->here);
    float *weight = rt_packed_copy(&t->weight, b->there, b->here);
    float *tail = rt_packed_copy(&t->tail, b->there, b->here);
    float *old_logp = rt_packed_copy(&t->old_logp, b->there, b->here);
    float *advantage = rt_packed_copy(&t->advantage, b->there, b->here);
    for (int64_t i = 0; i < n; i++) {
        b->h_index[i] = row[i].row;
        label[i] = row[i].label;
        weight[i] = row[i].weight;
        old_logp[i] = row[i].old_logp;
        advantage[i] = row[i].advantage;
        offset[i] = (int32_t)at;
        tail[i] = row[i].soft ? tail_of(b, row[i].soft, row[i].soft_row) : 0;
        for (int k = 0; row[i].soft && k < COLUMNS; k++)
            copy_column(b, &columns[k], i, at, row[i].soft, row[i].soft_row);
        at += items_of(&row[i]);
    }
    offset[n] = (int32_t)at;
    rt_put(d, b->there, b->here, bytes);
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
    for (int64_t i = 0; b->loss && i < n; i++) {
        b->h_soft[b->kept + i] = b->loss[first + i].soft != NULL;
        b->h_weight[b->kept + i] = b->loss[first + i].weight;
    }
    if (b->loss)
        rt_download(d, b->h_stats + b->kept * RT_LOSS_COLUMNS, b->stats.data,
                    n * RT_LOSS_COLUMNS * (int64_t)sizeof *b->h_stats);
    b->kept += n;
}

/* Columns that only a row with a soft target has. */
static bool of_soft(int column) { return column == RT_LOSS_KL || column == RT_LOSS_AGREE; }

static void add_to_bin(rt_totals *t, const float *stats)
{
    double confidence = (double)stats[RT_LOSS_CONFIDENCE];
    if (!(confidence >= 0)) /* logits that are not finite: their sums say so */
        return;
    int64_t i = rt_min((int64_t)(confidence * RT_CONFIDENCE_BINS), RT_CONFIDENCE_BINS - 1);
    t->bin[i].rows++;
    t->bin[i].confidence += confidence;
    t->bin[i].correct += (double)stats[RT_LOSS_CORRECT];
}

void rt_batch_totals(rt_batch *b, rt_totals *t)
{
    for (int64_t i = 0; i < b->kept; i++) {
        const float *stats = b->h_stats + i * RT_LOSS_COLUMNS;
        double weight = (double)b->h_weight[i];
        for (int k = 0; k < RT_LOSS_COLUMNS; k++)
            if (!of_soft(k) || b->h_soft[i])
                t->sum[k] += (double)stats[k] * (k == RT_LOSS_TOTAL ? weight : 1);
        t->weight += weight;
        t->soft_rows += b->h_soft[i];
        add_to_bin(t, stats);
    }
    t->rows += b->kept;
    b->kept = 0;
}

double rt_totals_mean(const rt_totals *t, int column)
{
    double n = column == RT_LOSS_TOTAL ? t->weight
               : of_soft(column)       ? (double)t->soft_rows
                                       : (double)t->rows;
    return n > 0 ? t->sum[column] / n : 0;
}

double rt_totals_ece(const rt_totals *t)
{
    double apart = 0;
    for (int i = 0; i < RT_CONFIDENCE_BINS; i++)
        apart += fabs(t->bin[i].confidence - t->bin[i].correct);
    return t->rows ? apart / (double)t->rows : 0;
}
