/* importance.c: one vector a matrix out of any of the containers; see importance.h. Checks lengths and
   counts; rt_encode checks the values. The older form is, all little-endian:
     i32 entries; each: i32 bytes of the name, the name, i32 calls, i32 values, f32[values] means times
     calls; then i32 chunks, i32 bytes of the dataset's name, the name (the last three may be absent) */
#include "quant/importance.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/memory.h"

enum { NAME_MAX_BYTES = 256 };

struct rt_importance_place {
    const uint8_t *name, *values; /* in the map */
    int32_t name_bytes, calls;
    int64_t n;
};

/* ---- the older form ---- */

/* The next 32 bits of a map, or false at its end. */
static bool next_i32(const rt_map *map, int64_t *at, int32_t *v)
{
    if (map->bytes - *at < 4)
        return false;
    const uint8_t *p = map->data + *at;
    *v = (int32_t)((uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 |
                   (uint32_t)p[3] << 24);
    *at += 4;
    return true;
}

static bool next_entry(const rt_map *map, int64_t *at, struct rt_importance_place *e)
{
    int32_t n;
    if (!next_i32(map, at, &e->name_bytes) || e->name_bytes < 1 ||
        e->name_bytes > NAME_MAX_BYTES || map->bytes - *at < e->name_bytes)
        return false;
    e->name = map->data + *at;
    *at += e->name_bytes;
    if (!next_i32(map, at, &e->calls) || !next_i32(map, at, &n) || n < 1 ||
        (map->bytes - *at) / 4 < n)
        return false;
    e->values = map->data + *at;
    e->n = n;
    *at += 4 * (int64_t)n;
    return true;
}

static int open_dat(rt_importance *imp, const char *path, rt_err *err)
{
    int64_t at = 0;
    int32_t n = 0;
    if (rt_map_open(&imp->dat, path, err))
        return -1;
    bool sound = next_i32(&imp->dat, &at, &n) && n > 0 && n <= imp->dat.bytes / 16;
    if (sound)
        imp->place = rt_alloc(n, sizeof *imp->place, "entries of an imatrix");
    for (int32_t i = 0; sound && i < n; i++)
        sound = next_entry(&imp->dat, &at, &imp->place[i]);
    imp->n_places = sound ? n : 0;
    if (sound)
        return 0;
    rt_importance_close(imp);
    return rt_fail(err, "%s: neither an imatrix nor a safetensors file; llama-imatrix writes one",
                   path);
}

static int read_dat(const rt_importance *imp, const char *name, int64_t matrix, int64_t matrices,
                    float *out, int64_t width, bool *found, rt_err *err)
{
    const struct rt_importance_place *e = imp->place, *end = e + imp->n_places;
    size_t bytes = strlen(name);
    while (e < end && ((size_t)e->name_bytes != bytes || memcmp(e->name, name, bytes) != 0))
        e++;
    *found = e < end;
    if (e == end)
        return 0;
    if (e->n != matrices * width)
        return rt_fail(err, "%s: %s: %lld values for %lld columns; made for another model?",
                       imp->dat.path, name, (long long)e->n, (long long)(matrices * width));
    rt_decode_f32(out, e->values + 4 * matrix * width, RT_F32, width);
    for (int64_t i = 0; i < width && e->calls > 0; i++)
        out[i] /= (float)e->calls;
    return 0;
}

/* ---- GGUF ---- */

static int open_gguf(rt_importance *imp, const char *path, rt_err *err)
{
    rt_gguf_str type = { "", 0 };
    if (rt_gguf_open(&imp->gguf, path, err))
        return -1;
    if (rt_gguf_opt_str(&imp->gguf, "general.type", &type, err) == 0 &&
        rt_gguf_str_is(type, "imatrix"))
        return 0;
    rt_gguf_close(&imp->gguf);
    return rt_fail(err, "%s: not an imatrix; llama-imatrix writes one", path);
}

/* NAME.in_sum2 (matrices, width) sums of squares over NAME.counts (matrices, 1) tokens. */
static int read_gguf(const rt_importance *imp, const char *name, int64_t matrix, int64_t matrices,
                     float *out, int64_t width, bool *found, rt_err *err)
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
    if (sum->dtype != RT_F32 || sum->elements != matrices * width || !counts ||
        counts->dtype != RT_F32 || counts->elements != matrices)
        return rt_fail(err,
                       "%s: %s: not sums over %lld columns and %lld counts; made for another model?",
                       imp->gguf.path, name, (long long)width, (long long)matrices);
    rt_decode_f32(out, sum->data + 4 * matrix * width, RT_F32, width);
    rt_decode_f32(&count, counts->data + 4 * matrix, RT_F32, 1);
    for (int64_t i = 0; i < width; i++)
        out[i] = count > 0 ? out[i] / count : 1;
    return 0;
}

/* ---- either ---- */

/* A safetensors file has a brace after the eight bytes of a length; a directory is one of them, too. */
static bool is_safetensors(const char *path)
{
    char head[9] = "";
    FILE *f = rt_path_is_dir(path) ? NULL : fopen(path, "rb");
    bool brace = !f || (fread(head, 1, sizeof head, f) == sizeof head && head[8] == '{');
    if (f)
        fclose(f);
    return brace;
}

int rt_importance_open(rt_importance *imp, const char *path, rt_err *err)
{
    *imp = (rt_importance){ .form = rt_gguf_is(path)       ? RT_IMPORTANCE_GGUF
                                    : is_safetensors(path) ? RT_IMPORTANCE_ST
                                                           : RT_IMPORTANCE_DAT };
    return imp->form == RT_IMPORTANCE_GGUF ? open_gguf(imp, path, err)
           : imp->form == RT_IMPORTANCE_ST ? rt_safetensors_open(&imp->st, path, err)
                                           : open_dat(imp, path, err);
}

void rt_importance_close(rt_importance *imp)
{
    rt_gguf_close(&imp->gguf);
    rt_safetensors_close(&imp->st);
    rt_map_close(&imp->dat);
    free(imp->place);
    imp->place = NULL;
    imp->n_places = 0;
}

int rt_importance_read(const rt_importance *imp, const char *name, int64_t matrix, int64_t matrices,
                       float *out, int64_t width, bool *found, rt_err *err)
{
    if (imp->form == RT_IMPORTANCE_GGUF)
        return read_gguf(imp, name, matrix, matrices, out, width, found, err);
    if (imp->form == RT_IMPORTANCE_DAT)
        return read_dat(imp, name, matrix, matrices, out, width, found, err);
    const rt_st_tensor *t = rt_safetensors_find(&imp->st, name);
    *found = t != NULL;
    if (!t)
        return 0;
    if (t->elements != matrices * width)
        return rt_fail(err, "%s: %s: %lld values for %lld columns; made for another model?",
                       imp->st.path[t->file], name, (long long)t->elements,
                       (long long)(matrices * width));
    return rt_safetensors_read_f32(out, t, matrix * width, width, err);
}
