#include "core/weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/stored.h"

void rt_model_init(rt_model *m, const rt_config *cfg)
{
    memset(m, 0, sizeof *m);
    m->cfg = *cfg;
    rt_weights_init(&m->w, &m->cfg, "weights");
}

/* ---- reading ------------------------------------------------------------------------------------
 */

/* One weight, all experts of a stack, as f32 rows in host. */
static int read_param(rt_store *s, const rt_config *c, const rt_param *p, float *host, rt_err *err)
{
    rt_stored t;
    for (int64_t e = 0; e < rt_store_pieces(p); e++)
        if (rt_store_find(s, c, p, e, &t, err) ||
            rt_stored_rows(&t, host + e * t.rows * t.cols, 0, t.rows, err))
            return -1;
    return 0;
}

/* ---- placing ------------------------------------------------------------------------------------
 */

/* Frozen weights: panels for products, rows only where something else reads them. */
static void plan_frozen(rt_dev *d, rt_params *p, rt_arena *a)
{
    for (int i = 0; i < p->n; i++) {
        rt_tensor *t = p->item[i].slot;
        bool product = (p->item[i].flags & RT_PARAM_PRODUCT) != 0;
        t->data = !product || (p->item[i].flags & RT_PARAM_RAW)
                      ? rt_arena_take(a, "weights", rt_tensor_bytes(t))
                      : NULL;
        t->panels = product ? rt_arena_take(a, "weights.panels", d->ops->panels_bytes(d, t)) : NULL;
    }
}

static int place(rt_model *m, rt_dev *d, rt_err *err)
{
    if (!m->frozen)
        return rt_weights_place(d, &m->w, err);
    if (rt_dev_place(d, &m->w.arena, err))
        return -1;
    plan_frozen(d, &m->w.params, &m->w.arena);
    return 0;
}

static int read_all(rt_model *m, rt_dev *d, rt_store *s, rt_err *err)
{
    int64_t most = 0;
    for (int i = 0; i < m->w.params.n; i++)
        most = rt_max(most, rt_tensor_bytes(m->w.params.item[i].slot));
    float *host = malloc((size_t)most);
    void *staging = d->ops->alloc(d, most);
    int bad = host && staging ? 0
                              : rt_fail(err, "%s: no memory for a tensor of %lld bytes", s->path,
                                        (long long)most);
    for (int i = 0; !bad && i < m->w.params.n; i++) {
        const rt_param *p = &m->w.params.item[i];
        int64_t bytes = rt_tensor_bytes(p->slot);
        bad = read_param(s, &m->cfg, p, host, err);
        if (!bad && p->slot->data)
            d->ops->upload(d, p->slot->data, host, bytes);
        if (!bad && p->slot->panels) {
            rt_tensor rows = *p->slot;
            rows.data = staging;
            rows.panels = NULL;
            d->ops->upload(d, staging, host, bytes);
            d->ops->pack_weight(d, (void *)(uintptr_t)p->slot->panels, &rows);
        }
    }
    if (staging)
        d->ops->release(d, staging);
    free(host);
    return bad ? -1 : 0;
}

/* ---- configuration of a GGUF
 * --------------------------------------------------------------------- */

static int gguf_key(const rt_gguf *g, const char *arch, const char *key, bool need, int64_t *out,
                    rt_err *err)
{
    char name[96];
    snprintf(name, sizeof name, "%s.%s", arch, key);
    return need ? rt_gguf_get_i64(g, name, 1, INT32_MAX, out, err)
                : rt_gguf_opt_i64(g, name, 1, INT32_MAX, out, err);
}

static int gguf_number(const rt_gguf *g, const char *arch, const char *key, double *out,
                       rt_err *err)
{
    char name[96];
    snprintf(name, sizeof name, "%s.%s", arch, key);
    return rt_gguf_opt_f64(g, name, out, err);
}

/* Linear and yarn scaling are keys (llama3 is the tensor rope_freqs); an unknown kind would give
   wrong numbers at length without a word. */
static int gguf_rope(rt_config *c, const rt_gguf *g, const char *arch, rt_err *err)
{
    char name[96];
    rt_gguf_str kind = { "none", 4 };
    snprintf(name, sizeof name, "%s.rope.scaling.type", arch);
    if (rt_gguf_opt_str(g, name, &kind, err))
        return -1;
    if (rt_gguf_str_is(kind, "none"))
        return 0;
    int64_t original = c->max_positions;
    c->rope_scaling = rt_gguf_str_is(kind, "linear") ? RT_ROPE_LINEAR : RT_ROPE_YARN;
    if (c->rope_scaling == RT_ROPE_YARN && !rt_gguf_str_is(kind, "yarn"))
        return rt_fail(err, "%s: %s \"%.*s\" is not supported (linear and yarn are)", g->path, name,
                       (int)rt_min(kind.bytes, 32), kind.text);
    c->rope_factor = c->yarn_slow = 1;
    c->yarn_truncate = true;
    c->yarn_fast = 32;
    if (gguf_number(g, arch, "rope.scaling.factor", &c->rope_factor, err) ||
        gguf_key(g, arch, "rope.scaling.original_context_length", false, &original, err))
        return -1;
    c->rope_original = (double)original;
    return 0;
}

static int gguf_config(rt_config *c, const rt_gguf *g, const char *path, rt_err *err)
{
    rt_gguf_str text;
    char arch[32];
    memset(c, 0, sizeof *c);
    if (rt_gguf_get_str(g, "general.architecture", &text, err))
        return -1;
    snprintf(arch, sizeof arch, "%.*s", (int)rt_min(text.bytes, 31), text.text);
    c->family = rt_family_find_gguf(arch);
    if (!c->family)
        return rt_fail(err, "%s: architecture \"%s\" is not supported (llama and qwen3 are)", path,
                       arch);
    c->groups = c->groups_kept = 1;
    c->route_scale = 1;
    c->rope_theta = 10000;
    c->init_std = 0.02;
    c->bos = c->pad = -1;
    c->interleaved = c->family->gguf_interleaved;
    const rt_gguf_tensor *embed = rt_gguf_find(g, "token_embd.weight");
    if (!embed)
        return rt_fail(err, "%s: tensor token_embd.weight is missing", path);
    c->vocab = embed->dim[0];
    c->tied = rt_gguf_find(g, "output.weight") == NULL;
    if (gguf_key(g, arch, "block_count", true, &c->layers, err) ||
        gguf_key(g, arch, "embedding_length", true, &c->width, err) ||
        gguf_key(g, arch, "feed_forward_length", true, &c->ffn_width, err) ||
        gguf_key(g, arch, "attention.head_count", true, &c->heads, err) ||
        gguf_key(g, arch, "context_length", true, &c->max_positions, err))
        return -1;
    c->kv_heads = c->heads;
    c->head_dim = c->width / c->heads;
    int64_t eos = -1, eot = -1;
    if (gguf_key(g, arch, "attention.head_count_kv", false, &c->kv_heads, err) ||
        gguf_key(g, arch, "attention.key_length", false, &c->head_dim, err) ||
        gguf_number(g, arch, "attention.layer_norm_rms_epsilon", &c->norm_eps, err) ||
        gguf_number(g, arch, "rope.freq_base", &c->rope_theta, err) || gguf_rope(c, g, arch, err) ||
        rt_gguf_opt_i64(g, "tokenizer.ggml.bos_token_id", 0, INT32_MAX, &c->bos, err) ||
        rt_gguf_opt_i64(g, "tokenizer.ggml.padding_token_id", 0, INT32_MAX, &c->pad, err) ||
        rt_gguf_opt_i64(g, "tokenizer.ggml.eos_token_id", 0, INT32_MAX, &eos, err) ||
        rt_gguf_opt_i64(g, "tokenizer.ggml.eot_token_id", 0, INT32_MAX, &eot, err))
        return -1;
    if (eos >= 0)
        c->eos[c->n_eos++] = eos;
    if (eot >= 0 && eot != eos)
        c->eos[c->n_eos++] = eot;
    if (c->layers > 1024 || c->head_dim < 1)
        return rt_fail(err, "%s: %lld layers of head width %lld are beyond any model", path,
                       (long long)c->layers, (long long)c->head_dim);
    const rt_gguf_tensor *freqs = rt_gguf_find(g, "rope_freqs.weight");
    if (freqs) {
        if (freqs->dtype != RT_F32 || freqs->elements != c->head_dim / 2)
            return rt_fail(err, "%s: rope_freqs.weight is not %lld f32 values", path,
                           (long long)c->head_dim / 2);
        c->rope_freqs = (const float *)(const void *)freqs->data; /* valid while the file is open */
    }
    return rt_config_check(c, path, err);
}

int rt_model_config(rt_config *cfg, const char *path, rt_err *err)
{
    if (rt_path_is_dir(path) || !rt_gguf_magic(path))
        return rt_config_load(cfg, path, err);
    rt_gguf g;
    if (rt_gguf_open(&g, path, err))
        return -1;
    int bad = gguf_config(cfg, &g, path, err);
    cfg->rope_freqs = NULL;
    rt_gguf_close(&g);
    return bad;
}

void rt_model_plan_config(rt_model *m, rt_dev *d, const rt_config *cfg, bool frozen,
                          int64_t positions)
{
    rt_model_init(m, cfg);
    m->frozen = frozen;
    if (frozen) {
        rt_arena_free(&m->w.arena); /* what was measured as rows */
        plan_frozen(d, &m->w.params, &m->w.arena);
    }
    rt_model_plan_rope(m, positions);
}

int rt_model_plan(rt_model *m, rt_dev *d, const char *path, bool frozen, int64_t positions,
                  rt_err *err)
{
    rt_config cfg;
    memset(m, 0, sizeof *m);
    if (!rt_path_exists(path))
        return rt_fail(err, "%s: no such model: give a Hugging Face directory or a .gguf file",
                       path);
    if (rt_model_config(&cfg, path, err))
        return -1;
    rt_model_plan_config(m, d, &cfg, frozen, positions);
    return 0;
}

static int read_model(rt_model *m, rt_dev *d, rt_store *s, rt_err *err)
{
    rt_config from = { 0 };
    if (s->is_gguf && gguf_config(&from, &s->gguf, s->path, err))
        return -1;
    m->cfg.rope_freqs = from.rope_freqs;
    int bad = rt_store_check(s, &m->cfg, &m->w.params, err) || place(m, d, err) ||
              read_all(m, d, s, err) || rt_model_rope(m, d, m->rope.dim[0], err);
    m->cfg.rope_freqs = NULL;
    return bad ? -1 : 0;
}

int rt_model_read(rt_model *m, rt_dev *d, const char *path, rt_err *err)
{
    rt_store s;
    if (rt_store_open(&s, path, err))
        return -1;
    int bad = read_model(m, d, &s, err);
    rt_store_close(&s);
    return bad ? -1 : 0;
}

int rt_model_check(const rt_model *m, const char *path, rt_err *err)
{
    rt_store s;
    if (rt_store_open(&s, path, err))
        return -1;
    int bad = rt_store_check(&s, &m->cfg, &m->w.params, err);
    rt_store_close(&s);
    return bad;
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

int rt_model_hash(rt_hash *hash, const char *path, rt_err *err)
{
    if (!rt_path_is_dir(path))
        return rt_hash_file(hash, path, err);
    rt_store s;
    if (rt_store_open(&s, path, err))
        return -1;
    uint64_t lo = 1, hi = 2;
    for (int64_t i = 0; i < s.st.n_tensors;
         i++) { /* ascending by name, so sharding does not matter */
        const rt_st_tensor *t = &s.st.tensor[i];
        lo = rt_hash64(t->name, (int64_t)strlen(t->name), lo);
        lo = rt_hash64(t->dim, (int64_t)sizeof t->dim, lo);
        lo = rt_hash64(t->data, t->bytes, lo);
        hi = rt_hash64(&lo, (int64_t)sizeof lo, hi);
    }
    snprintf(hash->hex, sizeof hash->hex, "%016llx%016llx", (unsigned long long)hi,
             (unsigned long long)lo);
    rt_store_close(&s);
    return 0;
}

/* ---- writing ------------------------------------------------------------------------------------
 */

static rt_dtype stored_dtype(const rt_param *p, rt_dtype dtype)
{
    return p->flags & RT_PARAM_FIXED ? RT_F32 : dtype;
}

static void encode(void *out, const float *x, int64_t n, rt_dtype dtype)
{
    if (dtype == RT_F32) {
        memcpy(out, x, (size_t)n * sizeof *x);
        return;
    }
    uint16_t *h = out;
    for (int64_t i = 0; i < n; i++)
        h[i] = dtype == RT_BF16 ? rt_f32_to_bf16(x[i]) : rt_f32_to_f16(x[i]);
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

static int declare_all(rt_safetensors_writer *w, const rt_model *m, const char *dir, rt_dtype dtype,
                       rt_err *err)
{
    const rt_params *list = &m->w.params;
    if (rt_safetensors_writer_init(w, dir, (int64_t)4 << 30, err))
        return -1;
    for (int i = 0; i < list->n; i++)
        declare(w, &list->item[i], stored_dtype(&list->item[i], dtype));
    return 0;
}

int64_t rt_model_save_bytes(const rt_model *m, rt_dtype dtype)
{
    rt_safetensors_writer w;
    rt_err ignored = { 0 };
    if (declare_all(&w, m, "planned", dtype, &ignored))
        return 0;
    int64_t bytes = rt_safetensors_writer_bytes(&w);
    rt_safetensors_writer_abort(&w);
    return bytes;
}

static int save_weights(const rt_model *m, rt_dev *d, const char *dir, rt_dtype dtype, rt_err *err)
{
    rt_safetensors_writer w;
    const rt_params *list = &m->w.params;
    int64_t most = 0;
    if (declare_all(&w, m, dir, dtype, err))
        return -1;
    for (int i = 0; i < list->n; i++)
        most = rt_max(most, rt_tensor_bytes(list->item[i].slot));
    float *host = malloc((size_t)most);
    void *out = malloc((size_t)most);
    int bad = host && out ? rt_safetensors_writer_begin(&w, err)
                          : rt_fail(err, "%s: no memory to write a tensor of %lld bytes", dir,
                                    (long long)most);
    for (int i = 0; !bad && i < list->n; i++) {
        const rt_tensor *t = list->item[i].slot;
        rt_dtype as = stored_dtype(&list->item[i], dtype);
        int64_t n = rt_tensor_elements(t);
        d->ops->download(d, host, t->data, rt_tensor_bytes(t));
        encode(out, host, n, as);
        bad = rt_safetensors_writer_push(&w, out, rt_dtype_bytes(as, n), err);
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

int rt_model_save(const rt_model *m, rt_dev *d, const char *dir, rt_dtype dtype, rt_err *err)
{
    if (m->frozen)
        rt_bug("saving frozen weights: their rows are gone");
    if (rt_dir_make(dir, err) || save_weights(m, d, dir, dtype, err) ||
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
