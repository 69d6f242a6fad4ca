/* gguf_get.c: typed metadata values. Checks the type of a key before its bytes are read, and every
   integer against the range its reader can use. */
#include "core/formats/gguf_inside.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/memory.h"

/* Element i as an integer; false for other types and for values beyond int64. */
static bool element_i64(const rt_gguf_key *k, int64_t i, int64_t *out)
{
    switch (k->type) {
    case RT_GGUF_U8:
        *out = k->data[i];
        return true;
    case RT_GGUF_I8:
        *out = (int8_t)k->data[i];
        return true;
    case RT_GGUF_U16:
        *out = (int64_t)rt_load_le(k->data + 2 * i, 2);
        return true;
    case RT_GGUF_I16:
        *out = (int16_t)rt_load_le(k->data + 2 * i, 2);
        return true;
    case RT_GGUF_U32:
        *out = (int64_t)rt_load_le(k->data + 4 * i, 4);
        return true;
    case RT_GGUF_I32:
        *out = (int32_t)rt_load_le(k->data + 4 * i, 4);
        return true;
    case RT_GGUF_U64:
    case RT_GGUF_I64:
        *out = (int64_t)rt_load_le(k->data + 8 * i, 8);
        return k->type == RT_GGUF_I64 || *out >= 0;
    default:
        return false;
    }
}

static bool element_f64(const rt_gguf_key *k, int64_t i, double *out)
{
    if (k->type == RT_GGUF_F32) {
        uint32_t bits = (uint32_t)rt_load_le(k->data + 4 * i, 4);
        float f;
        memcpy(&f, &bits, 4);
        *out = (double)f;
        return true;
    }
    if (k->type == RT_GGUF_F64) {
        uint64_t bits = rt_load_le(k->data + 8 * i, 8);
        memcpy(out, &bits, 8);
        return true;
    }
    return false;
}

static int missing(const rt_gguf *g, const char *key, rt_err *err)
{
    return rt_fail(err, "%s: key %s is missing; %s", g->path, key,
                   strncmp(key, "tokenizer.", 10)
                       ? "this file was not written for this architecture"
                       : "take a GGUF with a vocabulary");
}

static int wrong_type(const rt_gguf *g, const rt_gguf_key *k, const char *wanted, rt_err *err)
{
    return rt_fail(err, "%s: key %s is %s%s where %s is needed", g->path, k->name,
                   rt_gguf_type_name(k->type), k->array ? "[]" : "", wanted);
}

static int read_i64(const rt_gguf *g, const rt_gguf_key *k, int64_t min, int64_t max, int64_t *out,
                    rt_err *err)
{
    int64_t v;
    if (k->array || !element_i64(k, 0, &v))
        return wrong_type(g, k, "an integer", err);
    if (v < min || v > max)
        return rt_fail(err, "%s: key %s is %lld; %lld to %lld are possible", g->path, k->name,
                       (long long)v, (long long)min, (long long)max);
    *out = v;
    return 0;
}

int rt_gguf_opt_i64(const rt_gguf *g, const char *key, int64_t min, int64_t max, int64_t *out,
                    rt_err *err)
{
    const rt_gguf_key *k = rt_gguf_find_key(g, key);
    return k ? read_i64(g, k, min, max, out, err) : 0;
}

int rt_gguf_get_i64(const rt_gguf *g, const char *key, int64_t min, int64_t max, int64_t *out,
                    rt_err *err)
{
    const rt_gguf_key *k = rt_gguf_find_key(g, key);
    return k ? read_i64(g, k, min, max, out, err) : missing(g, key, err);
}

int rt_gguf_opt_f64(const rt_gguf *g, const char *key, double *out, rt_err *err)
{
    const rt_gguf_key *k = rt_gguf_find_key(g, key);
    if (!k)
        return 0;
    if (k->array || !element_f64(k, 0, out))
        return wrong_type(g, k, "a number", err);
    return 0;
}

int rt_gguf_get_f64(const rt_gguf *g, const char *key, double *out, rt_err *err)
{
    return rt_gguf_find_key(g, key) ? rt_gguf_opt_f64(g, key, out, err) : missing(g, key, err);
}

int rt_gguf_opt_bool(const rt_gguf *g, const char *key, bool *out, rt_err *err)
{
    const rt_gguf_key *k = rt_gguf_find_key(g, key);
    if (!k)
        return 0;
    if (k->array || k->type != RT_GGUF_BOOL)
        return wrong_type(g, k, "a bool", err);
    *out = k->data[0] != 0;
    return 0;
}

static rt_gguf_str string_at(const uint8_t *p)
{
    return (rt_gguf_str){ (const char *)p + 8, (int64_t)rt_load_le(p, 8) };
}

int rt_gguf_opt_str(const rt_gguf *g, const char *key, rt_gguf_str *out, rt_err *err)
{
    const rt_gguf_key *k = rt_gguf_find_key(g, key);
    if (!k)
        return 0;
    if (k->array || k->type != RT_GGUF_STR)
        return wrong_type(g, k, "a string", err);
    *out = string_at(k->data);
    return 0;
}

int rt_gguf_get_str(const rt_gguf *g, const char *key, rt_gguf_str *out, rt_err *err)
{
    return rt_gguf_find_key(g, key) ? rt_gguf_opt_str(g, key, out, err) : missing(g, key, err);
}

/* Find a key and allocate its n elements of `size` bytes; the sizes were checked by the parser. */
static const rt_gguf_key *array_begin(const rt_gguf *g, const char *key, size_t size, void **out,
                                      rt_err *err)
{
    const rt_gguf_key *k = rt_gguf_find_key(g, key);
    if (!k) {
        missing(g, key, err);
        return NULL;
    }
    *out = rt_alloc(k->n, (int64_t)size, key);
    return k;
}

int rt_gguf_get_i64s(const rt_gguf *g, const char *key, int64_t **out, int64_t *n, rt_err *err)
{
    void *array = NULL;
    const rt_gguf_key *k = array_begin(g, key, sizeof **out, &array, err);
    if (!k)
        return -1;
    int64_t *v = array;
    for (int64_t i = 0; i < k->n; i++)
        if (!element_i64(k, i, &v[i])) {
            free(array);
            return wrong_type(g, k, "an array of integers", err);
        }
    *out = v;
    *n = k->n;
    return 0;
}

int rt_gguf_get_f32s(const rt_gguf *g, const char *key, float **out, int64_t *n, rt_err *err)
{
    void *array = NULL;
    const rt_gguf_key *k = array_begin(g, key, sizeof **out, &array, err);
    if (!k)
        return -1;
    float *v = array;
    for (int64_t i = 0; i < k->n; i++) {
        double d;
        if (!element_f64(k, i, &d)) {
            free(array);
            return wrong_type(g, k, "an array of numbers", err);
        }
        v[i] = (float)d;
    }
    *out = v;
    *n = k->n;
    return 0;
}

int rt_gguf_get_strs(const rt_gguf *g, const char *key, rt_gguf_str **out, int64_t *n, rt_err *err)
{
    void *array = NULL;
    const rt_gguf_key *k = array_begin(g, key, sizeof **out, &array, err);
    if (!k)
        return -1;
    if (k->type != RT_GGUF_STR) {
        free(array);
        return wrong_type(g, k, "an array of strings", err);
    }
    rt_gguf_str *v = array;
    const uint8_t *p = k->data;
    for (int64_t i = 0; i < k->n; i++) {
        v[i] = string_at(p);
        p += 8 + v[i].bytes;
    }
    *out = v;
    *n = k->n;
    return 0;
}

bool rt_gguf_str_is(rt_gguf_str s, const char *text)
{
    return s.bytes == (int64_t)strlen(text) && !memcmp(s.text, text, (size_t)s.bytes);
}
