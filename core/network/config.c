/* config.c: config.json of a Hugging Face directory, read by the table of keys (config_table.c), checked,
   and what is neither used nor harmless named. Refuses: GGUF (config_gguf.c), writing (config_write.c). */
#include "core/network/config.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/formats/listing.h"
#include "core/network/config_key.h"

static const double SIZE_LIMIT = 1e13; /* weights; no real model is near this */

/* Names that newer transformers write for a key. */
static const char *const renamed[][2] = { { "num_experts", "num_local_experts" },
                                          { "n_routed_experts", "num_local_experts" } };

static const cJSON *find_key(const cJSON *json, const char *name)
{
    const cJSON *item = rt_json_find(json, name);
    for (int i = 0; !item && i < RT_COUNT(renamed); i++)
        if (strcmp(name, renamed[i][0]) == 0)
            item = rt_json_find(json, renamed[i][1]);
    return item;
}

static int read_key(rt_config *cfg, const cJSON *json, const rt_config_key *k, const char *what,
                    rt_err *err)
{
    const cJSON *item = find_key(json, k->name);
    if (!item || cJSON_IsNull(item)) {
        if (k->required)
            return rt_fail(err, "%s: no \"%s\": is this a model's config.json?", what, k->name);
        rt_config_key_store(cfg, k, k->def);
        return 0;
    }
    if (k->kind == RT_KEY_BOOL) {
        if (!cJSON_IsBool(item))
            return rt_fail(err, "%s: \"%s\" must be true or false", what, k->name);
        rt_config_key_store(cfg, k, cJSON_IsTrue(item));
        return 0;
    }
    if (!cJSON_IsNumber(item) || !rt_config_key_fits(k, item->valuedouble))
        return rt_fail(err, "%s: \"%s\" must be %s between %g and %g", what, k->name,
                       k->kind == RT_KEY_INT ? "an integer" : "a number", k->min, k->max);
    rt_config_key_store(cfg, k, item->valuedouble);
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
    if (!scaling || cJSON_IsNull(scaling)) {
        if (!(cfg->family->keys & RT_KEYS_OSS))
            return 0;
        return rt_fail(err,
                       "%s: no \"rope_scaling\": code disagrees on what a %s model then does; "
                       "take it from the published config.json",
                       what, cfg->family->model_type);
    }
    if (!cJSON_IsObject(scaling))
        return rt_fail(err, "%s: \"rope_scaling\" must be an object or null", what);
    const cJSON *part;
    cJSON_ArrayForEach(part, scaling)
    {
        if (cJSON_IsObject(part)) /* one rope for each kind of layer */
            return rt_fail(err, "%s: rope_parameters of \"%.40s\" alone are not supported", what,
                           part->string);
    }
    const char *kind = "default";
    if (rt_json_opt_f64(scaling, "rope_theta", &cfg->rope_theta, err) ||
        rt_json_opt_str(scaling, "type", &kind, err) ||
        rt_json_opt_str(scaling, "rope_type", &kind, err))
        return rt_wrap(err, "%s: rope_scaling", what);
    if (strcmp(kind, "default") == 0)
        return 0;
    int bit = 0;
    for (const rt_config_scaling *r = rt_config_scalings; r->name; r++)
        if (strcmp(kind, r->name) == 0)
            cfg->rope_scaling = r->kind, bit = r->bit;
    if (!bit)
        return rt_fail(err,
                       "%s: rope type \"%s\" is not supported (default, linear, llama3, yarn are)",
                       what, kind);
    for (const rt_config_key *k = rt_config_rope_keys; k->name; k++)
        if ((k->families & bit) && read_key(cfg, scaling, k, what, err))
            return -1;
    if (cfg->rope_original == 0)
        cfg->rope_original = (double)cfg->max_positions;
    return 0;
}

/* "eos_token_id": one id or a list; those that are known already are not repeated. */
static int add_eos(rt_config *cfg, const cJSON *json, const char *what, rt_err *err)
{
    const cJSON *eos = rt_json_find(json, "eos_token_id");
    const cJSON *item = cJSON_IsArray(eos) ? eos->child : eos;
    for (; item; item = cJSON_IsArray(eos) ? item->next : NULL) {
        double id = cJSON_IsNumber(item) ? item->valuedouble : -1;
        if (!(id >= 0 && id <= INT32_MAX) || rt_config_is_eos(cfg, (int32_t)id))
            continue;
        if (cfg->n_eos == RT_COUNT(cfg->eos))
            return rt_fail(err, "%s: more than %d ids of \"eos_token_id\"", what,
                           RT_COUNT(cfg->eos));
        cfg->eos[cfg->n_eos++] = (int64_t)id;
    }
    return 0;
}

static int read_tokens(rt_config *cfg, const cJSON *json, const char *what, rt_err *err)
{
    cfg->bos = cfg->pad = -1;
    cfg->n_eos = 0;
    if (rt_json_opt_i64(json, "pad_token_id", -1, RT_DIM_MAX, &cfg->pad, err))
        return rt_wrap(err, "%s", what);
    const cJSON *bos = rt_json_find(json, "bos_token_id");
    if (cJSON_IsNumber(bos) && bos->valuedouble >= 0 && bos->valuedouble <= INT32_MAX)
        cfg->bos = (int64_t)bos->valuedouble;
    return add_eos(cfg, json, what, err);
}

/* A key that changes the computation and that we do not implement must not pass silently. */
static int refuse_unknown_parts(const rt_family *f, const cJSON *json, const char *what,
                                rt_err *err)
{
    bool noaux = (f->keys & RT_KEYS_NOAUX) != 0;
    const struct {
        int families;
        const char *key, *ok, *other;
    } strings[] = { { RT_KEYS_ALL, "hidden_act", "silu", NULL },
                    { RT_KEYS_DEEP, "topk_method", noaux ? "noaux_tc" : "greedy",
                      noaux ? NULL : "group_limited_greedy" },
                    { RT_KEYS_DEEP, "scoring_func", noaux ? "sigmoid" : "softmax", NULL } };
    const struct {
        int without; /* families that know what to do with it */
        const char *key;
    } falses[] = { { RT_KEYS_BIAS | RT_KEYS_OSS, "attention_bias" },
                   { 0, "mlp_bias" },
                   { RT_KEYS_LAYERS, "use_sliding_window" },
                   { 0, "clip_qkv" } };
    for (int i = 0; i < RT_COUNT(strings); i++) {
        const char *value = strings[i].ok;
        if (!((f->keys | RT_KEYS_ALL) & strings[i].families))
            continue;
        if (rt_json_opt_str(json, strings[i].key, &value, err))
            return rt_wrap(err, "%s", what);
        if (strcmp(value, strings[i].ok) != 0 &&
            !(strings[i].other && strcmp(value, strings[i].other) == 0))
            return rt_fail(err, "%s: \"%s\": \"%s\" is not supported (only \"%s\")", what,
                           strings[i].key, value, strings[i].ok);
    }
    for (int i = 0; i < RT_COUNT(falses); i++) {
        const cJSON *item = rt_json_find(json, falses[i].key);
        if (!(f->keys & falses[i].without) && (cJSON_IsTrue(item) || cJSON_IsNumber(item)))
            return rt_fail(err, "%s: \"%s\" is not supported in a %s model", what, falses[i].key,
                           f->model_type);
    }
    const cJSON *every = rt_json_find(json, "moe_layer_freq");
    if (every && (f->keys & RT_KEYS_DEEP) && every->valuedouble != 1)
        return rt_fail(err, "%s: \"moe_layer_freq\" other than 1 is not supported", what);
    return 0;
}

/* Weights, roughly: enough to know that no sum of sizes overflows. */
static double rough_size(const rt_config *c)
{
    double heads = (double)c->heads * (double)(rt_config_dk(c) + rt_config_dv(c));
    double ffn = (double)c->ffn_width + (double)c->shared_width +
                 (double)(c->experts + c->shared) * (double)c->expert_width;
    return (double)c->width * (double)c->vocab +
           (double)c->layers *
               ((double)c->width * (heads + ffn) + heads * (double)(c->q_rank + c->kv_rank));
}

int rt_config_check(const rt_config *c, const char *what, rt_err *err)
{
    if (c->heads % c->kv_heads != 0)
        return rt_fail(err, "%s: %lld query heads cannot share %lld key heads", what,
                       (long long)c->heads, (long long)c->kv_heads);
    if (c->head_dim > 4096) // also where it follows from width and heads
        return rt_fail(err, "%s: heads of width %lld are beyond any model", what,
                       (long long)c->head_dim);
    if (rt_config_rope_dim(c) % 2 != 0)
        return rt_fail(err, "%s: rope width %lld is odd", what, (long long)rt_config_rope_dim(c));
    if (!(c->rope_theta > 1 && c->rope_theta <= 1e12))
        return rt_fail(err, "%s: a rope base of %g must be above 1 and at most 1e12", what,
                       c->rope_theta);
    if (c->vocab > RT_VOCAB_MAX)
        return rt_fail(err, "%s: a vocabulary of %lld is beyond the %d that are possible", what,
                       (long long)c->vocab, RT_VOCAB_MAX);
    if (rough_size(c) > SIZE_LIMIT)
        return rt_fail(err, "%s: describes a model of about %.0e weights: damaged or hostile", what,
                       rough_size(c));
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

/* *list NULL when there is none. */
static int find_list(const cJSON **list, const cJSON *json, const char *key, const char *what,
                     rt_err *err)
{
    *list = rt_json_find(json, key);
    if (*list && cJSON_IsNull(*list))
        *list = NULL;
    return !*list || cJSON_IsArray(*list) ? 0
                                          : rt_fail(err, "%s: \"%s\" must be a list", what, key);
}

/* Which layers have the sliding window: the list, or all from max_window_layers on, or every other
   one. */
static int read_window(rt_config *cfg, const cJSON *json, const char *what, rt_err *err)
{
    const cJSON *types = NULL, *type;
    const int bits = cfg->family->keys;
    if ((bits & (RT_KEYS_LAYERS | RT_KEYS_OSS)) &&
        find_list(&types, json, "layer_types", what, err))
        return -1;
    if ((bits & RT_KEYS_LAYERS) && !cfg->use_window)
        cfg->window = 0;
    for (int64_t l = 0; cfg->window && l < cfg->layers; l++)
        cfg->windowed[l] = (uint8_t)(bits & RT_KEYS_OSS ? l % 2 == 0 : l >= cfg->window_first);
    int64_t l = 0;
    cJSON_ArrayForEach(type, types)
    {
        const char *name = cJSON_IsString(type) ? type->valuestring : "?";
        bool sliding = strcmp(name, "sliding_attention") == 0;
        if ((!sliding && strcmp(name, "full_attention") != 0) || l >= cfg->layers ||
            (sliding && !cfg->window))
            return rt_fail(err,
                           "%s: layer_types must list full_attention or, with a sliding_window, "
                           "sliding_attention for each layer; layer %lld is \"%.40s\"",
                           what, (long long)l, name);
        cfg->windowed[l++] = sliding;
    }
    if (l && l != cfg->layers)
        return rt_fail(err, "%s: layer_types has %lld entries for %lld layers", what, (long long)l,
                       (long long)cfg->layers);
    return 0;
}

/* How much of a head is turned: a fraction, at the top or in rope_parameters. */
static int read_partial(rt_config *cfg, const cJSON *json, const char *what, rt_err *err)
{
    double part = cfg->family->keys & RT_KEYS_GLM ? 0.5 : 1;
    const cJSON *parameters = rt_json_find(json, "rope_parameters");
    if (rt_json_opt_f64(json, "partial_rotary_factor", &part, err) ||
        (cJSON_IsObject(parameters) &&
         rt_json_opt_f64(parameters, "partial_rotary_factor", &part, err)))
        return rt_wrap(err, "%s", what);
    if (!(part > 0 && part <= 1) || (part != 1 && !(cfg->family->keys & RT_KEYS_GLM)))
        return rt_fail(err, "%s: \"partial_rotary_factor\": %g is not supported", what, part);
    if (cfg->family->keys & RT_KEYS_GLM)
        cfg->rope_dim = rt_max(1, (int64_t)((double)cfg->head_dim * part)); /* odd is refused */
    return 0;
}

/* What follows from the family and the keys together. */
static int settle(rt_config *cfg, const cJSON *json, const char *what, rt_err *err)
{
    const int bits = cfg->family->keys;
    const char *method = "";
    if (cfg->kv_heads == 0 || (bits & RT_KEYS_MLA))
        cfg->kv_heads = cfg->heads; /* under MLA the key is meaningless */
    if ((bits & RT_KEYS_GQA) && cfg->head_dim == 0) {
        if (cfg->width % cfg->heads != 0)
            return rt_fail(
                err, "%s: no \"head_dim\" and hidden_size is not a multiple of the heads", what);
        cfg->head_dim = cfg->width / cfg->heads;
    }
    if (rt_json_opt_str(json, "topk_method", &method, err))
        return rt_wrap(err, "%s", what);
    if (cfg->groups == 0 ||
        (!(bits & RT_KEYS_NOAUX) && strcmp(method, "group_limited_greedy") != 0))
        cfg->groups = cfg->groups_kept = 1;
    if (cfg->route_scale == 0)
        cfg->route_scale = 1;
    if (!(bits & RT_KEYS_STEP))
        cfg->sparse_step = 1;
    if (!(bits & RT_KEYS_WIDTH))
        cfg->expert_width = cfg->ffn_width;
    if (bits & RT_KEYS_SHARED)
        cfg->shared = 1;
    if ((bits & RT_KEYS_MOE) && !(bits & (RT_KEYS_NORM | RT_KEYS_NOAUX)))
        cfg->norm_topk = true; /* Mixtral: softmax over the chosen */
    if ((bits & RT_KEYS_DEEP) && !(bits & RT_KEYS_NOAUX) && cfg->norm_topk)
        return rt_fail(err,
                       "%s: \"norm_topk_prob\": true is not supported in a %s model: DeepSeek's "
                       "code and transformers disagree on what it means",
                       what, cfg->family->model_type);
    const cJSON *only = NULL, *layer;
    if ((bits & RT_KEYS_STEP) && find_list(&only, json, "mlp_only_layers", what, err))
        return -1;
    cJSON_ArrayForEach(layer, only)
    {
        if (!cJSON_IsNumber(layer) || !(layer->valuedouble >= 0 && layer->valuedouble < 256))
            return rt_fail(err, "%s: mlp_only_layers must list layers below 256", what);
        cfg->dense_layer[(int)layer->valuedouble] = 1;
    }
    return read_window(cfg, json, what, err) || read_partial(cfg, json, what, err) ? -1 : 0;
}

int rt_config_parse(rt_config *cfg, const cJSON *json, const char *what, rt_err *err)
{
    char known[256];
    memset(cfg, 0, sizeof *cfg);
    const char *type = NULL;
    if (!cJSON_IsObject(json))
        return rt_fail(err, "%s: not a JSON object: is this a model's config.json?", what);
    if (rt_json_get_str(json, "model_type", &type, err))
        return rt_wrap(err, "%s", what);
    cfg->family = rt_family_find(type);
    if (!cfg->family)
        return rt_fail(err, "%s: model_type \"%s\" is not supported (%s are)", what, type,
                       rt_family_list(known, sizeof known, false));
    if (refuse_unknown_parts(cfg->family, json, what, err) ||
        rt_quantization_parse(&cfg->quantization, json, what, err))
        return -1;
    for (const rt_config_key *k = rt_config_keys; k->name; k++)
        if ((k->families & (cfg->family->keys | RT_KEYS_ALL)) &&
            read_key(cfg, json, k, what, err))
            return -1;
    if (settle(cfg, json, what, err) || read_rope(cfg, json, what, err) ||
        read_tokens(cfg, json, what, err))
        return -1;
    return rt_config_check(cfg, what, err);
}

/* What a checkpoint must say itself, here or among its rope's numbers. */
static int need_keys(const rt_family *f, const cJSON *json, const char *what, rt_err *err)
{
    const cJSON *rope = rt_json_find(json, "rope_parameters");
    for (int i = 0; i < RT_COUNT(f->needs) && f->needs[i]; i++)
        if (!rt_json_find(json, f->needs[i]) && !rt_json_find(rope, f->needs[i]))
            return rt_fail(err,
                           "%s: no \"%s\": code disagrees on what a %s model then does; take it "
                           "from the published config.json",
                           what, f->needs[i], f->model_type);
    return 0;
}

/* Read elsewhere than by the table, or without effect on what a model computes: provenance, dropout
   and losses of training, caches, what a key that is read says already. */
static const char *const harmless[] = {
    "_attn_implementation",
    "_attn_implementation_autoset",
    "_name_or_path",
    "architectures",
    "attention_bias",
    "attention_dropout",
    "attn_pdrop",
    "auto_map",
    "aux_loss_alpha",
    "bos_token_id",
    "classifier_dropout",
    "clip_qkv",
    "decoder_start_token_id",
    "dtype",
    "embd_pdrop",
    "eos_token_id",
    "ep_size",
    "experts_per_token",
    "gradient_checkpointing",
    "head_dim",
    "hidden_act",
    "hidden_dropout",
    "id2label",
    "initial_context_length",
    "is_llama_config",
    "label2id",
    "layer_types",
    "max_window_layers",
    "mlp_bias",
    "mlp_only_layers",
    "model_max_length",
    "model_type",
    "moe_layer_freq",
    "name_or_path",
    "num_local_experts",
    "num_nextn_predict_layers",
    "output_router_logits",
    "pad_token_id",
    "partial_rotary_factor",
    "pretraining_tp",
    "qk_head_dim",
    "qkv_bias",
    "quantization_config",
    "resid_pdrop",
    "rope_parameters",
    "rope_scaling",
    "rope_theta",
    "router_aux_loss_coef",
    "router_jitter_noise",
    "scoring_func",
    "sep_token_id",
    "seq_aux",
    "sliding_window",
    "task_specific_params",
    "tokenizer_class",
    "topk_method",
    "torch_dtype",
    "transformers.js_config",
    "transformers_version",
    "unk_token_id",
    "unsloth_fixed",
    "unsloth_version",
    "use_cache",
    "use_sliding_window",
};

/* null, false and empty say that a part is not there. */
static bool says_nothing(const cJSON *v)
{
    return cJSON_IsNull(v) || cJSON_IsFalse(v) ||
           ((cJSON_IsArray(v) || cJSON_IsObject(v)) && !v->child);
}

static bool in_table(const rt_config_key *k, const char *name, int bits)
{
    for (; k->name; k++)
        if ((k->families & bits) && strcmp(k->name, name) == 0)
            return true;
    return false;
}

static void name_unknown(const rt_config *cfg, const cJSON *json, const char *what)
{
    static const char *const rope_harmless[] = {
        "rope_type", "type", "rope_theta", "finetuned", "partial_rotary_factor", "mrope_section"
    };
    const cJSON *rope = rt_json_find(json, "rope_parameters");
    rope = cJSON_IsObject(rope) ? rope : rt_json_find(json, "rope_scaling");
    rt_unknown_keys u = { 0 };
    const cJSON *v;
    cJSON_ArrayForEach(
        v, json) if (!says_nothing(v) &&
                     !in_table(rt_config_keys, v->string, cfg->family->keys | RT_KEYS_ALL) &&
                     !rt_key_among(harmless, RT_COUNT(harmless), v->string))
        rt_unknown_add(&u, v->string);
    cJSON_ArrayForEach(
        v, rope) if (!says_nothing(v) && !in_table(rt_config_rope_keys, v->string, ~0) &&
                     !rt_key_among(rope_harmless, RT_COUNT(rope_harmless), v->string))
        rt_unknown_add(&u, v->string);
    rt_unknown_warn(&u, what);
}

/* generation_config.json gives ids that end a text; its sampling settings are the caller's to
   choose and are not read. */
int rt_config_load(rt_config *cfg, const char *dir, rt_err *err)
{
    char *path = rt_path_join(dir, "config.json");
    cJSON *json = NULL;
    int bad = rt_listing_check(dir, err) || rt_json_load(&json, path, err) ||
              rt_config_parse(cfg, json, path, err) || need_keys(cfg->family, json, path, err);
    if (!bad)
        name_unknown(cfg, json, path);
    cJSON_Delete(json);
    free(path);
    if (bad)
        return -1;
    path = rt_path_join(dir, "generation_config.json");
    json = NULL;
    bad = rt_path_exists(path) && rt_json_load(&json, path, err);
    bad = bad || add_eos(cfg, json, path, err);
    cJSON_Delete(json);
    free(path);
    return bad ? -1 : 0;
}

int64_t rt_config_longest(const rt_config *cfg, int64_t wanted)
{
    return rt_min(wanted, cfg->max_positions);
}
