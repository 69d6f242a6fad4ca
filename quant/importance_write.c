/* importance_write.c: both forms of llama.cpp's imatrix; see importance.h. llama-quantize takes either,
   and llama-imatrix goes on from either. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/memory.h"
#include "quant/gguf_write.h"
#include "quant/importance.h"

static void declare(rt_gguf_writer *w, const rt_importance_entry *e)
{
    char name[160];
    snprintf(name, sizeof name, "%s.in_sum2", e->name);
    rt_gguf_writer_add(w, name, RT_F32, 2, (int64_t[]){ e->matrices, e->width });
    snprintf(name, sizeof name, "%s.counts", e->name);
    rt_gguf_writer_add(w, name, RT_F32, 2, (int64_t[]){ e->matrices, 1 });
}

static int write_gguf(const char *path, const rt_importance_entry *entry, int64_t n,
                      const rt_importance_about *about, rt_err *err)
{
    rt_gguf_writer w = { 0 };
    int rc = rt_gguf_writer_open(&w, path, err) ||
             rt_gguf_put_str(&w, "general.type", "imatrix", err) ||
             rt_gguf_put_strs_begin(&w, "imatrix.datasets", 1, err) ||
             rt_gguf_put_strs_item(&w, about->dataset, (int64_t)strlen(about->dataset), err) ||
             rt_gguf_put_u32(&w, "imatrix.chunk_count", (uint32_t)about->chunks, err) ||
             rt_gguf_put_u32(&w, "imatrix.chunk_size", (uint32_t)about->chunk_tokens, err);
    for (int64_t i = 0; !rc && i < n; i++)
        declare(&w, &entry[i]);
    rc = rc || rt_gguf_writer_begin(&w, err);
    for (int64_t i = 0; !rc && i < n; i++) {
        const rt_importance_entry *e = &entry[i];
        rc = rt_gguf_writer_push(&w, e->sums, e->matrices * e->width * 4, err) ||
             rt_gguf_writer_push(&w, e->counts, e->matrices * 4, err);
    }
    rc = rc || rt_gguf_writer_commit(&w, err);
    rt_gguf_writer_abort(&w);
    return rc ? -1 : 0;
}

static int put_i32(rt_out *out, int64_t v, rt_err *err)
{
    uint32_t u = (uint32_t)v;
    uint8_t p[4] = { (uint8_t)u, (uint8_t)(u >> 8), (uint8_t)(u >> 16), (uint8_t)(u >> 24) };
    if (v < 0 || v > INT32_MAX)
        return rt_fail(err, "%s: %lld does not fit 32 bits: write a .gguf", out->path, (long long)v);
    return rt_out_write(out, p, sizeof p, err);
}

/* Means times the calls of chunk_tokens that the busiest matrix had; 1 for an expert without tokens. */
static int put_entry(rt_out *out, const rt_importance_entry *e, int64_t chunk_tokens, rt_err *err)
{
    int64_t n = e->matrices * e->width, name = (int64_t)strlen(e->name);
    float most = 0;
    for (int64_t m = 0; m < e->matrices; m++)
        most = e->counts[m] > most ? e->counts[m] : most;
    int64_t calls = rt_max(1, ((int64_t)most + chunk_tokens - 1) / chunk_tokens);
    if (put_i32(out, name, err) || rt_out_write(out, e->name, name, err) ||
        put_i32(out, calls, err) || put_i32(out, n, err))
        return -1;
    float *mean = rt_alloc(e->width, sizeof *mean, "means of columns");
    int rc = 0;
    for (int64_t m = 0; !rc && m < e->matrices; m++) {
        float count = e->counts[m];
        for (int64_t i = 0; i < e->width; i++)
            mean[i] = (count > 0 ? e->sums[m * e->width + i] / count : 1) * (float)calls;
        rc = rt_out_write(out, mean, e->width * 4, err);
    }
    free(mean);
    return rc;
}

static int write_dat(const char *path, const rt_importance_entry *entry, int64_t n,
                     const rt_importance_about *about, rt_err *err)
{
    rt_out out = { 0 };
    int64_t name = (int64_t)strlen(about->dataset);
    int rc = rt_out_open(&out, path, err) || put_i32(&out, n, err);
    for (int64_t i = 0; !rc && i < n; i++)
        rc = put_entry(&out, &entry[i], rt_max(1, about->chunk_tokens), err);
    rc = rc || put_i32(&out, about->chunks, err) || put_i32(&out, name, err) ||
         rt_out_write(&out, about->dataset, name, err) || rt_out_commit(&out, err);
    rt_out_abort(&out);
    return rc ? -1 : 0;
}

int rt_importance_write(const char *path, const rt_importance_entry *entry, int64_t n,
                        const rt_importance_about *about, rt_err *err)
{
    size_t bytes = strlen(path);
    bool dat = bytes > 4 && strcmp(path + bytes - 4, ".dat") == 0;
    for (int64_t i = 0; i < n; i++)
        if (strlen(entry[i].name) + strlen(".in_sum2") >= 64)
            return rt_fail(err, "%s: %s: ggml takes names of at most 63 bytes, %s included", path,
                           entry[i].name, ".in_sum2");
    return (dat ? write_dat : write_gguf)(path, entry, n, about, err);
}
