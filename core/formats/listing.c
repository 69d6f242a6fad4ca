#include "core/formats/listing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/memory.h"
#include "core/formats/safetensors.h"

#define NO_HASH "00000000000000000000000000000000"

static const char NAME[] = "retort.json", BEGIN[] = "{\n  \"xxh3\": \"";

static const char *const SMALL[] = { "README.md",
                                     "chat_template.jinja",
                                     "config.json",
                                     "generation_config.json",
                                     "model.safetensors.index.json",
                                     "special_tokens_map.json",
                                     "tokenizer.json",
                                     "tokenizer_config.json" };

bool rt_listing_may(const char *name)
{
    for (int i = 0; i < RT_COUNT(SMALL); i++)
        if (!strcmp(name, SMALL[i]))
            return true;
    return false;
}

static bool is_weights(const char *name)
{
    size_t n = strlen(name), m = strlen(".safetensors");
    return n > m && !strcmp(name + n - m, ".safetensors");
}

// ---- writing ----

static void put_entry(cJSON *files, const char *name, int64_t bytes, const char *key,
                      const char *digits)
{
    cJSON *entry = rt_json_object();
    char hex[RT_HASH_DIGITS + 1];
    snprintf(hex, sizeof hex, "%.32s", digits);
    rt_json_put_i64(entry, "bytes", bytes);
    rt_json_put_str(entry, key, hex);
    rt_json_put(files, name, entry);
}

static int list_small(cJSON *files, const char *dir, rt_err *err)
{
    int bad = 0;
    for (int i = 0; !bad && i < RT_COUNT(SMALL); i++) {
        char *path = rt_path_join(dir, SMALL[i]), *data = NULL;
        int64_t bytes;
        if (rt_path_exists(path) &&
            !(bad = rt_file_read(&data, &bytes, path, RT_JSON_MAX_BYTES, err)))
            put_entry(files, SMALL[i], bytes, "xxh3", rt_hash_bytes(data, bytes).hex);
        free(data);
        free(path);
    }
    return bad;
}

/* The digits of a file of weights are those of its header; "" when another program wrote it. */
static int list_weights(cJSON *files, const char *dir, rt_err *err)
{
    char *one = rt_path_join(dir, "model.safetensors");
    char *index = rt_path_join(dir, "model.safetensors.index.json");
    rt_safetensors st;
    int bad = 0;
    if (rt_path_exists(one) || rt_path_exists(index)) {
        bad = rt_safetensors_open(&st, dir, err);
        for (int f = 0; !bad && f < st.n_files; f++)
            put_entry(files, rt_path_base(st.path[f]), st.map[f].bytes, "header",
                      rt_safetensors_header(&st, f));
        if (!bad)
            rt_safetensors_close(&st);
    }
    free(one);
    free(index);
    return bad;
}

int rt_listing_write(const char *dir, cJSON *about, bool unfinished, rt_err *err)
{
    cJSON *json = rt_json_object(), *files = rt_json_object();
    rt_json_put_str(json, "xxh3", NO_HASH);
    const cJSON *c;
    cJSON_ArrayForEach(c, about) rt_json_put(json, c->string, cJSON_Duplicate(c, true));
    cJSON_Delete(about);
    int bad = unfinished ? 0 : list_small(files, dir, err) || list_weights(files, dir, err);
    if (unfinished)
        rt_json_put_bool(json, "unfinished", true);
    else
        rt_json_put(json, "files", cJSON_Duplicate(files, true));
    if (!bad) {
        char *text = rt_json_pretty(json), *path = rt_path_join(dir, NAME);
        int64_t n = (int64_t)strlen(text), own = (int64_t)sizeof BEGIN - 1;
        rt_hash hash = rt_hash_around(text, n, own);
        memcpy(text + own, hash.hex, RT_HASH_DIGITS);
        bad = rt_file_write(path, text, n, err);
        free(text);
        free(path);
    }
    cJSON_Delete(json);
    cJSON_Delete(files);
    return bad ? -1 : 0;
}

// ---- reading ----

static bool is_whole(const cJSON *json, const char *text, int64_t bytes)
{
    const char *own = cJSON_GetStringValue(rt_json_find(json, "xxh3"));
    int64_t at = (int64_t)sizeof BEGIN - 1;
    bool known = cJSON_IsObject(rt_json_find(json, "files")) ||
                 cJSON_IsTrue(rt_json_find(json, "unfinished"));
    if (!known || !own || strlen(own) != RT_HASH_DIGITS || bytes < at + RT_HASH_DIGITS ||
        memcmp(text, BEGIN, (size_t)at) != 0)
        return false;
    rt_hash hash = rt_hash_around(text, bytes, at);
    return rt_hash_same(own, &hash);
}

int rt_listing_read(rt_listing *l, const char *dir, rt_err *err)
{
    char *path = rt_path_join(dir, NAME), *text = NULL;
    int64_t bytes = 0;
    cJSON *json = NULL;
    *l = (rt_listing){ 0 };
    int bad = 0;
    if (rt_path_exists(path))
        bad = rt_file_read(&text, &bytes, path, RT_JSON_MAX_BYTES, err) ||
              rt_json_parse(&json, text, bytes, path, err);
    if (json && (rt_json_find(json, "xxh3") || rt_json_find(json, "files") ||
                 rt_json_find(json, "unfinished"))) {
        if (!is_whole(json, text, bytes))
            bad = rt_fail(
                err,
                "%s: not as it was written (its checksum does not fit); if you changed it "
                "yourself, delete it and the checksums in it are gone",
                path);
        else {
            l->json = json;
            l->unfinished = !rt_json_find(json, "files");
            json = NULL;
        }
    }
    cJSON_Delete(json);
    free(text);
    free(path);
    return bad ? -1 : 0;
}

cJSON *rt_listing_known(const char *path)
{
    rt_listing l;
    rt_err none;
    return path && rt_path_is_dir(path) && rt_listing_read(&l, path, &none) == 0 ? l.json : NULL;
}

static int check_weights(const char *path, int64_t bytes, const char *digits, rt_err *err)
{
    rt_safetensors st;
    if (rt_safetensors_open(&st, path, err))
        return -1;
    int bad = st.map[0].bytes == bytes && !strcmp(digits, rt_safetensors_header(&st, 0))
                  ? 0
                  : rt_fail(err, "%s: not the file that retort.json lists; copy or make it again",
                            path);
    rt_safetensors_close(&st);
    return bad;
}

static int check_entry(const cJSON *entry, const char *dir, rt_err *err)
{
    const char *name = entry->string, *digits = NULL, *key = is_weights(name) ? "header" : "xxh3";
    int64_t bytes = 0, have;
    char *data = NULL;
    if (strchr(name, '/') || rt_json_get_i64(entry, "bytes", 0, INT64_MAX, &bytes, err) ||
        rt_json_get_str(entry, key, &digits, err))
        return rt_fail(err, "%s/%s: its line for %.64s is damaged", dir, NAME, name);
    char *path = rt_path_join(dir, name);
    int bad;
    if (is_weights(name)) {
        bad = check_weights(path, bytes, digits, err);
    } else {
        bad = rt_file_read(&data, &have, path, RT_JSON_MAX_BYTES, err);
        if (!bad && (have != bytes || strlen(digits) != RT_HASH_DIGITS ||
                     !rt_hash_fits(digits, data, have)))
            bad = rt_fail(
                err,
                "%s: not as it was written (its checksum in %s does not fit): the file is "
                "damaged; copy it again, or if you changed it yourself delete %s there",
                path, NAME, NAME);
        free(data);
    }
    free(path);
    return bad;
}

int rt_listing_check(const char *dir, rt_err *err)
{
    rt_listing l;
    const cJSON *entry;
    int bad = rt_listing_read(&l, dir, err);
    cJSON_ArrayForEach(entry,
                       rt_json_find(l.json, "files")) if (!bad && !is_weights(entry->string) &&
                                                          strcmp(entry->string, "README.md") != 0)
        bad = check_entry(entry, dir, err);
    cJSON_Delete(l.json);
    return bad ? -1 : 0;
}

int64_t rt_listing_verify(const rt_listing *l, const char *dir, rt_listing_report *report,
                          void *ctx)
{
    int64_t found = 0;
    const cJSON *entry;
    cJSON_ArrayForEach(entry, rt_json_find(l->json, "files"))
    {
        rt_err why;
        if (check_entry(entry, dir, &why)) {
            report(ctx, why.text);
            found++;
        }
    }
    return found;
}
