/* importance.c: one vector a matrix out of either container; see importance.h. Checks lengths and
   counts; rt_encode checks the values. */
#include "quant/importance.h"

#include <stdio.h>
#include <string.h>

int rt_importance_open(rt_importance *imp, const char *path, rt_err *err)
{
    rt_gguf_str type = { "", 0 };
    *imp = (rt_importance){ .is_gguf = rt_gguf_is(path) };
    if (!imp->is_gguf)
        return rt_safetensors_open(&imp->st, path, err);
    if (rt_gguf_open(&imp->gguf, path, err))
        return -1;
    if (rt_gguf_opt_str(&imp->gguf, "general.type", &type, err) == 0 &&
        rt_gguf_str_is(type, "imatrix"))
        return 0;
    rt_gguf_close(&imp->gguf);
    return rt_fail(err, "%s: not an imatrix; llama-imatrix writes one", path);
}

void rt_importance_close(rt_importance *imp)
{
    rt_gguf_close(&imp->gguf);
    rt_safetensors_close(&imp->st);
}

/* imatrix: NAME.in_sum2 (1, width) sums of squares over NAME.counts (1, 1) tokens. */
static int read_gguf(const rt_importance *imp, const char *name, float *out, int64_t width,
                     bool *found, rt_err *err)
{
    char key[160];
    float count = 0;
    snprintf(key, sizeof key, "%s.in_sum2", name);
    const rt_gguf_tensor *sum = rt_gguf_find(&imp->gguf, key);
    snprintf(key, sizeof key, "%s.counts", name);
    const rt_gguf_tensor *counts = rt_gguf_find(&imp->gguf, key);
    *found = sum != NULL;
    if (!sum)
        return 0;
    if (sum->dtype != RT_F32 || sum->elements != width || !counts || counts->dtype != RT_F32 ||
        counts->elements != 1)
        return rt_fail(err,
                       "%s: %s: not sums over %lld columns and one count; made for another "
                       "model?",
                       imp->gguf.path, name, (long long)width);
    rt_decode_f32(out, sum->data, RT_F32, width);
    rt_decode_f32(&count, counts->data, RT_F32, 1);
    for (int64_t i = 0; i < width; i++)
        out[i] = count > 0 ? out[i] / count : 0;
    return 0;
}

int rt_importance_read(const rt_importance *imp, const char *name, float *out, int64_t width,
                       bool *found, rt_err *err)
{
    if (imp->is_gguf)
        return read_gguf(imp, name, out, width, found, err);
    const rt_st_tensor *t = rt_safetensors_find(&imp->st, name);
    *found = t != NULL;
    if (!t)
        return 0;
    if (t->elements != width)
        return rt_fail(err, "%s: %s: %lld values for %lld columns; made for another model?",
                       imp->st.path[t->file], name, (long long)t->elements, (long long)width);
    return rt_safetensors_read_f32(out, t, 0, width, err);
}
