/* merge.c: the command `retort merge-adapter`: a model and its adapters as one model: w + s up down, weight by
   weight, so that it takes the memory of one. A base of few bits is widened: its codes are not made anew,
   which is `retort quantize`'s, whose loss is to be seen. Refuses: an adapter of another shape of model. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/identity.h"
#include "core/base/log.h"
#include "core/base/memory.h"
#include "core/base/option.h"
#include "core/formats/output.h"
#include "core/network/adapter_file.h"
#include "core/network/linear.h"
#include "core/network/needs.h"
#include "core/network/stored.h"
#include "core/network/weights.h"
#include "corpora/chat.h"
#include "corpora/integrity.h"

typedef struct merge_options {
    char *model, *adapter, *out, *dtype;
    rt_dev_choice device;
    bool overwrite, plan;
} merge_options;

#define O merge_options
static const rt_option options[] = {
    OPT_STR(O, model, "model", NULL, "DIR|GGUF",
            "what was adapted; default: what the adapter says of itself", RT_OPT_INPUT),
    OPT_NEED(O, adapter, "adapter", "DIR", "adapters, of retort train --lora-rank or of PEFT",
             RT_OPT_INPUT),
    OPT_NEED(O, out, "out", "DIR", "where the model goes", RT_OPT_OUTPUT),
    OPT_OVERWRITE(O, overwrite),
    OPT_CHOICE(O, dtype, "dtype", "bf16", RT_WRITTEN_DTYPES, "of the written weights"),
    OPT_DEVICE(O, device),
    OPT_BOOL(O, plan, "plan", "false", "print memory and disk by name and stop", RT_OPT_FREE),
};
#undef O

typedef struct merge {
    const merge_options *o;
    const char *base;
    char *said; /* of the adapter, its base */
    rt_dev *d;
    rt_model model; /* registry alone */
    rt_store store;
    rt_adapter_spec spec;
    rt_arenas arenas;
    rt_arena arena;
    rt_tensor w; /* the largest adapted matrix: one of a stack */
    rt_chat chat;
    rt_progress progress;
    int lock;
} merge;

static void plan_matrix(void *ctx, rt_arena *a)
{
    merge *g = ctx;
    g->w.data = rt_arena_take(a, "matrix", rt_tensor_bytes(&g->w));
}

static int open_all(merge *g, rt_err *err)
{
    const merge_options *o = g->o;
    rt_config cfg;
    int64_t most = 0;
    if (rt_adapter_spec_read(&g->spec, &g->said, o->adapter, err))
        return -1;
    g->base = o->model ? o->model : g->said;
    if (!g->base)
        return rt_usage(err, "%s: does not say what it adapts: give --model DIR|GGUF", o->adapter);
    if (rt_dev_choose(&g->d, &o->device, false, err) || rt_model_config(&cfg, g->base, err) ||
        rt_chat_open(&g->chat, g->base, err))
        return -1;
    if (cfg.family->names && cfg.family->names->interleaved)
        return rt_fail(err, "%s: fused experts of a %s model are not written", g->base,
                       cfg.family->model_type);
    rt_model_init(&g->model, &cfg);
    rt_params *list = &g->model.w.params;
    if (rt_adapters_new(&g->model.w.adapters, list, &g->spec, err) ||
        rt_store_open(&g->store, g->base, err) || rt_store_check(&g->store, &cfg, list, err))
        return -1;
    for (int i = 0; i < list->n; i++)
        if (list->item[i].flags & RT_PARAM_LINEAR && rt_linear_of(&list->item[i])->adapters)
            most = rt_max(most, rt_tensor_elements(list->item[i].slot) /
                                    rt_max(list->item[i].experts, 1));
    g->w = rt_tensor_1(NULL, RT_F32, most);
    rt_arenas_add(&g->arenas, &g->arena, "a matrix", RT_ON_DEVICE, plan_matrix, g);
    rt_adapters_plan(g->model.w.adapters, &g->arenas, g->d, 1);
    return 0;
}

/* host (O,I) += up down, where up has its scale already. */
static int add_product(merge *g, float *host, const rt_linear *l, int64_t e, rt_err *err)
{
    rt_tensor up = l->up, down = l->down, w = g->w;
    if (up.rank == 3) {
        up = rt_tensor_rows(&up, e, 1), down = rt_tensor_rows(&down, e, 1);
        up = rt_tensor_2(up.data, up.dtype, up.dim[1], up.dim[2]);
        down = rt_tensor_2(down.data, down.dtype, down.dim[1], down.dim[2]);
    }
    w = rt_tensor_2(w.data, RT_F32, up.dim[0], down.dim[1]);
    rt_upload(g->d, w.data, host, rt_tensor_bytes(&w));
    if (rt_sync(g->d, err)) /* host is written again */
        return -1;
    rt_matmul(g->d, &w, &up, false, &down, false, 1.0f);
    rt_download(g->d, host, w.data, rt_tensor_bytes(&w));
    return rt_sync(g->d, err);
}

static int merged_rows(void *ctx, int i, float *host, rt_err *err)
{
    merge *g = ctx;
    const rt_param *p = &g->model.w.params.item[i];
    rt_progress_update(&g->progress, i, "%s", p->name);
    if (rt_store_rows(&g->store, &g->model.cfg, p, host, err))
        return -1;
    if (!(p->flags & RT_PARAM_LINEAR) || !rt_linear_of(p)->adapters)
        return 0;
    const rt_linear *l = rt_linear_of(p);
    int64_t matrices = rt_max(p->experts, 1), each = rt_tensor_elements(p->slot) / matrices;
    for (int64_t e = 0; e < matrices; e++)
        if (add_product(g, host + e * each, l, e, err))
            return -1;
    return 0;
}

/* Adapters into memory, up times their scale. */
static int load_adapters(merge *g, rt_err *err)
{
    rt_adapters *a = g->model.w.adapters;
    rt_dev_dry_begin(g->d);
    for (int i = 0; i < a->params.n; i += 2) {
        const rt_tensor *down = a->params.item[i].slot, *up = a->params.item[i + 1].slot;
        int64_t out = up->dim[up->rank - 2], in = down->dim[down->rank - 1];
        rt_tensor c = rt_tensor_2(NULL, RT_F32, out, in);
        rt_tensor x = rt_tensor_2(NULL, RT_F32, out, a->spec.rank),
                  y = rt_tensor_2(NULL, RT_F32, a->spec.rank, in);
        rt_matmul(g->d, &c, &x, false, &y, false, 1.0f);
    }
    (void)rt_dev_dry_end(g->d);
    if (rt_arenas_place(&g->arenas, g->d, err) || rt_dev_ready(g->d, err) ||
        rt_adapter_read(g->o->adapter, g->d, a, err))
        return -1;
    for (int i = 1; i < a->params.n; i += 2)
        rt_scale(g->d, a->params.item[i].slot, a->params.item[i].slot, a->scale);
    return rt_sync(g->d, err);
}

extern const rt_command rt_command_merge_adapter;

/* What the output is a function of: options, and the content of what they name. */
static int work_of(rt_hash *work, const merge *g, rt_err *err)
{
    rt_identity base, adapter;
    if (rt_identity_of(&base, g->base, RT_IDENTITY_CACHED, NULL, err) ||
        rt_identity_of(&adapter, g->o->adapter, RT_IDENTITY_CACHED, NULL, err))
        return -1;
    cJSON *json = rt_options_result(&rt_command_merge_adapter, g->o);
    rt_json_put_str(json, "model", base.hash.hex);
    rt_json_put_str(json, "adapter", adapter.hash.hex);
    char *text = rt_json_text(json);
    *work = rt_hash_bytes(text, (int64_t)strlen(text));
    free(text);
    cJSON_Delete(json);
    return 0;
}

static int write_model(merge *g, rt_err *err)
{
    const merge_options *o = g->o;
    rt_output_state state;
    rt_err why;
    rt_hash work;
    if (work_of(&work, g, err) ||
        rt_output_take(&state, &g->lock, o->out, "merge-adapter", work.hex, o->overwrite, err))
        return -1;
    if (state == RT_OUTPUT_DONE && rt_integrity_whole(o->out, &why) == 0) {
        rt_info("%s: this is finished there; nothing to do", o->out);
        return 0;
    }
    rt_progress_begin(&g->progress, "merge", 0, g->model.w.params.n);
    if (rt_chat_save(&g->chat, g->base, o->out, err) ||
        rt_model_save_rows(&g->model, o->out, rt_dtype_written(o->dtype), merged_rows, g, err))
        return -1;
    rt_progress_end(&g->progress);
    return rt_output_finish(o->out, "merge-adapter", work.hex, err);
}

static void close_all(merge *g)
{
    if (g->lock >= 0)
        close(g->lock);
    rt_arenas_free(&g->arenas, g->d);
    rt_weights_free(g->d, &g->model.w);
    rt_store_close(&g->store);
    rt_chat_close(&g->chat);
    rt_dev_close(g->d);
    free(g->spec.targets);
    free(g->said);
}

static int run_merge(void *values, rt_err *err)
{
    merge g = { .o = values, .lock = -1 };
    int bad = open_all(&g, err) || load_adapters(&g, err) || write_model(&g, err);
    if (!bad)
        rt_info("%s: %s with the adapters of %d layers (rank %lld)", g.o->out, g.base,
                rt_adapters_layers(g.model.w.adapters), (long long)g.spec.rank);
    close_all(&g);
    return bad ? -1 : 0;
}

/* Of a model or an adapter that an earlier stage will make, what can be known. */
static int plan_merge(void *values, rt_needs *p, rt_err *err)
{
    merge g = { .o = values, .lock = -1 };
    const merge_options *o = g.o;
    const rt_needs_output *base = rt_needs_find(p, o->model);
    bool later = base || !rt_adapter_is(o->adapter);
    rt_config cfg;
    int bad = 0;
    if (!later) {
        bad = open_all(&g, err);
        cfg = g.model.cfg;
        if (!bad)
            rt_needs_arenas(p, g.d, &g.arenas);
    } else if (!o->model) {
        bad = rt_usage(err, "%s: is not there yet: give --model DIR|GGUF too", o->adapter);
    } else {
        bad = base ? (cfg = base->cfg, 0) : rt_model_config(&cfg, o->model, err);
        if (!bad)
            rt_model_init(&g.model, &cfg);
    }
    if (!bad) {
        rt_needs_add(p, RT_NEEDS_DISK, "model", "weights",
                     rt_model_save_bytes(&g.model, rt_dtype_written(o->dtype)));
        if (o->model)
            p->output = (rt_needs_output){ .path = o->out,
                                           .cfg = cfg,
                                           .tokenizer = base ? base->tokenizer : o->model };
    }
    close_all(&g);
    return bad ? -1 : 0;
}

const rt_command rt_command_merge_adapter = {
    .name = "merge-adapter",
    .help = "a model and its adapters as one model",
    .group = "a student",
    .options = options,
    .n_options = RT_COUNT(options),
    .struct_bytes = sizeof(merge_options),
    .run = run_merge,
    .plan = plan_merge,
    .example = "retort merge-adapter --model DIR --adapter adapter --out merged",
};
