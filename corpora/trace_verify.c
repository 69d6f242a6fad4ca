/* trace_verify.c: reads every byte of an archive and says what is wrong and where: the manifest by
   its canonical form, each shard by the manifest's XXH3-128, then by entry and by sample, the
   journal by record. Refuses: changing anything (repair does). */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "corpora/trace_inside.h"

typedef struct check {
    const char *path;
    rt_trace_report *report;
    void *ctx;
    int64_t problems;
    rt_trace_manifest manifest;
    rt_trace_shards shards;
    rt_trace_codec codec;
    bool listed; // the manifest was readable
    rt_trace_ids ids;
    rt_trace_sample sample;
} check;

static void found(check *c, const char *id, const char *fmt, ...) RT_PRINTF(3, 4);
static void found(check *c, const char *id, const char *fmt, ...)
{
    char text[1200];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    c->problems++;
    if (c->report)
        c->report(c->ctx, id, text);
}

// where: "shard-00000.npz: sample 3" or "journal: byte 812"
static void check_sample(check *c, const char *where, const rt_trace_pieces *p, bool twice_ok)
{
    rt_err why;
    char id[RT_TRACE_ID_MAX + 1];
    snprintf(id, sizeof id, "%.*s", (int)rt_min(p->id_bytes, RT_TRACE_ID_MAX), p->id);
    if (rt_trace_pieces_hash(p) != p->hash)
        found(c, id, "%s: its content does not match its hash", where);
    else if (c->listed && rt_trace_sample_decode(&c->codec, p, RT_TRACE_TEXT | RT_TRACE_SOFT,
                                                 &c->sample, NULL, &why))
        found(c, id, "%s: %s", where, why.text);
    int added = rt_trace_ids_add(&c->ids, p->id, p->id_bytes, p->index, where, &why);
    if (added < 0)
        found(c, id, "%s", why.text);
    else if (added > 0 && !twice_ok)
        found(c, id, "%s: the sample stands twice", where);
}

// ---- a shard ----

static void check_entry(check *c, const char *name, const rt_trace_shard *s, const cJSON *want)
{
    const rt_npz_entry *e = rt_npz_find(&s->npz, want->string);
    const char *hash = "";
    rt_err why;
    if (!e) {
        found(c, NULL, "%s: %s is missing", name, want->string);
    } else if (rt_json_get_str(want, "xxh3", &hash, &why) ||
               strcmp(rt_hash_bytes(e->data, e->bytes).hex, hash) != 0) {
        long long begin = (long long)(e->data - s->map.data);
        found(c, NULL, "%s: %s (bytes %lld to %lld) does not match its hash in meta.json", name,
              want->string, begin, begin + (long long)e->bytes);
    }
}

static void check_entries(check *c, const char *name, const rt_trace_shard *s)
{
    const rt_npz_entry *meta = rt_npz_find(&s->npz, "meta.json");
    cJSON *json = NULL;
    const cJSON *entries = NULL;
    rt_err why;
    if (!meta)
        found(c, NULL, "%s: meta.json is missing", name);
    else if (rt_json_parse(&json, (const char *)meta->data, meta->bytes, "meta.json", &why) ||
             rt_json_get_object(json, "entries", &entries, &why))
        found(c, NULL, "%s: meta.json: %s", name, why.text);
    for (const cJSON *e = entries ? entries->child : NULL; e; e = e->next)
        check_entry(c, name, s, e);
    cJSON_Delete(json);
}

static void check_samples(check *c, const char *name, const rt_trace_shard *s,
                          const rt_trace_shard_info *info)
{
    int64_t content = 0;
    for (int64_t i = 0; i < s->n; i++) {
        rt_trace_pieces p;
        rt_err why;
        char where[96];
        snprintf(where, sizeof where, "%s: sample %lld", name, (long long)i);
        if (rt_trace_shard_pieces(s, i, &p, &why)) {
            found(c, NULL, "%s: %s", name, why.text);
            continue;
        }
        check_sample(c, where, &p, false);
        content += rt_trace_payload_bytes(&p);
    }
    if (info && (s->n != info->samples || content != info->content))
        found(c, NULL, "%s: holds %lld samples of %lld bytes, the manifest says %lld of %lld", name,
              (long long)s->n, (long long)content, (long long)info->samples,
              (long long)info->content);
}

// info NULL: not in the manifest, or there is none
static void check_shard(check *c, const char *name, const rt_trace_shard_info *info)
{
    char *path = rt_path_join(c->path, name);
    rt_trace_shard s;
    rt_err why;
    int64_t before = c->problems;
    int rc = rt_trace_shard_open(&s, path, info ? info->bytes : -1, false, &why);
    if (rc) {
        found(c, NULL, "%s", why.text);
        rc = rt_trace_shard_open(&s, path, -1, true, &why);
    }
    if (rc == 0) {
        bool differs = info &&
                       strcmp(rt_hash_bytes(s.map.data, s.map.bytes).hex, info->hash.hex) != 0;
        check_entries(c, name, &s);
        check_samples(c, name, &s, info);
        if (differs && c->problems == before)
            found(c, NULL,
                  "%s: does not match the manifest's hash: the ZIP headers or meta.json are "
                  "damaged, no sample is",
                  name);
        rt_trace_shard_close(&s);
    }
    free(path);
}

static void check_shards(check *c, rt_err *err)
{
    char **names, name[32];
    int n;
    for (int64_t k = 0; k < c->shards.n; k++) {
        rt_trace_shard_name(name, k);
        check_shard(c, name, &c->shards.item[k]);
    }
    if (rt_dir_list(&names, &n, c->path, err))
        return;
    for (int i = 0; i < n; i++) {
        long long k;
        if (sscanf(names[i], "shard-%lld.npz", &k) != 1 || strstr(names[i], ".tmp."))
            continue;
        if (!c->listed)
            check_shard(c, names[i], NULL);
        else if (k > c->shards.n || (k == c->shards.n && c->manifest.complete))
            found(c, NULL, "%s: is not in the manifest", names[i]);
        // number shards.n of an unfinished archive: a commit was interrupted; resuming redoes it
    }
    rt_names_free(names, n);
}

// ---- the journal ----

static void check_records(check *c, const uint8_t *data, int64_t bytes)
{
    int64_t at = RT_TRACE_JOURNAL_HEAD, n;
    const uint8_t *payload;
    if (!rt_trace_journal_head_ok(data, bytes)) {
        found(c, NULL, "journal: byte 0: its first %d bytes are damaged", RT_TRACE_JOURNAL_HEAD);
        return;
    }
    if (c->listed && c->manifest.complete && bytes > at)
        found(c, NULL, "journal: byte %lld: the archive is complete, yet the journal is not empty",
              (long long)at);
    for (;;) {
        int64_t begin = at;
        int more = rt_trace_record_next(data, bytes, &at, &payload, &n);
        if (more == 0)
            return;
        if (more > 0) {
            rt_trace_pieces p;
            rt_err why;
            char where[64];
            snprintf(where, sizeof where, "journal: byte %lld", (long long)begin);
            if (rt_trace_payload_parse(&p, payload, n, &why))
                found(c, NULL, "%s: %s", where, why.text);
            else
                check_sample(c, where, &p, true);
            continue;
        }
        int64_t good = rt_trace_record_after(data, bytes, at);
        if (good < 0) {
            found(c, NULL,
                  "journal: byte %lld: the last %lld bytes are not a whole record (normal after a "
                  "kill: resuming or 'repair' drops them)",
                  (long long)at, (long long)(bytes - at));
            return;
        }
        found(c, NULL, "journal: byte %lld: a damaged record; the next good one is at byte %lld",
              (long long)at, (long long)good);
        at = good;
    }
}

static void check_journal(check *c)
{
    char *path = rt_path_join(c->path, "journal");
    rt_map map;
    rt_err why;
    if (rt_map_open(&map, path, &why)) {
        found(c, NULL, "%s", why.text);
    } else {
        check_records(c, map.data, map.bytes);
        rt_map_close(&map);
    }
    free(path);
}

int64_t rt_trace_verify(const char *path, rt_trace_report *report, void *ctx, rt_err *err)
{
    check c = { .path = path, .report = report, .ctx = ctx };
    rt_err why = { 0 };
    static const char *const PARTS[] = { "manifest.json", "journal", "shard-00000.npz" };
    bool any = false;
    for (int i = 0; i < RT_COUNT(PARTS); i++) {
        char *part = rt_path_join(path, PARTS[i]);
        any |= rt_path_exists(part);
        free(part);
    }
    if (!any)
        return rt_fail(err, "%s: no trace archive there: neither manifest, shard nor journal",
                       path);
    rt_trace_sample_init(&c.sample);
    c.listed = rt_trace_manifest_load(path, &c.manifest, &c.shards, &why) == 0;
    if (c.listed)
        rt_trace_codec_init(&c.codec, &c.manifest);
    else
        found(&c, NULL, "%s", why.text);
    check_shards(&c, &why);
    check_journal(&c);
    if (c.listed && c.manifest.complete && c.ids.unordered)
        found(&c, NULL, "the archive is complete, yet its samples are not in index order");
    rt_trace_sample_free(&c.sample);
    rt_trace_ids_free(&c.ids);
    free(c.shards.item);
    return c.problems;
}
