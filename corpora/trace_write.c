/* trace_write.c: the one writer of an archive. Order of every change, so that a kill between two
   steps loses nothing acknowledged and resumes to the same bytes:
     append   a journal record (fdatasync at flush)
     commit   the shard (temp, fsync, rename, fsync dir), the manifest that lists it, the journal
              without its samples; a shard closes by count and content bytes alone
     finish   the rest as a short last shard; appending later takes that shard back first
   Refuses: sharing an archive (flock), another manifest, an id or index twice. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/log.h"
#include "corpora/trace_inside.h"

enum { SYNC_RECORDS = 64, SYNC_BYTES = 4 << 20 };

struct rt_trace_writer {
    char *path;
    int lock_fd, journal_fd;
    rt_trace_manifest manifest;
    rt_trace_shards shards;
    rt_trace_codec codec;
    rt_trace_buf *pending; // payloads in the journal and in no shard
    int64_t n_pending, cap_pending, pending_content;
    rt_trace_ids ids; // every sample of the archive
    int64_t unsynced_records, unsynced_bytes;
    bool broken; // a write failed: only close is allowed
    rt_trace_hook *hook;
    void *hook_ctx;
};

static void at_point(const rt_trace_writer *w, const char *point)
{
    if (w->hook)
        w->hook(w->hook_ctx, point);
}

// ---- pending samples, journal ----

// Owns the payload's memory once it returned 0.
static int add_pending(rt_trace_writer *w, const rt_trace_buf *payload, rt_err *err)
{
    if (w->n_pending == w->cap_pending) {
        int64_t cap = rt_max(64, 2 * w->cap_pending);
        rt_trace_buf *grown = realloc(w->pending, (size_t)cap * sizeof *grown);
        if (!grown)
            return rt_fail(err, "%s: out of memory for %lld samples", w->path, (long long)cap);
        w->pending = grown;
        w->cap_pending = cap;
    }
    w->pending[w->n_pending++] = *payload;
    w->pending_content += payload->n;
    return 0;
}

static void drop_pending(rt_trace_writer *w, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        w->pending_content -= w->pending[i].n;
        free(w->pending[i].data);
    }
    w->n_pending -= n;
    if (w->n_pending > 0)
        memmove(w->pending, w->pending + n, (size_t)w->n_pending * sizeof *w->pending);
}

static int open_journal(rt_trace_writer *w, rt_err *err)
{
    char *path = rt_path_join(w->path, "journal");
    if (w->journal_fd >= 0)
        close(w->journal_fd);
    w->journal_fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
    int rc = w->journal_fd >= 0
                 ? 0
                 : rt_fail(err, "%s: cannot open for appending: %s", path, strerror(errno));
    free(path);
    return rc;
}

// The journal replaced by one that holds exactly the pending samples.
static int rewrite_journal(rt_trace_writer *w, rt_err *err)
{
    char *path = rt_path_join(w->path, "journal");
    rt_trace_buf text = { 0 };
    int rc = rt_trace_journal_head_add(&text, err);
    for (int64_t i = 0; !rc && i < w->n_pending; i++)
        rc = rt_trace_record_add(&text, &w->pending[i], err);
    if (!rc)
        rc = rt_file_write(path, text.data, text.n, err) || open_journal(w, err);
    free(text.data);
    free(path);
    return rc ? -1 : 0;
}

// One record, in two writes when a test wants to die between them.
static int write_record(rt_trace_writer *w, const rt_trace_buf *payload, rt_err *err)
{
    rt_trace_buf record = { 0 };
    int rc = rt_trace_record_add(&record, payload, err);
    int64_t first = w->hook && !rc ? record.n / 3 : 0;
    if (first) {
        rc = rt_fd_write(w->journal_fd, record.data, first, w->path, err);
        at_point(w, "journal record half written");
    }
    if (!rc)
        rc = rt_fd_write(w->journal_fd, record.data + first, record.n - first, w->path, err);
    w->unsynced_records++;
    w->unsynced_bytes += record.n;
    free(record.data);
    return rc;
}

int rt_trace_flush(rt_trace_writer *w, rt_err *err)
{
    if (w->broken)
        return rt_fail(err, "%s: an earlier write failed; run the command again", w->path);
    if (w->unsynced_records && fdatasync(w->journal_fd)) {
        w->broken = true; // never retried: the kernel may have dropped the pages
        return rt_fail(err, "%s/journal: fdatasync failed: %s", w->path, strerror(errno));
    }
    w->unsynced_records = w->unsynced_bytes = 0;
    return 0;
}

// ---- shards ----

// How many pending samples fill the next shard; 0 = not yet one.
static int64_t next_shard(const rt_trace_writer *w)
{
    int64_t content = 0;
    for (int64_t i = 0; i < w->n_pending; i++) {
        content += w->pending[i].n;
        if (rt_trace_shard_full(&w->manifest, i + 1, content))
            return i + 1;
    }
    return 0;
}

static int commit_shard(rt_trace_writer *w, int64_t n, bool complete, rt_err *err)
{
    rt_trace_shard_info info;
    rt_trace_shard_info *grown = realloc(w->shards.item,
                                         (size_t)(w->shards.n + 1) * sizeof *w->shards.item);
    if (!grown)
        return rt_fail(err, "%s: out of memory for the shard list", w->path);
    w->shards.item = grown;
    at_point(w, "before shard");
    if (rt_trace_shard_write(w->path, w->shards.n, &w->manifest, w->pending, n, &info, w->hook,
                             w->hook_ctx, err))
        return -1;
    at_point(w, "shard in place");
    w->shards.item[w->shards.n++] = info;
    w->manifest.complete = complete;
    if (rt_trace_manifest_save(w->path, &w->manifest, &w->shards, err))
        return -1;
    at_point(w, "manifest lists the shard");
    drop_pending(w, n);
    if (rewrite_journal(w, err))
        return -1;
    at_point(w, "journal emptied");
    return 0;
}

static int commit_full(rt_trace_writer *w, rt_err *err)
{
    bool maybe = rt_trace_shard_full(&w->manifest, w->n_pending, w->pending_content);
    for (int64_t n; maybe && (n = next_shard(w)) > 0;)
        if (commit_shard(w, n, false, err))
            return -1;
    return 0;
}

static char *shard_path(const rt_trace_writer *w, int64_t k)
{
    char name[32];
    rt_trace_shard_name(name, k);
    return rt_path_join(w->path, name);
}

// Take the short last shard of a finished archive back into the journal.
static int reopen_last(rt_trace_writer *w, rt_err *err)
{
    int64_t k = w->shards.n - 1;
    if (k < 0 ||
        rt_trace_shard_full(&w->manifest, w->shards.item[k].samples, w->shards.item[k].content)) {
        if (!w->manifest.complete)
            return 0;
        w->manifest.complete = false;
        return rt_trace_manifest_save(w->path, &w->manifest, &w->shards, err);
    }
    char *path = shard_path(w, k);
    rt_trace_shard shard;
    int rc = rt_trace_shard_open(&shard, path, w->shards.item[k].bytes, false, err);
    for (int64_t i = 0; !rc && i < shard.n; i++) {
        rt_trace_pieces p;
        rt_trace_buf payload = { 0 };
        rc = rt_trace_shard_pieces(&shard, i, &p, err);
        if (!rc && rt_trace_pieces_hash(&p) != p.hash)
            rc = rt_fail(err, "%s: sample %lld is damaged: run 'retort archive repair'", path,
                         (long long)i);
        if (!rc)
            rc = rt_trace_payload_add(&payload, &p, err) || add_pending(w, &payload, err);
        if (rc)
            free(payload.data);
    }
    rt_trace_shard_close(&shard);
    w->manifest.complete = false;
    if (!rc)
        rc = rewrite_journal(w, err);
    at_point(w, "journal has the short shard");
    if (!rc) {
        w->shards.n--;
        rc = rt_trace_manifest_save(w->path, &w->manifest, &w->shards, err);
    }
    at_point(w, "manifest without the short shard");
    if (!rc && unlink(path))
        rc = rt_fail(err, "%s: cannot remove: %s", path, strerror(errno));
    free(path);
    return rc ? -1 : 0;
}

// ---- opening ----

// Under the lock every temp is a dead writer's, and so is the shard after the last one listed.
static int clean(rt_trace_writer *w, bool fresh, rt_err *err)
{
    char **names, next[32];
    int n, rc = 0;
    rt_trace_shard_name(next, w->shards.n);
    if (rt_dir_list(&names, &n, w->path, err))
        return -1;
    for (int i = 0; i < n && !rc; i++) {
        int64_t k = -1;
        bool shard = sscanf(names[i], "shard-%lld.npz", (long long *)&k) == 1;
        bool dead = strstr(names[i], ".tmp.") || (!fresh && strcmp(names[i], next) == 0);
        char *path = rt_path_join(w->path, names[i]);
        if (dead && unlink(path))
            rc = rt_fail(err, "%s: cannot remove: %s", path, strerror(errno));
        else if (!dead && fresh && (shard || strcmp(names[i], "journal") == 0))
            rc = rt_fail(err,
                         "%s: stands there without a manifest.json: run 'retort archive "
                         "repair' or name another output",
                         path);
        else if (!dead && shard && k >= w->shards.n)
            rc = rt_fail(err, "%s: not in the manifest: run 'retort archive repair'", path);
        free(path);
    }
    rt_names_free(names, n);
    return rc;
}

static int learn_shards(rt_trace_writer *w, rt_err *err)
{
    for (int64_t k = 0; k < w->shards.n; k++) {
        char *path = shard_path(w, k);
        rt_trace_shard shard;
        int rc = rt_trace_shard_open(&shard, path, w->shards.item[k].bytes, false, err);
        for (int64_t i = 0; !rc && i < shard.n; i++) {
            rt_trace_pieces p;
            rc = rt_trace_shard_pieces(&shard, i, &p, err);
            int added = rc ? 0 : rt_trace_ids_add(&w->ids, p.id, p.id_bytes, p.index, w->path, err);
            if (added > 0)
                rt_fail(err, "%s: sample %lld stands in two shards", path, (long long)i);
            rc = rc || added;
        }
        if (rc)
            rt_wrap(err, "%s: run 'retort archive repair'", w->path);
        rt_trace_shard_close(&shard);
        free(path);
        if (rc)
            return -1;
    }
    return 0;
}

/* Samples of the journal that are in no shard become pending. *rewrite: it holds more than that. */
static int learn_journal(rt_trace_writer *w, const uint8_t *data, int64_t bytes, bool *rewrite,
                         rt_err *err)
{
    int64_t at = RT_TRACE_JOURNAL_HEAD, n;
    const uint8_t *record;
    int more;
    if (!rt_trace_journal_head_ok(data, bytes))
        return rt_fail(err, "its first %d bytes are damaged: run 'retort archive repair'",
                       RT_TRACE_JOURNAL_HEAD);
    while ((more = rt_trace_record_next(data, bytes, &at, &record, &n)) > 0) {
        rt_trace_pieces p;
        rt_trace_buf payload = { 0 };
        if (rt_trace_payload_parse(&p, record, n, err))
            return -1;
        int added = rt_trace_ids_add(&w->ids, p.id, p.id_bytes, p.index, w->path, err);
        if (added < 0)
            return -1;
        *rewrite |= added > 0;
        if (added == 0 &&
            (rt_trace_buf_add(&payload, record, n, err) || add_pending(w, &payload, err))) {
            free(payload.data);
            return -1;
        }
    }
    if (more == 0)
        return 0;
    int64_t good = rt_trace_record_after(data, bytes, at);
    if (good >= 0)
        return rt_fail(err,
                       "byte %lld: a damaged record before good ones (the next is at byte %lld): "
                       "run 'retort archive repair'",
                       (long long)at, (long long)good);
    rt_info("%s: dropping %lld bytes of an unfinished record at the end of the journal", w->path,
            (long long)(bytes - at));
    *rewrite = true;
    return 0;
}

static int read_journal(rt_trace_writer *w, rt_err *err)
{
    char *path = rt_path_join(w->path, "journal");
    rt_map map = { 0 };
    bool rewrite = !rt_path_exists(path); // killed before it was created
    int rc = rewrite ? 0 : rt_map_open(&map, path, err);
    if (!rc && !rewrite && (rc = learn_journal(w, map.data, map.bytes, &rewrite, err)))
        rt_wrap(err, "%s", path);
    rt_map_close(&map);
    free(path);
    if (rc)
        return -1;
    return rewrite ? rewrite_journal(w, err) : open_journal(w, err);
}

static int open_there(rt_trace_writer *w, const rt_trace_manifest *m, rt_err *err)
{
    char *path = rt_path_join(w->path, "manifest.json");
    bool fresh = !rt_path_exists(path);
    free(path);
    w->manifest = *m;
    w->manifest.complete = false;
    if (!fresh && (rt_trace_manifest_load(w->path, &w->manifest, &w->shards, err) ||
                   rt_trace_manifest_same(&w->manifest, m, false, w->path, err)))
        return -1;
    char *rebuilt = rt_trace_rebuild_path(w->path); // of a killed finish; ours under the lock
    int rc = rt_path_exists(rebuilt) ? rt_trace_remove(rebuilt, err) : 0;
    free(rebuilt);
    if (rc || clean(w, fresh, err))
        return -1;
    rt_trace_codec_init(&w->codec, &w->manifest);
    if (fresh && rt_trace_manifest_save(w->path, &w->manifest, &w->shards, err))
        return -1;
    at_point(w, "manifest stands");
    if (learn_shards(w, err) || read_journal(w, err))
        return -1;
    return commit_full(w, err);
}

int rt_trace_open_hooked(rt_trace_writer **out, const char *path, const rt_trace_manifest *m,
                         rt_trace_hook *hook, void *ctx, rt_err *err)
{
    *out = NULL;
    if (rt_trace_manifest_check(m, err))
        return -1;
    // a repair or rebuild died between its two renames: the new archive is whole beside the gap
    char *rebuilt = rt_trace_rebuild_path(path);
    if (!rt_path_exists(path) && rt_path_exists(rebuilt) && rename(rebuilt, path) == 0)
        rt_info("%s: taken from %s, left by an interrupted repair", path, rebuilt);
    free(rebuilt);
    if (rt_dir_make(path, err))
        return -1;
    rt_trace_writer *w = calloc(1, sizeof *w);
    if (!w || !(w->path = strdup(path))) {
        free(w);
        return rt_fail(err, "%s: out of memory", path);
    }
    w->lock_fd = w->journal_fd = -1;
    w->hook = hook;
    w->hook_ctx = ctx;
    if (rt_dir_lock(&w->lock_fd, path, err) || open_there(w, m, err)) {
        rt_err ignored;
        w->broken = true;
        rt_trace_close(w, &ignored);
        return -1;
    }
    *out = w;
    return 0;
}

int rt_trace_open_append(rt_trace_writer **w, const char *path, const rt_trace_manifest *m,
                         rt_err *err)
{
    return rt_trace_open_hooked(w, path, m, NULL, NULL, err);
}

// ---- the public rest ----

bool rt_trace_has(const rt_trace_writer *w, const char *id)
{
    return rt_trace_ids_has(&w->ids, id);
}

int64_t rt_trace_written(const rt_trace_writer *w) { return w->ids.n; }

// Takes payload's memory in all cases.
static int append_payload(rt_trace_writer *w, rt_trace_buf payload, rt_err *err)
{
    rt_trace_pieces p;
    int rc = w->broken ? rt_fail(err, "%s: an earlier write failed; run the command again", w->path)
                       : rt_trace_payload_parse(&p, payload.data, payload.n, err);
    int added = rc ? -1 : rt_trace_ids_add(&w->ids, p.id, p.id_bytes, p.index, w->path, err);
    if (added > 0)
        rt_fail(err, "%s: sample %.*s stands in the archive already", w->path, (int)p.id_bytes,
                p.id);
    if (added) {
        free(payload.data);
        return -1;
    }
    w->broken = true; // until all of this is done
    if ((w->n_pending == 0 && reopen_last(w, err)) || add_pending(w, &payload, err)) {
        free(payload.data);
        return -1;
    }
    if (write_record(w, &payload, err))
        return -1;
    w->broken = false;
    at_point(w, "journal record written");
    if ((w->unsynced_records >= SYNC_RECORDS || w->unsynced_bytes >= SYNC_BYTES) &&
        rt_trace_flush(w, err))
        return -1;
    w->broken = commit_full(w, err) != 0;
    return w->broken ? -1 : 0;
}

int rt_trace_append_pieces(rt_trace_writer *w, const rt_trace_pieces *p, rt_err *err)
{
    rt_trace_buf payload = { 0 };
    if (rt_trace_pieces_hash(p) != p->hash)
        return rt_fail(err,
                       "sample %.*s: its content does not match its hash: run 'retort archive "
                       "repair' on its archive",
                       (int)p->id_bytes, p->id);
    return rt_trace_payload_add(&payload, p, err) ? -1 : append_payload(w, payload, err);
}

int rt_trace_append(rt_trace_writer *w, const rt_trace_sample *s, rt_err *err)
{
    rt_trace_buf payload = { 0 };
    if (rt_trace_sample_encode(&w->codec, &payload, s, err)) {
        free(payload.data);
        return rt_wrap(err, "%s: sample %s", w->path, s->id ? s->id : "without id");
    }
    return append_payload(w, payload, err);
}

// ---- the end ----

// All samples by index in a new directory, which then takes this one's place in one step.
static int rebuild(rt_trace_writer *w, rt_err *err)
{
    rt_trace_reader *r;
    rt_trace_writer *fresh = NULL;
    char *temp = rt_trace_rebuild_path(w->path);
    int rc = rt_trace_open_read(&r, w->path, err);
    if (!rc) {
        rc = rt_trace_rebuild(&fresh, temp, &r, 1, &w->manifest, err) ||
             rt_trace_finish(fresh, err);
        rt_trace_reader_close(r);
    }
    at_point(w, "rebuilt beside");
    if (!rc)
        rc = rt_trace_exchange(temp, w->path, err);
    at_point(w, "rebuilt in place");
    if (!rc) {
        // from here this writer is the new one; both locks are held until the old is gone
        rt_trace_writer old = *w;
        *w = *fresh;
        *fresh = old;
        char *path = w->path;
        w->path = fresh->path;
        fresh->path = path;
        w->hook = old.hook;
        w->hook_ctx = old.hook_ctx;
        fresh->hook = NULL;
        rc = rt_trace_remove(temp, err);
    }
    if (fresh) {
        fresh->broken = true;
        rt_trace_close(fresh, err);
    }
    free(temp);
    return rc ? -1 : 0;
}

int rt_trace_finish(rt_trace_writer *w, rt_err *err)
{
    if (rt_trace_flush(w, err))
        return -1;
    int rc = 0;
    if (w->ids.unordered) {
        rc = rebuild(w, err);
    } else if (w->n_pending > 0) {
        rc = commit_shard(w, w->n_pending, true, err);
    } else if (!w->manifest.complete) {
        w->manifest.complete = true;
        rc = rt_trace_manifest_save(w->path, &w->manifest, &w->shards, err);
    }
    w->broken = rc != 0;
    return rc;
}

int rt_trace_close(rt_trace_writer *w, rt_err *err)
{
    if (!w)
        return 0;
    int rc = w->broken ? 0 : rt_trace_flush(w, err);
    drop_pending(w, w->n_pending);
    rt_trace_ids_free(&w->ids);
    if (w->journal_fd >= 0)
        close(w->journal_fd);
    if (w->lock_fd >= 0)
        close(w->lock_fd); // and with it the lock
    free(w->pending);
    free(w->shards.item);
    free(w->path);
    free(w);
    return rc;
}
