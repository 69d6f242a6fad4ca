/* trace_verify.c: reads every byte of an archive, says what is wrong and where, and gathers the
   samples that are whole: the manifest by its canonical form, each shard by the manifest's
   XXH3-128, then by entry and by sample, the journal by record.
   Refuses: changing anything (repair does). */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "corpora/archive/trace_inside.h"

#include "core/base/memory.h"

typedef struct check {
    rt_trace_reader *r; // every shard that opens in some way; the samples that are whole
    rt_trace_report *report;
    void *ctx;
    int64_t problems, lost;
    bool listed; // the manifest was readable
    bool known;  // it or a shard says how the archive was made
    rt_trace_ids ids;
    rt_trace_sample sample;
    rt_err *err;
} check;

// id: of the sample that is lost by this
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

static int check_content(check *c, const rt_trace_pieces *p, rt_err *why)
{
    if (c->known)
        return rt_trace_sample_decode(&c->r->codec, p, RT_TRACE_TEXT | RT_TRACE_SOFT, &c->sample,
                                      NULL, why);
    return rt_trace_pieces_hash(p) == p->hash ? 0
                                              : rt_fail(why, "the content does not match its hash");
}

/* Keeps the sample when it is whole; its bytes, 0 when it is not. where: "shard-00000.npz: sample
   3" or "journal: byte 812". */
static int64_t check_sample(check *c, const char *where, int64_t shard, int64_t at)
{
    rt_trace_pieces p;
    rt_err why;
    char id[RT_TRACE_ID_MAX + 1] = "";
    rt_trace_reader_add(c->r, shard, at);
    int bad = rt_trace_reader_pieces(c->r, c->r->n - 1, &p, &why);
    if (!bad) {
        snprintf(id, sizeof id, "%.*s", (int)rt_min(p.id_bytes, RT_TRACE_ID_MAX), p.id);
        bad = check_content(c, &p, &why);
    }
    if (bad) {
        c->r->n--;
        c->lost++;
        found(c, id[0] ? id : NULL, "%s: %s", where, why.text);
        return 0;
    }
    int added = rt_trace_ids_add(&c->ids, p.id, p.id_bytes, p.index, where, &why);
    if (added < 0)
        found(c, NULL, "%s", why.text);
    else if (added > 0 && shard >= 0)
        found(c, NULL, "%s: the sample %s stands twice", where, id);
    return rt_trace_payload_bytes(&p);
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

// meta.json, or NULL; the object called `key` in it
static cJSON *load_meta(const rt_trace_shard *s, const char *key, const cJSON **object, rt_err *why)
{
    const rt_npz_entry *e = rt_npz_find(&s->npz, "meta.json");
    cJSON *json = NULL;
    if (!e)
        rt_fail(why, "is missing");
    else if (rt_json_parse(&json, (const char *)e->data, e->bytes, "meta.json", why) == 0 &&
             rt_json_get_object(json, key, object, why) == 0)
        return json;
    cJSON_Delete(json);
    return NULL;
}

static void check_shard(check *c, int64_t k)
{
    const rt_trace_shard *s = &c->r->shard[k];
    const rt_trace_shard_info *info = s->number < c->r->info.n ? &c->r->info.item[s->number] : NULL;
    const cJSON *entries = NULL;
    int64_t before = c->problems, content = 0;
    char name[32], where[96];
    rt_err why;
    rt_trace_shard_name(name, s->number);
    cJSON *meta = load_meta(s, "entries", &entries, &why);
    if (!meta)
        found(c, NULL, "%s: meta.json: %s", name, why.text);
    for (const cJSON *e = meta ? entries->child : NULL; e; e = e->next)
        check_entry(c, name, s, e);
    cJSON_Delete(meta);
    for (int64_t i = 0; i < s->n && !rt_interrupted(); i++) {
        snprintf(where, sizeof where, "%s: sample %lld", name, (long long)i);
        content += check_sample(c, where, k, i);
    }
    if (!info || rt_interrupted())
        return;
    c->lost += rt_max(0, info->samples - s->n);
    if (c->problems > before)
        return;
    if (s->n != info->samples || content != info->content)
        found(c, NULL, "%s: holds %lld samples of %lld bytes, the manifest says %lld of %lld", name,
              (long long)s->n, (long long)content, (long long)info->samples,
              (long long)info->content);
    if (strcmp(rt_hash_bytes(s->map.data, s->map.bytes).hex, info->hash.hex) != 0)
        found(c, NULL,
              "%s: does not match the manifest's hash: the ZIP headers or meta.json are damaged, "
              "no sample is",
              name);
}

static void open_shard(check *c, int64_t k)
{
    rt_trace_reader *r = c->r;
    rt_trace_shard *s = &r->shard[r->n_shards];
    const rt_trace_shard_info *info = k < r->info.n ? &r->info.item[k] : NULL;
    rt_err why;
    int rc = rt_trace_shard_open(s, r->path, k, info ? info->bytes : -1, false, &why);
    if (rc) {
        found(c, NULL, "%s", why.text);
        rc = rt_trace_shard_open(s, r->path, k, -1, true, &why);
    }
    if (rc == 0)
        r->n_shards++;
    else if (info)
        c->lost += info->samples;
}

static int open_shards(check *c)
{
    rt_trace_reader *r = c->r;
    char **names;
    int n;
    if (rt_dir_list(&names, &n, r->path, c->err))
        return -1;
    r->shard = rt_alloc(r->info.n + n, sizeof *r->shard, r->path);
    int rc = 0;
    for (int64_t k = 0; k < r->info.n; k++)
        open_shard(c, k);
    for (int i = 0; !rc && i < n; i++) {
        int64_t k = rt_trace_shard_number(names[i]);
        if (k < r->info.n)
            continue;
        // number info.n of an unfinished archive: a commit was interrupted; resuming redoes it
        if (c->listed && (k > r->info.n || r->manifest.complete))
            found(c, NULL, "%s: is not in the manifest", names[i]);
        open_shard(c, k);
    }
    rt_names_free(names, n);
    return rc;
}

// Any readable shard says too how the archive was made, though not which shards there are.
static bool manifest_from_shard(rt_trace_reader *r)
{
    bool known = false;
    for (int64_t k = 0; !known && k < r->n_shards; k++) {
        const cJSON *inner;
        rt_err ignored;
        cJSON *meta = load_meta(&r->shard[k], "manifest", &inner, &ignored);
        known = meta && rt_trace_manifest_read(&r->manifest, inner, &ignored) == 0;
        cJSON_Delete(meta);
    }
    return known;
}

// ---- the journal ----

static void check_journal(check *c)
{
    char *path = rt_path_join(c->r->path, "journal"), where[64];
    rt_err why;
    int missing = rt_map_open(&c->r->journal, path, &why);
    free(path);
    if (missing) {
        found(c, NULL, "%s", why.text);
        return;
    }
    const uint8_t *data = c->r->journal.data;
    int64_t at = RT_TRACE_JOURNAL_HEAD, begin = at, bytes = c->r->journal.bytes;
    rt_trace_pieces p;
    enum rt_trace_record kind;
    if (!rt_trace_journal_head_ok(data, bytes))
        found(c, NULL, "journal: byte 0: its first %d bytes are damaged", RT_TRACE_JOURNAL_HEAD);
    if (c->r->manifest.complete && bytes > at)
        found(c, NULL, "journal: byte %lld: the archive is complete, yet the journal is not empty",
              (long long)at);
    for (; (kind = rt_trace_record_next(data, bytes, &at, &p)) != RT_RECORD_END; begin = at) {
        snprintf(where, sizeof where, "journal: byte %lld", (long long)begin);
        if (kind == RT_RECORD_WHOLE) {
            check_sample(c, where, -1, begin);
        } else if (kind == RT_RECORD_BAD) {
            c->lost++;
            found(c, NULL, "%s: a damaged record; the next good one is at byte %lld", where,
                  (long long)at);
        } else {
            found(
                c, NULL,
                "%s: the last %lld bytes are not a whole record (normal after a kill: resuming or "
                "'repair' drops them)",
                where, (long long)(bytes - begin));
        }
    }
}

// ---- all of it ----

static int check_all(check *c)
{
    rt_trace_reader *r = c->r;
    rt_err why;
    c->listed = rt_trace_manifest_load(r->path, &r->manifest, &r->info, &why) == 0;
    if (!c->listed) {
        found(c, NULL, "%s", why.text);
        memset(&r->manifest, 0, sizeof r->manifest);
    }
    if (open_shards(c))
        return -1;
    c->known = c->listed || manifest_from_shard(r);
    if (c->known)
        rt_trace_codec_init(&r->codec, &r->manifest);
    for (int64_t k = 0; k < r->n_shards; k++)
        check_shard(c, k);
    check_journal(c);
    if (rt_interrupted())
        return rt_fail_interrupted(c->err, "reading", r->path);
    if (r->manifest.complete && c->ids.unordered)
        found(c, NULL, "the archive is complete, yet its samples are not in index order");
    return 0;
}

int64_t rt_trace_inspect(rt_trace_reader **whole, int64_t *lost, const char *path,
                         rt_trace_report *report, void *ctx, rt_err *err)
{
    check c = { .report = report, .ctx = ctx, .err = err };
    *whole = NULL;
    if (rt_trace_reader_new(&c.r, path, err))
        return -1;
    rt_trace_sample_init(&c.sample);
    int rc = check_all(&c);
    rt_trace_sample_free(&c.sample);
    rt_bytes_map_free(&c.ids.map);
    if (rc == 0 && c.known)
        *whole = c.r;
    else
        rt_trace_reader_close(c.r);
    *lost = c.lost;
    return rc ? -1 : c.problems;
}

int64_t rt_trace_verify(const char *path, rt_trace_report *report, void *ctx, rt_err *err)
{
    rt_trace_reader *whole;
    int64_t lost, problems = rt_trace_inspect(&whole, &lost, path, report, ctx, err);
    rt_trace_reader_close(whole);
    return problems;
}
