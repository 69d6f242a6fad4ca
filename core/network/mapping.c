#include "core/network/mapping.h"

#include <stdlib.h>

#include "core/base/memory.h"

enum { PACKED_PARAMETERS = 1 << 28 /* a GiB of f32 */ };

void rt_mapping_close(rt_mapping *x)
{
    for (int i = 0; x && i < x->n; i++) {
        free(x->piece[i]);
        free(x->stored[i]);
        if (x->where)
            free(x->where[i]);
    }
    if (x) {
        rt_spans_free(&x->spans);
        free(x->where);
        free(x->piece);
        free(x->stored);
        rt_store_close(&x->store);
    }
    free(x);
}

/* Products read any piece; a gather of rows wants them dense. f32 of a small model is packed: its
   products of few rows take half the time. Of a streamed embedding that is no head too, rows are
   decoded on the host. */
static bool may_stay(const rt_mapping *x, const rt_param *p, const rt_piece *piece)
{
    bool product = (p->flags & RT_PARAM_PRODUCT) != 0,
         rows = (p->flags & RT_PARAM_RAW) && p->layer < 0;
    bool plain = rt_dtype_get(piece->dtype)->block == 1; /* of those a gather reads whole words */
    bool whole = piece->code == RT_CODE_ROWS && piece->step == 1 && !piece->pair && !piece->first &&
                 !piece->transposed;
    bool dense = whole && !(plain && (uintptr_t)piece->data % 4);
    if (x->streamed && rows && !product)
        return whole;
    return (rows ? dense : product) && !(product && piece->dtype == RT_F32 && x->packs_f32);
}

static void map_param(rt_mapping *x, const rt_config *cfg, const rt_param *p, int i)
{
    int64_t n = rt_store_pieces(p), bytes = 0;
    rt_piece *piece = rt_alloc(n, sizeof *piece, "places of weights");
    rt_stored *stored = rt_alloc(n, sizeof *stored, "places of weights");
    rt_err ignored; /* what is missing is said when it is read */
    for (int64_t e = 0; e < n; e++) {
        bool found = rt_store_find(&x->store, cfg, p, e, &stored[e], &ignored) == 0;
        if (found)
            piece[e] = rt_stored_piece(&stored[e]);
        if (!found || !may_stay(x, p, &piece[e])) {
            free(piece);
            free(stored);
            return;
        }
        bytes += rt_piece_bytes(&piece[e], stored[e].rows, stored[e].cols);
    }
    x->piece[i] = piece;
    x->stored[i] = stored;
    x->bytes += bytes;
}

/* Weights of a device that cannot read files: which bytes they need there. */
static void list_spans(rt_mapping *x, const rt_params *list)
{
    x->where = rt_alloc(rt_max(list->n, 1), sizeof(rt_piece *), "places of weights");
    for (int i = 0; i < x->n; i++)
        for (int64_t e = 0; x->piece[i] && e < rt_store_pieces(&list->item[i]); e++) {
            const rt_piece *p = &x->piece[i][e];
            rt_extent data = rt_piece_data(p, x->stored[i][e].rows);
            rt_extent scales = rt_piece_scales(p, x->stored[i][e].rows);
            rt_spans_add(&x->spans, p->data + data.first, data.n);
            if (scales.n)
                rt_spans_add(&x->spans, p->scale + scales.first, scales.n);
        }
    rt_spans_settle(&x->spans);
}

/* The same rows at the same distances, so that only the beginnings move. */
const rt_piece *rt_mapping_on_device(rt_mapping *x, int i, int64_t n)
{
    if (!x->where[i])
        x->where[i] = rt_alloc(n, sizeof(rt_piece), "places of weights");
    for (int64_t e = 0; e < n; e++) {
        const rt_piece *p = &x->piece[i][e];
        rt_extent data = rt_piece_data(p, x->stored[i][e].rows);
        rt_extent scales = rt_piece_scales(p, x->stored[i][e].rows);
        rt_piece *to = &x->where[i][e];
        *to = *p;
        to->data = rt_spans_find(&x->spans, p->data + data.first);
        if (to->data)
            to->data -= data.first;
        if (!scales.n)
            continue;
        to->scale = rt_spans_find(&x->spans, p->scale + scales.first);
        if (to->scale)
            to->scale -= scales.first;
    }
    return x->where[i];
}

rt_mapping *rt_mapping_open(const rt_config *cfg, const rt_params *list, const char *path,
                            bool streamed, bool packs_f32, bool maps_files)
{
    rt_err ignored;
    rt_mapping *x = rt_alloc(1, sizeof *x, "a checkpoint");
    if (rt_store_open(&x->store, path, &ignored)) {
        free(x);
        return NULL;
    }
    x->streamed = streamed;
    x->packs_f32 = packs_f32 && !streamed && list->total <= PACKED_PARAMETERS;
    x->n = list->n;
    x->piece = rt_alloc(rt_max(list->n, 1), sizeof(rt_piece *), "places of weights");
    x->stored = rt_alloc(rt_max(list->n, 1), sizeof(rt_stored *), "places of weights");
    for (int i = 0; i < list->n; i++)
        map_param(x, cfg, &list->item[i], i);
    if (!maps_files && !streamed)
        list_spans(x, list);
    return x;
}
