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
#include <unistd.h>

#include "core/base/log.h"
#include "core/base/memory.h"
#include "core/base/path.h"
#include "corpora/archive/trace_inside.h"

enum { SYNC_RECORDS = 64, SYNC_BYTES = 4 << 20 };

struct rt_trace_writer {
    char *path;
    int lock_fd, journal_fd;
    rt_trace_manifest manifest;
    rt_trace_shards shards;
    rt_trace_codec codec;
    rt_text journal;   // what the file holds: its head, the records of samples in no shard
    int64_t n_pending; // of these
    rt_trace_ids ids;  // every sample of the archive
    int64_t unsynced_records, unsynced_bytes;
    bool broken;           // a write failed: only close is allowed
    rt_trace_place *place; // of an archive that may grow
    void *place_ctx;
    rt_trace_hook *hook;
    void *hook_ctx;
};

static void at_point(const rt_trace_writer *w, const char *point)
{
    if (w->hook)
        w->hook(w->hook_ctx, point);
}

// ---- the journal ----

static int open_journal(rt_trace_writer *w, rt_err *err)
{
    char *path = rt_path_join(w->path, "journal");
    if (w->journal_fd >= 0)
        close(w->journal_fd);
    w->journal_fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
    int rc = w->journal_fd >= 0
                 ? 0
                 : rt_fail(err, "%s: cannot open for appending: %s", path, rt_errno_text(errno));
    free(path);
    return rc;
}

// The file replaced by one that holds exactly the pending samples.
static int rewrite_journal(rt_trace_writer *w, rt_err *err)
{
    char *path = rt_path_join(w->path, "journal");
    int rc = rt_file_write(path, w->journal.data, w->journal.bytes, err) || open_journal(w, err);
    free(path);
    return rc ? -1 : 0;
}

// One record, in two writes when a test wants to die between them.
static int write_record(rt_trace_writer *w, const rt_text *record, rt_err *err)
{
    int64_t first = w->hook ? record->bytes / 3 : 0;
    if (rt_text_add(&w->journal, record->data, record->bytes, err))
        return -1;
    w->n_pending++;
    w->unsynced_records++;
    w->unsynced_bytes += record->bytes;
    if (first) {
        if (rt_fd_write(w->journal_fd, record->data, first, w->path, err))
            return -1;
        at_point(w, "journal record half written");
    }
    return rt_fd_write(w->journal_fd, record->data + first, record->bytes - first, w->path, err);
}

int rt_trace_flush(rt_trace_writer *w, rt_err *err)
{
    if (w->broken)
        return rt_fail(err, "%s: an earlier write failed; run the command again", w->path);
    if (w->unsynced_records && fdatasync(w->journal_fd)) {
        w->broken = true; // never retried: the kernel may have dropped the pages
        return rt_fail(err, "%s/journal: fdatasync failed: %s", w->path, rt_errno_text(errno));
    }
    w->unsynced_records = w->unsynced_bytes = 0;
    return 0;
}

// ---- shards ----

static bool pending_full(const rt_trace_writer *w)
{
    return rt_trace_shard_full(&w->manifest, w->n_pending,
                               w->journal.bytes - RT_TRACE_JOURNAL_HEAD -
                                   w->n_pending * RT_TRACE_RECORD_HEAD);
}

// The pending samples that fill a shard, or all of them; their number and where the rest begins.
static int64_t next_shard(const rt_trace_writer *w, rt_trace_pieces *p, int64_t *rest)
{
    int64_t n = 0, content = 0;
    *rest = RT_TRACE_JOURNAL_HEAD;
    while (!rt_trace_shard_full(&w->manifest, n, content) &&
           rt_trace_record_next((const uint8_t *)w->journal.data, w->journal.bytes, rest, &p[n]) ==
               RT_RECORD_WHOLE)
        content += rt_trace_payload_bytes(&p[n++]);
    return n;
}

static int write_shard(rt_trace_writer *w, int64_t *n, int64_t *rest, rt_err *err)
{
    rt_trace_pieces *p = rt_alloc(w->n_pending, sizeof *p, "a shard");
    rt_trace_shards *s = &w->shards;
    s->item = rt_realloc(s->item, s->n + 1, sizeof *s->item, "a list of shards");
    *n = next_shard(w, p, rest);
    int rc = rt_trace_shard_write(w->path, s->n, &w->manifest, p, *n, &s->item[s->n], w->hook,
                                  w->hook_ctx, err);
    free(p);
    return rc;
}

static int commit_shard(rt_trace_writer *w, bool complete, rt_err *err)
{
    int64_t n, rest;
    at_point(w, "before shard");
    if (write_shard(w, &n, &rest, err))
        return -1;
    at_point(w, "shard in place");
    w->shards.n++;
    w->manifest.complete = complete;
    if (rt_trace_manifest_save(w->path, &w->manifest, &w->shards, err))
        return -1;
    at_point(w, "manifest lists the shard");
    w->n_pending -= n;
    w->journal.bytes -= rest - RT_TRACE_JOURNAL_HEAD;
    memmove(w->journal.data + RT_TRACE_JOURNAL_HEAD, w->journal.data + rest,
            (size_t)(w->journal.bytes - RT_TRACE_JOURNAL_HEAD));
    if (rewrite_journal(w, err))
        return -1;
    at_point(w, "journal emptied");
    return 0;
}

static int commit_full(rt_trace_writer *w, rt_err *err)
{
    while (pending_full(w))
        if (commit_shard(w, false, err))
            return -1;
    return 0;
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
    char *path = rt_trace_shard_path(w->path, k);
    rt_trace_shard shard;
    int rc = rt_trace_shard_open(&shard, w->path, k, w->shards.item[k].bytes, false, err);
    for (int64_t i = 0; !rc && i < shard.n; i++) {
        rt_trace_pieces p;
        rc = rt_trace_shard_pieces(&shard, i, &p, err);
        if (!rc && rt_trace_pieces_hash(&p) != p.hash)
            rc = rt_fail(err, "%s: sample %lld is damaged: run 'retort archive repair'", path,
                         (long long)i);
        rc = rc || rt_trace_record_add(&w->journal, &p, err);
        w->n_pending += !rc;
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
        rc = rt_fail(err, "%s: cannot remove: %s", path, rt_errno_text(errno));
    free(path);
    return rc ? -1 : 0;
}

// ---- opening ----

// Under the lock every temp is a dead writer's, and so is the shard after the last one listed.
static int clean(rt_trace_writer *w, bool fresh, rt_err *err)
{
    char **names;
    int n, rc = 0;
    if (rt_dir_list(&names, &n, w->path, err))
        return -1;
    for (int i = 0; i < n && !rc; i++) {
        int64_t k = rt_trace_shard_number(names[i]);
        bool shard = k >= 0, dead = strstr(names[i], ".tmp.") || (!fresh && k == w->shards.n);
        char *path = rt_path_join(w->path, names[i]);
        if (dead && unlink(path))
            rc = rt_fail(err, "%s: cannot remove: %s", path, rt_errno_text(errno));
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

// The ids of what is there; the journal but for what a shard has, and for a torn record at its end.
static int learn(rt_trace_writer *w, const rt_trace_reader *r, rt_err *err)
{
    if (rt_trace_journal_head_add(&w->journal, err))
        return -1;
    for (int64_t i = 0; i < r->n; i++) {
        rt_trace_pieces p;
        bool pending = r->entry[i].shard < 0;
        if (rt_trace_reader_pieces(r, i, &p, err))
            return rt_wrap(err, "%s: run 'retort archive repair'", w->path);
        int added = rt_trace_ids_add(&w->ids, p.id, p.id_bytes, p.index, w->path, err);
        if (added > 0 && !pending)
            return rt_fail(err, "%s: sample %.*s stands in two shards: run 'retort archive repair'",
                           w->path, (int)p.id_bytes, p.id);
        if (added < 0 || (!added && pending && rt_trace_record_add(&w->journal, &p, err)))
            return -1;
        w->n_pending += !added && pending;
    }
    if (r->torn)
        rt_info("%s: dropping %lld bytes of an unfinished record at the end of the journal",
                w->path, (long long)r->torn);
    return w->journal.bytes == r->journal.bytes ? open_journal(w, err) : rewrite_journal(w, err);
}

// The new writer's archive takes this one's place in one step, and this writer becomes the new one.
static int take_over(rt_trace_writer *w, rt_trace_writer *fresh, rt_err *err)
{
    int rc = rt_trace_exchange(fresh->path, w->path, err);
    at_point(w, "rebuilt in place");
    if (!rc) {
        // both locks are held until the old is gone
        rt_trace_writer old = *w;
        *w = *fresh;
        *fresh = old;
        char *path = w->path;
        w->path = fresh->path;
        fresh->path = path;
        w->hook = old.hook;
        w->hook_ctx = old.hook_ctx;
        fresh->hook = NULL;
        rc = rt_trace_remove(fresh->path, err);
    }
    return rc ? -1 : 0;
}

// All samples by index, as place has them, in a new directory, which then takes this one's place.
static int rebuild(rt_trace_writer *w, const rt_trace_manifest *m, rt_trace_place *place, void *ctx,
                   bool finish, rt_err *err)
{
    rt_trace_reader *r;
    rt_trace_writer *fresh = NULL;
    rt_err ignored;
    char *temp = rt_trace_rebuild_path(w->path);
    int rc = rt_trace_open_read(&r, w->path, err);
    if (!rc) {
        rc = rt_trace_rebuild(&fresh, temp, &r, 1, m, place, ctx, err) ||
             (finish ? rt_trace_finish(fresh, err) : rt_trace_flush(fresh, err));
        rt_trace_reader_close(r);
    }
    at_point(w, "rebuilt beside");
    rc = rc || take_over(w, fresh, err);
    if (fresh) {
        fresh->broken = true;
        rt_trace_close(fresh, &ignored);
    }
    free(temp);
    return rc ? -1 : 0;
}

// The plan of m in place of the archive's own.
static int grow(rt_trace_writer *w, const rt_trace_manifest *m, rt_err *err)
{
    rt_err differs;
    if (rt_trace_manifest_same(&w->manifest, m, RT_MAY_NOTHING, w->path, &differs) == 0)
        return 0;
    rt_trace_manifest grown = *m;
    grown.complete = false;
    if (!*grown.licence)
        memcpy(grown.licence, w->manifest.licence, sizeof grown.licence);
    rt_info("%s: %lld samples of another plan are taken over", w->path,
            (long long)rt_trace_written(w));
    return rebuild(w, &grown, w->place, w->place_ctx, false, err);
}

static int open_there(rt_trace_writer *w, const rt_trace_manifest *m, rt_err *err)
{
    char *path = rt_path_join(w->path, "manifest.json");
    bool fresh = !rt_path_exists(path);
    free(path);
    w->manifest = *m;
    w->manifest.complete = w->manifest.weighted = false;
    if (!fresh && (rt_trace_manifest_load(w->path, &w->manifest, &w->shards, err) ||
                   rt_trace_manifest_same(&w->manifest, m, w->place ? RT_MAY_PLAN : RT_MAY_NOTHING,
                                          w->path, err)))
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
    rt_trace_reader *r;
    if (rt_trace_open_read(&r, w->path, err))
        return -1;
    rc = learn(w, r, err);
    rt_trace_reader_close(r);
    return rc || commit_full(w, err) ? -1 : grow(w, m, err);
}

// A directory with files of others is no place for an archive.
static int refuse_others(const char *path, rt_err *err)
{
    rt_err ignored;
    char **name;
    int n, bad = 0;
    if (!rt_path_is_dir(path) || rt_trace_there(path, &ignored) == 0)
        return 0;
    if (rt_dir_list(&name, &n, path, err))
        return -1;
    for (int i = 0; !bad && i < n; i++)
        if (strcmp(name[i], "lock") && !strstr(name[i], ".tmp."))
            bad = rt_fail(err,
                          "%s: a directory with other files (%s), no trace archive: name a new one",
                          path, name[i]);
    rt_names_free(name, n);
    return bad;
}

static int open_real(rt_trace_writer **out, const char *path, const rt_trace_manifest *m,
                     const rt_trace_writer *like, rt_err *err)
{
    *out = NULL;
    if (rt_trace_manifest_check(m, err))
        return -1;
    // a repair or rebuild died between its two renames: the new archive is whole beside the gap
    char *rebuilt = rt_trace_rebuild_path(path);
    if (!rt_path_exists(path) && rt_path_exists(rebuilt) && rename(rebuilt, path) == 0)
        rt_info("%s: taken from %s, left by an interrupted repair", path, rebuilt);
    free(rebuilt);
    if (refuse_others(path, err) || rt_dir_make(path, err))
        return -1;
    rt_trace_writer *w = rt_alloc(1, sizeof *w, path);
    w->path = rt_strdup(path);
    w->lock_fd = w->journal_fd = -1;
    w->hook = like->hook;
    w->hook_ctx = like->hook_ctx;
    w->place = like->place;
    w->place_ctx = like->place_ctx;
    if (rt_dir_lock(&w->lock_fd, path, err) || open_there(w, m, err)) {
        rt_err ignored;
        w->broken = true;
        rt_trace_close(w, &ignored);
        return -1;
    }
    *out = w;
    return 0;
}

static int open_writer(rt_trace_writer **out, const char *path, const rt_trace_manifest *m,
                       const rt_trace_writer *like, rt_err *err)
{
    char *real = rt_path_target(path);
    int rc = open_real(out, real, m, like, err);
    free(real);
    return rc;
}

int rt_trace_open_hooked(rt_trace_writer **w, const char *path, const rt_trace_manifest *m,
                         rt_trace_hook *hook, void *ctx, rt_err *err)
{
    const rt_trace_writer like = { .hook = hook, .hook_ctx = ctx };
    return open_writer(w, path, m, &like, err);
}

int rt_trace_open_append(rt_trace_writer **w, const char *path, const rt_trace_manifest *m,
                         rt_err *err)
{
    return rt_trace_open_hooked(w, path, m, NULL, NULL, err);
}

int rt_trace_open_extend(rt_trace_writer **w, const char *path, const rt_trace_manifest *m,
                         rt_trace_place *place, void *ctx, rt_err *err)
{
    const rt_trace_writer like = { .place = place, .place_ctx = ctx };
    return open_writer(w, path, m, &like, err);
}

// ---- the public rest ----

bool rt_trace_has(const rt_trace_writer *w, const char *id)
{
    return rt_trace_ids_has(&w->ids, id);
}

int64_t rt_trace_written(const rt_trace_writer *w) { return w->ids.map.n; }

// The manifest says version 2 before anything of it stands there.
static int note_weights(rt_trace_writer *w, rt_err *err)
{
    if (w->manifest.weighted)
        return 0;
    w->manifest.weighted = true;
    int rc = rt_trace_manifest_save(w->path, &w->manifest, &w->shards, err);
    at_point(w, "manifest says version 2");
    return rc;
}

static int append_record(rt_trace_writer *w, const rt_text *record, rt_err *err)
{
    rt_trace_pieces p;
    if (w->broken)
        return rt_fail(err, "%s: an earlier write failed; run the command again", w->path);
    if (rt_trace_payload_parse(&p, (const uint8_t *)record->data + RT_TRACE_RECORD_HEAD,
                               record->bytes - RT_TRACE_RECORD_HEAD, err))
        return -1;
    int added = rt_trace_ids_add(&w->ids, p.id, p.id_bytes, p.index, w->path, err);
    if (added)
        return added < 0 ? -1
                         : rt_fail(err, "%s: sample %.*s stands in the archive already", w->path,
                                   (int)p.id_bytes, p.id);
    w->broken = true; // until all of this is done
    if ((w->n_pending == 0 && reopen_last(w, err)) || (p.weight && note_weights(w, err)) ||
        write_record(w, record, err))
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
    rt_text record = { 0 };
    if (rt_trace_pieces_hash(p) != p->hash)
        return rt_fail(err,
                       "sample %.*s: its content does not match its hash: run 'retort archive "
                       "repair' on its archive",
                       (int)p->id_bytes, p->id);
    int rc = rt_trace_record_add(&record, p, err) || append_record(w, &record, err);
    rt_text_free(&record);
    return rc ? -1 : 0;
}

int rt_trace_append(rt_trace_writer *w, const rt_trace_sample *s, rt_err *err)
{
    rt_text record = { 0 };
    int rc = rt_trace_sample_encode(&w->codec, &record, s, err);
    rc = rc ? rt_wrap(err, "%s: sample %.80s", w->path, s->id ? s->id : "without id")
            : append_record(w, &record, err);
    rt_text_free(&record);
    return rc;
}

// ---- the end ----

int rt_trace_finish(rt_trace_writer *w, rt_err *err)
{
    if (rt_trace_flush(w, err))
        return -1;
    int rc = 0;
    if (w->ids.unordered) {
        rc = rebuild(w, &w->manifest, NULL, NULL, true, err);
    } else if (w->n_pending > 0) {
        rc = commit_shard(w, true, err);
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
    rt_bytes_map_free(&w->ids.map);
    rt_bytes_map_free(&w->ids.indices);
    if (w->journal_fd >= 0)
        close(w->journal_fd);
    if (w->lock_fd >= 0)
        close(w->lock_fd); // and with it the lock
    rt_text_free(&w->journal);
    free(w->shards.item);
    free(w->path);
    free(w);
    return rc;
}
