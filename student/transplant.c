#include "student/transplant.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/memory.h"

enum { VOCAB_STEP = 64 }; /* as init.c's */

void rt_transplant_config(rt_config *cfg, const rt_config *from, const rt_chat *voice)
{
    *cfg = *from;
    cfg->vocab = rt_align_up(rt_tokenizer_vocab(voice->tokenizer), VOCAB_STEP);
    rt_chat_config(voice, cfg);
}

int rt_transplant_open(rt_transplant *t, rt_config *cfg, const char *from, const rt_chat *voice,
                       rt_err *err)
{
    memset(t, 0, sizeof *t);
    if (rt_model_config(&t->cfg, from, err) || rt_chat_open(&t->chat, from, err))
        return -1;
    if (t->cfg.family->names && t->cfg.family->names->interleaved)
        return rt_fail(err, "%s: fused experts of a %s model are not written", from,
                       t->cfg.family->model_type);
    if (t->cfg.vocab < rt_tokenizer_vocab(t->chat.tokenizer))
        return rt_fail(err, "%s: the tokenizer has %lld tokens, the model %lld: they do not belong "
                            "together",
                       from, (long long)rt_tokenizer_vocab(t->chat.tokenizer),
                       (long long)t->cfg.vocab);
    rt_model_init(&t->old, &t->cfg);
    if (rt_store_open(&t->store, from, err) ||
        rt_store_check(&t->store, &t->cfg, &t->old.w.params, err) ||
        rt_vocab_map_open(&t->map, voice, &t->chat, err))
        return -1;
    rt_transplant_config(cfg, &t->cfg, voice);
    return 0;
}

void rt_transplant_close(rt_transplant *t)
{
    rt_store_close(&t->store);
    rt_vocab_map_close(&t->map);
    rt_weights_free(NULL, &t->old.w);
    rt_chat_close(&t->chat);
    free(t->rows);
    free(t->mean);
    memset(t, 0, sizeof *t);
}

/* out (width) = the mean of n rows of the old table. */
static void mean_rows(const float *table, const int32_t *id, int64_t n, int64_t width, float *out)
{
    for (int64_t k = 0; k < width; k++) {
        double sum = 0;
        for (int64_t i = 0; i < n; i++)
            sum += (double)table[(id ? id[i] : i) * width + k];
        out[k] = (float)(sum / (double)n);
    }
}

/* The row of one token of the new vocabulary; pieces is scratch. */
static int make_row(rt_transplant *t, int32_t id, rt_ids *pieces, float *out, rt_err *err)
{
    const rt_pieces *from = &t->map.from;
    const int64_t width = t->cfg.width;
    const bool there = id < from->vocab && rt_tokenizer_token(from->tokenizer, id).data;
    rt_ids_clear(pieces);
    if (there && t->map.same[id] >= 0) {
        memcpy(out, t->rows + t->map.same[id] * width, (size_t)width * sizeof *out);
        t->kept++;
        return 0;
    }
    if (there && rt_tokenizer_type(from->tokenizer, id) != RT_TOKEN_CONTROL) {
        rt_str s = rt_pieces_bytes(from, id);
        if (rt_pieces_cut(&t->map.to, s.data, s.bytes, pieces, err))
            return -1;
    }
    if (pieces->n)
        mean_rows(t->rows, pieces->id, pieces->n, width, out);
    else
        memcpy(out, t->mean, (size_t)width * sizeof *out);
    t->made += pieces->n > 0;
    t->unknown += there && !pieces->n;
    return 0;
}

static int make_table(rt_transplant *t, const rt_param *old, int64_t vocab, float *host,
                      rt_err *err)
{
    const int64_t width = t->cfg.width;
    rt_ids pieces = { 0 };
    int bad = 0;
    if (!t->rows) {
        t->rows = rt_alloc(t->cfg.vocab * width, sizeof *t->rows, "rows of a vocabulary");
        t->mean = rt_alloc(width, sizeof *t->mean, "rows of a vocabulary");
    }
    if (rt_store_rows(&t->store, &t->cfg, old, t->rows, err))
        return -1;
    mean_rows(t->rows, NULL, rt_tokenizer_vocab(t->chat.tokenizer), width, t->mean);
    t->kept = t->made = t->unknown = 0;
    for (int64_t id = 0; id < vocab && !bad; id++)
        bad = make_row(t, (int32_t)id, &pieces, host + id * width, err);
    rt_ids_free(&pieces);
    return bad;
}

int rt_transplant_rows(rt_transplant *t, const rt_model *m, int i, float *host, rt_err *err)
{
    const rt_param *old = &t->old.w.params.item[i], *p = &m->w.params.item[i];
    if (p->slot == &m->w.embed || p->slot == &m->w.head)
        return make_table(t, old, m->cfg.vocab, host, err);
    return rt_store_rows(&t->store, &t->cfg, old, host, err);
}
