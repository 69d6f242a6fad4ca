/* safetensors.c: reading. Owns the checks that stand between a hostile header and a pointer into
   the map; writing is safetensors_write.c. Every number of a header is range-checked once, in
   tensor_parse, and the packed layout of a file once, in layout_check. */
#include "core/formats/safetensors.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/json.h"
#include "core/base/memory.h"

enum { HEADER_MAX = 100000000, TENSORS_MAX = 1000000, FILES_MAX = 10000, NAME_MAX_BYTES = 1024 };

/* Every dtype of the format, so that a file is checked even where retort cannot use a tensor. */
static const struct {
    const char *name;
    int bits;
} kinds[] = { { "F32", 32 },        { "F16", 16 },       { "BF16", 16 }, { "I32", 32 },
              { "U8", 8 },          { "I64", 64 },       { "F64", 64 },  { "F8_E4M3", 8 },
              { "F8_E5M2", 8 },     { "F8_E8M0", 8 },    { "F4", 4 },    { "F6_E2M3", 6 },
              { "F6_E3M2", 6 },     { "I8", 8 },         { "I16", 16 },  { "U16", 16 },
              { "U32", 32 },        { "U64", 64 },       { "BOOL", 8 },  { "C64", 64 },
              { "F8_E4M3FNUZ", 8 }, { "F8_E5M2FNUZ", 8 } };

static rt_dtype dtype_named(const char *name)
{
    for (int t = 0; t < RT_DTYPE_COUNT; t++) {
        const char *known = rt_dtype_get((rt_dtype)t)->safetensors;
        if (known && !strcmp(known, name))
            return (rt_dtype)t;
    }
    return RT_DTYPE_COUNT;
}

static bool has_suffix(const char *s, const char *suffix)
{
    size_t n = strlen(s), m = strlen(suffix);
    return n >= m && !strcmp(s + n - m, suffix);
}

/* A JSON number that is an exact integer in 0 .. 2^53. */
static bool size_of_json(const cJSON *j, int64_t *out)
{
    if (!cJSON_IsNumber(j) || !(j->valuedouble >= 0) || j->valuedouble > 0x1p53 ||
        j->valuedouble != floor(j->valuedouble))
        return false;
    *out = (int64_t)j->valuedouble;
    return true;
}

/* One header entry; begin..end are checked against the buffer here, against each other later. */
static int tensor_parse(rt_st_tensor *t, const cJSON *j, const char *path, int64_t buffer,
                        rt_err *err)
{
    const char *name = j->string;
    const cJSON *type = rt_json_find(j, "dtype"), *shape = rt_json_find(j, "shape");
    const cJSON *extent = rt_json_find(j, "data_offsets");
    if (!*name || strlen(name) > NAME_MAX_BYTES)
        return rt_fail(err, "%s: a tensor name is empty or longer than %d bytes", path,
                       NAME_MAX_BYTES);
    if (!cJSON_IsString(type) || !cJSON_IsArray(shape) || !cJSON_IsArray(extent))
        return rt_fail(err, "%s: %s: needs dtype, shape and data_offsets", path, name);
    int kind = 0;
    while (kind < RT_COUNT(kinds) && strcmp(kinds[kind].name, type->valuestring))
        kind++;
    if (kind == RT_COUNT(kinds))
        return rt_fail(err, "%s: %s: unknown dtype \"%.32s\"", path, name, type->valuestring);
    int64_t elements = 1;
    const cJSON *d;
    cJSON_ArrayForEach(d, shape)
    {
        if (t->rank == RT_ST_RANK_MAX)
            return rt_fail(err, "%s: %s: more than %d dimensions", path, name, RT_ST_RANK_MAX);
        if (!size_of_json(d, &t->dim[t->rank]) || !rt_mul_ok(elements, t->dim[t->rank], &elements))
            return rt_fail(err, "%s: %s: impossible shape", path, name);
        t->rank++;
    }
    for (int i = t->rank; i < RT_ST_RANK_MAX; i++)
        t->dim[i] = 1;
    int64_t begin, end, bits;
    if (cJSON_GetArraySize(extent) != 2 || !size_of_json(extent->child, &begin) ||
        !size_of_json(extent->child->next, &end) || begin > end || end > buffer)
        return rt_fail(err, "%s: %s: data_offsets outside the file's %lld bytes of data", path,
                       name, (long long)buffer);
    if (!rt_mul_ok(elements, kinds[kind].bits, &bits) || bits % 8 || bits / 8 != end - begin)
        return rt_fail(err, "%s: %s: shape and dtype do not fill data_offsets", path, name);
    t->name = rt_strdup(name);
    t->dtype = dtype_named(kinds[kind].name);
    t->type = kinds[kind].name;
    t->bytes = end - begin;
    t->elements = elements;
    t->offset = begin; /* moved by the header once the layout is checked */
    return 0;
}

static int by_offset(const void *a, const void *b)
{
    const rt_st_tensor *x = a, *y = b;
    if (x->offset != y->offset)
        return x->offset < y->offset ? -1 : 1;
    return x->bytes < y->bytes ? -1 : x->bytes > y->bytes;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const rt_st_tensor *)a)->name, ((const rt_st_tensor *)b)->name);
}

/* No overlap, no hole, nothing after the last tensor. */
static int layout_check(const rt_st_tensor *t, int64_t n, const char *path, int64_t buffer,
                        rt_err *err)
{
    int64_t at = 0;
    for (int64_t i = 0; i < n; i++) {
        if (t[i].offset != at)
            return rt_fail(err, "%s: %s: %s before it in the data; the file is damaged", path,
                           t[i].name, t[i].offset < at ? "overlaps the tensor" : "a hole");
        at += t[i].bytes;
    }
    if (at != buffer)
        return rt_fail(err, "%s: %lld bytes of data belong to no tensor; the file is damaged", path,
                       (long long)(buffer - at));
    return 0;
}

static int refuse_other_formats(const rt_map *map, const char *path, rt_err *err)
{
    const uint8_t *p = map->data;
    bool zip = map->bytes >= 4 && !memcmp(p, "PK\3\4", 4);
    bool pickle = map->bytes >= 8 && p[0] == 0x80 && p[1] >= 2 && p[1] <= 5 &&
                  (p[4] | p[5] | p[6] | p[7]); /* a header length has zeros here */
    if (zip || pickle || has_suffix(path, ".bin") || has_suffix(path, ".pt") ||
        has_suffix(path, ".pth"))
        return rt_fail(err,
                       "%s: a pickle checkpoint, which can run code when it is read: convert it "
                       "once with transformers' save_pretrained(DIR, safe_serialization=True)",
                       path);
    if (map->bytes >= 4 && !memcmp(p, "GGUF", 4))
        return rt_fail(err, "%s: this is GGUF, not safetensors", path);
    return 0;
}

static int header_read(rt_safetensors *st, const cJSON *header, int file, int64_t head,
                       int64_t buffer, rt_err *err)
{
    const char *path = st->path[file];
    int64_t n = cJSON_GetArraySize(header), first = st->n_tensors;
    if (n > TENSORS_MAX - first)
        return rt_fail(err, "%s: more than %d tensors", path, TENSORS_MAX);
    st->tensor = rt_realloc(st->tensor, first + n, sizeof *st->tensor, path);
    const cJSON *j;
    cJSON_ArrayForEach(j, header)
    {
        if (!strcmp(j->string, "__metadata__"))
            continue;
        rt_st_tensor *t = &st->tensor[st->n_tensors];
        *t = (rt_st_tensor){ .file = file };
        if (!cJSON_IsObject(j))
            return rt_fail(err, "%s: %.64s: not an object", path, j->string);
        if (tensor_parse(t, j, path, buffer, err))
            return -1;
        st->n_tensors++;
    }
    rt_st_tensor *own = st->tensor + first;
    n = st->n_tensors - first;
    qsort(own, (size_t)n, sizeof *own, by_offset);
    if (layout_check(own, n, path, buffer, err))
        return -1;
    for (int64_t i = 0; i < n; i++) {
        own[i].offset += head;
        own[i].data = st->map[file].data + own[i].offset;
    }
    return 0;
}

/* The checksums of a file of ours. A hostile file may have one of the two, of any length. */
static int sums_read(rt_safetensors *st, const cJSON *header, int file, int64_t head, int64_t first,
                     rt_err *err)
{
    static const char BEGIN[] = RT_ST_HEADER_BEGIN;
    const cJSON *meta = rt_json_find(header, "__metadata__");
    const char *own = cJSON_GetStringValue(rt_json_find(meta, "retort.header"));
    const char *sums = cJSON_GetStringValue(rt_json_find(meta, "retort.xxh3"));
    int64_t n = st->n_tensors - first, each = RT_HASH_DIGITS + 1,
            at = 8 + (int64_t)sizeof BEGIN - 1;
    const uint8_t *data = st->map[file].data;
    if (!own && !sums)
        return 0;
    bool good = own && sums && strlen(own) == RT_HASH_DIGITS && head >= at + RT_HASH_DIGITS &&
                (int64_t)strlen(sums) == (n ? n * each - 1 : 0) &&
                memcmp(data + 8, BEGIN, sizeof BEGIN - 1) == 0;
    if (good) {
        rt_hash hash = rt_hash_around(data, head, at);
        good = rt_hash_same(own, &hash);
    }
    if (!good)
        return rt_fail(
            err,
            "%s: the header is not the one that was written (its checksum does not fit): "
            "the file is damaged, or another program changed it; copy or make it again",
            st->path[file]);
    size_t length = strlen(sums) + 1;
    st->sums[file] = rt_alloc((int64_t)length + each, 1, "checksums of tensors");
    memcpy(st->sums[file], sums, length);
    memcpy(st->sums[file] + length, own, RT_HASH_DIGITS);
    for (int64_t i = 0; i < n; i++)
        st->tensor[first + i].sum = st->sums[file] + i * each;
    return 0;
}

int rt_safetensors_check(const rt_safetensors *st, const rt_st_tensor *t, rt_err *err)
{
    if (!t->sum || rt_map_fits(t->sum, t->data, t->bytes))
        return 0;
    return rt_fail(err,
                   "%s: tensor %s: its bytes are not those that were written (the checksum does "
                   "not fit): the file is damaged; copy or make it again",
                   st->path[t->file], t->name);
}

const char *rt_safetensors_header(const rt_safetensors *st, int file)
{
    return st->sums[file] ? st->sums[file] + strlen(st->sums[file]) + 1 : "";
}

/* Map st->path[file] and append its tensors. */
static int file_read(rt_safetensors *st, int file, rt_err *err)
{
    const char *path = st->path[file];
    rt_map *map = &st->map[file];
    if (rt_map_open(map, path, err) || refuse_other_formats(map, path, err))
        return -1;
    if (map->bytes < 8)
        return rt_fail(err, "%s: truncated: %lld bytes", path, (long long)map->bytes);
    uint64_t length = 0;
    for (int i = 7; i >= 0; i--)
        length = length << 8 | map->data[i];
    if (length > HEADER_MAX)
        return rt_fail(err, "%s: not a safetensors file (a header of %llu bytes)", path,
                       (unsigned long long)length);
    if ((int64_t)length > map->bytes - 8)
        return rt_fail(err, "%s: truncated inside the header; fetch the file again", path);
    if (length < 2 || map->data[8] != '{')
        return rt_fail(err, "%s: not a safetensors file (the header is not a JSON object)", path);
    cJSON *header = NULL;
    if (rt_json_parse(&header, (const char *)map->data + 8, (int64_t)length, path, err))
        return -1;
    int64_t head = 8 + (int64_t)length;
    int64_t first = st->n_tensors;
    int rc = header_read(st, header, file, head, map->bytes - head, err) ||
                     sums_read(st, header, file, head, first, err)
                 ? -1
                 : 0;
    cJSON_Delete(header);
    return rc;
}

static void files_reserve(rt_safetensors *st, int n)
{
    st->path = rt_alloc(n, sizeof *st->path, "a list of files of weights");
    st->map = rt_alloc(n, sizeof *st->map, "a list of files of weights");
    st->sums = rt_alloc(n, sizeof *st->sums, "the checksums of files of weights");
}

static int compare_strings(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The distinct files of a weight map, ascending; names with a path in them are refused. */
static int index_files(rt_safetensors *st, const cJSON *weights, const char *dir, const char *path,
                       rt_err *err)
{
    int n = cJSON_GetArraySize(weights), distinct = 0, rc = -1;
    if (n == 0)
        return rt_fail(err, "%s: weight_map is empty", path);
    const char **name = rt_alloc(n, sizeof *name, path);
    const cJSON *j;
    n = 0;
    cJSON_ArrayForEach(j, weights)
    {
        const char *s = cJSON_IsString(j) ? j->valuestring : "";
        if (strpbrk(s, "/\\") || strstr(s, "..") || !has_suffix(s, ".safetensors")) {
            rt_fail(err, "%s: %.64s: \"%.128s\" is not the name of a .safetensors file beside it",
                    path, j->string, s);
            goto out;
        }
        name[n++] = s;
    }
    qsort(name, (size_t)n, sizeof *name, compare_strings);
    for (int i = 0; i < n; i++)
        if (i == 0 || strcmp(name[i], name[i - 1]))
            name[distinct++] = name[i];
    if (distinct > FILES_MAX) {
        rt_fail(err, "%s: more than %d files", path, FILES_MAX);
        goto out;
    }
    files_reserve(st, distinct);
    for (st->n_files = 0; st->n_files < distinct; st->n_files++)
        st->path[st->n_files] = rt_path_join(dir, name[st->n_files]);
    rc = 0;
out:
    free(name);
    return rc;
}

static int names_sort(rt_safetensors *st, rt_err *err)
{
    if (st->n_tensors > 0)
        qsort(st->tensor, (size_t)st->n_tensors, sizeof *st->tensor, by_name);
    for (int64_t i = 1; i < st->n_tensors; i++)
        if (!strcmp(st->tensor[i].name, st->tensor[i - 1].name))
            return rt_fail(err, "%s: %s: stands twice", st->path[st->tensor[i].file],
                           st->tensor[i].name);
    return 0;
}

static int index_read(rt_safetensors *st, const char *dir, const char *path, rt_err *err)
{
    cJSON *index = NULL;
    const cJSON *weights = NULL, *j;
    int rc = -1;
    if (rt_json_load(&index, path, err))
        return -1;
    if (rt_json_get_object(index, "weight_map", &weights, err)) {
        rt_wrap(err, "%s", path);
        goto out;
    }
    if (index_files(st, weights, dir, path, err))
        goto out;
    for (int f = 0; f < st->n_files; f++)
        if (file_read(st, f, err))
            goto out;
    if (names_sort(st, err))
        goto out;
    cJSON_ArrayForEach(j, weights)
    {
        const rt_st_tensor *t = rt_safetensors_find(st, j->string);
        if (!t || strcmp(rt_path_base(st->path[t->file]), j->valuestring)) {
            rt_fail(err, "%s: %.128s: is not in %.128s; fetch the checkpoint again", path,
                    j->string, j->valuestring);
            goto out;
        }
    }
    rc = 0;
out:
    cJSON_Delete(index);
    return rc;
}

static int single_read(rt_safetensors *st, const char *path, rt_err *err)
{
    files_reserve(st, 1);
    st->path[0] = rt_strdup(path);
    st->n_files = 1;
    return file_read(st, 0, err) || names_sort(st, err) ? -1 : 0;
}

/* No weights in dir: say what is there instead. */
static int refuse_dir(const char *dir, rt_err *err)
{
    char **names = NULL;
    int n = 0;
    if (rt_dir_list(&names, &n, dir, err))
        return -1;
    const char *pickle = NULL;
    for (int i = 0; i < n && !pickle; i++)
        if (has_suffix(names[i], ".bin") || has_suffix(names[i], ".pt") ||
            has_suffix(names[i], ".pth"))
            pickle = names[i];
    if (pickle)
        rt_fail(err,
                "%s: only pickle weights (%.64s), which can run code when they are read: convert "
                "once with transformers' save_pretrained(DIR, safe_serialization=True)",
                dir, pickle);
    else
        rt_fail(err, "%s: no model.safetensors and no model.safetensors.index.json", dir);
    rt_names_free(names, n);
    return -1;
}

static int dir_read(rt_safetensors *st, const char *dir, rt_err *err)
{
    char *single = rt_path_join(dir, "model.safetensors");
    char *index = rt_path_join(dir, "model.safetensors.index.json");
    int rc;
    if (rt_path_exists(single))
        rc = single_read(st, single, err);
    else if (rt_path_exists(index))
        rc = index_read(st, dir, index, err);
    else
        rc = refuse_dir(dir, err);
    free(single);
    free(index);
    return rc;
}

static int index_path_read(rt_safetensors *st, const char *path, rt_err *err)
{
    int64_t n = rt_path_base(path) - path;
    char *dir = n ? rt_strndup(path, n) : rt_strdup(".");
    int rc = index_read(st, dir, path, err);
    free(dir);
    return rc;
}

int rt_safetensors_open(rt_safetensors *st, const char *dir_or_file, rt_err *err)
{
    *st = (rt_safetensors){ 0 };
    int rc;
    if (rt_path_is_dir(dir_or_file))
        rc = dir_read(st, dir_or_file, err);
    else if (has_suffix(dir_or_file, ".index.json"))
        rc = index_path_read(st, dir_or_file, err);
    else
        rc = single_read(st, dir_or_file, err);
    if (rc)
        rt_safetensors_close(st);
    return rc;
}

void rt_safetensors_close(rt_safetensors *st)
{
    for (int64_t i = 0; i < st->n_tensors; i++)
        free(st->tensor[i].name);
    free(st->tensor);
    for (int f = 0; f < st->n_files; f++) {
        rt_map_close(&st->map[f]);
        free(st->path[f]);
        free(st->sums[f]);
    }
    free(st->sums);
    free(st->path);
    free(st->map);
    *st = (rt_safetensors){ 0 };
}

const rt_st_tensor *rt_safetensors_find(const rt_safetensors *st, const char *name)
{
    rt_st_tensor key = { .name = (char *)name };
    return st->n_tensors > 0 ? bsearch(&key, st->tensor, (size_t)st->n_tensors, sizeof key, by_name)
                             : NULL;
}

int rt_safetensors_read_f32(float *out, const rt_st_tensor *t, int64_t first, int64_t n,
                            rt_err *err)
{
    if (first < 0 || n < 0 || first > t->elements - n)
        rt_bug("rt_safetensors_read_f32: %s: %lld + %lld of %lld elements", t->name,
               (long long)first, (long long)n, (long long)t->elements);
    if (t->dtype != RT_F32 && t->dtype != RT_F16 && t->dtype != RT_BF16)
        return rt_fail(err, "%s: dtype %s cannot be read as numbers; F32, F16 and BF16 can",
                       t->name, t->type);
    rt_decode_f32(out, t->data + rt_dtype_bytes(t->dtype, first), t->dtype, n);
    return 0;
}
