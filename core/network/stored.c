#include "core/network/stored.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/log.h"
#include "core/base/memory.h"

int64_t rt_store_count(const rt_store *s)
{
    return s->is_gguf ? s->gguf.n_tensors : s->st.n_tensors;
}

const char *rt_store_name(const rt_store *s, int64_t i)
{
    return s->is_gguf ? s->gguf.tensor[i].name : s->st.tensor[i].name;
}

/* Map i of the store, NULL after the last. */
static const rt_map *map_of(const rt_store *s, int i)
{
    if (!s->is_gguf)
        return i < s->st.n_files ? &s->st.map[i] : NULL;
    return i == 0 ? &s->gguf.map : i <= s->gguf.n_more ? &s->gguf.more[i - 1] : NULL;
}

int64_t rt_store_file_bytes(const rt_store *s)
{
    int64_t sum = 0;
    const rt_map *map;
    for (int i = 0; (map = map_of(s, i)) != NULL; i++)
        sum += map->bytes;
    return sum;
}

void rt_store_forget(const rt_store *s)
{
    const rt_map *map;
    for (int i = 0; (map = map_of(s, i)) != NULL; i++)
        rt_map_forget(map->data, map->bytes);
}

const char *rt_store_place(const rt_store *s, const uint8_t *data, int64_t *offset)
{
    const rt_map *map;
    for (int i = 0; (map = map_of(s, i)) != NULL; i++)
        if (data >= map->data && data < map->data + map->bytes) {
            *offset = data - map->data;
            return map->path;
        }
    rt_bug("%s: bytes that lie in none of its files", s->path);
}

bool rt_store_summed(const rt_store *s)
{
    return s->is_gguf ? rt_gguf_find_key(&s->gguf, RT_GGUF_SUMS_KEY) != NULL
                      : s->st.n_files && *rt_safetensors_header(&s->st, 0);
}

int rt_store_open(rt_store *s, const char *path, rt_err *err)
{
    memset(s, 0, sizeof *s);
    s->path = path;
    s->is_gguf = rt_gguf_is(path);
    if (s->is_gguf ? rt_gguf_open(&s->gguf, path, err) : rt_safetensors_open(&s->st, path, err))
        return -1;
    s->used = rt_alloc(rt_store_count(s), 1, "a list of tensors");
    s->checked = rt_alloc(rt_store_count(s), 1, "a list of tensors");
    if (s->is_gguf)
        s->path = s->gguf.path;
    return 0;
}

void rt_store_close(rt_store *s)
{
    rt_gguf_close(&s->gguf);
    rt_safetensors_close(&s->st);
    free(s->used);
    free(s->checked);
    memset(s, 0, sizeof *s);
}

/* Finding is using: tensor i of the container is one that out is read from. */
static void use(rt_store *s, rt_stored *out, int64_t i)
{
    s->used[i] = 1;
    for (int k = 0; k < out->parts; k++)
        if (out->part[k] == i)
            return;
    if (out->parts == RT_STORED_PARTS)
        rt_bug("%s: a weight of more than %d tensors", s->path, RT_STORED_PARTS);
    out->part[out->parts++] = i;
}

int rt_stored_check(const rt_stored *t, rt_err *err)
{
    const rt_store *s = t->store;
    for (int k = 0; s && k < t->parts; k++) {
        int64_t i = t->part[k];
        if (s->checked[i])
            continue;
        if (s->is_gguf ? rt_gguf_check(&s->gguf, &s->gguf.tensor[i], err)
                       : rt_safetensors_check(&s->st, &s->st.tensor[i], err))
            return -1;
        s->checked[i] = 1;
    }
    return 0;
}

// ---------------------------------------------------------------------------- shapes and messages

static const char *shape_text(char text[96], const int64_t *dim, int rank)
{
    text[0] = 0;
    for (int i = 0, at = 0; i < rank && at < 90; i++)
        at += snprintf(text + at, (size_t)(96 - at), "%s%lld", i ? ", " : "", (long long)dim[i]);
    return text;
}

static bool same_dims(const int64_t *a, const int64_t *b, int rank)
{
    return memcmp(a, b, (size_t)rank * sizeof *a) == 0;
}

static int wrong_shape(const rt_store *s, const char *name, const int64_t *dim, int rank,
                       const int64_t *want, int want_rank, rt_err *err)
{
    char have[96], need[96];
    return rt_fail(
        err, "%s: tensor %s has shape (%s), %s (%s)", s->path, name, shape_text(have, dim, rank),
        s->is_gguf ? "the file's keys say" : "config.json says", shape_text(need, want, want_rank));
}

/* Tensor "base" + "suffix"; NULL when it is not there. */
static const rt_st_tensor *find(rt_store *s, rt_stored *out, const char *base, const char *suffix)
{
    char name[192];
    snprintf(name, sizeof name, "%s%s", base, suffix);
    const rt_st_tensor *t = rt_safetensors_find(&s->st, name);
    if (t)
        use(s, out, t - s->st.tensor);
    return t;
}

static int expect_shape(const rt_store *s, const rt_st_tensor *t, int rank, const int64_t *want,
                        rt_err *err)
{
    return t->rank == rank && same_dims(t->dim, want, rank)
               ? 0
               : wrong_shape(s, t->name, t->dim, t->rank, want, rank, err);
}

static bool is_number(rt_dtype t) { return t == RT_F32 || t == RT_F16 || t == RT_BF16; }

static int not_weights(const rt_store *s, const char *name, const char *type, rt_err *err)
{
    return rt_fail(err, "%s: tensor %s is %s, which cannot be read as weights", s->path, name,
                   type);
}

// ------------------------------------------------------------------------------- forms of a weight

/* A scale of its own beside the codes; (rows, cols) of blocks. */
static int find_scale(rt_store *s, rt_stored *out, const char *base, const char *suffix,
                      rt_err *err)
{
    const rt_st_tensor *scale = find(s, out, base, suffix);
    if (!scale)
        return rt_fail(err,
                       "%s: tensor %s has codes but %s%s is missing: without its scale it is "
                       "not a weight",
                       s->path, out->name, base, suffix);
    int64_t want[2] = { rt_stored_blocks(out->rows, out->scale_rows),
                        rt_stored_blocks(out->cols, out->scale_cols) };
    if (expect_shape(s, scale, 2, want, err))
        return -1;
    if (!is_number(scale->dtype) && scale->dtype != RT_F8_E8M0)
        return not_weights(s, scale->name, scale->type, err);
    out->scale = scale->data;
    out->scale_dtype = scale->dtype;
    return 0;
}

static int find_fp8(rt_store *s, const rt_quantization *q, rt_stored *out, rt_err *err)
{
    if (q->method != RT_QUANT_FP8)
        return rt_fail(err,
                       "%s: tensor %s is F8_E4M3 but config.json has no quantization_config "
                       "of fp8 that says how it is scaled",
                       s->path, out->name);
    out->form = RT_STORED_FP8;
    out->scale_rows = q->rows;
    out->scale_cols = q->cols;
    return find_scale(s, out, out->name, "_scale_inv", err);
}

static int find_int4(rt_store *s, const rt_quantization *q, const char *base,
                     const rt_st_tensor *codes, rt_stored *out, rt_err *err)
{
    static const char *const refused[] = { "_zero_point", "_g_idx" };
    if (q->method != RT_QUANT_INT4)
        return rt_fail(err,
                       "%s: tensor %s is packed but config.json has no quantization_config "
                       "of pack-quantized",
                       s->path, codes->name);
    for (int i = 0; i < RT_COUNT(refused); i++)
        if (find(s, out, base, refused[i]))
            return rt_fail(err, "%s: tensor %s%s: %s is not supported", s->path, base, refused[i],
                           i ? "an activation order (actorder)" : "an asymmetric code");
    int64_t packed[2] = { out->rows, rt_stored_blocks(out->cols, 8) }, shape[2] = { 0 }, two = 2;
    const rt_st_tensor *t = find(s, out, base, "_shape");
    if (!t)
        return rt_fail(err, "%s: tensor %s_shape is missing", s->path, base);
    if (expect_shape(s, t, 1, &two, err))
        return -1;
    int bytes = strcmp(t->type, "I64") == 0 ? 8 : strcmp(t->type, "I32") == 0 ? 4 : 0;
    if (!bytes)
        return rt_fail(err, "%s: tensor %s is %s, not integers", s->path, t->name, t->type);
    for (int i = 0; i < 2; i++)
        for (int b = 0; b < bytes; b++)
            shape[i] = (int64_t)((uint64_t)shape[i] | (uint64_t)t->data[bytes * i + b] << (8 * b));
    int64_t want[2] = { out->rows, out->cols };
    if (!same_dims(shape, want, 2))
        return wrong_shape(s, base, shape, 2, want, 2, err);
    if (codes->dtype != RT_I32)
        return not_weights(s, codes->name, codes->type, err);
    if (expect_shape(s, codes, 2, packed, err))
        return -1;
    out->form = RT_STORED_INT4;
    out->dtype = RT_I32;
    out->data = codes->data;
    out->width = packed[1];
    out->scale_rows = 1;
    out->scale_cols = q->cols ? q->cols : rt_max(out->cols, 1);
    return find_scale(s, out, base, "_scale", err);
}

/* Under its own name; 1 when there is no such tensor. */
static int find_own(rt_store *s, const rt_quantization *q, const char *name, int rank,
                    const int64_t *want, rt_stored *out, rt_err *err)
{
    const rt_st_tensor *t = find(s, out, name, "");
    snprintf(out->name, sizeof out->name, "%s", name);
    if (!t) {
        t = rank == 2 ? find(s, out, name, "_packed") : NULL;
        return t ? find_int4(s, q, name, t, out, err) : 1;
    }
    if (expect_shape(s, t, rank, want, err))
        return -1;
    out->data = t->data;
    out->dtype = t->dtype;
    out->width = out->cols;
    if (t->dtype == RT_F8_E4M3)
        return find_fp8(s, q, out, err);
    return is_number(t->dtype) ? 0 : not_weights(s, name, t->type, err);
}

// ---------------------------------------------------------------------- all experts in one tensor

typedef enum expert_part { PART_GATE, PART_UP, PART_DOWN } expert_part;

/* "….experts.%d.gate_proj.weight" -> "….experts.gate_up_proj", which part of it, and whether it is
   the bias. */
static bool fused_name(const char *name, char *base, size_t size, expert_part *which, bool *bias)
{
    static const struct {
        const char *leaf;
        expert_part which;
    } leaves[] = { { "gate_proj.", PART_GATE }, { "up_proj.", PART_UP },
                   { "down_proj.", PART_DOWN }, { "w1.", PART_GATE },
                   { "w3.", PART_UP },          { "w2.", PART_DOWN } };
    const char *hole = strstr(name, "%d.");
    for (int i = 0; hole && i < RT_COUNT(leaves); i++) {
        size_t n = strlen(leaves[i].leaf);
        if (strncmp(hole + 3, leaves[i].leaf, n) != 0)
            continue;
        *which = leaves[i].which;
        *bias = strcmp(hole + 3 + n, "bias") == 0;
        snprintf(base, size, "%.*s%s", (int)(hole - name), name,
                 *which == PART_DOWN ? "down_proj" : "gate_up_proj");
        return true;
    }
    return false;
}

/* Rows of one part among those of the fused tensor. */
static void place_part(rt_stored *out, expert_part which, bool interleaved)
{
    bool both = which != PART_DOWN;
    out->step = both && interleaved ? 2 : 1;
    out->first = which == PART_UP ? (interleaved ? 1 : out->rows) : 0;
}

static int find_blocks(rt_store *s, const char *base, int64_t experts, int64_t e, int64_t rows,
                       const rt_st_tensor *t, rt_stored *out, rt_err *err)
{
    const rt_st_tensor *scale = find(s, out, base, "_scales");
    int64_t want[4] = { experts, rows, rt_stored_blocks(out->cols, 32), 16 };
    snprintf(out->name, sizeof out->name, "%s", t->name);
    if (!scale)
        return rt_fail(err, "%s: tensor %s has codes but %s_scales is missing", s->path, t->name,
                       base);
    if (expect_shape(s, t, 4, want, err) || expect_shape(s, scale, 3, want, err))
        return -1;
    if (out->cols % 32)
        return rt_fail(err, "%s: tensor %s: rows of %lld are not whole blocks of 32", s->path,
                       t->name, (long long)out->cols);
    if (t->dtype != RT_U8 || (scale->dtype != RT_U8 && scale->dtype != RT_F8_E8M0))
        return not_weights(s, t->name, t->type, err);
    out->form = RT_STORED_MXFP4;
    out->dtype = RT_U8;
    out->data = t->data + e * rows * want[2] * 16;
    out->scale = scale->data + e * rows * want[2];
    out->scale_dtype = RT_F8_E8M0;
    out->scale_rows = 1;
    out->scale_cols = 32;
    out->width = want[2] * 16;
    return 0;
}

/* Which of the two orders the experts of this layer are in. One tensor alone may be square and fit
   both; gate_up_proj (2F by C) and down_proj (C by F) never are at once. */
static bool fused_transposed(rt_store *s, rt_stored *out, const char *base, expert_part which,
                             int64_t rows, int64_t cols)
{
    char other[192];
    if (rows != cols) {
        const rt_st_tensor *t = find(s, out, base, "");
        return t && t->rank == 3 && t->dim[1] == cols && t->dim[2] == rows;
    }
    size_t prefix = (size_t)(strstr(base, ".experts.") + strlen(".experts.") - base);
    snprintf(other, sizeof other, "%.*s%s", (int)prefix, base,
             which == PART_DOWN ? "gate_up_proj" : "down_proj");
    const rt_st_tensor *t = rt_safetensors_find(&s->st, other);
    int64_t rows_there = which == PART_DOWN ? 2 * cols : rows,
            in = which == PART_DOWN ? rows : cols / 2;
    return t && t->rank == 3 && t->dim[1] == in && t->dim[2] == rows_there;
}

/* 1 when there is no such tensor. */
static int find_fused(rt_store *s, const rt_config *cfg, const rt_param *p, int64_t e,
                      rt_stored *out, rt_err *err)
{
    char base[168];
    expert_part which;
    bool bias, interleaved = cfg->family->names->interleaved;
    if (!fused_name(p->name, base, sizeof base, &which, &bias))
        return 1;
    const rt_st_tensor *t = find(s, out, base, bias ? "_bias" : "");
    int64_t experts = p->slot->dim[0];
    if (bias) { /* a column: each element is a row */
        out->rows = out->cols;
        out->cols = 1;
    }
    int64_t rows = which == PART_DOWN ? out->rows : 2 * out->rows;
    place_part(out, which, interleaved);
    if (!t && !bias) {
        t = find(s, out, base, "_blocks");
        if (t)
            return find_blocks(s, base, experts, e, rows, t, out, err);
    }
    if (!t)
        return 1;
    out->transposed = !bias && fused_transposed(s, out, base, which, rows, out->cols);
    int64_t want[3] = { experts, out->transposed ? out->cols : rows,
                        out->transposed ? rows : out->cols };
    snprintf(out->name, sizeof out->name, "%s", t->name);
    if (expect_shape(s, t, bias ? 2 : 3, want, err))
        return -1;
    if (!is_number(t->dtype))
        return not_weights(s, t->name, t->type, err);
    out->dtype = t->dtype;
    out->width = out->transposed ? rows : out->cols;
    out->data = t->data + rt_dtype_bytes(t->dtype, e * rows * out->cols);
    return 0;
}

// ---------------------------------------------------------------------------------------- finding

static const rt_gguf_tensor *gguf_tensor(rt_store *s, rt_stored *out, const char *name)
{
    const rt_gguf_tensor *t = rt_gguf_find(&s->gguf, name);
    if (t)
        use(s, out, t - s->gguf.tensor);
    return t;
}

/* Some writers leave out dimensions of one at the front, others add them. */
static int gguf_shape(const rt_store *s, const rt_gguf_tensor *t, const int64_t *want, int rank,
                      rt_err *err)
{
    const int64_t *have = t->dim;
    int left = t->rank, need = rank;
    while (left > 1 && *have == 1)
        have++, left--;
    const int64_t *dim = want;
    while (need > 1 && *dim == 1)
        dim++, need--;
    if (left != need || !same_dims(have, dim, need))
        return wrong_shape(s, t->name, t->dim, t->rank, want, rank, err);
    return t->dtype == RT_DTYPE_COUNT || t->dtype == RT_I32 ? not_weights(s, t->name, t->type, err)
                                                            : 0;
}

/* "blk.3.x" -> "blk.3.leaf.weight" */
static void gguf_sibling(char name[176], const rt_param *p, const char *leaf)
{
    const char *dot = strrchr(p->gguf, '.');
    snprintf(name, 176, "%.*s.%s.weight", dot ? (int)(dot - p->gguf) : 0, p->gguf, leaf);
}

/* Keys and values of the latent apart; 1 when there are no such tensors. t: attn_kv_b or NULL:
   files that hold all three say the same twice. */
static int find_latent(rt_store *s, const rt_config *cfg, const rt_param *p,
                       const rt_gguf_tensor *t, rt_stored *out, rt_err *err)
{
    char name[2][176];
    gguf_sibling(name[0], p, "attn_k_b");
    gguf_sibling(name[1], p, "attn_v_b");
    const rt_gguf_tensor *k = gguf_tensor(s, out, name[0]), *v = gguf_tensor(s, out, name[1]);
    if (t || (!k && !v))
        return 1;
    if (!k || !v)
        return rt_fail(err, "%s: tensor %s is missing", s->path, name[k != NULL]);
    int64_t keys[3] = { cfg->heads, cfg->kv_rank, cfg->nope_dim };
    int64_t values[3] = { cfg->heads, cfg->v_dim, cfg->kv_rank };
    if (gguf_shape(s, k, keys, 3, err) || gguf_shape(s, v, values, 3, err))
        return -1;
    snprintf(out->name, sizeof out->name, "%s", name[0]);
    out->form = RT_STORED_LATENT;
    out->dtype = v->dtype;
    out->data = v->data;
    out->scale_dtype = k->dtype;
    out->scale = k->data;
    out->scale_rows = cfg->nope_dim;
    out->scale_cols = cfg->v_dim;
    out->width = cfg->kv_rank;
    return 0;
}

/* A tensor under another name than the registry's, or a part of it: all gates and ups in one. */
static const rt_gguf_tensor *gguf_other(rt_store *s, rt_stored *out, const rt_param *p,
                                        bool *gate_up)
{
    static const struct {
        const char *leaf, *other;
    } names[] = { { "ffn_norm", "post_attention_norm" },
                  { "ffn_gate_exps", "ffn_gate_up_exps" },
                  { "ffn_up_exps", "ffn_gate_up_exps" } };
    const char *dot = strrchr(p->gguf, '.');
    char name[176];
    for (int i = 0; dot && i < RT_COUNT(names); i++)
        if (strcmp(dot + 1, names[i].leaf) == 0) {
            gguf_sibling(name, p, names[i].other);
            *gate_up = i > 0;
            return gguf_tensor(s, out, name);
        }
    return NULL;
}

/* Query and key rows of adjacent pairs. A bias is a column: each element is a row. */
static int gguf_pairs(rt_store *s, const rt_config *cfg, const rt_param *p, bool bias,
                      const rt_gguf_tensor *t, rt_stored *out, rt_err *err)
{
    const char *leaf = strrchr(p->gguf, '.');
    if (!cfg->family->gguf_interleaved || cfg->family->attn == RT_ATTN_MLA || !leaf)
        return 0;
    out->heads = !strcmp(leaf, ".attn_q")   ? cfg->heads
                 : !strcmp(leaf, ".attn_k") ? cfg->kv_heads
                                            : 0;
    if (!out->heads || !bias)
        return 0;
    if (!is_number(t->dtype))
        return not_weights(s, t->name, t->type, err);
    out->rows = out->cols;
    out->cols = 1;
    return 0;
}

static int find_gguf(rt_store *s, const rt_config *cfg, const rt_param *p, int64_t e,
                     rt_stored *out, rt_err *err)
{
    size_t n = strlen(p->name);
    bool bias = n > 4 && strcmp(p->name + n - 4, "bias") == 0, gate_up = false;
    int64_t want[3], rows = out->rows;
    snprintf(out->name, sizeof out->name, "%s%s", p->gguf, bias ? ".bias" : ".weight");
    const rt_gguf_tensor *t = gguf_tensor(s, out, out->name);
    if (cfg->family->attn == RT_ATTN_MLA && strstr(p->gguf, ".attn_kv_b")) {
        int other = find_latent(s, cfg, p, t, out, err);
        if (other < 1)
            return other;
    }
    if (!t && !bias)
        t = gguf_other(s, out, p, &gate_up);
    if (!t)
        return rt_fail(err, "%s: tensor %s is missing", s->path, out->name);
    memcpy(want, p->slot->dim, sizeof want);
    if (gate_up) {
        want[1] *= 2;
        rows = want[1];
        out->first = strstr(p->gguf, "ffn_up") ? out->rows : 0;
    }
    snprintf(out->name, sizeof out->name, "%s", t->name);
    if (gguf_shape(s, t, want, p->slot->rank, err))
        return -1;
    out->dtype = t->dtype;
    out->data = t->data + rt_dtype_bytes(t->dtype, e * rows * out->cols);
    if (gguf_pairs(s, cfg, p, bias, t, out, err))
        return -1;
    out->width = out->cols;
    return 0;
}

int rt_store_find(rt_store *s, const rt_config *cfg, const rt_param *p, int64_t e, rt_stored *out,
                  rt_err *err)
{
    char name[176];
    bool stack = p->experts != 0;
    const int64_t *dim = p->slot->dim + stack;
    int rank = p->slot->rank - stack;
    memset(out, 0, sizeof *out);
    out->path = s->path;
    out->store = s;
    out->step = 1;
    out->rows = rank == 2 ? dim[0] : 1;
    out->cols = dim[rank - 1];
    if (s->is_gguf)
        return find_gguf(s, cfg, p, e, out, err);
    if (stack)
        rt_param_expert_name(p, e, name, sizeof name);
    else
        snprintf(name, sizeof name, "%s", p->name);
    int missing = find_own(s, &cfg->quantization, name, rank, dim, out, err);
    if (missing == 1 && stack)
        missing = find_fused(s, cfg, p, e, out, err);
    return missing == 1 ? rt_fail(err, "%s: tensor %s is missing", s->path, name) : missing;
}

int64_t rt_store_pieces(const rt_param *p) { return p->experts ? p->experts : 1; }

/* Layers after the last one: multi-token prediction, which a tensor of theirs says. Without it the
   checkpoint has more layers than its description. */
static bool is_beyond(const rt_store *s, const rt_config *c, const char *name)
{
    char mark[64];
    long long layer;
    if (sscanf(name, s->is_gguf ? "blk.%lld." : "model.layers.%lld.", &layer) != 1 ||
        layer < c->layers)
        return false;
    snprintf(mark, sizeof mark,
             s->is_gguf ? "blk.%lld.nextn.eh_proj.weight" : "model.layers.%lld.eh_proj.weight",
             layer);
    return s->is_gguf ? rt_gguf_find(&s->gguf, mark) != NULL
                      : rt_safetensors_find(&s->st, mark) != NULL;
}

/* Whether a checkpoint may carry this tensor although no forward pass here reads it. */
static bool may_ignore(const rt_store *s, const rt_config *c, const char *name)
{
    return is_beyond(s, c, name) || strstr(name, "rotary_emb.inv_freq") ||
           strcmp(name, "rope_freqs.weight") == 0 ||
           (c->tied && (strcmp(name, "lm_head.weight") == 0 || strcmp(name, "output.weight") == 0));
}

int rt_store_check(rt_store *s, const rt_config *cfg, const rt_params *list, rt_err *err)
{
    rt_stored unused;
    int64_t beyond = 0;
    for (int i = 0; i < list->n; i++)
        for (int64_t e = 0; e < rt_store_pieces(&list->item[i]); e++)
            if (rt_store_find(s, cfg, &list->item[i], e, &unused, err))
                return -1;
    for (int64_t i = 0; i < rt_store_count(s); i++) {
        const char *name = rt_store_name(s, i);
        if (s->used[i])
            continue;
        if (!may_ignore(s, cfg, name))
            return rt_fail(err, "%s: tensor %s is not part of a %s model: refusing to leave it out",
                           s->path, name, cfg->family->model_type);
        beyond += is_beyond(s, cfg, name);
    }
    if (beyond)
        rt_info("%s: %lld tensors of layers from %lld on predict further tokens (MTP): not read",
                s->path, (long long)beyond, (long long)cfg->layers);
    return 0;
}

int rt_store_rows(rt_store *s, const rt_config *c, const rt_param *p, float *host, rt_err *err)
{
    rt_stored t;
    for (int64_t e = 0; e < rt_store_pieces(p); e++)
        if (rt_store_find(s, c, p, e, &t, err) ||
            rt_stored_rows(&t, host + e * t.rows * t.cols, 0, t.rows, err))
            return -1;
    return 0;
}
