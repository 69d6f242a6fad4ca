#include "core/network/adapter_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/json.h"
#include "core/base/memory.h"
#include "core/base/path.h"
#include "core/formats/safetensors.h"
#include "core/network/linear.h"

static const char CONFIG[] = "adapter_config.json", WEIGHTS[] = "adapter_model.safetensors";
static const char PREFIX[] = "base_model.model.";

bool rt_adapter_is(const char *dir)
{
    char *path = rt_path_join(dir, CONFIG);
    bool there = rt_path_exists(path);
    free(path);
    return there;
}

/* ---- config -------------------------------------------------------------------------------------
 */

/* What would change the numbers and is not done here. */
static int refuse_others(const cJSON *json, const char *path, rt_err *err)
{
    static const char *const flags[] = { "use_dora", "fan_in_fan_out", "use_qalora", "lora_bias" };
    static const char *const parts[] = { "modules_to_save", "layers_to_transform", "rank_pattern",
                                         "alpha_pattern", "target_parameters", "layer_replication",
                                         "exclude_modules", "trainable_token_indices" };
    const char *type = "LORA", *bias = "none";
    if (rt_json_opt_str(json, "peft_type", &type, err) || rt_json_opt_str(json, "bias", &bias, err))
        return rt_wrap(err, "%s", path);
    if (strcmp(type, "LORA"))
        return rt_fail(err, "%s: peft_type %s: only LORA is read", path, type);
    if (strcmp(bias, "none"))
        return rt_fail(err, "%s: bias \"%s\": only adapters without biases are read", path, bias);
    for (int i = 0; i < RT_COUNT(flags); i++)
        if (cJSON_IsTrue(rt_json_find(json, flags[i])))
            return rt_fail(err, "%s: %s is not supported", path, flags[i]);
    for (int i = 0; i < RT_COUNT(parts); i++) {
        const cJSON *item = rt_json_find(json, parts[i]);
        if (item && !cJSON_IsNull(item) && !(cJSON_IsArray(item) && !cJSON_GetArraySize(item)) &&
            !(cJSON_IsObject(item) && !item->child))
            return rt_fail(err, "%s: %s is not supported", path, parts[i]);
    }
    return 0;
}

/* "q_proj,v_proj" of ["q_proj", "v_proj"]; "all-linear" is all. */
static int read_targets(char **targets, const cJSON *json, const char *path, rt_err *err)
{
    const cJSON *list = rt_json_find(json, "target_modules"), *one;
    size_t n = 1;
    if (cJSON_IsString(list) && !strcmp(list->valuestring, "all-linear")) {
        *targets = rt_strdup("all");
        return 0;
    }
    if (!cJSON_IsArray(list) || !list->child)
        return rt_fail(err, "%s: target_modules is not a list of names", path);
    cJSON_ArrayForEach(one, list) {
        if (!cJSON_IsString(one) || strpbrk(one->valuestring, ",.*()[]|"))
            return rt_fail(err, "%s: target_modules: names of projections are read, like q_proj",
                           path);
        n += strlen(one->valuestring) + 1;
    }
    char *text = rt_alloc((int64_t)n, 1, "names of projections");
    cJSON_ArrayForEach(one, list) {
        if (*text)
            strcat(text, ",");
        strcat(text, one->valuestring);
    }
    *targets = text;
    return 0;
}

int rt_adapter_spec_read(rt_adapter_spec *spec, char **base, const char *dir, rt_err *err)
{
    char *path = rt_path_join(dir, CONFIG);
    const char *name = NULL;
    cJSON *json = NULL;
    *spec = (rt_adapter_spec){ .rank = 0 };
    *base = NULL;
    int bad = rt_json_load(&json, path, err);
    if (!bad && (rt_json_get_i64(json, "r", 1, RT_ADAPTER_RANK_MAX, &spec->rank, err) ||
                 rt_json_get_f64(json, "lora_alpha", &spec->alpha, err) ||
                 rt_json_opt_bool(json, "use_rslora", &spec->rank_stabilized, err)))
        bad = rt_wrap(err, "%s", path);
    bad = bad || refuse_others(json, path, err) || read_targets(&spec->targets, json, path, err);
    const cJSON *from = bad ? NULL : rt_json_find(json, "base_model_name_or_path");
    if (cJSON_IsString(from))
        name = from->valuestring;
    *base = name && *name ? rt_strdup(name) : NULL;
    cJSON_Delete(json);
    free(path);
    return bad ? -1 : 0;
}

/* The names that have adapters, each once. */
static cJSON *targets_json(const rt_adapters *a)
{
    cJSON *list = rt_json_array(), *one;
    for (int i = 0; i < a->params.n; i += 2) {
        const char *name = a->params.item[i].name, *end = strstr(name, ".lora_"), *begin = end;
        char text[sizeof a->params.item[i].name];
        bool there = false;
        while (begin > name && begin[-1] != '.')
            begin--;
        snprintf(text, sizeof text, "%.*s", (int)(end - begin), begin);
        cJSON_ArrayForEach(one, list) there = there || !strcmp(one->valuestring, text);
        if (!there)
            cJSON_AddItemToArray(list, cJSON_CreateString(text));
    }
    return list;
}

static int save_config(const char *dir, const rt_adapters *a, const char *base, rt_err *err)
{
    char *path = rt_path_join(dir, CONFIG);
    cJSON *json = rt_json_object();
    rt_json_put_str(json, "peft_type", "LORA");
    rt_json_put_str(json, "task_type", "CAUSAL_LM");
    rt_json_put_str(json, "base_model_name_or_path", base ? base : "");
    rt_json_put_i64(json, "r", a->spec.rank);
    rt_json_put_num(json, "lora_alpha", a->spec.alpha);
    rt_json_put_num(json, "lora_dropout", 0);
    rt_json_put_bool(json, "use_rslora", a->spec.rank_stabilized);
    rt_json_put_str(json, "bias", "none");
    rt_json_put_bool(json, "fan_in_fan_out", false);
    rt_json_put_bool(json, "inference_mode", true);
    rt_json_put(json, "target_modules", targets_json(a));
    int bad = rt_json_save(json, path, err);
    cJSON_Delete(json);
    free(path);
    return bad;
}

/* ---- weights ------------------------------------------------------------------------------------
 */

/* Name of an adapter's matrix, of expert e where it is a stack. */
static void tensor_name(char *out, size_t size, const rt_param *p, int64_t e)
{
    char name[160];
    snprintf(name, sizeof name, "%s", p->name);
    if (p->experts)
        rt_param_expert_name(p, e, name, sizeof name);
    snprintf(out, size, "%s%s", PREFIX, name);
}

static int64_t matrices(const rt_param *p) { return p->experts ? p->experts : 1; }

int rt_adapter_open(rt_safetensors *st, const char *dir, const rt_adapters *a, rt_err *err)
{
    char *path = rt_path_join(dir, WEIGHTS);
    int64_t want = 0;
    int bad = rt_safetensors_open(st, path, err);
    for (int i = 0; i < a->params.n; i++)
        want += matrices(&a->params.item[i]);
    if (!bad && want < st->n_tensors) {
        bad = rt_fail(err,
                      "%s: it holds %lld tensors, of which the model takes %lld: it is of another "
                      "model",
                      path, (long long)st->n_tensors, (long long)want);
        rt_safetensors_close(st);
    }
    free(path);
    return bad ? -1 : 0;
}

int rt_adapter_rows(const rt_safetensors *st, const char *dir, const rt_adapters *a, int i,
                    float *host, rt_err *err)
{
    const rt_param *p = &a->params.item[i];
    const rt_tensor *t = p->slot;
    int64_t rows = t->dim[t->rank - 2], cols = t->dim[t->rank - 1];
    char name[192];
    for (int64_t e = 0; e < matrices(p); e++) {
        tensor_name(name, sizeof name, p, e);
        const rt_st_tensor *s = rt_safetensors_find(st, name);
        if (!s)
            return rt_fail(err, "%s/%s: tensor %s is missing: the adapter is of another model", dir,
                           WEIGHTS, name);
        if (s->rank != 2 || s->dim[0] != rows || s->dim[1] != cols)
            return rt_fail(err,
                           "%s/%s: tensor %s is not (%lld, %lld): the adapter is of another model",
                           dir, WEIGHTS, name, (long long)rows, (long long)cols);
        if (rt_safetensors_check(st, s, err) ||
            rt_safetensors_read_f32(host + e * rows * cols, s, 0, rows * cols, err))
            return -1;
    }
    return 0;
}

int rt_adapter_read(const char *dir, rt_dev *d, rt_adapters *a, rt_err *err)
{
    rt_safetensors st;
    int64_t most = 1;
    int bad = 0;
    if (rt_adapter_open(&st, dir, a, err))
        return -1;
    for (int i = 0; i < a->params.n; i++)
        most = rt_max(most, rt_tensor_elements(a->params.item[i].slot));
    float *host = rt_alloc(most, sizeof *host, "an adapter");
    for (int i = 0; !bad && i < a->params.n; i++) {
        const rt_tensor *t = a->params.item[i].slot;
        bad = rt_adapter_rows(&st, dir, a, i, host, err);
        if (!bad)
            rt_upload(d, t->data, host, rt_tensor_bytes(t));
        bad = bad || rt_sync(d, err); /* host is filled again */
    }
    free(host);
    rt_safetensors_close(&st);
    return bad ? -1 : 0;
}

static void declare(rt_safetensors_writer *w, const char *path, const rt_adapters *a,
                    rt_dtype dtype)
{
    char name[192];
    rt_safetensors_writer_init(w, path, 0);
    for (int i = 0; i < a->params.n; i++) {
        const rt_param *p = &a->params.item[i];
        for (int64_t e = 0; e < matrices(p); e++) {
            tensor_name(name, sizeof name, p, e);
            rt_safetensors_writer_add(w, name, dtype, 2, p->slot->dim + p->slot->rank - 2);
        }
    }
}

int64_t rt_adapter_save_bytes(const rt_adapters *a, rt_dtype dtype)
{
    rt_safetensors_writer w;
    declare(&w, "planned.safetensors", a, dtype);
    int64_t bytes = rt_safetensors_writer_bytes(&w);
    rt_safetensors_writer_abort(&w);
    return bytes;
}

static int push_all(rt_safetensors_writer *w, rt_dev *d, const rt_adapters *a, rt_dtype dtype,
                    rt_err *err)
{
    int64_t most = 1;
    for (int i = 0; i < a->params.n; i++)
        most = rt_max(most, rt_tensor_bytes(a->params.item[i].slot));
    void *host = rt_alloc(most, 1, "an adapter"), *out = rt_alloc(most, 1, "an adapter");
    int bad = rt_safetensors_writer_begin(w, err);
    for (int i = 0; !bad && i < a->params.n; i++) {
        const rt_tensor *t = a->params.item[i].slot;
        int64_t n = rt_tensor_elements(t);
        rt_download(d, host, t->data, rt_tensor_bytes(t));
        bad = rt_sync(d, err);
        if (!bad)
            rt_encode_f32(out, host, n, dtype);
        bad = bad || rt_safetensors_writer_push(w, out, rt_dtype_bytes(dtype, n), err);
    }
    free(host);
    free(out);
    return bad;
}

int rt_adapter_save(const char *dir, rt_dev *d, const rt_adapters *a, const char *base,
                    rt_dtype dtype, rt_err *err)
{
    rt_safetensors_writer w;
    if (rt_dir_make(dir, err))
        return -1;
    char *path = rt_path_join(dir, WEIGHTS);
    declare(&w, path, a, dtype);
    int bad = push_all(&w, d, a, dtype, err);
    if (bad)
        rt_safetensors_writer_abort(&w);
    bad = bad || rt_safetensors_writer_commit(&w, err);
    free(path);
    return bad || save_config(dir, a, base, err) ? -1 : 0; /* last: with it the folder is complete */
}
