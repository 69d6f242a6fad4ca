#include "student/windows.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/log.h"
#include "core/base/memory.h"
#include "core/network/finite.h"
#include "corpora/corpus.h"

void rt_windows_plan(rt_windows *w, rt_dev *d, const rt_model *m, int64_t window, int64_t head_rows,
                     int32_t bos)
{
    *w = (rt_windows){ .d = d, .m = m, .window = window, .bos = bos };
    w->head_rows = rt_min(head_rows, rt_kld_rows(window));
    rt_pass_shape shape = { .mode = RT_PLAN_SCORE,
                            .rows = window,
                            .segments = 1,
                            .longest = window,
                            .head_rows = w->head_rows };
    rt_acts_plan(&w->acts, &w->arenas, d, m, &shape);
}

int64_t rt_windows_host_bytes(const rt_windows *w)
{
    return (w->head_rows + 1) * w->m->cfg.vocab * (int64_t)sizeof(float);
}

int rt_windows_place(rt_windows *w, rt_err *err)
{
    w->logits = rt_alloc(w->head_rows * w->m->cfg.vocab, sizeof *w->logits, "logits");
    w->reference = rt_alloc(w->m->cfg.vocab, sizeof *w->reference, "log-probabilities");
    w->id = rt_alloc(w->window, sizeof *w->id, "tokens");
    w->pos = rt_alloc(w->window, sizeof *w->pos, "positions");
    for (int32_t i = 0; i < w->window; i++)
        w->pos[i] = i;
    return rt_arenas_place(&w->arenas, w->d, err) || rt_dev_ready(w->d, err) ? -1 : 0;
}

void rt_windows_free(rt_windows *w)
{
    rt_arenas_free(&w->arenas, w->d);
    rt_acts_free(&w->acts);
    free(w->logits);
    free(w->reference);
    free(w->id);
    free(w->pos);
    *w = (rt_windows){ 0 };
}

int rt_windows_tokens(rt_ids *ids, const rt_chat *chat, const rt_strlist *paths, int64_t limit,
                      rt_err *err)
{
    rt_corpus *c = NULL;
    rt_document doc = { 0 };
    rt_corpus_options o = { .chat = chat,
                            .max_length = INT32_MAX,
                            .limit = limit,
                            .verdicts = (1u << RT_VERDICT_COUNT) - 1 };
    int bad = rt_corpus_open(&c, (const char *const *)paths->item, paths->n, &o, err);
    for (int64_t i = 0; !bad && i < rt_corpus_count(c); i++) {
        bad = rt_corpus_get(c, i, &doc, err) || rt_ids_reserve(ids, doc.n, err);
        if (!bad)
            memcpy(ids->id + ids->n, doc.token, (size_t)doc.n * sizeof *ids->id);
        ids->n += bad ? 0 : doc.n;
    }
    rt_document_free(&doc);
    rt_corpus_close(c);
    return bad ? -1 : 0;
}

/* What is done with one row's logits (V). */
typedef int row_fn(void *ctx, int64_t window, int64_t row, const float *logits, rt_err *err);

static int head(rt_windows *w, int64_t first, int64_t n, rt_err *err)
{
    int32_t *index = rt_alloc(n, sizeof *index, "rows");
    int64_t v = w->m->cfg.vocab;
    for (int64_t i = 0; i < n; i++)
        index[i] = (int32_t)(w->window / 2 + first + i);
    rt_model_logits(w->d, w->m, &w->acts, index, n);
    rt_download(w->d, w->logits, w->acts.logits.data, n * v * (int64_t)sizeof *w->logits);
    int bad = rt_sync(w->d, err);
    for (int64_t i = 0; !bad && i < n * v; i++)
        if (!isfinite(w->logits[i]))
            bad = rt_finite_fail(w->d, w->m, &w->acts, err);
    free(index);
    return bad;
}

/* w->id through the model. */
static int run(rt_windows *w, int64_t window, row_fn *fn, void *ctx, rt_err *err)
{
    const int32_t offset[2] = { 0, (int32_t)w->window };
    int64_t rows = rt_kld_rows(w->window);
    if (w->bos >= 0)
        w->id[0] = w->bos;
    rt_acts_rows(&w->acts, w->window, 1, w->id, w->pos, offset, NULL);
    if (rt_model_pass(w->d, w->m, &w->acts, err))
        return -1;
    for (int64_t first = 0; first < rows; first += w->head_rows) {
        int64_t n = rt_min(w->head_rows, rows - first);
        if (rt_interrupted())
            return rt_fail_interrupted(err, "measuring", "windows");
        if (head(w, first, n, err))
            return -1;
        for (int64_t i = 0; i < n; i++)
            if (fn(ctx, window, first + i, w->logits + i * w->m->cfg.vocab, err))
                return -1;
    }
    return 0;
}

typedef struct writing {
    rt_out out;
    uint8_t *row;
    int64_t vocab;
} writing;

static int write_row(void *ctx, int64_t window, int64_t row, const float *logits, rt_err *err)
{
    writing *o = ctx;
    (void)window, (void)row;
    rt_kld_encode(o->row, logits, o->vocab);
    return rt_out_write(&o->out, o->row, rt_kld_row_bytes(o->vocab), err);
}

int rt_windows_write(rt_windows *w, const char *path, const int32_t *token, int64_t windows,
                     bool keep, rt_err *err)
{
    writing o = { .vocab = w->m->cfg.vocab };
    rt_progress p;
    if (rt_out_open(&o.out, path, err))
        return -1;
    o.out.keep = keep;
    o.row = rt_alloc(rt_kld_row_bytes(o.vocab), 1, "a row");
    int bad = rt_kld_begin(&o.out, w->window, o.vocab, windows, token, err);
    rt_progress_begin(&p, "windows", 0, windows);
    for (int64_t k = 0; k < windows && !bad; k++) {
        memcpy(w->id, token + k * w->window, (size_t)w->window * sizeof *w->id);
        bad = run(w, k, write_row, &o, err);
        rt_progress_update(&p, k + 1, "%s", path);
    }
    rt_progress_end(&p);
    bad = bad || rt_out_commit(&o.out, err);
    rt_out_abort(&o.out);
    free(o.row);
    return bad ? -1 : 0;
}

typedef struct comparing {
    rt_windows *w;
    const rt_kld *base;
    rt_divergence *out;
} comparing;

static int compare_row(void *ctx, int64_t window, int64_t row, const float *logits, rt_err *err)
{
    comparing *c = ctx;
    (void)err;
    rt_kld_row(c->base, window, row, c->w->reference);
    rt_divergence_row(c->out, c->w->reference, logits, c->base->vocab,
                      rt_kld_token(c->base, window, c->base->window / 2 + row + 1));
    return 0;
}

int rt_windows_compare(rt_windows *w, const rt_kld *base, rt_divergence *out, rt_err *err)
{
    comparing c = { w, base, out };
    rt_progress p;
    int bad = 0;
    rt_progress_begin(&p, "windows", 0, base->windows);
    for (int64_t k = 0; k < base->windows && !bad; k++) {
        for (int64_t i = 0; i < w->window; i++)
            w->id[i] = rt_kld_token(base, k, i);
        bad = run(w, k, compare_row, &c, err);
        rt_progress_update(&p, k + 1, "KL %.5f", out->n ? (double)out->kl[out->n - 1] : 0);
    }
    rt_progress_end(&p);
    return bad ? -1 : 0;
}
