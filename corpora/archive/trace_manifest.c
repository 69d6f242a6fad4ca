/* trace_manifest.c: the manifest as JSON, one table line a field: printing, parsing and comparing
   all follow from it. The file is canonical: what is read must print back to the same bytes and
   carry the hash of its content, so a flipped bit anywhere in it is found.
   Refuses: judging whether teacher and student fit (that is the trainer's question). */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "corpora/archive/trace_inside.h"

#include "core/base/memory.h"

#define MANIFEST_BYTES_MAX (64LL << 20)
#define SHARDS_MAX 100000

enum field_kind { TEXT, HASH, LIST, I32, I64, U64, F32, F64 }; // LIST: JSON in a text

typedef struct field {
    const char *section, *key, *words; // words: in "was made with another ..."
    enum field_kind kind;
    size_t offset, size;
    double min, max; // of I32, I64, F32, F64
    bool later;      // younger than the first archives: 0 or "" is left out, and means absent
} field;

#define SAFE (double)(1LL << 53)
#define FIELD(section, key, kind, member, min, max, words)                                         \
    {                                                                                              \
        section, key, words, kind, offsetof(rt_trace_manifest, member),                            \
            sizeof(((rt_trace_manifest *)0)->member), min, max, false                              \
    }
#define LATER(section, key, kind, member, min, max, words)                                         \
    {                                                                                              \
        section, key, words, kind, offsetof(rt_trace_manifest, member),                            \
            sizeof(((rt_trace_manifest *)0)->member), min, max, true                               \
    }

static const field FIELDS[] = {
    FIELD("teacher", "name", TEXT, teacher, 0, 0, "teacher"),
    FIELD("teacher", "config", HASH, config_hash, 0, 0, "teacher config hash"),
    FIELD("teacher", "weights", HASH, weights_hash, 0, 0, "teacher weights hash"),
    FIELD("teacher", "precision", TEXT, precision, 0, 0, "teacher precision"),
    FIELD("teacher", "licence", TEXT, licence, 0, 0, NULL), // may differ
    LATER("sampler", "name", TEXT, sampler, 0, 0, "model that wrote the text"),
    LATER("sampler", "weights", HASH, sampler_hash, 0, 0, "weights hash of who wrote the text"),
    LATER("sampler", "step", I64, sampler_step, 0, SAFE, "step of who wrote the text"),
    FIELD("tokenizer", "fingerprint", HASH, tokenizer_hash, 0, 0, "tokenizer fingerprint"),
    FIELD("tokenizer", "vocab_size", I32, vocab_size, 1, RT_TRACE_VOCAB_MAX, "vocabulary size"),
    FIELD("tokenizer", "template", HASH, template_hash, 0, 0, "chat template hash"),
    FIELD("capture", "head_max", I32, capture.head_max, 0, RT_SOFT_HEAD_MAX, "capture head_max"),
    FIELD("capture", "head_floor", F32, capture.head_floor, 0, 1, "capture head_floor"),
    FIELD("capture", "tail_spacing", F32, capture.tail_spacing, 0, 1, "capture tail_spacing"),
    LATER("capture", "listed", I32, capture.listed, 0, RT_SOFT_HEAD_MAX - 1, "capture listed"),
    LATER("capture", "listed_by", HASH, listed_hash, 0, 0, "student whose tokens are listed"),
    FIELD("sampling", "mode", TEXT, mode, 0, 0, "mode"),
    FIELD("sampling", "temperature", F64, temperature, 0, 100, "sampling temperature"),
    FIELD("sampling", "top_p", F64, top_p, DBL_MIN, 1, "sampling top_p"),
    FIELD("sampling", "top_k", I32, top_k, 0, INT32_MAX, "sampling top_k"),
    LATER("sampling", "min_p", F64, min_p, 0, 1, "sampling min_p"),
    LATER("sampling", "stop", LIST, stop, 0, 0, "list of stop texts"),
    LATER("sampling", "stop_repetition", I64, repetition, 0, SAFE, "stop_repetition"),
    FIELD("sampling", "samples_per_prompt", I32, samples_per_prompt, 1, INT32_MAX,
          "samples per prompt"),
    FIELD("sampling", "max_tokens", I64, max_tokens, 0, SAFE, "max_tokens"),
    FIELD("sampling", "seed", U64, seed, 0, 0, "seed"),
    FIELD("plan", "prompts", HASH, prompts_hash, 0, 0, "prompts hash"),
    FIELD("plan", "planned", I64, planned, 0, SAFE, "number of planned samples"),
    FIELD("plan", "part", I32, part, 0, INT32_MAX, "part of the plan"),
    FIELD("plan", "parts", I32, parts, 1, INT32_MAX, "number of parts"),
    FIELD("plan", "samples_per_shard", I64, samples_per_shard, 1, 1 << 24, "samples_per_shard"),
    FIELD("plan", "bytes_per_shard", I64, bytes_per_shard, 1, 1LL << 31, "bytes_per_shard"),
};

void rt_trace_manifest_init(rt_trace_manifest *m)
{
    memset(m, 0, sizeof *m);
    strcpy(m->mode, "sample");
    m->temperature = m->top_p = 1;
    m->samples_per_prompt = m->parts = 1;
    m->samples_per_shard = 4096;
    m->bytes_per_shard = 64 << 20;
}

bool rt_trace_shard_full(const rt_trace_manifest *m, int64_t samples, int64_t content)
{
    return samples >= m->samples_per_shard || content >= m->bytes_per_shard;
}

void rt_trace_shard_name(char name[32], int64_t k)
{
    snprintf(name, 32, "shard-%05lld.npz", (long long)k);
}

char *rt_trace_shard_path(const char *dir, int64_t k)
{
    char name[32];
    rt_trace_shard_name(name, k);
    return rt_path_join(dir, name);
}

int64_t rt_trace_shard_number(const char *name)
{
    char want[32];
    long long k;
    if (sscanf(name, "shard-%lld.npz", &k) != 1 || k < 0)
        return -1;
    rt_trace_shard_name(want, k);
    return strcmp(want, name) == 0 ? k : -1;
}

// ---- bounds ----

static bool hash_ok(const rt_hash *h)
{
    size_t n = strspn(h->hex, "0123456789abcdef");
    return (n == 32 || n == 0) && h->hex[n] == '\0';
}

static bool text_ok(const char *text, size_t size)
{
    const char *end = memchr(text, '\0', size);
    for (const char *p = text; end && p < end; p++)
        if ((unsigned char)*p < 0x20)
            return false;
    return end != NULL;
}

// A number of any kind; every bound of an I64 is exact in a double.
static double number_of(const field *f, const rt_trace_manifest *m)
{
    const void *at = (const char *)m + f->offset;
    switch (f->kind) {
    case I32:
        return *(const int32_t *)at;
    case I64:
        return (double)*(const int64_t *)at;
    case F32:
        return (double)*(const float *)at;
    default:
        return *(const double *)at;
    }
}

static bool field_ok(const field *f, const rt_trace_manifest *m)
{
    const char *at = (const char *)m + f->offset;
    if (f->kind == TEXT || (f->kind == LIST && !*at))
        return text_ok(at, f->size);
    if (f->kind == LIST) {
        cJSON *list = text_ok(at, f->size) ? cJSON_Parse(at) : NULL;
        bool ok = cJSON_IsArray(list);
        cJSON_Delete(list);
        return ok;
    }
    if (f->kind == HASH)
        return hash_ok((const rt_hash *)(const void *)at);
    double x = f->kind == U64 ? 0 : number_of(f, m);
    return x >= f->min && x <= f->max;
}

int rt_trace_manifest_check(const rt_trace_manifest *m, rt_err *err)
{
    const rt_soft_config *c = &m->capture;
    for (int i = 0; i < RT_COUNT(FIELDS); i++)
        if (!field_ok(&FIELDS[i], m))
            return rt_fail(err, "manifest: %s.%s is damaged or out of range", FIELDS[i].section,
                           FIELDS[i].key);
    bool ok = (c->tail_spacing == 0 || c->tail_spacing >= 1.0f / RT_SOFT_DRAWS_MAX) &&
              c->n_temperatures >= 0 && c->n_temperatures <= RT_SOFT_TEMPERATURES_MAX &&
              (c->listed == 0 || c->listed < c->head_max);
    for (int t = 0; ok && t < c->n_temperatures; t++)
        ok = isfinite(c->temperature[t]) && c->temperature[t] > 0;
    if (!ok)
        return rt_fail(err, "manifest: capture settings out of range");
    return m->part < m->parts ? 0 : rt_fail(err, "manifest: plan.part out of range");
}

// ---- struct -> JSON ----

// The shortest decimal that reads back to this float: 0.001, not 0.0010000000474974513.
static cJSON *float_value(float x)
{
    char text[32];
    int digits = 1;
    do
        snprintf(text, sizeof text, "%.*g", digits, (double)x);
    while (strtof(text, NULL) != x && ++digits <= 9);
    return cJSON_CreateNumber(strtod(text, NULL));
}

static cJSON *field_value(const field *f, const rt_trace_manifest *m)
{
    const void *at = (const char *)m + f->offset;
    char text[32];
    switch (f->kind) {
    case TEXT:
    case HASH:
        return cJSON_CreateString(at);
    case LIST:
        return *(const char *)at ? cJSON_Parse(at) : rt_json_array();
    case U64:
        snprintf(text, sizeof text, "%llu", (unsigned long long)*(const uint64_t *)at);
        return cJSON_CreateString(text);
    case F32:
        return float_value(*(const float *)at);
    default:
        return cJSON_CreateNumber(number_of(f, m));
    }
}

static bool is_absent(const field *f, const rt_trace_manifest *m)
{
    const char *at = (const char *)m + f->offset;
    bool text = f->kind == TEXT || f->kind == HASH || f->kind == LIST;
    return f->later && (text ? !*at : number_of(f, m) == 0);
}

static cJSON *section_of(cJSON *json, const char *name)
{
    cJSON *section = cJSON_GetObjectItemCaseSensitive(json, name);
    if (!section) {
        section = rt_json_object();
        rt_json_put(json, name, section);
    }
    return section;
}

static cJSON *temperature_list(const rt_soft_config *c)
{
    cJSON *list = rt_json_array();
    for (int t = 0; t < c->n_temperatures; t++)
        rt_json_put(list, NULL, float_value(c->temperature[t]));
    return list;
}

void rt_trace_manifest_put(cJSON *json, const rt_trace_manifest *m)
{
    for (int i = 0; i < RT_COUNT(FIELDS); i++)
        if (!is_absent(&FIELDS[i], m))
            rt_json_put(section_of(json, FIELDS[i].section), FIELDS[i].key,
                        field_value(&FIELDS[i], m));
    rt_json_put(section_of(json, "capture"), "temperatures", temperature_list(&m->capture));
}

static cJSON *manifest_file_json(const rt_trace_manifest *m, const rt_trace_shards *s)
{
    cJSON *json = rt_json_object(), *list = rt_json_array();
    rt_json_put_str(json, "format", "retort-traces");
    rt_json_put_i64(json, "version", m->weighted ? 2 : 1);
    rt_trace_manifest_put(json, m);
    for (int64_t k = 0; k < s->n; k++) {
        const rt_trace_shard_info *info = &s->item[k];
        cJSON *entry = rt_json_object();
        char name[32];
        rt_trace_shard_name(name, k);
        rt_json_put_str(entry, "file", name);
        rt_json_put_i64(entry, "samples", info->samples);
        rt_json_put_i64(entry, "content", info->content);
        rt_json_put_i64(entry, "bytes", info->bytes);
        rt_json_put_str(entry, "xxh3", info->hash.hex);
        rt_json_put(list, NULL, entry);
    }
    rt_json_put(json, "shards", list);
    rt_json_put_bool(json, "complete", m->complete);
    char *text = rt_json_text(json);
    rt_json_put_str(json, "hash", rt_hash_bytes(text, (int64_t)strlen(text)).hex);
    free(text);
    return json;
}

// ---- JSON -> struct ----

static int read_list(char *at, const field *f, const cJSON *section, rt_err *err)
{
    const cJSON *list;
    if (rt_json_get_array(section, f->key, &list, err))
        return -1;
    for (const cJSON *t = list->child; t; t = t->next)
        if (!cJSON_IsString(t))
            return rt_fail(err, "key \"%s\" is no list of texts", f->key);
    char *text = rt_json_text(list);
    size_t n = strlen(text);
    if (list->child && n < f->size)
        memcpy(at, text, n + 1);
    free(text);
    return n < f->size ? 0
                       : rt_fail(err, "key \"%s\" is longer than %zu bytes", f->key, f->size - 1);
}

static int read_field(const field *f, const cJSON *section, rt_trace_manifest *m, rt_err *err)
{
    void *at = (char *)m + f->offset;
    const char *text = NULL;
    int64_t i = 0;
    double d = 0;
    int rc;
    if (f->later && !rt_json_find(section, f->key))
        return 0;
    switch (f->kind) {
    case LIST:
        return read_list(at, f, section, err);
    case TEXT:
    case HASH:
        rc = rt_json_get_str(section, f->key, &text, err);
        if (!rc && strlen(text) >= f->size)
            rc = rt_fail(err, "key \"%s\" is longer than %zu bytes", f->key, f->size - 1);
        if (!rc)
            strcpy(at, text);
        break;
    case I32:
        rc = rt_json_get_i64(section, f->key, INT32_MIN, INT32_MAX, &i, err);
        *(int32_t *)at = (int32_t)i;
        break;
    case I64:
        rc = rt_json_get_i64(section, f->key, -(1LL << 53), 1LL << 53, &i, err);
        *(int64_t *)at = i;
        break;
    case U64:
        rc = rt_json_get_u64(section, f->key, at, err);
        break;
    case F32:
        rc = rt_json_get_f64(section, f->key, &d, err);
        *(float *)at = fabs(d) < 1e30 ? (float)d : 0;
        break;
    default:
        rc = rt_json_get_f64(section, f->key, at, err);
        break;
    }
    return rc;
}

int rt_trace_manifest_read(rt_trace_manifest *m, const cJSON *json, rt_err *err)
{
    memset(m, 0, sizeof *m);
    const cJSON *section, *list;
    for (int i = 0; i < RT_COUNT(FIELDS); i++) {
        if (FIELDS[i].later && !rt_json_find(json, FIELDS[i].section))
            continue; // a section of nothing but such fields
        if (rt_json_get_object(json, FIELDS[i].section, &section, err) ||
            read_field(&FIELDS[i], section, m, err))
            return rt_wrap(err, "manifest: %s", FIELDS[i].section);
    }
    if (rt_json_get_object(json, "capture", &section, err) ||
        rt_json_get_array(section, "temperatures", &list, err))
        return rt_wrap(err, "manifest: capture");
    for (const cJSON *t = list->child; t; t = t->next) {
        if (m->capture.n_temperatures == RT_SOFT_TEMPERATURES_MAX || !cJSON_IsNumber(t))
            return rt_fail(err, "manifest: capture: temperatures are damaged");
        m->capture.temperature[m->capture.n_temperatures++] = fabs(t->valuedouble) < 1e30
                                                                  ? (float)t->valuedouble
                                                                  : 0;
    }
    return rt_trace_manifest_check(m, err);
}

static int read_shards(rt_trace_shards *s, const cJSON *json, rt_err *err)
{
    const cJSON *list;
    if (rt_json_get_array(json, "shards", &list, err))
        return -1;
    int n = cJSON_GetArraySize(list);
    if (n > SHARDS_MAX)
        return rt_fail(err, "more than %d shards", SHARDS_MAX);
    s->item = rt_alloc(n, sizeof *s->item, "a list of shards");
    for (const cJSON *e = list->child; e; e = e->next) {
        rt_trace_shard_info *info = &s->item[s->n++];
        const char *hash = "";
        if (rt_json_get_i64(e, "samples", 1, 1 << 24, &info->samples, err) ||
            rt_json_get_i64(e, "content", 1, 1LL << 33, &info->content, err) ||
            rt_json_get_i64(e, "bytes", 1, 1LL << 33, &info->bytes, err) ||
            rt_json_get_str(e, "xxh3", &hash, err))
            return -1;
        snprintf(info->hash.hex, sizeof info->hash.hex, "%s", hash);
    }
    return 0;
}

static int parse_file(rt_trace_manifest *m, rt_trace_shards *s, const cJSON *json, const char *text,
                      rt_err *err)
{
    int64_t version = 0;
    const char *format = "";
    if (rt_json_get_str(json, "format", &format, err) ||
        rt_json_get_i64(json, "version", 0, 1 << 20, &version, err))
        return -1;
    if (strcmp(format, "retort-traces") != 0)
        return rt_fail(err, "not a trace archive: format is \"%s\"", format);
    if (version < 1 || version > RT_TRACE_VERSION)
        return rt_fail(err, "format version %lld; this program reads up to version %d",
                       (long long)version, RT_TRACE_VERSION);
    if (rt_trace_manifest_read(m, json, err) || read_shards(s, json, err) ||
        rt_json_opt_bool(json, "complete", &m->complete, err))
        return -1;
    m->weighted = version == 2;
    cJSON *again = manifest_file_json(m, s);
    char *canonical = rt_json_pretty(again);
    bool same = strcmp(canonical, text) == 0;
    cJSON_Delete(again);
    free(canonical);
    return same ? 0
                : rt_fail(err, "its content does not match its hash (edited or damaged): run "
                               "'retort archive repair'");
}

int rt_trace_manifest_load(const char *dir, rt_trace_manifest *m, rt_trace_shards *s, rt_err *err)
{
    char *path = rt_path_join(dir, "manifest.json"), *text = NULL;
    cJSON *json = NULL;
    int64_t bytes;
    *s = (rt_trace_shards){ 0 };
    int rc = rt_file_read(&text, &bytes, path, MANIFEST_BYTES_MAX, err) ||
             rt_json_parse(&json, text, bytes, "JSON", err) || parse_file(m, s, json, text, err);
    if (rc) {
        if (text)
            rt_wrap(err, "%s", path);
        free(s->item);
        *s = (rt_trace_shards){ 0 };
    }
    cJSON_Delete(json);
    free(text);
    free(path);
    return rc ? -1 : 0;
}

int rt_trace_manifest_save(const char *dir, const rt_trace_manifest *m, const rt_trace_shards *s,
                           rt_err *err)
{
    char *path = rt_path_join(dir, "manifest.json");
    cJSON *json = manifest_file_json(m, s);
    int rc = rt_json_save(json, path, err);
    cJSON_Delete(json);
    free(path);
    return rc;
}

// ---- comparing ----

// Takes both values; words: what they are.
static int compare(const char *path, const char *words, cJSON *have, cJSON *want, rt_err *err)
{
    int rc = 0;
    if (!cJSON_Compare(have, want, 1)) {
        char *a = rt_json_text(have), *b = rt_json_text(want);
        rc = rt_fail(err,
                     "%s: made with another %s: the archive has %s, this run %s; use the same "
                     "settings, or another output",
                     path, words, a, b);
        free(a);
        free(b);
    }
    cJSON_Delete(have);
    cJSON_Delete(want);
    return rc;
}

int rt_trace_manifest_same(const rt_trace_manifest *have, const rt_trace_manifest *want,
                           rt_trace_may may, const char *path, rt_err *err)
{
    static const char *const plan[] = { "prompts", "planned", "samples_per_prompt" };
    for (const field *f = FIELDS; f < FIELDS + RT_COUNT(FIELDS); f++) {
        bool differs = !f->words || (may == RT_MAY_PART && strcmp(f->key, "part") == 0);
        for (int i = 0; may == RT_MAY_PLAN && i < RT_COUNT(plan); i++)
            differs = differs || strcmp(f->key, plan[i]) == 0;
        if (differs)
            continue;
        if (compare(path, f->words, field_value(f, have), field_value(f, want), err))
            return -1;
    }
    return compare(path, "list of capture temperatures", temperature_list(&have->capture),
                   temperature_list(&want->capture), err);
}
