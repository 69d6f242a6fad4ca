/* trace_read.c: random access to the samples of shards and journal by memory map. After open
   nothing changes, so any number of threads may read; a running writer only replaces files or
   appends, so the maps stay what they were. */
#include <stdlib.h>
#include <string.h>

#include "corpora/archive/trace_inside.h"

#include "core/base/memory.h"

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

void rt_trace_reader_add(rt_trace_reader *r, int64_t shard, int64_t at)
{
    rt_grow(&r->entry, &r->cap, r->n + 1, sizeof *r->entry, "a list of samples");
    r->entry[r->n++] = (rt_trace_entry){ shard, at };
}

int rt_trace_reader_new(rt_trace_reader **out, const char *path, rt_err *err)
{
    if (rt_trace_there(path, err))
        return -1;
    rt_trace_reader *r = *out = rt_alloc(1, sizeof *r, path);
    r->path = rt_strdup(path);
    return 0;
}

static int map_journal(rt_trace_reader *r, rt_err *err)
{
    char *path = rt_path_join(r->path, "journal");
    int rc = rt_path_exists(path) ? rt_map_open(&r->journal, path, err) : 0;
    free(path);
    return rc;
}

static int open_shards(rt_trace_reader *r, rt_err *err)
{
    r->shard = rt_alloc(r->info.n, sizeof *r->shard, r->path);
    for (int64_t k = 0; k < r->info.n; k++) {
        const rt_trace_shard_info *info = &r->info.item[k];
        rt_trace_shard *s = &r->shard[r->n_shards++];
        int rc = rt_trace_shard_open(s, r->path, k, info->bytes, false, err);
        if (!rc && s->n != info->samples)
            rc = rt_fail(err, "%s: shard %lld has %lld samples, the manifest says %lld", r->path,
                         (long long)k, (long long)s->n, (long long)info->samples);
        if (rc)
            return rt_wrap(err,
                           "damaged ('retort archive verify' says where, 'repair' keeps the rest)");
        for (int64_t i = 0; i < s->n; i++)
            rt_trace_reader_add(r, k, i);
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
    const uint8_t *data = r->journal.data;
    int64_t at = RT_TRACE_JOURNAL_HEAD, begin = at, bytes = r->journal.bytes;
    rt_trace_pieces p;
    enum rt_trace_record kind;
    if (!data)
        return 0;
    if (!rt_trace_journal_head_ok(data, bytes))
        return rt_fail(err,
                       "%s/journal: its first %d bytes are damaged: run 'retort archive repair'",
                       r->path, RT_TRACE_JOURNAL_HEAD);
    while ((kind = rt_trace_record_next(data, bytes, &at, &p)) == RT_RECORD_WHOLE) {
        if (!committed(r, p.index))
            rt_trace_reader_add(r, -1, begin);
        begin = at;
    }
    if (kind == RT_RECORD_BAD)
        return rt_fail(
            err,
            "%s/journal: byte %lld: a damaged record before good ones: run 'retort archive "
            "repair'",
            r->path, (long long)begin);
    r->torn = bytes - begin; // or it is being written just now
    return 0;
}

static int open_once(rt_trace_reader **out, const char *path, rt_err *err)
{
    rt_trace_reader *r = NULL;
    if (rt_trace_reader_new(&r, path, err))
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

bool rt_trace_is(const char *path)
{
    char *manifest = rt_path_join(path, "manifest.json");
    bool there = rt_path_is_dir(path) && rt_path_exists(manifest);
    free(manifest);
    return there;
}

int rt_trace_open_read(rt_trace_reader **r, const char *path, rt_err *err)
{
    // a writer may take back its short last shard between two of our steps: look again once
    rt_err first;
    *r = NULL;
    return open_once(r, path, &first) && open_once(r, path, err) ? -1 : 0;
}

// ---- access ----

const rt_trace_manifest *rt_trace_info(const rt_trace_reader *r) { return &r->manifest; }
int64_t rt_trace_count(const rt_trace_reader *r) { return r->n; }

int rt_trace_reader_pieces(const rt_trace_reader *r, int64_t i, rt_trace_pieces *p, rt_err *err)
{
    if (i < 0 || i >= r->n)
        rt_bug("%s: sample %lld of %lld", r->path, (long long)i, (long long)r->n);
    const rt_trace_entry *e = &r->entry[i];
    if (e->shard >= 0)
        return rt_trace_shard_pieces(&r->shard[e->shard], e->at, p, err);
    int64_t at = e->at;
    if (rt_trace_record_next(r->journal.data, r->journal.bytes, &at, p) == RT_RECORD_WHOLE)
        return 0;
    return rt_fail(err, "%s/journal: byte %lld: the record changed", r->path, (long long)e->at);
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
    const rt_trace_entry *e = &r->entry[i];
    if (e->shard >= 0)
        p.verdict = r->shard[e->shard].column[RT_COL_VERDICT][e->at];
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

uint64_t rt_trace_hash(const rt_trace_reader *r, int64_t i)
{
    rt_trace_pieces p;
    rt_err ignored;
    return rt_trace_reader_pieces(r, i, &p, &ignored) ? 0 : p.hash;
}

int64_t rt_trace_learned(const rt_trace_reader *r, int64_t i, bool last, int64_t *soft)
{
    rt_trace_pieces p;
    rt_err ignored;
    int64_t n = 0;
    *soft = 0;
    if (rt_trace_reader_pieces(r, i, &p, &ignored))
        return 0;
    int64_t from = p.soft_first, to = from + p.rows;
    for (int64_t k = last && p.spans ? p.spans - 1 : 0; k < p.spans; k++) {
        rt_trace_span s;
        memcpy(&s, p.span + 8 * k, sizeof s);
        int64_t begin = rt_max(s.begin, 1), end = rt_min(s.end, p.tokens); // the first is given
        n += rt_max(end - begin, 0);
        *soft += rt_max(rt_min(end, to) - rt_max(begin, from), 0);
    }
    return n;
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
