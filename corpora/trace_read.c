/* trace_read.c: random access to the samples of shards and journal by memory map. After open
   nothing changes, so any number of threads may read; a running writer only replaces files or
   appends, so the maps stay what they were. Also the salvaging open that repair builds on. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "corpora/trace_inside.h"

typedef struct entry {
    int64_t shard; // -1 = journal
    int64_t at;    // sample of the shard, or byte of the record in the journal
} entry;

struct rt_trace_reader {
    char *path;
    rt_trace_manifest manifest;
    rt_trace_shards info;
    rt_trace_codec codec;
    rt_trace_shard *shard; // (info.n, or as many as salvage found)
    int64_t n_shards;
    rt_map journal;
    entry *entry;
    int64_t n, cap;
};

void rt_trace_reader_close(rt_trace_reader *r)
{
    if (!r)
        return;
    for (int64_t k = 0; k < r->n_shards; k++)
        rt_trace_shard_close(&r->shard[k]);
    rt_map_close(&r->journal);
    free(r->shard);
    free(r->info.item);
    free(r->entry);
    free(r->path);
    free(r);
}

static int add_entry(rt_trace_reader *r, int64_t shard, int64_t at, rt_err *err)
{
    if (r->n == r->cap) {
        int64_t cap = rt_max(1024, 2 * r->cap);
        entry *grown = realloc(r->entry, (size_t)cap * sizeof *grown);
        if (!grown)
            return rt_fail(err, "%s: out of memory for %lld samples", r->path, (long long)cap);
        r->entry = grown;
        r->cap = cap;
    }
    r->entry[r->n++] = (entry){ shard, at };
    return 0;
}

static int new_reader(rt_trace_reader **out, const char *path, rt_err *err)
{
    if (!rt_path_is_dir(path))
        return rt_fail(
            err,
            "%s: no trace archive there: a directory NAME.traces with a manifest.json is "
            "needed",
            path);
    rt_trace_reader *r = calloc(1, sizeof *r);
    if (!r || !(r->path = strdup(path))) {
        free(r);
        return rt_fail(err, "%s: out of memory", path);
    }
    *out = r;
    return 0;
}

static int map_journal(rt_trace_reader *r, rt_err *err)
{
    char *path = rt_path_join(r->path, "journal");
    int rc = rt_path_exists(path) ? rt_map_open(&r->journal, path, err) : 0;
    free(path);
    return rc;
}

static char *shard_path(const rt_trace_reader *r, int64_t k)
{
    char name[32];
    rt_trace_shard_name(name, k);
    return rt_path_join(r->path, name);
}

static int open_shards(rt_trace_reader *r, rt_err *err)
{
    r->shard = calloc((size_t)r->info.n + 1, sizeof *r->shard);
    if (!r->shard)
        return rt_fail(err, "%s: out of memory for %lld shards", r->path, (long long)r->info.n);
    for (int64_t k = 0; k < r->info.n; k++) {
        const rt_trace_shard_info *info = &r->info.item[k];
        rt_trace_shard *s = &r->shard[k];
        char *path = shard_path(r, k);
        int rc = rt_trace_shard_open(s, path, info->bytes, false, err);
        r->n_shards++;
        if (!rc && s->n != info->samples)
            rc = rt_fail(err, "%s: has %lld samples, the manifest says %lld", path, (long long)s->n,
                         (long long)info->samples);
        free(path);
        if (rc)
            return rt_wrap(err,
                           "damaged ('retort archive verify' says where, 'repair' keeps the rest)");
        for (int64_t i = 0; i < s->n; i++)
            if (add_entry(r, k, i, err))
                return -1;
    }
    return 0;
}

// The sample stands in the last shard too: its commit was under way.
static bool committed(const rt_trace_reader *r, int64_t index)
{
    const rt_trace_shard *s = r->n_shards ? &r->shard[r->n_shards - 1] : NULL;
    for (int64_t i = 0; s && i < s->n; i++) {
        int64_t have;
        memcpy(&have, s->column[RT_COL_INDEX] + 8 * i, 8);
        if (have == index)
            return true;
    }
    return false;
}

static int add_journal(rt_trace_reader *r, rt_err *err)
{
    const uint8_t *data = r->journal.data, *payload;
    int64_t at = RT_TRACE_JOURNAL_HEAD, begin = at, n;
    if (!data)
        return 0;
    if (!rt_trace_journal_head_ok(data, r->journal.bytes))
        return rt_fail(err, "%s/journal: its first bytes are damaged: run 'retort archive repair'",
                       r->path);
    while (rt_trace_record_next(data, r->journal.bytes, &at, &payload, &n) > 0) {
        rt_trace_pieces p;
        if (rt_trace_payload_parse(&p, payload, n, err))
            return rt_wrap(err, "%s/journal: byte %lld", r->path, (long long)begin);
        if (!committed(r, p.index) && add_entry(r, -1, begin, err))
            return -1;
        begin = at;
    }
    int64_t good = at < r->journal.bytes ? rt_trace_record_after(data, r->journal.bytes, at) : -1;
    if (good >= 0)
        return rt_fail(
            err,
            "%s/journal: byte %lld: a damaged record before good ones: run 'retort archive "
            "repair'",
            r->path, (long long)at);
    return 0; // a torn tail, or a record being written just now
}

static int open_once(rt_trace_reader **out, const char *path, rt_err *err)
{
    rt_trace_reader *r = NULL;
    if (new_reader(&r, path, err))
        return -1;
    // journal before manifest: a shard committed in between is then seen twice, never lost
    if (map_journal(r, err) || rt_trace_manifest_load(path, &r->manifest, &r->info, err) ||
        open_shards(r, err) || add_journal(r, err)) {
        rt_trace_reader_close(r);
        return -1;
    }
    rt_trace_codec_init(&r->codec, &r->manifest);
    *out = r;
    return 0;
}

int rt_trace_open_read(rt_trace_reader **r, const char *path, rt_err *err)
{
    // a writer may take back its short last shard between two of our steps: look again once
    rt_err first;
    *r = NULL;
    return open_once(r, path, &first) && open_once(r, path, err) ? -1 : 0;
}

// ---- salvage ----

typedef struct salvage {
    rt_trace_reader *r;
    rt_trace_report *report;
    void *ctx;
    int64_t lost;
} salvage;

static void tell(salvage *s, const char *id, const char *text)
{
    if (s->report)
        s->report(s->ctx, id, text);
}

// Any readable shard carries the manifest too; sections in, shards unknown.
static int manifest_from_shard(salvage *s, rt_err *err)
{
    for (int64_t k = 0; k < s->r->n_shards; k++) {
        const rt_npz_entry *e = rt_npz_find(&s->r->shard[k].npz, "meta.json");
        cJSON *json = NULL;
        rt_err ignored;
        const cJSON *inner;
        bool ok = e &&
                  rt_json_parse(&json, (const char *)e->data, e->bytes, "meta", &ignored) == 0 &&
                  rt_json_get_object(json, "manifest", &inner, &ignored) == 0 &&
                  rt_trace_manifest_read(&s->r->manifest, inner, &ignored) == 0;
        cJSON_Delete(json);
        if (ok) {
            tell(s, NULL, "manifest.json: damaged; taken from a shard");
            return 0;
        }
    }
    return rt_fail(
        err,
        "%s: neither manifest.json nor any shard says how this archive was made; nothing can "
        "be repaired",
        s->r->path);
}

// Every file shard-NNNNN.npz, whatever the manifest says.
static int find_shards(salvage *s, rt_err *err)
{
    char **names;
    int n;
    if (rt_dir_list(&names, &n, s->r->path, err))
        return -1;
    int rc = 0;
    s->r->shard = calloc((size_t)n + 1, sizeof *s->r->shard);
    if (!s->r->shard)
        rc = rt_fail(err, "%s: out of memory", s->r->path);
    for (int i = 0; i < n && !rc; i++) {
        int64_t k;
        char want[32];
        if (sscanf(names[i], "shard-%lld.npz", (long long *)&k) != 1 || k < 0)
            continue;
        rt_trace_shard_name(want, k);
        if (strcmp(want, names[i]) != 0)
            continue;
        char *path = rt_path_join(s->r->path, names[i]);
        rt_err why;
        if (rt_trace_shard_open(&s->r->shard[s->r->n_shards], path, -1, true, &why) == 0)
            s->r->n_shards++;
        free(path);
    }
    rt_names_free(names, n);
    return rc;
}

static int keep_if_whole(salvage *s, int64_t shard, int64_t at, rt_trace_sample *sample,
                         rt_err *err)
{
    rt_trace_reader *r = s->r;
    rt_trace_pieces p = { 0 };
    rt_err why = { 0 };
    char id[RT_TRACE_ID_MAX + 1] = "";
    if (add_entry(r, shard, at, err))
        return -1;
    if (rt_trace_reader_pieces(r, r->n - 1, &p, &why) == 0) {
        if (rt_trace_sample_decode(&r->codec, &p, RT_TRACE_TEXT | RT_TRACE_SOFT, sample, NULL,
                                   &why) == 0)
            return 0;
        snprintf(id, sizeof id, "%.*s", (int)rt_min(p.id_bytes, RT_TRACE_ID_MAX), p.id);
    }
    r->n--;
    s->lost++;
    tell(s, id[0] ? id : NULL, why.text);
    return 0;
}

static int salvage_journal(salvage *s, rt_trace_sample *sample, rt_err *err)
{
    const uint8_t *data = s->r->journal.data, *payload;
    int64_t bytes = s->r->journal.bytes, at = RT_TRACE_JOURNAL_HEAD, begin, n;
    char text[96];
    if (!data || bytes <= at)
        return 0;
    for (;;) {
        begin = at;
        int more = rt_trace_record_next(data, bytes, &at, &payload, &n);
        if (more == 0)
            return 0;
        if (more > 0) {
            if (keep_if_whole(s, -1, begin, sample, err))
                return -1;
            continue;
        }
        int64_t good = rt_trace_record_after(data, bytes, at);
        snprintf(text, sizeof text, "journal: bytes %lld to %lld are not a whole record",
                 (long long)at, (long long)(good < 0 ? bytes : good));
        tell(s, NULL, text);
        if (good < 0)
            return 0;
        s->lost++;
        at = good;
    }
}

int rt_trace_open_salvage(rt_trace_reader **out, const char *path, rt_trace_report *report,
                          void *ctx, int64_t *lost, rt_err *err)
{
    salvage s = { .report = report, .ctx = ctx };
    rt_trace_sample sample;
    rt_err why;
    if (new_reader(&s.r, path, err))
        return -1;
    rt_trace_reader *r = s.r;
    rt_trace_sample_init(&sample);
    int rc = map_journal(r, err) || find_shards(&s, err);
    bool listed = !rc && rt_trace_manifest_load(path, &r->manifest, &r->info, &why) == 0;
    if (!rc && !listed)
        rc = manifest_from_shard(&s, err);
    rt_trace_codec_init(&r->codec, &r->manifest);
    int64_t found = 0;
    for (int64_t k = 0; !rc && k < r->n_shards; k++) {
        found += r->shard[k].n;
        for (int64_t i = 0; !rc && i < r->shard[k].n; i++)
            rc = keep_if_whole(&s, k, i, &sample, err);
    }
    if (!rc)
        rc = salvage_journal(&s, &sample, err);
    int64_t promised = 0;
    for (int64_t k = 0; k < r->info.n; k++)
        promised += r->info.item[k].samples;
    s.lost += rt_max(0, promised - found); // shards missing or beyond reading
    rt_trace_sample_free(&sample);
    if (rc) {
        rt_trace_reader_close(r);
        return -1;
    }
    *lost = s.lost;
    *out = r;
    return 0;
}

// ---- access ----

const rt_trace_manifest *rt_trace_info(const rt_trace_reader *r) { return &r->manifest; }
int64_t rt_trace_count(const rt_trace_reader *r) { return r->n; }
const rt_trace_codec *rt_trace_reader_codec(const rt_trace_reader *r) { return &r->codec; }

int64_t rt_trace_reader_file_bytes(const rt_trace_reader *r)
{
    int64_t bytes = r->journal.bytes;
    for (int64_t k = 0; k < r->n_shards; k++)
        bytes += r->shard[k].map.bytes;
    return bytes;
}

int rt_trace_reader_pieces(const rt_trace_reader *r, int64_t i, rt_trace_pieces *p, rt_err *err)
{
    if (i < 0 || i >= r->n)
        rt_bug("%s: sample %lld of %lld", r->path, (long long)i, (long long)r->n);
    const entry *e = &r->entry[i];
    if (e->shard >= 0)
        return rt_trace_shard_pieces(&r->shard[e->shard], e->at, p, err);
    uint32_t n; // the record was checked at open
    const uint8_t *record = r->journal.data + e->at;
    memcpy(&n, record + 4, 4);
    return rt_trace_payload_parse(p, record + RT_TRACE_RECORD_HEAD, n, err);
}

int rt_trace_get(const rt_trace_reader *r, int64_t i, int parts, rt_trace_sample *s, rt_err *err)
{
    rt_trace_pieces p;
    if (rt_trace_reader_pieces(r, i, &p, err) ||
        rt_trace_sample_decode(&r->codec, &p, parts, s, NULL, err))
        return rt_wrap(err, "%s: sample %lld ('retort archive verify' says more)", r->path,
                       (long long)i);
    return 0;
}

rt_verdict rt_trace_verdict(const rt_trace_reader *r, int64_t i)
{
    rt_trace_pieces p;
    rt_err ignored;
    if (r->entry[i].shard >= 0)
        p.verdict = r->shard[r->entry[i].shard].column[RT_COL_VERDICT][r->entry[i].at];
    else if (rt_trace_reader_pieces(r, i, &p, &ignored))
        return RT_UNVERIFIED;
    return (uint32_t)p.verdict < RT_VERDICT_COUNT ? (rt_verdict)p.verdict : RT_UNVERIFIED;
}

int64_t rt_trace_tokens(const rt_trace_reader *r, int64_t i)
{
    rt_trace_pieces p;
    rt_err ignored;
    return rt_trace_reader_pieces(r, i, &p, &ignored) ? 0 : p.tokens;
}

int64_t rt_trace_find(const rt_trace_reader *r, const char *id)
{
    size_t n = strlen(id);
    for (int64_t i = 0; i < r->n; i++) {
        rt_trace_pieces p;
        rt_err ignored;
        if (rt_trace_reader_pieces(r, i, &p, &ignored) == 0 && (size_t)p.id_bytes == n &&
            memcmp(p.id, id, n) == 0)
            return i;
    }
    return -1;
}

int rt_trace_filter(const rt_trace_reader *r, unsigned mask, int64_t **list, int64_t *n,
                    rt_err *err)
{
    *n = 0;
    *list = malloc((size_t)(r->n + 1) * sizeof **list);
    if (!*list)
        return rt_fail(err, "%s: out of memory for %lld samples", r->path, (long long)r->n);
    for (int64_t i = 0; i < r->n; i++)
        if (mask & (1u << rt_trace_verdict(r, i)))
            (*list)[(*n)++] = i;
    return 0;
}
