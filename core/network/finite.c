#include "core/network/finite.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/memory.h"
#include "core/network/stored.h"

enum { CHUNK_ELEMENTS = 1 << 20 };

static int refuse(const rt_model *m, const char *name, int layer, int64_t at, float value,
                  rt_err *err)
{
    char place[48] = "";
    if (layer >= 0)
        snprintf(place, sizeof place, " (layer %d)", layer);
    return rt_fail(err,
                   "%s%slogits are not finite: tensor %s%s holds %s at element %lld: the file is "
                   "damaged or its training diverged; take another copy or an earlier checkpoint",
                   m->path ? m->path : "", m->path ? ": " : "", name, place,
                   isnan(value) ? "NaN" : "infinity", (long long)at);
}

static int64_t find_bad(const float *x, int64_t n)
{
    int64_t i = 0;
    while (i < n && isfinite(x[i]))
        i++;
    return i;
}

/* One piece of a weight, as it lies in the checkpoint. */
static int check_stored(const rt_model *m, const rt_stored *t, int layer, float *host, rt_err *err)
{
    int64_t step = rt_max(1, CHUNK_ELEMENTS / rt_max(t->cols, 1));
    for (int64_t r = 0; r < t->rows; r += step) {
        int64_t n = rt_min(step, t->rows - r), bad;
        if (rt_stored_rows(t, host, r, n, err))
            return -1;
        if ((bad = find_bad(host, n * t->cols)) < n * t->cols)
            return refuse(m, t->name, layer, r * t->cols + bad, host[bad], err);
    }
    return 0;
}

static int check_checkpoint(const rt_model *m, float *host, rt_err *err)
{
    rt_store s;
    rt_stored t;
    int bad = 0;
    if (rt_store_open(&s, m->path, err))
        return -1;
    for (int i = 0; !bad && i < m->w.params.n; i++) {
        const rt_param *p = &m->w.params.item[i];
        for (int64_t e = 0; !bad && e < rt_store_pieces(p); e++)
            bad = rt_store_find(&s, &m->cfg, p, e, &t, err) ||
                  check_stored(m, &t, p->layer, host, err);
        if (m->visit) /* whose memory has a bound */
            rt_store_forget(&s);
    }
    rt_store_close(&s);
    return bad ? -1 : 0;
}

static int check_device(rt_dev *d, const rt_model *m, float *host, rt_err *err)
{
    const rt_params *list = rt_weights_learned(&m->w);
    for (int i = 0; i < list->n; i++) {
        const rt_param *p = &list->item[i];
        int64_t n = rt_tensor_elements(p->slot);
        for (int64_t at = 0; at < n; at += CHUNK_ELEMENTS) {
            int64_t part = rt_min(CHUNK_ELEMENTS, n - at), bad;
            if (rt_params_read(list, i, at, part, d, host, err))
                return -1;
            if ((bad = find_bad(host, part)) < part)
                return refuse(m, p->name, p->layer, at + bad, host[bad], err);
        }
    }
    return 0;
}

int rt_finite_weights(rt_dev *d, const rt_model *m, rt_err *err)
{
    int64_t most = CHUNK_ELEMENTS;
    for (int i = 0; i < m->w.params.n; i++) {
        const rt_tensor *t = m->w.params.item[i].slot;
        most = rt_max(most, t->dim[t->rank - 1]);
    }
    float *host = rt_alloc(most, sizeof *host, "rows of a weight");
    int bad = (m->frozen && check_checkpoint(m, host, err)) ||
              ((!m->frozen || m->w.adapters) && check_device(d, m, host, err));
    free(host);
    return bad ? -1 : 0;
}

int rt_finite_fail(rt_dev *d, const rt_model *m, rt_acts *a, rt_err *err)
{
    if (rt_finite_weights(d, m, err))
        return -1;
    int64_t layer = rt_model_overflow(d, m, a, err);
    if (layer < 0)
        return -1;
    const char *path = m->path ? m->path : "the model";
    if (layer < m->cfg.layers)
        return rt_fail(err,
                       "%s: logits are not finite although all weights are: the output of layer "
                       "%lld overflows f32",
                       path, (long long)layer);
    return rt_fail(
        err, "%s: logits are not finite although all weights are: the head overflows f32", path);
}
