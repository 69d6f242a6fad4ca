#include "core/formats/quantization.h"

#include <string.h>

enum { BLOCK_MAX = 1 << 20 };

/* Key (a string; absent counts as the only value) must be what can be read. */
static int only(const cJSON *json, const char *key, const char *value, rt_err *err)
{
    const char *given = value;
    if (rt_json_opt_str(json, key, &given, err))
        return -1;
    return strcmp(given, value) == 0
               ? 0
               : rt_fail(err, "\"%s\": \"%.64s\" is not supported (only \"%s\")", key, given,
                         value);
}

static int parse_fp8(rt_quantization *q, const cJSON *json, rt_err *err)
{
    const cJSON *block = rt_json_find(json, "weight_block_size");
    const char *scheme = "dynamic";
    if (only(json, "fmt", "e4m3", err) ||
        rt_json_opt_str(json, "activation_scheme", &scheme, err)) /* of a run in fp8, not of ours */
        return -1;
    double size[2] = { 0 };
    for (int i = 0; cJSON_GetArraySize(block) == 2 && i < 2; i++)
        size[i] = cJSON_GetNumberValue(cJSON_GetArrayItem(block, i));
    if (!(size[0] >= 1 && size[0] <= BLOCK_MAX && size[1] >= 1 && size[1] <= BLOCK_MAX) ||
        size[0] != (double)(int64_t)size[0] || size[1] != (double)(int64_t)size[1])
        return rt_fail(err, "\"weight_block_size\" must be two sizes such as [128, 128]");
    *q = (rt_quantization){ RT_QUANT_FP8, (int64_t)size[0], (int64_t)size[1] };
    return 0;
}

/* One group of "config_groups"; all of them must say the same. */
static int parse_group(rt_quantization *q, const cJSON *group, rt_err *err)
{
    const cJSON *weights = NULL;
    bool symmetric = true, dynamic = false;
    int64_t bits = 0, size = -1;
    const char *strategy = "group";
    if (rt_json_get_object(group, "weights", &weights, err) || only(weights, "type", "int", err) ||
        rt_json_opt_bool(weights, "symmetric", &symmetric, err) ||
        rt_json_opt_bool(weights, "dynamic", &dynamic, err) ||
        rt_json_get_i64(weights, "num_bits", 1, 64, &bits, err) ||
        rt_json_opt_i64(weights, "group_size", -1, BLOCK_MAX, &size, err) ||
        rt_json_opt_str(weights, "strategy", &strategy, err))
        return -1;
    const cJSON *order = rt_json_find(weights, "actorder");
    if (bits != 4)
        return rt_fail(err, "\"num_bits\": %lld is not supported (only 4)", (long long)bits);
    if (!symmetric || dynamic)
        return rt_fail(err, "only symmetric, static weights are supported");
    if (order && !cJSON_IsNull(order) && !cJSON_IsFalse(order))
        return rt_fail(err, "\"actorder\" is not supported: use a checkpoint without it");
    bool channel = strcmp(strategy, "channel") == 0;
    if ((!channel && strcmp(strategy, "group") != 0) || (channel ? size > 0 : size < 1))
        return rt_fail(err, "strategy \"%.64s\" with group_size %lld is not supported", strategy,
                       (long long)size);
    rt_quantization one = { RT_QUANT_INT4, 1, channel ? 0 : size };
    if (q->method != RT_QUANT_NONE && q->cols != one.cols)
        return rt_fail(err, "groups of different \"group_size\" are not supported");
    *q = one;
    return 0;
}

static int parse_compressed(rt_quantization *q, const cJSON *json, rt_err *err)
{
    const cJSON *groups = NULL, *group;
    if (only(json, "format", "pack-quantized", err) ||
        rt_json_get_object(json, "config_groups", &groups, err))
        return -1;
    cJSON_ArrayForEach(group, groups)
    {
        const cJSON *format = rt_json_find(group, "format");
        if (format && !cJSON_IsNull(format) && only(group, "format", "pack-quantized", err))
            return -1;
        if (parse_group(q, group, err))
            return rt_wrap(err, "%s", group->string);
    }
    return q->method == RT_QUANT_NONE ? rt_fail(err, "\"config_groups\" is empty") : 0;
}

int rt_quantization_parse(rt_quantization *q, const cJSON *config, const char *what, rt_err *err)
{
    const cJSON *json = rt_json_find(config, "quantization_config");
    const char *method = "";
    *q = (rt_quantization){ RT_QUANT_NONE, 0, 0 };
    if (!json || cJSON_IsNull(json))
        return 0;
    int bad = rt_json_get_str(json, "quant_method", &method, err);
    if (!bad && strcmp(method, "fp8") == 0)
        bad = parse_fp8(q, json, err);
    else if (!bad && strcmp(method, "mxfp4") == 0)
        *q = (rt_quantization){ RT_QUANT_MXFP4, 1, 32 };
    else if (!bad && strcmp(method, "compressed-tensors") == 0)
        bad = parse_compressed(q, json, err);
    else if (!bad)
        bad = rt_fail(err,
                      "\"quant_method\": \"%.64s\" is not supported (fp8, mxfp4 and "
                      "compressed-tensors are): use the bf16 weights",
                      method);
    return bad ? rt_wrap(err, "%s: quantization_config", what) : 0;
}
