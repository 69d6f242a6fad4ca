#include "core/config.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const rt_family families[] = {
    /* model_type, architecture, gguf, attention, routed, scoring, qk_norm, gguf_interleaved */
    { "llama", "LlamaForCausalLM", "llama", RT_ATTN_GQA, false, RT_ROUTE_SOFTMAX, false, true },
    { "qwen3", "Qwen3ForCausalLM", "qwen3", RT_ATTN_GQA, false, RT_ROUTE_SOFTMAX, true, false },
    { "qwen3_moe", "Qwen3MoeForCausalLM", NULL, RT_ATTN_GQA, true, RT_ROUTE_SOFTMAX, true, false },
    { "deepseek_v3", "DeepseekV3ForCausalLM", NULL, RT_ATTN_MLA, true, RT_ROUTE_SIGMOID, false,
      false },
};

const rt_family *rt_family_find(const char *model_type)
{
    for (int i = 0; i < RT_COUNT(families); i++)
        if (strcmp(families[i].model_type, model_type) == 0)
            return &families[i];
    return NULL;
}

const rt_family *rt_family_find_gguf(const char *architecture)
{
    for (int i = 0; i < RT_COUNT(families); i++)
        if (families[i].gguf && strcmp(families[i].gguf, architecture) == 0)
            return &families[i];
    return NULL;
}

/* ---- the table of config.json keys ------------------------------------------------------------
 */

enum { ALL = 1, GQA = 2, MLA = 4, MOE = 8, V3 = 16, QMOE = 32 }; /* which families have the key */
typedef enum key_kind { KEY_INT, KEY_FLOAT, KEY_BOOL } key_kind;

typedef struct config_key {
    const char *name;
    key_kind kind;
    size_t offset;
    int families;
    bool required;
    double def, min, max;
} config_key;

#define KEY(name, kind, field, families, required, def, min, max)                                  \
    {                                                                                              \
        name, kind, offsetof(rt_config, field), families, required, def, min, max                  \
    }
#define DIM 1 << 24 /* no width, rank or count of a real model is near this */

static const config_key keys[] = {
    KEY("num_hidden_layers", KEY_INT, layers, ALL, true, 0, 1, 1024),
    KEY("hidden_size", KEY_INT, width, ALL, true, 0, 1, DIM),
    KEY("vocab_size", KEY_INT, vocab, ALL, true, 0, 2, DIM),
    KEY("num_attention_heads", KEY_INT, heads, ALL, true, 0, 1, 4096),
    KEY("num_key_value_heads", KEY_INT, kv_heads, ALL, false, 0, 1, 4096),
    KEY("head_dim", KEY_INT, head_dim, GQA, false, 0, 1, 4096),
    KEY("q_lora_rank", KEY_INT, q_rank, MLA, false, 0, 0, DIM),
    KEY("kv_lora_rank", KEY_INT, kv_rank, MLA, true, 0, 1, DIM),
    KEY("qk_nope_head_dim", KEY_INT, nope_dim, MLA, true, 0, 1, 4096),
    KEY("qk_rope_head_dim", KEY_INT, rope_dim, MLA, true, 0, 2, 4096),
    KEY("v_head_dim", KEY_INT, v_dim, MLA, true, 0, 1, 4096),
    KEY("intermediate_size", KEY_INT, ffn_width, ALL, true, 0, 1, DIM),
    KEY("moe_intermediate_size", KEY_INT, expert_width, MOE, true, 0, 1, DIM),
    KEY("n_routed_experts", KEY_INT, experts, V3, true, 0, 1, 4096),
    KEY("num_experts", KEY_INT, experts, QMOE, true, 0, 1, 4096),
    KEY("num_experts_per_tok", KEY_INT, active, MOE, true, 0, 1, 256),
    KEY("n_shared_experts", KEY_INT, shared, V3, false, 0, 0, 256),
    KEY("n_group", KEY_INT, groups, V3, false, 1, 1, 256),
    KEY("topk_group", KEY_INT, groups_kept, V3, false, 1, 1, 256),
    KEY("first_k_dense_replace", KEY_INT, dense_first, V3, false, 0, 0, 1024),
    KEY("decoder_sparse_step", KEY_INT, sparse_step, QMOE, false, 1, 0, 1024),
    KEY("norm_topk_prob", KEY_BOOL, norm_topk, MOE, false, 0, 0, 1),
    KEY("routed_scaling_factor", KEY_FLOAT, route_scale, V3, false, 1, 0, 1e6),
    KEY("rms_norm_eps", KEY_FLOAT, norm_eps, ALL, true, 0, 0, 1),
    KEY("initializer_range", KEY_FLOAT, init_std, ALL, false, 0.02, 0, 10),
    KEY("tie_word_embeddings", KEY_BOOL, tied, ALL, false, 0, 0, 1),
    KEY("rope_interleave", KEY_BOOL, interleaved, V3, false, 1, 0, 1),
    KEY("max_position_embeddings", KEY_INT, max_positions, ALL, true, 0, 1, 1 << 30),
};

/* Keys of a rope_scaling (or rope_parameters) object, for the kinds in `families` bits below. */
enum { R_LINEAR = 1, R_LLAMA3 = 2, R_YARN = 4 };
static const config_key rope_keys[] = {
    KEY("factor", KEY_FLOAT, rope_factor, R_LINEAR | R_LLAMA3 | R_YARN, true, 1, 1e-3, 1e6),
    KEY("low_freq_factor", KEY_FLOAT, rope_low, R_LLAMA3, true, 1, 1e-3, 1e6),
    KEY("high_freq_factor", KEY_FLOAT, rope_high, R_LLAMA3, true, 4, 1e-3, 1e6),
    KEY("original_max_position_embeddings", KEY_FLOAT, rope_original, R_LLAMA3 | R_YARN, false, 0,
        1, 1 << 30),
    KEY("beta_fast", KEY_FLOAT, yarn_fast, R_YARN, false, 32, 1e-3, 1e6),
    KEY("beta_slow", KEY_FLOAT, yarn_slow, R_YARN, false, 1, 1e-3, 1e6),
    KEY("mscale", KEY_FLOAT, yarn_mscale, R_YARN, false, 0, 0, 1e3),
    KEY("mscale_all_dim", KEY_FLOAT, yarn_mscale_all, R_YARN, false, 0, 0, 1e3),
    KEY("attention_factor", KEY_FLOAT, yarn_attention, R_YARN, false, 0, 0, 1e3),
};

static int family_bits(const rt_family *f)
{
    int bits = ALL | (f->attn == RT_ATTN_MLA ? MLA : GQA);
    if (f->routed)
        bits |= MOE | (f->scoring == RT_ROUTE_SIGMOID ? V3 : QMOE);
    return bits;
}

/* Names that newer transformers write for a key. */
static const char *const renamed[][2] = { { "num_experts", "num_local_experts" } };

static const cJSON *find_key(const cJSON *json, const char *name)
{
    const cJSON *item = rt_json_find(json, name);
    for (int i = 0; !item && i < RT_COUNT(renamed); i++)
        if (strcmp(name, renamed[i][0]) == 0)
            item = rt_json_find(json, renamed[i][1]);
    return item;
}

static int read_key(rt_config *cfg, const cJSON *json, const config_key *k, const char *what,
                    rt_err *err)
{
    uint8_t *field = (uint8_t *)cfg + k->offset;
    const cJSON *item = find_key(json, k->name);
    if (!item || cJSON_IsNull(item)) {
        if (k->required)
            return rt_fail(err, "%s: no \"%s\": is this a model's config.json?", what, k->name);
        if (k->kind == KEY_FLOAT)
            *(double *)(void *)field = k->def;
        else if (k->kind == KEY_INT)
            *(int64_t *)(void *)field = (int64_t)k->def;
        else
            *(bool *)field = k->def != 0;
        return 0;
    }
    if (k->kind == KEY_BOOL) {
        if (!cJSON_IsBool(item))
            return rt_fail(err, "%s: \"%s\" must be true or false", what, k->name);
        *(bool *)field = cJSON_IsTrue(item);
        return 0;
    }
    double v = item->valuedouble;
    if (!cJSON_IsNumber(item) || !(v >= k->min && v <= k->max) ||
        (k->kind == KEY_INT && v != floor(v)))
        return rt_fail(err, "%s: \"%s\" must be %s between %g and %g", what, k->name,
                       k->kind == KEY_INT ? "an integer" : "a number", k->min, k->max);
    if (k->kind == KEY_INT)
        *(int64_t *)(void *)field = (int64_t)v;
    else
        *(double *)(void *)field = v;
    return 0;
}

/* rope_theta and rope_scaling as transformers 4 writes them, or rope_parameters of version 5. */
static int read_rope(rt_config *cfg, const cJSON *json, const char *what, rt_err *err)
{
    const cJSON *parameters = rt_json_find(json, "rope_parameters");
    const cJSON *scaling = rt_json_find(json, "rope_scaling");
    if (cJSON_IsObject(parameters))
        scaling = parameters;
    cfg->rope_theta = 10000;
    if (rt_json_opt_f64(json, "rope_theta", &cfg->rope_theta, err))
        return rt_wrap(err, "%s", what);
    cfg->rope_scaling = RT_ROPE_PLAIN;
    if (!scaling || cJSON_IsNull(scaling))
        return 0;
    if (!cJSON_IsObject(scaling))
        return rt_fail(err, "%s: \"rope_scaling\" must be an object or null", what);
    const char *kind = "default";
    if (rt_json_opt_f64(scaling, "rope_theta", &cfg->rope_theta, err) ||
        rt_json_opt_str(scaling, "type", &kind, err) ||
        rt_json_opt_str(scaling, "rope_type", &kind, err))
        return rt_wrap(err, "%s: rope_scaling", what);
    if (strcmp(kind, "default") == 0)
        return 0;
    int bit = 0;
    if (strcmp(kind, "linear") == 0)
        cfg->rope_scaling = RT_ROPE_LINEAR, bit = R_LINEAR;
    else if (strcmp(kind, "llama3") == 0)
        cfg->rope_scaling = RT_ROPE_LLAMA3, bit = R_LLAMA3;
    else if (strcmp(kind, "yarn") == 0)
        cfg->rope_scaling = RT_ROPE_YARN, bit = R_YARN;
    else
        return rt_fail(err,
                       "%s: rope type \"%s\" is not supported (default, linear, llama3, yarn are)",
                       what, kind);
    for (int i = 0; i < RT_COUNT(rope_keys); i++)
        if ((rope_keys[i].families & bit) && read_key(cfg, scaling, &rope_keys[i], what, err))
            return -1;
    if (cfg->rope_original == 0)
        cfg->rope_original = (double)cfg->max_positions;
    return 0;
}

/* "eos_token_id": one id or a list; those that are known already are not repeated. */
static void add_eos(rt_config *cfg, const cJSON *json)
{
    const cJSON *eos = rt_json_find(json, "eos_token_id");
    const cJSON *item = cJSON_IsArray(eos) ? eos->child : eos;
    for (; item && cfg->n_eos < RT_COUNT(cfg->eos); item = cJSON_IsArray(eos) ? item->next : NULL) {
        double id = cJSON_IsNumber(item) ? item->valuedouble : -1;
        if (id >= 0 && id <= INT32_MAX && !rt_config_is_eos(cfg, (int32_t)id))
            cfg->eos[cfg->n_eos++] = (int64_t)id;
    }
}

static int read_tokens(rt_config *cfg, const cJSON *json, const char *what, rt_err *err)
{
    cfg->bos = cfg->pad = -1;
    cfg->n_eos = 0;
    if (rt_json_opt_i64(json, "pad_token_id", -1, DIM, &cfg->pad, err))
        return rt_wrap(err, "%s", what);
    const cJSON *bos = rt_json_find(json, "bos_token_id");
    if (cJSON_IsNumber(bos))
        cfg->bos = (int64_t)bos->valuedouble;
    add_eos(cfg, json);
    return 0;
}

/* A key that changes the computation and that we do not implement must not pass silently. */
static int refuse_unknown_parts(const cJSON *json, const char *what, rt_err *err)
{
    static const struct {
        const char *key, *ok;
    } strings[] = { { "hidden_act", "silu" },
                    { "topk_method", "noaux_tc" },
                    { "scoring_func", "sigmoid" } };
    static const char *const falses[] = { "attention_bias", "mlp_bias", "use_sliding_window" };
    for (int i = 0; i < RT_COUNT(strings); i++) {
        const char *value = strings[i].ok;
        if (rt_json_opt_str(json, strings[i].key, &value, err))
            return rt_wrap(err, "%s", what);
        if (strcmp(value, strings[i].ok) != 0)
            return rt_fail(err, "%s: \"%s\": \"%s\" is not supported (only \"%s\")", what,
                           strings[i].key, value, strings[i].ok);
    }
    for (int i = 0; i < RT_COUNT(falses); i++)
        if (cJSON_IsTrue(rt_json_find(json, falses[i])))
            return rt_fail(err, "%s: \"%s\": true is not supported", what, falses[i]);
    return 0;
}

int rt_config_check(const rt_config *c, const char *what, rt_err *err)
{
    int64_t unused;
    if (c->heads % c->kv_heads != 0)
        return rt_fail(err, "%s: %lld query heads cannot share %lld key heads", what,
                       (long long)c->heads, (long long)c->kv_heads);
    if (rt_config_rope_dim(c) % 2 != 0)
        return rt_fail(err, "%s: rope width %lld is odd", what, (long long)rt_config_rope_dim(c));
    if (!rt_mul_ok(c->vocab, c->width, &unused) || c->vocab > INT32_MAX)
        return rt_fail(err, "%s: vocab_size %lld is too large", what, (long long)c->vocab);
    if (!c->family->routed)
        return 0;
    if (c->active > c->experts)
        return rt_fail(err, "%s: num_experts_per_tok %lld exceeds the %lld experts", what,
                       (long long)c->active, (long long)c->experts);
    if (c->experts % c->groups != 0 || c->groups_kept > c->groups ||
        c->groups_kept * (c->experts / c->groups) < c->active ||
        (c->groups > 1 && c->experts / c->groups < 2))
        return rt_fail(
            err, "%s: %lld experts in %lld groups, %lld kept, %lld chosen do not fit together",
            what, (long long)c->experts, (long long)c->groups, (long long)c->groups_kept,
            (long long)c->active);
    return 0;
}

int rt_config_parse(rt_config *cfg, const cJSON *json, const char *what, rt_err *err)
{
    memset(cfg, 0, sizeof *cfg);
    const char *type = NULL;
    if (rt_json_get_str(json, "model_type", &type, err))
        return rt_wrap(err, "%s", what);
    cfg->family = rt_family_find(type);
    if (!cfg->family)
        return rt_fail(err,
                       "%s: model_type \"%s\" is not supported (llama, qwen3, qwen3_moe and "
                       "deepseek_v3 are)",
                       what, type);
    if (refuse_unknown_parts(json, what, err) ||
        rt_quantization_parse(&cfg->quantization, json, what, err))
        return -1;
    int bits = family_bits(cfg->family);
    for (int i = 0; i < RT_COUNT(keys); i++)
        if ((keys[i].families & bits) && read_key(cfg, json, &keys[i], what, err))
            return -1;
    if (cfg->kv_heads == 0 || cfg->family->attn == RT_ATTN_MLA)
        cfg->kv_heads = cfg->heads; /* under MLA the key is meaningless */
    if (cfg->family->attn == RT_ATTN_GQA && cfg->head_dim == 0) {
        if (cfg->width % cfg->heads != 0)
            return rt_fail(
                err, "%s: no \"head_dim\" and hidden_size is not a multiple of the heads", what);
        cfg->head_dim = cfg->width / cfg->heads;
    }
    if (!cfg->family->routed)
        cfg->groups = cfg->groups_kept = 1;
    if (cfg->groups == 0)
        cfg->groups = cfg->groups_kept = 1;
    if (cfg->route_scale == 0)
        cfg->route_scale = 1;
    const cJSON *only = rt_json_find(json, "mlp_only_layers"), *layer;
    cJSON_ArrayForEach(layer, only)
    {
        if (!cJSON_IsNumber(layer) || !(layer->valuedouble >= 0 && layer->valuedouble < 256))
            return rt_fail(err, "%s: mlp_only_layers must list layers below 256", what);
        cfg->dense_layer[(int)layer->valuedouble] = 1;
    }
    if (read_rope(cfg, json, what, err) || read_tokens(cfg, json, what, err))
        return -1;
    return rt_config_check(cfg, what, err);
}

int rt_config_load(rt_config *cfg, const char *dir, rt_err *err)
{
    char *path = rt_path_join(dir, "config.json");
    cJSON *json = NULL;
    int bad = rt_json_load(&json, path, err) || rt_config_parse(cfg, json, path, err);
    cJSON_Delete(json);
    free(path);
    if (bad)
        return -1;
    path = rt_path_join(dir, "generation_config.json");
    json = NULL;
    bad = rt_path_exists(path) && rt_json_load(&json, path, err);
    if (!bad)
        add_eos(cfg, json);
    cJSON_Delete(json);
    free(path);
    return bad ? -1 : 0;
}

static void put_key(cJSON *json, const rt_config *cfg, const config_key *k)
{
    const uint8_t *field = (const uint8_t *)cfg + k->offset;
    if (k->kind == KEY_BOOL)
        rt_json_put_bool(json, k->name, *(const bool *)field);
    else if (k->kind == KEY_FLOAT)
        rt_json_put_num(json, k->name, *(const double *)(const void *)field);
    else
        rt_json_put_i64(json, k->name, *(const int64_t *)(const void *)field);
}

cJSON *rt_config_json(const rt_config *cfg, const char *dtype)
{
    static const struct {
        rt_rope_scaling kind;
        int bit;
        const char *name;
    } scalings[] = { { RT_ROPE_LINEAR, R_LINEAR, "linear" },
                     { RT_ROPE_LLAMA3, R_LLAMA3, "llama3" },
                     { RT_ROPE_YARN, R_YARN, "yarn" } };
    cJSON *json = rt_json_object(), *list = rt_json_array();
    cJSON_AddItemToArray(list, cJSON_CreateString(cfg->family->architecture));
    rt_json_put(json, "architectures", list);
    rt_json_put_str(json, "model_type", cfg->family->model_type);
    rt_json_put_str(json, "torch_dtype", dtype);
    rt_json_put_str(json, "hidden_act", "silu");
    rt_json_put_bool(json, "attention_bias", false);
    rt_json_put_num(json, "attention_dropout", 0);
    int bits = family_bits(cfg->family);
    for (int i = 0; i < RT_COUNT(keys); i++) {
        if (!(keys[i].families & bits))
            continue;
        if (strcmp(keys[i].name, "q_lora_rank") == 0 && cfg->q_rank == 0)
            rt_json_put(json, keys[i].name, cJSON_CreateNull());
        else
            put_key(json, cfg, &keys[i]);
    }
    if (bits & V3) {
        rt_json_put_str(json, "topk_method", "noaux_tc");
        rt_json_put_str(json, "scoring_func", "sigmoid");
        rt_json_put_i64(json, "moe_layer_freq", 1);
        rt_json_put_i64(json, "num_nextn_predict_layers", 0);
    }
    if (bits & QMOE) {
        cJSON *only = rt_json_array();
        for (int l = 0; l < RT_COUNT(cfg->dense_layer); l++)
            if (cfg->dense_layer[l])
                cJSON_AddItemToArray(only, cJSON_CreateNumber(l));
        rt_json_put(json, "mlp_only_layers", only);
    }
    rt_json_put_num(json, "rope_theta", cfg->rope_theta);
    cJSON *scaling = NULL;
    for (int i = 0; i < RT_COUNT(scalings); i++) {
        if (cfg->rope_scaling != scalings[i].kind)
            continue;
        scaling = rt_json_object();
        rt_json_put_str(scaling, "rope_type", scalings[i].name);
        for (int j = 0; j < RT_COUNT(rope_keys); j++) {
            double value = *(const double *)(const void *)((const uint8_t *)cfg +
                                                           rope_keys[j].offset);
            if ((rope_keys[j].families & scalings[i].bit) && (value != 0 || rope_keys[j].required))
                put_key(scaling, cfg, &rope_keys[j]);
        }
    }
    rt_json_put(json, "rope_scaling", scaling ? scaling : cJSON_CreateNull());
    if (cfg->bos >= 0)
        rt_json_put_i64(json, "bos_token_id", cfg->bos);
    if (cfg->pad >= 0)
        rt_json_put_i64(json, "pad_token_id", cfg->pad);
    if (cfg->n_eos == 1)
        rt_json_put_i64(json, "eos_token_id", cfg->eos[0]);
    if (cfg->n_eos > 1) {
        cJSON *eos = rt_json_array();
        for (int64_t i = 0; i < cfg->n_eos; i++)
            cJSON_AddItemToArray(eos, cJSON_CreateNumber((double)cfg->eos[i]));
        rt_json_put(json, "eos_token_id", eos);
    }
    rt_json_put_bool(json, "use_cache", true);
    return json;
}

/* ---- derived facts ------------------------------------------------------------------------------
 */

bool rt_config_routed(const rt_config *cfg, int64_t layer)
{
    if (!cfg->family->routed || layer < cfg->dense_first)
        return false;
    if (layer < RT_COUNT(cfg->dense_layer) && cfg->dense_layer[layer])
        return false;
    if (cfg->family->scoring == RT_ROUTE_SIGMOID)
        return true;
    return cfg->sparse_step > 0 && (layer + 1) % cfg->sparse_step == 0;
}

int64_t rt_config_dk(const rt_config *cfg)
{
    return cfg->family->attn == RT_ATTN_MLA ? cfg->nope_dim + cfg->rope_dim : cfg->head_dim;
}

int64_t rt_config_dv(const rt_config *cfg)
{
    return cfg->family->attn == RT_ATTN_MLA ? cfg->v_dim : cfg->head_dim;
}

int64_t rt_config_rope_dim(const rt_config *cfg)
{
    return cfg->family->attn == RT_ATTN_MLA ? cfg->rope_dim : cfg->head_dim;
}

/* YaRN's magnitude correction, section 3.4 of arXiv 2309.00071. */
static double yarn_gain(double factor, double mscale)
{
    return factor <= 1 ? 1 : 0.1 * mscale * log(factor) + 1;
}

float rt_config_softmax_scale(const rt_config *cfg)
{
    double scale = 1 / sqrt((double)rt_config_dk(cfg));
    if (cfg->family->attn == RT_ATTN_MLA && cfg->rope_scaling == RT_ROPE_YARN &&
        cfg->yarn_mscale_all !=
            0) { /* mscale_all_dim, not mscale, and squared: q and k both carry it */
        double gain = yarn_gain(cfg->rope_factor, cfg->yarn_mscale_all);
        scale *= gain * gain;
    }
    return (float)scale;
}

rt_route_policy rt_config_route(const rt_config *cfg)
{
    rt_route_policy p = { cfg->family->scoring,   (int32_t)cfg->experts,     (int32_t)cfg->active,
                          (int32_t)cfg->groups,   (int32_t)cfg->groups_kept, cfg->norm_topk,
                          (float)cfg->route_scale };
    return p;
}

bool rt_config_is_eos(const rt_config *cfg, int32_t token)
{
    for (int64_t i = 0; i < cfg->n_eos; i++)
        if (cfg->eos[i] == token)
            return true;
    return false;
}

/* Where YaRN's ramp begins and ends: the dimension that makes `turns` rotations in the original
   context, eq. (23). */
static double yarn_dimension(const rt_config *cfg, double turns)
{
    double width = (double)rt_config_rope_dim(cfg);
    return width * log(cfg->rope_original / (turns * 2 * M_PI)) / (2 * log(cfg->rope_theta));
}

static double inverse_frequency(const rt_config *cfg, int64_t i)
{
    int64_t half = rt_config_rope_dim(cfg) / 2;
    double f = pow(cfg->rope_theta, -(double)i / (double)half);
    if (cfg->rope_freqs)
        return f / (double)cfg->rope_freqs[i];
    if (cfg->rope_scaling == RT_ROPE_LINEAR)
        return f / cfg->rope_factor;
    if (cfg->rope_scaling == RT_ROPE_LLAMA3) {
        double wavelength = 2 * M_PI / f;
        if (wavelength < cfg->rope_original / cfg->rope_high)
            return f;
        if (wavelength > cfg->rope_original / cfg->rope_low)
            return f / cfg->rope_factor;
        double t = (cfg->rope_original / wavelength - cfg->rope_low) /
                   (cfg->rope_high - cfg->rope_low);
        return (1 - t) * f / cfg->rope_factor + t * f;
    }
    if (cfg->rope_scaling == RT_ROPE_YARN) {
        double low = fmax(floor(yarn_dimension(cfg, cfg->yarn_fast)), 0);
        double high = fmin(ceil(yarn_dimension(cfg, cfg->yarn_slow)), (double)(2 * half - 1));
        double ramp = ((double)i - low) / fmax(high - low, 0.001);
        ramp = fmin(fmax(ramp, 0), 1);
        return f / cfg->rope_factor * ramp + f * (1 - ramp);
    }
    return f;
}

void rt_config_rope_table(const rt_config *cfg, float *table, int64_t positions)
{
    int64_t half = rt_config_rope_dim(cfg) / 2;
    double gain = 1;
    if (cfg->rope_scaling == RT_ROPE_YARN) {
        gain = yarn_gain(cfg->rope_factor, 1);
        if (cfg->yarn_mscale != 0 && cfg->yarn_mscale_all != 0)
            gain = yarn_gain(cfg->rope_factor, cfg->yarn_mscale) /
                   yarn_gain(cfg->rope_factor, cfg->yarn_mscale_all);
        if (cfg->yarn_attention != 0)
            gain = cfg->yarn_attention;
    }
    for (int64_t i = 0; i < half; i++) {
        double f = inverse_frequency(cfg, i);
        for (int64_t t = 0; t < positions; t++) {
            table[t * 2 * half + i] = (float)(gain * cos((double)t * f));
            table[t * 2 * half + half + i] = (float)(gain * sin((double)t * f));
        }
    }
}
