/* export_adapter.c: adapters in PEFT's layout as a GGUF that llama.cpp loads beside its base (--lora): each layer's down
   as NAME.weight.lora_a and up as NAME.weight.lora_b, rows of queries and keys in the base's order. The file says alpha, of which
   llama.cpp makes alpha / rank. Refuses: types in blocks, models whose GGUF retort does not write. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/memory.h"
#include "core/formats/safetensors.h"
#include "core/network/adapter_file.h"
#include "core/network/linear.h"
#include "quant/export.h"

typedef struct adapter {
    const rt_export *job;
    rt_model model; /* registry alone */
    rt_adapter_spec spec;
    char *said;
    rt_safetensors st;
    bool open;
    rt_dtype dtype;
} adapter;

static int open_adapter(adapter *x, const char *base, rt_err *err)
{
    rt_config cfg;
    if (rt_adapter_spec_read(&x->spec, &x->said, x->job->dir, err))
        return -1;
    base = base ? base : x->said;
    if (!base)
        return rt_usage(err, "%s: does not say what it adapts: give --base DIR|GGUF", x->job->dir);
    if (rt_model_config(&cfg, base, err))
        return -1;
    if (!cfg.family->gguf || cfg.family->routed)
        return rt_fail(err, "%s: retort writes no GGUF of model_type %s", base, cfg.family->model_type);
    rt_model_init(&x->model, &cfg);
    if (rt_adapters_new(&x->model.w.adapters, &x->model.w.params, &x->spec, err) ||
        rt_adapter_open(&x->st, x->job->dir, x->model.w.adapters, err))
        return -1;
    x->open = true;
    return 0;
}

static void declare(const adapter *x, rt_gguf_writer *w, rt_export_report *report)
{
    const rt_params *list = &x->model.w.adapters->params;
    rt_gguf_writer_checksums(w);
    for (int i = 0; i < list->n; i++) {
        char name[sizeof list->item[i].gguf + 16];
        snprintf(name, sizeof name, "%s.weight.lora_%c", list->item[i].gguf, i % 2 ? 'b' : 'a');
        rt_gguf_writer_add(w, name, x->dtype, 2, list->item[i].slot->dim);
        int64_t n = rt_tensor_elements(list->item[i].slot);
        report->tensors++;
        report->parameters += n;
        report->type_tensors[x->dtype]++;
        report->type_bytes[x->dtype] += rt_dtype_bytes(x->dtype, n);
        report->tensor_bytes += rt_dtype_bytes(x->dtype, n);
    }
}

static int put_keys(const adapter *x, rt_gguf_writer *w, rt_err *err)
{
    const rt_adapter_spec *s = &x->spec;
    double alpha = s->rank_stabilized ? s->alpha * sqrt((double)s->rank) : s->alpha;
    return rt_gguf_put_str(w, "general.architecture", x->model.cfg.family->gguf, err) ||
           rt_gguf_put_str(w, "general.type", "adapter", err) ||
           rt_gguf_put_str(w, "adapter.type", "lora", err) ||
           rt_gguf_put_f32(w, "adapter.lora.alpha", (float)alpha, err);
}

/* Rows of one matrix, in the order of the base's GGUF. */
static int put_matrix(const adapter *x, rt_gguf_writer *w, int i, float *host, float *turned,
                      void *out, rt_err *err)
{
    const rt_config *c = &x->model.cfg;
    const rt_param *p = &x->model.w.adapters->params.item[i];
    int64_t rows = p->slot->dim[0], cols = p->slot->dim[1], n = rows * cols;
    const float *from = host;
    if (rt_adapter_rows(&x->st, x->job->dir, x->model.w.adapters, i, host, err))
        return -1;
    int64_t heads = i % 2 ? rt_export_heads(c, p->gguf) : 0;
    if (heads) {
        for (int64_t r = 0; r < rows; r++)
            memcpy(turned + r * cols, host + rt_export_row(rows, heads, r) * cols,
                   (size_t)cols * sizeof *host);
        from = turned;
    }
    rt_encode_f32(out, from, n, x->dtype);
    return rt_gguf_writer_push(w, out, rt_dtype_bytes(x->dtype, n), err);
}

static int put_all(const adapter *x, rt_gguf_writer *w, rt_err *err)
{
    const rt_params *list = &x->model.w.adapters->params;
    int64_t most = 1;
    int bad = 0;
    for (int i = 0; i < list->n; i++)
        most = rt_max(most, rt_tensor_elements(list->item[i].slot));
    float *host = rt_alloc(3 * most, sizeof *host, "an adapter");
    for (int i = 0; !bad && i < list->n; i++)
        bad = put_matrix(x, w, i, host, host + most, host + 2 * most, err);
    free(host);
    return bad ? -1 : 0;
}

int rt_export_adapter(const rt_export *job, const char *base, rt_dtype dtype,
                      rt_export_report *report, rt_err *err)
{
    adapter x = { .job = job, .dtype = dtype };
    rt_gguf_writer w = { 0 };
    memset(report, 0, sizeof *report);
    int rc = open_adapter(&x, base, err) || rt_gguf_writer_open(&w, job->out, err) ||
             put_keys(&x, &w, err);
    if (!rc) {
        declare(&x, &w, report);
        rc = rt_gguf_writer_begin(&w, err) || (job->out && put_all(&x, &w, err));
    }
    report->file_bytes = rc ? 0 : rt_gguf_writer_bytes(&w);
    w.out.keep = !job->overwrite;
    rc = rc || (job->out && rt_gguf_writer_commit(&w, err)) ? -1 : 0;
    rt_gguf_writer_abort(&w);
    if (x.open)
        rt_safetensors_close(&x.st);
    if (x.model.w.block)
        rt_weights_free(NULL, &x.model.w);
    free(x.spec.targets);
    free(x.said);
    return rc;
}
