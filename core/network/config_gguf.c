/* config_gguf.c: the keys of a GGUF (llama.cpp's names) as an architecture description. One table
   of keys for all architectures; which of them a file must have follows from the family. Numbers
   that a GGUF has no key for (widths of old files, biases, norms, a tied head, dense layers between
   routed ones) are read off its tensors. Refuses, by name: architectures, routers and rope scalings
   it does not know, and keys that change the computation beyond the parts of family.h. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/base/log.h"
#include "core/formats/gguf.h"
#include "core/network/config_key.h"

#define KEY(name, kind, field, families, required, min, max)                                       \
    {                                                                                              \
        name, kind, offsetof(rt_config, field), families, required, 0, min, max                    \
    }
#define DIM RT_DIM_MAX

static const rt_config_key keys[] = {
    KEY("block_count", RT_KEY_INT, layers, RT_KEYS_ALL, true, 1, 1024),
    KEY("embedding_length", RT_KEY_INT, width, RT_KEYS_ALL, true, 1, DIM),
    KEY("context_length", RT_KEY_INT, max_positions, RT_KEYS_ALL, true, 1, 1 << 30),
    KEY("feed_forward_length", RT_KEY_INT, ffn_width, RT_KEYS_ALL, true, 1, DIM),
    KEY("attention.head_count", RT_KEY_INT, heads, RT_KEYS_ALL, true, 1, 4096),
    KEY("attention.head_count_kv", RT_KEY_INT, kv_heads, RT_KEYS_GQA, false, 1, 4096),
    KEY("attention.key_length", RT_KEY_INT, head_dim, RT_KEYS_GQA, false, 1, 4096),
    KEY("attention.kv_lora_rank", RT_KEY_INT, kv_rank, RT_KEYS_MLA, true, 1, DIM),
    KEY("attention.q_lora_rank", RT_KEY_INT, q_rank, RT_KEYS_MLA, false, 0, DIM),
    KEY("rope.dimension_count", RT_KEY_INT, rope_dim, RT_KEYS_GQA, false, 1, 4096),
    KEY("rope.dimension_count", RT_KEY_INT, rope_dim, RT_KEYS_MLA, true, 2, 4096),
    KEY("attention.layer_norm_rms_epsilon", RT_KEY_FLOAT, norm_eps, RT_KEYS_ALL, true, 0, 1),
    KEY("rope.freq_base", RT_KEY_FLOAT, rope_theta, RT_KEYS_ALL, false, 1e-3, 1e12),
    KEY("attention.sliding_window", RT_KEY_INT, window, RT_KEYS_WINDOW, false, 0, 1 << 30),
    KEY("expert_used_count", RT_KEY_INT, active, RT_KEYS_MOE, true, 1, RT_CHOICES_MAX),
    KEY("expert_feed_forward_length", RT_KEY_INT, expert_width, RT_KEYS_MOE, false, 1, DIM),
    KEY("expert_shared_feed_forward_length", RT_KEY_INT, shared_width, RT_KEYS_SHARED, false, 1,
        DIM),
    KEY("expert_shared_count", RT_KEY_INT, shared, RT_KEYS_DEEP, false, 0, 256),
    KEY("expert_group_count", RT_KEY_INT, groups, RT_KEYS_DEEP, false, 0, 256),
    KEY("expert_group_used_count", RT_KEY_INT, groups_kept, RT_KEYS_DEEP, false, 0, 256),
    KEY("expert_weights_scale", RT_KEY_FLOAT, route_scale, RT_KEYS_DEEP, false, 0, 1e6),
    KEY("expert_weights_norm", RT_KEY_BOOL, norm_topk, RT_KEYS_MOE, false, 0, 1),
    KEY("leading_dense_block_count", RT_KEY_INT, dense_first, RT_KEYS_DEEP, false, 0, 1024),
};

static const rt_config_key yarn_keys[] = {
    KEY("rope.scaling.yarn_beta_fast", RT_KEY_FLOAT, yarn_fast, RT_KEYS_ALL, false, 1e-3, 1e6),
    KEY("rope.scaling.yarn_beta_slow", RT_KEY_FLOAT, yarn_slow, RT_KEYS_ALL, false, 1e-3, 1e6),
    KEY("rope.scaling.yarn_attn_factor", RT_KEY_FLOAT, yarn_attention, RT_KEYS_ALL, false, 0, 1e3),
    KEY("rope.scaling.yarn_log_multiplier", RT_KEY_FLOAT, yarn_mscale_all, RT_KEYS_MLA, false, 0,
        1e3),
    KEY("rope.scaling.original_context_length", RT_KEY_FLOAT, rope_original, RT_KEYS_ALL, false, 1,
        1 << 30),
};

/* The factor's two names, the second of files older than rope.scaling.*; 0 says none. */
static const rt_config_key factor_keys[] = {
    KEY("rope.scale_linear", RT_KEY_FLOAT, rope_factor, RT_KEYS_ALL, false, 0, 1e6),
    KEY("rope.scaling.factor", RT_KEY_FLOAT, rope_factor, RT_KEYS_ALL, false, 0, 1e6),
};

/* Parts that no model of these architectures has here; neutral is the value that says so. */
static const struct {
    const char *name;
    double neutral;
} refused[] = {
    { "attention.clamp_kqv", 0 },
    { "attention.scale", 0 },
    { "attention.output_scale", 0 },
    { "attention.temperature_scale", 0 },
    { "attention.temperature_length", 0 },
    { "attention.max_alibi_bias", 0 },
    { "attention.sliding_window_pattern", 0 },
    { "attention.indexer.top_k", 0 },
    { "attn_logit_softcapping", 0 },
    { "final_logit_softcapping", 0 },
    { "router_logit_softcapping", 0 },
    { "logit_scale", 1 },
    { "embedding_scale", 1 },
    { "residual_scale", 1 },
    { "use_parallel_residual", 0 },
    { "swiglu_clamp_exp", 0 },
    { "swiglu_clamp_shexp", 0 },
    { "expert_group_scale", 1 },
    { "moe_every_n_layers", 1 },
    { "interleave_moe_layer_step", 1 },
    { "rope.scaling.alpha", 0 },
    { "rope.scaling.attn_factor", 1 },
    { "rope.scaling.yarn_ext_factor", 1 },
    { "rope.freq_base_swa", 0 },
    { "attention.shared_kv_layers", 0 },
    { "attention.relative_buckets_count", 0 },
};

/* Read elsewhere than by the tables, or without effect on what a model computes. */
static const char *const harmless[] = {
    "attention.causal",
    "attention.key_length",
    "attention.key_length_mla",
    "attention.value_length",
    "attention.value_length_mla",
    "expert_count",
    "expert_gating_func",
    "nextn_predict_layers",
    "pooling_type",
    "rope.scaling.finetuned",
    "rope.scaling.type",
    "tensor_data_layout",
    "attention.sliding_window",
    "vocab_size",
};

typedef struct reader {
    rt_config *cfg;
    const rt_gguf *g;
    char arch[32];
    char name[96]; /* of the last key asked for */
} reader;

static const char *key_name(reader *r, const char *key)
{
    snprintf(r->name, sizeof r->name, "%s.%s", r->arch, key);
    return r->name;
}

/* A number of any type; *there false when the file has no such key. */
static int read_number(reader *r, const char *key, double *out, bool *there, rt_err *err)
{
    const rt_gguf_key *k = rt_gguf_find_key(r->g, key_name(r, key));
    int64_t whole = 0;
    bool yes = false;
    *there = k != NULL;
    if (!k)
        return 0;
    if (k->type == RT_GGUF_F32 || k->type == RT_GGUF_F64)
        return rt_gguf_opt_f64(r->g, r->name, out, err);
    int bad = k->type == RT_GGUF_BOOL
                  ? rt_gguf_opt_bool(r->g, r->name, &yes, err)
                  : rt_gguf_opt_i64(r->g, r->name, INT32_MIN, UINT32_MAX, &whole, err);
    *out = k->type == RT_GGUF_BOOL ? (double)yes : (double)whole;
    return bad;
}

static int read_key(reader *r, const rt_config_key *k, rt_err *err)
{
    bool there = false;
    double v = 0;
    if (!((r->cfg->family->keys | RT_KEYS_ALL) & k->families))
        return 0;
    if (read_number(r, k->name, &v, &there, err))
        return -1;
    if (!there)
        return k->required ? rt_fail(err, "%s: key %s is missing", r->g->path, r->name) : 0;
    if (!rt_config_key_fits(k, v))
        return rt_fail(err, "%s: key %s is %g; it must be %s from %g to %g", r->g->path, r->name, v,
                       k->kind == RT_KEY_FLOAT ? "a number" : "an integer", k->min, k->max);
    rt_config_key_store(r->cfg, k, v);
    return 0;
}

static int refuse_parts(reader *r, rt_err *err)
{
    for (int i = 0; i < RT_COUNT(refused); i++) {
        bool there;
        double v = 0;
        if (read_number(r, refused[i].name, &v, &there, err))
            return -1;
        if (there && v != 0 && v != refused[i].neutral)
            return rt_fail(err, "%s: key %s: %g is not supported in a %s model", r->g->path,
                           r->name, v, r->arch);
    }
    bool causal = true;
    if (rt_gguf_opt_bool(r->g, key_name(r, "attention.causal"), &causal, err))
        return -1;
    return causal ? 0
                  : rt_fail(err, "%s: key %s: false: this model does not generate text", r->g->path,
                            r->name);
}

static bool is_known(const char *key)
{
    const struct {
        const rt_config_key *row;
        int n;
    } tables[] = { { keys, RT_COUNT(keys) },
                   { yarn_keys, RT_COUNT(yarn_keys) },
                   { factor_keys, RT_COUNT(factor_keys) } };
    for (int t = 0; t < RT_COUNT(tables); t++)
        for (int i = 0; i < tables[t].n; i++)
            if (strcmp(tables[t].row[i].name, key) == 0)
                return true;
    for (int i = 0; i < RT_COUNT(refused); i++)
        if (strcmp(refused[i].name, key) == 0)
            return true;
    return rt_key_among(harmless, RT_COUNT(harmless), key);
}

/* Keys of the architecture, and of parts that are none of a language model's. */
static void name_unknown(const reader *r)
{
    static const char *const others[] = { "general.", "tokenizer.", "split.", "quantize.",
                                          "retort." };
    rt_unknown_keys u = { 0 };
    size_t own = strlen(r->arch);
    for (int64_t i = 0; i < r->g->n_keys; i++) {
        const char *name = r->g->key[i].name;
        bool known = false;
        for (int k = 0; k < RT_COUNT(others); k++)
            known = known || strncmp(name, others[k], strlen(others[k])) == 0;
        if (strncmp(name, r->arch, own) == 0 && name[own] == '.')
            known = is_known(name + own + 1);
        if (!known)
            rt_unknown_add(&u, name);
    }
    rt_unknown_warn(&u, r->g->path);
}

static const rt_gguf_tensor *layer_tensor(const reader *r, int64_t layer, const char *leaf)
{
    char name[80];
    snprintf(name, sizeof name, "blk.%lld.%s", (long long)layer, leaf);
    return rt_gguf_find(r->g, name);
}

// -------------------------------------------------------------------------------------- the family

/* Architecture, experts and router say which row of the table of families a file is. */
static int read_family(reader *r, rt_err *err)
{
    rt_gguf_str text;
    char known[256];
    int64_t experts = 0, gating = 0, window = 0, context = 0;
    if (rt_gguf_find_key(r->g, "adapter.type"))
        return rt_fail(err, "%s: adapters, for llama.cpp's --lora, not a model", r->g->path);
    if (rt_gguf_get_str(r->g, "general.architecture", &text, err))
        return -1;
    snprintf(r->arch, sizeof r->arch, "%.*s", (int)rt_min(text.bytes, 31), text.text);
    if (!rt_family_find_gguf(r->arch, -1, -1, false))
        return rt_fail(err, "%s: architecture \"%s\" is not supported (%s are)", r->g->path,
                       r->arch, rt_family_list(known, sizeof known, true));
    if (rt_gguf_opt_i64(r->g, key_name(r, "expert_count"), 0, RT_EXPERTS_MAX, &experts, err) ||
        rt_gguf_opt_i64(r->g, key_name(r, "expert_gating_func"), 0, 255, &gating, err) ||
        rt_gguf_opt_i64(r->g, key_name(r, "context_length"), 0, 1 << 30, &context, err) ||
        rt_gguf_opt_i64(r->g, key_name(r, "attention.sliding_window"), 0, 1 << 30, &window, err))
        return -1;
    /* softmax, sigmoid, softmax of the chosen */
    int router = gating == 0 ? -1 : gating == 2 ? RT_ROUTE_SIGMOID : RT_ROUTE_SOFTMAX;
    r->cfg->experts = experts;
    const rt_family *f = rt_family_find_gguf(r->arch, experts > 0, router,
                                             window > 0 && window < context);
    r->cfg->family = f;
    return f && gating <= 3 && (gating != 3 || f->keys & RT_KEYS_OSS)
               ? 0
               : rt_fail(err,
                         "%s: a %s model with %lld experts, expert_gating_func %lld and "
                         "attention.sliding_window %lld is not supported",
                         r->g->path, r->arch, (long long)experts, (long long)gating,
                         (long long)window);
}

// -------------------------------------------------------------------------------------- its parts

static int read_mla(reader *r, rt_err *err)
{
    rt_config *c = r->cfg;
    int64_t dk = 0;
    bool split = rt_gguf_find_key(r->g, key_name(r, "attention.key_length_mla")) != NULL;
    /* files with keys and values of the latent give the head's own widths as ..._mla */
    if (rt_gguf_get_i64(r->g,
                        key_name(r, split ? "attention.key_length_mla" : "attention.key_length"), 1,
                        8192, &dk, err) ||
        rt_gguf_get_i64(
            r->g, key_name(r, split ? "attention.value_length_mla" : "attention.value_length"), 1,
            4096, &c->v_dim, err))
        return -1;
    c->kv_heads = c->heads;
    c->nope_dim = dk - c->rope_dim;
    c->interleaved = true;
    return c->nope_dim > 0 ? 0
                           : rt_fail(err, "%s: heads of %lld with %lld turned: no room", r->g->path,
                                     (long long)dk, (long long)c->rope_dim);
}

static int read_gqa(reader *r, rt_err *err)
{
    rt_config *c = r->cfg;
    if (c->kv_heads == 0)
        c->kv_heads = c->heads;
    if (c->head_dim == 0)
        c->head_dim = rt_max(1, c->width / c->heads);
    int64_t values = c->head_dim;
    if (rt_gguf_opt_i64(r->g, key_name(r, "attention.value_length"), 1, 4096, &values, err))
        return -1;
    if (values != c->head_dim)
        return rt_fail(err, "%s: keys of %lld and values of %lld: one width is supported",
                       r->g->path, (long long)c->head_dim, (long long)values);
    bool partial = c->rope_dim && c->rope_dim != c->head_dim;
    if (partial && (!(c->family->keys & RT_KEYS_GLM) || c->rope_dim > c->head_dim))
        return rt_fail(err,
                       "%s: key %s.rope.dimension_count: %lld of a head of %lld is not "
                       "supported",
                       r->g->path, r->arch, (long long)c->rope_dim, (long long)c->head_dim);
    if (!(c->family->keys & RT_KEYS_GLM))
        c->rope_dim = 0;
    c->qk_norm = layer_tensor(r, 0, "attn_q_norm.weight") != NULL;
    const bool oss = (c->family->keys & RT_KEYS_OSS) != 0;
    c->attention_bias = (oss || c->family->keys & RT_KEYS_BIAS) &&
                        layer_tensor(r, 0, "attn_q.bias") != NULL;
    c->use_window = c->window > 0;
    for (int64_t l = 0; c->window && l < c->layers; l++)
        c->windowed[l] = !oss || l % 2 == 0;
    c->swiglu_alpha = oss ? 1.702 : 0; /* of every model that has been published */
    c->swiglu_limit = oss ? 7 : 0;
    return 0;
}

/* Files made before llama.cpp chose experts by groups do not say how the two models that do were
   trained to. */
static void known_groups(reader *r)
{
    static const struct {
        int64_t layers, experts, groups, kept;
    } known[] = { { 61, 256, 8, 4 }, { 60, 160, 8, 3 } }; /* DeepSeek-V3, DeepSeek-V2 */
    rt_config *c = r->cfg;
    for (int i = 0; c->groups == 0 && i < RT_COUNT(known); i++)
        if (c->layers == known[i].layers && c->experts == known[i].experts) {
            c->groups = known[i].groups;
            c->groups_kept = known[i].kept;
            rt_warn("%s: no key expert_group_count; %lld layers of %lld experts are DeepSeek's: "
                    "%lld groups, %lld kept",
                    r->g->path, (long long)c->layers, (long long)c->experts, (long long)c->groups,
                    (long long)c->groups_kept);
        }
    if (c->groups == 0)
        c->groups = c->groups_kept = 1;
}

static int read_experts(reader *r, rt_err *err)
{
    rt_config *c = r->cfg;
    const int bits = c->family->keys;
    known_groups(r);
    if (c->route_scale == 0)
        c->route_scale = 1;
    c->sparse_step = 1;
    for (int64_t l = 0; (bits & RT_KEYS_STEP) && l < rt_min(c->layers, 256); l++)
        c->dense_layer[l] = !layer_tensor(r, l, "ffn_gate_inp.weight") &&
                            layer_tensor(r, l, "ffn_gate.weight");
    int64_t routed = 0;
    while (routed < c->layers && !rt_config_routed(c, routed))
        routed++;
    const rt_gguf_tensor *down = layer_tensor(r, routed, "ffn_down_exps.weight");
    const rt_gguf_tensor *shared = layer_tensor(r, routed, "ffn_down_shexp.weight");
    if (c->expert_width == 0 && down)
        c->expert_width = down->dim[down->rank - 1];
    if ((bits & RT_KEYS_SHARED) && c->shared_width == 0 && shared)
        c->shared_width = shared->dim[shared->rank - 1];
    if (bits & RT_KEYS_SHARED)
        c->shared = 1;
    if (c->expert_width < 1 || c->expert_width > (DIM) || c->shared_width > (DIM) ||
        (c->shared && rt_config_shared_width(c) < 1))
        return rt_fail(err,
                       "%s: neither key %s.expert_feed_forward_length nor a tensor says how "
                       "wide experts are",
                       r->g->path, r->arch);
    if ((bits & RT_KEYS_DEEP) && c->family->scoring == RT_ROUTE_SOFTMAX && c->norm_topk)
        return rt_fail(err,
                       "%s: key %s.expert_weights_norm: true is not supported in a %s model "
                       "with a softmax router",
                       r->g->path, r->arch, r->arch);
    return 0;
}

// -------------------------------------------------------------------------------------------- rope

static bool same_divisors(const rt_config *c, const uint8_t *data, int64_t half)
{
    for (int64_t i = 0; i < half; i++) {
        float d;
        memcpy(&d, data + i * (int64_t)sizeof d, sizeof d);
        if (!(fabs(rt_config_rope_divisor(c, i) - (double)d) <= 1e-5 * fabs((double)d)))
            return false;
    }
    return true;
}

/* Llama 3.1's scaling is no key but a tensor of divisors: which context length makes them? The
   other two numbers are the same in every model that has been published. */
static int read_divisors(reader *r, rt_err *err)
{
    rt_config *c = r->cfg;
    const rt_gguf_tensor *t = rt_gguf_find(r->g, "rope_freqs.weight");
    int64_t half = rt_config_rope_dim(c) / 2;
    float last;
    if (!t)
        return 0;
    if (t->dtype != RT_F32 || t->elements != half || half < 1)
        return rt_fail(err, "%s: rope_freqs.weight is not %lld f32 values", r->g->path,
                       (long long)half);
    if (rt_gguf_check(r->g, t, err))
        return -1;
    memcpy(&last, t->data + (half - 1) * (int64_t)sizeof last, sizeof last);
    c->rope_scaling = RT_ROPE_LLAMA3;
    c->rope_factor = (double)last;
    c->rope_low = 1;
    c->rope_high = 4;
    for (int i = 0; i <= 16; i++) { /* 8192, then powers of two from 16 on */
        c->rope_original = i ? ldexp(8, i) : 8192;
        if (same_divisors(c, t->data, half))
            return 0;
    }
    return rt_fail(err,
                   "%s: rope_freqs.weight does not follow Llama 3's rule; other rules are not "
                   "supported",
                   r->g->path);
}

/* As llama.cpp reads them: a factor without a type is linear, linear without a factor is plain. An
   unknown kind would give wrong numbers at length without a word. */
static int read_rope(reader *r, rt_err *err)
{
    rt_config *c = r->cfg;
    rt_gguf_str kind = { "linear", 6 };
    if (rt_gguf_opt_str(r->g, key_name(r, "rope.scaling.type"), &kind, err))
        return -1;
    bool yarn = rt_gguf_str_is(kind, "yarn");
    if (!yarn && !rt_gguf_str_is(kind, "linear") && !rt_gguf_str_is(kind, "none"))
        return rt_fail(err, "%s: %s \"%.*s\" is not supported (linear and yarn are)", r->g->path,
                       r->name, (int)rt_min(kind.bytes, 32), kind.text);
    for (int i = 0; i < RT_COUNT(factor_keys); i++)
        if (read_key(r, &factor_keys[i], err))
            return -1;
    if (yarn && c->rope_factor == 0)
        return rt_fail(err, "%s: key %s is missing", r->g->path, r->name);
    if (c->rope_factor == 0)
        c->rope_factor = 1;
    if (rt_gguf_str_is(kind, "none") || (!yarn && c->rope_factor == 1))
        return read_divisors(r, err);
    if (rt_gguf_find(r->g, "rope_freqs.weight"))
        return rt_fail(err,
                       "%s: rope_freqs.weight beside a %s rope of factor %g: one scaling is "
                       "supported",
                       r->g->path, yarn ? "yarn" : "linear", c->rope_factor);
    c->rope_scaling = yarn ? RT_ROPE_YARN : RT_ROPE_LINEAR;
    if (!yarn)
        return 0;
    c->yarn_slow = 1;
    c->yarn_truncate = !(c->family->keys & RT_KEYS_OSS);
    c->yarn_fast = 32;
    c->rope_original = (double)c->max_positions;
    for (int i = 0; i < RT_COUNT(yarn_keys); i++)
        if (read_key(r, &yarn_keys[i], err))
            return -1;
    /* llama.cpp's converter writes a tenth of mscale_all_dim, and no mscale: it takes the two to be
       equal, which they are in every model that has been published */
    c->yarn_mscale_all *= 10;
    c->yarn_mscale = c->yarn_mscale_all;
    return 0;
}

// --------------------------------------------------------------------------------------------- all

static int read_tokens(reader *r, rt_err *err)
{
    rt_config *c = r->cfg;
    static const char *const ends[] = { "tokenizer.ggml.eos_token_id",
                                        "tokenizer.ggml.eot_token_id",
                                        "tokenizer.ggml.eom_token_id" };
    c->bos = c->pad = -1;
    if (rt_gguf_opt_i64(r->g, "tokenizer.ggml.bos_token_id", 0, INT32_MAX, &c->bos, err) ||
        rt_gguf_opt_i64(r->g, "tokenizer.ggml.padding_token_id", 0, INT32_MAX, &c->pad, err))
        return -1;
    for (int i = 0; i < RT_COUNT(ends); i++) {
        int64_t id = -1;
        if (rt_gguf_opt_i64(r->g, ends[i], 0, INT32_MAX, &id, err))
            return -1;
        if (id >= 0 && !rt_config_is_eos(c, (int32_t)id))
            c->eos[c->n_eos++] = id;
    }
    return 0;
}

/* block_count includes the layers that predict further tokens. */
static int read_layers(reader *r, rt_err *err)
{
    rt_config *c = r->cfg;
    int64_t further = 0;
    if (rt_gguf_opt_i64(r->g, key_name(r, "nextn_predict_layers"), 0, 1024, &further, err))
        return -1;
    c->layers -= further;
    return c->layers > 0
               ? 0
               : rt_fail(err, "%s: %lld further layers leave none", r->g->path, (long long)further);
}

int rt_config_gguf(rt_config *cfg, const rt_gguf *g, rt_err *err)
{
    reader r = { .cfg = cfg, .g = g };
    memset(cfg, 0, sizeof *cfg);
    if (read_family(&r, err) || refuse_parts(&r, err))
        return -1;
    cfg->rope_theta = 10000;
    cfg->init_std = 0.02;
    cfg->norm_topk = cfg->family->gguf_norm_topk;
    for (int i = 0; i < RT_COUNT(keys); i++)
        if (read_key(&r, &keys[i], err))
            return -1;
    const rt_gguf_tensor *embed = rt_gguf_find(g, "token_embd.weight");
    if (!embed || embed->rank != 2 || embed->dim[0] < 2)
        return rt_fail(err, "%s: tensor token_embd.weight is missing or no matrix", g->path);
    cfg->vocab = embed->dim[0];
    cfg->tied = rt_gguf_find(g, "output.weight") == NULL;
    bool mla = cfg->family->attn == RT_ATTN_MLA;
    if (cfg->window >= cfg->max_positions)
        cfg->window = 0;
    if (read_layers(&r, err) || (mla ? read_mla(&r, err) : read_gqa(&r, err)))
        return -1;
    if (cfg->family->routed && read_experts(&r, err))
        return -1;
    if (!cfg->family->routed)
        cfg->groups = cfg->groups_kept = 1;
    if (read_rope(&r, err) || read_tokens(&r, err) || rt_config_check(cfg, g->path, err))
        return -1;
    name_unknown(&r);
    return 0;
}
