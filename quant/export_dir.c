#include "quant/export_dir.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/log.h"
#include "core/base/memory.h"
#include "core/base/processor.h"
#include "core/base/team.h"
#include "core/formats/output.h"
#include "core/network/stored.h"
#include "quant/beside.h"
#include "quant/conversation.h"
#include "quant/encode.h"
#include "quant/group.h"
#include "quant/staging.h"

enum { UNIT_ELEMENTS = 1 << 14, PLAIN_ELEMENTS = 1 << 22 };
#define SHARD_BYTES (5LL << 30)

typedef struct worker {
    float *x;       /* rows */
    uint8_t *block; /* of Q4_0 */
    double lost, all;
    rt_err err;
    bool failed;
} worker;

typedef struct packing {
    const rt_export *job;
    rt_config cfg;
    rt_weights weights; /* registry only */
    rt_store store;
    rt_chat chat;
    rt_safetensors_writer w;
    rt_export_report report;
    const char *dir; /* where it is written, before it gets its name */
    rt_team *team;
    int threads;
    worker *worker;          /* (threads) */
    int64_t widest, largest; /* elements of a row, of a matrix */
    rt_codes codes;          /* of the matrix in work */
    void *part;              /* packed */
    float *busy;
    const float *importance; /* busy, or NULL */
    rt_stored source;
    rt_progress progress;
    int64_t done;
} packing;

static bool is_packed(const rt_param *p)
{
    return (p->flags & RT_PARAM_LINEAR) && p->layer >= 0 && p->slot->rank == 2;
}

/* "model.layers.0.self_attn.q_proj" */
static char *base_of(const rt_param *p)
{
    size_t n = strlen(p->name), m = strlen(".weight");
    return rt_strndup(p->name, (int64_t)(n > m && !strcmp(p->name + n - m, ".weight") ? n - m : n));
}

/* ---- what will be written ---- */

static int add_packed(packing *g, const rt_param *p, rt_err *err)
{
    const int64_t *dim = p->slot->dim;
    rt_pack_part part[RT_PACK_PARTS];
    if (dim[1] % g->job->group || dim[1] % 8 || dim[0] % 8)
        return rt_fail(err,
                       "%s: %s is (%lld, %lld): groups of %lld do not fill its rows; give a "
                       "smaller --group, or "
                       "--format gguf, whose types fall back",
                       g->job->dir, p->name, (long long)dim[0], (long long)dim[1],
                       (long long)g->job->group);
    int n = rt_pack_parts(g->job->packing, dim[0], dim[1], g->job->group, part);
    char *base = base_of(p);
    for (int k = 0; k < n; k++) {
        char name[192];
        snprintf(name, sizeof name, "%s.%s", base, part[k].suffix);
        rt_safetensors_writer_add(&g->w, name, part[k].dtype, part[k].rank, part[k].dim);
        g->report.tensors++;
        g->report.type_tensors[part[k].dtype]++;
        g->report.type_bytes[part[k].dtype] += rt_pack_part_bytes(&part[k]);
        g->report.tensor_bytes += rt_pack_part_bytes(&part[k]);
    }
    free(base);
    g->largest = rt_max(g->largest, dim[0] * dim[1]);
    return 0;
}

static int add_weight(packing *g, const rt_param *p, rt_err *err)
{
    const rt_tensor *t = p->slot;
    g->widest = rt_max(g->widest, t->dim[t->rank - 1]);
    g->report.parameters += rt_tensor_elements(t);
    if (is_packed(p))
        return add_packed(g, p, err);
    rt_safetensors_writer_add(&g->w, p->name, RT_F16, t->rank, t->dim);
    g->report.tensors++;
    g->report.type_tensors[RT_F16]++;
    g->report.type_bytes[RT_F16] += 2 * rt_tensor_elements(t);
    g->report.tensor_bytes += 2 * rt_tensor_elements(t);
    return 0;
}

static int plan_open(packing *g, const rt_export *job, rt_err *err)
{
    g->job = job;
    if (job->later)
        g->cfg = job->later->cfg;
    else if (rt_model_config(&g->cfg, job->dir, err))
        return -1;
    if (g->cfg.family->routed)
        return rt_fail(err, "%s: retort packs no %s model: its experts are routed", job->dir,
                       g->cfg.family->model_type);
    g->report.cfg = g->cfg;
    rt_weights_init(&g->weights, &g->cfg);
    rt_safetensors_writer_init(&g->w, g->dir, SHARD_BYTES);
    for (int i = 0; i < g->weights.params.n; i++)
        if (add_weight(g, &g->weights.params.item[i], err))
            return -1;
    if (!g->largest)
        return rt_fail(err, "%s: no matrix to pack", job->dir);
    g->report.file_bytes = rt_safetensors_writer_bytes(&g->w);
    g->threads = job->threads ? job->threads : rt_threads_here();
    g->report.host_bytes = g->largest + 4 * g->largest / job->group + g->largest / 2 +
                           (PLAIN_ELEMENTS + g->widest) * 4 +
                           g->threads * 5 * rt_max(UNIT_ELEMENTS, g->widest);
    if (job->later)
        return 0;
    return rt_store_open(&g->store, job->dir, err) ||
                   rt_store_check(&g->store, &g->cfg, &g->weights.params, err) ||
                   (!job->weights_only && rt_conversation_open(&g->chat, job->dir, true, err))
               ? -1
               : 0;
}

/* ---- weights ---- */

/* A row whose groups are blocks of Q4_0. */
static void take_blocks(packing *g, const uint8_t *block, int64_t row)
{
    rt_codes *c = &g->codes;
    for (int64_t b = 0; b < c->inputs / 32; b++, block += 18) {
        int64_t at = row * (c->inputs / 32) + b;
        uint8_t *code = c->code + 32 * at;
        memcpy(&c->scale[at], block, 2);
        c->zero[at] = 8;
        for (int j = 0; j < 16; j++) {
            code[j] = block[2 + j] & 15;
            code[j + 16] = block[2 + j] >> 4;
        }
    }
}

static int encode_row(packing *g, worker *me, int64_t row, rt_err *err)
{
    rt_codes *c = &g->codes;
    int64_t groups = c->inputs / c->group;
    bool symmetric = rt_pack_symmetric(g->job->packing);
    if (symmetric && c->group == 32) {
        if (rt_encode(me->block, me->x, RT_Q4_0, 1, c->inputs, g->importance, err))
            return -1;
        take_blocks(g, me->block, row);
    }
    for (int64_t k = 0; k < groups; k++) {
        int64_t at = row * groups + k;
        const float *x = me->x + k * c->group;
        uint8_t *code = c->code + at * c->group;
        if (!(symmetric && c->group == 32) &&
            rt_group_fit(x, g->importance ? g->importance + k * c->group : NULL, c->group,
                         symmetric, code, &c->scale[at], &c->zero[at], err))
            return rt_wrap(err, "group %lld", (long long)k);
        double scale = (double)rt_f16_to_f32(c->scale[at]);
        for (int64_t i = 0; i < c->group; i++) {
            double e = (double)x[i] - scale * (code[i] - c->zero[at]);
            me->lost += e * e;
            me->all += (double)x[i] * (double)x[i];
        }
    }
    return 0;
}

static void encode_unit(void *ctx, int64_t unit, int member)
{
    packing *g = ctx;
    worker *me = &g->worker[member];
    int64_t rows = rt_max(1, UNIT_ELEMENTS / g->codes.inputs);
    for (int64_t r = unit * rows; r < rt_min((unit + 1) * rows, g->codes.outputs) && !me->failed;
         r++)
        if (rt_stored_rows(&g->source, me->x, r, 1, &me->err) || encode_row(g, me, r, &me->err)) {
            rt_wrap(&me->err, "%s: %s, row %lld", g->job->dir, g->source.name, (long long)r);
            me->failed = true;
        }
}

static int write_packed(packing *g, const rt_param *p, rt_err *err)
{
    rt_pack_part part[RT_PACK_PARTS];
    char name[sizeof p->gguf + 8];
    bool found = false;
    g->codes.outputs = p->slot->dim[0];
    g->codes.inputs = p->slot->dim[1];
    snprintf(name, sizeof name, "%s.weight", p->gguf);
    if (g->job->importance &&
        rt_importance_read(g->job->importance, name, 0, 1, g->busy, g->codes.inputs, &found, err))
        return -1;
    g->importance = found ? g->busy : NULL;
    g->report.weighed += found;
    int64_t rows = rt_max(1, UNIT_ELEMENTS / g->codes.inputs);
    rt_team_run(g->team, encode_unit, g, rt_ceil_div(g->codes.outputs, rows), g->threads);
    for (int i = 0; i < g->threads; i++)
        if (g->worker[i].failed) {
            *err = g->worker[i].err;
            return -1;
        }
    int n = rt_pack_parts(g->job->packing, g->codes.outputs, g->codes.inputs, g->job->group, part);
    for (int k = 0; k < n; k++) {
        rt_pack(g->job->packing, k, &g->codes, g->part);
        if (rt_safetensors_writer_push(&g->w, g->part, rt_pack_part_bytes(&part[k]), err))
            return -1;
    }
    return 0;
}

static int write_plain(packing *g, rt_err *err)
{
    int64_t cols = g->source.cols, step = rt_max(1, PLAIN_ELEMENTS / cols / 2);
    float *x = g->part;
    uint16_t *half = (uint16_t *)(void *)(x + step * cols);
    for (int64_t r = 0; r < g->source.rows; r += step) {
        int64_t n = rt_min(step, g->source.rows - r);
        if (rt_stored_rows(&g->source, x, r, n, err) ||
            rt_encode(half, x, RT_F16, n, cols, NULL, err) ||
            rt_safetensors_writer_push(&g->w, half, 2 * n * cols, err))
            return rt_wrap(err, "%s: %s", g->job->dir, g->source.name);
    }
    return 0;
}

static int write_weights(packing *g, rt_err *err)
{
    if (rt_safetensors_writer_begin(&g->w, err))
        return -1;
    rt_progress_begin(&g->progress, "quantize", 0, g->report.parameters);
    for (int i = 0; i < g->weights.params.n; i++) {
        const rt_param *p = &g->weights.params.item[i];
        if (rt_interrupted())
            return rt_fail(err, "interrupted; nothing was written");
        if (rt_store_find(&g->store, &g->cfg, p, 0, &g->source, err) ||
            rt_stored_check(&g->source, err) ||
            (is_packed(p) ? write_packed(g, p, err) : write_plain(g, err)))
            return -1;
        g->report.requantized += rt_dtype_get(g->source.dtype)->block > 1;
        g->done += rt_tensor_elements(p->slot);
        rt_progress_update(&g->progress, g->done, "%s", p->name);
    }
    rt_progress_end(&g->progress);
    double lost = 0, all = 0;
    for (int i = 0; i < g->threads; i++)
        lost += g->worker[i].lost, all += g->worker[i].all;
    g->report.error = all > 0 ? sqrt(lost / all) : 0;
    return rt_safetensors_writer_commit(&g->w, err);
}

static int take_memory(packing *g, rt_err *err)
{
    static const char WHAT[] = "rows to quantize";
    int64_t row = rt_max(UNIT_ELEMENTS, g->widest);
    g->codes.group = g->job->group;
    g->codes.code = rt_alloc(g->largest, 1, WHAT);
    g->codes.scale = rt_alloc(g->largest / g->job->group, 2, WHAT);
    g->codes.zero = rt_alloc(g->largest / g->job->group, 1, WHAT);
    g->part = rt_alloc(rt_max(g->largest / 2, (PLAIN_ELEMENTS + 2 * g->widest) * 4), 1, WHAT);
    g->busy = rt_alloc(g->widest, sizeof *g->busy, WHAT);
    g->worker = rt_alloc(g->threads, sizeof *g->worker, WHAT);
    for (int i = 0; i < g->threads; i++) {
        g->worker[i].x = rt_alloc(row, sizeof(float), WHAT);
        g->worker[i].block = rt_alloc(row, 1, WHAT);
    }
    return rt_team_open(&g->team, g->threads, err);
}

/* ---- the other files ---- */

static int save_json(const cJSON *json, const char *dir, const char *name, rt_err *err)
{
    char *path = rt_path_join(dir, name);
    int bad = rt_json_save(json, path, err);
    free(path);
    return bad;
}

static int write_config(packing *g, rt_err *err)
{
    cJSON *json = rt_config_json(&g->cfg, "float16");
    rt_json_put(json, "quantization_config", rt_pack_config(g->job->packing, g->job->group));
    int bad = save_json(json, g->dir, "config.json", err);
    cJSON_Delete(json);
    return bad;
}

/* Sampling as the source says, and every token that ends generation: vLLM stops at these. */
static int write_generation(packing *g, rt_err *err)
{
    char *path = rt_path_join(g->job->dir, "generation_config.json");
    cJSON *json = NULL, *eos = rt_json_array();
    int bad = rt_path_exists(path) && rt_json_load(&json, path, err);
    json = json ? json : rt_json_object();
    int32_t end = g->chat.tokenizer ? rt_conversation_end(&g->chat) : -1;
    if (end >= 0)
        rt_json_put_i64(eos, NULL, end);
    for (int64_t i = 0; i < g->cfg.n_eos; i++)
        if (g->cfg.eos[i] != end)
            rt_json_put_i64(eos, NULL, g->cfg.eos[i]);
    cJSON_DeleteItemFromObjectCaseSensitive(json, "eos_token_id");
    rt_json_put(json, "eos_token_id", eos);
    bad = bad || save_json(json, g->dir, "generation_config.json", err);
    cJSON_Delete(json);
    free(path);
    return bad;
}

static int write_card(packing *g, const char *format, rt_err *err)
{
    char *path = rt_path_join(g->dir, "README.md");
    rt_text how = { 0 };
    int bad = rt_text_printf(&how, err, "\n    vllm serve %s\n", rt_path_base(g->job->out)) ||
              rt_beside_card(path, g->job, &g->report, format, how.data, false, err);
    rt_text_free(&how);
    free(path);
    return bad ? -1 : 0;
}

/* ---- all ---- */

static int test_written(packing *g, rt_err *err)
{
    rt_selftest t = rt_export_test(g->job);
    t.written = g->dir;
    t.error = g->report.error;
    t.packing = g->job->packing;
    t.group = g->job->group;
    return rt_selftest_run(&t, &g->report.test, err);
}

static const char *format_name(rt_packing p)
{
    return p == RT_PACK_COMPRESSED ? "compressed-tensors, 4 bits"
           : p == RT_PACK_GPTQ     ? "GPTQ, 4 bits"
                                   : "AWQ, 4 bits";
}

static int write_all(packing *g, const char *identity, rt_err *err)
{
    return take_memory(g, err) || write_weights(g, err) ||
                   write_config(g, err) || write_generation(g, err) ||
                   (!g->job->weights_only && rt_chat_save(&g->chat, g->job->dir, g->dir, err)) ||
                   test_written(g, err) ||
                   (g->job->card && write_card(g, format_name(g->job->packing), err)) ||
                   rt_output_finish(g->dir, "quantize", identity, err)
               ? -1
               : 0;
}

static void packing_close(packing *g)
{
    rt_safetensors_writer_abort(&g->w);
    rt_team_close(g->team);
    for (int i = 0; g->worker && i < g->threads; i++) {
        free(g->worker[i].x);
        free(g->worker[i].block);
    }
    free(g->worker);
    free(g->codes.code);
    free(g->codes.scale);
    free(g->codes.zero);
    free(g->part);
    free(g->busy);
    if (g->weights.block)
        rt_weights_free(NULL, &g->weights);
    rt_store_close(&g->store);
    rt_chat_close(&g->chat);
}

int rt_export_dir(const rt_export *job, const char *identity, rt_export_report *report, rt_err *err)
{
    rt_staging place = { 0 };
    rt_export named = *job;
    packing g = { .job = &named };
    int rc = rt_staging_open(&place, job->out, "quantize", identity, job->overwrite, err);
    named.out = place.out;
    g.dir = place.dir;
    if (rc == 0)
        rc = plan_open(&g, &named, err) || write_all(&g, identity, err) ||
                     rt_staging_commit(&place, err)
                 ? -1
                 : 0;
    else if (rc > 0)
        rt_info("%s: this is finished there; nothing to do", place.out);
    *report = g.report;
    packing_close(&g);
    rt_staging_close(&place);
    return rc;
}

int rt_export_dir_plan(const rt_export *job, rt_export_report *report, rt_err *err)
{
    packing g = { .job = job, .dir = "." }; /* nothing is written */
    int rc = plan_open(&g, job, err);
    *report = g.report;
    packing_close(&g);
    return rc;
}
