#include "student/measure.h"

#include <math.h>
#include <string.h>

#include "core/base/log.h"
#include "core/network/finite.h"

enum { DOCUMENTS = 64 }; /* of a pass at most */

static void plan_there(void *ctx, rt_arena *a)
{
    rt_measure *ms = ctx;
    ms->kl = rt_plan_1(a, "reference", RT_F32, ms->batch.shape.head_rows);
    ms->agree = rt_plan_1(a, "reference", RT_F32, ms->batch.shape.head_rows);
    ms->base = rt_plan_2(a, "reference", RT_F32, ms->batch.shape.head_rows, RT_LOSS_COLUMNS);
}

static void plan_here(void *ctx, rt_arena *a)
{
    rt_measure *ms = ctx;
    int64_t bytes = ms->batch.shape.rows * (int64_t)sizeof *ms->h_kl;
    ms->docs = rt_arena_take(a, "documents", DOCUMENTS * (int64_t)sizeof *ms->docs);
    ms->index = rt_arena_take(a, "documents", DOCUMENTS * (int64_t)sizeof *ms->index);
    if (!ms->reference)
        return;
    ms->h_kl = rt_arena_take(a, "reference", bytes);
    ms->h_agree = rt_arena_take(a, "reference", bytes);
    ms->h_base = rt_arena_take(a, "reference", bytes * RT_LOSS_COLUMNS);
}

static int forward(rt_measure *ms, const rt_model *m, rt_acts *a, rt_err *err)
{
    const rt_batch *b = &ms->batch;
    rt_acts_rows(a, b->n, b->s, b->token, b->pos, b->offset, NULL);
    return rt_model_pass(ms->d, m, a, err);
}

static void compare(rt_measure *ms, const rt_loss_spec *spec, const int32_t *index, int64_t n)
{
    rt_model_logits(ms->d, ms->reference, &ms->reference_acts, index, n);
    ms->kl.dim[0] = ms->agree.dim[0] = ms->base.dim[0] = n;
    rt_kl_rows(ms->d, &ms->kl, &ms->agree, &ms->reference_acts.logits, &ms->acts->logits, ms->vocab);
    rt_loss(ms->d, &ms->base, &ms->reference_acts.logits, &ms->batch.targets, spec, ms->vocab, 1.0f, false);
    if (ms->h_kl) { /* else a dry run */
        rt_download(ms->d, ms->h_kl + ms->compared, ms->kl.data, n * 4);
        rt_download(ms->d, ms->h_agree + ms->compared, ms->agree.data, n * 4);
        rt_download(ms->d, ms->h_base + ms->compared * RT_LOSS_COLUMNS, ms->base.data,
                    n * RT_LOSS_COLUMNS * 4);
    }
    ms->compared += n;
}

/* What the device does for the documents gathered in the batch. */
static int send_pass(rt_measure *ms, rt_err *err)
{
    rt_batch *b = &ms->batch;
    const rt_loss_spec spec = { .ce = 1,
                                .temperature = 1,
                                .tail_spacing = b->shape.soft.tail_spacing };
    if (forward(ms, ms->m, ms->acts, err) ||
        (ms->reference && forward(ms, ms->reference, &ms->reference_acts, err)))
        return -1;
    for (int64_t first = 0; first < b->n_loss; first += b->shape.head_rows) {
        const int32_t *index;
        int64_t n = rt_batch_chunk(ms->d, b, first, &index);
        rt_model_logits(ms->d, ms->m, ms->acts, index, n);
        if (ms->reference)
            compare(ms, &spec, index, n);
        rt_loss(ms->d, &b->stats, &ms->acts->logits, &b->targets, &spec, ms->vocab, 1.0f, false);
        rt_batch_keep(ms->d, b, first, n);
    }
    return 0;
}

void rt_measure_plan(rt_measure *ms, rt_dev *d, const rt_model *m, const rt_model *reference,
                     int64_t vocab, const rt_batch_shape *shape, int64_t longest, rt_acts *lent)
{
    rt_err ignored;
    rt_batch_shape own = *shape;
    own.rows = rt_max(own.rows, longest);
    own.documents = lent ? rt_min(DOCUMENTS, lent->shape.segments) : DOCUMENTS;
    own.waiting = own.rows;
    rt_pass_shape pass = { .mode = RT_PLAN_SCORE,
                           .rows = own.rows,
                           .segments = DOCUMENTS,
                           .longest = longest,
                           .head_rows = own.head_rows };
    memset(ms, 0, sizeof *ms);
    ms->d = d;
    ms->m = m;
    ms->reference = reference;
    ms->vocab = vocab;
    ms->acts = lent ? lent : &ms->own;
    if (!lent)
        rt_acts_plan(&ms->own, &ms->arenas, d, m, &pass);
    rt_batch_plan(&ms->batch, &ms->arenas, &own);
    if (reference) {
        rt_acts_plan(&ms->reference_acts, &ms->arenas, d, reference, &pass);
        rt_arenas_add(&ms->arenas, &ms->there, "targets", RT_ON_DEVICE, plan_there, ms);
    }
    rt_arenas_add(&ms->arenas, &ms->here, "host", RT_ON_HOST, plan_here, ms);
    rt_dev_dry_begin(d);
    rt_batch_fill(&ms->batch);
    (void)send_pass(ms, &ignored); /* a dry run reads nothing */
    ms->cost = rt_dev_dry_end(d);
    rt_batch_clear(&ms->batch);
    ms->batch.kept = ms->compared = 0;
}

int rt_measure_place(rt_measure *ms, rt_err *err)
{
    return rt_arenas_place(&ms->arenas, ms->d, err);
}

void rt_measure_free(rt_measure *ms)
{
    for (int i = 0; ms->docs && i < DOCUMENTS; i++)
        rt_document_free(&ms->docs[i]);
    rt_arenas_free(&ms->arenas, ms->d);
    rt_acts_free(&ms->own);
    rt_acts_free(&ms->reference_acts);
    memset(ms, 0, sizeof *ms);
}

static int settle(rt_measure *ms, rt_measured *out, rt_err *err)
{
    if (rt_sync(ms->d, err))
        return -1;
    rt_batch_totals(&ms->batch, &out->totals);
    for (int64_t i = 0; i < ms->compared; i++) {
        out->kl += (double)ms->h_kl[i];
        if (ms->divergence)
            rt_divergence_add(ms->divergence, (double)ms->h_kl[i],
                              (double)ms->batch.h_stats[i * RT_LOSS_COLUMNS + RT_LOSS_CE],
                              (double)ms->h_base[i * RT_LOSS_COLUMNS + RT_LOSS_CE], ms->h_agree[i] > 0);
    }
    ms->compared = 0;
    return 0;
}

/* Every column of a row's statistics is NaN where its logits are not finite. */
static int check_finite(rt_measure *ms, const rt_measured *out, rt_err *err)
{
    if (!isfinite(out->totals.sum[RT_LOSS_LSE]))
        return rt_finite_fail(ms->d, ms->m, ms->acts, err);
    if (!isfinite(out->kl))
        return rt_finite_fail(ms->d, ms->reference, &ms->reference_acts, err);
    return 0;
}

/* Each document of the pass that is over, to who watches. */
static int tell(const rt_measure *ms, rt_err *err)
{
    const rt_batch *b = &ms->batch;
    int64_t at = 0;
    int bad = 0;
    for (int64_t k = 0; ms->watch && k < b->s && !bad; k++) {
        rt_measured_document m = { .index = ms->index[k],
                                   .doc = &ms->docs[k],
                                   .row = b->loss + at,
                                   .first = b->offset[k],
                                   .stats = b->h_stats + at * RT_LOSS_COLUMNS,
                                   .kl = ms->reference ? ms->h_kl + at : NULL };
        while (at < b->n_loss && b->loss[at].row < b->offset[k + 1])
            at++, m.n++;
        bad = ms->watch(ms->watch_ctx, &m, err);
    }
    return bad;
}

/* p: the command's own measure, which may be interrupted; done: documents with this pass. */
static int run_pass(rt_measure *ms, rt_measured *out, rt_progress *p, int64_t done, rt_err *err)
{
    if (send_pass(ms, err) || settle(ms, out, err) || check_finite(ms, out, err) || tell(ms, err))
        return -1;
    rt_batch_clear(&ms->batch);
    if (p && rt_interrupted())
        return rt_fail_interrupted(err, "measuring", p->label);
    if (p)
        rt_progress_update(p, done, "cross-entropy %.4f",
                           out->totals.sum[RT_LOSS_CE] / (double)rt_max(1, out->totals.rows));
    return 0;
}

/* which NULL: the first n. */
static int run(rt_measure *ms, const rt_corpus *c, const int64_t *which, int64_t n, rt_progress *p,
               rt_measured *out, rt_err *err)
{
    int64_t held = 0;
    memset(out, 0, sizeof *out);
    rt_batch_clear(&ms->batch);
    for (int64_t k = 0; k < n; k++) {
        int64_t i = which ? which[k] : k;
        if (!rt_batch_fits(&ms->batch, rt_corpus_length(c, i))) {
            if (run_pass(ms, out, p, k, err))
                return -1;
            held = 0;
        }
        rt_document *doc = &ms->docs[held];
        ms->index[held++] = i;
        if (rt_corpus_get(c, i, doc, err))
            return -1;
        rt_batch_add(&ms->batch, doc);
    }
    return ms->batch.n && run_pass(ms, out, p, n, err) ? -1 : 0;
}

int rt_measure_run(rt_measure *ms, const rt_corpus *c, int64_t limit, const char *label,
                   rt_measured *out, rt_err *err)
{
    int64_t n = rt_corpus_count(c);
    rt_progress p;
    if (limit && limit < n)
        n = limit;
    if (label)
        rt_progress_begin(&p, label, 0, n);
    if (run(ms, c, NULL, n, label ? &p : NULL, out, err))
        return -1;
    if (label)
        rt_progress_end(&p);
    return 0;
}

int rt_measure_these(rt_measure *ms, const rt_corpus *c, const int64_t *which, int64_t n,
                     rt_measured *out, rt_err *err)
{
    return run(ms, c, which, n, NULL, out, err);
}
