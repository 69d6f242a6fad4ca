#include "core/network/weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "core/base/identity.h"
#include "core/base/log.h"
#include "core/base/memory.h"
#include "core/formats/kind.h"
#include "core/network/adapter_file.h"
#include "core/network/mapping.h"

void rt_model_init(rt_model *m, const rt_config *cfg)
{
    memset(m, 0, sizeof *m);
    m->cfg = *cfg;
    rt_weights_init(&m->w, &m->cfg);
}

/* ---- placing ------------------------------------------------------------------------------------
 */

int64_t rt_model_mapped(const rt_model *m)
{
    return m->mapping && !m->mapping->where ? m->mapping->bytes : 0;
}

void rt_model_free(rt_dev *d, rt_model *m)
{
    rt_arenas_free(&m->arenas, d);
    rt_weights_free(d, &m->w);
    rt_mapping_close(m->mapping);
    free(m->path);
    memset(m, 0, sizeof *m);
}

/* Frozen weights: where they lie, or panels for products and rows for what else reads them. */
static void plan_frozen(void *ctx, rt_arena *a)
{
    rt_model *m = ctx;
    struct rt_mapping *x = m->mapping;
    if (x && x->where)
        rt_spans_plan(&x->spans, a);
    for (int i = 0; i < m->w.params.n; i++) {
        const rt_param *p = &m->w.params.item[i];
        rt_tensor *t = p->slot;
        const rt_piece *piece = x ? x->piece[i] : NULL;
        if (piece && x->where)
            piece = rt_mapping_on_device(x, i, rt_store_pieces(p));
        bool product = (p->flags & RT_PARAM_PRODUCT) != 0, rows = (p->flags & RT_PARAM_RAW) != 0;
        t->data = NULL;
        t->panels = NULL;
        t->piece = piece;
        if (piece && rows && p->layer < 0) { /* dense: a tensor like any other */
            t->piece = NULL;
            t->dtype = piece->dtype;
            t->data = (void *)(uintptr_t)piece->data; /* never written: frozen */
        }
        if (piece && product && !x->streamed && !m->exact && rt_dev_get(m->d).int8 &&
            rt_panels_bytes(m->d, t)) /* beside what lies in the file */
            t->panels = rt_arena_take(a, "weights.int8", rt_panels_bytes(m->d, t));
        if (piece)
            continue;
        if (!product || rows || m->w.adapters)
            t->data = rt_arena_take(a, "weights", rt_tensor_bytes(t));
        if (product && !m->w.adapters) /* their gradients go through rows */
            t->panels = rt_arena_take(a, "weights.panels", rt_panels_bytes(m->d, t));
    }
}

static void plan_rope(void *ctx, rt_arena *a)
{
    rt_model *m = ctx;
    m->rope = rt_plan_2(a, "rope", RT_F32, m->rope.dim[0], rt_config_rope_dim(&m->cfg));
}

int rt_model_place(rt_model *m, rt_err *err)
{
    if (rt_arenas_place(&m->arenas, m->d, err))
        return -1;
    int64_t bytes = rt_tensor_bytes(&m->rope);
    float *host = rt_alloc(bytes, 1, "a rope table");
    rt_config_rope_table(&m->cfg, host, m->rope.dim[0]);
    rt_upload(m->d, m->rope.data, host, bytes);
    int bad = rt_sync(m->d, err);
    free(host);
    return bad;
}

/* Where retort's own checksums say what the bytes were, they are read now, once for as long as the
   file system says that the files are the same; those of other programs are read when they are
   used. */
static int check_mapped(const rt_model *m, const char *path, rt_err *err)
{
    static const char KIND[] =
        "tensors"; /* of the cache: the value says no more than that it is there */
    struct rt_mapping *x = m->mapping;
    rt_identity_mark before, after;
    rt_hash whole = rt_hash_bytes(KIND, sizeof KIND), known;
    rt_progress progress;
    int64_t done = 0;
    if (!rt_store_summed(&x->store))
        return 0;
    if (rt_identity_mark_of(&before, path, err))
        return -1;
    if (rt_identity_recall(&known, &before, KIND) && !strcmp(known.hex, whole.hex))
        return 0;
    rt_progress_begin(&progress, "checking, MiB", 0, x->bytes >> 20);
    for (int i = 0; i < x->n; i++)
        for (int64_t e = 0; x->piece[i] && e < rt_store_pieces(&m->w.params.item[i]); e++) {
            if (rt_interrupted())
                return rt_fail_interrupted(err, "checking", path);
            if (rt_stored_check(&x->stored[i][e], err))
                return -1;
            if (x->streamed)
                rt_store_forget(&x->store);
            done += rt_piece_bytes(&x->piece[i][e], x->stored[i][e].rows, x->stored[i][e].cols);
            if (x->bytes > (int64_t)256 << 20)
                rt_progress_update(&progress, done >> 20, "%s", m->w.params.item[i].name);
        }
    rt_progress_end(&progress);
    if (rt_identity_mark_of(&after, path, err))
        return -1;
    if (!strcmp(before.stat.hex, after.stat.hex))
        rt_identity_keep(&whole, &before, KIND);
    return 0;
}

int64_t rt_model_reading(const rt_model *m)
{
    int64_t most = 0;
    for (int i = 0; i < m->w.params.n; i++)
        if (!m->mapping || !m->mapping->piece[i])
            most = rt_max(most, rt_tensor_elements(m->w.params.item[i].slot) *
                                    (int64_t)sizeof(float));
    return most;
}

static int read_all(rt_model *m, rt_dev *d, rt_store *s, rt_err *err)
{
    const struct rt_mapping *x = m->mapping;
    int64_t most = rt_model_reading(m);
    float *host = rt_alloc(most, 1, "a tensor");
    void *staging = rt_dev_alloc(d, most);
    int bad = staging ? 0 : rt_fail_memory(err, most, s->path);
    for (int i = 0; !bad && i < m->w.params.n; i++) {
        const rt_param *p = &m->w.params.item[i];
        if (x && x->piece[i]) {
            if (p->slot->panels)
                rt_pack_weight(d, (void *)(uintptr_t)p->slot->panels, p->slot);
            continue;
        }
        int64_t bytes = rt_tensor_bytes(p->slot);
        bad = rt_interrupted() ? rt_fail_interrupted(err, "reading", s->path)
                               : rt_store_rows(s, &m->cfg, p, host, err);
        if (!bad && p->slot->data)
            bad = rt_params_write(&m->w.params, i, d, host, err);
        if (!bad && p->slot->panels) {
            rt_tensor rows = *p->slot;
            rows.data = staging;
            rows.panels = NULL;
            rt_upload(d, staging, host, bytes);
            rt_pack_weight(d, (void *)(uintptr_t)p->slot->panels, &rows);
        }
        bad = bad || rt_sync(d, err); /* host is filled again */
    }
    rt_dev_release(d, staging);
    free(host);
    return bad ? -1 : 0;
}

/* Whether two matrices of one shape hold the same numbers. */
static int compare_rows(const rt_stored *a, const rt_stored *b, bool *same, rt_err *err)
{
    float *x = rt_alloc(2 * a->cols, sizeof *x, "two rows of the head");
    int bad = 0;
    *same = true;
    for (int64_t r = 0; !bad && *same && r < a->rows; r++) {
        bad = rt_stored_rows(a, x, r, 1, err) || rt_stored_rows(b, x + a->cols, r, 1, err);
        *same = !bad && memcmp(x, x + a->cols, (size_t)a->cols * sizeof *x) == 0;
    }
    free(x);
    return bad;
}

/* Where a checkpoint that says its head is tied holds a head of its own, the numbers decide: a head
   equal to the embedding is tied, another one is used (transformers 5 does so too). */
static int settle_head(rt_config *cfg, const char *dir, rt_err *err)
{
    rt_store s;
    rt_model own;
    rt_stored embed, head;
    rt_err ignored = { 0 }; /* without weights there is nothing to settle: reading them will say */
    if (!cfg->tied || rt_store_open(&s, dir, &ignored))
        return 0;
    int bad = 0;
    if (rt_safetensors_find(&s.st, "lm_head.weight")) {
        cfg->tied = false;
        rt_model_init(&own, cfg);
        const rt_params *list = &own.w.params;
        bad = rt_store_find(&s, cfg, &list->item[0], 0, &embed, err) ||
              rt_store_find(&s, cfg, &list->item[list->n - 1], 0, &head, err) ||
              compare_rows(&embed, &head, &cfg->tied, err);
        rt_weights_free(NULL, &own.w);
    }
    rt_store_close(&s);
    return bad ? -1 : 0;
}

int rt_model_config(rt_config *cfg, const char *path, rt_err *err)
{
    bool gguf = rt_gguf_is(path);
    if (!gguf && !rt_path_is_dir(path))
        return rt_kind_fail(path, "a model", "give a Hugging Face directory or a .gguf file", err);
    if (!gguf) {
        char *config = rt_path_join(path, "config.json");
        bool there = rt_path_exists(config);
        free(config);
        if (!there && rt_adapter_is(path))
            return rt_fail(err, "%s: an adapter, not a model: retort merge-adapter makes one of it and "
                                "its base",
                           path);
        if (!there)
            return rt_kind_fail(path, "a model", "it has no config.json", err);
        return rt_config_load(cfg, path, err) || settle_head(cfg, path, err) ? -1 : 0;
    }
    rt_gguf g;
    if (rt_gguf_open(&g, path, err))
        return -1;
    int bad = rt_config_gguf(cfg, &g, err);
    rt_gguf_close(&g);
    return bad;
}

/* Of a model whose weights, and adapters where it has some, are registered. */
static void plan_memory(rt_model *m, rt_dev *d, const char *path, bool frozen, bool streamed,
                        int64_t positions)
{
    m->d = d;
    m->frozen = frozen;
    m->path = path ? rt_strdup(path) : NULL;
    if (frozen && path)
        m->mapping = rt_mapping_open(&m->cfg, &m->w.params, m->path, streamed, !m->w.adapters,
                                     rt_dev_get(d).maps_files);
    m->rope.dim[0] = positions;
    rt_arenas_add(&m->arenas, &m->w.arena, "weights", frozen ? RT_ON_DEVICE : m->w.params.where,
                  frozen ? plan_frozen : rt_params_plan, frozen ? (void *)m : &m->w.params);
    rt_arenas_add(&m->arenas, &m->rope_arena, "rope", RT_ON_DEVICE, plan_rope, m);
}

void rt_model_plan_config(rt_model *m, rt_dev *d, const rt_config *cfg, const char *path,
                          bool frozen, int64_t positions)
{
    rt_model_init(m, cfg);
    plan_memory(m, d, path, frozen, false, positions);
}

void rt_model_plan_learned(rt_model *m, rt_dev *d, const rt_config *cfg, const rt_placing *how,
                           int64_t positions)
{
    rt_model_init(m, cfg);
    m->w.params.form = how->form;
    m->w.params.where = how->where;
    m->w.params.in_turns = how->in_turns;
    plan_memory(m, d, NULL, false, false, positions);
}

void rt_model_plan_streamed(rt_model *m, rt_dev *d, const rt_config *cfg, const char *path,
                            int64_t positions)
{
    rt_model_init(m, cfg);
    plan_memory(m, d, path, true, true, positions);
}

int rt_model_plan(rt_model *m, rt_dev *d, const char *path, bool frozen, int64_t positions,
                  rt_err *err)
{
    rt_config cfg;
    memset(m, 0, sizeof *m);
    if (rt_model_config(&cfg, path, err))
        return -1;
    rt_model_plan_config(m, d, &cfg, path, frozen, positions);
    return 0;
}

int rt_model_plan_adapted(rt_model *m, rt_dev *d, const char *path, const rt_adapter_spec *spec,
                          int64_t positions, rt_err *err)
{
    rt_config cfg;
    memset(m, 0, sizeof *m);
    if (rt_model_config(&cfg, path, err))
        return -1;
    rt_model_init(m, &cfg);
    if (rt_adapters_new(&m->w.adapters, &m->w.params, spec, err)) {
        rt_model_free(d, m);
        return -1;
    }
    plan_memory(m, d, path, true, false, positions);
    return 0;
}

int rt_model_read(rt_model *m, rt_dev *d, const char *path, rt_err *err)
{
    rt_store own = { 0 };
    rt_store *s = m->mapping ? &m->mapping->store : &own;
    if (!m->mapping && rt_store_open(s, path, err))
        return -1;
    int bad = rt_store_check(s, &m->cfg, &m->w.params, err) ||
              (m->mapping && check_mapped(m, path, err)) || rt_model_place(m, err) ||
              (m->mapping && m->mapping->where && rt_spans_upload(&m->mapping->spans, d, err)) ||
              read_all(m, d, s, err);
    m->file_bytes = rt_store_file_bytes(s);
    if (m->mapping && (m->mapping->streamed || rt_dev_get(d).int8)) /* or packed, most of it */
        rt_store_forget(s);
    rt_store_close(&own);
    if (!m->path)
        m->path = rt_strdup(path);
    return bad ? -1 : 0;
}

int rt_model_open(rt_model *m, rt_dev *d, const char *path, bool frozen, int64_t positions,
                  rt_err *err)
{
    if (rt_model_plan(m, d, path, frozen, positions, err))
        return -1;
    if (rt_model_read(m, d, path, err) == 0)
        return 0;
    rt_model_free(d, m);
    return -1;
}

typedef struct hashing {
    rt_progress progress;
    int64_t done, total;
    uint64_t sum[2];
    rt_hasher hasher;
} hashing;

/* The disk is asked for the next block while this one is hashed; one that is done is given back, so
   that a checkpoint of any size is read in little memory. */
static int hash_data(hashing *h, const char *name, const uint8_t *data, int64_t bytes, rt_err *err)
{
    const int64_t BLOCK = 16 << 20;
    const uintptr_t page = 4095;
    rt_hasher_begin64(&h->hasher, h->sum[0]);
    for (int64_t at = 0, n; at < bytes; at += n) {
        n = rt_min(BLOCK, bytes - at);
        if (at + n < bytes)
            posix_madvise((void *)((uintptr_t)(data + at + n) & ~page),
                          (size_t)rt_min(BLOCK, bytes - at - n), POSIX_MADV_WILLNEED);
        rt_hasher_add64(&h->hasher, data + at, n);
        rt_map_forget(data + at, n);
        h->done += n;
        if (h->total > (int64_t)256 << 20)
            rt_progress_update(&h->progress, h->done >> 20, "%s", name);
        if (rt_interrupted())
            return rt_fail_interrupted(err, "reading", "the weights");
    }
    h->sum[0] = rt_hasher_end64(&h->hasher);
    return 0;
}

static int hash_tensor(hashing *h, const char *name, const int64_t *dim, int rank_max,
                       const uint8_t *data, int64_t bytes, rt_err *err)
{
    h->sum[0] = rt_hash64(name, (int64_t)strlen(name), h->sum[0]);
    h->sum[0] = rt_hash64(dim, rank_max * (int64_t)sizeof *dim, h->sum[0]);
    if (hash_data(h, name, data, bytes, err))
        return -1;
    h->sum[1] = rt_hash64(&h->sum[0], (int64_t)sizeof h->sum[0], h->sum[1]);
    return 0;
}

static int hash_parts(rt_hash *hash, const rt_store *s, rt_err *err)
{
    hashing h = { .sum = { 1, 2 } };
    int bad = 0;
    for (int64_t i = 0; i < s->st.n_tensors; i++)
        h.total += s->st.tensor[i].bytes;
    for (int64_t i = 0; i < s->gguf.n_tensors; i++)
        h.total += s->gguf.tensor[i].bytes;
    rt_progress_begin(&h.progress, "reading, MiB", 0, h.total >> 20);
    for (int64_t i = 0; !bad && i < s->st.n_tensors; i++) {
        const rt_st_tensor *t = &s->st.tensor[i];
        bad = hash_tensor(&h, t->name, t->dim, RT_ST_RANK_MAX, t->data, t->bytes, err);
    }
    for (int64_t i = 0; !bad && i < s->gguf.n_tensors; i++) {
        const rt_gguf_tensor *t = &s->gguf.tensor[s->gguf.by_tensor[i]];
        bad = hash_tensor(&h, t->name, t->dim, RT_COUNT(t->dim), t->data, t->bytes, err);
    }
    rt_hasher_free(&h.hasher);
    rt_progress_end(&h.progress);
    snprintf(hash->hex, sizeof hash->hex, "%016llx%016llx", (unsigned long long)h.sum[1],
             (unsigned long long)h.sum[0]);
    return bad ? -1 : 0;
}

/* One GGUF is its file; anything in parts its tensors, ascending by name, so that how they are
   distributed does not matter. */
static int hash_model(rt_hash *hash, int64_t *bytes, const char *path, rt_err *err)
{
    rt_store s;
    rt_identity id;
    if (rt_store_open(&s, path, err))
        return -1;
    int bad;
    if (s.is_gguf && !s.gguf.n_more) {
        bad = rt_identity_of(&id, s.gguf.path, RT_IDENTITY_READ, NULL, err);
        *hash = id.hash;
    } else {
        bad = hash_parts(hash, &s, err);
    }
    *bytes = rt_store_file_bytes(&s);
    rt_store_close(&s);
    return bad ? -1 : 0;
}

int rt_model_hash(rt_hash *hash, const char *path, rt_err *err)
{
    int64_t bytes;
    return hash_model(hash, &bytes, path, err);
}

int rt_model_identity(rt_hash *hash, int64_t *read, const char *path, rt_err *err)
{
    rt_identity_mark before, after;
    *read = 0;
    if (rt_identity_mark_of(&before, path, err))
        return -1;
    if (rt_identity_recall(hash, &before, "weights"))
        return 0;
    if (hash_model(hash, read, path, err) || rt_identity_mark_of(&after, path, err))
        return -1;
    if (!strcmp(before.stat.hex, after.stat.hex))
        rt_identity_keep(hash, &before, "weights");
    return 0;
}

/* ---- writing ------------------------------------------------------------------------------------
 */

static rt_dtype stored_dtype(const rt_param *p, rt_dtype dtype)
{
    return p->flags & RT_PARAM_FIXED ? RT_F32 : dtype;
}

static void declare(rt_safetensors_writer *w, const rt_param *p, rt_dtype dtype)
{
    char name[160];
    if (!p->experts) {
        rt_safetensors_writer_add(w, p->name, dtype, p->slot->rank, p->slot->dim);
        return;
    }
    for (int64_t e = 0; e < p->experts; e++) {
        rt_param_expert_name(p, e, name, sizeof name);
        rt_safetensors_writer_add(w, name, dtype, 2, p->slot->dim + 1);
    }
}

static void declare_all(rt_safetensors_writer *w, const rt_model *m, const char *dir,
                        rt_dtype dtype)
{
    const rt_params *list = &m->w.params;
    rt_safetensors_writer_init(w, dir, (int64_t)4 << 30);
    for (int i = 0; i < list->n; i++)
        declare(w, &list->item[i], stored_dtype(&list->item[i], dtype));
}

int64_t rt_model_save_bytes(const rt_model *m, rt_dtype dtype)
{
    rt_safetensors_writer w;
    declare_all(&w, m, "planned", dtype);
    int64_t bytes = rt_safetensors_writer_bytes(&w);
    rt_safetensors_writer_abort(&w);
    return bytes;
}

static int save_weights(const rt_model *m, const char *dir, rt_dtype dtype, rt_weight_rows *rows,
                        void *ctx, rt_err *err)
{
    rt_safetensors_writer w;
    const rt_params *list = &m->w.params;
    int64_t most = 0;
    declare_all(&w, m, dir, dtype);
    for (int i = 0; i < list->n; i++)
        most = rt_max(most, rt_tensor_elements(list->item[i].slot) * (int64_t)sizeof(float));
    float *host = rt_alloc(most, 1, "a tensor");
    void *out = rt_alloc(most, 1, "a tensor");
    int bad = rt_safetensors_writer_begin(&w, err);
    for (int i = 0; !bad && i < list->n; i++) {
        rt_dtype as = stored_dtype(&list->item[i], dtype);
        int64_t n = rt_tensor_elements(list->item[i].slot);
        bad = rt_interrupted() ? rt_fail_interrupted(err, "writing", dir) : rows(ctx, i, host, err);
        if (!bad)
            rt_encode_f32(out, host, n, as);
        bad = bad || rt_safetensors_writer_push(&w, out, rt_dtype_bytes(as, n), err);
    }
    free(host);
    free(out);
    if (bad)
        rt_safetensors_writer_abort(&w);
    return bad ? -1 : rt_safetensors_writer_commit(&w, err);
}

static int save_generation_config(const rt_config *c, const char *dir, rt_err *err)
{
    cJSON *json = rt_json_object(), *full = rt_config_json(c, "float32");
    static const char *const tokens[] = { "bos_token_id", "eos_token_id", "pad_token_id" };
    for (int i = 0; i < RT_COUNT(tokens); i++) {
        const cJSON *item = rt_json_find(full, tokens[i]);
        if (item)
            rt_json_put(json, tokens[i], cJSON_Duplicate(item, true));
    }
    char *path = rt_path_join(dir, "generation_config.json");
    int bad = rt_json_save(json, path, err);
    free(path);
    cJSON_Delete(json);
    cJSON_Delete(full);
    return bad;
}

int rt_model_save_rows(const rt_model *m, const char *dir, rt_dtype dtype, rt_weight_rows *rows,
                       void *ctx, rt_err *err)
{
    if (rt_dir_make(dir, err) || save_weights(m, dir, dtype, rows, ctx, err) ||
        save_generation_config(&m->cfg, dir, err))
        return -1;
    const char *name = dtype == RT_F32 ? "float32" : dtype == RT_BF16 ? "bfloat16" : "float16";
    cJSON *json = rt_config_json(&m->cfg,
                                 name); /* last: a directory with config.json is complete */
    char *path = rt_path_join(dir, "config.json");
    int bad = rt_json_save(json, path, err);
    free(path);
    cJSON_Delete(json);
    return bad;
}

struct resident {
    const rt_model *m;
    rt_dev *d;
};

static int resident_rows(void *ctx, int i, float *host, rt_err *err)
{
    const struct resident *r = ctx;
    const rt_params *list = &r->m->w.params;
    return rt_params_read(list, i, 0, rt_tensor_elements(list->item[i].slot), r->d, host, err);
}

int rt_model_save(const rt_model *m, rt_dev *d, const char *dir, rt_dtype dtype, rt_err *err)
{
    struct resident r = { m, d };
    if (m->frozen)
        rt_bug("saving frozen weights: their rows are gone");
    return rt_model_save_rows(m, dir, dtype, resident_rows, &r, err);
}
