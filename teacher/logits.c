/* logits.c: the command `retort logits`: a model's logits for a sequence of token ids, and which
   experts it chose, as .npy files: what another implementation is compared with.
   Scores one whole sequence (positions 0 .. T-1). Refuses: text, batches. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/memory.h"
#include "core/base/option.h"
#include "core/formats/output.h"
#include "core/network/finite.h"
#include "core/network/weights.h"
#include "corpora/archive/npz.h"

typedef struct logits_options {
    char *model, *tokens, *out, *experts;
    rt_dev_choice device;
    bool overwrite;
} logits_options;

#define O logits_options
static const rt_option options[] = {
    OPT_NEED(O, model, "model", "DIR|GGUF", "the model", RT_OPT_INPUT),
    OPT_NEED(O, tokens, "tokens", "IN.npy", "token ids (T), i32 or i64", RT_OPT_INPUT),
    OPT_NEED(O, out, "out", "OUT.npy", "logits (T, V), f32", RT_OPT_OUTPUT),
    OPT_STR(O, experts, "experts", NULL, "OUT.npy",
            "also the chosen experts (layers with experts, T, A), i32 ascending", RT_OPT_OUTPUT),
    OPT_OVERWRITE(O, overwrite),
    OPT_DEVICE_FORWARD(O, device),
};
#undef O

enum { HEAD_ROWS = 128 };

typedef struct run {
    const logits_options *o;
    rt_dev *dev;
    rt_model model;
    rt_acts acts;
    int32_t *token; /* (T) */
    int64_t n;
} run;

static int take_tokens(run *r, const rt_npy *npy, rt_err *err)
{
    const char *path = r->o->tokens;
    bool wide = strcmp(npy->descr, "<i8") == 0;
    if (!wide && strcmp(npy->descr, "<i4") != 0)
        return rt_fail(err, "%s: holds %s, token ids are i32 or i64", path, npy->descr);
    if (npy->rank < 1 || npy->rank > 2 || (npy->rank == 2 && npy->dim[0] != 1))
        return rt_fail(err, "%s: of rank %d: give one sequence (T)", path, npy->rank);
    r->n = npy->rank == 2 ? npy->dim[1] : npy->dim[0];
    const rt_config *c = &r->model.cfg;
    if (r->n < 1 || r->n > rt_config_longest(c, r->n))
        return rt_fail(err, "%s: %lld tokens: this model takes 1 to %lld", path, (long long)r->n,
                       (long long)c->max_positions);
    r->token = rt_alloc(r->n, sizeof *r->token, "tokens");
    for (int64_t i = 0; i < r->n; i++) {
        int64_t id = 0;
        int32_t narrow;
        if (wide)
            memcpy(&id, npy->data + 8 * i, 8);
        else
            memcpy(&narrow, npy->data + 4 * i, 4), id = narrow;
        if (id < 0 || id >= c->vocab)
            return rt_fail(err, "%s: token %lld at %lld: the model has ids 0 to %lld", path,
                           (long long)id, (long long)i, (long long)c->vocab - 1);
        r->token[i] = (int32_t)id;
    }
    return 0;
}

static int read_tokens(run *r, rt_err *err)
{
    rt_map map = { 0 };
    rt_npy npy;
    int bad = rt_map_open(&map, r->o->tokens, err) ||
              rt_npy_parse(&npy, map.data, map.bytes, r->o->tokens, err) ||
              take_tokens(r, &npy, err);
    rt_map_close(&map);
    return bad ? -1 : 0;
}

static int forward(run *r, rt_err *err)
{
    rt_pass_shape shape = { .mode = RT_PLAN_SCORE,
                            .rows = r->n,
                            .segments = 1,
                            .longest = r->n,
                            .head_rows = rt_min(r->n, HEAD_ROWS),
                            .choices = r->o->experts != NULL };
    int32_t offset[2] = { 0, (int32_t)r->n };
    rt_arenas arenas = { 0 };
    if (rt_model_open(&r->model, r->dev, r->o->model, true, r->n, err))
        return -1;
    rt_acts_plan(&r->acts, &arenas, r->dev, &r->model, &shape);
    if (rt_arenas_place(&arenas, r->dev, err) || rt_dev_ready(r->dev, err))
        return -1;
    int32_t *pos = rt_alloc(r->n, sizeof *pos, "positions");
    for (int64_t i = 0; i < r->n; i++)
        pos[i] = (int32_t)i;
    rt_acts_rows(&r->acts, r->n, 1, r->token, pos, offset, NULL);
    rt_model_forward(r->dev, &r->model, &r->acts);
    free(pos);
    return 0;
}

static int write_head(const run *r, rt_out *out, const char *path, const char *descr, int rank,
                      const int64_t *dim, rt_err *err)
{
    uint8_t head[RT_NPY_HEAD];
    rt_npy_head(head, descr, rank, dim);
    if (rt_out_open(out, path, err))
        return -1;
    out->keep = !r->o->overwrite;
    return rt_out_write(out, head, RT_NPY_HEAD, err);
}

static int check_finite(run *r, const float *logits, int64_t n, rt_err *err)
{
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(logits[i]))
            return rt_finite_fail(r->dev, &r->model, &r->acts, err);
    return 0;
}

static int write_logits(run *r, rt_err *err)
{
    int64_t v = r->model.cfg.vocab, dim[] = { r->n, v };
    rt_out out = { 0 };
    int32_t index[HEAD_ROWS];
    float *host = rt_alloc(HEAD_ROWS * v, sizeof *host, "logits");
    int bad = write_head(r, &out, r->o->out, "<f4", 2, dim, err);
    for (int64_t first = 0; !bad && first < r->n; first += HEAD_ROWS) {
        int64_t n = rt_min(HEAD_ROWS, r->n - first);
        for (int64_t i = 0; i < n; i++)
            index[i] = (int32_t)(first + i);
        rt_model_logits(r->dev, &r->model, &r->acts, index, n);
        rt_download(r->dev, host, r->acts.logits.data, n * v * 4);
        bad = rt_sync(r->dev, err) || check_finite(r, host, n * v, err) ||
              rt_out_write(&out, host, n * v * 4, err);
    }
    free(host);
    if (bad)
        rt_out_abort(&out);
    return bad ? -1 : rt_out_commit(&out, err);
}

static int ascending(const void *a, const void *b)
{
    return *(const int32_t *)a - *(const int32_t *)b;
}

static int64_t routed_layers(const rt_config *c)
{
    int64_t routed = 0;
    for (int64_t l = 0; l < c->layers; l++)
        routed += rt_config_routed(c, l);
    return routed;
}

static int write_experts(run *r, rt_err *err)
{
    const rt_config *c = &r->model.cfg;
    int64_t row = c->active, all = c->layers * r->n * row, routed = routed_layers(c);
    int64_t dim[] = { routed, r->n, row };
    rt_out out = { 0 };
    int32_t *host = rt_alloc(all, sizeof *host, "the experts chosen");
    rt_download(r->dev, host, r->acts.choice.data, all * 4);
    if (rt_sync(r->dev, err)) {
        free(host);
        return -1;
    }
    for (int64_t i = 0; i < c->layers * r->n; i++)
        qsort(host + i * row, (size_t)row, sizeof *host, ascending);
    int bad = write_head(r, &out, r->o->experts, "<i4", 3, dim, err);
    for (int64_t l = 0; !bad && l < c->layers; l++)
        if (rt_config_routed(c, l))
            bad = rt_out_write(&out, host + l * r->n * row, r->n * row * 4, err);
    free(host);
    if (bad)
        rt_out_abort(&out);
    return bad ? -1 : rt_out_commit(&out, err);
}

static int run_logits(void *values, rt_err *err)
{
    run r = { .o = values };
    const char *experts = r.o->experts;
    if (rt_model_config(&r.model.cfg, r.o->model, err))
        return -1;
    if (experts && routed_layers(&r.model.cfg) == 0)
        return rt_usage(err, "--experts: a %s model has none", r.model.cfg.family->model_type);
    if (rt_output_file(r.o->out, RT_OUTPUT_NPY, r.o->overwrite, err) ||
        rt_output_file(experts, RT_OUTPUT_NPY, r.o->overwrite, err) ||
        rt_dev_choose(&r.dev, &r.o->device, false, err))
        return -1;
    int bad = read_tokens(&r, err) || forward(&r, err) || write_logits(&r, err) ||
              (experts && write_experts(&r, err));
    free(r.token);
    rt_acts_free(&r.acts);
    rt_model_free(r.dev, &r.model);
    rt_dev_close(r.dev);
    return bad ? -1 : 0;
}

const rt_command rt_command_logits = {
    .name = "logits",
    .help = "a model's logits for token ids, as .npy",
    .group = "models and tokenizers",
    .options = options,
    .n_options = RT_COUNT(options),
    .struct_bytes = sizeof(logits_options),
    .run = run_logits,
    .example = "retort logits --model DIR --tokens ids.npy --out logits.npy",
};
