/* safetensors_write.c: the streaming, sharded, atomic writer. Owns the order of bytes: headers list
   tensors as declared, are padded with spaces so that data start 64-byte aligned, and carry the
   metadata {"format":"pt"} that Hugging Face readers ask for and the checksums, whose digits are
   zeros until the data are there. A set of shards is replaced whole:
   the new ones take names that the old index does not use, and one rename or unlink makes them the
   model. Refuses: converting what it is given.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/json.h"
#include "core/base/memory.h"
#include "core/formats/safetensors.h"

#define NO_HASH "00000000000000000000000000000000"

struct rt_st_decl {
    char *name;
    rt_dtype dtype;
    int rank, shard;
    int64_t dim[RT_ST_RANK_MAX];
    int64_t bytes, offset; /* in the data of its shard */
    rt_hash sum;
};

struct rt_st_shard {
    rt_out out;
    char *name; /* file name in the directory, or the whole path of a single file */
    int64_t bytes;
};

void rt_safetensors_writer_init(rt_safetensors_writer *w, const char *dir_or_file,
                                int64_t max_shard_bytes)
{
    *w = (rt_safetensors_writer){ 0 };
    size_t n = strlen(dir_or_file), m = strlen(".safetensors");
    w->single = n > m && !strcmp(dir_or_file + n - m, ".safetensors");
    w->max_shard_bytes = w->single || max_shard_bytes <= 0 ? INT64_MAX : max_shard_bytes;
    w->path = rt_strdup(dir_or_file);
}

void rt_safetensors_writer_add(rt_safetensors_writer *w, const char *name, rt_dtype dtype, int rank,
                               const int64_t *dim)
{
    if (w->n_shards || rank < 0 || rank > RT_ST_RANK_MAX || !rt_dtype_get(dtype)->safetensors)
        rt_bug("safetensors writer: %s: declared after begin, or impossible rank or dtype", name);
    rt_grow(&w->decl, &w->cap_decl, w->n_decl + 1, sizeof *w->decl, "tensor names");
    struct rt_st_decl *d = &w->decl[w->n_decl++];
    *d = (struct rt_st_decl){ .name = rt_strdup(name), .dtype = dtype, .rank = rank };
    int64_t elements = 1;
    for (int i = 0; i < rank; i++) {
        d->dim[i] = dim[i];
        if (!rt_mul_ok(elements, dim[i], &elements))
            rt_bug("safetensors writer: %s: shape overflows", name);
    }
    d->bytes = rt_dtype_bytes(dtype, elements);
    d->sum = d->bytes ? (rt_hash){ NO_HASH } : rt_hash_bytes("", 0);
}

static int compare_strings(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void refuse_duplicates(const rt_safetensors_writer *w)
{
    char **name = rt_alloc(w->n_decl, sizeof *name, "tensor names");
    for (int64_t i = 0; i < w->n_decl; i++)
        name[i] = w->decl[i].name;
    qsort(name, (size_t)w->n_decl, sizeof *name, compare_strings);
    for (int64_t i = 1; i < w->n_decl; i++)
        if (!strcmp(name[i], name[i - 1]))
            rt_bug("safetensors writer: %s: declared twice", name[i]);
    free(name);
}

/* Greedy in declared order: a shard closes when the next tensor would exceed the limit. */
static void shards_assign(rt_safetensors_writer *w)
{
    int64_t used = 0;
    int shard = 0;
    for (int64_t i = 0; i < w->n_decl; i++) {
        struct rt_st_decl *d = &w->decl[i];
        if (used > 0 && d->bytes > w->max_shard_bytes - used) {
            shard++;
            used = 0;
        }
        if (used % (rt_dtype_bytes(d->dtype, 1)))
            rt_bug("safetensors writer: %s: declare wider dtypes first (alignment)", d->name);
        d->shard = shard;
        d->offset = used;
        used += d->bytes;
    }
    w->n_shards = shard + 1;
}

/* "a b c": the checksums of a shard's tensors. */
static char *sums_text(const rt_safetensors_writer *w, int shard)
{
    char *text = rt_alloc(w->n_decl * (RT_HASH_DIGITS + 1) + 1, 1, "checksums of tensors"),
         *at = text;
    for (int64_t i = 0; i < w->n_decl; i++)
        if (w->decl[i].shard == shard) {
            at += at > text ? (*at = ' ', 1) : 0;
            memcpy(at, w->decl[i].sum.hex, RT_HASH_DIGITS);
            at += RT_HASH_DIGITS;
        }
    return text;
}

static char *header_text(const rt_safetensors_writer *w, int shard)
{
    cJSON *header = rt_json_object(), *meta = rt_json_object();
    char *sums = sums_text(w, shard);
    rt_json_put_str(meta, "format", "pt");
    rt_json_put_str(meta, "retort.header", NO_HASH);
    rt_json_put_str(meta, "retort.xxh3", sums);
    rt_json_put(header, "__metadata__", meta);
    free(sums);
    for (int64_t i = 0; i < w->n_decl; i++) {
        const struct rt_st_decl *d = &w->decl[i];
        if (d->shard != shard)
            continue;
        cJSON *j = rt_json_object(), *shape = rt_json_array(), *extent = rt_json_array();
        rt_json_put_str(j, "dtype", rt_dtype_get(d->dtype)->safetensors);
        for (int k = 0; k < d->rank; k++)
            cJSON_AddItemToArray(shape, cJSON_CreateNumber((double)d->dim[k]));
        cJSON_AddItemToArray(extent, cJSON_CreateNumber((double)d->offset));
        cJSON_AddItemToArray(extent, cJSON_CreateNumber((double)(d->offset + d->bytes)));
        rt_json_put(j, "shape", shape);
        rt_json_put(j, "data_offsets", extent);
        rt_json_put(header, d->name, j);
    }
    char *text = rt_json_text(header);
    cJSON_Delete(header);
    return text;
}

/* All bytes before the data: length, header, spaces, its own checksum in it. free() it. */
static char *head_make(const rt_safetensors_writer *w, int shard, int64_t *bytes)
{
    char *text = header_text(w, shard);
    int64_t n = (int64_t)strlen(text), own = 8 + (int64_t)sizeof RT_ST_HEADER_BEGIN - 1;
    *bytes = rt_align_up(8 + n, RT_CACHE_LINE);
    char *head = rt_alloc(*bytes, 1, "a header of safetensors");
    for (int i = 0; i < 8; i++)
        head[i] = (char)((uint64_t)(*bytes - 8) >> (8 * i) & 255);
    memcpy(head + 8, text, (size_t)n);
    memset(head + 8 + n, ' ', (size_t)(*bytes - 8 - n));
    rt_hash hash = rt_hash_around(head, *bytes, own);
    memcpy(head + own, hash.hex, RT_HASH_DIGITS);
    free(text);
    return head;
}

static int head_write(const rt_safetensors_writer *w, int shard, bool again, rt_err *err)
{
    int64_t bytes;
    rt_out *out = &w->shard[shard].out;
    char *head = head_make(w, shard, &bytes);
    int rc = again ? rt_out_patch(out, 0, head, bytes, err) : rt_out_write(out, head, bytes, err);
    free(head);
    return rc ? -1 : 0;
}

static const char ONE[] = "model.safetensors", INDEX[] = "model.safetensors.index.json";

static void shard_name(char name[64], int set, int s, int n)
{
    if (n == 1)
        snprintf(name, 64, "%s", ONE);
    else if (set == 1)
        snprintf(name, 64, "model-%05d-of-%05d.safetensors", s + 1, n);
    else
        snprintf(name, 64, "model-%d-%05d-of-%05d.safetensors", set, s + 1, n);
}

/* The first set of names of which the index in force, if any, has none; or -1. */
static int set_choose(const rt_safetensors_writer *w, rt_err *err)
{
    char *one = rt_path_join(w->path, ONE), *index = rt_path_join(w->path, INDEX), *text = NULL;
    int64_t bytes;
    int set = 1;
    if (w->n_shards > 1 && !rt_path_exists(one) && rt_path_exists(index) &&
        rt_file_read(&text, &bytes, index, RT_JSON_MAX_BYTES, err))
        set = -1;
    for (int s = 0; text && s < w->n_shards;) {
        char name[64];
        shard_name(name, set, s, w->n_shards);
        bool taken = strstr(text, name) != NULL;
        s = taken ? 0 : s + 1;
        set += taken;
    }
    free(text);
    free(one);
    free(index);
    return set;
}

int64_t rt_safetensors_writer_bytes(rt_safetensors_writer *w)
{
    int64_t sum = 0, head;
    shards_assign(w);
    for (int s = 0; s < w->n_shards; s++) {
        free(head_make(w, s, &head));
        sum += head;
    }
    for (int64_t i = 0; i < w->n_decl; i++)
        sum += w->decl[i].bytes;
    w->n_shards = 0;
    return sum;
}

int rt_safetensors_writer_begin(rt_safetensors_writer *w, rt_err *err)
{
    refuse_duplicates(w);
    shards_assign(w);
    w->shard = rt_alloc(w->n_shards, sizeof *w->shard, "a list of shards");
    if (!w->single && rt_dir_make(w->path, err))
        return -1;
    if ((w->set = set_choose(w, err)) < 0)
        return -1;
    for (int s = 0; s < w->n_shards; s++) {
        struct rt_st_shard *shard = &w->shard[s];
        char name[64];
        shard_name(name, w->set, s, w->n_shards);
        shard->name = rt_strdup(name);
        char *path = w->single ? rt_strdup(w->path) : rt_path_join(w->path, name);
        int rc = rt_out_open(&shard->out, path, err);
        free(path);
        if (rc || head_write(w, s, false, err))
            return -1;
    }
    return 0;
}

int rt_safetensors_writer_push(rt_safetensors_writer *w, const void *data, int64_t bytes,
                               rt_err *err)
{
    const uint8_t *p = data;
    while (bytes > 0) {
        while (w->at < w->n_decl && w->at_bytes == w->decl[w->at].bytes) {
            w->at++;
            w->at_bytes = 0;
        }
        if (w->at == w->n_decl)
            rt_bug("safetensors writer: %s: more data than was declared", w->path);
        struct rt_st_decl *d = &w->decl[w->at];
        int64_t take = rt_min(bytes, d->bytes - w->at_bytes);
        if (rt_out_write(&w->shard[d->shard].out, p, take, err))
            return -1;
        if (w->at_bytes == 0)
            rt_hasher_begin(&w->hasher);
        rt_hasher_add(&w->hasher, p, take);
        w->at_bytes += take;
        if (w->at_bytes == d->bytes)
            d->sum = rt_hasher_end(&w->hasher);
        p += take;
        bytes -= take;
    }
    return 0;
}

static int index_write(const rt_safetensors_writer *w, const char *path, rt_err *err)
{
    cJSON *index = rt_json_object(), *meta = rt_json_object(), *map = rt_json_object();
    int64_t total = 0;
    for (int64_t i = 0; i < w->n_decl; i++) {
        total += w->decl[i].bytes;
        rt_json_put_str(map, w->decl[i].name, w->shard[w->decl[i].shard].name);
    }
    rt_json_put_i64(meta, "total_size", total);
    rt_json_put(index, "metadata", meta);
    rt_json_put(index, "weight_map", map);
    int rc = rt_json_save(index, path, err);
    cJSON_Delete(index);
    return rc;
}

static int remove_old(const char *dir, const char *name, rt_err *err)
{
    char *path = rt_path_join(dir, name);
    int rc = unlink(path) && errno != ENOENT
                 ? rt_fail(err, "%s: cannot remove the older file: %s", path, rt_errno_text(errno))
                 : 0;
    free(path);
    return rc;
}

/* A shard's name that is none of ours: of the set before, or left by a writer that was killed. */
static bool is_stale(const rt_safetensors_writer *w, const char *name)
{
    int set = 1, s, n;
    char again[64];
    if (sscanf(name, "model-%9d-%9d-of-%9d", &set, &s, &n) != 3) {
        set = 1;
        if (sscanf(name, "model-%9d-of-%9d", &s, &n) != 2)
            return false;
    }
    shard_name(again, set, s - 1, n);
    bool stale = !strcmp(name, again);
    for (s = 0; s < w->n_shards; s++)
        stale = stale && strcmp(name, w->shard[s].name) != 0;
    return stale;
}

/* Readers prefer model.safetensors to an index. So the new set is in force with the rename of the
   single file, of the index, or with the removal of the single file before; what is removed after
   that nobody reads. */
static int set_replace(const rt_safetensors_writer *w, rt_err *err)
{
    char *index = rt_path_join(w->path, INDEX), **name;
    int n, rc = w->n_shards > 1 ? index_write(w, index, err) || remove_old(w->path, ONE, err)
                                : remove_old(w->path, INDEX, err);
    free(index);
    if (rc || rt_dir_list(&name, &n, w->path, err))
        return -1;
    for (int i = 0; i < n && !rc; i++)
        rc = is_stale(w, name[i]) ? remove_old(w->path, name[i], err) : 0;
    rt_names_free(name, n);
    return rc ? -1 : rt_dir_sync(w->path, err);
}

int rt_safetensors_writer_commit(rt_safetensors_writer *w, rt_err *err)
{
    int rc = 0;
    int64_t left = 0;
    for (int64_t i = w->at; i < w->n_decl; i++)
        left += w->decl[i].bytes;
    if (!w->n_shards || left != w->at_bytes)
        rt_bug("safetensors writer: %s: commit before all declared data were pushed", w->path);
    for (int s = 0; s < w->n_shards && !rc; s++)
        rc = head_write(w, s, true, err);
    for (int s = 0; s < w->n_shards && !rc; s++)
        rc = rt_out_commit(&w->shard[s].out, err);
    if (!rc && !w->single)
        rc = set_replace(w, err);
    rt_err ignored;
    if (rc && w->n_shards > 1 && set_choose(w, &ignored) == w->set) /* no index came to name them */
        for (int s = 0; s < w->n_shards; s++)
            remove_old(w->path, w->shard[s].name, &ignored);
    rt_safetensors_writer_abort(w);
    return rc;
}

void rt_safetensors_writer_abort(rt_safetensors_writer *w)
{
    for (int s = 0; s < w->n_shards && w->shard; s++) {
        rt_out_abort(&w->shard[s].out);
        free(w->shard[s].name);
    }
    for (int64_t i = 0; i < w->n_decl; i++)
        free(w->decl[i].name);
    free(w->decl);
    free(w->shard);
    free(w->path);
    rt_hasher_free(&w->hasher);
    *w = (rt_safetensors_writer){ 0 };
}
