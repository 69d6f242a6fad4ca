/* config_write.c: rt_config as Hugging Face's config.json, by the table of keys (config_table.c).
   Refuses: reading it (config.c). */
#include "core/network/config_key.h"

static void put_key(cJSON *json, const rt_config *cfg, const rt_config_key *k)
{
    const uint8_t *field = (const uint8_t *)cfg + k->offset;
    if (k->kind == RT_KEY_BOOL)
        rt_json_put_bool(json, k->name, *(const bool *)field);
    else if (k->kind == RT_KEY_FLOAT)
        rt_json_put_num(json, k->name, *(const double *)(const void *)field);
    else
        rt_json_put_i64(json, k->name, *(const int64_t *)(const void *)field);
}

/* Numbers whose zero is an absence. */
static bool put_as_null(const rt_config *cfg, const char *name)
{
    return (strcmp(name, "q_lora_rank") == 0 && cfg->q_rank == 0) ||
           (strcmp(name, "sliding_window") == 0 && cfg->window == 0);
}

/* An optional number of rope scaling that is 0 was not there. */
static bool is_given(const rt_config *cfg, const rt_config_key *k)
{
    return k->required || k->kind != RT_KEY_FLOAT ||
           *(const double *)(const void *)((const uint8_t *)cfg + k->offset) != 0;
}

/* Keys that are not a number of rt_config. */
static void put_parts(cJSON *json, const rt_config *cfg)
{
    const int bits = cfg->family->keys;
    if (bits & RT_KEYS_DEEP) {
        const char *method = bits & RT_KEYS_NOAUX ? "noaux_tc"
                             : cfg->groups > 1    ? "group_limited_greedy"
                                                  : "greedy";
        rt_json_put_str(json, "topk_method", method);
        rt_json_put_str(json, "scoring_func", bits & RT_KEYS_NOAUX ? "sigmoid" : "softmax");
        rt_json_put_i64(json, "moe_layer_freq", 1);
        rt_json_put_i64(json, "num_nextn_predict_layers", 0);
    }
    if (bits & RT_KEYS_GLM)
        rt_json_put_num(json, "partial_rotary_factor",
                        (double)rt_config_rope_dim(cfg) / (double)cfg->head_dim);
    cJSON *list = rt_json_array();
    for (int l = 0; (bits & RT_KEYS_STEP) && l < RT_COUNT(cfg->dense_layer); l++)
        if (cfg->dense_layer[l])
            cJSON_AddItemToArray(list, cJSON_CreateNumber(l));
    if (bits & RT_KEYS_STEP) {
        rt_json_put(json, "mlp_only_layers", list);
        list = rt_json_array();
    }
    bool types = (bits & (RT_KEYS_LAYERS | RT_KEYS_OSS)) != 0;
    for (int64_t l = 0; types && l < cfg->layers; l++)
        cJSON_AddItemToArray(
            list, cJSON_CreateString(cfg->windowed[l] ? "sliding_attention" : "full_attention"));
    if (types)
        rt_json_put(json, "layer_types", list);
    else
        cJSON_Delete(list);
}

cJSON *rt_config_json(const rt_config *cfg, const char *dtype)
{
    cJSON *json = rt_json_object(), *list = rt_json_array();
    cJSON_AddItemToArray(list, cJSON_CreateString(cfg->family->architecture));
    rt_json_put(json, "architectures", list);
    rt_json_put_str(json, "model_type", cfg->family->model_type);
    rt_json_put_str(json, "torch_dtype", dtype);
    rt_json_put_str(json, "hidden_act", "silu");
    rt_json_put_num(json, "attention_dropout", 0);
    const int bits = cfg->family->keys;
    if (!(bits & (RT_KEYS_BIAS | RT_KEYS_OSS)))
        rt_json_put_bool(json, "attention_bias", false);
    for (const rt_config_key *k = rt_config_keys; k->name; k++) {
        if (!(k->families & (bits | RT_KEYS_ALL)) || rt_json_find(json, k->name))
            continue; // a name may have a row of its own for some family
        if (put_as_null(cfg, k->name))
            rt_json_put(json, k->name, cJSON_CreateNull());
        else
            put_key(json, cfg, k);
    }
    put_parts(json, cfg);
    rt_json_put_num(json, "rope_theta", cfg->rope_theta);
    cJSON *scaling = NULL;
    for (const rt_config_scaling *r = rt_config_scalings; r->name; r++) {
        if (cfg->rope_scaling != r->kind)
            continue;
        scaling = rt_json_object();
        rt_json_put_str(scaling, "rope_type", r->name);
        for (const rt_config_key *k = rt_config_rope_keys; k->name; k++) {
            if ((k->families & r->bit) && is_given(cfg, k))
                put_key(scaling, cfg, k);
        }
    }
    if (!scaling && (bits & RT_KEYS_OSS)) {
        scaling = rt_json_object();
        rt_json_put_str(scaling, "rope_type", "default");
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
